/* SPDX-License-Identifier: Apache-2.0 */
#include "base/queue/queue.h"

#include <stdatomic.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum { CACHE_LINE_SIZE_BYTES = 64 };

struct queue {
    _Alignas(CACHE_LINE_SIZE_BYTES) _Atomic uint64_t tail; /* Next to write; the producer's. */
    uint64_t head_seen;                                    /* The producer's last look at head. */
    _Alignas(CACHE_LINE_SIZE_BYTES) _Atomic uint64_t head; /* Next to read; the consumer's. */
    uint64_t tail_seen;                                    /* The consumer's last look at tail. */
    _Alignas(CACHE_LINE_SIZE_BYTES) uint32_t mask;
    void **items;
    void *allocation;
};

struct queue *queue_create(uint32_t capacity)
{
    ASSERT(capacity > 0);
    ASSERT((capacity & (capacity - 1)) == 0);
    void *allocation = memory_allocate_zeroed(1, sizeof(struct queue) + CACHE_LINE_SIZE_BYTES);
    uintptr_t aligned = ((uintptr_t)allocation + CACHE_LINE_SIZE_BYTES - 1) &
                        ~(uintptr_t)(CACHE_LINE_SIZE_BYTES - 1);
    struct queue *queue = (struct queue *)aligned;
    queue->mask = capacity - 1;
    queue->items = memory_allocate_zeroed(capacity, sizeof queue->items[0]);
    queue->allocation = allocation;
    return queue;
}

void queue_destroy(struct queue *queue)
{
    if (queue != NULL) {
        memory_free(queue->items);
        memory_free(queue->allocation);
    }
}

bool queue_push(struct queue *queue, void *item)
{
    ASSERT(item != NULL);
    uint64_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    if (tail - queue->head_seen > queue->mask) {
        queue->head_seen = atomic_load_explicit(&queue->head, memory_order_acquire);
        if (tail - queue->head_seen > queue->mask) {
            return false;
        }
    }
    queue->items[tail & queue->mask] = item;
    atomic_store_explicit(&queue->tail, tail + 1, memory_order_release);
    return true;
}

void *queue_pop(struct queue *queue)
{
    uint64_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    if (head == queue->tail_seen) {
        queue->tail_seen = atomic_load_explicit(&queue->tail, memory_order_acquire);
        if (head == queue->tail_seen) {
            return NULL;
        }
    }
    void *item = queue->items[head & queue->mask];
    atomic_store_explicit(&queue->head, head + 1, memory_order_release);
    return item;
}

bool queue_is_empty(const struct queue *queue)
{
    return atomic_load_explicit(&((struct queue *)(uintptr_t)queue)->head, memory_order_acquire) ==
           atomic_load_explicit(&((struct queue *)(uintptr_t)queue)->tail, memory_order_acquire);
}
