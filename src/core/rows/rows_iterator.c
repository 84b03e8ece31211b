/* SPDX-License-Identifier: Apache-2.0 */
/* Sorted inputs are merged: the store's rows, and on up to four sides changed rows: of each
 * generation those that are in its order, and the few that came since, which the iterator sorts for
 * itself. Where several have a key, the newest change counts: the frozen row of a key that was
 * changed again is hidden, and the store's is passed over. Store rows under an uncommitted range are
 * passed over by a seek to its end. Clean rows of the cache equal the store's and play no part.
 *
 * Whether the store shows a batch that is being written does not matter: whatever it changes is
 * among the changes too. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/rows/rows_internal.h"

#define SIDE_COUNT 4u

/* Changed rows of one generation, in order. */
struct side {
    const struct rows_generation *generation;
    const struct rows_sorted *items;
    struct rows_sorted *mine; /* The same, where the iterator made them. */
    uint32_t at;
    uint32_t count;
};

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

    struct side sides[SIDE_COUNT];
    struct side *least; /* The side with the least row; NULL: all are at their end. */
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

/* ---- The changes' side ----------------------------------------------------------------------- */

static struct row *side_row(const struct side *side)
{
    return rows__sorted_row(side->generation, &side->items[side->at]);
}

static void side_seek(struct side *side, struct bytes key)
{
    uint32_t first = 0;
    uint32_t count = side->count;
    while (count > 0) {
        uint32_t half = count / 2;
        const struct row *row = rows__sorted_row(side->generation, &side->items[first + half]);
        if (bytes_compare(row_key(row), key) < 0) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    side->at = first;
}

/* Pass over what is hidden, and find the side with the least row. */
static void find_least(struct rows_iterator *iterator)
{
    iterator->least = NULL;
    for (uint32_t i = 0; i < SIDE_COUNT; i++) {
        struct side *side = &iterator->sides[i];
        while (side->at < side->count && rows__is_hidden(iterator->rows, side_row(side))) {
            side->at++;
        }
        if (side->at < side->count &&
            (iterator->least == NULL ||
             bytes_compare(row_key(side_row(side)), row_key(side_row(iterator->least))) < 0)) {
            iterator->least = side;
        }
    }
    const struct side *least = iterator->least;
    struct bytes upper = buffer_bytes(&iterator->upper);
    if (least != NULL && upper.size_bytes > 0 &&
        bytes_compare(row_key(side_row(least)), upper) >= 0) {
        iterator->least = NULL;
    }
}

static void change_next(struct rows_iterator *iterator)
{
    iterator->least->at++;
    find_least(iterator);
}

/* ---- The merge ------------------------------------------------------------------------------- */

/* Step over what is not to be seen and rest at the least row of all sides. */
static int settle(struct rows_iterator *iterator)
{
    for (;;) {
        if (iterator->store_status != 0 && iterator->store_status != -ENOENT) {
            return iterator->store_status;
        }
        bool has_store = iterator->store_status == 0;
        bool has_change = iterator->least != NULL;
        if (!has_store && !has_change) {
            return -ENOENT;
        }
        int order = !has_store ? -1 : 1;
        if (has_store && has_change) {
            order = bytes_compare(row_key(side_row(iterator->least)), store_key(iterator));
        }
        if (order == 0) {
            (void)store_next(iterator); /* Its status is looked at above. */
        } else if (order < 0) {
            if (!side_row(iterator->least)->is_absent) {
                iterator->current = SOURCE_CHANGE;
                return 0;
            }
            change_next(iterator);
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
    struct bytes lower = buffer_bytes(&iterator->lower);
    struct bytes from = bytes_compare(key, lower) < 0 ? lower : key;
    for (uint32_t i = 0; i < SIDE_COUNT; i++) {
        side_seek(&iterator->sides[i], from);
    }
    find_least(iterator);
    (void)store_seek(iterator, from);
    return settle(iterator);
}

int rows_iterator_next(struct rows_iterator *iterator)
{
    ASSERT(iterator->changes_seen == iterator->rows->changes_seen);
    ASSERT(iterator->current != SOURCE_NONE);
    if (iterator->current == SOURCE_CHANGE) {
        change_next(iterator);
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
                                             : row_key(side_row(iterator->least));
}

struct bytes rows_iterator_value(const struct rows_iterator *iterator)
{
    ASSERT(iterator->current != SOURCE_NONE);
    const struct env_store *store = &iterator->rows->store;
    return iterator->current == SOURCE_STORE
               ? store->ops->iterator_value(store->context, iterator->inner)
               : row_value(side_row(iterator->least));
}

/* ---- Opening --------------------------------------------------------------------------------- */

static bool is_within(const struct rows_iterator *iterator, const struct row *row)
{
    struct bytes upper = buffer_bytes(&iterator->upper);
    return bytes_compare(row_key(row), buffer_bytes(&iterator->lower)) >= 0 &&
           (upper.size_bytes == 0 || bytes_compare(row_key(row), upper) < 0);
}

static void open_sides(struct rows_iterator *iterator, struct rows_generation *generation,
                       struct side *ordered, struct side *rest)
{
    rows__generation_order(generation);
    *ordered = (struct side){
        .generation = generation, .items = generation->order, .count = generation->ordered_count};
    uint32_t first = generation->ordered_count;
    *rest = (struct side){.generation = generation};
    if (generation->change_count == first) {
        return;
    }
    rest->mine = memory_allocate((generation->change_count - first) * sizeof rest->mine[0]);
    for (uint32_t i = first; i < generation->change_count; i++) {
        if (is_within(iterator, generation->changes[i])) {
            rest->mine[rest->count++] = rows__sorted_make(generation, i);
        }
    }
    rows__sort(generation, rest->mine, rest->count);
    rest->items = rest->mine;
}

static void iterator_free(struct rows_iterator *iterator)
{
    buffer_deinit(&iterator->lower);
    buffer_deinit(&iterator->upper);
    buffer_deinit(&iterator->passed);
    for (uint32_t i = 0; i < SIDE_COUNT; i++) {
        memory_free(iterator->sides[i].mine);
    }
    memory_free(iterator);
}

int rows_iterator_open(struct rows *rows, struct bytes lower, struct bytes upper,
                       struct rows_iterator **iterator)
{
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
    open_sides(opened, rows__open(rows), &opened->sides[0], &opened->sides[1]);
    open_sides(opened, rows__frozen(rows), &opened->sides[2], &opened->sides[3]);
    *iterator = opened;
    return 0;
}

void rows_iterator_close(struct rows_iterator *iterator)
{
    const struct env_store *store = &iterator->rows->store;
    store->ops->iterator_close(store->context, iterator->inner);
    iterator_free(iterator);
}
