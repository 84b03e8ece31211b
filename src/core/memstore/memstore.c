/* SPDX-License-Identifier: Apache-2.0 */
/* A skip list of rows (Pugh 1990); each row has a chain of versions, newest first, and a version
 * carries the number of the batch that wrote it. A view at batch n sees of each row the newest
 * version up to n. A version is kept while some view can see it: the present, the last flush, a
 * snapshot, an iterator. Rows written since the last flush are in a list, so that flushing and
 * losing cost what was changed and not what is stored. */
#include "core/memstore/memstore.h"

#include <string.h>

#include "base/assert/assert.h"
#include "base/hash/hash.h"
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "base/random/random.h"
#include "base/trace/trace.h"

#define HEIGHT_MAX 16

struct version {
    struct version *older;
    uint64_t batch;
    bool is_absent;
    size_t value_size_bytes;
    uint8_t value[];
};

struct memrow {
    struct list unsettled; /* In memstore.unsettled while it may hold versions that can go. */
    struct version *newest;
    size_t key_size_bytes;
    uint32_t height;
    struct memrow *next[]; /* `height` of them; the key follows. */
};

/* A batch number that is still looked at: a snapshot, or part of an iterator. */
struct view {
    struct list member;
    uint64_t batch;
};

struct env_store_snapshot {
    struct view view;
};

struct env_iterator {
    struct view view;
    struct memstore *memstore;
    enum env_tier tier;
    struct buffer lower;
    struct buffer upper;
    struct buffer key; /* Of the row it is at; a copy, because the row may go. */
    struct bytes value;
    bool is_positioned;
};

struct memstore {
    struct memrow *head[HEIGHT_MAX];
    struct random random;
    struct memstore_faults faults;
    struct list unsettled;
    struct list views;
    uint64_t batch;         /* The last one written. */
    uint64_t batch_flushed; /* The last one that is durable. */
};

static struct bytes row_key(const struct memrow *row)
{
    return bytes_make(&row->next[row->height], row->key_size_bytes);
}

/* ---- Versions -------------------------------------------------------------------------------- */

/* What a view at `batch` sees of the row; NULL when there is nothing. */
static const struct version *row_at(const struct memrow *row, uint64_t batch)
{
    const struct version *version = row->newest;
    while (version != NULL && version->batch > batch) {
        version = version->older;
    }
    return version == NULL || version->is_absent ? NULL : version;
}

/* Can a view see the version, when the next newer one is of batch `newer`? */
static bool is_visible(const struct memstore *memstore, const struct version *version,
                       uint64_t newer)
{
    if (version->batch <= memstore->batch_flushed && memstore->batch_flushed < newer) {
        return true;
    }
    LIST_EACH(member, next, &memstore->views)
    {
        uint64_t batch = LIST_ITEM(member, struct view, member)->batch;
        if (version->batch <= batch && batch < newer) {
            return true;
        }
    }
    return false;
}

/* Free the versions that no view can see. */
static void row_prune(const struct memstore *memstore, struct memrow *row)
{
    struct version *newer = row->newest;
    while (newer != NULL && newer->older != NULL) {
        struct version *version = newer->older;
        if (is_visible(memstore, version, newer->batch)) {
            newer = version;
        } else {
            newer->older = version->older;
            memory_free(version);
        }
    }
}

static void row_add_version(struct memstore *memstore, struct memrow *row, bool is_absent,
                            struct bytes value)
{
    struct version *version = memory_allocate(sizeof *version + value.size_bytes);
    version->older = row->newest;
    version->batch = memstore->batch;
    version->is_absent = is_absent;
    version->value_size_bytes = value.size_bytes;
    if (value.size_bytes > 0) {
        memcpy(version->value, value.data, value.size_bytes);
    }
    row->newest = version;
    /* Versions of the same batch: only the last was ever there. */
    if (version->older != NULL && version->older->batch == version->batch) {
        struct version *hidden = version->older;
        version->older = hidden->older;
        memory_free(hidden);
    }
    row_prune(memstore, row);
    list_remove(&row->unsettled);
    list_push_back(&memstore->unsettled, &row->unsettled);
}

/* ---- The skip list --------------------------------------------------------------------------- */

/* The first row at or after `key`. `links`, unless NULL, gets for each height the link that leads
 * to it or would. */
static struct memrow *find_at_or_after(const struct memstore *memstore, struct bytes key,
                                       struct memrow ***links)
{
    struct memrow **level = (struct memrow **)memstore->head;
    for (uint32_t height = HEIGHT_MAX; height-- > 0;) {
        while (level[height] != NULL && bytes_compare(row_key(level[height]), key) < 0) {
            level = level[height]->next;
        }
        if (links != NULL) {
            links[height] = &level[height];
        }
    }
    return level[0];
}

static struct memrow *find(const struct memstore *memstore, struct bytes key)
{
    struct memrow *row = find_at_or_after(memstore, key, NULL);
    return row != NULL && bytes_equal(row_key(row), key) ? row : NULL;
}

static struct memrow *find_or_add(struct memstore *memstore, struct bytes key)
{
    struct memrow **links[HEIGHT_MAX];
    struct memrow *row = find_at_or_after(memstore, key, links);
    if (row != NULL && bytes_equal(row_key(row), key)) {
        return row;
    }
    uint32_t height = 1;
    while (height < HEIGHT_MAX && random_chance(&memstore->random, 1, 4)) {
        height++;
    }
    row = memory_allocate(sizeof *row + height * sizeof row->next[0] + key.size_bytes);
    list_init(&row->unsettled);
    row->newest = NULL;
    row->key_size_bytes = key.size_bytes;
    row->height = height;
    if (key.size_bytes > 0) {
        memcpy(&row->next[height], key.data, key.size_bytes);
    }
    for (uint32_t i = 0; i < height; i++) {
        row->next[i] = *links[i];
        *links[i] = row;
    }
    return row;
}

static void row_remove(struct memstore *memstore, struct memrow *row)
{
    struct memrow **links[HEIGHT_MAX];
    ASSERT(find_at_or_after(memstore, row_key(row), links) == row);
    for (uint32_t i = 0; i < row->height; i++) {
        ASSERT(*links[i] == row);
        *links[i] = row->next[i];
    }
    list_remove(&row->unsettled);
    while (row->newest != NULL) {
        struct version *version = row->newest;
        row->newest = version->older;
        memory_free(version);
    }
    memory_free(row);
}

/* Prune the row; take it out when nothing is left to see, and off the list when all is durable. */
static void row_settle(struct memstore *memstore, struct memrow *row)
{
    row_prune(memstore, row);
    bool is_single = row->newest == NULL || row->newest->older == NULL;
    bool is_durable = row->newest == NULL || row->newest->batch <= memstore->batch_flushed;
    if (!is_single || !is_durable) {
        return;
    }
    if (row->newest == NULL || row->newest->is_absent) {
        row_remove(memstore, row);
    } else {
        list_remove(&row->unsettled);
    }
}

/* ---- Reading and writing --------------------------------------------------------------------- */

static bool happens(struct memstore *memstore, uint32_t percent)
{
    return percent > 0 && random_chance(&memstore->random, percent, 100);
}

/* The fault that a read meets, or 0. */
static int read_fault(struct memstore *memstore, enum env_tier tier)
{
    if (happens(memstore, memstore->faults.read_error_percent)) {
        return -EIO;
    }
    if (tier == ENV_TIER_MEMORY &&
        (happens(memstore, memstore->faults.incomplete_percent) || FAULT("memstore.incomplete"))) {
        return ERROR_INCOMPLETE;
    }
    return 0;
}

static int memstore_get(void *context, const struct env_store_snapshot *snapshot,
                        enum env_tier tier, struct bytes key, struct buffer *value)
{
    struct memstore *memstore = context;
    int status = read_fault(memstore, tier);
    if (status != 0) {
        return status;
    }
    const struct memrow *row = find(memstore, key);
    const struct version *version =
        row == NULL ? NULL : row_at(row, snapshot == NULL ? memstore->batch : snapshot->view.batch);
    if (version == NULL) {
        return -ENOENT;
    }
    buffer_append(value, bytes_make(version->value, version->value_size_bytes));
    return 0;
}

static void delete_range(struct memstore *memstore, struct bytes lower, struct bytes upper)
{
    struct memrow *row = find_at_or_after(memstore, lower, NULL);
    while (row != NULL && bytes_compare(row_key(row), upper) < 0) {
        if (!row->newest->is_absent) {
            row_add_version(memstore, row, true, (struct bytes){0});
        }
        row = row->next[0];
    }
}

static int memstore_write(void *context, const struct env_change *changes, uint32_t change_count,
                          struct error *error)
{
    struct memstore *memstore = context;
    if (happens(memstore, memstore->faults.busy_percent) || FAULT("memstore.busy")) {
        return error_set(error, -EBUSY, "write to the store");
    }
    memstore->batch++;
    for (uint32_t i = 0; i < change_count; i++) {
        const struct env_change *change = &changes[i];
        switch (change->kind) {
        case ENV_CHANGE_PUT:
            row_add_version(memstore, find_or_add(memstore, change->key), false, change->value);
            break;
        case ENV_CHANGE_DELETE: {
            struct memrow *row = find(memstore, change->key);
            if (row != NULL) {
                row_add_version(memstore, row, true, (struct bytes){0});
            }
            break;
        }
        case ENV_CHANGE_DELETE_RANGE:
            delete_range(memstore, change->key, change->value);
            break;
        }
    }
    return 0;
}

/* ---- Snapshots and iterators ----------------------------------------------------------------- */

static struct env_store_snapshot *memstore_snapshot_create(void *context)
{
    struct memstore *memstore = context;
    struct env_store_snapshot *snapshot = memory_allocate_zeroed(1, sizeof *snapshot);
    snapshot->view.batch = memstore->batch;
    list_push_back(&memstore->views, &snapshot->view.member);
    return snapshot;
}

static void memstore_snapshot_release(void *context, struct env_store_snapshot *snapshot)
{
    (void)context;
    list_remove(&snapshot->view.member);
    memory_free(snapshot);
}

static int memstore_iterator_open(void *context, const struct env_store_snapshot *snapshot,
                                  enum env_tier tier, struct bytes lower, struct bytes upper,
                                  struct env_iterator **iterator)
{
    struct memstore *memstore = context;
    struct env_iterator *opened = memory_allocate_zeroed(1, sizeof *opened);
    opened->memstore = memstore;
    opened->tier = tier;
    opened->view.batch = snapshot == NULL ? memstore->batch : snapshot->view.batch;
    list_push_back(&memstore->views, &opened->view.member);
    buffer_append(&opened->lower, lower);
    buffer_append(&opened->upper, upper);
    *iterator = opened;
    return 0;
}

static void memstore_iterator_close(void *context, struct env_iterator *iterator)
{
    (void)context;
    list_remove(&iterator->view.member);
    buffer_deinit(&iterator->lower);
    buffer_deinit(&iterator->upper);
    buffer_deinit(&iterator->key);
    memory_free(iterator);
}

/* Come to rest at the first row from `row` on that the iterator's view sees. */
static int iterator_settle(struct env_iterator *iterator, const struct memrow *row)
{
    struct bytes upper = buffer_bytes(&iterator->upper);
    for (; row != NULL; row = row->next[0]) {
        if (upper.size_bytes > 0 && bytes_compare(row_key(row), upper) >= 0) {
            break;
        }
        const struct version *version = row_at(row, iterator->view.batch);
        if (version != NULL) {
            buffer_clear(&iterator->key);
            buffer_append(&iterator->key, row_key(row));
            iterator->value = bytes_make(version->value, version->value_size_bytes);
            iterator->is_positioned = true;
            return 0;
        }
    }
    return -ENOENT;
}

static int memstore_iterator_seek(void *context, struct env_iterator *iterator, struct bytes key)
{
    struct memstore *memstore = context;
    iterator->is_positioned = false;
    int status = read_fault(memstore, iterator->tier);
    if (status != 0) {
        return status;
    }
    struct bytes lower = buffer_bytes(&iterator->lower);
    struct bytes start = bytes_compare(key, lower) < 0 ? lower : key;
    return iterator_settle(iterator, find_at_or_after(memstore, start, NULL));
}

static int memstore_iterator_next(void *context, struct env_iterator *iterator)
{
    struct memstore *memstore = context;
    ASSERT(iterator->is_positioned);
    iterator->is_positioned = false;
    int status = read_fault(memstore, iterator->tier);
    if (status != 0) {
        return status;
    }
    /* By key: the row itself may be gone, though its version cannot be. */
    struct bytes key = buffer_bytes(&iterator->key);
    const struct memrow *row = find_at_or_after(memstore, key, NULL);
    if (row != NULL && bytes_equal(row_key(row), key)) {
        row = row->next[0];
    }
    return iterator_settle(iterator, row);
}

static struct bytes memstore_iterator_key(void *context, const struct env_iterator *iterator)
{
    (void)context;
    ASSERT(iterator->is_positioned);
    return buffer_bytes(&iterator->key);
}

static struct bytes memstore_iterator_value(void *context, const struct env_iterator *iterator)
{
    (void)context;
    ASSERT(iterator->is_positioned);
    return iterator->value;
}

static int interface_flush(void *context, struct error *error)
{
    struct memstore *memstore = context;
    if (happens(memstore, memstore->faults.full_percent)) {
        return error_set(error, -ENOSPC, "flush the store");
    }
    memstore_flush(context);
    return 0;
}

static const struct env_store_ops memstore_ops = {
    .get = memstore_get,
    .write = memstore_write,
    .flush = interface_flush,
    .iterator_open = memstore_iterator_open,
    .iterator_close = memstore_iterator_close,
    .iterator_seek = memstore_iterator_seek,
    .iterator_next = memstore_iterator_next,
    .iterator_key = memstore_iterator_key,
    .iterator_value = memstore_iterator_value,
    .snapshot_create = memstore_snapshot_create,
    .snapshot_release = memstore_snapshot_release,
};

/* ---- The store ------------------------------------------------------------------------------- */

struct memstore *memstore_create(uint64_t seed)
{
    struct memstore *memstore = memory_allocate_zeroed(1, sizeof *memstore);
    random_init(&memstore->random, seed);
    list_init(&memstore->unsettled);
    list_init(&memstore->views);
    return memstore;
}

void memstore_destroy(struct memstore *memstore)
{
    ASSERT(list_is_empty(&memstore->views));
    while (memstore->head[0] != NULL) {
        row_remove(memstore, memstore->head[0]);
    }
    memory_free(memstore);
}

struct env_store memstore_interface(struct memstore *memstore)
{
    return (struct env_store){.ops = &memstore_ops, .context = memstore};
}

void memstore_set_faults(struct memstore *memstore, struct memstore_faults faults)
{
    ASSERT(faults.busy_percent <= 100);
    ASSERT(faults.incomplete_percent <= 100);
    ASSERT(faults.read_error_percent <= 100);
    memstore->faults = faults;
}

void memstore_flush(struct memstore *memstore)
{
    memstore->batch_flushed = memstore->batch;
    LIST_EACH(member, next, &memstore->unsettled)
    {
        row_settle(memstore, LIST_ITEM(member, struct memrow, unsettled));
    }
}

void memstore_lose_unflushed(struct memstore *memstore)
{
    ASSERT(list_is_empty(&memstore->views));
    LIST_EACH(member, next, &memstore->unsettled)
    {
        struct memrow *row = LIST_ITEM(member, struct memrow, unsettled);
        while (row->newest != NULL && row->newest->batch > memstore->batch_flushed) {
            struct version *lost = row->newest;
            row->newest = lost->older;
            memory_free(lost);
        }
        row_settle(memstore, row);
    }
    memstore->batch = memstore->batch_flushed;
    ASSERT(list_is_empty(&memstore->unsettled));
}

uint64_t memstore_hash(const struct memstore *memstore, struct bytes lower, struct bytes upper)
{
    uint64_t hash = 0;
    for (const struct memrow *row = find_at_or_after(memstore, lower, NULL);
         row != NULL && (upper.size_bytes == 0 || bytes_compare(row_key(row), upper) < 0);
         row = row->next[0]) {
        const struct version *version = row_at(row, memstore->batch);
        if (version != NULL) {
            hash = hash_bytes(row_key(row), hash);
            hash = hash_bytes(bytes_make(version->value, version->value_size_bytes), hash);
        }
    }
    return hash;
}

uint64_t memstore_row_count(const struct memstore *memstore)
{
    uint64_t count = 0;
    for (const struct memrow *row = memstore->head[0]; row != NULL; row = row->next[0]) {
        count += row_at(row, memstore->batch) != NULL;
    }
    return count;
}

uint64_t memstore_unflushed_batch_count(const struct memstore *memstore)
{
    return memstore->batch - memstore->batch_flushed;
}
