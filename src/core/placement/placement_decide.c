/* SPDX-License-Identifier: Apache-2.0 */
/* The next step of one group, without a look at the balance of nodes.
 *
 * The rules are tried in order, and the first that applies decides: what endangers the group before
 * what only makes it better, and what ends a change before what begins one (I7). A rule that wants a
 * step which is not possible now ends the search as well: nothing less important is begun then. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/placement/placement_internal.h"

/* A rule that does not apply. */
enum { NEXT_RULE = PLACEMENT_HEALTH_COUNT };

static enum placement_health stepped(bool is_added)
{
    return is_added ? PLACEMENT_STEPPING : PLACEMENT_WAITING;
}

/* Does the one lead better than the other? */
static bool leads_better(const struct placement *placement, uint16_t node, uint16_t other)
{
    const struct placement__node *left = &placement->nodes[node];
    const struct placement__node *right = &placement->nodes[other];
    if (left->state->is_slow != right->state->is_slow) {
        return right->state->is_slow;
    }
    return left->lead_weight < right->lead_weight;
}

uint16_t placement__successor(const struct placement *placement, const struct placement__view *view)
{
    uint16_t best = PLACEMENT__NOWHERE;
    for (uint8_t i = 0; i < view->voter_count; i++) {
        uint16_t node = view->voters[i];
        if (node == view->leader || !placement__is_live(placement, node) ||
            placement__is_leaving(placement, node)) {
            continue;
        }
        if (best == PLACEMENT__NOWHERE || leads_better(placement, node, best)) {
            best = node;
        }
    }
    return best;
}

uint16_t placement__equal_successor(const struct placement *placement,
                                    const struct placement__view *view)
{
    uint16_t target = placement__successor(placement, view);
    bool is_worse = target != PLACEMENT__NOWHERE && placement->nodes[target].state->is_slow &&
                    !placement->nodes[view->leader].state->is_slow;
    return is_worse ? PLACEMENT__NOWHERE : target;
}

enum placement_health placement__hand_over(struct placement *placement,
                                           const struct placement__view *view, uint16_t target,
                                           enum placement_reason reason)
{
    bool is_added = placement__add_step(placement, view, PLACEMENT_TRANSFER_LEADER, reason,
                                        placement->nodes[target].state->id, 0);
    if (is_added) {
        placement__move_lead(placement, view, target);
    }
    return stepped(is_added);
}

static enum placement_health add_learner(struct placement *placement,
                                         const struct placement__view *view,
                                         enum placement_reason reason)
{
    if (view->learner_count == PLACEMENT_LEARNER_COUNT_MAX || placement->eligible_count == 0) {
        return PLACEMENT_UNPLACEABLE;
    }
    bool is_deferred = false;
    if (placement->fill_slot_count == 0 ||
        placement->nodes[view->leader].fill_out_count >= placement->policy.fill_count_max) {
        return PLACEMENT_WAITING; /* Without a search: nobody may fill, or this leader may not. */
    }
    uint16_t node = placement__choose(placement, view, &is_deferred);
    if (node == PLACEMENT__NOWHERE) {
        return is_deferred ? PLACEMENT_WAITING : PLACEMENT_UNPLACEABLE;
    }
    if (!placement__add_step(placement, view, PLACEMENT_ADD_LEARNER, reason,
                             placement->nodes[node].state->id, 0)) {
        return PLACEMENT_WAITING;
    }
    placement__add_replica(placement, view, node);
    return PLACEMENT_STEPPING;
}

static enum placement_reason leaving_reason(const struct placement *placement, uint16_t node)
{
    bool is_gone = node == PLACEMENT__NOWHERE || placement->nodes[node].is_gone;
    return is_gone ? PLACEMENT_REASON_GONE : PLACEMENT_REASON_DRAIN;
}

/* The place of a node in the list of voters; UINT8_MAX: it is none. */
static uint8_t voter_of(const struct placement__view *view, uint16_t node)
{
    for (uint8_t i = 0; i < view->voter_count; i++) {
        if (view->voters[i] == node && node != PLACEMENT__NOWHERE) {
            return i;
        }
    }
    return UINT8_MAX;
}

/* ---- Learners -------------------------------------------------------------------------------- */

static bool is_usable(const struct placement *placement, const struct placement__view *view,
                      uint8_t learner)
{
    return placement__is_live(placement, view->learners[learner]) &&
           !placement__is_leaving(placement, view->learners[learner]);
}

/* The learners that could become voters now; how many there are. */
static uint32_t ready_learners(const struct placement *placement,
                               const struct placement__view *view, uint16_t *ready)
{
    uint32_t count = 0;
    for (uint8_t i = 0; i < view->learner_count; i++) {
        if (is_usable(placement, view, i) && view->state->learners[i].is_caught_up) {
            ready[count++] = view->learners[i];
        }
    }
    return count;
}

/* A learner whose node cannot use it. One whose node is only suspected may still come to be of use. */
static int drop_lost_learner(struct placement *placement, const struct placement__view *view)
{
    for (uint8_t i = 0; i < view->learner_count; i++) {
        uint16_t node = view->learners[i];
        bool is_leaving = placement__is_leaving(placement, node);
        bool is_suspect =
            !is_leaving && placement->nodes[node].state->liveness == PLACEMENT_SUSPECT;
        if (is_usable(placement, view, i) || is_suspect) {
            continue;
        }
        enum placement_reason reason =
            is_leaving ? leaving_reason(placement, node) : PLACEMENT_REASON_NO_USE;
        return (int)stepped(placement__add_step(placement, view, PLACEMENT_REMOVE, reason,
                                                view->state->learners[i].node, 0));
    }
    return NEXT_RULE;
}

/* ---- Voters that are too many ---------------------------------------------------------------- */

/* Those that are not live go first, so what is left has a live majority if all had one (I1). */
static int remove_voters(struct placement *placement, const struct placement__view *view,
                         enum placement_reason reason, uint8_t first, uint8_t second)
{
    placement_node other = second == UINT8_MAX ? 0 : view->state->voters[second];
    return (int)stepped(placement__add_step(placement, view, PLACEMENT_REMOVE, reason,
                                            view->state->voters[first], other));
}

/* It could take writes for the group: where a replica may be placed. */
static bool is_fit(const struct placement *placement, uint16_t node)
{
    return node != PLACEMENT__NOWHERE && placement->nodes[node].is_eligible;
}

/* The other one's disk is full. */
static bool is_fitter(const struct placement *placement, uint16_t node, uint16_t other)
{
    return is_fit(placement, node) && !placement->nodes[other].has_room &&
           !BUG("placement.last_room_removed");
}

/* Without these two only voters would be left whose disks are full, as the leader's is: who should lead, and stay?
 * NOWHERE: it is not so, or none of the two is any better. */
static uint16_t heir_with_room(const struct placement *placement,
                               const struct placement__view *view, uint8_t first, uint8_t second)
{
    if (BUG("placement.last_room_removed")) {
        return PLACEMENT__NOWHERE;
    }
    for (uint8_t i = 0; i < view->voter_count; i++) {
        if (i != first && i != second && is_fit(placement, view->voters[i])) {
            return PLACEMENT__NOWHERE;
        }
    }
    uint16_t best = PLACEMENT__NOWHERE;
    for (uint8_t i = 0; i < view->voter_count; i++) {
        uint16_t node = view->voters[i];
        if (is_fit(placement, node) &&
            (best == PLACEMENT__NOWHERE || leads_better(placement, node, best))) {
            best = node;
        }
    }
    return best;
}

static int remove_excess(struct placement *placement, const struct placement__view *view)
{
    if (view->voter_count <= view->wanted_count) {
        return NEXT_RULE;
    }
    uint8_t leader = voter_of(view, view->leader);
    if (view->voter_count % 2 == 0) {
        uint8_t worst = voter_of(view, placement->victims[view->index]);
        if (worst == UINT8_MAX) { /* Its node is not in the cluster. */
            worst = placement__worst_voter(placement, view, UINT8_MAX, UINT8_MAX);
        }
        if (worst ==
            leader) { /* I5. Once it does not lead, it is still the worst; but not if not all is known. */
            uint16_t target = placement__successor(placement, view);
            bool may_hand_over = placement->policy.balance == PLACEMENT_BALANCE_ALL ||
                                 BUG("placement.even_hands_over") ||
                                 is_fitter(placement, target, view->leader) ||
                                 placement__is_leaving(placement, view->leader);
            if (target != PLACEMENT__NOWHERE && may_hand_over) {
                return (int)placement__hand_over(placement, view, target,
                                                 PLACEMENT_REASON_HAND_OVER);
            }
            worst = placement__worst_voter(placement, view, leader, UINT8_MAX);
        }
        return remove_voters(placement, view, PLACEMENT_REASON_EVEN, worst, UINT8_MAX);
    }
    uint8_t first = placement__worst_voter(placement, view, leader, UINT8_MAX);
    uint8_t second = placement__worst_voter(placement, view, leader, first);
    uint16_t target = heir_with_room(placement, view, first, second);
    if (target != PLACEMENT__NOWHERE) {
        return (int)placement__hand_over(placement, view, target, PLACEMENT_REASON_HAND_OVER);
    }
    return remove_voters(placement, view, PLACEMENT_REASON_SHRINK, first, second);
}

/* ---- Voters on nodes that leave -------------------------------------------------------------- */

static int replace_leaving(struct placement *placement, const struct placement__view *view)
{
    if (view->leaving_count == 0) {
        return NEXT_RULE;
    }
    /* The leader hands over to one that stays, once there is one. */
    uint8_t leader = view->voter_count > 1 ? voter_of(view, view->leader) : UINT8_MAX;
    uint8_t worst = placement__worst_voter(placement, view, leader, UINT8_MAX);
    if (!placement__is_leaving(placement, view->voters[worst])) {
        PROBE("placement.leader_cannot_leave");
        return PLACEMENT_GRACE;
    }
    enum placement_reason reason = leaving_reason(placement, view->voters[worst]);
    uint16_t ready[PLACEMENT_LEARNER_COUNT_MAX];
    if (ready_learners(placement, view, ready) == 0) {
        return view->learner_count > 0 ? (int)PLACEMENT_CHANGING
                                       : (int)add_learner(placement, view, reason);
    }
    placement_node node = placement->nodes[ready[0]].state->id;
    if (view->voters[worst] == view->leader) {
        /* The only voter that is left: it cannot hand over before there is another one. */
        return (int)stepped(
            placement__add_step(placement, view, PLACEMENT_PROMOTE, reason, node, 0));
    }
    return (int)stepped(placement__add_step(placement, view, PLACEMENT_REPLACE, reason, node,
                                            view->state->voters[worst]));
}

static int leave_draining(struct placement *placement, const struct placement__view *view)
{
    if (!placement__is_leaving(placement, view->leader)) {
        return NEXT_RULE;
    }
    uint16_t target = placement__successor(placement, view);
    if (target == PLACEMENT__NOWHERE) {
        return NEXT_RULE;
    }
    return (int)placement__hand_over(placement, view, target, PLACEMENT_REASON_DRAIN);
}

/* Who writes waits for the leader, and only for the faster ones of the others. An even number of voters
 * is on its way to another one, for which the leader may have moved. */
static int leave_slow(struct placement *placement, const struct placement__view *view)
{
    if (!placement->nodes[view->leader].state->is_slow || view->voter_count % 2 == 0) {
        return NEXT_RULE;
    }
    uint16_t target = placement__successor(placement, view);
    if (target == PLACEMENT__NOWHERE || placement->nodes[target].state->is_slow) {
        return NEXT_RULE;
    }
    return (int)placement__hand_over(placement, view, target, PLACEMENT_REASON_SLOW);
}

/* ---- More voters ----------------------------------------------------------------------------- */

static int grow(struct placement *placement, const struct placement__view *view)
{
    if (view->voter_count >= view->wanted_count) {
        return NEXT_RULE;
    }
    bool is_even = view->voter_count % 2 == 0;
    enum placement_reason reason = is_even ? PLACEMENT_REASON_EVEN : PLACEMENT_REASON_GROW;
    uint32_t needed_count = is_even ? 1 : 2;
    uint16_t ready[PLACEMENT_LEARNER_COUNT_MAX];
    if (ready_learners(placement, view, ready) >= needed_count) {
        placement_node other = is_even ? 0 : placement->nodes[ready[1]].state->id;
        return (int)stepped(placement__add_step(placement, view, PLACEMENT_PROMOTE, reason,
                                                placement->nodes[ready[0]].state->id, other));
    }
    if (view->learner_count >= needed_count) {
        return PLACEMENT_CHANGING;
    }
    return (int)add_learner(placement, view, reason);
}

/* ---- Learners that something else began ------------------------------------------------------ */

/* The group has the voters that it wants, and a learner: it was added for zones or fullness, or its
 * reason has gone. Taken for a voter now, would it be of any use? */
static bool is_of_use(const struct placement *placement, const struct placement__view *view,
                      uint16_t learner, uint16_t victim, int32_t zone_gain)
{
    if (victim == PLACEMENT__NOWHERE || zone_gain > 0) {
        return victim != PLACEMENT__NOWHERE;
    }
    /* The accounts are those after the exchange: undoing it must not be better (I6). */
    const struct placement__node *to = &placement->nodes[learner];
    const struct placement__node *from = &placement->nodes[victim];
    return from->fullness + placement__exchange_gap(placement, view, victim, learner) >=
           to->fullness;
}

static int finish_learner(struct placement *placement, const struct placement__view *view)
{
    if (view->learner_count == 0) {
        return NEXT_RULE;
    }
    uint16_t learner = view->learners[0];
    if (!is_usable(placement, view, 0)) {
        return PLACEMENT_CHANGING; /* Suspected: soon it is known whether it lives. */
    }
    uint16_t victim = placement__project_again(placement, view, learner);
    placement_node node = placement->nodes[learner].state->id;
    if (view->live_count < view->voter_count) {
        return PLACEMENT_GRACE; /* It may soon be needed for something more urgent. */
    }
    int32_t zone_gain =
        victim == PLACEMENT__NOWHERE ? 0 : placement__zone_gain(placement, view, victim, learner);
    if (!is_of_use(placement, view, learner, victim, zone_gain)) {
        bool is_added = placement__add_step(placement, view, PLACEMENT_REMOVE,
                                            PLACEMENT_REASON_NO_USE, node, 0);
        if (is_added) {
            placement__undo_exchange(placement, view, learner, victim);
        }
        return (int)stepped(is_added);
    }
    if (!view->state->learners[0].is_caught_up) {
        return PLACEMENT_CHANGING;
    }
    enum placement_reason reason =
        zone_gain > 0 ? PLACEMENT_REASON_ZONE : PLACEMENT_REASON_FULLNESS;
    if (victim == view->leader) { /* The only voter: as in replace_leaving(). */
        return (int)stepped(
            placement__add_step(placement, view, PLACEMENT_PROMOTE, reason, node, 0));
    }
    return (int)stepped(placement__add_step(placement, view, PLACEMENT_REPLACE, reason, node,
                                            placement->nodes[victim].state->id));
}

/* ---- Zones ----------------------------------------------------------------------------------- */

static int spread_zones(struct placement *placement, const struct placement__view *view)
{
    if (placement->policy.balance == PLACEMENT_BALANCE_NONE ||
        !placement__zone_could_gain(placement, view)) {
        return NEXT_RULE;
    }
    bool is_deferred = false;
    uint16_t node = placement__choose(placement, view, &is_deferred);
    if (node == PLACEMENT__NOWHERE) {
        return is_deferred ? (int)PLACEMENT_WAITING : NEXT_RULE;
    }
    int32_t zone_gain;
    uint16_t victim = placement__victim(placement, view, node, &zone_gain);
    if (victim == PLACEMENT__NOWHERE || zone_gain == 0) {
        return NEXT_RULE;
    }
    return (int)placement__begin_exchange(placement, view, node, victim, PLACEMENT_REASON_ZONE);
}

/* ---- All rules ------------------------------------------------------------------------------- */

enum placement_health placement__decide(struct placement *placement,
                                        const struct placement__view *view)
{
    static int (*const rules[])(struct placement *, const struct placement__view *) = {
        drop_lost_learner, leave_draining, leave_slow,     remove_excess,
        replace_leaving,   grow,           finish_learner, spread_zones,
    };
    if (2 * view->live_count <= view->voter_count) {
        return PLACEMENT_UNAVAILABLE; /* I1 */
    }
    if (view->state->is_changing) {
        return PLACEMENT_CHANGING; /* I2 */
    }
    if (!placement__is_live(placement, view->leader) || voter_of(view, view->leader) == UINT8_MAX) {
        return PLACEMENT_LEADERLESS;
    }
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        int health = rules[i](placement, view);
        if (health != NEXT_RULE) {
            return (enum placement_health)health;
        }
    }
    return view->live_count < view->voter_count ? PLACEMENT_GRACE : PLACEMENT_SETTLED;
}
