/* SPDX-License-Identifier: Apache-2.0 */
/* What replicas keep in memory of what everybody has: heads of rows where nobody asks, and few
 * entries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_group.h"
#include "core/shard/shard_internal.h"

enum {
    VALUE_SIZE = 60000,
    HEADS_MS = 11000,                  /* Until what is written is in the store, and short. */
    ENTRY_COUNT = 16,                  /* Less than the limit: a world cannot send from the log. */
    RECENT_SIZE_BYTES = 1 << 20,       /* As the worlds have it. */
    KNOWN_SIZE_BYTES = 64 << 10,       /* A sixteenth. */
    ROUND_SIZE_BYTES = VALUE_SIZE * 2, /* The entry that comes next. */
};

static char value[VALUE_SIZE + 1];

static struct shard__group ready_group(void)
{
    memset(value, 'v', VALUE_SIZE);
    struct shard__group group = shard__group_create(1);
    for (uint32_t i = 0; i < 10 && shard__group_leader(&group) == NULL; i++) {
        shard__group_run(&group, 1000);
    }
    assert_non_null(shard__group_leader(&group));
    return group;
}

static uint64_t rows_size_bytes(const struct shard__world *world)
{
    struct shard_statistics statistics;
    shard_get_statistics(world->shard, &statistics);
    return statistics.rows.cached_size_bytes;
}

static void elect_another(struct shard__group *group)
{
    uint32_t old = shard__group_leader(group)->self - 1;
    group->is_cut_off[old] = true;
    for (uint32_t i = 0; i < 20; i++) {
        shard__group_run(group, 1000);
        if (shard__group_leader(group) != NULL && shard__group_leader(group)->self - 1 != old) {
            break;
        }
    }
    group->is_cut_off[old] = false;
    assert_int_not_equal(shard__group_leader(group)->self - 1, old);
}

/* A follower keeps the head of a long row once the store has it, the leader all of it; whoever it is, a
 * command that wants the value gets it; and who begins to lead keeps whole rows again. */
static void test_followers_keep_heads(void **state)
{
    (void)state;
    struct shard__group group = ready_group();
    shard__group_put(&group, "k", value);
    shard__group_run(&group, HEADS_MS);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        struct shard__world *world = group.worlds[i];
        bool is_leader = world == shard__group_leader(&group);
        assert_in_range(rows_size_bytes(world), is_leader ? VALUE_SIZE : 1,
                        is_leader ? VALUE_SIZE + 1000 : 1000);
    }
    elect_another(&group);
    struct shard__client client;
    struct shard_session session;
    shard_session_init(&session);
    struct shard__world *leader = shard__group_leader(&group);
    assert_int_equal(shard__world_submit(leader, &client, &session, OPCODE_APPEND, "k", "."),
                     SHARD_PENDING);
    shard__group_run(&group, 100);
    shard__world_expect(&client, ":60001\r\n");
    shard__group_run(&group, HEADS_MS);
    struct buffer longer = {0};
    buffer_append(&longer, bytes_make(value, VALUE_SIZE));
    buffer_append_byte(&longer, '.');
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        shard__group_expect_row(group.worlds[i], BYTES("k"), buffer_bytes(&longer));
        assert_int_equal(group.worlds[i]->shard->digest, leader->shard->digest);
    }
    assert_in_range(rows_size_bytes(leader), VALUE_SIZE, VALUE_SIZE + 1000);
    buffer_deinit(&longer);
    shard__group_destroy(&group);
}

/* Where a host has many shards, each shortens few rows at a time, and seldom: together they do as much as one. */
static void test_many_shards_take_turns(void **state)
{
    (void)state;
    enum { ROW_COUNT = 200, SHORT_SIZE_BYTES = ROW_COUNT * 200 };
    static char small[301];
    memset(small, 'v', sizeof small - 1);
    struct shard__group group = ready_group();
    static struct shard__client clients[ROW_COUNT];
    struct shard_session session;
    shard_session_init(&session);
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        static char keys[ROW_COUNT][8]; /* Borrowed. */
        char *key = keys[i];
        (void)snprintf(key, sizeof keys[0], "k%03u", i);
        assert_int_equal(shard__world_submit(shard__group_leader(&group), &clients[i], &session,
                                             OPCODE_SET, key, small),
                         SHARD_PENDING);
    }
    shard__group_run(&group, HEADS_MS);
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        shard__world_expect(&clients[i], "+OK\r\n");
    }
    struct shard__world *old = shard__group_leader(&group);
    struct shard_account account = {.shard_count = 1000};
    old->shard->options.account = &account;
    elect_another(&group);
    uint64_t whole_size_bytes = rows_size_bytes(old);
    uint32_t whole_ms = 0;
    uint32_t partly_ms = 0;
    while (rows_size_bytes(old) > SHORT_SIZE_BYTES && whole_ms + partly_ms < 20000) {
        shard__group_run(&group, 1);
        whole_ms += rows_size_bytes(old) == whole_size_bytes;
        partly_ms += rows_size_bytes(old) != whole_size_bytes;
    }
    assert_in_range(partly_ms, 2 * 155,
                    4 * 155); /* 64 rows every 155 ms; not all have to be short. */
    shard__group_destroy(&group);
}

static void put_many(struct shard__group *group)
{
    for (uint32_t i = 0; i < ENTRY_COUNT; i++) {
        shard__group_put(group, "k", value);
    }
}

/* Entries that all have are not kept for long by anybody; those that a member has not got are by the
 * leader, until the member has them. */
static void test_entries_are_kept_for_who_lacks_them(void **state)
{
    (void)state;
    struct shard__group group = ready_group();
    put_many(&group);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        assert_in_range(group.worlds[i]->shard->log.size_bytes, 0,
                        KNOWN_SIZE_BYTES + ROUND_SIZE_BYTES);
    }
    struct shard__world *leader = shard__group_leader(&group);
    uint32_t lacking = leader->self % SHARD__GROUP_COUNT; /* The next one. */
    uint32_t other = (lacking + 1) % SHARD__GROUP_COUNT;
    group.is_cut_off[lacking] = true;
    put_many(&group);
    assert_ptr_equal(leader, shard__group_leader(&group));
    assert_in_range(leader->shard->log.size_bytes, ENTRY_COUNT * VALUE_SIZE, RECENT_SIZE_BYTES);
    assert_in_range(group.worlds[other]->shard->log.size_bytes, 0,
                    KNOWN_SIZE_BYTES + ROUND_SIZE_BYTES);
    group.is_cut_off[lacking] = false;
    shard__group_run(&group, 3000);
    shard__group_put(&group, "k", "short");
    shard__group_run(&group, 1000);
    shard__group_put(&group, "k", "short");
    shard__group_run(&group, 1000);
    leader = shard__group_leader(&group);
    assert_int_equal(group.worlds[lacking]->shard->applied_index, leader->shard->applied_index);
    assert_in_range(leader->shard->log.size_bytes, 0, KNOWN_SIZE_BYTES);
    shard__group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_followers_keep_heads),
        cmocka_unit_test(test_many_shards_take_turns),
        cmocka_unit_test(test_entries_are_kept_for_who_lacks_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
