/* SPDX-License-Identifier: Apache-2.0 */
#include "base/glob/glob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

struct example {
    const char *pattern;
    const char *text;
    bool is_match;
};

static void check(const struct example *examples, size_t count, bool is_ignoring_case)
{
    for (size_t i = 0; i < count; i++) {
        bool is_match = glob_matches(bytes_of_text(examples[i].pattern),
                                     bytes_of_text(examples[i].text), is_ignoring_case);
        if (is_match != examples[i].is_match) {
            fail_msg("\"%s\" against \"%s\": %d", examples[i].pattern, examples[i].text, is_match);
        }
    }
}

#define CHECK(examples, is_ignoring_case) \
    check(examples, sizeof examples / sizeof examples[0], is_ignoring_case)

static void test_each_element_takes_what_it_says(void **state)
{
    static const struct example examples[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"abc", "abc", true},
        {"abc", "abcd", false},
        {"abcd", "abc", false},
        {"h?llo", "hello", true},
        {"h?llo", "hllo", false},
        {"?", "", false},
        {"h[ae]llo", "hallo", true},
        {"h[ae]llo", "hillo", false},
        {"h[^e]llo", "hallo", true},
        {"h[^e]llo", "hello", false},
        {"h[a-c]llo", "hbllo", true},
        {"h[a-c]llo", "hdllo", false},
        {"[c-a]", "b", true},
        {"[a-cx-z]", "y", true},
        {"[a-cx-z]", "d", false},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"a\\?b", "a?b", true},
        {"a\\?b", "axb", false},
        {"[\\]]", "]", true},
        {"[\\]]", "\\", false},
        {"[\\^a]", "^", true},
        {"[a^]", "^", true},
    };
    CHECK(examples, false);
}

static void test_a_star_takes_any_length(void **state)
{
    static const struct example examples[] = {
        {"*", "", true},
        {"*", "anything", true},
        {"***", "", true},
        {"a*", "a", true},
        {"a*", "ba", false},
        {"*a", "bba", true},
        {"*a", "bab", false},
        {"*ab", "aab", true},
        {"a*b*c", "a1b2c", true},
        {"a*b*c", "a1c2b", false},
        {"*aab*", "aaaaab", true},
        {"user:*:name", "user:17:name", true},
        {"user:*:name", "user:17:nam", false},
        {"*[0-9]", "key9", true},
        {"*\\*", "stars*", true},
        {"*?", "", false},
        {"*??", "ab", true},
    };
    CHECK(examples, false);
}

static void test_odd_patterns_read_as_in_redis(void **state)
{
    /* Everything is a pattern: what looks unfinished has the meaning that Redis gives it. */
    static const struct example examples[] = {
        {"\\", "\\", true},   {"a\\", "a\\", true}, {"a\\", "a", false},   {"[", "a", false},
        {"[", "[", false},    {"[a", "a", true},    {"[a", "b", false},    {"[a-", "-", true},
        {"[a-", "a", true},   {"[^", "x", true},    {"[]", "]", false},    {"[]", "a", false},
        {"[]a]", "a", false}, {"[^]", "a", true},   {"[a-]x", "b", false}, {"[+-]x", "A", true},
        {"a]", "a]", true},   {"[-a]", "-", true},
    };
    CHECK(examples, false);
}

static void test_case_is_ignored_on_request_only(void **state)
{
    static const struct example folded[] = {
        {"MaxMemory*", "maxmemory-policy", true},
        {"m[A-C]x", "MbX", true},
        {"\\A", "a", true},
        {"[x]", "X", true},
        {"@", "`", false},
        {"[", "{", false},
    };
    static const struct example exact[] = {
        {"A", "a", false},
        {"[a-z]", "B", false},
        {"\\a", "A", false},
    };
    CHECK(folded, true);
    CHECK(exact, false);
}

static void test_bytes_are_just_bytes(void **state)
{
    /* Zero bytes and bytes above 127 take part like all others. */
    assert_true(glob_matches(BYTES("a\0*\xff"), BYTES("a\0\0b\xff"), false));
    assert_false(glob_matches(BYTES("a\0"), BYTES("a\0\0"), false));
    assert_true(glob_matches(BYTES("[\x80-\xff]"), BYTES("\xc3"), false));
    assert_true(glob_matches(BYTES("?"), BYTES("\0"), false));
    assert_true(glob_matches(bytes_make(NULL, 0), bytes_make(NULL, 0), false));
}

static void test_many_stars_take_no_exponential_time(void **state)
{
    /* A recursive matcher needs longer than the age of the universe for this one. */
    enum { PAIR_COUNT = 60, TEXT_SIZE_BYTES = 20000 };
    struct buffer pattern = {0};
    struct buffer text = {0};
    for (int i = 0; i < PAIR_COUNT; i++) {
        buffer_append(&pattern, BYTES("a*"));
    }
    buffer_append(&pattern, BYTES("b"));
    for (int i = 0; i < TEXT_SIZE_BYTES; i++) {
        buffer_append_byte(&text, 'a');
    }
    assert_false(glob_matches(buffer_bytes(&pattern), buffer_bytes(&text), false));
    buffer_append_byte(&text, 'b');
    assert_true(glob_matches(buffer_bytes(&pattern), buffer_bytes(&text), false));
    buffer_deinit(&pattern);
    buffer_deinit(&text);
}

static void test_only_stars_match_everything(void **state)
{
    assert_true(glob_matches_all(BYTES("*")));
    assert_true(glob_matches_all(BYTES("**")));
    assert_false(glob_matches_all(BYTES("")));
    assert_false(glob_matches_all(BYTES("*a")));
    assert_false(glob_matches_all(BYTES("\\*")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_element_takes_what_it_says),
        cmocka_unit_test(test_a_star_takes_any_length),
        cmocka_unit_test(test_odd_patterns_read_as_in_redis),
        cmocka_unit_test(test_case_is_ignored_on_request_only),
        cmocka_unit_test(test_bytes_are_just_bytes),
        cmocka_unit_test(test_many_stars_take_no_exponential_time),
        cmocka_unit_test(test_only_stars_match_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
