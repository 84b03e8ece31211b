/* SPDX-License-Identifier: Apache-2.0 */
/* A machine of the cluster, for the two files that make it: sim_cluster_host.c has what its shards ask
 * for, sim_cluster_node.c the rest. */
#ifndef SIM_SIM_CLUSTER_HOST_H
#define SIM_SIM_CLUSTER_HOST_H

#include "core/beats/beats.h"
#include "sim/sim_cluster.h"
#include "sim/sim_recall.h"

/* A record on its way to the log. */
struct item {
    struct wal_record record;
    struct cluster_replica *replica;
    uint64_t sequence;
};

enum job_kind { JOB_READ, JOB_WRITE, JOB_WORK, JOB_LOG_READ };

/* Something on another thread: run, then done. */
struct job {
    struct list link;
    enum job_kind kind;
    void *what;
    bool was_run;
    struct cluster_replica *replica; /* Of a read: what it sees is as of an entry from here, */
    raft_index from;
    raft_index to; /* to here. */
};

/* A shard's, on one node. */
struct cluster_replica {
    struct cluster_node *node;
    uint32_t place; /* In the cluster's map of shards. */
    struct cluster_watch *watch;
    struct kv *kv;
    struct shard *shard;
    raft_node told_leader; /* What the route knows. */
    bool told_ready;
    bool is_touched;     /* Something came for it since its last tick. */
    bool has_floor;      /* It was told of a floor since then. */
    uint64_t wake_at_ms; /* It wants its next tick. */
    uint64_t queued_sequence;
    raft_index birth_index;  /* Of one that is not open: its parent must have stored this. */
    uint32_t parent;         /* Its place. */
    bool does_campaign;      /* Born beside its parent's leader. */
    uint64_t campaign_at_ms; /* Not before, once more. */
    raft_index flush_index;
    raft_index release_index;
};

struct cluster_node {
    struct cluster *cluster;
    raft_node id;
    uint32_t incarnation;
    bool is_running;
    bool is_dead; /* Being buried: nobody hears it. */
    uint64_t paused_until_us;
    bool thought_gone[CLUSTER_NODE_COUNT_MAX]; /* What its shards were told. */
    uint32_t disk_times;                       /* How much slower its disk is, */
    uint32_t store_times;                      /* and its store. */
    bool is_full;
    int32_t clock_rate_ppm;
    uint64_t clock_base_ms;

    cluster_map map;        /* The splits that it knows of; never forgotten. */
    uint64_t opened;        /* Shards that it ever had: a bit each. */
    uint64_t lost_unopened; /* Of these, those that are not open and whose log lost something. */
    bool is_damage_unseen;  /* Its log was damaged since it was last opened. */
    bool is_whole;          /* And it will still know after a restart. */
    /* Of replicas that gave up what they had: those of which the store, flushed, does not know yet
     * that they are whole again. A bit each. */
    uint64_t unsure;
    uint64_t lost; /* The same, of replicas whose log lost something. */

    struct sim__disk *disk;
    struct memstore *memstore;
    struct sim__recall recall;
    struct cluster_replica replicas[CLUSTER_SHARD_COUNT_MAX];
    struct wal *wal;
    struct route *route;
    struct txn *coordinator; /* Both only where there are several shards. */
    struct txn *recoverer;
    uint64_t recoverer_looked_at_ms;
    uint32_t recoverer_next_shard;
    struct cluster_conductor *conductor; /* In lives that have them. */

    struct item *queue;
    uint32_t queue_count;
    uint32_t queue_capacity;
    struct item *round;
    uint32_t round_count;
    bool is_writer_busy;
    struct list jobs;
    uint32_t job_count;
    uint64_t tick_at_us;
    bool is_touched;  /* All its replicas may be. */
    struct pace pace; /* Of their shards. */
    struct beats beats[CLUSTER_NODE_COUNT_MAX];
};

/* As of node_start: options with that range; then, with the log. */
MUST_USE int sim__cluster_open_shard(struct cluster_node *node, const struct slots_range *range,
                                     struct error *error);
MUST_USE int sim__cluster_start_shard(struct cluster_node *node, uint32_t place,
                                      struct error *error);
struct env_clock sim__cluster_clock(struct cluster_node *node);
struct shard_host sim__cluster_host(struct cluster_replica *replica);
raft_index sim__cluster_first_needed(void *context, wal_shard shard); /* Of wal_options. */
/* The store is flushed now and then, and the log let go of. */
void sim__cluster_maintain(struct cluster *cluster, const struct cluster_event *event);
/* Bring all work on other threads to its end. */
void sim__cluster_end_jobs(struct cluster_node *node);

/* ---- sim_cluster_beats.c --------------------------------------------------------------------- */

/* As struct shard_host says of send_beat(). */
bool sim__cluster_beats_add(struct cluster_replica *replica, const struct raft_message *message);
/* The end of a tick. */
void sim__cluster_beats_send(struct cluster_node *node);
void sim__cluster_beats_receive(struct cluster_node *node, raft_node from, struct bytes message);
/* What was not sent is lost. */
void sim__cluster_beats_forget(struct cluster_node *node);

#endif
