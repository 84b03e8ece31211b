/* SPDX-License-Identifier: Apache-2.0 */
/* resp: the gateway that speaks the Redis protocol. Layer: gateway.
 *
 * It turns bytes of clients into requests for a shard and answers into bytes: RESP2 and RESP3,
 * pipelines, inline requests, MULTI, authentication, and the commands about connections and the
 * server (PING, CLIENT, INFO, CONFIG, …), which it answers itself. What commands mean to data is
 * the business of service/kv; where data is, that of the backend. Clients that know of clusters find
 * the way to the leaders with CLUSTER and -MOVED; others need not know.
 *
 * One `struct resp_group` holds what the servers of a node share (settings, password, client ids,
 * the slow log, budgets). One `struct resp_server` serves the connections of one loop.
 *
 * Invariants
 *   I1. A connection's replies come in the order of its requests, whatever order they are answered
 *       in.
 *   I2. A request that the backend took is answered or dropped exactly once, also when its
 *       connection is gone.
 *   I3. What one client can make the server keep is bounded: unparsed input by one request's limit,
 *       requests under way by pipeline_*_max, output by output_size_bytes_max; what all clients
 *       together can, by client_memory_bytes_max.
 *   I4. Idle connections hold no buffers.
 *   I5. Commands of a connection to the same keys take effect in the order sent, also while shards
 *       split. What is sent after a reply was received comes behind what it answers. Of a pipeline,
 *       commands to different shards take effect in any order, unless is_connection_ordered; but what
 *       is of several shards, and transactions, behind all before and before all behind them.
 *       See resp_lane.c, resp_moved.c.
 *
 * Threads. A group is made and ended on one thread while no loop runs; servers are created after
 * the group and before their loops run, and belong to their loops. Any thread may read statistics.
 * All loops run until every server of the group has stopped: errands travel between them.
 *
 * Latency is measured in ticks: the time from when a tick read a request to the end of the tick
 * that answered it, which takes one look at the clock per tick instead of two per command. */
#ifndef GATEWAY_RESP_RESP_H
#define GATEWAY_RESP_RESP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "base/histogram/histogram.h"
#include "base/reply/reply.h"
#include "core/shard/shard.h"
#include "core/slots/slots.h"
#include "driver/os/os.h"
#include "service/kv/kv.h"

/* The version of Redis whose behaviour clients may expect. */
#define RESP_REDIS_VERSION "7.2.0"

/* ---- What stands behind the gateway ---------------------------------------------------------- */

/* What INFO and MEMORY say of the node. All texts are borrowed and live as long as the backend. */
struct resp_information {
    const char *data_directory;
    const char *configuration_file; /* Empty: none. */
    const char *run_id;             /* 40 hexadecimal digits. */
    bool is_loading;                /* Replaying the log: not ready for requests. */
    bool is_flush_always;           /* False: `--flush everysec`. */
    bool is_full;                   /* The disk is nearly full: writes that grow are refused. */
    uint64_t uptime_s;
    uint64_t key_count;
    uint64_t expiring_key_count;
    uint64_t expired_key_count;
    uint64_t hit_count; /* Keys that reads found here; did not. */
    uint64_t miss_count;
    uint64_t memory_limit_bytes; /* `--memory`; 0: none. */
    uint64_t memory_cache_bytes; /* Of hot rows and of the store. */
    uint64_t log_flush_count;
    uint64_t log_written_bytes;
    uint64_t log_flush_latest_us; /* How long the last flush took. */
    uint64_t durable_at_ms; /* Since 1970: when all that had been answered was durable, last. */
    uint64_t applied_index;
    uint64_t read_elsewhere_count; /* Reads that went to the disk. */
    uint64_t stall_count;          /* How often the store refused a batch. */
};

/* ---- The cluster, as cluster-aware clients see it -------------------------------------------- */

#define RESP_CLUSTER_ID_SIZE 33 /* 32 hexadecimal digits. */
#define RESP_CLUSTER_REPLICA_COUNT_MAX 8

/* Filled by the backend for one answer. */
struct resp_cluster;

struct resp_cluster_node {
    uint32_t id;
    /* Where Redis clients reach it, without brackets. Empty for this node: by the address that the
     * client used (and with port 0 the port, too). Copied. */
    const char *host;
    uint16_t port;
    uint16_t peer_port;
    bool is_self;
    bool is_online;
    uint64_t offset; /* How much it has applied, in any unit that grows. */
};

/* Slots `first` to `last`. */
struct resp_cluster_range {
    uint16_t first;
    uint16_t last;
    uint32_t leader;          /* 0: not known. */
    const uint32_t *replicas; /* Without the leader. Copied. */
    uint32_t replica_count;
};

/* First: the cluster's id, and a number that grows when the rest changes. */
void resp_cluster_set(struct resp_cluster *cluster, const char *id, uint64_t epoch);
/* All nodes, with exactly one that is this one. */
void resp_cluster_add_node(struct resp_cluster *cluster, const struct resp_cluster_node *node);
/* In ascending order, and together all slots. Where two share a slot (a shard may end within one),
 * the first stands for it. */
void resp_cluster_add_range(struct resp_cluster *cluster, const struct resp_cluster_range *range);

struct resp_place {
    char host[OS_HOST_SIZE]; /* Without brackets. */
    uint16_t port;
};

/* How a gateway reaches the node; called on the loop of the server that was given it. */
struct resp_backend {
    void *context;

    /* The newest map of shards. It is asked for for each command, so it should be a load; what it gave
     * stays valid, and as it is, until the callback of the loop that asked returns. A newer one has more
     * ranges (slots.h, I4). NULL: there is one shard, for ever. */
    const struct slots *(*slots)(void *context);

    /* As route_submit() to that shard: SHARD_ANSWERED with the answer in `reply`; SHARD_PENDING; or refused.
     * done() is called on the server's loop, with the answer or with why there is none. Requests name
     * the slots that the shard has in the map by which it was chosen; after ERROR_MOVED (the command is
     * valid during done()) they are asked again by a newer one. What a session has under way is at one
     * shard and names the same slots. */
    int (*submit)(void *context, wal_shard shard, struct shard_request *request,
                  const struct reply *reply);

    void (*get_information)(void *context, struct resp_information *information);

    /* The node's own settings, for CONFIG GET: append the value of setting `index` and give its
     * name, or return false after the last. May be NULL. */
    bool (*setting_at)(void *context, uint32_t index, const char **name, struct buffer *value);

    /* SHUTDOWN: begin to stop the node. May be NULL: refused. */
    void (*stop_node)(void *context);

    /* Describe the cluster with the functions above. NULL, or nothing described: this node is one
     * of its own, with all slots. */
    void (*get_cluster)(void *context, struct resp_cluster *cluster);

    /* Is the slot led by another node, as far as this one knows? Then where clients reach it. Asked
     * for each command of a connection in cluster mode, so it should be a look into a table. May be
     * NULL: never. */
    bool (*find_leader)(void *context, uint16_t slot, struct resp_place *place);

    /* Something that a person may want to know, as a stable dotted name and a sentence
     * ("resp.client.killed"). May be NULL. */
    void (*event)(void *context, const char *name, const char *text);
};

/* ---- The group ------------------------------------------------------------------------------- */

struct resp_options {
    uint32_t server_count;   /* How many servers will be created; at most RESP_SERVER_COUNT_MAX. */
    const char *password;    /* NULL or "": none is needed. At most RESP_PASSWORD_SIZE_MAX bytes. */
    bool must_have_password; /* Other machines get here: CONFIG SET does not take it away. */
    bool is_connection_ordered; /* I5. CONFIG SET pipeline-order changes it. */
    /* The rest: 0 means the default. */
    uint32_t client_count_max;          /* 10000, or the limit if that is less. */
    uint32_t client_count_limit;        /* What CONFIG SET maxclients may go up to; INT32_MAX. */
    uint32_t idle_timeout_s;            /* Never. */
    uint32_t authentication_timeout_ms; /* 30000: connections of strangers are closed. */
    uint32_t stranger_count_max;        /* 1000: then the one that waited longest is closed. */
    uint64_t value_size_bytes_max;      /* 64 MiB: longer arguments are refused. */
    uint64_t request_size_bytes_max;    /* The former and 1 MiB. */
    uint64_t answer_size_bytes_max;     /* As that. What more is an error when shards answer it. */
    uint64_t output_pause_bytes;        /* 1 MiB unread: its requests wait. */
    uint64_t output_size_bytes_max;     /* 256 MiB unread: the client is cut off. */
    uint64_t client_memory_bytes_max;   /* 256 MiB for all buffers: the largest are cut off. */
    uint32_t pipeline_count_max;        /* 1024 requests under way per connection. */
    uint64_t pipeline_size_bytes_max;   /* 1 MiB of arguments under way per connection. */
    int64_t slow_log_threshold_us;      /* 10000; below 0: never. */
    uint32_t slow_log_count_max;        /* 128. */
};

#define RESP_SERVER_COUNT_MAX 64
#define RESP_PASSWORD_SIZE_MAX 512

struct resp_group;

/* Give a group. Errors: -EINVAL, with what is wrong in `options`. */
MUST_USE int resp_group_create(struct resp_group **group, const struct resp_options *options,
                               struct error *error);
/* After all its servers. */
void resp_group_destroy(struct resp_group *group);

/* ---- A server -------------------------------------------------------------------------------- */

struct resp_server;

/* Give the next server of the group, for connections of `loop`. It submits during ticks and at
 * their end, and writes each connection's replies of a tick at the end of it, all at once; so
 * create it before what drives the shard registers with the loop. Borrows `loop` and `backend`. */
struct resp_server *resp_server_create(struct resp_group *group, struct os_loop *loop,
                                       const struct resp_backend *backend);
/* Once stopped, or before its loop ever ran. */
void resp_server_destroy(struct resp_server *server);

/* Accept connections; may be called again for another address. Errors: as os_listener_open(). */
MUST_USE int resp_server_listen(struct resp_server *server,
                                const struct os_listener_options *options, struct error *error);
/* The listener made last, as a sibling for other servers, and for its port; NULL: none. */
const struct os_listener *resp_server_listener(const struct resp_server *server);

/* Stop accepting and reading; answer what is under way, then close. `stopped` is called once, from
 * the loop, when no connection and no request is left. Clients that do not read are cut off after
 * RESP_STOP_MS_MAX; requests without an answer are waited for without end. */
void resp_server_stop(struct resp_server *server, void (*stopped)(void *context), void *context);
#define RESP_STOP_MS_MAX 3000

/* ---- Statistics ------------------------------------------------------------------------------ */

/* Commands about data; others are neither. A transaction is one write if it has any. */
enum resp_kind { RESP_READ, RESP_WRITE, RESP_KIND_COUNT };

struct resp_statistics {
    uint64_t connection_count;
    uint64_t accepted_count;
    uint64_t refused_count; /* Too many clients. */
    uint64_t evicted_count; /* Cut off to stay within the memory or the output limit. */
    uint64_t command_count;
    uint64_t error_count;          /* Replies that are errors. */
    uint64_t error_count_at_reset; /* Of these, from before CONFIG RESETSTAT. */
    uint64_t pending_count;
    uint64_t input_bytes;
    uint64_t output_bytes;
    uint64_t buffer_bytes; /* Memory of connections' buffers. */
    uint64_t family_counts[KV_FAMILY_COUNT];
    struct histogram latencies_ns[KV_FAMILY_COUNT];
    struct histogram kind_latencies_ns[RESP_KIND_COUNT];
};

/* Any thread: the sums over the group's servers, a moment old. Large: not for a small stack. */
void resp_group_get_statistics(const struct resp_group *group, struct resp_statistics *statistics);

/* ---- The gateway's own commands -------------------------------------------------------------- */

/* For COMMAND and for the documentation; kv_command_at() has the others. In order of name. */
uint32_t resp_command_count(void);
const struct kv_command *resp_command_at(uint32_t index);

#endif
