/* SPDX-License-Identifier: Apache-2.0 */
/* What the replicas' loop tells other threads of them: figures, summed up, and what has changed. */
#include <inttypes.h>
#include <stddef.h>

#include "node/node_recovery.h"

enum { FIGURES_INTERVAL_MS = 10 };

/* What a person may want to know of damage. */
static void report_repair(struct node_shard *shard, const struct shard_statistics *statistics)
{
    struct os_log *log = shard->host->log;
    if (shard->was_impaired && !statistics->is_impaired) {
        OS_LOG_INFO(log, "node.replica_whole", "shard=%" PRIu32 " applied=%" PRIu64 " state=%s",
                    shard->id, statistics->applied_index,
                    "has all again that its log lost, and votes");
    }
    shard->was_impaired = statistics->is_impaired;
    if (statistics->unreadable_count != shard->unreadable_count) {
        OS_LOG_WARN(log, "node.entry_unreadable",
                    "shard=%" PRIu32 " count=%" PRIu64 " consequence=%s action=%s", shard->id,
                    statistics->unreadable_count, "another replica gets a snapshot instead",
                    "look after the disk; run: tutti check, when the node is stopped");
        shard->unreadable_count = statistics->unreadable_count;
    }
}

/* What is summed over all replicas: 64 bits each. */
#define SUMMED(field)                       \
    (offsetof(struct node_figures, field) + \
     0 * sizeof(char[sizeof(((struct node_figures *)0)->field) == 8 ? 1 : -1]))
static const size_t summed[] = {
    SUMMED(kv.key_count),
    SUMMED(kv.expiring_key_count),
    SUMMED(kv.expired_key_count),
    SUMMED(kv.hit_count),
    SUMMED(kv.miss_count),
    SUMMED(kv.unfinished_count),
    SUMMED(shard.last_index),
    SUMMED(shard.applied_index),
    SUMMED(shard.stored_index),
    SUMMED(shard.in_flight_size_bytes),
    SUMMED(shard.window_size_bytes),
    SUMMED(shard.pending_request_count),
    SUMMED(shard.entry_count),
    SUMMED(shard.command_count),
    SUMMED(shard.read_elsewhere_count),
    SUMMED(shard.stall_count),
    SUMMED(shard.unreadable_count),
    SUMMED(shard.reread_count),
    SUMMED(shard.rows.hit_count),
    SUMMED(shard.rows.miss_count),
    SUMMED(shard.rows.blocking_read_count),
    SUMMED(shard.rows.cached_row_count),
    SUMMED(shard.rows.cached_size_bytes),
};

static uint64_t *figure_at(struct node_figures *figures, size_t offset)
{
    return (uint64_t *)(void *)((char *)figures + offset);
}

/* The sums change by what has changed. */
void node__figures_publish(struct node_shard *shard)
{
    struct node_shards *shards = shard->host;
    struct node_figures *figures = &shards->figures[shard->place];
    const struct node_figures before = *figures;
    shard_get_statistics(shard->shard, &figures->shard);
    kv_get_statistics(shard->kv, &figures->kv);
    for (size_t i = 0; i < sizeof summed / sizeof summed[0]; i++) {
        struct node_figures *was = (struct node_figures *)(uintptr_t)&before;
        *figure_at(&shards->sum, summed[i]) +=
            *figure_at(figures, summed[i]) - *figure_at(was, summed[i]);
    }
    shards->impaired_count += (uint32_t)figures->shard.is_impaired - before.shard.is_impaired;
    figures->is_member =
        raft_configuration_has_member(shard_configuration(shard->shard), shards->self);
    figures->is_leaderless = figures->is_member && figures->shard.leader == 0;
    if (figures->is_leaderless && !before.is_leaderless) {
        figures->leaderless_since_ms = os_monotonic_ms();
    }
    shards->member_count += (uint32_t)figures->is_member - before.is_member;
    shards->leaderless_count += (uint32_t)figures->is_leaderless - before.is_leaderless;
    shards->leading_count += (uint32_t)(figures->shard.role == RAFT_ROLE_LEADER) -
                             (before.shard.role == RAFT_ROLE_LEADER);
}

/* Returns when there is more to be published; UINT64_MAX: there is none. */
uint64_t node__figures_tick(struct node_shards *shards, uint64_t now)
{
    if (shards->unpublished_count == 0) {
        return UINT64_MAX;
    }
    if (now - shards->figures_at_ms < FIGURES_INTERVAL_MS) {
        return shards->figures_at_ms + FIGURES_INTERVAL_MS;
    }
    shards->figures_at_ms = now;
    os_mutex_lock(shards->figures_mutex);
    for (uint32_t i = 0; i < shards->unpublished_count; i++) {
        node__figures_publish(shards->unpublished[i]);
        node_changes_note(&shards->changes, shards->unpublished[i]->place);
        node__shares_note(shards->shares, shards->unpublished[i]->place);
    }
    os_mutex_unlock(shards->figures_mutex);
    for (uint32_t i = 0; i < shards->unpublished_count; i++) { /* Only this thread writes them. */
        struct node_shard *shard = shards->unpublished[i];
        shard->is_unpublished = false;
        report_repair(shard, &shards->figures[shard->place].shard);
    }
    shards->unpublished_count = 0;
    return UINT64_MAX;
}

void node_shards_get_figures(const struct node_shards *shards, uint32_t place,
                             struct node_figures *figures)
{
    os_mutex_lock(shards->figures_mutex);
    *figures = shards->figures[place];
    os_mutex_unlock(shards->figures_mutex);
}

struct node_led node_shards_look_who_is_led(const struct node_shards *shards, uint64_t for_ms)
{
    os_mutex_lock(shards->figures_mutex);
    uint64_t now_ms = os_monotonic_ms(); /* What is published meanwhile is not later. */
    struct node_led led = {.member_count = shards->member_count};
    uint32_t left = shards->leaderless_count;
    for (uint32_t i = 0; left > 0 && i < shards->count; i++) {
        const struct node_figures *figures = &shards->figures[i];
        left -= figures->is_leaderless;
        led.leaderless_count +=
            figures->is_leaderless && now_ms - figures->leaderless_since_ms >= for_ms;
    }
    os_mutex_unlock(shards->figures_mutex);
    return led;
}

uint32_t node_shards_leading_count(const struct node_shards *shards)
{
    os_mutex_lock(shards->figures_mutex);
    uint32_t count = shards->leading_count;
    os_mutex_unlock(shards->figures_mutex);
    return count;
}

void node_shards_sum_figures(const struct node_shards *shards, struct node_figures *figures)
{
    os_mutex_lock(shards->figures_mutex);
    *figures = shards->figures[0];
    for (size_t i = 0; i < sizeof summed / sizeof summed[0]; i++) {
        struct node_figures *sum = (struct node_figures *)(uintptr_t)&shards->sum;
        *figure_at(figures, summed[i]) = *figure_at(sum, summed[i]);
    }
    figures->shard.is_impaired = shards->impaired_count > 0;
    os_mutex_unlock(shards->figures_mutex);
}

uint32_t node_shards_take_changes(struct node_shards *shards,
                                  uint32_t places[SLOTS_SHARD_COUNT_MAX])
{
    uint32_t count = 0;
    os_mutex_lock(shards->figures_mutex);
    while (node_changes_take(&shards->changes, &places[count])) {
        count++;
    }
    os_mutex_unlock(shards->figures_mutex);
    return count;
}
