/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: two machines over one store, each with a part of the slots, never touch each other's rows:
 * SCAN goes from the one to the other and gives each key once, DBSIZE, KEYS, RANDOMKEY and FLUSHALL
 * are about the own part, and neither the sweep nor the collection of garbage leaves it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/kv/kv_world.h"

enum { BORDER = 5000, KEY_COUNT = 200 };

struct pair {
    struct kv__world worlds[2]; /* Over the store of the first. */
    struct memstore *spare;
};

static void open_part(struct kv__world *world, uint32_t first_slot, uint32_t end_slot)
{
    rows_destroy(world->rows);
    kv_destroy(world->kv);
    world->rows = rows_create(memstore_interface(world->store), 1 << 20);
    world->kv = kv_create_range(first_slot, end_slot);
    struct shard_machine machine = kv_machine(world->kv);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    assert_int_equal(machine.load(machine.context, world->rows, buffer_bytes(&world->saved), NULL),
                     0);
}

static void reopen(struct pair *pair)
{
    open_part(&pair->worlds[0], 0, BORDER);
    open_part(&pair->worlds[1], BORDER, KV_SLOT_COUNT);
}

static void setup(struct pair *pair)
{
    kv__world_init(&pair->worlds[0], 1);
    kv__world_init(&pair->worlds[1], 2);
    pair->spare = pair->worlds[1].store;
    pair->worlds[1].store = pair->worlds[0].store;
    reopen(pair);
}

static void teardown(struct pair *pair)
{
    pair->worlds[1].store = pair->spare;
    kv__world_deinit(&pair->worlds[1]);
    kv__world_deinit(&pair->worlds[0]);
}

static struct kv__world *world_of(struct pair *pair, const char *key)
{
    return &pair->worlds[kv_slot_of_key(bytes_make(key, strlen(key))) >= BORDER];
}

static uint64_t count_of(struct pair *pair, int part)
{
    return strtoull(kv__world_say(&pair->worlds[part], "dbsize") + 1, NULL, 10);
}

static void fill(struct pair *pair)
{
    char key[32];
    for (int i = 0; i < KEY_COUNT; i++) {
        (void)snprintf(key, sizeof key, "key:%d", i);
        assert_string_equal(kv__world_say(world_of(pair, key), "set %s v", key), "+OK\r\n");
    }
}

static void verify(struct pair *pair)
{
    struct error error = {0};
    uint64_t count = count_of(pair, 0) + count_of(pair, 1);
    if (kv_verify(memstore_interface(pair->worlds[0].store), NULL, count, &error) != 0) {
        fail_msg("%s", error.message);
    }
}

static void test_scan(void **state)
{
    struct pair pair;
    setup(&pair);
    fill(&pair);
    assert_true(count_of(&pair, 0) > 0 && count_of(&pair, 1) > 0);
    assert_int_equal(count_of(&pair, 0) + count_of(&pair, 1), KEY_COUNT);
    static const int counts[] = {1, 7, 1000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint64_t cursor = 0;
        uint32_t found = 0;
        bool seen[KEY_COUNT] = {0};
        do {
            struct kv__world *world = &pair.worlds[(cursor >> 32) >= BORDER];
            const char *answer =
                kv__world_say(world, "scan %llu count %d", (unsigned long long)cursor, counts[i]);
            const char *text = strstr(answer, "\r\n$") + 2;
            cursor = strtoull(strstr(text, "\r\n") + 2, NULL, 10);
            for (const char *key = text; (key = strstr(key, "key:")) != NULL; key++) {
                long number = strtol(key + 4, NULL, 10);
                assert_in_range(number, 0, KEY_COUNT - 1);
                assert_false(seen[number]);
                seen[number] = true;
                found++;
            }
        } while (cursor != 0);
        assert_int_equal(found, KEY_COUNT);
    }
    teardown(&pair);
}

static void test_whole_part(void **state)
{
    struct pair pair;
    setup(&pair);
    assert_string_equal(kv__world_say(&pair.worlds[0], "randomkey"), "$-1\r\n");
    fill(&pair);
    for (int part = 0; part < 2; part++) {
        char header[32];
        (void)snprintf(header, sizeof header, "*%llu\r\n",
                       (unsigned long long)count_of(&pair, part));
        assert_memory_equal(kv__world_say(&pair.worlds[part], "keys *"), header, strlen(header));
        for (int i = 0; i < 50; i++) {
            const char *key = strstr(kv__world_say(&pair.worlds[part], "randomkey"), "key:");
            assert_non_null(key);
            size_t size = strcspn(key, "\r");
            assert_int_equal(kv_slot_of_key(bytes_make(key, size)) >= BORDER, part);
        }
    }
    uint64_t other = count_of(&pair, 1);
    assert_string_equal(kv__world_say(&pair.worlds[0], "flushall"), "+OK\r\n");
    reopen(&pair);
    assert_int_equal(count_of(&pair, 0), 0);
    assert_int_equal(count_of(&pair, 1), other);
    verify(&pair);
    teardown(&pair);
}

/* Both have hashes to collect and keys that expire; after a start they find them again, each its
 * own. */
static void test_background(void **state)
{
    struct pair pair;
    char key[32];
    setup(&pair);
    fill(&pair);
    for (int i = 0; i < KEY_COUNT; i += 2) {
        (void)snprintf(key, sizeof key, "key:%d", i);
        (void)kv__world_say(world_of(&pair, key), "pexpire %s 1000", key);
    }
    for (int i = 0; i < 20; i++) {
        (void)snprintf(key, sizeof key, "hash:%d", i);
        for (int j = 0; j < 100; j++) {
            (void)kv__world_say(world_of(&pair, key), "hset %s f%d v", key, j);
        }
        (void)kv__world_say(world_of(&pair, key), "del %s", key);
    }
    reopen(&pair);
    for (int part = 0; part < 2; part++) {
        for (int i = 0; i < 500; i++) {
            pair.worlds[part].time_ms += 100;
            (void)kv__world_background(&pair.worlds[part]);
        }
        verify(&pair); /* The other's rows are whole meanwhile. */
    }
    assert_int_equal(count_of(&pair, 0) + count_of(&pair, 1), KEY_COUNT / 2);
    struct kv_statistics statistics[2];
    for (int part = 0; part < 2; part++) {
        kv_get_statistics(pair.worlds[part].kv, &statistics[part]);
        assert_true(statistics[part].expired_key_count > 0);
        assert_int_equal(statistics[part].expiring_key_count, 0);
    }
    teardown(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_whole_part),
        cmocka_unit_test(test_background),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
