/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv/kv_cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random/random.h"

static void test_a_cursor_is_a_position(void **state)
{
    /* Cursors are ordered as the rows are, and fit into the 53 bits of a double. */
    uint64_t cursor = kv__cursor_make(16383, UINT32_MAX);
    assert_int_equal(kv__cursor_slot(cursor), 16383);
    assert_int_equal(kv__cursor_hash(cursor), UINT32_MAX);
    assert_true(cursor < 1ull << 53);
    assert_true(kv__cursor_make(3, UINT32_MAX) < kv__cursor_make(4, 0));
    assert_true(kv__cursor_make(3, 7) < kv__cursor_make(3, 8));
    assert_int_equal(kv__cursor_make(0, 0), 0);
}

static void test_any_number_is_a_cursor(void **state)
{
    uint64_t cursor = 5;
    assert_true(kv__cursor_parse(BYTES("0"), &cursor));
    assert_int_equal(cursor, 0);
    assert_true(kv__cursor_parse(BYTES("0012"), &cursor));
    assert_int_equal(cursor, 12);
    assert_true(kv__cursor_parse(BYTES("18446744073709551615"), &cursor));
    assert_true(cursor == UINT64_MAX);
    assert_true(kv__cursor_parse(BYTES("-1"), &cursor));
    assert_true(cursor == UINT64_MAX);
    static const char *const refused[] = {
        "", "x", "1x", " 1", "1 ", "-", "--1", "18446744073709551616", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        cursor = 5;
        assert_false(kv__cursor_parse(bytes_of_text(refused[i]), &cursor));
        assert_int_equal(cursor, 5);
    }
}

static void test_a_walk_returns_everything_once(void **state)
{
    /* Also when many rows share a position, with any page size; rows that come and go meanwhile do
     * not hide those that stay. */
    enum { POSITION_COUNT = 64 };
    struct random random;
    random_init(&random, 11);
    for (int round = 0; round < 2000; round++) {
        uint32_t row_count[POSITION_COUNT]; /* At each position; the even ones stay as they are. */
        uint32_t seen_count[POSITION_COUNT] = {0};
        for (size_t i = 0; i < POSITION_COUNT; i++) {
            row_count[i] = (uint32_t)random_below(&random, 4);
        }
        uint64_t cursor = 0;
        do {
            struct kv__page page = {.row_count_min = 1 + random_below(&random, 10)};
            uint64_t next = 0;
            for (uint64_t position = cursor; position < POSITION_COUNT && next == 0; position++) {
                for (uint32_t i = 0; i < row_count[position] && next == 0; i++) {
                    if (kv__page_takes(&page, position)) {
                        seen_count[position]++;
                    } else {
                        assert_int_equal(i, 0);
                        assert_true(page.row_count >= page.row_count_min);
                        next = position;
                    }
                }
            }
            cursor = next;
            size_t changed = random_below(&random, POSITION_COUNT / 2) * 2 + 1;
            row_count[changed] = (uint32_t)random_below(&random, 4);
        } while (cursor != 0);
        for (size_t i = 0; i < POSITION_COUNT; i += 2) {
            assert_int_equal(seen_count[i], row_count[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_cursor_is_a_position),
        cmocka_unit_test(test_any_number_is_a_cursor),
        cmocka_unit_test(test_a_walk_returns_everything_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
