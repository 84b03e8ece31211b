/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: bytes in and bytes out.
 *
 * In. Commands are executed where they were read, in the loop's buffer that all connections share;
 * only what is left of an incomplete one is copied to `input`. A large bulk is read straight to its
 * place behind it. A connection stalls when the next command may not be executed yet; then its
 * commands stay in `input` and nothing more is read, until what it waits for makes it ready again:
 *
 *   too many requests under way     one of them is answered
 *   too many replies for one tick   they are written, its own or those of all
 *   the client does not read        the stream has drained
 *   the next needs the last (WATCH) its answer
 *   the backend is busy             each tick tries again
 *   a shard had other slots         what was refused is answered, or on its way again
 *   CLIENT PAUSE                    it is over
 *
 * Out. Replies gather in `output` and are written once, at the end of the tick. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "gateway/resp/resp_internal.h"

enum {
    DIRECT_READ_BYTES_MIN = 32 * 1024, /* A bulk that lacks more is read to its place. */
    DIRECT_GROWTH_BYTES_MIN = 1024 * 1024,
    REFUSED_OPEN_COUNT_MAX = 64,
};

_Static_assert(sizeof(struct connection) <= 512, "idle connections must be cheap");

/* ---- Life ------------------------------------------------------------------------------------ */

static void refuse(struct resp_group *group, struct os_stream *stream);

static void evict_oldest_stranger(struct resp_server *server)
{
    uint32_t share = server->group->options.stranger_count_max / server->group->server_count;
    if (server->stranger_count > (share > 0 ? share : 1)) {
        struct list *oldest = server->strangers.next;
        COUNTER_ADD(server->evicted_count, 1);
        resp__connection_close(LIST_ITEM(oldest, struct connection, stranger_link));
    }
}

void resp__connection_accept(struct resp_server *server, struct os_stream *stream)
{
    struct resp_group *group = server->group;
    if (atomic_fetch_add(&group->client_count, 1) >= atomic_load(&group->client_count_max)) {
        (void)atomic_fetch_sub(&group->client_count, 1);
        COUNTER_ADD(server->refused_count, 1);
        refuse(group, stream);
        return;
    }
    struct connection *connection = memory_allocate_zeroed(1, sizeof *connection);
    connection->server = server;
    connection->stream = stream;
    connection->id = server->next_client_number++ * group->options.server_count + server->index;
    connection->protocol = 2;
    connection->is_touching = true;
    connection->created_at_ms = os_loop_now_ms(server->loop);
    connection->active_at_ms = connection->created_at_ms;
    list_init(&connection->stranger_link);
    list_init(&connection->dirty_link);
    list_init(&connection->ready_link);
    list_init(&connection->slots);
    resp__lane_init(connection);
    list_push_back(&server->connections, &connection->link);
    server->connection_count++;
    COUNTER_ADD(server->accepted_count, 1);
    os_stream_start(stream, &resp__stream_events, connection);
    if (atomic_load(&group->has_password)) {
        list_push_back(&server->strangers, &connection->stranger_link);
        server->stranger_count++;
        evict_oldest_stranger(server);
    } else {
        connection->is_authenticated = true;
    }
}

void resp__connection_authenticated(struct connection *connection)
{
    connection->is_authenticated = true;
    if (!list_is_empty(&connection->stranger_link)) {
        list_remove(&connection->stranger_link);
        connection->server->stranger_count--;
    }
}

struct connection_extra *resp__connection_extra(struct connection *connection)
{
    if (connection->extra == NULL) {
        connection->extra = memory_allocate_zeroed(1, sizeof *connection->extra);
        connection->extra->connection = connection;
        list_init(&connection->extra->moved_link);
    }
    return connection->extra;
}

bool resp__connection_is_overdue(const struct connection *connection, uint64_t now_ms)
{
    if (connection->is_hung_up) {
        return false;
    }
    const struct resp_group *group = connection->server->group;
    if (!connection->is_authenticated && atomic_load(&group->has_password) &&
        now_ms - connection->created_at_ms > group->options.authentication_timeout_ms) {
        return true;
    }
    uint64_t idle_ms = 1000ull * atomic_load(&group->idle_timeout_s);
    return idle_ms > 0 && connection->slot_count == 0 &&
           now_ms - connection->active_at_ms > idle_ms;
}

/* Everything but the stream and what requests under way refer to. */
static void drop_content(struct connection *connection)
{
    struct resp_server *server = connection->server;
    resp__pool_give(server, &connection->input);
    resp__pool_give(server, &connection->output);
    resp__transaction_drop(connection);
    if (connection->spread != NULL) {
        resp__spread_drop(connection->spread);
    }
    list_remove(&connection->ready_link);
    list_remove(&connection->dirty_link);
    if (!list_is_empty(&connection->stranger_link)) {
        list_remove(&connection->stranger_link);
        server->stranger_count--;
    }
    resp__connection_charge(connection);
}

void resp__connection_close(struct connection *connection)
{
    connection->is_closing = true;
    connection->is_hung_up = true;
    if (!connection->is_stream_closed) { /* Perhaps finishing: then that is cut short. */
        connection->is_stream_closed = true;
        connection->server->dropped_bytes += os_stream_queued_bytes(connection->stream);
        os_stream_close(connection->stream);
    }
    drop_content(connection);
}

void resp__connection_finish(struct connection *connection)
{
    if (connection->is_closing) {
        return;
    }
    connection->is_closing = true;
    connection->is_stalled = false;
    list_remove(&connection->ready_link);
    os_stream_pause(connection->stream);
    resp__connection_mark_dirty(connection);
}

void resp__connection_release_if_done(struct connection *connection)
{
    if (connection->stream != NULL || connection->slot_count > 0) {
        return;
    }
    ASSERT(connection->lane_count == 0);
    drop_content(connection);
    struct connection_extra *extra = connection->extra;
    if (extra != NULL) {
        buffer_deinit(&extra->name);
        buffer_deinit(&extra->library_name);
        buffer_deinit(&extra->library_version);
        buffer_deinit(&extra->watching);
        memory_free(extra);
        connection->extra = NULL;
    }
    buffer_deinit(&connection->input);
    buffer_deinit(&connection->output);
    resp__connection_charge(connection);
    ASSERT_SLOW(connection->charged_bytes == 0);
    list_remove(&connection->link);
    connection->server->connection_count--;
    (void)atomic_fetch_sub(&connection->server->group->client_count, 1);
    memory_free(connection);
}

static void closed(struct os_stream *stream, void *context)
{
    struct connection *connection = context;
    connection->stream = NULL;
    connection->is_stream_closed = true;
    connection->is_hung_up = true;
    connection->is_closing = true;
    resp__connection_release_if_done(connection);
}

/* ---- Budget ---------------------------------------------------------------------------------- */

void resp__connection_charge(struct connection *connection)
{
    uint64_t held = connection->input.capacity_bytes + connection->output.capacity_bytes +
                    connection->held_size_bytes + connection->pending_size_bytes;
    if (!connection->is_hung_up) {
        held += os_stream_queued_bytes(connection->stream);
    }
    const struct connection_extra *extra = connection->extra;
    if (extra != NULL) {
        held += resp__transaction_size_bytes(connection) + extra->name.capacity_bytes +
                extra->library_name.capacity_bytes + extra->library_version.capacity_bytes;
    }
    connection->server->buffer_bytes += (int64_t)held - (int64_t)connection->charged_bytes;
    connection->charged_bytes = held;
}

/* ---- In -------------------------------------------------------------------------------------- */

void resp__connection_mark_dirty(struct connection *connection)
{
    if (list_is_empty(&connection->dirty_link)) {
        list_push_back(&connection->server->dirty, &connection->dirty_link);
    }
}

void resp__connection_make_ready(struct connection *connection)
{
    if (connection->is_stalled && list_is_empty(&connection->ready_link)) {
        list_push_back(&connection->server->ready, &connection->ready_link);
        os_loop_tick_again(connection->server->loop);
    }
}

static bool may_proceed(const struct connection *connection)
{
    const struct resp_options *options = &connection->server->group->options;
    if (connection->must_drain && connection->slot_count > 0) {
        return false;
    }
    return !connection->is_closing && !connection->is_blocked && !connection->is_choked &&
           !connection->has_moved && connection->slot_count < options->pipeline_count_max &&
           connection->pending_size_bytes < options->pipeline_size_bytes_max &&
           connection->output.size_bytes + connection->held_size_bytes <
               options->output_pause_bytes;
}

static void reply_oversized(struct connection *connection)
{
    const struct resp_options *options = &connection->server->group->options;
    const struct resp_parser *parser = &connection->parser;
    struct reply reply = resp__reply_target(connection);
    size_t before = reply.target->size_bytes;
    if (parser->largest_size_bytes > options->value_size_bytes_max) {
        reply_error(&reply, "ERR value of %llu bytes exceeds the limit of %llu bytes",
                    (unsigned long long)parser->largest_size_bytes,
                    (unsigned long long)options->value_size_bytes_max);
    } else {
        reply_error(&reply, "ERR request of %llu bytes exceeds the limit of %llu bytes",
                    (unsigned long long)parser->request_size_bytes,
                    (unsigned long long)options->request_size_bytes_max);
    }
    resp__error_count(connection->server, resp__written(&reply, before));
    resp__reply_written(connection, &reply, before);
    connection->is_multi_broken |= connection->is_in_multi;
}

static void reply_broken(struct connection *connection, const char *error)
{
    struct reply reply = resp__reply_target(connection);
    size_t before = reply.target->size_bytes;
    reply_error(&reply, "ERR %s", error);
    resp__error_count(connection->server, resp__written(&reply, before));
    resp__reply_written(connection, &reply, before);
    resp__connection_finish(connection);
}

/* There may be no password any more since it came. */
static bool is_stranger(struct connection *connection)
{
    if (!connection->is_authenticated && !atomic_load(&connection->server->group->has_password)) {
        resp__connection_authenticated(connection);
    }
    return !connection->is_authenticated;
}

/* Execute commands at the front of `input`; returns how many bytes are done with. */
static size_t process(struct connection *connection, struct bytes input)
{
    struct resp_server *server = connection->server;
    const struct resp_options *options = &server->group->options;
    struct resp_limits limits = {.value_size_bytes_max = options->value_size_bytes_max,
                                 .request_size_bytes_max = options->request_size_bytes_max};
    char error[RESP_ERROR_TEXT_SIZE];
    size_t used = 0;
    connection->is_stalled = true;
    while (may_proceed(connection) && resp__server_has_room(server)) {
        struct bytes rest = bytes_make(input.data + used, input.size_bytes - used);
        size_t consumed = 0;
        limits.is_stranger = is_stranger(connection);
        connection->must_drain = false;
        enum resp_outcome outcome =
            resp__parse(&connection->parser, &limits, rest, &server->arguments, &consumed, error);
        if (outcome == RESP_OUTCOME_COMMAND) {
            connection->has_more = used + consumed < input.size_bytes;
            if (resp__dispatch(connection) == HANDLED_LATER) {
                return used;
            }
        } else if (outcome == RESP_OUTCOME_MORE) {
            connection->is_stalled = false;
            return used + consumed;
        } else if (outcome == RESP_OUTCOME_OVERSIZED) {
            reply_oversized(connection);
        } else if (outcome == RESP_OUTCOME_BROKEN) {
            reply_broken(connection, error);
        }
        used += consumed;
    }
    return used;
}

/* After process(): read on, or not for now. */
static void settle(struct connection *connection)
{
    if (connection->is_closing) {
        if (connection->input.size_bytes > 0) {
            resp__pool_give(connection->server, &connection->input);
        }
        return;
    }
    if (connection->is_stalled) {
        os_stream_pause(connection->stream);
        if (may_proceed(connection)) {
            resp__connection_make_ready(connection); /* Its turn comes in the next tick. */
        }
    } else if (connection->has_ended) {
        resp__connection_finish(connection);
    } else if (os_stream_is_paused(connection->stream)) {
        os_stream_resume(connection->stream);
    }
    /* A command of several shards holds more than its arguments, which `input` does not hold now; names and what is
     * watched stay without any reply that would be written, and charged, when replies are off. */
    if (connection->input.data != NULL || connection->is_blocked || connection->extra != NULL) {
        resp__connection_charge(connection);
    }
}

void resp__connection_go_on(struct connection *connection)
{
    if (connection->is_closing) {
        return;
    }
    size_t used = process(connection, buffer_bytes(&connection->input));
    if (connection->input.size_bytes >= used) { /* Not dropped by a command that hung up. */
        buffer_consume(&connection->input, used);
    }
    if (connection->input.size_bytes == 0) {
        resp__pool_give(connection->server, &connection->input);
    }
    settle(connection);
}

static void read_came(struct os_stream *stream, struct bytes bytes, void *context)
{
    struct connection *connection = context;
    struct resp_server *server = connection->server;
    if (connection->is_closing) {
        return;
    }
    connection->active_at_ms = os_loop_now_ms(server->loop);
    COUNTER_ADD(server->input_bytes, bytes.size_bytes);
    struct buffer *input = &connection->input;
    if (input->size_bytes > 0) {
        if (bytes.data == input->data + input->size_bytes) {
            input->size_bytes += bytes.size_bytes; /* Read to its place. */
        } else {
            buffer_append(input, bytes);
        }
        resp__connection_go_on(connection);
        return;
    }
    size_t used = process(connection, bytes);
    if (used < bytes.size_bytes && !connection->is_closing) {
        resp__pool_take(server, input);
        buffer_append(input, bytes_make(bytes.data + used, bytes.size_bytes - used));
    }
    settle(connection);
}

/* A large bulk is read behind what is there of it, to its end and no further. The buffer grows as bytes
 * come, not as they are announced, so that announcing costs nothing; and in the end it has the size of
 * the bulk, where appending would double it and break the budget for the sake of some bytes. */
static void allocate(struct os_stream *stream, struct os_space *space, void *context)
{
    struct connection *connection = context;
    struct buffer *input = &connection->input;
    uint64_t wanted = resp__parser_wanted_bytes(&connection->parser);
    bool is_large = input->capacity_bytes >= DIRECT_GROWTH_BYTES_MIN ||
                    wanted >= input->size_bytes + DIRECT_READ_BYTES_MIN;
    if (input->size_bytes == 0 || wanted <= input->size_bytes || !is_large) {
        return;
    }
    if (input->capacity_bytes - input->size_bytes < OS_READ_BUFFER_SIZE_BYTES &&
        input->capacity_bytes < wanted) {
        uint64_t capacity = 2 * input->capacity_bytes;
        capacity = capacity < DIRECT_GROWTH_BYTES_MIN ? DIRECT_GROWTH_BYTES_MIN : capacity;
        capacity = capacity < wanted ? capacity : wanted;
        input->data = memory_resize(input->data, capacity);
        input->capacity_bytes = capacity;
    }
    uint64_t room = input->capacity_bytes - input->size_bytes;
    uint64_t lacking = wanted - input->size_bytes;
    space->data = input->data + input->size_bytes;
    space->size_bytes = room < lacking ? room : lacking;
}

static void ended(struct os_stream *stream, int status, void *context)
{
    struct connection *connection = context;
    if (connection->is_closing && status == 0) {
        return;
    }
    connection->has_ended = true;
    if (status != 0) {
        resp__connection_close(connection);
    } else if (!connection->is_stalled) {
        resp__connection_finish(connection);
    }
}

/* ---- Out ------------------------------------------------------------------------------------- */

static void drained(struct os_stream *stream, void *context)
{
    struct connection *connection = context;
    connection->is_choked = false;
    connection->queued_since_ms = 0;
    resp__connection_charge(connection);
    resp__connection_make_ready(connection);
}

static void evict(struct connection *connection, size_t queued_bytes)
{
    COUNTER_ADD(connection->server->evicted_count, 1);
    resp__event(connection->server, "resp.client.output_limit", "client_id=%llu queued_bytes=%zu",
                (unsigned long long)connection->id, queued_bytes);
    resp__connection_close(connection);
}

void resp__connection_flush(struct connection *connection)
{
    struct resp_server *server = connection->server;
    const struct resp_options *options = &server->group->options;
    if (connection->is_hung_up) {
        resp__pool_give(server, &connection->output);
        return;
    }
    bool is_silent = connection->output.size_bytes == 0;
    if (!is_silent) {
        COUNTER_ADD(server->output_bytes, connection->output.size_bytes);
        if (os_stream_write_buffer(connection->stream, &connection->output) != 0) {
            resp__connection_close(connection);
            return;
        }
    }
    resp__pool_give(server, &connection->output);
    size_t queued_bytes = os_stream_queued_bytes(connection->stream);
    if (queued_bytes + connection->held_size_bytes > options->output_size_bytes_max) {
        evict(connection, queued_bytes);
        return;
    }
    is_silent = is_silent && queued_bytes == 0;
    connection->is_choked = queued_bytes > (server->is_tight ? 0 : options->output_pause_bytes);
    if (queued_bytes == 0) {
        connection->queued_since_ms = 0;
    } else if (connection->queued_since_ms == 0) {
        connection->queued_since_ms = os_loop_now_ms(server->loop);
    }
    if (connection->is_closing) {
        if (connection->slot_count == 0 && server->is_stopping && is_silent) {
            resp__connection_close(connection);
            return;
        }
        if (connection->slot_count == 0) {
            connection->is_hung_up = true;
            os_stream_finish(connection->stream);
            drop_content(connection);
            return;
        }
    } else if (connection->is_stalled && may_proceed(connection)) {
        resp__connection_make_ready(connection);
    }
    resp__connection_charge(connection);
}

const struct os_stream_events resp__stream_events = {
    .read = read_came,
    .ended = ended,
    .closed = closed,
    .drained = drained,
    .allocate = allocate,
};

/* ---- Too many clients ------------------------------------------------------------------------ */

static void ignore_read(struct os_stream *stream, struct bytes bytes, void *context)
{
}

static void ignore_end(struct os_stream *stream, int status, void *context)
{
}

static void refused_closed(struct os_stream *stream, void *context)
{
    struct resp_group *group = context;
    (void)atomic_fetch_sub(&group->refused_open_count, 1);
}

/* Each has a file open until it is gone, so only a few are given the time to read why. */
static void refuse(struct resp_group *group, struct os_stream *stream)
{
    static const struct os_stream_events events = {
        .read = ignore_read, .ended = ignore_end, .closed = refused_closed};
    const struct bytes text = BYTES("-ERR max number of clients reached\r\n");
    bool is_one_of_many = atomic_fetch_add(&group->refused_open_count, 1) >= REFUSED_OPEN_COUNT_MAX;
    os_stream_start(stream, &events, group);
    int status = os_stream_write(stream, &text, 1);
    if (status != 0 || is_one_of_many) {
        os_stream_close(stream);
        return;
    }
    os_stream_finish(stream);
}
