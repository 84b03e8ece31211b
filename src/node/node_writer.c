/* SPDX-License-Identifier: Apache-2.0 */
/* Batches go to and fro under a mutex, a few times a second or a few hundred: nothing to be clever
 * about. Each shard has one under way at most. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_internal.h"

/* First in, first out. */
struct queue {
    struct shard_write *items[SLOTS_SHARD_COUNT_MAX];
    uint32_t first;
    uint32_t count;
};

struct node_writer {
    struct os_thread *thread;
    struct os_mutex *mutex;         /* Guards all below. */
    struct os_condition *condition; /* A queue changed, or stopping. */
    struct queue submitted;
    struct queue done;
    uint32_t under_way_count; /* Submitted, or being written. */
    struct os_wake *wake;
    bool is_stopping;
};

static void push(struct queue *queue, struct shard_write *write)
{
    ASSERT(queue->count < SLOTS_SHARD_COUNT_MAX);
    queue->items[(queue->first + queue->count++) % SLOTS_SHARD_COUNT_MAX] = write;
}

/* NULL: it is empty. */
static struct shard_write *pop(struct queue *queue)
{
    if (queue->count == 0) {
        return NULL;
    }
    struct shard_write *write = queue->items[queue->first];
    queue->first = (queue->first + 1) % SLOTS_SHARD_COUNT_MAX;
    queue->count--;
    return write;
}

static void run(void *context)
{
    struct node_writer *writer = context;
    os_mutex_lock(writer->mutex);
    while (!writer->is_stopping) {
        struct shard_write *write = pop(&writer->submitted);
        if (write == NULL) {
            os_condition_wait(writer->condition, writer->mutex);
            continue;
        }
        os_mutex_unlock(writer->mutex);
        shard_write_run(write);
        os_mutex_lock(writer->mutex);
        push(&writer->done, write);
        writer->under_way_count--;
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
    ASSERT(writer->under_way_count == 0 && writer->done.count == 0);
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
    push(&writer->submitted, write);
    writer->under_way_count++;
    os_condition_broadcast(writer->condition);
    os_mutex_unlock(writer->mutex);
}

struct shard_write *node_writer_take(struct node_writer *writer)
{
    os_mutex_lock(writer->mutex);
    struct shard_write *write = pop(&writer->done);
    os_mutex_unlock(writer->mutex);
    return write;
}

struct shard_write *node_writer_wait(struct node_writer *writer)
{
    os_mutex_lock(writer->mutex);
    while (writer->done.count == 0 && writer->under_way_count > 0) {
        os_condition_wait(writer->condition, writer->mutex);
    }
    struct shard_write *write = pop(&writer->done);
    os_mutex_unlock(writer->mutex);
    return write;
}

void node_writer_set_wake(struct node_writer *writer, struct os_wake *wake)
{
    os_mutex_lock(writer->mutex);
    writer->wake = wake;
    if (wake != NULL && writer->done.count > 0) {
        os_wake_signal(wake); /* It was done before anybody listened. */
    }
    os_mutex_unlock(writer->mutex);
}
