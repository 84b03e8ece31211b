/* SPDX-License-Identifier: Apache-2.0 */
/* An attempt, from its first PREPARE to its FORGET.
 *
 *   PREPARING   all yes: ask for COMMIT              -> DECIDING
 *               no, or out of patience: tell ABORT   -> FINISHING, and another attempt
 *   DECIDING    COMMITTED: tell it                   -> FINISHING
 *               ABORTED: tell it                     -> FINISHING, and another attempt
 *   FINISHING   all have answered COMMITTED          -> FORGETTING
 *               all have answered ABORTED            -> OVER
 *   FORGETTING  whatever is answered                 -> OVER
 *
 * When the client has its answer, or another attempt is on its way, `transaction` is NULL. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "core/txn/txn_internal.h"

struct txn_attempt *txn__attempt_create(struct txn *txn, struct txn_id id, uint32_t home,
                                        const uint32_t *places, uint32_t place_count)
{
    struct txn_attempt *attempt = memory_allocate_zeroed(1, sizeof *attempt);
    *attempt = (struct txn_attempt){
        .txn = txn,
        .id = id,
        .home = home,
        .part_count = place_count,
        .finishes = memory_allocate_zeroed(place_count, sizeof *attempt->finishes),
        .places = memory_allocate(place_count * 4u),
    };
    for (uint32_t i = 0; i < place_count; i++) {
        endian_put_u32_le(attempt->places + (size_t)i * 4, places[i]);
    }
    list_push_back(&txn->attempts, &attempt->link);
    txn->statistics.attempt_open_count++;
    return attempt;
}

void txn__attempt_destroy(struct txn_attempt *attempt)
{
    ASSERT(attempt->transaction == NULL && attempt->under_way_count == 0);
    for (uint32_t i = 0; i < attempt->part_count; i++) {
        if (attempt->prepares != NULL) {
            txn__call_deinit(&attempt->prepares[i]);
        }
        txn__call_deinit(&attempt->finishes[i]);
    }
    txn__call_deinit(&attempt->decide);
    txn__call_deinit(&attempt->forget);
    memory_free(attempt->prepares);
    memory_free(attempt->finishes);
    memory_free(attempt->places);
    list_remove(&attempt->link);
    attempt->txn->statistics.attempt_open_count--;
    memory_free(attempt);
}

void txn__attempt_forsake(struct txn_attempt *attempt)
{
    for (uint32_t i = 0; i < attempt->part_count; i++) {
        if (attempt->prepares != NULL) {
            txn__call_forsake(&attempt->prepares[i]);
        }
        txn__call_forsake(&attempt->finishes[i]);
    }
    txn__call_forsake(&attempt->decide);
    txn__call_forsake(&attempt->forget);
}

static uint32_t place_of(const struct txn_attempt *attempt, uint32_t part)
{
    return endian_get_u32_le(attempt->places + (size_t)part * 4);
}

void txn__attempt_over(struct txn_attempt *attempt)
{
    attempt->state = TXN_ATTEMPT_OVER;
}

/* The client will not hear of this attempt any more. */
static struct txn_transaction *detach(struct txn_attempt *attempt)
{
    struct txn_transaction *transaction = attempt->transaction;
    attempt->transaction = NULL;
    if (transaction != NULL) {
        transaction->attempt = NULL;
    }
    return transaction;
}

/* ---- PREPARE --------------------------------------------------------------------------------- */

void txn__attempt_start(struct txn *txn, struct txn_transaction *transaction)
{
    uint32_t places[TXN_PART_COUNT_MAX];
    uint32_t count = transaction->begin.part_count;
    for (uint32_t i = 0; i < count; i++) {
        places[i] = transaction->parts[i].place;
    }
    struct env_clock *clock = &txn->options.host.clock;
    const struct txn_id id = {txn->options.origin, ++txn->last_number,
                              clock->wall_ms(clock->context)};
    struct txn_attempt *attempt = txn__attempt_create(txn, id, places[0], places, count);
    attempt->transaction = transaction;
    transaction->attempt = attempt;
    attempt->is_in_order = transaction->attempt_count > 0 || count == 1;
    transaction->attempt_count++;
    txn->statistics.attempt_count++;
    uint64_t now_ms = txn__now_ms(txn);
    attempt->deadline_ms =
        attempt->is_in_order ? transaction->deadline_ms : now_ms + txn->options.prepare_timeout_ms;
    attempt->prepares = memory_allocate_zeroed(count, sizeof *attempt->prepares);
    TRACE("txn.begun", id.origin, id.number, count, attempt->is_in_order);
    for (uint32_t i = 0; i < count; i++) {
        const struct txn_part *part = &transaction->parts[i];
        const struct txn_call_options options = {
            .place = part->place,
            .first_slot = part->first_slot,
            .end_slot = part->end_slot,
            .part = i,
            .opcode = txn->options.prepare_opcode,
            .protocol = transaction->begin.protocol,
            .may_wait = attempt->is_in_order,
            .does_grow = part->does_grow,
            .others = part->arguments,
            .other_count = part->argument_count,
        };
        txn__call_init(&attempt->prepares[i], attempt, &options);
        if (i == 0 || !attempt->is_in_order || BUG("txn.order_ignored")) {
            txn__call_ask(&attempt->prepares[i], 0);
        }
    }
}

/* May the part be prepared, now or later? */
static bool may_be_prepared(const struct txn_call *prepare)
{
    if (prepare->submit_count == 0) {
        return false;
    }
    if (prepare->state != TXN_CALL_ANSWERED) {
        return true;
    }
    struct txn_reply reply;
    if (prepare->status != 0) {
        return prepare->status == ERROR_OUTCOME_UNKNOWN;
    }
    return !txn_reply_decode(buffer_bytes(&prepare->reply), &reply) ||
           reply.answer == TXN_ANSWER_YES;
}

/* It never asks for COMMIT from now on (I2): whoever is prepared may drop its part. */
static void abort_parts(struct txn_attempt *attempt)
{
    txn__call_cancel(&attempt->decide);
    for (uint32_t i = 0; i < attempt->part_count; i++) {
        txn__call_cancel(&attempt->prepares[i]);
    }
    txn__finish_all(attempt, TXN_ABORT);
}

static void give_up(struct txn_attempt *attempt, int status)
{
    struct txn *txn = attempt->txn;
    struct txn_transaction *transaction = detach(attempt);
    abort_parts(attempt);
    if (transaction != NULL) {
        txn__try_again(txn, transaction, status);
    }
}

static void refuse_changed(struct txn_attempt *attempt)
{
    struct txn_transaction *transaction = detach(attempt);
    const struct txn_done done = {.result = TXN_CHANGED};
    abort_parts(attempt);
    txn__answer(attempt->txn, transaction, &done);
}

static void ask_for_commit(struct txn_attempt *attempt)
{
    struct txn *txn = attempt->txn;
    ASSERT(attempt->prepared_count == attempt->part_count || BUG("txn.majority_suffices")); /* I1 */
    attempt->state = TXN_ATTEMPT_DECIDING;
    attempt->deadline_ms = txn__now_ms(txn) + txn->options.deadline_ms;
    const struct bytes places = bytes_make(attempt->places, attempt->part_count * 4u);
    const struct txn_call_options options = {
        .place = attempt->home,
        .opcode = txn->options.decide_opcode,
        .outcome = TXN_COMMIT,
        .others = &places,
        .other_count = 1,
    };
    txn__call_init(&attempt->decide, attempt, &options);
    txn__call_ask(&attempt->decide, 0);
    if (BUG("txn.tells_before_decision")) {
        txn__finish_all(attempt, TXN_COMMIT);
    }
}

static void take_vote(struct txn_attempt *attempt, enum txn_answer vote)
{
    switch (vote) {
    case TXN_ANSWER_YES:
        attempt->prepared_count++;
        if (attempt->prepared_count == attempt->part_count || BUG("txn.majority_suffices")) {
            ask_for_commit(attempt);
        } else if (attempt->is_in_order && !BUG("txn.order_ignored")) {
            txn__call_ask(&attempt->prepares[attempt->prepared_count], 0);
        }
        return;
    case TXN_ANSWER_LOCKED:
        attempt->txn->statistics.conflict_count++;
        attempt->transaction->was_locked = true;
        give_up(attempt, -EBUSY);
        return;
    case TXN_ANSWER_CHANGED:
        refuse_changed(attempt);
        return;
    case TXN_ANSWER_TOO_OLD:
    case TXN_ANSWER_ABORTED: /* A recoverer was faster. */
        give_up(attempt, -EBUSY);
        return;
    case TXN_ANSWER_COMMITTED:
    case TXN_ANSWER_UNPREPARED:
    case TXN_ANSWER_DONE:
        break;
    }
    attempt->txn->statistics.broken_count++;
    give_up(attempt, ERROR_PROTOCOL);
}

static void prepare_answered(struct txn_attempt *attempt, const struct txn_call *call)
{
    if (attempt->state != TXN_ATTEMPT_PREPARING) {
        PROBE("txn.late_vote"); /* FINISH(ABORT) went there before, or goes there now. */
        return;
    }
    struct txn_reply reply;
    if (call->status != 0) {
        give_up(attempt, call->status);
    } else if (!txn_reply_decode(buffer_bytes(&call->reply), &reply)) {
        give_up(attempt, ERROR_PROTOCOL);
    } else {
        take_vote(attempt, reply.answer);
    }
}

/* ---- DECIDE ---------------------------------------------------------------------------------- */

/* Nobody knows, at least not now. The call may still bring the answer. */
static void answer_unknown(struct txn_attempt *attempt)
{
    struct txn_transaction *transaction = detach(attempt);
    const struct txn_done done = {.result = TXN_UNKNOWN, .status = ERROR_OUTCOME_UNKNOWN};
    if (transaction != NULL) {
        PROBE("txn.outcome_unknown");
        txn__answer(attempt->txn, transaction, &done);
    }
}

/* This node is stopping, and no wish goes out any more. */
static void decide_stopped(struct txn_attempt *attempt)
{
    PROBE("txn.decide_stopped");
    if (attempt->decide.is_certain) {
        give_up(attempt, ERROR_STOPPED); /* Nobody ever had the wish. */
        return;
    }
    answer_unknown(attempt);
    txn__attempt_over(attempt);
}

static void decide_answered(struct txn_attempt *attempt, struct txn_call *call)
{
    if (attempt->state != TXN_ATTEMPT_DECIDING) {
        return;
    }
    struct txn_reply reply;
    bool is_heard = call->status == 0 && txn_reply_decode(buffer_bytes(&call->reply), &reply);
    if (!is_heard && call->status == ERROR_OUTCOME_UNKNOWN && BUG("txn.silence_is_commit")) {
        txn__finish_all(attempt, TXN_COMMIT);
    } else if (!is_heard) {
        if (attempt->transaction == NULL) {
            txn__attempt_over(attempt);
        } else if (call->status == ERROR_STOPPED) {
            decide_stopped(attempt);
        } else {
            PROBE("txn.decide_asked_again");
            txn__call_ask(call, TXN_ASK_AGAIN_DELAY_MS);
        }
    } else if (reply.answer == TXN_ANSWER_COMMITTED) {
        txn__finish_all(attempt, TXN_COMMIT);
    } else if (reply.answer == TXN_ANSWER_ABORTED) {
        PROBE("txn.decided_otherwise");
        give_up(attempt, -EBUSY);
    } else {
        /* Too old: clocks have jumped. There is no commit now, but there may have been one that all
         * have finished. What is prepared will be recovered. */
        PROBE("txn.decision_forgotten");
        answer_unknown(attempt);
        txn__attempt_over(attempt);
    }
}

/* ---- FINISH and FORGET ----------------------------------------------------------------------- */

void txn__finish_all(struct txn_attempt *attempt, enum txn_outcome outcome)
{
    struct txn *txn = attempt->txn;
    if (attempt->state == TXN_ATTEMPT_FINISHING) {
        return; /* A planted bug was faster. */
    }
    attempt->state = TXN_ATTEMPT_FINISHING;
    attempt->outcome = outcome;
    attempt->deadline_ms = txn__now_ms(txn) + txn->options.deadline_ms;
    for (uint32_t i = 0; i < attempt->part_count; i++) {
        const struct txn_call_options options = {
            .place = place_of(attempt, i),
            .part = i,
            .opcode = txn->options.finish_opcode,
            .outcome = outcome,
        };
        struct txn_call *finish = &attempt->finishes[i];
        txn__call_init(finish, attempt, &options);
        if (outcome == TXN_ABORT && attempt->prepares != NULL &&
            !may_be_prepared(&attempt->prepares[i])) {
            finish->is_final = true;
            attempt->finished_count++;
        } else {
            txn__call_ask(finish, 0);
        }
    }
    if (attempt->finished_count == attempt->part_count) {
        txn__finished(attempt);
    }
}

/* The replies of the parts, those that are there. */
static void answer_committed(struct txn_attempt *attempt)
{
    struct txn_transaction *transaction = detach(attempt);
    if (transaction == NULL) {
        return;
    }
    struct bytes *replies = memory_allocate_zeroed(attempt->part_count, sizeof replies[0]);
    bool are_all_there = true;
    for (uint32_t i = 0; i < attempt->part_count; i++) {
        const struct txn_call *finish = &attempt->finishes[i];
        struct txn_reply reply = {0};
        bool is_there = finish->is_final &&
                        txn_reply_decode(buffer_bytes(&finish->reply), &reply) && reply.has_replies;
        replies[i] = is_there ? reply.replies : bytes_make(NULL, 0);
        are_all_there = are_all_there && is_there;
    }
    struct txn *txn = attempt->txn;
    bool are_too_large = attempt->reply_size_bytes > txn->options.reply_size_bytes_max;
    txn->statistics.lost_replies_count += !are_all_there && !are_too_large;
    const struct txn_done done = {.result = TXN_COMMITTED,
                                  .replies = replies,
                                  .part_count = attempt->part_count,
                                  .are_too_large = are_too_large,
                                  .is_broken = attempt->is_broken};
    txn__answer(txn, transaction, &done);
    memory_free(replies);
}

void txn__finished(struct txn_attempt *attempt)
{
    struct txn *txn = attempt->txn;
    if (attempt->outcome == TXN_COMMIT) {
        answer_committed(attempt);
    }
    if (attempt->outcome == TXN_ABORT || attempt->is_part_only ||
        attempt->kept_count < attempt->part_count) {
        txn__attempt_over(attempt);
        return;
    }
    attempt->state = TXN_ATTEMPT_FORGETTING; /* I5 */
    const struct txn_call_options options = {
        .place = attempt->home,
        .opcode = txn->options.forget_opcode,
        .outcome = TXN_COMMIT,
    };
    txn__call_init(&attempt->forget, attempt, &options);
    txn__call_ask(&attempt->forget, 0);
}

/* Each shard limits what it answers; all that wait for the others do not hold more than one answer may be.
 * What nobody waits for is not kept, either. */
static void keep_within_limit(struct txn_attempt *attempt, const struct txn_call *call)
{
    attempt->reply_size_bytes += call->reply.size_bytes;
    if (attempt->transaction != NULL &&
        attempt->reply_size_bytes <= attempt->txn->options.reply_size_bytes_max) {
        return;
    }
    for (uint32_t i = 0; i < attempt->part_count; i++) {
        if (attempt->finishes[i].is_final) {
            buffer_deinit(&attempt->finishes[i].reply);
        }
    }
}

/* Whoever is prepared, or the home, finds it and tells the rest. */
static void leave_to_recovery(struct txn_attempt *attempt)
{
    PROBE("txn.finish_left_to_recovery");
    for (uint32_t i = 0; i < attempt->part_count; i++) {
        txn__call_cancel(&attempt->finishes[i]);
    }
    if (attempt->outcome == TXN_COMMIT) {
        answer_committed(attempt);
    }
    txn__attempt_over(attempt);
}

static void finish_answered(struct txn_attempt *attempt, struct txn_call *call)
{
    struct txn *txn = attempt->txn;
    if (attempt->state != TXN_ATTEMPT_FINISHING) {
        return;
    }
    struct txn_reply reply;
    bool is_heard = call->status == 0 && txn_reply_decode(buffer_bytes(&call->reply), &reply);
    if (!is_heard && call->status == ERROR_STOPPED) {
        leave_to_recovery(attempt);
        return;
    }
    if (!is_heard) {
        PROBE("txn.finish_asked_again");
        txn__call_ask(call, TXN_ASK_AGAIN_DELAY_MS);
        return;
    }
    enum txn_answer expected =
        attempt->outcome == TXN_COMMIT ? TXN_ANSWER_COMMITTED : TXN_ANSWER_ABORTED;
    if (reply.answer == expected) {
        attempt->kept_count++;
    } else if (!attempt->is_too_late) {
        txn->statistics.broken_count++;
        attempt->is_broken = true;
        TRACE("txn.broken", attempt->id.origin, attempt->id.number, call->place, reply.answer);
    }
    call->is_final = true;
    keep_within_limit(attempt, call);
    attempt->finished_count++;
    if (attempt->finished_count == attempt->part_count) {
        txn__finished(attempt);
    }
}

/* ---- What drives it -------------------------------------------------------------------------- */

static bool is_one_of(const struct txn_call *call, const struct txn_call *calls, uint32_t count)
{
    return calls != NULL && call >= calls && call < calls + count;
}

void txn__attempt_answered(struct txn_attempt *attempt, struct txn_call *call)
{
    if (is_one_of(call, attempt->prepares, attempt->part_count)) {
        prepare_answered(attempt, call);
    } else if (is_one_of(call, attempt->finishes, attempt->part_count)) {
        finish_answered(attempt, call);
    } else if (call == &attempt->forget && call->status == ERROR_MOVED &&
               attempt->state == TXN_ATTEMPT_FORGETTING) {
        txn__call_ask(call, TXN_ASK_AGAIN_DELAY_MS);
    } else if (call == &attempt->forget) {
        txn__attempt_over(attempt);
    } else if (attempt->is_recovery) {
        txn__recovery_answered(attempt, call);
    } else {
        decide_answered(attempt, call);
    }
}

void txn__attempt_check_time(struct txn_attempt *attempt, uint64_t now_ms)
{
    if (now_ms < attempt->deadline_ms) {
        return;
    }
    switch (attempt->state) {
    case TXN_ATTEMPT_PREPARING:
        PROBE("txn.prepare_timeout");
        /* Nobody knows whether that shard has no leader or a long line. */
        give_up(attempt, attempt->transaction->was_locked ? -EBUSY : ERROR_NOT_LEADER);
        return;
    case TXN_ATTEMPT_DECIDING:
        if (attempt->decide.state == TXN_CALL_WAITING) {
            txn__call_cancel(&attempt->decide);
            if (attempt->decide.is_certain && !attempt->is_recovery) {
                give_up(attempt, ERROR_NOT_LEADER); /* Nobody ever had the wish. */
                return;
            }
            txn__attempt_over(attempt);
        }
        attempt->deadline_ms = UINT64_MAX;
        answer_unknown(attempt);
        return;
    case TXN_ATTEMPT_FINISHING:
        leave_to_recovery(attempt);
        return;
    case TXN_ATTEMPT_FORGETTING:
        txn__call_cancel(&attempt->forget);
        txn__attempt_over(attempt);
        return;
    case TXN_ATTEMPT_OVER:
        return;
    }
}
