/* SPDX-License-Identifier: Apache-2.0 */
/* A shard of one replica becomes two (decision 18); shard_split_group_test.c has what takes several. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"
#include "core/shard/shard_world.h"

enum {
    BACKGROUND_MS = 200, /* Then the machine is asked again. */
    CHILD = 7,
    MIDDLE = SLOTS_COUNT / 2,
    META_3_SIZE_BYTES = 64
}; /* 'n' begins at the middle. */

static struct buffer meta_row(struct memstore *memstore, uint8_t shard)
{
    struct buffer row = {0};
    struct env_store store = memstore_interface(memstore);
    const uint8_t key[] = {0x01, 'S', 0, 0, 0, shard};
    (void)store.ops->get(store.context, NULL, ENV_TIER_DISK, bytes_make(key, sizeof key), &row);
    return row;
}

static void set(struct shard__world *world, const char *key, const char *value)
{
    struct shard__client client;
    struct shard_session session;
    shard_session_init(&session);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_SET, key, value),
                     SHARD_PENDING);
    shard__world_settle(world);
    shard__world_expect(&client, "+OK\r\n");
}

static void expect_row(struct shard__world *world, const char *key, const char *reply)
{
    struct shard__client client;
    struct shard_session session;
    shard_session_init(&session);
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, key, ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, reply);
}

/* SPLIT is in the log, and nothing is durable yet. */
static void begin_split(struct shard__world *world)
{
    world->split_child = CHILD;
    world->split_slot = MIDDLE;
    (void)shard_tick(world->shard);
    assert_true(world->is_split_gathered);
    assert_int_equal(world->child_count, 0);
}

static void split(struct shard__world *world)
{
    begin_split(world);
    shard__world_settle(world);
    shard__world_tick(world);
    assert_int_equal(world->child_count, 1);
}

/* Another replica of the same store: the child's. */
static struct shard__world *open_child(struct shard__world *world)
{
    struct shard__world *child = shard__world_create_bare(world->memstore);
    child->id = CHILD;
    child->first_slot = MIDDLE;
    shard__world_start(child, false);
    return child;
}

/* One batch has both meta rows: the child goes on from the entry, with the members and the rows that
 * were there. The parent ends where the child begins, also after a restart. */
static void test_one_becomes_two(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    set(world, "b", "1");
    set(world, "z", "2");
    split(world);
    assert_int_equal(world->child.shard, CHILD);
    assert_int_equal(world->child.first, MIDDLE);
    assert_int_equal(world->child.end, SLOTS_COUNT);
    assert_int_equal(world->child_index, shard_applied_index(world->shard));
    assert_int_equal(shard_stored_index(world->shard), world->child_index);
    assert_int_equal(shard_range(world->shard).end, MIDDLE);
    struct shard_statistics of_parent;
    struct shard_statistics of_child;
    shard_get_statistics(world->shard, &of_parent);

    struct shard__world *child = open_child(world);
    assert_int_equal(child->machine_range[0], MIDDLE);
    assert_int_equal(child->machine_range[1], SLOTS_COUNT);
    assert_string_equal(child->loaded, "of the child");
    assert_int_equal(shard_applied_index(child->shard), world->child_index);
    assert_false(shard_is_empty(child->shard));
    assert_true(raft_configurations_are_equal(shard_configuration(child->shard),
                                              shard_configuration(world->shard)));
    shard_get_statistics(child->shard, &of_child);
    assert_true(of_child.digest != of_parent.digest && of_child.digest != 0);
    shard__world_settle(child);
    assert_true(shard_is_ready(child->shard));
    expect_row(child, "z", "$1\r\n2\r\n");
    set(child, "z", "3");
    assert_true(shard_applied_index(child->shard) > world->child_index);
    set(world, "b", "4");

    shard__world_stop(world);
    shard__world_start(world, true);
    assert_int_equal(world->machine_range[1], MIDDLE);
    assert_int_equal(shard_range(world->shard).end, MIDDLE);
    shard__world_settle(world);
    assert_int_equal(world->child_count, 1); /* The store had it. */
    expect_row(world, "b", "$1\r\n4\r\n");
    shard__world_destroy(child);
    shard__world_destroy(world);
}

/* The version of the meta row tells whether there was a split; without one it is as ever. */
static void test_the_meta_row_tells_the_range_after_a_split(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    set(world, "b", "1");
    struct buffer row = meta_row(world->memstore, 1);
    size_t size = row.size_bytes;
    assert_int_equal(row.data[0], 2);
    assert_int_equal(endian_get_u32_le(row.data + 52), 0);
    assert_int_equal(size, 56 + endian_get_u32_le(row.data + 48));
    buffer_deinit(&row);
    split(world);
    row = meta_row(world->memstore, 1);
    assert_int_equal(row.data[0], 3);
    assert_int_equal(row.size_bytes, size + 8);
    assert_int_equal(endian_get_u64_le(row.data + 8), world->child_index);
    assert_int_equal(endian_get_u32_le(row.data + 56), 0);
    assert_int_equal(endian_get_u32_le(row.data + 60), MIDDLE);
    struct buffer of_child = meta_row(world->memstore, CHILD);
    assert_int_equal(of_child.data[0], 3);
    assert_memory_equal(of_child.data + 8, row.data + 8, 24); /* Index, term, stamp. */
    assert_memory_equal(of_child.data + 40, row.data + 40, 16);
    assert_int_equal(endian_get_u32_le(of_child.data + 56), MIDDLE);
    assert_int_equal(endian_get_u32_le(of_child.data + 60), SLOTS_COUNT);
    buffer_deinit(&of_child);
    buffer_deinit(&row);
    /* That there was a split is known at the next start, too: it is what others are asked for. */
    assert_int_equal(shard_split_index(world->shard), world->child_index);
    shard__world_stop(world);
    shard__world_start(world, true);
    assert_true(shard_split_index(world->shard) >= world->child_index);
    shard__world_destroy(world);
}

static void name_range(struct shard__client *client, uint32_t end_slot)
{
    client->request.first_slot = 0;
    client->request.end_slot = (uint16_t)end_slot;
}

static int submit_again(struct shard__world *world, struct shard__client *client, uint32_t end_slot,
                        bool is_retry)
{
    client->answer_count = 0;
    client->status = 0;
    client->arguments[0] = BYTES("b");
    client->arguments[1] = BYTES("x");
    client->request.command.arguments = client->arguments;
    client->request.is_retry = is_retry;
    name_range(client, end_slot);
    struct reply reply = {.target = &client->answer, .protocol = 2};
    int submitted = shard_submit(world->shard, &client->request, &reply);
    client->answer_count = submitted == SHARD_ANSWERED;
    return submitted;
}

/* What stands before SPLIT in its entry is answered. What comes behind it is not, neither reads nor
 * writes, until it is applied; then all goes back, in order, to be refused for the old range. */
static void test_what_waits_is_handed_back(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session sessions[3];
    for (int i = 0; i < 3; i++) {
        shard_session_init(&sessions[i]);
    }
    struct shard__client before, write, behind, read, stale;
    assert_int_equal(shard__world_submit(world, &before, &sessions[0], OPCODE_SET, "b", "1"),
                     SHARD_PENDING);
    begin_split(world);
    assert_int_equal(shard__world_submit(world, &write, &sessions[0], OPCODE_APPEND, "b", "x"),
                     SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &behind, &sessions[0], OPCODE_GET, "b", ""),
                     SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &read, &sessions[1], OPCODE_GET, "b", ""),
                     SHARD_PENDING);
    stale = (struct shard__client){.arguments = {BYTES("b")}};
    stale.request = read.request;
    stale.request.command = (struct shard_command){OPCODE_GET, 1, stale.arguments};
    stale.request.may_be_stale = true;
    stale.request.session = &sessions[2];
    struct reply reply = {.target = &stale.answer, .protocol = 2};
    assert_int_equal(shard_submit(world->shard, &stale.request, &reply), SHARD_ANSWERED);
    buffer_deinit(&stale.answer);
    (void)shard_tick(world->shard);
    assert_int_equal(write.answer_count + behind.answer_count + read.answer_count, 0);
    struct raft_configuration members = {
        .voter_count = 1, .voters = {1}, .learner_count = 1, .learners = {2}};
    assert_int_equal(shard_configure(world->shard, &members), -EBUSY);

    shard__world_settle(world);
    shard__world_expect(&before, "+OK\r\n");
    shard__world_expect_handed_back(&write);
    shard__world_expect_handed_back(&behind);
    shard__world_expect_handed_back(&read);
    assert_true(shard_is_ready(world->shard));
    assert_int_equal(submit_again(world, &write, SLOTS_COUNT, false), ERROR_MOVED);
    assert_int_equal(submit_again(world, &read, SLOTS_COUNT, false), ERROR_MOVED);
    read.request.may_be_stale = true;
    assert_int_equal(submit_again(world, &read, SLOTS_COUNT, false), ERROR_MOVED);
    assert_int_equal(submit_again(world, &write, MIDDLE, false), SHARD_PENDING);
    shard__world_settle(world);
    shard__world_expect(&write, ":2\r\n");
    /* Whoever knows of one more split waits until the replica has come to it, too. */
    assert_int_equal(submit_again(world, &write, MIDDLE / 2, false), -EBUSY);
    assert_int_equal(submit_again(world, &read, MIDDLE / 2, false), SHARD_ANSWERED); /* Stale. */
    buffer_deinit(&read.answer);
    read.request.may_be_stale = false;
    assert_int_equal(submit_again(world, &read, MIDDLE / 2, false), -EBUSY);
    assert_int_equal(submit_again(world, &read, 0, false), SHARD_ANSWERED);
    shard__world_expect(&read, "$2\r\n1x\r\n");
    shard__world_destroy(world);
}

/* I7: what took effect before the split is answered by the parent, under the old range too. What never
 * got into a log is refused, as a retry too: it had no effect. */
static void test_retries_are_looked_up_before_the_range(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client done, held;
    assert_int_equal(shard__world_submit(world, &done, &session, OPCODE_GET, "b", ""),
                     SHARD_ANSWERED);
    buffer_deinit(&done.answer);
    done.request.command.opcode = OPCODE_APPEND;
    done.request.command.argument_count = 2;
    done.request.is_write = true;
    done.request.origin = 5;
    done.request.sequence = 1;
    held = done;
    held.request.sequence = 2;
    held.request.known_index = shard_applied_index(world->shard);
    assert_int_equal(submit_again(world, &done, SLOTS_COUNT, false), SHARD_PENDING);
    begin_split(world);
    assert_int_equal(submit_again(world, &held, SLOTS_COUNT, false), SHARD_PENDING);
    assert_int_equal(
        submit_again(world, &(struct shard__client){.request = held.request}, SLOTS_COUNT, true),
        -EBUSY);
    shard__world_settle(world);
    shard__world_expect(&done, ":1\r\n");
    shard__world_expect_moved(&held);
    assert_int_equal(submit_again(world, &done, SLOTS_COUNT, true), SHARD_ANSWERED);
    shard__world_expect(&done, ":1\r\n");
    assert_int_equal(submit_again(world, &held, SLOTS_COUNT, true), ERROR_MOVED);
    assert_int_equal(submit_again(world, &held, MIDDLE, true), SHARD_PENDING);
    shard__world_settle(world);
    shard__world_expect(&held, ":2\r\n");
    shard__world_destroy(world);
}

/* A read that a worker has when SPLIT goes into the log is not answered any more, and comes back. */
static void test_reads_elsewhere_are_held(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct shard_session sessions[2];
    shard_session_init(&sessions[0]);
    shard_session_init(&sessions[1]);
    shard__world_put_and_start_cold(world, &sessions[0]);
    struct shard__client read, late;
    assert_int_equal(shard__world_submit(world, &read, &sessions[0], OPCODE_GET, "k", ""),
                     SHARD_PENDING);
    assert_int_equal(shard__world_submit(world, &late, &sessions[1], OPCODE_GET, "k", ""),
                     SHARD_PENDING);
    shard__world_tick(world);
    struct shard_read *under_way = world->read;
    assert_non_null(under_way);
    world->read = NULL;
    begin_split(world);
    shard_read_run(under_way);
    shard_read_done(under_way);
    assert_int_equal(read.answer_count, 0);
    (void)shard_tick(world->shard);
    under_way = world->read; /* The other one. */
    world->read = NULL;
    assert_non_null(under_way);
    shard_read_run(under_way);
    shard__world_settle(world);
    shard__world_expect_handed_back(&read);
    shard_read_done(under_way); /* Of an earlier reign. */
    shard__world_expect_handed_back(&late);
    shard__world_destroy(world);
}

/* A read goes through the log where it meets a key that has just expired, also one that may be stale. It
 * must not stand behind SPLIT there: neither in its entry, nor in the next one, where it would remove
 * what is the child's. */
static void late_read_behind_split(bool is_in_its_entry)
{
    struct shard__world *world = shard__world_create();
    struct shard_session sessions[2];
    struct shard__client first, like;
    shard_session_init(&sessions[0]);
    shard_session_init(&sessions[1]);
    set(world, "z", "late");
    assert_int_equal(shard__world_submit(world, &like, &sessions[1], OPCODE_GET, "b", ""),
                     SHARD_ANSWERED);
    buffer_deinit(&like.answer);
    if (is_in_its_entry) {
        (void)shard__world_submit(world, &first, &sessions[0], OPCODE_SET, "a", "1");
        (void)shard_tick(world->shard); /* SPLIT has to wait for this entry. */
        world->wall_ms += BACKGROUND_MS;
    }
    begin_split(world);
    uint32_t executed_count = world->executed_count;
    struct shard__client read = {.request = like.request, .arguments = {BYTES("z")}};
    read.request.command = (struct shard_command){OPCODE_GET, 1, read.arguments};
    read.request.may_be_stale = true;
    world->wall_ms++;
    struct reply reply = {.target = &read.answer, .protocol = 2};
    assert_int_equal(shard_submit(world->shard, &read.request, &reply), SHARD_PENDING);
    shard__world_settle(world);
    shard__world_tick(world);
    shard__world_settle(world);
    assert_int_equal(world->failed_status, 0);
    assert_int_equal(world->child_count, 1);
    shard__world_expect_handed_back(&read);
    assert_int_equal(world->executed_count - executed_count, is_in_its_entry ? 1 : 0);
    if (is_in_its_entry) {
        shard__world_expect(&first, "+OK\r\n");
    }
    shard__world_destroy(world);
}

static void test_a_late_read_does_not_stand_behind_a_split(void **state)
{
    (void)state;
    late_read_behind_split(true);
    late_read_behind_split(false);
}

/* SPLIT is applied, and its batch waits for the one before it. */
static void stall_a_split(struct shard__world *world, struct shard_session *session,
                          struct shard__client clients[2])
{
    assert_int_equal(shard__world_submit(world, &clients[0], session, OPCODE_SET, "a", "1"),
                     SHARD_PENDING);
    (void)shard_tick(world->shard);
    assert_int_equal(clients[0].answer_count, 0);
    assert_int_equal(shard__world_submit(world, &clients[1], session, OPCODE_SET, "b", "1"),
                     SHARD_PENDING);
    world->split_child = CHILD;
    world->split_slot = MIDDLE / 2;
    world->wall_ms += BACKGROUND_MS;
    (void)shard_tick(world->shard);
    assert_true(world->is_split_gathered);
    shard__propose_open(world->shard);
    shard_persisted(world->shard, world->persisting_sequence);
    assert_int_equal(world->child_count, 1);
    assert_int_equal(clients[1].answer_count, 0);
}

static struct shard_read *take_read(struct shard__world *world)
{
    struct shard_read *read = world->read;
    assert_non_null(read);
    world->read = NULL;
    return read;
}

/* What a worker begins while SPLIT is applied, and its batch stalled, comes back: the rows may be the child's. */
static void begun_while_stalled(bool is_write)
{
    struct shard__world *world = shard__world_create();
    struct shard_session sessions[3];
    struct shard__client occupant;
    struct shard__client client;
    struct shard__client stalled[2];
    for (int i = 0; i < 3; i++) {
        shard_session_init(&sessions[i]);
    }
    shard__world_put_and_start_cold(world, &sessions[0]);
    assert_int_equal(shard_settle(world->shard), 0);
    (void)shard__world_submit(world, &occupant, &sessions[0], OPCODE_GET, "k", "");
    (void)shard_tick(world->shard);
    (void)shard__world_submit(world, &client, &sessions[1], is_write ? OPCODE_APPEND : OPCODE_GET,
                              "k", is_write ? "x" : "");
    memstore_set_faults(world->memstore, (struct memstore_faults){0});
    struct shard_read *occupied = take_read(world);
    world->read = occupied; /* There is one worker. */
    stall_a_split(world, &sessions[2], stalled);
    world->read = NULL;
    shard_read_run(occupied);
    shard_read_done(occupied);
    shard__world_expect_handed_back(&occupant);
    (void)shard_tick(world->shard);
    struct shard_read *begun = take_read(world);
    while (world->write != NULL) {
        shard__world_write(world);
    }
    shard__world_expect(&stalled[0], "+OK\r\n");
    shard__world_expect(&stalled[1], "+OK\r\n");
    shard_read_run(begun);
    shard_read_done(begun);
    shard__world_settle(world);
    shard__world_expect_handed_back(&client);
    shard__world_destroy(world);
}

static void test_what_begins_while_a_split_is_stalled_comes_back(void **state)
{
    (void)state;
    begun_while_stalled(false);
    begun_while_stalled(true);
}

#ifdef TUTTI_PLANTED_BUGS
static bool is_bug(void *context, const char *name)
{
    return strcmp(context, name) == 0;
}
#endif

/* The check above can fail: with the bug planted, a read is answered while SPLIT is in the log. */
static void test_a_read_that_is_not_held_is_found(void **state)
{
    (void)state;
#ifdef TUTTI_PLANTED_BUGS
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client read;
    begin_split(world);
    const struct trace_hooks hooks = {.context = "shard.read_while_splitting", .bug = is_bug};
    trace_set_hooks(&hooks);
    int submitted = shard__world_submit(world, &read, &session, OPCODE_GET, "b", "");
    trace_set_hooks(NULL);
    assert_int_equal(submitted, SHARD_ANSWERED);
    buffer_deinit(&read.answer);
    shard__world_settle(world);
    shard__world_destroy(world);
#else
    skip();
#endif
}

/* A crash before the store has the batch: the replay gives birth to the very same child. */
static void test_a_replay_gives_birth_to_the_same_child(void **state)
{
    (void)state;
    struct buffer rows[2];
    for (int i = 0; i < 2; i++) {
        struct shard__world *world = shard__world_create();
        set(world, "b", "1");
        set(world, "z", "2");
        memstore_flush(world->memstore);
        begin_split(world);
        shard_persisted(world->shard, world->persisting_sequence);
        assert_int_equal(world->child_count, 1);
        assert_int_equal(shard_range(world->shard).end, SLOTS_COUNT); /* In the store. */
        if (i == 1) {
            shard__world_stop(world);
            memstore_lose_unflushed(world->memstore);
            rows[1] = meta_row(world->memstore, CHILD);
            assert_int_equal(rows[1].size_bytes, 0);
            shard__world_start(world, true);
            assert_int_equal(world->machine_range[1], SLOTS_COUNT);
            shard__world_settle(world);
            assert_int_equal(world->child_count, 2);
        }
        shard__world_tick(world);
        /* It is durable with what stood before it, before anybody opens it. */
        memstore_lose_unflushed(world->memstore);
        rows[i] = meta_row(world->memstore, CHILD);
        shard__world_destroy(world);
    }
    assert_true(rows[0].size_bytes > META_3_SIZE_BYTES);
    assert_true(bytes_equal(buffer_bytes(&rows[0]), buffer_bytes(&rows[1])));
    buffer_deinit(&rows[0]);
    buffer_deinit(&rows[1]);
}

/* Both begin with the same members, on every replica: not while these change. */
static void test_not_while_members_change(void **state)
{
    (void)state;
    struct shard__world *world = shard__world_create();
    struct raft_configuration members = {
        .voter_count = 1, .voters = {1}, .learner_count = 1, .learners = {2}};
    assert_int_equal(shard_configure(world->shard, &members), 0);
    world->split_child = CHILD;
    world->split_slot = MIDDLE;
    world->wall_ms += 1000;
    (void)shard_tick(world->shard);
    assert_false(world->is_split_gathered);
    shard__world_settle(world);
    world->wall_ms += 1000;
    (void)shard_tick(world->shard);
    assert_true(world->is_split_gathered);
    shard__world_settle(world);
    assert_int_equal(world->child_count, 1);
    shard__world_tick(world);
    struct shard__world *child = open_child(world);
    assert_true(raft_configurations_are_equal(shard_configuration(child->shard), &members));
    shard__world_destroy(child);
    shard__world_destroy(world);
}

/* SPLIT that contradicts the state stops the replica, and nothing is born. */
static void test_contradictions_are_corruption(void **state)
{
    (void)state;
    static const struct {
        wal_shard child;
        uint32_t slot;
    } wrong[] = {{CHILD, 0}, {CHILD, SLOTS_COUNT}, {CHILD, SLOTS_COUNT + 1}, {1, MIDDLE}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct shard__world *world = shard__world_create();
        world->split_child = wrong[i].child;
        world->split_slot = wrong[i].slot;
        world->machine_range[1] = 1; /* Else it would find that there is nothing to do. */
        (void)shard_tick(world->shard);
        assert_true(world->is_split_gathered);
        shard_persisted(world->shard, world->persisting_sequence);
        assert_int_equal(world->failed_status, ERROR_CORRUPT);
        assert_int_equal(world->child_count, 0);
        shard__world_destroy(world);
    }
}

/* A replica without any state whose log begins later than the first entry has lost its state: it has
 * acknowledged what it cannot apply. It goes on as one that is impaired, where others can repair it. */
static void test_a_log_without_a_state_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct shard__world *world = shard__world_create_bare(NULL);
        world->voter_count = 3;
        struct shard_options options = shard__world_options(world);
        assert_int_equal(shard_open(&world->shard, &options, NULL), 0);
        assert_true(shard_is_empty(world->shard));
        struct wal_shard_state log = {.shard = 1,
                                      .hard_state = {.term = 2},
                                      .first_index = 10,
                                      .last_index = 12,
                                      .last_term = 2,
                                      .previous_term = 2};
        struct error error = {0};
        if (i == 1) {
            assert_int_equal(shard_accept_loss(world->shard, &error), 0);
        }
        assert_int_equal(shard_start(world->shard, &log, &error), i == 0 ? ERROR_CORRUPT : 0);
        shard__world_destroy(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_becomes_two),
        cmocka_unit_test(test_the_meta_row_tells_the_range_after_a_split),
        cmocka_unit_test(test_what_waits_is_handed_back),
        cmocka_unit_test(test_retries_are_looked_up_before_the_range),
        cmocka_unit_test(test_reads_elsewhere_are_held),
        cmocka_unit_test(test_a_late_read_does_not_stand_behind_a_split),
        cmocka_unit_test(test_what_begins_while_a_split_is_stalled_comes_back),
        cmocka_unit_test(test_a_read_that_is_not_held_is_found),
        cmocka_unit_test(test_a_replay_gives_birth_to_the_same_child),
        cmocka_unit_test(test_not_while_members_change),
        cmocka_unit_test(test_contradictions_are_corruption),
        cmocka_unit_test(test_a_log_without_a_state_is_refused),
    };
    return cmocka_run_group_tests_name("shard_split", tests, NULL, NULL);
}
