/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated node's own state, for sim_node.c and sim_rehearsal.c. */
#ifndef SIM_SIM_NODE_H
#define SIM_SIM_NODE_H

#include "sim/sim_internal.h"
#include "sim/sim_recall.h"

#define SIM__SHARD 1u

/* A record that a shard wants durable. */
struct sim__item {
    struct wal_record record;
    uint64_t sequence;
};

/* A read on its way to the disk pool and back. */
struct sim__read {
    struct list link;
    struct shard_read *read;
    struct sim__model *model; /* What its snapshot must show. */
    bool was_run;
};

enum sim__writer_stage {
    SIM__WRITER_GATHER,
    SIM__WRITER_WRITE,
    SIM__WRITER_FLUSH,
    SIM__WRITER_ALARM, /* The next flush is due. */
};

struct sim__node {
    struct sim *sim;
    uint32_t incarnation;
    bool is_running; /* From start to burial. */
    bool is_dead;    /* Killed, not buried yet. */
    bool is_power_lost;
    bool is_stopped; /* In good order: the store is flushed. */
    bool is_ready;
    bool is_full;
    bool is_rehearsal;
    bool was_repaired; /* The last start reported damage, which was undone. */

    uint32_t calls_to_live; /* 0: no kill is armed. */
    bool is_kill_power_loss;
    bool died_in_this_call;

    struct sim__disk *disk;
    struct memstore *memstore;
    struct kv *kv;
    struct shard *shard;
    struct wal *wal;

    struct sim__recall recall;
    struct sim__item *queue; /* Persisted by the shard, not taken by the writer. */
    uint32_t queue_count;
    uint32_t queue_capacity;
    struct sim__item *round; /* Taken by the writer. */
    uint32_t round_count;
    bool is_writer_busy;
    bool is_alarm_set;
    bool has_unflushed;
    uint64_t flushed_at_us;
    raft_index written_index; /* Of the newest entry in the log, … */
    raft_index durable_index; /* … and when it was last flushed. */
    bool may_lack_entries;    /* Since it was ready, something may have taken unflushed entries. */
    raft_index flush_index;   /* Applied when the store's flush began. */
    raft_index release_index; /* What the writer has to release; 0: nothing. */
    bool is_store_behind;     /* It refused the newest batch. */

    struct list reads; /* struct sim__read */
    uint32_t read_count;
    struct shard_write *write; /* A batch on its way to the store and back; NULL: none. */
    uint64_t write_number;     /* Of it, so that its events are known. */
    bool was_written;          /* Or refused. */
    uint64_t tick_at_us;
    raft_term newest_term; /* That any life of it has led. */

    bool has_rehearsed;
    raft_index rehearsed_index;
    uint64_t rehearsed_digest;
    uint64_t rehearsed_content;
};

/* From now on nobody hears the node; it is buried when the call stack is empty. */
void sim__node_die(struct sim__node *node, bool is_power_lost, const char *how);

/* A call of the environment: false when the node is dead, or dies of it. */
bool sim__node_touch(void *context, const char *operation);
/* After each call into the shard. */
void sim__node_look_at_shard(struct sim *sim);

/* sim_store.c: the store, and batches on their way to it. */
struct env_store sim__store_interface(struct sim *sim, struct memstore *memstore);
/* The shard's host. */
void sim__store_write_elsewhere(void *context, struct shard_write *write);
void sim__store_event(struct sim *sim, const struct sim__event *event);
/* End what is under way, of a node or of a rehearsal; without effect when the node is dead. */
void sim__store_finish_write(struct sim__node *node);
/* Have the store take everything that was applied, before it is looked at. */
void sim__store_all(struct sim__node *node);

/* sim_writer.c */
void sim__writer_run(struct sim *sim, enum sim__writer_stage stage);
/* Have a stage come after a while. */
void sim__writer_next(struct sim *sim, uint64_t mean_us, enum sim__writer_stage stage);

int sim__node_open_shard(struct sim__node *node, bool is_watched, struct error *error);
/* After the shard, which says what of the log is needed. */
int sim__node_open_log(struct sim__node *node, bool is_read_only, struct error *error);
/* Open store, shard and log, and begin. What was opened stays for closing, also on failure.
 * `is_watched`: by the oracle. */
int sim__node_open_cores(struct sim__node *node, bool is_watched, struct error *error);
void sim__node_close_cores(struct sim__node *node);

/* sim_rehearsal.c: maybe recover a copy of everything, and remember what came out, … */
void sim__rehearse(struct sim *sim);
/* … for when the node has recovered. */
void sim__rehearsal_compare(struct sim *sim);

#endif
