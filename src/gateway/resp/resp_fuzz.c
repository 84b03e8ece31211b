/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes, cut at any place, mean the same commands as when they come whole. The first byte says
 * where the cuts are and whether the client is authenticated. */
#include "base/assert/assert.h"
#include "base/hash/hash.h"
#include "gateway/resp/resp_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct meaning {
    uint64_t digest;
    uint64_t command_count;
    enum resp_outcome last;
};

static struct meaning understand(struct bytes stream, size_t piece, bool is_stranger)
{
    struct resp_limits limits = {100, 300, is_stranger};
    struct resp_parser parser = {0};
    struct resp_arguments arguments = {0};
    struct meaning meaning = {0};
    struct buffer input = {0};
    char error[RESP_ERROR_TEXT_SIZE];
    for (size_t at = 0; at < stream.size_bytes && meaning.last != RESP_OUTCOME_BROKEN;
         at += piece) {
        size_t more = stream.size_bytes - at < piece ? stream.size_bytes - at : piece;
        buffer_append(&input, bytes_make(stream.data + at, more));
        do {
            size_t consumed = 0;
            meaning.last =
                resp__parse(&parser, &limits, buffer_bytes(&input), &arguments, &consumed, error);
            ASSERT(consumed <= input.size_bytes);
            if (meaning.last == RESP_OUTCOME_COMMAND) {
                ASSERT(arguments.count > 0);
                meaning.command_count++;
                for (uint32_t i = 0; i < arguments.count; i++) {
                    meaning.digest = hash_bytes(arguments.items[i], meaning.digest);
                }
            }
            buffer_consume(&input, consumed);
        } while (meaning.last != RESP_OUTCOME_MORE && meaning.last != RESP_OUTCOME_BROKEN);
    }
    buffer_deinit(&input);
    resp__arguments_deinit(&arguments);
    return meaning;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    bool is_stranger = (data[0] & 0x80) != 0;
    struct bytes stream = bytes_make(data + 1, size - 1);
    struct meaning whole = understand(stream, stream.size_bytes, is_stranger);
    struct meaning pieces = understand(stream, 1u + (data[0] & 0x7f), is_stranger);
    ASSERT(whole.command_count == pieces.command_count);
    ASSERT(whole.digest == pieces.digest);
    ASSERT(whole.last == pieces.last);
    return 0;
}
