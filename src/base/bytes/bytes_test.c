/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_equal_bytes_are_equal_wherever_they_lie(void **state)
{
    /* Equality is by content; no bytes at all equal no bytes at all, even without an address. */
    char copy[] = "tutti";
    assert_true(bytes_equal(BYTES("tutti"), bytes_of_text(copy)));
    assert_false(bytes_equal(BYTES("tutti"), BYTES("tutta")));
    assert_false(bytes_equal(BYTES("tutti"), BYTES("tutt")));
    assert_true(bytes_equal(bytes_make(NULL, 0), BYTES("")));
    assert_false(bytes_equal(bytes_make(NULL, 0), BYTES("a")));
}

static void test_order_is_that_of_unsigned_bytes(void **state)
{
    /* A prefix comes before what it is a prefix of, and 0xff after 0x00: the order of keys on
     * disk. */
    assert_true(bytes_compare(BYTES("a"), BYTES("ab")) < 0);
    assert_true(bytes_compare(BYTES("ab"), BYTES("a")) > 0);
    assert_true(bytes_compare(BYTES("\xff"), BYTES("\x00z")) > 0);
    assert_true(bytes_compare(bytes_make(NULL, 0), BYTES("")) == 0);
    assert_true(bytes_compare(bytes_make(NULL, 0), BYTES("a")) < 0);
    assert_true(bytes_compare(BYTES("same"), BYTES("same")) == 0);
}

static void test_case_is_ignored_for_ascii_letters_only(void **state)
{
    /* '@' and '`', '[' and '{' differ by the same bit as letters do, and must still differ. */
    assert_true(bytes_equal_ignoring_case(BYTES("GeT"), BYTES("gEt")));
    assert_false(bytes_equal_ignoring_case(BYTES("@"), BYTES("`")));
    assert_false(bytes_equal_ignoring_case(BYTES("["), BYTES("{")));
    assert_false(bytes_equal_ignoring_case(BYTES("\xc1"), BYTES("\xe1")));
    assert_false(bytes_equal_ignoring_case(BYTES("get"), BYTES("gets")));
}

static void test_a_prefix_is_no_longer_than_the_whole(void **state)
{
    /* Every string has the empty prefix and itself, and none longer than itself. */
    assert_true(bytes_have_prefix(BYTES("wal"), BYTES("")));
    assert_true(bytes_have_prefix(BYTES("wal"), BYTES("wal")));
    assert_true(bytes_have_prefix(bytes_make(NULL, 0), bytes_make(NULL, 0)));
    assert_false(bytes_have_prefix(BYTES("wal"), BYTES("wall")));
    assert_false(bytes_have_prefix(BYTES("wal"), BYTES("al")));
}

static void test_a_buffer_keeps_what_was_appended(void **state)
{
    /* Content survives every growth, byte by byte and in pieces larger than the capacity. */
    struct buffer buffer = {0};
    for (int i = 0; i < 1000; i++) {
        buffer_append_byte(&buffer, (uint8_t)i);
    }
    uint8_t large[5000];
    memset(large, 'x', sizeof large);
    buffer_append(&buffer, bytes_make(large, sizeof large));
    buffer_append(&buffer, bytes_make(NULL, 0));
    assert_int_equal(buffer.size_bytes, 6000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buffer.data[i], (uint8_t)i);
    }
    assert_int_equal(buffer.data[5999], 'x');
    buffer_deinit(&buffer);
    assert_null(buffer.data);
}

static void test_formatting_appends_without_its_terminator(void **state)
{
    /* The text may be far longer than the buffer was, and the NUL that C writes is not content. */
    struct buffer buffer = {0};
    buffer_append(&buffer, BYTES("a"));
    buffer_append_format(&buffer, "%d-%0300d", 7, 1);
    assert_int_equal(buffer.size_bytes, 1 + 2 + 300);
    assert_memory_equal(buffer.data, "a7-000", 6);
    assert_int_equal(buffer.data[302], '1');
    buffer_append_byte(&buffer, 'z');
    assert_int_equal(buffer.data[303], 'z');
    buffer_deinit(&buffer);
}

static void test_consuming_moves_the_rest_to_the_front(void **state)
{
    /* Consuming nothing, some, and all leaves the rest in order. */
    struct buffer buffer = {0};
    buffer_consume(&buffer, 0);
    buffer_append(&buffer, BYTES("abcdef"));
    buffer_consume(&buffer, 0);
    buffer_consume(&buffer, 2);
    assert_true(bytes_equal(buffer_bytes(&buffer), BYTES("cdef")));
    buffer_consume(&buffer, 4);
    assert_int_equal(buffer.size_bytes, 0);
    buffer_deinit(&buffer);
}

static void test_memory_goes_back_only_above_what_is_kept(void **state)
{
    /* A cleared buffer keeps its memory until a trim with a lower limit. */
    struct buffer buffer = {0};
    (void)buffer_extend(&buffer, 100000);
    size_t capacity = buffer.capacity_bytes;
    buffer_clear(&buffer);
    buffer_trim(&buffer, capacity);
    assert_int_equal(buffer.capacity_bytes, capacity);
    buffer_trim(&buffer, capacity - 1);
    assert_int_equal(buffer.capacity_bytes, 0);
    assert_null(buffer.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_bytes_are_equal_wherever_they_lie),
        cmocka_unit_test(test_order_is_that_of_unsigned_bytes),
        cmocka_unit_test(test_case_is_ignored_for_ascii_letters_only),
        cmocka_unit_test(test_a_prefix_is_no_longer_than_the_whole),
        cmocka_unit_test(test_a_buffer_keeps_what_was_appended),
        cmocka_unit_test(test_formatting_appends_without_its_terminator),
        cmocka_unit_test(test_consuming_moves_the_rest_to_the_front),
        cmocka_unit_test(test_memory_goes_back_only_above_what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
