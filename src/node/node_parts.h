/* SPDX-License-Identifier: Apache-2.0 */
/* The node itself, for the files that put it together and report on it. */
#ifndef NODE_NODE_PARTS_H
#define NODE_NODE_PARTS_H

#include <inttypes.h>

#include "node/node_internal.h"

enum { NODE_RUN_ID_SIZE = 41 };

enum node_state {
    NODE_STARTING, /* Parts are still missing. */
    NODE_SERVING,
    NODE_STOPPING, /* All parts are still there. */
};

struct reactor {
    struct node *node;
    struct os_loop *loop;
    struct os_thread *thread; /* NULL: reactor 0, which is the thread of node_run(). */
    struct resp_backend backend;
    struct resp_server *server;
    uint32_t map_reader; /* Its number. */
    struct os_message stop_message;
    struct os_message stopped_message;
};

struct node {
    struct node_options options;
    uint64_t started_at_ms;
    char run_id[NODE_RUN_ID_SIZE]; /* Hexadecimal; of this start. */
    uint32_t table_file_count_max;
    uint32_t client_count_limit;
    struct node_data *data;
    struct store *store;
    struct node_shards shards;
    struct node_log *node_log;
    struct node_maintenance *maintenance;
    struct os_pool *pool;
    struct resp_group *group;
    struct node_cluster *cluster;
    struct node_control *control;
    struct reactor reactors[NODE_REACTOR_COUNT_MAX];
    uint32_t reactor_count;
    uint32_t serving_count; /* Gateways that have not stopped; reactor 0's. */
    struct os_wake *stop_wake;
    atomic_bool can_be_woken; /* `stop_wake` is there. */
    struct os_timer *leave_timer;
    uint64_t leave_until_ms;
    struct node_sampler *sampler;
    struct node_halver *halver;
    struct node_admin *admin;
    _Atomic int state; /* enum node_state; the admin's thread reads it. */
};

/* Any thread: stop in good order. A start that still replays the log breaks off. */
void node_request_stop(struct node *node);

#endif
