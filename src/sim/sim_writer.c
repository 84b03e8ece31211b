/* SPDX-License-Identifier: Apache-2.0 */
/* The log writer: rounds of gather, write and flush, each stage an event; in between, segments are
 * prepared and released. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "sim/sim_node.h"

enum {
    RETRY_US = 3000,
    PREPARATION_CHANCE = 16, /* One in so many rounds prepares a segment under load. */
};

void sim__writer_next(struct sim *sim, uint64_t mean_us, enum sim__writer_stage stage)
{
    sim__schedule(sim, sim__delay(sim, mean_us), SIM__EVENT_WRITER, sim->node->incarnation, stage,
                  NULL);
}

/* A status of the log that the node cannot go on with: it must be one that was provoked, it must
 * last, and the process ends. */
static void log_failed(struct sim *sim, int status, const struct error *error)
{
    struct sim__node *node = sim->node;
    if (node->is_dead) {
        return;
    }
    node->may_lack_entries = true;
    if (sim__disk_flush_error_count(sim->disk) == 0) {
        sim__fail(sim, "the log failed: %s (%s)", error->message, error_text(status));
    } else if (wal_flush(node->wal, NULL) == 0) {
        sim__fail(sim, "the log goes on after: %s", error->message);
    }
    sim__node_die(node, false, "node.exited");
}

static void release(struct sim *sim)
{
    struct sim__node *node = sim->node;
    struct error error = {0};
    int status = wal_release(node->wal, SIM__SHARD, node->release_index, &error);
    node->release_index = 0;
    if (status != 0 && status != -ENOSPC) {
        log_failed(sim, status, &error);
    }
}

/* True when there is more to prepare. */
static bool prepare(struct sim *sim)
{
    bool is_ready = false;
    struct error error = {0};
    int status = wal_prepare(sim->node->wal, &is_ready, &error);
    if (status != 0 && status != -ENOSPC) {
        log_failed(sim, status, &error);
    }
    return status == 0 && !is_ready && !sim->node->is_dead;
}

/* Before it is ready the node flushes each round, whatever its mode. */
static bool does_answer_first(const struct sim *sim)
{
    return sim->nature.log_flush_us > 0 && sim->node->is_ready;
}

static bool is_flush_due(const struct sim *sim)
{
    return sim->node->has_unflushed &&
           sim->now_us - sim->node->flushed_at_us >= sim->nature.log_flush_us;
}

/* An idle writer wakes for the flush that it owes. */
static void set_alarm(struct sim *sim)
{
    struct sim__node *node = sim->node;
    if (node->has_unflushed && !node->is_alarm_set) {
        node->is_alarm_set = true;
        uint64_t due_us = node->flushed_at_us + sim->nature.log_flush_us;
        sim__schedule(sim, due_us > sim->now_us ? due_us - sim->now_us : 0, SIM__EVENT_WRITER,
                      node->incarnation, SIM__WRITER_ALARM, NULL);
    }
}

static void alarm(struct sim *sim)
{
    struct sim__node *node = sim->node;
    node->is_alarm_set = false;
    if (!node->is_writer_busy && node->has_unflushed) { /* A busy one looks after each round. */
        node->is_writer_busy = true;
        sim__writer_next(sim, sim->nature.disk_us, SIM__WRITER_FLUSH);
    }
}

static void gather(struct sim *sim)
{
    struct sim__node *node = sim->node;
    if (node->release_index > 0) {
        release(sim);
    }
    if (node->is_dead) {
        return;
    }
    bool is_idle = node->queue_count == 0;
    bool does_prepare_more = false;
    if (is_idle || random_chance(&sim->random, 1, PREPARATION_CHANCE)) {
        does_prepare_more = prepare(sim);
    }
    if (node->is_dead || is_idle) {
        node->is_writer_busy = does_prepare_more;
        if (does_prepare_more) {
            sim__writer_next(sim, sim->nature.disk_us, SIM__WRITER_GATHER);
        } else if (!node->is_dead) {
            set_alarm(sim);
        }
        return;
    }
    ASSERT(node->round == NULL);
    node->round = node->queue;
    node->round_count = node->queue_count;
    node->queue = NULL;
    node->queue_count = node->queue_capacity = 0;
    for (uint32_t i = 0; i < node->round_count; i++) {
        wal_append(node->wal, &node->round[i].record);
    }
    sim__writer_next(sim, sim->nature.disk_us / 10, SIM__WRITER_WRITE);
}

static void post_persisted(struct sim *sim)
{
    struct sim__node *node = sim->node;
    sim__schedule(sim, random_below(&sim->random, sim->nature.disk_us + 1), SIM__EVENT_PERSISTED,
                  node->incarnation, node->round[node->round_count - 1].sequence, NULL);
}

/* The payloads are borrowed until shard_persisted(), the list of them only until here. */
static void end_round(struct sim__node *node)
{
    memory_free(node->round);
    node->round = NULL;
    node->round_count = 0;
}

static void round_written(struct sim *sim)
{
    struct sim__node *node = sim->node;
    for (uint32_t i = 0; i < node->round_count; i++) {
        if (node->round[i].record.kind == WAL_RECORD_ENTRY) {
            node->written_index = node->round[i].record.index;
        }
    }
    node->has_unflushed = true;
    if (!does_answer_first(sim)) {
        if (BUG("node.acknowledged_before_flush")) {
            post_persisted(sim);
        }
        sim__writer_next(sim, sim->nature.disk_us, SIM__WRITER_FLUSH);
        return;
    }
    post_persisted(sim);
    end_round(node);
    sim__writer_next(sim, sim->nature.disk_us / 10 + 1,
                     is_flush_due(sim) ? SIM__WRITER_FLUSH : SIM__WRITER_GATHER);
}

static void flush(struct sim *sim)
{
    struct sim__node *node = sim->node;
    struct error error = {0};
    bool is_skipped = BUG("node.everysec_not_flushed") && does_answer_first(sim);
    int status = is_skipped ? 0 : wal_flush(node->wal, &error);
    if (status != 0 && BUG("node.flush_error_ignored") && !node->is_dead) {
        status = 0;
    }
    if (status != 0) {
        log_failed(sim, status, &error);
        return;
    }
    node->has_unflushed = false;
    node->flushed_at_us = sim->now_us;
    node->durable_index = node->written_index;
    sim__disk_next_round(sim->disk);
}

static void write_round(struct sim *sim)
{
    struct sim__node *node = sim->node;
    struct error error = {0};
    int status = wal_write(node->wal, &error);
    if (status == -ENOSPC && is_flush_due(sim)) {
        flush(sim); /* What is answered does not wait for space. */
        if (node->is_dead) {
            return;
        }
    }
    if (status == -ENOSPC) {
        sim__note(sim, "log.full", node->round_count, 0, 0);
        if (node->release_index > 0) {
            release(sim); /* What the log itself holds may be all that is missing. */
        }
        sim__schedule(sim, sim__delay(sim, RETRY_US), SIM__EVENT_WRITER, node->incarnation,
                      SIM__WRITER_WRITE, NULL);
    } else if (status != 0) {
        log_failed(sim, status, &error);
    } else {
        round_written(sim);
    }
}

static void flush_round(struct sim *sim)
{
    struct sim__node *node = sim->node;
    flush(sim);
    if (node->is_dead) {
        return;
    }
    if (node->round != NULL) {
        if (!BUG("node.acknowledged_before_flush")) {
            post_persisted(sim);
        }
        end_round(node);
    }
    sim__writer_next(sim, sim->nature.disk_us / 10, SIM__WRITER_GATHER);
}

void sim__writer_run(struct sim *sim, enum sim__writer_stage stage)
{
    switch (stage) {
    case SIM__WRITER_GATHER:
        gather(sim);
        break;
    case SIM__WRITER_WRITE:
        write_round(sim);
        break;
    case SIM__WRITER_FLUSH:
        flush_round(sim);
        break;
    case SIM__WRITER_ALARM:
        alarm(sim);
        break;
    }
}
