/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of `pipeline` SET or GET commands, RESP2. A connection is one client. */
#include <stdio.h>
#include <string.h>

#include "base/memory/memory.h"
#include "base/number/number.h"
#include "load.h"

enum { LINE_SIZE_BYTES_MAX = 256 };

struct batch {
    uint32_t sent_count;
    uint32_t awaited_count;
    bool is_refused;
    uint64_t sent_ns;
    size_t skipped_bytes; /* Still to come of a value and its CR LF. */
    size_t line_size_bytes;
    char line[LINE_SIZE_BYTES_MAX]; /* A line of which a part has come. */
};

static void open_client(struct load_connection *connection)
{
    if (connection->client_count != 1) {
        load_fail("RESP has one client on a connection");
    }
    connection->state = memory_allocate_zeroed(1, sizeof(struct batch));
}

static void append_set(struct load *load, struct buffer *output, const char *key)
{
    struct bytes value = load_next_value(load);
    char size[24];
    int length = snprintf(size, sizeof size, "\r\n$%zu\r\n", value.size_bytes);
    buffer_append(output, BYTES("*3\r\n$3\r\nSET\r\n$16\r\n"));
    buffer_append(output, bytes_make(key, LOAD_KEY_SIZE_BYTES));
    buffer_append(output, bytes_make(size, (size_t)length));
    buffer_append(output, value);
    buffer_append(output, BYTES("\r\n"));
}

static void send_batch(struct load_connection *connection, uint32_t client)
{
    struct load *load = connection->load;
    struct batch *batch = connection->state;
    struct buffer *output = &connection->output;
    char key[LOAD_KEY_SIZE_BYTES];
    batch->sent_count = 0;
    while (batch->sent_count < load->options.pipeline && load_next_key(load, key)) {
        if (load->options.operation == LOAD_READ) {
            buffer_append(output, BYTES("*2\r\n$3\r\nGET\r\n$16\r\n"));
            buffer_append(output, bytes_make(key, LOAD_KEY_SIZE_BYTES));
            buffer_append(output, BYTES("\r\n"));
        } else {
            append_set(load, output, key);
        }
        batch->sent_count++;
    }
    batch->awaited_count = batch->sent_count;
    batch->is_refused = false;
    batch->sent_ns = load_now_ns();
}

static void finish_reply(struct load_connection *connection)
{
    struct batch *batch = connection->state;
    if (batch->awaited_count == 0) {
        load_fail("more replies than commands");
    }
    batch->awaited_count--;
    if (batch->awaited_count > 0) {
        return;
    }
    if (batch->is_refused) {
        load_refused(connection, 0, bytes_of_text(batch->line));
    } else {
        load_answered(connection->load, batch->sent_ns, batch->sent_count);
        send_batch(connection, 0);
    }
}

/* `line` is without its CR LF. True when a value follows. */
static bool read_line(struct load_connection *connection, struct bytes line)
{
    struct batch *batch = connection->state;
    if (line.size_bytes == 0) {
        load_fail("an empty reply");
    }
    int64_t size = 0;
    switch (line.data[0]) {
    case '+':
        return false;
    case '-':
        batch->is_refused = true;
        memmove(batch->line, line.data, line.size_bytes);
        batch->line[line.size_bytes] = '\0';
        return false;
    case '$':
        if (!number_parse_integer(bytes_make(line.data + 1, line.size_bytes - 1), &size)) {
            load_fail("not a length: %.*s", (int)line.size_bytes, line.data);
        }
        if (size < 0) {
            connection->load->missing_count++;
            return false;
        }
        batch->skipped_bytes = (size_t)size + 2;
        return true;
    default:
        load_fail("an unexpected reply: %.*s", (int)line.size_bytes, line.data);
    }
}

/* Gather up to the end of a line; returns how much was taken. */
static size_t take_line(struct load_connection *connection, struct bytes input)
{
    struct batch *batch = connection->state;
    const uint8_t *end = memchr(input.data, '\n', input.size_bytes);
    size_t taken = end != NULL ? (size_t)(end - input.data) + 1 : input.size_bytes;
    if (batch->line_size_bytes + taken >= LINE_SIZE_BYTES_MAX) {
        load_fail("a reply line of more than %d bytes", LINE_SIZE_BYTES_MAX);
    }
    memcpy(batch->line + batch->line_size_bytes, input.data, taken);
    batch->line_size_bytes += taken;
    if (end == NULL) {
        return taken;
    }
    size_t size_bytes = batch->line_size_bytes - (batch->line_size_bytes >= 2 ? 2 : 1);
    batch->line_size_bytes = 0;
    if (!read_line(connection, bytes_make(batch->line, size_bytes))) {
        finish_reply(connection);
    }
    return taken;
}

static void receive_replies(struct load_connection *connection, struct bytes input)
{
    struct batch *batch = connection->state;
    size_t at = 0;
    while (at < input.size_bytes) {
        size_t left = input.size_bytes - at;
        if (batch->skipped_bytes == 0) {
            at += take_line(connection, bytes_make(input.data + at, left));
            continue;
        }
        size_t skipped = batch->skipped_bytes < left ? batch->skipped_bytes : left;
        at += skipped;
        batch->skipped_bytes -= skipped;
        if (batch->skipped_bytes == 0) {
            finish_reply(connection);
        }
    }
}

const struct load_protocol load_protocol_resp = {
    .name = "resp", .open = open_client, .send = send_batch, .receive = receive_replies};
