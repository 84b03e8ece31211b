/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about a whole world. */
#include <inttypes.h>

#include "core/raft/raft_world.h"

static void check_matching(struct raft__world *world, const struct raft__world_node *left,
                           const struct raft__world_node *right)
{
    raft_index first = number_max(left->log.first_index, right->log.first_index);
    raft_index last = number_min(left->log.last_index, right->log.last_index);
    bool must_match = false;
    for (raft_index i = last; i >= first && i > 0; i--) {
        const struct raft__world_entry *one = raft__world_entry_at(&left->log, i);
        const struct raft__world_entry *other = raft__world_entry_at(&right->log, i);
        must_match = must_match || one->term == other->term;
        if (must_match && (one->term != other->term || one->value != other->value)) {
            raft__world_violate(world,
                                "the logs of %" PRIu32 " and %" PRIu32 " do not match at %" PRIu64,
                                left->id, right->id, i);
            return;
        }
    }
}

void raft__world_check_logs(struct raft__world *world)
{
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        for (raft_node j = i + 1; j <= RAFT__WORLD_NODE_COUNT_MAX; j++) {
            if (world->nodes[i].raft != NULL && world->nodes[j].raft != NULL) {
                check_matching(world, &world->nodes[i], &world->nodes[j]);
            }
        }
    }
}

static bool is_quorum_impaired_of(const struct raft__world *world, const raft_node *nodes,
                                  uint32_t count)
{
    uint32_t impaired_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        impaired_count += world->nodes[nodes[i]].output.is_impaired ? 1u : 0u;
    }
    return count > 0 && count - impaired_count <= count / 2;
}

bool raft__world_is_quorum_impaired(const struct raft__world *world)
{
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        if (world->nodes[i].raft == NULL) {
            continue;
        }
        const struct raft_configuration *configuration =
            raft_latest_configuration(world->nodes[i].raft);
        if (is_quorum_impaired_of(world, configuration->voters, configuration->voter_count) ||
            is_quorum_impaired_of(world, configuration->outgoing, configuration->outgoing_count)) {
            return true;
        }
    }
    return false;
}

bool raft__world_is_healed(const struct raft__world *world, raft_index goal)
{
    raft_node leader = 0;
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        const struct raft__world_node *node = &world->nodes[i];
        bool is_newer = leader == 0 || node->output.term > world->nodes[leader].output.term;
        if (node->output.role == RAFT_ROLE_LEADER && is_newer) {
            leader = i;
        }
    }
    if (leader == 0) {
        return false;
    }
    const struct raft__world_node *node = &world->nodes[leader];
    const struct raft_configuration *configuration = raft_latest_configuration(node->raft);
    if (configuration->outgoing_count > 0 || node->applied.index < goal ||
        node->applied.index != node->log.last_index) {
        return false;
    }
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        bool is_member = raft_configuration_has_member(configuration, i);
        if (is_member && world->nodes[i].applied.index < goal) {
            return false;
        }
    }
    return true;
}
