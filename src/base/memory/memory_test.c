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
        cmocka_unit_test(test_resizing_keeps_the_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
