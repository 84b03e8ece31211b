/* SPDX-License-Identifier: Apache-2.0 */
/* Heartbeats of the shards' leaders, and the answers to them: when they leave, and how they go.
 *
 * They leave on a grid, so that many have the same tick, and are gathered until its end: those for one node go
 * in one frame, or in a few. What they cost grows with the groups that are awake. When these are many, each
 * falls quiet as soon as it has nothing to do: a leader that hangs is then found by gossip only, as that of
 * any quiet group is; one whose process ends, or whose connections break, is found at once. */
#include <inttypes.h>

#include "node/node_cluster.h"

enum {
    PHASE_GROUP_COUNT = 128,
    PHASE_MS = 10,
    AWAKE_COUNT_HIGH = 256, /* From so many on groups hurry, */
    AWAKE_COUNT_LOW = 128,  /* down to so many. */
};

_Static_assert(BEATS_SIZE_BYTES_MAX <= WIRE_URGENT_SIZE_BYTES_MAX, "they overtake long messages");

/* Those of so many shards leave in one tick; those of more do not, lest it be a long one. */
uint32_t node_beats_phase_ms(wal_shard id)
{
    uint32_t phase_count = RAFT_HEARTBEAT_INTERVAL_MS / PHASE_MS;
    return (1 + node_place_of(id) / PHASE_GROUP_COUNT % phase_count) * PHASE_MS;
}

void node_beats_look(struct node_shards *shards)
{
    uint32_t limit = shards->account.do_groups_hurry ? AWAKE_COUNT_LOW : AWAKE_COUNT_HIGH;
    shards->account.do_groups_hurry = shards->awake_count > limit;
}

/* ---- Sending --------------------------------------------------------------------------------- */

static void send_gathered(struct node_cluster *cluster, struct node_peer *peer)
{
    struct bytes message = beats_message(&peer->beats);
    if (message.size_bytes > 0) {
        node_cluster_send_beats(cluster, peer->id, message);
        beats_clear(&peer->beats);
    }
}

bool node_beats_add(void *context, struct shard *shard, const struct raft_message *message)
{
    const struct node_shard *node_shard = context;
    struct node_cluster *cluster = node_shard->host->cluster;
    struct node_peer *peer = cluster != NULL ? node_roster_find(cluster, message->to) : NULL;
    if (peer == NULL || !node_versions_know_beats(peer)) {
        return false;
    }
    while (!beats_add(&peer->beats, node_shard->id, message)) {
        send_gathered(cluster, peer);
    }
    cluster->has_beats = true;
    return true;
}

void node_beats_send(struct node_cluster *cluster)
{
    for (uint32_t i = 0; cluster->has_beats && i < cluster->peer_count; i++) {
        send_gathered(cluster, &cluster->peers[i]);
    }
    cluster->has_beats = false;
}

/* ---- Receiving ------------------------------------------------------------------------------- */

void node_beats_came(struct node_cluster *cluster, raft_node from, struct bytes payload)
{
    struct beats_reader reader;
    int status = beats_read(&reader, payload);
    while (status == 0 && reader.rest.size_bytes > 0) {
        wal_shard id = 0;
        struct raft_message beat;
        status = beats_next(&reader, &id, &beat);
        struct node_shard *shard = status == 0 ? node_shards_find(cluster->shards, id) : NULL;
        if (shard != NULL && shard_receive_beat(shard->shard, from, &beat)) {
            node_shard_touch(shard);
        }
    }
    if (status != 0) {
        OS_LOG_WARN(cluster->log, "node.malformed", "node=%" PRIu32 " kind=%s", from, "beats");
    }
}
