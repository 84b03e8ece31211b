/* SPDX-License-Identifier: Apache-2.0 */
/* A group of three splits (decision 18): the same child everywhere, a leader for it at once, and snapshots
 * across the split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_group.h"
#include "core/shard/shard_internal.h"

enum { CHILD = 7, MIDDLE = SLOTS_COUNT / 2 }; /* 'n' begins at the middle. */

static void split(struct shard__group *group)
{
    struct shard__world *leader = shard__group_leader(group);
    leader->split_child = CHILD;
    leader->split_slot = MIDDLE;
    shard__group_run(group, 250);
    assert_int_equal(leader->child_count, 1);
}

/* The same meta row everywhere. The child beside the leader stands for election at once, and the others
 * vote at once: nobody waits for an election timeout. */
static void test_a_child_has_a_leader_at_once(void **state)
{
    (void)state;
    struct shard__group group = shard__group_create(1);
    shard__group_run(&group, 2000);
    shard__group_put(&group, "b", "1");
    shard__group_put(&group, "z", "2");
    split(&group);
    const uint8_t key[] = {0x01, 'S', 0, 0, 0, CHILD};
    struct buffer expected = shard__group_row(group.worlds[0], bytes_make(key, sizeof key));
    assert_true(expected.size_bytes > 0);
    struct shard__group children = {0};
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        struct shard__world *parent = group.worlds[i];
        assert_int_equal(parent->child_count, 1);
        shard__group_expect_row(parent, bytes_make(key, sizeof key), buffer_bytes(&expected));
        struct shard__world *child = shard__world_create_bare(parent->memstore);
        child->self = i + 1;
        child->id = CHILD;
        child->first_slot = MIDDLE;
        child->wall_ms = parent->wall_ms;
        shard__world_start(child, false);
        assert_int_equal(shard_applied_index(child->shard), parent->child_index);
        children.worlds[i] = child;
    }
    buffer_deinit(&expected);
    shard_campaign(children.worlds[shard__group_leader(&group)->self - 1]->shard);
    shard__group_run(&children, 10);
    assert_non_null(shard__group_leader(&children));
    assert_int_equal(shard__group_leader(&children)->self, shard__group_leader(&group)->self);
    shard__group_put(&children, "z", "3");
    shard__group_put(&group, "b", "4");
    shard__group_run(&children, 100);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        shard__group_expect_row(children.worlds[i], BYTES("z"), BYTES("3"));
    }
    shard__group_destroy(&children);
    shard__group_destroy(&group);
}

/* Who was away gets a snapshot from behind the split: what it had of the upper half goes, and it gives
 * birth to nobody. */
static void test_a_snapshot_carries_over_the_split(void **state)
{
    (void)state;
    struct shard__group group = shard__group_create(1);
    shard__group_run(&group, 2000);
    shard__group_put(&group, "b", "1");
    shard__group_put(&group, "z", "2");
    shard__group_run(&group, 100);
    uint32_t away = shard__group_leader(&group)->self % SHARD__GROUP_COUNT;
    shard__group_expect_row(group.worlds[away], BYTES("z"), BYTES("2"));
    group.is_cut_off[away] = true;
    split(&group);
    shard__group_put(&group, "c", "3");
    /* The leader forgets its log: a restart begins behind what is stored. */
    struct shard__world *leader = shard__group_leader(&group);
    memstore_flush(leader->memstore);
    shard__world_stop(leader);
    shard__world_start(leader, true);
    group.is_cut_off[away] = false;
    shard__group_run(&group, 100);
    for (int i = 0; i < 20 && shard__group_leader(&group) != leader; i++) {
        if (shard__group_leader(&group) != NULL) {
            int status = shard_transfer(shard__group_leader(&group)->shard, leader->self);
            assert_true(status == 0 || status == -EBUSY);
        }
        shard__group_run(&group, 300);
    }
    assert_ptr_equal(shard__group_leader(&group), leader);
    shard__group_run(&group, 1500);
    struct shard__world *late = group.worlds[away];
    assert_int_equal(shard_applied_index(late->shard), shard_applied_index(leader->shard));
    assert_int_equal(shard_range(late->shard).end, MIDDLE);
    assert_int_equal(late->machine_range[1], MIDDLE);
    assert_true(shard_split_index(late->shard) >= leader->child_index);
    shard__group_expect_row(late, BYTES("c"), BYTES("3"));
    shard__group_expect_row(late, BYTES("z"), BYTES(""));
    shard__group_expect_row(leader, BYTES("z"), BYTES("2")); /* The child's, there. */
    shard__group_destroy(&group);
}

/* The store has the batch with SPLIT, and the disk was full when it was to be flushed: the child's rows are not the
 * parent's any more, though the parent does not know it yet. A snapshot of the parent leaves them alone. */
static void test_a_snapshot_waits_for_a_split_that_is_half_stored(void **state)
{
    (void)state;
    struct shard__group group = shard__group_create(1);
    shard__group_run(&group, 2000);
    shard__group_put(&group, "b", "1");
    shard__group_put(&group, "z", "2");
    struct shard__world *late = shard__group_follower(&group);
    memstore_set_faults(late->memstore, (struct memstore_faults){.full_percent = 100});
    split(&group);
    const uint8_t child_key[] = {0x01, 'S', 0, 0, 0, CHILD};
    struct buffer child = shard__group_row(late, bytes_make(child_key, sizeof child_key));
    assert_true(child.size_bytes > 0 && rows_is_committing(late->shard->rows));
    group.is_cut_off[late->self - 1] = true;
    shard__group_put(&group, "c", "3");
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) { /* Their logs begin behind it. */
        struct shard__world *world = group.worlds[i];
        if (world != late) {
            memstore_flush(world->memstore);
            shard__world_stop(world);
            shard__world_start(world, true);
        }
    }
    shard__group_run(&group, 2000);
    memstore_set_faults(late->memstore, (struct memstore_faults){0});
    late->shard->retry_at_ms = UINT64_MAX; /* The next attempt is far away. */
    group.is_cut_off[late->self - 1] = false;
    shard__group_run(&group, 3000);
    assert_true(rows_is_committing(late->shard->rows));
    shard__group_expect_row(late, BYTES("z"), BYTES("2"));
    late->shard->retry_at_ms = 0;
    shard__group_run(&group, 2000);
    assert_true(shard_stored_index(late->shard) >= late->child_index);
    shard__group_expect_row(late, BYTES("c"), BYTES("3"));
    shard__group_expect_row(late, BYTES("z"), BYTES("2"));
    shard__group_expect_row(late, bytes_make(child_key, sizeof child_key), buffer_bytes(&child));
    buffer_deinit(&child);
    shard__group_destroy(&group);
}

/* Who has nothing and has shrunk takes neither the first entries of the log nor a snapshot with the slots
 * that are another's, however often they come; after the split it is filled. */
static void narrow_replica_waits(bool does_log_begin_late)
{
    struct shard__group group = shard__group_create(1);
    group.is_cut_off[2] = true;
    shard__group_run(&group, 2000);
    shard__group_put(&group, "b", "1");
    shard__group_put(&group, "z", "2");
    struct shard__world *narrow = group.worlds[2];
    assert_true(shard_is_empty(narrow->shard));
    shard_narrow(narrow->shard, 0, MIDDLE);
    assert_int_equal(shard_range(narrow->shard).end, MIDDLE);
    assert_int_equal(narrow->machine_range[1], MIDDLE);
    /* Rows of somebody else, who has the upper half here already. */
    struct env_store store = memstore_interface(narrow->memstore);
    struct env_change change = {ENV_CHANGE_PUT, BYTES("z"), BYTES("of another")};
    assert_int_equal(store.ops->write(store.context, &change, 1, NULL), 0);
    for (int i = 0; i < 2 && does_log_begin_late; i++) { /* Behind what is stored. */
        shard__group_run(&group, 20);
        shard__world_stop(group.worlds[i]);
        shard__world_start(group.worlds[i], true);
    }
    shard__group_run(&group, 2000);
    group.is_cut_off[2] = false;
    shard__group_run(&group, 1000);
    assert_true(shard_is_empty(narrow->shard));
    assert_int_equal(narrow->executed_count, 0);
    split(&group);
    shard__group_run(&group, 2000);
    assert_int_equal(shard_applied_index(narrow->shard),
                     shard_applied_index(shard__group_leader(&group)->shard));
    assert_int_equal(shard_range(narrow->shard).end, MIDDLE);
    assert_int_equal(narrow->child_count, 0);
    shard__group_expect_row(narrow, BYTES("b"), BYTES("1"));
    shard__group_expect_row(narrow, BYTES("z"), BYTES("of another"));
    shard__group_destroy(&group);
}

static void test_a_narrow_replica_waits_for_its_snapshot(void **state)
{
    (void)state;
    narrow_replica_waits(false);
    narrow_replica_waits(true);
}

/* The shard has become smaller before, and its log begins behind that, as that of a child does. */
static void split_before(struct shard__group *group)
{
    struct shard__world *leader = shard__group_leader(group);
    leader->split_child = CHILD + 1;
    leader->split_slot = SLOTS_COUNT - 1;
    shard__group_run(group, 500);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(group->worlds[i]->child_count, 1);
        shard__world_stop(group->worlds[i]);
        shard__world_start(group->worlds[i], true);
    }
    shard__group_run(group, 2000);
}

/* Only one of three has applied SPLIT, and is gone; one has nothing and knows the map. The third has SPLIT in
 * its log, and needs the one that waits for a snapshot from behind it: what that tells shows that the
 * split is committed. */
static void told_split_is_committed(bool is_opened_narrow)
{
    struct shard__group group = shard__group_create(1);
    group.is_cut_off[2] = true;
    shard__group_run(&group, 2000);
    shard__group_put(&group, "b", "1");
    shard__group_put(&group, "z", "2");
    if (is_opened_narrow) {
        split_before(&group);
    }
    struct shard__world *first = shard__group_leader(&group);
    struct shard__world *second = group.worlds[first->self % 2];
    struct shard__world *narrow = group.worlds[2];
    uint32_t count = first->child_count;
    first->split_child = CHILD;
    first->split_slot = MIDDLE;
    for (int i = 0; i < 500 && first->child_count == count; i++) {
        shard__group_run(&group, 1);
    }
    assert_int_equal(first->child_count, count + 1);
    assert_int_equal(second->child_count, count);
    group.is_cut_off[first->self - 1] = true;
    if (is_opened_narrow) {
        shard__world_stop(narrow);
        narrow->end_slot = MIDDLE;
        shard__world_start(narrow, false);
    } else {
        shard_narrow(narrow->shard, 0, MIDDLE);
    }
    group.is_cut_off[2] = false;
    shard__group_run(&group, 5000);
    assert_int_equal(second->child_count, count + 1);
    assert_ptr_equal(shard__group_leader(&group), second);
    assert_int_equal(shard_applied_index(narrow->shard), shard_applied_index(second->shard));
    assert_int_equal(narrow->child_count, 0);
    shard__group_expect_row(narrow, BYTES("b"), BYTES("1"));
    shard__group_expect_row(narrow, BYTES("z"), BYTES(""));
    shard__group_put(&group, "c", "3");
    group.is_cut_off[first->self - 1] = false;
    shard__group_run(&group, 2000);
    shard__group_expect_row(first, BYTES("c"), BYTES("3"));
    assert_int_equal(first->child_count, count + 1);
    shard__group_destroy(&group);
}

static void test_a_split_that_is_told_of_is_committed(void **state)
{
    (void)state;
    told_split_is_committed(false);
    told_split_is_committed(
        true); /* It was a child, say, and opened by the map of after the split. */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_child_has_a_leader_at_once),
        cmocka_unit_test(test_a_snapshot_carries_over_the_split),
        cmocka_unit_test(test_a_snapshot_waits_for_a_split_that_is_half_stored),
        cmocka_unit_test(test_a_narrow_replica_waits_for_its_snapshot),
        cmocka_unit_test(test_a_split_that_is_told_of_is_committed),
    };
    return cmocka_run_group_tests_name("shard_split_group", tests, NULL, NULL);
}
