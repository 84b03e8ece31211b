/* SPDX-License-Identifier: Apache-2.0 */
/* A member needs what the leader has in its log only, and whoever drives the log has other things to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/number/number.h"
#include "core/shard/shard_group.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_test_log.h"

enum {
    VALUE_SIZE_BYTES = 200000,
    VALUE_COUNT = 40,
    HEARTBEAT_MS = 50,
    SLOW_READ_MS = 230,
    FAST_READ_MS = 5,
    WAIT_MS = 20000,
    READ_SIZE_BYTES = 1 << 20,
    READ_COUNT_MAX = VALUE_COUNT * VALUE_SIZE_BYTES / READ_SIZE_BYTES + 2,
    READ_COUNT_MIN = READ_COUNT_MAX / 2,
    SMALL_VALUE_SIZE_BYTES = 5000,
    RECENT_SIZE_BYTES = 60000,
};

static uint32_t read_log(struct shard__world *world, struct wal *wal)
{
    uint32_t count = world->log_read_count;
    world->log_read_count = 0;
    struct shard_log_read *reads[LOG_READ_COUNT_MAX];
    memcpy(reads, world->log_reads, sizeof reads);
    for (uint32_t i = 0; i < count; i++) {
        shard_log_read_run(reads[i], wal);
        shard_log_read_done(reads[i]);
    }
    return count;
}

static void put_large(struct shard__group *group)
{
    static char value[VALUE_SIZE_BYTES];
    memset(value, 'v', sizeof value - 1);
    for (uint32_t i = 0; i < VALUE_COUNT; i++) {
        shard__group_put(group, "k", value);
    }
    shard__group_run(group, 500);
}

struct catching_up {
    uint32_t read_count;
    uint32_t took_ms;
};

/* A member was away while more was written than the leader has in memory. Each read takes so long. */
static struct catching_up catch_up(uint32_t read_ms)
{
    struct shard__group group = shard__group_create(1);
    shard__group_run(&group, 2000);
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__world *late = shard__group_follower(&group);
    group.is_cut_off[late->self - 1] = true;
    put_large(&group);
    assert_int_equal(leader->log_read_count, 0);
    assert_null(shard__log_at(leader->shard, shard_applied_index(late->shard) + 1));
    struct fake_disk *disk = fake_create(1);
    struct wal *wal = shard__test_log(leader, disk, 0);
    raft_index last_index = leader->last_index;

    group.is_cut_off[late->self - 1] = false;
    struct catching_up made = {0};
    while (made.took_ms < WAIT_MS && shard_applied_index(late->shard) < last_index) {
        shard__group_run(&group, read_ms);
        made.took_ms += read_ms;
        made.read_count += read_log(leader, wal);
    }
    assert_int_equal(shard_applied_index(late->shard), last_index);
    (void)read_log(leader, wal);
    wal_close(wal);
    fake_destroy(disk);
    shard__group_destroy(&group);
    return made;
}

/* Nothing is read twice, or sent behind a gap, although each append asks for more than is read at once, and heartbeats
 * come back while a read lasts. */
static void test_each_entry_is_read_once(void **state)
{
    (void)state;
    assert_in_range(catch_up(SLOW_READ_MS).read_count, READ_COUNT_MIN, READ_COUNT_MAX);
}

/* What was not read at once is asked for again at once, not by a heartbeat. */
static void test_the_next_read_follows_at_once(void **state)
{
    (void)state;
    struct catching_up made = catch_up(FAST_READ_MS);
    assert_in_range(made.read_count, READ_COUNT_MIN, READ_COUNT_MAX);
    assert_in_range(made.took_ms, 1, 3 * HEARTBEAT_MS + READ_COUNT_MAX * FAST_READ_MS);
}

static void put_some(struct shard__group *group, uint32_t count)
{
    static char value[SMALL_VALUE_SIZE_BYTES];
    memset(value, 'v', sizeof value - 1);
    for (uint32_t i = 0; i < count; i++) {
        shard__group_put(group, "k", value);
    }
}

/* The member has got the first entries of what is being read after all, from an append that was late. */
static void accept_late(struct shard__world *leader, struct shard__world *late, raft_index index)
{
    static struct shard_received received;
    received.message = (struct raft_message){
        .kind = RAFT_MESSAGE_APPEND_REPLY,
        .from = late->self,
        .to = leader->self,
        .term = leader->shard->term,
        .index = index,
        .sent_at_ms = leader->wall_ms,
    };
    shard__step_received(leader->shard, &received);
}

/* While a read lasts Raft asks for entries that it has in part: they are not sent twice, and what they have besides goes
 * at once. Nobody else asks for it: Raft has sent it. */
static void test_what_goes_beyond_a_read_is_not_lost(void **state)
{
    (void)state;
    struct shard__group group = shard__group_create(1);
    shard__group_run(&group, 2000);
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__world *late = shard__group_follower(&group);
    shard_set_limits(leader->shard, &(struct shard_limits){.recent_size_bytes = RECENT_SIZE_BYTES,
                                                           .window_size_bytes = 1 << 20});
    shard__group_run(&group, 100);
    group.is_cut_off[late->self - 1] = true;
    put_some(&group, 25);
    group.is_cut_off[late->self - 1] = false;
    for (uint32_t ms = 0; ms < WAIT_MS && leader->log_read_count == 0; ms++) {
        shard__group_run(&group, 1);
    }
    assert_int_equal(leader->log_read_count, 1);
    put_some(&group, 10);
    accept_late(leader, late, raft_last_index(late->shard->raft) + 5);
    assert_int_equal(leader->log_read_count, 1); /* What that brings waits behind the read. */
    struct fake_disk *disk = fake_create(1);
    struct wal *wal = shard__test_log(leader, disk, 0);
    for (uint32_t ms = 0; ms < HEARTBEAT_MS; ms++) {
        (void)read_log(leader, wal);
        shard__group_run(&group, 1);
    }
    assert_int_equal(raft_last_index(late->shard->raft), leader->last_index);
    (void)read_log(leader, wal);
    wal_close(wal);
    fake_destroy(disk);
    shard__group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_entry_is_read_once),
        cmocka_unit_test(test_the_next_read_follows_at_once),
        cmocka_unit_test(test_what_goes_beyond_a_read_is_not_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
