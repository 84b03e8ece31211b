/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert/assert.h"
#include "gateway/resp/resp_world.h"
#include "service/kv/kv.h"

static bool check_key(void *context, struct bytes key)
{
    const struct shard_request *request = context;
    uint16_t slot = kv_slot_of_key(key);
    return slot >= request->first_slot && slot < request->end_slot;
}

void world_check_part(const struct shard_request *request)
{
    const struct shard_command *command = &request->command;
    bool are_in_slots =
        kv_transaction_visit(command->arguments + 1, /* Behind the header. */
                             command->argument_count - 1, check_key, (void *)(uintptr_t)request);
    ASSERT(are_in_slots);
}
