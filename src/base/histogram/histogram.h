/* SPDX-License-Identifier: Apache-2.0 */
/* histogram: counts of values in buckets of bounded relative error. Layer: base.
 *
 * Log-linear buckets: 8 per power of two, so a reported value is at most 12.5 % from the recorded
 * one. Any value of 64 bits has its bucket. One thread records; another may read counts a moment old
 * (each count is an aligned word, written and read whole). */
#ifndef BASE_HISTOGRAM_HISTOGRAM_H
#define BASE_HISTOGRAM_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKET_COUNT 496

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKET_COUNT];
    uint64_t count;
    uint64_t sum;
    uint64_t largest;
};

void histogram_record(struct histogram *histogram, uint64_t value);

/* Record the same value `count` times. */
void histogram_record_many(struct histogram *histogram, uint64_t value, uint64_t count);

/* Add all counts of `source` to `target`. */
void histogram_merge(struct histogram *target, const struct histogram *source);

/* What was recorded between two copies of a histogram; its largest value is that of all time. */
void histogram_since(struct histogram *target, const struct histogram *newer,
                     const struct histogram *older);

/* The largest value that counts in a bucket. */
uint64_t histogram_bucket_bound(uint32_t bucket);

/* The upper bound of the bucket in which the value at `per_mille` (0 to 1000) of the order lies; 0
 * when nothing was recorded. */
uint64_t histogram_quantile(const struct histogram *histogram, uint32_t per_mille);

/* How many recorded values are in buckets whose upper bound is at most `bound`. */
uint64_t histogram_count_up_to(const struct histogram *histogram, uint64_t bound);

#endif
