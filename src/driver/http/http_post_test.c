/* SPDX-License-Identifier: Apache-2.0 */
/* Requests with a body, answers that come later, and Unix sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "driver/http/http.h"

enum { BODY_SIZE_MAX = 200 * 1024, PENDING_MAX = 16, IDLE_MS = 1000 };

static struct {
    char directory[64];
    char path[96];
    struct os_loop *loop;
    struct os_thread *thread;
    struct http_server *server;
    struct os_timer *timer;
    struct http_exchange *pending[PENDING_MAX]; /* Answered by the timer, the last first. */
    uint32_t pending_count;
    _Atomic uint32_t deferred_count;
    _Atomic bool is_holding;
    struct os_message message;
} site;

static void answer_one(void *context)
{
    (void)context;
    if (site.pending_count == 0 || site.is_holding) {
        return;
    }
    struct http_response response = {.status = 200};
    buffer_append(&response.body, BYTES("later\n"));
    http_exchange_answer(site.pending[--site.pending_count], &response);
    assert_int_equal(response.body.capacity_bytes, 0);
}

static void handle(const struct http_request *request, struct http_response *response,
                   void *context)
{
    (void)context;
    if (bytes_equal(request->path, BYTES("/later"))) {
        buffer_append(&response->body, BYTES("dropped"));
        assert_true(site.pending_count < PENDING_MAX);
        site.pending[site.pending_count++] = http_defer(request);
        site.deferred_count++;
        return;
    }
    response->status = 200;
    buffer_append_format(&response->body, "%s %zu ", request->is_post ? "POST" : "GET",
                         request->body.size_bytes);
    buffer_append(&response->body, request->body);
}

static void run_loop(void *context)
{
    os_loop_run(context);
}

static int setup(void **state)
{
    (void)state;
    os_ignore_broken_pipes();
    memset(&site, 0, sizeof site);
    (void)snprintf(site.directory, sizeof site.directory, "/tmp/tutti-http-XXXXXX");
    if (mkdtemp(site.directory) == NULL || os_loop_create(&site.loop, NULL) != 0) {
        return -1;
    }
    (void)snprintf(site.path, sizeof site.path, "%s/control", site.directory);
    struct http_server_options options = {.handle = handle,
                                          .idle_ms_max = IDLE_MS,
                                          .body_size_bytes_max = BODY_SIZE_MAX,
                                          .listener = {.path = site.path}};
    if (http_server_open(&site.server, site.loop, &options, NULL) != 0) {
        return -1;
    }
    site.timer = os_timer_create(site.loop, answer_one, NULL);
    os_timer_start(site.timer, 5, 5);
    return os_thread_start(&site.thread, "server", run_loop, site.loop, NULL);
}

static int teardown(void **state)
{
    (void)state;
    os_loop_stop(site.loop);
    os_thread_join(site.thread);
    os_timer_destroy(site.timer);
    http_server_close(site.server);
    while (site.pending_count > 0) { /* Nobody is there to hear it. */
        struct http_response response = {.status = 200};
        http_exchange_answer(site.pending[--site.pending_count], &response);
    }
    os_loop_destroy(site.loop);
    return rmdir(site.directory);
}

static int ask(const char *target, bool is_post, struct bytes body, struct http_answer *answer)
{
    const struct http_question question = {
        .path = site.path, .target = target, .is_post = is_post, .body = body, .timeout_ms = 5000};
    *answer = (struct http_answer){0};
    return http_ask(&question, answer, NULL);
}

static void expect(struct http_answer *answer, int status, const char *body)
{
    assert_int_equal(answer->status, status);
    assert_true(bytes_equal(buffer_bytes(&answer->body), bytes_of_text(body)));
    buffer_deinit(&answer->body);
}

/* Claim: bodies of any size up to the limit arrive whole, through a Unix socket. */
static void test_post(void **state)
{
    (void)state;
    struct http_answer answer;
    assert_int_equal(ask("/", true, BYTES("{\"a\":1}"), &answer), 0);
    expect(&answer, 200, "POST 7 {\"a\":1}");
    assert_int_equal(ask("/", true, BYTES(""), &answer), 0);
    expect(&answer, 200, "POST 0 ");
    assert_int_equal(ask("/", false, BYTES(""), &answer), 0);
    expect(&answer, 200, "GET 0 ");
    struct buffer large = {0};
    memset(buffer_extend(&large, BODY_SIZE_MAX), 'L', BODY_SIZE_MAX);
    assert_int_equal(ask("/", true, buffer_bytes(&large), &answer), 0);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body.size_bytes, BODY_SIZE_MAX + sizeof "POST 204800 " - 1);
    buffer_deinit(&answer.body);
    buffer_append_byte(&large, 'L');
    assert_int_equal(ask("/", true, buffer_bytes(&large), &answer), 0);
    expect(&answer, 413, "the body is too long\n");
    buffer_deinit(&large);
}

/* Claim: an answer may come later, and takes as long as it takes. */
static void test_later(void **state)
{
    (void)state;
    struct http_answer answer;
    assert_int_equal(ask("/later", true, BYTES("x"), &answer), 0);
    expect(&answer, 200, "later\n");
    site.is_holding = true;
    const struct http_question question = {
        .path = site.path, .target = "/later", .timeout_ms = IDLE_MS + 1500};
    assert_int_equal(http_ask(&question, &answer, NULL), -ETIMEDOUT); /* Not cut off as idle. */
    site.is_holding = false;
    assert_int_equal(ask("/later", false, BYTES(""), &answer), 0);
    expect(&answer, 200, "later\n");
}

static int raw_connect(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = 5};
    memcpy(address.sun_path, site.path, strlen(site.path));
    int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(descriptor >= 0);
    assert_int_equal(setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
    assert_int_equal(connect(descriptor, (const struct sockaddr *)&address, sizeof address), 0);
    return descriptor;
}

static void raw_send(int descriptor, const char *text)
{
    assert_int_equal(write(descriptor, text, strlen(text)), (ssize_t)strlen(text));
}

/* Read until the server closes. */
static void raw_read(int descriptor, char *text, size_t size)
{
    size_t used = 0;
    ssize_t count;
    do {
        count = read(descriptor, text + used, size - used - 1);
        assert_true(count >= 0);
        used += (size_t)count;
    } while (count > 0);
    text[used] = '\0';
    assert_int_equal(close(descriptor), 0);
}

/* Claim: requests behind one that is answered later wait, and are answered in order. */
static void test_pipelined(void **state)
{
    (void)state;
    char text[4096];
    int descriptor = raw_connect();
    raw_send(descriptor, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
                         "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                         "GET /later HTTP/1.1\r\nHost: x\r\n\r\n"
                         "GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    raw_read(descriptor, text, sizeof text);
    const char *first = strstr(text, "later\n");
    assert_non_null(first);
    const char *second = strstr(first, "POST 3 abc");
    assert_non_null(second);
    const char *third = strstr(second, "later\n");
    assert_non_null(third);
    assert_non_null(strstr(third, "GET 0 "));
}

/* Claim: HEAD and Connection: close are heeded by later answers too. */
static void test_later_head(void **state)
{
    (void)state;
    char text[4096];
    int descriptor = raw_connect();
    raw_send(descriptor, "HEAD /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    raw_read(descriptor, text, sizeof text);
    assert_non_null(strstr(text, "Content-Length: 6\r\n"));
    assert_non_null(strstr(text, "Connection: close\r\n"));
    assert_string_equal(text + strlen(text) - 4, "\r\n\r\n");
}

/* Claim: who hangs up before the answer harms nobody. */
static void test_gone_before_the_answer(void **state)
{
    (void)state;
    struct http_answer answer;
    uint32_t before = site.deferred_count;
    site.is_holding = true;
    for (uint32_t i = 0; i < 3; i++) {
        int descriptor = raw_connect();
        raw_send(descriptor, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
        while (site.deferred_count == before + i) {
            os_sleep_ms(1);
        }
        assert_int_equal(close(descriptor), 0);
    }
    site.is_holding = false;
    assert_int_equal(ask("/later", false, BYTES(""), &answer), 0);
    expect(&answer, 200, "later\n");
}

/* Claim: a server may be closed, and its loop end, while answers are owed (see teardown). */
static void test_closed_before_the_answer(void **state)
{
    (void)state;
    uint32_t before = site.deferred_count;
    site.is_holding = true;
    int descriptor = raw_connect();
    raw_send(descriptor, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    while (site.deferred_count == before) {
        os_sleep_ms(1);
    }
    assert_int_equal(close(descriptor), 0);
}

/* Claim: a socket that nobody listens on, and a path that is too long, are told apart. */
static void test_nobody(void **state)
{
    (void)state;
    char path[200];
    struct error error = {0};
    struct http_answer answer;
    struct http_question question = {.path = path, .target = "/", .timeout_ms = 1000};
    (void)snprintf(path, sizeof path, "%s/nothing", site.directory);
    assert_int_equal(http_ask(&question, &answer, &error), -ENOENT);
    assert_non_null(strstr(error.message, path));
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(http_ask(&question, &answer, &error), -ENAMETOOLONG);
    assert_non_null(strstr(error.message, "shorter directory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_post),
        cmocka_unit_test(test_later),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_later_head),
        cmocka_unit_test(test_gone_before_the_answer),
        cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_closed_before_the_answer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
