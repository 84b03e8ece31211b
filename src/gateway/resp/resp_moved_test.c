/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: while shards split, every command gets one reply, the right one, in its place; nothing is
 * executed by a shard that does not have its keys (the world asserts it), nor out of order; and what waits
 * for a newer map is bounded, and goes with its client. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random/random.h"
#include "gateway/resp/resp_world.h"

/* Slots: b 3300, c 7365, d 11298, e 15363, a 15495. */
enum { HALF = 8192, BETWEEN_D_AND_E = 12000, BETWEEN_E_AND_A = 15400, WAIT_MS_MAX = 30000 };

#define FILL "set a 1\r\nset b 2\r\nset c 3\r\nset d 4\r\nset e 5\r\n"
#define OK5 "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n"
#define SPLIT "TRYAGAIN The shard was split while the transaction began; nothing was done\r\n"
/* So far goes the world with a transaction over several shards. */
#define COMMITTED "-UNKNOWN the transaction is committed, its replies were lost\r\n"

static struct world *begin(uint32_t shard_count, int *client)
{
    struct world_options options = {.shard_count = shard_count};
    struct world *world = world_create(&options);
    *client = world_connect(world);
    return world;
}

static void end(struct world *world, int client)
{
    (void)close(client);
    world_destroy(world);
}

/* What is asked while nothing is answered is under way when the shard splits. */
static void expect_over(struct world *world, int client, const char *requests, uint32_t first_slot,
                        const char *expected)
{
    int before = world_moved_count(world);
    world_set_reading_late(world, true);
    world_set_holding(world, true);
    world_send(client, bytes_of_text(requests));
    world_wait_for_pending(world, 1);
    os_sleep_ms(20);
    world_split(world, first_slot);
    world_set_holding(world, false);
    WORLD_EXPECT_REPLY(client, expected);
    assert_true(world_moved_count(world) > before);
}

/* ---- One after the other --------------------------------------------------------------------- */

/* Wherever in a pipeline the split comes. */
static void test_pipeline(void **state)
{
    (void)state;
    for (int answered_count = 1; answered_count < 14; answered_count++) {
        int client;
        struct world *world = begin(1, &client);
        world_set_reading_late(world, true);
        world_split_after(world, HALF, answered_count);
        WORLD_EXPECT(
            client,
            FILL "get a\r\nping\r\nget b\r\nset a 6\r\nget c\r\nset b 7\r\nget a\r\nget b\r\n"
                 "set c 8\r\nget c\r\n",
            OK5 "$1\r\n1\r\n+PONG\r\n$1\r\n2\r\n+OK\r\n$1\r\n3\r\n+OK\r\n$1\r\n6\r\n$1\r\n7\r\n"
                "+OK\r\n$1\r\n8\r\n");
        assert_true(world_moved_count(world) > 0);
        end(world, client);
    }
}

/* Twice before anything is answered; and a client that says no more after its pipeline. */
static void test_splits_at_once(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    world_set_holding(world, true);
    world_send(client, BYTES(FILL "get a\r\nget b\r\nget c\r\nget d\r\nget e\r\n"));
    (void)shutdown(client, SHUT_WR);
    os_sleep_ms(20);
    world_split(world, HALF);
    world_split(world, BETWEEN_D_AND_E);
    world_split(world, BETWEEN_E_AND_A);
    world_set_holding(world, false);
    WORLD_EXPECT_REPLY(client, OK5 "$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n");
    assert_true(world_is_closed(client));
    end(world, client);
}

/* A leader had refused to execute it, and lost its office: that is the answer, and no command. */
static void test_what_was_replaced_is_not_asked_again(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    world_set_replacing(world, true);
    WORLD_EXPECT(client, FILL, OK5);
    expect_over(world, client, "incr e\r\n", HALF, "-OOM no\r\n");
    WORLD_EXPECT(client, "get e\r\ndbsize\r\n", "$1\r\n5\r\n:5\r\n");
    end(world, client);
}

/* What is under way names the slots of one map: a command that came later waits, also when it is for the
 * same shard (the world asserts it). Nothing is asked again while something behind it is under way. */
static void test_one_map_at_a_time(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    world_set_holding(world, true);
    world_send(client, BYTES("set b 1\r\nset c 2\r\nset a 3\r\n"));
    world_wait_for_pending(world, 3);
    world_split(world, HALF);
    world_send(client, BYTES("set c 3\r\nget b\r\nget c\r\nget a\r\n"));
    world_let(world, 1);
    world_wait_for_moved(world, 1);
    os_sleep_ms(50);
    assert_int_equal(world_moved_count(world), 1);
    world_set_holding(world, false);
    WORLD_EXPECT_REPLY(client, "+OK\r\n+OK\r\n+OK\r\n+OK\r\n$1\r\n1\r\n$1\r\n3\r\n$1\r\n3\r\n");
    assert_int_equal(world_moved_count(world), 3);
    world_set_holding(world, true);
    world_send(client, BYTES("set d 1\r\nset e 2\r\n"));
    world_wait_for_pending(world, 2);
    world_split_unseen(world, BETWEEN_D_AND_E);
    world_let(world, 1);
    world_wait_for_moved(world, 4);
    os_sleep_ms(50);
    assert_int_equal(world_moved_count(world), 4);
    world_show_splits(world);
    world_set_holding(world, false);
    WORLD_EXPECT_REPLY(client, "+OK\r\n+OK\r\n");
    assert_int_equal(world_moved_count(world), 5);
    end(world, client);
}

/* What comes later waits for all that has moved, also where it could go at once. */
static void test_nothing_passes(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    world_set_reading_late(world, true);
    world_set_holding(world, true);
    world_send(client, BYTES("set a 1\r\nmget a b\r\n"));
    world_wait_for_pending(world, 2);
    world_split(world, HALF);
    world_let(world, 2);
    world_wait_for_moved(world, 2);
    os_sleep_ms(20);
    world_send(client, BYTES("set a 9\r\nget a\r\n"));
    os_sleep_ms(20);
    world_set_holding(world, false);
    WORLD_EXPECT_REPLY(client, "+OK\r\n*2\r\n$1\r\n1\r\n$-1\r\n+OK\r\n$1\r\n9\r\n");
    end(world, client);
}

/* Reads that move are not under way any more (the server asserts it in the end). */
static void test_many_reads(void **state)
{
    (void)state;
    enum { ROUND_COUNT = 3, READ_COUNT = 100 };
    int client;
    struct world *world = begin(1, &client);
    for (uint32_t i = 0; i < ROUND_COUNT; i++) {
        struct buffer requests = {0};
        struct buffer expected = {0};
        for (uint32_t j = 0; j < READ_COUNT; j++) {
            buffer_append(&requests, BYTES("get b\r\n"));
            buffer_append(&expected, BYTES("$-1\r\n"));
        }
        buffer_append_byte(&requests, 0);
        buffer_append_byte(&expected, 0);
        expect_over(world, client, (const char *)requests.data, HALF - 100 * i,
                    (const char *)expected.data);
        buffer_deinit(&requests);
        buffer_deinit(&expected);
    }
    end(world, client);
}

/* How a connection speaks, and whether it is answered at all, is as when the command was read. */
static void test_as_it_was(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    expect_over(world, client,
                "set a 1\r\nget none\r\nclient reply skip\r\nset b 2\r\nclient reply on\r\n"
                "get b\r\nget a\r\n",
                HALF, "+OK\r\n$-1\r\n+OK\r\n$1\r\n2\r\n$1\r\n1\r\n");
    world_set_holding(world, true);
    world_send(client, BYTES("get none\r\nhello 3\r\nget none\r\n"));
    os_sleep_ms(20);
    world_split(world, BETWEEN_D_AND_E);
    world_split(world, 4000); /* "none" is of slot 4759. */
    world_set_holding(world, false);
    struct buffer got = {0};
    world_receive(client, 6, &got);
    assert_memory_equal(got.data, "$-1\r\n%", 6);
    do {
        world_receive(client, 1, &got);
    } while (got.data[got.size_bytes - 1] != '_');
    buffer_deinit(&got);
    end(world, client);
}

/* Commands of the gateway that ask one shard. */
static void test_own_commands(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    expect_over(world, client,
                "cluster countkeysinslot 12182\r\ncluster getkeysinslot 12182 5\r\n"
                "memory usage a\r\nscan 0\r\n",
                HALF, ":77\r\n*1\r\n$1\r\n5\r\n+transaction\r\n+transaction\r\n");
    end(world, client);
}

/* ---- Several shards -------------------------------------------------------------------------- */

/* A command that was of one shard is of two. */
static void test_becomes_several(void **state)
{
    static const struct {
        const char *request;
        const char *expected;
    } cases[] = {
        {"mget e none a b a\r\n", "*5\r\n$1\r\n5\r\n$-1\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n1\r\n"},
        {"del a b none\r\ndbsize\r\n", ":2\r\n:3\r\n"},
        {"exists a b c none a\r\nset a 7\r\nget a\r\n", ":4\r\n+OK\r\n$1\r\n7\r\n"},
        {"dbsize\r\nset b 7\r\nget b\r\n", ":5\r\n+OK\r\n$1\r\n7\r\n"},
        {"flushall\r\ndbsize\r\nset a 1\r\ndbsize\r\n", "+OK\r\n:0\r\n+OK\r\n:1\r\n"},
        {"mset a 1 b 2\r\nget c\r\n", "+OK\r\n$1\r\n3\r\n"},
        {"msetnx a 1 b 2\r\nget c\r\n", ":1\r\n$1\r\n3\r\n"},
        {"rename none other\r\nget c\r\n", "-ERR no such key\r\n$1\r\n3\r\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int client;
        struct world *world = begin(1, &client);
        WORLD_EXPECT(client, FILL, OK5);
        expect_over(world, client, cases[i].request, HALF, cases[i].expected);
        end(world, client);
    }
}

/* A part of a command of several is cut once more. */
static void test_parts(void **state)
{
    static const struct {
        const char *request;
        const char *expected;
    } cases[] = {
        {"mget e none a b a\r\n", "*5\r\n$1\r\n5\r\n$-1\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n1\r\n"},
        {"mget d e b a d e\r\n",
         "*6\r\n$1\r\n4\r\n$1\r\n5\r\n$1\r\n2\r\n$1\r\n1\r\n$1\r\n4\r\n$1\r\n5\r\n"},
        {"del a b d none e\r\ndbsize\r\n", ":4\r\n:1\r\n"},
        {"exists a b c none a e\r\n", ":5\r\n"},
        {"exists d b\r\n", ":2\r\n"}, /* Only one half of the part has keys. */
        {"exists a b\r\n", ":2\r\n"},
        {"dbsize\r\nget a\r\n", ":5\r\n$1\r\n1\r\n"},
        {"flushall\r\ndbsize\r\n", "+OK\r\n:0\r\n"},
        {"del b c d e\r\nkeys *\r\n", ":4\r\n*1\r\n$1\r\na\r\n"},
        {"del b c d e\r\nrandomkey\r\n", ":4\r\n$1\r\na\r\n"},
        {"watch a b d\r\nmulti\r\nping\r\nexec\r\n", "+OK\r\n+OK\r\n+QUEUED\r\n" COMMITTED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int client;
        struct world *world = begin(2, &client);
        WORLD_EXPECT(client, FILL, OK5);
        expect_over(world, client, cases[i].request, BETWEEN_D_AND_E, cases[i].expected);
        end(world, client);
    }
}

/* RENAME between shards reads again. */
static void test_moves(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(2, &client);
    expect_over(world, client, "rename a b\r\nset a 1\r\n", BETWEEN_D_AND_E,
                "-ERR no such key\r\n+OK\r\n");
    end(world, client);
}

/* ---- Transactions ---------------------------------------------------------------------------- */

/* EXEC in one shard goes where its keys are; if that is several, it is a transaction over these. */
static void test_exec(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    expect_over(world, client,
                "multi\r\nset a 1\r\nset {a}b 1\r\nexec\r\nmulti\r\nset a 1\r\nset b 1\r\nexec\r\n"
                "set a 3\r\nget a\r\n",
                HALF,
                "+OK\r\n+QUEUED\r\n+QUEUED\r\n+transaction\r\n"
                "+OK\r\n+QUEUED\r\n+QUEUED\r\n" COMMITTED "+OK\r\n$1\r\n3\r\n");
    end(world, client);
    world = begin(1, &client);
    expect_over(world, client, "multi\r\ndbsize\r\nexec\r\nget a\r\n", HALF,
                "+OK\r\n+QUEUED\r\n-" SPLIT "$-1\r\n");
    end(world, client);
}

/* One over several shards that meets a split did nothing. */
static void test_across(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(2, &client);
    expect_over(world, client, "multi\r\nset a 1\r\nset b 1\r\nexec\r\nget a\r\n", BETWEEN_D_AND_E,
                "+OK\r\n+QUEUED\r\n+QUEUED\r\n-" SPLIT "$-1\r\n");
    WORLD_EXPECT(client, "multi\r\nset a 1\r\nset b 1\r\nexec\r\n",
                 "+OK\r\n+QUEUED\r\n+QUEUED\r\n" COMMITTED);
    /* A part was cut by a map and does not go by another, whose shard may not have all of its keys. */
    world_refuse(world, -EBUSY, INT_MAX);
    world_send(client, BYTES("mset a 1 b 1\r\n"));
    world_wait_for_pending(world, 1);
    world_split(world, BETWEEN_E_AND_A);
    world_refuse(world, -EBUSY, 0);
    WORLD_EXPECT_REPLY(client, "-" SPLIT);
    end(world, client);
}

/* Between the queued commands, or after WATCH, shards may split: what counts is where the keys are when
 * EXEC comes. */
static void test_split_in_multi(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    WORLD_EXPECT(client, "multi\r\nset a 1\r\nset b 1\r\n", "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    world_split(world, HALF);
    WORLD_EXPECT(client, "exec\r\n", COMMITTED);
    WORLD_EXPECT(client, "watch a\r\nmulti\r\nset d 1\r\n", "+OK\r\n+OK\r\n+QUEUED\r\n");
    world_split(world, BETWEEN_D_AND_E);
    WORLD_EXPECT(client, "exec\r\n", COMMITTED);
    WORLD_EXPECT(client, "multi\r\nset a 1\r\n", "+OK\r\n+QUEUED\r\n");
    world_split_unseen(world, BETWEEN_E_AND_A);
    world_send(client, BYTES("exec\r\nget a\r\n"));
    world_wait_for_moved(world, 1);
    world_show_splits(world);
    WORLD_EXPECT_REPLY(client, "+transaction\r\n$-1\r\n");
    end(world, client);
}

/* A WATCH that moves is one of the keys as they are when it is answered. */
static void test_watch(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    expect_over(world, client,
                "set a 1\r\nwatch a d\r\nmulti\r\nset e 1\r\nexec\r\nwatch a b\r\nget a\r\n", HALF,
                "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n+transaction\r\n+OK\r\n$1\r\n1\r\n");
    end(world, client);
}

/* ---- Before the map is known ----------------------------------------------------------------- */

/* It waits, without asking all the time, and so does what comes later. */
static void test_no_newer_map(void **state)
{
    enum { MS = 200 };
    (void)state;
    for (int is_late = 0; is_late < 2; is_late++) {
        int client;
        struct world *world = begin(1, &client);
        world_set_reading_late(world, is_late == 1);
        world_set_holding(world, is_late == 1);
        world_send(client, is_late == 1 ? BYTES("set a 1\r\nget a\r\n") : BYTES(""));
        world_wait_for_pending(world, is_late == 1 ? 2 : 0);
        uint64_t since_ms = os_monotonic_ms();
        world_split_unseen(world, HALF);
        world_set_holding(world, false);
        world_send(client,
                   is_late == 1 ? BYTES("get b\r\n") : BYTES("set a 1\r\nget a\r\nget b\r\n"));
        os_sleep_ms(MS);
        world_wait_for_moved(world, 2);
        uint64_t asked_count = (uint64_t)world_moved_count(world);
        uint64_t took_ms = os_monotonic_ms() - since_ms; /* MS, or much more on a busy machine. */
        assert_true(asked_count < (is_late == 1 ? took_ms / 2 : 2 * took_ms));
        world_show_splits(world);
        WORLD_EXPECT_REPLY(client, "+OK\r\n$1\r\n1\r\n$-1\r\n");
        end(world, client);
    }
}

/* Until the server knows that the others are gone. */
static void wait_for_connections(struct world *world, uint64_t count)
{
    static struct resp_statistics statistics;
    resp_group_get_statistics(world_group(world), &statistics);
    for (int i = 0; i < WAIT_MS_MAX && statistics.connection_count > count; i++) {
        os_sleep_ms(1);
        resp_group_get_statistics(world_group(world), &statistics);
    }
    assert_int_equal(statistics.connection_count, count);
}

/* A client that is gone takes what has moved with it. (One that is not read from, because it waits, is not known to be.) */
static void test_goes_away(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    int other = world_connect(world);
    world_set_holding(world, true);
    world_send(client, BYTES(FILL));
    world_wait_for_pending(world, 5);
    world_split_unseen(world, HALF);
    world_set_holding(world, false);
    world_wait_for_moved(world, 5);
    /* At once, without an end: who only says no more is still answered. */
    struct linger linger = {.l_onoff = 1};
    assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    (void)close(client);
    wait_for_connections(world, 1);
    world_show_splits(world);
    WORLD_EXPECT(other, "dbsize\r\n", ":0\r\n");
    end(world, other);
}

/* The node stops meanwhile. */
static void test_stops(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(1, &client);
    world_set_holding(world, true);
    world_send(client, BYTES(FILL));
    world_wait_for_pending(world, 5);
    world_split_unseen(world, HALF);
    world_set_holding(world, false);
    world_wait_for_moved(world, 5);
    world_begin_stop(world);
    end(world, client); /* After a while they are cut off. */
}

static uint64_t charged_bytes(struct world *world)
{
    static struct resp_statistics statistics;
    resp_group_get_statistics(world_group(world), &statistics);
    return statistics.buffer_bytes;
}

/* What is kept of them counts as what was under way, and goes with those who asked for it. */
static void test_budget(void **state)
{
    enum { VALUE_SIZE = 100000, CLIENT_COUNT = 2, SIZE = 2 * 9 * VALUE_SIZE, SMALL = 300000 };
    static char value[VALUE_SIZE];
    (void)state;
    int other;
    struct world *world = begin(1, &other);
    int clients[CLIENT_COUNT];
    memset(value, 'x', sizeof value);
    world_set_holding(world, true);
    for (int i = 0; i < CLIENT_COUNT; i++) {
        clients[i] = world_connect(world);
        for (int j = 0; j < 9; j++) {
            world_send(clients[i], BYTES("*3\r\n$3\r\nset\r\n$1\r\na\r\n$100000\r\n"));
            world_send(clients[i], bytes_make(value, sizeof value));
            world_send(clients[i], BYTES("\r\n"));
        }
    }
    world_wait_for_pending(world, 9 * CLIENT_COUNT);
    world_split_unseen(world, HALF);
    world_set_holding(world, false);
    world_wait_for_moved(world, 9 * CLIENT_COUNT);
    /* What came in is let go at the end of a tick; and little is told late. */
    const uint64_t least = SIZE - VALUE_SIZE;
    uint64_t charged = 0;
    for (int i = 0; i < WAIT_MS_MAX && (charged < least || charged > SIZE + SMALL); i++) {
        os_sleep_ms(1);
        charged = charged_bytes(world);
    }
    assert_in_range(charged, least, SIZE + SMALL);
    WORLD_EXPECT(other, "client kill type normal skipme yes\r\n", ":2\r\n");
    for (int i = 0; i < WAIT_MS_MAX && charged_bytes(world) > SMALL; i++) {
        os_sleep_ms(1);
    }
    assert_true(charged_bytes(world) <= SMALL);
    world_show_splits(world);
    WORLD_EXPECT(other, "dbsize\r\n", ":0\r\n");
    for (int i = 0; i < CLIENT_COUNT; i++) {
        (void)close(clients[i]);
    }
    end(world, other);
}

/* ---- By chance ------------------------------------------------------------------------------- */

enum { KEY_COUNT = 12, COMMAND_COUNT = 60, LIFE_COUNT = 10 };

/* The keys with their values, as one client knows them. */
struct model {
    struct random random;
    uint32_t values[KEY_COUNT]; /* 0: no such key. */
    uint32_t last_value;
    struct buffer requests;
    struct buffer expected;
};

static uint32_t any_key(struct model *model)
{
    return (uint32_t)random_below(&model->random, KEY_COUNT);
}

static void reply_value(struct model *model, uint32_t key)
{
    if (model->values[key] == 0) {
        buffer_append(&model->expected, BYTES("$-1\r\n"));
        return;
    }
    char text[16];
    int size = snprintf(text, sizeof text, "%u", model->values[key]);
    buffer_append_format(&model->expected, "$%d\r\n%s\r\n", size, text);
}

static void add_many(struct model *model, const char *name)
{
    uint64_t count = 1 + random_below(&model->random, 5);
    uint32_t there_count = 0;
    buffer_append_format(&model->requests, "%s", name);
    if (strcmp(name, "mget") == 0) {
        buffer_append_format(&model->expected, "*%u\r\n", (unsigned)count);
    }
    for (uint64_t i = 0; i < count; i++) {
        uint32_t key = any_key(model);
        buffer_append_format(&model->requests, " k%u", key);
        if (strcmp(name, "mget") == 0) {
            reply_value(model, key);
        }
        there_count += model->values[key] != 0;
        if (strcmp(name, "del") == 0) {
            model->values[key] = 0;
        }
    }
    buffer_append_format(&model->requests, "\r\n");
    if (strcmp(name, "mget") != 0) {
        buffer_append_format(&model->expected, ":%u\r\n", there_count);
    }
}

static void add_all(struct model *model)
{
    uint32_t there_count = 0;
    bool is_flush = random_below(&model->random, 4) == 0;
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        there_count += model->values[i] != 0;
        model->values[i] = is_flush ? 0 : model->values[i];
    }
    buffer_append_format(&model->requests, is_flush ? "flushall\r\n" : "dbsize\r\n");
    if (is_flush) {
        buffer_append_format(&model->expected, "+OK\r\n");
    } else {
        buffer_append_format(&model->expected, ":%u\r\n", there_count);
    }
}

static void add_command(struct model *model)
{
    static const char *const many[] = {"mget", "exists", "del"};
    uint32_t key = any_key(model);
    switch (random_below(&model->random, 16)) {
    case 0:
    case 1:
    case 2:
        add_many(model, many[random_below(&model->random, 3)]);
        return;
    case 3:
        add_all(model);
        return;
    case 4:
        buffer_append_format(&model->requests, "ping\r\n");
        buffer_append_format(&model->expected, "+PONG\r\n");
        return;
    case 5:
        buffer_append_format(&model->requests, "multi\r\nget k%u\r\nexec\r\n", key);
        buffer_append_format(&model->expected, "+OK\r\n+QUEUED\r\n+transaction\r\n");
        return;
    case 6:
        buffer_append_format(&model->requests, "watch k%u k%u\r\nunwatch\r\n", key, any_key(model));
        buffer_append_format(&model->expected, "+OK\r\n+OK\r\n");
        return;
    default:
        break;
    }
    if (random_below(&model->random, 2) == 0) {
        model->values[key] = ++model->last_value;
        buffer_append_format(&model->requests, "set k%u %u\r\n", key, model->last_value);
        buffer_append_format(&model->expected, "+OK\r\n");
    } else {
        buffer_append_format(&model->requests, "get k%u\r\n", key);
        reply_value(model, key);
    }
}

/* A slot where a shard can be cut. */
static uint32_t any_cut(struct model *model)
{
    return 1 + (uint32_t)random_below(&model->random, SLOTS_COUNT - 1);
}

static void live(uint64_t seed)
{
    struct model model = {0};
    random_init(&model.random, seed);
    int client;
    struct world *world = begin(2 + (uint32_t)random_below(&model.random, 4), &client);
    world_set_reading_late(world, random_below(&model.random, 3) > 0);
    world_set_shuffling(world, random_below(&model.random, 2) > 0);
    for (uint32_t round = 0; round < 8; round++) {
        buffer_clear(&model.requests);
        buffer_clear(&model.expected);
        for (uint32_t i = 0; i < COMMAND_COUNT; i++) {
            add_command(&model);
        }
        bool is_unseen = random_below(&model.random, 3) == 0;
        if (!is_unseen) {
            world_split_after(world, any_cut(&model), 1 + (int)random_below(&model.random, 40));
        }
        world_send(client, buffer_bytes(&model.requests));
        if (is_unseen) {
            world_split_unseen(world, any_cut(&model));
            os_sleep_ms(1 + random_below(&model.random, 10));
            world_show_splits(world);
        }
        buffer_append_byte(&model.expected, 0);
        WORLD_EXPECT_REPLY(client, (const char *)model.expected.data);
        world_split_after(world, 0, 0);
    }
    end(world, client);
    buffer_deinit(&model.requests);
    buffer_deinit(&model.expected);
}

/* Any commands, and splits at any time: all is answered as if nothing were. LIVES=n lives so many. */
static void test_by_chance(void **state)
{
    (void)state;
    const char *text = getenv("LIVES");
    uint64_t count = text != NULL ? strtoull(text, NULL, 10) : LIFE_COUNT;
    for (uint64_t seed = 1; seed <= count; seed++) {
        live(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_splits_at_once),
        cmocka_unit_test(test_what_was_replaced_is_not_asked_again),
        cmocka_unit_test(test_one_map_at_a_time),
        cmocka_unit_test(test_nothing_passes),
        cmocka_unit_test(test_many_reads),
        cmocka_unit_test(test_as_it_was),
        cmocka_unit_test(test_own_commands),
        cmocka_unit_test(test_becomes_several),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_across),
        cmocka_unit_test(test_split_in_multi),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_no_newer_map),
        cmocka_unit_test(test_goes_away),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_by_chance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
