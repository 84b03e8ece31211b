/* SPDX-License-Identifier: Apache-2.0 */
#include "base/number/number.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool parses_to(const char *text, int64_t expected)
{
    int64_t value = ~expected;
    return number_parse_integer(bytes_of_text(text), &value) && value == expected;
}

static bool is_refused(const char *text)
{
    int64_t value = 4711;
    return !number_parse_integer(bytes_of_text(text), &value) && value == 4711;
}

static void test_every_integer_has_one_text(void **state)
{
    /* Redis accepts only the canonical text, so that equal numbers have equal texts. */
    assert_true(parses_to("0", 0));
    assert_true(parses_to("-1", -1));
    assert_true(parses_to("9223372036854775807", INT64_MAX));
    assert_true(parses_to("-9223372036854775808", INT64_MIN));
    static const char *const refused[] = {
        "",
        "-",
        "+1",
        "-0",
        "00",
        "01",
        "-01",
        " 1",
        "1 ",
        "1a",
        "0x10",
        "1.0",
        "--1",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "99999999999999999999",
        "111111111111111111111",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_true(is_refused(refused[i]));
    }
    int64_t value;
    assert_false(number_parse_integer(bytes_make(NULL, 0), &value));
    assert_false(number_parse_integer(bytes_make("1\0", 2), &value));
}

static void test_unsigned_integers_reach_their_limit(void **state)
{
    /* 2^64-1 is read, one more is refused, and so is any sign. */
    uint64_t value = 0;
    assert_true(number_parse_unsigned(BYTES("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    assert_true(number_parse_unsigned(BYTES("0"), &value));
    assert_true(value == 0);
    assert_false(number_parse_unsigned(BYTES("18446744073709551616"), &value));
    assert_false(number_parse_unsigned(BYTES("-1"), &value));
    assert_false(number_parse_unsigned(BYTES(":"), &value));
    assert_false(number_parse_unsigned(BYTES("/"), &value));
    assert_true(value == 0);
}

static void test_an_integer_survives_the_way_through_text(void **state)
{
    /* format, then parse, is the identity at both ends and around every power of ten. */
    int64_t magnitude = 1;
    for (int digits = 0; digits < 19; digits++) {
        const int64_t values[] = {magnitude, magnitude - 1, -magnitude, 1 - magnitude};
        for (int i = 0; i < 4; i++) {
            char text[NUMBER_INTEGER_SIZE_MAX];
            int64_t back = 0;
            assert_true(number_parse_integer(
                bytes_make(text, number_format_integer(text, values[i])), &back));
            assert_true(back == values[i]);
        }
        magnitude = digits < 18 ? magnitude * 10 : magnitude;
    }
    char text[NUMBER_INTEGER_SIZE_MAX];
    assert_int_equal(number_format_integer(text, INT64_MIN), 20);
    assert_memory_equal(text, "-9223372036854775808", 20);
    assert_int_equal(number_format_unsigned(text, UINT64_MAX), 20);
    assert_memory_equal(text, "18446744073709551615", 20);
}

static void test_a_float_is_the_whole_text_or_nothing(void **state)
{
    /* Spaces, NaN, overflow and trailing characters are refused, as INCRBYFLOAT must. */
    long double value = 7;
    assert_true(number_parse_long_double(BYTES("3.0e3"), &value) && value == 3000);
    assert_true(number_parse_long_double(BYTES("-.5"), &value) && value == -0.5L);
    assert_true(number_parse_long_double(BYTES("+5"), &value) && value == 5);
    assert_true(number_parse_long_double(BYTES("inf"), &value) && value > 0);
    value = 7;
    static const char *const refused[] = {"",        " 1",       "1 ",       "nan",  "-nan",
                                          "1..2",    "abc",      "1e",       "--1",  "\n1",
                                          "1e99999", "-1e99999", "1e-99999", "5.0 x"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_false(number_parse_long_double(bytes_of_text(refused[i]), &value));
    }
    assert_false(number_parse_long_double(bytes_make("1\0002", 3), &value));
    assert_false(number_parse_long_double(bytes_make(NULL, 0), &value));
    char endless[NUMBER_DOUBLE_SIZE_MAX];
    memset(endless, '1', sizeof endless);
    assert_false(number_parse_long_double(bytes_make(endless, sizeof endless), &value));
    assert_true(value == 7);
}

static void check_size(const char *text, uint64_t expected)
{
    uint64_t size_bytes = 0;
    assert_true(number_parse_size(bytes_of_text(text), &size_bytes));
    assert_true(size_bytes == expected);
}

static void test_sizes_have_the_units_of_redis(void **state)
{
    /* 1k is 1000 and 1kb is 1024; what does not fit 64 bits is refused, not wrapped. */
    check_size("0", 0);
    check_size("100", 100);
    check_size("100b", 100);
    check_size("1k", 1000);
    check_size("1Kb", 1024);
    check_size("1KiB", 1024);
    check_size("3m", 3000000);
    check_size("3mb", 3 << 20);
    check_size("2GB", 2ull << 30);
    check_size("2g", 2000000000ull);
    check_size("2gib", 2ull << 30);
    uint64_t size_bytes = 5;
    static const char *const refused[] = {
        "", "kb", "-1", "1 kb", "1tb", "1kbb", "01kb", "1.5gb", "18446744073709551615kb"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_false(number_parse_size(bytes_of_text(refused[i]), &size_bytes));
    }
    assert_false(number_parse_size(bytes_make(NULL, 0), &size_bytes));
    assert_true(size_bytes == 5);
}

static void check_long_double(long double value, const char *expected)
{
    char text[NUMBER_DOUBLE_SIZE_MAX];
    size_t length = number_format_long_double(text, value);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(text, expected, length);
}

static void test_floats_are_written_as_incrbyfloat_answers(void **state)
{
    /* 17 digits after the point, no exponent, no trailing zeros, no negative zero. */
    check_long_double(10.6L, "10.6");
    check_long_double(5000, "5000");
    check_long_double(100, "100");
    check_long_double(-0.0L, "0");
    check_long_double(0, "0");
    check_long_double(-1.5L, "-1.5");
    check_long_double(1e-17L, "0.00000000000000001");
    check_long_double(-1e-19L, "0");
    check_long_double(1e20L, "100000000000000000000");
    check_long_double((long double)INFINITY, "inf");
    check_long_double(-(long double)INFINITY, "-inf");
    char text[NUMBER_DOUBLE_SIZE_MAX];
    assert_int_equal(number_format_long_double(text, LDBL_MAX), 4933);
    assert_int_equal(number_format_long_double(text, -LDBL_MAX), 4934);
}

static void check_double(double value, const char *expected)
{
    char text[NUMBER_DOUBLE_SIZE_MAX];
    size_t length = number_format_double(text, value);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(text, expected, length);
}

static void test_doubles_read_back_as_what_they_were(void **state)
{
    /* The shortest of 15 to 17 digits that reads back exactly. */
    check_double(0.1, "0.1");
    check_double(3, "3");
    check_double(0.1 + 0.2, "0.30000000000000004");
    check_double(1e100, "1e+100");
    check_double(5e-324, "4.94065645841247e-324");
    check_double((double)INFINITY, "inf");
    check_double(-(double)INFINITY, "-inf");
    check_double((double)NAN, "nan");
}

static void test_the_lesser_and_the_greater(void **state)
{
    assert_int_equal(number_min(3, UINT64_MAX), 3);
    assert_int_equal(number_min(UINT64_MAX, 0), 0);
    assert_int_equal(number_max(3, UINT64_MAX), UINT64_MAX);
    assert_int_equal(number_max(7, 0), 7);
    assert_int_equal(number_min(5, 5), number_max(5, 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_integer_has_one_text),
        cmocka_unit_test(test_unsigned_integers_reach_their_limit),
        cmocka_unit_test(test_an_integer_survives_the_way_through_text),
        cmocka_unit_test(test_a_float_is_the_whole_text_or_nothing),
        cmocka_unit_test(test_sizes_have_the_units_of_redis),
        cmocka_unit_test(test_floats_are_written_as_incrbyfloat_answers),
        cmocka_unit_test(test_doubles_read_back_as_what_they_were),
        cmocka_unit_test(test_the_lesser_and_the_greater),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
