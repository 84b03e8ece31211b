/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checksum/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_the_checksum_is_crc32c(void **state)
{
    /* The vectors of RFC 3720 (iSCSI), appendix B.4, and the check value of the polynomial. */
    uint8_t bytes[32] = {0};
    assert_int_equal(checksum_crc32c(0, bytes_make(bytes, 32)), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    assert_int_equal(checksum_crc32c(0, bytes_make(bytes, 32)), 0x62a8ab43);
    for (int i = 0; i < 32; i++) {
        bytes[i] = (uint8_t)i;
    }
    assert_int_equal(checksum_crc32c(0, bytes_make(bytes, 32)), 0x46dd794e);
    for (int i = 0; i < 32; i++) {
        bytes[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(checksum_crc32c(0, bytes_make(bytes, 32)), 0x113fdb5c);
    assert_int_equal(checksum_crc32c(0, BYTES("123456789")), 0xe3069283);
}

static void test_pieces_give_the_checksum_of_the_whole(void **state)
{
    /* However the bytes are cut, and wherever they are aligned. */
    uint8_t bytes[1000];
    for (int i = 0; i < 1000; i++) {
        bytes[i] = (uint8_t)(i * 7);
    }
    uint32_t whole = checksum_crc32c(0, bytes_make(bytes, 1000));
    for (size_t cut = 0; cut <= 1000; cut += 13) {
        uint32_t first = checksum_crc32c(0, bytes_make(bytes, cut));
        assert_int_equal(checksum_crc32c(first, bytes_make(bytes + cut, 1000 - cut)), whole);
    }
}

static void test_no_bytes_change_nothing(void **state)
{
    /* The checksum of nothing is what it continues from. */
    assert_int_equal(checksum_crc32c(0, bytes_make(NULL, 0)), 0);
    assert_int_equal(checksum_crc32c(0x12345678, BYTES("")), 0x12345678);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_checksum_is_crc32c),
        cmocka_unit_test(test_pieces_give_the_checksum_of_the_whole),
        cmocka_unit_test(test_no_bytes_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
