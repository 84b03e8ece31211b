/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "core/shares/shares.h"

#define MIB (UINT64_C(1) << 20)

enum { COUNT_MAX = 200 };

static uint32_t change_count;

static void count_change(void *context, uint32_t member, uint64_t limit_size_bytes)
{
    (void)context;
    (void)member;
    assert_true(limit_size_bytes > 0);
    change_count++;
}

static struct shares *create(uint32_t member_count, uint64_t budget_size_bytes)
{
    struct shares *shares =
        shares_create(&(struct shares_options){.budget_size_bytes = budget_size_bytes,
                                               .floor_size_bytes_max = MIB,
                                               .member_count_max = 20000});
    for (uint32_t i = 0; i < member_count; i++) {
        assert_int_equal(shares_add(shares), i);
    }
    shares_settle(shares, count_change, NULL);
    return shares;
}

static uint64_t sum_of_limits(const struct shares *shares, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += shares_limit(shares, i);
    }
    return sum;
}

/* It uses all that it may. */
static void ask_for_more(struct shares *shares, uint32_t member, uint64_t request_count)
{
    shares_note(shares, member, shares_limit(shares, member), request_count, true);
}

/* Who is alone has all of it. */
static void test_alone(void **state)
{
    struct shares *shares = create(1, 64 * MIB);
    assert_int_equal(shares_limit(shares, 0), 64 * MIB);
    shares_destroy(shares);
}

/* One of sixteen that is asked gets nearly all, within a few rounds. */
static void test_one_of_many(void **state)
{
    struct shares *shares = create(16, 256 * MIB);
    for (uint32_t round = 0; round < 4; round++) {
        ask_for_more(shares, 7, 1000);
        shares_settle(shares, count_change, NULL);
        assert_true(shares_committed(shares) <= 256 * MIB);
    }
    assert_true(shares_limit(shares, 7) > 256 * MIB * 9 / 10);
    assert_int_equal(shares_limit(shares, 3), MIB);
    shares_destroy(shares);
}

/* When others come, what one has goes to them, but only when it has let go of it; and in proportion to how
 * often they are asked. */
static void test_others_come(void **state)
{
    struct shares *shares = create(4, 100 * MIB);
    for (uint32_t round = 0; round < 6; round++) {
        ask_for_more(shares, 0, 300);
        shares_settle(shares, count_change, NULL);
    }
    uint64_t had = shares_limit(shares, 0);
    assert_true(had > 90 * MIB);
    for (uint32_t round = 0; round < 5; round++) {
        shares_note(shares, 0, had, 300, true);
        ask_for_more(shares, 1, 100);
        shares_settle(shares, count_change, NULL);
    }
    assert_true(shares_limit(shares, 0) < had);
    assert_true(shares_limit(shares, 1) < 10 * MIB); /* It is still in use. */
    for (uint32_t round = 0; round < 60; round++) {
        ask_for_more(shares, 0, 300);
        ask_for_more(shares, 1, 100);
        shares_settle(shares, count_change, NULL);
        assert_true(shares_committed(shares) <= 100 * MIB);
    }
    assert_in_range(shares_limit(shares, 0), 66 * MIB, 80 * MIB);
    assert_in_range(shares_limit(shares, 1), 18 * MIB, 30 * MIB);
    shares_destroy(shares);
}

/* Who has all that it needs loses nothing to one that would take any amount. */
static void test_the_satisfied(void **state)
{
    struct shares *shares = create(2, 100 * MIB);
    for (uint32_t round = 0; round < 40; round++) {
        shares_note(shares, 0,
                    20 * MIB < shares_limit(shares, 0) ? 20 * MIB : shares_limit(shares, 0), 1000,
                    shares_limit(shares, 0) < 20 * MIB);
        ask_for_more(shares, 1, 1000);
        shares_settle(shares, count_change, NULL);
    }
    assert_true(shares_limit(shares, 0) >= 20 * MIB);
    assert_in_range(shares_limit(shares, 1), 70 * MIB, 80 * MIB);
    shares_destroy(shares);
}

/* As long as nobody wants more, nothing is taken from anybody; what changes little is left as it is. */
static void test_rest(void **state)
{
    struct shares *shares = create(8, 64 * MIB);
    for (uint32_t round = 0; round < 10; round++) {
        ask_for_more(shares, 2, 100);
        shares_settle(shares, count_change, NULL);
    }
    uint64_t had = shares_limit(shares, 2);
    change_count = 0;
    for (uint32_t round = 0; round < 200; round++) {
        shares_note(shares, 3, MIB / 2, 10, false);
        shares_settle(shares, count_change, NULL);
    }
    for (uint32_t round = 0; round < 100; round++) { /* A little more and less. */
        ask_for_more(shares, 2, 100 + round % 3);
        shares_settle(shares, count_change, NULL);
    }
    assert_int_equal(change_count, 0);
    assert_int_equal(shares_limit(shares, 2), had);
    shares_destroy(shares);
}

/* A new member has its floor once the others have made room, however many there are. */
static void test_newcomers(void **state)
{
    struct shares *shares = create(1, 64 * MIB);
    shares_note(shares, 0, 64 * MIB, 10, true);
    for (uint32_t i = 1; i < 10000; i++) {
        assert_int_equal(shares_add(shares), i);
        assert_true(shares_committed(shares) <= 64 * MIB);
    }
    shares_settle(shares, count_change, NULL);
    for (uint32_t round = 0; round < 3; round++) {
        shares_note(shares, 0, shares_limit(shares, 0), 10, true);
        shares_settle(shares, count_change, NULL);
    }
    for (uint32_t i = 0; i < 10000; i++) {
        assert_true(shares_limit(shares, i) >= 64 * MIB / 10000 / 8 - 1);
    }
    assert_true(sum_of_limits(shares, 10000) <= 64 * MIB);
    shares_destroy(shares);
}

/* Whatever they do, the limits, and what was taken of them, stay within the budget. */
static void test_any_history(void **state)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct random random;
        random_init(&random, seed);
        uint32_t count = 1 + (uint32_t)random_below(&random, 20);
        uint64_t budget = (1 + random_below(&random, 64)) * MIB;
        uint64_t used[COUNT_MAX] = {0};
        struct shares *shares = create(count, budget);
        for (uint32_t round = 0; round < 300; round++) {
            if (count < COUNT_MAX && random_chance(&random, 1, 20)) {
                assert_int_equal(shares_add(shares), count++);
            }
            for (uint32_t i = 0; i < 1 + count / 4; i++) {
                uint32_t member = (uint32_t)random_below(&random, count);
                uint64_t limit = shares_limit(shares, member);
                bool is_over = used[member] > limit; /* It lets go little by little. */
                used[member] = is_over ? used[member] - (used[member] - limit) / 2
                                       : random_below(&random, limit + 1);
                shares_note(shares, member, used[member], random_below(&random, 1000),
                            random_chance(&random, 1, 2));
            }
            shares_settle(shares, count_change, NULL);
            assert_true(sum_of_limits(shares, count) <= budget);
            assert_true(shares_committed(shares) <= budget);
        }
        shares_destroy(shares);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),       cmocka_unit_test(test_one_of_many),
        cmocka_unit_test(test_others_come), cmocka_unit_test(test_the_satisfied),
        cmocka_unit_test(test_rest),        cmocka_unit_test(test_newcomers),
        cmocka_unit_test(test_any_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
