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

#define ROW_UNCHANGED UINT32_MAX

/* One allocation: header, key, value. */
struct row {
    uint64_t hash;
    uint32_t key_size_bytes;
    uint32_t value_size_bytes;
    uint32_t capacity_bytes;  /* Room for a value. */
    uint32_t change_position; /* In rows.changes, or ROW_UNCHANGED. */
    uint32_t ranges_seen; /* Of rows.ranges, the first so many are known to have left it alone. */
    uint8_t heat;         /* Visits of the eviction hand that it still survives. */
    bool is_absent;       /* There is no such row; the value is empty. */
    uint8_t bytes[];
};

static inline struct bytes row_key(const struct row *row)
{
    return bytes_make(row->bytes, row->key_size_bytes);
}

static inline struct bytes row_value(const struct row *row)
{
    return bytes_make(row->bytes + row->key_size_bytes, row->value_size_bytes);
}

static inline bool row_is_changed(const struct row *row)
{
    return row->change_position != ROW_UNCHANGED;
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

/* Add a row whose key is not in the table. */
void rows__table_insert(struct rows_table *table, struct row *row);
void rows__table_remove(struct rows_table *table, struct rows_slot *slot);

/* Go round: the next slot that has a row, in an order of its own. The table is not empty. */
struct rows_slot *rows__table_sweep(struct rows_table *table);

/* Visit all rows: the first row at or after `*position` (0 to begin), which moves behind it; NULL
 * at the end. The table must not change meanwhile. */
struct row *rows__table_next(const struct rows_table *table, uint64_t *position);

/* ---- A view ---------------------------------------------------------------------------------- */

struct rows_range {
    struct buffer lower;
    struct buffer upper;
};

/* A changed row and the first bytes of its key that differ between rows, for sorting. */
struct rows_sorted {
    uint64_t prefix;
    struct row *row;
};

struct rows {
    struct env_store store;
    const struct env_store_snapshot *snapshot; /* NULL: a live view. */
    enum env_tier tier;
    uint64_t changes_seen; /* Counts what ends iterators. */
    struct buffer scratch; /* The value of a row that is not kept. */

    /* Live views only. */
    struct rows_table table;
    uint64_t cache_size_bytes;
    uint64_t clean_size_bytes;   /* Of rows that may be evicted. */
    uint64_t changed_size_bytes; /* Of rows that may not. */
    struct row **changes;
    uint32_t change_count;
    uint32_t change_capacity;
    /* Deleted ranges, oldest first. Those from `range_committed_count` on are not in the store yet;
     * those before are kept because rows that have not been looked at since may be stale. */
    struct rows_range *ranges;
    uint32_t range_count;
    uint32_t range_capacity;
    uint32_t range_committed_count;
    uint64_t digest;
    bool is_commit_wanted;    /* An iterator was refused for it. */
    struct env_change *batch; /* Reused by commits. */
    struct rows_sorted *sorted;
    uint32_t batch_capacity;
    struct rows_statistics statistics;
};

/* Bring a row up to date with the ranges that were deleted since it was last looked at. */
void rows__settle(const struct rows *rows, struct row *row);

/* The newest uncommitted range that covers the key, or NULL. */
const struct rows_range *rows__range_over(const struct rows *rows, struct bytes key);

#endif
