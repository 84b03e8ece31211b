/* SPDX-License-Identifier: Apache-2.0 */
/* Answers are kept in blocks, one for each entry, oldest first; a hash table finds them by identity.
 * The table has open addressing with linear probing, and closes gaps when something is removed, so
 * that it needs no tombstones. */
#include "core/shard/shard_window.h"

#include "base/assert/assert.h"
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"

enum { SLOT_COUNT_MIN = 256, BLOCK_ITEM_COUNT_MIN = 16 };

struct window_item {
    uint64_t origin;
    uint64_t sequence;
    size_t reply_end;
};

/* The answers of one entry. */
struct window_block {
    struct list link;
    raft_index index;
    struct window_item *items;
    uint32_t item_count;
    uint32_t item_capacity;
    struct buffer replies;
};

struct window_slot {
    uint64_t origin; /* 0: free. */
    uint64_t sequence;
    const struct window_block *block; /* NULL: pending. */
    uint32_t item;
};

struct shard_window {
    uint64_t size_bytes_max;
    uint64_t size_bytes;
    raft_index covered;
    struct list blocks;
    struct window_block *open;
    struct window_slot *slots;
    uint32_t slot_count; /* A power of two, at least twice what is used. */
    uint32_t used_count;
};

/* ---- The table ------------------------------------------------------------------------------- */

/* Sequences are consecutive; multiplying spreads them (Knuth 6.4, the golden ratio). */
static uint32_t home_of(const struct shard_window *window, uint64_t origin, uint64_t sequence)
{
    uint64_t mixed =
        (origin ^ (sequence * UINT64_C(0x9e3779b97f4a7c15))) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(mixed >> 32) & (window->slot_count - 1);
}

static struct window_slot *find_slot(const struct shard_window *window, uint64_t origin,
                                     uint64_t sequence)
{
    uint32_t place = home_of(window, origin, sequence);
    while (window->slots[place].origin != 0) {
        struct window_slot *slot = &window->slots[place];
        if (slot->origin == origin && slot->sequence == sequence) {
            return slot;
        }
        place = (place + 1) & (window->slot_count - 1);
    }
    return NULL;
}

static void place_slot(struct shard_window *window, const struct window_slot *slot)
{
    uint32_t place = home_of(window, slot->origin, slot->sequence);
    while (window->slots[place].origin != 0) {
        place = (place + 1) & (window->slot_count - 1);
    }
    window->slots[place] = *slot;
}

static void grow(struct shard_window *window)
{
    struct window_slot *before = window->slots;
    uint32_t count_before = window->slot_count;
    window->slot_count *= 2;
    window->slots = memory_allocate_zeroed(window->slot_count, sizeof *window->slots);
    for (uint32_t i = 0; i < count_before; i++) {
        if (before[i].origin != 0) {
            place_slot(window, &before[i]);
        }
    }
    memory_free(before);
}

/* Find the slot of the identity, or make one that is pending. */
static struct window_slot *take_slot(struct shard_window *window, uint64_t origin,
                                     uint64_t sequence)
{
    ASSERT(origin != 0);
    struct window_slot *slot = find_slot(window, origin, sequence);
    if (slot != NULL) {
        return slot;
    }
    if (2 * (window->used_count + 1) > window->slot_count) {
        grow(window);
    }
    struct window_slot made = {.origin = origin, .sequence = sequence};
    place_slot(window, &made);
    window->used_count++;
    return find_slot(window, origin, sequence);
}

static void remove_slot(struct shard_window *window, struct window_slot *slot)
{
    uint32_t mask = window->slot_count - 1;
    uint32_t hole = (uint32_t)(slot - window->slots);
    uint32_t place = (hole + 1) & mask;
    while (window->slots[place].origin != 0) {
        const struct window_slot *next = &window->slots[place];
        uint32_t home = home_of(window, next->origin, next->sequence);
        /* It may move into the hole unless its home is behind the hole. */
        if (((place - home) & mask) >= ((place - hole) & mask)) {
            window->slots[hole] = *next;
            hole = place;
        }
        place = (place + 1) & mask;
    }
    window->slots[hole] = (struct window_slot){0};
    window->used_count--;
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

static uint64_t block_size_bytes(const struct window_block *block)
{
    return sizeof *block + block->item_capacity * sizeof block->items[0] +
           block->replies.capacity_bytes;
}

static void block_destroy(struct window_block *block)
{
    if (block != NULL) {
        buffer_deinit(&block->replies);
        memory_free(block->items);
        memory_free(block);
    }
}

static void drop_oldest(struct shard_window *window)
{
    struct window_block *block =
        LIST_ITEM(list_pop_front(&window->blocks), struct window_block, link);
    for (uint32_t i = 0; i < block->item_count; i++) {
        const struct window_item *item = &block->items[i];
        struct window_slot *slot = find_slot(window, item->origin, item->sequence);
        if (slot != NULL && slot->block == block) {
            remove_slot(window, slot);
        }
    }
    window->covered = block->index;
    window->size_bytes -= block_size_bytes(block);
    block_destroy(block);
}

struct shard_window *shard__window_create(uint64_t size_bytes_max)
{
    struct shard_window *window = memory_allocate_zeroed(1, sizeof *window);
    window->size_bytes_max = size_bytes_max;
    list_init(&window->blocks);
    window->slot_count = SLOT_COUNT_MIN;
    window->slots = memory_allocate_zeroed(window->slot_count, sizeof *window->slots);
    return window;
}

void shard__window_destroy(struct shard_window *window)
{
    if (window == NULL) {
        return;
    }
    shard__window_reset(window, 0);
    memory_free(window->slots);
    memory_free(window);
}

void shard__window_reset(struct shard_window *window, raft_index covered)
{
    while (!list_is_empty(&window->blocks)) {
        drop_oldest(window);
    }
    block_destroy(window->open);
    window->open = NULL;
    memory_free(window->slots);
    window->slot_count = SLOT_COUNT_MIN;
    window->slots = memory_allocate_zeroed(window->slot_count, sizeof *window->slots);
    window->used_count = 0;
    window->covered = covered;
}

raft_index shard__window_covered(const struct shard_window *window)
{
    return window->covered;
}

/* ---- Use ------------------------------------------------------------------------------------- */

void shard__window_add_pending(struct shard_window *window, uint64_t origin, uint64_t sequence)
{
    struct window_slot *slot = take_slot(window, origin, sequence);
    ASSERT(slot->block == NULL);
}

void shard__window_forget_pending(struct shard_window *window, uint64_t origin, uint64_t sequence)
{
    struct window_slot *slot = find_slot(window, origin, sequence);
    if (slot != NULL && slot->block == NULL) {
        remove_slot(window, slot);
    }
}

void shard__window_begin(struct shard_window *window, raft_index index)
{
    ASSERT(window->open == NULL);
    window->open = memory_allocate_zeroed(1, sizeof *window->open);
    window->open->index = index;
}

void shard__window_add(struct shard_window *window, uint64_t origin, uint64_t sequence,
                       struct bytes reply)
{
    struct window_block *block = window->open;
    if (block->item_count == block->item_capacity) {
        block->item_capacity =
            block->item_capacity == 0 ? BLOCK_ITEM_COUNT_MIN : 2 * block->item_capacity;
        block->items = memory_resize(block->items, block->item_capacity * sizeof block->items[0]);
    }
    buffer_append(&block->replies, reply);
    block->items[block->item_count] =
        (struct window_item){origin, sequence, block->replies.size_bytes};
    struct window_slot *slot = take_slot(window, origin, sequence);
    ASSERT(slot->block == NULL); /* I7: a write is applied once. */
    slot->block = block;
    slot->item = block->item_count++;
}

void shard__window_end(struct shard_window *window)
{
    struct window_block *block = window->open;
    window->open = NULL;
    if (block->item_count == 0) {
        block_destroy(block);
        return;
    }
    list_push_back(&window->blocks, &block->link);
    window->size_bytes += block_size_bytes(block);
    while (window->size_bytes > window->size_bytes_max && window->blocks.next != &block->link) {
        PROBE("shard.window_shortened");
        drop_oldest(window);
    }
}

enum shard_window_answer shard__window_find(const struct shard_window *window, uint64_t origin,
                                            uint64_t sequence, struct bytes *reply)
{
    const struct window_slot *slot = find_slot(window, origin, sequence);
    if (slot == NULL) {
        return SHARD_WINDOW_UNKNOWN;
    }
    if (slot->block == NULL) {
        return SHARD_WINDOW_PENDING;
    }
    const struct window_item *item = &slot->block->items[slot->item];
    size_t start = slot->item == 0 ? 0 : slot->block->items[slot->item - 1].reply_end;
    *reply = bytes_make(slot->block->replies.data + start, item->reply_end - start);
    return SHARD_WINDOW_ANSWERED;
}
