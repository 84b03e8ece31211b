/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert/assert.h"
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

static struct wire__chunk *take_chunk(struct wire__pool *pool, uint32_t size_bytes)
{
    struct wire__chunk *chunk = NULL;
    if (size_bytes <= WIRE__CHUNK_SIZE_BYTES && pool->count > 0) {
        chunk = chunk_of(list_pop_front(&pool->chunks));
        pool->count--;
    } else {
        uint32_t capacity_bytes =
            size_bytes > WIRE__CHUNK_SIZE_BYTES ? size_bytes : (uint32_t)WIRE__CHUNK_SIZE_BYTES;
        chunk = memory_allocate(sizeof *chunk + capacity_bytes);
        list_init(&chunk->member);
        chunk->capacity_bytes = capacity_bytes;
    }
    chunk->size_bytes = 0;
    chunk->sent_bytes = 0;
    return chunk;
}

static void give_chunk_back(struct wire__pool *pool, struct wire__chunk *chunk)
{
    list_remove(&chunk->member);
    if (chunk->capacity_bytes == WIRE__CHUNK_SIZE_BYTES && pool->count < WIRE__SPARE_CHUNKS_MAX) {
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

uint8_t *wire__queue_extend(struct wire__queue *queue, uint32_t size_bytes)
{
    struct wire__chunk *last =
        list_is_empty(&queue->chunks) ? NULL : chunk_of(queue->chunks.previous);
    if (last == NULL || last->capacity_bytes - last->size_bytes < size_bytes) {
        last = take_chunk(queue->pool, size_bytes);
        list_push_back(&queue->chunks, &last->member);
    }
    uint8_t *start = last->bytes + last->size_bytes;
    last->size_bytes += size_bytes;
    queue->size_bytes += size_bytes;
    return start;
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
