/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of transactions over several shards, replies that are joined, and what was read of a key that goes
 * to another shard; the first byte says which. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "service/kv/kv_part.h"
#include "service/kv/kv_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void read_record(struct bytes input)
{
    struct kv_record record;
    struct buffer again = {0};
    if (kv__record_decode(input, &record) != 0) {
        return;
    }
    struct bytes *arguments = kv__record_arguments(&record);
    kv__record_encode(&record, arguments, &again);
    ASSERT(bytes_equal(input, buffer_bytes(&again)));
    const struct kv_call call = {.arguments = arguments, .argument_count = record.argument_count};
    struct kv__part part;
    if (kv__part_parse(&call, &part)) {
        (void)kv__part_names_keys(&call, &part);
    }
    memory_free(arguments);
    buffer_deinit(&again);
}

static void read_decision(struct bytes input)
{
    struct kv_decision decision;
    struct buffer again = {0};
    if (kv__decision_decode(input, &decision) == 0) {
        kv__decision_encode(&decision, &again);
        ASSERT(bytes_equal(input, buffer_bytes(&again)));
    }
    buffer_deinit(&again);
}

static void take_replies(struct bytes input)
{
    struct bytes reply;
    while (input.size_bytes > 0) {
        size_t before = input.size_bytes;
        if (!kv_reply_take(&input, &reply)) {
            ASSERT(input.size_bytes == before);
            return;
        }
        ASSERT(reply.size_bytes > 0 && reply.size_bytes + input.size_bytes == before);
    }
}

static void plan_move(struct bytes input)
{
    const struct bytes arguments[] = {BYTES("source"), BYTES("target")};
    const struct kv_move_request request = {.command = kv_command_find(BYTES("rename")),
                                            .arguments = arguments,
                                            .argument_count = 2,
                                            .source = input,
                                            .target = input};
    struct kv_transaction *transaction = kv_transaction_create();
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = 2};
    enum kv_move planned = kv_move_plan(&request, transaction, &reply);
    ASSERT((planned == KV_MOVE_MALFORMED) == (answer.size_bytes == 0));
    if (planned == KV_MOVE_COMMIT) {
        bool does_grow;
        ASSERT(kv_transaction_command(transaction, &does_grow).argument_count > 3);
    }
    kv_transaction_destroy(transaction);
    buffer_deinit(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes == 0) {
        return 0;
    }
    struct bytes input = bytes_make(data + 1, size_bytes - 1);
    switch (data[0] % 4) {
    case 0:
        read_record(input);
        break;
    case 1:
        read_decision(input);
        break;
    case 2:
        take_replies(input);
        break;
    default:
        plan_move(input);
        break;
    }
    return 0;
}
