/* SPDX-License-Identifier: Apache-2.0 */
#include "core/raft/raft_life.h"

#include <inttypes.h>

#include "base/random/random.h"
#include "base/trace/trace.h"
#include "core/raft/raft_world.h"

enum {
    TERM_COUNT_MAX = 4096,
    NETWORK_COUNT_MAX = 400,
    LOG_LENGTH_MAX = 400,
    BAD_MS_MAX = 30000,
    HEAL_MS_MAX = 20000,
    PROBE_COUNT_MAX = 64,
};

/* What is asked for, and what may happen to any message, at any time. */
enum noise {
    NOISE_LATE, /* Another message than the oldest arrives. */
    NOISE_COPY,
    NOISE_DROP,
    NOISE_PROPOSE,
    NOISE_CONFIRM,
    NOISE_STORE,
    NOISE_COMPACT,
    NOISE_COUNT,
};

/* What happens now and then. */
enum trouble {
    TROUBLE_PAUSE,
    TROUBLE_CRASH,
    TROUBLE_DAMAGE,
    TROUBLE_CONFIGURE,
    TROUBLE_TRANSFER,
    TROUBLE_LOST,
    TROUBLE_UNREACHABLE,
    TROUBLE_CUT,
    TROUBLE_COUNT,
};

/* How often each is taken; none, some or much of it in each life: lives differ most by what does
 * not happen in them. */
static const uint32_t noise_weights[NOISE_COUNT] = {
    [NOISE_LATE] = 100,   [NOISE_COPY] = 30,  [NOISE_DROP] = 20,    [NOISE_PROPOSE] = 200,
    [NOISE_CONFIRM] = 60, [NOISE_STORE] = 40, [NOISE_COMPACT] = 10,
};
static const uint32_t trouble_weights[TROUBLE_COUNT] = {
    [TROUBLE_PAUSE] = 10,       [TROUBLE_CRASH] = 30,    [TROUBLE_DAMAGE] = 5,
    [TROUBLE_CONFIGURE] = 20,   [TROUBLE_TRANSFER] = 20, [TROUBLE_LOST] = 10,
    [TROUBLE_UNREACHABLE] = 10, [TROUBLE_CUT] = 40,
};
static const uint32_t weight_factors[] = {1, 2, 4, 0, 0, 10};

struct read {
    raft_term term; /* 0: none is waiting. */
    uint64_t round;
    raft_index acknowledged;
};

struct member {
    uint32_t rate; /* Of its clock, per thousand. */
    uint64_t paused_until_us;
    uint64_t start_at_us; /* After a crash. */
    uint64_t snapshot_at_us;
    struct read read;
};

struct life {
    struct raft__world world;
    struct random random;
    uint64_t seed;
    bool is_tracing;
    uint64_t now_us;
    uint32_t node_count;
    struct member members[RAFT__WORLD_NODE_COUNT_MAX + 1];

    uint32_t noises[NOISE_COUNT];
    uint32_t troubles[TROUBLE_COUNT];
    uint32_t pace_us;  /* What an action takes, at most. */
    uint32_t noise;    /* One action in so many is noise. */
    uint32_t delay;    /* Time passes although there is something to do, one time in so many. */
    uint32_t peace_us; /* Between two troubles, about. */
    uint64_t trouble_at_us;
    bool does_leading_cost; /* Whoever begins to lead is mostly cut off soon. */
    raft_node doomed;
    uint64_t reboot_at_us; /* Of all but `spared`. */
    raft_node spared[2];
    uint64_t cut_until_us;
    bool does_cut_hold; /* Messages wait for the network to heal; otherwise they are lost. */
    bool is_cut[RAFT__WORLD_NODE_COUNT_MAX + 1][RAFT__WORLD_NODE_COUNT_MAX + 1];

    raft_node leaders[TERM_COUNT_MAX];
    raft_index acknowledged;
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

/* Into the trace. */
static void note(const char *what, raft_node id)
{
    if (life.world.does_show_changes) {
        raft__world_show(&life.world, "# %" PRIu64 " us: %s %" PRIu32, life.now_us, what, id);
    }
}

static bool is_up(raft_node id)
{
    return life.world.nodes[id].raft != NULL && life.now_us >= life.members[id].paused_until_us;
}

static uint64_t clock_ms(raft_node id)
{
    return 1000 + life.now_us * life.members[id].rate / 1000000;
}

static uint32_t pick(const uint32_t *weights, uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += weights[i];
    }
    uint32_t place = sum > 0 ? below(sum) : 0;
    uint32_t picked = 0;
    for (; picked < count && place >= weights[picked]; picked++) {
        place -= weights[picked];
    }
    return picked; /* `count`: nothing has a weight. */
}

/* ---- Checks ---------------------------------------------------------------------------------- */

static void check_reads(const struct raft__world_node *node)
{
    const struct raft_output *output = &node->output;
    struct read *read = &life.members[node->id].read;
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
        node->now_ms = clock_ms(i);
        if (node->output.role == RAFT_ROLE_LEADER && node->output.term < TERM_COUNT_MAX) {
            raft_node *leader = &life.leaders[node->output.term];
            if (*leader != 0 && *leader != i) {
                raft__world_violate(&life.world, "%" PRIu32 " and %" PRIu32 " lead term %" PRIu64,
                                    *leader, i, node->output.term);
            }
            if (*leader == 0 && life.does_leading_cost) {
                life.doomed = i;
            }
            *leader = i;
        }
        check_reads(node);
    }
    for (raft_node i = 1; i <= life.node_count; i++) {
        const struct raft__world_node *node = &life.world.nodes[i];
        if (node->raft != NULL && node->output.role == RAFT_ROLE_LEADER) {
            life.acknowledged = number_max(life.acknowledged, node->applied.index);
        }
    }
}

/* ---- What happens ---------------------------------------------------------------------------- */

static int give(raft_node id, struct raft_input input)
{
    struct raft__world_node *node = &life.world.nodes[id];
    node->now_ms = clock_ms(id);
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
    bool is_cut = life.is_cut[message->from][message->to];
    if ((is_cut && !life.does_cut_hold) || node->raft == NULL) {
        raft__world_drop(&life.world, position);
    } else if (!is_cut && is_up(message->to)) {
        node->now_ms = clock_ms(message->to);
        raft__world_deliver(&life.world, position, is_copy);
    }
}

/* The oldest that can arrive. */
static bool find_next(uint32_t *position)
{
    for (uint32_t i = 0; i < life.world.network.count; i++) {
        const struct raft_message *message = &life.world.network.items[i].message;
        bool is_held = life.does_cut_hold && life.is_cut[message->from][message->to];
        if (!is_held && (is_up(message->to) || life.world.nodes[message->to].raft == NULL)) {
            *position = i;
            return true;
        }
    }
    return false;
}

static bool is_busy(void)
{
    uint32_t position = 0;
    bool is_writing = false;
    for (raft_node i = 1; i <= life.node_count; i++) {
        is_writing |= is_up(i) && life.world.nodes[i].write_count > 0;
    }
    return is_writing || find_next(&position);
}

static void write_some(raft_node id)
{
    struct raft__world_node *node = &life.world.nodes[id];
    if (is_up(id) && node->write_count > 0) {
        node->now_ms = clock_ms(id);
        raft__world_persist(&life.world, id, 1 + below(node->write_count));
    }
}

static void start(raft_node id)
{
    note("start", id);
    life.world.nodes[id].now_ms = clock_ms(id);
    raft__world_start(&life.world, id);
    life.members[id].paused_until_us = 0;
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
    note(is_damaging ? "crash with damage" : "crash", id);
    node->does_forget = node->was_impaired && !node->output.is_impaired && chance(1, 2);
    raft__world_crash(world, id, below(node->write_count + 1));
    life.members[id].start_at_us = chance(1, 2) ? 0 : life.now_us + below(600000);
    life.members[id].read.term = 0;
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
        if (chance(1, 2)) {
            raft__world_damage_cut(world, id);
        }
        raft_index first = node->stored.index + 1;
        uint64_t count = node->durable_log.last_index + 1 - node->stored.index;
        raft_term term = chance(1, 2) ? random_below(&life.random, 1000) : UINT64_MAX;
        if (chance(1, 2) && node->durable_hard_state.term > 0) {
            term = node->durable_hard_state.term - 1; /* The newest vote. */
        }
        raft__world_damage(world, id, first + random_below(&life.random, count), term);
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
    if (!is_up(id) || life.members[id].read.term != 0) {
        return;
    }
    raft_index acknowledged = life.acknowledged;
    if (give(id, (struct raft_input){.kind = RAFT_INPUT_CONFIRM}) == 0) {
        const struct raft_output *output = &life.world.nodes[id].output;
        life.members[id].read = (struct read){output->term, output->round, acknowledged};
    }
}

/* All who run are told that it is thought to be dead. */
static void suspect(raft_node id)
{
    for (raft_node i = 1; i <= life.node_count && !has_failed(); i++) {
        if (i != id && is_up(i)) {
            (void)give(i, (struct raft_input){.kind = RAFT_INPUT_PEER_LOST, .node = id});
        }
    }
}

static void heal_network(void)
{
    if (life.cut_until_us != UINT64_MAX) {
        note("heal", 0);
    }
    life.cut_until_us = UINT64_MAX;
    memset(life.is_cut, 0, sizeof life.is_cut);
}

/* Two halves; one member, in either direction or both; one link; or any shape. */
static void cut_network(raft_node lonely)
{
    bool is_left[RAFT__WORLD_NODE_COUNT_MAX + 1];
    uint32_t shape = below(6);
    raft_node other = any_node();
    if (life.cut_until_us != UINT64_MAX) {
        return;
    }
    note("cut off", lonely);
    life.cut_until_us = life.now_us + below(1000000);
    life.does_cut_hold = chance(1, 2);
    for (raft_node i = 1; i <= life.node_count; i++) {
        is_left[i] = chance(1, 2);
    }
    for (raft_node i = 1; i <= life.node_count; i++) {
        for (raft_node j = 1; j <= life.node_count; j++) {
            bool is_from = shape != 2 && i == lonely;
            bool is_to = shape != 3 && j == lonely;
            life.is_cut[i][j] = shape == 0   ? is_left[i] != is_left[j]
                                : shape == 4 ? chance(1, 3)
                                : shape == 5 ? i + j == lonely + other && (i == other || j == other)
                                             : is_from || is_to;
        }
    }
    if (shape == 5 && chance(1, 2)) {
        life.reboot_at_us = life.now_us + 250000 + below(500000);
        life.spared[0] = lonely;
        life.spared[1] = other;
        life.cut_until_us = life.reboot_at_us + 200000;
    } else if (chance(1, 2)) {
        suspect(lonely);
    }
}

/* The one who waits to be elected, and the leader that does not hear of it, go on. */
static void reboot_the_rest(void)
{
    life.reboot_at_us = UINT64_MAX;
    note("reboot all but", life.spared[0]);
    for (raft_node i = 1; i <= life.node_count && !has_failed(); i++) {
        if (i != life.spared[0] && i != life.spared[1] && life.world.nodes[i].raft != NULL) {
            crash(i, false);
            life.members[i].start_at_us = 0;
        }
    }
}

static void doom_leader(void)
{
    raft_node id = life.doomed;
    life.doomed = 0;
    if (life.world.nodes[id].raft != NULL && chance(2, 3)) {
        heal_network();
        cut_network(id);
        (void)give(id, (struct raft_input){.kind = RAFT_INPUT_PROPOSE});
    }
}

static void snapshot(raft_node id)
{
    struct raft__world_node *node = &life.world.nodes[id];
    node->wanted_snapshot_count =
        (uint32_t)number_min(node->wanted_snapshot_count, RAFT_PEER_COUNT_MAX);
    raft_node to = node->wanted_snapshots[--node->wanted_snapshot_count];
    bool has_failed = life.is_cut[id][to] || !is_up(to) || chance(1, 10);
    life.members[to].paused_until_us = 0;
    life.world.nodes[to].now_ms = clock_ms(to);
    raft__world_snapshot(&life.world, id, to, has_failed);
    life.members[id].snapshot_at_us = life.now_us + below(200000);
}

static void tick_all(bool is_prompt)
{
    for (raft_node i = 1; i <= life.node_count && !has_failed(); i++) {
        struct raft__world_node *node = &life.world.nodes[i];
        if (!is_up(i)) {
            continue;
        }
        node->now_ms = clock_ms(i);
        if (node->now_ms >= node->output.wake_at_ms && (is_prompt || chance(3, 4))) {
            bool does_hurry = life.seed % 2 == 0;
            (void)give(i, (struct raft_input){.kind = RAFT_INPUT_TICK, .does_hurry = does_hurry});
        }
    }
}

/* To when the next thing happens, or by any time. */
static void pass_time(void)
{
    uint64_t next_us = number_min(life.trouble_at_us, life.cut_until_us);
    next_us = number_min(next_us, life.reboot_at_us);
    for (raft_node i = 1; i <= life.node_count; i++) {
        const struct raft__world_node *node = &life.world.nodes[i];
        if (node->raft == NULL) {
            next_us = number_min(next_us, life.members[i].start_at_us);
        } else if (node->output.wake_at_ms != UINT64_MAX) {
            uint64_t wake_us = number_max(node->output.wake_at_ms, 1000) - 1000;
            wake_us = wake_us * 1000000 / life.members[i].rate;
            next_us = number_min(next_us, number_max(wake_us, life.members[i].paused_until_us));
        }
    }
    if (chance(1, 10)) {
        life.now_us += below(100000);
    } else {
        life.now_us = number_max(life.now_us + 1000, number_min(next_us, life.now_us + 1000000));
    }
}

static void make_noise(void)
{
    uint32_t count = life.world.network.count;
    raft_node id = any_node();
    switch ((enum noise)pick(life.noises, NOISE_COUNT)) {
    case NOISE_LATE:
        if (count > 0) {
            deliver(below(count), false);
        }
        break;
    case NOISE_COPY:
        if (count > 0) {
            deliver(below(count), true);
        }
        break;
    case NOISE_DROP:
        if (count > 0) {
            raft__world_drop(&life.world, below(count));
        }
        break;
    case NOISE_PROPOSE:
        id = any_leader();
        if (is_up(id) && life.world.committed.last_index < LOG_LENGTH_MAX) {
            (void)give(id, (struct raft_input){.kind = RAFT_INPUT_PROPOSE});
        }
        break;
    case NOISE_CONFIRM:
        confirm();
        break;
    case NOISE_STORE:
        if (is_up(id)) {
            raft__world_store(&life.world, id);
        }
        break;
    case NOISE_COMPACT:
        if (is_up(id)) {
            life.world.nodes[id].now_ms = clock_ms(id);
            raft__world_compact(&life.world, id, below(8));
        }
        break;
    case NOISE_COUNT:
        break;
    }
}

static void make_trouble(void)
{
    raft_node id = chance(1, 3) ? any_leader() : any_node();
    struct raft_input input = {.node = any_node(), .index = life.now_us % (life.world.value + 1)};
    switch ((enum trouble)pick(life.troubles, TROUBLE_COUNT)) {
    case TROUBLE_PAUSE:
        note("pause", id);
        life.members[id].paused_until_us = life.now_us + below(600000);
        break;
    case TROUBLE_CRASH:
        crash(id, false);
        break;
    case TROUBLE_DAMAGE:
        crash(id, true);
        break;
    case TROUBLE_CONFIGURE:
        configure();
        break;
    case TROUBLE_TRANSFER:
        input.kind = RAFT_INPUT_TRANSFER;
        id = any_leader();
        if (is_up(id)) {
            (void)give(id, input);
        }
        break;
    case TROUBLE_LOST:
        input.kind = RAFT_INPUT_PEER_LOST;
        input.node = chance(1, 2) ? life.world.nodes[id].output.leader : input.node;
        if (is_up(id)) {
            (void)give(id, input);
        }
        break;
    case TROUBLE_UNREACHABLE:
        input.kind = life.now_us % 2 == 0 ? RAFT_INPUT_UNREACHABLE : RAFT_INPUT_APPEND_CUT;
        if (is_up(id)) {
            (void)give(id, input);
        }
        break;
    case TROUBLE_CUT:
        cut_network(any_leader());
        break;
    case TROUBLE_COUNT:
        break;
    }
}

/* What is due. */
static void keep_appointments(void)
{
    if (life.now_us >= life.cut_until_us) {
        heal_network();
    }
    if (life.now_us >= life.reboot_at_us) {
        reboot_the_rest();
    }
    if (life.doomed != 0 && chance(1, 10)) {
        doom_leader();
    }
    if (life.now_us >= life.trouble_at_us) {
        life.trouble_at_us = life.now_us + below(2 * life.peace_us);
        make_trouble();
    }
    for (raft_node i = 1; i <= life.node_count && !has_failed(); i++) {
        const struct raft__world_node *node = &life.world.nodes[i];
        if (node->raft == NULL && life.now_us >= life.members[i].start_at_us) {
            start(i);
        } else if (is_up(i) && node->wanted_snapshot_count > 0 &&
                   life.now_us >= life.members[i].snapshot_at_us) {
            snapshot(i);
        }
    }
}

/* A message arrives or a write is done; if there is neither, time passes. */
static void go_on(void)
{
    uint32_t position = 0;
    if (chance(1, life.delay) || !is_busy()) {
        pass_time();
    } else if (chance(2, 3) && find_next(&position)) {
        deliver(position, false);
    } else {
        write_some(any_node());
    }
}

/* ---- A life ---------------------------------------------------------------------------------- */

static void choose_weights(void)
{
    for (uint32_t i = 0; i < NOISE_COUNT; i++) {
        life.noises[i] = noise_weights[i] * weight_factors[below(6)];
    }
    for (uint32_t i = 0; i < TROUBLE_COUNT; i++) {
        life.troubles[i] = trouble_weights[i] * weight_factors[below(6)];
    }
    static const uint32_t peaces_us[] = {50000, 200000, 500000};
    life.pace_us = chance(1, 2) ? 100 : 2000;
    life.noise = chance(1, 2) ? 4 : 15;
    life.delay = chance(1, 2) ? 20 : 300;
    life.peace_us = peaces_us[below(3)];
    life.does_leading_cost = chance(1, 4);
}

/* Drawn apart, so that other draws are as they were. */
static uint32_t draw_phase_ms(uint64_t seed)
{
    struct random random;
    random_init(&random, seed ^ 0x6265617473);
    uint32_t phase_ms = (uint32_t)random_below(&random, 2 * RAFT_HEARTBEAT_INTERVAL_MS);
    return phase_ms <= RAFT_HEARTBEAT_INTERVAL_MS ? phase_ms : 0;
}

static void begin(uint64_t seed, bool is_tracing)
{
    life = (struct life){.seed = seed,
                         .is_tracing = is_tracing,
                         .reboot_at_us = UINT64_MAX,
                         .cut_until_us = UINT64_MAX};
    random_init(&life.random, seed);
    raft__world_init(&life.world);
    life.world.does_show_messages = life.world.does_show_changes = is_tracing;
    life.world.does_prove_late = seed % 2 == 1;
    life.world.append_cut_count = chance(1, 2) ? 1 + below(3) : 0;
    life.world.options.quiet_after_ms = chance(1, 3) ? 100 + below(400) : 0;
    life.world.options.heartbeat_phase_ms = draw_phase_ms(seed);
    life.world.options.persist_timeout_ms = chance(1, 3) ? 100 + below(400) : 0;
    life.node_count = chance(1, 2) ? 3 : 3 + below(5);
    uint32_t skew = chance(1, 2) ? 0 : 1 + below(120);
    for (raft_node i = 1; i <= life.node_count; i++) {
        life.members[i].rate = chance(1, 2) ? 1000 - skew : 1000 + skew;
        life.world.nodes[i].seed = seed * 100;
    }
    choose_weights();
    struct raft_configuration configuration = {
        .voter_count = chance(1, 4) ? 1 + below(life.node_count) : 3 + 2 * below(2)};
    configuration.voter_count = (uint32_t)number_min(configuration.voter_count, life.node_count);
    for (uint32_t i = 0; i < configuration.voter_count; i++) {
        configuration.voters[i] = i + 1;
    }
    struct raft_configuration nobody = {0};
    for (raft_node i = 1; i <= life.node_count; i++) {
        raft__world_add(&life.world, i, i <= configuration.voter_count ? &configuration : &nobody);
        start(i);
    }
}

static void print_shown(void)
{
    if (life.is_tracing && life.world.shown.size_bytes > 0) {
        (void)printf("%.*s", (int)life.world.shown.size_bytes, (const char *)life.world.shown.data);
        buffer_clear(&life.world.shown);
    }
}

static void live_badly(void)
{
    uint32_t action_count = 500 + below(5000);
    for (uint32_t i = 0; i < action_count && !has_failed(); i++) {
        life.now_us += below(life.pace_us);
        keep_appointments();
        if (life.world.network.count > NETWORK_COUNT_MAX) {
            raft__world_drop(&life.world, below(NETWORK_COUNT_MAX));
        } else if (chance(1, life.noise)) {
            make_noise();
        } else {
            go_on();
        }
        tick_all(false);
        check_all();
        if (i % 16 == 0) {
            raft__world_check_logs(&life.world);
        }
        print_shown();
        if (life.now_us > (uint64_t)BAD_MS_MAX * 1000) {
            return;
        }
    }
}

static void live_well(void)
{
    heal_network();
    life.trouble_at_us = UINT64_MAX;
    life.reboot_at_us = UINT64_MAX;
    for (raft_node i = 1; i <= life.node_count; i++) {
        life.members[i].paused_until_us = 0;
        if (life.world.nodes[i].raft == NULL) {
            start(i);
        }
    }
    for (raft_node i = 1; i <= life.node_count && life.world.options.quiet_after_ms > 0; i++) {
        suspect(i); /* A quiet group relies on being told. */
    }
    uint64_t end_us = life.now_us + (uint64_t)HEAL_MS_MAX * 1000;
    raft_index goal = life.world.committed.last_index + 3;
    while (life.now_us < end_us && !has_failed()) {
        for (uint32_t i = life.world.network.count; i > 0 && !has_failed(); i--) {
            deliver(0, false);
        }
        for (raft_node i = 1; i <= life.node_count; i++) {
            write_some(i);
        }
        raft_node leader = any_leader();
        if (life.world.committed.last_index < goal) {
            (void)give(leader, (struct raft_input){.kind = RAFT_INPUT_PROPOSE});
        }
        life.now_us += 2000 + below(8000);
        keep_appointments();
        tick_all(true);
        check_all();
        print_shown();
        if (raft__world_is_healed(&life.world, goal)) {
            raft__world_check_logs(&life.world);
            return;
        }
    }
    if (!has_failed() && !raft__world_is_quorum_impaired(&life.world)) {
        raft__world_violate(&life.world, "no progress although everything is well");
    }
}

const char *raft__life_run(uint64_t seed, const char *wanted_bug, bool is_tracing)
{
    static char violation[sizeof life.world.violation];
    static const struct trace_hooks hooks = {.bug = is_bug, .probe = note_probe};
    bug = wanted_bug;
    trace_set_hooks(&hooks);
    begin(seed, is_tracing);
    live_badly();
    if (!has_failed()) {
        live_well();
    }
    print_shown();
    memcpy(violation, life.world.violation, sizeof violation);
    raft__world_deinit(&life.world);
    trace_set_hooks(NULL);
    return violation;
}

uint64_t raft__life_seed(void)
{
    return life.seed;
}

const char *raft__life_probe(uint32_t i)
{
    return i < probe_count ? probes[i] : NULL;
}
