/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: what nodes and the conductor say to each other while nothing is to be done does not grow, for any node, with
 * the cluster, and what comes to the conductor grows with the nodes and not faster.
 *
 * Clusters of 10 to 200 nodes, each node with an instance, one of them in office, have 80 groups for each node (with
 * 200 nodes nearly as many as there can be), or 1,000 whatever their number. They are spread evenly, so that there are
 * no steps. Who has no replica of the first shard learns who is in office from the conductor, as in a node. Messages
 * take 1 ms, and none is lost; nodes began at different times. Loads change from report to report. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "base/random/random.h"
#include "core/conductor/conductor.h"

enum {
    GROUPS_PER_NODE = 80,
    GROUP_COUNT = 1000,
    REPLICA_COUNT = 3,
    STEP_MS = 10,
    SETTLE_MS = 60000,
    WATCH_MS = 30000,
};

struct cluster;

struct node {
    struct cluster *cluster;
    raft_node id;
    struct conductor *conductor;
    uint64_t starts_at_ms;
    uint64_t sent_count;
    uint64_t sent_bytes;
    uint64_t taken_count;
    uint64_t taken_bytes;
};

struct message {
    raft_node from;
    raft_node to;
    struct buffer bytes;
};

struct cluster {
    uint64_t now_ms;
    uint32_t node_count;
    uint32_t group_count;
    struct random random;
    struct slots map;
    struct node *nodes;
    struct placement_node_state *states;
    struct placement_group_state *groups;
    struct placement_group_state *led;
    struct message *messages; /* Under way. */
    uint32_t message_count;
    uint32_t message_room;
};

/* ---- The host -------------------------------------------------------------------------------- */

static void send(void *context, raft_node to, struct bytes bytes)
{
    struct node *node = context;
    struct cluster *cluster = node->cluster;
    if (cluster->message_count == cluster->message_room) {
        cluster->message_room = 2 * cluster->message_room + 16;
        cluster->messages =
            memory_resize(cluster->messages, cluster->message_room * sizeof cluster->messages[0]);
    }
    struct message *message = &cluster->messages[cluster->message_count++];
    *message = (struct message){.from = node->id, .to = to};
    buffer_append(&message->bytes, bytes);
    node->sent_count++;
    node->sent_bytes += bytes.size_bytes;
}

static bool describe(void *context, wal_shard id, struct placement_group_state *state)
{
    const struct node *node = context;
    *state = node->cluster->groups[id - SLOTS_FIRST_SHARD];
    return state->leader == node->id;
}

static int configure(void *context, wal_shard id, const struct raft_configuration *target)
{
    return -EBUSY;
}

static int transfer(void *context, wal_shard id, raft_node target)
{
    return -EBUSY;
}

static void begun(void *context, const struct placement_step *step)
{
}

static void split(void *context, const struct conductor_split *split)
{
}

static void halve(void *context, const struct conductor_question *question)
{
}

static void take_map(void *context, raft_node from, struct bytes map)
{
}

static void split_done(void *context, wal_shard child)
{
}

static void plan_split(void *context, const struct conductor_halves *halves, uint64_t measured)
{
}

static void drained(void *context, raft_node node)
{
}

/* ---- Life cycle ------------------------------------------------------------------------------ */

static void open_node(struct cluster *cluster, uint32_t index)
{
    struct node *node = &cluster->nodes[index];
    *node = (struct node){
        .cluster = cluster,
        .id = index + 1,
        .starts_at_ms = cluster->now_ms + random_below(&cluster->random, 5000),
    };
    cluster->states[index] = (struct placement_node_state){
        .id = index + 1, .since_ms = 1, .capacity_bytes = UINT64_C(1) << 40};
    const struct conductor_host host = {node,  send,  describe, configure,  transfer,   begun,
                                        split, halve, take_map, split_done, plan_split, drained};
    assert_int_equal(conductor_create(&node->conductor, &host, node->id, cluster->node_count, NULL),
                     0);
}

/* Everybody leads as many as the others, one more or less, and follows as many. */
static void begin(struct cluster *cluster, uint32_t node_count, uint32_t group_count)
{
    *cluster =
        (struct cluster){.now_ms = 1000, .node_count = node_count, .group_count = group_count};
    random_init(&cluster->random, node_count);
    slots_divide(&cluster->map, group_count);
    cluster->nodes = memory_allocate_zeroed(node_count, sizeof cluster->nodes[0]);
    cluster->states = memory_allocate_zeroed(node_count, sizeof cluster->states[0]);
    cluster->groups = memory_allocate_zeroed(group_count, sizeof cluster->groups[0]);
    cluster->led = memory_allocate_zeroed(group_count, sizeof cluster->led[0]);
    for (uint32_t i = 0; i < node_count; i++) {
        open_node(cluster, i);
    }
    for (uint32_t i = 0; i < group_count; i++) {
        struct placement_group_state *group = &cluster->groups[i];
        group->id = SLOTS_FIRST_SHARD + i;
        group->leader = 1 + i % node_count;
        group->size_bytes = UINT64_C(64) << 20;
        group->voter_count = REPLICA_COUNT;
        uint32_t distance = 1 + i / node_count % ((node_count - 1) / 2);
        for (uint32_t j = 0; j < REPLICA_COUNT; j++) {
            group->voters[j] = 1 + (i + j * distance) % node_count;
        }
    }
}

static void end(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        conductor_destroy(cluster->nodes[i].conductor);
    }
    slots_deinit(&cluster->map);
    memory_free(cluster->nodes);
    memory_free(cluster->states);
    memory_free(cluster->groups);
    memory_free(cluster->led);
    memory_free(cluster->messages);
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void deliver(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->message_count; i++) {
        struct message *message = &cluster->messages[i];
        struct node *node = &cluster->nodes[message->to - 1];
        struct bytes bytes = buffer_bytes(&message->bytes);
        node->taken_count++;
        node->taken_bytes += bytes.size_bytes;
        assert_int_equal(
            conductor_receive(node->conductor, message->from, bytes, cluster->now_ms + 1), 0);
        buffer_deinit(&message->bytes);
    }
    cluster->message_count = 0;
}

static void tick(struct cluster *cluster, struct node *node)
{
    const struct placement_group_state *first = &cluster->groups[0];
    if (cluster->now_ms < node->starts_at_ms ||
        !conductor_is_due(node->conductor, cluster->now_ms)) {
        return;
    }
    bool does_know = false;
    for (uint32_t i = 0; i < first->voter_count; i++) {
        does_know = does_know || first->voters[i] == node->id;
    }
    struct conductor_input input = {
        .now_ms = cluster->now_ms,
        .leader = does_know ? first->leader : 0,
        .office = first->leader == node->id,
        .map = &cluster->map,
        .led = cluster->led,
        .nodes = cluster->states,
        .node_count = cluster->node_count,
        .policy = {.replica_count = REPLICA_COUNT},
        .may_split = true,
    };
    for (uint32_t i = node->id - 1; i < cluster->group_count; i += cluster->node_count) {
        struct placement_group_state *group = &cluster->led[input.led_count++];
        *group = cluster->groups[i];
        group->load = (uint32_t)random_below(&cluster->random, 100);
    }
    assert_int_equal(conductor_tick(node->conductor, &input, NULL), 0);
}

static void run(struct cluster *cluster, uint64_t ms)
{
    for (uint64_t end_ms = cluster->now_ms + ms; cluster->now_ms < end_ms;) {
        cluster->now_ms += STEP_MS;
        for (uint32_t i = 0; i < cluster->node_count; i++) {
            tick(cluster, &cluster->nodes[i]);
        }
        deliver(cluster);
    }
}

/* ---- What is measured ------------------------------------------------------------------------ */

/* Per second. */
struct result {
    double sent; /* Of the node that sends the most. */
    double sent_bytes;
    double taken; /* By the conductor. */
    double taken_bytes;
};

static double rate(uint64_t count)
{
    return (double)count * 1000 / WATCH_MS;
}

static struct result live(uint32_t node_count, uint32_t group_count)
{
    struct cluster cluster;
    struct result result = {0};
    begin(&cluster, node_count, group_count);
    run(&cluster, SETTLE_MS);
    for (uint32_t i = 0; i < node_count; i++) {
        struct node *node = &cluster.nodes[i];
        node->sent_count = node->sent_bytes = node->taken_count = node->taken_bytes = 0;
    }
    run(&cluster, WATCH_MS);
    for (uint32_t i = 0; i < node_count; i++) {
        const struct node *node = &cluster.nodes[i];
        bool is_in_office = node->id == cluster.groups[0].leader;
        result.sent = rate(node->sent_count) > result.sent ? rate(node->sent_count) : result.sent;
        result.sent_bytes =
            rate(node->sent_bytes) > result.sent_bytes ? rate(node->sent_bytes) : result.sent_bytes;
        if (is_in_office) {
            result.taken = rate(node->taken_count);
            result.taken_bytes = rate(node->taken_bytes);
        }
        assert_int_equal(is_in_office ? node->sent_count : node->taken_count, 0);
        assert_true(is_in_office || node->sent_count > 0);
    }
    end(&cluster);
    print_message("| %u | %u | %.2f | %.0f | %.1f | %.0f |\n", node_count, group_count, result.sent,
                  result.sent_bytes, result.taken, result.taken_bytes);
    return result;
}

/* `slack`: an interval may end just inside of what is watched, or just outside. */
static void compare(const struct result *smallest, const struct result *result, uint32_t factor)
{
    double slack = rate(1);
    assert_true(result->sent <= smallest->sent + slack);
    assert_true(result->sent_bytes <= 1.05 * smallest->sent_bytes);
    assert_true(result->taken <= 1.05 * factor * smallest->taken * 10 / 9);
    assert_true(result->taken_bytes <= 1.05 * factor * smallest->taken_bytes * 10 / 9);
}

static void test_sizes(void **state)
{
    (void)state;
    static const uint32_t counts[] = {10, 50, 100, 200};
    print_message("| nodes | groups | a node sends: messages/s | bytes/s | the conductor takes: "
                  "messages/s | bytes/s |\n|---|---|---|---|---|---|\n");
    for (uint32_t turn = 0; turn < 2; turn++) {
        struct result smallest = {0};
        for (uint32_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            uint32_t group_count = turn == 0 ? counts[i] * GROUPS_PER_NODE : GROUP_COUNT;
            struct result result = live(counts[i], group_count);
            smallest = i == 0 ? result : smallest;
            compare(&smallest, &result, counts[i] / counts[0]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
