/* SPDX-License-Identifier: Apache-2.0 */
/* Damage to the logs of a cluster: bit rot, and writes that go astray.
 *
 * What nobody could survive is not asked for: nothing committed may be damaged on a majority at
 * once. So one node at a time has damage, from when its disk is harmed until it has found that at
 * a start and is whole again, and its store, flushed, knows that it is. Meanwhile the others are
 * sound, and they are enough: when the damage is done all nodes run and every log says that its
 * voters have a majority without the damaged one, and no change of members is begun that would take
 * that from them. Only places are harmed that two later rounds of the log writer have followed,
 * because damage at the very end of a log cannot be told from a torn write. */
#include "sim/sim_cluster.h"

/* Have the others a majority without it? */
static bool is_dispensable(const struct raft_configuration *members, raft_node node)
{
    uint32_t others = members->voter_count - (raft_configuration_has_voter(members, node) ? 1 : 0);
    return members->voter_count == 0 || others >= members->voter_count / 2 + 1;
}

bool sim__cluster_needs_damaged(const struct cluster *cluster,
                                const struct raft_configuration *members)
{
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        if (sim__cluster_node_is_damaged(node) &&
            !is_dispensable(members, sim__cluster_node_id(node))) {
            return true;
        }
    }
    return false;
}

static bool may_be_damaged(const struct cluster *cluster, const struct cluster_node *node)
{
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct cluster_node *other = cluster->nodes[i];
        const struct shard *shard = sim__cluster_node_shard(other);
        if (shard == NULL || (other != node && sim__cluster_node_is_damaged(other))) {
            return false;
        }
        const struct raft_configuration *members = shard_configuration(shard);
        if (members->outgoing_count > 0 || !is_dispensable(members, sim__cluster_node_id(node))) {
            return false;
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
