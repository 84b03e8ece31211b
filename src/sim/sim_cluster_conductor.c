/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's core/conductor: what src/node/node_conductor.c does for it.
 *
 * Its clock runs some times faster than that of the other cores, because it waits for many seconds now and then,
 * and a life is short. */
#include "sim/sim_cluster_conductor.h"
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"

enum {
    FILL_COUNT_MAX = 4, /* As in the node. */
    SAMPLE_INTERVAL_MS = 2000,
    HALVE_US = 20000,
    LOSS_SHARE = 50,
    LATE_SHARE = 30,
    LATE_STEP_SHARE = 4,
    LATE_US = 200000,
};

uint64_t sim__cluster_conductor_now_ms(struct cluster_node *node)
{
    struct env_clock clock = sim__cluster_clock(node);
    return 1 + clock.now_ms(clock.context) * node->cluster->nature.conducting.pace;
}

/* ---- What is measured ------------------------------------------------------------------------ */

static uint64_t size_of_rows(void *context, uint32_t first, uint32_t end)
{
    const struct cluster_node *node = context;
    struct env_store store = memstore_interface(node->memstore);
    uint8_t bounds[2][KV_SLOT_ROW_SIZE_BYTES];
    struct bytes lower = kv_slot_row(first, bounds[0]);
    struct bytes upper = end == SLOTS_COUNT ? BYTES("\xff") : kv_slot_row(end, bounds[1]);
    struct env_iterator *iterator = NULL;
    uint64_t size_bytes = 0;
    int status =
        store.ops->iterator_open(store.context, NULL, ENV_TIER_DISK, lower, upper, &iterator);
    ASSERT(status == 0);
    for (status = store.ops->iterator_seek(store.context, iterator, lower); status == 0;
         status = store.ops->iterator_next(store.context, iterator)) {
        size_bytes += store.ops->iterator_key(store.context, iterator).size_bytes +
                      store.ops->iterator_value(store.context, iterator).size_bytes;
    }
    store.ops->iterator_close(store.context, iterator);
    return size_bytes;
}

/* What the life says that these slots take, in 1000 s. */
static uint64_t standing_load(const struct cluster *cluster, const struct slots_range *range)
{
    uint32_t hot_slot = cluster->nature.conducting.hot_slot;
    bool has_hot = range->first <= hot_slot && hot_slot < range->end;
    return (uint64_t)(range->end - range->first) * cluster->nature.conducting.slot_load +
           (has_hot ? cluster->nature.conducting.hot_load : 0);
}

static uint64_t measure_standing(void *context, uint32_t first, uint32_t end)
{
    const struct cluster_node *node = context;
    return standing_load(node->cluster, &(struct slots_range){.first = first, .end = end});
}

uint64_t sim__cluster_standing_load(const struct cluster *cluster, const struct slots_range *range)
{
    return standing_load(cluster, range) / 1000;
}

static void sample(struct cluster_node *node, uint64_t now_ms)
{
    struct cluster *cluster = node->cluster;
    struct cluster_conductor *conductor = node->conductor;
    uint64_t since_ms = now_ms - conductor->sampled_at_ms;
    if (since_ms < SAMPLE_INTERVAL_MS) {
        return;
    }
    conductor->sampled_at_ms = now_ms;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct shard *shard = node->replicas[i].shard;
        struct shard_statistics statistics;
        if (shard == NULL) {
            continue;
        }
        struct slots_range range = shard_range(shard);
        shard_get_statistics(shard, &statistics);
        uint64_t count = statistics.command_count + statistics.read_count;
        uint64_t load = (count - conductor->samples[i].request_count) * 1000 / since_ms;
        uint64_t standing = standing_load(cluster, &range) / 1000;
        load += standing - standing / 10 + random_below(&cluster->random, standing / 5 + 1);
        conductor->samples[i].request_count = count;
        conductor->samples[i].load = (uint32_t)load;
        conductor->samples[i].size_bytes = size_of_rows(node, range.first, range.end);
    }
}

/* ---- Groups that are led here ---------------------------------------------------------------- */

static struct shard *find_led(const struct cluster_node *node, wal_shard id)
{
    struct shard *shard =
        id <= node->cluster->shard_count ? sim__cluster_node_shard(node, id - 1) : NULL;
    return shard != NULL && shard_is_ready(shard) ? shard : NULL;
}

static void describe_group(const struct cluster_node *node, const struct shard *shard,
                           wal_shard group, struct placement_group_state *state)
{
    bool is_measured = node->cluster->older == 0; /* Everybody does, or nobody. */
    conductor_describe(shard, group, node->id, state);
    state->size_bytes = is_measured ? node->conductor->samples[group - 1].size_bytes : 1;
    state->load = is_measured ? node->conductor->samples[group - 1].load : 1;
}

static bool describe(void *context, wal_shard group, struct placement_group_state *state)
{
    const struct cluster_node *node = context;
    const struct shard *shard = find_led(node, group);
    if (shard != NULL) {
        describe_group(node, shard, group, state);
    }
    return shard != NULL;
}

static bool is_alive(void *context, raft_node id)
{
    const struct cluster_node *node = context;
    return node->conductor->rumours[id - 1].liveness == PLACEMENT_ALIVE;
}

static bool are_voters_the_same(const struct raft_configuration *left,
                                const struct raft_configuration *right)
{
    bool are_same = left->voter_count == right->voter_count;
    for (uint32_t i = 0; i < left->voter_count && are_same; i++) {
        are_same = left->voters[i] == right->voters[i];
    }
    return are_same;
}

/* A step is taken by a group that has the members for which it was thought of. */
static void check_thought(struct cluster_node *node, const struct shard *shard, wal_shard group)
{
    struct placement_group_state state;
    conductor_describe(shard, group, node->id, &state);
    const struct placement_group_state *thought_of = node->conductor->thought_of;
    node->conductor->configured = state;
    if (thought_of != NULL && !conductor_has_same_members(&state, thought_of)) {
        sim__cluster_fail(node->cluster, "a step for other members of shard %u is taken", group);
    }
}

/* Who is known to be impaired the group's leader does not rely on, as in the node. But what nobody could survive is
 * not asked for (sim_cluster_damage.c). */
static int configure(void *context, wal_shard group, const struct raft_configuration *target)
{
    struct cluster_node *node = context;
    struct cluster *cluster = node->cluster;
    struct shard *shard = find_led(node, group);
    const struct raft_configuration *present = shard_configuration(shard);
    check_thought(node, shard, group);
    if (!conductor_may_configure(shard, target, is_alive, node)) {
        sim__cluster_note(cluster, "conductor.too_early", node->id, group, 0);
        return -EBUSY;
    }
    if (!are_voters_the_same(present, target) &&
        sim__cluster_needs_damaged(cluster, group - 1, NULL, target)) {
        sim__cluster_note(cluster, "conductor.needs_damaged", node->id, group, 0);
        return -EBUSY;
    }
    sim__cluster_check_change(cluster, shard, target);
    int status = shard_configure(shard, target);
    sim__cluster_note(cluster, "conductor.configure", group, target->voter_count,
                      (uint64_t)-status);
    return status;
}

static int transfer(void *context, wal_shard group, raft_node target)
{
    struct shard *shard = find_led(context, group);
    check_thought(context, shard, group);
    return shard_transfer(shard, target);
}

static void begun(void *context, const struct placement_step *step)
{
    struct cluster_node *node = context;
    if (node->conductor->thought_of == NULL) {
        sim__cluster_check_place(node, step, &node->conductor->configured);
    }
    sim__cluster_step_begun(node->cluster, node, step);
}

/* ---- Messages -------------------------------------------------------------------------------- */

struct late {
    struct cluster_node *node;
    uint32_t incarnation;
    raft_node to;
    struct buffer bytes;
};

static void send_now(struct cluster_node *node, raft_node to, struct bytes bytes)
{
    (void)sim__cluster_send(node->cluster, node, to, CLUSTER_MESSAGE_CONDUCTOR, &bytes, 1);
}

static void send_late(struct cluster *cluster, const struct cluster_event *event)
{
    struct late *late = event->pointer;
    if (sim__cluster_node_is_running(late->node) && late->node->incarnation == late->incarnation) {
        send_now(late->node, late->to, buffer_bytes(&late->bytes));
    }
    buffer_deinit(&late->bytes);
    memory_free(late);
}

/* Most arrive, some late, and some twice. */
static void send(void *context, raft_node to, struct bytes bytes)
{
    struct cluster_node *node = context;
    struct cluster *cluster = node->cluster;
    bool is_lost = !cluster->is_healing && random_chance(&cluster->random, 1, LOSS_SHARE);
    struct conductor_message message;
    int status = conductor_message_decode(bytes, &message);
    ASSERT(status == 0);
    uint32_t late_share = message.kind == CONDUCTOR_MESSAGE_STEP ? LATE_STEP_SHARE : LATE_SHARE;
    bool is_late = !cluster->is_healing && random_chance(&cluster->random, 1, late_share);
    if (message.kind == CONDUCTOR_MESSAGE_STEP) {
        sim__cluster_note(cluster, "conductor.step", message.step.group, to, message.step.kind);
        sim__cluster_check_step(node, to, &message.step);
        struct placement_group_state thought_of;
        conductor_message_next(&message, &thought_of);
        sim__cluster_check_place(node, &message.step, &thought_of);
    }
    if (is_late) {
        struct late *late = memory_allocate_zeroed(1, sizeof *late);
        *late = (struct late){.node = node, .incarnation = node->incarnation, .to = to};
        buffer_append(&late->bytes, bytes);
        uint64_t delay_us = sim__cluster_delay(cluster, LATE_US);
        cluster->office->late_until_us =
            number_max(cluster->office->late_until_us, cluster->now_us + delay_us);
        sim__cluster_schedule(cluster, delay_us, send_late, NULL, 0, late);
    }
    if (!is_lost) {
        send_now(node, to, bytes);
    }
}

void sim__cluster_conductor_receive(struct cluster_node *node, raft_node from, struct bytes bytes)
{
    struct cluster *cluster = node->cluster;
    struct conductor_message message;
    int status = conductor_message_decode(bytes, &message);
    bool is_of_splits = status == 0 && message.kind > CONDUCTOR_MESSAGE_STEP;
    bool is_asking = is_of_splits && message.kind >= CONDUCTOR_MESSAGE_QUESTION;
    if (is_of_splits && sim__cluster_node_is_older(node)) {
        if (!is_asking) { /* It was newer when it was asked. */
            sim__cluster_fail(cluster, "node %u is older, and is told of a split", node->id);
        }
        return;
    }
    if (status == 0 && message.kind == CONDUCTOR_MESSAGE_REPORT && node->conductor->office != 0) {
        node->conductor->heard_in[from - 1] = node->conductor->office;
    }
    if (status == 0) {
        struct placement_group_state thought_of;
        bool is_step = message.kind == CONDUCTOR_MESSAGE_STEP;
        if (is_step) {
            conductor_message_next(&message, &thought_of);
        }
        node->conductor->thought_of = is_step ? &thought_of : NULL;
        status = conductor_receive(node->conductor->core, from, bytes,
                                   sim__cluster_conductor_now_ms(node));
        node->conductor->thought_of = NULL;
    }
    if (status != 0) {
        sim__cluster_fail(cluster, "node %u finds a message of node %u malformed", node->id, from);
    }
}

/* ---- Splits ---------------------------------------------------------------------------------- */

static void split(void *context, const struct conductor_split *split)
{
    struct cluster_node *node = context;
    struct shard *shard = find_led(node, split->parent);
    if (shard != NULL) {
        kv_want_split(node->replicas[split->parent - 1].kv, split->first, split->child);
        shard_look_at_background(shard);
    }
}

static void tell_halves(struct cluster_node *node, const struct conductor_halves *halves)
{
    node->conductor->halves = *halves;
    node->conductor->is_found = true;
    sim__cluster_note(node->cluster, "conductor.halves", node->id, halves->question.group,
                      halves->slot);
}

static void find_halves(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    struct conductor_question *question = event->pointer;
    if (question->end >= question->first + 2) {
        struct conductor_halves halves = conductor_halve(question, size_of_rows, node);
        tell_halves(node, &halves);
    }
}

/* Where the requests are the leader knows; what else the slots take, as the life says, counts for more. */
static void halve_load(struct cluster_node *node, const struct conductor_question *question)
{
    const struct shard *shard = find_led(node, question->group);
    if (shard == NULL || question->end < question->first + 2) {
        return;
    }
    if (node->cluster->nature.conducting.slot_load > 0) {
        struct conductor_halves halves = conductor_halve(question, measure_standing, node);
        tell_halves(node, &halves);
        return;
    }
    struct demand_halves demand = {.slot = question->first + 1};
    (void)shard_halve_demand(shard, question->first, question->end, &demand);
    tell_halves(node,
                &(struct conductor_halves){*question, demand.slot, demand.lower, demand.upper});
}

static void halve(void *context, const struct conductor_question *question)
{
    struct cluster_node *node = context;
    struct cluster_conductor *conductor = node->conductor;
    if (question->reason == CONDUCTOR_SPLIT_LOAD) {
        halve_load(node, question);
        return;
    }
    conductor->question = *question; /* The newest counts. */
    sim__cluster_schedule(node->cluster, sim__cluster_delay(node->cluster, HALVE_US), find_halves,
                          node, 0, &conductor->question);
}

static void plan_split(void *context, const struct conductor_halves *halves, uint64_t measured)
{
    struct cluster_node *node = context;
    sim__cluster_note(node->cluster, "conductor.split", node->id, halves->question.group,
                      halves->slot);
    sim__cluster_ask_for_split(node->cluster, halves->slot);
}

static void split_done(void *context, wal_shard child)
{
    struct cluster_node *node = context;
    sim__cluster_say_split_done(node->cluster, child);
}

static void drained(void *context, raft_node id)
{
    struct cluster_node *node = context;
    if ((node->conductor->rows.draining >> (id - 1) & 1) != 0) {
        sim__cluster_say_drained(node->cluster, id);
    }
}

static void take_map(void *context, raft_node from, struct bytes bytes)
{
    struct cluster_node *node = context;
    struct cluster *cluster = node->cluster;
    struct slots slots = {0};
    cluster_map map = 0;
    if (slots_decode(&slots, bytes) != 0) {
        sim__cluster_fail(cluster, "node %u has a malformed map of node %u", node->id, from);
        return;
    }
    for (uint32_t i = cluster->nature.shard_count; i < cluster->shard_count; i++) {
        bool has_child = slots_find(&slots, i + 1) < slots.range_count;
        map |= has_child ? sim__cluster_map_bit(i) : 0;
    }
    slots_deinit(&slots);
    sim__cluster_split_learn(node, map);
}

void sim__cluster_conductor_tell_map(struct cluster_node *node)
{
    struct buffer message = {0};
    conductor_map_encode(&message, sim__cluster_map(node->cluster, node->map));
    for (uint32_t i = 0; i < node->cluster->nature.node_count; i++) {
        if (i + 1 != node->id) {
            send(node, i + 1, buffer_bytes(&message));
        }
    }
    buffer_deinit(&message);
}

/* ---- Ticks ----------------------------------------------------------------------------------- */

static uint32_t list_led(const struct cluster_node *node, struct placement_group_state *led)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < node->cluster->shard_count; i++) {
        const struct shard *shard = find_led(node, i + 1);
        if (shard != NULL) {
            describe_group(node, shard, i + 1, &led[count++]);
        }
    }
    return count;
}

static uint32_t list_nodes(const struct cluster_node *node, const struct cluster_rows *rows,
                           struct placement_node_state *nodes)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < node->cluster->nature.node_count; i++) {
        const struct cluster_rumour *rumour = &node->conductor->rumours[i];
        bool is_self = i + 1 == node->id;
        if (((rows->nodes | rows->drained) >> i & 1) != 0) {
            nodes[count++] = (struct placement_node_state){
                .id = i + 1,
                .liveness = is_self ? PLACEMENT_ALIVE : rumour->liveness,
                .since_ms = rumour->since_ms,
                .is_draining = ((rows->draining | rows->drained) >> i & 1) != 0,
                .is_slow = rumour->is_slow,
                .zone = sim__cluster_zone(node->cluster, i),
                .capacity_bytes = rumour->capacity_bytes,
                .used_bytes = rumour->used_bytes,
            };
        }
    }
    return count;
}

static uint32_t list_planned(const struct cluster *cluster, const struct cluster_rows *rows,
                             struct conductor_split *planned)
{
    uint32_t count = 0;
    for (uint32_t i = cluster->nature.shard_count; i < cluster->shard_count; i++) {
        const struct cluster_child *child = &cluster->children[i];
        if ((rows->planned & sim__cluster_map_bit(i)) != 0) {
            planned[count++] =
                (struct conductor_split){child->parent + 1, i + 1, child->first_slot};
        }
    }
    return count;
}

/* What a tick is told by. */
struct told {
    struct conductor_input input;
    struct placement_group_state led[CLUSTER_SHARD_COUNT_MAX];
    struct placement_node_state nodes[CLUSTER_NODE_COUNT_MAX];
    struct conductor_split planned[CLUSTER_SHARD_COUNT_MAX];
    struct conductor_halves halves;
};

static void add_of_office(struct cluster_node *node, struct told *told)
{
    struct cluster *cluster = node->cluster;
    const struct cluster_nature *nature = &cluster->nature;
    struct conductor_input *input = &told->input;
    const struct shard *first = find_led(node, SLOTS_FIRST_SHARD);
    struct shard_statistics statistics = {0};
    if (first != NULL) {
        shard_get_statistics(first, &statistics);
    }
    node->conductor->office = statistics.term;
    const struct cluster_rows *rows = sim__cluster_rows_seen(node, statistics.term);
    if (statistics.term == 0 || rows->nodes == 0) {
        return;
    }
    sim__cluster_split_learn(node, rows->done);
    input->map = sim__cluster_map(cluster, node->map);
    input->office = statistics.term;
    input->nodes = told->nodes;
    input->node_count = list_nodes(node, rows, told->nodes);
    input->policy = (struct placement_policy){
        .replica_count = (uint8_t)rows->replica_count,
        .dead_grace_ms = nature->conducting.grace_ms,
        .fill_count_max = FILL_COUNT_MAX,
        .balance = input->map->range_count == 1 ? PLACEMENT_BALANCE_ZONES : PLACEMENT_BALANCE_ALL,
    };
    input->planned = told->planned;
    input->planned_count = list_planned(cluster, rows, told->planned);
    input->may_split = cluster->older == 0;
    bool is_resting = cluster->is_quiet || cluster->office->rest_since_us != 0;
    if (!is_resting && cluster->shard_count < CLUSTER_SHARD_COUNT_MAX) {
        input->split_size_bytes = nature->conducting.split_size_bytes;
        input->split_load_per_s = nature->conducting.split_load_per_s;
    }
}

static void act(struct cluster *cluster, struct cluster_node *node)
{
    struct cluster_conductor *conductor = node->conductor;
    uint64_t now_ms = sim__cluster_conductor_now_ms(node);
    const struct shard *first = sim__cluster_node_shard(node, 0);
    struct told told = {.halves = conductor->halves};
    struct error error = {0};
    sample(node, now_ms);
    told.input = (struct conductor_input){
        .now_ms = now_ms,
        .leader = shard_leader(first),
        .map = sim__cluster_map(cluster, node->map),
        .led = told.led,
        .led_count = list_led(node, told.led),
        .halves = conductor->is_found ? &told.halves : NULL,
    };
    conductor->is_found = false;
    add_of_office(node, &told);
    conductor->told = told.nodes;
    conductor->told_count = told.input.node_count;
    conductor->told_at_ms = now_ms;
    if (conductor_tick(conductor->core, &told.input, &error) != 0) {
        sim__cluster_fail(cluster, "the conductor of node %u has no plan: %s", node->id,
                          error.message);
    }
    conductor->told = NULL;
    conductor->told_count = 0;
}

static void tick(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    uint64_t interval_us = CONDUCTOR_INTERVAL_MS * 1000 / cluster->nature.conducting.pace;
    if (conductor_is_due(node->conductor->core, sim__cluster_conductor_now_ms(node))) {
        act(cluster, node);
        sim__cluster_node_look(cluster, node);
    }
    sim__cluster_schedule(cluster,
                          interval_us / 4 + random_below(&cluster->random, interval_us / 4 + 1),
                          tick, node, 0, NULL);
}

/* ---- Life cycle ------------------------------------------------------------------------------ */

void sim__cluster_conductor_start(struct cluster_node *node)
{
    struct cluster *cluster = node->cluster;
    if (cluster->office == NULL) {
        return;
    }
    struct cluster_conductor *conductor = memory_allocate_zeroed(1, sizeof *conductor);
    const struct conductor_host host = {
        .context = node,
        .send = send,
        .describe = describe,
        .configure = configure,
        .transfer = transfer,
        .begun = begun,
        .split = split,
        .halve = halve,
        .plan_split = plan_split,
        .take_map = take_map,
        .split_done = split_done,
        .drained = drained,
    };
    struct error error = {0};
    int status =
        conductor_create(&conductor->core, &host, node->id, CLUSTER_NODE_COUNT_MAX, &error);
    ASSERT(status == 0);
    node->conductor = conductor;
    for (uint32_t i = 0; i < CLUSTER_NODE_COUNT_MAX; i++) {
        conductor->rumours[i].liveness = PLACEMENT_SUSPECT;
    }
    sim__cluster_schedule(cluster, 1, tick, node, 0, NULL);
}

void sim__cluster_conductor_end(struct cluster_node *node)
{
    if (node->conductor != NULL) {
        conductor_destroy(node->conductor->core);
        memory_free(node->conductor);
        node->conductor = NULL;
    }
}
