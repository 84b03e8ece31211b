/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of an older version among newer ones: in some lives they become newer one by one, when they start.
 *
 * An older node does not know what a split is, nor a floor, of which nobody may tell it. Its
 * gateway names no slots, its replicas would not know a SPLIT in their logs, and what names
 * slots it refuses; so nobody may say either to it. Nobody wishes for a child before all are newer.
 * Until it has a node may also go back. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "sim/sim_cluster.h"

enum {
    REQUESTS = 3, /* docs/formats/route.md, where slots are where an older node wants zeros. */
    REQUESTS_SLOTS_OFFSET = 44,
    FLOOR = 6,
    REPLICA_FLOORS = 7, /* docs/formats/replica.md */
};

/* Drawn apart, so that other lives are as they were. */
void sim__cluster_versions_draw(struct cluster *cluster)
{
    struct random random;
    random_init(&random, cluster->options.seed ^ 0x6f6c646572);
    bool does_split = cluster->nature.does_split;
    if (!random_chance(&random, 1, does_split ? 3 : 6)) {
        return;
    }
    uint64_t all = (UINT64_C(1) << cluster->nature.node_count) - 1;
    cluster->older = (uint32_t)(1 + random_below(&random, all));
    cluster->nature.upgrade_every_us = 50000 + (uint32_t)random_below(&random, 1500000);
}

bool sim__cluster_node_is_older(const struct cluster_node *node)
{
    const struct cluster *cluster = sim__cluster_node_cluster(node);
    return (cluster->older >> (sim__cluster_node_id(node) - 1) & 1u) != 0;
}

void sim__cluster_node_draw_version(struct cluster *cluster, const struct cluster_node *node)
{
    bool is_older = sim__cluster_node_is_older(node);
    bool may_go_back = cluster->shard_count == cluster->nature.shard_count;
    bool is_over = cluster->is_healing && cluster->office != NULL;
    if (is_over || cluster->nature.upgrade_every_us == 0 ||
        sim__cluster_node_incarnation(node) == 1 || (!is_older && !may_go_back)) {
        return;
    }
    if (is_older ? random_chance(&cluster->random, 3, 4) : random_chance(&cluster->random, 1, 8)) {
        cluster->older ^= 1u << (sim__cluster_node_id(node) - 1);
        sim__cluster_note(cluster, "node.version", sim__cluster_node_id(node), is_older, 0);
    }
}

/* Its leaders move away if they can, and it is stopped. It starts by itself. */
static void stop(struct cluster *cluster, const struct cluster_event *event)
{
    if (!cluster->is_healing) {
        sim__cluster_node_kill(cluster, event->node, false);
    }
}

void sim__cluster_upgrade_one(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = cluster->nodes[sim__cluster_any_node(cluster)];
    if (cluster->is_healing) {
        return;
    }
    if (sim__cluster_node_is_older(node) && sim__cluster_node_is_running(node)) {
        for (uint32_t i = 0; i < cluster->shard_count; i++) {
            struct shard *shard = sim__cluster_node_shard(node, i);
            raft_node other = 1 + sim__cluster_any_node(cluster);
            if (shard != NULL && shard_is_ready(shard) && shard_transfer(shard, other) == 0) {
                sim__cluster_note(cluster, "node.hands_over", sim__cluster_node_id(node), other, i);
            }
        }
        sim__cluster_node_look(cluster, node);
        sim__cluster_schedule(cluster, sim__cluster_delay(cluster, 20000), stop, node, 0, NULL);
    }
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.upgrade_every_us),
                          sim__cluster_upgrade_one, NULL, 0, NULL);
}

void sim__cluster_check_understood(struct cluster *cluster, const struct cluster_node *node,
                                   struct bytes message)
{
    ASSERT(message.size_bytes >= 2);
    if (sim__cluster_node_is_older(node) && message.data[1] == REQUESTS &&
        endian_get_u32_le(message.data + REQUESTS_SLOTS_OFFSET) != 0) {
        sim__cluster_fail(cluster, "node %u is older, and is told of slots",
                          sim__cluster_node_id(node));
    }
    if (sim__cluster_node_is_older(node) && message.data[1] == FLOOR) {
        sim__cluster_fail(cluster, "node %u is older, and is told of a floor",
                          sim__cluster_node_id(node));
    }
}

void sim__cluster_check_replica_understands(struct cluster *cluster,
                                            const struct cluster_node *node, struct bytes message)
{
    ASSERT(message.size_bytes >= 2);
    if (sim__cluster_node_is_older(node) && message.data[1] == REPLICA_FLOORS) {
        sim__cluster_fail(cluster, "a replica of node %u, which is older, is told of floors",
                          sim__cluster_node_id(node));
    }
}
