/* SPDX-License-Identifier: Apache-2.0 */
/* Headers and answers of transactions over several shards, from anywhere. A header that is read is
 * written again as it was. */
#include "base/assert/assert.h"
#include "core/txn/txn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct bytes input = bytes_make(data, size_bytes);
    struct txn_header header;
    struct txn_reply reply;
    uint8_t again[TXN_HEADER_SIZE_BYTES];
    if (txn_header_decode(input, &header)) {
        txn_header_encode(&header, again);
        ASSERT(bytes_equal(input, bytes_make(again, sizeof again)));
    }
    if (txn_reply_decode(input, &reply)) {
        ASSERT(reply.replies.size_bytes <= size_bytes);
        ASSERT_IF(reply.has_replies, reply.answer == TXN_ANSWER_COMMITTED);
    }
    return 0;
}
