/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of system share: a command being executed, rows and their values, and the few
 * functions that change them, where the invariants of system.h are kept. */
#ifndef SERVICE_SYSTEM_SYSTEM_INTERNAL_H
#define SERVICE_SYSTEM_SYSTEM_INTERNAL_H

#include "service/system/system.h"

#define SYSTEM_SPACE 0x02

enum system__row_kind {
    SYSTEM_ROW_SETTINGS = 0x01,
    SYSTEM_ROW_NODE = 0x02,
    SYSTEM_ROW_TOKEN = 0x03,
    SYSTEM_ROW_AUDIT = 0x04,
    SYSTEM_ROW_SHARD = 0x05,
};

/* Opcodes (docs/formats/entry.md). Stable for ever. */
enum {
    SYSTEM_OPCODE_FIRST = 2000,
    SYSTEM_OPCODE_BOOTSTRAP = 2000,
    SYSTEM_OPCODE_TOKENADD = 2001,
    SYSTEM_OPCODE_JOIN = 2002,
    SYSTEM_OPCODE_NODESET = 2003,
    SYSTEM_OPCODE_NODESTATE = 2004,
    SYSTEM_OPCODE_SETTING = 2005,
    SYSTEM_OPCODE_AUDIT = 2006,
    SYSTEM_OPCODE_TOKENSWEEP = 2007,
    SYSTEM_OPCODE_SPLIT = 2008,
    SYSTEM_OPCODE_SPLITDONE = 2009,
    SYSTEM_OPCODE_READ_FIRST = 2050,
    SYSTEM_OPCODE_NODES = 2050,
    SYSTEM_OPCODE_SETTINGS = 2051,
    SYSTEM_OPCODE_TOKENS = 2052,
    SYSTEM_OPCODE_AUDITLOG = 2053,
    SYSTEM_OPCODE_READ_LAST = 2053,
    SYSTEM_OPCODE_LAST = 2099,
};

/* ---- Rows ------------------------------------------------------------------------------------ */

enum { SYSTEM_ROW_SIZE_BYTES_MAX = 2 + SYSTEM_DIGEST_SIZE_BYTES };

/* The key of a row, with its bytes. Points into itself: filled in place, not copied. */
struct system__row {
    struct bytes key;
    uint8_t storage[SYSTEM_ROW_SIZE_BYTES_MAX];
};
void system__row_settings(struct system__row *row);
void system__row_node(struct system__row *row, uint32_t id);
void system__row_token(struct system__row *row, const struct system_digest *hash);
void system__row_audit(struct system__row *row, uint64_t number);
void system__row_shard(struct system__row *row, wal_shard shard);
/* The bounds of all rows of a kind (0: of the space); each points into the array of 2 bytes that it
 * is given. */
struct bytes system__row_lower(uint8_t target[2], uint32_t kind);
struct bytes system__row_upper(uint8_t target[2], uint32_t kind);

/* The parts of a key. False: none that this module writes. */
struct system__row_name {
    enum system__row_kind kind;
    uint64_t number; /* Of a node, a record or a shard. */
    struct system_digest hash;
};
MUST_USE bool system__row_parse(struct bytes key, struct system__row_name *name);

/* ---- Values ---------------------------------------------------------------------------------- */

/* A token with who used it. */
struct system__use {
    struct system_digest key;
    uint32_t node;
};
struct system__token {
    struct system_token token;
    struct system__use uses[SYSTEM_TOKEN_USES_MAX]; /* used_count of them. */
};

/* What the row of settings holds. */
struct system__settings {
    struct system_settings settings;
    uint64_t audit_next; /* The number of the next record; the first is 1. */
};

/* What the row of a shard holds. */
struct system__shard {
    struct slots_range range;
    bool is_planned;
    uint64_t planned_at_ms; /* 0 unless it is. */
};

/* Append the value of a row. */
void system__settings_encode(struct buffer *value, const struct system__settings *settings);
void system__node_encode(struct buffer *value, const struct system_node *node);
void system__token_encode(struct buffer *value, const struct system__token *token);
void system__audit_encode(struct buffer *value, const struct system_audit *audit);
void system__shard_encode(struct buffer *value, const struct system__shard *shard);

/* ERROR_CORRUPT: no value that this module writes; ERROR_NEWER_FORMAT. The number or hash comes from
 * the key. */
MUST_USE int system__settings_decode(struct bytes value, struct system__settings *settings);
MUST_USE int system__node_decode(struct bytes value, uint32_t id, struct system_node *node);
MUST_USE int system__token_decode(struct bytes value, const struct system_digest *hash,
                                  struct system__token *token);
MUST_USE int system__audit_decode(struct bytes value, uint64_t number, struct system_audit *audit);
MUST_USE int system__shard_decode(struct bytes value, wal_shard number,
                                  struct system__shard *shard);

/* Shards as they are read from rows. */
struct system__ranges {
    struct slots_range items[SLOTS_SHARD_COUNT_MAX]; /* By first slot. */
    uint32_t count;
    struct system__shard planned[SLOTS_SHARD_COUNT_MAX]; /* By number. */
    uint32_t planned_count;
};
/* Shards, in the order of their numbers. ERROR_CORRUPT when there are too many. */
MUST_USE int system__ranges_add(struct system__ranges *ranges, const struct system__shard *shard);

/* Planned splits, by the child's number. */
struct system__plans {
    struct system_planned items[SLOTS_SHARD_COUNT_MAX];
    uint32_t count;
};
/* Make the map, which of no ranges is that of one shard, and what is planned. ERROR_CORRUPT: they are no
 * map; -EINVAL: they are, but what is planned does not fit (I11). */
MUST_USE int system__ranges_settle(const struct system__ranges *ranges, struct slots *slots,
                                   struct system__plans *plans);

bool system__node_state_is_valid(uint32_t state);
bool system__audit_kind_is_valid(uint32_t kind);
bool system__replicas_is_valid(uint32_t replicas);
bool system__cluster_is_valid(struct bytes cluster);
/* Printable ASCII without blanks. */
bool system__text_is_clean(struct bytes text);

/* Hexadecimal, lower case. */
void system__digest_format(const struct system_digest *digest, char *text);
MUST_USE bool system__digest_parse(struct bytes text, struct system_digest *digest);

/* ---- Arguments ------------------------------------------------------------------------------- */

/* Pairs of a name and a value. */
enum system__field {
    SYSTEM_FIELD_ADMIN,
    SYSTEM_FIELD_CLUSTER,
    SYSTEM_FIELD_COUNT,
    SYSTEM_FIELD_FEATURE,
    SYSTEM_FIELD_KEY,
    SYSTEM_FIELD_KIND,
    SYSTEM_FIELD_NODE,
    SYSTEM_FIELD_PEER,
    SYSTEM_FIELD_REDIS,
    SYSTEM_FIELD_REPLICAS,
    SYSTEM_FIELD_SHARD,
    SYSTEM_FIELD_SHARDS,
    SYSTEM_FIELD_SLOT,
    SYSTEM_FIELD_SOFTWARE,
    SYSTEM_FIELD_STATE,
    SYSTEM_FIELD_TEXT,
    SYSTEM_FIELD_TOKEN,
    SYSTEM_FIELD_TTL,
    SYSTEM_FIELD_USES,
    SYSTEM_FIELD_ZONE,
};
#define SYSTEM_FIELD_COUNT_ALL 20
#define SYSTEM_FIELD_BIT(name) (1u << SYSTEM_FIELD_##name)

const char *system__field_name(enum system__field field);

struct system__arguments {
    uint32_t present; /* Bits of fields. */
    struct bytes texts[SYSTEM_FIELD_COUNT_ALL];
    uint64_t numbers[SYSTEM_FIELD_COUNT_ALL]; /* Of what is a number, a state or a kind. */
    struct system_digest key;
    struct system_digest token;
};

static inline bool system__has(const struct system__arguments *arguments, enum system__field field)
{
    return (arguments->present >> field & 1) != 0;
}

/* Read and check the arguments of a command: all of `required`, perhaps some of `allowed`, each
 * once. NULL, or what is wrong. */
MUST_USE const char *system__arguments_parse(const struct shard_command *command, uint32_t required,
                                             uint32_t allowed, struct system__arguments *arguments);

/* ---- A command being executed ---------------------------------------------------------------- */

struct system {
    struct shard_machine data; /* Of other opcodes; execute is NULL when there is none. */

    /* What the rows say (I9). */
    struct system__settings state;
    struct system_node *nodes; /* In the order of their ids. */
    uint32_t node_count;
    uint32_t node_capacity;
    uint64_t token_expires_at_ms; /* The first; UINT64_MAX: none does. */
    struct slots slots;
    struct system__plans plans;
    struct system__ranges ranges; /* While loading. */

    struct buffer value; /* Of a row being written. */
};

struct system__call {
    struct system *system;
    struct rows *rows;
    const struct reply *reply;
    const struct system__arguments *arguments;
    uint64_t time_ms;
};

/* Answers exactly once and returns 0, or returns a status of rows. */
typedef int system__handler(struct system__call *call);

system__handler system__execute_bootstrap, system__execute_node_set, system__execute_node_state;
system__handler system__execute_setting, system__execute_audit; /* system_change.c */
system__handler system__execute_token_add, system__execute_join;
system__handler system__execute_token_sweep;                       /* system_token.c */
system__handler system__execute_split, system__execute_split_done; /* system_split.c */

/* Is it a command that some node's software would not understand? Then no log may have it. */
bool system__is_foreign(const struct system *system, uint16_t opcode);
void system__refuse_foreign(const struct system *system, const struct reply *reply);

/* The words that begin a refusal. */
#define SYSTEM_REFUSAL_TABLE(X) \
    X(INVALID, -EINVAL)         \
    X(NOTOKEN, -EACCES)         \
    X(NONODE, -ENOENT)          \
    X(NOSHARD, -ENOENT)         \
    X(NOCLUSTER, -ENOENT)       \
    X(EXISTS, -EEXIST)          \
    X(STATE, -EPERM)            \
    X(LIMIT, -ENOSPC)

/* ---- Changes --------------------------------------------------------------------------------- */

/* Write the row of settings; call after every change of `state`. */
void system__settings_write(struct system__call *call);
/* Settings, nodes or shards changed (I7). */
void system__generation_raise(struct system__call *call);

/* The node of that id, for changing; NULL. */
struct system_node *system__node_find(struct system *system, uint32_t id);
/* Add a node to `nodes`, behind those of lower ids. */
void system__node_append(struct system *system, const struct system_node *node);
/* Write the row of a node that is in `nodes`. */
void system__node_write(struct system__call *call, const struct system_node *node);
/* Add a node at the end, with the next id, and write it; may forget an old one. Gives its place,
 * until nodes are added. */
struct system_node *system__node_add(struct system__call *call, const struct system_node *node);
/* Write the row of a shard. */
void system__shard_write(struct system__call *call, const struct system__shard *shard);
/* Fill in what the arguments say of a node; true when something is new. */
bool system__node_take_facts(struct system_node *node, const struct system__arguments *arguments);
/* Is there another node, not removed, with the key or the peer address of this one? Then EXISTS is
 * written to `problem`. */
struct system__problem {
    char text[240];
};
MUST_USE bool system__node_collides(const struct system *system, const struct system_node *node,
                                    struct system__problem *problem);

/* Write a record, or count one more of the newest when that says the same. The row of settings is
 * written with it. 0, or a status of rows. */
MUST_USE int system__audit_write(struct system__call *call, enum system_audit_kind kind,
                                 uint32_t node, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Find when the first token expires. 0, or a status of rows. */
MUST_USE int system__tokens_look(struct system *system, struct rows *rows);

/* Call for each row of a kind (0: of the space), until it returns other than 0, which is returned.
 * Rows must not be changed meanwhile. */
MUST_USE int system__rows_each(struct rows *rows, uint32_t kind,
                               int (*each)(void *context, struct bytes key, struct bytes value),
                               void *context);

#endif
