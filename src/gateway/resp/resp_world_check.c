/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "gateway/resp/resp_world.h"
#include "service/kv/kv.h"

enum { COMMAND_HEADER_SIZE_BYTES = 6 };

static void check_key(const struct shard_request *request, struct bytes key)
{
    uint16_t slot = kv_slot_of_key(key);
    ASSERT(slot >= request->first_slot && slot < request->end_slot);
}

static const struct kv_command *command_of_opcode(uint16_t opcode)
{
    for (uint32_t i = 0; i < kv_command_count(); i++) {
        if (kv_command_at(i)->opcode == opcode) {
            return kv_command_at(i);
        }
    }
    return NULL;
}

/* Of a command of the part; `arguments` without the name. */
static void check_command(const struct shard_request *request, uint16_t opcode,
                          const struct bytes *arguments, uint32_t count)
{
    const struct kv_command *command = command_of_opcode(opcode);
    if (command == NULL || command->keys.first == 0) {
        return;
    }
    int last = command->keys.last >= 0 ? command->keys.last : (int)count + 1 + command->keys.last;
    for (int i = command->keys.first; i <= last && i <= (int)count; i += command->keys.step) {
        check_key(request, arguments[i - 1]);
    }
}

void world_check_part(const struct shard_request *request)
{
    const struct bytes *arguments = request->command.arguments + 1; /* Behind the header. */
    const struct bytes *end = request->command.arguments + request->command.argument_count;
    uint32_t watch_count = endian_get_u32_le(arguments[0].data);
    for (uint32_t i = 0; i < watch_count; i++) {
        check_key(request, arguments[1 + 2 * (size_t)i]);
    }
    arguments += 1 + 2 * (size_t)watch_count;
    while (arguments < end) {
        ASSERT(arguments[0].size_bytes == COMMAND_HEADER_SIZE_BYTES);
        uint32_t count = endian_get_u32_le(arguments[0].data + 2);
        ASSERT(count < (uint32_t)(end - arguments));
        check_command(request, endian_get_u16_le(arguments[0].data), arguments + 1, count);
        arguments += 1 + count;
    }
}
