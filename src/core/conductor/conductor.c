/* SPDX-License-Identifier: Apache-2.0 */
#include "core/conductor/conductor.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/conductor/conductor_internal.h"

/* ---- Life cycle ------------------------------------------------------------------------------ */

int conductor_create(struct conductor **conductor, const struct conductor_host *host,
                     raft_node self, uint32_t node_count_max, struct error *error)
{
    struct placement *placement;
    int status = placement_create(&placement, node_count_max, SLOTS_SHARD_COUNT_MAX, error);
    if (status != 0) {
        return status;
    }
    struct conductor *created = memory_allocate_zeroed(1, sizeof *created);
    created->host = *host;
    created->self = self;
    created->interval_ms = CONDUCTOR_INTERVAL_MS;
    created->placement = placement;
    created->node_count_max = node_count_max;
    created->nodes = memory_allocate_zeroed(node_count_max, sizeof created->nodes[0]);
    created->plan_nodes = memory_allocate_zeroed(node_count_max, sizeof created->plan_nodes[0]);
    created->load_sums = memory_allocate_zeroed(node_count_max, sizeof created->load_sums[0]);
    *conductor = created;
    return 0;
}

void conductor_destroy(struct conductor *conductor)
{
    if (conductor == NULL) {
        return;
    }
    placement_destroy(conductor->placement);
    buffer_deinit(&conductor->message);
    memory_free(conductor->groups);
    memory_free(conductor->plan_groups);
    memory_free(conductor->nodes);
    memory_free(conductor->plan_nodes);
    memory_free(conductor->load_sums);
    memory_free(conductor);
}

/* ---- Nodes ----------------------------------------------------------------------------------- */

struct conductor__node *conductor__find_node(struct conductor *conductor, raft_node id)
{
    uint32_t low = 0;
    uint32_t high = conductor->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (conductor->nodes[middle].state.id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool is_there = low < conductor->node_count && conductor->nodes[low].state.id == id;
    return is_there ? &conductor->nodes[low] : NULL;
}

static void take_nodes(struct conductor *conductor, const struct conductor_input *input)
{
    ASSERT(input->node_count <= conductor->node_count_max);
    for (uint32_t i = 0; i < input->node_count; i++) {
        struct conductor__node *node = &conductor->nodes[i];
        if (i >= conductor->node_count || node->state.id != input->nodes[i].id) {
            node->heard_at_ms =
                0; /* The others move up when one goes: soon they are heard again. */
        }
        node->state = input->nodes[i];
    }
    conductor->node_count = input->node_count;
}

/* ---- The plan -------------------------------------------------------------------------------- */

static bool has_member(const struct placement_group_state *group, uint32_t node)
{
    for (uint32_t i = 0; i < group->voter_count; i++) {
        if (group->voters[i] == node) {
            return true;
        }
    }
    for (uint32_t i = 0; i < group->learner_count; i++) {
        if (group->learners[i].node == node) {
            return true;
        }
    }
    return false;
}

/* Has any group something there, or may have? */
static bool is_in_use(const struct conductor *conductor, uint32_t group_count, uint32_t node)
{
    for (uint32_t i = 0; i < group_count; i++) {
        const struct placement_group_state *group = &conductor->plan_groups[i];
        if (group->leader == 0 || group->is_changing || has_member(group, node)) {
            return true;
        }
    }
    return group_count < conductor->map_count;
}

/* A child that is planned may be there, and this conductor has not heard of it. */
static bool is_any_child_unknown(const struct conductor_input *input)
{
    for (uint32_t i = 0; i < input->planned_count; i++) {
        if (slots_find(input->map, input->planned[i].child) == input->map->range_count) {
            return true;
        }
    }
    return false;
}

/* A node that drains and has nothing any more is empty. */
static void look_for_drained(const struct conductor *conductor, const struct conductor_input *input,
                             uint32_t group_count)
{
    if (is_any_child_unknown(input)) {
        return;
    }
    for (uint32_t i = 0; i < conductor->node_count; i++) {
        const struct placement_node_state *node = &conductor->nodes[i].state;
        if (node->is_draining && !is_in_use(conductor, group_count, node->id)) {
            conductor->host.drained(conductor->host.context, node->id);
        }
    }
}

static void have_carried_out(struct conductor *conductor, const struct placement_step *step,
                             uint64_t now_ms)
{
    struct conductor__group *group = conductor__find_group(conductor, step->group);
    ASSERT(group != NULL && group->state.leader != 0);
    if (step->kind == PLACEMENT_TRANSFER_LEADER) {
        group->asked_for = step->node;
        group->asked_at_ms = now_ms;
    }
    if (group->state.leader == conductor->self) {
        conductor__take_step(conductor, step, &group->state);
        return;
    }
    buffer_clear(&conductor->message);
    conductor_step_encode(&conductor->message, step, &group->state);
    conductor->host.send(conductor->host.context, group->state.leader,
                         buffer_bytes(&conductor->message));
}

static int conduct(struct conductor *conductor, const struct conductor_input *input,
                   struct error *error)
{
    uint32_t group_count = conductor__list_groups(conductor, input);
    struct placement_input plan = {
        .now_ms = input->now_ms,
        .policy = input->policy,
        .nodes = conductor->plan_nodes,
        .node_count = conductor->node_count,
        .groups = conductor->plan_groups,
        .group_count = group_count,
    };
    if (conductor->is_balance_waiting) {
        plan.policy.balance = PLACEMENT_BALANCE_NONE;
    }
    struct placement_output output;
    int status = placement_plan(conductor->placement, &plan, &output, error);
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; i < output.step_count; i++) {
        have_carried_out(conductor, &output.steps[i], input->now_ms);
    }
    look_for_drained(conductor, input, group_count);
    conductor__tell_silent(conductor, input);
    conductor__see_to_splits(conductor, input);
    return 0;
}

/* ---- Driving --------------------------------------------------------------------------------- */

static void take_office(struct conductor *conductor, const struct conductor_input *input)
{
    if (input->office != conductor->office) {
        conductor->office = input->office;
        conductor->office_since_ms = input->now_ms;
        if (!BUG("conductor.reports_kept")) {
            conductor__forget_reports(conductor); /* I1 */
        }
        conductor__forget_wish(conductor);
        conductor->load_slot = 0;
    }
    if (input->office != 0) {
        take_nodes(conductor, input);
    }
}

static uint32_t interval_ms(uint32_t group_count)
{
    return CONDUCTOR_INTERVAL_MS * (1 + group_count / CONDUCTOR_MESSAGE_GROUP_COUNT_MAX);
}

bool conductor_is_due(const struct conductor *conductor, uint64_t now_ms)
{
    return now_ms >= conductor->acted_at_ms + conductor->interval_ms;
}

int conductor_tick(struct conductor *conductor, const struct conductor_input *input,
                   struct error *error)
{
    ASSERT(input->now_ms > 0);
    if (!conductor_is_due(conductor, input->now_ms)) {
        return 0;
    }
    conductor->acted_at_ms = input->now_ms;
    conductor->interval_ms = interval_ms(input->map->range_count);
    take_office(conductor, input);
    conductor__report(conductor, input);
    return input->office == 0 ? 0 : conduct(conductor, input, error);
}

int conductor_receive(struct conductor *conductor, raft_node from, struct bytes bytes,
                      uint64_t now_ms)
{
    const struct conductor_host *host = &conductor->host;
    struct conductor_message message;
    struct placement_group_state group;
    int status = conductor_message_decode(bytes, &message);
    if (status != 0) {
        return status;
    }
    switch (message.kind) {
    case CONDUCTOR_MESSAGE_REPORT:
        conductor__take_report(conductor, from, &message, now_ms);
        break;
    case CONDUCTOR_MESSAGE_STEP:
        conductor_message_next(&message, &group);
        conductor__take_step(conductor, &message.step, &group);
        break;
    case CONDUCTOR_MESSAGE_MAP:
        host->take_map(host->context, from, message.groups);
        break;
    case CONDUCTOR_MESSAGE_SPLIT:
        host->split(host->context, &message.split);
        break;
    case CONDUCTOR_MESSAGE_QUESTION:
        host->halve(host->context, &message.halves.question);
        break;
    case CONDUCTOR_MESSAGE_HALVES:
        conductor__take_halves(conductor, &message.halves, from, now_ms);
        break;
    case CONDUCTOR_MESSAGE_OFFICE:
        conductor->told_by = from;
        break;
    }
    return 0;
}
