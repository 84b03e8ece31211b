/* SPDX-License-Identifier: Apache-2.0 */
#include "core/slots/slots.h"

#include <string.h>

#include "base/assert/assert.h"

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
