/* SPDX-License-Identifier: Apache-2.0 */
/* Where nodes are, told by those who have it in the rows of the first shard to everybody else: lines of
 * "number address", as in the file `roster`. */
#include <inttypes.h>

#include "base/memory/memory.h"
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

bool node_roster_is_removed(const struct node_cluster *cluster, uint32_t node)
{
    for (uint32_t i = 0; i < cluster->removed_count; i++) {
        if (cluster->removed[i] == node) {
            return true;
        }
    }
    return false;
}

void node_roster_note(struct node_cluster *cluster, uint32_t node, bool is_removed)
{
    if (is_removed == node_roster_is_removed(cluster, node)) {
        return;
    }
    if (is_removed) {
        cluster->removed = memory_resize(cluster->removed,
                                         (cluster->removed_count + 1) * sizeof cluster->removed[0]);
        cluster->removed[cluster->removed_count++] = node;
        return;
    }
    uint32_t kept = 0; /* A number that was given again, by a cluster that was recovered. */
    for (uint32_t i = 0; i < cluster->removed_count; i++) {
        if (cluster->removed[i] != node) {
            cluster->removed[kept++] = cluster->removed[i];
        }
    }
    cluster->removed_count = kept;
}
