/* SPDX-License-Identifier: Apache-2.0 */
/* Batches on their way to the store, and who waits for them. */
#include "core/shard/shard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_world.h"

static int failing_write(void *context, const struct env_change *changes, uint32_t change_count,
                         struct error *error)
{
    return error_say(error, -EIO, "the disk is broken");
}

/* I2: an entry is answered while the store is given its changes, and so is the next, as long as there
 * is room for its changes; then answers wait. */
static void a_batch_is_written_behind_the_answers(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client first, second, get;
    raft_index before = shard_stored_index(world->shard);
    (void)shard__world_submit(world, &first, &session, OPCODE_APPEND, "k", "a");
    (void)shard_tick(world->shard);
    shard_persisted(world->shard, world->persisting_sequence);
    shard__world_expect(&first, ":1\r\n");
    assert_non_null(world->write);
    (void)shard__world_submit(world, &second, &session, OPCODE_APPEND, "k", "b");
    (void)shard_tick(world->shard);
    shard_persisted(world->shard, world->persisting_sequence);
    assert_int_equal(second.answer_count, 0);
    assert_int_equal(shard_stored_index(world->shard), before);
    /* It is applied all the same: the log has it. */
    struct shard_session other;
    shard_session_init(&other);
    assert_int_equal(shard__world_submit(world, &get, &other, OPCODE_GET, "k", ""), SHARD_ANSWERED);
    shard__world_expect(&get, "$2\r\nab\r\n");
    assert_int_equal(shard_settle(world->shard), -EBUSY);
    shard_write_run(world->write);
    assert_int_equal(shard_stored_index(world->shard), before);
    shard__world_write(world);
    shard__world_expect(&second, ":2\r\n");
    assert_int_equal(shard_stored_index(world->shard), before + 1);
    shard__world_write(world);
    assert_int_equal(shard_stored_index(world->shard), before + 2);
    assert_int_equal(shard_settle(world->shard), 0);
    shard__world_destroy(world);
}

/* A batch that the store refuses is kept, and handed over again; what was gathered behind it waits,
 * and the log must keep all of it. */
static void a_stalled_store_delays_answers(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client first, second;
    raft_index before = shard_stored_index(world->shard);
    memstore_set_faults(world->memstore, (struct memstore_faults){.busy_percent = 100});
    (void)shard__world_submit(world, &first, &session, OPCODE_APPEND, "k", "a");
    shard__world_settle(world);
    shard__world_expect(&first, ":1\r\n");
    (void)shard__world_submit(world, &second, &session, OPCODE_APPEND, "k", "b");
    shard__world_settle(world);
    assert_int_equal(second.answer_count, 0);
    assert_int_equal(shard_stored_index(world->shard), before);
    assert_int_equal(shard_settle(world->shard), -EBUSY);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    world->wall_ms += 10;
    (void)shard_tick(world->shard);
    shard__world_write(world);
    shard__world_expect(&second, ":2\r\n");
    assert_int_equal(shard_stored_index(world->shard), before + 1);
    assert_int_equal(shard_settle(world->shard), -EBUSY); /* The second is under way. */
    shard__world_write(world);
    assert_int_equal(shard_stored_index(world->shard), before + 2);
    shard__world_destroy(world);
}

/* A batch that fails for good stops the shard. */
static void a_store_that_fails_is_reported(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    (void)shard__world_submit(world, &client, &session, OPCODE_SET, "k", "v");
    (void)shard_tick(world->shard);
    shard_persisted(world->shard, world->persisting_sequence);
    shard__world_expect(&client, "+OK\r\n");
    raft_index before = shard_stored_index(world->shard);
    world->store_ops.write = failing_write;
    shard__world_write(world);
    assert_int_equal(world->failed_status, -EIO);
    assert_int_equal(shard_stored_index(world->shard), before);
    assert_int_equal(shard_settle(world->shard), -EIO);
    shard__world_destroy(world);
}

/* I5: a read elsewhere waits until the store has what was answered before it, and no longer. */
static void a_cold_read_waits_for_the_store(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session, other;
    shard_session_init(&session);
    shard_session_init(&other);
    struct shard__client set, get, more;
    (void)shard__world_submit(world, &set, &session, OPCODE_SET, "k", "v");
    (void)shard_tick(world->shard);
    shard_persisted(world->shard, world->persisting_sequence);
    shard__world_expect(&set, "+OK\r\n");
    assert_non_null(world->write);
    memstore_set_faults(world->memstore, (struct memstore_faults){.incomplete_percent = 100});
    assert_int_equal(shard__world_submit(world, &get, &other, OPCODE_GET, "cold", ""),
                     SHARD_PENDING);
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    (void)shard_tick(world->shard);
    assert_null(world->read);
    /* What is applied later does not matter to it. */
    (void)shard__world_submit(world, &more, &session, OPCODE_SET, "k", "w");
    (void)shard_tick(world->shard);
    shard_persisted(world->shard, world->persisting_sequence);
    shard__world_write(world);
    assert_non_null(world->write);
    (void)shard_tick(world->shard);
    assert_non_null(world->read);
    shard_read_run(world->read);
    shard_read_done(world->read);
    world->read = NULL;
    shard__world_expect(&get, "$-1\r\n");
    shard__world_write(world);
    shard__world_expect(&more, "+OK\r\n");
    shard__world_destroy(world);
}

/* Entries are answered before the store has them, and go to it together: when they get old, or when
 * a reader elsewhere must see them. */
static void changes_go_to_the_store_together(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    shard_close(world->shard);
    world->store_row_count = 100;
    shard__world_start(world, true);
    shard__world_settle(world);
    assert_int_equal(shard_settle(world->shard), 0);
    raft_index before = shard_stored_index(world->shard);
    struct shard__client client;
    for (int i = 0; i < 3; i++) {
        (void)shard__world_submit(world, &client, &session, OPCODE_APPEND, "k", "x");
        shard__world_settle(world);
        buffer_deinit(&client.answer);
        assert_int_equal(client.answer_count, 1);
    }
    assert_int_equal(shard_stored_index(world->shard), before);
    world->wall_ms += 4000 - 1;
    shard__world_tick(world);
    assert_int_equal(shard_stored_index(world->shard), before);
    world->wall_ms += 1;
    shard__world_tick(world);
    assert_int_equal(shard_stored_index(world->shard), before + 3);

    (void)shard__world_submit(world, &client, &session, OPCODE_APPEND, "k", "x");
    shard__world_settle(world);
    buffer_deinit(&client.answer);
    memstore_set_faults(world->memstore, (struct memstore_faults){.incomplete_percent = 100});
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "cold", ""),
                     SHARD_PENDING);
    shard__world_tick(world);
    assert_int_equal(shard_stored_index(world->shard), before + 4);
    shard_read_run(world->read);
    shard_read_done(world->read);
    shard__world_expect(&client, "$-1\r\n");

    /* A restart loses what the store did not get, and finds it in the log. */
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    (void)shard__world_submit(world, &client, &session, OPCODE_APPEND, "k", "x");
    shard__world_settle(world);
    buffer_deinit(&client.answer);
    shard_close(world->shard);
    shard__world_start(world, true);
    shard__world_settle(world);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "k", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, "$5\r\nxxxxx\r\n");
    shard__world_destroy(world);
}

/* A store that stalls while the log is replayed delays the start and does not end it. */
static void a_stalled_replay_goes_on(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    static const char *const keys[] = {"k", "l", "m", "n", "o", "p"};
    for (int i = 0; i < 6; i++) { /* One batch is refused; what does not fit into the next waits. */
        (void)shard__world_submit(world, &client, &session, OPCODE_SET, keys[i], "v");
        shard__world_settle(world);
        shard__world_expect(&client, "+OK\r\n");
    }
    shard_close(world->shard);
    memstore_lose_unflushed(world->memstore);
    memstore_set_faults(world->memstore, (struct memstore_faults){.busy_percent = 100});
    shard__world_start(world, true);
    shard__world_settle(world);
    assert_false(shard_is_ready(world->shard));
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    world->wall_ms += 10; /* A refused batch rests for a moment. */
    shard__world_tick(world);
    assert_true(shard_is_ready(world->shard));
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "k", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, "$1\r\nv\r\n");
    shard__world_destroy(world);
}

static uint32_t get_count;

static int counting_get(void *context, const struct env_store_snapshot *snapshot,
                        enum env_tier tier, struct bytes key, struct buffer *value)
{
    get_count++;
    return memstore_interface(context).ops->get(context, snapshot, tier, key, value);
}

/* A replay fetches the rows that its commands read before it executes them: each once, however many
 * commands read it, and all of them together. */
static void a_replay_fetches_its_rows(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    static const char *const keys[] = {"a", "b", "c"};
    for (int i = 0; i < 60; i++) {
        (void)shard__world_submit(world, &client, &session, OPCODE_APPEND, keys[i % 3], "x");
        shard__world_settle(world);
        buffer_deinit(&client.answer);
    }
    shard_close(world->shard);
    memstore_lose_unflushed(world->memstore);
    for (int i = 0; i < 3; i++) {
        struct env_change change = {ENV_CHANGE_PUT, bytes_of_text(keys[i]), BYTES("-")};
        struct env_store store = memstore_interface(world->memstore);
        assert_int_equal(store.ops->write(store.context, &change, 1, NULL), 0);
    }
    world->run_part_count = 0;
    world->store_row_count = 1000;
    shard__world_start(world, true);
    world->store_ops.get = counting_get;
    get_count = 0;
    shard__world_settle(world);
    assert_true(shard_is_ready(world->shard));
    assert_int_equal(world->run_part_count, 1);
    assert_int_equal(get_count, 3);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "b", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, "$21\r\n-xxxxxxxxxxxxxxxxxxxx\r\n");
    shard__world_destroy(world);
}

/* While a batch is under way, a replay goes on until three more have gathered; hearing in time that it
 * is written, it never waits. Afterwards nothing but the next batch may gather. */
static void a_replay_does_not_wait_for_each_batch(void **state)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    char key[] = "a";
    for (int i = 0; i < 40; i++, key[0]++) {
        (void)shard__world_submit(world, &client, &session, OPCODE_SET, key, "v");
        shard__world_settle(world);
        shard__world_expect(&client, "+OK\r\n");
    }
    for (int is_heard = 0; is_heard < 2; is_heard++) {
        shard_close(world->shard);
        world->write = NULL;
        memstore_lose_unflushed(world->memstore);
        world->store_row_count = 4;
        world->executed_count = 0;
        world->is_write_over_when_polled = is_heard == 1;
        shard__world_start(world, true);
        for (uint64_t done = 0; done < world->persisting_sequence;) {
            done = world->persisting_sequence;
            shard_persisted(world->shard, done);
        }
        assert_int_equal(world->executed_count, is_heard == 1 ? 40 : 4 + 3 * 4);
        assert_int_equal(shard_is_ready(world->shard), is_heard == 1);
        if (is_heard == 0) {
            shard__world_settle(world);
            assert_int_equal(world->executed_count, 40);
        }
        shard__world_settle(world);
        assert_true(shard_is_ready(world->shard));
    }
    /* Four are on their way to the store, three gather, and the answer of the eighth waits. */
    world->is_write_over_when_polled = false;
    struct shard__client late[12];
    char late_key[] = "A";
    for (int i = 0; i < 12; i++, late_key[0]++) {
        (void)shard__world_submit(world, &late[i], &session, OPCODE_SET, late_key, "v");
        (void)shard_tick(world->shard);
        shard_persisted(world->shard, world->persisting_sequence);
        assert_int_equal(late[i].answer_count, i < 7);
    }
    shard__world_settle(world);
    for (int i = 0; i < 12; i++) {
        shard__world_expect(&late[i], "+OK\r\n");
    }
    shard__world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_written_behind_the_answers),
        cmocka_unit_test(a_stalled_store_delays_answers),
        cmocka_unit_test(a_store_that_fails_is_reported),
        cmocka_unit_test(a_cold_read_waits_for_the_store),
        cmocka_unit_test(changes_go_to_the_store_together),
        cmocka_unit_test(a_stalled_replay_goes_on),
        cmocka_unit_test(a_replay_fetches_its_rows),
        cmocka_unit_test(a_replay_does_not_wait_for_each_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
