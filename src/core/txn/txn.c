/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions of clients: what is copied, when the next attempt begins, and the loop. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/txn/txn_internal.h"

enum {
    DEADLINE_MS = 10000,
    PREPARE_TIMEOUT_MS = 2000,
    BACKOFF_MS_MIN = 2,
    BACKOFF_MS_MAX = 250,
    COUNT_MAX = 4096,
    SIZE_BYTES_MAX = 64 << 20,
    RECOVERY_COUNT_MAX = 64,
};

uint64_t txn__now_ms(const struct txn *txn)
{
    const struct env_clock *clock = &txn->options.host.clock;
    return clock->now_ms(clock->context);
}

static uint32_t with_default(uint32_t value, uint32_t otherwise)
{
    return value == 0 ? otherwise : value;
}

int txn_create(struct txn **txn, const struct txn_options *options, struct error *error)
{
    bool are_opcodes_known = options->prepare_opcode != 0 && options->decide_opcode != 0 &&
                             options->finish_opcode != 0 && options->forget_opcode != 0;
    if (options->origin == 0 || options->host.submit == NULL || !are_opcodes_known ||
        options->backoff_ms_min > options->backoff_ms_max) {
        return error_say(error, -EINVAL,
                         "transactions: an option is missing or contradicts another");
    }
    struct txn *created = memory_allocate_zeroed(1, sizeof *created);
    created->options = *options;
    struct txn_options *own = &created->options;
    own->deadline_ms = with_default(own->deadline_ms, DEADLINE_MS);
    own->prepare_timeout_ms = with_default(own->prepare_timeout_ms, PREPARE_TIMEOUT_MS);
    own->backoff_ms_min = with_default(own->backoff_ms_min, BACKOFF_MS_MIN);
    own->backoff_ms_max = with_default(own->backoff_ms_max, BACKOFF_MS_MAX);
    own->count_max = with_default(own->count_max, COUNT_MAX);
    own->size_bytes_max = own->size_bytes_max == 0 ? SIZE_BYTES_MAX : own->size_bytes_max;
    own->recovery_count_max = with_default(own->recovery_count_max, RECOVERY_COUNT_MAX);
    own->reply_size_bytes_max =
        own->reply_size_bytes_max == 0 ? UINT64_MAX : own->reply_size_bytes_max;
    random_init(&created->random, options->random_seed);
    list_init(&created->transactions);
    list_init(&created->attempts);
    list_init(&created->waiting);
    list_init(&created->answered);
    *txn = created;
    return 0;
}

static void transaction_free(struct txn *txn, struct txn_transaction *transaction)
{
    list_remove(&transaction->link);
    txn->statistics.open_count--;
    txn->size_bytes -= transaction->size_bytes;
    memory_free(transaction);
}

void txn_destroy(struct txn *txn)
{
    if (txn == NULL) {
        return;
    }
    LIST_EACH(member, next_member, &txn->attempts)
    {
        struct txn_attempt *attempt = LIST_ITEM(member, struct txn_attempt, link);
        attempt->transaction = NULL;
        txn__attempt_forsake(attempt);
        txn__attempt_destroy(attempt);
    }
    LIST_EACH(member, next_member, &txn->transactions)
    {
        transaction_free(txn, LIST_ITEM(member, struct txn_transaction, link));
    }
    memory_free(txn);
}

/* ---- Beginning ------------------------------------------------------------------------------- */

static uint64_t argument_count_of(const struct txn_begin *begin)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < begin->part_count; i++) {
        count += begin->parts[i].argument_count;
    }
    return count;
}

static uint64_t size_of(const struct txn_begin *begin)
{
    uint64_t size = sizeof(struct txn_transaction) + begin->part_count * sizeof(struct txn_part) +
                    argument_count_of(begin) * sizeof(struct bytes);
    for (uint32_t i = 0; i < begin->part_count; i++) {
        for (uint32_t j = 0; j < begin->parts[i].argument_count; j++) {
            size += begin->parts[i].arguments[j].size_bytes;
        }
    }
    return size;
}

bool txn_has_room(const struct txn *txn, uint64_t size_bytes)
{
    return txn->statistics.open_count < txn->options.count_max &&
           (txn->size_bytes == 0 || txn->size_bytes + size_bytes <= txn->options.size_bytes_max);
}

/* The transaction with its parts, their arguments and the bytes of these, in one piece. */
static struct txn_transaction *copy_transaction(const struct txn_begin *begin, uint64_t size_bytes)
{
    struct txn_transaction *copy = memory_allocate(size_bytes);
    *copy = (struct txn_transaction){.begin = *begin, .size_bytes = size_bytes};
    copy->parts = (struct txn_part *)(copy + 1);
    struct bytes *arguments = (struct bytes *)(copy->parts + begin->part_count);
    uint8_t *place = (uint8_t *)(arguments + argument_count_of(begin));
    for (uint32_t i = 0; i < begin->part_count; i++) {
        copy->parts[i] = begin->parts[i];
        copy->parts[i].arguments = arguments;
        for (uint32_t j = 0; j < begin->parts[i].argument_count; j++) {
            struct bytes argument = begin->parts[i].arguments[j];
            *arguments++ = bytes_make(place, argument.size_bytes);
            if (argument.size_bytes > 0) {
                memcpy(place, argument.data, argument.size_bytes);
            }
            place += argument.size_bytes;
        }
    }
    copy->begin.parts = copy->parts;
    ASSERT(place == (const uint8_t *)copy + size_bytes);
    return copy;
}

int txn_begin(struct txn *txn, const struct txn_begin *begin)
{
    ASSERT(begin->part_count > 0 && begin->done != NULL);
    ASSERT(begin->protocol == 2 || begin->protocol == 3);
    if (begin->part_count > TXN_PART_COUNT_MAX) {
        return -E2BIG;
    }
    for (uint32_t i = 1; i < begin->part_count; i++) {
        ASSERT(begin->parts[i - 1].place < begin->parts[i].place);
    }
    uint64_t size_bytes = size_of(begin);
    if (!txn_has_room(txn, size_bytes)) {
        return -EBUSY;
    }
    struct txn_transaction *transaction = copy_transaction(begin, size_bytes);
    transaction->deadline_ms = txn__now_ms(txn) + txn->options.deadline_ms;
    txn->size_bytes += transaction->size_bytes;
    txn->statistics.open_count++;
    txn->statistics.begun_count++;
    list_push_back(&txn->transactions, &transaction->link);
    txn__attempt_start(txn, transaction);
    /* Messages go, answers wait: done() is never called from within. */
    bool is_stepping = txn->is_stepping;
    txn->is_stepping = true;
    txn__submit_due(txn);
    txn->is_stepping = is_stepping;
    return 0;
}

/* ---- Ending ---------------------------------------------------------------------------------- */

void txn__answer(struct txn *txn, struct txn_transaction *transaction, const struct txn_done *done)
{
    struct txn_statistics *statistics = &txn->statistics;
    switch (done->result) {
    case TXN_COMMITTED:
        statistics->committed_count++;
        break;
    case TXN_CHANGED:
        statistics->changed_count++;
        break;
    case TXN_FAILED:
        statistics->failed_count++;
        break;
    case TXN_UNKNOWN:
        statistics->unknown_count++;
        break;
    }
    ASSERT(transaction->attempt == NULL);
    const struct txn_begin begin = transaction->begin;
    transaction_free(txn, transaction);
    begin.done(begin.context, done); /* I6 */
}

/* Doubles with each attempt, and is drawn between a half of that and all of it. */
static uint64_t backoff_ms(struct txn *txn, uint32_t attempt_count)
{
    uint32_t doublings = attempt_count > 16 ? 16 : attempt_count;
    uint64_t most_ms = (uint64_t)txn->options.backoff_ms_min << doublings;
    most_ms = most_ms > txn->options.backoff_ms_max ? txn->options.backoff_ms_max : most_ms;
    return most_ms / 2 + random_below(&txn->random, most_ms / 2 + 1);
}

void txn__try_again(struct txn *txn, struct txn_transaction *transaction, int status)
{
    uint64_t now_ms = txn__now_ms(txn);
    bool is_final = status == -ENOSPC || status == -E2BIG || status == ERROR_PROTOCOL ||
                    status == ERROR_STOPPED || status == ERROR_MOVED;
    /* The second attempt waits where it is decided whose turn it is. */
    bool is_at_once = status == -EBUSY && transaction->attempt_count == 1;
    uint64_t delay_ms = is_at_once ? 0 : backoff_ms(txn, transaction->attempt_count);
    transaction->retry_at_ms = now_ms + delay_ms;
    if (is_final || transaction->retry_at_ms >= transaction->deadline_ms) {
        /* Nothing happened: the attempt never asked for COMMIT, or was answered ABORTED. */
        const struct txn_done done = {
            .result = TXN_FAILED,
            .status = status == ERROR_OUTCOME_UNKNOWN ? ERROR_NOT_LEADER : status,
        };
        txn__answer(txn, transaction, &done);
    } else if (is_at_once) {
        txn__attempt_start(txn, transaction);
    }
}

/* ---- The loop -------------------------------------------------------------------------------- */

static void look_at_answers(struct txn *txn)
{
    for (struct list *member; (member = list_pop_front(&txn->answered)) != NULL;) {
        struct txn_call *call = LIST_ITEM(member, struct txn_call, link);
        txn__attempt_answered(call->attempt, call);
    }
}

/* Is no call of it under way, in a list, or to come? */
static void free_what_is_over(struct txn *txn)
{
    LIST_EACH(member, next_member, &txn->attempts)
    {
        struct txn_attempt *attempt = LIST_ITEM(member, struct txn_attempt, link);
        if (attempt->state == TXN_ATTEMPT_OVER && attempt->under_way_count == 0) {
            txn->recovery_count -= attempt->is_recovery;
            txn__attempt_destroy(attempt);
        }
    }
}

void txn__step(struct txn *txn)
{
    if (txn->is_stepping) {
        return;
    }
    txn->is_stepping = true;
    do {
        look_at_answers(txn);
        txn__submit_due(txn);
    } while (!list_is_empty(&txn->answered));
    free_what_is_over(txn);
    txn->is_stepping = false;
}

uint64_t txn_tick(struct txn *txn)
{
    uint64_t now_ms = txn__now_ms(txn);
    uint64_t next_ms = UINT64_MAX;
    txn->is_stepping = true;
    for (struct list *member = txn->attempts.next; member != &txn->attempts;
         member = member->next) {
        txn__attempt_check_time(LIST_ITEM(member, struct txn_attempt, link), now_ms);
    }
    LIST_EACH(member, next_member, &txn->transactions)
    {
        struct txn_transaction *transaction = LIST_ITEM(member, struct txn_transaction, link);
        if (transaction->attempt == NULL && transaction->retry_at_ms <= now_ms) {
            txn__attempt_start(txn, transaction);
        }
        if (transaction->attempt == NULL && transaction->retry_at_ms < next_ms) {
            next_ms = transaction->retry_at_ms;
        }
    }
    txn->is_stepping = false;
    txn__step(txn);
    for (struct list *member = txn->attempts.next; member != &txn->attempts;
         member = member->next) {
        const struct txn_attempt *attempt = LIST_ITEM(member, struct txn_attempt, link);
        bool is_open = attempt->state != TXN_ATTEMPT_OVER;
        next_ms = is_open && attempt->deadline_ms < next_ms ? attempt->deadline_ms : next_ms;
    }
    uint64_t due_ms = txn__next_due_ms(txn);
    return due_ms < next_ms ? due_ms : next_ms;
}

void txn_get_statistics(const struct txn *txn, struct txn_statistics *statistics)
{
    *statistics = txn->statistics;
}
