/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv/kv_lcs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "base/random/random.h"

/* The answer as RESP3 text. */
static void check(const char *left, const char *right, const char *options, const char *expected)
{
    struct bytes words[8];
    uint32_t word_count = 0;
    const char *at = options;
    while (*at != '\0') {
        size_t size_bytes = strcspn(at, " ");
        words[word_count] = bytes_make(at, size_bytes);
        word_count++;
        at += size_bytes + strspn(at + size_bytes, " ");
    }
    struct buffer target = {0};
    const struct reply reply = {.target = &target, .protocol = 3};
    kv__lcs_answer(&reply, bytes_of_text(left), bytes_of_text(right), words, word_count);
    buffer_append_byte(&target, 0);
    assert_string_equal((const char *)target.data, expected);
    buffer_deinit(&target);
}

static void test_the_example_of_the_documentation(void **state)
{
    /* ohmytext and mynewtext are the strings with which Redis documents the command. */
    check("ohmytext", "mynewtext", "", "$6\r\nmytext\r\n");
    check("ohmytext", "mynewtext", "LEN", ":6\r\n");
    check("ohmytext", "mynewtext", "IDX",
          "%2\r\n$7\r\nmatches\r\n*2\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n"
          "*2\r\n*2\r\n:2\r\n:3\r\n*2\r\n:0\r\n:1\r\n$3\r\nlen\r\n:6\r\n");
    check("ohmytext", "mynewtext", "idx minmatchlen 4",
          "%2\r\n$7\r\nmatches\r\n*1\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n"
          "$3\r\nlen\r\n:6\r\n");
    check("ohmytext", "mynewtext", "IDX MINMATCHLEN 4 WITHMATCHLEN",
          "%2\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n"
          "$3\r\nlen\r\n:6\r\n");
}

static void test_options_are_checked_as_in_redis(void **state)
{
    check("a", "a", "LEN IDX",
          "-ERR If you want both the length and indexes, please just use IDX.\r\n");
    check("a", "a", "MINMATCHLEN", "-ERR syntax error\r\n");
    check("a", "a", "WHAT", "-ERR syntax error\r\n");
    check("a", "a", "MINMATCHLEN x", "-ERR value is not an integer or out of range\r\n");
    check("a", "a", "IDX MINMATCHLEN -5 LEN",
          "-ERR If you want both the length and indexes, please just use IDX.\r\n");
    check("ab", "ab", "IDX MINMATCHLEN -5",
          "%2\r\n$7\r\nmatches\r\n*1\r\n*2\r\n*2\r\n:0\r\n:1\r\n*2\r\n:0\r\n:1\r\n"
          "$3\r\nlen\r\n:2\r\n");
}

static void test_empty_strings_have_nothing_in_common(void **state)
{
    check("", "", "", "$0\r\n\r\n");
    check("", "abc", "LEN", ":0\r\n");
    check("abc", "", "IDX", "%2\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n");
}

static void test_what_redis_would_refuse_is_refused(void **state)
{
    /* The edge: (2^14 - 1 + 1) * (2^13 - 1 + 1) cells of four bytes are exactly 512 MiB. */
    assert_true(kv__lcs_fits((1 << 14) - 1, (1 << 13) - 1));
    assert_false(kv__lcs_fits(1 << 14, (1 << 13) - 1));
    assert_false(kv__lcs_fits(UINT64_MAX, UINT64_MAX));
    assert_false(kv__lcs_fits(UINT64_MAX, 0));
    size_t size_bytes = 1 << 15;
    uint8_t *zeros = memory_allocate_zeroed(size_bytes, 1);
    struct buffer target = {0};
    const struct reply reply = {.target = &target, .protocol = 2};
    kv__lcs_answer(&reply, bytes_make(zeros, size_bytes), bytes_make(zeros, size_bytes), NULL, 0);
    struct bytes expected = BYTES("-ERR Insufficient memory, transient memory for LCS exceeds "
                                  "proto-max-bulk-len\r\n");
    assert_true(bytes_equal(buffer_bytes(&target), expected));
    buffer_deinit(&target);
    memory_free(zeros);
}

static uint32_t length_slowly(struct bytes left, struct bytes right)
{
    uint32_t table[33][33] = {0};
    for (size_t i = 1; i <= left.size_bytes; i++) {
        for (size_t j = 1; j <= right.size_bytes; j++) {
            uint32_t above = table[i - 1][j];
            uint32_t before = table[i][j - 1];
            table[i][j] = above > before ? above : before;
            if (left.data[i - 1] == right.data[j - 1]) {
                table[i][j] = table[i - 1][j - 1] + 1;
            }
        }
    }
    return table[left.size_bytes][right.size_bytes];
}

static void test_random_strings_agree_with_the_textbook(void **state)
{
    /* What is found has the right length, and its runs spell it in both strings, last one first. */
    struct random random;
    random_init(&random, 7);
    struct buffer text = {0};
    struct buffer matches = {0};
    for (int round = 0; round < 3000; round++) {
        uint8_t strings[2][32];
        struct bytes left = bytes_make(strings[0], random_below(&random, 33));
        struct bytes right = bytes_make(strings[1], random_below(&random, 33));
        for (size_t i = 0; i < sizeof strings; i++) {
            strings[i / 32][i % 32] = (uint8_t)('a' + random_below(&random, 3));
        }
        buffer_clear(&text);
        buffer_clear(&matches);
        uint32_t length = kv__lcs_find(left, right, &text, &matches);
        assert_int_equal(length, length_slowly(left, right));
        assert_int_equal(length, kv__lcs_length(left, right));
        assert_int_equal(length, text.size_bytes);

        const struct kv__lcs_match *match = (const struct kv__lcs_match *)matches.data;
        size_t text_at = length;
        for (size_t i = 0; i < matches.size_bytes / sizeof *match; i++) {
            size_t run = match[i].left_last - match[i].left_first + 1;
            assert_int_equal(run, match[i].right_last - match[i].right_first + 1);
            assert_true(match[i].left_last < left.size_bytes);
            assert_true(match[i].right_last < right.size_bytes);
            text_at -= run;
            assert_memory_equal(left.data + match[i].left_first, text.data + text_at, run);
            assert_memory_equal(right.data + match[i].right_first, text.data + text_at, run);
        }
        assert_int_equal(text_at, 0);
    }
    buffer_deinit(&text);
    buffer_deinit(&matches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_example_of_the_documentation),
        cmocka_unit_test(test_options_are_checked_as_in_redis),
        cmocka_unit_test(test_empty_strings_have_nothing_in_common),
        cmocka_unit_test(test_what_redis_would_refuse_is_refused),
        cmocka_unit_test(test_random_strings_agree_with_the_textbook),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
