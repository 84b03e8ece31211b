/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a message of heartbeats: what is read of them, added again, is the same bytes. */
#include "base/assert/assert.h"
#include "core/beats/beats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct beats_reader reader;
    struct beats again = {0};
    if (size_bytes > BEATS_SIZE_BYTES_MAX ||
        beats_read(&reader, bytes_make(data, size_bytes)) != 0) {
        return 0;
    }
    int status = 0;
    bool is_full = false;
    bool is_same = false;
    while (status == 0 && !is_full && reader.rest.size_bytes > 0) {
        wal_shard shard = 0;
        struct raft_message beat;
        struct bytes before = reader.rest;
        status = beats_next(&reader, &shard, &beat);
        if (status != 0) {
            ASSERT(status == ERROR_PROTOCOL && reader.rest.data == before.data);
            continue;
        }
        size_t written = beats_message(&again).size_bytes;
        bool is_first = written == 0;
        is_full = !beats_add(&again, shard, &beat);
        /* The base of what is written is the time of the first. */
        is_same = is_first ? beat.sent_at_ms == reader.base_ms : is_same;
        size_t used = before.size_bytes - reader.rest.size_bytes;
        struct bytes all = beats_message(&again);
        ASSERT(is_full || !is_same ||
               bytes_equal(bytes_make(before.data, used),
                           bytes_make(all.data + all.size_bytes - used, used)));
    }
    beats_deinit(&again);
    return 0;
}
