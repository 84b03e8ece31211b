/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/pace/pace.h"

/* I1: while fewer than two entries are under way, the next may be closed at once, always. */
static void test_one_shard_is_not_held_up(void **state)
{
    struct pace pace = {0};
    uint64_t first = 0;
    for (uint64_t now_ms = 1; now_ms < 100; now_ms++) {
        assert_true(pace_tick(&pace, now_ms));
        uint64_t second = pace_enter(&pace);
        if (first != 0) {
            assert_false(pace_may_go_on(&pace));
            pace_leave(&pace, first);
        }
        assert_true(pace_may_go_on(&pace));
        first = second;
    }
}

/* In a tick that is open all shards may close one; then nobody until half of them are done. */
static void test_many_keep_step(void **state)
{
    struct pace pace = {0};
    uint64_t tickets[6];
    assert_true(pace_tick(&pace, 5));
    for (uint32_t i = 0; i < 6; i++) {
        assert_false(pace.is_closed);
        tickets[i] = pace_enter(&pace);
    }
    for (uint32_t i = 0; i < 3; i++) {
        assert_false(pace_may_go_on(&pace));
        assert_false(pace_tick(&pace, 6));
        pace_leave(&pace, tickets[i]);
    }
    assert_true(pace_may_go_on(&pace));
    assert_false(pace_tick(&pace, 7)); /* Who was answered may ask again. */
    assert_true(pace_may_go_on(&pace));
    assert_true(pace_tick(&pace, 7));
    assert_true(pace_tick(&pace, 7)); /* Nobody had anything. */
    tickets[0] = pace_enter(&pace);   /* Four, of which two must be done. */
    assert_false(pace_tick(&pace, 8));
    pace_leave(&pace, tickets[3]);
    assert_false(pace_tick(&pace, 8));
    pace_leave(&pace, tickets[4]);
    assert_false(pace_tick(&pace, 8));
    assert_true(pace_tick(&pace, 8));
}

/* New entries may come while it turns, of a shard that does not ask because its own is full: then it waits for
 * them, and turns again. */
static void test_it_turns_once_each_time(void **state)
{
    struct pace pace = {0};
    uint64_t tickets[4];
    assert_true(pace_tick(&pace, 5));
    for (uint32_t i = 0; i < 4; i++) {
        tickets[i] = pace_enter(&pace);
    }
    assert_false(pace_tick(&pace, 5));
    for (uint32_t i = 0; i < 4; i++) {
        pace_leave(&pace, tickets[i]);
    }
    assert_false(pace_tick(&pace, 5));
    for (uint32_t i = 0; i < 4; i++) {
        tickets[i] = pace_enter(&pace);
    }
    assert_false(pace_tick(&pace, 6));
    for (uint32_t i = 0; i < 4; i++) {
        pace_leave(&pace, tickets[i]);
    }
    assert_false(pace_tick(&pace, 6));
    assert_true(pace_tick(&pace, 6));
}

/* I2: entries that are not done in time hold up nobody any longer, and are not counted when they are done
 * after all, nor again. */
static void test_patience_ends(void **state)
{
    struct pace pace = {0};
    uint64_t stuck[2];
    assert_true(pace_tick(&pace, 1000));
    stuck[0] = pace_enter(&pace);
    stuck[1] = pace_enter(&pace);
    assert_int_equal(pace_wake_at_ms(&pace), 1000 + PACE_PATIENCE_MS);
    assert_false(pace_tick(&pace, 1000 + PACE_PATIENCE_MS - 1));
    assert_true(pace_tick(&pace, 1000 + PACE_PATIENCE_MS));
    uint64_t ticket = pace_enter(&pace);
    assert_true(pace_tick(&pace, 1000 + PACE_PATIENCE_MS));
    pace_leave(&pace, stuck[0]);
    pace_leave(&pace, stuck[1]);
    assert_int_equal(pace.in_flight_count, 1);
    pace_leave(&pace, ticket);
    assert_int_equal(pace.in_flight_count, 0);
    pace_leave(&pace, 0);
    assert_int_equal(pace.in_flight_count, 0);
}

/* It was idle for long: that is no reason to forget the entries of the first tick after it. */
static void test_patience_begins_with_the_entry(void **state)
{
    struct pace pace = {0};
    assert_true(pace_tick(&pace, 1));
    assert_true(pace_tick(&pace, 50000));
    (void)pace_enter(&pace);
    (void)pace_enter(&pace);
    assert_false(pace_tick(&pace, 50001));
    assert_int_equal(pace.in_flight_count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_shard_is_not_held_up),
        cmocka_unit_test(test_many_keep_step),
        cmocka_unit_test(test_it_turns_once_each_time),
        cmocka_unit_test(test_patience_ends),
        cmocka_unit_test(test_patience_begins_with_the_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
