/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/resp/resp_parse.h"
#include "gateway/resp/resp_world.h"

/* Send and give the one reply that comes back, zero-terminated. */
static const char *ask(int client, const char *request)
{
    static struct buffer got;
    buffer_clear(&got);
    if (request == NULL) {
        buffer_deinit(&got);
        return NULL;
    }
    world_send(client, bytes_of_text(request));
    world_send(client, BYTES("\r\n"));
    do {
        size_t before = got.size_bytes;
        world_receive(client, 1, &got);
        if (got.size_bytes == before) {
            break;
        }
    } while (resp__reply_size(buffer_bytes(&got)) == 0);
    buffer_append_byte(&got, '\0');
    return (const char *)got.data;
}

static void expect(int client, const char *request, const char *expected)
{
    assert_string_equal(ask(client, request), expected);
}

static void expect_part(int client, const char *request, const char *expected)
{
    const char *got = ask(client, request);
    if (strstr(got, expected) == NULL) {
        fail_msg("%s: no %s in %s", request, expected, got);
    }
}

/* CLIENT tells of a connection and changes it, across the servers of a group. */
static void test_client(void **state)
{
    struct world *world = world_create(&(struct world_options){.server_count = 3});
    int clients[12];
    for (int i = 0; i < 12; i++) {
        clients[i] = world_connect(world);
        char request[64];
        (void)snprintf(request, sizeof request, "CLIENT SETNAME client%d", i);
        expect(clients[i], request, "+OK\r\n");
    }
    int client = clients[0];
    expect(client, "CLIENT GETNAME", "$7\r\nclient0\r\n");
    expect(client, "CLIENT SETNAME \"a b\"",
           "-ERR Client names cannot contain spaces, newlines or special characters.\r\n");
    expect(client, "CLIENT SETINFO LIB-NAME test", "+OK\r\n");
    for (int i = 0; i < 12; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, " name=client%d ", i);
        expect_part(client, "CLIENT LIST", name);
    }
    expect_part(client, "CLIENT LIST", " resp=2 lib-name=test lib-ver=\n");
    expect_part(client, "CLIENT INFO", " cmd=client|info user=default ");
    expect_part(client, "CLIENT LIST", " cmd=client|list user=default ");
    expect_part(client, "CLIENT LIST", " cmd=client|setname user=default ");
    expect(clients[1], "WATCH a b", "+OK\r\n");
    expect_part(client, "CLIENT LIST", " watch=2 ");
    expect(clients[1], "UNWATCH", "+OK\r\n");
    assert_null(strstr(ask(client, "CLIENT LIST"), " watch=2 "));
    expect_part(client, "CLIENT LIST", " cmd=unwatch user=default ");
    expect(client, "CLIENT LIST TYPE pubsub", "$0\r\n\r\n");
    expect(client, "CLIENT UNBLOCK 1 ERROR x",
           "-ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP."
           "\r\n");
    expect(client, "CLIENT TRACKING off", "+OK\r\n");
    expect(client, "CLIENT TRACKING foo", "-ERR syntax error\r\n");
    expect(client, "CLIENT TRACKING on",
           "-ERR client-side caching is not supported by this server\r\n");
    expect(client, "CLIENT CACHING yes",
           "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN "
           "or OPTOUT mode enabled\r\n");
    expect(client, "CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'\r\n");
    expect(client, "CLIENT LIST ID x", "-ERR Invalid client ID\r\n");

    /* Kill by id, from another server, too. */
    for (int i = 1; i < 12; i++) {
        long id = strtol(ask(clients[i], "CLIENT ID") + 1, NULL, 10);
        char request[64];
        (void)snprintf(request, sizeof request, "CLIENT KILL ID %ld", id);
        expect(client, request, ":1\r\n");
        assert_true(world_is_closed(clients[i]));
    }
    expect(client, "CLIENT KILL ID 999999", ":0\r\n");
    expect(client, "CLIENT KILL 1.2.3.4:5", "-ERR No such client\r\n");
    expect(client, "CLIENT KILL ID abc X", "-ERR client-id should be greater than 0\r\n");
    expect(client, "CLIENT KILL ID 999999 X", "-ERR syntax error\r\n");
    expect(client, "CLIENT KILL TYPE normal SKIPME no", ":1\r\n");
    assert_true(world_is_closed(client));
    for (int i = 0; i < 12; i++) {
        (void)close(clients[i]);
    }
    world_destroy(world);
}

/* CLIENT REPLY silences, for one command or until told otherwise, also what is answered later. */
static void test_client_reply(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    world_send(client, BYTES("CLIENT REPLY OFF\r\nPING\r\nSET a 1\r\nGET a\r\n"));
    expect(client, "CLIENT REPLY ON", "+OK\r\n");
    world_send(client, BYTES("CLIENT REPLY SKIP\r\nPING\r\n"));
    expect(client, "GET a", "$1\r\n1\r\n");
    world_send(client, BYTES("CLIENT REPLY SKIP\r\nSET a 2\r\n"));
    expect(client, "GET a", "$1\r\n2\r\n");
    (void)close(client);
    world_destroy(world);
}

/* CLIENT PAUSE stops writes on all servers, and UNPAUSE lets them go on. */
static void test_client_pause(void **state)
{
    struct world *world = world_create(&(struct world_options){.server_count = 2});
    int client = world_connect(world);
    int other = world_connect(world);
    expect(client, "CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    /* The errand may still travel: a command of every connection comes after it. */
    os_sleep_ms(50);
    world_send(other, BYTES("SET k v\r\n"));
    expect(client, "GET k", "$-1\r\n");
    os_sleep_ms(20);
    expect(client, "GET k", "$-1\r\n");
    expect(client, "CLIENT UNPAUSE", "+OK\r\n");
    struct buffer got = {0};
    world_receive(other, 5, &got);
    assert_memory_equal(got.data, "+OK\r\n", 5);
    expect(client, "CLIENT PAUSE 9223372036854775807 WRITE", "+OK\r\n");
    expect(client, "CLIENT UNPAUSE", "+OK\r\n");
    expect(client, "CLIENT PAUSE 9223372036854775808",
           "-ERR timeout is not an integer or out of range\r\n");
    expect(client, "CLIENT PAUSE 1 ALL x",
           "-ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP."
           "\r\n");
    expect(client, "CLIENT PAUSE 30 ALL", "+OK\r\n");
    os_sleep_ms(5);
    expect(other, "PING", "+PONG\r\n");
    buffer_deinit(&got);
    (void)close(client);
    (void)close(other);
    world_destroy(world);
}

/* INFO has what tools read. */
static void test_info(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    expect_part(client, "INFO", "\r\nredis_version:7.2.0\r\ntutti_version:");
    expect_part(client, "INFO", "\r\nconnected_clients:1\r\n");
    expect_part(client, "INFO", "\r\nflush:always\r\n");
    expect_part(client, "INFO", "\r\ndb0:keys=7,expires=3,");
    expect_part(client, "INFO keyspace", "# Keyspace\r\ndb0:keys=7");
    expect_part(client, "INFO commandstats", "cmdstat_info:calls=5,");
    expect(client, "INFO nothing", "$0\r\n\r\n");
    expect_part(client, "INFO stats", "\r\nkeyspace_hits:11\r\nkeyspace_misses:12\r\n");
    expect_part(client, "INFO everything", "\r\n# Latencystats\r\n");
    expect(client, "CONFIG RESETSTAT", "+OK\r\n");
    expect_part(client, "INFO commandstats", "cmdstat_config:calls=1,");
    (void)close(client);
    world_destroy(world);
}

/* A node that others can reach keeps a password, though it may be another one. */
static void test_password_that_must_be(void **state)
{
    struct world *world = world_create(
        &(struct world_options){.resp = {.password = "first", .must_have_password = true}});
    int client = world_connect(world);
    expect(client, "AUTH first", "+OK\r\n");
    expect(
        client, "CONFIG SET requirepass \"\"",
        "-ERR CONFIG SET failed (possibly related to argument 'requirepass') - a node that other "
        "machines can reach needs a password\r\n");
    int other = world_connect(world);
    expect(other, "PING", "-NOAUTH Authentication required.\r\n");
    expect(client, "CONFIG SET requirepass second", "+OK\r\n");
    expect(other, "AUTH second", "+OK\r\n");
    (void)close(client);
    (void)close(other);
    world_destroy(world);
}

/* CONFIG reads by pattern, and sets all or nothing. */
static void test_config(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    expect(client, "CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
    expect(client, "CONFIG GET FLUSH appendfsync",
           "*4\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n$5\r\nflush\r\n$6\r\nalways\r\n");
    expect(client, "CONFIG GET nothing", "*0\r\n");
    expect(client, "CONFIG SET timeout 5 maxclients", "-ERR syntax error\r\n");
    expect(client, "CONFIG GET bind", "*2\r\n$4\r\nbind\r\n$9\r\n127.0.0.1\r\n");
    expect(client, "CONFIG GET tcp-keepalive", "*2\r\n$13\r\ntcp-keepalive\r\n$3\r\n300\r\n");
    expect(client, "CONFIG GET hash-max*",
           "*2\r\n$25\r\nhash-max-listpack-entries\r\n$3\r\n512\r\n");
    expect(client, "CONFIG SET timeout 5 maxclients x",
           "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument couldn't "
           "be parsed into an integer\r\n");
    expect(client, "CONFIG GET timeout", "*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n");
    expect(client, "CONFIG SET timeout 5 timeout 6",
           "-ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate "
           "parameter\r\n");
    expect(client, "CONFIG SET port 1",
           "-ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable "
           "config\r\n");
    expect(client, "CONFIG SET a b",
           "-ERR Unknown option or number of arguments for CONFIG SET - 'a'\r\n");
    expect(client, "CONFIG SET timeout 5 appendonly yes", "+OK\r\n");
    expect(client, "CONFIG GET timeout", "*2\r\n$7\r\ntimeout\r\n$1\r\n5\r\n");
    expect(client, "CONFIG SET requirepass secret", "+OK\r\n");
    int other = world_connect(world);
    expect(other, "PING", "-NOAUTH Authentication required.\r\n");
    expect(client, "PING", "+PONG\r\n");
    (void)close(other);
    (void)close(client);
    world_destroy(world);
}

/* Who came while there was a password needs none any more when there is none. */
static void test_password_that_is_gone(void **state)
{
    struct world *world = world_create(
        &(struct world_options){.resp = {.password = "first", .authentication_timeout_ms = 3000}});
    int client = world_connect(world);
    int other = world_connect(world);
    int idle = world_connect(world);
    expect(client, "AUTH first", "+OK\r\n");
    expect(other, "PING", "-NOAUTH Authentication required.\r\n");
    expect(client, "CONFIG SET requirepass \"\"", "+OK\r\n");
    expect(other, "PING", "+PONG\r\n");
    expect_part(other, "HELLO 2 SETNAME other", "*14\r\n");
    expect(other, "ECHO 2 3 4 5 6 7 8 9 10 11 12",
           "-ERR wrong number of arguments for 'echo' command\r\n");
    os_sleep_ms(5000);
    expect(idle, "PING", "+PONG\r\n");
    (void)close(client);
    (void)close(other);
    (void)close(idle);
    world_destroy(world);
}

/* The slow log has what was slow, newest first, without passwords; and no writes, which only waited
 * for their flush. */
static void test_slow_log(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    expect(client, "CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 2", "+OK\r\n");
    expect(client, "SLOWLOG RESET", "+OK\r\n");
    expect(client, "CONFIG SET requirepass secret", "+OK\r\n");
    expect_part(client, "command count", ":");
    expect(client, "SET key value", "+OK\r\n");
    expect(client, "CONFIG SET slowlog-log-slower-than -1", "+OK\r\n");
    expect(client, "SLOWLOG LEN", ":2\r\n");
    expect_part(client, "SLOWLOG GET 1", "$7\r\ncommand\r\n$5\r\ncount\r\n");
    assert_null(strstr(ask(client, "SLOWLOG GET"), "secret"));
    expect_part(client, "SLOWLOG GET", "(redacted)");
    expect(client, "CONFIG SET slowlog-max-len 0 slowlog-log-slower-than 0", "+OK\r\n");
    expect_part(client, "command count", ":");
    expect(client, "SLOWLOG LEN", ":0\r\n");
    expect(client, "SLOWLOG GET", "*0\r\n");
    expect(client, "CONFIG SET slowlog-max-len 3", "+OK\r\n");
    expect_part(client, "command count", ":");
    expect_part(client, "SLOWLOG GET 1", "$7\r\ncommand\r\n$5\r\ncount\r\n");
    expect(client, "SLOWLOG GET 1 2",
           "-ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.\r\n");
    expect(client, "SLOWLOG GET -2", "-ERR count should be greater than or equal to -1\r\n");
    (void)close(client);
    world_destroy(world);
}

/* COMMAND describes every command in the shapes that clients parse. */
static void test_command(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    long count = strtol(ask(client, "COMMAND COUNT") + 1, NULL, 10);
    assert_true(count > 60);
    assert_int_equal(strtol(ask(client, "COMMAND") + 1, NULL, 10), count);
    assert_int_equal(strtol(ask(client, "COMMAND LIST") + 1, NULL, 10), count);
    assert_int_equal(strtol(ask(client, "COMMAND DOCS") + 1, NULL, 10), 2 * count);
    expect_part(client, "COMMAND INFO get",
                "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n");
    expect_part(client, "COMMAND INFO keys",
                "\r\n*4\r\n+@keyspace\r\n+@read\r\n+@slow\r\n+@dangerous\r\n");
    expect_part(client, "COMMAND INFO dbsize", "\r\n*3\r\n+@keyspace\r\n+@read\r\n+@fast\r\n");
    expect_part(client, "COMMAND INFO flushall",
                "\r\n*4\r\n+@keyspace\r\n+@write\r\n+@slow\r\n+@dangerous\r\n");
    expect(client, "COMMAND INFO nothing", "*1\r\n$-1\r\n");
    expect(client, "COMMAND GETKEYS mset a b c d", "*2\r\n$1\r\na\r\n$1\r\nc\r\n");
    expect(client, "COMMAND GETKEYS ping",
           "-ERR wrong number of arguments for "
           "'command|getkeys' command\r\n");
    expect(client, "COMMAND GETKEYS memory usage k samples 5", "*1\r\n$1\r\nk\r\n");
    expect(client, "COMMAND GETKEYS memory stats x", "-ERR The command has no key arguments\r\n");
    expect(
        client, "COMMAND GETKEYSANDFLAGS del a b",
        "*2\r\n*2\r\n$1\r\na\r\n*2\r\n+RM\r\n+delete\r\n*2\r\n$1\r\nb\r\n*2\r\n+RM\r\n+delete\r\n");
    expect(
        client, "COMMAND GETKEYSANDFLAGS rename a b",
        "*2\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+delete\r\n*2\r\n$1\r\nb\r\n*2\r\n+OW\r\n"
        "+update\r\n");
    expect(client, "COMMAND GETKEYSANDFLAGS set a get",
           "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update\r\n");
    expect(client, "COMMAND GETKEYSANDFLAGS set a b get",
           "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n");
    expect(client, "COMMAND GETKEYSANDFLAGS get a",
           "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n");
    const char *const dangerous[] = {"config", "flushall", "flushdb", "info", "keys", "role"};
    for (size_t i = 0; i < sizeof dangerous / sizeof dangerous[0]; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "\r\n%s\r\n", dangerous[i]);
        expect_part(client, "COMMAND LIST FILTERBY ACLCAT dangerous", name);
    }
    assert_null(strstr(ask(client, "COMMAND LIST FILTERBY ACLCAT dangerous"), "\r\nget\r\n"));
    expect(client, "COMMAND LIST FILTERBY PATTERN watc*", "*1\r\n$5\r\nwatch\r\n");
    expect(client, "COMMAND LIST FILTERBY x y", "-ERR syntax error\r\n");
    (void)close(client);
    world_destroy(world);
}

/* TIME has microseconds, not milliseconds with zeros behind them. */
static void test_time(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    bool is_fine = false;
    uint64_t before_us = os_wall_clock_us();
    for (int i = 0; i < 20 && !is_fine; i++) {
        const char *got = ask(client, "TIME");
        unsigned long long seconds;
        unsigned long long rest_us;
        assert_int_equal(sscanf(got, "*2\r\n$%*d\r\n%llu\r\n$%*d\r\n%llu\r\n", &seconds, &rest_us),
                         2);
        assert_in_range(rest_us, 0, 999999);
        assert_in_range(seconds * 1000000 + rest_us, before_us, before_us + 60 * 1000000ull);
        is_fine = rest_us % 1000 != 0;
    }
    assert_true(is_fine);
    (void)close(client);
    world_destroy(world);
}

/* INFO counts errors by their first word, of all servers, until CONFIG RESETSTAT. */
static void test_errors(void **state)
{
    struct world *world = world_create(&(struct world_options){.server_count = 2});
    int clients[4];
    for (int i = 0; i < 4; i++) {
        clients[i] = world_connect(world);
        expect(clients[i], "SELECT 1", "-ERR DB index is out of range\r\n");
        expect(clients[i], "SELECT", "-ERR wrong number of arguments for 'select' command\r\n");
    }
    expect(clients[0], "HELLO 9", "-NOPROTO unsupported protocol version\r\n");
    world_refuse(world, -ENOSPC, 1);
    expect_part(clients[0], "SET k v", "-OOM ");
    world_fail(world, ERROR_OUTCOME_UNKNOWN, 1);
    expect_part(clients[0], "SET k v", "-UNKNOWN ");
    expect_part(clients[0], "INFO errorstats",
                "\r\n# Errorstats\r\nerrorstat_ERR:count=8\r\nerrorstat_NOPROTO:count=1\r\n"
                "errorstat_OOM:count=1\r\nerrorstat_UNKNOWN:count=1\r\n");
    expect_part(clients[0], "INFO stats", "\r\ntotal_error_replies:11\r\n");
    expect(clients[0], "CONFIG RESETSTAT", "+OK\r\n");
    for (int i = 0; strstr(ask(clients[0], "INFO errorstats"), "errorstat_") != NULL; i++) {
        assert_true(i < 1000); /* The other server resets its own a moment later. */
        os_sleep_ms(5);
    }
    expect_part(clients[0], "INFO stats", "total_error_replies:0\r\n");
    struct resp_statistics *statistics = memory_allocate_zeroed(1, sizeof *statistics);
    resp_group_get_statistics(world_group(world), statistics);
    assert_true(statistics->error_count > 0); /* A metric does not fall. */
    memory_free(statistics);
    for (int i = 0; i < 4; i++) {
        (void)close(clients[i]);
    }
    world_destroy(world);
}

/* A version that comes later, and begins with the byte that errors begin with, is none. */
static void test_versions_are_no_errors(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    for (int i = 0; i < '-'; i++) {
        expect(client, "SET k v", "+OK\r\n");
    }
    world_set_reading_late(world, true);
    expect(client, "WATCH k", "+OK\r\n");
    expect_part(client, "INFO errorstats", "\r\n# Errorstats\r\n\r\n");
    expect_part(client, "INFO stats", "\r\ntotal_error_replies:0\r\n");
    expect_part(client, "INFO commandstats", "rejected_calls=0,failed_calls=0\r\n");
    assert_null(strstr(ask(client, "INFO commandstats"), "failed_calls=1"));
    world_fail(world, ERROR_OUTCOME_UNKNOWN, 1);
    expect_part(client, "WATCH k", "-UNKNOWN ");
    expect_part(client, "INFO errorstats", "\r\nerrorstat_UNKNOWN:count=1\r\n");
    (void)close(client);
    world_destroy(world);
}

/* INFO tells what was most, and what comes and goes in a second. */
static void test_rates(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    unsigned long long peak_bytes;
    unsigned long long used_bytes;
    const char *memory = ask(client, "INFO memory");
    assert_int_equal(sscanf(strstr(memory, "\nused_memory:"), "\nused_memory:%llu", &used_bytes),
                     1);
    assert_int_equal(
        sscanf(strstr(memory, "\nused_memory_peak:"), "\nused_memory_peak:%llu", &peak_bytes), 1);
    assert_true(peak_bytes >= used_bytes && used_bytes > 0);
    float input = 0;
    float output = 0;
    for (int i = 0; i < 400 && (input == 0 || output == 0); i++) {
        const char *stats = ask(client, "INFO stats");
        (void)sscanf(strstr(stats, "\ninstantaneous_input_kbps:"), "\ninstantaneous_input_kbps:%f",
                     &input);
        (void)sscanf(strstr(stats, "\ninstantaneous_output_kbps:"),
                     "\ninstantaneous_output_kbps:%f", &output);
        os_sleep_ms(10);
    }
    assert_true(input > 0 && output > 10 * input); /* INFO is short, and its answer is not. */
    (void)close(client);
    world_destroy(world);
}

/* What clients ask at their start is answered, though there is but one user and no module. */
static void test_small_commands(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    expect(client, "ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
    expect(client, "LASTSAVE", ":1700000000\r\n");
    expect_part(client, "INFO persistence", "\r\nrdb_last_save_time:1700000000\r\n");
    expect(client, "ACL WHOAMI", "$7\r\ndefault\r\n");
    expect(client, "ACL FOO", "-ERR unknown subcommand 'FOO'. Try ACL HELP.\r\n");
    expect(client, "SELECT 99999999999",
           "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n");
    expect(client, "SELECT x", "-ERR value is not an integer or out of range\r\n");
    expect(client, "SELECT -1", "-ERR DB index is out of range\r\n");
    expect(client, "MODULE LIST", "*0\r\n");
    expect(client, "LATENCY LATEST", "*0\r\n");
    world_set_cluster(world, true);
    /* Of the replicas node 3 does not answer; INFO names it, and says so. */
    expect(client, "ROLE",
           "*3\r\n$6\r\nmaster\r\n:0\r\n*1\r\n*3\r\n$8\r\n10.0.0.2\r\n$4\r\n6379\r\n$1\r\n0\r\n");
    expect_part(client, "INFO replication",
                "\r\nconnected_slaves:2\r\nslave0:ip=10.0.0.2,port=6379,state=online,offset=0,lag=0"
                "\r\nslave1:ip=fd00::3,port=6380,state=wait_bgsave,");
    (void)close(client);
    world_destroy(world);
}

/* SHUTDOWN asks the node, and answers nothing. */
static void test_shutdown(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    expect(client, "SHUTDOWN FOO", "-ERR syntax error\r\n");
    expect(client, "SHUTDOWN SAVE NOSAVE", "-ERR syntax error\r\n");
    expect(client, "SHUTDOWN ABORT NOW", "-ERR syntax error\r\n");
    expect(client, "SHUTDOWN FORCE ABORT", "-ERR syntax error\r\n");
    expect(client, "SHUTDOWN ABORT", "-ERR No shutdown in progress.\r\n");
    assert_int_equal(world_stop_count(world), 0);
    world_send(client, BYTES("SHUTDOWN NOSAVE\r\n"));
    assert_true(world_is_closed(client));
    assert_int_equal(world_stop_count(world), 1);
    (void)close(client);
    (void)ask(0, NULL);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_client_reply),
        cmocka_unit_test(test_client_pause),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_password_that_must_be),
        cmocka_unit_test(test_slow_log),
        cmocka_unit_test(test_command),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_versions_are_no_errors),
        cmocka_unit_test(test_password_that_is_gone),
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_small_commands),
        cmocka_unit_test(test_shutdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
