/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv/kv_field.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "service/kv/kv_world.h"

enum {
#ifdef TUTTI_SLOW_CHECKS
    LARGE_FIELD_COUNT = 50000, /* Sanitizers come with these, and take their time. */
#else
    LARGE_FIELD_COUNT = 1000000,
#endif
    FIELDS_OF_A_COMMAND = 1000,
};

static void fill(struct kv__world *world, const char *key, int field_count)
{
    for (int first = 0; first < field_count; first += FIELDS_OF_A_COMMAND) {
        struct buffer text = {0};
        buffer_append_format(&text, "HSET %s", key);
        for (int i = first; i < field_count && i < first + FIELDS_OF_A_COMMAND; i++) {
            buffer_append_format(&text, " field%d %d", i, i);
        }
        buffer_append_byte(&text, 0);
        assert_true(kv__world_say(world, "%s", (const char *)text.data)[0] == ':');
        buffer_deinit(&text);
    }
}

static int verify(struct kv__world *world)
{
    struct error error = {0};
    return kv_verify(memstore_interface(world->store), NULL, world->kv->key_count, &error);
}

/* Background steps until no garbage is left, or too many. */
static uint64_t collect(struct kv__world *world)
{
    uint64_t step_count = 0;
    for (int i = 0; i < 10 * LARGE_FIELD_COUNT && world->kv->garbage_count > 0; i++) {
        world->time_ms += KV_COLLECT_DELAY_MS;
        step_count += kv__world_background(world) ? 1 : 0;
    }
    return step_count;
}

static void test_a_large_hash_is_deleted_in_one_row(void **state)
{
    /* DEL of a million fields touches two rows, whatever becomes of the fields later; a restart
     * does not forget them, and the key can be used meanwhile. */
    struct kv__world world;
    kv__world_init(&world, 1);
    fill(&world, "large", LARGE_FIELD_COUNT);
    char length[32];
    (void)snprintf(length, sizeof length, ":%d\r\n", LARGE_FIELD_COUNT);
    assert_string_equal(kv__world_say(&world, "HLEN large"), length);
    assert_int_equal(memstore_row_count(world.store), LARGE_FIELD_COUNT + 1);

    assert_string_equal(kv__world_say(&world, "DEL large"), ":1\r\n");
    /* The key's row is gone, the garbage row is there. */
    assert_int_equal(memstore_row_count(world.store), LARGE_FIELD_COUNT + 1);
    assert_string_equal(kv__world_say(&world, "EXISTS large"), ":0\r\n");
    assert_string_equal(kv__world_say(&world, "HSET large field7 new"), ":1\r\n");
    assert_int_equal(verify(&world), 0);

    world.time_ms += KV_COLLECT_DELAY_MS;
    assert_true(kv__world_background(&world));
    assert_int_equal(memstore_row_count(world.store), LARGE_FIELD_COUNT + 3 - KV_COLLECT_ROW_COUNT);
    kv__world_restart(&world);
    assert_in_range(collect(&world), 1, LARGE_FIELD_COUNT / KV_COLLECT_ROW_COUNT + 1);
    assert_int_equal(memstore_row_count(world.store), 2);
    assert_string_equal(kv__world_say(&world, "HGETALL large"),
                        "*2\r\n$6\r\nfield7\r\n$3\r\nnew\r\n");
    assert_int_equal(verify(&world), 0);
    world.time_ms += KV_COLLECT_DELAY_MS;
    assert_false(kv__world_background(&world));
    kv__world_deinit(&world);
}

static void test_a_small_hash_leaves_nothing(void **state)
{
    /* Up to the limit the command itself deletes the fields; one more, and it does not. */
    struct kv__world world;
    kv__world_init(&world, 2);
    static const char *const ends[] = {"DEL key", "SET key 1", "RENAME other key",
                                       "COPY other key REPLACE"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        (void)kv__world_say(&world, "FLUSHALL");
        (void)kv__world_say(&world, "SET other 1");
        fill(&world, "key", KV_DISCARD_AT_ONCE_MAX);
        (void)kv__world_say(&world, "%s", ends[i]);
        assert_in_range(memstore_row_count(world.store), 1, 2);
        assert_int_equal(world.kv->garbage_count, 0);
        (void)kv__world_say(&world, "FLUSHALL");
        (void)kv__world_say(&world, "SET other 1");
        fill(&world, "key", KV_DISCARD_AT_ONCE_MAX + 1);
        (void)kv__world_say(&world, "%s", ends[i]);
        assert_int_equal(world.kv->garbage_count, 1);
        assert_int_equal(collect(&world), 1);
        assert_in_range(memstore_row_count(world.store), 1, 2);
    }
    kv__world_deinit(&world);
}

static void test_an_expired_hash_is_collected(void **state)
{
    struct kv__world world;
    kv__world_init(&world, 3);
    fill(&world, "key", 5000);
    (void)kv__world_say(&world, "PEXPIRE key 10");
    world.time_ms += 10;
    assert_string_equal(kv__world_say(&world, "HGET key field1"), "$-1\r\n");
    assert_true(collect(&world) >= 5);
    assert_int_equal(memstore_row_count(world.store), 0);
    kv__world_deinit(&world);
}

static void test_garbage_of_many_slots_shares_steps(void **state)
{
    /* A thousand hashes that are just large enough are not a thousand steps. */
    struct kv__world world;
    kv__world_init(&world, 4);
    char key[16];
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof key, "key%d", i);
        fill(&world, key, KV_DISCARD_AT_ONCE_MAX + 1);
        (void)kv__world_say(&world, "DEL %s", key);
    }
    kv__world_restart(&world);
    assert_int_equal(world.kv->garbage_count, 1000);
    /* After a restart every slot is looked at, KV_COLLECT_PROBE_COUNT between two steps. */
    assert_in_range(collect(&world), 60, KV_SLOT_COUNT / KV_COLLECT_PROBE_COUNT);
    assert_int_equal(memstore_row_count(world.store), 0);
    kv__world_deinit(&world);
}

static void test_a_scan_among_garbage_is_bounded(void **state)
{
    /* COUNT bounds what a call visits, also when none of it is a key. */
    enum { HASH_COUNT = 300 };
    struct kv__world world;
    kv__world_init(&world, 7);
    char key[16];
    for (int i = 0; i < HASH_COUNT; i++) {
        (void)snprintf(key, sizeof key, "key%d", i);
        fill(&world, key, KV_DISCARD_AT_ONCE_MAX + 1);
        (void)kv__world_say(&world, "DEL %s", key);
    }
    int call_count = 0;
    uint64_t cursor = 0;
    do {
        const char *answer = kv__world_say(&world, "SCAN %lu COUNT 10", cursor);
        assert_non_null(strstr(answer, "\r\n*0\r\n"));
        cursor = strtoull(strstr(answer + 5, "\r\n") + 2, NULL, 10);
        call_count++;
    } while (cursor != 0);
    assert_in_range(call_count, HASH_COUNT / 10 - 5, HASH_COUNT / 10 + 5);
    kv__world_deinit(&world);
}

static void test_cold_garbage_is_collected_in_small_steps(void **state)
{
    /* A step blocks its reactor when the rows are on the disk, so it takes fewer of them. */
    struct kv__world world;
    kv__world_init(&world, 8);
    fill(&world, "key", 1000);
    (void)kv__world_say(&world, "DEL key");
    memstore_set_faults(world.store, (struct memstore_faults){.incomplete_percent = 100});
    uint64_t row_count = memstore_row_count(world.store);
    assert_true(kv__world_background(&world));
    assert_int_equal(memstore_row_count(world.store), row_count - KV_COLLECT_COLD_ROW_COUNT);
    memstore_set_faults(world.store, (struct memstore_faults){0});
    assert_int_equal(collect(&world), 1);
    assert_int_equal(memstore_row_count(world.store), 0);
    kv__world_deinit(&world);
}

static void test_flushing_forgets_garbage(void **state)
{
    struct kv__world world;
    kv__world_init(&world, 5);
    fill(&world, "key", 2000);
    (void)kv__world_say(&world, "DEL key");
    (void)kv__world_say(&world, "FLUSHALL");
    assert_int_equal(world.kv->garbage_count, 0);
    assert_int_equal(memstore_row_count(world.store), 0);
    world.time_ms += KV_COLLECT_DELAY_MS;
    assert_false(kv__world_background(&world));
    kv__world_deinit(&world);
}

/* ---- Planted bugs ---------------------------------------------------------------------------- */

#ifdef TUTTI_PLANTED_BUGS
static bool is_bug(void *context, const char *name)
{
    return strcmp(context, name) == 0;
}
#endif

static void check_bug_is_seen(const char *name, const char *const *commands)
{
#ifdef TUTTI_PLANTED_BUGS
    struct kv__world world;
    kv__world_init(&world, 6);
    fill(&world, "{k}large", 100);
    fill(&world, "{k}other", 3);
    assert_int_equal(verify(&world), 0);
    const struct trace_hooks hooks = {.context = (void *)(uintptr_t)name, .bug = is_bug};
    trace_set_hooks(&hooks);
    for (; *commands != NULL; commands++) {
        (void)kv__world_say(&world, "%s", *commands);
    }
    trace_set_hooks(NULL);
    assert_int_equal(verify(&world), ERROR_CORRUPT);
    kv__world_deinit(&world);
#else
    (void)name;
    (void)commands;
    skip();
#endif
}

static void test_verifying_finds_forgotten_garbage(void **state)
{
    check_bug_is_seen("kv.garbage_forgotten", (const char *const[]){"DEL {k}large", NULL});
}

static void test_verifying_finds_a_wrong_count(void **state)
{
    check_bug_is_seen("kv.hash_count_drift",
                      (const char *const[]){"HSET {k}other field1 again", NULL});
}

static void test_verifying_finds_a_shared_generation(void **state)
{
    check_bug_is_seen("kv.generation_reused", (const char *const[]){"HSET {k}new field1 1", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_large_hash_is_deleted_in_one_row),
        cmocka_unit_test(test_a_small_hash_leaves_nothing),
        cmocka_unit_test(test_an_expired_hash_is_collected),
        cmocka_unit_test(test_garbage_of_many_slots_shares_steps),
        cmocka_unit_test(test_a_scan_among_garbage_is_bounded),
        cmocka_unit_test(test_cold_garbage_is_collected_in_small_steps),
        cmocka_unit_test(test_flushing_forgets_garbage),
        cmocka_unit_test(test_verifying_finds_forgotten_garbage),
        cmocka_unit_test(test_verifying_finds_a_wrong_count),
        cmocka_unit_test(test_verifying_finds_a_shared_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
