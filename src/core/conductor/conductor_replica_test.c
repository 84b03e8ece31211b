/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a learner is said to be ready to vote only when it has shown that it can take entries and lacks few, and
 * the slot where a range is halved is the best one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/conductor/conductor_internal.h"

static bool is_caught_up(enum raft_progress progress, raft_index match_index,
                         raft_index applied_index)
{
    const struct raft_peer learner = {.progress = progress, .match_index = match_index};
    return conductor__is_caught_up(&learner, applied_index);
}

static void test_caught_up(void **state)
{
    assert_true(is_caught_up(RAFT_PROGRESS_REPLICATE, 1000, 1000));
    assert_true(is_caught_up(RAFT_PROGRESS_REPLICATE, 744, 1000));
    assert_false(is_caught_up(RAFT_PROGRESS_REPLICATE, 743, 1000));
    assert_true(is_caught_up(RAFT_PROGRESS_REPLICATE, 1, 200));
    assert_false(is_caught_up(RAFT_PROGRESS_REPLICATE, 0, 200)); /* Its disk may be full. */
    assert_true(is_caught_up(RAFT_PROGRESS_PROBE, 1000, 1000));  /* Nothing is written. */
    assert_false(is_caught_up(RAFT_PROGRESS_PROBE, 999, 1000));
    assert_false(is_caught_up(RAFT_PROGRESS_SNAPSHOT, 999, 1000));
    const struct raft_peer impaired = {
        .progress = RAFT_PROGRESS_REPLICATE, .match_index = 1000, .is_impaired = true};
    assert_false(conductor__is_caught_up(&impaired, 1000));
}

/* ---- Halves ---------------------------------------------------------------------------------- */

static uint64_t measure(void *context, uint32_t first, uint32_t end)
{
    const uint64_t *sizes = context;
    uint64_t sum = 0;
    for (uint32_t i = first; i < end; i++) {
        sum += sizes[i];
    }
    return sum;
}

static uint64_t least_of(const struct conductor_halves *halves)
{
    return halves->lower < halves->upper ? halves->lower : halves->upper;
}

/* No other slot leaves the smaller part more. */
static void expect_best(uint64_t *sizes, uint32_t first, uint32_t end)
{
    const struct conductor_question question = {CONDUCTOR_SPLIT_SIZE, 1, first, end};
    struct conductor_halves halves = conductor_halve(&question, measure, sizes);
    assert_true(halves.slot > first && halves.slot < end);
    assert_int_equal(halves.lower, measure(sizes, first, halves.slot));
    assert_int_equal(halves.upper, measure(sizes, halves.slot, end));
    for (uint32_t slot = first + 1; slot < end; slot++) {
        const struct conductor_halves other = {.lower = measure(sizes, first, slot),
                                               .upper = measure(sizes, slot, end)};
        assert_true(least_of(&other) <= least_of(&halves));
    }
}

static void test_halves(void **state)
{
    uint64_t sizes[8] = {0};
    expect_best(sizes, 0, 8);                            /* Nothing is anywhere. */
    for (uint32_t number = 0; number < 6561; number++) { /* Each of eight slots has 0, 1 or 5. */
        static const uint64_t choices[] = {0, 1, 5};
        for (uint32_t i = 0, rest = number; i < 8; i++, rest /= 3) {
            sizes[i] = choices[rest % 3];
        }
        expect_best(sizes, 0, 8);
        expect_best(sizes, 3, 5);
    }
}

/* It was caught up when the step was thought of. */
static void test_who_may_vote(void **state)
{
    (void)state;
    struct raft_peer learner = {.progress = RAFT_PROGRESS_REPLICATE, .match_index = 1};
    assert_true(conductor__may_vote(&learner)); /* How far it is was looked at then. */
    learner.is_impaired = true;
    assert_false(conductor__may_vote(&learner));
    const struct raft_peer empty = {.progress = RAFT_PROGRESS_PROBE};
    assert_false(conductor__may_vote(&empty));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caught_up),
        cmocka_unit_test(test_who_may_vote),
        cmocka_unit_test(test_halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
