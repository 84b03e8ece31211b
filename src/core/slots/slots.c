/* SPDX-License-Identifier: Apache-2.0 */
#include "core/slots/slots.h"

#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/trace/trace.h"

enum { RANGE_SIZE_BYTES = 12 };

_Static_assert(SLOTS_SHARD_COUNT_MAX <= UINT8_MAX, "a place is a byte");

static bool is_valid(const struct slots_range *ranges, uint32_t range_count)
{
    if (range_count == 0 || range_count > SLOTS_SHARD_COUNT_MAX ||
        ranges[0].shard != SLOTS_FIRST_SHARD) {
        return false;
    }
    uint32_t next = 0;
    for (uint32_t i = 0; i < range_count; i++) {
        if (ranges[i].first != next || ranges[i].end <= ranges[i].first ||
            ranges[i].end > SLOTS_COUNT) {
            return false;
        }
        next = ranges[i].end;
        for (uint32_t j = 0; j < i; j++) {
            if (ranges[j].shard == ranges[i].shard) {
                return false;
            }
        }
    }
    return next == SLOTS_COUNT;
}

int slots_set(struct slots *slots, const struct slots_range *ranges, uint32_t range_count)
{
    if (!is_valid(ranges, range_count)) {
        return -EINVAL;
    }
    memset(slots, 0, sizeof *slots);
    slots->range_count = range_count;
    for (uint32_t i = 0; i < range_count; i++) {
        slots->ranges[i] = ranges[i];
        memset(slots->places + ranges[i].first, (int)i, ranges[i].end - ranges[i].first);
    }
    return 0;
}

void slots_divide(struct slots *slots, uint32_t shard_count)
{
    struct slots_range ranges[SLOTS_SHARD_COUNT_MAX];
    ASSERT(shard_count > 0 && shard_count <= SLOTS_SHARD_COUNT_MAX);
    for (uint32_t i = 0; i < shard_count; i++) {
        ranges[i] = (struct slots_range){
            .shard = SLOTS_FIRST_SHARD + i,
            .first = SLOTS_COUNT * i / shard_count,
            .end = SLOTS_COUNT * (i + 1) / shard_count,
        };
    }
    int status = slots_set(slots, ranges, shard_count);
    ASSERT(status == 0);
}

int slots_split(struct slots *slots, wal_shard parent, uint32_t first, wal_shard child)
{
    struct slots_range ranges[SLOTS_SHARD_COUNT_MAX];
    uint32_t place = slots_find(slots, parent);
    if (child == 0 || place == slots->range_count || slots->range_count == SLOTS_SHARD_COUNT_MAX ||
        first <= slots->ranges[place].first || first >= slots->ranges[place].end) {
        return -EINVAL;
    }
    uint32_t behind = slots->range_count - place - 1;
    memcpy(ranges, slots->ranges, (place + 1) * sizeof ranges[0]);
    memcpy(ranges + place + 2, slots->ranges + place + 1, behind * sizeof ranges[0]);
    ranges[place + 1] = (struct slots_range){child, first, ranges[place].end};
    ranges[place].end = first;
    return slots_set(slots, ranges, slots->range_count + 1);
}

static void insert(struct slots_range *ranges, uint32_t *count, const struct slots_range *range)
{
    uint32_t place = *count;
    while (place > 0 && ranges[place - 1].first > range->first) {
        ranges[place] = ranges[place - 1];
        place--;
    }
    ranges[place] = *range;
    (*count)++;
}

bool slots_merge(struct slots *slots, const struct slots *other)
{
    struct slots_range ranges[SLOTS_SHARD_COUNT_MAX];
    uint32_t count = slots->range_count;
    memcpy(ranges, slots->ranges, count * sizeof ranges[0]);
    for (uint32_t i = 0; i < other->range_count; i++) {
        const struct slots_range *range = &other->ranges[i];
        uint32_t place = slots_find(slots, range->shard);
        if (place < slots->range_count) {
            if (slots->ranges[place].first != range->first) {
                return false;
            }
        } else if (count == SLOTS_SHARD_COUNT_MAX) {
            return false;
        } else {
            insert(ranges, &count, range);
        }
    }
    for (uint32_t i = 0; i < count;
         i++) { /* Two that begin at one slot leave an empty range: I1. */
        ranges[i].end = i + 1 < count ? ranges[i + 1].first : SLOTS_COUNT;
    }
    return slots_set(slots, ranges, count) == 0;
}

bool slots_descend(const struct slots *newer, const struct slots *older)
{
    for (uint32_t i = 0; i < older->range_count; i++) {
        const struct slots_range *was = &older->ranges[i];
        uint32_t place = slots_find(newer, was->shard);
        if (place == newer->range_count || newer->ranges[place].first != was->first ||
            newer->ranges[place].end > was->end) {
            return false;
        }
    }
    return true;
}

bool slots_may_open(const struct slots *slots, wal_shard shard, const struct slots_range *claims,
                    uint32_t claim_count)
{
    uint32_t place = slots_find(slots, shard);
    if (place == slots->range_count) {
        return false;
    }
    const struct slots_range *range = &slots->ranges[place];
    for (uint32_t i = 0; i < claim_count; i++) {
        bool is_claimed = claims[i].first < range->end && range->first < claims[i].end;
        if (claims[i].shard == shard || (is_claimed && !BUG("slots.opened_beside_claims"))) {
            return false;
        }
    }
    return true;
}

void slots_encode(const struct slots *slots, struct buffer *target)
{
    for (uint32_t i = 0; i < slots->range_count; i++) {
        uint8_t *place = buffer_extend(target, RANGE_SIZE_BYTES);
        endian_put_u32_le(place, slots->ranges[i].shard);
        endian_put_u32_le(place + 4, slots->ranges[i].first);
        endian_put_u32_le(place + 8, slots->ranges[i].end);
    }
}

int slots_decode(struct slots *slots, struct bytes source)
{
    struct slots_range ranges[SLOTS_SHARD_COUNT_MAX];
    size_t count = source.size_bytes / RANGE_SIZE_BYTES;
    if (count * RANGE_SIZE_BYTES != source.size_bytes || count > SLOTS_SHARD_COUNT_MAX) {
        return ERROR_PROTOCOL;
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *place = source.data + i * RANGE_SIZE_BYTES;
        ranges[i] = (struct slots_range){endian_get_u32_le(place), endian_get_u32_le(place + 4),
                                         endian_get_u32_le(place + 8)};
    }
    return slots_set(slots, ranges, (uint32_t)count) == 0 ? 0 : ERROR_PROTOCOL;
}

bool slots_are_equal(const struct slots *left, const struct slots *right)
{
    if (left->range_count != right->range_count) {
        return false;
    }
    for (uint32_t i = 0; i < left->range_count; i++) {
        const struct slots_range *a = &left->ranges[i];
        const struct slots_range *b = &right->ranges[i];
        if (a->shard != b->shard || a->first != b->first || a->end != b->end) {
            return false;
        }
    }
    return true;
}

uint32_t slots_find(const struct slots *slots, wal_shard shard)
{
    uint32_t place = 0;
    while (place < slots->range_count && slots->ranges[place].shard != shard) {
        place++;
    }
    return place;
}
