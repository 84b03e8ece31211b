/* SPDX-License-Identifier: Apache-2.0 */
/* Messages with any content, from nodes of the roster and from strangers: a member never breaks,
 * keeps its invariants, and what it sends can be decoded.
 *
 * Input: steps, one after the other
 *    0  1  who it is from: 0 nobody (time passes), else the node of this number
 *    1  1  how many milliseconds passed, times 4
 *    2  1  size of the message
 *    3     the message */
#include "base/assert/assert.h"
#include "core/member/member_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { NODE_COUNT = 8 };

static struct member__record records[MEMBER__RECORD_COUNT_MAX];

static struct member *create(void)
{
    struct member_options options = {
        .self = 1,
        .incarnation = 1000000,
        .node_count_max = NODE_COUNT,
        .random_seed = 1,
    };
    struct member *member;
    int status = member_create(&member, &options, NULL);
    ASSERT(status == 0);
    for (member_node node = 2; node <= NODE_COUNT; node++) {
        struct member_input input = {
            .kind = MEMBER_INPUT_SET, .node = node, .address = BYTES("a:1")};
        struct member_output output;
        status = member_step(member, &input, &output);
        ASSERT(status == 0);
    }
    return member;
}

static void check(struct member *member, const struct member_output *output, uint64_t now_ms)
{
    ASSERT(member__is_consistent(member));
    ASSERT(output->wake_at_ms > now_ms);
    for (uint32_t i = 0; i < output->send_count; i++) {
        struct member__message message;
        int status = member__decode(output->sends[i].message, &message, records);
        ASSERT(status == 0);
        ASSERT(output->sends[i].node != 1);
    }
    for (uint32_t i = 0; i < output->event_count; i++) {
        ASSERT(output->events[i].node >= 2 && output->events[i].node <= NODE_COUNT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct member *member = create();
    uint64_t now_ms = 0;
    size_t offset = 0;
    while (size_bytes - offset >= 3) {
        uint8_t from = data[offset];
        now_ms += (uint64_t)data[offset + 1] * 4;
        size_t left = size_bytes - offset - 3;
        size_t message_size = data[offset + 2] < left ? data[offset + 2] : left;
        struct member_input input = {
            .kind = from == 0 ? MEMBER_INPUT_TICK : MEMBER_INPUT_RECEIVE,
            .now_ms = now_ms,
            .node = from,
            .message = bytes_make(data + offset + 3, message_size),
        };
        struct member_output output;
        int status = member_step(member, &input, &output);
        ASSERT(status == 0 || (status == ERROR_PROTOCOL && from != 0));
        if (status == 0) {
            check(member, &output, now_ms);
        }
        offset += 3 + message_size;
    }
    member_destroy(member);
    return 0;
}
