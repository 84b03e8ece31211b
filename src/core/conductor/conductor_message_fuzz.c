/* SPDX-License-Identifier: Apache-2.0 */
/* What is accepted is written again as the same bytes. */
#include <string.h>

#include "base/assert/assert.h"
#include "core/conductor/conductor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes source = bytes_make(data, size);
    struct conductor_message message;
    struct placement_group_state group;
    struct buffer again = {0};
    if (conductor_message_decode(source, &message) != 0) {
        return 0;
    }
    uint32_t count = message.group_count;
    if (message.kind == CONDUCTOR_MESSAGE_MAP) {
        static struct slots slots;
        if (slots_decode(&slots, message.groups) != 0) {
            return 0;
        }
        conductor_map_encode(&again, &slots);
        message.groups = BYTES("");
    } else if (message.kind == CONDUCTOR_MESSAGE_SPLIT) {
        conductor_split_encode(&again, &message.split);
        message.groups = BYTES("");
    } else if (message.kind == CONDUCTOR_MESSAGE_QUESTION) {
        conductor_question_encode(&again, &message.halves.question);
        message.groups = BYTES("");
    } else if (message.kind == CONDUCTOR_MESSAGE_HALVES) {
        conductor_halves_encode(&again, &message.halves);
        message.groups = BYTES("");
    } else if (message.kind == CONDUCTOR_MESSAGE_OFFICE) {
        conductor_office_encode(&again);
    } else if (message.kind == CONDUCTOR_MESSAGE_REPORT) {
        conductor_report_begin(&again, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        conductor_message_next(&message, &group);
        if (message.kind == CONDUCTOR_MESSAGE_REPORT) {
            conductor_report_add(&again, &group);
        } else {
            conductor_step_encode(&again, &message.step, &group);
        }
        ASSERT(conductor_has_same_members(&group, &group));
    }
    ASSERT(message.groups.size_bytes == 0);
    ASSERT(bytes_equal(buffer_bytes(&again), source));
    buffer_deinit(&again);
    return 0;
}
