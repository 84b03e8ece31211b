/* SPDX-License-Identifier: Apache-2.0 */
#include "core/shard/shard_window_queue.h"

#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

/* Chunks begin small, for shards and gateways that write little, and grow while answers stay. */
enum {
    CHUNK_SIZE_BYTES_MIN = 512,
    CHUNK_SIZE_BYTES_MAX = 4096,
    ALIGNMENT = 8,
    SPARE_COUNT_MAX = 16
};

struct chunk {
    struct list link;
    size_t capacity_bytes;
    size_t start; /* Of the oldest answer. */
    size_t end;
    uint64_t data[]; /* Aligned. */
};

static struct chunk *chunk_of(struct list *link)
{
    return LIST_ITEM(link, struct chunk, link);
}

static size_t size_with(size_t reply_size_bytes)
{
    size_t size = sizeof(struct window_answer) + reply_size_bytes;
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

size_t shard__window_answer_size_bytes(const struct window_answer *answer)
{
    return size_with(answer->reply_size_bytes);
}

void shard__window_spares_init(struct window_spares *spares)
{
    list_init(&spares->chunks);
    spares->count = 0;
}

void shard__window_spares_free(struct window_spares *spares)
{
    for (struct list *link; (link = list_pop_front(&spares->chunks)) != NULL;) {
        memory_free(chunk_of(link));
    }
    spares->count = 0;
}

/* The one that was used last: the processor may still have it. NULL: there is none. */
static struct chunk *take_spare(struct window_spares *spares)
{
    struct list *link = list_pop_front(&spares->chunks);
    spares->count -= link != NULL;
    return link != NULL ? chunk_of(link) : NULL;
}

static void give_back(struct window_spares *spares, struct chunk *chunk)
{
    if (chunk->capacity_bytes != CHUNK_SIZE_BYTES_MAX || spares->count == SPARE_COUNT_MAX) {
        memory_free(chunk);
        return;
    }
    list_push_front(&spares->chunks, &chunk->link);
    spares->count++;
}

void shard__window_queue_init(struct window_queue *queue)
{
    list_init(&queue->chunks);
    queue->chunk_size_bytes = 0;
}

bool shard__window_queue_is_empty(const struct window_queue *queue)
{
    return list_is_empty(&queue->chunks);
}

/* A chunk with room behind the newest answer. */
static struct chunk *chunk_for(struct window_queue *queue, struct window_spares *spares,
                               size_t size_bytes)
{
    if (!list_is_empty(&queue->chunks)) {
        struct chunk *newest = chunk_of(queue->chunks.previous);
        if (newest->capacity_bytes - newest->end >= size_bytes) {
            return newest;
        }
    }
    size_t wanted = 2 * queue->chunk_size_bytes;
    wanted = wanted < CHUNK_SIZE_BYTES_MIN ? CHUNK_SIZE_BYTES_MIN : wanted;
    wanted = wanted < CHUNK_SIZE_BYTES_MAX ? wanted : CHUNK_SIZE_BYTES_MAX;
    queue->chunk_size_bytes = wanted;
    size_t capacity = wanted < size_bytes ? size_bytes : wanted; /* A long one is alone. */
    struct chunk *chunk = size_bytes <= CHUNK_SIZE_BYTES_MAX ? take_spare(spares) : NULL;
    if (chunk != NULL) {
        capacity = chunk->capacity_bytes;
    } else {
        chunk = memory_allocate(sizeof *chunk + capacity);
    }
    *chunk = (struct chunk){.capacity_bytes = capacity};
    list_push_back(&queue->chunks, &chunk->link);
    return chunk;
}

static struct window_answer *push(struct window_queue *queue, struct window_spares *spares,
                                  uint64_t sequence, raft_index index, struct bytes reply)
{
    size_t size = size_with(reply.size_bytes);
    struct chunk *chunk = chunk_for(queue, spares, size);
    struct window_answer *answer =
        (struct window_answer *)(void *)((uint8_t *)chunk->data + chunk->end);
    chunk->end += size;
    answer->sequence = sequence;
    answer->index = index;
    answer->reply_size_bytes = (uint32_t)reply.size_bytes;
    answer->is_lost = false;
    if (reply.size_bytes > 0) {
        memcpy(answer->reply, reply.data, reply.size_bytes);
    }
    return answer;
}

const struct window_answer *shard__window_queue_push(struct window_queue *queue,
                                                     struct window_spares *spares,
                                                     uint64_t sequence, raft_index index,
                                                     struct bytes reply)
{
    return reply.size_bytes > UINT32_MAX
               ? shard__window_queue_push_lost(queue, spares, sequence, index)
               : push(queue, spares, sequence, index, reply);
}

const struct window_answer *shard__window_queue_push_lost(struct window_queue *queue,
                                                          struct window_spares *spares,
                                                          uint64_t sequence, raft_index index)
{
    struct window_answer *answer = push(queue, spares, sequence, index, BYTES(""));
    answer->is_lost = true;
    return answer;
}

const struct window_answer *shard__window_queue_first(const struct window_queue *queue)
{
    ASSERT(!list_is_empty(&queue->chunks));
    struct chunk *oldest = chunk_of(queue->chunks.next);
    return (const struct window_answer *)(const void *)((uint8_t *)oldest->data + oldest->start);
}

void shard__window_queue_pop(struct window_queue *queue, struct window_spares *spares)
{
    struct chunk *oldest = chunk_of(queue->chunks.next);
    oldest->start += shard__window_answer_size_bytes(shard__window_queue_first(queue));
    ASSERT(oldest->start <= oldest->end);
    if (oldest->start == oldest->end) {
        list_remove(&oldest->link);
        give_back(spares, oldest);
    }
    if (list_is_empty(&queue->chunks)) {
        queue->chunk_size_bytes = 0; /* Small again. */
    }
}
