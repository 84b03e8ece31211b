/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the tests' world share. */
#ifndef CORE_ROUTE_ROUTE_WORLD_INTERNAL_H
#define CORE_ROUTE_ROUTE_WORLD_INTERNAL_H

#include "core/route/route_world.h"

#define ROUTE__WORLD_EFFECT_COUNT_MAX (1u << 20)

enum {
    ROUTE__WORLD_OPCODE_READ = 1,
    ROUTE__WORLD_OPCODE_WRITE = 2,
    ROUTE__WORLD_TOO_LARGE_BYTES = 1 << 16
};

/* A request of a client, for ever. */
struct world_call {
    enum world_kind kind;
    uint16_t key;
    uint32_t session; /* Index. */
    uint32_t ordinal; /* In its session. */
    uint64_t submitted_at_ms;
    uint64_t seen_position; /* The newest that anyone had been answered when it was submitted. */
    uint32_t split_count;   /* That it named the slots after. */
    int status;
    uint64_t position;        /* As its client was told. */
    uint64_t effect_position; /* In the log; 0: none. */
};

/* While it is under way; freed when done, so that whoever touches it afterwards is found out. */
struct world_live {
    struct shard_request request;
    struct list link; /* In the session's `live`. */
    struct list busy; /* In the session's `busy`, while refused. */
    struct world_session *session;
    uint32_t number;
    uint32_t size_bytes;
    uint64_t token;
    struct bytes arguments[2];
    uint8_t *padding;
};

struct world_session {
    struct shard_session session;
    struct list link; /* In the node's `sessions`. */
    struct list live;
    struct list busy;
    struct world *world;
    uint32_t node;
    uint32_t index;
    uint32_t request_count;
    uint32_t live_count;
    uint32_t under_way_count; /* Of these, not in `busy`: */
    uint32_t split_count;     /* all name the slots after so many splits. */
};

/* What a replica keeps of a request. */
struct world_entry {
    struct list link;
    struct shard_request *request;
    uint32_t epoch; /* The leadership that took it: a later one hands it back. */
    enum { ENTRY_OPEN, ENTRY_ELSEWHERE, ENTRY_WAITING } state;
    bool has_snapshot; /* Elsewhere: of the position that it reads. */
    uint64_t snapshot;
    uint64_t token;
    uint64_t origin; /* As it came: the request may be gone. */
    uint64_t sequence;
    struct bytes arguments[2];
};

struct world_replica {
    bool does_lead; /* Thinks so. */
    uint32_t epoch; /* Leaderships so far. */
    raft_node leader;
    uint64_t applied_position;
    struct list entries; /* In the order of submission. */
};

/* What came of the writes of an identity. */
struct world_identity {
    uint64_t origin; /* 0: nothing is here. */
    uint64_t sequence;
    uint64_t position;                       /* Of the newest effect; 0: none. */
    uint32_t entry_counts[WORLD_NODE_COUNT]; /* What replicas keep of them. */
};

struct world_packet {
    struct list link;
    uint64_t boot_id;
    uint64_t deliver_at_ms;
    struct buffer bytes;
};

struct world_wire {
    struct list packets;
    uint64_t newest_at_ms;
    bool is_deaf;
};

struct world_connection {
    bool is_up;
    /* When each side hears that it is not; 0: it has. The side of the smaller node first. */
    uint64_t notice_at_ms[2];
};

struct world_node {
    struct world *world;
    uint32_t index;
    struct route *route; /* NULL: down. */
    uint64_t boot_id;
    uint64_t origin;
    uint64_t wake_at_ms;
    bool is_touched;
    bool has_leader_changed;
    bool is_older;
    uint32_t split_count; /* Its map is that after so many splits. */
    struct list sessions;
    struct world_replica replica;
};

#define ROUTE__WORLD_FLOOR_COUNT_MAX 256u

struct world {
    struct world_options options;
    struct random random;
    uint64_t now_ms;
    uint64_t boot_count;
    const char *failure;
    char failure_text[256];

    struct world_node nodes[WORLD_NODE_COUNT];
    uint32_t leader;
    bool is_committing;
    bool is_full;
    bool is_busy;

    uint64_t *effects; /* The log: tokens of requests, 0 for a split. Position 1 is the first. */
    uint64_t effect_count;
    uint64_t effect_capacity;
    struct world_identity *identities; /* By hash; others come behind. At least half is empty. */
    uint64_t identity_count;
    uint64_t identity_capacity; /* A power of two. */
    uint64_t answered_position;
    uint64_t split_positions[WORLD_SPLIT_COUNT_MAX];
    uint32_t split_count;

    /* What gateways, of all lives, need no more: no replica remembers it. */
    struct shard_floor floors[ROUTE__WORLD_FLOOR_COUNT_MAX];
    uint32_t floor_count;

    struct world_call *calls;
    uint32_t call_count;
    uint32_t call_capacity;
    uint32_t session_count;
    uint32_t live_count;
    uint32_t *session_ordinals; /* The newest whose effect is in the log, + 1. */
    uint32_t session_capacity;

    struct world_wire wires[WORLD_NODE_COUNT][WORLD_NODE_COUNT];
    struct world_connection connections[WORLD_NODE_COUNT][WORLD_NODE_COUNT]; /* left < right */
    struct world_packet *delayed; /* One that comes again some time. */
    uint32_t delayed_from;
    uint32_t delayed_to;
    uint64_t message_count;
};

void route__world_fail(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool route__world_chance(struct world *world, uint32_t permille);

/* The first slot after the last one, after so many splits. */
uint16_t route__world_end_slot(uint32_t split_count);
/* Splits up to a position of the log. */
uint32_t route__world_splits_at(const struct world *world, uint64_t position);

/* route_world_replica.c */
/* Splits that the replica has applied. */
uint32_t route__world_applied_splits(const struct world_node *node);
void route__world_replica_init(struct world_node *node);
/* Forget everything: the node is killed. */
void route__world_replica_drop(struct world_node *node);
int route__world_submit(struct world_node *node, struct shard_request *request,
                        const struct reply *reply);
void route__world_set_floor(struct world *world, const struct shard_floor *floor);
void route__world_replica_step(struct world_node *node);
uint64_t route__world_window_start(const struct world *world);

/* route_world_network.c */
void route__world_network_init(struct world *world);
void route__world_network_deinit(struct world *world);
/* Nothing comes again any more. */
void route__world_network_heal(struct world *world);
int route__world_send(struct world_node *node, uint32_t to, const struct bytes *pieces,
                      uint32_t piece_count);
void route__world_network_step(struct world *world);
void route__world_network_killed(struct world *world, uint32_t node);

#endif
