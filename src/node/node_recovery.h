/* SPDX-License-Identifier: Apache-2.0 */
/* What the start of the replicas and their service share. */
#ifndef NODE_NODE_RECOVERY_H
#define NODE_NODE_RECOVERY_H

#include "node/node_cluster.h"

enum { NODE_REPLAY_REPORT_INTERVAL_MS = 1000 };

/* Open all replicas over the store. On failure none is open. */
MUST_USE int node__open_replicas(struct node_shards *shards, struct store *store,
                                 const struct node_options *options, struct error *error);
void node__close_replicas(struct node_shards *shards);

/* shard_host.run_parts() */
void node__run_parts(void *context, void (*run)(void *argument, uint32_t part), void *argument,
                     uint32_t part_count);

/* Wait for a batch that is under way, and let its shard know. False: there is none. */
bool node__wait_for_store(struct node_shards *shards);
void node__finish_writes(struct node_shards *shards);

#endif
