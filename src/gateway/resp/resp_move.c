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
#include "gateway/resp/resp_content.h"

enum side { SIDE_SOURCE, SIDE_TARGET, SIDE_COUNT };

struct move {
    struct list link; /* In the server's `moves` while it has to be tried again. */
    struct slot *slot;
    const struct command_entry *entry;
    struct bytes *arguments; /* Without the name; their bytes stand behind. */
    uint32_t argument_count;
    uint32_t attempt_count;
    struct contents contents;
    struct bytes reads[SIDE_COUNT][2]; /* Their arguments. */
    struct kv_split *split;            /* NULL: it is not planned, or the coordinator has it. */
    uint64_t plan_size_bytes;          /* Whoever has it. */
    struct buffer answer;              /* Planned. */
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
                    resp__contents_size_bytes(&move->contents) + move->plan_size_bytes +
                    move->answer.capacity_bytes;
    resp__slot_charge(move->slot, size);
}

/* `answer` is what the client gets. */
static void finish(struct move *move)
{
    struct slot *slot = move->slot;
    struct connection *connection = slot->connection;
    struct buffer answer = move->answer;
    move->answer = (struct buffer){0};
    kv_split_destroy(move->split);
    resp__contents_drop(&move->contents);
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
        (done->result == TXN_CHANGED || is_moved) && ++move->attempt_count < RESP_ATTEMPT_COUNT_MAX;
    move->plan_size_bytes = 0;
    if (is_again) {
        buffer_clear(&move->answer);
        read_both(move);
        return;
    }
    const struct reply reply = reply_to(move);
    if (done->result != TXN_COMMITTED) {
        buffer_clear(&move->answer);
        resp__across_reply_failed(move->entry, done, &reply);
    } else if (done->is_broken) {
        buffer_clear(&move->answer);
        resp__across_reply_broken(&reply);
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
    const struct content_read *reads = move->contents.reads;
    if (resp__contents_reply_failed(&move->contents, move->entry, &reply)) {
        finish(move);
        return;
    }
    const struct kv_move_request request = {
        .command = move->entry->command,
        .arguments = move->arguments,
        .argument_count = move->argument_count,
        .source = buffer_bytes(&reads[SIDE_SOURCE].answer),
        .target = buffer_bytes(&reads[SIDE_TARGET].answer),
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
    resp__contents_drop(&move->contents); /* The plan has copies. */
    if (planned == KV_MOVE_COMMIT) {
        charge(move);
        commit(move);
    } else {
        finish(move);
    }
}

/* ---- Reading --------------------------------------------------------------------------------- */

static struct move *move_of(struct contents *contents)
{
    return LIST_ITEM(contents, struct move, contents);
}

static void over(struct contents *contents)
{
    struct move *move = move_of(contents);
    list_remove(&move->link); /* It may have waited for a read that was refused. */
    plan(move);
}

static void wait_for_tick(struct contents *contents)
{
    struct move *move = move_of(contents);
    if (list_is_empty(&move->link)) {
        list_push_back(&contents->server->moves, &move->link);
    }
}

static void charge_contents(struct contents *contents)
{
    charge(move_of(contents));
}

static void read_both(struct move *move)
{
    resp__contents_drop(&move->contents);
    resp__contents_begin(&move->contents, SIDE_COUNT);
    for (uint32_t i = 0; i < SIDE_COUNT; i++) {
        move->reads[i][0] = move->arguments[i];
        move->reads[i][1] = i == SIDE_SOURCE ? KV_CONTENT_WHOLE : KV_CONTENT_NOTHING;
        move->contents.reads[i].arguments = move->reads[i];
    }
    resp__contents_submit(&move->contents);
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
            resp__contents_submit(&move->contents);
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
    move->contents = (struct contents){
        .server = server, .over = over, .wait = wait_for_tick, .charge = charge_contents};
    connection->is_blocked = true;
    move->slot = resp__slot_open(connection, entry, resp__arguments_size_bytes(arguments, count));
    read_both(move);
    return HANDLED_DONE;
}
