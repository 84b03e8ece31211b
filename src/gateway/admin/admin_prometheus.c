/* SPDX-License-Identifier: Apache-2.0 */
/* The text format of Prometheus, version 0.0.4. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/number/number.h"
#include "gateway/admin/admin_internal.h"

/* Upper bounds of buckets, in recorded values. */
static const uint64_t time_bounds_ns[] = {
    50000,     100000,     250000,     500000,     1000000,     2500000,
    5000000,   10000000,   25000000,   50000000,   100000000,   250000000,
    500000000, 1000000000, 2500000000, 5000000000, 10000000000,
};
static const uint64_t size_bounds_bytes[] = {
    64,      256,     1024,     4096,     16384,     65536,   262144,
    1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20, 1 << 30,
};
static const uint64_t item_bounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384, 65536};

struct bounds {
    const uint64_t *values;
    size_t count;
};

static struct bounds bounds_of(enum metrics_unit unit)
{
    switch (unit) {
    case METRICS_NANOSECONDS:
        return (struct bounds){time_bounds_ns, sizeof time_bounds_ns / sizeof time_bounds_ns[0]};
    case METRICS_BYTES:
        return (struct bounds){size_bounds_bytes,
                               sizeof size_bounds_bytes / sizeof size_bounds_bytes[0]};
    case METRICS_ITEMS:
        break;
    }
    return (struct bounds){item_bounds, sizeof item_bounds / sizeof item_bounds[0]};
}

static void append_text(struct buffer *page, const char *text)
{
    buffer_append(page, bytes_of_text(text));
}

static void append_escaped(struct buffer *page, const char *text, bool is_label)
{
    for (const char *each = text; *each != '\0'; each++) {
        if (*each == '\\') {
            append_text(page, "\\\\");
        } else if (*each == '\n') {
            append_text(page, "\\n");
        } else if (*each == '"' && is_label) {
            append_text(page, "\\\"");
        } else {
            buffer_append_byte(page, (uint8_t)*each);
        }
    }
}

static void append_real(struct buffer *page, double value)
{
    char text[NUMBER_DOUBLE_SIZE_MAX];
    if (value != value) {
        append_text(page, "NaN");
    } else if (value > 1.7976931348623157e308) {
        append_text(page, "+Inf");
    } else if (value < -1.7976931348623157e308) {
        append_text(page, "-Inf");
    } else {
        buffer_append(page, bytes_make(text, number_format_double(text, value)));
    }
}

/* {a="b",le="0.5"}; nothing when there are no labels. `bound` may be NULL. */
static void append_labels(struct buffer *page, const struct metrics_labels *labels,
                          const char *bound)
{
    uint32_t count = admin__label_count(labels);
    if (count == 0 && bound == NULL) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        buffer_append_format(page, "%s%s=\"", i == 0 ? "{" : ",", labels->items[i].name);
        append_escaped(page, labels->items[i].value, true);
        buffer_append_byte(page, '"');
    }
    if (bound != NULL) {
        buffer_append_format(page, "%sle=\"%s\"", count == 0 ? "{" : ",", bound);
    }
    buffer_append_byte(page, '}');
}

static void append_bucket(struct buffer *page, const struct admin__family *family,
                          const struct admin__sample *sample, const char *bound, uint64_t count)
{
    buffer_append_format(page, "%s_bucket", family->name);
    append_labels(page, &sample->labels, bound);
    buffer_append_format(page, " %" PRIu64 "\n", count);
}

static void append_histogram(struct buffer *page, const struct admin__family *family,
                             const struct admin__sample *sample)
{
    struct bounds bounds = bounds_of(family->unit);
    for (size_t i = 0; i < bounds.count; i++) {
        char text[NUMBER_DOUBLE_SIZE_MAX];
        double bound = admin__to_base_unit(family->unit, (double)bounds.values[i]);
        size_t size = number_format_double(text, bound);
        text[size] = '\0';
        append_bucket(page, family, sample, text,
                      histogram_count_up_to(sample->histogram, bounds.values[i]));
    }
    append_bucket(page, family, sample, "+Inf", sample->histogram->count);
    buffer_append_format(page, "%s_sum", family->name);
    append_labels(page, &sample->labels, NULL);
    buffer_append_byte(page, ' ');
    append_real(page, admin__to_base_unit(family->unit, (double)sample->histogram->sum));
    buffer_append_format(page, "\n%s_count", family->name);
    append_labels(page, &sample->labels, NULL);
    buffer_append_format(page, " %" PRIu64 "\n", sample->histogram->count);
}

static void append_value(struct buffer *page, const struct admin__family *family,
                         const struct admin__sample *sample)
{
    append_text(page, family->name);
    append_labels(page, &sample->labels, NULL);
    buffer_append_byte(page, ' ');
    if (sample->is_whole) {
        buffer_append_format(page, "%" PRIu64, sample->whole);
    } else {
        append_real(page, sample->real);
    }
    buffer_append_byte(page, '\n');
}

void admin__write_prometheus(const struct metrics *metrics, struct buffer *page)
{
    static const char *const kinds[] = {
        [ADMIN__COUNTER] = "counter",
        [ADMIN__GAUGE] = "gauge",
        [ADMIN__INFO] = "gauge",
        [ADMIN__HISTOGRAM] = "histogram",
    };
    for (uint32_t i = 0; i < metrics->family_count; i++) {
        const struct admin__family *family = &metrics->families[i];
        buffer_append_format(page, "# HELP %s ", family->name);
        append_escaped(page, family->help, false);
        buffer_append_format(page, "\n# TYPE %s %s\n", family->name, kinds[family->kind]);
        for (uint32_t j = 0; j < family->sample_count; j++) {
            if (family->kind == ADMIN__HISTOGRAM) {
                append_histogram(page, family, &family->samples[j]);
            } else {
                append_value(page, family, &family->samples[j]);
            }
        }
    }
}
