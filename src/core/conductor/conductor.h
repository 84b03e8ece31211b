/* SPDX-License-Identifier: Apache-2.0 */
/* conductor: what the leaders of groups tell the conductor, and what it tells them, as bytes.
 * Layer: core.
 *
 * The conductor leads one group; most others are led elsewhere. Each node reports the groups that it
 * leads, and carries out the steps that it is sent. Both may be lost, come late or twice:
 *
 *   - a report is the newest that the conductor has of a group until it is too old;
 *   - a step says of which members it was thought, and is not taken by a group that has others. What
 *     is lost is thought of again;
 *   - what is said of a split that was planned is said again until the map has it.
 *
 * And every node tells the others the newest map that it knows (decision 18): when they connect, and when
 * it learns of a newer one.
 *
 * Pure functions. Bytes: docs/formats/conductor.md. */
#ifndef CORE_CONDUCTOR_CONDUCTOR_H
#define CORE_CONDUCTOR_CONDUCTOR_H

#include "base/bytes/bytes.h"
#include "core/placement/placement.h"
#include "core/slots/slots.h"

#define CONDUCTOR_MESSAGE_GROUP_COUNT_MAX 1024u

enum conductor_message_kind {
    CONDUCTOR_MESSAGE_REPORT = 1,
    CONDUCTOR_MESSAGE_STEP = 2,
    CONDUCTOR_MESSAGE_MAP = 3,
    CONDUCTOR_MESSAGE_SPLIT = 4,
};

/* For the leader of the parent. */
struct conductor_split {
    wal_shard parent;
    wal_shard child;
    uint32_t first; /* Of the child's slots. */
};

struct conductor_message {
    enum conductor_message_kind kind;
    struct placement_step step;   /* STEP, for the one group. */
    struct conductor_split split; /* SPLIT. */
    uint32_t group_count;         /* Of a STEP: 1; of a MAP and a SPLIT: 0. */
    struct bytes groups;          /* For conductor_message_next(); of a MAP: for slots_decode(). */
};

/* Begin a report; groups follow, at most CONDUCTOR_MESSAGE_GROUP_COUNT_MAX. Appends. */
void conductor_report_begin(struct buffer *target, uint32_t group_count);
/* The leader is whoever sends it: not part of the message. */
void conductor_report_add(struct buffer *target, const struct placement_group_state *group);
/* A step for a group, with its members as the conductor knows them. Appends. */
void conductor_step_encode(struct buffer *target, const struct placement_step *step,
                           const struct placement_group_state *group);

void conductor_map_encode(struct buffer *target, const struct slots *slots);
void conductor_split_encode(struct buffer *target, const struct conductor_split *split);

/* ERROR_PROTOCOL unless every byte is as it must be, those of all groups too, but for what a MAP has
 * (slots_decode() looks at that). `message` borrows. */
MUST_USE int conductor_message_decode(struct bytes source, struct conductor_message *message);
/* Of what was accepted: take the first group off. Its leader is 0. */
void conductor_message_next(struct conductor_message *message, struct placement_group_state *group);

/* Have they the same members, in the same order? */
bool conductor_has_same_members(const struct placement_group_state *left,
                                const struct placement_group_state *right);

#endif
