/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory/memory.h"

#include <stdlib.h>

#include "base/assert/assert.h"

static _Noreturn void out_of_memory(size_t size_bytes)
{
    assert_fatal(
        "tutti: out of memory (%zu bytes wanted). Lower --memory or give the machine more.",
        size_bytes);
}

void *memory_allocate(size_t size_bytes)
{
    ASSERT(size_bytes > 0);
    void *memory = malloc(size_bytes);
    if (memory == NULL) {
        out_of_memory(size_bytes);
    }
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
