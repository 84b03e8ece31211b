/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a request whose key a transaction holds waits for it, with what its session submits behind it and
 * nobody else (I4); what waits does so in the order of its arrival until leadership ends, unless it would
 * rather be answered; reads that may be stale wait for nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/shard/shard_world.h"

static void test_a_session_waits_in_its_order(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session mine;
    struct shard_session other;
    shard_session_init(&mine);
    shard_session_init(&other);
    struct shard__client before, held, behind, read, others, woken;
    world->locked_key = "k";
    assert_int_equal(shard__world_submit(world, &before, &mine, OPCODE_SET, "a", "1"),
                     SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &held, &mine, OPCODE_APPEND, "k", "x"),
                     SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &behind, &mine, OPCODE_APPEND, "a", "2"),
                     SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &read, &mine, OPCODE_GET, "k", ""), SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &others, &other, OPCODE_SET, "b", "3"),
                     SHARD_PENDING);
    shard__world_settle(world);
    shard__world_expect(&before, "+OK\r\n");
    shard__world_expect(&others, "+OK\r\n");
    assert_int_equal(held.answer_count + behind.answer_count + read.answer_count, 0);
    assert_int_equal(world->gathered_count, 2);
    /* The lock goes with what is applied next. */
    world->locked_key = NULL;
    assert_int_equal(shard__world_submit(world, &woken, &other, OPCODE_SET, "b", "4"),
                     SHARD_PENDING);
    shard__world_settle(world);
    shard__world_settle(world);
    shard__world_expect(&woken, "+OK\r\n");
    shard__world_expect(&held, ":1\r\n");
    shard__world_expect(&behind, ":2\r\n");
    shard__world_expect(&read, "$1\r\nx\r\n");
    assert_int_equal(world->gathered_count, 5);
    shard__world_destroy(world);
}

static void test_reads_wait_unless_they_may_be_stale(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session mine;
    struct shard_session stale;
    shard_session_init(&mine);
    shard_session_init(&stale);
    struct shard__client set, read, free_read;
    assert_int_equal(shard__world_submit(world, &set, &mine, OPCODE_SET, "k", "1"), SHARD_PENDING);
    shard__world_settle(world);
    shard__world_expect(&set, "+OK\r\n");
    world->locked_key = "k";
    assert_int_equal(shard__world_submit(world, &read, &mine, OPCODE_GET, "k", ""), SHARD_PENDING);
    shard__world_settle(world);
    assert_int_equal(read.answer_count, 0);
    free_read = (struct shard__client){.arguments = {BYTES("k")}};
    free_read.request = read.request;
    free_read.request.command = (struct shard_command){OPCODE_GET, 1, free_read.arguments};
    free_read.request.may_be_stale = true;
    free_read.request.session = &stale;
    struct reply reply = {.target = &free_read.answer, .protocol = 2};
    assert_int_equal(shard_submit(world->shard, &free_read.request, &reply), SHARD_ANSWERED);
    assert_true(bytes_equal(buffer_bytes(&free_read.answer), BYTES("$1\r\n1\r\n")));
    buffer_deinit(&free_read.answer);
    world->locked_key = NULL;
    assert_int_equal(shard__world_submit(world, &set, &stale, OPCODE_SET, "z", "2"), SHARD_PENDING);
    shard__world_settle(world);
    shard__world_expect(&set, "+OK\r\n");
    shard__world_expect(&read, "$1\r\n1\r\n");
    shard__world_destroy(world);
}

/* Something is applied that has nothing to do with it. */
static void apply_something(struct shard__world *world)
{
    struct shard_session session;
    struct shard__client set;
    shard_session_init(&session);
    assert_int_equal(shard__world_submit(world, &set, &session, OPCODE_SET, "z", "0"),
                     SHARD_PENDING);
    shard__world_settle(world);
    shard__world_settle(world);
    shard__world_expect(&set, "+OK\r\n");
}

static void test_the_line_is_kept(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session sessions[4];
    struct shard__client first, second, third, other;
    for (int i = 0; i < 4; i++) {
        shard_session_init(&sessions[i]);
    }
    world->locked_key = "k";
    (void)shard__world_submit(world, &first, &sessions[0], OPCODE_APPEND, "k", "1");
    (void)shard__world_submit(world, &second, &sessions[1], OPCODE_GET, "k", "");
    (void)shard__world_submit(world, &other, &sessions[2], OPCODE_APPEND, "m", "2");
    assert_string_equal(world->waiting, "kk");
    world->locked_key = "m";
    (void)shard__world_submit(world, &third, &sessions[3], OPCODE_APPEND, "k", "3");
    /* It is free now, but the others came before. */
    assert_string_equal(world->waiting, "kkk");
    world->locked_key = "k";
    apply_something(world);
    assert_string_equal(world->waiting, "kkk"); /* Told anew. */
    assert_int_equal(first.answer_count + second.answer_count + third.answer_count, 0);
    world->locked_key = NULL;
    apply_something(world);
    assert_string_equal(world->waiting, "");
    shard__world_settle(world);
    shard__world_expect(&first, ":1\r\n");
    shard__world_expect(&third, ":2\r\n");
    assert_int_equal(second.answer_count, 1);
    shard__world_expect(&other, ":1\r\n");
    buffer_deinit(&second.answer);
    shard__world_destroy(world);
}

static void test_what_waits_goes_back_with_the_office(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session sessions[2];
    struct shard__client append, read, behind;
    shard_session_init(&sessions[0]);
    shard_session_init(&sessions[1]);
    world->locked_key = "k";
    (void)shard__world_submit(world, &append, &sessions[0], OPCODE_APPEND, "k", "1");
    (void)shard__world_submit(world, &behind, &sessions[0], OPCODE_APPEND, "a", "1");
    (void)shard__world_submit(world, &read, &sessions[1], OPCODE_GET, "k", "");
    assert_string_equal(world->waiting, "kk");
    uint32_t executed_count = world->executed_count;
    shard__world_depose(world);
    shard__world_expect_handed_back(&append);
    shard__world_expect_handed_back(&behind);
    shard__world_expect_handed_back(&read);
    assert_string_equal(world->waiting, "");
    /* Nobody knows of them in the next leadership. */
    world->locked_key = NULL;
    for (int i = 0; i < 1000 && !shard_is_ready(world->shard); i++) {
        world->wall_ms += 10;
        shard__world_tick(world);
        shard__world_settle(world);
    }
    assert_true(shard_is_ready(world->shard));
    apply_something(world);
    assert_int_equal(world->executed_count, executed_count + 1);
    shard__world_destroy(world);
}

/* Claim: what nobody wants any more is not executed when the lock goes, nor is what waits behind it in its session, which
 * goes back in its order; who came later gets the key. */
static void test_the_unwanted_take_no_turn(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session sessions[2];
    struct shard__client gone, behind, later;
    shard_session_init(&sessions[0]);
    shard_session_init(&sessions[1]);
    world->locked_key = "k";
    (void)shard__world_submit(world, &gone, &sessions[0], OPCODE_APPEND, "k", "1");
    (void)shard__world_submit(world, &behind, &sessions[0], OPCODE_APPEND, "a", "1");
    (void)shard__world_submit(world, &later, &sessions[1], OPCODE_APPEND, "k", "22");
    gone.request.is_unwanted = true;
    behind.request.is_unwanted = true;
    assert_string_equal(world->waiting, "kk");
    world->locked_key = NULL;
    apply_something(world);
    shard__world_settle(world);
    shard__world_expect_handed_back(&gone);
    shard__world_expect_handed_back(&behind);
    shard__world_expect(&later, ":2\r\n");
    assert_string_equal(world->waiting, "");
    (void)shard__world_submit(world, &gone, &sessions[0], OPCODE_APPEND, "a", "1");
    shard__world_settle(world);
    shard__world_expect(&gone, ":1\r\n"); /* The session goes on, and nothing of it was executed. */
    shard__world_destroy(world);
}

static void test_a_write_that_declines_is_answered(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    struct shard__client append;
    shard_session_init(&session);
    world->locked_key = "k";
    world->does_decline = true;
    assert_int_equal(shard__world_submit(world, &append, &session, OPCODE_APPEND, "k", "1"),
                     SHARD_ANSWERED);
    shard__world_expect(&append, "-LOCKED\r\n");
    assert_string_equal(world->waiting, "");
    assert_int_equal(world->gathered_count, 0);
    assert_int_equal(session.pending_count, 0);
    /* The same, when it comes again: it was never on its way. */
    for (int i = 0; i < 2; i++) {
        const struct bytes arguments[] = {BYTES("k"), BYTES("1")};
        struct reply reply = {.target = &append.answer, .protocol = 2};
        append.request.command.arguments = arguments;
        append.request.origin = 5;
        append.request.sequence = 1;
        append.request.is_retry = i > 0;
        append.request.known_index = shard_applied_index(world->shard);
        assert_int_equal(shard_submit(world->shard, &append.request, &reply), SHARD_ANSWERED);
        shard__world_expect(&append, "-LOCKED\r\n");
    }
    shard__world_destroy(world);
}

static void test_a_lock_that_comes_with_the_rows_is_declined(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    struct shard__client append, behind;
    shard_session_init(&session);
    shard__world_put_and_start_cold(world, &session);
    world->gathered_count = 0;
    (void)shard__world_submit(world, &append, &session, OPCODE_APPEND, "k", "1");
    (void)shard__world_submit(world, &behind, &session, OPCODE_SET, "a", "1");
    shard__world_tick(world);
    assert_non_null(world->read);
    world->locked_key = "k";
    world->does_decline = true;
    struct shard_read *read = world->read;
    world->read = NULL;
    shard_read_run(read);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    shard_read_done(read);
    shard__world_expect(&append, "-LOCKED\r\n");
    shard__world_tick(world);
    shard__world_settle(world);
    shard__world_expect(&behind, "+OK\r\n");
    assert_int_equal(world->gathered_count, 1);
    shard__world_destroy(world);
}

/* Claim: only what is applied can free those that wait, so nothing else has all of them looked at. */
static void test_what_waits_is_left_alone_until_something_is_applied(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    struct shard__client append;
    shard_session_init(&session);
    world->locked_key = "k";
    (void)shard__world_submit(world, &append, &session, OPCODE_APPEND, "k", "1");
    uint32_t before = world->told_anew_count;
    for (int i = 0; i < 5; i++) {
        world->wall_ms += 10;
        shard__world_tick(world);
    }
    assert_int_equal(world->told_anew_count, before);
    world->locked_key = NULL;
    apply_something(world);
    assert_int_equal(world->told_anew_count, before + 1);
    shard__world_settle(world);
    shard__world_expect(&append, ":1\r\n");
    shard__world_destroy(world);
}

/* Claim: a read that met a lock on its way to the disk, where it is gone by now, waits for nothing. */
static void test_a_lock_that_went_meanwhile_holds_nobody(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    struct shard__client get;
    shard_session_init(&session);
    shard__world_put_and_start_cold(world, &session);
    (void)shard__world_submit(world, &get, &session, OPCODE_GET, "k", "");
    shard__world_tick(world);
    assert_non_null(world->read);
    struct shard_read *read = world->read;
    world->read = NULL;
    world->locked_key = "k";
    shard_read_run(read);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    world->locked_key = NULL;
    raft_index applied_index = shard_applied_index(world->shard);
    shard_read_done(read);
    assert_int_equal(get.answer_count, 0);
    shard__world_tick(world);
    shard__world_expect(&get, "$1\r\nv\r\n");
    assert_int_equal(shard_applied_index(world->shard), applied_index);
    shard__world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_session_waits_in_its_order),
        cmocka_unit_test(test_reads_wait_unless_they_may_be_stale),
        cmocka_unit_test(test_the_line_is_kept),
        cmocka_unit_test(test_what_waits_goes_back_with_the_office),
        cmocka_unit_test(test_the_unwanted_take_no_turn),
        cmocka_unit_test(test_a_write_that_declines_is_answered),
        cmocka_unit_test(test_a_lock_that_comes_with_the_rows_is_declined),
        cmocka_unit_test(test_what_waits_is_left_alone_until_something_is_applied),
        cmocka_unit_test(test_a_lock_that_went_meanwhile_holds_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
