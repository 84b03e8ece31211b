/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of any content, to a route that serves and to one that asks: it never breaks, a bad one
 * changes nothing, what is decoded is encoded to the same bytes, and everything is gone at the end.
 *
 * Input
 *    0  1  1: the route leads and serves; else it asks. 2: set grant and numbers right, so that what
 *          is behind them is reached.
 *    1     messages, each a size of 2 bytes and its bytes */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "core/route/route_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { SELF = 1, OTHER = 2, SHARD = 1, BOOT_ID = 77, REQUEST_COUNT = 5 };

struct pending {
    struct list link;
    struct shard_request *request;
};

struct host {
    struct route *route;
    uint64_t now_ms;
    bool does_lead;
    uint64_t grant; /* As it was told or is told. */
    uint64_t ask_number;
    uint64_t number; /* Of messages to the route. */
    struct list pending;
    struct shard_session session;
    struct shard_request requests[REQUEST_COUNT];
    uint32_t under_way_count;
};

static uint64_t now_ms(void *context)
{
    return ((struct host *)context)->now_ms;
}

static int submit_local(void *context, wal_shard shard, struct shard_request *request,
                        const struct reply *reply)
{
    struct host *host = context;
    ASSERT(shard == SHARD);
    ASSERT(request->end_slot <= SLOTS_COUNT);
    ASSERT_IF(request->end_slot != 0, request->first_slot < request->end_slot);
    for (uint32_t i = 0; i < request->command.argument_count; i++) {
        struct bytes argument = request->command.arguments[i];
        ASSERT(argument.size_bytes == 0 || argument.data[0] == argument.data[0]);
    }
    if (!host->does_lead) {
        return ERROR_NOT_LEADER;
    }
    switch (request->command.opcode % 8) {
    case 0:
        return -EBUSY;
    case 1:
        return -ENOSPC;
    case 2:
        return ERROR_OUTCOME_UNKNOWN;
    case 3:
        buffer_append(reply->target, BYTES("answer"));
        return SHARD_ANSWERED;
    case 4:
        return request->end_slot != 0 ? ERROR_MOVED : ERROR_NOT_LEADER;
    default:
        break;
    }
    struct pending *pending = memory_allocate_zeroed(1, sizeof *pending);
    pending->request = request;
    list_init(&pending->link);
    list_push_back(&host->pending, &pending->link);
    return SHARD_PENDING;
}

static void answer_pending(struct host *host)
{
    for (struct list *member; (member = list_pop_front(&host->pending)) != NULL;) {
        struct pending *pending = LIST_ITEM(member, struct pending, link);
        pending->request->done(pending->request, 0, BYTES("later"));
        memory_free(pending);
    }
}

static raft_node local_leader(void *context, wal_shard shard)
{
    return ((struct host *)context)->does_lead ? SELF : OTHER;
}

static raft_index local_applied_index(void *context, wal_shard shard)
{
    return 10;
}

static void set_floor(void *context, wal_shard shard, const struct shard_floor *floor)
{
    ASSERT(shard == SHARD && floor->origin != 0 && floor->floor != 0);
}

/* What the route says must be what it would understand. */
static int send_message(void *context, raft_node node, const struct bytes *pieces,
                        uint32_t piece_count)
{
    struct host *host = context;
    struct buffer bytes = {0};
    for (uint32_t i = 0; i < piece_count; i++) {
        buffer_append(&bytes, pieces[i]);
    }
    struct route_message message;
    int status = route__decode(buffer_bytes(&bytes), &message);
    ASSERT(status == 0);
    if (message.kind == ROUTE_MESSAGE_TOLD) {
        host->grant = message.grant;
    } else if (message.kind == ROUTE_MESSAGE_ASK) {
        host->ask_number = message.number;
    }
    buffer_deinit(&bytes);
    return host->now_ms % 7 == 0 ? -EBUSY : 0;
}

static raft_node next_node(void *context, wal_shard shard, raft_node after)
{
    return OTHER;
}

static void request_done(struct shard_request *request, int status, struct bytes reply)
{
    struct host *host =
        LIST_ITEM(request->session, struct host, session); /* All are of that session. */
    ASSERT(host->under_way_count > 0);
    ASSERT_IF(status == ERROR_MOVED, bytes_equal(request->command.arguments[0], BYTES("key")));
    host->under_way_count--;
}

/* Requests that wait for replies. */
static void ask(struct host *host)
{
    static const struct bytes arguments[] = {{(const uint8_t *)"key", 3}};
    for (uint32_t i = 0; i < REQUEST_COUNT; i++) {
        struct shard_request *request = &host->requests[i];
        request->command = (struct shard_command){7, 1, arguments};
        request->protocol = 2;
        request->is_write = i % 2 == 0;
        request->is_cheap = true;
        request->first_slot = 3;
        request->end_slot = 9;
        request->done = request_done;
        request->session = &host->session;
        int status = route_submit(host->route, SHARD, request, &(struct reply){0});
        ASSERT(status == SHARD_PENDING);
        host->under_way_count++;
    }
    (void)route_tick(host->route);
    uint8_t bytes[ROUTE__TOLD_SIZE_BYTES];
    struct route_message told = {
        .shard = SHARD, .number = host->ask_number, .grant = 99, .room_bytes = 1 << 20};
    host->grant = 99;
    route__encode_told(bytes, &told);
    int status = route_receive(host->route, OTHER, BOOT_ID, bytes_make(bytes, sizeof bytes));
    ASSERT(status == 0);
    host->now_ms = 8;
    (void)route_tick(host->route);
}

static void be_asked(struct host *host)
{
    uint8_t bytes[ROUTE__ASK_SIZE_BYTES];
    route__encode_ask(bytes, SHARD, 1);
    int status = route_receive(host->route, OTHER, BOOT_ID, bytes_make(bytes, sizeof bytes));
    ASSERT(status == 0);
}

static void mend(struct host *host, uint8_t *message, size_t size_bytes)
{
    if (size_bytes < 24) {
        return;
    }
    message[0] = 1;
    endian_put_u32_le(message + 4, SHARD);
    endian_put_u64_le(message + 8,
                      message[1] == ROUTE_MESSAGE_TOLD ? host->ask_number : host->grant);
    if (message[1] == ROUTE_MESSAGE_REQUESTS || message[1] == ROUTE_MESSAGE_REPLIES) {
        endian_put_u64_le(message + 16, host->number + 1);
    }
}

static void check_encoding(struct bytes message)
{
    struct route_message decoded;
    if (route__decode(message, &decoded) != 0 || decoded.kind != ROUTE_MESSAGE_REQUESTS) {
        return;
    }
    uint8_t head[ROUTE__REQUESTS_HEAD_SIZE_BYTES];
    route__encode_requests_head(head, &decoded);
    ASSERT(memcmp(head, message.data, sizeof head) == 0);
    struct bytes items = decoded.items;
    for (uint32_t i = 0; i < decoded.item_count; i++) {
        const uint8_t *start = items.data;
        struct route_wire_request wire;
        route__next_request(&items, &wire);
        uint8_t bytes[ROUTE__REQUEST_HEAD_SIZE_BYTES];
        route__encode_request_head(bytes, &wire);
        ASSERT(memcmp(bytes, start, sizeof bytes) == 0);
    }
    ASSERT(items.size_bytes == 0);
}

static void receive(struct host *host, struct bytes message)
{
    check_encoding(message);
    struct route_statistics before;
    struct route_statistics after;
    route_get_statistics(host->route, &before);
    int status = route_receive(host->route, OTHER, BOOT_ID, message);
    if (status == 0) {
        host->number +=
            message.data[1] == ROUTE_MESSAGE_REQUESTS || message.data[1] == ROUTE_MESSAGE_REPLIES;
        return;
    }
    ASSERT(status == ERROR_PROTOCOL);
    route_get_statistics(host->route, &after);
    before.malformed_count++;
    ASSERT(memcmp(&before, &after, sizeof before) == 0);
}

static void feed(struct host *host, struct bytes input, bool is_mended)
{
    while (input.size_bytes >= 2) {
        size_t size = endian_get_u16_le(input.data);
        input = bytes_make(input.data + 2, input.size_bytes - 2);
        size = size < input.size_bytes ? size : input.size_bytes;
        uint8_t *message = memory_allocate(size + 1);
        memcpy(message, input.data, size);
        input = bytes_make(input.data + size, input.size_bytes - size);
        if (is_mended) {
            mend(host, message, size);
        }
        receive(host, bytes_make(message, size));
        memory_free(message);
        host->now_ms += 3;
        if (size % 2 == 0) {
            (void)route_tick(host->route);
            answer_pending(host);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < 1) {
        return 0;
    }
    struct host host = {.now_ms = 1, .does_lead = (data[0] & 1) != 0};
    list_init(&host.pending);
    shard_session_init(&host.session);
    struct route_options options = {
        .self = SELF,
        .origin = 5,
        .random_seed = 6,
        .guest_size_bytes_max = 4096,
        .message_size_bytes_max = 512,
        .host = {.context = &host,
                 .clock = {.context = &host, .now_ms = now_ms},
                 .submit_local = submit_local,
                 .local_leader = local_leader,
                 .local_applied_index = local_applied_index,
                 .set_floor = set_floor,
                 .send = send_message,
                 .next_node = next_node},
    };
    int status = route_create(&host.route, &options, NULL);
    ASSERT(status == 0);
    route_add_shard(host.route, SHARD);
    if (host.does_lead) {
        be_asked(&host);
    } else {
        ask(&host);
    }
    feed(&host, bytes_make(data + 1, size_bytes - 1), (data[0] & 2) != 0);
    route_peer_gone(host.route, OTHER); /* Patience may be long. */
    for (uint32_t i = 0; i < 3; i++) {
        host.now_ms += 40000; /* Past every deadline. */
        (void)route_tick(host.route);
        answer_pending(&host);
    }
    ASSERT(host.under_way_count == 0);
    struct route_statistics statistics;
    route_get_statistics(host.route, &statistics);
    ASSERT(statistics.held_count == 0 && statistics.held_size_bytes == 0);
    ASSERT(statistics.guest_request_count == 0);
    route_destroy(host.route);
    return 0;
}
