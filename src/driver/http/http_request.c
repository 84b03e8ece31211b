/* SPDX-License-Identifier: Apache-2.0 */
/* Requests.
 *
 * A request is looked at twice. First our own code finds its end and refuses every form that
 * readers of HTTP are known to understand differently: bare CR or LF, folded headers, more than one
 * space in the first line or before a colon, versions other than 1.0 and 1.1, control characters.
 * Then llhttp parses what is left, and its answers decide about methods and headers. Where bodies
 * are taken, their length is told by one Content-Length, and by nothing else; where they are not, the
 * end of a request is the empty line, and nothing that follows can be taken for a part of it. */
#include <llhttp.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/number/number.h"
#include "driver/http/http_internal.h"

enum { NAME_SIZE_MAX = 24, VALUE_SIZE_MAX = 24 };

/* What llhttp's callbacks note. Only a few short headers matter, so longer text is cut. */
struct notes {
    struct bytes target;
    char name[NAME_SIZE_MAX];
    char value[VALUE_SIZE_MAX];
    size_t name_size;
    size_t value_size;
    uint32_t host_count;
    bool has_transfer_encoding;
    bool has_length;
    bool is_length_bad;
    uint64_t length;
    bool is_complete;
};

static enum http__outcome refuse(struct http__parsed *parsed, int status, const char *reason)
{
    *parsed = (struct http__parsed){.status = status, .reason = reason};
    return HTTP__REFUSED;
}

/* ---- Our own look ---------------------------------------------------------------------------- */

/* Where the request begins: an empty line or two before it are left by some clients. */
static size_t skip_empty_lines(struct bytes input)
{
    size_t start = 0;
    while (start < 4 && input.size_bytes >= start + 2 && input.data[start] == '\r' &&
           input.data[start + 1] == '\n') {
        start += 2;
    }
    return start;
}

enum scan { SCAN_INCOMPLETE, SCAN_FOUND, SCAN_BAD };

/* The end of the request, behind its empty line. */
static enum scan find_end(struct bytes input, size_t start, size_t *end)
{
    size_t line_start = start;
    for (size_t i = start; i < input.size_bytes; i++) {
        uint8_t byte = input.data[i];
        if (byte == '\r') {
            if (i + 1 == input.size_bytes) {
                return SCAN_INCOMPLETE;
            }
            if (input.data[i + 1] != '\n') {
                return SCAN_BAD; /* A bare CR. */
            }
            if (i == line_start) {
                *end = i + 2;
                return i == start ? SCAN_BAD : SCAN_FOUND;
            }
            i++;
            line_start = i + 1;
        } else if ((byte < ' ' && byte != '\t') || byte == 0x7f) {
            return SCAN_BAD; /* A bare LF is one of them. */
        } else if (i == line_start && (byte == ' ' || byte == '\t')) {
            return SCAN_BAD; /* A folded header, or a first line that begins with a space. */
        }
    }
    return SCAN_INCOMPLETE;
}

/* METHOD SP TARGET SP HTTP/1.x; 0 or the status to refuse it with. */
static int check_first_line(struct bytes line, const char **reason)
{
    const uint8_t *first = memchr(line.data, ' ', line.size_bytes);
    const uint8_t *last = memrchr(line.data, ' ', line.size_bytes);
    *reason = "the first line is not METHOD TARGET VERSION, with single spaces";
    if (first == NULL || first == line.data || last <= first + 1) {
        return 400;
    }
    for (const uint8_t *each = line.data; each < line.data + line.size_bytes; each++) {
        bool is_separator = each == first || each == last;
        if (!is_separator && (*each <= ' ' || *each >= 0x7f)) {
            return 400;
        }
    }
    struct bytes version = bytes_make(last + 1, (size_t)(line.data + line.size_bytes - last - 1));
    if (bytes_equal(version, BYTES("HTTP/1.1")) || bytes_equal(version, BYTES("HTTP/1.0"))) {
        return 0;
    }
    *reason = "only HTTP/1.0 and HTTP/1.1 are spoken here";
    return 505;
}

/* RFC 9110 §5.6.2: the bytes of a name. llhttp lets a space stand before the colon. */
static bool is_token(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
           (byte >= 'A' && byte <= 'Z') || (byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

/* Does each header line, all behind the first line, begin with a name and a colon? */
static bool has_plain_names(struct bytes headers)
{
    size_t place = 0;
    while (headers.data[place] != '\r') {
        size_t start = place;
        while (is_token(headers.data[place])) {
            place++;
        }
        if (place == start || headers.data[place] != ':') {
            return false;
        }
        const uint8_t *end = memchr(headers.data + place, '\n', headers.size_bytes - place);
        place = (size_t)(end + 1 - headers.data);
    }
    return true;
}

/* ---- llhttp ---------------------------------------------------------------------------------- */

static int target_came(llhttp_t *parser, const char *text, size_t size_bytes)
{
    struct notes *notes = parser->data;
    if (notes->target.size_bytes == 0) {
        notes->target = bytes_make(text, size_bytes);
    } else {
        notes->target.size_bytes += size_bytes; /* Pieces of one input follow each other. */
    }
    return 0;
}

static void note_text(char *target, size_t *used, size_t size_max, const char *text,
                      size_t size_bytes)
{
    size_t room = size_max - *used;
    size_t taken = size_bytes < room ? size_bytes : room;
    memcpy(target + *used, text, taken);
    *used += taken;
}

static int name_came(llhttp_t *parser, const char *text, size_t size_bytes)
{
    struct notes *notes = parser->data;
    note_text(notes->name, &notes->name_size, sizeof notes->name, text, size_bytes);
    return 0;
}

static int value_came(llhttp_t *parser, const char *text, size_t size_bytes)
{
    struct notes *notes = parser->data;
    note_text(notes->value, &notes->value_size, sizeof notes->value, text, size_bytes);
    return 0;
}

static int header_complete(llhttp_t *parser)
{
    struct notes *notes = parser->data;
    struct bytes name = bytes_make(notes->name, notes->name_size);
    struct bytes value = bytes_make(notes->value, notes->value_size);
    if (bytes_equal_ignoring_case(name, BYTES("host"))) {
        notes->host_count++;
    } else if (bytes_equal_ignoring_case(name, BYTES("transfer-encoding"))) {
        notes->has_transfer_encoding = true;
    } else if (bytes_equal_ignoring_case(name, BYTES("content-length"))) {
        /* A second one is refused by llhttp, and a number that was cut is too long anyway. */
        notes->has_length = true;
        notes->is_length_bad = !number_parse_unsigned(value, &notes->length);
    }
    notes->name_size = 0;
    notes->value_size = 0;
    return 0;
}

static int headers_complete(llhttp_t *parser)
{
    (void)parser;
    return 1; /* No body follows: one that is announced is refused. */
}

static int message_complete(llhttp_t *parser)
{
    struct notes *notes = parser->data;
    notes->is_complete = true;
    return HPE_PAUSED; /* What follows is the next request. */
}

static const llhttp_settings_t settings = {
    .on_url = target_came,
    .on_header_field = name_came,
    .on_header_value = value_came,
    .on_header_value_complete = header_complete,
    .on_headers_complete = headers_complete,
    .on_message_complete = message_complete,
};

static void split_target(struct bytes target, struct http_request *request)
{
    const uint8_t *mark = memchr(target.data, '?', target.size_bytes);
    size_t path_size = mark != NULL ? (size_t)(mark - target.data) : target.size_bytes;
    request->path = bytes_make(target.data, path_size);
    request->query = mark != NULL ? bytes_make(mark + 1, target.size_bytes - path_size - 1)
                                  : bytes_make(NULL, 0);
}

/* 0, or the status to refuse the request's method and body with. */
static int check_body(uint8_t method, const struct notes *notes, size_t body_size_bytes_max,
                      const char **reason)
{
    bool has_body = notes->length > 0 || notes->is_length_bad || notes->has_transfer_encoding;
    if (body_size_bytes_max == 0 && has_body) {
        *reason = "requests with a body are not taken here";
        return 413;
    }
    bool is_read = method == HTTP_GET || method == HTTP_HEAD;
    if (!is_read && (body_size_bytes_max == 0 || method != HTTP_POST)) {
        *reason = body_size_bytes_max == 0 ? "only GET and HEAD are answered here"
                                           : "only GET, HEAD and POST are answered here";
        return 405;
    }
    if (is_read) {
        *reason = "only POST has a body";
        return has_body ? 400 : 0;
    }
    if (notes->has_transfer_encoding || !notes->has_length) {
        *reason = "the length of the body must be told by Content-Length";
        return 411;
    }
    if (notes->is_length_bad || notes->length > body_size_bytes_max) {
        *reason = "the body is too long";
        return 413;
    }
    return 0;
}

static enum http__outcome judge(const llhttp_t *parser, const struct notes *notes,
                                size_t body_size_bytes_max, struct http__parsed *parsed)
{
    uint8_t method = llhttp_get_method((llhttp_t *)(uintptr_t)parser);
    bool is_newer = parser->http_minor == 1;
    const char *reason = NULL;
    int status = check_body(method, notes, body_size_bytes_max, &reason);
    if (status != 0) {
        return refuse(parsed, status, reason);
    }
    if (notes->host_count > 1 || (notes->host_count == 0 && is_newer)) {
        return refuse(parsed, 400, "a request has exactly one Host");
    }
    if (notes->target.size_bytes == 0 || notes->target.data[0] != '/') {
        return refuse(parsed, 400, "the target does not begin with /");
    }
    split_target(notes->target, &parsed->request);
    parsed->request.is_head = method == HTTP_HEAD;
    parsed->request.is_post = method == HTTP_POST;
    parsed->is_kept_alive = llhttp_should_keep_alive(parser) != 0;
    return HTTP__READY;
}

/* The body follows the headers, which end at `end`. */
static enum http__outcome take_body(struct bytes input, size_t end, uint64_t length,
                                    struct http__parsed *parsed)
{
    if (input.size_bytes - end < length) {
        return HTTP__INCOMPLETE;
    }
    parsed->request.body = bytes_make(input.data + end, (size_t)length);
    parsed->size_bytes = end + (size_t)length;
    return HTTP__READY;
}

enum http__outcome http__parse_with_body(struct bytes input, size_t body_size_bytes_max,
                                         struct http__parsed *parsed)
{
    *parsed = (struct http__parsed){0};
    size_t start = skip_empty_lines(input);
    size_t end = 0;
    enum scan scan = find_end(input, start, &end);
    if (scan == SCAN_BAD) {
        return refuse(parsed, 400, "the request has bytes that have no place there");
    }
    if (scan == SCAN_INCOMPLETE) {
        return input.size_bytes < HTTP_REQUEST_SIZE_BYTES_MAX
                   ? HTTP__INCOMPLETE
                   : refuse(parsed, 431, "the request is too long");
    }
    struct bytes whole = bytes_make(input.data + start, end - start);
    const uint8_t *line_end = memchr(whole.data, '\r', whole.size_bytes);
    const char *reason = NULL;
    int status = check_first_line(bytes_make(whole.data, (size_t)(line_end - whole.data)), &reason);
    if (status != 0) {
        return refuse(parsed, status, reason);
    }
    size_t first_size = (size_t)(line_end + 2 - whole.data);
    if (!has_plain_names(bytes_make(line_end + 2, whole.size_bytes - first_size))) {
        return refuse(parsed, 400, "a header does not begin with a name and a colon");
    }
    struct notes notes = {0};
    llhttp_t parser;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = &notes;
    llhttp_errno_t code = llhttp_execute(&parser, (const char *)whole.data, whole.size_bytes);
    if (code != HPE_OK && code != HPE_PAUSED && code != HPE_PAUSED_UPGRADE) {
        return refuse(parsed, 400, "the request is malformed");
    }
    if (!notes.is_complete) {
        return refuse(parsed, 400, "the request does not end where it should");
    }
    enum http__outcome outcome = judge(&parser, &notes, body_size_bytes_max, parsed);
    return outcome == HTTP__READY ? take_body(input, end, notes.length, parsed) : outcome;
}
