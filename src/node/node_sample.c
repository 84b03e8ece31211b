/* SPDX-License-Identifier: Apache-2.0 */
/* Once a second the counters of the node are read and kept for a while: rates and latencies are
 * what came between the newest and the oldest of the window. That is the same work whoever asks and
 * how often, on a thread that delays nobody. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_parts.h"

enum {
    RAW_COUNT = NODE_SAMPLE_WINDOW_COUNT + 1,
    SLOW_INTERVAL_COUNT = 5, /* What asks the store for more than a number is read less often. */
    INDEX_COUNT = 60,        /* Indexes that are remembered, for how far others are behind. */
};

/* Counters at one moment. */
struct raw {
    uint64_t at_ms;
    uint64_t processor_us;
    struct histogram latencies[INQUIRY_LATENCY_COUNT];
    uint64_t read_counts[SLOTS_SHARD_COUNT_MAX];
    uint64_t write_counts[SLOTS_SHARD_COUNT_MAX];
};

struct moment {
    uint64_t at_ms;
    raft_index applied[SLOTS_SHARD_COUNT_MAX];
};

struct node_sampler {
    /* Of the thread that samples. */
    struct raw raws[RAW_COUNT]; /* A ring, of which the last `taken_count` are filled. */
    uint64_t taken_count;
    struct resp_statistics resp;
    struct node_sample next;
    struct os_mutex *mutex; /* Over the rest. */
    struct node_sample sample;
    struct moment moments[INDEX_COUNT]; /* A ring. */
    uint64_t moment_count;
};

struct node_sampler *node_sampler_create(void)
{
    struct node_sampler *sampler = memory_allocate_zeroed(1, sizeof *sampler);
    sampler->mutex = os_mutex_create();
    for (uint32_t i = 0; i < INQUIRY_FIGURE_COUNT; i++) {
        sampler->next.figures[i] = INQUIRY_UNKNOWN;
    }
    for (uint32_t i = 0; i < SLOTS_SHARD_COUNT_MAX; i++) {
        sampler->next.shards[i].size_bytes = INQUIRY_UNKNOWN;
        sampler->next.shards[i].reads_per_1000_s = INQUIRY_UNKNOWN;
        sampler->next.shards[i].writes_per_1000_s = INQUIRY_UNKNOWN;
    }
    sampler->sample = sampler->next;
    return sampler;
}

void node_sampler_destroy(struct node_sampler *sampler)
{
    os_mutex_destroy(sampler->mutex);
    memory_free(sampler);
}

/* ---- Counters -------------------------------------------------------------------------------- */

static void read_counters(struct node_sampler *sampler, struct node *node, struct raw *raw,
                          struct moment *moment)
{
    uint64_t user_us;
    uint64_t system_us;
    os_processor_time_us(&user_us, &system_us);
    resp_group_get_statistics(node->group, &sampler->resp);
    raw->at_ms = os_monotonic_ms();
    raw->processor_us = user_us + system_us;
    raw->latencies[INQUIRY_READ] = sampler->resp.kind_latencies_ns[RESP_READ];
    raw->latencies[INQUIRY_WRITE] = sampler->resp.kind_latencies_ns[RESP_WRITE];
    moment->at_ms = raw->at_ms;
    for (uint32_t i = 0; i < node->shards.count; i++) {
        struct node_figures figures;
        node_shards_get_figures(&node->shards, i, &figures);
        raw->read_counts[i] = figures.shard.read_count;
        raw->write_counts[i] = figures.shard.command_count;
        moment->applied[i] = figures.shard.applied_index;
    }
}

static uint64_t per_1000_s(uint64_t newer, uint64_t older, uint64_t took_ms)
{
    return newer > older ? (newer - older) * 1000 * 1000 / took_ms : 0;
}

static void compare(const struct raw *newer, const struct raw *older, uint32_t shard_count,
                    struct node_sample *sample)
{
    uint64_t took_ms = newer->at_ms > older->at_ms ? newer->at_ms - older->at_ms : 1;
    for (uint32_t i = 0; i < INQUIRY_LATENCY_COUNT; i++) {
        histogram_since(&sample->latencies[i], &newer->latencies[i], &older->latencies[i]);
    }
    sample->figures[INQUIRY_READS_PER_1000_S] =
        per_1000_s(sample->latencies[INQUIRY_READ].count, 0, took_ms);
    sample->figures[INQUIRY_WRITES_PER_1000_S] =
        per_1000_s(sample->latencies[INQUIRY_WRITE].count, 0, took_ms);
    /* A processor's 1000 µs in a ms are 1000 ‰ of it. */
    sample->figures[INQUIRY_PROCESSOR_PERMILLE] =
        (newer->processor_us - older->processor_us) / took_ms / os_processor_count();
    for (uint32_t i = 0; i < shard_count; i++) {
        sample->shards[i].reads_per_1000_s =
            per_1000_s(newer->read_counts[i], older->read_counts[i], took_ms);
        sample->shards[i].writes_per_1000_s =
            per_1000_s(newer->write_counts[i], older->write_counts[i], took_ms);
    }
}

/* ---- What is as it is ------------------------------------------------------------------------ */

static void look_at_disk(const struct node *node, struct node_sample *sample)
{
    uint64_t free_bytes;
    uint64_t total_bytes;
    if (os_disk_space(node->options.data_directory, &free_bytes, &total_bytes, NULL) == 0) {
        sample->figures[INQUIRY_DISK_FREE_BYTES] = free_bytes;
        sample->figures[INQUIRY_DISK_CAPACITY_BYTES] = total_bytes;
    }
}

/* The rows of the cluster itself are of no account. */
static uint64_t size_of(struct node *node, const struct slots_range *range)
{
    uint8_t lower[KV_SLOT_ROW_SIZE_BYTES];
    uint8_t upper[KV_SLOT_ROW_SIZE_BYTES];
    return store_estimate_size_bytes(node->store, kv_slot_row(range->first, lower),
                                     range->end == SLOTS_COUNT ? BYTES("\xff")
                                                               : kv_slot_row(range->end, upper));
}

static void look_at_store(struct node *node, struct node_sample *sample)
{
    const struct slots *map = node_shards_map(&node->shards);
    struct store_statistics store;
    struct node_log_statistics log;
    store_get_statistics(node->store, &store);
    node_log_get_statistics(node->node_log, &log);
    sample->figures[INQUIRY_STORE_BYTES] = store.table_size_bytes;
    sample->figures[INQUIRY_LOG_BYTES] = log.wal.live_size_bytes;
    for (uint32_t i = 0; i < node->shards.count; i++) {
        uint32_t place = slots_find(map, node->shards.items[i].id);
        if (place < map->range_count) { /* A moment later, if it was born just now. */
            sample->shards[i].size_bytes = size_of(node, &map->ranges[place]);
        }
    }
}

/* ---- Samples --------------------------------------------------------------------------------- */

void node_sampler_take(struct node_sampler *sampler, struct node *node)
{
    struct node_sample *next = &sampler->next;
    struct raw *newest = &sampler->raws[sampler->taken_count % RAW_COUNT];
    struct moment moment = {0};
    read_counters(sampler, node, newest, &moment);
    if (sampler->taken_count > 0) {
        uint64_t back = sampler->taken_count < NODE_SAMPLE_WINDOW_COUNT ? sampler->taken_count
                                                                        : NODE_SAMPLE_WINDOW_COUNT;
        const struct raw *oldest = &sampler->raws[(sampler->taken_count - back) % RAW_COUNT];
        compare(newest, oldest, node->shards.count, next);
    }
    next->figures[INQUIRY_MEMORY_BYTES] = os_memory_resident_bytes();
    next->figures[INQUIRY_MEMORY_LIMIT_BYTES] = node->options.memory_size_bytes;
    next->figures[INQUIRY_CONNECTIONS] = sampler->resp.connection_count;
    look_at_disk(node, next);
    if (sampler->taken_count % SLOW_INTERVAL_COUNT == 0) {
        look_at_store(node, next);
    }
    sampler->taken_count++;
    os_mutex_lock(sampler->mutex);
    sampler->sample = *next;
    sampler->moments[sampler->moment_count++ % INDEX_COUNT] = moment;
    os_mutex_unlock(sampler->mutex);
}

void node_sampler_get(struct node_sampler *sampler, struct node_sample *sample)
{
    os_mutex_lock(sampler->mutex);
    *sample = sampler->sample;
    os_mutex_unlock(sampler->mutex);
}

uint64_t node_sampler_behind_ms(struct node_sampler *sampler, uint32_t place, raft_index index)
{
    ASSERT(place < SLOTS_SHARD_COUNT_MAX);
    uint64_t since_ms = 0;
    os_mutex_lock(sampler->mutex);
    uint64_t count = sampler->moment_count;
    uint64_t oldest = count > INDEX_COUNT ? count - INDEX_COUNT : 0;
    for (uint64_t i = count; i > oldest; i--) {
        const struct moment *moment = &sampler->moments[(i - 1) % INDEX_COUNT];
        if (moment->applied[place] <= index) {
            break;
        }
        since_ms = moment->at_ms;
    }
    os_mutex_unlock(sampler->mutex);
    return since_ms == 0 ? 0 : os_monotonic_ms() - since_ms;
}
