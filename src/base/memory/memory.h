/* SPDX-License-Identifier: Apache-2.0 */
/* memory: the one door to malloc. Layer: base.
 *
 * malloc failing is fatal, with a clear message: what grows with load is bounded by the memory
 * budget long before, and error paths that nobody can test are where outages live. Memory from here
 * is given back with memory_free() only. Thread-safe. */
#ifndef BASE_MEMORY_MEMORY_H
#define BASE_MEMORY_MEMORY_H

#include <stddef.h>

/* The struct of `type` whose `field` that is. */
#define CONTAINER_OF(pointer, type, field) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, field)))

/* Give `size_bytes` (above 0) of uninitialised memory. Never NULL. */
void *memory_allocate(size_t size_bytes) __attribute__((malloc, returns_nonnull));

/* Give memory for `count` items of `item_size_bytes`, all zero. Overflow is fatal. Never NULL. */
void *memory_allocate_zeroed(size_t count, size_t item_size_bytes)
    __attribute__((malloc, returns_nonnull));

/* Grow or shrink; takes `memory` (may be NULL), gives the new one. Never NULL. */
void *memory_resize(void *memory, size_t size_bytes) __attribute__((returns_nonnull));

/* Take back; NULL is allowed. */
void memory_free(void *memory);

#endif
