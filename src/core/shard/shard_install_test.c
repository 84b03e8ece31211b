/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a snapshot of many pieces, when something goes wrong on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/shard/shard_group.h"
#include "core/shard/shard_internal.h"

enum { KEY_COUNT = 12, WAIT_MS = 5000 };

static const char *const keys[KEY_COUNT] = {"a", "b", "c", "d", "e", "f",
                                            "g", "h", "i", "j", "k", "l"};

static void put_all(struct shard__group *group, const char *value)
{
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        shard__group_put(group, keys[i], value);
    }
}

/* The first two have the rest, and logs that begin behind it; the third is `late`. */
static struct shard__group group_with_late(void)
{
    struct shard__group group = shard__group_create(1);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        struct shard__world *world = group.worlds[i];
        shard__world_stop(world);
        world->piece_size_bytes = 1;
        shard__world_start(world, true);
    }
    shard__group_run(&group, 2000);
    put_all(&group, "1");
    shard__group_run(&group, 200);
    group.is_cut_off[2] = true;
    shard__group_run(&group, 2000);
    put_all(&group, "2");
    shard__group_run(&group, 200);
    for (uint32_t i = 0; i < 2; i++) {
        struct shard__world *world = group.worlds[i];
        memstore_flush(world->memstore);
        shard__world_stop(world);
        shard__world_start(world, true);
    }
    shard__group_run(&group, 2000);
    return group;
}

/* Is the snapshot's row there, which has not taken its place yet? */
static bool is_staged(struct shard__world *world, char key)
{
    const uint8_t staged[] = {0x01, 'I', 0, 0, 0, 1, (uint8_t)key};
    struct buffer row = shard__group_row(world, bytes_make(staged, sizeof staged));
    bool is_there = row.size_bytes > 0;
    buffer_deinit(&row);
    return is_there;
}

static struct bytes mark_key(void)
{
    static const uint8_t key[] = {0x01, 'J', 0, 0, 0, 1}; /* That all pieces are there. */
    return bytes_make(key, sizeof key);
}

static void end_and_start(struct shard__group *group)
{
    struct shard__world *late = group->worlds[2];
    memstore_flush(late->memstore);
    raft_index before = shard_applied_index(late->shard);
    shard__world_stop(late);
    shard__world_start(late, true);
    assert_int_equal(shard_applied_index(late->shard), before);
    memstore_set_faults(late->memstore, (struct memstore_faults){0});
    shard__group_run(group, 4000);
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        shard__group_expect_row(late, bytes_make(keys[i], 1), BYTES("2"));
    }
    shard__group_destroy(group);
}

/* The store finds the disk full when all pieces are there and are to be made durable, so they are given up. What
 * was written all the same does not become durable later: by then the replica might claim less. */
static void test_a_full_disk_leaves_no_mark(void **state)
{
    (void)state;
    struct shard__group group = group_with_late();
    struct shard__world *late = group.worlds[2];
    shard__group_expect_row(late, BYTES("l"), BYTES("1"));
    memstore_set_faults(late->memstore, (struct memstore_faults){.full_percent = 100});
    group.is_cut_off[2] = false;
    uint32_t staged_count = 0;
    for (uint32_t i = 0; i < 1500; i++) {
        shard__group_run(&group, 1);
        staged_count += is_staged(late, 'k');
        shard__group_expect_row(late, mark_key(), BYTES(""));
    }
    assert_true(staged_count > 0);
    end_and_start(&group);
}

/* A mark that is left of a snapshot that the log had overtaken goes with the first piece of another one. */
static void test_an_old_mark_does_not_vouch_for_new_pieces(void **state)
{
    (void)state;
    struct shard__group group = group_with_late();
    struct shard__world *late = group.worlds[2];
    const uint8_t meta_key[] = {0x01, 'S', 0, 0, 0, 1};
    struct buffer meta =
        shard__group_row(shard__group_leader(&group), bytes_make(meta_key, sizeof meta_key));
    struct env_store store = memstore_interface(late->memstore);
    struct env_change change = {ENV_CHANGE_PUT, mark_key(), buffer_bytes(&meta)};
    assert_int_equal(store.ops->write(store.context, &change, 1, NULL), 0);
    buffer_deinit(&meta);
    group.is_cut_off[2] = false;
    for (uint32_t waited_ms = 0; !is_staged(late, 'c'); waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        shard__group_run(&group, 1);
    }
    assert_false(is_staged(late, 'l'));
    end_and_start(&group);
}

/* Pieces began to come while it was impaired, and the mark says so; by then entries had made it whole, and that
 * was durable. It is not impaired once more after a crash: its group may have come to need it. */
static void test_an_old_mark_does_not_say_that_it_is_impaired(void **state)
{
    (void)state;
    struct shard__group group = group_with_late();
    struct shard__world *late = group.worlds[2];
    const uint8_t meta_key[] = {0x01, 'S', 0, 0, 0, 1};
    struct buffer meta =
        shard__group_row(shard__group_leader(&group), bytes_make(meta_key, sizeof meta_key));
    shard__meta_set_impaired(&meta);
    struct env_store store = memstore_interface(late->memstore);
    uint8_t staged[KEY_COUNT][7];
    struct env_change changes[KEY_COUNT + 1];
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        memcpy(staged[i], (uint8_t[]){0x01, 'I', 0, 0, 0, 1, (uint8_t)keys[i][0]}, 7);
        changes[i] = (struct env_change){ENV_CHANGE_PUT, bytes_make(staged[i], 7), BYTES("2")};
    }
    changes[KEY_COUNT] = (struct env_change){ENV_CHANGE_PUT, mark_key(), buffer_bytes(&meta)};
    assert_int_equal(store.ops->write(store.context, changes, KEY_COUNT + 1, NULL), 0);
    buffer_deinit(&meta);
    for (uint32_t i = 0; i < 2; i++) { /* What takes the row's place does not say it, either. */
        shard__world_stop(late);
        shard__world_start(late, true);
        assert_false(shard_is_impaired(late->shard));
        shard__group_run(&group, 200);
        shard__group_expect_row(late, mark_key(), BYTES(""));
        memstore_flush(late->memstore);
    }
    end_and_start(&group);
}

/* Where a snapshot is given, the log is needed from there on until the member has caught up: else it would lack
 * something again. Nobody keeps it for who is silent. */
static void test_the_log_is_kept_for_who_gets_a_snapshot(void **state)
{
    (void)state;
    struct shard__group group = group_with_late();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__world *late = group.worlds[2];
    assert_true(shard_needed_index(leader->shard) >= shard_stored_index(leader->shard));
    assert_true(shard_needed_index(late->shard) == UINT64_MAX);
    group.is_cut_off[2] = false;
    for (uint32_t i = 0; i < 1000 && list_is_empty(&leader->shard->snapshots); i++) {
        shard__group_run(&group, 1);
    }
    raft_index begun = shard_stored_index(leader->shard);
    group.is_cut_off[2] = true; /* Pieces are lost for a moment. */
    shard__group_put(&group, "m", "3");
    shard__group_put(&group, "n", "3");
    shard__group_run(&group, 3);
    assert_true(shard_stored_index(leader->shard) > begun);
    assert_false(list_is_empty(&leader->shard->snapshots));
    group.is_cut_off[2] = false;
    while (shard_applied_index(late->shard) < begun) {
        assert_int_equal(shard_needed_index(leader->shard), begun);
        shard__group_run(&group, 1);
    }
    shard__group_run(&group, 500);
    assert_int_equal(shard_applied_index(late->shard), shard_applied_index(leader->shard));
    assert_true(shard_needed_index(leader->shard) >= shard_stored_index(leader->shard));
    shard__group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_log_is_kept_for_who_gets_a_snapshot),
        cmocka_unit_test(test_a_full_disk_leaves_no_mark),
        cmocka_unit_test(test_an_old_mark_does_not_vouch_for_new_pieces),
        cmocka_unit_test(test_an_old_mark_does_not_say_that_it_is_impaired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
