/* SPDX-License-Identifier: Apache-2.0 */
/* Recovering twice: before some restarts a copy of the disk and of the store recovers on its own,
 * by another schedule and without faults; the node must come to the same state. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_node.h"

static struct memstore *store_copy(struct sim *sim)
{
    struct memstore *copy = memstore_create(sim->options.seed);
    struct env_store source = memstore_interface(sim->memstore);
    struct env_store target = memstore_interface(copy);
    struct env_iterator *iterator;
    int status = source.ops->iterator_open(source.context, NULL, ENV_TIER_DISK, BYTES(""),
                                           BYTES(""), &iterator);
    ASSERT(status == 0);
    for (status = source.ops->iterator_seek(source.context, iterator, BYTES("")); status == 0;
         status = source.ops->iterator_next(source.context, iterator)) {
        struct env_change change = {ENV_CHANGE_PUT,
                                    source.ops->iterator_key(source.context, iterator),
                                    source.ops->iterator_value(source.context, iterator)};
        do {
            status = target.ops->write(target.context, &change, 1, NULL);
        } while (status == -EBUSY);
        ASSERT(status == 0);
    }
    source.ops->iterator_close(source.context, iterator);
    memstore_flush(copy);
    return copy;
}

/* What `tutti check` does first: read the log without changing it. */
static int check_log(struct sim__node *node, struct error *error)
{
    uint64_t before = sim__disk_hash(node->disk);
    int status = sim__node_open_shard(node, false, error);
    if (status == 0) {
        status = sim__node_open_log(node, true, error);
    }
    sim__node_close_cores(node);
    if (sim__disk_hash(node->disk) != before) {
        sim__fail(node->sim, "reading the log changed it");
    }
    return status;
}

/* Persist at once and apply, until ready. */
static int run_rehearsal(struct sim__node *node, struct error *error)
{
    int status = sim__node_open_cores(node, false, error);
    while (status == 0 && !shard_is_ready(node->shard) && node->queue_count > 0) {
        uint64_t sequence = node->queue[node->queue_count - 1].sequence;
        for (uint32_t i = 0; i < node->queue_count; i++) {
            wal_append(node->wal, &node->queue[i].record);
        }
        node->queue_count = 0;
        status = wal_write(node->wal, error);
        status = status != 0 ? status : wal_flush(node->wal, error);
        if (status == 0) {
            shard_persisted(node->shard, sequence);
        }
        while (node->write != NULL) {
            sim__store_finish_write(node);
        }
    }
    return status;
}

/* Recover a copy of everything, and remember what came out, for when the node has recovered. */
void sim__rehearse(struct sim *sim)
{
    struct sim__node *node = sim->node;
    node->has_rehearsed = false;
    if (sim->is_ending || node->is_full || !sim__percent(sim, sim->nature.twice_percent)) {
        return;
    }
    struct sim__disk *disk = sim__disk_copy(sim->disk);
    if (disk == NULL) {
        return;
    }
    struct sim__node copy = {.sim = sim,
                             .is_rehearsal = true,
                             .is_running = true,
                             .incarnation = node->incarnation,
                             .disk = disk,
                             .memstore = store_copy(sim)};
    list_init(&copy.reads);
    struct error error = {0};
    int status = check_log(&copy, &error);
    if (status == 0) {
        status = run_rehearsal(&copy, &error);
    }
    bool is_excused =
        status == -ENOSPC || (status == ERROR_CORRUPT && sim__disk_damage_count(sim->disk) > 0);
    if (status != 0 && !is_excused) {
        sim__fail(sim, "a rehearsal of the recovery failed: %s", error.message);
    } else if (status == 0 && shard_is_ready(copy.shard)) {
        sim__store_all(&copy);
        struct shard_statistics statistics;
        shard_get_statistics(copy.shard, &statistics);
        node->has_rehearsed = true;
        node->rehearsed_index = statistics.applied_index;
        node->rehearsed_digest = statistics.digest;
        node->rehearsed_content = memstore_hash(copy.memstore, BYTES("\x10"), BYTES("\x11"));
    }
    sim__node_close_cores(&copy);
    memory_free(copy.queue);
    memstore_destroy(copy.memstore);
    sim__disk_destroy(disk);
}

void sim__rehearsal_compare(struct sim *sim)
{
    struct sim__node *node = sim->node;
    if (!node->has_rehearsed) {
        return;
    }
    sim__store_all(node);
    if (!sim__node_is_alive(node)) {
        return; /* Killed while storing: there is nothing left to compare. */
    }
    struct shard_statistics statistics;
    shard_get_statistics(node->shard, &statistics);
    if (statistics.applied_index != node->rehearsed_index ||
        statistics.digest != node->rehearsed_digest ||
        (!node->is_store_behind &&
         memstore_hash(sim->memstore, BYTES("\x10"), BYTES("\x11")) != node->rehearsed_content)) {
        sim__fail(sim, "recovering twice gives two states: index %" PRIu64 " and %" PRIu64,
                  node->rehearsed_index, statistics.applied_index);
    }
}
