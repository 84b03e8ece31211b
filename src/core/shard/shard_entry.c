/* SPDX-License-Identifier: Apache-2.0 */
/* The payload of a log entry. Integers are little-endian; docs/formats/entry.md is the same table.
 *
 *   offset  size  meaning
 *        0     1  1, or 2 when commands have identities
 *        1     3  zero
 *        4     4  number of commands
 *        8     8  the leader's wall clock, milliseconds since 1970
 *       16        commands, one after the other:
 *                   2  opcode
 *                   2  flags: 1 it has an identity, 2 the reply is in RESP3
 *                   4  number of arguments
 *                   8  origin   } with flag 1
 *                   8  sequence }
 *                      arguments, each: 4 size, then its bytes
 *
 * An entry that changes the configuration begins with 3, followed by the configuration
 * (docs/formats/raft.md). The empty entry that begins a term has an empty payload. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

enum {
    HEADER_SIZE_BYTES = SHARD_ENTRY_HEADER_SIZE_BYTES,
    COMMAND_SIZE_BYTES = 8,
    IDENTITY_SIZE_BYTES = 16,
    ARGUMENT_SIZE_BYTES = 4,
};
enum { FLAG_IDENTITY = 1, FLAG_RESP3 = 2 };

void shard__entry_begin(struct buffer *payload)
{
    buffer_clear(payload);
    memset(buffer_extend(payload, HEADER_SIZE_BYTES), 0, HEADER_SIZE_BYTES);
}

uint64_t shard__command_size_bytes(const struct shard_command *command)
{
    uint64_t size = COMMAND_SIZE_BYTES + IDENTITY_SIZE_BYTES +
                    (uint64_t)ARGUMENT_SIZE_BYTES * command->argument_count;
    for (uint32_t i = 0; i < command->argument_count; i++) {
        size += command->arguments[i].size_bytes;
    }
    return size;
}

void shard__entry_add(struct buffer *payload, const struct shard_decoded *decoded)
{
    const struct shard_command *command = &decoded->command;
    bool has_identity = decoded->origin != 0;
    uint64_t size = shard__command_size_bytes(command);
    if (!has_identity) {
        size -= IDENTITY_SIZE_BYTES;
    }
    uint8_t *place = buffer_extend(payload, size);
    uint16_t flags = has_identity ? FLAG_IDENTITY : 0;
    flags = (uint16_t)(flags | (has_identity && decoded->protocol == 3 ? FLAG_RESP3 : 0));
    endian_put_u16_le(place, command->opcode);
    endian_put_u16_le(place + 2, flags);
    endian_put_u32_le(place + 4, command->argument_count);
    place += COMMAND_SIZE_BYTES;
    if (has_identity) {
        endian_put_u64_le(place, decoded->origin);
        endian_put_u64_le(place + 8, decoded->sequence);
        place += IDENTITY_SIZE_BYTES;
    }
    for (uint32_t i = 0; i < command->argument_count; i++) {
        struct bytes argument = command->arguments[i];
        endian_put_u32_le(place, (uint32_t)argument.size_bytes);
        place += ARGUMENT_SIZE_BYTES;
        if (argument.size_bytes > 0) {
            memcpy(place, argument.data, argument.size_bytes);
            place += argument.size_bytes;
        }
    }
    ASSERT(place == payload->data + payload->size_bytes);
}

void shard__entry_end(struct shard_entry *entry, uint64_t time_ms)
{
    struct buffer *payload = &entry->payload;
    ASSERT(payload->size_bytes >= HEADER_SIZE_BYTES);
    payload->data[0] =
        entry->has_identities ? SHARD_PAYLOAD_COMMANDS_WITH_IDENTITIES : SHARD_PAYLOAD_COMMANDS;
    endian_put_u32_le(payload->data + 4, entry->command_count);
    endian_put_u64_le(payload->data + 8, time_ms);
}

bool shard__entry_is_configuration(const struct shard_entry *entry)
{
    return entry->payload.size_bytes > 0 && entry->payload.data[0] == SHARD_PAYLOAD_CONFIGURATION;
}

void shard_configuration_payload(const struct raft_configuration *members, struct buffer *payload)
{
    buffer_append_byte(payload, SHARD_PAYLOAD_CONFIGURATION);
    raft_configuration_encode(members, payload);
}

bool shard_entry_time(struct bytes head, uint64_t *time_ms)
{
    _Static_assert(SHARD_ENTRY_HEAD_SIZE_BYTES == HEADER_SIZE_BYTES, "the time is in it");
    struct shard_decoder decoder;
    if (shard__decode_begin(&decoder, head) != 0 || decoder.time_ms == 0) {
        return false;
    }
    *time_ms = decoder.time_ms;
    return true;
}

int shard__decode_begin(struct shard_decoder *decoder, struct bytes payload)
{
    if (payload.size_bytes == 0) {
        *decoder = (struct shard_decoder){0};
        return 0;
    }
    if (payload.size_bytes < HEADER_SIZE_BYTES) {
        return ERROR_CORRUPT;
    }
    if (payload.data[0] > SHARD_PAYLOAD_NEWEST) {
        return ERROR_NEWER_FORMAT;
    }
    uint32_t command_count = endian_get_u32_le(payload.data + 4);
    if (payload.data[0] < SHARD_PAYLOAD_COMMANDS ||
        payload.data[0] > SHARD_PAYLOAD_COMMANDS_WITH_IDENTITIES || command_count >= 1u << 16) {
        return ERROR_CORRUPT;
    }
    *decoder = (struct shard_decoder){
        .rest =
            bytes_make(payload.data + HEADER_SIZE_BYTES, payload.size_bytes - HEADER_SIZE_BYTES),
        .command_count = command_count,
        .time_ms = endian_get_u64_le(payload.data + 8),
    };
    return 0;
}

static void reserve_arguments(struct shard *shard, uint32_t count)
{
    if (count > shard->argument_capacity) {
        shard->argument_capacity = count * 2;
        shard->arguments =
            memory_resize(shard->arguments, shard->argument_capacity * sizeof shard->arguments[0]);
    }
}

/* Take the identity, where there is one, off what is left. */
static int decode_identity(uint16_t flags, const uint8_t **place, size_t *left,
                           struct shard_decoded *decoded)
{
    decoded->origin = 0;
    decoded->sequence = 0;
    decoded->protocol = (flags & FLAG_RESP3) != 0 ? 3 : 2;
    if ((flags & FLAG_IDENTITY) == 0) {
        return 0;
    }
    if (*left < IDENTITY_SIZE_BYTES) {
        return ERROR_CORRUPT;
    }
    decoded->origin = endian_get_u64_le(*place);
    decoded->sequence = endian_get_u64_le(*place + 8);
    *place += IDENTITY_SIZE_BYTES;
    *left -= IDENTITY_SIZE_BYTES;
    return decoded->origin != 0 ? 0 : ERROR_CORRUPT;
}

int shard__decode_next(struct shard *shard, struct shard_decoder *decoder,
                       struct shard_decoded *decoded)
{
    const uint8_t *place = decoder->rest.data;
    size_t left = decoder->rest.size_bytes;
    if (left < COMMAND_SIZE_BYTES) {
        return ERROR_CORRUPT;
    }
    uint16_t opcode = endian_get_u16_le(place);
    uint16_t flags = endian_get_u16_le(place + 2);
    uint32_t count = endian_get_u32_le(place + 4);
    place += COMMAND_SIZE_BYTES;
    left -= COMMAND_SIZE_BYTES;
    if (decode_identity(flags, &place, &left, decoded) != 0) {
        return ERROR_CORRUPT;
    }
    if (count > left / ARGUMENT_SIZE_BYTES) {
        return ERROR_CORRUPT;
    }
    reserve_arguments(shard, count);
    for (uint32_t i = 0; i < count; i++) {
        if (left < ARGUMENT_SIZE_BYTES) {
            return ERROR_CORRUPT;
        }
        uint32_t size = endian_get_u32_le(place);
        place += ARGUMENT_SIZE_BYTES;
        left -= ARGUMENT_SIZE_BYTES;
        if (size > left) {
            return ERROR_CORRUPT;
        }
        shard->arguments[i] = bytes_make(place, size);
        place += size;
        left -= size;
    }
    decoder->rest = bytes_make(place, left);
    decoded->command = (struct shard_command){opcode, count, shard->arguments};
    return 0;
}
