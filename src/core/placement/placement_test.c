/* SPDX-License-Identifier: Apache-2.0 */
#include "core/placement/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { NODE_COUNT = 4, GROUP_COUNT = 3 };

struct fixture {
    struct placement *placement;
    struct placement_node_state nodes[NODE_COUNT];
    struct placement_group_state groups[GROUP_COUNT];
    struct placement_input input;
    struct placement_output output;
};

/* Four nodes, three groups with one voter each on node 1. */
static void begin(struct fixture *fixture)
{
    *fixture = (struct fixture){0};
    assert_int_equal(placement_create(&fixture->placement, NODE_COUNT, GROUP_COUNT, NULL), 0);
    for (uint32_t i = 0; i < NODE_COUNT; i++) {
        fixture->nodes[i].id = i + 1;
        fixture->nodes[i].capacity_bytes = 1 << 30;
    }
    for (uint32_t i = 0; i < GROUP_COUNT; i++) {
        fixture->groups[i] = (struct placement_group_state){
            .id = i * 10, .voter_count = 1, .voters = {1}, .leader = 1};
    }
    fixture->input = (struct placement_input){
        .now_ms = 1000,
        .policy = {.replica_count = 3},
        .nodes = fixture->nodes,
        .node_count = NODE_COUNT,
        .groups = fixture->groups,
        .group_count = GROUP_COUNT,
    };
}

static int plan(struct fixture *fixture)
{
    return placement_plan(fixture->placement, &fixture->input, &fixture->output, NULL);
}

/* Counts beyond the limits are refused. */
static void test_create_refuses(void **state)
{
    (void)state;
    struct placement *placement = NULL;
    assert_int_equal(placement_create(&placement, 0, 1, NULL), -EINVAL);
    assert_int_equal(placement_create(&placement, 1, 0, NULL), -EINVAL);
    assert_int_equal(placement_create(&placement, PLACEMENT_NODE_COUNT_LIMIT + 1, 1, NULL),
                     -EINVAL);
    struct error error = {0};
    assert_int_equal(placement_create(&placement, 1, PLACEMENT_GROUP_COUNT_LIMIT + 1, &error),
                     -EINVAL);
    assert_string_equal(error.message, "there are 1 to 1000000 groups, not 1000001");
    assert_null(placement);
    placement_destroy(NULL);
}

/* An input that contradicts itself yields no output. */
static void test_plan_refuses(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture);
    memset(&fixture.output, 0xee, sizeof fixture.output);
    struct placement_output untouched;
    memset(&untouched, 0xee, sizeof untouched);
    fixture.nodes[2].id = 2;
    assert_int_equal(plan(&fixture), -EINVAL); /* Twice. */
    fixture.nodes[2].id = 3;
    fixture.nodes[0].id = 0;
    assert_int_equal(plan(&fixture), -EINVAL);
    fixture.nodes[0].id = 1;
    fixture.groups[2].id = 5;
    assert_int_equal(plan(&fixture), -EINVAL); /* Not ascending. */
    fixture.groups[2].id = 20;
    fixture.groups[1].voter_count = 0;
    assert_int_equal(plan(&fixture), -EINVAL);
    fixture.groups[1].voter_count = PLACEMENT_VOTER_COUNT_MAX + 1;
    assert_int_equal(plan(&fixture), -EINVAL);
    fixture.groups[1].voter_count = 1;
    fixture.groups[1].learner_count = PLACEMENT_LEARNER_COUNT_MAX + 1;
    assert_int_equal(plan(&fixture), -EINVAL);
    fixture.groups[1].learner_count = 0;
    fixture.groups[1].replica_count = 2;
    assert_int_equal(plan(&fixture), -EINVAL);
    fixture.groups[1].replica_count = 9;
    assert_int_equal(plan(&fixture), -EINVAL);
    fixture.groups[1].replica_count = 0;
    fixture.input.policy.replica_count = 0;
    assert_int_equal(plan(&fixture), -EINVAL);
    fixture.input.policy.replica_count = 3;
    fixture.input.node_count = NODE_COUNT + 1;
    assert_int_equal(plan(&fixture), -EINVAL);
    fixture.input.node_count = NODE_COUNT;
    fixture.input.step_count_max = PLACEMENT_STEP_COUNT_MAX + 1;
    assert_int_equal(plan(&fixture), -EINVAL);
    fixture.input.step_count_max = 0;
    assert_memory_equal(&fixture.output, &untouched, sizeof untouched);
    assert_int_equal(plan(&fixture), 0);
    placement_destroy(fixture.placement);
}

/* The output says what each group is waiting for, and a full list of steps is no more than that. */
static void test_step_limit(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture);
    fixture.input.step_count_max = 1;
    assert_int_equal(plan(&fixture), 0);
    assert_int_equal(fixture.output.step_count, 1);
    assert_int_equal(fixture.output.steps[0].kind, PLACEMENT_ADD_LEARNER);
    assert_int_equal(fixture.output.steps[0].group, 0);
    assert_int_equal(placement_health_of(fixture.placement, 0), PLACEMENT_STEPPING);
    assert_int_equal(placement_health_of(fixture.placement, 1), PLACEMENT_WAITING);
    assert_int_equal(fixture.output.health_counts[PLACEMENT_WAITING], 2);
    assert_int_equal(fixture.output.under_replicated_count, 3);
    assert_false(fixture.output.is_settled);
    assert_true(fixture.output.wake_at_ms == UINT64_MAX);
    placement_destroy(fixture.placement);
}

/* The same input gives the same steps, whatever was planned before. */
static void test_deterministic(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture);
    assert_int_equal(plan(&fixture), 0);
    struct placement_step steps[8];
    uint32_t step_count = fixture.output.step_count;
    assert_in_range(step_count, 1, 8);
    memcpy(steps, fixture.output.steps, step_count * sizeof steps[0]);
    fixture.input.policy.replica_count = 1;
    assert_int_equal(plan(&fixture), 0);
    fixture.input.policy.replica_count = 3;
    assert_int_equal(plan(&fixture), 0);
    assert_int_equal(fixture.output.step_count, step_count);
    assert_memory_equal(fixture.output.steps, steps, step_count * sizeof steps[0]);
    placement_destroy(fixture.placement);
}

/* Ids may be any numbers: those that are looked up by searching, and those that are not there. */
static void test_large_ids(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture);
    for (uint32_t i = 0; i < NODE_COUNT; i++) {
        fixture.nodes[i].id = 3000000000 + i;
    }
    for (uint32_t i = 0; i < GROUP_COUNT; i++) {
        fixture.groups[i].leader = fixture.groups[i].voters[0] = 3000000000;
    }
    fixture.groups[2].voter_count = 3;
    fixture.groups[2].voters[1] = 3000000001;
    fixture.groups[2].voters[2] = 20000; /* Removed from the cluster. */
    assert_int_equal(plan(&fixture), 0);
    assert_int_equal(fixture.output.health_counts[PLACEMENT_STEPPING], 2); /* One leader fills. */
    assert_true(fixture.output.steps[0].node > 3000000000);
    placement_destroy(fixture.placement);
}

/* No nodes and no groups are nothing to do. */
static void test_nothing(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture);
    fixture.input.group_count = 0;
    assert_int_equal(plan(&fixture), 0);
    assert_true(fixture.output.is_settled);
    fixture.input.node_count = 0;
    assert_int_equal(plan(&fixture), 0);
    assert_true(fixture.output.is_settled);
    fixture.input.group_count = GROUP_COUNT;
    assert_int_equal(plan(&fixture), 0);
    assert_int_equal(fixture.output.health_counts[PLACEMENT_UNAVAILABLE], GROUP_COUNT);
    placement_destroy(fixture.placement);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_refuses), cmocka_unit_test(test_plan_refuses),
        cmocka_unit_test(test_step_limit),     cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_large_ids),      cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
