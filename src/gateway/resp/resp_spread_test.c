/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a command goes to the shard of its keys; no session has something under way at two shards
 * (the world asserts both); commands of several shards are answered as by one, or refused; and a
 * refusal, a failure or a busy shard changes nothing of that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "gateway/resp/resp_world.h"

enum { SHARD_COUNT = 16 };

static struct world *begin(int *client)
{
    struct world_options options = {.shard_count = SHARD_COUNT};
    struct world *world = world_create(&options);
    *client = world_connect(world);
    return world;
}

static void end(struct world *world, int client)
{
    (void)close(client);
    world_destroy(world);
}

#define FILL "set a 1\r\nset b 2\r\nset c 3\r\nset d 4\r\nset e 5\r\n"
#define OK5 "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n"
#define CROSS                                                                               \
    "-CROSSSLOT Keys in request don't hash to the same slot, and are in different shards; " \
    "keys with the same {tag} are together\r\n"

#define STOPPED "-CLUSTERDOWN the node is stopping, nothing was changed\r\n"

#define HALF \
    "-UNKNOWN the write has taken effect in some shards and not, or perhaps not, in others\r\n"

/* In one packet, and the replies are in order. */
static void test_pipeline(void **state)
{
    int client;
    struct world *world = begin(&client);
    WORLD_EXPECT(client, FILL "get a\r\nget b\r\nget c\r\n",
                 OK5 "$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
    world_set_reading_late(world, true);
    WORLD_EXPECT(client, "get a\r\nget b\r\nset a 9\r\nget a\r\nping\r\nget e\r\n",
                 "$1\r\n1\r\n$1\r\n2\r\n+OK\r\n$1\r\n9\r\n+PONG\r\n$1\r\n5\r\n");
    for (int i = 0; i < 50; i++) {
        WORLD_EXPECT(client, "set a 1\r\nset b 2\r\nget a\r\nget b\r\n",
                     "+OK\r\n+OK\r\n$1\r\n1\r\n$1\r\n2\r\n");
    }
    end(world, client);
}

/* The client goes away while what it asked is under way; others are served. */
static void end_after_leaving(struct world *world, int client, struct bytes requests)
{
    world_set_holding(world, true);
    world_send(client, requests);
    (void)usleep(20000);
    (void)close(client);
    (void)usleep(20000);
    world_set_holding(world, false);
    client = world_connect(world);
    WORLD_EXPECT(client, "ping\r\n", "+PONG\r\n");
    end(world, client);
}

static void test_parts(void **state)
{
    int client;
    struct world *world = begin(&client);
    WORLD_EXPECT(client, "dbsize\r\nrandomkey\r\nkeys *\r\n", ":0\r\n$-1\r\n*0\r\n");
    WORLD_EXPECT(client, FILL "dbsize\r\n", OK5 ":5\r\n");
    WORLD_EXPECT(client, "mget e none a b a\r\n",
                 "*5\r\n$1\r\n5\r\n$-1\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n1\r\n");
    WORLD_EXPECT(client, "exists a b c none a\r\nget d\r\n", ":4\r\n$1\r\n4\r\n");
    WORLD_EXPECT(client, "del a b none\r\ndbsize\r\n", ":2\r\n:3\r\n");
    struct buffer got = {0};
    world_send(client, BYTES("randomkey\r\n"));
    world_receive(client, 7, &got);
    assert_true(got.data[4] >= 'c' && got.data[4] <= 'e');
    buffer_deinit(&got);
    WORLD_EXPECT(client, "set c 1\r\nflushall\r\nset a 2\r\ndbsize\r\n",
                 "+OK\r\n+OK\r\n+OK\r\n:1\r\n");
    world_set_reading_late(world, true);
    WORLD_EXPECT(client, "mget a b c\r\nset b 1\r\nmget a b c\r\n",
                 "*3\r\n$1\r\n2\r\n$-1\r\n$-1\r\n+OK\r\n*3\r\n$1\r\n2\r\n$1\r\n1\r\n$-1\r\n");
    WORLD_EXPECT(client, "hello 3\r\n", "%");
    end(world, client);
}

static void test_refusals(void **state)
{
    int client;
    struct world *world = begin(&client);
    WORLD_EXPECT(client, "mset a 1 b\r\ndbsize\r\n",
                 "-ERR wrong number of arguments for 'mset' command\r\n:0\r\n");
    WORLD_EXPECT(client, "multi\r\nset {t}a 1\r\nkeys *\r\nset {t}c 3\r\nexec\r\n",
                 "+OK\r\n+QUEUED\r\n" CROSS "+QUEUED\r\n"
                 "-EXECABORT Transaction discarded because of previous errors.\r\n");
    WORLD_EXPECT(client, "multi\r\ndbsize\r\nexec\r\n",
                 "+OK\r\n" CROSS
                 "-EXECABORT Transaction discarded because of previous errors.\r\n");
    WORLD_EXPECT(client, "watch {t}a\r\nmulti\r\nset b 1\r\ndiscard\r\n",
                 "+OK\r\n+OK\r\n+QUEUED\r\n+OK\r\n");
    WORLD_EXPECT(client, "watch {t}a\r\nmulti\r\nset {t}b 1\r\nping\r\nexec\r\n",
                 "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+transaction\r\n");
    /* After it, other shards. */
    WORLD_EXPECT(client, "multi\r\nset b 1\r\nexec\r\n", "+OK\r\n+QUEUED\r\n+transaction\r\n");
    end(world, client);
}

/* Send the words of `text`, where $ is a key that is too long. */
static void send_long(int client, const char *text)
{
    static const uint8_t key[70000];
    struct buffer request = {0};
    struct reply reply = {.target = &request, .protocol = 2};
    uint64_t count = 1;
    for (const char *at = text; *at != 0; at++) {
        count += *at == ' ';
    }
    reply_array(&reply, count);
    while (count-- > 0) {
        size_t size = strcspn(text, " ");
        reply_bulk(&reply, *text == '$' ? bytes_make(key, sizeof key) : bytes_make(text, size));
        text += size + 1;
    }
    world_send(client, buffer_bytes(&request));
    buffer_deinit(&request);
}

#define LONG "-ERR key is longer than 65535 bytes\r\n"

/* What every shard would refuse is refused before the first one does something. */
static void test_long_key(void **state)
{
    static const char *const requests[] = {"del a $ b", "mset a 9 $ 9 b 9", "msetnx a 9 $ 9",
                                           "mget a $",  "lcs a $",          "rename a $"};
    int client;
    struct world *world = begin(&client);
    WORLD_EXPECT(client, FILL, OK5);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        send_long(client, requests[i]);
        WORLD_EXPECT(client, "", LONG);
    }
    WORLD_EXPECT(client, "mget a b\r\ndbsize\r\n", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n:5\r\n");
    WORLD_EXPECT(client, "multi\r\nmset a 1 b\r\n", "+OK\r\n+QUEUED\r\n");
    send_long(client, "del a $");
    WORLD_EXPECT(client, "echo x\r\nexec\r\n",
                 "+QUEUED\r\n+QUEUED\r\n*3\r\n"
                 "-ERR wrong number of arguments for 'mset' command\r\n" LONG "$1\r\nx\r\n");
    end(world, client);
}

/* A WATCH that failed watches nothing: what comes next is not over shards because of it. */
static void test_watch_that_fails(void **state)
{
    int client;
    struct world *world = begin(&client);
    world_refuse(world, ERROR_STOPPED, 1);
    WORLD_EXPECT(client, "watch a b\r\nmulti\r\nping\r\nexec\r\n",
                 STOPPED "+OK\r\n+QUEUED\r\n+transaction\r\n");
    world_refuse(world, ERROR_STOPPED, 2);
    WORLD_EXPECT(client, "watch a\r\nwatch b\r\nmulti\r\nping\r\nset c 1\r\nexec\r\n",
                 STOPPED STOPPED "+OK\r\n+QUEUED\r\n+QUEUED\r\n+transaction\r\n");
    world_fail(world, ERROR_NOT_LEADER, 1);
    WORLD_EXPECT(client, "watch a b\r\nmulti\r\nping\r\nexec\r\n",
                 "-CLUSTERDOWN no leader of this shard answered in time, nothing was changed\r\n"
                 "+OK\r\n+QUEUED\r\n+transaction\r\n");
    WORLD_EXPECT(client, "watch a b\r\nunwatch\r\nmulti\r\nping\r\nexec\r\n",
                 "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n+transaction\r\n");
    end(world, client);
}

/* One part is busy, or fails. */
static void test_troubles(void **state)
{
    int client;
    struct world *world = begin(&client);
    WORLD_EXPECT(client, FILL, OK5);
    world_refuse(world, -EBUSY, 20);
    WORLD_EXPECT(client, "del a b\r\nset c 1\r\n", ":2\r\n+OK\r\n");
    world_refuse(world, -EBUSY, 40);
    world_set_reading_late(world, true);
    WORLD_EXPECT(client, "mget c d\r\ndbsize\r\n", "*2\r\n$1\r\n1\r\n$1\r\n4\r\n:3\r\n");
    /* That nothing was changed is said only when that is so. */
    world_refuse(world, ERROR_STOPPED, 2);
    WORLD_EXPECT(client, "del c d\r\nexists c d\r\n",
                 "-CLUSTERDOWN the node is stopping, nothing was changed\r\n:2\r\n");
    world_refuse(world, ERROR_STOPPED, 1);
    WORLD_EXPECT(client, "mget c d\r\n",
                 "-CLUSTERDOWN the node is stopping, nothing was changed\r\n");
    world_refuse(world, ERROR_STOPPED, 1);
    WORLD_EXPECT(client, "del c d\r\nset a 1\r\n", HALF "+OK\r\n");
    world_fail(world, ERROR_OUTCOME_UNKNOWN, 1);
    WORLD_EXPECT(client, "del d e\r\n", HALF);
    world_fail(world, ERROR_OUTCOME_UNKNOWN, 2);
    WORLD_EXPECT(client, "del d e\r\n",
                 "-UNKNOWN the write may or may not have taken effect: its leader was lost\r\n");
    WORLD_EXPECT(client, "set a 1\r\nget a\r\n", "+OK\r\n$1\r\n1\r\n");
    end(world, client);
}

/* What moves a key reads first. */
static void test_moves(void **state)
{
    int client;
    struct world *world = begin(&client);
    const char *nothing =
        "-ERR no such key\r\n:0\r\n-ERR syntax error\r\n-ERR no such key\r\n+OK\r\n";
    const char *moves =
        "rename a b\r\ncopy a b\r\ncopy a b oops\r\nrenamenx b c\r\nset a 1\r\ndel a\r\n";
    for (int i = 0; i < 4; i++) {
        char expected[128];
        (void)snprintf(expected, sizeof expected, "%s:1\r\n", nothing);
        world_set_reading_late(world, i % 2 == 1);
        world_refuse(world, -EBUSY, i < 2 ? 0 : 5);
        WORLD_EXPECT(client, moves, expected);
    }
    world_refuse(world, ERROR_STOPPED, 1);
    WORLD_EXPECT(client, "rename a b\r\nget c\r\n",
                 "-CLUSTERDOWN the node is stopping, nothing was changed\r\n$-1\r\n");
    end_after_leaving(world, client, BYTES("rename a b\r\nset a 1\r\n"));
}

/* However many shards there are, they answer no more than one of them may. */
static void test_answers_beyond_the_limit(void **state)
{
#define THIRTY "012345678901234567890123456789"
    struct world_options options = {.shard_count = SHARD_COUNT,
                                    .resp = {.answer_size_bytes_max = 100}};
    struct world *world = world_create(&options);
    int client = world_connect(world);
    static const char *const too_large =
        "-ERR the answer of 'mget' is larger than the limit of 100 bytes\r\n$1\r\n4\r\n";
    WORLD_EXPECT(client, FILL, OK5);
    WORLD_EXPECT(client, "set a " THIRTY "\r\nset b " THIRTY "\r\nset c " THIRTY "\r\n",
                 "+OK\r\n+OK\r\n+OK\r\n");
    for (int i = 0; i < 2; i++) {
        world_set_reading_late(world, i == 1);
        WORLD_EXPECT(client, "mget a b\r\n", "*2\r\n$30\r\n" THIRTY "\r\n$30\r\n" THIRTY "\r\n");
        WORLD_EXPECT(client, "mget d a e b c none\r\nget d\r\n", too_large);
        WORLD_EXPECT(client, "mget c b a\r\nget d\r\n", too_large);
        WORLD_EXPECT(client, "exists a b c d\r\nget d\r\n", ":4\r\n$1\r\n4\r\n");
    }
    end(world, client);
}

/* Each part is a read, and where reads answer much, few are under way at a time. */
static void test_few_parts_at_a_time(void **state)
{
    enum { VALUE_SIZE = 3 * 1024 * 1024, KEY_COUNT = 200, FEW = 4 };
    int client;
    struct world *world = begin(&client);
    struct buffer request = {0};
    buffer_append_format(&request, "*3\r\n$3\r\nset\r\n$1\r\na\r\n$%d\r\n", VALUE_SIZE);
    memset(buffer_extend(&request, VALUE_SIZE), 'v', VALUE_SIZE);
    buffer_append(&request, BYTES("\r\n"));
    world_send(client, buffer_bytes(&request));
    WORLD_EXPECT(client, "readonly\r\n", "+OK\r\n+OK\r\n");
    world_set_reading_late(world, true);
    world_send(client, BYTES("get a\r\n"));
    struct buffer got = {0};
    world_receive(client, sizeof "$3145728\r\n\r\n" - 1 + VALUE_SIZE, &got);
    int before = world_stale_count(world);
    world_set_holding(world, true);
    buffer_clear(&request);
    buffer_append(&request, BYTES("exists"));
    for (int i = 0; i < KEY_COUNT; i++) {
        buffer_append_format(&request, " k%d", i);
    }
    buffer_append(&request, BYTES("\r\n"));
    world_send(client, buffer_bytes(&request));
    world_wait_for_pending(world, 1);
    (void)usleep(50000);
    assert_int_equal(world_stale_count(world) - before, FEW);
    world_set_holding(world, false);
    WORLD_EXPECT(client, "", ":0\r\n");
    assert_int_equal(world_stale_count(world) - before, SHARD_COUNT);
    buffer_deinit(&request);
    buffer_deinit(&got);
    end(world, client);
}

/* A client that goes away leaves parts that are answered to nobody. */
static void test_goes_away(void **state)
{
    int client;
    struct world *world = begin(&client);
    WORLD_EXPECT(client, FILL, OK5);
    end_after_leaving(world, client, BYTES("del a b c d e\r\nset a 1\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_troubles),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_answers_beyond_the_limit),
        cmocka_unit_test(test_few_parts_at_a_time),
        cmocka_unit_test(test_goes_away),
        cmocka_unit_test(test_watch_that_fails),
        cmocka_unit_test(test_long_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
