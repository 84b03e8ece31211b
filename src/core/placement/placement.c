/* SPDX-License-Identifier: Apache-2.0 */
#include "core/placement/placement.h"

#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/placement/placement_internal.h"

/* ---- Life cycle ------------------------------------------------------------------------------ */

int placement_create(struct placement **placement, uint32_t node_count_max,
                     uint32_t group_count_max, struct error *error)
{
    if (node_count_max == 0 || node_count_max > PLACEMENT_NODE_COUNT_LIMIT) {
        return error_say(error, -EINVAL, "a cluster has 1 to %d nodes, not %u",
                         PLACEMENT_NODE_COUNT_LIMIT, node_count_max);
    }
    if (group_count_max == 0 || group_count_max > PLACEMENT_GROUP_COUNT_LIMIT) {
        return error_say(error, -EINVAL, "there are 1 to %d groups, not %u",
                         PLACEMENT_GROUP_COUNT_LIMIT, group_count_max);
    }
    struct placement *created = memory_allocate_zeroed(1, sizeof *created);
    created->node_count_max = node_count_max;
    created->group_count_max = group_count_max;
    created->index_by_id = memory_allocate_zeroed(PLACEMENT__DIRECT_ID_COUNT, sizeof(uint16_t));
    created->nodes = memory_allocate_zeroed(node_count_max, sizeof created->nodes[0]);
    created->by_fullness = memory_allocate_zeroed(node_count_max, sizeof(uint16_t));
    created->zones = memory_allocate_zeroed(node_count_max, sizeof created->zones[0]);
    created->healths = memory_allocate_zeroed(group_count_max, 1);
    created->urgencies = memory_allocate_zeroed(group_count_max, 1);
    created->victims = memory_allocate_zeroed(group_count_max, sizeof(uint16_t));
    created->steps = memory_allocate_zeroed(PLACEMENT_STEP_COUNT_MAX, sizeof created->steps[0]);
    *placement = created;
    return 0;
}

void placement_destroy(struct placement *placement)
{
    if (placement == NULL) {
        return;
    }
    memory_free(placement->index_by_id);
    memory_free(placement->nodes);
    memory_free(placement->by_fullness);
    memory_free(placement->zones);
    memory_free(placement->healths);
    memory_free(placement->urgencies);
    memory_free(placement->victims);
    memory_free(placement->steps);
    memory_free(placement);
}

/* ---- Validation ------------------------------------------------------------------------------ */

static bool is_odd_count(uint32_t count)
{
    return count % 2 == 1 && count <= PLACEMENT_VOTER_COUNT_MAX;
}

static int check_group(const struct placement_group_state *group, struct error *error)
{
    if (group->voter_count == 0 || group->voter_count > PLACEMENT_VOTER_COUNT_MAX ||
        group->learner_count > PLACEMENT_LEARNER_COUNT_MAX) {
        return error_say(error, -EINVAL, "group %u has %u voters and %u learners", group->id,
                         group->voter_count, group->learner_count);
    }
    if (group->replica_count != 0 && !is_odd_count(group->replica_count)) {
        return error_say(error, -EINVAL, "group %u wants %u replicas", group->id,
                         group->replica_count);
    }
    return 0;
}

static int check_input(const struct placement *placement, const struct placement_input *input,
                       struct error *error)
{
    if (input->node_count > placement->node_count_max ||
        input->group_count > placement->group_count_max ||
        input->step_count_max > PLACEMENT_STEP_COUNT_MAX) {
        return error_say(error, -EINVAL, "%u nodes, %u groups or %u steps are too many",
                         input->node_count, input->group_count, input->step_count_max);
    }
    if (!is_odd_count(input->policy.replica_count)) {
        return error_say(error, -EINVAL, "the policy wants %u replicas",
                         input->policy.replica_count);
    }
    placement_node before = 0;
    for (uint32_t i = 0; i < input->node_count; i++) {
        if (input->nodes[i].id <= before) {
            return error_say(error, -EINVAL, "node %u follows node %u", input->nodes[i].id, before);
        }
        before = input->nodes[i].id;
    }
    for (uint32_t i = 0; i < input->group_count; i++) {
        if (i > 0 && input->groups[i].id <= input->groups[i - 1].id) {
            return error_say(error, -EINVAL, "group %u follows group %u", input->groups[i].id,
                             input->groups[i - 1].id);
        }
        int status = check_group(&input->groups[i], error);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value == 0 ? otherwise : value;
}

static void take_policy(struct placement *placement, const struct placement_input *input)
{
    const struct placement_policy *given = &input->policy;
    placement->policy = (struct placement_policy){
        .replica_count = given->replica_count,
        .dead_grace_ms = given->dead_grace_ms == 0 ? PLACEMENT_DEAD_GRACE_MS : given->dead_grace_ms,
        .fill_count_max = or_default(given->fill_count_max, PLACEMENT_FILL_COUNT_MAX),
        .full_permille = or_default(given->full_permille, PLACEMENT_FULL_PERMILLE),
        .tolerance_permille = or_default(given->tolerance_permille, PLACEMENT_TOLERANCE_PERMILLE),
        .balance = given->balance,
    };
    placement->step_count_max = or_default(input->step_count_max, PLACEMENT_STEP_COUNT_MAX);
}

/* ---- Steps ----------------------------------------------------------------------------------- */

/* I1, I3, I5: what the step makes of the group. */
static bool is_sound(const struct placement *placement, const struct placement__view *view,
                     const struct placement_step *step)
{
    uint32_t count = view->voter_count;
    uint32_t live_count = view->live_count;
    for (uint8_t i = 0; i < view->voter_count; i++) {
        placement_node voter = view->state->voters[i];
        bool leaves =
            (step->kind == PLACEMENT_REMOVE && (step->node == voter || step->other == voter)) ||
            (step->kind == PLACEMENT_REPLACE && step->other == voter);
        if (leaves) {
            count--;
            live_count -= placement__is_live(placement, view->voters[i]);
            if (voter == view->state->leader) {
                return false;
            }
        }
    }
    if (step->kind == PLACEMENT_PROMOTE || step->kind == PLACEMENT_REPLACE) {
        uint32_t more = step->kind == PLACEMENT_PROMOTE && step->other != 0 ? 2 : 1;
        count += more;
        live_count += more;
    }
    return count >= 1 && 2 * live_count > count;
}

bool placement__add_step(struct placement *placement, const struct placement__view *view,
                         enum placement_kind kind, enum placement_reason reason,
                         placement_node node, placement_node other)
{
    if (placement->step_count == placement->step_count_max) {
        PROBE("placement.steps.full");
        return false;
    }
    struct placement_step step = {kind, reason, view->state->id, node, other};
    ASSERT(node != 0 && node != other);
    ASSERT(is_sound(placement, view, &step));
    placement->steps[placement->step_count++] = step;
    return true;
}

/* ---- The plan -------------------------------------------------------------------------------- */

static void decide_all(struct placement *placement)
{
    const struct placement_input *input = placement->input;
    for (uint8_t urgency = 0; urgency <= 2; urgency++) {
        for (uint32_t i = 0; i < input->group_count; i++) {
            if (placement->urgencies[i] == urgency) {
                struct placement__view view;
                placement__look(placement, &input->groups[i], &view);
                placement->healths[i] = (uint8_t)placement__decide(placement, &view);
            }
        }
    }
}

static void fill_output(struct placement *placement, struct placement_output *output)
{
    const struct placement_input *input = placement->input;
    *output = (struct placement_output){
        .steps = placement->steps,
        .step_count = placement->step_count,
        .wake_at_ms = UINT64_MAX,
    };
    for (uint32_t i = 0; i < input->group_count; i++) {
        output->health_counts[placement->healths[i]]++;
        const struct placement_group_state *group = &input->groups[i];
        uint32_t wanted =
            group->replica_count == 0 ? placement->policy.replica_count : group->replica_count;
        uint32_t live_count = 0;
        for (uint8_t j = 0; j < group->voter_count; j++) {
            live_count +=
                placement__is_live(placement, placement__index(placement, group->voters[j]));
        }
        output->under_replicated_count += live_count < wanted;
    }
    for (uint32_t i = 0; i < input->node_count; i++) {
        const struct placement__node *node = &placement->nodes[i];
        if (node->has_voters && !node->is_gone && node->grace_ends_at_ms < output->wake_at_ms) {
            output->wake_at_ms = node->grace_ends_at_ms;
        }
    }
    output->is_settled = output->health_counts[PLACEMENT_SETTLED] == input->group_count;
}

int placement_plan(struct placement *placement, const struct placement_input *input,
                   struct placement_output *output, struct error *error)
{
    int status = check_input(placement, input, error);
    if (status != 0) {
        return status;
    }
    placement->input = input;
    placement->now_ms = input->now_ms;
    placement->step_count = 0;
    placement->looked_at_count = 0;
    take_policy(placement, input);
    placement__account(placement);
    decide_all(placement);
    if (placement->policy.balance == PLACEMENT_BALANCE_ALL) {
        placement__balance_fullness(placement);
        placement__balance_leaders(placement);
    }
    fill_output(placement, output);
    placement->input = NULL;
    return 0;
}

enum placement_health placement_health_of(const struct placement *placement, uint32_t index)
{
    ASSERT(index < placement->group_count_max);
    return (enum placement_health)placement->healths[index];
}

/* ---- Words ----------------------------------------------------------------------------------- */

const char *placement_kind_text(enum placement_kind kind)
{
    static const char *const texts[] = {
        [PLACEMENT_ADD_LEARNER] = "add_learner",
        [PLACEMENT_PROMOTE] = "promote",
        [PLACEMENT_REPLACE] = "replace",
        [PLACEMENT_REMOVE] = "remove",
        [PLACEMENT_TRANSFER_LEADER] = "transfer_leader",
    };
    return texts[kind];
}

const char *placement_reason_text(enum placement_reason reason)
{
    static const char *const texts[PLACEMENT_REASON_COUNT] = {
        [PLACEMENT_REASON_GROW] = "grow",       [PLACEMENT_REASON_SHRINK] = "shrink",
        [PLACEMENT_REASON_GONE] = "gone",       [PLACEMENT_REASON_DRAIN] = "drain",
        [PLACEMENT_REASON_ZONE] = "zone",       [PLACEMENT_REASON_FULLNESS] = "fullness",
        [PLACEMENT_REASON_LEADERS] = "leaders", [PLACEMENT_REASON_HAND_OVER] = "hand_over",
        [PLACEMENT_REASON_EVEN] = "even",       [PLACEMENT_REASON_NO_USE] = "no_use",
        [PLACEMENT_REASON_SLOW] = "slow",
    };
    return texts[reason];
}

const char *placement_health_text(enum placement_health health)
{
    static const char *const texts[PLACEMENT_HEALTH_COUNT] = {
        [PLACEMENT_SETTLED] = "settled",         [PLACEMENT_STEPPING] = "stepping",
        [PLACEMENT_CHANGING] = "changing",       [PLACEMENT_WAITING] = "waiting",
        [PLACEMENT_UNPLACEABLE] = "unplaceable", [PLACEMENT_GRACE] = "grace",
        [PLACEMENT_LEADERLESS] = "leaderless",   [PLACEMENT_UNAVAILABLE] = "unavailable",
    };
    return texts[health];
}
