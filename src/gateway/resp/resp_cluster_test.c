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

#define ID1 "000000010123456789abcdef0123456789abcdef"
#define ID2 "000000020123456789abcdef0123456789abcdef"
#define ID3 "000000030123456789abcdef0123456789abcdef"
#define RUN_ID "0123456789012345678901234567890123456789"

static struct buffer got;
static char port[8]; /* Of the server. */

/* Send, and give the one reply that comes back, with blanks for line breaks. */
static const char *ask(int client, const char *request)
{
    buffer_clear(&got);
    world_send(client, bytes_of_text(request));
    world_send(client, BYTES("\r\n"));
    do {
        size_t before = got.size_bytes;
        world_receive(client, 1, &got);
        if (got.size_bytes == before) {
            break;
        }
    } while (resp__reply_size(buffer_bytes(&got)) == 0);
    size_t used = 0;
    for (size_t i = 0; i < got.size_bytes; i++) {
        if (got.data[i] == '\n' && i > 0 && got.data[i - 1] == '\r') {
            used--;
        }
        got.data[used++] = got.data[i] == '\n' ? ' ' : got.data[i];
    }
    got.size_bytes = used;
    buffer_append_byte(&got, '\0');
    return (const char *)got.data;
}

static void expect(int client, const char *request, const char *expected)
{
    assert_string_equal(ask(client, request), expected);
}

static void expect_part(int client, const char *request, const char *expected)
{
    const char *answer = ask(client, request);
    if (strstr(answer, expected) == NULL) {
        fail_msg("%s: no %s in %s", request, expected, answer);
    }
}

static struct world *begin(bool is_cluster, int *client)
{
    struct world *world = world_create(&(struct world_options){0});
    world_set_cluster(world, is_cluster);
    *client = world_connect(world);
    const char *address = strstr(ask(*client, "CLIENT INFO"), "laddr=127.0.0.1:");
    assert_non_null(address);
    (void)snprintf(port, sizeof port, "%lu",
                   strtoul(address + sizeof "laddr=127.0.0.1:" - 1, NULL, 10));
    return world;
}

static void end(struct world *world, int client)
{
    (void)close(client);
    world_destroy(world);
    buffer_deinit(&got);
    got = (struct buffer){0};
}

/* Replace $ by the port of the server. */
static const char *with_port(const char *text)
{
    static char replaced[2048];
    size_t used = 0;
    for (; *text != '\0'; text++) {
        if (*text == '$' && text[1] == 'P') {
            used += (size_t)snprintf(replaced + used, sizeof replaced - used, "%s", port);
            text++;
        } else {
            replaced[used++] = *text;
        }
    }
    replaced[used] = '\0';
    return replaced;
}

/* Claim: a node that is alone is a cluster of one: all slots are its own, at the address by which the
 * client came. */
static void test_alone(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(false, &client);
    char size[64];
    (void)snprintf(size, sizeof size, "$%zu", strlen(port));
    expect(client, "CLUSTER SLOTS",
           with_port("*1 *3 :0 :16383 *4 $9 127.0.0.1 :$P $40 " RUN_ID " *0 "));
    expect(client, "CLUSTER SHARDS",
           with_port("*1 *4 $5 slots *2 :0 :16383 $5 nodes *1 *14 $2 id $40 " RUN_ID
                     " $4 port :$P $2 ip $9 127.0.0.1 $8 endpoint $9 127.0.0.1 $4 role $6 master "
                     "$18 replication-offset :0 $6 health $6 online "));
    expect_part(client, "CLUSTER NODES",
                with_port(RUN_ID " 127.0.0.1:$P@0 myself,master - 0 0 0 connected 0-16383"));
    expect_part(client, "CLUSTER INFO", "cluster_state:ok cluster_slots_assigned:16384");
    expect(client, "CLUSTER MYID", "$40 " RUN_ID " ");
    expect_part(client, "INFO cluster", "cluster_enabled:1 ");
    expect_part(client, "INFO cluster", "cluster_slots_led:16384");
    expect_part(client, "INFO replication", "role:master connected_slaves:0");
    expect(client, "SET k v", "+OK ");
    end(world, client);
}

/* Claim: of several nodes, each range has its leader first; half a slot counts for who has its first
 * part; a range without a leader is ours, for any node takes any command, but the cluster is not well then. */
static void test_three_nodes(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(true, &client);
#define PLACE1 "*4 $9 127.0.0.1 :$P $40 " ID1 " *0 "
#define PLACE2 "*4 $8 10.0.0.2 :6379 $40 " ID2 " *0 "
#define PLACE3 "*4 $7 fd00::3 :6380 $40 " ID3 " *0 "
    expect(client, "CLUSTER SLOTS",
           with_port("*3 *5 :0 :5470 " PLACE1 PLACE2 PLACE3 "*5 :5471 :10922 " PLACE2 PLACE1 PLACE3
                     "*4 :10923 :16383 " PLACE1 PLACE3));
    const char *nodes = ask(client, "CLUSTER NODES");
    assert_non_null(strstr(
        nodes,
        with_port(ID1 " 127.0.0.1:$P@7380 myself,master - 0 0 42 connected 0-5470 10923-16383 ")));
    assert_non_null(strstr(nodes, ID2 " 10.0.0.2:6379@7380 master - 0 0 42 connected 5471-10922 "));
    assert_non_null(
        strstr(nodes, ID3 " fd00::3:6380@7380 slave,fail " ID1 " 0 0 42 disconnected "));
    expect_part(client, "CLUSTER SHARDS", "*3 *4 $5 slots *2 :10923 :16383 $5 nodes *2 ");
    expect_part(client, "CLUSTER SHARDS", "$6 health $4 fail ");
    expect_part(
        client, "CLUSTER INFO",
        "cluster_state:fail cluster_slots_assigned:16384 cluster_slots_ok:10923 "
        "cluster_slots_pfail:0 cluster_slots_fail:5461 cluster_known_nodes:3 cluster_size:2 "
        "cluster_current_epoch:42");
    expect(client, "CLUSTER MYID", "$40 " ID1 " ");
    expect_part(client, "INFO cluster",
                "cluster_node_id:" ID1 " cluster_nodes:3 cluster_nodes_online:2 "
                "cluster_slots_led:10932");
    expect_part(client, "INFO replication",
                "connected_slaves:2 slave0:ip=10.0.0.2,port=6379,state=online,offset=0,lag=0 "
                "slave1:ip=fd00::3,port=6380,state=wait_bgsave,offset=5,lag=0");
    end(world, client);
}

/* Claim: only who asked for the map, or spoke as clients of a cluster do, is ever redirected, and
 * only for keys that are all in one slot of another leader. */
static void test_moved(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(true, &client);
    static const char *const asks[] = {"CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER NODES",
                                       "READWRITE", "ASKING"};
    /* "foo" is slot 12182, "bar" 5061, "{x2}" 6113. */
    expect(client, "CLUSTER KEYSLOT {x2}a", ":6113 ");
    for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
        expect(client, "SET {x2}a v", "+OK ");
        (void)ask(client, asks[i]);
        expect(client, "SET {x2}a v", "-MOVED 6113 10.0.0.2:6379 ");
        expect(client, "GET {x2}b", "-MOVED 6113 10.0.0.2:6379 ");
        expect(client, "WATCH {x2}b", "-MOVED 6113 10.0.0.2:6379 ");
        expect(client, "SET bar v", "+OK ");
        expect(client, "SET foo v", "+OK ");
        expect(client, "PING", "+PONG ");
        expect(client, "RESET", "+RESET ");
    }
    (void)ask(client, "CLUSTER INFO");
    (void)ask(client, "CLUSTER KEYSLOT a");
    expect(client, "SET {x2}a v", "+OK ");
    world_set_cluster(world, false);
    (void)ask(client, "CLUSTER SLOTS");
    expect(client, "SET {x2}a v", "+OK ");
    end(world, client);
}

/* Claim: several keys are redirected when they are together, and are served here otherwise. */
static void test_moved_several_keys(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(true, &client);
    (void)ask(client, "CLUSTER SLOTS");
    expect(client, "MSET {x2}a 1 {x2}b 2", "-MOVED 6113 10.0.0.2:6379 ");
    expect(client, "DEL {x2}a {x2}b", "-MOVED 6113 10.0.0.2:6379 ");
    expect(client, "DEL {x2}a bar", "+transaction ");
    expect(client, "DEL bar {x2}a", "+transaction ");
    expect(client, "MSET {x2}a 1 bar 2", "+transaction ");
    expect(client, "FLUSHALL", "+transaction ");
    end(world, client);
}

/* Claim: a transaction with a command that belongs elsewhere does nothing. */
static void test_moved_in_multi(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(true, &client);
    (void)ask(client, "CLUSTER SLOTS");
    expect(client, "MULTI", "+OK ");
    expect(client, "SET bar v", "+QUEUED ");
    expect(client, "SET {x2}a v", "-MOVED 6113 10.0.0.2:6379 ");
    expect(client, "EXEC", "-EXECABORT Transaction discarded because of previous errors. ");
    expect(client, "MULTI", "+OK ");
    expect(client, "CLUSTER COUNTKEYSINSLOT 1", "-ERR Command not allowed inside a transaction ");
    expect(client, "DISCARD", "+OK ");
    end(world, client);
}

/* Claim: READONLY lets reads, and nothing else, be answered by any replica, here; until READWRITE or
 * RESET. */
static void test_readonly(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(true, &client);
    expect(client, "GET bar", "$-1 ");
    assert_int_equal(world_stale_count(world), 0);
    expect(client, "READONLY", "+OK ");
    expect(client, "GET {x2}b", "$-1 ");
    assert_int_equal(world_stale_count(world), 1);
    expect_part(client, "CLIENT INFO", " flags=r ");
    expect(client, "SET bar v", "+OK ");
    expect(client, "SET {x2}b v", "-MOVED 6113 10.0.0.2:6379 ");
    assert_int_equal(world_stale_count(world), 1);
    expect(client, "READWRITE", "+OK ");
    expect(client, "GET {x2}b", "-MOVED 6113 10.0.0.2:6379 ");
    expect(client, "GET bar", "$1 v ");
    assert_int_equal(world_stale_count(world), 1);
    expect(client, "READONLY", "+OK ");
    expect(client, "RESET", "+RESET ");
    expect(client, "GET bar", "$1 v ");
    assert_int_equal(world_stale_count(world), 1);
    end(world, client);
}

/* Claim: the keys of a slot are asked of the shard, and what changes a cluster of Redis is not for
 * clients. */
static void test_subcommands(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(false, &client);
    expect(client, "CLUSTER KEYSLOT foo", ":12182 ");
    expect(client, "CLUSTER KEYSLOT {foo}bar", ":12182 ");
    expect(client, "CLUSTER COUNTKEYSINSLOT 12182", ":77 ");
    expect(client, "CLUSTER GETKEYSINSLOT 12182 5", "*1 $1 5 ");
    expect(client, "CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot ");
    expect(client, "CLUSTER COUNTKEYSINSLOT x", "-ERR value is not an integer or out of range ");
    expect(client, "CLUSTER GETKEYSINSLOT x -1", "-ERR value is not an integer or out of range ");
    expect(client, "CLUSTER GETKEYSINSLOT -1 x", "-ERR value is not an integer or out of range ");
    expect(client, "CLUSTER GETKEYSINSLOT 1 -1", "-ERR Invalid slot or number of keys ");
    expect(client, "CLUSTER GETKEYSINSLOT -1 1", "-ERR Invalid slot or number of keys ");
    expect(client, "CLUSTER KEYSLOT",
           "-ERR wrong number of arguments for 'cluster|keyslot' command ");
    expect(client, "CLUSTER LINKS", "*0 ");
    expect(client, "CLUSTER FOO", "-ERR unknown subcommand 'FOO'. Try CLUSTER HELP. ");
    expect_part(client, "CLUSTER MEET 10.0.0.1 6379", "-ERR this cluster keeps itself in order");
    expect_part(client, "CLUSTER FAILOVER", "-ERR this cluster keeps itself in order");
    expect(client, "CLUSTER FORGET",
           "-ERR wrong number of arguments for 'cluster|forget' command ");
    expect_part(client, "CLUSTER RESET HARD", "-ERR this cluster keeps itself in order");
    expect_part(client, "CLUSTER HELP", "KEYSLOT");
    expect(client, "READONLY x", "-ERR wrong number of arguments for 'readonly' command ");
    expect(client, "CONFIG GET cluster-enabled", "*2 $15 cluster-enabled $3 yes ");
    end(world, client);
}

/* Claim: RESP3 has maps and verbatim text, as Redis does. */
static void test_resp3(void **state)
{
    (void)state;
    int client;
    struct world *world = begin(true, &client);
    (void)ask(client, "HELLO 3");
    expect_part(client, "CLUSTER SHARDS", " %2 $5 slots *2 :0 :5470 $5 nodes *3 %7 $2 id ");
    const char *nodes = ask(client, "CLUSTER NODES");
    assert_int_equal(nodes[0], '=');
    assert_non_null(strstr(nodes, "txt:" ID1));
    end(world, client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),          cmocka_unit_test(test_three_nodes),
        cmocka_unit_test(test_moved),          cmocka_unit_test(test_moved_several_keys),
        cmocka_unit_test(test_moved_in_multi), cmocka_unit_test(test_readonly),
        cmocka_unit_test(test_subcommands),    cmocka_unit_test(test_resp3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
