/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a transaction is what was put into it, however often it grew; one that is malformed is
 * refused as a whole and changes nothing; keys and values keep their limits everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/endian/endian.h"
#include "service/kv/kv_internal.h"
#include "service/kv/kv_world.h"

enum { MANY = 3000 };

static void add(struct kv_transaction *transaction, const char *name, struct bytes key,
                struct bytes value)
{
    const struct bytes arguments[] = {key, value};
    kv_transaction_add(transaction, kv_command_find(bytes_of_text(name)), arguments,
                       value.data == NULL ? 1 : 2);
}

/* Execute `command` as an entry of its own; what it answered. */
static const char *execute(struct kv__world *world, const struct shard_command *command)
{
    struct shard_machine machine = kv_machine(world->kv);
    struct shard_stamp stamp = {.time_ms = world->time_ms, .version = ++world->index << 16};
    struct reply reply = {.target = &world->answer, .protocol = 2};
    buffer_clear(&world->answer);
    assert_int_equal(machine.prefetch(machine.context, world->rows, command, &(uint64_t){0}), 0);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    assert_int_equal(machine.execute(machine.context, world->rows, &stamp, command, &reply), 0);
    assert_int_equal(rows_commit(world->rows, NULL), 0);
    buffer_append_byte(&world->answer, 0);
    return (const char *)world->answer.data;
}

static void test_a_transaction_may_be_large(void **state)
{
    (void)state;
    struct kv__world world;
    kv__world_init(&world, 1);
    struct kv_transaction *transaction = kv_transaction_create();
    bool does_grow;
    for (uint32_t i = 0; i < MANY; i++) {
        char key[32];
        int size = snprintf(key, sizeof key, "key:%u", i);
        add(transaction, "set", bytes_make(key, (size_t)size), bytes_make(key, (size_t)size));
        kv_transaction_watch(transaction, bytes_make(key, (size_t)size), 0);
    }
    assert_true(kv_transaction_size_bytes(transaction) > MANY * 10);
    struct shard_command command = kv_transaction_command(transaction, &does_grow);
    assert_true(does_grow);
    assert_int_equal(strncmp(execute(&world, &command), "*3000\r\n+OK\r\n", 12), 0);
    assert_string_equal(kv__world_say(&world, "get key:2999"), "$8\r\nkey:2999\r\n");
    assert_string_equal(kv__world_say(&world, "dbsize"), ":3000\r\n");
    /* Once more: now the watched keys exist. */
    command = kv_transaction_command(transaction, &does_grow);
    assert_string_equal(execute(&world, &command), "*-1\r\n");
    kv_transaction_destroy(transaction);
    kv_transaction_destroy(NULL);
    kv__world_deinit(&world);
}

static void test_growing_is_what_a_part_does(void **state)
{
    (void)state;
    struct kv_transaction *transaction = kv_transaction_create();
    bool does_grow = true;
    add(transaction, "get", BYTES("a"), bytes_make(NULL, 0));
    add(transaction, "del", BYTES("a"), bytes_make(NULL, 0));
    (void)kv_transaction_command(transaction, &does_grow);
    assert_false(does_grow);
    add(transaction, "append", BYTES("a"), BYTES("b"));
    (void)kv_transaction_command(transaction, &does_grow);
    assert_true(does_grow);
    kv_transaction_destroy(transaction);
}

static void test_a_malformed_transaction_changes_nothing(void **state)
{
    (void)state;
    struct kv__world world;
    kv__world_init(&world, 1);
    struct kv_transaction *transaction = kv_transaction_create();
    bool does_grow;
    add(transaction, "set", BYTES("a"), BYTES("1"));
    kv_transaction_watch(transaction, BYTES("a"), 0);
    struct shard_command command = kv_transaction_command(transaction, &does_grow);
    assert_int_equal(command.argument_count, 6); /* Count, key, version, header, key, value. */
    struct bytes good[6];
    memcpy(good, command.arguments, sizeof good);

    uint8_t too_many[4] = {3, 0, 0, 0};
    uint8_t unknown[6] = {0xff, 0xff, 2, 0, 0, 0};
    uint8_t too_long[6] = {2, 0, 9, 0, 0, 0};
    uint8_t internal[6] = {0xea, 3, 2, 0, 0, 0};
    uint8_t *endless = calloc(1, KV_KEY_SIZE_BYTES_MAX + 1);
    const struct {
        uint32_t index;
        struct bytes bytes;
    } damages[] = {
        {0, bytes_make(too_many, 4)},
        {0, BYTES("")},
        {1, bytes_make(endless, KV_KEY_SIZE_BYTES_MAX + 1)},
        {2, BYTES("short")},
        {3, bytes_make(unknown, 6)},
        {3, bytes_make(too_long, 6)},
        {3, bytes_make(internal, 6)},
        {3, BYTES("sevenxx")},
    };
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        struct bytes arguments[6];
        memcpy(arguments, good, sizeof arguments);
        arguments[damages[i].index] = damages[i].bytes;
        struct shard_command damaged = {command.opcode, 6, arguments};
        assert_string_equal(execute(&world, &damaged), "-ERR malformed transaction\r\n");
    }
    assert_string_equal(kv__world_say(&world, "dbsize"), ":0\r\n");
    assert_string_equal(execute(&world, &command), "*1\r\n+OK\r\n");
    free(endless);
    kv_transaction_destroy(transaction);
    kv__world_deinit(&world);
}

/* ---- Limits ---------------------------------------------------------------------------------- */

static const char *run(struct kv__world *world, const struct bytes *words, uint32_t word_count)
{
    kv__world_run(world, words, word_count);
    buffer_append_byte(&world->answer, 0);
    world->answer.size_bytes--;
    return (const char *)world->answer.data;
}

static void test_keys_have_a_limit(void **state)
{
    (void)state;
    static const char refusal[] = "-ERR key is longer than 65535 bytes\r\n";
    struct kv__world world;
    kv__world_init(&world, 1);
    uint8_t *name = malloc(KV_KEY_SIZE_BYTES_MAX + 1);
    memset(name, 'k', KV_KEY_SIZE_BYTES_MAX + 1);
    struct bytes longest = bytes_make(name, KV_KEY_SIZE_BYTES_MAX);
    struct bytes longer = bytes_make(name, KV_KEY_SIZE_BYTES_MAX + 1);
    const struct bytes set[] = {BYTES("set"), longest, BYTES("v"), BYTES("px"), BYTES("50")};
    assert_string_equal(run(&world, set, 5), "+OK\r\n");
    const struct bytes get[] = {BYTES("get"), longest};
    assert_string_equal(run(&world, get, 2), "$1\r\nv\r\n");
    const struct bytes rename[] = {BYTES("rename"), longest, BYTES("short")};
    assert_string_equal(run(&world, rename, 3), "+OK\r\n");
    const struct bytes back[] = {BYTES("rename"), BYTES("short"), longest};
    assert_string_equal(run(&world, back, 3), "+OK\r\n");
    world.time_ms += 50;
    while (kv__world_background(&world)) {
    }
    assert_int_equal(memstore_row_count(world.store), 0);

    const struct bytes refused[][3] = {
        {BYTES("get"), longer},
        {BYTES("del"), BYTES("a"), longer},
        {BYTES("set"), longer, BYTES("v")},
        {BYTES("rename"), longer, BYTES("a")},
        {BYTES("copy"), BYTES("a"), longer},
        {BYTES("object"), BYTES("encoding"), longer},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_string_equal(run(&world, refused[i], refused[i][2].data == NULL ? 2 : 3), refusal);
    }
    assert_int_equal(memstore_row_count(world.store), 0);
    free(name);
    kv__world_deinit(&world);
}

static void test_a_large_value_leaves_no_large_scratch(void **state)
{
    (void)state;
    struct kv__world world;
    kv__world_init(&world, 1);
    size_t size = 4u << 20;
    uint8_t *value = calloc(1, size);
    const struct bytes set[] = {BYTES("set"), BYTES("big"), bytes_make(value, size)};
    assert_string_equal(run(&world, set, 3), "+OK\r\n");
    assert_string_equal(kv__world_say(&world, "append big x"), ":4194305\r\n");
    assert_string_equal(kv__world_say(&world, "rename big bigger"), "+OK\r\n");
    assert_string_equal(kv__world_say(&world, "strlen bigger"), ":4194305\r\n");
    assert_true(world.kv->row.capacity_bytes <= KV_SCRATCH_KEEP_BYTES);
    assert_true(world.kv->work.capacity_bytes <= KV_SCRATCH_KEEP_BYTES);
    free(value);
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_transaction_may_be_large),
        cmocka_unit_test(test_growing_is_what_a_part_does),
        cmocka_unit_test(test_a_malformed_transaction_changes_nothing),
        cmocka_unit_test(test_keys_have_a_limit),
        cmocka_unit_test(test_a_large_value_leaves_no_large_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
