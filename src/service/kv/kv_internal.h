/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of kv share: a command being executed, keys and values of rows, and the few
 * functions that change keys, where the invariants I1 to I5 of kv.h are kept. */
#ifndef SERVICE_KV_KV_INTERNAL_H
#define SERVICE_KV_KV_INTERNAL_H

#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "service/kv/kv.h"
#include "service/kv/kv_slot_set.h"

#define KV_SPACE 0x10

enum kv_row_kind {
    KV_ROW_KEY = 0x00,
    KV_ROW_FIELD = 0x01,
    KV_ROW_EXPIRY = 0x02,
    KV_ROW_GARBAGE = 0x03,
    KV_ROW_LOCK = 0x04, /* These three: kv_record.h. */
    KV_ROW_RECORD = 0x05,
    KV_ROW_DECISION = 0x06,
};

enum {
    KV_ROW_PREFIX_SIZE_BYTES = 4, /* Space, slot, kind. */
    KV_KEY_ROW_PREFIX_SIZE_BYTES = 8,
    KV_EXPIRY_ROW_PREFIX_SIZE_BYTES = 12,
    KV_FIELD_ROW_PREFIX_SIZE_BYTES = 16,
    KV_GARBAGE_ROW_SIZE_BYTES = 12,
    KV_RECORD_ROW_SIZE_BYTES = 28,
    /* A scratch buffer above this is given back once the command is done. */
    KV_SCRATCH_KEEP_BYTES = 1 << 20,
};

/* ---- Keys and their rows --------------------------------------------------------------------- */

/* A key with the name of its row. 64 KiB on the stack, of which a short key touches one page. */
struct kv_key {
    struct bytes name; /* Borrowed from the command, or points into `row_bytes`. */
    uint16_t slot;
    uint32_t hash;
    struct bytes row; /* Points into `row_bytes`. */
    uint8_t row_bytes[KV_KEY_ROW_PREFIX_SIZE_BYTES + KV_KEY_SIZE_BYTES_MAX];
};

/* `name` is at most KV_KEY_SIZE_BYTES_MAX long. */
void kv__key_init(struct kv_key *key, struct bytes name);

/* What stands between a key's slot and its name; SCAN's cursors are made of the same. */
uint32_t kv__hash(struct bytes bytes);

/* Write `space | slot | kind` (KV_ROW_PREFIX_SIZE_BYTES) at `target`. With kind 0 it is the lowest
 * row of the slot; slot KV_SLOT_COUNT gives the bound behind the last one. */
void kv__row_prefix(uint8_t *target, uint32_t slot, enum kv_row_kind kind);

/* The bounds of all rows of the shard; KV_ROW_PREFIX_SIZE_BYTES each. */
void kv__row_bounds(const struct kv *kv, uint8_t *lower, uint8_t *upper);

/* The row of a garbage entry; `target` has KV_GARBAGE_ROW_SIZE_BYTES. */
struct bytes kv__garbage_row(uint8_t *target, uint16_t slot, uint64_t generation);

/* The parts of a row of the space. False: `row` is none that kv writes. */
struct kv_row_name {
    uint16_t slot;
    enum kv_row_kind kind;
    uint64_t number;   /* Hash, generation or time, by kind. */
    uint32_t hash;     /* Of key or field. */
    struct bytes name; /* Key or field; borrowed from the row. */
};
MUST_USE bool kv__row_parse(struct bytes row, struct kv_row_name *name);

/* ---- Values of key rows ---------------------------------------------------------------------- */

enum kv_type {
    KV_TYPE_NONE = 0, /* No such key. */
    KV_TYPE_STRING = 1,
    KV_TYPE_HASH = 2,
};

struct kv_value {
    enum kv_type type;
    uint64_t version;
    uint64_t expire_ms;  /* 0: never. */
    struct bytes data;   /* Of a string; borrowed from the rows until their next call. */
    uint64_t count;      /* Of a hash: its fields, at least 1. */
    uint64_t generation; /* Of a hash: names its field rows. */
};

/* ERROR_CORRUPT when `row` is no value that kv writes. */
MUST_USE int kv__value_decode(struct bytes row, struct kv_value *value);
/* Replace the content of `row`. `value->type` is not NONE. */
void kv__value_encode(struct buffer *row, const struct kv_value *value);

/* ---- A command being executed ---------------------------------------------------------------- */

struct kv_call {
    struct kv *kv; /* Read-only unless is_execute; a read may be on another thread. */
    struct rows *rows;
    const struct reply *reply;
    const struct kv__entry *entry;
    const struct bytes *arguments; /* Without the name. */
    uint32_t argument_count;
    bool is_execute;           /* Of the log: may change rows. Else a read: changes nothing. */
    uint64_t time_ms;          /* Now. Nothing else tells the time. */
    uint64_t durable_time_ms;  /* What expired by then is gone for everybody; at most time_ms. */
    uint64_t version;          /* When is_execute: of this command. */
    uint64_t *load_size_bytes; /* Of a prefetch: what was found of values is added. */
    /* Of a command that only replaces a key: what the log remembers that it found, and where it says
     * what it finds, or NULL. */
    uint8_t known; /* enum kv_found, or of a newer release */
    uint8_t *found;
    /* Of a read: keys that were looked up and are there; that are not. */
    uint32_t hit_count;
    uint32_t miss_count;
};

/* What a command found that replaces a key whatever that is: of shard_stamp, and written to files, so
 * these stay the same for ever. */
enum kv_found {
    KV_FOUND_UNKNOWN = 0,
    KV_FOUND_NOTHING = 1,
    KV_FOUND_STRING = 2, /* That does not expire. */
};

/* A handler answers exactly once and returns 0, or answers nothing that counts and returns a status
 * (of rows, or ERROR_EXPIRED_SEEN), which ends the command. It validates before it changes
 * anything. Handlers of commands that only read are called with and without is_execute. */
typedef int kv__handler(struct kv_call *call);

struct kv__entry {
    struct kv_command command;
    kv__handler *execute;
    /* Read what execute() will read, beyond the rows of the command's keys; or NULL. Answers
     * nothing and changes nothing. */
    kv__handler *prefetch;
};

/* The tables, each in a file of its own; kv_table.c makes the indexes over them. */
struct kv__table {
    const struct kv__entry *entries;
    uint32_t entry_count;
};
extern const struct kv__table kv__string_table;
extern const struct kv__table kv__key_table;
extern const struct kv__table kv__hash_table;
extern const struct kv__table kv__internal_table;

/* Names are in lower case. */
bool kv__is_named(const struct kv_command *command, const char *name);
bool kv__is_one_of(const struct kv_command *command, const char *const *names, uint32_t count);

typedef bool kv__key_visitor(void *context, struct bytes name); /* False: no more. */
/* The keys that the call's command names, but for those that are too long. False: not all were
 * visited. */
bool kv__keys_visit(const struct kv_call *call, kv__key_visitor *visit, void *context);

/* Opcodes of commands that no client sends. Stable for ever. */
enum {
    KV_OPCODE_TRANSACTION = 1000,
    KV_OPCODE_VERSIONS = 1001,
    KV_OPCODE_EXPIRE_SWEEP = 1002,
    KV_OPCODE_COLLECT_GARBAGE = 1003,
    KV_OPCODE_ANSWER = 1004,
    KV_OPCODE_SLOT_COUNT = 1005,
    KV_OPCODE_SLOT_KEYS = 1006,
    KV_OPCODE_PREPARE = 1007,
    KV_OPCODE_DECIDE = 1008,
    KV_OPCODE_FINISH = 1009,
    KV_OPCODE_FORGET = 1010,
    /* 1011 had other arguments, before any release. */
    KV_OPCODE_CONTENT = 1012,
    KV_OPCODE_FORGET_OLD = 1013,
    KV_OPCODE_CENSUS = 1014,
    KV_OPCODE_COUNT = 1024, /* All are below. */
};

/* NULL when there is none. */
const struct kv__entry *kv__entry_of_opcode(uint16_t opcode);

/* Read the rows that a command will read. ERROR_INCOMPLETE when some are not in memory. The call
 * has no reply, time or version. */
MUST_USE int kv__prefetch(struct kv_call *call);

/* Of a prefetch: executing the command will read, or make, so much of values. */
static inline void kv__note_load(const struct kv_call *call, uint64_t size_bytes)
{
    ASSERT(call->load_size_bytes != NULL);
    *call->load_size_bytes += size_bytes;
}

/* Run one command (also each one inside EXEC): its arity and key sizes are checked first. */
MUST_USE int kv__dispatch(struct kv_call *call);

/* ---- Looking at keys ------------------------------------------------------------------------- */

/* The value of a key as of now; `value->type` is KV_TYPE_NONE when there is no such key. In a
 * command of the log an expired key is removed on the way, so that a handler never sees one; in a
 * read it is ERROR_EXPIRED_SEEN unless its removal is durable, and the handler returns that. Ends
 * what the rows lent before. */
MUST_USE int kv__key_lookup(struct kv_call *call, const struct kv_key *key, struct kv_value *value);
/* The same without `value->data`, which is empty: for who does not need it, because a replica that does
 * not lead would have to read it from the store. */
MUST_USE int kv__key_lookup_head(struct kv_call *call, const struct kv_key *key,
                                 struct kv_value *value);

/* For handlers that iterate: has a key with this value expired? 1, 0, or ERROR_EXPIRED_SEEN. In a
 * command of the log, skip what has expired; the sweep removes it. */
MUST_USE int kv__value_is_expired(const struct kv_call *call, const struct kv_value *value);

/* Is there a value of another type? Then WRONGTYPE is answered. */
MUST_USE bool kv__is_wrong_type(struct kv_call *call, const struct kv_value *value,
                                enum kv_type type);

/* Look the first argument up as a key of that type, or none. 0: go on. 1: WRONGTYPE is answered.
 * Else a status of kv__key_lookup(). */
MUST_USE int kv__typed_lookup(struct kv_call *call, enum kv_type type, struct kv_key *key,
                              struct kv_value *value);

/* What a handler returns when kv__typed_lookup() did not give 0. */
static inline int kv__ended(int status)
{
    return status < 0 ? status : 0;
}

/* ---- Changing keys (commands of the log only) ------------------------------------------------ */

/* Replace `before` (as looked up in this command) by `after`, of the version of the command: the
 * key row, the expiry row, the garbage of a hash that is gone, the counts. `after` of type NONE
 * deletes; `after->version` is ignored. What `after->data` points to may be borrowed from the
 * rows. */
void kv__key_write(struct kv_call *call, const struct kv_key *key, const struct kv_value *before,
                   const struct kv_value *after);
void kv__key_delete(struct kv_call *call, const struct kv_key *key, const struct kv_value *before);

/* A generation that no hash has or had; deterministic. */
uint64_t kv__generation_next(struct kv_call *call);

/* ---- Answers and arguments ------------------------------------------------------------------- */

void kv__reply_syntax_error(struct kv_call *call);
void kv__reply_not_integer(struct kv_call *call);
void kv__reply_arity_error(struct kv_call *call, const char *name);

/* "ERR value is not an integer or out of range" is answered when false. */
MUST_USE bool kv__parse_integer(struct kv_call *call, struct bytes text, int64_t *value);

static inline bool kv__is_word(struct bytes argument, const char *word)
{
    return bytes_equal_ignoring_case(argument, bytes_of_text(word));
}

/* The unit of a time that a client gives. */
struct kv__expiry_unit {
    bool is_seconds;  /* Else milliseconds. */
    bool is_relative; /* From now; else since 1970. */
};

/* The time after EX, PX, EXAT, PXAT: above 0. False: the error is answered. */
MUST_USE bool kv__parse_expiry(struct kv_call *call, struct bytes text, struct kv__expiry_unit unit,
                               uint64_t *expire_ms);

/* What relative times start from: the stamp of the log. */
uint64_t kv__stamp_ms(const struct kv_call *call);

/* INCRBYFLOAT and HINCRBYFLOAT: parse both, add, format. False: the error is answered. `text` has
 * NUMBER_DOUBLE_SIZE_MAX bytes. */
MUST_USE bool kv__add_float(struct kv_call *call, struct bytes value, struct bytes increment,
                            char *text, size_t *text_size_bytes, const char *value_error);

/* Unsigned integers in the arguments of internal commands, little-endian. False: malformed. */
MUST_USE bool kv__argument_u64(struct bytes argument, uint64_t *value);

/* ---- The machine's own state ----------------------------------------------------------------- */

/* How many slots a step of the collection of garbage looks at, at most. */
enum { KV_COLLECT_SLOT_COUNT = 16 };

/* The limit of keys and the slots of one sweep: together, because each command costs a flush. */
#define KV_SWEEP_ARGUMENT_COUNT_MAX 257

/* Forgetting (kv_forget.c): a pass begins so long after the one before it; many rows of a slot are
 * then due together. What one command looks at, and in how many lists: it is a pause for the shard. */
enum {
    KV_FORGET_DELAY_MS = 5000,
    KV_FORGET_ROW_COUNT = 512,
    KV_FORGET_LIST_COUNT = 16,
};

enum { KV_HINT_GROUP_SLOT_COUNT = 64, KV_HINT_GROUP_COUNT = KV_SLOT_COUNT / 64 };

/* A set of keys, each so many times: kv_lock.h. */
struct kv__key_set {
    struct kv__key_place {
        uint64_t hash; /* 0: free. */
        uint32_t times;
    } * places;
    uint32_t capacity; /* 0 or a power of two, at least twice the count. */
    uint32_t count;
};

/* A part that is prepared, or a commit that not all have finished. */
struct kv__unfinished {
    struct txn_id id;
    uint32_t place;
    uint32_t home;
    bool is_decision;
    bool was_seen;       /* By kv_visit_unfinished(), */
    uint64_t seen_at_ms; /* then for the first time. */
    uint32_t *places;    /* Of the participants; of a decision. */
    uint32_t place_count;
};

/* What the machine counts (kv_census.h). */
struct kv__counts {
    uint64_t key_count;
    uint64_t expiring_key_count;
    uint64_t garbage_count; /* Garbage rows. */
    uint64_t record_count;  /* Records and decisions of transactions over several shards. */
};

/* How much of it is in a part of the slots. */
struct kv__census {
    uint32_t first_slot; /* 0: there is no census. */
    uint32_t next_slot;  /* Those before it are counted. */
    struct kv__counts counts;
};

/* A split that somebody wishes, and how far the leader is with it (kv_range.h). */
struct kv__wish {
    uint32_t first_slot; /* Of the child; 0: there is no wish. */
    uint32_t child;
    bool is_holding;        /* What would be prepared waits. */
    uint64_t hold_began_ms; /* Since then. */
    uint64_t clock_ms;      /* Of the leader, while it wishes; */
    uint64_t seen_ms;       /* and the time of the log when it was last looked at. */
    uint64_t asked_ms;      /* After so long it wanted to be looked at again. */
    uint64_t not_before_ms; /* The next step. */
    uint64_t delay_ms;      /* How long before that it was set. */
    bool was_last;          /* Its step was what background() gave last. */
    uint8_t numbers[12];    /* Its arguments. */
    struct bytes arguments[2];
};

/* Of this replica alone: it says what background() asks for, never what a command does. A *list* is
 * the records of a slot, or its decisions. */
struct kv__forgetting {
    /* For each list of the range: no row before this one may go some day, as it is. NULL until there
     * is a row. */
    struct txn_id *firsts;
    uint32_t next_list; /* Where the pass goes on. */
    uint64_t not_before_ms;
    bool was_last; /* The other work in the background comes first now. */
    uint8_t limit[8];
    uint8_t rows[KV_FORGET_LIST_COUNT][KV_RECORD_ROW_SIZE_BYTES];
    struct bytes arguments[1 + KV_FORGET_LIST_COUNT];
};

/* When something of a slot is due: never after the true time of the first expiry row, and before it
 * only until the next sweep. UINT64_MAX: nothing expires. */
struct kv__due {
    uint64_t group_ms[KV_HINT_GROUP_COUNT]; /* The least of each 64 slots. */
    uint64_t
        *slots_ms[KV_HINT_GROUP_COUNT]; /* Of each 64 slots; NULL: none of them has anything. */
    /* Arguments of what background() gave. */
    uint8_t numbers[KV_SWEEP_ARGUMENT_COUNT_MAX][8];
    struct bytes arguments[KV_SWEEP_ARGUMENT_COUNT_MAX];
    uint32_t argument_count;
};

struct kv {
    uint32_t first_slot; /* The range of the shard: relaxed atomics. */
    uint32_t end_slot;

    /* Saved with the applied index: part of the replicated state. */
    uint64_t key_count;
    uint64_t expiring_key_count;
    uint64_t generation_last; /* The newest generation that was given. */
    uint64_t garbage_count;   /* Garbage rows. */
    uint64_t record_count;    /* Records and decisions of transactions over several shards. */
    struct kv__census census;

    /* Memory only. */
    uint64_t answer_size_bytes_max;
    uint64_t load_size_bytes_max;
    uint64_t expired_key_count;
    uint64_t hit_count; /* Of what clients read: relaxed atomics. */
    uint64_t miss_count;
    uint64_t read_count;   /* Counted for a planted bug only. */
    uint64_t random_count; /* How often chance was asked; relaxed atomic. */
    struct buffer part;    /* The part being finished. */
    struct buffer row;     /* The value of a row being written. */
    struct buffer work;    /* A handler's own, while is_execute. */

    struct kv__due *due; /* NULL: nothing expires. */

    /* Garbage (kv_garbage.c): hashes that the command being executed discards; a bit for each slot
     * that may have garbage rows; where and when the collection goes on; its arguments. */
    struct buffer discards;
    struct kv__slot_set garbage_hints;
    uint32_t garbage_next_slot;
    uint64_t garbage_not_before_ms;
    uint8_t garbage_numbers[1 + KV_COLLECT_SLOT_COUNT][8];
    struct bytes garbage_arguments[1 + KV_COLLECT_SLOT_COUNT];

    /* Transactions over several shards (kv_record.c, kv_forget.c, kv_lock.c): what the rows say;
     * the keys of what is in the log and not applied, and of what waits. A bit for each slot that may
     * have records. */
    struct kv__key_set locks;
    struct kv__key_set intents;
    struct kv__key_set awaited;   /* Keys of the commands that wait, */
    uint32_t awaited_flush_count; /* those of them that wait for all keys, */
    uint64_t awaited_size_bytes;  /* and the size of those that are PREPAREs. */
    bool has_ever_locked;         /* In this life; relaxed atomic. */
    struct kv__unfinished *unfinished;
    uint32_t unfinished_count;
    uint32_t unfinished_capacity;
    uint32_t unfinished_next; /* Where the next visit begins. */
    struct kv__slot_set record_hints;
    struct kv__forgetting forgetting;

    struct kv__wish wish;
};

/* The range, for what may run on another thread. */
static inline uint32_t kv__first_slot(const struct kv *kv)
{
    return __atomic_load_n(&kv->first_slot, __ATOMIC_RELAXED);
}

static inline uint32_t kv__end_slot(const struct kv *kv)
{
    return __atomic_load_n(&kv->end_slot, __ATOMIC_RELAXED);
}

/* The sweep of expired keys (kv_expire.c). */
void kv__sweep_hint(struct kv *kv, uint16_t slot, uint64_t expire_ms); /* Lowers it. */
uint64_t kv__sweep_hint_of(const struct kv *kv, uint32_t slot);
void kv__sweep_hints_reset(struct kv *kv); /* Nothing expires; gives the memory back. */
void kv__sweep_hints_cut(struct kv *kv);   /* Those behind the range. */
MUST_USE int kv__sweep_hints_load(struct kv *kv, struct rows *rows, struct error *error);
bool kv__sweep_background(struct kv *kv, uint64_t time_ms, struct shard_command *command,
                          uint64_t *delay_ms);
kv__handler kv__execute_sweep;

/* EXEC and the versions that WATCH keeps (kv_transaction.c). */
kv__handler kv__execute_transaction;
kv__handler kv__prefetch_transaction;
kv__handler kv__execute_versions;
kv__handler kv__execute_answer;

/* How much is in the slots of a child to be (kv_census.c). */
kv__handler kv__execute_census;

/* Keys that go to another shard (kv_move.c). */
kv__handler kv__execute_content;
/* The words behind the keys of COPY (kv_key.c). False: the error is answered. */
bool kv__copy_options(struct kv_call *call, bool *does_replace);

/* Transactions over several shards (kv_participant.c, kv_record.c, kv_forget.c, kv_lock.c). */
kv__handler kv__execute_prepare, kv__execute_decide, kv__execute_finish, kv__execute_forget;
kv__handler kv__execute_forget_old;
kv__handler kv__prefetch_prepare, kv__prefetch_finish, kv__prefetch_decision;
bool kv__must_wait(void *context, const struct shard_command *command);
void kv__gathered(void *context, const struct shard_command *command);
void kv__waits(void *context, const struct shard_command *command);
int32_t kv__slot_of(void *context, const struct shard_command *command, uint64_t lot);
bool kv__declines(void *context, const struct shard_command *command, const struct reply *reply);

/* Copy the field rows of a hash to another generation, in the same slot or another (kv_key.c). */
struct kv__fields_copy {
    uint16_t source_slot;
    uint16_t target_slot;
    uint64_t source_generation;
    uint64_t target_generation; /* Has no field rows yet. */
};
MUST_USE int kv__fields_copy(struct kv_call *call, const struct kv__fields_copy *copy);

const char *kv__type_name(enum kv_type type);

/* ---- Handlers, by the file that has them ----------------------------------------------------- */

/* kv_string.c */
/* Does the command replace a key whatever it was, without an answer that tells? */
bool kv__does_replace(const struct kv__entry *entry);
kv__handler kv__command_get, kv__command_strlen, kv__command_mget, kv__command_set;
kv__handler kv__command_setnx, kv__command_setex, kv__command_psetex, kv__command_getset;
kv__handler kv__command_getdel, kv__command_getex, kv__command_mset, kv__command_msetnx;

/* kv_string_edit.c */
kv__handler kv__command_append, kv__command_getrange, kv__command_setrange, kv__command_incr;
kv__handler kv__command_decr, kv__command_incrby, kv__command_decrby, kv__command_incrbyfloat;
kv__handler kv__command_lcs;

/* kv_expire.c */
kv__handler kv__command_expire, kv__command_pexpire, kv__command_expireat, kv__command_pexpireat;
kv__handler kv__command_persist, kv__command_ttl, kv__command_pttl, kv__command_expiretime;
kv__handler kv__command_pexpiretime;

/* kv_key.c */
kv__handler kv__command_del, kv__command_exists, kv__command_type, kv__command_rename;
kv__handler kv__command_renamenx, kv__command_copy, kv__command_dbsize, kv__command_flushall;
kv__handler kv__prefetch_discard; /* Of DEL. */
kv__handler kv__prefetch_setrange;
kv__handler kv__prefetch_rename, kv__prefetch_copy;

/* kv_scan.c */
kv__handler kv__command_scan, kv__command_keys, kv__command_randomkey;
kv__handler kv__execute_slot_count, kv__execute_slot_keys;

/* kv_object.c */
kv__handler kv__command_object, kv__command_memory;

#endif
