/* SPDX-License-Identifier: Apache-2.0 */
/* Splits. Those that are planned stand in the rows of the cluster, whoever wanted them; they are told the
 * parent's leader until the map has them. Which ones should be is thought of here, one at a time: an answer
 * takes a moment, and so does writing it down. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "core/conductor/conductor_internal.h"

/* ---- Planned ones ---------------------------------------------------------------------------- */

/* One that shows in the map is done; of another its parent's leader is told. */
static void see_to_planned(struct conductor *conductor, const struct conductor_input *input,
                           const struct conductor_split *split)
{
    const struct conductor_host *host = &conductor->host;
    const struct slots *map = input->map;
    uint32_t child = slots_find(map, split->child);
    if (child < map->range_count) {
        if (map->ranges[child].first == split->first) {
            host->split_done(host->context, split->child);
        } /* Else the number is that of another split: nothing is written down that is not so. */
        return;
    }
    raft_node leader = conductor__leader_of(conductor, split->parent, input->now_ms);
    if (leader == conductor->self) {
        host->split(host->context, split);
    } else if (leader != 0) {
        buffer_clear(&conductor->message);
        conductor_split_encode(&conductor->message, split);
        host->send(host->context, leader, buffer_bytes(&conductor->message));
    }
}

/* ---- The one that is wanted ------------------------------------------------------------------ */

void conductor__forget_wish(struct conductor *conductor)
{
    conductor->wish = (struct conductor__wish){.stage = CONDUCTOR__NO_WISH};
}

static void note_load(const struct conductor *conductor, struct conductor__group *group,
                      uint64_t now_ms)
{
    group->split_load = conductor->load_before;
    group->split_load_until_ms = now_ms + CONDUCTOR_SPLIT_NO_RELIEF_MS;
}

void conductor__note_child(const struct conductor *conductor, struct conductor__group *group,
                           const struct slots_range *range, uint64_t now_ms)
{
    if (group->end_slot == 0 && conductor->load_slot != 0 && range->first == conductor->load_slot) {
        note_load(conductor, group, now_ms);
    }
}

static void begin_wish(struct conductor *conductor, const struct conductor__group *group,
                       enum conductor_split_reason reason, uint64_t now_ms)
{
    const struct conductor_host *host = &conductor->host;
    conductor->wish = (struct conductor__wish){
        .stage = CONDUCTOR__ASKED,
        .question = {reason, group->state.id, group->first_slot, group->end_slot},
        .since_ms = now_ms,
    };
    if (group->state.leader == conductor->self) {
        host->halve(host->context, &conductor->wish.question);
        return;
    }
    buffer_clear(&conductor->message);
    conductor_question_encode(&conductor->message, &conductor->wish.question);
    host->send(host->context, group->state.leader, buffer_bytes(&conductor->message));
}

/* Is a split under way, or may it still be? One that led to nothing is thought of again. */
static bool is_under_way(struct conductor *conductor, const struct conductor_input *input)
{
    struct conductor__wish *wish = &conductor->wish;
    if (wish->stage == CONDUCTOR__NO_WISH) {
        return input->planned_count > 0;
    }
    struct conductor__group *group = conductor__find_group(conductor, wish->question.group);
    bool is_done = group->end_slot != wish->question.end;
    bool is_late = input->now_ms >= wish->since_ms + CONDUCTOR_SPLIT_TIMEOUT_MS;
    if (is_late && wish->stage == CONDUCTOR__ASKED) {
        group->no_split_until_ms = input->now_ms + CONDUCTOR_SPLIT_SETTLE_MS; /* Others' turn. */
    }
    if (input->planned_count > 0 || is_done || is_late) {
        conductor__forget_wish(conductor);
        return input->planned_count > 0;
    }
    return true;
}

void conductor__take_halves(struct conductor *conductor, const struct conductor_halves *halves,
                            raft_node from, uint64_t now_ms)
{
    struct conductor__wish *wish = &conductor->wish;
    const struct conductor_question *question = &halves->question;
    struct conductor__group *group = conductor__find_group(conductor, question->group);
    bool is_asked_for =
        conductor->office != 0 && wish->stage == CONDUCTOR__ASKED &&
        wish->question.group == question->group && wish->question.reason == question->reason &&
        wish->question.first == question->first && wish->question.end == question->end &&
        group != NULL && group->state.leader == from && !group->state.is_changing;
    if (!is_asked_for) {
        PROBE("conductor.halves.stale");
        return;
    }
    uint64_t total = halves->lower + halves->upper;
    uint64_t least = number_min(halves->lower, halves->upper);
    bool is_by_size = question->reason == CONDUCTOR_SPLIT_SIZE;
    if (is_by_size ? total <= conductor->split_size_bytes : total == 0) {
        /* Than it was when its size was measured; or its leader has seen too few requests yet. */
        PROBE("conductor.split.smaller");
        group->no_split_until_ms = now_ms + CONDUCTOR_SPLIT_SETTLE_MS;
        conductor__forget_wish(conductor);
        return;
    }
    if (total < halves->lower || least == 0 || least < total / CONDUCTOR_SPLIT_SHARE_MIN) {
        PROBE("conductor.split.useless"); /* I8: one slot has nearly all. */
        group->no_split_until_ms = now_ms + CONDUCTOR_SPLIT_USELESS_MS;
        conductor__forget_wish(conductor);
        return;
    }
    wish->stage = CONDUCTOR__WANTED;
    wish->since_ms = now_ms;
    group->no_split_until_ms = now_ms + CONDUCTOR_SPLIT_SETTLE_MS;
    group->busy_since_ms = 0;
    if (!is_by_size) {
        conductor->load_slot = halves->slot;
        conductor->load_before = group->load_per_1000_s;
        note_load(conductor, group, now_ms);
    }
    uint64_t measured = is_by_size ? total : group->load_per_1000_s / 1000;
    conductor->host.plan_split(conductor->host.context, halves, measured);
}

/* ---- Which one ------------------------------------------------------------------------------- */

/* Could it be split now, were it too large? */
static bool may_be_split(const struct conductor *conductor, const struct conductor__group *group,
                         uint64_t now_ms)
{
    return group->map_number == conductor->map_number && group->unknown_since_ms == 0 &&
           group->reported_at_ms != 0 && group->end_slot > group->first_slot + 1 &&
           !group->state.is_changing && group->state.learner_count == 0 &&
           now_ms >= group->known_since_ms + CONDUCTOR_SPLIT_SETTLE_MS &&
           now_ms >= group->no_split_until_ms;
}

/* The largest of those that are too large. */
static struct conductor__group *too_large(struct conductor *conductor,
                                          const struct conductor_input *input)
{
    struct conductor__group *largest = NULL;
    for (uint32_t i = 0; i < conductor->group_room && input->split_size_bytes != 0; i++) {
        struct conductor__group *group = &conductor->groups[i];
        bool is_too_large = group->state.size_bytes > input->split_size_bytes &&
                            may_be_split(conductor, group, input->now_ms);
        if (is_too_large &&
            (largest == NULL || group->state.size_bytes > largest->state.size_bytes)) {
            largest = group;
        }
    }
    return largest;
}

/* By node: requests per 1000 s of what it leads. */
static void sum_loads(struct conductor *conductor)
{
    memset(conductor->load_sums, 0, conductor->node_count * sizeof conductor->load_sums[0]);
    for (uint32_t i = 0; i < conductor->group_room; i++) {
        const struct conductor__group *group = &conductor->groups[i];
        bool is_known = group->reported_at_ms != 0 && group->unknown_since_ms == 0;
        const struct conductor__node *node =
            is_known ? conductor__find_node(conductor, group->state.leader) : NULL;
        if (node != NULL) {
            conductor->load_sums[node - conductor->nodes] += group->load_per_1000_s;
        }
    }
}

/* More than its share of all that the nodes do, and one of them would do less than its leader does now had it
 * half of this one. */
static bool would_spread(struct conductor *conductor, const struct conductor__group *group)
{
    sum_loads(conductor);
    const uint64_t *sums = conductor->load_sums;
    uint64_t total = 0;
    uint64_t of_leader = 0;
    uint64_t least = UINT64_MAX;
    uint32_t count = 0;
    for (uint32_t i = 0; i < conductor->node_count; i++) {
        const struct placement_node_state *node = &conductor->plan_nodes[i];
        bool is_fit = node->liveness == PLACEMENT_ALIVE && !node->is_draining && !node->is_slow &&
                      !node->is_silent;
        total += sums[i];
        if (node->id == group->state.leader) {
            of_leader = sums[i];
        } else if (is_fit && sums[i] < least) {
            least = sums[i];
        }
        count += is_fit;
    }
    return least != UINT64_MAX && group->load_per_1000_s > total / count &&
           least + group->load_per_1000_s / 2 < of_leader;
}

/* I8: has a split for its load changed nothing? */
static bool had_no_relief(const struct conductor__group *group, uint64_t now_ms)
{
    return now_ms < group->split_load_until_ms &&
           group->load_per_1000_s > group->split_load / 4 * 3;
}

/* The busiest of those that have been too busy for long enough. */
static struct conductor__group *too_busy(struct conductor *conductor,
                                         const struct conductor_input *input)
{
    struct conductor__group *busiest = NULL;
    uint64_t limit = input->split_load_per_s * 1000;
    for (uint32_t i = 0; i < conductor->group_room; i++) {
        struct conductor__group *group = &conductor->groups[i];
        if (limit == 0 || group->load_per_1000_s <= limit || group->unknown_since_ms != 0) {
            group->busy_since_ms = 0;
            continue;
        }
        if (group->busy_since_ms == 0) {
            group->busy_since_ms = input->now_ms;
        }
        if (input->now_ms >= group->busy_since_ms + CONDUCTOR_SPLIT_BUSY_MS &&
            may_be_split(conductor, group, input->now_ms) && !had_no_relief(group, input->now_ms) &&
            (busiest == NULL || group->load_per_1000_s > busiest->load_per_1000_s)) {
            busiest = group;
        }
    }
    return busiest;
}

/* Is there somebody to give a part to? */
static bool is_another_node(const struct conductor *conductor)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < conductor->node_count; i++) {
        count += !conductor->nodes[i].state.is_draining;
    }
    return count > 1;
}

void conductor__see_to_splits(struct conductor *conductor, const struct conductor_input *input)
{
    for (uint32_t i = 0; i < input->planned_count; i++) {
        see_to_planned(conductor, input, &input->planned[i]);
    }
    conductor->split_size_bytes = input->split_size_bytes;
    struct conductor__group *busy = too_busy(conductor, input); /* Also notes since when. */
    bool is_room = conductor->map_count < SLOTS_SHARD_COUNT_MAX && is_another_node(conductor);
    if (is_under_way(conductor, input) || !input->may_split || !is_room ||
        conductor->is_balance_waiting) {
        return;
    }
    struct conductor__group *large = too_large(conductor, input);
    if (large != NULL) {
        begin_wish(conductor, large, CONDUCTOR_SPLIT_SIZE, input->now_ms);
    } else if (busy != NULL && would_spread(conductor, busy)) {
        begin_wish(conductor, busy, CONDUCTOR_SPLIT_LOAD, input->now_ms);
    }
}
