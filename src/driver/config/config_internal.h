/* SPDX-License-Identifier: Apache-2.0 */
/* config, for the files of this folder only. */
#ifndef DRIVER_CONFIG_CONFIG_INTERNAL_H
#define DRIVER_CONFIG_CONFIG_INTERNAL_H

#include "driver/config/config.h"

/* The option called so, or NULL. */
const struct config_option *config__find(const struct config_table *table, struct bytes name);

/* The option that was probably meant, or NULL. */
const struct config_option *config__find_near(const struct config_table *table, struct bytes name);

/* Read a value into its field; `where` begins the message of an error. */
MUST_USE int config__set(const struct config_option *option, const char *where, const char *text,
                         void *target, struct error *error);

/* Read the lines of a file into the fields. */
MUST_USE int config__load_lines(const struct config_table *table, const char *file_name,
                                struct bytes text, void *target, struct error *error);

#endif
