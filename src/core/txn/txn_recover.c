/* SPDX-License-Identifier: Apache-2.0 */
/* The end of what a coordinator left behind: of a part that is prepared, by asking the home, which
 * decides for ABORT if it has no decision (I3); of a commit, by telling everybody once more. A
 * failure ends the recovery: whoever found it will find it again. */
#include "base/assert/assert.h"
#include "core/txn/txn_internal.h"

static bool is_under_way(const struct txn *txn, const struct txn_unfinished *unfinished)
{
    for (const struct list *member = txn->attempts.next; member != &txn->attempts;
         member = member->next) {
        const struct txn_attempt *attempt = LIST_ITEM(member, struct txn_attempt, link);
        bool is_same = txn_id_equal(attempt->id, unfinished->id) &&
                       attempt->state != TXN_ATTEMPT_OVER &&
                       (!attempt->is_recovery || attempt->finishes[0].place == unfinished->place);
        if (is_same) {
            return true;
        }
    }
    return false;
}

static void ask_home(struct txn_attempt *attempt)
{
    struct txn *txn = attempt->txn;
    struct bytes places = bytes_make(attempt->places, attempt->part_count * 4u);
    struct txn_call_options options = {
        .place = attempt->home,
        .opcode = txn->options.decide_opcode,
        .outcome = TXN_ABORT,
    };
    if (BUG("txn.presumed_commit")) {
        options.outcome = TXN_COMMIT;
        options.others = &places;
        options.other_count = 1;
    }
    attempt->state = TXN_ATTEMPT_DECIDING;
    txn__call_init(&attempt->decide, attempt, &options);
    txn__call_ask(&attempt->decide, 0);
}

bool txn_recover(struct txn *txn, const struct txn_unfinished *unfinished)
{
    bool is_part = unfinished->place_count == 0;
    uint32_t count = is_part ? 1 : unfinished->place_count;
    const uint32_t *places = is_part ? &unfinished->place : unfinished->places;
    if (txn->recovery_count >= txn->options.recovery_count_max) {
        return false;
    }
    if (count > TXN_PART_COUNT_MAX || is_under_way(txn, unfinished)) {
        return true;
    }
    struct txn_attempt *attempt =
        txn__attempt_create(txn, unfinished->id, unfinished->home, places, count);
    attempt->is_recovery = true;
    attempt->is_part_only = is_part;
    attempt->finishes[0].place = unfinished->place; /* Until they are asked for. */
    attempt->deadline_ms = txn__now_ms(txn) + txn->options.deadline_ms;
    txn->recovery_count++;
    TRACE("txn.recovery", unfinished->id.origin, unfinished->id.number, unfinished->place, is_part);
    if (!is_part) {
        txn__finish_all(attempt, TXN_COMMIT);
    } else if (BUG("txn.timeout_aborts")) {
        txn__finish_all(attempt, TXN_ABORT);
    } else {
        ask_home(attempt);
    }
    return true;
}

void txn__recovery_answered(struct txn_attempt *attempt, struct txn_call *call)
{
    struct txn_reply reply;
    if (attempt->state != TXN_ATTEMPT_DECIDING) {
        return;
    }
    if (call->status == ERROR_MOVED && attempt->deadline_ms != UINT64_MAX) {
        PROBE("txn.home_moved");
        txn__call_ask(call, TXN_ASK_AGAIN_DELAY_MS);
        return;
    }
    if (call->status != 0 || !txn_reply_decode(buffer_bytes(&call->reply), &reply)) {
        txn__attempt_over(attempt);
        return;
    }
    /* Of what is too old there was no commit, or all have finished it since it was found here: then
     * nothing is dropped. */
    bool is_commit = reply.answer == TXN_ANSWER_COMMITTED;
    attempt->is_too_late = reply.answer == TXN_ANSWER_TOO_OLD;
    attempt->txn->statistics.recovered_count++;
    txn__finish_all(attempt, is_commit ? TXN_COMMIT : TXN_ABORT);
}
