/* SPDX-License-Identifier: Apache-2.0 */
/* Those who may not, do not, or do it wrong. Each test ends with an endpoint that still serves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/checksum/checksum.h"
#include "base/endian/endian.h"
#include "driver/wire/wire_test_world.h"

enum { KIND = 7 };

/* A node of good standing can talk to `party`. */
static void assert_serves(struct party *party)
{
    struct party *visitor = world_party(4);
    uint64_t frames_before = party->frame_count;
    struct bytes payload = BYTES("still there?");
    world_open(visitor);
    world_connect(visitor, party);
    assert_int_equal(wire_send(visitor->wire, party->node_id, KIND, &payload, 1), 0);
    UNTIL(party->frame_count > frames_before);
}

/* Two nodes that shall not come together, and what the one that dials is told. */
static void assert_unreachable(struct party *source, struct party *target, const char *reason)
{
    world_introduce(source, target);
    UNTIL(wire_statistics(target->wire).rejected_count >= 3); /* It tried again, too. */
    assert_false(wire_is_connected(source->wire, target->node_id));
    assert_false(has_text(&target->heard, "accepted"));
    if (!has_text(&source->told, reason)) {
        fail_msg("\"%s\" is not in:\n%.*s", reason, (int)source->told.size_bytes,
                 source->told.data);
    }
}

/* ---- Wrong certificates ---------------------------------------------------------------------- */

/* Claim: a node whose certificate another authority signed does not come in, whatever it says. */
static void test_wrong_authority(void **state)
{
    (void)state;
    struct tls_pair other = {0};
    assert_int_equal(tls_authority_create(&other, WORLD_CLUSTER, os_wall_clock_ms(), NULL), 0);
    struct tls_pair pair = world_certificate(&other, 1, os_wall_clock_ms(), 0);
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_use(source, &other, &pair);
    world_open(source);
    world_open(target);
    assert_unreachable(source, target, "wire.peer.refused node 2");
    assert_true(has_text(&target->told, "wire.accept.failed 127.0.0.1:"));
    assert_serves(target);
    tls_pair_deinit(&pair);
    tls_pair_deinit(&other);
}

/* Claim: nor does one of another cluster. */
static void test_foreign_cluster(void **state)
{
    (void)state;
    struct tls_pair other = {0};
    assert_int_equal(tls_authority_create(&other, "ffff", os_wall_clock_ms(), NULL), 0);
    struct tls_pair pair = world_certificate(&other, 1, os_wall_clock_ms(), 0);
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_use(source, &other, &pair);
    world_open(source);
    world_open(target);
    assert_unreachable(source, target, "wire.peer.refused node 2");
    tls_pair_deinit(&pair);
    tls_pair_deinit(&other);
}

/* Claim: an address where another node answers than the one that was meant is no connection to it. */
static void test_wrong_node(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(source);
    world_open(target);
    struct os_address address = wire_address(target->wire);
    assert_int_equal(world_set_peer(source->wire, 3, &address), 0);
    UNTIL(wire_statistics(target->wire).rejected_count >= 3);
    assert_false(wire_is_connected(source->wire, 3));
    assert_true(has_text(&source->told, "it is of node 2, and not of node 3"));
    assert_false(has_text(&target->heard, "accepted"));
    assert_serves(target);
}

/* Claim: an expired certificate is as good as none, for whoever shows it. */
static void test_expired(void **state)
{
    (void)state;
    uint64_t now_ms = os_wall_clock_ms();
    struct tls_pair old = {0};
    assert_int_equal(tls_authority_create(&old, WORLD_CLUSTER, now_ms - 100 * TLS_DAY_MS, NULL), 0);
    struct tls_pair expired = world_certificate(&old, 1, now_ms - 95 * TLS_DAY_MS, 0);
    struct tls_pair good = world_certificate(&old, 2, now_ms, 0);
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_use(source, &old, &expired);
    world_use(target, &old, &good);
    world_open(source);
    world_open(target);
    assert_unreachable(source, target, "wire.peer.refused node 2");
    assert_true(has_text(&source->told, "expired"));
    assert_true(has_text(&target->told, "expired"));
    tls_pair_deinit(&good);
    tls_pair_deinit(&expired);
    tls_pair_deinit(&old);
}

/* Claim: an endpoint does not open with a certificate of somebody else. */
static void test_own_certificate(void **state)
{
    (void)state;
    struct party *party = world_party(1);
    struct error error = {0};
    struct wire *wire = NULL;
    party->options.tls = party->tls;
    party->options.node_id = 2;
    assert_int_equal(wire_open(&wire, world.loop, &party->options, &error), -EINVAL);
    assert_non_null(strstr(error.message, "node 1"));
    party->options.node_id = 1;
    party->options.cluster = "ff";
    assert_int_equal(wire_open(&wire, world.loop, &party->options, &error), -EINVAL);
    assert_null(wire);
}

/* ---- Wrong greetings ------------------------------------------------------------------------- */

/* Claim: who says in HELLO that it is somebody else than its certificate says, or is of another
 * cluster, or speaks no version of ours, is told why and goes. */
static void test_wrong_hello(void **state)
{
    (void)state;
    static const struct {
        struct wire__hello hello;
        const char *told;
        uint32_t reason;
    } cases[] = {
        {{WORLD_CLUSTER, 3, 77, 1, 1, "x"}, "it says that it is node 3", WIRE__REASON_NODE},
        {{WORLD_CLUSTER, 0, 77, 1, 1, "x"}, "it says that it is node 0", WIRE__REASON_NODE},
        {{"ffff", 1, 77, 1, 1, "x"}, "not cluster \"ffff\"", WIRE__REASON_CLUSTER},
        {{"", 1, 77, 1, 1, "x"}, "not cluster \"\"", WIRE__REASON_CLUSTER},
        {{WORLD_CLUSTER, 1, 77, 2, 9, "9.9"},
         "(tutti 9.9) speaks versions 2 to 9",
         WIRE__REASON_VERSION},
        {{WORLD_CLUSTER, 1, 77, 1, 1, "x"}, NULL, 0},
    };
    struct party *target = world_party(2);
    struct tls_pair pair = world_certificate(&world.authority, 1, os_wall_clock_ms(), 0);
    world_open(target);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hand hand = {.hello = cases[i].hello};
        hand_dial(&hand, target, &pair);
        if (cases[i].told == NULL) {
            UNTIL(has_text(&hand.received, "ff00"));
            hand_close(&hand);
            continue;
        }
        UNTIL(hand.was_closed);
        struct wire__refusal refusal;
        assert_true(bytes_equal(buffer_bytes(&hand.received), BYTES("ff01 ")));
        assert_true(wire__refusal_decode(buffer_bytes(&hand.last_payload), &refusal));
        assert_int_equal(refusal.reason, cases[i].reason);
        assert_non_null(strstr(refusal.text, cases[i].told));
        assert_true(has_text(&target->told, cases[i].told));
        hand_close(&hand);
    }
    assert_int_equal(wire_statistics(target->wire).rejected_count, 5);
    UNTIL(has_text(&target->heard, "closed 1"));
    assert_true(bytes_equal(buffer_bytes(&target->heard), BYTES("accepted 1\nclosed 1\n")));
    tls_pair_deinit(&pair);
}

/* Claim: the side that dials is as strict about the other's HELLO, and says so in its log. */
static void test_wrong_hello_of_server(void **state)
{
    (void)state;
    static const struct {
        struct wire__hello hello;
        const char *told;
    } cases[] = {
        {{WORLD_CLUSTER, 3, 77, 1, 1, "x"}, "it says that it is node 3 of cluster"},
        {{"ffff", 2, 77, 1, 1, "x"}, "node 2 of cluster ffff"},
        {{WORLD_CLUSTER, 2, 77, 3, 4, "9.9"},
         "it speaks versions 3 to 4 of the protocol (tutti 9.9), we speak 1 to 1"},
    };
    struct party *source = world_party(1);
    struct tls_pair pair = world_certificate(&world.authority, 2, os_wall_clock_ms(), 0);
    world_open(source);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hand hand = {.hello = cases[i].hello};
        struct os_address address = hand_listen(&hand, &pair);
        assert_int_equal(world_set_peer(source->wire, 2, &address), 0);
        UNTIL(has_text(&source->told, cases[i].told));
        assert_false(wire_is_connected(source->wire, 2));
        wire_remove_peer(source->wire, 2);
        hand_close(&hand);
    }
    assert_int_equal(source->heard.size_bytes, 0);
    tls_pair_deinit(&pair);
}

/* Claim: neighbouring versions find the highest that both speak; those without a common one tell
 * both sides which they speak. */
static void test_versions(void **state)
{
    (void)state;
    struct party *old = world_party(1);
    struct party *middle = world_party(2);
    struct party *young = world_party(3);
    middle->options.version_max = 2;
    young->options.version_min = 2;
    young->options.version_max = 3;
    world_open(old);
    world_open(middle);
    world_open(young);
    world_connect(old, middle);
    world_connect(middle, young);
    struct wire_peer_statistics statistics[2];
    assert_int_equal(wire_peers(middle->wire, statistics, 2), 2);
    assert_int_equal(statistics[0].version, 1);
    assert_int_equal(statistics[1].version, 2);
    world_introduce(old, young);
    UNTIL(has_text(&old->told, "it refuses us: node 1 (tutti 0.0.1) speaks versions 1 to 1 of the "
                               "protocol, node 3 (tutti 0.0.1) versions 2 to 3"));
    assert_false(has_text(&old->heard, "removed")); /* It was refused for another reason. */
    assert_true(has_text(&young->told, "wire.accept.refused 127.0.0.1:"));
    assert_false(wire_is_connected(old->wire, 3));
    /* Whoever needs a newer one from now on keeps what is there, and takes nothing older. */
    wire_set_version_min(middle->wire, 2);
    assert_true(wire_is_connected(old->wire, 2));
    wire_hang_up(middle->wire, 1);
    UNTIL(has_text(&old->told, "it refuses us: node 1 (tutti 0.0.1) speaks versions 1 to 1 of the "
                               "protocol, node 2 (tutti 0.0.1) versions 2 to 2"));
    assert_true(wire_is_connected(middle->wire, 3));
}

/* ---- Wrong bytes ----------------------------------------------------------------------------- */

struct plain_peer {
    struct os_stream *stream;
    bool is_connected;
    bool is_closed;
};

static void plain_read(struct os_stream *stream, struct bytes bytes, void *context)
{
    (void)stream;
    (void)bytes;
    (void)context;
}

static void plain_ended(struct os_stream *stream, int status, void *context)
{
    (void)status;
    (void)context;
    os_stream_close(stream);
}

static void plain_closed(struct os_stream *stream, void *context)
{
    (void)stream;
    ((struct plain_peer *)context)->is_closed = true;
}

static void plain_connected(struct os_stream *stream, int status, void *context)
{
    (void)stream;
    assert_int_equal(status, 0);
    ((struct plain_peer *)context)->is_connected = true;
}

static void plain_dial(struct plain_peer *peer, struct party *party)
{
    static const struct os_stream_events events = {.read = plain_read,
                                                   .ended = plain_ended,
                                                   .closed = plain_closed,
                                                   .connected = plain_connected};
    struct os_address address = wire_address(party->wire);
    *peer = (struct plain_peer){0};
    assert_int_equal(os_stream_connect(&peer->stream, world.loop, &address, &events, peer, NULL),
                     0);
}

/* Claim: other protocols and noise are hung up on at once. */
static void test_garbage_before_tls(void **state)
{
    (void)state;
    static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "PING\r\n PING\r\n",
                                        "\x16\x03\x01\x00\x03\x01\x02\x03", "\xff\xfe\xfd\xfc\xfb"};
    struct party *target = world_party(2);
    world_open(target);
    for (size_t i = 0; i < 4; i++) {
        struct plain_peer peer;
        plain_dial(&peer, target);
        UNTIL(peer.is_connected);
        struct bytes text = bytes_make(texts[i], i == 2 ? 8 : strlen(texts[i]));
        assert_int_equal(os_stream_write(peer.stream, &text, 1), 0);
        UNTIL(peer.is_closed);
    }
    UNTIL(wire_statistics(target->wire).unknown_count == 0);
    assert_int_equal(wire_statistics(target->wire).rejected_count, 4);
    assert_true(has_text(&target->told, "wire.accept.failed 127.0.0.1:"));
    assert_int_equal(target->heard.size_bytes, 0);
    assert_serves(target);
}

/* Claim: who is too slow to say who it is, at any step, is hung up on in time. */
static void test_slow_handshake(void **state)
{
    (void)state;
    struct party *target = world_party(2);
    struct tls_pair pair = world_certificate(&world.authority, 1, os_wall_clock_ms(), 0);
    target->options.handshake_timeout_ms = 1500; /* Enough for what is to come before. */
    target->options.silence_timeout_ms = 750;
    world_open(target);
    struct plain_peer silent;
    struct plain_peer stuck;
    struct hand hand = {.is_silent = true}; /* TLS, and then nothing. */
    uint64_t began_ms = os_monotonic_ms();
    plain_dial(&silent, target);
    plain_dial(&stuck, target);
    hand_dial(&hand, target, &pair);
    UNTIL(stuck.is_connected);
    struct bytes half = BYTES("\x16\x03\x01\x02\x00"); /* A record's header, without the record. */
    assert_int_equal(os_stream_write(stuck.stream, &half, 1), 0);
    UNTIL(hand.is_open);
    assert_int_equal(wire_statistics(target->wire).unknown_count, 3);
    UNTIL(silent.is_closed && stuck.is_closed && hand.was_closed);
    uint64_t took_ms = os_monotonic_ms() - began_ms;
    assert_true(took_ms >= 1500);
    assert_true(took_ms < 15000); /* Also on a machine that has other things to do. */
    assert_true(has_text(&target->told, "it takes too long"));
    assert_int_equal(wire_statistics(target->wire).unknown_count, 0);
    hand_close(&hand);
    assert_serves(target);
    tls_pair_deinit(&pair);
}

/* Claim: a peer that never answers a dial does not keep us waiting. */
static void test_silent_server(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct tls_pair pair = world_certificate(&world.authority, 2, os_wall_clock_ms(), 0);
    source->options.handshake_timeout_ms = 100;
    source->options.silence_timeout_ms = 100;
    struct hand hand = {.is_silent = true};
    world_open(source);
    struct os_address address = hand_listen(&hand, &pair);
    assert_int_equal(world_set_peer(source->wire, 2, &address), 0);
    UNTIL(has_text(&source->told, "wire.peer.unreachable node 2"));
    assert_true(has_text(&source->told, "no answer"));
    hand_close(&hand);
    tls_pair_deinit(&pair);
}

/* Claim: whoever connects and says nothing does not keep those out who do. */
static void test_flood_of_unknowns(void **state)
{
    (void)state;
    enum { PEERS = 60, MOST = 16 };
    static struct plain_peer peers[PEERS];
    struct party *target = world_party(2);
    target->options.unknown_count_max = MOST;
    target->options.handshake_rate_max = 1000;
    world_open(target);
    for (uint32_t i = 0; i < PEERS; i++) {
        plain_dial(&peers[i], target);
        world_turn();
        assert_true(wire_statistics(target->wire).unknown_count <= MOST);
    }
    UNTIL(wire_statistics(target->wire).accepted_count == PEERS);
    assert_serves(target);
    assert_true(has_text(&target->told, "wire.accept.limited 16 connections have not said"));
    uint32_t closed_count = 0;
    for (uint32_t i = 0; i < PEERS; i++) {
        closed_count += peers[i].is_closed;
        if (!peers[i].is_closed) {
            assert_true(i >= PEERS - MOST); /* The newest are left. */
            os_stream_close(peers[i].stream);
        }
    }
    assert_true(closed_count >= PEERS - MOST);
    UNTIL(wire_statistics(target->wire).unknown_count == 0);
}

/* Claim: more connections in a second than the limit cost nothing but their accepting. */
static void test_rate_of_connections(void **state)
{
    (void)state;
    enum { PEERS = 60, RATE = 10, BURST = 40 };
    static struct plain_peer peers[PEERS];
    struct party *target = world_party(2);
    target->options.handshake_rate_max = RATE;
    world_open(target);
    uint64_t began_ms = os_monotonic_ms();
    for (uint32_t i = 0; i < PEERS; i++) {
        plain_dial(&peers[i], target);
    }
    UNTIL(wire_statistics(target->wire).accepted_count == PEERS);
    uint64_t took_ms = os_monotonic_ms() - began_ms;
    assert_true(wire_statistics(target->wire).unknown_count <= BURST + RATE * took_ms / 1000 + 1);
    assert_true(has_text(&target->told, "wire.accept.limited more than 10 connections"));
    world_pass_ms(300);
    for (uint32_t i = 0; i < PEERS; i++) {
        if (!peers[i].is_closed) {
            os_stream_close(peers[i].stream);
        }
    }
    UNTIL(wire_statistics(target->wire).unknown_count == 0);
    assert_serves(target);
}

/* ---- Wrong frames of a good node ------------------------------------------------------------- */

static void append_part(struct buffer *target, uint16_t kind, uint16_t flags, struct bytes payload)
{
    uint8_t *frame = buffer_extend(target, WIRE_HEADER_SIZE_BYTES + payload.size_bytes);
    uint32_t checksum = wire__header_begin(frame, kind, flags, (uint32_t)payload.size_bytes);
    memcpy(frame + WIRE_HEADER_SIZE_BYTES, payload.data, payload.size_bytes);
    wire__header_end(frame, checksum_crc32c(checksum, payload));
}

/* Claim: the parts of a message are of one kind and not too large together; whole frames may come
 * between them. */
static void test_wrong_parts(void **state)
{
    (void)state;
    struct party *target = world_party(2);
    struct tls_pair pair = world_certificate(&world.authority, 1, os_wall_clock_ms(), 0);
    target->options.frame_size_bytes_max = 100;
    target->keeps_payloads = true;
    world_open(target);
    static const char *const told[] = {NULL, "a part that may not come here",
                                       "its parts are too large together"};
    uint8_t sixty[60] = {0};
    for (uint32_t i = 0; i < 3; i++) {
        struct hand hand = {0};
        struct buffer all = {0};
        hand_dial(&hand, target, &pair);
        UNTIL(has_text(&hand.received, "ff00"));
        buffer_clear(&target->told);
        buffer_clear(&target->payloads);
        append_part(&all, KIND, WIRE__FLAG_PART, BYTES("to"));
        append_part(&all, KIND, 0, BYTES("between "));
        if (i == 0) {
            append_part(&all, KIND, WIRE__FLAG_PART | WIRE__FLAG_LAST, BYTES("gether"));
        } else if (i == 1) {
            append_part(&all, KIND + 1, WIRE__FLAG_PART, BYTES("other"));
        } else {
            append_part(&all, KIND, WIRE__FLAG_PART, bytes_make(sixty, sizeof sixty));
            append_part(&all, KIND, WIRE__FLAG_PART, bytes_make(sixty, sizeof sixty));
        }
        hand_send_raw(&hand, buffer_bytes(&all));
        if (i == 0) {
            UNTIL(bytes_equal(buffer_bytes(&target->payloads), BYTES("between together")));
        } else {
            UNTIL(hand.was_closed);
            assert_true(has_text(&target->told, told[i]));
            assert_true(bytes_equal(buffer_bytes(&target->payloads), BYTES("between ")));
        }
        buffer_deinit(&all);
        hand_close(&hand);
    }
    assert_serves(target);
    tls_pair_deinit(&pair);
}

/* Claim: a malformed frame, or one that may not come, closes the connection; what came before it is
 * delivered, what comes behind it is not. */
static void test_malformed_frames(void **state)
{
    (void)state;
    static const struct {
        uint32_t size_bytes;
        uint16_t kind;
        uint16_t flags;
        uint32_t zero;
        bool has_bad_checksum;
        const char *told;
    } cases[] = {
        {4, KIND, 0, 0, true, "its checksum is wrong"},
        {4, KIND, 2, 0, false, "its header has"},
        {4, KIND, 4, 0, false, "its header has"},
        {4, KIND, 0, 1, false, "its header has"},
        {WIRE__PART_SIZE_BYTES + 1, KIND, 0, 0, false, "it is too large"},
        {UINT32_MAX, KIND, 0, 0, false, "it is too large"},
        {4, WIRE__KIND_HELLO, 0, 0, false, "its kind may not come here"},
        {4, WIRE__KIND_PING, 0, 0, false, "its kind may not come here"},
        {4, WIRE__KIND_JOIN, 0, 0, false, "its kind may not come here"},
        {4, UINT16_MAX, 0, 0, false, "its kind may not come here"},
    };
    struct party *target = world_party(2);
    struct tls_pair pair = world_certificate(&world.authority, 1, os_wall_clock_ms(), 0);
    world_open(target);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hand hand = {0};
        uint8_t frame[WIRE_HEADER_SIZE_BYTES + 4];
        struct bytes payload = BYTES("evil");
        struct buffer all = {0};
        hand_dial(&hand, target, &pair);
        UNTIL(has_text(&hand.received, "ff00"));
        wire__frame_encode(frame, cases[i].kind, payload);
        endian_put_u32_le(frame, cases[i].size_bytes);
        endian_put_u16_le(frame + 6, cases[i].flags);
        endian_put_u32_le(frame + 12, cases[i].zero);
        frame[8] ^= cases[i].has_bad_checksum;
        struct bytes good = BYTES("good");
        wire__frame_encode(buffer_extend(&all, sizeof frame), KIND, good);
        buffer_append(&all, bytes_make(frame, sizeof frame));
        wire__frame_encode(buffer_extend(&all, sizeof frame), KIND, good);
        buffer_clear(&target->told);
        hand_send_raw(&hand, buffer_bytes(&all));
        UNTIL(hand.was_closed);
        assert_int_equal(target->frame_count, i + 1);
        assert_true(has_text(&target->told, "wire.accept.malformed node 1 at 127.0.0.1:"));
        assert_true(has_text(&target->told, cases[i].told));
        assert_int_equal(wire_statistics(target->wire).malformed_count, i + 1);
        buffer_deinit(&all);
        hand_close(&hand);
    }
    assert_serves(target);
    tls_pair_deinit(&pair);
}

/* Claim: before its HELLO nobody is listened to, not even a good node, and not for long. */
static void test_frame_before_hello(void **state)
{
    (void)state;
    static const uint8_t large[WIRE__MESSAGE_SIZE_BYTES_MAX + 1];
    struct party *target = world_party(2);
    struct tls_pair pair = world_certificate(&world.authority, 1, os_wall_clock_ms(), 0);
    world_open(target);
    for (uint32_t i = 0; i < 3; i++) {
        struct hand hand = {.is_silent = true};
        hand_dial(&hand, target, &pair);
        UNTIL(hand.is_open);
        hand_send(&hand, i == 0 ? KIND : WIRE__KIND_HELLO,
                  i == 2 ? bytes_make(large, sizeof large) : BYTES("hi"));
        UNTIL(hand.was_closed);
        hand_close(&hand);
    }
    assert_int_equal(target->frame_count, 0);
    assert_int_equal(target->heard.size_bytes, 0);
    assert_int_equal(wire_statistics(target->wire).malformed_count, 3);
    assert_true(has_text(&target->told, "it is too large"));
    tls_pair_deinit(&pair);
}

/* Claim: what the one that we dialled may not send ends the connection. */
static void test_frames_the_wrong_way(void **state)
{
    (void)state;
    static const uint16_t kinds[] = {KIND,
                                     WIRE__KIND_HELLO,
                                     WIRE__KIND_PING,
                                     WIRE__KIND_PONG,
                                     WIRE__KIND_REFUSAL,
                                     WIRE__KIND_JOIN_REPLY};
    struct party *source = world_party(1);
    struct tls_pair pair = world_certificate(&world.authority, 2, os_wall_clock_ms(), 0);
    world_open(source);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct hand hand = {0};
        struct os_address address = hand_listen(&hand, &pair);
        assert_int_equal(world_set_peer(source->wire, 2, &address), 0);
        UNTIL(wire_is_connected(source->wire, 2));
        hand_send(&hand, kinds[i], BYTES("\xff"));
        UNTIL(hand.was_closed);
        UNTIL(has_text(&source->heard, "disconnected 2"));
        assert_true(has_text(&source->told, "wire.peer.lost node 2"));
        buffer_clear(&source->heard);
        buffer_clear(&source->told);
        wire_remove_peer(source->wire, 2);
        hand_close(&hand);
    }
    tls_pair_deinit(&pair);
}

/* Claim: a newer connection of a node takes the place of its older one, in this order. */
static void test_replaced(void **state)
{
    (void)state;
    struct party *target = world_party(2);
    struct tls_pair pair = world_certificate(&world.authority, 1, os_wall_clock_ms(), 0);
    world_open(target);
    struct hand older = {0};
    struct hand newer = {0};
    hand_dial(&older, target, &pair);
    UNTIL(has_text(&target->heard, "accepted 1"));
    hand_dial(&newer, target, &pair);
    UNTIL(older.was_closed);
    assert_true(
        bytes_equal(buffer_bytes(&target->heard), BYTES("accepted 1\nclosed 1\naccepted 1\n")));
    hand_send(&newer, KIND, BYTES("from the newer"));
    UNTIL(target->frame_count == 1);
    hand_close(&newer);
    hand_close(&older);
    UNTIL(has_text(&target->heard, "accepted 1\nclosed 1\naccepted 1\nclosed 1\n"));
    tls_pair_deinit(&pair);
}

/* ---- Silence --------------------------------------------------------------------------------- */

/* Claim: a connection whose other end has stopped, in either role, is given up after the silence
 * that is allowed; one that is idle but alive is not. */
static void test_silence(void **state)
{
    (void)state;
    struct party *first = world_party(1);
    struct party *second = world_party(2);
    first->options.silence_timeout_ms = 300;
    second->options.silence_timeout_ms = 300;
    world_open(first);
    world_open(second);
    world_connect(first, second);
    struct tls_pair pair = world_certificate(&world.authority, 3, os_wall_clock_ms(), 0);
    struct hand server = {0}; /* It says HELLO and never answers a PING. */
    struct hand client = {0}; /* It says HELLO and nothing else. */
    struct os_address address = hand_listen(&server, &pair);
    uint64_t began_ms = os_monotonic_ms();
    assert_int_equal(world_set_peer(first->wire, 3, &address), 0);
    hand_dial(&client, second, &pair);
    UNTIL(has_text(&first->heard, "disconnected 3") && has_text(&second->heard, "closed 3"));
    uint64_t took_ms = os_monotonic_ms() - began_ms;
    assert_true(took_ms >= 300);
    assert_true(took_ms < 8000); /* Also on a machine that has other things to do. */
    assert_true(has_text(&server.received, "ff02")); /* It was asked. */
    assert_true(has_text(&first->told, "it has fallen silent"));
    assert_true(has_text(&second->told, "it has fallen silent"));
    world_pass_ms(600);
    assert_true(wire_is_connected(first->wire, 2));
    assert_false(has_text(&first->heard, "disconnected 2"));
    struct wire_peer_statistics statistics;
    assert_true(wire_peers(first->wire, &statistics, 1) >= 1);
    assert_true(statistics.round_trip_us > 0);
    hand_close(&client);
    hand_close(&server);
    tls_pair_deinit(&pair);
}

/* Claim: having been stopped ourselves, we do not take the others for dead. */
static void test_own_stall(void **state)
{
    (void)state;
    struct party *first = world_party(1);
    struct party *second = world_party(2);
    first->options.silence_timeout_ms = 300;
    second->options.silence_timeout_ms = 300;
    world_open(first);
    world_open(second);
    world_connect(first, second);
    os_sleep_ms(1000);
    world_pass_ms(500);
    assert_true(bytes_equal(buffer_bytes(&first->heard), BYTES("connected 2\n")));
    assert_true(bytes_equal(buffer_bytes(&second->heard), BYTES("accepted 1\n")));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_wrong_authority),
        TEST(test_foreign_cluster),
        TEST(test_wrong_node),
        TEST(test_expired),
        TEST(test_own_certificate),
        TEST(test_wrong_hello),
        TEST(test_wrong_hello_of_server),
        TEST(test_versions),
        TEST(test_garbage_before_tls),
        TEST(test_slow_handshake),
        TEST(test_silent_server),
        TEST(test_flood_of_unknowns),
        TEST(test_rate_of_connections),
        TEST(test_malformed_frames),
        TEST(test_wrong_parts),
        TEST(test_frame_before_hello),
        TEST(test_frames_the_wrong_way),
        TEST(test_replaced),
        TEST(test_silence),
        TEST(test_own_stall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
