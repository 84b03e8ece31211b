/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_the_generator_is_xoshiro256_star_star(void **state)
{
    /* The reference implementation's first numbers from the state 1, 2, 3, 4. */
    static const uint64_t expected[] = {
        11520u,
        0u,
        1509978240u,
        1215971899390074240u,
        1216172134540287360u,
        607988272756665600u,
        16172922978634559625u,
        8476171486693032832u,
        10595114339597558777u,
        2904607092377533576u,
    };
    struct random random = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_true(random_next(&random) == expected[i]);
    }
}

static void test_a_seed_is_spread_by_split_mix(void **state)
{
    /* The reference SplitMix64's first numbers from 1234567: a seed means the same everywhere. */
    struct random random;
    random_init(&random, 1234567);
    assert_true(random.state[0] == 6457827717110365317u);
    assert_true(random.state[1] == 3203168211198807973u);
    assert_true(random.state[2] == 9817491932198370423u);
    assert_true(random.state[3] == 4593380528125082431u);
}

static void test_equal_seeds_give_equal_numbers(void **state)
{
    /* What lets a seed reproduce a run; and neighbouring seeds differ at once. */
    struct random first;
    struct random second;
    struct random other;
    random_init(&first, 42);
    random_init(&second, 42);
    random_init(&other, 43);
    int equal_count = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t value = random_next(&first);
        assert_true(value == random_next(&second));
        equal_count += value == random_next(&other);
    }
    assert_int_equal(equal_count, 0);
}

static void test_a_bound_is_never_reached_and_everything_below_is(void **state)
{
    /* Each of ten values comes about 10,000 times in 100,000. */
    struct random random;
    random_init(&random, 7);
    uint32_t counts[10] = {0};
    for (int i = 0; i < 100000; i++) {
        uint64_t value = random_below(&random, 10);
        assert_true(value < 10);
        counts[value]++;
    }
    for (int i = 0; i < 10; i++) {
        assert_in_range(counts[i], 9500, 10500);
    }
    assert_true(random_below(&random, 1) == 0);
}

static void test_a_chance_is_taken_as_often_as_it_says(void **state)
{
    /* Never, always, and one time in four. */
    struct random random;
    random_init(&random, 8);
    uint32_t taken = 0;
    for (int i = 0; i < 40000; i++) {
        assert_false(random_chance(&random, 0, 5));
        assert_true(random_chance(&random, 5, 5));
        taken += random_chance(&random, 1, 4);
    }
    assert_in_range(taken, 9500, 10500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_generator_is_xoshiro256_star_star),
        cmocka_unit_test(test_a_seed_is_spread_by_split_mix),
        cmocka_unit_test(test_equal_seeds_give_equal_numbers),
        cmocka_unit_test(test_a_bound_is_never_reached_and_everything_below_is),
        cmocka_unit_test(test_a_chance_is_taken_as_often_as_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
