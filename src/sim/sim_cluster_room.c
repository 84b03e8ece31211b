/* SPDX-License-Identifier: Apache-2.0 */
/* Where machines stand, and what room they say that their disks have, in lives with conductors.
 *
 * In one of two of these lives the machines are in two to five zones, some perhaps in the same one. In one of two
 * their disks are said to have a size; now and then one has little room for a while: none for another replica,
 * though it takes writes. One that takes none (sim_cluster_node.c) is said to have no room. Others hear of it late.
 * Some have room again only long after all faults have ended: until then steps must come to an end as well.
 *
 * What a conductor decides is held against what it was told:
 *   - a new replica is never placed on a disk without room for it;
 *   - nor, but for fullness, in a zone with more of the group's replicas than another one that has room;
 *   - no step takes voters away so that no majority of the others is alive, nor the last one that is alive, has room
 *     and may stay. */
#include "base/assert/assert.h"
#include "base/hash/hash.h"
#include "sim/sim_cluster_conductor.h"

enum {
    ROOM_S_MAX = 100, /* By the conductors' clocks: so long there may be little after all faults. */
    FULL_PERMILLE = 900,
};

#define MIB (UINT64_C(1) << 20)
/* A replica is told to have that at least. */
#define REPLICA_SIZE_BYTES CONDUCTOR_SIZE_FLOOR_BYTES

/* ---- The nature of these lives --------------------------------------------------------------- */

void sim__cluster_room_draw(struct cluster *cluster)
{
    struct random random;
    random_init(&random, cluster->options.seed ^ 0x7a6f6e6573);
    struct cluster_conducting *conducting = &cluster->nature.conducting;
    if (random_chance(&random, 1, 2)) {
        conducting->zone_count = sim__cluster_between(&random, 2, CLUSTER_NODE_COUNT_MAX);
    }
    if (random_chance(&random, 1, 2)) {
        conducting->capacity_mib = 1024u * sim__cluster_between(&random, 1, 1024);
        conducting->tight_every_us = sim__cluster_between(&random, 100000, 2000000);
    }
}

uint32_t sim__cluster_zone(const struct cluster *cluster, uint32_t place)
{
    uint32_t count = cluster->nature.conducting.zone_count;
    uint64_t drawn = hash_bytes(bytes_make(&place, sizeof place), cluster->options.seed);
    return count < 2 ? 0 : (uint32_t)(drawn % count);
}

/* ---- Room ------------------------------------------------------------------------------------ */

uint64_t sim__cluster_capacity_bytes(const struct cluster *cluster)
{
    return cluster->nature.conducting.capacity_mib * MIB;
}

uint64_t sim__cluster_used_bytes(const struct cluster *cluster, uint32_t place)
{
    bool takes_nothing = cluster->nodes[place]->is_full;
    return takes_nothing ? sim__cluster_capacity_bytes(cluster)
                         : cluster->office->used_bytes[place];
}

bool sim__cluster_is_room_lacking(const struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        if (cluster->office->used_bytes[i] > 0) {
            return true;
        }
    }
    return false;
}

static void set_used(struct cluster *cluster, uint32_t place, uint64_t used_bytes)
{
    cluster->office->used_bytes[place] = used_bytes;
    sim__cluster_note(cluster, "room.used", place + 1, used_bytes / MIB, 0);
}

static void have_room(struct cluster *cluster, const struct cluster_event *event)
{
    set_used(cluster, (uint32_t)event->value, 0);
}

/* None; none for a replica, but not full; for one, but not for two. Or some again. */
static void change_room(struct cluster *cluster, const struct cluster_event *event)
{
    static const uint64_t left_mib[] = {0, 8, 24};
    uint32_t place = sim__cluster_any_node(cluster);
    uint64_t choice = random_below(&cluster->random, 5);
    uint64_t limit_bytes = sim__cluster_capacity_bytes(cluster) * FULL_PERMILLE / 1000;
    if (cluster->is_healing) {
        return;
    }
    bool is_tight = choice < sizeof left_mib / sizeof left_mib[0];
    set_used(cluster, place, is_tight ? limit_bytes + 1 - left_mib[choice] * MIB : 0);
    sim__cluster_schedule(cluster,
                          sim__cluster_delay(cluster, cluster->nature.conducting.tight_every_us),
                          change_room, NULL, 0, NULL);
    (void)event;
}

void sim__cluster_room_begin(struct cluster *cluster)
{
    uint32_t every_us = cluster->nature.conducting.tight_every_us;
    if (every_us > 0 && sim__cluster_capacity_bytes(cluster) > 0) {
        sim__cluster_schedule(cluster, sim__cluster_delay(cluster, every_us), change_room, NULL, 0,
                              NULL);
    }
}

uint64_t sim__cluster_room_us_max(const struct cluster *cluster)
{
    return UINT64_C(1000000) * ROOM_S_MAX / cluster->nature.conducting.pace;
}

void sim__cluster_room_heal(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        if (cluster->office->used_bytes[i] > 0) {
            sim__cluster_schedule(
                cluster, 1 + random_below(&cluster->random, sim__cluster_room_us_max(cluster)),
                have_room, NULL, i, NULL);
        }
    }
}

/* ---- Zones ----------------------------------------------------------------------------------- */

uint32_t sim__cluster_zone_count(const struct cluster *cluster,
                                 const struct raft_configuration *members, uint32_t active,
                                 uint32_t place)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < members->voter_count; i++) {
        uint32_t voter = members->voters[i] - 1;
        count += (active >> voter & 1) != 0 &&
                 sim__cluster_zone(cluster, voter) == sim__cluster_zone(cluster, place);
    }
    return count;
}

bool sim__cluster_is_zone_crowded(const struct cluster *cluster,
                                  const struct raft_configuration *members, uint32_t active)
{
    for (uint32_t i = 0; i < members->voter_count; i++) {
        uint32_t from = members->voters[i] - 1;
        for (uint32_t to = 0; to < cluster->nature.node_count; to++) {
            bool may_move = (active >> from & 1) != 0 && (active >> to & 1) != 0 &&
                            !raft_configuration_has_member(members, to + 1);
            if (may_move && sim__cluster_zone_count(cluster, members, active, from) >=
                                sim__cluster_zone_count(cluster, members, active, to) + 2) {
                return true;
            }
        }
    }
    return false;
}

/* ---- What conductors decide ------------------------------------------------------------------ */

static const struct placement_node_state *told_of(const struct cluster_node *node, raft_node id)
{
    const struct cluster_conductor *conductor = node->conductor;
    for (uint32_t i = 0; i < conductor->told_count; i++) {
        if (conductor->told[i].id == id) {
            return &conductor->told[i];
        }
    }
    return NULL;
}

static bool has_room(const struct placement_node_state *told, uint64_t more_bytes)
{
    return told->capacity_bytes == 0 ||
           (told->used_bytes + more_bytes) * 1000 <= told->capacity_bytes * FULL_PERMILLE;
}

static bool has_member(const struct placement_group_state *group, raft_node node)
{
    bool has = false;
    for (uint32_t i = 0; i < group->voter_count; i++) {
        has |= group->voters[i] == node;
    }
    for (uint32_t i = 0; i < group->learner_count; i++) {
        has |= group->learners[i].node == node;
    }
    return has;
}

/* Members in that zone that stay, as the node was told. */
static uint32_t count_in_zone(const struct cluster_node *node,
                              const struct placement_group_state *group, uint32_t zone,
                              uint64_t now_ms)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < node->conductor->told_count; i++) {
        const struct placement_node_state *told = &node->conductor->told[i];
        bool is_gone = (told->liveness == PLACEMENT_DEAD || told->liveness == PLACEMENT_LEFT) &&
                       now_ms >= told->since_ms + node->cluster->nature.conducting.grace_ms;
        count +=
            told->zone == zone && !told->is_draining && !is_gone && has_member(group, told->id);
    }
    return count;
}

static void check_added(const struct cluster_node *node, const struct placement_step *step,
                        const struct placement_group_state *group)
{
    struct cluster *cluster = node->cluster;
    const struct placement_node_state *target = told_of(node, step->node);
    uint64_t now_ms = node->conductor->told_at_ms;
    if (target == NULL || target->liveness != PLACEMENT_ALIVE || target->is_draining) {
        sim__cluster_fail(cluster, "a replica is to be placed on node %u, which may have none",
                          step->node);
        return;
    }
    if (!has_room(target, REPLICA_SIZE_BYTES)) {
        sim__cluster_fail(cluster, "a replica is to be placed on node %u, which has no room",
                          step->node);
    }
    uint32_t count = count_in_zone(node, group, target->zone, now_ms);
    for (uint32_t i = 0;
         i < node->conductor->told_count && step->reason != PLACEMENT_REASON_FULLNESS; i++) {
        const struct placement_node_state *other = &node->conductor->told[i];
        /* Whatever else was decided in the same moment. */
        bool is_fit = other->liveness == PLACEMENT_ALIVE && !other->is_draining &&
                      has_room(other, (CLUSTER_SHARD_COUNT_MAX + 1) * REPLICA_SIZE_BYTES) &&
                      !has_member(group, other->id);
        if (is_fit && count_in_zone(node, group, other->zone, now_ms) < count) {
            sim__cluster_fail(
                cluster, "a replica is to be placed on node %u, and the zone of node %u has fewer",
                step->node, other->id);
        }
    }
}

/* Alive, and `is_good`: with room, to stay. */
static uint32_t count_voters(const struct cluster_node *node,
                             const struct placement_group_state *group, bool is_good)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < group->voter_count; i++) {
        const struct placement_node_state *told = told_of(node, group->voters[i]);
        count += told != NULL && told->liveness == PLACEMENT_ALIVE &&
                 (!is_good || (has_room(told, 0) && !told->is_draining));
    }
    return count;
}

static void check_removed(const struct cluster_node *node, const struct placement_step *step,
                          const struct placement_group_state *group)
{
    struct placement_group_state left = *group;
    bool is_replaced = step->kind == PLACEMENT_REPLACE;
    left.voter_count = 0;
    for (uint32_t i = 0; i < group->voter_count; i++) {
        bool goes =
            group->voters[i] == step->other || (!is_replaced && group->voters[i] == step->node);
        if (!goes) {
            left.voters[left.voter_count++] = group->voters[i];
        }
    }
    if (is_replaced) {
        left.voters[left.voter_count++] = step->node;
    }
    if (2 * count_voters(node, &left, false) <= left.voter_count) {
        sim__cluster_fail(node->cluster, "of the voters that a step leaves no majority is alive");
    }
    if (count_voters(node, group, true) > 0 && count_voters(node, &left, true) == 0) {
        sim__cluster_fail(node->cluster,
                          "a step takes the last voter that is alive and has room from shard %u",
                          step->group);
    }
}

void sim__cluster_check_place(const struct cluster_node *node, const struct placement_step *step,
                              const struct placement_group_state *group)
{
    switch (step->kind) {
    case PLACEMENT_ADD_LEARNER:
        check_added(node, step, group);
        break;
    case PLACEMENT_REMOVE:
    case PLACEMENT_REPLACE:
        check_removed(node, step, group);
        break;
    case PLACEMENT_PROMOTE:
    case PLACEMENT_TRANSFER_LEADER:
        break;
    }
}
