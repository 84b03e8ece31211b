/* SPDX-License-Identifier: Apache-2.0 */
/* Where nodes are, told by those who have it in the rows of the first shard to everybody else: lines of
 * "number address", as in the file `roster`. */
#include <inttypes.h>

#include "node/node_cluster.h"

static void write_roster(const struct node_cluster *cluster, struct buffer *text)
{
    const struct system *system = cluster->shards->system;
    for (uint32_t i = 0; i < system_node_count(system); i++) {
        const struct system_node *node = system_node_at(system, i);
        if (node->state != SYSTEM_NODE_REMOVED) {
            buffer_append_format(text, "%" PRIu32 " %s\n", node->id, node->peer);
        }
    }
}

void node_roster_tell_to(struct node_cluster *cluster, uint32_t node)
{
    struct buffer text = {0};
    if (!node_cluster_has_rows(cluster)) {
        return;
    }
    write_roster(cluster, &text);
    if (text.size_bytes > 0) {
        node_cluster_send_roster(cluster, node, buffer_bytes(&text));
    }
    buffer_deinit(&text);
}

void node_roster_tell(struct node_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        node_roster_tell_to(cluster, cluster->peers[i].id);
    }
}
