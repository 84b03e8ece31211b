/* SPDX-License-Identifier: Apache-2.0 */
/* The collection of figures. Names are checked here, for they are literals of ours: a wrong one
 * stops the first test that collects it. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "gateway/admin/admin_internal.h"

struct metrics *admin__metrics_create(void)
{
    return memory_allocate_zeroed(1, sizeof(struct metrics));
}

uint32_t admin__label_count(const struct metrics_labels *labels)
{
    uint32_t count = 0;
    while (count < METRICS_LABEL_COUNT_MAX && labels->items[count].name != NULL) {
        count++;
    }
    return count;
}

static void sample_deinit(struct admin__sample *sample)
{
    for (uint32_t i = 0; i < admin__label_count(&sample->labels); i++) {
        memory_free((void *)(uintptr_t)sample->labels.items[i].value);
    }
    memory_free(sample->histogram);
}

void admin__metrics_destroy(struct metrics *metrics)
{
    for (uint32_t i = 0; i < metrics->family_count; i++) {
        struct admin__family *family = &metrics->families[i];
        for (uint32_t j = 0; j < family->sample_count; j++) {
            sample_deinit(&family->samples[j]);
        }
        memory_free(family->samples);
    }
    memory_free(metrics);
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text);
    size_t end_size = strlen(end);
    return size > end_size && strcmp(text + size - end_size, end) == 0;
}

static bool is_name(const char *text)
{
    size_t size = strlen(text);
    return size > 0 && size < ADMIN__NAME_SIZE_MAX &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") == size && text[0] >= 'a';
}

static void check_name(const char *name, enum admin__kind kind)
{
    ASSERT(is_name(name));
    ASSERT((kind == ADMIN__COUNTER) == ends_with(name, "_total"));
    ASSERT((kind == ADMIN__INFO) == ends_with(name, "_info"));
    ASSERT(!ends_with(name, "_ms") && !ends_with(name, "_milliseconds")); /* Base units. */
    if (kind == ADMIN__HISTOGRAM) { /* Its series add these endings themselves. */
        ASSERT(!ends_with(name, "_count") && !ends_with(name, "_sum"));
    }
}

static struct admin__family *family_of(struct metrics *metrics, const char *name, const char *help,
                                       enum admin__kind kind)
{
    for (uint32_t i = metrics->family_count; i > 0; i--) { /* Mostly it is the last one. */
        struct admin__family *family = &metrics->families[i - 1];
        if (strcmp(family->name, name) == 0) {
            ASSERT(family->kind == kind);
            return family;
        }
    }
    check_name(name, kind);
    ASSERT(metrics->family_count < ADMIN__FAMILY_COUNT_MAX);
    struct admin__family *family = &metrics->families[metrics->family_count++];
    *family = (struct admin__family){.name = name, .help = help, .kind = kind};
    return family;
}

static const char *copy_text(const char *text)
{
    size_t size_bytes = strlen(text) + 1;
    char *copy = memory_allocate(size_bytes);
    memcpy(copy, text, size_bytes);
    return copy;
}

static struct admin__sample *add_sample(struct admin__family *family,
                                        const struct metrics_labels *labels)
{
    if (family->sample_count == family->sample_capacity) {
        family->sample_capacity = family->sample_capacity == 0 ? 4 : family->sample_capacity * 2;
        family->samples =
            memory_resize(family->samples, family->sample_capacity * sizeof family->samples[0]);
    }
    struct admin__sample *sample = &family->samples[family->sample_count++];
    *sample = (struct admin__sample){0};
    for (uint32_t i = 0; i < admin__label_count(labels); i++) {
        ASSERT(is_name(labels->items[i].name));
        const char *value = labels->items[i].value;
        sample->labels.items[i] = (struct metrics_label){
            .name = labels->items[i].name, .value = copy_text(value != NULL ? value : "")};
    }
    return sample;
}

void metrics_counter(struct metrics *metrics, const char *name, const char *help,
                     struct metrics_labels labels, uint64_t value)
{
    struct admin__sample *sample =
        add_sample(family_of(metrics, name, help, ADMIN__COUNTER), &labels);
    sample->whole = value;
    sample->is_whole = true;
}

void metrics_counter_real(struct metrics *metrics, const char *name, const char *help,
                          struct metrics_labels labels, double value)
{
    add_sample(family_of(metrics, name, help, ADMIN__COUNTER), &labels)->real = value;
}

void metrics_gauge(struct metrics *metrics, const char *name, const char *help,
                   struct metrics_labels labels, double value)
{
    add_sample(family_of(metrics, name, help, ADMIN__GAUGE), &labels)->real = value;
}

void metrics_info(struct metrics *metrics, const char *name, const char *help,
                  struct metrics_labels labels)
{
    struct admin__sample *sample = add_sample(family_of(metrics, name, help, ADMIN__INFO), &labels);
    sample->whole = 1;
    sample->is_whole = true;
}

void metrics_histogram(struct metrics *metrics, const char *name, const char *help,
                       struct metrics_labels labels, const struct histogram *histogram,
                       enum metrics_unit unit)
{
    struct admin__family *family = family_of(metrics, name, help, ADMIN__HISTOGRAM);
    ASSERT(unit != METRICS_NANOSECONDS || ends_with(name, "_seconds"));
    ASSERT(unit != METRICS_BYTES || ends_with(name, "_bytes"));
    family->unit = unit;
    struct admin__sample *sample = add_sample(family, &labels);
    struct histogram *copy = memory_allocate_zeroed(1, sizeof *copy);
    histogram_merge(copy, histogram);
    /* Counts go on while we copy: the total is that of the copied buckets, so that the last bucket
     * of what we write equals the count. */
    copy->count = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        copy->count += copy->counts[i];
    }
    sample->histogram = copy;
}

double admin__to_base_unit(enum metrics_unit unit, double value)
{
    return unit == METRICS_NANOSECONDS ? value / 1e9 : value;
}
