/* SPDX-License-Identifier: Apache-2.0 */
/* Write buffers that are large enough to be divided. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes/bytes.h"
#include "base/random/random.h"
#include "driver/store/store.h"

enum {
    PATH_SIZE = 256,
    /* Three buffers of 32 MiB, and so parts of eight. */
    BUDGET_SIZE_BYTES = 96 << 20,
    ROW_SIZE_BYTES = 100000,
    ROWS_PER_BATCH = 90, /* More than a part. */
    BATCH_COUNT_MAX = 16,
    WAITS_MAX = 6000,
    WAIT_US = 10000,
};

/* RocksDB is linked statically, so these stand in for the C library's. */
static _Atomic bool are_flushes_held;

static int flush_file(long call, int file)
{
    while (are_flushes_held) {
        (void)usleep(WAIT_US);
    }
    return (int)syscall(call, file);
}

int fsync(int file)
{
    return flush_file(SYS_fsync, file);
}

int fdatasync(int file)
{
    return flush_file(SYS_fdatasync, file);
}

struct place {
    char root[PATH_SIZE / 2];
    char directory[PATH_SIZE];
    struct store *store;
    struct env_store interface;
};

static void place_make(struct place *place)
{
    *place = (struct place){0};
    (void)snprintf(place->root, sizeof place->root, "/tmp/tutti-store-XXXXXX");
    assert_non_null(mkdtemp(place->root));
    (void)snprintf(place->directory, sizeof place->directory, "%s/store", place->root);
    struct error error = {0};
    struct store_options options = {
        .directory = place->directory,
        .cache_size_bytes = 2 * BUDGET_SIZE_BYTES,
        .write_buffer_size_bytes = BUDGET_SIZE_BYTES,
    };
    if (store_open(&place->store, &options, &error) != 0) {
        fail_msg("%s", error.message);
    }
    place->interface = store_interface(place->store);
}

static void place_remove(struct place *place)
{
    char command[2 * PATH_SIZE];
    store_close(place->store);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", place->root);
    assert_int_equal(system(command), 0);
}

/* What does not compress: row `row` of all batches. */
static struct bytes noise_of(uint64_t row)
{
    static uint64_t noise[ROW_SIZE_BYTES / 8 + ROWS_PER_BATCH];
    struct random random;
    if (noise[0] == 0) {
        random_init(&random, 1);
        for (size_t i = 0; i < sizeof noise / sizeof noise[0]; i++) {
            noise[i] = random_next(&random);
        }
    }
    return bytes_make(noise + row % ROWS_PER_BATCH, ROW_SIZE_BYTES);
}

/* Batches lie between each other's rows, as those of one shard do. */
static uint64_t key_of(uint32_t batch, uint64_t row)
{
    return __builtin_bswap64(row << 32 | batch);
}

static int write_batch(struct place *place, uint32_t batch)
{
    uint64_t keys[ROWS_PER_BATCH];
    struct env_change changes[ROWS_PER_BATCH];
    for (uint64_t row = 0; row < ROWS_PER_BATCH; row++) {
        keys[row] = key_of(batch, row);
        changes[row] = (struct env_change){ENV_CHANGE_PUT, bytes_make(&keys[row], sizeof keys[row]),
                                           noise_of(row + batch)};
    }
    return place->interface.ops->write(place->interface.context, changes, ROWS_PER_BATCH, NULL);
}

static void assert_has_batches(struct place *place, uint32_t count)
{
    struct buffer value = {0};
    for (uint32_t batch = 0; batch < count; batch++) {
        for (uint64_t row = 0; row < ROWS_PER_BATCH; row++) {
            uint64_t key = key_of(batch, row);
            buffer_clear(&value);
            assert_int_equal(place->interface.ops->get(place->interface.context, NULL,
                                                       ENV_TIER_DISK, bytes_make(&key, sizeof key),
                                                       &value),
                             0);
            assert_true(bytes_equal(buffer_bytes(&value), noise_of(row + batch)));
        }
    }
    buffer_deinit(&value);
}

/* Once no flush is under way. */
static uint64_t count_tables(struct place *place, uint64_t expected)
{
    struct store_statistics statistics = {0};
    for (int i = 0; i < WAITS_MAX; i++) {
        store_get_statistics(place->store, &statistics);
        if (statistics.table_count >= expected && statistics.running_flush_count == 0) {
            break;
        }
        (void)usleep(WAIT_US);
    }
    return statistics.table_count;
}

/* ---- Tests ----------------------------------------------------------------------------------- */

/* A batch fills a part, and three parts become one table, which is as large as a whole buffer would
 * have made it. */
static void test_three_parts_are_one_table(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    for (uint32_t batch = 0; batch < 3; batch++) {
        assert_int_equal(write_batch(&place, batch), 0);
    }
    (void)usleep(20 * WAIT_US);
    assert_int_equal(count_tables(&place, 0), 0);
    assert_int_equal(write_batch(&place, 3), 0); /* The third part is known to be full. */
    assert_int_equal(count_tables(&place, 1), 1);
    struct store_statistics statistics;
    store_get_statistics(place.store, &statistics);
    assert_in_range(statistics.table_size_bytes, 3 * ROWS_PER_BATCH * ROW_SIZE_BYTES,
                    3 * ROWS_PER_BATCH * ROW_SIZE_BYTES + (1 << 20));
    assert_has_batches(&place, 4);
    /* Who asks for a flush does not wait for three. */
    assert_int_equal(store_flush(place.store, NULL), 0);
    assert_int_equal(count_tables(&place, 2), 2);
    assert_has_batches(&place, 4);
    place_remove(&place);
}

/* While the disk does not flush, all parts together take no more than the budget; then writes are
 * refused, and what was accepted is there. */
static void test_parts_keep_to_the_budget(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    are_flushes_held = true;
    uint32_t count = 0;
    while (count < BATCH_COUNT_MAX && write_batch(&place, count) == 0) {
        count++;
    }
    assert_in_range(count, 6, BATCH_COUNT_MAX - 1);
    struct store_statistics statistics;
    store_get_statistics(place.store, &statistics);
    assert_in_range(statistics.write_buffer_size_bytes, (uint64_t)count * 8 << 20,
                    BUDGET_SIZE_BYTES);
    assert_int_equal(store_get_health(place.store, NULL), STORE_WELL);
    assert_has_batches(&place, count);
    are_flushes_held = false;
    int status = write_batch(&place, count);
    for (int i = 0; i < WAITS_MAX && status == -EBUSY; i++) {
        (void)usleep(WAIT_US);
        status = write_batch(&place, count);
    }
    assert_int_equal(status, 0);
    assert_has_batches(&place, count + 1);
    place_remove(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_parts_are_one_table),
        cmocka_unit_test(test_parts_keep_to_the_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
