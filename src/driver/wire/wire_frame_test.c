/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "driver/wire/wire_internal.h"

/* Claim: a frame has exactly these bytes; another program could make them from the format's
 * description. */
static void test_bytes(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        0x05, 0x00, 0x00, 0x00, /* Size. */
        0x34, 0x12,             /* Kind. */
        0x00, 0x00,             /* Flags. */
        0xc4, 0x34, 0x1f, 0xc7, /* CRC-32C of bytes 0 to 7 and "hello". */
        0x00, 0x00, 0x00, 0x00, /* Zero. */
        'h',  'e',  'l',  'l',  'o',
    };
    uint8_t frame[sizeof expected];
    struct bytes pieces[] = {BYTES("he"), BYTES(""), BYTES("llo")};
    struct wire__pool pool;
    struct wire__queue queue;
    memset(frame, 0xee, sizeof frame);
    wire__frame_encode(frame, 0x1234, BYTES("hello"));
    assert_memory_equal(frame, expected, sizeof expected);
    wire__pool_init(&pool);
    wire__queue_init(&queue, &pool);
    wire__queue_append_message(&queue, 0x1234, pieces, 3, 5);
    assert_true(bytes_equal(wire__queue_peek(&queue, 100), bytes_make(expected, sizeof expected)));
    wire__queue_clear(&queue);
    wire__pool_deinit(&pool);
}

/* Claim: a frame is found when it is whole, and not before; until then it is said how much is
 * wanted. */
static void test_incomplete(void **state)
{
    (void)state;
    uint8_t frame[WIRE_HEADER_SIZE_BYTES + 100];
    uint8_t content[100];
    struct bytes piece = bytes_make(content, sizeof content);
    struct wire__header header;
    struct bytes payload;
    const char *reason = NULL;
    memset(content, 'x', sizeof content);
    wire__frame_encode(frame, 9, piece);
    for (size_t size = 0; size < sizeof frame; size++) {
        size_t wanted_bytes = 0;
        assert_int_equal(wire__frame_decode(bytes_make(frame, size), 100, &header, &payload,
                                            &wanted_bytes, &reason),
                         WIRE__INCOMPLETE);
        assert_int_equal(wanted_bytes, size < WIRE_HEADER_SIZE_BYTES ? 16 : 116);
    }
    size_t wanted_bytes = 0;
    assert_int_equal(wire__frame_decode(bytes_make(frame, sizeof frame), 100, &header, &payload,
                                        &wanted_bytes, &reason),
                     WIRE__FRAME);
    assert_int_equal(header.kind, 9);
    assert_true(bytes_equal(payload, piece));
    assert_int_equal(wire__frame_decode(bytes_make(frame, sizeof frame), 99, &header, &payload,
                                        &wanted_bytes, &reason),
                     WIRE__MALFORMED);
}

/* Claim: no changed bit of a frame passes for that frame. */
static void test_changed_bits(void **state)
{
    (void)state;
    uint8_t frame[WIRE_HEADER_SIZE_BYTES + 5];
    struct bytes piece = BYTES("hello");
    wire__frame_encode(frame, 9, piece);
    for (size_t bit = 0; bit < 8 * sizeof frame; bit++) {
        struct wire__header header;
        struct bytes payload;
        const char *reason = NULL;
        size_t wanted_bytes = 0;
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(wire__frame_decode(bytes_make(frame, sizeof frame), 1 << 20, &header,
                                                &payload, &wanted_bytes, &reason),
                             WIRE__FRAME);
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* Claim: what is said in a HELLO is what is read from it, at the limits too. */
static void test_hello(void **state)
{
    (void)state;
    struct wire__hello hello = {
        .node_id = UINT32_MAX, .boot_id = UINT64_MAX, .version_min = 3, .version_max = UINT32_MAX};
    memset(hello.cluster, 'f', sizeof hello.cluster - 1);
    memset(hello.software, '9', sizeof hello.software - 1);
    struct buffer message = {0};
    struct wire__hello read;
    wire__hello_encode(&message, &hello);
    assert_true(wire__hello_decode(buffer_bytes(&message), &read));
    assert_memory_equal(&read, &hello, sizeof hello);
    for (size_t size = 0; size < message.size_bytes; size++) {
        (void)!wire__hello_decode(bytes_make(message.data, size), &read); /* Not beyond the end. */
    }
    buffer_append_byte(&message, 0x3a); /* A field 7 of two bytes: of a later version. */
    buffer_append(&message, BYTES("\x02hi"));
    assert_true(wire__hello_decode(buffer_bytes(&message), &read));
    assert_memory_equal(&read, &hello, sizeof hello);
    buffer_deinit(&message);
}

/* Claim: a HELLO that cannot be true is none. */
static void test_bad_hellos(void **state)
{
    (void)state;
    static const struct wire__hello bad[] = {
        {"ff", 1, 0, 1, 1, "no boot"},
        {"ff", 1, 77, 0, 1, "version 0"},
        {"ff", 1, 77, 2, 1, "the wrong way round"},
    };
    struct wire__hello read = {.node_id = 5};
    for (size_t i = 0; i < 3; i++) {
        struct buffer message = {0};
        wire__hello_encode(&message, &bad[i]);
        assert_false(wire__hello_decode(buffer_bytes(&message), &read));
        buffer_deinit(&message);
    }
    /* A cluster of 65 digits. */
    struct buffer message = {0};
    buffer_append(&message, BYTES("\x0a\x41"));
    memset(buffer_extend(&message, 65), 'f', 65);
    buffer_append(&message, BYTES("\x10\x01\x19\x01\0\0\0\0\0\0\0\x20\x01\x28\x01"));
    assert_false(wire__hello_decode(buffer_bytes(&message), &read));
    message.data[1] = 0x40; /* 64 of them, and a byte that belongs nowhere. */
    assert_false(wire__hello_decode(buffer_bytes(&message), &read));
    assert_false(wire__hello_decode((struct bytes){0}, &read));
    assert_int_equal(read.node_id, 5);
    buffer_deinit(&message);
}

/* Claim: texts from outside cannot write to the terminal of whoever reads the log. */
static void test_texts(void **state)
{
    (void)state;
    struct wire__refusal refusal = {.reason = 900, .text = "no\x1b[31m\n\xc3\xa9"};
    struct wire__refusal read;
    struct buffer message = {0};
    wire__refusal_encode(&message, &refusal);
    assert_true(wire__refusal_decode(buffer_bytes(&message), &read));
    assert_int_equal(read.reason, 900);
    assert_string_equal(read.text, "no?[31m???");
    buffer_clear(&message);
    buffer_append(&message, BYTES("\x12\x81\x04")); /* A text of 513 bytes is cut. */
    memset(buffer_extend(&message, 513), 'x', 513);
    assert_true(wire__refusal_decode(buffer_bytes(&message), &read));
    assert_int_equal(strlen(read.text), sizeof read.text - 1);
    buffer_deinit(&message);
}

/* Claim: of two ranges of versions the highest common one is spoken, or none. */
static void test_versions(void **state)
{
    (void)state;
    static const struct {
        uint32_t left_min, left_max, right_min, right_max, expected;
    } cases[] = {
        {1, 1, 1, 1, 1}, {1, 2, 2, 3, 2}, {1, 5, 2, 3, 3}, {1, 1, 2, 2, 0},
        {3, 4, 1, 2, 0}, {1, 9, 9, 9, 9}, {2, 3, 1, 5, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wire__hello left = {.version_min = cases[i].left_min,
                                   .version_max = cases[i].left_max};
        struct wire__hello right = {.version_min = cases[i].right_min,
                                    .version_max = cases[i].right_max};
        assert_int_equal(wire__version_of(&left, &right), cases[i].expected);
        assert_int_equal(wire__version_of(&right, &left), cases[i].expected);
    }
}

/* Claim: a queue gives back what was put in, in order, whatever the sizes, and keeps some memory
 * for the next. */
static void test_queue(void **state)
{
    (void)state;
    static uint8_t source[600000];
    struct wire__pool pool;
    struct wire__queue queue;
    struct random random;
    uint8_t written = 0;
    uint8_t read = 0;
    uint64_t size_bytes = 0;
    wire__pool_init(&pool);
    wire__queue_init(&queue, &pool);
    random_init(&random, 3);
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t count = 1 + (uint32_t)random_below(&random, i % 50 == 0 ? 599999 : 1 + i % 3000);
        for (uint32_t j = 0; j < count; j++) {
            source[j] = written++;
        }
        if (count < 16) {
            memcpy(wire__queue_extend(&queue, count), source, count);
        } else {
            wire__queue_append(&queue, bytes_make(source, count));
        }
        size_bytes += count;
        while (size_bytes > 400000 || (i == 2999 && size_bytes > 0)) {
            struct bytes piece = wire__queue_peek(&queue, 50000);
            assert_true(piece.size_bytes > 0);
            assert_true(piece.size_bytes <= 50000);
            for (size_t j = 0; j < piece.size_bytes; j++) {
                if (piece.data[j] != read++) {
                    fail_msg("byte %zu", j);
                }
            }
            wire__queue_consume(&queue, (uint32_t)piece.size_bytes);
            size_bytes -= piece.size_bytes;
        }
        assert_int_equal(queue.size_bytes, size_bytes);
    }
    assert_int_equal(wire__queue_peek(&queue, 1).size_bytes, 0);
    assert_true(pool.count > 0);
    assert_true(pool.count <= WIRE__SPARE_CHUNKS_MAX);
    (void)wire__queue_extend(&queue, 100);
    wire__queue_clear(&queue);
    assert_int_equal(queue.size_bytes, 0);
    wire__pool_deinit(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),        cmocka_unit_test(test_incomplete),
        cmocka_unit_test(test_changed_bits), cmocka_unit_test(test_hello),
        cmocka_unit_test(test_bad_hellos),   cmocka_unit_test(test_texts),
        cmocka_unit_test(test_versions),     cmocka_unit_test(test_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
