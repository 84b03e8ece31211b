/* SPDX-License-Identifier: Apache-2.0 */
/* A live view keeps one table of rows. A row in it is *clean* (equal to the store's, may be
 * evicted), *changed* (pinned, and listed in the open generation) or *frozen* (pinned, listed in the
 * generation that is being written, see rows_commit.c). The state machine changes a row as often as
 * it likes; the batch has one change for it, with its last state. A frozen row is not touched: a
 * change of it makes a new row, and the old one, superseded, leaves the table and lives on until its
 * batch is written.
 *
 * Deleted ranges. rows_delete_range() only appends the range to rows.ranges. Each row knows how
 * many ranges it has been held against (`ranges_seen`); one that lags is compared with those it
 * missed when it is next looked at, and becomes absent if one covers it, or superseded if it is
 * frozen. So a range costs nothing at once, and a hit costs one comparison of integers. After
 * RANGE_COUNT_MAX ranges one walk over the table brings every row up to date and the list starts
 * anew.
 *
 * A table that has every row of the store (I5) saves asking RocksDB for keys that do not exist, which
 * is what most writes of new keys begin with: 2 µs each.
 *
 * Heads. A replica that only executes writes needs of an old row no more than its first bytes. A row
 * that is written becomes short where heads are kept: a smaller row takes its place in the table, which
 * has the length of the whole value and room for the head. Only clean rows are short, so a batch is
 * always of whole ones.
 *
 * Eviction is a clock (Corbató 1968) with small counters in place of one bit, its hand walking the
 * hash table: no list to relink on a hit. A row enters with no heat, so a scan of cold rows passes
 * through without pushing hot ones out. A batch that is written leaves many clean rows at once; each
 * later call evicts a few. */
#include "core/rows/rows.h"

#include <string.h>

#include "base/assert/assert.h"
#include "base/hash/hash.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/rows/rows_internal.h"

#define HEAT_MAX 3
/* A row larger than this part of the cache is not kept. */
#define CACHE_SHARE 16
/* Slots that the eviction hand passes in one call. */
#define EVICTION_STEP_COUNT 32
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

uint64_t rows__charge_of(uint64_t key_size_bytes, uint64_t capacity_bytes)
{
    return round_up_to_malloc(offsetof(struct row, bytes) + key_size_bytes + capacity_bytes) +
           SLOT_SHARE_BYTES;
}

uint64_t rows__charge(const struct row *row)
{
    return rows__charge_of(row->key_size_bytes, row->capacity_bytes);
}

bool rows__is_worth_keeping(const struct rows *rows, uint64_t charge_bytes)
{
    return charge_bytes <= rows->cache_size_bytes / CACHE_SHARE;
}

struct row *rows__row_create(const struct rows *rows, uint64_t hash, struct bytes key,
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
    row->change_position = 0;
    row->ranges_seen = rows->range_count;
    row->heat = 0;
    row->is_needed = false;
    row->is_absent = false;
    row->generation = ROW_CLEAN;
    row->is_superseded = false;
    if (key.size_bytes > 0) {
        memcpy(row->bytes, key.data, key.size_bytes);
    }
    if (value.size_bytes > 0) {
        memcpy(row->bytes + key.size_bytes, value.data, value.size_bytes);
    }
    return row;
}

/* What malloc rounds up must not make room for a value that is short. */
_Static_assert(ROWS_WHOLE_SIZE_BYTES >= ROWS_HEAD_SIZE_BYTES + 16,
               "a head is shorter than a value");

static struct row *head_create(const struct rows *rows, uint64_t hash, struct bytes key,
                               struct bytes value)
{
    struct row *row =
        rows__row_create(rows, hash, key, bytes_make(value.data, ROWS_HEAD_SIZE_BYTES));
    row->value_size_bytes = (uint32_t)value.size_bytes;
    ASSERT(row_is_short(row));
    return row;
}

static uint64_t *account_of(struct rows *rows, const struct row *row)
{
    return row_is_changed(row) ? &rows->generations[row->generation - 1u].size_bytes
                               : &rows->clean_size_bytes;
}

static void account_add(struct rows *rows, const struct row *row)
{
    *account_of(rows, row) += rows__charge(row);
}

static void account_remove(struct rows *rows, const struct row *row)
{
    uint64_t *size_bytes = account_of(rows, row);
    ASSERT(*size_bytes >= rows__charge(row));
    *size_bytes -= rows__charge(row);
}

static void drop(struct rows *rows, struct rows_slot *slot)
{
    struct row *row = slot->row;
    ASSERT(!row_is_changed(row));
    if (!row->is_absent && !BUG("rows.complete_after_eviction")) {
        rows->is_complete = false;
    }
    account_remove(rows, row);
    rows__table_remove(&rows->table, slot);
    memory_free(row);
}

void rows__drop(struct rows *rows, struct row *row)
{
    drop(rows, rows__table_find(&rows->table, row->hash, row_key(row)));
}

/* A planted bug: forget an uncommitted change, as an eviction without regard for it would. */
static void lose_change(struct rows *rows, struct row *row)
{
    struct rows_generation *generation = rows__open(rows);
    account_remove(rows, row);
    struct row *last = generation->changes[--generation->change_count];
    generation->changes[row->change_position] = last;
    generation->ordered_count = 0;
    last->change_position = row->change_position;
    row->generation = ROW_CLEAN;
    account_add(rows, row);
}

/* Evict clean rows, but not `spare`, until they fit or the hand has passed so many slots. Every row
 * that is kept is a small part of the cache, so there is always another one to evict. */
static void evict(struct rows *rows, const struct row *spare, uint64_t step_count_max)
{
    for (uint64_t i = 0; i < step_count_max && rows->clean_size_bytes > rows->cache_size_bytes;
         i++) {
        struct rows_slot *slot = rows__table_sweep(&rows->table);
        if (BUG("rows.eviction_loses_change") && row_is_changed(slot->row) &&
            !rows__is_frozen(rows, slot->row)) {
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
        rows->statistics.evicted_count++;
    }
}

static void replace(struct rows *rows, struct rows_slot *slot, struct row *row);

void rows__keep(struct rows *rows, struct row *row)
{
    struct rows_slot *slot = rows__table_find(&rows->table, row->hash, row_key(row));
    if (slot != NULL) {
        ASSERT(row_is_short(slot->row) && !row_is_changed(slot->row));
        replace(rows, slot, row);
    } else {
        rows__table_insert(&rows->table, row);
        account_add(rows, row);
    }
    evict(rows, row, EVICTION_STEP_COUNT);
}

void rows__evict(struct rows *rows)
{
    evict(rows, NULL, UINT64_MAX);
}

/* ---- Ranges ---------------------------------------------------------------------------------- */

static bool range_covers(const struct rows_range *range, struct bytes key)
{
    return bytes_compare(buffer_bytes(&range->lower), key) <= 0 &&
           bytes_compare(key, buffer_bytes(&range->upper)) < 0;
}

static bool was_deleted(const struct rows *rows, const struct row *row)
{
    for (uint32_t i = row->ranges_seen; i < rows->range_count; i++) {
        if (range_covers(&rows->ranges[i], row_key(row)) && !BUG("rows.stale_after_range_delete")) {
            return true;
        }
    }
    return false;
}

void rows__settle(const struct rows *rows, struct row *row)
{
    ASSERT(!rows__is_frozen(rows, row));
    if (was_deleted(rows, row)) {
        row->is_absent = true;
        row->value_size_bytes = 0;
    }
    row->ranges_seen = rows->range_count;
}

bool rows__is_hidden(const struct rows *rows, struct row *row)
{
    if (rows__is_frozen(rows, row)) {
        return row->is_superseded || was_deleted(rows, row);
    }
    rows__settle(rows, row);
    return false;
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

static void ranges_free(struct rows *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        buffer_deinit(&rows->ranges[i].lower);
        buffer_deinit(&rows->ranges[i].upper);
    }
}

/* Hold every row against all ranges, so that those of the store are not needed any more. */
void rows__ranges_retire(struct rows *rows)
{
    PROBE("rows.ranges.retired");
    uint32_t kept_count = rows->range_count - rows->range_committed_count;
    uint64_t position = 0;
    for (struct row *row = rows__table_next(&rows->table, &position); row != NULL;
         row = rows__table_next(&rows->table, &position)) {
        rows__settle(rows, row);
        row->ranges_seen = kept_count;
    }
    ranges_free(rows, rows->range_committed_count);
    if (kept_count > 0) {
        memmove(rows->ranges, rows->ranges + rows->range_committed_count,
                kept_count * sizeof rows->ranges[0]);
    }
    rows->range_count = kept_count;
    rows->range_committed_count = 0;
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

/* The row leaves the table, which has another in its place or none; its batch keeps it. */
static void supersede(struct rows *rows, struct row *row)
{
    ASSERT(rows__is_frozen(rows, row) && !row->is_superseded);
    row->is_superseded = true;
}

static struct rows_slot *find(struct rows *rows, uint64_t hash, struct bytes key)
{
    struct rows_slot *slot = rows__table_find(&rows->table, hash, key);
    if (slot == NULL || slot->row->ranges_seen == rows->range_count) {
        return slot;
    }
    struct row *row = slot->row;
    if (!rows__is_frozen(rows, row)) {
        rows__settle(rows, row);
    } else if (was_deleted(rows, row)) {
        PROBE("rows.frozen_row_deleted");
        rows__table_remove(&rows->table, slot);
        supersede(rows, row);
        return NULL;
    } else {
        row->ranges_seen = rows->range_count;
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
    bool is_disk_sure =
        rows->snapshot != NULL || (rows->is_disk_expected && rows->tier == ENV_TIER_DISK);
    if (!is_disk_sure) {
        int status = store->ops->get(store->context, NULL, ENV_TIER_MEMORY, key, &rows->scratch);
        if (status != ERROR_INCOMPLETE || rows->tier == ENV_TIER_MEMORY) {
            return status;
        }
        rows->statistics.blocking_read_count++;
        buffer_clear(&rows->scratch);
    }
    return store->ops->get(store->context, rows->snapshot, ENV_TIER_DISK, key, &rows->scratch);
}

/* A row for what was read: whole, or its head if that is all that is kept here. */
static struct row *row_of_read(const struct rows *rows, uint64_t hash, struct bytes key,
                               struct bytes value, bool is_head_enough)
{
    if (rows->keeps_heads && is_head_enough && value.size_bytes > ROWS_WHOLE_SIZE_BYTES) {
        return head_create(rows, hash, key, value);
    }
    struct row *row = rows__row_create(rows, hash, key, value);
    row->is_needed = rows->keeps_heads && !is_head_enough;
    return row;
}

/* Read a row that is not in the table, and keep it. */
static int get_missing(struct rows *rows, uint64_t hash, struct bytes key, bool is_head_enough,
                       struct bytes *value)
{
    if (rows->is_complete) {
        rows->statistics.hit_count++;
        return -ENOENT;
    }
    if (rows->fetch != NULL && rows__range_over(rows, key) == NULL) {
        rows__fetch_note(rows->fetch, hash, key);
        return ERROR_INCOMPLETE;
    }
    rows->statistics.miss_count++;
    if (rows__range_over(rows, key) != NULL) {
        return -ENOENT;
    }
    int status = read_store(rows, key);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    struct bytes read = status == 0 ? buffer_bytes(&rows->scratch) : (struct bytes){0};
    if (rows__is_worth_keeping(rows, rows__charge_of(key.size_bytes, read.size_bytes))) {
        struct row *row = row_of_read(rows, hash, key, read, is_head_enough);
        row->is_absent = status == -ENOENT;
        rows__keep(rows, row);
    } else {
        rows->statistics.evicted_count++;
    }
    if (status == 0) {
        *value = read;
    }
    return status;
}

/* More than the head of a short row is wanted: the store has it, and nothing newer is here. */
static int get_whole(struct rows *rows, struct row *row, struct bytes *value)
{
    if (BUG("rows.head_for_value")) {
        *value = row_head(row);
        return 0;
    }
    if (rows->fetch != NULL) {
        rows__fetch_note(rows->fetch, row->hash, row_key(row));
        return ERROR_INCOMPLETE;
    }
    rows->statistics.miss_count++;
    int status = read_store(rows, row_key(row));
    if (status != 0) {
        return status == -ENOENT ? ERROR_CORRUPT : status;
    }
    *value = buffer_bytes(&rows->scratch);
    if (value->size_bytes != row->value_size_bytes) {
        return ERROR_CORRUPT;
    }
    PROBE("rows.short_row_read");
    if (rows__is_worth_keeping(rows, rows__charge_of(row->key_size_bytes, value->size_bytes))) {
        rows__keep(rows, row_of_read(rows, row->hash, row_key(row), *value, false));
    }
    return 0;
}

static int get(struct rows *rows, struct bytes key, bool is_head_enough, struct bytes *value)
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
        return get_missing(rows, hash, key, is_head_enough, value);
    }
    struct row *row = slot->row;
    if (row->heat < HEAT_MAX) {
        row->heat++;
    }
    if (!is_head_enough && row_is_short(row)) {
        return get_whole(rows, row, value);
    }
    rows->statistics.hit_count++;
    if (row->is_absent) {
        return -ENOENT;
    }
    row->is_needed |= rows->keeps_heads && !is_head_enough;
    *value = row_head(row);
    return 0;
}

int rows_get(struct rows *rows, struct bytes key, struct bytes *value)
{
    return get(rows, key, false, value);
}

int rows_get_head(struct rows *rows, struct bytes key, struct bytes *head)
{
    return get(rows, key, true, head);
}

uint64_t rows_approach(const struct rows *rows, struct bytes key)
{
    uint64_t hash = hash_bytes(key, 0);
    rows__table_prefetch(&rows->table, hash);
    return hash;
}

void rows_approach_row(const struct rows *rows, uint64_t approach)
{
    rows__table_prefetch_row(&rows->table, approach);
}

bool rows_is_complete(const struct rows *rows)
{
    return rows->snapshot == NULL && rows->is_complete;
}

/* ---- Changing -------------------------------------------------------------------------------- */

static void note_change(struct rows *rows, struct row *row)
{
    if (row_is_changed(row)) {
        return;
    }
    account_remove(rows, row);
    row->generation = (uint8_t)(1u + rows->open);
    rows__generation_add(rows__open(rows), row);
    account_add(rows, row);
}

/* Give the slot another row of the same key. */
static void replace(struct rows *rows, struct rows_slot *slot, struct row *row)
{
    struct row *old = slot->row;
    row->heat = old->heat;
    row->is_needed |= old->is_needed;
    slot->row = row;
    if (rows__is_frozen(rows, old)) {
        PROBE("rows.frozen_row_changed");
        supersede(rows, old);
        account_add(rows, row);
        return;
    }
    row->change_position = old->change_position;
    row->generation = old->generation;
    if (row_is_changed(row)) {
        rows__open(rows)->changes[row->change_position] = row;
    }
    account_remove(rows, old);
    account_add(rows, row);
    memory_free(old);
}

bool rows__can_shorten(const struct rows *rows, const struct row *row)
{
    return rows->keeps_heads && !row->is_needed && !row_is_short(row) &&
           row->value_size_bytes > ROWS_WHOLE_SIZE_BYTES;
}

void rows__shorten(struct rows *rows, struct rows_slot *slot)
{
    const struct row *row = slot->row;
    ASSERT(!row_is_changed(row) && !row->is_absent); /* I6 */
    struct row *head = head_create(rows, row->hash, row_key(row), row_value(row));
    if (!BUG("rows.head_passes_ranges")) {
        head->ranges_seen = row->ranges_seen; /* Some may have been deleted since it was frozen. */
    }
    replace(rows, slot, head);
}

/* May the value go where the old one is, without wasting much? */
static bool fits(const struct rows *rows, const struct row *row, size_t size_bytes)
{
    if (rows__is_frozen(rows, row) && !BUG("rows.frozen_row_changed")) {
        return false;
    }
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
    if (slot != NULL && fits(rows, slot->row, value.size_bytes)) {
        row = slot->row;
        if (value.size_bytes > 0) {
            memmove(row->bytes + row->key_size_bytes, value.data, value.size_bytes);
        }
        row->value_size_bytes = (uint32_t)value.size_bytes;
        row->ranges_seen = rows->range_count;
    } else {
        row = rows__row_create(rows, hash, key, value);
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
    evict(rows, NULL, EVICTION_STEP_COUNT);
}

void rows_put(struct rows *rows, struct bytes key, struct bytes value)
{
    change(rows, key, value, false);
}

void rows_delete(struct rows *rows, struct bytes key)
{
    change(rows, key, (struct bytes){0}, true);
}

uint64_t rows_digest(const struct rows *rows)
{
    return rows->digest;
}

void rows_set_digest(struct rows *rows, uint64_t digest)
{
    rows->digest = digest;
}

/* ---- The view -------------------------------------------------------------------------------- */

static bool is_empty(struct env_store store)
{
    const struct bytes nothing = {0};
    struct env_iterator *iterator;
    if (store.ops->iterator_open(store.context, NULL, ENV_TIER_DISK, nothing, nothing, &iterator) !=
        0) {
        return false;
    }
    int status = store.ops->iterator_seek(store.context, iterator, nothing);
    store.ops->iterator_close(store.context, iterator);
    return status == -ENOENT;
}

struct rows *rows_create(struct env_store store, uint64_t cache_size_bytes)
{
    struct rows *rows = memory_allocate_zeroed(1, sizeof *rows);
    rows->store = store;
    rows->tier = ENV_TIER_DISK;
    rows->cache_size_bytes = cache_size_bytes;
    rows->is_complete = is_empty(store);
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

bool rows_is_live(const struct rows *rows)
{
    return rows->snapshot == NULL;
}

static void rows_free(struct rows *rows)
{
    struct rows_generation *frozen = rows__frozen(rows);
    for (uint32_t i = 0; i < frozen->change_count; i++) {
        if (frozen->changes[i]->is_superseded) {
            memory_free(frozen->changes[i]);
        }
    }
    uint64_t position = 0;
    for (struct row *row = rows__table_next(&rows->table, &position); row != NULL;
         row = rows__table_next(&rows->table, &position)) {
        memory_free(row);
    }
}

void rows_destroy(struct rows *rows)
{
    if (rows->snapshot == NULL) {
        rows_free(rows);
        rows__table_deinit(&rows->table);
    }
    ranges_free(rows, rows->range_count);
    rows__generation_deinit(&rows->generations[0]);
    rows__generation_deinit(&rows->generations[1]);
    memory_free(rows->ranges);
    memory_free(rows->batch);
    memory_free(rows->sorted);
    memory_free(rows->left.hashes);
    buffer_deinit(&rows->scratch);
    memory_free(rows);
}

void rows_set_tier(struct rows *rows, enum env_tier tier)
{
    ASSERT(rows->snapshot == NULL);
    rows->tier = tier;
}

void rows_expect_disk(struct rows *rows, bool is_expected)
{
    ASSERT(rows->snapshot == NULL);
    rows->is_disk_expected = is_expected;
}

void rows_set_cache_size(struct rows *rows, uint64_t cache_size_bytes)
{
    ASSERT(rows->snapshot == NULL);
    rows->changes_seen++;
    rows->cache_size_bytes = cache_size_bytes;
    evict(rows, NULL, EVICTION_STEP_COUNT);
}

bool rows_trim(struct rows *rows, uint64_t step_count_max)
{
    ASSERT(rows->snapshot == NULL);
    rows->changes_seen++;
    evict(rows, NULL, step_count_max);
    return rows->clean_size_bytes > rows->cache_size_bytes;
}

void rows_keep_heads(struct rows *rows, bool are_wanted)
{
    ASSERT(rows->snapshot == NULL);
    if (rows->keeps_heads != are_wanted) {
        rows->keeps_heads = are_wanted;
        rows->shorten_count = are_wanted ? rows->table.row_count : 0;
        rows->left.count = 0;
        rows->left.done_count = 0;
    }
}

/* Those that the batches left whole. Returns how many steps are left to do. */
static uint64_t shorten_left(struct rows *rows, uint64_t step_count_max)
{
    struct rows_left *left = &rows->left;
    for (; step_count_max > 0 && left->done_count < left->count; step_count_max--) {
        struct rows_slot *slot =
            rows__table_find_hash(&rows->table, left->hashes[left->done_count++]);
        if (slot != NULL && !row_is_changed(slot->row) && rows__can_shorten(rows, slot->row)) {
            rows__shorten(rows, slot);
        }
    }
    if (left->done_count == left->count) {
        memory_free(left->hashes);
        *left = (struct rows_left){0};
    }
    return step_count_max;
}

bool rows_shorten(struct rows *rows, uint64_t step_count_max)
{
    ASSERT(rows->snapshot == NULL);
    if (rows->shorten_count == 0 && rows->left.count == 0) {
        return false;
    }
    rows->changes_seen++;
    step_count_max = shorten_left(rows, step_count_max);
    for (; step_count_max > 0 && rows->shorten_count > 0 && rows->table.row_count > 0;
         step_count_max--, rows->shorten_count--) {
        struct rows_slot *slot = rows__table_sweep(&rows->table);
        if (row_is_changed(slot->row)) {
            continue; /* Once it is written. */
        }
        slot->row->is_needed = false;
        if (rows__can_shorten(rows, slot->row)) {
            rows__shorten(rows, slot);
        }
    }
    return rows->left.count > 0 || (rows->shorten_count > 0 && rows->table.row_count > 0);
}

void rows_get_statistics(const struct rows *rows, struct rows_statistics *statistics)
{
    *statistics = rows->statistics;
    statistics->is_complete = rows->is_complete;
    statistics->cached_row_count = rows->table.row_count;
    statistics->cached_size_bytes =
        rows->clean_size_bytes + rows->generations[0].size_bytes + rows->generations[1].size_bytes;
}
