/* SPDX-License-Identifier: Apache-2.0 */
/* bytes: borrowed byte strings, and a buffer that grows. Layer: base.
 *
 * `struct bytes` is a view: it owns nothing and is passed by value. `struct buffer` owns its
 * memory, doubles when it grows, and keeps its capacity when cleared, so that a buffer in steady
 * use does not allocate. Neither is thread-safe. */
#ifndef BASE_BYTES_BYTES_H
#define BASE_BYTES_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const uint8_t *data; /* May be NULL when size_bytes is 0. */
    size_t size_bytes;
};

/* A view of a string literal. */
#define BYTES(literal) ((struct bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline struct bytes bytes_make(const void *data, size_t size_bytes)
{
    return (struct bytes){(const uint8_t *)data, size_bytes};
}

static inline struct bytes bytes_of_text(const char *text)
{
    return bytes_make(text, strlen(text));
}

static inline bool bytes_equal(struct bytes left, struct bytes right)
{
    return left.size_bytes == right.size_bytes &&
           (left.size_bytes == 0 || memcmp(left.data, right.data, left.size_bytes) == 0);
}

/* Order as memcmp does, a prefix before what it is a prefix of: <0, 0 or >0. */
int bytes_compare(struct bytes left, struct bytes right);

/* Equal when ASCII case is ignored. */
bool bytes_equal_ignoring_case(struct bytes left, struct bytes right);

bool bytes_have_prefix(struct bytes whole, struct bytes prefix);

struct buffer {
    uint8_t *data;
    size_t size_bytes;
    size_t capacity_bytes;
};

static inline struct bytes buffer_bytes(const struct buffer *buffer)
{
    return bytes_make(buffer->data, buffer->size_bytes);
}

/* An empty buffer is all zeros: `struct buffer buffer = {0};` needs no init. */
void buffer_deinit(struct buffer *buffer);

/* Forget the content, keep the memory. */
static inline void buffer_clear(struct buffer *buffer)
{
    buffer->size_bytes = 0;
}

/* Make room for `more_bytes` after the content. */
void buffer_reserve_slow(struct buffer *buffer, size_t more_bytes);
static inline void buffer_reserve(struct buffer *buffer, size_t more_bytes)
{
    if (buffer->capacity_bytes - buffer->size_bytes < more_bytes) {
        buffer_reserve_slow(buffer, more_bytes);
    }
}

/* Lengthen the content by `more_bytes` uninitialised bytes and borrow where they start. */
static inline uint8_t *buffer_extend(struct buffer *buffer, size_t more_bytes)
{
    buffer_reserve(buffer, more_bytes);
    uint8_t *start = buffer->data + buffer->size_bytes;
    buffer->size_bytes += more_bytes;
    return start;
}

static inline void buffer_append(struct buffer *buffer, struct bytes bytes)
{
    if (bytes.size_bytes > 0) {
        memcpy(buffer_extend(buffer, bytes.size_bytes), bytes.data, bytes.size_bytes);
    }
}

static inline void buffer_append_byte(struct buffer *buffer, uint8_t byte)
{
    *buffer_extend(buffer, 1) = byte;
}

void buffer_append_format(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Remove the first `count_bytes` of the content, moving the rest to the front. */
void buffer_consume(struct buffer *buffer, size_t count_bytes);

/* Give memory back to the system when the capacity is above `keep_bytes`; the content must be
 * empty. */
void buffer_trim(struct buffer *buffer, size_t keep_bytes);

#endif
