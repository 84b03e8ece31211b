/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: after the loss of a node its groups have all their voters again no later in a large cluster than in a small
 * one, and nothing is copied but what was lost, nor before the grace has ended.
 *
 * Clusters of 10 to 200 nodes, with 50 groups for each (PER_NODE=500: 100,000 in all), lose one. The steps
 * are those of placement, which looks as seldom as the conductor does with so many groups: every 200 ms, and
 * 200 ms more for each 1,024. A group has 32 to 96 MB. A node takes BYTES_PER_MS, and gives as much, shared by
 * the learners on it, and by those that it fills as a leader; of each at most as many at a time as a node allows.
 * That a learner has all is known when its leader next reports, once in an interval. Nothing else is modelled: no
 * clients, no delay of messages (a millisecond), no snapshot that takes longer because of its disk. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "base/random/random.h"
#include "core/conductor/conductor.h"
#include "core/placement/placement_world.h"

enum {
    GROUPS_PER_NODE = 50,
    REPLICA_COUNT = 3,
    STEP_MS = 20,
    LOST = 3,
    SIZE_BYTES_MIN = 32000000,
    SIZE_BYTES_MAX = 96000000,
    BYTES_PER_MS = 100000,
    FILL_COUNT_MAX = 4, /* As in the node. */
    REPAIR_MS_MAX = 3600000,
};

struct fill {
    placement_node node;
    uint64_t rest_bytes;
};

struct repair {
    struct placement__world world;
    struct fill *fills; /* By group. */
    uint32_t *filling;  /* Groups that have a learner, as of the last look. */
    uint32_t filling_count;
    uint32_t *lacking; /* Groups that lost a replica. */
    uint32_t lacking_count;
    uint32_t *in_counts;
    uint32_t *out_counts; /* By node, as ids. */
    uint32_t interval_ms;
    uint32_t node_count;
};

struct result {
    uint32_t lost_count;
    uint64_t lost_bytes;
    uint64_t moved_bytes;
    uint32_t led_count_max; /* Of the groups that lack a replica, by one node. */
    uint64_t first_ms;      /* Since the grace ended. */
    uint64_t half_ms;
    uint64_t all_ms;
    uint64_t least_ms; /* All nodes would take as much as they can all the time. */
};

/* ---- A cluster at rest ----------------------------------------------------------------------- */

static void begin(struct repair *repair, uint32_t node_count, uint32_t groups_per_node)
{
    uint32_t group_count = node_count * groups_per_node;
    struct random random;
    random_init(&random, node_count);
    struct placement__world *world = &repair->world;
    placement__world_init(world, node_count, group_count);
    world->policy.fill_count_max = 32;
    world->fill_rounds = 1;
    for (placement_node id = 1; id <= node_count; id++) {
        (void)placement__world_add_node(world, id, id % 5);
    }
    for (placement_group id = 1; id <= group_count; id++) {
        struct placement_group_state *group = placement__world_add_group(world, id);
        group->voter_count = 1;
        group->voters[0] = group->leader = 1 + id % node_count;
        group->size_bytes = SIZE_BYTES_MIN + random_below(&random, SIZE_BYTES_MAX - SIZE_BYTES_MIN);
        group->load = 1;
    }
    assert_true(placement__world_settle(world, 100000) != UINT32_MAX);
    world->policy.fill_count_max = FILL_COUNT_MAX;
    world->fill_rounds = UINT32_MAX;
    world->round_ms = 0;
    repair->node_count = node_count;
    repair->interval_ms =
        CONDUCTOR_INTERVAL_MS * (1 + group_count / CONDUCTOR_MESSAGE_GROUP_COUNT_MAX);
    repair->fills = memory_allocate_zeroed(group_count, sizeof repair->fills[0]);
    repair->filling = memory_allocate_zeroed(group_count, sizeof(uint32_t));
    repair->lacking = memory_allocate_zeroed(group_count, sizeof(uint32_t));
    repair->in_counts = memory_allocate_zeroed(node_count + 1, sizeof(uint32_t));
    repair->out_counts = memory_allocate_zeroed(node_count + 1, sizeof(uint32_t));
}

static void end(struct repair *repair)
{
    placement__world_deinit(&repair->world);
    memory_free(repair->fills);
    memory_free(repair->filling);
    memory_free(repair->lacking);
    memory_free(repair->in_counts);
    memory_free(repair->out_counts);
}

/* ---- Time ------------------------------------------------------------------------------------ */

/* What the group's learner has; NULL: there is none that needs anything. */
static struct fill *fill_of(struct repair *repair, uint32_t index)
{
    const struct placement_group_state *group = &repair->world.groups[index];
    struct fill *fill = &repair->fills[index];
    assert_true(group->learner_count <= 1);
    if (group->learner_count == 0 || group->learners[0].is_caught_up) {
        return NULL;
    }
    if (fill->node != group->learners[0].node) {
        *fill = (struct fill){group->learners[0].node, group->size_bytes};
    }
    return fill;
}

static void count_fills(struct repair *repair)
{
    memset(repair->in_counts, 0, (repair->node_count + 1) * sizeof(uint32_t));
    memset(repair->out_counts, 0, (repair->node_count + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < repair->filling_count; i++) {
        const struct fill *fill = fill_of(repair, repair->filling[i]);
        if (fill != NULL && fill->rest_bytes > 0) {
            repair->in_counts[fill->node]++;
            repair->out_counts[repair->world.groups[repair->filling[i]].leader]++;
        }
    }
}

/* Each node reports once in an interval, not all at once. */
static bool does_report(const struct repair *repair, placement_node node)
{
    uint64_t phase_ms = (uint64_t)node * repair->interval_ms / (repair->node_count + 1);
    uint64_t since_ms =
        (repair->world.now_ms + repair->interval_ms - phase_ms) % repair->interval_ms;
    return since_ms < STEP_MS;
}

static void pass(struct repair *repair)
{
    count_fills(repair);
    for (uint32_t i = 0; i < repair->filling_count; i++) {
        struct placement_group_state *group = &repair->world.groups[repair->filling[i]];
        struct fill *fill = fill_of(repair, repair->filling[i]);
        if (fill == NULL) {
            continue;
        }
        if (fill->rest_bytes > 0) {
            uint32_t in_count = repair->in_counts[fill->node];
            uint32_t out_count = repair->out_counts[group->leader];
            uint32_t share_count = in_count > out_count ? in_count : out_count;
            uint64_t bytes = (uint64_t)BYTES_PER_MS * STEP_MS / share_count;
            fill->rest_bytes -= bytes < fill->rest_bytes ? bytes : fill->rest_bytes;
        } else if (does_report(repair, group->leader)) {
            group->learners[0].is_caught_up = true;
        }
    }
    repair->world.now_ms += STEP_MS;
}

/* Placement, and its steps are taken at once. */
static void look(struct repair *repair)
{
    struct placement_output output;
    placement__world_round(&repair->world, &output);
    repair->filling_count = 0;
    for (uint32_t i = 0; i < repair->world.group_count; i++) {
        if (repair->world.groups[i].learner_count > 0) {
            repair->filling[repair->filling_count++] = i;
        }
    }
}

static bool is_lacking(const struct placement_group_state *group)
{
    uint32_t live_count = 0;
    for (uint8_t j = 0; j < group->voter_count; j++) {
        live_count += group->voters[j] != LOST;
    }
    return live_count < REPLICA_COUNT;
}

/* Those that are whole are done with: nobody else is lost. */
static void forget_whole(struct repair *repair)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < repair->lacking_count; i++) {
        if (is_lacking(&repair->world.groups[repair->lacking[i]])) {
            repair->lacking[count++] = repair->lacking[i];
        }
    }
    repair->lacking_count = count;
}

/* ---- A loss ---------------------------------------------------------------------------------- */

/* Until the grace ends nothing is copied: the node may come back with all it had. */
static void wait_for_grace(struct repair *repair)
{
    struct placement__world *world = &repair->world;
    uint64_t end_ms = world->now_ms + PLACEMENT_DEAD_GRACE_MS;
    placement__world_forget_counts(world);
    placement__world_set_liveness(world, LOST, PLACEMENT_DEAD);
    for (; world->now_ms < end_ms; world->now_ms += PLACEMENT_DEAD_GRACE_MS / 100) {
        look(repair);
    }
    for (uint32_t i = 0; i < world->group_count; i++) {
        if (is_lacking(&world->groups[i])) {
            repair->lacking[repair->lacking_count++] = i;
        }
    }
    assert_int_equal(world->now_ms, end_ms);
    assert_int_equal(world->kind_counts[PLACEMENT_ADD_LEARNER], 0);
}

/* Of the groups that lack a replica: as many as one node leads at most. It alone fills them. */
static uint32_t most_led(const struct repair *repair)
{
    uint32_t *led_counts = memory_allocate_zeroed(repair->node_count + 1, sizeof(uint32_t));
    uint32_t most = 0;
    for (uint32_t i = 0; i < repair->lacking_count; i++) {
        uint32_t count = ++led_counts[repair->world.groups[repair->lacking[i]].leader];
        most = count > most ? count : most;
    }
    memory_free(led_counts);
    return most;
}

static struct result lose(struct repair *repair)
{
    struct placement__world *world = &repair->world;
    struct result result = {.lost_count = placement__world_replica_count(world, LOST)};
    wait_for_grace(repair);
    assert_int_equal(repair->lacking_count, result.lost_count);
    for (uint32_t i = 0; i < repair->lacking_count; i++) {
        result.lost_bytes += world->groups[repair->lacking[i]].size_bytes;
    }
    result.led_count_max = most_led(repair);
    result.least_ms = result.lost_bytes / BYTES_PER_MS / (repair->node_count - 1);
    uint64_t start_ms = world->now_ms;
    uint64_t look_at_ms = start_ms + repair->interval_ms; /* The last look was just before. */
    while (result.all_ms == 0) {
        if (world->now_ms >= look_at_ms) {
            look(repair);
            look_at_ms += repair->interval_ms;
        }
        pass(repair);
        uint64_t past_ms = world->now_ms - start_ms;
        forget_whole(repair);
        uint32_t count = repair->lacking_count;
        if (result.first_ms == 0 && count < result.lost_count) {
            result.first_ms = past_ms;
        }
        if (result.half_ms == 0 && count <= result.lost_count / 2) {
            result.half_ms = past_ms;
        }
        if (count == 0) {
            result.all_ms = past_ms;
        }
        assert_true(past_ms < REPAIR_MS_MAX);
    }
    result.moved_bytes = world->moved_bytes;
    return result;
}

static void print_result(const struct repair *repair, const struct result *result)
{
    print_message("| %u | %u | %u | %u | %.1f | %.2f | %.1f | %.1f | %.1f | %.1f | %.1f |\n",
                  repair->node_count, repair->world.group_count, result->lost_count,
                  result->led_count_max, (double)result->lost_bytes / 1e9,
                  (double)result->moved_bytes / (double)result->lost_bytes,
                  (double)repair->interval_ms / 1000, (double)result->first_ms / 1000,
                  (double)result->half_ms / 1000, (double)result->all_ms / 1000,
                  (double)result->least_ms / 1000);
}

/* More nodes are no slower, with as many groups as there can be; with more of them the intervals alone may make them
 * so, and these grow with the groups. */
static void compare(const struct repair *repair, const struct result *result, uint64_t smallest_ms,
                    uint32_t factor)
{
    bool can_be = repair->world.group_count <= SLOTS_SHARD_COUNT_MAX;
    assert_true(result->moved_bytes <= result->lost_bytes + result->lost_bytes / 10);
    assert_true(result->all_ms <= (can_be ? smallest_ms : factor * smallest_ms));
    assert_true(result->half_ms <= smallest_ms);
    /* A leader has so many begin, hears in the next interval that they have all, and goes on in the one after that. */
    uint32_t interval_count = 2 * (result->led_count_max / FILL_COUNT_MAX + 3);
    assert_true(result->all_ms <=
                2 * result->least_ms + (uint64_t)interval_count * repair->interval_ms);
}

static void test_sizes(void **state)
{
    (void)state;
    static const uint32_t counts[] = {10, 50, 100, 200};
    const char *text = getenv("PER_NODE");
    uint32_t groups_per_node = text == NULL ? GROUPS_PER_NODE : (uint32_t)strtoul(text, NULL, 10);
    uint64_t smallest_ms = 0;
    print_message(
        "| nodes | groups | lose a replica | with one leader, at most | GB lost | copied, of it | "
        "interval, s | first whole after, s | half | all | all, if no node ever waited |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (uint32_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct repair repair = {0};
        begin(&repair, counts[i], groups_per_node);
        struct result result = lose(&repair);
        print_result(&repair, &result);
        smallest_ms = i == 0 ? result.all_ms : smallest_ms;
        compare(&repair, &result, smallest_ms, counts[i] / counts[0]);
        end(&repair);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
