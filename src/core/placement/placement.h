/* SPDX-License-Identifier: Apache-2.0 */
/* placement: where replicas and leaders of the groups should be, and the next steps there.
 * Layer: core.
 *
 * Given what is (nodes, groups) and what is wanted (a policy), placement_plan() yields the steps that
 * may be taken now. It keeps nothing from call to call: each call looks at all of it anew, so the
 * conductor may stop between any two steps, another may go on, and a step that was lost or refused
 * comes again. Carrying the steps out is the conductor's work. Nothing here waits or counts time but
 * for the grace that a dead node has.
 *
 * What is wanted, the first before the second and so on
 *   1. Each group has as many voters as its policy says, or the largest odd number that the nodes
 *      allow. That grows by itself when nodes appear, and never shrinks because they vanish.
 *   2. No voter is on a node that drains, is gone from the cluster, or has been dead or stopped
 *      for longer than the grace. Leaders leave a draining node first, and a slow one where
 *      another voter is on one that is not.
 *   3. The voters of a group are spread over as many zones as possible.
 *   4. No node is much fuller than the others, measured by its capacity.
 *   5. No node leads much more than the others.
 *
 * Invariants
 *   I1. A step never leaves a group with fewer live voters than a majority of all its voters, and
 *       none is taken for a group that has no such majority now.
 *   I2. A group that is changing gets no step. A group gets at most one step in a call.
 *   I3. Voters become and cease to be so in one joint change, so that an even number of them is only
 *       passed through: when the only voter moves away, and where one was found.
 *   I4. No node is filled by more learners at a time than the policy allows, nor fills more.
 *   I5. The leader is never taken out of its group; it hands over first.
 *   I6. Steps for balance make the sum of squares of the fullness smaller, so they come to an end;
 *       they begin only where the difference is larger than the tolerance.
 *   I7. What an earlier step began is finished rather than another thing begun: a learner becomes a
 *       voter where that is of any use, else it goes.
 *   I8. Of voters that are too many those on full disks go first, and the last voter that is alive and has room
 *       does not go: it takes over from a leader without room first.
 *
 * Cost: one call is linear in groups and replicas (docs/testing.md has a table); a group whose nodes
 * are fine is looked at twice and no more.
 *
 * The same input gives the same steps. An instance is only working memory, reserved by
 * placement_create(); it belongs to one thread. */
#ifndef CORE_PLACEMENT_PLACEMENT_H
#define CORE_PLACEMENT_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error/error.h"

typedef uint32_t placement_node;  /* 0: nobody. */
typedef uint32_t placement_group; /* Any number. */

#define PLACEMENT_NODE_COUNT_LIMIT 1024
#define PLACEMENT_GROUP_COUNT_LIMIT 1000000
#define PLACEMENT_VOTER_COUNT_MAX 7
#define PLACEMENT_LEARNER_COUNT_MAX 8
#define PLACEMENT_STEP_COUNT_MAX 1024

enum placement_liveness {
    PLACEMENT_ALIVE,
    PLACEMENT_SUSPECT, /* Keeps what it has, gets nothing. */
    PLACEMENT_DEAD,    /* As suspect until the grace is over, then replaced. */
    PLACEMENT_LEFT,    /* Stopped on purpose, perhaps for a moment: as dead. */
};

struct placement_node_state {
    placement_node id;
    uint32_t zone; /* Equal numbers: equal zones. */
    enum placement_liveness liveness;
    uint64_t since_ms; /* Of the liveness, on the clock of `now_ms`. */
    bool is_draining;
    /* It answers late, its disk for one. It keeps its replicas, but should not lead. */
    bool is_slow;
    bool is_silent; /* What it leads is not known: it is given no more of that for balance. */
    uint64_t capacity_bytes; /* Of the disk. 0: as large as the others. */
    uint64_t used_bytes;
};

struct placement_learner {
    placement_node node;
    bool is_caught_up; /* It could become a voter at once. */
};

struct placement_group_state {
    placement_group id;
    uint8_t replica_count; /* Voters wanted: 1, 3, 5 or 7. 0: what the policy says. */
    uint8_t voter_count;
    uint8_t learner_count;
    bool is_changing;    /* A configuration is not committed yet, or a step is being carried out. */
    bool is_leader_kept; /* The leader does not change for balance: it was new a moment ago, say. */
    placement_node leader; /* 0: not known. */
    uint64_t size_bytes;
    uint32_t load; /* Of the leader: requests per second, say. */
    placement_node voters[PLACEMENT_VOTER_COUNT_MAX];
    struct placement_learner learners[PLACEMENT_LEARNER_COUNT_MAX];
};

/* How much of what is wanted. */
enum placement_balance {
    PLACEMENT_BALANCE_ALL,
    /* 1, 2 and 3 only. Nor does a leader hand over because it would be the voter to go: another one goes. */
    PLACEMENT_BALANCE_ZONES,
    /* The same, and 3 for new replicas only. */
    PLACEMENT_BALANCE_NONE,
};

struct placement_policy {
    uint8_t replica_count;       /* 1, 3, 5 or 7. */
    uint64_t dead_grace_ms;      /* 0: PLACEMENT_DEAD_GRACE_MS. */
    uint32_t fill_count_max;     /* I4; 0: PLACEMENT_FILL_COUNT_MAX. */
    uint32_t full_permille;      /* A node this full gets nothing; 0: PLACEMENT_FULL_PERMILLE. */
    uint32_t tolerance_permille; /* I6, of the mean; 0: PLACEMENT_TOLERANCE_PERMILLE. */
    enum placement_balance balance;
};
#define PLACEMENT_DEAD_GRACE_MS (5 * 60 * 1000)
#define PLACEMENT_FILL_COUNT_MAX 2
#define PLACEMENT_FULL_PERMILLE 900
#define PLACEMENT_TOLERANCE_PERMILLE 100

struct placement_input {
    uint64_t now_ms;
    struct placement_policy policy;
    const struct placement_node_state *nodes; /* In the order of ids, without repetition. */
    uint32_t node_count;
    const struct placement_group_state *groups; /* The same. */
    uint32_t group_count;
    uint32_t step_count_max; /* 0: PLACEMENT_STEP_COUNT_MAX. */
};

/* Each is one change of the group's configuration, or a hand-over. All are idempotent: done twice,
 * or found done, they change nothing. */
enum placement_kind {
    PLACEMENT_ADD_LEARNER, /* `node` begins to be filled. */
    PLACEMENT_PROMOTE,     /* The learner `node` becomes a voter, and so does `other` if not 0. */
    PLACEMENT_REPLACE, /* The learner `node` becomes a voter in place of `other`, which leaves. */
    PLACEMENT_REMOVE,  /* `node`, voter or learner, leaves, and so does `other` if not 0. */
    PLACEMENT_TRANSFER_LEADER, /* `node`, a voter, takes over from the leader. */
};

enum placement_reason {
    PLACEMENT_REASON_GROW,      /* There are nodes for more replicas. */
    PLACEMENT_REASON_SHRINK,    /* Fewer replicas are wanted. */
    PLACEMENT_REASON_GONE,      /* The node is not in the cluster, or dead for too long. */
    PLACEMENT_REASON_DRAIN,     /* The node is to be emptied. */
    PLACEMENT_REASON_ZONE,      /* Another zone is better. */
    PLACEMENT_REASON_FULLNESS,  /* The node is fuller than others. */
    PLACEMENT_REASON_LEADERS,   /* The node leads more than others. */
    PLACEMENT_REASON_HAND_OVER, /* The leader has to leave the group for one of the above. */
    PLACEMENT_REASON_EVEN,      /* The number of voters is even. */
    PLACEMENT_REASON_NO_USE,    /* What the learner was for is not so any more. */
    PLACEMENT_REASON_SLOW,      /* The node answers late. */
};
#define PLACEMENT_REASON_COUNT 11

struct placement_step {
    enum placement_kind kind;
    enum placement_reason reason;
    placement_group group;
    placement_node node;
    placement_node other; /* 0: nobody. */
};

/* Why a group is not as it should be, the first that applies. */
enum placement_health {
    PLACEMENT_SETTLED,     /* Nothing is to be done. */
    PLACEMENT_STEPPING,    /* A step is in this output. */
    PLACEMENT_CHANGING,    /* A change is under way, or a learner is being filled. */
    PLACEMENT_WAITING,     /* A step is wanted, but I4, or the end of the list, defers it. */
    PLACEMENT_UNPLACEABLE, /* No node may take what is wanted: too few, full, or not alive. */
    PLACEMENT_GRACE,       /* A voter's node is dead, suspect or stopped, but not for long. */
    PLACEMENT_LEADERLESS,  /* No leader is known; it has a live majority. */
    PLACEMENT_UNAVAILABLE, /* No live majority. */
};
#define PLACEMENT_HEALTH_COUNT 8

struct placement_output {
    const struct placement_step *steps; /* The most endangered groups first. */
    uint32_t step_count;
    uint32_t health_counts[PLACEMENT_HEALTH_COUNT]; /* Groups. */
    uint32_t under_replicated_count;                /* Groups with fewer live voters than wanted. */
    uint64_t wake_at_ms; /* When a grace ends that some group waits for; UINT64_MAX: none. */
    bool is_settled;     /* All groups are: the next call with the same input yields nothing. */
};

struct placement;

/* Errors: -EINVAL when a limit is exceeded or 0. */
MUST_USE int placement_create(struct placement **placement, uint32_t node_count_max,
                              uint32_t group_count_max, struct error *error);
void placement_destroy(struct placement *placement);

/* What may be done now. `output` borrows until the next call. Errors (no output): -EINVAL when ids
 * are not ascending or 0, or counts are beyond what was reserved or the limits, or a replica count
 * is even. */
MUST_USE int placement_plan(struct placement *placement, const struct placement_input *input,
                            struct placement_output *output, struct error *error);

/* How the group of this index in the input of the last call is. */
enum placement_health placement_health_of(const struct placement *placement, uint32_t index);

const char *placement_kind_text(enum placement_kind kind);
const char *placement_reason_text(enum placement_reason reason);
const char *placement_health_text(enum placement_health health);

#endif
