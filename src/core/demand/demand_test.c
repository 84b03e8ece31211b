/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/demand/demand.h"
#include "core/slots/slots.h"

/* A shard with a clock: one request each `1000 / per_ms` µs. */
struct world {
    struct demand demand;
    struct random random; /* Of the clients: they know nothing of the sample's. */
    uint64_t count;
    uint64_t now_us;
    uint64_t noted_count;
};

static void start(struct world *world, uint64_t seed)
{
    *world = (struct world){.now_us = 5000000};
    demand_init(&world->demand, seed);
    random_init(&world->random, seed + 1000);
}

static void request(struct world *world, uint32_t slot, uint64_t gap_us)
{
    world->now_us += gap_us;
    world->count++;
    if (demand_is_next(&world->demand)) {
        world->noted_count++;
        demand_note(&world->demand, slot, world->now_us / 1000);
    }
}

static bool halve(const struct world *world, uint32_t first, uint32_t end,
                  struct demand_halves *halves)
{
    return demand_halve(&world->demand, first, end, world->now_us / 1000, halves);
}

/* Requests that are spread evenly over some slots are halved in their middle, wherever these are: with a
 * thousand per second as with a million. */
static void test_even_requests(void **state)
{
    const uint32_t rates[] = {1000, 30000, 1000000};
    const uint32_t ranges[][2] = {{0, SLOTS_COUNT}, {0, 100}, {SLOTS_COUNT - 8, SLOTS_COUNT}};
    for (uint32_t i = 0; i < 9; i++) {
        struct world world;
        const uint32_t *range = ranges[i % 3];
        uint32_t rate = rates[i / 3];
        uint32_t width = range[1] - range[0];
        start(&world, i);
        for (uint32_t j = 0; j < 12 * rate && j < 6000000; j++) {
            request(&world, range[0] + (uint32_t)random_below(&world.random, width),
                    1000000 / rate);
        }
        struct demand_halves halves;
        assert_true(halve(&world, 0, SLOTS_COUNT, &halves));
        assert_true(halves.lower > halves.upper / 4 * 3 && halves.upper > halves.lower / 4 * 3);
        assert_true(halves.slot >= range[0] + width / 3);
        assert_true(halves.slot <= range[1] - width / 3);
        demand_deinit(&world.demand);
    }
}

/* What is told are requests: about as many as came in one window or two. */
static void test_parts_are_requests(void **state)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct world world;
        start(&world, seed);
        for (uint32_t i = 0; i < 200000; i++) { /* Four fifths of 10,000/s are in slot 9. */
            request(&world, i % 5 == 0 ? 4 : 9, 100);
        }
        struct demand_halves halves;
        assert_true(halve(&world, 0, SLOTS_COUNT, &halves));
        assert_true(halves.slot > 4 && halves.slot <= 9);
        uint64_t total = halves.lower + halves.upper;
        assert_true(total > 80000 && total < 240000);
        assert_true(halves.lower > total / 10 && halves.lower < total / 10 * 3);
        demand_deinit(&world.demand);
    }
}

/* I1: what came early in a window counts as much as what came late, however often the sample was full. */
static void test_early_and_late(void **state)
{
    uint64_t early = 0;
    uint64_t late = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct world world;
        start(&world, seed);
        for (uint32_t i = 0; i < 96000; i++) {
            request(&world, i < 48000 ? 10 : 20, 100);
        }
        struct demand_halves halves;
        assert_true(halve(&world, 0, SLOTS_COUNT, &halves));
        assert_int_equal(halves.slot, 15);
        early += halves.lower;
        late += halves.upper;
        demand_deinit(&world.demand);
    }
    assert_true(early > late / 20 * 19 && late > early / 20 * 19);
}

/* A client that asks for its keys in turn is seen at all of them, whatever their number: a stride that is
 * always the same would see one of 16, or of 32. */
static void test_requests_in_turn(void **state)
{
    for (uint32_t period = 2; period <= 64; period *= 2) {
        struct world world;
        start(&world, period);
        for (uint32_t i = 0; i < 40000; i++) {
            request(&world, 100 + i % period, 100);
        }
        struct demand_halves halves;
        assert_true(halve(&world, 0, SLOTS_COUNT, &halves));
        assert_true(halves.lower > halves.upper / 2 && halves.upper > halves.lower / 2);
        demand_deinit(&world.demand);
    }
}

/* Where one slot has nearly all requests, no cut leaves both parts much; where it has all, one part has
 * none. It is a cut all the same: behind the first slot, before the end. */
static void test_one_hot_slot(void **state)
{
    const uint32_t hots[] = {0, 1, 7000, SLOTS_COUNT - 1};
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t has_others = 0; has_others < 2; has_others++) {
            struct world world;
            start(&world, i);
            for (uint32_t j = 0; j < 100000; j++) {
                bool is_other = has_others != 0 && j % 20 == 0;
                uint32_t other = (uint32_t)random_below(&world.random, SLOTS_COUNT);
                request(&world, is_other ? other : hots[i], 100);
            }
            struct demand_halves halves;
            assert_true(halve(&world, 0, SLOTS_COUNT, &halves));
            uint64_t least = halves.lower < halves.upper ? halves.lower : halves.upper;
            assert_true(halves.slot > 0 && halves.slot < SLOTS_COUNT);
            assert_true(least < (halves.lower + halves.upper) / 8);
            assert_true(has_others != 0 || least == 0);
            demand_deinit(&world.demand);
        }
    }
}

/* A slot that has the most, but not nearly all, is cut off on the side that halves better. */
static void test_beside_a_warm_slot(void **state)
{
    struct world world;
    start(&world, 1);
    for (uint32_t i = 0; i < 100000; i++) { /* 10 %, 50 %, 40 %. */
        uint32_t lot = (uint32_t)random_below(&world.random, 10);
        request(&world, lot < 1 ? 1000 : lot < 6 ? 2000 : 3000, 100);
    }
    struct demand_halves halves;
    assert_true(halve(&world, 0, SLOTS_COUNT, &halves));
    assert_int_equal(halves.slot, 2500);
    assert_true(halve(&world, 0, 2900, &halves)); /* Of a part of them. */
    assert_int_equal(halves.slot, 1500);
    demand_deinit(&world.demand);
}

/* Of few requests nothing is told, nor of a range in which few were, nor once the last came long ago. */
static void test_too_few(void **state)
{
    struct world world;
    struct demand_halves halves;
    start(&world, 1);
    assert_false(halve(&world, 0, SLOTS_COUNT, &halves));
    for (uint32_t i = 0; i < 32 * DEMAND_STRIDE_MIN; i++) {
        request(&world, i % SLOTS_COUNT, 1000);
    }
    assert_false(halve(&world, 0, SLOTS_COUNT, &halves));
    for (uint32_t i = 0; i < 160 * DEMAND_STRIDE_MIN; i++) {
        request(&world, i % 2000, 1000);
    }
    assert_true(halve(&world, 0, SLOTS_COUNT, &halves));
    assert_false(halve(&world, 2000, SLOTS_COUNT, &halves));
    world.now_us += 3 * 1000ull * DEMAND_WINDOW_MS;
    assert_false(halve(&world, 0, SLOTS_COUNT, &halves));
    demand_deinit(&world.demand);
}

/* What was asked for two windows ago is forgotten, and half a minute ago for certain. */
static void test_the_past_is_forgotten(void **state)
{
    struct world world;
    struct demand_halves halves;
    start(&world, 1);
    for (uint32_t i = 0; i < 300000; i++) {
        request(&world, i % 10, 100);
    }
    for (uint32_t i = 0; i < 20000; i++) { /* A hundredth of the load. */
        request(&world, 1000 + i % 2, 1000);
    }
    assert_true(halve(&world, 0, SLOTS_COUNT, &halves));
    assert_int_equal(halves.slot, 1001);
    demand_deinit(&world.demand);
}

/* I3: few requests are noted, and what is not noted changes nothing. */
static void test_few_are_noted(void **state)
{
    struct world world;
    start(&world, 1);
    for (uint32_t i = 0; i < 5000000; i++) {
        request(&world, (uint32_t)random_below(&world.random, SLOTS_COUNT), 2);
    }
    assert_true(world.noted_count > DEMAND_SAMPLE_COUNT && world.noted_count < 3000);
    demand_deinit(&world.demand);
}

/* The same seed gives the same sample; requests that are for no slot are passed over. */
static void test_the_same_again(void **state)
{
    struct demand_halves halves[2];
    for (uint32_t run = 0; run < 2; run++) {
        struct demand demand;
        demand_init(&demand, 7);
        for (uint32_t i = 0; i < 100000; i++) {
            if (!demand_is_next(&demand)) {
                continue;
            }
            if (i % 3 == 0) {
                demand_pass(&demand);
            } else {
                demand_note(&demand, (uint32_t)(demand_choose(&demand) % SLOTS_COUNT), i / 10);
            }
        }
        assert_true(demand_halve(&demand, 0, SLOTS_COUNT, 10000, &halves[run]));
        demand_deinit(&demand);
    }
    assert_int_equal(halves[0].slot, halves[1].slot);
    assert_int_equal(halves[0].lower, halves[1].lower);
    assert_int_equal(halves[0].upper, halves[1].upper);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even_requests),  cmocka_unit_test(test_parts_are_requests),
        cmocka_unit_test(test_early_and_late), cmocka_unit_test(test_requests_in_turn),
        cmocka_unit_test(test_one_hot_slot),   cmocka_unit_test(test_beside_a_warm_slot),
        cmocka_unit_test(test_too_few),        cmocka_unit_test(test_the_past_is_forgotten),
        cmocka_unit_test(test_few_are_noted),  cmocka_unit_test(test_the_same_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
