/* SPDX-License-Identifier: Apache-2.0 */
/* Once a second the counters of the node are read and kept for a while: rates and latencies are
 * what came between the newest and the oldest of the window. That is the same work whoever asks and
 * how often, on a thread that delays nobody.
 *
 * Of the shards only those are looked at whose figures have changed, and a minute long those at which
 * something happened: the others cost nothing, and their rates are zero.
 *
 * Everything is found out first and then published: who asks waits for a few copies at most. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_parts.h"

enum {
    RAW_COUNT = NODE_SAMPLE_WINDOW_COUNT + 1,
    SLOW_INTERVAL_COUNT = 5, /* What asks the store for more than a number is read less often. */
    INDEX_COUNT = 60,        /* Indexes that are remembered, for how far others are behind. */
    SIZE_COUNT_MAX = 64,     /* Sizes that the store is asked for at a time. */
};

/* Counters at one moment. */
struct raw {
    uint64_t at_ms;
    uint64_t processor_us;
    struct histogram latencies[INQUIRY_LATENCY_COUNT];
};

/* Of a replica at which something happened in the last minute: rings, by number of the sample. */
struct history {
    uint32_t place;
    uint64_t active_at; /* The newest sample in which it had changed. */
    uint64_t read_counts[RAW_COUNT];
    uint64_t write_counts[RAW_COUNT];
    raft_index applied[INDEX_COUNT]; /* Under the mutex. */
};

/* Of a replica, as it was found. */
struct found {
    bool is_known;
    uint64_t read_count;
    uint64_t write_count;
    raft_index applied;
    struct history *history; /* NULL: nothing happened for a minute. */
};

/* Of a replica, as of the newest sample. */
struct state {
    bool is_known;
    raft_index applied;
    struct node_shard_sample sample;
    const struct history *history; /* As above. */
};

struct node_sampler {
    /* Of the thread that samples. */
    struct raw raws[RAW_COUNT]; /* A ring, of which the last `taken_count` are filled. */
    struct resp_statistics resp;
    struct node_sample next;
    uint32_t *changed;
    uint32_t next_size; /* Where the asking for sizes goes on. */
    uint32_t next_hot_size;
    struct history **hot; /* Behind the first `hot_count`: those that are not any more. */
    uint32_t hot_count;
    uint32_t cold_count;
    uint32_t hot_capacity;
    struct found *found;    /* By place; room for SLOTS_SHARD_COUNT_MAX. */
    struct os_mutex *mutex; /* Over the rest. */
    struct node_sample sample;
    uint64_t taken_count;
    uint64_t at_ms[INDEX_COUNT]; /* A ring. */
    struct state *states;        /* As `found`. */
};

struct node_sampler *node_sampler_create(void)
{
    struct node_sampler *sampler = memory_allocate_zeroed(1, sizeof *sampler);
    sampler->mutex = os_mutex_create();
    sampler->changed = memory_allocate(SLOTS_SHARD_COUNT_MAX * sizeof sampler->changed[0]);
    sampler->found = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof sampler->found[0]);
    sampler->states = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof sampler->states[0]);
    for (uint32_t i = 0; i < INQUIRY_FIGURE_COUNT; i++) {
        sampler->next.figures[i] = INQUIRY_UNKNOWN;
    }
    sampler->sample = sampler->next;
    return sampler;
}

void node_sampler_destroy(struct node_sampler *sampler)
{
    for (uint32_t i = 0; i < sampler->hot_count; i++) {
        memory_free(sampler->hot[i]);
    }
    memory_free(sampler->hot);
    memory_free(sampler->changed);
    memory_free(sampler->found);
    memory_free(sampler->states);
    os_mutex_destroy(sampler->mutex);
    memory_free(sampler);
}

/* ---- Counters -------------------------------------------------------------------------------- */

static void read_counters(struct node_sampler *sampler, struct node *node, struct raw *raw)
{
    uint64_t user_us;
    uint64_t system_us;
    os_processor_time_us(&user_us, &system_us);
    resp_group_get_statistics(node->group, &sampler->resp);
    raw->at_ms = os_monotonic_ms();
    raw->processor_us = user_us + system_us;
    raw->latencies[INQUIRY_READ] = sampler->resp.kind_latencies_ns[RESP_READ];
    raw->latencies[INQUIRY_WRITE] = sampler->resp.kind_latencies_ns[RESP_WRITE];
}

static uint64_t per_1000_s(uint64_t newer, uint64_t older, uint64_t took_ms)
{
    return newer > older ? (newer - older) * 1000 * 1000 / took_ms : 0;
}

static void compare(const struct raw *newer, const struct raw *older, struct node_sample *sample)
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
}

/* ---- Shards ---------------------------------------------------------------------------------- */

static struct history *warm(struct node_sampler *sampler, uint32_t place)
{
    struct found *found = &sampler->found[place];
    struct history *history = memory_allocate_zeroed(1, sizeof *history);
    history->place = place;
    for (uint32_t i = 0; i < RAW_COUNT; i++) {
        history->read_counts[i] = found->read_count;
        history->write_counts[i] = found->write_count;
    }
    for (uint32_t i = 0; i < INDEX_COUNT; i++) {
        history->applied[i] = found->applied;
    }
    if (sampler->hot_count == sampler->hot_capacity) {
        sampler->hot_capacity = sampler->hot_capacity == 0 ? 16 : 2 * sampler->hot_capacity;
        sampler->hot =
            memory_resize(sampler->hot, sampler->hot_capacity * sizeof(struct history *));
    }
    sampler->hot[sampler->hot_count++] = history;
    found->history = history;
    return history;
}

static void note_change(struct node_sampler *sampler, uint32_t place,
                        const struct node_figures *figures)
{
    struct found *found = &sampler->found[place];
    bool is_same = found->is_known && found->read_count == figures->shard.read_count &&
                   found->write_count == figures->shard.command_count &&
                   found->applied == figures->shard.applied_index;
    if (!is_same && found->is_known) {
        struct history *history = found->history != NULL ? found->history : warm(sampler, place);
        history->active_at = sampler->taken_count;
    }
    found->is_known = true;
    found->read_count = figures->shard.read_count;
    found->write_count = figures->shard.command_count;
    found->applied = figures->shard.applied_index;
}

/* Those that have been idle for a minute go behind the others. */
static void look_at_shards(struct node_sampler *sampler, struct node *node, uint32_t changed_count)
{
    uint64_t number = sampler->taken_count;
    for (uint32_t i = 0; i < changed_count; i++) {
        struct node_figures figures;
        node_shards_get_figures(&node->shards, sampler->changed[i], &figures);
        note_change(sampler, sampler->changed[i], &figures);
    }
    sampler->cold_count = 0;
    for (uint32_t i = 0; i < sampler->hot_count;) {
        struct history *history = sampler->hot[i];
        struct found *found = &sampler->found[history->place];
        if (number - history->active_at >= INDEX_COUNT) {
            sampler->hot[i] = sampler->hot[--sampler->hot_count];
            sampler->hot[sampler->hot_count] = history;
            sampler->cold_count++;
            found->history = NULL;
            continue;
        }
        history->read_counts[number % RAW_COUNT] = found->read_count;
        history->write_counts[number % RAW_COUNT] = found->write_count;
        i++;
    }
}

static void publish_rates(struct node_sampler *sampler, struct history *history)
{
    uint64_t number = sampler->taken_count;
    uint64_t back = number < NODE_SAMPLE_WINDOW_COUNT ? number : NODE_SAMPLE_WINDOW_COUNT;
    uint64_t oldest = number - back;
    uint64_t took_ms = sampler->at_ms[number % INDEX_COUNT] - sampler->at_ms[oldest % INDEX_COUNT];
    took_ms = took_ms > 0 ? took_ms : 1;
    const struct found *found = &sampler->found[history->place];
    struct state *state = &sampler->states[history->place];
    state->history = history;
    history->applied[number % INDEX_COUNT] = found->applied;
    state->sample.reads_per_1000_s =
        per_1000_s(found->read_count, history->read_counts[oldest % RAW_COUNT], took_ms);
    state->sample.writes_per_1000_s =
        per_1000_s(found->write_count, history->write_counts[oldest % RAW_COUNT], took_ms);
}

/* With the mutex held. */
static void publish_shards(struct node_sampler *sampler, uint32_t changed_count)
{
    for (uint32_t i = 0; i < changed_count; i++) {
        struct state *state = &sampler->states[sampler->changed[i]];
        if (!state->is_known) {
            state->sample.size_bytes = INQUIRY_UNKNOWN;
        }
        state->is_known = true;
        state->applied = sampler->found[sampler->changed[i]].applied;
    }
    for (uint32_t i = 0; i < sampler->hot_count; i++) {
        publish_rates(sampler, sampler->hot[i]);
    }
    for (uint32_t i = 0; i < sampler->cold_count; i++) {
        struct state *state = &sampler->states[sampler->hot[sampler->hot_count + i]->place];
        state->history = NULL;
        state->sample.reads_per_1000_s = 0;
        state->sample.writes_per_1000_s = 0;
    }
}

static void free_cold(struct node_sampler *sampler)
{
    for (uint32_t i = 0; i < sampler->cold_count; i++) {
        memory_free(sampler->hot[sampler->hot_count + i]);
    }
    sampler->cold_count = 0;
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

static void look_at_size(struct node_sampler *sampler, struct node *node, uint32_t i)
{
    const struct slots *map = node_shards_map(&node->shards);
    uint32_t place = slots_find(map, node->shards.items[i].id);
    if (place < map->range_count) { /* A moment later, if it was born just now. */
        uint64_t size_bytes =
            node_slots_size_bytes(node->store, map->ranges[place].first, map->ranges[place].end);
        os_mutex_lock(sampler->mutex);
        sampler->states[i].sample.size_bytes = size_bytes;
        os_mutex_unlock(sampler->mutex);
    }
}

/* Of few shards all, now and then; of many some at a time, those in use more often than the others. */
static void look_at_sizes(struct node_sampler *sampler, struct node *node)
{
    uint32_t count = node->shards.count;
    if (count <= SIZE_COUNT_MAX) {
        for (uint32_t i = 0; i < count && sampler->taken_count % SLOW_INTERVAL_COUNT == 0; i++) {
            look_at_size(sampler, node, i);
        }
        return;
    }
    for (uint32_t i = 0; i < SIZE_COUNT_MAX / 2; i++) {
        look_at_size(sampler, node, sampler->next_size++ % count);
        if (i < sampler->hot_count) {
            look_at_size(sampler, node,
                         sampler->hot[sampler->next_hot_size++ % sampler->hot_count]->place);
        }
    }
}

static void look_at_store(const struct node *node, struct node_sample *sample)
{
    struct store_statistics store;
    struct node_log_statistics log;
    store_get_statistics(node->store, &store);
    node_log_get_statistics(node->node_log, &log);
    sample->figures[INQUIRY_STORE_BYTES] = store.table_size_bytes;
    sample->figures[INQUIRY_LOG_BYTES] = log.wal.live_size_bytes;
}

/* ---- Samples --------------------------------------------------------------------------------- */

void node_sampler_take(struct node_sampler *sampler, struct node *node)
{
    struct node_sample *next = &sampler->next;
    uint64_t number = sampler->taken_count; /* Only this thread changes it. */
    struct raw *newest = &sampler->raws[number % RAW_COUNT];
    read_counters(sampler, node, newest);
    if (number > 0) {
        uint64_t back = number < NODE_SAMPLE_WINDOW_COUNT ? number : NODE_SAMPLE_WINDOW_COUNT;
        compare(newest, &sampler->raws[(number - back) % RAW_COUNT], next);
    }
    next->figures[INQUIRY_MEMORY_BYTES] = os_memory_resident_bytes();
    next->figures[INQUIRY_MEMORY_LIMIT_BYTES] = node->options.memory_size_bytes;
    next->figures[INQUIRY_CONNECTIONS] = sampler->resp.connection_count;
    look_at_disk(node, next);
    if (number % SLOW_INTERVAL_COUNT == 0) {
        look_at_store(node, next);
    }
    uint32_t changed_count = node_shards_take_changes(&node->shards, sampler->changed);
    look_at_shards(sampler, node, changed_count);
    os_mutex_lock(sampler->mutex);
    sampler->sample = *next;
    sampler->at_ms[number % INDEX_COUNT] = newest->at_ms;
    publish_shards(sampler, changed_count);
    os_mutex_unlock(sampler->mutex);
    free_cold(sampler);
    look_at_sizes(sampler, node);
    os_mutex_lock(sampler->mutex);
    sampler->taken_count++;
    os_mutex_unlock(sampler->mutex);
}

void node_sampler_get(struct node_sampler *sampler, struct node_sample *sample)
{
    os_mutex_lock(sampler->mutex);
    *sample = sampler->sample;
    os_mutex_unlock(sampler->mutex);
}

void node_sampler_get_shard(struct node_sampler *sampler, uint32_t place,
                            struct node_shard_sample *sample)
{
    ASSERT(place < SLOTS_SHARD_COUNT_MAX);
    os_mutex_lock(sampler->mutex);
    const struct state *state = &sampler->states[place];
    *sample = state->sample;
    if (!state->is_known || sampler->taken_count == 0) {
        *sample = (struct node_shard_sample){INQUIRY_UNKNOWN, INQUIRY_UNKNOWN, INQUIRY_UNKNOWN};
    }
    os_mutex_unlock(sampler->mutex);
}

uint64_t node_sampler_get_figure(struct node_sampler *sampler, enum inquiry_figure figure)
{
    os_mutex_lock(sampler->mutex);
    uint64_t value = sampler->sample.figures[figure];
    os_mutex_unlock(sampler->mutex);
    return value;
}

uint64_t node_sampler_behind_ms(struct node_sampler *sampler, uint32_t place, raft_index index)
{
    ASSERT(place < SLOTS_SHARD_COUNT_MAX);
    uint64_t since_ms = 0;
    os_mutex_lock(sampler->mutex);
    const struct state *state = &sampler->states[place];
    uint64_t count = sampler->taken_count;
    /* Not the place that is being filled again. */
    uint64_t oldest = count >= INDEX_COUNT ? count - INDEX_COUNT + 1 : 0;
    for (uint64_t i = count; i > oldest; i--) {
        uint64_t ring_place = (i - 1) % INDEX_COUNT;
        raft_index applied =
            state->history != NULL ? state->history->applied[ring_place] : state->applied;
        if (applied <= index) {
            break;
        }
        since_ms = sampler->at_ms[ring_place];
    }
    os_mutex_unlock(sampler->mutex);
    return since_ms == 0 ? 0 : os_monotonic_ms() - since_ms;
}
