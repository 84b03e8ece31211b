/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a transaction that is evaluated goes by one map, whatever becomes of the map meanwhile; it is
 * tried again as often as it has to be, and answered once; what it holds is charged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "gateway/resp/resp_world.h"

enum { SHARD_COUNT = 16, MEBIBYTE = 1024 * 1024, VALUE_COUNT = 63, WAIT_MS_MAX = 30000 };

#define LOST "-UNKNOWN the transaction is committed, its replies were lost\r\n"

static uint8_t value[MEBIBYTE];

/* A transaction of other shards that takes nearly all the room that the coordinator has. */
static void send_large(int client, const char *tag)
{
    struct buffer request = {0};
    struct reply reply = {.target = &request, .protocol = 2};
    char key[32];
    reply_array(&reply, 1 + 2 * VALUE_COUNT);
    reply_bulk(&reply, BYTES("mset"));
    for (int i = 0; i < VALUE_COUNT; i++) {
        (void)snprintf(key, sizeof key, "{%s}%d", i == 0 ? "c" : tag, i); /* c: of shard 8. */
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
    send_large(other, "d");
    world_wait_for_pending(world, 1);
    queue_and_execute(client, "copy a b\r\nset x23 1\r\nset x2 1\r\n",
                      "+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    os_sleep_ms(100);
    world_split(world, 5632); /* Slot 5230 is that of x23, and 6113 of x2. */
    world_set_holding(world, false);
    WORLD_EXPECT(other, "", "+OK\r\n");
    WORLD_EXPECT(client, "", LOST);
    (void)close(other);
    (void)close(client);
    world_destroy(world);
}

/* A read that was refused waits for the tick when the other one is answered, and what was planned waits,
 * too: nobody falls out of the list of those who wait. */
static void test_no_room_while_a_read_waits(void **state)
{
    (void)state;
    struct world_options options = {.shard_count = SHARD_COUNT};
    struct world *world = world_create(&options);
    int clients[] = {world_connect(world), world_connect(world)};
    int other = world_connect(world);
    set_large(other, "a");
    world_hold_shard(world, 4); /* That of b. */
    send_large(other, "b");
    world_wait_for_pending(world, 1);
    world_set_reading_late(world, true);
    world_set_holding(world, true);
    queue_and_execute(clients[0], "copy a b\r\n", "+QUEUED\r\n");
    world_wait_for_pending(world, 2);
    queue_and_execute(clients[1], "copy a d\r\n", "+QUEUED\r\n");
    world_wait_for_pending(world, 3);
    os_sleep_ms(50);
    world_set_reading_late(world, false);
    world_split_unseen(world, 15400); /* The shard of a, */
    world_split_unseen(world, 11270); /* and that of d. */
    world_set_holding(world, false);
    world_wait_for_moved(world, 6);
    os_sleep_ms(20); /* Both wait with reads that were refused, */
    world_split_after(world, 16000, 1);
    world_hold_shard(world, 0); /* and the first could do it when b comes, with the new map. */
    WORLD_EXPECT(other, "", "+OK\r\n");
    for (int i = 0; i < 2; i++) {
        WORLD_EXPECT(clients[i], "", LOST);
        (void)close(clients[i]);
    }
    (void)close(other);
    world_destroy(world);
}

/* Its answers are held until it is committed, and charged. */
static void test_answers_are_charged(void **state)
{
    (void)state;
    struct world_options options = {.shard_count = SHARD_COUNT};
    struct world *world = world_create(&options);
    struct resp_statistics statistics;
    int client = world_connect(world);
    set_large(client, "a");
    world_hold_shard(world, 4);
    queue_and_execute(client, "copy a b\r\nget a\r\nget a\r\nget a\r\n",
                      "+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    world_wait_for_pending(world, 1);
    for (int waited_ms = 0; waited_ms < WAIT_MS_MAX; waited_ms += 5) {
        resp_group_get_statistics(world_group(world), &statistics);
        if (statistics.buffer_bytes >= 4 * MEBIBYTE) {
            break;
        }
        os_sleep_ms(5);
    }
    assert_in_range(statistics.buffer_bytes, 4 * MEBIBYTE, 8 * MEBIBYTE);
    world_hold_shard(world, 0);
    WORLD_EXPECT(client, "", LOST);
    (void)close(client);
    world_destroy(world);
}

/* What counts is what the keys have, not the room that it was read into. */
static void test_as_much_as_may_be_read(void **state)
{
    (void)state;
    static const char *const keys[] = {"a", "b", "c", "d"};
    struct world_options options = {.shard_count = SHARD_COUNT};
    struct world *world = world_create(&options);
    int client = world_connect(world);
    for (int i = 0; i < 4; i++) {
        set_large(client, keys[i]);
    }
    for (int is_late = 0; is_late < 2; is_late++) {
        world_set_reading_late(world, is_late == 1);
        queue_and_execute(client, "renamenx a b\r\nrenamenx c d\r\nstrlen b\r\nstrlen d\r\n",
                          "+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
        WORLD_EXPECT(client, "", LOST);
    }
    (void)close(client);
    world_destroy(world);
}

/* It is cut as it is evaluated: nothing is taken for a newer map. */
static void test_a_command_that_names_no_key(void **state)
{
    (void)state;
    struct world_options options = {.shard_count = SHARD_COUNT};
    struct world *world = world_create(&options);
    int client = world_connect(world);
    set_large(client, "a");
    queue_and_execute(client, "copy a b\r\nobject help\r\nobject foo\r\n",
                      "+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    WORLD_EXPECT(client, "", LOST);
    queue_and_execute(client, "get a{b}\r\nobject foo\r\nget b{a}\r\n",
                      "+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    WORLD_EXPECT(client, "", LOST);
    (void)close(client);
    world_destroy(world);
}

/* A read of which nobody knows how it ended changed nothing. */
static void test_a_read_without_an_answer(void **state)
{
    (void)state;
    struct world_options options = {.shard_count = SHARD_COUNT};
    struct world *world = world_create(&options);
    int client = world_connect(world);
    world_fail(world, ERROR_OUTCOME_UNKNOWN, 1);
    queue_and_execute(client, "copy a b\r\n", "+QUEUED\r\n");
    WORLD_EXPECT(client, "",
                 "-EXECABORT Transaction discarded because of: TRYAGAIN what the keys have was not "
                 "answered, nothing was changed\r\n");
    (void)close(client);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_split_before_it_begins),
        cmocka_unit_test(test_no_room_while_a_read_waits),
        cmocka_unit_test(test_answers_are_charged),
        cmocka_unit_test(test_as_much_as_may_be_read),
        cmocka_unit_test(test_a_command_that_names_no_key),
        cmocka_unit_test(test_a_read_without_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
