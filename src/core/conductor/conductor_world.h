/* SPDX-License-Identifier: Apache-2.0 */
/* conductor_world: nodes with a conductor each, groups that do what the steps say, and a network that
 * loses and delays; for tests only.
 *
 * Time goes in steps of 10 ms. Whoever is to lead a group does so two steps later, unless its node is down;
 * a group whose leader is down elects a live voter after half a second. Groups have all nodes as voters, or
 * the first three after their own number. Everybody knows at once who leads the first shard, or only its voters do. */
#ifndef CORE_CONDUCTOR_CONDUCTOR_WORLD_H
#define CORE_CONDUCTOR_CONDUCTOR_WORLD_H

#include "base/random/random.h"
#include "core/conductor/conductor.h"

#define CONDUCTOR__WORLD_NODE_COUNT_MAX 8u
#define CONDUCTOR__WORLD_GROUP_COUNT_MAX 64u
#define CONDUCTOR__WORLD_MESSAGE_COUNT_MAX 4096u

struct conductor__world;

struct conductor__world_node {
    struct conductor__world *world;
    raft_node id;
    struct conductor *conductor;
    bool is_down;
    bool is_mute; /* What it sends is lost. */
    struct conductor_question question;
    bool is_asked;
};

struct conductor__world_group {
    struct placement_group_state state;
    uint64_t term;
    raft_node next_leader; /* 0: none is to take over. */
    uint64_t next_at_ms;
    uint64_t transfer_count;
    uint64_t size_bytes; /* Reports say so, more or less. */
    uint32_t load;
};

struct conductor__world_message {
    raft_node from;
    raft_node to;
    uint64_t at_ms;
    struct buffer bytes;
};

struct conductor__world {
    struct random random;
    uint64_t now_ms;
    struct slots map;
    struct placement_policy policy;
    struct placement_node_state states[CONDUCTOR__WORLD_NODE_COUNT_MAX];
    struct conductor__world_node nodes[CONDUCTOR__WORLD_NODE_COUNT_MAX];
    uint32_t node_count;
    struct conductor__world_group groups[CONDUCTOR__WORLD_GROUP_COUNT_MAX];
    uint32_t group_count;
    struct conductor_split planned;
    bool is_planned;
    uint32_t loss_percent;
    uint32_t delay_ms_max;
    bool are_others_blind;  /* Those without a replica of the first shard. */
    uint32_t noise_percent; /* Of sizes and loads. */
    /* If not 0: what each slot has, and takes in 1000 s, instead of what is said by group. */
    uint64_t slot_bytes;
    uint64_t slot_load;
    uint32_t hot_slot; /* It has this besides. */
    uint64_t hot_bytes;
    uint64_t hot_load;
    bool
        is_load_cut_by_bytes; /* Halves by load are those by size: what a leader knows may be so wrong. */
    bool is_without_sample; /* Who is asked for halves by load has seen too few requests. */
    uint64_t split_size_bytes;
    uint64_t split_load_per_s;
    uint32_t plan_count; /* Splits that a conductor wanted. */
    uint64_t plan_at_ms;
    struct conductor__world_message messages[CONDUCTOR__WORLD_MESSAGE_COUNT_MAX]; /* No order. */
    uint32_t message_count;
    uint64_t transfer_count; /* Steps that were begun. */
    uint64_t transfer_at_ms; /* The last one. */
    uint64_t configure_count;
    uint64_t split_count;
    uint64_t split_done_count;
    raft_node drained;
};

/* Groups are led by node 1. */
struct conductor__world *conductor__world_create(uint32_t node_count, uint32_t group_count,
                                                 uint64_t seed);
void conductor__world_destroy(struct conductor__world *world);
void conductor__world_run(struct conductor__world *world, uint64_t ms);
/* Whatever the conductor thinks. */
void conductor__world_lead(struct conductor__world *world, wal_shard group, raft_node node);
void conductor__world_set_down(struct conductor__world *world, raft_node node, bool is_down);
uint32_t conductor__world_led_count(const struct conductor__world *world, raft_node node);

#endif
