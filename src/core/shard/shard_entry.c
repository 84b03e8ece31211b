/* SPDX-License-Identifier: Apache-2.0 */
/* The payload of a log entry. Integers are little-endian; docs/formats/entry.md is the same table.
 *
 *   offset  size  meaning
 *        0     1  version of this format, 1
 *        1     3  zero
 *        4     4  number of commands
 *        8     8  the leader's wall clock, milliseconds since 1970
 *       16        commands, one after the other:
 *                   2  opcode
 *                   2  zero
 *                   4  number of arguments
 *                      arguments, each: 4 size, then its bytes
 *
 * The empty entry that begins a term has an empty payload. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "core/shard/shard_internal.h"

enum {
    VERSION = 1,
    HEADER_SIZE_BYTES = SHARD_ENTRY_HEADER_SIZE_BYTES,
    COMMAND_SIZE_BYTES = 8,
    ARGUMENT_SIZE_BYTES = 4,
};

void shard__entry_begin(struct buffer *payload)
{
    buffer_clear(payload);
    memset(buffer_extend(payload, HEADER_SIZE_BYTES), 0, HEADER_SIZE_BYTES);
}

uint64_t shard__command_size_bytes(const struct shard_command *command)
{
    uint64_t size = COMMAND_SIZE_BYTES + (uint64_t)ARGUMENT_SIZE_BYTES * command->argument_count;
    for (uint32_t i = 0; i < command->argument_count; i++) {
        size += command->arguments[i].size_bytes;
    }
    return size;
}

void shard__entry_add(struct buffer *payload, const struct shard_command *command)
{
    uint64_t size = shard__command_size_bytes(command);
    uint8_t *place = buffer_extend(payload, size);
    endian_put_u16_le(place, command->opcode);
    endian_put_u16_le(place + 2, 0);
    endian_put_u32_le(place + 4, command->argument_count);
    place += COMMAND_SIZE_BYTES;
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

void shard__entry_end(struct buffer *payload, uint32_t command_count, uint64_t time_ms)
{
    ASSERT(payload->size_bytes >= HEADER_SIZE_BYTES);
    payload->data[0] = VERSION;
    endian_put_u32_le(payload->data + 4, command_count);
    endian_put_u64_le(payload->data + 8, time_ms);
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
    if (payload.data[0] > VERSION) {
        return ERROR_NEWER_FORMAT;
    }
    uint32_t command_count = endian_get_u32_le(payload.data + 4);
    if (payload.data[0] != VERSION || command_count >= 1u << 16) {
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

int shard__decode_next(struct shard *shard, struct shard_decoder *decoder,
                       struct shard_command *command)
{
    const uint8_t *place = decoder->rest.data;
    size_t left = decoder->rest.size_bytes;
    if (left < COMMAND_SIZE_BYTES) {
        return ERROR_CORRUPT;
    }
    uint16_t opcode = endian_get_u16_le(place);
    uint32_t count = endian_get_u32_le(place + 4);
    place += COMMAND_SIZE_BYTES;
    left -= COMMAND_SIZE_BYTES;
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
    *command = (struct shard_command){opcode, count, shard->arguments};
    return 0;
}
