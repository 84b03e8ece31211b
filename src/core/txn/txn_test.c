/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: COMMIT is asked for when all have voted yes and told when the home has logged it; what goes
 * wrong before that ends with ABORT and another attempt, what goes wrong later is asked again or told
 * as unknown; a recoverer asks the home and concludes nothing itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/txn/txn.h"

enum { PREPARE = 1, DECIDE, FINISH, FORGET, SENT_COUNT_MAX = 256 };

struct world {
    struct txn *txn;
    uint64_t now_ms;
    struct shard_request *sent[SENT_COUNT_MAX];
    uint16_t opcodes[SENT_COUNT_MAX];
    struct txn_header headers[SENT_COUNT_MAX];
    uint32_t sent_count;
    uint32_t read_count; /* Told by said(). */
    int refusal;         /* What submit() returns; 0: takes it. */
    char text[1024];
    uint32_t done_count;
    struct txn_done done;
    char replies[256];
};

static uint64_t now_ms(void *context)
{
    return ((struct world *)context)->now_ms;
}

static int submit(void *context, uint32_t place, struct shard_request *request,
                  const struct reply *reply)
{
    struct world *world = context;
    (void)reply;
    if (world->refusal != 0) {
        return world->refusal;
    }
    assert_true(world->sent_count < SENT_COUNT_MAX);
    struct txn_header *header = &world->headers[world->sent_count];
    assert_true(txn_header_decode(request->command.arguments[0], header));
    assert_int_equal(header->place, place);
    assert_true(request->is_write);
    world->opcodes[world->sent_count] = request->command.opcode;
    world->sent[world->sent_count++] = request;
    return SHARD_PENDING;
}

static void setup_limited(struct world *world, uint64_t reply_size_bytes_max)
{
    *world = (struct world){.now_ms = 1000};
    const struct txn_options options = {
        .host = {.context = world, .clock = {world, now_ms, now_ms}, .submit = submit},
        .origin = 9,
        .random_seed = 1,
        .prepare_opcode = PREPARE,
        .decide_opcode = DECIDE,
        .finish_opcode = FINISH,
        .forget_opcode = FORGET,
        .deadline_ms = 1000,
        .prepare_timeout_ms = 200,
        .count_max = 2,
        .reply_size_bytes_max = reply_size_bytes_max,
    };
    assert_int_equal(txn_create(&world->txn, &options, NULL), 0);
}

static void setup(struct world *world)
{
    setup_limited(world, 0);
}

static void done(void *context, const struct txn_done *result)
{
    struct world *world = context;
    world->done_count++;
    world->done = *result;
    world->replies[0] = '\0';
    for (uint32_t i = 0; i < result->part_count; i++) {
        const struct bytes *replies = &result->replies[i];
        size_t used = strlen(world->replies);
        (void)snprintf(world->replies + used, sizeof world->replies - used, "%.*s;",
                       replies->data == NULL ? 1 : (int)replies->size_bytes,
                       replies->data == NULL ? "?" : (const char *)replies->data);
    }
}

static int begin(struct world *world)
{
    const struct bytes argument = BYTES("part");
    const struct txn_part parts[] = {
        {.place = 10,
         .end_slot = 15,
         .argument_count = 1,
         .arguments = &argument,
         .does_grow = true},
        {.place = 20,
         .first_slot = 15,
         .end_slot = 30,
         .argument_count = 1,
         .arguments = &argument},
    };
    const struct txn_begin options = {
        .parts = parts, .part_count = 2, .protocol = 2, .context = world, .done = done};
    return txn_begin(world->txn, &options);
}

/* What was sent since the last time: "prepare1@10 …", with the number of the attempt; + behind one that
 * may wait. */
static const char *said(struct world *world)
{
    static const char *const names[] = {"", "prepare", "decide", "finish", "forget"};
    static const char *const outcomes[] = {"", ":commit", ":abort"};
    world->text[0] = '\0';
    for (; world->read_count < world->sent_count; world->read_count++) {
        const struct txn_header *header = &world->headers[world->read_count];
        size_t used = strlen(world->text);
        (void)snprintf(world->text + used, sizeof world->text - used, "%s%s%llu@%u%s%s",
                       used > 0 ? " " : "", names[world->opcodes[world->read_count]],
                       (unsigned long long)header->id.number, header->place,
                       outcomes[header->outcome], header->may_wait ? "+" : "");
    }
    return world->text;
}

static void answer(struct world *world, uint32_t index, enum txn_answer vote, const char *replies)
{
    uint8_t bytes[64] = {(uint8_t)vote, 1};
    size_t size = 1;
    if (replies != NULL) {
        memcpy(bytes + 2, replies, strlen(replies));
        size = 2 + strlen(replies);
    }
    struct shard_request *request = world->sent[index];
    world->sent[index] = NULL;
    request->done(request, 0, bytes_make(bytes, size));
}

static void refuse(struct world *world, uint32_t index, int status)
{
    struct shard_request *request = world->sent[index];
    world->sent[index] = NULL;
    request->done(request, status, BYTES(""));
}

static void wait_ms(struct world *world, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        world->now_ms++;
        (void)txn_tick(world->txn);
    }
}

static void teardown(struct world *world)
{
    txn_destroy(world->txn);
}

static void test_the_way_of_a_commit(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    assert_int_equal(begin(&world), 0);
    assert_string_equal(said(&world), "prepare1@10 prepare1@20");
    answer(&world, 1, TXN_ANSWER_YES, NULL);
    assert_string_equal(said(&world), "");
    answer(&world, 0, TXN_ANSWER_YES, NULL);
    assert_string_equal(said(&world), "decide1@10:commit");
    assert_int_equal(world.sent[2]->command.argument_count, 2); /* With who takes part. */
    assert_int_equal(world.sent[2]->command.arguments[1].size_bytes, 8);
    answer(&world, 2, TXN_ANSWER_COMMITTED, NULL);
    assert_string_equal(said(&world), "finish1@10:commit finish1@20:commit");
    answer(&world, 3, TXN_ANSWER_COMMITTED, "+A\r\n");
    assert_int_equal(world.done_count, 0);
    answer(&world, 4, TXN_ANSWER_COMMITTED, "+B\r\n");
    assert_string_equal(said(&world), "forget1@10:commit");
    assert_int_equal(world.done_count, 1);
    assert_int_equal(world.done.result, TXN_COMMITTED);
    assert_string_equal(world.replies, "+A\r\n;+B\r\n;");
    answer(&world, 5, TXN_ANSWER_DONE, NULL);
    struct txn_statistics statistics;
    txn_get_statistics(world.txn, &statistics);
    assert_int_equal(statistics.attempt_open_count, 0);
    assert_int_equal(statistics.open_count, 0);
    teardown(&world);
}

/* A part that is gone when the others are committed: whoever waits is told that something is missing. */
static void test_a_part_is_lost(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct world world;
        setup(&world);
        assert_int_equal(begin(&world), 0);
        answer(&world, 0, TXN_ANSWER_YES, NULL);
        answer(&world, 1, TXN_ANSWER_YES, NULL);
        answer(&world, 2, TXN_ANSWER_COMMITTED, NULL);
        answer(&world, 3, TXN_ANSWER_COMMITTED, "+A\r\n");
        answer(&world, 4, i == 0 ? TXN_ANSWER_UNPREPARED : TXN_ANSWER_COMMITTED, NULL);
        assert_int_equal(world.done_count, 1);
        assert_int_equal(world.done.result, TXN_COMMITTED);
        assert_int_equal(world.done.is_broken, i == 0);
        assert_string_equal(world.replies, "+A\r\n;?;");
        if (i == 1) {
            answer(&world, 5, TXN_ANSWER_DONE, NULL); /* It is forgotten. */
        }
        teardown(&world);
    }
}

/* Each part's replies may be as many as one answer's: all together are not kept beyond that, and nobody waits
 * for what was dropped. */
static void test_replies_beyond_the_limit(void **state)
{
    (void)state;
    static const char *const replies[] = {"+12345678\r\n", "+1234567\r\n", "+123456\r\n"};
    for (uint32_t i = 0; i < 3; i++) {
        struct world world;
        setup_limited(&world, 27); /* With what stands before them, 2 bytes each. */
        assert_int_equal(begin(&world), 0);
        answer(&world, 0, TXN_ANSWER_YES, NULL);
        answer(&world, 1, TXN_ANSWER_YES, NULL);
        answer(&world, 2, TXN_ANSWER_COMMITTED, NULL);
        answer(&world, 3, TXN_ANSWER_COMMITTED, "+12345678\r\n+\r\n");
        answer(&world, 4, TXN_ANSWER_COMMITTED, replies[i]);
        assert_int_equal(world.done_count, 1);
        assert_int_equal(world.done.result, TXN_COMMITTED);
        assert_int_equal(world.done.are_too_large, i < 2);
        assert_string_equal(world.replies, i < 2 ? "?;?;" : "+12345678\r\n+\r\n;+123456\r\n;");
        struct txn_statistics statistics;
        txn_get_statistics(world.txn, &statistics);
        assert_int_equal(statistics.lost_replies_count, 0);
        (void)said(&world);
        teardown(&world);
    }
}

/* A part names the slots by which it was cut, and when the shard has others, nothing happened and nothing
 * will. What is told names none: that is looked up each time. */
static void test_a_part_that_moved(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    assert_int_equal(begin(&world), 0);
    assert_string_equal(said(&world), "prepare1@10 prepare1@20");
    assert_int_equal(world.sent[0]->first_slot, 0);
    assert_int_equal(world.sent[0]->end_slot, 15);
    assert_int_equal(world.sent[1]->first_slot, 15);
    assert_int_equal(world.sent[1]->end_slot, 30);
    refuse(&world, 1, ERROR_MOVED);
    assert_int_equal(world.done_count, 1);
    assert_int_equal(world.done.result, TXN_FAILED);
    assert_int_equal(world.done.status, ERROR_MOVED);
    assert_string_equal(said(&world), "finish1@10:abort");
    assert_int_equal(world.sent[2]->end_slot, 0);
    answer(&world, 0, TXN_ANSWER_YES, NULL);
    world.sent[2]->end_slot = 15; /* As the host looked up. */
    refuse(&world, 2, ERROR_MOVED);
    wait_ms(&world, 30);
    assert_string_equal(said(&world), "finish1@10:abort");
    assert_int_equal(world.sent[3]->end_slot, 0);
    answer(&world, 3, TXN_ANSWER_ABORTED, NULL);
    struct txn_statistics statistics;
    txn_get_statistics(world.txn, &statistics);
    assert_int_equal(statistics.attempt_open_count, 0);
    teardown(&world);
}

/* What is decided is told until it is heard, wherever the places are by then. */
static void test_no_step_ends_with_a_split(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    assert_int_equal(begin(&world), 0);
    answer(&world, 0, TXN_ANSWER_YES, NULL);
    answer(&world, 1, TXN_ANSWER_YES, NULL);
    (void)said(&world);
    refuse(&world, 2, ERROR_MOVED);
    wait_ms(&world, 30);
    assert_string_equal(said(&world), "decide1@10:commit");
    answer(&world, 3, TXN_ANSWER_COMMITTED, NULL);
    assert_string_equal(said(&world), "finish1@10:commit finish1@20:commit");
    refuse(&world, 4, ERROR_MOVED);
    answer(&world, 5, TXN_ANSWER_COMMITTED, "+B\r\n");
    wait_ms(&world, 30);
    assert_string_equal(said(&world), "finish1@10:commit");
    answer(&world, 6, TXN_ANSWER_COMMITTED, "+A\r\n");
    assert_string_equal(world.replies, "+A\r\n;+B\r\n;");
    assert_string_equal(said(&world), "forget1@10:commit");
    refuse(&world, 7, ERROR_MOVED);
    wait_ms(&world, 30);
    assert_string_equal(said(&world), "forget1@10:commit");
    answer(&world, 8, TXN_ANSWER_DONE, NULL);
    struct txn_statistics statistics;
    txn_get_statistics(world.txn, &statistics);
    assert_int_equal(statistics.attempt_open_count, 0);
    teardown(&world);
}

/* A recoverer asks the home again, too. */
static void test_a_recovery_whose_home_moved(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    const struct txn_unfinished unfinished = {.id = {5, 6, 7}, .place = 20, .home = 10};
    txn_recover(world.txn, &unfinished);
    wait_ms(&world, 1);
    assert_string_equal(said(&world), "decide6@10:abort");
    refuse(&world, 0, ERROR_MOVED);
    wait_ms(&world, 30);
    assert_string_equal(said(&world), "decide6@10:abort");
    answer(&world, 1, TXN_ANSWER_COMMITTED, NULL);
    assert_string_equal(said(&world), "finish6@20:commit");
    teardown(&world);
}

static void test_a_lock_means_abort_and_again_in_order(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    assert_int_equal(begin(&world), 0);
    (void)said(&world);
    answer(&world, 1, TXN_ANSWER_LOCKED, NULL);
    /* The first may be prepared; the second is not. */
    assert_string_equal(said(&world), "finish1@10:abort prepare2@10+");
    answer(&world, 0, TXN_ANSWER_YES, NULL); /* Late: too late. */
    assert_string_equal(said(&world), "");
    answer(&world, 3, TXN_ANSWER_YES, NULL);
    assert_string_equal(said(&world), "prepare2@20+");
    answer(&world, 4, TXN_ANSWER_YES, NULL);
    assert_string_equal(said(&world), "decide2@10:commit");
    assert_int_equal(world.done_count, 0);
    teardown(&world);
}

static void test_who_waits_has_time_until_the_deadline(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    assert_int_equal(begin(&world), 0);
    answer(&world, 0, TXN_ANSWER_LOCKED, NULL);
    answer(&world, 1, TXN_ANSWER_LOCKED, NULL);
    assert_string_equal(said(&world), "prepare1@10 prepare1@20 finish1@20:abort prepare2@10+");
    answer(&world, 3, TXN_ANSWER_YES, NULL);
    assert_string_equal(said(&world), "prepare2@20+");
    wait_ms(&world, 999); /* Much longer than an attempt that waits for nobody. */
    assert_string_equal(said(&world), "");
    assert_int_equal(world.done_count, 0);
    wait_ms(&world, 1);
    assert_string_equal(said(&world), "finish2@10:abort finish2@20:abort");
    assert_int_equal(world.done_count, 1);
    assert_int_equal(world.done.result, TXN_FAILED);
    assert_int_equal(world.done.status, -EBUSY); /* Not: no leader. */
    answer(&world, 4, TXN_ANSWER_YES, NULL);     /* Its turn, too late. */
    assert_string_equal(said(&world), "");
    teardown(&world);
}

static void test_a_single_part_waits_at_once(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    const struct bytes argument = BYTES("part");
    const struct txn_part part = {10, 1, &argument, true, 0, 0};
    const struct txn_begin options = {
        .parts = &part, .part_count = 1, .protocol = 2, .context = &world, .done = done};
    assert_int_equal(txn_begin(world.txn, &options), 0);
    assert_string_equal(said(&world), "prepare1@10+");
    /* Too many wait: not at once again. */
    answer(&world, 0, TXN_ANSWER_LOCKED, NULL);
    assert_string_equal(said(&world), "prepare2@10+");
    answer(&world, 1, TXN_ANSWER_LOCKED, NULL);
    assert_string_equal(said(&world), "");
    wait_ms(&world, 10);
    assert_string_equal(said(&world), "prepare3@10+");
    teardown(&world);
}

static void test_a_change_ends_it(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    assert_int_equal(begin(&world), 0);
    (void)said(&world);
    answer(&world, 0, TXN_ANSWER_YES, NULL);
    answer(&world, 1, TXN_ANSWER_CHANGED, NULL);
    assert_string_equal(said(&world), "finish1@10:abort");
    assert_int_equal(world.done_count, 1);
    assert_int_equal(world.done.result, TXN_CHANGED);
    wait_ms(&world, 2000);
    assert_int_equal(world.done_count, 1);
    teardown(&world);
}

static void test_a_silent_shard_does_not_hold_the_others(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    assert_int_equal(begin(&world), 0);
    answer(&world, 0, TXN_ANSWER_YES, NULL);
    (void)said(&world);
    wait_ms(&world, 199);
    assert_string_equal(said(&world), "");
    wait_ms(&world, 1);
    assert_string_equal(said(&world), "finish1@10:abort finish1@20:abort");
    wait_ms(&world, 3000);
    assert_int_equal(world.done_count, 1);
    assert_int_equal(world.done.result, TXN_FAILED);
    assert_int_equal(world.done.status, ERROR_NOT_LEADER);
    teardown(&world);
}

static void to_decision(struct world *world)
{
    assert_int_equal(begin(world), 0);
    answer(world, 0, TXN_ANSWER_YES, NULL);
    answer(world, 1, TXN_ANSWER_YES, NULL);
    (void)said(world);
}

static void test_the_home_has_the_last_word(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    to_decision(&world);
    answer(&world, 2, TXN_ANSWER_ABORTED, NULL); /* Somebody recovered it. */
    assert_string_equal(said(&world), "finish1@10:abort finish1@20:abort prepare2@10+");
    teardown(&world);
}

static void test_an_unknown_decision_is_asked_for_and_then_told_as_unknown(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    to_decision(&world);
    refuse(&world, 2, ERROR_OUTCOME_UNKNOWN);
    wait_ms(&world, 30);
    assert_string_equal(said(&world), "decide1@10:commit");
    wait_ms(&world, 1000);
    assert_int_equal(world.done_count, 1);
    assert_int_equal(world.done.result, TXN_UNKNOWN);
    /* What comes late helps those who wait. */
    answer(&world, 3, TXN_ANSWER_COMMITTED, NULL);
    assert_string_equal(said(&world), "finish1@10:commit finish1@20:commit");
    assert_int_equal(world.done_count, 1);
    teardown(&world);
}

static void test_a_wish_that_nobody_had_is_withdrawn(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    to_decision(&world);
    refuse(&world, 2, ERROR_NOT_LEADER);
    world.refusal = ERROR_NOT_LEADER;
    wait_ms(&world, 999);
    assert_int_equal(world.done_count, 0);
    wait_ms(&world, 100);
    assert_int_equal(world.done_count, 1);
    assert_int_equal(world.done.result, TXN_FAILED);
    teardown(&world);
}

/* A node that stops sends nothing to others any more: no transaction holds it up until its deadline. */
static void test_a_stop_ends_it(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        struct world world;
        setup(&world);
        to_decision(&world);
        uint32_t last = 2;
        if (i == 2) {
            answer(&world, 2, TXN_ANSWER_COMMITTED, NULL);
            last = 3;
        } else if (i == 3) {
            answer(&world, 2, TXN_ANSWER_COMMITTED, NULL);
            answer(&world, 3, TXN_ANSWER_COMMITTED, "+A\r\n");
            last = 4;
        }
        world.refusal = ERROR_STOPPED;
        refuse(&world, last, i == 0 ? ERROR_NOT_LEADER : ERROR_OUTCOME_UNKNOWN);
        wait_ms(&world, 50);
        if (i == 2) {
            refuse(&world, 4, ERROR_OUTCOME_UNKNOWN);
            wait_ms(&world, 50);
        }
        assert_int_equal(world.done_count, 1);
        const enum txn_result results[] = {TXN_FAILED, TXN_UNKNOWN, TXN_COMMITTED, TXN_COMMITTED};
        assert_int_equal(world.done.result, results[i]);
        assert_int_equal(world.done.status, i == 0   ? ERROR_STOPPED
                                            : i == 1 ? ERROR_OUTCOME_UNKNOWN
                                                     : 0);
        assert_true(i < 2 || strcmp(world.replies, i == 2 ? "?;?;" : "+A\r\n;?;") == 0);
        struct txn_statistics statistics;
        txn_get_statistics(world.txn, &statistics);
        assert_int_equal(statistics.attempt_open_count, 0);
        teardown(&world);
    }
}

static void test_a_decision_that_is_forgotten_is_unknown(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    to_decision(&world);
    answer(&world, 2, TXN_ANSWER_TOO_OLD, NULL);
    assert_int_equal(world.done.result, TXN_UNKNOWN);
    assert_string_equal(said(&world), "");
    teardown(&world);
}

static void test_replies_may_be_lost(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    to_decision(&world);
    answer(&world, 2, TXN_ANSWER_COMMITTED, NULL);
    answer(&world, 3, TXN_ANSWER_COMMITTED, "+A\r\n");
    refuse(&world, 4, ERROR_OUTCOME_UNKNOWN);
    wait_ms(&world, 30);
    answer(&world, 5, TXN_ANSWER_COMMITTED, NULL); /* It had been executed. */
    assert_int_equal(world.done.result, TXN_COMMITTED);
    assert_string_equal(world.replies, "+A\r\n;?;");
    assert_string_equal(said(&world),
                        "finish1@10:commit finish1@20:commit finish1@20:commit forget1@10:commit");
    teardown(&world);
}

static void test_recovery_asks_the_home(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    const struct txn_unfinished part = {.id = {5, 77, 900}, .place = 20, .home = 10};
    assert_true(txn_recover(world.txn, &part));
    assert_true(txn_recover(world.txn, &part)); /* Found again. */
    (void)txn_tick(world.txn);
    assert_string_equal(said(&world), "decide77@10:abort");
    answer(&world, 0, TXN_ANSWER_COMMITTED, NULL);
    assert_string_equal(said(&world), "finish77@20:commit");
    answer(&world, 1, TXN_ANSWER_COMMITTED, "+A\r\n");
    assert_string_equal(said(&world), ""); /* Others may not have finished: no FORGET. */

    assert_true(txn_recover(world.txn, &part));
    (void)txn_tick(world.txn);
    answer(&world, 2, TXN_ANSWER_ABORTED, NULL);
    assert_string_equal(said(&world), "decide77@10:abort finish77@20:abort");
    answer(&world, 3, TXN_ANSWER_ABORTED, NULL);

    const uint32_t places[] = {10, 20};
    const struct txn_unfinished decision = {
        .id = {5, 78, 900}, .place = 10, .home = 10, .places = places, .place_count = 2};
    assert_true(txn_recover(world.txn, &decision));
    (void)txn_tick(world.txn);
    assert_string_equal(said(&world), "finish78@10:commit finish78@20:commit");
    answer(&world, 4, TXN_ANSWER_COMMITTED, NULL);
    answer(&world, 5, TXN_ANSWER_UNPREPARED, NULL);
    assert_string_equal(said(&world), ""); /* A promise was broken: it is not forgotten. */
    struct txn_statistics statistics;
    txn_get_statistics(world.txn, &statistics);
    assert_int_equal(statistics.broken_count, 1);
    assert_int_equal(statistics.attempt_open_count, 0);
    teardown(&world);
}

/* Claim: who finds more than is taken at a time hears of it, so that the others come first next time. */
static void test_recoveries_are_so_many_at_a_time(void **state)
{
    (void)state;
    enum { COUNT_MAX = 64 };
    struct world world;
    setup(&world);
    struct txn_unfinished part = {.id = {5, 0, 900}, .place = 20, .home = 10};
    for (; part.id.number < COUNT_MAX; part.id.number++) {
        assert_true(txn_recover(world.txn, &part));
    }
    assert_false(txn_recover(world.txn, &part));
    world.refusal = ERROR_NOT_LEADER;
    (void)txn_tick(world.txn); /* All fail. */
    assert_true(txn_recover(world.txn, &part));
    teardown(&world);
}

static void test_limits(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    assert_int_equal(begin(&world), 0);
    assert_int_equal(begin(&world), 0);
    assert_int_equal(begin(&world), -EBUSY);
    struct txn_part *many = calloc(TXN_PART_COUNT_MAX + 1, sizeof *many);
    const struct txn_begin options = {.parts = many,
                                      .part_count = TXN_PART_COUNT_MAX + 1,
                                      .protocol = 2,
                                      .context = &world,
                                      .done = done};
    assert_int_equal(txn_begin(world.txn, &options), -E2BIG);
    free(many);
    struct txn *none = NULL;
    const struct txn_options nothing = {.origin = 1};
    assert_int_equal(txn_create(&none, &nothing, NULL), -EINVAL);
    teardown(&world);
}

/* What is too much at a time is refused before anybody looks at its bytes; the first is taken whatever
 * its size. */
static void test_too_much_is_not_copied(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    enum { MUCH = 70 << 20 };
    uint8_t *much = calloc(1, MUCH);
    const struct bytes nowhere = bytes_make((const uint8_t *)16, (size_t)1 << 45);
    struct bytes argument = bytes_make(much, MUCH);
    const struct txn_part part = {
        .place = 10, .argument_count = 1, .arguments = &argument, .does_grow = true};
    const struct txn_begin options = {
        .parts = &part, .part_count = 1, .protocol = 2, .context = &world, .done = done};
    assert_true(txn_has_room(world.txn, MUCH));
    assert_int_equal(txn_begin(world.txn, &options), 0);
    assert_false(txn_has_room(world.txn, 1));
    argument = nowhere;
    assert_int_equal(txn_begin(world.txn, &options), -EBUSY);
    free(much);
    refuse(&world, 0, -ENOSPC);
    assert_int_equal(world.done_count, 1);
    assert_true(txn_has_room(world.txn, nowhere.size_bytes));
    /* Small ones, until there are too many. */
    assert_int_equal(begin(&world), 0);
    assert_true(txn_has_room(world.txn, 1));
    assert_false(txn_has_room(world.txn, nowhere.size_bytes));
    assert_int_equal(begin(&world), 0);
    assert_false(txn_has_room(world.txn, 1));
    teardown(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_way_of_a_commit),
        cmocka_unit_test(test_a_part_is_lost),
        cmocka_unit_test(test_replies_beyond_the_limit),
        cmocka_unit_test(test_a_part_that_moved),
        cmocka_unit_test(test_no_step_ends_with_a_split),
        cmocka_unit_test(test_a_recovery_whose_home_moved),
        cmocka_unit_test(test_a_lock_means_abort_and_again_in_order),
        cmocka_unit_test(test_who_waits_has_time_until_the_deadline),
        cmocka_unit_test(test_a_single_part_waits_at_once),
        cmocka_unit_test(test_a_change_ends_it),
        cmocka_unit_test(test_a_silent_shard_does_not_hold_the_others),
        cmocka_unit_test(test_the_home_has_the_last_word),
        cmocka_unit_test(test_an_unknown_decision_is_asked_for_and_then_told_as_unknown),
        cmocka_unit_test(test_a_wish_that_nobody_had_is_withdrawn),
        cmocka_unit_test(test_a_stop_ends_it),
        cmocka_unit_test(test_a_decision_that_is_forgotten_is_unknown),
        cmocka_unit_test(test_replies_may_be_lost),
        cmocka_unit_test(test_recovery_asks_the_home),
        cmocka_unit_test(test_recoveries_are_so_many_at_a_time),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_too_much_is_not_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
