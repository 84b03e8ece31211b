/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: RENAME, RENAMENX and COPY in two steps answer and do what they do in one, unless a key has
 * changed between the steps: then nothing; what is too large is refused, what is malformed recognized. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "service/kv/kv_internal.h"
#include "service/kv/kv_world.h"

enum { ROUND_COUNT = 1500, WORD_COUNT_MAX = 8 };

static uint32_t cut(const char *text, struct bytes words[WORD_COUNT_MAX])
{
    uint32_t count = 0;
    while (text != NULL) {
        const char *end = strchr(text, ' ');
        words[count++] = bytes_make(text, end == NULL ? strlen(text) : (size_t)(end - text));
        text = end == NULL ? NULL : end + 1;
    }
    return count;
}

/* What the first step reads. */
static void read_content(struct kv__world *world, struct bytes key, const char *limit,
                         struct buffer *answer)
{
    struct shard_machine machine = kv_machine(world->kv);
    const struct bytes arguments[] = {key, bytes_of_text(limit)};
    const struct shard_command command = {kv_content_opcode(), 2, arguments};
    const struct shard_moment moment = {.time_ms = world->time_ms,
                                        .durable_time_ms = world->time_ms};
    const struct reply reply = {.target = answer, .protocol = 2};
    buffer_clear(answer);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    assert_int_equal(machine.read(machine.context, world->rows, &moment, &command, &reply), 0);
}

/* Both steps; `between` happens between them, NULL: nothing. */
static void move(struct kv__world *world, const char *text, const char *between)
{
    struct bytes words[WORD_COUNT_MAX];
    uint32_t count = cut(text, words);
    struct buffer source = {0};
    struct buffer target = {0};
    struct buffer answer = {0};
    read_content(world, words[1], "100000", &source);
    read_content(world, words[2], "0", &target);
    const struct kv_move_request request = {
        .command = kv_command_find(words[0]),
        .arguments = words + 1,
        .argument_count = count - 1,
        .source = buffer_bytes(&source),
        .target = buffer_bytes(&target),
    };
    struct kv_transaction *transaction = kv_transaction_create();
    const struct reply reply = {.target = &answer, .protocol = 2};
    assert_true(kv_command_moves(request.command));
    enum kv_move plan = kv_move_plan(&request, transaction, &reply);
    assert_true(plan != KV_MOVE_MALFORMED);
    if (between != NULL) {
        (void)kv__world_say(world, "%s", between);
    }
    if (plan == KV_MOVE_COMMIT) {
        bool does_grow;
        struct shard_machine machine = kv_machine(world->kv);
        struct shard_command command = kv_transaction_command(transaction, &does_grow);
        const struct shard_stamp stamp = {.time_ms = world->time_ms,
                                          .version = ++world->index << 16};
        const struct reply executed = {.target = &world->answer, .protocol = 2};
        buffer_clear(&world->answer);
        rows_set_tier(world->rows, ENV_TIER_DISK);
        assert_int_equal(machine.execute(machine.context, world->rows, &stamp, &command, &executed),
                         0);
        assert_int_equal(rows_commit(world->rows, NULL), 0);
        bool is_changed = bytes_equal(buffer_bytes(&world->answer), BYTES("*-1\r\n"));
        assert_true(is_changed || world->answer.data[0] == '*');
        buffer_clear(&world->answer);
        buffer_append(&world->answer, is_changed ? BYTES("changed") : buffer_bytes(&answer));
    } else {
        buffer_clear(&world->answer);
        buffer_append(&world->answer, buffer_bytes(&answer));
    }
    kv_transaction_destroy(transaction);
    buffer_deinit(&source);
    buffer_deinit(&target);
    buffer_deinit(&answer);
}

static const char *const keys[] = {"a", "b", "c"};

static void expect_same(struct kv__world *whole, struct kv__world *parts)
{
    static const char *const questions[] = {"type %s", "get %s", "hgetall %s", "pttl %s"};
    assert_string_equal(kv__world_say(whole, "dbsize"), kv__world_say(parts, "dbsize"));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        for (size_t j = 0; j < sizeof questions / sizeof questions[0]; j++) {
            char text[64];
            (void)snprintf(text, sizeof text, questions[j], keys[i]);
            assert_string_equal(kv__world_say(whole, "%s", text), kv__world_say(parts, "%s", text));
        }
    }
}

static void test_two_steps_do_what_one_does(void **state)
{
    (void)state;
    static const char *const writes[] = {
        "set %s 1",
        "set %s %s",
        "set %s x px 5000",
        "hset %s f v",
        "hset %s f1 v1 f2 %s",
        "expire %s 100",
        "del %s",
        "hset %s long xxxxxxxxxxxxxxx",
    };
    static const char *const moves[] = {
        "rename %s %s", "renamenx %s %s", "copy %s %s", "copy %s %s replace", "copy %s %s oops",
    };
    struct random random;
    struct kv__world whole;
    struct kv__world parts;
    random_init(&random, 1);
    kv__world_init(&whole, 1);
    kv__world_init(&parts, 2);
    for (uint32_t round = 0; round < ROUND_COUNT; round++) {
        char text[96];
        const char *key = keys[random_below(&random, 3)];
        (void)snprintf(text, sizeof text, writes[random_below(&random, 8)], key, key);
        (void)kv__world_say(&whole, "%s", text);
        (void)kv__world_say(&parts, "%s", text);
        uint64_t first = random_below(&random, 3);
        (void)snprintf(text, sizeof text, moves[random_below(&random, 5)], keys[first],
                       keys[(first + 1 + random_below(&random, 2)) % 3]);
        (void)kv__world_say(&whole, "%s", text);
        move(&parts, text, NULL);
        assert_int_equal(whole.answer.size_bytes, parts.answer.size_bytes);
        assert_memory_equal(whole.answer.data, parts.answer.data, whole.answer.size_bytes);
        expect_same(&whole, &parts);
        whole.time_ms += 50;
        parts.time_ms += 50;
    }
    kv__world_deinit(&whole);
    kv__world_deinit(&parts);
}

static bool is_answer(const struct kv__world *world, const char *text)
{
    return bytes_equal(buffer_bytes(&world->answer), bytes_of_text(text));
}

static void test_what_changes_between_the_steps(void **state)
{
    (void)state;
    struct kv__world world;
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "set a 1");
    move(&world, "rename a b", "append a 2");
    assert_true(is_answer(&world, "changed"));
    assert_string_equal(kv__world_say(&world, "get b"), "$-1\r\n");
    move(&world, "rename a b", "set b old");
    assert_true(is_answer(&world, "+OK\r\n")); /* RENAME does not care. */
    assert_string_equal(kv__world_say(&world, "get b"), "$2\r\n12\r\n");
    move(&world, "renamenx b c", "set c new");
    assert_true(is_answer(&world, "changed"));
    move(&world, "copy b c", "del c"); /* It would have refused. */
    assert_true(is_answer(&world, "changed"));
    move(&world, "copy b c", "del b");
    assert_true(is_answer(&world, "changed"));
    assert_string_equal(kv__world_say(&world, "dbsize"), ":0\r\n");
    kv__world_deinit(&world);
}

static void test_what_is_too_large(void **state)
{
    (void)state;
    struct kv__world world;
    struct buffer answer = {0};
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "set a 123456789");
    (void)kv__world_say(&world, "hset h f1 v f2 v f3 v");
    /* As the head says, which is all that comes then. */
    static const struct {
        const char *key;
        const char *limit;
        size_t content;
    } cases[] = {{"a", "9", 9}, {"a", "8", 0}, {"h", "250", 33}, {"h", "150", 0}, {"h", "194", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char head[16];
        read_content(&world, bytes_of_text(cases[i].key), cases[i].limit, &answer);
        (void)snprintf(head, sizeof head, "$%zu\r\n", 17 + cases[i].content);
        assert_true(bytes_have_prefix(buffer_bytes(&answer), bytes_of_text(head)));
        assert_int_equal(answer.data[strlen(head) + 16] == 255, cases[i].content == 0);
    }
    char big[20001];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    for (int i = 0; i < 6; i++) {
        (void)kv__world_say(&world, "append big %s", big);
    }
    move(&world, "rename big b", NULL);
    assert_true(bytes_have_prefix(buffer_bytes(&world.answer), BYTES("-CROSSSLOT ")));
    move(&world, "rename a big", NULL); /* Its content is nobody's business. */
    assert_true(is_answer(&world, "+OK\r\n"));
    buffer_deinit(&answer);
    kv__world_deinit(&world);
}

static void test_malformed_content(void **state)
{
    (void)state;
    struct kv__world world;
    struct buffer good = {0};
    struct buffer answer = {0};
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "hset h f1 v f2 v");
    read_content(&world, BYTES("h"), "1000", &good);
    const struct bytes arguments[] = {BYTES("h"), BYTES("b")};
    const struct reply reply = {.target = &answer, .protocol = 2};
    struct kv_move_request request = {.command = kv_command_find(BYTES("rename")),
                                      .arguments = arguments,
                                      .argument_count = 2,
                                      .target = buffer_bytes(&good)};
    for (size_t size = 0; size < good.size_bytes; size++) {
        struct kv_transaction *transaction = kv_transaction_create();
        request.source = bytes_make(good.data, size);
        assert_int_equal(kv_move_plan(&request, transaction, &reply), KV_MOVE_MALFORMED);
        kv_transaction_destroy(transaction);
    }
    /* A length that points beyond the end; an error. */
    struct kv_transaction *transaction = kv_transaction_create();
    request.source = buffer_bytes(&good);
    good.data[5 + 17]++;
    assert_int_equal(kv_move_plan(&request, transaction, &reply), KV_MOVE_MALFORMED);
    request.source = BYTES("-ERR no\r\n");
    assert_int_equal(kv_move_plan(&request, transaction, &reply), KV_MOVE_MALFORMED);
    assert_int_equal(answer.size_bytes, 0);
    kv_transaction_destroy(transaction);
    buffer_deinit(&good);
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_steps_do_what_one_does),
        cmocka_unit_test(test_what_changes_between_the_steps),
        cmocka_unit_test(test_what_is_too_large),
        cmocka_unit_test(test_malformed_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
