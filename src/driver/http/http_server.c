/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/assert/assert.h"
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "driver/http/http_internal.h"

/* A longer body is not copied to go with the head, but handed on. */
enum { SWEEP_MS = 1000, DATE_SIZE = 40, COPIED_SIZE_BYTES_MAX = 64 * 1024 };

struct http_server {
    struct os_loop *loop;
    struct os_listener *listener;
    struct os_timer *sweeper; /* Closes who takes too long. */
    struct http_server_options options;
    struct list connections;
    uint32_t connection_count;
    uint64_t request_count;
    uint64_t refused_count;
};

struct connection {
    struct http_server *server; /* NULL once the server was closed. */
    struct os_stream *stream;
    struct list member; /* Of server->connections. */
    struct buffer input;
    uint64_t deadline_ms;           /* For the next whole request, or for taking the last answer. */
    struct http_exchange *exchange; /* An answer that is owed. */
};

struct http_exchange {
    struct connection *connection; /* NULL once that is gone. */
    bool is_kept_alive;
    bool is_head;
};

const char *http_status_text(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 411:
        return "Length Required";
    case 413:
        return "Content Too Large";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Unknown";
    }
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* RFC 9110 §6.6.1: an origin server with a clock sends Date; its form knows no locale. */
static void format_date(char *target)
{
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = (time_t)(os_wall_clock_ms() / 1000);
    struct tm parts;
    struct tm *done = gmtime_r(&now, &parts);
    ASSERT(done != NULL);
    (void)snprintf(target, DATE_SIZE, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[parts.tm_wday],
                   (unsigned)parts.tm_mday % 100u, months[parts.tm_mon],
                   (unsigned)(parts.tm_year + 1900) % 10000u, (unsigned)parts.tm_hour % 100u,
                   (unsigned)parts.tm_min % 100u, (unsigned)parts.tm_sec % 100u);
}

struct reply_options {
    bool is_kept_alive;
    bool is_head;
};

/* Takes the body, or leaves it. */
static int send_response(struct connection *connection, struct http_response *response,
                         struct reply_options options)
{
    char date[DATE_SIZE];
    struct buffer output = {0};
    bool takes_bodies = connection->server->options.body_size_bytes_max > 0;
    const char *type =
        response->content_type != NULL ? response->content_type : "text/plain; charset=utf-8";
    format_date(date);
    buffer_append_format(&output,
                         "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                         "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s%s\r\n",
                         response->status, http_status_text(response->status), date, type,
                         response->body.size_bytes,
                         response->status != 405 ? ""
                         : takes_bodies          ? "Allow: GET, HEAD, POST\r\n"
                                                 : "Allow: GET, HEAD\r\n",
                         options.is_kept_alive ? "" : "Connection: close\r\n");
    bool is_copied = !options.is_head && response->body.size_bytes <= COPIED_SIZE_BYTES_MAX;
    if (is_copied) {
        buffer_append(&output, buffer_bytes(&response->body));
    }
    int status = os_stream_write_buffer(connection->stream, &output);
    if (status == 0 && !options.is_head && !is_copied) {
        status = os_stream_write_buffer(connection->stream, &response->body);
    }
    buffer_deinit(&output);
    return status;
}

static void refuse(struct connection *connection, int status, const char *reason)
{
    struct http_response response = {.status = status};
    buffer_append_format(&response.body, "%s\n", reason);
    int written = send_response(connection, &response, (struct reply_options){0});
    buffer_deinit(&response.body);
    if (written == 0) {
        os_stream_finish(connection->stream);
    } else {
        os_stream_close(connection->stream);
    }
}

static void set_deadline(struct connection *connection)
{
    connection->deadline_ms = os_monotonic_ms() + connection->server->options.idle_ms_max;
}

/* Send an answer; false when the connection is over. */
static bool send_answer(struct connection *connection, struct http_response *response,
                        struct reply_options options)
{
    ASSERT(response->status >= 200);
    int status = send_response(connection, response, options);
    set_deadline(connection);
    if (status != 0) {
        os_stream_close(connection->stream);
        return false;
    }
    if (!options.is_kept_alive) {
        os_stream_finish(connection->stream);
        return false;
    }
    return true;
}

/* Answer one request; false when the connection is over. */
static bool answer(struct connection *connection, struct http__parsed *parsed)
{
    struct http_server *server = connection->server;
    struct http_response response = {0};
    struct reply_options options = {.is_kept_alive = parsed->is_kept_alive,
                                    .is_head = parsed->request.is_head};
    parsed->request.connection = connection;
    server->options.handle(&parsed->request, &response, server->options.context);
    bool is_on = true;
    if (connection->exchange != NULL) {
        connection->exchange->is_kept_alive = options.is_kept_alive;
        connection->exchange->is_head = options.is_head;
        connection->deadline_ms = UINT64_MAX;
    } else {
        is_on = send_answer(connection, &response, options);
    }
    buffer_deinit(&response.body);
    return is_on;
}

/* Answer what has arrived whole, one at a time: the next when the last answer was taken. */
static void serve(struct connection *connection)
{
    struct http_server *server = connection->server;
    size_t body_size_bytes_max = server->options.body_size_bytes_max;
    while (connection->input.size_bytes > 0) {
        struct http__parsed parsed;
        enum http__outcome outcome =
            http__parse_with_body(buffer_bytes(&connection->input), body_size_bytes_max, &parsed);
        if (outcome == HTTP__INCOMPLETE) {
            return;
        }
        server->request_count++;
        if (outcome == HTTP__REFUSED) {
            server->refused_count++;
            refuse(connection, parsed.status, parsed.reason);
            return;
        }
        if (!answer(connection, &parsed)) {
            return;
        }
        buffer_consume(&connection->input, parsed.size_bytes);
        if (connection->exchange != NULL || os_stream_queued_bytes(connection->stream) > 0) {
            os_stream_pause(connection->stream);
            return;
        }
    }
    buffer_trim(&connection->input, 0); /* An idle connection keeps no memory. */
}

struct http_exchange *http_defer(const struct http_request *request)
{
    struct connection *connection = request->connection;
    ASSERT(connection->exchange == NULL);
    struct http_exchange *exchange = memory_allocate_zeroed(1, sizeof *exchange);
    exchange->connection = connection;
    connection->exchange = exchange;
    return exchange;
}

/* The answer to the last request was sent, or what waited of it: go on. */
static void go_on(struct connection *connection)
{
    os_stream_resume(connection->stream);
    serve(connection);
}

void http_exchange_answer(struct http_exchange *exchange, struct http_response *response)
{
    struct connection *connection = exchange->connection;
    struct reply_options options = {.is_kept_alive = exchange->is_kept_alive,
                                    .is_head = exchange->is_head};
    memory_free(exchange);
    if (connection != NULL) {
        connection->exchange = NULL;
        bool is_on =
            !os_stream_is_closing(connection->stream) && send_answer(connection, response, options);
        if (is_on && os_stream_queued_bytes(connection->stream) == 0) {
            go_on(connection);
        }
    }
    buffer_deinit(&response->body);
}

/* ---- Connections ----------------------------------------------------------------------------- */

static void bytes_came(struct os_stream *stream, struct bytes bytes, void *context)
{
    (void)stream;
    struct connection *connection = context;
    /* More than one request can be here, but never more than the parser must look at and a read. */
    ASSERT(connection->input.size_bytes <= HTTP_REQUEST_SIZE_BYTES_MAX + OS_READ_BUFFER_SIZE_BYTES +
                                               connection->server->options.body_size_bytes_max);
    buffer_append(&connection->input, bytes);
    serve(connection);
}

static void answer_taken(struct os_stream *stream, void *context)
{
    (void)stream;
    struct connection *connection = context;
    if (connection->exchange == NULL) {
        set_deadline(connection);
        go_on(connection);
    }
}

static void connection_ended(struct os_stream *stream, int status, void *context)
{
    (void)context;
    if (status == 0) {
        os_stream_finish(stream); /* Who stops sending may still be reading. */
    } else {
        os_stream_close(stream);
    }
}

static void connection_closed(struct os_stream *stream, void *context)
{
    (void)stream;
    struct connection *connection = context;
    list_remove(&connection->member);
    if (connection->server != NULL) {
        connection->server->connection_count--;
    }
    if (connection->exchange != NULL) {
        connection->exchange->connection = NULL;
    }
    buffer_deinit(&connection->input);
    memory_free(connection);
}

static const struct os_stream_events connection_events = {
    .read = bytes_came,
    .ended = connection_ended,
    .closed = connection_closed,
    .drained = answer_taken,
};

/* Who has taken longest to send a whole request makes room: those that send none must not keep others out,
 * probes of health above all. Nobody whose answer is owed does. */
static void make_room(struct http_server *server)
{
    struct connection *oldest = NULL;
    LIST_EACH(member, next, &server->connections)
    {
        struct connection *connection = LIST_ITEM(member, struct connection, member);
        if (connection->exchange == NULL && !os_stream_is_closing(connection->stream) &&
            (oldest == NULL || connection->deadline_ms < oldest->deadline_ms)) {
            oldest = connection;
        }
    }
    if (oldest != NULL) {
        os_stream_close(oldest->stream);
    }
}

static uint32_t open_count(const struct http_server *server)
{
    uint32_t count = 0;
    LIST_EACH(member, next, &server->connections)
    {
        count += !os_stream_is_closing(LIST_ITEM(member, struct connection, member)->stream);
    }
    return count;
}

static void accepted(struct os_stream *stream, void *context)
{
    struct http_server *server = context;
    if (server->connection_count >= HTTP_CONNECTION_COUNT_MAX &&
        open_count(server) >= HTTP_CONNECTION_COUNT_MAX) {
        make_room(server);
    }
    if (server->connection_count >= 2 * HTTP_CONNECTION_COUNT_MAX) {
        return; /* Even to refuse politely has its bound: whoever is not started is closed. */
    }
    struct connection *connection = memory_allocate_zeroed(1, sizeof *connection);
    connection->server = server;
    connection->stream = stream;
    list_push_back(&server->connections, &connection->member);
    server->connection_count++;
    set_deadline(connection);
    os_stream_start(stream, &connection_events, connection);
    if (server->connection_count > HTTP_CONNECTION_COUNT_MAX &&
        open_count(server) > HTTP_CONNECTION_COUNT_MAX) {
        refuse(connection, 503, "too many connections; try again");
    }
}

static void sweep(void *context)
{
    struct http_server *server = context;
    uint64_t now_ms = os_monotonic_ms();
    LIST_EACH(member, next, &server->connections)
    {
        struct connection *connection = LIST_ITEM(member, struct connection, member);
        if (now_ms >= connection->deadline_ms && !os_stream_is_closing(connection->stream)) {
            os_stream_close(connection->stream);
        }
    }
}

/* ---- Life ------------------------------------------------------------------------------------ */

int http_server_open(struct http_server **server, struct os_loop *loop,
                     const struct http_server_options *options, struct error *error)
{
    static const struct os_listener_events events = {.accepted = accepted};
    struct http_server *opened = memory_allocate_zeroed(1, sizeof *opened);
    opened->loop = loop;
    opened->options = *options;
    if (opened->options.idle_ms_max == 0) {
        opened->options.idle_ms_max = HTTP_IDLE_MS_MAX;
    }
    list_init(&opened->connections);
    int status =
        os_listener_open(&opened->listener, loop, &options->listener, &events, opened, error);
    if (status != 0) {
        memory_free(opened);
        return status;
    }
    uint64_t sweep_ms =
        opened->options.idle_ms_max < SWEEP_MS ? opened->options.idle_ms_max : SWEEP_MS;
    opened->sweeper = os_timer_create(loop, sweep, opened);
    os_timer_start(opened->sweeper, sweep_ms, sweep_ms);
    *server = opened;
    return 0;
}

void http_server_close(struct http_server *server)
{
    if (server == NULL) {
        return;
    }
    os_listener_close(server->listener);
    os_timer_destroy(server->sweeper);
    LIST_EACH(member, next, &server->connections)
    {
        struct connection *connection = LIST_ITEM(member, struct connection, member);
        list_remove(&connection->member);
        connection->server = NULL;
        if (!os_stream_is_closing(connection->stream)) {
            os_stream_close(connection->stream);
        }
    }
    memory_free(server);
}

struct os_address http_server_address(const struct http_server *server)
{
    return os_listener_address(server->listener);
}

uint64_t http_server_request_count(const struct http_server *server)
{
    return server->request_count;
}

uint64_t http_server_refused_count(const struct http_server *server)
{
    return server->refused_count;
}

uint32_t http_server_connection_count(const struct http_server *server)
{
    return server->connection_count;
}
