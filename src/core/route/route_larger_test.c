/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are larger than the limits: each has its turn, and stands in nobody's way for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/route/route_world.h"

enum { FIRST, SECOND };

/* One that is larger than all that is kept for gateways is kept beside what somebody waits for, which may be for long. */
static void test_held_limit_and_a_larger_one(void **state)
{
    struct world_options options = {.seed = 1, .route = {.held_size_bytes_max = 10000}};
    struct world *world = world_create_led(&options, SECOND);
    world_set_committing(world, false);
    (void)world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 10);
    world_run(world, 10);
    for (uint32_t i = 0; i < 2; i++) { /* One. */
        (void)world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 50000);
        world_run(world, 10);
        assert_int_equal(world_statistics(world, SECOND).served_count, 2);
    }
    world_set_committing(world, true);
    (void)world_run_until_done(world, 1000);
    world_end(world);
}

/* Where one that is larger than the room of the other side is under way, what it may wait for goes all the same. */
static void test_room_beside_a_larger_one(void **state)
{
    for (uint32_t size_bytes = 9000; size_bytes <= 60000; size_bytes += 1000) {
        struct world_options options = {.seed = 1, .route = {.guest_size_bytes_max = 10000}};
        struct world *world = world_create_led(&options, SECOND);
        world_set_committing(world, false);
        (void)world_submit(world, world_connect(world, FIRST), WORLD_WRITE, size_bytes);
        world_run(world, 10);
        assert_int_equal(world_statistics(world, SECOND).served_count, 1);
        for (uint32_t i = 0; i < 100; i++) {
            (void)world_submit(world, world_connect(world, FIRST), WORLD_RELEASE, 100);
            (void)world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 1000);
            world_run(world, 1);
        }
        assert_in_range(world_statistics(world, SECOND).served_count, 1 + 10, 1 + 14);
        world_set_committing(world, true);
        (void)world_run_until_done(world, 1000);
        assert_int_equal(world_statistics(world, SECOND).ended_stream_count, 0);
        world_end(world);
    }
}

/* Each of the sessions has `pending_count` writes of `size_bytes` under way all the time: one of another size, in a
 * session of its own, has its turn. */
static void check_turn(uint32_t session_count, uint32_t pending_count, uint32_t size_bytes,
                       uint32_t other_size_bytes)
{
    enum { SESSION_COUNT_MAX = 20, WAIT_MS = 300 };
    struct world_options options = {
        .seed = 1, .commit_delay_ms_max = 20, .route = {.guest_size_bytes_max = 10000}};
    struct world *world = world_create_led(&options, SECOND);
    struct world_session *sessions[SESSION_COUNT_MAX];
    for (uint32_t i = 0; i < session_count; i++) {
        sessions[i] = world_connect(world, FIRST);
    }
    uint32_t other = 0;
    for (uint32_t ms = 0; ms < WAIT_MS; ms++) {
        for (uint32_t i = 0; i < session_count; i++) {
            if (world_pending_count(world, sessions[i]) < pending_count) {
                (void)world_submit(world, sessions[i], WORLD_WRITE, size_bytes);
            }
        }
        if (ms == 10) {
            other = world_submit(world, world_connect(world, FIRST), WORLD_WRITE, other_size_bytes);
        }
        world_run(world, 1);
    }
    assert_int_equal(world_status(world, other), 0);
    (void)world_run_until_done(world, 1000);
    assert_int_equal(world_statistics(world, SECOND).ended_stream_count, 0);
    world_end(world);
}

/* However many others there are all the time. */
static void test_a_larger_one_gets_its_turn(void **state)
{
    check_turn(20, 2, 10, 50000);
    check_turn(20, 2, 2000, 50000);
}

/* Nor do those that are larger pass by a small one for ever, or one of which few fit. */
static void test_others_have_their_turn_beside_larger_ones(void **state)
{
    check_turn(3, 1, 50000, 10);
    check_turn(3, 1, 50000, 7000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_limit_and_a_larger_one),
        cmocka_unit_test(test_room_beside_a_larger_one),
        cmocka_unit_test(test_a_larger_one_gets_its_turn),
        cmocka_unit_test(test_others_have_their_turn_beside_larger_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
