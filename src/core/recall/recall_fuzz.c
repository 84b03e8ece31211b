/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a file: what is loaded of them is found, and noted again it is loaded again. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "core/recall/recall.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static raft_index first_needed(void *context, wal_shard shard)
{
    (void)context;
    return shard % 3; /* Something is left out. */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct recall *recall = recall_create();
    size_t loaded_bytes = recall_load(recall, bytes_make(data, size_bytes), first_needed, NULL);
    ASSERT(loaded_bytes <= size_bytes);
    ASSERT((loaded_bytes > 0) <= (recall_file_number(bytes_make(data, size_bytes)) > 0));
    /* The item behind the header, if the first group has any, is what a replay may ask for. */
    if (loaded_bytes > 16 && endian_get_u32_le(data + 4) > 0) {
        struct recall_entry entry = {
            .shard = endian_get_u32_le(data + 16),
            .index = endian_get_u64_le(data + 24),
            .term = endian_get_u64_le(data + 32),
            .found = {.size_bytes = endian_get_u32_le(data + 20)},
        };
        bool is_there = recall_find(recall, &entry);
        ASSERT(is_there == (entry.index >= entry.shard % 3));
        if (is_there && entry.found.size_bytes < RECALL_GATHERED_SIZE_BYTES_MAX / 2) {
            struct buffer again = {0};
            recall_note(recall, &entry);
            recall_take(recall, 1, &again);
            recall_forget(recall);
            size_t whole_bytes = recall_load(recall, buffer_bytes(&again), first_needed, NULL);
            ASSERT(whole_bytes == again.size_bytes);
            buffer_deinit(&again);
        }
    }
    recall_destroy(recall);
    return 0;
}
