/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery of one or two segments with any content: it never breaks, says the same twice, and a log
 * that it accepts can be read, appended to and recovered again.
 *
 * Input
 *    0   1  1: set checksums, sequences and offsets right, so that what is behind them is reached;
 *           2: the records are those of two segments, the first half and the second
 *    1  64  the header of the (first) segment
 *   65      records */
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/checksum/checksum.h"
#include "base/endian/endian.h"
#include "core/wal/wal_fake.h"
#include "core/wal/wal_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum {
    SEGMENT_SIZE_BYTES = 32768,
    RECORDS_SIZE_BYTES_MAX = SEGMENT_SIZE_BYTES - WAL__RECORDS_OFFSET,
    SHARD_ID_COUNT = 4,
    ENTRY_COUNT_MAX = 100,
};

static uint8_t segment[SEGMENT_SIZE_BYTES];

/* Go from record to record as their sizes say, and make each believable. */
static void mend_records(uint64_t sequence, size_t end)
{
    size_t offset = WAL__RECORDS_OFFSET;
    while (offset + WAL__HEADER_SIZE_BYTES <= end) {
        uint8_t *header = segment + offset;
        size_t left = end - offset - WAL__HEADER_SIZE_BYTES;
        uint32_t payload_size_bytes = endian_get_u32_le(header + 20);
        if (payload_size_bytes > left) {
            payload_size_bytes = (uint32_t)left;
            endian_put_u32_le(header + 20, payload_size_bytes);
        }
        struct bytes payload = bytes_make(header + WAL__HEADER_SIZE_BYTES, payload_size_bytes);
        endian_put_u64_le(header + 8, sequence);
        endian_put_u32_le(header + 16, (uint32_t)offset);
        endian_put_u32_le(header + 24, checksum_crc32c(0, payload));
        endian_put_u32_le(header, checksum_crc32c(0, bytes_make(header + 4, 60)));
        offset = (size_t)wal__align(offset + WAL__HEADER_SIZE_BYTES + payload_size_bytes, 8);
        if ((header[5] & WAL__FLAG_WRITE_END) != 0) {
            offset = (size_t)wal__align(offset, WAL__SECTOR_SIZE_BYTES);
        }
    }
}

static void add_segment(struct fake_disk *disk, uint64_t sequence, const uint8_t *header,
                        struct bytes records, bool is_mended)
{
    memset(segment, 0, sizeof segment);
    memcpy(segment, header, WAL__HEADER_SIZE_BYTES);
    if (records.size_bytes > RECORDS_SIZE_BYTES_MAX) {
        records.size_bytes = RECORDS_SIZE_BYTES_MAX;
    }
    if (records.size_bytes > 0) {
        memcpy(segment + WAL__RECORDS_OFFSET, records.data, records.size_bytes);
    }
    if (is_mended) {
        struct wal__segment_header good = {
            .sequence = sequence,
            .segment_size_bytes = SEGMENT_SIZE_BYTES,
            .previous_end_offset = sequence == 1 ? 0 : endian_get_u32_le(header + 28),
        };
        wal__encode_segment_header(&good, segment);
        mend_records(sequence, WAL__RECORDS_OFFSET + records.size_bytes);
    }
    memcpy(segment + WAL__HEADER_COPY_OFFSET, segment, WAL__HEADER_SIZE_BYTES);
    char name[WAL__NAME_SIZE_BYTES];
    wal__format_segment_name(sequence, name);
    fake_add_file(disk, name, segment, sizeof segment);
}

static raft_index first_needed(void *context, wal_shard shard)
{
    (void)context;
    return shard % 2 == 0 ? 0 : 10;
}

/* Read every entry; append one to each shard. */
static void use_log(struct wal *wal)
{
    for (wal_shard id = 0; id < SHARD_ID_COUNT; id++) {
        struct wal_shard_state state;
        if (!wal_get_shard_state(wal, id, &state)) {
            continue;
        }
        struct buffer payload = {0};
        for (uint32_t i = 0; state.first_index != 0 && i < ENTRY_COUNT_MAX &&
                             state.first_index + i <= state.last_index;
             i++) {
            raft_term term;
            buffer_clear(&payload);
            int status = wal_read(wal, id, state.first_index + i, &term, &payload, NULL);
            ASSERT(status == 0);
        }
        buffer_deinit(&payload);
        if (state.last_index < UINT64_MAX - 1) {
            struct wal_record record = {.kind = WAL_RECORD_ENTRY,
                                        .shard = id,
                                        .index = state.last_index + 1,
                                        .term = 1,
                                        .payload = BYTES("appended")};
            wal_append(wal, &record);
        }
    }
    int status = wal_write(wal, NULL);
    ASSERT(status == 0);
    status = wal_flush(wal, NULL);
    ASSERT(status == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < 1 + WAL__HEADER_SIZE_BYTES) {
        return 0;
    }
    bool is_mended = (data[0] & 1) != 0;
    const uint8_t *header = data + 1;
    struct bytes records =
        bytes_make(header + WAL__HEADER_SIZE_BYTES, size_bytes - 1 - WAL__HEADER_SIZE_BYTES);
    struct fake_disk *disk = fake_create(1);
    size_t first_bytes =
        (data[0] & 2) != 0 ? records.size_bytes / 2 & ~(size_t)7 : records.size_bytes;
    add_segment(disk, 1, header, bytes_make(records.data, first_bytes), is_mended);
    if (first_bytes < records.size_bytes) {
        add_segment(disk, 2, header,
                    bytes_make(records.data + first_bytes, records.size_bytes - first_bytes),
                    is_mended);
    }

    struct wal_options options = {
        .files = fake_files(disk),
        .segment_size_bytes = SEGMENT_SIZE_BYTES,
        .is_read_only = true,
        .first_needed = first_needed,
    };
    struct wal *wal = NULL;
    struct error error;
    int verdict = wal_open(&wal, &options, &error);
    if (verdict == 0) {
        wal_close(wal);
    }
    options.is_read_only = false;
    int status = wal_open(&wal, &options, &error);
    ASSERT(status == verdict || (verdict == 0 && status == -EINVAL));
    if (status == 0) {
        use_log(wal);
        wal_close(wal);
        status = wal_open(&wal, &options, &error);
        ASSERT(status == 0);
        wal_close(wal);
    }
    ASSERT(fake_open_count(disk) == 0);
    fake_destroy(disk);
    return 0;
}
