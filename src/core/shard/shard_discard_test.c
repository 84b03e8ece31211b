/* SPDX-License-Identifier: Apache-2.0 */
/* A replica that has left its group gives up what it has (shard_discard.c, decision 18): only when
 * that is certain, whatever comes in between, and so that it may be taken back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_group.h"
#include "core/shard/shard_internal.h"

enum { GONE = 2, PATIENCE_MS = 2500 }; /* Place of the node that leaves. */

static const struct raft_configuration without_it = {.voter_count = 2, .voters = {1, 2}};

static void configure(struct shard__group *group, const struct raft_configuration *target)
{
    for (int i = 0; i < 20; i++) {
        struct shard__world *leader = shard__group_leader(group);
        if (leader != NULL &&
            raft_configurations_are_equal(shard_configuration(leader->shard), target)) {
            return;
        }
        if (leader != NULL) {
            int status = shard_configure(leader->shard, target);
            assert_true(status == 0 || status == -EBUSY);
        }
        shard__group_run(group, 300);
    }
    fail();
}

/* Two members go on without the third, which is cut off and has "b" and "z". */
static struct shard__group group_that_was_left(void)
{
    struct shard__group group = shard__group_create(1);
    shard__group_run(&group, 2000);
    shard__group_put(&group, "b", "1");
    shard__group_put(&group, "z", "2");
    shard__group_run(&group, 100);
    group.is_cut_off[GONE] = true;
    shard__group_run(&group, 2000);
    configure(&group, &without_it);
    shard__group_expect_row(group.worlds[GONE], BYTES("z"), BYTES("2"));
    struct shard__world *gone = group.worlds[GONE];
    memstore_flush(gone->memstore);
    shard__world_stop(gone);
    gone->node_count = SHARD__GROUP_COUNT;
    shard__world_start(gone, true);
    return group;
}

static void expect_nothing_left(struct shard__world *world)
{
    assert_true(shard_is_empty(world->shard));
    assert_true(shard_is_impaired(world->shard));
    assert_int_equal(shard_stored_index(world->shard), 0);
    assert_int_equal(world->last_index, 0);
    assert_int_equal(shard_range(world->shard).end, SLOTS_COUNT);
    shard__group_expect_row(world, BYTES("b"), BYTES(""));
    shard__group_expect_row(world, BYTES("z"), BYTES(""));
}

/* It asks, and is empty and impaired afterwards, also after a restart; its term is not forgotten. A row
 * of another shard stays. Taken back it learns all, and then it votes. */
static void test_it_gives_up_and_comes_back(void **state)
{
    (void)state;
    struct shard__group group = group_that_was_left();
    struct shard__world *gone = group.worlds[GONE];
    struct env_store store = memstore_interface(gone->memstore);
    struct env_change change = {ENV_CHANGE_PUT, BYTES("~"), BYTES("of another")};
    assert_int_equal(store.ops->write(store.context, &change, 1, NULL), 0);
    raft_term term = gone->hard_state.term;
    group.is_cut_off[GONE] = false;
    shard__group_run(&group, PATIENCE_MS);
    assert_int_equal(gone->emptied_count, 1);
    expect_nothing_left(gone);
    struct shard_statistics statistics;
    shard_get_statistics(gone->shard, &statistics);
    assert_true(statistics.term >= term);
    memstore_lose_unflushed(gone->memstore);
    shard__world_stop(gone);
    shard__world_start(gone, true);
    expect_nothing_left(gone);
    shard__group_run(&group, 3 * PATIENCE_MS); /* There is nothing to ask about. */
    assert_int_equal(gone->emptied_count, 1);
    assert_null(gone->sent);
    shard__group_put(&group, "c", "3");
    configure(&group, &(struct raft_configuration){
                          .voter_count = 2, .voters = {1, 2}, .learner_count = 1, .learners = {3}});
    shard__group_run(&group, 1000);
    assert_false(shard_is_impaired(gone->shard));
    configure(&group, &(struct raft_configuration){.voter_count = 3, .voters = {1, 2, 3}});
    shard__group_expect_row(gone, BYTES("c"), BYTES("3"));
    shard__group_expect_row(gone, BYTES("~"), BYTES("of another"));
    uint32_t away = shard__group_leader(&group)->self - 1;
    group.is_cut_off[away] = true;
    shard__group_run(&group, 3000); /* Its vote is needed. */
    assert_true(shard__group_leader(&group) != NULL);
    group.is_cut_off[away] = false;
    shard__group_destroy(&group);
}

/* A member that is only cut off, from some or from all, keeps everything. */
static void test_a_member_keeps_what_it_has(void **state)
{
    (void)state;
    struct shard__group group = shard__group_create(1);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        shard__world_stop(group.worlds[i]);
        group.worlds[i]->node_count = SHARD__GROUP_COUNT;
        shard__world_start(group.worlds[i], true);
    }
    shard__group_run(&group, 2000);
    shard__group_put(&group, "b", "1");
    shard__group_run(&group, 100);
    uint32_t away = shard__group_leader(&group)->self % SHARD__GROUP_COUNT;
    group.is_cut_off[away] = true;
    shard__group_run(&group, 20000);
    group.is_cut_off[away] = false;
    shard__group_run(&group, 20000);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        assert_int_equal(group.worlds[i]->emptied_count, 0);
        assert_false(shard_is_impaired(group.worlds[i]->shard));
        shard__group_expect_row(group.worlds[i], BYTES("b"), BYTES("1"));
    }
    shard__group_destroy(&group);
}

static void stop_and_start(struct shard__world *world)
{
    memstore_lose_unflushed(world->memstore);
    shard__world_stop(world);
    shard__world_start(world, true);
}

enum crash { CRASH_FLAGGING, CRASH_VOIDING, CRASH_VOID_LOST, CRASH_EMPTYING, CRASH_COUNT };

/* Wherever it crashes, it comes up as something that may be, gives up the rest, and has nothing then. */
static void crash_while_discarding(enum crash where)
{
    struct shard__group group = group_that_was_left();
    struct shard__world *gone = group.worlds[GONE];
    raft_index first = gone->first_index;
    raft_index last = gone->last_index;
    group.is_cut_off[GONE] = false;
    struct memstore_faults busy = {.busy_percent = 100};
    memstore_set_faults(gone->memstore, busy);
    for (int i = 0; i < PATIENCE_MS && gone->shard->discard == NULL; i++) {
        shard__group_run(&group, 1);
    }
    assert_non_null(gone->shard->discard);
    shard__world_work(gone);
    if (where != CRASH_FLAGGING) {
        memstore_set_faults(gone->memstore, (struct memstore_faults){0});
        gone->wall_ms += 20;
        (void)shard_tick(gone->shard);
        shard__world_work(gone);
        assert_int_equal(gone->last_index, 0);
    }
    if (where == CRASH_VOID_LOST) {
        gone->first_index = first;
        gone->last_index = last;
    } else if (where == CRASH_EMPTYING) {
        memstore_set_faults(gone->memstore, busy);
        shard_persisted(gone->shard, gone->persisting_sequence);
        shard__world_work(gone);
    }
    assert_int_equal(gone->emptied_count, 0);
    memstore_set_faults(gone->memstore, (struct memstore_faults){0});
    stop_and_start(gone);
    assert_true(shard_is_impaired(gone->shard) == (where != CRASH_FLAGGING));
    shard__group_expect_row(gone, BYTES("z"), BYTES("2"));
    shard__group_run(&group, 2 * PATIENCE_MS);
    assert_int_equal(gone->emptied_count, 1);
    expect_nothing_left(gone);
    stop_and_start(gone);
    expect_nothing_left(gone);
    shard__group_destroy(&group);
}

static void test_a_crash_at_any_step(void **state)
{
    (void)state;
    for (int i = 0; i < CRASH_COUNT; i++) {
        crash_while_discarding((enum crash)i);
    }
}

/* ---- What must not be believed --------------------------------------------------------------- */

static void give_answer(struct shard__world *world, struct shard_membership membership)
{
    struct buffer message = {0};
    shard__message_encode_membership(&membership, &message);
    shard_receive(world->shard, 1, buffer_bytes(&message));
    buffer_deinit(&message);
}

/* It has asked, and is quiet. */
static struct shard__world *doubtful(struct shard__group *group)
{
    struct shard__world *gone = group->worlds[GONE];
    for (int i = 0; i < PATIENCE_MS && gone->shard->question == 0; i++) {
        shard__group_run(group, 1);
    }
    assert_true(gone->shard->question != 0);
    return gone;
}

/* An answer to another question; of a group that it belongs to; of a leader to whom it may have
 * acknowledged more than that one had committed; behind a leader's message. */
static void test_answers_that_do_not_count(void **state)
{
    (void)state;
    struct shard__group group = group_that_was_left();
    struct shard__world *gone = doubtful(&group);
    struct shard *shard = gone->shard;
    raft_index last_index = raft_last_index(shard->raft);
    raft_term last_term = raft_entry_term(shard->raft, last_index);
    struct shard_membership good = {
        .number = shard->question, .term = last_term, .index = last_index, .members = without_it};
    struct shard_membership bad = good;
    bad.number++;
    give_answer(gone, bad);
    bad = good;
    bad.members.learner_count = 1;
    bad.members.learners[0] = GONE + 1;
    give_answer(gone, bad);
    bad = good;
    bad.index--;
    give_answer(gone, bad);
    bad = good;
    bad.term--;
    bad.index += 100;
    give_answer(gone, bad);
    assert_null(shard->discard);
    struct raft_message request = {.kind = RAFT_MESSAGE_HEARTBEAT_REQUEST, .term = last_term + 1};
    uint8_t bytes[SHARD_MESSAGE_RAFT_SIZE_BYTES];
    shard__message_encode_raft(&request, bytes);
    shard_receive(shard, 1, bytes_make(bytes, sizeof bytes));
    give_answer(gone, good);
    assert_null(shard->discard);
    good.number = doubtful(&group)->shard->question;
    give_answer(gone, good);
    assert_non_null(shard->discard);
    shard__group_run(&group, 10);
    expect_nothing_left(gone);
    shard__group_destroy(&group);
}

/* A leader that is not confirmed any more answers nobody. */
static void test_a_deposed_leader_does_not_answer(void **state)
{
    (void)state;
    struct shard__group group = group_that_was_left();
    struct shard__world *leader = shard__group_leader(&group);
    uint8_t bytes[SHARD_MESSAGE_QUESTION_SIZE_BYTES];
    struct shard_question question = {.number = 5};
    shard__message_encode_question(SHARD_MESSAGE_QUESTION, &question, bytes);
    shard_receive(leader->shard, GONE + 1, bytes_make(bytes, sizeof bytes));
    assert_int_equal(leader->shard->asked_count, 1);
    shard__world_depose(leader);
    assert_int_equal(leader->shard->asked_count, 0);
    for (uint32_t i = 0; i < leader->sent_count; i++) {
        assert_true(leader->sent[i].bytes.data[1] != SHARD_MESSAGE_MEMBERSHIP);
    }
    shard__group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_gives_up_and_comes_back),
        cmocka_unit_test(test_a_member_keeps_what_it_has),
        cmocka_unit_test(test_a_crash_at_any_step),
        cmocka_unit_test(test_answers_that_do_not_count),
        cmocka_unit_test(test_a_deposed_leader_does_not_answer),
    };
    return cmocka_run_group_tests_name("shard_discard", tests, NULL, NULL);
}
