/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that were accepted: we receive.
 *
 * Until its owner is known a connection stands in `unknown`, in the order of arrival, and so does one
 * that is refused until it is closed: their number is bounded, and the oldest one gives way. Whoever
 * is honest is known within milliseconds, so a flood of those who say nothing does not shut others
 * out, as refusing the newest would. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "driver/wire/wire_internal.h"

enum {
    PING_SIZE_BYTES = 8,
    ALIVE_PER_SILENCE = 3,
};

static const struct wire__role role;

static struct wire__incoming *incoming_of(struct wire__connection *connection)
{
    return LIST_ITEM(connection, struct wire__incoming, connection);
}

static struct wire__incoming *waiting_of(struct list *member)
{
    return LIST_ITEM(member, struct wire__incoming, waiting_member);
}

void wire__incoming_known(struct wire__incoming *incoming)
{
    list_remove(&incoming->waiting_member);
    if (incoming->is_unknown) {
        incoming->is_unknown = false;
        incoming->wire->statistics.unknown_count--;
    }
}

char *wire__incoming_address(const struct wire__incoming *incoming, char *text)
{
    return os_stream_peer(incoming->connection.stream, text);
}

/* ---- Arriving -------------------------------------------------------------------------------- */

void wire__incoming_accepted(struct os_stream *stream, void *context)
{
    struct wire *wire = context;
    uint64_t now_ms = os_monotonic_ms();
    wire->statistics.accepted_count++;
    if (!wire__bucket_take(&wire->accept_bucket, now_ms)) {
        wire->statistics.rejected_count++;
        wire__tell(wire, OS_LOG_WARN, "wire.accept.limited",
                   "more than %u connections in a second, for a while",
                   wire->options.handshake_rate_max);
        return; /* Who is not started is closed. */
    }
    if (wire->statistics.unknown_count >= wire->options.unknown_count_max) {
        wire__tell(wire, OS_LOG_WARN, "wire.accept.limited",
                   "%u connections have not said who they are; the oldest one is closed",
                   wire->statistics.unknown_count);
        struct wire__incoming *oldest = waiting_of(wire->unknown.next);
        wire__incoming_known(oldest);
        wire__connection_close(&oldest->connection);
    }
    struct wire__incoming *incoming = memory_allocate_zeroed(1, sizeof *incoming);
    struct tls_session_options options = {.side = TLS_SIDE_SERVER,
                                          .admits_strangers = wire->options.admits_strangers};
    incoming->wire = wire;
    incoming->accepted_at_ms = now_ms;
    incoming->deadline_ms = now_ms + wire->options.handshake_timeout_ms;
    list_init(&incoming->waiting_member);
    list_push_back(&wire->unknown, &incoming->waiting_member);
    incoming->is_unknown = true;
    wire->statistics.unknown_count++;
    wire__connection_accept(&incoming->connection, &role, stream,
                            tls_session_create(wire->options.tls, &options));
    list_push_back(&wire->connections, &incoming->connection.member);
    os_stream_set_acknowledge_ms_max(stream,
                                     WIRE__SILENCES_OF_SYSTEM * wire->options.silence_timeout_ms);
}

/* ---- Leaving --------------------------------------------------------------------------------- */

static void tell_closed(struct wire__incoming *incoming)
{
    struct wire *wire = incoming->wire;
    if (incoming->must_tell) {
        incoming->must_tell = false;
        if (wire->options.events->closed != NULL) {
            wire->options.events->closed(incoming->node_id, incoming->boot_id,
                                         wire->options.context);
        }
    }
}

void wire__incoming_drop(struct wire__incoming *incoming)
{
    struct wire__node *node = incoming->node;
    ASSERT(node->accepted == incoming);
    node->accepted = NULL;
    incoming->node = NULL;
    incoming->state = WIRE__INCOMING_OVER;
}

void wire__incoming_refuse(struct wire__incoming *incoming, enum wire__reason reason,
                           const char *format, ...)
{
    struct wire__refusal refusal = {.reason = reason};
    struct buffer message = {0};
    char address[OS_ADDRESS_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(refusal.text, sizeof refusal.text, format, arguments);
    va_end(arguments);
    wire__tell(incoming->wire, OS_LOG_WARN, "wire.accept.refused", "%s: %s",
               wire__incoming_address(incoming, address), refusal.text);
    wire__refusal_encode(&message, &refusal);
    wire__connection_send_frame(&incoming->connection, WIRE__KIND_REFUSAL, buffer_bytes(&message));
    buffer_deinit(&message);
    incoming->state = WIRE__INCOMING_OVER;
    wire__connection_finish(&incoming->connection);
}

static void failed(struct wire__connection *connection, const struct error *error)
{
    struct wire__incoming *incoming = incoming_of(connection);
    struct wire *wire = incoming->wire;
    char address[OS_ADDRESS_TEXT_SIZE];
    if (wire == NULL) {
        return;
    }
    const char *name = incoming->node != NULL ? "wire.accept.lost" : "wire.accept.failed";
    if (error->code == ERROR_PROTOCOL && connection->is_open) {
        wire->statistics.malformed_count++;
        name = "wire.accept.malformed";
    }
    if (incoming->node != NULL) {
        wire__tell(wire, OS_LOG_WARN, name, "node %u at %s: %s", incoming->node_id,
                   wire__incoming_address(incoming, address), error->message);
        struct wire__node *node = incoming->node;
        wire__incoming_drop(incoming);
        wire__node_release(node);
    } else if (incoming->state != WIRE__INCOMING_OVER) {
        wire__tell(wire, OS_LOG_INFO, name, "%s: %s", wire__incoming_address(incoming, address),
                   error->message);
    }
}

static void orphaned(struct wire__connection *connection)
{
    incoming_of(connection)->wire = NULL;
}

static void closed(struct wire__connection *connection)
{
    struct wire__incoming *incoming = incoming_of(connection);
    ASSERT(incoming->node == NULL || incoming->wire == NULL);
    if (incoming->stranger != NULL) {
        wire__stranger_gone(incoming);
    }
    if (incoming->wire != NULL) {
        struct wire *wire = incoming->wire;
        wire__incoming_known(incoming);
        if (!incoming->is_settled) {
            wire->statistics.rejected_count++;
        }
        if (incoming->is_stranger) {
            wire->stranger_count--;
        }
        tell_closed(incoming);
    }
    wire__connection_deinit(connection);
    memory_free(incoming);
}

/* ---- Getting to know each other -------------------------------------------------------------- */

static void opened(struct wire__connection *connection)
{
    struct wire__incoming *incoming = incoming_of(connection);
    const struct tls_identity *peer = tls_session_peer(connection->session);
    if (peer == NULL) {
        wire__stranger_opened(incoming);
        return;
    }
    incoming->node_id = peer->node_id; /* I1. */
}

/* The connection is that of its node from now on. */
static void become_accepted(struct wire__incoming *incoming, const struct wire__hello *hello,
                            uint32_t version)
{
    struct wire *wire = incoming->wire;
    struct wire__node *node = wire__node_get(wire, incoming->node_id);
    struct wire__incoming *older = node->accepted;
    if (older != NULL) {
        wire__tell(wire, OS_LOG_INFO, "wire.accept.replaced",
                   "node %u has connected anew; its older connection is closed", node->node_id);
        wire__incoming_drop(older);
        wire__connection_close(&older->connection);
    }
    wire__incoming_known(incoming);
    node->accepted = incoming;
    incoming->node = node;
    incoming->state = WIRE__INCOMING_ACCEPTED;
    incoming->boot_id = hello->boot_id;
    incoming->version = version;
    incoming->is_settled = true;
    uint32_t size_bytes_max = wire->options.frame_size_bytes_max;
    incoming->connection.message_size_bytes_max = size_bytes_max;
    incoming->connection.payload_size_bytes_max =
        size_bytes_max < WIRE__PART_SIZE_BYTES ? size_bytes_max : WIRE__PART_SIZE_BYTES;
    incoming->connection.takes_parts = true;
    memcpy(incoming->software, hello->software, sizeof incoming->software);
    wire->statistics.handshake_count++;
    if (node->outgoing == NULL || !node->outgoing->is_connected) {
        node->statistics.version = version;
        memcpy(node->statistics.software, hello->software, sizeof hello->software);
    }
    if (node->is_peer && node->outgoing == NULL) {
        os_timer_start(node->timer, 0, 0); /* It is back: do not wait for the backoff. */
    }
    if (older != NULL) {
        tell_closed(older); /* I3: before the newer one is told. */
    }
    struct wire_remote remote = {.node_id = incoming->node_id,
                                 .boot_id = incoming->boot_id,
                                 .version = version,
                                 .software = incoming->software};
    if (incoming->connection.is_over) {
        return; /* The owner hung up when it heard of the older one. */
    }
    incoming->must_tell = true;
    if (wire->options.events->accepted != NULL) {
        wire->options.events->accepted(&remote, wire->options.context);
    }
}

static void hello_came(struct wire__incoming *incoming, struct bytes payload)
{
    struct wire *wire = incoming->wire;
    struct wire__hello hello;
    if (!wire__hello_decode(payload, &hello)) {
        wire__connection_malformed(&incoming->connection, "not a HELLO");
        return;
    }
    uint32_t version = wire__version_of(&wire->hello, &hello);
    if (strcmp(hello.cluster, wire->hello.cluster) != 0) {
        wire__incoming_refuse(incoming, WIRE__REASON_CLUSTER,
                              "this is cluster %s, and not cluster \"%s\"", wire->hello.cluster,
                              hello.cluster);
    } else if (hello.node_id != incoming->node_id || hello.node_id == wire->hello.node_id) {
        wire__incoming_refuse(incoming, WIRE__REASON_NODE,
                              "it says that it is node %u, its certificate is of node %u, this is "
                              "node %u",
                              hello.node_id, incoming->node_id, wire->hello.node_id);
    } else if (version == 0) {
        wire__incoming_refuse(incoming, WIRE__REASON_VERSION,
                              "node %u (tutti %s) speaks versions %u to %u of the protocol, node "
                              "%u (tutti %s) versions %u to %u",
                              hello.node_id, hello.software, hello.version_min, hello.version_max,
                              wire->hello.node_id, wire->hello.software, wire->hello.version_min,
                              wire->hello.version_max);
    } else if (wire->options.events->admits != NULL &&
               !wire->options.events->admits(hello.node_id, wire->options.context)) {
        wire__incoming_refuse(incoming, WIRE__REASON_REMOVED, "node %u is not of this cluster",
                              hello.node_id);
    } else {
        struct buffer message = {0};
        wire__hello_encode(&message, &wire->hello);
        wire__connection_send_frame(&incoming->connection, WIRE__KIND_HELLO,
                                    buffer_bytes(&message));
        buffer_deinit(&message);
        if (!incoming->connection.is_over) {
            become_accepted(incoming, &hello, version);
        }
    }
}

/* ---- Frames ---------------------------------------------------------------------------------- */

static void send_pong(struct wire__incoming *incoming, uint64_t ping_ns)
{
    uint8_t text[PING_SIZE_BYTES];
    endian_put_u64_le(text, ping_ns);
    if (os_stream_queued_bytes(incoming->connection.stream) > WIRE__ANSWERS_SIZE_BYTES_MAX) {
        wire__connection_malformed(&incoming->connection, "it pings and does not read");
        return;
    }
    wire__connection_send_frame(&incoming->connection, WIRE__KIND_PONG,
                                bytes_make(text, sizeof text));
}

static void accepted_frame_came(struct wire__incoming *incoming, const struct wire__header *header,
                                struct bytes payload)
{
    struct wire *wire = incoming->wire;
    if (header->kind == WIRE__KIND_PING && payload.size_bytes == PING_SIZE_BYTES) {
        send_pong(incoming, endian_get_u64_le(payload.data));
        return;
    }
    if (header->kind >= WIRE_KIND_RESERVED) {
        wire__connection_malformed(&incoming->connection, "its kind may not come here");
        return;
    }
    struct wire_remote remote = {.node_id = incoming->node_id,
                                 .boot_id = incoming->boot_id,
                                 .version = incoming->version,
                                 .software = incoming->software};
    struct wire_peer_statistics *statistics = &incoming->node->statistics;
    statistics->received_frame_count++;
    statistics->received_bytes += WIRE_HEADER_SIZE_BYTES + payload.size_bytes;
    wire->options.events->frame(&remote, header->kind, payload, wire->options.context);
}

static void frame_came(struct wire__connection *connection, const struct wire__header *header,
                       struct bytes payload)
{
    struct wire__incoming *incoming = incoming_of(connection);
    switch (incoming->state) {
    case WIRE__INCOMING_UNKNOWN:
        if (header->kind == WIRE__KIND_HELLO) {
            hello_came(incoming, payload);
        } else {
            wire__connection_malformed(connection, "not a HELLO");
        }
        break;
    case WIRE__INCOMING_ACCEPTED:
        accepted_frame_came(incoming, header, payload);
        break;
    case WIRE__INCOMING_STRANGER:
    case WIRE__INCOMING_ANSWERING:
        wire__stranger_frame(incoming, header, payload);
        break;
    case WIRE__INCOMING_OVER:
        break;
    }
}

static const struct wire__role role = {
    .opened = opened,
    .frame = frame_came,
    .failed = failed,
    .orphaned = orphaned,
    .closed = closed,
};

/* ---- Time ------------------------------------------------------------------------------------ */

static void fail(struct wire__incoming *incoming, const char *text)
{
    struct error error = {0};
    (void)error_say(&error, -ETIMEDOUT, "%s", text);
    wire__connection_fail(&incoming->connection, &error);
}

void wire__incoming_sweep(struct wire__incoming *incoming, uint64_t now_ms)
{
    if (incoming->wire == NULL || incoming->connection.is_over) {
        return;
    }
    uint64_t silence_ms = incoming->wire->options.silence_timeout_ms;
    if (incoming->state != WIRE__INCOMING_ACCEPTED) {
        if (now_ms >= incoming->deadline_ms) {
            fail(incoming, "it takes too long");
        }
    } else if (incoming->is_paused) {
        /* Its PINGs are not read: it is told nevertheless that we live. */
        if (now_ms >= incoming->alive_at_ms + silence_ms / ALIVE_PER_SILENCE) {
            incoming->alive_at_ms = now_ms;
            send_pong(incoming, 0);
        }
    } else if (now_ms >= incoming->connection.heard_at_ms + silence_ms) {
        fail(incoming, "it has fallen silent");
    }
}
