/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's core/route: what src/node/node_cluster.c does for it. */
#include "base/assert/assert.h"
#include "sim/sim_cluster.h"

/* Origins are beyond those of clients, and tell the node and its life. */
#define FIRST_ORIGIN UINT64_C(1000000)
#define NODES_OF_A_LIFE UINT64_C(100)

static struct shard *shard_of(const struct cluster_node *node, wal_shard id)
{
    return sim__cluster_node_shard(node, id - 1);
}

static int submit_local(void *context, wal_shard id, struct shard_request *request,
                        const struct reply *reply)
{
    struct shard *shard = shard_of(context, id);
    sim__cluster_node_touch(context);
    return shard == NULL ? ERROR_NOT_LEADER : shard_submit(shard, request, reply);
}

static raft_node local_leader(void *context, wal_shard id)
{
    const struct cluster_node *node = context;
    const struct shard *shard = shard_of(node, id);
    raft_node leader = shard == NULL ? 0 : shard_leader(shard);
    bool is_self = leader == sim__cluster_node_id(node);
    return is_self && !shard_is_ready(shard) ? 0 : leader;
}

static raft_index local_applied_index(void *context, wal_shard id)
{
    const struct shard *shard = shard_of(context, id);
    return shard == NULL ? 0 : shard_applied_index(shard);
}

/* Nobody may wait for what is below. */
static void set_floor(void *context, wal_shard id, const struct shard_floor *floor)
{
    struct cluster_node *node = context;
    struct shard *shard = shard_of(node, id);
    uint64_t life = floor->origin - FIRST_ORIGIN;
    sim__cluster_callers_check_floor(sim__cluster_node_cluster(node),
                                     (uint32_t)(life % NODES_OF_A_LIFE),
                                     (uint32_t)(life / NODES_OF_A_LIFE), id, floor->floor);
    if (shard != NULL) {
        shard_set_floor(shard, floor);
        sim__cluster_node_note_floor(node, id - 1);
    }
}

static int host_send(void *context, raft_node to, const struct bytes *pieces, uint32_t piece_count)
{
    struct cluster_node *node = context;
    struct cluster *cluster = sim__cluster_node_cluster(node);
    if (!sim__cluster_node_is_running(node)) {
        return -ENOTCONN;
    }
    if (!cluster->is_healing && random_chance(&cluster->random, 1, 100)) {
        return -EBUSY;
    }
    return sim__cluster_send(cluster, node, to, CLUSTER_MESSAGE_ROUTE, pieces, piece_count);
}

static raft_node next_node(void *context, wal_shard id, raft_node after)
{
    const struct cluster_node *node = context;
    uint32_t count = sim__cluster_node_cluster(node)->nature.node_count;
    raft_node next = after % count + 1;
    if (next == sim__cluster_node_id(node)) {
        next = next % count + 1;
    }
    return count == 1 ? 0 : next;
}

static bool knows_slots(void *context, raft_node id)
{
    const struct cluster *cluster = sim__cluster_node_cluster(context);
    return !sim__cluster_node_is_older(cluster->nodes[id - 1]);
}

static bool knows_floors(void *context, raft_node id)
{
    return knows_slots(context, id);
}

struct route *sim__cluster_route_create(struct cluster_node *node, struct env_clock clock)
{
    struct cluster *cluster = sim__cluster_node_cluster(node);
    const struct cluster_nature *nature = &cluster->nature;
    uint64_t life =
        sim__cluster_node_incarnation(node) * NODES_OF_A_LIFE + sim__cluster_node_id(node);
    struct route_options options = {
        .self = sim__cluster_node_id(node),
        .host = {.context = node,
                 .clock = clock,
                 .submit_local = submit_local,
                 .local_leader = local_leader,
                 .local_applied_index = local_applied_index,
                 .set_floor = set_floor,
                 .send = host_send,
                 .next_node = next_node,
                 .knows_slots = knows_slots,
                 .knows_floors = knows_floors},
        .origin = FIRST_ORIGIN + life,
        .random_seed = cluster->options.seed * 131 + life,
        .deadline_ms = nature->deadline_ms,
        .held_size_bytes_max = nature->held_size_bytes,
        .guest_size_bytes_max = nature->guest_size_bytes,
        .reply_size_bytes_max = nature->reply_size_bytes,
        .silence_ms = nature->silence_ms,
        .floor_delay_ms = nature->floor_delay_ms,
        .message_size_bytes_max = nature->guest_size_bytes / 2,
    };
    struct route *route = NULL;
    struct error error = {0};
    int status = route_create(&route, &options, &error);
    ASSERT(status == 0);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        if (i < nature->shard_count ||
            (sim__cluster_node_map(node) & sim__cluster_map_bit(i)) != 0) {
            route_add_shard(route, i + 1);
        }
    }
    return route;
}
