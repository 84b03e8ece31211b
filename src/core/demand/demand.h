/* SPDX-License-Identifier: Apache-2.0 */
/* demand: which slots of a shard are asked for. Layer: core.
 *
 * A sample of the slots of the requests of the last seconds, small, and of the same size for a shard with a
 * hundred requests per second and one with a million. It answers one question: where would the requests
 * for a range of slots be halved? (CockroachDB cuts its ranges by such a sample of keys.)
 *
 * Time is divided into windows. In each one request in so many is noted, at first one in
 * DEMAND_STRIDE_MIN, at random distances, lest a client that asks in turn be seen at one of its keys only.
 * When the sample of the window is full, half of it is dropped by lot, and one in twice as many is noted
 * from then on. The sample of the window before is kept, so that there is always one of a whole window.
 *
 * Invariants
 *   I1. Each request of a window is in its sample with about the same chance, one in `stride`, whenever it
 *       came.
 *   I2. What is told is of the window that runs and the one before it: of the last DEMAND_WINDOW_MS at
 *       least, if there was so much, and of twice as long at most.
 *   I3. A request that is not noted costs a decrement and a comparison. Of n requests of a window about
 *       DEMAND_SAMPLE_COUNT / 2 * log2(n / 1024) are.
 *
 * Driven by whoever executes the requests of the shard, on that thread. Time is in the inputs, monotonic.
 * The same seed and inputs give the same sample. Memory: about 50 bytes, and 1 KiB more from the first
 * request that is noted on. */
#ifndef CORE_DEMAND_DEMAND_H
#define CORE_DEMAND_DEMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/random/random.h"

#define DEMAND_WINDOW_MS 10000u
#define DEMAND_SAMPLE_COUNT 256u
#define DEMAND_STRIDE_MIN 16u
/* Of fewer nothing is told: they might as well have been others. */
#define DEMAND_COUNT_ENOUGH 64u

struct demand__windows;

struct demand {
    uint32_t until_next; /* So many requests on, one is noted. */
    struct random random;
    struct demand__windows *windows; /* NULL: none was. */
};

/* Both parts in requests, as far as the sample tells. */
struct demand_halves {
    uint32_t slot; /* The first one of the upper part. */
    uint64_t lower;
    uint64_t upper;
};

void demand_init(struct demand *demand, uint64_t seed);
void demand_deinit(struct demand *demand);

/* For each request: is this one to be noted? Then demand_note() comes next, or demand_pass() when it is
 * for no slot. */
static inline bool demand_is_next(struct demand *demand)
{
    return --demand->until_next == 0;
}
void demand_note(struct demand *demand, uint32_t slot, uint64_t now_ms);
void demand_pass(struct demand *demand);

/* A number by lot, for which of a request's slots is noted. */
uint64_t demand_choose(struct demand *demand);

/* Where the requests for the slots from `first` to before `end`, at least two, are halved best: that slot
 * is behind `first` and before `end`. If one slot has nearly all of them, that cannot be well: a part may
 * even have none. False: too few came to tell. */
bool demand_halve(const struct demand *demand, uint32_t first, uint32_t end, uint64_t now_ms,
                  struct demand_halves *halves);

#endif
