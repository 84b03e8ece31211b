/* SPDX-License-Identifier: Apache-2.0 */
/* What the others are told of the disk of this node, by gossip.
 *
 * Is it slow? What it leads then is slow too, however fast the others are: an entry
 * counts as committed only once the leader has it durably (I6 of core/raft). So the node tells the
 * others, by gossip, and the conductor has its shards led by others.
 *
 * A second is late when its flushes took SLOW_FLUSH_MS or more on average, and in time below
 * FAST_FLUSH_MS; seconds without a flush say nothing. A disk that does not answer at all is not meant:
 * then the shards hand over by themselves (RAFT_PERSIST_TIMEOUT_MS), and nobody hands anything back to
 * a node whose log does not grow.
 *
 * A full one counts as slow: who leads refuses writes that need space, though others may have room. And it is
 * told that it is full, for those who are asked how the cluster is.
 *
 * How much could it hold, and how much does it? Its own data, and what is free: what else is on the disk is no
 * room for replicas. It is told again when it has changed by a twentieth of the whole, so that nothing moves
 * because others write to the same disk. */
#include <inttypes.h>

#include "node/node_cluster.h"

enum {
    INTERVAL_MS = 1000,
    SLOW_FLUSH_MS = 100, /* Disks that turn take a tenth of it, also when they are busy. */
    FAST_FLUSH_MS = 50,
    LATE_COUNT = 5, /* So many late seconds, none in time between them: slow. */
    SPACE_SHARE = 20,
    IN_TIME_COUNT = 10, /* So many in time, none late between them: slow no more. */
};

/* The bits of member_load.conditions. */
#define CONDITION_SLOW_DISK 1u
#define CONDITION_FULL_DISK 2u

static void say(struct node_cluster *cluster)
{
    const struct node_pace *pace = &cluster->pace;
    struct member_view view;
    if (!member_state(cluster->member, cluster->self, &view) || view.meta == NULL) {
        return;
    }
    struct member_meta meta = *view.meta;
    meta.load.conditions = (pace->is_slow || pace->is_full ? CONDITION_SLOW_DISK : 0) |
                           (pace->is_full ? CONDITION_FULL_DISK : 0);
    meta.load.capacity_bytes = pace->capacity_bytes;
    meta.load.used_bytes = pace->used_bytes;
    struct member_input input = {.kind = MEMBER_INPUT_UPDATE_SELF, .meta = &meta};
    node_cluster_step_member(cluster, &input);
}

static bool has_changed(uint64_t value, uint64_t told, uint64_t whole)
{
    return (value > told ? value - told : told - value) > whole / SPACE_SHARE;
}

static void look_at_space(struct node_cluster *cluster)
{
    struct node_pace *pace = &cluster->pace;
    uint64_t free_bytes = node_sampler_get_figure(cluster->sampler, INQUIRY_DISK_FREE_BYTES);
    uint64_t store_bytes = node_sampler_get_figure(cluster->sampler, INQUIRY_STORE_BYTES);
    uint64_t log_bytes = node_sampler_get_figure(cluster->sampler, INQUIRY_LOG_BYTES);
    if (free_bytes == INQUIRY_UNKNOWN || store_bytes == INQUIRY_UNKNOWN ||
        log_bytes == INQUIRY_UNKNOWN) {
        return;
    }
    uint64_t used_bytes = store_bytes + log_bytes;
    uint64_t capacity_bytes = used_bytes + free_bytes;
    if (has_changed(capacity_bytes, pace->capacity_bytes, capacity_bytes) ||
        has_changed(used_bytes, pace->used_bytes, capacity_bytes)) {
        pace->capacity_bytes = capacity_bytes;
        pace->used_bytes = used_bytes;
        say(cluster);
    }
}

static void look_whether_full(struct node_cluster *cluster)
{
    bool is_full = node_maintenance_is_full(cluster->shards->maintenance);
    if (is_full != cluster->pace.is_full) { /* The maintenance has said so in the log. */
        cluster->pace.is_full = is_full;
        say(cluster);
    }
}

static void tell(struct node_cluster *cluster, bool is_slow, uint64_t mean_ms)
{
    struct node_pace *pace = &cluster->pace;
    pace->is_slow = is_slow;
    atomic_store(&cluster->shards->is_disk_slow, is_slow);
    if (is_slow) {
        OS_LOG_WARN(cluster->log, "node.slow_disk", "flush_ms=%" PRIu64 " consequence=%s action=%s",
                    mean_ms, "other nodes lead the shards, where there are any that are faster",
                    "look at the disk and what else uses it");
    } else {
        OS_LOG_INFO(cluster->log, "node.slow_disk_recovered", "flush_ms=%" PRIu64, mean_ms);
    }
    say(cluster);
}

void node_pace_tick(struct node_cluster *cluster, uint64_t now_ms)
{
    struct node_pace *pace = &cluster->pace;
    if (now_ms < pace->looked_at_ms + INTERVAL_MS) {
        return;
    }
    struct node_log_statistics log;
    node_log_get_statistics(cluster->shards->node_log, &log);
    uint64_t count = log.flush_count - pace->flush_count;
    uint64_t duration_ns = log.flush_duration_ns_sum - pace->flush_duration_ns_sum;
    pace->looked_at_ms = now_ms;
    pace->flush_count = log.flush_count;
    pace->flush_duration_ns_sum = log.flush_duration_ns_sum;
    look_at_space(cluster);
    look_whether_full(cluster);
    if (count == 0) {
        return;
    }
    uint64_t mean_ms = duration_ns / count / 1000000;
    pace->late_count = mean_ms >= SLOW_FLUSH_MS  ? pace->late_count + 1
                       : mean_ms < FAST_FLUSH_MS ? 0
                                                 : pace->late_count;
    pace->in_time_count = mean_ms < FAST_FLUSH_MS    ? pace->in_time_count + 1
                          : mean_ms >= SLOW_FLUSH_MS ? 0
                                                     : pace->in_time_count;
    if (!pace->is_slow && pace->late_count >= LATE_COUNT) {
        tell(cluster, true, mean_ms);
    } else if (pace->is_slow && pace->in_time_count >= IN_TIME_COUNT) {
        tell(cluster, false, mean_ms);
    }
}

bool node_pace_is_slow(const struct member_view *view)
{
    return view->meta != NULL && (view->meta->load.conditions & CONDITION_SLOW_DISK) != 0;
}

bool node_pace_is_full(const struct member_view *view)
{
    return view->meta != NULL && (view->meta->load.conditions & CONDITION_FULL_DISK) != 0;
}
