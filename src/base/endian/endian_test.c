/* SPDX-License-Identifier: Apache-2.0 */
#include "base/endian/endian.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_bytes_lie_in_the_order_that_the_name_says(void **state)
{
    /* Formats on disk depend on exactly these bytes. */
    uint8_t bytes[8];
    endian_put_u16_le(bytes, 0x0102);
    assert_memory_equal(bytes, "\x02\x01", 2);
    endian_put_u32_le(bytes, 0x01020304);
    assert_memory_equal(bytes, "\x04\x03\x02\x01", 4);
    endian_put_u64_le(bytes, 0x0102030405060708);
    assert_memory_equal(bytes, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    endian_put_u16_be(bytes, 0x0102);
    assert_memory_equal(bytes, "\x01\x02", 2);
    endian_put_u32_be(bytes, 0x01020304);
    assert_memory_equal(bytes, "\x01\x02\x03\x04", 4);
    endian_put_u64_be(bytes, 0x0102030405060708);
    assert_memory_equal(bytes, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
}

static void test_what_was_put_is_got_at_any_alignment(void **state)
{
    /* Records pack integers without padding. */
    uint8_t bytes[16];
    for (size_t offset = 0; offset < 8; offset++) {
        endian_put_u16_le(bytes + offset, 0xfedc);
        assert_int_equal(endian_get_u16_le(bytes + offset), 0xfedc);
        endian_put_u16_be(bytes + offset, 0xfedc);
        assert_int_equal(endian_get_u16_be(bytes + offset), 0xfedc);
        endian_put_u32_le(bytes + offset, 0xfedcba98);
        assert_int_equal(endian_get_u32_le(bytes + offset), 0xfedcba98);
        endian_put_u32_be(bytes + offset, 0xfedcba98);
        assert_int_equal(endian_get_u32_be(bytes + offset), 0xfedcba98);
        endian_put_u64_le(bytes + offset, 0xfedcba9876543210);
        assert_true(endian_get_u64_le(bytes + offset) == 0xfedcba9876543210);
        endian_put_u64_be(bytes + offset, 0xfedcba9876543210);
        assert_true(endian_get_u64_be(bytes + offset) == 0xfedcba9876543210);
    }
}

static void test_big_endian_numbers_sort_as_bytes(void **state)
{
    /* What makes an ordered keyspace of numbers. */
    static const uint64_t ascending[] = {0, 1, 255, 256, 65536, UINT32_MAX, 1ull << 63, UINT64_MAX};
    for (size_t i = 1; i < sizeof ascending / sizeof ascending[0]; i++) {
        uint8_t smaller[8];
        uint8_t larger[8];
        endian_put_u64_be(smaller, ascending[i - 1]);
        endian_put_u64_be(larger, ascending[i]);
        assert_true(memcmp(smaller, larger, 8) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_lie_in_the_order_that_the_name_says),
        cmocka_unit_test(test_what_was_put_is_got_at_any_alignment),
        cmocka_unit_test(test_big_endian_numbers_sort_as_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
