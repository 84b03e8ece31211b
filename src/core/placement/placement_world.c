/* SPDX-License-Identifier: Apache-2.0 */
#include "core/placement/placement_world.h"

#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

void placement__world_init(struct placement__world *world, uint32_t node_count_max,
                           uint32_t group_count_max)
{
    *world = (struct placement__world){
        .policy = {.replica_count = 3},
        .now_ms = 1000000,
        .round_ms = 1000,
        .fill_rounds = 3,
        .node_count_max = node_count_max,
        .group_count_max = group_count_max,
    };
    int status = placement_create(&world->placement, node_count_max, group_count_max, NULL);
    ASSERT(status == 0);
    world->nodes = memory_allocate_zeroed(node_count_max, sizeof world->nodes[0]);
    world->groups = memory_allocate_zeroed(group_count_max, sizeof world->groups[0]);
    world->fills_before = memory_allocate_zeroed(node_count_max, sizeof(uint32_t));
    world->fills_after = memory_allocate_zeroed(node_count_max, sizeof(uint32_t));
    world->filled = memory_allocate_zeroed(group_count_max, sizeof world->filled[0]);
}

void placement__world_deinit(struct placement__world *world)
{
    placement_destroy(world->placement);
    memory_free(world->nodes);
    memory_free(world->groups);
    memory_free(world->filled);
    memory_free(world->fills_before);
    memory_free(world->fills_after);
}

void placement__world_forget_counts(struct placement__world *world)
{
    memset(world->kind_counts, 0, sizeof world->kind_counts);
    memset(world->reason_counts, 0, sizeof world->reason_counts);
    world->moved_bytes = 0;
}

/* ---- Nodes and groups ------------------------------------------------------------------------ */

struct placement_node_state *placement__world_node(struct placement__world *world,
                                                   placement_node id)
{
    uint32_t low = 0;
    uint32_t high = world->node_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (world->nodes[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < world->node_count && world->nodes[low].id == id ? &world->nodes[low] : NULL;
}

struct placement_node_state *placement__world_add_node(struct placement__world *world,
                                                       placement_node id, uint32_t zone)
{
    ASSERT(world->node_count < world->node_count_max);
    ASSERT(world->node_count == 0 || world->nodes[world->node_count - 1].id < id);
    struct placement_node_state *node = &world->nodes[world->node_count++];
    *node = (struct placement_node_state){
        .id = id, .zone = zone, .since_ms = world->now_ms, .capacity_bytes = UINT64_C(1) << 40};
    return node;
}

void placement__world_remove_node(struct placement__world *world, placement_node id)
{
    struct placement_node_state *node = placement__world_node(world, id);
    ASSERT(node != NULL);
    uint32_t place = (uint32_t)(node - world->nodes);
    memmove(node, node + 1, (world->node_count - place - 1) * sizeof *node);
    world->node_count--;
}

void placement__world_set_liveness(struct placement__world *world, placement_node id,
                                   enum placement_liveness liveness)
{
    struct placement_node_state *node = placement__world_node(world, id);
    node->liveness = liveness;
    node->since_ms = world->now_ms;
}

struct placement_group_state *placement__world_group(struct placement__world *world,
                                                     placement_group id)
{
    uint32_t low = 0;
    uint32_t high = world->group_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (world->groups[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < world->group_count && world->groups[low].id == id ? &world->groups[low] : NULL;
}

struct placement_group_state *placement__world_add_group(struct placement__world *world,
                                                         placement_group id)
{
    ASSERT(world->group_count < world->group_count_max);
    ASSERT(world->group_count == 0 || world->groups[world->group_count - 1].id < id);
    struct placement_group_state *group = &world->groups[world->group_count++];
    *group = (struct placement_group_state){.id = id};
    return group;
}

static bool is_live(struct placement__world *world, placement_node id)
{
    const struct placement_node_state *node = placement__world_node(world, id);
    return node != NULL && node->liveness == PLACEMENT_ALIVE;
}

static uint32_t live_count(struct placement__world *world,
                           const struct placement_group_state *group)
{
    uint32_t count = 0;
    for (uint8_t i = 0; i < group->voter_count; i++) {
        count += is_live(world, group->voters[i]);
    }
    return count;
}

/* ---- Steps ----------------------------------------------------------------------------------- */

static int find_learner(const struct placement_group_state *group, placement_node node)
{
    for (uint8_t i = 0; i < group->learner_count; i++) {
        if (group->learners[i].node == node) {
            return i;
        }
    }
    return -1;
}

static int find_voter(const struct placement_group_state *group, placement_node node)
{
    for (uint8_t i = 0; i < group->voter_count; i++) {
        if (group->voters[i] == node) {
            return i;
        }
    }
    return -1;
}

static void drop_learner(struct placement__world *world, struct placement_group_state *group,
                         int place)
{
    uint8_t *filled = world->filled[group - world->groups];
    group->learner_count--;
    for (int i = place; i < group->learner_count; i++) {
        group->learners[i] = group->learners[i + 1];
        filled[i] = filled[i + 1];
    }
}

static void drop_voter(struct placement_group_state *group, int place)
{
    ASSERT(group->voters[place] != group->leader); /* I5 */
    group->voter_count--;
    for (int i = place; i < group->voter_count; i++) {
        group->voters[i] = group->voters[i + 1];
    }
}

static void promote(struct placement__world *world, struct placement_group_state *group,
                    placement_node node)
{
    int place = find_learner(group, node);
    ASSERT(place >= 0 && group->learners[place].is_caught_up);
    ASSERT(is_live(world, node));
    drop_learner(world, group, place);
    ASSERT(group->voter_count < PLACEMENT_VOTER_COUNT_MAX);
    group->voters[group->voter_count++] = node;
}

static void remove_replica(struct placement__world *world, struct placement_group_state *group,
                           placement_node node)
{
    int learner = find_learner(group, node);
    if (learner >= 0) {
        drop_learner(world, group, learner);
        return;
    }
    int voter = find_voter(group, node);
    ASSERT(voter >= 0);
    drop_voter(group, voter);
}

static void begin_learner(struct placement__world *world, struct placement_group_state *group,
                          placement_node node)
{
    const struct placement_node_state *target = placement__world_node(world, node);
    ASSERT(target != NULL && target->liveness == PLACEMENT_ALIVE && !target->is_draining);
    ASSERT(find_learner(group, node) < 0 && find_voter(group, node) < 0);
    ASSERT(group->learner_count < PLACEMENT_LEARNER_COUNT_MAX);
    world->filled[group - world->groups][group->learner_count] = 0;
    group->learners[group->learner_count++] = (struct placement_learner){.node = node};
    world->moved_bytes += group->size_bytes;
}

static void take_step(struct placement__world *world, const struct placement_step *step)
{
    struct placement_group_state *group = placement__world_group(world, step->group);
    ASSERT(group != NULL && !group->is_changing);
    ASSERT(2 * live_count(world, group) > group->voter_count); /* I1 */
    uint8_t voter_count = group->voter_count;
    switch (step->kind) {
    case PLACEMENT_ADD_LEARNER:
        begin_learner(world, group, step->node);
        break;
    case PLACEMENT_PROMOTE:
        promote(world, group, step->node);
        if (step->other != 0) {
            promote(world, group, step->other);
        }
        break;
    case PLACEMENT_REPLACE:
        drop_voter(group, find_voter(group, step->other));
        promote(world, group, step->node);
        break;
    case PLACEMENT_REMOVE:
        remove_replica(world, group, step->node);
        if (step->other != 0) {
            remove_replica(world, group, step->other);
        }
        break;
    case PLACEMENT_TRANSFER_LEADER:
        ASSERT(find_voter(group, step->node) >= 0 && is_live(world, step->node));
        group->leader = step->node;
        break;
    }
    ASSERT(2 * live_count(world, group) > group->voter_count); /* I1 */
    /* I3: even only from or to one. */
    ASSERT(group->voter_count % 2 == 1 || voter_count == group->voter_count || voter_count == 1);
    world->kind_counts[step->kind]++;
    world->reason_counts[step->reason]++;
}

/* ---- Rounds ---------------------------------------------------------------------------------- */

void placement__world_weigh(struct placement__world *world)
{
    for (uint32_t i = 0; i < world->node_count; i++) {
        world->nodes[i].used_bytes = 0;
    }
    for (uint32_t i = 0; i < world->group_count; i++) {
        const struct placement_group_state *group = &world->groups[i];
        for (uint8_t j = 0; j < group->voter_count + group->learner_count; j++) {
            placement_node id = j < group->voter_count
                                    ? group->voters[j]
                                    : group->learners[j - group->voter_count].node;
            struct placement_node_state *node = placement__world_node(world, id);
            if (node != NULL) {
                node->used_bytes += group->size_bytes;
            }
        }
    }
}

void placement__world_plan(struct placement__world *world, struct placement_output *output)
{
    struct placement_input input = {
        .now_ms = world->now_ms,
        .policy = world->policy,
        .nodes = world->nodes,
        .node_count = world->node_count,
        .groups = world->groups,
        .group_count = world->group_count,
        .step_count_max = world->step_count_max,
    };
    int status = placement_plan(world->placement, &input, output, NULL);
    ASSERT(status == 0);
}

/* Learners that are being filled on each node. */
static void count_fills(struct placement__world *world, uint32_t *counts)
{
    memset(counts, 0, world->node_count_max * sizeof counts[0]);
    for (uint32_t i = 0; i < world->group_count; i++) {
        const struct placement_group_state *group = &world->groups[i];
        for (uint8_t j = 0; j < group->learner_count; j++) {
            const struct placement_node_state *node =
                placement__world_node(world, group->learners[j].node);
            if (node != NULL && !group->learners[j].is_caught_up) {
                counts[node - world->nodes]++;
            }
        }
    }
}

/* I4. A policy that allows fewer than before does not stop what was begun. */
static void check_fills(struct placement__world *world)
{
    uint32_t limit =
        world->policy.fill_count_max == 0 ? PLACEMENT_FILL_COUNT_MAX : world->policy.fill_count_max;
    count_fills(world, world->fills_after);
    for (uint32_t i = 0; i < world->node_count; i++) {
        ASSERT_IF(world->fills_after[i] > limit, world->fills_after[i] <= world->fills_before[i]);
    }
}

static void pass_round(struct placement__world *world)
{
    for (uint32_t i = 0; i < world->group_count; i++) {
        struct placement_group_state *group = &world->groups[i];
        bool has_majority = 2 * live_count(world, group) > group->voter_count;
        if (!is_live(world, group->leader) && has_majority) {
            uint8_t first = 0;
            while (!is_live(world, group->voters[first])) {
                first++;
            }
            group->leader = group->voters[first];
        }
        for (uint8_t j = 0; j < group->learner_count && has_majority; j++) {
            if (world->fill_rounds != UINT32_MAX && is_live(world, group->learners[j].node) &&
                ++world->filled[i][j] >= world->fill_rounds) {
                group->learners[j].is_caught_up = true;
            }
        }
    }
    world->now_ms += world->round_ms;
}

void placement__world_round(struct placement__world *world, struct placement_output *output)
{
    placement__world_weigh(world);
    placement__world_plan(world, output);
    count_fills(world, world->fills_before);
    for (uint32_t i = 0; i < output->step_count; i++) {
        take_step(world, &output->steps[i]);
    }
    check_fills(world);
    pass_round(world);
}

bool placement__world_is_busy(struct placement__world *world)
{
    for (uint32_t i = 0; i < world->group_count; i++) {
        const struct placement_group_state *group = &world->groups[i];
        if (2 * live_count(world, group) <= group->voter_count) {
            continue;
        }
        if (!is_live(world, group->leader)) {
            return true;
        }
        for (uint8_t j = 0; j < group->learner_count; j++) {
            if (!group->learners[j].is_caught_up && is_live(world, group->learners[j].node)) {
                return true;
            }
        }
    }
    return false;
}

uint32_t placement__world_settle(struct placement__world *world, uint32_t round_count_max)
{
    for (uint32_t round = 0; round < round_count_max; round++) {
        struct placement_output output;
        bool is_busy = placement__world_is_busy(world);
        placement__world_round(world, &output);
        if (output.step_count == 0 && !is_busy) {
            return round;
        }
    }
    return UINT32_MAX;
}

uint32_t placement__world_replica_count(const struct placement__world *world, placement_node id)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->group_count; i++) {
        count += find_voter(&world->groups[i], id) >= 0;
    }
    return count;
}

uint32_t placement__world_leader_count(const struct placement__world *world, placement_node id)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->group_count; i++) {
        count += world->groups[i].leader == id;
    }
    return count;
}
