/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "driver/wire/wire_test_world.h"

enum { TURN_MS = 2, TEST_MS_MAX = 20000 };

struct world world;
static uint64_t began_ms;

/* ---- What parties hear ----------------------------------------------------------------------- */

static void frame_came(const struct wire_remote *remote, uint16_t kind, struct bytes payload,
                       void *context)
{
    struct party *party = context;
    party->frame_count++;
    party->payload_bytes += payload.size_bytes;
    party->last_boot_id = remote->boot_id;
    party->last_kind = kind;
    if (party->keeps_payloads) {
        buffer_append(&party->payloads, payload);
    }
    if (party->frame != NULL) {
        party->frame(party, remote, kind, payload);
    }
}

static void connected(const struct wire_remote *remote, void *context)
{
    struct party *party = context;
    party->last_boot_id = remote->boot_id;
    assert_true(wire_is_connected(party->wire, remote->node_id));
    buffer_append_format(&party->heard, "connected %u\n", remote->node_id);
}

static void disconnected(uint32_t node_id, void *context)
{
    buffer_append_format(&((struct party *)context)->heard, "disconnected %u\n", node_id);
}

static void accepted(const struct wire_remote *remote, void *context)
{
    buffer_append_format(&((struct party *)context)->heard, "accepted %u\n", remote->node_id);
}

static void closed(uint32_t node_id, uint64_t boot_id, void *context)
{
    assert_int_not_equal(boot_id, 0);
    buffer_append_format(&((struct party *)context)->heard, "closed %u\n", node_id);
}

static bool admits(uint32_t node_id, void *context)
{
    struct party *party = context;
    return node_id > WORLD_PARTIES_MAX || !party->is_removed[node_id];
}

static void removed(uint32_t node_id, void *context)
{
    buffer_append_format(&((struct party *)context)->heard, "removed %u\n", node_id);
}

static void stranger_came(struct wire_stranger *stranger, const char *address, struct bytes payload,
                          void *context)
{
    struct party *party = context;
    assert_non_null(strstr(address, "127.0.0.1:"));
    buffer_append(&party->heard, BYTES("stranger "));
    buffer_append(&party->heard, payload);
    buffer_append_byte(&party->heard, '\n');
    if (party->answers_strangers) {
        wire_stranger_reply(stranger, BYTES("welcome"));
        return;
    }
    assert_true(party->stranger_count < WORLD_STRANGERS_MAX);
    party->strangers[party->stranger_count++] = stranger;
}

static void event_came(enum os_log_level level, const char *name, const char *text, void *context)
{
    (void)level;
    buffer_append_format(&((struct party *)context)->told, "%s %s\n", name, text);
}

static const struct wire_events events = {
    .frame = frame_came,
    .connected = connected,
    .disconnected = disconnected,
    .accepted = accepted,
    .closed = closed,
    .admits = admits,
    .removed = removed,
    .stranger = stranger_came,
    .event = event_came,
};

/* ---- Parties --------------------------------------------------------------------------------- */

struct tls_pair world_certificate(const struct tls_pair *authority, uint32_t node_id,
                                  uint64_t made_ms, uint64_t validity_ms)
{
    struct tls_pair pair = {0};
    struct buffer request = {0};
    assert_int_equal(tls_request_create(&pair.key, &request, NULL), 0);
    struct tls_sign_options options = {.authority = authority,
                                       .request = buffer_bytes(&request),
                                       .node_id = node_id,
                                       .now_ms = made_ms,
                                       .validity_ms = validity_ms};
    assert_int_equal(tls_request_sign(&pair.certificate, &options, NULL), 0);
    buffer_deinit(&request);
    return pair;
}

static struct tls_context *make_context(const struct tls_pair *authority,
                                        const struct tls_pair *pair)
{
    struct tls_context *context = NULL;
    struct tls_context_options options = {.authority = buffer_bytes(&authority->certificate),
                                          .pair = pair};
    assert_int_equal(tls_context_create(&context, &options, NULL), 0);
    return context;
}

struct party *world_party(uint32_t node_id)
{
    struct party *party = &world.parties[node_id - 1];
    struct os_address address = {0};
    assert_int_equal(os_address_parse(&address, "127.0.0.1:0", NULL), 0);
    party->node_id = node_id;
    party->pair = world_certificate(&world.authority, node_id, os_wall_clock_ms(), 0);
    party->tls = make_context(&world.authority, &party->pair);
    party->options = (struct wire_options){
        .listener = {.address = address, .flag = "--peer"},
        .cluster = WORLD_CLUSTER,
        .node_id = node_id,
        .boot_id = 1000 + node_id,
        .version_min = 1,
        .version_max = 1,
        .software = "0.0.1",
        .events = &events,
        .frame_size_bytes_max = WORLD_FRAME_SIZE_BYTES_MAX,
        .backoff_ms_min = 10,
        .backoff_ms_max = 100,
        .context = party,
    };
    return party;
}

void world_use(struct party *party, const struct tls_pair *authority, const struct tls_pair *pair)
{
    tls_context_destroy(party->tls);
    party->tls = make_context(authority, pair);
    party->options.cluster = tls_context_identity(party->tls)->cluster;
    party->options.node_id = tls_context_identity(party->tls)->node_id;
}

void world_open(struct party *party)
{
    struct error error = {0};
    party->options.tls = party->tls;
    if (wire_open(&party->wire, world.loop, &party->options, &error) != 0) {
        fail_msg("%s", error.message);
    }
    party->options.listener.address = wire_address(party->wire);
}

void world_close(struct party *party)
{
    wire_close(party->wire);
    party->wire = NULL;
}

int world_set_peer(struct wire *wire, uint32_t node_id, const struct os_address *address)
{
    char text[OS_ADDRESS_TEXT_SIZE];
    return wire_set_peer(wire, node_id, os_address_format(address, text));
}

void world_introduce(struct party *source, const struct party *target)
{
    struct os_address address = wire_address(target->wire);
    assert_int_equal(world_set_peer(source->wire, target->node_id, &address), 0);
}

void world_connect(struct party *source, struct party *target)
{
    world_introduce(source, target);
    UNTIL(wire_is_connected(source->wire, target->node_id));
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void stop_turn(void *context)
{
    os_loop_stop(context);
}

void world_turn(void)
{
    if (os_monotonic_ms() > began_ms + TEST_MS_MAX) {
        for (uint32_t i = 0; i < WORLD_PARTIES_MAX; i++) {
            print_message("node %u heard:\n%.*stold:\n%.*s", i + 1,
                          (int)world.parties[i].heard.size_bytes, world.parties[i].heard.data,
                          (int)world.parties[i].told.size_bytes, world.parties[i].told.data);
        }
        fail_msg("what was waited for did not happen");
    }
    os_timer_start(world.timer, TURN_MS, 0);
    os_loop_run(world.loop);
}

void world_pass_ms(uint64_t duration_ms)
{
    uint64_t until_ms = os_monotonic_ms() + duration_ms;
    UNTIL(os_monotonic_ms() >= until_ms);
}

int world_setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    os_ignore_broken_pipes();
    began_ms = os_monotonic_ms();
    assert_int_equal(os_loop_create(&world.loop, NULL), 0);
    world.timer = os_timer_create(world.loop, stop_turn, world.loop);
    assert_int_equal(
        tls_authority_create(&world.authority, WORLD_CLUSTER, os_wall_clock_ms(), NULL), 0);
    assert_int_equal(
        tls_fingerprint(&world.fingerprint, buffer_bytes(&world.authority.certificate), NULL), 0);
    return 0;
}

int world_teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < WORLD_PARTIES_MAX; i++) {
        struct party *party = &world.parties[i];
        wire_close(party->wire);
        for (uint32_t j = 0; j < party->stranger_count; j++) {
            wire_stranger_reply(party->strangers[j], BYTES("too late"));
        }
        buffer_deinit(&party->heard);
        buffer_deinit(&party->told);
        buffer_deinit(&party->payloads);
        tls_context_destroy(party->tls);
        tls_pair_deinit(&party->pair);
    }
    os_timer_destroy(world.timer);
    os_loop_destroy(world.loop);
    tls_pair_deinit(&world.authority);
    return 0;
}

bool has_text(const struct buffer *buffer, const char *text)
{
    return buffer->size_bytes > 0 &&
           memmem(buffer->data, buffer->size_bytes, text, strlen(text)) != NULL;
}

/* ---- The hand -------------------------------------------------------------------------------- */

static struct hand *hand_of(struct wire__connection *connection)
{
    return LIST_ITEM(connection, struct hand, connection);
}

static void hand_opened(struct wire__connection *connection)
{
    struct hand *hand = hand_of(connection);
    hand->is_open = true;
    connection->payload_size_bytes_max = WORLD_FRAME_SIZE_BYTES_MAX;
    if (!hand->is_silent) {
        struct buffer message = {0};
        wire__hello_encode(&message, &hand->hello);
        hand_send(hand, WIRE__KIND_HELLO, buffer_bytes(&message));
        buffer_deinit(&message);
    }
}

static void hand_frame(struct wire__connection *connection, const struct wire__header *header,
                       struct bytes payload)
{
    struct hand *hand = hand_of(connection);
    buffer_append_format(&hand->received, "%04x ", header->kind);
    buffer_clear(&hand->last_payload);
    buffer_append(&hand->last_payload, payload);
}

static void hand_failed(struct wire__connection *connection, const struct error *error)
{
    hand_of(connection)->error = *error;
}

static void hand_closed(struct wire__connection *connection)
{
    struct hand *hand = hand_of(connection);
    wire__connection_deinit(connection);
    hand->is_there = false;
    hand->was_closed = true;
}

static const struct wire__role hand_role = {
    .opened = hand_opened,
    .frame = hand_frame,
    .failed = hand_failed,
    .closed = hand_closed,
};

static void hand_init(struct hand *hand, const struct tls_pair *pair)
{
    hand->tls = pair != NULL ? make_context(&world.authority, pair)
                             : tls_context_create_pinned(&world.fingerprint);
    if (hand->hello.boot_id == 0) {
        const struct tls_identity *identity = tls_context_identity(hand->tls);
        hand->hello = (struct wire__hello){.cluster = WORLD_CLUSTER,
                                           .node_id = identity != NULL ? identity->node_id : 0,
                                           .boot_id = 77,
                                           .version_min = 1,
                                           .version_max = 1,
                                           .software = "hand"};
    }
}

void hand_dial(struct hand *hand, struct party *party, const struct tls_pair *pair)
{
    struct os_address address = wire_address(party->wire);
    struct tls_session_options options = {.side = TLS_SIDE_CLIENT};
    hand_init(hand, pair);
    assert_int_equal(wire__connection_dial(&hand->connection, &hand_role, world.loop, &address,
                                           tls_session_create(hand->tls, &options), NULL),
                     0);
    hand->is_there = true;
}

static void hand_accepted(struct os_stream *stream, void *context)
{
    struct hand *hand = context;
    struct tls_session_options options = {.side = TLS_SIDE_SERVER};
    if (!hand->is_there && !hand->was_closed) { /* It serves once. */
        hand->is_there = true;
        wire__connection_accept(&hand->connection, &hand_role, stream,
                                tls_session_create(hand->tls, &options));
    }
}

struct os_address hand_listen(struct hand *hand, const struct tls_pair *pair)
{
    static const struct os_listener_events listener_events = {.accepted = hand_accepted};
    struct os_listener_options options = {.flag = "hand"};
    assert_int_equal(os_address_parse(&options.address, "127.0.0.1:0", NULL), 0);
    hand_init(hand, pair);
    assert_int_equal(
        os_listener_open(&hand->listener, world.loop, &options, &listener_events, hand, NULL), 0);
    return os_listener_address(hand->listener);
}

void hand_send(struct hand *hand, uint16_t kind, struct bytes payload)
{
    struct buffer frame = {0};
    wire__frame_encode(buffer_extend(&frame, WIRE_HEADER_SIZE_BYTES + payload.size_bytes), kind,
                       payload);
    hand_send_raw(hand, buffer_bytes(&frame));
    buffer_deinit(&frame);
}

void hand_send_raw(struct hand *hand, struct bytes plain)
{
    wire__connection_seal(&hand->connection, plain);
    wire__connection_write(&hand->connection);
}

void hand_close(struct hand *hand)
{
    if (hand->is_there) {
        wire__connection_close(&hand->connection);
        UNTIL(!hand->is_there);
    }
    os_listener_close(hand->listener);
    tls_context_destroy(hand->tls);
    buffer_deinit(&hand->received);
    buffer_deinit(&hand->last_payload);
    *hand = (struct hand){0};
}
