/* SPDX-License-Identifier: Apache-2.0 */
/* shard_group: a group of three worlds (shard_world.h) with a network between them; for tests only. */
#ifndef CORE_SHARD_SHARD_GROUP_H
#define CORE_SHARD_SHARD_GROUP_H

#include "core/shard/shard_world.h"

enum { SHARD__GROUP_COUNT = 3 };

struct shard__group {
    struct shard__world *worlds[SHARD__GROUP_COUNT]; /* By number of the node, from 1. */
    bool is_cut_off[SHARD__GROUP_COUNT];
    uint32_t sent_counts[SHARD__GROUP_COUNT][8]; /* Messages to each, by kind. */
};

/* All are members from the start. */
struct shard__group shard__group_create(wal_shard id);
struct shard__group shard__group_create_with(wal_shard id, uint32_t floor_delay_ms);
void shard__group_destroy(struct shard__group *group);
/* Everything happens within a millisecond, in the order of the nodes. */
void shard__group_run(struct shard__group *group, uint32_t for_ms);
/* NULL: nobody is ready. */
struct shard__world *shard__group_leader(struct shard__group *group);
/* One that does not lead. */
struct shard__world *shard__group_follower(struct shard__group *group);
/* By the leader. */
void shard__group_put(struct shard__group *group, const char *key, const char *value);
/* Of the store; empty: there is none. The caller ends it. */
struct buffer shard__group_row(struct shard__world *world, struct bytes key);
void shard__group_expect_row(struct shard__world *world, struct bytes key, struct bytes value);

#endif
