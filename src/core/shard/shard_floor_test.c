/* SPDX-License-Identifier: Apache-2.0 */
/* What a gateway needs no more is forgotten by all replicas, and nothing else; and it takes
 * effect no second time, whoever leads next (shard.h, "Forgetting"). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/shard/shard_group.h"
#include "core/shard/shard_internal.h"

enum { GATEWAY = 5, OTHER_GATEWAY = 6, TOLD_MS = 150, MANY = 100 };

static void count_answer(struct shard_request *request, int status, struct bytes reply)
{
    struct shard__client *client = (struct shard__client *)request;
    buffer_append(&client->answer, reply);
    client->answer_count++;
    client->status = status;
}

/* An APPEND to `key` with an identity: what it answers is how long the value is then. */
static int append(struct shard__world *world, struct shard__client *client,
                  struct shard_session *session, uint64_t origin, uint64_t sequence, bool is_retry)
{
    static const struct bytes arguments[] = {{(const uint8_t *)"k", 1}, {(const uint8_t *)"1", 1}};
    *client = (struct shard__client){0};
    client->request = (struct shard_request){
        .command = {OPCODE_APPEND, 2, arguments},
        .protocol = 2,
        .is_write = true,
        .origin = origin,
        .sequence = sequence,
        .is_retry = is_retry,
        .done = count_answer,
        .session = session,
    };
    shard_session_init(session);
    struct reply reply = {.target = &client->answer, .protocol = 2};
    return shard_submit(world->shard, &client->request, &reply);
}

static struct shard__group ready_group(void)
{
    struct shard__group group = shard__group_create_with(1, TOLD_MS / 2);
    for (uint32_t i = 0; i < 10 && shard__group_leader(&group) == NULL; i++) {
        shard__group_run(&group, 1000);
    }
    assert_non_null(shard__group_leader(&group));
    return group;
}

/* Sequences from `first` on, one after the other. */
static void append_all(struct shard__group *group, uint64_t origin, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct shard__client client;
        struct shard_session session;
        int status =
            append(shard__group_leader(group), &client, &session, origin, first + i, false);
        assert_int_equal(status, SHARD_PENDING);
        shard__group_run(group, 5);
        assert_int_equal(client.answer_count, 1);
        buffer_deinit(&client.answer);
    }
}

/* The same, with one entry for all. */
static void append_at_once(struct shard__group *group, uint64_t origin, uint64_t first,
                           uint64_t count)
{
    static struct shard__client clients[MANY];
    static struct shard_session sessions[MANY];
    assert_true(count <= MANY);
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(
            append(shard__group_leader(group), &clients[i], &sessions[i], origin, first + i, false),
            SHARD_PENDING);
    }
    shard__group_run(group, 100);
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(clients[i].answer_count, 1);
        buffer_deinit(&clients[i].answer);
    }
}

/* The status of a retry, and what it is answered at once. */
static int retry(struct shard__world *world, uint64_t origin, uint64_t sequence,
                 struct buffer *answer)
{
    struct shard__client client;
    struct shard_session session;
    int status = append(world, &client, &session, origin, sequence, true);
    assert_int_not_equal(status, SHARD_PENDING);
    buffer_deinit(answer);
    *answer = client.answer;
    return status;
}

static uint64_t answer_count(const struct shard__world *world)
{
    struct shard_statistics statistics;
    shard_get_statistics(world->shard, &statistics);
    return statistics.window_answer_count;
}

static void set_floor(struct shard__group *group, uint64_t origin, uint64_t floor)
{
    shard_set_floor(shard__group_leader(group)->shard, &(struct shard_floor){origin, floor});
}

static void elect_another(struct shard__group *group)
{
    uint32_t old = shard__group_leader(group)->self - 1;
    group->is_cut_off[old] = true;
    for (uint32_t i = 0; i < 20; i++) {
        shard__group_run(group, 500);
        struct shard__world *leader = shard__group_leader(group);
        if (leader != NULL && leader->self != old + 1) {
            break;
        }
    }
    group->is_cut_off[old] = false;
    shard__group_run(group, 500);
    assert_non_null(shard__group_leader(group));
    assert_int_not_equal(shard__group_leader(group)->self, old + 1);
}

/* All replicas forget what is below the floor, and that of no other gateway. After the leader has
 * changed a retry of what is kept gets its answer, and one of what is forgotten is refused: neither
 * takes effect again. */
static void all_replicas_forget(void **state)
{
    struct shard__group group = ready_group();
    append_all(&group, GATEWAY, 1, 10);
    append_all(&group, OTHER_GATEWAY, 1, 10);
    shard__group_run(&group, TOLD_MS);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        assert_int_equal(answer_count(group.worlds[i]), 20);
    }
    set_floor(&group, GATEWAY, 8);
    assert_int_equal(answer_count(shard__group_leader(&group)), 13);
    shard__group_run(&group, TOLD_MS);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        assert_int_equal(answer_count(group.worlds[i]), 13);
    }
    for (uint32_t round = 0; round < 2; round++) {
        struct buffer answer = {0};
        struct shard__world *leader = shard__group_leader(&group);
        assert_int_equal(retry(leader, GATEWAY, 7, &answer), ERROR_OUTCOME_UNKNOWN);
        assert_int_equal(retry(leader, GATEWAY, 8, &answer), SHARD_ANSWERED);
        assert_memory_equal(answer.data, ":8", 2);
        assert_int_equal(retry(leader, OTHER_GATEWAY, 1, &answer), SHARD_ANSWERED);
        assert_memory_equal(answer.data, ":11", 3);
        buffer_deinit(&answer);
        elect_another(&group);
    }
    struct buffer value = shard__group_row(shard__group_leader(&group), BYTES("k"));
    assert_int_equal(value.size_bytes, 20);
    buffer_deinit(&value);
    shard__group_destroy(&group);
}

/* A leader that has only just become one knows what it was told as a follower, and tells it to
 * who missed it. */
static void a_new_leader_tells_again(void **state)
{
    struct shard__group group = ready_group();
    append_all(&group, GATEWAY, 1, 10);
    uint32_t leader = shard__group_leader(&group)->self - 1;
    uint32_t deaf = (leader + 1) % SHARD__GROUP_COUNT;
    group.is_cut_off[deaf] = true;
    set_floor(&group, GATEWAY, 11);
    shard__group_run(&group, TOLD_MS);
    group.is_cut_off[deaf] = false;
    shard__group_run(&group, TOLD_MS);
    assert_int_equal(answer_count(group.worlds[deaf]), 10);
    for (uint32_t i = 0; i < 10 && answer_count(group.worlds[deaf]) > 0; i++) {
        elect_another(&group);
        shard__group_run(&group, TOLD_MS);
    }
    assert_int_equal(answer_count(group.worlds[deaf]), 0);
    shard__group_destroy(&group);
}

static uint32_t told_count(const struct shard__group *group)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        count += group->sent_counts[i][SHARD_MESSAGE_FLOORS];
    }
    return count;
}

/* However often floors rise, others are told once in each delay, and when none rises not at all. */
static void others_are_told_now_and_then(void **state)
{
    struct shard__group group = ready_group();
    for (uint64_t i = 1; i <= 1000; i++) {
        set_floor(&group, GATEWAY, i);
        set_floor(&group, OTHER_GATEWAY, i);
        shard__group_run(&group, 1);
    }
    shard__group_run(&group, TOLD_MS);
    uint32_t count = told_count(&group);
    assert_in_range(count, 24, 32); /* Two others. */
    for (uint64_t i = 1; i <= 500; i++) {
        set_floor(&group, GATEWAY, i);
        shard__group_run(&group, 1);
    }
    assert_int_equal(told_count(&group), count);
    shard__group_destroy(&group);
}

/* While they are of little use others are told every few seconds, and once more in the end; if
 * of much, at once. */
static void few_answers_are_not_urgent(void **state)
{
    struct shard__group group = shard__group_create(1);
    for (uint32_t i = 0; i < 10 && shard__group_leader(&group) == NULL; i++) {
        shard__group_run(&group, 1000);
    }
    for (uint64_t i = 1; i <= 10; i++) {
        append_all(&group, GATEWAY, i, 1);
        set_floor(&group, GATEWAY, i + 1);
        shard__group_run(&group, 995);
    }
    assert_in_range(told_count(&group), 2, 6);
    shard__group_run(&group, 5100);
    uint32_t count = told_count(&group);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        assert_int_equal(answer_count(group.worlds[i]), 0);
    }
    shard__group_run(&group, 20000);
    assert_int_equal(told_count(&group), count);
    append_all(&group, GATEWAY, 11, 30);
    set_floor(&group, GATEWAY, 41);
    shard__group_run(&group, TOLD_MS); /* The delay is over. */
    append_all(&group, GATEWAY, 41, 10);
    set_floor(&group, GATEWAY, 51);
    shard__group_run(&group, TOLD_MS);
    uint32_t other = shard__group_leader(&group)->self % SHARD__GROUP_COUNT;
    assert_int_equal(answer_count(group.worlds[other]), 10);
    append_at_once(&group, OTHER_GATEWAY, 1, MANY);
    assert_int_equal(answer_count(group.worlds[other]), 10 + MANY);
    set_floor(&group, OTHER_GATEWAY, MANY + 1);
    shard__group_run(&group, TOLD_MS);
    assert_int_equal(answer_count(group.worlds[other]), 0);
    shard__group_destroy(&group);
}

/* Who does not understand floors is not told. */
static void older_nodes_are_not_told(void **state)
{
    struct shard__group group = ready_group();
    struct shard__world *leader = shard__group_leader(&group);
    raft_node older = leader->self % SHARD__GROUP_COUNT + 1;
    raft_node newer = older % SHARD__GROUP_COUNT + 1;
    leader->older_nodes = 1u << (older - 1);
    append_all(&group, GATEWAY, 1, 10);
    for (uint64_t i = 1; i <= 500; i++) {
        set_floor(&group, GATEWAY, i);
        shard__group_run(&group, 1);
    }
    assert_int_equal(group.sent_counts[older - 1][SHARD_MESSAGE_FLOORS], 0);
    assert_in_range(group.sent_counts[newer - 1][SHARD_MESSAGE_FLOORS], 1, 10);
    assert_int_equal(answer_count(group.worlds[older - 1]), 10);
    assert_int_equal(answer_count(leader), 0);
    shard__group_destroy(&group);
}

/* A write that is pending stays so, though its gateway has given it up: what comes again
 * meanwhile is on its way, and refused afterwards. It takes effect once. */
static void a_pending_write_is_not_forgotten(void **state)
{
    struct shard__group group = ready_group();
    struct shard__world *leader = shard__group_leader(&group);
    struct shard__client client;
    struct shard_session session;
    struct buffer answer = {0};
    assert_int_equal(append(leader, &client, &session, GATEWAY, 1, false), SHARD_PENDING);
    set_floor(&group, GATEWAY, 2);
    assert_int_equal(retry(leader, GATEWAY, 1, &answer), -EBUSY);
    shard__group_run(&group, 5);
    assert_int_equal(client.answer_count, 1);
    buffer_deinit(&client.answer);
    assert_int_equal(retry(leader, GATEWAY, 1, &answer), ERROR_OUTCOME_UNKNOWN);
    assert_int_equal(answer_count(leader), 0);
    /* One that was in no log yet is as good as ever. */
    append_all(&group, OTHER_GATEWAY, 2, 1);
    set_floor(&group, OTHER_GATEWAY, 2);
    append_all(&group, OTHER_GATEWAY, 1, 1);
    assert_int_equal(retry(leader, OTHER_GATEWAY, 1, &answer), ERROR_OUTCOME_UNKNOWN);
    buffer_deinit(&answer);
    struct buffer value = shard__group_row(leader, BYTES("k"));
    assert_int_equal(value.size_bytes, 3);
    buffer_deinit(&value);
    shard__group_destroy(&group);
}

/* What gateways left that say nothing more goes after some minutes, on all replicas. */
static void old_answers_go(void **state)
{
    struct shard__group group = ready_group();
    append_all(&group, GATEWAY, 1, 10);
    shard__group_run(&group, 100000);
    assert_int_equal(answer_count(group.worlds[0]), 10);
    shard__group_run(&group, 150000);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        assert_int_equal(answer_count(group.worlds[i]), 0);
    }
    struct buffer answer = {0};
    struct shard__world *leader = shard__group_leader(&group);
    assert_int_equal(retry(leader, GATEWAY, 10, &answer), ERROR_OUTCOME_UNKNOWN);
    buffer_deinit(&answer);
    shard__group_destroy(&group);
}

/* A replica that starts anew applies what its store lacks, and knows those answers until it is
 * told; what it does not know it does not pretend to. */
static void a_restart_forgets_floors(void **state)
{
    struct shard__group group = ready_group();
    append_all(&group, GATEWAY, 1, 10);
    set_floor(&group, GATEWAY, 11);
    shard__group_run(&group, TOLD_MS);
    struct shard__world *world =
        group.worlds[shard__group_leader(&group)->self % SHARD__GROUP_COUNT];
    assert_int_equal(answer_count(world), 0);
    shard__world_stop(world);
    memstore_lose_unflushed(world->memstore);
    shard__world_start(world, true);
    shard__group_run(&group, 200);
    assert_int_equal(answer_count(world), 10);
    append_all(&group, GATEWAY, 11, 1);
    set_floor(&group, GATEWAY, 12);
    shard__group_run(&group, TOLD_MS);
    assert_int_equal(answer_count(world), 0);
    shard__group_destroy(&group);
}

/* Messages that are not exactly as they must be are counted, and nothing is forgotten. */
static void malformed_floors_are_refused(void **state)
{
    struct shard__group group = ready_group();
    struct shard__world *leader = shard__group_leader(&group);
    append_all(&group, GATEWAY, 1, 3);
    static const struct shard_floor floors[] = {{GATEWAY, 2}, {OTHER_GATEWAY, 9}};
    struct buffer good = {0};
    shard__message_encode_floors(floors, 2, &good);
    static const struct {
        size_t offset;
        uint8_t value;
    } wrong[] = {{2, 1}, {4, 1}, {4, 3}, {4, 0}, {7, 1}, {8, 0}, {32, 0}};
    uint64_t expected = 0;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct buffer bad = {0};
        buffer_append(&bad, buffer_bytes(&good));
        assert_int_not_equal(bad.data[wrong[i].offset], wrong[i].value);
        bad.data[wrong[i].offset] = wrong[i].value;
        shard_receive(leader->shard, 2, buffer_bytes(&bad));
        buffer_deinit(&bad);
        expected++;
    }
    for (size_t size = 0; size < good.size_bytes; size++) {
        uint8_t *exact = memory_allocate(size + 1);
        memcpy(exact, good.data, size);
        shard_receive(leader->shard, 2, bytes_make(exact, size));
        memory_free(exact);
        expected++;
    }
    struct shard_statistics statistics;
    shard_get_statistics(leader->shard, &statistics);
    assert_int_equal(statistics.malformed_count, expected);
    assert_int_equal(statistics.window_answer_count, 3);
    shard_receive(leader->shard, 2, buffer_bytes(&good));
    assert_int_equal(answer_count(leader), 2);
    buffer_deinit(&good);
    shard__group_destroy(&group);
}

/* Who was started alone, and forgot what it replayed, remembers for others from when there are some, though it follows. */
static void who_was_alone_remembers_for_others(void **state)
{
    (void)state;
    struct shard__group group = shard__group_create_with(1, TOLD_MS / 2);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        shard__world_stop(group.worlds[i]);
        group.worlds[i]->is_asked_by_host_only = true;
        shard__world_start(group.worlds[i], true);
    }
    for (uint32_t i = 0; i < 10 && shard__group_leader(&group) == NULL; i++) {
        shard__group_run(&group, 1000);
    }
    append_all(&group, 77, 1, 3);
    shard__group_run(&group, 100);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        assert_int_equal(answer_count(group.worlds[i]), 3);
    }
    shard__group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_replicas_forget),
        cmocka_unit_test(a_new_leader_tells_again),
        cmocka_unit_test(others_are_told_now_and_then),
        cmocka_unit_test(few_answers_are_not_urgent),
        cmocka_unit_test(older_nodes_are_not_told),
        cmocka_unit_test(a_pending_write_is_not_forgotten),
        cmocka_unit_test(old_answers_go),
        cmocka_unit_test(a_restart_forgets_floors),
        cmocka_unit_test(malformed_floors_are_refused),
        cmocka_unit_test(who_was_alone_remembers_for_others),
    };
    return cmocka_run_group_tests_name("shard_floor", tests, NULL, NULL);
}
