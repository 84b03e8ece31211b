/* SPDX-License-Identifier: Apache-2.0 */
/* A live view keeps one table of rows. A row in it is *clean* (equal to the store's, may be
 * evicted) or *changed* (uncommitted, pinned, and listed in rows.changes). The state machine
 * changes a row as often as it likes; the batch has one change for it, with its last state.
 *
 * Deleted ranges. rows_delete_range() only appends the range to rows.ranges. Each row knows how
 * many ranges it has been held against (`ranges_seen`); one that lags is compared with those it
 * missed when it is next looked at, and becomes absent if one covers it. So a range costs nothing
 * at once, and a hit costs one comparison of integers. After RANGE_COUNT_MAX ranges one walk over
 * the table brings every row up to date and the list starts anew.
 *
 * The batch is: all uncommitted ranges, then every changed row with its last state. That is right
 * for any order of calls: a row put before its range was deleted is absent by then and goes as a
 * delete, one put afterwards goes as a put, and a row that was not changed is under the range only.
 *
 * Eviction is a clock (Corbató 1968) with small counters in place of one bit, its hand walking the
 * hash table: no list to relink on a hit. A row enters with no heat, so a scan of cold rows passes
 * through without pushing hot ones out. */
#include "core/rows/rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/hash/hash.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/rows/rows_internal.h"

#define HEAT_MAX 3
/* A row larger than this part of the cache is not kept. */
#define CACHE_SHARE 16
#define RANGE_COUNT_MAX 64
#define SCRATCH_KEPT_BYTES (64 * 1024)
/* A row keeps room that a smaller value leaves, up to so many bytes; beyond, it is made anew. */
#define SLACK_BYTES_MAX 256
/* Per row, besides its allocation: malloc's header, and slots at the average load of the table. */
#define MALLOC_HEADER_BYTES 8
#define SLOT_SHARE_BYTES (2 * sizeof(struct rows_slot))

/* ---- Rows and their account ------------------------------------------------------------------ */

static uint64_t round_up_to_malloc(uint64_t size_bytes)
{
    return (size_bytes + MALLOC_HEADER_BYTES + 15) / 16 * 16;
}

static uint64_t charge_of(uint64_t key_size_bytes, uint64_t capacity_bytes)
{
    return round_up_to_malloc(offsetof(struct row, bytes) + key_size_bytes + capacity_bytes) +
           SLOT_SHARE_BYTES;
}

static uint64_t row_charge(const struct row *row)
{
    return charge_of(row->key_size_bytes, row->capacity_bytes);
}

static bool is_worth_keeping(const struct rows *rows, uint64_t charge_bytes)
{
    return charge_bytes <= rows->cache_size_bytes / CACHE_SHARE;
}

static struct row *row_create(const struct rows *rows, uint64_t hash, struct bytes key,
                              struct bytes value)
{
    /* What malloc would waste becomes room for the value to grow into. */
    uint64_t needed_bytes = offsetof(struct row, bytes) + key.size_bytes + value.size_bytes;
    uint64_t size_bytes = round_up_to_malloc(needed_bytes) - MALLOC_HEADER_BYTES;
    ASSERT(size_bytes < UINT32_MAX);
    struct row *row = memory_allocate(size_bytes);
    row->hash = hash;
    row->key_size_bytes = (uint32_t)key.size_bytes;
    row->value_size_bytes = (uint32_t)value.size_bytes;
    row->capacity_bytes = (uint32_t)(size_bytes - offsetof(struct row, bytes) - key.size_bytes);
    row->change_position = ROW_UNCHANGED;
    row->ranges_seen = rows->range_count;
    row->heat = 0;
    row->is_absent = false;
    if (key.size_bytes > 0) {
        memcpy(row->bytes, key.data, key.size_bytes);
    }
    if (value.size_bytes > 0) {
        memcpy(row->bytes + key.size_bytes, value.data, value.size_bytes);
    }
    return row;
}

static void account_add(struct rows *rows, const struct row *row)
{
    if (row_is_changed(row)) {
        rows->changed_size_bytes += row_charge(row);
    } else {
        rows->clean_size_bytes += row_charge(row);
    }
}

static void account_remove(struct rows *rows, const struct row *row)
{
    uint64_t *size_bytes =
        row_is_changed(row) ? &rows->changed_size_bytes : &rows->clean_size_bytes;
    ASSERT(*size_bytes >= row_charge(row));
    *size_bytes -= row_charge(row);
}

static void drop(struct rows *rows, struct rows_slot *slot)
{
    struct row *row = slot->row;
    account_remove(rows, row);
    rows__table_remove(&rows->table, slot);
    memory_free(row);
}

/* A planted bug: forget an uncommitted change, as an eviction without regard for it would. */
static void lose_change(struct rows *rows, struct row *row)
{
    account_remove(rows, row);
    struct row *last = rows->changes[--rows->change_count];
    rows->changes[row->change_position] = last;
    last->change_position = row->change_position;
    row->change_position = ROW_UNCHANGED;
    account_add(rows, row);
}

/* Evict clean rows, but not `spare`, until they fit. Every row that is kept is a small part of the
 * cache, so there is always another one to evict. */
static void evict(struct rows *rows, const struct row *spare)
{
    while (rows->clean_size_bytes > rows->cache_size_bytes) {
        struct rows_slot *slot = rows__table_sweep(&rows->table);
        if (BUG("rows.eviction_loses_change") && row_is_changed(slot->row)) {
            lose_change(rows, slot->row);
        }
        if (slot->row == spare || row_is_changed(slot->row)) {
            continue;
        }
        if (slot->row->heat > 0) {
            slot->row->heat--;
            continue;
        }
        drop(rows, slot);
    }
}

/* ---- Ranges ---------------------------------------------------------------------------------- */

static bool range_covers(const struct rows_range *range, struct bytes key)
{
    return bytes_compare(buffer_bytes(&range->lower), key) <= 0 &&
           bytes_compare(key, buffer_bytes(&range->upper)) < 0;
}

void rows__settle(const struct rows *rows, struct row *row)
{
    for (uint32_t i = row->ranges_seen; i < rows->range_count; i++) {
        if (range_covers(&rows->ranges[i], row_key(row)) && !BUG("rows.stale_after_range_delete")) {
            row->is_absent = true;
            row->value_size_bytes = 0;
            break;
        }
    }
    row->ranges_seen = rows->range_count;
}

const struct rows_range *rows__range_over(const struct rows *rows, struct bytes key)
{
    for (uint32_t i = rows->range_count; i-- > rows->range_committed_count;) {
        if (range_covers(&rows->ranges[i], key)) {
            return &rows->ranges[i];
        }
    }
    return NULL;
}

static void ranges_free(struct rows *rows)
{
    for (uint32_t i = 0; i < rows->range_count; i++) {
        buffer_deinit(&rows->ranges[i].lower);
        buffer_deinit(&rows->ranges[i].upper);
    }
    rows->range_count = 0;
    rows->range_committed_count = 0;
}

/* Hold every row against all ranges, so that the list can start anew. */
static void ranges_retire(struct rows *rows)
{
    PROBE("rows.ranges.retired");
    uint64_t position = 0;
    for (struct row *row = rows__table_next(&rows->table, &position); row != NULL;
         row = rows__table_next(&rows->table, &position)) {
        rows__settle(rows, row);
        row->ranges_seen = 0;
    }
    ranges_free(rows);
}

static void chain_digest(struct rows *rows, enum env_change_kind kind, struct bytes key,
                         struct bytes value)
{
    uint64_t digest = hash_bytes(key, rows->digest + (uint64_t)kind);
    rows->digest = hash_bytes(value, digest);
}

void rows_delete_range(struct rows *rows, struct bytes lower, struct bytes upper)
{
    ASSERT(rows->snapshot == NULL);
    rows->changes_seen++;
    if (bytes_compare(lower, upper) >= 0) {
        return;
    }
    chain_digest(rows, ENV_CHANGE_DELETE_RANGE, lower, upper);
    if (rows->range_count == rows->range_capacity) {
        ASSERT(rows->range_capacity < UINT32_MAX / 2);
        rows->range_capacity = rows->range_capacity == 0 ? 8 : 2 * rows->range_capacity;
        rows->ranges = memory_resize(rows->ranges, rows->range_capacity * sizeof rows->ranges[0]);
    }
    struct rows_range *range = &rows->ranges[rows->range_count];
    *range = (struct rows_range){0};
    buffer_append(&range->lower, lower);
    buffer_append(&range->upper, upper);
    rows->range_count++;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static struct rows_slot *find(const struct rows *rows, uint64_t hash, struct bytes key)
{
    struct rows_slot *slot = rows__table_find(&rows->table, hash, key);
    if (slot != NULL && slot->row->ranges_seen != rows->range_count) {
        rows__settle(rows, slot->row);
    }
    return slot;
}

/* Read the store into `scratch`. A live view asks the memory first even where it may block, so that
 * reads which do block are known. */
static int read_store(struct rows *rows, struct bytes key)
{
    buffer_clear(&rows->scratch);
    buffer_trim(&rows->scratch, SCRATCH_KEPT_BYTES);
    const struct env_store *store = &rows->store;
    if (rows->snapshot == NULL) {
        int status = store->ops->get(store->context, NULL, ENV_TIER_MEMORY, key, &rows->scratch);
        if (status != ERROR_INCOMPLETE || rows->tier == ENV_TIER_MEMORY) {
            return status;
        }
        rows->statistics.blocking_read_count++;
        buffer_clear(&rows->scratch);
    }
    return store->ops->get(store->context, rows->snapshot, ENV_TIER_DISK, key, &rows->scratch);
}

/* Read a row that is not in the table, and keep it. */
static int get_missing(struct rows *rows, uint64_t hash, struct bytes key, struct bytes *value)
{
    rows->statistics.miss_count++;
    if (rows__range_over(rows, key) != NULL) {
        return -ENOENT;
    }
    int status = read_store(rows, key);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    struct bytes read = status == 0 ? buffer_bytes(&rows->scratch) : (struct bytes){0};
    if (is_worth_keeping(rows, charge_of(key.size_bytes, read.size_bytes))) {
        struct row *row = row_create(rows, hash, key, read);
        row->is_absent = status == -ENOENT;
        rows__table_insert(&rows->table, row);
        account_add(rows, row);
        evict(rows, row);
        read = row_value(row);
    }
    if (status == 0) {
        *value = read;
    }
    return status;
}

int rows_get(struct rows *rows, struct bytes key, struct bytes *value)
{
    if (rows->snapshot != NULL) {
        int status = read_store(rows, key);
        if (status == 0) {
            *value = buffer_bytes(&rows->scratch);
        }
        return status;
    }
    uint64_t hash = hash_bytes(key, 0);
    struct rows_slot *slot = find(rows, hash, key);
    if (slot == NULL) {
        return get_missing(rows, hash, key, value);
    }
    rows->statistics.hit_count++;
    struct row *row = slot->row;
    if (row->heat < HEAT_MAX) {
        row->heat++;
    }
    if (row->is_absent) {
        return -ENOENT;
    }
    *value = row_value(row);
    return 0;
}

/* ---- Changing -------------------------------------------------------------------------------- */

static void note_change(struct rows *rows, struct row *row)
{
    if (row_is_changed(row)) {
        return;
    }
    if (rows->change_count == rows->change_capacity) {
        ASSERT(rows->change_capacity < UINT32_MAX / 2);
        rows->change_capacity = rows->change_capacity == 0 ? 64 : 2 * rows->change_capacity;
        rows->changes = memory_resize(rows->changes, rows->change_capacity * sizeof(struct row *));
    }
    account_remove(rows, row);
    row->change_position = rows->change_count;
    rows->changes[rows->change_count++] = row;
    account_add(rows, row);
}

/* Give the slot another row of the same key. */
static void replace(struct rows *rows, struct rows_slot *slot, struct row *row)
{
    struct row *old = slot->row;
    row->heat = old->heat;
    row->change_position = old->change_position;
    if (row_is_changed(row)) {
        rows->changes[row->change_position] = row;
    }
    account_remove(rows, old);
    account_add(rows, row);
    slot->row = row;
    memory_free(old);
}

/* Does the value go where the old one is, without wasting much? */
static bool fits(const struct row *row, size_t size_bytes)
{
    return size_bytes <= row->capacity_bytes &&
           row->capacity_bytes - size_bytes <= SLACK_BYTES_MAX + size_bytes;
}

/* `key` and `value` may lie in rows of the table: nothing is freed or moved before it is copied. */
static void change(struct rows *rows, struct bytes key, struct bytes value, bool is_absent)
{
    ASSERT(rows->snapshot == NULL);
    rows->changes_seen++;
    chain_digest(rows, is_absent ? ENV_CHANGE_DELETE : ENV_CHANGE_PUT, key, value);
    uint64_t hash = hash_bytes(key, 0);
    struct rows_slot *slot = rows__table_find(&rows->table, hash, key);
    struct row *row;
    if (slot != NULL && fits(slot->row, value.size_bytes)) {
        row = slot->row;
        if (value.size_bytes > 0) {
            memmove(row->bytes + row->key_size_bytes, value.data, value.size_bytes);
        }
        row->value_size_bytes = (uint32_t)value.size_bytes;
        row->ranges_seen = rows->range_count;
    } else {
        row = row_create(rows, hash, key, value);
        if (slot != NULL) {
            replace(rows, slot, row);
        } else {
            rows__table_insert(&rows->table, row);
            account_add(rows, row);
        }
    }
    row->is_absent = is_absent;
    row->heat = row->heat == 0 ? 1 : row->heat;
    note_change(rows, row);
    evict(rows, NULL);
}

void rows_put(struct rows *rows, struct bytes key, struct bytes value)
{
    change(rows, key, value, false);
}

void rows_delete(struct rows *rows, struct bytes key)
{
    change(rows, key, (struct bytes){0}, true);
}

/* ---- Committing ------------------------------------------------------------------------------ */

/* What is to be written: uncommitted range `i`, or after those, changed row. */
static struct env_change change_at(const struct rows *rows, uint32_t i)
{
    uint32_t range_count = rows->range_count - rows->range_committed_count;
    if (i < range_count) {
        const struct rows_range *range = &rows->ranges[rows->range_committed_count + i];
        return (struct env_change){.kind = ENV_CHANGE_DELETE_RANGE,
                                   .key = buffer_bytes(&range->lower),
                                   .value = buffer_bytes(&range->upper)};
    }
    struct row *row = rows->changes[i - range_count];
    rows__settle(rows, row);
    return (struct env_change){.kind = row->is_absent ? ENV_CHANGE_DELETE : ENV_CHANGE_PUT,
                               .key = row_key(row),
                               .value = row_value(row)};
}

static uint32_t uncommitted_count(const struct rows *rows)
{
    return rows->range_count - rows->range_committed_count + rows->change_count;
}

/* The store has everything: changed rows become clean ones. */
static void changes_settle(struct rows *rows)
{
    for (uint32_t i = 0; i < rows->change_count; i++) {
        struct row *row = rows->changes[i];
        account_remove(rows, row);
        row->change_position = ROW_UNCHANGED;
        account_add(rows, row);
        if (!is_worth_keeping(rows, row_charge(row))) {
            drop(rows, rows__table_find(&rows->table, row->hash, row_key(row)));
        }
    }
    rows->change_count = 0;
    rows->range_committed_count = rows->range_count;
    if (rows->range_count > RANGE_COUNT_MAX) {
        ranges_retire(rows);
    }
    evict(rows, NULL);
}

static int compare_sorted(const void *left, const void *right)
{
    const struct rows_sorted *left_row = left;
    const struct rows_sorted *right_row = right;
    if (left_row->prefix != right_row->prefix) {
        return left_row->prefix < right_row->prefix ? -1 : 1;
    }
    return bytes_compare(row_key(left_row->row), row_key(right_row->row));
}

/* The store inserts rows that come in order at half the cost, because neighbours are near each
 * other in its memory. Most comparisons are of the first bytes behind the space, without looking at
 * the row. */
static void sort_changes(struct rows *rows)
{
    for (uint32_t i = 0; i < rows->change_count; i++) {
        struct bytes key = row_key(rows->changes[i]);
        uint8_t prefix[sizeof(uint64_t)] = {0};
        memcpy(prefix, key.data, key.size_bytes < sizeof prefix ? key.size_bytes : sizeof prefix);
        rows->sorted[i] =
            (struct rows_sorted){.prefix = endian_get_u64_be(prefix), .row = rows->changes[i]};
    }
    qsort(rows->sorted, rows->change_count, sizeof rows->sorted[0], compare_sorted);
    for (uint32_t i = 0; i < rows->change_count; i++) {
        rows->changes[i] = rows->sorted[i].row;
        rows->changes[i]->change_position = i;
    }
}

int rows_commit(struct rows *rows, struct error *error)
{
    ASSERT(rows->snapshot == NULL);
    uint32_t count = uncommitted_count(rows);
    if (count == 0) {
        return 0;
    }
    if (count > rows->batch_capacity) {
        rows->batch_capacity = 2 * count;
        rows->batch = memory_resize(rows->batch, rows->batch_capacity * sizeof rows->batch[0]);
        rows->sorted = memory_resize(rows->sorted, rows->batch_capacity * sizeof rows->sorted[0]);
    }
    sort_changes(rows);
    for (uint32_t i = 0; i < count; i++) {
        rows->batch[i] = change_at(rows, i);
    }
    int status = rows->store.ops->write(rows->store.context, rows->batch, count, error);
    if (status != 0) {
        return status;
    }
    rows->changes_seen++;
    rows->is_commit_wanted = false;
    changes_settle(rows);
    ASSERT(rows->changed_size_bytes == 0);
    return 0;
}

uint64_t rows_digest(const struct rows *rows)
{
    return rows->digest;
}

void rows_set_digest(struct rows *rows, uint64_t digest)
{
    rows->digest = digest;
}

bool rows_is_commit_wanted(const struct rows *rows)
{
    return rows->is_commit_wanted;
}

uint32_t rows_change_count(const struct rows *rows)
{
    return uncommitted_count(rows);
}

uint64_t rows_change_size_bytes(const struct rows *rows)
{
    return rows->changed_size_bytes;
}

/* ---- The view -------------------------------------------------------------------------------- */

struct rows *rows_create(struct env_store store, uint64_t cache_size_bytes)
{
    struct rows *rows = memory_allocate_zeroed(1, sizeof *rows);
    rows->store = store;
    rows->tier = ENV_TIER_DISK;
    rows->cache_size_bytes = cache_size_bytes;
    rows__table_init(&rows->table);
    return rows;
}

struct rows *rows_create_at(struct env_store store, const struct env_store_snapshot *snapshot)
{
    ASSERT(snapshot != NULL);
    struct rows *rows = memory_allocate_zeroed(1, sizeof *rows);
    rows->store = store;
    rows->snapshot = snapshot;
    rows->tier = ENV_TIER_DISK;
    return rows;
}

void rows_destroy(struct rows *rows)
{
    if (rows->snapshot == NULL) {
        uint64_t position = 0;
        for (struct row *row = rows__table_next(&rows->table, &position); row != NULL;
             row = rows__table_next(&rows->table, &position)) {
            memory_free(row);
        }
        rows__table_deinit(&rows->table);
    }
    ranges_free(rows);
    memory_free(rows->ranges);
    memory_free(rows->changes);
    memory_free(rows->batch);
    memory_free(rows->sorted);
    buffer_deinit(&rows->scratch);
    memory_free(rows);
}

void rows_set_tier(struct rows *rows, enum env_tier tier)
{
    ASSERT(rows->snapshot == NULL);
    rows->tier = tier;
}

void rows_set_cache_size(struct rows *rows, uint64_t cache_size_bytes)
{
    ASSERT(rows->snapshot == NULL);
    rows->changes_seen++;
    rows->cache_size_bytes = cache_size_bytes;
    evict(rows, NULL);
}

void rows_get_statistics(const struct rows *rows, struct rows_statistics *statistics)
{
    *statistics = rows->statistics;
    statistics->cached_row_count = rows->table.row_count;
    statistics->cached_size_bytes = rows->clean_size_bytes + rows->changed_size_bytes;
}
