/* SPDX-License-Identifier: Apache-2.0 */
/* Heartbeats that a host gathers: they go no other way, the group lives by them, and who receives one is
 * told whether a tick is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_group.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

static struct shard__group gathering_group(void)
{
    struct shard__group group = shard__group_create(1);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        group.worlds[i]->do_beats_gather = true;
    }
    shard__group_run(&group, 2000);
    shard__group_put(&group, "a", "1");
    shard__group_run(&group, 200);
    return group;
}

/* As the leader would send it now. */
static struct raft_message request_of(const struct shard *leader)
{
    raft_index index = raft_last_index(leader->raft);
    return (struct raft_message){
        .kind = RAFT_MESSAGE_HEARTBEAT_REQUEST,
        .term = leader->term,
        .index = index,
        .commit_index = index,
        .last_index = index,
        .sent_at_ms = shard__now_ms(leader),
    };
}

/* Nothing of a beat goes by send(), and all else does. */
static void test_beats_go_by_themselves(void **state)
{
    struct shard__group group = gathering_group();
    struct shard__world *leader = shard__group_leader(&group);
    uint32_t beat_count = 0;
    for (uint32_t ms = 0; ms < 200; ms++) {
        leader->wall_ms++;
        (void)shard_tick(leader->shard);
        beat_count += leader->beat_count;
        leader->beat_count = 0;
    }
    assert_in_range(beat_count, 6, 10); /* Two each 50 ms. */
    assert_int_equal(leader->sent_count, 0);
    shard__group_run(&group, 500);
    shard__group_put(&group, "b", "2");
    shard__group_destroy(&group);
}

/* A host that cannot send one so gets it as any other message. */
static void test_beats_go_alone(void **state)
{
    struct shard__group group = gathering_group();
    struct shard__world *leader = shard__group_leader(&group);
    leader->do_beats_gather = false;
    leader->wall_ms += 50;
    (void)shard_tick(leader->shard);
    assert_int_equal(leader->beat_count, 0);
    assert_int_equal(leader->sent_count, 2);
    struct shard_received *received = memory_allocate_zeroed(1, sizeof *received);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(shard__message_decode_raft(buffer_bytes(&leader->sent[i].bytes), received),
                         0);
        assert_int_equal(received->message.kind, RAFT_MESSAGE_HEARTBEAT_REQUEST);
    }
    memory_free(received);
    shard__group_run(&group, 500);
    shard__group_put(&group, "b", "2");
    shard__group_destroy(&group);
}

/* One that says what was known already moves timers, later, and is answered; no tick is needed. */
static void test_no_tick_for_the_usual(void **state)
{
    struct shard__group group = gathering_group();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__world *follower = shard__group_follower(&group);
    struct raft_message beat = request_of(leader->shard);
    uint64_t before_ms = follower->shard->raft_wake_at_ms;
    follower->wall_ms += 100;
    leader->wall_ms += 40;
    assert_false(shard_receive_beat(follower->shard, leader->self, &beat));
    assert_true(follower->shard->raft_wake_at_ms != before_ms);
    assert_int_equal(follower->beat_count, 1);
    assert_int_equal(follower->beats[0].kind, RAFT_MESSAGE_HEARTBEAT_REPLY);
    assert_int_equal(follower->beats[0].to, leader->self);
    assert_false(shard_receive_beat(leader->shard, follower->self, &follower->beats[0]));
    follower->beat_count = 0;
    shard__group_run(&group, 300);
    shard__group_destroy(&group);
}

/* Of the leader's first entry in the store, of a quiet group, of another term: a tick is needed. */
static void test_tick_for_what_changes(void **state)
{
    struct shard__group group = gathering_group();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__world *follower = shard__group_follower(&group);
    struct raft_message beat = request_of(leader->shard);
    beat.is_quiet = true;
    assert_true(shard_receive_beat(follower->shard, leader->self, &beat));
    assert_true(shard_is_quiet(follower->shard));
    assert_false(shard_receive_beat(follower->shard, leader->self, &beat));
    beat.is_quiet = false;
    assert_true(shard_receive_beat(follower->shard, leader->self, &beat));

    beat.term++;
    assert_true(shard_receive_beat(follower->shard, leader->self, &beat));
    assert_true(follower->shard->issued_sequence > follower->shard->durable_sequence);
    beat.kind = RAFT_MESSAGE_HEARTBEAT_REPLY;
    assert_true(shard_receive_beat(leader->shard, follower->self, &beat));
    assert_false(shard_is_ready(leader->shard));
    leader->beat_count = follower->beat_count = 0;
    shard__group_run(&group, 2000);
    shard__group_put(&group, "b", "2");
    shard__group_destroy(&group);
}

/* What the leader has committed meanwhile is applied at once, and the tick looks after the rest. */
static void test_tick_for_what_is_committed(void **state)
{
    struct shard__group group = gathering_group();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__world *follower = shard__group_follower(&group);
    shard__group_put(&group, "b", "2");
    raft_index applied_index = shard_applied_index(follower->shard);
    struct raft_message beat = request_of(leader->shard);
    assert_int_equal(applied_index + 1, beat.index);
    assert_true(shard_receive_beat(follower->shard, leader->self, &beat));
    assert_int_equal(shard_applied_index(follower->shard), applied_index + 1);
    shard__group_destroy(&group);
}

/* Who had heard nobody for long, and asked less and less often whether it belongs to the group, waits no longer
 * than at first once it has heard a leader. */
static void test_tick_for_who_doubted(void **state)
{
    struct shard__group group = gathering_group();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard *follower = shard__group_follower(&group)->shard;
    struct raft_message beat = request_of(leader->shard);
    (void)shard_receive_beat(follower, leader->self, &beat);
    (void)shard_tick(follower);
    follower->doubt_at_ms = shard__now_ms(follower) + 100000;
    assert_true(shard_receive_beat(follower, leader->self, &beat));
    assert_false(shard_receive_beat(follower, leader->self, &beat));
    shard__group_destroy(&group);
}

/* An answer for which reads wait may bring the next question, which a tick asks. */
static void test_tick_for_who_waits(void **state)
{
    struct shard__group group = gathering_group();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__client client;
    struct shard_session session;
    shard_session_init(&session);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        group.worlds[i]->wall_ms += 240; /* The lease is over. */
    }
    assert_int_equal(shard__world_submit(leader, &client, &session, OPCODE_GET, "a", ""),
                     SHARD_PENDING);
    struct raft_message reply = {
        .kind = RAFT_MESSAGE_HEARTBEAT_REPLY,
        .term = leader->shard->term,
        .index = raft_last_index(leader->shard->raft),
        .sent_at_ms = 1,
    };
    assert_true(shard_receive_beat(leader->shard, shard__group_follower(&group)->self, &reply));
    shard__group_run(&group, 50);
    shard__world_expect(&client, "$1\r\n1\r\n");
    shard__group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beats_go_by_themselves),
        cmocka_unit_test(test_beats_go_alone),
        cmocka_unit_test(test_no_tick_for_the_usual),
        cmocka_unit_test(test_tick_for_what_changes),
        cmocka_unit_test(test_tick_for_what_is_committed),
        cmocka_unit_test(test_tick_for_who_doubted),
        cmocka_unit_test(test_tick_for_who_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
