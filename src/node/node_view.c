/* SPDX-License-Identifier: Apache-2.0 */
/* What gateways on any reactor tell clients of the cluster: a copy, made anew on reactor 0 when
 * something changed. */
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

enum { INTERVAL_MS = 100, VOTER_COUNT_MAX = RAFT_VOTER_COUNT_MAX };

struct view_node {
    uint32_t id;
    struct resp_place place; /* Empty host: this node. */
    uint16_t peer_port;
    bool is_online;
};

struct view_shard {
    uint32_t replicas[VOTER_COUNT_MAX];
    uint32_t replica_count;
};

struct node_view {
    const struct node_shards *node_shards;
    char id[TLS_CLUSTER_TEXT_SIZE];
    uint32_t self;
    struct os_mutex *mutex; /* Over all that follows, but for `leaders`. */
    uint64_t epoch;
    uint64_t offset;
    struct view_node nodes[NODE_PEER_COUNT_MAX + 1];
    uint32_t node_count;
    struct view_shard shards[SLOTS_SHARD_COUNT_MAX]; /* By node_place_of(). */
    uint64_t made_at_ms;                             /* Reactor 0's. */
    _Atomic uint32_t leaders[SLOTS_SHARD_COUNT_MAX]; /* 0: not known, or this node. */
};

struct node_view *node_view_create(const char *cluster_id, uint32_t self,
                                   const struct node_shards *shards)
{
    struct node_view *view = memory_allocate_zeroed(1, sizeof *view);
    view->mutex = os_mutex_create();
    view->self = self;
    view->node_shards = shards;
    (void)snprintf(view->id, sizeof view->id, "%s", cluster_id);
    return view;
}

void node_view_destroy(struct node_view *view)
{
    if (view != NULL) {
        os_mutex_destroy(view->mutex);
        memory_free(view);
    }
}

/* "10.0.0.1:6379", "[::1]:6379" or "name:6379": without brackets, and the port by itself. Nobody is
 * asked where a name is. */
static void parse_place(struct resp_place *place, const char *text)
{
    char host[OS_HOST_SIZE];
    uint16_t port = 0;
    *place = (struct resp_place){0};
    if (os_address_split(text, host, &port)) {
        _Static_assert(sizeof place->host >= sizeof host, "any host");
        memcpy(place->host, host, strlen(host) + 1);
        place->port = port;
    }
}

static void add(struct node_view *view, const struct node_cluster *cluster, uint32_t id,
                const char *redis, const char *peer)
{
    struct member_view known = {.state = MEMBER_STATE_SUSPECT};
    struct resp_place peer_place;
    struct view_node *node = &view->nodes[view->node_count++];
    (void)member_state(cluster->member, id, &known);
    parse_place(&peer_place, peer);
    *node = (struct view_node){
        .id = id,
        .peer_port = peer_place.port,
        .is_online = id == cluster->self || known.state == MEMBER_STATE_ALIVE,
    };
    parse_place(&node->place, redis);
}

void node_view_set_leader(struct node_view *view, wal_shard shard, raft_node leader)
{
    atomic_store_explicit(&view->leaders[node_place_of(shard)], leader == view->self ? 0 : leader,
                          memory_order_relaxed);
}

void node_view_note(struct node_view *view, const struct node_shard *node_shard)
{
    const struct raft_configuration *members = shard_configuration(node_shard->shard);
    struct view_shard *shard = &view->shards[node_place_of(node_shard->id)];
    if (shard->replica_count == members->voter_count &&
        memcmp(shard->replicas, members->voters, sizeof shard->replicas) == 0) {
        return;
    }
    os_mutex_lock(view->mutex);
    shard->replica_count = members->voter_count;
    memcpy(shard->replicas, members->voters, sizeof shard->replicas);
    os_mutex_unlock(view->mutex);
}

void node_view_update(struct node_view *view, const struct node_cluster *cluster, uint64_t now_ms)
{
    if (now_ms < view->made_at_ms + INTERVAL_MS) {
        return;
    }
    view->made_at_ms = now_ms;
    os_mutex_lock(view->mutex);
    view->node_count = 0;
    view->epoch = cluster->epoch;
    view->offset = cluster->shards->sum.shard.applied_index; /* Only this thread changes it. */
    add(view, cluster, cluster->self, "", cluster->peer_text);
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        const struct node_peer *other = &cluster->peers[i];
        add(view, cluster, other->id, other->redis, other->address);
    }
    os_mutex_unlock(view->mutex);
}

/* Slots of a shard, with its leader first. */
static void describe_shard(const struct node_view *view, const struct slots_range *slots,
                           const struct view_shard *shard, struct resp_cluster *target)
{
    uint32_t leader =
        atomic_load_explicit(&view->leaders[node_place_of(slots->shard)], memory_order_relaxed);
    uint32_t replicas[VOTER_COUNT_MAX];
    uint32_t replica_count = 0;
    leader = leader == 0 ? view->self : leader;
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (shard->replicas[i] != leader) {
            replicas[replica_count++] = shard->replicas[i];
        }
    }
    struct resp_cluster_range range = {.first = (uint16_t)slots->first,
                                       .last = (uint16_t)(slots->end - 1),
                                       .leader = leader,
                                       .replicas = replicas,
                                       .replica_count = replica_count};
    resp_cluster_add_range(target, &range);
}

static void describe_node(const struct node_view *view, const struct view_node *known,
                          uint64_t offset, struct resp_cluster *target)
{
    struct resp_cluster_node node = {
        .id = known->id,
        .host = known->place.host,
        .port = known->place.port,
        .peer_port = known->peer_port,
        .is_self = known->id == view->self,
        .is_online = known->is_online,
        .offset = offset,
    };
    resp_cluster_add_node(target, &node);
}

/* Of what the mutex is over, a copy. */
struct excerpt {
    uint64_t epoch;
    uint64_t offset;
    uint32_t node_count;
    struct view_node nodes[NODE_PEER_COUNT_MAX + 1];
    struct view_shard shards[]; /* In the order of the map's ranges. */
};

static struct excerpt *take_excerpt(struct node_view *view, const struct slots *map)
{
    struct excerpt *excerpt =
        memory_allocate(sizeof *excerpt + map->range_count * sizeof excerpt->shards[0]);
    os_mutex_lock(view->mutex);
    excerpt->epoch = view->epoch;
    excerpt->offset = view->offset;
    excerpt->node_count = view->node_count;
    memcpy(excerpt->nodes, view->nodes, view->node_count * sizeof excerpt->nodes[0]);
    for (uint32_t i = 0; i < map->range_count && view->node_count > 1; i++) {
        excerpt->shards[i] = view->shards[node_place_of(map->ranges[i].shard)];
    }
    os_mutex_unlock(view->mutex);
    return excerpt;
}

void node_view_describe(struct node_view *view, struct resp_cluster *target)
{
    const struct slots *map = node_shards_map(view->node_shards);
    struct excerpt *excerpt = take_excerpt(view, map);
    if (excerpt->node_count > 1) {
        resp_cluster_set(target, view->id, excerpt->epoch);
        for (uint32_t i = 0; i < excerpt->node_count; i++) {
            describe_node(view, &excerpt->nodes[i], excerpt->offset, target);
        }
        for (uint32_t i = 0; i < map->range_count; i++) {
            describe_shard(view, &map->ranges[i], &excerpt->shards[i], target);
        }
    }
    memory_free(excerpt);
}

bool node_view_find_leader(struct node_view *view, uint16_t slot, struct resp_place *place)
{
    wal_shard shard = slots_shard_of(node_shards_map(view->node_shards), slot);
    uint32_t leader =
        atomic_load_explicit(&view->leaders[node_place_of(shard)], memory_order_relaxed);
    if (leader == 0) {
        return false;
    }
    bool is_known = false;
    os_mutex_lock(view->mutex);
    for (uint32_t i = 0; i < view->node_count; i++) {
        if (view->nodes[i].id == leader && view->nodes[i].place.host[0] != '\0') {
            *place = view->nodes[i].place;
            is_known = true;
        }
    }
    os_mutex_unlock(view->mutex);
    return is_known;
}
