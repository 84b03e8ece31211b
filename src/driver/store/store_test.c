/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/store/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random/random.h"

#define PATH_SIZE 128

/* ---- Flushes that fail ----------------------------------------------------------------------- */

/* RocksDB is linked statically, so these stand in for the C library's. */
static _Atomic int flush_error_number;

static int flush_file(long call, int file)
{
    if (flush_error_number != 0) {
        errno = flush_error_number;
        return -1;
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

/* ---- A directory, a store, its interface ----------------------------------------------------- */

struct place {
    char root[PATH_SIZE / 2];
    char directory[PATH_SIZE];
    uint32_t open_file_count_max;
    bool is_compaction_deferred;
    struct store *store;
    struct env_store interface;
};

static void place_open(struct place *place)
{
    struct error error = {0};
    struct store_options options = {
        .directory = place->directory,
        .cache_size_bytes = 16 << 20,
        .write_buffer_size_bytes = STORE_WRITE_BUFFER_SIZE_MIN,
        .open_file_count_max = place->open_file_count_max,
        .is_compaction_deferred = place->is_compaction_deferred,
    };
    int status = store_open(&place->store, &options, &error);
    if (status != 0) {
        fail_msg("%s", error.message);
    }
    place->interface = store_interface(place->store);
}

static void place_make(struct place *place)
{
    *place = (struct place){0};
    (void)snprintf(place->root, sizeof place->root, "/tmp/tutti-store-XXXXXX");
    assert_non_null(mkdtemp(place->root));
    (void)snprintf(place->directory, sizeof place->directory, "%s/store", place->root);
}

static void remove_tree(const char *path)
{
    char command[2 * PATH_SIZE];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

static void place_remove(struct place *place)
{
    store_close(place->store);
    remove_tree(place->root);
}

static int put(struct place *place, struct bytes key, struct bytes value)
{
    struct env_change change = {ENV_CHANGE_PUT, key, value};
    return place->interface.ops->write(place->interface.context, &change, 1, NULL);
}

static int get_at(struct place *place, enum env_tier tier, struct bytes key, struct buffer *value)
{
    buffer_clear(value);
    return place->interface.ops->get(place->interface.context, NULL, tier, key, value);
}

static bool has(struct place *place, struct bytes key, struct bytes expected)
{
    struct buffer value = {0};
    bool is_there = get_at(place, ENV_TIER_DISK, key, &value) == 0 &&
                    bytes_equal(buffer_bytes(&value), expected);
    buffer_deinit(&value);
    return is_there;
}

/* A row of `size_bytes` that does not compress. */
static int put_noise(struct place *place, uint64_t number, size_t size_bytes)
{
    static uint64_t noise[1 << 15];
    assert_true(size_bytes <= sizeof noise);
    struct random random;
    random_init(&random, number);
    for (size_t i = 0; i < size_bytes / 8; i++) {
        noise[i] = random_next(&random);
    }
    uint64_t key = __builtin_bswap64(number);
    return put(place, bytes_make(&key, sizeof key), bytes_make(noise, size_bytes));
}

/* ---- Tests ----------------------------------------------------------------------------------- */

/* Changes of a batch take effect in their order, and iterators keep to their bounds. */
static void test_batches_and_iterators(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    place_open(&place);
    const struct env_store *store = &place.interface;
    const struct env_change changes[] = {
        {ENV_CHANGE_PUT, BYTES("b"), BYTES("1")},
        {ENV_CHANGE_PUT, BYTES("c"), BYTES("1")},
        {ENV_CHANGE_PUT, BYTES("d"), BYTES("1")},
        {ENV_CHANGE_DELETE_RANGE, BYTES("b"), BYTES("d")},
        {ENV_CHANGE_PUT, BYTES("c"), BYTES("2")},
        {ENV_CHANGE_PUT, BYTES("a"), BYTES("1")},
        {ENV_CHANGE_DELETE, BYTES("a"), BYTES("")},
        {ENV_CHANGE_PUT, BYTES("e"), BYTES("")},
    };
    assert_int_equal(store->ops->write(store->context, changes, 8, NULL), 0);
    struct env_iterator *iterator;
    assert_int_equal(store->ops->iterator_open(store->context, NULL, ENV_TIER_DISK, BYTES("b"),
                                               BYTES("e"), &iterator),
                     0);
    assert_int_equal(store->ops->iterator_seek(store->context, iterator, BYTES("")), 0);
    assert_true(bytes_equal(store->ops->iterator_key(store->context, iterator), BYTES("c")));
    assert_true(bytes_equal(store->ops->iterator_value(store->context, iterator), BYTES("2")));
    assert_int_equal(store->ops->iterator_next(store->context, iterator), 0);
    assert_true(bytes_equal(store->ops->iterator_key(store->context, iterator), BYTES("d")));
    assert_int_equal(store->ops->iterator_next(store->context, iterator), -ENOENT);
    store->ops->iterator_close(store->context, iterator);
    assert_true(has(&place, BYTES("e"), BYTES("")));
    place_remove(&place);
}

/* Rows and ranges in turn, in any order of keys, in many batches: what is left is what a plain array
 * has. (RocksDB remembers where it inserted last, and must not take a range's place for a row's.) */
static void test_rows_and_ranges(void **state)
{
    (void)state;
    enum { KEY_COUNT = 200, BATCH_COUNT = 300, CHANGE_COUNT_MAX = 40 };
    struct place place;
    place_make(&place);
    place_open(&place);
    uint32_t values[KEY_COUNT] = {0}; /* 0: there is none. */
    struct random random;
    random_init(&random, 7);
    for (uint32_t batch = 1; batch <= BATCH_COUNT; batch++) {
        uint8_t keys[2 * CHANGE_COUNT_MAX];
        struct env_change changes[CHANGE_COUNT_MAX];
        uint32_t count = 1 + (uint32_t)random_below(&random, CHANGE_COUNT_MAX);
        bool may_delete = random_below(&random, 2) == 0;
        for (uint32_t i = 0; i < count; i++) {
            uint8_t *key = &keys[2 * i];
            key[0] = (uint8_t)random_below(&random, KEY_COUNT);
            key[1] = (uint8_t)(key[0] + random_below(&random, KEY_COUNT - key[0]));
            if (may_delete && random_below(&random, 4) == 0) {
                changes[i] = (struct env_change){ENV_CHANGE_DELETE_RANGE, bytes_make(key, 1),
                                                 bytes_make(key + 1, 1)};
                memset(values + key[0], 0, (size_t)(key[1] - key[0]) * sizeof values[0]);
            } else {
                changes[i] = (struct env_change){ENV_CHANGE_PUT, bytes_make(key, 1),
                                                 bytes_make(&batch, sizeof batch)};
                values[key[0]] = batch;
            }
        }
        const struct env_store *store = &place.interface;
        assert_int_equal(store->ops->write(store->context, changes, count, NULL), 0);
    }
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        uint8_t key = (uint8_t)i;
        struct bytes value = bytes_make(&values[i], values[i] == 0 ? 0 : sizeof values[i]);
        struct buffer found = {0};
        int status = place.interface.ops->get(place.interface.context, NULL, ENV_TIER_DISK,
                                              bytes_make(&key, 1), &found);
        assert_int_equal(status, values[i] == 0 ? -ENOENT : 0);
        assert_true(bytes_equal(buffer_bytes(&found), value));
        buffer_deinit(&found);
    }
    place_remove(&place);
}

static bool all_got[300];

static void got(void *context, uint32_t position, int status, struct bytes value)
{
    uint32_t number = position / 3 * 3;
    assert_false(all_got[position]);
    all_got[position] = true;
    assert_int_equal(status, position % 3 == 0 ? 0 : -ENOENT);
    assert_true(status != 0 || bytes_equal(value, bytes_make(&number, sizeof number)));
    assert_ptr_equal(context, all_got);
}

/* Many rows are read at once, those that are not there among them, from tables and from memory; the
 * answers are those of get(). */
static void test_get_many(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    place_open(&place);
    char names[300][8];
    struct bytes keys[300];
    for (uint32_t i = 0; i < 300; i++) {
        (void)snprintf(names[i], sizeof names[i], "%05u", i);
        keys[i] = bytes_of_text(names[i]);
        if (i % 3 == 0) {
            assert_int_equal(put(&place, keys[i], bytes_make(&i, sizeof i)), 0);
        }
        if (i == 100) {
            assert_int_equal(store_flush(place.store, NULL), 0);
        }
    }
    place.interface.ops->get_many(place.interface.context, keys, 300, got, all_got);
    for (uint32_t i = 0; i < 300; i++) {
        assert_true(all_got[i]);
    }
    place_remove(&place);
}

/* Where compaction is deferred, flushed buffers gather; once it may begin, they are merged. */
static void test_deferred_compaction(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    place.is_compaction_deferred = true;
    place_open(&place);
    for (uint32_t i = 0; i < 24; i++) { /* Their ranges overlap, so none can just be moved. */
        assert_int_equal(put(&place, BYTES("a"), bytes_make(&i, sizeof i)), 0);
        assert_int_equal(put(&place, BYTES("z"), bytes_make(&i, sizeof i)), 0);
        assert_int_equal(store_flush(place.store, NULL), 0);
    }
    struct store_statistics statistics;
    store_get_statistics(place.store, &statistics);
    assert_int_equal(statistics.table_count, 24);
    store_begin_compaction(place.store);
    store_begin_compaction(place.store);
    for (int i = 0; i < 1000 && statistics.table_count > 16; i++) {
        (void)usleep(10000);
        store_get_statistics(place.store, &statistics);
    }
    assert_in_range(statistics.table_count, 1, 16);
    place_remove(&place);
}

/* A snapshot sees what was there when it was made, on any thread. */
static void test_snapshots(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    place_open(&place);
    const struct env_store *store = &place.interface;
    assert_int_equal(put(&place, BYTES("key"), BYTES("old")), 0);
    struct env_store_snapshot *snapshot = store->ops->snapshot_create(store->context);
    assert_int_equal(put(&place, BYTES("key"), BYTES("new")), 0);
    struct buffer value = {0};
    assert_int_equal(store->ops->get(store->context, snapshot, ENV_TIER_DISK, BYTES("key"), &value),
                     0);
    assert_true(bytes_equal(buffer_bytes(&value), BYTES("old")));
    assert_true(has(&place, BYTES("key"), BYTES("new")));
    store->ops->snapshot_release(store->context, snapshot);
    buffer_deinit(&value);
    place_remove(&place);
}

/* What was flushed is there when the store is opened again; what was not is not, even after an
 * orderly close: only a flush makes durable. */
static void test_durable_means_flushed(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    place_open(&place);
    assert_int_equal(put(&place, BYTES("flushed"), BYTES("1")), 0);
    assert_int_equal(store_flush(place.store, NULL), 0);
    assert_int_equal(put(&place, BYTES("written"), BYTES("1")), 0);
    store_close(place.store);
    place_open(&place);
    assert_true(has(&place, BYTES("flushed"), BYTES("1")));
    assert_false(has(&place, BYTES("written"), BYTES("1")));
    place_remove(&place);
}

/* The memory tier never reads the disk: a block that is not cached is ERROR_INCOMPLETE. */
static void test_memory_tier(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    place_open(&place);
    struct buffer value = {0};
    assert_int_equal(put(&place, BYTES("key"), BYTES("value")), 0);
    assert_int_equal(get_at(&place, ENV_TIER_MEMORY, BYTES("key"), &value), 0);
    assert_int_equal(store_flush(place.store, NULL), 0);
    store_close(place.store);
    place_open(&place);
    assert_int_equal(get_at(&place, ENV_TIER_MEMORY, BYTES("key"), &value), ERROR_INCOMPLETE);
    assert_int_equal(get_at(&place, ENV_TIER_DISK, BYTES("key"), &value), 0);
    assert_int_equal(get_at(&place, ENV_TIER_MEMORY, BYTES("key"), &value), 0);
    buffer_deinit(&value);
    place_remove(&place);
}

/* A table file that is not open is not known: in memory there is then no answer, never an empty row, a
 * deleted row, or none. (After a start only the first few files are open.) */
static void test_closed_tables(void **state)
{
    (void)state;
    enum { TABLE_COUNT = 6, ROW_SIZE_BYTES = 96 }; /* Fewer than are merged. */
    struct place place;
    place_make(&place);
    place.open_file_count_max = 20;
    place_open(&place);
    assert_int_equal(put(&place, BYTES("deleted"), BYTES("old")), 0);
    for (uint64_t i = 0; i < TABLE_COUNT; i++) {
        assert_int_equal(put_noise(&place, i, ROW_SIZE_BYTES), 0);
        if (i == TABLE_COUNT / 2) {
            struct env_change change = {ENV_CHANGE_DELETE, BYTES("deleted"), BYTES("")};
            assert_int_equal(place.interface.ops->write(place.interface.context, &change, 1, NULL),
                             0);
        }
        assert_int_equal(store_flush(place.store, NULL), 0);
    }
    store_close(place.store);
    place_open(&place);
    struct store_statistics statistics;
    store_get_statistics(place.store, &statistics);
    assert_int_equal(statistics.table_count, TABLE_COUNT);
    uint32_t unknown_count = 0;
    struct buffer value = {0};
    for (uint64_t i = 0; i < TABLE_COUNT; i++) {
        uint64_t key = __builtin_bswap64(i);
        int status = get_at(&place, ENV_TIER_MEMORY, bytes_make(&key, sizeof key), &value);
        assert_true(status == ERROR_INCOMPLETE ||
                    (status == 0 && value.size_bytes == ROW_SIZE_BYTES));
        unknown_count += status == ERROR_INCOMPLETE;
    }
    assert_true(unknown_count > 0);
    int status = get_at(&place, ENV_TIER_MEMORY, BYTES("deleted"), &value);
    assert_true(status == ERROR_INCOMPLETE || status == -ENOENT);
    for (uint64_t i = 0; i < TABLE_COUNT; i++) {
        uint64_t key = __builtin_bswap64(i);
        assert_int_equal(get_at(&place, ENV_TIER_DISK, bytes_make(&key, sizeof key), &value), 0);
        assert_int_equal(value.size_bytes, ROW_SIZE_BYTES);
    }
    assert_int_equal(get_at(&place, ENV_TIER_DISK, BYTES("deleted"), &value), -ENOENT);
    buffer_deinit(&value);
    place_remove(&place);
}

/* Faster than the disk: writes are refused, not delayed, nothing refused is there, everything else
 * is, and the write buffers stay within their bound. */
static void test_refuses_instead_of_stalling(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    place_open(&place);
    uint64_t refused_count = 0;
    uint64_t write_buffer_size_bytes_seen = 0;
    struct store_statistics statistics;
    for (uint64_t i = 0; i < 1000; i++) {
        int status = put_noise(&place, i, 100000);
        while (status == -EBUSY) {
            refused_count++;
            (void)usleep(1000);
            status = put_noise(&place, i, 100000);
        }
        assert_int_equal(status, 0);
        store_get_statistics(place.store, &statistics);
        if (statistics.write_buffer_size_bytes > write_buffer_size_bytes_seen) {
            write_buffer_size_bytes_seen = statistics.write_buffer_size_bytes;
        }
    }
    assert_int_equal(statistics.refused_write_count, refused_count);
    assert_int_equal(statistics.written_batch_count, 1000);
    assert_in_range(write_buffer_size_bytes_seen, 0, STORE_WRITE_BUFFER_SIZE_MIN + (1 << 20));
    struct buffer value = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t key = __builtin_bswap64(i);
        assert_int_equal(get_at(&place, ENV_TIER_DISK, bytes_make(&key, 8), &value), 0);
    }
    buffer_deinit(&value);
    place_remove(&place);
}

struct reader {
    struct place *place;
    uint64_t wrong_count;
    bool is_done;
};

static void *read_pairs(void *argument)
{
    struct reader *reader = argument;
    const struct env_store *store = &reader->place->interface;
    struct buffer left = {0};
    struct buffer right = {0};
    while (!__atomic_load_n(&reader->is_done, __ATOMIC_ACQUIRE)) {
        struct env_store_snapshot *snapshot = store->ops->snapshot_create(store->context);
        buffer_clear(&left);
        buffer_clear(&right);
        int first = store->ops->get(store->context, snapshot, ENV_TIER_DISK, BYTES("left"), &left);
        int second =
            store->ops->get(store->context, snapshot, ENV_TIER_DISK, BYTES("right"), &right);
        reader->wrong_count +=
            first != second || !bytes_equal(buffer_bytes(&left), buffer_bytes(&right));
        store->ops->snapshot_release(store->context, snapshot);
    }
    buffer_deinit(&left);
    buffer_deinit(&right);
    return NULL;
}

/* Threads that read while one writes and another flushes see batches whole. */
static void test_readers_see_whole_batches(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    place_open(&place);
    struct reader readers[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        readers[i] = (struct reader){.place = &place};
        assert_int_equal(pthread_create(&threads[i], NULL, read_pairs, &readers[i]), 0);
    }
    for (uint32_t i = 0; i < 3000; i++) {
        struct bytes value = bytes_make(&i, sizeof i);
        const struct env_change changes[] = {{ENV_CHANGE_PUT, BYTES("left"), value},
                                             {ENV_CHANGE_PUT, BYTES("right"), value}};
        int status = place.interface.ops->write(place.interface.context, changes, 2, NULL);
        assert_true(status == 0 || status == -EBUSY);
        if (i % 500 == 0) {
            assert_int_equal(store_flush(place.store, NULL), 0);
        }
    }
    for (int i = 0; i < 3; i++) {
        __atomic_store_n(&readers[i].is_done, true, __ATOMIC_RELEASE);
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(readers[i].wrong_count, 0);
    }
    place_remove(&place);
}

/* Ways in which opening fails, each with a reason that a person understands. */
static void test_opening_fails_readably(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    struct store *store;
    struct error error = {0};
    struct store_options options = {
        .directory = place.directory, .cache_size_bytes = 8 << 20, .write_buffer_size_bytes = 1};
    assert_int_equal(store_open(&store, &options, &error), -EINVAL);
    options.write_buffer_size_bytes = STORE_WRITE_BUFFER_SIZE_MIN;
    options.directory = "/proc/no/such/place";
    assert_int_equal(store_open(&store, &options, &error), -ENOENT);
    options.directory = "/dev/null";
    assert_int_equal(store_open(&store, &options, &error), -ENOTDIR);
    place_open(&place);
    options.directory = place.directory;
    assert_int_equal(store_open(&store, &options, &error), -EBUSY);
    place_remove(&place);
}

/* The first table file of the store, damaged in its middle. */
static void damage_table(const struct place *place)
{
    DIR *directory = opendir(place->directory);
    assert_non_null(directory);
    char path[2 * PATH_SIZE] = "";
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (strstr(entry->d_name, ".sst") != NULL) {
            (void)snprintf(path, sizeof path, "%s/%.64s", place->directory, entry->d_name);
        }
    }
    (void)closedir(directory);
    int file = open(path, O_RDWR | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, "damage", 6, 100), 6);
    assert_int_equal(close(file), 0);
}

/* Verification finds damage, and names it as such; so does a read of the damaged row. */
static void test_verify(void **state)
{
    (void)state;
    struct place place;
    struct error error = {0};
    place_make(&place);
    place_open(&place);
    assert_int_equal(put_noise(&place, 1, 3000), 0);
    assert_int_equal(store_flush(place.store, NULL), 0);
    store_close(place.store);
    assert_int_equal(store_verify(place.directory, &error), 0);
    damage_table(&place);
    assert_int_equal(store_verify(place.directory, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, ".sst"));
    place_open(&place);
    uint64_t key = __builtin_bswap64(1);
    struct buffer value = {0};
    assert_int_equal(get_at(&place, ENV_TIER_DISK, bytes_make(&key, 8), &value), ERROR_CORRUPT);
    buffer_deinit(&value);
    place_remove(&place);
}

/* A failed flush is final: it is reported, every later write and flush fails, even though the disk
 * works again; and what was flushed before is there after a restart. */
static void test_failed_flush_is_final(void **state)
{
    (void)state;
    struct place place;
    struct error error = {0};
    place_make(&place);
    place_open(&place);
    assert_int_equal(put(&place, BYTES("before"), BYTES("1")), 0);
    assert_int_equal(store_flush(place.store, NULL), 0);
    assert_int_equal(put(&place, BYTES("after"), BYTES("1")), 0);
    assert_int_equal(store_get_health(place.store, &error), STORE_WELL);
    flush_error_number = EIO;
    assert_int_equal(store_flush(place.store, &error), -EIO);
    flush_error_number = 0;
    assert_int_equal(store_get_health(place.store, &error), STORE_FAILED);
    assert_int_equal(error.code, -EIO);
    assert_int_equal(store_flush(place.store, NULL), -EIO);
    assert_int_equal(put(&place, BYTES("later"), BYTES("1")), -EIO);
    assert_true(has(&place, BYTES("before"), BYTES("1")));
    store_close(place.store);
    place_open(&place);
    assert_true(has(&place, BYTES("before"), BYTES("1")));
    assert_false(has(&place, BYTES("later"), BYTES("1")));
    place_remove(&place);
}

/* Write rows until the store is full; the number of rows that were accepted. */
static uint64_t fill(struct place *place)
{
    uint64_t count = 0;
    while (store_get_health(place->store, NULL) == STORE_WELL) {
        int status = put_noise(place, count, 50000);
        if (status == 0) {
            count++;
        } else {
            assert_int_equal(status, -EBUSY);
            (void)usleep(1000);
        }
        assert_in_range(count, 0, 10000);
    }
    return count;
}

static void assert_has_noise(struct place *place, uint64_t count)
{
    struct buffer value = {0};
    for (uint64_t i = 0; i < count; i++) {
        uint64_t key = __builtin_bswap64(i);
        assert_int_equal(get_at(place, ENV_TIER_DISK, bytes_make(&key, 8), &value), 0);
        assert_int_equal(value.size_bytes, 50000);
    }
    buffer_deinit(&value);
}

/* A compaction that finds no room stops nothing: the store is well, takes writes and flushes them. */
static void test_compaction_without_room(void **state)
{
    (void)state;
    struct place place;
    place_make(&place);
    place_open(&place);
    for (uint64_t i = 0; i < 3; i++) { /* Tables that overlap, so that merging them writes. */
        assert_int_equal(put_noise(&place, 0, 50000), 0);
        assert_int_equal(put_noise(&place, 1, 50000), 0);
        assert_int_equal(store_flush(place.store, NULL), 0);
    }
    flush_error_number = ENOSPC;
    struct error error = {0};
    assert_int_equal(store_compact_range(place.store, BYTES(""), BYTES(""), &error), -ENOSPC);
    flush_error_number = 0;
    assert_int_equal(store_get_health(place.store, NULL), STORE_WELL);
    assert_int_equal(put_noise(&place, 2, 50000), 0);
    assert_int_equal(store_flush(place.store, NULL), 0);
    assert_int_equal(store_compact_range(place.store, BYTES(""), BYTES(""), &error), 0);
    store_close(place.store);
    place_open(&place);
    assert_has_noise(&place, 3);
    place_remove(&place);
}

/* A file system of its own, or skip the test. */
static void place_make_small(struct place *place, const char *size)
{
    place_make(place);
    if (mount("tmpfs", place->root, "tmpfs", 0, size) != 0) {
        print_message("SKIPPED: a small disk needs the right to mount a tmpfs (%s)\n",
                      error_text(-errno));
        assert_int_equal(rmdir(place->root), 0);
        skip();
    }
}

static void place_remove_small(struct place *place)
{
    store_close(place->store);
    assert_int_equal(umount(place->root), 0);
    assert_int_equal(rmdir(place->root), 0);
}

static uint64_t free_size_bytes(const struct place *place)
{
    struct statvfs space;
    assert_int_equal(statvfs(place->root, &space), 0);
    return space.f_bavail * space.f_frsize;
}

static void ballast_make(const struct place *place, uint64_t size_bytes)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/ballast", place->root);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(posix_fallocate(file, 0, (off_t)size_bytes), 0);
    assert_int_equal(close(file), 0);
}

static void ballast_remove(const struct place *place)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/ballast", place->root);
    assert_int_equal(unlink(path), 0);
}

/* A compaction leaves the room that flushes need: one that would fit, but not beside them, fails. */
static void test_compaction_leaves_room_for_flushes(void **state)
{
    (void)state;
    enum { ROWS = 60, ROW_SIZE = 50000, TOTAL = ROWS * ROW_SIZE };
    struct place place;
    place_make_small(&place, "size=40m");
    place_open(&place);
    for (uint64_t i = 0; i < 2; i++) { /* Merging them writes TOTAL. */
        for (uint64_t row = 0; row < ROWS; row++) {
            while (put_noise(&place, row, ROW_SIZE) == -EBUSY) {
                (void)usleep(1000);
            }
        }
        assert_int_equal(store_flush(place.store, NULL), 0);
    }
    uint64_t left = TOTAL + STORE_WRITE_BUFFER_SIZE_MIN / 2;
    ballast_make(&place, free_size_bytes(&place) - left);
    struct error error = {0};
    assert_int_equal(store_compact_range(place.store, BYTES(""), BYTES(""), &error), -ENOSPC);
    assert_int_equal(store_get_health(place.store, NULL), STORE_WELL);
    assert_int_equal(put_noise(&place, ROWS, ROW_SIZE), 0);
    assert_int_equal(store_flush(place.store, NULL), 0);
    ballast_remove(&place);
    assert_int_equal(store_compact_range(place.store, BYTES(""), BYTES(""), &error), 0);
    assert_has_noise(&place, ROWS + 1);
    place_remove_small(&place);
}

/* A full disk loses nothing: reads go on, writes are refused, and after space was freed the next
 * flush makes everything durable that was ever accepted. */
static void test_full_disk(void **state)
{
    (void)state;
    struct place place;
    place_make_small(&place, "size=40m");
    ballast_make(&place, 20 << 20);
    place_open(&place);

    uint64_t count = fill(&place);
    struct error error = {0};
    assert_int_equal(store_get_health(place.store, &error), STORE_FULL);
    assert_int_equal(error.code, -ENOSPC);
    assert_int_equal(put(&place, BYTES("refused"), BYTES("1")), -EBUSY);
    assert_int_equal(store_flush(place.store, &error), -ENOSPC);
    assert_has_noise(&place, count);

    ballast_remove(&place);
    int status = store_flush(place.store, &error);
    for (int i = 0; i < 100 && status == -ENOSPC; i++) {
        (void)usleep(50000); /* Attempts have a distance. */
        status = store_flush(place.store, &error);
    }
    if (status != 0) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(store_get_health(place.store, NULL), STORE_WELL);
    assert_int_equal(put(&place, BYTES("again"), BYTES("1")), 0);
    assert_int_equal(store_flush(place.store, NULL), 0);
    store_close(place.store);
    place_open(&place);
    assert_has_noise(&place, count);
    assert_true(has(&place, BYTES("again"), BYTES("1")));
    assert_false(has(&place, BYTES("refused"), BYTES("1")));
    place_remove_small(&place);
}

/* The size of a range is about that of its rows, flushed or not, and of no others. */
static void test_sizes_of_ranges(void **state)
{
    (void)state;
    enum { ROW_COUNT = 200, ROW_SIZE = 4096, SIZE = ROW_COUNT * ROW_SIZE };
    struct place place;
    place_make(&place);
    place_open(&place);
    uint64_t half = __builtin_bswap64(ROW_COUNT / 4);
    struct bytes middle = bytes_make(&half, sizeof half);
    for (uint64_t i = 0; i < ROW_COUNT; i++) {
        assert_int_equal(put_noise(&place, i, ROW_SIZE), 0);
    }
    uint64_t buffered = store_estimate_size_bytes(place.store, BYTES(""), BYTES("\xff"));
    /* Of what is in memory RocksDB knows by steps that its skip list takes, which are drawn by lot. */
    assert_in_range(buffered, SIZE / 4, SIZE * 4);
    assert_int_equal(store_flush(place.store, NULL), 0);
    uint64_t all = store_estimate_size_bytes(place.store, BYTES(""), BYTES("\xff"));
    uint64_t first = store_estimate_size_bytes(place.store, BYTES(""), middle);
    uint64_t none = store_estimate_size_bytes(place.store, BYTES("\xf0"), BYTES("\xff"));
    assert_in_range(all, SIZE * 9 / 10, SIZE * 11 / 10);
    assert_in_range(first, SIZE / 8, SIZE * 3 / 8);
    assert_true(none < SIZE / 20);
    place_remove(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_and_iterators),
        cmocka_unit_test(test_rows_and_ranges),
        cmocka_unit_test(test_get_many),
        cmocka_unit_test(test_deferred_compaction),
        cmocka_unit_test(test_snapshots),
        cmocka_unit_test(test_durable_means_flushed),
        cmocka_unit_test(test_memory_tier),
        cmocka_unit_test(test_closed_tables),
        cmocka_unit_test(test_refuses_instead_of_stalling),
        cmocka_unit_test(test_readers_see_whole_batches),
        cmocka_unit_test(test_opening_fails_readably),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_failed_flush_is_final),
        cmocka_unit_test(test_compaction_without_room),
        cmocka_unit_test(test_compaction_leaves_room_for_flushes),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_sizes_of_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
