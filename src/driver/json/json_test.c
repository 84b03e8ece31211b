/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "driver/json/json.h"

static struct buffer text;

static const char *written(const struct json *json)
{
    buffer_clear(&text);
    json_write(json, &text);
    buffer_append_byte(&text, 0);
    return (const char *)text.data;
}

/* Claim: values of all kinds are written as JSON, in the order they were set. */
static void test_write(void **state)
{
    (void)state;
    struct json *object = json_object_create();
    struct json *list = json_array_create();
    struct json *item = json_object_create();
    json_set_text(item, "text", "a \"b\"\n\x01 gr\xc3\xbcn");
    json_append(list, item);
    json_set_unsigned(object, "z", 12345678901234567890ull);
    json_set_unsigned(object, "y", 42);
    json_set_real(object, "x", 0.1);
    json_set_real(object, "nan", NAN);
    json_set_boolean(object, "b", true);
    json_set(object, "list", list);
    assert_string_equal(written(object),
                        "{\"z\":1.23456789012346e19,\"y\":42,\"x\":0.1,\"nan\":null,\"b\":true,"
                        "\"list\":[{\"text\":\"a \\\"b\\\"\\n\\u0001 gr\xc3\xbcn\"}]}");
    json_destroy(object);
}

/* Claim: an array that is written item by item is as it would have been. */
static void test_write_items(void **state)
{
    (void)state;
    struct buffer items = {0};
    for (uint64_t count = 0; count < 3; count++) {
        struct json *object = json_object_create();
        struct json *parsed = NULL;
        if (count > 0) {
            struct json *item = json_object_create();
            json_set_unsigned(item, "n", count);
            json_write_item(item, &items);
            json_destroy(item);
            json_set_text(object, "text", "}");
        }
        buffer_clear(&text);
        json_write_with(object, "a \"list\"", buffer_bytes(&items), &text);
        json_destroy(object);
        assert_int_equal(json_parse(&parsed, buffer_bytes(&text), NULL), 0);
        static const char *const expected[] = {
            "{\"a \\\"list\\\"\":[]}", "{\"text\":\"}\",\"a \\\"list\\\"\":[{\"n\":1}]}",
            "{\"text\":\"}\",\"a \\\"list\\\"\":[{\"n\":1},{\"n\":2}]}"};
        assert_string_equal(written(parsed), expected[count]);
        json_destroy(parsed);
    }
    buffer_deinit(&items);
}

/* Claim: text that is not UTF-8 never makes text that is not JSON. */
static void test_bad_text(void **state)
{
    (void)state;
    struct json *object = json_object_create();
    json_set_text(object, "a", "x\xff\xc3(y");
    assert_string_equal(written(object), "{\"a\":\"x\?\?(y\"}");
    json_destroy(object);
}

/* Claim: what was read can be asked for in one go, and what is not there is the fallback. */
static void test_parse(void **state)
{
    (void)state;
    struct json *json = NULL;
    struct error error = {0};
    struct bytes input = BYTES("{\"a\": {\"b\": [1, 2.5, \"three\", true]}}");
    assert_int_equal(json_parse(&json, input, &error), 0);
    const struct json *list = json_get(json_get(json, "a"), "b");
    assert_true(json_number(json_at(list, 0), -1) == 1);
    assert_true(json_number(json_at(list, 1), -1) == 2.5);
    assert_string_equal(json_text(json_at(list, 2), "none"), "three");
    assert_true(json_flag(json_at(list, 3), false));
    assert_null(json_at(list, 4));
    assert_null(json_get(json_get(json_get(json, "x"), "y"), "z"));
    assert_string_equal(json_text(json_at(list, 0), "none"), "none");
    assert_true(json_number(NULL, 7) == 7);
    assert_int_equal(json_whole(json_at(list, 0), 7), 1);
    assert_int_equal(json_whole(json_at(list, 1), 7), 7);
    assert_int_equal(json_whole(NULL, 7), 7);
    json_destroy(json);
}

/* Claim: what is not one JSON value is refused, with its place. */
static void test_parse_errors(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "{", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "[1] x", "\"\xff\"", "nan", "01", "{'a':1}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct json *json = NULL;
        struct error error = {0};
        assert_int_equal(json_parse(&json, bytes_of_text(bad[i]), &error), ERROR_PROTOCOL);
        assert_int_equal(strncmp(error.message, "line 1 column ", 14), 0);
        assert_null(json);
    }
    buffer_deinit(&text);
}

/* Claim: arrays hold plain values too, and an object is told from other values. */
static void test_kinds(void **state)
{
    (void)state;
    struct json *list = json_array_create();
    struct json *object = json_object_create();
    json_append_text(list, "a");
    json_append_unsigned(list, 7);
    json_append_unsigned(list, UINT64_MAX);
    assert_string_equal(written(list), "[\"a\",7,1.84467440737096e19]");
    assert_true(json_is_keyed(object));
    assert_false(json_is_keyed(list));
    assert_false(json_is_keyed(json_at(list, 0)));
    assert_false(json_is_keyed(NULL));
    json_destroy(list);
    json_destroy(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),        cmocka_unit_test(test_write),
        cmocka_unit_test(test_bad_text),     cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_errors), cmocka_unit_test(test_write_items),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
