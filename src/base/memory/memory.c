/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/assert/assert.h"

static _Noreturn void out_of_memory(size_t size_bytes)
{
    assert_fatal(
        "tutti: out of memory (%zu bytes wanted). Lower --memory or give the machine more.",
        size_bytes);
}

/* Ask for huge pages where that is a matter of advice: a large table is visited at random. */
#define HUGE_SIZE_BYTES_MIN ((size_t)8 << 20)
#define PAGE_SIZE_BYTES ((uintptr_t)4096)

static void advise(void *memory, size_t size_bytes)
{
    if (size_bytes < HUGE_SIZE_BYTES_MIN) {
        return;
    }
    uintptr_t start = ((uintptr_t)memory + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES;
    uintptr_t end = ((uintptr_t)memory + size_bytes) / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES;
    (void)madvise((void *)start, end - start, MADV_HUGEPAGE); /* Elsewhere it is as it was. */
}

void *memory_allocate(size_t size_bytes)
{
    ASSERT(size_bytes > 0);
    void *memory = malloc(size_bytes);
    if (memory == NULL) {
        out_of_memory(size_bytes);
    }
    advise(memory, size_bytes);
    return memory;
}

void *memory_allocate_zeroed(size_t count, size_t item_size_bytes)
{
    ASSERT(count > 0);
    ASSERT(item_size_bytes > 0);
    void *memory = calloc(count, item_size_bytes);
    if (memory == NULL) {
        out_of_memory(count * item_size_bytes);
    }
    advise(memory, count * item_size_bytes);
    return memory;
}

void *memory_resize(void *memory, size_t size_bytes)
{
    ASSERT(size_bytes > 0);
    void *resized = realloc(memory, size_bytes);
    if (resized == NULL) {
        out_of_memory(size_bytes);
    }
    return resized;
}

void memory_free(void *memory)
{
    free(memory);
}
