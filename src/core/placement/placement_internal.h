/* SPDX-License-Identifier: Apache-2.0 */
/* placement_internal: what the files of this folder share.
 *
 *   placement.c          life cycle, validation, the order in which groups are looked at
  *   placement_account.c  what each node has and will have
 *   placement_choose.c   which node is best for a replica, which voter is best given up
 *   placement_decide.c   the next step of one group
 *   placement_balance.c  steps for fullness and leaders of groups that want nothing else */
#ifndef CORE_PLACEMENT_PLACEMENT_INTERNAL_H
#define CORE_PLACEMENT_PLACEMENT_INTERNAL_H

#include "core/placement/placement.h"

enum {
    PLACEMENT__NOWHERE = UINT16_MAX,    /* A node that is not in the input. */
    PLACEMENT__DIRECT_ID_COUNT = 16384, /* Ids below are found without searching. */
    PLACEMENT__TRANSFER_COUNT_MAX = 8,  /* For balance: from or to one node in a call. */
};
_Static_assert(PLACEMENT_NODE_COUNT_LIMIT < PLACEMENT__NOWHERE, "indexes of nodes fit");

/* Fullness is weight by capacity in billionths, so that a small group on a large disk counts. */
#define PLACEMENT__FULLNESS_UNIT UINT64_C(1000000000)

struct placement__node {
    const struct placement_node_state *state;
    bool is_live;     /* Counts towards majorities. */
    bool is_gone;     /* Its voters are to be replaced: it will not come back. */
    bool is_leaving;  /* Gone or draining. */
    bool has_room;    /* By what it said. */
    bool is_eligible; /* May be given replicas. */
    bool has_voters;
    uint64_t grace_ends_at_ms; /* UINT64_MAX: nobody waits for it. */
    uint64_t capacity_bytes;
    uint64_t used_bytes;          /* With what was planned. */
    uint64_t weight_bytes;        /* Of the voters it has. */
    uint64_t future_weight_bytes; /* Once all is finished that was begun. */
    uint64_t fullness;            /* By that. */
    uint32_t fullness_rank;       /* Position in by_fullness. */
    uint64_t lead_weight;
    uint32_t fill_in_count;  /* Learners on it that are not caught up. */
    uint32_t fill_out_count; /* And those that it fills as a leader. */
    uint32_t transfer_count; /* For balance, in this call. */
};

struct placement__zone {
    uint32_t zone;
    uint32_t eligible_count;
};

struct placement {
    uint32_t node_count_max;
    uint32_t group_count_max;
    struct placement_policy policy; /* Without zeros. */
    uint64_t now_ms;
    const struct placement_input *input;

    uint16_t *index_by_id; /* PLACEMENT__DIRECT_ID_COUNT. */
    struct placement__node *nodes;
    uint16_t *by_fullness; /* Eligible nodes, the emptiest first. */
    uint32_t eligible_count;
    struct placement__zone *zones; /* Of eligible nodes, in order. */
    uint32_t zone_count;
    uint32_t standing_count;   /* Nodes that do not leave. */
    uint64_t fullness_mean;    /* Of these. */
    uint64_t lead_mean;        /* Of those of them that may lead. */
    uint32_t lead_node_count;  /* Live ones that stay and are not slow. */
    uint64_t group_base_bytes; /* So that empty groups count too. */
    uint64_t lead_base;
    uint64_t fill_slot_count; /* Of all eligible nodes. */

    uint64_t looked_at_count; /* Nodes, in search of places, in this call. */

    uint8_t *healths;
    uint8_t *urgencies;
    uint16_t *victims; /* The voter that will go when what is under way is finished. */
    struct placement_step *steps;
    uint32_t step_count;
    uint32_t step_count_max;
};

/* A group with its nodes as indexes. */
struct placement__view {
    const struct placement_group_state *state;
    uint32_t index; /* Of the group. */
    uint16_t voters[PLACEMENT_VOTER_COUNT_MAX];
    uint16_t learners[PLACEMENT_LEARNER_COUNT_MAX];
    uint16_t leader;
    uint8_t voter_count;
    uint8_t learner_count;
    uint8_t live_count;    /* Voters. */
    uint8_t leaving_count; /* Voters on nodes that leave. */
    uint8_t wanted_count;  /* Voters, as far as there are nodes. */
    uint8_t policy_count;  /* Voters, as the policy has it. */
    uint64_t weight_bytes;
    uint64_t lead_weight;
};

/* ---- placement_account.c ------------------------------------------------------------------- */

void placement__account(struct placement *placement);
uint16_t placement__index(const struct placement *placement, placement_node id);
void placement__look(const struct placement *placement, const struct placement_group_state *group,
                     struct placement__view *view);
bool placement__is_live(const struct placement *placement, uint16_t node);
bool placement__is_leaving(const struct placement *placement, uint16_t node);
/* Too full for one more replica of the group. */
bool placement__is_full(const struct placement *placement, uint16_t node,
                        const struct placement__view *view);
bool placement__has(const struct placement__view *view, uint16_t node);
/* How many voters, and learners if asked for, are in the zone; `except` is not counted. */
uint32_t placement__zone_count(const struct placement *placement,
                               const struct placement__view *view, uint32_t zone, uint16_t except,
                               bool with_learners);
/* The fullness that `bytes` are on this node. */
uint64_t placement__share(const struct placement__node *node, uint64_t bytes);
/* How much fuller `from` must be than `to` for a move to make the sum of squares of the fullness
 * smaller by some amount. */
uint64_t placement__exchange_gap(const struct placement *placement,
                                 const struct placement__view *view, uint16_t from, uint16_t to);
/* Where a new replica is best: in the zone with the fewest, there on the emptiest node. NOWHERE: no
 * node may take it, or (`*is_deferred`) not now. */
uint16_t placement__choose(struct placement *placement, const struct placement__view *view,
                           bool *is_deferred);
/* By how much a voter's node would gain if it went: what the sum of squares of the fullness would
 * lose, halved and by weight. */
uint64_t placement__relief(const struct placement *placement, const struct placement__view *view,
                           uint16_t node);
/* How much better zones are with a voter on `to` instead of `from`: half of what the sum of squares
 * of voters by zone loses. */
int32_t placement__zone_gain(const struct placement *placement, const struct placement__view *view,
                             uint16_t from, uint16_t to);
/* The place in the list of voters of the one to give up first, but for these two: on nodes that are
 * gone, not live, draining, or without room; in crowded zones; on nodes that have more than others. */
uint8_t placement__worst_voter(const struct placement *placement,
                               const struct placement__view *view, uint8_t except,
                               uint8_t also_except);
/* The voter that the group would best give up for a learner on `node`: where that spreads zones
 * most, there the fullest. Never the leader unless alone. `*zone_gain` is 0 or positive when zones
 * are no worse afterwards. NOWHERE: zones would be worse with any. */
uint16_t placement__victim(const struct placement *placement, const struct placement__view *view,
                           uint16_t node, int32_t *zone_gain);
/* Could an eligible node be in a zone that makes the group's zones better? */
bool placement__zone_could_gain(const struct placement *placement,
                                const struct placement__view *view);
/* The group gets a learner on `node`. */
void placement__add_replica(struct placement *placement, const struct placement__view *view,
                            uint16_t node);
/* The same by a step, to replace `victim` later. */
enum placement_health placement__begin_exchange(struct placement *placement,
                                                const struct placement__view *view, uint16_t node,
                                                uint16_t victim, enum placement_reason reason);
/* Who goes for the learner, now that it is known who goes in all other groups: what is begun by the accounts of all
 * must not be judged by those of some (I6). Returns placement->victims[view->index]. */
uint16_t placement__project_again(struct placement *placement, const struct placement__view *view,
                                  uint16_t learner);
/* The learner on `node` will go instead of `victim` (NOWHERE: nobody would have). */
void placement__undo_exchange(struct placement *placement, const struct placement__view *view,
                              uint16_t node, uint16_t victim);
void placement__move_lead(struct placement *placement, const struct placement__view *view,
                          uint16_t target);

/* ---- placement.c --------------------------------------------------------------------------- */

/* False when the list is full. */
bool placement__add_step(struct placement *placement, const struct placement__view *view,
                         enum placement_kind kind, enum placement_reason reason,
                         placement_node node, placement_node other);

/* ---- placement_decide.c -------------------------------------------------------------------- */

/* A live voter that stays, to take over: one that is not slow if there is any, and of these the one
 * whose node leads least; NOWHERE: none. */
uint16_t placement__successor(const struct placement *placement,
                              const struct placement__view *view);
/* The same, where it need not be: never a slow one in place of a leader that is not. */
uint16_t placement__equal_successor(const struct placement *placement,
                                    const struct placement__view *view);
enum placement_health placement__hand_over(struct placement *placement,
                                           const struct placement__view *view, uint16_t target,
                                           enum placement_reason reason);
enum placement_health placement__decide(struct placement *placement,
                                        const struct placement__view *view);

/* ---- placement_balance.c ------------------------------------------------------------------- */

/* Of the groups that are settled. */
void placement__balance_fullness(struct placement *placement);
void placement__balance_leaders(struct placement *placement);

#endif
