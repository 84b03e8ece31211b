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
                                      struct error *error);
void node__shards_init(struct node_shards *shards);
void node__shards_deinit(struct node_shards *shards);
void node__close_replicas(struct node_shards *shards);

/* shard_host.run_parts() */
void node__run_parts(void *context, void (*run)(void *argument, uint32_t part), void *argument,
                     uint32_t part_count);

/* ---- node_recall.c --------------------------------------------------------------------------- */

/* What was noted before; after the replicas were opened. Without a directory to write to it notes nothing. */
struct node_recall *node__recall_create(struct node_shards *shards);
void node__recall_destroy(struct node_recall *recall);
/* shard_host.note_found() and recall_found() */
void node__note_found(void *context, const struct recall_entry *entry);
bool node__recall_found(void *context, struct recall_entry *entry);
/* Each tick of the service: in time, what was noted before it is forgotten. Nothing is noted while the
 * disk is full. */
void node__recall_tick(struct node_recall *recall, uint64_t now_ms, bool is_disk_full);

/* ---- node_recovery.c ------------------------------------------------------------------------- */

/* A node that served has something of each shard in its log, at least of those that it has rows of. Has it
 * lost what it had of this one? `made_count`: shards that the cluster was made with; `has_any`: the log has
 * something of some shard. */
bool node__is_log_gone(const struct wal *wal, wal_shard id, raft_index stored_index,
                       uint32_t made_count, bool has_any);

/* ---- node_shard.c ---------------------------------------------------------------------------- */

/* Wait for a batch that is under way, and let its shard know. False: there is none. */
bool node__wait_for_store(struct node_shards *shards);
void node__finish_writes(struct node_shards *shards);

/* ---- node_shares.c --------------------------------------------------------------------------- */

struct node_shares *node__shares_create(struct node_shards *shards);
void node__shares_destroy(struct node_shares *shares);
/* What the replica at that place, the next one, may have. */
struct shard_limits node__shares_add(struct node_shares *shares, uint32_t place);
/* All that there are have the same, until it is known what they need: a replay has no rounds. */
void node__shares_divide(struct node_shares *shares);
/* Its figures were published. */
void node__shares_note(struct node_shares *shares, uint32_t place);
/* Each tick; returns when to be called again. */
uint64_t node__shares_tick(struct node_shares *shares, uint64_t now_ms);

/* ---- node_figures.c -------------------------------------------------------------------------- */

/* Tell of what has changed, now and then. Returns when to be called again. */
uint64_t node__figures_tick(struct node_shards *shards, uint64_t now_ms);
/* Tell of one now. */
void node__figures_publish(struct node_shard *shard);

/* ---- node_map.c ------------------------------------------------------------------------------ */

void node__map_init(struct node_shards *shards, const struct slots *slots);
void node__map_deinit(struct node_map *map);
/* Reactor 0, now and then: free those that nobody can hold. */
void node__map_free_old(struct node_map *map);
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
