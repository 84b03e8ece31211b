/* SPDX-License-Identifier: Apache-2.0 */
/* Writes that are asked again, and how far back the window of the next leader reaches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/route/route_world.h"

enum { FIRST, SECOND, THIRD };

/* If the window does not reach back to when a write was first submitted, its outcome is unknown. */
static void test_window(void **state)
{
    struct world_options options = {.seed = 3, .window_count = 5};
    struct world *world = world_create_led(&options, SECOND);
    world_set_committing(world, false);
    uint32_t write = world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 10);
    world_run(world, 10);
    world_kill(world, SECOND);
    world_elect(world, THIRD);
    world_set_committing(world, true);
    for (uint32_t i = 0; i < 10; i++) {
        (void)world_submit(world, world_connect(world, THIRD), WORLD_WRITE, 10);
    }
    world_run(world, 1);
    world_run(world, 1000);
    assert_int_equal(world_status(world, write), ERROR_OUTCOME_UNKNOWN);
    assert_int_equal(world_statistics(world, FIRST).outcome_unknown_count, 1);
    world_end(world);
}

/* Of a write that `leader` has open when it is lost, and may have replicated; its gateway had seen nothing of the shard. */
static void lose_write_of_stranger(uint64_t seed, uint32_t leader)
{
    struct world_options options = {.seed = seed, .window_count = 5, .are_followers_blank = true};
    struct world *world = world_create_led(&options, THIRD);
    for (uint32_t i = 0; i < 20; i++) {
        (void)world_submit(world, world_connect(world, THIRD), WORLD_WRITE, 10);
    }
    (void)world_run_until_done(world, 100);
    world_lose_leader(world);
    world_forget(world, FIRST);
    world_forget(world, THIRD);
    world_set_committing(world, false);
    uint32_t write = world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 10);
    world_run(world, 10);
    world_elect(world, leader);
    world_learn(world, FIRST);
    world_run(world, 100);
    world_lose_leader(world);
    world_elect(world, THIRD);
    world_learn(world, FIRST);
    world_learn(world, SECOND);
    world_set_committing(world, true);
    (void)world_run_until_done(world, 1000);
    assert_int_equal(world_status(world, write), 0);
    assert_int_equal(world_statistics(world, FIRST).retried_count, 1);
    world_end(world);
}

/* A gateway that has seen nothing of a shard yet, as of one that was just split off, is told by the leader how far
 * it is, before its log has the gateway's writes: their outcome is known to the next leader, whose window begins there. */
static void test_window_of_a_stranger(void **state)
{
    for (uint64_t seed = 1; seed < 20; seed++) {
        lose_write_of_stranger(seed, FIRST);
        lose_write_of_stranger(seed, SECOND);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_window_of_a_stranger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
