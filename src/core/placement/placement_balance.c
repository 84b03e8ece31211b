/* SPDX-License-Identifier: Apache-2.0 */
/* Steps for balance, of groups that want nothing else.
 *
 * A replica moves from a node that is fuller than the mean to one that is emptier than it by more
 * than the tolerance, and only when that makes the sum of squares of the fullness smaller:
 *
 *     from - to > half of (the group's share of one + its share of the other)
 *
 * and a little more, so that each move makes that sum smaller by a least amount. So moves come to an
 * end (I6), and there is none that a later one undoes. With a new node that is empty, moves go there until it is within
 * the tolerance of the others, which is the fewest there can be. Leaders move by the same rule,
 * measured by load and number: the difference is more than what the leadership weighs, by a quarter of it, so a
 * load that changes a little does not go to and fro. */
#include "base/assert/assert.h"
#include "core/placement/placement_internal.h"

static uint64_t tolerance_of(const struct placement *placement, uint64_t mean)
{
    return (uint64_t)((unsigned __int128)mean * placement->policy.tolerance_permille / 1000);
}

/* ---- Fullness -------------------------------------------------------------------------------- */

/* The emptiest node to which the replica of `from` may move; NOWHERE: none. */
static uint16_t emptier_node(struct placement *placement, const struct placement__view *view,
                             uint16_t from)
{
    uint64_t tolerance = tolerance_of(placement, placement->fullness_mean);
    uint32_t from_zone = placement->nodes[from].state->zone;
    uint32_t from_count =
        placement__zone_count(placement, view, from_zone, PLACEMENT__NOWHERE, false);
    for (uint32_t i = 0; i < placement->eligible_count; i++) {
        uint16_t to = placement->by_fullness[i];
        placement->looked_at_count++;
        const struct placement__node *node = &placement->nodes[to];
        if (node->fullness + tolerance >= placement->nodes[from].fullness) {
            break; /* And so are all that follow. */
        }
        if (placement->nodes[from].fullness <=
                node->fullness + placement__exchange_gap(placement, view, from, to) ||
            node->fill_in_count >= placement->policy.fill_count_max || placement__has(view, to) ||
            placement__is_full(placement, to, view)) {
            continue;
        }
        uint32_t zone = node->state->zone;
        if (zone == from_zone ||
            placement__zone_count(placement, view, zone, PLACEMENT__NOWHERE, false) + 1 <=
                from_count) {
            return to;
        }
    }
    return PLACEMENT__NOWHERE;
}

/* The voters that are above the mean and may leave, the fullest first; how many. */
static uint32_t full_voters(const struct placement *placement, const struct placement__view *view,
                            uint16_t *voters)
{
    uint32_t count = 0;
    for (uint8_t i = 0; i < view->voter_count; i++) {
        uint16_t node = view->voters[i];
        bool may_leave = node != view->leader || view->voter_count == 1;
        if (!may_leave || placement->nodes[node].fullness <= placement->fullness_mean) {
            continue;
        }
        uint64_t relief = placement__relief(placement, view, node);
        uint32_t place = count++;
        while (place > 0 && placement__relief(placement, view, voters[place - 1]) < relief) {
            voters[place] = voters[place - 1];
            place--;
        }
        voters[place] = node;
    }
    return count;
}

static bool is_balanced(const struct placement *placement)
{
    if (placement->eligible_count == 0) {
        return true;
    }
    uint64_t least = placement->nodes[placement->by_fullness[0]].fullness;
    uint64_t most = 0;
    for (uint32_t i = 0; i < placement->input->node_count; i++) {
        const struct placement__node *node = &placement->nodes[i];
        if (!node->is_leaving && node->fullness > most) {
            most = node->fullness;
        }
    }
    return most <= least + tolerance_of(placement, placement->fullness_mean);
}

/* Is there a group with one of these healths whose urgency is below the limit? */
static bool is_any(const struct placement *placement, uint32_t healths, uint8_t urgency_limit)
{
    for (uint32_t i = 0; i < placement->input->group_count; i++) {
        if (placement->urgencies[i] < urgency_limit &&
            (healths >> placement->healths[i] & 1) != 0) {
            return true;
        }
    }
    return false;
}

/* A replica that is better on another node begins to move there. */
static void move_replica(struct placement *placement, const struct placement__view *view)
{
    uint16_t voters[PLACEMENT_VOTER_COUNT_MAX];
    uint32_t count = full_voters(placement, view, voters);
    for (uint32_t i = 0; i < count; i++) {
        uint16_t to = emptier_node(placement, view, voters[i]);
        if (to != PLACEMENT__NOWHERE) {
            placement->healths[view->index] = (uint8_t)placement__begin_exchange(
                placement, view, to, voters[i], PLACEMENT_REASON_FULLNESS);
            return;
        }
    }
}

/* A node may lead all groups that it has, and then it can give none away (I5). */
static void free_leader(struct placement *placement, const struct placement__view *view)
{
    const struct placement__node *leader = &placement->nodes[view->leader];
    uint16_t target = placement__equal_successor(placement, view);
    if (view->state->is_leader_kept || leader->fullness <= placement->fullness_mean ||
        leader->transfer_count > 0 || target == PLACEMENT__NOWHERE ||
        placement->nodes[target].state->is_silent ||
        emptier_node(placement, view, view->leader) == PLACEMENT__NOWHERE) {
        return;
    }
    placement->nodes[view->leader].transfer_count = PLACEMENT__TRANSFER_COUNT_MAX;
    placement->healths[view->index] =
        (uint8_t)placement__hand_over(placement, view, target, PLACEMENT_REASON_HAND_OVER);
}

static void each_settled(struct placement *placement,
                         void (*move)(struct placement *, const struct placement__view *))
{
    const struct placement_input *input = placement->input;
    for (uint32_t i = 0; i < input->group_count && placement->fill_slot_count > 0; i++) {
        if (placement->healths[i] != PLACEMENT_SETTLED) {
            continue;
        }
        struct placement__view view;
        placement__look(placement, &input->groups[i], &view);
        if (placement->nodes[view.leader].fill_out_count < placement->policy.fill_count_max) {
            move(placement, &view);
        }
    }
}

void placement__balance_fullness(struct placement *placement)
{
    uint32_t under_way =
        1U << PLACEMENT_STEPPING | 1U << PLACEMENT_CHANGING | 1U << PLACEMENT_WAITING;
    /* While replicas are missing and being made, it is not known where they will be. */
    if (is_balanced(placement) || is_any(placement, under_way, 2)) {
        return;
    }
    each_settled(placement, move_replica);
    if (!is_any(placement, under_way, UINT8_MAX)) {
        each_settled(placement, free_leader);
    }
}

/* ---- Leaders --------------------------------------------------------------------------------- */

static uint16_t lighter_voter(const struct placement *placement, const struct placement__view *view)
{
    uint64_t from = placement->nodes[view->leader].lead_weight;
    uint64_t tolerance = tolerance_of(placement, placement->lead_mean);
    uint16_t lightest = PLACEMENT__NOWHERE;
    for (uint8_t i = 0; i < view->voter_count; i++) {
        const struct placement__node *node = &placement->nodes[view->voters[i]];
        bool is_fit = node->is_live && !node->is_leaving && !node->state->is_slow &&
                      !node->state->is_silent &&
                      node->transfer_count < PLACEMENT__TRANSFER_COUNT_MAX &&
                      from > node->lead_weight + view->lead_weight + view->lead_weight / 4 &&
                      from - node->lead_weight > tolerance;
        if (is_fit && (lightest == PLACEMENT__NOWHERE ||
                       node->lead_weight < placement->nodes[lightest].lead_weight)) {
            lightest = view->voters[i];
        }
    }
    return lightest;
}

void placement__balance_leaders(struct placement *placement)
{
    const struct placement_input *input = placement->input;
    for (uint32_t i = 0; i < input->group_count; i++) {
        uint16_t leader = placement__index(placement, input->groups[i].leader);
        if (placement->healths[i] != PLACEMENT_SETTLED || input->groups[i].is_leader_kept ||
            input->groups[i].voter_count < 2 ||
            placement->nodes[leader].lead_weight <= placement->lead_mean ||
            placement->nodes[leader].transfer_count >= PLACEMENT__TRANSFER_COUNT_MAX) {
            continue;
        }
        struct placement__view view;
        placement__look(placement, &input->groups[i], &view);
        uint16_t target = lighter_voter(placement, &view);
        if (target == PLACEMENT__NOWHERE) {
            continue;
        }
        if (!placement__add_step(placement, &view, PLACEMENT_TRANSFER_LEADER,
                                 PLACEMENT_REASON_LEADERS, placement->nodes[target].state->id, 0)) {
            placement->healths[i] = PLACEMENT_WAITING;
            return;
        }
        placement->healths[i] = PLACEMENT_STEPPING;
        placement->nodes[leader].transfer_count++;
        placement->nodes[target].transfer_count++;
        placement__move_lead(placement, &view, target);
    }
}
