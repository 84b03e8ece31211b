/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a prefetch tells how much of values executing the command will read, and make of shorter arguments:
 * of whole values, also within EXEC and of a prepared part, and nothing where what is there does not matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "service/kv/kv_participant.h"
#include "service/kv/kv_world.h"

enum { SIZE = 1000, ROW_SIZE = SIZE + 10, WORD_COUNT_MAX = 8, PREPARE_COUNT_MAX = 16 };

static void begin(struct kv__world *world)
{
    char value[SIZE + 1];
    memset(value, 'x', SIZE);
    value[SIZE] = '\0';
    kv__world_init(world, 1);
    (void)kv__world_say(world, "set v %s", value);
    (void)kv__world_say(world, "set n 1");
    (void)kv__world_say(world, "hset h f %s g %s", value, value);
}

static uint64_t load_of(struct kv__world *world, const struct shard_command *command)
{
    struct shard_machine machine = kv_machine(world->kv);
    uint64_t size_bytes = 7; /* It is added. */
    rows_set_tier(world->rows, ENV_TIER_DISK);
    assert_int_equal(machine.prefetch(machine.context, world->rows, command, &size_bytes), 0);
    return size_bytes - 7;
}

/* Words are separated by single spaces. */
static uint64_t load(struct kv__world *world, const char *line)
{
    struct bytes words[WORD_COUNT_MAX];
    uint32_t count = 0;
    for (const char *at = line; at != NULL;) {
        const char *end = strchr(at, ' ');
        assert_true(count < WORD_COUNT_MAX);
        words[count++] = bytes_make(at, end == NULL ? strlen(at) : (size_t)(end - at));
        at = end == NULL ? NULL : end + 1;
    }
    const struct shard_command command = {.opcode = kv_command_find(words[0])->opcode,
                                          .argument_count = count - 1,
                                          .arguments = words + 1};
    return load_of(world, &command);
}

static void test_values_that_are_read_count(void **state)
{
    (void)state;
    struct kv__world world;
    begin(&world);
    const char *const whole[] = {"append v x", "incr v",         "expire v 100",
                                 "persist v",  "getset v x",     "set v x get",
                                 "getdel v",   "setrange v 5 x", "set v x keepttl"};
    for (uint32_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        assert_in_range(load(&world, whole[i]), ROW_SIZE, ROW_SIZE + 6);
    }
    const char *const none[] = {"set v x", "setnx v x",    "mset v x n x",
                                "del v n", "append new x", "incr new"};
    for (uint32_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_int_equal(load(&world, none[i]), 0);
    }
    assert_in_range(load(&world, "incr n"), 1, 64);
    assert_in_range(load(&world, "copy v w"), ROW_SIZE, 2 * ROW_SIZE);
    assert_in_range(load(&world, "copy h i"), 2 * SIZE, 2 * SIZE + 200);
    assert_in_range(load(&world, "rename h i"), 2 * SIZE, 2 * SIZE + 200);
    kv__world_deinit(&world);
}

static void test_values_that_are_made_count(void **state)
{
    (void)state;
    struct kv__world world;
    begin(&world);
    assert_int_equal(load(&world, "setrange new 99999 x"), 100000);
    assert_in_range(load(&world, "setrange v 99999 x"), 100000 + ROW_SIZE, 100000 + ROW_SIZE + 6);
    assert_int_equal(load(&world, "setrange new -1 x"), 0);
    assert_int_equal(load(&world, "setrange new 999999999999 x"), 0); /* It will be refused. */
    kv__world_deinit(&world);
}

static void test_exec_is_the_sum(void **state)
{
    (void)state;
    struct kv__world world;
    begin(&world);
    struct kv_transaction *transaction = kv_transaction_create();
    const struct bytes append[] = {BYTES("v"), BYTES("x")};
    const struct bytes set[] = {BYTES("n"), BYTES("x")};
    const struct bytes setrange[] = {BYTES("new"), BYTES("4999"), BYTES("x")};
    kv_transaction_add(transaction, kv_command_find(BYTES("append")), append, 2);
    kv_transaction_add(transaction, kv_command_find(BYTES("set")), set, 2);
    kv_transaction_add(transaction, kv_command_find(BYTES("get")), append, 1); /* Only read. */
    kv_transaction_add(transaction, kv_command_find(BYTES("setrange")), setrange, 3);
    bool does_grow;
    const struct shard_command command = kv_transaction_command(transaction, &does_grow);
    assert_int_equal(load_of(&world, &command), ROW_SIZE + 5000);
    kv_transaction_destroy(transaction);
    kv__world_deinit(&world);
}

/* Claim: what loads more than the limit is answered that in the log, and nothing is done; of EXEC nothing more
 * is read then; and what ends a transaction over several shards goes all the same. */
static void test_what_is_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    struct kv__world world;
    begin(&world);
    kv_limit_load(world.kv, 2 * ROW_SIZE + 7);
    struct shard_machine machine = kv_machine(world.kv);
    struct kv_transaction *transaction = kv_transaction_create();
    const struct bytes append[] = {BYTES("v"), BYTES("x")};
    bool does_grow;
    for (uint32_t i = 1; i <= 5; i++) {
        kv_transaction_add(transaction, kv_command_find(BYTES("append")), append, 2);
        const struct shard_command exec = kv_transaction_command(transaction, &does_grow);
        uint64_t size_bytes = load_of(&world, &exec);
        assert_int_equal(size_bytes, (i < 3 ? i : 3) * ROW_SIZE);
        const struct shard_command *instead = machine.instead(machine.context, &exec, size_bytes);
        assert_true((instead != NULL) == (i >= 3));
        if (instead != NULL) {
            kv__world_execute(&world, instead);
            assert_memory_equal(world.answer.data, "-OOM ", 5);
        }
    }
    const struct shard_command finish = {.opcode = KV_OPCODE_FINISH};
    assert_null(machine.instead(machine.context, &finish, UINT64_MAX));
    const struct shard_command copy = {.opcode = kv_command_find(BYTES("copy"))->opcode};
    assert_null(machine.instead(machine.context, &copy, 2 * ROW_SIZE + 7));
    assert_non_null(machine.instead(machine.context, &copy, 2 * ROW_SIZE + 8));
    assert_string_equal(kv__world_say(&world, "strlen v"), ":1000\r\n");
    kv_transaction_destroy(transaction);
    kv__world_deinit(&world);
}

/* FINISH has no arguments but a header, and makes all that PREPARE brought. */
static void test_finish_is_what_was_prepared(void **state)
{
    (void)state;
    struct kv__world world;
    begin(&world);
    char value[SIZE];
    memset(value, 'y', SIZE);
    struct kv_transaction *transaction = kv_transaction_create();
    const struct bytes set[] = {BYTES("n"), bytes_make((const uint8_t *)value, SIZE)};
    const struct bytes append[] = {BYTES("v"), BYTES("x")};
    kv_transaction_add(transaction, kv_command_find(BYTES("set")), set, 2);
    kv_transaction_add(transaction, kv_command_find(BYTES("append")), append, 2);
    struct txn_header header = {
        .id = {.origin = 5, .number = 1, .begun_ms = world.time_ms}, .place = 100, .home = 100};
    uint8_t bytes[TXN_HEADER_SIZE_BYTES];
    struct bytes arguments[PREPARE_COUNT_MAX] = {bytes_make(bytes, sizeof bytes)};
    bool does_grow;
    struct shard_command part = kv_transaction_command(transaction, &does_grow);
    assert_in_range(part.argument_count, 1, PREPARE_COUNT_MAX - 1);
    memcpy(arguments + 1, part.arguments, part.argument_count * sizeof arguments[0]);
    txn_header_encode(&header, bytes);
    kv__world_execute(
        &world, &(struct shard_command){KV_OPCODE_PREPARE, 1 + part.argument_count, arguments});
    assert_int_equal(world.answer.data[0], TXN_ANSWER_YES);
    const struct shard_command finish = {KV_OPCODE_FINISH, 1, arguments};
    const enum txn_outcome outcomes[] = {TXN_COMMIT, TXN_ABORT};
    for (uint32_t i = 0; i < 2;
         i++) { /* The part is there in any case; what it reads, if it is executed. */
        uint64_t least = SIZE + (outcomes[i] == TXN_COMMIT ? ROW_SIZE : 0);
        header.outcome = outcomes[i];
        txn_header_encode(&header, bytes);
        assert_in_range(load_of(&world, &finish), least, least + 200);
    }
    kv__world_execute(&world, &finish);
    assert_int_equal(load_of(&world, &finish), 0); /* Only its outcome is left. */
    kv_transaction_destroy(transaction);
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_that_are_read_count),
        cmocka_unit_test(test_values_that_are_made_count),
        cmocka_unit_test(test_exec_is_the_sum),
        cmocka_unit_test(test_finish_is_what_was_prepared),
        cmocka_unit_test(test_what_is_beyond_the_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
