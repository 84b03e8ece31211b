/* SPDX-License-Identifier: Apache-2.0 */
/* raft: consensus for one shard (Ongaro, "Consensus: Bridging Theory and Practice", 2014).
 * Layer: core.
 *
 * A pure core: raft_step() takes an input and yields an output. It keeps indexes and terms, never
 * payloads; whoever drives it keeps the entries. Ordering between disk and decisions is data: each
 * thing to make durable has a number, and RAFT_INPUT_PERSISTED says up to which number all is
 * durable.
 *
 * Invariants (of the thesis, figure 3.2, as far as one voter shows them)
 *   I1. The term and the commit index never go back.
 *   I2. At most one vote is cast in a term, and it is durable before it counts.
 *   I3. An entry is committed only when a quorum has it durably, the own disk counting as one vote,
 *       and only if it is of the current term or precedes one that is (§3.6.2).
 *   I4. A leader appends only; it begins its term with an empty entry (§6.4).
 *
 * A group has one voter so far: messages, learners and membership changes come with the cluster.
 * An instance belongs to one thread, takes no locks and allocates nothing after raft_create(). */
#ifndef CORE_RAFT_RAFT_H
#define CORE_RAFT_RAFT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error/error.h"

typedef uint64_t raft_index; /* 0: before the first entry. */
typedef uint64_t raft_term;  /* 0: before the first election. */
typedef uint32_t raft_node;  /* 0: nobody. */

enum raft_role { RAFT_ROLE_FOLLOWER, RAFT_ROLE_CANDIDATE, RAFT_ROLE_LEADER };

/* What must survive a restart besides the entries. */
struct raft_hard_state {
    raft_term term;
    raft_node vote;
};

struct raft_options {
    raft_node self; /* Not 0. */
    struct raft_hard_state hard_state;
    raft_index last_index; /* Of the recovered log; 0 when it is empty. */
    raft_term last_term;
    raft_index commit_index; /* Known to be committed: what the store has applied. */
    uint64_t random_seed;
    uint64_t now_ms;
};

enum raft_persist_kind { RAFT_PERSIST_HARD_STATE, RAFT_PERSIST_ENTRY };

struct raft_persist {
    enum raft_persist_kind kind;
    uint64_t sequence; /* Grows by one from 1. */
    struct raft_hard_state hard_state;
    raft_index index;
    raft_term term;
    bool is_empty; /* The entry that begins a term: it carries no commands. */
};

enum raft_input_kind {
    RAFT_INPUT_TICK,      /* Time has passed. */
    RAFT_INPUT_PROPOSE,   /* Append one entry; its payload stays with the driver. */
    RAFT_INPUT_PERSISTED, /* Everything up to `persisted_sequence` is durable. */
};

struct raft_input {
    enum raft_input_kind kind;
    uint64_t now_ms;
    uint64_t persisted_sequence;
};

#define RAFT_PERSIST_COUNT_MAX 4

struct raft_output {
    struct raft_persist persists[RAFT_PERSIST_COUNT_MAX]; /* Make durable, in this order. */
    uint32_t persist_count;
    raft_index commit_index; /* Apply up to here; never moves back. */
    enum raft_role role;
    raft_term term;
    uint64_t wake_at_ms; /* Step again no later than this; UINT64_MAX: nothing to wait for. */
};

struct raft;

/* Gives an instance that is a follower. Errors: -EINVAL when the options contradict themselves (a
 * commit index above the last one, an entry of a later term than the hard state). */
MUST_USE int raft_create(struct raft **raft, const struct raft_options *options,
                         struct error *error);
void raft_destroy(struct raft *raft);

/* Advance by one input. A non-zero status means nothing changed: ERROR_NOT_LEADER for a proposal
 * that this member may not make. */
MUST_USE int raft_step(struct raft *raft, const struct raft_input *input,
                       struct raft_output *output);

raft_index raft_last_index(const struct raft *raft);

#endif
