/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef NODE_NODE_INTERNAL_H
#define NODE_NODE_INTERNAL_H

#include "core/shard/shard.h"
#include "core/wal/wal.h"
#include "driver/os/os.h"
#include "node/node.h"

#define NODE_DATA_SHARD 1u
#define NODE_SELF 1u

/* ---- node_data.c: the data directory ----------------------------------------------------------
 */

struct node_data;

/* Take the directory: create it when it is missing, refuse it when another process has it, when it
 * is of a newer format, or when parts of it are missing. `must_exist`: for checks, which create
 * nothing. */
MUST_USE int node_data_open(struct node_data **data, const char *directory, bool must_exist,
                            struct error *error);
void node_data_close(struct node_data *data);
const char *node_data_wal_path(const struct node_data *data);
const char *node_data_store_path(const struct node_data *data);
/* Was the directory empty, so that this is the node's first start? */
bool node_data_is_new(const struct node_data *data);
/* Write node.conf, which makes a new directory a node's. After the log and the store exist. */
MUST_USE int node_data_commit(struct node_data *data, struct error *error);
const char *node_data_cluster_id(const struct node_data *data);

/* ---- node_log.c: the log writer's thread -------------------------------------------------------
 */

struct node_log;

/* Who hears that its records are durable: everything up to `durable_sequence`, on its own loop. */
struct node_log_client {
    struct os_wake *wake;
    _Atomic uint64_t durable_sequence;
};

struct node_log_options {
    struct wal *wal; /* Taken: closed by node_log_destroy(). */
    bool is_flush_always;
    struct os_log *log;
};

MUST_USE int node_log_start(struct node_log **log, const struct node_log_options *options,
                            struct error *error);
/* Write and flush what was appended, end the thread, close the log. */
void node_log_destroy(struct node_log *log);

/* Reactor: gather a record; it leaves with node_log_submit() at the end of the tick. */
void node_log_append(struct node_log *log, const struct wal_record *record, uint64_t sequence,
                     struct node_log_client *client);
void node_log_submit(struct node_log *log);

/* Any thread: the store has the shard durably up to `index`. */
void node_log_release(struct node_log *log, wal_shard shard, raft_index index);

struct node_log_statistics {
    struct wal_statistics wal;
    uint64_t round_count;
    uint64_t record_count;
    uint64_t flush_duration_ns_sum;
    uint64_t flush_count;
    bool is_out_of_space; /* Records wait because the disk is full. */
};
/* Any thread; as of the last round. */
void node_log_get_statistics(struct node_log *log, struct node_log_statistics *statistics);

#endif
