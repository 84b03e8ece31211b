/* SPDX-License-Identifier: Apache-2.0 */
/* A `struct json` is jansson's json_t under another name. */
#include "driver/json/json.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "base/assert/assert.h"

enum { REAL_DIGITS = 15 }; /* Of decimals: what was 0.1 is written as 0.1. */

static json_t *inside(const struct json *json)
{
    return (json_t *)(uintptr_t)json;
}

static struct json *outside(json_t *value)
{
    if (value == NULL) {
        assert_fatal("tutti: out of memory for JSON");
    }
    return (struct json *)(void *)value;
}

struct json *json_object_create(void)
{
    return outside(json_object());
}

struct json *json_array_create(void)
{
    return outside(json_array());
}

void json_destroy(struct json *json)
{
    json_decref(inside(json));
}

void json_set(struct json *object, const char *key, struct json *child)
{
    int status = json_object_set_new(inside(object), key, inside(child));
    ASSERT(status == 0);
}

void json_append(struct json *array, struct json *child)
{
    int status = json_array_append_new(inside(array), inside(child));
    ASSERT(status == 0);
}

/* Text as jansson takes it: if it is not valid UTF-8, all of it that is not ASCII becomes question
 * marks. */
static json_t *make_text(const char *text)
{
    json_t *value = json_string(text);
    if (value != NULL) {
        return value;
    }
    struct buffer plain = {0};
    for (const char *each = text; *each != '\0'; each++) {
        buffer_append_byte(&plain, (uint8_t)*each < 0x80 ? (uint8_t)*each : '?');
    }
    value = json_stringn((const char *)plain.data, plain.size_bytes);
    buffer_deinit(&plain);
    return value;
}

void json_set_text(struct json *object, const char *key, const char *text)
{
    json_set(object, key, outside(make_text(text)));
}

void json_append_text(struct json *array, const char *text)
{
    json_append(array, outside(make_text(text)));
}

/* jansson's integers are signed; readers of JSON use doubles. */
static json_t *make_unsigned(uint64_t value)
{
    return value > INT64_MAX ? json_real((double)value) : json_integer((json_int_t)value);
}

void json_set_unsigned(struct json *object, const char *key, uint64_t value)
{
    json_set(object, key, outside(make_unsigned(value)));
}

void json_append_unsigned(struct json *array, uint64_t value)
{
    json_append(array, outside(make_unsigned(value)));
}

void json_set_real(struct json *object, const char *key, double value)
{
    json_set(object, key, outside(isfinite(value) ? json_real(value) : json_null()));
}

void json_set_boolean(struct json *object, const char *key, bool value)
{
    json_set(object, key, outside(json_boolean(value)));
}

void json_write(const struct json *json, struct buffer *text)
{
    char *written =
        json_dumps(inside(json), JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(REAL_DIGITS));
    if (written == NULL) {
        assert_fatal("tutti: out of memory for JSON");
    }
    buffer_append(text, bytes_of_text(written));
    free(written); /* jansson's, not base/memory's. */
}

void json_write_item(const struct json *item, struct buffer *items)
{
    if (items->size_bytes > 0) {
        buffer_append_byte(items, ',');
    }
    json_write(item, items);
}

void json_write_with(const struct json *object, const char *key, struct bytes items,
                     struct buffer *text)
{
    json_t *name = json_string(key);
    bool is_empty = json_object_size(inside(object)) == 0;
    json_write(object, text);
    ASSERT(text->data[text->size_bytes - 1] == '}');
    text->size_bytes--;
    if (!is_empty) {
        buffer_append_byte(text, ',');
    }
    json_write(outside(name), text);
    buffer_append(text, BYTES(":["));
    buffer_append(text, items);
    buffer_append(text, BYTES("]}"));
    json_decref(name);
}

int json_parse(struct json **json, struct bytes text, struct error *error)
{
    json_error_t reason;
    json_t *value = json_loadb((const char *)text.data, text.size_bytes,
                               JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &reason);
    if (value == NULL) {
        return error_say(error, ERROR_PROTOCOL, "line %d column %d: %s", reason.line, reason.column,
                         reason.text);
    }
    *json = outside(value);
    return 0;
}

const struct json *json_get(const struct json *object, const char *key)
{
    return (const struct json *)(const void *)json_object_get(inside(object), key);
}

const struct json *json_at(const struct json *array, size_t index)
{
    return (const struct json *)(const void *)json_array_get(inside(array), index);
}

bool json_is_keyed(const struct json *json)
{
    return json_is_object(inside(json));
}

const char *json_text(const struct json *json, const char *fallback)
{
    const char *text = json_string_value(inside(json));
    return text != NULL ? text : fallback;
}

double json_number(const struct json *json, double fallback)
{
    return json_is_number(inside(json)) ? json_number_value(inside(json)) : fallback;
}

uint32_t json_whole(const struct json *json, uint32_t fallback)
{
    double number = json_number(json, -1);
    bool is_whole = number >= 0 && number <= UINT32_MAX && number == (double)(uint32_t)number;
    return is_whole ? (uint32_t)number : fallback;
}

bool json_flag(const struct json *json, bool fallback)
{
    return json_is_boolean(inside(json)) ? json_is_true(inside(json)) : fallback;
}
