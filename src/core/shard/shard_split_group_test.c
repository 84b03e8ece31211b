/* SPDX-License-Identifier: Apache-2.0 */
/* A group of three splits (decision 18): the same child everywhere, a leader for it at once, and snapshots
 * across the split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_world.h"

enum { COUNT = 3, CHILD = 7, MIDDLE = SLOTS_COUNT / 2 }; /* 'n' begins at the middle. */

struct group {
    struct shard__world *worlds[COUNT]; /* By number of the node, from 1. */
    bool is_cut_off[COUNT];
};

static struct group group_create(wal_shard id)
{
    struct group group = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        group.worlds[i] = shard__world_create_bare(NULL);
        group.worlds[i]->self = i + 1;
        group.worlds[i]->id = id;
        group.worlds[i]->voter_count = COUNT;
        shard__world_start(group.worlds[i], false);
    }
    return group;
}

static void group_destroy(struct group *group)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        shard__world_destroy(group->worlds[i]);
    }
}

static void deliver(struct group *group, uint32_t from)
{
    struct shard__world *source = group->worlds[from];
    struct shard__sent *sent = source->sent;
    uint32_t count = source->sent_count;
    source->sent = NULL;
    source->sent_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t to = sent[i].to - 1;
        if (!group->is_cut_off[from] && !group->is_cut_off[to] &&
            group->worlds[to]->shard != NULL) {
            shard_receive(group->worlds[to]->shard, from + 1, buffer_bytes(&sent[i].bytes));
        }
        buffer_deinit(&sent[i].bytes);
    }
    memory_free(sent);
}

static void run(struct group *group, uint32_t for_ms)
{
    for (uint32_t ms = 0; ms < for_ms; ms++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            struct shard__world *world = group->worlds[i];
            world->wall_ms++;
            if (world->shard == NULL) {
                continue;
            }
            shard_persisted(world->shard, world->persisting_sequence);
            shard__world_work(world);
            shard__world_write(world);
            (void)shard_tick(world->shard);
            deliver(group, i);
        }
    }
}

static struct shard__world *leader_of(struct group *group)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        if (group->worlds[i]->shard != NULL && shard_is_ready(group->worlds[i]->shard)) {
            return group->worlds[i];
        }
    }
    return NULL;
}

static void put(struct group *group, const char *key, const char *value)
{
    struct shard__client client;
    struct shard_session session;
    shard_session_init(&session);
    assert_int_equal(
        shard__world_submit(leader_of(group), &client, &session, OPCODE_SET, key, value),
        SHARD_PENDING);
    run(group, 5);
    shard__world_expect(&client, "+OK\r\n");
}

static struct buffer row_of(struct shard__world *world, struct bytes key)
{
    struct buffer row = {0};
    struct env_store store = memstore_interface(world->memstore);
    (void)store.ops->get(store.context, NULL, ENV_TIER_DISK, key, &row);
    return row;
}

static void expect_row(struct shard__world *world, struct bytes key, struct bytes value)
{
    struct buffer row = row_of(world, key);
    assert_true(bytes_equal(buffer_bytes(&row), value));
    buffer_deinit(&row);
}

static void split(struct group *group)
{
    struct shard__world *leader = leader_of(group);
    leader->split_child = CHILD;
    leader->split_slot = MIDDLE;
    run(group, 250);
    assert_int_equal(leader->child_count, 1);
}

/* The same meta row everywhere. The child beside the leader stands for election at once, and the others
 * vote at once: nobody waits for an election timeout. */
static void test_a_child_has_a_leader_at_once(void **state)
{
    (void)state;
    struct group group = group_create(1);
    run(&group, 2000);
    put(&group, "b", "1");
    put(&group, "z", "2");
    split(&group);
    const uint8_t key[] = {0x01, 'S', 0, 0, 0, CHILD};
    struct buffer expected = row_of(group.worlds[0], bytes_make(key, sizeof key));
    assert_true(expected.size_bytes > 0);
    struct group children = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        struct shard__world *parent = group.worlds[i];
        assert_int_equal(parent->child_count, 1);
        expect_row(parent, bytes_make(key, sizeof key), buffer_bytes(&expected));
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
    shard_campaign(children.worlds[leader_of(&group)->self - 1]->shard);
    run(&children, 10);
    assert_non_null(leader_of(&children));
    assert_int_equal(leader_of(&children)->self, leader_of(&group)->self);
    put(&children, "z", "3");
    put(&group, "b", "4");
    run(&children, 100);
    for (uint32_t i = 0; i < COUNT; i++) {
        expect_row(children.worlds[i], BYTES("z"), BYTES("3"));
    }
    group_destroy(&children);
    group_destroy(&group);
}

/* Who was away gets a snapshot from behind the split: what it had of the upper half goes, and it gives
 * birth to nobody. */
static void test_a_snapshot_carries_over_the_split(void **state)
{
    (void)state;
    struct group group = group_create(1);
    run(&group, 2000);
    put(&group, "b", "1");
    put(&group, "z", "2");
    run(&group, 100);
    uint32_t away = leader_of(&group)->self % COUNT;
    expect_row(group.worlds[away], BYTES("z"), BYTES("2"));
    group.is_cut_off[away] = true;
    split(&group);
    put(&group, "c", "3");
    /* The leader forgets its log: a restart begins behind what is stored. */
    struct shard__world *leader = leader_of(&group);
    memstore_flush(leader->memstore);
    shard__world_stop(leader);
    shard__world_start(leader, true);
    group.is_cut_off[away] = false;
    run(&group, 100);
    for (int i = 0; i < 20 && leader_of(&group) != leader; i++) {
        if (leader_of(&group) != NULL) {
            int status = shard_transfer(leader_of(&group)->shard, leader->self);
            assert_true(status == 0 || status == -EBUSY);
        }
        run(&group, 300);
    }
    assert_ptr_equal(leader_of(&group), leader);
    run(&group, 1500);
    struct shard__world *late = group.worlds[away];
    assert_int_equal(shard_applied_index(late->shard), shard_applied_index(leader->shard));
    assert_int_equal(shard_range(late->shard).end, MIDDLE);
    assert_int_equal(late->machine_range[1], MIDDLE);
    expect_row(late, BYTES("c"), BYTES("3"));
    expect_row(late, BYTES("z"), BYTES(""));
    expect_row(leader, BYTES("z"), BYTES("2")); /* The child's, there. */
    group_destroy(&group);
}

/* Who has nothing and has shrunk takes neither the first entries of the log nor a snapshot with the slots
 * that are another's, however often they come; after the split it is filled. */
static void narrow_replica_waits(bool does_log_begin_late)
{
    struct group group = group_create(1);
    group.is_cut_off[2] = true;
    run(&group, 2000);
    put(&group, "b", "1");
    put(&group, "z", "2");
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
        run(&group, 20);
        shard__world_stop(group.worlds[i]);
        shard__world_start(group.worlds[i], true);
    }
    run(&group, 2000);
    group.is_cut_off[2] = false;
    run(&group, 1000);
    assert_true(shard_is_empty(narrow->shard));
    assert_int_equal(narrow->executed_count, 0);
    split(&group);
    run(&group, 2000);
    assert_int_equal(shard_applied_index(narrow->shard),
                     shard_applied_index(leader_of(&group)->shard));
    assert_int_equal(shard_range(narrow->shard).end, MIDDLE);
    assert_int_equal(narrow->child_count, 0);
    expect_row(narrow, BYTES("b"), BYTES("1"));
    expect_row(narrow, BYTES("z"), BYTES("of another"));
    group_destroy(&group);
}

static void test_a_narrow_replica_waits_for_its_snapshot(void **state)
{
    (void)state;
    narrow_replica_waits(false);
    narrow_replica_waits(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_child_has_a_leader_at_once),
        cmocka_unit_test(test_a_snapshot_carries_over_the_split),
        cmocka_unit_test(test_a_narrow_replica_waits_for_its_snapshot),
    };
    return cmocka_run_group_tests_name("shard_split_group", tests, NULL, NULL);
}
