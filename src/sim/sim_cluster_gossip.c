/* SPDX-License-Identifier: Apache-2.0 */
/* In one life of three idle groups fall quiet. Then somebody must tell of nodes that are gone, and of those
 * that are back: a rumour that is late, as gossip is, and now and then wrong. */
#include "sim/sim_cluster_host.h"

enum { INTERVAL_US = 150000, WRONG_SHARE = 60 };

void sim__cluster_gossip_draw(struct cluster *cluster)
{
    random_init(&cluster->gossip_random, cluster->options.seed ^ 0x676f73736970);
    if (random_chance(&cluster->gossip_random, 1, 3)) {
        cluster->nature.quiet_after_ms = cluster->nature.election_timeout_ms *
                                         (1 + (uint32_t)random_below(&cluster->gossip_random, 4));
        if (random_chance(&cluster->gossip_random, 1, 3)) {
            cluster->nature.quiet_after_ms = 1; /* In a hurry. */
        }
    }
}

static void tell(struct cluster *cluster, struct cluster_node *node, uint32_t other, bool is_gone)
{
    node->thought_gone[other] = is_gone;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct shard *shard = node->replicas[i].shard;
        if (shard != NULL && is_gone) {
            shard_peer_lost(shard, other + 1);
        } else if (shard != NULL) {
            shard_peer_found(shard, other + 1);
        }
    }
    sim__cluster_node_look(cluster, node);
}

/* Groups settle though a rumour is wrong now and then; conductors are at rest only when nobody
 * is elected for long. */
static bool may_be_wrong(const struct cluster *cluster)
{
    return !cluster->is_healing || cluster->office == NULL;
}

static bool is_thought_gone(struct cluster *cluster, uint32_t node, uint32_t other)
{
    bool is_gone = !sim__cluster_node_is_running(cluster->nodes[other]) ||
                   cluster->links[node][other].is_blocked || cluster->links[other][node].is_blocked;
    bool is_wrong = random_chance(&cluster->gossip_random, 1, WRONG_SHARE);
    return is_gone || (is_wrong && may_be_wrong(cluster));
}

/* A leader tells itself again and again: one that was not one yet has forgotten. */
static void gossip(struct cluster *cluster, const struct cluster_event *event)
{
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        bool is_awake =
            sim__cluster_node_is_running(node) && node->paused_until_us <= cluster->now_us;
        for (uint32_t other = 0; is_awake && other < cluster->nature.node_count; other++) {
            bool is_gone = other != i && is_thought_gone(cluster, i, other);
            if (other != i && (is_gone || node->thought_gone[other])) {
                tell(cluster, node, other, is_gone);
            }
        }
    }
    sim__cluster_schedule(cluster, INTERVAL_US, gossip, NULL, 0, NULL);
}

void sim__cluster_gossip_begin(struct cluster *cluster)
{
    if (cluster->nature.quiet_after_ms > 0) {
        sim__cluster_schedule(cluster, INTERVAL_US, gossip, NULL, 0, NULL);
    }
}
