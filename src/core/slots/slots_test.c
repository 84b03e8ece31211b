/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "core/slots/slots.h"

/* Divided into any number, each slot has one shard, in order, and shares differ by one at most. */
static void test_divide(void **state)
{
    static struct slots slots;
    for (uint32_t count = 1; count <= SLOTS_SHARD_COUNT_MAX; count++) {
        slots_divide(&slots, count);
        assert_int_equal(slots.range_count, count);
        wal_shard before = SLOTS_FIRST_SHARD;
        uint32_t sizes[SLOTS_SHARD_COUNT_MAX + 1] = {0};
        for (uint32_t slot = 0; slot < SLOTS_COUNT; slot++) {
            wal_shard shard = slots_shard_of(&slots, slot);
            assert_true(shard == before || shard == before + 1);
            before = shard;
            sizes[shard]++;
        }
        assert_int_equal(before, count);
        for (wal_shard shard = 1; shard <= count; shard++) {
            assert_in_range(sizes[shard], SLOTS_COUNT / count, SLOTS_COUNT / count + 1);
            assert_int_equal(slots_find(&slots, shard), shard - 1);
        }
        assert_int_equal(slots_find(&slots, count + 1), count);
    }
}

/* What is no map is refused, and the old one stays. */
static void test_refusals(void **state)
{
    static const struct slots_range wrong[][2] = {
        {{1, 0, 8000}, {2, 8001, SLOTS_COUNT}},     /* A gap. */
        {{1, 0, 8000}, {2, 7999, SLOTS_COUNT}},     /* Twice. */
        {{1, 1, 8000}, {2, 8000, SLOTS_COUNT}},     /* Not from the first */
        {{1, 0, 8000}, {2, 8000, SLOTS_COUNT - 1}}, /* to the last. */
        {{1, 0, 8000}, {2, 8000, SLOTS_COUNT + 1}},
        {{1, 0, SLOTS_COUNT}, {2, SLOTS_COUNT, SLOTS_COUNT}}, /* Empty. */
        {{1, 0, 8000}, {1, 8000, SLOTS_COUNT}},               /* One shard twice. */
        {{2, 0, 8000}, {1, 8000, SLOTS_COUNT}},               /* The first is elsewhere. */
    };
    static struct slots slots;
    static struct slots before;
    slots_divide(&slots, 3);
    slots_divide(&before, 3);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(slots_set(&slots, wrong[i], 2), -EINVAL);
        assert_true(slots_are_equal(&slots, &before));
    }
    assert_int_equal(slots_set(&slots, wrong[0], 0), -EINVAL);
}

/* Ids need not be in the order of the ranges, as after a split. */
static void test_set(void **state)
{
    static const struct slots_range ranges[] = {{1, 0, 100}, {7, 100, 200}, {2, 200, SLOTS_COUNT}};
    static struct slots slots;
    static struct slots other;
    assert_int_equal(slots_set(&slots, ranges, 3), 0);
    assert_int_equal(slots_shard_of(&slots, 99), 1);
    assert_int_equal(slots_shard_of(&slots, 100), 7);
    assert_int_equal(slots_shard_of(&slots, 199), 7);
    assert_int_equal(slots_shard_of(&slots, SLOTS_COUNT - 1), 2);
    assert_int_equal(slots_find(&slots, 7), 1);
    slots_divide(&other, 3);
    assert_false(slots_are_equal(&slots, &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_divide),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
