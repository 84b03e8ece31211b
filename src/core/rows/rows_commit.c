/* SPDX-License-Identifier: Apache-2.0 */
/* Committing: what the view's thread and the writer's do with a frozen generation.
 *
 * Between begin and end the writer reads the frozen rows and ranges, and the view's thread reads them
 * too. Neither changes what the other looks at: the view's thread leaves frozen rows as they are but
 * for the fields that are marked in `struct row`, which the writer does not read; the writer changes
 * nothing but `batch` and `sorted`, which are its own for that time. The array of ranges may move
 * when it grows, so their change records are made at the beginning; the bytes of a range stay where
 * they are.
 *
 * The batch is: all uncommitted ranges, then every changed row with its last state. That is right
 * for any order of calls: a row put before its range was deleted is absent by then and goes as a
 * delete, one put afterwards goes as a put, and a row that was not changed is under the range
 * only. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/rows/rows_internal.h"

/* So many ranges of the store are kept before a walk over the table makes them superfluous. */
#define RANGE_COUNT_MAX 64u
/* The end looks at every row of the batch, which by then are far from the processor. */
#define PREFETCH_DISTANCE 8u

bool rows_is_committing(const struct rows *rows)
{
    return rows->is_committing;
}

uint32_t rows_change_count(const struct rows *rows)
{
    /* What is in the batch does not wait any more. */
    uint32_t first = rows->is_committing ? rows->range_frozen_count : rows->range_committed_count;
    return rows->range_count - first + rows->generations[rows->open].change_count;
}

uint64_t rows_change_size_bytes(const struct rows *rows)
{
    return rows->generations[rows->open].size_bytes;
}

static void reserve_batch(struct rows *rows, uint32_t count)
{
    if (count > rows->batch_capacity) {
        rows->batch_capacity = count + count / 2;
        rows->batch = memory_resize(rows->batch, rows->batch_capacity * sizeof rows->batch[0]);
        rows->sorted = memory_resize(rows->sorted, rows->batch_capacity * sizeof rows->sorted[0]);
    }
}

static void freeze_ranges(struct rows *rows)
{
    rows->batch_range_count = rows->range_count - rows->range_committed_count;
    for (uint32_t i = 0; i < rows->batch_range_count; i++) {
        const struct rows_range *range = &rows->ranges[rows->range_committed_count + i];
        rows->batch[i] = (struct env_change){.kind = ENV_CHANGE_DELETE_RANGE,
                                             .key = buffer_bytes(&range->lower),
                                             .value = buffer_bytes(&range->upper)};
    }
    rows->range_frozen_count = rows->range_count;
}

bool rows_commit_begin(struct rows *rows)
{
    ASSERT(rows->snapshot == NULL);
    ASSERT(!rows->is_committing);
    struct rows_generation *generation = rows__open(rows);
    uint32_t count = rows_change_count(rows);
    if (count == 0) {
        return false;
    }
    rows->changes_seen++;
    reserve_batch(rows, count);
    freeze_ranges(rows);
    /* Only a range of this batch can be newer than one of its changes. */
    for (uint32_t i = 0; rows->batch_range_count > 0 && i < generation->change_count; i++) {
        rows__settle(rows, generation->changes[i]);
    }
    rows->is_committing = true;
    rows->is_batch_complete = false;
    rows->open = 1 - rows->open;
    ASSERT(rows__open(rows)->change_count == 0);
    return true;
}

static struct env_change change_of(const struct row *row)
{
    return (struct env_change){.kind = row->is_absent ? ENV_CHANGE_DELETE : ENV_CHANGE_PUT,
                               .key = row_key(row),
                               .value = row_value(row)};
}

/* The store inserts rows that come in order at half the cost, because neighbours are near each
 * other in its memory. */
static void complete_batch(struct rows *rows, const struct rows_generation *generation)
{
    for (uint32_t i = 0; i < generation->change_count; i++) {
        rows->sorted[i] = rows__sorted_make(generation, i);
    }
    rows__sort(generation, rows->sorted, generation->change_count);
    for (uint32_t i = 0; i < generation->change_count; i++) {
        rows->batch[rows->batch_range_count + i] =
            change_of(rows__sorted_row(generation, &rows->sorted[i]));
    }
    rows->is_batch_complete = true;
}

int rows_commit_write(struct rows *rows, struct error *error)
{
    ASSERT(rows->is_committing);
    const struct rows_generation *generation = rows__frozen(rows);
    if (!rows->is_batch_complete) {
        complete_batch(rows, generation);
    }
    return rows->store.ops->write(rows->store.context, rows->batch,
                                  rows->batch_range_count + generation->change_count, error);
}

enum {
    SHORTEN_COUNT_MAX = 4096, /* At once, of a batch; the others wait for rows_shorten(). */
    LEFT_COUNT_MIN = 1024,
    LEFT_COUNT_MAX = 1 << 18,
};

/* To be shortened later. If those are too many, it is done to all rows. */
static void leave_whole(struct rows *rows, const struct row *row)
{
    struct rows_left *left = &rows->left;
    if (left->count == LEFT_COUNT_MAX) {
        left->count = 0;
        left->done_count = 0;
        rows->shorten_count = rows->table.row_count;
    }
    if (left->count == left->capacity) {
        left->capacity = left->capacity == 0 ? LEFT_COUNT_MIN : 2 * left->capacity;
        left->hashes = memory_resize(left->hashes, left->capacity * sizeof left->hashes[0]);
    }
    left->hashes[left->count++] = row->hash;
}

static void settle_written(struct rows *rows, struct row *row, uint32_t *shorten_count)
{
    if (row->is_superseded) {
        memory_free(row);
        return;
    }
    uint64_t charge_bytes = rows__charge(row);
    row->generation = ROW_CLEAN;
    rows->clean_size_bytes += charge_bytes;
    if (!rows__is_worth_keeping(rows, charge_bytes)) {
        rows__drop(rows, row);
    } else if (rows__can_shorten(rows, row)) {
        if (*shorten_count < SHORTEN_COUNT_MAX) {
            rows__shorten(rows, rows__table_find(&rows->table, row->hash, row_key(row)));
            ++*shorten_count;
        } else {
            leave_whole(rows, row);
        }
    }
}

void rows_commit_end(struct rows *rows)
{
    ASSERT(rows->is_committing);
    struct rows_generation *generation = rows__frozen(rows);
    rows->changes_seen++;
    uint32_t shorten_count = 0;
    for (uint32_t i = 0; i < generation->change_count; i++) {
        if (i + PREFETCH_DISTANCE < generation->change_count) {
            __builtin_prefetch(generation->changes[i + PREFETCH_DISTANCE], 1);
        }
        if (rows->keeps_heads && i + PREFETCH_DISTANCE / 2 < generation->change_count) {
            rows__table_prefetch(&rows->table,
                                 generation->changes[i + PREFETCH_DISTANCE / 2]->hash);
        }
        settle_written(rows, generation->changes[i], &shorten_count);
    }
    rows__generation_clear(generation);
    rows->is_committing = false;
    rows->range_committed_count = rows->range_frozen_count;
    if (rows->range_committed_count > RANGE_COUNT_MAX) {
        rows__ranges_retire(rows);
    }
}

static int commit_frozen(struct rows *rows, struct error *error)
{
    int status = rows_commit_write(rows, error);
    if (status == 0) {
        rows_commit_end(rows);
    }
    return status;
}

int rows_commit(struct rows *rows, struct error *error)
{
    int status = rows->is_committing ? commit_frozen(rows, error) : 0;
    if (status == 0 && rows_commit_begin(rows)) {
        status = commit_frozen(rows, error);
    }
    if (status == 0) {
        rows__evict(rows);
    }
    return status;
}
