/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: what the gateway holds for commands of several shards is charged to who sent them, as long as
 * it is held; their reads are bounded as others are; and each counts once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "gateway/resp/resp_world.h"

enum { SHARD_COUNT = 16, MEBIBYTE = 1024 * 1024, SMALL = 256 * 1024, WAIT_MS_MAX = 30000 };

#define BROKEN "-UNKNOWN the transaction is committed, and a shard has lost its part\r\n"
#define LOST "-UNKNOWN the transaction is committed, its replies were lost\r\n"

static struct resp_statistics statistics;
static uint8_t value[MEBIBYTE];

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

/* Words of a command, in which $ is the value of a mebibyte. */
static void send_large(int client, const char *text)
{
    struct buffer request = {0};
    struct reply reply = {.target = &request, .protocol = 2};
    uint64_t count = 1;
    for (const char *at = text; *at != 0; at++) {
        count += *at == ' ';
    }
    reply_array(&reply, count);
    while (count-- > 0) {
        size_t size = strcspn(text, " ");
        reply_bulk(&reply, *text == '$' ? bytes_make(value, sizeof value) : bytes_make(text, size));
        text += size + 1;
    }
    world_send(client, buffer_bytes(&request));
    buffer_deinit(&request);
}

static void set_large(int client, const char *text)
{
    send_large(client, text);
    WORLD_EXPECT(client, "", "+OK\r\n");
}

static void pass_over(int client, size_t size_bytes)
{
    struct buffer got = {0};
    world_receive(client, size_bytes, &got);
    assert_int_equal(got.size_bytes, size_bytes);
    buffer_deinit(&got);
}

/* Until what the clients hold is within these bounds. */
static void wait_for_charge(struct world *world, uint64_t least, uint64_t most)
{
    for (int waited_ms = 0; waited_ms < WAIT_MS_MAX; waited_ms += 5) {
        resp_group_get_statistics(world_group(world), &statistics);
        if (statistics.buffer_bytes >= least && statistics.buffer_bytes <= most) {
            return;
        }
        os_sleep_ms(5);
    }
    fail_msg("%llu bytes are charged", (unsigned long long)statistics.buffer_bytes);
}

static void wait_for_pending(struct world *world, uint64_t count)
{
    for (int waited_ms = 0; waited_ms < WAIT_MS_MAX; waited_ms += 5) {
        resp_group_get_statistics(world_group(world), &statistics);
        if (statistics.pending_count == count) {
            return;
        }
        os_sleep_ms(5);
    }
    fail_msg("%llu are pending", (unsigned long long)statistics.pending_count);
}

/* Answers that came wait for the others, and go with who wanted them. */
static void test_answers_of_parts(void **state)
{
    int client;
    struct world *world = begin(&client);
    set_large(client, "set a $");
    set_large(client, "set b $");
    wait_for_charge(world, 0, SMALL);
    world_set_reading_late(world, true);
    world_set_holding(world, true);
    world_send(client, BYTES("mget a b\r\n"));
    world_let(world, 1);
    wait_for_charge(world, MEBIBYTE, 3 * MEBIBYTE);
    world_let(world, 1);
    pass_over(client, 2 * MEBIBYTE + 4 + 2 * 12);
    wait_for_charge(world, 0, SMALL);
    world_send(client, BYTES("mget a b\r\n"));
    world_let(world, 1);
    wait_for_charge(world, MEBIBYTE, 3 * MEBIBYTE);
    int other = world_connect(world);
    WORLD_EXPECT(other, "client kill type normal\r\n", ":1\r\n");
    wait_for_charge(world, 0, SMALL); /* The other part is still to come. */
    world_set_holding(world, false);
    WORLD_EXPECT(other, "exists a b\r\n", ":2\r\n");
    (void)close(other);
    end(world, client);
}

/* What moves is held from its read to its commit. */
static void test_what_moves(void **state)
{
    int client;
    struct world *world = begin(&client);
    set_large(client, "set a $");
    wait_for_charge(world, 0, SMALL);
    world_set_reading_late(world, true);
    world_set_holding(world, true);
    world_send(client, BYTES("copy a b\r\n"));
    world_let(world, 1);
    wait_for_charge(world, MEBIBYTE, 3 * MEBIBYTE); /* One is read. */
    world_let(world, 1);
    os_sleep_ms(50);
    wait_for_charge(world, MEBIBYTE, 3 * MEBIBYTE); /* PREPARE is held. */
    world_set_holding(world, false);
    WORLD_EXPECT(client, "", ":1\r\n");
    wait_for_charge(world, 0, SMALL);
    end(world, client);
}

/* What EXEC has to know of other shards is held as long. */
static void test_what_is_evaluated(void **state)
{
    int client;
    struct world *world = begin(&client);
    set_large(client, "set a $");
    wait_for_charge(world, 0, SMALL);
    world_set_reading_late(world, true);
    world_set_holding(world, true);
    WORLD_EXPECT(client, "multi\r\ncopy a b\r\nstrlen b\r\n", "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    world_send(client, BYTES("exec\r\n"));
    world_let(world, 1);
    wait_for_charge(world, MEBIBYTE, 3 * MEBIBYTE); /* One is read. */
    world_let(world, 1);
    os_sleep_ms(50);
    wait_for_charge(world, MEBIBYTE, 3 * MEBIBYTE); /* PREPARE is held. */
    world_set_holding(world, false);
    WORLD_EXPECT(client, "", LOST);
    wait_for_charge(world, 0, SMALL);
    end(world, client);
}

/* Where answers are large, few EXEC of several shards are under way at a time. MSET answers nothing. */
static void test_few_exec_at_a_time(void **state)
{
    enum { COUNT = 40, FEW = 8 };
    int client;
    struct world *world = begin(&client);
    set_large(client, "set a $");
    world_set_reading_late(world, true);
    for (int i = 0; i < 3; i++) {
        world_send(client, BYTES("getex a\r\n"));
    }
    pass_over(client, 3 * (sizeof "$1048576\r\n\r\n" - 1 + MEBIBYTE));
    world_set_holding(world, true);
    int clients[COUNT];
    for (int i = 0; i < COUNT; i++) {
        clients[i] = world_connect(world);
        world_send(clients[i], i < COUNT / 2 ? BYTES("multi\r\nget a\r\nget b\r\nexec\r\n")
                                             : BYTES("mset c 1 d 2\r\n"));
    }
    world_wait_for_pending(world, COUNT / 2 + 1);
    os_sleep_ms(100);
    resp_group_get_statistics(world_group(world), &statistics);
    assert_in_range(statistics.pending_count, COUNT / 2 + 1, COUNT / 2 + FEW);
    world_set_holding(world, false);
    for (int i = 0; i < COUNT; i++) {
        WORLD_EXPECT(clients[i], "",
                     i < COUNT / 2 ? "+OK\r\n+QUEUED\r\n+QUEUED\r\n" LOST : "+OK\r\n");
        (void)close(clients[i]);
    }
    end(world, client);
}

static void test_transactions(void **state)
{
    int client;
    struct world *world = begin(&client);
    world_set_holding(world, true);
    send_large(client, "mset a $ b 1");
    wait_for_charge(world, MEBIBYTE, 3 * MEBIBYTE);
    world_set_holding(world, false);
    WORLD_EXPECT(client, "", "+OK\r\n");
    wait_for_charge(world, 0, SMALL);
    /* MSETNX is known to have done what it does when that is all that is known. */
    WORLD_EXPECT(client, "msetnx a 1 b 2\r\n", ":1\r\n");
    WORLD_EXPECT(client, "multi\r\nmsetnx a 1 b 2\r\nexec\r\n", "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    end(world, client);
}

/* Who finds no room waits, with as little as can be: the transaction is not cut, and of those that move
 * a key the first only begins to read. */
static void test_no_room(void **state)
{
    enum { VALUE_COUNT = 63 };
    char text[1024] = "mset";
    int client;
    struct world *world = begin(&client);
    int other = world_connect(world);
    for (int i = 0; i < VALUE_COUNT; i++) {
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), " k%d $", i);
    }
    world_set_holding(world, true);
    send_large(client, text);
    wait_for_pending(world, 1);
    send_large(other, "mset a $ b $");
    os_sleep_ms(100);
    wait_for_pending(world, 1);
    world_set_holding(world, false);
    WORLD_EXPECT(client, "", "+OK\r\n");
    WORLD_EXPECT(other, "", "+OK\r\n");
    wait_for_charge(world, 0, SMALL);

    world_refuse(world, -EBUSY, 1000000);
    world_send(client, BYTES("copy a b\r\n"));
    wait_for_pending(world, 1);
    world_send(other, BYTES("copy a b\r\n"));
    os_sleep_ms(50);
    wait_for_pending(world, 1);
    world_refuse(world, -EBUSY, 0);
    WORLD_EXPECT(client, "", ":0\r\n");
    WORLD_EXPECT(other, "", ":0\r\n");
    (void)close(other);
    end(world, client);
}

/* Large answers are awaited by few at a time. */
static void test_reads_are_few(void **state)
{
    enum { COUNT = 12 };
    int clients[COUNT];
    struct world *world = begin(&clients[0]);
    set_large(clients[0], "set a $");
    set_large(clients[0], "set b $");
    world_set_reading_late(world, true);
    world_send(clients[0], BYTES("mget a b\r\n"));
    pass_over(clients[0], 2 * MEBIBYTE + 4 + 2 * 12);
    world_set_holding(world, true);
    for (int i = 0; i < COUNT; i++) {
        clients[i] = i == 0 ? clients[0] : world_connect(world);
        world_send(clients[i], i < COUNT / 2 ? BYTES("mget a b\r\n") : BYTES("copy a b\r\n"));
    }
    world_wait_for_pending(world, 2);
    os_sleep_ms(100);
    resp_group_get_statistics(world_group(world), &statistics);
    assert_in_range(statistics.pending_count, 2, 5); /* Of two parts each. */
    world_set_holding(world, false);
    for (int i = 0; i < COUNT; i++) {
        if (i < COUNT / 2) {
            pass_over(clients[i], 2 * MEBIBYTE + 4 + 2 * 12);
        } else {
            WORLD_EXPECT(clients[i], "", ":0\r\n");
        }
    }
    for (int i = 1; i < COUNT; i++) {
        (void)close(clients[i]);
    }
    end(world, clients[0]);
}

static uint64_t count_of(struct world *world, enum resp_kind kind)
{
    resp_group_get_statistics(world_group(world), &statistics);
    return statistics.kind_latencies_ns[kind].count;
}

/* Whether they are answered at once or later. */
static void test_each_counts_once(void **state)
{
    int client;
    struct world *world = begin(&client);
    for (int i = 0; i < 2; i++) {
        world_set_reading_late(world, i == 1);
        uint64_t read_count = count_of(world, RESP_READ);
        uint64_t write_count = count_of(world, RESP_WRITE);
        uint64_t error_count = statistics.error_count;
        for (int j = 0; j < 10; j++) {
            WORLD_EXPECT(client, "mget a b\r\n", "*2\r\n$-1\r\n$-1\r\n");
        }
        world_refuse(world, ERROR_STOPPED, 2);
        WORLD_EXPECT(client, "mget a b\r\n",
                     "-CLUSTERDOWN the node is stopping, nothing was changed\r\n");
        WORLD_EXPECT(client, "del a b\r\n", ":0\r\n");
        WORLD_EXPECT(client, "multi\r\nset a 1\r\nset b 1\r\nexec\r\n",
                     "+OK\r\n+QUEUED\r\n+QUEUED\r\n" LOST);
        WORLD_EXPECT(client, "rename a b\r\n", "-ERR no such key\r\n");
        WORLD_EXPECT(client, "ping\r\n", "+PONG\r\n"); /* The tick before is over. */
        assert_int_equal(count_of(world, RESP_READ), read_count + 11);
        assert_int_equal(count_of(world, RESP_WRITE), write_count + (i == 1 ? 3 : 2));
        assert_int_equal(statistics.error_count, error_count + 3);
    }
    end(world, client);
}

/* What a client is called goes with it. */
static void test_names(void **state)
{
    int client;
    struct world *world = begin(&client);
    struct buffer request = {0};
    buffer_append(&request, BYTES("client setname "));
    memset(buffer_extend(&request, 60000), 'n', 60000);
    buffer_append(&request, BYTES("\r\n"));
    for (int i = 0; i < 10; i++) {
        world_send(client, buffer_bytes(&request));
        WORLD_EXPECT(client, "", "+OK\r\n");
        (void)close(client);
        client = world_connect(world);
    }
    wait_for_charge(world, 0, SMALL);
    buffer_deinit(&request);
    end(world, client);
}

/* A recovery has lost what a shard had promised: nobody is told that all is well. */
static void test_a_part_is_lost(void **state)
{
    int client;
    struct world *world = begin(&client);
    WORLD_EXPECT(client, "set a 1\r\n", "+OK\r\n");
    world_set_losing(world, true);
    WORLD_EXPECT(client, "mset a 1 b 2\r\n", BROKEN);
    WORLD_EXPECT(client, "msetnx a 1 b 2\r\n", BROKEN);
    WORLD_EXPECT(client, "multi\r\nset a 1\r\nset b 1\r\nexec\r\n",
                 "+OK\r\n+QUEUED\r\n+QUEUED\r\n" BROKEN);
    WORLD_EXPECT(client, "copy a b\r\n", BROKEN);
    end(world, client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_of_parts),
        cmocka_unit_test(test_what_moves),
        cmocka_unit_test(test_what_is_evaluated),
        cmocka_unit_test(test_transactions),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_reads_are_few),
        cmocka_unit_test(test_each_counts_once),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_few_exec_at_a_time),
        cmocka_unit_test(test_a_part_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
