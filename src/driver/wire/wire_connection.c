/* SPDX-License-Identifier: Apache-2.0 */
/* A connection: what comes from the stream goes through the session and is cut into frames for the
 * role; what the role sends goes the other way.
 *
 * Once `is_over`, nothing is received or sent any more; the memory stays until the stream is closed,
 * so a role may close its connection while it handles a frame of it. */
#include <string.h>

#include "base/assert/assert.h"
#include "driver/wire/wire_internal.h"

enum { INPUT_KEPT_BYTES = 64 * 1024 };

/* ---- Ending ---------------------------------------------------------------------------------- */

void wire__connection_close(struct wire__connection *connection)
{
    connection->is_over = true;
    if (!connection->is_closed) {
        connection->is_closed = true;
        os_stream_close(connection->stream); /* It may be finishing, and is cut short then. */
    }
}

void wire__connection_finish(struct wire__connection *connection)
{
    if (connection->is_over) {
        return;
    }
    connection->is_over = true;
    tls_session_finish(connection->session, &connection->sealed);
    if (os_stream_write_buffer(connection->stream, &connection->sealed) == 0) {
        os_stream_finish(connection->stream);
    } else {
        wire__connection_close(connection);
    }
}

void wire__connection_fail(struct wire__connection *connection, const struct error *error)
{
    if (connection->is_over) {
        return;
    }
    connection->is_over = true;
    connection->role->failed(connection, error);
    wire__connection_close(connection);
}

void wire__connection_malformed(struct wire__connection *connection, const char *reason)
{
    struct error error = {0};
    (void)error_say(&error, ERROR_PROTOCOL, "malformed frame: %s", reason);
    wire__connection_fail(connection, &error);
}

static void fail_with(struct wire__connection *connection, int status, const char *what)
{
    struct error error = {0};
    (void)error_set(&error, status, "%s", what);
    wire__connection_fail(connection, &error);
}

/* The session failed: what it has to say to the peer is sent before we hang up. */
static void fail_session(struct wire__connection *connection, const struct error *error)
{
    connection->is_over = true;
    connection->role->failed(connection, error);
    if (!connection->is_closed) {
        os_stream_finish(connection->stream);
    }
}

/* ---- Sending --------------------------------------------------------------------------------- */

void wire__connection_write(struct wire__connection *connection)
{
    if (connection->is_over || connection->sealed.size_bytes == 0) {
        return;
    }
    connection->written_bytes += connection->sealed.size_bytes;
    int status = os_stream_write_buffer(connection->stream, &connection->sealed);
    if (status != 0) {
        fail_with(connection, status, "write");
    }
}

void wire__connection_seal(struct wire__connection *connection, struct bytes plain)
{
    struct error error = {0};
    if (!connection->is_over &&
        tls_session_send(connection->session, plain, &connection->sealed, &error) != 0) {
        wire__connection_fail(connection, &error);
    }
}

void wire__connection_send_frame(struct wire__connection *connection, enum wire__kind kind,
                                 struct bytes payload)
{
    struct buffer frame = {0};
    uint8_t *target = buffer_extend(&frame, WIRE_HEADER_SIZE_BYTES + payload.size_bytes);
    wire__frame_encode(target, (uint16_t)kind, payload);
    wire__connection_seal(connection, buffer_bytes(&frame));
    buffer_deinit(&frame);
    wire__connection_write(connection);
}

/* ---- Receiving ------------------------------------------------------------------------------- */

/* Add a part to its message. Returns whether that is whole, and then gives it. */
static bool collect(struct wire__connection *connection, struct wire__header *header,
                    struct bytes *payload)
{
    if (!connection->takes_parts ||
        (connection->has_parts && connection->parts_kind != header->kind)) {
        wire__connection_malformed(connection, "a part that may not come here");
        return false;
    }
    uint64_t size_bytes = connection->parts.size_bytes + payload->size_bytes;
    if (size_bytes > connection->message_size_bytes_max) {
        wire__connection_malformed(connection, "its parts are too large together");
        return false;
    }
    connection->has_parts = true;
    connection->parts_kind = header->kind;
    buffer_append(&connection->parts, *payload);
    if ((header->flags & WIRE__FLAG_LAST) == 0) {
        return false;
    }
    *payload = buffer_bytes(&connection->parts);
    header->size_bytes = (uint32_t)payload->size_bytes;
    return true;
}

static void let_parts_go(struct wire__connection *connection)
{
    connection->has_parts = false;
    buffer_clear(&connection->parts);
    buffer_trim(&connection->parts, 0);
}

static void hand_over(struct wire__connection *connection, struct wire__header *header,
                      struct bytes payload)
{
    if ((header->flags & WIRE__FLAG_PART) == 0) {
        connection->role->frame(connection, header, payload);
    } else if (collect(connection, header, &payload)) {
        connection->role->frame(connection, header, payload);
        let_parts_go(connection);
    }
}

/* Deliver the frames that are whole. */
static void deliver(struct wire__connection *connection)
{
    struct bytes rest = buffer_bytes(&connection->input);
    if (rest.size_bytes > connection->input_bytes_most) {
        connection->input_bytes_most = rest.size_bytes;
    }
    size_t wanted_bytes = 0;
    while (!connection->is_over) {
        struct wire__header header;
        struct bytes payload;
        const char *reason = NULL;
        enum wire__outcome outcome = wire__frame_decode(rest, connection->payload_size_bytes_max,
                                                        &header, &payload, &wanted_bytes, &reason);
        if (outcome == WIRE__MALFORMED) {
            wire__connection_malformed(connection, reason);
            return;
        }
        if (outcome == WIRE__INCOMPLETE) {
            break;
        }
        hand_over(connection, &header, payload);
        size_t used_bytes = WIRE_HEADER_SIZE_BYTES + payload.size_bytes;
        rest = bytes_make(rest.data + used_bytes, rest.size_bytes - used_bytes);
    }
    if (connection->is_over) {
        return;
    }
    buffer_consume(&connection->input, connection->input.size_bytes - rest.size_bytes);
    if (wanted_bytes > connection->input.size_bytes) {
        /* Once, instead of growing step by step. */
        buffer_reserve(&connection->input, wanted_bytes - connection->input.size_bytes);
    }
}

static void bytes_came(struct os_stream *stream, struct bytes bytes, void *context)
{
    struct wire__connection *connection = context;
    struct error error = {0};
    if (connection->is_over) {
        return;
    }
    connection->heard_at_ms = os_monotonic_ms();
    int status = tls_session_receive(connection->session, bytes, &connection->input,
                                     &connection->sealed, &error);
    wire__connection_write(connection);
    if (connection->is_over) {
        return;
    }
    if (status != 0) {
        fail_session(connection, &error);
        return;
    }
    if (!connection->is_open && tls_session_state(connection->session) != TLS_STATE_HANDSHAKE) {
        connection->is_open = true;
        connection->role->opened(connection);
    }
    if (connection->is_open) {
        deliver(connection);
    }
    if (tls_session_state(connection->session) == TLS_STATE_ENDED) {
        fail_with(connection, -ECONNRESET, "the peer hung up");
    }
}

/* ---- The stream ------------------------------------------------------------------------------ */

static void stream_ended(struct os_stream *stream, int status, void *context)
{
    (void)stream;
    fail_with(context, status == 0 ? -ECONNRESET : status,
              status == 0 ? "the peer hung up" : "connection");
}

static void stream_closed(struct os_stream *stream, void *context)
{
    (void)stream;
    struct wire__connection *connection = context;
    ASSERT(connection->is_over);
    list_remove(&connection->member);
    connection->role->closed(connection);
}

static void stream_drained(struct os_stream *stream, void *context)
{
    (void)stream;
    struct wire__connection *connection = context;
    if (!connection->is_over && connection->role->drained != NULL) {
        connection->role->drained(connection);
    }
}

static void stream_connected(struct os_stream *stream, int status, void *context)
{
    (void)stream;
    struct wire__connection *connection = context;
    if (connection->is_over) {
        return;
    }
    if (status != 0) {
        fail_with(connection, status, "connect");
        return;
    }
    tls_session_start(connection->session, &connection->sealed);
    wire__connection_write(connection);
}

static const struct os_stream_events stream_events = {
    .read = bytes_came,
    .ended = stream_ended,
    .closed = stream_closed,
    .drained = stream_drained,
    .connected = stream_connected,
};

/* ---- Life ------------------------------------------------------------------------------------ */

static void init(struct wire__connection *connection, const struct wire__role *role,
                 struct tls_session *session)
{
    connection->role = role;
    connection->session = session;
    connection->payload_size_bytes_max = WIRE__MESSAGE_SIZE_BYTES_MAX;
    list_init(&connection->member);
}

void wire__connection_accept(struct wire__connection *connection, const struct wire__role *role,
                             struct os_stream *stream, struct tls_session *session)
{
    init(connection, role, session);
    connection->stream = stream;
    connection->heard_at_ms = os_monotonic_ms();
    os_stream_start(stream, &stream_events, connection);
}

int wire__connection_dial(struct wire__connection *connection, const struct wire__role *role,
                          struct os_loop *loop, const struct os_address *address,
                          struct tls_session *session, struct error *error)
{
    int status =
        os_stream_connect(&connection->stream, loop, address, &stream_events, connection, error);
    if (status != 0) {
        return status;
    }
    init(connection, role, session);
    connection->heard_at_ms = os_monotonic_ms();
    return 0;
}

void wire__connection_rest(struct wire__connection *connection)
{
    struct buffer *input = &connection->input;
    if (connection->is_over) {
        return;
    }
    if (input->size_bytes == 0 && input->capacity_bytes / 4 > connection->input_bytes_most) {
        buffer_trim(input, connection->input_bytes_most > 0 ? INPUT_KEPT_BYTES : 0);
    }
    if (connection->written_bytes == connection->rested_bytes) {
        ASSERT(connection->sealed.size_bytes == 0);
        buffer_trim(&connection->sealed, 0);
    }
    connection->rested_bytes = connection->written_bytes;
    connection->input_bytes_most = 0;
}

void wire__connection_deinit(struct wire__connection *connection)
{
    ASSERT(connection->is_over);
    tls_session_destroy(connection->session);
    buffer_deinit(&connection->input);
    buffer_deinit(&connection->parts);
    buffer_deinit(&connection->sealed);
}
