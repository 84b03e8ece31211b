/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/route/route_internal.h"

enum { MESSAGE_COUNT = 6, MESSAGE_SIZE_BYTES_MAX = 256 };

struct sample {
    uint8_t bytes[MESSAGE_SIZE_BYTES_MAX];
    size_t size_bytes;
};

static void make_requests(struct sample *sample)
{
    const struct bytes arguments[] = {BYTES("key"), BYTES(""), BYTES("value")};
    struct shard_command command = {22, 3, arguments};
    struct route_message message = {.shard = 6,
                                    .number = 70,
                                    .message_number = 8,
                                    .origin = 9,
                                    .seen_number = 3,
                                    .first_slot = 272,
                                    .end_slot = SLOTS_COUNT,
                                    .item_count = 2};
    route__encode_requests_head(sample->bytes, &message);
    sample->size_bytes = ROUTE__REQUESTS_HEAD_SIZE_BYTES;
    for (uint32_t i = 0; i < message.item_count; i++) {
        struct route_wire_request wire = {
            .session = 100 + i,
            .sequence = 200 + i,
            .known_index = 300,
            .opcode = command.opcode,
            .protocol = 3,
            .is_write = i == 0,
            .does_grow = i == 0,
            .is_retry = i == 0,
            .patience_ms = 4000,
            .argument_count = command.argument_count,
            .arguments = {NULL, route__arguments_size_bytes(&command)},
        };
        route__encode_request_head(sample->bytes + sample->size_bytes, &wire);
        sample->size_bytes += ROUTE__REQUEST_HEAD_SIZE_BYTES;
        route__encode_arguments(sample->bytes + sample->size_bytes, &command);
        sample->size_bytes += wire.arguments.size_bytes;
    }
}

static void make_replies(struct sample *sample)
{
    struct route_message message = {
        .shard = 6, .number = 70, .message_number = 8, .applied_index = 55, .item_count = 2};
    route__encode_replies_head(sample->bytes, &message);
    sample->size_bytes = ROUTE__REPLIES_HEAD_SIZE_BYTES;
    struct route_wire_reply answered = {1, ROUTE_VERDICT_ANSWERED, BYTES("+OK\r\n")};
    struct route_wire_reply refused = {2, ROUTE_VERDICT_NO_SPACE, {0}};
    route__encode_reply_head(sample->bytes + sample->size_bytes, &answered);
    sample->size_bytes += ROUTE__REPLY_HEAD_SIZE_BYTES;
    memcpy(sample->bytes + sample->size_bytes, answered.reply.data, answered.reply.size_bytes);
    sample->size_bytes += answered.reply.size_bytes;
    route__encode_reply_head(sample->bytes + sample->size_bytes, &refused);
    sample->size_bytes += ROUTE__REPLY_HEAD_SIZE_BYTES;
}

/* One message of each kind. */
static void make_samples(struct sample samples[MESSAGE_COUNT])
{
    struct route_message told = {
        .shard = 6, .number = 5, .grant = 70, .applied_index = 55, .room_bytes = 4096, .leader = 2};
    struct route_message ended = {
        .shard = 6, .number = 70, .leader = 3, .message_number = 8, .reason = ROUTE_ENDED_GAP};
    route__encode_ask(samples[0].bytes, 6, 5);
    samples[0].size_bytes = ROUTE__ASK_SIZE_BYTES;
    route__encode_told(samples[1].bytes, &told);
    samples[1].size_bytes = ROUTE__TOLD_SIZE_BYTES;
    route__encode_ended(samples[2].bytes, &ended);
    samples[2].size_bytes = ROUTE__ENDED_SIZE_BYTES;
    make_requests(&samples[3]);
    make_replies(&samples[4]);
    route__encode_floor(samples[5].bytes, 6, 9, 200);
    samples[5].size_bytes = ROUTE__FLOOR_SIZE_BYTES;
}

static int decode(const struct sample *sample, struct route_message *message)
{
    return route__decode(bytes_make(sample->bytes, sample->size_bytes), message);
}

/* What is encoded is decoded. */
static void test_there_and_back(void **state)
{
    (void)state;
    struct sample samples[MESSAGE_COUNT] = {0};
    make_samples(samples);
    struct route_message message;
    assert_int_equal(decode(&samples[0], &message), 0);
    assert_int_equal(message.kind, ROUTE_MESSAGE_ASK);
    assert_int_equal(message.shard, 6);
    assert_int_equal(message.number, 5);
    assert_int_equal(decode(&samples[1], &message), 0);
    assert_int_equal(message.grant, 70);
    assert_int_equal(message.applied_index, 55);
    assert_int_equal(message.room_bytes, 4096);
    assert_int_equal(message.leader, 2);
    assert_int_equal(decode(&samples[2], &message), 0);
    assert_int_equal(message.leader, 3);
    assert_int_equal(message.reason, ROUTE_ENDED_GAP);
    assert_int_equal(message.message_number, 8);
    assert_int_equal(decode(&samples[5], &message), 0);
    assert_int_equal(message.kind, ROUTE_MESSAGE_FLOOR);
    assert_int_equal(message.shard, 6);
    assert_int_equal(message.number, 9);
    assert_int_equal(message.floor, 200);
}

static void test_items_there_and_back(void **state)
{
    (void)state;
    struct sample samples[MESSAGE_COUNT] = {0};
    make_samples(samples);
    struct route_message message;
    assert_int_equal(decode(&samples[3], &message), 0);
    assert_int_equal(message.origin, 9);
    assert_int_equal(message.seen_number, 3);
    assert_int_equal(message.first_slot, 272);
    assert_int_equal(message.end_slot, SLOTS_COUNT);
    assert_int_equal(message.item_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        struct route_wire_request wire;
        route__next_request(&message.items, &wire);
        assert_int_equal(wire.session, 100 + i);
        assert_int_equal(wire.sequence, 200 + i);
        assert_int_equal(wire.known_index, 300);
        assert_int_equal(wire.opcode, 22);
        assert_int_equal(wire.protocol, 3);
        assert_int_equal(wire.is_write, i == 0);
        assert_int_equal(wire.does_grow, i == 0);
        assert_int_equal(wire.is_retry, i == 0);
        assert_int_equal(wire.patience_ms, 4000);
        struct bytes arguments[3];
        assert_int_equal(wire.argument_count, 3);
        route__decode_arguments(wire.arguments, 3, arguments);
        assert_true(bytes_equal(arguments[0], BYTES("key")));
        assert_int_equal(arguments[1].size_bytes, 0);
        assert_true(bytes_equal(arguments[2], BYTES("value")));
    }
    assert_int_equal(message.items.size_bytes, 0);
    assert_int_equal(decode(&samples[4], &message), 0);
    struct route_wire_reply wire;
    route__next_reply(&message.items, &wire);
    assert_int_equal(wire.sequence, 1);
    assert_true(bytes_equal(wire.reply, BYTES("+OK\r\n")));
    route__next_reply(&message.items, &wire);
    assert_int_equal(wire.verdict, ROUTE_VERDICT_NO_SPACE);
    assert_int_equal(message.items.size_bytes, 0);
}

/* Slots that are not said are two zeros, as in messages of those who did not know of them; slot 0
 * alone looks the same, and counts as that. */
static void test_no_slots(void **state)
{
    (void)state;
    static const uint16_t ends[] = {0, 1};
    for (uint32_t i = 0; i < 2; i++) {
        struct sample sample = {.size_bytes = ROUTE__REQUESTS_HEAD_SIZE_BYTES};
        struct route_message message = {
            .shard = 6, .number = 70, .message_number = 8, .origin = 9, .end_slot = ends[i]};
        route__encode_requests_head(sample.bytes, &message);
        assert_memory_equal(sample.bytes + 44, "\0\0\0\0", 4);
        assert_int_equal(decode(&sample, &message), 0);
        assert_int_equal(message.first_slot, 0);
        assert_int_equal(message.end_slot, 0);
    }
}

/* A message that is cut anywhere, or longer than it says, is refused. */
static void test_wrong_size(void **state)
{
    (void)state;
    struct sample samples[MESSAGE_COUNT] = {0};
    make_samples(samples);
    for (uint32_t i = 0; i < MESSAGE_COUNT; i++) {
        struct route_message message;
        size_t size = samples[i].size_bytes;
        for (size_t cut = 0; cut < size; cut++) {
            samples[i].size_bytes = cut;
            assert_int_equal(decode(&samples[i], &message), ERROR_PROTOCOL);
        }
        samples[i].size_bytes = size + 1;
        assert_int_equal(decode(&samples[i], &message), ERROR_PROTOCOL);
    }
}

/* Values that nobody writes are refused: each line is a message, an offset, and what stands
 * there. */
static void test_wrong_value(void **state)
{
    (void)state;
    static const struct {
        uint32_t sample;
        size_t offset;
        uint8_t value;
    } wrong[] = {
        {0, 0, 2},                    /* another version */
        {0, 1, 0},                    /* kinds that do not exist */
        {0, 1, 7},     {0, 2, 1},     /* not zero */
        {0, 8, 0},                    /* question 0 */
        {1, 44, 1},                   /* not zero */
        {2, 20, 0},                   /* reasons that do not exist */
        {2, 20, 5},    {3, 16, 0},    /* message 0 */
        {3, 24, 0},                   /* origin 0 */
        {3, 40, 1},                   /* fewer or more requests than there are */
        {3, 40, 3},    {3, 45, 0x40}, /* slots that do not exist, */
        {3, 47, 0x40}, {3, 47, 0},    /* a last one below the first */
        {3, 48, 0},                   /* session 0 */
        {3, 56, 0},                   /* sequence 0 */
        {3, 74, 1},                   /* protocols that do not exist */
        {3, 74, 4},    {3, 75, 8},    /* a flag that does not exist */
        {3, 75, 2},                   /* a read that grows */
        {3, 75, 4},                   /* a read that is a retry */
        {3, 80, 2},                   /* fewer or more arguments than there are */
        {3, 80, 4},    {3, 84, 19},   /* another size than the arguments have */
        {3, 84, 21},   {3, 87, 0xff}, /* a size above all bounds */
        {3, 91, 0xff},                /* an argument's too */
        {4, 16, 0},                   /* message 0 */
        {4, 32, 1},                   /* fewer or more replies than there are */
        {4, 32, 3},    {4, 36, 1},    /* not zero */
        {4, 40, 0},                   /* sequence 0 */
        {4, 48, 7},                   /* a verdict that does not exist */
        {4, 48, 1},                   /* a refusal with a reply */
        {4, 52, 4},                   /* another size than the reply has */
        {4, 52, 6},    {5, 8, 0},     /* origin 0 */
        {5, 16, 0},                   /* floor 0 */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct sample samples[MESSAGE_COUNT] = {0};
        make_samples(samples);
        struct route_message message;
        struct sample *sample = &samples[wrong[i].sample];
        assert_int_equal(decode(sample, &message), 0);
        assert_int_not_equal(sample->bytes[wrong[i].offset], wrong[i].value);
        sample->bytes[wrong[i].offset] = wrong[i].value;
        if (decode(sample, &message) != ERROR_PROTOCOL) {
            fail_msg("message %u with %u at %zu is accepted", wrong[i].sample, wrong[i].value,
                     wrong[i].offset);
        }
    }
}

/* A table keeps what was added until it is removed, also while it grows. */
static void test_table(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static struct route_table_item items[COUNT];
    struct route_table table = {0};
    assert_null(route__table_find(&table, 1));
    for (uint64_t i = 0; i < COUNT; i++) {
        route__table_add(&table, i * i, &items[i]);
    }
    for (uint64_t i = 0; i < COUNT; i += 2) {
        route__table_remove(&table, &items[i]);
    }
    assert_int_equal(table.item_count, COUNT / 2);
    for (uint64_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(route__table_find(&table, i * i), i % 2 == 0 ? NULL : &items[i]);
    }
    assert_null(route__table_find(&table, 3));
    route__table_deinit(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_items_there_and_back),
        cmocka_unit_test(test_no_slots),       cmocka_unit_test(test_wrong_size),
        cmocka_unit_test(test_wrong_value),    cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests_name("route_message", tests, NULL, NULL);
}
