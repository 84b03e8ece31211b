/* SPDX-License-Identifier: Apache-2.0 */
/* A command on its way to a shard and back. Answers are gathered and looked at by txn__step(), never
 * from within the host. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/txn/txn_internal.h"

enum { BUSY_DELAY_MS = 2 };

static void call_done(struct shard_request *request, int status, struct bytes reply);

void txn__call_init(struct txn_call *call, struct txn_attempt *attempt,
                    const struct txn_call_options *options)
{
    *call = (struct txn_call){
        .attempt = attempt,
        .part = options->part,
        .place = options->place,
        .first_slot = options->first_slot,
        .end_slot = options->end_slot,
        .is_certain = true,
        .argument_count = 1 + options->other_count,
    };
    call->arguments = memory_allocate((1u + options->other_count) * sizeof call->arguments[0]);
    call->arguments[0] = bytes_make(call->header, sizeof call->header);
    if (options->other_count > 0) {
        memcpy(call->arguments + 1, options->others,
               options->other_count * sizeof call->arguments[0]);
    }
    const struct txn_header header = {
        .id = attempt->id,
        .place = options->place,
        .home = attempt->home,
        .outcome = options->outcome,
        .protocol = options->protocol,
        .may_wait = options->may_wait,
    };
    txn_header_encode(&header, call->header);
    shard_session_init(&call->session);
    call->request = (struct shard_request){
        .command = {.opcode = options->opcode,
                    .argument_count = call->argument_count,
                    .arguments = call->arguments},
        .protocol = 2,
        .is_write = true,
        .does_grow = options->does_grow,
        .does_release = options->opcode != attempt->txn->options.prepare_opcode,
        .is_bounded = true, /* By size_bytes_max: of the parts, and a small one for each of them. */
        .done = call_done,
        .session = &call->session,
    };
}

void txn__call_deinit(struct txn_call *call)
{
    ASSERT(call->state != TXN_CALL_UNDER_WAY);
    txn__call_cancel(call);
    buffer_deinit(&call->reply);
    memory_free(call->arguments);
}

void txn__call_forsake(struct txn_call *call)
{
    if (call->state == TXN_CALL_UNDER_WAY) {
        call->state = TXN_CALL_IDLE;
        call->attempt->under_way_count--;
    }
}

void txn__call_ask(struct txn_call *call, uint64_t delay_ms)
{
    ASSERT(call->state == TXN_CALL_IDLE || call->state == TXN_CALL_ANSWERED);
    struct txn *txn = call->attempt->txn;
    call->state = TXN_CALL_WAITING;
    call->retry_at_ms = txn__now_ms(txn) + delay_ms;
    list_push_back(&txn->waiting, &call->link);
}

void txn__call_cancel(struct txn_call *call)
{
    if (call->state == TXN_CALL_WAITING) {
        list_remove(&call->link);
        call->state = TXN_CALL_IDLE;
    }
}

static void take_answer(struct txn_call *call, int status, struct bytes reply)
{
    struct txn *txn = call->attempt->txn;
    ASSERT(call->state == TXN_CALL_UNDER_WAY);
    call->state = TXN_CALL_ANSWERED;
    call->status = status;
    call->is_certain = call->is_certain && status != ERROR_OUTCOME_UNKNOWN;
    buffer_clear(&call->reply);
    buffer_append(&call->reply, reply);
    call->attempt->under_way_count--;
    list_push_back(&txn->answered, &call->link);
}

static void call_done(struct shard_request *request, int status, struct bytes reply)
{
    struct txn_call *call = (struct txn_call *)request;
    struct txn *txn = call->attempt->txn;
    take_answer(call, status, reply);
    txn__step(txn);
}

static void submit(struct txn_call *call)
{
    struct txn *txn = call->attempt->txn;
    struct txn_host *host = &txn->options.host;
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = 2};
    /* The host may have moved them to a copy. */
    call->request.command.arguments = call->arguments;
    call->request.command.argument_count = call->argument_count;
    call->request.first_slot = call->first_slot;
    call->request.end_slot = call->end_slot;
    call->state = TXN_CALL_UNDER_WAY;
    call->attempt->under_way_count++;
    int status = host->submit(host->context, call->place, &call->request, &reply);
    if (status == SHARD_PENDING) {
        call->submit_count++;
    } else if (status == -EBUSY) {
        call->attempt->under_way_count--;
        call->state = TXN_CALL_IDLE;
        txn__call_ask(call, BUSY_DELAY_MS);
    } else {
        call->submit_count++;
        take_answer(call, status == SHARD_ANSWERED ? 0 : status, buffer_bytes(&answer));
    }
    buffer_deinit(&answer);
}

void txn__submit_due(struct txn *txn)
{
    ASSERT(txn->is_stepping); /* So that answers wait. */
    uint64_t now_ms = txn__now_ms(txn);
    struct list due;
    list_init(&due);
    list_append_all(&due, &txn->waiting);
    for (struct list *member; (member = list_pop_front(&due)) != NULL;) {
        struct txn_call *call = LIST_ITEM(member, struct txn_call, link);
        if (call->retry_at_ms <= now_ms) {
            submit(call);
        } else {
            list_push_back(&txn->waiting, &call->link);
        }
    }
}

uint64_t txn__next_due_ms(const struct txn *txn)
{
    uint64_t next_ms = UINT64_MAX;
    for (const struct list *member = txn->waiting.next; member != &txn->waiting;
         member = member->next) {
        const struct txn_call *call = LIST_ITEM(member, struct txn_call, link);
        next_ms = call->retry_at_ms < next_ms ? call->retry_at_ms : next_ms;
    }
    return next_ms;
}
