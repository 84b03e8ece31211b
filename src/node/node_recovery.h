/* SPDX-License-Identifier: Apache-2.0 */
/* What the start of the replicas and their service share. */
#ifndef NODE_NODE_RECOVERY_H
#define NODE_NODE_RECOVERY_H

#include "node/node_cluster.h"

enum { NODE_REPLAY_REPORT_INTERVAL_MS = 1000 };

/* Open those replicas that the store has, and those of the shards that the cluster was made with. On failure
 * none is open. */
MUST_USE int node__open_replicas(struct node_shards *shards, struct error *error);
/* Open one more, at the end of the items, which it does not count yet; NULL: `error` says why. It is not
 * started. */
struct node_shard *node__open_replica(struct node_shards *shards, const struct slots_range *range,
                                      uint64_t memory_size_bytes, struct error *error);
/* Of a replica's part of the memory. */
uint64_t node__cache_size_bytes(uint64_t memory_size_bytes);
void node__close_replicas(struct node_shards *shards);

/* shard_host.run_parts() */
void node__run_parts(void *context, void (*run)(void *argument, uint32_t part), void *argument,
                     uint32_t part_count);

/* Wait for a batch that is under way, and let its shard know. False: there is none. */
bool node__wait_for_store(struct node_shards *shards);
void node__finish_writes(struct node_shards *shards);

/* ---- node_map.c ------------------------------------------------------------------------------ */

void node__map_init(struct node_shards *shards, const struct slots *slots);
void node__map_deinit(struct node_map *map);
/* shard_host.split() */
void node__shard_split(void *context, struct shard *shard, const struct slots_range *child);

/* ---- node_birth.c ---------------------------------------------------------------------------- */

/* Before the log is another thread's: remember what it has of shards that are not open. */
void node__keep_found(struct node_shards *shards);
/* While the log is replayed: open the children that the store has by now. */
MUST_USE int node__bear_before_service(struct node_shards *shards, struct error *error);
/* Each tick. Returns when to be called again; LOOK_INTERVAL_MS is soon enough for the rest. */
uint64_t node__look_at_map(struct node_shards *shards, uint64_t now);

#endif
