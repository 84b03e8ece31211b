/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/number/number.h"
#include "gateway/control/control_internal.h"

static int hex_value(uint8_t digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    uint8_t lower = digit | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Undo %XX and +, behind which a zero is put; false for a bad escape, and for a zero within. */
static bool decode(struct bytes text, struct buffer *target)
{
    buffer_clear(target);
    for (size_t i = 0; i < text.size_bytes; i++) {
        uint8_t byte = text.data[i];
        if (byte == '+') {
            byte = ' ';
        } else if (byte == '%') {
            if (text.size_bytes - i < 3) {
                return false;
            }
            int high = hex_value(text.data[i + 1]);
            int low = hex_value(text.data[i + 2]);
            if (high < 0 || low < 0) {
                return false;
            }
            byte = (uint8_t)(high << 4 | low);
            i += 2;
        }
        if (byte == 0) {
            return false;
        }
        buffer_append_byte(target, byte);
    }
    buffer_append_byte(target, 0);
    return true;
}

static void set_value(struct json *object, const char *name, const char *value)
{
    uint64_t number;
    if (number_parse_unsigned(bytes_of_text(value), &number)) {
        json_set_unsigned(object, name, number);
    } else if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0) {
        json_set_boolean(object, name, value[0] == 't');
    } else {
        json_set_text(object, name, value);
    }
}

static struct bytes cut(struct bytes *text, char separator)
{
    const uint8_t *end =
        text->size_bytes == 0 ? NULL : memchr(text->data, separator, text->size_bytes);
    size_t size_bytes = end == NULL ? text->size_bytes : (size_t)(end - text->data);
    struct bytes first = bytes_make(text->data, size_bytes);
    size_t used = size_bytes + (end != NULL);
    *text = bytes_make(text->data + used, text->size_bytes - used);
    return first;
}

/* A name is ASCII, so that it is valid in JSON. */
static bool is_name(const char *name)
{
    for (const char *each = name; *each != '\0'; each++) {
        if (*each <= ' ' || (uint8_t)*each >= 0x7f) {
            return false;
        }
    }
    return name[0] != '\0';
}

struct json *control__parse_query(struct bytes query, struct error *error)
{
    struct json *object = json_object_create();
    struct buffer name = {0};
    struct buffer value = {0};
    bool is_good = true;
    while (query.size_bytes > 0 && is_good) {
        struct bytes pair = cut(&query, '&');
        bool has_value = pair.size_bytes > 0 && memchr(pair.data, '=', pair.size_bytes) != NULL;
        struct bytes first = cut(&pair, '=');
        is_good = decode(first, &name) && decode(has_value ? pair : BYTES("true"), &value) &&
                  is_name((const char *)name.data) &&
                  json_get(object, (const char *)name.data) == NULL;
        if (is_good) {
            set_value(object, (const char *)name.data, (const char *)value.data);
        }
    }
    buffer_deinit(&name);
    buffer_deinit(&value);
    if (!is_good) {
        json_destroy(object);
        (void)error_say(error, -EINVAL, "the query is malformed: name=value&name=value");
        return NULL;
    }
    return object;
}
