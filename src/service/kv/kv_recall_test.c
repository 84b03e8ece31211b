/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a command that replaces a key says what it found, and one that is told so instead of looking does
 * the same; what had to be looked at is never said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "service/kv/kv_internal.h"
#include "service/kv/kv_world.h"

static void expect_found(struct kv__world *world, const char *text, enum kv_found found)
{
    (void)kv__world_say(world, "%s", text);
    if (world->found != found) {
        print_error("%s found %u\n", text, world->found);
    }
    assert_int_equal(world->found, found);
}

static void test_what_is_said(void **state)
{
    struct kv__world world;
    kv__world_init(&world, 1);
    expect_found(&world, "set k 1", KV_FOUND_NOTHING);
    expect_found(&world, "set k 2", KV_FOUND_STRING);
    expect_found(&world, "set k 2 ex 10", KV_FOUND_STRING);
    expect_found(&world, "set k 2", KV_FOUND_UNKNOWN); /* It expired. */
    expect_found(&world, "setex k 10 2", KV_FOUND_STRING);
    world.time_ms += 10000;
    expect_found(&world, "set k 3", KV_FOUND_UNKNOWN); /* What had expired was removed. */
    expect_found(&world, "psetex new 10 3", KV_FOUND_NOTHING);
    (void)kv__world_say(&world, "hset h f v");
    expect_found(&world, "set h 1", KV_FOUND_UNKNOWN);
    /* Their answers tell what was there, or they need it. */
    expect_found(&world, "set k 4 nx", KV_FOUND_UNKNOWN);
    expect_found(&world, "set k 4 xx", KV_FOUND_UNKNOWN);
    expect_found(&world, "set k 4 get", KV_FOUND_UNKNOWN);
    expect_found(&world, "set k 4 keepttl", KV_FOUND_UNKNOWN);
    expect_found(&world, "getset k 5", KV_FOUND_UNKNOWN);
    expect_found(&world, "mset k 5 l 6", KV_FOUND_UNKNOWN);
    expect_found(&world, "del k", KV_FOUND_UNKNOWN);
    expect_found(&world, "set k 1 ex nothing", KV_FOUND_UNKNOWN); /* Refused. */
    expect_found(&world, "incr l", KV_FOUND_UNKNOWN);
    kv__world_deinit(&world);
}

/* Where all rows are in memory, but of long values the heads only, as where a replica followed until now, a write that
 * needs the value has it fetched; one that replaces it has not. */
static void test_heads_are_not_values(void **state)
{
    struct kv__world world;
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "set k %0100d", 1);
    assert_int_equal(rows_commit(world.rows, NULL), 0);
    rows_keep_heads(world.rows, true);
    assert_false(rows_shorten(world.rows, 1000));
    rows_keep_heads(world.rows, false);
    assert_true(rows_is_complete(world.rows));
    struct shard_machine machine = kv_machine(world.kv);
    struct bytes arguments[] = {BYTES("k"), BYTES("x")};
    struct shard_command command = {.argument_count = 2, .arguments = arguments};
    const struct bytes names[] = {BYTES("set"), BYTES("append")};
    for (uint32_t i = 0; i < 2; i++) {
        struct rows_statistics before;
        struct rows_statistics after;
        command.opcode = kv_command_find(names[i])->opcode;
        rows_get_statistics(world.rows, &before);
        assert_int_equal(machine.prefetch(machine.context, world.rows, &command, &(uint64_t){0}),
                         0);
        rows_get_statistics(world.rows, &after);
        assert_int_equal(after.miss_count - before.miss_count, i);
    }
    kv__world_deinit(&world);
}

/* What a newer release would have written is looked up. */
static void test_other_bytes(void **state)
{
    struct kv__world world;
    kv__world_init(&world, 1);
    for (unsigned known = KV_FOUND_STRING + 1; known <= UINT8_MAX; known++) {
        world.known = (uint8_t)known;
        expect_found(&world, "set k 1", known == 3 ? KV_FOUND_NOTHING : KV_FOUND_STRING);
    }
    assert_string_equal(kv__world_say(&world, "dbsize"), ":1\r\n");
    kv__world_deinit(&world);
}

/* Random commands, in one world that looks and says, and in one that is told: their answers, their rows
 * and their states are the same after each. */
static void test_the_same_happens(void **state)
{
    struct random random;
    random_init(&random, 20);
    struct kv__world first, second;
    kv__world_init(&first, 1);
    kv__world_init(&second, 2);
    uint32_t told_count = 0;
    for (int i = 0; i < 20000; i++) {
        static const char *const forms[] = {
            "set k%u v",    "set k%u longer", "setex k%u 1 v",   "set k%u v px 90",
            "set k%u v nx", "del k%u",        "hset k%u f v",    "expire k%u 1",
            "persist k%u",  "append k%u x",   "psetex k%u 20 v", "set k%u v keepttl"};
        char text[64];
        const char *form = forms[random_below(&random, sizeof forms / sizeof forms[0])];
        (void)snprintf(text, sizeof text, form, (unsigned)random_below(&random, 6));
        first.time_ms += random_below(&random, 40);
        second.time_ms = first.time_ms;
        (void)kv__world_say(&first, "%s", text);
        second.known = first.found;
        told_count += first.found != 0;
        (void)kv__world_say(&second, "%s", text);
        assert_true(bytes_equal(buffer_bytes(&first.answer), buffer_bytes(&second.answer)));
        assert_true(bytes_equal(buffer_bytes(&first.saved), buffer_bytes(&second.saved)));
        assert_true(rows_digest(first.rows) == rows_digest(second.rows));
        assert_int_equal(first.found, second.found);
    }
    assert_true(told_count > 2000);
    kv__world_deinit(&first);
    kv__world_deinit(&second);
}

/* Who is told does not read: that is what it is for. */
static void test_nothing_is_read(void **state)
{
    struct kv__world world;
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "set k 1");
    kv__world_restart(&world);
    struct rows_statistics before, after;
    rows_get_statistics(world.rows, &before);
    world.known = KV_FOUND_STRING;
    struct bytes arguments[] = {BYTES("k"), BYTES("2")};
    kv__world_execute(&world, &(struct shard_command){
                                  .opcode = kv_command_find(BYTES("set"))->opcode,
                                  .argument_count = 2,
                                  .arguments = arguments,
                              });
    rows_get_statistics(world.rows, &after);
    assert_int_equal(before.hit_count + before.miss_count, after.hit_count + after.miss_count);
    assert_string_equal(kv__world_say(&world, "dbsize"), ":1\r\n");
    assert_string_equal(kv__world_say(&world, "get k"), "$1\r\n2\r\n");
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_said),         cmocka_unit_test(test_other_bytes),
        cmocka_unit_test(test_heads_are_not_values), cmocka_unit_test(test_the_same_happens),
        cmocka_unit_test(test_nothing_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
