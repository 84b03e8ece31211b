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
#include "gateway/resp/resp_internal.h"

enum {
    ATTEMPT_COUNT_MAX = 100,
    ATTEMPTS_MS_MAX = 10000, /* None begins later. */
    TICK_WORK_MAX = 1 << 24, /* What comes then waits for the next tick: others have to go on. */
    ATTEMPTS_WORK_MAX = 8 << 24, /* None begins beyond: eight times what one may do. */
    READ_AT_ONCE_MAX = 8,
    CONTENT_SIZE_BYTES_MAX = 4 << 20,    /* More is not read: it would be refused. */
    CONTENT_HEAD_SIZE_BYTES_MAX = 64,    /* Of each answer, and not counted in that. */
    UNDER_WAY_COUNT_MAX = 256,           /* No more begin, */
    UNDER_WAY_SIZE_BYTES_MAX = 64 << 20, /* also when those hold so much. */
};

#define TOO_LARGE_TEXT                                                                             \
    "EXECABORT Transaction discarded because of: CROSSSLOT the keys are in different shards, and " \
    "what they have is too much to be brought together"

#define NOT_READ_TEXT                                                                  \
    "EXECABORT Transaction discarded because of: TRYAGAIN what the keys have was not " \
    "answered, nothing was changed"

enum reading_state { READING_READY, READING_SUBMITTED, READING_DONE };

struct reading {
    struct shard_request request; /* First: done() finds the reading. */
    struct shard_session session;
    struct evaluating *evaluating;
    const struct bytes *arguments;
    enum reading_state state;
    struct buffer answer;
};

struct evaluating {
    struct list link; /* In the server's `evaluations` while it has to be tried again. */
    struct slot *slot;
    const struct command_entry *entry;
    struct kv_transaction *transaction;
    struct kv_evaluation *evaluation;
    struct reading *readings;
    uint32_t reading_count;
    uint32_t under_way_count;
    uint32_t done_count;
    uint32_t ready_from; /* No reading before it is to be submitted. */
    uint64_t read_size_bytes;
    uint64_t read_capacity_bytes;
    uint32_t attempt_count;
    uint64_t attempts_work;
    uint64_t begun_ms;
    uint64_t charged_bytes; /* To the server's `evaluations_size_bytes`. */
    bool is_submitting;
    int status; /* Of the first read that failed. */
    struct kv_split *split;
    uint32_t map_version; /* By which it was cut. */
    bool is_planned;      /* And not begun. */
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
                    evaluating->read_capacity_bytes +
                    evaluating->reading_count * sizeof evaluating->readings[0];
    size += evaluating->evaluation != NULL ? kv_evaluation_size_bytes(evaluating->evaluation) : 0;
    size += evaluating->split != NULL ? kv_split_size_bytes(evaluating->split) : 0;
    resp__slot_charge(evaluating->slot, size);
    server->evaluations_size_bytes += size - evaluating->charged_bytes;
    evaluating->charged_bytes = size;
}

static void drop_readings(struct evaluating *evaluating)
{
    ASSERT(evaluating->under_way_count == 0);
    for (uint32_t i = 0; i < evaluating->reading_count; i++) {
        buffer_deinit(&evaluating->readings[i].answer);
    }
    memory_free(evaluating->readings);
    if (evaluating->evaluation != NULL) {
        evaluating->attempts_work += kv_evaluation_work(evaluating->evaluation);
    }
    kv_evaluation_destroy(evaluating->evaluation);
    evaluating->readings = NULL;
    evaluating->evaluation = NULL;
    evaluating->reading_count = 0;
    evaluating->ready_from = 0;
    evaluating->read_size_bytes = 0;
    evaluating->read_capacity_bytes = 0;
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
    return ++evaluating->attempt_count < ATTEMPT_COUNT_MAX &&
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
        resp__across_reply_committed(evaluating->split, evaluating->entry, done, &reply);
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
    struct bytes *contents = memory_allocate((evaluating->reading_count + 1u) * sizeof contents[0]);
    for (uint32_t i = 0; i < evaluating->reading_count; i++) {
        contents[i] = buffer_bytes(&evaluating->readings[i].answer);
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

/* It may be cut by a newer map than it was evaluated by: then that has to be done again, too. */
static void commit_planned(struct evaluating *evaluating, struct kv_transaction *planned)
{
    const struct slots *slots = resp__slots(server_of(evaluating));
    int status =
        kv_split_create(&evaluating->split, planned, resp__group_of_slot, (void *)(uintptr_t)slots);
    evaluating->map_version = resp__map_version(slots);
    drop_readings(evaluating);       /* What was planned has copies, */
    kv_transaction_destroy(planned); /* and so has what it was cut into. */
    if (status == 0) {
        charge(evaluating);
        commit(evaluating, slots);
    } else {
        try_again_moved(evaluating);
    }
}

/* All is read. */
static void plan(struct evaluating *evaluating)
{
    const struct reply reply = reply_to(evaluating);
    list_remove(&evaluating->link); /* It may have waited for a read that was refused. */
    if (evaluating->status == ERROR_OUTCOME_UNKNOWN) { /* Of a read: nothing was begun. */
        refuse(evaluating, NOT_READ_TEXT);
        return;
    }
    if (evaluating->status != 0) {
        resp__reply_failure(evaluating->entry, false, evaluating->status, &reply);
        finish(evaluating);
        return;
    }
    for (uint32_t i = 0; i < evaluating->reading_count; i++) {
        const struct buffer *answer = &evaluating->readings[i].answer;
        if (answer->size_bytes > 0 && answer->data[0] == '-') {
            buffer_append(reply.target, buffer_bytes(answer));
            finish(evaluating);
            return;
        }
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

static bool is_too_large(const struct evaluating *evaluating)
{
    return evaluating->read_size_bytes >
           CONTENT_SIZE_BYTES_MAX + (uint64_t)evaluating->done_count * CONTENT_HEAD_SIZE_BYTES_MAX;
}

static bool is_over(const struct evaluating *evaluating)
{
    bool is_stopped = evaluating->status != 0 || is_too_large(evaluating);
    return evaluating->under_way_count == 0 &&
           (is_stopped || evaluating->done_count == evaluating->reading_count);
}

/* All that will be read is; it is called again when it has to wait. */
static void end_reading(struct evaluating *evaluating)
{
    if (evaluating->status == 0 && is_too_large(evaluating)) {
        refuse(evaluating, TOO_LARGE_TEXT);
    } else if (server_of(evaluating)->evaluation_work_of_tick >= TICK_WORK_MAX) {
        wait_for_tick(evaluating);
    } else {
        plan(evaluating);
    }
}

static void end_one(struct reading *reading, int status)
{
    struct evaluating *evaluating = reading->evaluating;
    reading->state = READING_DONE;
    evaluating->done_count++;
    evaluating->read_size_bytes += reading->answer.size_bytes;
    evaluating->read_capacity_bytes += reading->answer.capacity_bytes;
    evaluating->status = evaluating->status != 0 ? evaluating->status : status;
}

static void submit_readings(struct evaluating *evaluating);

static void make_ready(struct reading *reading)
{
    struct evaluating *evaluating = reading->evaluating;
    uint32_t index = (uint32_t)(reading - evaluating->readings);
    reading->state = READING_READY;
    evaluating->ready_from = index < evaluating->ready_from ? index : evaluating->ready_from;
}

static void answered(struct shard_request *request, int status, struct bytes answer)
{
    struct reading *reading = LIST_ITEM(request, struct reading, request);
    struct evaluating *evaluating = reading->evaluating;
    struct resp_server *server = server_of(evaluating);
    resp__server_read_answered(server, answer.size_bytes);
    evaluating->under_way_count--;
    if (status == ERROR_MOVED) {
        make_ready(reading);
        wait_for_tick(evaluating);
        os_loop_tick_again(server->loop);
        return;
    }
    buffer_append(&reading->answer, answer);
    end_one(reading, status);
    if (!evaluating->is_submitting) {
        submit_readings(evaluating);
    }
}

/* False: not now. */
static bool submit_reading(struct reading *reading)
{
    struct evaluating *evaluating = reading->evaluating;
    struct resp_server *server = server_of(evaluating);
    const struct resp_backend *backend = server->backend;
    const struct reply reply = {.target = &reading->answer, .protocol = 2};
    const struct slots_range range =
        resp__range_of_slot(resp__slots(server), kv_slot_of_key(reading->arguments[0]));
    shard_session_init(&reading->session);
    reading->request = (struct shard_request){
        .command = {.opcode = kv_content_opcode(),
                    .argument_count = 2,
                    .arguments = reading->arguments},
        .protocol = 2,
        .done = answered,
        .session = &reading->session,
    };
    reading->state = READING_SUBMITTED;
    resp__name_slots(&reading->request, &range);
    int status = backend->submit(backend->context, range.shard, &reading->request, &reply);
    if (status == SHARD_PENDING) {
        server->pending_read_count++;
        evaluating->under_way_count++;
        return true;
    }
    if (status < 0) {
        buffer_clear(&reading->answer);
    }
    if (status == -EBUSY || status == ERROR_MOVED) {
        make_ready(reading);
        return false;
    }
    end_one(reading, status);
    return true;
}

/* As many as may be; ends the reading when it is over. */
static void submit_readings(struct evaluating *evaluating)
{
    evaluating->is_submitting = true;
    while (evaluating->ready_from < evaluating->reading_count &&
           evaluating->under_way_count < READ_AT_ONCE_MAX && evaluating->status == 0 &&
           !is_too_large(evaluating)) {
        struct reading *reading = &evaluating->readings[evaluating->ready_from++];
        if (reading->state == READING_READY && !submit_reading(reading)) {
            wait_for_tick(evaluating);
            break;
        }
    }
    evaluating->is_submitting = false;
    if (is_over(evaluating)) {
        end_reading(evaluating);
    } else {
        charge(evaluating);
    }
}

static void begin_again(struct evaluating *evaluating)
{
    struct resp_server *server = server_of(evaluating);
    list_remove(&evaluating->link);
    drop_readings(evaluating);
    int status = kv_evaluation_create(&evaluating->evaluation, evaluating->transaction,
                                      resp__group_of_slot, (void *)(uintptr_t)resp__slots(server));
    if (status != 0) {
        refuse(evaluating, status == -E2BIG ? TOO_LARGE_TEXT : RESP_SPLIT_TEXT);
        return;
    }
    evaluating->reading_count = kv_evaluation_read_count(evaluating->evaluation);
    evaluating->readings =
        memory_allocate_zeroed(evaluating->reading_count + 1u, sizeof evaluating->readings[0]);
    evaluating->done_count = 0;
    evaluating->status = 0;
    for (uint32_t i = 0; i < evaluating->reading_count; i++) {
        evaluating->readings[i].evaluating = evaluating;
        evaluating->readings[i].arguments = kv_evaluation_read(evaluating->evaluation, i);
    }
    submit_readings(evaluating);
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
            submit_readings(evaluating);
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

/* For this map; whether it can be done, and how much has to be read. */
static int look(const struct resp_server *server, struct kv_transaction *transaction)
{
    struct kv_evaluation *evaluation = NULL;
    int status = kv_evaluation_create(&evaluation, transaction, resp__group_of_slot,
                                      (void *)(uintptr_t)resp__slots(server));
    kv_evaluation_destroy(evaluation);
    return status;
}

enum handled resp__evaluate(struct connection *connection, const struct command_entry *entry,
                            struct kv_transaction **transaction, const struct reply *reply)
{
    struct resp_server *server = connection->server;
    ASSERT(connection->under_way_count == 0);
    int status = look(server, *transaction);
    if (status == -E2BIG) {
        reply_error(reply, "%s", TOO_LARGE_TEXT);
        return HANDLED_DONE;
    }
    if (status != 0) { /* When it was queued, all was in one shard. */
        reply_error(reply, RESP_SPLIT_TEXT);
        return HANDLED_DONE;
    }
    if (!may_begin(server)) {
        connection->awaits_evaluation = true;
        return HANDLED_LATER;
    }
    struct evaluating *evaluating = memory_allocate_zeroed(1, sizeof *evaluating);
    list_init(&evaluating->link);
    evaluating->entry = entry;
    evaluating->transaction = *transaction;
    *transaction = NULL;
    evaluating->begun_ms = os_loop_now_ms(server->loop);
    server->evaluation_count++;
    connection->is_blocked = true;
    evaluating->slot =
        resp__slot_open(connection, entry, kv_transaction_size_bytes(evaluating->transaction));
    begin_again(evaluating);
    return HANDLED_DONE;
}
