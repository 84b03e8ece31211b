/* SPDX-License-Identifier: Apache-2.0 */
/* Integers are little-endian.
 *
 *   offset  size  meaning
 *        0     1  version of this format, 1
 *        1     1  kind: 1 report, 2 step, 3 map, 4 split, 5 question, 6 halves, 7 office; from 3 on
 *                  zeros follow
 *        2     1  of a step: its kind, from 0 in the order of placement.h; of a report: 0
 *        3     1  of a step: its reason, the same; of a report: 0
 *        4     4  number of groups; of a step: 1
 *        8     4  of a step: node; of a report: 0
 *       12     4  of a step: the other node; of a report: 0
 *       16        groups
 *
 * A group    0     4  id
 *            4     1  number of voters, at most 7
 *            5     1  number of learners, at most 8
 *            6     1  flags: 1 it is changing
 *            7     1  learners that have caught up: bit 0 for the first, …
 *            8     8  size in bytes
 *           16     4  load
 *           20     4  zero
 *           24        voters (4 each), learners (4 each)
 *
 * A map      0        for each range in order: shard (4), first slot (4), the slot behind the last (4)
 * A split    0     4  the parent
 *            4     4  the child's first slot
 *            8     4  the child, not 0
 * A question 0     4  why: 1 size, 2 load
 *            4     4  the group, not 0
 *            8     4  its first slot
 *           12     4  the slot behind its last one
 * Halves     0    16  the question
 *           16     4  the first slot of the upper part: behind the first, below the end
 *           20     4  zero
 *           24     8  the lower part: bytes, or requests that were sampled
 *           32     8  the upper part */
#include "core/conductor/conductor.h"

#include "base/assert/assert.h"
#include "base/endian/endian.h"

enum {
    VERSION = 1,
    HEAD_SIZE_BYTES = 16,
    GROUP_HEAD_SIZE_BYTES = 24,
    FLAG_IS_CHANGING = 1,
    SPLIT_SIZE_BYTES = 12,
    QUESTION_SIZE_BYTES = 16,
    HALVES_SIZE_BYTES = 40,
    KIND_COUNT = PLACEMENT_TRANSFER_LEADER + 1,
};

_Static_assert(PLACEMENT_LEARNER_COUNT_MAX <= 8, "a bit of a byte for each");

/* ---- Writing --------------------------------------------------------------------------------- */

static void begin(struct buffer *target, enum conductor_message_kind kind, uint32_t group_count,
                  const struct placement_step *step)
{
    uint8_t *head = buffer_extend(target, HEAD_SIZE_BYTES);
    head[0] = VERSION;
    head[1] = (uint8_t)kind;
    head[2] = step == NULL ? 0 : (uint8_t)step->kind;
    head[3] = step == NULL ? 0 : (uint8_t)step->reason;
    endian_put_u32_le(head + 4, group_count);
    endian_put_u32_le(head + 8, step == NULL ? 0 : step->node);
    endian_put_u32_le(head + 12, step == NULL ? 0 : step->other);
}

void conductor_report_begin(struct buffer *target, uint32_t group_count)
{
    ASSERT(group_count <= CONDUCTOR_MESSAGE_GROUP_COUNT_MAX);
    begin(target, CONDUCTOR_MESSAGE_REPORT, group_count, NULL);
}

void conductor_report_add(struct buffer *target, const struct placement_group_state *group)
{
    uint32_t member_count = (uint32_t)group->voter_count + group->learner_count;
    uint8_t *place = buffer_extend(target, GROUP_HEAD_SIZE_BYTES + 4 * (size_t)member_count);
    uint8_t caught_up = 0;
    for (uint32_t i = 0; i < group->learner_count; i++) {
        caught_up |= (uint8_t)(group->learners[i].is_caught_up << i);
    }
    endian_put_u32_le(place, group->id);
    place[4] = group->voter_count;
    place[5] = group->learner_count;
    place[6] = group->is_changing ? FLAG_IS_CHANGING : 0;
    place[7] = caught_up;
    endian_put_u64_le(place + 8, group->size_bytes);
    endian_put_u32_le(place + 16, group->load);
    endian_put_u32_le(place + 20, 0);
    place += GROUP_HEAD_SIZE_BYTES;
    for (uint32_t i = 0; i < group->voter_count; i++, place += 4) {
        endian_put_u32_le(place, group->voters[i]);
    }
    for (uint32_t i = 0; i < group->learner_count; i++, place += 4) {
        endian_put_u32_le(place, group->learners[i].node);
    }
}

void conductor_step_encode(struct buffer *target, const struct placement_step *step,
                           const struct placement_group_state *group)
{
    ASSERT(step->group == group->id);
    begin(target, CONDUCTOR_MESSAGE_STEP, 1, step);
    conductor_report_add(target, group);
}

void conductor_map_encode(struct buffer *target, const struct slots *slots)
{
    begin(target, CONDUCTOR_MESSAGE_MAP, 0, NULL);
    slots_encode(slots, target);
}

void conductor_split_encode(struct buffer *target, const struct conductor_split *split)
{
    begin(target, CONDUCTOR_MESSAGE_SPLIT, 0, NULL);
    uint8_t *place = buffer_extend(target, SPLIT_SIZE_BYTES);
    endian_put_u32_le(place, split->parent);
    endian_put_u32_le(place + 4, split->first);
    endian_put_u32_le(place + 8, split->child);
}

static void append_question(struct buffer *target, const struct conductor_question *question)
{
    uint8_t *place = buffer_extend(target, QUESTION_SIZE_BYTES);
    endian_put_u32_le(place, (uint32_t)question->reason);
    endian_put_u32_le(place + 4, question->group);
    endian_put_u32_le(place + 8, question->first);
    endian_put_u32_le(place + 12, question->end);
}

void conductor_question_encode(struct buffer *target, const struct conductor_question *question)
{
    begin(target, CONDUCTOR_MESSAGE_QUESTION, 0, NULL);
    append_question(target, question);
}

void conductor_halves_encode(struct buffer *target, const struct conductor_halves *halves)
{
    begin(target, CONDUCTOR_MESSAGE_HALVES, 0, NULL);
    append_question(target, &halves->question);
    uint8_t *place = buffer_extend(target, HALVES_SIZE_BYTES - QUESTION_SIZE_BYTES);
    endian_put_u32_le(place, halves->slot);
    endian_put_u32_le(place + 4, 0);
    endian_put_u64_le(place + 8, halves->lower);
    endian_put_u64_le(place + 16, halves->upper);
}

void conductor_office_encode(struct buffer *target)
{
    begin(target, CONDUCTOR_MESSAGE_OFFICE, 0, NULL);
}

/* ---- Reading --------------------------------------------------------------------------------- */

static size_t group_size(const uint8_t *group)
{
    return GROUP_HEAD_SIZE_BYTES + 4 * ((size_t)group[4] + group[5]);
}

static bool is_group_valid(struct bytes source)
{
    if (source.size_bytes < GROUP_HEAD_SIZE_BYTES) {
        return false;
    }
    const uint8_t *group = source.data;
    return group[4] <= PLACEMENT_VOTER_COUNT_MAX && group[5] <= PLACEMENT_LEARNER_COUNT_MAX &&
           group_size(group) <= source.size_bytes && endian_get_u32_le(group) != 0 &&
           group[6] <= FLAG_IS_CHANGING && group[7] >> group[5] == 0 &&
           endian_get_u32_le(group + 20) == 0;
}

static bool is_head_valid(const struct conductor_message *message, const uint8_t *head)
{
    switch (head[1]) {
    case CONDUCTOR_MESSAGE_REPORT:
        return head[2] == 0 && head[3] == 0 && message->step.node == 0 &&
               message->step.other == 0 &&
               message->group_count <= CONDUCTOR_MESSAGE_GROUP_COUNT_MAX;
    case CONDUCTOR_MESSAGE_STEP:
        return head[2] < KIND_COUNT && head[3] < PLACEMENT_REASON_COUNT &&
               message->step.node != 0 && message->group_count == 1;
    case CONDUCTOR_MESSAGE_MAP:
    case CONDUCTOR_MESSAGE_SPLIT:
    case CONDUCTOR_MESSAGE_QUESTION:
    case CONDUCTOR_MESSAGE_HALVES:
    case CONDUCTOR_MESSAGE_OFFICE:
        return head[2] == 0 && head[3] == 0 && message->step.node == 0 &&
               message->step.other == 0 && message->group_count == 0;
    default:
        return false;
    }
}

static bool take_question(struct conductor_question *question, const uint8_t *place)
{
    uint32_t reason = endian_get_u32_le(place);
    *question = (struct conductor_question){
        .reason = (enum conductor_split_reason)reason,
        .group = endian_get_u32_le(place + 4),
        .first = endian_get_u32_le(place + 8),
        .end = endian_get_u32_le(place + 12),
    };
    return reason >= CONDUCTOR_SPLIT_SIZE && reason <= CONDUCTOR_SPLIT_LOAD &&
           question->group != 0 && question->end <= SLOTS_COUNT && question->first < question->end;
}

static bool take_halves(struct conductor_halves *halves, struct bytes rest)
{
    if (rest.size_bytes != HALVES_SIZE_BYTES || !take_question(&halves->question, rest.data)) {
        return false;
    }
    halves->slot = endian_get_u32_le(rest.data + 16);
    halves->lower = endian_get_u64_le(rest.data + 24);
    halves->upper = endian_get_u64_le(rest.data + 32);
    return endian_get_u32_le(rest.data + 20) == 0 && halves->slot > halves->question.first &&
           halves->slot < halves->question.end;
}

/* What is behind the head of a message without groups. */
static bool take_rest(struct conductor_message *message)
{
    struct bytes rest = message->groups;
    if (message->kind == CONDUCTOR_MESSAGE_MAP) {
        return true;
    }
    if (message->kind == CONDUCTOR_MESSAGE_HALVES) {
        return take_halves(&message->halves, rest);
    }
    if (message->kind == CONDUCTOR_MESSAGE_QUESTION) {
        return rest.size_bytes == QUESTION_SIZE_BYTES &&
               take_question(&message->halves.question, rest.data);
    }
    if (message->kind == CONDUCTOR_MESSAGE_OFFICE) {
        return rest.size_bytes == 0;
    }
    if (rest.size_bytes != SPLIT_SIZE_BYTES) {
        return false;
    }
    message->split = (struct conductor_split){
        .parent = endian_get_u32_le(rest.data),
        .first = endian_get_u32_le(rest.data + 4),
        .child = endian_get_u32_le(rest.data + 8),
    };
    return message->split.parent != 0 && message->split.child != 0 &&
           message->split.child <= SLOTS_SHARD_COUNT_MAX && message->split.first < SLOTS_COUNT;
}

int conductor_message_decode(struct bytes source, struct conductor_message *message)
{
    if (source.size_bytes < HEAD_SIZE_BYTES || source.data[0] != VERSION) {
        return ERROR_PROTOCOL;
    }
    const uint8_t *head = source.data;
    struct conductor_message decoded = {
        .kind = (enum conductor_message_kind)head[1],
        .step = {.kind = (enum placement_kind)head[2],
                 .reason = (enum placement_reason)head[3],
                 .node = endian_get_u32_le(head + 8),
                 .other = endian_get_u32_le(head + 12)},
        .group_count = endian_get_u32_le(head + 4),
        .groups = bytes_make(head + HEAD_SIZE_BYTES, source.size_bytes - HEAD_SIZE_BYTES),
    };
    if (!is_head_valid(&decoded, head)) {
        return ERROR_PROTOCOL;
    }
    struct bytes rest = decoded.groups;
    for (uint32_t i = 0; i < decoded.group_count; i++) {
        if (!is_group_valid(rest)) {
            return ERROR_PROTOCOL;
        }
        size_t size = group_size(rest.data);
        rest = bytes_make(rest.data + size, rest.size_bytes - size);
    }
    bool has_groups =
        decoded.kind == CONDUCTOR_MESSAGE_REPORT || decoded.kind == CONDUCTOR_MESSAGE_STEP;
    if (has_groups ? rest.size_bytes != 0 : !take_rest(&decoded)) {
        return ERROR_PROTOCOL;
    }
    if (decoded.kind == CONDUCTOR_MESSAGE_STEP) {
        decoded.step.group = endian_get_u32_le(decoded.groups.data);
    }
    *message = decoded;
    return 0;
}

void conductor_message_next(struct conductor_message *message, struct placement_group_state *group)
{
    const uint8_t *place = message->groups.data;
    size_t size = group_size(place);
    *group = (struct placement_group_state){
        .id = endian_get_u32_le(place),
        .voter_count = place[4],
        .learner_count = place[5],
        .is_changing = (place[6] & FLAG_IS_CHANGING) != 0,
        .size_bytes = endian_get_u64_le(place + 8),
        .load = endian_get_u32_le(place + 16),
    };
    const uint8_t *member = place + GROUP_HEAD_SIZE_BYTES;
    for (uint32_t i = 0; i < group->voter_count; i++, member += 4) {
        group->voters[i] = endian_get_u32_le(member);
    }
    for (uint32_t i = 0; i < group->learner_count; i++, member += 4) {
        group->learners[i] = (struct placement_learner){.node = endian_get_u32_le(member),
                                                        .is_caught_up = (place[7] >> i & 1) != 0};
    }
    message->groups = bytes_make(place + size, message->groups.size_bytes - size);
}

bool conductor_has_same_members(const struct placement_group_state *left,
                                const struct placement_group_state *right)
{
    if (left->voter_count != right->voter_count || left->learner_count != right->learner_count) {
        return false;
    }
    for (uint32_t i = 0; i < left->voter_count; i++) {
        if (left->voters[i] != right->voters[i]) {
            return false;
        }
    }
    for (uint32_t i = 0; i < left->learner_count; i++) {
        if (left->learners[i].node != right->learners[i].node) {
            return false;
        }
    }
    return true;
}
