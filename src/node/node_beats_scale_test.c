/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: what groups of Raft say to each other while nothing happens does not grow with the cluster: those at rest say
 * nothing; those at work say as many heartbeats in a large cluster as in a small one. How many messages these are is
 * bounded by whom a node has groups in common with, and by how many of these are at work.
 *
 * Clusters of 10 to 200 nodes have 50 groups of three members for each (PER_NODE=500: 100,000 in all, 1,500 replicas
 * on a node), led by the nodes in turn, with followers drawn at random. Each replica is a core of Raft; heartbeats go
 * through core/beats, leave in the phases that a node gives its groups, and groups hurry when a node has them do so.
 * Disks take no time, messages 1 ms, and none is lost. Three states are measured: nobody writes; a tenth of the groups
 * is written to five times a second, so that they are never quiet; all are, once a second. Entries and their answers
 * are not counted: they are the writes' own. Nor is what a frame adds to a message. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "base/random/random.h"
#include "node/node_cluster.h"

enum {
    GROUPS_PER_NODE = 50,
    REPLICA_COUNT = 3,
    STEP_MS = 10,
    SETTLE_MS = 1500,
    WATCH_MS = 1000,
    QUIET_AFTER_MS = 300, /* As in the node. */
    AWAKE_MS = 600,
    BUSY_INTERVAL_MS = 200,
    ALL_INTERVAL_MS = 1000,
    BEATS_PER_S = 1000 / RAFT_HEARTBEAT_INTERVAL_MS,
    PHASE_COUNT = 5,
};

struct group {
    raft_node nodes[REPLICA_COUNT]; /* The first leads. */
    struct raft *rafts[REPLICA_COUNT];
    bool is_busy;
};

struct packet {
    wal_shard shard;
    struct raft_message message;
};

struct outbox {
    struct packet *packets;
    uint32_t count;
    uint32_t room;
};

struct count {
    uint64_t messages;
    uint64_t bytes;
    uint64_t beats;
};

struct cluster {
    uint32_t node_count;
    uint32_t group_count;
    uint64_t now_ms;
    uint32_t write_interval_ms; /* Of groups that are busy; 0: nobody writes. */
    struct group *groups;
    uint64_t (*wakes_at_ms)[REPLICA_COUNT]; /* By group. */
    struct outbox *outboxes;                /* By node, from 0 on. */
    struct outbox *leaving;
    struct beats *beats;        /* By the node that they are for. */
    struct node_shards *shards; /* What a node has of it: whether its groups hurry. */
    struct count *counts;
};

/* ---- Replicas -------------------------------------------------------------------------------- */

static void step(struct cluster *cluster, uint32_t index, uint32_t place, struct raft_input input)
{
    struct group *group = &cluster->groups[index];
    struct outbox *outbox = &cluster->outboxes[group->nodes[place] - 1];
    for (;;) {
        struct raft_output output;
        input.now_ms = cluster->now_ms;
        assert_int_equal(raft_step(group->rafts[place], &input, &output), 0);
        for (uint32_t i = 0; i < output.send_count; i++) {
            if (outbox->count == outbox->room) {
                outbox->room = 2 * outbox->room + 16;
                outbox->packets =
                    memory_resize(outbox->packets, outbox->room * sizeof outbox->packets[0]);
            }
            outbox->packets[outbox->count++] = (struct packet){index + 1, output.sends[i].message};
        }
        if (output.persist_count == 0) {
            cluster->wakes_at_ms[index][place] = output.wake_at_ms;
            return;
        }
        input = (struct raft_input){
            .kind = RAFT_INPUT_PERSISTED,
            .persisted_sequence = output.persists[output.persist_count - 1].sequence,
        };
    }
}

static void receive(struct cluster *cluster, wal_shard shard, const struct raft_message *message)
{
    struct raft_entry entries[RAFT_APPEND_ENTRY_COUNT_MAX];
    const struct group *group = &cluster->groups[shard - 1];
    uint32_t place = 0;
    while (group->nodes[place] != message->to) {
        place++;
        assert_true(place < REPLICA_COUNT);
    }
    for (uint32_t i = 0; i < message->entry_count; i++) {
        bool is_first = message->index + 1 + i == 1;
        entries[i] = (struct raft_entry){.term = message->term,
                                         .kind = is_first ? RAFT_ENTRY_EMPTY : RAFT_ENTRY_COMMANDS};
    }
    step(cluster, shard - 1, place,
         (struct raft_input){.kind = RAFT_INPUT_RECEIVE, .message = message, .entries = entries});
}

/* ---- Messages -------------------------------------------------------------------------------- */

static void send_gathered(struct cluster *cluster, raft_node from, raft_node to)
{
    struct beats *beats = &cluster->beats[to - 1];
    struct bytes message = beats_message(beats);
    struct beats_reader reader;
    struct count *count = &cluster->counts[from - 1];
    if (message.size_bytes == 0) {
        return;
    }
    count->messages++;
    count->bytes += message.size_bytes;
    assert_int_equal(beats_read(&reader, message), 0);
    while (reader.rest.size_bytes > 0) {
        wal_shard shard = 0;
        struct raft_message beat;
        assert_int_equal(beats_next(&reader, &shard, &beat), 0);
        beat.from = from;
        beat.to = to;
        count->beats++;
        receive(cluster, shard, &beat);
    }
    beats_clear(beats);
}

/* What a node gathered in one tick. What is answered goes out in the next millisecond. */
static void send_all(struct cluster *cluster, raft_node from)
{
    struct outbox *outbox = &cluster->leaving[from - 1];
    for (uint32_t i = 0; i < outbox->count; i++) {
        const struct packet *packet = &outbox->packets[i];
        raft_node to = packet->message.to;
        if (!beats_can_carry(&packet->message)) {
            receive(cluster, packet->shard, &packet->message);
            continue;
        }
        while (!beats_add(&cluster->beats[to - 1], packet->shard, &packet->message)) {
            send_gathered(cluster, from, to);
        }
    }
    outbox->count = 0;
    for (raft_node to = 1; to <= cluster->node_count; to++) {
        send_gathered(cluster, from, to);
    }
}

static bool is_anything_leaving(const struct cluster *cluster)
{
    bool is_any = false;
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        is_any = is_any || cluster->outboxes[i].count > 0;
    }
    return is_any;
}

/* All messages of this tick, and their answers, until nobody has more to say. */
static void exchange(struct cluster *cluster)
{
    uint64_t start_ms = cluster->now_ms;
    while (is_anything_leaving(cluster)) {
        struct outbox *leaving = cluster->outboxes;
        cluster->outboxes = cluster->leaving;
        cluster->leaving = leaving;
        cluster->now_ms++;
        assert_true(cluster->now_ms < start_ms + STEP_MS);
        for (raft_node from = 1; from <= cluster->node_count; from++) {
            send_all(cluster, from);
        }
    }
    cluster->now_ms = start_ms;
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void look_at_awake(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        cluster->shards[i].awake_count = 0;
    }
    for (uint32_t i = 0; i < cluster->group_count; i++) {
        for (uint32_t j = 0; j < REPLICA_COUNT; j++) {
            bool is_awake = cluster->wakes_at_ms[i][j] < cluster->now_ms + AWAKE_MS;
            cluster->shards[cluster->groups[i].nodes[j] - 1].awake_count += is_awake;
        }
    }
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        node_beats_look(&cluster->shards[i]);
    }
}

static void run(struct cluster *cluster, uint64_t ms)
{
    for (uint64_t end_ms = cluster->now_ms + ms; cluster->now_ms < end_ms;) {
        cluster->now_ms += STEP_MS;
        look_at_awake(cluster);
        for (uint32_t i = 0; i < cluster->group_count; i++) {
            const struct group *group = &cluster->groups[i];
            uint64_t turn_ms = cluster->now_ms + (uint64_t)i * STEP_MS;
            if (cluster->write_interval_ms != 0 && group->is_busy &&
                turn_ms % cluster->write_interval_ms < STEP_MS) {
                step(cluster, i, 0, (struct raft_input){.kind = RAFT_INPUT_PROPOSE});
            }
            for (uint32_t j = 0; j < REPLICA_COUNT; j++) {
                if (cluster->wakes_at_ms[i][j] <= cluster->now_ms) {
                    bool does_hurry = cluster->shards[group->nodes[j] - 1].account.do_groups_hurry;
                    step(cluster, i, j,
                         (struct raft_input){.kind = RAFT_INPUT_TICK, .does_hurry = does_hurry});
                }
            }
        }
        exchange(cluster);
    }
}

/* ---- Life cycle ------------------------------------------------------------------------------ */

static void open_group(struct cluster *cluster, uint32_t index, struct random *random)
{
    struct group *group = &cluster->groups[index];
    group->nodes[0] = 1 + index % cluster->node_count;
    for (uint32_t j = 1; j < REPLICA_COUNT; j++) {
        do {
            group->nodes[j] = 1 + (raft_node)random_below(random, cluster->node_count);
        } while (group->nodes[j] == group->nodes[0] ||
                 (j == 2 && group->nodes[2] == group->nodes[1]));
    }
    struct raft_configuration configuration = {.voter_count = REPLICA_COUNT};
    for (uint32_t j = 0; j < REPLICA_COUNT; j++) {
        uint32_t place = 0;
        for (uint32_t k = 0; k < REPLICA_COUNT; k++) {
            place += group->nodes[k] < group->nodes[j];
        }
        configuration.voters[place] = group->nodes[j];
    }
    for (uint32_t j = 0; j < REPLICA_COUNT; j++) {
        struct raft_options options = {
            .self = group->nodes[j],
            .first_index = 1,
            .configuration = configuration,
            .is_newborn = true,
            .heartbeat_phase_ms = node_beats_phase_ms(index + 1),
            .quiet_after_ms = index + 1 == SLOTS_FIRST_SHARD ? 0 : QUIET_AFTER_MS,
            .random_seed = random_next(random),
            .now_ms = cluster->now_ms,
        };
        assert_int_equal(raft_create(&group->rafts[j], &options, NULL), 0);
        cluster->wakes_at_ms[index][j] = cluster->now_ms + STEP_MS;
    }
    step(cluster, index, 0, (struct raft_input){.kind = RAFT_INPUT_CAMPAIGN});
}

static void begin(struct cluster *cluster, uint32_t node_count, uint32_t groups_per_node)
{
    struct random random;
    random_init(&random, node_count);
    *cluster = (struct cluster){
        .node_count = node_count, .group_count = node_count * groups_per_node, .now_ms = 1000};
    uint32_t group_count = cluster->group_count;
    cluster->groups = memory_allocate_zeroed(group_count, sizeof cluster->groups[0]);
    cluster->wakes_at_ms = memory_allocate_zeroed(group_count, sizeof cluster->wakes_at_ms[0]);
    cluster->outboxes = memory_allocate_zeroed(node_count, sizeof cluster->outboxes[0]);
    cluster->leaving = memory_allocate_zeroed(node_count, sizeof cluster->leaving[0]);
    cluster->beats = memory_allocate_zeroed(node_count, sizeof cluster->beats[0]);
    cluster->shards = memory_allocate_zeroed(node_count, sizeof cluster->shards[0]);
    cluster->counts = memory_allocate_zeroed(node_count, sizeof cluster->counts[0]);
    for (uint32_t i = 0; i < group_count; i++) {
        open_group(cluster, i, &random);
    }
    exchange(cluster);
}

static void end(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->group_count; i++) {
        for (uint32_t j = 0; j < REPLICA_COUNT; j++) {
            raft_destroy(cluster->groups[i].rafts[j]);
        }
    }
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        memory_free(cluster->outboxes[i].packets);
        memory_free(cluster->leaving[i].packets);
        beats_deinit(&cluster->beats[i]);
    }
    memory_free(cluster->groups);
    memory_free(cluster->wakes_at_ms);
    memory_free(cluster->outboxes);
    memory_free(cluster->leaving);
    memory_free(cluster->beats);
    memory_free(cluster->shards);
    memory_free(cluster->counts);
}

/* ---- What is measured ------------------------------------------------------------------------ */

struct result {
    double messages_per_s;     /* Of a node, on average, */
    double messages_per_s_max; /* and of the one that sends the most. */
    double beats_per_s;
    double bytes_per_s;
    double peers;       /* With whom a node exchanges heartbeats. */
    double limit_per_s; /* By what is common: the messages of a node, on average. */
};

/* Those of one node to another leave once in an interval for each phase in which there are any: requests to whom follows
 * it in a busy group, answers to whom it follows. */
static uint32_t count_turns(const struct cluster *cluster, raft_node node, uint32_t *peer_count)
{
    uint32_t place_count = (cluster->node_count + 1) * (PHASE_COUNT + 1) * 2;
    bool *has = memory_allocate_zeroed(place_count, sizeof has[0]);
    bool *is_peer = memory_allocate_zeroed(cluster->node_count + 1, sizeof is_peer[0]);
    for (uint32_t i = 0; i < cluster->group_count; i++) {
        const struct group *group = &cluster->groups[i];
        uint32_t phase = node_beats_phase_ms(i + 1) / STEP_MS;
        for (uint32_t j = 1; j < REPLICA_COUNT && (group->is_busy || i == 0); j++) {
            bool is_led = group->nodes[0] == node;
            raft_node other = is_led ? group->nodes[j] : group->nodes[0];
            if (is_led || group->nodes[j] == node) {
                has[(other * (PHASE_COUNT + 1) + phase) * 2 + is_led] = true;
                is_peer[other] = true;
            }
        }
    }
    uint32_t turn_count = 0;
    for (uint32_t i = 0; i < place_count; i++) {
        turn_count += has[i];
    }
    *peer_count = 0;
    for (uint32_t i = 0; i <= cluster->node_count; i++) {
        *peer_count += is_peer[i];
    }
    memory_free(has);
    memory_free(is_peer);
    return turn_count;
}

static struct result watch(struct cluster *cluster)
{
    struct result result = {0};
    run(cluster, SETTLE_MS);
    memset(cluster->counts, 0, cluster->node_count * sizeof cluster->counts[0]);
    run(cluster, WATCH_MS);
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        const struct count *count = &cluster->counts[i];
        double node_s = WATCH_MS / 1000.0 * cluster->node_count;
        double messages_per_s = (double)count->messages * 1000 / WATCH_MS;
        uint32_t peer_count = 0;
        double limit_per_s = BEATS_PER_S * (double)count_turns(cluster, i + 1, &peer_count);
        if (messages_per_s > result.messages_per_s_max) {
            result.messages_per_s_max = messages_per_s;
        }
        assert_true(messages_per_s <= limit_per_s);
        result.messages_per_s += (double)count->messages / node_s;
        result.beats_per_s += (double)count->beats / node_s;
        result.bytes_per_s += (double)count->bytes / node_s;
        result.peers += (double)peer_count / cluster->node_count;
        result.limit_per_s += limit_per_s / cluster->node_count;
    }
    return result;
}

static void print_result(const struct cluster *cluster, const char *what,
                         const struct result *result)
{
    print_message("| %u | %u | %s | %.1f | %.0f | %.1f | %.1f | %.0f | %.0f |\n",
                  cluster->node_count, cluster->group_count, what, result->peers,
                  result->beats_per_s, result->limit_per_s, result->messages_per_s,
                  result->messages_per_s_max, result->bytes_per_s);
}

static void write_to(struct cluster *cluster, uint32_t permille, uint32_t interval_ms)
{
    struct random random;
    random_init(&random, 7);
    cluster->write_interval_ms = interval_ms;
    for (uint32_t i = 0; i < cluster->group_count; i++) {
        cluster->groups[i].is_busy = random_chance(&random, permille, 1000);
    }
}

struct results {
    struct result idle;
    struct result some;
    struct result all;
};

static struct results live(uint32_t node_count, uint32_t groups_per_node)
{
    struct cluster cluster;
    struct results results;
    begin(&cluster, node_count, groups_per_node);
    results.idle = watch(&cluster);
    print_result(&cluster, "nobody writes", &results.idle);
    for (uint32_t i = SLOTS_FIRST_SHARD; i < cluster.group_count; i++) {
        for (uint32_t j = 0; j < REPLICA_COUNT; j++) {
            assert_true(cluster.wakes_at_ms[i][j] == UINT64_MAX);
        }
    }
    write_to(&cluster, 100, BUSY_INTERVAL_MS);
    results.some = watch(&cluster);
    print_result(&cluster, "a tenth is busy", &results.some);
    write_to(&cluster, 1000, ALL_INTERVAL_MS);
    results.all = watch(&cluster);
    print_result(&cluster, "all, once a second", &results.all);
    end(&cluster);
    return results;
}

static void compare(const struct results *smallest, const struct results *results,
                    uint32_t node_count)
{
    /* The first shard is never quiet: two are asked, and answer. */
    assert_true(results->idle.messages_per_s_max <= 2 * BEATS_PER_S);
    assert_true(results->idle.messages_per_s * node_count <= 4 * BEATS_PER_S + 0.01);
    /* What there is to say is as much as in a small cluster. Of a node that has fewer groups in common with each of
     * more others, fewer heartbeats go together: in the end each goes by itself, and there it ends. */
    assert_true(results->some.beats_per_s <= 1.1 * smallest->some.beats_per_s);
    assert_true(results->some.messages_per_s <= 1.1 * smallest->some.beats_per_s);
    assert_true(results->some.bytes_per_s <= 2 * smallest->some.bytes_per_s);
    assert_true(results->all.beats_per_s <= 1.1 * smallest->all.beats_per_s);
    assert_true(results->all.messages_per_s <= 1.1 * smallest->all.beats_per_s);
    assert_true(results->all.bytes_per_s <= 2 * smallest->all.bytes_per_s);
}

static void test_sizes(void **state)
{
    (void)state;
    static const uint32_t counts[] = {10, 50, 100, 200};
    const char *text = getenv("PER_NODE");
    uint32_t groups_per_node = text == NULL ? GROUPS_PER_NODE : (uint32_t)strtoul(text, NULL, 10);
    print_message(
        "| nodes | groups | state | peers | heartbeats and answers/s | limit of messages/s "
        "| messages/s | of the busiest node | bytes/s |\n|---|---|---|---|---|---|---|---|---|\n");
    struct results smallest = {0};
    for (uint32_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct results results = live(counts[i], groups_per_node);
        smallest = i == 0 ? results : smallest;
        compare(&smallest, &results, counts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
