/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/resp/resp_world.h"

enum { MEBIBYTE = 1024 * 1024, WAIT_MS_MAX = 30000 };

/* Bytes without a period that a lost or doubled piece could hide in. */
static void fill(struct buffer *value, size_t size_bytes)
{
    uint64_t state = 1;
    buffer_clear(value);
    uint8_t *place = buffer_extend(value, size_bytes);
    for (size_t i = 0; i < size_bytes; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        place[i] = (uint8_t)(state >> 56);
    }
}

static void set_large(int client, const struct buffer *value)
{
    char start[64];
    int size =
        snprintf(start, sizeof start, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%zu\r\n", value->size_bytes);
    world_send(client, bytes_make(start, (size_t)size));
    world_send(client, buffer_bytes(value));
    WORLD_EXPECT(client, "\r\n", "+OK\r\n");
}

static void receive_large(int client, const struct buffer *value, int times)
{
    char start[64];
    int size = snprintf(start, sizeof start, "$%zu\r\n", value->size_bytes);
    struct buffer got = {0};
    for (int i = 0; i < times; i++) {
        buffer_clear(&got);
        world_receive(client, (size_t)size + value->size_bytes + 2, &got);
        assert_int_equal(got.size_bytes, (size_t)size + value->size_bytes + 2);
        assert_memory_equal(got.data, start, size);
        assert_memory_equal(got.data + size, value->data, value->size_bytes);
    }
    buffer_deinit(&got);
}

/* The statistics, once they satisfy a condition. */
static struct resp_statistics *wait_for(struct world *world,
                                        bool (*condition)(const struct resp_statistics *))
{
    static struct resp_statistics statistics;
    for (int waited_ms = 0; waited_ms < WAIT_MS_MAX; waited_ms += 5) {
        resp_group_get_statistics(world_group(world), &statistics);
        if (condition(&statistics)) {
            return &statistics;
        }
        os_sleep_ms(5);
    }
    fail_msg("waited in vain");
    return NULL;
}

/* Large values come and go whole, whatever follows them in the same piece. */
static void test_large_values(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    struct buffer value = {0};
    static const size_t sizes[] = {1, 65535, 65536, 100000, 3 * MEBIBYTE + 7, 20 * MEBIBYTE};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        fill(&value, sizes[i]);
        set_large(client, &value);
        world_send(client, BYTES("GET k\r\nPING\r\n"));
        receive_large(client, &value, 1);
        WORLD_EXPECT(client, "", "+PONG\r\n");
    }
    buffer_deinit(&value);
    (void)close(client);
    world_destroy(world);
}

/* Who reads late gets everything, in order; until then little is kept. */
static void test_late_reader(void **state)
{
    enum { COUNT = 100 };
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    struct buffer value = {0};
    fill(&value, MEBIBYTE);
    set_large(client, &value);
    for (int i = 0; i < COUNT; i++) {
        world_send(client, BYTES("GET k\r\n"));
    }
    os_sleep_ms(300);
    struct resp_statistics statistics;
    resp_group_get_statistics(world_group(world), &statistics);
    assert_true(statistics.buffer_bytes < 5 * MEBIBYTE);
    receive_large(client, &value, COUNT);
    WORLD_EXPECT(client, "PING\r\n", "+PONG\r\n");
    buffer_deinit(&value);
    (void)close(client);
    world_destroy(world);
}

/* A value of all of the budget comes, wherever its arrival stops for a while. */
static void test_a_value_of_the_whole_budget(void **state)
{
    enum { SIZE = 4 * MEBIBYTE };
    /* Behind some of them, what comes next fills the buffer at once, up to a power of two. */
    static const size_t stops[] = {
        100, MEBIBYTE, SIZE - MEBIBYTE, SIZE - 200000, SIZE - 100000, SIZE - 1, SIZE, SIZE + 30};
    struct world_options options = {
        .resp = {.value_size_bytes_max = SIZE, .client_memory_bytes_max = SIZE + MEBIBYTE / 2}};
    struct world *world = world_create(&options);
    struct buffer request = {0};
    struct buffer value = {0};
    fill(&value, SIZE);
    buffer_append_format(&request, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", SIZE);
    buffer_append(&request, buffer_bytes(&value));
    buffer_append(&request, BYTES("\r\n"));
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
        int client = world_connect(world);
        world_send(client, bytes_make(request.data, stops[i]));
        os_sleep_ms(50);
        world_send(client, bytes_make(request.data + stops[i], request.size_bytes - stops[i]));
        WORLD_EXPECT(client, "", "+OK\r\n");
        (void)close(client);
    }
    buffer_deinit(&request);
    buffer_deinit(&value);
    world_destroy(world);
}

/* Some are under way, as soon as the server has come to it, and no more than that. */
static void assert_pending(struct world *world, uint64_t most)
{
    struct resp_statistics statistics = {0};
    for (int i = 0; i < 1000 && statistics.pending_count == 0; i++) {
        os_sleep_ms(10);
        resp_group_get_statistics(world_group(world), &statistics);
    }
    os_sleep_ms(100);
    resp_group_get_statistics(world_group(world), &statistics);
    assert_in_range(statistics.pending_count, 1, most);
}

/* Requests that are answered later, with large answers: few are under way at a time. */
static void check_late_answers(const char *request)
{
    enum { COUNT = 300 };
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    struct buffer value = {0};
    fill(&value, MEBIBYTE);
    set_large(client, &value);
    world_set_reading_late(world, true);
    world_set_holding(world, true);
    for (int i = 0; i < COUNT; i++) {
        world_send(client, bytes_of_text(request));
    }
    assert_pending(world, 128);
    world_set_holding(world, false);
    receive_large(client, &value, COUNT);
    /* The large ones are known now: only few are under way. */
    world_set_holding(world, true);
    for (int i = 0; i < COUNT; i++) {
        world_send(client, bytes_of_text(request));
    }
    assert_pending(world, 8);
    world_set_holding(world, false);
    receive_large(client, &value, COUNT);
    buffer_deinit(&value);
    (void)close(client);
    world_destroy(world);
}

/* Reads that come back when they like. */
static void test_late_reads(void **state)
{
    check_late_answers("GET k\r\n");
}

/* Those that are under way fill what a tick may answer, and all of it goes out at once: others go on in the next tick,
 * and do not wait for a look that is taken each second. */
static void test_late_reads_go_on_at_once(void **state)
{
    enum { CLIENT_COUNT = 16, TURN_COUNT = 10, LONG_MS = 5000 };
    struct world *world = world_create(&(struct world_options){0});
    int clients[CLIENT_COUNT];
    for (int i = 0; i < CLIENT_COUNT; i++) {
        clients[i] = world_connect(world);
    }
    struct buffer value = {0};
    fill(&value, MEBIBYTE);
    set_large(clients[0], &value);
    world_set_reading_late(world, true);
    uint64_t began_ms = os_monotonic_ms();
    for (int turn = 0; turn < TURN_COUNT; turn++) { /* Some begin, and the others wait. */
        for (int i = 0; i < CLIENT_COUNT; i++) {
            world_send(clients[i], BYTES("GET k\r\n"));
        }
        for (int i = 0; i < CLIENT_COUNT; i++) {
            receive_large(clients[i], &value, 1);
        }
    }
    assert_in_range(os_monotonic_ms() - began_ms, 0, LONG_MS);
    buffer_deinit(&value);
    for (int i = 0; i < CLIENT_COUNT; i++) {
        (void)close(clients[i]);
    }
    world_destroy(world);
}

/* Writes that answer a value. */
static void test_late_writes(void **state)
{
    check_late_answers("GETEX k PERSIST\r\n");
}

/* Other writes are not held up by what those answer. */
static void test_writes_that_answer_little(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    world_set_holding(world, true);
    for (int i = 0; i < 300; i++) {
        world_send(client, i % 2 == 0 ? BYTES("SET k 1\r\n") : BYTES("SET k 1 EX 9\r\n"));
    }
    world_wait_for_pending(world, 300);
    world_set_holding(world, false);
    (void)close(client);
    world_destroy(world);
}

/* Those that go in one tick go one after the other, before the eyes of the test. */
static bool is_budget_kept(const struct resp_statistics *statistics)
{
    return statistics->evicted_count >= 1 && statistics->buffer_bytes < 8 * MEBIBYTE;
}

/* Above the budget of all clients, who does not read is cut off, and others are served. */
static void test_budget(void **state)
{
    struct world_options options = {.resp = {.client_memory_bytes_max = 4 * MEBIBYTE}};
    struct world *world = world_create(&options);
    int other = world_connect(world);
    struct buffer value = {0};
    fill(&value, MEBIBYTE);
    set_large(other, &value);
    int clients[10];
    for (int i = 0; i < 10; i++) {
        clients[i] = world_connect(world);
        for (int j = 0; j < 20; j++) {
            world_send(clients[i], BYTES("GET k\r\n"));
        }
    }
    (void)wait_for(world, is_budget_kept);
    WORLD_EXPECT(other, "PING\r\n", "+PONG\r\n");
    for (int i = 0; i < 10; i++) {
        (void)close(clients[i]);
    }
    buffer_deinit(&value);
    (void)close(other);
    world_destroy(world);
}

/* The front of a request whose rest does not come. */
static void send_half(int client, const struct buffer *value)
{
    world_send(client, BYTES("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4194304\r\n"));
    world_send(client, buffer_bytes(value));
}

static bool is_any_evicted(const struct resp_statistics *statistics)
{
    return statistics->evicted_count > 0;
}

/* Six clients that hold 18 MiB of 8: the first, or all, have sent CLIENT NO-EVICT. */
static void check_spared_clients(bool are_all_spared)
{
    enum { COUNT = 6, BUDGET = 8 * MEBIBYTE };
    struct world_options options = {
        .resp = {.client_memory_bytes_max = BUDGET, .value_size_bytes_max = 4 * MEBIBYTE}};
    struct world *world = world_create(&options);
    struct buffer value = {0};
    fill(&value, 3 * MEBIBYTE);
    int clients[COUNT];
    for (int i = 0; i < COUNT; i++) {
        bool is_spared = i == 0 || are_all_spared;
        clients[i] = world_connect(world);
        WORLD_EXPECT(clients[i], is_spared ? "CLIENT NO-EVICT ON\r\n" : "CLIENT NO-EVICT OFF\r\n",
                     "+OK\r\n");
        send_half(clients[i], &value);
    }
    (void)wait_for(world, is_any_evicted);
    os_sleep_ms(200);
    struct resp_statistics statistics;
    resp_group_get_statistics(world_group(world), &statistics);
    assert_in_range(statistics.buffer_bytes, 1, BUDGET);
    if (!are_all_spared) {
        world_send(clients[0], bytes_make(value.data, MEBIBYTE));
        WORLD_EXPECT(clients[0], "\r\n", "+OK\r\n");
    }
    for (int i = 0; i < COUNT; i++) {
        (void)close(clients[i]);
    }
    buffer_deinit(&value);
    world_destroy(world);
}

/* CLIENT NO-EVICT spares a client whatever others hold, but such clients hold no more than all may. */
static void test_spared_clients(void **state)
{
    check_spared_clients(false);
    check_spared_clients(true);
}

static void check_choosing(struct bytes request)
{
    enum { COUNT = 300, REQUEST_COUNT = 500, FEW = 4 };
    struct world *world = world_create(&(struct world_options){.server_count = 2});
    int clients[COUNT];
    for (int i = 0; i < COUNT; i++) {
        clients[i] = world_connect(world);
        WORLD_EXPECT(clients[i], "PING\r\n", "+PONG\r\n");
    }
    struct buffer requests = {0};
    for (int i = 0; i < REQUEST_COUNT; i++) {
        buffer_append(&requests, request);
    }
    world_send(clients[0], buffer_bytes(&requests));
    uint64_t most = 0;
    struct resp_statistics statistics;
    bool has_begun = false; /* However late. */
    for (int waited_ms = 0; waited_ms < 300 || (!has_begun && waited_ms < 20000); waited_ms++) {
        resp_group_get_statistics(world_group(world), &statistics);
        most = statistics.pending_count > most ? statistics.pending_count : most;
        has_begun = most > 0 && statistics.output_bytes > 0;
        os_sleep_ms(1);
    }
    assert_true(has_begun);
    assert_in_range(most, 1, FEW);
    WORLD_EXPECT(clients[1], "PING\r\n", "+PONG\r\n");
    for (int i = 0; i < COUNT; i++) {
        (void)close(clients[i]);
    }
    buffer_deinit(&requests);
    world_destroy(world);
}

enum { SILENT_COUNT = 200, SILENT_SIZE = 4000 }; /* Small enough to come in one piece. */

/* Servers tell of it in steps of tens of kilobytes. */
static bool is_silence_charged(const struct resp_statistics *statistics)
{
    return statistics->buffer_bytes >= (uint64_t)SILENT_COUNT * SILENT_SIZE / 2;
}

/* What a request leaves behind counts also where no reply is ever written. */
static void check_silent(const char *command)
{
    struct world *world = world_create(&(struct world_options){0});
    int clients[SILENT_COUNT];
    struct buffer request = {0};
    buffer_append_format(&request, "CLIENT REPLY OFF\r\n%s ", command);
    memset(buffer_extend(&request, SILENT_SIZE), 'x', SILENT_SIZE);
    buffer_append(&request, BYTES("\r\n"));
    for (int i = 0; i < SILENT_COUNT; i++) {
        clients[i] = world_connect(world);
        world_send(clients[i], buffer_bytes(&request));
    }
    (void)wait_for(world, is_silence_charged);
    for (int i = 0; i < SILENT_COUNT; i++) {
        (void)close(clients[i]);
    }
    buffer_deinit(&request);
    world_destroy(world);
}

static void test_silent_clients(void **state)
{
    check_silent("CLIENT SETNAME");
    check_silent("WATCH");
}

/* What is gathered at all servers is large, an answer or a choice of clients: of one at a time. */
static void test_choices_of_clients(void **state)
{
    check_choosing(BYTES("CLIENT LIST\r\n"));
    check_choosing(BYTES("CLIENT KILL ADDR 10.0.0.1:1 LADDR 10.0.0.1:1\r\n"));
}

/* Replies that wait behind an unanswered write are bounded too. */
static void test_held_replies(void **state)
{
    struct world_options options = {.resp = {.output_pause_bytes = 100000}};
    struct world *world = world_create(&options);
    int client = world_connect(world);
    struct buffer requests = {0};
    struct buffer expected = {0};
    struct buffer got = {0};
    world_set_holding(world, true);
    buffer_append(&requests, BYTES("SET k v\r\n"));
    buffer_append(&expected, BYTES("+OK\r\n"));
    for (int i = 0; i < 1000; i++) {
        buffer_append_format(&requests, "*2\r\n$4\r\nECHO\r\n$1000\r\n%01000d\r\n", i);
        buffer_append_format(&expected, "$1000\r\n%01000d\r\n", i);
    }
    world_send(client, buffer_bytes(&requests));
    os_sleep_ms(100);
    struct resp_statistics statistics;
    resp_group_get_statistics(world_group(world), &statistics);
    assert_true(statistics.command_count < 150);
    world_set_holding(world, false);
    world_receive(client, expected.size_bytes, &got);
    assert_int_equal(got.size_bytes, expected.size_bytes);
    assert_memory_equal(got.data, expected.data, expected.size_bytes);
    buffer_deinit(&requests);
    buffer_deinit(&expected);
    buffer_deinit(&got);
    (void)close(client);
    world_destroy(world);
}

/* Strangers must authenticate in time, and only so many may wait. */
static void test_strangers(void **state)
{
    struct world_options options = {
        .resp = {.password = "secret", .authentication_timeout_ms = 500, .stranger_count_max = 3}};
    struct world *world = world_create(&options);
    int known = world_connect(world);
    WORLD_EXPECT(known, "AUTH secret\r\n", "+OK\r\n");
    int strangers[4];
    for (int i = 0; i < 4; i++) {
        strangers[i] = world_connect(world);
        WORLD_EXPECT(strangers[i], "PING\r\n", "-NOAUTH Authentication required.\r\n");
    }
    assert_true(world_is_closed(strangers[0])); /* The fourth pushed it out. */
    uint64_t start_ms = os_monotonic_ms();
    for (int i = 1; i < 4; i++) {
        assert_true(world_is_closed(strangers[i]));
    }
    assert_in_range(os_monotonic_ms() - start_ms, 0, WAIT_MS_MAX);
    WORLD_EXPECT(known, "PING\r\n", "+PONG\r\n");
    for (int i = 0; i < 4; i++) {
        (void)close(strangers[i]);
    }
    (void)close(known);
    world_destroy(world);
}

/* Idle clients go after `timeout`, busy ones stay. */
static void test_idle_timeout(void **state)
{
    struct world_options options = {.resp = {.idle_timeout_s = 3}};
    struct world *world = world_create(&options);
    int idle = world_connect(world);
    int busy = world_connect(world);
    WORLD_EXPECT(idle, "PING\r\n", "+PONG\r\n");
    char byte;
    ssize_t received = -1;
    for (int waited_ms = 0; waited_ms < WAIT_MS_MAX && received < 0; waited_ms += 20) {
        WORLD_EXPECT(busy, "PING\r\n", "+PONG\r\n");
        os_sleep_ms(20);
        received = recv(idle, &byte, 1, MSG_DONTWAIT);
    }
    assert_int_equal(received, 0);
    WORLD_EXPECT(busy, "PING\r\n", "+PONG\r\n");
    (void)close(idle);
    (void)close(busy);
    world_destroy(world);
}

/* One more client than allowed is told so. */
static void test_too_many(void **state)
{
    struct world_options options = {.resp = {.client_count_max = 2}};
    struct world *world = world_create(&options);
    int clients[3];
    for (int i = 0; i < 2; i++) {
        clients[i] = world_connect(world);
        WORLD_EXPECT(clients[i], "PING\r\n", "+PONG\r\n");
    }
    clients[2] = world_connect(world);
    WORLD_EXPECT(clients[2], "", "-ERR max number of clients reached\r\n");
    assert_true(world_is_closed(clients[2]));
    for (int i = 0; i < 3; i++) {
        (void)close(clients[i]);
    }
    world_destroy(world);
}

/* Nobody sets more clients than the process may open files for, and without a word the limit is the
 * default. */
static void test_clients_and_files(void **state)
{
    struct world_options options = {.resp = {.client_count_limit = 100}};
    struct world *world = world_create(&options);
    int client = world_connect(world);
    WORLD_EXPECT(client, "CONFIG GET maxclients\r\n", "*2\r\n$10\r\nmaxclients\r\n$3\r\n100\r\n");
    WORLD_EXPECT(
        client, "CONFIG SET maxclients 101\r\n",
        "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - the process may not "
        "open as many files\r\n");
    WORLD_EXPECT(client, "CONFIG SET maxclients 100\r\n", "+OK\r\n");
    (void)close(client);
    world_destroy(world);
}

static bool is_one_pending(const struct resp_statistics *statistics)
{
    return statistics->pending_count == 1;
}

/* Stopping answers what is under way, and takes nothing new. */
static void test_stop(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int idle = world_connect(world);
    int client = world_connect(world);
    world_set_holding(world, true);
    world_send(client, BYTES("SET k v\r\nECHO after\r\n"));
    (void)wait_for(world, is_one_pending);
    world_begin_stop(world);
    assert_true(world_is_closed(idle));
    world_send(client, BYTES("SET k w\r\n"));
    os_sleep_ms(50);
    world_set_holding(world, false);
    WORLD_EXPECT(client, "", "+OK\r\n$5\r\nafter\r\n");
    assert_true(world_is_closed(client));
    (void)close(client);
    (void)close(idle);
    world_destroy(world);
}

/* A client that closes its sending side still gets the answers to what it sent. */
static void test_half_closed(void **state)
{
    struct world *world = world_create(&(struct world_options){0});
    int client = world_connect(world);
    world_set_holding(world, true);
    world_send(client, BYTES("SET k v\r\nGET k\r\n"));
    assert_int_equal(shutdown(client, SHUT_WR), 0);
    os_sleep_ms(20);
    world_set_holding(world, false);
    WORLD_EXPECT(client, "", "+OK\r\n$1\r\nv\r\n");
    assert_true(world_is_closed(client));
    (void)close(client);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_values),
        cmocka_unit_test(test_late_reader),
        cmocka_unit_test(test_late_reads),
        cmocka_unit_test(test_late_reads_go_on_at_once),
        cmocka_unit_test(test_late_writes),
        cmocka_unit_test(test_writes_that_answer_little),
        cmocka_unit_test(test_a_value_of_the_whole_budget),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_held_replies),
        cmocka_unit_test(test_spared_clients),
        cmocka_unit_test(test_choices_of_clients),
        cmocka_unit_test(test_silent_clients),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_idle_timeout),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_clients_and_files),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_half_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
