/* SPDX-License-Identifier: Apache-2.0 */
/* The world of a cluster's life. Swarm testing as in sim.c: each seed has its own mix of sizes,
 * rates and faults. */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "sim/sim_cluster_stale.h"

enum {
    STEP_COUNT_MAX = 5000000,
    FAULTS_END_US = 20000000, /* The latest end of the first phase. */
    HEAL_US_MAX = 30000000,   /* By then after it, all must be well, but for what conductors do
                                and the time that clients think. */
    WATCH_INTERVAL_US = 20000,
};

/* ---- Telling what happens -------------------------------------------------------------------- */

void sim__cluster_fail(struct cluster *cluster, const char *format, ...)
{
    if (cluster->is_failed) {
        return;
    }
    cluster->is_failed = true;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(cluster->result->reason, SIM_REASON_SIZE, format, arguments);
    va_end(arguments);
    if (cluster->options.trace != NULL) {
        (void)fprintf(cluster->options.trace, "%12.6f FAILED %s\n", (double)cluster->now_us / 1e6,
                      cluster->result->reason);
    }
}

void sim__cluster_note(struct cluster *cluster, const char *name, uint64_t a, uint64_t b,
                       uint64_t c)
{
    uint64_t values[4] = {cluster->now_us, a, b, c};
    cluster->trace_hash = hash_bytes(bytes_of_text(name), cluster->trace_hash);
    cluster->trace_hash = hash_bytes(bytes_make(values, sizeof values), cluster->trace_hash);
    if (cluster->options.trace != NULL) {
        (void)fprintf(cluster->options.trace, "%12.6f %-28s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                      (double)cluster->now_us / 1e6, name, a, b, c);
    }
}

static void hook_record(void *context, const struct trace_record *record)
{
    sim__cluster_note(context, record->name, record->values[0], record->values[1],
                      record->values[2]);
}

static bool hook_fault(void *context, const char *name)
{
    struct cluster *cluster = context;
    if (cluster->is_healing || hash_bytes(bytes_of_text(name), cluster->options.seed) % 4 != 0) {
        return false;
    }
    return random_chance(&cluster->random, 1, 4);
}

static void hook_probe(void *context, const char *name)
{
    struct cluster *cluster = context;
    if (cluster->options.probe != NULL) {
        cluster->options.probe(cluster->options.context, name);
    }
}

static bool hook_bug(void *context, const char *name)
{
    const struct cluster *cluster = context;
    return cluster->options.bug != NULL && strcmp(cluster->options.bug, name) == 0;
}

/* ---- Events ---------------------------------------------------------------------------------- */

static bool is_before(const struct cluster_event *left, const struct cluster_event *right)
{
    return left->at_us < right->at_us ||
           (left->at_us == right->at_us && left->number < right->number);
}

static void push_event(struct cluster *cluster, const struct cluster_event *event)
{
    if (cluster->event_count == cluster->event_capacity) {
        cluster->event_capacity = cluster->event_capacity == 0 ? 64 : 2 * cluster->event_capacity;
        cluster->events =
            memory_resize(cluster->events, cluster->event_capacity * sizeof *cluster->events);
    }
    uint32_t place = cluster->event_count++;
    while (place > 0 && is_before(event, &cluster->events[(place - 1) / 2])) {
        cluster->events[place] = cluster->events[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    cluster->events[place] = *event;
}

void sim__cluster_schedule(struct cluster *cluster, uint64_t delay_us,
                           void (*run)(struct cluster *cluster, const struct cluster_event *event),
                           struct cluster_node *node, uint64_t value, void *pointer)
{
    struct cluster_event event = {
        .at_us = cluster->now_us + delay_us,
        .number = cluster->event_number++,
        .run = run,
        .node = node,
        .incarnation = node != NULL ? sim__cluster_node_incarnation(node) : 0,
        .value = value,
        .pointer = pointer,
    };
    push_event(cluster, &event);
}

static struct cluster_event take_event(struct cluster *cluster)
{
    ASSERT(cluster->event_count > 0);
    struct cluster_event earliest = cluster->events[0];
    struct cluster_event last = cluster->events[--cluster->event_count];
    uint32_t place = 0;
    for (;;) {
        uint32_t child = place * 2 + 1;
        if (child >= cluster->event_count) {
            break;
        }
        if (child + 1 < cluster->event_count &&
            is_before(&cluster->events[child + 1], &cluster->events[child])) {
            child++;
        }
        if (!is_before(&cluster->events[child], &last)) {
            break;
        }
        cluster->events[place] = cluster->events[child];
        place = child;
    }
    cluster->events[place] = last;
    return earliest;
}

static void dispatch(struct cluster *cluster, struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    cluster->now_us = event->at_us;
    if (node != NULL) {
        if (event->incarnation != sim__cluster_node_incarnation(node) ||
            !sim__cluster_node_is_running(node)) {
            return;
        }
        uint64_t paused_until_us = sim__cluster_node_paused_until_us(node);
        if (paused_until_us > cluster->now_us) {
            /* In their order: the number stays. A moment after the end of the pause, so that what a
             * client or the network has for it may come first; the pause may also end sooner. */
            uint64_t look_at_us = cluster->now_us + SIM__CLUSTER_PAUSE_LOOK_US;
            event->at_us = number_min(paused_until_us + 1, look_at_us);
            push_event(cluster, event);
            return;
        }
    }
    event->run(cluster, event);
}

uint64_t sim__cluster_delay(struct cluster *cluster, uint64_t mean_us)
{
    uint64_t delay_us = mean_us / 3 + random_below(&cluster->random, mean_us + 1);
    if (random_chance(&cluster->random, 1, 30)) {
        delay_us += random_below(&cluster->random, 10 * mean_us + 1);
    }
    return delay_us;
}

bool sim__cluster_percent(struct cluster *cluster, uint32_t percent)
{
    return percent > 0 && random_chance(&cluster->random, percent, 100);
}

uint32_t sim__cluster_any_node(struct cluster *cluster)
{
    return (uint32_t)random_below(&cluster->random, cluster->nature.node_count);
}

/* ---- Faults ---------------------------------------------------------------------------------- */

static void again(struct cluster *cluster, const struct cluster_event *event, uint32_t every_us)
{
    if (!cluster->is_healing) {
        sim__cluster_schedule(cluster, sim__cluster_delay(cluster, every_us), event->run, NULL,
                              event->value, NULL);
    }
}

static void kill_one(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = cluster->nodes[sim__cluster_any_node(cluster)];
    if (!cluster->is_healing && sim__cluster_node_is_running(node)) {
        sim__cluster_node_kill(cluster, node,
                               sim__cluster_percent(cluster, cluster->nature.power_percent));
    }
    again(cluster, event, cluster->nature.kill_every_us);
}

static void black_out(struct cluster *cluster, const struct cluster_event *event)
{
    for (uint32_t i = 0; i < cluster->nature.node_count && !cluster->is_healing; i++) {
        if (sim__cluster_node_is_running(cluster->nodes[i])) {
            sim__cluster_node_kill(cluster, cluster->nodes[i], true);
        }
    }
    again(cluster, event, cluster->nature.blackout_every_us);
}

static uint32_t any_place(struct cluster *cluster)
{
    uint32_t count = cluster->shard_count;
    return count == 1 ? 0 : (uint32_t)random_below(&cluster->random, count);
}

struct bytes sim__cluster_lower(const struct cluster *cluster, uint32_t place, uint8_t *target)
{
    const struct slots_range *range =
        &cluster->slots.ranges[slots_find(&cluster->slots, place + 1)];
    return range->first == 0 ? BYTES("\x02") : kv_slot_row(range->first, target);
}

struct bytes sim__cluster_upper(const struct cluster *cluster, uint32_t place, uint8_t *target)
{
    const struct slots_range *range =
        &cluster->slots.ranges[slots_find(&cluster->slots, place + 1)];
    return range->end == SLOTS_COUNT ? BYTES("\xff") : kv_slot_row(range->end, target);
}

/* Half of the time a leader, for what only a leader can do wrong: wake up deposed. */
static struct cluster_node *any_node_or_leader(struct cluster *cluster)
{
    struct cluster_node *any = cluster->nodes[sim__cluster_any_node(cluster)];
    bool is_any = random_chance(&cluster->random, 1, 2);
    uint32_t place = any_place(cluster);
    for (uint32_t i = 0; i < cluster->nature.node_count && !is_any; i++) {
        const struct shard *shard = sim__cluster_node_shard(cluster->nodes[i], place);
        if (shard != NULL && shard_is_ready(shard)) {
            return cluster->nodes[i];
        }
    }
    return any;
}

static void pause_one(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = any_node_or_leader(cluster);
    if (!cluster->is_healing && sim__cluster_node_is_running(node)) {
        sim__cluster_node_pause(
            cluster, node,
            sim__cluster_delay(cluster, 3000u * cluster->nature.election_timeout_ms));
    }
    again(cluster, event, cluster->nature.pause_every_us);
}

static void partition_some(struct cluster *cluster, const struct cluster_event *event)
{
    if (!cluster->is_healing) {
        sim__cluster_partition(cluster);
    }
    again(cluster, event, cluster->nature.partition_every_us);
}

static void break_one(struct cluster *cluster, const struct cluster_event *event)
{
    if (!cluster->is_healing) {
        sim__cluster_break_any(cluster);
    }
    again(cluster, event, cluster->nature.break_every_us);
}

static void slow_one_disk(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = cluster->nodes[sim__cluster_any_node(cluster)];
    if (!cluster->is_healing) {
        sim__cluster_node_slow_disk(cluster, node, sim__cluster_between(&cluster->random, 2, 300),
                                    sim__cluster_delay(cluster, 1000000));
    }
    again(cluster, event, cluster->nature.slow_disk_every_us);
}

/* One disk is full, or all are; or, in one of four times, all have space again. */
static void fill_disks(struct cluster *cluster, const struct cluster_event *event)
{
    uint64_t choice = random_below(&cluster->random, 4);
    uint32_t chosen = sim__cluster_any_node(cluster);
    for (uint32_t i = 0; i < cluster->nature.node_count && !cluster->is_healing; i++) {
        if (choice < 2 || i == chosen) {
            sim__cluster_node_set_full(cluster, cluster->nodes[i], choice != 0);
        }
    }
    again(cluster, event, cluster->nature.full_every_us);
}

static void fail_a_flush(struct cluster *cluster, const struct cluster_event *event)
{
    if (!cluster->is_healing) {
        sim__cluster_node_fail_flush(cluster, cluster->nodes[sim__cluster_any_node(cluster)],
                                     sim__cluster_between(&cluster->random, 1, 10) * 100000);
    }
    again(cluster, event, cluster->nature.flush_error_every_us);
}

static void damage_log(struct cluster *cluster, const struct cluster_event *event)
{
    if (!cluster->is_healing) {
        sim__cluster_damage(cluster, any_node_or_leader(cluster));
    }
    again(cluster, event, cluster->nature.damage_every_us);
}

static void jump_wall(struct cluster *cluster, const struct cluster_event *event)
{
    int64_t span_ms = random_chance(&cluster->random, 1, 2) ? 200 : 200000;
    cluster->wall_offset_ms +=
        (int64_t)random_below(&cluster->random, (uint64_t)span_ms * 2) - span_ms;
    again(cluster, event, cluster->nature.wall_jump_every_us);
}

/* A random subset of the nodes votes, another learns. */
static void draw_configuration(struct cluster *cluster, struct raft_configuration *target)
{
    *target = (struct raft_configuration){0};
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        raft_node id = sim__cluster_node_id(cluster->nodes[i]);
        if (cluster->is_healing || random_chance(&cluster->random, 2, 3)) {
            target->voters[target->voter_count++] = id;
        } else if (random_chance(&cluster->random, 1, 2)) {
            target->learners[target->learner_count++] = id;
        }
    }
}

/* What the conductor would do: ask whoever leads. */
static void configure(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = cluster->nodes[sim__cluster_any_node(cluster)];
    uint32_t place = any_place(cluster);
    struct shard *shard = sim__cluster_node_shard(node, place);
    if (shard != NULL && shard_is_ready(shard) && !cluster->is_healing) {
        struct raft_configuration target;
        draw_configuration(cluster, &target);
        if (target.voter_count > 0 &&
            !sim__cluster_needs_damaged(cluster, place, shard_configuration(shard), &target) &&
            sim__cluster_split_lets(cluster, place, shard_configuration(shard), &target)) {
            int status = shard_configure(shard, &target);
            sim__cluster_note(cluster, "cluster.configure", sim__cluster_node_id(node),
                              target.voter_count, (uint64_t)-status);
            sim__cluster_node_look(cluster, node);
        }
    }
    again(cluster, event, cluster->nature.configure_every_us);
}

static void transfer(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = cluster->nodes[sim__cluster_any_node(cluster)];
    struct shard *shard = sim__cluster_node_shard(node, any_place(cluster));
    if (shard != NULL && shard_is_ready(shard) && !cluster->is_healing) {
        raft_node target = sim__cluster_node_id(cluster->nodes[sim__cluster_any_node(cluster)]);
        int status = shard_transfer(shard, target);
        sim__cluster_note(cluster, "cluster.transfer", sim__cluster_node_id(node), target,
                          (uint64_t)-status);
        sim__cluster_node_look(cluster, node);
    }
    again(cluster, event, cluster->nature.transfer_every_us);
}

static void schedule_faults(struct cluster *cluster)
{
    const struct cluster_nature *nature = &cluster->nature;
    const struct {
        uint32_t every_us;
        void (*run)(struct cluster *cluster, const struct cluster_event *event);
    } faults[] = {
        {nature->kill_every_us, kill_one},
        {nature->blackout_every_us, black_out},
        {nature->pause_every_us, pause_one},
        {nature->partition_every_us, partition_some},
        {nature->break_every_us, break_one},
        {nature->slow_disk_every_us, slow_one_disk},
        {nature->wall_jump_every_us, jump_wall},
        {nature->configure_every_us, configure},
        {nature->transfer_every_us, transfer},
        {nature->full_every_us, fill_disks},
        {nature->flush_error_every_us, fail_a_flush},
        {nature->damage_every_us, damage_log},
        {nature->split_every_us, sim__cluster_split_some},
        {nature->upgrade_every_us, sim__cluster_upgrade_one},
    };
    for (uint32_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (faults[i].every_us > 0) {
            sim__cluster_schedule(cluster, sim__cluster_delay(cluster, faults[i].every_us),
                                  faults[i].run, NULL, 0, NULL);
        }
    }
    sim__cluster_gossip_begin(cluster);
    sim__cluster_office_begin(cluster);
}

/* ---- Phases ---------------------------------------------------------------------------------- */

static void begin_healing(struct cluster *cluster)
{
    cluster->is_healing = true;
    cluster->healed_at_us = cluster->now_us;
    cluster->thinking_us = sim__cluster_clients_rest_us(cluster->clients);
    sim__cluster_note(cluster, "cluster.heals", 0, 0, 0);
    sim__cluster_heal(cluster);
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        sim__cluster_node_pause(cluster, node, 0);
        sim__cluster_node_slow_disk(cluster, node, 1, 0);
        sim__cluster_node_set_full(cluster, node, false);
        sim__cluster_node_fail_flush(cluster, node, 0);
        if (!sim__cluster_node_is_running(node)) {
            sim__cluster_node_start(cluster, node);
        }
    }
    sim__cluster_office_heal(cluster);
}

/* Have all members of the group applied the same, and nothing is under way? */
static bool is_shard_settled(const struct cluster *cluster, uint32_t place)
{
    const struct raft_configuration *members = NULL;
    struct shard_statistics leader = {0};
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct shard *shard = sim__cluster_node_shard(cluster->nodes[i], place);
        if (shard != NULL && shard_is_ready(shard)) {
            members = shard_configuration(shard);
            shard_get_statistics(shard, &leader);
        }
    }
    if (members == NULL || members->outgoing_count > 0 ||
        leader.applied_index != leader.last_index) {
        return false;
    }
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        raft_node id = sim__cluster_node_id(node);
        if (!raft_configuration_has_voter(members, id) &&
            !raft_configuration_has_learner(members, id)) {
            continue;
        }
        struct shard_statistics own;
        if (sim__cluster_node_shard(node, place) == NULL) {
            return false;
        }
        shard_get_statistics(sim__cluster_node_shard(node, place), &own);
        if (own.is_impaired || own.applied_index != leader.applied_index ||
            own.stored_index != leader.applied_index) {
            return false;
        }
    }
    return true;
}

/* Every replica has the same rows. */
static void compare_contents(struct cluster *cluster, uint32_t place)
{
    uint64_t expected = 0;
    bool has_expected = false;
    uint8_t bounds[2][KV_SLOT_ROW_SIZE_BYTES];
    struct bytes lower = sim__cluster_lower(cluster, place, bounds[0]);
    struct bytes upper = sim__cluster_upper(cluster, place, bounds[1]);
    const struct raft_configuration *members = NULL;
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct shard *shard = sim__cluster_node_shard(cluster->nodes[i], place);
        bool is_leader = shard != NULL && shard_is_ready(shard); /* One that left may be down. */
        members = is_leader ? shard_configuration(shard) : members;
    }
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        if (!raft_configuration_has_voter(members, sim__cluster_node_id(node)) &&
            !raft_configuration_has_learner(members, sim__cluster_node_id(node))) {
            continue;
        }
        uint64_t hash = memstore_hash(sim__cluster_node_store(node), lower, upper);
        if (has_expected && hash != expected) {
            sim__cluster_fail(cluster, "node %u has other rows than the others",
                              sim__cluster_node_id(node));
        }
        expected = hash;
        has_expected = true;
    }
}

static bool is_settled(const struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        if (sim__cluster_is_born(cluster, i) && !is_shard_settled(cluster, i)) {
            return false;
        }
    }
    return cluster->nature.stale_percent == 0 || !sim__cluster_is_anything_asked(cluster);
}

static void fail_to_end(struct cluster *cluster, bool is_done)
{
    if (cluster->options.trace != NULL) {
        sim__cluster_print_replicas(cluster);
    }
    if (!is_done) {
        sim__cluster_fail(cluster, "no progress after all faults have ended");
    } else if (!sim__cluster_transactions_are_over(cluster)) {
        sim__cluster_fail(cluster, "transactions do not come to their end");
    } else if (sim__cluster_unrest(cluster) != NULL) {
        sim__cluster_fail(cluster, "conductors do not come to rest: %s",
                          sim__cluster_unrest(cluster));
    } else if (cluster->nature.stale_percent > 0 && sim__cluster_is_anything_asked(cluster)) {
        sim__cluster_fail(cluster, "requests are left, and nobody waits for them");
    } else {
        sim__cluster_fail(cluster, "the replicas do not come to the same state");
    }
}

/* All rows of a node agree with each other. One that left a group may have rows of it of long ago,
 * while the others went on. */
static void verify_rows(struct cluster *cluster, const struct cluster_node *node)
{
    uint64_t key_count = 0;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct shard *shard = sim__cluster_node_shard(node, i);
        if (!sim__cluster_is_born(cluster, i)) {
            continue;
        }
        if (shard == NULL || shard_is_impaired(shard)) {
            return;
        }
        struct shard_statistics own;
        struct kv_statistics content;
        shard_get_statistics(shard, &own);
        if (own.stored_index != own.applied_index) {
            return;
        }
        kv_get_statistics(sim__cluster_node_kv(node, i), &content);
        key_count += content.key_count;
    }
    struct error error = {0};
    struct env_store store = memstore_interface(sim__cluster_node_store(node));
    if (kv_verify(store, NULL, key_count, &error) != 0) {
        sim__cluster_fail(cluster, "the rows of node %u: %s", sim__cluster_node_id(node),
                          error.message);
    }
}

static void live(struct cluster *cluster)
{
    bool is_audited = cluster->nature.list_count == 0;
    while (!cluster->is_failed) {
        if (++cluster->result->step_count > STEP_COUNT_MAX) {
            sim__cluster_fail(cluster, "the run does not end");
            return;
        }
        struct cluster_event event = take_event(cluster);
        dispatch(cluster, &event);
        bool is_done = sim__cluster_clients_are_done(cluster->clients) &&
                       sim__cluster_callers_are_done(cluster->callers);
        if (!cluster->is_healing && (is_done || cluster->now_us > FAULTS_END_US)) {
            begin_healing(cluster);
            sim__cluster_callers_healed(cluster);
            is_done = false;
        }
        bool is_over = is_done && sim__cluster_transactions_are_over(cluster) &&
                       sim__cluster_unrest(cluster) == NULL &&
                       (cluster->is_quiet || !sim__cluster_is_wish_open(cluster));
        if (cluster->is_healing && is_over && !is_audited) {
            is_audited = true;
            cluster->is_quiet = true;
            sim__cluster_callers_audit(cluster);
        } else if (cluster->is_healing && is_over && is_settled(cluster)) {
            sim__cluster_rest(cluster);
            if (sim__cluster_is_at_rest(cluster)) {
                return;
            }
        }
        uint64_t heal_us_max =
            HEAL_US_MAX + cluster->thinking_us + sim__cluster_rest_us_max(cluster);
        if (cluster->is_healing && cluster->now_us > cluster->healed_at_us + heal_us_max) {
            fail_to_end(cluster, is_done);
        }
    }
}

void sim_cluster_run(const struct sim_options *options, struct sim_result *result)
{
    struct cluster *cluster = memory_allocate_zeroed(1, sizeof *cluster);
    *result = (struct sim_result){0};
    cluster->options = *options;
    cluster->result = result;
    cluster->trace_hash = options->seed;
    cluster->now_us = 1000000;
    list_init(&cluster->onlookers);
    struct trace_hooks hooks = {cluster, hook_record, hook_fault, hook_probe, hook_bug};
    trace_set_hooks(&hooks);
    int status = sim__cluster_draw(cluster, NULL);
    ASSERT(status == 0); /* sim_show_nature() has looked at the settings. */
    if (options->trace != NULL) {
        sim__cluster_print_nature(cluster, options->trace);
    }
    sim__cluster_office_create(cluster);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        cluster->oracles[i] = sim__cluster_oracle_create(cluster, i);
    }
    cluster->history = sim__cluster_history_create(cluster);
    cluster->lists = sim__cluster_lists_create(cluster);
    cluster->ledger = sim__cluster_ledger_create();
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        cluster->nodes[i] = sim__cluster_node_create(cluster, i);
    }
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        sim__cluster_node_start(cluster, cluster->nodes[i]);
    }
    cluster->clients = sim__cluster_clients_create(cluster);
    sim__cluster_callers_create(cluster);
    schedule_faults(cluster);
    if (cluster->nature.does_split) {
        sim__cluster_split_spread(cluster);
    }
    live(cluster);
    if (!cluster->is_failed) {
        for (uint32_t i = 0; i < cluster->shard_count; i++) {
            if (sim__cluster_is_born(cluster, i)) {
                compare_contents(cluster, i);
            }
        }
        for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
            verify_rows(cluster, cluster->nodes[i]);
        }
        sim__cluster_history_check(cluster);
        sim__cluster_lists_check(cluster);
    }
    result->is_passed = !cluster->is_failed;
    result->trace_hash = cluster->trace_hash;
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        sim__cluster_node_destroy(cluster->nodes[i]);
    }
    sim__cluster_clients_destroy(cluster->clients);
    sim__cluster_callers_destroy(cluster->callers);
    sim__cluster_history_destroy(cluster->history);
    sim__cluster_lists_destroy(cluster->lists);
    sim__cluster_ledger_destroy(cluster->ledger);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        sim__cluster_oracle_destroy(cluster->oracles[i]);
    }
    sim__cluster_maps_destroy(cluster);
    trace_set_hooks(NULL);
    memory_free(cluster->office);
    memory_free(cluster->events);
    memory_free(cluster);
}
