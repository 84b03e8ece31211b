/* SPDX-License-Identifier: Apache-2.0 */
/* Callers: clients of a node's gateway. Each has a connection to some node and sends requests without
 * waiting for their answers, which go through that node's core/route to whoever leads. The caller
 * does what a gateway does: what is refused as busy is kept, with what comes behind it, and tried
 * again after the next tick. Like a gateway's, its connections have a session for each shard that has
 * something of them under way, and go by one map at a time; some are in order over all shards
 * (decision 19). When the node dies, what was not answered is in doubt, and the next
 * connection is to another node, perhaps.
 *
 * Some calls are transactions over several shards, by way of the node's core/txn. As in a gateway, such
 * a one begins when nothing of its connection is under way, and the connection waits for its end. Some
 * ask before for a version and the content of a list, as a client does with WATCH.
 *
 * What the route says is taken at its word: ERROR_OUTCOME_UNKNOWN may have had an effect, every
 * other error has had none (I4 of route.h), and the history shows when that was not so. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "sim/sim_cluster_stale.h"

enum {
    OPEN_COUNT_MAX = 64,
    RETRY_US = 1000,
    WELL_CALL_COUNT = 12,    /* Of each caller, then. */
    WELL_US = 1000000,       /* How long transactions are made once nothing stands in their way. */
    FIRST_SESSION = 1000000, /* Beyond those of clients. */
};

/* What a connection has under way at one shard. */
struct lane {
    struct list link; /* In its connection's `lanes`. */
    struct shard_session session;
    wal_shard shard;
    uint32_t call_count;
};

/* A connection. It lives until the node is buried, because shards may know its sessions. */
struct connection {
    struct list link;
    struct cluster_node *node;
    struct list lanes;
    uint64_t number;
    bool is_ordered;   /* Over all shards. */
    bool is_readonly;  /* What it reads may be stale. */
    bool is_lost;      /* The node died. */
    struct list kept;  /* Not submitted yet. */
    struct list calls; /* Submitted and not done. */
    uint32_t open_count;
    bool is_retrying; /* An event will try what is kept. */
    bool is_blocked;  /* By a transaction. */
    uint32_t map;     /* By which its calls go. */
    uint64_t call_number;
};

/* Those that may be stale, and what else the history does not have; see sim_cluster_stale.c. */
enum call_kind { CALL_QUESTION, CALL_TRANSACTION, CALL_AUDIT, CALL_STALE };

/* What a transaction does, one after the other. */
enum call_stage { STAGE_VERSION, STAGE_READ, STAGE_EVALUATE, STAGE_COMMIT };

struct call {
    struct shard_request request;
    struct list link; /* In its connection's `kept` or `calls`. */
    uint64_t number;  /* In its connection. */
    struct connection *connection;
    struct lane *lane; /* While it is submitted. */
    enum call_kind kind;
    struct cluster_question question; /* Or of a transaction, the reads under WATCH. */
    struct cluster_transaction *transaction;
    enum call_stage stage;
    uint32_t list; /* Of an audit. */
    struct cluster_stale stale;
};

struct caller {
    struct connection *connection;
};

struct cluster_callers {
    struct cluster *cluster;
    struct caller *callers;
    struct list connections;
    uint64_t session_number;
    uint32_t made_count;
    uint32_t open_count; /* Of all. */
    bool has_gone_on;    /* After the faults. */
    uint32_t unaudited_count;
    struct connection *audit; /* NULL: none, or it was lost. */
};

static void act(struct cluster *cluster, const struct cluster_event *event);

/* ---- Calls ----------------------------------------------------------------------------------- */

static struct lane *find_lane(const struct connection *connection, wal_shard shard)
{
    LIST_EACH(member, next, &connection->lanes)
    {
        struct lane *lane = LIST_ITEM(member, struct lane, link);
        if (lane->shard == shard) {
            return lane;
        }
    }
    return NULL;
}

static void enter_lane(struct call *call, wal_shard shard)
{
    struct connection *connection = call->connection;
    struct lane *lane = find_lane(connection, shard);
    if (lane == NULL) {
        lane = memory_allocate_zeroed(1, sizeof *lane);
        lane->shard = shard;
        shard_session_init(&lane->session);
        list_init(&lane->link);
        list_push_back(&connection->lanes, &lane->link);
    }
    lane->call_count++;
    call->lane = lane;
    call->request.session = &lane->session;
}

static void leave_lane(struct call *call)
{
    struct lane *lane = call->lane;
    call->lane = NULL;
    if (lane != NULL && --lane->call_count == 0) {
        list_remove(&lane->link);
        memory_free(lane);
    }
}

static void free_call(struct call *call)
{
    leave_lane(call);
    list_remove(&call->link);
    call->connection->open_count--;
    sim__cluster_transaction_destroy(call->transaction);
    memory_free(call);
}

/* `status` and `reply` as of route_submit()'s done(). */
static void end_question(struct cluster *cluster, struct call *call, int status, struct bytes reply)
{
    struct cluster_question *question = &call->question;
    sim__cluster_note(cluster, "caller.done", question->session, call->request.sequence,
                      (uint64_t)-status);
    if (call->kind == CALL_STALE) {
        sim__cluster_stale_ended(cluster, question, &call->stale, status, reply);
    } else if (status == 0) {
        if (call->kind == CALL_AUDIT) {
            sim__cluster_list_ends(cluster, call->list, reply);
            cluster->callers->unaudited_count--;
        }
        sim__cluster_answered(cluster, question, reply);
    } else if (status == ERROR_OUTCOME_UNKNOWN) {
        /* It may take effect behind what its session does next. */
        question->session = cluster->callers->session_number++;
        sim__cluster_unknown(cluster, question);
    } else {
        ASSERT(status == ERROR_NOT_LEADER || status == -ENOSPC || status == -E2BIG);
        sim__cluster_question_forget(question);
    }
    cluster->callers->open_count--;
    free_call(call);
}

static void put_back(struct call *call)
{
    leave_lane(call);
    list_remove(&call->link);
    list_push_front(&call->connection->kept, &call->link);
}

/* Refused, as all are that were asked under the same range: it waits again, before what came later. */
static void wait_for_map(struct call *call)
{
    leave_lane(call);
    struct list *place = call->connection->kept.next;
    while (place != &call->connection->kept &&
           LIST_ITEM(place, struct call, link)->number < call->number) {
        place = place->next;
    }
    list_remove(&call->link);
    list_push_back(place, &call->link); /* Before it. */
}

static void retry_soon(struct cluster *cluster, struct connection *connection, uint64_t delay_us);
static void end_watch(struct cluster *cluster, struct call *call, int status, struct bytes reply);

static void end_call(struct cluster *cluster, struct call *call, int status, struct bytes reply)
{
    if (status == ERROR_MOVED) {
        sim__cluster_note(cluster, "caller.moved", call->question.session, call->number, 0);
        wait_for_map(call);
        call->connection->is_blocked = false;
        retry_soon(cluster, call->connection, RETRY_US);
        return;
    }
    if (call->kind == CALL_AUDIT && status != 0) {
        put_back(call);
        retry_soon(cluster, call->connection, RETRY_US);
        return;
    }
    if (call->kind == CALL_TRANSACTION) {
        end_watch(cluster, call, status, reply);
    } else {
        end_question(cluster, call, status, reply);
    }
}

static void done(struct shard_request *request, int status, struct bytes reply)
{
    struct call *call = LIST_ITEM(request, struct call, request);
    if (!call->connection->is_lost) {
        end_call(sim__cluster_node_cluster(call->connection->node), call, status, reply);
    }
}

/* As a gateway: it has to wait for what its connection has under way elsewhere. */
static bool must_wait(const struct connection *connection, uint32_t map, wal_shard shard)
{
    bool has_others = connection->lanes.next != connection->lanes.previous ||
                      (!list_is_empty(&connection->lanes) && find_lane(connection, shard) == NULL);
    return !list_is_empty(&connection->lanes) &&
           (connection->map != map || (connection->is_ordered && has_others));
}

/* As of a gateway: 0, if it has several keys, or the order of the connection is that of all its shards. */
static uint16_t order_key_of(const struct call *call)
{
    const struct kv_key_range *keys = &call->question.command->keys;
    bool has_one_key = keys->first == 1 && keys->last == 1;
    return has_one_key && !call->connection->is_ordered
               ? (uint16_t)(1 + kv_slot_of_key(call->question.arguments[0]))
               : 0;
}

/* False: it is to be tried again, and nothing of its connection before it. */
static bool submit_question(struct cluster *cluster, struct call *call, uint16_t opcode)
{
    struct connection *connection = call->connection;
    uint32_t map = sim__cluster_node_map(connection->node);
    struct slots_range range = sim__cluster_range_of(cluster, &call->question, map);
    if (must_wait(connection, map, range.shard)) {
        return false;
    }
    connection->map = map;
    enter_lane(call, range.shard);
    call->stale = sim__cluster_stale_begin(cluster, connection->node, range.shard - 1);
    bool is_named = !sim__cluster_node_is_older(connection->node);
    call->request.first_slot = is_named ? (uint16_t)range.first : 0;
    call->request.end_slot = is_named ? (uint16_t)range.end : 0;
    call->request.order_key = order_key_of(call);
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = call->request.protocol};
    call->request.command =
        (struct shard_command){opcode, call->question.argument_count, call->question.arguments};
    list_remove(&call->link);
    list_push_back(&connection->calls, &call->link);
    int status = route_submit(sim__cluster_node_route(connection->node), range.shard,
                              &call->request, &reply);
    if (status == -EBUSY) {
        put_back(call);
    } else if (status != SHARD_PENDING) {
        end_call(cluster, call, status, buffer_bytes(&answer));
    }
    buffer_deinit(&answer);
    return status != -EBUSY && status != ERROR_MOVED;
}

/* ---- Transactions ---------------------------------------------------------------------------- */

static void make_request(struct cluster *cluster, struct call *call);

/* Of one of the keys that are moved. */
static void begin_read(struct cluster *cluster, struct call *call, enum call_stage stage)
{
    call->stage = stage;
    sim__cluster_move_read(cluster, call->transaction, stage == STAGE_READ, &call->question);
    make_request(cluster, call);
}

/* What was read is not so any more, or cut by another map: all of it once more. False: it is given up. */
static bool read_again(struct cluster *cluster, struct call *call)
{
    if (sim__cluster_is_evaluated(call->transaction)) {
        call->stage = STAGE_EVALUATE;
        return sim__cluster_evaluate_again(call->transaction);
    }
    if (!sim__cluster_move_again(call->transaction)) {
        return false;
    }
    begin_read(cluster, call, STAGE_VERSION);
    return true;
}

static void transaction_done(void *context, const struct txn_done *done)
{
    struct call *call = context;
    struct connection *connection = call->connection;
    struct cluster *cluster = sim__cluster_node_cluster(connection->node);
    if (connection->is_lost) {
        return;
    }
    if (done->result == TXN_UNKNOWN) {
        call->transaction->session = cluster->callers->session_number++;
    }
    bool may_be_again =
        sim__cluster_is_move(call->transaction) || sim__cluster_is_evaluated(call->transaction);
    bool is_again = may_be_again && (done->result == TXN_CHANGED ||
                                     (done->result == TXN_FAILED && done->status == ERROR_MOVED));
    if (is_again && read_again(cluster, call)) {
        connection->is_blocked = false;
        put_back(call);
        retry_soon(cluster, connection, 1);
        return;
    }
    sim__cluster_transaction_done(cluster, call->transaction, done);
    cluster->callers->open_count--;
    connection->is_blocked = false;
    free_call(call);
    retry_soon(cluster, connection, 1);
}

/* Nothing has happened. */
static void give_up(struct cluster *cluster, struct call *call)
{
    sim__cluster_question_forget(&call->question);
    cluster->callers->open_count--;
    free_call(call);
}

static void end_move_read(struct cluster *cluster, struct call *call, struct bytes reply)
{
    struct cluster_transaction *move = call->transaction;
    bool is_target = call->stage == STAGE_READ;
    buffer_append(&move->contents[is_target], reply);
    sim__cluster_question_forget(&call->question);
    if (!is_target) {
        begin_read(cluster, call, STAGE_READ);
    } else if (sim__cluster_move_is_read(cluster, move)) {
        give_up(cluster, call); /* There was nothing more to do. */
        return;
    } else {
        call->stage = STAGE_COMMIT;
    }
    put_back(call);
}

static void end_evaluate_read(struct cluster *cluster, struct call *call, struct bytes reply)
{
    sim__cluster_question_forget(&call->question);
    switch (sim__cluster_evaluate_answered(cluster, call->transaction, reply)) {
    case CLUSTER_EVALUATED_READ:
        break;
    case CLUSTER_EVALUATED_COMMIT:
        call->stage = STAGE_COMMIT;
        break;
    case CLUSTER_EVALUATED_ENDED:
        give_up(cluster, call);
        return;
    }
    put_back(call);
}

/* A read under WATCH, or of a key that is moved, has ended. */
static void end_watch(struct cluster *cluster, struct call *call, int status, struct bytes reply)
{
    struct connection *connection = call->connection;
    struct cluster_transaction *transaction = call->transaction;
    connection->is_blocked = false;
    retry_soon(cluster, connection, 1);
    if (status != 0) {
        give_up(cluster, call);
        return;
    }
    if (sim__cluster_is_move(transaction)) {
        end_move_read(cluster, call, reply);
        return;
    }
    if (call->stage == STAGE_EVALUATE) {
        end_evaluate_read(cluster, call, reply);
        return;
    }
    if (call->stage == STAGE_VERSION) {
        ASSERT(reply.size_bytes == 8);
        transaction->watches[0].version = endian_get_u64_le(reply.data);
        call->stage = STAGE_READ;
    } else {
        buffer_append(&transaction->watched_content, reply);
        sim__cluster_answered(cluster, &call->question, reply);
        call->stage = sim__cluster_is_evaluated(transaction) ? STAGE_EVALUATE : STAGE_COMMIT;
    }
    put_back(call);
}

/* Have the next of the keys read, or all anew when there is a newer map. */
static void prepare_evaluate_read(struct cluster *cluster, struct call *call)
{
    cluster_map map = sim__cluster_node_map(call->connection->node);
    bool is_stale = sim__cluster_evaluate_is_stale(call->transaction, map);
    if (call->stage == STAGE_COMMIT && is_stale) {
        call->stage = STAGE_EVALUATE;
    }
    if (call->stage == STAGE_EVALUATE && (is_stale || call->question.argument_count == 0)) {
        sim__cluster_question_forget(&call->question);
        sim__cluster_evaluate_read(cluster, call->transaction, map, &call->question);
        make_request(cluster, call);
    }
}

/* As submit_question(). */
static bool submit_transaction(struct cluster *cluster, struct call *call)
{
    struct connection *connection = call->connection;
    if (!list_is_empty(&connection->calls)) {
        return false;
    }
    if (sim__cluster_is_evaluated(call->transaction)) {
        prepare_evaluate_read(cluster, call);
    }
    if (call->stage != STAGE_COMMIT) {
        connection->is_blocked = true;
        bool is_of_content =
            sim__cluster_is_move(call->transaction) || call->stage == STAGE_EVALUATE;
        uint16_t opcode = is_of_content                  ? kv_content_opcode()
                          : call->stage == STAGE_VERSION ? kv_versions_opcode()
                                                         : call->question.command->opcode;
        bool is_taken = submit_question(cluster, call, opcode);
        connection->is_blocked = connection->is_blocked && is_taken;
        return is_taken;
    }
    int status = sim__cluster_transaction_begin(cluster, call->transaction, connection->node, call,
                                                transaction_done);
    ASSERT(status == 0 || status == -EBUSY);
    if (status == 0) {
        list_remove(&call->link);
        list_push_back(&connection->calls, &call->link);
        connection->is_blocked = true;
    }
    return status == 0;
}

static bool submit(struct cluster *cluster, struct call *call)
{
    return call->kind == CALL_TRANSACTION
               ? submit_transaction(cluster, call)
               : submit_question(cluster, call, call->question.command->opcode);
}

static void submit_kept(struct cluster *cluster, struct connection *connection);

static void retry(struct cluster *cluster, const struct cluster_event *event)
{
    struct connection *connection = event->pointer;
    connection->is_retrying = false;
    submit_kept(cluster, connection);
    sim__cluster_node_look(cluster, connection->node);
}

static void retry_soon(struct cluster *cluster, struct connection *connection, uint64_t delay_us)
{
    if (!connection->is_retrying) {
        connection->is_retrying = true;
        sim__cluster_schedule(cluster, delay_us, retry, connection->node, 0, connection);
    }
}

/* Where clocks have jumped, transactions fail for long, each at its deadline, one after the other:
 * not all will be made. */
static bool is_late(const struct cluster *cluster)
{
    return cluster->is_healing && cluster->nature.list_count > 0 &&
           cluster->now_us > sim__cluster_transactions_are_well_at_us(cluster) + WELL_US;
}

/* They have not been submitted, and have had no effect. */
static void drop_kept(struct cluster *cluster, struct connection *connection)
{
    for (struct list *member; (member = list_pop_front(&connection->kept)) != NULL;) {
        struct call *call = LIST_ITEM(member, struct call, link);
        list_init(&call->link);
        sim__cluster_question_forget(&call->question);
        cluster->callers->open_count--;
        free_call(call);
    }
}

static void submit_kept(struct cluster *cluster, struct connection *connection)
{
    if (is_late(cluster) && connection != cluster->callers->audit) {
        drop_kept(cluster, connection);
    }
    while (!list_is_empty(&connection->kept) && !connection->is_blocked) {
        struct call *call = LIST_ITEM(connection->kept.next, struct call, link);
        if (!submit(cluster, call)) {
            retry_soon(cluster, connection, RETRY_US);
            return;
        }
    }
}

static struct call *add_call(struct cluster *cluster, struct connection *connection)
{
    struct call *call = memory_allocate_zeroed(1, sizeof *call);
    call->connection = connection;
    call->number = connection->call_number++;
    list_init(&call->link);
    list_push_back(&connection->kept, &call->link);
    connection->open_count++;
    cluster->callers->open_count++;
    return call;
}

static void make_request(struct cluster *cluster, struct call *call)
{
    call->question.session = call->connection->number;
    call->question.is_of_pipeline = !call->connection->is_ordered && call->kind == CALL_QUESTION;
    bool is_write = sim__cluster_question_is_write(&call->question);
    call->request = (struct shard_request){
        .protocol = 2, /* The checker knows no other. */
        .is_write = is_write,
        .does_grow = (call->question.command->flags & KV_FLAG_GROWS) != 0,
        .is_cheap = !is_write && random_chance(&cluster->random, 2, 3),
        .done = done,
    };
    list_init(&call->request.link);
}

static void fill_read(struct cluster *cluster, struct call *call, uint32_t list)
{
    call->question = (struct cluster_question){
        .command = kv_command_find(BYTES("get")),
        .place = sim__cluster_list_place(cluster->lists, list),
        .started_at_us = cluster->now_us,
        .started_at = sim__cluster_history_moment(cluster->history),
    };
    sim__cluster_question_add(&call->question, sim__cluster_list_key(cluster->lists, list));
    make_request(cluster, call);
}

static void make_call(struct cluster *cluster, struct connection *connection)
{
    struct call *call = add_call(cluster, connection);
    cluster->callers->made_count++;
    if (connection->is_readonly) {
        bool is_stale = sim__cluster_stale_draw(cluster, &call->question);
        call->kind = is_stale ? CALL_STALE : CALL_QUESTION;
        make_request(cluster, call);
        call->request.may_be_stale = !call->request.is_write;
        return;
    }
    if (!sim__cluster_percent(cluster, cluster->nature.transaction_percent)) {
        sim__cluster_question_draw(cluster, &call->question);
        make_request(cluster, call);
        return;
    }
    call->kind = CALL_TRANSACTION;
    call->transaction = sim__cluster_transaction_draw(cluster, connection->number);
    if (sim__cluster_is_move(call->transaction)) {
        begin_read(cluster, call, STAGE_VERSION);
        return;
    }
    call->stage = call->transaction->is_watching                 ? STAGE_VERSION
                  : sim__cluster_is_evaluated(call->transaction) ? STAGE_EVALUATE
                                                                 : STAGE_COMMIT;
    if (call->transaction->is_watching) {
        fill_read(cluster, call, call->transaction->watched_list);
        call->question.started_at = call->transaction->started_at; /* Its place in the session. */
    }
}

/* ---- Connections ----------------------------------------------------------------------------- */

static struct connection *connect_to(struct cluster *cluster, struct cluster_node *node)
{
    struct connection *connection = memory_allocate_zeroed(1, sizeof *connection);
    connection->node = node;
    connection->number = cluster->callers->session_number++;
    connection->is_ordered = connection->number % 3 == 0;
    list_init(&connection->lanes);
    list_init(&connection->kept);
    list_init(&connection->calls);
    list_init(&connection->link);
    list_push_back(&cluster->callers->connections, &connection->link);
    return connection;
}

static void free_connection(struct connection *connection)
{
    ASSERT(connection->open_count == 0 && list_is_empty(&connection->lanes));
    list_remove(&connection->link);
    memory_free(connection);
}

/* What was submitted is in doubt; what was not has had no effect. */
static void lose(struct cluster *cluster, struct connection *connection)
{
    connection->is_lost = true;
    LIST_EACH(member, next, &connection->calls)
    {
        struct call *call = LIST_ITEM(member, struct call, link);
        uint64_t session = cluster->callers->session_number++;
        if (call->kind == CALL_STALE) {
            sim__cluster_question_forget(&call->question);
        } else if (call->kind != CALL_TRANSACTION) {
            call->question.session = session;
            sim__cluster_unknown(cluster, &call->question);
        } else if (call->stage == STAGE_COMMIT) {
            sim__cluster_transaction_unknown(cluster, call->transaction, session);
        } else {
            sim__cluster_question_forget(&call->question);
        }
        cluster->callers->open_count--;
    }
    drop_kept(cluster, connection);
}

void sim__cluster_callers_lost(struct cluster *cluster, struct cluster_node *node)
{
    struct cluster_callers *callers = cluster->callers;
    if (callers != NULL && callers->audit != NULL && callers->audit->node == node) {
        lose(cluster, callers->audit);
        callers->audit = NULL;
        sim__cluster_callers_audit(cluster);
    }
    for (uint32_t i = 0; callers != NULL && i < cluster->nature.caller_count; i++) {
        struct caller *caller = &callers->callers[i];
        if (caller->connection != NULL && caller->connection->node == node) {
            lose(cluster, caller->connection);
            caller->connection = NULL;
        }
    }
}

void sim__cluster_callers_check_floor(struct cluster *cluster, uint32_t node, uint32_t incarnation,
                                      wal_shard shard, uint64_t floor)
{
    if (cluster->callers == NULL ||
        sim__cluster_node_incarnation(cluster->nodes[node - 1]) != incarnation) {
        return;
    }
    LIST_EACH(member, next, &cluster->callers->connections)
    {
        const struct connection *connection = LIST_ITEM(member, struct connection, link);
        bool is_asked = sim__cluster_node_id(connection->node) == node && !connection->is_lost;
        LIST_EACH(link, next_link, &connection->calls)
        {
            const struct call *call = LIST_ITEM(link, struct call, link);
            if (is_asked && call->lane != NULL && call->lane->shard == shard &&
                call->request.sequence < floor) {
                sim__cluster_fail(
                    cluster, "node %u waits for an answer of shard %u, and says that it does not",
                    node, shard);
            }
        }
    }
}

void sim__cluster_callers_buried(struct cluster *cluster, struct cluster_node *node)
{
    if (cluster->callers == NULL) {
        return;
    }
    LIST_EACH(member, next, &cluster->callers->connections)
    {
        struct connection *connection = LIST_ITEM(member, struct connection, link);
        if (connection->node != node) {
            continue;
        }
        while (!list_is_empty(&connection->calls)) {
            free_call(LIST_ITEM(connection->calls.next, struct call, link));
        }
        free_connection(connection);
    }
}

/* ---- What a caller does ---------------------------------------------------------------------- */

static bool is_there(const struct cluster *cluster, const struct cluster_node *node)
{
    return sim__cluster_node_is_running(node) &&
           sim__cluster_node_paused_until_us(node) <= cluster->now_us;
}

static bool may_ask(const struct cluster *cluster)
{
    return !is_late(cluster) && cluster->callers->made_count < cluster->nature.call_count;
}

static void act(struct cluster *cluster, const struct cluster_event *event)
{
    struct caller *caller = event->pointer;
    if (cluster->is_failed || !may_ask(cluster)) {
        return;
    }
    if (caller->connection == NULL) {
        struct cluster_node *node = cluster->nodes[sim__cluster_any_node(cluster)];
        caller->connection = is_there(cluster, node) ? connect_to(cluster, node) : NULL;
        if (caller->connection != NULL) {
            caller->connection->is_readonly =
                sim__cluster_percent(cluster, cluster->nature.stale_percent);
        }
    }
    struct connection *connection = caller->connection;
    if (connection != NULL && is_there(cluster, connection->node)) {
        uint64_t count = 1 + random_below(&cluster->random, cluster->nature.burst_count_max);
        while (count > 0 && connection->open_count < OPEN_COUNT_MAX && may_ask(cluster)) {
            make_call(cluster, connection);
            count--;
        }
        if (!connection->is_retrying) {
            submit_kept(cluster, connection);
        }
        sim__cluster_node_look(cluster, connection->node);
    }
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.think_us), act, NULL,
                          0, caller);
}

static void audit(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = cluster->nodes[sim__cluster_any_node(cluster)];
    if (!is_there(cluster, node)) {
        sim__cluster_schedule(cluster, RETRY_US, audit, NULL, 0, NULL);
        return;
    }
    struct connection *connection = connect_to(cluster, node);
    cluster->callers->audit = connection;
    for (uint32_t i = 0; i < cluster->nature.list_count; i++) {
        struct call *call = add_call(cluster, connection);
        call->kind = CALL_AUDIT;
        call->list = i;
        fill_read(cluster, call, i);
    }
    submit_kept(cluster, connection);
    sim__cluster_node_look(cluster, node);
}

void sim__cluster_callers_audit(struct cluster *cluster)
{
    cluster->callers->unaudited_count = cluster->nature.list_count;
    if (cluster->nature.list_count > 0) {
        sim__cluster_schedule(cluster, 0, audit, NULL, 0, NULL);
    }
}

/* Nothing stands in the way of transactions: a few more. */
static void go_on(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_nature *nature = &cluster->nature;
    cluster->callers->has_gone_on = true;
    nature->transaction_percent = 70;
    nature->call_count = cluster->callers->made_count + WELL_CALL_COUNT * nature->caller_count;
    for (uint32_t i = 0; i < nature->caller_count; i++) {
        sim__cluster_schedule(cluster, sim__cluster_delay(cluster, nature->think_us), act, NULL, 0,
                              &cluster->callers->callers[i]);
    }
}

void sim__cluster_callers_healed(struct cluster *cluster)
{
    if (cluster->nature.list_count > 0) {
        uint64_t at_us = sim__cluster_transactions_are_well_at_us(cluster) + 1;
        sim__cluster_schedule(cluster, at_us - cluster->now_us, go_on, NULL, 0, NULL);
    }
}

bool sim__cluster_callers_are_done(const struct cluster_callers *callers)
{
    const struct cluster *cluster = callers->cluster;
    bool is_more_to_come =
        cluster->is_healing && cluster->nature.list_count > 0 && !callers->has_gone_on;
    return !is_more_to_come && !may_ask(cluster) && callers->open_count == 0 &&
           callers->unaudited_count == 0;
}

void sim__cluster_callers_create(struct cluster *cluster)
{
    struct cluster_callers *callers = memory_allocate_zeroed(1, sizeof *callers);
    callers->cluster = cluster;
    callers->session_number = FIRST_SESSION;
    list_init(&callers->connections);
    callers->callers =
        memory_allocate_zeroed(cluster->nature.caller_count + 1u, sizeof *callers->callers);
    cluster->callers = callers;
    for (uint32_t i = 0; i < cluster->nature.caller_count; i++) {
        sim__cluster_schedule(cluster, sim__cluster_delay(cluster, 50000), act, NULL, 0,
                              &callers->callers[i]);
    }
}

void sim__cluster_callers_destroy(struct cluster_callers *callers)
{
    ASSERT(list_is_empty(&callers->connections)); /* The nodes are buried. */
    memory_free(callers->callers);
    memory_free(callers);
}
