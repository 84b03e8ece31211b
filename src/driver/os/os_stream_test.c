/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/bytes/bytes.h"
#include "driver/os/os.h"

/* A server and a client of it on one loop; each test sets what they do. */
struct peer {
    struct os_stream *stream;
    struct buffer received;
    int status;
    int ended_count;
    int closed_count;
    int connected_status;
    int drained_count;
    bool must_stop_when_closed;
    bool must_echo;
    struct os_space own;
    int own_count;
};

struct pair {
    struct os_loop *loop;
    struct os_listener *listener;
    struct os_timer *timer;
    struct peer server;
    struct peer client;
    int accepted_count;
    int refused_count;
    bool must_decline;
    uint64_t wanted_bytes; /* Stop the loop when the client or server has received so many. */
};

static struct pair pair;

static void peer_read(struct os_stream *stream, struct bytes bytes, void *context)
{
    struct peer *peer = context;
    if (peer->own.data != NULL && bytes.data == peer->own.data) {
        peer->own_count++;
    }
    buffer_append(&peer->received, bytes);
    if (peer->must_echo) {
        assert_int_equal(os_stream_write(stream, &bytes, 1), 0);
    }
    if (pair.wanted_bytes != 0 && peer->received.size_bytes >= pair.wanted_bytes) {
        os_loop_stop(pair.loop);
    }
}

static void peer_ended(struct os_stream *stream, int status, void *context)
{
    (void)stream;
    struct peer *peer = context;
    peer->ended_count++;
    peer->status = status;
    os_loop_stop(pair.loop);
}

static void peer_closed(struct os_stream *stream, void *context)
{
    struct peer *peer = context;
    assert_ptr_equal(peer->stream, stream);
    peer->stream = NULL;
    peer->closed_count++;
    if (peer->must_stop_when_closed) {
        os_loop_stop(pair.loop);
    }
}

static void peer_drained(struct os_stream *stream, void *context)
{
    (void)stream;
    ((struct peer *)context)->drained_count++;
}

static void peer_allocate(struct os_stream *stream, struct os_space *space, void *context)
{
    (void)stream;
    struct peer *peer = context;
    if (peer->own.data != NULL) {
        *space = peer->own;
    }
}

static void peer_connected(struct os_stream *stream, int status, void *context)
{
    (void)stream;
    struct peer *peer = context;
    peer->connected_status = status;
    if (status != 0) {
        os_loop_stop(pair.loop);
    }
}

static const struct os_stream_events events = {
    .read = peer_read,
    .ended = peer_ended,
    .closed = peer_closed,
    .drained = peer_drained,
    .allocate = peer_allocate,
    .connected = peer_connected,
};

static void accepted(struct os_stream *stream, void *context)
{
    (void)context;
    pair.accepted_count++;
    if (!pair.must_decline) {
        pair.server.stream = stream;
        os_stream_start(stream, &events, &pair.server);
    }
    if (pair.wanted_bytes == 0) {
        os_loop_stop(pair.loop);
    }
}

static void refused(int status, void *context)
{
    (void)context;
    assert_int_equal(status, -EMFILE);
    pair.refused_count++;
}

static void stop_loop(void *context)
{
    os_loop_stop(context);
}

static const struct os_listener_events listener_events = {.accepted = accepted, .refused = refused};

static void too_late(void *context)
{
    (void)context;
    fail_msg("nothing happened for ten seconds");
}

static struct os_address parse(const char *text)
{
    struct os_address address = {0};
    struct error error = {0};
    assert_int_equal(os_address_parse(&address, text, &error), 0);
    return address;
}

static int setup(void **state)
{
    (void)state;
    os_ignore_broken_pipes();
    pair = (struct pair){0};
    pair.server.connected_status = 1;
    pair.client.connected_status = 1;
    assert_int_equal(os_loop_create(&pair.loop, NULL), 0);
    struct os_listener_options options = {.address = parse("127.0.0.1:0"), .flag = "--redis"};
    struct error error = {0};
    assert_int_equal(
        os_listener_open(&pair.listener, pair.loop, &options, &listener_events, NULL, &error), 0);
    pair.timer = os_timer_create(pair.loop, too_late, NULL);
    os_timer_start(pair.timer, 10000, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    os_timer_destroy(pair.timer);
    os_listener_close(pair.listener);
    struct peer *peers[] = {&pair.server, &pair.client};
    for (size_t i = 0; i < 2; i++) {
        if (peers[i]->stream != NULL && !os_stream_is_closing(peers[i]->stream)) {
            os_stream_close(peers[i]->stream);
        }
    }
    os_loop_destroy(pair.loop);
    for (size_t i = 0; i < 2; i++) {
        assert_true(peers[i]->closed_count <= 1);
        assert_null(peers[i]->stream);
        buffer_deinit(&peers[i]->received);
    }
    return 0;
}

static void connect_pair(void)
{
    struct os_address address = os_listener_address(pair.listener);
    assert_int_not_equal(address.port, 0);
    assert_int_equal(
        os_stream_connect(&pair.client.stream, pair.loop, &address, &events, &pair.client, NULL),
        0);
    os_loop_run(pair.loop);
    assert_int_equal(pair.accepted_count, 1);
}

/* Claim: pieces arrive in order, a reply too, and each end knows the other's address. */
static void test_echo(void **state)
{
    (void)state;
    connect_pair();
    pair.server.must_echo = true;
    struct bytes pieces[40];
    for (int i = 0; i < 40; i++) {
        pieces[i] = bytes_make(&"abcdefghijklmnopqrstuvwxyz"[i % 20], (size_t)i % 3);
    }
    pair.wanted_bytes = 39;
    assert_int_equal(os_stream_write(pair.client.stream, pieces, 40), 0);
    while (pair.client.received.size_bytes < 39) {
        os_loop_run(pair.loop);
    }
    assert_int_equal(pair.client.received.size_bytes, 39);
    assert_memory_equal(pair.client.received.data, pair.server.received.data, 39);
    char ours[OS_ADDRESS_TEXT_SIZE];
    char theirs[OS_ADDRESS_TEXT_SIZE];
    assert_string_equal(os_stream_local(pair.client.stream, ours),
                        os_stream_peer(pair.server.stream, theirs));
    assert_true(os_stream_descriptor(pair.server.stream) > 2);
}

/* Claim: a peer that does not read costs a queue that can be measured, and everything arrives, once
 * and in order, when it reads again. */
static void test_slow_reader(void **state)
{
    (void)state;
    enum { CHUNK = 1 << 20, CHUNK_COUNT = 24 };
    connect_pair();
    os_stream_pause(pair.client.stream);
    assert_true(os_stream_is_paused(pair.client.stream));
    struct buffer chunk = {0};
    for (uint32_t i = 0; i < CHUNK_COUNT; i++) {
        uint32_t *words = (uint32_t *)(void *)buffer_extend(&chunk, CHUNK);
        for (uint32_t j = 0; j < CHUNK / 4; j++) {
            words[j] = i * (CHUNK / 4) + j;
        }
        struct bytes halves[] = {bytes_make(chunk.data, CHUNK / 2 + 1),
                                 bytes_make(chunk.data + CHUNK / 2 + 1, CHUNK / 2 - 1)};
        int status = i % 2 == 0 ? os_stream_write_buffer(pair.server.stream, &chunk)
                                : os_stream_write(pair.server.stream, halves, 2);
        assert_int_equal(status, 0);
        buffer_clear(&chunk);
    }
    buffer_deinit(&chunk);
    assert_true(os_stream_queued_bytes(pair.server.stream) > CHUNK);
    assert_true(os_stream_queued_bytes(pair.server.stream) < (size_t)CHUNK * CHUNK_COUNT);
    os_stream_resume(pair.client.stream);
    pair.wanted_bytes = (uint64_t)CHUNK * CHUNK_COUNT;
    while (pair.client.received.size_bytes < pair.wanted_bytes) {
        os_loop_run(pair.loop);
    }
    const uint32_t *words = (const uint32_t *)(const void *)pair.client.received.data;
    for (uint32_t i = 0; i < CHUNK / 4 * CHUNK_COUNT; i++) {
        assert_int_equal(words[i], i);
    }
    assert_int_equal(os_stream_queued_bytes(pair.server.stream), 0);
    assert_int_equal(pair.server.drained_count, 1);
}

/* Claim: a buffer that was sent at once keeps its memory; nothing is allocated per reply. */
static void test_buffer_is_given_back(void **state)
{
    (void)state;
    connect_pair();
    struct buffer buffer = {0};
    buffer_append(&buffer, BYTES("hello"));
    const uint8_t *memory = buffer.data;
    assert_int_equal(os_stream_write_buffer(pair.server.stream, &buffer), 0);
    assert_ptr_equal(buffer.data, memory);
    assert_int_equal(buffer.size_bytes, 0);
    assert_int_equal(os_stream_queued_bytes(pair.server.stream), 0);
    buffer_deinit(&buffer);
}

/* Claim: the owner may have bytes put where they belong, without a copy. */
static void test_own_space(void **state)
{
    (void)state;
    static uint8_t space[4096];
    connect_pair();
    pair.server.own = (struct os_space){.data = space, .size_bytes = sizeof space};
    pair.wanted_bytes = 10000;
    struct buffer buffer = {0};
    memset(buffer_extend(&buffer, 10000), 'x', 10000);
    assert_int_equal(os_stream_write_buffer(pair.client.stream, &buffer), 0);
    while (pair.server.received.size_bytes < 10000) {
        os_loop_run(pair.loop);
    }
    assert_true(pair.server.own_count >= 3);
    buffer_deinit(&buffer);
}

/* Claim: the end of a peer is told once, with status 0, and its closing exactly once. */
static void test_end_of_peer(void **state)
{
    (void)state;
    connect_pair();
    os_stream_close(pair.client.stream);
    assert_true(os_stream_is_closing(pair.client.stream));
    assert_int_equal(pair.client.closed_count, 0); /* Not before close has returned. */
    os_loop_run(pair.loop);
    assert_int_equal(pair.client.closed_count, 1);
    assert_int_equal(pair.server.ended_count, 1);
    assert_int_equal(pair.server.status, 0);
}

/* Claim: writing to a peer that is gone is an error in the end, never a signal. */
static void test_write_to_the_dead(void **state)
{
    (void)state;
    connect_pair();
    os_stream_close(pair.client.stream);
    os_loop_run(pair.loop);
    int status = 0;
    for (int i = 0; i < 100 && status == 0; i++) {
        struct bytes piece = BYTES("are you there?");
        status = os_stream_write(pair.server.stream, &piece, 1);
        os_sleep_ms(1);
    }
    assert_true(status == -EPIPE || status == -ECONNRESET);
    struct bytes piece = BYTES("and now?");
    assert_int_equal(os_stream_write(pair.server.stream, &piece, 1), status);
}

/* Claim: a last reply reaches a client that is still sending, and then the connection closes. */
static void test_finish(void **state)
{
    (void)state;
    connect_pair();
    struct buffer request = {0};
    memset(buffer_extend(&request, 3 << 20), 'q', 3 << 20);
    assert_int_equal(os_stream_write_buffer(pair.client.stream, &request), 0);
    buffer_deinit(&request);
    struct buffer reply = {0};
    memset(buffer_extend(&reply, 8 << 20), 'r', 8 << 20);
    assert_int_equal(os_stream_write_buffer(pair.server.stream, &reply), 0);
    buffer_deinit(&reply);
    os_stream_finish(pair.server.stream);
    assert_true(os_stream_is_closing(pair.server.stream));
    os_loop_run(pair.loop); /* Until the client sees the end. */
    assert_int_equal(pair.client.ended_count, 1);
    assert_int_equal(pair.client.status, 0);
    assert_int_equal(pair.client.received.size_bytes, 8 << 20);
    assert_int_equal(pair.server.ended_count, 0);
    pair.server.must_stop_when_closed = true;
    os_stream_close(pair.client.stream);
    os_loop_run(pair.loop);
    assert_int_equal(pair.server.closed_count, 1);
}

/* Claim: a stream that finishes may be closed at any time before `closed` has come, also when it has
 * just finished by itself. */
static void test_close_while_finishing(void **state)
{
    (void)state;
    connect_pair();
    os_stream_finish(pair.client.stream); /* It lingers: the server has not closed. */
    os_stream_close(pair.client.stream);
    pair.client.must_stop_when_closed = true;
    os_loop_run(pair.loop);
    if (pair.server.ended_count == 0) {
        os_loop_run(pair.loop);
    }
    assert_int_equal(pair.client.closed_count, 1);
    assert_int_equal(pair.server.ended_count, 1);
    os_stream_finish(pair.server.stream); /* Nobody is left to wait for. */
    os_stream_close(pair.server.stream);
    pair.server.must_stop_when_closed = true;
    os_loop_run(pair.loop);
    assert_int_equal(pair.server.closed_count, 1);
}

/* Claim: how long the other system may be silent is up to the owner of the stream. */
static void test_acknowledge_limit(void **state)
{
    (void)state;
    unsigned value = 0;
    socklen_t size = sizeof value;
    connect_pair();
    os_stream_set_acknowledge_ms_max(pair.client.stream, 1234);
    assert_int_equal(getsockopt(os_stream_descriptor(pair.client.stream), IPPROTO_TCP,
                                TCP_USER_TIMEOUT, &value, &size),
                     0);
    assert_int_equal(value, 1234);
}

/* Claim: a stream that nobody started is closed, and does not leak. */
static void test_declined(void **state)
{
    (void)state;
    pair.must_decline = true;
    connect_pair();
    os_loop_run(pair.loop);
    assert_int_equal(pair.client.ended_count, 1);
}

/* Claim: connecting to where nobody listens tells so. */
static void test_connect_refused(void **state)
{
    (void)state;
    struct os_address address = os_listener_address(pair.listener);
    os_listener_close(pair.listener);
    pair.listener = NULL;
    assert_int_equal(
        os_stream_connect(&pair.client.stream, pair.loop, &address, &events, &pair.client, NULL),
        0);
    os_loop_run(pair.loop);
    assert_int_equal(pair.client.connected_status, -ECONNREFUSED);
    assert_int_equal(pair.client.ended_count, 0);
}

/* Claim: loops of one process share a port; another server is refused, and told which flag to
 * change. */
static void test_shared_port(void **state)
{
    (void)state;
    struct os_loop *second_loop = NULL;
    struct os_listener *sibling = NULL;
    struct os_listener *stranger = NULL;
    struct error error = {0};
    assert_int_equal(os_loop_create(&second_loop, NULL), 0);
    struct os_listener_options share = {.sibling = pair.listener, .flag = "--redis"};
    assert_int_equal(
        os_listener_open(&sibling, second_loop, &share, &listener_events, NULL, &error), 0);
    assert_int_equal(os_listener_address(sibling).port, os_listener_address(pair.listener).port);
    struct os_listener_options alone = {.address = os_listener_address(pair.listener),
                                        .flag = "--redis"};
    assert_int_equal(
        os_listener_open(&stranger, second_loop, &alone, &listener_events, NULL, &error),
        -EADDRINUSE);
    assert_non_null(strstr(error.message, "--redis"));
    os_listener_close(sibling);
    os_loop_destroy(second_loop);
    connect_pair();
}

/* Claim: without open files left the listener rests and tells it, and then serves the same
 * client. */
static void test_no_open_files(void **state)
{
    (void)state;
    struct os_address address = os_listener_address(pair.listener);
    assert_int_equal(
        os_stream_connect(&pair.client.stream, pair.loop, &address, &events, &pair.client, NULL),
        0);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = {.rlim_cur = 4, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct os_timer *timer = os_timer_create(pair.loop, stop_loop, pair.loop);
    os_timer_start(timer, OS_ACCEPT_PAUSE_MS * 5 / 2, 0);
    os_loop_run(pair.loop);
    os_timer_destroy(timer);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(pair.refused_count >= 1);
    assert_true(pair.refused_count <= 3); /* It rests; it does not spin. */
    assert_int_equal(pair.accepted_count, 0);
    os_loop_run(pair.loop);
    assert_int_equal(pair.accepted_count, 1);
}

/* Claim: addresses are read strictly and written so that they can be read again. */
static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *written; /* NULL: refused. */
        bool is_loopback;
    } cases[] = {
        {"127.0.0.1:6379", "127.0.0.1:6379", true},
        {"127.8.9.10:1", "127.8.9.10:1", true},
        {"0.0.0.0:6379", "0.0.0.0:6379", false},
        {"192.168.1.2:65535", "192.168.1.2:65535", false},
        {"[::1]:6379", "[::1]:6379", true},
        {"[::]:0", "[::]:0", false},
        {"[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80", true},
        {"[2001:db8::1]:80", "[2001:db8::1]:80", false},
        {"localhost:7000", "127.0.0.1:7000", true},
        {"127.0.0.1", NULL, false},
        {"127.0.0.1:", NULL, false},
        {":6379", NULL, false},
        {"127.0.0.1:65536", NULL, false},
        {"127.0.0.1:-1", NULL, false},
        {"127.0.0.1:06379", NULL, false},
        {"127.0.0.1:6379x", NULL, false},
        {"::1:6379", NULL, false},
        {"[::1:6379", NULL, false},
        {"[]:6379", NULL, false},
        {"no-such-host.invalid:1", NULL, false},
        {"", NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct os_address address = {0};
        struct error error = {0};
        int status = os_address_parse(&address, cases[i].text, &error);
        if (cases[i].written == NULL) {
            assert_int_equal(status, -EINVAL);
            assert_true(strlen(error.message) > 0);
            continue;
        }
        char text[OS_ADDRESS_TEXT_SIZE];
        assert_int_equal(status, 0);
        assert_string_equal(os_address_format(&address, text), cases[i].written);
        assert_int_equal(os_address_is_loopback(&address), cases[i].is_loopback);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_echo, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_buffer_is_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_space, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_of_peer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write_to_the_dead, setup, teardown),
        cmocka_unit_test_setup_teardown(test_finish, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_while_finishing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_acknowledge_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_declined, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connect_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shared_port, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_open_files, setup, teardown),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
