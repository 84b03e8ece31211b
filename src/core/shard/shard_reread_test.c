/* SPDX-License-Identifier: Apache-2.0 */
/* Entries that wait to be applied leave memory, and are read from the log when it is their turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/shard/shard_group.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_test_log.h"

enum {
    VALUE_SIZE_BYTES = 10000,
    VALUE_COUNT = 20,
    WAITING_SIZE_BYTES = 3 * VALUE_SIZE_BYTES,
};

static char values[VALUE_COUNT][VALUE_SIZE_BYTES];

/* What waits for the store is more than the limit. */
static struct shard__group stalled_group(struct shard__world **late)
{
    struct shard__group group = shard__group_create(1);
    shard__group_run(&group, 2000);
    struct shard__world *world = shard__group_follower(&group);
    shard__world_stop(world);
    world->waiting_size_bytes = WAITING_SIZE_BYTES;
    shard__world_start(world, true);
    shard__group_run(&group, 2000);
    assert_true(world != shard__group_leader(&group));
    memstore_set_faults(world->memstore, (struct memstore_faults){.busy_percent = 100});
    *late = world;
    return group;
}

static void put_many(struct shard__group *group)
{
    for (uint32_t i = 0; i < VALUE_COUNT; i++) {
        (void)memset(values[i], 'a' + (int)i, VALUE_SIZE_BYTES - 1);
        shard__group_put(group, "k", values[i]);
    }
    shard__group_run(group, 200);
}

static void go_on(struct shard__world *world)
{
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
}

/* Read what is asked for. `other_term`: the log has all of it with terms so much later. */
static uint32_t read_back(struct shard__world *world, raft_term other_term, bool is_damaged)
{
    uint32_t count = world->log_read_count;
    if (count == 0) {
        return 0;
    }
    struct fake_disk *disk = fake_create(1);
    struct wal *wal = shard__test_log(world, disk, other_term);
    if (is_damaged) {
        size_t size_bytes = 0;
        uint8_t *bytes = fake_bytes(disk, "0000000000000001.wal", &size_bytes);
        assert_non_null(bytes);
        for (size_t i = 8192; i < size_bytes; i += VALUE_SIZE_BYTES / 2) {
            bytes[i] ^= 1;
        }
    }
    world->log_read_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        shard_log_read_run(world->log_reads[i], wal);
        shard_log_read_done(world->log_reads[i]);
    }
    wal_close(wal);
    fake_destroy(disk);
    return count;
}

static void expect_caught_up(struct shard__group *group, struct shard__world *late)
{
    struct shard__world *leader = shard__group_leader(group);
    for (uint32_t i = 0; i < 1000; i++) {
        shard__group_run(group, 1);
        (void)read_back(late, 0, false);
    }
    assert_int_equal(late->failed_status, 0);
    assert_int_equal(late->shard->applied_index, leader->shard->applied_index);
    assert_int_equal(late->shard->digest, leader->shard->digest);
    shard__group_run(group, 100);
    shard__group_expect_row(late, BYTES("k"), bytes_of_text(values[VALUE_COUNT - 1]));
}

/* However much comes, so much of it is in memory; all of it is applied when that can go on. */
static void test_what_waits_leaves_memory(void **state)
{
    (void)state;
    struct shard__world *late = NULL;
    struct shard__group group = stalled_group(&late);
    raft_index applied_index = late->shard->applied_index;
    put_many(&group);
    raft_index last_index = raft_last_index(late->shard->raft);
    assert_in_range(late->shard->applied_index, applied_index, applied_index + 2);
    assert_in_range(last_index, applied_index + VALUE_COUNT, UINT64_MAX);
    assert_in_range(late->shard->log.size_bytes, VALUE_SIZE_BYTES,
                    WAITING_SIZE_BYTES + VALUE_SIZE_BYTES);
    assert_in_range(late->shard->in_flight_size_bytes, 0, WAITING_SIZE_BYTES);
    assert_int_equal(late->log_read_count, 0);
    go_on(late);
    expect_caught_up(&group, late);
    struct shard_statistics statistics;
    shard_get_statistics(late->shard, &statistics);
    assert_in_range(statistics.reread_count, VALUE_COUNT - 8, VALUE_COUNT);
    assert_int_equal(late->shard->in_flight_size_bytes, 0);
    assert_int_equal(late->shard->in_flight_count, 0);
    shard__group_destroy(&group);
}

/* A leader may still have it truncated. */
static void test_what_is_not_committed_stays(void **state)
{
    (void)state;
    struct shard__world *late = NULL;
    struct shard__group group = stalled_group(&late);
    late->shard->options.waiting_size_bytes_max = 1;
    put_many(&group);
    assert_int_equal(late->shard->log.count, 1);
    struct shard__world *leader = shard__group_leader(&group);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        group.is_cut_off[i] = group.worlds[i] != leader && group.worlds[i] != late;
    }
    struct shard__client clients[3];
    struct shard_session session;
    shard_session_init(&session);
    for (uint32_t i = 0; i < 3; i++) { /* Each is sent, and what is sent back is lost. */
        assert_int_equal(
            shard__world_submit(leader, &clients[i], &session, OPCODE_SET, "l", values[0]),
            SHARD_PENDING);
        (void)shard_tick(leader->shard);
        shard_persisted(leader->shard, leader->persisting_sequence);
    }
    for (uint32_t i = 0; i < leader->sent_count; i++) {
        if (leader->sent[i].to == late->self) {
            shard_receive(late->shard, leader->self, buffer_bytes(&leader->sent[i].bytes));
        }
    }
    group.is_cut_off[late->self - 1] = true;
    group.is_cut_off[leader->self - 1] = true;
    raft_index last_index = raft_last_index(late->shard->raft);
    assert_true(last_index > late->shard->commit_index);
    shard__group_run(&group, 50);
    for (raft_index i = late->shard->commit_index + 1; i <= last_index; i++) {
        assert_non_null(shard__log_at(late->shard, i));
    }
    assert_null(shard__log_at(late->shard, late->shard->commit_index));
    memset(group.is_cut_off, 0, sizeof group.is_cut_off);
    go_on(late);
    for (uint32_t i = 0; i < 3000; i++) {
        shard__group_run(&group, 1);
        (void)read_back(late, 0, false);
    }
    assert_int_equal(late->shard->digest, shard__group_leader(&group)->shard->digest);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(clients[i].answer_count, 1);
        buffer_deinit(&clients[i].answer);
    }
    shard__group_destroy(&group);
}

/* A snapshot comes while a read is on its way: it takes the place of all that was to be read. */
static void test_a_snapshot_is_newer_than_what_is_read(void **state)
{
    (void)state;
    struct shard__world *late = NULL;
    struct shard__group group = stalled_group(&late);
    put_many(&group);
    go_on(late);
    shard__group_run(&group, 100);
    assert_int_equal(late->log_read_count, 1);
    group.is_cut_off[late->self - 1] = true;
    for (uint32_t i = 0; i < VALUE_COUNT / 2; i++) {
        shard__group_put(&group, "k", values[i]);
    }
    shard__group_put(&group, "k", values[VALUE_COUNT - 1]);
    shard__group_run(&group, 200);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) { /* They forget what they had in the log. */
        if (group.worlds[i] != late) {
            memstore_flush(group.worlds[i]->memstore);
            shard__world_stop(group.worlds[i]);
            shard__world_start(group.worlds[i], true);
        }
    }
    shard__group_run(&group, 2000);
    group.is_cut_off[late->self - 1] = false;
    for (uint32_t i = 0; i < 3000 && late->shard->statistics.snapshot_installed_count == 0; i++) {
        shard__group_run(&group, 1);
    }
    assert_int_equal(late->shard->statistics.snapshot_installed_count, 1);
    assert_int_equal(late->log_read_count, 1);
    expect_caught_up(&group, late);
    assert_int_equal(late->shard->statistics.reread_count, 0);
    shard__group_destroy(&group);
}

/* Whoever drives the log may have no time; it is asked again. */
static void test_a_read_may_be_refused(void **state)
{
    (void)state;
    struct shard__world *late = NULL;
    struct shard__group group = stalled_group(&late);
    put_many(&group);
    late->is_read_back_refused = true;
    go_on(late);
    shard__group_run(&group, 100);
    assert_int_equal(late->log_read_count, 0);
    assert_true(late->shard->applied_index < late->shard->commit_index);
    assert_int_equal(shard_settle(late->shard), 0); /* It can end like that. */
    uint64_t now_ms = late->wall_ms;
    assert_in_range(shard_tick(late->shard), now_ms + 1, now_ms + 10);
    late->is_read_back_refused = false;
    (void)shard_tick(late->shard);
    assert_int_equal(late->log_read_count, 1);
    expect_caught_up(&group, late);
    shard__group_destroy(&group);
}

static void expect_failure(raft_term other_term, bool is_damaged)
{
    struct shard__world *late = NULL;
    struct shard__group group = stalled_group(&late);
    put_many(&group);
    go_on(late);
    for (uint32_t i = 0; i < 100 && late->log_read_count == 0; i++) {
        shard__group_run(&group, 1);
    }
    assert_int_equal(read_back(late, other_term, is_damaged), 1);
    for (uint32_t i = 0; i < 100 && late->failed_status == 0; i++) {
        shard__group_run(&group, 1);
        (void)read_back(late, other_term, is_damaged);
    }
    assert_int_equal(late->failed_status, ERROR_CORRUPT);
    assert_true(late->shard->applied_index < late->shard->commit_index);
    shard__group_destroy(&group);
}

static void test_damage_is_told(void **state)
{
    (void)state;
    expect_failure(0, true);
}

/* What the log has at the index is another entry than the one that was let go of. */
static void test_another_entry_is_not_applied(void **state)
{
    (void)state;
    expect_failure(1, false);
}

/* The entry that waits for the store has clients that wait for its answers. */
static void test_a_deposed_leader_lets_go_too(void **state)
{
    (void)state;
    struct shard__group group = shard__group_create(1);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        shard__world_stop(group.worlds[i]);
        group.worlds[i]->waiting_size_bytes = WAITING_SIZE_BYTES;
        shard__world_start(group.worlds[i], true);
    }
    shard__group_run(&group, 2000);
    struct shard__world *late = shard__group_leader(&group);
    memstore_set_faults(late->memstore, (struct memstore_faults){.busy_percent = 100});
    struct shard__client clients[8];
    struct shard_session session;
    shard_session_init(&session);
    uint32_t count = 0;
    while (late->shard->stalled == NULL && count < 8) {
        enum shard_submitted submitted =
            shard__world_submit(late, &clients[count++], &session, OPCODE_SET, "l", "v");
        assert_int_equal(submitted, SHARD_PENDING);
        shard__group_run(&group, 5);
    }
    assert_non_null(late->shard->stalled);
    assert_int_equal(late->shard->stalled->answers.item_count, 1);
    group.is_cut_off[late->self - 1] = true;
    shard__group_run(&group, 3000);
    group.is_cut_off[late->self - 1] = false;
    shard__group_run(&group, 100);
    assert_true(late != shard__group_leader(&group));
    put_many(&group);
    assert_non_null(late->shard->stalled);
    assert_in_range(late->shard->log.size_bytes, 0, WAITING_SIZE_BYTES + VALUE_SIZE_BYTES);
    go_on(late);
    expect_caught_up(&group, late);
    assert_true(late->shard->statistics.reread_count > 0);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(clients[i].answer_count, 1);
        buffer_deinit(&clients[i].answer);
    }
    shard__group_destroy(&group);
}

static void wait_beside_others(uint64_t others_size_bytes, uint64_t least, uint64_t most)
{
    struct shard__world *late = NULL;
    struct shard__group group = stalled_group(&late);
    struct shard_account account = {.shard_count = 2, .in_flight_size_bytes = others_size_bytes};
    late->shard->options.account = &account;
    put_many(&group);
    for (uint32_t i = 0; i < 4; i++) {
        assert_in_range(account.in_flight_size_bytes, others_size_bytes + least,
                        others_size_bytes + most);
        shard__group_put(&group, "k", values[VALUE_COUNT - 1]);
        shard__group_run(&group, 200);
    }
    go_on(late);
    expect_caught_up(&group, late);
    assert_int_equal(account.in_flight_size_bytes, others_size_bytes);
    shard__group_destroy(&group);
}

/* The shards of a host have one limit. Each keeps its even part, whatever the others have. */
static void test_a_host_has_one_limit(void **state)
{
    (void)state;
    wait_beside_others(0, WAITING_SIZE_BYTES / 2 + 1, WAITING_SIZE_BYTES);
    wait_beside_others(WAITING_SIZE_BYTES, 1, WAITING_SIZE_BYTES / 2);
}

/* What is applied is kept for replicas that lag, however much the others have, where nothing is won by letting it go. */
static void test_what_is_applied_stays_where_nothing_waits(void **state)
{
    (void)state;
    struct shard__world *late = NULL;
    struct shard__group group = stalled_group(&late);
    struct shard_account account = {.shard_count = 10000,
                                    .in_flight_size_bytes = WAITING_SIZE_BYTES};
    go_on(late);
    shard__group_run(&group, 100);
    late->shard->options.account = &account;
    uint32_t before = late->shard->log.count;
    for (uint32_t i = 0; i < VALUE_COUNT; i++) {
        shard__group_put(&group, "k", "v");
    }
    assert_int_equal(late->shard->log.count, before + VALUE_COUNT);
    shard__group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_waits_leaves_memory),
        cmocka_unit_test(test_what_is_not_committed_stays),
        cmocka_unit_test(test_a_snapshot_is_newer_than_what_is_read),
        cmocka_unit_test(test_a_read_may_be_refused),
        cmocka_unit_test(test_damage_is_told),
        cmocka_unit_test(test_another_entry_is_not_applied),
        cmocka_unit_test(test_a_deposed_leader_lets_go_too),
        cmocka_unit_test(test_a_host_has_one_limit),
        cmocka_unit_test(test_what_is_applied_stays_where_nothing_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
