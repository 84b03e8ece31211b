/* SPDX-License-Identifier: Apache-2.0 */
/* What the answers of all nodes say together, and how it is told an operator
 * (docs/formats/control.md). About a shard its leader is believed, the one of the highest term if
 * several say that they lead; where none answered, what this node knows itself.
 *
 * An overview is begun on the loop, with copies of what only that may look at, and few of them: the
 * map, the nodes, the planned splits. The rest, which grows with the shards, is done by settling it,
 * on any thread, and so is telling it.
 *
 * What holds: nodes and the map are as they were when it was begun; about each shard of that map there
 * is what one node said of it since the survey was started (node_cluster.h), or nothing. A shard that
 * became two meanwhile may be told of as it was before, with the slots that it has left; one that is not in the
 * map is left out. So shards have all slots, each once. */
#ifndef NODE_NODE_OVERVIEW_H
#define NODE_NODE_OVERVIEW_H

#include "driver/json/json.h"
#include "node/node_cluster.h"

struct overview_shard {
    struct slots_range range;
    raft_node leader; /* 0: not known. */
    bool is_told;     /* By its leader; else members are as this node knows them, and no figures. */
    struct inquiry_replica replica;
};

/* As gossip has it; and of all shards. */
struct overview_node {
    uint32_t id;
    enum member_state state;
    bool is_heard_of;
    bool is_full; /* Its disk, as it says: it refuses writes that need space. */
    uint64_t silent_ms;
    uint32_t replica_count;
    uint32_t leader_count;
    uint64_t lag_ms; /* The longest of its replicas'; INQUIRY_UNKNOWN. */
};

/* A split that is decided, and perhaps not done. */
struct overview_plan {
    struct system_planned planned;
    uint32_t end; /* Of the child. */
    uint64_t age_ms;
};

struct overview {
    /* From node_overview_begin() on. */
    struct node_survey *survey;
    uint32_t self;
    char cluster[TLS_CLUSTER_TEXT_SIZE];
    struct system_settings settings;
    uint32_t voters_wanted;
    uint32_t peer_count;
    uint32_t alive_count;                           /* This node is one of them. */
    uint32_t state_counts[SYSTEM_NODE_REMOVED + 1]; /* The same. */
    /* Each node as the rows of the first shard have it, or, without a replica of that, the roster: in the order
     * of their numbers, those that were removed, too. */
    struct system_node *written;
    uint32_t written_count;
    struct overview_plan *plans;
    uint32_t plan_count;
    struct slots map;
    struct overview_node *nodes; /* In the order of their numbers. */
    uint32_t node_count;
    uint32_t node_capacity;
    /* From node_overview_settle() on. */
    struct inquiry_message *messages; /* By place in the survey; of those that came. */
    struct overview_shard *shards;    /* By place in the map. */
    uint32_t shard_count;
};

/* On the loop. Takes the survey. */
struct overview *node_overview_begin(const struct node_cluster *cluster,
                                     struct node_survey *survey);
/* All that follows: any thread. Once, before anything is asked. */
void node_overview_settle(struct overview *overview);
void node_overview_destroy(struct overview *overview);

/* NULL: there is no such shard. */
const struct overview_shard *node_overview_find(const struct overview *overview, double id);
/* A shard whose leader did not tell of it, so that its members are not known for sure; 0: there is none. */
wal_shard node_overview_untold(const struct overview *overview);
/* A shard that has a leader, and no majority of voters that count without the node, which runs; 0: there is
 * none. Of shards that nobody told of it says nothing. */
wal_shard node_overview_needs(const struct overview *overview, uint32_t node);
/* NULL: nobody has heard of it, and it has no replica. */
const struct overview_node *node_overview_node(const struct overview *overview, uint32_t id);
/* As `written` has it; NULL: no such node. */
const struct system_node *node_overview_written(const struct overview *overview, uint32_t id);
bool node_overview_has_replica(const struct overview_shard *shard, uint32_t node);
/* Does the node say that the free space of its disk is below the reserve? False when it said nothing. */
bool node_overview_is_full(const struct overview *overview, uint32_t node);

/* ---- node_tables.c: put into `answer` -------------------------------------------------------- */

/* The verdict, which all reads have; and what each verb answers besides. */
void node_overview_judge(const struct overview *overview, struct json *answer);
void node_overview_status(const struct overview *overview, struct json *answer);
void node_overview_nodes(const struct overview *overview, bool has_removed, struct json *answer);
/* What these two tell of shards goes to `items` (json_write_item()): it is megabytes when there are thousands.
 * 0: all; shards without a replica on the node are left out. */
void node_overview_shards(const struct overview *overview, double shard, double node,
                          struct json *answer, struct buffer *items);
void node_overview_why(const struct overview *overview, double shard, struct json *answer,
                       struct buffer *items);

/* ---- node_balance.c: what is not where it would best be ---------------------------------------- */

/* As a list of sentences; 0: of all shards together, and of nodes. */
void node_balance_why(const struct overview *overview, double shard, struct json *answer);

/* ---- node_plans.c: splits that are planned and not done -------------------------------------- */

/* On the loop, of node_overview_begin(). */
void node_plans_take(struct overview *overview, const struct system *system);
/* As a list, as sentences about those that take long (0: of all shards), and as moves, which are appended. */
void node_plans_list(const struct overview *overview, struct json *answer);
void node_plans_why(const struct overview *overview, double shard, struct json *answer);
void node_plans_moves(const struct overview *overview, struct json *moves);

#endif
