/* SPDX-License-Identifier: Apache-2.0 */
/* A replica whose log lost something: when it goes on, and what it remembers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_indispensable_replicas_refuse, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_flag_is_durable_at_once, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("shard_impair", tests, NULL, NULL);
}
