/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: whatever keys expire when, and whenever the machine is restarted, each is gone exactly
 * from its time on, the sweep removes it without being asked, and it needs few commands for many
 * keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "service/kv/kv_world.h"

enum { KEY_COUNT = 500, STEP_COUNT = 20000, TTL_MS_MAX = 3000 };

static void verify(struct kv__world *world)
{
    struct kv_statistics statistics;
    struct error error = {0};
    kv_get_statistics(world->kv, &statistics);
    if (kv_verify(memstore_interface(world->store), NULL, statistics.key_count, &error) != 0) {
        fail_msg("%s", error.message);
    }
}

/* Change a key as chance has it; the time at which it ends, 0: never, 1: there is none. */
static uint64_t change(struct kv__world *world, struct random *random, uint32_t key,
                       uint64_t expire_ms)
{
    uint64_t ttl_ms = 1 + random_below(random, TTL_MS_MAX);
    bool does_exist = expire_ms == 0 || expire_ms > world->time_ms;
    switch (random_below(random, 6)) {
    case 0:
        (void)kv__world_say(world, "set key:%u value", key);
        return 0;
    case 1:
        (void)kv__world_say(world, "set key:%u value px %llu", key, (unsigned long long)ttl_ms);
        return world->time_ms + ttl_ms;
    case 2:
        (void)kv__world_say(world, "pexpire key:%u %llu", key, (unsigned long long)ttl_ms);
        return does_exist ? world->time_ms + ttl_ms : 1;
    case 3:
        (void)kv__world_say(world, "persist key:%u", key);
        return does_exist ? 0 : 1;
    case 4:
        (void)kv__world_say(world, "append key:%u x", key);
        return does_exist ? expire_ms : 0;
    default:
        (void)kv__world_say(world, "del key:%u", key);
        return 1;
    }
}

static void test_each_key_ends_at_its_time(void **state)
{
    (void)state;
    static uint64_t expire_ms[KEY_COUNT];
    struct kv__world world;
    struct random random;
    random_init(&random, 7);
    kv__world_init(&world, 7);
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        expire_ms[i] = 1;
    }
    for (uint32_t step = 0; step < STEP_COUNT; step++) {
        uint32_t key = (uint32_t)random_below(&random, KEY_COUNT);
        switch (random_below(&random, 8)) {
        case 0:
            world.time_ms += random_below(&random, 50);
            break;
        case 1:
            (void)kv__world_background(&world);
            break;
        case 2:
        case 3: {
            bool does_exist = expire_ms[key] == 0 || expire_ms[key] > world.time_ms;
            assert_string_equal(kv__world_say(&world, "exists key:%u", key),
                                does_exist ? ":1\r\n" : ":0\r\n");
            break;
        }
        default:
            expire_ms[key] = change(&world, &random, key, expire_ms[key]);
        }
        if (random_chance(&random, 1, 500)) {
            verify(&world);
            kv__world_restart(&world);
        }
    }
    /* What is left once everything that ends has ended. */
    uint64_t left_count = 0;
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        left_count += expire_ms[i] == 0;
    }
    world.time_ms += TTL_MS_MAX;
    while (kv__world_background(&world)) {
    }
    verify(&world);
    struct kv_statistics statistics;
    kv_get_statistics(world.kv, &statistics);
    assert_int_equal(statistics.key_count, left_count);
    assert_int_equal(statistics.expiring_key_count, 0);
    kv__world_deinit(&world);
}

static void test_many_keys_need_few_commands(void **state)
{
    (void)state;
    enum { MANY = 20000, COMMAND_COUNT_MAX = 200 };
    struct kv__world world;
    kv__world_init(&world, 1);
    for (uint32_t i = 0; i < MANY; i++) {
        (void)kv__world_say(&world, "set key:%u value px 1000", i);
    }
    assert_false(kv__world_background(&world));
    world.time_ms += 1000;
    uint32_t command_count = 0;
    while (kv__world_background(&world)) {
        command_count++;
    }
    assert_in_range(command_count, MANY / 1000, COMMAND_COUNT_MAX);
    assert_int_equal(memstore_row_count(world.store), 0);
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_key_ends_at_its_time),
        cmocka_unit_test(test_many_keys_need_few_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
