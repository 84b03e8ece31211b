/* SPDX-License-Identifier: Apache-2.0 */
/* The records of one segment, write by write.
 *
 * Torn or damaged?
 *   Every record says up to where its segment was durable when it was written. So a place is known
 *   to have been flushed when any record of the segment tells of a durable place behind it, or when
 *   the segment is not the last one (the next one begins only after this one was flushed to its
 *   end). An invalid place that was flushed is damage. Any other is a torn tail, and with it the
 *   whole write that it belongs to: none of it was acknowledged.
 *
 * What was cut stays cut
 *   The bytes of a torn write, and good writes behind it, are left where they are. Each opening of
 *   the log writes with an incarnation above all that it found, and a record is not believed behind
 *   one with a higher incarnation. So what was cut cannot follow what is written in its place,
 *   whichever sectors of that reach the disk, and cutting needs no write that could itself be torn
 *   or lost. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/wal/wal_internal.h"

enum { LOAD_STEP_SIZE_BYTES = 256 << 10, PROGRESS_STEP_SIZE_BYTES = 16 << 20, PLACE_COUNT = 64 };

int wal__read_segment(struct wal__recovery *recovery, struct env_file *file, uint64_t sequence,
                      uint32_t size_bytes_max, struct error *error)
{
    const struct env_files *files = &recovery->wal->options.files;
    uint64_t size_bytes;
    int status = files->ops->size(files->context, file, &size_bytes, error);
    if (status != 0) {
        return status;
    }
    size_bytes = size_bytes < size_bytes_max ? size_bytes & ~UINT64_C(7) : size_bytes_max;
    if (size_bytes > recovery->bytes_capacity) {
        memory_free(recovery->bytes);
        recovery->bytes = memory_allocate(size_bytes);
        recovery->bytes_capacity = (uint32_t)size_bytes;
    }
    recovery->file = file;
    recovery->sequence = sequence;
    recovery->size_bytes = (uint32_t)size_bytes;
    recovery->loaded_bytes = 0;
    recovery->is_searched = false;
    recovery->newest_durable_offset = 0;
    recovery->search_end_offset = 0;
    return 0;
}

int wal__load(struct wal__recovery *recovery, uint64_t end, struct error *error)
{
    const struct wal_options *options = &recovery->wal->options;
    if (end > recovery->size_bytes) {
        end = recovery->size_bytes;
    }
    while (recovery->loaded_bytes < end) {
        uint32_t left = recovery->size_bytes - recovery->loaded_bytes;
        uint32_t step = left < LOAD_STEP_SIZE_BYTES ? left : LOAD_STEP_SIZE_BYTES;
        size_t read_bytes = 0;
        int status = options->files.ops->read(
            options->files.context, recovery->file, recovery->loaded_bytes,
            recovery->bytes + recovery->loaded_bytes, step, &read_bytes, error);
        if (status != 0) {
            return error_wrap(error, status, "log segment %" PRIu64, recovery->sequence);
        }
        /* Shorter than it said a moment ago: what is not there is as good as zeros. */
        memset(recovery->bytes + recovery->loaded_bytes + read_bytes, 0, step - read_bytes);
        recovery->loaded_bytes += step;
        uint64_t steps_before = recovery->done_bytes / PROGRESS_STEP_SIZE_BYTES;
        recovery->done_bytes += step;
        if (options->progress != NULL &&
            recovery->done_bytes / PROGRESS_STEP_SIZE_BYTES != steps_before) {
            options->progress(options->context, recovery->done_bytes, recovery->total_bytes);
        }
    }
    return 0;
}

static void note_incarnation(struct wal__recovery *recovery,
                             const struct wal__record_header *header)
{
    if (header->incarnation > recovery->incarnation_newest) {
        recovery->incarnation_newest = header->incarnation;
    }
}

/* May a record stand at one of the next PLACE_COUNT places? Its offset alone rules out nearly all, and
 * millions are looked at: it is the lower half of the third of eight bytes. No branches, so that several
 * are compared at a time. */
static bool may_have_record(const uint8_t *bytes, uint32_t offset)
{
    uint64_t is_any = 0;
    for (uint32_t i = 0; i < PLACE_COUNT; i++) {
        uint64_t third = endian_get_u64_le(bytes + offset + 16 + (size_t)8 * i);
        is_any |= ((third ^ (offset + 8 * i)) & UINT32_MAX) == 0;
    }
    return is_any != 0;
}

/* Look at every place from `offset` on where a record may stand. */
static int search(struct wal__recovery *recovery, uint32_t offset, struct error *error)
{
    int status = wal__load(recovery, recovery->size_bytes, error);
    if (status != 0) {
        return status;
    }
    struct wal__position position = {recovery->sequence, offset};
    while (position.offset + WAL__HEADER_SIZE_BYTES <= recovery->size_bytes) {
        struct wal__record_header header;
        if (position.offset + 8 * PLACE_COUNT + WAL__HEADER_SIZE_BYTES <= recovery->size_bytes &&
            !may_have_record(recovery->bytes, position.offset) &&
            !BUG("wal.stale_record_believed")) {
            position.offset += 8 * PLACE_COUNT;
            continue;
        }
        bool may_be = endian_get_u32_le(recovery->bytes + position.offset + 16) == position.offset;
        if ((may_be || BUG("wal.stale_record_believed")) &&
            wal__decode_record_header(recovery->bytes + position.offset, position, &header)) {
            recovery->search_end_offset = position.offset + WAL__HEADER_SIZE_BYTES;
            if (header.durable_offset > recovery->newest_durable_offset) {
                recovery->newest_durable_offset = header.durable_offset;
            }
            note_incarnation(recovery, &header);
        }
        position.offset += 8;
    }
    recovery->is_searched = true;
    return 0;
}

int wal__is_evidence(struct wal__recovery *recovery, uint32_t start, uint32_t offset,
                     bool *is_evidence, struct error *error)
{
    if (!recovery->is_searched) {
        int status = search(recovery, start, error);
        if (status != 0) {
            return status;
        }
    }
    *is_evidence = recovery->newest_durable_offset > offset && !BUG("wal.damage_cut_as_tail");
    return 0;
}

/* ---- Records --------------------------------------------------------------------------------- */

/* Whether a header whose checksum holds makes sense where it stands. */
static bool header_is_sound(const struct wal__record_header *header, uint32_t limit)
{
    bool is_at_head = header->position.offset == WAL__RECORDS_OFFSET;
    bool is_whole =
        (header->flags & (WAL__FLAG_FIRST | WAL__FLAG_LAST)) == (WAL__FLAG_FIRST | WAL__FLAG_LAST);
    if ((header->kind == WAL__KIND_TABLE) != is_at_head ||
        header->payload_size_bytes > limit - header->position.offset - WAL__HEADER_SIZE_BYTES) {
        return false;
    }
    switch (header->kind) {
    case WAL_RECORD_ENTRY:
        return header->index > 0 && header->index < UINT64_MAX &&
               header->payload_size_bytes <= WAL_ENTRY_SIZE_BYTES_MAX &&
               ((header->flags & WAL__FLAG_FIRST) != 0) == (header->extra == 0) &&
               (header->payload_size_bytes > 0 || is_whole);
    case WAL_RECORD_HARD_STATE:
        return header->payload_size_bytes == 0 && is_whole;
    case WAL_RECORD_TRUNCATE:
        return header->payload_size_bytes == 0 && is_whole && header->index > 0;
    case WAL__KIND_TABLE:
        return header->payload_size_bytes % WAL__TABLE_ITEM_SIZE_BYTES == 0 && is_whole &&
               (header->flags & WAL__FLAG_WRITE_END) != 0;
    default:
        return false;
    }
}

/* Read the header at `offset`, and have the payload in memory. */
static int read_record(struct wal__recovery *recovery, uint32_t offset, uint32_t limit,
                       struct wal__record_header *header, bool *is_good, struct error *error)
{
    *is_good = false;
    if (offset + WAL__HEADER_SIZE_BYTES > limit) {
        return 0;
    }
    int status = wal__load(recovery, offset + WAL__HEADER_SIZE_BYTES, error);
    if (status != 0) {
        return status;
    }
    struct wal__position position = {recovery->sequence, offset};
    if (!wal__decode_record_header(recovery->bytes + offset, position, header) ||
        !header_is_sound(header, limit) || header->incarnation < recovery->incarnation) {
        return 0;
    }
    status =
        wal__load(recovery, offset + WAL__HEADER_SIZE_BYTES + header->payload_size_bytes, error);
    *is_good = status == 0;
    return status;
}

static bool payload_is_good(const struct wal__recovery *recovery,
                            const struct wal__record_header *header)
{
    return wal__payload_is_good(header,
                                recovery->bytes + header->position.offset + WAL__HEADER_SIZE_BYTES);
}

int wal__has_good_table(struct wal__recovery *recovery, bool *is_good, struct error *error)
{
    struct wal__record_header header;
    int status =
        read_record(recovery, WAL__RECORDS_OFFSET, recovery->size_bytes, &header, is_good, error);
    if (status == 0 && *is_good) {
        *is_good = payload_is_good(recovery, &header);
    }
    return status;
}

/* ---- Writes ---------------------------------------------------------------------------------- */

/* How a write was found. */
struct found_write {
    uint32_t start;
    uint32_t end;        /* Where the next one begins. */
    uint32_t bad_offset; /* The first bad record; 0: all are good. */
    bool has_bad_header; /* Where the write ends is unknown. */
};

static int check_write(struct wal__recovery *recovery, uint32_t start, uint32_t limit,
                       struct found_write *write, struct error *error)
{
    *write = (struct found_write){.start = start};
    uint64_t incarnation = 0;
    uint32_t offset = start;
    for (;;) {
        struct wal__record_header header = {0};
        bool is_good;
        int status = read_record(recovery, offset, limit, &header, &is_good, error);
        if (status != 0) {
            return status;
        }
        if (offset == start) {
            incarnation = header.incarnation;
        }
        if (!is_good || header.incarnation != incarnation) {
            write->bad_offset = offset;
            write->has_bad_header = true;
            return 0;
        }
        if (write->bad_offset == 0 && !payload_is_good(recovery, &header)) {
            write->bad_offset = offset;
        }
        offset = (uint32_t)wal__align(
            (uint64_t)offset + WAL__HEADER_SIZE_BYTES + header.payload_size_bytes, 8);
        if ((header.flags & WAL__FLAG_WRITE_END) != 0) {
            write->end = (uint32_t)wal__align(offset, WAL__SECTOR_SIZE_BYTES);
            return 0;
        }
    }
}

/* All headers of the write are good, as check_write() has seen. */
static void replay_write(struct wal__recovery *recovery, struct wal__scan *scan,
                         const struct found_write *write)
{
    uint32_t offset = write->start;
    for (;;) {
        struct wal__position position = {recovery->sequence, offset};
        struct wal__record_header header;
        bool is_good = wal__decode_record_header(recovery->bytes + offset, position, &header);
        ASSERT(is_good);
        bool is_damaged = write->bad_offset != 0 && offset >= write->bad_offset &&
                          !payload_is_good(recovery, &header);
        wal__replay_record(recovery, scan, &header, is_damaged);
        if (header.durable_offset > scan->durable_offset) {
            scan->durable_offset = header.durable_offset;
        }
        note_incarnation(recovery, &header);
        recovery->incarnation = header.incarnation;
        if ((header.flags & WAL__FLAG_WRITE_END) != 0) {
            return;
        }
        offset = (uint32_t)wal__align(
            (uint64_t)offset + WAL__HEADER_SIZE_BYTES + header.payload_size_bytes, 8);
    }
}

static void lose_rest(struct wal__recovery *recovery, uint32_t offset, const char *reason)
{
    recovery->is_lost = true;
    recovery->lost_at = (struct wal__position){recovery->sequence, offset};
    recovery->lost_reason = reason;
}

int wal__scan_segment(struct wal__recovery *recovery, struct wal__scan *scan, struct error *error)
{
    uint32_t limit = scan->limit < recovery->size_bytes ? scan->limit : recovery->size_bytes;
    uint32_t offset = WAL__RECORDS_OFFSET;
    while (offset < scan->limit) {
        struct found_write write;
        int status = check_write(recovery, offset, limit, &write, error);
        if (status != 0) {
            return status;
        }
        if (write.bad_offset != 0 && scan->is_last) {
            bool is_evidence;
            status = wal__is_evidence(recovery, offset, write.bad_offset, &is_evidence, error);
            if (status != 0) {
                return status;
            }
            if (!is_evidence) {
                scan->torn_offset = write.bad_offset;
                break; /* The end, clean or torn. */
            }
        }
        if (write.has_bad_header) {
            lose_rest(recovery, write.bad_offset, "a record's header is damaged");
            break;
        }
        replay_write(recovery, scan, &write);
        offset = write.end;
        if (scan->segment->first_offset == 0) {
            scan->segment->first_offset = offset;
        }
    }
    scan->end_offset = offset;
    return 0;
}
