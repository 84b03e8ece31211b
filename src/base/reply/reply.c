/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reply/reply.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/number/number.h"

enum { ERROR_TEXT_SIZE_MAX = 1024, PREFIX_SIZE_MAX = 1 + NUMBER_INTEGER_SIZE_MAX + 2 };

/* May so much be appended? Asked before anything of a reply is. */
static bool has_room(const struct reply *reply, size_t size_bytes)
{
    struct reply_limit *limit = reply->limit;
    if (limit == NULL) {
        return true;
    }
    size_t used_bytes = reply->target->size_bytes;
    limit->is_exceeded = limit->is_exceeded || used_bytes > limit->size_bytes_max ||
                         size_bytes > limit->size_bytes_max - used_bytes;
    return !limit->is_exceeded;
}

static void line_break(const struct reply *reply)
{
    memcpy(buffer_extend(reply->target, 2), "\r\n", 2);
}

/* "<type><number>\r\n", of which it is known that there is room for it. */
static void put_header(const struct reply *reply, char type, int64_t number)
{
    buffer_reserve(reply->target, PREFIX_SIZE_MAX);
    char *start = (char *)reply->target->data + reply->target->size_bytes;
    start[0] = type;
    size_t length = 1 + number_format_integer(start + 1, number);
    start[length] = '\r';
    start[length + 1] = '\n';
    reply->target->size_bytes += length + 2;
}

static void header(const struct reply *reply, char type, int64_t number)
{
    if (has_room(reply, PREFIX_SIZE_MAX)) {
        put_header(reply, type, number);
    }
}

void reply_status(const struct reply *reply, const char *text)
{
    if (!has_room(reply, strlen(text) + 3)) {
        return;
    }
    buffer_append_byte(reply->target, '+');
    buffer_append(reply->target, bytes_of_text(text));
    line_break(reply);
}

void reply_ok(const struct reply *reply)
{
    if (has_room(reply, 5)) {
        buffer_append(reply->target, BYTES("+OK\r\n"));
    }
}

void reply_error(const struct reply *reply, const char *format, ...)
{
    char text[ERROR_TEXT_SIZE_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *place = text; *place != '\0'; place++) {
        if (*place == '\r' || *place == '\n') {
            *place = ' ';
        }
    }
    buffer_append_byte(reply->target, '-');
    buffer_append(reply->target, bytes_of_text(text));
    line_break(reply);
}

void reply_integer(const struct reply *reply, int64_t value)
{
    header(reply, ':', value);
}

void reply_bulk(const struct reply *reply, struct bytes bytes)
{
    if (!has_room(reply, PREFIX_SIZE_MAX + bytes.size_bytes + 2)) {
        return;
    }
    buffer_reserve(reply->target, PREFIX_SIZE_MAX + bytes.size_bytes + 2);
    put_header(reply, '$', (int64_t)bytes.size_bytes);
    buffer_append(reply->target, bytes);
    line_break(reply);
}

void reply_bulk_text(const struct reply *reply, const char *text)
{
    reply_bulk(reply, bytes_of_text(text));
}

void reply_bulk_integer(const struct reply *reply, int64_t value)
{
    char text[NUMBER_INTEGER_SIZE_MAX];
    reply_bulk(reply, bytes_make(text, number_format_integer(text, value)));
}

void reply_null(const struct reply *reply)
{
    if (has_room(reply, 5)) {
        buffer_append(reply->target, reply->protocol >= 3 ? BYTES("_\r\n") : BYTES("$-1\r\n"));
    }
}

void reply_null_array(const struct reply *reply)
{
    if (has_room(reply, 5)) {
        buffer_append(reply->target, reply->protocol >= 3 ? BYTES("_\r\n") : BYTES("*-1\r\n"));
    }
}

void reply_double(const struct reply *reply, double value)
{
    char text[NUMBER_DOUBLE_SIZE_MAX];
    struct bytes bytes = bytes_make(text, number_format_double(text, value));
    if (reply->protocol < 3) {
        reply_bulk(reply, bytes);
        return;
    }
    if (!has_room(reply, 1 + bytes.size_bytes + 2)) {
        return;
    }
    buffer_append_byte(reply->target, ',');
    buffer_append(reply->target, bytes);
    line_break(reply);
}

void reply_boolean(const struct reply *reply, bool value)
{
    if (reply->protocol < 3) {
        reply_integer(reply, value);
        return;
    }
    if (has_room(reply, 4)) {
        buffer_append(reply->target, value ? BYTES("#t\r\n") : BYTES("#f\r\n"));
    }
}

void reply_verbatim(const struct reply *reply, const char *format, struct bytes bytes)
{
    if (reply->protocol < 3) {
        reply_bulk(reply, bytes);
        return;
    }
    if (!has_room(reply, PREFIX_SIZE_MAX + 4 + bytes.size_bytes + 2)) {
        return;
    }
    put_header(reply, '=', (int64_t)bytes.size_bytes + 4);
    buffer_append(reply->target, bytes_make(format, 3));
    buffer_append_byte(reply->target, ':');
    buffer_append(reply->target, bytes);
    line_break(reply);
}

void reply_array(const struct reply *reply, uint64_t count)
{
    header(reply, '*', (int64_t)count);
}

void reply_map(const struct reply *reply, uint64_t pair_count)
{
    if (reply->protocol < 3) {
        header(reply, '*', (int64_t)(2 * pair_count));
        return;
    }
    header(reply, '%', (int64_t)pair_count);
}

void reply_set(const struct reply *reply, uint64_t count)
{
    header(reply, reply->protocol < 3 ? '*' : '~', (int64_t)count);
}
