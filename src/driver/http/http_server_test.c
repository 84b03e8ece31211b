/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/http/http.h"

enum { LARGE_SIZE = 20 * 1024 * 1024, IDLE_MS = 3000, PATIENCE_MS = 30000 };

static struct {
    struct os_loop *loop;
    struct http_server *server;
    struct os_thread *thread;
    struct os_address address;
} site;

static void handle(const struct http_request *request, struct http_response *response,
                   void *context)
{
    (void)context;
    if (bytes_equal(request->path, BYTES("/hello"))) {
        response->status = 200;
        buffer_append(&response->body, BYTES("hello "));
        buffer_append(&response->body, request->query);
    } else if (bytes_equal(request->path, BYTES("/large"))) {
        response->status = 200;
        response->content_type = "application/octet-stream";
        memset(buffer_extend(&response->body, LARGE_SIZE), 'L', LARGE_SIZE);
    } else {
        response->status = 404;
        buffer_append(&response->body, BYTES("nothing here\n"));
    }
}

static void run_loop(void *context)
{
    os_loop_run(context);
}

static int setup(void **state)
{
    (void)state;
    os_ignore_broken_pipes();
    if (os_loop_create(&site.loop, NULL) != 0) {
        return -1;
    }
    struct http_server_options options = {.handle = handle, .idle_ms_max = IDLE_MS};
    options.listener.flag = "--admin";
    if (os_address_parse(&options.listener.address, "127.0.0.1:0", NULL) != 0 ||
        http_server_open(&site.server, site.loop, &options, NULL) != 0) {
        return -1;
    }
    site.address = http_server_address(site.server);
    return os_thread_start(&site.thread, "server", run_loop, site.loop, NULL);
}

static int teardown(void **state)
{
    (void)state;
    os_loop_stop(site.loop);
    os_thread_join(site.thread);
    http_server_close(site.server);
    os_loop_destroy(site.loop);
    return 0;
}

/* Claim: the client gets what the handler wrote, of any size, and statuses as they are. */
static void test_get(void **state)
{
    (void)state;
    struct http_answer answer = {0};
    struct error error = {0};
    assert_int_equal(http_get(&site.address, "/hello?world", PATIENCE_MS, &answer, &error), 0);
    assert_int_equal(answer.status, 200);
    assert_true(bytes_equal(buffer_bytes(&answer.body), BYTES("hello world")));
    buffer_deinit(&answer.body);
    answer = (struct http_answer){0};
    assert_int_equal(http_get(&site.address, "/nowhere", PATIENCE_MS, &answer, &error), 0);
    assert_int_equal(answer.status, 404);
    buffer_deinit(&answer.body);
    answer = (struct http_answer){0};
    assert_int_equal(http_get(&site.address, "/large", PATIENCE_MS, &answer, &error), 0);
    assert_int_equal(answer.body.size_bytes, LARGE_SIZE);
    buffer_deinit(&answer.body);
}

static int connect_silently(void)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(site.address.port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(descriptor >= 0);
    assert_int_equal(connect(descriptor, (const struct sockaddr *)&address, sizeof address), 0);
    return descriptor;
}

/* Claim: connections that send no whole request do not keep others out; the oldest of them ends. */
static void test_silent_connections(void **state)
{
    (void)state;
    enum { COUNT = 2 * HTTP_CONNECTION_COUNT_MAX };
    int silent[COUNT];
    for (int i = 0; i < COUNT; i++) {
        silent[i] = connect_silently();
        if (i % 2 == 1) {
            assert_int_equal(send(silent[i], "GET /hello HT", 13, 0), 13);
        }
    }
    for (int i = 0; i < 3; i++) {
        struct http_answer answer = {0};
        struct error error = {0};
        assert_int_equal(http_get(&site.address, "/hello", PATIENCE_MS, &answer, &error), 0);
        assert_int_equal(answer.status, 200);
        buffer_deinit(&answer.body);
    }
    char byte;
    errno = 0; /* Else it is of something before, when the end has come. */
    assert_true(recv(silent[0], &byte, 1, MSG_DONTWAIT) <= 0 && errno != EAGAIN);
    errno = 0;
    assert_int_equal(recv(silent[COUNT - 1], &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN); /* It has its time. */
    for (int i = 0; i < COUNT; i++) {
        (void)close(silent[i]);
    }
}

/* ---- A raw client ---------------------------------------------------------------------------- */

struct raw {
    struct os_loop *loop;
    struct os_stream *stream;
    struct buffer received;
    const char *request;
    bool has_ended;
};

static void raw_connected(struct os_stream *stream, int status, void *context)
{
    struct raw *raw = context;
    assert_int_equal(status, 0);
    struct bytes piece = bytes_of_text(raw->request);
    assert_int_equal(os_stream_write(stream, &piece, 1), 0);
}

static void raw_read(struct os_stream *stream, struct bytes bytes, void *context)
{
    (void)stream;
    buffer_append(&((struct raw *)context)->received, bytes);
}

static void raw_ended(struct os_stream *stream, int status, void *context)
{
    (void)status;
    ((struct raw *)context)->has_ended = true;
    os_stream_close(stream);
}

static void raw_closed(struct os_stream *stream, void *context)
{
    (void)stream;
    os_loop_stop(((struct raw *)context)->loop);
}

static void raw_late(void *context)
{
    (void)context;
    fail_msg("the server did not close the connection");
}

static const struct os_stream_events raw_events = {
    .connected = raw_connected,
    .read = raw_read,
    .ended = raw_ended,
    .closed = raw_closed,
};

/* Send `request`; everything that comes until the server closes. The caller frees it. */
static struct buffer converse(const char *request)
{
    struct raw raw = {.request = request};
    assert_int_equal(os_loop_create(&raw.loop, NULL), 0);
    struct os_timer *timer = os_timer_create(raw.loop, raw_late, NULL);
    os_timer_start(timer, PATIENCE_MS, 0);
    assert_int_equal(
        os_stream_connect(&raw.stream, raw.loop, &site.address, &raw_events, &raw, NULL), 0);
    os_loop_run(raw.loop);
    assert_true(raw.has_ended);
    os_timer_destroy(timer);
    os_loop_destroy(raw.loop);
    buffer_append_byte(&raw.received, 0);
    return raw.received;
}

static int count(const char *text, const char *part)
{
    int found = 0;
    for (const char *place = strstr(text, part); place != NULL; place = strstr(place + 1, part)) {
        found++;
    }
    return found;
}

/* Claim: requests on one connection are answered in order, until one says close. */
static void test_keep_alive_and_pipeline(void **state)
{
    (void)state;
    struct buffer answer = converse("GET /hello?1 HTTP/1.1\r\nHost: x\r\n\r\n"
                                    "HEAD /hello?2 HTTP/1.1\r\nHost: x\r\n\r\n"
                                    "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                                    "GET /hello?4 HTTP/1.1\r\nHost: x\r\n\r\n");
    const char *text = (const char *)answer.data;
    assert_int_equal(count(text, "HTTP/1.1 200 OK\r\n"), 2);
    assert_int_equal(count(text, "HTTP/1.1 404 Not Found\r\n"), 1);
    assert_int_equal(count(text, "Content-Length: 7\r\n"), 2);
    assert_int_equal(count(text, "hello 1"), 1);
    assert_int_equal(count(text, "hello 2"), 0);
    assert_int_equal(count(text, "hello 4"), 0);
    assert_int_equal(count(text, "Connection: close\r\n"), 1);
    assert_int_equal(count(text, " GMT\r\n"), 3);
    buffer_deinit(&answer);
}

/* Claim: a bad request is answered, and the connection closed. */
static void test_bad_request(void **state)
{
    (void)state;
    struct buffer answer = converse("GET /  HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(strncmp((const char *)answer.data, "HTTP/1.1 400 Bad Request\r\n", 26), 0);
    buffer_deinit(&answer);
    answer = converse("POST /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(count((const char *)answer.data, "Allow: GET, HEAD\r\n"), 1);
    buffer_deinit(&answer);
}

/* Claim: who does not send a whole request in time is hung up on, without an answer. */
static void test_idle(void **state)
{
    (void)state;
    uint64_t before_ms = os_monotonic_ms();
    struct buffer answer = converse("GET /hello HTTP/1.1\r\nHost:");
    assert_int_equal(answer.size_bytes, 1);
    assert_true(os_monotonic_ms() - before_ms >= IDLE_MS - 20);
    buffer_deinit(&answer);
}

/* Claim: many large answers on one connection are sent one by one, with bounded memory. */
static void test_pipeline_of_large_answers(void **state)
{
    (void)state;
    struct buffer answer = converse("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
                                    "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
                                    "GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_true(answer.size_bytes > 3ull * LARGE_SIZE);
    assert_true(answer.size_bytes < 3ull * LARGE_SIZE + 2000);
    buffer_deinit(&answer);
}

static const char *rude_text;

static void rude_accepted(struct os_stream *stream, void *context)
{
    (void)context;
    struct bytes piece = bytes_of_text(rude_text);
    if (piece.size_bytes > 0) {
        assert_int_equal(os_stream_write(stream, &piece, 1), 0);
        os_stream_finish(stream);
    }
}

/* Claim: the client tells apart who is not there, who does not answer, and who is not HTTP. */
static void test_client_errors(void **state)
{
    (void)state;
    static const struct os_listener_events events = {.accepted = rude_accepted};
    struct os_loop *loop = NULL;
    struct os_listener *listener = NULL;
    struct os_thread *thread = NULL;
    struct os_listener_options options = {0};
    struct http_answer answer = {0};
    struct error error = {0};
    assert_int_equal(os_loop_create(&loop, NULL), 0);
    assert_int_equal(os_address_parse(&options.address, "127.0.0.1:0", NULL), 0);
    assert_int_equal(os_listener_open(&listener, loop, &options, &events, NULL, NULL), 0);
    struct os_address address = os_listener_address(listener);
    rude_text = "-ERR not for you\r\n";
    assert_int_equal(os_thread_start(&thread, "rude", run_loop, loop, NULL), 0);
    assert_int_equal(http_get(&address, "/", PATIENCE_MS, &answer, &error), ERROR_PROTOCOL);
    rude_text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort";
    assert_int_equal(http_get(&address, "/", PATIENCE_MS, &answer, &error), ERROR_PROTOCOL);
    rude_text = "HTTP/1.0 200 OK\r\n\r\nuntil the end";
    assert_int_equal(http_get(&address, "/", PATIENCE_MS, &answer, &error), 0);
    assert_true(bytes_equal(buffer_bytes(&answer.body), BYTES("until the end")));
    buffer_deinit(&answer.body);
    os_loop_stop(loop);
    os_thread_join(thread);
    /* Nobody accepts now, but the system still connects. */
    assert_int_equal(http_get(&address, "/status", 100, &answer, &error), -ETIMEDOUT);
    assert_non_null(strstr(error.message, "/status: Connection timed out"));
    os_listener_close(listener);
    os_loop_destroy(loop);
    assert_int_equal(http_get(&address, "/", 1000, &answer, &error), -ECONNREFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_get, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silent_connections, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keep_alive_and_pipeline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_request, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline_of_large_answers, setup, teardown),
        cmocka_unit_test(test_client_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
