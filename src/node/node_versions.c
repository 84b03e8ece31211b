/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes with older software, while the nodes of a cluster become newer one by one.
 *
 * Each connection speaks the highest version of the protocol that both sides know, so what an older one
 * does not understand is not said to it. What it could not carry out is not done by anybody before all
 * nodes know it: that is the agreed feature version (service/system). Once a shard has split nobody speaks
 * to who cannot know; it hears why when it connects. */
#include "node/node_cluster.h"

void node_versions_note(struct node_cluster *cluster, const struct wire_remote *remote)
{
    struct node_peer *peer = node_roster_find(cluster, remote->node_id);
    if (peer != NULL) {
        peer->version = remote->version;
    }
}

bool node_versions_know_slots(void *context, raft_node node)
{
    struct node_cluster *cluster = context;
    const struct node_peer *peer = node_roster_find(cluster, node);
    return node_versions_min(cluster) >= NODE_PROTOCOL_SPLIT ||
           (peer != NULL && peer->version >= NODE_PROTOCOL_SPLIT);
}

bool node_versions_know_beats(const struct node_peer *peer)
{
    return peer->version >= NODE_PROTOCOL_BEATS;
}

bool node_versions_know_floors(void *context, raft_node node)
{
    const struct node_peer *peer = node_roster_find(context, node);
    return peer != NULL && peer->version >= NODE_PROTOCOL_FLOORS;
}

uint32_t node_versions_min(const struct node_cluster *cluster)
{
    const struct node_shards *shards = cluster->shards;
    bool has_split = node_shards_map(shards)->range_count > shards->map.made_count;
    return has_split ? NODE_PROTOCOL_SPLIT : NODE_PROTOCOL_MIN;
}

void node_versions_split(struct node_cluster *cluster)
{
    wire_set_version_min(cluster->wire, NODE_PROTOCOL_SPLIT);
}
