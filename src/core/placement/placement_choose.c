/* SPDX-License-Identifier: Apache-2.0 */
/* Which node is best for a replica, and which voter is best given up. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/placement/placement_internal.h"

/* ---- Choosing -------------------------------------------------------------------------------- */

uint16_t placement__choose(struct placement *placement, const struct placement__view *view,
                           bool *is_deferred)
{
    uint32_t fill_count_max = placement->policy.fill_count_max;
    uint16_t best = PLACEMENT__NOWHERE;
    uint32_t least_zone_count = UINT32_MAX; /* Of any node, be there a slot or not. */
    uint32_t best_zone_count = UINT32_MAX;
    for (uint32_t i = 0; i < placement->eligible_count && best_zone_count > 0; i++) {
        uint16_t candidate = placement->by_fullness[i];
        placement->looked_at_count++;
        const struct placement__node *node = &placement->nodes[candidate];
        if (placement__has(view, candidate) || placement__is_full(placement, candidate, view)) {
            continue;
        }
        uint32_t zone_count =
            placement__zone_count(placement, view, node->state->zone, PLACEMENT__NOWHERE, true);
        if (zone_count < least_zone_count) {
            least_zone_count = zone_count;
        }
        if (node->fill_in_count < fill_count_max && zone_count < best_zone_count) {
            best_zone_count = zone_count;
            best = candidate;
        }
    }
    *is_deferred = least_zone_count != UINT32_MAX &&
                   (best_zone_count > least_zone_count ||
                    placement->nodes[view->leader].fill_out_count >= fill_count_max);
    return *is_deferred ? PLACEMENT__NOWHERE : best;
}

bool placement__zone_could_gain(const struct placement *placement,
                                const struct placement__view *view)
{
    uint32_t crowd = 0;
    for (uint8_t i = 0; i < view->voter_count; i++) {
        uint16_t node = view->voters[i];
        if (!placement__is_leaving(placement, node)) {
            uint32_t count = placement__zone_count(
                placement, view, placement->nodes[node].state->zone, PLACEMENT__NOWHERE, false);
            crowd = count > crowd ? count : crowd;
        }
    }
    for (uint32_t i = 0; crowd > 1 && i < placement->zone_count; i++) {
        if (placement__zone_count(placement, view, placement->zones[i].zone, PLACEMENT__NOWHERE,
                                  false) +
                (BUG("placement.zone_gain_assumed") ? 1 : 2) <=
            crowd) {
            return true;
        }
    }
    return false;
}

uint64_t placement__relief(const struct placement *placement, const struct placement__view *view,
                           uint16_t node)
{
    const struct placement__node *account = &placement->nodes[node];
    uint64_t half = placement__share(account, view->weight_bytes) / 2;
    return account->fullness > half ? account->fullness - half : 0;
}

int32_t placement__zone_gain(const struct placement *placement, const struct placement__view *view,
                             uint16_t from, uint16_t to)
{
    uint32_t from_zone = placement->nodes[from].state->zone;
    uint32_t to_zone = placement->nodes[to].state->zone;
    if (from_zone == to_zone) {
        return 0;
    }
    return (int32_t)placement__zone_count(placement, view, from_zone, PLACEMENT__NOWHERE, false) -
           (int32_t)placement__zone_count(placement, view, to_zone, PLACEMENT__NOWHERE, false) -
           (BUG("placement.zone_gain_assumed") ? 0 : 1);
}

uint16_t placement__victim(const struct placement *placement, const struct placement__view *view,
                           uint16_t node, int32_t *zone_gain)
{
    uint16_t best = PLACEMENT__NOWHERE;
    int32_t best_gain = -1;
    for (uint8_t i = 0; i < view->voter_count; i++) {
        uint16_t voter = view->voters[i];
        bool is_candidate = voter != PLACEMENT__NOWHERE &&
                            !placement__is_leaving(placement, voter) &&
                            (voter != view->leader || view->voter_count == 1);
        if (!is_candidate) {
            continue;
        }
        int32_t gain = placement__zone_gain(placement, view, voter, node);
        bool is_better = gain > best_gain || (gain == best_gain && best != PLACEMENT__NOWHERE &&
                                              placement__relief(placement, view, voter) >
                                                  placement__relief(placement, view, best));
        if (is_better && gain >= 0) {
            best = voter;
            best_gain = gain;
        }
    }
    *zone_gain = best_gain;
    return best;
}

/* How much a voter is to be given up first: the larger, the sooner. */
static uint64_t badness(const struct placement *placement, const struct placement__view *view,
                        uint16_t node)
{
    if (node == PLACEMENT__NOWHERE) {
        return UINT64_MAX;
    }
    const struct placement__node *account = &placement->nodes[node];
    uint64_t zone_count =
        placement__zone_count(placement, view, account->state->zone, PLACEMENT__NOWHERE, false);
    uint64_t relief = placement__relief(placement, view, node);
    bool is_full = !account->has_room && !BUG("placement.last_room_removed");
    uint64_t relief_max = (UINT64_C(1) << 47) - 1;
    relief = relief > relief_max ? relief_max : relief;
    return (uint64_t)account->is_gone << 62 | (uint64_t)!account->is_live << 61 |
           (uint64_t)account->is_leaving << 60 | (uint64_t)is_full << 59 | zone_count << 48 |
           relief << 1 | (node != view->leader);
}

/* The place in the list of voters of the worst one but these two. */
uint8_t placement__worst_voter(const struct placement *placement,
                               const struct placement__view *view, uint8_t except,
                               uint8_t also_except)
{
    uint8_t worst = UINT8_MAX;
    uint64_t worst_badness = 0;
    for (uint8_t i = 0; i < view->voter_count; i++) {
        uint64_t own = badness(placement, view, view->voters[i]);
        if (i != except && i != also_except && (worst == UINT8_MAX || own >= worst_badness)) {
            worst = i;
            worst_badness = own;
        }
    }
    ASSERT(worst != UINT8_MAX);
    return worst;
}
