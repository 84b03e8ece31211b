/* SPDX-License-Identifier: Apache-2.0 */
/* Answers are kept in blocks, one for each entry, oldest first; a hash table finds them by
 * identity. */
#include "core/shard/shard_window.h"

#include "base/assert/assert.h"
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_window_table.h"

enum { BLOCK_ITEM_COUNT_MIN = 16 };

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

struct shard_window {
    uint64_t size_bytes_max;
    uint64_t size_bytes;
    raft_index covered;
    struct list blocks;
    struct window_block *open;
    struct window_table table;
};

/* ---- Blocks ---------------------------------------------------------------------------------- */

static uint64_t block_size_bytes(const struct window_block *block)
{
    return sizeof *block + block->item_capacity * sizeof block->items[0] +
           (uint64_t)block->item_count * SHARD_WINDOW_ITEM_SLOTS_SIZE_BYTES +
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
        struct window_slot *slot =
            shard__window_table_find(&window->table, item->origin, item->sequence);
        if (slot != NULL && slot->block == block) {
            shard__window_table_remove(&window->table, slot);
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
    shard__window_table_init(&window->table);
    return window;
}

void shard__window_destroy(struct shard_window *window)
{
    if (window == NULL) {
        return;
    }
    shard__window_reset(window, 0);
    shard__window_table_deinit(&window->table);
    memory_free(window);
}

void shard__window_reset(struct shard_window *window, raft_index covered)
{
    while (!list_is_empty(&window->blocks)) {
        drop_oldest(window);
    }
    block_destroy(window->open);
    window->open = NULL;
    shard__window_table_deinit(&window->table);
    shard__window_table_init(&window->table);
    window->covered = covered;
}

raft_index shard__window_covered(const struct shard_window *window)
{
    return window->covered;
}

/* ---- Use ------------------------------------------------------------------------------------- */

void shard__window_add_pending(struct shard_window *window, uint64_t origin, uint64_t sequence)
{
    struct window_slot *slot = shard__window_table_take(&window->table, origin, sequence);
    ASSERT(slot->block == NULL);
}

void shard__window_forget_pending(struct shard_window *window, uint64_t origin, uint64_t sequence)
{
    struct window_slot *slot = shard__window_table_find(&window->table, origin, sequence);
    if (slot != NULL && slot->block == NULL) {
        shard__window_table_remove(&window->table, slot);
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
    struct window_slot *slot = shard__window_table_take(&window->table, origin, sequence);
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
    const struct window_slot *slot = shard__window_table_find(&window->table, origin, sequence);
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
