/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes/bytes.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum { BUFFER_CAPACITY_BYTES_MIN = 64 };

int bytes_compare(struct bytes left, struct bytes right)
{
    size_t shorter = left.size_bytes < right.size_bytes ? left.size_bytes : right.size_bytes;
    int order = shorter == 0 ? 0 : memcmp(left.data, right.data, shorter);
    if (order != 0) {
        return order;
    }
    return (left.size_bytes > right.size_bytes) - (left.size_bytes < right.size_bytes);
}

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20) : byte;
}

bool bytes_equal_ignoring_case(struct bytes left, struct bytes right)
{
    if (left.size_bytes != right.size_bytes) {
        return false;
    }
    for (size_t i = 0; i < left.size_bytes; i++) {
        if (lower(left.data[i]) != lower(right.data[i])) {
            return false;
        }
    }
    return true;
}

bool bytes_have_prefix(struct bytes whole, struct bytes prefix)
{
    return whole.size_bytes >= prefix.size_bytes &&
           (prefix.size_bytes == 0 || memcmp(whole.data, prefix.data, prefix.size_bytes) == 0);
}

void buffer_deinit(struct buffer *buffer)
{
    memory_free(buffer->data);
    *buffer = (struct buffer){0};
}

void buffer_reserve_slow(struct buffer *buffer, size_t more_bytes)
{
    ASSERT(more_bytes <= SIZE_MAX / 4);
    size_t needed = buffer->size_bytes + more_bytes;
    size_t capacity = buffer->capacity_bytes;
    if (capacity < BUFFER_CAPACITY_BYTES_MIN) {
        capacity = BUFFER_CAPACITY_BYTES_MIN;
    }
    while (capacity < needed) {
        capacity *= 2;
    }
    buffer->data = memory_resize(buffer->data, capacity);
    buffer->capacity_bytes = capacity;
}

void buffer_append_format(struct buffer *buffer, const char *format, ...)
{
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int needed = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    ASSERT(needed >= 0);
    buffer_reserve(buffer, (size_t)needed + 1);
    (void)vsnprintf((char *)buffer->data + buffer->size_bytes, (size_t)needed + 1, format, again);
    va_end(again);
    buffer->size_bytes += (size_t)needed;
}

void buffer_consume(struct buffer *buffer, size_t count_bytes)
{
    ASSERT(count_bytes <= buffer->size_bytes);
    size_t rest = buffer->size_bytes - count_bytes;
    if (rest > 0 && count_bytes > 0) {
        memmove(buffer->data, buffer->data + count_bytes, rest);
    }
    buffer->size_bytes = rest;
}

void buffer_trim(struct buffer *buffer, size_t keep_bytes)
{
    ASSERT(buffer->size_bytes == 0);
    if (buffer->capacity_bytes > keep_bytes) {
        buffer_deinit(buffer);
    }
}
