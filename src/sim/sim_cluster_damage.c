/* SPDX-License-Identifier: Apache-2.0 */
/* Damage to the logs of a cluster: bit rot, and writes that go astray.
 *
 * What nobody could survive is not asked for: nothing committed may be damaged on a majority at
 * once. So one node at a time has damage, from when its disk is harmed until it has found that at
 * a start and is whole again, and its store, flushed, knows that it is. Meanwhile the others are
 * sound, and they are enough: when the damage is done all nodes run and every log says that its
 * voters have a majority without the damaged one, and no change of members is begun that would take
 * that from them, nor one whose majority needs a replica that has given up what it had, or may still
 * do so (decision 18). Only places are harmed that two later rounds of the log writer have followed,
 * because damage at the very end of a log cannot be told from a torn write. */
#include <inttypes.h>

#include "sim/sim_cluster.h"

/* May the replica not count for long, though its node is sound? It has given up what it had, or may do so
 * when it hears that it does not belong to the group. `present` NULL: does nobody know that it may not? */
static bool is_undependable(const struct cluster *cluster, uint32_t place,
                            const struct raft_configuration *present,
                            const struct cluster_node *node)
{
    raft_node id = sim__cluster_node_id(node);
    const struct shard *shard = sim__cluster_node_shard(node, place);
    if (present == NULL) {
        return sim__cluster_node_is_unsure(node, place);
    }
    bool has_left =
        !raft_configuration_has_member(present, id) && (shard == NULL || !shard_is_empty(shard));
    bool was_impaired = cluster->repairs[id - 1][place].is_impaired; /* Where it is down. */
    return has_left || sim__cluster_node_is_unsure(node, place) ||
           (shard != NULL ? shard_is_impaired(shard) || shard_is_discarding(shard) : was_impaired);
}

/* Have the others a majority without it, and without those that do not count? */
static bool is_dispensable(const struct cluster *cluster, uint32_t place,
                           const struct raft_configuration *present,
                           const struct raft_configuration *members, raft_node node)
{
    uint32_t others = members->voter_count;
    for (uint32_t i = 0; i < members->voter_count; i++) {
        raft_node id = members->voters[i];
        bool is_out =
            id == node || is_undependable(cluster, place, present, cluster->nodes[id - 1]);
        others -= is_out ? 1 : 0;
    }
    return members->voter_count == 0 || others >= members->voter_count / 2 + 1;
}

bool sim__cluster_needs_damaged(const struct cluster *cluster, uint32_t place,
                                const struct raft_configuration *present,
                                const struct raft_configuration *members)
{
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        raft_node damaged = sim__cluster_node_lacks(node, place) ? sim__cluster_node_id(node) : 0;
        if (!is_dispensable(cluster, place, present, members, damaged)) {
            return true;
        }
    }
    return false;
}

static bool may_be_damaged(const struct cluster *cluster, const struct cluster_node *node)
{
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct cluster_node *other = cluster->nodes[i];
        if (!sim__cluster_node_is_running(other) ||
            (other != node && sim__cluster_node_is_damaged(other))) {
            return false;
        }
        for (uint32_t place = 0; place < cluster->shard_count; place++) {
            const struct shard *shard = sim__cluster_node_shard(other, place);
            if (shard == NULL) {
                continue;
            }
            const struct raft_configuration *members = shard_configuration(shard);
            if (members->outgoing_count > 0 ||
                !is_dispensable(cluster, place, members, members, sim__cluster_node_id(node))) {
                return false;
            }
        }
    }
    return true;
}

void sim__cluster_damage(struct cluster *cluster, struct cluster_node *node)
{
    if (!may_be_damaged(cluster, node)) {
        return;
    }
    enum sim__damage kind =
        random_chance(&cluster->random, 1, 2) ? SIM__DAMAGE_ROT : SIM__DAMAGE_ASTRAY;
    if (!sim__disk_damage(sim__cluster_node_disk(node), kind)) {
        return;
    }
    sim__cluster_note(cluster, "node.damaged", sim__cluster_node_id(node), kind, 0);
    cluster->result->damage_count++;
    sim__cluster_node_set_damaged(node);
    if (random_chance(&cluster->random, 1, 2)) {
        /* It finds out soon; else it may first try to read it back for another. */
        sim__cluster_node_kill(cluster, node, random_chance(&cluster->random, 1, 2));
    }
}

/* ---- What an impaired replica must not do ---------------------------------------------------- */

void sim__cluster_check_sent(struct cluster *cluster, const struct cluster_node *from,
                             uint32_t place, const struct bytes *message)
{
    enum { KIND_RAFT = 1, IS_REJECTED = 1, HEAD_SIZE_BYTES = 4 }; /* docs/formats/replica.md */
    const struct shard *shard = sim__cluster_node_shard(from, place);
    if (shard == NULL || !shard_is_impaired(shard) || message->size_bytes < HEAD_SIZE_BYTES ||
        message->data[1] != KIND_RAFT) {
        return;
    }
    uint8_t kind = message->data[2];
    bool is_request = kind == RAFT_MESSAGE_PREVOTE_REQUEST || kind == RAFT_MESSAGE_VOTE_REQUEST;
    bool is_reply = kind == RAFT_MESSAGE_PREVOTE_REPLY || kind == RAFT_MESSAGE_VOTE_REPLY;
    if (is_request || (is_reply && (message->data[3] & IS_REJECTED) == 0)) {
        sim__cluster_fail(cluster, "node %u is impaired and votes", sim__cluster_node_id(from));
    }
}

void sim__cluster_check_repair(struct cluster *cluster, const struct cluster_node *node,
                               uint32_t place, const struct shard_statistics *statistics)
{
    raft_node id = sim__cluster_node_id(node);
    if (statistics->applied_index > cluster->newest_applied[place]) {
        cluster->newest_applied[place] = statistics->applied_index;
    }
    bool was_impaired = cluster->repairs[id - 1][place].is_impaired;
    raft_index needed_index = cluster->repairs[id - 1][place].needed_index;
    if (statistics->is_impaired && !was_impaired) {
        cluster->repairs[id - 1][place].needed_index = cluster->newest_applied[place];
    } else if (was_impaired && !statistics->is_impaired && statistics->last_index < needed_index) {
        sim__cluster_fail(cluster,
                          "node %u calls itself whole with entries up to %" PRIu64 " of %" PRIu64
                          " that were committed when it began",
                          id, statistics->last_index, needed_index);
    }
    cluster->repairs[id - 1][place].is_impaired = statistics->is_impaired;
}
