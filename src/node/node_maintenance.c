/* SPDX-License-Identifier: Apache-2.0 */
/* The store's maintenance: one thread that flushes the store when the log behind it has grown,
 * tells the log what it may forget, and watches the free space.
 *
 * What the store has of each shard is read before the flush begins, and the flush covers every batch
 * that was written before it began. So everything up to there is durable when the flush ends. */
#include <inttypes.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "node/node_internal.h"

enum {
    INTERVAL_MS = 100,
    COMPACT_INTERVAL_MS = 1000,
    COMPACT_AGAIN_MS_MIN = 10000,
    COMPACT_AGAIN_MS_MAX = 320000,
    KEPT_LOG_SHARE = 4, /* Of what the log and the free space are together. */
};

/* Writes are refused below the reserve: what remains is for flushing what is in memory, for
 * compaction and for the deletes that make room. A small disk has a small reserve. */
#define RESERVE_SIZE_BYTES_MIN (32ull << 20)
#define RESERVE_SIZE_BYTES_MAX (1ull << 30)
#define RESERVE_SHARE 20

/* On a full disk, a store up to this size is compacted whole after it changed; a stop waits for
 * it. */
#define COMPACT_SIZE_BYTES_MAX (512ull << 20)

struct node_maintenance {
    struct node_maintenance_options options;
    struct os_thread *thread;
    struct os_mutex *mutex;
    struct os_condition *condition;
    bool is_stopping; /* Under the mutex. */
    _Atomic raft_index stored_indexes[SLOTS_SHARD_COUNT_MAX];
    _Atomic raft_index unneeded_indexes[SLOTS_SHARD_COUNT_MAX]; /* At most those. */
    _Atomic uint64_t change_count; /* How often one of them has changed. */
    _Atomic uint64_t free_size_bytes;
    atomic_bool is_full;
    raft_index released_indexes[SLOTS_SHARD_COUNT_MAX];
    raft_index flushed_indexes[SLOTS_SHARD_COUNT_MAX];
    uint64_t flushed_log_size_bytes; /* The least since the last flush. */
    bool is_any_kept;                /* Some of the log is, for members that lag. */
    uint64_t released_change_count;  /* As of the last flush, and of the last compaction. */
    uint64_t compacted_change_count;
    uint64_t compacted_at_ms;
    uint64_t compact_again_ms; /* So long after the last one, though nothing has changed. */
    bool is_flush_failing;
};

static uint64_t reserve_bytes(uint64_t capacity_bytes)
{
    uint64_t reserve = capacity_bytes / RESERVE_SHARE;
    reserve = reserve < RESERVE_SIZE_BYTES_MIN ? RESERVE_SIZE_BYTES_MIN : reserve;
    return reserve > RESERVE_SIZE_BYTES_MAX ? RESERVE_SIZE_BYTES_MAX : reserve;
}

static void watch_space(struct node_maintenance *maintenance)
{
    struct error error = {0};
    uint64_t free_size_bytes;
    uint64_t total_size_bytes;
    int status =
        os_disk_space(maintenance->options.directory, &free_size_bytes, &total_size_bytes, &error);
    if (status != 0) {
        OS_LOG_WARN(maintenance->options.log, "node.space_unknown", "reason=%s", error.message);
        return;
    }
    uint64_t reserve = reserve_bytes(total_size_bytes);
    bool was_full = atomic_load(&maintenance->is_full);
    /* A full disk must gain a little before it counts as free again. */
    bool is_full = free_size_bytes < reserve + (was_full ? reserve / 4 : 0);
    atomic_store(&maintenance->free_size_bytes, free_size_bytes);
    atomic_store(&maintenance->is_full, is_full);
    if (is_full && !was_full) {
        OS_LOG_WARN(maintenance->options.log, "node.disk_full",
                    "free_bytes=%" PRIu64 " reserve_bytes=%" PRIu64 " consequence=%s action=%s",
                    free_size_bytes, reserve, "writes that need space are refused",
                    "delete keys or free space; writes are accepted again by themselves");
    } else if (!is_full && was_full) {
        OS_LOG_INFO(maintenance->options.log, "node.disk_has_space", "free_bytes=%" PRIu64,
                    free_size_bytes);
    }
}

/* Before the flush begins. */
static raft_index index_to_release(struct node_maintenance *maintenance, uint32_t place,
                                   bool may_keep)
{
    raft_index unneeded =
        atomic_load_explicit(&maintenance->unneeded_indexes[place], memory_order_acquire);
    raft_index stored =
        atomic_load_explicit(&maintenance->stored_indexes[place], memory_order_acquire);
    maintenance->is_any_kept |= may_keep && unneeded < stored;
    return may_keep ? number_min(unneeded, stored) : stored;
}

static void flush_store(struct node_maintenance *maintenance, bool may_keep)
{
    struct error error = {0};
    const struct node_shards *shards = maintenance->options.shards;
    uint32_t shard_count = shards->count;
    raft_index *indexes = maintenance->flushed_indexes;
    uint64_t count = atomic_load_explicit(&maintenance->change_count, memory_order_acquire);
    bool lets_go = maintenance->is_any_kept && !may_keep; /* Also when nothing has changed. */
    os_mutex_lock(maintenance->mutex);
    maintenance->is_any_kept = false;
    for (uint32_t i = 0; i < shard_count; i++) {
        indexes[i] = index_to_release(maintenance, i, may_keep);
    }
    os_mutex_unlock(maintenance->mutex);
    bool is_well = store_get_health(maintenance->options.store, NULL) == STORE_WELL;
    if (count == maintenance->released_change_count && is_well && !lets_go) {
        return;
    }
    int status = store_flush(maintenance->options.store, &error);
    if (status == -ENOSPC) {
        if (!maintenance->is_flush_failing) {
            OS_LOG_WARN(maintenance->options.log, "node.store_waits_for_space", "reason=%s",
                        error.message);
        }
        maintenance->is_flush_failing = true;
        return;
    }
    if (status != 0) {
        OS_LOG_ERROR(maintenance->options.log, "node.store_failed", "reason=%s action=%s",
                     error.message, "check the disk, then start again");
        _exit(NODE_EXIT_STORAGE);
    }
    maintenance->is_flush_failing = false;
    maintenance->released_change_count = count;
    os_mutex_lock(maintenance->mutex);
    for (uint32_t i = 0; i < shard_count; i++) {
        if (indexes[i] != maintenance->released_indexes[i]) {
            maintenance->released_indexes[i] = indexes[i];
            node_log_release(maintenance->options.node_log, shards->items[i].id, indexes[i]);
        }
    }
    os_mutex_unlock(maintenance->mutex);
}

/* While the disk is full, give back the space of what was deleted. The store's own compactions
 * would, but on a small disk the reserve may be less than one of them needs: it fails, is tried
 * again, fails, and the deletion that would let it pass waits behind it. Compacting everything
 * takes the deletion along. Where the store is larger, so is the reserve, and nothing has to be
 * done. What somebody was reading just then stays, and on a full disk nothing may change any more:
 * so it is tried again, less and less often. */
static void compact_when_full(struct node_maintenance *maintenance)
{
    uint64_t count = atomic_load_explicit(&maintenance->change_count, memory_order_acquire);
    uint64_t now = os_monotonic_ms();
    bool has_changed = count != maintenance->compacted_change_count;
    uint64_t wait_ms = has_changed ? COMPACT_INTERVAL_MS : maintenance->compact_again_ms;
    if (!node_maintenance_is_full(maintenance) || now - maintenance->compacted_at_ms < wait_ms) {
        return;
    }
    struct store_statistics statistics;
    store_get_statistics(maintenance->options.store, &statistics);
    if (statistics.table_size_bytes > COMPACT_SIZE_BYTES_MAX) {
        return;
    }
    flush_store(maintenance, false);
    if (store_get_health(maintenance->options.store, NULL) != STORE_WELL) {
        return; /* What was deleted is in memory only, and compacting would not find it. */
    }
    struct error error = {0};
    int status = store_compact_range(maintenance->options.store, BYTES(""), BYTES(""), &error);
    maintenance->compacted_at_ms = os_monotonic_ms();
    if (status == 0) {
        maintenance->compacted_change_count = count;
        maintenance->compact_again_ms =
            has_changed ? COMPACT_AGAIN_MS_MIN
                        : number_min(2 * maintenance->compact_again_ms, COMPACT_AGAIN_MS_MAX);
    } /* Otherwise the store's health tells what is wrong, and it is tried again. */
}

static bool is_any_needed(const struct node_maintenance *maintenance)
{
    for (uint32_t i = 0; i < maintenance->options.shards->count; i++) {
        raft_index unneeded =
            atomic_load_explicit(&maintenance->unneeded_indexes[i], memory_order_acquire);
        if (unneeded <
            atomic_load_explicit(&maintenance->stored_indexes[i], memory_order_acquire)) {
            return true;
        }
    }
    return false;
}

/* A small disk keeps less. */
static bool may_keep_log(const struct node_maintenance *maintenance,
                         const struct node_log_statistics *statistics)
{
    uint64_t live_bytes = statistics->wal.live_size_bytes;
    uint64_t free_bytes = node_maintenance_free_bytes(maintenance);
    uint64_t most_bytes = number_min(maintenance->options.kept_log_size_bytes_max,
                                     (free_bytes + live_bytes) / KEPT_LOG_SHARE);
    return live_bytes <= most_bytes && !statistics->is_out_of_space &&
           !node_maintenance_is_full(maintenance);
}

/* What is kept of it must not have the store flushed again and again. */
static bool is_log_long(struct node_maintenance *maintenance, uint64_t size_bytes, bool may_keep)
{
    uint64_t limit_bytes = maintenance->options.flush_log_size_bytes;
    uint64_t *least_bytes = &maintenance->flushed_log_size_bytes;
    *least_bytes = number_min(*least_bytes, size_bytes);
    maintenance->is_any_kept = maintenance->is_any_kept && is_any_needed(maintenance);
    uint64_t kept_bytes = may_keep && maintenance->is_any_kept ? *least_bytes : 0;
    bool is_long = size_bytes > kept_bytes + limit_bytes;
    *least_bytes = is_long ? size_bytes : *least_bytes;
    return is_long;
}

static void run(void *context)
{
    struct node_maintenance *maintenance = context;
    bool is_stopping = false;
    store_begin_compaction(maintenance->options.store); /* A replay is over. */
    while (!is_stopping) {
        watch_space(maintenance);
        struct node_log_statistics statistics;
        node_log_get_statistics(maintenance->options.node_log, &statistics);
        bool may_keep = may_keep_log(maintenance, &statistics);
        if (is_log_long(maintenance, statistics.wal.live_size_bytes, may_keep) ||
            statistics.is_out_of_space ||
            store_get_health(maintenance->options.store, NULL) != STORE_WELL) {
            /* A store whose own flushes failed accepts nothing until one of ours succeeds. */
            flush_store(maintenance, may_keep);
        }
        compact_when_full(maintenance);
        os_mutex_lock(maintenance->mutex);
        if (!maintenance->is_stopping) {
            (void)os_condition_wait_for(maintenance->condition, maintenance->mutex, INTERVAL_MS);
        }
        is_stopping = maintenance->is_stopping;
        os_mutex_unlock(maintenance->mutex);
    }
}

int node_maintenance_start(struct node_maintenance **maintenance,
                           const struct node_maintenance_options *options, struct error *error)
{
    struct node_maintenance *created = memory_allocate_zeroed(1, sizeof *created);
    created->options = *options;
    created->compact_again_ms = COMPACT_AGAIN_MS_MIN;
    created->mutex = os_mutex_create();
    created->condition = os_condition_create();
    int status = os_thread_start(&created->thread, "maintenance", run, created, error);
    if (status != 0) {
        os_condition_destroy(created->condition);
        os_mutex_destroy(created->mutex);
        memory_free(created);
        return status;
    }
    *maintenance = created;
    return 0;
}

void node_maintenance_destroy(struct node_maintenance *maintenance)
{
    if (maintenance == NULL) {
        return;
    }
    os_mutex_lock(maintenance->mutex);
    maintenance->is_stopping = true;
    os_condition_signal(maintenance->condition);
    os_mutex_unlock(maintenance->mutex);
    os_thread_join(maintenance->thread);
    os_condition_destroy(maintenance->condition);
    os_mutex_destroy(maintenance->mutex);
    memory_free(maintenance);
}

void node_maintenance_stored(struct node_maintenance *maintenance, uint32_t place, raft_index index,
                             raft_index unneeded_index)
{
    atomic_store_explicit(&maintenance->unneeded_indexes[place], unneeded_index,
                          memory_order_release);
    atomic_store_explicit(&maintenance->stored_indexes[place], index, memory_order_release);
    (void)atomic_fetch_add_explicit(&maintenance->change_count, 1, memory_order_release);
}

void node_maintenance_emptied(struct node_maintenance *maintenance, uint32_t place)
{
    os_mutex_lock(maintenance->mutex);
    atomic_store(&maintenance->stored_indexes[place], 0);
    atomic_store(&maintenance->unneeded_indexes[place], 0);
    maintenance->released_indexes[place] = 0;
    maintenance->flushed_indexes[place] = 0; /* What is being flushed says nothing of what comes. */
    /* In the place of what may still wait there. */
    node_log_release(maintenance->options.node_log, maintenance->options.shards->items[place].id,
                     0);
    os_mutex_unlock(maintenance->mutex);
    (void)atomic_fetch_add_explicit(&maintenance->change_count, 1, memory_order_release);
}

bool node_maintenance_is_full(const struct node_maintenance *maintenance)
{
    return atomic_load_explicit(&maintenance->is_full, memory_order_relaxed);
}

uint64_t node_maintenance_free_bytes(const struct node_maintenance *maintenance)
{
    return atomic_load_explicit(&maintenance->free_size_bytes, memory_order_relaxed);
}
