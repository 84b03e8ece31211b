/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a snapshot of many pieces, when something goes wrong on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/shard/shard_group.h"

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

static void run_until(struct shard__group *group, bool is_last_there, bool is_first_there)
{
    uint32_t waited_ms = 0;
    struct shard__world *late = group->worlds[2];
    for (; is_staged(late, 'l') != is_last_there || is_staged(late, 'a') != is_first_there;
         waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        shard__group_run(group, 1);
    }
}

/* The store finds the disk full when all pieces are there and are to be made durable, so they are given up,
 * and nevertheless are in it, with the mark that they are whole. They come again; in the midst of that the node
 * ends. What is there then is not taken for the whole. */
static void test_an_old_mark_does_not_vouch_for_new_pieces(void **state)
{
    (void)state;
    struct shard__group group = group_with_late();
    struct shard__world *late = group.worlds[2];
    shard__group_expect_row(late, BYTES("l"), BYTES("1"));
    memstore_set_faults(late->memstore, (struct memstore_faults){.full_percent = 100});
    group.is_cut_off[2] = false;
    run_until(&group, true, true);
    memstore_set_faults(late->memstore, (struct memstore_faults){0});
    run_until(&group, false, true);
    memstore_flush(late->memstore);
    raft_index before = shard_applied_index(late->shard);
    shard__world_stop(late);
    shard__world_start(late, true);
    assert_int_equal(shard_applied_index(late->shard), before);
    shard__group_run(&group, 4000);
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        shard__group_expect_row(late, bytes_make(keys[i], 1), BYTES("2"));
    }
    shard__group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_old_mark_does_not_vouch_for_new_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
