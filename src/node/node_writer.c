/* SPDX-License-Identifier: Apache-2.0 */
/* One batch at a time goes to and fro under a mutex, a few times a second or a few hundred: nothing
 * to be clever about. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_internal.h"

enum stage { STAGE_IDLE, STAGE_SUBMITTED, STAGE_DONE };

struct node_writer {
    struct os_thread *thread;
    struct os_mutex *mutex;         /* Guards all below. */
    struct os_condition *condition; /* The stage changed, or stopping. */
    enum stage stage;
    struct shard_write *write;
    struct os_wake *wake;
    bool is_stopping;
};

static void run(void *context)
{
    struct node_writer *writer = context;
    os_mutex_lock(writer->mutex);
    while (!writer->is_stopping) {
        if (writer->stage != STAGE_SUBMITTED) {
            os_condition_wait(writer->condition, writer->mutex);
            continue;
        }
        struct shard_write *write = writer->write;
        os_mutex_unlock(writer->mutex);
        shard_write_run(write);
        os_mutex_lock(writer->mutex);
        writer->stage = STAGE_DONE;
        if (writer->wake != NULL) {
            os_wake_signal(writer->wake);
        }
        os_condition_broadcast(writer->condition);
    }
    os_mutex_unlock(writer->mutex);
}

int node_writer_start(struct node_writer **writer, struct error *error)
{
    struct node_writer *created = memory_allocate_zeroed(1, sizeof *created);
    created->mutex = os_mutex_create();
    created->condition = os_condition_create();
    int status = os_thread_start(&created->thread, "store", run, created, error);
    if (status != 0) {
        os_condition_destroy(created->condition);
        os_mutex_destroy(created->mutex);
        memory_free(created);
        return status;
    }
    *writer = created;
    return 0;
}

void node_writer_destroy(struct node_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    os_mutex_lock(writer->mutex);
    ASSERT(writer->stage == STAGE_IDLE);
    writer->is_stopping = true;
    os_condition_broadcast(writer->condition);
    os_mutex_unlock(writer->mutex);
    os_thread_join(writer->thread);
    os_condition_destroy(writer->condition);
    os_mutex_destroy(writer->mutex);
    memory_free(writer);
}

void node_writer_submit(struct node_writer *writer, struct shard_write *write)
{
    os_mutex_lock(writer->mutex);
    ASSERT(writer->stage == STAGE_IDLE);
    writer->stage = STAGE_SUBMITTED;
    writer->write = write;
    os_condition_broadcast(writer->condition);
    os_mutex_unlock(writer->mutex);
}

static struct shard_write *take(struct node_writer *writer)
{
    if (writer->stage != STAGE_DONE) {
        return NULL;
    }
    writer->stage = STAGE_IDLE;
    return writer->write;
}

struct shard_write *node_writer_take(struct node_writer *writer)
{
    os_mutex_lock(writer->mutex);
    struct shard_write *write = take(writer);
    os_mutex_unlock(writer->mutex);
    return write;
}

struct shard_write *node_writer_wait(struct node_writer *writer)
{
    os_mutex_lock(writer->mutex);
    while (writer->stage == STAGE_SUBMITTED) {
        os_condition_wait(writer->condition, writer->mutex);
    }
    struct shard_write *write = take(writer);
    os_mutex_unlock(writer->mutex);
    return write;
}

void node_writer_set_wake(struct node_writer *writer, struct os_wake *wake)
{
    os_mutex_lock(writer->mutex);
    writer->wake = wake;
    if (wake != NULL && writer->stage == STAGE_DONE) {
        os_wake_signal(wake); /* It was done before anybody listened. */
    }
    os_mutex_unlock(writer->mutex);
}
