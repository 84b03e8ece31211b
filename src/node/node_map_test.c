/* SPDX-License-Identifier: Apache-2.0 */
/* What the store has is added to the map of the directory, or is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "node/node_recovery.h"

static struct slots two_shards(void)
{
    struct slots slots = {0};
    slots_divide(&slots, 2);
    return slots;
}

/* A child that the map does not know yet, and its own child; those that it knows stay. */
static void test_children_are_added(void **state)
{
    (void)state;
    struct slots slots = two_shards();
    struct slots_range claims[] = {
        {1, 0, 100}, {2, 8192, SLOTS_COUNT}, {3, 100, 200}, {4, 200, 8192}};
    assert_true(node_map_amend(&slots, claims, 4));
    assert_int_equal(slots.range_count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(slots_shard_of(&slots, claims[i].first), claims[i].shard);
        assert_int_equal(slots_shard_of(&slots, claims[i].end - 1), claims[i].shard);
    }
    assert_true(node_map_amend(&slots, claims, 4)); /* All of it is known now. */
    assert_int_equal(slots.range_count, 4);
    slots_deinit(&slots);
}

static void expect_contradiction(struct slots_range claim)
{
    struct slots slots = two_shards();
    assert_int_equal(slots_split(&slots, 1, 100, 3), 0);
    struct slots before = {0};
    slots_copy(&before, &slots);
    struct slots_range claims[] = {{1, 0, 50}, claim};
    assert_false(node_map_amend(&slots, claims, 2));
    assert_true(slots_are_equal(&slots, &before));
    slots_deinit(&slots);
    slots_deinit(&before);
}

/* A number that is another shard's in the map, and a slot where another one begins: nothing is changed. */
static void test_contradictions_are_refused(void **state)
{
    (void)state;
    expect_contradiction((struct slots_range){3, 200, 300});
    expect_contradiction((struct slots_range){4, 100, 300});
    expect_contradiction((struct slots_range){5, 8192, SLOTS_COUNT});
}

static uint32_t kept_count(const struct node_map *map)
{
    return atomic_load(&map->count) - map->freed_count;
}

/* A map is freed once each reader has ended a tick in which there was a newer one, and not before; the newest
 * never is. */
static void test_old_maps_are_freed(void **state)
{
    (void)state;
    struct node_shards shards = {0};
    struct node_map *map = &shards.map;
    struct slots slots = two_shards();
    uint32_t first = node_map_add_reader(map);
    uint32_t second = node_map_add_reader(map);
    node__map_init(&shards, &slots);
    node__map_free_old(map);
    const struct slots *held = node_shards_map(&shards);
    for (wal_shard child = 3; child < 40; child++) { /* The second has not ended any tick yet. */
        assert_int_equal(slots_split(&slots, child == 3 ? 2 : child - 1, 8200 + child, child), 0);
        node__map_init(&shards, &slots);
        node_map_let_go(map, first);
        node__map_free_old(map);
    }
    assert_int_equal(kept_count(map), 38);
    assert_int_equal(held->range_count, 2);
    node_map_let_go(map, second);
    held = node_shards_map(&shards); /* In its next tick, the 38th. */
    assert_int_equal(slots_split(&slots, 1, 100, 40), 0);
    node__map_init(&shards, &slots);
    node_map_let_go(map, first);
    node__map_free_old(map);
    assert_int_equal(kept_count(map), 2);
    assert_int_equal(held->range_count, 39);
    node_map_let_go(map, second);
    node__map_free_old(map);
    node__map_free_old(map);
    assert_int_equal(kept_count(map), 1);
    assert_true(slots_are_equal(node_shards_map(&shards), &slots));
    node__map_deinit(map);
    slots_deinit(&slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_children_are_added),
        cmocka_unit_test(test_contradictions_are_refused),
        cmocka_unit_test(test_old_maps_are_freed),
    };
    return cmocka_run_group_tests_name("node_map", tests, NULL, NULL);
}
