/* SPDX-License-Identifier: Apache-2.0 */
/* What the answers of all nodes say together, and how it is told an operator
 * (docs/formats/control.md). About a shard its leader is believed, the one of the highest term if
 * several say that they lead; where none answered, what this node knows itself. */
#ifndef NODE_NODE_OVERVIEW_H
#define NODE_NODE_OVERVIEW_H

#include "driver/json/json.h"
#include "node/node_cluster.h"

struct overview_shard {
    struct slots_range range;
    const struct node_shard *here; /* NULL: this node has not opened it. */
    raft_node leader;              /* 0: not known. */
    bool is_told; /* By its leader; else members are as this node knows them, and no figures. */
    struct inquiry_replica replica;
};

struct overview_node {
    uint32_t id;
    enum member_state state;
};

#define OVERVIEW_NODE_COUNT_MAX (2 * NODE_PEER_COUNT_MAX)

struct overview {
    const struct node_cluster *cluster; /* NULL, as the survey: node_overview_detach(). */
    const struct node_survey *survey;
    struct slots map;
    struct overview_shard *shards; /* By place in the map. */
    uint32_t shard_count;
    /* Nodes that have replicas, or might have, in the order of their numbers. */
    struct overview_node nodes[OVERVIEW_NODE_COUNT_MAX];
    uint32_t node_count;
    uint32_t peer_count;
    uint32_t alive_count;
    uint32_t voters_wanted;
};

/* Borrows both until node_overview_destroy(). */
struct overview *node_overview_create(const struct node_cluster *cluster,
                                      const struct node_survey *survey);
/* It borrows nothing any more, and may go to another thread: what says so works there, and the end. */
void node_overview_detach(struct overview *overview);
void node_overview_destroy(struct overview *overview);

/* NULL: there is no such shard. */
const struct overview_shard *node_overview_find(const struct overview *overview, double id);
/* Of how many shards has the node a replica, and how many does it lead? */
void node_overview_count(const struct overview *overview, uint32_t node, uint32_t *replica_count,
                         uint32_t *leader_count);
bool node_overview_has_replica(const struct overview_shard *shard, uint32_t node);
/* Has this node the rows of the cluster, that is a replica of the first shard? */
bool node_overview_has_rows(const struct overview *overview);

/* Put into `answer`: the verdict, which all reads have (any thread); and what each verb answers besides. */
void node_overview_judge(const struct overview *overview, struct json *answer);
void node_overview_status(const struct overview *overview, struct json *answer);
void node_overview_nodes(const struct overview *overview, bool has_removed, struct json *answer);
/* 0: all; shards without a replica on the node are left out. Any thread. */
void node_overview_shards(const struct overview *overview, double shard, double node,
                          struct json *answer);
void node_overview_why(const struct overview *overview, double shard, struct json *answer);

/* node_plans.c: splits that are planned and not done. As a list, as sentences about those that take long
 * (0: of all shards), and as moves, which are appended. */
MUST_USE struct json *node_plans_list(const struct overview *overview);
void node_plans_why(const struct overview *overview, double shard, struct json *answer);
void node_plans_moves(const struct overview *overview, struct json *moves);

#endif
