/* SPDX-License-Identifier: Apache-2.0 */
/* The conductor: while this node leads the first shard, it looks now and then at what is and what
 * should be, and takes one step. It keeps nothing that the next leader would miss. */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/hash/hash.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

enum { INTERVAL_MS = 200, CAUGHT_UP_COUNT = 256 };

static enum placement_liveness liveness_of(enum member_state state)
{
    switch (state) {
    case MEMBER_STATE_ALIVE:
        return PLACEMENT_ALIVE;
    case MEMBER_STATE_SUSPECT:
        return PLACEMENT_SUSPECT;
    case MEMBER_STATE_DEAD:
        return PLACEMENT_DEAD;
    case MEMBER_STATE_LEFT:
        return PLACEMENT_LEFT;
    }
    return PLACEMENT_SUSPECT;
}

static bool is_of_cluster(const struct system_node *node)
{
    return node->state != SYSTEM_NODE_REMOVED && node->state != SYSTEM_NODE_DRAINED;
}

static uint32_t list_nodes(struct node_cluster *cluster, struct placement_node_state *nodes)
{
    const struct system *system = cluster->shard->system;
    uint32_t count = 0;
    for (uint32_t i = 0; i < system_node_count(system) && count <= NODE_PEER_COUNT_MAX; i++) {
        const struct system_node *node = system_node_at(system, i);
        struct member_view view = {.state = MEMBER_STATE_SUSPECT};
        if (!is_of_cluster(node)) {
            continue;
        }
        (void)member_state(cluster->member, node->id, &view);
        nodes[count++] = (struct placement_node_state){
            .id = node->id,
            .zone = (uint32_t)hash_bytes(bytes_of_text(node->zone), 0),
            .liveness = node->id == cluster->self ? PLACEMENT_ALIVE : liveness_of(view.state),
            .since_ms = view.since_ms,
            .is_draining = node->state == SYSTEM_NODE_DRAINING,
        };
    }
    return count;
}

static bool is_caught_up(const struct node_cluster *cluster, raft_node node,
                         const struct raft_peer *peers, uint32_t peer_count)
{
    raft_index applied = shard_applied_index(cluster->shard->shard);
    for (uint32_t i = 0; i < peer_count; i++) {
        if (peers[i].node == node) {
            return peers[i].progress == RAFT_PROGRESS_REPLICATE && !peers[i].is_impaired &&
                   peers[i].match_index + CAUGHT_UP_COUNT >= applied;
        }
    }
    return false;
}

static void describe_group(struct node_cluster *cluster, struct placement_group_state *group)
{
    struct shard *shard = cluster->shard->shard;
    const struct raft_configuration *members = shard_configuration(shard);
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t peer_count = shard_get_peers(shard, peers);
    *group = (struct placement_group_state){
        .id = NODE_DATA_SHARD,
        .leader = cluster->self,
        .voter_count = (uint8_t)members->voter_count,
        .learner_count = (uint8_t)members->learner_count,
        .is_changing = members->outgoing_count > 0,
        .size_bytes = 1,
        .load = 1,
    };
    for (uint32_t i = 0; i < members->voter_count; i++) {
        group->voters[i] = members->voters[i];
    }
    for (uint32_t i = 0; i < members->learner_count; i++) {
        group->learners[i] = (struct placement_learner){
            .node = members->learners[i],
            .is_caught_up = is_caught_up(cluster, members->learners[i], peers, peer_count),
        };
    }
}

/* ---- Steps ----------------------------------------------------------------------------------- */

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

static int take_step(struct node_cluster *cluster, const struct placement_step *step)
{
    struct shard *shard = cluster->shard->shard;
    struct raft_configuration target = *shard_configuration(shard);
    target.outgoing_count = 0;
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
        break;
    case PLACEMENT_REMOVE:
        leave(&target, step->node);
        leave(&target, step->other);
        break;
    case PLACEMENT_TRANSFER_LEADER:
        return shard_transfer(shard, step->node);
    }
    return shard_configure(shard, &target);
}

static void nothing_to_hear(void *context, int status, struct bytes reply)
{
}

static void audit(struct node_cluster *cluster, const struct placement_step *step)
{
    (void)snprintf(cluster->step_text, sizeof cluster->step_text,
                   "shard %u: %s node %" PRIu32 " (%s)", step->group,
                   placement_kind_text(step->kind), step->node,
                   placement_reason_text(step->reason));
    OS_LOG_INFO(cluster->log, "conductor.step", "what=%s", cluster->step_text);
    struct system_command command;
    system_audit_command(&command,
                         step->kind == PLACEMENT_TRANSFER_LEADER ? SYSTEM_AUDIT_TRANSFER
                                                                 : SYSTEM_AUDIT_CONFIGURATION,
                         step->node, cluster->step_text);
    node_errand_send(cluster, &command, nothing_to_hear, NULL);
}

/* A node that drains and has nothing any more is empty. */
static void look_for_drained(struct node_cluster *cluster)
{
    const struct raft_configuration *members = shard_configuration(cluster->shard->shard);
    const struct system *system = cluster->shard->system;
    for (uint32_t i = 0; i < system_node_count(system); i++) {
        const struct system_node *node = system_node_at(system, i);
        if (node->state == SYSTEM_NODE_DRAINING && members->outgoing_count == 0 &&
            !raft_configuration_has_voter(members, node->id) &&
            !raft_configuration_has_learner(members, node->id)) {
            struct system_command command;
            system_node_state_command(&command, node->id, SYSTEM_NODE_DRAINED);
            node_errand_send(cluster, &command, nothing_to_hear, NULL);
            OS_LOG_INFO(cluster->log, "conductor.drained", "node=%" PRIu32, node->id);
        }
    }
}

void node_conductor_tick(struct node_cluster *cluster, uint64_t now_ms)
{
    const struct system *system = cluster->shard->system;
    if (!shard_is_ready(cluster->shard->shard) || cluster->is_leaving ||
        system_generation(system) == 0 || now_ms < cluster->conducted_at_ms + INTERVAL_MS) {
        return;
    }
    cluster->conducted_at_ms = now_ms;
    static struct placement_node_state nodes[NODE_PEER_COUNT_MAX + 1];
    struct placement_group_state group;
    describe_group(cluster, &group);
    struct placement_input input = {
        .now_ms = now_ms,
        .policy = {.replica_count = (uint8_t)system_settings(system)->replicas,
                   .is_balancing_off = true},
        .nodes = nodes,
        .node_count = list_nodes(cluster, nodes),
        .groups = &group,
        .group_count = 1,
    };
    struct placement_output output;
    struct error error = {0};
    if (placement_plan(cluster->placement, &input, &output, &error) != 0) {
        OS_LOG_WARN(cluster->log, "conductor.no_plan", "reason=%s", error.message);
        return;
    }
    cluster->health = placement_health_of(cluster->placement, 0);
    if (output.step_count > 0 && take_step(cluster, &output.steps[0]) == 0) {
        audit(cluster, &output.steps[0]);
    }
    look_for_drained(cluster);
}

int node_conductor_open(struct node_cluster *cluster, struct error *error)
{
    return placement_create(&cluster->placement, NODE_PEER_COUNT_MAX + 1, 1, error);
}

void node_conductor_close(struct node_cluster *cluster)
{
    if (cluster->placement != NULL) {
        placement_destroy(cluster->placement);
    }
}
