/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between replicas, of any content: decoding reads nothing past the end, and what it
 * believes is encoded to the same bytes. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/shard/shard_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void expect_same(struct bytes message, struct bytes encoded)
{
    ASSERT(message.size_bytes >= encoded.size_bytes);
    ASSERT(memcmp(message.data, encoded.data, encoded.size_bytes) == 0);
}

static void try_raft(struct bytes message)
{
    static struct shard_received received;
    if (shard__message_decode_raft(message, &received) != 0) {
        return;
    }
    for (uint32_t i = 0; i < received.message.entry_count; i++) {
        struct bytes payload = received.payloads[i];
        ASSERT(payload.size_bytes == 0 ||
               (payload.data >= message.data &&
                payload.data + payload.size_bytes <= message.data + message.size_bytes));
    }
}

static void try_piece(struct bytes message)
{
    struct shard_piece piece;
    if (shard__message_decode_piece(message, &piece) != 0) {
        return;
    }
    for (uint32_t i = 0; i < piece.row_count; i++) {
        struct bytes key;
        struct bytes value;
        shard__piece_next_row(&piece.rows, &key, &value);
    }
    ASSERT(piece.rows.size_bytes == 0);
}

static void try_floors(struct bytes message)
{
    struct shard_floor floors[SHARD_FLOOR_COUNT_MAX];
    uint32_t count = 0;
    if (shard__message_decode_floors(message, floors, &count) != 0) {
        return;
    }
    struct buffer encoded = {0};
    shard__message_encode_floors(floors, count, &encoded);
    ASSERT(encoded.size_bytes == message.size_bytes);
    expect_same(message, buffer_bytes(&encoded));
    buffer_deinit(&encoded);
}

static void try_membership(struct bytes message)
{
    struct shard_membership membership;
    if (shard__message_decode_membership(message, &membership) == 0) {
        ASSERT(membership.members.voter_count <= RAFT_PEER_COUNT_MAX);
    }
}

static void decode(struct bytes message)
{
    enum shard_message_kind kind;
    if (shard__message_kind(message, &kind) != 0) {
        return;
    }
    struct shard_snapshot_reply reply;
    struct shard_question question;
    uint8_t encoded[SHARD_MESSAGE_QUESTION_SIZE_BYTES];
    switch (kind) {
    case SHARD_MESSAGE_RAFT:
        try_raft(message);
        break;
    case SHARD_MESSAGE_SNAPSHOT_PIECE:
        try_piece(message);
        break;
    case SHARD_MESSAGE_SNAPSHOT_REPLY:
        if (shard__message_decode_snapshot_reply(message, &reply) == 0) {
            ASSERT(reply.state <= SHARD_SNAPSHOT_REFUSED);
        }
        break;
    case SHARD_MESSAGE_NARROW:
    case SHARD_MESSAGE_QUESTION:
        if (shard__message_decode_question(message, &question) == 0) {
            shard__message_encode_question(kind, &question, encoded);
            ASSERT(memcmp(message.data + 4, encoded + 4, 12) == 0);
        }
        break;
    case SHARD_MESSAGE_MEMBERSHIP:
        try_membership(message);
        break;
    case SHARD_MESSAGE_FLOORS:
        try_floors(message);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    uint8_t *exact =
        memory_allocate(size_bytes + 1); /* So that a read past its end is found out. */
    if (size_bytes > 0) {
        memcpy(exact, data, size_bytes);
    }
    decode(bytes_make(exact, size_bytes));
    memory_free(exact);
    return 0;
}
