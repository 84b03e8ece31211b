/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/resp/resp_world.h"

/* Send and compare what comes back. */
static void expect(int client, struct bytes request, const char *expected)
{
    struct buffer got = {0};
    world_send(client, request);
    world_receive(client, strlen(expected), &got);
    buffer_append_byte(&got, '\0');
    assert_string_equal((char *)got.data, expected);
    buffer_deinit(&got);
}

#define SAY(client, request, expected) expect(client, BYTES(request "\r\n"), expected)

/* Requests of all forms are answered. */
static void test_requests(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    SAY(client, "PING", "+PONG\r\n");
    SAY(client, "ping hello", "$5\r\nhello\r\n");
    SAY(client, "SET key value", "+OK\r\n");
    expect(client, BYTES("*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"), "$5\r\nvalue\r\n");
    SAY(client, "GET nothing", "$-1\r\n");
    SAY(client, "FOO a b", "-ERR unknown command 'FOO', with args beginning with: 'a' 'b' \r\n");
    expect(client, BYTES("*2\r\n$3\r\nFOO\r\n$3\r\na\0b\r\n"),
           "-ERR unknown command 'FOO', with args beginning with: 'a' \r\n");
    SAY(client, "GET", "-ERR wrong number of arguments for 'get' command\r\n");
    SAY(client, "SELECT 0", "+OK\r\n");
    SAY(client, "SELECT 1", "-ERR DB index is out of range\r\n");
    SAY(client, "HELLO 4", "-NOPROTO unsupported protocol version\r\n");
    SAY(client, "CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n");
    SAY(client, "CLIENT", "-ERR wrong number of arguments for 'client' command\r\n");
    SAY(client, "WAIT 0 100", ":0\r\n");
    SAY(client, "WAITAOF 1 0 100", "*2\r\n:1\r\n:0\r\n");
    SAY(client, "WAITAOF x 0 100", "-ERR value is not an integer or out of range\r\n");
    SAY(client, "WAITAOF 2 0 100", "-ERR value is out of range, value must between 0 and 1\r\n");
    SAY(client, "WAITAOF -1 x 100", "-ERR value is out of range, value must between 0 and 1\r\n");
    SAY(client, "WAITAOF 0 x 100", "-ERR value is out of range, must be positive\r\n");
    SAY(client, "WAITAOF 0 -1 100", "-ERR value is out of range, must be positive\r\n");
    SAY(client, "WAITAOF 0 0 x", "-ERR timeout is not an integer or out of range\r\n");
    SAY(client, "QUIT", "+OK\r\n");
    assert_true(world_is_closed(client));
    (void)close(client);
    world_destroy(world);
}

/* Replies come in the order of the requests, though reads and the gateway's own commands are
 * answered before the writes in front of them. */
static void test_order(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    world_set_holding(world, true);
    world_send(client,
               BYTES("ECHO 1\r\nSET k 2\r\nECHO 3\r\nECHO 4\r\nSET k 5\r\nGET k\r\nECHO 7\r\n"));
    struct buffer got = {0};
    world_receive(client, 7, &got); /* Only the first is there. */
    assert_memory_equal(got.data, "$1\r\n1\r\n", 7);
    world_set_holding(world, false);
    expect(client, BYTES(""), "+OK\r\n$1\r\n3\r\n$1\r\n4\r\n+OK\r\n$1\r\n5\r\n$1\r\n7\r\n");
    buffer_deinit(&got);
    (void)close(client);
    world_destroy(world);
}

/* A client that goes while its request is under way harms nobody. */
static void test_gone_with_request(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    world_set_holding(world, true);
    for (int i = 0; i < 10; i++) {
        int client = world_connect(world);
        world_send(client, BYTES("SET k v\r\nSET k w\r\nECHO x\r\n"));
        (void)close(client);
    }
    int other = world_connect(world);
    SAY(other, "PING", "+PONG\r\n");
    world_set_holding(world, false);
    SAY(other, "SET a b", "+OK\r\n");
    (void)close(other);
    world_destroy(world);
}

/* A busy backend delays, a full or loading one is an error that clients understand. */
static void test_refusals(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    world_refuse(world, -EBUSY, 20);
    SAY(client, "SET k v\r\nGET k", "+OK\r\n$1\r\nv\r\n");
    world_refuse(world, -ENOSPC, 1);
    SAY(client, "SET k w",
        "-OOM command not allowed: the disk is full. Reads and deletes go on; writes return when "
        "there is space again.\r\n");
    world_refuse(world, ERROR_NOT_LEADER, 1);
    SAY(client, "GET k", "-LOADING tutti is loading the dataset from its log\r\n");
    SAY(client, "GET k", "$1\r\nv\r\n");
    (void)close(client);
    world_destroy(world);
}

#define UNKNOWN_WRITE "-UNKNOWN the write may or may not have taken effect: its leader was lost\r\n"
#define NO_LEADER "CLUSTERDOWN no leader of this shard answered in time, nothing was changed\r\n"

/* A request that was taken and ends without an answer is an error that says what is known: whether
 * it took effect, or that nothing happened. The connection goes on. */
static void test_failures(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    world_fail(world, ERROR_OUTCOME_UNKNOWN, 1);
    SAY(client, "SET k v\r\nPING", UNKNOWN_WRITE "+PONG\r\n");
    world_fail(world, ERROR_OUTCOME_UNKNOWN, 1);
    SAY(client, "GET k",
        "-UNKNOWN the answer was lost with its leader, and a later write of this connection to the "
        "same keys may have taken effect\r\n");
    world_fail(world, ERROR_NOT_LEADER, 2);
    SAY(client, "SET k v\r\nGET k", "-" NO_LEADER "-" NO_LEADER);
    world_fail(world, -ENOSPC, 1);
    SAY(client, "SET k w",
        "-OOM command not allowed: the disk is full. Reads and deletes go on; writes return when "
        "there is space again.\r\n");
    world_fail(world, ERROR_STOPPED, 1);
    SAY(client, "SET k w", "-CLUSTERDOWN the node is stopping, nothing was changed\r\n");
    SAY(client, "GET k", "$-1\r\n");
    (void)close(client);
    world_destroy(world);
}

/* So too for EXEC, and for WATCH, after which nothing is watched. */
static void test_failures_of_transactions(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    world_fail(world, ERROR_OUTCOME_UNKNOWN, 1);
    SAY(client, "MULTI\r\nSET k v\r\nEXEC", "+OK\r\n+QUEUED\r\n" UNKNOWN_WRITE);
    world_fail(world, ERROR_NOT_LEADER, 1);
    SAY(client, "MULTI\r\nSET k v\r\nEXEC",
        "+OK\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of: " NO_LEADER);
    SAY(client, "EXEC", "-ERR EXEC without MULTI\r\n");
    /* An error as long as the versions of the keys is an error still. */
    static const char stopping[] = "-CLUSTERDOWN the node is stopping, nothing was changed\r\n";
    _Static_assert((sizeof stopping - 1) / 7 == 8, "the versions of seven keys");
    world_fail(world, ERROR_STOPPED, 1);
    expect(client, BYTES("WATCH a b c d e f g\r\n"), stopping);
    SAY(client, "MULTI\r\nSET k v\r\nEXEC", "+OK\r\n+QUEUED\r\n+transaction\r\n");
    (void)close(client);
    world_destroy(world);
}

/* Nothing but AUTH, HELLO, QUIT and RESET before the password. */
static void test_authentication(void **state)
{
    struct world_options options = {.resp = {.password = "secret"}};
    struct world *world = world_create(&options);
    int client = world_connect(world);
    SAY(client, "GET k", "-NOAUTH Authentication required.\r\n");
    SAY(client, "PING", "-NOAUTH Authentication required.\r\n");
    SAY(client, "AUTH wrong", "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    SAY(client, "AUTH secre", "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    SAY(client, "AUTH other secret",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    SAY(client, "AUTH secret", "+OK\r\n");
    SAY(client, "GET k", "$-1\r\n");
    SAY(client, "RESET", "+RESET\r\n");
    SAY(client, "GET k", "-NOAUTH Authentication required.\r\n");
    SAY(client, "HELLO 3 AUTH default secret SETNAME me",
        "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n$5\r\nproto\r\n:"
        "3\r\n");
    (void)close(client);

    client = world_connect(world);
    SAY(client, "SET 1 2 3 4 5 6 7 8 9 10",
        "-ERR Protocol error: unauthenticated multibulk length\r\n");
    assert_true(world_is_closed(client));
    (void)close(client);
    world_destroy(world);
}

/* MULTI queues, EXEC executes, errors while queuing abort. */
static void test_transactions(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    SAY(client, "EXEC", "-ERR EXEC without MULTI\r\n");
    SAY(client, "EXEC x",
        "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' "
        "command\r\n");
    SAY(client, "DISCARD", "-ERR DISCARD without MULTI\r\n");
    SAY(client, "MULTI", "+OK\r\n");
    SAY(client, "EXEC", "*0\r\n");
    SAY(client, "MULTI", "+OK\r\n");
    SAY(client, "MULTI", "-ERR MULTI calls can not be nested\r\n");
    SAY(client, "WATCH a", "-ERR WATCH inside MULTI is not allowed\r\n");
    SAY(client, "SET a b", "+QUEUED\r\n");
    SAY(client, "PING", "+QUEUED\r\n");
    SAY(client, "GET a", "+QUEUED\r\n");
    SAY(client, "EXEC", "+transaction\r\n");
    SAY(client, "EXEC", "-ERR EXEC without MULTI\r\n");
    SAY(client, "MULTI", "+OK\r\n");
    SAY(client, "GET", "-ERR wrong number of arguments for 'get' command\r\n");
    SAY(client, "EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    SAY(client, "MULTI", "+OK\r\n");
    SAY(client, "CLIENT LIST", "-ERR Command not allowed inside a transaction\r\n");
    SAY(client, "DISCARD", "+OK\r\n");
    SAY(client, "WATCH a b", "+OK\r\n");
    SAY(client, "UNWATCH", "+OK\r\n");
    /* The versions come after the pipelined EXEC was read. */
    world_set_holding(world, true);
    world_send(client, BYTES("SET a c\r\nWATCH a\r\nMULTI\r\nGET a\r\nEXEC\r\nPING\r\n"));
    world_set_holding(world, false);
    expect(client, BYTES(""), "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n+transaction\r\n+PONG\r\n");
    world_refuse(world, -EBUSY, 5);
    SAY(client, "MULTI\r\nSET a d\r\nCLIENT ID\r\nEXEC",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+transaction\r\n");
    (void)close(client);
    world_destroy(world);
}

/* A value above the limit is refused and the connection stays usable. */
static void test_oversized(void **state)
{
    struct world_options options = {.resp = {.value_size_bytes_max = 100000}};
    struct world *world = world_create(&options);
    int client = world_connect(world);
    struct buffer request = {0};
    buffer_append_format(&request, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\n%0200000d\r\n", 0);
    expect(client, buffer_bytes(&request),
           "-ERR value of 200000 bytes exceeds the limit of 100000 bytes\r\n");
    buffer_clear(&request);
    buffer_append_format(&request, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n%0100000d\r\n", 0);
    expect(client, buffer_bytes(&request), "+OK\r\n");
    world_send(client, BYTES("GET k\r\n"));
    struct buffer got = {0};
    world_receive(client, 9 + 100000 + 2, &got);
    assert_memory_equal(got.data, "$100000\r\n0", 10);
    SAY(client, "PING", "+PONG\r\n");
    buffer_deinit(&got);
    buffer_deinit(&request);
    (void)close(client);
    world_destroy(world);
}

/* Pipelines deeper than the limits of requests under way are answered whole and in order. */
static void test_deep_pipeline(void **state)
{
    enum { COUNT = 20000 };
    struct world_options options = {
        .resp = {.pipeline_count_max = 10, .pipeline_size_bytes_max = 1000}};
    struct world *world = world_create(&options);
    int client = world_connect(world);
    struct buffer request = {0};
    struct buffer expected = {0};
    struct buffer got = {0};
    for (int i = 0; i < COUNT; i++) {
        if (i % 3 == 0) {
            buffer_append_format(&request, "SET k %d\r\n", i);
            buffer_append_format(&expected, "+OK\r\n");
        } else {
            char text[16];
            int size = snprintf(text, sizeof text, "%d", i);
            buffer_append_format(&request, "*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n", size, text);
            buffer_append_format(&expected, "$%d\r\n%s\r\n", size, text);
        }
    }
    world_send(client, buffer_bytes(&request));
    world_receive(client, expected.size_bytes, &got);
    assert_int_equal(got.size_bytes, expected.size_bytes);
    assert_memory_equal(got.data, expected.data, got.size_bytes);
    buffer_deinit(&request);
    buffer_deinit(&expected);
    buffer_deinit(&got);
    (void)close(client);
    world_destroy(world);
}

/* A read that something follows, and what stands behind it, say which key they are about; 0: several, all,
 * or none, though the argument that would be the key is there from before. With the order of the
 * connection nothing does, and who reads nothing needs not. */
static void test_order_keys(void **state)
{
    static const char requests[] = "SET a 1\r\nGET b\r\nSET {b}c 2\r\nMGET b {b}c\r\nMGET a b\r\n"
                                   "OBJECT HELP\r\nDEL a\r\nGET b\r\n";
    static const char expected[] = "+OK\r\n$-1\r\n+OK\r\n+transaction\r\n+transaction\r\n"
                                   "+transaction\r\n+transaction\r\n$-1\r\n";
    static const int keys[2][8] = {{0, 3301, 3301, 3301, 0, 0, 15496, 3301}, {0}};
    for (int i = 0; i < 2; i++) {
        struct world *world =
            world_create(&(struct world_options){.resp = {.is_connection_ordered = i == 1}});
        int client = world_connect(world);
        world_set_reading_late(world, true);
        world_set_holding(world, true);
        world_send(client, BYTES(requests));
        world_set_holding(world, false);
        WORLD_EXPECT_REPLY(client, expected);
        for (int number = 0; number < 8; number++) {
            assert_int_equal(world_order_key(world, number), keys[i][number]);
        }
        /* Nothing follows. */
        world_send(client, BYTES("GET b\r\n"));
        WORLD_EXPECT_REPLY(client, "$-1\r\n");
        assert_int_equal(world_order_key(world, 8), 0);
        (void)close(client);
        world_destroy(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),          cmocka_unit_test(test_order),
        cmocka_unit_test(test_gone_with_request), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_failures),          cmocka_unit_test(test_failures_of_transactions),
        cmocka_unit_test(test_authentication),    cmocka_unit_test(test_transactions),
        cmocka_unit_test(test_oversized),         cmocka_unit_test(test_deep_pipeline),
        cmocka_unit_test(test_order_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
