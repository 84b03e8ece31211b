/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions whose keys are in several shards: EXEC, MSET, MSETNX and LCS, by way of core/txn.
 * An EXEC that cannot be cut as it is goes to resp_evaluate.c.
 *
 * Each server has a coordinator of its own, on its loop. The order of a connection (I5 of resp.h) is
 * kept as for commands that are spread: such a transaction begins when nothing of its connection is
 * under way, and the connection goes on when it is answered. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/txn/txn.h"
#include "gateway/resp/resp_internal.h"

struct across {
    struct slot *slot;
    struct kv_split *split;
    const struct command_entry *entry;
};

/* ---- The coordinator ------------------------------------------------------------------------- */

static uint64_t now_ms(void *context)
{
    return os_loop_now_ms(((struct resp_server *)context)->loop);
}

static uint64_t wall_ms(void *context)
{
    (void)context;
    return os_wall_clock_ms();
}

/* A part was cut by a map, and must not go by another one. */
static bool is_cut_otherwise(const struct shard_request *request, const struct slots_range *range)
{
    return request->end_slot != 0 &&
           (request->first_slot != range->first || request->end_slot != range->end);
}

static int submit(void *context, uint32_t place, struct shard_request *request,
                  const struct reply *reply)
{
    const struct resp_server *server = context;
    const struct slots_range range = resp__range_of_slot(resp__slots(server), place);
    if (is_cut_otherwise(request, &range)) {
        return ERROR_MOVED;
    }
    resp__name_slots(request, &range);
    return server->backend->submit(server->backend->context, range.shard, request, reply);
}

static void wake(void *context)
{
    (void)context; /* The tick that follows is what was wanted. */
}

static struct txn *coordinator_of(struct resp_server *server)
{
    if (server->txn != NULL) {
        return server->txn;
    }
    struct kv_txn_opcodes opcodes = kv_txn_opcodes();
    struct txn_options options = {
        .host = {.context = server, .clock = {server, now_ms, wall_ms}, .submit = submit},
        .prepare_opcode = opcodes.prepare,
        .decide_opcode = opcodes.decide,
        .finish_opcode = opcodes.finish,
        .forget_opcode = opcodes.forget,
        .reply_size_bytes_max = server->group->options.answer_size_bytes_max,
    };
    while (options.origin == 0) {
        os_random_fill(&options.origin, sizeof options.origin);
    }
    os_random_fill(&options.random_seed, sizeof options.random_seed);
    struct error error = {0};
    int status = txn_create(&server->txn, &options, &error);
    ASSERT(status == 0);
    server->txn_timer = os_timer_create(server->loop, wake, server);
    return server->txn;
}

void resp__across_tick(struct resp_server *server)
{
    if (server->txn == NULL) {
        return;
    }
    uint64_t next_ms = txn_tick(server->txn);
    uint64_t now = os_loop_now_ms(server->loop);
    if (next_ms == UINT64_MAX) {
        os_timer_stop(server->txn_timer);
    } else {
        os_timer_start(server->txn_timer, next_ms > now ? next_ms - now : 1, 0);
    }
}

bool resp__across_is_idle(const struct resp_server *server)
{
    struct txn_statistics statistics = {0};
    if (server->txn != NULL) {
        txn_get_statistics(server->txn, &statistics);
    }
    return statistics.attempt_open_count == 0;
}

void resp__across_deinit(struct resp_server *server)
{
    if (server->txn != NULL) {
        txn_destroy(server->txn);
        os_timer_destroy(server->txn_timer);
        server->txn = NULL;
    }
}

/* ---- Answers --------------------------------------------------------------------------------- */

static bool is_exec(const struct command_entry *entry)
{
    return entry->handler == resp__exec;
}

void resp__across_reply_failed(const struct command_entry *entry, const struct txn_done *done,
                               const struct reply *reply)
{
    if (done->result == TXN_UNKNOWN) {
        resp__reply_failure(entry, true, ERROR_OUTCOME_UNKNOWN, reply);
    } else if (done->result == TXN_FAILED && done->status == ERROR_MOVED) {
        reply_error(reply, RESP_SPLIT_TEXT);
    } else if (done->result == TXN_FAILED && done->status != -EBUSY) {
        resp__reply_failure(entry, true, done->status, reply);
    } else {
        reply_error(reply, "%s other clients use the keys all the time, nothing was changed",
                    is_exec(entry) ? "EXECABORT Transaction discarded because of: TRYAGAIN"
                                   : "TRYAGAIN");
    }
}

/* MSETNX, alone or the only command of a transaction. */
static void reply_only_new(const struct command_entry *entry, int64_t number,
                           const struct reply *reply)
{
    if (is_exec(entry)) {
        reply_array(reply, 1);
    }
    reply_integer(reply, number);
}

/* It says nothing but that it is done. */
static bool is_mset(const struct command_entry *entry)
{
    return strcmp(entry->command->name, "mset") == 0;
}

/* A large answer of LCS is made of small replies. */
static bool join(const struct resp_server *server, const struct kv_split *split,
                 const struct command_entry *entry, const struct txn_done *done,
                 const struct reply *reply)
{
    size_t before = reply->target->size_bytes;
    struct reply_limit limit = {.size_bytes_max =
                                    before + server->group->options.answer_size_bytes_max};
    const struct reply limited = {
        .target = reply->target, .protocol = reply->protocol, .limit = &limit};
    bool is_whole = kv_split_join(split, done->replies, is_exec(entry), &limited);
    if (limit.is_exceeded) {
        reply->target->size_bytes = before;
        resp__reply_too_large(server, entry, reply);
    }
    return is_whole;
}

void resp__across_reply_broken(const struct reply *reply)
{
    reply_error(reply, "UNKNOWN the transaction is committed, and a shard has lost its part");
}

void resp__across_reply_committed(const struct resp_server *server, const struct kv_split *split,
                                  const struct command_entry *entry, const struct txn_done *done,
                                  const struct reply *reply)
{
    bool are_all_there = true;
    for (uint32_t i = 0; i < done->part_count; i++) {
        are_all_there = are_all_there && done->replies[i].data != NULL;
    }
    if (done->is_broken) {
        resp__across_reply_broken(reply);
    } else if (done->are_too_large) {
        resp__reply_too_large(server, entry, reply);
    } else if (!are_all_there && kv_split_is_only_new(split)) {
        reply_only_new(entry, 1, reply);
    } else if (!are_all_there && is_mset(entry)) {
        reply_ok(reply);
    } else if (!are_all_there) {
        reply_error(reply, "UNKNOWN the transaction is committed, its replies were lost");
    } else if (!join(server, split, entry, done, reply)) {
        reply_error(reply, "ERR the replies of the transaction are malformed; it is committed");
    }
}

static void write_answer(const struct across *across, const struct txn_done *done,
                         const struct reply *reply)
{
    switch (done->result) {
    case TXN_COMMITTED:
        resp__across_reply_committed(across->slot->connection->server, across->split, across->entry,
                                     done, reply);
        return;
    case TXN_CHANGED:
        if (kv_split_is_only_new(across->split)) {
            reply_only_new(across->entry, 0, reply); /* A key exists. */
        } else {
            reply_null_array(reply);
        }
        return;
    case TXN_FAILED:
    case TXN_UNKNOWN:
        resp__across_reply_failed(across->entry, done, reply);
        return;
    }
}

static void across_free(struct across *across)
{
    kv_split_destroy(across->split);
    memory_free(across);
}

static void across_done(void *context, const struct txn_done *done)
{
    struct across *across = context;
    struct slot *slot = across->slot;
    struct connection *connection = slot->connection;
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = slot->request.protocol};
    write_answer(across, done, &reply);
    across_free(across);
    connection->is_blocked = false;
    resp__slot_close(slot, 0, buffer_bytes(&answer)); /* The connection may be gone. */
    buffer_deinit(&answer);
}

/* ---- Beginning ------------------------------------------------------------------------------- */

int resp__across_begin(struct resp_server *server, const struct slots *slots,
                       struct kv_split *split, uint8_t protocol,
                       void (*done)(void *context, const struct txn_done *done), void *context)
{
    uint32_t count = kv_split_part_count(split);
    struct txn_part *parts = memory_allocate((count + 1u) * sizeof parts[0]);
    for (uint32_t i = 0; i < count; i++) {
        parts[i] = kv_split_part(split, i);
        const struct slots_range range = resp__range_of_slot(slots, parts[i].place);
        ASSERT(slots == NULL || kv_split_last_slot(split, i) < range.end); /* Else: another map. */
        parts[i].first_slot = (uint16_t)range.first;
        parts[i].end_slot = (uint16_t)range.end;
    }
    const struct txn_begin options = {
        .parts = parts,
        .part_count = count,
        .protocol = protocol == 3 ? 3 : 2,
        .context = context,
        .done = done,
    };
    int status = txn_begin(coordinator_of(server), &options);
    memory_free(parts);
    if (status == 0) {
        kv_split_drop_parts(split);
    }
    return status;
}

/* MSET and MSETNX do not. */
static bool answers_value(const struct command_entry *entry)
{
    return (entry->command->flags & KV_FLAG_WRITE) == 0;
}

/* May it begin, as far as that can be told before it is copied and cut? HANDLED_DONE: yes. */
static enum handled may_begin(struct connection *connection, const struct command_entry *entry,
                              uint64_t size_bytes)
{
    struct resp_server *server = connection->server;
    if (connection->under_way_count > 0) {
        return HANDLED_AFTER;
    }
    bool has_room = txn_has_room(coordinator_of(server), size_bytes) &&
                    (!answers_value(entry) || resp__server_may_read(server));
    return has_room ? HANDLED_DONE : HANDLED_LATER;
}

/* No part: whatever it answers is known. */
static bool answer_at_once(const struct across *across, const struct reply *reply)
{
    if (kv_split_part_count(across->split) > 0) {
        return false;
    }
    bool is_whole = kv_split_join(across->split, NULL, is_exec(across->entry), reply);
    ASSERT(is_whole); /* There was nothing to parse. */
    return true;
}

enum handled resp__across(struct connection *connection, const struct command_entry *entry,
                          struct kv_transaction **transaction, const struct reply *reply)
{
    enum handled handled = may_begin(connection, entry, kv_transaction_size_bytes(*transaction));
    if (handled != HANDLED_DONE) {
        return handled;
    }
    if (resp__evaluation_waits(connection)) {
        return HANDLED_LATER;
    }
    const struct slots *slots = resp__slots(connection->server);
    struct across *across = memory_allocate_zeroed(1, sizeof *across);
    across->entry = entry;
    int status = kv_split_create(&across->split, *transaction, resp__group_of_slot,
                                 (void *)(uintptr_t)slots);
    if (status == 0 && answer_at_once(across, reply)) {
        across_free(across);
        return HANDLED_DONE;
    }
    if (status == 0) {
        status = resp__across_begin(connection->server, slots, across->split,
                                    (uint8_t)connection->protocol, across_done, across);
    }
    if (status != 0) {
        across_free(across);
    }
    switch (status) {
    case 0:
        break;
    case -EBUSY:
        return HANDLED_LATER;
    case -EXDEV:
        return resp__evaluate(connection, entry, transaction, reply);
    default:
        resp__reply_failure(entry, true, status, reply);
        return HANDLED_DONE;
    }
    connection->is_blocked = true;
    across->slot = resp__slot_open(connection, entry, kv_split_size_bytes(across->split));
    if (answers_value(entry)) {
        resp__slot_count(across->slot);
    }
    os_loop_tick_again(connection->server->loop);
    return HANDLED_DONE;
}

enum handled resp__across_command(struct connection *connection, const struct command_entry *entry,
                                  const struct bytes *arguments, uint32_t count,
                                  const struct reply *reply)
{
    enum handled handled =
        may_begin(connection, entry, resp__arguments_size_bytes(arguments + 1, count - 1));
    if (handled != HANDLED_DONE) {
        return handled;
    }
    struct kv_transaction *transaction = kv_transaction_create();
    kv_transaction_add(transaction, entry->command, arguments + 1, count - 1);
    handled = resp__across(connection, entry, &transaction, reply);
    kv_transaction_destroy(transaction);
    return handled;
}
