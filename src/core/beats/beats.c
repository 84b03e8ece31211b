/* SPDX-License-Identifier: Apache-2.0 */
/* Integers are little-endian; docs/formats/beats.md is the same table.
 *
 * A message
 *   offset  size  meaning
 *        0     1  version of this format, 1
 *        1     7  zero
 *        8     8  base: milliseconds of a leader's clock
 *       16        heartbeats
 *
 * A heartbeat
 *       1  flags: 1 an answer, 2 rejected, 4 quiet, 8 with a mark
 *  number  shard, not 0
 *  number  term
 *  number  index
 *  number  only requests: commit index, as a difference from the index
 *  number  only requests: last index, as a difference from the index
 *  number  round
 *  number  when the request was sent, as a difference from the base
 *       8  only with a mark: it, not 0
 *
 * A number has seven bits in each byte, the lowest first, and the eighth bit in all but the last; it is
 * as short as it can be. A difference is taken modulo 2^64, and is a number twice as large if it is
 * positive, and twice its amount less one if it is negative. */
#include "core/beats/beats.h"

#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"

enum {
    VERSION = 1,
    HEAD_SIZE_BYTES = 16,
    NUMBER_SIZE_BYTES_MAX = 10,
    MARK_SIZE_BYTES = 8,
    BEAT_SIZE_BYTES_MAX = 1 + 7 * NUMBER_SIZE_BYTES_MAX + MARK_SIZE_BYTES,
};
enum { FLAG_ANSWER = 1, FLAG_REJECTED = 2, FLAG_QUIET = 4, FLAG_MARK = 8, FLAGS = 15 };

_Static_assert(HEAD_SIZE_BYTES + BEAT_SIZE_BYTES_MAX <= BEATS_SIZE_BYTES_MAX, "one always fits");

void beats_deinit(struct beats *beats)
{
    buffer_deinit(&beats->bytes);
}

bool beats_can_carry(const struct raft_message *message)
{
    return message->kind == RAFT_MESSAGE_HEARTBEAT_REQUEST ||
           message->kind == RAFT_MESSAGE_HEARTBEAT_REPLY;
}

/* ---- Adding ---------------------------------------------------------------------------------- */

static uint8_t *put_number(uint8_t *target, uint64_t value)
{
    while (value >= 0x80) {
        *target++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *target++ = (uint8_t)value;
    return target;
}

static uint8_t *put_difference(uint8_t *target, uint64_t value, uint64_t base)
{
    uint64_t difference = value - base;
    bool is_negative = difference >> 63 != 0;
    return put_number(target, is_negative ? ~(difference << 1) : difference << 1);
}

bool beats_add(struct beats *beats, wal_shard shard, const struct raft_message *message)
{
    bool is_answer = message->kind == RAFT_MESSAGE_HEARTBEAT_REPLY;
    struct buffer *bytes = &beats->bytes;
    ASSERT(beats_can_carry(message) && shard != 0);
    ASSERT(message->entry_count == 0 && message->index_term == 0 && message->last_term == 0);
    ASSERT(!message->is_transfer);
    ASSERT_IF(is_answer, message->commit_index == 0 && message->last_index == 0);
    if (bytes->size_bytes > BEATS_SIZE_BYTES_MAX - BEAT_SIZE_BYTES_MAX) {
        return false;
    }
    if (bytes->size_bytes == 0) {
        buffer_reserve(bytes, BEATS_SIZE_BYTES_MAX);
        uint8_t *head = buffer_extend(bytes, HEAD_SIZE_BYTES);
        memset(head, 0, HEAD_SIZE_BYTES);
        head[0] = VERSION;
        endian_put_u64_le(head + 8, message->sent_at_ms);
        beats->base_ms = message->sent_at_ms;
    }
    uint8_t *target = bytes->data + bytes->size_bytes;
    *target++ =
        (uint8_t)((is_answer ? FLAG_ANSWER : 0) | (message->is_rejected ? FLAG_REJECTED : 0) |
                  (message->is_quiet ? FLAG_QUIET : 0) | (message->mark != 0 ? FLAG_MARK : 0));
    target = put_number(target, shard);
    target = put_number(target, message->term);
    target = put_number(target, message->index);
    if (!is_answer) {
        target = put_difference(target, message->commit_index, message->index);
        target = put_difference(target, message->last_index, message->index);
    }
    target = put_number(target, message->round);
    target = put_difference(target, message->sent_at_ms, beats->base_ms);
    if (message->mark != 0) {
        endian_put_u64_le(target, message->mark);
        target += MARK_SIZE_BYTES;
    }
    bytes->size_bytes = (size_t)(target - bytes->data);
    ASSERT(bytes->size_bytes <= BEATS_SIZE_BYTES_MAX); /* I2 */
    return true;
}

struct bytes beats_message(const struct beats *beats)
{
    return buffer_bytes(&beats->bytes);
}

void beats_clear(struct beats *beats)
{
    buffer_clear(&beats->bytes);
}

/* ---- Reading --------------------------------------------------------------------------------- */

int beats_read(struct beats_reader *reader, struct bytes message)
{
    static const uint8_t zeros[7];
    if (message.size_bytes <= HEAD_SIZE_BYTES) {
        return ERROR_PROTOCOL;
    }
    if (message.data[0] > VERSION) {
        return ERROR_NEWER_FORMAT;
    }
    if (message.data[0] != VERSION || memcmp(message.data + 1, zeros, sizeof zeros) != 0) {
        return ERROR_PROTOCOL;
    }
    reader->base_ms = endian_get_u64_le(message.data + 8);
    reader->rest = bytes_make(message.data + HEAD_SIZE_BYTES, message.size_bytes - HEAD_SIZE_BYTES);
    return 0;
}

static bool take_number(struct bytes *rest, uint64_t *value)
{
    uint64_t taken = 0;
    for (size_t i = 0; i < NUMBER_SIZE_BYTES_MAX && i < rest->size_bytes; i++) {
        uint8_t byte = rest->data[i];
        taken |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte >= 0x80) {
            continue;
        }
        bool is_canonical = (byte != 0 || i == 0) && (i + 1 < NUMBER_SIZE_BYTES_MAX || byte == 1);
        *value = taken;
        *rest = bytes_make(rest->data + i + 1, rest->size_bytes - i - 1);
        return is_canonical;
    }
    return false;
}

static bool take_difference(struct bytes *rest, uint64_t base, uint64_t *value)
{
    uint64_t number = 0;
    if (!take_number(rest, &number)) {
        return false;
    }
    *value = base + ((number & 1) != 0 ? ~(number >> 1) : number >> 1);
    return true;
}

static bool take_mark(struct bytes *rest, uint64_t *mark)
{
    if (rest->size_bytes < MARK_SIZE_BYTES) {
        return false;
    }
    *mark = endian_get_u64_le(rest->data);
    *rest = bytes_make(rest->data + MARK_SIZE_BYTES, rest->size_bytes - MARK_SIZE_BYTES);
    return *mark != 0;
}

int beats_next(struct beats_reader *reader, wal_shard *shard, struct raft_message *beat)
{
    ASSERT(reader->rest.size_bytes > 0);
    struct bytes rest = bytes_make(reader->rest.data + 1, reader->rest.size_bytes - 1);
    uint8_t flags = reader->rest.data[0];
    bool is_answer = (flags & FLAG_ANSWER) != 0;
    uint64_t number = 0;
    struct raft_message taken = {
        .kind = is_answer ? RAFT_MESSAGE_HEARTBEAT_REPLY : RAFT_MESSAGE_HEARTBEAT_REQUEST,
        .is_rejected = (flags & FLAG_REJECTED) != 0,
        .is_quiet = (flags & FLAG_QUIET) != 0,
    };
    bool is_good = (flags & ~FLAGS) == 0 && take_number(&rest, &number) && number != 0 &&
                   number <= UINT32_MAX && take_number(&rest, &taken.term) &&
                   take_number(&rest, &taken.index);
    if (is_good && !is_answer) {
        is_good = take_difference(&rest, taken.index, &taken.commit_index) &&
                  take_difference(&rest, taken.index, &taken.last_index);
    }
    is_good = is_good && take_number(&rest, &taken.round) &&
              take_difference(&rest, reader->base_ms, &taken.sent_at_ms);
    if (is_good && (flags & FLAG_MARK) != 0) {
        is_good = take_mark(&rest, &taken.mark);
    }
    if (!is_good) {
        return ERROR_PROTOCOL;
    }
    *shard = (wal_shard)number;
    *beat = taken;
    reader->rest = rest;
    return 0;
}
