/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of the log.
 *
 * The format is split into fields before anything is printed, and each field's conversions are
 * printed on their own. So where a value begins and ends never depends on what is in it, and no
 * value can forge a field, a quote or a line. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/assert/assert.h"
#include "driver/os/os_log_internal.h"

enum {
    CONVERSION_SIZE_MAX = 24,
    LINE_END_SIZE = 8, /* Kept free for "}\n" and the colour's end. */
    KEY_SIZE_MAX = 64,
};

/* va_list as a parameter is a pointer or a copy, depending on the machine; in a struct it is
 * itself. */
struct arguments {
    va_list list;
};

struct value {
    char text[OS_LOG_VALUE_SIZE_MAX];
    size_t size_bytes;
    bool is_number; /* One integer or decimal conversion and nothing else. */
};

/* ---- Appending ------------------------------------------------------------------------------- */

static bool append(struct os__log_line *line, const char *text, size_t size_bytes)
{
    if (size_bytes > sizeof line->text - LINE_END_SIZE - line->size_bytes) {
        return false;
    }
    memcpy(line->text + line->size_bytes, text, size_bytes);
    line->size_bytes += size_bytes;
    return true;
}

static bool append_text(struct os__log_line *line, const char *text)
{
    return append(line, text, strlen(text));
}

/* The length of the valid UTF-8 sequence at `text`, 0 when it is not one. */
static size_t utf8_size(const uint8_t *text, size_t size_bytes)
{
    uint8_t first = text[0];
    size_t wanted = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || wanted > size_bytes) {
        return 0;
    }
    for (size_t i = 1; i < wanted; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool is_overlong = (first == 0xe0 && text[1] < 0xa0) || (first == 0xf0 && text[1] < 0x90);
    bool is_outside = (first == 0xed && text[1] > 0x9f) || (first == 0xf4 && text[1] > 0x8f);
    return is_overlong || is_outside ? 0 : wanted;
}

/* Between quotes, with JSON's escapes, which readers of logfmt know too. */
static bool append_quoted(struct os__log_line *line, const char *text, size_t size_bytes)
{
    bool has_room = append(line, "\"", 1);
    size_t i = 0;
    while (i < size_bytes && has_room) {
        uint8_t byte = (uint8_t)text[i];
        size_t used = 1;
        char escape[8];
        if (byte == '"' || byte == '\\') {
            escape[0] = '\\';
            escape[1] = (char)byte;
            has_room = append(line, escape, 2);
        } else if (byte == '\n') {
            has_room = append(line, "\\n", 2);
        } else if (byte < 0x20 || byte == 0x7f) {
            int size = snprintf(escape, sizeof escape, "\\u%04x", byte);
            has_room = append(line, escape, (size_t)size);
        } else if (byte < 0x80) {
            has_room = append(line, text + i, 1);
        } else {
            used = utf8_size((const uint8_t *)text + i, size_bytes - i);
            has_room = used > 0 ? append(line, text + i, used) : append(line, "\\ufffd", 6);
            used = used > 0 ? used : 1;
        }
        i += used;
    }
    return append(line, "\"", 1) && has_room;
}

static bool needs_quotes(const struct value *value)
{
    for (size_t i = 0; i < value->size_bytes; i++) {
        uint8_t byte = (uint8_t)value->text[i];
        if (byte <= ' ' || byte >= 0x7f || byte == '"' || byte == '=' || byte == '\\') {
            return true;
        }
    }
    return value->size_bytes == 0;
}

/* All of a field or, when there is no room, nothing. */
static void append_field(struct os__log_line *line, const char *key, size_t key_size_bytes,
                         const struct value *value)
{
    size_t before_bytes = line->size_bytes;
    bool is_json = line->style == OS__LOG_STYLE_JSON;
    bool has_room;
    if (is_json) {
        has_room = append_text(line, ",") && append_quoted(line, key, key_size_bytes) &&
                   append_text(line, ":");
    } else if (line->style == OS__LOG_STYLE_COLOUR) {
        has_room = append_text(line, " \x1b[2m") && append(line, key, key_size_bytes) &&
                   append_text(line, "=\x1b[0m");
    } else {
        has_room =
            append_text(line, " ") && append(line, key, key_size_bytes) && append_text(line, "=");
    }
    if (has_room) {
        bool is_quoted = is_json ? !value->is_number : needs_quotes(value);
        has_room = is_quoted ? append_quoted(line, value->text, value->size_bytes)
                             : append(line, value->text, value->size_bytes);
    }
    if (!has_room) {
        line->size_bytes = before_bytes;
    }
}

/* ---- Printing values ------------------------------------------------------------------------- */

/* A conversion of the format, such as "%-*.3llu", taken apart. */
struct conversion {
    char text[CONVERSION_SIZE_MAX];
    size_t size_bytes;
    char kind;   /* d u x c s f g p … */
    char length; /* 0, h, H (hh), l, L (ll), z or j. */
    int star_count;
};

static const char *parse_conversion(const char *format, struct conversion *conversion)
{
    *conversion = (struct conversion){0};
    const char *end = format + 1 + strspn(format + 1, "-+ #0123456789.*");
    for (const char *each = format; each < end; each++) {
        conversion->star_count += *each == '*';
    }
    size_t length_size = strspn(end, "hlzj");
    if (length_size == 1) {
        conversion->length = *end;
    } else if (length_size == 2) {
        conversion->length = *end == 'l' ? 'L' : 'H';
    }
    end += length_size;
    conversion->kind = *end;
    conversion->size_bytes = (size_t)(end + 1 - format);
    ASSERT(conversion->kind != '\0');
    ASSERT(conversion->size_bytes < sizeof conversion->text);
    ASSERT(conversion->star_count <= 1);
    memcpy(conversion->text, format, conversion->size_bytes);
    return end + 1;
}

/* snprintf with the width or precision that a `*` stands for, if there is one. */
#define PRINT(value)                                                                             \
    (conversion->star_count == 1 ? snprintf(target, size_bytes, conversion->text, star, (value)) \
                                 : snprintf(target, size_bytes, conversion->text, (value)))

static int print_integer(char *target, size_t size_bytes, const struct conversion *conversion,
                         int star, struct arguments *arguments)
{
    switch (conversion->length) {
    case 'l':
        return PRINT(va_arg(arguments->list, long));
    case 'L':
        return PRINT(va_arg(arguments->list, long long));
    case 'z':
        return PRINT(va_arg(arguments->list, size_t));
    case 'j':
        return PRINT(va_arg(arguments->list, intmax_t));
    default:
        return PRINT(va_arg(arguments->list, int)); /* Shorter ones are promoted to it. */
    }
}

static int print_conversion(char *target, size_t size_bytes, const struct conversion *conversion,
                            struct arguments *arguments)
{
    int star = conversion->star_count == 1 ? va_arg(arguments->list, int) : 0;
    switch (conversion->kind) {
    case 's': {
        const char *text = va_arg(arguments->list, const char *);
        return PRINT(text != NULL ? text : "(null)");
    }
    case 'f':
    case 'g':
    case 'e':
        return PRINT(va_arg(arguments->list, double));
    case 'p':
        return PRINT(va_arg(arguments->list, void *));
    default:
        ASSERT(strchr("diuxXc", conversion->kind) != NULL);
        return print_integer(target, size_bytes, conversion, star, arguments);
    }
}

/* Print the field's template, from `format` to `end`. */
static void print_value(struct value *value, const char *format, const char *end,
                        struct arguments *arguments)
{
    value->size_bytes = 0;
    value->is_number = false;
    const char *place = format;
    while (place < end) {
        size_t room = sizeof value->text - value->size_bytes;
        if (place[0] != '%' || place[1] == '%') {
            place += place[0] == '%';
            if (room > 1) {
                value->text[value->size_bytes++] = *place;
            }
            place++;
            continue;
        }
        struct conversion conversion;
        const char *next = parse_conversion(place, &conversion);
        int printed =
            print_conversion(value->text + value->size_bytes, room, &conversion, arguments);
        if (printed > 0) {
            value->size_bytes += (size_t)printed < room ? (size_t)printed : room - 1;
        }
        value->is_number = place == format && next == end &&
                           strchr("diufge", conversion.kind) != NULL && printed > 0 &&
                           isdigit((unsigned char)value->text[value->size_bytes - 1]);
        place = next;
    }
}

/* ---- Lines ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    const char *coloured;
} level_texts[] = {
    [OS_LOG_DEBUG] = {"debug", "\x1b[2mDEBUG\x1b[0m"},
    [OS_LOG_INFO] = {"info", "\x1b[32mINFO\x1b[0m "},
    [OS_LOG_WARN] = {"warn", "\x1b[33mWARN\x1b[0m "},
    [OS_LOG_ERROR] = {"error", "\x1b[31mERROR\x1b[0m"},
};

static void print_time(char *target, size_t size_bytes, bool is_short)
{
    uint64_t now_ms = os_wall_clock_ms();
    time_t now_s = (time_t)(now_ms / 1000);
    struct tm parts;
    struct tm *done = is_short ? localtime_r(&now_s, &parts) : gmtime_r(&now_s, &parts);
    ASSERT(done != NULL);
    size_t used = strftime(target, size_bytes, is_short ? "%H:%M:%S" : "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(target + used, size_bytes - used, ".%03u%s", (unsigned)(now_ms % 1000),
                   is_short ? "" : "Z");
}

static void begin(struct os__log_line *line, enum os_log_level level, const char *event,
                  size_t event_size_bytes)
{
    char time_text[40];
    char head[128];
    print_time(time_text, sizeof time_text, line->style == OS__LOG_STYLE_COLOUR);
    static const char *const patterns[] = {
        [OS__LOG_STYLE_LOGFMT] = "time=%s level=%s event=%.*s",
        [OS__LOG_STYLE_COLOUR] = "\x1b[2m%s\x1b[0m %s \x1b[1m%.*s\x1b[0m",
        [OS__LOG_STYLE_JSON] = "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%.*s\"",
    };
    const char *level_text =
        line->style == OS__LOG_STYLE_COLOUR ? level_texts[level].coloured : level_texts[level].name;
    int size = snprintf(head, sizeof head, patterns[line->style], time_text, level_text,
                        (int)event_size_bytes, event);
    ASSERT(size > 0 && (size_t)size < sizeof head);
    (void)append(line, head, (size_t)size); /* The line is empty: there is room. */
}

void os__log_line_build(struct os__log_line *line, enum os__log_style style,
                        enum os_log_level level, const char *format, va_list list)
{
    struct arguments arguments;
    va_copy(arguments.list, list);
    line->style = style;
    line->size_bytes = 0;
    const char *place = format;
    size_t event_size = strcspn(place, " ");
    ASSERT(event_size > 0 && event_size <= KEY_SIZE_MAX);
    begin(line, level, place, event_size);
    place += event_size;
    for (place += strspn(place, " "); *place != '\0'; place += strspn(place, " ")) {
        struct value value;
        size_t key_size = strcspn(place, "= ");
        ASSERT(place[key_size] == '='); /* A field is key=value, without spaces. */
        ASSERT(key_size > 0 && key_size <= KEY_SIZE_MAX);
        const char *start = place + key_size + 1;
        const char *end = start + strcspn(start, " ");
        print_value(&value, start, end, &arguments);
        append_field(line, place, key_size, &value);
        place = end;
    }
    va_end(arguments.list);
}

void os__log_line_number(struct os__log_line *line, const char *key, uint64_t number)
{
    struct value value = {.is_number = true};
    int size = snprintf(value.text, sizeof value.text, "%" PRIu64, number);
    value.size_bytes = (size_t)size;
    append_field(line, key, strlen(key), &value);
}

void os__log_line_end(struct os__log_line *line)
{
    const char *end = line->style == OS__LOG_STYLE_JSON ? "}\n" : "\n";
    memcpy(line->text + line->size_bytes, end, strlen(end)); /* LINE_END_SIZE was kept free. */
    line->size_bytes += strlen(end);
}
