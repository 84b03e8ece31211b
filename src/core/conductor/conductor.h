/* SPDX-License-Identifier: Apache-2.0 */
/* conductor: what the leaders of groups tell the conductor, and what it tells them, as bytes.
 * Layer: core.
 *
 * The conductor leads one group; most others are led elsewhere. Each node reports the groups that it
 * leads, and carries out the steps that it is sent. Both may be lost, come late or twice:
 *
 *   - a report is the newest that the conductor has of a group until it is too old;
 *   - a step says of which members it was thought, and is not taken by a group that has others. What
 *     is lost is thought of again.
 *
 * Pure functions. Bytes: docs/formats/conductor.md. */
#ifndef CORE_CONDUCTOR_CONDUCTOR_H
#define CORE_CONDUCTOR_CONDUCTOR_H

#include "base/bytes/bytes.h"
#include "core/placement/placement.h"

#define CONDUCTOR_MESSAGE_GROUP_COUNT_MAX 1024u

enum conductor_message_kind {
    CONDUCTOR_MESSAGE_REPORT = 1,
    CONDUCTOR_MESSAGE_STEP = 2,
};

struct conductor_message {
    enum conductor_message_kind kind;
    struct placement_step step; /* STEP, for the one group. */
    uint32_t group_count;       /* Of a STEP: 1. */
    struct bytes groups;        /* For conductor_message_next(). */
};

/* Begin a report; groups follow, at most CONDUCTOR_MESSAGE_GROUP_COUNT_MAX. Appends. */
void conductor_report_begin(struct buffer *target, uint32_t group_count);
/* The leader is whoever sends it: not part of the message. */
void conductor_report_add(struct buffer *target, const struct placement_group_state *group);
/* A step for a group, with its members as the conductor knows them. Appends. */
void conductor_step_encode(struct buffer *target, const struct placement_step *step,
                           const struct placement_group_state *group);

/* ERROR_PROTOCOL unless every byte is as it must be, those of all groups too. `message` borrows. */
MUST_USE int conductor_message_decode(struct bytes source, struct conductor_message *message);
/* Of what was accepted: take the first group off. Its leader is 0. */
void conductor_message_next(struct conductor_message *message, struct placement_group_state *group);

/* Have they the same members, in the same order? */
bool conductor_has_same_members(const struct placement_group_state *left,
                                const struct placement_group_state *right);

#endif
