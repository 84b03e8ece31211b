/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reply/reply.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Checks what `statement` writes for each protocol; `reply` is in its scope. */
#define CHECK_BOTH(statement, expected2, expected3)                                      \
    do {                                                                                 \
        for (uint8_t protocol = 2; protocol <= 3; protocol++) {                          \
            struct buffer written = {0};                                                 \
            const struct reply value = {.target = &written, .protocol = protocol};       \
            const struct reply *reply = &value;                                          \
            statement;                                                                   \
            struct bytes expected = protocol == 2 ? BYTES(expected2) : BYTES(expected3); \
            assert_int_equal(written.size_bytes, expected.size_bytes);                   \
            assert_memory_equal(written.data, expected.data, expected.size_bytes);       \
            buffer_deinit(&written);                                                     \
        }                                                                                \
    } while (0)

static void test_what_both_protocols_share_is_the_same(void **state)
{
    /* Statuses, errors, integers, bulk strings and arrays. */
    CHECK_BOTH(reply_status(reply, "PONG"), "+PONG\r\n", "+PONG\r\n");
    CHECK_BOTH(reply_ok(reply), "+OK\r\n", "+OK\r\n");
    CHECK_BOTH(reply_integer(reply, -12), ":-12\r\n", ":-12\r\n");
    CHECK_BOTH(reply_integer(reply, INT64_MIN), ":-9223372036854775808\r\n",
               ":-9223372036854775808\r\n");
    CHECK_BOTH(reply_bulk(reply, BYTES("a\0\r\nb")), "$5\r\na\0\r\nb\r\n", "$5\r\na\0\r\nb\r\n");
    CHECK_BOTH(reply_bulk(reply, bytes_make(NULL, 0)), "$0\r\n\r\n", "$0\r\n\r\n");
    CHECK_BOTH(reply_bulk_text(reply, "hash"), "$4\r\nhash\r\n", "$4\r\nhash\r\n");
    CHECK_BOTH(reply_bulk_integer(reply, 100), "$3\r\n100\r\n", "$3\r\n100\r\n");
    CHECK_BOTH(reply_array(reply, 0), "*0\r\n", "*0\r\n");
    CHECK_BOTH(reply_array(reply, 1000), "*1000\r\n", "*1000\r\n");
}

static void test_an_older_client_gets_the_older_types(void **state)
{
    /* As Redis 7 answers to each protocol. */
    CHECK_BOTH(reply_null(reply), "$-1\r\n", "_\r\n");
    CHECK_BOTH(reply_null_array(reply), "*-1\r\n", "_\r\n");
    CHECK_BOTH(reply_double(reply, 1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
    CHECK_BOTH(reply_double(reply, -(double)INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
    CHECK_BOTH(reply_boolean(reply, true), ":1\r\n", "#t\r\n");
    CHECK_BOTH(reply_boolean(reply, false), ":0\r\n", "#f\r\n");
    CHECK_BOTH(reply_verbatim(reply, "txt", BYTES("hello")), "$5\r\nhello\r\n",
               "=9\r\ntxt:hello\r\n");
    CHECK_BOTH(reply_map(reply, 2), "*4\r\n", "%2\r\n");
    CHECK_BOTH(reply_set(reply, 3), "*3\r\n", "~3\r\n");
}

static void test_an_error_is_one_line(void **state)
{
    /* What a user sent may appear in an error's text and must not end it: that would be a way to
     * forge replies. */
    CHECK_BOTH(reply_error(reply, "ERR bad '%s'", "x\r\n+OK"), "-ERR bad 'x  +OK'\r\n",
               "-ERR bad 'x  +OK'\r\n");
    struct buffer written = {0};
    const struct reply reply = {.target = &written, .protocol = 2};
    reply_error(&reply, "ERR %05000d", 1);
    assert_int_equal(written.data[0], '-');
    assert_true(written.size_bytes < 1100);
    assert_memory_equal(written.data + written.size_bytes - 3, "0\r\n", 3);
    buffer_deinit(&written);
}

static void test_replies_follow_each_other(void **state)
{
    /* Writing appends; what was there stays. */
    struct buffer written = {0};
    const struct reply reply = {.target = &written, .protocol = 3};
    reply_map(&reply, 1);
    reply_bulk_text(&reply, "proto");
    reply_integer(&reply, 3);
    assert_true(bytes_equal(buffer_bytes(&written), BYTES("%1\r\n$5\r\nproto\r\n:3\r\n")));
    buffer_deinit(&written);
}

static void test_nothing_goes_beyond_a_limit(void **state)
{
    /* What does not fit is left out, and so is what would, behind it; but errors are never. */
    for (uint8_t protocol = 2; protocol <= 3; protocol++) {
        struct buffer written = {0};
        buffer_append(&written, BYTES("before"));
        struct reply_limit limit = {.size_bytes_max = 6 + 60};
        const struct reply reply = {.target = &written, .protocol = protocol, .limit = &limit};
        reply_bulk_text(&reply, "0123456789");
        assert_int_equal(written.size_bytes, 6 + 17);
        assert_false(limit.is_exceeded);
        reply_bulk_text(&reply, "0123456789012345678901234567890123456789");
        assert_true(limit.is_exceeded);
        reply_ok(&reply);
        reply_status(&reply, "x");
        reply_integer(&reply, 1);
        reply_bulk_text(&reply, "");
        reply_null(&reply);
        reply_null_array(&reply);
        reply_double(&reply, 1.5);
        reply_boolean(&reply, true);
        reply_verbatim(&reply, "txt", BYTES("x"));
        reply_array(&reply, 1);
        reply_map(&reply, 1);
        reply_set(&reply, 1);
        assert_int_equal(written.size_bytes, 6 + 17);
        reply_error(&reply, "ERR");
        assert_true(
            bytes_equal(buffer_bytes(&written), BYTES("before$10\r\n0123456789\r\n-ERR\r\n")));
        buffer_deinit(&written);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_both_protocols_share_is_the_same),
        cmocka_unit_test(test_an_older_client_gets_the_older_types),
        cmocka_unit_test(test_an_error_is_one_line),
        cmocka_unit_test(test_replies_follow_each_other),
        cmocka_unit_test(test_nothing_goes_beyond_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
