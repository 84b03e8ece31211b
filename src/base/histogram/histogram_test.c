/* SPDX-License-Identifier: Apache-2.0 */
#include "base/histogram/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_nothing_recorded_answers_zero(void **state)
{
    /* An idle node reports zeros and divides by nothing. */
    static struct histogram histogram;
    assert_int_equal(histogram_quantile(&histogram, 0), 0);
    assert_int_equal(histogram_quantile(&histogram, 500), 0);
    assert_int_equal(histogram_quantile(&histogram, 1000), 0);
    assert_int_equal(histogram_count_up_to(&histogram, UINT64_MAX), 0);
}

static void test_a_quantile_is_at_most_an_eighth_too_large(void **state)
{
    /* One value alone is reported exactly or just above, at every magnitude and beside every power
     * of two. */
    for (uint32_t exponent = 0; exponent < 64; exponent++) {
        const uint64_t power = 1ull << exponent;
        const uint64_t values[] = {power - 1, power, power + power / 3};
        for (int i = 0; i < 3; i++) {
            struct histogram histogram = {0};
            histogram_record(&histogram, values[i]);
            histogram_record(&histogram, UINT64_MAX); /* So that the largest does not cap it. */
            uint64_t reported = histogram_quantile(&histogram, 500);
            assert_true(reported >= values[i]);
            assert_true(reported - values[i] <= values[i] / 8);
        }
    }
}

static void test_quantiles_follow_the_order(void **state)
{
    /* Of 1 to 1000, the median is near 500, the 99th percentile near 990, the last 1000 exactly. */
    static struct histogram histogram;
    for (uint64_t value = 1; value <= 1000; value++) {
        histogram_record(&histogram, value);
    }
    assert_in_range(histogram_quantile(&histogram, 500), 500, 562);
    assert_in_range(histogram_quantile(&histogram, 990), 990, 1000);
    assert_int_equal(histogram_quantile(&histogram, 1000), 1000);
    assert_int_equal(histogram_quantile(&histogram, 0), 1);
    assert_int_equal(histogram.count, 1000);
    assert_int_equal(histogram.sum, 500500);
}

static void test_merging_adds(void **state)
{
    /* The merged histogram is the one that had recorded everything itself. */
    static struct histogram first;
    static struct histogram second;
    static struct histogram both;
    for (uint64_t value = 1; value < 5000; value += 7) {
        histogram_record(value % 2 == 0 ? &first : &second, value * value);
        histogram_record(&both, value * value);
    }
    histogram_merge(&first, &second);
    assert_memory_equal(&first, &both, sizeof both);
}

static void test_counts_up_to_a_bound_grow_with_it(void **state)
{
    /* What a Prometheus histogram is made of: cumulative, and complete at the end. */
    static struct histogram histogram;
    for (uint64_t value = 0; value < 100; value++) {
        histogram_record(&histogram, value);
    }
    uint64_t before = 0;
    for (uint64_t bound = 0; bound < 200; bound++) {
        uint64_t count = histogram_count_up_to(&histogram, bound);
        assert_true(count >= before);
        assert_true(count <= bound + 1);
        before = count;
    }
    assert_int_equal(before, 100);
    assert_int_equal(histogram_count_up_to(&histogram, 7), 8);
}

static void test_recording_many_is_recording_each(void **state)
{
    /* A tick that answered a hundred commands counts as a hundred. */
    static struct histogram many;
    static struct histogram each;
    histogram_record_many(&many, 12345, 100);
    histogram_record_many(&many, 99, 0);
    for (int i = 0; i < 100; i++) {
        histogram_record(&each, 12345);
    }
    assert_memory_equal(&many, &each, sizeof each);
}

static void test_what_came_since_is_what_was_recorded_between(void **state)
{
    /* Latencies of the last seconds: what was before does not count. */
    static struct histogram before;
    static struct histogram after;
    static struct histogram between;
    histogram_record_many(&before, 1000000, 5000);
    after = before;
    histogram_record_many(&after, 200, 10);
    histogram_since(&between, &after, &before);
    assert_int_equal(between.count, 10);
    assert_int_equal(between.sum, 2000);
    assert_true(histogram_quantile(&between, 990) < 230);
    histogram_since(&between, &after, &after);
    assert_int_equal(between.count, 0);
    assert_int_equal(histogram_quantile(&between, 500), 0);
}

static void test_a_bucket_s_bound_counts_in_it(void **state)
{
    /* Counts travel as buckets and are recorded again by their bounds. */
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        struct histogram histogram = {0};
        histogram_record(&histogram, histogram_bucket_bound(i));
        assert_int_equal(histogram.counts[i], 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_recorded_answers_zero),
        cmocka_unit_test(test_a_quantile_is_at_most_an_eighth_too_large),
        cmocka_unit_test(test_quantiles_follow_the_order),
        cmocka_unit_test(test_merging_adds),
        cmocka_unit_test(test_counts_up_to_a_bound_grow_with_it),
        cmocka_unit_test(test_recording_many_is_recording_each),
        cmocka_unit_test(test_what_came_since_is_what_was_recorded_between),
        cmocka_unit_test(test_a_bucket_s_bound_counts_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
