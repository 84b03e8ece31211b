/* SPDX-License-Identifier: Apache-2.0 */
/* slots: the map of data shards: which shard has which slots. Layer: core.
 *
 * Keys belong to slots (those of Redis Cluster), and a data shard has a contiguous range of them. The
 * map is a value: whoever changes it makes another one. It answers in one step, from a table.
 *
 * Invariants
 *   I1. Ranges are in ascending order, none is empty, and together they are all slots.
 *   I2. No two ranges have the same shard.
 *   I3. The shard of the first range is SLOTS_FIRST_SHARD. It has the rows of the cluster itself, too
 *       (service/system).
 *
 * A map that nobody changes may be read by any thread. No memory of its own. */
#ifndef CORE_SLOTS_SLOTS_H
#define CORE_SLOTS_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error/error.h"
#include "core/wal/wal.h"

#define SLOTS_COUNT 16384u
/* Each shard has memory of its own on each node, about 1 MiB at least. */
#define SLOTS_SHARD_COUNT_MAX 64u
#define SLOTS_FIRST_SHARD 1u

struct slots_range {
    wal_shard shard;
    uint32_t first;
    uint32_t end; /* The first slot behind it. */
};

struct slots {
    uint32_t range_count;
    struct slots_range ranges[SLOTS_SHARD_COUNT_MAX];
    uint8_t places[SLOTS_COUNT]; /* Of each slot's range in `ranges`. */
};

/* Shards 1 to `shard_count`, in order, with as many slots each as is possible. `shard_count` is 1 to
 * SLOTS_SHARD_COUNT_MAX. */
void slots_divide(struct slots *slots, uint32_t shard_count);

/* -EINVAL, and no change, unless the ranges are as I1 to I3 want them. */
MUST_USE int slots_set(struct slots *slots, const struct slots_range *ranges, uint32_t range_count);

bool slots_are_equal(const struct slots *left, const struct slots *right);

/* Where in `ranges` the slot is. */
static inline uint32_t slots_place_of(const struct slots *slots, uint32_t slot)
{
    return slots->places[slot];
}

static inline wal_shard slots_shard_of(const struct slots *slots, uint32_t slot)
{
    return slots->ranges[slots->places[slot]].shard;
}

/* Where in `ranges` the shard is; `range_count` when it is not there. */
uint32_t slots_find(const struct slots *slots, wal_shard shard);

#endif
