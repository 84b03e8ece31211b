/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: what a plan costs grows with groups and replicas and not faster, and no more is moved than
 * has to be.
 *
  * Clusters of 10 to 200 nodes with 50 groups per node (PER_NODE=500 for 100,000 in all) grow from one replica to three, lose a
 * node, empty one and get a new one. Counted are the learners that were begun, beside the fewest
 * that could do, and how often a node was looked at in search of a place, in the worst plan. Times
 * (of the processor) are printed, not asserted. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "core/placement/placement_internal.h"
#include "core/placement/placement_world.h"

enum { GROUPS_PER_NODE = 50, ROUND_COUNT_MAX = 100000 };

struct phase {
    uint32_t rounds;
    uint32_t learner_count;
    uint32_t transfer_count;
    double slowest_ms; /* Of its plans. */
    uint64_t looked_at_count;
};

static double now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1000 + (double)now.tv_nsec / 1000000;
}

/* Until nothing is to be done. Learners are filled within a round, so that few rounds do. */
static struct phase settle(struct placement__world *world)
{
    struct phase phase = {0};
    placement__world_forget_counts(world);
    for (;; phase.rounds++) {
        struct placement_output output;
        bool is_busy = placement__world_is_busy(world);
        double start_ms = now_ms();
        placement__world_plan(world, &output);
        double took_ms = now_ms() - start_ms;
        phase.slowest_ms = took_ms > phase.slowest_ms ? took_ms : phase.slowest_ms;
        uint64_t looked_at_count = world->placement->looked_at_count;
        phase.looked_at_count =
            looked_at_count > phase.looked_at_count ? looked_at_count : phase.looked_at_count;
        placement__world_round(world, &output);
        if (output.step_count == 0 && !is_busy) {
            break;
        }
        assert_true(phase.rounds < ROUND_COUNT_MAX);
    }
    phase.learner_count = world->kind_counts[PLACEMENT_ADD_LEARNER];
    phase.transfer_count = world->kind_counts[PLACEMENT_TRANSFER_LEADER];
    return phase;
}

static void print_phase(uint32_t node_count, const char *what, const struct phase *phase,
                        uint32_t fewest, uint32_t group_count)
{
    print_message("| %5u | %6u | %-16s | %6u | %7u | %7u | %7u | %7.1f | %5.2f |\n", node_count,
                  group_count, what, phase->rounds, fewest, phase->learner_count,
                  phase->transfer_count, phase->slowest_ms,
                  (double)phase->looked_at_count / group_count);
}

/* The most replicas that a node has, by the mean of those that are live and stay. */
static double worst_share(struct placement__world *world)
{
    uint32_t most = 0;
    uint32_t total = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct placement_node_state *node = &world->nodes[i];
        if (node->liveness == PLACEMENT_ALIVE && !node->is_draining) {
            uint32_t replicas = placement__world_replica_count(world, node->id);
            most = replicas > most ? replicas : most;
            total += replicas;
            count++;
        }
    }
    return (double)most * count / total;
}

static void begin(struct placement__world *world, uint32_t node_count, uint32_t groups_per_node)
{
    struct random random;
    random_init(&random, node_count);
    placement__world_init(world, node_count + 1, node_count * groups_per_node);
    world->policy.fill_count_max = 32;
    world->fill_rounds = 1;
    for (placement_node id = 1; id <= node_count; id++) {
        (void)placement__world_add_node(world, id, id % 5);
    }
    for (placement_group id = 1; id <= node_count * groups_per_node; id++) {
        struct placement_group_state *group = placement__world_add_group(world, id);
        group->voter_count = 1;
        group->voters[0] = group->leader = 1 + id % node_count;
        group->size_bytes = (UINT64_C(64) << 20) + random_below(&random, UINT64_C(128) << 20);
        group->load = (uint32_t)random_below(&random, 100);
    }
}

/* All phases of one size. Returns how many nodes were looked at for each group, settled. */
static double live(uint32_t node_count, uint32_t groups_per_node)
{
    struct placement__world world;
    begin(&world, node_count, groups_per_node);
    struct placement_output output;
    uint32_t group_count = world.group_count;

    struct phase phase = settle(&world);
    print_phase(node_count, "one to three", &phase, 2 * group_count, group_count);
    assert_true(phase.learner_count <= 2 * group_count + group_count / 10);
    assert_true(phase.looked_at_count <= 10 * (uint64_t)group_count);
    assert_true(worst_share(&world) < 1.15);

    phase = settle(&world);
    double looks = (double)phase.looked_at_count / group_count;
    print_phase(node_count, "settled", &phase, 0, group_count);
    assert_int_equal(phase.learner_count + phase.transfer_count, 0);

    uint32_t fewest = placement__world_replica_count(&world, 3);
    placement__world_set_liveness(&world, 3, PLACEMENT_DEAD);
    world.now_ms += PLACEMENT_DEAD_GRACE_MS;
    phase = settle(&world);
    print_phase(node_count, "a node dies", &phase, fewest, group_count);
    assert_in_range(phase.learner_count, fewest, fewest + fewest / 10);

    fewest = placement__world_replica_count(&world, 5);
    placement__world_node(&world, 5)->is_draining = true;
    phase = settle(&world);
    print_phase(node_count, "a node drains", &phase, fewest, group_count);
    assert_in_range(phase.learner_count, fewest, fewest + fewest / 10);
    assert_int_equal(placement__world_replica_count(&world, 5), 0);

    (void)placement__world_add_node(&world, node_count + 1, (node_count + 1) % 5);
    fewest = 3 * group_count / (node_count - 1); /* Two left, one came. */
    phase = settle(&world);
    print_phase(node_count, "a node joins", &phase, fewest, group_count);
    assert_true(phase.learner_count <= fewest + fewest / 5);
    assert_true(phase.looked_at_count <= 10 * (uint64_t)group_count);
    assert_true(worst_share(&world) < 1.2);

    placement__world_plan(&world, &output);
    assert_int_equal(output.step_count, 0);
    placement__world_deinit(&world);
    return looks;
}

static void test_sizes(void **state)
{
    (void)state;
    static const uint32_t counts[] = {10, 50, 100, 200};
    const char *text = getenv("PER_NODE");
    uint32_t groups_per_node = text == NULL ? GROUPS_PER_NODE : (uint32_t)strtoul(text, NULL, 10);
    print_message("| nodes | groups | what             | rounds | fewest  | begun   | leaders |"
                  " plan ms | looks |\n");
    for (uint32_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        double looks = live(counts[i], groups_per_node);
        assert_true(looks < 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
