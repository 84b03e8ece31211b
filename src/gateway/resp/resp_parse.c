/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/resp/resp_parse.h"

#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"

enum { ARGUMENT_CAPACITY_MIN = 16, QUICK_DIGITS_MAX = 9, LINE_END_SIZE = 2 };

/* One pass over the input: everything that the loop touches, so that it stays in registers. */
struct walk {
    const uint8_t *data;
    size_t size;
    size_t position;
};

void resp__arguments_deinit(struct resp_arguments *arguments)
{
    memory_free(arguments->items);
    buffer_deinit(&arguments->unescaped);
    *arguments = (struct resp_arguments){0};
}

static void arguments_add(struct resp_arguments *arguments, const uint8_t *data, size_t size)
{
    if (arguments->count == arguments->capacity) {
        uint32_t capacity = arguments->capacity * 2;
        capacity = capacity < ARGUMENT_CAPACITY_MIN ? ARGUMENT_CAPACITY_MIN : capacity;
        arguments->items = memory_resize(arguments->items, capacity * sizeof(struct bytes));
        arguments->capacity = capacity;
    }
    arguments->items[arguments->count++] = bytes_make(data, size);
}

/* ---- Numbers --------------------------------------------------------------------------------- */

enum line { LINE_WHOLE, LINE_PART, LINE_TOO_LONG, LINE_NO_NUMBER };

/* The digits up to a line end, at walk->position, which moves behind the line end. Short numbers,
 * which are all that honest clients send, take no second look. */
static enum line read_number(struct resp_parser *parser, struct walk *walk, int64_t *value)
{
    const uint8_t *start = walk->data + walk->position;
    size_t rest = walk->size - walk->position;
    size_t quick = rest < QUICK_DIGITS_MAX ? rest : QUICK_DIGITS_MAX;
    int64_t number = 0;
    size_t length = 0;
    while (length < quick && start[length] >= '0' && start[length] <= '9') {
        number = number * 10 + (start[length] - '0');
        length++;
    }
    if (length > 0 && length + 1 < rest && start[length] == '\r' &&
        (start[0] != '0' || length == 1)) {
        *value = number;
        walk->position += length + LINE_END_SIZE;
        parser->scanned_bytes = 0;
        return LINE_WHOLE;
    }
    const uint8_t *end =
        parser->scanned_bytes >= rest
            ? NULL
            : memchr(start + parser->scanned_bytes, '\r', rest - (size_t)parser->scanned_bytes);
    if (end == NULL) {
        parser->scanned_bytes = rest;
        return rest > RESP_LINE_SIZE_BYTES_MAX ? LINE_TOO_LONG : LINE_PART;
    }
    length = (size_t)(end - start);
    if (length > RESP_LINE_SIZE_BYTES_MAX) {
        return LINE_TOO_LONG;
    }
    if (length + 1 >= rest) {
        parser->scanned_bytes = length;
        return LINE_PART;
    }
    if (!number_parse_integer(bytes_make(start, length), value)) {
        return LINE_NO_NUMBER;
    }
    walk->position += length + LINE_END_SIZE;
    parser->scanned_bytes = 0;
    return LINE_WHOLE;
}

static enum resp_outcome broken(char *error, const char *text)
{
    (void)snprintf(error, RESP_ERROR_TEXT_SIZE, "Protocol error: %s", text);
    return RESP_OUTCOME_BROKEN;
}

/* ---- Arrays of bulks ------------------------------------------------------------------------- */

/* "*3\r\n". COMMAND means: go on. */
static enum resp_outcome read_count(struct resp_parser *parser, const struct resp_limits *limits,
                                    struct walk *walk, char *error)
{
    int64_t count = 0;
    switch (read_number(parser, walk, &count)) {
    case LINE_PART:
        return RESP_OUTCOME_MORE;
    case LINE_TOO_LONG:
        return broken(error, "too big mbulk count string");
    case LINE_NO_NUMBER:
        return broken(error, "invalid multibulk length");
    case LINE_WHOLE:
        break;
    }
    if (count > RESP_ARGUMENT_COUNT_MAX) {
        return broken(error, "invalid multibulk length");
    }
    if (limits->is_stranger && count > RESP_STRANGER_ARGUMENT_COUNT_MAX) {
        return broken(error, "unauthenticated multibulk length");
    }
    if (count <= 0) {
        return RESP_OUTCOME_NOTHING;
    }
    parser->argument_count = (uint32_t)count;
    parser->expected = RESP_EXPECTED_BULK_SIZE;
    return RESP_OUTCOME_COMMAND;
}

/* "$5\r\n". COMMAND means: go on. */
static enum resp_outcome read_bulk_size(struct resp_parser *parser,
                                        const struct resp_limits *limits, struct walk *walk,
                                        char *error)
{
    if (walk->position == walk->size) {
        return RESP_OUTCOME_MORE;
    }
    uint8_t type = walk->data[walk->position];
    if (type != '$') {
        (void)snprintf(error, RESP_ERROR_TEXT_SIZE, "Protocol error: expected '$', got '%c'",
                       type >= ' ' && type < 127 ? type : '?');
        return RESP_OUTCOME_BROKEN;
    }
    int64_t size = 0;
    walk->position++;
    enum line line = read_number(parser, walk, &size);
    if (line == LINE_PART) {
        walk->position--; /* The next call begins at the '$' again. */
        return RESP_OUTCOME_MORE;
    }
    if (line == LINE_TOO_LONG) {
        return broken(error, "too big bulk count string");
    }
    if (line == LINE_NO_NUMBER || size < 0 || (uint64_t)size > RESP_BULK_SIZE_BYTES_MAX) {
        return broken(error, "invalid bulk length");
    }
    if (limits->is_stranger && size > RESP_STRANGER_BULK_SIZE_BYTES_MAX) {
        return broken(error, "unauthenticated bulk length");
    }
    parser->bulk_size_bytes = (uint64_t)size;
    parser->request_size_bytes += (uint64_t)size;
    if ((uint64_t)size > parser->largest_size_bytes) {
        parser->largest_size_bytes = (uint64_t)size;
    }
    if ((uint64_t)size > limits->value_size_bytes_max ||
        parser->request_size_bytes > limits->request_size_bytes_max) {
        parser->is_discarding = true;
    }
    parser->expected = RESP_EXPECTED_BULK;
    return RESP_OUTCOME_COMMAND;
}

/* The bytes of a bulk and its line end. COMMAND means: go on. */
static enum resp_outcome read_bulk(struct resp_parser *parser, struct walk *walk,
                                   struct resp_arguments *arguments)
{
    size_t rest = walk->size - walk->position;
    size_t size = (size_t)parser->bulk_size_bytes;
    if (parser->is_discarding) {
        /* What is there goes; the size becomes what is still to come. The line end goes last. */
        if (rest < size + LINE_END_SIZE) {
            size_t gone = rest < size ? rest : size;
            walk->position += gone;
            parser->bulk_size_bytes -= gone;
            return RESP_OUTCOME_MORE;
        }
    } else {
        if (rest < size + LINE_END_SIZE) {
            return RESP_OUTCOME_MORE;
        }
        if (!parser->is_resumed) {
            arguments_add(arguments, walk->data + walk->position, size);
        }
    }
    walk->position += size + LINE_END_SIZE;
    parser->argument_index++;
    parser->expected = RESP_EXPECTED_BULK_SIZE;
    return RESP_OUTCOME_COMMAND;
}

/* Until the command is complete, the input ends, or something is wrong. */
static enum resp_outcome read_array(struct resp_parser *parser, const struct resp_limits *limits,
                                    struct walk *walk, struct resp_arguments *arguments,
                                    char *error)
{
    enum resp_outcome outcome = RESP_OUTCOME_COMMAND;
    if (parser->expected == RESP_EXPECTED_COUNT) {
        outcome = read_count(parser, limits, walk, error);
    }
    while (outcome == RESP_OUTCOME_COMMAND && parser->argument_index < parser->argument_count) {
        if (parser->expected == RESP_EXPECTED_BULK_SIZE) {
            outcome = read_bulk_size(parser, limits, walk, error);
        }
        if (outcome == RESP_OUTCOME_COMMAND) {
            outcome = read_bulk(parser, walk, arguments);
        }
    }
    if (outcome == RESP_OUTCOME_COMMAND && parser->is_discarding) {
        return RESP_OUTCOME_OVERSIZED;
    }
    return outcome;
}

/* ---- Inline requests ------------------------------------------------------------------------- */

static bool is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* What follows a backslash within "…"; returns how many bytes of `text` it took. */
static size_t unescape(const uint8_t *text, size_t size, uint8_t *byte)
{
    if (size >= 3 && text[0] == 'x' && hex_digit(text[1]) >= 0 && hex_digit(text[2]) >= 0) {
        *byte = (uint8_t)(hex_digit(text[1]) * 16 + hex_digit(text[2]));
        return 3;
    }
    static const char names[] = "nrtba";
    static const char values[] = "\n\r\t\b\a";
    const char *found = text[0] == '\0' ? NULL : strchr(names, text[0]);
    *byte = found == NULL ? text[0] : (uint8_t)values[found - names];
    return 1;
}

/* One argument that begins at `*position`; its bytes go to `target`. False: unbalanced quotes. */
static bool split_one(struct bytes line, size_t *position, struct buffer *target)
{
    uint8_t quote = 0;
    size_t at = *position;
    for (; at < line.size_bytes; at++) {
        uint8_t byte = line.data[at];
        if (quote == 0) {
            /* A NUL ends the argument there as it does in Redis. */
            if (is_space(byte) || byte == '\0') {
                break;
            }
            if (byte == '"' || byte == '\'') {
                quote = byte;
                continue;
            }
        } else if (byte == '\0') {
            return false;
        } else if (byte == quote) {
            bool is_end = at + 1 == line.size_bytes || is_space(line.data[at + 1]);
            *position = at + 1;
            return is_end;
        } else if (byte == '\\' && at + 1 < line.size_bytes && quote == '"') {
            at += unescape(line.data + at + 1, line.size_bytes - at - 1, &byte);
        } else if (byte == '\\' && at + 1 < line.size_bytes && line.data[at + 1] == '\'') {
            byte = '\'';
            at++;
        }
        buffer_append_byte(target, byte);
    }
    *position = at;
    return quote == 0;
}

bool resp__split_line(struct bytes line, struct resp_arguments *arguments)
{
    struct buffer *unescaped = &arguments->unescaped;
    arguments->count = 0;
    buffer_clear(unescaped);
    buffer_reserve(unescaped, line.size_bytes + 1); /* It never moves below. */
    size_t position = 0;
    for (;;) {
        while (position < line.size_bytes && is_space(line.data[position])) {
            position++;
        }
        if (position == line.size_bytes || line.data[position] == '\0') {
            return true;
        }
        size_t start = unescaped->size_bytes;
        if (!split_one(line, &position, unescaped)) {
            arguments->count = 0;
            return false;
        }
        arguments_add(arguments, unescaped->data + start, unescaped->size_bytes - start);
    }
}

static enum resp_outcome read_inline(struct resp_parser *parser, const struct resp_limits *limits,
                                     struct walk *walk, struct resp_arguments *arguments,
                                     char *error)
{
    const uint8_t *start = walk->data + walk->position;
    size_t rest = walk->size - walk->position;
    size_t scanned = (size_t)parser->scanned_bytes;
    const uint8_t *end = rest > scanned ? memchr(start + scanned, '\n', rest - scanned) : NULL;
    size_t length = end == NULL ? rest : (size_t)(end - start);
    if (length > RESP_LINE_SIZE_BYTES_MAX) {
        return broken(error, "too big inline request");
    }
    if (end == NULL) {
        parser->scanned_bytes = rest;
        return RESP_OUTCOME_MORE;
    }
    struct bytes line = bytes_make(start, length);
    if (line.size_bytes > 0 && line.data[line.size_bytes - 1] == '\r') {
        line.size_bytes--;
    }
    if (!resp__split_line(line, arguments)) {
        return broken(error, "unbalanced quotes in request");
    }
    walk->position += length + 1;
    if (limits->is_stranger && arguments->count > RESP_STRANGER_ARGUMENT_COUNT_MAX) {
        return broken(error, "unauthenticated multibulk length");
    }
    return arguments->count == 0 ? RESP_OUTCOME_NOTHING : RESP_OUTCOME_COMMAND;
}

/* ---- The whole ------------------------------------------------------------------------------- */

static enum resp_outcome walk_on(struct resp_parser *parser, const struct resp_limits *limits,
                                 struct walk *walk, struct resp_arguments *arguments, char *error)
{
    if (parser->expected == RESP_EXPECTED_START) {
        if (walk->data[0] == '*') {
            parser->expected = RESP_EXPECTED_COUNT;
            walk->position = 1;
        } else {
            parser->expected = RESP_EXPECTED_INLINE;
        }
    }
    if (parser->expected == RESP_EXPECTED_INLINE) {
        return read_inline(parser, limits, walk, arguments, error);
    }
    return read_array(parser, limits, walk, arguments, error);
}

enum resp_outcome resp__parse(struct resp_parser *parser, const struct resp_limits *limits,
                              struct bytes input, struct resp_arguments *arguments,
                              size_t *consumed, char *error)
{
    *consumed = 0;
    if (input.size_bytes == 0) {
        return RESP_OUTCOME_MORE;
    }
    ASSERT(parser->position <= input.size_bytes);
    struct walk walk = {input.data, input.size_bytes, (size_t)parser->position};
    arguments->count = 0;
    enum resp_outcome outcome = walk_on(parser, limits, &walk, arguments, error);
    if (outcome == RESP_OUTCOME_COMMAND && parser->is_resumed &&
        parser->expected != RESP_EXPECTED_INLINE) {
        /* Complete and checked, but what earlier calls found is gone: once more from the front. */
        *parser = (struct resp_parser){0};
        walk.position = 0;
        arguments->count = 0;
        outcome = walk_on(parser, limits, &walk, arguments, error);
        ASSERT(outcome == RESP_OUTCOME_COMMAND);
    }
    switch (outcome) {
    case RESP_OUTCOME_MORE:
        parser->is_resumed = true;
        parser->position = walk.position;
        if (parser->is_discarding) {
            *consumed = walk.position;
            parser->position = 0;
        }
        break;
    case RESP_OUTCOME_COMMAND:
    case RESP_OUTCOME_NOTHING:
        *consumed = walk.position;
        *parser = (struct resp_parser){0};
        break;
    case RESP_OUTCOME_OVERSIZED:
        *consumed = walk.position;
        *parser = (struct resp_parser){.largest_size_bytes = parser->largest_size_bytes,
                                       .request_size_bytes = parser->request_size_bytes};
        break;
    case RESP_OUTCOME_BROKEN:
        break;
    }
    return outcome;
}

uint64_t resp__parser_wanted_bytes(const struct resp_parser *parser)
{
    if (parser->expected != RESP_EXPECTED_BULK || parser->is_discarding) {
        return 0;
    }
    return parser->position + parser->bulk_size_bytes + LINE_END_SIZE;
}

/* ---- Replies --------------------------------------------------------------------------------- */

size_t resp__reply_size(struct bytes bytes)
{
    size_t position = 0;
    uint64_t left = 1;
    while (left > 0) {
        const uint8_t *start = bytes.data + position;
        size_t rest = bytes.size_bytes - position;
        const uint8_t *end = rest == 0 ? NULL : memchr(start, '\n', rest);
        if (end == NULL || end - start < LINE_END_SIZE) {
            return 0;
        }
        left--;
        size_t line_size = (size_t)(end - start) + 1;
        position += line_size;
        int64_t number = 0;
        bool has_number = number_parse_integer(bytes_make(start + 1, line_size - 3), &number);
        if (!has_number || number < 0) {
            continue; /* A status, a double, …, or a null. */
        }
        if (start[0] == '$' || start[0] == '=') {
            if (bytes.size_bytes - position < (uint64_t)number + LINE_END_SIZE) {
                return 0;
            }
            position += (size_t)number + LINE_END_SIZE;
        } else if (start[0] == '*' || start[0] == '~' || start[0] == '>') {
            left += (uint64_t)number;
        } else if (start[0] == '%') {
            left += 2 * (uint64_t)number;
        }
    }
    return position;
}
