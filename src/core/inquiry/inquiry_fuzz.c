/* SPDX-License-Identifier: Apache-2.0 */
/* What is accepted, and has as many figures as are known here, is written again as the same
 * bytes. */
#include <string.h>

#include "base/assert/assert.h"
#include "core/inquiry/inquiry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_answer(struct inquiry_message *message, struct buffer *target)
{
    struct histogram latencies[INQUIRY_LATENCY_COUNT] = {0};
    for (uint32_t i = 0; i < INQUIRY_LATENCY_COUNT; i++) {
        inquiry_add_latencies(message, (enum inquiry_latency)i, &latencies[i]);
    }
    inquiry_answer_begin(target, message->number, message->figures, latencies,
                         message->replica_count);
    for (uint32_t i = 0; i < message->replica_count; i++) {
        struct inquiry_replica replica;
        inquiry_message_next(message, &replica);
        inquiry_answer_add(target, &replica);
    }
    ASSERT(message->replicas.size_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes source = bytes_make(data, size);
    struct inquiry_message message;
    struct buffer again = {0};
    if (inquiry_message_decode(source, &message) != 0) {
        return 0;
    }
    bool is_known = true;
    switch (message.kind) {
    case INQUIRY_FIGURES:
        inquiry_encode_figures(&again, message.number);
        break;
    case INQUIRY_TRANSFER:
        inquiry_encode_transfer(&again, message.number, message.shard, message.node);
        break;
    case INQUIRY_TRANSFER_ANSWER:
        inquiry_encode_transfer_answer(&again, message.number, message.outcome, message.leader);
        break;
    case INQUIRY_FIGURES_ANSWER:
        is_known = data[2] == INQUIRY_FIGURE_COUNT && data[3] == INQUIRY_REPLICA_FIGURE_COUNT;
        write_answer(&message, &again);
        break;
    }
    ASSERT(!is_known || bytes_equal(buffer_bytes(&again), source));
    buffer_deinit(&again);
    return 0;
}
