/* SPDX-License-Identifier: Apache-2.0 */
/* Random lives of three nodes: leaders change, connections break, messages vanish and come twice,
 * nodes are killed and start anew, shards are busy, while clients pipeline reads and writes. The
 * world judges (route_world.h). Then all is mended, and everything must be answered and gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/route/route_world.h"

enum { SESSION_COUNT_MAX = 24, FAULT_MS = 2500, SEED_COUNT = 200 };

struct life {
    struct world *world;
    struct random random;
    struct world_session *sessions[SESSION_COUNT_MAX];
    uint32_t nodes[SESSION_COUNT_MAX];
    uint32_t session_count;
    /* Of a thousand, each millisecond. */
    uint32_t submit_permille;
    uint32_t lose_permille;
    uint32_t split_permille;
    uint32_t kill_permille;
    uint32_t break_permille;
    uint32_t deaf_permille;
    uint32_t write_share;
    uint32_t write_count; /* Of a hundred. */
    uint32_t cheap_share;
    uint32_t burst_max;
    uint32_t pipeline_max;
    uint32_t key_count; /* Of which 0 is any of the others. 0: as 1. */
};

static uint32_t pick(struct random *random, const uint32_t *choices, uint32_t count)
{
    return choices[random_below(random, count)];
}

#define PICK(random, ...)                         \
    pick(random, (const uint32_t[]){__VA_ARGS__}, \
         sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static struct world_options draw_options(struct random *random, uint64_t seed)
{
    return (struct world_options){
        .seed = seed,
        .route =
            {
                .deadline_ms = PICK(random, 300, 3000, 30000),
                .held_size_bytes_max = PICK(random, 4000, 0),
                .guest_size_bytes_max = PICK(random, 2000, 20000, 0),
                .silence_ms = PICK(random, 50, 0),
                .message_size_bytes_max = PICK(random, 500, 0),
                .floor_delay_ms = PICK(random, 1, 200, 0),
            },
        .window_count = PICK(random, 10, 200, 0),
        .busy_permille = PICK(random, 0, 0, 50, 500),
        .late_read_permille = PICK(random, 0, 100, 900),
        .late_write_permille = PICK(random, 0, 100, 500),
        .commit_delay_ms_max = PICK(random, 0, 3, 30),
        .network_delay_ms_max = PICK(random, 0, 2, 20),
        .lost_permille = PICK(random, 0, 0, 2, 30),
        .repeated_permille = PICK(random, 0, 0, 20),
        .delayed_permille = PICK(random, 0, 0, 10),
        .choked_permille = PICK(random, 0, 0, 100),
        .are_followers_blank = PICK(random, false, false, true),
        .older_nodes = PICK(random, 0, 0, 1, 2, 6, 7),
    };
}

static void life_init(struct life *life, uint64_t seed)
{
    *life = (struct life){0};
    random_init(&life->random, seed);
    struct random *random = &life->random;
    struct world_options options = draw_options(random, seed);
    life->world = world_create(&options);
    life->session_count = PICK(random, 1, 4, SESSION_COUNT_MAX);
    life->submit_permille = PICK(random, 20, 200, 1000);
    life->lose_permille = PICK(random, 0, 2, 10, 30);
    life->split_permille = PICK(random, 0, 2, 10);
    life->kill_permille = PICK(random, 0, 0, 2);
    life->break_permille = PICK(random, 0, 0, 5, 20);
    life->deaf_permille = PICK(random, 0, 0, 3);
    life->write_share = PICK(random, 20, 50, 80);
    life->cheap_share = PICK(random, 0, 50, 100);
    life->burst_max = PICK(random, 1, 4, 30);
    life->pipeline_max = PICK(random, 1, 8, 100);
    life->key_count = PICK(random, 0, 3, WORLD_KEY_COUNT_MAX + 1);
}

/* ---- Events ---------------------------------------------------------------------------------- */

static bool happens(struct life *life, uint32_t permille)
{
    return permille > 0 && random_chance(&life->random, permille, 1000);
}

static uint32_t any_node(struct life *life)
{
    return (uint32_t)random_below(&life->random, WORLD_NODE_COUNT);
}

static void forget_sessions(struct life *life, uint32_t node)
{
    for (uint32_t i = 0; i < life->session_count; i++) {
        if (life->nodes[i] == node) {
            life->sessions[i] = NULL; /* They went with the node. */
        }
    }
}

static enum world_kind draw_kind(struct life *life)
{
    if (random_below(&life->random, 100) < life->write_share) {
        return life->write_count++ % 8 == 7 ? WORLD_RELEASE : WORLD_WRITE;
    }
    if (random_below(&life->random, 100) < life->cheap_share) {
        return WORLD_CHEAP_READ;
    }
    return random_below(&life->random, 20) == 0 ? WORLD_STALE_READ : WORLD_READ;
}

static void clients_act(struct life *life)
{
    struct world *world = life->world;
    for (uint32_t i = 0; i < life->session_count; i++) {
        if (!happens(life, life->submit_permille)) {
            continue;
        }
        struct world_session *session = life->sessions[i];
        if (session != NULL && world_pending_count(world, session) == 0 && happens(life, 100)) {
            world_disconnect(world, session);
            session = NULL;
        }
        if (session == NULL) {
            uint32_t node = any_node(life);
            if (!world_is_up(world, node)) {
                life->sessions[i] = NULL;
                continue;
            }
            session = world_connect(world, node);
            life->sessions[i] = session;
            life->nodes[i] = node;
        }
        uint64_t count = 1 + random_below(&life->random, life->burst_max);
        for (; count > 0 && world_pending_count(world, session) < life->pipeline_max; count--) {
            uint32_t size = happens(life, 3) ? 70000 : (uint32_t)random_below(&life->random, 200);
            enum world_kind kind = draw_kind(life);
            uint64_t key = life->key_count == 0 ? 0 : random_below(&life->random, life->key_count);
            (void)world_submit_for(world, session, kind, size, (uint16_t)key);
        }
    }
}

static bool may_split(const struct world *world)
{
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        if (world_is_older(world, i)) {
            return false;
        }
    }
    return world_split_count(world) < WORLD_SPLIT_COUNT_MAX;
}

static void leaders_change(struct life *life)
{
    struct world *world = life->world;
    if (world_leader(world) < WORLD_NODE_COUNT) {
        if (happens(life, life->lose_permille)) {
            world_lose_leader(world);
        } else if (may_split(world) && happens(life, life->split_permille)) {
            world_split(world);
        }
    } else if (happens(life, 50)) {
        uint32_t node = any_node(life);
        if (world_is_up(world, node)) {
            world_learn(world, node);
            world_run(world, 1);
            world_elect(world, node);
        }
    }
    if (happens(life, 30)) {
        uint32_t node = any_node(life);
        if (world_is_up(world, node)) {
            world_learn(world, node);
        }
    }
    if (happens(life, 3)) {
        world_forget(world, any_node(life));
    }
}

static void things_break(struct life *life)
{
    struct world *world = life->world;
    uint32_t node = any_node(life);
    uint32_t other = (node + 1) % WORLD_NODE_COUNT;
    if (happens(life, life->kill_permille) && world_is_up(world, node)) {
        world_kill(world, node);
        forget_sessions(life, node);
    } else if (!world_is_up(world, node) && happens(life, 20)) {
        world_start(world, node);
    }
    if (happens(life, life->break_permille)) {
        world_disconnect_nodes(world, node, other, PICK(&life->random, 0, 20, 300));
    } else if (!world_are_connected(world, node, other) && happens(life, 50)) {
        world_connect_nodes(world, node, other);
    }
    if (happens(life, life->deaf_permille)) {
        bool is_reversed = happens(life, 500);
        world_set_deaf(world, is_reversed ? other : node, is_reversed ? node : other, true);
    } else if (happens(life, 20)) {
        world_set_deaf(world, node, other, false);
        world_set_deaf(world, other, node, false);
    }
    if (happens(life, 5)) {
        world_set_full(world, happens(life, 300));
    }
    if (happens(life, 5)) {
        world_set_committing(world, happens(life, 800));
    }
}

/* ---- A life ---------------------------------------------------------------------------------- */

static const char *mend(struct life *life)
{
    struct world *world = life->world;
    world_heal(world);
    if (world_leader(world) == WORLD_NODE_COUNT) {
        uint32_t node = any_node(life);
        world_learn(world, node);
        world_run(world, 1);
        world_elect(world, node);
    }
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        world_learn(world, i);
    }
    for (uint32_t i = 0; i < 8000 && world_pending_count(world, NULL) > 0; i++) {
        world_run(world, 1);
    }
    if (world_pending_count(world, NULL) > 0) {
        return "requests are never done";
    }
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        (void)world_submit(world, world_connect(world, i), WORLD_WRITE, 10);
    }
    /* What is asked for now is answered, and soon. The first may still find that messages are
     * missing, and a short window cannot tell about them. */
    uint32_t numbers[SESSION_COUNT_MAX];
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < life->session_count; i++) {
            if (life->sessions[i] != NULL) {
                numbers[i] = world_submit(world, life->sessions[i], WORLD_WRITE, 10);
            }
        }
        world_run(world, 2000);
    }
    for (uint32_t i = 0; i < life->session_count; i++) {
        if (life->sessions[i] != NULL && world_status(world, numbers[i]) != 0) {
            return "all is mended, and a request is not answered";
        }
    }
    return NULL;
}

static const char *leaks(struct life *life)
{
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        struct route_statistics statistics;
        route_get_statistics(world_route(life->world, i), &statistics);
        if (statistics.held_count != 0 || statistics.waiting_count != 0 ||
            statistics.held_size_bytes != 0) {
            return "a request is kept that nobody waits for";
        }
        if (statistics.guest_request_count != 0 || statistics.guest_session_count != 0 ||
            statistics.guest_queued_count != 0 || statistics.guest_size_bytes != 0) {
            return "something of a guest is left";
        }
        if (statistics.malformed_count != 0) {
            return "a message was malformed";
        }
    }
    return NULL;
}

/* The claim that was violated, or NULL. */
static const char *live(uint64_t seed, char *text, size_t text_size_bytes)
{
    struct life life;
    life_init(&life, seed);
    for (uint32_t i = 0; i < FAULT_MS; i++) {
        leaders_change(&life);
        things_break(&life);
        clients_act(&life);
        world_step(life.world);
    }
    const char *failure = mend(&life);
    if (failure == NULL) {
        failure = leaks(&life);
    }
    /* What the world saw comes first. */
    const char *seen = world_failure(life.world);
    if (seen != NULL || failure != NULL) {
        (void)snprintf(text, text_size_bytes, "%s", seen != NULL ? seen : failure);
    }
    world_destroy(life.world);
    return seen != NULL || failure != NULL ? text : NULL;
}

/* ---- Rare branches --------------------------------------------------------------------------- */

static const char *const probes[] = {
    "route.expired",
    "route.grant_unknown",
    "route.guest_not_connected",
    "route.guest_returns",
    "route.guest_reply_unwanted",
    "route.guest_request_expired",
    "route.guest_stream_ended",
    "route.handed_back",
    "route.held_full",
    "route.hints_ignored",
    "route.moved",
    "route.not_told",
    "route.read_lost",
    "route.replies_missing",
    "route.replies_repeated",
    "route.reply_late",
    "route.returned",
    "route.requests_missing",
    "route.requests_repeated",
    "route.retry_refused",
    "route.silence",
    "route.stream_ended",
    "route.told_late",
    "route.word_asked_for",
    "route.write_waits_for_read",
    "world.retry_forgotten",
};
enum { PROBE_COUNT = sizeof probes / sizeof probes[0] };

static void note_probe(void *context, const char *name)
{
    uint32_t *counts = context;
    for (uint32_t i = 0; i < PROBE_COUNT; i++) {
        if (strcmp(probes[i], name) == 0) {
            counts[i]++;
        }
    }
}

static void print_record(void *context, const struct trace_record *record)
{
    (void)context;
    print_message("%s %llu %llu %llu %llu\n", record->name, (unsigned long long)record->values[0],
                  (unsigned long long)record->values[1], (unsigned long long)record->values[2],
                  (unsigned long long)record->values[3]);
}

static void live_through(uint64_t first, uint64_t count)
{
    for (uint64_t seed = first; seed < first + count; seed++) {
        char text[300];
        const char *failure = live(seed, text, sizeof text);
        if (failure != NULL) {
            trace_set_hooks(NULL);
            fail_msg("SEED=%llu: %s", (unsigned long long)seed, failure);
        }
    }
}

/* Whatever happens, the claims of the world hold, everything is done, and nothing leaks; and the
 * lives reach the rare branches: else they prove little. SEED=n lives that life alone, with TRACE=1
 * printing it; SEEDS=n so many from there on. */
static void test_lives(void **state)
{
    (void)state;
    const char *seed_text = getenv("SEED");
    const char *count_text = getenv("SEEDS");
    uint32_t probe_counts[PROBE_COUNT] = {0};
    struct trace_hooks hooks = {.context = probe_counts};
    if (seed_text == NULL && count_text == NULL) {
        hooks.probe = note_probe;
    }
    if (getenv("TRACE") != NULL) {
        hooks.record = print_record;
    }
    trace_set_hooks(&hooks);
    if (seed_text != NULL || count_text != NULL) {
        live_through(seed_text != NULL ? strtoull(seed_text, NULL, 10) : 1,
                     count_text != NULL ? strtoull(count_text, NULL, 10) : 1);
        trace_set_hooks(NULL);
        return;
    }
    live_through(1, SEED_COUNT);
    trace_set_hooks(NULL);
    for (uint32_t i = 0; i < PROBE_COUNT; i++) {
        if (probe_counts[i] == 0) {
            fail_msg("%s was never reached", probes[i]);
        }
    }
}

/* ---- Planted bugs ---------------------------------------------------------------------------- */

#ifdef TUTTI_PLANTED_BUGS
static bool is_bug(void *context, const char *name)
{
    return strcmp(context, name) == 0;
}

/* Each planted bug is found. */
static void test_planted_bugs(void **state)
{
    (void)state;
    static const char *const bugs[] = {
        "route.floor_early",          "route.floor_to_old",     "route.order_lost",
        "route.overtaken_read_asked", "route.read_unguarded",   "route.reply_mismatched",
        "route.retry_not_marked",     "route.retry_renumbered", "route.slots_lost",
        "route.slots_mixed",          "route.slots_to_old",
    };
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        struct trace_hooks hooks = {.context = (void *)(uintptr_t)bugs[i], .bug = is_bug};
        trace_set_hooks(&hooks);
        const char *failure = NULL;
        char text[300];
        uint64_t seed = 0;
        while (failure == NULL && seed < 1000) {
            failure = live(++seed, text, sizeof text);
        }
        trace_set_hooks(NULL);
        if (failure == NULL) {
            fail_msg("%s is not found", bugs[i]);
        }
        print_message("%s: %llu seeds: %s\n", bugs[i], (unsigned long long)seed, failure);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lives),
#ifdef TUTTI_PLANTED_BUGS
        cmocka_unit_test(test_planted_bugs),
#endif
    };
    return cmocka_run_group_tests_name("route_random", tests, NULL, NULL);
}
