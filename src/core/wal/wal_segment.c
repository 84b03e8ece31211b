/* SPDX-License-Identifier: Apache-2.0 */
/* The files of the log: taken into use, prepared ahead, recycled.
 *
 * A segment begins in steps, each durable before the next: the segment before it is flushed to its
 * end; its name stands in the directory; its header (twice, in two pages) and its table are
 * flushed. Only then do records follow. So a good header proves that all segments before it are
 * durable, and a record behind a bad header proves that the header was damaged later. This costs
 * three flushes in 64 MiB. The renames that made spares become durable with the same flush of the
 * directory, before a spare is written over: a segment is never found under an old name with new
 * bytes. */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/checksum/checksum.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/wal/wal_internal.h"

enum {
    PREPARE_STEP_SHARE = 64, /* A step is this part of a segment: 1 MiB of 64 MiB. */
    ZEROS_SIZE_BYTES_MAX = 1 << 20,
    LIST_CAPACITY_MIN = 16,
};

const uint8_t wal__zeros[64u << 10];

int wal__fail(struct wal *wal, int status, struct error *error)
{
    ASSERT(status != 0);
    if (wal__is_no_space(status)) {
        /* To the caller -ENOSPC means "try again"; here it was a flush that failed. */
        status = error_wrap(error, -EIO, "final");
    }
    TRACE("wal.failed", (uint64_t)-status, wal->written.sequence, wal->written.offset, 0);
    if (error != NULL) {
        wal->failure = *error;
    } else {
        (void)error_set(&wal->failure, status, "the log failed");
    }
    wal->failure.code = status;
    return status;
}

struct wal__segment *wal__find_segment(const struct wal *wal, uint64_t sequence)
{
    if (wal->segment_count == 0) {
        return NULL;
    }
    uint64_t first = wal->segments[0].header.sequence;
    if (sequence < first || sequence - first >= wal->segment_count) {
        return NULL;
    }
    return &wal->segments[sequence - first];
}

struct wal__segment *wal__add_segment(struct wal *wal)
{
    if (wal->segment_count == wal->segment_capacity) {
        uint32_t capacity =
            wal->segment_capacity == 0 ? LIST_CAPACITY_MIN : 2 * wal->segment_capacity;
        wal->segments = memory_resize(wal->segments, capacity * sizeof *wal->segments);
        wal->segment_capacity = capacity;
    }
    struct wal__segment *segment = &wal->segments[wal->segment_count++];
    *segment = (struct wal__segment){0};
    return segment;
}

void wal__add_spare(struct wal *wal, uint64_t number)
{
    if (wal->spare_count == wal->spare_capacity) {
        uint32_t capacity = wal->spare_capacity == 0 ? LIST_CAPACITY_MIN : 2 * wal->spare_capacity;
        wal->spares = memory_resize(wal->spares, capacity * sizeof *wal->spares);
        wal->spare_capacity = capacity;
    }
    wal->spares[wal->spare_count++] = number;
    if (number >= wal->spare_number_next) {
        wal->spare_number_next = number + 1;
    }
}

uint32_t wal__shard_count_max(const struct wal *wal)
{
    return wal->options.segment_size_bytes / WAL__TABLE_SHARE / WAL__TABLE_ITEM_SIZE_BYTES;
}

/* ---- Beginning a segment --------------------------------------------------------------------- */

/* Give the file of a new segment under its name: a spare one, the one that is being prepared, or a
 * new one. */
static int obtain_file(struct wal *wal, const char *name, struct env_file **file,
                       struct error *error)
{
    const struct env_files *files = &wal->options.files;
    if (wal->spare_count > 0) {
        char spare_name[WAL__NAME_SIZE_BYTES];
        wal__format_spare_name(wal->spares[wal->spare_count - 1], spare_name);
        int status = files->ops->rename(files->context, spare_name, name, error);
        if (status != 0) {
            return status;
        }
        wal->spare_count--;
        status = files->ops->open(files->context, name, 0, file, error);
        /* The name is taken now, so that there is no way back. */
        return status == 0 ? 0 : wal__fail(wal, status, error);
    }
    if (wal->prepare_file != NULL) {
        /* It has all its blocks, which on a full disk a new one would not get. */
        PROBE("wal.segment.from_unfinished_spare");
        int status = files->ops->rename(files->context, WAL__PREPARE_NAME, name, error);
        if (status == 0) {
            *file = wal->prepare_file;
            wal->prepare_file = NULL;
        }
        return status;
    }
    struct env_file *created;
    int status = files->ops->open(files->context, name, ENV_FILE_CREATE, &created, error);
    if (status != 0) {
        return status;
    }
    status = files->ops->allocate(files->context, created, wal->options.segment_size_bytes, error);
    if (status != 0) {
        files->ops->close(files->context, created);
        /* Recovery would do the same with what is left of it. */
        if (wal__is_no_space(status) && files->ops->remove(files->context, name, NULL) != 0) {
            return wal__fail(wal, status, error);
        }
        return status;
    }
    *file = created;
    return 0;
}

static void gather_table(struct wal *wal)
{
    buffer_clear(&wal->table);
    for (uint32_t i = 0; i < wal->index.shard_count; i++) {
        const struct wal__shard *shard = &wal->index.shards[i];
        struct wal__table_item item = {
            .shard = shard->id,
            .hard_state = shard->hard_state,
            .last_index = shard->last_index,
            .last_term = wal__shard_term(shard, shard->last_index),
        };
        if (BUG("wal.hard_state_not_carried")) {
            item.hard_state = (struct raft_hard_state){0};
        }
        wal__encode_table_item(&item, buffer_extend(&wal->table, WAL__TABLE_ITEM_SIZE_BYTES));
    }
}

/* Write the header, its copy and the table in one call, whole pages. `*end_offset`: where records
 * begin. */
static int write_head(struct wal *wal, struct env_file *file,
                      const struct wal__segment_header *header, uint32_t *end_offset,
                      struct error *error)
{
    gather_table(wal);
    uint32_t table_size_bytes = (uint32_t)wal->table.size_bytes;
    ASSERT(wal->index.shard_count <= wal__shard_count_max(wal));

    uint8_t encoded[WAL__HEADER_SIZE_BYTES];
    wal__encode_segment_header(header, encoded);
    struct wal__record_header table = {
        .kind = WAL__KIND_TABLE,
        .flags = WAL__FLAG_FIRST | WAL__FLAG_LAST | WAL__FLAG_WRITE_END,
        .position = {header->sequence, WAL__RECORDS_OFFSET},
        .payload_size_bytes = table_size_bytes,
        .payload_crc = checksum_crc32c(0, buffer_bytes(&wal->table)),
        .incarnation = wal->incarnation,
    };
    uint8_t encoded_table[WAL__HEADER_SIZE_BYTES];
    wal__encode_record_header(&table, encoded_table);

    uint32_t size_bytes = WAL__HEADER_SIZE_BYTES + table_size_bytes;
    uint32_t padding_bytes = (uint32_t)wal__align(size_bytes, WAL__PAGE_SIZE_BYTES) - size_bytes;
    uint32_t rest_bytes = WAL__PAGE_SIZE_BYTES - WAL__HEADER_SIZE_BYTES;
    const struct bytes pieces[] = {
        bytes_make(encoded, sizeof encoded),
        bytes_make(wal__zeros, rest_bytes),
        bytes_make(encoded, sizeof encoded),
        bytes_make(wal__zeros, rest_bytes),
        bytes_make(encoded_table, sizeof encoded_table),
        buffer_bytes(&wal->table),
        bytes_make(wal__zeros, padding_bytes),
    };
    *end_offset = WAL__RECORDS_OFFSET + (uint32_t)wal__align(size_bytes, WAL__SECTOR_SIZE_BYTES);
    return wal->options.files.ops->write(wal->options.files.context, file, 0, pieces,
                                         sizeof pieces / sizeof pieces[0], error);
}

/* The steps after the segment before is durable. On a failure the file is closed, and removed when
 * only space was missing. */
static int begin_with_file(struct wal *wal, const struct wal__segment_header *header,
                           const char *name, struct error *error)
{
    const struct env_files *files = &wal->options.files;
    struct env_file *file;
    int status = obtain_file(wal, name, &file, error);
    if (status != 0) {
        return status;
    }
    if (!BUG("wal.name_not_flushed")) {
        status = files->ops->flush_directory(files->context, error);
    }
    uint32_t end_offset = 0;
    if (status == 0) {
        status = write_head(wal, file, header, &end_offset, error);
        if (wal__is_no_space(status)) {
            files->ops->close(files->context, file);
            if (files->ops->remove(files->context, name, NULL) != 0) {
                return wal__fail(wal, status, error);
            }
            return status;
        }
    }
    if (status == 0) {
        status = files->ops->flush(files->context, file, error);
        wal->statistics.flush_count++;
    }
    if (status != 0) {
        files->ops->close(files->context, file);
        /* Even -ENOSPC is final here: after a failed flush nobody knows what the disk holds. */
        return wal__fail(wal, status, error);
    }

    struct wal__segment *segment = wal__add_segment(wal);
    *segment = (struct wal__segment){
        .file = file, .header = *header, .end_offset = end_offset, .first_offset = end_offset};
    wal->written = (struct wal__position){header->sequence, end_offset};
    wal->durable = wal->written;
    wal->is_segment_full = false;
    wal->statistics.written_size_bytes += wal__align(end_offset, WAL__PAGE_SIZE_BYTES);
    TRACE("wal.segment.begun", header->sequence, header->previous_end_offset, end_offset,
          wal->index.shard_count);
    return 0;
}

int wal__begin_segment(struct wal *wal, struct error *error)
{
    struct wal__segment_header header = {
        .sequence = 1,
        .segment_size_bytes = wal->options.segment_size_bytes,
    };
    if (wal->segment_count > 0) {
        const struct wal__segment *last = wal__last_segment(wal);
        int status = wal__flush_segment(wal, error);
        if (status != 0) {
            return status;
        }
        header.sequence = last->header.sequence + 1;
        header.previous_end_offset = last->end_offset;
    }
    if (header.sequence > WAL__SEQUENCE_MAX) {
        return wal__fail(wal, error_say(error, -EOVERFLOW, "the log has no sequences left"), error);
    }
    char name[WAL__NAME_SIZE_BYTES];
    wal__format_segment_name(header.sequence, name);
    int status = begin_with_file(wal, &header, name, error);
    if (status == 0) {
        return 0;
    }
    status = error_wrap(error, status, "log segment %s", name);
    if (wal__is_no_space(status) && wal->failure.code == 0) {
        PROBE("wal.segment.no_space");
        return status;
    }
    return wal->failure.code != 0 ? status : wal__fail(wal, status, error);
}

/* ---- Preparing ------------------------------------------------------------------------------- */

/* Give the file up; there may be space for it later. */
static int drop_prepared(struct wal *wal, int status, struct error *error)
{
    const struct env_files *files = &wal->options.files;
    if (wal->prepare_file != NULL) {
        files->ops->close(files->context, wal->prepare_file);
        wal->prepare_file = NULL;
    }
    if (!wal__is_no_space(status)) {
        return wal__fail(wal, status, error);
    }
    PROBE("wal.prepare.no_space");
    int remove_status = files->ops->remove(files->context, WAL__PREPARE_NAME, NULL);
    if (remove_status != 0 && remove_status != -ENOENT) {
        return wal__fail(wal, status, error);
    }
    return status;
}

static int start_preparing(struct wal *wal, struct error *error)
{
    const struct env_files *files = &wal->options.files;
    int status = files->ops->open(files->context, WAL__PREPARE_NAME, ENV_FILE_CREATE,
                                  &wal->prepare_file, error);
    if (status != 0) {
        wal->prepare_file = NULL;
        return drop_prepared(wal, status, error);
    }
    wal->prepare_offset = 0;
    status = files->ops->allocate(files->context, wal->prepare_file,
                                  wal->options.segment_size_bytes, error);
    return status == 0 ? 0 : drop_prepared(wal, status, error);
}

static int finish_preparing(struct wal *wal, struct error *error)
{
    const struct env_files *files = &wal->options.files;
    char name[WAL__NAME_SIZE_BYTES];
    wal__format_spare_name(wal->spare_number_next, name);
    int status = files->ops->rename(files->context, WAL__PREPARE_NAME, name, error);
    if (status != 0) {
        return drop_prepared(wal, status, error);
    }
    files->ops->close(files->context, wal->prepare_file);
    wal->prepare_file = NULL;
    TRACE("wal.spare.prepared", wal->spare_number_next, 0, 0, 0);
    wal__add_spare(wal, wal->spare_number_next);
    return 0;
}

/* Fill `size_bytes` with zeros from `offset` on. */
static int write_zeros(struct wal *wal, struct env_file *file, uint64_t offset, uint64_t size_bytes,
                       struct error *error)
{
    struct bytes pieces[ZEROS_SIZE_BYTES_MAX / sizeof wal__zeros];
    enum { PIECE_COUNT = sizeof pieces / sizeof pieces[0] };
    while (size_bytes > 0) {
        uint32_t count = 0;
        uint64_t step = 0;
        while (count < PIECE_COUNT && step < size_bytes) {
            uint64_t left = size_bytes - step;
            size_t piece = left < sizeof wal__zeros ? (size_t)left : sizeof wal__zeros;
            pieces[count++] = bytes_make(wal__zeros, piece);
            step += piece;
        }
        int status = wal->options.files.ops->write(wal->options.files.context, file, offset, pieces,
                                                   count, error);
        if (status != 0) {
            return status;
        }
        offset += step;
        size_bytes -= step;
    }
    return 0;
}

int wal_prepare(struct wal *wal, bool *is_ready, struct error *error)
{
    ASSERT(!wal->options.is_read_only);
    if (wal->failure.code != 0) {
        return error_say(error, wal->failure.code, "%s", wal->failure.message);
    }
    uint64_t size_bytes = wal->options.segment_size_bytes;
    if (wal->prepare_file == NULL) {
        if (wal->spare_count > 0 || wal->options.spare_size_bytes_max < size_bytes) {
            *is_ready = true;
            return 0;
        }
        int status = start_preparing(wal, error);
        if (status != 0) {
            return status;
        }
    }
    const struct env_files *files = &wal->options.files;
    uint64_t left = size_bytes - wal->prepare_offset;
    uint64_t step = wal__align(size_bytes / PREPARE_STEP_SHARE, WAL__PAGE_SIZE_BYTES);
    step = left < step ? left : step;
    int status = write_zeros(wal, wal->prepare_file, wal->prepare_offset, step, error);
    if (status != 0) {
        return drop_prepared(wal, status, error);
    }
    /* Flushed at each step: one flush of a whole segment would hold up the log for long. */
    status = files->ops->flush(files->context, wal->prepare_file, error);
    if (status != 0) {
        return wal__fail(wal, status, error);
    }
    wal->prepare_offset += step;
    if (wal->prepare_offset == size_bytes) {
        status = finish_preparing(wal, error);
        if (status != 0) {
            return status;
        }
    }
    *is_ready = wal->prepare_file == NULL;
    return 0;
}

/* ---- Releasing ------------------------------------------------------------------------------- */

void wal__forget_entry(struct wal *wal, struct wal__position position)
{
    struct wal__segment *segment = wal__find_segment(wal, position.sequence);
    if (segment != NULL) {
        ASSERT(segment->live_count > 0);
        segment->live_count--;
    }
}

/* Recycle or remove the oldest segment. */
static int recycle_oldest(struct wal *wal, struct error *error)
{
    const struct env_files *files = &wal->options.files;
    struct wal__segment *segment = &wal->segments[0];
    uint64_t size_bytes = segment->header.segment_size_bytes;
    uint64_t spare_size_bytes = wal->spare_count * (uint64_t)wal->options.segment_size_bytes;
    bool is_kept = size_bytes == wal->options.segment_size_bytes &&
                   spare_size_bytes + size_bytes <= wal->options.spare_size_bytes_max;
    char name[WAL__NAME_SIZE_BYTES];
    wal__format_segment_name(segment->header.sequence, name);
    int status;
    if (segment->is_damaged) {
        is_kept = false; /* What lies there may be bad. */
        status = wal__set_aside(wal, segment->header.sequence, error);
    } else if (is_kept) {
        char spare_name[WAL__NAME_SIZE_BYTES];
        wal__format_spare_name(wal->spare_number_next, spare_name);
        status = files->ops->rename(files->context, name, spare_name, error);
    } else {
        status = files->ops->remove(files->context, name, error);
    }
    if (status != 0) {
        return error_wrap(error, status, "log segment %s", name);
    }
    if (is_kept) {
        wal__add_spare(wal, wal->spare_number_next);
    }
    TRACE("wal.segment.recycled", segment->header.sequence, is_kept, 0, 0);
    if (wal->read_ahead.start.sequence == segment->header.sequence) {
        wal->read_ahead.size_bytes = 0;
    }
    files->ops->close(files->context, segment->file);
    wal->segment_count--;
    memmove(wal->segments, wal->segments + 1, wal->segment_count * sizeof *wal->segments);
    return 0;
}

/* Without the oldest segment the log must begin with a good table, or with segments whose entries are
 * not needed either. */
static bool is_rest_readable(const struct wal *wal)
{
    uint32_t place = 1;
    while (place < wal->segment_count && wal->segments[place].is_table_damaged) {
        if (wal->segments[place].live_count > 0) {
            PROBE("wal.release.table_damaged");
            return false;
        }
        place++;
    }
    return place < wal->segment_count;
}

/* Only the oldest segments are reused (I3): what the log holds stays one stretch, and a truncation
 * outlives what it truncates. */
static int recycle_segments(struct wal *wal, struct error *error)
{
    while (wal->segment_count > 1) {
        if (wal->fragment_offset > 0 &&
            wal->fragment_first.sequence <= wal->segments[0].header.sequence) {
            PROBE("wal.release.entry_under_way");
            return 0;
        }
        bool is_free = wal->segments[0].live_count == 0;
        if (!is_rest_readable(wal)) {
            return 0;
        }
        if (!is_free && !(BUG("wal.recycled_early") && wal->segment_count > 2)) {
            return 0;
        }
        if (!wal__position_is_before(wal->truncated, wal->durable)) {
            /* What was truncated could come back with the truncation lost, and its place reused. */
            PROBE("wal.release.truncation_not_durable");
            return 0;
        }
        int status = recycle_oldest(wal, error);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

int wal_release(struct wal *wal, wal_shard shard_id, raft_index index, struct error *error)
{
    ASSERT(!wal->options.is_read_only);
    if (wal->failure.code != 0) {
        return error_say(error, wal->failure.code, "%s", wal->failure.message);
    }
    struct wal__shard *shard = wal__index_find(&wal->index, shard_id);
    if (shard != NULL && index > shard->released_index) {
        struct wal__position position;
        while (shard->position_count > 0 && wal__shard_first_index(shard) <= index &&
               wal__shard_pop_oldest(shard, &position)) {
            wal__forget_entry(wal, position);
        }
        shard->released_index = index;
        wal__shard_shrink(shard);
    }
    return recycle_segments(wal, error);
}
