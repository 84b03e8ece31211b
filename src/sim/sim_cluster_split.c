/* SPDX-License-Identifier: Apache-2.0 */
/* Shards become two while all the rest goes on (decision 18).
 *
 * Where there are no conductors the world is one: it wishes for children, one of each shard at a time, and tells
 * the parent's leader until somebody has applied the SPLIT, and longer. A node does what src/node does: it opens the child when the store has
 * it, and an empty one where no replica of its own claims the slots; it never forgets a map; and maps
 * go from node to node, with a delay. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "sim/sim_cluster_conductor.h"

enum { TELL_US = 30000, CAMPAIGN_INTERVAL_MS = 5 };

/* ---- Maps ------------------------------------------------------------------------------------ */

/* Whatever the order in which a map came to know of its splits: a range ends where the next begins. */
const struct slots *sim__cluster_map(struct cluster *cluster, cluster_map map)
{
    if (cluster->maps[map] != NULL) {
        return cluster->maps[map];
    }
    struct slots *slots = memory_allocate_zeroed(1, sizeof *slots);
    slots_divide(slots, cluster->nature.shard_count);
    for (uint32_t i = cluster->nature.shard_count; i < cluster->shard_count; i++) {
        if ((map & sim__cluster_map_bit(i)) != 0) {
            uint32_t first_slot = cluster->children[i].first_slot;
            int status = slots_split(slots, slots_shard_of(slots, first_slot), first_slot, i + 1);
            ASSERT(status == 0);
        }
    }
    cluster->maps[map] = slots;
    return slots;
}

void sim__cluster_maps_destroy(struct cluster *cluster)
{
    slots_deinit(&cluster->slots);
    for (uint32_t i = 0; i < sizeof cluster->maps / sizeof cluster->maps[0]; i++) {
        if (cluster->maps[i] != NULL) {
            slots_deinit(cluster->maps[i]);
            memory_free(cluster->maps[i]);
        }
    }
}

struct slots_range sim__cluster_range_of(struct cluster *cluster,
                                         const struct cluster_question *question, cluster_map map)
{
    const struct slots *slots = sim__cluster_map(cluster, map);
    return slots->ranges[slots_place_of(slots, kv_slot_of_key(question->arguments[0]))];
}

/* In one life of three shards split. Drawn apart, as above. */
void sim__cluster_split_draw(struct cluster *cluster)
{
    struct random random;
    random_init(&random, cluster->options.seed ^ 0x73706c697473);
    struct cluster_nature *nature = &cluster->nature;
    if (!random_chance(&random, 1, 3)) {
        return;
    }
    nature->does_split = true;
    nature->split_every_us = sim__cluster_between(&random, 20000, 1500000);
    nature->map_us = sim__cluster_between(&random, 100, 400000);
    nature->key_count = sim__cluster_between(&random, 2, 8);
}

bool sim__cluster_is_born(const struct cluster *cluster, uint32_t place)
{
    return slots_find(&cluster->slots, place + 1) < cluster->slots.range_count;
}

/* ---- The conductor --------------------------------------------------------------------------- */

bool sim__cluster_is_wish_open(const struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        if (cluster->children[i].is_wished && !cluster->children[i].is_born) {
            return true;
        }
    }
    return false;
}

static bool is_parent(const struct cluster *cluster, uint32_t place)
{
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        if (cluster->children[i].is_wished && cluster->children[i].parent == place) {
            return true;
        }
    }
    return false;
}

/* The conductor hears late that it is done, or its word was on its way for long: a wish is carried out
 * once, however often it is told. */
static void tell(struct cluster *cluster, const struct cluster_event *event)
{
    uint32_t place = (uint32_t)event->value;
    struct cluster_child *child = &cluster->children[place];
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        struct cluster_replica *parent = &node->replicas[child->parent];
        if (sim__cluster_node_is_running(node) && parent->shard != NULL &&
            shard_is_ready(parent->shard)) {
            kv_want_split(parent->kv, child->first_slot, place + 1);
            shard_look_at_background(parent->shard);
            sim__cluster_node_look(cluster, node);
        }
    }
    child->is_wished = !child->is_born || random_chance(&cluster->random, 3, 4);
    if (child->is_wished) {
        sim__cluster_schedule(cluster, sim__cluster_delay(cluster, TELL_US), tell, NULL, place,
                              NULL);
    }
}

/* Mostly beside some key: others are all in one half. */
static uint32_t draw_slot(struct cluster *cluster)
{
    if (random_chance(&cluster->random, 1, 4)) {
        return (uint32_t)random_below(&cluster->random, SLOTS_COUNT);
    }
    struct buffer key = {0};
    buffer_append_format(&key, "%c%u", random_chance(&cluster->random, 2, 3) ? 'k' : 'c',
                         (uint32_t)random_below(&cluster->random, cluster->nature.key_count));
    uint32_t slot = kv_slot_of_key(buffer_bytes(&key));
    buffer_deinit(&key);
    return slot + (uint32_t)random_below(&cluster->random, 2);
}

static uint32_t wish(struct cluster *cluster, uint32_t parent, uint32_t slot)
{
    uint32_t place = cluster->shard_count++;
    cluster->oracles[place] = sim__cluster_oracle_create(cluster, place);
    cluster->children[place] =
        (struct cluster_child){.parent = parent, .first_slot = slot, .is_wished = true};
    sim__cluster_note(cluster, "split.wish", parent + 1, place + 1, slot);
    return place;
}

bool sim__cluster_wish_for_split(struct cluster *cluster, uint32_t slot)
{
    const struct slots *slots = &cluster->slots;
    const struct slots_range *range = &slots->ranges[slots_place_of(slots, slot)];
    bool may_be = cluster->older == 0 && cluster->shard_count < CLUSTER_SHARD_COUNT_MAX &&
                  range->first != slot && !is_parent(cluster, range->shard - 1);
    if (may_be) {
        (void)wish(cluster, range->shard - 1, slot);
    }
    return may_be;
}

void sim__cluster_split_some(struct cluster *cluster, const struct cluster_event *event)
{
    uint32_t slot = draw_slot(cluster);
    bool may_be = !cluster->is_healing && cluster->office == NULL && slot < SLOTS_COUNT &&
                  cluster->older == 0 && cluster->shard_count < CLUSTER_SHARD_COUNT_MAX;
    if (may_be) {
        const struct slots *slots = &cluster->slots;
        const struct slots_range *range = &slots->ranges[slots_place_of(slots, slot)];
        if (range->first != slot && !is_parent(cluster, range->shard - 1)) {
            uint32_t place = wish(cluster, range->shard - 1, slot);
            sim__cluster_schedule(cluster, 1, tell, NULL, place, NULL);
        }
    }
    if (!cluster->is_healing && cluster->office != NULL && slot < SLOTS_COUNT) {
        sim__cluster_ask_for_split(cluster, slot); /* As an operator does. */
    }
    if (!cluster->is_healing) {
        sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.split_every_us),
                              sim__cluster_split_some, NULL, 0, NULL);
    }
}

static bool is_member(const struct raft_configuration *configuration, raft_node id)
{
    return raft_configuration_has_voter(configuration, id) ||
           raft_configuration_has_learner(configuration, id);
}

bool sim__cluster_split_lets(const struct cluster *cluster, uint32_t place,
                             const struct raft_configuration *present,
                             const struct raft_configuration *target)
{
    for (uint32_t i = 0; i < cluster->nature.node_count && cluster->map > 0; i++) {
        const struct shard *shard = sim__cluster_node_shard(cluster->nodes[i], place);
        if (is_member(target, i + 1) && !is_member(present, i + 1) && shard == NULL) {
            return false;
        }
    }
    return true;
}

void sim__cluster_emptied(struct cluster *cluster, struct cluster_node *node, uint32_t place)
{
    sim__cluster_note(cluster, "node.discarded", node->id, place + 1, 0);
    cluster->result->discarded_count++;
}

/* ---- Maps on their way ----------------------------------------------------------------------- */

static void learn(struct cluster_node *node, cluster_map map)
{
    map &= ~node->map;
    node->map |= map;
    for (uint32_t i = node->cluster->nature.shard_count; i < node->cluster->shard_count; i++) {
        if ((map & sim__cluster_map_bit(i)) != 0) {
            if (node->route != NULL) {
                route_add_shard(node->route, i + 1);
            }
            sim__cluster_note(node->cluster, "split.map", node->id, node->map, i + 1);
        }
    }
    if (map != 0 && node->conductor != NULL && !node->is_dead) {
        sim__cluster_conductor_tell_map(node);
    }
}

void sim__cluster_split_learn(struct cluster_node *node, cluster_map map)
{
    learn(node, map);
    sim__cluster_split_narrow(node);
}

static void map_arrives(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    sim__cluster_split_learn(node, (cluster_map)event->value);
    sim__cluster_node_look(cluster, node);
}

static void spread(struct cluster *cluster, const struct cluster_event *event)
{
    const struct cluster_node *source = event->pointer;
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        struct cluster_node *target = cluster->nodes[i];
        const struct cluster_link *link = &cluster->links[source->id - 1][target->id - 1];
        if (sim__cluster_node_is_running(source) && sim__cluster_node_is_running(target) &&
            (source->map & ~target->map) != 0 && !link->is_blocked) {
            sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.map_us),
                                  map_arrives, target, source->map, NULL);
        }
    }
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.map_us + 10000),
                          spread, NULL, 0, event->pointer);
}

void sim__cluster_split_spread(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.map_us), spread,
                              NULL, 0, cluster->nodes[i]);
    }
}

static void write_map(struct cluster *cluster, uint32_t parent, const struct slots_range *range)
{
    struct cluster_child *child = &cluster->children[range->shard - 1];
    if (parent != child->parent || range->first != child->first_slot) {
        sim__cluster_fail(cluster, "shard %u is born otherwise than it was wished", range->shard);
        return;
    }
    child->is_born = true;
    cluster->map |= sim__cluster_map_bit(range->shard - 1);
    slots_copy(&cluster->slots, sim__cluster_map(cluster, cluster->map));
    cluster->result->split_count++;
}

void sim__cluster_split_applied(struct cluster *cluster, struct cluster_node *node, uint32_t parent,
                                raft_index index, const struct slots_range *child)
{
    struct cluster_replica *replica = &node->replicas[child->shard - 1];
    sim__cluster_note(cluster, "split.applied", node->id, child->shard, index);
    sim__cluster_oracle_split(cluster, parent, index, child);
    if (!cluster->children[child->shard - 1].is_born) {
        write_map(cluster, parent, child);
    }
    if (node->is_dead) {
        return;
    }
    if (replica->shard != NULL) {
        sim__cluster_fail(cluster, "shard %u of node %u is there before it is born", child->shard,
                          node->id);
        return;
    }
    replica->birth_index = index;
    replica->parent = parent;
}

/* ---- What a node opens ----------------------------------------------------------------------- */

static bool has_row(const struct cluster_node *node, uint8_t kind, uint32_t place)
{
    struct env_store store = memstore_interface(node->memstore);
    const uint8_t key[] = {0x01, kind, 0, 0, 0, (uint8_t)(place + 1)};
    struct buffer row = {0};
    int status =
        store.ops->get(store.context, NULL, ENV_TIER_DISK, bytes_make(key, sizeof key), &row);
    buffer_deinit(&row);
    return status == 0;
}

static bool may_open(const struct cluster_node *node, uint32_t place)
{
    struct slots_range claims[CLUSTER_SHARD_COUNT_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < node->cluster->shard_count; i++) {
        const struct shard *shard = node->replicas[i].shard;
        if (shard != NULL && !shard_is_empty(shard)) {
            claims[count++] = shard_range(shard);
        }
    }
    return slots_may_open(sim__cluster_map(node->cluster, node->map), place + 1, claims, count);
}

static struct slots_range range_in(struct cluster *cluster, cluster_map map, uint32_t place)
{
    const struct slots *slots = sim__cluster_map(cluster, map);
    uint32_t found = slots_find(slots, place + 1);
    return found < slots->range_count ? slots->ranges[found] : (struct slots_range){0};
}

int sim__cluster_split_open(struct cluster_node *node, struct error *error)
{
    struct cluster *cluster = node->cluster;
    int status = 0;
    for (uint32_t i = 0; i < cluster->shard_count && status == 0; i++) {
        bool is_child = i >= cluster->nature.shard_count;
        if (is_child && !has_row(node, 'S', i) && !has_row(node, 'J', i)) {
            continue;
        }
        if (is_child) { /* The store may have it before the map was learned. */
            learn(node, sim__cluster_map_bit(i));
        }
        struct slots_range range = range_in(cluster, is_child ? node->map : 0, i);
        status = sim__cluster_open_shard(node, &range, error);
    }
    return status;
}

void sim__cluster_split_narrow(struct cluster_node *node)
{
    for (uint32_t i = 0; i < node->cluster->shard_count; i++) {
        struct shard *shard = node->replicas[i].shard;
        struct slots_range range = range_in(node->cluster, node->map, i);
        if (shard != NULL && range.shard != 0 && shard_is_empty(shard) &&
            shard_range(shard).end > range.end) {
            shard_narrow(shard, range.first, range.end);
        }
    }
}

static void open_late(struct cluster_node *node, const struct slots_range *range)
{
    struct cluster *cluster = node->cluster;
    uint32_t place = range->shard - 1;
    struct cluster_replica *replica = &node->replicas[place];
    struct error error = {0};
    bool is_born = replica->birth_index != 0;
    const struct shard *parent = node->replicas[replica->parent].shard;
    bool does_campaign = is_born && parent != NULL && shard_is_ready(parent);
    struct env_store store = memstore_interface(node->memstore);
    bool is_lost = false;
    struct memstore_faults none_full = cluster->nature.faults;
    none_full.full_percent = 0; /* The node would stop, and be started again. */
    memstore_set_faults(node->memstore, none_full);
    int status = sim__cluster_open_shard(node, range, &error);
    if (status == 0) {
        status = shard_has_lost(&store, range->shard, &is_lost, &error);
    }
    node->lost_unopened &= ~(UINT64_C(1) << place);
    if (status == 0 && is_lost && shard_is_empty(replica->shard)) {
        status = shard_accept_loss(replica->shard, &error); /* It may have voted. */
    }
    if (status == 0) {
        status = sim__cluster_start_shard(node, place, &error);
    }
    memstore_set_faults(node->memstore, cluster->nature.faults);
    if (status != 0) {
        sim__cluster_fail(cluster, "node %u does not open shard %u: %s (%s)", node->id,
                          range->shard, error.message, error_text(status));
        return;
    }
    replica->does_campaign = does_campaign;
    shard_set_full(replica->shard, node->is_full);
    sim__cluster_note(cluster, is_born ? "split.born" : "split.opened", node->id, range->shard,
                      shard_applied_index(replica->shard));
}

static bool is_due(const struct cluster_node *node, uint32_t place)
{
    const struct cluster_replica *replica = &node->replicas[place];
    if (replica->shard != NULL) {
        return false;
    }
    if (replica->birth_index != 0) {
        const struct shard *parent = node->replicas[replica->parent].shard;
        return shard_stored_index(parent) >= replica->birth_index || shard_is_empty(parent);
    }
    return may_open(node, place);
}

uint64_t sim__cluster_split_tick(struct cluster_node *node, uint64_t now_ms)
{
    struct cluster *cluster = node->cluster;
    uint64_t wake_at_ms = UINT64_MAX;
    sim__cluster_split_narrow(node); /* What was emptied. */
    for (uint32_t i = cluster->nature.shard_count; i < cluster->shard_count; i++) {
        struct cluster_replica *replica = &node->replicas[i];
        if (is_due(node, i)) {
            if (replica->birth_index != 0) { /* Its map is the one with it. */
                learn(node, sim__cluster_map_bit(i));
            }
            struct slots_range range = range_in(cluster, node->map, i);
            open_late(node, &range);
            wake_at_ms = 0;
        }
        if (replica->shard != NULL && replica->does_campaign && now_ms >= replica->campaign_at_ms) {
            replica->does_campaign = shard_leader(replica->shard) == 0;
            replica->campaign_at_ms = now_ms + CAMPAIGN_INTERVAL_MS;
            shard_campaign(replica->shard);
        }
        if (replica->shard != NULL && replica->does_campaign) {
            wake_at_ms = number_min(wake_at_ms, replica->campaign_at_ms);
        }
    }
    return wake_at_ms;
}
