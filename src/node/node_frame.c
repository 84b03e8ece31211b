/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between nodes. Messages of a shard say which shard they are of, unless it is the first. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "node/node_cluster.h"

enum {
    SHARD_HEAD_SIZE_BYTES = 4, /* The number of the shard. */
    MAP_RETRY_MS = 10,
    PIECE_COUNT_MAX = 2 * RAFT_APPEND_ENTRY_COUNT_MAX + 4, /* Of the longest message of a shard. */
};

static int send_or_lose(struct node_cluster *cluster, uint32_t to, enum node_frame kind,
                        const struct bytes *pieces, uint32_t piece_count, bool is_urgent)
{
    int status = is_urgent
                     ? wire_send_urgent(cluster->wire, to, (uint16_t)kind, pieces, piece_count)
                     : wire_send(cluster->wire, to, (uint16_t)kind, pieces, piece_count);
    ASSERT(status == 0 || status == -ENOTCONN || status == -EBUSY);
    return status;
}

void node_cluster_send_member(struct node_cluster *cluster, uint32_t to, struct bytes message)
{
    (void)send_or_lose(cluster, to, NODE_FRAME_MEMBER, &message, 1, true);
}

void node_frame_shard_came(struct node_cluster *cluster, raft_node from, uint16_t kind,
                           struct bytes payload)
{
    struct node_shard *shard = node_shards_first(cluster->shards);
    if (kind == NODE_FRAME_OTHER_SHARD) {
        if (payload.size_bytes < SHARD_HEAD_SIZE_BYTES) {
            OS_LOG_WARN(cluster->log, "node.malformed", "node=%" PRIu32 " kind=%s", from, "shard");
            return;
        }
        shard = node_shards_find(cluster->shards, endian_get_u32_le(payload.data));
        payload = bytes_make(payload.data + SHARD_HEAD_SIZE_BYTES,
                             payload.size_bytes - SHARD_HEAD_SIZE_BYTES);
    }
    if (shard != NULL) {
        node_shard_touch(shard);
        shard_receive(shard->shard, from, payload);
    }
}

void node_cluster_send_shard(struct node_cluster *cluster, wal_shard shard, raft_node to,
                             const struct bytes *pieces, uint32_t piece_count)
{
    bool is_urgent = shard_message_is_urgent(pieces[0]);
    if (shard == SLOTS_FIRST_SHARD) { /* As before there were others. */
        (void)send_or_lose(cluster, to, NODE_FRAME_SHARD, pieces, piece_count, is_urgent);
        return;
    }
    uint8_t head[SHARD_HEAD_SIZE_BYTES];
    struct bytes all[PIECE_COUNT_MAX];
    ASSERT(piece_count < PIECE_COUNT_MAX);
    endian_put_u32_le(head, shard);
    all[0] = bytes_make(head, sizeof head);
    memcpy(all + 1, pieces, piece_count * sizeof pieces[0]);
    (void)send_or_lose(cluster, to, NODE_FRAME_OTHER_SHARD, all, piece_count + 1, is_urgent);
}

void node_cluster_send_beats(struct node_cluster *cluster, uint32_t to, struct bytes message)
{
    (void)send_or_lose(cluster, to, NODE_FRAME_BEATS, &message, 1, true);
}

void node_cluster_send_roster(struct node_cluster *cluster, uint32_t to, struct bytes text)
{
    if (node_versions_know_slots(cluster, to)) {
        (void)send_or_lose(cluster, to, NODE_FRAME_ROSTER, &text, 1, false);
    }
}

void node_cluster_send_inquiry(struct node_cluster *cluster, raft_node to, struct bytes message)
{
    (void)send_or_lose(cluster, to, NODE_FRAME_INQUIRY, &message, 1, false);
}

void node_cluster_send_placement(struct node_cluster *cluster, raft_node to, struct bytes message)
{
    (void)send_or_lose(cluster, to, NODE_FRAME_PLACEMENT, &message, 1, false);
}

void node_cluster_send_map(struct node_cluster *cluster, raft_node to, struct bytes message)
{
    struct node_peer *peer = node_roster_find(cluster, to);
    int status = send_or_lose(cluster, to, NODE_FRAME_PLACEMENT, &message, 1, false);
    if (peer != NULL) {
        peer->must_hear_map = status == -EBUSY;
    }
}

uint64_t node_cluster_tell_map_again(struct node_cluster *cluster, uint64_t now_ms)
{
    bool is_due = now_ms >= cluster->map_told_at_ms + MAP_RETRY_MS;
    bool is_any_left = false;
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        if (cluster->peers[i].must_hear_map && is_due) {
            cluster->map_told_at_ms = now_ms;
            node_conductor_tell_map_to(cluster, cluster->peers[i].id);
        }
        is_any_left |= cluster->peers[i].must_hear_map;
    }
    return is_any_left ? cluster->map_told_at_ms + MAP_RETRY_MS : UINT64_MAX;
}
