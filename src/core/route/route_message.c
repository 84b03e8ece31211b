/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between routes; integers are little-endian. docs/formats/route.md is the table.
 *
 * A message is believed as a whole or not at all: route__decode() walks over every item before
 * anything is done with the first. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "core/route/route_internal.h"

enum {
    VERSION = 1,
    HEAD_SIZE_BYTES = 16,
    ARGUMENT_HEAD_SIZE_BYTES = 4,
    FLAG_WRITE = 1,
    FLAG_GROWS = 2,
    FLAG_RETRY = 4,
    FLAGS_ALL = FLAG_WRITE | FLAG_GROWS | FLAG_RETRY,
};

/* ---- Encoding -------------------------------------------------------------------------------- */

static void encode_head(uint8_t *target, enum route_message_kind kind, wal_shard shard,
                        uint64_t number)
{
    target[0] = VERSION;
    target[1] = (uint8_t)kind;
    endian_put_u16_le(target + 2, 0);
    endian_put_u32_le(target + 4, shard);
    endian_put_u64_le(target + 8, number);
}

void route__encode_ask(uint8_t *target, wal_shard shard, uint64_t number)
{
    encode_head(target, ROUTE_MESSAGE_ASK, shard, number);
}

void route__encode_told(uint8_t *target, const struct route_message *message)
{
    encode_head(target, ROUTE_MESSAGE_TOLD, message->shard, message->number);
    endian_put_u64_le(target + 16, message->grant);
    endian_put_u64_le(target + 24, message->applied_index);
    endian_put_u64_le(target + 32, message->room_bytes);
    endian_put_u32_le(target + 40, message->leader);
    endian_put_u32_le(target + 44, 0);
}

void route__encode_ended(uint8_t *target, const struct route_message *message)
{
    encode_head(target, ROUTE_MESSAGE_ENDED, message->shard, message->number);
    endian_put_u32_le(target + 16, message->leader);
    endian_put_u32_le(target + 20, (uint32_t)message->reason);
    endian_put_u64_le(target + 24, message->message_number);
}

void route__encode_floor(uint8_t *target, wal_shard shard, uint64_t origin, uint64_t floor)
{
    encode_head(target, ROUTE_MESSAGE_FLOOR, shard, origin);
    endian_put_u64_le(target + 16, floor);
}

void route__encode_requests_head(uint8_t *target, const struct route_message *message)
{
    encode_head(target, ROUTE_MESSAGE_REQUESTS, message->shard, message->number);
    endian_put_u64_le(target + 16, message->message_number);
    endian_put_u64_le(target + 24, message->origin);
    endian_put_u64_le(target + 32, message->seen_number);
    endian_put_u32_le(target + 40, message->item_count);
    endian_put_u16_le(target + 44, message->first_slot);
    endian_put_u16_le(target + 46, message->end_slot == 0 ? 0 : message->end_slot - 1);
}

void route__encode_replies_head(uint8_t *target, const struct route_message *message)
{
    encode_head(target, ROUTE_MESSAGE_REPLIES, message->shard, message->number);
    endian_put_u64_le(target + 16, message->message_number);
    endian_put_u64_le(target + 24, message->applied_index);
    endian_put_u32_le(target + 32, message->item_count);
    endian_put_u32_le(target + 36, 0);
}

void route__encode_request_head(uint8_t *target, const struct route_wire_request *request)
{
    unsigned flags = request->is_write ? FLAG_WRITE : 0;
    flags |= request->does_grow ? FLAG_GROWS : 0;
    flags |= request->is_retry ? FLAG_RETRY : 0;
    endian_put_u64_le(target, request->session);
    endian_put_u64_le(target + 8, request->sequence);
    endian_put_u64_le(target + 16, request->known_index);
    endian_put_u16_le(target + 24, request->opcode);
    target[26] = request->protocol;
    target[27] = (uint8_t)flags;
    endian_put_u32_le(target + 28, request->patience_ms);
    endian_put_u32_le(target + 32, request->argument_count);
    endian_put_u32_le(target + 36, (uint32_t)request->arguments.size_bytes);
}

void route__encode_reply_head(uint8_t *target, const struct route_wire_reply *reply)
{
    endian_put_u64_le(target, reply->sequence);
    endian_put_u32_le(target + 8, (uint32_t)reply->verdict);
    endian_put_u32_le(target + 12, (uint32_t)reply->reply.size_bytes);
}

uint64_t route__arguments_size_bytes(const struct shard_command *command)
{
    uint64_t size_bytes = (uint64_t)command->argument_count * ARGUMENT_HEAD_SIZE_BYTES;
    for (uint32_t i = 0; i < command->argument_count; i++) {
        size_bytes += command->arguments[i].size_bytes;
    }
    return size_bytes;
}

void route__encode_arguments(uint8_t *target, const struct shard_command *command)
{
    for (uint32_t i = 0; i < command->argument_count; i++) {
        struct bytes argument = command->arguments[i];
        endian_put_u32_le(target, (uint32_t)argument.size_bytes);
        target += ARGUMENT_HEAD_SIZE_BYTES;
        if (argument.size_bytes > 0) {
            memcpy(target, argument.data, argument.size_bytes);
            target += argument.size_bytes;
        }
    }
}

/* ---- Decoding -------------------------------------------------------------------------------- */

static struct bytes bytes_after(struct bytes source, size_t count_bytes)
{
    return bytes_make(source.data + count_bytes, source.size_bytes - count_bytes);
}

static bool are_arguments_valid(struct bytes arguments, uint32_t count)
{
    if (count > SHARD_ARGUMENT_COUNT_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (arguments.size_bytes < ARGUMENT_HEAD_SIZE_BYTES) {
            return false;
        }
        size_t size = endian_get_u32_le(arguments.data);
        arguments = bytes_after(arguments, ARGUMENT_HEAD_SIZE_BYTES);
        if (size > arguments.size_bytes) {
            return false;
        }
        arguments = bytes_after(arguments, size);
    }
    return arguments.size_bytes == 0;
}

static bool are_requests_valid(struct bytes items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (items.size_bytes < ROUTE__REQUEST_HEAD_SIZE_BYTES) {
            return false;
        }
        const uint8_t *head = items.data;
        uint64_t session = endian_get_u64_le(head);
        uint64_t sequence = endian_get_u64_le(head + 8);
        bool is_write = (head[27] & FLAG_WRITE) != 0;
        size_t size = endian_get_u32_le(head + 36);
        items = bytes_after(items, ROUTE__REQUEST_HEAD_SIZE_BYTES);
        if (session == 0 || sequence == 0 || (head[26] != 2 && head[26] != 3) ||
            (head[27] & ~(is_write ? FLAGS_ALL : 0)) != 0 || size > ROUTE__ITEM_SIZE_BYTES_MAX ||
            size > items.size_bytes ||
            !are_arguments_valid(bytes_make(items.data, size), endian_get_u32_le(head + 32))) {
            return false;
        }
        items = bytes_after(items, size);
    }
    return items.size_bytes == 0;
}

static bool are_replies_valid(struct bytes items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (items.size_bytes < ROUTE__REPLY_HEAD_SIZE_BYTES) {
            return false;
        }
        const uint8_t *head = items.data;
        uint64_t sequence = endian_get_u64_le(head);
        uint32_t verdict = endian_get_u32_le(head + 8);
        size_t size = endian_get_u32_le(head + 12);
        items = bytes_after(items, ROUTE__REPLY_HEAD_SIZE_BYTES);
        if (sequence == 0 || verdict >= ROUTE_VERDICT_COUNT || size > items.size_bytes ||
            (verdict != ROUTE_VERDICT_ANSWERED && size > 0)) {
            return false;
        }
        items = bytes_after(items, size);
    }
    return items.size_bytes == 0;
}

static bool decode_told(struct bytes source, struct route_message *message)
{
    if (source.size_bytes != ROUTE__TOLD_SIZE_BYTES) {
        return false;
    }
    message->grant = endian_get_u64_le(source.data + 16);
    message->applied_index = endian_get_u64_le(source.data + 24);
    message->room_bytes = endian_get_u64_le(source.data + 32);
    message->leader = endian_get_u32_le(source.data + 40);
    return endian_get_u32_le(source.data + 44) == 0;
}

static bool decode_ended(struct bytes source, struct route_message *message)
{
    if (source.size_bytes != ROUTE__ENDED_SIZE_BYTES) {
        return false;
    }
    uint32_t reason = endian_get_u32_le(source.data + 20);
    message->leader = endian_get_u32_le(source.data + 16);
    message->reason = (enum route_ended_reason)reason;
    message->message_number = endian_get_u64_le(source.data + 24);
    return reason >= ROUTE_ENDED_NOT_LEADER && reason <= ROUTE_ENDED_FULL;
}

static bool decode_floor(struct bytes source, struct route_message *message)
{
    if (source.size_bytes != ROUTE__FLOOR_SIZE_BYTES) {
        return false;
    }
    message->floor = endian_get_u64_le(source.data + 16);
    return message->floor != 0;
}

/* Both 0: not said, or slot 0 alone. */
static bool decode_slots(const uint8_t *source, struct route_message *message)
{
    uint16_t first = endian_get_u16_le(source);
    uint16_t last = endian_get_u16_le(source + 2);
    message->first_slot = first;
    message->end_slot = last == 0 ? 0 : last + 1;
    return first <= last && last < SLOTS_COUNT;
}

static bool decode_requests(struct bytes source, struct route_message *message)
{
    if (source.size_bytes < ROUTE__REQUESTS_HEAD_SIZE_BYTES) {
        return false;
    }
    message->message_number = endian_get_u64_le(source.data + 16);
    message->origin = endian_get_u64_le(source.data + 24);
    message->seen_number = endian_get_u64_le(source.data + 32);
    message->item_count = endian_get_u32_le(source.data + 40);
    message->items = bytes_after(source, ROUTE__REQUESTS_HEAD_SIZE_BYTES);
    return decode_slots(source.data + 44, message) && message->message_number != 0 &&
           message->origin != 0 && are_requests_valid(message->items, message->item_count);
}

static bool decode_replies(struct bytes source, struct route_message *message)
{
    if (source.size_bytes < ROUTE__REPLIES_HEAD_SIZE_BYTES) {
        return false;
    }
    message->message_number = endian_get_u64_le(source.data + 16);
    message->applied_index = endian_get_u64_le(source.data + 24);
    message->item_count = endian_get_u32_le(source.data + 32);
    message->items = bytes_after(source, ROUTE__REPLIES_HEAD_SIZE_BYTES);
    return endian_get_u32_le(source.data + 36) == 0 && message->message_number != 0 &&
           are_replies_valid(message->items, message->item_count);
}

static bool decode(struct bytes source, struct route_message *message)
{
    if (source.size_bytes < HEAD_SIZE_BYTES || source.data[0] != VERSION ||
        endian_get_u16_le(source.data + 2) != 0) {
        return false;
    }
    message->shard = endian_get_u32_le(source.data + 4);
    message->number = endian_get_u64_le(source.data + 8);
    if (message->number == 0) {
        return false;
    }
    message->kind = (enum route_message_kind)source.data[1];
    switch (message->kind) {
    case ROUTE_MESSAGE_ASK:
        return source.size_bytes == ROUTE__ASK_SIZE_BYTES;
    case ROUTE_MESSAGE_TOLD:
        return decode_told(source, message);
    case ROUTE_MESSAGE_REQUESTS:
        return decode_requests(source, message);
    case ROUTE_MESSAGE_REPLIES:
        return decode_replies(source, message);
    case ROUTE_MESSAGE_ENDED:
        return decode_ended(source, message);
    case ROUTE_MESSAGE_FLOOR:
        return decode_floor(source, message);
    }
    return false;
}

int route__decode(struct bytes source, struct route_message *message)
{
    *message = (struct route_message){0};
    return decode(source, message) ? 0 : ERROR_PROTOCOL;
}

void route__next_request(struct bytes *items, struct route_wire_request *request)
{
    ASSERT(items->size_bytes >= ROUTE__REQUEST_HEAD_SIZE_BYTES);
    const uint8_t *head = items->data;
    size_t size = endian_get_u32_le(head + 36);
    *request = (struct route_wire_request){
        .session = endian_get_u64_le(head),
        .sequence = endian_get_u64_le(head + 8),
        .known_index = endian_get_u64_le(head + 16),
        .opcode = endian_get_u16_le(head + 24),
        .protocol = head[26],
        .is_write = (head[27] & FLAG_WRITE) != 0,
        .does_grow = (head[27] & FLAG_GROWS) != 0,
        .is_retry = (head[27] & FLAG_RETRY) != 0,
        .patience_ms = endian_get_u32_le(head + 28),
        .argument_count = endian_get_u32_le(head + 32),
        .arguments = bytes_make(head + ROUTE__REQUEST_HEAD_SIZE_BYTES, size),
    };
    *items = bytes_after(*items, ROUTE__REQUEST_HEAD_SIZE_BYTES + size);
}

void route__next_reply(struct bytes *items, struct route_wire_reply *reply)
{
    ASSERT(items->size_bytes >= ROUTE__REPLY_HEAD_SIZE_BYTES);
    const uint8_t *head = items->data;
    size_t size = endian_get_u32_le(head + 12);
    *reply = (struct route_wire_reply){
        .sequence = endian_get_u64_le(head),
        .verdict = (enum route_verdict)endian_get_u32_le(head + 8),
        .reply = bytes_make(head + ROUTE__REPLY_HEAD_SIZE_BYTES, size),
    };
    *items = bytes_after(*items, ROUTE__REPLY_HEAD_SIZE_BYTES + size);
}

void route__decode_arguments(struct bytes source, uint32_t argument_count, struct bytes *arguments)
{
    for (uint32_t i = 0; i < argument_count; i++) {
        ASSERT(source.size_bytes >= ARGUMENT_HEAD_SIZE_BYTES);
        size_t size = endian_get_u32_le(source.data);
        source = bytes_after(source, ARGUMENT_HEAD_SIZE_BYTES);
        arguments[i] = bytes_make(source.data, size);
        source = bytes_after(source, size);
    }
}
