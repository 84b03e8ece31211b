/* SPDX-License-Identifier: Apache-2.0 */
/* Appending, writing, flushing and reading.
 *
 * Why a write ends at a sector, and goes on with zeros to the end of its page
 *   A disk promises at most that one sector is written whole or not at all. If the next write began
 *   in the sector where the last one ended, a disk that tears it would destroy records that were
 *   flushed and acknowledged. So records begin at a new sector after each write; in the mean 256
 *   bytes are lost, which costs nothing measurable: the kernel writes whole pages anyway. The zeros
 *   up to the end of the page are not part of the log; the next write overwrites them. With them
 *   the kernel never has to read a page from the disk before it can change a part of it, which it
 *   otherwise must for each new page of a recycled segment that has left the page cache. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/checksum/checksum.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/wal/wal_internal.h"

enum {
    APPENDED_CAPACITY_MIN = 64,
    /* After a burst the list of appended records gives its memory back. */
    APPENDED_CAPACITY_KEPT = 16384,
};

/* ---- Open and close -------------------------------------------------------------------------- */

static int check_options(const struct wal_options *options, struct error *error)
{
    uint32_t size_bytes = options->segment_size_bytes;
    if (size_bytes < WAL__SEGMENT_SIZE_BYTES_MIN || size_bytes > WAL__SEGMENT_SIZE_BYTES_MAX ||
        size_bytes % WAL__PAGE_SIZE_BYTES != 0) {
        return error_say(error, -EINVAL, "a log segment cannot have %" PRIu32 " bytes", size_bytes);
    }
    return 0;
}

int wal_open(struct wal **result, const struct wal_options *options, struct error *error)
{
    int status = check_options(options, error);
    if (status != 0) {
        return status;
    }
    struct wal *wal = memory_allocate_zeroed(1, sizeof *wal);
    wal->options = *options;
    wal->gathering.memory = memory_allocate(WAL__WRITE_MEMORY_SIZE_BYTES);
    wal->gathering.pieces = memory_allocate(WAL__PIECE_COUNT_MAX * sizeof(struct bytes));
    status = wal__recover(wal, error);
    if (status == 0 && wal->segment_count == 0 && !options->is_read_only) {
        status = wal__begin_segment(wal, error);
    }
    if (status != 0) {
        wal_close(wal);
        return status;
    }
    *result = wal;
    return 0;
}

void wal_close(struct wal *wal)
{
    const struct env_files *files = &wal->options.files;
    for (uint32_t i = 0; i < wal->segment_count; i++) {
        files->ops->close(files->context, wal->segments[i].file);
    }
    if (wal->prepare_file != NULL) {
        files->ops->close(files->context, wal->prepare_file);
    }
    wal__index_deinit(&wal->index);
    buffer_deinit(&wal->table);
    memory_free(wal->segments);
    memory_free(wal->spares);
    memory_free(wal->appended);
    memory_free(wal->gathering.memory);
    memory_free(wal->gathering.pieces);
    memory_free(wal->read_ahead.data);
    memory_free(wal);
}

bool wal_get_shard_state(const struct wal *wal, wal_shard shard_id, struct wal_shard_state *state)
{
    const struct wal__shard *shard = wal__index_find(&wal->index, shard_id);
    if (shard == NULL) {
        return false;
    }
    *state = (struct wal_shard_state){
        .shard = shard_id,
        .hard_state = shard->hard_state,
        .first_index = shard->position_count > 0 ? wal__shard_first_index(shard) : 0,
        .previous_term = shard->position_count > 0
                             ? wal__shard_term(shard, wal__shard_first_index(shard) - 1)
                             : 0,
        .last_index = shard->last_index,
        .last_term = wal__shard_term(shard, shard->last_index),
    };
    return true;
}

void wal_get_statistics(const struct wal *wal, struct wal_statistics *statistics)
{
    *statistics = wal->statistics;
    statistics->segment_count = wal->segment_count;
    statistics->spare_segment_count = wal->spare_count;
    statistics->damaged_segment_count = wal->damaged_count;
    statistics->live_size_bytes = 0;
    for (uint32_t i = 0; i < wal->segment_count; i++) {
        statistics->live_size_bytes += wal->segments[i].end_offset;
    }
}

/* ---- Append ---------------------------------------------------------------------------------- */

static void check_record(const struct wal_record *record)
{
    switch (record->kind) {
    case WAL_RECORD_ENTRY:
        ASSERT(record->index > 0);
        ASSERT(record->payload.size_bytes <= WAL_ENTRY_SIZE_BYTES_MAX);
        return;
    case WAL_RECORD_HARD_STATE:
        ASSERT(record->payload.size_bytes == 0);
        return;
    case WAL_RECORD_TRUNCATE:
        ASSERT(record->index > 0);
        ASSERT(record->payload.size_bytes == 0);
        return;
    }
    ASSERT(false && "unknown kind of record");
}

void wal_append(struct wal *wal, const struct wal_record *record)
{
    ASSERT(!wal->options.is_read_only);
    check_record(record);
    if (record->kind == WAL_RECORD_HARD_STATE && BUG("wal.hard_state_not_written")) {
        return;
    }
    uint32_t end = wal->appended_start + wal->appended_count;
    if (end == wal->appended_capacity) {
        uint32_t capacity = end == 0 ? APPENDED_CAPACITY_MIN : 2 * end;
        wal->appended = memory_resize(wal->appended, capacity * sizeof *wal->appended);
        wal->appended_capacity = capacity;
    }
    wal->appended[end] = *record;
    wal->appended_count++;
}

/* ---- Gathering a write ----------------------------------------------------------------------- */

static void add_piece(struct wal__gathering *gathering, struct bytes bytes)
{
    if (bytes.size_bytes == 0) {
        return;
    }
    if (gathering->piece_count > 0) {
        struct bytes *last = &gathering->pieces[gathering->piece_count - 1];
        if (last->data + last->size_bytes == bytes.data) {
            last->size_bytes += bytes.size_bytes;
            return;
        }
    }
    ASSERT(gathering->piece_count < WAL__PIECE_COUNT_MAX);
    gathering->pieces[gathering->piece_count++] = bytes;
}

/* Add bytes of the gathering's own memory as the next piece and borrow them. */
static uint8_t *add_memory(struct wal__gathering *gathering, uint32_t size_bytes)
{
    ASSERT(size_bytes <= WAL__WRITE_MEMORY_SIZE_BYTES - gathering->memory_used_bytes);
    uint8_t *memory = gathering->memory + gathering->memory_used_bytes;
    gathering->memory_used_bytes += size_bytes;
    add_piece(gathering, bytes_make(memory, size_bytes));
    return memory;
}

/* Room for one more record whatever it is, and for the padding at the end. */
static bool has_room(const struct wal__gathering *gathering)
{
    enum {
        PIECES_PER_RECORD = 3, /* Header, payload, padding. */
        PIECES_AT_END = 1,
        BYTES_PER_RECORD = WAL__HEADER_SIZE_BYTES + WAL__COPY_SIZE_BYTES_MAX + 8,
    };
    if (gathering->record_count > 0 && FAULT("wal.write.split")) {
        return false;
    }
    return gathering->piece_count + PIECES_PER_RECORD + PIECES_AT_END <= WAL__PIECE_COUNT_MAX &&
           gathering->memory_used_bytes + BYTES_PER_RECORD <= WAL__WRITE_MEMORY_SIZE_BYTES;
}

/* Where the next record of the gathering will stand. */
static struct wal__position gathering_end(const struct wal *wal)
{
    return (struct wal__position){wal->written.sequence,
                                  wal->written.offset + (uint32_t)wal->gathering.size_bytes};
}

/* Put a record, or a fragment of it, into the gathering. */
static void gather_fragment(struct wal *wal, const struct wal_record *record, uint32_t size_bytes)
{
    struct wal__gathering *gathering = &wal->gathering;
    bool is_first = wal->fragment_offset == 0;
    bool is_last = wal->fragment_offset + size_bytes == record->payload.size_bytes;
    struct bytes payload = bytes_make(NULL, 0);
    if (size_bytes > 0) {
        payload = bytes_make(record->payload.data + wal->fragment_offset, size_bytes);
    }
    bool is_hard_state = record->kind == WAL_RECORD_HARD_STATE;
    ASSERT(wal->durable.sequence == wal->written.sequence);
    struct wal__record_header header = {
        .kind = (uint8_t)record->kind,
        .flags = (uint8_t)((is_first ? WAL__FLAG_FIRST : 0) | (is_last ? WAL__FLAG_LAST : 0)),
        .position = gathering_end(wal),
        .payload_size_bytes = size_bytes,
        .payload_crc = checksum_crc32c(0, payload),
        .shard = record->shard,
        .index = record->index,
        .term = is_hard_state ? record->hard_state.term : record->term,
        .incarnation = wal->incarnation,
        .durable_offset = wal->durable.offset,
        .extra = record->ends_loss ? WAL__TRUNCATION_ENDS_LOSS
                 : is_hard_state   ? record->hard_state.vote
                                   : wal->fragment_offset,
    };
    gathering->last_header = add_memory(gathering, WAL__HEADER_SIZE_BYTES);
    wal__encode_record_header(&header, gathering->last_header);

    uint32_t padding_bytes = (uint32_t)(wal__align(size_bytes, 8) - size_bytes);
    if (size_bytes > WAL__COPY_SIZE_BYTES_MAX) {
        add_piece(gathering, payload);
        if (padding_bytes > 0) {
            memset(add_memory(gathering, padding_bytes), 0, padding_bytes);
        }
    } else if (size_bytes > 0) {
        uint8_t *copy = add_memory(gathering, size_bytes + padding_bytes);
        memcpy(copy, payload.data, size_bytes);
        memset(copy + size_bytes, 0, padding_bytes);
    }
    gathering->size_bytes += WAL__HEADER_SIZE_BYTES + size_bytes + padding_bytes;
    gathering->record_count++;
    if (is_first) {
        wal->fragment_first = header.position;
    }
}

/* The index follows what was laid out, so that the table of the next segment tells just that. */
static void apply_record(struct wal *wal, const struct wal_record *record)
{
    struct wal__shard *shard = wal__index_find(&wal->index, record->shard);
    if (shard == NULL) {
        ASSERT(wal->index.shard_count < wal__shard_count_max(wal));
        shard = wal__index_add(&wal->index, record->shard);
    }
    struct wal__position dropped;
    bool is_live;
    switch (record->kind) {
    case WAL_RECORD_ENTRY:
        ASSERT(wal__shard_accepts(shard, record->index));
        is_live = record->index > shard->released_index;
        wal__shard_push(shard, record->index, record->term, wal->fragment_first, is_live);
        if (is_live) {
            wal__find_segment(wal, wal->fragment_first.sequence)->live_count++;
        }
        return;
    case WAL_RECORD_HARD_STATE:
        shard->hard_state = record->hard_state;
        return;
    case WAL_RECORD_TRUNCATE:
        while (shard->last_index >= record->index && wal__shard_pop_newest(shard, &dropped)) {
            wal__forget_entry(wal, dropped);
        }
        wal__shard_truncate(shard, record->index);
        if (record->index == 1) {
            shard->released_index = 0; /* What comes next may begin anywhere. */
        }
        wal->truncated = wal->fragment_first;
        return;
    }
}

/* How much of the first appended record goes into the segment now. False when nothing does. */
static bool choose_fragment(const struct wal *wal, const struct wal_record *record,
                            uint32_t *size_bytes)
{
    const struct wal__segment *segment = wal__last_segment(wal);
    uint32_t room = segment->header.segment_size_bytes - gathering_end(wal).offset;
    uint32_t left = (uint32_t)record->payload.size_bytes - wal->fragment_offset;
    if (wal__align((uint64_t)WAL__HEADER_SIZE_BYTES + left, 8) <= room) {
        *size_bytes = left;
        return true;
    }
    if (room < WAL__HEADER_SIZE_BYTES + WAL__FRAGMENT_SIZE_BYTES_MIN) {
        return false;
    }
    PROBE("wal.entry.fragmented");
    *size_bytes = room - WAL__HEADER_SIZE_BYTES;
    return true;
}

/* Gather appended records until the segment or the gathering is full, or all are in it. */
static void gather(struct wal *wal)
{
    struct wal__gathering *gathering = &wal->gathering;
    while (wal->appended_count > 0 && has_room(gathering)) {
        const struct wal_record *record = &wal->appended[wal->appended_start];
        uint32_t size_bytes;
        if (!choose_fragment(wal, record, &size_bytes)) {
            wal->is_segment_full = true;
            break;
        }
        gather_fragment(wal, record, size_bytes);
        wal->fragment_offset += size_bytes;
        if (wal->fragment_offset < record->payload.size_bytes) {
            wal->is_segment_full = true;
            break;
        }
        apply_record(wal, record);
        wal->fragment_offset = 0;
        wal->appended_start++;
        wal->appended_count--;
    }
    if (gathering->record_count == 0) {
        return;
    }
    wal__end_write(gathering->last_header);
    uint64_t end = wal->written.offset + gathering->size_bytes;
    uint64_t padding_bytes = wal__align(end, WAL__PAGE_SIZE_BYTES) - end;
    add_piece(gathering, bytes_make(wal__zeros, padding_bytes));
    gathering->write_size_bytes = gathering->size_bytes + padding_bytes;
    gathering->size_bytes = wal__align(end, WAL__SECTOR_SIZE_BYTES) - wal->written.offset;
}

/* ---- Write and flush ------------------------------------------------------------------------- */

static int write_gathered(struct wal *wal, struct error *error)
{
    struct wal__gathering *gathering = &wal->gathering;
    struct wal__segment *segment = wal__last_segment(wal);
    int status = wal->options.files.ops->write(wal->options.files.context, segment->file,
                                               wal->written.offset, gathering->pieces,
                                               gathering->piece_count, error);
    if (status != 0) {
        status = error_wrap(error, status, "log segment %" PRIu64 " at %" PRIu32,
                            wal->written.sequence, wal->written.offset);
        if (wal__is_no_space(status)) {
            /* The same bytes will go to the same place when there is space. */
            PROBE("wal.write.no_space");
            return status;
        }
        return wal__fail(wal, status, error);
    }
    segment->end_offset = (uint32_t)(wal->written.offset + gathering->size_bytes);
    wal->written.offset = segment->end_offset;
    wal->statistics.written_size_bytes += gathering->write_size_bytes;
    wal->statistics.record_count += gathering->record_count;
    wal->statistics.write_count++;
    gathering->piece_count = 0;
    gathering->memory_used_bytes = 0;
    gathering->size_bytes = 0;
    gathering->record_count = 0;
    return 0;
}

static void reset_appended(struct wal *wal)
{
    ASSERT(wal->appended_count == 0);
    wal->appended_start = 0;
    if (wal->appended_capacity > APPENDED_CAPACITY_KEPT) {
        memory_free(wal->appended);
        wal->appended = NULL;
        wal->appended_capacity = 0;
    }
}

int wal_write(struct wal *wal, struct error *error)
{
    ASSERT(!wal->options.is_read_only);
    if (wal->failure.code != 0) {
        return error_say(error, wal->failure.code, "%s", wal->failure.message);
    }
    while (wal->gathering.record_count > 0 || wal->appended_count > 0) {
        if (wal->gathering.record_count == 0) {
            if (wal->is_segment_full) {
                int status = wal__begin_segment(wal, error);
                if (status != 0) {
                    return status;
                }
            }
            gather(wal);
        }
        if (wal->gathering.record_count > 0) {
            int status = write_gathered(wal, error);
            if (status != 0) {
                return status;
            }
        }
        if (FAULT("wal.segment.end_early")) {
            wal->is_segment_full = true;
        }
    }
    reset_appended(wal);
    return 0;
}

int wal__flush_segment(struct wal *wal, struct error *error)
{
    if (!wal__position_is_before(wal->durable, wal->written)) {
        return 0;
    }
    struct wal__segment *segment = wal__last_segment(wal);
    int status = wal->options.files.ops->flush(wal->options.files.context, segment->file, error);
    wal->statistics.flush_count++;
    if (status != 0) {
        status =
            error_wrap(error, status, "flush of log segment %" PRIu64, segment->header.sequence);
        return wal__fail(wal, status, error);
    }
    wal->durable = wal->written;
    return 0;
}

int wal_flush(struct wal *wal, struct error *error)
{
    ASSERT(!wal->options.is_read_only);
    if (wal->failure.code != 0) {
        return error_say(error, wal->failure.code, "%s", wal->failure.message);
    }
    if (BUG("wal.flush_skipped")) {
        wal->durable = wal->written;
        return 0;
    }
    return wal__flush_segment(wal, error);
}

/* ---- Read ------------------------------------------------------------------------------------ */

/* Borrow `size_bytes` at `position`, through the bytes that were read ahead. */
static int read_ahead(struct wal *wal, const struct wal__segment *segment,
                      struct wal__position position, uint32_t size_bytes, const uint8_t **bytes,
                      struct error *error)
{
    struct wal__read_ahead *ahead = &wal->read_ahead;
    ASSERT(size_bytes <= WAL__PAGE_SIZE_BYTES);
    bool is_inside = ahead->start.sequence == position.sequence &&
                     position.offset >= ahead->start.offset &&
                     position.offset + size_bytes <= ahead->start.offset + ahead->size_bytes;
    if (!is_inside) {
        if (ahead->data == NULL) {
            ahead->data = memory_allocate(WAL__READ_AHEAD_SIZE_BYTES);
        }
        bool goes_on = ahead->next.sequence == position.sequence &&
                       ahead->next.offset <= position.offset &&
                       position.offset - ahead->next.offset <= WAL__PAGE_SIZE_BYTES;
        size_t wanted = goes_on ? WAL__READ_AHEAD_SIZE_BYTES : WAL__PAGE_SIZE_BYTES;
        size_t left = segment->end_offset - position.offset;
        size_t read_bytes = 0;
        ahead->size_bytes = 0;
        int status = wal->options.files.ops->read(
            wal->options.files.context, segment->file, position.offset, ahead->data,
            wanted < left ? wanted : left, &read_bytes, error);
        if (status != 0) {
            return status;
        }
        ahead->start = position;
        ahead->size_bytes = (uint32_t)read_bytes;
        if (read_bytes < size_bytes) {
            return error_say(error, ERROR_CORRUPT, "the segment was shortened");
        }
    }
    *bytes = ahead->data + (position.offset - ahead->start.offset);
    return 0;
}

/* Append the payload behind a header to `payload`, from what was read ahead where it is there. */
static int read_payload(struct wal *wal, const struct wal__segment *segment,
                        const struct wal__record_header *header, struct buffer *payload,
                        struct error *error)
{
    const struct wal__read_ahead *ahead = &wal->read_ahead;
    uint32_t size_bytes = header->payload_size_bytes;
    uint32_t offset = header->position.offset + WAL__HEADER_SIZE_BYTES;
    if (size_bytes > segment->end_offset - offset) {
        return error_say(error, ERROR_CORRUPT, "the payload is longer than the segment");
    }
    wal->read_ahead.next = (struct wal__position){header->position.sequence,
                                                  (uint32_t)wal__align(offset + size_bytes, 8)};
    if (size_bytes == 0) {
        return 0; /* There may be no memory to read into. */
    }
    uint8_t *target = buffer_extend(payload, size_bytes);
    if (offset + size_bytes <= ahead->start.offset + ahead->size_bytes) {
        memcpy(target, ahead->data + (offset - ahead->start.offset), size_bytes);
    } else {
        size_t read_bytes = 0;
        int status = wal->options.files.ops->read(wal->options.files.context, segment->file, offset,
                                                  target, size_bytes, &read_bytes, error);
        if (status != 0) {
            return status;
        }
        if (read_bytes < size_bytes) {
            return error_say(error, ERROR_CORRUPT, "the segment was shortened");
        }
    }
    if (!wal__payload_is_good(header, target)) {
        return error_say(error, ERROR_CORRUPT, "its payload has the wrong checksum");
    }
    return 0;
}

/* Read the header of a fragment. -ENOENT when it was not written yet. */
static int read_header(struct wal *wal, struct wal__position position,
                       const struct wal__record_header *expected, struct wal__record_header *header,
                       struct error *error)
{
    const struct wal__segment *segment = wal__find_segment(wal, position.sequence);
    if (segment == NULL || position.offset >= segment->end_offset) {
        return error_say(error, -ENOENT, "it is not written");
    }
    const uint8_t *bytes = NULL;
    int status = read_ahead(wal, segment, position, WAL__HEADER_SIZE_BYTES, &bytes, error);
    if (status != 0) {
        return status;
    }
    if (!wal__decode_record_header(bytes, position, header) || header->kind != WAL_RECORD_ENTRY ||
        header->shard != expected->shard || header->index != expected->index ||
        header->extra != expected->extra ||
        (header->extra == 0) != ((header->flags & WAL__FLAG_FIRST) != 0)) {
        return error_say(error, ERROR_CORRUPT, "its header is damaged");
    }
    return 0;
}

/* Read one fragment; gives its header. */
static int read_fragment(struct wal *wal, struct wal__position position,
                         const struct wal__record_header *expected,
                         struct wal__record_header *header, struct buffer *payload,
                         struct error *error)
{
    int status = read_header(wal, position, expected, header, error);
    return status != 0 ? status
                       : read_payload(wal, wal__find_segment(wal, position.sequence), header,
                                      payload, error);
}

static int find_entry(const struct wal *wal, wal_shard shard_id, raft_index index,
                      struct wal__position *position, struct error *error)
{
    if (wal->failure.code != 0) {
        return error_say(error, wal->failure.code, "%s", wal->failure.message);
    }
    const struct wal__shard *shard = wal__index_find(&wal->index, shard_id);
    if (shard == NULL || !wal__shard_get(shard, index, position)) {
        return error_say(error, -ENOENT, "the log has no entry %" PRIu64 " of shard %" PRIu32,
                         index, shard_id);
    }
    return 0;
}

static int wrap_entry(struct error *error, int status, wal_shard shard_id, raft_index index,
                      struct wal__position position)
{
    return error_wrap(error, status,
                      "entry %" PRIu64 " of shard %" PRIu32 " in log segment %" PRIu64
                      " at %" PRIu32,
                      index, shard_id, position.sequence, position.offset);
}

int wal_read(struct wal *wal, wal_shard shard_id, raft_index index, raft_term *term,
             struct buffer *payload, struct error *error)
{
    struct wal__position position;
    int status = find_entry(wal, shard_id, index, &position, error);
    if (status != 0) {
        return status;
    }
    size_t size_before_bytes = payload->size_bytes;
    struct wal__record_header expected = {.shard = shard_id, .index = index};
    struct wal__record_header header;
    for (;;) {
        expected.extra = (uint32_t)(payload->size_bytes - size_before_bytes);
        status = read_fragment(wal, position, &expected, &header, payload, error);
        if (status != 0) {
            payload->size_bytes = size_before_bytes;
            return wrap_entry(error, status, shard_id, index, position);
        }
        if ((header.flags & WAL__FLAG_LAST) != 0) {
            *term = header.term;
            return 0;
        }
        /* The next fragment stands right behind the table of the next segment. */
        position.sequence++;
        const struct wal__segment *next = wal__find_segment(wal, position.sequence);
        position.offset = next != NULL ? next->first_offset : 0;
    }
}

/* The first fragment is shorter than what is wanted. */
static int read_head_of_fragments(struct wal *wal, wal_shard shard_id, raft_index index,
                                  uint32_t size_bytes_max, raft_term *term, struct buffer *payload,
                                  struct error *error)
{
    size_t size_before_bytes = payload->size_bytes;
    int status = wal_read(wal, shard_id, index, term, payload, error);
    if (payload->size_bytes - size_before_bytes > size_bytes_max) {
        payload->size_bytes = size_before_bytes + size_bytes_max;
    }
    return status;
}

int wal_read_head(struct wal *wal, wal_shard shard_id, raft_index index, uint32_t size_bytes_max,
                  raft_term *term, struct buffer *payload, struct error *error)
{
    ASSERT(size_bytes_max <= WAL_HEAD_SIZE_BYTES_MAX);
    struct wal__position position;
    int status = find_entry(wal, shard_id, index, &position, error);
    if (status != 0) {
        return status;
    }
    struct wal__record_header expected = {.shard = shard_id, .index = index};
    struct wal__record_header header;
    status = read_header(wal, position, &expected, &header, error);
    if (status != 0) {
        return wrap_entry(error, status, shard_id, index, position);
    }
    if ((header.flags & WAL__FLAG_LAST) == 0 && header.payload_size_bytes < size_bytes_max) {
        return read_head_of_fragments(wal, shard_id, index, size_bytes_max, term, payload, error);
    }
    struct wal__position begin = {position.sequence, position.offset + WAL__HEADER_SIZE_BYTES};
    uint32_t size_bytes =
        header.payload_size_bytes < size_bytes_max ? header.payload_size_bytes : size_bytes_max;
    if (size_bytes > 0) {
        const uint8_t *bytes = NULL;
        status = read_ahead(wal, wal__find_segment(wal, position.sequence), begin, size_bytes,
                            &bytes, error);
        if (status != 0) {
            return wrap_entry(error, status, shard_id, index, position);
        }
        buffer_append(payload, bytes_make(bytes, size_bytes));
    }
    begin.offset += size_bytes;
    wal->read_ahead.next = begin; /* Small entries follow within a page. */
    *term = header.term;
    return 0;
}
