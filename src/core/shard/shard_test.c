/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, entries and reads; what has to do with the store is in shard_store_test.c. */
#include "core/shard/shard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_world.h"

/* I1: a write is answered when it is durable and applied, not before. */
static void a_write_is_answered_when_it_is_durable(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client set;
    assert_int_equal(shard__world_submit(world, &set, &session, OPCODE_SET, "k", "v"),
                     SHARD_PENDING);
    uint64_t before = world->persisting_sequence;
    (void)shard_tick(world->shard);
    assert_int_equal(world->persisting_sequence, before + 1);
    assert_int_equal(set.answer_count, 0);
    shard_persisted(world->shard, before);
    assert_int_equal(set.answer_count, 0);
    shard_persisted(world->shard, before + 1);
    shard__world_expect(&set, "+OK\r\n");
    shard__world_destroy(world);
}

/* I4: a pipelined read sees the writes before it; I5: another session sees only what is applied. */
static void a_session_sees_its_own_writes(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session mine;
    struct shard_session other;
    shard_session_init(&mine);
    shard_session_init(&other);
    struct shard__client set, get, set2, get2, others;
    assert_int_equal(shard__world_submit(world, &set, &mine, OPCODE_SET, "k", "1"), SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &get, &mine, OPCODE_GET, "k", ""), SHARD_PENDING);
    (void)shard_tick(world->shard);
    /* A read behind an entry that has left already. */
    assert_int_equal(shard__world_submit(world, &get2, &mine, OPCODE_GET, "k", ""), SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &set2, &mine, OPCODE_APPEND, "k", "2"),
                     SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &others, &other, OPCODE_GET, "k", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&others, "$-1\r\n");
    shard__world_settle(world);
    shard__world_expect(&set, "+OK\r\n");
    shard__world_expect(&get, "$1\r\n1\r\n");
    shard__world_expect(&get2, "$1\r\n1\r\n");
    shard__world_settle(world);
    shard__world_expect(&set2, ":2\r\n");
    shard__world_destroy(world);
}

/* I2: a restart applies what the store lost, once, and nothing twice. */
static void a_restart_applies_each_entry_once(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    for (int i = 0; i < 6; i++) {
        (void)shard__world_submit(world, &client, &session, OPCODE_APPEND, "k", "x");
        shard__world_settle(world);
        buffer_deinit(&client.answer);
        if (i == 2) {
            memstore_flush(world->memstore);
        }
    }
    struct shard_statistics before;
    shard_get_statistics(world->shard, &before);
    shard_close(world->shard);
    memstore_lose_unflushed(world->memstore);
    world->executed_count = 0;
    shard__world_start(world, true);
    assert_false(shard_is_ready(world->shard));
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "k", ""),
                     ERROR_NOT_LEADER);
    shard__world_settle(world);
    assert_int_equal(world->executed_count, 3);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "k", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, "$6\r\nxxxxxx\r\n");
    struct shard_statistics after;
    shard_get_statistics(world->shard, &after);
    assert_int_equal(after.applied_index,
                     before.applied_index + 1); /* The new term's empty entry. */
    assert_int_equal(after.term, before.term + 1);
    shard__world_destroy(world);
}

/* A log that ends before what the store has applied has lost acknowledged entries. */
static void a_log_that_lost_entries_is_refused(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    (void)shard__world_submit(world, &client, &session, OPCODE_SET, "k", "v");
    shard__world_settle(world);
    buffer_deinit(&client.answer);
    shard_close(world->shard);
    world->last_index--;
    struct error error = {0};
    struct shard_options options = shard__world_options(world);
    assert_int_equal(shard_open(&world->shard, &options, &error), 0);
    struct wal_shard_state found = {
        .shard = 1, .hard_state = world->hard_state, .last_index = 1, .last_term = 1};
    assert_int_equal(shard_start(world->shard, &found, &error), ERROR_CORRUPT);
    shard__world_destroy(world);
}

/* I4: a cold read that turns out to need the log takes effect before what its session did later. */
static void a_cold_expired_read_keeps_its_place(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client, get, set;
    (void)shard__world_submit(world, &client, &session, OPCODE_SET, "k", "late");
    shard__world_settle(world);
    shard__world_expect(&client, "+OK\r\n");
    shard_close(world->shard);
    shard__world_start(world, true); /* With a cold cache. */
    shard__world_settle(world);
    world->wall_ms += 1000;
    memstore_set_faults(world->memstore, (struct memstore_faults){.incomplete_percent = 100});
    assert_int_equal(shard__world_submit(world, &get, &session, OPCODE_GET, "k", ""),
                     SHARD_PENDING);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    assert_int_equal(shard__world_submit(world, &set, &session, OPCODE_SET, "k", "new"),
                     SHARD_PENDING);
    shard__world_settle(world);
    shard__world_tick(world);
    shard__world_settle(world);
    assert_int_equal(set.answer_count, 0);
    assert_non_null(world->read);
    shard_read_run(world->read);
    shard_read_done(world->read);
    world->read = NULL;
    shard__world_tick(world);
    shard__world_settle(world);
    shard__world_expect(&get, "$-1\r\n");
    shard__world_expect(&set, "+OK\r\n");
    shard__world_destroy(world);
}

/* What is not in memory is read elsewhere, as of the moment of the request. */
static void a_cold_read_goes_elsewhere(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client get, again;
    shard__world_put_and_start_cold(world, &session);
    assert_int_equal(shard__world_submit(world, &get, &session, OPCODE_GET, "k", ""),
                     SHARD_PENDING);
    shard__world_tick(world);
    assert_non_null(world->read);
    /* A write to it needs the row too: it waits for room in the pool. */
    assert_int_equal(shard__world_submit(world, &again, &session, OPCODE_APPEND, "k", "w"),
                     SHARD_PENDING);
    struct shard_read *read = world->read;
    shard_read_run(read);
    world->read = NULL;
    shard_read_done(read);
    shard__world_expect(&get, "$1\r\nv\r\n");
    shard__world_tick(world);
    assert_non_null(world->read);
    read = world->read;
    shard_read_run(read);
    world->read = NULL;
    shard_read_done(read);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    shard__world_tick(world);
    shard__world_settle(world);
    shard__world_expect(&again, ":2\r\n");
    shard__world_destroy(world);
}

/* I4: what waited behind a prefetch of an earlier reign is handed back with it, though the replica
 * leads again: it would take effect before the one that is submitted anew. */
static void what_waits_for_an_earlier_reign_goes_back(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client append, behind;
    shard__world_put_and_start_cold(world, &session);
    assert_int_equal(shard__world_submit(world, &append, &session, OPCODE_APPEND, "k", "1"),
                     SHARD_PENDING);
    shard__world_tick(world);
    assert_non_null(world->read);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    assert_int_equal(shard__world_submit(world, &behind, &session, OPCODE_APPEND, "k", "2"),
                     SHARD_PENDING);
    shard__world_depose(world);
    for (int i = 0; i < 1000 && !shard_is_ready(world->shard); i++) {
        world->wall_ms += 10;
        shard__world_tick(world);
        shard__world_settle(world);
    }
    assert_true(shard_is_ready(world->shard));
    struct shard_read *read = world->read;
    shard_read_run(read);
    world->read = NULL;
    shard_read_done(read);
    shard__world_settle(world);
    shard__world_expect_handed_back(&append);
    shard__world_expect_handed_back(&behind);
    shard__world_destroy(world);
}

/* A read may be ordered behind a change of the group, which has no commands; it is handed back from
 * there, too. */
static void a_read_behind_a_configuration_is_handed_back(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client set, get;
    assert_int_equal(shard__world_submit(world, &set, &session, OPCODE_SET, "k", "v"),
                     SHARD_PENDING);
    (void)shard_tick(world->shard);
    struct raft_configuration grown = {
        .voter_count = 1, .voters = {1}, .learner_count = 1, .learners = {2}};
    assert_int_equal(shard_configure(world->shard, &grown), 0);
    assert_int_equal(shard__world_submit(world, &get, &session, OPCODE_GET, "k", ""),
                     SHARD_PENDING);
    shard__world_depose(world);
    shard__world_expect_handed_back(&set);
    shard__world_expect_handed_back(&get);
    shard__world_destroy(world);
}

/* The reads of a session go to the disk together, and are answered in order (I4). */
static void cold_reads_of_a_session_go_together(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client, gets[3], append;
    const char *keys[] = {"a", "late", "b"};
    for (int i = 0; i < 3; i++) {
        (void)shard__world_submit(world, &client, &session, OPCODE_SET, keys[i], keys[i]);
        shard__world_settle(world);
        shard__world_expect(&client, "+OK\r\n");
    }
    memstore_flush(world->memstore);
    shard_close(world->shard);
    shard__world_start(world, true);
    shard__world_settle(world);
    memstore_set_faults(world->memstore, (struct memstore_faults){.incomplete_percent = 100});
    world->wall_ms += 10; /* "late" expires, and nobody knows yet. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(shard__world_submit(world, &gets[i], &session, OPCODE_GET, keys[i], ""),
                         SHARD_PENDING);
    }
    assert_int_equal(shard__world_submit(world, &append, &session, OPCODE_APPEND, "b", "!"),
                     SHARD_PENDING);
    shard__world_tick(world);
    struct shard_read *read = world->read;
    world->read = NULL;
    shard_read_run(read);
    shard_read_done(read);
    shard__world_expect(&gets[0], "$1\r\na\r\n");
    /* The second goes through the log, so the third, behind it, is not answered yet, nor is the
     * append done that is behind both. */
    assert_int_equal(gets[1].answer_count, 0);
    assert_int_equal(gets[2].answer_count, 0);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    shard__world_tick(world);
    shard__world_settle(world);
    shard__world_expect(&gets[1], "$-1\r\n");
    shard__world_expect(&gets[2], "$1\r\nb\r\n");
    shard__world_expect(&append, ":2\r\n");
    shard__world_destroy(world);
}

/* I5: that a key has expired is not told before the log says so. */
static void an_expiry_is_seen_through_the_log(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client set, get;
    (void)shard__world_submit(world, &set, &session, OPCODE_SET, "k", "late");
    shard__world_settle(world);
    shard__world_expect(&set, "+OK\r\n");
    world->wall_ms += 10;
    assert_int_equal(shard__world_submit(world, &get, &session, OPCODE_GET, "k", ""),
                     SHARD_PENDING);
    assert_int_equal(get.answer_count, 0);
    shard__world_tick(world);
    shard__world_settle(world);
    shard__world_expect(&get, "$-1\r\n");
    shard__world_destroy(world);
}

/* I3: the stamp never goes back, also over a restart. */
static void time_never_goes_back(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    world->wall_ms = 5000;
    (void)shard__world_submit(world, &client, &session, OPCODE_SET, "k", "late");
    shard__world_settle(world);
    shard__world_expect(&client, "+OK\r\n");
    shard_close(world->shard);
    memstore_lose_unflushed(world->memstore);
    world->wall_ms = 10;
    shard__world_start(world, true);
    shard__world_settle(world);
    /* At 5000, which is durable, "late" is gone; at 10 it would be a secret still. */
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "k", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, "$-1\r\n");
    shard__world_destroy(world);
}

/* A full disk refuses what grows and nothing else. */
static void a_full_shard_refuses_what_grows(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    shard_set_full(world->shard, true);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_SET, "k", "v"), -ENOSPC);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "k", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, "$-1\r\n");
    shard_set_full(world->shard, false);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_SET, "k", "v"),
                     SHARD_PENDING);
    shard__world_settle(world);
    shard__world_expect(&client, "+OK\r\n");
    shard__world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_is_answered_when_it_is_durable),
        cmocka_unit_test(a_session_sees_its_own_writes),
        cmocka_unit_test(a_restart_applies_each_entry_once),
        cmocka_unit_test(a_log_that_lost_entries_is_refused),
        cmocka_unit_test(a_cold_expired_read_keeps_its_place),
        cmocka_unit_test(a_cold_read_goes_elsewhere),
        cmocka_unit_test(what_waits_for_an_earlier_reign_goes_back),
        cmocka_unit_test(a_read_behind_a_configuration_is_handed_back),
        cmocka_unit_test(cold_reads_of_a_session_go_together),
        cmocka_unit_test(an_expiry_is_seen_through_the_log),
        cmocka_unit_test(time_never_goes_back),
        cmocka_unit_test(a_full_shard_refuses_what_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
