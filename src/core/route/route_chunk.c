/* SPDX-License-Identifier: Apache-2.0 */
/* Replies to another node, until they are sent.
 *
 * They gather in chunks, one message each. While many wait, no further requests of that node are submitted, but
 * what the replica has already is answered all the same, and nobody knew how long that would be: a hundred short
 * requests in one entry of a log may have gigabytes of replies. So beyond a limit long ones are not kept. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "core/route/route_internal.h"

enum {
    KEPT_CHUNK_SIZE_BYTES_MAX = 64 * 1024,
    SHORT_REPLY_SIZE_BYTES_MAX = 1024, /* And a small part of the limit. */
    SHORT_REPLY_SHARE = 64,
};

/* One message of replies. */
struct route_chunk {
    struct list link;
    uint64_t number;
    uint32_t reply_count;
    struct buffer bytes; /* With room for the head. */
};

static struct route_neighbour *neighbour_of(struct route *route, raft_node node)
{
    LIST_EACH(member, next, &route->neighbours)
    {
        struct route_neighbour *known = LIST_ITEM(member, struct route_neighbour, link);
        if (known->node == node) {
            return known;
        }
    }
    struct route_neighbour *neighbour = memory_allocate_zeroed(1, sizeof *neighbour);
    neighbour->node = node;
    list_init(&neighbour->link);
    list_push_back(&route->neighbours, &neighbour->link);
    return neighbour;
}

void route__chunks_init(struct route_chunks *chunks, struct route *route, raft_node node)
{
    *chunks = (struct route_chunks){.route = route, .neighbour = neighbour_of(route, node)};
    list_init(&chunks->list);
}

void route__chunks_deinit(struct route_chunks *chunks)
{
    ASSERT(route__chunks_are_empty(chunks));
    if (chunks->spare != NULL) {
        buffer_deinit(&chunks->spare->bytes);
        memory_free(chunks->spare);
    }
}

bool route__chunks_are_empty(const struct route_chunks *chunks)
{
    return list_is_empty(&chunks->list);
}

/* ---- What may come --------------------------------------------------------------------------- */

/* Do fewer than the limit wait for the node, of all shards together? */
static bool has_neighbour_room(const struct route_chunks *chunks)
{
    return chunks->neighbour->reply_size_bytes <= chunks->route->options.reply_size_bytes_max;
}

bool route__chunks_have_room(const struct route_chunks *chunks)
{
    return chunks->size_bytes <= chunks->route->options.guest_size_bytes_max &&
           has_neighbour_room(chunks);
}

bool route__chunks_may_take(const struct route_chunks *chunks, struct bytes reply)
{
    uint64_t short_size_bytes_max =
        number_min(SHORT_REPLY_SIZE_BYTES_MAX,
                   chunks->route->options.reply_size_bytes_max / SHORT_REPLY_SHARE);
    return reply.size_bytes <= short_size_bytes_max ||
           (reply.size_bytes <= ROUTE_REPLY_SIZE_BYTES_MAX && has_neighbour_room(chunks));
}

/* ---- Gathering ------------------------------------------------------------------------------- */

static void add_size(struct route_chunks *chunks, uint64_t size_bytes)
{
    chunks->size_bytes += size_bytes;
    chunks->neighbour->reply_size_bytes += size_bytes;
}

static struct route_chunk *begin_chunk(struct route_chunks *chunks)
{
    struct route_chunk *chunk = chunks->spare;
    chunks->spare = NULL;
    if (chunk == NULL) {
        chunk = memory_allocate_zeroed(1, sizeof *chunk);
    }
    (void)buffer_extend(&chunk->bytes, ROUTE__REPLIES_HEAD_SIZE_BYTES);
    add_size(chunks, ROUTE__REPLIES_HEAD_SIZE_BYTES);
    chunk->number = ++chunks->number;
    list_init(&chunk->link);
    list_push_back(&chunks->list, &chunk->link);
    return chunk;
}

static struct route_chunk *chunk_for(struct route_chunks *chunks, size_t size_bytes)
{
    if (!list_is_empty(&chunks->list)) {
        struct route_chunk *last = LIST_ITEM(chunks->list.previous, struct route_chunk, link);
        if (last->bytes.size_bytes + size_bytes <= chunks->route->options.message_size_bytes_max) {
            return last;
        }
    }
    return begin_chunk(chunks);
}

void route__chunks_add(struct route_chunks *chunks, const struct route_wire_reply *reply)
{
    size_t size = ROUTE__REPLY_HEAD_SIZE_BYTES + reply->reply.size_bytes;
    struct route_chunk *chunk = chunk_for(chunks, size);
    route__encode_reply_head(buffer_extend(&chunk->bytes, ROUTE__REPLY_HEAD_SIZE_BYTES), reply);
    buffer_append(&chunk->bytes, reply->reply);
    chunk->reply_count++;
    add_size(chunks, size);
}

void route__chunks_add_word(struct route_chunks *chunks)
{
    if (list_is_empty(&chunks->list)) {
        (void)begin_chunk(chunks);
    }
}

/* ---- Leaving --------------------------------------------------------------------------------- */

static void drop(struct route_chunks *chunks, struct route_chunk *chunk)
{
    list_remove(&chunk->link);
    chunks->size_bytes -= chunk->bytes.size_bytes;
    chunks->neighbour->reply_size_bytes -= chunk->bytes.size_bytes;
    buffer_clear(&chunk->bytes);
    chunk->reply_count = 0;
    if (chunks->spare == NULL && chunk->bytes.capacity_bytes <= KEPT_CHUNK_SIZE_BYTES_MAX) {
        chunks->spare = chunk;
        return;
    }
    buffer_deinit(&chunk->bytes);
    memory_free(chunk);
}

void route__chunks_clear(struct route_chunks *chunks)
{
    while (!list_is_empty(&chunks->list)) {
        drop(chunks, LIST_ITEM(chunks->list.next, struct route_chunk, link));
    }
    ASSERT(chunks->size_bytes == 0);
}

int route__chunks_send(struct route_chunks *chunks, const struct route_message *head)
{
    while (!list_is_empty(&chunks->list)) {
        struct route_chunk *chunk = LIST_ITEM(chunks->list.next, struct route_chunk, link);
        struct route_message message = *head;
        message.message_number = chunk->number;
        message.item_count = chunk->reply_count;
        route__encode_replies_head(chunk->bytes.data, &message);
        struct bytes piece = buffer_bytes(&chunk->bytes);
        int status = route__send(chunks->route, chunks->neighbour->node, &piece, 1);
        if (status != 0) {
            return status;
        }
        drop(chunks, chunk);
    }
    return 0;
}
