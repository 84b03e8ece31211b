/* SPDX-License-Identifier: Apache-2.0 */
/* After a recovery the lost nodes are members in the rows of the cluster still, and have
 * certificates that are good. What they have may contradict what is written from now on, at higher
 * terms. So they are not let in while the rows are being corrected, nor called; afterwards the rows
 * keep them out, and who asks is told that it was removed, and stops. */
#include <inttypes.h>

#include "base/memory/memory.h"
#include "node/node_cluster.h"

enum { RETRY_MS = 200, TEXT_SIZE_BYTES_MAX = 4096 };

struct node_fence {
    struct buffer text; /* For the record; ended by a zero. */
    bool is_asking;
    bool is_recorded;
    uint64_t asked_at_ms;
};

static uint32_t count_alone(struct node_shards *shards)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < shards->count; i++) {
        count += node_shard_is_alone(&shards->items[i]);
    }
    return count;
}

/* A recovery that broke off before it changed anything is none; one that changed some of the shards
 * has to be done to its end, because the others could still be led by nodes that it fences. */
static int look_at_remains(struct node_cluster *cluster, struct error *error)
{
    if (count_alone(cluster->shards) > 0) {
        return error_set(error, -EPERM,
                         "a recovery of this directory broke off: run tutti recover again");
    }
    OS_LOG_WARN(cluster->log, "node.recovery_void", "action=%s",
                "start the other nodes, or stop this one and run tutti recover again");
    return os_file_write(node_data_path(cluster->data, NODE_FILE_FENCE), BYTES(""), error);
}

int node_fence_open(struct node_cluster *cluster, struct error *error)
{
    struct buffer text = {0};
    if (os_file_read(node_data_path(cluster->data, NODE_FILE_FENCE), TEXT_SIZE_BYTES_MAX, &text,
                     NULL) != 0 ||
        text.size_bytes == 0) {
        buffer_deinit(&text);
        return 0;
    }
    if (count_alone(cluster->shards) < cluster->shards->count) {
        buffer_deinit(&text);
        return look_at_remains(cluster, error);
    }
    buffer_append_byte(&text, '\0');
    cluster->fence = memory_allocate_zeroed(1, sizeof *cluster->fence);
    cluster->fence->text = text;
    wire_set_admits_strangers(cluster->wire,
                              false); /* They would be told that they were removed. */
    return 0;
}

void node_fence_close(struct node_cluster *cluster)
{
    if (cluster->fence != NULL) {
        buffer_deinit(&cluster->fence->text);
        memory_free(cluster->fence);
        cluster->fence = NULL;
    }
}

bool node_fence_is_up(const struct node_cluster *cluster)
{
    return cluster->fence != NULL;
}

/* The rows will tell. What was refused is not asked again at once. */
static void node_was_marked(void *context, int status, struct bytes reply)
{
    struct node_cluster *cluster = context;
    struct error error = {0};
    uint64_t number;
    cluster->fence->is_asking = false;
    if (status == 0 && system_reply_number(reply, &number, &error) == 0) {
        cluster->fence->asked_at_ms = 0;
    } else if (status == 0) {
        OS_LOG_WARN(cluster->log, "node.fence", "reason=%s", error.message);
    }
}

static void was_recorded(void *context, int status, struct bytes reply)
{
    struct node_cluster *cluster = context;
    uint64_t number;
    cluster->fence->is_asking = false;
    cluster->fence->is_recorded = status == 0 && system_reply_number(reply, &number, NULL) == 0;
}

/* A node that is not marked yet; NULL: all are. This one first: were it being emptied, the last of the others
 * could not be removed, being the only active one. */
static const struct system_node *next_node(const struct node_cluster *cluster,
                                           enum system_node_state *state)
{
    const struct system *system = cluster->shards->system;
    const struct system_node *self = system_node_find(system, cluster->self);
    *state = SYSTEM_NODE_ACTIVE;
    if (self != NULL && self->state != SYSTEM_NODE_ACTIVE) {
        return self;
    }
    *state = SYSTEM_NODE_REMOVED;
    for (uint32_t i = 0; i < system_node_count(system); i++) {
        const struct system_node *node = system_node_at(system, i);
        if (node->id != cluster->self && node->state != SYSTEM_NODE_REMOVED) {
            return node;
        }
    }
    return NULL;
}

static void take_down(struct node_cluster *cluster)
{
    struct error error = {0};
    if (os_file_write(node_data_path(cluster->data, NODE_FILE_FENCE), BYTES(""), &error) != 0) {
        OS_LOG_WARN(cluster->log, "node.fence", "reason=%s", error.message);
        return; /* Again, later; a second record does no harm. */
    }
    OS_LOG_WARN(cluster->log, "node.recovered", "what=%s", (const char *)cluster->fence->text.data);
    cluster->roster_generation = 0;
    wire_set_admits_strangers(cluster->wire, true);
    node_fence_close(cluster);
}

void node_fence_tick(struct node_cluster *cluster, uint64_t now_ms)
{
    struct node_fence *fence = cluster->fence;
    if (fence == NULL || fence->is_asking || now_ms < fence->asked_at_ms + RETRY_MS ||
        !shard_is_ready(node_shards_first(cluster->shards)->shard)) {
        return;
    }
    struct system_command command;
    enum system_node_state state;
    const struct system_node *node = next_node(cluster, &state);
    if (node == NULL && fence->is_recorded) {
        take_down(cluster);
        return;
    }
    fence->is_asking = true;
    fence->asked_at_ms = now_ms;
    if (node != NULL) {
        system_node_state_command(&command, node->id, state);
        node_errand_send(cluster, &command, node_was_marked, cluster);
    } else {
        system_audit_command(&command, SYSTEM_AUDIT_RECOVERY, cluster->self,
                             (const char *)fence->text.data);
        node_errand_send(cluster, &command, was_recorded, cluster);
    }
}
