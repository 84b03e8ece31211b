/* SPDX-License-Identifier: Apache-2.0 */
/* A replica whose log lost something: when it goes on, and what it remembers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/shard/shard_internal.h"
#include "core/shard/shard_world.h"

static int set_up(void **state)
{
    *state = shard__world_create();
    return 0;
}

static int tear_down(void **state)
{
    shard__world_destroy(*state);
    return 0;
}

/* A second replica over another store, which is not started. */
static struct shard *open_other(struct shard__world *world, struct memstore *memstore,
                                uint32_t voter_count)
{
    struct shard_options options = shard__world_options(world);
    options.store = memstore_interface(memstore);
    options.configuration = (struct raft_configuration){.voter_count = voter_count};
    for (uint32_t i = 0; i < voter_count; i++) {
        options.configuration.voters[i] = i + 1;
    }
    struct shard *shard = NULL;
    assert_int_equal(shard_open(&shard, &options, NULL), 0);
    return shard;
}

/* Where the others have no majority, nobody could repair it: nothing is accepted, nothing stored. */
static void test_indispensable_replicas_refuse(void **state)
{
    for (uint32_t voter_count = 1; voter_count <= 2; voter_count++) {
        struct memstore *memstore = memstore_create(1);
        struct shard *shard = open_other(*state, memstore, voter_count);
        struct error error = {0};
        assert_int_equal(shard_accept_loss(shard, &error), ERROR_CORRUPT);
        assert_non_null(strstr(error.message, "no majority"));
        assert_false(shard_is_impaired(shard));
        shard_close(shard);
        shard = open_other(*state, memstore, voter_count);
        assert_false(shard_is_impaired(shard));
        shard_close(shard);
        memstore_destroy(memstore);
    }
}

/* One of three goes on, impaired, and still knows so after a loss of power. */
static void test_the_flag_is_durable_at_once(void **state)
{
    struct memstore *memstore = memstore_create(1);
    struct shard *shard = open_other(*state, memstore, 3);
    assert_true(shard_is_stored_whole(shard));
    assert_int_equal(shard_accept_loss(shard, NULL), 0);
    assert_true(shard_is_impaired(shard));
    assert_false(shard_is_stored_whole(shard));
    shard_close(shard);
    memstore_lose_unflushed(memstore);
    shard = open_other(*state, memstore, 3);
    assert_true(shard_is_impaired(shard));
    assert_int_equal(shard_accept_loss(shard, NULL), 0); /* Once more is the same. */
    shard_close(shard);
    memstore_destroy(memstore);
}

/* One that is impaired is not missed again, whoever its state says that the voters are: it counts for nothing until its
 * row says otherwise, durably. So one that is killed while it gives up what it had starts again. */
static void test_what_counts_for_nothing_may_lose_more(void **state)
{
    struct memstore *memstore = memstore_create(1);
    struct shard *shard = open_other(*state, memstore, 3);
    assert_int_equal(shard_accept_loss(shard, NULL), 0);
    shard->configuration.voter_count = 2;
    assert_int_equal(shard_accept_loss(shard, NULL), 0);
    shard->applied_index = 1;
    assert_int_equal(shard_accept_loss(shard, NULL), 0);
    shard->applied_index = 0;
    shard_close(shard);
    memstore_destroy(memstore);
}

static uint8_t version_of_row(struct memstore *memstore)
{
    struct env_store store = memstore_interface(memstore);
    struct buffer row = {0};
    int status = store.ops->get(store.context, NULL, ENV_TIER_DISK, BYTES("\x01S\0\0\0\x01"), &row);
    assert_int_equal(status, 0);
    uint8_t version = row.data[0];
    buffer_deinit(&row);
    return version;
}

/* Of one that has stored nothing: software that knows of no splits reads the row, unless there was one. */
static void test_the_row_is_of_version_3_only_after_a_split(void **state)
{
    struct shard__world *world = *state;
    for (int is_child = 0; is_child < 2; is_child++) {
        struct memstore *memstore = memstore_create(1);
        struct shard_options options = shard__world_options(world);
        options.store = memstore_interface(memstore);
        options.configuration = (struct raft_configuration){0};
        options.is_child = is_child;
        options.end_slot = is_child ? 100 : SLOTS_COUNT;
        struct shard *shard = NULL;
        assert_int_equal(shard_open(&shard, &options, NULL), 0);
        assert_int_equal(shard_accept_loss(shard, NULL), 0);
        shard_close(shard);
        assert_int_equal(version_of_row(memstore), is_child ? 3 : 2);
        options.end_slot = is_child ? 1 : SLOTS_COUNT; /* As who knows no map opens it. */
        assert_int_equal(shard_open(&shard, &options, NULL), 0);
        assert_int_equal(shard_range(shard).end, is_child ? 100 : SLOTS_COUNT);
        shard_close(shard);
        memstore_destroy(memstore);
    }
}

/* What the log lost of a replica that is not open yet is known until it is opened and says so itself. */
static void test_a_loss_is_remembered(void **state)
{
    struct memstore *memstore = memstore_create(1);
    struct env_store store = memstore_interface(memstore);
    bool has_lost = true;
    assert_int_equal(shard_has_lost(&store, 1, &has_lost, NULL), 0);
    assert_false(has_lost);
    assert_int_equal(shard_remember_losses(&store, (const wal_shard[]){1, 3}, 2, NULL), 0);
    memstore_lose_unflushed(memstore);
    assert_int_equal(shard_has_lost(&store, 1, &has_lost, NULL), 0);
    assert_true(has_lost);
    assert_int_equal(shard_has_lost(&store, 3, &has_lost, NULL), 0);
    assert_true(has_lost);
    assert_int_equal(shard_has_lost(&store, 2, &has_lost, NULL), 0);
    assert_false(has_lost);
    struct shard *shard = open_other(*state, memstore, 3);
    assert_int_equal(shard_accept_loss(shard, NULL), 0);
    shard_close(shard);
    assert_int_equal(shard_has_lost(&store, 1, &has_lost, NULL), 0);
    assert_false(has_lost);
    memstore_lose_unflushed(memstore); /* One of the two is always there. */
    shard = open_other(*state, memstore, 3);
    assert_true(shard_is_impaired(shard));
    shard_close(shard);
    memstore_destroy(memstore);
}

/* However many they are, none is forgotten and no other is named. */
static void test_many_losses_are_remembered(void **state)
{
    struct memstore *memstore = memstore_create(1);
    struct env_store store = memstore_interface(memstore);
    wal_shard ids[1000];
    for (uint32_t i = 0; i < 1000; i++) {
        ids[i] = 1 + 2 * i;
    }
    assert_int_equal(shard_remember_losses(&store, ids, 1000, NULL), 0);
    memstore_lose_unflushed(memstore);
    for (wal_shard id = 1; id <= 2001; id++) {
        bool has_lost;
        assert_int_equal(shard_has_lost(&store, id, &has_lost, NULL), 0);
        assert_int_equal(has_lost, id % 2 == 1 && id < 2001);
    }
    memstore_destroy(memstore);
}

static void put_row(const struct env_store *store, const char *key, size_t size_bytes)
{
    struct env_change change = {ENV_CHANGE_PUT, bytes_make(key, size_bytes), BYTES("x")};
    assert_int_equal(store->ops->write(store->context, &change, 1, NULL), 0);
}

/* Shards with a meta row and those with a snapshot that is about to take its place are found in the order of
 * their numbers, each once; rows of others are none; and a key that is none of ours is damage. */
static void test_states_are_listed(void **state)
{
    struct memstore *memstore = memstore_create(1);
    struct env_store store = memstore_interface(memstore);
    wal_shard ids[8] = {0};
    uint32_t count = 77;
    assert_int_equal(shard_list_states(&store, 1, ids, 8, &count, NULL), 0);
    assert_int_equal(count, 0);
    put_row(&store, "\1S\0\0\0\1", 6);
    put_row(&store, "\1S\0\0\1\0", 6);
    put_row(&store, "\1S\0\0\0\7", 6);
    put_row(&store, "\1J\0\0\0\7", 6);
    put_row(&store, "\1J\0\0\0\5", 6);
    put_row(&store, "\1J\0\0\2\0", 6);
    put_row(&store, "\1L\0\0\0\6", 6); /* A loss is no state. */
    const wal_shard all[] = {1, 5, 7, 256, 512};
    for (uint32_t most = 0; most <= 8; most++) {
        uint32_t expected = most < 5 ? most : 5;
        assert_int_equal(shard_list_states(&store, 1, ids, most, &count, NULL), 0);
        assert_int_equal(count, expected);
        assert_memory_equal(ids, all, expected * sizeof all[0]);
    }
    assert_int_equal(shard_list_states(&store, 6, ids, 8, &count, NULL), 0);
    assert_true(count == 3 && ids[0] == 7 && ids[2] == 512);
    put_row(&store, "\1J\0\0\3\0\0", 7);
    assert_int_equal(shard_list_states(&store, 1, ids, 8, &count, NULL), ERROR_CORRUPT);
    assert_int_equal(count, 3);
    memstore_destroy(memstore);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_indispensable_replicas_refuse, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_counts_for_nothing_may_lose_more, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_flag_is_durable_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_row_is_of_version_3_only_after_a_split, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_loss_is_remembered, set_up, tear_down),
        cmocka_unit_test(test_many_losses_are_remembered),
        cmocka_unit_test(test_states_are_listed),
    };
    return cmocka_run_group_tests_name("shard_impair", tests, NULL, NULL);
}
