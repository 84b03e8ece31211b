/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: what is written is read as it was, and every byte that is cut off, added or out of range is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/conductor/conductor.h"

static const struct placement_group_state sample = {
    .id = 7,
    .voter_count = 3,
    .learner_count = 2,
    .is_changing = true,
    .size_bytes = 1ull << 40,
    .load = 12,
    .voters = {1, 2, 5},
    .learners = {{.node = 3}, {.node = 9, .is_caught_up = true}},
};

static void expect_sample(const struct placement_group_state *group)
{
    assert_int_equal(group->id, 7);
    assert_true(conductor_has_same_members(group, &sample));
    assert_true(group->is_changing);
    assert_int_equal(group->size_bytes, sample.size_bytes);
    assert_int_equal(group->load, 12);
    assert_false(group->learners[0].is_caught_up);
    assert_true(group->learners[1].is_caught_up);
}

static void test_round_trip(void **state)
{
    struct buffer bytes = {0};
    struct conductor_message message;
    struct placement_group_state group;
    struct placement_group_state other = {.id = 8, .voter_count = 1, .voters = {4}};
    conductor_report_begin(&bytes, 2);
    conductor_report_add(&bytes, &sample);
    conductor_report_add(&bytes, &other);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, CONDUCTOR_MESSAGE_REPORT);
    assert_int_equal(message.group_count, 2);
    conductor_message_next(&message, &group);
    expect_sample(&group);
    conductor_message_next(&message, &group);
    assert_int_equal(group.id, 8);
    assert_false(conductor_has_same_members(&group, &sample));

    struct placement_step step = {.kind = PLACEMENT_REPLACE,
                                  .reason = PLACEMENT_REASON_DRAIN,
                                  .group = 7,
                                  .node = 9,
                                  .other = 2};
    buffer_clear(&bytes);
    conductor_step_encode(&bytes, &step, &sample);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, CONDUCTOR_MESSAGE_STEP);
    assert_memory_equal(&message.step, &step, sizeof step);
    conductor_message_next(&message, &group);
    expect_sample(&group);
    buffer_deinit(&bytes);
}

static void test_refusals(void **state)
{
    static const struct {
        size_t offset;
        uint8_t value;
    } wrong[] = {
        {0, 2},                               /* Version, */
        {1, 0},  {1, 8},                      /* kind, */
        {2, 5},  {3, PLACEMENT_REASON_COUNT}, /* the step's, its reason, */
        {4, 0},  {4, 2},                      /* number of groups, */
        {8, 0},                               /* for nobody; */
        {16, 0},                              /* a group without id, */
        {20, 8}, {20, 2},
        {21, 9}, {21, 3}, /* members, */
        {22, 2}, {23, 4},
        {36, 1}, /* flags, who caught up, what is zero. */
    };
    struct placement_step step = {.node = 9, .group = 7};
    struct buffer bytes = {0};
    struct conductor_message message;
    conductor_step_encode(&bytes, &step, &sample);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint8_t before = bytes.data[wrong[i].offset];
        bytes.data[wrong[i].offset] = wrong[i].value;
        assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), ERROR_PROTOCOL);
        bytes.data[wrong[i].offset] = before;
    }
    for (size_t size = 0; size < bytes.size_bytes; size++) {
        assert_int_equal(conductor_message_decode(bytes_make(bytes.data, size), &message),
                         ERROR_PROTOCOL);
    }
    buffer_append_byte(&bytes, 0);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), ERROR_PROTOCOL);
    buffer_deinit(&bytes);
}

/* A map and a split come over as they are; a split of other length, of no shard or no slot is refused. */
static void test_splits(void **state)
{
    static struct slots slots;
    static struct slots read;
    struct buffer bytes = {0};
    struct conductor_message message;
    slots_divide(&slots, 3);
    conductor_map_encode(&bytes, &slots);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, CONDUCTOR_MESSAGE_MAP);
    assert_int_equal(slots_decode(&read, message.groups), 0);
    assert_true(slots_are_equal(&read, &slots));
    slots_deinit(&slots);
    slots_deinit(&read);

    struct conductor_split split = {.parent = 1, .child = 4, .first = SLOTS_COUNT - 1};
    buffer_clear(&bytes);
    conductor_split_encode(&bytes, &split);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, CONDUCTOR_MESSAGE_SPLIT);
    assert_int_equal(message.split.parent, 1);
    assert_int_equal(message.split.child, 4);
    assert_int_equal(message.split.first, SLOTS_COUNT - 1);
    for (size_t size = 0; size < bytes.size_bytes; size++) {
        assert_int_equal(conductor_message_decode(bytes_make(bytes.data, size), &message),
                         ERROR_PROTOCOL);
    }
    const struct conductor_split wrong[] = {
        {0, 4, 1}, {1, 0, 1}, {1, SLOTS_SHARD_COUNT_MAX + 1, 1}, {1, 4, SLOTS_COUNT}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        buffer_clear(&bytes);
        conductor_split_encode(&bytes, &wrong[i]);
        assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), ERROR_PROTOCOL);
    }
    buffer_deinit(&bytes);
}

/* That somebody is in office says the head alone. */
static void test_office(void **state)
{
    struct buffer bytes = {0};
    struct conductor_message message;
    conductor_office_encode(&bytes);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, CONDUCTOR_MESSAGE_OFFICE);
    for (size_t i = 2; i < bytes.size_bytes; i++) {
        bytes.data[i] = 1;
        assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), ERROR_PROTOCOL);
        bytes.data[i] = 0;
    }
    buffer_append_byte(&bytes, 0);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), ERROR_PROTOCOL);
    buffer_deinit(&bytes);
}

/* A question and halves come over as they are; of no group, no slot, no reason, or with a slot that halves
 * nothing, they are refused. */
static void test_questions(void **state)
{
    struct buffer bytes = {0};
    struct conductor_message message;
    const struct conductor_halves halves = {
        {CONDUCTOR_SPLIT_LOAD, 7, 10, SLOTS_COUNT}, 11, 1ull << 40, UINT64_MAX};
    conductor_question_encode(&bytes, &halves.question);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, CONDUCTOR_MESSAGE_QUESTION);
    assert_memory_equal(&message.halves.question, &halves.question, sizeof halves.question);
    buffer_append_byte(&bytes, 0);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), ERROR_PROTOCOL);

    buffer_clear(&bytes);
    conductor_halves_encode(&bytes, &halves);
    assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, CONDUCTOR_MESSAGE_HALVES);
    assert_int_equal(message.halves.question.group, 7);
    assert_int_equal(message.halves.slot, 11);
    assert_int_equal(message.halves.lower, halves.lower);
    assert_int_equal(message.halves.upper, halves.upper);
    for (size_t size = 0; size < bytes.size_bytes; size++) {
        assert_int_equal(conductor_message_decode(bytes_make(bytes.data, size), &message),
                         ERROR_PROTOCOL);
    }
    const struct conductor_halves wrong[] = {
        {{0, 7, 10, 20}, 11, 1, 1},    {{3, 7, 10, 20}, 11, 1, 1}, {{1, 0, 10, 20}, 11, 1, 1},
        {{1, 7, 20, 20}, 20, 1, 1},    {{1, 7, 10, 20}, 10, 1, 1}, {{1, 7, 10, 20}, 20, 1, 1},
        {{1, 7, 10, 16385}, 11, 1, 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        buffer_clear(&bytes);
        conductor_halves_encode(&bytes, &wrong[i]);
        assert_int_equal(conductor_message_decode(buffer_bytes(&bytes), &message), ERROR_PROTOCOL);
    }
    buffer_deinit(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splits),   cmocka_unit_test(test_questions),
        cmocka_unit_test(test_office),   cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
