/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of rows (I6). That answers are the same with and without them is in the histories of
 * rows_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/memstore/memstore.h"
#include "core/rows/rows.h"

static void put_and_commit(struct rows *rows, struct bytes key, size_t size_bytes)
{
    static const uint8_t bytes[1000] = "it begins like this";
    rows_put(rows, key, bytes_make(bytes, size_bytes));
    assert_int_equal(rows_commit(rows, NULL), 0);
}

/* Where heads are kept, a written row takes the memory of its head, and neither that nor a head that is
 * asked for costs a look into the store. Its value does, once: then it is kept whole, also when it is
 * written again. */
static void test_heads(void **state)
{
    (void)state;
    struct memstore *memstore = memstore_create(1);
    struct rows *rows = rows_create(memstore_interface(memstore), 1 << 20);
    struct rows_statistics whole;
    struct rows_statistics statistics;
    struct bytes value;
    put_and_commit(rows, BYTES("a"), 1000);
    rows_get_statistics(rows, &whole);
    rows_keep_heads(rows, true);
    assert_false(rows_shorten(rows, 10));
    rows_get_statistics(rows, &statistics);
    assert_in_range(statistics.cached_size_bytes, 1, whole.cached_size_bytes - 900);
    put_and_commit(rows, BYTES("a"), 999);
    put_and_commit(rows, BYTES("b"), ROWS_WHOLE_SIZE_BYTES);
    rows_get_statistics(rows, &statistics);
    assert_in_range(statistics.cached_size_bytes, 1, whole.cached_size_bytes - 700);
    memstore_set_faults(memstore, (struct memstore_faults){.read_error_percent = 100});
    assert_int_equal(rows_get_head(rows, BYTES("a"), &value), 0);
    assert_memory_equal(value.data, "it begins like this", 20);
    assert_in_range(value.size_bytes, ROWS_HEAD_SIZE_BYTES, 999);
    assert_int_equal(rows_get(rows, BYTES("b"), &value), 0);
    assert_int_equal(rows_get_head(rows, BYTES("none"), &value), -ENOENT);
    assert_int_equal(rows_get(rows, BYTES("a"), &value), -EIO);
    memstore_set_faults(memstore, (struct memstore_faults){0});
    assert_int_equal(rows_get(rows, BYTES("a"), &value), 0);
    assert_int_equal(value.size_bytes, 999);
    put_and_commit(rows, BYTES("a"), 998);
    memstore_set_faults(memstore, (struct memstore_faults){.read_error_percent = 100});
    assert_int_equal(rows_get(rows, BYTES("a"), &value), 0);
    assert_int_equal(value.size_bytes, 998);
    rows_destroy(rows);
    memstore_destroy(memstore);
}

/* A change is not shortened before the store has it, nor is what was deleted brought back; who leads
 * again has whole values as they are read or written. */
static void test_heads_come_and_go(void **state)
{
    (void)state;
    struct memstore *memstore = memstore_create(1);
    struct rows *rows = rows_create(memstore_interface(memstore), 1 << 20);
    struct bytes value;
    put_and_commit(rows, BYTES("a"), 500);
    put_and_commit(rows, BYTES("b"), 500);
    put_and_commit(rows, BYTES("c"), 500);
    rows_put(rows, BYTES("a"), BYTES("new"));
    rows_keep_heads(rows, true);
    assert_true(rows_shorten(rows, 2));
    assert_false(rows_shorten(rows, 2));
    memstore_set_faults(memstore, (struct memstore_faults){.read_error_percent = 100});
    assert_int_equal(rows_get(rows, BYTES("a"), &value), 0);
    assert_true(bytes_equal(value, BYTES("new")));
    rows_delete_range(rows, BYTES("b"), BYTES("c"));
    assert_int_equal(rows_get(rows, BYTES("b"), &value), -ENOENT);
    assert_int_equal(rows_get_head(rows, BYTES("b"), &value), -ENOENT);
    assert_int_equal(rows_get(rows, BYTES("c"), &value), -EIO);
    memstore_set_faults(memstore, (struct memstore_faults){0});
    rows_keep_heads(rows, false);
    assert_int_equal(rows_get(rows, BYTES("c"), &value), 0);
    put_and_commit(rows, BYTES("b"), 400);
    memstore_set_faults(memstore, (struct memstore_faults){.read_error_percent = 100});
    assert_int_equal(rows_get(rows, BYTES("c"), &value), 0);
    assert_int_equal(value.size_bytes, 500);
    assert_int_equal(rows_get(rows, BYTES("b"), &value), 0);
    assert_int_equal(value.size_bytes, 400);
    rows_destroy(rows);
    memstore_destroy(memstore);
}

/* A short row of which the store has nothing any more, or another length, is damage, not an answer; a
 * fetch hides nothing of it. */
static void test_lost_values_are_damage(void **state)
{
    (void)state;
    struct memstore *memstore = memstore_create(1);
    struct env_store store = memstore_interface(memstore);
    struct rows *rows = rows_create(store, 1 << 20);
    struct bytes value;
    put_and_commit(rows, BYTES("gone"), 500);
    put_and_commit(rows, BYTES("other"), 500);
    rows_keep_heads(rows, true);
    assert_false(rows_shorten(rows, 10));
    struct env_change changes[] = {{ENV_CHANGE_DELETE, BYTES("gone"), BYTES("")},
                                   {ENV_CHANGE_PUT, BYTES("other"), BYTES("short")}};
    assert_int_equal(store.ops->write(store.context, changes, 2, NULL), 0);
    assert_int_equal(rows_get(rows, BYTES("other"), &value), ERROR_CORRUPT);
    assert_int_equal(rows_get(rows, BYTES("gone"), &value), ERROR_CORRUPT);
    struct rows_fetch *fetch = rows_fetch_begin(rows);
    assert_int_equal(rows_get(rows, BYTES("gone"), &value), ERROR_INCOMPLETE);
    assert_int_equal(rows_get_head(rows, BYTES("gone"), &value), 0);
    assert_int_equal(rows_fetch_count(fetch), 1);
    rows_fetch_divide(fetch, 1);
    rows_fetch_run(fetch, 0);
    rows_fetch_end(fetch);
    assert_int_equal(rows_get(rows, BYTES("gone"), &value), ERROR_CORRUPT);
    rows_destroy(rows);
    memstore_destroy(memstore);
}

/* A large batch leaves most of its rows whole, so that nobody waits; they become short little by little. */
static void test_a_large_batch(void **state)
{
    (void)state;
    enum { ROW_COUNT = 20000 };
    static const uint8_t value[300] = "long";
    struct memstore *memstore = memstore_create(1);
    struct rows *rows = rows_create(memstore_interface(memstore), 64 << 20);
    rows_keep_heads(rows, true);
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        rows_put(rows, bytes_make((const uint8_t *)&i, sizeof i), bytes_make(value, sizeof value));
    }
    assert_int_equal(rows_commit(rows, NULL), 0);
    struct rows_statistics written;
    struct rows_statistics statistics;
    rows_get_statistics(rows, &written);
    assert_in_range(written.cached_size_bytes, ROW_COUNT / 2 * sizeof value, UINT64_MAX);
    uint32_t step_count = 0;
    while (rows_shorten(rows, 1000)) {
        step_count++;
    }
    assert_in_range(step_count, 15, ROW_COUNT / 1000 + 1);
    rows_get_statistics(rows, &statistics);
    assert_in_range(statistics.cached_size_bytes, 1, ROW_COUNT * sizeof value / 2);
    assert_int_equal(statistics.cached_row_count, ROW_COUNT);
    rows_destroy(rows);
    memstore_destroy(memstore);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_heads_come_and_go),
        cmocka_unit_test(test_a_large_batch),
        cmocka_unit_test(test_lost_values_are_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
