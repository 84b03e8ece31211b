/* SPDX-License-Identifier: Apache-2.0 */
/* The header of the four commands, and what they answer; byte by byte in txn.h. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "core/txn/txn.h"

enum {
    OFFSET_PLACE = 24,
    OFFSET_HOME = 28,
    OFFSET_OUTCOME = 32,
    OFFSET_PROTOCOL = 33,
    OFFSET_MAY_WAIT = 34,
    OFFSET_ZERO = 35,
};

void txn_header_encode(const struct txn_header *header, uint8_t target[TXN_HEADER_SIZE_BYTES])
{
    memset(target, 0, TXN_HEADER_SIZE_BYTES);
    endian_put_u64_le(target, header->id.origin);
    endian_put_u64_le(target + 8, header->id.number);
    endian_put_u64_le(target + 16, header->id.begun_ms);
    endian_put_u32_le(target + OFFSET_PLACE, header->place);
    endian_put_u32_le(target + OFFSET_HOME, header->home);
    target[OFFSET_OUTCOME] = (uint8_t)header->outcome;
    target[OFFSET_PROTOCOL] = header->protocol;
    target[OFFSET_MAY_WAIT] = header->may_wait ? 1 : 0;
}

bool txn_header_decode(struct bytes source, struct txn_header *header)
{
    if (source.size_bytes != TXN_HEADER_SIZE_BYTES || source.data[OFFSET_OUTCOME] > TXN_ABORT ||
        source.data[OFFSET_PROTOCOL] > 3 || source.data[OFFSET_PROTOCOL] == 1 ||
        source.data[OFFSET_MAY_WAIT] > 1 || source.data[OFFSET_ZERO] != 0) {
        return false;
    }
    struct txn_header decoded = {
        .id = {.origin = endian_get_u64_le(source.data),
               .number = endian_get_u64_le(source.data + 8),
               .begun_ms = endian_get_u64_le(source.data + 16)},
        .place = endian_get_u32_le(source.data + OFFSET_PLACE),
        .home = endian_get_u32_le(source.data + OFFSET_HOME),
        .outcome = (enum txn_outcome)source.data[OFFSET_OUTCOME],
        .protocol = source.data[OFFSET_PROTOCOL],
        .may_wait = source.data[OFFSET_MAY_WAIT] == 1,
    };
    if (decoded.id.origin == 0) {
        return false;
    }
    *header = decoded;
    return true;
}

bool txn_reply_decode(struct bytes source, struct txn_reply *reply)
{
    if (source.size_bytes == 0 || source.data[0] < TXN_ANSWER_YES ||
        source.data[0] > TXN_ANSWER_DONE) {
        return false;
    }
    struct txn_reply decoded = {.answer = (enum txn_answer)source.data[0]};
    if (source.size_bytes > 1) {
        if (decoded.answer != TXN_ANSWER_COMMITTED || source.data[1] > 1 ||
            (source.data[1] == 0 && source.size_bytes > 2)) {
            return false;
        }
        decoded.has_replies = source.data[1] == 1;
        decoded.replies = bytes_make(source.data + 2, source.size_bytes - 2);
    }
    *reply = decoded;
    return true;
}
