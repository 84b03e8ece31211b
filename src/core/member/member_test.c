/* SPDX-License-Identifier: Apache-2.0 */
#include "core/member/member.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/member/member_internal.h"

enum { BASE = 1000000 };

static struct member_options good_options(void)
{
    struct member_options options = {
        .self = 1,
        .incarnation = BASE,
        .meta = {.boot_id = 11, .version = 3},
        .node_count_max = 4,
        .random_seed = 1,
        .now_ms = 50,
    };
    assert_int_equal(member_meta_set_address(&options.meta, BYTES("a:1")), 0);
    assert_int_equal(member_meta_set_zone(&options.meta, BYTES("z")), 0);
    return options;
}

static struct member *create(void)
{
    struct member_options options = good_options();
    struct member *member;
    assert_int_equal(member_create(&member, &options, NULL), 0);
    return member;
}

static int step(struct member *member, struct member_input input, struct member_output *output)
{
    struct member_output unused;
    return member_step(member, &input, output == NULL ? &unused : output);
}

static int set(struct member *member, member_node node, const char *address)
{
    return step(member,
                (struct member_input){.kind = MEMBER_INPUT_SET,
                                      .now_ms = 50,
                                      .node = node,
                                      .address = bytes_of_text(address)},
                NULL);
}

static int receive(struct member *member, uint64_t now_ms, member_node from, struct bytes message,
                   struct member_output *output)
{
    return step(
        member,
        (struct member_input){
            .kind = MEMBER_INPUT_RECEIVE, .now_ms = now_ms, .node = from, .message = message},
        output);
}

/* ---- Options and roster ---------------------------------------------------------------------- */

/* Options that contradict themselves are refused with a reason, and nothing is given. */
static void test_create_refuses(void **state)
{
    (void)state;
    struct member *member = NULL;
    struct error error = {0};
    struct member_options options = good_options();
    options.self = 0;
    assert_int_equal(member_create(&member, &options, &error), -EINVAL);
    options = good_options();
    options.incarnation = 0;
    assert_int_equal(member_create(&member, &options, &error), -EINVAL);
    options.incarnation = MEMBER_INCARNATION_MAX + 1;
    assert_int_equal(member_create(&member, &options, &error), -EINVAL);
    options = good_options();
    options.node_count_max = 0;
    assert_int_equal(member_create(&member, &options, &error), -EINVAL);
    options.node_count_max = MEMBER_NODE_COUNT_LIMIT + 1;
    assert_int_equal(member_create(&member, &options, &error), -EINVAL);
    assert_string_equal(error.message, "a cluster has 1 to 1024 nodes, not 1025");
    options = good_options();
    options.meta.zone_size_bytes = MEMBER_ZONE_SIZE_MAX + 1;
    assert_int_equal(member_create(&member, &options, &error), -EINVAL);
    assert_null(member);
}

/* Alone, a node has nothing to wait for and nobody to talk to. */
static void test_alone(void **state)
{
    (void)state;
    struct member *member = create();
    struct member_output output;
    assert_int_equal(
        step(member, (struct member_input){.kind = MEMBER_INPUT_TICK, .now_ms = 60}, &output), 0);
    assert_int_equal(output.send_count, 0);
    assert_int_equal(output.event_count, 0);
    assert_true(output.wake_at_ms == UINT64_MAX);
    struct member_view view;
    assert_true(member_state(member, 1, &view));
    assert_int_equal(view.state, MEMBER_STATE_ALIVE);
    assert_int_equal(member_count(member), 1);
    member_destroy(member);
}

/* A full roster says so, and a node that is in it already may still be set. */
static void test_roster_is_bounded(void **state)
{
    (void)state;
    struct member *member = create();
    assert_int_equal(set(member, 9, "b:1"), 0);
    assert_int_equal(set(member, 7, "c:1"), 0);
    assert_int_equal(set(member, 8, "d:1"), 0);
    assert_int_equal(set(member, 5, "e:1"), -EBUSY);
    assert_int_equal(set(member, 7, "f:1"), 0);
    assert_int_equal(set(member, 0, "g:1"), -EINVAL);
    char long_address[MEMBER_ADDRESS_SIZE_MAX + 2];
    memset(long_address, 'x', sizeof long_address);
    long_address[sizeof long_address - 1] = '\0';
    assert_int_equal(set(member, 7, long_address), -EINVAL);
    /* The list is in the order of ids. */
    static const member_node expected[] = {1, 7, 8, 9};
    assert_int_equal(member_count(member), 4);
    for (uint32_t i = 0; i < 4; i++) {
        struct member_view view;
        member_list(member, i, &view);
        assert_int_equal(view.node, expected[i]);
        assert_int_equal(view.state, i == 0 ? MEMBER_STATE_ALIVE : MEMBER_STATE_SUSPECT);
    }
    struct member_view view;
    assert_true(member_state(member, 7, &view));
    assert_true(bytes_equal(view.address, BYTES("f:1")));
    assert_null(view.meta);
    assert_false(view.is_heard);
    assert_false(member_state(member, 5, &view));
    member_destroy(member);
}

/* Nodes come and go without end: a slot that is free is used again, also while its node was being
 * probed or was about to be told of. */
static void test_roster_turnover(void **state)
{
    (void)state;
    struct member *member = create();
    uint64_t now_ms = 50;
    for (member_node node = 2; node < 400; node++) {
        struct member_input input = {.kind = MEMBER_INPUT_SET, .now_ms = now_ms, .node = node};
        assert_int_equal(step(member, input, NULL), 0);
        for (uint32_t i = 0; i < 5; i++) {
            now_ms += 70;
            input = (struct member_input){.kind = MEMBER_INPUT_TICK, .now_ms = now_ms};
            assert_int_equal(step(member, input, NULL), 0);
        }
        if (node > 3) {
            input = (struct member_input){
                .kind = MEMBER_INPUT_SET, .now_ms = now_ms, .node = node - 2, .is_removed = true};
            assert_int_equal(step(member, input, NULL), 0);
        }
        assert_true(member__is_consistent(member));
    }
    assert_int_equal(member_count(member), 3);
    member_destroy(member);
}

/* The largest roster: everybody is asked about, no message is too long, and nothing overflows when
 * all are suspected and die at once. */
static void test_largest_roster(void **state)
{
    (void)state;
    struct member_options options = good_options();
    options.node_count_max = MEMBER_NODE_COUNT_LIMIT;
    struct member *member;
    assert_int_equal(member_create(&member, &options, NULL), 0);
    for (member_node node = 2; node <= MEMBER_NODE_COUNT_LIMIT; node++) {
        assert_int_equal(set(member, node, "b:1"), 0);
    }
    uint32_t dead_count = 0;
    uint64_t now_ms = 50;
    while (now_ms < 60000) {
        struct member_output output;
        assert_int_equal(step(member,
                              (struct member_input){.kind = MEMBER_INPUT_TICK, .now_ms = now_ms},
                              &output),
                         0);
        for (uint32_t i = 0; i < output.send_count; i++) {
            assert_true(output.sends[i].message.size_bytes <= MEMBER_MESSAGE_SIZE_MAX);
        }
        for (uint32_t i = 0; i < output.event_count; i++) {
            dead_count += output.events[i].state == MEMBER_STATE_DEAD;
        }
        assert_true(output.wake_at_ms > now_ms);
        now_ms = output.wake_at_ms;
    }
    assert_int_equal(dead_count, MEMBER_NODE_COUNT_LIMIT - 1);
    member_destroy(member);
}

/* ---- Messages -------------------------------------------------------------------------------- */

static struct member__record sample_record(void)
{
    struct member__record record = {
        .node = 7,
        .state = MEMBER_STATE_SUSPECT,
        .is_fresh = true,
        .has_meta = true,
        .accuser_count = 2,
        .accusers = {3, 4},
        .incarnation = BASE,
        .revision = BASE + 5,
        .meta = {.boot_id = 77,
                 .version = 2,
                 .load = {.capacity_bytes = 1,
                          .used_bytes = 2,
                          .processor_permille = 3,
                          .memory_permille = 4,
                          .requests_per_s = 5,
                          .shard_count = 6,
                          .leader_count = 7,
                          .conditions = 8}},
    };
    assert_int_equal(member_meta_set_address(&record.meta, BYTES("host:7000")), 0);
    assert_int_equal(member_meta_set_zone(&record.meta, BYTES("zone-b")), 0);
    return record;
}

/* A message about `record`, in `data` of MEMBER_MESSAGE_SIZE_MAX bytes. */
static struct bytes encode(uint8_t *data, const struct member__record *record)
{
    struct member__builder builder;
    member__build_start(&builder, data);
    assert_true(member__build_record(&builder, record));
    return member__build_end(&builder, &(struct member__message){.kind = MEMBER__KIND_PING_REQUEST,
                                                                 .sequence = 5,
                                                                 .subject = 7,
                                                                 .limit = 90,
                                                                 .incarnation = BASE + 1});
}

static struct member__record decoded[MEMBER__RECORD_COUNT_MAX];

static void assert_meta_equal(const struct member_meta *left, const struct member_meta *right)
{
    assert_int_equal(left->boot_id, right->boot_id);
    assert_int_equal(left->version, right->version);
    assert_true(bytes_equal(member_meta_address(left), member_meta_address(right)));
    assert_true(bytes_equal(member_meta_zone(left), member_meta_zone(right)));
    assert_memory_equal(&left->load, &right->load, sizeof left->load); /* Has no padding. */
}

/* What is written is read again, field by field. */
static void test_message_round_trip(void **state)
{
    (void)state;
    uint8_t data[MEMBER_MESSAGE_SIZE_MAX];
    struct member__record record = sample_record();
    struct member__message message;
    assert_int_equal(member__decode(encode(data, &record), &message, decoded), 0);
    assert_int_equal(message.kind, MEMBER__KIND_PING_REQUEST);
    assert_int_equal(message.sequence, 5);
    assert_int_equal(message.subject, 7);
    assert_int_equal(message.limit, 90);
    assert_int_equal(message.incarnation, BASE + 1);
    assert_int_equal(message.record_count, 1);
    assert_int_equal(decoded[0].node, record.node);
    assert_int_equal(decoded[0].state, record.state);
    assert_true(decoded[0].is_fresh);
    assert_true(decoded[0].has_meta);
    assert_int_equal(decoded[0].accuser_count, 2);
    assert_int_equal(decoded[0].accusers[0], 3);
    assert_int_equal(decoded[0].accusers[1], 4);
    assert_int_equal(decoded[0].incarnation, record.incarnation);
    assert_int_equal(decoded[0].revision, record.revision);
    assert_meta_equal(&decoded[0].meta, &record.meta);
}

/* The bytes are those of docs/formats/member.md: another release has to understand them. */
static void test_message_bytes(void **state)
{
    (void)state;
    static const uint8_t
        expected[] = {1,   4,   24,  1,   5,    0,    0,    0,   7,    0,    0,    0,
                      90,  0,   0,   0,   0x41, 0x42, 0x0f, 0,   0,    0,    0,    0, /* header */
                      101, 1,   3,   2,   7,    0,    0,    0,   0x40, 0x42, 0x0f, 0,
                      0,   0,   0,   0,   0x45, 0x42, 0x0f, 0,   0,    0,    0,    0,
                      3,   0,   0,   0,   4,    0,    0,    0, /* accusers */
                      77,  0,   0,   0,   0,    0,    0,    0,   2,    0,    0,    0,
                      8,   0,   0,   0, /* boot, version, conditions */
                      1,   0,   0,   0,   0,    0,    0,    0,   2,    0,    0,    0,
                      0,   0,   0,   0, /* capacity, used */
                      3,   0,   0,   0,   4,    0,    0,    0,   5,    0,    0,    0,
                      6,   0,   0,   0,   7,    0,    0,    0, /* load */
                      9,   6,   'h', 'o', 's',  't',  ':',  '7', '0',  '0',  '0',  'z',
                      'o', 'n', 'e', '-', 'b'};
    uint8_t data[MEMBER_MESSAGE_SIZE_MAX];
    struct member__record record = sample_record();
    struct bytes message = encode(data, &record);
    assert_int_equal(message.size_bytes, sizeof expected);
    assert_memory_equal(message.data, expected, sizeof expected);
}

/* A later release may lengthen the header and the records, and use more flags. */
static void test_message_of_a_later_release(void **state)
{
    (void)state;
    uint8_t data[MEMBER_MESSAGE_SIZE_MAX];
    struct member__record record = sample_record();
    struct bytes message = encode(data, &record);
    uint8_t longer[MEMBER_MESSAGE_SIZE_MAX];
    memcpy(longer, message.data, 24);
    memset(longer + 24, 0xee, 8);
    longer[2] = 32;
    memcpy(longer + 32, message.data + 24, message.size_bytes - 24);
    memset(longer + 8 + message.size_bytes, 0xee, 3);
    longer[32] = (uint8_t)(longer[32] + 3);
    longer[34] |= 0xf0;
    struct member__message header;
    struct bytes bytes = bytes_make(longer, message.size_bytes + 11);
    assert_int_equal(member__decode(bytes, &header, decoded), 0);
    assert_int_equal(decoded[0].node, 7);
    assert_meta_equal(&decoded[0].meta, &record.meta);
}

struct damage {
    const char *what;
    size_t offset;
    uint8_t value;
};

/* A message with any field out of its range is refused as a whole. */
static void test_message_refused(void **state)
{
    (void)state;
    static const struct damage damages[] = {
        {"another version", 0, 2},
        {"kind 0", 1, 0},
        {"an unknown kind", 1, 8},
        {"a header too short", 2, 23},
        {"a header longer than the message", 2, 200},
        {"a record too many", 3, 2},
        {"a record too few", 3, 0},
        {"more records than fit", 3, 255},
        {"an incarnation above the limit", 23, 0x40},
        {"a record too short", 24, 23},
        {"a record that ends behind the message", 24, 102},
        {"a record that ends before it should", 24, 100},
        {"an unknown state", 25, 4},
        {"too many accusers", 27, 5},
        {"node 0", 28, 0},
        {"a record's incarnation above the limit", 39, 0x40},
        {"a revision above the limit", 47, 0x40},
        {"accuser 0", 48, 0},
        {"an address too long", 24 + 32 + 52, 121},
        {"an address longer than the record", 24 + 32 + 52, 10},
        {"a zone too long", 24 + 32 + 53, 33},
        {"a space in the address", 24 + 32 + 54, ' '},
        {"a control character in the zone", 24 + 32 + 54 + 9, 0x1b},
    };
    uint8_t data[MEMBER_MESSAGE_SIZE_MAX];
    struct member__record record = sample_record();
    struct member__message message;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        struct bytes bytes = encode(data, &record);
        data[damages[i].offset] = damages[i].value;
        if (member__decode(bytes, &message, decoded) != ERROR_PROTOCOL) {
            fail_msg("%s was not refused", damages[i].what);
        }
    }
    struct bytes bytes = encode(data, &record);
    for (size_t size_bytes = 0; size_bytes < bytes.size_bytes; size_bytes++) {
        assert_int_equal(member__decode(bytes_make(data, size_bytes), &message, decoded),
                         ERROR_PROTOCOL);
    }
    memset(data + 16, 0, 8);
    assert_int_equal(member__decode(bytes, &message, decoded), ERROR_PROTOCOL);
    bytes = encode(data, &record);
    memset(data + 40, 0, 8); /* A meta of revision 0. */
    assert_int_equal(member__decode(bytes, &message, decoded), ERROR_PROTOCOL);
    uint8_t large[MEMBER_MESSAGE_SIZE_MAX + 1] = {1, 1, 24};
    large[16] = 1;
    assert_int_equal(member__decode(bytes_make(large, 24), &message, decoded), 0);
    assert_int_equal(member__decode(bytes_make(large, sizeof large), &message, decoded),
                     ERROR_PROTOCOL);
}

/* A message that is refused changes nothing, and is counted. */
static void test_step_refuses(void **state)
{
    (void)state;
    struct member *member = create();
    assert_int_equal(set(member, 2, "b:1"), 0);
    struct member_view before;
    assert_true(member_state(member, 2, &before));
    struct member_output output;
    assert_int_equal(receive(member, 60, 2, BYTES("hello"), &output), ERROR_PROTOCOL);
    assert_int_equal(output.send_count, 0);
    assert_int_equal(output.event_count, 0);
    assert_true(output.wake_at_ms != UINT64_MAX);
    struct member_view after;
    assert_true(member_state(member, 2, &after));
    assert_int_equal(after.state, before.state);
    assert_int_equal(after.since_ms, before.since_ms);
    assert_int_equal(after.incarnation, before.incarnation);
    assert_int_equal(after.revision, before.revision);
    assert_false(after.is_heard);
    struct member_statistics statistics;
    member_get_statistics(member, &statistics);
    assert_int_equal(statistics.refused_count, 1);
    assert_int_equal(statistics.received_count, 0);
    struct member_meta meta = good_options().meta;
    meta.address_size_bytes = MEMBER_ADDRESS_SIZE_MAX + 1;
    assert_int_equal(
        step(member,
             (struct member_input){.kind = MEMBER_INPUT_UPDATE_SELF, .now_ms = 60, .meta = &meta},
             NULL),
        -EINVAL);
    member_destroy(member);
}

/* A hostile peer may say that this node had the highest incarnation there is. It cannot be exceeded,
 * and nothing breaks. */
static void test_highest_incarnation(void **state)
{
    (void)state;
    struct member *member = create();
    assert_int_equal(set(member, 2, "b:1"), 0);
    uint8_t data[MEMBER_MESSAGE_SIZE_MAX];
    struct member__record record = {.node = 1,
                                    .state = MEMBER_STATE_DEAD,
                                    .is_fresh = true,
                                    .incarnation = MEMBER_INCARNATION_MAX,
                                    .revision = MEMBER_INCARNATION_MAX};
    assert_int_equal(receive(member, 60, 2, encode(data, &record), NULL), 0);
    struct member_view view;
    assert_true(member_state(member, 1, &view));
    assert_int_equal(view.incarnation, BASE);
    record.incarnation--;
    record.revision--;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(receive(member, 60, 2, encode(data, &record), NULL), 0);
        record.incarnation = MEMBER_INCARNATION_MAX;
    }
    assert_true(member_state(member, 1, &view));
    assert_true(view.incarnation == MEMBER_INCARNATION_MAX);
    assert_int_equal(view.state, MEMBER_STATE_ALIVE);
    struct member_meta meta = good_options().meta;
    meta.load.shard_count = 9;
    struct member_input input = {.kind = MEMBER_INPUT_UPDATE_SELF, .now_ms = 60, .meta = &meta};
    assert_int_equal(step(member, input, NULL), 0);
    assert_true(member_state(member, 1, &view));
    assert_true(view.revision == MEMBER_INCARNATION_MAX);
    member_destroy(member);
}

/* ---- What is known --------------------------------------------------------------------------- */

/* The view of a node that was heard: address and meta from its own word, and the time. */
static void test_view(void **state)
{
    (void)state;
    struct member *member = create();
    assert_int_equal(set(member, 7, "roster:1"), 0);
    uint8_t data[MEMBER_MESSAGE_SIZE_MAX];
    struct member__record record = sample_record();
    record.state = MEMBER_STATE_ALIVE;
    record.accuser_count = 0;
    struct member_output output;
    assert_int_equal(receive(member, 90, 7, encode(data, &record), &output), 0);
    assert_int_equal(output.event_count, 1);
    assert_int_equal(output.events[0].reason, MEMBER_REASON_HEARD);
    assert_int_equal(output.events[0].before, MEMBER_STATE_SUSPECT);
    assert_int_equal(output.events[0].now_ms, 90);
    struct member_view view;
    assert_true(member_state(member, 7, &view));
    assert_int_equal(view.state, MEMBER_STATE_ALIVE);
    assert_int_equal(view.since_ms, 90);
    assert_true(view.is_heard);
    assert_int_equal(view.last_heard_ms, 90);
    assert_true(bytes_equal(view.address, BYTES("host:7000")));
    assert_true(bytes_equal(member_meta_zone(view.meta), BYTES("zone-b")));
    assert_int_equal(view.meta->load.requests_per_s, 5);
    assert_int_equal(view.revision, BASE + 5);
    assert_string_equal(member_state_text(view.state), "alive");
    assert_string_equal(member_reason_text(output.events[0].reason), "heard");
    /* I5: an older meta does not come back, whatever the incarnation. */
    record.revision--;
    record.incarnation += 3;
    record.meta.version = 1;
    assert_int_equal(receive(member, 91, 7, encode(data, &record), NULL), 0);
    assert_true(member_state(member, 7, &view));
    assert_int_equal(view.incarnation, BASE + 3);
    assert_int_equal(view.meta->version, 2);
    member_destroy(member);
}

/* A node that is removed from the roster keeps silent, whatever comes; put back, it speaks again. */
static void test_removed_self(void **state)
{
    (void)state;
    struct member *member = create();
    assert_int_equal(set(member, 7, "b:1"), 0);
    struct member_input input = {
        .kind = MEMBER_INPUT_SET, .now_ms = 60, .node = 1, .is_removed = true};
    struct member_output output;
    assert_int_equal(step(member, input, &output), 0);
    assert_true(output.wake_at_ms == UINT64_MAX);
    uint8_t data[MEMBER_MESSAGE_SIZE_MAX];
    struct member__record record = sample_record();
    assert_int_equal(receive(member, 5000, 7, encode(data, &record), &output), 0);
    assert_int_equal(output.send_count + output.event_count, 0);
    input = (struct member_input){.kind = MEMBER_INPUT_SET, .now_ms = 6000, .node = 1};
    assert_int_equal(step(member, input, &output), 0);
    assert_true(output.send_count > 0);
    member_destroy(member);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_refuses),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_roster_is_bounded),
        cmocka_unit_test(test_roster_turnover),
        cmocka_unit_test(test_largest_roster),
        cmocka_unit_test(test_message_round_trip),
        cmocka_unit_test(test_message_bytes),
        cmocka_unit_test(test_message_of_a_later_release),
        cmocka_unit_test(test_message_refused),
        cmocka_unit_test(test_step_refuses),
        cmocka_unit_test(test_highest_incarnation),
        cmocka_unit_test(test_view),
        cmocka_unit_test(test_removed_self),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
