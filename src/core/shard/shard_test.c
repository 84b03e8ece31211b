/* SPDX-License-Identifier: Apache-2.0 */
/* A shard with a toy machine: SET, APPEND and GET of single rows; a value that begins with "late"
 * has expired unless the log says otherwise. The test is the host: it decides what is durable
 * when. */
#include "core/shard/shard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/memstore/memstore.h"

enum { OPCODE_SET = 1, OPCODE_APPEND = 2, OPCODE_GET = 3, LOG_COUNT_MAX = 64 };

struct log_entry {
    raft_term term;
    struct buffer payload;
};

struct host {
    struct shard *shard;
    struct memstore *memstore;
    uint64_t wall_ms;
    uint64_t persisting_sequence;
    struct raft_hard_state hard_state;
    struct log_entry log[LOG_COUNT_MAX]; /* By index. */
    raft_index last_index;
    struct shard_read *read;
    int failed_status;
    uint32_t store_row_count;
    uint32_t executed_count;
};

/* ---- The machine ----------------------------------------------------------------------------- */

static int toy_load(void *context, struct rows *rows, struct bytes saved, struct error *error)
{
    return 0;
}

static void toy_save(void *context, struct buffer *saved)
{
}

static int toy_get(struct rows *rows, const struct shard_command *command,
                   const struct reply *reply, bool is_late_secret)
{
    struct bytes value;
    int status = rows_get(rows, command->arguments[0], &value);
    if (status == -ENOENT) {
        reply_null(reply);
        return 0;
    }
    if (status == 0 && bytes_have_prefix(value, BYTES("late"))) {
        if (is_late_secret) {
            return ERROR_EXPIRED_SEEN;
        }
        reply_null(reply);
        return 0;
    }
    if (status == 0) {
        reply_bulk(reply, value);
    }
    return status;
}

static int toy_execute(void *context, struct rows *rows, const struct shard_stamp *stamp,
                       const struct shard_command *command, const struct reply *reply)
{
    struct host *host = context;
    host->executed_count++;
    struct bytes value = {0};
    struct buffer joined = {0};
    int status = 0;
    switch (command->opcode) {
    case OPCODE_SET:
        rows_put(rows, command->arguments[0], command->arguments[1]);
        reply_ok(reply);
        return 0;
    case OPCODE_APPEND:
        status = rows_get(rows, command->arguments[0], &value);
        buffer_append(&joined, status == 0 ? value : bytes_make(NULL, 0));
        buffer_append(&joined, command->arguments[1]);
        rows_put(rows, command->arguments[0], buffer_bytes(&joined));
        reply_integer(reply, (int64_t)joined.size_bytes);
        buffer_deinit(&joined);
        return 0;
    default:
        return toy_get(rows, command, reply, false);
    }
}

static int toy_read(void *context, struct rows *rows, const struct shard_moment *moment,
                    const struct shard_command *command, const struct reply *reply)
{
    return toy_get(rows, command, reply, moment->durable_time_ms < moment->time_ms);
}

static int toy_prefetch(void *context, struct rows *rows, const struct shard_command *command)
{
    struct bytes value;
    int status = rows_get(rows, command->arguments[0], &value);
    return status == ERROR_INCOMPLETE ? status : 0;
}

static bool toy_background(void *context, struct rows *rows, uint64_t time_ms,
                           struct shard_command *command, uint64_t *next_ms)
{
    *next_ms = UINT64_MAX;
    return false;
}

/* ---- The host -------------------------------------------------------------------------------- */

static uint64_t host_clock(void *context)
{
    return ((struct host *)context)->wall_ms;
}

static void host_persist(void *context, struct shard *shard, const struct wal_record *record,
                         uint64_t sequence)
{
    struct host *host = context;
    assert_int_equal(sequence, host->persisting_sequence + 1);
    host->persisting_sequence = sequence;
    if (record->kind == WAL_RECORD_HARD_STATE) {
        host->hard_state = record->hard_state;
        return;
    }
    assert_int_equal(record->index, host->last_index + 1);
    host->last_index = record->index;
    host->log[record->index].term = record->term;
    buffer_clear(&host->log[record->index].payload);
    buffer_append(&host->log[record->index].payload, record->payload);
}

static int host_read_elsewhere(void *context, struct shard_read *read)
{
    struct host *host = context;
    if (host->read != NULL) {
        return -EBUSY;
    }
    host->read = read;
    return 0;
}

static int host_load_entry(void *context, wal_shard shard, raft_index index, raft_term *term,
                           struct buffer *payload, struct error *error)
{
    struct host *host = context;
    assert_in_range(index, 1, host->last_index);
    *term = host->log[index].term;
    buffer_append(payload, buffer_bytes(&host->log[index].payload));
    return 0;
}

static void host_failed(void *context, struct shard *shard, int status, const struct error *error)
{
    ((struct host *)context)->failed_status = status;
}

static void start(struct host *host, bool has_log)
{
    struct error error = {0};
    struct shard_options options = {
        .id = 1,
        .self = 1,
        .store = memstore_interface(host->memstore),
        .cache_size_bytes = 1 << 20,
        .store_row_count = host->store_row_count,
        .in_flight_size_bytes_max = 1 << 20,
        .machine = {host, toy_load, toy_save, toy_execute, toy_read, toy_prefetch, toy_background},
        .host = {host,
                 {host, host_clock, host_clock},
                 host_persist,
                 host_read_elsewhere,
                 host_load_entry,
                 host_failed},
    };
    assert_int_equal(shard_open(&host->shard, &options, &error), 0);
    host->persisting_sequence = 0;
    struct wal_shard_state state = {
        .shard = 1,
        .hard_state = host->hard_state,
        .first_index = 1,
        .last_index = host->last_index,
        .last_term = host->log[host->last_index].term,
    };
    assert_int_equal(shard_start(host->shard, has_log ? &state : NULL, &error), 0);
}

/* Make everything durable, again and again until nothing new comes. */
static void settle(struct host *host)
{
    uint64_t done = 0;
    while (done < host->persisting_sequence) {
        done = host->persisting_sequence;
        shard_persisted(host->shard, done);
        (void)shard_tick(host->shard);
    }
}

static struct host *create(void)
{
    struct host *host = memory_allocate_zeroed(1, sizeof *host);
    host->memstore = memstore_create(7);
    host->wall_ms = 1000;
    host->store_row_count = 1;
    start(host, false);
    settle(host);
    assert_true(shard_is_ready(host->shard));
    return host;
}

static void destroy(struct host *host)
{
    shard_close(host->shard);
    memstore_destroy(host->memstore);
    for (int i = 0; i < LOG_COUNT_MAX; i++) {
        buffer_deinit(&host->log[i].payload);
    }
    memory_free(host);
}

/* ---- A client -------------------------------------------------------------------------------- */

struct client {
    struct shard_request request;
    struct shard_session session;
    struct bytes arguments[2];
    struct buffer answer;
    uint32_t answer_count;
};

static void client_done(struct shard_request *request, struct bytes reply)
{
    struct client *client = (struct client *)request;
    buffer_append(&client->answer, reply);
    client->answer_count++;
}

static int submit(struct host *host, struct client *client, struct shard_session *session,
                  uint16_t opcode, const char *key, const char *value)
{
    *client = (struct client){0};
    client->arguments[0] = bytes_of_text(key);
    client->arguments[1] = bytes_of_text(value);
    client->request = (struct shard_request){
        .command = {opcode, opcode == OPCODE_GET ? 1 : 2, client->arguments},
        .protocol = 2,
        .is_write = opcode != OPCODE_GET,
        .does_grow = true,
        .done = client_done,
        .session = session,
    };
    struct reply reply = {&client->answer, 2};
    int submitted = shard_submit(host->shard, &client->request, &reply);
    client->answer_count = submitted == SHARD_ANSWERED;
    /* The arguments were borrowed for the call only. */
    client->arguments[0] = client->arguments[1] = BYTES("overwritten");
    return submitted;
}

static void expect(struct client *client, const char *answer)
{
    assert_int_equal(client->answer_count, 1);
    assert_int_equal(client->answer.size_bytes, strlen(answer));
    assert_memory_equal(client->answer.data, answer, strlen(answer));
    buffer_deinit(&client->answer);
}

/* ---- Claims ---------------------------------------------------------------------------------- */

/* I1: a write is answered when it is durable and applied, not before. */
static void a_write_is_answered_when_it_is_durable(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client set;
    assert_int_equal(submit(host, &set, &session, OPCODE_SET, "k", "v"), SHARD_PENDING);
    uint64_t before = host->persisting_sequence;
    (void)shard_tick(host->shard);
    assert_int_equal(host->persisting_sequence, before + 1);
    assert_int_equal(set.answer_count, 0);
    shard_persisted(host->shard, before);
    assert_int_equal(set.answer_count, 0);
    shard_persisted(host->shard, before + 1);
    expect(&set, "+OK\r\n");
    destroy(host);
}

/* I4: a pipelined read sees the writes before it; I5: another session sees only what is applied. */
static void a_session_sees_its_own_writes(void **state)
{
    struct host *host = create();
    struct shard_session mine;
    struct shard_session other;
    shard_session_init(&mine);
    shard_session_init(&other);
    struct client set, get, set2, get2, others;
    assert_int_equal(submit(host, &set, &mine, OPCODE_SET, "k", "1"), SHARD_PENDING);
    assert_int_equal(submit(host, &get, &mine, OPCODE_GET, "k", ""), SHARD_PENDING);
    (void)shard_tick(host->shard);
    /* A read behind an entry that has left already. */
    assert_int_equal(submit(host, &get2, &mine, OPCODE_GET, "k", ""), SHARD_PENDING);
    assert_int_equal(submit(host, &set2, &mine, OPCODE_APPEND, "k", "2"), SHARD_PENDING);
    assert_int_equal(submit(host, &others, &other, OPCODE_GET, "k", ""), SHARD_ANSWERED);
    expect(&others, "$-1\r\n");
    settle(host);
    expect(&set, "+OK\r\n");
    expect(&get, "$1\r\n1\r\n");
    expect(&get2, "$1\r\n1\r\n");
    settle(host);
    expect(&set2, ":2\r\n");
    destroy(host);
}

/* I2: a restart applies what the store lost, once, and nothing twice. */
static void a_restart_applies_each_entry_once(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client client;
    for (int i = 0; i < 6; i++) {
        (void)submit(host, &client, &session, OPCODE_APPEND, "k", "x");
        settle(host);
        buffer_deinit(&client.answer);
        if (i == 2) {
            memstore_flush(host->memstore);
        }
    }
    struct shard_statistics before;
    shard_get_statistics(host->shard, &before);
    shard_close(host->shard);
    memstore_lose_unflushed(host->memstore);
    host->executed_count = 0;
    start(host, true);
    assert_false(shard_is_ready(host->shard));
    assert_int_equal(submit(host, &client, &session, OPCODE_GET, "k", ""), ERROR_NOT_LEADER);
    settle(host);
    assert_int_equal(host->executed_count, 3);
    assert_int_equal(submit(host, &client, &session, OPCODE_GET, "k", ""), SHARD_ANSWERED);
    expect(&client, "$6\r\nxxxxxx\r\n");
    struct shard_statistics after;
    shard_get_statistics(host->shard, &after);
    assert_int_equal(after.applied_index,
                     before.applied_index + 1); /* The new term's empty entry. */
    assert_int_equal(after.term, before.term + 1);
    destroy(host);
}

/* A log that ends before what the store has applied has lost acknowledged entries. */
static void a_log_that_lost_entries_is_refused(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client client;
    (void)submit(host, &client, &session, OPCODE_SET, "k", "v");
    settle(host);
    buffer_deinit(&client.answer);
    shard_close(host->shard);
    host->last_index--;
    struct error error = {0};
    struct shard_options options = {
        .id = 1,
        .self = 1,
        .store = memstore_interface(host->memstore),
        .cache_size_bytes = 1 << 20,
        .store_row_count = host->store_row_count,
        .in_flight_size_bytes_max = 1 << 20,
        .machine = {host, toy_load, toy_save, toy_execute, toy_read, toy_prefetch, toy_background},
        .host = {host,
                 {host, host_clock, host_clock},
                 host_persist,
                 host_read_elsewhere,
                 host_load_entry,
                 host_failed},
    };
    assert_int_equal(shard_open(&host->shard, &options, &error), 0);
    struct wal_shard_state found = {
        .shard = 1, .hard_state = host->hard_state, .last_index = 1, .last_term = 1};
    assert_int_equal(shard_start(host->shard, &found, &error), ERROR_CORRUPT);
    destroy(host);
}

/* A batch that the store refuses is kept; its answers wait, and so do later writes. */
static void a_stalled_store_delays_answers(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client first, second;
    memstore_set_faults(host->memstore, (struct memstore_faults){.busy_percent = 100});
    (void)submit(host, &first, &session, OPCODE_APPEND, "k", "a");
    (void)shard_tick(host->shard);
    shard_persisted(host->shard, host->persisting_sequence);
    assert_int_equal(first.answer_count, 0);
    (void)submit(host, &second, &session, OPCODE_APPEND, "k", "b");
    (void)shard_tick(host->shard);
    shard_persisted(host->shard, host->persisting_sequence);
    assert_int_equal(second.answer_count, 0);
    memstore_set_faults(host->memstore, (struct memstore_faults){0});
    (void)shard_tick(host->shard);
    expect(&first, ":1\r\n");
    expect(&second, ":2\r\n");
    destroy(host);
}

/* A batch that the store has refused is not in it, so the log must keep its entry. */
static void what_the_store_refused_is_not_applied(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client set;
    assert_int_equal(shard_settle(host->shard), 0);
    raft_index before = shard_stored_index(host->shard);
    memstore_set_faults(host->memstore, (struct memstore_faults){.busy_percent = 100});
    (void)submit(host, &set, &session, OPCODE_SET, "k", "v");
    (void)shard_tick(host->shard);
    shard_persisted(host->shard, host->persisting_sequence);
    assert_int_equal(shard_stored_index(host->shard), before);
    memstore_set_faults(host->memstore, (struct memstore_faults){0});
    (void)shard_tick(host->shard);
    assert_int_equal(shard_stored_index(host->shard), before + 1);
    expect(&set, "+OK\r\n");
    destroy(host);
}

/* Entries are answered before the store has them, and go to it together: when they get old, or when
 * a reader elsewhere must see them. */
static void changes_go_to_the_store_together(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    shard_close(host->shard);
    host->store_row_count = 100;
    start(host, true);
    settle(host);
    assert_int_equal(shard_settle(host->shard), 0);
    raft_index before = shard_stored_index(host->shard);
    struct client client;
    for (int i = 0; i < 3; i++) {
        (void)submit(host, &client, &session, OPCODE_APPEND, "k", "x");
        settle(host);
        buffer_deinit(&client.answer);
        assert_int_equal(client.answer_count, 1);
    }
    assert_int_equal(shard_stored_index(host->shard), before);
    host->wall_ms += 1000;
    (void)shard_tick(host->shard);
    assert_int_equal(shard_stored_index(host->shard), before + 3);

    (void)submit(host, &client, &session, OPCODE_APPEND, "k", "x");
    settle(host);
    buffer_deinit(&client.answer);
    memstore_set_faults(host->memstore, (struct memstore_faults){.incomplete_percent = 100});
    assert_int_equal(submit(host, &client, &session, OPCODE_GET, "cold", ""), SHARD_PENDING);
    (void)shard_tick(host->shard);
    assert_int_equal(shard_stored_index(host->shard), before + 4);
    shard_read_run(host->read);
    shard_read_done(host->read);
    expect(&client, "$-1\r\n");

    /* A restart loses what the store did not get, and finds it in the log. */
    memstore_set_faults(host->memstore, (struct memstore_faults){0});
    (void)submit(host, &client, &session, OPCODE_APPEND, "k", "x");
    settle(host);
    buffer_deinit(&client.answer);
    shard_close(host->shard);
    start(host, true);
    settle(host);
    assert_int_equal(submit(host, &client, &session, OPCODE_GET, "k", ""), SHARD_ANSWERED);
    expect(&client, "$5\r\nxxxxx\r\n");
    destroy(host);
}

/* A store that stalls while the log is replayed delays the start and does not end it. */
static void a_stalled_replay_goes_on(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client client;
    (void)submit(host, &client, &session, OPCODE_SET, "k", "v");
    settle(host);
    expect(&client, "+OK\r\n");
    shard_close(host->shard);
    memstore_lose_unflushed(host->memstore);
    memstore_set_faults(host->memstore, (struct memstore_faults){.busy_percent = 100});
    start(host, true);
    settle(host);
    assert_false(shard_is_ready(host->shard));
    memstore_set_faults(host->memstore, (struct memstore_faults){0});
    (void)shard_tick(host->shard);
    assert_true(shard_is_ready(host->shard));
    assert_int_equal(submit(host, &client, &session, OPCODE_GET, "k", ""), SHARD_ANSWERED);
    expect(&client, "$1\r\nv\r\n");
    destroy(host);
}

/* I4: a cold read that turns out to need the log takes effect before what its session did later. */
static void a_cold_expired_read_keeps_its_place(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client client, get, set;
    (void)submit(host, &client, &session, OPCODE_SET, "k", "late");
    settle(host);
    expect(&client, "+OK\r\n");
    shard_close(host->shard);
    start(host, true); /* With a cold cache. */
    settle(host);
    host->wall_ms += 1000;
    memstore_set_faults(host->memstore, (struct memstore_faults){.incomplete_percent = 100});
    assert_int_equal(submit(host, &get, &session, OPCODE_GET, "k", ""), SHARD_PENDING);
    memstore_set_faults(host->memstore, (struct memstore_faults){0});
    assert_int_equal(submit(host, &set, &session, OPCODE_SET, "k", "new"), SHARD_PENDING);
    settle(host);
    (void)shard_tick(host->shard);
    settle(host);
    assert_int_equal(set.answer_count, 0);
    assert_non_null(host->read);
    shard_read_run(host->read);
    shard_read_done(host->read);
    host->read = NULL;
    (void)shard_tick(host->shard);
    settle(host);
    expect(&get, "$-1\r\n");
    expect(&set, "+OK\r\n");
    destroy(host);
}

/* What is not in memory is read elsewhere, as of the moment of the request. */
static void a_cold_read_goes_elsewhere(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client set, get, again;
    (void)submit(host, &set, &session, OPCODE_SET, "k", "v");
    settle(host);
    expect(&set, "+OK\r\n");
    memstore_flush(host->memstore);
    shard_close(host->shard);
    start(host, true);
    settle(host);
    memstore_set_faults(host->memstore, (struct memstore_faults){.incomplete_percent = 100});
    assert_int_equal(submit(host, &get, &session, OPCODE_GET, "k", ""), SHARD_PENDING);
    (void)shard_tick(host->shard);
    assert_non_null(host->read);
    /* A write to it needs the row too: it waits for room in the pool. */
    assert_int_equal(submit(host, &again, &session, OPCODE_APPEND, "k", "w"), SHARD_PENDING);
    struct shard_read *read = host->read;
    shard_read_run(read);
    host->read = NULL;
    shard_read_done(read);
    expect(&get, "$1\r\nv\r\n");
    (void)shard_tick(host->shard);
    assert_non_null(host->read);
    read = host->read;
    shard_read_run(read);
    host->read = NULL;
    shard_read_done(read);
    memstore_set_faults(host->memstore, (struct memstore_faults){0});
    (void)shard_tick(host->shard);
    settle(host);
    expect(&again, ":2\r\n");
    destroy(host);
}

/* The reads of a session go to the disk together, and are answered in order (I4). */
static void cold_reads_of_a_session_go_together(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client client, gets[3], append;
    const char *keys[] = {"a", "late", "b"};
    for (int i = 0; i < 3; i++) {
        (void)submit(host, &client, &session, OPCODE_SET, keys[i], keys[i]);
        settle(host);
        expect(&client, "+OK\r\n");
    }
    memstore_flush(host->memstore);
    shard_close(host->shard);
    start(host, true);
    settle(host);
    memstore_set_faults(host->memstore, (struct memstore_faults){.incomplete_percent = 100});
    host->wall_ms += 10; /* "late" expires, and nobody knows yet. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(submit(host, &gets[i], &session, OPCODE_GET, keys[i], ""), SHARD_PENDING);
    }
    assert_int_equal(submit(host, &append, &session, OPCODE_APPEND, "b", "!"), SHARD_PENDING);
    (void)shard_tick(host->shard);
    struct shard_read *read = host->read;
    host->read = NULL;
    shard_read_run(read);
    shard_read_done(read);
    expect(&gets[0], "$1\r\na\r\n");
    /* The second goes through the log, so the third, behind it, is not answered yet, nor is the
     * append done that is behind both. */
    assert_int_equal(gets[1].answer_count, 0);
    assert_int_equal(gets[2].answer_count, 0);
    memstore_set_faults(host->memstore, (struct memstore_faults){0});
    (void)shard_tick(host->shard);
    settle(host);
    expect(&gets[1], "$-1\r\n");
    expect(&gets[2], "$1\r\nb\r\n");
    expect(&append, ":2\r\n");
    destroy(host);
}

/* I5: that a key has expired is not told before the log says so. */
static void an_expiry_is_seen_through_the_log(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client set, get;
    (void)submit(host, &set, &session, OPCODE_SET, "k", "late");
    settle(host);
    expect(&set, "+OK\r\n");
    host->wall_ms += 10;
    assert_int_equal(submit(host, &get, &session, OPCODE_GET, "k", ""), SHARD_PENDING);
    assert_int_equal(get.answer_count, 0);
    (void)shard_tick(host->shard);
    settle(host);
    expect(&get, "$-1\r\n");
    destroy(host);
}

/* I3: the stamp never goes back, also over a restart. */
static void time_never_goes_back(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client client;
    host->wall_ms = 5000;
    (void)submit(host, &client, &session, OPCODE_SET, "k", "late");
    settle(host);
    expect(&client, "+OK\r\n");
    shard_close(host->shard);
    memstore_lose_unflushed(host->memstore);
    host->wall_ms = 10;
    start(host, true);
    settle(host);
    /* At 5000, which is durable, "late" is gone; at 10 it would be a secret still. */
    assert_int_equal(submit(host, &client, &session, OPCODE_GET, "k", ""), SHARD_ANSWERED);
    expect(&client, "$-1\r\n");
    destroy(host);
}

/* A full disk refuses what grows and nothing else. */
static void a_full_shard_refuses_what_grows(void **state)
{
    struct host *host = create();
    struct shard_session session;
    shard_session_init(&session);
    struct client client;
    shard_set_full(host->shard, true);
    assert_int_equal(submit(host, &client, &session, OPCODE_SET, "k", "v"), -ENOSPC);
    assert_int_equal(submit(host, &client, &session, OPCODE_GET, "k", ""), SHARD_ANSWERED);
    expect(&client, "$-1\r\n");
    shard_set_full(host->shard, false);
    assert_int_equal(submit(host, &client, &session, OPCODE_SET, "k", "v"), SHARD_PENDING);
    settle(host);
    expect(&client, "+OK\r\n");
    destroy(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_is_answered_when_it_is_durable),
        cmocka_unit_test(a_session_sees_its_own_writes),
        cmocka_unit_test(a_restart_applies_each_entry_once),
        cmocka_unit_test(a_log_that_lost_entries_is_refused),
        cmocka_unit_test(a_stalled_store_delays_answers),
        cmocka_unit_test(changes_go_to_the_store_together),
        cmocka_unit_test(what_the_store_refused_is_not_applied),
        cmocka_unit_test(a_stalled_replay_goes_on),
        cmocka_unit_test(a_cold_read_goes_elsewhere),
        cmocka_unit_test(a_cold_expired_read_keeps_its_place),
        cmocka_unit_test(cold_reads_of_a_session_go_together),
        cmocka_unit_test(an_expiry_is_seen_through_the_log),
        cmocka_unit_test(time_never_goes_back),
        cmocka_unit_test(a_full_shard_refuses_what_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
