/* SPDX-License-Identifier: Apache-2.0 */
/* In one life of two, heartbeats of all shards of a machine go together, as src/node sends them: gathered
 * until the end of the tick, and a shard for which nothing else came is not ticked. Not to an older node, and
 * not by one. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "sim/sim_cluster_host.h"

/* Drawn apart, so that other lives are as they were. */
void sim__cluster_beats_draw(struct cluster *cluster)
{
    struct random random;
    random_init(&random, cluster->options.seed ^ 0x6265617473);
    cluster->nature.do_beats_gather = random_chance(&random, 1, 2);
    cluster->nature.are_beats_aligned =
        cluster->nature.do_beats_gather && random_chance(&random, 1, 2);
}

uint32_t sim__cluster_beats_phase_ms(const struct cluster *cluster, uint32_t place)
{
    uint32_t interval_ms = cluster->nature.election_timeout_ms / CLUSTER_BEATS_PER_TIMEOUT;
    if (!cluster->nature.are_beats_aligned) {
        return 0;
    }
    return place % 3 == 2 ? 1 + interval_ms / 2 : interval_ms; /* Most have the same. */
}

static void send_gathered(struct cluster_node *node, uint32_t place)
{
    struct bytes message = beats_message(&node->beats[place]);
    bool is_older = sim__cluster_node_is_older(node->cluster->nodes[place]);
    if (message.size_bytes > 0 && !is_older) { /* If it is, then the connection broke meanwhile. */
        (void)sim__cluster_send(node->cluster, node, place + 1, CLUSTER_MESSAGE_BEATS, &message, 1);
    }
    beats_clear(&node->beats[place]);
}

bool sim__cluster_beats_add(struct cluster_replica *replica, const struct raft_message *message)
{
    struct cluster_node *node = replica->node;
    struct cluster *cluster = node->cluster;
    uint32_t target = message->to - 1;
    if (!cluster->nature.do_beats_gather || node->is_dead || target >= CLUSTER_NODE_COUNT_MAX ||
        cluster->nodes[target] == NULL || sim__cluster_node_is_older(node) ||
        sim__cluster_node_is_older(cluster->nodes[target])) {
        return false;
    }
    while (!beats_add(&node->beats[target], replica->place + 1, message)) {
        send_gathered(node, target);
    }
    return true;
}

void sim__cluster_beats_send(struct cluster_node *node)
{
    for (uint32_t i = 0; i < node->cluster->nature.node_count; i++) {
        send_gathered(node, i);
    }
}

void sim__cluster_beats_forget(struct cluster_node *node)
{
    for (uint32_t i = 0; i < CLUSTER_NODE_COUNT_MAX; i++) {
        beats_deinit(&node->beats[i]);
    }
}

/* No tick is needed, so one does nothing, and wants no other earlier than the one before it did. */
static void check_rest(struct cluster_node *node, struct cluster_replica *replica)
{
    struct env_clock clock = sim__cluster_clock(node);
    if (node->is_touched || replica->is_touched || replica->has_floor ||
        clock.now_ms(clock.context) >= replica->wake_at_ms ||
        random_chance(&node->cluster->random, 1, 2)) {
        return;
    }
    uint64_t wake_at_ms = shard_tick(replica->shard);
    if (wake_at_ms < replica->wake_at_ms) {
        sim__cluster_fail(node->cluster,
                          "node %u would sleep until %" PRIu64 " in shard %u, not %" PRIu64,
                          node->id, replica->wake_at_ms, replica->place + 1, wake_at_ms);
    }
    replica->wake_at_ms = wake_at_ms;
}

void sim__cluster_beats_receive(struct cluster_node *node, raft_node from, struct bytes message)
{
    struct beats_reader reader;
    int status = beats_read(&reader, message);
    if (sim__cluster_node_is_older(node)) {
        sim__cluster_fail(node->cluster, "node %u is older, and is sent heartbeats together",
                          node->id);
    }
    while (status == 0 && reader.rest.size_bytes > 0) {
        wal_shard id = 0;
        struct raft_message beat;
        status = beats_next(&reader, &id, &beat);
        ASSERT_IF(status == 0, id <= node->cluster->shard_count);
        struct cluster_replica *replica = status == 0 ? &node->replicas[id - 1] : NULL;
        if (replica != NULL && replica->shard != NULL) {
            replica->is_touched |= shard_receive_beat(replica->shard, from, &beat);
            check_rest(node, replica);
        }
    }
    if (status != 0) {
        sim__cluster_fail(node->cluster, "node %u finds heartbeats of node %u malformed", node->id,
                          from);
    }
}
