/* SPDX-License-Identifier: Apache-2.0 */
/* Random lives of groups: each a function of its seed. Phase one does whatever can go wrong and
 * checks after every step what must always hold; phase two heals everything and demands progress.
 *
 * What is checked: election safety, leader completeness, log matching, state machine safety (figure
 * 3.2 of the thesis), I1, I6, I8, that a pre-vote raises no term, that a read under a lease or by a
 * confirmed round sees every write that was acknowledged before it was asked for.
 *
 *   test_raft_random [--seeds N] [--first S] [--seed S] [--trace] [--bug NAME] [--bugs] [--quiet]
 *
 * --bug switches a planted bug on and says how many seeds it takes to find it, --bugs does so for
 * all of them (in a build with -Dplanted_bugs=true). */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "base/trace/trace.h"
#include "core/raft/raft_world.h"

enum {
    SEED_COUNT = 2000,
    BUG_SEED_COUNT_MAX = 20000,
    TERM_COUNT_MAX = 4096,
    NETWORK_COUNT_MAX = 400,
    LOG_LENGTH_MAX = 400,
    HEAL_MS_MAX = 20000,
    PROBE_COUNT_MAX = 64,
};

enum action {
    ACTION_DELIVER,
    ACTION_DELIVER_LATE, /* Not the oldest. */
    ACTION_DUPLICATE,
    ACTION_DROP,
    ACTION_PERSIST,
    ACTION_TIME,
    ACTION_PAUSE,
    ACTION_PROPOSE,
    ACTION_CONFIRM,
    ACTION_CRASH,
    ACTION_RESTART,
    ACTION_DAMAGE,
    ACTION_STORE,
    ACTION_COMPACT,
    ACTION_SNAPSHOT,
    ACTION_CONFIGURE,
    ACTION_TRANSFER,
    ACTION_LOST,
    ACTION_UNREACHABLE,
    ACTION_PARTITION,
    ACTION_HEAL,
    ACTION_COUNT,
};

/* How often each is taken; zero for some of them in each life. */
static const uint32_t usual_weights[ACTION_COUNT] = {
    [ACTION_DELIVER] = 900,   [ACTION_DELIVER_LATE] = 100, [ACTION_DUPLICATE] = 30,
    [ACTION_DROP] = 30,       [ACTION_PERSIST] = 500,      [ACTION_TIME] = 120,
    [ACTION_PAUSE] = 6,       [ACTION_PROPOSE] = 120,      [ACTION_CONFIRM] = 30,
    [ACTION_CRASH] = 10,      [ACTION_RESTART] = 40,       [ACTION_DAMAGE] = 4,
    [ACTION_STORE] = 20,      [ACTION_COMPACT] = 10,       [ACTION_SNAPSHOT] = 40,
    [ACTION_CONFIGURE] = 12,  [ACTION_TRANSFER] = 8,       [ACTION_LOST] = 5,
    [ACTION_UNREACHABLE] = 5, [ACTION_PARTITION] = 6,      [ACTION_HEAL] = 12,
};

struct read {
    raft_term term; /* 0: none is waiting. */
    uint64_t round;
    raft_index acknowledged;
};

struct life {
    struct raft__world world;
    struct random random;
    uint64_t seed;
    uint64_t now_us;
    uint32_t node_count;
    uint32_t weights[ACTION_COUNT];
    uint32_t weight_sum;
    uint32_t rates[RAFT__WORLD_NODE_COUNT_MAX + 1]; /* Per thousand. */
    uint64_t paused_until_us[RAFT__WORLD_NODE_COUNT_MAX + 1];
    bool is_cut[RAFT__WORLD_NODE_COUNT_MAX + 1][RAFT__WORLD_NODE_COUNT_MAX + 1];
    struct read reads[RAFT__WORLD_NODE_COUNT_MAX + 1];
    raft_node leaders[TERM_COUNT_MAX];
    raft_index acknowledged;
    uint64_t action_count;
};

static struct life life;
static const char *bug;
static const char *probes[PROBE_COUNT_MAX];
static uint32_t probe_count;

static bool is_bug(void *context, const char *name)
{
    return bug != NULL && strcmp(bug, name) == 0;
}

static void note_probe(void *context, const char *name)
{
    for (uint32_t i = 0; i < probe_count; i++) {
        if (probes[i] == name) {
            return;
        }
    }
    if (probe_count < PROBE_COUNT_MAX) {
        probes[probe_count++] = name;
    }
}

static bool chance(uint32_t numerator, uint32_t denominator)
{
    return random_chance(&life.random, numerator, denominator);
}

static uint32_t below(uint32_t bound)
{
    return (uint32_t)random_below(&life.random, bound);
}

static bool has_failed(void)
{
    return life.world.violation[0] != '\0';
}

static bool is_up(raft_node id)
{
    return life.world.nodes[id].raft != NULL && life.now_us >= life.paused_until_us[id];
}

/* ---- Checks ---------------------------------------------------------------------------------- */

/* Log matching: where two logs have an entry of the same term, they are the same up to there. */
static void check_matching(const struct raft__world_node *left,
                           const struct raft__world_node *right)
{
    raft_index first = raft__max(left->log.first_index, right->log.first_index);
    raft_index last = raft__min(left->log.last_index, right->log.last_index);
    bool must_match = false;
    for (raft_index i = last; i >= first && i > 0; i--) {
        const struct raft__world_entry *one = raft__world_entry_at(&left->log, i);
        const struct raft__world_entry *other = raft__world_entry_at(&right->log, i);
        must_match = must_match || one->term == other->term;
        if (must_match && (one->term != other->term || one->value != other->value)) {
            raft__world_violate(&life.world,
                                "the logs of %" PRIu32 " and %" PRIu32 " do not match at %" PRIu64,
                                left->id, right->id, i);
            return;
        }
    }
}

static void check_reads(const struct raft__world_node *node)
{
    const struct raft_output *output = &node->output;
    struct read *read = &life.reads[node->id];
    if (output->role != RAFT_ROLE_LEADER || read->term != output->term) {
        read->term = 0;
    }
    if (output->role != RAFT_ROLE_LEADER || node->applied.index < output->start_index) {
        return;
    }
    if (node->now_ms < output->lease_until_ms && node->applied.index < life.acknowledged) {
        raft__world_violate(&life.world,
                            "a read under the lease of %" PRIu32 " in term %" PRIu64
                            " sees entry %" PRIu64 " of %" PRIu64,
                            node->id, output->term, node->applied.index, life.acknowledged);
    }
    if (read->term != 0 && output->confirmed_round >= read->round) {
        if (node->applied.index < read->acknowledged) {
            raft__world_violate(&life.world,
                                "a read by the round %" PRIu64 " of %" PRIu32 " sees %" PRIu64
                                " of %" PRIu64,
                                read->round, node->id, node->applied.index, read->acknowledged);
        }
        read->term = 0;
    }
}

static void check_all(void)
{
    for (raft_node i = 1; i <= life.node_count && !has_failed(); i++) {
        struct raft__world_node *node = &life.world.nodes[i];
        if (node->raft == NULL) {
            continue;
        }
        node->now_ms = 1000 + life.now_us * life.rates[i] / 1000000;
        if (node->output.role == RAFT_ROLE_LEADER && node->output.term < TERM_COUNT_MAX) {
            raft_node *leader = &life.leaders[node->output.term];
            if (*leader != 0 && *leader != i) {
                raft__world_violate(&life.world, "%" PRIu32 " and %" PRIu32 " lead term %" PRIu64,
                                    *leader, i, node->output.term);
            }
            *leader = i;
        }
        check_reads(node);
    }
    for (raft_node i = 1; i <= life.node_count; i++) {
        const struct raft__world_node *node = &life.world.nodes[i];
        if (node->raft != NULL && node->output.role == RAFT_ROLE_LEADER) {
            life.acknowledged = raft__max(life.acknowledged, node->applied.index);
        }
    }
}

static void check_logs(void)
{
    for (raft_node i = 1; i <= life.node_count; i++) {
        for (raft_node j = i + 1; j <= life.node_count; j++) {
            if (life.world.nodes[i].raft != NULL && life.world.nodes[j].raft != NULL) {
                check_matching(&life.world.nodes[i], &life.world.nodes[j]);
            }
        }
    }
}

/* ---- What happens ---------------------------------------------------------------------------- */

static int give(raft_node id, struct raft_input input)
{
    struct raft__world_node *node = &life.world.nodes[id];
    node->now_ms = 1000 + life.now_us * life.rates[id] / 1000000;
    return raft__world_step(&life.world, id, input);
}

static raft_node any_node(void)
{
    return 1 + below(life.node_count);
}

/* Mostly one that thinks that it leads. */
static raft_node any_leader(void)
{
    raft_node start = any_node();
    for (uint32_t i = 0; i < life.node_count && !chance(1, 20); i++) {
        raft_node id = 1 + (start + i) % life.node_count;
        if (is_up(id) && life.world.nodes[id].output.role == RAFT_ROLE_LEADER) {
            return id;
        }
    }
    return start;
}

static void deliver(uint32_t position, bool is_copy)
{
    const struct raft_message *message = &life.world.network.items[position].message;
    struct raft__world_node *node = &life.world.nodes[message->to];
    if (life.is_cut[message->from][message->to] || node->raft == NULL) {
        raft__world_drop(&life.world, position);
    } else if (is_up(message->to)) {
        node->now_ms = 1000 + life.now_us * life.rates[message->to] / 1000000;
        raft__world_deliver(&life.world, position, is_copy);
    }
}

static void crash(raft_node id, bool is_damaging)
{
    struct raft__world *world = &life.world;
    struct raft__world_node *node = &world->nodes[id];
    bool is_any_impaired = false;
    for (raft_node i = 1; i <= life.node_count; i++) {
        const struct raft__world_node *other = &world->nodes[i];
        is_any_impaired |= other->raft != NULL ? other->output.is_impaired : other->is_impaired;
    }
    if (node->raft == NULL || (is_damaging && is_any_impaired)) {
        return;
    }
    raft__world_crash(world, id, below(node->write_count + 1));
    life.reads[id].term = 0;
    if (is_damaging) {
        /* Connections end with the process: nothing of its former life arrives later. */
        for (uint32_t i = 0; i < world->network.count;) {
            const struct raft_message *message = &world->network.items[i].message;
            if (message->from == id || message->to == id) {
                raft__world_drop(world, i);
            } else {
                i++;
            }
        }
        raft_index first = node->stored.index + 1;
        uint64_t count = node->durable_log.last_index + 1 - node->stored.index;
        raft__world_damage(world, id, first + random_below(&life.random, count));
    }
}

static void configure(void)
{
    struct raft_configuration next = {0};
    bool is_one_voter = chance(1, 10);
    raft_node only = any_node();
    for (raft_node i = 1; i <= life.node_count; i++) {
        bool is_voter = is_one_voter ? i == only : chance(1, 2);
        if (is_voter && next.voter_count < RAFT_VOTER_COUNT_MAX) {
            next.voters[next.voter_count++] = i;
        } else if (chance(1, 3) && next.learner_count < RAFT_LEARNER_COUNT_MAX) {
            next.learners[next.learner_count++] = i;
        }
    }
    raft_node id = any_leader();
    if (is_up(id)) {
        (void)give(id, (struct raft_input){.kind = RAFT_INPUT_CONFIGURE, .configuration = &next});
    }
}

static void confirm(void)
{
    raft_node id = any_leader();
    if (!is_up(id) || life.reads[id].term != 0) {
        return;
    }
    raft_index acknowledged = life.acknowledged;
    if (give(id, (struct raft_input){.kind = RAFT_INPUT_CONFIRM}) == 0) {
        const struct raft_output *output = &life.world.nodes[id].output;
        life.reads[id] = (struct read){output->term, output->round, acknowledged};
    }
}

/* Two halves, or any shape, one-way too. */
static void cut_network(void)
{
    bool is_left[RAFT__WORLD_NODE_COUNT_MAX + 1];
    bool is_halved = chance(1, 2);
    for (raft_node i = 1; i <= life.node_count; i++) {
        is_left[i] = chance(1, 2);
    }
    for (raft_node i = 1; i <= life.node_count; i++) {
        for (raft_node j = 1; j <= life.node_count; j++) {
            life.is_cut[i][j] = is_halved ? is_left[i] != is_left[j] : chance(1, 3);
        }
    }
}

static void heal_network(void)
{
    memset(life.is_cut, 0, sizeof life.is_cut);
}

static void snapshot(raft_node id)
{
    struct raft__world_node *node = &life.world.nodes[id];
    if (node->wanted_snapshot_count == 0 || !is_up(id)) {
        return;
    }
    node->wanted_snapshot_count =
        (uint32_t)raft__min(node->wanted_snapshot_count, RAFT_PEER_COUNT_MAX);
    raft_node to = node->wanted_snapshots[--node->wanted_snapshot_count];
    bool has_failed = life.is_cut[id][to] || !is_up(to) || chance(1, 10);
    raft__world_snapshot(&life.world, id, to, has_failed);
}

static void tick_all(bool is_prompt)
{
    for (raft_node i = 1; i <= life.node_count && !has_failed(); i++) {
        struct raft__world_node *node = &life.world.nodes[i];
        if (!is_up(i)) {
            continue;
        }
        node->now_ms = 1000 + life.now_us * life.rates[i] / 1000000;
        if (node->now_ms >= node->output.wake_at_ms && (is_prompt || chance(3, 4))) {
            (void)give(i, (struct raft_input){.kind = RAFT_INPUT_TICK});
        }
    }
}

static void start(raft_node id)
{
    life.world.nodes[id].now_ms = 1000 + life.now_us * life.rates[id] / 1000000;
    raft__world_start(&life.world, id);
    life.paused_until_us[id] = 0;
}

static void act_on_network(enum action action)
{
    uint32_t count = life.world.network.count;
    if (count == 0) {
        return;
    }
    switch (action) {
    case ACTION_DELIVER:
        deliver(0, false);
        break;
    case ACTION_DELIVER_LATE:
        deliver(below(count), false);
        break;
    case ACTION_DUPLICATE:
        deliver(below(count), true);
        break;
    default:
        raft__world_drop(&life.world, below(count));
        break;
    }
}

static void act_on_node(enum action action, raft_node id)
{
    struct raft__world_node *node = &life.world.nodes[id];
    bool is_running = is_up(id);
    switch (action) {
    case ACTION_PERSIST:
        if (is_running && node->write_count > 0) {
            node->now_ms = 1000 + life.now_us * life.rates[id] / 1000000;
            raft__world_persist(&life.world, id, 1 + below(node->write_count));
        }
        break;
    case ACTION_PAUSE:
        life.paused_until_us[id] = life.now_us + below(600000);
        break;
    case ACTION_CRASH:
        crash(id, false);
        break;
    case ACTION_DAMAGE:
        crash(id, true);
        break;
    case ACTION_RESTART:
        if (node->raft == NULL) {
            start(id);
        }
        break;
    case ACTION_STORE:
        if (is_running) {
            raft__world_store(&life.world, id);
        }
        break;
    case ACTION_COMPACT:
        if (is_running) {
            raft__world_compact(&life.world, id, below(8));
        }
        break;
    case ACTION_SNAPSHOT:
        snapshot(id);
        break;
    case ACTION_LOST:
        if (is_running) {
            (void)give(id, (struct raft_input){.kind = RAFT_INPUT_PEER_LOST, .node = any_node()});
        }
        break;
    case ACTION_UNREACHABLE:
        if (is_running) {
            (void)give(id, (struct raft_input){.kind = RAFT_INPUT_UNREACHABLE, .node = any_node()});
        }
        break;
    default:
        break;
    }
}

static void act(enum action action)
{
    raft_node leader = 0;
    switch (action) {
    case ACTION_DELIVER:
    case ACTION_DELIVER_LATE:
    case ACTION_DUPLICATE:
    case ACTION_DROP:
        act_on_network(action);
        break;
    case ACTION_TIME:
        life.now_us += chance(1, 20) ? below(400000) : below(60000);
        break;
    case ACTION_PROPOSE:
        leader = any_leader();
        if (is_up(leader)) {
            (void)give(leader, (struct raft_input){.kind = RAFT_INPUT_PROPOSE});
        }
        break;
    case ACTION_TRANSFER:
        leader = any_leader();
        if (is_up(leader)) {
            (void)give(leader,
                       (struct raft_input){.kind = RAFT_INPUT_TRANSFER, .node = any_node()});
        }
        break;
    case ACTION_CONFIRM:
        confirm();
        break;
    case ACTION_CONFIGURE:
        configure();
        break;
    case ACTION_PARTITION:
        cut_network();
        break;
    case ACTION_HEAL:
        heal_network();
        break;
    default:
        act_on_node(action, any_node());
        break;
    }
}

/* ---- A life ---------------------------------------------------------------------------------- */

static enum action any_action(void)
{
    uint32_t place = below(life.weight_sum);
    for (uint32_t i = 0; i < ACTION_COUNT; i++) {
        if (place < life.weights[i]) {
            return (enum action)i;
        }
        place -= life.weights[i];
    }
    return ACTION_TIME;
}

static void begin(uint64_t seed, bool is_tracing)
{
    life = (struct life){.seed = seed};
    random_init(&life.random, seed);
    raft__world_init(&life.world);
    life.world.does_show_messages = is_tracing;
    life.world.does_show_changes = is_tracing;
    life.world.append_cut_count = chance(1, 4) ? 1 + below(3) : 0;
    life.world.options.quiet_after_ms = chance(1, 3) ? 100 + below(400) : 0;
    life.world.options.persist_timeout_ms = chance(1, 3) ? 100 + below(400) : 0;
    life.node_count = 3 + below(5);
    uint32_t skew = chance(1, 2) ? 0 : 1 + below(120);
    for (raft_node i = 1; i <= life.node_count; i++) {
        life.rates[i] = 1000 - skew + below(2 * skew + 1);
        life.world.nodes[i].seed = seed * 100;
    }
    for (uint32_t i = 0; i < ACTION_COUNT; i++) {
        bool is_needed = i == ACTION_DELIVER || i == ACTION_PERSIST || i == ACTION_TIME;
        life.weights[i] = !is_needed && chance(1, 4) ? 0 : usual_weights[i] * (1 + below(3));
        life.weight_sum += life.weights[i];
    }
    life.action_count = 200 + below(1500);
    struct raft_configuration configuration = {.voter_count = 1 + below(life.node_count)};
    for (uint32_t i = 0; i < configuration.voter_count; i++) {
        configuration.voters[i] = i + 1;
    }
    struct raft_configuration nobody = {0};
    for (raft_node i = 1; i <= life.node_count; i++) {
        raft__world_add(&life.world, i, i <= configuration.voter_count ? &configuration : &nobody);
        start(i);
    }
}

static void print_shown(bool is_tracing)
{
    if (is_tracing && life.world.shown.size_bytes > 0) {
        (void)printf("%.*s", (int)life.world.shown.size_bytes, (const char *)life.world.shown.data);
        buffer_clear(&life.world.shown);
    }
}

static void live_badly(bool is_tracing)
{
    for (uint64_t i = 0; i < life.action_count && !has_failed(); i++) {
        enum action action = any_action();
        if (life.world.network.count > NETWORK_COUNT_MAX) {
            action = ACTION_DROP;
        } else if (action == ACTION_PROPOSE && life.world.committed.last_index > LOG_LENGTH_MAX) {
            action = ACTION_TIME;
        }
        life.now_us += below(2000);
        act(action);
        tick_all(false);
        check_all();
        if (i % 16 == 0) {
            check_logs();
        }
        print_shown(is_tracing);
    }
}

/* One leader, and every member of the newest configuration has applied all there is. */
static bool is_healed(raft_index goal)
{
    raft_node leader = 0;
    for (raft_node i = 1; i <= life.node_count; i++) {
        const struct raft__world_node *node = &life.world.nodes[i];
        bool is_newer = leader == 0 || node->output.term > life.world.nodes[leader].output.term;
        if (node->output.role == RAFT_ROLE_LEADER && is_newer) {
            leader = i;
        }
    }
    if (leader == 0) {
        return false;
    }
    const struct raft__world_node *node = &life.world.nodes[leader];
    const struct raft_configuration *configuration = raft_latest_configuration(node->raft);
    if (configuration->outgoing_count > 0 || node->applied.index < goal ||
        node->applied.index != node->log.last_index) {
        return false;
    }
    for (raft_node i = 1; i <= life.node_count; i++) {
        bool is_member = raft_configuration_has_voter(configuration, i) ||
                         raft_configuration_has_learner(configuration, i);
        if (is_member && life.world.nodes[i].applied.index < goal) {
            return false;
        }
    }
    return true;
}

static bool is_quorum_impaired_of(const raft_node *nodes, uint32_t count)
{
    uint32_t impaired_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        impaired_count += life.world.nodes[nodes[i]].output.is_impaired ? 1u : 0u;
    }
    return count > 0 && count - impaired_count <= count / 2;
}

/* With two voters, and one of them impaired, there is nobody to vote for a leader. */
static bool is_quorum_impaired(void)
{
    for (raft_node i = 1; i <= life.node_count; i++) {
        const struct raft_configuration *configuration =
            raft_latest_configuration(life.world.nodes[i].raft);
        if (is_quorum_impaired_of(configuration->voters, configuration->voter_count) ||
            is_quorum_impaired_of(configuration->outgoing, configuration->outgoing_count)) {
            return true;
        }
    }
    return false;
}

static void live_well(bool is_tracing)
{
    heal_network();
    for (raft_node i = 1; i <= life.node_count; i++) {
        life.paused_until_us[i] = 0;
        if (life.world.nodes[i].raft == NULL) {
            start(i);
        }
    }
    uint64_t end_us = life.now_us + (uint64_t)HEAL_MS_MAX * 1000;
    raft_index goal = life.world.committed.last_index + 3;
    while (life.now_us < end_us && !has_failed()) {
        for (uint32_t i = life.world.network.count; i > 0 && !has_failed(); i--) {
            deliver(0, false);
        }
        for (raft_node i = 1; i <= life.node_count; i++) {
            act_on_node(ACTION_PERSIST, i);
            snapshot(i);
        }
        if (life.world.committed.last_index < goal) {
            act(ACTION_PROPOSE);
        }
        life.now_us += 2000 + below(8000);
        tick_all(true);
        check_all();
        print_shown(is_tracing);
        if (is_healed(goal)) {
            check_logs();
            return;
        }
    }
    if (has_failed() || is_quorum_impaired()) {
        return;
    }
    raft__world_violate(&life.world, "no progress although everything is well");
}

/* Returns what was violated; empty: nothing. */
static const char *run(uint64_t seed, bool is_tracing)
{
    static char violation[sizeof life.world.violation];
    static const struct trace_hooks hooks = {.bug = is_bug, .probe = note_probe};
    trace_set_hooks(&hooks);
    begin(seed, is_tracing);
    live_badly(is_tracing);
    if (!has_failed()) {
        live_well(is_tracing);
    }
    print_shown(is_tracing);
    memcpy(violation, life.world.violation, sizeof violation);
    raft__world_deinit(&life.world);
    trace_set_hooks(NULL);
    return violation;
}

/* ---- Planted bugs ---------------------------------------------------------------------------- */

static const char *const bugs[] = {
    "raft.acknowledges_unmatched",
    "raft.append_reply_before_durable",
    "raft.applied_before_durable",
    "raft.commit_before_persisted",
    "raft.configuration_when_committed",
    "raft.heartbeat_commits_unmatched",
    "raft.impaired_votes",
    "raft.learner_counted",
    "raft.lease_after_transfer",
    "raft.lease_without_margin",
    "raft.older_term_counted",
    "raft.one_majority_while_joint",
    "raft.prevote_raises_term",
    "raft.promise_forgotten",
    "raft.removed_leader_counted",
    "raft.stale_append_truncates",
    "raft.truncated_configuration_kept",
    "raft.vote_before_durable",
    "raft.vote_ignores_log",
};

/* In a process of its own, because a bug may also end in an assertion. */
static bool does_fail(uint64_t seed, char *violation, size_t size_bytes)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        const char *text = run(seed, false);
        (void)!write(ends[1], text, strlen(text));
        _exit(0);
    }
    (void)close(ends[1]);
    ssize_t size = read(ends[0], violation, size_bytes - 1);
    (void)close(ends[0]);
    violation[size > 0 ? size : 0] = '\0';
    int outcome = 0;
    assert_int_equal(waitpid(child, &outcome, 0), child);
    if (!WIFEXITED(outcome)) {
        (void)snprintf(violation, size_bytes, "an assertion");
    }
    return violation[0] != '\0';
}

static bool find_bug(const char *name, uint64_t first, uint64_t count)
{
    char violation[256];
    bug = name;
    for (uint64_t i = 0; i < count; i++) {
        if (does_fail(first + i, violation, sizeof violation)) {
            printf("%s found after %" PRIu64 " seeds, by seed %" PRIu64 ": %s\n", name, i + 1,
                   first + i, violation);
            bug = NULL;
            return true;
        }
    }
    printf("%s not found in %" PRIu64 " seeds\n", name, count);
    bug = NULL;
    return false;
}

#ifdef TUTTI_PLANTED_BUGS
static void each_planted_bug_is_found(void **state)
{
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        assert_true(find_bug(bugs[i], 1, BUG_SEED_COUNT_MAX));
    }
}
#endif

/* ---- Running --------------------------------------------------------------------------------- */

static void tell_seed(int number)
{
    char text[64];
    int length = snprintf(text, sizeof text, "raft_random: at seed %" PRIu64 "\n", life.seed);
    (void)!write(STDERR_FILENO, text, (size_t)length);
    (void)signal(SIGABRT, SIG_DFL);
}

static uint64_t first_seed = 1;
static uint64_t seed_count = SEED_COUNT;

static void random_lives_are_safe(void **state)
{
    for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++) {
        const char *violation = run(seed, false);
        if (violation[0] != '\0') {
            fail_msg("seed %" PRIu64 ": %s", seed, violation);
        }
    }
    for (uint32_t i = 0; i < probe_count; i++) {
        printf("reached %s\n", probes[i]);
    }
}

int main(int count, char **words)
{
    uint64_t seed = 0;
    bool is_tracing = false;
    bool does_seek_bugs = false;
    const char *sought = NULL;
    for (int i = 1; i < count; i++) {
        const char *value = i + 1 < count ? words[i + 1] : "";
        is_tracing |= strcmp(words[i], "--trace") == 0;
        does_seek_bugs |= strcmp(words[i], "--bugs") == 0;
        seed = strcmp(words[i], "--seed") == 0 ? strtoull(value, NULL, 10) : seed;
        first_seed = strcmp(words[i], "--first") == 0 ? strtoull(value, NULL, 10) : first_seed;
        seed_count = strcmp(words[i], "--seeds") == 0 ? strtoull(value, NULL, 10) : seed_count;
        sought = strcmp(words[i], "--bug") == 0 ? value : sought;
    }
    (void)signal(SIGABRT, tell_seed);
    if (seed != 0) {
        bug = sought;
        const char *violation = run(seed, is_tracing);
        printf("seed %" PRIu64 ": %s\n", seed, violation[0] != '\0' ? violation : "well");
        return violation[0] != '\0' ? 1 : 0;
    }
    if (sought != NULL) {
        return find_bug(sought, first_seed, seed_count) ? 0 : 1;
    }
    for (size_t i = 0; does_seek_bugs && i < sizeof bugs / sizeof *bugs; i++) {
        (void)find_bug(bugs[i], first_seed, seed_count);
    }
    if (does_seek_bugs) {
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives_are_safe),
#ifdef TUTTI_PLANTED_BUGS
        cmocka_unit_test(each_planted_bug_is_found),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
