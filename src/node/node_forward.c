/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of other reactors travel to the shard's loop as messages, and their replies come back
 * so.
 *
 * The session of a connection lives in the gateway's memory but is touched on the shard's thread
 * only, from the first request to the last answer; the gateway keeps a connection until its last
 * request is answered, and messages of one loop arrive in order, so a session's order is kept. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

struct forward {
    struct os_message message;
    struct shard_request request; /* The shard's, for `origin`. */
    struct shard_request *origin; /* The gateway's, on `home`. */
    struct node_shards *shards;
    wal_shard id;
    struct os_loop *home;
    struct list link; /* In `refused`. */
    int status;
    struct buffer reply;
    struct bytes arguments[];
};

static void return_home(struct os_message *message)
{
    struct forward *forward = LIST_ITEM(message, struct forward, message);
    /* After ERROR_MOVED it may be asked again. */
    forward->origin->command.arguments = forward->arguments;
    forward->origin->done(forward->origin, forward->status, buffer_bytes(&forward->reply));
    buffer_deinit(&forward->reply);
    memory_free(forward);
}

static void send_home(struct forward *forward)
{
    forward->message.deliver = return_home;
    os_loop_post(forward->home, &forward->message);
}

static void answered(struct shard_request *request, int status, struct bytes reply)
{
    struct forward *forward = LIST_ITEM(request, struct forward, request);
    forward->status = status;
    buffer_append(&forward->reply, reply);
    send_home(forward);
}

static void submit(struct forward *forward)
{
    struct reply reply = {&forward->reply, forward->request.protocol};
    int status =
        route_submit(forward->shards->cluster->route, forward->id, &forward->request, &reply);
    switch (status) {
    case SHARD_PENDING:
        return;
    case SHARD_ANSWERED:
        break;
    case -EBUSY:
        list_push_back(&forward->shards->refused, &forward->link);
        return;
    default:
        forward->status = status;
        break;
    }
    send_home(forward);
}

static void arrive(struct os_message *message)
{
    struct forward *forward = LIST_ITEM(message, struct forward, message);
    if (list_is_empty(&forward->shards->refused)) {
        submit(forward);
    } else {
        list_push_back(&forward->shards->refused, &forward->link); /* Keep the order. */
    }
}

void node_forward_retry(struct node_shards *shards)
{
    struct list refused;
    list_init(&refused);
    list_append_all(&refused, &shards->refused);
    for (struct list *member; (member = list_pop_front(&refused)) != NULL;) {
        submit(LIST_ITEM(member, struct forward, link));
        if (!list_is_empty(&shards->refused)) {
            list_append_all(&shards->refused, &refused);
        }
    }
}

int node_forward_submit(struct node_shards *shards, struct os_loop *home, wal_shard id,
                        struct shard_request *request)
{
    uint32_t count = request->command.argument_count;
    size_t size = sizeof(struct forward) + sizeof(struct bytes) * count;
    for (uint32_t i = 0; i < count; i++) {
        size += request->command.arguments[i].size_bytes;
    }
    struct forward *forward = memory_allocate(size);
    *forward = (struct forward){
        .request = *request, .origin = request, .shards = shards, .id = id, .home = home};
    uint8_t *place = (uint8_t *)(forward->arguments + count);
    for (uint32_t i = 0; i < count; i++) {
        struct bytes argument = request->command.arguments[i];
        forward->arguments[i] = bytes_make(place, argument.size_bytes);
        if (argument.size_bytes > 0) {
            memcpy(place, argument.data, argument.size_bytes);
            place += argument.size_bytes;
        }
    }
    list_init(&forward->link);
    forward->request.command.arguments = forward->arguments;
    forward->request.done = answered;
    forward->message.deliver = arrive;
    os_loop_post(shards->loop, &forward->message);
    return SHARD_PENDING;
}
