/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/random/random.h"
#include "core/slots/slots.h"

/* Divided into any number, each slot has one shard, in order, and shares differ by one at most. */
static void test_divide(void **state)
{
    static struct slots slots;
    static const uint32_t counts[] = {1, 2, 3, 7, 16, 64, 100, 1000, 10000, SLOTS_SHARD_COUNT_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint32_t count = counts[i];
        slots_divide(&slots, count);
        assert_int_equal(slots.range_count, count);
        wal_shard before = SLOTS_FIRST_SHARD;
        static uint32_t sizes[SLOTS_SHARD_COUNT_MAX + 2];
        memset(sizes, 0, sizeof sizes);
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
    slots_deinit(&slots);
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
    slots_deinit(&slots);
    slots_deinit(&before);
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
    slots_deinit(&slots);
    slots_deinit(&other);
}

/* A child gets the upper part of its parent, wherever that stands, and nothing else changes. */
static void test_split(void **state)
{
    static struct slots slots;
    static struct slots before;
    slots_divide(&before, 2);
    slots_copy(&slots, &before);
    assert_int_equal(slots_split(&slots, 1, 100, 3), 0);
    assert_int_equal(slots.range_count, 3);
    assert_int_equal(slots_shard_of(&slots, 99), 1);
    assert_int_equal(slots_shard_of(&slots, 100), 3);
    assert_int_equal(slots_shard_of(&slots, 8191), 3);
    assert_int_equal(slots_shard_of(&slots, 8192), 2);
    assert_int_equal(slots_split(&slots, 2, 9000, 4), 0);
    assert_int_equal(slots_shard_of(&slots, SLOTS_COUNT - 1), 4);
    assert_true(slots_descend(&slots, &before));
    assert_true(slots_descend(&before, &before));
    assert_false(slots_descend(&before, &slots));
    slots_deinit(&slots);
    slots_deinit(&before);
}

/* No part is empty, no shard is there twice, and there is an end of it. */
static void test_split_refusals(void **state)
{
    static struct slots slots;
    static struct slots before;
    slots_divide(&slots, 2);
    slots_copy(&before, &slots);
    assert_int_equal(slots_split(&slots, 1, 0, 3), -EINVAL);
    assert_int_equal(slots_split(&slots, 1, 8192, 3), -EINVAL);
    assert_int_equal(slots_split(&slots, 2, 8192, 3), -EINVAL);
    assert_int_equal(slots_split(&slots, 1, 100, 2), -EINVAL);
    assert_int_equal(slots_split(&slots, 1, 100, 0), -EINVAL);
    assert_int_equal(slots_split(&slots, 3, 100, 4), -EINVAL);
    assert_true(slots_are_equal(&slots, &before));
    slots_divide(&slots, SLOTS_SHARD_COUNT_MAX);
    assert_int_equal(slots_split(&slots, 1, 1, 20000), -EINVAL);
    slots_deinit(&slots);
    slots_deinit(&before);
}

/* However many splits there were, in whatever order: each slot has the shard that the last of them gave it,
 * and each shard is found by its number. */
static void test_many_splits(void **state)
{
    static struct slots slots;
    static wal_shard owners[SLOTS_COUNT];
    struct random random;
    random_init(&random, 1);
    slots_divide(&slots, 1);
    for (uint32_t slot = 0; slot < SLOTS_COUNT; slot++) {
        owners[slot] = 1;
    }
    for (wal_shard child = 2; child < 3000; child++) {
        uint32_t first = 1 + (uint32_t)random_below(&random, SLOTS_COUNT - 1);
        wal_shard number = child % 2 == 0 ? child : 100000 - child; /* Not in their order. */
        wal_shard parent = slots_shard_of(&slots, first);
        uint32_t end = slots.ranges[slots_place_of(&slots, first)].end;
        if (slots_split(&slots, parent, first, number) != 0) {
            assert_int_equal(slots.ranges[slots_place_of(&slots, first)].first, first);
            continue;
        }
        for (uint32_t slot = first; slot < end; slot++) {
            owners[slot] = number;
        }
    }
    assert_true(slots.range_count > 2000);
    for (uint32_t slot = 0; slot < SLOTS_COUNT; slot++) {
        assert_int_equal(slots_shard_of(&slots, slot), owners[slot]);
        assert_int_equal(slots_find(&slots, owners[slot]), slots_place_of(&slots, slot));
    }
    assert_int_equal(slots_find(&slots, 100001), slots.range_count);
    slots_deinit(&slots);
}

/* Each of two maps may know of a split that the other does not: together they know of both, either way. */
static void test_merge(void **state)
{
    static struct slots left;
    static struct slots right;
    static struct slots both;
    static struct slots other;
    slots_divide(&left, 2);
    slots_copy(&right, &left);
    slots_copy(&both, &left);
    assert_int_equal(slots_split(&left, 1, 4096, 3), 0);
    assert_int_equal(slots_split(&left, 3, 6000, 5), 0);
    assert_int_equal(slots_split(&right, 2, 12288, 4), 0);
    assert_int_equal(slots_split(&both, 1, 4096, 3), 0);
    assert_int_equal(slots_split(&both, 3, 6000, 5), 0);
    assert_int_equal(slots_split(&both, 2, 12288, 4), 0);
    slots_copy(&other, &left);
    assert_true(slots_merge(&left, &right));
    assert_true(slots_are_equal(&left, &both));
    assert_true(slots_merge(&right, &other));
    assert_true(slots_are_equal(&right, &both));
    assert_true(slots_merge(&right, &left)); /* Nothing new. */
    assert_true(slots_are_equal(&right, &both));
    slots_deinit(&left);
    slots_deinit(&right);
    slots_deinit(&both);
    slots_deinit(&other);
}

/* Maps of different clusters are not put together: a shard that begins elsewhere, two that begin at one
 * slot, too many. */
static void test_merge_refusals(void **state)
{
    static struct slots slots;
    static struct slots before;
    static struct slots other;
    slots_divide(&slots, 2);
    slots_copy(&before, &slots);
    slots_divide(&other, 3);
    assert_false(slots_merge(&slots, &other));
    slots_divide(&other, 1);
    assert_int_equal(slots_split(&other, 1, 8192, 3), 0);
    assert_false(slots_merge(&slots, &other));
    slots_divide(&other, 1);
    assert_int_equal(slots_split(&other, 1, 77, 20000), 0);
    slots_divide(&slots, SLOTS_SHARD_COUNT_MAX);
    assert_false(slots_merge(&slots, &other));
    slots_divide(&slots, 2);
    assert_true(slots_are_equal(&slots, &before));
    slots_deinit(&slots);
    slots_deinit(&before);
    slots_deinit(&other);
}

/* A child is not opened beside a replica that still has its slots; one that has others is no reason. */
static void test_may_open(void **state)
{
    static struct slots slots;
    static const struct slots_range before[] = {{1, 0, 8192}};
    static const struct slots_range after[] = {{1, 0, 4096}, {2, 8192, SLOTS_COUNT}};
    static const struct slots_range itself[] = {{3, 4096, 8192}};
    slots_divide(&slots, 2);
    assert_int_equal(slots_split(&slots, 1, 4096, 3), 0);
    assert_false(slots_may_open(&slots, 3, before, 1));
    assert_true(slots_may_open(&slots, 3, after, 2));
    assert_false(slots_may_open(&slots, 3, itself, 1)); /* It is open. */
    assert_true(slots_may_open(&slots, 2, before, 1));
    assert_true(slots_may_open(&slots, 3, NULL, 0));
    assert_false(slots_may_open(&slots, 4, NULL, 0)); /* No such shard. */
    slots_deinit(&slots);
}

/* Another node reads the same map; what is cut off or is no map is refused, and the old one stays. */
static void test_bytes(void **state)
{
    static struct slots slots;
    static struct slots read;
    struct buffer bytes = {0};
    slots_divide(&slots, 100);
    slots_encode(&slots, &bytes);
    assert_int_equal(slots_decode(&read, buffer_bytes(&bytes)), 0);
    assert_true(slots_are_equal(&read, &slots));
    for (size_t size = 0; size < bytes.size_bytes; size++) {
        assert_int_equal(slots_decode(&read, bytes_make(bytes.data, size)), ERROR_PROTOCOL);
    }
    bytes.data[8]++; /* The end of the first. */
    assert_int_equal(slots_decode(&read, buffer_bytes(&bytes)), ERROR_PROTOCOL);
    assert_true(slots_are_equal(&read, &slots));
    buffer_append(&bytes, BYTES("            "));
    assert_int_equal(slots_decode(&read, buffer_bytes(&bytes)), ERROR_PROTOCOL);
    buffer_deinit(&bytes);
    slots_deinit(&slots);
    slots_deinit(&read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_divide),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_split_refusals),
        cmocka_unit_test(test_many_splits),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_merge_refusals),
        cmocka_unit_test(test_may_open),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
