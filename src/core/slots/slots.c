/* SPDX-License-Identifier: Apache-2.0 */
#include "core/slots/slots.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"

enum { RANGE_SIZE_BYTES = 12, CAPACITY_MIN = 4 };

_Static_assert(SLOTS_SHARD_COUNT_MAX <= UINT16_MAX, "a place has 16 bits");

/* ---- Memory ---------------------------------------------------------------------------------- */

void slots_deinit(struct slots *slots)
{
    memory_free(slots->ranges);
    memory_free(slots->by_number);
    slots->ranges = NULL;
    slots->by_number = NULL;
    slots->range_count = 0;
    slots->range_capacity = 0;
}

static void make_room(struct slots *slots, uint32_t range_count)
{
    uint32_t capacity = slots->range_capacity == 0 ? CAPACITY_MIN : slots->range_capacity;
    while (capacity < range_count) {
        capacity *= 2;
    }
    if (capacity != slots->range_capacity) {
        slots->range_capacity = capacity;
        slots->ranges = memory_resize(slots->ranges, capacity * sizeof slots->ranges[0]);
        slots->by_number = memory_resize(slots->by_number, capacity * sizeof slots->by_number[0]);
    }
}

void slots_copy(struct slots *target, const struct slots *source)
{
    if (target == source) {
        return;
    }
    make_room(target, source->range_count);
    target->range_count = source->range_count;
    memcpy(target->ranges, source->ranges, source->range_count * sizeof source->ranges[0]);
    memcpy(target->by_number, source->by_number, source->range_count * sizeof source->by_number[0]);
    memcpy(target->places, source->places, sizeof target->places);
}

/* ---- By number ------------------------------------------------------------------------------- */

/* Where in `by_number` the first is that has the number or a higher one. */
static uint32_t rank_of(const struct slots *slots, wal_shard shard)
{
    uint32_t low = 0;
    uint32_t high = slots->range_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (slots->ranges[slots->by_number[middle]].shard < shard) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t slots_find(const struct slots *slots, wal_shard shard)
{
    uint32_t rank = rank_of(slots, shard);
    if (rank < slots->range_count && slots->ranges[slots->by_number[rank]].shard == shard) {
        return slots->by_number[rank];
    }
    return slots->range_count;
}

static int compare_numbers(const void *left, const void *right, void *context)
{
    const struct slots_range *ranges = context;
    wal_shard a = ranges[*(const uint16_t *)left].shard;
    wal_shard b = ranges[*(const uint16_t *)right].shard;
    return a < b ? -1 : a > b;
}

/* False: a number is there twice. */
static bool order_by_number(struct slots_range *ranges, uint32_t range_count, uint16_t *by_number)
{
    bool is_ordered = true;
    for (uint32_t i = 0; i < range_count; i++) {
        by_number[i] = (uint16_t)i;
        is_ordered = is_ordered && (i == 0 || ranges[i - 1].shard < ranges[i].shard);
    }
    if (is_ordered) {
        return true;
    }
    qsort_r(by_number, range_count, sizeof by_number[0], compare_numbers, ranges);
    for (uint32_t i = 1; i < range_count; i++) {
        if (ranges[by_number[i - 1]].shard == ranges[by_number[i]].shard) {
            return false;
        }
    }
    return true;
}

/* ---- Making and changing --------------------------------------------------------------------- */

/* I1, I3 */
static bool are_in_order(const struct slots_range *ranges, uint32_t range_count)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < range_count; i++) {
        if (ranges[i].first != next || ranges[i].end <= ranges[i].first ||
            ranges[i].end > SLOTS_COUNT) {
            return false;
        }
        next = ranges[i].end;
    }
    return next == SLOTS_COUNT && ranges[0].shard == SLOTS_FIRST_SHARD;
}

static void set_places(struct slots *slots, uint32_t first_place)
{
    for (uint32_t i = first_place; i < slots->range_count; i++) {
        for (uint32_t slot = slots->ranges[i].first; slot < slots->ranges[i].end; slot++) {
            slots->places[slot] = (uint16_t)i;
        }
    }
}

int slots_set(struct slots *slots, const struct slots_range *ranges, uint32_t range_count)
{
    if (range_count == 0 || range_count > SLOTS_SHARD_COUNT_MAX ||
        !are_in_order(ranges, range_count)) {
        return -EINVAL;
    }
    struct slots_range *copies = memory_allocate(range_count * sizeof copies[0]);
    uint16_t *by_number = memory_allocate(range_count * sizeof by_number[0]);
    memcpy(copies, ranges, range_count * sizeof copies[0]);
    if (!order_by_number(copies, range_count, by_number)) { /* I2 */
        memory_free(copies);
        memory_free(by_number);
        return -EINVAL;
    }
    slots_deinit(slots);
    slots->ranges = copies;
    slots->by_number = by_number;
    slots->range_count = range_count;
    slots->range_capacity = range_count;
    set_places(slots, 0);
    return 0;
}

void slots_divide(struct slots *slots, uint32_t shard_count)
{
    ASSERT(shard_count > 0 && shard_count <= SLOTS_SHARD_COUNT_MAX);
    make_room(slots, shard_count);
    slots->range_count = shard_count;
    for (uint32_t i = 0; i < shard_count; i++) {
        slots->by_number[i] = (uint16_t)i;
        slots->ranges[i] = (struct slots_range){
            .shard = SLOTS_FIRST_SHARD + i,
            .first = SLOTS_COUNT * i / shard_count,
            .end = SLOTS_COUNT * (i + 1) / shard_count,
        };
    }
    set_places(slots, 0);
}

int slots_split(struct slots *slots, wal_shard parent, uint32_t first, wal_shard child)
{
    uint32_t count = slots->range_count;
    uint32_t place = slots_find(slots, parent);
    if (child == 0 || place == count || count == SLOTS_SHARD_COUNT_MAX ||
        first <= slots->ranges[place].first || first >= slots->ranges[place].end ||
        slots_find(slots, child) < count) {
        return -EINVAL;
    }
    make_room(slots, count + 1);
    uint32_t rank = rank_of(slots, child);
    for (uint32_t i = 0; i < count; i++) {
        slots->by_number[i] = (uint16_t)(slots->by_number[i] + (slots->by_number[i] > place));
    }
    memmove(slots->by_number + rank + 1, slots->by_number + rank,
            (count - rank) * sizeof slots->by_number[0]);
    slots->by_number[rank] = (uint16_t)(place + 1);
    memmove(slots->ranges + place + 2, slots->ranges + place + 1,
            (count - place - 1) * sizeof slots->ranges[0]);
    slots->ranges[place + 1] = (struct slots_range){child, first, slots->ranges[place].end};
    slots->ranges[place].end = first;
    slots->range_count++;
    set_places(slots, place + 1);
    return 0;
}

/* What both know begins at the same slots? */
static bool agree(const struct slots *slots, const struct slots *other, bool *is_new)
{
    *is_new = false;
    for (uint32_t i = 0; i < other->range_count; i++) {
        uint32_t place = slots_find(slots, other->ranges[i].shard);
        *is_new |= place == slots->range_count;
        if (place < slots->range_count && slots->ranges[place].first != other->ranges[i].first) {
            return false;
        }
    }
    return true;
}

bool slots_merge(struct slots *slots, const struct slots *other)
{
    bool is_new;
    if (!agree(slots, other, &is_new)) {
        return false;
    }
    if (!is_new) {
        return true;
    }
    uint32_t room = slots->range_count + other->range_count;
    struct slots_range *ranges = memory_allocate(room * sizeof ranges[0]);
    uint32_t count = 0;
    uint32_t own = 0;
    for (uint32_t i = 0; i <= other->range_count; i++) { /* The ends of both follow. */
        uint32_t first = i < other->range_count ? other->ranges[i].first : SLOTS_COUNT;
        while (own < slots->range_count && slots->ranges[own].first <= first) {
            ranges[count++] = slots->ranges[own++];
        }
        if (i < other->range_count &&
            slots_find(slots, other->ranges[i].shard) == slots->range_count) {
            ranges[count++] = other->ranges[i];
        }
    }
    for (uint32_t i = 0; i < count; i++) { /* Two that begin at one slot leave one empty: I1. */
        ranges[i].end = i + 1 < count ? ranges[i + 1].first : SLOTS_COUNT;
    }
    int status = slots_set(slots, ranges, count);
    memory_free(ranges);
    return status == 0;
}

/* ---- Questions ------------------------------------------------------------------------------- */

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
    size_t count = source.size_bytes / RANGE_SIZE_BYTES;
    if (count * RANGE_SIZE_BYTES != source.size_bytes || count > SLOTS_SHARD_COUNT_MAX) {
        return ERROR_PROTOCOL;
    }
    struct slots_range *ranges = memory_allocate((count + 1) * sizeof ranges[0]);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *place = source.data + i * RANGE_SIZE_BYTES;
        ranges[i] = (struct slots_range){endian_get_u32_le(place), endian_get_u32_le(place + 4),
                                         endian_get_u32_le(place + 8)};
    }
    int status = slots_set(slots, ranges, (uint32_t)count);
    memory_free(ranges);
    return status == 0 ? 0 : ERROR_PROTOCOL;
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
