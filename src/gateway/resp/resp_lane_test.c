/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: of a pipeline, commands on one key take effect in the order sent and commands of several shards
 * are barriers, whatever shards are slow and whenever they split; others do not wait for each other, unless
 * the connection is to be in order; replies come in the order sent; and what is bounded stays so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/random/random.h"
#include "gateway/resp/resp_world.h"

/* Slots: b 3300, c 7365, d 11298, a 15495. */
enum {
    SHARD_COUNT = 16,
    SHARD_OF_A = 16,
    SHARD_OF_B = 4,
    SHARD_OF_C = 8,
    QUIET_MS = 20,
    WAIT_MS_MAX = 60000
};

#define COMMITTED "-UNKNOWN the transaction is committed, its replies were lost\r\n"

struct scene {
    struct world *world;
    int client;
    int other; /* Another client, who looks on. */
};

static struct scene begin(const struct world_options *options)
{
    struct scene scene = {.world = world_create(options)};
    scene.client = world_connect(scene.world);
    scene.other = world_connect(scene.world);
    return scene;
}

static struct scene begin_plainly(void)
{
    struct world_options options = {.shard_count = SHARD_COUNT};
    return begin(&options);
}

static void end(struct scene *scene)
{
    (void)close(scene->client);
    (void)close(scene->other);
    world_destroy(scene->world);
}

static void expect_nothing(int client)
{
    char byte;
    os_sleep_ms(QUIET_MS);
    assert_int_equal(recv(client, &byte, 1, MSG_DONTWAIT), -1);
}

/* While a shard is slow: what has become of the rest is seen by the other client. */
static void expect_meanwhile(struct scene *scene, wal_shard held_shard, const char *requests,
                             const char *question, const char *seen)
{
    world_hold_shard(scene->world, held_shard);
    world_send(scene->client, bytes_of_text(requests));
    expect_nothing(scene->client);
    WORLD_EXPECT(scene->other, question, seen);
    world_hold_shard(scene->world, 0);
}

/* ---- The order ------------------------------------------------------------------------------- */

/* Who waits for a slow shard is its client, not the commands to other shards. */
static void test_shards_do_not_wait(void **state)
{
    (void)state;
    struct scene scene = begin_plainly();
    expect_meanwhile(&scene, SHARD_OF_A, "set a 1\r\nset b 2\r\nget b\r\nset c 3\r\nset b 4\r\n",
                     "get b\r\nget c\r\n", "$1\r\n4\r\n$1\r\n3\r\n");
    WORLD_EXPECT_REPLY(scene.client, "+OK\r\n+OK\r\n$1\r\n2\r\n+OK\r\n+OK\r\n");
    world_set_reading_late(scene.world, true);
    expect_meanwhile(&scene, SHARD_OF_A, "get a\r\nping\r\nset b 5\r\n", "get b\r\n",
                     "$1\r\n5\r\n");
    WORLD_EXPECT_REPLY(scene.client, "$1\r\n1\r\n+PONG\r\n+OK\r\n");
    end(&scene);
}

/* What failed at one shard is no matter of another's. */
static void test_one_fails(void **state)
{
    (void)state;
    struct scene scene = begin_plainly();
    world_fail(scene.world, ERROR_NOT_LEADER, 1);
    WORLD_EXPECT(scene.client, "set a 1\r\nset b 2\r\nget b\r\nget a\r\n",
                 "-CLUSTERDOWN no leader of this shard answered in time, nothing was changed\r\n"
                 "+OK\r\n$1\r\n2\r\n$-1\r\n");
    world_refuse(scene.world, -EBUSY, 7);
    WORLD_EXPECT(scene.client, "set a 1\r\nset b 3\r\nset a 2\r\nget b\r\nget a\r\n",
                 "+OK\r\n+OK\r\n+OK\r\n$1\r\n3\r\n$1\r\n2\r\n");
    end(&scene);
}

static void test_connection_in_order(void **state)
{
    (void)state;
    struct world_options options = {.shard_count = SHARD_COUNT,
                                    .resp = {.is_connection_ordered = true}};
    struct scene scene = begin(&options);
    expect_meanwhile(&scene, SHARD_OF_A, "set a 1\r\nset b 2\r\nget b\r\n", "get b\r\n", "$-1\r\n");
    WORLD_EXPECT_REPLY(scene.client, "+OK\r\n+OK\r\n$1\r\n2\r\n");
    WORLD_EXPECT(scene.client, "config get pipeline-order\r\nconfig set pipeline-order Shard\r\n",
                 "*2\r\n$14\r\npipeline-order\r\n$10\r\nconnection\r\n+OK\r\n");
    expect_meanwhile(&scene, SHARD_OF_A, "set a 1\r\nset b 3\r\n", "get b\r\n", "$1\r\n3\r\n");
    WORLD_EXPECT_REPLY(scene.client, "+OK\r\n+OK\r\n");
    WORLD_EXPECT(
        scene.client, "config set pipeline-order oops\r\nconfig get pipeline-order\r\n",
        "-ERR CONFIG SET failed (possibly related to argument 'pipeline-order') - argument must "
        "be one of: shard, connection\r\n*2\r\n$14\r\npipeline-order\r\n$5\r\nshard\r\n");
    /* In the middle of a pipeline: what comes behind it is in order again. */
    expect_meanwhile(&scene, SHARD_OF_A,
                     "set a 1\r\nset b 4\r\nconfig set pipeline-order connection\r\nset c 5\r\n",
                     "get b\r\nget c\r\n", "$1\r\n4\r\n$-1\r\n");
    WORLD_EXPECT_REPLY(scene.client, "+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
    end(&scene);
}

/* Waits for what was sent before it, however slow, and what is behind it for both. */
static void test_barriers(void **state)
{
    static const struct {
        const char *request;
        const char *reply;
    } cases[] = {
        {"mget a d\r\n", "*2\r\n$1\r\n1\r\n$-1\r\n"},
        {"mget c d\r\n", "*2\r\n$-1\r\n$-1\r\n"},
        {"del c d\r\n", ":0\r\n"},
        {"mset c 1 d 1\r\n", "+OK\r\n"},
        {"rename c d\r\n", "-ERR no such key\r\n"},
        {"dbsize\r\n", ":1\r\n"},
        {"scan 0\r\n", "+transaction\r\n"},
        {"watch d\r\nunwatch\r\n", "+OK\r\n+OK\r\n"},
        {"watch c d\r\nunwatch\r\n", "+OK\r\n+OK\r\n"},
        {"multi\r\nget d\r\nexec\r\n", "+OK\r\n+QUEUED\r\n+transaction\r\n"},
        {"multi\r\nget d\r\nget c\r\nexec\r\n", "+OK\r\n+QUEUED\r\n+QUEUED\r\n" COMMITTED},
        {"flushall\r\nset a 1\r\n", "+OK\r\n+OK\r\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct scene scene = begin_plainly();
        char text[256];
        (void)snprintf(text, sizeof text, "set a 1\r\n%sset b 2\r\n", cases[i].request);
        expect_meanwhile(&scene, SHARD_OF_A, text, "get b\r\n", "$-1\r\n");
        (void)snprintf(text, sizeof text, "+OK\r\n%s+OK\r\n", cases[i].reply);
        WORLD_EXPECT_REPLY(scene.client, text);
        WORLD_EXPECT(scene.client, "get a\r\nget b\r\n", "$1\r\n1\r\n$1\r\n2\r\n");
        end(&scene);
    }
}

/* One that is slow itself. */
static void test_behind_a_barrier(void **state)
{
    static const struct {
        const char *request;
        const char *reply;
    } cases[] = {
        {"multi\r\nset b 2\r\nexec\r\n", "+OK\r\n+QUEUED\r\n+transaction\r\n"},
        {"watch b\r\n", "+OK\r\n"},
        {"mget b d\r\n", "*2\r\n$-1\r\n$-1\r\n"},
        {"mset b 1 d 1\r\n", "+OK\r\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct scene scene = begin_plainly();
        char text[256];
        world_set_reading_late(scene.world, true);
        world_hold_shard(scene.world, SHARD_OF_B);
        (void)snprintf(text, sizeof text, "%sset c 3\r\nset a 1\r\n", cases[i].request);
        world_send(scene.client, bytes_of_text(text));
        os_sleep_ms(QUIET_MS);
        WORLD_EXPECT(scene.other, "get c\r\nget a\r\n", "$-1\r\n$-1\r\n");
        world_hold_shard(scene.world, 0);
        (void)snprintf(text, sizeof text, "%s+OK\r\n+OK\r\n", cases[i].reply);
        WORLD_EXPECT_REPLY(scene.client, text);
        /* And it is over. */
        expect_meanwhile(&scene, SHARD_OF_A, "set a 2\r\nset c 4\r\n", "get c\r\n", "$1\r\n4\r\n");
        WORLD_EXPECT_REPLY(scene.client, "+OK\r\n+OK\r\n");
        end(&scene);
    }
}

/* ---- By chance ------------------------------------------------------------------------------- */

enum { KEY_COUNT = 40, COMMAND_COUNT = 300, ROUND_COUNT = 10, CLIENT_COUNT = 8 };

struct talk {
    struct buffer requests;
    struct buffer expected;
    uint32_t values[KEY_COUNT];
};

static void speak(struct talk *talk, struct random *random, uint32_t client)
{
    buffer_clear(&talk->requests);
    buffer_clear(&talk->expected);
    for (uint32_t i = 0; i < COMMAND_COUNT; i++) {
        /* Each client has keys of its own, so that it knows what they hold. */
        uint32_t key = (uint32_t)random_below(random, KEY_COUNT / CLIENT_COUNT);
        uint32_t name = client * (KEY_COUNT / CLIENT_COUNT) + key;
        if (random_chance(random, 1, 2)) {
            uint32_t value = 1000 + (uint32_t)random_below(random, 9000);
            talk->values[key] = value;
            buffer_append_format(&talk->requests, "set k%u %u\r\n", name, value);
            buffer_append_format(&talk->expected, "+OK\r\n");
        } else if (talk->values[key] != 0) {
            buffer_append_format(&talk->requests, "get k%u\r\n", name);
            buffer_append_format(&talk->expected, "$4\r\n%u\r\n", talk->values[key]);
        } else {
            buffer_append_format(&talk->requests, "get k%u\r\n", name);
            buffer_append_format(&talk->expected, "$-1\r\n");
        }
    }
    buffer_append_byte(&talk->expected, 0);
}

/* Of shards that answer in any order, for several clients at once and on several threads. */
static void test_by_chance(void **state)
{
    (void)state;
    /* Few under way, so that commands come while others are answered. */
    struct world_options options = {
        .server_count = 2, .shard_count = 8, .resp = {.pipeline_count_max = 16}};
    struct world *world = world_create(&options);
    struct talk talks[CLIENT_COUNT] = {0};
    int clients[CLIENT_COUNT];
    struct random random;
    random_init(&random, 1);
    world_set_shuffling(world, true);
    for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
        clients[i] = world_connect(world);
    }
    for (uint32_t round = 0; round < ROUND_COUNT; round++) {
        world_set_reading_late(world, round % 2 == 0);
        for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
            speak(&talks[i], &random, i);
            world_send(clients[i], buffer_bytes(&talks[i].requests));
        }
        for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
            WORLD_EXPECT_REPLY(clients[i], (const char *)talks[i].expected.data);
        }
    }
    for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
        (void)close(clients[i]);
        buffer_deinit(&talks[i].requests);
        buffer_deinit(&talks[i].expected);
    }
    world_destroy(world);
}

/* More lanes at once than a server has room for at first. */
static void test_many_lanes(void **state)
{
    enum { SOME_CLIENT_COUNT = 16, SOME_KEY_COUNT = 60 };
    (void)state;
    struct world_options options = {.shard_count = 64};
    struct scene scene = begin(&options);
    int clients[SOME_CLIENT_COUNT];
    for (int round = 0; round < 2; round++) {
        struct buffer expected = {0};
        world_set_holding(scene.world, true);
        for (int i = 0; i < SOME_CLIENT_COUNT; i++) {
            struct buffer requests = {0};
            clients[i] = world_connect(scene.world);
            for (int key = 0; key < 2 * SOME_KEY_COUNT; key++) {
                buffer_append_format(&requests, "set k%d %d\r\n", key % SOME_KEY_COUNT, key);
            }
            world_send(clients[i], buffer_bytes(&requests));
            buffer_deinit(&requests);
        }
        for (int key = 0; key < 2 * SOME_KEY_COUNT; key++) {
            buffer_append(&expected, BYTES("+OK\r\n"));
        }
        buffer_append_byte(&expected, 0);
        os_sleep_ms(QUIET_MS);
        world_set_holding(scene.world, false);
        for (int i = 0; i < SOME_CLIENT_COUNT; i++) {
            WORLD_EXPECT_REPLY(clients[i], (const char *)expected.data);
            (void)close(clients[i]);
        }
        buffer_deinit(&expected);
    }
    WORLD_EXPECT(scene.client, "get k0\r\nget k59\r\n", "$2\r\n60\r\n$3\r\n119\r\n");
    end(&scene);
}

/* ---- Splits ---------------------------------------------------------------------------------- */

/* By the newer map the key is of an idle shard, which must not have it before the older one is done. */
static void test_split(void **state)
{
    (void)state;
    struct world_options options = {.shard_count = 1};
    struct scene scene = begin(&options);
    world_hold_shard(scene.world, 1);
    world_send(scene.client, BYTES("set a 1\r\n"));
    world_wait_for_pending(scene.world, 1);
    world_split(scene.world, SLOTS_COUNT / 2);
    world_send(scene.client, BYTES("set a 2\r\nset b 3\r\n"));
    expect_nothing(scene.client);
    WORLD_EXPECT(scene.other, "get a\r\n", "$-1\r\n");
    world_hold_shard(scene.world, 0);
    WORLD_EXPECT_REPLY(scene.client, "+OK\r\n+OK\r\n+OK\r\n");
    WORLD_EXPECT(scene.client, "get a\r\nget b\r\n", "$1\r\n2\r\n$1\r\n3\r\n");
    end(&scene);
}

/* What was refused by one shard waits for what is under way at others, and new commands for both. */
static void test_moved_beside_others(void **state)
{
    (void)state;
    struct world_options options = {.shard_count = 2};
    struct scene scene = begin(&options);
    WORLD_EXPECT(scene.client, "set a 0\r\n", "+OK\r\n");
    world_set_holding(scene.world, true);
    world_send(scene.client, BYTES("set a 1\r\nset b 2\r\nset a 3\r\nset d 4\r\n"));
    world_wait_for_pending(scene.world, 4);
    world_split(scene.world, 12000); /* Between d and a. */
    world_hold_shard(scene.world, 1);
    world_set_holding(scene.world, false);
    world_send(scene.client, BYTES("set a 5\r\n"));
    world_wait_for_moved(scene.world, 3);
    expect_nothing(scene.client);
    assert_int_equal(world_moved_count(scene.world), 3);
    WORLD_EXPECT(scene.other, "get a\r\n", "$1\r\n0\r\n");
    world_hold_shard(scene.world, 0);
    WORLD_EXPECT_REPLY(scene.client, "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
    WORLD_EXPECT(scene.client, "mget a b d\r\n", "*3\r\n$1\r\n5\r\n$1\r\n2\r\n$1\r\n4\r\n");
    end(&scene);
}

/* ---- Ends and bounds ------------------------------------------------------------------------- */

/* Until somebody has written it, who sent that among other requests at once: all of them were read. */
static void wait_for_c(struct scene *scene)
{
    for (int i = 0; i < WAIT_MS_MAX; i++) {
        world_send(scene->other, BYTES("exists c\r\n"));
        if (strcmp(world_reply(scene->other, 4), ":1\r\n") == 0) {
            return;
        }
        os_sleep_ms(1);
    }
    fail_msg("there is no c");
}

/* Sessions live until the last answer (the server asserts that none is left). */
static void test_goes_away(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        struct scene scene = begin_plainly();
        world_hold_shard(scene.world, SHARD_OF_A);
        world_send(scene.client,
                   BYTES("set a 1\r\nset b 2\r\nget a\r\nset c 3\r\nmget a b\r\nset b 9\r\n"));
        wait_for_c(&scene);
        if (round == 0) {
            (void)shutdown(scene.client, SHUT_RDWR);
        } else if (round == 1) {
            WORLD_EXPECT(scene.other, "client kill type normal skipme yes\r\n", ":1\r\n");
        } else {
            world_set_holding(scene.world, true);
            world_send(scene.client, BYTES("set d 1\r\n"));
            world_begin_stop(scene.world);
            os_sleep_ms(QUIET_MS);
            world_set_holding(scene.world, false);
        }
        os_sleep_ms(QUIET_MS);
        world_hold_shard(scene.world, 0);
        if (round < 2) {
            WORLD_EXPECT(scene.other, "get c\r\nget a\r\n", "$1\r\n3\r\n$1\r\n1\r\n");
        }
        if (round == 1) { /* Who only says no more has the rest done, sooner or later. */
            WORLD_EXPECT(scene.other, "get b\r\n", "$1\r\n2\r\n");
        }
        end(&scene);
    }
}

static void test_quit(void **state)
{
    (void)state;
    struct scene scene = begin_plainly();
    expect_meanwhile(&scene, SHARD_OF_A, "set a 1\r\nset b 2\r\nquit\r\nset c 3\r\n", "get b\r\n",
                     "$1\r\n2\r\n");
    WORLD_EXPECT_REPLY(scene.client, "+OK\r\n+OK\r\n+OK\r\n");
    assert_true(world_is_closed(scene.client));
    WORLD_EXPECT(scene.other, "get c\r\n", "$-1\r\n");
    end(&scene);
}

/* Replies that wait for the first count as under way. */
static void test_bounds(void **state)
{
    enum { COUNT = 8 };
    (void)state;
    struct world_options options = {.shard_count = SHARD_COUNT,
                                    .resp = {.pipeline_count_max = COUNT}};
    struct scene scene = begin(&options);
    expect_meanwhile(&scene, SHARD_OF_A,
                     "set a 1\r\nset b 1\r\nset b 2\r\nset b 3\r\nset b 4\r\nset b 5\r\nset b 6\r\n"
                     "set b 7\r\nset b 8\r\n",
                     "get b\r\n", "$1\r\n7\r\n");
    WORLD_EXPECT_REPLY(scene.client,
                       "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
    end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards_do_not_wait),
        cmocka_unit_test(test_one_fails),
        cmocka_unit_test(test_connection_in_order),
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_behind_a_barrier),
        cmocka_unit_test(test_by_chance),
        cmocka_unit_test(test_many_lanes),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_moved_beside_others),
        cmocka_unit_test(test_goes_away),
        cmocka_unit_test(test_quit),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
