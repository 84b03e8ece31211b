/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the replicas of a shard, as bytes; docs/formats/replica.md. What comes from
 * another node is validated here, and nothing of it is believed before. */
#ifndef CORE_SHARD_SHARD_MESSAGE_H
#define CORE_SHARD_SHARD_MESSAGE_H

#include "base/bytes/bytes.h"
#include "core/raft/raft.h"
#include "core/shard/shard.h"

enum shard_message_kind {
    SHARD_MESSAGE_RAFT = 1,
    SHARD_MESSAGE_SNAPSHOT_PIECE = 2,
    SHARD_MESSAGE_SNAPSHOT_REPLY = 3,
    SHARD_MESSAGE_NARROW = 4,     /* To a leader: nothing is taken from before a split. */
    SHARD_MESSAGE_QUESTION = 5,   /* To anybody: does the sender belong to the group? */
    SHARD_MESSAGE_MEMBERSHIP = 6, /* The answer: no. */
    SHARD_MESSAGE_FLOORS = 7,     /* From a leader: what gateways need no more. */
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

/* ---- What is asked besides (shard_ask.c) ----------------------------------------------------- */

#define SHARD_MESSAGE_QUESTION_SIZE_BYTES 24u
/* SHARD_MESSAGE_NARROW, SHARD_MESSAGE_QUESTION. */
struct shard_question {
    uint32_t end_slot; /* Narrow: where the shard ends, 1 to SLOTS_COUNT. */
    uint64_t number;   /* Question: its name, not 0. */
};
void shard__message_encode_question(enum shard_message_kind kind,
                                    const struct shard_question *question,
                                    uint8_t target[SHARD_MESSAGE_QUESTION_SIZE_BYTES]);
MUST_USE int shard__message_decode_question(struct bytes message, struct shard_question *question);

/* These are the members, and all entries up to `index` are committed, as a leader of that term knows,
 * who was confirmed after the question came. */
struct shard_membership {
    uint64_t number; /* Of the question. */
    raft_term term;
    raft_index index;
    struct raft_configuration members;
};
/* Appends. */
void shard__message_encode_membership(const struct shard_membership *membership,
                                      struct buffer *target);
MUST_USE int shard__message_decode_membership(struct bytes message,
                                              struct shard_membership *membership);

/* ---- What gateways need no more (shard_floor.c) ---------------------------------------------- */

#define SHARD_FLOOR_COUNT_MAX 512u
/* One at least. Appends. */
void shard__message_encode_floors(const struct shard_floor *floors, uint32_t count,
                                  struct buffer *target);
MUST_USE int shard__message_decode_floors(struct bytes message,
                                          struct shard_floor floors[SHARD_FLOOR_COUNT_MAX],
                                          uint32_t *count);

#endif
