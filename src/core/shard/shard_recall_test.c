/* SPDX-License-Identifier: Apache-2.0 */
/* What commands found when they were executed, in a replay. */
#include "core/shard/shard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/shard/shard_world.h"

enum { ENTRY_COUNT = 4 };

static raft_index first_needed(void *context, wal_shard shard)
{
    (void)context;
    (void)shard;
    return 1;
}

/* The log has so many entries of one SET each, and one APPEND, which the store has not. What they found
 * is appended to `file`. */
static struct shard__world *create_killed(struct buffer *file)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client clients[ENTRY_COUNT + 1];
    const char *keys[] = {"a", "b", "a", "c"};
    shard__world_stop(world);
    world->store_row_count = 1000;
    shard__world_start(world, true);
    shard__world_settle(world);
    recall_take(world->recall, 1, file);
    buffer_clear(file);
    for (uint32_t i = 0; i <= ENTRY_COUNT; i++) {
        bool is_last = i == ENTRY_COUNT;
        (void)shard__world_submit(world, &clients[i], &session,
                                  is_last ? OPCODE_APPEND : OPCODE_SET, is_last ? "d" : keys[i],
                                  "value");
        shard__world_settle(world);
        assert_int_equal(clients[i].answer_count, 1);
        buffer_deinit(&clients[i].answer);
    }
    assert_int_equal(world->known_count, 0);
    recall_take(world->recall, 1, file);
    assert_true(file->size_bytes > 0);
    shard__world_stop(world);
    return world;
}

static void replay(struct shard__world *world)
{
    world->run_part_count = 0;
    shard__world_start(world, true);
    shard__world_settle(world);
    assert_true(shard_is_ready(world->shard));
    struct shard_session session;
    shard_session_init(&session);
    struct shard__client client;
    assert_int_equal(shard__world_submit(world, &client, &session, OPCODE_GET, "c", ""),
                     SHARD_ANSWERED);
    shard__world_expect(&client, "$5\r\nvalue\r\n");
}

/* A command that is executed again is told what it found; whose row is needed all the same is fetched,
 * as the APPEND's. What was found is noted once more. */
static void a_replay_is_told_what_was_found(void **state)
{
    (void)state;
    struct buffer file = {0};
    struct shard__world *world = create_killed(&file);
    assert_int_equal(recall_load(world->recall, buffer_bytes(&file), first_needed, NULL),
                     file.size_bytes);
    replay(world);
    assert_int_equal(world->known_count, ENTRY_COUNT);
    size_t size_bytes = file.size_bytes;
    buffer_clear(&file);
    recall_take(world->recall, 1, &file);
    assert_int_equal(file.size_bytes, size_bytes);
    buffer_deinit(&file);
    shard__world_destroy(world);
}

/* Without it the same happens, and nobody is told anything. */
static void a_replay_does_without(void **state)
{
    (void)state;
    struct buffer file = {0};
    struct shard__world *world = create_killed(&file);
    replay(world);
    assert_int_equal(world->known_count, 0);
    buffer_deinit(&file);
    shard__world_destroy(world);
}

/* recall.h, I1: what was found on another state is not believed, though the entry is the same. */
static void another_state_is_not_believed(void **state)
{
    (void)state;
    struct buffer file = {0};
    struct shard__world *world = create_killed(&file);
    struct recall *other = recall_create();
    assert_int_equal(recall_load(other, buffer_bytes(&file), first_needed, NULL), file.size_bytes);
    uint32_t changed_count = 0;
    for (raft_index index = 1; index <= world->last_index; index++) {
        struct recall_entry entry = {.shard = world->id,
                                     .index = index,
                                     .term = world->log[index].term,
                                     .found = {.size_bytes = 1}};
        if (recall_find(other, &entry)) {
            entry.digest += changed_count++ == 0 ? 0 : 1;
            recall_note(world->recall, &entry);
        }
    }
    assert_int_equal(changed_count, ENTRY_COUNT);
    buffer_clear(&file);
    recall_take(world->recall, 1, &file);
    (void)recall_load(world->recall, buffer_bytes(&file), first_needed, NULL);
    replay(world);
    assert_int_equal(world->known_count, 1);
    recall_destroy(other);
    buffer_deinit(&file);
    shard__world_destroy(world);
}

static void append_done(struct shard_request *request, int status, struct bytes reply)
{
    (void)request;
    (void)reply;
    assert_int_equal(status, 0);
}

/* Submit an APPEND with an identity; what shard_submit() says. */
static int append(struct shard__world *world, struct shard_session *session, uint64_t sequence,
                  bool is_retry, struct buffer *answer)
{
    static struct shard_request request;
    struct bytes arguments[] = {BYTES("k"), BYTES("x")};
    request = (struct shard_request){.command = {OPCODE_APPEND, 2, arguments},
                                     .protocol = 2,
                                     .is_write = true,
                                     .done = append_done,
                                     .session = session,
                                     .origin = 5,
                                     .sequence = sequence,
                                     .is_retry = is_retry};
    struct reply reply = {.target = answer, .protocol = 2};
    int submitted = shard_submit(world->shard, &request, &reply);
    shard__world_settle(world);
    return submitted;
}

/* I7: where only gateways of the host have asked, none of them lives after a restart, and what was
 * answered before is not remembered; should one ask all the same, nothing happens twice. What is written
 * from then on is remembered. */
static void answers_nobody_asks_for_are_not_remembered(void **state)
{
    (void)state;
    for (int is_asked_by_host_only = 0; is_asked_by_host_only <= 1; is_asked_by_host_only++) {
        struct shard__world *world = shard__world_create();
        struct shard_session session;
        shard_session_init(&session);
        struct buffer answer = {0};
        world->store_row_count = 1000;
        shard__world_stop(world);
        shard__world_start(world, true);
        shard__world_settle(world);
        assert_int_equal(append(world, &session, 1, false, &answer), SHARD_PENDING);
        shard__world_stop(world);
        world->is_asked_by_host_only = is_asked_by_host_only != 0;
        shard__world_start(world, true);
        shard__world_settle(world);
        assert_int_equal(append(world, &session, 1, true, &answer),
                         is_asked_by_host_only != 0 ? ERROR_OUTCOME_UNKNOWN : SHARD_ANSWERED);
        assert_int_equal(append(world, &session, 2, false, &answer), SHARD_PENDING);
        buffer_clear(&answer);
        assert_int_equal(append(world, &session, 2, true, &answer), SHARD_ANSWERED);
        assert_true(bytes_equal(buffer_bytes(&answer), BYTES(":2\r\n")));
        buffer_deinit(&answer);
        shard__world_destroy(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_is_told_what_was_found),
        cmocka_unit_test(a_replay_does_without),
        cmocka_unit_test(another_state_is_not_believed),
        cmocka_unit_test(answers_nobody_asks_for_are_not_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
