/* SPDX-License-Identifier: Apache-2.0 */
/* Strangers: nodes without a certificate, which may ask one thing, to join. And asking that
 * ourselves. */
#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/wire/wire_internal.h"

/* ---- Those who ask us ------------------------------------------------------------------------ */

void wire__stranger_opened(struct wire__incoming *incoming)
{
    struct wire *wire = incoming->wire;
    incoming->state = WIRE__INCOMING_STRANGER;
    if (!wire->options.admits_strangers || wire->options.events->stranger == NULL) {
        wire->statistics.stranger_refused_count++;
        wire__incoming_refuse(incoming, WIRE__REASON_CLOSED, "no node can join here now");
        return;
    }
    if (wire->stranger_count >= wire->options.stranger_count_max ||
        !wire__bucket_take(&wire->stranger_bucket, os_monotonic_ms())) {
        wire->statistics.stranger_refused_count++;
        wire__incoming_refuse(incoming, WIRE__REASON_BUSY,
                              "too many want to join at once; try again");
        return;
    }
    wire__incoming_known(incoming);
    list_push_back(&wire->visitors, &incoming->waiting_member);
    incoming->is_stranger = true;
    wire->stranger_count++;
    incoming->deadline_ms = incoming->accepted_at_ms + wire->options.stranger_timeout_ms;
}

static void hello_came(struct wire__incoming *incoming, struct bytes payload)
{
    struct wire *wire = incoming->wire;
    struct wire__hello hello;
    if (!wire__hello_decode(payload, &hello) || hello.node_id != 0) {
        wire__connection_malformed(&incoming->connection, "not the HELLO of a stranger");
        return;
    }
    incoming->version = wire__version_of(&wire->hello, &hello);
    if (hello.cluster[0] != '\0' && strcmp(hello.cluster, wire->hello.cluster) != 0) {
        wire__incoming_refuse(incoming, WIRE__REASON_CLUSTER,
                              "this is cluster %s, and not cluster \"%s\"", wire->hello.cluster,
                              hello.cluster);
    } else if (incoming->version == 0) {
        wire__incoming_refuse(incoming, WIRE__REASON_VERSION,
                              "tutti %s, which wants to join, speaks versions %u to %u of the "
                              "protocol, node %u (tutti %s) versions %u to %u",
                              hello.software, hello.version_min, hello.version_max,
                              wire->hello.node_id, wire->hello.software, wire->hello.version_min,
                              wire->hello.version_max);
    } else {
        incoming->connection.payload_size_bytes_max = WIRE_STRANGER_SIZE_BYTES_MAX;
    }
}

static void request_came(struct wire__incoming *incoming, struct bytes payload)
{
    struct wire *wire = incoming->wire;
    char address[OS_ADDRESS_TEXT_SIZE];
    struct wire_stranger *stranger = memory_allocate_zeroed(1, sizeof *stranger);
    stranger->wire = wire;
    stranger->incoming = incoming;
    list_push_back(&wire->strangers, &stranger->member);
    incoming->stranger = stranger;
    incoming->is_settled = true;
    incoming->state = WIRE__INCOMING_ANSWERING;
    wire->statistics.stranger_count++;
    wire->options.events->stranger(stranger, wire__incoming_address(incoming, address), payload,
                                   wire->options.context);
}

void wire__stranger_frame(struct wire__incoming *incoming, const struct wire__header *header,
                          struct bytes payload)
{
    if (incoming->state == WIRE__INCOMING_STRANGER && incoming->version == 0 &&
        header->kind == WIRE__KIND_HELLO) {
        hello_came(incoming, payload);
    } else if (incoming->state == WIRE__INCOMING_STRANGER && incoming->version != 0 &&
               header->kind == WIRE__KIND_JOIN) {
        request_came(incoming, payload);
    } else {
        wire__connection_malformed(&incoming->connection, "a stranger may not send it now");
    }
}

/* The request outlives its connection, and goes on to count as one of the strangers. */
void wire__stranger_gone(struct wire__incoming *incoming)
{
    incoming->stranger->incoming = NULL;
    incoming->stranger = NULL;
    incoming->is_stranger = false;
}

void wire_stranger_reply(struct wire_stranger *stranger, struct bytes payload)
{
    struct wire__incoming *incoming = stranger->incoming;
    ASSERT(payload.size_bytes <= WIRE_STRANGER_SIZE_BYTES_MAX);
    list_remove(&stranger->member);
    if (incoming != NULL) {
        incoming->stranger = NULL;
        incoming->state = WIRE__INCOMING_OVER;
        if (incoming->wire != NULL) {
            wire__connection_send_frame(&incoming->connection, WIRE__KIND_JOIN_REPLY, payload);
            wire__connection_finish(&incoming->connection);
        }
    } else if (stranger->wire != NULL) {
        stranger->wire->stranger_count--;
    }
    memory_free(stranger);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

struct wire_join {
    struct wire__connection connection;
    struct tls_context *tls;
    struct os_timer *timer;
    struct wire__hello hello; /* Ours. */
    struct buffer payload;
    void (*done)(int status, struct bytes reply, const struct error *error, void *context); /* NULL:
                                                               was called, or cancelled. */
    void *context;
};

static struct wire_join *join_of(struct wire__connection *connection)
{
    return LIST_ITEM(connection, struct wire_join, connection);
}

static void tell_done(struct wire_join *join, struct bytes reply, const struct error *error)
{
    void (*done)(int, struct bytes, const struct error *, void *) = join->done;
    join->done = NULL;
    os_timer_stop(join->timer);
    if (done != NULL) {
        done(error->code, reply, error, join->context);
    }
}

static void join_failed(struct wire__connection *connection, const struct error *error)
{
    tell_done(join_of(connection), (struct bytes){0}, error);
}

static void join_fail(struct wire_join *join, int code, const char *text)
{
    struct error error = {0};
    (void)error_say(&error, code, "%s", text);
    wire__connection_fail(&join->connection, &error);
}

static void join_timed_out(void *context)
{
    join_fail(context, -ETIMEDOUT, "no answer");
}

static void join_opened(struct wire__connection *connection)
{
    struct wire_join *join = join_of(connection);
    struct buffer message = {0};
    wire__hello_encode(&message, &join->hello);
    wire__connection_send_frame(connection, WIRE__KIND_HELLO, buffer_bytes(&message));
    wire__connection_send_frame(connection, WIRE__KIND_JOIN, buffer_bytes(&join->payload));
    connection->payload_size_bytes_max = WIRE_STRANGER_SIZE_BYTES_MAX;
    buffer_deinit(&message);
}

static void join_frame_came(struct wire__connection *connection, const struct wire__header *header,
                            struct bytes payload)
{
    static const struct error none;
    struct wire_join *join = join_of(connection);
    struct wire__refusal refusal;
    if (header->kind == WIRE__KIND_JOIN_REPLY) {
        connection->is_over = true; /* Its closing is no failure. */
        tell_done(join, payload, &none);
        wire__connection_close(connection);
    } else if (header->kind == WIRE__KIND_REFUSAL && wire__refusal_decode(payload, &refusal)) {
        join_fail(join, refusal.reason == WIRE__REASON_BUSY ? -EBUSY : -EACCES, refusal.text);
    } else {
        wire__connection_malformed(connection, "not an answer");
    }
}

static void join_closed(struct wire__connection *connection)
{
    struct wire_join *join = join_of(connection);
    wire__connection_deinit(connection);
    os_timer_destroy(join->timer);
    tls_context_destroy(join->tls);
    tls_wipe_buffer(&join->payload); /* It may hold a token. */
    memory_free(join);
}

static const struct wire__role join_role = {
    .opened = join_opened,
    .frame = join_frame_came,
    .failed = join_failed,
    .closed = join_closed,
};

int wire_join_start(struct wire_join **join, struct os_loop *loop,
                    const struct wire_join_options *options, struct error *error)
{
    if (options->payload.size_bytes > WIRE_STRANGER_SIZE_BYTES_MAX) {
        return error_set(error, -EMSGSIZE, "ask to join");
    }
    struct wire_join *made = memory_allocate_zeroed(1, sizeof *made);
    struct tls_session_options session_options = {.side = TLS_SIDE_CLIENT};
    made->tls = tls_context_create_pinned(&options->fingerprint);
    struct tls_session *session = tls_session_create(made->tls, &session_options);
    int status = wire__connection_dial(&made->connection, &join_role, loop, &options->address,
                                       session, error);
    if (status != 0) {
        tls_session_destroy(session);
        tls_context_destroy(made->tls);
        memory_free(made);
        return status;
    }
    made->hello = (struct wire__hello){.boot_id = 1, /* Nobody will ask. */
                                       .version_min = options->version_min,
                                       .version_max = options->version_max};
    wire__text_copy(made->hello.cluster, sizeof made->hello.cluster,
                    options->cluster != NULL ? options->cluster : "");
    wire__text_copy(made->hello.software, sizeof made->hello.software, options->software);
    buffer_append(&made->payload, options->payload);
    made->done = options->done;
    made->context = options->context;
    made->timer = os_timer_create(loop, join_timed_out, made);
    os_timer_start(made->timer,
                   options->timeout_ms != 0 ? options->timeout_ms : WIRE_STRANGER_TIMEOUT_MS, 0);
    *join = made;
    return 0;
}

void wire_join_cancel(struct wire_join *join)
{
    join->done = NULL;
    os_timer_stop(join->timer);
    wire__connection_close(&join->connection);
}
