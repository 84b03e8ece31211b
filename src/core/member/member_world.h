/* SPDX-License-Identifier: Apache-2.0 */
/* member_world: many members on a simulated network; for tests only.
 *
 * Nodes are numbered from 1. Messages take a random time, may be lost, and reach only whom they can;
 * a paused node keeps what arrives until it goes on. A run is a function of the seed. */
#ifndef CORE_MEMBER_MEMBER_WORLD_H
#define CORE_MEMBER_MEMBER_WORLD_H

#include "core/member/member.h"

struct member__world;

struct member__world_options {
    uint32_t node_count;     /* In the roster at the start. */
    uint32_t node_count_max; /* 0: node_count. */
    uint32_t running_count;  /* The first of them run; the others are only in the roster. */
    uint64_t seed;
    uint32_t loss_permille;
    uint32_t latency_us_min;
    uint32_t latency_us_max;
    void *context; /* Of the callbacks. */
    void (*event)(void *context, uint64_t now_ms, member_node observer,
                  const struct member_event *event);
    /* May be NULL. Every message, before it is known whether it will arrive. */
    void (*sent)(void *context, uint64_t now_ms, member_node from, const struct member_send *send);
};

struct member__world *member__world_create(const struct member__world_options *options);
void member__world_destroy(struct member__world *world);

uint64_t member__world_now_ms(const struct member__world *world);
void member__world_run(struct member__world *world, uint64_t duration_ms);

bool member__world_is_running(const struct member__world *world, member_node node);
bool member__world_is_paused(const struct member__world *world, member_node node);
/* NULL when it does not run. */
struct member *member__world_member(struct member__world *world, member_node node);

/* All steps of the given node go through here; the message of a RECEIVE comes from `node`. Returns
 * the status of the step. */
int member__world_step(struct member__world *world, member_node at, struct member_input input);

void member__world_crash(struct member__world *world, member_node node);
/* With the wall clock `clock_back_ms` behind what it should be. */
void member__world_restart(struct member__world *world, member_node node, uint64_t clock_back_ms);
void member__world_pause(struct member__world *world, member_node node);
void member__world_resume(struct member__world *world, member_node node);
void member__world_leave(struct member__world *world, member_node node);
/* Put a new node into the roster of every running one, and start it with the same roster. */
void member__world_join(struct member__world *world, member_node node);
void member__world_remove(struct member__world *world, member_node node);

void member__world_set_loss(struct member__world *world, uint32_t permille);
void member__world_set_latency(struct member__world *world, uint32_t us_min, uint32_t us_max);
/* Messages from one to the other do (not) pass. */
void member__world_cut(struct member__world *world, member_node from, member_node to, bool is_cut);
void member__world_heal(struct member__world *world);
bool member__world_is_cut(const struct member__world *world, member_node from, member_node to);

/* What a node says of itself when it starts; its address is as "node-007:7000". */
struct member_meta member__world_meta(const struct member__world *world, member_node node);

#endif
