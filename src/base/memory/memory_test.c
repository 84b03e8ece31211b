/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_zeroed_memory_is_zero(void **state)
{
    /* Also when the allocator hands out what somebody used before. */
    for (int round = 0; round < 10; round++) {
        uint8_t *memory = memory_allocate_zeroed(100, 10);
        for (int i = 0; i < 1000; i++) {
            assert_int_equal(memory[i], 0);
        }
        memset(memory, 0xff, 1000);
        memory_free(memory);
    }
}

/* Large blocks get other pages, and are memory like any other: zero, whole, and nobody else's. */
static void test_large_memory(void **state)
{
    static const size_t sizes[] = {(8 << 20) - 1, 8 << 20, (8 << 20) + 1, (16 << 20) + 4095};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *zeroed = memory_allocate_zeroed(sizes[i], 1);
        uint8_t *other = memory_allocate(sizes[i]);
        memset(other, 0xff, sizes[i]);
        for (size_t at = 0; at < sizes[i]; at++) {
            if (zeroed[at] != 0) {
                fail_msg("byte %zu of %zu", at, sizes[i]);
            }
        }
        memory_free(zeroed);
        memory_free(other);
    }
}

static void test_resizing_keeps_the_content(void **state)
{
    /* From nothing, larger, smaller. */
    char *memory = memory_resize(NULL, 4);
    memcpy(memory, "abc", 4);
    memory = memory_resize(memory, 100000);
    assert_string_equal(memory, "abc");
    memory = memory_resize(memory, 4);
    assert_string_equal(memory, "abc");
    memory_free(memory);
    memory_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroed_memory_is_zero),
        cmocka_unit_test(test_large_memory),
        cmocka_unit_test(test_resizing_keeps_the_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
