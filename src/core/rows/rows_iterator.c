/* SPDX-License-Identifier: Apache-2.0 */
/* Two sorted inputs are merged: the store's rows, and the changed rows in the bounds, collected and
 * sorted when the iterator is opened. Where both have a key, the changed row counts and the store's
 * is passed over. Store rows under an uncommitted range are passed over by a seek to its end. Clean
 * rows of the cache equal the store's and play no part. */
#include <stdlib.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/rows/rows_internal.h"

enum source { SOURCE_NONE, SOURCE_STORE, SOURCE_CHANGE };

struct rows_iterator {
    struct rows *rows;
    uint64_t changes_seen; /* Of the view, when this was opened. */
    struct buffer lower;
    struct buffer upper;

    struct env_iterator *inner; /* The store's. */
    enum env_tier tier;         /* Of `inner`. */
    int store_status;           /* 0: `inner` is at a row; -ENOENT: at its end. */
    struct buffer passed;       /* The key that `inner` was at, for going on in another tier. */

    struct row **changes; /* Sorted by key. */
    uint32_t change_count;
    uint32_t change_at;
    enum source current;
};

/* ---- The store's side ------------------------------------------------------------------------ */

static int open_inner(struct rows_iterator *iterator, enum env_tier tier)
{
    const struct rows *rows = iterator->rows;
    iterator->tier = tier;
    return rows->store.ops->iterator_open(rows->store.context, rows->snapshot, tier,
                                          buffer_bytes(&iterator->lower),
                                          buffer_bytes(&iterator->upper), &iterator->inner);
}

static struct bytes store_key(const struct rows_iterator *iterator)
{
    const struct env_store *store = &iterator->rows->store;
    return store->ops->iterator_key(store->context, iterator->inner);
}

/* A live view that may block asks the memory first, so that reads which do block are known. */
static bool may_go_to_disk(const struct rows_iterator *iterator)
{
    return iterator->tier == ENV_TIER_MEMORY && iterator->rows->tier == ENV_TIER_DISK;
}

static int reopen_on_disk(struct rows_iterator *iterator)
{
    const struct env_store *store = &iterator->rows->store;
    iterator->rows->statistics.blocking_read_count++;
    struct env_iterator *old = iterator->inner;
    int status = open_inner(iterator, ENV_TIER_DISK);
    if (status == 0) {
        store->ops->iterator_close(store->context, old);
    }
    return status;
}

static int store_seek(struct rows_iterator *iterator, struct bytes key)
{
    const struct env_store *store = &iterator->rows->store;
    int status = store->ops->iterator_seek(store->context, iterator->inner, key);
    if (status == ERROR_INCOMPLETE && may_go_to_disk(iterator)) {
        status = reopen_on_disk(iterator);
        if (status == 0) {
            status = store->ops->iterator_seek(store->context, iterator->inner, key);
        }
    }
    iterator->store_status = status;
    return status;
}

static int store_next(struct rows_iterator *iterator)
{
    const struct env_store *store = &iterator->rows->store;
    bool can_go_to_disk = may_go_to_disk(iterator);
    if (can_go_to_disk) {
        buffer_clear(&iterator->passed);
        buffer_append(&iterator->passed, store_key(iterator));
        buffer_append_byte(&iterator->passed, 0); /* The least key after it. */
    }
    iterator->store_status = store->ops->iterator_next(store->context, iterator->inner);
    if (iterator->store_status == ERROR_INCOMPLETE && can_go_to_disk) {
        return store_seek(iterator, buffer_bytes(&iterator->passed));
    }
    return iterator->store_status;
}

/* ---- The merge ------------------------------------------------------------------------------- */

/* Step over what is not to be seen and rest at the least row of the two sides. */
static int settle(struct rows_iterator *iterator)
{
    for (;;) {
        if (iterator->store_status != 0 && iterator->store_status != -ENOENT) {
            return iterator->store_status;
        }
        bool has_store = iterator->store_status == 0;
        bool has_change = iterator->change_at < iterator->change_count;
        if (!has_store && !has_change) {
            return -ENOENT;
        }
        int order = !has_store ? -1 : 1;
        if (has_store && has_change) {
            order =
                bytes_compare(row_key(iterator->changes[iterator->change_at]), store_key(iterator));
        }
        if (order == 0) {
            (void)store_next(iterator); /* Its status is looked at above. */
        } else if (order < 0) {
            if (!iterator->changes[iterator->change_at]->is_absent) {
                iterator->current = SOURCE_CHANGE;
                return 0;
            }
            iterator->change_at++;
        } else {
            const struct rows_range *range = rows__range_over(iterator->rows, store_key(iterator));
            if (range == NULL) {
                iterator->current = SOURCE_STORE;
                return 0;
            }
            (void)store_seek(iterator, buffer_bytes(&range->upper));
        }
    }
}

int rows_iterator_seek(struct rows_iterator *iterator, struct bytes key)
{
    ASSERT(iterator->changes_seen == iterator->rows->changes_seen);
    iterator->current = SOURCE_NONE;
    uint32_t first = 0;
    uint32_t count = iterator->change_count;
    while (count > 0) {
        uint32_t half = count / 2;
        if (bytes_compare(row_key(iterator->changes[first + half]), key) < 0) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    iterator->change_at = first;
    struct bytes lower = buffer_bytes(&iterator->lower);
    (void)store_seek(iterator, bytes_compare(key, lower) < 0 ? lower : key);
    return settle(iterator);
}

int rows_iterator_next(struct rows_iterator *iterator)
{
    ASSERT(iterator->changes_seen == iterator->rows->changes_seen);
    ASSERT(iterator->current != SOURCE_NONE);
    if (iterator->current == SOURCE_CHANGE) {
        iterator->change_at++;
    } else {
        (void)store_next(iterator);
    }
    iterator->current = SOURCE_NONE;
    return settle(iterator);
}

struct bytes rows_iterator_key(const struct rows_iterator *iterator)
{
    ASSERT(iterator->current != SOURCE_NONE);
    return iterator->current == SOURCE_STORE ? store_key(iterator)
                                             : row_key(iterator->changes[iterator->change_at]);
}

struct bytes rows_iterator_value(const struct rows_iterator *iterator)
{
    ASSERT(iterator->current != SOURCE_NONE);
    const struct env_store *store = &iterator->rows->store;
    return iterator->current == SOURCE_STORE
               ? store->ops->iterator_value(store->context, iterator->inner)
               : row_value(iterator->changes[iterator->change_at]);
}

/* ---- Opening --------------------------------------------------------------------------------- */

static int compare_rows(const void *left, const void *right)
{
    const struct row *const *left_row = left;
    const struct row *const *right_row = right;
    return bytes_compare(row_key(*left_row), row_key(*right_row));
}

static void collect_changes(struct rows_iterator *iterator, struct bytes lower, struct bytes upper)
{
    const struct rows *rows = iterator->rows;
    uint32_t capacity = 0;
    for (uint32_t i = 0; i < rows->change_count; i++) {
        struct row *row = rows->changes[i];
        if (bytes_compare(row_key(row), lower) < 0 ||
            (upper.size_bytes > 0 && bytes_compare(row_key(row), upper) >= 0)) {
            continue;
        }
        if (iterator->change_count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            iterator->changes = memory_resize(iterator->changes, capacity * sizeof(struct row *));
        }
        rows__settle(rows, row);
        iterator->changes[iterator->change_count++] = row;
    }
    if (iterator->change_count > 1) {
        qsort(iterator->changes, iterator->change_count, sizeof(struct row *), compare_rows);
    }
}

static void iterator_free(struct rows_iterator *iterator)
{
    buffer_deinit(&iterator->lower);
    buffer_deinit(&iterator->upper);
    buffer_deinit(&iterator->passed);
    memory_free(iterator->changes);
    memory_free(iterator);
}

int rows_iterator_open(struct rows *rows, struct bytes lower, struct bytes upper,
                       struct rows_iterator **iterator)
{
    if (rows->snapshot == NULL && rows->tier == ENV_TIER_MEMORY &&
        rows_change_count(rows) > ROWS_ITERATE_CHANGE_COUNT_MAX) {
        rows->is_commit_wanted = true;
        return ERROR_INCOMPLETE;
    }
    struct rows_iterator *opened = memory_allocate_zeroed(1, sizeof *opened);
    opened->rows = rows;
    opened->changes_seen = rows->changes_seen;
    opened->store_status = -ENOENT;
    buffer_append(&opened->lower, lower);
    buffer_append(&opened->upper, upper);
    int status = open_inner(opened, rows->snapshot == NULL ? ENV_TIER_MEMORY : ENV_TIER_DISK);
    if (status == ERROR_INCOMPLETE && may_go_to_disk(opened)) {
        rows->statistics.blocking_read_count++;
        status = open_inner(opened, ENV_TIER_DISK);
    }
    if (status != 0) {
        iterator_free(opened);
        return status;
    }
    collect_changes(opened, lower, upper);
    *iterator = opened;
    return 0;
}

void rows_iterator_close(struct rows_iterator *iterator)
{
    const struct env_store *store = &iterator->rows->store;
    store->ops->iterator_close(store->context, iterator->inner);
    iterator_free(iterator);
}
