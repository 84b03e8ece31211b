/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the log; docs/formats/wal.md tells why. All integers are little-endian.
 *
 * Segment header, at offset 0 and again at 4096; its shape is the same in every version
 *    0   8  "TUTTIWAL"
 *    8   4  CRC32C of bytes 12 to 63
 *   12   4  format version
 *   16   8  sequence of the segment
 *   24   4  size of the segment
 *   28   4  offset at which the segment before this one ends; 0: there is none
 *   32  32  zero
 *
 * Record header, at a multiple of 8
 *    0   4  CRC32C of bytes 4 to 63
 *    4   1  kind: 1 entry, 2 hard state, 3 truncation, 4 table
 *    5   1  flags: 1 first fragment, 2 last fragment, 4 end of the write
 *    6   2  zero
 *    8   8  sequence of the segment it belongs to
 *   16   4  offset it belongs at
 *   20   4  size of the payload
 *   24   4  CRC32C of the payload
 *   28   4  shard
 *   32   8  index
 *   40   8  term
 *   48   8  incarnation: grows each time the log is opened
 *   56   4  up to where the segment was durable when this was written; 0: it was just begun
 *   60   4  hard state: vote; entry: offset of the fragment in the entry
 *
 * Table item
 *    0   4  shard
 *    4   4  vote
 *    8   8  term of the hard state
 *   16   8  last index
 *   24   8  last term */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/checksum/checksum.h"
#include "base/endian/endian.h"
#include "base/trace/trace.h"
#include "core/wal/wal_internal.h"

static const uint8_t magic[8] = {'T', 'U', 'T', 'T', 'I', 'W', 'A', 'L'};

enum { NAME_DIGIT_COUNT = 16 };
static const char segment_suffix[] = ".wal";
static const char spare_prefix[] = "spare-";
static const char damaged_prefix[] = "damaged-";

void wal__encode_segment_header(const struct wal__segment_header *header, uint8_t *target)
{
    memset(target, 0, WAL__HEADER_SIZE_BYTES);
    memcpy(target, magic, sizeof magic);
    endian_put_u32_le(target + 12, WAL__FORMAT_VERSION);
    endian_put_u64_le(target + 16, header->sequence);
    endian_put_u32_le(target + 24, header->segment_size_bytes);
    endian_put_u32_le(target + 28, header->previous_end_offset);
    endian_put_u32_le(target + 8, checksum_crc32c(0, bytes_make(target + 12, 52)));
}

enum wal__header_state wal__decode_segment_header(const uint8_t *source, uint64_t sequence,
                                                  struct wal__segment_header *header)
{
    if (memcmp(source, magic, sizeof magic) != 0 ||
        endian_get_u32_le(source + 8) != checksum_crc32c(0, bytes_make(source + 12, 52)) ||
        endian_get_u64_le(source + 16) != sequence) {
        return WAL__HEADER_BAD;
    }
    if (endian_get_u32_le(source + 12) > WAL__FORMAT_VERSION) {
        return WAL__HEADER_NEWER;
    }
    struct wal__segment_header found = {
        .sequence = sequence,
        .segment_size_bytes = endian_get_u32_le(source + 24),
        .previous_end_offset = endian_get_u32_le(source + 28),
    };
    uint32_t size_bytes = found.segment_size_bytes;
    uint32_t end = found.previous_end_offset;
    if (size_bytes < WAL__SEGMENT_SIZE_BYTES_MIN || size_bytes > WAL__SEGMENT_SIZE_BYTES_MAX ||
        size_bytes % WAL__PAGE_SIZE_BYTES != 0 || (end == 0) != (sequence == 1) ||
        (end != 0 && (end <= WAL__RECORDS_OFFSET || end > WAL__SEGMENT_SIZE_BYTES_MAX ||
                      end % WAL__SECTOR_SIZE_BYTES != 0))) {
        return WAL__HEADER_BAD;
    }
    *header = found;
    return WAL__HEADER_GOOD;
}

static void put_record_crc(uint8_t *header)
{
    endian_put_u32_le(header, checksum_crc32c(0, bytes_make(header + 4, 60)));
}

void wal__encode_record_header(const struct wal__record_header *header, uint8_t *target)
{
    target[4] = header->kind;
    target[5] = header->flags;
    endian_put_u16_le(target + 6, 0);
    endian_put_u64_le(target + 8, header->position.sequence);
    endian_put_u32_le(target + 16, header->position.offset);
    endian_put_u32_le(target + 20, header->payload_size_bytes);
    endian_put_u32_le(target + 24, header->payload_crc);
    endian_put_u32_le(target + 28, header->shard);
    endian_put_u64_le(target + 32, header->index);
    endian_put_u64_le(target + 40, header->term);
    endian_put_u64_le(target + 48, header->incarnation);
    endian_put_u32_le(target + 56, header->durable_offset);
    endian_put_u32_le(target + 60, header->extra);
    put_record_crc(target);
}

void wal__end_write(uint8_t *encoded_header)
{
    encoded_header[5] |= WAL__FLAG_WRITE_END;
    put_record_crc(encoded_header);
}

bool wal__decode_record_header(const uint8_t *source, struct wal__position position,
                               struct wal__record_header *header)
{
    /* First what is cheap and nearly always tells: a search looks at every eighth byte. */
    bool is_here = endian_get_u32_le(source + 16) == position.offset &&
                   endian_get_u64_le(source + 8) == position.sequence;
    if ((!is_here && !BUG("wal.stale_record_believed")) || source[4] == 0 ||
        endian_get_u32_le(source) != checksum_crc32c(0, bytes_make(source + 4, 60))) {
        return false;
    }
    *header = (struct wal__record_header){
        .kind = source[4],
        .flags = source[5],
        .position = position,
        .payload_size_bytes = endian_get_u32_le(source + 20),
        .payload_crc = endian_get_u32_le(source + 24),
        .shard = endian_get_u32_le(source + 28),
        .index = endian_get_u64_le(source + 32),
        .term = endian_get_u64_le(source + 40),
        .incarnation = endian_get_u64_le(source + 48),
        .durable_offset = endian_get_u32_le(source + 56),
        .extra = endian_get_u32_le(source + 60),
    };
    return true;
}

bool wal__payload_is_good(const struct wal__record_header *header, const uint8_t *payload)
{
    return BUG("wal.payload_crc_unchecked") ||
           checksum_crc32c(0, bytes_make(payload, header->payload_size_bytes)) ==
               header->payload_crc;
}

void wal__encode_table_item(const struct wal__table_item *item, uint8_t *target)
{
    endian_put_u32_le(target, item->shard);
    endian_put_u32_le(target + 4, item->hard_state.vote);
    endian_put_u64_le(target + 8, item->hard_state.term);
    endian_put_u64_le(target + 16, item->last_index);
    endian_put_u64_le(target + 24, item->last_term);
}

void wal__decode_table_item(const uint8_t *source, struct wal__table_item *item)
{
    *item = (struct wal__table_item){
        .shard = endian_get_u32_le(source),
        .hard_state = {.term = endian_get_u64_le(source + 8),
                       .vote = endian_get_u32_le(source + 4)},
        .last_index = endian_get_u64_le(source + 16),
        .last_term = endian_get_u64_le(source + 24),
    };
}

void wal__format_segment_name(uint64_t sequence, char name[WAL__NAME_SIZE_BYTES])
{
    ASSERT(sequence > 0 && sequence <= WAL__SEQUENCE_MAX);
    (void)snprintf(name, WAL__NAME_SIZE_BYTES, "%016" PRIu64 "%s", sequence, segment_suffix);
}

void wal__format_spare_name(uint64_t number, char name[WAL__NAME_SIZE_BYTES])
{
    (void)snprintf(name, WAL__NAME_SIZE_BYTES, "%s%016" PRIu64, spare_prefix, number);
}

void wal__format_damaged_name(uint64_t sequence, char name[WAL__NAME_SIZE_BYTES])
{
    (void)snprintf(name, WAL__NAME_SIZE_BYTES, "%s%016" PRIu64, damaged_prefix, sequence);
}

/* Exactly sixteen digits. */
static bool parse_digits(const char *text, uint64_t *number)
{
    uint64_t value = 0;
    for (int i = 0; i < NAME_DIGIT_COUNT; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false; /* Also where the text ends too early. */
        }
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *number = value;
    return true;
}

bool wal__parse_segment_name(const char *name, uint64_t *sequence)
{
    uint64_t found;
    if (!parse_digits(name, &found) || strcmp(name + NAME_DIGIT_COUNT, segment_suffix) != 0 ||
        found == 0 || found > WAL__SEQUENCE_MAX) {
        return false;
    }
    *sequence = found;
    return true;
}

static bool parse_prefixed(const char *name, const char *prefix, uint64_t *number)
{
    size_t prefix_size = strlen(prefix);
    return strncmp(name, prefix, prefix_size) == 0 && parse_digits(name + prefix_size, number) &&
           name[prefix_size + NAME_DIGIT_COUNT] == '\0';
}

bool wal__parse_spare_name(const char *name, uint64_t *number)
{
    return parse_prefixed(name, spare_prefix, number);
}

bool wal__parse_damaged_name(const char *name, uint64_t *sequence)
{
    return parse_prefixed(name, damaged_prefix, sequence);
}
