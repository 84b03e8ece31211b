/* SPDX-License-Identifier: Apache-2.0 */
/* system: the replicated state of the cluster itself, as a deterministic state machine over rows.
 * Layer: service.
 *
 * Who belongs to the cluster, what was agreed on for all of it, who was invited to join, and what
 * was done to it. It is small, changes rarely, and everything else hangs on it. Its commands go the
 * way of all writes: through the log of the shard that has its rows, which is the first one.
 *
 * Rows (docs/formats/system.md) are in space 0x02:
 *
 *   0x01                 what was agreed on, and the counters
 *   0x02 | node id BE32  a node
 *   0x03 | hash          a join token: the SHA-256 of its secret
 *   0x04 | number BE64   a record of what was done (audit)
 *   0x05 | shard BE32    a data shard and its slots; none: there is one, with all slots. Or a planned
 *                        one: a split was decided, and is not known to be carried out
 *
 * Invariants
 *   I1. Before SYSTEM.BOOTSTRAP the space is empty, and every other command is refused.
 *   I2. A node id is given once, in ascending order, and never again.
 *   I3. A node's state goes active -> draining -> drained, from either back to active, and from each
 *       to removed, which is final. One node at least is active.
 *   I4. No two nodes that are not removed have the same key or the same peer address.
 *   I5. A token gives as many ids as it has uses, each to one key; asking again with that key gives
 *       the same id, as long as the token's row is there.
 *   I6. The agreed feature version never goes back, and every node that is not removed has software
 *       that knows it.
 *   I7. The generation grows with each change of settings, nodes or shards, and only then.
 *   I8. Records are numbered without gaps; the newest SYSTEM_AUDIT_COUNT_MAX are there.
 *   I9. All of the state is in rows; what is held in memory is what they say.
 *   I10. The rows of shards that are not planned, if there are any, are a map as core/slots wants it; the
 *       agreed feature version is then SYSTEM_FEATURE_SHARDS at least. It changes only by a planned
 *       shard becoming one that is (decision 18).
 *   I11. A planned shard has a number that no other has, above those of all others when it was planned,
 *       and the upper slots of one that is not planned, which has slots below them. Each shard has one
 *       planned child at most. With planned ones there are SLOTS_SHARD_COUNT_MAX shards at most, and
 *       the agreed feature version is SYSTEM_FEATURE_SPLIT at least.
 *
 * Time is the stamp of the entry, nothing else. No client of Redis can send these commands: they are
 * in no table of a gateway. Driven by the shard through the machine that system_machine_over()
 * gives; the questions below are for the shard's thread. */
#ifndef SERVICE_SYSTEM_SYSTEM_H
#define SERVICE_SYSTEM_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "core/shard/shard.h"
#include "core/slots/slots.h"

#define SYSTEM_NODE_COUNT_MAX 1024 /* Not removed. */
/* With removed ones, of which the oldest are forgotten when there are more. */
#define SYSTEM_NODE_ROW_COUNT_MAX 2048
#define SYSTEM_TOKEN_COUNT_MAX 100
#define SYSTEM_TOKEN_USES_MAX 100
#define SYSTEM_TOKEN_TTL_MS_MAX (366ull * 24 * 3600 * 1000)
#define SYSTEM_AUDIT_COUNT_MAX 1000

#define SYSTEM_DIGEST_SIZE_BYTES 32
#define SYSTEM_CLUSTER_TEXT_SIZE 33 /* 32 lower-case hexadecimal digits. */
/* With terminators. Texts are printable ASCII without blanks, but for those of records. */
#define SYSTEM_ADDRESS_SIZE 121
#define SYSTEM_ZONE_SIZE 33
#define SYSTEM_SOFTWARE_SIZE 64
#define SYSTEM_AUDIT_TEXT_SIZE 201 /* UTF-8; control characters become blanks. */

/* The highest feature version that this software knows. */
#define SYSTEM_FEATURE_MAX 3
/* From this one on there may be several data shards, */
#define SYSTEM_FEATURE_SHARDS 2
/* and from this one on a shard may be split. */
#define SYSTEM_FEATURE_SPLIT 3
/* Software without SYSTEM_FEATURE_SPLIT knows so many shards at most. */
#define SYSTEM_SHARD_COUNT_BEFORE_SPLIT 64

enum system_node_state {
    SYSTEM_NODE_ACTIVE = 1,
    SYSTEM_NODE_DRAINING = 2, /* What it has is moved away; nothing new comes. */
    SYSTEM_NODE_DRAINED = 3,  /* It has nothing any more. */
    SYSTEM_NODE_REMOVED = 4,  /* No part of the cluster: its certificate counts for nothing. */
};
/* "active", …; "?" for what is none. */
const char *system_node_state_name(enum system_node_state state);

struct system_digest {
    uint8_t bytes[SYSTEM_DIGEST_SIZE_BYTES];
};

struct system_node {
    uint32_t id;
    enum system_node_state state;
    uint64_t joined_at_ms;
    uint64_t changed_at_ms;   /* Its state, the last time. */
    uint32_t feature_max;     /* The highest feature version that its software knows. */
    struct system_digest key; /* SHA-256 of the public key of its certificate. */
    char peer[SYSTEM_ADDRESS_SIZE];
    char redis[SYSTEM_ADDRESS_SIZE]; /* This and what follows may be empty. */
    char admin[SYSTEM_ADDRESS_SIZE];
    char zone[SYSTEM_ZONE_SIZE];
    char software[SYSTEM_SOFTWARE_SIZE];
};

struct system_settings {
    char cluster[SYSTEM_CLUSTER_TEXT_SIZE]; /* Empty before SYSTEM.BOOTSTRAP. */
    uint64_t created_at_ms;
    uint64_t generation; /* I7. */
    uint32_t replicas;   /* How many there should be of everything: 1, 3 or 5. */
    uint32_t feature;    /* The feature version that the whole cluster has agreed on. */
    uint32_t node_id_next;
};
#define SYSTEM_REPLICAS_DEFAULT 3

struct system_token {
    struct system_digest hash;
    uint64_t created_at_ms;
    uint64_t expires_at_ms;
    uint32_t uses; /* How many it has in all. */
    uint32_t used_count;
};

enum system_audit_kind {
    SYSTEM_AUDIT_BOOTSTRAP = 1,
    SYSTEM_AUDIT_JOIN = 2,
    SYSTEM_AUDIT_JOIN_REFUSED = 3,
    SYSTEM_AUDIT_TOKEN = 4,
    SYSTEM_AUDIT_ACTIVE = 5, /* A drain was called off. */
    SYSTEM_AUDIT_DRAIN = 6,
    SYSTEM_AUDIT_DRAINED = 7,
    SYSTEM_AUDIT_REMOVE = 8,
    SYSTEM_AUDIT_TRANSFER = 9,
    SYSTEM_AUDIT_CONFIGURATION = 10,
    SYSTEM_AUDIT_RECOVERY = 11,
    SYSTEM_AUDIT_CERTIFICATE = 12,
    SYSTEM_AUDIT_SPLIT = 13,
};
#define SYSTEM_AUDIT_KIND_COUNT 14
/* "join", …; "?" for what is none. */
const char *system_audit_kind_name(enum system_audit_kind kind);

struct system_audit {
    uint64_t number;
    uint64_t first_at_ms;
    uint64_t last_at_ms; /* Of the last of `count` equal ones that followed each other. */
    uint32_t count;
    enum system_audit_kind kind;
    uint32_t node; /* Whom it concerns; 0: nobody. */
    char text[SYSTEM_AUDIT_TEXT_SIZE];
};

/* A split that was decided: `child` gets the slots that `parent` has from `first` on. */
struct system_planned {
    wal_shard parent;
    wal_shard child;
    uint32_t first;
    uint64_t planned_at_ms;
};

/* ---- The machine ----------------------------------------------------------------------------- */

/* What all nodes must know of, of a cluster that is made with so many shards. */
static inline uint32_t system_feature_of_shards(uint64_t shard_count)
{
    return shard_count > SYSTEM_SHARD_COUNT_BEFORE_SPLIT ? SYSTEM_FEATURE_SPLIT
           : shard_count > 1                             ? SYSTEM_FEATURE_SHARDS
                                                         : 1;
}

struct system;
struct system *system_create(void);
void system_destroy(struct system *system);

/* A machine for shard_open() that executes the commands of this module, and hands those of all other
 * opcodes to `data` (copied; NULL: there are none). What it saves is what `data` saves, because of
 * I9: a store that was written without this module is read with it, and the other way round. Borrows
 * `system`, which has one machine. */
struct shard_machine system_machine_over(struct system *system, const struct shard_machine *data);

/* Is it an opcode of this module (docs/formats/entry.md), and one that changes something? */
bool system_is_opcode(uint16_t opcode);
bool system_is_write(uint16_t opcode);

/* ---- Questions, on the shard's thread -------------------------------------------------------- */

/* Another value than before: settings, nodes or shards have changed (or were replaced by a snapshot).
 * A number in memory, so it may be asked each tick. 0: there is no cluster yet. */
uint64_t system_generation(const struct system *system);
/* Borrow until the next command is applied. Nodes are in the order of their ids. */
const struct system_settings *system_settings(const struct system *system);
uint32_t system_node_count(const struct system *system);
const struct system_node *system_node_at(const struct system *system, uint32_t index);
/* NULL: there is none, or none any more. */
const struct system_node *system_node_find(const struct system *system, uint32_t id);
/* The first node, removed ones aside, whose software does not know a feature version; NULL: all do. */
const struct system_node *system_node_below(const struct system *system, uint32_t feature);
/* The data shards, without planned ones. Before SYSTEM.BOOTSTRAP, as if there were one. */
const struct slots *system_slots(const struct system *system);
/* The planned ones, in the order of the child's number. */
uint32_t system_planned_count(const struct system *system);
void system_planned_at(const struct system *system, uint32_t place, struct system_planned *planned);

/* ---- Commands -------------------------------------------------------------------------------- */

/* A command with the memory of its arguments. It points into itself and to what it was made of: not
 * to be copied, and those are borrowed while it is used. */
#define SYSTEM_ARGUMENT_COUNT_MAX 20
struct system_command {
    struct shard_command command;
    bool is_write;
    struct bytes arguments[SYSTEM_ARGUMENT_COUNT_MAX];
    char numbers[4][24];
    char digests[2][2 * SYSTEM_DIGEST_SIZE_BYTES + 1];
};

/* What a node says of itself. NULL: nothing is said of it. */
struct system_node_facts {
    const char *peer;
    const char *redis;
    const char *admin;
    const char *zone;
    const char *software;
    uint32_t feature_max; /* 0: nothing is said. */
    const struct system_digest *key;
};

/* The first node makes the cluster, with id 1. The same again (same cluster, same key of node 1)
 * changes nothing. `facts` has a key, a peer address and feature_max, which is what the cluster agrees
 * on. `replicas` 0: the default. Answers the id. */
struct system_birth {
    const char *cluster;
    uint32_t replicas;
    uint32_t shard_count; /* Data shards, of equal size; 0: 1. */
};
void system_bootstrap_command(struct system_command *command, const struct system_birth *birth,
                              const struct system_node_facts *facts);

/* Let in whoever knows the secret, `uses` times, within `ttl_ms` from now. The same hash again
 * changes nothing. Answers when it expires. Refused when there are SYSTEM_TOKEN_COUNT_MAX that have
 * uses left. */
void system_token_add_command(struct system_command *command, const struct system_digest *hash,
                              uint64_t ttl_ms, uint32_t uses);

/* Use a token: a node with this key and these facts (as for bootstrap) joins. Answers its id; the
 * same id for the same key and token. Who is refused leaves a record, which is the one change that a
 * refused command makes. */
void system_join_command(struct system_command *command, const struct system_digest *hash,
                         const struct system_node_facts *facts);

/* Change what is said of a node. Answers 1, or 0 when nothing was new. */
void system_node_set_command(struct system_command *command, uint32_t node,
                             const struct system_node_facts *facts);

/* Change a node's state (I3). Answers 1, or 0 when it has that state already. */
void system_node_state_command(struct system_command *command, uint32_t node,
                               enum system_node_state state);

/* Change what was agreed on; 0: leave it. Answers 1, or 0 when nothing was new. */
void system_setting_command(struct system_command *command, uint32_t replicas, uint32_t feature);

/* The shard that has `slot`, and slots below it, is to be split there. Answers the number that the child
 * will have; the same again while it is planned. The agreed feature version becomes
 * SYSTEM_FEATURE_SPLIT, if it was lower. Refused when a shard begins there, another split of the shard
 * is planned, or a node's software does not know what a split is. */
void system_split_command(struct system_command *command, uint32_t slot);

/* The planned shard `child` was made by its parent. Answers 1, or 0 when it was not planned any more. */
void system_split_done_command(struct system_command *command, wal_shard child);

/* Write a record of what was done elsewhere. Answers its number. */
void system_audit_command(struct system_command *command, enum system_audit_kind kind,
                          uint32_t node, const char *text);

/* Reads. Answer what the decoders below take. */
void system_nodes_command(struct system_command *command); /* Settings and nodes. */
void system_settings_command(struct system_command *command);
void system_tokens_command(struct system_command *command);
void system_auditlog_command(struct system_command *command, uint32_t count_max); /* Newest. */

/* ---- Replies --------------------------------------------------------------------------------- */

/* The number that a command answered. Errors, with the text for a person: -EACCES: the token is not
 * known, used up or expired; -ENOENT: no such node or shard, or no cluster yet; -EEXIST: the key, the
 * address, the cluster or the slot is another's; -EPERM: the state does not allow it; -ENOSPC: a limit is reached;
 * -EINVAL: the arguments; -EAGAIN: not refused by this module (the shard is not ready, the disk is
 * full); ERROR_PROTOCOL: no reply of these commands. */
MUST_USE int system_reply_number(struct bytes reply, uint64_t *number, struct error *error);
/* Is it refused only because there is no cluster yet? */
bool system_reply_is_early(struct bytes reply);

struct system_nodes {
    struct system_settings settings;
    struct system_node *nodes;
    uint32_t node_count;
};
/* Gives what ends with system_nodes_deinit(). Errors as above, and ERROR_PROTOCOL for content that
 * is malformed. */
MUST_USE int system_reply_nodes(struct bytes reply, struct system_nodes *nodes,
                                struct error *error);
void system_nodes_deinit(struct system_nodes *nodes);

MUST_USE int system_reply_settings(struct bytes reply, struct system_settings *settings,
                                   struct error *error);

struct system_tokens {
    struct system_token *tokens; /* In the order of their hashes. */
    uint32_t token_count;
};
MUST_USE int system_reply_tokens(struct bytes reply, struct system_tokens *tokens,
                                 struct error *error);
void system_tokens_deinit(struct system_tokens *tokens);

struct system_audits {
    struct system_audit *audits; /* The oldest first. */
    uint32_t audit_count;
};
MUST_USE int system_reply_auditlog(struct bytes reply, struct system_audits *audits,
                                   struct error *error);
void system_audits_deinit(struct system_audits *audits);

/* ---- Verification ---------------------------------------------------------------------------- */

/* Verify every row of the space against the invariants; for `tutti check` and the simulator.
 * ERROR_CORRUPT with what is wrong. */
MUST_USE int system_verify(struct env_store store, const struct env_store_snapshot *snapshot,
                           struct error *error);

#endif
