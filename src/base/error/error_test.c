/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_the_message_ends_with_the_text_of_the_code(void **state)
{
    /* Both kinds of code have a text: the system's and ours. */
    struct error error = {0};
    assert_int_equal(error_set(&error, -ENOENT, "open %s", "/d/7"), -ENOENT);
    assert_int_equal(error.code, -ENOENT);
    assert_string_equal(error.message, "open /d/7: No such file or directory");
    assert_int_equal(error_set(&error, ERROR_CORRUPT, "segment %d", 7), ERROR_CORRUPT);
    assert_string_equal(error.message, "segment 7: stored bytes are damaged");
}

static void test_saying_adds_nothing(void **state)
{
    /* For a reason that stands for itself. */
    struct error error = {0};
    assert_int_equal(error_say(&error, -EINVAL, "no flag --%s", "x"), -EINVAL);
    assert_int_equal(error.code, -EINVAL);
    assert_string_equal(error.message, "no flag --x");
}

static void test_wrapping_puts_context_in_front(void **state)
{
    /* The inner reason stays readable, and the new code replaces the old. */
    struct error error = {0};
    (void)error_say(&error, -EIO, "bad checksum");
    assert_int_equal(error_wrap(&error, ERROR_CORRUPT, "segment %d", 7), ERROR_CORRUPT);
    assert_int_equal(error.code, ERROR_CORRUPT);
    assert_string_equal(error.message, "segment 7: bad checksum");
}

static void test_a_message_too_long_is_cut_at_its_end(void **state)
{
    /* Never written past the struct, always terminated, whichever function makes it long. */
    struct {
        struct error error;
        char guard;
    } guarded = {.guard = 'g'};
    (void)error_set(&guarded.error, -EIO, "%0300d", 1);
    assert_int_equal(strlen(guarded.error.message), ERROR_MESSAGE_SIZE - 1);
    (void)error_wrap(&guarded.error, -EIO, "%0249d", 2);
    assert_int_equal(strlen(guarded.error.message), ERROR_MESSAGE_SIZE - 1);
    assert_memory_equal(guarded.error.message + 247, "02: ", 4);
    (void)error_wrap(&guarded.error, -EIO, "%0300d", 3);
    assert_int_equal(strlen(guarded.error.message), ERROR_MESSAGE_SIZE - 1);
    (void)error_say(&guarded.error, -EIO, "%0300d", 4);
    assert_int_equal(strlen(guarded.error.message), ERROR_MESSAGE_SIZE - 1);
    assert_int_equal(guarded.guard, 'g');
}

static void test_nobody_needs_to_listen(void **state)
{
    /* A caller that branches on the code alone passes NULL. */
    assert_int_equal(error_set(NULL, -EIO, "x"), -EIO);
    assert_int_equal(error_say(NULL, -EIO, "x"), -EIO);
    assert_int_equal(error_wrap(NULL, -EIO, "x"), -EIO);
}

static void test_every_code_has_a_text_of_its_own(void **state)
{
    /* Ours begin at -10000, where no system code is; an unknown one still has a text. */
#define CHECK_CODE(name, value, text)            \
    assert_string_equal(error_text(name), text); \
    assert_true((value) <= -10000);
    ERROR_TABLE(CHECK_CODE)
#undef CHECK_CODE
    assert_string_equal(error_text(0), "success");
    assert_string_equal(error_text(-ENOSPC), "No space left on device");
    assert_string_equal(error_text(-9999), "unknown error");
    assert_string_equal(error_text(12345), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_message_ends_with_the_text_of_the_code),
        cmocka_unit_test(test_saying_adds_nothing),
        cmocka_unit_test(test_wrapping_puts_context_in_front),
        cmocka_unit_test(test_a_message_too_long_is_cut_at_its_end),
        cmocka_unit_test(test_nobody_needs_to_listen),
        cmocka_unit_test(test_every_code_has_a_text_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
