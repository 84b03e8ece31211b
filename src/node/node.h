/* SPDX-License-Identifier: Apache-2.0 */
/* node: the process that serves. Layer: node.
 *
 * Wires the cores to the machine: reactors (an event loop per thread, each with its listeners), the
 * log writer's thread, the disk pool, the store's maintenance thread. What a node decides is
 * decided in the cores; what is here only carries.
 *
 *   reactor 0   owns the data shards; serves connections, signals
 *   reactor n   serves connections; its requests go to reactor 0 as messages and come back so
 *   log writer  writes and flushes what the shards persist, one flush for all that waits
 *   disk pool   reads that are not in memory
 *   lookups     ask the resolver for names of nodes, a thread each
 *   admin       answers about the node over HTTP
 *   maintenance flushes the store, releases the log behind it, watches the free space
 *
 * One node per process. node_run() blocks in the calling thread, which becomes reactor 0. */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error/error.h"
#include "driver/json/json.h"
#include "driver/os/os.h"

/* Exit codes of `tutti start`, also in its help. */
enum node_exit {
    NODE_EXIT_OK = 0,
    NODE_EXIT_START = 1,   /* It did not start; the message says why. */
    NODE_EXIT_USAGE = 2,   /* Flags, variables or the configuration file are wrong. */
    NODE_EXIT_STORAGE = 3, /* A flush or the store failed while serving: stopped at once. */
};

struct node_options {
    const char *data_directory;
    const char *configuration_file; /* For INFO; NULL: none. */
    struct os_address redis;
    struct os_address admin;
    struct os_address peer;    /* Where other nodes reach this one. */
    const char *advertise;     /* HOST:PORT that they are told; NULL: `peer`. */
    const char *zone;          /* "": none. */
    const char *join;          /* HOST:PORT with commas between; NULL: none. */
    const char *join_token;    /* With `join`. */
    uint32_t replica_count;    /* 1, 3 or 5; 0: as it is. */
    uint32_t shard_count;      /* Of a cluster that is made now; 0: 1. */
    uint64_t split_size_bytes; /* A shard that is larger becomes two; 0: none does. */
    uint64_t split_load_per_s; /* The same, by requests per second. */
    uint32_t reactor_count;
    uint64_t memory_size_bytes; /* Caches and buffers together. */
    const char *password;       /* NULL: none. */
    bool is_flush_always;       /* False: about once a second, at the risk of that second. */
    bool is_connection_ordered; /* Of a pipeline over several shards: decision 19. */
    struct os_log *log;
};

/* A file in the data directory: the address of the admin port, a blank, and what `run` of /status
 * is if that is still the same start. */
#define NODE_ADMIN_FILE_NAME "admin"
#define NODE_MEMORY_SIZE_BYTES_MIN (64ull << 20)
#define NODE_REACTOR_COUNT_MAX 64

/* How many reactors a machine with so many processors gets when nobody says. */
uint32_t node_default_reactor_count(uint32_t processor_count);

/* Serve until SIGTERM or SIGINT; either also breaks a start off. Returns enum node_exit; what went wrong is in `error`. */
MUST_USE int node_run(const struct node_options *options, struct error *error);

/* Verify the log and the store of a stopped node, changing nothing. Writes a report for people to
 * standard output. ERROR_CORRUPT when something is damaged; -EBUSY when a node runs on it; -ENOENT
 * when there is no node's data. */
MUST_USE int node_check(const char *data_directory, struct error *error);

/* ---- Recovery of a lost majority ------------------------------------------------------------- */

/* What is left of a cluster that has lost a majority of its nodes for good goes on with one of
 * them.
 *
 * Works on the data directory of a stopped node, which holds a replica of every shard. It makes
 * that node the only member of each group, by an entry behind all others in its log, of a new term:
 * what the log has before it becomes committed, what only the lost nodes had is gone. Whatever they
 * still have, they must never take part again: from its next start on the node refuses every other
 * one of the cluster until the rows of the cluster say that all of them are removed, and a record
 * says why. docs/decisions/0017 has the reasons.
 *
 * Invariants
 *   I1. Nothing changes before node_salvage_carry_out(), but for what any start does to a directory.
 *   I2. After a crash in it, calling it again ends what was begun.
 *
 * One thread; blocks. */
struct node_salvage;

/* Take the directory, and look what it has. -EBUSY: a node runs on it; -ENOENT; ERROR_CORRUPT;
 * -EPERM: it cannot be done, or there is nothing to do, and the message says why. */
MUST_USE int node_salvage_open(struct node_salvage **salvage, const char *directory,
                               struct os_log *log, struct error *error);
void node_salvage_close(struct node_salvage *salvage);

/* What would be done, as `tutti recover --json` shows it (docs/operations.md). The caller's. */
struct json *node_salvage_plan(const struct node_salvage *salvage);

MUST_USE int node_salvage_carry_out(struct node_salvage *salvage, struct error *error);

#endif
