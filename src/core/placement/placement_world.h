/* SPDX-License-Identifier: Apache-2.0 */
/* placement_world: nodes and groups that do what the steps say; for tests only.
 *
 * Time goes in rounds of a second, or of `round_ms`. A learner is filled in `fill_rounds` rounds. A group whose leader
 * is not live elects the first live voter in a round, if it has a majority. Each step is checked
 * against the invariants of placement.h, from outside. */
#ifndef CORE_PLACEMENT_PLACEMENT_WORLD_H
#define CORE_PLACEMENT_PLACEMENT_WORLD_H

#include "base/bytes/bytes.h"
#include "core/placement/placement.h"

struct placement__world {
    struct placement *placement;
    struct placement_policy policy;
    uint64_t now_ms;
    uint32_t round_ms;
    uint32_t fill_rounds; /* UINT32_MAX: whoever drives the world fills them. */
    uint32_t step_count_max;
    struct placement_node_state *nodes;
    uint32_t node_count;
    uint32_t node_count_max;
    struct placement_group_state *groups;
    uint8_t (*filled)[PLACEMENT_LEARNER_COUNT_MAX]; /* Rounds, by group. */
    uint32_t *fills_before;                         /* By node, in a round. */
    uint32_t *fills_after;
    uint32_t group_count;
    uint32_t group_count_max;
    uint32_t kind_counts[PLACEMENT_TRANSFER_LEADER + 1]; /* Steps taken. */
    uint32_t reason_counts[PLACEMENT_REASON_COUNT];
    uint64_t moved_bytes; /* Of learners that were begun. */
};

void placement__world_init(struct placement__world *world, uint32_t node_count_max,
                           uint32_t group_count_max);
void placement__world_deinit(struct placement__world *world);
void placement__world_forget_counts(struct placement__world *world);

struct placement_node_state *placement__world_node(struct placement__world *world,
                                                   placement_node id);
struct placement_node_state *placement__world_add_node(struct placement__world *world,
                                                       placement_node id, uint32_t zone);
void placement__world_remove_node(struct placement__world *world, placement_node id);
void placement__world_set_liveness(struct placement__world *world, placement_node id,
                                   enum placement_liveness liveness);
struct placement_group_state *placement__world_group(struct placement__world *world,
                                                     placement_group id);
struct placement_group_state *placement__world_add_group(struct placement__world *world,
                                                         placement_group id);

/* Used bytes of nodes from what they have; what learners have counts as if it were all. */
void placement__world_weigh(struct placement__world *world);
/* Plan, without taking the steps. */
void placement__world_plan(struct placement__world *world, struct placement_output *output);
/* Plan, take the steps, let a round pass. */
void placement__world_round(struct placement__world *world, struct placement_output *output);
/* Something goes on without steps: learners are filled, leaders elected. */
bool placement__world_is_busy(struct placement__world *world);
/* Rounds until nothing is to be done and nothing goes on. The rounds it took; UINT32_MAX: more than
 * `round_count_max`. */
uint32_t placement__world_settle(struct placement__world *world, uint32_t round_count_max);

/* Of nodes that are live and stay: replicas and leaders. */
uint32_t placement__world_replica_count(const struct placement__world *world, placement_node id);
uint32_t placement__world_leader_count(const struct placement__world *world, placement_node id);

#endif
