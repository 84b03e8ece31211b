/* SPDX-License-Identifier: Apache-2.0 */
/* A group of a file. Integers are little-endian; docs/formats/recall.md is the same table.
 *
 *   offset  size  meaning
 *        0     4  checksum (CRC-32C) of what follows
 *        4     4  size of the items
 *        8     8  number of the file, above 0
 *       16        items, one after the other:
 *                   4  shard
 *                   4  count of commands, above 0
 *                   8  index
 *                   8  term
 *                   8  digest
 *                      a byte for each command */
#include "core/recall/recall.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/checksum/checksum.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"

enum { GROUP_HEADER_SIZE_BYTES = 16, CHECKSUM_SIZE_BYTES = 4, ITEM_HEADER_SIZE_BYTES = 32 };

/* An item that was loaded. */
struct loaded {
    raft_index index;
    wal_shard shard;
    uint32_t place; /* In `items`: later ones were loaded later. */
};

struct recall {
    struct buffer gathered; /* Items. */
    struct buffer items;
    struct loaded *loaded;
    uint32_t loaded_count;
    uint32_t loaded_capacity;
    bool is_sorted;
};

struct recall *recall_create(void)
{
    return memory_allocate_zeroed(1, sizeof(struct recall));
}

void recall_destroy(struct recall *recall)
{
    if (recall != NULL) {
        recall_forget(recall);
        buffer_deinit(&recall->gathered);
        memory_free(recall);
    }
}

/* ---- Noting ---------------------------------------------------------------------------------- */

static bool is_anything_known(struct bytes found)
{
    for (size_t i = 0; i < found.size_bytes; i++) {
        if (found.data[i] != 0) {
            return true;
        }
    }
    return false;
}

void recall_note(struct recall *recall, const struct recall_entry *entry)
{
    ASSERT(entry->found.size_bytes < UINT32_MAX);
    size_t size_bytes = ITEM_HEADER_SIZE_BYTES + entry->found.size_bytes;
    if (!is_anything_known(entry->found) ||
        recall->gathered.size_bytes + size_bytes > RECALL_GATHERED_SIZE_BYTES_MAX) {
        return;
    }
    uint8_t *place = buffer_extend(&recall->gathered, size_bytes);
    endian_put_u32_le(place, entry->shard);
    endian_put_u32_le(place + 4, (uint32_t)entry->found.size_bytes);
    endian_put_u64_le(place + 8, entry->index);
    endian_put_u64_le(place + 16, entry->term);
    endian_put_u64_le(place + 24, entry->digest);
    memcpy(place + ITEM_HEADER_SIZE_BYTES, entry->found.data, entry->found.size_bytes);
}

size_t recall_gathered_size_bytes(const struct recall *recall)
{
    size_t size_bytes = recall->gathered.size_bytes;
    return size_bytes > 0 ? GROUP_HEADER_SIZE_BYTES + size_bytes : 0;
}

void recall_take(struct recall *recall, uint64_t file_number, struct buffer *target)
{
    ASSERT(file_number > 0);
    struct bytes items = buffer_bytes(&recall->gathered);
    if (items.size_bytes == 0) {
        return;
    }
    uint8_t *group = buffer_extend(target, GROUP_HEADER_SIZE_BYTES + items.size_bytes);
    endian_put_u32_le(group + 4, (uint32_t)items.size_bytes);
    endian_put_u64_le(group + 8, file_number);
    memcpy(group + GROUP_HEADER_SIZE_BYTES, items.data, items.size_bytes);
    struct bytes checked =
        bytes_make(group + CHECKSUM_SIZE_BYTES,
                   GROUP_HEADER_SIZE_BYTES + items.size_bytes - CHECKSUM_SIZE_BYTES);
    endian_put_u32_le(group, checksum_crc32c(0, checked));
    buffer_clear(&recall->gathered);
}

/* ---- Loading --------------------------------------------------------------------------------- */

/* The items of the group with which `rest` begins. False: it is not whole. */
static bool decode_group(struct bytes rest, uint64_t *file_number, struct bytes *items)
{
    if (rest.size_bytes < GROUP_HEADER_SIZE_BYTES) {
        return false;
    }
    uint32_t size_bytes = endian_get_u32_le(rest.data + 4);
    *file_number = endian_get_u64_le(rest.data + 8);
    if (size_bytes > rest.size_bytes - GROUP_HEADER_SIZE_BYTES || *file_number == 0) {
        return false;
    }
    *items = bytes_make(rest.data + GROUP_HEADER_SIZE_BYTES, size_bytes);
    struct bytes checked =
        bytes_make(rest.data + CHECKSUM_SIZE_BYTES,
                   GROUP_HEADER_SIZE_BYTES - CHECKSUM_SIZE_BYTES + (size_t)size_bytes);
    return checksum_crc32c(0, checked) == endian_get_u32_le(rest.data);
}

uint64_t recall_file_number(struct bytes content)
{
    uint64_t file_number;
    struct bytes items;
    return decode_group(content, &file_number, &items) ? file_number : 0;
}

/* Of one entry, the one that was loaded last comes first. */
static int compare(const void *left, const void *right)
{
    const struct loaded *a = left;
    const struct loaded *b = right;
    if (a->shard != b->shard) {
        return a->shard < b->shard ? -1 : 1;
    }
    if (a->index != b->index) {
        return a->index < b->index ? -1 : 1;
    }
    return a->place > b->place ? -1 : 1;
}

static void add_loaded(struct recall *recall, struct bytes item)
{
    if (recall->loaded_count == recall->loaded_capacity) {
        recall->loaded_capacity = recall->loaded_capacity == 0 ? 64 : 2 * recall->loaded_capacity;
        recall->loaded =
            memory_resize(recall->loaded, recall->loaded_capacity * sizeof recall->loaded[0]);
    }
    struct loaded *added = &recall->loaded[recall->loaded_count++];
    *added = (struct loaded){.index = endian_get_u64_le(item.data + 8),
                             .shard = endian_get_u32_le(item.data),
                             .place = (uint32_t)recall->items.size_bytes};
    buffer_append(&recall->items, item);
    recall->is_sorted = recall->loaded_count == 1 ||
                        (recall->is_sorted && compare(added - 1, added) < 0); /* As mostly. */
}

/* Who says what is needed, and what was said last. */
struct needs {
    raft_index (*first_needed)(void *context, wal_shard shard);
    void *context;
    wal_shard shard; /* 0: of none. */
    raft_index first_index;
};

static bool is_needed(struct needs *needs, struct bytes item)
{
    wal_shard shard = endian_get_u32_le(item.data);
    if (shard != needs->shard || shard == 0) {
        needs->shard = shard;
        needs->first_index = needs->first_needed(needs->context, shard);
    }
    return endian_get_u64_le(item.data + 8) >= needs->first_index;
}

/* False: these are no items, whatever their checksum says. */
static bool load_items(struct recall *recall, struct bytes items, struct needs *needs)
{
    while (items.size_bytes > 0) {
        if (items.size_bytes < ITEM_HEADER_SIZE_BYTES) {
            return false;
        }
        size_t size_bytes = ITEM_HEADER_SIZE_BYTES + (size_t)endian_get_u32_le(items.data + 4);
        if (size_bytes > items.size_bytes || size_bytes == ITEM_HEADER_SIZE_BYTES ||
            recall->items.size_bytes + size_bytes > UINT32_MAX) {
            return false;
        }
        if (is_needed(needs, items)) {
            add_loaded(recall, bytes_make(items.data, size_bytes));
        }
        items = bytes_make(items.data + size_bytes, items.size_bytes - size_bytes);
    }
    return true;
}

size_t recall_load(struct recall *recall, struct bytes content,
                   raft_index (*first_needed)(void *context, wal_shard shard), void *context)
{
    struct needs needs = {.first_needed = first_needed, .context = context};
    uint64_t first_number = recall_file_number(content);
    size_t loaded_bytes = 0;
    uint64_t file_number;
    struct bytes items;
    /* What a file had in an earlier use is true, too, but it is not in order. */
    while (decode_group(bytes_make(content.data + loaded_bytes, content.size_bytes - loaded_bytes),
                        &file_number, &items) &&
           file_number == first_number && load_items(recall, items, &needs)) {
        loaded_bytes += GROUP_HEADER_SIZE_BYTES + items.size_bytes;
    }
    return loaded_bytes;
}

/* ---- Recalling ------------------------------------------------------------------------------- */

/* The first item of the entry, or where it would be. */
static uint32_t place_of(const struct recall *recall, wal_shard shard, raft_index index)
{
    uint32_t low = 0;
    uint32_t high = recall->loaded_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct loaded *at = &recall->loaded[middle];
        if (at->shard < shard || (at->shard == shard && at->index < index)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool recall_find(struct recall *recall, struct recall_entry *entry)
{
    if (recall->loaded_count == 0) {
        return false;
    }
    if (!recall->is_sorted) {
        qsort(recall->loaded, recall->loaded_count, sizeof recall->loaded[0], compare);
        recall->is_sorted = true;
    }
    for (uint32_t i = place_of(recall, entry->shard, entry->index);
         i < recall->loaded_count && recall->loaded[i].shard == entry->shard &&
         recall->loaded[i].index == entry->index;
         i++) {
        const uint8_t *item = recall->items.data + recall->loaded[i].place;
        if (endian_get_u64_le(item + 16) == entry->term &&
            endian_get_u32_le(item + 4) == entry->found.size_bytes) {
            PROBE("recall.found");
            entry->digest = endian_get_u64_le(item + 24);
            entry->found = bytes_make(item + ITEM_HEADER_SIZE_BYTES, entry->found.size_bytes);
            return true;
        }
    }
    return false;
}

void recall_forget(struct recall *recall)
{
    buffer_deinit(&recall->items);
    recall->items = (struct buffer){0};
    memory_free(recall->loaded);
    recall->loaded = NULL;
    recall->loaded_count = 0;
    recall->loaded_capacity = 0;
}
