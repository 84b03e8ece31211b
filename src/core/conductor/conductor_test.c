/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: however the office goes from node to node, and whatever the network loses or delays, the steps for
 * balance come to an end, and what an operator did by hand stays for a while. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/conductor/conductor_world.h"

/* Where not every node may lead every group, one more may be as good as it gets. */
static void expect_even(const struct conductor__world *world)
{
    uint32_t more = world->node_count == 3 ? 1 : 2;
    uint32_t least = world->group_count;
    uint32_t most = 0;
    for (raft_node node = 1; node <= world->node_count; node++) {
        uint32_t count = conductor__world_led_count(world, node);
        least = count < least ? count : least;
        most = count > most ? count : most;
    }
    assert_true(most <= least + more);
}

/* From one node that leads all: each group moves once at most, and then nothing more happens. */
static void test_leaders_spread_and_stay(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct conductor__world *world =
            conductor__world_create(3 + (uint32_t)(seed % 4), 2 + (uint32_t)(seed % 9), seed);
        world->loss_percent = seed % 3 == 0 ? 30 : 0;
        world->delay_ms_max = seed % 2 == 0 ? 300 : 5;
        conductor__world_run(world, CONDUCTOR_HOLD_MS + 10000);
        expect_even(world);
        assert_true(world->transfer_count <= 2 * world->group_count);
        uint64_t before = world->transfer_count;
        conductor__world_run(world, 120000);
        assert_int_equal(world->transfer_count, before);
        conductor__world_destroy(world);
    }
}

/* Whoever comes into office, again and again, from whatever state: a new conductor does not act on what the
 * last one of its offices left it, nor on what it has not heard yet. Each office alone is too short for
 * balance, so only what is not even moves. */
static void test_offices_change(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct conductor__world *world = conductor__world_create(3, 2 + (uint32_t)(seed % 7), seed);
        world->delay_ms_max = seed % 2 == 0 ? 150 : 5;
        for (wal_shard group = 1; group <= world->group_count; group++) {
            conductor__world_lead(world, group, 1 + group % 3);
        }
        conductor__world_run(world, 5000);
        for (uint32_t i = 0; i < 20; i++) { /* Elections: each of them has been in office before. */
            conductor__world_lead(world, 1, 1 + (raft_node)random_below(&world->random, 3));
            conductor__world_run(world, 100 + random_below(&world->random, 2500));
        }
        uint64_t before = world->transfer_count;
        conductor__world_run(world, 120000);
        assert_true(world->transfer_count <= before + world->group_count);
        assert_true(world->transfer_at_ms + 50000 < world->now_ms);
        expect_even(world);
        conductor__world_destroy(world);
    }
}

/* The office goes from one to another, each of whom has been in it before, while everything is even: then
 * nobody moves anything, at once or later, for it acts neither on what its last office left it nor before it
 * has heard of all. */
static void test_even_stays_even(void **state)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct conductor__world *world = conductor__world_create(3, 6, seed);
        world->delay_ms_max = seed % 2 == 0 ? 150 : 5;
        world->loss_percent = seed % 4 == 0 ? 10 : 0;
        for (wal_shard group = 1; group <= 6; group++) {
            conductor__world_lead(world, group, 1 + group % 3);
        }
        for (uint32_t i = 0; i < 10; i++) {
            raft_node before = world->groups[0].state.leader;
            raft_node next = 1 + (raft_node)random_below(&world->random, 3);
            for (wal_shard group = 2; group <= 6 && next != before; group++) {
                if (world->groups[group - 1].state.leader == next) {
                    conductor__world_lead(world, group, before); /* In exchange. */
                    break;
                }
            }
            conductor__world_lead(world, 1, next);
            conductor__world_run(world, 100 + random_below(&world->random, 6000));
            assert_int_equal(world->transfer_count, 0);
        }
        conductor__world_destroy(world);
    }
}

/* Nodes without a replica of the first shard do not know who leads it. They are told, so that they get their share;
 * when the office goes to another one, that tells them. What they lead moves when they are to drain. */
static void test_who_has_no_replica_of_the_first_shard(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct conductor__world *world = conductor__world_create(5, 10, seed);
        world->are_others_blind = true;
        world->loss_percent = seed % 2 == 0 ? 30 : 0;
        conductor__world_run(world, CONDUCTOR_HOLD_MS + 10000);
        expect_even(world);
        for (raft_node node = 2; node <= 5; node += 3) { /* The two. */
            assert_true(conductor__world_led_count(world, node) >= 1);
        }
        conductor__world_lead(world, 1, world->groups[0].state.leader == 3 ? 4 : 3);
        conductor__world_run(world, 5000);
        world->states[4].is_draining = true;
        conductor__world_run(world, 100000);
        assert_int_equal(world->drained, 5);
        assert_int_equal(conductor__world_led_count(world, 5), 0);
        conductor__world_destroy(world);
    }
}

static void set_voters(struct conductor__world *world, wal_shard group, raft_node first,
                       raft_node second)
{
    struct placement_group_state *state = &world->groups[group - 1].state;
    state->leader = first;
    state->voter_count = second == 0 ? 1 : 2;
    state->voters[0] = first;
    state->voters[1] = second;
}

/* One voter too many of the first shard: each conductor, which at first knows of itself alone, finds that its own
 * node has most, and might hand the office to the other, which would do the same. */
static void test_two_voters_of_the_first_shard(void **state)
{
    for (uint32_t count = 2; count <= 8; count++) {
        struct conductor__world *world = conductor__world_create(2, count, count);
        world->policy.replica_count = 1;
        world->delay_ms_max = 150;
        set_voters(world, 1, 1, 2);
        for (wal_shard group = 2; group <= count; group++) {
            set_voters(world, group, 1 + group % 2, 0);
        }
        conductor__world_run(world, 20000);
        assert_int_equal(world->groups[0].state.voter_count, 1);
        assert_true(world->groups[0].transfer_count <= 2);
        conductor__world_destroy(world);
    }
}

/* ---- Node 1 alone, and what it is told ------------------------------------------------------- */

/* Node 1 leads the first `own_count` groups, and hears of the others only what is said below. */
static struct conductor__world *deaf_world(uint32_t group_count, uint32_t own_count)
{
    struct conductor__world *world = conductor__world_create(3, group_count, 1);
    world->nodes[1].is_mute = true;
    world->nodes[2].is_mute = true;
    for (wal_shard group = own_count + 1; group <= group_count; group++) {
        conductor__world_lead(world, group, 2);
    }
    return world;
}

/* The groups from `first` to `last` are led by `from`. */
static void tell(struct conductor__world *world, raft_node from, wal_shard first, wal_shard last)
{
    struct buffer bytes = {0};
    conductor_report_begin(&bytes, last - first + 1);
    for (wal_shard group = first; group <= last; group++) {
        conductor_report_add(&bytes, &world->groups[group - 1].state);
    }
    assert_int_equal(
        conductor_receive(world->nodes[0].conductor, from, buffer_bytes(&bytes), world->now_ms), 0);
    buffer_deinit(&bytes);
}

/* Steps that are on their way to a node. */
static uint32_t step_count(const struct conductor__world *world, raft_node to)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->message_count; i++) {
        struct conductor_message message;
        assert_int_equal(
            conductor_message_decode(buffer_bytes(&world->messages[i].bytes), &message), 0);
        count += world->messages[i].to == to && message.kind == CONDUCTOR_MESSAGE_STEP;
    }
    return count;
}

/* It waits for what it has not heard of, and then finds that nothing is to be done; what stays unknown it
 * waits for a second, no longer. */
static void test_balance_waits_for_all(void **state)
{
    struct conductor__world *world = deaf_world(9, 3);
    conductor__world_run(world, 200);
    tell(world, 2, 4, 4);
    tell(world, 3, 7, 9);
    conductor__world_run(world, 400);
    assert_int_equal(world->transfer_count, 0);
    tell(world, 2, 5, 6);
    conductor__world_run(world, 1500);
    assert_int_equal(world->transfer_count, 0);
    conductor__world_destroy(world);

    world = deaf_world(9, 3);
    conductor__world_run(world, 200);
    tell(world, 2, 4, 4);
    tell(world, 3, 7, 9);
    conductor__world_run(world, 1200);
    assert_int_equal(world->transfer_count, 1);
    conductor__world_destroy(world);
}

/* A node that drains is not empty because reports of an earlier office said so. */
static void test_earlier_reports_are_forgotten(void **state)
{
    struct conductor__world *world = conductor__world_create(4, 2, 1);
    const struct placement_group_state *second = &world->groups[1].state;
    raft_node without = 2 + (second->voters[1] == 2) + (second->voters[2] == 3);
    const struct placement_group_state *first = &world->groups[0].state;
    without = first->voters[1] == 2 && first->voters[2] == 3 ? 4 : without;
    conductor__world_lead(world, 2, second->voters[1]);
    world->nodes[second->voters[1] - 1].is_mute = true;
    conductor__world_run(world, 200);
    tell(world, second->voters[1], 2, 2);
    conductor__world_run(world, 200);
    conductor__world_lead(world, 1, 1); /* A new term. */
    world->groups[0].state.voter_count = world->groups[1].state.voter_count = 3;
    for (raft_node node = 1; node <= 4; node++) {
        world->states[node - 1].is_draining = node == without;
    }
    conductor__world_run(world, 1000);
    assert_int_equal(world->drained, 0);
    conductor__world_destroy(world);
}

/* A report that was sent before a change of leaders, and comes behind it, says nothing. */
static void test_a_late_report(void **state)
{
    struct conductor__world *world = deaf_world(3, 1);
    world->delay_ms_max = 1000000; /* What is sent can be looked at. */
    conductor__world_run(world, 200);
    world->states[1].is_slow = true;
    tell(world, 2, 2, 3);
    conductor__world_run(world, 200);
    assert_int_equal(step_count(world, 2), 2);
    tell(world, 3, 2, 3);
    conductor__world_run(world, 200);
    tell(world, 2, 2, 3);
    conductor__world_run(world, 200);
    assert_int_equal(step_count(world, 2), 2);
    conductor__world_destroy(world);
}

/* A step that leads to nothing is not repeated before the cool-down is over. */
static void test_cool_down(void **state)
{
    struct conductor__world *world = deaf_world(4, 1);
    world->delay_ms_max = 1000000;
    for (uint32_t i = 0; i < 24; i++) {
        tell(world, 2, 2, 4);
        tell(world, 3, 1, 0);
        conductor__world_run(world, 200);
    }
    assert_int_equal(step_count(world, 2), 3); /* One for each of its groups. */
    conductor__world_destroy(world);
}

/* ---- Balance and memory ---------------------------------------------------------------------- */

/* The office itself is not handed over for balance while it is new, whatever else is uneven. */
static void test_a_new_office_stays(void **state)
{
    struct conductor__world *world = conductor__world_create(3, 2, 1);
    conductor__world_lead(world, 2, 2);
    conductor__world_run(world, 10000);
    conductor__world_lead(world, 1, 2);
    conductor__world_lead(world, 2, 2);
    conductor__world_run(world, CONDUCTOR_HOLD_MS - 1000);
    assert_int_equal(world->groups[0].state.leader, 2);
    assert_int_equal(world->groups[0].transfer_count, 0);
    assert_int_equal(conductor__world_led_count(world, 2), 1);
    conductor__world_destroy(world);
}

/* A leader that was made by hand stays for a minute, though others lead less; then balance goes on. */
static void test_what_was_done_by_hand(void **state)
{
    struct conductor__world *world = conductor__world_create(3, 6, 1);
    conductor__world_run(world, 60000);
    expect_even(world);
    uint64_t before = world->transfer_count;
    raft_node target = world->groups[0].state.leader == 3 ? 2 : 3;
    for (wal_shard group = 2; group <= 6; group++) {
        conductor__world_lead(world, group, target);
    }
    uint64_t at_ms = world->now_ms;
    conductor__world_run(world, CONDUCTOR_HOLD_MS - 5000);
    assert_true(world->transfer_count <= before + 2); /* Those that it led anyway may go. */
    assert_true(conductor__world_led_count(world, target) >= 3);
    conductor__world_run(world, 30000);
    assert_true(world->transfer_at_ms > at_ms + CONDUCTOR_HOLD_MS - 1000);
    expect_even(world);
    conductor__world_destroy(world);
}

/* But not where its node drains or is slow; and what the death of a node moved goes back as soon as it is there. */
static void test_what_was_done_by_failures(void **state)
{
    struct conductor__world *world = conductor__world_create(3, 6, 1);
    conductor__world_run(world, 60000);
    raft_node other = world->groups[0].state.leader == 3 ? 2 : 3;
    for (wal_shard group = 2; group <= 6; group++) {
        conductor__world_lead(world, group, other);
    }
    conductor__world_run(world, 1000);
    world->states[other - 1].is_slow = true;
    conductor__world_run(world, 3000);
    assert_int_equal(conductor__world_led_count(world, other), 0);
    world->states[other - 1].is_slow = false;
    conductor__world_run(world, 100000);
    expect_even(world);

    raft_node victim = world->groups[0].state.leader == 2 ? 3 : 2;
    assert_true(conductor__world_led_count(world, victim) > 0);
    conductor__world_set_down(world, victim, true);
    conductor__world_run(world, 5000);
    assert_int_equal(conductor__world_led_count(world, victim), 0);
    conductor__world_set_down(world, victim, false);
    conductor__world_run(world, 10000);
    assert_true(conductor__world_led_count(world, victim) > 0);
    conductor__world_destroy(world);
}

/* Whoever is not heard is given nothing: what it leads already is not known. */
static void test_a_silent_node_gets_nothing(void **state)
{
    struct conductor__world *world = conductor__world_create(3, 6, 1);
    world->nodes[2].is_mute = true;
    conductor__world_run(world, 100000);
    assert_int_equal(conductor__world_led_count(world, 3), 0);
    assert_int_equal(conductor__world_led_count(world, 2), 3);
    world->nodes[2].is_mute = false;
    conductor__world_run(world, 100000);
    expect_even(world);
    conductor__world_destroy(world);
}

/* Loads that differ are balanced, so that nobody leads much more of it than it must; and what is measured
 * with noise moves nothing later. */
static void test_loads(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct conductor__world *world = conductor__world_create(3, 7, seed);
        world->noise_percent = 30;
        for (uint32_t i = 0; i < 7; i++) {
            world->groups[i].load = i == 3 ? 60000 : 5000;
            world->groups[i].size_bytes = 50000000;
        }
        conductor__world_run(world, 200000);
        raft_node hot = world->groups[3].state.leader;
        assert_int_equal(conductor__world_led_count(world, hot), 1);
        uint64_t before = world->transfer_count;
        conductor__world_run(world, 600000);
        assert_int_equal(world->transfer_count, before);
        for (uint32_t i = 0; i < 7; i++) { /* Idle: by number. */
            world->groups[i].load = i == 3 ? 700 : 5;
        }
        conductor__world_run(world, 300000);
        expect_even(world);
        conductor__world_destroy(world);
    }
}

/* Replicas are spread by size: a node with a large one has fewer of them; small ones are spread by number
 * whatever their sizes. Noise moves nothing. */
static void test_sizes(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        bool is_small = seed % 2 == 0;
        struct conductor__world *world = conductor__world_create(4, 8, seed);
        world->noise_percent = 10;
        for (uint32_t i = 0; i < 8; i++) {
            uint64_t large = i == 2 ? 3000000000 : 300000000;
            world->groups[i].size_bytes = is_small ? 1000000 * i : large;
        }
        conductor__world_run(world, 100000);
        uint32_t counts[4] = {0};
        for (uint32_t i = 0; i < 8; i++) {
            for (uint32_t j = 0; j < world->groups[i].state.voter_count; j++) {
                counts[world->groups[i].state.voters[j] - 1]++;
            }
        }
        for (uint32_t i = 0; i < 4; i++) {
            const struct placement_group_state *large = &world->groups[2].state;
            bool has_large =
                large->voters[0] == i + 1 || large->voters[1] == i + 1 || large->voters[2] == i + 1;
            assert_true(is_small ? counts[i] >= 5 && counts[i] <= 7 : (counts[i] < 7) == has_large);
        }
        uint64_t before = world->configure_count;
        conductor__world_run(world, 300000);
        assert_int_equal(world->configure_count, before);
        conductor__world_destroy(world);
    }
}

/* Repairs do not wait for balance: a node drains though one group is not known, but is not empty then. */
static void test_drain(void **state)
{
    struct conductor__world *world = conductor__world_create(4, 4, 1);
    conductor__world_run(world, 20000);
    assert_int_equal(world->drained, 0);
    world->states[1].is_draining = true;
    conductor__world_run(world, 20000);
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t j = 0; j < world->groups[i].state.voter_count; j++) {
            assert_int_not_equal(world->groups[i].state.voters[j], 2);
        }
    }
    assert_int_equal(world->drained, 2);
    conductor__world_destroy(world);
}

/* A node that may have the child of a planned split is not said to be empty: this conductor has not heard of it. */
static void test_a_drain_waits_for_a_planned_split(void **state)
{
    struct conductor__world *world = conductor__world_create(4, 4, 1);
    conductor__world_run(world, 20000);
    world->planned = (struct conductor_split){.parent = 99, .child = 5, .first = 7000};
    world->is_planned = true; /* Its parent is nowhere. */
    world->states[1].is_draining = true;
    conductor__world_run(world, 20000);
    assert_int_equal(world->drained, 0);
    world->is_planned = false;
    conductor__world_run(world, 1000);
    assert_int_equal(world->drained, 2);
    conductor__world_destroy(world);
}

/* A planned split is told whoever leads the parent until the map has it, however much is lost. */
static void test_a_planned_split(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct conductor__world *world = conductor__world_create(3, 3, seed);
        world->loss_percent = 50;
        conductor__world_run(world, 20000);
        world->planned = (struct conductor_split){.parent = 2, .child = 4, .first = 7000};
        world->is_planned = true;
        conductor__world_run(world, 20000);
        assert_int_equal(world->split_count, 1);
        assert_int_equal(world->split_done_count, 1);
        conductor__world_destroy(world);
    }
}

/* ---- Splits by themselves -------------------------------------------------------------------- */

/* What is too large is split, one after the other, until nothing is; then nothing more happens, and leaders are
 * spread. However much is lost. */
static void test_splits_by_size(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct conductor__world *world = conductor__world_create(3, 1, seed);
        world->loss_percent = seed % 2 == 0 ? 0 : 30;
        world->slot_bytes = 100000; /* 1.6 GB */
        conductor__world_run(world, 20000);
        assert_int_equal(world->plan_count, 0); /* It is off. */
        world->split_size_bytes = 256 << 20;
        conductor__world_run(world, 1000000);
        assert_int_equal(world->group_count, 8);
        expect_even(world);
        uint64_t before = world->plan_count;
        conductor__world_run(world, 200000);
        assert_int_equal(world->plan_count, before);
        conductor__world_destroy(world);
    }
}

/* Where one slot has nearly everything a split makes nothing better, so there is none. */
static void test_one_slot_is_not_split(void **state)
{
    struct conductor__world *world = conductor__world_create(3, 2, 1);
    world->slot_bytes = 1000;
    world->hot_slot = 5000;
    world->hot_bytes = 1000000000;
    world->split_size_bytes = 1000000;
    conductor__world_run(world, 1000000);
    for (uint32_t i = 0; i < world->map.range_count; i++) {
        const struct slots_range *range = &world->map.ranges[i];
        bool has_hot = range->first <= 5000 && 5000 < range->end;
        assert_true(has_hot || (range->end - range->first) * 1000 <= 1000000);
    }
    assert_int_equal(world->map.ranges[0].end, 8192);
    uint64_t before = world->plan_count;
    conductor__world_run(world, CONDUCTOR_SPLIT_USELESS_MS);
    assert_int_equal(world->plan_count, before);
    conductor__world_destroy(world);
}

/* A shard that is too busy for half a minute is split, when another node can take half of it; the halves are
 * led by different nodes then. One that is busy for a moment is not, nor one where nobody has room. */
static void test_splits_by_load(void **state)
{
    struct conductor__world *world = conductor__world_create(3, 1, 1);
    world->slot_bytes = 1;
    world->slot_load = 6000;
    world->split_load_per_s = 50000;
    conductor__world_run(world, CONDUCTOR_SPLIT_BUSY_MS - 2000);
    assert_int_equal(world->plan_count, 0);
    conductor__world_run(world, 120000);
    assert_int_equal(world->group_count, 2);
    assert_int_not_equal(world->groups[0].state.leader, world->groups[1].state.leader);
    conductor__world_destroy(world);

    world = conductor__world_create(3, 3, 1);
    world->slot_bytes = 1;
    world->slot_load = 12000; /* All are as busy. */
    world->split_load_per_s = 50000;
    conductor__world_run(world, 200000);
    expect_even(world);
    assert_int_equal(world->plan_count, 0);
    conductor__world_destroy(world);
}

/* The cut of a shard that is too busy is where its requests are halved, wherever its bytes are. */
static void test_the_cut_is_between_requests(void **state)
{
    struct conductor__world *world = conductor__world_create(3, 1, 1);
    world->slot_bytes = 1000;
    world->slot_load = 1000; /* A slot has two fifths of 27,000/s. */
    world->hot_slot = 100;
    world->hot_load = 11000000;
    world->split_load_per_s = 20000;
    conductor__world_run(world, 60000);
    assert_int_equal(world->group_count, 2);
    assert_in_range(world->map.ranges[0].end, 2600, 2800); /* Not 8192. */
    conductor__world_run(world, 60000);
    assert_int_not_equal(world->groups[0].state.leader, world->groups[1].state.leader);
    conductor__world_destroy(world);
}

/* A shard of which one slot takes nearly all requests is not split for that, and its leader is not asked
 * again soon. */
static void test_a_hot_slot_is_not_split(void **state)
{
    for (uint32_t hot_slot = 0; hot_slot < SLOTS_COUNT; hot_slot += 4000) {
        struct conductor__world *world = conductor__world_create(3, 1, 1);
        world->slot_bytes = 1;
        world->slot_load = 500; /* Together less than an eighth. */
        world->hot_slot = hot_slot;
        world->hot_load = 90000000;
        world->split_load_per_s = 50000;
        conductor__world_run(world, CONDUCTOR_SPLIT_USELESS_MS);
        assert_int_equal(world->plan_count, 0);
        world->hot_load = 0; /* The load is everybody's now; */
        world->slot_load = 6000;
        conductor__world_run(world, 20000); /* but when that was found out is not long ago. */
        assert_int_equal(world->plan_count, 0);
        conductor__world_run(world, 60000);
        assert_true(world->plan_count > 0);
        conductor__world_destroy(world);
    }
}

/* Who has seen too few requests to tell, because it has just begun to lead, is asked again soon. */
static void test_a_leader_that_cannot_tell_yet(void **state)
{
    struct conductor__world *world = conductor__world_create(3, 1, 1);
    world->slot_bytes = 1;
    world->slot_load = 6000;
    world->split_load_per_s = 50000;
    world->is_without_sample = true;
    conductor__world_run(world, 100000);
    assert_int_equal(world->plan_count, 0);
    world->is_without_sample = false;
    conductor__world_run(world, CONDUCTOR_SPLIT_SETTLE_MS + 5000);
    assert_int_equal(world->plan_count, 1);
    conductor__world_destroy(world);
}

/* Where a split leaves one slot with all requests, against what was said of the halves, no other follows for
 * an hour. */
static void test_a_hot_slot_is_not_split_again(void **state)
{
    for (uint32_t hot_slot = 3000; hot_slot < SLOTS_COUNT; hot_slot += 9000) {
        struct conductor__world *world = conductor__world_create(3, 1, 1);
        world->slot_bytes = 1;
        world->slot_load = 1;
        world->hot_slot = hot_slot;
        world->hot_load = 90000000;
        world->is_load_cut_by_bytes = true;
        world->split_load_per_s = 50000;
        conductor__world_run(world, 600000);
        assert_int_equal(world->plan_count, 1);
        conductor__world_run(world, CONDUCTOR_SPLIT_NO_RELIEF_MS);
        assert_true(world->plan_count <= 2);
        conductor__world_destroy(world);
    }
}

/* Nothing is split while another split is planned, by whomever; nor in a cluster of one node, or where all others
 * drain: it has nobody to give a part to. */
static void test_one_split_at_a_time(void **state)
{
    struct conductor__world *world = conductor__world_create(3, 3, 1);
    conductor__world_run(world, 20000);
    world->slot_bytes = 100000;
    world->split_size_bytes = 100 << 20;
    world->planned = (struct conductor_split){.parent = 99, .child = 4, .first = 7000};
    world->is_planned = true; /* Its parent is nowhere. */
    conductor__world_run(world, 60000);
    assert_int_equal(world->plan_count, 0);
    conductor__world_destroy(world);

    world = conductor__world_create(1, 1, 1);
    world->slot_bytes = 100000;
    world->split_size_bytes = 100 << 20;
    conductor__world_run(world, 60000);
    assert_int_equal(world->plan_count, 0);
    conductor__world_destroy(world);

    world = conductor__world_create(2, 1, 1);
    world->slot_bytes = 100000;
    world->split_size_bytes = 100 << 20;
    world->states[1].is_draining = true;
    conductor__world_run(world, 60000);
    assert_int_equal(world->plan_count, 0);
    conductor__world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaders_spread_and_stay),
        cmocka_unit_test(test_offices_change),
        cmocka_unit_test(test_even_stays_even),
        cmocka_unit_test(test_who_has_no_replica_of_the_first_shard),
        cmocka_unit_test(test_two_voters_of_the_first_shard),
        cmocka_unit_test(test_balance_waits_for_all),
        cmocka_unit_test(test_earlier_reports_are_forgotten),
        cmocka_unit_test(test_a_late_report),
        cmocka_unit_test(test_cool_down),
        cmocka_unit_test(test_a_new_office_stays),
        cmocka_unit_test(test_what_was_done_by_hand),
        cmocka_unit_test(test_what_was_done_by_failures),
        cmocka_unit_test(test_a_silent_node_gets_nothing),
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_splits_by_size),
        cmocka_unit_test(test_one_slot_is_not_split),
        cmocka_unit_test(test_splits_by_load),
        cmocka_unit_test(test_the_cut_is_between_requests),
        cmocka_unit_test(test_a_hot_slot_is_not_split),
        cmocka_unit_test(test_a_leader_that_cannot_tell_yet),
        cmocka_unit_test(test_a_hot_slot_is_not_split_again),
        cmocka_unit_test(test_one_split_at_a_time),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_a_drain_waits_for_a_planned_split),
        cmocka_unit_test(test_a_planned_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
