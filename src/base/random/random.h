/* SPDX-License-Identifier: Apache-2.0 */
/* random: a seeded generator, xoshiro256** (Blackman and Vigna 2018). Layer: base.
 *
 * The same seed gives the same numbers on every machine. Not for secrets. A generator belongs to
 * one thread. */
#ifndef BASE_RANDOM_RANDOM_H
#define BASE_RANDOM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state[4];
};

void random_init(struct random *random, uint64_t seed);

/* All 64 bits are uniform. */
uint64_t random_next(struct random *random);

/* Uniform in [0, bound); `bound` is above 0. */
uint64_t random_below(struct random *random, uint64_t bound);

/* True `numerator` times in `denominator`. */
bool random_chance(struct random *random, uint32_t numerator, uint32_t denominator);

#endif
