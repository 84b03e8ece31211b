/* SPDX-License-Identifier: Apache-2.0 */
/* heap: what is due first, of many that each have a time. Layer: base.
 *
 * A binary heap of embedded items (Williams 1964), the least key first. An item knows its place, so its
 * key can be changed, and it can be taken out, in as many steps as the number of items has binary digits.
 * Items of equal keys come in no particular order, but in the same one each time.
 *
 * An item of zeros is in no heap; what it is a part of CONTAINER_OF() says. The heap owns the array of places, not the items. */
#ifndef BASE_HEAP_HEAP_H
#define BASE_HEAP_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct heap_item {
    uint64_t key;
    uint32_t place; /* 1 + where it is in the heap; 0: in none. */
};

/* Of zeros: empty. */
struct heap {
    struct heap_item **items;
    uint32_t count;
    uint32_t capacity;
};

void heap_deinit(struct heap *heap);
/* Put the item in, or give it another key. */
void heap_set(struct heap *heap, struct heap_item *item, uint64_t key);
/* Nothing happens to one that is in no heap. */
void heap_remove(struct heap *heap, struct heap_item *item);

/* The one with the least key; NULL: there is none. */
static inline struct heap_item *heap_first(const struct heap *heap)
{
    return heap->count > 0 ? heap->items[0] : (struct heap_item *)0;
}

#endif
