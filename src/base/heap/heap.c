/* SPDX-License-Identifier: Apache-2.0 */
#include "base/heap/heap.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum { CAPACITY_MIN = 16 };

void heap_deinit(struct heap *heap)
{
    memory_free(heap->items);
    *heap = (struct heap){0};
}

static void put(struct heap *heap, uint32_t place, struct heap_item *item)
{
    heap->items[place] = item;
    item->place = place + 1;
}

static void sift_up(struct heap *heap, uint32_t place, struct heap_item *item)
{
    while (place > 0 && heap->items[(place - 1) / 2]->key > item->key) {
        put(heap, place, heap->items[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    put(heap, place, item);
}

static void sift_down(struct heap *heap, uint32_t place, struct heap_item *item)
{
    for (;;) {
        uint32_t least = 2 * place + 1;
        if (least >= heap->count) {
            break;
        }
        if (least + 1 < heap->count && heap->items[least + 1]->key < heap->items[least]->key) {
            least++;
        }
        if (heap->items[least]->key >= item->key) {
            break;
        }
        put(heap, place, heap->items[least]);
        place = least;
    }
    put(heap, place, item);
}

void heap_set(struct heap *heap, struct heap_item *item, uint64_t key)
{
    if (item->place == 0) {
        if (heap->count == heap->capacity) {
            ASSERT(heap->capacity < UINT32_MAX / 2);
            heap->capacity = heap->capacity == 0 ? CAPACITY_MIN : 2 * heap->capacity;
            heap->items = memory_resize(heap->items, heap->capacity * sizeof(struct heap_item *));
        }
        item->key = key;
        sift_up(heap, heap->count++, item);
        return;
    }
    ASSERT(item->place <= heap->count && heap->items[item->place - 1] == item);
    uint64_t before = item->key;
    item->key = key;
    if (key < before) {
        sift_up(heap, item->place - 1, item);
    } else if (key > before) {
        sift_down(heap, item->place - 1, item);
    }
}

void heap_remove(struct heap *heap, struct heap_item *item)
{
    if (item->place == 0) {
        return;
    }
    uint32_t place = item->place - 1;
    ASSERT(place < heap->count && heap->items[place] == item);
    struct heap_item *last = heap->items[--heap->count];
    item->place = 0;
    if (last == item) {
        return;
    }
    if (last->key < item->key) {
        sift_up(heap, place, last);
    } else {
        sift_down(heap, place, last);
    }
}
