/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that we dialled: we send.
 *
 * An attempt is a lookup, for a peer with a name, then the dialling, then the HELLOs; one at a time for each peer.
 *
 * A frame waits as plaintext in the queue. At the end of the tick what waits is encrypted and written;
 * of what the system does not take at once at most WIRE__AHEAD_SIZE_BYTES_MAX are encrypted ahead,
 * the rest when that is gone. So a slow peer costs memory for its queue and no more.
 *
 * What is urgent goes before what waits, between two frames. A long message is cut into frames, so that
 * one of them never takes long.
 *
 * A connection is dead when for `silence_timeout_ms` nothing came (a PING is not answered) and nothing
 * moved either, although bytes waited. A peer that is slow to read our frames, and so our PING behind
 * them, is not dead as long as bytes move; one that has stopped reading says now and then that it
 * lives. The system's own limit (os_stream_set_acknowledge_ms_max()) knows neither, so it is set
 * far behind. */
#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "driver/wire/wire_internal.h"

enum {
    SLICE_SIZE_BYTES = 60 * 1024, /* Written with one call, and the rest of its last chunk. */
    PING_SIZE_BYTES = 8,
    PINGS_PER_SILENCE = 3,
};

static const struct wire__role role;

static struct wire__outgoing *outgoing_of(struct wire__connection *connection)
{
    return LIST_ITEM(connection, struct wire__outgoing, connection);
}

/* ---- Dialling -------------------------------------------------------------------------------- */

/* Try again later: sooner when it was good for a while. */
static void retry_later(struct wire__node *node)
{
    const struct wire_options *options = &node->wire->options;
    uint32_t delay_ms = node->backoff_ms;
    delay_ms -= (uint32_t)random_below(&node->wire->random, delay_ms / 2 + 1);
    os_timer_start(node->timer, delay_ms, 0);
    node->backoff_ms = node->backoff_ms < options->backoff_ms_max / 2 ? node->backoff_ms * 2
                                                                      : options->backoff_ms_max;
}

/* The log hears of each trouble once. */
static void tell_trouble(struct wire__node *node, const char *name, const char *text)
{
    char trouble[WIRE__TROUBLE_SIZE];
    char address[OS_ADDRESS_TEXT_SIZE];
    if (node->is_number || node->address.port == 0) { /* It is the address, or there is none. */
        (void)snprintf(trouble, sizeof trouble, "node %u at %s: %s", node->node_id,
                       node->address_text, text);
    } else {
        (void)snprintf(trouble, sizeof trouble, "node %u at %s (%s): %s", node->node_id,
                       node->address_text, os_address_format(&node->address, address), text);
    }
    if (strcmp(trouble, node->trouble) != 0) {
        memcpy(node->trouble, trouble, sizeof trouble);
        wire__tell(node->wire, OS_LOG_WARN, name, "%s", trouble);
    }
}

static void attempt_failed(struct wire__node *node, const struct error *error)
{
    node->statistics.fail_count++;
    tell_trouble(node, "wire.peer.unreachable", error->message);
    retry_later(node);
}

static void dial(struct wire__node *node)
{
    struct wire *wire = node->wire;
    struct error error = {0};
    struct wire__outgoing *outgoing = memory_allocate_zeroed(1, sizeof *outgoing);
    struct tls_session_options options = {.side = TLS_SIDE_CLIENT,
                                          .expected_node_id = node->node_id};
    struct tls_session *session = tls_session_create(wire->options.tls, &options);
    int status = wire__connection_dial(&outgoing->connection, &role, wire->loop, &node->address,
                                       session, &error);
    if (status != 0) {
        tls_session_destroy(session);
        memory_free(outgoing);
        attempt_failed(node, &error);
        return;
    }
    os_stream_set_acknowledge_ms_max(outgoing->connection.stream,
                                     WIRE__SILENCES_OF_SYSTEM * wire->options.silence_timeout_ms);
    outgoing->wire = wire;
    outgoing->node = node;
    outgoing->node_id = node->node_id;
    outgoing->deadline_ms = os_monotonic_ms() + wire->options.handshake_timeout_ms;
    list_init(&outgoing->dirty_member);
    wire__queue_init(&outgoing->queue, &wire->pool);
    wire__queue_init(&outgoing->urgent, &wire->pool);
    list_push_back(&wire->connections, &outgoing->connection.member);
    node->outgoing = outgoing;
}

static void looked_up(int status, const struct os_address *address, const struct error *error,
                      void *context)
{
    struct wire__node *node = context;
    ASSERT(node->is_peer);
    ASSERT(node->outgoing == NULL);
    node->lookup = NULL;
    if (status != 0) {
        attempt_failed(node, error);
        return;
    }
    node->address = *address;
    dial(node);
}

void wire__outgoing_dial(struct wire__node *node)
{
    struct error error = {0};
    ASSERT(node->is_peer);
    if (node->outgoing != NULL || node->lookup != NULL) {
        return;
    }
    if (node->is_number) {
        dial(node);
        return;
    }
    struct os_lookup_options options = {
        .text = node->address_text, .done = looked_up, .context = node};
    node->address = (struct os_address){0}; /* Where it was is of no use now. */
    if (os_lookup_start(&node->lookup, node->wire->loop, &options, &error) != 0) {
        attempt_failed(node, &error);
    }
}

/* Part it from its node; `closed` will do the rest. */
static void detach(struct wire__outgoing *outgoing)
{
    struct wire__node *node = outgoing->node;
    ASSERT(node->outgoing == outgoing);
    node->outgoing = NULL;
    outgoing->node = NULL;
    outgoing->is_connected = false;
    list_remove(&outgoing->dirty_member);
    wire__queue_clear(&outgoing->queue);
    wire__queue_clear(&outgoing->urgent);
}

void wire__outgoing_stop(struct wire__node *node)
{
    struct wire__outgoing *outgoing = node->outgoing;
    os_lookup_cancel(node->lookup);
    node->lookup = NULL;
    if (outgoing != NULL) {
        detach(outgoing);
        wire__connection_close(&outgoing->connection);
    }
}

static void failed(struct wire__connection *connection, const struct error *error)
{
    struct wire__outgoing *outgoing = outgoing_of(connection);
    struct wire__node *node = outgoing->node;
    if (outgoing->wire == NULL || node == NULL) {
        return; /* Nobody asks any more. */
    }
    const struct wire_options *options = &node->wire->options;
    if (outgoing->was_connected) {
        uint64_t lasted_ms = os_monotonic_ms() - outgoing->connected_at_ms;
        if (lasted_ms >= options->backoff_ms_max) {
            node->backoff_ms = options->backoff_ms_min;
        }
        node->trouble[0] = '\0';
        tell_trouble(node, "wire.peer.lost", error->message);
    } else {
        node->statistics.fail_count++;
        tell_trouble(node, error->code == -EACCES ? "wire.peer.refused" : "wire.peer.unreachable",
                     error->message);
    }
    detach(outgoing);
    retry_later(node);
}

static void orphaned(struct wire__connection *connection)
{
    outgoing_of(connection)->wire = NULL;
}

static void closed(struct wire__connection *connection)
{
    struct wire__outgoing *outgoing = outgoing_of(connection);
    struct wire *wire = outgoing->wire;
    bool must_tell = wire != NULL && outgoing->was_connected;
    uint32_t node_id = outgoing->node_id;
    ASSERT(outgoing->node == NULL);
    wire__connection_deinit(connection);
    memory_free(outgoing);
    if (must_tell && wire->options.events->disconnected != NULL) {
        wire->options.events->disconnected(node_id, wire->options.context);
    }
}

/* ---- Getting to know each other -------------------------------------------------------------- */

static void opened(struct wire__connection *connection)
{
    struct wire__outgoing *outgoing = outgoing_of(connection);
    struct buffer message = {0};
    wire__hello_encode(&message, &outgoing->wire->hello);
    wire__connection_send_frame(connection, WIRE__KIND_HELLO, buffer_bytes(&message));
    buffer_deinit(&message);
}

static void fail(struct wire__outgoing *outgoing, int code, const char *text)
{
    struct error error = {0};
    (void)error_say(&error, code, "%s", text);
    wire__connection_fail(&outgoing->connection, &error);
}

static void refused(struct wire__outgoing *outgoing, struct bytes payload)
{
    struct wire__refusal refusal;
    if (!wire__refusal_decode(payload, &refusal)) {
        wire__connection_malformed(&outgoing->connection, "not a refusal");
        return;
    }
    char text[WIRE__TEXT_SIZE + 32];
    (void)snprintf(text, sizeof text, "it refuses us: %s", refusal.text);
    const struct wire *wire = outgoing->wire;
    if (refusal.reason == WIRE__REASON_REMOVED && wire->options.events->removed != NULL) {
        wire->options.events->removed(outgoing->node->node_id, wire->options.context);
    }
    fail(outgoing, -EACCES, text);
}

static void welcome(struct wire__outgoing *outgoing, const struct wire__hello *hello,
                    uint32_t version)
{
    struct wire *wire = outgoing->wire;
    struct wire__node *node = outgoing->node;
    uint64_t now_ms = os_monotonic_ms();
    outgoing->is_connected = true;
    outgoing->was_connected = true;
    outgoing->connected_at_ms = now_ms;
    outgoing->pinged_at_ms = now_ms;
    outgoing->moved_at_ms = now_ms;
    wire__text_copy(outgoing->software, sizeof outgoing->software, hello->software);
    node->trouble[0] = '\0';
    node->statistics.connect_count++;
    node->statistics.version = version;
    memcpy(node->statistics.software, hello->software, sizeof hello->software);
    struct wire_remote remote = {.node_id = node->node_id,
                                 .boot_id = hello->boot_id,
                                 .version = version,
                                 .software = outgoing->software};
    if (wire->options.events->connected != NULL) {
        wire->options.events->connected(&remote, wire->options.context);
    }
}

static void hello_came(struct wire__outgoing *outgoing, struct bytes payload)
{
    struct wire *wire = outgoing->wire;
    struct wire__hello hello;
    char text[WIRE__TEXT_SIZE];
    if (outgoing->is_connected || !wire__hello_decode(payload, &hello)) {
        wire__connection_malformed(&outgoing->connection, "not the HELLO that is due");
        return;
    }
    uint32_t version = wire__version_of(&wire->hello, &hello);
    if (strcmp(hello.cluster, wire->hello.cluster) != 0 || hello.node_id != outgoing->node_id) {
        (void)snprintf(text, sizeof text, "it says that it is node %u of cluster %s", hello.node_id,
                       hello.cluster);
        fail(outgoing, -EACCES, text);
    } else if (version == 0) {
        (void)snprintf(text, sizeof text,
                       "it speaks versions %u to %u of the protocol (tutti %s), we speak %u to %u",
                       hello.version_min, hello.version_max, hello.software,
                       wire->hello.version_min, wire->hello.version_max);
        fail(outgoing, -EACCES, text);
    } else {
        welcome(outgoing, &hello, version);
    }
}

static void pong_came(struct wire__outgoing *outgoing, struct bytes payload)
{
    if (payload.size_bytes != PING_SIZE_BYTES) {
        wire__connection_malformed(&outgoing->connection, "not a PONG");
        return;
    }
    /* Zero: it lives, but has not come to our PING. */
    uint64_t ping_ns = endian_get_u64_le(payload.data);
    if (ping_ns != 0 && ping_ns == outgoing->ping_ns) {
        outgoing->node->statistics.round_trip_us = (os_monotonic_ns() - ping_ns) / 1000;
        outgoing->ping_ns = 0;
    }
}

static void frame_came(struct wire__connection *connection, const struct wire__header *header,
                       struct bytes payload)
{
    struct wire__outgoing *outgoing = outgoing_of(connection);
    switch (header->kind) {
    case WIRE__KIND_HELLO:
        hello_came(outgoing, payload);
        break;
    case WIRE__KIND_REFUSAL:
        refused(outgoing, payload);
        break;
    case WIRE__KIND_PONG:
        pong_came(outgoing, payload);
        break;
    default:
        wire__connection_malformed(connection, "it comes the wrong way");
        break;
    }
}

/* ---- Sending --------------------------------------------------------------------------------- */

static uint64_t waiting_bytes(const struct wire__outgoing *outgoing)
{
    return outgoing->queue.size_bytes + outgoing->urgent.size_bytes;
}

uint64_t wire__outgoing_queued_bytes(const struct wire__outgoing *outgoing)
{
    return waiting_bytes(outgoing) + os_stream_queued_bytes(outgoing->connection.stream);
}

/* Follow the frames in what is sent. Headers lie in one chunk, and so in one piece. */
static void follow_frames(struct wire__outgoing *outgoing, struct bytes piece)
{
    while (piece.size_bytes > 0) {
        if (outgoing->frame_rest_bytes == 0) {
            ASSERT(piece.size_bytes >= WIRE_HEADER_SIZE_BYTES);
            outgoing->frame_rest_bytes =
                WIRE_HEADER_SIZE_BYTES + (uint64_t)endian_get_u32_le(piece.data);
        }
        uint64_t rest_bytes = outgoing->frame_rest_bytes;
        uint64_t count = rest_bytes < piece.size_bytes ? rest_bytes : piece.size_bytes;
        outgoing->frame_rest_bytes -= count;
        piece = bytes_make(piece.data + count, piece.size_bytes - count);
    }
}

/* What goes next: the rest of a frame that was begun, then what is urgent. */
static struct bytes next_piece(struct wire__outgoing *outgoing)
{
    uint64_t most = WIRE__CHUNK_SIZE_BYTES;
    if (outgoing->frame_rest_bytes == 0) {
        outgoing->is_within_urgent = outgoing->urgent.size_bytes > 0;
    } else if (outgoing->urgent.size_bytes > 0 && !outgoing->is_within_urgent &&
               outgoing->frame_rest_bytes < most) {
        most = outgoing->frame_rest_bytes;
    }
    return wire__queue_peek(outgoing->is_within_urgent ? &outgoing->urgent : &outgoing->queue,
                            (uint32_t)most);
}

/* Encrypt and write one slice of what waits; returns its size. */
static uint64_t send_slice(struct wire__outgoing *outgoing)
{
    struct wire__connection *connection = &outgoing->connection;
    uint64_t sealed_bytes = 0;
    while (waiting_bytes(outgoing) > 0 && sealed_bytes < SLICE_SIZE_BYTES) {
        struct bytes piece = next_piece(outgoing);
        wire__connection_seal(connection, piece);
        if (connection->is_over) {
            return sealed_bytes; /* And the queue is gone. */
        }
        follow_frames(outgoing, piece);
        wire__queue_consume(outgoing->is_within_urgent ? &outgoing->urgent : &outgoing->queue,
                            (uint32_t)piece.size_bytes);
        sealed_bytes += piece.size_bytes;
    }
    wire__connection_write(connection);
    return sealed_bytes;
}

void wire__outgoing_flush(struct wire__outgoing *outgoing)
{
    struct wire__connection *connection = &outgoing->connection;
    uint64_t turn_bytes = 0;
    while (waiting_bytes(outgoing) > 0 && turn_bytes < WIRE__TURN_SIZE_BYTES_MAX &&
           os_stream_queued_bytes(connection->stream) < WIRE__AHEAD_SIZE_BYTES_MAX) {
        turn_bytes += send_slice(outgoing);
        if (connection->is_over) {
            return;
        }
    }
    bool has_more_now =
        waiting_bytes(outgoing) > 0 && os_stream_queued_bytes(connection->stream) == 0;
    if (!has_more_now) {
        list_remove(&outgoing->dirty_member); /* What is left goes when the stream has drained. */
    } else {
        os_loop_tick_again(outgoing->wire->loop);
    }
}

static void drained(struct wire__connection *connection)
{
    struct wire__outgoing *outgoing = outgoing_of(connection);
    outgoing->moved_at_ms = os_monotonic_ms();
    if (outgoing->is_connected && waiting_bytes(outgoing) > 0) {
        if (list_is_empty(&outgoing->dirty_member)) {
            list_push_back(&outgoing->wire->dirty, &outgoing->dirty_member);
        }
        wire__outgoing_flush(outgoing);
    }
}

static const struct wire__role role = {
    .opened = opened,
    .frame = frame_came,
    .failed = failed,
    .drained = drained,
    .orphaned = orphaned,
    .closed = closed,
};

/* ---- Time ------------------------------------------------------------------------------------ */

/* Ask for an answer. One question at a time. */
static void ping(struct wire__outgoing *outgoing, uint64_t now_ms)
{
    uint8_t text[PING_SIZE_BYTES];
    struct bytes payload = bytes_make(text, sizeof text);
    outgoing->ping_ns = os_monotonic_ns();
    outgoing->pinged_at_ms = now_ms;
    endian_put_u64_le(text, outgoing->ping_ns);
    uint8_t *target =
        wire__queue_extend(&outgoing->urgent, WIRE_HEADER_SIZE_BYTES + PING_SIZE_BYTES);
    wire__frame_encode(target, WIRE__KIND_PING, payload);
    if (list_is_empty(&outgoing->dirty_member)) {
        list_push_back(&outgoing->wire->dirty, &outgoing->dirty_member);
    }
    wire__outgoing_flush(outgoing);
}

/* Has the system taken something of what waits for it? What it takes at once does not count: that
 * goes well, for a while, with a dead peer too. */
static void note_movement(struct wire__outgoing *outgoing, uint64_t now_ms)
{
    uint64_t queued_bytes = os_stream_queued_bytes(outgoing->connection.stream);
    uint64_t taken_bytes = outgoing->connection.written_bytes - queued_bytes;
    if (queued_bytes > 0 && taken_bytes != outgoing->taken_bytes) {
        outgoing->moved_at_ms = now_ms;
    }
    outgoing->taken_bytes = taken_bytes;
}

void wire__outgoing_sweep(struct wire__outgoing *outgoing, uint64_t now_ms)
{
    if (outgoing->wire == NULL || outgoing->node == NULL) {
        return;
    }
    const struct wire_options *options = &outgoing->wire->options;
    if (!outgoing->is_connected) {
        if (now_ms >= outgoing->deadline_ms) {
            fail(outgoing, -ETIMEDOUT, "no answer");
        }
        return;
    }
    note_movement(outgoing, now_ms);
    uint64_t heard_at_ms = outgoing->connection.heard_at_ms;
    uint64_t alive_at_ms =
        heard_at_ms > outgoing->moved_at_ms ? heard_at_ms : outgoing->moved_at_ms;
    if (now_ms >= alive_at_ms + options->silence_timeout_ms) {
        fail(outgoing, -ETIMEDOUT, "it has fallen silent");
    } else if (outgoing->ping_ns == 0 &&
               now_ms >= outgoing->pinged_at_ms + options->silence_timeout_ms / PINGS_PER_SILENCE) {
        ping(outgoing, now_ms);
    }
}
