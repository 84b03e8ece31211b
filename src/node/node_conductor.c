/* SPDX-License-Identifier: Apache-2.0 */
/* What core/conductor decides, and what it has to know for it: the groups that this node leads, the nodes
 * by gossip, and what was agreed on by the rows of the cluster. */
#include <inttypes.h>
#include <stdio.h>

#include "base/hash/hash.h"
#include "base/memory/memory.h"
#include "core/conductor/conductor.h"
#include "node/node_cluster.h"

enum { FILL_COUNT_MAX = 4 }; /* Replicas that a node gets, or gives, at a time. */

struct node_conductor {
    struct conductor *core;
    struct buffer message;
    /* Of an input. */
    struct placement_group_state *led;
    struct conductor_split *planned;
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

static uint32_t list_nodes(struct node_cluster *cluster, struct placement_node_state *nodes)
{
    const struct system *system = cluster->shards->system;
    uint32_t count = 0;
    for (uint32_t i = 0; i < system_node_count(system) && count <= NODE_PEER_COUNT_MAX; i++) {
        const struct system_node *node = system_node_at(system, i);
        struct member_view view = {.state = MEMBER_STATE_SUSPECT};
        if (node->state == SYSTEM_NODE_REMOVED) {
            continue;
        }
        (void)member_state(cluster->member, node->id, &view);
        nodes[count++] = (struct placement_node_state){
            .id = node->id,
            .zone = (uint32_t)hash_bytes(bytes_of_text(node->zone), 0),
            .liveness = node->id == cluster->self ? PLACEMENT_ALIVE : liveness_of(view.state),
            .since_ms = view.since_ms,
            .is_draining =
                node->state != SYSTEM_NODE_ACTIVE, /* Who is drained gets nothing, too. */
            .is_slow = node_pace_is_slow(&view),
            .capacity_bytes = view.meta == NULL ? 0 : view.meta->load.capacity_bytes,
            .used_bytes = view.meta == NULL ? 0 : view.meta->load.used_bytes,
        };
    }
    return count;
}

/* As long as there is software that reports no sizes and loads, nobody does: all shards are alike then. */
static bool does_everybody_measure(struct node_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        if (!node_versions_know_slots(cluster, cluster->peers[i].id)) {
            return false;
        }
    }
    return true;
}

static void measure(const struct node_shard *shard, struct placement_group_state *group)
{
    struct node_shard_sample sample;
    node_sampler_get_shard(shard->host->cluster->sampler, shard->place, &sample);
    if (sample.size_bytes != INQUIRY_UNKNOWN) {
        group->size_bytes = sample.size_bytes;
    }
    if (sample.reads_per_1000_s != INQUIRY_UNKNOWN) {
        uint64_t load = (sample.reads_per_1000_s + sample.writes_per_1000_s) / 1000;
        group->load = load < UINT32_MAX ? (uint32_t)load : UINT32_MAX;
    }
}

/* Of a group that this node leads. */
static void describe_group(const struct node_shard *shard, bool is_measured,
                           struct placement_group_state *group)
{
    conductor_describe(shard->shard, shard->id, shard->host->self, group);
    group->size_bytes = is_measured ? 0 : 1;
    group->load = is_measured ? 0 : 1;
    if (is_measured) {
        measure(shard, group);
    }
}

/* ---- Steps of a group that this node leads --------------------------------------------------- */

static bool is_alive(void *context, raft_node node)
{
    const struct node_cluster *cluster = context;
    struct member_view view = {.state = MEMBER_STATE_SUSPECT};
    (void)member_state(cluster->member, node, &view);
    return view.state == MEMBER_STATE_ALIVE;
}

/* NULL: this node does not lead it, or is about to stop. */
static struct node_shard *find_led(const struct node_cluster *cluster, wal_shard id)
{
    struct node_shard *shard = node_shards_find(cluster->shards, id);
    bool is_led = shard != NULL && shard_is_ready(shard->shard) && !cluster->is_leaving;
    return is_led ? shard : NULL;
}

static bool describe(void *context, wal_shard group, struct placement_group_state *state)
{
    const struct node_shard *shard = find_led(context, group);
    if (shard != NULL) {
        describe_group(shard, does_everybody_measure(shard->host->cluster), state);
    }
    return shard != NULL;
}

static int configure(void *context, wal_shard group, const struct raft_configuration *target)
{
    struct node_shard *shard = find_led(context, group);
    node_shard_touch(shard);
    if (!conductor_may_configure(shard->shard, target, is_alive, context)) {
        return -EBUSY; /* It is thought of again. */
    }
    return shard_configure(shard->shard, target);
}

static int transfer(void *context, wal_shard group, raft_node node)
{
    struct node_shard *shard = find_led(context, group);
    node_shard_touch(shard);
    return shard_transfer(shard->shard, node);
}

/* Some steps are about two nodes at once. */
static void describe_step(const struct placement_step *step, char text[SYSTEM_AUDIT_TEXT_SIZE])
{
    const char *kind = placement_kind_text(step->kind);
    const char *reason = placement_reason_text(step->reason);
    if (step->kind == PLACEMENT_REPLACE) {
        (void)snprintf(text, SYSTEM_AUDIT_TEXT_SIZE,
                       "shard %u: %s node %" PRIu32 " by node %" PRIu32 " (%s)", step->group, kind,
                       step->other, step->node, reason);
    } else if (step->other != 0) {
        (void)snprintf(text, SYSTEM_AUDIT_TEXT_SIZE,
                       "shard %u: %s nodes %" PRIu32 " and %" PRIu32 " (%s)", step->group, kind,
                       step->node, step->other, reason);
    } else {
        (void)snprintf(text, SYSTEM_AUDIT_TEXT_SIZE, "shard %u: %s node %" PRIu32 " (%s)",
                       step->group, kind, step->node, reason);
    }
}

static void begun(void *context, const struct placement_step *step)
{
    struct node_cluster *cluster = context;
    char text[SYSTEM_AUDIT_TEXT_SIZE];
    describe_step(step, text);
    OS_LOG_INFO(cluster->log, "conductor.step", "what=%s", text);
    struct system_command command;
    system_audit_command(&command,
                         step->kind == PLACEMENT_TRANSFER_LEADER ? SYSTEM_AUDIT_TRANSFER
                                                                 : SYSTEM_AUDIT_CONFIGURATION,
                         step->node, text);
    node_errand_try(cluster, &command, NULL, NULL);
}

/* ---- Splits ---------------------------------------------------------------------------------- */

void node_conductor_tell_map_to(struct node_cluster *cluster, raft_node node)
{
    struct node_conductor *conductor = cluster->conductor;
    const struct slots *map = node_shards_map(cluster->shards);
    if (map->range_count > cluster->shards->map.made_count) {
        buffer_clear(&conductor->message);
        conductor_map_encode(&conductor->message, map);
        node_cluster_send_map(cluster, node, buffer_bytes(&conductor->message));
    }
}

void node_conductor_tell_map(struct node_cluster *cluster)
{
    node_cluster_route_map(cluster);
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        node_conductor_tell_map_to(cluster, cluster->peers[i].id);
    }
}

static void take_map(void *context, raft_node from, struct bytes bytes)
{
    struct node_cluster *cluster = context;
    struct slots map = {0};
    if (slots_decode(&map, bytes) != 0 || !node_map_adopt(cluster->shards, &map)) {
        OS_LOG_WARN(cluster->log, "node.malformed", "node=%" PRIu32 " kind=%s", from, "map");
    }
    slots_deinit(&map);
}

static void split(void *context, const struct conductor_split *split)
{
    struct node_shard *shard = find_led(context, split->parent);
    if (shard != NULL) {
        kv_want_split(shard->kv, split->first, split->child);
        shard_look_at_background(shard->shard);
        node_shard_touch(shard);
    }
}

static void split_done(void *context, wal_shard child)
{
    struct system_command command;
    system_split_done_command(&command, child);
    node_errand_try(context, &command, NULL, NULL);
}

/* Bytes take a while to be looked at; requests are known to the leader. */
static void halve(void *context, const struct conductor_question *question)
{
    const struct node_cluster *cluster = context;
    const struct node_shard *shard = find_led(cluster, question->group);
    if (question->reason == CONDUCTOR_SPLIT_SIZE) {
        node_halver_ask(cluster->halver, question);
    } else if (shard != NULL && question->end > question->first + 1) {
        struct demand_halves demand = {.slot = question->first + 1};
        (void)shard_halve_demand(shard->shard, question->first, question->end, &demand);
        node_halver_tell(cluster->halver, &(struct conductor_halves){*question, demand.slot,
                                                                     demand.lower, demand.upper});
    }
}

/* As `tutti split` has it done. Was it refused, it is thought of again. */
static void plan_split(void *context, const struct conductor_halves *halves, uint64_t measured)
{
    struct node_cluster *cluster = context;
    const struct conductor_question *question = &halves->question;
    char text[SYSTEM_AUDIT_TEXT_SIZE];
    if (question->reason == CONDUCTOR_SPLIT_SIZE) {
        (void)snprintf(text, sizeof text,
                       "shard %u: split at slot %" PRIu32 " (size: %" PRIu64
                       " bytes, --split-size %" PRIu64 ")",
                       question->group, halves->slot, measured, cluster->options->split_size_bytes);
    } else {
        (void)snprintf(text, sizeof text,
                       "shard %u: split at slot %" PRIu32 " (load: %" PRIu64
                       " requests per second, --split-load %" PRIu64 ")",
                       question->group, halves->slot, measured, cluster->options->split_load_per_s);
    }
    OS_LOG_INFO(cluster->log, "conductor.split", "what=%s", text);
    struct system_command command;
    system_audit_command(&command, SYSTEM_AUDIT_SPLIT, 0, text);
    node_errand_try(cluster, &command, NULL, NULL);
    system_split_command(&command, halves->slot);
    node_errand_try(cluster, &command, NULL, NULL);
}

/* ---- What is told the conductor -------------------------------------------------------------- */

static void drained(void *context, raft_node node)
{
    struct node_cluster *cluster = context;
    const struct system_node *known = system_node_find(cluster->shards->system, node);
    struct system_command command;
    if (known == NULL || known->state != SYSTEM_NODE_DRAINING) {
        return; /* It stands there already. */
    }
    system_node_state_command(&command, node, SYSTEM_NODE_DRAINED);
    node_errand_try(cluster, &command, NULL, NULL);
    OS_LOG_INFO(cluster->log, "conductor.drained", "node=%" PRIu32, node);
}

static void send(void *context, raft_node to, struct bytes message)
{
    node_cluster_send_placement(context, to, message);
}

static uint32_t list_led(struct node_cluster *cluster, struct placement_group_state *led)
{
    struct node_shards *shards = cluster->shards;
    bool is_measured = does_everybody_measure(cluster);
    uint32_t count = 0;
    for (uint32_t i = 0; i < shards->count; i++) {
        if (shard_is_ready(shards->items[i].shard)) {
            describe_group(&shards->items[i], is_measured, &led[count++]);
        }
    }
    return count;
}

/* While this node is in office. */
static void add_of_office(struct node_cluster *cluster, struct conductor_input *input)
{
    struct node_conductor *conductor = cluster->conductor;
    const struct system *system = cluster->shards->system;
    struct shard_statistics statistics;
    shard_get_statistics(node_shards_first(cluster->shards)->shard, &statistics);
    input->office = statistics.term;
    input->nodes = conductor->nodes;
    input->node_count = list_nodes(cluster, conductor->nodes);
    input->policy = (struct placement_policy){
        .replica_count = (uint8_t)system_settings(system)->replicas,
        .fill_count_max = FILL_COUNT_MAX,
        .balance = input->map->range_count == 1 ? PLACEMENT_BALANCE_ZONES : PLACEMENT_BALANCE_ALL,
    };
    input->planned_count = system_planned_count(system);
    conductor->planned =
        memory_resize(conductor->planned, (input->planned_count + 1) * sizeof input->planned[0]);
    for (uint32_t i = 0; i < input->planned_count; i++) {
        struct system_planned planned;
        system_planned_at(system, i, &planned);
        conductor->planned[i] =
            (struct conductor_split){planned.parent, planned.child, planned.first};
    }
    input->planned = conductor->planned;
    input->may_split = system_node_below(system, SYSTEM_FEATURE_SPLIT) == NULL;
    input->split_size_bytes = cluster->options->split_size_bytes;
    input->split_load_per_s = cluster->options->split_load_per_s;
}

void node_conductor_tick(struct node_cluster *cluster, uint64_t now_ms)
{
    struct node_conductor *conductor = cluster->conductor;
    struct node_shards *shards = cluster->shards;
    const struct shard *first = node_shards_first(shards)->shard;
    if (cluster->is_leaving || !conductor_is_due(conductor->core, now_ms)) {
        return;
    }
    conductor->led = memory_resize(conductor->led, (shards->count + 1) * sizeof conductor->led[0]);
    struct conductor_input input = {
        .now_ms = now_ms,
        .leader = shard_leader(first),
        .map = node_shards_map(shards),
        .led = conductor->led,
        .led_count = list_led(cluster, conductor->led),
    };
    struct conductor_halves halves;
    input.halves = node_halver_take(cluster->halver, &halves) ? &halves : NULL;
    if (shard_is_ready(first) && system_generation(shards->system) != 0) {
        add_of_office(cluster, &input);
    }
    struct error error = {0};
    if (conductor_tick(conductor->core, &input, &error) != 0) {
        OS_LOG_WARN(cluster->log, "conductor.no_plan", "reason=%s", error.message);
    }
}

void node_conductor_receive(struct node_cluster *cluster, raft_node from, struct bytes payload)
{
    if (conductor_receive(cluster->conductor->core, from, payload, os_monotonic_ms()) != 0) {
        OS_LOG_WARN(cluster->log, "node.malformed", "node=%" PRIu32 " kind=%s", from, "placement");
    }
}

int node_conductor_open(struct node_cluster *cluster, struct error *error)
{
    cluster->conductor = memory_allocate_zeroed(1, sizeof *cluster->conductor);
    const struct conductor_host host = {
        .context = cluster,
        .send = send,
        .describe = describe,
        .configure = configure,
        .transfer = transfer,
        .begun = begun,
        .split = split,
        .halve = halve,
        .plan_split = plan_split,
        .take_map = take_map,
        .split_done = split_done,
        .drained = drained,
    };
    return conductor_create(&cluster->conductor->core, &host, cluster->self,
                            NODE_PEER_COUNT_MAX + 1, error);
}

void node_conductor_close(struct node_cluster *cluster)
{
    struct node_conductor *conductor = cluster->conductor;
    if (conductor == NULL) {
        return;
    }
    conductor_destroy(conductor->core);
    buffer_deinit(&conductor->message);
    memory_free(conductor->led);
    memory_free(conductor->planned);
    memory_free(conductor);
}
