/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace/trace.h"
#include "core/conductor/conductor_internal.h"

static void remove_from(raft_node *nodes, uint32_t *count, raft_node node)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *count; i++) {
        if (nodes[i] != node) {
            nodes[kept++] = nodes[i];
        }
    }
    *count = kept;
}

static void add_to(raft_node *nodes, uint32_t *count, uint32_t count_max, raft_node node)
{
    remove_from(nodes, count, node);
    if (node == 0 || *count == count_max) {
        return;
    }
    uint32_t place = *count;
    while (place > 0 && nodes[place - 1] > node) {
        nodes[place] = nodes[place - 1];
        place--;
    }
    nodes[place] = node;
    (*count)++;
}

static void leave(struct raft_configuration *target, raft_node node)
{
    remove_from(target->voters, &target->voter_count, node);
    remove_from(target->learners, &target->learner_count, node);
}

static void become_voter(struct raft_configuration *target, raft_node node)
{
    remove_from(target->learners, &target->learner_count, node);
    add_to(target->voters, &target->voter_count, RAFT_VOTER_COUNT_MAX, node);
}

static struct raft_configuration members_of(const struct placement_group_state *group)
{
    struct raft_configuration members = {.voter_count = group->voter_count,
                                         .learner_count = group->learner_count};
    for (uint32_t i = 0; i < group->voter_count; i++) {
        members.voters[i] = group->voters[i];
    }
    for (uint32_t i = 0; i < group->learner_count; i++) {
        members.learners[i] = group->learners[i].node;
    }
    return members;
}

static int begin(struct conductor *conductor, const struct placement_step *step,
                 const struct placement_group_state *group)
{
    const struct conductor_host *host = &conductor->host;
    struct raft_configuration target = members_of(group);
    switch (step->kind) {
    case PLACEMENT_ADD_LEARNER:
        add_to(target.learners, &target.learner_count, RAFT_LEARNER_COUNT_MAX, step->node);
        break;
    case PLACEMENT_PROMOTE:
        become_voter(&target, step->node);
        if (step->other != 0) {
            become_voter(&target, step->other);
        }
        break;
    case PLACEMENT_REPLACE:
        become_voter(&target, step->node);
        leave(&target, step->other);
        if (BUG("conductor.two_removed")) {
            leave(&target, group->voters[group->voters[0] == group->leader]);
        }
        break;
    case PLACEMENT_REMOVE:
        leave(&target, step->node);
        leave(&target, step->other);
        break;
    case PLACEMENT_TRANSFER_LEADER:
        return host->transfer(host->context, step->group, step->node);
    }
    return host->configure(host->context, step->group, &target);
}

void conductor__take_step(struct conductor *conductor, const struct placement_step *step,
                          const struct placement_group_state *thought_of)
{
    const struct conductor_host *host = &conductor->host;
    struct placement_group_state group;
    if (host->describe(host->context, step->group, &group) && !group.is_changing &&
        (conductor_has_same_members(&group, thought_of) || BUG("conductor.step_not_compared")) &&
        begin(conductor, step, &group) == 0) {
        host->begun(host->context, step);
    }
}
