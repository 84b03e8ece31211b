/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/assert/assert.h"
#include "base/checksum/checksum.h"
#include "base/memory/memory.h"
#include "driver/wire/wire_internal.h"

static struct wire__chunk *chunk_of(struct list *member)
{
    return LIST_ITEM(member, struct wire__chunk, member);
}

void wire__pool_init(struct wire__pool *pool)
{
    list_init(&pool->chunks);
    pool->count = 0;
}

void wire__pool_deinit(struct wire__pool *pool)
{
    LIST_EACH(member, next, &pool->chunks)
    {
        list_remove(member);
        memory_free(chunk_of(member));
    }
    pool->count = 0;
}

static struct wire__chunk *add_chunk(struct wire__queue *queue)
{
    struct wire__pool *pool = queue->pool;
    struct wire__chunk *chunk = NULL;
    if (pool->count > 0) {
        chunk = chunk_of(list_pop_front(&pool->chunks));
        pool->count--;
    } else {
        chunk = memory_allocate(sizeof *chunk);
        list_init(&chunk->member);
    }
    chunk->size_bytes = 0;
    chunk->sent_bytes = 0;
    list_push_back(&queue->chunks, &chunk->member);
    return chunk;
}

static void give_chunk_back(struct wire__pool *pool, struct wire__chunk *chunk)
{
    list_remove(&chunk->member);
    if (pool->count < WIRE__SPARE_CHUNKS_MAX) {
        list_push_front(&pool->chunks, &chunk->member);
        pool->count++;
    } else {
        memory_free(chunk);
    }
}

void wire__queue_init(struct wire__queue *queue, struct wire__pool *pool)
{
    list_init(&queue->chunks);
    queue->size_bytes = 0;
    queue->pool = pool;
}

void wire__queue_clear(struct wire__queue *queue)
{
    LIST_EACH(member, next, &queue->chunks)
    {
        give_chunk_back(queue->pool, chunk_of(member));
    }
    queue->size_bytes = 0;
}

static struct wire__chunk *last_chunk(struct wire__queue *queue)
{
    return list_is_empty(&queue->chunks) ? NULL : chunk_of(queue->chunks.previous);
}

uint8_t *wire__queue_extend(struct wire__queue *queue, uint32_t size_bytes)
{
    ASSERT(size_bytes <= WIRE__CHUNK_SIZE_BYTES / 16); /* What is left of a chunk is lost. */
    struct wire__chunk *last = last_chunk(queue);
    if (last == NULL || WIRE__CHUNK_SIZE_BYTES - last->size_bytes < size_bytes) {
        last = add_chunk(queue);
    }
    uint8_t *start = last->bytes + last->size_bytes;
    last->size_bytes += size_bytes;
    queue->size_bytes += size_bytes;
    return start;
}

void wire__queue_append(struct wire__queue *queue, struct bytes bytes)
{
    size_t copied_bytes = 0;
    while (copied_bytes < bytes.size_bytes) {
        struct wire__chunk *last = last_chunk(queue);
        if (last == NULL || last->size_bytes == WIRE__CHUNK_SIZE_BYTES) {
            last = add_chunk(queue);
        }
        size_t room_bytes = WIRE__CHUNK_SIZE_BYTES - last->size_bytes;
        size_t rest_bytes = bytes.size_bytes - copied_bytes;
        size_t count = rest_bytes < room_bytes ? rest_bytes : room_bytes;
        memcpy(last->bytes + last->size_bytes, bytes.data + copied_bytes, count);
        last->size_bytes += (uint32_t)count;
        copied_bytes += count;
    }
    queue->size_bytes += bytes.size_bytes;
}

/* Where we are in the pieces of a message. */
struct place {
    const struct bytes *pieces;
    uint64_t offset;
};

/* Append a frame with the next `payload_bytes` of the message. */
static void append_frame(struct wire__queue *queue, uint16_t kind, uint16_t flags,
                         struct place *place, uint32_t payload_bytes)
{
    uint8_t *header = wire__queue_extend(queue, WIRE_HEADER_SIZE_BYTES);
    uint32_t checksum = wire__header_begin(header, kind, flags, payload_bytes);
    uint32_t rest_bytes = payload_bytes;
    while (rest_bytes > 0) {
        struct bytes piece = *place->pieces;
        uint64_t there = piece.size_bytes - place->offset;
        uint64_t count = there < rest_bytes ? there : rest_bytes;
        if (count > 0) {
            struct bytes taken = bytes_make(piece.data + place->offset, count);
            checksum = checksum_crc32c(checksum, taken);
            wire__queue_append(queue, taken);
        }
        rest_bytes -= (uint32_t)count;
        place->offset += count;
        if (place->offset == piece.size_bytes) {
            place->pieces++;
            place->offset = 0;
        }
    }
    wire__header_end(header, checksum);
}

void wire__queue_append_message(struct wire__queue *queue, uint16_t kind,
                                const struct bytes *pieces, uint32_t piece_count,
                                uint64_t payload_bytes)
{
    ASSERT(wire__size_bytes(pieces, piece_count) == payload_bytes);
    struct place place = {.pieces = pieces};
    uint16_t flags = payload_bytes > WIRE__PART_SIZE_BYTES ? WIRE__FLAG_PART : 0;
    while (payload_bytes > WIRE__PART_SIZE_BYTES) {
        append_frame(queue, kind, flags, &place, WIRE__PART_SIZE_BYTES);
        payload_bytes -= WIRE__PART_SIZE_BYTES;
    }
    append_frame(queue, kind, flags == 0 ? 0 : flags | WIRE__FLAG_LAST, &place,
                 (uint32_t)payload_bytes);
}

struct bytes wire__queue_peek(const struct wire__queue *queue, uint32_t size_bytes_max)
{
    if (list_is_empty(&queue->chunks)) {
        return (struct bytes){0};
    }
    const struct wire__chunk *first = chunk_of(queue->chunks.next);
    uint32_t size_bytes = first->size_bytes - first->sent_bytes;
    ASSERT(size_bytes > 0);
    return bytes_make(first->bytes + first->sent_bytes,
                      size_bytes < size_bytes_max ? size_bytes : size_bytes_max);
}

void wire__queue_consume(struct wire__queue *queue, uint32_t size_bytes)
{
    struct wire__chunk *first = chunk_of(queue->chunks.next);
    ASSERT(size_bytes <= first->size_bytes - first->sent_bytes);
    first->sent_bytes += size_bytes;
    queue->size_bytes -= size_bytes;
    if (first->sent_bytes == first->size_bytes) {
        give_chunk_back(queue->pool, first);
    }
}
