/* SPDX-License-Identifier: Apache-2.0 */
/* What each node has, what it will have, and which node is best for a replica.
 *
 * A node's weight is that of its voters, and of what is under way: every learner counts as a voter
 * already, and the voter that it will replace does not any more. So what was begun is not begun
 * again. Which voter will go is decided here, group after group, each with the accounts that the ones
 * before left, and the steps then keep to it.
 *
 * A group weighs its size and a base, a quarter of the mean size, so that a great many empty groups
 * are spread as well. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/placement/placement_internal.h"

/* ---- Nodes ----------------------------------------------------------------------------------- */

uint16_t placement__index(const struct placement *placement, placement_node id)
{
    if (id < PLACEMENT__DIRECT_ID_COUNT) {
        return placement->index_by_id[id];
    }
    uint32_t low = 0;
    uint32_t high = placement->input->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (placement->input->nodes[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool is_there = low < placement->input->node_count && placement->input->nodes[low].id == id;
    return is_there ? (uint16_t)low : PLACEMENT__NOWHERE;
}

bool placement__is_live(const struct placement *placement, uint16_t node)
{
    return node != PLACEMENT__NOWHERE && placement->nodes[node].is_live;
}

bool placement__is_leaving(const struct placement *placement, uint16_t node)
{
    return node == PLACEMENT__NOWHERE || placement->nodes[node].is_leaving;
}

uint64_t placement__share(const struct placement__node *node, uint64_t bytes)
{
    ASSERT(node->capacity_bytes > 0);
    unsigned __int128 product = (unsigned __int128)bytes * PLACEMENT__FULLNESS_UNIT;
    return (uint64_t)(product / node->capacity_bytes);
}

uint64_t placement__exchange_gap(const struct placement *placement,
                                 const struct placement__view *view, uint16_t from, uint16_t to)
{
    uint64_t shares = placement__share(&placement->nodes[from], view->weight_bytes) +
                      placement__share(&placement->nodes[to], view->weight_bytes);
    return shares / 2 + shares / 8 + 1; /* The least amount, and what rounding may add to it. */
}

static bool is_full(const struct placement *placement, const struct placement__node *node,
                    uint64_t more_bytes)
{
    unsigned __int128 used = (unsigned __int128)node->used_bytes + more_bytes;
    return node->state->capacity_bytes != 0 && !BUG("placement.full_disk_filled") &&
           used * 1000 > (unsigned __int128)node->capacity_bytes * placement->policy.full_permille;
}

bool placement__is_full(const struct placement *placement, uint16_t node,
                        const struct placement__view *view)
{
    return is_full(placement, &placement->nodes[node], view->state->size_bytes);
}

/* A disk whose size is not known is taken to be like the others. */
static uint64_t mean_capacity_bytes(const struct placement_input *input)
{
    unsigned __int128 total = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < input->node_count; i++) {
        total += input->nodes[i].capacity_bytes;
        count += input->nodes[i].capacity_bytes != 0;
    }
    return count == 0 ? UINT64_C(1) << 40 : (uint64_t)(total / count);
}

static void open_node(struct placement *placement, uint16_t index, uint64_t capacity_bytes)
{
    const struct placement_node_state *state = &placement->input->nodes[index];
    struct placement__node *node = &placement->nodes[index];
    bool is_down = state->liveness == PLACEMENT_DEAD || state->liveness == PLACEMENT_LEFT;
    uint64_t grace_ends_at_ms = state->since_ms + placement->policy.dead_grace_ms;
    *node = (struct placement__node){
        .state = state,
        .is_live = state->liveness == PLACEMENT_ALIVE,
        .is_gone = is_down && placement->now_ms >= grace_ends_at_ms,
        .grace_ends_at_ms = is_down ? grace_ends_at_ms : UINT64_MAX,
        .capacity_bytes = state->capacity_bytes == 0 ? capacity_bytes : state->capacity_bytes,
        .used_bytes = state->used_bytes,
    };
    node->is_leaving = node->is_gone || state->is_draining;
    node->has_room = !is_full(placement, node, 0);
    node->is_eligible = node->is_live && !node->is_leaving && node->has_room;
    placement->standing_count += !node->is_leaving;
    if (state->id < PLACEMENT__DIRECT_ID_COUNT) {
        placement->index_by_id[state->id] = index;
    }
}

static void open_nodes(struct placement *placement)
{
    const struct placement_input *input = placement->input;
    uint64_t capacity_bytes = mean_capacity_bytes(input);
    for (uint32_t i = 0; i < PLACEMENT__DIRECT_ID_COUNT; i++) {
        placement->index_by_id[i] = PLACEMENT__NOWHERE;
    }
    placement->standing_count = 0;
    for (uint32_t i = 0; i < input->node_count; i++) {
        open_node(placement, (uint16_t)i, capacity_bytes);
    }
}

/* ---- Groups ---------------------------------------------------------------------------------- */

/* Largest odd number that is not above `count`; 0 for 0. */
static uint32_t odd_below(uint32_t count)
{
    return count == 0 ? 0 : count - (count % 2 == 0);
}

/* It grows as far as there are nodes, and shrinks only when the policy wants fewer. */
static uint32_t wanted_count(const struct placement *placement, uint32_t policy_count,
                             uint32_t voter_count)
{
    if (policy_count <= voter_count) {
        return policy_count;
    }
    uint32_t possible =
        placement->standing_count < policy_count ? placement->standing_count : policy_count;
    uint32_t present = odd_below(voter_count);
    possible = odd_below(possible);
    return possible > present ? possible : present;
}

void placement__look(const struct placement *placement, const struct placement_group_state *group,
                     struct placement__view *view)
{
    view->state = group;
    view->index = (uint32_t)(group - placement->input->groups);
    view->voter_count = group->voter_count;
    view->learner_count = group->learner_count;
    view->live_count = 0;
    view->leaving_count = 0;
    for (uint8_t i = 0; i < group->voter_count; i++) {
        uint16_t node = placement__index(placement, group->voters[i]);
        view->voters[i] = node;
        view->live_count += placement__is_live(placement, node);
        view->leaving_count += placement__is_leaving(placement, node);
    }
    for (uint8_t i = 0; i < group->learner_count; i++) {
        view->learners[i] = placement__index(placement, group->learners[i].node);
    }
    view->leader =
        group->leader == 0 ? PLACEMENT__NOWHERE : placement__index(placement, group->leader);
    view->policy_count =
        group->replica_count == 0 ? placement->policy.replica_count : group->replica_count;
    view->wanted_count = (uint8_t)wanted_count(placement, view->policy_count, view->voter_count);
    view->weight_bytes = group->size_bytes + placement->group_base_bytes;
    view->lead_weight = group->load + placement->lead_base;
}

bool placement__has(const struct placement__view *view, uint16_t node)
{
    for (uint8_t i = 0; i < view->voter_count; i++) {
        if (view->voters[i] == node) {
            return true;
        }
    }
    for (uint8_t i = 0; i < view->learner_count; i++) {
        if (view->learners[i] == node) {
            return true;
        }
    }
    return false;
}

uint32_t placement__zone_count(const struct placement *placement,
                               const struct placement__view *view, uint32_t zone, uint16_t except,
                               bool with_learners)
{
    uint32_t count = 0;
    if (BUG("placement.zones_ignored")) {
        return 0;
    }
    for (uint8_t i = 0; i < view->voter_count; i++) {
        uint16_t node = view->voters[i];
        count += node != except && !placement__is_leaving(placement, node) &&
                 placement->nodes[node].state->zone == zone;
    }
    for (uint8_t i = 0; with_learners && i < view->learner_count; i++) {
        uint16_t node = view->learners[i];
        count += node != except && !placement__is_leaving(placement, node) &&
                 placement->nodes[node].state->zone == zone;
    }
    return count;
}

/* ---- The accounts ---------------------------------------------------------------------------- */

static void add_now(struct placement *placement, const struct placement__view *view)
{
    for (uint8_t i = 0; i < view->voter_count; i++) {
        uint16_t node = view->voters[i];
        if (node != PLACEMENT__NOWHERE) {
            placement->nodes[node].has_voters = true;
            placement->nodes[node].weight_bytes += view->weight_bytes;
        }
    }
    if (view->leader != PLACEMENT__NOWHERE) {
        placement->nodes[view->leader].lead_weight += view->lead_weight;
    }
    for (uint8_t i = 0; i < view->learner_count; i++) {
        if (view->state->learners[i].is_caught_up) {
            continue;
        }
        if (view->learners[i] != PLACEMENT__NOWHERE) {
            placement->nodes[view->learners[i]].fill_in_count++;
        }
        if (view->leader != PLACEMENT__NOWHERE) {
            placement->nodes[view->leader].fill_out_count++;
        }
    }
}

static void add_future(struct placement *placement, uint16_t node, uint64_t bytes)
{
    struct placement__node *account = &placement->nodes[node];
    account->future_weight_bytes += bytes;
    account->fullness = placement__share(account, account->future_weight_bytes);
}

static void subtract_future(struct placement *placement, uint16_t node, uint64_t bytes)
{
    struct placement__node *account = &placement->nodes[node];
    ASSERT(account->future_weight_bytes >= bytes);
    account->future_weight_bytes -= bytes;
    account->fullness = placement__share(account, account->future_weight_bytes);
}

/* What a group has besides what it wants: learners that will be voters, and the voter that will go
 * for them. Which one that is depends on the fullness after all groups before this one, so it is only a first
 * guess: see placement__project_again(). */
static uint16_t project(struct placement *placement, const struct placement__view *view)
{
    uint16_t victim = PLACEMENT__NOWHERE;
    uint32_t staying_count = (uint32_t)view->voter_count - view->leaving_count;
    if (view->voter_count > view->wanted_count && view->voter_count % 2 == 0) {
        uint8_t worst = placement__worst_voter(placement, view, UINT8_MAX, UINT8_MAX);
        victim = view->voters[worst];
        if (victim != PLACEMENT__NOWHERE) {
            subtract_future(placement, victim, view->weight_bytes);
        }
        return victim;
    }
    for (uint8_t i = 0; i < view->learner_count; i++) {
        uint16_t node = view->learners[i];
        if (node == PLACEMENT__NOWHERE) {
            continue;
        }
        add_future(placement, node, view->weight_bytes);
        if (++staying_count > view->wanted_count && victim == PLACEMENT__NOWHERE) {
            int32_t zone_gain;
            victim = placement__victim(placement, view, node, &zone_gain);
            if (victim != PLACEMENT__NOWHERE) {
                subtract_future(placement, victim, view->weight_bytes);
            }
        }
    }
    return victim;
}

static void add_zone(struct placement *placement, uint32_t zone)
{
    uint32_t place = placement->zone_count;
    while (place > 0 && placement->zones[place - 1].zone > zone) {
        place--;
    }
    if (place > 0 && placement->zones[place - 1].zone == zone) {
        placement->zones[place - 1].eligible_count++;
        return;
    }
    for (uint32_t i = placement->zone_count; i > place; i--) {
        placement->zones[i] = placement->zones[i - 1];
    }
    placement->zones[place] = (struct placement__zone){zone, 1};
    placement->zone_count++;
}

static void sort_by_fullness(struct placement *placement)
{
    uint32_t count = 0;
    placement->zone_count = 0;
    for (uint32_t i = 0; i < placement->input->node_count; i++) {
        if (!placement->nodes[i].is_eligible) {
            continue;
        }
        add_zone(placement, placement->nodes[i].state->zone);
        /* Insertion: equal ones stay in the order of ids. */
        uint32_t place = count++;
        while (place > 0 && placement->nodes[placement->by_fullness[place - 1]].fullness >
                                placement->nodes[i].fullness) {
            placement->by_fullness[place] = placement->by_fullness[place - 1];
            place--;
        }
        placement->by_fullness[place] = (uint16_t)i;
    }
    placement->eligible_count = count;
    placement->fill_slot_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct placement__node *node = &placement->nodes[placement->by_fullness[i]];
        node->fullness_rank = i;
        if (node->fill_in_count < placement->policy.fill_count_max) {
            placement->fill_slot_count += placement->policy.fill_count_max - node->fill_in_count;
        }
    }
}

static void take_means(struct placement *placement)
{
    unsigned __int128 weight = 0;
    unsigned __int128 capacity = 0;
    unsigned __int128 lead = 0;
    placement->lead_node_count = 0;
    for (uint32_t i = 0; i < placement->input->node_count; i++) {
        const struct placement__node *node = &placement->nodes[i];
        if (!node->is_leaving) {
            weight += node->future_weight_bytes;
            capacity += node->capacity_bytes;
        }
        lead += node->lead_weight;
        placement->lead_node_count += node->is_live && !node->is_leaving && !node->state->is_slow;
    }
    placement->fullness_mean =
        capacity == 0 ? 0 : (uint64_t)(weight * PLACEMENT__FULLNESS_UNIT / capacity);
    placement->lead_mean =
        placement->lead_node_count == 0 ? 0 : (uint64_t)(lead / placement->lead_node_count);
}

static void take_bases(struct placement *placement)
{
    const struct placement_input *input = placement->input;
    unsigned __int128 size = 0;
    uint64_t load = 0;
    for (uint32_t i = 0; i < input->group_count; i++) {
        size += input->groups[i].size_bytes;
        load += input->groups[i].load;
    }
    uint32_t count = input->group_count == 0 ? 1 : input->group_count;
    placement->group_base_bytes = (uint64_t)(size / count / 4) + (UINT64_C(1) << 20);
    placement->lead_base = load / count / 4 + 1;
}

/* The most endangered first: no failure may happen any more; something is missing; the rest. */
static uint8_t urgency_of(const struct placement__view *view)
{
    bool is_lacking = view->live_count < view->voter_count || view->leaving_count > 0 ||
                      view->voter_count < view->wanted_count;
    uint32_t majority = view->voter_count / 2U + 1;
    return is_lacking ? view->live_count > majority : 2;
}

void placement__account(struct placement *placement)
{
    const struct placement_input *input = placement->input;
    open_nodes(placement);
    take_bases(placement);
    struct placement__view view;
    for (uint32_t i = 0; i < input->group_count; i++) {
        placement__look(placement, &input->groups[i], &view);
        add_now(placement, &view);
        placement->urgencies[i] = urgency_of(&view);
    }
    for (uint32_t i = 0; i < input->node_count; i++) {
        struct placement__node *node = &placement->nodes[i];
        node->future_weight_bytes = node->weight_bytes;
        node->fullness = placement__share(node, node->weight_bytes);
    }
    for (uint32_t i = 0; i < input->group_count; i++) {
        const struct placement_group_state *group = &input->groups[i];
        placement->victims[i] = PLACEMENT__NOWHERE;
        if (group->learner_count > 0 || group->voter_count % 2 == 0) {
            placement__look(placement, group, &view);
            placement->victims[i] = project(placement, &view);
        }
    }
    take_means(placement);
    sort_by_fullness(placement);
}

/* ---- What steps change ----------------------------------------------------------------------- */

/* Its fullness changed: restore the order. */
static void place_by_fullness(struct placement *placement, uint16_t node)
{
    struct placement__node *moved = &placement->nodes[node];
    uint16_t *order = placement->by_fullness;
    if (!moved->is_eligible) {
        return;
    }
    uint32_t place = moved->fullness_rank;
    while (place + 1 < placement->eligible_count &&
           placement->nodes[order[place + 1]].fullness < moved->fullness) {
        order[place] = order[place + 1];
        placement->nodes[order[place]].fullness_rank = place;
        place++;
    }
    while (place > 0 && placement->nodes[order[place - 1]].fullness > moved->fullness) {
        order[place] = order[place - 1];
        placement->nodes[order[place]].fullness_rank = place;
        place--;
    }
    order[place] = node;
    moved->fullness_rank = place;
}

void placement__add_replica(struct placement *placement, const struct placement__view *view,
                            uint16_t node)
{
    struct placement__node *target = &placement->nodes[node];
    ASSERT(target->is_eligible);
    ASSERT(target->fill_in_count < placement->policy.fill_count_max); /* I4 */
    ASSERT(placement->fill_slot_count > 0);
    target->fill_in_count++;
    placement->fill_slot_count--;
    placement->nodes[view->leader].fill_out_count++;
    target->used_bytes += view->state->size_bytes;
    add_future(placement, node, view->weight_bytes);
    place_by_fullness(placement, node);
}

enum placement_health placement__begin_exchange(struct placement *placement,
                                                const struct placement__view *view, uint16_t node,
                                                uint16_t victim, enum placement_reason reason)
{
    if (!placement__add_step(placement, view, PLACEMENT_ADD_LEARNER, reason,
                             placement->nodes[node].state->id, 0)) {
        return PLACEMENT_WAITING;
    }
    placement__add_replica(placement, view, node);
    subtract_future(placement, victim, view->weight_bytes);
    place_by_fullness(placement, victim);
    return PLACEMENT_STEPPING;
}

void placement__undo_exchange(struct placement *placement, const struct placement__view *view,
                              uint16_t node, uint16_t victim)
{
    subtract_future(placement, node, view->weight_bytes);
    place_by_fullness(placement, node);
    if (victim != PLACEMENT__NOWHERE) {
        add_future(placement, victim, view->weight_bytes);
        place_by_fullness(placement, victim);
    }
}

uint16_t placement__project_again(struct placement *placement, const struct placement__view *view,
                                  uint16_t learner)
{
    uint16_t victim = placement->victims[view->index];
    if (victim == PLACEMENT__NOWHERE) {
        return victim;
    }
    add_future(placement, victim, view->weight_bytes);
    place_by_fullness(placement, victim);
    int32_t zone_gain;
    uint16_t better = placement__victim(placement, view, learner, &zone_gain);
    victim = better != PLACEMENT__NOWHERE ? better : victim;
    subtract_future(placement, victim, view->weight_bytes);
    place_by_fullness(placement, victim);
    placement->victims[view->index] = victim;
    return victim;
}

void placement__move_lead(struct placement *placement, const struct placement__view *view,
                          uint16_t target)
{
    if (view->leader != PLACEMENT__NOWHERE) {
        ASSERT(placement->nodes[view->leader].lead_weight >= view->lead_weight);
        placement->nodes[view->leader].lead_weight -= view->lead_weight;
    }
    placement->nodes[target].lead_weight += view->lead_weight;
}
