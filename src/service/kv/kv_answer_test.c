/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: no command answers more than the limit, however short its request; instead it answers an error,
 * and has its effect. In EXEC that is so for each of its commands. Others are as without a limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "service/kv/kv_internal.h"
#include "service/kv/kv_world.h"

enum { LIMIT = 4096, FIELD_COUNT = 50 };

#define TOO_LARGE(name) "-ERR the answer of '" name "' is larger than the limit of 4096 bytes\r\n"

static void begin(struct kv__world *world, uint8_t protocol)
{
    char value[1001];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    kv__world_init(world, 1);
    world->protocol = protocol;
    kv_limit_answers(world->kv, LIMIT);
    assert_string_equal(kv__world_say(world, "set v %s", value), "+OK\r\n");
    for (uint32_t i = 0; i < FIELD_COUNT; i++) {
        (void)kv__world_say(world, "hset h f%u %s", i, value);
        (void)kv__world_say(world, "set key:%u:%s 1", i, value + 800);
    }
}

static void test_each_command_keeps_the_limit(void **state)
{
    (void)state;
    for (uint8_t protocol = 2; protocol <= 3; protocol++) {
        struct kv__world world;
        begin(&world, protocol);
        assert_int_equal(strncmp(kv__world_say(&world, "mget v v v v"), "*4\r\n$1000\r\n", 11), 0);
        assert_string_equal(kv__world_say(&world, "mget v v v v v"), TOO_LARGE("mget"));
        assert_string_equal(kv__world_say(&world, "hgetall h"), TOO_LARGE("hgetall"));
        assert_string_equal(kv__world_say(&world, "hvals h"), TOO_LARGE("hvals"));
        assert_string_equal(kv__world_say(&world, "hmget h f1 f2 f3 f4 f5"), TOO_LARGE("hmget"));
        assert_string_equal(kv__world_say(&world, "hrandfield h -5 withvalues"),
                            TOO_LARGE("hrandfield"));
        assert_string_equal(kv__world_say(&world, "hrandfield h -3000"), TOO_LARGE("hrandfield"));
        assert_string_equal(kv__world_say(&world, "hscan h 0 count 1000"), TOO_LARGE("hscan"));
        assert_string_equal(kv__world_say(&world, "scan 0 count 1000"), TOO_LARGE("scan"));
        assert_string_equal(kv__world_say(&world, "keys *"), TOO_LARGE("keys"));
        /* What follows is as ever. */
        assert_string_equal(kv__world_say(&world, "hget h nothing"),
                            protocol == 2 ? "$-1\r\n" : "_\r\n");
        assert_int_equal(strncmp(kv__world_say(&world, "get v"), "$1000\r\n", 7), 0);
        kv__world_deinit(&world);
    }
}

static void test_a_write_has_its_effect(void **state)
{
    (void)state;
    struct kv__world world;
    begin(&world, 2);
    assert_string_equal(kv__world_say(&world, "setrange v 5000 x"), ":5001\r\n");
    assert_string_equal(kv__world_say(&world, "get v"), TOO_LARGE("get"));
    assert_string_equal(kv__world_say(&world, "set v short get"), TOO_LARGE("set"));
    assert_string_equal(kv__world_say(&world, "get v"), "$5\r\nshort\r\n");
    kv__world_deinit(&world);
}

static void queue(struct kv_transaction *transaction, const char *name, const char *key,
                  const char *value)
{
    const struct bytes arguments[] = {bytes_of_text(key), bytes_of_text(value)};
    kv_transaction_add(transaction, kv_command_find(bytes_of_text(name)), arguments,
                       value[0] == '\0' ? 1 : 2);
}

static void test_exec_answers_what_fits(void **state)
{
    (void)state;
    struct kv__world world;
    begin(&world, 2);
    struct kv_transaction *transaction = kv_transaction_create();
    queue(transaction, "hgetall", "h", "");
    for (uint32_t i = 0; i < 100; i++) { /* Their errors alone are longer than the limit. */
        queue(transaction, "get", "v", "");
    }
    queue(transaction, "set", "m", "1");
    queue(transaction, "incr", "n", "");
    bool does_grow;
    struct shard_command command = kv_transaction_command(transaction, &does_grow);
    kv__world_execute(&world, &command);
    buffer_append_byte(&world.answer, 0);
    const char *answer = (const char *)world.answer.data;
    const char *head = "*103\r\n" TOO_LARGE("hgetall") "$1000\r\n";
    const char *end = TOO_LARGE("get") TOO_LARGE("get") "+OK\r\n:1\r\n";
    assert_int_equal(strncmp(answer, head, strlen(head)), 0);
    assert_string_equal(answer + strlen(answer) - strlen(end), end);
    assert_true(strlen(answer) < LIMIT + 103 * 100);
    kv_transaction_destroy(transaction);
    assert_string_equal(kv__world_say(&world, "get n"), "$1\r\n1\r\n");
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_command_keeps_the_limit),
        cmocka_unit_test(test_a_write_has_its_effect),
        cmocka_unit_test(test_exec_answers_what_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
