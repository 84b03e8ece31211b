/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster as it is being described to a client. Folder-private. */
#ifndef GATEWAY_RESP_RESP_CLUSTER_H
#define GATEWAY_RESP_RESP_CLUSTER_H

#include "gateway/resp/resp.h"

struct connection;

enum { CLUSTER_NODE_ID_SIZE = 41 };

struct cluster_node {
    struct resp_cluster_node node; /* Its host is below. */
    char host[OS_HOST_SIZE];
    char id[CLUSTER_NODE_ID_SIZE]; /* 40 hexadecimal digits: the node's id, then the cluster's. */
    uint32_t led_slot_count;
};

struct cluster_range {
    uint16_t first;
    uint16_t last;
    uint32_t leader; /* A node that is there. */
    uint32_t replica_count;
    uint32_t replicas[RESP_CLUSTER_REPLICA_COUNT_MAX]; /* Nodes that are there. */
};

struct resp_cluster {
    char id[RESP_CLUSTER_ID_SIZE];
    uint64_t epoch;
    const struct cluster_node *self;
    struct cluster_node *nodes;
    uint32_t node_count;
    uint32_t node_capacity;
    struct cluster_range *ranges; /* Ascending, without overlaps. */
    uint32_t range_count;
    uint32_t range_capacity;
    uint32_t leaderless_slot_count; /* Of which no leader is known: nobody serves them now. */
};

/* Ask the backend; a node that is alone is a cluster of one. Ended with resp__cluster_deinit(). */
void resp__cluster_describe(const struct connection *connection, struct resp_cluster *cluster);
void resp__cluster_deinit(struct resp_cluster *cluster);
/* NULL: there is none. */
struct cluster_node *resp__cluster_node(const struct resp_cluster *cluster, uint32_t id);

#endif
