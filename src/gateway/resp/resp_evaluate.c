/* SPDX-License-Identifier: Apache-2.0 */
/* EXEC with commands that depend, in one shard, on what another has (RENAME, RENAMENX, COPY, MSETNX):
 *
 *   read what kv names -> evaluate -> commit what comes out, unless a key has changed
 *                                        -> committed: the answer
 *                                        -> changed, or another map: all of it again
 *
 * What is committed watches every key with the version that was read (kv_evaluate()), so the answer is
 * true at the moment of the commit. Others that write a key all the time can make it fail as often;
 * then nothing was changed. The order of a connection is kept as in resp_across.c. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/txn/txn.h"
#include "gateway/resp/resp_content.h"

enum {
    ATTEMPTS_MS_MAX = 10000, /* None begins later. */
    /* None begins beyond: eight times what one may do. */
    ATTEMPTS_WORK_MAX = 8 * KV_EVALUATION_WORK_MAX,
    /* What comes then waits for the next tick: others have to go on. */
    TICK_WORK_MAX = KV_EVALUATION_WORK_MAX / 4,
    UNDER_WAY_COUNT_MAX = 256,           /* No more begin, */
    UNDER_WAY_SIZE_BYTES_MAX = 64 << 20, /* also when those hold so much. */
};

#define DISCARDED_TEXT "EXECABORT Transaction discarded because of: "

#define TOO_LARGE_TEXT                                                                        \
    DISCARDED_TEXT "CROSSSLOT the keys are in different shards, and what they have, or what " \
                   "is done with them, is too much to be brought together: use smaller "      \
                   "transactions, or keys with the same {tag}"

#define NOT_CUT_TEXT                                                                           \
    DISCARDED_TEXT "CROSSSLOT the keys are in different shards, and a command cannot be cut: " \
                   "use keys with the same {tag}"

#define NOT_READ_TEXT \
    DISCARDED_TEXT "TRYAGAIN what the keys have was not answered, nothing was changed"

struct evaluating {
    struct list link; /* In the server's `evaluations` while it has to be tried again. */
    struct slot *slot;
    const struct command_entry *entry;
    struct kv_transaction *transaction;
    struct kv_evaluation *evaluation;
    struct contents contents;
    uint32_t attempt_count;
    uint64_t attempts_work;
    uint64_t begun_ms;
    uint64_t charged_bytes; /* To the server's `evaluations_size_bytes`. */
    uint32_t map_version;   /* By which it is evaluated, and then cut. */
    struct kv_split *split;
    bool is_planned; /* And not begun. */
    struct buffer answer;
};

static struct resp_server *server_of(const struct evaluating *evaluating)
{
    return evaluating->slot->connection->server;
}

static struct reply reply_to(struct evaluating *evaluating)
{
    return (struct reply){.target = &evaluating->answer,
                          .protocol = evaluating->slot->request.protocol};
}

static void charge(struct evaluating *evaluating)
{
    struct resp_server *server = server_of(evaluating);
    uint64_t size = kv_transaction_size_bytes(evaluating->transaction) +
                    resp__contents_size_bytes(&evaluating->contents);
    size += evaluating->evaluation != NULL ? kv_evaluation_size_bytes(evaluating->evaluation) : 0;
    size += evaluating->split != NULL ? kv_split_size_bytes(evaluating->split) : 0;
    resp__slot_charge(evaluating->slot, size);
    server->evaluations_size_bytes += size - evaluating->charged_bytes;
    evaluating->charged_bytes = size;
}

static void drop_readings(struct evaluating *evaluating)
{
    resp__contents_drop(&evaluating->contents);
    if (evaluating->evaluation != NULL) {
        evaluating->attempts_work += kv_evaluation_work(evaluating->evaluation);
    }
    kv_evaluation_destroy(evaluating->evaluation);
    evaluating->evaluation = NULL;
}

/* `answer` is what the client gets. */
static void finish(struct evaluating *evaluating)
{
    struct slot *slot = evaluating->slot;
    struct connection *connection = slot->connection;
    struct buffer answer = evaluating->answer;
    connection->server->evaluations_size_bytes -= evaluating->charged_bytes;
    connection->server->evaluation_count--;
    drop_readings(evaluating);
    kv_split_destroy(evaluating->split);
    kv_transaction_destroy(evaluating->transaction);
    list_remove(&evaluating->link);
    memory_free(evaluating);
    connection->is_blocked = false;
    resp__slot_close(slot, 0, buffer_bytes(&answer)); /* The connection may be gone. */
    buffer_deinit(&answer);
}

static void refuse(struct evaluating *evaluating, const char *text)
{
    const struct reply reply = reply_to(evaluating);
    reply_error(&reply, "%s", text);
    finish(evaluating);
}

static void begin_again(struct evaluating *evaluating);

static bool may_try_again(struct evaluating *evaluating)
{
    uint64_t now_ms = os_loop_now_ms(server_of(evaluating)->loop);
    return ++evaluating->attempt_count < RESP_ATTEMPT_COUNT_MAX &&
           evaluating->attempts_work < ATTEMPTS_WORK_MAX &&
           now_ms < evaluating->begun_ms + ATTEMPTS_MS_MAX;
}

/* Nothing was done. */
static void try_again(struct evaluating *evaluating, const struct txn_done *done)
{
    kv_split_destroy(evaluating->split);
    evaluating->split = NULL;
    evaluating->is_planned = false;
    if (may_try_again(evaluating)) {
        begin_again(evaluating);
    } else {
        const struct reply reply = reply_to(evaluating);
        resp__across_reply_failed(evaluating->entry, done, &reply);
        finish(evaluating);
    }
}

/* ---- Committing ------------------------------------------------------------------------------ */

static void committed(void *context, const struct txn_done *done)
{
    struct evaluating *evaluating = context;
    const struct reply reply = reply_to(evaluating);
    bool is_moved = done->result == TXN_FAILED && done->status == ERROR_MOVED;
    if (done->result == TXN_CHANGED || is_moved) {
        try_again(evaluating, done);
        return;
    }
    if (done->result == TXN_COMMITTED) {
        resp__across_reply_committed(server_of(evaluating), evaluating->split, evaluating->entry,
                                     done, &reply);
    } else {
        resp__across_reply_failed(evaluating->entry, done, &reply);
    }
    finish(evaluating);
}

static void wait_for_tick(struct evaluating *evaluating)
{
    if (list_is_empty(&evaluating->link)) {
        list_push_back(&server_of(evaluating)->evaluations, &evaluating->link);
    }
}

/* A part has keys of one shard of the map by which it was cut: by a newer one they may be in two. */
static void commit(struct evaluating *evaluating, const struct slots *slots)
{
    struct resp_server *server = server_of(evaluating);
    ASSERT(evaluating->map_version == resp__map_version(slots));
    list_remove(&evaluating->link);
    int status = resp__across_begin(server, slots, evaluating->split,
                                    evaluating->slot->request.protocol, committed, evaluating);
    evaluating->is_planned = status == -EBUSY;
    if (status == -EBUSY) {
        wait_for_tick(evaluating);
    } else if (status != 0) {
        const struct reply reply = reply_to(evaluating);
        resp__reply_failure(evaluating->entry, true, status, &reply);
        finish(evaluating);
    } else {
        os_loop_tick_again(server->loop);
    }
}

static void try_again_moved(struct evaluating *evaluating)
{
    static const struct txn_done moved = {.result = TXN_FAILED, .status = ERROR_MOVED};
    try_again(evaluating, &moved);
}

/* There was no room. */
static void commit_later(struct evaluating *evaluating)
{
    const struct slots *slots = resp__slots(server_of(evaluating));
    if (evaluating->map_version == resp__map_version(slots)) {
        commit(evaluating, slots);
    } else {
        try_again_moved(evaluating);
    }
}

static enum kv_evaluated evaluate(struct evaluating *evaluating, struct kv_transaction *planned)
{
    uint32_t count = evaluating->contents.count;
    struct bytes *contents = memory_allocate((count + 1u) * sizeof contents[0]);
    for (uint32_t i = 0; i < count; i++) {
        contents[i] = buffer_bytes(&evaluating->contents.reads[i].answer);
    }
    const struct kv_evaluate given = {
        .contents = contents,
        .time_ms = os_wall_clock_ms(),
        .protocol = (uint8_t)evaluating->slot->request.protocol,
        .planned = planned,
    };
    enum kv_evaluated evaluated = kv_evaluate(evaluating->evaluation, &given);
    memory_free(contents);
    server_of(evaluating)->evaluation_work_of_tick += kv_evaluation_work(evaluating->evaluation);
    return evaluated;
}

/* It may be cut by a newer map than it was evaluated by. What cannot be cut by that has to be evaluated
 * again; by the same map it never will be. */
static void commit_planned(struct evaluating *evaluating, struct kv_transaction *planned)
{
    const struct slots *slots = resp__slots(server_of(evaluating));
    bool is_moved = evaluating->map_version != resp__map_version(slots);
    int status =
        kv_split_create(&evaluating->split, planned, resp__group_of_slot, (void *)(uintptr_t)slots);
    evaluating->map_version = resp__map_version(slots);
    drop_readings(evaluating);       /* What was planned has copies, */
    kv_transaction_destroy(planned); /* and so has what it was cut into. */
    if (status == 0) {
        charge(evaluating);
        commit(evaluating, slots);
    } else if (is_moved) {
        try_again_moved(evaluating);
    } else {
        refuse(evaluating, NOT_CUT_TEXT);
    }
}

/* All is read. */
static void plan(struct evaluating *evaluating)
{
    const struct reply reply = reply_to(evaluating);
    list_remove(&evaluating->link); /* It may have waited for a read that was refused. */
    if (evaluating->contents.status == ERROR_OUTCOME_UNKNOWN) { /* Of a read: nothing was begun. */
        refuse(evaluating, NOT_READ_TEXT);
        return;
    }
    if (resp__contents_reply_failed(&evaluating->contents, evaluating->entry, &reply)) {
        finish(evaluating);
        return;
    }
    struct kv_transaction *planned = kv_transaction_create();
    enum kv_evaluated evaluated = evaluate(evaluating, planned);
    if (evaluated == KV_EVALUATED_COMMIT) {
        commit_planned(evaluating, planned);
        return;
    }
    kv_transaction_destroy(planned);
    switch (evaluated) {
    case KV_EVALUATED_CHANGED:
        reply_null_array(&reply);
        finish(evaluating);
        return;
    case KV_EVALUATED_TOO_LARGE:
        refuse(evaluating, TOO_LARGE_TEXT);
        return;
    case KV_EVALUATED_MALFORMED:
    case KV_EVALUATED_COMMIT:
        break;
    }
    refuse(evaluating, "ERR what was read of the keys is malformed");
}

/* ---- Reading --------------------------------------------------------------------------------- */

static struct evaluating *evaluating_of(struct contents *contents)
{
    return LIST_ITEM(contents, struct evaluating, contents);
}

/* All that will be read is; it is called again when it has to wait. */
static void over(struct contents *contents)
{
    struct evaluating *evaluating = evaluating_of(contents);
    if (contents->status == 0 && resp__contents_are_too_large(contents)) {
        refuse(evaluating, TOO_LARGE_TEXT);
    } else if (contents->server->evaluation_work_of_tick >= TICK_WORK_MAX) {
        charge(evaluating); /* It holds all that it has read until then. */
        wait_for_tick(evaluating);
    } else {
        plan(evaluating);
    }
}

static void wait_for_shard(struct contents *contents)
{
    wait_for_tick(evaluating_of(contents));
}

static void charge_contents(struct contents *contents)
{
    charge(evaluating_of(contents));
}

/* By the newest map. */
static int evaluation_create(struct kv_evaluation **evaluation, const struct resp_server *server,
                             struct kv_transaction *transaction)
{
    return kv_evaluation_create(evaluation, transaction, resp__group_of_slot,
                                (void *)(uintptr_t)resp__slots(server));
}

/* When it was queued, all was in one shard: only what names no keys cannot be evaluated. */
static const char *text_of_failure(int status)
{
    return status == -E2BIG ? TOO_LARGE_TEXT : RESP_SPLIT_TEXT;
}

/* Takes the evaluation, made by the newest map. */
static void read_all(struct evaluating *evaluating, struct kv_evaluation *evaluation)
{
    struct contents *contents = &evaluating->contents;
    evaluating->evaluation = evaluation;
    evaluating->map_version = resp__map_version(resp__slots(server_of(evaluating)));
    resp__contents_begin(contents, kv_evaluation_read_count(evaluation));
    for (uint32_t i = 0; i < contents->count; i++) {
        contents->reads[i].arguments = kv_evaluation_read(evaluation, i);
    }
    resp__contents_submit(contents);
}

static void begin_again(struct evaluating *evaluating)
{
    struct kv_evaluation *evaluation;
    list_remove(&evaluating->link);
    drop_readings(evaluating);
    int status = evaluation_create(&evaluation, server_of(evaluating), evaluating->transaction);
    if (status != 0) {
        refuse(evaluating, text_of_failure(status));
    } else {
        read_all(evaluating, evaluation);
    }
}

void resp__evaluations_retry(struct resp_server *server)
{
    struct list waiting;
    server->evaluation_work_of_tick = 0;
    list_init(&waiting);
    list_append_all(&waiting, &server->evaluations);
    for (struct list *member; (member = list_pop_front(&waiting)) != NULL;) {
        struct evaluating *evaluating = LIST_ITEM(member, struct evaluating, link);
        if (evaluating->is_planned) {
            commit_later(evaluating);
        } else {
            resp__contents_submit(&evaluating->contents);
        }
    }
}

/* ---- Beginning ------------------------------------------------------------------------------- */

/* What waits already holds what it has read: nothing more is read before that has gone on. */
static bool may_begin(const struct resp_server *server)
{
    return resp__server_may_read(server) && list_is_empty(&server->evaluations) &&
           server->evaluation_count < UNDER_WAY_COUNT_MAX &&
           server->evaluations_size_bytes < UNDER_WAY_SIZE_BYTES_MAX;
}

bool resp__evaluation_waits(struct connection *connection)
{
    connection->awaits_evaluation &= !may_begin(connection->server);
    return connection->awaits_evaluation;
}

enum handled resp__evaluate(struct connection *connection, const struct command_entry *entry,
                            struct kv_transaction **transaction, const struct reply *reply)
{
    struct resp_server *server = connection->server;
    ASSERT(connection->under_way_count == 0);
    if (!may_begin(server)) {
        connection->awaits_evaluation = true;
        return HANDLED_LATER;
    }
    struct kv_evaluation *evaluation;
    int status = evaluation_create(&evaluation, server, *transaction);
    if (status != 0) {
        reply_error(reply, "%s", text_of_failure(status));
        return HANDLED_DONE;
    }
    struct evaluating *evaluating = memory_allocate_zeroed(1, sizeof *evaluating);
    list_init(&evaluating->link);
    evaluating->entry = entry;
    evaluating->transaction = *transaction;
    *transaction = NULL;
    evaluating->contents = (struct contents){
        .server = server, .over = over, .wait = wait_for_shard, .charge = charge_contents};
    evaluating->begun_ms = os_loop_now_ms(server->loop);
    server->evaluation_count++;
    connection->is_blocked = true;
    evaluating->slot =
        resp__slot_open(connection, entry, kv_transaction_size_bytes(evaluating->transaction));
    read_all(evaluating, evaluation);
    return HANDLED_DONE;
}
