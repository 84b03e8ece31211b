/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a request whose key a transaction holds waits for it, with what its session submits behind it and
 * nobody else (I4); reads that may be stale wait for nothing. */
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
    struct reply reply = {&free_read.answer, 2};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_session_waits_in_its_order),
        cmocka_unit_test(test_reads_wait_unless_they_may_be_stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
