/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of rows share: a row in memory, the table of them, the state of a view. */
#ifndef CORE_ROWS_ROWS_INTERNAL_H
#define CORE_ROWS_ROWS_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "core/env/env.h"
#include "core/rows/rows.h"

/* ---- A row ----------------------------------------------------------------------------------- */

/* Which generation a row's change belongs to: none, or 1 + its place in rows.generations. */
#define ROW_CLEAN 0u

/* One allocation: header, key, value. While it is frozen, another thread may read all of it but the
 * fields that are marked; so nothing else of it is written then.
 *
 * A value that is longer than the room for it is *short* here: only its head is there, the store has
 * all of it (I6). */
struct row {
    uint64_t hash;
    uint32_t key_size_bytes;
    uint32_t value_size_bytes;
    uint32_t capacity_bytes;  /* Room for a value. */
    uint32_t change_position; /* In the changes of its generation. */
    uint32_t ranges_seen;     /* Mark. Of rows.ranges, the first so many have left it as it is. */
    uint8_t heat : 4;         /* Mark. Visits of the eviction hand that it still survives. */
    uint8_t is_needed : 1;    /* Mark. More than its head was read where heads are kept. */
    bool is_absent;           /* There is no such row; the value is empty. */
    uint8_t generation;       /* Mark. ROW_CLEAN: it may be evicted. */
    bool is_superseded;       /* Mark. Frozen, and no longer in the table: ends with the commit. */
    uint8_t bytes[];
};

static inline struct bytes row_key(const struct row *row)
{
    return bytes_make(row->bytes, row->key_size_bytes);
}

static inline bool row_is_short(const struct row *row)
{
    return row->value_size_bytes > row->capacity_bytes;
}

/* Of a row that is not short. */
static inline struct bytes row_value(const struct row *row)
{
    return bytes_make(row->bytes + row->key_size_bytes, row->value_size_bytes);
}

/* All of the value, or its head. */
static inline struct bytes row_head(const struct row *row)
{
    uint32_t size_bytes = row_is_short(row) ? ROWS_HEAD_SIZE_BYTES : row->value_size_bytes;
    return bytes_make(row->bytes + row->key_size_bytes, size_bytes);
}

static inline bool row_is_changed(const struct row *row)
{
    return row->generation != ROW_CLEAN;
}

/* ---- The table of rows ----------------------------------------------------------------------- */

/* Open addressing with linear probing, ordered by the upper bits of the hash; see rows_table.c. */
struct rows_slot {
    uint64_t hash;
    struct row *row; /* NULL: empty. */
};

struct rows_slots {
    struct rows_slot *slots; /* 1 << bits of them. */
    uint32_t bits;
};

struct rows_table {
    struct rows_slots present;
    struct rows_slots previous; /* While growing: the slots from `moved_count` on hold rows. */
    uint64_t moved_count;
    uint64_t row_count;
    uint64_t hand; /* Position of the sweep in `present`. */
};

void rows__table_init(struct rows_table *table);
/* The rows themselves stay the caller's. */
void rows__table_deinit(struct rows_table *table);

/* The slot of the row, or NULL. Valid until the table is changed or swept; its `row` may be
 * replaced by another of the same key. */
struct rows_slot *rows__table_find(const struct rows_table *table, uint64_t hash, struct bytes key);
/* The first row with this hash; or NULL. */
struct rows_slot *rows__table_find_hash(const struct rows_table *table, uint64_t hash);

/* Bring near the slot at which an insertion with this hash begins. */
void rows__table_prefetch(const struct rows_table *table, uint64_t hash);
/* Bring near the row that has this hash, if it is where its search begins or a little further. */
void rows__table_prefetch_row(const struct rows_table *table, uint64_t hash);
/* Add a row whose key is not in the table. */
void rows__table_insert(struct rows_table *table, struct row *row);
void rows__table_remove(struct rows_table *table, struct rows_slot *slot);

/* Go round: the next slot that has a row, in an order of its own. The table is not empty. */
struct rows_slot *rows__table_sweep(struct rows_table *table);

/* Visit all rows: the first row at or after `*position` (0 to begin), which moves behind it; NULL
 * at the end. The table must not change meanwhile. */
struct row *rows__table_next(const struct rows_table *table, uint64_t *position);

/* ---- A generation of changes ----------------------------------------------------------------- */

/* A changed row and the first bytes of its key that differ between rows, for sorting. */
struct rows_sorted {
    uint64_t prefix;
    uint32_t position; /* In the changes: a row may be replaced by another of its key. */
};

struct rows_generation {
    struct row **changes; /* In the order in which they were first changed. */
    uint32_t change_count;
    uint32_t change_capacity;
    uint64_t size_bytes; /* Of these rows. */
    /* The first so many changes in order of key, for iterators: brought up to date when the rest
     * has grown to ROWS_UNORDERED_COUNT_MAX. */
    struct rows_sorted *order;
    uint32_t ordered_count;
};

/* An iterator sorts so many changes by itself. */
#define ROWS_UNORDERED_COUNT_MAX 256u

/* The account stays the caller's. */
void rows__generation_add(struct rows_generation *generation, struct row *row);
struct rows_sorted rows__sorted_make(const struct rows_generation *generation, uint32_t position);
void rows__sort(const struct rows_generation *generation, struct rows_sorted *items,
                uint32_t count);
/* Leave at most ROWS_UNORDERED_COUNT_MAX changes out of the order. */
void rows__generation_order(struct rows_generation *generation);
void rows__generation_clear(struct rows_generation *generation);
void rows__generation_deinit(struct rows_generation *generation);

static inline struct row *rows__sorted_row(const struct rows_generation *generation,
                                           const struct rows_sorted *item)
{
    return generation->changes[item->position];
}

/* ---- A view ---------------------------------------------------------------------------------- */

struct rows_range {
    struct buffer lower;
    struct buffer upper;
};

/* Rows that batches left whole because they were too many at once, by their hashes: they may have gone
 * since, and if another one has the same hash, no harm is done. */
struct rows_left {
    uint64_t *hashes;
    uint32_t count;
    uint32_t capacity;
    uint32_t done_count;
};

struct rows {
    struct env_store store;
    const struct env_store_snapshot *snapshot; /* NULL: a live view. */
    enum env_tier tier;
    bool is_disk_expected;
    uint64_t changes_seen;    /* Counts what ends iterators. */
    struct rows_fetch *fetch; /* Notes what is not in the table; NULL: nobody does. */
    struct buffer scratch;    /* The value of a row that is not kept. */

    /* Live views only. */
    struct rows_table table;
    bool is_complete; /* I5 */
    bool keeps_heads;
    uint64_t shorten_count; /* Rows that the hand has to pass before those in memory are short. */
    struct rows_left left;
    uint64_t cache_size_bytes;
    uint64_t clean_size_bytes; /* Of rows that may be evicted. */
    struct rows_generation generations[2];
    uint32_t open; /* Which of them takes changes; the other is frozen, or empty. */
    bool is_committing;
    /* Deleted ranges, oldest first. Those from `range_committed_count` on are not in the store yet,
     * of them those before `range_frozen_count` are in the batch. Those that the store has are kept
     * because rows that have not been looked at since may be stale. */
    struct rows_range *ranges;
    uint32_t range_count;
    uint32_t range_capacity;
    uint32_t range_committed_count;
    uint32_t range_frozen_count;
    uint64_t digest;
    struct rows_statistics statistics;

    /* The batch, and room for sorting it. Between begin and end they are the writer's; the ranges
     * are there from the beginning. */
    struct env_change *batch;
    struct rows_sorted *sorted;
    uint32_t batch_capacity;
    uint32_t batch_range_count;
    bool is_batch_complete; /* Also the rows are in it. */
};

static inline struct rows_generation *rows__open(struct rows *rows)
{
    return &rows->generations[rows->open];
}

static inline struct rows_generation *rows__frozen(struct rows *rows)
{
    return &rows->generations[1 - rows->open];
}

static inline bool rows__is_frozen(const struct rows *rows, const struct row *row)
{
    return row->generation == 2 - rows->open;
}

/* Bring a row that is not frozen up to date with the ranges that were deleted since it was last
 * looked at. */
void rows__settle(const struct rows *rows, struct row *row);

/* Is a changed row of an iterator's side not to be seen, because it was changed or deleted again?
 * Brings it up to date if it is not frozen. */
bool rows__is_hidden(const struct rows *rows, struct row *row);

/* The newest uncommitted range that covers the key, or NULL. */
const struct rows_range *rows__range_over(const struct rows *rows, struct bytes key);

/* rows.c, for the other files */
struct row *rows__row_create(const struct rows *rows, uint64_t hash, struct bytes key,
                             struct bytes value);
uint64_t rows__charge_of(uint64_t key_size_bytes, uint64_t capacity_bytes);
uint64_t rows__charge(const struct row *row);
/* Put a clean row into the table, which has none of its key, or a short one. */
void rows__keep(struct rows *rows, struct row *row);
/* Put the head in the place of a clean row that was written, if that saves memory. */
void rows__shorten(struct rows *rows, struct rows_slot *slot);
bool rows__can_shorten(const struct rows *rows, const struct row *row);
bool rows__is_worth_keeping(const struct rows *rows, uint64_t charge_bytes);
void rows__drop(struct rows *rows, struct row *row);
void rows__evict(struct rows *rows);
/* rows_fetch.c: the row is wanted. */
void rows__fetch_note(struct rows_fetch *fetch, uint64_t hash, struct bytes key);
/* Forget the ranges that the store has. No row is frozen. */
void rows__ranges_retire(struct rows *rows);

#endif
