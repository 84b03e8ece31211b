/* SPDX-License-Identifier: Apache-2.0 */
/* slots: the map of data shards: which shard has which slots. Layer: core.
 *
 * Keys belong to slots (those of Redis Cluster), and a data shard has a contiguous range of them. Which
 * shard has a slot is answered in one step, from a table; where a shard is, in as many as its number of
 * shards has binary digits. A map takes 32 KiB and 14 bytes for each shard.
 *
 * Invariants
 *   I1. Ranges are in ascending order, none is empty, and together they are all slots.
 *   I2. No two ranges have the same shard.
 *   I3. The shard of the first range is SLOTS_FIRST_SHARD. It has the rows of the cluster itself, too
 *       (service/system).
 *   I4. A map only changes by a shard becoming two, one of which keeps its number and the lower slots
 *       (decision 18). So the first slot of a shard never changes, and what two maps of a cluster know
 *       together is the union of these (slots_merge()).
 *
 * A map of zeros is empty: it takes up no memory but its own, and nothing may be asked of it but what
 * makes it one. It is given back by slots_deinit(), and copied by slots_copy() only: an assignment would
 * share its memory. A map that nobody changes may be read by any thread. */
#ifndef CORE_SLOTS_SLOTS_H
#define CORE_SLOTS_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "core/wal/wal.h"

#define SLOTS_COUNT 16384u
/* At most, each slot is a shard of its own. */
#define SLOTS_SHARD_COUNT_MAX SLOTS_COUNT
#define SLOTS_FIRST_SHARD 1u

struct slots_range {
    wal_shard shard;
    uint32_t first;
    uint32_t end; /* The first slot behind it. */
};

struct slots {
    uint32_t range_count;
    uint32_t range_capacity;
    struct slots_range *ranges;
    uint16_t *by_number;          /* Places in `ranges`, in the order of the shards' numbers. */
    uint16_t places[SLOTS_COUNT]; /* Of each slot's range in `ranges`. */
};

void slots_deinit(struct slots *slots);
/* `target` is a map, or empty. */
void slots_copy(struct slots *target, const struct slots *source);

/* Shards 1 to `shard_count`, in order, with as many slots each as is possible. `shard_count` is 1 to
 * SLOTS_SHARD_COUNT_MAX. */
void slots_divide(struct slots *slots, uint32_t shard_count);

/* -EINVAL, and no change, unless the ranges are as I1 to I3 want them. */
MUST_USE int slots_set(struct slots *slots, const struct slots_range *ranges, uint32_t range_count);

/* `child` gets the slots of `parent` from `first` on. -EINVAL, and no change, unless both keep some,
 * the child is new (a number above 0) and there is room for it. */
MUST_USE int slots_split(struct slots *slots, wal_shard parent, uint32_t first, wal_shard child);

/* Add what `other` knows and `slots` does not, whichever is newer in what. False, and no change: they are
 * not of one cluster, or there is no room. */
bool slots_merge(struct slots *slots, const struct slots *other);

/* Can `newer` have come out of `older` by no or more splits? */
bool slots_descend(const struct slots *newer, const struct slots *older);

/* May a node open an empty replica of the shard, for a leader to fill? `claims`: what its replicas that
 * have state say that they have. One of these that has slots of the shard has not come to the split
 * yet: it will, and then the shard is born beside it. */
bool slots_may_open(const struct slots *slots, wal_shard shard, const struct slots_range *claims,
                    uint32_t claim_count);

/* A map as bytes for another node, or from one (docs/formats/conductor.md). Appends. */
void slots_encode(const struct slots *slots, struct buffer *target);
/* ERROR_PROTOCOL, and no change, unless every byte is as it must be. */
MUST_USE int slots_decode(struct slots *slots, struct bytes source);

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
