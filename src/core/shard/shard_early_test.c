/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: an entry whose replies are large answers before it is executed whole, in order and each once; what is
 * submitted meanwhile is refused as busy; and what waited in a session goes on when the entry is over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_world.h"

enum { VALUE_SIZE = 3 << 20, REPLY_SIZE = sizeof "$3145728\r\n\r\n" - 1 + VALUE_SIZE, COUNT = 5 };

/* What was answered, in order, and how many commands had been executed by then. */
static struct {
    struct shard__world *world;
    const struct shard_request *requests[2 * COUNT];
    uint32_t executed_counts[2 * COUNT];
    int submitted[2 * COUNT]; /* What a request that was submitted then was told. */
    uint32_t count;
} told;

static void done(struct shard_request *request, int status, struct bytes reply)
{
    struct shard__client *client = (struct shard__client *)request;
    struct shard__client other;
    struct shard_session session;
    buffer_append(&client->answer, reply);
    client->answer_count++;
    client->status = status;
    shard_session_init(&session);
    told.requests[told.count] = request;
    told.executed_counts[told.count] = told.world->executed_count;
    told.submitted[told.count] =
        shard__world_submit(told.world, &other, &session, OPCODE_COUNT, "", "");
    told.count++;
    buffer_deinit(&other.answer);
}

static void submit(struct shard__client *client, struct shard_session *session, uint16_t opcode,
                   const char *key)
{
    assert_int_equal(shard__world_submit(told.world, client, session, opcode, key, "v"),
                     SHARD_PENDING);
    client->request.done = done;
}

static void begin(void)
{
    struct shard__world *world = shard__world_create();
    struct shard_session session;
    struct shard__client set;
    char *value = memory_allocate(VALUE_SIZE + 1);
    memset(value, 'v', VALUE_SIZE);
    value[VALUE_SIZE] = '\0';
    shard_session_init(&session);
    (void)shard__world_submit(world, &set, &session, OPCODE_SET, "k", value);
    shard__world_settle(world);
    shard__world_expect(&set, "+OK\r\n");
    memory_free(value);
    memset(&told, 0, sizeof told);
    told.world = world;
}

static void expect_large(struct shard__client *client)
{
    assert_int_equal(client->answer_count, 1);
    assert_int_equal(client->status, 0);
    assert_int_equal(client->answer.size_bytes, REPLY_SIZE);
    buffer_deinit(&client->answer);
}

static void large_replies_do_not_wait_for_the_entry(void **state)
{
    (void)state;
    struct shard_session sessions[COUNT];
    struct shard__client sets[COUNT];
    struct shard__client gets[COUNT];
    begin();
    uint32_t before = told.world->executed_count;
    for (uint32_t i = 0; i < COUNT; i++) {
        shard_session_init(&sessions[i]);
        submit(&sets[i], &sessions[i], OPCODE_SET, "a");
        submit(&gets[i], &sessions[i], OPCODE_GET, "k"); /* In the same entry, behind it. */
    }
    shard__world_settle(told.world);
    assert_int_equal(told.count, 2 * COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        bool is_early = i < 4;
        uint32_t executed =
            is_early ? i / 2 * 2 + 2 : COUNT; /* Two of them are more than enough. */
        assert_ptr_equal(told.requests[2 * i], &sets[i].request);
        assert_ptr_equal(told.requests[2 * i + 1], &gets[i].request);
        assert_int_equal(told.executed_counts[2 * i + 1] - before, executed);
        assert_int_equal(told.submitted[2 * i + 1], is_early ? -EBUSY : SHARD_ANSWERED);
        shard__world_expect(&sets[i], "+OK\r\n");
        expect_large(&gets[i]);
    }
    shard__world_destroy(told.world);
}

/* The first session's third request needs the disk, and so waits for those before it. */
static void what_waits_behind_goes_on(void **state)
{
    (void)state;
    struct shard_session sessions[2];
    struct shard__client sets[2];
    struct shard__client gets[2];
    struct shard__client cold;
    begin();
    for (uint32_t i = 0; i < 2; i++) {
        shard_session_init(&sessions[i]);
        submit(&sets[i], &sessions[i], OPCODE_SET, "a");
        submit(&gets[i], &sessions[i], OPCODE_GET, "k");
        if (i == 0) {
            memstore_set_faults(told.world->memstore,
                                (struct memstore_faults){.incomplete_percent = 100});
            submit(&cold, &sessions[0], OPCODE_GET, "cold");
            memstore_set_faults(told.world->memstore, (struct memstore_faults){0});
        }
    }
    shard__world_settle(told.world);
    assert_int_equal(told.executed_counts[1], told.executed_counts[3]);
    assert_int_equal(told.submitted[1], -EBUSY);
    for (uint32_t i = 0; i < 2; i++) {
        shard__world_expect(&sets[i], "+OK\r\n");
        expect_large(&gets[i]);
    }
    shard__world_expect(&cold, "$-1\r\n");
    assert_int_equal(sessions[0].pending_count, 0);
    assert_true(list_is_empty(&sessions[0].early));
    shard__world_destroy(told.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_replies_do_not_wait_for_the_entry),
        cmocka_unit_test(what_waits_behind_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
