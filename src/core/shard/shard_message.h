/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the replicas of a shard, as bytes; docs/formats/replica.md. What comes from
 * another node is validated here, and nothing of it is believed before. */
#ifndef CORE_SHARD_SHARD_MESSAGE_H
#define CORE_SHARD_SHARD_MESSAGE_H

#include "base/bytes/bytes.h"
#include "core/raft/raft.h"

enum shard_message_kind {
    SHARD_MESSAGE_RAFT = 1,
    SHARD_MESSAGE_SNAPSHOT_PIECE = 2,
    SHARD_MESSAGE_SNAPSHOT_REPLY = 3,
};

/* ERROR_PROTOCOL; ERROR_NEWER_FORMAT. */
MUST_USE int shard__message_kind(struct bytes message, enum shard_message_kind *kind);

/* ---- Raft ------------------------------------------------------------------------------------ */

#define SHARD_MESSAGE_RAFT_SIZE_BYTES 80u
#define SHARD_MESSAGE_ENTRY_SIZE_BYTES 16u

void shard__message_encode_raft(const struct raft_message *message,
                                uint8_t target[SHARD_MESSAGE_RAFT_SIZE_BYTES]);
/* Stands before the payload of each entry. */
void shard__message_encode_entry(raft_term term, size_t payload_size_bytes,
                                 uint8_t target[SHARD_MESSAGE_ENTRY_SIZE_BYTES]);

/* A Raft message with its entries; payloads are borrowed from the bytes. Large. */
struct shard_received {
    struct raft_message message;
    struct raft_entry entries[RAFT_APPEND_ENTRY_COUNT_MAX];
    struct bytes payloads[RAFT_APPEND_ENTRY_COUNT_MAX];
    struct raft_configuration configurations[RAFT_APPEND_ENTRY_COUNT_MAX];
};
/* `from` and `to` stay as they are. */
MUST_USE int shard__message_decode_raft(struct bytes message, struct shard_received *received);

/* ---- The payload of an entry, by its first byte ---------------------------------------------- */

enum {
    SHARD_PAYLOAD_COMMANDS = 1,
    SHARD_PAYLOAD_COMMANDS_WITH_IDENTITIES = 2,
    SHARD_PAYLOAD_CONFIGURATION = 3,
    SHARD_PAYLOAD_NEWEST = SHARD_PAYLOAD_CONFIGURATION,
};
/* ERROR_CORRUPT; ERROR_NEWER_FORMAT. Only of a RAFT_ENTRY_CONFIGURATION is all of it looked at. */
MUST_USE int shard__payload_kind(struct bytes payload, enum raft_entry_kind *kind,
                                 struct raft_configuration *configuration);

/* ---- Snapshots ------------------------------------------------------------------------------- */

#define SHARD_MESSAGE_PIECE_SIZE_BYTES 32u

/* A piece of a snapshot: the first one has the meta row, all have rows. */
struct shard_piece {
    uint64_t snapshot; /* A number for this attempt, not 0. */
    uint32_t number;   /* From 0. */
    bool is_last;
    struct bytes meta; /* Only of number 0. */
    uint32_t row_count;
    struct bytes rows; /* Each: key size (4), value size (4), key, value. */
};
void shard__message_encode_piece(const struct shard_piece *piece,
                                 uint8_t target[SHARD_MESSAGE_PIECE_SIZE_BYTES]);
MUST_USE int shard__message_decode_piece(struct bytes message, struct shard_piece *piece);

#define SHARD_ROW_HEADER_SIZE_BYTES 8u
/* Take the next row off `rows`. Pieces that were decoded have only good ones. */
void shard__piece_next_row(struct bytes *rows, struct bytes *key, struct bytes *value);

enum shard_snapshot_state {
    SHARD_SNAPSHOT_GOES_ON = 0, /* Send piece `number`. */
    SHARD_SNAPSHOT_INSTALLED = 1,
    SHARD_SNAPSHOT_REFUSED = 2, /* It does not want it, or has lost its place: begin anew. */
};
#define SHARD_MESSAGE_SNAPSHOT_REPLY_SIZE_BYTES 24u
struct shard_snapshot_reply {
    uint64_t snapshot;
    uint32_t number;
    enum shard_snapshot_state state;
    raft_index index; /* Installed: where the receiver is now. */
};
void shard__message_encode_snapshot_reply(const struct shard_snapshot_reply *reply,
                                          uint8_t target[SHARD_MESSAGE_SNAPSHOT_REPLY_SIZE_BYTES]);
MUST_USE int shard__message_decode_snapshot_reply(struct bytes message,
                                                  struct shard_snapshot_reply *reply);

#endif
