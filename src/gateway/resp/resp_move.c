/* SPDX-License-Identifier: Apache-2.0 */
/* RENAME, RENAMENX and COPY between shards.
 *
 *   read both keys in their shards -> plan -> commit what is planned, unless a key has changed
 *                                                -> committed: the planned answer
 *                                                -> changed: read again
 *
 * The plan (kv_move_plan()) is a transaction that watches the keys with the versions that were read, so
 * what it writes, and what the client is told, is true at the moment of its commit. What needs no
 * commit (there is no such key) is true when it was read. Others that write the key all the time can
 * make it fail as often; then nothing was changed. The order of a connection is kept as in
 * resp_across.c. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/txn/txn.h"
#include "gateway/resp/resp_internal.h"

enum { ATTEMPT_COUNT_MAX = 100 };

/* What may go from one shard to another: reading and writing it takes some milliseconds. */
#define SOURCE_SIZE_MAX BYTES("1048576")
#define TARGET_SIZE_MAX BYTES("0") /* Whether it is there is all. */

enum side_state { SIDE_READY, SIDE_SUBMITTED, SIDE_DONE };

/* The read of one of the two keys. */
struct side {
    struct shard_request request; /* First: done() finds the side. */
    struct shard_session session;
    struct move *move;
    struct bytes arguments[2];
    enum side_state state;
    int status;
    struct buffer answer;
};

struct move {
    struct list link; /* In the server's `moves` while it has to be tried again. */
    struct slot *slot;
    const struct command_entry *entry;
    struct bytes *arguments; /* Without the name; their bytes stand behind. */
    uint32_t argument_count;
    uint32_t attempt_count;
    bool is_submitting;
    struct side sides[2];
    struct kv_split *split;   /* NULL: it is not planned, or the coordinator has it. */
    uint64_t plan_size_bytes; /* Whoever has it. */
    struct buffer answer;     /* Planned. */
};

static struct resp_server *server_of(const struct move *move)
{
    return move->slot->connection->server;
}

static struct reply reply_to(struct move *move)
{
    return (struct reply){.target = &move->answer, .protocol = move->slot->request.protocol};
}

static void charge(const struct move *move)
{
    uint64_t size = resp__arguments_size_bytes(move->arguments, move->argument_count) +
                    move->sides[0].answer.capacity_bytes + move->sides[1].answer.capacity_bytes +
                    move->plan_size_bytes + move->answer.capacity_bytes;
    resp__slot_charge(move->slot, size);
}

static void drop_reads(struct move *move)
{
    buffer_deinit(&move->sides[0].answer);
    buffer_deinit(&move->sides[1].answer);
}

/* `answer` is what the client gets. */
static void finish(struct move *move)
{
    struct slot *slot = move->slot;
    struct connection *connection = slot->connection;
    struct buffer answer = move->answer;
    move->answer = (struct buffer){0};
    kv_split_destroy(move->split);
    drop_reads(move);
    list_remove(&move->link);
    memory_free(move->arguments);
    memory_free(move);
    connection->is_blocked = false;
    resp__slot_close(slot, 0, buffer_bytes(&answer)); /* The connection may be gone. */
    buffer_deinit(&answer);
}

/* ---- Committing ------------------------------------------------------------------------------ */

static void read_both(struct move *move);

static void committed(void *context, const struct txn_done *done)
{
    struct move *move = context;
    bool is_moved = done->result == TXN_FAILED && done->status == ERROR_MOVED;
    bool is_again =
        (done->result == TXN_CHANGED || is_moved) && ++move->attempt_count < ATTEMPT_COUNT_MAX;
    move->plan_size_bytes = 0;
    if (is_again) {
        buffer_clear(&move->answer);
        read_both(move);
        return;
    }
    if (done->result != TXN_COMMITTED) {
        const struct reply reply = reply_to(move);
        buffer_clear(&move->answer);
        resp__across_reply_failed(move->entry, done, &reply);
    }
    finish(move);
}

static void commit(struct move *move)
{
    struct resp_server *server = server_of(move);
    /* A part has one key: both are in different shards, and will be by any newer map. */
    int status = resp__across_begin(server, resp__slots(server), move->split,
                                    move->slot->request.protocol, committed, move);
    if (status == -EBUSY) {
        list_push_back(&server->moves, &move->link);
    } else if (status != 0) {
        const struct reply reply = reply_to(move);
        buffer_clear(&move->answer);
        resp__reply_failure(move->entry, true, status, &reply);
        finish(move);
    } else {
        kv_split_destroy(move->split);
        move->split = NULL;
        os_loop_tick_again(server->loop);
    }
}

/* Both are read. */
static void plan(struct move *move)
{
    const struct reply reply = reply_to(move);
    for (uint32_t i = 0; i < 2; i++) {
        const struct side *side = &move->sides[i];
        bool is_error = side->answer.size_bytes > 0 && side->answer.data[0] == '-';
        if (side->status != 0) {
            resp__reply_failure(move->entry, false, side->status, &reply);
        } else if (is_error) {
            buffer_append(reply.target, buffer_bytes(&side->answer));
        }
        if (side->status != 0 || is_error) {
            finish(move);
            return;
        }
    }
    const struct kv_move_request request = {
        .command = move->entry->command,
        .arguments = move->arguments,
        .argument_count = move->argument_count,
        .source = buffer_bytes(&move->sides[0].answer),
        .target = buffer_bytes(&move->sides[1].answer),
    };
    struct kv_transaction *transaction = kv_transaction_create();
    enum kv_move planned = kv_move_plan(&request, transaction, &reply);
    if (planned == KV_MOVE_COMMIT) {
        int status = kv_split_create(&move->split, transaction, resp__group_of_slot,
                                     (void *)(uintptr_t)resp__slots(server_of(move)));
        ASSERT(status == 0); /* Each of its commands has one key. */
        move->plan_size_bytes = kv_split_size_bytes(move->split);
    } else if (planned == KV_MOVE_MALFORMED) {
        reply_error(&reply, "ERR what was read of the keys is malformed");
    }
    kv_transaction_destroy(transaction);
    drop_reads(move); /* The plan has copies. */
    if (planned == KV_MOVE_COMMIT) {
        charge(move);
        commit(move);
    } else {
        finish(move);
    }
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool are_both_read(const struct move *move)
{
    return move->sides[0].state == SIDE_DONE && move->sides[1].state == SIDE_DONE;
}

static void answered(struct shard_request *request, int status, struct bytes answer)
{
    struct side *side = LIST_ITEM(request, struct side, request);
    struct move *move = side->move;
    resp__server_read_answered(server_of(move), answer.size_bytes);
    if (status == ERROR_MOVED) {
        struct resp_server *server = server_of(move);
        side->state = SIDE_READY;
        if (list_is_empty(&move->link)) {
            list_push_back(&server->moves, &move->link);
        }
        os_loop_tick_again(server->loop);
        return;
    }
    buffer_append(&side->answer, answer);
    side->status = status;
    side->state = SIDE_DONE;
    if (are_both_read(move) && !move->is_submitting) {
        plan(move);
    } else {
        charge(move);
    }
}

static void submit_side(struct side *side)
{
    struct resp_server *server = server_of(side->move);
    const struct resp_backend *backend = server->backend;
    const struct reply reply = {.target = &side->answer, .protocol = 2};
    const struct slots_range range =
        resp__range_of_slot(resp__slots(server), kv_slot_of_key(side->arguments[0]));
    side->request.command.arguments = side->arguments;
    side->state = SIDE_SUBMITTED;
    resp__name_slots(&side->request, &range);
    int status = backend->submit(backend->context, range.shard, &side->request, &reply);
    if (status == -EBUSY || status == ERROR_MOVED) {
        side->state = SIDE_READY;
    } else if (status == SHARD_PENDING) {
        server->pending_read_count++;
    } else {
        side->state = SIDE_DONE;
        side->status = status;
    }
    if (status < 0) {
        buffer_clear(&side->answer);
    }
}

/* May end it. */
static void submit_sides(struct move *move)
{
    struct resp_server *server = server_of(move);
    bool is_any_ready = false;
    move->is_submitting = true;
    for (uint32_t i = 0; i < 2; i++) {
        if (move->sides[i].state == SIDE_READY) {
            submit_side(&move->sides[i]);
            is_any_ready |= move->sides[i].state == SIDE_READY;
        }
    }
    move->is_submitting = false;
    if (are_both_read(move)) {
        plan(move);
        return;
    }
    charge(move);
    if (is_any_ready && list_is_empty(&move->link)) {
        list_push_back(&server->moves, &move->link);
    }
}

static void read_both(struct move *move)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct side *side = &move->sides[i];
        side->move = move;
        side->state = SIDE_READY;
        side->status = 0;
        side->arguments[0] = move->arguments[i];
        side->arguments[1] = i == 0 ? SOURCE_SIZE_MAX : TARGET_SIZE_MAX;
        buffer_clear(&side->answer);
        shard_session_init(&side->session);
        side->request = (struct shard_request){
            .command = {.opcode = kv_content_opcode(), .argument_count = 2},
            .protocol = 2,
            .done = answered,
            .session = &side->session,
        };
    }
    submit_sides(move);
}

void resp__moves_retry(struct resp_server *server)
{
    struct list waiting;
    list_init(&waiting);
    list_append_all(&waiting, &server->moves);
    for (struct list *member; (member = list_pop_front(&waiting)) != NULL;) {
        struct move *move = LIST_ITEM(member, struct move, link);
        if (move->split != NULL) {
            commit(move);
        } else {
            submit_sides(move);
        }
    }
}

/* ---- Beginning ------------------------------------------------------------------------------- */

enum handled resp__move(struct connection *connection, const struct command_entry *entry,
                        const struct bytes *arguments, uint32_t count)
{
    struct resp_server *server = connection->server;
    if (connection->under_way_count > 0) {
        return HANDLED_AFTER;
    }
    /* What waits already holds what it has read: nothing more is read before that has gone on. */
    if (!resp__server_may_read(server) || !list_is_empty(&server->moves)) {
        return HANDLED_LATER;
    }
    struct move *move = memory_allocate_zeroed(1, sizeof *move);
    list_init(&move->link);
    move->entry = entry;
    move->arguments = resp__arguments_copy(arguments + 1, count - 1);
    move->argument_count = count - 1;
    connection->is_blocked = true;
    move->slot = resp__slot_open(connection, entry, resp__arguments_size_bytes(arguments, count));
    read_both(move);
    return HANDLED_DONE;
}
