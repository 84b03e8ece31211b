/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/trace/trace.h"
#include "core/route/route_internal.h"
#include "core/route/route_world.h"

enum { FIRST, SECOND, THIRD };

static const char *probe_name;
static uint32_t probe_count;

static void note_probe(void *context, const char *name)
{
    (void)context;
    probe_count += strcmp(name, probe_name) == 0;
}

static void count_probe(const char *name)
{
    static const struct trace_hooks hooks = {.probe = note_probe};
    probe_name = name;
    probe_count = 0;
    trace_set_hooks(&hooks);
}

static void expect_probe(void)
{
    trace_set_hooks(NULL);
    assert_true(probe_count > 0);
}

/* ---- Where the leader is --------------------------------------------------------------------- */

/* With the leader here, requests go straight to it: nothing is kept and nothing is sent. */
static void test_local(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, FIRST);
    struct world_session *session = world_connect(world, FIRST);
    uint32_t read = world_submit(world, session, WORLD_READ, 10);
    assert_int_equal(world_status(world, read), 0); /* At once. */
    uint32_t write = world_submit(world, session, WORLD_WRITE, 10);
    (void)world_run_until_done(world, 10);
    assert_int_equal(world_status(world, write), 0);
    struct route_statistics statistics = world_statistics(world, FIRST);
    assert_int_equal(statistics.local_count, 2);
    assert_int_equal(statistics.kept_count, 0);
    assert_int_equal(statistics.sent_message_count, 0);
    world_end(world);
}

/* With the leader elsewhere, it is asked once; then each request is one message there and one
 * back. */
static void test_elsewhere(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
    struct world_session *session = world_connect(world, FIRST);
    for (uint32_t i = 0; i < 10; i++) {
        uint32_t request = world_submit(world, session, i % 2 == 0 ? WORLD_WRITE : WORLD_READ, 10);
        (void)world_run_until_done(world, 10);
        assert_int_equal(world_status(world, request), 0);
    }
    struct route_statistics asking = world_statistics(world, FIRST);
    struct route_statistics answering = world_statistics(world, SECOND);
    assert_int_equal(asking.asked_count, 1);
    assert_int_equal(asking.granted_count, 1);
    assert_int_equal(asking.forwarded_count, 10);
    assert_int_equal(asking.answered_count, 10);
    assert_int_equal(asking.retried_count, 0);
    assert_int_equal(answering.served_count, 10);
    assert_int_equal(world_message_count(world), 2 + 20);
    world_end(world);
}

/* To a node whose software does not know that shards become two nothing is said of slots, whoever asks; when
 * it is a newer one they are said, and a shard that has split is found out. */
static void test_node_of_older_software(void **state)
{
    struct world *world = world_create_led(
        &(struct world_options){.seed = 1, .older_nodes = 1u << SECOND | 1u << THIRD}, SECOND);
    const uint32_t nodes[] = {FIRST, THIRD};
    for (uint32_t i = 0; i < 10; i++) {
        uint32_t request = world_submit(world, world_connect(world, nodes[i % 2]), WORLD_WRITE, 10);
        (void)world_run_until_done(world, 10);
        assert_int_equal(world_status(world, request), 0);
    }
    world_kill(world, SECOND);
    world_kill(world, THIRD);
    world_connect_nodes(world, FIRST, SECOND);
    world_start(world, SECOND);
    world_start(world, THIRD);
    world_elect(world, SECOND);
    world_learn(world, FIRST);
    struct world_session *session = world_connect(world, FIRST);
    uint32_t request = world_submit(world, session, WORLD_WRITE, 10);
    (void)world_run_until_done(world, 1000);
    world_split(world);
    (void)world_submit(world, session, WORLD_WRITE, 10);
    (void)world_run_until_done(world, 1000);
    assert_int_equal(world_status(world, request), 0);
    assert_int_equal(world_statistics(world, FIRST).moved_count, 1);
    world_end(world);
}

/* What a tick gathers goes in one message, and the replies of a tick come in one. */
static void test_batch(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 100; i++) {
            (void)world_submit(world, world_connect(world, FIRST), WORLD_READ, 10);
        }
        (void)world_run_until_done(world, 10);
    }
    assert_int_equal(world_statistics(world, FIRST).answered_count, 200);
    assert_int_equal(world_message_count(world), 2 + 2 * 2);
    world_end(world);
}

/* A node that does not lead but knows who does saves the search: its hint is followed at once. */
static void test_hint(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, WORLD_NODE_COUNT);
    world_elect(world, THIRD);
    world_learn(world, SECOND); /* Whom the first asks, as it does not know itself. */
    world_step(world);
    uint32_t request = world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 10);
    assert_true(world_run_until_done(world, 100) <
                10); /* No backoff, which is 5 at least, in between. */
    assert_int_equal(world_status(world, request), 0);
    assert_int_equal(world_statistics(world, FIRST).asked_count, 2);
    world_end(world);
}

/* While there is no leader, nodes are asked ever more slowly; when the deadline comes, nothing has
 * happened. */
static void test_no_leader(void **state)
{
    struct world_options options = {.seed = 1, .route = {.deadline_ms = 3000}};
    struct world *world = world_create_led(&options, WORLD_NODE_COUNT);
    struct world_session *session = world_connect(world, FIRST);
    uint32_t write = world_submit(world, session, WORLD_WRITE, 10);
    uint32_t read = world_submit(world, session, WORLD_READ, 10);
    uint64_t took_ms = world_run_until_done(world, 4000);
    assert_true(took_ms >= 3000 && took_ms <= 3001);
    assert_int_equal(world_status(world, write), ERROR_NOT_LEADER);
    assert_int_equal(world_status(world, read), ERROR_NOT_LEADER);
    struct route_statistics statistics = world_statistics(world, FIRST);
    assert_true(statistics.asked_count > 3000 / 205);
    assert_true(statistics.asked_count < 3000 / 100 + 10);
    assert_int_equal(statistics.no_leader_count, 2);
    /* It costs nothing once nobody waits. */
    uint64_t messages = world_message_count(world);
    world_run(world, 1000);
    assert_int_equal(world_message_count(world), messages);
    world_end(world);
}

/* When the local replica hears of a leader, nobody waits for a backoff to end. */
static void test_leader_appears(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, WORLD_NODE_COUNT);
    (void)world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 10);
    (void)world_submit(world, world_connect(world, SECOND), WORLD_WRITE, 10);
    world_run(world, 2000); /* The backoff is at its longest. */
    world_elect(world, SECOND);
    world_learn(world, FIRST);
    assert_true(world_run_until_done(world, 100) < 10);
    world_end(world);
}

/* ---- Leaders change -------------------------------------------------------------------------- */

/* A leader is killed with requests open: each takes effect once, in order, and is answered. */
static void test_leader_killed(void **state)
{
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct world *world = world_create_led(&(struct world_options){.seed = seed}, SECOND);
        struct world_session *session = world_connect(world, FIRST);
        world_set_committing(world, false);
        for (uint32_t i = 0; i < 20; i++) {
            (void)world_submit(world, session, WORLD_WRITE, 10);
        }
        (void)world_submit(world, session, WORLD_READ, 10);
        world_run(world, 20);
        assert_int_equal(world_pending_count(world, NULL), 21);
        world_kill(world, SECOND); /* A part of them is in the log of the next leader. */
        world_set_committing(world, true);
        world_run(world, 200);
        world_elect(world, THIRD);
        world_learn(world, FIRST);
        (void)world_run_until_done(world, 100);
        for (uint32_t i = 0; i <= 20; i++) {
            assert_int_equal(world_status(world, i), 0);
        }
        assert_int_equal(world_statistics(world, FIRST).retried_count, 20);
        world_end(world);
    }
}

/* A leader that learns that it is none hands back, and its own gateway's requests go to the next,
 * those of others too. */
static void test_leader_deposed(void **state)
{
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct world *world = world_create_led(&(struct world_options){.seed = seed}, SECOND);
        struct world_session *there = world_connect(world, SECOND);
        struct world_session *elsewhere = world_connect(world, FIRST);
        world_set_committing(world, false);
        for (uint32_t i = 0; i < 10; i++) {
            (void)world_submit(world, there, WORLD_WRITE, 10);
            (void)world_submit(world, elsewhere, WORLD_WRITE, 10);
        }
        world_run(world, 10);
        world_lose_leader(world);
        world_elect(world, THIRD);
        world_learn(world, SECOND);
        world_set_committing(world, true);
        (void)world_run_until_done(world, 1000);
        for (uint32_t i = 0; i < 20; i++) {
            assert_int_equal(world_status(world, i), 0);
        }
        world_end(world);
    }
}

/* A leader that never hears of its end is left behind when the local replica hears of the next. */
static void test_deaf_leader(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
    (void)world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 10);
    world_set_committing(world, false);
    world_run(world, 5);
    world_lose_leader(world);
    world_set_deaf(world, SECOND, FIRST, true);
    world_set_deaf(world, FIRST, SECOND, true);
    world_elect(world, THIRD);
    world_learn(world, FIRST);
    world_set_committing(world, true);
    assert_true(world_run_until_done(world, 100) < 10);
    world_learn(world, SECOND);
    world_step(world);
    world_end(world);
}

/* A read that the local replica hands back after a write behind it, of the same key or of one that is not
 * known, took effect or may have, cannot be answered any more. Others are asked again. */
static void test_lost_read(void **state)
{
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct world *world = world_create_led(&(struct world_options){.seed = seed}, FIRST);
        struct world_session *session = world_connect(world, FIRST);
        world_set_committing(world, false);
        (void)world_submit_for(world, session, WORLD_WRITE, 10, 1);
        uint32_t kept = world_submit_for(world, session, WORLD_READ, 10, 1);
        uint32_t lost = world_submit_for(world, session, WORLD_READ, 10, 2);
        uint32_t unknown = world_submit_for(world, session, WORLD_READ, 10, 0);
        (void)world_submit_for(world, session, WORLD_WRITE, 10, 2);
        uint32_t last = world_submit_for(world, session, WORLD_READ, 10, 2);
        struct world_session *other = world_connect(world, FIRST);
        uint32_t before = world_submit_for(world, other, WORLD_READ, 10, 1);
        (void)world_submit_for(world, other, WORLD_WRITE, 10, 0);
        world_run(world, 1);
        world_lose_leader(world);
        world_elect(world, SECOND);
        world_learn(world, FIRST);
        world_set_committing(world, true);
        (void)world_run_until_done(world, 100);
        assert_int_equal(world_status(world, kept), 0);
        assert_int_equal(world_status(world, lost), ERROR_OUTCOME_UNKNOWN);
        assert_int_equal(world_status(world, unknown), ERROR_OUTCOME_UNKNOWN);
        assert_int_equal(world_status(world, last), 0);
        /* It was alone, and answered at once. */
        assert_int_equal(world_status(world, before), 0);
        world_end(world);
    }
}

/* ---- The deadline ---------------------------------------------------------------------------- */

/* When a leader does not answer in time, a write may have taken effect, a read has not. */
static void test_deadline(void **state)
{
    struct world_options options = {.seed = 1, .route = {.deadline_ms = 2000}};
    struct world *world = world_create_led(&options, SECOND);
    world_set_committing(world, false);
    struct world_session *session = world_connect(world, FIRST);
    uint32_t write = world_submit(world, session, WORLD_WRITE, 10);
    uint32_t read = world_submit(world, session, WORLD_READ, 10); /* Behind it. */
    uint64_t took_ms = world_run_until_done(world, 3000);
    assert_true(took_ms >= 2000 && took_ms <= 2001);
    assert_int_equal(world_status(world, write), ERROR_OUTCOME_UNKNOWN);
    assert_int_equal(world_status(world, read), ERROR_NOT_LEADER);
    /* What comes later stands behind what is still open there. */
    uint32_t later = world_submit(world, session, WORLD_READ, 10);
    world_run(world, 20);
    assert_int_equal(world_status(world, later), WORLD_NOT_DONE);
    world_set_committing(world, true);
    (void)world_run_until_done(world, 20);
    assert_int_equal(world_status(world, later), 0);
    assert_true(world_position(world, write) != 0);
    world_end(world);
}

/* When the node stops, what is unanswered is given up within its patience; nothing new is kept. */
static void test_stop(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
    struct world_session *session = world_connect(world, FIRST);
    world_set_committing(world, false);
    uint32_t write = world_submit(world, session, WORLD_WRITE, 10);
    world_run(world, 10);
    route_stop(world_route(world, FIRST), 100);
    uint32_t late = world_submit(world, session, WORLD_WRITE, 10);
    assert_int_equal(world_status(world, late), ERROR_STOPPED);
    assert_true(world_run_until_done(world, 200) <= 101);
    assert_int_equal(world_status(world, write), ERROR_OUTCOME_UNKNOWN);
    /* A leader that stops grants no more streams. */
    route_stop(world_route(world, SECOND), 100);
    (void)world_submit(world, world_connect(world, THIRD), WORLD_WRITE, 10);
    world_run(world, 500);
    assert_int_equal(world_statistics(world, THIRD).granted_count, 0);
    world_set_committing(world, true);
    world_run(world, 50);
    assert_int_equal(world_statistics(world, SECOND).guest_count, 0);
    if (world_failure(world) != NULL) {
        fail_msg("%s", world_failure(world));
    }
    world_destroy(world);
}

/* ---- Refusals and limits --------------------------------------------------------------------- */

/* What a busy shard refuses waits on the answering side, in order. */
static void test_busy(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
    struct world_session *session = world_connect(world, FIRST);
    world_set_busy(world, true);
    for (uint32_t i = 0; i < 50; i++) {
        (void)world_submit(world, session, i % 3 == 0 ? WORLD_CHEAP_READ : WORLD_WRITE, 10);
    }
    world_run(world, 100);
    assert_int_equal(world_pending_count(world, NULL), 50);
    assert_int_equal(world_statistics(world, SECOND).guest_queued_count, 50);
    assert_int_equal(world_statistics(world, FIRST).forwarded_count, 50);
    world_set_busy(world, false);
    (void)world_run_until_done(world, 20);
    assert_int_equal(world_statistics(world, FIRST).forwarded_count, 50);
    world_end(world);
}

/* A full disk and a request that is too large are told as such; what is behind them goes on, in
 * order, and nothing of it happened before the refusal was known (R4). */
static void test_refused(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
    struct world_session *session = world_connect(world, FIRST);
    world_set_full(world, true);
    uint32_t grows = world_submit(world, session, WORLD_WRITE, 10);
    uint32_t large = world_submit(world, session, WORLD_WRITE, 70000);
    uint32_t reads = world_submit(world, session, WORLD_READ, 10);
    (void)world_run_until_done(world, 50);
    assert_int_equal(world_status(world, grows), -ENOSPC);
    assert_int_equal(world_status(world, large), -E2BIG);
    assert_int_equal(world_status(world, reads), 0);
    assert_int_equal(world_statistics(world, FIRST).refused_count, 2);
    /* The other side keeps nothing of it for long. */
    world_run(world, 10);
    assert_int_equal(world_statistics(world, SECOND).guest_session_count, 0);
    world_end(world);
}

/* What gateways may have kept here is bounded: more is refused with -EBUSY, and goes later. */
static void test_held_limit(void **state)
{
    struct world_options options = {.seed = 1, .route = {.held_size_bytes_max = 10000}};
    struct world *world = world_create_led(&options, WORLD_NODE_COUNT);
    struct world_session *session = world_connect(world, FIRST);
    for (uint32_t i = 0; i < 100; i++) {
        (void)world_submit(world, session, WORLD_WRITE, 500);
    }
    world_run(world, 10);
    struct route_statistics statistics = world_statistics(world, FIRST);
    assert_true(statistics.held_size_bytes <= 10000);
    assert_true(statistics.held_size_bytes > 9000);
    assert_true(statistics.busy_count > 0);
    uint64_t held_count = statistics.held_count; /* But for what others wait for. */
    for (uint32_t i = 0; i < 100; i++) {
        (void)world_submit(world, world_connect(world, FIRST), WORLD_RELEASE, 500);
    }
    world_run(world, 10);
    assert_int_equal(world_statistics(world, FIRST).held_count, held_count + 100);
    world_elect(world, SECOND);
    world_learn(world, FIRST);
    (void)world_run_until_done(world, 1000);
    world_end(world);
}

/* What a node has on the answering side is bounded, and the asking side keeps to it. */
static void test_room(void **state)
{
    struct world_options options = {.seed = 1, .route = {.guest_size_bytes_max = 10000}};
    struct world *world = world_create_led(&options, SECOND);
    world_set_committing(world, false);
    for (uint32_t i = 0; i < 100; i++) {
        (void)world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 500);
    }
    (void)world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 50000); /* Goes alone. */
    world_run(world, 10);
    struct route_statistics statistics = world_statistics(world, SECOND);
    assert_true(statistics.guest_size_bytes <= 10000);
    assert_true(statistics.guest_size_bytes > 9000);
    uint64_t served_count = statistics.served_count;
    (void)world_submit(world, world_connect(world, FIRST), WORLD_RELEASE, 500);
    world_run(world, 10);
    assert_int_equal(world_statistics(world, SECOND).served_count, served_count + 1);
    for (uint32_t i = 0; i < 100; i++) {
        (void)world_submit(world, world_connect(world, FIRST), WORLD_RELEASE, 500);
    }
    world_run(world, 10);
    statistics = world_statistics(world, SECOND);
    assert_true(statistics.guest_size_bytes <= 15000);
    assert_true(statistics.guest_size_bytes > 14000);
    world_set_committing(world, true);
    (void)world_run_until_done(world, 1000);
    assert_int_equal(world_statistics(world, SECOND).ended_stream_count, 0);
    world_end(world);
}

/* ---- The network ----------------------------------------------------------------------------- */

/* A message that vanishes without a sign is missed, and its requests are sent again. */
static void test_silence(void **state)
{
    for (uint32_t direction = 0; direction < 2; direction++) {
        struct world_options options = {.seed = 1, .route = {.silence_ms = 100}};
        struct world *world = world_create_led(&options, SECOND);
        struct world_session *session = world_connect(world, FIRST);
        (void)world_submit(world, session, WORLD_WRITE, 10);
        (void)world_run_until_done(world, 20);
        uint32_t from = direction == 0 ? FIRST : SECOND;
        uint32_t to = direction == 0 ? SECOND : FIRST;
        world_set_deaf(world, from, to, true);
        uint32_t request = world_submit(world, session, WORLD_WRITE, 10);
        world_run(world, 5);
        world_set_deaf(world, from, to, false);
        assert_true(world_run_until_done(world, 300) <
                    120); /* The question for a word shows the gap. */
        assert_int_equal(world_status(world, request), 0);
        assert_int_equal(world_statistics(world, FIRST).granted_count, 2);
        world_end(world);
    }
}

/* A broken connection has what was sent there submitted again at once. */
static void test_connection_breaks(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
    struct world_session *session = world_connect(world, FIRST);
    world_set_committing(world, false);
    for (uint32_t i = 0; i < 10; i++) {
        (void)world_submit(world, session, WORLD_WRITE, 10);
    }
    world_run(world, 10);
    world_disconnect_nodes(world, FIRST, SECOND, 0);
    world_run(world, 2);
    world_connect_nodes(world, FIRST, SECOND);
    world_set_committing(world, true);
    assert_true(world_run_until_done(world, 1000) < 300);
    assert_int_equal(world_statistics(world, FIRST).lost_stream_count, 1);
    assert_int_equal(world_statistics(world, FIRST).retried_count, 10);
    world_end(world);
}

/* What a former life of a node has asked for is not mixed up with what its new life asks for. */
static void test_new_life(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
    world_set_committing(world, false);
    (void)world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 10);
    world_run(world, 10);
    assert_int_equal(world_statistics(world, SECOND).guest_request_count, 1);
    count_probe("route.guest_lives_anew");
    world_kill(world, FIRST);
    world_connect_nodes(world, FIRST, SECOND);
    world_start(world, FIRST);
    world_learn(world, FIRST);
    uint32_t request = world_submit(world, world_connect(world, FIRST), WORLD_WRITE, 10);
    world_run(world, 10);
    expect_probe();
    assert_int_equal(world_statistics(world, SECOND).guest_count, 2);
    world_set_committing(world, true);
    (void)world_run_until_done(world, 20);
    assert_int_equal(world_status(world, request), 0);
    assert_int_equal(world_statistics(world, SECOND).guest_count, 1);
    world_end(world);
}

/* ---- Reads ----------------------------------------------------------------------------------- */

/* A read that may be stale is answered here, and shows what is here. */
static void test_stale_read(void **state)
{
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
    uint32_t read = world_submit(world, world_connect(world, FIRST), WORLD_STALE_READ, 10);
    assert_int_equal(world_status(world, read), 0);
    assert_int_equal(world_statistics(world, FIRST).sent_message_count, 0);
    world_end(world);
}

/* The price of order (R3): what a session costs that reads and writes in turn, N of each, at once,
 * in messages and in time. As the header of route says. Different keys have no order to pay for. */
static void test_price(void **state)
{
    enum { PAIR_COUNT = 8 };
    static const struct {
        const char *name;
        enum world_kind kind;
        uint16_t read_key;
        uint32_t message_count;
        uint32_t logged_count;
    } cases[] = {
        {"writes alone", WORLD_WRITE, 0, 2, 0},
        {"cheap reads, through the log", WORLD_CHEAP_READ, 0, 2, PAIR_COUNT},
        {"other reads, waited for", WORLD_READ, 0, 2 * PAIR_COUNT + 2, 0},
        {"other reads, of the key that is written", WORLD_READ, 1, 2 * PAIR_COUNT + 2, 0},
        {"cheap reads of other keys", WORLD_CHEAP_READ, 2, 2, 0},
        {"other reads, of other keys", WORLD_READ, 2, 2, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
        struct world_session *session = world_connect(world, FIRST);
        (void)world_submit(world, session, WORLD_READ, 10);
        (void)world_run_until_done(world, 20);
        world_run(world, 5);
        uint64_t before = world_message_count(world);
        for (uint32_t j = 0; j < PAIR_COUNT; j++) {
            (void)world_submit_for(world, session, cases[i].kind, 10, cases[i].read_key);
            (void)world_submit_for(world, session, WORLD_WRITE, 10, 1);
        }
        uint64_t took_ms = world_run_until_done(world, 500);
        uint64_t count = world_message_count(world) - before;
        print_message("%s: %u messages, %u ms\n", cases[i].name, (unsigned)count,
                      (unsigned)took_ms);
        assert_int_equal(count, cases[i].message_count);
        assert_int_equal(world_statistics(world, FIRST).logged_read_count, cases[i].logged_count);
        world_end(world);
    }
}

/* ---- Splits ---------------------------------------------------------------------------------- */

/* The shard gets smaller while a pipeline is under way, here or elsewhere: what was before that in the
 * log is answered, the rest is handed back, refused and asked again by the newer map; all in order (the
 * world looks). */
static void test_split(void **state)
{
    enum { COUNT = 100 };
    for (uint32_t leader = FIRST; leader <= SECOND; leader++) {
        struct world *world = world_create_led(&(struct world_options){.seed = 3}, leader);
        struct world_session *session = world_connect(world, FIRST);
        uint32_t requests[COUNT];
        world_set_committing(world, false);
        for (uint32_t i = 0; i < COUNT; i++) {
            requests[i] =
                world_submit(world, session, i % 3 == 0 ? WORLD_CHEAP_READ : WORLD_WRITE, 10);
        }
        world_run(world, 5);
        world_split(world);
        world_set_committing(world, true);
        (void)world_run_until_done(world, 100);
        for (uint32_t i = 0; i < COUNT; i++) {
            int status = world_status(world, requests[i]);
            assert_true(status == 0 || (status == ERROR_OUTCOME_UNKNOWN && i % 3 == 0));
        }
        struct route_statistics statistics = world_statistics(world, FIRST);
        assert_true(statistics.moved_count > 0 && statistics.moved_count < COUNT);
        world_end(world);
    }
}

/* Requests under slots that the shard has no more are refused each by itself, all in one message, and
 * nothing is returned (R4): with another message they are answered. */
static void test_moved_pipeline(void **state)
{
    enum { COUNT = 50 };
    struct world *world = world_create_led(&(struct world_options){.seed = 1}, SECOND);
    struct world_session *session = world_connect(world, FIRST);
    (void)world_submit(world, session, WORLD_WRITE, 10);
    (void)world_run_until_done(world, 10);
    uint64_t count = world_statistics(world, FIRST).sent_message_count;
    count_probe("route.returned");
    world_split(world);
    for (uint32_t i = 0; i < COUNT; i++) {
        (void)world_submit(world, session, WORLD_WRITE, 10);
    }
    (void)world_run_until_done(world, 10);
    trace_set_hooks(NULL);
    assert_int_equal(probe_count, 0);
    assert_int_equal(world_statistics(world, FIRST).moved_count, COUNT);
    assert_int_equal(world_statistics(world, FIRST).retried_count, 0);
    assert_int_equal(world_statistics(world, FIRST).sent_message_count - count, 2);
    world_end(world);
}

static struct buffer sent_message;

static uint64_t at_one(void *context)
{
    return 1;
}

static int refuse_all(void *context, wal_shard shard, struct shard_request *request,
                      const struct reply *reply)
{
    return -EBUSY;
}

static raft_node lead(void *context, wal_shard shard)
{
    return 1;
}

static raft_node nobody(void *context, wal_shard shard, raft_node after)
{
    return 0;
}

static raft_index applied_nothing(void *context, wal_shard shard)
{
    return 0;
}

static void ignore_floor(void *context, wal_shard shard, const struct shard_floor *floor)
{
}

static int keep_sent(void *context, raft_node node, const struct bytes *pieces,
                     uint32_t piece_count)
{
    buffer_clear(&sent_message);
    for (uint32_t i = 0; i < piece_count; i++) {
        buffer_append(&sent_message, pieces[i]);
    }
    return 0;
}

/* Whoever asks for a shard that is not known yet is told at once that this node does not lead it, and
 * need not wait for silence; once it is added, while others are in use, it is granted. */
static void test_child(void **state)
{
    const struct route_options options = {
        .self = 1,
        .origin = 5,
        .host = {.clock = {.now_ms = at_one},
                 .submit_local = refuse_all,
                 .local_leader = lead,
                 .local_applied_index = applied_nothing,
                 .set_floor = ignore_floor,
                 .send = keep_sent,
                 .next_node = nobody},
    };
    struct route *route = NULL;
    assert_int_equal(route_create(&route, &options, NULL), 0);
    route_add_shard(route, 3);
    (void)route_tick(route);
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t ask[ROUTE__ASK_SIZE_BYTES];
        struct route_message told;
        route__encode_ask(ask, 4, 70 + i);
        assert_int_equal(route_receive(route, 2, 1, bytes_make(ask, sizeof ask)), 0);
        assert_int_equal(route__decode(buffer_bytes(&sent_message), &told), 0);
        assert_int_equal(told.kind, ROUTE_MESSAGE_TOLD);
        assert_int_equal(told.shard, 4);
        assert_int_equal(told.number, 70 + i);
        assert_int_equal(told.grant != 0, i == 1);
        if (i == 0) {
            route_add_shard(route, 4);
        }
    }
    route_destroy(route);
    buffer_deinit(&sent_message);
}

/* Options that contradict each other are refused. */
static void test_options(void **state)
{
    struct route *route = NULL;
    struct error error;
    assert_int_equal(route_create(&route, &(struct route_options){.self = 1}, &error), -EINVAL);
    assert_null(route);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_local),
        cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_node_of_older_software),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_hint),
        cmocka_unit_test(test_no_leader),
        cmocka_unit_test(test_leader_appears),
        cmocka_unit_test(test_leader_killed),
        cmocka_unit_test(test_leader_deposed),
        cmocka_unit_test(test_deaf_leader),
        cmocka_unit_test(test_lost_read),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_held_limit),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_connection_breaks),
        cmocka_unit_test(test_new_life),
        cmocka_unit_test(test_stale_read),
        cmocka_unit_test(test_price),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_moved_pipeline),
        cmocka_unit_test(test_child),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
