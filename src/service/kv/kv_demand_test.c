/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: the slot that a command is counted for is that of one of its keys, of each of them in turn as the lot
 * falls, and of nothing else that it has; a command without keys is counted for none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/txn/txn.h"
#include "service/kv/kv_internal.h"
#include "service/kv/kv_world.h"

enum { WORD_COUNT_MAX = 16 };

static int32_t slot_of(struct kv__world *world, const struct shard_command *command, uint64_t lot)
{
    struct shard_machine machine = kv_machine(world->kv);
    return machine.slot_of(machine.context, command, lot);
}

/* For some lots in a row: are they the slots of `keys`, in turn? NULL ends words and keys. */
static void expect(const char *const *words, const char *const *keys)
{
    struct kv__world world;
    struct bytes arguments[WORD_COUNT_MAX];
    struct shard_command command = {.arguments = arguments};
    command.opcode = kv_command_find(bytes_of_text(words[0]))->opcode;
    while (words[1 + command.argument_count] != NULL) {
        arguments[command.argument_count] = bytes_of_text(words[1 + command.argument_count]);
        command.argument_count++;
    }
    uint32_t count = 0;
    while (keys[count] != NULL) {
        count++;
    }
    kv__world_init(&world, 1);
    for (uint64_t lot = UINT64_MAX - 20; lot != 20; lot++) {
        int32_t slot = slot_of(&world, &command, lot);
        assert_int_equal(slot, count == 0 ? -1 : kv_slot_of_key(bytes_of_text(keys[lot % count])));
    }
    kv__world_deinit(&world);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_commands(void **state)
{
    const char *const none[] = {NULL};
    expect(LIST("get", "a"), LIST("a"));
    expect(LIST("set", "{tag}a", "b", "ex", "10"), LIST("{tag}a"));
    expect(LIST("mget", "a", "b", "c"), LIST("a", "b", "c"));
    expect(LIST("mset", "a", "1", "b", "2", "c", "3"), LIST("a", "b", "c"));
    expect(LIST("hset", "h", "f", "v"), LIST("h"));
    expect(LIST("rename", "a", "b"), LIST("a", "b"));
    expect(LIST("dbsize"), none);
    expect(LIST("flushall"), none);
    expect(LIST("scan", "0"), none);
    expect(LIST("get"), none); /* It will be refused. */
}

static void test_a_long_key_is_none(void **state)
{
    struct kv__world world;
    static uint8_t key[KV_KEY_SIZE_BYTES_MAX + 1];
    struct bytes argument = bytes_make(key, sizeof key);
    kv__world_init(&world, 1);
    const struct shard_command command = {kv_command_find(BYTES("get"))->opcode, 1, &argument};
    assert_int_equal(slot_of(&world, &command, 5), -1);
    const struct shard_command unknown = {60000, 1, &argument};
    assert_int_equal(slot_of(&world, &unknown, 5), -1);
    kv__world_deinit(&world);
}

/* EXEC, and the part of a transaction that this shard has: keys of what is in it, and watched ones. */
static void test_transactions(void **state)
{
    struct kv__world world;
    struct kv_transaction *transaction = kv_transaction_create();
    const struct bytes set[] = {BYTES("a"), BYTES("v")};
    const struct bytes get[] = {BYTES("b")};
    uint8_t header[TXN_HEADER_SIZE_BYTES];
    struct bytes arguments[WORD_COUNT_MAX] = {bytes_make(header, sizeof header)};
    bool does_grow;
    kv__world_init(&world, 1);
    kv_transaction_add(transaction, kv_command_find(BYTES("set")), set, 2);
    kv_transaction_add(transaction, kv_command_find(BYTES("get")), get, 1);
    struct shard_command command = kv_transaction_command(transaction, &does_grow);
    txn_header_encode(&(struct txn_header){.place = 1, .home = 1}, header);
    memcpy(arguments + 1, command.arguments, command.argument_count * sizeof arguments[0]);
    const struct shard_command prepare = {kv_txn_opcodes().prepare, 1 + command.argument_count,
                                          arguments};
    uint32_t counts[2] = {0};
    for (uint64_t lot = 0; lot < 10; lot++) {
        int32_t slot = slot_of(&world, &command, lot);
        assert_int_equal(slot, slot_of(&world, &prepare, lot));
        assert_true(slot == kv_slot_of_key(set[0]) || slot == kv_slot_of_key(get[0]));
        counts[slot == kv_slot_of_key(set[0])]++;
    }
    assert_true(counts[0] == 5 && counts[1] == 5);
    const struct shard_command malformed = {prepare.opcode, 1, arguments};
    assert_int_equal(slot_of(&world, &malformed, 0), -1);
    kv_transaction_destroy(transaction);
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_a_long_key_is_none),
        cmocka_unit_test(test_transactions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
