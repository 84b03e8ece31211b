/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_the_hash_is_xxh3(void **state)
{
    /* Stored hashes must mean the same in every build: reference values of XXH3_64bits. */
    assert_true(hash_bytes(bytes_make(NULL, 0), 0) == 0x2d06800538d394c2u);
    assert_true(hash_bytes(BYTES(""), 0) == 0x2d06800538d394c2u);
    assert_true(hash_bytes(BYTES("a"), 0) == 0xe6c632b61e964e1fu);
    assert_true(hash_bytes(BYTES("abc"), 0) == 0x78af5f94892f3950u);
}

static void test_a_seed_gives_another_hash(void **state)
{
    /* At every length class that XXH3 treats on its own. */
    uint8_t bytes[1000] = {0};
    static const size_t sizes[] = {0, 1, 3, 8, 16, 17, 128, 129, 240, 241, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t plain = hash_bytes(bytes_make(bytes, sizes[i]), 0);
        assert_true(plain != hash_bytes(bytes_make(bytes, sizes[i]), 1));
        assert_true(plain == hash_bytes(bytes_make(bytes, sizes[i]), 0));
    }
}

static void test_crc16_is_that_of_redis_cluster(void **state)
{
    /* The check value of the specification's appendix A, and slots that every client knows. */
    assert_int_equal(hash_crc16(BYTES("123456789")), 0x31c3);
    assert_int_equal(hash_crc16(BYTES("foo")) % 16384, 12182);
    assert_int_equal(hash_crc16(BYTES("bar")) % 16384, 5061);
    assert_int_equal(hash_crc16(bytes_make(NULL, 0)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_hash_is_xxh3),
        cmocka_unit_test(test_a_seed_gives_another_hash),
        cmocka_unit_test(test_crc16_is_that_of_redis_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
