/* SPDX-License-Identifier: Apache-2.0 */
/* admin, for the files of this folder only. */
#ifndef GATEWAY_ADMIN_ADMIN_INTERNAL_H
#define GATEWAY_ADMIN_ADMIN_INTERNAL_H

#include "base/bytes/bytes.h"
#include "gateway/admin/admin.h"

#define ADMIN__FAMILY_COUNT_MAX 256
#define ADMIN__NAME_SIZE_MAX 80

enum admin__kind { ADMIN__COUNTER, ADMIN__GAUGE, ADMIN__INFO, ADMIN__HISTOGRAM };

struct admin__sample {
    struct metrics_labels labels; /* Its values are the sample's own. */
    double real;                  /* Unless it is whole. */
    uint64_t whole;
    bool is_whole;
    struct histogram *histogram; /* Of ADMIN__HISTOGRAM. */
};

/* All samples of one name. */
struct admin__family {
    const char *name;
    const char *help;
    enum admin__kind kind;
    enum metrics_unit unit; /* Of ADMIN__HISTOGRAM. */
    struct admin__sample *samples;
    uint32_t sample_count;
    uint32_t sample_capacity;
};

struct metrics {
    struct admin__family families[ADMIN__FAMILY_COUNT_MAX];
    uint32_t family_count;
};

struct metrics *admin__metrics_create(void);
void admin__metrics_destroy(struct metrics *metrics);

/* How many of the labels are used. */
uint32_t admin__label_count(const struct metrics_labels *labels);

/* From a recorded value to the base unit. */
double admin__to_base_unit(enum metrics_unit unit, double value);

/* Append the page of each kind. `run` may be NULL. */
void admin__write_prometheus(const struct metrics *metrics, struct buffer *page);
void admin__write_json(const struct metrics *metrics, const struct admin_verdict *verdict,
                       const char *run, struct buffer *page);
void admin__write_text(const struct metrics *metrics, const struct admin_verdict *verdict,
                       struct buffer *page);

#endif
