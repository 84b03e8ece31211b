/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: from PREPARE to FINISH nothing sees or changes the keys of a part, not even time; each step may
 * come again and is done once; what is remembered survives a restart and FLUSHALL and goes in its
 * time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian/endian.h"
#include "base/trace/trace.h"
#include "service/kv/kv_participant.h"
#include "service/kv/kv_world.h"

enum { PLACE = 100, HOME = 7 };

static const struct txn_id id = {.origin = 5, .number = 1, .begun_ms = 1000000};

static char answer_of(struct kv__world *world)
{
    return world->answer.size_bytes == 0 ? '?' : (char)('0' + world->answer.data[0]);
}

static void execute(struct kv__world *world, uint16_t opcode, const struct bytes *arguments,
                    uint32_t count)
{
    const struct shard_command command = {opcode, count, arguments};
    struct shard_machine machine = kv_machine(world->kv);
    const struct shard_stamp stamp = {.time_ms = world->time_ms, .version = ++world->index << 16};
    const struct reply reply = {.target = &world->answer, .protocol = 2};
    buffer_clear(&world->answer);
    rows_set_tier(world->rows, ENV_TIER_MEMORY);
    (void)machine.prefetch(machine.context, world->rows, &command, &(uint64_t){0});
    rows_set_tier(world->rows, ENV_TIER_DISK);
    assert_int_equal(machine.execute(machine.context, world->rows, &stamp, &command, &reply), 0);
    assert_int_equal(rows_commit(world->rows, NULL), 0);
    buffer_clear(&world->saved);
    machine.save(machine.context, &world->saved);
}

/* One of the four, with a transaction behind the header of a PREPARE. */
static char step(struct kv__world *world, uint16_t opcode, enum txn_outcome outcome,
                 struct kv_transaction *transaction)
{
    const struct txn_header header = {
        .id = id,
        .place = opcode == KV_OPCODE_PREPARE || opcode == KV_OPCODE_FINISH ? PLACE : HOME,
        .home = HOME,
        .outcome = outcome,
    };
    uint8_t bytes[TXN_HEADER_SIZE_BYTES];
    uint8_t places[] = {PLACE, 0, 0, 0};
    struct bytes arguments[64];
    uint32_t count = 1;
    txn_header_encode(&header, bytes);
    arguments[0] = bytes_make(bytes, sizeof bytes);
    if (transaction != NULL) {
        bool does_grow;
        struct shard_command command = kv_transaction_command(transaction, &does_grow);
        memcpy(arguments + 1, command.arguments, command.argument_count * sizeof arguments[0]);
        count += command.argument_count;
    } else if (opcode == KV_OPCODE_DECIDE) {
        arguments[count++] = bytes_make(places, sizeof places);
    }
    execute(world, opcode, arguments, count);
    return answer_of(world);
}

static void add(struct kv_transaction *transaction, const char *name, const char *key,
                const char *value)
{
    const struct bytes arguments[] = {bytes_of_text(key),
                                      bytes_of_text(value == NULL ? "" : value)};
    kv_transaction_add(transaction, kv_command_find(bytes_of_text(name)), arguments,
                       value == NULL ? 1 : 2);
}

static bool must_wait(struct kv__world *world, const char *name, const char *key)
{
    const struct bytes argument = bytes_of_text(key);
    struct shard_machine machine = kv_machine(world->kv);
    const struct shard_command command = {kv_command_find(bytes_of_text(name))->opcode,
                                          key[0] == '\0' ? 0 : 1, &argument};
    return machine.must_wait(machine.context, &command);
}

static int read_status(struct kv__world *world, struct rows *rows, const char *key,
                       bool may_be_stale)
{
    const struct bytes argument = bytes_of_text(key);
    struct shard_machine machine = kv_machine(world->kv);
    const struct shard_command command = {kv_command_find(BYTES("get"))->opcode, 1, &argument};
    const struct shard_moment moment = {
        .time_ms = world->time_ms, .durable_time_ms = world->time_ms, .may_be_stale = may_be_stale};
    const struct reply reply = {.target = &world->answer, .protocol = 2};
    buffer_clear(&world->answer);
    return machine.read(machine.context, rows, &moment, &command, &reply);
}

static struct kv_transaction *open_world(struct kv__world *world)
{
    kv__world_init(world, 1);
    assert_string_equal(kv__world_say(world, "set a 1"), "+OK\r\n");
    struct kv_transaction *transaction = kv_transaction_create();
    add(transaction, "append", "a", "2");
    add(transaction, "get", "b", NULL);
    return transaction;
}

static void close_world(struct kv__world *world, struct kv_transaction *transaction)
{
    kv_transaction_destroy(transaction);
    kv__world_deinit(world);
}

static void verify(struct kv__world *world)
{
    struct error error = {0};
    if (kv_verify(memstore_interface(world->store), NULL, world->kv->key_count, &error) != 0) {
        fail_msg("%s", error.message);
    }
}

static void test_what_is_prepared_is_locked(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '1');
    for (int life = 0; life < 2; life++) {
        verify(&world);
        assert_true(must_wait(&world, "set", "a") && must_wait(&world, "get", "b"));
        assert_true(must_wait(&world, "flushall", "") && !must_wait(&world, "get", "c"));
        assert_true(!must_wait(&world, "dbsize", ""));
        rows_set_tier(world.rows, ENV_TIER_DISK);
        assert_int_equal(read_status(&world, world.rows, "a", false), ERROR_LOCKED);
        assert_int_equal(read_status(&world, world.rows, "a", true), 0);
        assert_int_equal(read_status(&world, world.rows, "c", false), 0);
        /* A worker sees it in the rows. */
        struct env_store store = memstore_interface(world.store);
        struct env_store_snapshot *snapshot = store.ops->snapshot_create(store.context);
        struct rows *elsewhere = rows_create_at(store, snapshot);
        assert_int_equal(read_status(&world, elsewhere, "a", false), ERROR_LOCKED);
        assert_int_equal(read_status(&world, elsewhere, "c", false), 0);
        rows_destroy(elsewhere);
        store.ops->snapshot_release(store.context, snapshot);
        /* Were it in the log all the same, it would change nothing. */
        assert_string_equal(kv__world_say(&world, "set a 9"),
                            "-TRYAGAIN a transaction holds the key\r\n");
        kv__world_restart(&world);
    }
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '1'); /* Again. */
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_COMMIT, NULL), '5');
    buffer_append_byte(&world.answer, 0);
    assert_string_equal((char *)world.answer.data + 1, "\x01:2\r\n$-1\r\n");
    assert_false(must_wait(&world, "set", "a"));
    assert_string_equal(kv__world_say(&world, "get a"), "$2\r\n12\r\n");
    /* Once is enough. */
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_COMMIT, NULL), '5');
    assert_int_equal(world.answer.size_bytes, 1);
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_ABORT, NULL), '5');
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '5');
    assert_string_equal(kv__world_say(&world, "get a"), "$2\r\n12\r\n");
    verify(&world);
    close_world(&world, transaction);
}

static void test_an_abort_is_remembered(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_ABORT, NULL), '6'); /* It overtakes. */
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '6');
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_COMMIT, NULL), '7');
    assert_string_equal(kv__world_say(&world, "flushall"), "+OK\r\n");
    kv__world_restart(&world);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '6');
    /* Until it is so old that a PREPARE is refused for its age. */
    world.time_ms = id.begun_ms + TXN_HORIZON_MS;
    for (int i = 0; i < 3; i++) {
        world.time_ms++;
        while (kv__world_background(&world)) {
            world.time_ms += 2 * KV_FORGET_DELAY_MS;
        }
    }
    assert_int_equal(world.kv->record_count, 0);
    assert_int_equal(memstore_row_count(world.store), 0);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '4');
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_ABORT, NULL), '6');
    assert_int_equal(memstore_row_count(world.store), 0);
    close_world(&world, transaction);
}

static void test_the_first_decision_stays(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    assert_int_equal(step(&world, KV_OPCODE_DECIDE, TXN_COMMIT, NULL), '5');
    assert_int_equal(step(&world, KV_OPCODE_DECIDE, TXN_ABORT, NULL), '5');
    assert_int_equal(world.kv->unfinished_count, 1);
    world.time_ms = id.begun_ms + 2 * TXN_HORIZON_MS;
    while (kv__world_background(&world)) {
        world.time_ms += 2 * KV_FORGET_DELAY_MS;
        if (world.time_ms > id.begun_ms + 3 * TXN_HORIZON_MS) {
            break;
        }
    }
    kv__world_restart(&world);
    /* Old, but not all have finished. */
    assert_int_equal(step(&world, KV_OPCODE_DECIDE, TXN_ABORT, NULL), '5');
    assert_int_equal(world.kv->unfinished_count, 1);
    assert_int_equal(step(&world, KV_OPCODE_FORGET, TXN_COMMIT, NULL), '8');
    assert_int_equal(world.kv->unfinished_count, 0);
    verify(&world);
    world.time_ms += 2 * KV_FORGET_DELAY_MS;
    assert_true(kv__world_background(&world));
    assert_int_equal(world.kv->record_count, 0);
    assert_int_equal(step(&world, KV_OPCODE_DECIDE, TXN_COMMIT, NULL), '4');
    assert_int_equal(world.kv->record_count, 0);
    close_world(&world, transaction);
}

static void test_watched_keys_are_compared_with_the_lock(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    kv_transaction_watch(transaction, BYTES("none"), 0);
    kv_transaction_watch(transaction, BYTES("a"), 77);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '3');
    assert_false(must_wait(&world, "set", "a"));
    assert_int_equal(world.kv->record_count, 0);
    close_world(&world, transaction);
}

static void test_time_stands_still_for_locked_keys(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    assert_string_equal(kv__world_say(&world, "pexpire a 50"), ":1\r\n");
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '1');
    world.time_ms += 100;
    for (int i = 0; i < 5; i++) {
        world.time_ms += 400;
        (void)kv__world_background(&world);
    }
    verify(&world);
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_COMMIT, NULL), '5');
    buffer_append_byte(&world.answer, 0);
    assert_string_equal((char *)world.answer.data + 2, ":2\r\n$-1\r\n");
    assert_string_equal(kv__world_say(&world, "get a"), "$-1\r\n");
    verify(&world);
    close_world(&world, transaction);
}

/* A leader has put the PREPARE of that transaction into its log. */
static void gather(struct kv__world *world, struct kv_transaction *transaction)
{
    struct shard_machine machine = kv_machine(world->kv);
    bool does_grow;
    struct shard_command part = kv_transaction_command(transaction, &does_grow);
    struct bytes arguments[32] = {BYTES("whatever")};
    memcpy(arguments + 1, part.arguments, part.argument_count * sizeof arguments[0]);
    const struct shard_command prepare = {KV_OPCODE_PREPARE, part.argument_count + 1, arguments};
    machine.gathered(machine.context, &prepare);
}

static void end_reign(struct kv__world *world)
{
    struct shard_machine machine = kv_machine(world->kv);
    machine.gathered(machine.context, NULL);
}

static void test_an_intent_is_as_good_as_a_lock(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    gather(&world, transaction);
    assert_true(must_wait(&world, "get", "a") && !must_wait(&world, "get", "c"));
    end_reign(&world);
    assert_false(must_wait(&world, "get", "a"));
    gather(&world, transaction);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '1');
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_ABORT, NULL), '6');
    assert_false(must_wait(&world, "get", "a"));
    close_world(&world, transaction);
}

#ifdef TUTTI_PLANTED_BUGS
static bool is_bug(void *context, const char *name)
{
    return strcmp(context, name) == 0;
}
#endif

/* The test above would see an intent that outlives its reign. */
static void test_an_intent_that_outlives_its_reign_is_seen(void **state)
{
    (void)state;
#ifdef TUTTI_PLANTED_BUGS
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    gather(&world, transaction);
    const struct trace_hooks hooks = {.context = "kv.intents_outlive_reign", .bug = is_bug};
    trace_set_hooks(&hooks);
    end_reign(&world);
    trace_set_hooks(NULL);
    assert_true(must_wait(&world, "get", "a"));
    close_world(&world, transaction);
#else
    skip();
#endif
}

/* A PREPARE of somebody: of transaction `number`, with one key or two. */
struct request {
    struct kv_transaction *transaction;
    struct bytes arguments[32];
    uint8_t header[TXN_HEADER_SIZE_BYTES];
    struct shard_command command;
};

static struct shard_command *make_prepare(struct request *request, uint64_t number, bool may_wait,
                                          const char *key, const char *other)
{
    const struct txn_header header = {
        .id = {id.origin, number, id.begun_ms}, .place = PLACE, .home = HOME, .may_wait = may_wait};
    bool does_grow;
    request->transaction = kv_transaction_create();
    add(request->transaction, "get", key, NULL);
    if (other != NULL) {
        add(request->transaction, "get", other, NULL);
    }
    struct shard_command part = kv_transaction_command(request->transaction, &does_grow);
    assert_in_range(part.argument_count, 1, 31);
    txn_header_encode(&header, request->header);
    request->arguments[0] = bytes_make(request->header, sizeof request->header);
    memcpy(request->arguments + 1, part.arguments,
           part.argument_count * sizeof request->arguments[0]);
    request->command =
        (struct shard_command){KV_OPCODE_PREPARE, part.argument_count + 1, request->arguments};
    return &request->command;
}

/* "goes", "waits" or "declines". */
static const char *way_of(struct kv__world *world, uint64_t number, bool may_wait, const char *key,
                          const char *other)
{
    struct shard_machine machine = kv_machine(world->kv);
    struct request request;
    const struct shard_command *command = make_prepare(&request, number, may_wait, key, other);
    const struct reply reply = {.target = &world->answer, .protocol = 2};
    const char *way = "goes";
    buffer_clear(&world->answer);
    if (machine.must_wait(machine.context, command)) {
        way = machine.declines(machine.context, command, &reply) ? "declines" : "waits";
        assert_true(way[0] == 'w' || answer_of(world) == '2');
    }
    kv_transaction_destroy(request.transaction);
    return way;
}

static void wait_for(struct kv__world *world, uint64_t number, const char *key, const char *other)
{
    struct shard_machine machine = kv_machine(world->kv);
    struct request request;
    machine.waits(machine.context, make_prepare(&request, number, true, key, other));
    kv_transaction_destroy(request.transaction);
}

static void test_a_prepare_passes_nobody(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    struct shard_machine machine = kv_machine(world.kv);
    assert_string_equal(way_of(&world, 2, false, "a", NULL), "goes");
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '1');
    assert_string_equal(way_of(&world, 1, false, "a", "b"), "goes"); /* Its own locks. */
    assert_string_equal(way_of(&world, 2, false, "c", "a"), "declines");
    assert_string_equal(way_of(&world, 2, true, "c", "a"), "waits");
    assert_string_equal(way_of(&world, 3, true, "c", "d"), "goes");
    wait_for(&world, 2, "c", "a");
    assert_string_equal(way_of(&world, 3, false, "c", "d"), "declines");
    assert_string_equal(way_of(&world, 3, true, "c", "d"), "waits");
    assert_string_equal(way_of(&world, 3, true, "d", NULL), "goes");
    /* What takes no lock only cares for locks. */
    assert_true(!must_wait(&world, "get", "c") && must_wait(&world, "get", "a"));
    /* Also when the lock is gone, until it was the other's turn. */
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_ABORT, NULL), '6');
    assert_false(must_wait(&world, "get", "a"));
    assert_string_equal(way_of(&world, 3, false, "c", NULL), "declines");
    machine.waits(machine.context, NULL);
    assert_string_equal(way_of(&world, 3, false, "c", NULL), "goes");
    /* Plain commands wait in the same line, FLUSHALL for all keys. */
    const struct bytes key = BYTES("e");
    const struct shard_command get = {kv_command_find(BYTES("get"))->opcode, 1, &key};
    const struct shard_command flush = {kv_command_find(BYTES("flushall"))->opcode, 0, NULL};
    machine.waits(machine.context, &get);
    assert_string_equal(way_of(&world, 3, false, "e", NULL), "declines");
    machine.waits(machine.context, NULL);
    machine.waits(machine.context, &flush);
    assert_string_equal(way_of(&world, 3, true, "e", NULL), "waits");
    machine.waits(machine.context, NULL);
    assert_string_equal(way_of(&world, 3, true, "e", NULL), "goes");
    close_world(&world, transaction);
}

static void test_the_line_is_bounded(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    char *key = calloc(KV_KEY_SIZE_BYTES_MAX + 1, 1);
    memset(key, 'x', KV_KEY_SIZE_BYTES_MAX);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '1');
    uint64_t count = 0;
    while (strcmp(way_of(&world, 2 + count, true, "a", key), "waits") == 0) {
        wait_for(&world, 2 + count++, "a", key);
        assert_in_range(count, 1, 10000);
    }
    assert_string_equal(way_of(&world, 2 + count, true, "a", key), "declines");
    assert_true(count * KV_KEY_SIZE_BYTES_MAX > 128 << 10);
    free(key);
    close_world(&world, transaction);
}

static void test_who_has_waited_too_long_gets_nothing(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    struct request request;
    const struct shard_command *command = make_prepare(&request, 2, true, "a", NULL);
    world.time_ms = id.begun_ms + TXN_WAIT_MS_MAX + 1;
    execute(&world, command->opcode, command->arguments, command->argument_count);
    assert_int_equal(answer_of(&world), '2');
    assert_int_equal(world.kv->record_count, 0);
    assert_false(must_wait(&world, "get", "a"));
    kv_transaction_destroy(request.transaction);
    command = make_prepare(&request, 2, false, "a", NULL); /* It never waited. */
    execute(&world, command->opcode, command->arguments, command->argument_count);
    assert_int_equal(answer_of(&world), '1');
    kv_transaction_destroy(request.transaction);
    close_world(&world, transaction);
}

/* Its coordinator gave it up while it waited: its turn comes, and it takes nothing. */
static void test_who_was_given_up_gets_nothing(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    struct request request;
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_ABORT, NULL), '6');
    const struct shard_command *command = make_prepare(&request, id.number, true, "a", NULL);
    execute(&world, command->opcode, command->arguments, command->argument_count);
    assert_int_equal(answer_of(&world), '6');
    assert_false(must_wait(&world, "get", "a"));
    kv_transaction_destroy(request.transaction);
    close_world(&world, transaction);
}

static void test_malformed_steps_change_nothing(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_transaction *transaction = open_world(&world);
    struct kv_transaction *keyless = kv_transaction_create();
    kv_transaction_add(keyless, kv_command_find(BYTES("dbsize")), NULL, 0);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, keyless), '0' + '-');
    assert_int_equal(step(&world, KV_OPCODE_FINISH, TXN_NONE, NULL), '0' + '-');
    assert_int_equal(step(&world, KV_OPCODE_DECIDE, TXN_NONE, NULL), '0' + '-');
    const struct bytes short_header[] = {BYTES("short"), BYTES("x")};
    static const uint16_t opcodes[] = {KV_OPCODE_PREPARE, KV_OPCODE_DECIDE, KV_OPCODE_FINISH,
                                       KV_OPCODE_FORGET};
    for (size_t i = 0; i < sizeof opcodes / sizeof opcodes[0]; i++) {
        execute(&world, opcodes[i], short_header, opcodes[i] == KV_OPCODE_FORGET ? 1 : 2);
        assert_int_equal(answer_of(&world), '0' + '-');
    }
    assert_int_equal(world.kv->record_count, 0);
    assert_int_equal(memstore_row_count(world.store), 1);
    kv_transaction_destroy(keyless);
    close_world(&world, transaction);
}

static bool count_found(void *context, const struct txn_unfinished *unfinished)
{
    (void)unfinished;
    ++*(uint32_t *)context;
    return true;
}

static void visit_at(struct kv__world *world, uint64_t now_ms, uint32_t *count)
{
    const struct kv_visit visit = {now_ms, 100, count_found, count};
    assert_true(kv_visit_unfinished(world->kv, &visit));
}

/* Claim: how long a part has been there is told by the clock of who asks. Its stamp may be hours ahead,
 * when a wall clock was wrong, and yet somebody has to look after it soon. */
static void test_age_is_not_that_of_stamps(void **state)
{
    (void)state;
    struct kv__world world;
    uint32_t count = 0;
    struct kv_transaction *transaction = open_world(&world);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '1');
    visit_at(&world, 0, &count);
    visit_at(&world, 99, &count);
    assert_int_equal(count, 0);
    visit_at(&world, 100, &count);
    assert_int_equal(count, 1);
    kv__world_restart(&world);
    visit_at(&world, 100, &count);
    assert_int_equal(count, 1);
    visit_at(&world, 200, &count);
    assert_int_equal(count, 2);
    close_world(&world, transaction);
}

/* Those of some shards that are found; so many are taken at a visit. */
struct finder {
    struct kv *shards[3];
    uint32_t room;
    uint32_t counts[300]; /* By number. */
};

static bool find(void *context, const struct txn_unfinished *unfinished)
{
    struct finder *finder = context;
    if (finder->room == 0) {
        return false;
    }
    finder->room--;
    finder->counts[unfinished->id.number]++;
    return true;
}

static struct kv *shard_of(void *context, uint32_t index)
{
    return ((struct finder *)context)->shards[index];
}

/* Claim: what cannot be finished does not keep what can from its turn, neither in its own shard nor in
 * others. 40 and 10 parts, 4 at a time, and never one that ends. */
static void test_everyone_has_a_turn(void **state)
{
    (void)state;
    enum { COUNT = 40, OTHER_COUNT = 10, ROOM = 4 };
    struct finder finder = {0};
    uint32_t next = 0;
    finder.shards[0] = kv_create();
    finder.shards[2] = kv_create();
    for (uint32_t i = 0; i < COUNT + OTHER_COUNT; i++) {
        const struct kv__unfinished part = {.id = {5, i, 1000}, .place = PLACE, .home = HOME};
        kv__unfinished_add(finder.shards[i < COUNT ? 0 : 2], &part);
    }
    for (uint64_t now_ms = 0; now_ms <= 2 * COUNT / ROOM; now_ms++) {
        const struct kv_visit visit = {now_ms, 1, find, &finder};
        finder.room = ROOM;
        kv_visit_unfinished_of_all(shard_of, 3, &next, &visit);
        assert_int_equal(finder.room, now_ms == 0 ? ROOM : 0); /* At first all are young. */
    }
    for (uint32_t i = 0; i < COUNT + OTHER_COUNT; i++) {
        assert_in_range(finder.counts[i], 1, i < COUNT ? 1 : COUNT / OTHER_COUNT);
    }
    kv_destroy(finder.shards[0]);
    kv_destroy(finder.shards[2]);
}

static void test_check_sees_locks_and_parts_that_disagree(void **state)
{
    (void)state;
    struct kv__world world;
    struct error error = {0};
    struct kv_transaction *transaction = open_world(&world);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, TXN_NONE, transaction), '1');
    struct env_store store = memstore_interface(world.store);
    uint8_t bytes[64];
    struct env_change change = {.kind = ENV_CHANGE_DELETE, .key = kv__lock_row(bytes, BYTES("b"))};
    assert_int_equal(store.ops->write(store.context, &change, 1, NULL), 0);
    assert_int_equal(kv_verify(store, NULL, 1, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, "has not locked its keys"));
    uint8_t record[KV_RECORD_ROW_SIZE_BYTES];
    change.key = kv__record_row(record, PLACE, KV_ROW_RECORD, id);
    assert_int_equal(store.ops->write(store.context, &change, 1, NULL), 0);
    assert_int_equal(kv_verify(store, NULL, 1, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, "a lock that no prepared part holds"));
    close_world(&world, transaction);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_prepared_is_locked),
        cmocka_unit_test(test_an_abort_is_remembered),
        cmocka_unit_test(test_the_first_decision_stays),
        cmocka_unit_test(test_watched_keys_are_compared_with_the_lock),
        cmocka_unit_test(test_time_stands_still_for_locked_keys),
        cmocka_unit_test(test_an_intent_is_as_good_as_a_lock),
        cmocka_unit_test(test_an_intent_that_outlives_its_reign_is_seen),
        cmocka_unit_test(test_a_prepare_passes_nobody),
        cmocka_unit_test(test_the_line_is_bounded),
        cmocka_unit_test(test_who_has_waited_too_long_gets_nothing),
        cmocka_unit_test(test_who_was_given_up_gets_nothing),
        cmocka_unit_test(test_malformed_steps_change_nothing),
        cmocka_unit_test(test_age_is_not_that_of_stamps),
        cmocka_unit_test(test_everyone_has_a_turn),
        cmocka_unit_test(test_check_sees_locks_and_parts_that_disagree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
