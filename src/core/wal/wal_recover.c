/* SPDX-License-Identifier: Apache-2.0 */
/* From files to the index: which segments there are, what is wrong with them, and mending the tail.
 *
 * Recovery writes nothing before it knows that the log is sound, and each step of mending leaves a
 * log that recovers to the same state, so that it may be killed anywhere. The end of the log is
 * written again and flushed, though its bytes do not change: what was read may stand in the page
 * cache only, and whoever hears of it will rely on it. */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/wal/wal_internal.h"

enum { SEQUENCE_CAPACITY_MIN = 64 };

/* ---- Damage ---------------------------------------------------------------------------------- */

void wal__report_damage(struct wal__recovery *recovery, const struct wal_damage *damage)
{
    const struct wal_options *options = &recovery->wal->options;
    TRACE("wal.damage", damage->segment, damage->offset, damage->shard, damage->index);
    if (options->damaged != NULL) {
        options->damaged(options->context, damage);
    }
    wal__set_damaged(recovery->wal, damage->segment);
    if (!damage->is_needed) {
        PROBE("wal.damage.of_no_account");
        return;
    }
    if (recovery->failure.code != 0) {
        return; /* The first one is what the person is told. */
    }
    char entry[96] = "";
    if (damage->index != 0) {
        (void)snprintf(entry, sizeof entry, ", entry %" PRIu64 " of shard %" PRIu32, damage->index,
                       damage->shard);
    }
    (void)error_say(&recovery->failure, ERROR_CORRUPT,
                    "the log is damaged: segment %016" PRIu64 ".wal at offset %" PRIu32
                    "%s: %s; `tutti check DIR` shows all damage, restore from a copy",
                    damage->segment, damage->offset, entry, damage->reason);
}

/* The end of the log is lost, with whatever stood there. */
static void lose_tail(struct wal__recovery *recovery, struct wal__position at, const char *reason)
{
    struct wal_damage damage = {
        .segment = at.sequence, .offset = at.offset, .is_needed = true, .reason = reason};
    wal__report_damage(recovery, &damage);
    recovery->is_tail_lost = true;
    recovery->lost_at = at;
    recovery->lost_reason = reason;
}

static void lose_segment(struct wal__recovery *recovery, uint64_t sequence, const char *reason)
{
    lose_tail(recovery, (struct wal__position){.sequence = sequence}, reason);
}

/* ---- The directory --------------------------------------------------------------------------- */

static void found_name(void *context, const char *name)
{
    struct wal__recovery *recovery = context;
    uint64_t number;
    if (wal__parse_spare_name(name, &number)) {
        wal__add_spare(recovery->wal, number);
    } else if (wal__parse_damaged_name(name, &number)) {
        recovery->wal->damaged_count++;
    } else if (strcmp(name, WAL__PREPARE_NAME) == 0) {
        recovery->has_prepare = true;
    } else if (wal__parse_segment_name(name, &number)) {
        if (recovery->sequence_count == recovery->sequence_capacity) {
            uint32_t capacity = recovery->sequence_capacity == 0 ? SEQUENCE_CAPACITY_MIN
                                                                 : 2 * recovery->sequence_capacity;
            recovery->sequences =
                memory_resize(recovery->sequences, capacity * sizeof *recovery->sequences);
            recovery->sequence_capacity = capacity;
        }
        ASSERT(recovery->sequence_count == 0 ||
               recovery->sequences[recovery->sequence_count - 1] < number);
        recovery->sequences[recovery->sequence_count++] = number;
    }
}

static int open_segment(struct wal *wal, uint64_t sequence, struct env_file **file,
                        struct error *error)
{
    const struct env_files *files = &wal->options.files;
    char name[WAL__NAME_SIZE_BYTES];
    wal__format_segment_name(sequence, name);
    unsigned flags = wal->options.is_read_only ? ENV_FILE_READ_ONLY : 0;
    int status = files->ops->open(files->context, name, flags, file, error);
    return status == 0 ? 0 : error_wrap(error, status, "log segment %s", name);
}

/* Read a segment's header from either copy. */
static int read_header(struct wal *wal, struct env_file *file, uint64_t sequence,
                       struct wal__segment_header *header, bool *is_good, struct error *error)
{
    static const uint64_t offsets[] = {0, WAL__HEADER_COPY_OFFSET};
    const struct env_files *files = &wal->options.files;
    *is_good = false;
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0] && !*is_good; i++) {
        uint8_t encoded[WAL__HEADER_SIZE_BYTES] = {0};
        size_t read_bytes = 0;
        int status = files->ops->read(files->context, file, offsets[i], encoded, sizeof encoded,
                                      &read_bytes, error);
        if (status != 0) {
            return error_wrap(error, status, "log segment %" PRIu64, sequence);
        }
        switch (wal__decode_segment_header(encoded, sequence, header)) {
        case WAL__HEADER_GOOD:
            *is_good = true;
            break;
        case WAL__HEADER_BAD:
            PROBE("wal.recover.header_copy_bad");
            break;
        case WAL__HEADER_NEWER:
            return error_set(error, ERROR_NEWER_FORMAT, "log segment %" PRIu64, sequence);
        }
    }
    return 0;
}

/* ---- Which segments make up the log ---------------------------------------------------------- */

static const char broken_header[] = "both copies of its header are damaged";

/* Whether the newest file was taken into use: its head is good, or a record shows that it was. */
static int examine_newest(struct wal__recovery *recovery, uint64_t sequence, bool *is_begun,
                          struct error *error)
{
    struct wal *wal = recovery->wal;
    struct env_file *file;
    int status = open_segment(wal, sequence, &file, error);
    if (status != 0) {
        return status;
    }
    struct wal__segment_header header;
    bool is_header_good;
    bool is_table_good = false;
    bool is_evidence = false;
    status = read_header(wal, file, sequence, &header, &is_header_good, error);
    uint32_t size_bytes =
        status == 0 && is_header_good ? header.segment_size_bytes : WAL__SEGMENT_SIZE_BYTES_MAX;
    if (status == 0) {
        status = wal__read_segment(recovery, file, sequence, size_bytes, error);
    }
    if (status == 0 && is_header_good) {
        status = wal__has_good_table(recovery, &is_table_good, error);
    }
    *is_begun = is_header_good && is_table_good;
    if (status == 0 && !*is_begun) {
        status = wal__is_evidence(recovery, WAL__RECORDS_OFFSET, WAL__RECORDS_OFFSET, &is_evidence,
                                  error);
    }
    if (status == 0 && is_evidence) {
        *is_begun = true; /* The scan will find what is wrong with the table. */
        if (!is_header_good) {
            recovery->broken_sequence = sequence;
            lose_segment(recovery, sequence, broken_header);
        }
    }
    wal->options.files.ops->close(wal->options.files.context, file);
    recovery->file = NULL;
    return status;
}

/* Find the newest segment that was begun. The next one may have been about to be. */
static int find_last_segment(struct wal__recovery *recovery, struct error *error)
{
    uint32_t count = recovery->sequence_count;
    recovery->chain_start = count;
    recovery->chain_end = count;
    if (count == 0) {
        return 0;
    }
    uint64_t newest = recovery->sequences[count - 1];
    bool is_begun;
    int status = examine_newest(recovery, newest, &is_begun, error);
    bool is_broken = recovery->broken_sequence == newest;
    if (status != 0 || (is_begun && !is_broken)) {
        return status;
    }
    recovery->chain_start--;
    recovery->chain_end--;
    if (!is_broken) {
        PROBE("wal.recover.segment_not_begun");
        if (newest != 1 && (count == 1 || recovery->sequences[count - 2] != newest - 1)) {
            lose_segment(recovery, newest - 1, "it is missing");
        }
    }
    return 0;
}

/* Open the segments from the last one back, as far as each is there and has a good header. */
static int build_chain(struct wal__recovery *recovery, struct error *error)
{
    struct wal *wal = recovery->wal;
    const struct env_files *files = &wal->options.files;
    recovery->chain_start = recovery->chain_end;
    while (recovery->chain_start > 0) {
        uint64_t sequence = recovery->sequences[recovery->chain_start - 1];
        if (wal->segment_count > 0 && sequence + 1 != wal->segments[0].header.sequence) {
            break; /* The one before is missing. */
        }
        struct env_file *file;
        int status = open_segment(wal, sequence, &file, error);
        if (status != 0) {
            return status;
        }
        struct wal__segment_header header;
        bool is_good;
        status = read_header(wal, file, sequence, &header, &is_good, error);
        if (status != 0 || !is_good) {
            files->ops->close(files->context, file);
            if (status != 0) {
                return status;
            }
            recovery->broken_sequence = sequence;
            if (wal->segment_count == 0) {
                lose_segment(recovery, sequence, broken_header);
            } else {
                recovery->lost_reason = broken_header;
            }
            break;
        }
        (void)wal__add_segment(wal);
        memmove(wal->segments + 1, wal->segments, (wal->segment_count - 1) * sizeof *wal->segments);
        wal->segments[0] = (struct wal__segment){.file = file, .header = header};
        recovery->total_bytes += header.segment_size_bytes;
        recovery->chain_start--;
    }
    return 0;
}

static int scan_segment(struct wal__recovery *recovery, struct wal__scan *scan, struct error *error)
{
    struct wal__segment *segment = scan->segment;
    int status = wal__read_segment(recovery, segment->file, segment->header.sequence,
                                   segment->header.segment_size_bytes, error);
    if (status == 0) {
        status = wal__scan_segment(recovery, scan, error);
    }
    if (status != 0) {
        return status;
    }
    if (scan->is_last && recovery->size_bytes < segment->header.segment_size_bytes) {
        /* It had its full size before its header was written. */
        struct wal__position at = {segment->header.sequence, scan->end_offset};
        lose_tail(recovery, at, "its file was shortened");
    }
    segment->end_offset = scan->is_last ? scan->end_offset : scan->limit;
    return 0;
}

/* What was lost before the first segment there is, if anything. */
static void begin_scan(struct wal__recovery *recovery)
{
    uint64_t first = recovery->wal->segments[0].header.sequence;
    if (first > 1) {
        recovery->is_lost = true;
        recovery->lost_at.sequence = first - 1;
        if (recovery->lost_reason == NULL) {
            recovery->lost_reason = "it is missing";
        }
    }
}

/* Read all segments of the log, oldest first. */
static int scan_chain(struct wal__recovery *recovery, struct wal__scan *last_scan,
                      struct error *error)
{
    struct wal *wal = recovery->wal;
    struct wal__position tail_lost_at = recovery->lost_at;
    const char *tail_lost_reason = recovery->lost_reason;
    begin_scan(recovery);
    for (uint32_t i = 0; i < wal->segment_count; i++) {
        struct wal__segment *segment = &wal->segments[i];
        struct wal__scan scan = {
            .segment = segment,
            .is_first = i == 0,
            .is_last = i + 1 == wal->segment_count,
            .limit = segment->header.segment_size_bytes,
        };
        if (!scan.is_last && segment[1].header.previous_end_offset <= scan.limit) {
            scan.limit = segment[1].header.previous_end_offset;
        }
        int status = scan_segment(recovery, &scan, error);
        if (status != 0) {
            return status;
        }
        *last_scan = scan;
    }
    if (recovery->is_lost) {
        lose_tail(recovery, recovery->lost_at, recovery->lost_reason);
    } else if (recovery->is_tail_lost && tail_lost_reason != NULL) {
        recovery->lost_at = tail_lost_at;
        recovery->lost_reason = tail_lost_reason;
    }
    return 0;
}

/* ---- Mending --------------------------------------------------------------------------------- */

/* Write again what no record proves to be on the disk. A process before this one may have seen a
 * flush fail: the kernel then takes the pages for clean, reads them back as if all were well, and
 * would not write them at the next flush (Rebello et al., "Can Applications Recover from fsync
 * Failures?", 2020). Nothing of it is changed. */
static int rewrite_tail(struct wal__recovery *recovery, const struct wal__scan *scan,
                        struct error *error)
{
    const struct env_files *files = &recovery->wal->options.files;
    const struct wal__segment *segment = scan->segment;
    uint32_t start = scan->durable_offset;
    if (start >= segment->end_offset || BUG("wal.tail_not_rewritten")) {
        return 0;
    }
    ASSERT(segment->end_offset <= recovery->loaded_bytes);
    PROBE("wal.tail.rewritten");
    struct bytes tail = bytes_make(recovery->bytes + start, segment->end_offset - start);
    int status = files->ops->write(files->context, segment->file, start, &tail, 1, error);
    return status == 0 ? 0 : error_wrap(error, status, "writing the log's tail again");
}

/* Make the last segment durably what it was found to be. What was cut needs nothing done to it: see
 * wal_scan.c. */
static int mend_tail(struct wal__recovery *recovery, const struct wal__scan *scan,
                     struct error *error)
{
    const struct env_files *files = &recovery->wal->options.files;
    struct wal__segment *segment = scan->segment;
    int status = rewrite_tail(recovery, scan, error);
    if (status != 0) {
        return status;
    }
    uint32_t cut_end = scan->torn_offset > recovery->search_end_offset
                           ? scan->torn_offset
                           : recovery->search_end_offset;
    if (cut_end > segment->end_offset) {
        PROBE("wal.tail.cut");
        TRACE("wal.tail.cut", segment->header.sequence, segment->end_offset, cut_end, 0);
        if (BUG("wal.torn_tail_not_cut")) {
            /* Goes on behind the torn write as if it were whole. */
            segment->end_offset = (uint32_t)wal__align(cut_end, WAL__SECTOR_SIZE_BYTES);
        }
    }
    return files->ops->flush(files->context, segment->file, error);
}

static int remove_segment(struct wal *wal, uint64_t sequence, struct error *error)
{
    const struct env_files *files = &wal->options.files;
    char name[WAL__NAME_SIZE_BYTES];
    wal__format_segment_name(sequence, name);
    TRACE("wal.segment.removed", sequence, 0, 0, 0);
    return files->ops->remove(files->context, name, error);
}

/* Keep spares of the right size, as many as are wanted. Without any segment there must not be any:
 * sequences begin anew, and a spare may hold records of the sequence that it would get. */
static int tidy_spares(struct wal *wal, struct error *error)
{
    const struct env_files *files = &wal->options.files;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < wal->spare_count; i++) {
        char name[WAL__NAME_SIZE_BYTES];
        wal__format_spare_name(wal->spares[i], name);
        struct env_file *file;
        int status = files->ops->open(files->context, name, ENV_FILE_READ_ONLY, &file, error);
        if (status != 0) {
            return status;
        }
        uint64_t size_bytes = 0;
        status = files->ops->size(files->context, file, &size_bytes, error);
        files->ops->close(files->context, file);
        if (status != 0) {
            return status;
        }
        uint64_t wanted_bytes = wal->options.segment_size_bytes;
        if (size_bytes == wanted_bytes && wal->segment_count > 0 &&
            (kept + 1) * wanted_bytes <= wal->options.spare_size_bytes_max) {
            wal->spares[kept++] = wal->spares[i];
            continue;
        }
        status = files->ops->remove(files->context, name, error);
        if (status != 0) {
            return status;
        }
    }
    wal->spare_count = kept;
    return 0;
}

/* Remove what is not part of the log: segments before it, one that was not begun, what was
 * prepared. */
static int tidy_directory(struct wal__recovery *recovery, struct error *error)
{
    struct wal *wal = recovery->wal;
    const struct env_files *files = &wal->options.files;
    for (uint32_t i = 0; i < recovery->sequence_count; i++) {
        if (i >= recovery->chain_start && i < recovery->chain_end) {
            continue;
        }
        uint64_t sequence = recovery->sequences[i];
        int status = sequence == recovery->broken_sequence ? wal__set_aside(wal, sequence, error)
                                                           : remove_segment(wal, sequence, error);
        if (status != 0) {
            return status;
        }
    }
    int status = tidy_spares(wal, error);
    if (status == 0 && recovery->has_prepare) {
        status = files->ops->remove(files->context, WAL__PREPARE_NAME, error);
    }
    /* A removed segment must not come back once its sequence is used again. */
    return status == 0 ? files->ops->flush_directory(files->context, error) : status;
}

static int mend(struct wal__recovery *recovery, const struct wal__scan *scan, struct error *error)
{
    struct wal *wal = recovery->wal;
    if (wal->index.shard_count > wal__shard_count_max(wal)) {
        return error_say(error, -EINVAL,
                         "the log has %" PRIu32 " shards, too many for segments of %" PRIu32
                         " bytes",
                         wal->index.shard_count, wal->options.segment_size_bytes);
    }
    int status = wal->segment_count > 0 ? mend_tail(recovery, scan, error) : 0;
    return status == 0 ? tidy_directory(recovery, error) : status;
}

/* ---- All of it ------------------------------------------------------------------------------- */

static int read_all(struct wal__recovery *recovery, struct error *error)
{
    struct wal *wal = recovery->wal;
    const struct env_files *files = &wal->options.files;
    int status = files->ops->list(files->context, found_name, recovery, error);
    if (status == 0) {
        status = find_last_segment(recovery, error);
    }
    if (status == 0) {
        status = build_chain(recovery, error);
    }
    struct wal__scan scan = {0};
    if (status == 0 && wal->segment_count > 0) {
        status = scan_chain(recovery, &scan, error);
    }
    if (status != 0) {
        return status;
    }
    status = wal__settle_losses(recovery, error);
    if (status != 0) {
        return status;
    }
    if (!wal->options.is_read_only) {
        status = mend(recovery, &scan, error);
        if (status != 0) {
            return status;
        }
    }
    if (wal->segment_count > 0) {
        struct wal__segment *last = wal__last_segment(wal);
        if (recovery->is_tail_lost) {
            /* It ends here, but the damage is to be found again, so that the segment is kept. */
            last->end_offset = last->header.segment_size_bytes;
        }
        wal->written = (struct wal__position){last->header.sequence, last->end_offset};
        wal->durable = wal->written;
        TRACE("wal.recovered", wal->segments[0].header.sequence, last->header.sequence,
              last->end_offset, wal->index.shard_count);
    }
    return 0;
}

int wal__recover(struct wal *wal, struct error *error)
{
    struct wal__recovery recovery = {.wal = wal};
    int status = read_all(&recovery, error);
    wal->incarnation = recovery.incarnation_newest + (BUG("wal.incarnation_reused") ? 0 : 1);
    if (status == 0 && !wal->options.is_read_only) {
        status = wal__write_losses(wal, recovery.is_tail_lost, error);
    }
    memory_free(recovery.sequences);
    memory_free(recovery.bytes);
    return status;
}
