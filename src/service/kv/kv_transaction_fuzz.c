/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of transactions over several shards, and replies that are joined; the first byte says which. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes == 0) {
        return 0;
    }
    struct bytes input = bytes_make(data + 1, size_bytes - 1);
    switch (data[0] % 3) {
    case 0:
        read_record(input);
        break;
    case 1:
        read_decision(input);
        break;
    default:
        take_replies(input);
        break;
    }
    return 0;
}
