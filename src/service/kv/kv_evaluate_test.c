/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a transaction that is evaluated, cut and committed by parts answers and does what it does as one
 * command, unless a key that was read has changed meanwhile: then it fails in a part. What is too large
 * is refused, what is malformed recognized, and what has nothing to do with it is left as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "service/kv/kv_internal.h"
#include "service/kv/kv_work.h"
#include "service/kv/kv_world.h"

enum {
    ROUND_COUNT = 3000,
    WORD_COUNT_MAX = 16,
    READ_COUNT_MAX = 64,
    GROUP_COUNT = 4,
    GROUP_SLOT_COUNT = KV_SLOT_COUNT / GROUP_COUNT
};

/* ---- Steps ----------------------------------------------------------------------------------- */

static uint32_t group_of_slot(void *context, uint32_t slot)
{
    (void)context;
    return slot / GROUP_SLOT_COUNT;
}

/* Commands with ";" between them. */
static void queue(struct kv_transaction *transaction, const char *text)
{
    struct bytes words[WORD_COUNT_MAX];
    while (text != NULL) {
        const char *end_of_all = strchr(text, ';');
        size_t left = end_of_all == NULL ? strlen(text) : (size_t)(end_of_all - text);
        uint32_t count = 0;
        while (left > 0) {
            const char *space = memchr(text, ' ', left);
            size_t size = space == NULL ? left : (size_t)(space - text);
            words[count++] = bytes_make(text, size);
            size += space != NULL;
            text += size;
            left -= size;
        }
        kv_transaction_add(transaction, kv_command_find(words[0]), words + 1, count - 1);
        text = end_of_all == NULL ? NULL : end_of_all + 1;
    }
}

struct plan {
    struct kv_transaction *transaction;
    struct kv_evaluation *evaluation;
    struct kv_transaction *planned;
    struct kv_split *split;
    struct buffer contents[READ_COUNT_MAX];
    enum kv_evaluated evaluated;
};

static void read_all(struct kv__world *world, struct plan *plan)
{
    struct shard_machine machine = kv_machine(world->kv);
    const struct shard_moment moment = {.time_ms = world->time_ms,
                                        .durable_time_ms = world->time_ms};
    assert_true(kv_evaluation_read_count(plan->evaluation) <= READ_COUNT_MAX);
    for (uint32_t i = 0; i < kv_evaluation_read_count(plan->evaluation); i++) {
        const struct shard_command command = {kv_content_opcode(), 2,
                                              kv_evaluation_read(plan->evaluation, i)};
        const struct reply reply = {.target = &plan->contents[i], .protocol = 2};
        rows_set_tier(world->rows, ENV_TIER_DISK);
        assert_int_equal(machine.read(machine.context, world->rows, &moment, &command, &reply), 0);
    }
}

/* Of a queued transaction, which it takes. What must not be seen as expired is not by a clock ahead. */
static void plan_it(struct kv__world *world, struct plan *plan, uint8_t protocol, uint64_t ahead_ms)
{
    struct bytes contents[READ_COUNT_MAX];
    assert_int_equal(
        kv_evaluation_create(&plan->evaluation, plan->transaction, group_of_slot, NULL), 0);
    read_all(world, plan);
    for (uint32_t i = 0; i < READ_COUNT_MAX; i++) {
        contents[i] = buffer_bytes(&plan->contents[i]);
    }
    plan->planned = kv_transaction_create();
    const struct kv_evaluate given = {
        .contents = contents,
        .time_ms = world->time_ms + ahead_ms,
        .protocol = protocol,
        .planned = plan->planned,
    };
    plan->evaluated = kv_evaluate(plan->evaluation, &given);
}

static void plan_text(struct kv__world *world, struct plan *plan, const char *text)
{
    *plan = (struct plan){.transaction = kv_transaction_create()};
    queue(plan->transaction, text);
    plan_it(world, plan, 2, 0);
}

static void plan_end(struct plan *plan)
{
    kv_transaction_destroy(plan->transaction);
    kv_evaluation_destroy(plan->evaluation);
    kv_transaction_destroy(plan->planned);
    kv_split_destroy(plan->split);
    for (uint32_t i = 0; i < READ_COUNT_MAX; i++) {
        buffer_deinit(&plan->contents[i]);
    }
}

/* Execute a part as a transaction of its own. False: a key has changed. */
static bool execute_part(struct kv__world *world, struct txn_part part, struct buffer *replies)
{
    struct shard_command command = {KV_OPCODE_TRANSACTION, part.argument_count, part.arguments};
    int64_t count;
    kv__world_execute(world, &command);
    struct bytes answer = buffer_bytes(&world->answer);
    if (bytes_equal(answer, BYTES("*-1\r\n")) || bytes_equal(answer, BYTES("_\r\n"))) {
        return false;
    }
    assert_true(kv_reply_take_number(&answer, '*', &count));
    buffer_append(replies, answer);
    return true;
}

/* The answer is in `world->answer`, or "changed". */
static void commit(struct kv__world *world, struct plan *plan)
{
    struct buffer replies[GROUP_COUNT] = {0};
    struct bytes pieces[GROUP_COUNT];
    bool is_changed = false;
    uint8_t protocol = world->protocol;
    assert_int_equal(plan->evaluated, KV_EVALUATED_COMMIT);
    assert_int_equal(kv_split_create(&plan->split, plan->planned, group_of_slot, NULL), 0);
    uint32_t count = kv_split_part_count(plan->split);
    for (uint32_t i = 0; i < count; i++) {
        is_changed |= !execute_part(world, kv_split_part(plan->split, i), &replies[i]);
        pieces[i] = buffer_bytes(&replies[i]);
    }
    const struct reply reply = {.target = &world->answer, .protocol = protocol};
    buffer_clear(&world->answer);
    if (is_changed) {
        buffer_append(&world->answer, BYTES("changed"));
    } else {
        assert_true(kv_split_join(plan->split, pieces, true, &reply));
    }
    for (uint32_t i = 0; i < count; i++) {
        buffer_deinit(&replies[i]);
    }
}

static void run_whole(struct kv__world *world, const char *text)
{
    struct kv_transaction *transaction = kv_transaction_create();
    bool does_grow;
    queue(transaction, text);
    struct shard_command command = kv_transaction_command(transaction, &does_grow);
    kv__world_execute(world, &command);
    kv_transaction_destroy(transaction);
}

static void expect_answer(const struct kv__world *world, const char *expected)
{
    assert_int_equal(world->answer.size_bytes, strlen(expected));
    assert_memory_equal(world->answer.data, expected, strlen(expected));
}

/* ---- What one does --------------------------------------------------------------------------- */

static const char *const keys[] = {"a", "b", "c", "d", "e", "f"};
enum { KEY_COUNT = 6 };

static void expect_same(struct kv__world *whole, struct kv__world *parts)
{
    static const char *const questions[] = {"type %s", "get %s", "hgetall %s", "pttl %s"};
    for (size_t i = 0; i < KEY_COUNT; i++) {
        for (size_t j = 0; j < sizeof questions / sizeof questions[0]; j++) {
            char text[64];
            (void)snprintf(text, sizeof text, questions[j], keys[i]);
            char *expected = strdup(kv__world_say(whole, "%s", text));
            assert_string_equal(kv__world_say(parts, "%s", text), expected);
            free(expected);
        }
    }
}

static void draw(struct random *random, char *text, size_t size)
{
    static const char *const forms[] = {
        "rename %s %s",     "renamenx %s %s",   "copy %s %s",      "copy %s %s replace",
        "msetnx %s 1 %s 2", "msetnx %s 1 %s 2", "rename %s %s",    "set %s 1",
        "append %s x%s",    "incr %s",          "set %s %s px 40", "hset %s f1 v f2 %s",
        "hdel %s f1 f2",    "expire %s 100",    "pexpire %s 30",   "persist %s",
        "del %s %s",        "get %s",           "mget %s %s",      "hgetall %s",
        "exists %s %s",     "mset %s 5 %s 6",   "pttl %s",         "type %s",
        "getdel %s",        "set %s 7 keepttl", "lcs %s %s",       "copy %s %s db 1",
        "pexpireat %s 1",   "rename %s",        "msetnx %s 1 %s",  "setrange %s 3 %s",
        "touch %s %s",
    };
    size_t used = 0;
    uint64_t count = 1 + random_below(random, 8);
    for (uint64_t i = 0; i < count; i++) {
        const char *form = forms[random_below(random, sizeof forms / sizeof forms[0])];
        const char *first = keys[random_below(random, KEY_COUNT)];
        const char *second = keys[random_below(random, KEY_COUNT)];
        used += (size_t)snprintf(text + used, size - used, i == 0 ? "%s" : ";%s", "");
        used += (size_t)snprintf(text + used, size - used, form, first, second);
        assert_true(used < size);
    }
}

/* Does it need to be evaluated? If not it is executed as one. */
static bool run_parts(struct kv__world *world, const char *text)
{
    struct plan plan = {.transaction = kv_transaction_create()};
    queue(plan.transaction, text);
    int status = kv_split_create(&plan.split, plan.transaction, group_of_slot, NULL);
    if (status == 0) {
        plan_end(&plan);
        run_whole(world, text);
        return false;
    }
    assert_int_equal(status, -EXDEV);
    plan_it(world, &plan, world->protocol, 0);
    commit(world, &plan);
    plan_end(&plan);
    return true;
}

static void test_parts_do_what_the_whole_does(void **state)
{
    (void)state;
    struct kv__world whole;
    struct kv__world parts;
    struct random random;
    uint32_t evaluated_count = 0;
    random_init(&random, 11);
    kv__world_init(&whole, 1);
    kv__world_init(&parts, 1);
    for (uint32_t round = 0; round < ROUND_COUNT; round++) {
        char text[1024];
        draw(&random, text, sizeof text);
        whole.protocol = parts.protocol = random_chance(&random, 1, 2) ? 2 : 3;
        run_whole(&whole, text);
        evaluated_count += run_parts(&parts, text);
        if (!bytes_equal(buffer_bytes(&whole.answer), buffer_bytes(&parts.answer))) {
            fail_msg("%s: %.*s and %.*s", text, (int)whole.answer.size_bytes, whole.answer.data,
                     (int)parts.answer.size_bytes, parts.answer.data);
        }
        whole.protocol = parts.protocol = 2;
        expect_same(&whole, &parts);
        uint64_t later_ms = random_below(&random, 25);
        whole.time_ms += later_ms;
        parts.time_ms += later_ms;
    }
    assert_true(evaluated_count > ROUND_COUNT / 3);
    kv__world_deinit(&whole);
    kv__world_deinit(&parts);
}

/* ---- What changes meanwhile ------------------------------------------------------------------ */

static void expect_changed(const char *before, const char *text, const char *between)
{
    struct kv__world world;
    struct plan plan;
    kv__world_init(&world, 1);
    if (before != NULL) {
        (void)kv__world_say(&world, "%s", before);
    }
    plan_text(&world, &plan, text);
    (void)kv__world_say(&world, "%s", between);
    commit(&world, &plan);
    expect_answer(&world, "changed");
    plan_end(&plan);
    kv__world_deinit(&world);
}

static void test_what_was_read_must_not_change(void **state)
{
    (void)state;
    assert_int_not_equal(group_of_slot(NULL, kv_slot_of_key(BYTES("a"))),
                         group_of_slot(NULL, kv_slot_of_key(BYTES("b"))));
    expect_changed("set a 1", "rename a b", "set a 1");
    expect_changed("set a 1", "rename a b", "set b 1");
    expect_changed("set a 1", "copy a b", "del a");
    expect_changed(NULL, "rename a b", "set a 1"); /* There was nothing to do. */
    expect_changed(NULL, "msetnx a 1 b 2", "set b 1");
    expect_changed("set a 1", "msetnx a 1 b 2", "del a");
    expect_changed("set a 1", "copy a b;get c;mget c b", "set c 1"); /* By way of MGET. */
    expect_changed("set a 1", "rename a b", "pexpire a 1000");
}

static void test_what_the_client_watches(void **state)
{
    (void)state;
    struct kv__world world;
    struct plan plan = {.transaction = kv_transaction_create()};
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "set a 1");
    kv_transaction_watch(plan.transaction, BYTES("c"), 0);
    queue(plan.transaction, "rename a b");
    plan_it(&world, &plan, 2, 0);
    (void)kv__world_say(&world, "set c 1"); /* After it was read. */
    commit(&world, &plan);
    expect_answer(&world, "changed");
    plan_end(&plan);
    plan = (struct plan){.transaction = kv_transaction_create()};
    kv_transaction_watch(plan.transaction, BYTES("c"), 0);
    queue(plan.transaction, "rename a b");
    plan_it(&world, &plan, 2, 0); /* And before it. */
    assert_int_equal(plan.evaluated, KV_EVALUATED_CHANGED);
    plan_end(&plan);
    /* Twice, and it has changed between: the second version is what it has. */
    uint64_t version = 0;
    const struct bytes key = BYTES("c");
    const struct shard_command command = {kv_versions_opcode(), 1, &key};
    kv__world_execute(&world, &command);
    assert_int_equal(world.answer.size_bytes, sizeof version);
    memcpy(&version, world.answer.data, sizeof version);
    for (uint64_t first = 0; first <= version; first += version) {
        plan = (struct plan){.transaction = kv_transaction_create()};
        kv_transaction_watch(plan.transaction, BYTES("c"), first);
        kv_transaction_watch(plan.transaction, BYTES("c"), version);
        queue(plan.transaction, "copy b a");
        plan_it(&world, &plan, 2, 0);
        assert_int_equal(plan.evaluated, first == 0 ? KV_EVALUATED_CHANGED : KV_EVALUATED_COMMIT);
        plan_end(&plan);
    }
    kv__world_deinit(&world);
}

/* A wrong clock of the coordinator does not make a living key an expired one. */
static void test_a_clock_that_is_ahead(void **state)
{
    (void)state;
    struct kv__world world;
    struct plan plan = {.transaction = kv_transaction_create()};
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "set a 1 px 1000");
    queue(plan.transaction, "renamenx a b;exists b");
    plan_it(&world, &plan, 2, 60000);
    commit(&world, &plan);
    expect_answer(&world, "*2\r\n:1\r\n:1\r\n");
    assert_string_equal(kv__world_say(&world, "pttl b"), ":1000\r\n");
    plan_end(&plan);
    kv__world_deinit(&world);
}

/* ---- What is too large, or not to be cut ----------------------------------------------------- */

static void expect_evaluated(struct kv__world *world, const char *text, enum kv_evaluated expected)
{
    struct plan plan;
    plan_text(world, &plan, text);
    assert_int_equal(plan.evaluated, expected);
    if (expected == KV_EVALUATED_COMMIT) {
        commit(world, &plan);
        assert_int_equal(world->answer.data[0], '*');
    }
    plan_end(&plan);
}

static void test_sizes(void **state)
{
    (void)state;
    struct kv__world world;
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "setrange a 1048576 x"); /* A byte too many, */
    (void)kv__world_say(&world, "setrange d 1048575 x"); /* and just as many as may be. */
    (void)kv__world_say(&world, "setrange other 2000000 x");
    expect_evaluated(&world, "rename a b;get b", KV_EVALUATED_TOO_LARGE);
    assert_string_equal(kv__world_say(&world, "exists a b"), ":1\r\n");
    /* What is only replaced, or has nothing to do with it, is as large as it likes. */
    expect_evaluated(&world, "copy d b;append other y", KV_EVALUATED_COMMIT);
    expect_evaluated(&world, "rename b a;strlen d", KV_EVALUATED_COMMIT);
    assert_string_equal(kv__world_say(&world, "strlen a"), ":1048576\r\n");
    assert_string_equal(kv__world_say(&world, "strlen other"), ":2000002\r\n");
    /* Four values, and five. */
    (void)kv__world_say(&world, "rename a e1");
    (void)kv__world_say(&world, "copy e1 e2");
    (void)kv__world_say(&world, "copy e1 e3");
    (void)kv__world_say(&world, "copy e1 e4");
    (void)kv__world_say(&world, "copy e1 e5");
    expect_evaluated(&world, "renamenx e1 e2;renamenx e3 e4;strlen e2;strlen e4",
                     KV_EVALUATED_COMMIT);
    expect_evaluated(&world, "renamenx e1 e2;renamenx e3 e4;strlen e2;strlen e4;copy e5 e1",
                     KV_EVALUATED_TOO_LARGE);
    /* Answers. */
    expect_evaluated(&world, "mget e1 e2 e3;renamenx e1 e2", KV_EVALUATED_COMMIT);
    expect_evaluated(&world, "mget e1 e2 e3 e4;renamenx e1 e2", KV_EVALUATED_TOO_LARGE);
    kv__world_deinit(&world);
}

/* Commands that are not evaluated count as nothing of what is. */
static void test_others_are_as_large_as_they_like(void **state)
{
    (void)state;
    enum { VALUE_SIZE_BYTES = 9 << 20 };
    struct kv__world world;
    struct plan plan = {.transaction = kv_transaction_create()};
    uint8_t *value = calloc(1, VALUE_SIZE_BYTES);
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "set a 1");
    queue(plan.transaction, "rename a b");
    for (int i = 0; i < 4; i++) {
        char name[] = {'k', (char)('0' + i)};
        const struct bytes arguments[] = {bytes_make(name, sizeof name),
                                          bytes_make(value, VALUE_SIZE_BYTES)};
        kv_transaction_add(plan.transaction, kv_command_find(BYTES("set")), arguments, 2);
    }
    queue(plan.transaction, "get b");
    plan_it(&world, &plan, 2, 0);
    commit(&world, &plan);
    expect_answer(&world, "*6\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n$1\r\n1\r\n");
    plan_end(&plan);
    free(value);
    kv__world_deinit(&world);
}

/* ---- What takes too long --------------------------------------------------------------------- */

/* The command again and again, behind another one. */
static enum kv_evaluated evaluate_many(struct kv__world *world, const char *first, const char *text,
                                       int count)
{
    struct plan plan = {.transaction = kv_transaction_create()};
    queue(plan.transaction, first);
    for (int i = 0; i < count; i++) {
        queue(plan.transaction, text);
    }
    plan_it(world, &plan, 2, 0);
    enum kv_evaluated evaluated = plan.evaluated;
    if (evaluated == KV_EVALUATED_TOO_LARGE) {
        assert_in_range(kv_evaluation_work(plan.evaluation), KV_EVALUATION_WORK_MAX, UINT64_MAX);
    }
    plan_end(&plan);
    return evaluated;
}

static void expect_many(const char *before, const char *first, const char *text, int count)
{
    struct kv__world world;
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "%s", before);
    for (int i = 0; i < 100; i++) {
        (void)kv__world_say(&world, "hset h f%d 1", i);
    }
    assert_int_equal(evaluate_many(&world, first, text, count), KV_EVALUATED_COMMIT);
    assert_int_equal(evaluate_many(&world, first, text, 25 * count), KV_EVALUATED_TOO_LARGE);
    kv__world_deinit(&world);
}

static void test_work(void **state)
{
    (void)state;
    expect_many("set a 1", "copy a b", "incr b", 1000);
    expect_many("set a 1", "copy a b", "append b xxxxxxxxxxxxxxxx", 700);
    expect_many("setrange a 1048575 x", "copy a b", "copy a b replace", 3);
    expect_many("setrange a 1048575 x", "copy a b", "renamenx a b", 3);
    expect_many("setrange a 99999 x", "copy a b", "strlen b", 30);
    expect_many("setrange a 999 x", "copy a b", "lcs a b", 5);
    expect_many("set a 1", "copy h g", "copy g h replace", 100);
    expect_many("set a 1", "copy h g", "hgetall g", 100);
    expect_many("set a 1", "copy h g", "hget g f1", 1000);
    expect_many("set a 1", "copy h g", "hmget g f1 f1 f1 f1 f1 f1 f1 f1", 200);
    expect_many("set a 1", "copy h g", "hset g f1 2", 1000);
    expect_many("set a 1", "copy h g", "hrandfield g -1000", 10);
}

/* One command alone: it is refused before anything of it is done. */
static void test_a_command_that_takes_too_long(void **state)
{
    (void)state;
    static const char *const commands[] = {
        "copy a b;setrange b 536870000 x",
        "copy a b;setrange b 17000000 x",
        "copy a b;lcs a b",
        "copy h b;hrandfield b -60000",
    };
    struct kv__world world;
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "setrange a 7999 x");
    (void)kv__world_say(&world, "hset h f 1");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        expect_evaluated(&world, commands[i], KV_EVALUATED_TOO_LARGE);
    }
    expect_evaluated(&world, "copy a b;setrange b 4000000 x;strlen b", KV_EVALUATED_COMMIT);
    assert_string_equal(kv__world_say(&world, "strlen b"), ":4000001\r\n");
    kv__world_deinit(&world);
}

/* A command with the same arguments again and again. */
struct repeated {
    const char *name;
    const char *key;
    struct bytes again[2]; /* The second: NULL, if there is but one. */
    uint32_t count;        /* So often: that is done. */
};

static void queue_repeated(struct kv_transaction *transaction, const struct repeated *repeated,
                           uint32_t factor)
{
    uint32_t step = repeated->again[1].data == NULL ? 1 : 2;
    uint32_t count = 1 + repeated->count * factor * step;
    struct bytes *arguments = calloc(count, sizeof arguments[0]);
    arguments[0] = bytes_of_text(repeated->key);
    for (uint32_t i = 1; i < count; i++) {
        arguments[i] = repeated->again[(i - 1) % step];
    }
    bool is_of_pairs = arguments[0].size_bytes == 0; /* It stands there already. */
    kv_transaction_add(transaction, kv_command_find(bytes_of_text(repeated->name)),
                       arguments + is_of_pairs, count - is_of_pairs);
    free(arguments);
}

/* Each key and field that a command names counts, also when nothing is there, or the same again. */
static void test_many_names(void **state)
{
    (void)state;
    const struct repeated many[] = {
        {"exists", "b", {BYTES("")}, 5000},
        {"touch", "b", {BYTES("")}, 5000},
        {"del", "b", {BYTES("")}, 5000},
        {"unlink", "b", {BYTES("b")}, 5000},
        {"mget", "b", {BYTES("")}, 5000},
        {"mset", "", {BYTES("b"), BYTES("")}, 5000},
        {"msetnx", "", {BYTES("b"), BYTES("")}, 5000},
        {"hset", "n", {BYTES("f"), BYTES("")}, 5000},
        {"hmset", "n", {BYTES("f"), BYTES("")}, 5000},
        {"hset", "g", {BYTES("f"), BYTES("")}, 5000},
        {"hdel", "n", {BYTES("f")}, 5000},
        {"hdel", "g", {BYTES("")}, 5000},
        {"hmget", "n", {BYTES("f")}, 5000},
        {"hmget", "g", {BYTES("")}, 5000},
        {"hmset", "g", {BYTES("f"), BYTES("")}, 5000},
    };
    struct kv__world world;
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "set a 1");
    (void)kv__world_say(&world, "hset h f 1");
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++) {
        for (uint32_t factor = 1; factor <= 18; factor += 17) {
            struct plan plan = {.transaction = kv_transaction_create()};
            queue(plan.transaction, "copy a b;copy h g;rename n m;copy a {b}");
            queue_repeated(plan.transaction, &many[i], factor);
            plan_it(&world, &plan, 2, 0);
            assert_int_equal(plan.evaluated,
                             factor == 1 ? KV_EVALUATED_COMMIT : KV_EVALUATED_TOO_LARGE);
            plan_end(&plan);
        }
    }
    kv__world_deinit(&world);
}

/* HSCAN compares its pattern with every field. */
static void test_a_long_pattern(void **state)
{
    (void)state;
    enum { PATTERN_SIZE_BYTES = 30000, FIELD_SIZE_BYTES = 9000 };
    struct kv__world world;
    char *text = calloc(1, PATTERN_SIZE_BYTES + 64);
    kv__world_init(&world, 1);
    struct bytes words[] = {BYTES("hset"), BYTES("h"), bytes_make(text, FIELD_SIZE_BYTES),
                            BYTES("1")};
    kv__world_run(&world, words, 4);
    static const size_t sizes[] = {300, 1000, PATTERN_SIZE_BYTES};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(text, 0, PATTERN_SIZE_BYTES + 64);
        (void)snprintf(text, PATTERN_SIZE_BYTES, "copy h g;hscan g 0 count 9 match ");
        memset(text + strlen(text), '*', sizes[i]);
        expect_evaluated(&world, text, i == 0 ? KV_EVALUATED_COMMIT : KV_EVALUATED_TOO_LARGE);
    }
    free(text);
    kv__world_deinit(&world);
}

/* What a command would not do, or is refused for, does not count as done. */
static void test_what_is_not_done_is_no_work(void **state)
{
    (void)state;
    struct kv__world world;
    struct plan plan;
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "set a 1");
    (void)kv__world_say(&world, "hset h f 1");
    plan_text(&world, &plan,
              "copy a b;setrange b 536870000  ;setrange b 9223372036854775807 x;setrange b -1 x;"
              "strlen b;copy h g;hrandfield g -9223372036854775808;hrandfield g -1000000;"
              "rename n m;hrandfield m -60000");
    commit(&world, &plan);
    expect_answer(&world, "*10\r\n:1\r\n:1\r\n"
                          "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
                          "-ERR offset is out of range\r\n:1\r\n:1\r\n"
                          "-ERR value is out of range, value must between -9223372036854775807 and "
                          "9223372036854775807\r\n"
                          "-ERR value is out of range\r\n-ERR no such key\r\n*0\r\n");
    plan_end(&plan);
    kv__world_deinit(&world);
}

/* OBJECT HELP and the like have a place for a key, and none there: each answers what it does alone. */
static void test_commands_that_name_no_key(void **state)
{
    (void)state;
    static const char *const commands[] = {"object help", "object foo", "object", "object freq",
                                           "mset a"};
    struct kv__world world;
    struct plan plan;
    kv__world_init(&world, 1);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char text[64];
        char whole[2048];
        char *expected = strdup(kv__world_say(&world, "%s", commands[i]));
        (void)kv__world_say(&world, "set a 1");
        (void)snprintf(text, sizeof text, "rename a b;%s;get b", commands[i]);
        plan_text(&world, &plan, text);
        commit(&world, &plan);
        (void)snprintf(whole, sizeof whole, "*3\r\n+OK\r\n%s$1\r\n1\r\n", expected);
        expect_answer(&world, whole);
        free(expected);
        plan_end(&plan);
    }
    kv__world_deinit(&world);
}

/* Whatever its arguments are: what visits no key is executed without a machine. */
static void test_what_names_no_key_needs_no_machine(void **state)
{
    (void)state;
    enum { ARGUMENT_COUNT_MAX = 5 };
    static const char *const words[] = {"1", "help", ""};
    for (uint32_t i = 0; i < kv_command_count(); i++) {
        const struct kv_command *command = kv_command_at(i);
        for (uint32_t count = 0; count <= ARGUMENT_COUNT_MAX; count++) {
            for (size_t j = 0; j < sizeof words / sizeof words[0]; j++) {
                struct bytes arguments[ARGUMENT_COUNT_MAX];
                for (uint32_t k = 0; k < count; k++) {
                    arguments[k] = bytes_of_text(words[j]); /* All of one shard. */
                }
                struct kv_transaction *transaction = kv_transaction_create();
                struct kv_split *split = NULL;
                kv_transaction_add(transaction, command, arguments, count);
                int status = kv_split_create(&split, transaction, group_of_slot, NULL);
                assert_int_equal(status, command->keys.first == 0 ? -EXDEV : 0);
                kv_split_destroy(split);
                kv_transaction_destroy(transaction);
            }
        }
    }
}

static void test_what_cannot_be_evaluated(void **state)
{
    (void)state;
    struct kv_transaction *transaction = kv_transaction_create();
    struct kv_evaluation *evaluation = NULL;
    queue(transaction, "rename a b;dbsize");
    assert_int_equal(kv_evaluation_create(&evaluation, transaction, group_of_slot, NULL), -EXDEV);
    kv_transaction_destroy(transaction);
    transaction = kv_transaction_create();
    for (int i = 0; i < 600; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "msetnx x%d 1 y%d 2 z%d 3", i, i, i);
        queue(transaction, text);
    }
    assert_int_equal(kv_evaluation_create(&evaluation, transaction, group_of_slot, NULL), -E2BIG);
    kv_transaction_destroy(transaction);
}

static void test_what_is_malformed(void **state)
{
    (void)state;
    static const char *const answers[] = {"", "-ERR no\r\n", "$3\r\nabc\r\n", ":1\r\n"};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct plan plan = {.transaction = kv_transaction_create()};
        queue(plan.transaction, "rename a b");
        assert_int_equal(
            kv_evaluation_create(&plan.evaluation, plan.transaction, group_of_slot, NULL), 0);
        const struct bytes contents[] = {bytes_of_text(answers[i]), bytes_of_text(answers[i])};
        plan.planned = kv_transaction_create();
        const struct kv_evaluate given = {contents, 1000, 2, plan.planned};
        assert_int_equal(kv_evaluate(plan.evaluation, &given), KV_EVALUATED_MALFORMED);
        plan_end(&plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_do_what_the_whole_does),
        cmocka_unit_test(test_what_was_read_must_not_change),
        cmocka_unit_test(test_what_the_client_watches),
        cmocka_unit_test(test_a_clock_that_is_ahead),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_others_are_as_large_as_they_like),
        cmocka_unit_test(test_work),
        cmocka_unit_test(test_a_command_that_takes_too_long),
        cmocka_unit_test(test_many_names),
        cmocka_unit_test(test_a_long_pattern),
        cmocka_unit_test(test_what_is_not_done_is_no_work),
        cmocka_unit_test(test_commands_that_name_no_key),
        cmocka_unit_test(test_what_names_no_key_needs_no_machine),
        cmocka_unit_test(test_what_cannot_be_evaluated),
        cmocka_unit_test(test_what_is_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
