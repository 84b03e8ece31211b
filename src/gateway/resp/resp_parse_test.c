/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/resp/resp_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static const struct resp_limits plain = {.value_size_bytes_max = 1000,
                                         .request_size_bytes_max = 2000};

/* What a stream of requests means, as text: one line per command. */
static void describe(struct buffer *text, enum resp_outcome outcome,
                     const struct resp_arguments *arguments, const struct resp_parser *parser,
                     const char *error)
{
    switch (outcome) {
    case RESP_OUTCOME_MORE:
        return;
    case RESP_OUTCOME_NOTHING:
        buffer_append_format(text, "nothing\n");
        return;
    case RESP_OUTCOME_OVERSIZED:
        buffer_append_format(text, "oversized %llu\n",
                             (unsigned long long)parser->largest_size_bytes);
        return;
    case RESP_OUTCOME_BROKEN:
        buffer_append_format(text, "broken %s\n", error);
        return;
    case RESP_OUTCOME_COMMAND:
        break;
    }
    for (uint32_t i = 0; i < arguments->count; i++) {
        buffer_append_format(text, "[");
        buffer_append(text, arguments->items[i]);
        buffer_append_format(text, "]");
    }
    buffer_append_byte(text, '\n');
}

struct feed {
    struct resp_parser parser;
    struct resp_arguments arguments;
    struct buffer input;
    struct buffer text;
    bool is_broken;
    size_t largest_rest;
};

static void feed_bytes(struct feed *feed, const struct resp_limits *limits, struct bytes bytes)
{
    char error[RESP_ERROR_TEXT_SIZE];
    buffer_append(&feed->input, bytes);
    while (!feed->is_broken) {
        size_t consumed = 0;
        enum resp_outcome outcome = resp__parse(&feed->parser, limits, buffer_bytes(&feed->input),
                                                &feed->arguments, &consumed, error);
        describe(&feed->text, outcome, &feed->arguments, &feed->parser, error);
        buffer_consume(&feed->input, consumed);
        feed->is_broken = outcome == RESP_OUTCOME_BROKEN;
        if (outcome == RESP_OUTCOME_MORE) {
            break;
        }
    }
    if (feed->input.size_bytes > feed->largest_rest) {
        feed->largest_rest = feed->input.size_bytes;
    }
}

static void feed_deinit(struct feed *feed)
{
    resp__arguments_deinit(&feed->arguments);
    buffer_deinit(&feed->input);
    buffer_deinit(&feed->text);
}

/* Whole, byte by byte, and cut at every position: all must mean `expected`. */
static void expect(const struct resp_limits *limits, struct bytes stream, const char *expected)
{
    for (size_t cut = 0; cut <= stream.size_bytes; cut++) {
        struct feed feed = {0};
        feed_bytes(&feed, limits, bytes_make(stream.data, cut));
        feed_bytes(&feed, limits, bytes_make(stream.data + cut, stream.size_bytes - cut));
        buffer_append_byte(&feed.text, '\0');
        assert_string_equal((char *)feed.text.data, expected);
        feed_deinit(&feed);
    }
    struct feed feed = {0};
    for (size_t i = 0; i < stream.size_bytes; i++) {
        feed_bytes(&feed, limits, bytes_make(stream.data + i, 1));
    }
    buffer_append_byte(&feed.text, '\0');
    assert_string_equal((char *)feed.text.data, expected);
    feed_deinit(&feed);
}

/* The same commands come out wherever the network cuts the stream. */
static void test_arrays(void **state)
{
    expect(&plain, BYTES("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\nv\r\nv\r\n*1\r\n$4\r\nPING\r\n"),
           "[SET][k][v\r\nv]\n[PING]\n");
    expect(&plain, BYTES("*2\r\n$3\r\nGET\r\n$0\r\n\r\n*0\r\n*-1\r\n*1\r\n$1\r\nx\r\n"),
           "[GET][]\nnothing\nnothing\n[x]\n");
}

/* Quotes and escapes of inline requests are those of Redis. */
static void test_inline(void **state)
{
    expect(&plain, BYTES("PING\r\n\r\nset k  \"a\\x41\\n\\\"b\" 'it\\'s \\n'\n"),
           "[PING]\nnothing\n[set][k][aA\n\"b][it's \\n]\n");
    expect(&plain, BYTES("a\"b c\"\r\n\"\" ''\r\n"), "[ab c]\n[][]\n");
    expect(&plain, BYTES("\"\\xzz\\q\"\r\n"), "[xzzq]\n");
    expect(&plain, BYTES("set \"unbalanced\r\n"),
           "broken Protocol error: unbalanced quotes in request\n");
    expect(&plain, BYTES("set \"a\"b\r\n"),
           "broken Protocol error: unbalanced quotes in request\n");
    expect(&plain, BYTES("set 'a\\\r\n"), "broken Protocol error: unbalanced quotes in request\n");
}

/* Lengths that are not lengths are refused in the words of Redis, wherever they are cut. */
static void test_broken(void **state)
{
    expect(&plain, BYTES("*x\r\n"), "broken Protocol error: invalid multibulk length\n");
    expect(&plain, BYTES("*\r\n"), "broken Protocol error: invalid multibulk length\n");
    expect(&plain, BYTES("*01\r\n"), "broken Protocol error: invalid multibulk length\n");
    expect(&plain, BYTES("*1048577\r\n"), "broken Protocol error: invalid multibulk length\n");
    expect(&plain, BYTES("*99999999999999999999\r\n"),
           "broken Protocol error: invalid multibulk length\n");
    expect(&plain, BYTES("*nan\r\n"), "broken Protocol error: invalid multibulk length\n");
    expect(&plain, BYTES("*1\r\n:3\r\n"), "broken Protocol error: expected '$', got ':'\n");
    expect(&plain, BYTES("*1\r\n$-1\r\n"), "broken Protocol error: invalid bulk length\n");
    expect(&plain, BYTES("*1\r\n$536870913\r\n"), "broken Protocol error: invalid bulk length\n");
    expect(&plain, BYTES("*1\r\n$+1\r\n"), "broken Protocol error: invalid bulk length\n");
    expect(&plain, BYTES("*1\r\n$\r\n"), "broken Protocol error: invalid bulk length\n");
}

/* Before authentication, little is believed. */
static void test_stranger(void **state)
{
    struct resp_limits limits = plain;
    limits.is_stranger = true;
    expect(&limits, BYTES("*11\r\n"), "broken Protocol error: unauthenticated multibulk length\n");
    expect(&limits, BYTES("*2\r\n$16385\r\n"),
           "broken Protocol error: unauthenticated bulk length\n");
    expect(&limits, BYTES("*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n"), "[AUTH][x]\n");
    expect(&limits, BYTES("1 2 3 4 5 6 7 8 9 10 11\r\n"),
           "broken Protocol error: unauthenticated multibulk length\n");
}

/* A value above the limit is swallowed without being kept, and what follows is understood. */
static void test_oversized(void **state)
{
    struct buffer stream = {0};
    buffer_append_format(&stream, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1001\r\n%01001d\r\nPING\r\n", 0);
    expect(&plain, buffer_bytes(&stream), "oversized 1001\n[PING]\n");

    struct feed feed = {0};
    for (size_t i = 0; i < stream.size_bytes; i++) {
        feed_bytes(&feed, &plain, bytes_make(stream.data + i, 1));
    }
    assert_true(feed.largest_rest < 64);
    feed_deinit(&feed);

    /* Each value fits, the request does not. */
    buffer_clear(&stream);
    buffer_append_format(&stream, "*4\r\n$4\r\nMSET\r\n");
    for (int i = 0; i < 3; i++) {
        buffer_append_format(&stream, "$900\r\n%0900d\r\n", i);
    }
    buffer_append_format(&stream, "PING\r\n");
    expect(&plain, buffer_bytes(&stream), "oversized 900\n[PING]\n");
    buffer_deinit(&stream);
}

/* A line without an end does not make us wait for ever. */
static void test_long_lines(void **state)
{
    static const struct {
        const char *start;
        const char *expected;
    } cases[] = {
        {"", "broken Protocol error: too big inline request\n"},
        {"*", "broken Protocol error: too big mbulk count string\n"},
        {"*1\r\n$", "broken Protocol error: too big bulk count string\n"},
    };
    struct buffer line = {0};
    memset(buffer_extend(&line, RESP_LINE_SIZE_BYTES_MAX + 2), '1', RESP_LINE_SIZE_BYTES_MAX + 2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct feed feed = {0};
        feed_bytes(&feed, &plain, bytes_of_text(cases[i].start));
        feed_bytes(&feed, &plain, buffer_bytes(&line));
        buffer_append_byte(&feed.text, '\0');
        assert_string_equal((char *)feed.text.data, cases[i].expected);
        feed_deinit(&feed);
    }
    buffer_deinit(&line);
}

/* The cost of a large command is linear in its size, however small the pieces: a quadratic parser
 * would take minutes here. */
static void test_many_small_pieces(void **state)
{
    enum { COUNT = 300000, PIECE = 16 };
    struct buffer stream = {0};
    buffer_append_format(&stream, "*%d\r\n", COUNT);
    for (int i = 0; i < COUNT; i++) {
        buffer_append_format(&stream, "$1\r\nx\r\n");
    }
    struct resp_limits limits = {1u << 20, 1u << 30, false};
    struct resp_parser parser = {0};
    struct resp_arguments arguments = {0};
    enum resp_outcome outcome = RESP_OUTCOME_MORE;
    size_t consumed = 0;
    char error[RESP_ERROR_TEXT_SIZE];
    for (size_t size = PIECE; outcome == RESP_OUTCOME_MORE; size += PIECE) {
        size = size > stream.size_bytes ? stream.size_bytes : size;
        outcome = resp__parse(&parser, &limits, bytes_make(stream.data, size), &arguments,
                              &consumed, error);
    }
    assert_int_equal(outcome, RESP_OUTCOME_COMMAND);
    assert_int_equal(consumed, stream.size_bytes);
    assert_int_equal(arguments.count, COUNT);
    resp__arguments_deinit(&arguments);
    buffer_deinit(&stream);
}

/* The wanted size of a bulk that is being read is exact, so that it can be read to its place. */
static void test_wanted(void **state)
{
    struct resp_parser parser = {0};
    struct resp_arguments arguments = {0};
    size_t consumed = 0;
    char error[RESP_ERROR_TEXT_SIZE];
    struct bytes part = BYTES("*2\r\n$3\r\nGET\r\n$900\r\nab");
    assert_int_equal(resp__parse(&parser, &plain, part, &arguments, &consumed, error),
                     RESP_OUTCOME_MORE);
    assert_int_equal(resp__parser_wanted_bytes(&parser), part.size_bytes - 2 + 902);
    resp__arguments_deinit(&arguments);
}

/* A reply's end is found without understanding it. */
static void test_reply_size(void **state)
{
    static const char *const replies[] = {"+OK\r\n",
                                          ":1\r\n",
                                          "$-1\r\n",
                                          "_\r\n",
                                          "$2\r\nab\r\n",
                                          "*0\r\n",
                                          "*-1\r\n",
                                          "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
                                          "%1\r\n+a\r\n~2\r\n:1\r\n:2\r\n",
                                          "=7\r\ntxt:a\r\n\r\n",
                                          ",1.5\r\n"};
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        struct bytes reply = bytes_of_text(replies[i]);
        assert_int_equal(resp__reply_size(reply), reply.size_bytes);
        for (size_t cut = 0; cut < reply.size_bytes; cut++) {
            assert_int_equal(resp__reply_size(bytes_make(reply.data, cut)), 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrays),     cmocka_unit_test(test_inline),
        cmocka_unit_test(test_broken),     cmocka_unit_test(test_stranger),
        cmocka_unit_test(test_oversized),  cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_wanted),     cmocka_unit_test(test_many_small_pieces),
        cmocka_unit_test(test_reply_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
