/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching many rows from the store at once.
 *
 * The rows that are wanted are noted one behind the other, put in order of key as if they were a
 * generation of changes, and divided into parts of neighbours. Whoever runs a part asks the store for
 * its rows and collects what it says; nothing of the view is changed meanwhile. At the end the view's
 * thread makes rows of that. The threads that run parts do not allocate row by row, because they would
 * wait for each other there. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/rows/rows_internal.h"

/* Keys that the store is asked for in one call. */
#define BATCH_COUNT 128u
/* Of the cache, so much may be fetched: it has to be there still when it is needed. */
#define CACHE_SHARE 4u
#define ALIGNMENT 8u
/* Insertions find their slots far from the processor. */
#define PREFETCH_DISTANCE 8u

/* What is known of a row: nothing, that it does not exist, or where its value ends among those of
 * the part, each of which begins where the one before ends. */
struct answer {
    uint64_t value_end;
    enum { ANSWER_NONE, ANSWER_ABSENT, ANSWER_PRESENT } kind;
};

struct part {
    struct rows_fetch *fetch;
    uint32_t asked; /* The first row that the store is asked for. */
    uint64_t size_bytes;
    bool is_full; /* What comes now has no room. */
    struct buffer values;
};

struct rows_fetch {
    struct rows *rows;
    struct buffer noted;           /* Rows with their keys, without values. */
    struct rows_generation wanted; /* They. */
    struct rows_sorted *sorted;
    struct answer *answers; /* In the order of `sorted`. */
    uint32_t count;         /* Without those that were noted twice. */
    struct part *parts;
    uint32_t part_count;
    uint64_t part_size_bytes_max;
    uint64_t changes_seen; /* Of the view, since the rows were divided. */
};

struct rows_fetch *rows_fetch_begin(struct rows *rows)
{
    ASSERT(rows->snapshot == NULL && rows->fetch == NULL);
    struct rows_fetch *fetch = memory_allocate_zeroed(1, sizeof *fetch);
    fetch->rows = rows;
    rows->fetch = fetch;
    return fetch;
}

static size_t noted_size_bytes(size_t key_size_bytes)
{
    return (sizeof(struct row) + key_size_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void rows__fetch_note(struct rows_fetch *fetch, uint64_t hash, struct bytes key)
{
    struct row *row = (void *)buffer_extend(&fetch->noted, noted_size_bytes(key.size_bytes));
    *row = (struct row){.hash = hash, .key_size_bytes = (uint32_t)key.size_bytes};
    if (key.size_bytes > 0) {
        memcpy(row->bytes, key.data, key.size_bytes);
    }
    fetch->count++;
}

uint32_t rows_fetch_count(const struct rows_fetch *fetch)
{
    return fetch->count;
}

/* The rows do not move any more. */
static void order(struct rows_fetch *fetch)
{
    for (size_t at = 0; at < fetch->noted.size_bytes;) {
        struct row *row = (void *)(fetch->noted.data + at);
        rows__generation_add(&fetch->wanted, row);
        at += noted_size_bytes(row->key_size_bytes);
    }
    ASSERT(fetch->wanted.change_count == fetch->count);
    fetch->sorted = memory_allocate((fetch->count + 1) * sizeof fetch->sorted[0]);
    for (uint32_t i = 0; i < fetch->count; i++) {
        fetch->sorted[i] = rows__sorted_make(&fetch->wanted, i);
    }
    rows__sort(&fetch->wanted, fetch->sorted, fetch->count);
}

static const struct row *row_at(const struct rows_fetch *fetch, uint32_t i)
{
    return rows__sorted_row(&fetch->wanted, &fetch->sorted[i]);
}

static void drop_doubles(struct rows_fetch *fetch)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < fetch->count; i++) {
        if (count == 0 ||
            !bytes_equal(row_key(row_at(fetch, i)), row_key(row_at(fetch, count - 1)))) {
            fetch->sorted[count++] = fetch->sorted[i];
        }
    }
    fetch->count = count;
}

void rows_fetch_divide(struct rows_fetch *fetch, uint32_t part_count)
{
    ASSERT(part_count > 0 && fetch->part_count == 0);
    struct rows *rows = fetch->rows;
    ASSERT(rows->fetch == fetch);
    rows->fetch = NULL;
    fetch->changes_seen = rows->changes_seen;
    order(fetch);
    drop_doubles(fetch);
    fetch->answers = memory_allocate_zeroed(fetch->count + 1, sizeof fetch->answers[0]);
    fetch->parts = memory_allocate_zeroed(part_count, sizeof fetch->parts[0]);
    fetch->part_count = part_count;
    fetch->part_size_bytes_max = rows->cache_size_bytes / CACHE_SHARE / part_count;
}

static uint32_t first_of(const struct rows_fetch *fetch, uint32_t part)
{
    return (uint32_t)((uint64_t)fetch->count * part / fetch->part_count);
}

/* ---- A part ---------------------------------------------------------------------------------- */

static void got(void *context, uint32_t position, int status, struct bytes value)
{
    struct part *part = context;
    struct rows_fetch *fetch = part->fetch;
    const struct row *row = row_at(fetch, part->asked + position);
    struct answer *answer = &fetch->answers[part->asked + position];
    uint64_t charge_bytes = rows__charge_of(row->key_size_bytes, value.size_bytes);
    bool is_too_large = charge_bytes > fetch->part_size_bytes_max; /* For whatever comes before. */
    part->is_full |= !is_too_large && part->size_bytes + charge_bytes > fetch->part_size_bytes_max;
    if ((status == 0 || status == -ENOENT) && !is_too_large && !part->is_full &&
        rows__is_worth_keeping(fetch->rows, charge_bytes)) {
        part->size_bytes += charge_bytes;
        buffer_append(&part->values, value);
        answer->kind = status == 0 ? ANSWER_PRESENT : ANSWER_ABSENT;
    }
    answer->value_end = part->values.size_bytes;
}

static void get_each(const struct env_store *store, const struct bytes *keys, uint32_t count,
                     struct part *part)
{
    struct buffer value = {0};
    for (uint32_t i = 0; i < count; i++) {
        buffer_clear(&value);
        int status = store->ops->get(store->context, NULL, ENV_TIER_DISK, keys[i], &value);
        got(part, i, status, status == 0 ? buffer_bytes(&value) : (struct bytes){0});
    }
    buffer_deinit(&value);
}

void rows_fetch_run(struct rows_fetch *fetch, uint32_t part_index)
{
    const struct env_store *store = &fetch->rows->store;
    struct part *part = &fetch->parts[part_index];
    uint32_t first = first_of(fetch, part_index);
    uint32_t end = first_of(fetch, part_index + 1);
    part->fetch = fetch;
    while (first < end && !part->is_full) {
        struct bytes keys[BATCH_COUNT];
        uint32_t count = end - first < BATCH_COUNT ? end - first : BATCH_COUNT;
        for (uint32_t i = 0; i < count; i++) {
            keys[i] = row_key(row_at(fetch, first + i));
        }
        part->asked = first;
        if (store->ops->get_many != NULL) {
            store->ops->get_many(store->context, keys, count, got, part);
        } else {
            get_each(store, keys, count, part);
        }
        first += count;
    }
}

/* ---- The end --------------------------------------------------------------------------------- */

static void keep(struct rows_fetch *fetch, uint32_t i, struct bytes value)
{
    struct rows *rows = fetch->rows;
    const struct row *wanted = row_at(fetch, i);
    bool is_absent = fetch->answers[i].kind == ANSWER_ABSENT;
    if (is_absent && rows__table_find(&rows->table, wanted->hash, row_key(wanted)) != NULL) {
        return; /* A short row that the store has not: who reads it next will say so. */
    }
    struct row *row = rows__row_create(rows, wanted->hash, row_key(wanted), value);
    row->is_absent = is_absent;
    row->heat = 1; /* It is about to be read. */
    rows__keep(rows, row);
}

static void keep_part(struct rows_fetch *fetch, uint32_t part_index)
{
    struct part *part = &fetch->parts[part_index];
    uint32_t end = first_of(fetch, part_index + 1);
    uint64_t value_start = 0;
    for (uint32_t i = first_of(fetch, part_index); i < end; i++) {
        const struct answer *answer = &fetch->answers[i];
        if (i + PREFETCH_DISTANCE < end) {
            rows__table_prefetch(&fetch->rows->table, row_at(fetch, i + PREFETCH_DISTANCE)->hash);
        }
        if (answer->kind != ANSWER_NONE) {
            keep(fetch, i,
                 bytes_make(part->values.data + value_start, answer->value_end - value_start));
            value_start = answer->value_end;
        }
    }
    buffer_deinit(&part->values);
}

void rows_fetch_end(struct rows_fetch *fetch)
{
    ASSERT(fetch->part_count > 0 && fetch->changes_seen == fetch->rows->changes_seen);
    for (uint32_t i = 0; i < fetch->part_count; i++) {
        keep_part(fetch, i);
    }
    memory_free(fetch->parts);
    memory_free(fetch->answers);
    memory_free(fetch->sorted);
    rows__generation_deinit(&fetch->wanted);
    buffer_deinit(&fetch->noted);
    memory_free(fetch);
}
