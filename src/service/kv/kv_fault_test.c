/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: rows that are not in memory, disks that fail and stores that stall change no answer and no
 * state: a machine over a faulty store answers, after the shard's usual detours, what its twin over
 * a good one answers. And what a write reads, prefetch has read before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "service/kv/kv_world.h"

enum { STEP_COUNT = 30000, WORD_COUNT_MAX = 10 };

static const char *const names[] = {"a", "b", "{a}c", "{a}d", "h", "{h}i", "j"};
static const char *const texts[] = {
    "",  "1",  "-3", "2.5", "abc",  "nx",    "xx",   "get",     "ex",   "px",
    "0", "50", "f",  "g",   "len",  "count", "idx",  "replace", "gt",   "keepttl",
    "*", "-1", "7",  "{a}", "type", "match", "hash", "samples", "usage"};

/* A command of the table with words that may or may not fit it. */
static uint32_t make_command(struct random *random, struct bytes words[WORD_COUNT_MAX])
{
    const struct kv_command *command;
    do {
        command = kv_command_at((uint32_t)random_below(random, kv_command_count()));
    } while (strcmp(command->name, "randomkey") == 0 || strcmp(command->name, "hrandfield") == 0 ||
             (strncmp(command->name, "flush", 5) == 0 && !random_chance(random, 1, 20)));
    words[0] = bytes_of_text(command->name);
    uint32_t arity = (uint32_t)(command->arity < 0 ? -command->arity : command->arity);
    uint32_t count = arity + (command->arity < 0 ? (uint32_t)random_below(random, 4) : 0);
    for (uint32_t i = 1; i < count; i++) {
        bool is_key = command->keys.first == (int8_t)i ||
                      (command->keys.last < 0 && (i - 1) % (uint32_t)command->keys.step == 0) ||
                      command->keys.last >= (int8_t)i;
        words[i] = is_key && !random_chance(random, 1, 20)
                       ? bytes_of_text(names[random_below(random, sizeof names / sizeof names[0])])
                       : bytes_of_text(texts[random_below(random, sizeof texts / sizeof texts[0])]);
    }
    return count;
}

static bool arity_fits(const struct bytes *words, uint32_t count)
{
    return kv_command_arity_fits(kv_command_find(words[0]), count);
}

static void test_faults_change_no_answer(void **state)
{
    (void)state;
    struct kv__world good;
    struct kv__world faulty;
    struct random random;
    random_init(&random, 3);
    kv__world_init(&good, 1);
    kv__world_init(&faulty, 2);
    memstore_set_faults(faulty.store,
                        (struct memstore_faults){.busy_percent = 20, .incomplete_percent = 30});
    for (uint32_t step = 0; step < STEP_COUNT; step++) {
        struct bytes words[WORD_COUNT_MAX];
        uint32_t count = make_command(&random, words);
        if (!arity_fits(words, count)) {
            continue;
        }
        uint64_t pass_ms = random_below(&random, 10);
        good.time_ms += pass_ms;
        faulty.time_ms += pass_ms;
        kv__world_run(&good, words, count);
        kv__world_run(&faulty, words, count);
        if (!bytes_equal(buffer_bytes(&good.answer), buffer_bytes(&faulty.answer))) {
            fail_msg("step %u, %s: `%.*s` without faults, `%.*s` with", step,
                     (const char *)words[0].data, (int)good.answer.size_bytes,
                     (char *)good.answer.data, (int)faulty.answer.size_bytes,
                     (char *)faulty.answer.data);
        }
        if (random_chance(&random, 1, 1000)) {
            kv__world_restart(&faulty);
        }
    }
    memstore_set_faults(faulty.store, (struct memstore_faults){0});
    struct kv_statistics statistics;
    struct error error = {0};
    kv_get_statistics(faulty.kv, &statistics);
    if (kv_verify(memstore_interface(faulty.store), NULL, statistics.key_count, &error) != 0) {
        fail_msg("%s", error.message);
    }
    kv__world_deinit(&good);
    kv__world_deinit(&faulty);
}

/* A disk that fails ends the command with the disk's status, never with an answer that is wrong. */
static void test_a_failing_disk_is_told(void **state)
{
    (void)state;
    struct kv__world world;
    struct random random;
    random_init(&random, 5);
    kv__world_init(&world, 5);
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = 3};
    uint32_t failed_count = 0;
    for (uint32_t step = 0; step < STEP_COUNT / 3; step++) {
        struct bytes words[WORD_COUNT_MAX];
        uint32_t count = make_command(&random, words);
        if (!arity_fits(words, count)) {
            continue;
        }
        kv__world_run(&world, words, count);
        const struct kv_command *found = kv_command_find(words[0]);
        if ((found->flags & KV_FLAG_READ) == 0) {
            continue;
        }
        struct shard_machine machine = kv_machine(world.kv);
        struct shard_command command = {found->opcode, count - 1, words + 1};
        struct shard_moment moment = {.time_ms = world.time_ms};
        struct env_store store = memstore_interface(world.store);
        struct env_store_snapshot *snapshot = store.ops->snapshot_create(store.context);
        struct rows *rows = rows_create_at(store, snapshot);
        memstore_set_faults(world.store, (struct memstore_faults){.read_error_percent = 50});
        buffer_clear(&answer);
        int status = machine.read(machine.context, rows, &moment, &command, &reply);
        memstore_set_faults(world.store, (struct memstore_faults){0});
        assert_true(
            status == -EIO ||
            (status == 0 && bytes_equal(buffer_bytes(&answer), buffer_bytes(&world.answer))) ||
            (status == 0 && world.protocol != reply.protocol) || status == ERROR_EXPIRED_SEEN);
        failed_count += status == -EIO;
        rows_destroy(rows);
        store.ops->snapshot_release(store.context, snapshot);
    }
    assert_true(failed_count > 100);
    buffer_deinit(&answer);
    kv__world_deinit(&world);
}

static void test_what_a_write_reads_was_prefetched(void **state)
{
    (void)state;
    struct kv__world world;
    struct random random;
    random_init(&random, 11);
    kv__world_init(&world, 11);
    for (uint32_t step = 0; step < STEP_COUNT; step++) {
        struct bytes words[WORD_COUNT_MAX];
        uint32_t count = make_command(&random, words);
        const struct kv_command *found = kv_command_find(words[0]);
        /* The fields that RENAME and COPY move are read again: prefetch only warms the store. */
        if (!arity_fits(words, count) || (found->flags & KV_FLAG_WRITE) == 0 ||
            strncmp(found->name, "rename", 6) == 0 || strcmp(found->name, "copy") == 0) {
            continue;
        }
        kv__world_restart(&world); /* Nothing is in memory. */
        struct shard_machine machine = kv_machine(world.kv);
        struct shard_command command = {found->opcode, count - 1, words + 1};
        rows_set_tier(world.rows, ENV_TIER_MEMORY);
        assert_int_equal(machine.prefetch(machine.context, world.rows, &command, &(uint64_t){0}),
                         0);
        struct rows_statistics before;
        struct rows_statistics after;
        rows_get_statistics(world.rows, &before);
        kv__world_run(&world, words, count);
        rows_get_statistics(world.rows, &after);
        if (after.blocking_read_count != before.blocking_read_count) {
            fail_msg("%s read what was not prefetched", found->name);
        }
        world.time_ms += random_below(&random, 20);
    }
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults_change_no_answer),
        cmocka_unit_test(test_a_failing_disk_is_told),
        cmocka_unit_test(test_what_a_write_reads_was_prefetched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
