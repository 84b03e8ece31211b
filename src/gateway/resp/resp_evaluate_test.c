/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a transaction that is evaluated goes by one map, whatever becomes of the map meanwhile; it is
 * tried again as often as it has to be, and answered once; who waits has it copied by nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "gateway/resp/resp_world.h"

enum { SHARD_COUNT = 16, MEBIBYTE = 1024 * 1024, VALUE_COUNT = 63 };

#define LOST "-UNKNOWN the transaction is committed, its replies were lost\r\n"

static uint8_t value[MEBIBYTE];

/* A transaction of other shards that takes nearly all the room that the coordinator has. */
static void send_large(int client)
{
    struct buffer request = {0};
    struct reply reply = {.target = &request, .protocol = 2};
    char key[32];
    reply_array(&reply, 1 + 2 * VALUE_COUNT);
    reply_bulk(&reply, BYTES("mset"));
    for (int i = 0; i < VALUE_COUNT; i++) {
        (void)snprintf(key, sizeof key, i == 0 ? "d" : "{c}%d", i); /* Of shards 12 and 8. */
        reply_bulk(&reply, bytes_of_text(key));
        reply_bulk(&reply, bytes_make(value, sizeof value));
    }
    world_send(client, buffer_bytes(&request));
    buffer_deinit(&request);
}

static void set_large(int client, const char *key)
{
    struct buffer request = {0};
    struct reply reply = {.target = &request, .protocol = 2};
    reply_array(&reply, 3);
    reply_bulk(&reply, BYTES("set"));
    reply_bulk(&reply, bytes_of_text(key));
    reply_bulk(&reply, bytes_make(value, sizeof value));
    world_send(client, buffer_bytes(&request));
    WORLD_EXPECT_REPLY(client, "+OK\r\n");
    buffer_deinit(&request);
}

static void queue_and_execute(int client, const char *commands, const char *queued)
{
    WORLD_EXPECT(client, "multi\r\n", "+OK\r\n");
    WORLD_EXPECT(client, commands, queued);
    world_send(client, BYTES("exec\r\n"));
}

/* It is planned and finds no room, and then its shard becomes two: what was one part is not any more. */
static void test_a_split_before_it_begins(void **state)
{
    (void)state;
    struct world_options options = {.shard_count = SHARD_COUNT};
    struct world *world = world_create(&options);
    int client = world_connect(world);
    int other = world_connect(world);
    set_large(client, "a");
    world_set_holding(world, true);
    send_large(other);
    world_wait_for_pending(world, 1);
    queue_and_execute(client, "copy a b\r\nset x23 1\r\nset x2 1\r\n",
                      "+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    os_sleep_ms(100);
    world_split(world, 5632); /* Slot 5230 is that of x23, and 6113 of x2. */
    world_set_holding(world, false);
    WORLD_EXPECT(other, "", LOST);
    WORLD_EXPECT(client, "", LOST);
    (void)close(other);
    (void)close(client);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_split_before_it_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
