/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: what the commands of an entry load of values is no more than a batch of the store has, or it is one
 * command; whether the leader found the values in memory or a worker did. Their order is that of their
 * submission, and commands that load little share entries as ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_world.h"

enum { COUNT = 5, LARGE_SIZE = 4000, HUGE_SIZE = 50000, BATCH_SIZE = 10000 };

static const char *const keys[COUNT] = {"a", "b", "c", "d", "e"};

/* A world with such values, of which the store has all, and nothing else has any. */
static struct shard__world *begin(const uint32_t sizes[COUNT])
{
    struct shard__world *world = shard__world_create();
    char *value = memory_allocate(HUGE_SIZE + 1);
    struct shard_session session;
    shard_session_init(&session);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct shard__client set;
        memset(value, 'v', sizes[i]);
        value[sizes[i]] = '\0';
        (void)shard__world_submit(world, &set, &session, OPCODE_SET, keys[i], value);
        shard__world_settle(world);
        shard__world_expect(&set, "+OK\r\n");
    }
    memory_free(value);
    memstore_flush(world->memstore);
    shard_close(world->shard);
    shard__world_start(world, true);
    shard__world_settle(world);
    world->shard->options.store_size_bytes = BATCH_SIZE;
    return world;
}

/* Each entry waits for the batch before its own. */
static void settle(struct shard__world *world)
{
    for (uint32_t i = 0; i < 2 * COUNT; i++) {
        shard__world_settle(world);
        shard__world_tick(world);
    }
}

static void append_to_each(struct shard__world *world, struct shard__client clients[COUNT],
                           struct shard_session sessions[COUNT])
{
    for (uint32_t i = 0; i < COUNT; i++) {
        shard_session_init(&sessions[i]);
        assert_int_equal(
            shard__world_submit(world, &clients[i], &sessions[i], OPCODE_APPEND, keys[i], "."),
            SHARD_PENDING);
    }
}

static void expect_lengths(struct shard__client clients[COUNT], const uint32_t sizes[COUNT])
{
    for (uint32_t i = 0; i < COUNT; i++) {
        char answer[16];
        (void)snprintf(answer, sizeof answer, ":%u\r\n", sizes[i] + 1);
        shard__world_expect(&clients[i], answer);
    }
}

/* A worker finds what all of them need; the others are busy. */
static void read_elsewhere(struct shard__world *world)
{
    world->shard->reads_elsewhere = SHARD_READS_ELSEWHERE_MAX - 1;
    (void)shard_tick(world->shard);
    struct shard_read *read = world->read;
    assert_non_null(read);
    assert_int_equal(read->item_count, COUNT);
    world->read = NULL;
    shard_read_run(read);
    shard_read_done(read);
    world->shard->reads_elsewhere = 0;
}

/* How many entries one command for each of the keys takes. */
static uint64_t entries_for(const uint32_t sizes[COUNT], bool is_cold)
{
    struct shard__client clients[COUNT];
    struct shard_session sessions[COUNT];
    struct shard__world *world = begin(sizes);
    raft_index before = world->last_index;
    memstore_set_faults(world->memstore,
                        (struct memstore_faults){.incomplete_percent = is_cold ? 100 : 0});
    append_to_each(world, clients, sessions);
    if (is_cold) {
        assert_int_equal(world->shard->open->command_count, 0);
        read_elsewhere(world);
    }
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    settle(world);
    expect_lengths(clients, sizes);
    raft_index after = world->last_index;
    shard__world_destroy(world);
    return after - before;
}

static void test_entries_load_no_more_than_a_batch(void **state)
{
    (void)state;
    for (int is_cold = 0; is_cold <= 1; is_cold++) {
        const uint32_t small[COUNT] = {1, 2, 3, 4, 5};
        const uint32_t large[COUNT] = {LARGE_SIZE, LARGE_SIZE, LARGE_SIZE, LARGE_SIZE, LARGE_SIZE};
        const uint32_t huge[COUNT] = {1, HUGE_SIZE, HUGE_SIZE, 1, 1};
        assert_int_equal(entries_for(small, is_cold), 1);
        assert_int_equal(entries_for(large, is_cold), 3); /* Two, two, one. */
        assert_int_equal(entries_for(huge, is_cold), 4);  /* Each huge one is alone. */
    }
}

/* What comes behind a large command in its session takes effect behind it, and answers in that order. */
static void test_the_order_of_a_session_stays(void **state)
{
    (void)state;
    const uint32_t sizes[COUNT] = {HUGE_SIZE, HUGE_SIZE, 1, 1, 1};
    struct shard__client clients[6];
    struct shard_session session;
    struct shard__world *world = begin(sizes);
    const uint16_t opcodes[6] = {OPCODE_SET,    OPCODE_APPEND, OPCODE_APPEND,
                                 OPCODE_APPEND, OPCODE_APPEND, OPCODE_GET};
    const char *const named[6] = {"c", "a", "b", "c", "a", "c"};
    raft_index before = world->last_index;
    shard_session_init(&session);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(
            shard__world_submit(world, &clients[i], &session, opcodes[i], named[i], "x"),
            SHARD_PENDING);
    }
    settle(world);
    assert_int_equal(world->last_index - before, 5); /* The last two commands share one. */
    shard__world_expect(&clients[0], "+OK\r\n");
    shard__world_expect(&clients[1], ":50001\r\n");
    shard__world_expect(&clients[2], ":50001\r\n");
    shard__world_expect(&clients[3], ":2\r\n");
    shard__world_expect(&clients[4], ":50002\r\n");
    shard__world_expect(&clients[5], "$2\r\nxx\r\n");
    assert_int_equal(session.pending_count, 0);
    shard__world_destroy(world);
}

/* Workers find what is needed, for one command after the other. */
static void settle_and_read(struct shard__world *world)
{
    settle(world);
    while (world->read != NULL) {
        struct shard_read *read = world->read;
        world->read = NULL;
        shard_read_run(read);
        shard_read_done(read);
        settle(world);
    }
}

/* What would load too much becomes another command, in its place in the order of its session. */
static void expect_replacement(bool is_cold)
{
    const uint32_t sizes[COUNT] = {HUGE_SIZE, LARGE_SIZE, 1, 1, 1};
    struct shard__client clients[4];
    struct shard_session session;
    struct shard__world *world = begin(sizes);
    world->load_size_bytes = LARGE_SIZE;
    memstore_set_faults(world->memstore,
                        (struct memstore_faults){.incomplete_percent = is_cold ? 100 : 0});
    const uint16_t opcodes[4] = {OPCODE_APPEND, OPCODE_APPEND, OPCODE_APPEND, OPCODE_GET};
    const char *const named[4] = {"b", "a", "c", "c"};
    shard_session_init(&session);
    for (uint32_t i = 0; i < 4; i++) {
        (void)shard__world_submit(world, &clients[i], &session, opcodes[i], named[i], "x");
    }
    settle_and_read(world);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    shard__world_expect(&clients[0], ":4001\r\n");
    shard__world_expect(&clients[1], "$-1\r\n");
    shard__world_expect(&clients[2], ":2\r\n");
    shard__world_expect(&clients[3], "$2\r\nvx\r\n");
    assert_int_equal(session.pending_count, 0);
    world->load_size_bytes = 0;
    (void)shard__world_submit(world, &clients[0], &session, OPCODE_APPEND, "a", "x");
    settle(world);
    shard__world_expect(&clients[0], ":50001\r\n");
    shard__world_destroy(world);
}

static void test_what_loads_too_much_is_replaced(void **state)
{
    (void)state;
    expect_replacement(false);
    expect_replacement(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_load_no_more_than_a_batch),
        cmocka_unit_test(test_the_order_of_a_session_stays),
        cmocka_unit_test(test_what_loads_too_much_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
