/* SPDX-License-Identifier: Apache-2.0 */
/* Lives with conductors, for the files that make them: sim_cluster_office.c has what is agreed on in the
 * cluster, what machines hear of each other, and what conductors must come to; sim_cluster_room.c zones and
 * disks; sim_cluster_conductor.c a machine's core/conductor. */
#ifndef SIM_SIM_CLUSTER_CONDUCTOR_H
#define SIM_SIM_CLUSTER_CONDUCTOR_H

#include "core/conductor/conductor.h"
#include "sim/sim_cluster_host.h"

/* What stands in the rows of the cluster. */
struct cluster_rows {
    uint32_t nodes;    /* Those of the cluster: a bit each. Who is drained is not one. */
    uint32_t draining; /* Of these. */
    uint32_t drained;
    cluster_map planned;
    cluster_map done;
    uint32_t replica_count;
};

/* Of another machine. */
struct cluster_rumour {
    enum placement_liveness liveness;
    uint64_t since_ms; /* On the clock of the conductor of who has heard it. */
    bool is_slow;
    uint64_t capacity_bytes;
    uint64_t used_bytes;
};

/* A machine's. */
struct cluster_conductor {
    struct conductor *core;
    struct cluster_rows rows; /* As this machine knows them. */
    struct cluster_rumour rumours[CLUSTER_NODE_COUNT_MAX];
    raft_term heard_in[CLUSTER_NODE_COUNT_MAX]; /* In which office a report came last. */
    raft_term office;
    const struct placement_group_state *thought_of; /* While a step of another one is looked at. */
    struct placement_group_state configured; /* What it was, when it was given members last. */
    const struct placement_node_state *told; /* While it decides: by what. */
    uint32_t told_count;
    uint64_t told_at_ms;
    uint64_t sampled_at_ms;
    struct {
        uint64_t request_count; /* Since the start. */
        uint64_t size_bytes;
        uint32_t load;
    } samples[CLUSTER_SHARD_COUNT_MAX];
    struct conductor_question question;
    struct conductor_halves halves; /* What was found, */
    bool is_found;
};

/* The world's. */
struct cluster_office {
    struct cluster_rows rows;
    raft_term term; /* The newest in which somebody was ready to lead the first shard. */
    uint64_t step_count;
    uint64_t healed_step_count;
    uint64_t
        step_at_us; /* When the last one was begun, or a split written down, or told to be done. */
    uint64_t late_until_us; /* The last copy of a message that is sent late is on its way then. */
    const char *unrest;     /* Why there will be more, as of the last look. */
    uint64_t rest_since_us; /* 0: all is not settled yet. */
    uint64_t rest_term_sum; /* Of all groups, then. */
    /* Of disks with little room; 0: of one with much. */
    uint64_t used_bytes[CLUSTER_NODE_COUNT_MAX];
};

/* ---- sim_cluster_office.c ------------------------------------------------------------------ */

/* The rows as the machine knows them, which leads the first shard in that term: they are old if there is a newer
 * leader. */
const struct cluster_rows *sim__cluster_rows_seen(struct cluster_node *node, raft_term term);
/* Writes into the rows, which get there late, or never. */
void sim__cluster_say_drained(struct cluster *cluster, raft_node node);
void sim__cluster_say_split_done(struct cluster *cluster, wal_shard child);
void sim__cluster_ask_for_split(struct cluster *cluster, uint32_t slot);
/* A machine takes a step: does it keep what conductors promise? */
void sim__cluster_check_change(struct cluster *cluster, const struct shard *shard,
                               const struct raft_configuration *target);
/* A step is sent: by what was heard in this office (I1)? */
void sim__cluster_check_step(const struct cluster_node *node, raft_node to,
                             const struct placement_step *step);
void sim__cluster_step_begun(struct cluster *cluster, const struct cluster_node *node,
                             const struct placement_step *step);

/* ---- sim_cluster_room.c -------------------------------------------------------------------- */

void sim__cluster_room_draw(struct cluster *cluster);
void sim__cluster_room_begin(struct cluster *cluster);
/* Each disk has room again, at some time. */
void sim__cluster_room_heal(struct cluster *cluster);
uint64_t sim__cluster_room_us_max(const struct cluster *cluster);
bool sim__cluster_is_room_lacking(const struct cluster *cluster);
/* Of a machine, by its place: as it says. */
uint32_t sim__cluster_zone(const struct cluster *cluster, uint32_t place);
uint64_t sim__cluster_capacity_bytes(const struct cluster *cluster); /* 0: not known. */
uint64_t sim__cluster_used_bytes(const struct cluster *cluster, uint32_t place);
/* The voters in the zone of that machine; `active`: those that count, a bit each. */
uint32_t sim__cluster_zone_count(const struct cluster *cluster,
                                 const struct raft_configuration *members, uint32_t active,
                                 uint32_t place);
/* Has a zone two voters more than that of an active machine that has no replica? */
bool sim__cluster_is_zone_crowded(const struct cluster *cluster,
                                  const struct raft_configuration *members, uint32_t active);
/* The machine decides: may that be, by what it was told? */
void sim__cluster_check_place(const struct cluster_node *node, const struct placement_step *step,
                              const struct placement_group_state *group);

/* ---- sim_cluster_conductor.c --------------------------------------------------------------- */

/* Of the machine's conductor: that of its other cores, but faster. */
uint64_t sim__cluster_conductor_now_ms(struct cluster_node *node);
/* What the life says that these slots take, per second, besides what clients do. */
uint64_t sim__cluster_standing_load(const struct cluster *cluster, const struct slots_range *range);

#endif
