/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for others at a leader that may be none any more: the order of a session (I5), and a handover.
 *
 * I5 is for reads, too, that go along with others of their session: behind its writes, or to the disk behind its reads.
 * A leader that was paused may have been deposed, and not know. It may still commit what it sent before,
 * when late answers come; what it reads then is old. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_group.h"
#include "core/shard/shard_internal.h"

enum { LEASE_MS = 240, ELECTED_AFTER_MS = 3000, HELD_COUNT_MAX = 16 };

static struct shard__group group_with_a_leader(void)
{
    struct shard__group group = shard__group_create(1);
    shard__group_run(&group, 2000);
    shard__group_put(&group, "a", "1");
    shard__group_run(&group, 200);
    return group;
}

/* What the network holds of what one node has sent to another. */
struct held {
    struct buffer messages[HELD_COUNT_MAX];
    uint32_t count;
};

/* What is for others is lost. */
static void hold(struct shard__world *from, raft_node to, struct held *held)
{
    for (uint32_t i = 0; i < from->sent_count; i++) {
        if (from->sent[i].to == to && held->count < HELD_COUNT_MAX) {
            held->messages[held->count++] = from->sent[i].bytes;
        } else {
            buffer_deinit(&from->sent[i].bytes);
        }
    }
    memory_free(from->sent);
    from->sent = NULL;
    from->sent_count = 0;
}

static void release(struct held *held, struct shard__world *to, raft_node from)
{
    for (uint32_t i = 0; i < held->count; i++) {
        shard_receive(to->shard, from, buffer_bytes(&held->messages[i]));
        buffer_deinit(&held->messages[i]);
    }
    held->count = 0;
}

static int handed_back_count;

static void done(struct shard_request *request, int status, struct bytes reply)
{
    (void)request;
    (void)reply;
    handed_back_count += status == ERROR_NOT_LEADER;
}

static void submit_and_send(struct shard__world *leader, struct shard__client *client,
                            struct shard_session *session, const char *value)
{
    assert_int_equal(shard__world_submit(leader, client, session, OPCODE_SET, "a", value),
                     SHARD_PENDING);
    (void)shard_tick(leader->shard);
    shard_persisted(leader->shard, leader->persisting_sequence);
}

/* It does nothing, and knows nothing, while another one is elected and answers this write of "a". */
static void pause_until_deposed(struct shard__group *group, struct shard__world *leader,
                                const char *value)
{
    struct shard *paused = leader->shard;
    leader->shard = NULL;
    shard__group_run(group, ELECTED_AFTER_MS);
    assert_non_null(shard__group_leader(group));
    shard__group_put(group, "a", value);
    leader->shard = paused;
    assert_true(shard_is_ready(paused));
}

/* As long as nobody else can lead, a read goes along with the writes before it, and costs nothing more. */
static void test_a_read_goes_with_the_writes_before_it(void **state)
{
    (void)state;
    struct shard__group group = group_with_a_leader();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard_session session;
    struct shard__client write;
    struct shard__client read;
    shard_session_init(&session);
    submit_and_send(leader, &write, &session, "2");
    assert_int_equal(shard__world_submit(leader, &read, &session, OPCODE_GET, "a", ""),
                     SHARD_PENDING);
    assert_false(session.is_alone);
    assert_true(list_is_empty(&session.waiting));
    shard__group_run(&group, 5);
    shard__world_expect(&write, "+OK\r\n");
    shard__world_expect(&read, "$1\r\n2\r\n");
    shard__group_destroy(&group);
}

/* The answer that commits the write was on its way all the time that the leader was paused. Meanwhile another
 * one was elected, and has answered a newer write. */
static void test_a_deposed_leader_reads_nothing_behind_its_writes(void **state)
{
    (void)state;
    struct shard__group group = group_with_a_leader();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__world *follower = shard__group_follower(&group);
    struct shard_session session;
    struct shard__client write;
    struct shard__client read;
    struct held held = {0};
    shard_session_init(&session);
    submit_and_send(leader, &write, &session, "2");
    hold(leader, follower->self, &held);
    release(&held, follower, leader->self);
    (void)shard_tick(follower->shard);
    shard_persisted(follower->shard, follower->persisting_sequence);
    (void)shard_tick(follower->shard);
    hold(follower, leader->self, &held);
    assert_true(held.count > 0);

    pause_until_deposed(&group, leader, "3");
    assert_int_equal(shard__world_submit(leader, &read, &session, OPCODE_GET, "a", ""),
                     SHARD_PENDING);
    release(&held, leader, follower->self);
    shard__world_expect(&write, "+OK\r\n"); /* So it is: the next leader has it too. */
    (void)shard_tick(leader->shard);
    assert_int_equal(read.answer_count, 0);
    shard__group_run(&group, 200);
    shard__world_expect_handed_back(&read);
    shard__group_destroy(&group);
}

/* The first was asked for under a lease. The second was not: the worker does not take it along. */
static void test_a_read_for_the_disk_takes_no_other_without_a_lease(void **state)
{
    (void)state;
    for (int has_lease = 0; has_lease < 2; has_lease++) {
        struct shard__group group = group_with_a_leader();
        for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
            memstore_flush(group.worlds[i]->memstore);
            shard_close(group.worlds[i]->shard);
            shard__world_start(group.worlds[i], true);
        }
        shard__group_run(&group, 2000);
        shard__group_put(&group, "b", "2"); /* A quiet leader has no lease. */
        struct shard__world *leader = shard__group_leader(&group);
        struct shard_session session;
        struct shard__client first;
        struct shard__client second;
        shard_session_init(&session);
        memstore_set_faults(leader->memstore, (struct memstore_faults){.incomplete_percent = 100});
        assert_int_equal(shard__world_submit(leader, &first, &session, OPCODE_GET, "a", ""),
                         SHARD_PENDING);
        assert_true(session.is_alone);
        leader->wall_ms += has_lease ? 0 : LEASE_MS;
        assert_int_equal(shard__world_submit(leader, &second, &session, OPCODE_GET, "a", ""),
                         SHARD_PENDING);
        shard__world_tick(leader); /* The store gets what the reads need. */
        assert_non_null(leader->read);
        assert_int_equal(leader->read->item_count, 1 + has_lease);
        memstore_set_faults(leader->memstore, (struct memstore_faults){0});
        shard__world_work(leader);
        shard_read_run(leader->read);
        shard_read_done(leader->read);
        leader->read = NULL;
        shard__group_run(&group, 200);
        shard__world_expect(&first, "$1\r\n1\r\n");
        shard__world_expect(&second, "$1\r\n1\r\n");
        shard__group_destroy(&group);
    }
}

/* A retry that a deposed leader knows nothing of may have happened under the next one: it is not told that it
 * has not. */
static void test_a_deposed_leader_declines_no_retry(void **state)
{
    (void)state;
    struct shard__group group = group_with_a_leader();
    struct shard__world *leader = shard__group_leader(&group);
    pause_until_deposed(&group, leader, "3");
    leader->locked_key = "a";
    leader->does_decline = true;
    for (int is_retry = 0; is_retry < 2; is_retry++) {
        struct shard_session session;
        struct shard__client client = {.arguments = {BYTES("a"), BYTES("2")}};
        shard_session_init(&session);
        client.request = (struct shard_request){
            .command = {OPCODE_SET, 2, client.arguments},
            .protocol = 2,
            .done = done,
            .session = &session,
            .is_write = true,
            .origin = 7,
            .sequence = 1,
            .known_index = shard_applied_index(leader->shard),
            .is_retry = is_retry,
        };
        struct reply reply = {.target = &client.answer, .protocol = 2};
        assert_int_equal(shard_submit(leader->shard, &client.request, &reply),
                         is_retry ? SHARD_PENDING : SHARD_ANSWERED);
        shard__group_run(&group, is_retry ? 200 : 0);
        assert_int_equal(handed_back_count, is_retry);
        buffer_deinit(&client.answer);
    }
    shard__group_destroy(&group);
}

/* What was gathered when a handover begins waits for its end, and asks for no tick meanwhile: it would be
 * refused in each. */
static void test_what_is_gathered_waits_for_a_handover(void **state)
{
    (void)state;
    struct shard__group group = group_with_a_leader();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__world *follower = shard__group_follower(&group);
    struct shard_session session;
    struct shard__client write;
    shard_session_init(&session);
    group.is_cut_off[follower->self - 1] = true;
    assert_int_equal(shard__world_submit(leader, &write, &session, OPCODE_SET, "a", "2"),
                     SHARD_PENDING);
    assert_true(shard_wants_tick(leader->shard));
    assert_int_equal(shard_transfer(leader->shard, follower->self), 0);
    assert_false(shard_wants_tick(leader->shard));
    shard__group_run(&group, 20);
    assert_false(shard_wants_tick(leader->shard));
    assert_int_equal(write.answer_count, 0);
    shard__group_run(&group, 2000); /* It is given up. */
    shard__world_expect(&write, "+OK\r\n");
    shard__group_destroy(&group);
}

/* Reads that find that a key has expired become commands of the log, and ask for no leave: the open entry,
 * which cannot go meanwhile, takes no more than an entry may have. */
static void test_an_entry_stays_small_during_a_handover(void **state)
{
    (void)state;
    enum { COUNT = SHARD_ENTRY_COMMAND_COUNT_MAX + 20 };
    struct shard__group group = group_with_a_leader();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__world *follower = shard__group_follower(&group);
    struct shard__client *reads = memory_allocate_zeroed(COUNT, sizeof *reads);
    struct shard_session *sessions = memory_allocate_zeroed(COUNT, sizeof *sessions);
    group.is_cut_off[follower->self - 1] =
        true; /* It lags, so it is not told yet, and the lease goes on. */
    shard__group_put(&group, "a", "late1");
    assert_int_equal(shard_transfer(leader->shard, follower->self), 0);
    for (int i = 0; i < COUNT; i++) {
        shard_session_init(&sessions[i]);
        assert_int_equal(shard__world_submit(leader, &reads[i], &sessions[i], OPCODE_GET, "a", ""),
                         SHARD_PENDING);
    }
    assert_int_equal(leader->shard->open->command_count, SHARD_ENTRY_COMMAND_COUNT_MAX);
    shard__group_run(&group, 20);
    assert_int_equal(leader->shard->open->command_count, SHARD_ENTRY_COMMAND_COUNT_MAX);
    shard__group_run(&group, 2000); /* It is given up. */
    for (int i = 0; i < COUNT; i++) {
        shard__world_expect(&reads[i], "$-1\r\n");
    }
    memory_free(reads);
    memory_free(sessions);
    shard__group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_read_goes_with_the_writes_before_it),
        cmocka_unit_test(test_a_deposed_leader_reads_nothing_behind_its_writes),
        cmocka_unit_test(test_a_read_for_the_disk_takes_no_other_without_a_lease),
        cmocka_unit_test(test_a_deposed_leader_declines_no_retry),
        cmocka_unit_test(test_what_is_gathered_waits_for_a_handover),
        cmocka_unit_test(test_an_entry_stays_small_during_a_handover),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
