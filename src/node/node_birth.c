/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas of children: born beside the parent's, or opened empty where the map knows of a shard that
 * this node has nothing of (decision 18). */
#include <inttypes.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_recovery.h"

enum {
    LOOK_INTERVAL_MS = 50,
    OPENED_COUNT_MAX =
        256,            /* In one look: whoever learns a large map has other things to do, too. */
    CAMPAIGN_MS = 3000, /* Then an election timeout decides, as anywhere. */
    CAMPAIGN_INTERVAL_MS = 20,
};

/* ---- Opening --------------------------------------------------------------------------------- */

/* They are in the order of their numbers. */
static const struct wal_shard_state *found_in_log(const struct node_shards *shards, wal_shard id)
{
    uint32_t low = 0;
    uint32_t high = shards->found_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (shards->found[middle].shard < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < shards->found_count && shards->found[low].shard == id ? &shards->found[low] : NULL;
}

void node__keep_found(struct node_shards *shards)
{
    for (wal_shard id = SLOTS_FIRST_SHARD; id <= SLOTS_SHARD_COUNT_MAX; id++) {
        struct wal_shard_state state;
        if (node_shards_find(shards, id) == NULL && wal_get_shard_state(shards->wal, id, &state)) {
            shards->found[shards->found_count++] = state;
        }
    }
}

/* While serving: with what the log had of it when the node started. */
static void begin(struct node_shard *shard)
{
    struct node_shards *shards = shard->host;
    struct error error = {0};
    const struct wal_shard_state *state = found_in_log(shards, shard->id);
    struct env_store store = store_interface(shards->store);
    bool has_lost = false;
    int status = shard_has_lost(&store, shard->id, &has_lost, &error);
    bool is_lost = has_lost || (state != NULL && state->last_index > 0);
    if (status == 0 && is_lost && shard_is_empty(shard->shard)) {
        status = shard_accept_loss(shard->shard, &error); /* It may have voted, or acknowledged. */
    }
    if (status == 0) {
        status = shard_start(shard->shard, state, &error);
    }
    if (status != 0) {
        OS_LOG_ERROR(shards->log, "node.shard_failed", "shard=%" PRIu32 " reason=%s action=%s",
                     shard->id, error.message, "check the disk and run: tutti check");
        _exit(NODE_EXIT_STORAGE);
    }
    shard->client.done = &shards->durable;
    node_shard_touch(shard);
}

static struct node_shard *open_or_die(struct node_shards *shards, const struct slots_range *range)
{
    struct error error = {0};
    struct node_shard *shard = node__open_replica(shards, range, &error);
    if (shard == NULL) {
        OS_LOG_ERROR(shards->log, "node.shard_failed", "shard=%" PRIu32 " reason=%s action=%s",
                     range->shard, error.message, "check the disk and run: tutti check");
        _exit(NODE_EXIT_STORAGE);
    }
    begin(shard);
    atomic_fetch_add(&shards->count, 1);
    return shard;
}

/* ---- Births ---------------------------------------------------------------------------------- */

/* A parent that was emptied since had stored everything before. */
static bool is_due(const struct node_birth *birth)
{
    return shard_stored_index(birth->parent->shard) >= birth->index ||
           shard_is_empty(birth->parent->shard);
}

static void drop_birth(struct node_shards *shards, uint32_t place)
{
    shards->birth_count--;
    memmove(&shards->births[place], &shards->births[place + 1],
            (shards->birth_count - place) * sizeof shards->births[0]);
}

int node__bear_before_service(struct node_shards *shards, struct error *error)
{
    for (uint32_t i = 0; i < shards->birth_count;) {
        struct node_birth birth = shards->births[i];
        if (!is_due(&birth)) {
            i++;
            continue;
        }
        drop_birth(shards, i);
        if (node_shards_find(shards, birth.child.shard) == NULL) {
            if (node__open_replica(shards, &birth.child, error) == NULL) {
                return error->code;
            }
            atomic_fetch_add(&shards->count, 1);
        }
    }
    return 0;
}

static void bear(struct node_shards *shards, const struct node_birth *birth, uint64_t now)
{
    if (node_shards_find(shards, birth->child.shard) != NULL) {
        return;
    }
    struct node_shard *child = open_or_die(shards, &birth->child);
    if (shard_is_ready(birth->parent->shard)) {
        child->campaign_until_ms = now + CAMPAIGN_MS;
        shards->campaign_count++;
    }
    OS_LOG_INFO(shards->log, "node.born", "shard=%" PRIu32 " parent=%" PRIu32, child->id,
                birth->parent->id);
}

/* ---- Empty ones ------------------------------------------------------------------------------ */

/* An empty replica claims no more than the map gives it; one that has something, what it has. */
static uint32_t list_claims(struct node_shards *shards, const struct slots *map,
                            struct slots_range *claims)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < shards->count; i++) {
        struct shard *shard = shards->items[i].shard;
        struct slots_range range = shard_range(shard);
        uint32_t place = slots_find(map, shards->items[i].id);
        bool is_wider = place < map->range_count && map->ranges[place].end < range.end;
        if (is_wider && shard_is_empty(shard)) {
            shard_narrow(shard, range.first, map->ranges[place].end);
            range.end = map->ranges[place].end;
        }
        claims[count++] = range;
    }
    return count;
}

static void open_empty_ones(struct node_shards *shards)
{
    const struct slots *map = node_shards_map(shards);
    if (shards->count == map->range_count && shards->map_looked_at_ms != 0) {
        return;
    }
    struct slots_range *claims = memory_allocate(SLOTS_SHARD_COUNT_MAX * sizeof claims[0]);
    uint32_t claim_count = list_claims(shards, map, claims);
    uint32_t opened_count = 0;
    for (uint32_t i = 0; i < map->range_count && opened_count < OPENED_COUNT_MAX; i++) {
        const struct slots_range *range = &map->ranges[i];
        if (node_shards_find(shards, range->shard) == NULL &&
            slots_may_open(map, range->shard, claims, claim_count)) {
            const struct node_shard *shard = open_or_die(shards, range);
            claims[claim_count++] = *range;
            opened_count++;
            OS_LOG_INFO(shards->log, "node.shard_opened", "shard=%" PRIu32, shard->id);
        }
    }
    memory_free(claims);
}

/* ---- Splits that are known and have not happened ---------------------------------------------- */

/* The child that has the end of what the replica has, by the map, if nobody here knows of it; else NULL. */
static const struct slots_range *find_lost_child(struct node_shards *shards,
                                                 const struct node_shard *parent)
{
    const struct slots *map = node_shards_map(shards);
    struct slots_range claim = shard_range(parent->shard);
    uint32_t own = slots_find(map, parent->id);
    if (own == map->range_count || map->ranges[own].end >= claim.end) {
        return NULL;
    }
    const struct slots_range *last = &map->ranges[slots_place_of(map, claim.end - 1)];
    return node_shards_find(shards, last->shard) == NULL ? last : NULL;
}

/* A group's only member, who leads it, has applied every split of it that was committed. If the map tells of one
 * more, that was lost: with the majority that knew of it (decision 17), or with the power where the log need not be
 * flushed. Nobody has the child, and nobody will ask the parent for its slots but by this map: so it happens
 * now. The highest one first, which leaves the others as they were. */
static void split_as_told(struct node_shards *shards)
{
    bool is_any_missing = shards->count < node_shards_map(shards)->range_count;
    for (uint32_t i = 0; i < shards->count && is_any_missing; i++) {
        struct node_shard *parent = &shards->items[i];
        bool is_sure = shard_is_ready(parent->shard) && node_shard_is_alone(parent) &&
                       !kv_wants_split(parent->kv);
        const struct slots_range *child = is_sure ? find_lost_child(shards, parent) : NULL;
        if (child != NULL) {
            kv_want_split(parent->kv, child->first, child->shard);
            shard_look_at_background(parent->shard);
            node_shard_touch(parent);
        }
    }
}

/* ---- Ticks ----------------------------------------------------------------------------------- */

static uint64_t campaign(struct node_shards *shards, uint64_t now)
{
    uint64_t wake_at_ms = UINT64_MAX;
    for (uint32_t i = 0; i < shards->count && shards->campaign_count > 0; i++) {
        struct node_shard *shard = &shards->items[i];
        if (shard->campaign_until_ms == 0) {
            continue;
        }
        if (shard_leader(shard->shard) != 0 || now >= shard->campaign_until_ms) {
            shard->campaign_until_ms = 0;
            shards->campaign_count--;
            continue;
        }
        if (now >= shard->campaign_at_ms) {
            shard->campaign_at_ms = now + CAMPAIGN_INTERVAL_MS;
            node_shard_touch(shard);
            shard_campaign(shard->shard);
        }
        wake_at_ms = shard->campaign_at_ms < wake_at_ms ? shard->campaign_at_ms : wake_at_ms;
    }
    return wake_at_ms;
}

uint64_t node__look_at_map(struct node_shards *shards, uint64_t now)
{
    for (uint32_t i = 0; i < shards->birth_count;) {
        if (is_due(&shards->births[i])) {
            struct node_birth birth = shards->births[i];
            drop_birth(shards, i);
            bear(shards, &birth, now);
        } else {
            i++;
        }
    }
    if (shards->stop_until_ms == 0 && now >= shards->map_looked_at_ms + LOOK_INTERVAL_MS) {
        open_empty_ones(shards);
        split_as_told(shards);
        shards->map_looked_at_ms = now;
    }
    return campaign(shards, now);
}
