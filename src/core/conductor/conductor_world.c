/* SPDX-License-Identifier: Apache-2.0 */
#include "core/conductor/conductor_world.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum { STEP_MS = 10, TRANSFER_MS = 20, ELECTION_MS = 500, REPLICA_COUNT = 3 };

static struct conductor__world_group *find(struct conductor__world *world, wal_shard id)
{
    return id >= 1 && id <= world->group_count ? &world->groups[id - 1] : NULL;
}

static bool is_up(const struct conductor__world *world, raft_node node)
{
    return node >= 1 && node <= world->node_count && !world->nodes[node - 1].is_down;
}

/* ---- The host -------------------------------------------------------------------------------- */

static void send(void *context, raft_node to, struct bytes bytes)
{
    struct conductor__world_node *node = context;
    struct conductor__world *world = node->world;
    if (node->is_mute || random_chance(&world->random, world->loss_percent, 100)) {
        return;
    }
    ASSERT(world->message_count < CONDUCTOR__WORLD_MESSAGE_COUNT_MAX);
    struct conductor__world_message *message = &world->messages[world->message_count++];
    *message = (struct conductor__world_message){
        .from = node->id,
        .to = to,
        .at_ms = world->now_ms + 1 + random_below(&world->random, world->delay_ms_max + 1),
    };
    buffer_append(&message->bytes, bytes);
}

static uint64_t noisy(struct conductor__world *world, uint64_t value)
{
    uint64_t most = value * world->noise_percent / 100;
    return value - most + random_below(&world->random, 2 * most + 1);
}

/* What is in a range of slots. */
static uint64_t bytes_of(const struct conductor__world *world, uint32_t first, uint32_t end)
{
    bool has_hot = first <= world->hot_slot && world->hot_slot < end;
    return (end - first) * world->slot_bytes + (has_hot ? world->hot_bytes : 0);
}

/* What is asked of it in 1000 s. */
static uint64_t load_of(const struct conductor__world *world, uint32_t first, uint32_t end)
{
    bool has_hot = first <= world->hot_slot && world->hot_slot < end;
    return (end - first) * world->slot_load + (has_hot ? world->hot_load : 0);
}

static struct placement_group_state measured(struct conductor__world *world,
                                             const struct conductor__world_group *group)
{
    struct placement_group_state state = group->state;
    state.size_bytes = noisy(world, group->size_bytes);
    state.load = (uint32_t)noisy(world, group->load);
    const struct slots_range *range = &world->map.ranges[slots_find(&world->map, state.id)];
    if (world->slot_bytes != 0) {
        state.size_bytes = bytes_of(world, range->first, range->end);
    }
    if (world->slot_load != 0) {
        state.load = (uint32_t)(load_of(world, range->first, range->end) / 1000);
    }
    return state;
}

static bool describe(void *context, wal_shard id, struct placement_group_state *state)
{
    const struct conductor__world_node *node = context;
    const struct conductor__world_group *group = find(node->world, id);
    if (group == NULL || group->state.leader != node->id) {
        return false;
    }
    *state = measured(node->world, group);
    return true;
}

static int configure(void *context, wal_shard id, const struct raft_configuration *target)
{
    struct conductor__world_node *node = context;
    struct conductor__world_group *group = find(node->world, id);
    group->state.voter_count = (uint8_t)target->voter_count;
    group->state.learner_count = (uint8_t)target->learner_count;
    for (uint32_t i = 0; i < target->voter_count; i++) {
        group->state.voters[i] = target->voters[i];
    }
    for (uint32_t i = 0; i < target->learner_count; i++) {
        group->state.learners[i] = (struct placement_learner){target->learners[i], true};
    }
    node->world->configure_count++;
    return 0;
}

static int transfer(void *context, wal_shard id, raft_node target)
{
    struct conductor__world_node *node = context;
    struct conductor__world_group *group = find(node->world, id);
    if (group->next_leader != 0) {
        return -EBUSY;
    }
    group->next_leader = target;
    group->next_at_ms = node->world->now_ms + TRANSFER_MS;
    return 0;
}

static void begun(void *context, const struct placement_step *step)
{
    struct conductor__world_node *node = context;
    if (step->kind == PLACEMENT_TRANSFER_LEADER) {
        node->world->transfer_count++;
        node->world->transfer_at_ms = node->world->now_ms;
        find(node->world, step->group)->transfer_count++;
    }
}

static void split(void *context, const struct conductor_split *split)
{
    struct conductor__world_node *node = context;
    struct conductor__world *world = node->world;
    struct conductor__world_group *parent = find(world, split->parent);
    if (parent->state.leader != node->id ||
        slots_split(&world->map, split->parent, split->first, split->child) != 0) {
        return;
    }
    struct conductor__world_group *child = &world->groups[world->group_count++];
    *child = (struct conductor__world_group){.state = parent->state, .term = parent->term};
    child->state.id = split->child;
    ASSERT(split->child == world->group_count);
    world->split_count++;
}

static void halve(void *context, const struct conductor_question *question)
{
    struct conductor__world_node *node = context;
    node->question = *question;
    node->is_asked = true;
}

static void plan_split(void *context, const struct conductor_halves *halves, uint64_t measured)
{
    struct conductor__world_node *node = context;
    struct conductor__world *world = node->world;
    ASSERT(!world->is_planned);
    world->plan_count++;
    world->plan_at_ms = world->now_ms;
    if (!random_chance(&world->random, world->loss_percent, 100)) {
        world->is_planned = true;
        world->planned =
            (struct conductor_split){halves->question.group, world->group_count + 1, halves->slot};
    }
}

static void take_map(void *context, raft_node from, struct bytes map)
{
}

static void split_done(void *context, wal_shard child)
{
    struct conductor__world_node *node = context;
    node->world->is_planned = false;
    node->world->split_done_count++;
}

static void drained(void *context, raft_node id)
{
    struct conductor__world_node *node = context;
    node->world->drained = id;
}

/* ---- Life cycle ------------------------------------------------------------------------------ */

static void init_group(struct conductor__world *world, uint32_t index)
{
    struct conductor__world_group *group = &world->groups[index];
    uint32_t count = world->node_count < REPLICA_COUNT ? world->node_count : REPLICA_COUNT;
    bool has[CONDUCTOR__WORLD_NODE_COUNT_MAX] = {0};
    group->term = 1;
    group->state = (struct placement_group_state){.id = index + 1, .leader = 1};
    for (uint32_t i = 0; i < count; i++) { /* Node 1 has one of each, and leads them at first. */
        has[i == 0 ? 0 : 1 + (index + i) % (world->node_count - 1)] = true;
    }
    for (uint32_t i = 0; i < world->node_count; i++) {
        if (has[i]) {
            group->state.voters[group->state.voter_count++] = i + 1;
        }
    }
}

struct conductor__world *conductor__world_create(uint32_t node_count, uint32_t group_count,
                                                 uint64_t seed)
{
    struct conductor__world *world = memory_allocate_zeroed(1, sizeof *world);
    random_init(&world->random, seed);
    world->now_ms = 1000;
    world->node_count = node_count;
    world->group_count = group_count;
    world->policy.replica_count = node_count < REPLICA_COUNT ? 1 : REPLICA_COUNT;
    slots_divide(&world->map, group_count);
    for (uint32_t i = 0; i < node_count; i++) {
        struct conductor__world_node *node = &world->nodes[i];
        *node = (struct conductor__world_node){.world = world, .id = i + 1};
        world->states[i] = (struct placement_node_state){.id = i + 1, .since_ms = 1};
        const struct conductor_host host = {node,     send,       describe,   configure,
                                            transfer, begun,      split,      halve,
                                            take_map, split_done, plan_split, drained};
        int status =
            conductor_create(&node->conductor, &host, i + 1, CONDUCTOR__WORLD_NODE_COUNT_MAX, NULL);
        ASSERT(status == 0);
    }
    for (uint32_t i = 0; i < group_count; i++) {
        init_group(world, i);
    }
    return world;
}

void conductor__world_destroy(struct conductor__world *world)
{
    slots_deinit(&world->map);
    for (uint32_t i = 0; i < world->node_count; i++) {
        conductor_destroy(world->nodes[i].conductor);
    }
    for (uint32_t i = 0; i < world->message_count; i++) {
        buffer_deinit(&world->messages[i].bytes);
    }
    memory_free(world);
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void deliver(struct conductor__world *world)
{
    for (uint32_t i = 0; i < world->message_count;) {
        struct conductor__world_message message = world->messages[i];
        if (message.at_ms > world->now_ms) {
            i++;
            continue;
        }
        world->messages[i] = world->messages[--world->message_count];
        if (is_up(world, message.to)) {
            int status = conductor_receive(world->nodes[message.to - 1].conductor, message.from,
                                           buffer_bytes(&message.bytes), world->now_ms);
            ASSERT(status == 0);
        }
        buffer_deinit(&message.bytes);
    }
}

static void elect(struct conductor__world *world, struct conductor__world_group *group)
{
    if (group->next_leader == 0 && !is_up(world, group->state.leader)) {
        uint32_t first = (uint32_t)random_below(&world->random, group->state.voter_count);
        for (uint32_t i = 0; i < group->state.voter_count; i++) {
            raft_node voter = group->state.voters[(first + i) % group->state.voter_count];
            if (is_up(world, voter)) {
                group->next_leader = voter;
                group->next_at_ms = world->now_ms + ELECTION_MS;
            }
        }
    }
    if (group->next_leader != 0 && world->now_ms >= group->next_at_ms) {
        if (is_up(world, group->next_leader)) {
            conductor__world_lead(world, group->state.id, group->next_leader);
        }
        group->next_leader = 0;
    }
}

/* What a node found that was asked; false: it was not. */
static bool find_halves(struct conductor__world_node *node, struct conductor_halves *halves)
{
    const struct conductor__world *world = node->world;
    const struct conductor_question *question = &node->question;
    if (!node->is_asked) {
        return false;
    }
    node->is_asked = false;
    if (world->is_without_sample && question->reason == CONDUCTOR_SPLIT_LOAD) {
        *halves = (struct conductor_halves){*question, question->first + 1, 0, 0};
        return true;
    }
    bool is_by_load = question->reason == CONDUCTOR_SPLIT_LOAD && !world->is_load_cut_by_bytes;
    uint64_t (*of)(const struct conductor__world *world, uint32_t first, uint32_t end) =
        is_by_load ? load_of : bytes_of;
    uint64_t total = of(world, question->first, question->end);
    uint64_t best = 0;
    *halves = (struct conductor_halves){.question = *question, .slot = question->first};
    for (uint32_t slot = question->first + 1; slot < question->end; slot++) {
        uint64_t lower = of(world, question->first, slot);
        uint64_t least = lower < total - lower ? lower : total - lower;
        if (least > best || halves->slot == question->first) {
            best = least;
            *halves = (struct conductor_halves){*question, slot, lower, total - lower};
        }
    }
    return true;
}

static raft_node known_leader(const struct conductor__world *world, raft_node node)
{
    const struct placement_group_state *first = &world->groups[0].state;
    bool does_know = !world->are_others_blind;
    for (uint32_t i = 0; i < first->voter_count; i++) {
        does_know = does_know || first->voters[i] == node;
    }
    return does_know && is_up(world, first->leader) ? first->leader : 0;
}

static void tick(struct conductor__world *world, struct conductor__world_node *node)
{
    struct placement_group_state led[CONDUCTOR__WORLD_GROUP_COUNT_MAX];
    const struct conductor__world_group *first = &world->groups[0];
    if (!conductor_is_due(node->conductor, world->now_ms)) {
        return;
    }
    struct conductor_input input = {
        .now_ms = world->now_ms,
        .leader = known_leader(world, node->id),
        .office = first->state.leader == node->id ? first->term : 0,
        .map = &world->map,
        .led = led,
        .nodes = world->states,
        .node_count = world->node_count,
        .policy = world->policy,
        .planned = &world->planned,
        .planned_count = world->is_planned,
        .may_split = true,
        .split_size_bytes = world->split_size_bytes,
        .split_load_per_s = world->split_load_per_s,
    };
    struct conductor_halves halves;
    input.halves = find_halves(node, &halves) ? &halves : NULL;
    for (uint32_t i = 0; i < world->group_count; i++) {
        if (world->groups[i].state.leader == node->id) {
            led[input.led_count++] = measured(world, &world->groups[i]);
        }
    }
    int status = conductor_tick(node->conductor, &input, NULL);
    ASSERT(status == 0);
}

void conductor__world_run(struct conductor__world *world, uint64_t ms)
{
    for (uint64_t end_ms = world->now_ms + ms; world->now_ms < end_ms;) {
        world->now_ms += STEP_MS;
        deliver(world);
        for (uint32_t i = 0; i < world->group_count; i++) {
            elect(world, &world->groups[i]);
        }
        for (uint32_t i = 0; i < world->node_count; i++) {
            if (!world->nodes[i].is_down) {
                tick(world, &world->nodes[i]);
            }
        }
    }
}

void conductor__world_lead(struct conductor__world *world, wal_shard group, raft_node node)
{
    struct conductor__world_group *found = find(world, group);
    found->state.leader = node;
    found->term++;
    found->next_leader = 0;
}

/* Everybody hears of it at once. */
void conductor__world_set_down(struct conductor__world *world, raft_node node, bool is_down)
{
    world->nodes[node - 1].is_down = is_down;
    world->states[node - 1].liveness = is_down ? PLACEMENT_DEAD : PLACEMENT_ALIVE;
    world->states[node - 1].since_ms = world->now_ms;
}

uint32_t conductor__world_led_count(const struct conductor__world *world, raft_node node)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->group_count; i++) {
        count += world->groups[i].state.leader == node;
    }
    return count;
}
