/* SPDX-License-Identifier: Apache-2.0 */
/* Integers are little-endian; docs/formats/replica.md is the same table.
 *
 * Every message
 *   offset  size  meaning
 *        0     1  version of this format, 1
 *        1     1  kind: 1 Raft, 2 piece of a snapshot, 3 reply to a piece, 4 narrow, 5 question about
 *                 membership, 6 answer to it, 7 floors
 *
 * Raft
 *        2     1  kind of Raft's message
 *        3     1  flags: 1 rejected, 2 quiet, 4 transfer
 *        4     4  number of entries
 *        8     8  term
 *       16     8  index
 *       24     8  term at index
 *       32     8  commit index
 *       40     8  last index
 *       48     8  term at last index
 *       56     8  round
 *       64     8  when it was sent, milliseconds of the leader's clock
 *       72     8  mark of an impaired member; 0: none
 *       80        entries, each: 8 term, 4 size of the payload, 4 zero, payload
 *
 * Piece of a snapshot
 *        2     1  flags: 1 last piece
 *        3     1  zero
 *        4     4  number of the piece, from 0
 *        8     8  number of the snapshot
 *       16     4  size of the meta row (piece 0 only)
 *       20     4  number of rows
 *       24     8  zero
 *       32        meta row; rows, each: 4 size of the key, 4 size of the value, key, value
 *
 * Reply to a piece
 *        2     1  state: 0 goes on, 1 installed, 2 refused
 *        3     1  zero
 *        4     4  the piece that is wanted next
 *        8     8  number of the snapshot
 *       16     8  index that the receiver has applied
 *
 * Narrow, question about membership
 *        2     2  zero
 *        4     4  narrow: the first slot behind the shard; else zero
 *        8     8  question: its number, not 0; else zero
 *       16     8  zero
 *
 * Answer: whoever asked does not belong to the group
 *        2     6  zero
 *        8     8  number of the question
 *       16     8  term of the leader
 *       24     8  up to this index all is committed
 *       32        the configuration (raft.md)
 *
 * Floors
 *        2     2  zero
 *        4     4  number of gateways, 1 to 512
 *        8        gateways, each: 8 origin, 8 floor; neither is 0 */
#include "core/shard/shard_message.h"

#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "core/shard/shard.h"

enum { VERSION = 1, MESSAGE_SIZE_BYTES_MIN = SHARD_MESSAGE_SNAPSHOT_REPLY_SIZE_BYTES };
enum { FLAG_REJECTED = 1, FLAG_QUIET = 2, FLAG_TRANSFER = 4 };
enum { FLAG_LAST_PIECE = 1 };
enum { MEMBERSHIP_SIZE_BYTES = 32 };
enum { FLOORS_SIZE_BYTES = 8, FLOOR_SIZE_BYTES = 16 };

int shard__message_kind(struct bytes message, enum shard_message_kind *kind)
{
    if (message.size_bytes < MESSAGE_SIZE_BYTES_MIN) {
        return ERROR_PROTOCOL;
    }
    if (message.data[0] > VERSION) {
        return ERROR_NEWER_FORMAT;
    }
    if (message.data[0] != VERSION || message.data[1] < SHARD_MESSAGE_RAFT ||
        message.data[1] > SHARD_MESSAGE_FLOORS) {
        return ERROR_PROTOCOL;
    }
    *kind = (enum shard_message_kind)message.data[1];
    return 0;
}

/* ---- Raft ------------------------------------------------------------------------------------ */

/* Not what moves entries, or follows from them: that would only come to be rejected. */
bool shard_message_is_urgent(struct bytes first_piece)
{
    ASSERT(first_piece.size_bytes >= MESSAGE_SIZE_BYTES_MIN);
    if (first_piece.data[1] != SHARD_MESSAGE_RAFT) {
        return false;
    }
    switch ((enum raft_message_kind)first_piece.data[2]) {
    case RAFT_MESSAGE_PREVOTE_REQUEST:
    case RAFT_MESSAGE_PREVOTE_REPLY:
    case RAFT_MESSAGE_VOTE_REQUEST:
    case RAFT_MESSAGE_VOTE_REPLY:
    case RAFT_MESSAGE_HEARTBEAT_REQUEST:
    case RAFT_MESSAGE_HEARTBEAT_REPLY:
        return true;
    case RAFT_MESSAGE_APPEND_REQUEST:
    case RAFT_MESSAGE_APPEND_REPLY:
    case RAFT_MESSAGE_TIMEOUT_NOW:
        break;
    }
    return false;
}

void shard__message_encode_raft(const struct raft_message *message,
                                uint8_t target[SHARD_MESSAGE_RAFT_SIZE_BYTES])
{
    memset(target, 0, SHARD_MESSAGE_RAFT_SIZE_BYTES);
    target[0] = VERSION;
    target[1] = SHARD_MESSAGE_RAFT;
    target[2] = (uint8_t)message->kind;
    target[3] = (uint8_t)((message->is_rejected ? FLAG_REJECTED : 0) |
                          (message->is_quiet ? FLAG_QUIET : 0) |
                          (message->is_transfer ? FLAG_TRANSFER : 0));
    endian_put_u32_le(target + 4, message->entry_count);
    endian_put_u64_le(target + 8, message->term);
    endian_put_u64_le(target + 16, message->index);
    endian_put_u64_le(target + 24, message->index_term);
    endian_put_u64_le(target + 32, message->commit_index);
    endian_put_u64_le(target + 40, message->last_index);
    endian_put_u64_le(target + 48, message->last_term);
    endian_put_u64_le(target + 56, message->round);
    endian_put_u64_le(target + 64, message->sent_at_ms);
    endian_put_u64_le(target + 72, message->mark);
}

void shard__message_encode_entry(raft_term term, size_t payload_size_bytes,
                                 uint8_t target[SHARD_MESSAGE_ENTRY_SIZE_BYTES])
{
    ASSERT(payload_size_bytes <= UINT32_MAX);
    endian_put_u64_le(target, term);
    endian_put_u32_le(target + 8, (uint32_t)payload_size_bytes);
    endian_put_u32_le(target + 12, 0);
}

static int decode_entry(struct bytes *rest, struct shard_received *received, uint32_t i)
{
    if (rest->size_bytes < SHARD_MESSAGE_ENTRY_SIZE_BYTES) {
        return ERROR_PROTOCOL;
    }
    struct raft_entry *entry = &received->entries[i];
    uint32_t size = endian_get_u32_le(rest->data + 8);
    if (size > rest->size_bytes - SHARD_MESSAGE_ENTRY_SIZE_BYTES) {
        return ERROR_PROTOCOL;
    }
    entry->term = endian_get_u64_le(rest->data);
    received->payloads[i] = bytes_make(rest->data + SHARD_MESSAGE_ENTRY_SIZE_BYTES, size);
    int status =
        shard__payload_kind(received->payloads[i], &entry->kind, &received->configurations[i]);
    if (status != 0) {
        return status == ERROR_CORRUPT ? ERROR_PROTOCOL : status;
    }
    entry->configuration =
        entry->kind == RAFT_ENTRY_CONFIGURATION ? &received->configurations[i] : NULL;
    uint32_t used = SHARD_MESSAGE_ENTRY_SIZE_BYTES + size;
    *rest = bytes_make(rest->data + used, rest->size_bytes - used);
    return 0;
}

int shard__message_decode_raft(struct bytes bytes, struct shard_received *received)
{
    if (bytes.size_bytes < SHARD_MESSAGE_RAFT_SIZE_BYTES ||
        bytes.data[2] < RAFT_MESSAGE_PREVOTE_REQUEST || bytes.data[2] > RAFT_MESSAGE_TIMEOUT_NOW) {
        return ERROR_PROTOCOL;
    }
    const uint8_t *data = bytes.data;
    struct raft_message *message = &received->message;
    *message = (struct raft_message){
        .kind = (enum raft_message_kind)data[2],
        .is_rejected = (data[3] & FLAG_REJECTED) != 0,
        .is_quiet = (data[3] & FLAG_QUIET) != 0,
        .is_transfer = (data[3] & FLAG_TRANSFER) != 0,
        .entry_count = endian_get_u32_le(data + 4),
        .term = endian_get_u64_le(data + 8),
        .index = endian_get_u64_le(data + 16),
        .index_term = endian_get_u64_le(data + 24),
        .commit_index = endian_get_u64_le(data + 32),
        .last_index = endian_get_u64_le(data + 40),
        .last_term = endian_get_u64_le(data + 48),
        .round = endian_get_u64_le(data + 56),
        .sent_at_ms = endian_get_u64_le(data + 64),
        .mark = endian_get_u64_le(data + 72),
    };
    if (message->entry_count > RAFT_APPEND_ENTRY_COUNT_MAX ||
        (message->entry_count > 0 && message->kind != RAFT_MESSAGE_APPEND_REQUEST)) {
        return ERROR_PROTOCOL;
    }
    struct bytes rest = bytes_make(data + SHARD_MESSAGE_RAFT_SIZE_BYTES,
                                   bytes.size_bytes - SHARD_MESSAGE_RAFT_SIZE_BYTES);
    for (uint32_t i = 0; i < message->entry_count; i++) {
        int status = decode_entry(&rest, received, i);
        if (status != 0) {
            return status;
        }
    }
    return rest.size_bytes == 0 ? 0 : ERROR_PROTOCOL;
}

int shard__payload_kind(struct bytes payload, enum raft_entry_kind *kind,
                        struct raft_configuration *configuration)
{
    if (payload.size_bytes == 0) {
        *kind = RAFT_ENTRY_EMPTY;
        return 0;
    }
    switch (payload.data[0]) {
    case SHARD_PAYLOAD_COMMANDS:
    case SHARD_PAYLOAD_COMMANDS_WITH_IDENTITIES:
        *kind = RAFT_ENTRY_COMMANDS;
        return 0;
    case SHARD_PAYLOAD_CONFIGURATION:
        *kind = RAFT_ENTRY_CONFIGURATION;
        return raft_configuration_decode(configuration,
                                         bytes_make(payload.data + 1, payload.size_bytes - 1));
    default:
        return payload.data[0] > SHARD_PAYLOAD_NEWEST ? ERROR_NEWER_FORMAT : ERROR_CORRUPT;
    }
}

/* ---- Snapshots ------------------------------------------------------------------------------- */

void shard__message_encode_piece(const struct shard_piece *piece,
                                 uint8_t target[SHARD_MESSAGE_PIECE_SIZE_BYTES])
{
    memset(target, 0, SHARD_MESSAGE_PIECE_SIZE_BYTES);
    target[0] = VERSION;
    target[1] = SHARD_MESSAGE_SNAPSHOT_PIECE;
    target[2] = piece->is_last ? FLAG_LAST_PIECE : 0;
    endian_put_u32_le(target + 4, piece->number);
    endian_put_u64_le(target + 8, piece->snapshot);
    endian_put_u32_le(target + 16, (uint32_t)piece->meta.size_bytes);
    endian_put_u32_le(target + 20, piece->row_count);
}

void shard__piece_next_row(struct bytes *rows, struct bytes *key, struct bytes *value)
{
    ASSERT(rows->size_bytes >= SHARD_ROW_HEADER_SIZE_BYTES);
    uint32_t key_size = endian_get_u32_le(rows->data);
    uint32_t value_size = endian_get_u32_le(rows->data + 4);
    size_t used = (size_t)SHARD_ROW_HEADER_SIZE_BYTES + key_size + value_size;
    ASSERT(used <= rows->size_bytes);
    *key = bytes_make(rows->data + SHARD_ROW_HEADER_SIZE_BYTES, key_size);
    *value = bytes_make(key->data + key_size, value_size);
    *rows = bytes_make(rows->data + used, rows->size_bytes - used);
}

static bool rows_are_good(struct bytes rows, uint32_t row_count)
{
    for (uint32_t i = 0; i < row_count; i++) {
        if (rows.size_bytes < SHARD_ROW_HEADER_SIZE_BYTES) {
            return false;
        }
        size_t used = (size_t)SHARD_ROW_HEADER_SIZE_BYTES + endian_get_u32_le(rows.data) +
                      endian_get_u32_le(rows.data + 4);
        if (used > rows.size_bytes) {
            return false;
        }
        rows = bytes_make(rows.data + used, rows.size_bytes - used);
    }
    return rows.size_bytes == 0;
}

int shard__message_decode_piece(struct bytes message, struct shard_piece *piece)
{
    if (message.size_bytes < SHARD_MESSAGE_PIECE_SIZE_BYTES) {
        return ERROR_PROTOCOL;
    }
    const uint8_t *data = message.data;
    size_t left = message.size_bytes - SHARD_MESSAGE_PIECE_SIZE_BYTES;
    uint32_t meta_size = endian_get_u32_le(data + 16);
    struct shard_piece decoded = {
        .is_last = (data[2] & FLAG_LAST_PIECE) != 0,
        .number = endian_get_u32_le(data + 4),
        .snapshot = endian_get_u64_le(data + 8),
        .row_count = endian_get_u32_le(data + 20),
    };
    bool has_meta = meta_size > 0;
    if (decoded.snapshot == 0 || meta_size > left || has_meta != (decoded.number == 0)) {
        return ERROR_PROTOCOL;
    }
    decoded.meta = bytes_make(data + SHARD_MESSAGE_PIECE_SIZE_BYTES, meta_size);
    decoded.rows = bytes_make(decoded.meta.data + meta_size, left - meta_size);
    if (!rows_are_good(decoded.rows, decoded.row_count)) {
        return ERROR_PROTOCOL;
    }
    *piece = decoded;
    return 0;
}

void shard__message_encode_snapshot_reply(const struct shard_snapshot_reply *reply,
                                          uint8_t target[SHARD_MESSAGE_SNAPSHOT_REPLY_SIZE_BYTES])
{
    memset(target, 0, SHARD_MESSAGE_SNAPSHOT_REPLY_SIZE_BYTES);
    target[0] = VERSION;
    target[1] = SHARD_MESSAGE_SNAPSHOT_REPLY;
    target[2] = (uint8_t)reply->state;
    endian_put_u32_le(target + 4, reply->number);
    endian_put_u64_le(target + 8, reply->snapshot);
    endian_put_u64_le(target + 16, reply->index);
}

int shard__message_decode_snapshot_reply(struct bytes message, struct shard_snapshot_reply *reply)
{
    if (message.size_bytes != SHARD_MESSAGE_SNAPSHOT_REPLY_SIZE_BYTES ||
        message.data[2] > SHARD_SNAPSHOT_REFUSED) {
        return ERROR_PROTOCOL;
    }
    *reply = (struct shard_snapshot_reply){
        .state = (enum shard_snapshot_state)message.data[2],
        .number = endian_get_u32_le(message.data + 4),
        .snapshot = endian_get_u64_le(message.data + 8),
        .index = endian_get_u64_le(message.data + 16),
    };
    return 0;
}

/* ---- What is asked besides ------------------------------------------------------------------- */

void shard__message_encode_question(enum shard_message_kind kind,
                                    const struct shard_question *question,
                                    uint8_t target[SHARD_MESSAGE_QUESTION_SIZE_BYTES])
{
    memset(target, 0, SHARD_MESSAGE_QUESTION_SIZE_BYTES);
    target[0] = VERSION;
    target[1] = (uint8_t)kind;
    endian_put_u32_le(target + 4, question->end_slot);
    endian_put_u64_le(target + 8, question->number);
}

int shard__message_decode_question(struct bytes message, struct shard_question *question)
{
    if (message.size_bytes != SHARD_MESSAGE_QUESTION_SIZE_BYTES) {
        return ERROR_PROTOCOL;
    }
    bool is_narrow = message.data[1] == SHARD_MESSAGE_NARROW;
    struct shard_question decoded = {
        .end_slot = endian_get_u32_le(message.data + 4),
        .number = endian_get_u64_le(message.data + 8),
    };
    if ((is_narrow && (decoded.end_slot == 0 || decoded.end_slot > SLOTS_COUNT)) ||
        (!is_narrow && decoded.number == 0)) {
        return ERROR_PROTOCOL;
    }
    *question = decoded;
    return 0;
}

void shard__message_encode_membership(const struct shard_membership *membership,
                                      struct buffer *target)
{
    uint8_t *head = buffer_extend(target, MEMBERSHIP_SIZE_BYTES);
    memset(head, 0, MEMBERSHIP_SIZE_BYTES);
    head[0] = VERSION;
    head[1] = SHARD_MESSAGE_MEMBERSHIP;
    endian_put_u64_le(head + 8, membership->number);
    endian_put_u64_le(head + 16, membership->term);
    endian_put_u64_le(head + 24, membership->index);
    raft_configuration_encode(&membership->members, target);
}

int shard__message_decode_membership(struct bytes message, struct shard_membership *membership)
{
    if (message.size_bytes < MEMBERSHIP_SIZE_BYTES) {
        return ERROR_PROTOCOL;
    }
    struct shard_membership decoded = {
        .number = endian_get_u64_le(message.data + 8),
        .term = endian_get_u64_le(message.data + 16),
        .index = endian_get_u64_le(message.data + 24),
    };
    struct bytes members = bytes_make(message.data + MEMBERSHIP_SIZE_BYTES,
                                      message.size_bytes - MEMBERSHIP_SIZE_BYTES);
    int status = raft_configuration_decode(&decoded.members, members);
    if (status != 0) {
        return status == ERROR_CORRUPT ? ERROR_PROTOCOL : status;
    }
    *membership = decoded;
    return 0;
}

/* ---- What gateways need no more -------------------------------------------------------------- */

void shard__message_encode_floors(const struct shard_floor *floors, uint32_t count,
                                  struct buffer *target)
{
    ASSERT(count > 0 && count <= SHARD_FLOOR_COUNT_MAX);
    uint8_t *place = buffer_extend(target, FLOORS_SIZE_BYTES + (size_t)count * FLOOR_SIZE_BYTES);
    place[0] = VERSION;
    place[1] = SHARD_MESSAGE_FLOORS;
    endian_put_u16_le(place + 2, 0);
    endian_put_u32_le(place + 4, count);
    place += FLOORS_SIZE_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        endian_put_u64_le(place, floors[i].origin);
        endian_put_u64_le(place + 8, floors[i].floor);
        place += FLOOR_SIZE_BYTES;
    }
}

int shard__message_decode_floors(struct bytes message,
                                 struct shard_floor floors[SHARD_FLOOR_COUNT_MAX], uint32_t *count)
{
    if (message.size_bytes < FLOORS_SIZE_BYTES || endian_get_u16_le(message.data + 2) != 0) {
        return ERROR_PROTOCOL;
    }
    uint32_t said = endian_get_u32_le(message.data + 4);
    if (said == 0 || said > SHARD_FLOOR_COUNT_MAX ||
        message.size_bytes != FLOORS_SIZE_BYTES + (size_t)said * FLOOR_SIZE_BYTES) {
        return ERROR_PROTOCOL;
    }
    for (uint32_t i = 0; i < said; i++) {
        const uint8_t *place = message.data + FLOORS_SIZE_BYTES + (size_t)i * FLOOR_SIZE_BYTES;
        floors[i] = (struct shard_floor){endian_get_u64_le(place), endian_get_u64_le(place + 8)};
        if (floors[i].origin == 0 || floors[i].floor == 0) {
            return ERROR_PROTOCOL;
        }
    }
    *count = said;
    return 0;
}
