/* SPDX-License-Identifier: Apache-2.0 */
/* kv: the data types of Redis, as a deterministic state machine over rows. Layer: service.
 *
 * Commands are data: a table with name, arity, flags, key positions and handler. Gateways look a
 * command up, refuse what the table refuses (arity), and submit the rest to the shard that owns its
 * keys; the shard calls the machine that kv_machine() gives. Arguments in a shard_command are those
 * after the command's name. Semantics, reply types and error texts are those of Redis 7.2.
 *
 * Rows (docs/formats/rows.md). A key's hash stands before the key, so that a cursor of SCAN is a
 * number. All begin with 0x10 and the slot:
 *
 *   0x00 | hash BE32 | key                       a key: type, version, expiry, and value or count
 *   0x01 | generation BE64 | hash BE32 | field   a field of a hash
 *   0x02 | expire_ms BE64 | key                  what expires when
 *   0x03 | generation BE64                       fields that nothing refers to any more
 *   0x04 | hash BE32 | key                       a lock: a transaction over several shards holds it
 *   0x05 | identity                              a part of such a transaction, or how it ended
 *   0x06 | identity                              what was decided about one
 *
 * Invariants
 *   I1. A key row's version is that of the command that last changed the key; equal versions mean
 *       an unchanged key (WATCH).
 *   I2. A key has an expiry row exactly when its key row has an expiry, with the same time.
 *   I3. The count in a hash's key row is the number of its field rows; no hash is empty.
 *   I4. A generation is used by one key, or is in the garbage rows, or has no field rows.
 *   I5. The number of keys that the machine saves is the number of key rows.
 *   I6. A key has a lock row exactly when a part that is prepared here names it; one part at most
 *       does. While it is locked nothing changes the key, and its expiry is not seen. */
#ifndef SERVICE_KV_KV_H
#define SERVICE_KV_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "core/shard/shard.h"
#include "core/txn/txn.h"

#define KV_SLOT_COUNT 16384

/* Limits of users' bytes: longer ones are answered with an error. */
#define KV_KEY_SIZE_BYTES_MAX 65535 /* Also of a hash's field. */
#define KV_VALUE_SIZE_BYTES_MAX (512u << 20)

/* Hashes with more fields are a "hashtable" to OBJECT ENCODING, as by Redis's hash-max-listpack-entries. */
#define KV_LISTPACK_FIELD_COUNT_MAX 512

enum kv_flag {
    KV_FLAG_WRITE = 1 << 0, /* Goes through the log. */
    KV_FLAG_READ = 1 << 1,  /* Changes nothing. */
    KV_FLAG_GROWS = 1 << 2, /* May need more space: refused while the disk is full (denyoom). */
    KV_FLAG_FAST = 1 << 3,  /* O(1) or O(log n), as COMMAND INFO says. */
    KV_FLAG_CONNECTION = 1 << 4, /* In the tables of gateways only: never reaches a shard. */
    KV_FLAG_NO_MULTI = 1 << 5,   /* Not inside MULTI. */
    KV_FLAG_NO_AUTH = 1 << 6,    /* Allowed before AUTH. */
    KV_FLAG_INTERNAL = 1 << 7,   /* Not for clients. */
    KV_FLAG_ADMIN = 1 << 8,
    KV_FLAG_MOVABLE_KEYS = 1 << 9,
    KV_FLAG_ANSWERS_VALUE = 1 << 10, /* A write; its answer may be as long as a value. */
};

enum kv_family {
    KV_FAMILY_STRING,
    KV_FAMILY_KEY,
    KV_FAMILY_HASH,
    KV_FAMILY_TRANSACTION,
    KV_FAMILY_CONNECTION,
    KV_FAMILY_SERVER,
};
#define KV_FAMILY_COUNT 6

struct kv_key_range { /* As COMMAND INFO reports; counted with the command's name as 0. */
    int8_t first;     /* 0: no keys. */
    int8_t last;      /* Negative: from the end. */
    int8_t step;
};

struct kv_command {
    const char *name; /* Lower case; subcommands are part of the handler. */
    uint16_t opcode;  /* Stable for ever; 0 in the tables of gateways. */
    int8_t arity;     /* With the name; negative: at least. */
    uint16_t flags;   /* enum kv_flag */
    enum kv_family family;
    struct kv_key_range keys;
    const char *syntax;  /* Arguments, as the documentation writes them. */
    const char *summary; /* One sentence. */
    const char *since;   /* Version of Redis that introduced it. */
    const char *complexity;
};

/* The command of that name in any case, or NULL. Commands of gateways (PING, MULTI, …) are
 * theirs. */
const struct kv_command *kv_command_find(struct bytes name);
/* The commands of clients in order of name: index 0 to kv_command_count() - 1. */
uint32_t kv_command_count(void);
const struct kv_command *kv_command_at(uint32_t index);
const char *kv_family_name(enum kv_family family);

/* How long the value is at least that the command makes of shorter arguments (SETRANGE); else 0, also
 * above KV_VALUE_SIZE_BYTES_MAX, where it refuses what would be its result when it is executed. Gateways
 * refuse what is beyond their limit for values: the machine knows no limit that is not the same on all
 * replicas. */
uint64_t kv_command_made_size_bytes(const struct kv_command *command, const struct bytes *arguments,
                                    uint32_t argument_count);
/* Does `argument_count` (with the name) fit the command's arity? */
bool kv_command_arity_fits(const struct kv_command *command, uint64_t argument_count);

/* Is the command refused whatever its keys hold, for the number of its arguments or the length of a
 * key? Then the error is replied. Who cuts a command into parts asks first: a part sees no more than
 * its own arguments. */
bool kv_command_refuses(const struct kv_command *command, const struct bytes *arguments,
                        uint32_t argument_count, const struct reply *reply);

/* The lowest row that belongs to a slot; slot KV_SLOT_COUNT gives the bound behind the last one. Is
 * written to `target` (KV_SLOT_ROW_SIZE_BYTES). */
#define KV_SLOT_ROW_SIZE_BYTES 3
struct bytes kv_slot_row(uint32_t slot, uint8_t *target);

/* The slot of a key, with hash tags, as in the Redis Cluster specification. */
uint16_t kv_slot_of_key(struct bytes key);

/* ---- Transactions ---------------------------------------------------------------------------- */

/* A gateway that saw WATCH submits kv_versions_command() for the keys and keeps the versions. At
 * EXEC it builds one command from them and the queued commands; the machine compares and executes
 * all or, when a version differs, answers a null array. */
struct kv_transaction;
struct kv_transaction *kv_transaction_create(void);
void kv_transaction_destroy(struct kv_transaction *transaction);
/* Copies everything. `arguments` are those after the name. */
void kv_transaction_watch(struct kv_transaction *transaction, struct bytes key, uint64_t version);
void kv_transaction_add(struct kv_transaction *transaction, const struct kv_command *command,
                        const struct bytes *arguments, uint32_t argument_count);
/* The queued command was one of the gateway's own (PING, ECHO): what it answers, as the protocol of
 * the connection writes it. One reply. */
void kv_transaction_add_answer(struct kv_transaction *transaction, struct bytes answer);
/* Of what is added from now on the client sees no replies: it is over several shards, and they would be
 * those of no command of his. kv_split_join() leaves them out. */
void kv_transaction_end_replies(struct kv_transaction *transaction);
/* Bytes held, for the gateway's limits. */
uint64_t kv_transaction_size_bytes(const struct kv_transaction *transaction);
/* Those of them that are used: what was added. */
uint64_t kv_transaction_used_bytes(const struct kv_transaction *transaction);
/* The command to submit as a write; borrowed from the transaction. `*does_grow`: some part does. */
struct shard_command kv_transaction_command(struct kv_transaction *transaction, bool *does_grow);

/* Visit the keys of such a command's arguments, watched ones and those of its commands, those that are
 * named several times as often. False: they are malformed, or visit() said so. */
MUST_USE bool kv_transaction_visit(const struct bytes *arguments, uint32_t argument_count,
                                   bool (*visit)(void *context, struct bytes key), void *context);

/* The slot where SCAN goes on with this cursor; of what is no cursor: 0, and one behind the last slot is
 * the last. */
uint16_t kv_scan_slot(struct bytes cursor);

/* ---- Transactions over several shards -------------------------------------------------------- */

/* The machine is a participant and a home of core/txn. A part's place is a slot of a key of it; its
 * arguments are those of kv_transaction_command(). */
struct kv_txn_opcodes {
    uint16_t prepare;
    uint16_t decide;
    uint16_t finish;
    uint16_t forget;
};
struct kv_txn_opcodes kv_txn_opcodes(void);

/* May a command be cut when its keys are in several shards? */
bool kv_command_may_be_split(const struct kv_command *command);

/* A transaction cut into parts, one for each group of slots (a shard). -EXDEV: a command has keys in
 * several of them and its effect in one depends on another (RENAME, COPY, MSETNX among others), which
 * kv_evaluate() can help, or it names no keys. Copies all of the transaction, which may go then. */
struct kv_split;
MUST_USE int kv_split_create(struct kv_split **split, struct kv_transaction *transaction,
                             uint32_t (*group_of_slot)(void *context, uint32_t slot),
                             void *context);
void kv_split_destroy(struct kv_split *split);
/* 0: nothing is watched, and each of its commands has no key or is refused; kv_split_join() knows the
 * answer. */
uint32_t kv_split_part_count(const struct kv_split *split);
/* In ascending order of place; borrowed from the split. */
struct txn_part kv_split_part(const struct kv_split *split, uint32_t index);
/* The highest slot of a key of the part; its place is the lowest one. */
uint16_t kv_split_last_slot(const struct kv_split *split, uint32_t index);
/* What a copy of all parts, and what joining needs, take; also when the parts are dropped. */
uint64_t kv_split_size_bytes(const struct kv_split *split);
/* They were copied, and only joining is left: kv_split_part() may not be called any more. */
void kv_split_drop_parts(struct kv_split *split);
/* It is one MSETNX, watching nothing else: that it has committed means 1; TXN_CHANGED means that a key
 * existed, and 0. Beside a WATCH it cannot be cut: nobody could tell which of them has changed. */
bool kv_split_is_only_new(const struct kv_split *split);
/* Write what EXEC answers, or (not `is_array`) what its only command does, from the replies of the
 * parts. False: they are malformed, and nothing is written. */
MUST_USE bool kv_split_join(const struct kv_split *split, const struct bytes *replies,
                            bool is_array, const struct reply *reply);
/* Take one reply off the front of what was written in RESP2 or 3. False: malformed. */
MUST_USE bool kv_reply_take(struct bytes *rest, struct bytes *reply);
/* Take the line of an integer (`kind` ':') or the head of an array ('*'). False: there is none. */
MUST_USE bool kv_reply_take_number(struct bytes *rest, uint8_t kind, int64_t *number);

/* RENAME, RENAMENX and COPY between shards: the gateway reads both keys (kv_content_opcode() with the key
 * and a limit of bytes, in decimal), and has a transaction committed that fails with TXN_CHANGED if
 * they are not any more what was read. */
bool kv_command_moves(const struct kv_command *command);
uint16_t kv_content_opcode(void);
/* Such limits, of a value that goes from shard to shard (reading and writing it takes some milliseconds;
 * 64 bytes are counted for each field of a hash), and where all that matters is whether it is there. */
#define KV_CONTENT_WHOLE BYTES("1048576")
#define KV_CONTENT_NOTHING BYTES("0")
enum { KV_CONTENT_HEAD_SIZE_BYTES_MAX = 64 }; /* What an answer has besides the value. */
struct kv_move_request {
    const struct kv_command *command;
    const struct bytes *arguments; /* Those after the name. */
    uint32_t argument_count;
    struct bytes source; /* What the reads answered. */
    struct bytes target;
};
enum kv_move {
    KV_MOVE_ANSWERED,  /* There is nothing to do: `reply` has the answer. */
    KV_MOVE_COMMIT,    /* `reply` has the answer once the transaction is committed. */
    KV_MOVE_MALFORMED, /* What was read is not what such a read answers; nothing is written. */
};
MUST_USE enum kv_move kv_move_plan(const struct kv_move_request *request,
                                   struct kv_transaction *transaction, const struct reply *reply);

/* Commands of MULTI that depend, in one shard, on what another has: the gateway reads some keys
 * (kv_content_opcode()), and has a transaction committed that fails with TXN_CHANGED if one of them is
 * not any more what was read, or not what the client watched. Then all begins again, as it does when
 * the map of groups has changed. */
struct kv_evaluation;
/* More is refused: it is held, and evaluated where others wait. */
enum {
    KV_EVALUATION_READ_COUNT_MAX = 1024,
    KV_EVALUATION_READ_SIZE_BYTES_MAX = 4 << 20, /* What the keys have, together. */
    KV_EVALUATION_ANSWER_SIZE_BYTES_MAX = 4
                                          << 20, /* Of the commands that are evaluated, together. */
    KV_EVALUATION_WORK_MAX = 16 << 20,           /* See kv_work.h; some 10 to 30 ms. */
};
/* Gives `*evaluation` to the caller; it borrows from the transaction, which must stay as it is, until
 * kv_evaluation_destroy(). -EXDEV: a command names no keys; -E2BIG: too many would have to be read. */
MUST_USE int kv_evaluation_create(struct kv_evaluation **evaluation,
                                  struct kv_transaction *transaction,
                                  uint32_t (*group_of_slot)(void *context, uint32_t slot),
                                  void *context);
void kv_evaluation_destroy(struct kv_evaluation *evaluation);
uint32_t kv_evaluation_read_count(const struct kv_evaluation *evaluation);
/* The two arguments of a read, borrowed; the first is the key. */
const struct bytes *kv_evaluation_read(const struct kv_evaluation *evaluation, uint32_t index);
uint64_t kv_evaluation_size_bytes(const struct kv_evaluation *evaluation);
/* What evaluating took, in units of a byte that is read or written. */
uint64_t kv_evaluation_work(const struct kv_evaluation *evaluation);

struct kv_evaluate {
    const struct bytes *contents; /* What the reads answered. */
    uint64_t time_ms;             /* Now, since 1970. */
    uint8_t protocol;
    struct kv_transaction *planned; /* Gets it all; use it only when that is what comes out. */
};
enum kv_evaluated {
    KV_EVALUATED_COMMIT,  /* `planned`, which kv_split_create() cuts and kv_split_join() answers. */
    KV_EVALUATED_CHANGED, /* A key that the client watched. */
    KV_EVALUATED_TOO_LARGE, /* What was read, what became of it, or the work of it. */
    KV_EVALUATED_MALFORMED, /* What was read is not what such a read answers. */
};
MUST_USE enum kv_evaluated kv_evaluate(struct kv_evaluation *evaluation,
                                       const struct kv_evaluate *given);

/* Tell what is prepared, or committed and not finished, and was already there at a visit so long ago,
 * or longer. `now_ms` is of a clock that does not jump: stamps of the log may be ahead of a wall clock
 * that was set back, and then they would be young for as long. On the shard's thread; the leader's
 * business. False: found() had no room; the next visit begins with what it did not take. */
struct kv;
struct kv_visit {
    uint64_t now_ms;
    uint32_t age_ms;
    /* As txn_recover(). */
    bool (*found)(void *context, const struct txn_unfinished *unfinished);
    void *context;
};
bool kv_visit_unfinished(struct kv *kv, const struct kv_visit *visit);

/* The same for so many shards; `machine()` gives NULL for one that is to be left out. `*next`, at first
 * 0, is the shard that the next visit begins with: the one behind the first for which there was no room,
 * so that what cannot be finished in one does not stand in the way of all others. */
void kv_visit_unfinished_of_all(struct kv *(*machine)(void *context, uint32_t index),
                                uint32_t count, uint32_t *next, const struct kv_visit *visit);

/* An internal read that answers nothing but the versions, 8 bytes little-endian each (0: no key).
 * An answer of any other size is an error, for the client. */
uint16_t kv_versions_opcode(void);

/* What a leader puts in the place of a command that it does not have executed (kv_limit_load()). Its argument
 * is the answer. */
uint16_t kv_answer_opcode(void);

/* ---- Slots ----------------------------------------------------------------------------------- */

/* Internal reads. The first argument is the slot, in decimal: the integer of its keys; and (with a
 * second one, how many at most) an array of them. */
uint16_t kv_slot_count_opcode(void);
uint16_t kv_slot_keys_opcode(void);

/* ---- The machine ----------------------------------------------------------------------------- */

struct kv;
struct kv *kv_create(void); /* For all slots. */
/* For a shard that has the slots from `first_slot` to before `end_slot`. Walks over all keys (SCAN,
 * KEYS, RANDOMKEY, DBSIZE, FLUSHALL, the work in the background) stay within them: rows of other
 * slots are those of other shards, though they are in the same store. A cursor of SCAN that comes to
 * the end of the range is the first one of the slot behind it. */
struct kv *kv_create_range(uint32_t first_slot, uint32_t end_slot);
/* Answer no command with more, but with an error; nor any of those of EXEC that would make its answer
 * longer, whose effects are not touched. Without it the answer of a short EXEC may take all memory, again
 * in each replay and on each replica. Before any command. */
void kv_limit_answers(struct kv *kv, uint64_t size_bytes);
/* As leader, execute no command of a client, EXEC included, that loads more of values at once, or makes more
 * of short arguments, as far as that is known before: it is answered an error, and nothing is done. Parts of
 * transactions over several shards are executed all the same. Without it no limit. Before any command. */
void kv_limit_load(struct kv *kv, uint64_t size_bytes);
void kv_destroy(struct kv *kv);
/* The machine for shard_open(); borrows `kv`. */
struct shard_machine kv_machine(struct kv *kv);

/* The shard shall become two (decision 18): `child` gets the slots from `first_slot` on. Not replicated,
 * and forgotten with the leadership; so it is told again and again, to whichever replica. Nothing happens
 * unless both would keep some slots; the newest wish counts. Then background() of the leader counts
 * what the child will have, a little at a time, has what would be prepared wait (2 s at most, and again
 * later), and gives SHARD_OPCODE_SPLIT. */
void kv_want_split(struct kv *kv, uint32_t first_slot, uint32_t child);
/* Is there such a wish, not carried out yet? */
bool kv_wants_split(const struct kv *kv);

struct kv_statistics {
    uint64_t key_count; /* Expired ones that are not removed yet included, as in Redis. */
    uint64_t expiring_key_count;
    uint64_t expired_key_count; /* Removed because they expired, since the start. */
    /* Keys that reads of clients looked up here since the start, and were there; were not. Not those of
     * commands of the log: EXEC, writes, and reads of what has just expired. */
    uint64_t hit_count;
    uint64_t miss_count;
    uint64_t locked_key_count; /* Held by transactions over several shards. */
    uint64_t record_count;     /* What is remembered of such transactions: rows. */
    uint64_t unfinished_count;
};
void kv_get_statistics(const struct kv *kv, struct kv_statistics *statistics);

/* Verify every row of `store`, of all shards, against I2 to I6; for `tutti check` and the simulator.
 * ERROR_CORRUPT
 * with what is wrong. */
MUST_USE int kv_verify(struct env_store store, const struct env_store_snapshot *snapshot,
                       uint64_t expected_key_count, struct error *error);

/* Are what the machine counts, and what a census of it has, the rows of its slots? The store has all that
 * it executed. ERROR_CORRUPT with what is wrong. */
MUST_USE int kv_verify_counts(const struct kv *kv, struct env_store store,
                              const struct env_store_snapshot *snapshot, struct error *error);

#endif
