/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a transaction that is cut into parts answers what it would answer as a whole; what cannot be cut
 * is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "service/kv/kv_internal.h"
#include "service/kv/kv_world.h"

enum { WORD_COUNT_MAX = 16, ROUND_COUNT = 600 };

static const uint8_t too_long[KV_KEY_SIZE_BYTES_MAX + 1]; /* For a key; in commands: LONG. */

static uint32_t group_of_slot(void *context, uint32_t slot)
{
    return slot * *(const uint32_t *)context / KV_SLOT_COUNT;
}

static void execute(struct kv__world *world, const struct bytes *arguments, uint32_t count)
{
    struct shard_machine machine = kv_machine(world->kv);
    const struct shard_command command = {KV_OPCODE_TRANSACTION, count, arguments};
    const struct shard_stamp stamp = {.time_ms = world->time_ms, .version = ++world->index << 16};
    const struct reply reply = {.target = &world->answer, .protocol = world->protocol};
    buffer_clear(&world->answer);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    assert_int_equal(machine.execute(machine.context, world->rows, &stamp, &command, &reply), 0);
    assert_int_equal(rows_commit(world->rows, NULL), 0);
}

static void add(struct kv_transaction *transaction, const char *text)
{
    struct bytes words[WORD_COUNT_MAX];
    uint32_t count = 0;
    while (text != NULL) {
        const char *end = strchr(text, ' ');
        struct bytes word = bytes_make(text, end == NULL ? strlen(text) : (size_t)(end - text));
        words[count++] =
            bytes_equal(word, BYTES("LONG")) ? bytes_make(too_long, sizeof too_long) : word;
        text = end == NULL ? NULL : end + 1;
    }
    kv_transaction_add(transaction, kv_command_find(words[0]), words + 1, count - 1);
}

static const char *const commands[] = {
    "set a 1",
    "get b",
    "mget a b c d e f a none",
    "del a c e none",
    "mset a 1 b 2 c 3 d 4 e 5 a 6",
    "exists a a b c",
    "incr d",
    "hset h f v g w",
    "hgetall h",
    "touch a b h",
    "unlink b d",
    "append f xyz",
    "mget b",
    "type h",
    "getex a ex 5",
    "set h x get",
    "strlen f",
    "lcs a d",
    "lcs f d len",
    "lcs f h",
    "lcs none f idx withmatchlen",
    "lcs f d oops",
    /* Refused, whatever is there, before any of it is done. */
    "mset a 1 LONG 2 c 3",
    "mset a 1 b",
    "mset LONG 1 b",
    "msetnx a 1 LONG 2",
    "msetnx a 1 b",
    "mget a LONG b",
    "del a b LONG",
    "exists LONG LONG a",
    "set LONG 1",
    "lcs a LONG",
    "rename LONG a",
    "copy a LONG",
    "get",
};

/* One world does it as a whole; another, which knows no shards, part by part. */
static void test_parts_answer_what_the_whole_does(void **state)
{
    (void)state;
    struct random random;
    struct kv__world whole;
    struct kv__world parts;
    random_init(&random, 1);
    kv__world_init(&whole, 1);
    kv__world_init(&parts, 2);
    for (uint32_t round = 0; round < ROUND_COUNT; round++) {
        uint32_t group_count = 1 + (uint32_t)random_below(&random, 16);
        struct kv_transaction *transaction = kv_transaction_create();
        uint64_t count = 1 + random_below(&random, 8);
        for (uint64_t i = 0; i < count; i++) {
            add(transaction, commands[random_below(&random, sizeof commands / sizeof commands[0])]);
            if (random_chance(&random, 1, 5)) {
                kv_transaction_add_answer(transaction, BYTES("+OWN\r\n"));
            }
        }
        whole.protocol = parts.protocol = random_chance(&random, 1, 2) ? 2 : 3;
        bool does_grow;
        struct shard_command command = kv_transaction_command(transaction, &does_grow);
        execute(&whole, command.arguments, command.argument_count);
        struct kv_split *split;
        assert_int_equal(kv_split_create(&split, transaction, group_of_slot, &group_count), 0);
        kv_transaction_destroy(transaction);
        uint32_t part_count = kv_split_part_count(split);
        struct buffer kept[16] = {0};
        struct bytes replies[16];
        for (uint32_t i = 0; i < part_count; i++) {
            struct txn_part part = kv_split_part(split, i);
            assert_true(i == 0 || kv_split_part(split, i - 1).place < part.place);
            execute(&parts, part.arguments, part.argument_count);
            /* Without the head of the array, as FINISH answers. */
            const uint8_t *end = memchr(parts.answer.data, '\n', parts.answer.size_bytes);
            size_t head = (size_t)(end - parts.answer.data) + 1;
            buffer_append(&kept[i], bytes_make(end + 1, parts.answer.size_bytes - head));
            replies[i] = buffer_bytes(&kept[i]);
        }
        kv_split_drop_parts(split);
        struct buffer joined = {0};
        const struct reply reply = {.target = &joined, .protocol = whole.protocol};
        assert_true(kv_split_join(split, replies, true, &reply));
        assert_int_equal(joined.size_bytes, whole.answer.size_bytes);
        assert_memory_equal(joined.data, whole.answer.data, joined.size_bytes);
        if (part_count > 0 && replies[0].size_bytes > 0) {
            replies[0].size_bytes--;
            assert_false(kv_split_join(split, replies, true, &reply));
        }
        buffer_deinit(&joined);
        for (uint32_t i = 0; i < part_count; i++) {
            buffer_deinit(&kept[i]);
        }
        kv_split_destroy(split);
    }
    kv__world_deinit(&whole);
    kv__world_deinit(&parts);
}

static void test_what_cannot_be_cut(void **state)
{
    (void)state;
    static const char *const refused[] = {"rename a b", "copy a b", "dbsize", "keys *", "flushall"};
    uint32_t group_count = 16;
    struct kv_split *split;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct kv_transaction *transaction = kv_transaction_create();
        add(transaction, refused[i]);
        assert_int_equal(kv_split_create(&split, transaction, group_of_slot, &group_count), -EXDEV);
        kv_transaction_destroy(transaction);
    }
    /* MSETNX, alone: all keys are watched as not existing. */
    struct kv_transaction *transaction = kv_transaction_create();
    add(transaction, "msetnx a 1 b 2 c 3");
    assert_int_equal(kv_split_create(&split, transaction, group_of_slot, &group_count), 0);
    assert_true(kv_split_is_only_new(split));
    kv_split_destroy(split);
    add(transaction, "get a");
    assert_int_equal(kv_split_create(&split, transaction, group_of_slot, &group_count), -EXDEV);
    kv_transaction_destroy(transaction);
    /* Beside a WATCH nobody could tell what has changed. */
    transaction = kv_transaction_create();
    kv_transaction_watch(transaction, BYTES("a"), 7);
    add(transaction, "msetnx a 1 b 2 c 3");
    assert_int_equal(kv_split_create(&split, transaction, group_of_slot, &group_count), -EXDEV);
    kv_transaction_destroy(transaction);
}

/* What comes of `command` alone that a shard answers `first`, and the other one `second`: outside of
 * MULTI, and within it. */
static void expect_join(const char *command, const char *first, const char *second,
                        const char *expected)
{
    uint32_t group_count = 16;
    struct kv_split *split;
    struct kv_transaction *transaction = kv_transaction_create();
    add(transaction, command);
    assert_int_equal(kv_split_create(&split, transaction, group_of_slot, &group_count), 0);
    const struct bytes replies[] = {bytes_of_text(first), bytes_of_text(second)};
    assert_int_equal(kv_split_part_count(split), first[0] == 0 ? 0 : 2);
    struct buffer joined = {0};
    const struct reply reply = {.target = &joined, .protocol = 2};
    assert_true(kv_split_join(split, replies, false, &reply));
    buffer_append_byte(&joined, 0);
    assert_string_equal((const char *)joined.data, expected);
    buffer_clear(&joined);
    assert_true(kv_split_join(split, replies, true, &reply));
    buffer_append_byte(&joined, 0);
    assert_memory_equal(joined.data, "*1\r\n", 4);
    assert_string_equal((const char *)joined.data + 4, expected);
    buffer_deinit(&joined);
    kv_split_destroy(split);
    kv_transaction_destroy(transaction);
}

/* What a shard refuses is not acknowledged because another one did it; what all would refuse is cut
 * into nothing. */
static void test_errors(void **state)
{
    (void)state;
    static const char refusal[] = "-ERR key is longer than 65535 bytes\r\n";
    static const char arity[] = "-ERR wrong number of arguments for 'mset' command\r\n";
    expect_join("mset a 1 b 2", "+OK\r\n", "+OK\r\n", "+OK\r\n");
    expect_join("mset a 1 b 2", "+OK\r\n", "-ERR no\r\n", "-ERR no\r\n");
    expect_join("mset a 1 b 2", "-ERR no\r\n", "+OK\r\n", "-ERR no\r\n");
    expect_join("msetnx a 1 b 2", "+OK\r\n", "+OK\r\n", ":1\r\n");
    expect_join("msetnx a 1 b 2", "+OK\r\n", "-ERR no\r\n", "-ERR no\r\n");
    expect_join("del a b", ":1\r\n", "-ERR no\r\n", "-ERR no\r\n");
    expect_join("mset a 1 LONG 2 b 3", "", "", refusal);
    expect_join("msetnx a 1 LONG 2 b 3", "", "", refusal);
    expect_join("lcs a LONG", "", "", refusal);
    expect_join("mset a 1 b", "", "", arity);
}

/* A number is taken with its line, or nothing is. */
static void test_take_number(void **state)
{
    (void)state;
    static const char *const malformed[] = {"",       ":",      ":1",          ":\r\n",  ":1\n",
                                            ":x\r\n", "*1\r\n", "-ERR no\r\n", ":1 \r\n"};
    int64_t number;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        struct bytes rest = bytes_of_text(malformed[i]);
        assert_false(kv_reply_take_number(&rest, ':', &number));
        assert_int_equal(rest.size_bytes, strlen(malformed[i]));
    }
    struct bytes rest = BYTES(":-17\r\n*2\r\n+A\r\n");
    assert_true(kv_reply_take_number(&rest, ':', &number));
    assert_int_equal(number, -17);
    assert_true(kv_reply_take_number(&rest, '*', &number));
    assert_int_equal(number, 2);
    assert_true(bytes_equal(rest, BYTES("+A\r\n")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_answer_what_the_whole_does),
        cmocka_unit_test(test_what_cannot_be_cut),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_take_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
