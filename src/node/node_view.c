/* SPDX-License-Identifier: Apache-2.0 */
/* What gateways on any reactor tell clients of the cluster: a copy, made anew on reactor 0 when
 * something changed. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

enum { INTERVAL_MS = 100, SLOT_COUNT = 16384 };

struct view_node {
    uint32_t id;
    struct resp_place place; /* Empty host: this node. */
    uint16_t peer_port;
    bool is_online;
    bool is_replica;
};

struct node_view {
    struct os_mutex *mutex; /* Over all that follows, but for `leader`. */
    char id[TLS_CLUSTER_TEXT_SIZE];
    uint64_t epoch;
    uint64_t offset;
    struct view_node nodes[NODE_PEER_COUNT_MAX + 1];
    uint32_t node_count;
    uint32_t self;
    uint64_t made_at_ms;     /* Reactor 0's. */
    _Atomic uint32_t leader; /* 0: not known, or this node. */
};

struct node_view *node_view_create(const char *cluster_id, uint32_t self)
{
    struct node_view *view = memory_allocate_zeroed(1, sizeof *view);
    view->mutex = os_mutex_create();
    view->self = self;
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

/* "10.0.0.1:6379" or "[::1]:6379": without brackets, and the port by itself. */
static void parse_place(struct resp_place *place, const char *text)
{
    *place = (struct resp_place){0};
    struct os_address address;
    if (text[0] == '\0' || os_address_parse(&address, text, NULL) != 0) {
        return;
    }
    const char *colon = strrchr(text, ':');
    bool is_bracketed = text[0] == '[';
    size_t length = colon != NULL ? (size_t)(colon - text) : 0;
    if (is_bracketed && length >= 2) {
        text++;
        length -= 2;
    }
    if (length < sizeof place->host) {
        memcpy(place->host, text, length);
        place->port = colon != NULL ? (uint16_t)strtoul(colon + 1, NULL, 10) : 0;
    }
}

static void add(struct node_view *view, const struct node_cluster *cluster, uint32_t id,
                const char *redis, const char *peer)
{
    const struct raft_configuration *members = shard_configuration(cluster->shard->shard);
    struct member_view known = {.state = MEMBER_STATE_SUSPECT};
    struct resp_place peer_place;
    struct view_node *node = &view->nodes[view->node_count++];
    (void)member_state(cluster->member, id, &known);
    parse_place(&peer_place, peer);
    *node = (struct view_node){
        .id = id,
        .peer_port = peer_place.port,
        .is_online = id == cluster->self || known.state == MEMBER_STATE_ALIVE,
        .is_replica = raft_configuration_has_voter(members, id),
    };
    parse_place(&node->place, redis);
}

void node_view_update(struct node_view *view, const struct node_cluster *cluster, uint64_t now_ms)
{
    raft_node leader = shard_leader(cluster->shard->shard);
    atomic_store_explicit(&view->leader, leader == cluster->self ? 0 : leader,
                          memory_order_relaxed);
    if (now_ms < view->made_at_ms + INTERVAL_MS) {
        return;
    }
    view->made_at_ms = now_ms;
    char peer[OS_ADDRESS_TEXT_SIZE];
    os_mutex_lock(view->mutex);
    view->node_count = 0;
    view->epoch = cluster->shard_term;
    view->offset = shard_applied_index(cluster->shard->shard);
    add(view, cluster, cluster->self, "", cluster->peer_text);
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        const struct node_peer *other = &cluster->peers[i];
        add(view, cluster, other->id, other->redis, os_address_format(&other->address, peer));
    }
    os_mutex_unlock(view->mutex);
}

void node_view_describe(struct node_view *view, struct resp_cluster *target)
{
    uint32_t replicas[NODE_PEER_COUNT_MAX + 1];
    uint32_t replica_count = 0;
    uint32_t leader = atomic_load_explicit(&view->leader, memory_order_relaxed);
    os_mutex_lock(view->mutex);
    if (view->node_count > 1) {
        resp_cluster_set(target, view->id, view->epoch);
        leader = leader == 0 ? view->self : leader;
        for (uint32_t i = 0; i < view->node_count; i++) {
            const struct view_node *known = &view->nodes[i];
            struct resp_cluster_node node = {
                .id = known->id,
                .host = known->place.host,
                .port = known->place.port,
                .peer_port = known->peer_port,
                .is_self = known->id == view->self,
                .is_online = known->is_online,
                .offset = view->offset,
            };
            resp_cluster_add_node(target, &node);
            if (known->is_replica && known->id != leader) {
                replicas[replica_count++] = known->id;
            }
        }
        struct resp_cluster_range range = {.first = 0,
                                           .last = SLOT_COUNT - 1,
                                           .leader = leader,
                                           .replicas = replicas,
                                           .replica_count = replica_count};
        resp_cluster_add_range(target, &range);
    }
    os_mutex_unlock(view->mutex);
}

bool node_view_find_leader(struct node_view *view, struct resp_place *place)
{
    uint32_t leader = atomic_load_explicit(&view->leader, memory_order_relaxed);
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
