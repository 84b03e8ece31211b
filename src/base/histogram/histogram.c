/* SPDX-License-Identifier: Apache-2.0 */
#include "base/histogram/histogram.h"

#include "base/assert/assert.h"

enum { LINEAR_BITS = 3, LINEAR_COUNT = 1 << LINEAR_BITS };

static uint32_t bucket_of(uint64_t value)
{
    if (value < LINEAR_COUNT) {
        return (uint32_t)value;
    }
    uint32_t exponent = 63u - (uint32_t)__builtin_clzll(value);
    uint32_t offset = (uint32_t)(value >> (exponent - LINEAR_BITS)) & (LINEAR_COUNT - 1);
    uint32_t bucket = (exponent - LINEAR_BITS + 1) * LINEAR_COUNT + offset;
    ASSERT(bucket < HISTOGRAM_BUCKET_COUNT);
    return bucket;
}

uint64_t histogram_bucket_bound(uint32_t bucket)
{
    ASSERT(bucket < HISTOGRAM_BUCKET_COUNT);
    if (bucket < LINEAR_COUNT) {
        return bucket;
    }
    uint32_t shift = bucket / LINEAR_COUNT - 1;
    uint64_t base = LINEAR_COUNT + bucket % LINEAR_COUNT;
    return ((base + 1) << shift) - 1;
}

/* One thread writes and others read: words must be whole, but need no order and no lock. */
static void word_write(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static uint64_t word_read(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

void histogram_record_many(struct histogram *histogram, uint64_t value, uint64_t count)
{
    uint64_t *bucket = &histogram->counts[bucket_of(value)];
    word_write(bucket, *bucket + count);
    word_write(&histogram->count, histogram->count + count);
    word_write(&histogram->sum, histogram->sum + value * count);
    if (count > 0 && value > histogram->largest) {
        word_write(&histogram->largest, value);
    }
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    histogram_record_many(histogram, value, 1);
}

void histogram_merge(struct histogram *target, const struct histogram *source)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        target->counts[i] += word_read(&source->counts[i]);
    }
    target->count += word_read(&source->count);
    target->sum += word_read(&source->sum);
    uint64_t largest = word_read(&source->largest);
    if (largest > target->largest) {
        target->largest = largest;
    }
}

void histogram_since(struct histogram *target, const struct histogram *newer,
                     const struct histogram *older)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        ASSERT(newer->counts[i] >= older->counts[i]);
        target->counts[i] = newer->counts[i] - older->counts[i];
        count += target->counts[i]; /* Each count is of its own moment; their sum must be one. */
    }
    target->count = count;
    target->sum = newer->sum - older->sum;
    target->largest = newer->largest;
}

uint64_t histogram_quantile(const struct histogram *histogram, uint32_t per_mille)
{
    ASSERT(per_mille <= 1000);
    uint64_t rank = (histogram->count * per_mille + 999) / 1000;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        seen += histogram->counts[i];
        if (seen >= rank && seen > 0) {
            uint64_t bound = histogram_bucket_bound(i);
            return bound < histogram->largest ? bound : histogram->largest;
        }
    }
    return 0;
}

uint64_t histogram_count_up_to(const struct histogram *histogram, uint64_t bound)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT && histogram_bucket_bound(i) <= bound; i++) {
        count += histogram->counts[i];
    }
    return count;
}
