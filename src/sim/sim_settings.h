/* SPDX-License-Identifier: Apache-2.0 */
/* sim_settings: what a life is like, by name. Layer: sim.
 *
 * A life's nature is drawn from its seed. To see what a failure really needs, parts of it are set apart from
 * the seed ("kill_every_us=0,client_count=2"), and what happens is drawn anew while the nature stays (the
 * *stream*). tools/shrink looks for the least that still fails. */
#ifndef SIM_SIM_SETTINGS_H
#define SIM_SIM_SETTINGS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error/error.h"
#include "sim/sim.h"

/* A number, or a flag, of a nature. */
struct sim__setting {
    const char *name;
    size_t offset;
    size_t size_bytes; /* Of a bool, a uint32_t or a uint64_t. */
};

#define SIM__SETTING(nature, member)                                     \
    {                                                                    \
#member, offsetof(nature, member), sizeof(((nature *)0)->member) \
    }

/* Set what `text` says, names and values as above; NULL: nothing. -EINVAL, with what is wrong: nothing was
 * changed. */
MUST_USE int sim__settings_apply(const struct sim__setting *settings, uint32_t count, void *nature,
                                 const char *text, struct error *error);
/* One "name=value" in each line. */
void sim__settings_print(const struct sim__setting *settings, uint32_t count, const void *nature,
                         FILE *file);
/* The seed of what happens, as different from what the life is like. */
uint64_t sim__stream_seed(const struct sim_options *options);

#endif
