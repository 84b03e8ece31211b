/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "driver/http/http_internal.h"

#define HOST "Host: x\r\n"

static int status_of(const char *text)
{
    struct http__parsed parsed;
    switch (http__parse_request(bytes_of_text(text), &parsed)) {
    case HTTP__INCOMPLETE:
        return 0;
    case HTTP__READY:
        return 200;
    case HTTP__REFUSED:
        return parsed.status;
    }
    return -1;
}

/* Claim: a plain request is taken apart; its end is known even when more follows. */
static void test_request(void **state)
{
    (void)state;
    struct http__parsed parsed;
    static const char text[] = "\r\nGET /a/b?c=d&e HTTP/1.1\r\n" HOST "Accept:  */* \r\n\r\nGET ";
    assert_int_equal(http__parse_request(bytes_of_text(text), &parsed), HTTP__READY);
    assert_true(bytes_equal(parsed.request.path, BYTES("/a/b")));
    assert_true(bytes_equal(parsed.request.query, BYTES("c=d&e")));
    assert_int_equal(parsed.size_bytes, sizeof text - 1 - 4);
    assert_true(parsed.is_kept_alive);
    assert_false(parsed.request.is_head);
    assert_int_equal(http__parse_request(BYTES("HEAD / HTTP/1.0\r\n\r\n"), &parsed), HTTP__READY);
    assert_true(parsed.request.is_head);
    assert_false(parsed.is_kept_alive);
    assert_int_equal(parsed.request.query.size_bytes, 0);
    assert_int_equal(
        http__parse_request(BYTES("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"), &parsed),
        HTTP__READY);
    assert_false(parsed.is_kept_alive);
}

/* Claim: every part of a request that is not the whole is just incomplete. */
static void test_parts(void **state)
{
    (void)state;
    static const char text[] = "GET /metrics HTTP/1.1\r\n" HOST "A: b\r\n\r\n";
    struct http__parsed parsed;
    for (size_t size = 0; size < sizeof text - 1; size++) {
        assert_int_equal(http__parse_request(bytes_make(text, size), &parsed), HTTP__INCOMPLETE);
    }
}

/* Claim: what readers of HTTP understand differently is refused. */
static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST "\r\n", 200},
        {"GET  / HTTP/1.1\r\n" HOST "\r\n", 400}, /* Two spaces. */
        {"GET /  HTTP/1.1\r\n" HOST "\r\n", 400},
        {" GET / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET\t/ HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1 \r\n" HOST "\r\n", 400},
        {"GET /\r\n\r\n", 400}, /* HTTP/0.9 */
        {"GET / HTTP/2.0\r\n" HOST "\r\n", 505},
        {"GET / HTTP/1.2\r\n" HOST "\r\n", 505},
        {"GET / http/1.1\r\n" HOST "\r\n", 505},
        {"GET / RTSP/1.0\r\n" HOST "\r\n", 505},
        {"PRI * HTTP/2.0\r\n\r\n", 505},
        {"GET / HTTP/1.1\n" HOST "\r\n", 400}, /* A bare LF. */
        {"GET / HTTP/1.1\r\nHost: x\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA:\r B: c\r\n" HOST "\r\n", 400},  /* A bare CR after an empty value. */
        {"GET / HTTP/1.1\r\nA: b\r\n c\r\n" HOST "\r\n", 400}, /* A folded header. */
        {"GET / HTTP/1.1\r\n\tA: b\r\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\nA : b\r\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\nA\r\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400}, /* No host. */
        {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400},
        {"GET / HTTP/1.0\r\n\r\n", 200},
        {"GET * HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET http://x/ HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /\x01 HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "\r\n", 405},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 413},
        {"CONNECT x:1 HTTP/1.1\r\n" HOST "\r\n", 405},
        {"BREW / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 200},
        {"GET / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 413},
        {"GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", 413},
        {"GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", 413},
        {"GET / HTTP/1.1\r\n" HOST
         "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 413},
        {"GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200},
        {"\r\n\r\n\r\n", 400},
        {"*1\r\n$4\r\nPING\r\n", 0},       /* A Redis client: never a whole request … */
        {"*1\r\n$4\r\nPING\r\n\r\n", 400}, /* … and if, a bad one. */
        {"\x16\x03\x01\x02", 400},         /* A TLS client. */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status = status_of(cases[i].text);
        if (status != cases[i].status) {
            fail_msg("%s: %d, expected %d", cases[i].text, status, cases[i].status);
        }
    }
}

/* Claim: a request that does not end is refused at the limit, and not before. */
static void test_too_long(void **state)
{
    (void)state;
    static char text[HTTP_REQUEST_SIZE_BYTES_MAX];
    struct http__parsed parsed;
    memset(text, 'a', sizeof text);
    memcpy(text, "GET /", 5);
    assert_int_equal(http__parse_request(bytes_make(text, sizeof text - 1), &parsed),
                     HTTP__INCOMPLETE);
    assert_int_equal(http__parse_request(bytes_make(text, sizeof text), &parsed), HTTP__REFUSED);
    assert_int_equal(parsed.status, 431);
}

static int body_status_of(const char *text)
{
    struct http__parsed parsed;
    enum http__outcome outcome = http__parse_with_body(bytes_of_text(text), 100, &parsed);
    return outcome == HTTP__INCOMPLETE ? 0 : outcome == HTTP__READY ? 200 : parsed.status;
}

/* Claim: a body is what Content-Length says, no more and no less; it is waited for. */
static void test_body(void **state)
{
    (void)state;
    static const char text[] =
        "POST /v1/drain HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhelloGET ";
    struct http__parsed parsed;
    for (size_t size = 0; size < sizeof text - 1 - 4; size++) {
        assert_int_equal(http__parse_with_body(bytes_make(text, size), 100, &parsed),
                         HTTP__INCOMPLETE);
    }
    assert_int_equal(http__parse_with_body(bytes_of_text(text), 100, &parsed), HTTP__READY);
    assert_true(parsed.request.is_post);
    assert_true(bytes_equal(parsed.request.path, BYTES("/v1/drain")));
    assert_true(bytes_equal(parsed.request.body, BYTES("hello")));
    assert_int_equal(parsed.size_bytes, sizeof text - 1 - 4);
    assert_int_equal(http__parse_with_body(BYTES("GET /a HTTP/1.1\r\n" HOST "\r\n"), 100, &parsed),
                     HTTP__READY);
    assert_false(parsed.request.is_post);
    assert_int_equal(parsed.request.body.size_bytes, 0);
}

/* Claim: every other way to tell the length of a body is refused, and so is POST where there are no
 * bodies. */
static void test_body_refused(void **state)
{
    (void)state;
#define POST "POST / HTTP/1.1\r\n" HOST
    assert_int_equal(body_status_of(POST "Content-Length: 0\r\n\r\n"), 200);
    assert_int_equal(body_status_of(POST "Content-Length: 100\r\n\r\n"), 0);
    assert_int_equal(body_status_of(POST "Content-Length: 101\r\n\r\n"), 413);
    assert_int_equal(body_status_of(POST "Content-Length: 99999999999999999999\r\n\r\n"), 400);
    assert_int_equal(body_status_of(POST "Content-Length: 18446744073709551615\r\n\r\n"), 413);
    assert_int_equal(body_status_of(POST "Content-Length: 01\r\n\r\nx"), 413);
    assert_int_equal(body_status_of(POST "Content-Length: -1\r\n\r\n"), 400);
    assert_int_equal(body_status_of(POST "Content-Length: 1x\r\n\r\n"), 400);
    assert_int_equal(body_status_of(POST "Content-Length:\r\n\r\n"), 400);
    assert_int_equal(body_status_of(POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"), 400);
    assert_int_equal(body_status_of(POST "Content-Length: 1, 1\r\n\r\nx"), 400);
    assert_int_equal(
        body_status_of(POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx"), 400);
    assert_int_equal(body_status_of(POST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 411);
    assert_int_equal(body_status_of(POST "\r\n"), 411);
    assert_int_equal(body_status_of("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), 400);
    assert_int_equal(body_status_of("GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx"), 400);
    assert_int_equal(body_status_of("PUT / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx"), 405);
    assert_int_equal(status_of(POST "Content-Length: 0\r\n\r\n"), 405);
    assert_int_equal(status_of(POST "Content-Length: 1\r\n\r\nx"), 413);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_body),     cmocka_unit_test(test_body_refused),
        cmocka_unit_test(test_request),  cmocka_unit_test(test_parts),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
