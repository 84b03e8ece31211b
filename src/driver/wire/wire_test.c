/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/endian/endian.h"
#include "driver/wire/wire_test_world.h"

enum { KIND = 7 };

static int send_number(struct party *party, uint32_t node_id, uint64_t number)
{
    uint8_t text[8];
    struct bytes payload = bytes_make(text, sizeof text);
    endian_put_u64_le(text, number);
    return wire_send(party->wire, node_id, KIND, &payload, 1);
}

static struct wire_peer_statistics statistics_of(const struct party *party, uint32_t node_id)
{
    struct wire_peer_statistics all[WORLD_PARTIES_MAX];
    uint32_t count = wire_peers(party->wire, all, WORLD_PARTIES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (all[i].node_id == node_id) {
            return all[i];
        }
    }
    return (struct wire_peer_statistics){0};
}

/* ---- What works ------------------------------------------------------------------------------ */

static uint64_t next_number[WORLD_PARTIES_MAX + 1][WORLD_PARTIES_MAX + 1];

static void check_number(struct party *party, const struct wire_remote *remote, uint16_t kind,
                         struct bytes payload)
{
    assert_int_equal(kind, KIND);
    assert_int_equal(payload.size_bytes, 8);
    uint64_t *expected = &next_number[remote->node_id][party->node_id];
    assert_int_equal(endian_get_u64_le(payload.data), *expected);
    assert_int_equal(remote->boot_id, 1000 + remote->node_id);
    assert_int_equal(remote->version, 1);
    assert_string_equal(remote->software, "0.0.1");
    (*expected)++;
}

/* Claim: three nodes that all talk to each other get every frame once, in order, from whom it
 * says. */
static void test_order(void **state)
{
    (void)state;
    enum { FRAMES = 5000 };
    memset(next_number, 0, sizeof next_number);
    for (uint32_t i = 1; i <= 3; i++) {
        struct party *party = world_party(i);
        party->frame = check_number;
        world_open(party);
    }
    for (uint32_t i = 0; i < 9; i++) {
        if (i / 3 != i % 3) {
            world_connect(&world.parties[i / 3], &world.parties[i % 3]);
        }
    }
    for (uint64_t number = 0; number < FRAMES; number++) {
        for (uint32_t i = 0; i < 9; i++) {
            if (i / 3 != i % 3) {
                assert_int_equal(send_number(&world.parties[i / 3], i % 3 + 1, number), 0);
            }
        }
        if (number % 1000 == 0) {
            world_turn();
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        UNTIL(world.parties[i].frame_count == 2 * FRAMES);
    }
    struct wire_peer_statistics statistics = statistics_of(&world.parties[0], 2);
    assert_int_equal(statistics.sent_frame_count, FRAMES);
    assert_int_equal(statistics.sent_bytes, FRAMES * (WIRE_HEADER_SIZE_BYTES + 8));
    assert_int_equal(statistics.received_frame_count, FRAMES);
    assert_int_equal(statistics.received_bytes, FRAMES * (WIRE_HEADER_SIZE_BYTES + 8));
    assert_int_equal(statistics.connect_count, 1);
    assert_true(statistics.is_peer && statistics.is_connected && statistics.is_accepted);
    assert_string_equal(statistics.software, "0.0.1");
    assert_int_equal(wire_statistics(world.parties[0].wire).handshake_count, 2);
    assert_int_equal(wire_statistics(world.parties[0].wire).rejected_count, 0);
}

/* Claim: pieces are put together, and a frame of the largest size arrives whole; a larger one, one
 * of too many pieces or of a reserved kind is not sent at all. */
static void test_large(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    target->keeps_payloads = true;
    world_open(source);
    world_open(target);
    world_connect(source, target);
    struct buffer large = {0};
    struct random random;
    random_init(&random, 5);
    while (large.size_bytes < WORLD_FRAME_SIZE_BYTES_MAX) {
        uint64_t word = random_next(&random);
        buffer_append(&large, bytes_make(&word, sizeof word));
    }
    struct bytes pieces[] = {bytes_make(large.data, 1), bytes_make(NULL, 0),
                             bytes_make(large.data + 1, 1000000),
                             bytes_make(large.data + 1000001, large.size_bytes - 1000001)};
    assert_int_equal(wire_send(source->wire, 2, KIND, pieces, 4), 0);
    assert_true(wire_queued_bytes(source->wire, 2) > large.size_bytes);
    UNTIL(target->frame_count == 1);
    assert_true(bytes_equal(buffer_bytes(&target->payloads), buffer_bytes(&large)));
    assert_int_equal(wire_send(source->wire, 2, KIND, NULL, 0), 0); /* Nothing is a payload too. */
    UNTIL(target->frame_count == 2);
    UNTIL(wire_queued_bytes(source->wire, 2) == 0);
    buffer_append_byte(&large, 0);
    struct bytes whole = buffer_bytes(&large);
    struct bytes many[WIRE_PIECES_MAX + 1] = {{0}};
    assert_int_equal(wire_send(source->wire, 2, KIND, &whole, 1), -EMSGSIZE);
    assert_int_equal(wire_send(source->wire, 2, KIND, many, WIRE_PIECES_MAX + 1), -EINVAL);
    assert_int_equal(wire_send(source->wire, 2, WIRE_KIND_RESERVED, many, 1), -EINVAL);
    assert_int_equal(wire_send(source->wire, 3, KIND, many, 1), -ENOTCONN);
    assert_int_equal(wire_queued_bytes(source->wire, 2), 0);
    buffer_deinit(&large);
}

static struct bytes first_of(const struct buffer *buffer, size_t size_bytes)
{
    return bytes_make(buffer->data, size_bytes);
}

/* Claim: an urgent message overtakes a long one that is on its way, and both arrive as they were;
 * urgent ones keep their order. A long one is not urgent. */
static void test_urgent(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    target->keeps_payloads = true;
    world_open(source);
    world_open(target);
    world_connect(source, target);
    struct buffer large = {0};
    memset(buffer_extend(&large, WORLD_FRAME_SIZE_BYTES_MAX), 'x', WORLD_FRAME_SIZE_BYTES_MAX);
    struct bytes long_one = buffer_bytes(&large);
    assert_int_equal(wire_send(source->wire, 2, KIND, &long_one, 1), 0);
    wire_flush(source->wire); /* It is being sent. */
    struct bytes first = BYTES("first");
    struct bytes second = BYTES("second");
    assert_int_equal(wire_send_urgent(source->wire, 2, KIND, &first, 1), 0);
    assert_int_equal(wire_send_urgent(source->wire, 2, KIND, &second, 1), 0);
    UNTIL(target->frame_count == 3);
    assert_int_equal(target->payloads.size_bytes, 11 + long_one.size_bytes);
    assert_true(bytes_equal(first_of(&target->payloads, 11), BYTES("firstsecond")));
    assert_memory_equal(target->payloads.data + 11, large.data, large.size_bytes);
    struct bytes too_long = first_of(&large, WIRE_URGENT_SIZE_BYTES_MAX + 1);
    assert_int_equal(wire_send_urgent(source->wire, 2, KIND, &too_long, 1), -EMSGSIZE);
    assert_int_equal(wire_send_urgent(source->wire, 3, KIND, &first, 1), -ENOTCONN);
    buffer_deinit(&large);
}

/* Claim: who does not read costs its peer a bounded queue, is not taken for dead, and gets
 * everything that was taken, in order, when it reads again. */
static void test_back_pressure(void **state)
{
    (void)state;
    enum { QUEUE_BYTES = 4 * 1024 * 1024, CHUNK_BYTES = 100000 };
    static uint8_t chunk[CHUNK_BYTES];
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    source->options.queue_size_bytes_max = QUEUE_BYTES;
    source->options.silence_timeout_ms = 300;
    target->options.silence_timeout_ms = 300;
    target->keeps_payloads = true;
    world_open(source);
    world_open(target);
    world_connect(source, target);
    wire_pause(target->wire, 1);
    uint32_t sent_count = 0;
    uint32_t refused_count = 0;
    uint32_t refused_in_turn = 0;
    while (refused_in_turn < 50) { /* Until the system takes no more either. */
        chunk[0] = (uint8_t)sent_count;
        struct bytes payload = bytes_make(chunk, sizeof chunk);
        int status = wire_send(source->wire, 2, KIND, &payload, 1);
        sent_count += status == 0;
        refused_in_turn = status == 0 ? 0 : refused_in_turn + 1;
        if (status != 0) {
            assert_int_equal(status, -EBUSY);
            refused_count++;
            world_turn();
        }
        assert_true(wire_queued_bytes(source->wire, 2) <= QUEUE_BYTES);
    }
    world_pass_ms(1000);
    assert_int_equal(target->frame_count, 0);
    assert_true(wire_queued_bytes(source->wire, 2) >
                QUEUE_BYTES / 4); /* The system has the rest. */
    assert_true(bytes_equal(buffer_bytes(&source->heard), BYTES("connected 2\n")));
    wire_resume(target->wire, 1);
    UNTIL(target->frame_count == sent_count);
    for (uint32_t i = 0; i < sent_count; i++) {
        assert_int_equal(target->payloads.data[(size_t)i * CHUNK_BYTES], (uint8_t)i);
    }
    assert_int_equal(wire_queued_bytes(source->wire, 2), 0);
    assert_int_equal(statistics_of(source, 2).refused_count, refused_count);
}

/* ---- Losing and finding each other ----------------------------------------------------------- */

/* Claim: a peer that went away is told once, and is connected again when it is back, as another
 * boot. Meanwhile nothing is sent and nothing queued. */
static void test_reconnect(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(source);
    world_open(target);
    world_connect(source, target);
    assert_int_equal(source->last_boot_id, 1002);
    world_close(target);
    UNTIL(has_text(&source->heard, "disconnected 2"));
    assert_int_equal(send_number(source, 2, 1), -ENOTCONN);
    assert_int_equal(wire_queued_bytes(source->wire, 2), 0);
    UNTIL(has_text(&source->told, "wire.peer.unreachable node 2"));
    assert_true(has_text(&source->told, "Connection refused"));
    world_pass_ms(300);
    target->options.boot_id = 5555;
    world_open(target); /* At the same port. */
    UNTIL(wire_is_connected(source->wire, 2));
    assert_int_equal(source->last_boot_id, 5555);
    assert_int_equal(send_number(source, 2, 1), 0);
    UNTIL(target->frame_count == 1);
    assert_true(bytes_equal(buffer_bytes(&source->heard),
                            BYTES("connected 2\ndisconnected 2\nconnected 2\n")));
    assert_true(statistics_of(source, 2).fail_count > 2);  /* It had tried for a while, */
    assert_true(statistics_of(source, 2).fail_count < 40); /* and not at every turn. */
    const char *first = memmem(source->told.data, source->told.size_bytes, "unreachable", 11);
    size_t rest_bytes = source->told.size_bytes - (size_t)(first + 1 - (char *)source->told.data);
    assert_null(memmem(first + 1, rest_bytes, "unreachable", 11)); /* The log heard of it once. */
}

/* Claim: who is dialled by a node that it waits for does not wait any longer. */
static void test_back_at_once(void **state)
{
    (void)state;
    struct party *first = world_party(1);
    struct party *second = world_party(2);
    first->options.backoff_ms_min = 60000;
    first->options.backoff_ms_max = 60000;
    world_open(first);
    world_open(second);
    struct os_address address = wire_address(second->wire);
    world_close(second);
    assert_int_equal(world_set_peer(first->wire, 2, &address), 0);
    UNTIL(has_text(&first->told, "unreachable"));
    world_open(second);
    world_pass_ms(50);
    assert_false(wire_is_connected(first->wire, 2));
    world_connect(second, first);
    UNTIL(wire_is_connected(first->wire, 2));
}

/* Claim: a removed peer is hung up on and forgotten, and one that got another address is dialled
 * there. */
static void test_peers_change(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(source);
    world_open(target);
    struct os_address address = wire_address(target->wire);
    assert_int_equal(world_set_peer(source->wire, 0, &address), -EINVAL);
    assert_int_equal(world_set_peer(source->wire, 1, &address), -EINVAL);
    address.port = (uint16_t)(address.port ^ 1);
    assert_int_equal(world_set_peer(source->wire, 2, &address), 0);
    UNTIL(has_text(&source->told, "wire.peer.unreachable"));
    world_connect(source, target);   /* At its real address. */
    world_introduce(source, target); /* Nothing new. */
    world_pass_ms(20);
    assert_true(bytes_equal(buffer_bytes(&source->heard), BYTES("connected 2\n")));
    assert_int_equal(send_number(source, 2, 1), 0);
    wire_remove_peer(source->wire, 2);
    assert_false(wire_is_connected(source->wire, 2));
    assert_int_equal(send_number(source, 2, 2), -ENOTCONN);
    UNTIL(has_text(&target->heard, "closed 1"));
    assert_true(bytes_equal(buffer_bytes(&source->heard), BYTES("connected 2\ndisconnected 2\n")));
    assert_true(bytes_equal(buffer_bytes(&target->heard), BYTES("accepted 1\nclosed 1\n")));
    assert_int_equal(wire_peers(source->wire, NULL, 0), 0);
    assert_int_equal(wire_peers(target->wire, NULL, 0), 0);
    wire_remove_peer(source->wire, 2);
}

/* Claim: hanging up ends what a node sends, until it is back; one that is not admitted does not come
 * back. */
static void test_hang_up(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(source);
    world_open(target);
    world_connect(source, target);
    wire_hang_up(target->wire, 1);
    UNTIL(has_text(&source->heard, "disconnected 2"));
    UNTIL(wire_is_connected(source->wire, 2));
    target->is_removed[1] = true;
    wire_hang_up(target->wire, 1);
    UNTIL(has_text(&source->told, "it refuses us: node 1 is not of this cluster"));
    assert_true(has_text(&source->heard, "removed 2\n"));
    assert_false(wire_is_connected(source->wire, 2));
    assert_true(bytes_equal(buffer_bytes(&target->heard),
                            BYTES("accepted 1\nclosed 1\naccepted 1\nclosed 1\n")));
    target->is_removed[1] = false;
    UNTIL(wire_is_connected(source->wire, 2));
}

/* What the owner may do while it is told of a frame. */
static void change_everything(struct party *party, const struct wire_remote *remote, uint16_t kind,
                              struct bytes payload)
{
    (void)kind;
    (void)payload;
    wire_hang_up(party->wire, remote->node_id);
    wire_remove_peer(party->wire, remote->node_id);
    assert_int_equal(send_number(party, remote->node_id, 1), -ENOTCONN);
    wire_flush(party->wire);
    wire_pause(party->wire, remote->node_id);
    wire_resume(party->wire, remote->node_id);
}

/* Claim: in a callback the owner may hang up on the very node that it is told of; nothing more comes
 * of it then. */
static void test_change_in_callback(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    target->frame = change_everything;
    world_open(source);
    world_open(target);
    world_connect(source, target);
    world_connect(target, source);
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(send_number(source, 2, i), 0);
    }
    UNTIL(has_text(&target->heard, "closed 1"));
    UNTIL(has_text(&target->heard, "disconnected 1"));
    assert_int_equal(target->frame_count, 1);
}

/* Claim: an endpoint may be closed at any moment, with frames queued and connections half made. */
static void test_close_at_any_time(void **state)
{
    (void)state;
    static uint8_t payload_bytes[100000];
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    for (uint32_t turn = 0; turn < 12; turn++) {
        world_open(source);
        world_open(target);
        world_introduce(source, target);
        world_introduce(target, source);
        for (uint32_t i = 0; i < turn; i++) {
            struct bytes payload = bytes_make(payload_bytes, sizeof payload_bytes);
            world_turn();
            int status = wire_send(source->wire, 2, KIND, &payload, 1);
            assert_true(status == 0 || status == -ENOTCONN);
        }
        world_close(turn % 2 == 0 ? source : target);
        world_close(turn % 2 == 0 ? target : source);
    }
}

/* ---- Renewal --------------------------------------------------------------------------------- */

/* Claim: with a renewed certificate existing connections go on, and new ones are made with it. */
static void test_renewal(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(source);
    world_open(target);
    world_connect(source, target);
    struct tls_pair renewed =
        world_certificate(&world.authority, 1, os_wall_clock_ms(), 200 * TLS_DAY_MS);
    struct tls_context_options options = {.authority = buffer_bytes(&world.authority.certificate),
                                          .pair = &renewed};
    assert_int_equal(tls_context_reload(source->tls, &options, NULL), 0);
    assert_int_equal(send_number(source, 2, 1), 0);
    UNTIL(target->frame_count == 1);
    struct wire__node *node = wire__node_find(target->wire, 1);
    uint64_t before_ms = tls_session_peer(node->accepted->connection.session)->valid_until_ms;
    wire_hang_up(target->wire, 1);
    UNTIL(has_text(&source->heard, "disconnected 2"));
    UNTIL(wire_is_connected(source->wire, 2));
    node = wire__node_find(target->wire, 1);
    assert_true(tls_session_peer(node->accepted->connection.session)->valid_until_ms >
                before_ms + 100 * TLS_DAY_MS);
    tls_pair_deinit(&renewed);
}

/* ---- Threads --------------------------------------------------------------------------------- */

struct other_thread {
    struct os_loop *loop;
    struct wire *wire;
    _Atomic uint64_t frame_count;
};

static void other_frame(const struct wire_remote *remote, uint16_t kind, struct bytes payload,
                        void *context)
{
    struct other_thread *other = context;
    int status = wire_send(other->wire, remote->node_id, kind, &payload, 1); /* Back to it. */
    assert_true(status == 0 || status == -ENOTCONN);
    atomic_fetch_add(&other->frame_count, 1);
}

static void run_loop(void *context)
{
    os_loop_run(((struct other_thread *)context)->loop);
}

/* Claim: endpoints on different threads share nothing. */
static void test_threads(void **state)
{
    (void)state;
    enum { FRAMES = 2000 };
    static const struct wire_events other_events = {.frame = other_frame};
    struct other_thread other = {0};
    struct os_thread *thread = NULL;
    struct party *first = world_party(1);
    struct party *second = world_party(2); /* For its certificate and options. */
    world_open(first);
    assert_int_equal(os_loop_create(&other.loop, NULL), 0);
    struct wire_options options = second->options;
    options.tls = second->tls;
    options.events = &other_events;
    options.context = &other;
    assert_int_equal(wire_open(&other.wire, other.loop, &options, NULL), 0);
    struct os_address first_address = wire_address(first->wire);
    struct os_address second_address = wire_address(other.wire);
    assert_int_equal(world_set_peer(other.wire, 1, &first_address), 0);
    assert_int_equal(world_set_peer(first->wire, 2, &second_address), 0);
    assert_int_equal(os_thread_start(&thread, "other", run_loop, &other, NULL), 0);
    UNTIL(wire_is_connected(first->wire, 2));
    UNTIL(has_text(&first->heard, "accepted 2"));
    for (uint64_t i = 0; i < FRAMES; i++) {
        assert_int_equal(send_number(first, 2, i), 0);
        if (i % 100 == 0) {
            world_turn();
        }
    }
    UNTIL(atomic_load(&other.frame_count) == FRAMES);
    UNTIL(first->frame_count > 0);
    os_loop_stop(other.loop);
    os_thread_join(thread);
    wire_close(other.wire);
    os_loop_destroy(other.loop);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order),
        TEST(test_large),
        TEST(test_urgent),
        TEST(test_back_pressure),
        TEST(test_reconnect),
        TEST(test_back_at_once),
        TEST(test_peers_change),
        TEST(test_hang_up),
        TEST(test_change_in_callback),
        TEST(test_close_at_any_time),
        TEST(test_renewal),
        TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
