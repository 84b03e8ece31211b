/* SPDX-License-Identifier: Apache-2.0 */
/* The conductor: while this node leads the first shard, it looks now and then at what is and what
 * should be, and has steps taken. It keeps nothing that the next leader would miss.
 *
 * Groups are led by any node. Each tells the conductor of those that it leads (a report), and takes
 * the steps that the conductor sends it, if the group still has the members that it had when the step
 * was thought of (core/conductor/conductor.h). */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/hash/hash.h"
#include "base/memory/memory.h"
#include "core/conductor/conductor.h"
#include "node/node_cluster.h"

enum {
    INTERVAL_MS = 200,
    CAUGHT_UP_COUNT = 256,
    REPORT_MS_MAX = 2000, /* After so long without a report, a group's leader is not known. */
    FILL_COUNT_MAX = 4,   /* Replicas that a node gets, or gives, at a time. */
};

struct node_conductor {
    struct placement *placement;
    uint64_t acted_at_ms;
    struct buffer message;
    /* By node_place_of(): the newest report, and when it came; 0: none did. */
    struct placement_group_state reports[SLOTS_SHARD_COUNT_MAX];
    uint64_t reported_at_ms[SLOTS_SHARD_COUNT_MAX];
    /* What a plan is made of. */
    struct placement_group_state groups[SLOTS_SHARD_COUNT_MAX];
    struct placement_node_state nodes[NODE_PEER_COUNT_MAX + 1];
};

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
    const struct system *system = cluster->shards->system;
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
            .is_slow = node_pace_is_slow(&view),
        };
    }
    return count;
}

static bool is_caught_up(const struct shard *shard, raft_node node, const struct raft_peer *peers,
                         uint32_t peer_count)
{
    raft_index applied = shard_applied_index(shard);
    for (uint32_t i = 0; i < peer_count; i++) {
        if (peers[i].node == node) {
            return peers[i].progress == RAFT_PROGRESS_REPLICATE && !peers[i].is_impaired &&
                   peers[i].match_index + CAUGHT_UP_COUNT >= applied;
        }
    }
    return false;
}

/* Of a group that this node leads. All count alike. */
static void describe_group(const struct node_shard *shard, struct placement_group_state *group)
{
    const struct raft_configuration *members = shard_configuration(shard->shard);
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t peer_count = shard_get_peers(shard->shard, peers);
    *group = (struct placement_group_state){
        .id = shard->id,
        .leader = shard->host->self,
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
            .is_caught_up = is_caught_up(shard->shard, members->learners[i], peers, peer_count),
        };
    }
}

/* ---- Steps of a group that this node leads --------------------------------------------------- */

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

/* Would the node leave the group before it has come to the split, though it could? It would claim for ever
 * what its replica has now, and no child of it be opened there (decision 18). A learner that has nothing
 * claims nothing. */
static bool leaves_too_early(const struct node_shard *node_shard, raft_node node)
{
    struct member_view view = {.state = MEMBER_STATE_SUSPECT};
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t count = shard_get_peers(node_shard->shard, peers);
    (void)member_state(node_shard->host->cluster->member, node, &view);
    for (uint32_t i = 0; i < count; i++) {
        if (peers[i].node == node) {
            bool has_something = peers[i].is_voter || peers[i].match_index > 0;
            return view.state == MEMBER_STATE_ALIVE && has_something &&
                   peers[i].match_index < shard_split_index(node_shard->shard);
        }
    }
    return false;
}

static int take_step(struct node_shard *node_shard, const struct placement_step *step)
{
    struct shard *shard = node_shard->shard;
    node_shard->is_touched = true;
    bool is_leaving = step->kind == PLACEMENT_REPLACE || step->kind == PLACEMENT_REMOVE;
    if (is_leaving &&
        (leaves_too_early(node_shard, step->other) ||
         (step->kind == PLACEMENT_REMOVE && leaves_too_early(node_shard, step->node)))) {
        return -EBUSY; /* It is thought of again. */
    }
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
    char text[SYSTEM_AUDIT_TEXT_SIZE];
    (void)snprintf(text, sizeof text, "shard %u: %s node %" PRIu32 " (%s)", step->group,
                   placement_kind_text(step->kind), step->node,
                   placement_reason_text(step->reason));
    OS_LOG_INFO(cluster->log, "conductor.step", "what=%s", text);
    struct system_command command;
    system_audit_command(&command,
                         step->kind == PLACEMENT_TRANSFER_LEADER ? SYSTEM_AUDIT_TRANSFER
                                                                 : SYSTEM_AUDIT_CONFIGURATION,
                         step->node, text);
    node_errand_send(cluster, &command, nothing_to_hear, NULL);
}

/* `thought_of`: the group as the conductor knew it. */
static void carry_out(struct node_cluster *cluster, const struct placement_step *step,
                      const struct placement_group_state *thought_of)
{
    struct node_shard *shard = node_shards_find(cluster->shards, step->group);
    struct placement_group_state group;
    if (shard == NULL || !shard_is_ready(shard->shard) || cluster->is_leaving) {
        return;
    }
    describe_group(shard, &group);
    if (!group.is_changing && conductor_has_same_members(&group, thought_of) &&
        take_step(shard, step) == 0) {
        audit(cluster, step);
    }
}

/* ---- Splits ---------------------------------------------------------------------------------- */

void node_conductor_tell_map_to(struct node_cluster *cluster, raft_node node)
{
    struct node_conductor *conductor = cluster->conductor;
    const struct slots *map = node_shards_map(cluster->shards);
    if (map->range_count > cluster->shards->map.made_count) {
        buffer_clear(&conductor->message);
        conductor_map_encode(&conductor->message, map);
        node_cluster_send_placement(cluster, node, buffer_bytes(&conductor->message));
    }
}

void node_conductor_tell_map(struct node_cluster *cluster)
{
    node_cluster_route_map(cluster);
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        node_conductor_tell_map_to(cluster, cluster->peers[i].id);
    }
}

static void take_map(struct node_cluster *cluster, raft_node from, struct bytes bytes)
{
    struct slots map;
    if (slots_decode(&map, bytes) != 0 || !node_map_adopt(cluster->shards, &map)) {
        OS_LOG_WARN(cluster->log, "node.malformed", "node=%" PRIu32 " kind=%s", from, "map");
    }
}

static void carry_out_split(struct node_cluster *cluster, const struct conductor_split *split)
{
    struct node_shard *shard = node_shards_find(cluster->shards, split->parent);
    if (shard != NULL && shard_is_ready(shard->shard) && !cluster->is_leaving) {
        kv_want_split(shard->kv, split->first, split->child);
        shard->is_touched = true;
    }
}

/* One that shows in the map is done; of another its parent's leader is told. */
static void see_to_split(struct node_cluster *cluster, const struct system_planned *planned)
{
    struct node_conductor *conductor = cluster->conductor;
    const struct slots *map = node_shards_map(cluster->shards);
    const struct conductor_split split = {planned->parent, planned->child, planned->first};
    uint32_t place = node_place_of(split.parent);
    uint32_t child = slots_find(map, split.child);
    if (child < map->range_count && map->ranges[child].first != split.first) {
        return; /* The number is that of another split: nothing is written down that is not so. */
    }
    if (child < map->range_count) {
        struct system_command command;
        system_split_done_command(&command, split.child);
        node_errand_send(cluster, &command, nothing_to_hear, NULL);
        return;
    }
    raft_node leader =
        place < SLOTS_SHARD_COUNT_MAX ? conductor->reports[place].leader : cluster->self;
    if (leader == cluster->self) {
        carry_out_split(cluster, &split);
    } else if (leader != 0) {
        buffer_clear(&conductor->message);
        conductor_split_encode(&conductor->message, &split);
        node_cluster_send_placement(cluster, leader, buffer_bytes(&conductor->message));
    }
}

static void see_to_splits(struct node_cluster *cluster)
{
    const struct system *system = cluster->shards->system;
    for (uint32_t i = 0; i < system_planned_count(system); i++) {
        struct system_planned planned;
        system_planned_at(system, i, &planned);
        see_to_split(cluster, &planned);
    }
}

/* ---- Reports --------------------------------------------------------------------------------- */

static void note_report(struct node_cluster *cluster, const struct placement_group_state *group,
                        raft_node from, uint64_t now_ms)
{
    struct node_conductor *conductor = cluster->conductor;
    const struct slots *map = node_shards_map(cluster->shards);
    if (slots_find(map, group->id) < map->range_count) {
        uint32_t place = node_place_of(group->id);
        conductor->reports[place] = *group;
        conductor->reports[place].leader = from;
        conductor->reported_at_ms[place] = now_ms;
    }
}

/* Tell whoever leads the first shard of the groups that are led here. */
static void report(struct node_cluster *cluster, uint64_t now_ms)
{
    struct node_conductor *conductor = cluster->conductor;
    struct node_shards *shards = cluster->shards;
    raft_node leader = shard_leader(node_shards_first(shards)->shard);
    uint32_t count = 0;
    buffer_clear(&conductor->message);
    for (uint32_t i = 0; i < shards->count; i++) {
        count += shard_is_ready(shards->items[i].shard);
    }
    if (leader == 0 || count == 0) {
        return;
    }
    conductor_report_begin(&conductor->message, count);
    for (uint32_t i = 0; i < shards->count; i++) {
        struct placement_group_state group;
        if (shard_is_ready(shards->items[i].shard)) {
            describe_group(&shards->items[i], &group);
            conductor_report_add(&conductor->message, &group);
            note_report(cluster, &group, cluster->self, now_ms);
        }
    }
    if (leader != cluster->self) {
        node_cluster_send_placement(cluster, leader, buffer_bytes(&conductor->message));
    }
}

void node_conductor_receive(struct node_cluster *cluster, raft_node from, struct bytes payload)
{
    struct conductor_message message;
    struct placement_group_state group;
    if (conductor_message_decode(payload, &message) != 0) {
        OS_LOG_WARN(cluster->log, "node.malformed", "node=%" PRIu32 " kind=%s", from, "placement");
        return;
    }
    switch (message.kind) {
    case CONDUCTOR_MESSAGE_STEP:
        conductor_message_next(&message, &group);
        carry_out(cluster, &message.step, &group);
        return;
    case CONDUCTOR_MESSAGE_MAP:
        take_map(cluster, from, message.groups);
        return;
    case CONDUCTOR_MESSAGE_SPLIT:
        carry_out_split(cluster, &message.split);
        return;
    case CONDUCTOR_MESSAGE_REPORT:
        break;
    }
    for (uint32_t i = 0; i < message.group_count; i++) {
        conductor_message_next(&message, &group);
        note_report(cluster, &group, from, os_monotonic_ms());
    }
}

/* ---- The plan -------------------------------------------------------------------------------- */

/* In the order of their ids; those that nobody ever told of are missing. */
static uint32_t list_groups(struct node_cluster *cluster, uint64_t now_ms)
{
    struct node_conductor *conductor = cluster->conductor;
    uint32_t count = 0;
    for (uint32_t i = 0; i < SLOTS_SHARD_COUNT_MAX; i++) {
        if (conductor->reported_at_ms[i] == 0) {
            continue;
        }
        struct placement_group_state *group = &conductor->groups[count++];
        *group = conductor->reports[i];
        if (now_ms - conductor->reported_at_ms[i] > REPORT_MS_MAX) {
            group->leader = 0;
        }
    }
    return count;
}

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
static bool is_in_use(const struct node_cluster *cluster, uint32_t group_count, uint32_t node)
{
    const struct node_conductor *conductor = cluster->conductor;
    for (uint32_t i = 0; i < group_count; i++) {
        const struct placement_group_state *group = &conductor->groups[i];
        if (group->leader == 0 || group->is_changing || has_member(group, node)) {
            return true;
        }
    }
    return group_count < node_shards_map(cluster->shards)->range_count;
}

/* A node that drains and has nothing any more is empty. */
static void look_for_drained(struct node_cluster *cluster, uint32_t group_count)
{
    const struct system *system = cluster->shards->system;
    for (uint32_t i = 0; i < system_node_count(system); i++) {
        const struct system_node *node = system_node_at(system, i);
        if (node->state == SYSTEM_NODE_DRAINING && !is_in_use(cluster, group_count, node->id)) {
            struct system_command command;
            system_node_state_command(&command, node->id, SYSTEM_NODE_DRAINED);
            node_errand_send(cluster, &command, nothing_to_hear, NULL);
            OS_LOG_INFO(cluster->log, "conductor.drained", "node=%" PRIu32, node->id);
        }
    }
}

static void have_carried_out(struct node_cluster *cluster, const struct placement_step *step,
                             uint32_t group_count)
{
    struct node_conductor *conductor = cluster->conductor;
    for (uint32_t i = 0; i < group_count; i++) {
        const struct placement_group_state *group = &conductor->groups[i];
        if (group->id != step->group) {
            continue;
        }
        if (group->leader == cluster->self) {
            carry_out(cluster, step, group);
        } else if (group->leader != 0) {
            buffer_clear(&conductor->message);
            conductor_step_encode(&conductor->message, step, group);
            node_cluster_send_placement(cluster, group->leader, buffer_bytes(&conductor->message));
        }
    }
}

static void conduct(struct node_cluster *cluster, uint64_t now_ms)
{
    struct node_conductor *conductor = cluster->conductor;
    uint32_t group_count = list_groups(cluster, now_ms);
    struct placement_input input = {
        .now_ms = now_ms,
        .policy = {.replica_count = (uint8_t)system_settings(cluster->shards->system)->replicas,
                   .fill_count_max = FILL_COUNT_MAX,
                   .is_balancing_off = node_shards_map(cluster->shards)->range_count == 1},
        .nodes = conductor->nodes,
        .node_count = list_nodes(cluster, conductor->nodes),
        .groups = conductor->groups,
        .group_count = group_count,
    };
    struct placement_output output;
    struct error error = {0};
    if (placement_plan(conductor->placement, &input, &output, &error) != 0) {
        OS_LOG_WARN(cluster->log, "conductor.no_plan", "reason=%s", error.message);
        return;
    }
    for (uint32_t i = 0; i < output.step_count; i++) {
        have_carried_out(cluster, &output.steps[i], group_count);
    }
    look_for_drained(cluster, group_count);
    see_to_splits(cluster);
}

void node_conductor_tick(struct node_cluster *cluster, uint64_t now_ms)
{
    const struct system *system = cluster->shards->system;
    if (cluster->is_leaving || now_ms < cluster->conductor->acted_at_ms + INTERVAL_MS) {
        return;
    }
    cluster->conductor->acted_at_ms = now_ms;
    report(cluster, now_ms);
    if (shard_is_ready(node_shards_first(cluster->shards)->shard) &&
        system_generation(system) != 0) {
        conduct(cluster, now_ms);
    }
}

int node_conductor_open(struct node_cluster *cluster, struct error *error)
{
    cluster->conductor = memory_allocate_zeroed(1, sizeof *cluster->conductor);
    return placement_create(&cluster->conductor->placement, NODE_PEER_COUNT_MAX + 1,
                            SLOTS_SHARD_COUNT_MAX, error);
}

void node_conductor_close(struct node_cluster *cluster)
{
    struct node_conductor *conductor = cluster->conductor;
    if (conductor == NULL) {
        return;
    }
    if (conductor->placement != NULL) {
        placement_destroy(conductor->placement);
    }
    buffer_deinit(&conductor->message);
    memory_free(conductor);
}
