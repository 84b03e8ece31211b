/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, entries and reads; what has to do with the store is in shard_store_test.c. */
#include "core/shard/shard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_world.h"

/* I1: a write is answered when it is durable and applied, not before. */
static void a_write_is_answered_when_it_is_durable(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client set;
    assert_int_equal(shard__world_submit(world, &set, &session, OPCODE_SET, "k", "v"),
                     SHARD_PENDING);
    uint64_t before = world->persisting_sequence;
    (void)shard_tick(world->shard);
    assert_int_equal(world->persisting_sequence, before + 1);
    assert_int_equal(set.answer_count, 0);
    shard_persisted(world->shard, before);
    assert_int_equal(set.answer_count, 0);
    shard_persisted(world->shard, before + 1);
    shard__world_expect(&set, "+OK\r\n");
    shard__world_destroy(world);
}

/* The rows of all commands of an entry are approached, each command's once and before it is executed; a command that is alone has nothing to gain. */
static void an_entry_approaches_its_rows(void **state)
{
    enum { COUNT = 70 };
    struct shard__world *world = shard__world_create();
    struct shard_session sessions[COUNT];
    struct shard__client clients[COUNT];
    world->approached_count = 0;
    world->late_approach_count = 0;
    world->executed_count = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        shard_session_init(&sessions[i]);
        assert_int_equal(shard__world_submit(world, &clients[i], &sessions[i], OPCODE_SET,
                                             i % 2 == 0 ? "k" : "l", "v"),
                         SHARD_PENDING);
    }
    assert_int_equal(world->approached_count, 0);
    shard__world_settle(world);
    assert_int_equal(world->executed_count, COUNT);
    assert_int_equal(world->approached_count, COUNT);
    assert_int_equal(world->late_approach_count, 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        shard__world_expect(&clients[i], "+OK\r\n");
    }
    shard__world_destroy(world);
}

/* Of one member alone: the first entry goes at once; while it is under way the next one waits until it has
 * sixteen commands, or one that is large, or the first is durable; a third waits for one of them. */
static void the_next_entry_waits_until_it_is_worth_a_flush(void **state)
{
    enum { COUNT = 64 };
    struct shard__world *world = shard__world_create();
    struct shard_session sessions[COUNT];
    struct shard__client clients[COUNT];
    static char large[20000];
    static const struct {
        uint32_t count;      /* So many commands come, */
        bool is_large;       /* the last of them large, */
        bool does_one_end;   /* after the oldest entry became durable; */
        uint32_t gone_count; /* then so many entries go. */
    } steps[] = {{1, false, false, 1},  {15, false, false, 0}, {1, false, false, 1},
                 {20, false, false, 0}, {0, false, true, 1},   {1, false, true, 0},
                 {1, false, true, 1},   {1, true, false, 1}};
    memset(large, 'v', sizeof large - 1);
    uint32_t client_count = 0;
    uint64_t durable = world->persisting_sequence;
    for (uint32_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        for (uint32_t j = 0; j < steps[i].count; j++) {
            struct shard__client *client = &clients[client_count];
            shard_session_init(&sessions[client_count]);
            bool is_large = steps[i].is_large && j + 1 == steps[i].count;
            assert_int_equal(shard__world_submit(world, client, &sessions[client_count++],
                                                 OPCODE_SET, "k", is_large ? large : "v"),
                             SHARD_PENDING);
        }
        uint64_t before = world->persisting_sequence;
        if (steps[i].does_one_end) {
            shard_persisted(world->shard, ++durable);
            shard__world_write(world);
        }
        (void)shard_tick(world->shard);
        assert_int_equal(world->persisting_sequence - before, steps[i].gone_count);
        assert_false(shard_wants_tick(world->shard));
    }
    shard__world_settle(world);
    for (uint32_t i = 0; i < client_count; i++) {
        shard__world_expect(&clients[i], "+OK\r\n");
    }
    shard__world_destroy(world);
}

/* I4: a pipelined read sees the writes before it; I5: another session sees only what is applied. */
static void a_session_sees_its_own_writes(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session mine;
    struct shard_session other;
    shard_session_init(&mine);
    shard_session_init(&other);
    struct shard__client set, get, set2, get2, others;
    assert_int_equal(shard__world_submit(world, &set, &mine, OPCODE_SET, "k", "1"), SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &get, &mine, OPCODE_GET, "k", ""), SHARD_PENDING);
    (void)shard_tick(world->shard);
    /* A read behind an entry that has left already. */
    assert_int_equal(shard__world_submit(world, &get2, &mine, OPCODE_GET, "k", ""), SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &set2, &mine, OPCODE_APPEND, "k", "2"),
                     SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &others, &other, OPCODE_GET, "k", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&others, "$-1\r\n");
    shard__world_settle(world);
    shard__world_expect(&set, "+OK\r\n");
    shard__world_expect(&get, "$1\r\n1\r\n");
    shard__world_expect(&get2, "$1\r\n1\r\n");
    shard__world_settle(world);
    shard__world_expect(&set2, ":2\r\n");
    shard__world_destroy(world);
}

/* I2: a restart applies what the store lost, once, and nothing twice. */
static void a_restart_applies_each_entry_once(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    for (int i = 0; i < 6; i++) {
        (void)shard__world_submit(world, &client, &session, OPCODE_APPEND, "k", "x");
        shard__world_settle(world);
        buffer_deinit(&client.answer);
        if (i == 2) {
            memstore_flush(world->memstore);
        }
    }
    struct shard_statistics before;
    shard_get_statistics(world->shard, &before);
    shard_close(world->shard);
    memstore_lose_unflushed(world->memstore);
    world->executed_count = 0;
    shard__world_start(world, true);
    assert_false(shard_is_ready(world->shard));
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "k", ""),
                     ERROR_NOT_LEADER);
    shard__world_settle(world);
    assert_int_equal(world->executed_count, 3);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "k", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, "$6\r\nxxxxxx\r\n");
    struct shard_statistics after;
    shard_get_statistics(world->shard, &after);
    assert_int_equal(after.applied_index,
                     before.applied_index + 1); /* The new term's empty entry. */
    assert_int_equal(after.term, before.term + 1);
    shard__world_destroy(world);
}

/* A log that ends before what the store has applied has lost acknowledged entries. */
static void a_log_that_lost_entries_is_refused(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    (void)shard__world_submit(world, &client, &session, OPCODE_SET, "k", "v");
    shard__world_settle(world);
    buffer_deinit(&client.answer);
    shard_close(world->shard);
    world->last_index--;
    struct error error = {0};
    struct shard_options options = shard__world_options(world);
    assert_int_equal(shard_open(&world->shard, &options, &error), 0);
    struct wal_shard_state found = {
        .shard = 1, .hard_state = world->hard_state, .last_index = 1, .last_term = 1};
    assert_int_equal(shard_start(world->shard, &found, &error), ERROR_CORRUPT);
    shard__world_destroy(world);
}

/* What others have in flight does not hold up a shard that has little: their groups may have no quorum. */
static void others_do_not_hold_it_up(void **state)
{
    enum { MOST = 1 << 20, SHARD_COUNT = 4, EVEN_HALF = MOST / 2 / SHARD_COUNT };
    struct shard__world *world = shard__world_create();
    struct shard_account account = {.in_flight_size_bytes = 2 * MOST,
                                    .shard_count = SHARD_COUNT - 1};
    shard_close(world->shard);
    world->account = &account;
    shard__world_start(world, true);
    shard__world_settle(world);
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client first, second, third, last;
    char large[EVEN_HALF] = {0};
    memset(large, 'v', sizeof large - 1);
    assert_int_equal(shard__world_submit(world, &first, &session, OPCODE_SET, "a", "1"),
                     SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &second, &session, OPCODE_SET, "a", "2"),
                     SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &third, &session, OPCODE_SET, "a", large), -EBUSY);
    account.in_flight_size_bytes -= 2 * MOST;
    assert_int_equal(shard__world_submit(world, &last, &session, OPCODE_SET, "a", large),
                     SHARD_PENDING);
    shard__world_settle(world);
    shard__world_expect(&first, "+OK\r\n");
    shard__world_expect(&second, "+OK\r\n");
    shard__world_expect(&last, "+OK\r\n");
    assert_int_equal(account.in_flight_size_bytes, 0);
    shard__world_destroy(world);
}

/* A command that is larger than what may be under way need not wait until nothing is: where there are always others,
 * it never would be. */
static void a_larger_command_has_its_turn(void **state)
{
    enum { MOST = 1 << 20 };
    static char larger[MOST + 1];
    memset(larger, 'v', MOST);
    for (int is_shared = 0; is_shared <= 1; is_shared++) {
        struct shard__world *world = shard__world_create();
        struct shard_account account = {0};
        shard_close(world->shard);
        world->account = is_shared ? &account : NULL;
        shard__world_start(world, true);
        shard__world_settle(world);
        struct shard_session session;
        shard_session_init(&session);
        struct shard__client clients[4];
        const char *const values[4] = {"1", larger, larger, "2"};
        const int expected[4] = {SHARD_PENDING, SHARD_PENDING, -EBUSY, -EBUSY};
        for (uint32_t i = 0; i < 4; i++) {
            assert_int_equal(
                shard__world_submit(world, &clients[i], &session, OPCODE_SET, "a", values[i]),
                expected[i]);
        }
        shard__world_settle(world);
        shard__world_expect(&clients[0], "+OK\r\n");
        shard__world_expect(&clients[1], "+OK\r\n");
        shard__world_destroy(world);
    }
}

static raft_index last_index_of(const struct shard *shard)
{
    struct shard_statistics statistics;
    shard_get_statistics(shard, &statistics);
    return statistics.last_index;
}

/* While others' entries are under way what is gathered waits, and grows. Its
 * own entries are counted as long as they are under way. */
static void others_set_the_pace(void **state)
{
    struct shard__world *world = shard__world_create();
    struct pace pace = {0};
    shard_close(world->shard);
    world->pace = &pace;
    shard__world_start(world, true);
    shard__world_settle(world);
    assert_int_equal(pace.in_flight_count, 0);
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client clients[2];
    uint64_t tickets[2] = {pace_enter(&pace), pace_enter(&pace)};
    assert_false(pace_tick(&pace, 1));
    raft_index last_index = last_index_of(world->shard);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(
            shard__world_submit(world, &clients[i], &session, OPCODE_SET, "a", i == 0 ? "1" : "2"),
            SHARD_PENDING);
        (void)shard_tick(world->shard);
        assert_true(shard_is_held(world->shard));
        assert_false(shard_wants_tick(world->shard));
    }
    assert_int_equal(last_index_of(world->shard), last_index);
    pace_leave(&pace, tickets[0]);
    assert_true(shard_wants_tick(world->shard));
    assert_false(shard_is_held(world->shard));
    assert_true(pace_tick(&pace, 2));
    (void)shard_tick(world->shard);
    assert_int_equal(last_index_of(world->shard), last_index + 1);
    assert_int_equal(pace.in_flight_count, 2);
    pace_leave(&pace, tickets[1]);
    shard__world_settle(world);
    shard__world_expect(&clients[0], "+OK\r\n");
    shard__world_expect(&clients[1], "+OK\r\n");
    assert_int_equal(pace.in_flight_count, 0);
    shard__world_destroy(world);
}

/* A log of which nothing is left ends where the state ends, or it is void: else what comes behind the state, a
 * snapshot's, would stand behind an end that is none of its own, and be given up at the start after the next. */
static void a_log_that_ends_elsewhere_is_void(void **state)
{
    for (int does_fit = 0; does_fit < 2; does_fit++) {
        struct shard__world *world = shard__world_create();
        struct shard_session session;
        shard_session_init(&session);
        struct shard__client client;
        (void)shard__world_submit(world, &client, &session, OPCODE_SET, "k", "v");
        shard__world_settle(world);
        shard__world_expect(&client, "+OK\r\n");
        raft_index applied = shard_applied_index(world->shard);
        raft_term term = world->log[applied].term;
        assert_int_equal(shard_stored_index(world->shard), applied);
        shard_close(world->shard);
        world->persisting_sequence = 0;
        struct shard_options options = shard__world_options(world);
        assert_int_equal(shard_open(&world->shard, &options, NULL), 0);
        struct wal_shard_state log = {.shard = 1,
                                      .hard_state = {.term = term + 1},
                                      .last_index = applied,
                                      .last_term = term + 1 - (raft_term)does_fit};
        assert_int_equal(shard_start(world->shard, &log, NULL), 0);
        shard__world_settle(world);
        assert_true(shard_is_ready(world->shard));
        assert_int_equal(world->first_index, does_fit ? 1 : applied + 1);
        shard__world_destroy(world);
    }
}

/* I4: a cold read that turns out to need the log takes effect before what its session did later. */
static void a_cold_expired_read_keeps_its_place(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client, get, set;
    (void)shard__world_submit(world, &client, &session, OPCODE_SET, "k", "late");
    shard__world_settle(world);
    shard__world_expect(&client, "+OK\r\n");
    shard_close(world->shard);
    shard__world_start(world, true); /* With a cold cache. */
    shard__world_settle(world);
    world->wall_ms += 1000;
    memstore_set_faults(world->memstore, (struct memstore_faults){.incomplete_percent = 100});
    assert_int_equal(shard__world_submit(world, &get, &session, OPCODE_GET, "k", ""),
                     SHARD_PENDING);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    assert_int_equal(shard__world_submit(world, &set, &session, OPCODE_SET, "k", "new"),
                     SHARD_PENDING);
    shard__world_settle(world);
    shard__world_tick(world);
    shard__world_settle(world);
    assert_int_equal(set.answer_count, 0);
    assert_non_null(world->read);
    shard_read_run(world->read);
    shard_read_done(world->read);
    world->read = NULL;
    shard__world_tick(world);
    shard__world_settle(world);
    shard__world_expect(&get, "$-1\r\n");
    shard__world_expect(&set, "+OK\r\n");
    shard__world_destroy(world);
}

/* What is not in memory is read elsewhere, as of the moment of the request. */
static void a_cold_read_goes_elsewhere(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client get, again;
    shard__world_put_and_start_cold(world, &session);
    assert_int_equal(shard__world_submit(world, &get, &session, OPCODE_GET, "k", ""),
                     SHARD_PENDING);
    shard__world_tick(world);
    assert_non_null(world->read);
    /* A write to it needs the row too: it waits for room in the pool. */
    assert_int_equal(shard__world_submit(world, &again, &session, OPCODE_APPEND, "k", "w"),
                     SHARD_PENDING);
    struct shard_read *read = world->read;
    shard_read_run(read);
    world->read = NULL;
    shard_read_done(read);
    shard__world_expect(&get, "$1\r\nv\r\n");
    shard__world_tick(world);
    assert_non_null(world->read);
    read = world->read;
    shard_read_run(read);
    world->read = NULL;
    shard_read_done(read);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    shard__world_tick(world);
    shard__world_settle(world);
    shard__world_expect(&again, ":2\r\n");
    shard__world_destroy(world);
}

/* I4: what waited behind a prefetch of an earlier reign is handed back with it, though the replica
 * leads again: it would take effect before the one that is submitted anew. */
static void what_waits_for_an_earlier_reign_goes_back(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client append, behind;
    shard__world_put_and_start_cold(world, &session);
    assert_int_equal(shard__world_submit(world, &append, &session, OPCODE_APPEND, "k", "1"),
                     SHARD_PENDING);
    shard__world_tick(world);
    assert_non_null(world->read);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    assert_int_equal(shard__world_submit(world, &behind, &session, OPCODE_APPEND, "k", "2"),
                     SHARD_PENDING);
    shard__world_depose(world);
    for (int i = 0; i < 1000 && !shard_is_ready(world->shard); i++) {
        world->wall_ms += 10;
        shard__world_tick(world);
        shard__world_settle(world);
    }
    assert_true(shard_is_ready(world->shard));
    struct shard_read *read = world->read;
    shard_read_run(read);
    world->read = NULL;
    shard_read_done(read);
    shard__world_settle(world);
    shard__world_expect_handed_back(&append);
    shard__world_expect_handed_back(&behind);
    shard__world_destroy(world);
}

/* A read may be ordered behind a change of the group, which has no commands; it is handed back from
 * there, too. */
static void a_read_behind_a_configuration_is_handed_back(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client set, get;
    assert_int_equal(shard__world_submit(world, &set, &session, OPCODE_SET, "k", "v"),
                     SHARD_PENDING);
    (void)shard_tick(world->shard);
    struct raft_configuration grown = {
        .voter_count = 1, .voters = {1}, .learner_count = 1, .learners = {2}};
    assert_int_equal(shard_configure(world->shard, &grown), 0);
    assert_int_equal(shard__world_submit(world, &get, &session, OPCODE_GET, "k", ""),
                     SHARD_PENDING);
    shard__world_depose(world);
    shard__world_expect_handed_back(&set);
    shard__world_expect_handed_back(&get);
    shard__world_destroy(world);
}

static void set_and_start_cold(struct shard__world *world, struct shard_session *session,
                               const char *const keys[3])
{
    struct shard__client client;
    for (int i = 0; i < 3; i++) {
        (void)shard__world_submit(world, &client, session, OPCODE_SET, keys[i], keys[i]);
        shard__world_settle(world);
        shard__world_expect(&client, "+OK\r\n");
    }
    memstore_flush(world->memstore);
    shard_close(world->shard);
    shard__world_start(world, true);
    shard__world_settle(world);
    memstore_set_faults(world->memstore, (struct memstore_faults){.incomplete_percent = 100});
}

/* The reads of a session go to the disk together, and are answered in order (I4). */
static void cold_reads_of_a_session_go_together(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client gets[3], append;
    const char *keys[] = {"a", "late", "b"};
    set_and_start_cold(world, &session, keys);
    world->wall_ms += 10; /* "late" expires, and nobody knows yet. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(shard__world_submit(world, &gets[i], &session, OPCODE_GET, keys[i], ""),
                         SHARD_PENDING);
    }
    assert_int_equal(shard__world_submit(world, &append, &session, OPCODE_APPEND, "b", "!"),
                     SHARD_PENDING);
    shard__world_tick(world);
    struct shard_read *read = world->read;
    world->read = NULL;
    shard_read_run(read);
    shard_read_done(read);
    shard__world_expect(&gets[0], "$1\r\na\r\n");
    /* The second goes through the log, so the third, behind it, is not answered yet, nor is the
     * append done that is behind both. */
    assert_int_equal(gets[1].answer_count, 0);
    assert_int_equal(gets[2].answer_count, 0);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    shard__world_tick(world);
    shard__world_settle(world);
    shard__world_expect(&gets[1], "$-1\r\n");
    shard__world_expect(&gets[2], "$1\r\nb\r\n");
    shard__world_expect(&append, ":2\r\n");
    shard__world_destroy(world);
}

static void run_elsewhere(struct shard__world *world)
{
    struct shard_read *read = world->read;
    assert_non_null(read);
    world->read = NULL;
    world->is_elsewhere = true;
    shard_read_run(read);
    world->is_elsewhere = false;
    shard_read_done(read);
}

/* But not what names nothing: it may ask for state that only this thread may look at. */
static void what_names_nothing_is_answered_here(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client gets[2], count;
    const char *keys[] = {"a", "b", "c"};
    set_and_start_cold(world, &session, keys);
    (void)shard__world_submit(world, &gets[0], &session, OPCODE_GET, "a", "");
    (void)shard__world_submit(world, &count, &session, OPCODE_COUNT, "", "");
    (void)shard__world_submit(world, &gets[1], &session, OPCODE_GET, "b", "");
    shard__world_tick(world);
    run_elsewhere(world);
    shard__world_expect(&gets[0], "$1\r\na\r\n");
    assert_int_equal(count.answer_count, 1);
    buffer_deinit(&count.answer);
    assert_int_equal(gets[1].answer_count, 0);
    shard__world_tick(world);
    run_elsewhere(world);
    shard__world_expect(&gets[1], "$1\r\nb\r\n");
    shard__world_destroy(world);
}

/* I5: that a key has expired is not told before the log says so. */
static void an_expiry_is_seen_through_the_log(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client set, get;
    (void)shard__world_submit(world, &set, &session, OPCODE_SET, "k", "late");
    shard__world_settle(world);
    shard__world_expect(&set, "+OK\r\n");
    world->wall_ms += 10;
    assert_int_equal(shard__world_submit(world, &get, &session, OPCODE_GET, "k", ""),
                     SHARD_PENDING);
    assert_int_equal(get.answer_count, 0);
    shard__world_tick(world);
    shard__world_settle(world);
    shard__world_expect(&get, "$-1\r\n");
    shard__world_destroy(world);
}

/* I3: the stamp never goes back, also over a restart. */
static void time_never_goes_back(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    world->wall_ms = 5000;
    (void)shard__world_submit(world, &client, &session, OPCODE_SET, "k", "late");
    shard__world_settle(world);
    shard__world_expect(&client, "+OK\r\n");
    shard_close(world->shard);
    memstore_lose_unflushed(world->memstore);
    world->wall_ms = 10;
    shard__world_start(world, true);
    shard__world_settle(world);
    /* At 5000, which is durable, "late" is gone; at 10 it would be a secret still. */
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "k", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, "$-1\r\n");
    shard__world_destroy(world);
}

/* A full disk refuses what grows and nothing else. */
static void a_full_shard_refuses_what_grows(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    shard_set_full(world->shard, true);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_SET, "k", "v"), -ENOSPC);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "k", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, "$-1\r\n");
    shard_set_full(world->shard, false);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_SET, "k", "v"),
                     SHARD_PENDING);
    shard__world_settle(world);
    shard__world_expect(&client, "+OK\r\n");
    shard__world_destroy(world);
}

/* Reads count when they are taken, writes when they are applied. */
static void reads_and_writes_are_counted(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    struct shard_statistics before;
    struct shard_statistics after;
    shard_get_statistics(world->shard, &before);
    (void)shard__world_submit(world, &client, &session, OPCODE_SET, "k", "v");
    shard__world_settle(world);
    shard__world_expect(&client, "+OK\r\n");
    for (int i = 0; i < 3; i++) {
        (void)shard__world_submit(world, &client, &session, OPCODE_GET, "k", "");
        shard__world_expect(&client, "$1\r\nv\r\n");
    }
    shard_get_statistics(world->shard, &after);
    assert_int_equal(after.read_count - before.read_count, 3);
    assert_int_equal(after.command_count - before.command_count, 1);
    shard__world_destroy(world);
}

static void ask(struct shard__world *world, struct shard_session *session, const char *key,
                uint16_t end_slot, int expected)
{
    struct shard__client client = {.arguments = {bytes_of_text(key)}};
    client.request = (struct shard_request){
        .command = {OPCODE_GET, 1, client.arguments},
        .protocol = 2,
        .may_be_stale = true,
        .end_slot = end_slot,
        .session = session,
    };
    struct reply reply = {.target = &client.answer, .protocol = 2};
    assert_int_equal(shard_submit(world->shard, &client.request, &reply), expected);
    buffer_deinit(&client.answer);
}

/* The leader knows which slots are asked for, by the requests that it has taken: not by what it refused, nor
 * by what is for no slot, nor by what was read here while another one led. */
static void demand_is_of_what_was_taken(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct demand_halves halves;
    for (int i = 0; i < 2000; i++) {
        ask(world, &session, i % 4 == 0 ? "c" : "d", SLOTS_COUNT, SHARD_ANSWERED);
        ask(world, &session, "0", SLOTS_COUNT, SHARD_ANSWERED);
        ask(world, &session, "y", SLOTS_COUNT / 2, SHARD_ANSWERED); /* Stale: it is answered. */
    }
    assert_true(shard_halve_demand(world->shard, 0, SLOTS_COUNT / 2, &halves));
    assert_in_range(halves.slot, 2 * SLOTS_COUNT / 26 + 1, 3 * SLOTS_COUNT / 26);
    assert_true(halves.lower < halves.upper);
    assert_true(halves.lower + halves.upper > 1000 && halves.lower + halves.upper < 3000);

    shard__world_depose(world);
    world->wall_ms += 3 * DEMAND_WINDOW_MS;
    for (int i = 0; i < 4000; i++) {
        ask(world, &session, "d", SLOTS_COUNT, SHARD_ANSWERED);
    }
    assert_false(shard_halve_demand(world->shard, 0, SLOTS_COUNT, &halves));
    shard__world_destroy(world);
}

/* A replica that was never given anything, as a node has of each shard that it is no member of, does not
 * say that there is nothing. */
static void who_has_nothing_answers_no_reads(void **state)
{
    struct shard__world *world = shard__world_create_bare(NULL);
    struct shard_session session;
    shard_session_init(&session);
    world->voter_count = 0;
    shard__world_start(world, false);
    ask(world, &session, "k", SLOTS_COUNT, ERROR_NOT_LEADER);
    shard__world_destroy(world);
}

/* What is written into the log of a replica that is not open is an entry with these members. */
static void members_can_be_written_as_an_entry(void **state)
{
    struct raft_configuration members = {.voter_count = 1, .voters = {7}};
    struct raft_configuration read;
    struct buffer payload = {0};
    uint64_t time_ms = 1;
    shard_configuration_payload(&members, &payload);
    struct bytes rest = bytes_make(payload.data + 1, payload.size_bytes - 1);
    assert_int_equal(payload.data[0], 3); /* docs/formats/entry.md */
    assert_int_equal(raft_configuration_decode(&read, rest), 0);
    assert_true(read.voter_count == 1 && read.voters[0] == 7 && read.outgoing_count == 0);
    assert_false(shard_entry_time(buffer_bytes(&payload), &time_ms));
    assert_false(shard_entry_time(BYTES(""), &time_ms));
    uint8_t head[SHARD_ENTRY_HEAD_SIZE_BYTES] = {1, 0, 0, 0, 0, 0, 0, 0, 0x39, 0x30};
    assert_true(shard_entry_time(bytes_make(head, sizeof head), &time_ms));
    assert_int_equal(time_ms, 12345);
    assert_false(shard_entry_time(bytes_make(head, sizeof head - 1), &time_ms));
    buffer_deinit(&payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_is_answered_when_it_is_durable),
        cmocka_unit_test(an_entry_approaches_its_rows),
        cmocka_unit_test(the_next_entry_waits_until_it_is_worth_a_flush),
        cmocka_unit_test(a_session_sees_its_own_writes),
        cmocka_unit_test(a_restart_applies_each_entry_once),
        cmocka_unit_test(a_log_that_lost_entries_is_refused),
        cmocka_unit_test(others_do_not_hold_it_up),
        cmocka_unit_test(a_larger_command_has_its_turn),
        cmocka_unit_test(others_set_the_pace),
        cmocka_unit_test(a_log_that_ends_elsewhere_is_void),
        cmocka_unit_test(a_cold_expired_read_keeps_its_place),
        cmocka_unit_test(a_cold_read_goes_elsewhere),
        cmocka_unit_test(what_waits_for_an_earlier_reign_goes_back),
        cmocka_unit_test(a_read_behind_a_configuration_is_handed_back),
        cmocka_unit_test(cold_reads_of_a_session_go_together),
        cmocka_unit_test(what_names_nothing_is_answered_here),
        cmocka_unit_test(an_expiry_is_seen_through_the_log),
        cmocka_unit_test(time_never_goes_back),
        cmocka_unit_test(a_full_shard_refuses_what_grows),
        cmocka_unit_test(reads_and_writes_are_counted),
        cmocka_unit_test(demand_is_of_what_was_taken),
        cmocka_unit_test(who_has_nothing_answers_no_reads),
        cmocka_unit_test(members_can_be_written_as_an_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
