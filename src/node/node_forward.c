/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of other reactors travel to the shard's loop as messages, and their replies come back
 * so.
 *
 * The session of a connection lives in the gateway's memory but is touched on the shard's thread
 * only, from the first request to the last answer; the gateway keeps a connection until its last
 * request is answered, and messages of one loop arrive in order, so a session's order is kept: what a shard
 * does not take for now goes before what comes for it later. A session has requests at one shard only at a time,
 * so shards do not wait for each other. */
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
    struct list link; /* In what its shard refused. */
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

static struct node_refused *refused_of(const struct forward *forward)
{
    struct node_refused *refused = &forward->shards->refused[node_place_of(forward->id)];
    if (refused->requests.next == NULL) { /* The first time. */
        list_init(&refused->requests);
        list_init(&refused->link);
    }
    return refused;
}

static void refuse(struct forward *forward)
{
    struct node_refused *refused = refused_of(forward);
    if (list_is_empty(&refused->requests)) {
        list_push_back(&forward->shards->refusing, &refused->link);
    }
    list_push_back(&refused->requests, &forward->link);
}

static void submit(struct forward *forward)
{
    struct reply reply = {.target = &forward->reply, .protocol = forward->request.protocol};
    int status =
        route_submit(forward->shards->cluster->route, forward->id, &forward->request, &reply);
    switch (status) {
    case SHARD_PENDING:
        return;
    case SHARD_ANSWERED:
        break;
    case -EBUSY:
        refuse(forward);
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
    /* What releases others waits for none of them; it has a session of its own. */
    if (list_is_empty(&refused_of(forward)->requests) || forward->request.does_release) {
        submit(forward);
    } else {
        refuse(forward); /* Keep the order. */
    }
}

static void retry(struct node_refused *refused)
{
    struct list requests;
    list_init(&requests);
    list_append_all(&requests, &refused->requests);
    for (struct list *member; (member = list_pop_front(&requests)) != NULL;) {
        submit(LIST_ITEM(member, struct forward, link));
        if (!list_is_empty(&refused->requests)) {
            list_append_all(&refused->requests, &requests);
        }
    }
}

void node_forward_retry(struct node_shards *shards)
{
    struct list refusing;
    list_init(&refusing);
    list_append_all(&refusing, &shards->refusing);
    for (struct list *member; (member = list_pop_front(&refusing)) != NULL;) {
        retry(LIST_ITEM(member, struct node_refused, link));
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
