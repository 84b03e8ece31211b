/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the payload of an entry: they are refused, or are what encoding their commands gives
 * again. Bytes that the format leaves unused count as zero. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/shard/shard_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void clear_unused(uint8_t *place, size_t size_bytes)
{
    memset(place, 0, size_bytes);
}

/* Decode and encode again the commands, as long as they are good. */
static int encode_again(struct shard *shard, struct shard_decoder *decoder, struct buffer *input,
                        struct shard_entry *again)
{
    int status = 0;
    for (uint32_t i = 0; i < decoder->command_count && status == 0; i++) {
        struct shard_decoded decoded;
        uint8_t *place = input->data + (input->size_bytes - decoder->rest.size_bytes);
        status = shard__decode_next(shard, decoder, &decoded);
        if (status == 0) {
            bool has_identity = decoded.origin != 0;
            again->has_identities = again->has_identities || has_identity;
            /* Flags that are unknown, or say nothing without an identity. */
            place[2] &= has_identity ? 3 : 0;
            clear_unused(place + 3, 1);
            shard__entry_add(&again->payload, &decoded);
        }
    }
    again->command_count = decoder->command_count;
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct buffer input = {0};
    buffer_append(&input, bytes_make(data, size_bytes));
    struct shard shard = {0};
    struct shard_decoder decoder;
    struct shard_entry again = {0};
    int status = shard__decode_begin(&decoder, buffer_bytes(&input));
    if (status == 0 && size_bytes > 0) {
        clear_unused(input.data + 1, 3);
        shard__entry_begin(&again.payload);
        status = encode_again(&shard, &decoder, &input, &again);
    }
    if (status == 0 && size_bytes > 0) {
        shard__entry_end(&again, decoder.time_ms);
        input.data[0] = again.payload.data[0]; /* 2 may have no identities. */
        struct bytes read = bytes_make(input.data, input.size_bytes - decoder.rest.size_bytes);
        ASSERT(bytes_equal(buffer_bytes(&again.payload), read));
    }
    buffer_deinit(&again.payload);
    buffer_deinit(&input);
    memory_free(shard.arguments);
    return 0;
}
