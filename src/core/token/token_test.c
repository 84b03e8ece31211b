/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/token/token.h"

static struct token sample(void)
{
    struct token token;
    for (size_t i = 0; i < sizeof token.fingerprint; i++) {
        token.fingerprint[i] = (uint8_t)(i * 7);
    }
    for (size_t i = 0; i < sizeof token.secret; i++) {
        token.secret[i] = (uint8_t)(0xff - i);
    }
    return token;
}

static int decode(const char *text, struct token *token, struct error *error)
{
    *error = (struct error){0};
    return token_decode(token, bytes_of_text(text), error);
}

/* Claim: what was encoded is decoded, from a text that stays the same for ever. */
static void test_round_trip(void **state)
{
    (void)state;
    struct token token = sample();
    struct token decoded = {0};
    struct error error;
    char text[TOKEN_TEXT_SIZE];
    assert_ptr_equal(token_encode(&token, text), text);
    assert_string_equal(text, "tutti1-aeaaodqvdqrsumjyh5de2vc3mjuxa536qwgjhgv"
                              "bvcx3npoezpjnt7767x6px6xz7d37n5pu6pzpd4bkefp6m");
    assert_int_equal(strlen(text), TOKEN_TEXT_SIZE - 1);
    assert_int_equal(decode(text, &decoded, &error), 0);
    assert_memory_equal(&decoded, &token, sizeof token);
}

/* Claim: blanks around it and capitals, as mail and telephones make them, do no harm. */
static void test_is_lenient(void **state)
{
    (void)state;
    struct token token = sample();
    struct token decoded = {0};
    struct error error;
    char text[TOKEN_TEXT_SIZE];
    char spaced[TOKEN_TEXT_SIZE + 8];
    token_encode(&token, text);
    for (char *each = text; *each != '\0'; each++) {
        *each = *each >= 'a' && *each <= 'z' ? (char)(*each - 32) : *each;
    }
    (void)snprintf(spaced, sizeof spaced, " \t%s\r\n", text);
    assert_int_equal(decode(spaced, &decoded, &error), 0);
    assert_memory_equal(&decoded, &token, sizeof token);
}

/* Claim: what is no token is told from a token that is damaged or too new, and nothing is given. */
static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
        const char *part;
    } cases[] = {
        {"", -EINVAL, "not a join token"},
        {"   ", -EINVAL, "not a join token"},
        {"secret", -EINVAL, "not a join token"},
        {"tutti", -EINVAL, "not a join token"},
        {"tutti1", -EINVAL, "not a join token"},
        {"tuttia-abc", -EINVAL, "not a join token"},
        {"tutti1-", ERROR_CORRUPT, "damaged"},
        {"tutti1-abc", ERROR_CORRUPT, "damaged"},
        {"tutti2-abc", ERROR_NEWER_FORMAT, "newer version"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct token token = {.secret = {42}};
        struct error error;
        assert_int_equal(decode(cases[i].text, &token, &error), cases[i].status);
        assert_non_null(strstr(error.message, cases[i].part));
        assert_int_equal(token.secret[0], 42);
    }
}

/* Claim: any single character that is changed, lost or added is noticed. */
static void test_damage(void **state)
{
    (void)state;
    struct token token = sample();
    struct token decoded;
    struct error error;
    char text[TOKEN_TEXT_SIZE];
    char damaged[TOKEN_TEXT_SIZE + 1];
    token_encode(&token, text);
    for (size_t i = sizeof "tutti1-" - 1; i < TOKEN_TEXT_SIZE - 1; i++) {
        memcpy(damaged, text, sizeof text);
        damaged[i] = text[i] == 'q' ? 'r' : 'q';
        assert_int_equal(decode(damaged, &decoded, &error), ERROR_CORRUPT);
        damaged[i] = '0'; /* Not a letter of base32. */
        assert_int_equal(decode(damaged, &decoded, &error), ERROR_CORRUPT);
        memcpy(damaged, text, i);
        memcpy(damaged + i, text + i + 1, sizeof text - i - 1);
        assert_int_equal(decode(damaged, &decoded, &error), ERROR_CORRUPT);
        memcpy(damaged + i, "a", 1);
        memcpy(damaged + i + 1, text + i, sizeof text - i);
        assert_int_equal(decode(damaged, &decoded, &error), ERROR_CORRUPT);
        assert_null(strstr(error.message, text + 10));
    }
}

/* Claim: every version of the content that is not known is refused as newer, checksum and all. */
static void test_newer_content(void **state)
{
    (void)state;
    struct token decoded;
    struct error error;
    assert_int_equal(decode("tutti1-aiaaodqvdqrsumjyh5de2vc3mjuxa536qwgjhgv"
                            "bvcx3npoezpjnt7767x6px6xz7d37n5pu6pzpd4g5su4kw",
                            &decoded, &error),
                     ERROR_NEWER_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_is_lenient),
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_damage),
        cmocka_unit_test(test_newer_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
