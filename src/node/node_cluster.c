/* SPDX-License-Identifier: Apache-2.0 */
/* The peer port and what comes through it, and gossip. */
#include "node/node_cluster.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum {
    RENEWAL_INTERVAL_MS = 60 * 1000,
    TICK_INTERVAL_MS = 50, /* What is done now and then looks at the time itself. */
};

/* The part of the memory for replies that wait to be sent to another node, for each; but so much at least. */
#define REPLY_SHARE 8
#define REPLY_SIZE_BYTES_MIN (8ull << 20)

/* ---- Gossip ---------------------------------------------------------------------------------- */

/* A follower of it need not wait longer than it has promised. */
static void peer_lost(struct node_cluster *cluster, uint32_t node)
{
    node_news_add(cluster, node, true);
}

/* Groups may have fallen quiet without it. */
static void peer_found(struct node_cluster *cluster, uint32_t node)
{
    node_news_add(cluster, node, false);
}

static void hear_of(struct node_cluster *cluster, const struct member_event *event)
{
    if (event->before != event->state) {
        OS_LOG_INFO(cluster->log, "node.member", "node=%" PRIu32 " state=%s before=%s reason=%s",
                    event->node, member_state_text(event->state), member_state_text(event->before),
                    member_reason_text(event->reason));
    }
    if (event->state == MEMBER_STATE_DEAD || event->state == MEMBER_STATE_LEFT) {
        peer_lost(cluster, event->node);
    } else if (event->state == MEMBER_STATE_ALIVE && event->before != event->state) {
        peer_found(cluster, event->node);
    }
}

void node_cluster_step_member(struct node_cluster *cluster, struct member_input *input)
{
    struct member_output output;
    input->now_ms = os_monotonic_ms();
    int status = member_step(cluster->member, input, &output);
    cluster->member_wake_at_ms = output.wake_at_ms;
    if (status != 0) {
        OS_LOG_WARN(cluster->log, "node.gossip", "node=%" PRIu32 " reason=%s", input->node,
                    error_text(status));
        return;
    }
    for (uint32_t i = 0; i < output.send_count; i++) {
        node_cluster_send_member(cluster, output.sends[i].node, output.sends[i].message);
    }
    for (uint32_t i = 0; i < output.event_count; i++) {
        hear_of(cluster, &output.events[i]);
    }
}

static int open_member(struct node_cluster *cluster, struct error *error)
{
    struct member_options options = {
        .self = cluster->self,
        .incarnation = os_wall_clock_ms(),
        .meta = {.boot_id = cluster->boot_id, .version = 1},
        .node_count_max = NODE_PEER_COUNT_MAX + 1,
        .random_seed = cluster->boot_id,
        .now_ms = os_monotonic_ms(),
    };
    int status = member_meta_set_address(&options.meta, bytes_of_text(cluster->peer_text));
    if (status == 0 && cluster->options->zone != NULL) {
        status = member_meta_set_zone(&options.meta, bytes_of_text(cluster->options->zone));
    }
    if (status != 0) {
        return error_set(error, status, "--zone or --advertise is too long");
    }
    return member_create(&cluster->member, &options, error);
}

/* ---- Frames ---------------------------------------------------------------------------------- */

static void frame_came(const struct wire_remote *remote, uint16_t kind, struct bytes payload,
                       void *context)
{
    struct node_cluster *cluster = context;
    struct member_input input = {
        .kind = MEMBER_INPUT_RECEIVE, .node = remote->node_id, .message = payload};
    switch (kind) {
    case NODE_FRAME_SHARD:
    case NODE_FRAME_OTHER_SHARD:
        node_frame_shard_came(cluster, remote->node_id, kind, payload);
        return;
    case NODE_FRAME_BEATS:
        node_beats_came(cluster, remote->node_id, payload);
        return;
    case NODE_FRAME_ROUTE:
        if (route_receive(cluster->route, remote->node_id, remote->boot_id, payload) != 0) {
            OS_LOG_WARN(cluster->log, "node.malformed", "node=%" PRIu32 " kind=%s", remote->node_id,
                        "route");
        }
        return;
    case NODE_FRAME_MEMBER:
        node_cluster_step_member(cluster, &input);
        return;
    case NODE_FRAME_PLACEMENT:
        node_conductor_receive(cluster, remote->node_id, payload);
        return;
    case NODE_FRAME_ROSTER:
        if (!node_cluster_has_rows(cluster)) {
            node_roster_read(cluster, payload, true);
        }
        return;
    case NODE_FRAME_INQUIRY:
        node_inquiry_receive(cluster, remote->node_id, payload);
        return;
    default:
        return; /* Of a newer version. */
    }
}

/* ---- Connections ----------------------------------------------------------------------------- */

static void connected(const struct wire_remote *remote, void *context)
{
    struct node_cluster *cluster = context;
    OS_LOG_INFO(cluster->log, "node.peer_connected",
                "node=%" PRIu32 " software=%s protocol=%" PRIu32, remote->node_id, remote->software,
                remote->version);
    node_versions_note(cluster, remote);
    peer_found(cluster, remote->node_id);
    for (uint32_t i = 0; i < cluster->shards->count; i++) { /* It may know who leads. */
        route_leader_changed(cluster->route, cluster->shards->items[i].id);
    }
    node_conductor_tell_map_to(cluster, remote->node_id);
    node_roster_tell_to(cluster, remote->node_id);
}

static void disconnected(uint32_t node_id, void *context)
{
    struct node_cluster *cluster = context;
    OS_LOG_INFO(cluster->log, "node.peer_disconnected", "node=%" PRIu32, node_id);
    struct node_peer *peer = node_roster_find(cluster, node_id);
    if (peer != NULL) {
        beats_clear(&peer->beats); /* The next connection may be to older software. */
    }
    for (uint32_t i = 0; i < cluster->shards->count; i++) {
        struct node_shard *shard = &cluster->shards->items[i];
        if (!shard_is_quiet(shard->shard)) { /* Else nothing is on its way there. */
            shard_unreachable(shard->shard, node_id);
            node_shard_touch(shard);
        }
    }
    route_peer_gone(cluster->route, node_id);
}

static void accepted(const struct wire_remote *remote, void *context)
{
    struct node_cluster *cluster = context;
    struct node_peer *peer = node_roster_find(cluster, remote->node_id);
    if (peer != NULL) {
        if (peer->boot_id != remote->boot_id) {
            route_peer_gone(cluster->route, remote->node_id);
        }
        peer->boot_id = remote->boot_id;
    }
}

/* Its process has ended, or the network to it broke. */
static void closed(uint32_t node_id, uint64_t boot_id, void *context)
{
    struct node_cluster *cluster = context;
    peer_lost(cluster, node_id);
    route_peer_gone(cluster->route, node_id);
}

static bool admits(uint32_t node_id, void *context)
{
    struct node_cluster *cluster = context;
    const struct system_node *node = system_node_find(cluster->shards->system, node_id);
    if (node_fence_is_up(cluster)) {
        return false;
    }
    if (node == NULL) { /* This node may have no rows, but know a roster. */
        return !node_roster_is_removed(cluster, node_id);
    }
    return node->state != SYSTEM_NODE_REMOVED;
}

/* What it has is not the cluster's any more: it must not serve on. */
static void removed(uint32_t node_id, void *context)
{
    struct node_cluster *cluster = context;
    if (!cluster->is_removed) {
        cluster->is_removed = true;
        OS_LOG_WARN(cluster->log, "node.removed", "by=%" PRIu32 " consequence=%s action=%s",
                    node_id, "this node is no part of the cluster any more, and stops",
                    "to use the machine again, start it with an empty data directory and a token");
        cluster->stop(cluster->stop_context);
    }
}

static void stranger_came(struct wire_stranger *stranger, const char *address, struct bytes payload,
                          void *context)
{
    node_admit(context, stranger, address, payload);
}

static void wire_event(enum os_log_level level, const char *name, const char *text, void *context)
{
    struct node_cluster *cluster = context;
    switch (level) {
    case OS_LOG_ERROR:
        OS_LOG_ERROR(cluster->log, "node.wire", "event=%s text=%s", name, text);
        return;
    case OS_LOG_WARN:
        OS_LOG_WARN(cluster->log, "node.wire", "event=%s text=%s", name, text);
        return;
    case OS_LOG_INFO:
    case OS_LOG_DEBUG:
        OS_LOG_DEBUG(cluster->log, "node.wire", "event=%s text=%s", name, text);
        return;
    }
}

static const struct wire_events wire_events = {
    .frame = frame_came,
    .connected = connected,
    .disconnected = disconnected,
    .accepted = accepted,
    .closed = closed,
    .admits = admits,
    .removed = removed,
    .stranger = stranger_came,
    .event = wire_event,
};

/* ---- The route's host ------------------------------------------------------------------------ */

static uint64_t now_ms(void *context)
{
    return os_monotonic_ms();
}

static int submit_local(void *context, wal_shard id, struct shard_request *request,
                        const struct reply *reply)
{
    struct node_cluster *cluster = context;
    struct node_shard *shard = node_shards_find(cluster->shards, id);
    int status = shard != NULL ? shard_submit(shard->shard, request, reply) : ERROR_NOT_LEADER;
    if (shard == NULL) {
        return status;
    }
    if (status != SHARD_ANSWERED) {
        node_shard_touch(shard);
    } else {
        node_shard_note(shard);
    }
    return status;
}

static raft_node local_leader(void *context, wal_shard id)
{
    struct node_cluster *cluster = context;
    const struct node_shard *shard = node_shards_find(cluster->shards, id);
    raft_node leader = shard != NULL ? shard_leader(shard->shard) : 0;
    return leader == cluster->self && !shard_is_ready(shard->shard) ? 0 : leader;
}

static raft_index local_applied_index(void *context, wal_shard id)
{
    struct node_cluster *cluster = context;
    const struct node_shard *shard = node_shards_find(cluster->shards, id);
    return shard != NULL ? shard_applied_index(shard->shard) : 0;
}

static void set_floor(void *context, wal_shard id, const struct shard_floor *floor)
{
    struct node_cluster *cluster = context;
    const struct node_shard *shard = node_shards_find(cluster->shards, id);
    if (shard != NULL) {
        shard_set_floor(shard->shard, floor); /* What follows has time until its next tick. */
    }
}

static int route_send(void *context, raft_node node, const struct bytes *pieces,
                      uint32_t piece_count)
{
    struct node_cluster *cluster = context;
    _Static_assert(ROUTE_PIECE_COUNT_MAX <= WIRE_PIECES_MAX, "a message of route is one frame");
    int status = wire_send(cluster->wire, node, NODE_FRAME_ROUTE, pieces, piece_count);
    /* Anything else would fail again and again. */
    ASSERT(status == 0 || status == -ENOTCONN || status == -EBUSY);
    return status;
}

static raft_node next_node(void *context, wal_shard id, raft_node after)
{
    const struct node_cluster *cluster = context;
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        if (cluster->peers[i].id > after) {
            return cluster->peers[i].id;
        }
    }
    return cluster->peer_count > 0 ? cluster->peers[0].id : 0;
}

void node_cluster_route_map(struct node_cluster *cluster)
{
    const struct slots *map = node_shards_map(cluster->shards);
    for (uint32_t i = 0; i < map->range_count; i++) {
        if (!route_has_shard(cluster->route, map->ranges[i].shard)) {
            route_add_shard(cluster->route, map->ranges[i].shard);
        }
    }
}

static int open_route(struct node_cluster *cluster, struct error *error)
{
    struct route_options options = {
        .self = cluster->self,
        .host = {.context = cluster,
                 .clock = {.now_ms = now_ms},
                 .submit_local = submit_local,
                 .local_leader = local_leader,
                 .local_applied_index = local_applied_index,
                 .set_floor = set_floor,
                 .send = route_send,
                 .next_node = next_node,
                 .knows_slots = node_versions_know_slots,
                 .knows_floors = node_versions_know_floors},
        .origin = cluster->boot_id,
        .random_seed = cluster->boot_id ^ 0x726f757465,
        .reply_size_bytes_max =
            number_max(cluster->options->memory_size_bytes / REPLY_SHARE, REPLY_SIZE_BYTES_MIN),
    };
    int status = route_create(&cluster->route, &options, error);
    if (status == 0) {
        node_cluster_route_map(cluster);
        status = node_transactions_open(cluster, options.host.clock, error);
    }
    return status;
}

/* ---- Ticks ----------------------------------------------------------------------------------- */

static void renew(struct node_cluster *cluster)
{
    struct error error = {0};
    bool is_renewed = false;
    if (node_identity_renew(&cluster->identity, cluster->data, &is_renewed, &error) != 0) {
        OS_LOG_ERROR(cluster->log, "node.certificate_not_renewed", "reason=%s action=%s",
                     error.message, "free space on the disk; it is tried again each minute");
    } else if (is_renewed) {
        OS_LOG_INFO(cluster->log, "node.certificate_renewed", "node=%" PRIu32, cluster->self);
    }
}

/* Also while it runs the clock may turn out to have been wrong. */
static void renew_each_minute(struct node_cluster *cluster, uint64_t now)
{
    if (now >= cluster->renewal_looked_at_ms + RENEWAL_INTERVAL_MS) {
        cluster->renewal_looked_at_ms = now;
        renew(cluster);
    }
}

/* A new leader is to fall quiet without those that are gone. */
static void tell_lost(struct node_cluster *cluster, struct node_shard *shard)
{
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        struct member_view view = {.state = MEMBER_STATE_SUSPECT};
        (void)member_state(cluster->member, cluster->peers[i].id, &view);
        if (view.state == MEMBER_STATE_DEAD || view.state == MEMBER_STATE_LEFT) {
            shard_peer_lost(shard->shard, cluster->peers[i].id);
        }
    }
}

/* Has the shard another leader than before, or a leader that is ready, or none any more? */
static void look_at_leader(struct node_cluster *cluster, struct node_shard *shard)
{
    raft_node leader = shard_leader(shard->shard);
    bool is_ready = shard_is_ready(shard->shard);
    if (leader == shard->leader && is_ready == shard->was_ready) {
        return;
    }
    if (leader == cluster->self && is_ready) {
        tell_lost(cluster, shard);
    }
    if (leader != shard->leader) {
        OS_LOG_INFO(cluster->log, "node.leader", "shard=%u leader=%" PRIu32, shard->id, leader);
    }
    struct shard_statistics statistics;
    shard_get_statistics(shard->shard, &statistics);
    cluster->epoch += statistics.term - shard->term;
    shard->term = statistics.term;
    shard->leader = leader;
    shard->was_ready = is_ready;
    node_view_set_leader(cluster->view, shard->id, leader);
    route_leader_changed(cluster->route, shard->id);
}

/* What may have changed of shards at which something happened. */
static void look_at(struct node_cluster *cluster, struct node_shard *const *shards,
                    uint32_t shard_count)
{
    for (uint32_t i = 0; i < shard_count; i++) {
        look_at_leader(cluster, shards[i]);
        node_view_note(cluster->view, shards[i]);
    }
}

uint64_t node_cluster_tick(struct node_cluster *cluster, uint64_t now)
{
    if (now >= cluster->member_wake_at_ms) {
        struct member_input input = {.kind = MEMBER_INPUT_TICK};
        node_cluster_step_member(cluster, &input);
    }
    node_roster_look(cluster);
    look_at(cluster, cluster->shards->ticked, cluster->shards->ticked_count);
    look_at(cluster, cluster->shards->touched, cluster->shards->touched_count);
    node_roster_ask(cluster, now);
    node_facts_tick(cluster, now);
    node_news_tick(cluster, now);
    node_inquiry_tick(cluster);
    node_fence_tick(cluster, now);
    renew_each_minute(cluster, now);
    node_pace_tick(cluster, now);
    node_conductor_tick(cluster, now);
    node_view_update(cluster->view, cluster, now);
    uint64_t others_at_ms[] = {node_transactions_tick(cluster, now),
                               node_cluster_tell_map_again(cluster, now)};
    uint64_t wake_at_ms = route_tick(cluster->route);
    node_beats_send(cluster); /* Of all that was woken, too. */
    uint64_t news_at_ms = node_news_wake_at_ms(cluster);
    wake_at_ms = news_at_ms < wake_at_ms ? news_at_ms : wake_at_ms;
    wake_at_ms = others_at_ms[0] < wake_at_ms ? others_at_ms[0] : wake_at_ms;
    wake_at_ms = others_at_ms[1] < wake_at_ms ? others_at_ms[1] : wake_at_ms;
    wake_at_ms = wake_at_ms < cluster->member_wake_at_ms ? wake_at_ms : cluster->member_wake_at_ms;
    return wake_at_ms < now + TICK_INTERVAL_MS ? wake_at_ms : now + TICK_INTERVAL_MS;
}

bool node_cluster_has_rows(const struct node_cluster *cluster)
{
    const struct raft_configuration *members =
        shard_configuration(node_shards_first(cluster->shards)->shard);
    return raft_configuration_has_voter(members, cluster->self) ||
           raft_configuration_has_learner(members, cluster->self);
}

bool node_cluster_is_ready(const struct node_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->shards->count; i++) {
        if (cluster->shards->items[i].leader == 0) {
            return false;
        }
    }
    return true;
}

/* Hand the shard, which is led here, to the one that has most of it. True: there is nobody. */
static bool hand_over(struct node_cluster *cluster, struct shard *shard)
{
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t count = shard_get_peers(shard, peers);
    const struct raft_peer *best = NULL;
    for (uint32_t i = 0; i < count; i++) {
        bool is_better = peers[i].is_voter && !peers[i].is_impaired && !peers[i].is_silent &&
                         wire_is_connected(cluster->wire, peers[i].node) &&
                         (best == NULL || peers[i].match_index > best->match_index);
        best = is_better ? &peers[i] : best;
    }
    return best == NULL || shard_transfer(shard, best->node) == -EINVAL;
}

bool node_cluster_leave(struct node_cluster *cluster)
{
    if (!cluster->is_leaving) {
        cluster->is_leaving = true;
        struct member_input input = {.kind = MEMBER_INPUT_LEAVE};
        node_cluster_step_member(cluster, &input);
    }
    bool is_done = true;
    for (uint32_t i = 0; i < cluster->shards->count; i++) {
        struct node_shard *shard = &cluster->shards->items[i];
        if (shard_is_ready(shard->shard)) {
            node_shard_touch(shard);
            is_done &= hand_over(cluster, shard->shard);
        }
    }
    return is_done;
}

/* ---- Open and close -------------------------------------------------------------------------- */

static int open_wire(struct node_cluster *cluster, struct error *error)
{
    struct wire_options options = {
        .listener = {.address = cluster->options->peer, .flag = "--peer"},
        .cluster = node_data_cluster_id(cluster->data),
        .node_id = cluster->self,
        .boot_id = cluster->boot_id,
        .tls = cluster->identity.tls,
        .version_min = node_versions_min(cluster),
        .version_max = NODE_PROTOCOL_MAX,
        .software = TUTTI_VERSION,
        .admits_strangers = true,
        .events = &wire_events,
        .context = cluster,
    };
    int status = wire_open(&cluster->wire, cluster->loop, &options, error);
    if (status != 0) {
        return status;
    }
    char text[OS_ADDRESS_TEXT_SIZE];
    struct os_address address = wire_address(cluster->wire);
    (void)snprintf(cluster->peer_text, sizeof cluster->peer_text, "%s",
                   cluster->options->advertise != NULL ? cluster->options->advertise
                                                       : os_address_format(&address, text));
    return 0;
}

int node_cluster_open(struct node_cluster **cluster, const struct node_cluster_options *options,
                      struct error *error)
{
    struct node_cluster *created = memory_allocate_zeroed(1, sizeof *created);
    list_init(&created->errands);
    created->shards = options->shards;
    created->data = options->data;
    created->options = options->options;
    created->loop = options->loop;
    created->log = options->options->log;
    created->self = node_data_node_id(options->data);
    created->self_state = SYSTEM_NODE_ACTIVE;
    created->sampler = options->sampler;
    created->started_at_ms = options->started_at_ms;
    created->halver = options->halver;
    created->stop = options->removed;
    created->stop_context = options->context;
    (void)snprintf(created->redis_text, sizeof created->redis_text, "%s", options->redis);
    (void)snprintf(created->admin_text, sizeof created->admin_text, "%s", options->admin);
    os_random_fill(&created->boot_id, sizeof created->boot_id);
    created->boot_id |= 1;
    created->view =
        node_view_create(node_data_cluster_id(options->data), created->self, options->shards);
    int status = node_identity_open(&created->identity, options->data, error);
    if (status == 0) {
        renew(created); /* Others would refuse what is not valid. */
        status = open_wire(created, error);
    }
    if (status == 0) {
        status = open_member(created, error);
    }
    if (status == 0) {
        status = open_route(created, error);
    }
    if (status == 0) {
        status = node_conductor_open(created, error);
    }
    if (status == 0) {
        node_inquiries_open(created);
        status = node_fence_open(created, error);
    }
    if (status != 0) {
        node_cluster_close(created);
        return status;
    }
    node_roster_load(created);
    options->shards->cluster = created;
    node_news_add(created, 0, true); /* Replicas begin quiet. */
    *cluster = created;
    return 0;
}

struct os_address node_cluster_address(const struct node_cluster *cluster)
{
    return wire_address(cluster->wire);
}

void node_cluster_close(struct node_cluster *cluster)
{
    if (cluster == NULL) {
        return;
    }
    cluster->shards->cluster = NULL;
    if (cluster->wire != NULL) {
        wire_close(cluster->wire);
    }
    if (cluster->route != NULL) {
        route_destroy(cluster->route);
    }
    txn_destroy(cluster->transactions);
    node_errands_close(cluster);
    node_inquiries_close(cluster);
    node_fence_close(cluster);
    if (cluster->member != NULL) {
        member_destroy(cluster->member);
    }
    node_conductor_close(cluster);
    node_view_destroy(cluster->view);
    node_identity_close(&cluster->identity);
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        beats_deinit(&cluster->peers[i].beats);
    }
    buffer_deinit(&cluster->roster_saved);
    memory_free(cluster->removed);
    memory_free(cluster);
}
