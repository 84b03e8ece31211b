/* SPDX-License-Identifier: Apache-2.0 */
/* sim: one simulated life of a node, from a seed. Layer: sim.
 *
 * The same cores as in the node (wal, raft, shard, rows, kv) run on a simulated disk, store and
 * clock, under simulated clients, kills, power losses and damage. Everything that happens is a
 * function of the seed: two runs of a seed have the same trace hash. docs/testing.md says what is
 * modelled and what is checked.
 *
 * No threads, no files, no real time: the program around it may fork. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error/error.h"

#define SIM_REASON_SIZE 512

struct sim_options {
    uint64_t seed;
    const char *bug; /* The planted bug to switch on, or NULL. */
    FILE *trace;     /* Where to tell what happens, or NULL. */
    /* What the life is like, where not as the seed says: "name=value,name=value"; NULL. sim_show_nature()
     * lists what there is, and has to have said that it is right. */
    const char *settings;
    uint64_t stream; /* Not 0: what happens is drawn anew; what the life is like stays. */
    /* Told about each PROBE() that a run meets for the first time. May be NULL. */
    void (*probe)(void *context, const char *name);
    void *context;
};

struct sim_result {
    bool is_passed;
    char reason[SIM_REASON_SIZE]; /* Why not. */
    uint64_t trace_hash;
    uint64_t step_count;
    uint64_t request_count;
    uint64_t entry_count; /* Commands that the log ordered. */
    uint64_t kill_count;
    uint64_t power_loss_count;
    uint64_t split_count;
    uint64_t discarded_count;
    uint64_t conducted_count; /* Steps that conductors had taken. */
    uint64_t damage_count;
    uint64_t reported_damage_count; /* How often the log refused to open, rightly. */
};

/* Live one life. A violated assertion of a core aborts, after saying so. */
void sim_run(const struct sim_options *options, struct sim_result *result);

/* Print what the life would be like, "name=value" in each line; `file` may be NULL. -EINVAL: the settings
 * are wrong. */
MUST_USE int sim_show_nature(const struct sim_options *options, FILE *file, struct error *error);
MUST_USE int sim_cluster_show_nature(const struct sim_options *options, FILE *file,
                                     struct error *error);

/* Live one life of a cluster: several machines with a network between them. */
void sim_cluster_run(const struct sim_options *options, struct sim_result *result);

#endif
