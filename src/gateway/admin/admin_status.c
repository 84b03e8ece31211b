/* SPDX-License-Identifier: Apache-2.0 */
/* The status pages.
 *
 * JSON: {"ready": …, "well": …, "verdict": …, "run": …, "metrics": {NAME: figure}}. A figure
 * without labels is a number; with labels it is a list of {"labels": {…}, "value": …}; one of text
 * is the labels alone. A histogram's value is {"count", "sum", "p50", "p99", "max"}, in base units.
 *
 * Text: the verdict, then a section for each second word of the names, with figures as people read
 * them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "driver/json/json.h"
#include "gateway/admin/admin_internal.h"

enum { LABEL_COLUMN = 34, FIGURE_SIZE = 96 };

/* ---- JSON ------------------------------------------------------------------------------------ */

static double quantile(const struct admin__family *family, const struct admin__sample *sample,
                       uint32_t per_mille)
{
    return admin__to_base_unit(family->unit,
                               (double)histogram_quantile(sample->histogram, per_mille));
}

static struct json *histogram_value(const struct admin__family *family,
                                    const struct admin__sample *sample)
{
    const struct histogram *histogram = sample->histogram;
    struct json *value = json_object_create();
    json_set_unsigned(value, "count", histogram->count);
    json_set_real(value, "sum", admin__to_base_unit(family->unit, (double)histogram->sum));
    json_set_real(value, "p50", quantile(family, sample, 500));
    json_set_real(value, "p99", quantile(family, sample, 990));
    json_set_real(value, "max", admin__to_base_unit(family->unit, (double)histogram->largest));
    return value;
}

static void set_value(struct json *object, const char *key, const struct admin__family *family,
                      const struct admin__sample *sample)
{
    if (family->kind == ADMIN__HISTOGRAM) {
        json_set(object, key, histogram_value(family, sample));
    } else if (sample->is_whole) {
        json_set_unsigned(object, key, sample->whole);
    } else {
        json_set_real(object, key, sample->real);
    }
}

static struct json *labels_value(const struct admin__sample *sample)
{
    struct json *labels = json_object_create();
    for (uint32_t i = 0; i < admin__label_count(&sample->labels); i++) {
        json_set_text(labels, sample->labels.items[i].name, sample->labels.items[i].value);
    }
    return labels;
}

static void set_family(struct json *object, const struct admin__family *family)
{
    const struct admin__sample *first = &family->samples[0];
    if (family->kind == ADMIN__INFO) {
        json_set(object, family->name, labels_value(first));
        return;
    }
    if (family->sample_count == 1 && admin__label_count(&first->labels) == 0) {
        set_value(object, family->name, family, first);
        return;
    }
    struct json *list = json_array_create();
    for (uint32_t i = 0; i < family->sample_count; i++) {
        struct json *item = json_object_create();
        json_set(item, "labels", labels_value(&family->samples[i]));
        set_value(item, "value", family, &family->samples[i]);
        json_append(list, item);
    }
    json_set(object, family->name, list);
}

void admin__write_json(const struct metrics *metrics, const struct admin_verdict *verdict,
                       const char *run, struct buffer *page)
{
    struct json *status = json_object_create();
    struct json *figures = json_object_create();
    json_set_boolean(status, "ready", verdict->is_ready);
    json_set_boolean(status, "well", verdict->is_well);
    json_set_text(status, "verdict", verdict->text);
    if (run != NULL) {
        json_set_text(status, "run", run);
    }
    for (uint32_t i = 0; i < metrics->family_count; i++) {
        set_family(figures, &metrics->families[i]);
    }
    json_set(status, "metrics", figures);
    json_write(status, page);
    json_destroy(status);
    buffer_append_byte(page, '\n');
}

/* ---- Text ------------------------------------------------------------------------------------ */

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text);
    size_t end_size = strlen(end);
    return size > end_size && strcmp(text + size - end_size, end) == 0;
}

static void format_bytes(char *target, double value)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(target, FIGURE_SIZE, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

static void format_seconds(char *target, double value)
{
    if (value >= 1e9) { /* A date, in seconds since 1970. */
        (void)snprintf(target, FIGURE_SIZE, "%.0f", value);
    } else if (value >= 86400) {
        (void)snprintf(target, FIGURE_SIZE, "%.1f days", value / 86400);
    } else if (value >= 3600) {
        (void)snprintf(target, FIGURE_SIZE, "%.1f h", value / 3600);
    } else if (value >= 1 || value <= 0) {
        (void)snprintf(target, FIGURE_SIZE, "%.1f s", value);
    } else if (value >= 1e-3) {
        (void)snprintf(target, FIGURE_SIZE, "%.2f ms", value * 1e3);
    } else {
        (void)snprintf(target, FIGURE_SIZE, "%.0f us", value * 1e6);
    }
}

/* A figure by the unit at the end of its name, of which _total is no part. */
static void format_figure(char *target, const char *name, double value)
{
    if (ends_with(name, "_bytes") || ends_with(name, "_bytes_total")) {
        format_bytes(target, value);
    } else if (ends_with(name, "_seconds") || ends_with(name, "_seconds_total")) {
        format_seconds(target, value);
    } else if (value >= -1e15 && value <= 1e15 && value == (double)(int64_t)value) {
        (void)snprintf(target, FIGURE_SIZE, "%" PRId64, (int64_t)value);
    } else {
        (void)snprintf(target, FIGURE_SIZE, "%.3g", value);
    }
}

/* The section of a name: its second word ("wal" of tutti_wal_flushes_total); the first when the
 * name is not ours. */
static struct bytes section_of(const char *name)
{
    const char *start = strncmp(name, "tutti_", 6) == 0 ? name + 6 : name;
    return bytes_make(start, strcspn(start, "_"));
}

/* "flushes" of tutti_wal_flushes_total. */
static void append_title(struct buffer *line, const char *name)
{
    struct bytes section = section_of(name);
    const char *start = (const char *)section.data + section.size_bytes;
    start += *start == '_';
    size_t size = strlen(start);
    static const char *const endings[] = {"_total", "_bytes", "_seconds", "_info"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t end_size = strlen(endings[i]);
        if (size > end_size && strncmp(start + size - end_size, endings[i], end_size) == 0) {
            size -= end_size;
        }
    }
    for (size_t i = 0; i < size; i++) {
        buffer_append_byte(line, start[i] == '_' ? ' ' : (uint8_t)start[i]);
    }
}

/* Labels are escaped nowhere on this page: they come from the node itself. Control characters would
 * still confuse a terminal. */
static void append_plain(struct buffer *line, const char *text)
{
    for (const char *each = text; *each != '\0'; each++) {
        buffer_append_byte(line, (uint8_t)*each < ' ' || *each == 0x7f ? '?' : (uint8_t)*each);
    }
}

static void append_line(struct buffer *page, struct buffer *title, const char *figure)
{
    size_t width = title->size_bytes < LABEL_COLUMN ? LABEL_COLUMN - title->size_bytes : 1;
    buffer_append(page, BYTES("  "));
    buffer_append(page, buffer_bytes(title));
    buffer_append_format(page, "%*s%s\n", (int)width, "", figure);
    buffer_clear(title);
}

static void append_sample(struct buffer *page, const struct admin__family *family,
                          const struct admin__sample *sample)
{
    struct buffer title = {0};
    char figure[FIGURE_SIZE];
    append_title(&title, family->name);
    for (uint32_t i = 0; i < admin__label_count(&sample->labels); i++) {
        buffer_append_byte(&title, ' ');
        append_plain(&title, sample->labels.items[i].value);
    }
    if (family->kind == ADMIN__HISTOGRAM) {
        char median[FIGURE_SIZE];
        char high[FIGURE_SIZE];
        format_figure(median, family->name, quantile(family, sample, 500));
        format_figure(high, family->name, quantile(family, sample, 990));
        (void)snprintf(figure, sizeof figure, "%" PRIu64 " times, median %.24s, p99 %.24s",
                       sample->histogram->count, median, high);
    } else {
        format_figure(figure, family->name,
                      sample->is_whole ? (double)sample->whole : sample->real);
    }
    append_line(page, &title, figure);
    buffer_deinit(&title);
}

/* A line for each fact. */
static void append_info(struct buffer *page, const struct admin__sample *sample)
{
    struct buffer title = {0};
    struct buffer value = {0};
    for (uint32_t i = 0; i < admin__label_count(&sample->labels); i++) {
        append_plain(&title, sample->labels.items[i].name);
        append_plain(&value, sample->labels.items[i].value);
        buffer_append_byte(&value, 0);
        append_line(page, &title, (const char *)value.data);
        buffer_clear(&value);
    }
    buffer_deinit(&value);
    buffer_deinit(&title);
}

static void append_section(struct buffer *page, const struct metrics *metrics, struct bytes section)
{
    buffer_append_byte(page, '\n');
    buffer_append(page, section);
    buffer_append_byte(page, '\n');
    for (uint32_t i = 0; i < metrics->family_count; i++) {
        const struct admin__family *family = &metrics->families[i];
        if (!bytes_equal(section_of(family->name), section)) {
            continue;
        }
        for (uint32_t j = 0; j < family->sample_count; j++) {
            if (family->kind == ADMIN__INFO) {
                append_info(page, &family->samples[j]);
            } else {
                append_sample(page, family, &family->samples[j]);
            }
        }
    }
}

void admin__write_text(const struct metrics *metrics, const struct admin_verdict *verdict,
                       struct buffer *page)
{
    append_plain(page, verdict->text);
    buffer_append_byte(page, '\n');
    for (uint32_t i = 0; i < metrics->family_count; i++) {
        struct bytes section = section_of(metrics->families[i].name);
        bool is_first = true;
        for (uint32_t j = 0; j < i; j++) {
            is_first = is_first && !bytes_equal(section_of(metrics->families[j].name), section);
        }
        if (is_first) {
            append_section(page, metrics, section);
        }
    }
}
