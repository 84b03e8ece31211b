/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: what is written is read as it was; figures of newer and older nodes are passed over and
 * not known; and every byte that is cut off, added or out of range is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/endian/endian.h"
#include "core/inquiry/inquiry.h"

enum { HEAD = 24 };

static const struct inquiry_replica leading = {
    .shard = 3,
    .is_leader = true,
    .is_changing = true,
    .term = 9,
    .figures = {100, 2000, 30, 4000, INQUIRY_UNKNOWN},
    .member_count = 3,
    .members = {{.node = 1, .is_voter = true},
                {.node = 2,
                 .is_voter = true,
                 .state = INQUIRY_MEMBER_DAMAGED,
                 .lag_entries = 7,
                 .lag_ms = 3000},
                {.node = 8, .state = INQUIRY_MEMBER_SNAPSHOT, .lag_entries = INQUIRY_UNKNOWN}},
};

/* An answer with a bucket of reads, two of writes and two replicas. */
static void write_sample(struct buffer *target)
{
    struct histogram latencies[INQUIRY_LATENCY_COUNT] = {0};
    struct inquiry_replica following = {.shard = 4, .term = 1};
    uint64_t figures[INQUIRY_FIGURE_COUNT];
    for (uint32_t i = 0; i < INQUIRY_FIGURE_COUNT; i++) {
        figures[i] = 1000 + i;
    }
    histogram_record_many(&latencies[INQUIRY_READ], 5, 12);
    histogram_record(&latencies[INQUIRY_WRITE], 6);
    histogram_record(&latencies[INQUIRY_WRITE], 1000000);
    inquiry_answer_begin(target, 77, figures, latencies, 2);
    inquiry_answer_add(target, &leading);
    inquiry_answer_add(target, &following);
}

static void expect_leading(const struct inquiry_replica *replica)
{
    assert_int_equal(replica->shard, 3);
    assert_true(replica->is_leader);
    assert_true(replica->is_changing);
    assert_int_equal(replica->term, 9);
    assert_memory_equal(replica->figures, leading.figures, sizeof leading.figures);
    assert_int_equal(replica->member_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(replica->members[i].node, leading.members[i].node);
        assert_int_equal(replica->members[i].is_voter, leading.members[i].is_voter);
        assert_int_equal(replica->members[i].state, leading.members[i].state);
        assert_true(replica->members[i].lag_entries == leading.members[i].lag_entries);
        assert_int_equal(replica->members[i].lag_ms, leading.members[i].lag_ms);
    }
}

static void test_round_trip_of_figures(void **state)
{
    struct buffer bytes = {0};
    struct inquiry_message message;
    struct inquiry_replica replica;
    struct histogram reads = {0};
    struct histogram writes = {0};
    write_sample(&bytes);
    assert_int_equal(inquiry_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, INQUIRY_FIGURES_ANSWER);
    assert_int_equal(message.number, 77);
    for (uint32_t i = 0; i < INQUIRY_FIGURE_COUNT; i++) {
        assert_int_equal(message.figures[i], 1000 + i);
    }
    inquiry_add_latencies(&message, INQUIRY_READ, &reads);
    inquiry_add_latencies(&message, INQUIRY_WRITE, &writes);
    inquiry_add_latencies(&message, INQUIRY_WRITE, &writes); /* As of two nodes. */
    assert_int_equal(reads.count, 12);
    assert_int_equal(histogram_quantile(&reads, 500), 5);
    assert_int_equal(writes.count, 4);
    assert_in_range(histogram_quantile(&writes, 990), 1000000, 1125000);
    assert_int_equal(message.replica_count, 2);
    inquiry_message_next(&message, &replica);
    expect_leading(&replica);
    inquiry_message_next(&message, &replica);
    assert_int_equal(replica.shard, 4);
    assert_false(replica.is_leader || replica.is_changing);
    assert_int_equal(replica.member_count, 0);
    assert_int_equal(message.replicas.size_bytes, 0);
    buffer_deinit(&bytes);
}

static void test_round_trip_of_the_others(void **state)
{
    struct buffer bytes = {0};
    struct inquiry_message message;
    inquiry_encode_figures(&bytes, 5);
    assert_int_equal(inquiry_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, INQUIRY_FIGURES);
    assert_int_equal(message.number, 5);
    buffer_clear(&bytes);
    inquiry_encode_transfer(&bytes, 6, 16, 3);
    assert_int_equal(inquiry_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, INQUIRY_TRANSFER);
    assert_int_equal(message.shard, 16);
    assert_int_equal(message.node, 3);
    buffer_clear(&bytes);
    inquiry_encode_transfer_answer(&bytes, 6, INQUIRY_NOT_LEADER, 2);
    assert_int_equal(inquiry_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.kind, INQUIRY_TRANSFER_ANSWER);
    assert_int_equal(message.outcome, INQUIRY_NOT_LEADER);
    assert_int_equal(message.leader, 2);
    buffer_deinit(&bytes);
}

/* An answer without replicas and latencies, with so many figures of the node, all 5. */
static void write_plain(struct buffer *target, uint8_t figure_count, uint8_t replica_figure_count)
{
    uint8_t *head = buffer_extend(target, HEAD + 8u * figure_count);
    memset(head, 0, HEAD + 8u * figure_count);
    head[0] = 1;
    head[1] = INQUIRY_FIGURES_ANSWER;
    head[2] = figure_count;
    head[3] = replica_figure_count;
    for (uint32_t i = 0; i < figure_count; i++) {
        endian_put_u64_le(head + HEAD + 8 * (size_t)i, 5);
    }
}

static void test_figures_of_other_versions(void **state)
{
    struct buffer bytes = {0};
    struct inquiry_message message;
    struct inquiry_replica replica;
    write_plain(&bytes, 2, 1);
    uint8_t *place = buffer_extend(&bytes, 16 + 8); /* A replica with one figure. */
    memset(place, 0, 16 + 8);
    bytes.data[4] = 1;
    place[0] = 3;
    place[16] = 9;
    assert_int_equal(inquiry_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.figures[1], 5);
    assert_true(message.figures[2] == INQUIRY_UNKNOWN);
    inquiry_message_next(&message, &replica);
    assert_int_equal(replica.figures[0], 9);
    assert_true(replica.figures[1] == INQUIRY_UNKNOWN);
    buffer_clear(&bytes);
    write_plain(&bytes, INQUIRY_FIGURE_COUNT + 3, 200);
    assert_int_equal(inquiry_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.figures[INQUIRY_FIGURE_COUNT - 1], 5);
    buffer_deinit(&bytes);
}

static void expect_refused(struct buffer *bytes, size_t offset, uint8_t value)
{
    struct inquiry_message message;
    uint8_t before = bytes->data[offset];
    bytes->data[offset] = value;
    if (inquiry_message_decode(buffer_bytes(bytes), &message) != ERROR_PROTOCOL) {
        fail_msg("%u at %zu was accepted", value, offset);
    }
    bytes->data[offset] = before;
}

static void expect_refused_sizes(struct buffer *bytes)
{
    struct inquiry_message message;
    for (size_t size = 0; size < bytes->size_bytes; size++) {
        assert_int_equal(inquiry_message_decode(bytes_make(bytes->data, size), &message),
                         ERROR_PROTOCOL);
    }
    buffer_append_byte(bytes, 0);
    assert_int_equal(inquiry_message_decode(buffer_bytes(bytes), &message), ERROR_PROTOCOL);
}

static void test_refusals(void **state)
{
    enum {
        BUCKETS = HEAD + 8 * INQUIRY_FIGURE_COUNT,
        REPLICA = BUCKETS + 3 * 8,
        MEMBER = REPLICA + 16 + 8 * INQUIRY_REPLICA_FIGURE_COUNT,
    };
    static const struct {
        size_t offset;
        uint8_t value;
    } wrong[] = {
        {0, 2}, /* Version, */
        {1, 0},
        {1, 5}, /* kind, */
        {2, 0},
        {3, 0}, /* how many figures, */
        {4, 1},
        {4, 3}, /* replicas, */
        {5, 5}, /* far too many; */
        {16, 0},
        {20, 3},           /* buckets, */
        {BUCKETS + 1, 2},  /* one that there is not, */
        {BUCKETS + 4, 0},  /* without anything, */
        {BUCKETS + 16, 6}, /* one twice; */
        {REPLICA, 0},      /* a replica without a shard, */
        {REPLICA + 4, 4},
        {REPLICA + 5, 16},
        {REPLICA + 5, 2},
        {REPLICA + 6, 1},
        {MEMBER, 0}, /* a member without a node. */
        {MEMBER + 4, 2},
        {MEMBER + 5, INQUIRY_MEMBER_STATE_COUNT},
        {MEMBER + 6, 1},
    };
    struct buffer bytes = {0};
    write_sample(&bytes);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        expect_refused(&bytes, wrong[i].offset, wrong[i].value);
    }
    expect_refused_sizes(&bytes);
    buffer_clear(&bytes);
    inquiry_encode_transfer(&bytes, 6, 16, 3);
    static const size_t zeros[] = {2, 3, 20};
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++) {
        expect_refused(&bytes, zeros[i], 1);
    }
    expect_refused(&bytes, 4, 0);
    expect_refused(&bytes, 16, 0);
    expect_refused_sizes(&bytes);
    buffer_clear(&bytes);
    inquiry_encode_transfer_answer(&bytes, 6, INQUIRY_DONE, 0);
    expect_refused(&bytes, 4, INQUIRY_OUTCOME_COUNT);
    buffer_clear(&bytes);
    inquiry_encode_figures(&bytes, 6);
    expect_refused(&bytes, 4, 1);
    expect_refused(&bytes, 16, 1);
    buffer_deinit(&bytes);
}

/* How many replicas there are may be said when they are there. */
static void test_count_comes_last(void **state)
{
    static const uint64_t figures[INQUIRY_FIGURE_COUNT];
    static const struct histogram latencies[INQUIRY_LATENCY_COUNT];
    struct buffer bytes = {0};
    struct inquiry_message message;
    inquiry_answer_begin(&bytes, 5, figures, latencies, 0);
    inquiry_answer_add(&bytes, &leading);
    assert_int_equal(inquiry_message_decode(buffer_bytes(&bytes), &message), ERROR_PROTOCOL);
    inquiry_answer_end(&bytes, 1);
    assert_int_equal(inquiry_message_decode(buffer_bytes(&bytes), &message), 0);
    assert_int_equal(message.replica_count, 1);
    buffer_deinit(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_of_figures),
        cmocka_unit_test(test_round_trip_of_the_others),
        cmocka_unit_test(test_figures_of_other_versions),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_count_comes_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
