/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: whatever happens to a cluster, each step keeps the invariants of placement.h, the steps come
 * to an end, and what is then there is what is wanted, as far as the nodes allow.
 *
 * Each seed draws a cluster (nodes, zones, disks, groups, policy) and then a number of events (a node
 * dies, comes back, is suspected, drains, is added or removed for good; groups grow; the policy
 * changes), a few rounds apart, so that each meets what the ones before began. Then nothing happens any
 * more, all nodes of the cluster come back, and it has to settle. SEED=n runs that one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "base/trace/trace.h"
#include "core/placement/placement_internal.h"
#include "core/placement/placement_world.h"

enum {
    SEED_COUNT = 300,
    NODE_COUNT_MAX = 60,
    GROUP_COUNT_MAX = 150,
    EVENT_COUNT_MAX = 30,
    ROUND_COUNT_MAX = 5000,
};

struct history {
    uint64_t seed;
    struct random random;
    struct placement__world world;
    placement_node next_node;
    uint32_t zone_count;
};

static uint32_t below(struct history *history, uint32_t bound)
{
    return (uint32_t)random_below(&history->random, bound);
}

static void add_node(struct history *history)
{
    if (history->world.node_count == NODE_COUNT_MAX) {
        return;
    }
    struct placement_node_state *node = placement__world_add_node(
        &history->world, history->next_node, below(history, history->zone_count));
    history->next_node += 1 + below(history, 3);
    node->capacity_bytes = (UINT64_C(1) << 37) << below(history, 3);
}

static void add_group(struct history *history, placement_group id)
{
    struct placement__world *world = &history->world;
    struct placement_group_state *group = placement__world_add_group(world, id);
    group->size_bytes = random_below(&history->random, UINT64_C(1) << 29);
    group->load = below(history, 1000);
    group->replica_count = below(history, 5) == 0 ? (uint8_t)(1 + 2 * below(history, 3)) : 0;
    uint32_t count = 1 + below(history, 5);
    uint32_t first = below(history, world->node_count);
    for (uint32_t i = 0; i < count && i < world->node_count; i++) {
        group->voters[group->voter_count++] = world->nodes[(first + i) % world->node_count].id;
    }
    group->leader = group->voters[below(history, group->voter_count)];
}

static void set_policy(struct history *history)
{
    history->world.policy = (struct placement_policy){
        .replica_count = (uint8_t)(1 + 2 * below(history, 3)),
        .dead_grace_ms = 5000,
        .fill_count_max = 1 + below(history, 4),
        .tolerance_permille = 50 + below(history, 200),
    };
}

static void begin(struct history *history, uint64_t seed)
{
    *history = (struct history){.seed = seed, .next_node = 1};
    random_init(&history->random, seed);
    placement__world_init(&history->world, NODE_COUNT_MAX, GROUP_COUNT_MAX);
    history->zone_count = 1 + below(history, 5);
    history->world.fill_rounds = 1 + below(history, 5);
    history->world.step_count_max = below(history, 4) == 0 ? 1 + below(history, 5) : 0;
    set_policy(history);
    uint32_t node_count = 1 + below(history, 20);
    for (uint32_t i = 0; i < node_count; i++) {
        add_node(history);
    }
    uint32_t group_count = 1 + below(history, GROUP_COUNT_MAX);
    for (placement_group id = 1; id <= group_count; id++) {
        add_group(history, id);
    }
}

/* Removing a node for good may take the majority of groups with it; that is for an operator, not for
 * this test. */
static bool may_remove(struct history *history, placement_node id)
{
    for (uint32_t i = 0; i < history->world.group_count; i++) {
        const struct placement_group_state *group = &history->world.groups[i];
        for (uint8_t j = 0; j < group->voter_count; j++) {
            if (group->voters[j] == id) {
                return false;
            }
        }
    }
    return history->world.node_count > 1;
}

static void happen(struct history *history)
{
    struct placement__world *world = &history->world;
    struct placement_node_state *node = &world->nodes[below(history, world->node_count)];
    uint32_t kind = below(history, 11);
    if (kind < 4) {
        placement__world_set_liveness(world, node->id, (enum placement_liveness)kind);
    } else if (kind == 4) {
        add_node(history);
    } else if (kind == 5) {
        node->is_draining = !node->is_draining;
    } else if (kind == 9) {
        node->is_slow = !node->is_slow;
    } else if (kind == 6 && may_remove(history, node->id)) {
        placement__world_remove_node(world, node->id);
    } else if (kind == 7) {
        uint32_t group = below(history, world->group_count);
        world->groups[group].size_bytes = random_below(&history->random, UINT64_C(1) << 30);
    } else if (kind == 8) {
        set_policy(history);
    } else {
        placement__world_set_liveness(world, node->id, PLACEMENT_ALIVE);
    }
}

/* ---- What must be true in the end ------------------------------------------------------------ */

static uint32_t eligible_count(struct placement__world *world)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->node_count; i++) {
        count += !world->nodes[i].is_draining;
    }
    return count;
}

/* A slow node leads only where all voters are on slow ones. */
static void check_leader(struct history *history, const struct placement_group_state *group)
{
    struct placement__world *world = &history->world;
    if (!placement__world_node(world, group->leader)->is_slow) {
        return;
    }
    for (uint8_t i = 0; i < group->voter_count; i++) {
        const struct placement_node_state *node = placement__world_node(world, group->voters[i]);
        assert_true(node->is_slow || node->is_draining);
    }
}

static void check_group(struct history *history, const struct placement_group_state *group)
{
    struct placement__world *world = &history->world;
    uint32_t wanted =
        group->replica_count == 0 ? world->policy.replica_count : group->replica_count;
    uint32_t possible = eligible_count(world);
    uint32_t draining_count = 0;
    for (uint8_t i = 0; i < group->voter_count; i++) {
        const struct placement_node_state *node = placement__world_node(world, group->voters[i]);
        assert_non_null(node);
        draining_count += node->is_draining;
    }
    assert_int_equal(group->learner_count, 0);
    assert_int_equal(group->voter_count % 2, 1);
    if (possible >= group->voter_count) {
        assert_int_equal(draining_count, 0);
    }
    if (possible >= wanted) {
        assert_int_equal(group->voter_count, wanted);
    }
}

/* Nodes of one zone, none of which drains, have as much as others, by what their disks hold: within
 * the tolerance and the largest group. */
static void check_fullness(struct history *history)
{
    struct placement__world *world = &history->world;
    uint64_t largest = 0;
    for (uint32_t i = 0; i < world->group_count; i++) {
        largest = world->groups[i].size_bytes > largest ? world->groups[i].size_bytes : largest;
    }
    const struct placement *placement = world->placement;
    if (history->zone_count > 1 || placement->eligible_count < 8) {
        return; /* Zones go first; and few nodes leave few places. */
    }
    const struct placement__node *least = &placement->nodes[placement->by_fullness[0]];
    if (2 * placement__world_replica_count(world, least->state->id) > world->group_count) {
        return; /* It has most groups already, and nobody could give it one twice. */
    }
    const struct placement__node *most =
        &placement->nodes[placement->by_fullness[placement->eligible_count - 1]];
    uint64_t step = placement__share(least, largest + placement->group_base_bytes) +
                    placement__share(most, largest + placement->group_base_bytes);
    uint64_t slack = placement->fullness_mean * placement->policy.tolerance_permille / 1000;
    if (most->fullness > least->fullness + slack + step) {
        fail_msg("seed %llu: node %u is full by %llu, node %u by %llu, the mean is %llu",
                 (unsigned long long)history->seed, most->state->id,
                 (unsigned long long)most->fullness, least->state->id,
                 (unsigned long long)least->fullness, (unsigned long long)placement->fullness_mean);
    }
}

/* For the person who looks at a seed that does not settle. */
static void show_rounds(struct placement__world *world)
{
    for (uint32_t round = 0; round < 10; round++) {
        struct placement_output output;
        placement__world_round(world, &output);
        print_message(
            "round: settled %u waiting %u changing %u unplaceable %u\n",
            output.health_counts[PLACEMENT_SETTLED], output.health_counts[PLACEMENT_WAITING],
            output.health_counts[PLACEMENT_CHANGING], output.health_counts[PLACEMENT_UNPLACEABLE]);
        for (uint32_t i = 0; i < output.step_count; i++) {
            const struct placement_step *step = &output.steps[i];
            print_message("  group %u: %s %u %u (%s)\n", step->group,
                          placement_kind_text(step->kind), step->node, step->other,
                          placement_reason_text(step->reason));
        }
    }
}

static void run_seed(uint64_t seed)
{
    struct history history;
    struct placement_output output;
    begin(&history, seed);
    struct placement__world *world = &history.world;
    uint32_t event_count = below(&history, EVENT_COUNT_MAX);
    for (uint32_t i = 0; i < event_count; i++) {
        happen(&history);
        uint32_t round_count = below(&history, 8);
        for (uint32_t j = 0; j < round_count; j++) {
            placement__world_round(world, &output);
        }
    }
    for (uint32_t i = 0; i < world->node_count; i++) {
        placement__world_set_liveness(world, world->nodes[i].id, PLACEMENT_ALIVE);
    }
    uint32_t rounds = placement__world_settle(world, ROUND_COUNT_MAX);
    if (rounds == UINT32_MAX) {
        show_rounds(world);
        fail_msg("seed %llu does not settle", (unsigned long long)seed);
    }
    for (uint32_t i = 0; i < world->group_count; i++) {
        check_group(&history, &world->groups[i]);
        check_leader(&history, &world->groups[i]);
    }
    /* It is quiet, and stays so. */
    placement__world_forget_counts(world);
    for (uint32_t i = 0; i < 20; i++) {
        placement__world_round(world, &output);
        assert_int_equal(output.step_count, 0);
        assert_int_equal(output.health_counts[PLACEMENT_WAITING], 0);
    }
    check_fullness(&history);
    placement__world_deinit(world);
}

static void test_histories(void **state)
{
    (void)state;
    const char *seed = getenv("SEED");
    if (seed != NULL) {
        run_seed(strtoull(seed, NULL, 10));
        return;
    }
    const char *seeds = getenv("SEEDS");
    uint64_t count = seeds == NULL ? SEED_COUNT : strtoull(seeds, NULL, 10);
    for (uint64_t i = 1; i <= count; i++) {
        TRACE("placement.seed", i, 0, 0, 0); /* For a step that breaks an invariant. */
        run_seed(i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_histories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
