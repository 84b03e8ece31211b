/* SPDX-License-Identifier: Apache-2.0 */
/* Reads that may be stale, in lives of clusters that have them. */
#ifndef SIM_SIM_CLUSTER_STALE_H
#define SIM_SIM_CLUSTER_STALE_H

#include "sim/sim_cluster.h"

/* ---- sim_cluster_past.c ---------------------------------------------------------------------- */

/* A read, and where the log was then, from version `from` to version `to`, both included. */
struct cluster_read {
    uint64_t from;
    uint64_t to;
    uint64_t durable_ms; /* Of the moment; 0: whichever the log had there. */
    const struct bytes *arguments;
    uint32_t argument_count;
    struct bytes reply;
};

struct cluster_past;
struct cluster_past *sim__cluster_past_create(void);
void sim__cluster_past_destroy(struct cluster_past *past);
/* The model has executed the command with that version. */
void sim__cluster_past_note(struct cluster_past *past, const struct sim__model *model,
                            uint64_t version, uint64_t time_ms);
/* The parent's log has SPLIT at that index. */
void sim__cluster_past_divide(struct cluster_past *parent, raft_index index, uint32_t first_slot,
                              struct cluster_past *child, const struct sim__model *of_child);
/* Are there reads of that command that can be explained? */
bool sim__cluster_past_knows(uint16_t opcode);
/* Were all its keys so at one place of those? */
bool sim__cluster_past_explains(const struct cluster_past *past, uint16_t opcode,
                                const struct cluster_read *read);
/* Has one of its keys expired after `durable_ms` and by then, where the read ends? */
bool sim__cluster_past_has_expired(const struct cluster_past *past, const struct cluster_read *read,
                                   uint64_t time_ms);
/* Can that be the time of the log at that place? */
bool sim__cluster_past_has_time(const struct cluster_past *past, uint64_t version,
                                uint64_t time_ms);

/* ---- sim_cluster_stale.c --------------------------------------------------------------------- */

/* What is known of a read when it is submitted. */
struct cluster_stale {
    uint32_t place;
    struct cluster_node *node;
    uint64_t from; /* It must not be older than this version. */
    bool was_empty;
    uint32_t emptied_count;
};

/* What a connection that reads what may be stale asks. False: a write that goes into the history. */
bool sim__cluster_stale_draw(struct cluster *cluster, struct cluster_question *question);
struct cluster_stale sim__cluster_stale_begin(struct cluster *cluster, struct cluster_node *node,
                                              uint32_t place);
/* Takes the arguments. `status` and `reply` as of route_submit()'s done(). */
void sim__cluster_stale_ended(struct cluster *cluster, struct cluster_question *question,
                              const struct cluster_stale *stale, int status, struct bytes reply);
/* SPLIT goes into the log of the node, which leads. */
void sim__cluster_stale_split_begins(struct cluster *cluster, struct cluster_node *node,
                                     uint32_t place);
/* Its cores are closed. */
void sim__cluster_stale_buried(struct cluster *cluster, const struct cluster_node *node);
/* Is there a request at any replica, or in any route? */
bool sim__cluster_is_anything_asked(const struct cluster *cluster);

#endif
