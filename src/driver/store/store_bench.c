/* SPDX-License-Identifier: Apache-2.0 */
/* What the store does alone: random gets of rows that exist, in one thread and in several.
 *
 * For `make bench`, which sets a node's reads of cold data beside it. It is the same RocksDB with
 * the options of the node, and nothing around it: no protocol, no loop, no hand-over between
 * threads. The whole of the memory is given to its block cache, where a node shares it out. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/random/random.h"
#include "driver/os/os.h"
#include "driver/store/store.h"

enum {
    THREAD_COUNT_MAX = 4,
    GETS_PER_CLOCK_READING = 64,
    WARM_UP_S = 1,
    SEED = 20,
    KEY_COUNT_MAX = 8 << 20,
};

/* A row of a key: 0x10, the slot in two bytes, 0x00, four bytes of hash, the key. 
 * docs/formats/rows.md */
#define KEY_SPACE "\x10"
#define KEY_SPACE_END "\x11"
#define KEY_ROW_KIND_OFFSET 3
#define KEY_ROW_KIND 0x00
#define KEY_ROW_SIZE_MIN 8

struct bench {
    struct store *store;
    struct env_store rows;
    struct buffer keys; /* One after the other. */
    size_t *ends;       /* Of key i in `keys`. */
    uint32_t key_count;
    uint64_t until_ns;
    _Atomic uint64_t get_count;
    _Atomic int failure;
};

static struct bytes key_at(const struct bench *bench, uint64_t i)
{
    size_t start = i == 0 ? 0 : bench->ends[i - 1];
    return bytes_make(bench->keys.data + start, bench->ends[i] - start);
}

static void add_key(struct bench *bench, struct bytes key)
{
    if (key.size_bytes > KEY_ROW_SIZE_MIN && key.data[KEY_ROW_KIND_OFFSET] == KEY_ROW_KIND) {
        buffer_append(&bench->keys, key);
        bench->ends[bench->key_count++] = bench->keys.size_bytes;
    }
}

static int find_keys(struct bench *bench)
{
    struct env_iterator *iterator = NULL;
    const struct env_store_ops *ops = bench->rows.ops;
    void *context = bench->rows.context;
    int status = ops->iterator_open(context, NULL, ENV_TIER_DISK, BYTES(KEY_SPACE),
                                    BYTES(KEY_SPACE_END), &iterator);
    if (status != 0) {
        return status;
    }
    bench->ends = memory_allocate(KEY_COUNT_MAX * sizeof bench->ends[0]);
    status = ops->iterator_seek(context, iterator, BYTES(KEY_SPACE));
    while (status == 0 && bench->key_count < KEY_COUNT_MAX) {
        add_key(bench, ops->iterator_key(context, iterator));
        status = ops->iterator_next(context, iterator);
    }
    ops->iterator_close(context, iterator);
    if (status == -ENOENT || status == 0) {
        return bench->key_count > 0 ? 0 : -ENOENT;
    }
    return status;
}

struct getter {
    struct bench *bench;
    struct os_thread *thread;
    uint64_t seed;
};

static void get_at_random(void *context)
{
    struct getter *getter = context;
    struct bench *bench = getter->bench;
    struct random random;
    random_init(&random, getter->seed);
    struct buffer value = {0};
    uint64_t count = 0;
    int status = 0;
    while (status == 0 && os_monotonic_ns() < bench->until_ns) {
        for (int i = 0; i < GETS_PER_CLOCK_READING && status == 0; i++) {
            buffer_clear(&value);
            struct bytes key = key_at(bench, random_below(&random, bench->key_count));
            status = bench->rows.ops->get(bench->rows.context, NULL, ENV_TIER_DISK, key, &value);
            count++;
        }
    }
    buffer_deinit(&value);
    atomic_fetch_add(&bench->get_count, count);
    if (status != 0) {
        atomic_store(&bench->failure, status);
    }
}

static int measure(struct bench *bench, uint32_t thread_count, uint64_t seconds, double *rate,
                   struct error *error)
{
    struct getter getters[THREAD_COUNT_MAX] = {0};
    uint64_t started_ns = os_monotonic_ns();
    bench->until_ns = started_ns + seconds * 1000000000u;
    atomic_store(&bench->get_count, 0);
    int status = 0;
    uint32_t started_count = 0;
    for (; started_count < thread_count && status == 0; started_count++) {
        struct getter *getter = &getters[started_count];
        *getter = (struct getter){.bench = bench, .seed = SEED + started_count};
        status = os_thread_start(&getter->thread, "get", get_at_random, getter, error);
    }
    for (uint32_t i = 0; i < started_count; i++) {
        if (getters[i].thread != NULL) {
            os_thread_join(getters[i].thread);
        }
    }
    if (status == 0 && atomic_load(&bench->failure) != 0) {
        status = error_set(error, atomic_load(&bench->failure), "get a row that was there");
    }
    *rate = (double)atomic_load(&bench->get_count) * 1e9 / (double)(os_monotonic_ns() - started_ns);
    return status;
}

static int run(struct bench *bench, uint64_t seconds, struct error *error)
{
    bench->rows = store_interface(bench->store);
    int status = find_keys(bench);
    if (status != 0) {
        return error_set(error, status, "find keys");
    }
    double rate = 0;
    double rate_4_threads = 0;
    status = measure(bench, THREAD_COUNT_MAX, WARM_UP_S, &rate, error);
    if (status == 0) {
        status = measure(bench, 1, seconds, &rate, error);
    }
    if (status == 0) {
        status = measure(bench, THREAD_COUNT_MAX, seconds, &rate_4_threads, error);
    }
    if (status == 0) {
        printf("{\"keys\": %" PRIu32 ", \"rate\": %.0f, \"rate_4_threads\": %.0f}\n",
               bench->key_count, rate, rate_4_threads);
    }
    return status;
}

int main(int argument_count, char **arguments)
{
    uint64_t cache_size_bytes = 0;
    uint64_t seconds = 0;
    if (argument_count != 4 ||
        !number_parse_unsigned(bytes_of_text(arguments[2]), &cache_size_bytes) ||
        !number_parse_unsigned(bytes_of_text(arguments[3]), &seconds)) {
        (void)fputs("usage: tutti-bench-store STORE CACHE_BYTES SECONDS\n", stderr);
        return 2;
    }
    struct error error = {0};
    struct bench bench = {0};
    struct store_options options = {
        .directory = arguments[1],
        .cache_size_bytes = cache_size_bytes,
        .write_buffer_size_bytes = STORE_WRITE_BUFFER_SIZE_MIN,
        .is_read_only = true,
    };
    int status = store_open(&bench.store, &options, &error);
    if (status == 0) {
        status = run(&bench, seconds, &error);
        store_close(bench.store);
    }
    buffer_deinit(&bench.keys);
    memory_free(bench.ends);
    if (status != 0) {
        (void)fprintf(stderr, "tutti-bench-store: %s\n", error.message);
        return 1;
    }
    return 0;
}
