/* SPDX-License-Identifier: Apache-2.0 */
/* The client: one request on a loop of its own, which makes it blocking for the caller and lets it
 * share the code of connections and timers. */
#include <llhttp.h>
#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "driver/http/http.h"

struct exchange {
    struct os_loop *loop;
    struct os_stream *stream;
    const struct http_question *question;
    const char *host;
    llhttp_t parser;
    struct buffer body;
    int status; /* Of the exchange: 0 or the first failure. */
    bool is_complete;
};

static void stop(struct exchange *exchange, int status)
{
    if (exchange->status == 0 && !exchange->is_complete) {
        exchange->status = status;
    }
    os_loop_stop(exchange->loop);
}

static int body_came(llhttp_t *parser, const char *text, size_t size_bytes)
{
    struct exchange *exchange = parser->data;
    if (exchange->body.size_bytes + size_bytes > HTTP_ANSWER_SIZE_BYTES_MAX) {
        exchange->status = -EFBIG;
        return HPE_USER;
    }
    buffer_append(&exchange->body, bytes_make(text, size_bytes));
    return 0;
}

static int message_complete(llhttp_t *parser)
{
    struct exchange *exchange = parser->data;
    exchange->is_complete = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_body = body_came,
    .on_message_complete = message_complete,
};

static void bytes_came(struct os_stream *stream, struct bytes bytes, void *context)
{
    struct exchange *exchange = context;
    llhttp_errno_t code =
        llhttp_execute(&exchange->parser, (const char *)bytes.data, bytes.size_bytes);
    if (exchange->is_complete || code != HPE_OK) {
        os_stream_pause(stream);
        stop(exchange, ERROR_PROTOCOL);
    }
}

static void ended(struct os_stream *stream, int status, void *context)
{
    (void)stream;
    struct exchange *exchange = context;
    if (status == 0) {
        (void)llhttp_finish(&exchange->parser); /* Tells message_complete() when that is the end. */
    }
    stop(exchange, status == 0 ? ERROR_PROTOCOL : status);
}

static void closed(struct os_stream *stream, void *context)
{
    (void)stream;
    ((struct exchange *)context)->stream = NULL;
}

static void connected(struct os_stream *stream, int status, void *context)
{
    struct exchange *exchange = context;
    if (status != 0) {
        stop(exchange, status);
        return;
    }
    const struct http_question *question = exchange->question;
    struct buffer request = {0};
    buffer_append_format(&request,
                         "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: tutti\r\nConnection: close\r\n",
                         question->is_post ? "POST" : "GET", question->target, exchange->host);
    if (question->is_post) {
        buffer_append_format(&request, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                             question->body.size_bytes);
    }
    buffer_append(&request, BYTES("\r\n"));
    buffer_append(&request, question->body);
    int written = os_stream_write_buffer(stream, &request);
    buffer_deinit(&request);
    if (written != 0) {
        stop(exchange, written);
    }
}

static const struct os_stream_events events = {
    .read = bytes_came,
    .ended = ended,
    .closed = closed,
    .connected = connected,
};

static void timed_out(void *context)
{
    stop(context, -ETIMEDOUT);
}

/* 0, with the outcome in `exchange`, or why it could not begin. */
static int run_exchange(struct exchange *exchange, struct error *error)
{
    const struct http_question *question = exchange->question;
    int status = question->path != NULL
                     ? os_stream_connect_path(&exchange->stream, exchange->loop, question->path,
                                              &events, exchange, error)
                     : os_stream_connect(&exchange->stream, exchange->loop, question->address,
                                         &events, exchange, error);
    if (status != 0) {
        return status;
    }
    struct os_timer *timer = os_timer_create(exchange->loop, timed_out, exchange);
    os_timer_start(timer, question->timeout_ms, 0);
    os_loop_run(exchange->loop);
    os_timer_destroy(timer);
    os_stream_close(exchange->stream);
    return 0;
}

int http_ask(const struct http_question *question, struct http_answer *answer, struct error *error)
{
    char host[OS_ADDRESS_TEXT_SIZE] = "localhost";
    if (question->path == NULL) {
        os_address_format(question->address, host);
    }
    struct exchange exchange = {.question = question, .host = host};
    int status = os_loop_create(&exchange.loop, error);
    if (status != 0) {
        return status;
    }
    llhttp_init(&exchange.parser, HTTP_RESPONSE, &settings);
    exchange.parser.data = &exchange;
    status = run_exchange(&exchange, error);
    os_loop_destroy(exchange.loop);
    if (status != 0) {
        return error_wrap(error, status, "ask for %s", question->target);
    }
    ASSERT(exchange.stream == NULL || exchange.status != 0);
    if (exchange.status != 0) {
        buffer_deinit(&exchange.body);
        return error_set(error, exchange.status, "ask %s%s%s",
                         question->path != NULL ? question->path : "http://",
                         question->path != NULL ? " for " : host, question->target);
    }
    ASSERT(exchange.is_complete);
    answer->status = llhttp_get_status_code(&exchange.parser);
    answer->body = exchange.body;
    return 0;
}

int http_get(const struct os_address *address, const char *target, uint64_t timeout_ms,
             struct http_answer *answer, struct error *error)
{
    const struct http_question question = {
        .address = address, .target = target, .timeout_ms = timeout_ms};
    return http_ask(&question, answer, error);
}
