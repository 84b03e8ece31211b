/* SPDX-License-Identifier: Apache-2.0 */
/* Requests under way, and replies in order.
 *
 * A connection has a queue of slots: replies that are not there yet. While it is empty, what is
 * answered at once is written straight to the output. While it is not, that goes behind the last
 * slot, into its `following`; so a slot is needed only for what waits. When the first slot's answer
 * comes, it and all that follows it go out, up to the next one that still waits. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "gateway/resp/resp_internal.h"

enum { OUTPUT_AT_ONCE_BYTES = 1024 * 1024 };

/* ---- Slots ----------------------------------------------------------------------------------- */

static struct slot *slot_take(struct resp_server *server)
{
    struct list *member = list_pop_front(&server->pooled_slots);
    if (member == NULL) {
        struct slot *slot = memory_allocate_zeroed(1, sizeof *slot);
        list_init(&slot->link);
        return slot;
    }
    server->pooled_slot_count--;
    return LIST_ITEM(member, struct slot, link);
}

static void slot_give(struct resp_server *server, struct slot *slot)
{
    resp__pool_give(server, &slot->answer);
    resp__pool_give(server, &slot->following);
    memory_free(slot->arguments);
    slot->arguments = NULL;
    if (slot->transaction != NULL) {
        kv_transaction_destroy(slot->transaction);
        slot->transaction = NULL;
    }
    if (server->pooled_slot_count == POOLED_SLOT_COUNT_MAX) {
        memory_free(slot);
        return;
    }
    slot->connection = NULL;
    slot->complete = NULL;
    list_push_front(&server->pooled_slots, &slot->link); /* The warmest first. */
    server->pooled_slot_count++;
}

static struct slot *last_slot(struct connection *connection)
{
    return LIST_ITEM(connection->slots.previous, struct slot, link);
}

struct reply resp__reply_target(struct connection *connection)
{
    struct resp_server *server = connection->server;
    struct reply reply = {.protocol = connection->protocol};
    if (connection->reply_mode == REPLY_MODE_OFF || connection->reply_mode == REPLY_MODE_SKIP) {
        buffer_clear(&server->scratch);
        buffer_trim(&server->scratch, POOLED_BUFFER_SIZE_BYTES_MAX);
        reply.target = &server->scratch;
        return reply;
    }
    reply.target =
        list_is_empty(&connection->slots) ? &connection->output : &last_slot(connection)->following;
    resp__pool_take(server, reply.target);
    return reply;
}

static void append_slot(struct connection *connection, struct slot *slot, uint64_t size_bytes)
{
    struct resp_server *server = connection->server;
    slot->connection = connection;
    slot->is_new = true;
    slot->is_done = false;
    slot->is_read = false;
    slot->is_counted = false;
    slot->is_moved = false;
    slot->is_silent =
        connection->reply_mode == REPLY_MODE_OFF || connection->reply_mode == REPLY_MODE_SKIP;
    slot->size_bytes = size_bytes;
    slot->started_at_ns = os_loop_now_ns(server->loop);
    list_push_back(&connection->slots, &slot->link);
    connection->slot_count++;
    connection->under_way_count++;
    connection->pending_size_bytes += slot->size_bytes;
    COUNTER_ADD(server->pending_count, 1);
}

void resp__slot_charge(struct slot *slot, uint64_t size_bytes)
{
    struct connection *connection = slot->connection;
    connection->pending_size_bytes -= slot->size_bytes;
    connection->pending_size_bytes += size_bytes;
    slot->size_bytes = size_bytes;
    resp__connection_charge(connection);
}

void resp__slots_settle(struct connection *connection)
{
    last_slot(connection)->is_new = false; /* A command opens one at most. */
}

static void retire_slot(struct connection *connection, struct slot *slot)
{
    list_remove(&slot->link);
    connection->slot_count--;
    connection->pending_size_bytes -= slot->size_bytes;
    COUNTER_ADD(connection->server->pending_count, (uint64_t)-1);
    slot_give(connection->server, slot);
}

/* Write all replies that are next in order. */
static void release_slots(struct connection *connection)
{
    while (!list_is_empty(&connection->slots)) {
        struct slot *first = LIST_ITEM(connection->slots.next, struct slot, link);
        if (!first->is_done) {
            break;
        }
        connection->held_size_bytes -= first->answer.size_bytes + first->following.size_bytes;
        if (!connection->is_hung_up) {
            buffer_append(&connection->output, buffer_bytes(&first->answer));
            buffer_append(&connection->output, buffer_bytes(&first->following));
        }
        retire_slot(connection, first);
    }
}

/* What was answered need not be a reply: versions may look like an error. */
static void note_reply(struct slot *slot, const struct reply *reply, size_t before)
{
    struct connection *connection = slot->connection;
    struct resp_server *server = connection->server;
    const struct command_entry *entry = slot->entry;
    uint64_t now_ns = os_loop_now_ns(server->loop);
    uint64_t took_ns = now_ns > slot->started_at_ns ? now_ns - slot->started_at_ns : 0;
    struct command_counters *counters = &server->counters[entry->index];
    COUNTER_ADD(counters->time_ns, took_ns);
    if (reply->target->size_bytes > before && reply->target->data[before] == '-') {
        COUNTER_ADD(counters->failed_count, 1);
        resp__error_count(server, resp__written(reply, before));
    }
    histogram_record(&server->latencies_ns[entry->command->family], took_ns);
    if (slot->request.is_write || (entry->command->flags & KV_FLAG_WRITE) != 0) {
        histogram_record(&server->kind_latencies_ns[RESP_WRITE], took_ns);
    } else if ((entry->command->flags & KV_FLAG_READ) != 0) {
        histogram_record(&server->kind_latencies_ns[RESP_READ], took_ns);
    }
    int64_t threshold_us =
        atomic_load_explicit(&server->group->slow_log_threshold_us, memory_order_relaxed);
    /* A write's time is that of the flush that it waited for. */
    if (threshold_us >= 0 && took_ns >= (uint64_t)threshold_us * 1000 && !slot->request.is_write) {
        const struct bytes arguments[] = {bytes_of_text(entry->command->name),
                                          bytes_make(slot->key, slot->key_size_bytes)};
        resp__slow_log_add(connection, took_ns, arguments, slot->argument_count,
                           slot->argument_count < 2 ? slot->argument_count : 2);
    }
}

/* Where the reply of a slot is written: straight to the output when it is the next in order. */
static struct buffer *slot_target(struct connection *connection, struct slot *slot)
{
    struct buffer *target = &slot->answer;
    if (slot->is_silent || connection->is_hung_up) {
        buffer_clear(&connection->server->scratch);
        return &connection->server->scratch;
    }
    if (connection->slots.next == &slot->link) {
        target = &connection->output;
    }
    resp__pool_take(connection->server, target);
    return target;
}

/* Many large answers may come in one tick, so large output does not wait for its end. What is cut off has its
 * memory until then: when that is as much as all clients may have, nothing more is queued. */
static void send_at_once(struct connection *connection)
{
    const struct resp_server *server = connection->server;
    bool may_queue = server->dropped_bytes < server->group->options.client_memory_bytes_max;
    if (may_queue) {
        resp__connection_flush(connection);
    }
    if (!connection->is_hung_up && (!may_queue || resp__server_is_over_budget(server))) {
        COUNTER_ADD(connection->server->evicted_count, 1);
        resp__event(connection->server, "resp.client.evicted", "client_id=%llu buffer_bytes=%llu",
                    (unsigned long long)connection->id,
                    (unsigned long long)connection->charged_bytes);
        resp__connection_close(connection);
    }
}

/* Answers may have come: they go out, or the connection. */
static void settle_slots(struct connection *connection)
{
    struct list *first = connection->slots.next;
    if (!list_is_empty(&connection->slots) && LIST_ITEM(first, struct slot, link)->is_done) {
        release_slots(connection);
        if (connection->is_hung_up) {
            buffer_clear(&connection->output);
        }
    }
    if (connection->stream == NULL) {
        resp__connection_release_if_done(connection);
        return;
    }
    if (connection->is_hung_up) {
        return;
    }
    resp__connection_mark_dirty(connection);
    resp__connection_make_ready(connection);
    if (connection->output.size_bytes > OUTPUT_AT_ONCE_BYTES) {
        send_at_once(connection);
    }
}

void resp__slot_close(struct slot *slot, int status, struct bytes answer)
{
    struct connection *connection = slot->connection;
    if (slot->is_moved) {
        resp__moved_over(slot);
    } else {
        connection->under_way_count--;
    }
    if (slot->lane != NULL) {
        slot->lane->read_count -= slot->is_read;
        resp__lane_leave(slot->lane);
        slot->lane = NULL;
    }
    if (slot->is_counted) {
        resp__server_read_answered(connection->server, answer.size_bytes);
    }
    struct reply reply = {.target = slot_target(connection, slot),
                          .protocol = slot->request.protocol};
    size_t before = reply.target->size_bytes;
    if (slot->complete != NULL) {
        slot->complete(slot, status, answer, &reply);
    } else {
        buffer_append(reply.target, answer);
    }
    if (!slot->is_new) {
        note_reply(slot, &reply, before);
    }
    slot->is_done = true;
    connection->server->tick_output_bytes += answer.size_bytes;
    connection->held_size_bytes += slot->answer.size_bytes;
    settle_slots(connection);
}

void resp__slot_replace(struct slot *old, struct slot *slot)
{
    struct connection *connection = old->connection;
    slot->started_at_ns = old->started_at_ns;
    slot->is_new = false;
    resp__pool_give(connection->server, &slot->following);
    slot->following = old->following;
    old->following = (struct buffer){0};
    list_remove(&slot->link);
    list_insert_before(&old->link, &slot->link);
    resp__moved_over(old);
    retire_slot(connection, old);
    settle_slots(connection);
}

void resp__reply_failure(const struct command_entry *entry, bool is_write, int status,
                         const struct reply *reply)
{
    if (status == ERROR_OUTCOME_UNKNOWN) {
        reply_error(reply, "UNKNOWN %s",
                    is_write ? "the write may or may not have taken effect: its leader was lost"
                             : "the answer was lost with its leader, and a later write of this "
                               "connection to the same keys may have taken effect");
        return;
    }
    const char *text = status == ERROR_NOT_LEADER
                           ? "CLUSTERDOWN no leader of this shard answered in time, nothing was "
                             "changed"
                           : resp__refusal_text(status);
    if (entry->handler == resp__exec) {
        reply_error(reply, "EXECABORT Transaction discarded because of: %s",
                    text != NULL ? text : error_text(status));
    } else if (text != NULL) {
        reply_error(reply, "%s", text);
    } else {
        reply_error(reply, "ERR %s", error_text(status));
    }
}

void resp__reply_too_large(const struct resp_server *server, const struct command_entry *entry,
                           const struct reply *reply)
{
    bool is_committed = entry->handler == resp__exec;
    reply_error(reply, "ERR %sthe answer of '%s' is larger than the limit of %llu bytes",
                is_committed ? "the transaction is committed, " : "", entry->command->name,
                (unsigned long long)server->group->options.answer_size_bytes_max);
}

static void request_done(struct shard_request *request, int status, struct bytes answer)
{
    struct slot *slot = LIST_ITEM(request, struct slot, request);
    if (status == 0) {
        resp__slot_close(slot, 0, answer);
        return;
    }
    const struct shard_command *command = &request->command;
    if (status == ERROR_MOVED && command->opcode == kv_answer_opcode()) {
        resp__slot_close(slot, 0, command->arguments[0]); /* A leader had put it in its place. */
        return;
    }
    if (status == ERROR_MOVED && !slot->connection->is_hung_up) {
        resp__moved(slot);
        return;
    }
    struct buffer failure = {0};
    struct reply reply = {.target = &failure, .protocol = request->protocol};
    resp__reply_failure(slot->entry, slot->request.is_write, status, &reply);
    resp__slot_close(slot, status, buffer_bytes(&failure));
    buffer_deinit(&failure);
}

struct slot *resp__slot_open(struct connection *connection, const struct command_entry *entry,
                             uint64_t size_bytes)
{
    struct slot *slot = slot_take(connection->server);
    slot->entry = entry;
    slot->lane = NULL;
    slot->request.protocol = connection->protocol;
    slot->request.is_write =
        (entry->command->flags & KV_FLAG_WRITE) != 0 || entry->handler == resp__exec;
    slot->argument_count = 1;
    slot->key_size_bytes = 0;
    append_slot(connection, slot, size_bytes);
    resp__connection_charge(connection);
    return slot;
}

void resp__slot_count(struct slot *slot)
{
    ASSERT(!slot->is_counted);
    slot->is_counted = true;
    slot->connection->server->pending_read_count++;
}

/* ---- Submitting ------------------------------------------------------------------------------ */

static uint64_t size_of(const struct shard_command *command)
{
    uint64_t size_bytes = 0;
    for (uint32_t i = 0; i < command->argument_count; i++) {
        size_bytes += command->arguments[i].size_bytes;
    }
    return size_bytes;
}

static void keep_for_slow_log(struct slot *slot, const struct shard_command *command)
{
    /* What EXEC becomes is nothing that its client would know. */
    bool is_own = slot->entry->handler == resp__exec;
    slot->argument_count = is_own ? 1 : command->argument_count + 1;
    slot->key_size_bytes = 0;
    if (!is_own && command->argument_count > 0 && command->arguments[0].size_bytes > 0) {
        size_t size = command->arguments[0].size_bytes;
        size = size < sizeof slot->key ? size : sizeof slot->key;
        memcpy(slot->key, command->arguments[0].data, size);
        slot->key_size_bytes = (uint32_t)size;
    }
}

void resp__name_slots(struct shard_request *request, const struct slots_range *range)
{
    request->first_slot = (uint16_t)range->first;
    request->end_slot = (uint16_t)range->end;
}

/* It counts between a read that is under way and what comes behind it. */
static uint16_t order_key_of(const struct connection *connection, const struct lane *lane,
                             const struct submission *submission)
{
    bool may_be_followed = !submission->is_write && connection->has_more;
    if ((lane->read_count == 0 && !may_be_followed) ||
        resp__is_connection_ordered(connection->server)) {
        return 0;
    }
    return resp__order_key(submission->entry, submission->command.arguments,
                           submission->command.argument_count);
}

enum handled resp__submit(struct connection *connection, const struct submission *submission,
                          const struct reply *reply, int *refused)
{
    struct resp_server *server = connection->server;
    *refused = 0;
    struct lane *lane;
    enum handled entered = resp__lane_enter(connection, submission, &lane);
    if (entered != HANDLED_DONE) {
        return entered;
    }
    struct slot *slot = slot_take(server);
    slot->entry = submission->entry;
    slot->complete = submission->complete;
    slot->connection = connection;
    slot->request.command = submission->command;
    slot->request.protocol = connection->protocol;
    slot->request.is_write = submission->is_write;
    slot->request.does_grow = submission->does_grow;
    slot->request.is_cheap = submission->is_cheap;
    slot->request.may_be_stale = connection->is_readonly && !submission->is_write;
    slot->request.done = request_done;
    slot->request.session = &lane->session;
    slot->request.order_key = order_key_of(connection, lane, submission);
    resp__name_slots(&slot->request, &submission->range);

    /* An answer on the spot that must be looked at first goes elsewhere. */
    struct buffer answer = {0};
    struct reply direct = *reply;
    if (submission->complete != NULL) {
        direct.target = &answer;
    }
    size_t before = direct.target->size_bytes;
    int status = server->backend->submit(server->backend->context, submission->range.shard,
                                         &slot->request, &direct);
    if (status == SHARD_PENDING) {
        ASSERT(direct.target->size_bytes == before);
        keep_for_slow_log(slot, &submission->command);
        append_slot(connection, slot, size_of(&submission->command));
        slot->lane = lane;
        slot->is_read = !submission->is_write;
        slot->is_counted = slot->is_read || submission->answers_value;
        lane->read_count += slot->is_read;
        connection->is_barred |= submission->is_barrier;
        server->pending_read_count += slot->is_counted;
        return HANDLED_DONE;
    }
    resp__lane_leave(lane);
    if (status == SHARD_ANSWERED && submission->complete != NULL) {
        submission->complete(slot, 0, buffer_bytes(&answer), reply);
    }
    buffer_deinit(&answer);
    slot_give(server, slot);
    if (status != SHARD_ANSWERED) {
        ASSERT(status < 0);
        direct.target->size_bytes = submission->complete != NULL ? 0 : before;
        *refused = status;
    }
    if (status == ERROR_MOVED && connection->has_moved) {
        resp__note_refused(connection);
    }
    return status == -EBUSY || status == ERROR_MOVED ? HANDLED_LATER : HANDLED_DONE;
}

const char *resp__refusal_text(int refused)
{
    switch (refused) {
    case -ENOSPC:
        return "OOM command not allowed: the disk is full. Reads and deletes go on; writes "
               "return when there is space again.";
    case ERROR_NOT_LEADER:
        return "LOADING tutti is loading the dataset from its log";
    case ERROR_STOPPED:
        return "CLUSTERDOWN the node is stopping, nothing was changed";
    case -E2BIG:
        return "ERR the request is larger than an entry of the log may be";
    default:
        return NULL;
    }
}

void resp__reply_refusal(const struct reply *reply, int refused)
{
    const char *text = resp__refusal_text(refused);
    if (text != NULL) {
        reply_error(reply, "%s", text);
    } else {
        reply_error(reply, "ERR %s", error_text(refused));
    }
}
