/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas of a shard that keep what shard.h promises and nothing more. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/route/route_world_internal.h"

/* ---- The log --------------------------------------------------------------------------------- */

static void grow_effects(struct world *world)
{
    if (world->effect_count == world->effect_capacity) {
        world->effect_capacity = world->effect_capacity * 2 + 256;
        world->effects =
            memory_resize(world->effects, world->effect_capacity * sizeof world->effects[0]);
    }
}

/* Where it is, or would be. */
static struct world_identity *identity_of(const struct world *world, uint64_t origin,
                                          uint64_t sequence)
{
    uint64_t mask = world->identity_capacity - 1;
    uint64_t place = (origin ^ sequence) * UINT64_C(0x9e3779b97f4a7c15) >> 32 & mask;
    struct world_identity *identity = &world->identities[place];
    while (identity->origin != 0 &&
           (identity->origin != origin || identity->sequence != sequence)) {
        place = (place + 1) & mask;
        identity = &world->identities[place];
    }
    return identity;
}

static void grow_identities(struct world *world)
{
    struct world_identity *old = world->identities;
    uint64_t old_capacity = world->identity_capacity;
    world->identity_capacity = old_capacity == 0 ? 1024 : old_capacity * 2;
    world->identities = memory_allocate_zeroed(world->identity_capacity, sizeof *old);
    for (uint64_t i = 0; i < old_capacity; i++) {
        if (old[i].origin != 0) {
            *identity_of(world, old[i].origin, old[i].sequence) = old[i];
        }
    }
    memory_free(old);
}

static struct world_identity *make_identity(struct world *world, uint64_t origin, uint64_t sequence)
{
    if (world->identity_count * 2 >= world->identity_capacity) {
        grow_identities(world);
    }
    struct world_identity *identity = identity_of(world, origin, sequence);
    if (identity->origin == 0) {
        world->identity_count++;
        *identity = (struct world_identity){.origin = origin, .sequence = sequence};
    }
    return identity;
}

static void append_effect(struct world *world, const struct shard_request *request, uint64_t token)
{
    grow_effects(world);
    world->effects[world->effect_count++] = token;
    make_identity(world, request->origin, request->sequence)->position = world->effect_count;
    struct world_call *call = &world->calls[token - 1];
    if (call->effect_position != 0) {
        route__world_fail(world, "request %llu took effect twice, at %llu and %llu",
                          (unsigned long long)token - 1, (unsigned long long)call->effect_position,
                          (unsigned long long)world->effect_count);
    }
    if (world_is_write(call->kind) && call->status < 0 && call->status != ERROR_OUTCOME_UNKNOWN) {
        route__world_fail(world, "request %llu had been refused (%d), and takes effect",
                          (unsigned long long)token - 1, call->status);
    }
    if (call->split_count != world->split_count) {
        route__world_fail(world, "request %llu takes effect, and the shard has other slots",
                          (unsigned long long)token - 1);
    }
    uint32_t *ordinal = &world->session_ordinals[call->session];
    /* A read of other keys may come later, once it had to be asked again. */
    bool is_ordered = world_is_write(call->kind) || call->key == 0;
    if (is_ordered && call->ordinal < *ordinal) {
        route__world_fail(world, "request %llu takes effect after what its session asked for later",
                          (unsigned long long)token - 1);
    }
    *ordinal = call->ordinal >= *ordinal ? call->ordinal + 1 : *ordinal;
    TRACE("world.effect", token - 1, call->session, call->ordinal, world->effect_count);
    call->effect_position = world->effect_count;
}

uint64_t route__world_window_start(const struct world *world)
{
    uint64_t count = world->options.window_count;
    return count != 0 && world->effect_count > count ? world->effect_count - count : 0;
}

static struct shard_floor *floor_of(struct world *world, uint64_t origin)
{
    for (uint32_t i = 0; i < world->floor_count; i++) {
        if (world->floors[i].origin == origin) {
            return &world->floors[i];
        }
    }
    ASSERT(world->floor_count < ROUTE__WORLD_FLOOR_COUNT_MAX);
    struct shard_floor *floor = &world->floors[world->floor_count++];
    *floor = (struct shard_floor){.origin = origin};
    return floor;
}

void route__world_set_floor(struct world *world, const struct shard_floor *floor)
{
    struct shard_floor *known = floor_of(world, floor->origin);
    known->floor = floor->floor > known->floor ? floor->floor : known->floor;
}

static bool is_forgotten(struct world *world, const struct shard_request *request)
{
    return request->sequence < floor_of(world, request->origin)->floor;
}

/* The position of what took effect under this identity, as far as the window reaches; or 0. */
static uint64_t window_find(struct world *world, const struct shard_request *request)
{
    if (is_forgotten(world, request) || world->identity_count == 0) {
        return 0;
    }
    uint64_t position = identity_of(world, request->origin, request->sequence)->position;
    return position > route__world_window_start(world) ? position : 0;
}

static void write_reply(struct buffer *target, uint64_t token, uint64_t position)
{
    uint8_t *place = buffer_extend(target, 16);
    endian_put_u64_le(place, token);
    endian_put_u64_le(place + 8, position);
}

/* ---- Entries --------------------------------------------------------------------------------- */

static struct world_entry *entry_create(struct world_node *node, struct shard_request *request)
{
    struct bytes padding = request->command.arguments[1];
    struct world_entry *entry = memory_allocate_zeroed(1, sizeof *entry + padding.size_bytes);
    entry->request = request;
    entry->epoch = node->replica.epoch;
    entry->token = endian_get_u64_le(request->command.arguments[0].data);
    entry->arguments[0] = bytes_make(&entry->token, sizeof entry->token);
    entry->arguments[1] = bytes_make(entry + 1, padding.size_bytes);
    if (request->is_write) {
        entry->origin = request->origin;
        entry->sequence = request->sequence;
        make_identity(node->world, entry->origin, entry->sequence)->entry_counts[node->index]++;
    }
    request->copy = entry;
    request->command.arguments = NULL; /* Nobody needs the borrowed ones any more. */
    list_init(&entry->link);
    list_init(&request->link);
    list_push_back(&node->replica.entries, &entry->link);
    return entry;
}

static void entry_remove(struct world_node *node, struct world_entry *entry)
{
    list_remove(&entry->link);
    if (entry->origin != 0) {
        identity_of(node->world, entry->origin, entry->sequence)->entry_counts[node->index]--;
    }
}

static void finish_alone(struct world_node *node, struct world_entry *entry, int status,
                         uint64_t position)
{
    struct shard_request *request = entry->request;
    struct shard_session *session = request->session;
    node->is_touched = true;
    entry_remove(node, entry);
    session->pending_count -= entry->state != ENTRY_WAITING;
    if (entry->state == ENTRY_ELSEWHERE) {
        session->is_alone = false;
    }
    request->command.arguments = entry->arguments;
    request->copy = NULL;
    TRACE("world.replica_done", node->index + 1, entry->token - 1, -status, position);
    struct buffer reply = {0};
    if (status == 0) {
        write_reply(&reply, entry->token, position);
    }
    request->done(request, status, buffer_bytes(&reply));
    buffer_deinit(&reply);
    memory_free(entry);
}

/* Does the leadership go on in which it was submitted? */
static bool is_current(const struct world_node *node, const struct world_entry *entry)
{
    return node->replica.does_lead && entry->epoch == node->replica.epoch;
}

static bool is_true_leader(const struct world_node *node)
{
    return node->world->leader == node->index && node->replica.does_lead;
}

/* Returns whether it is answered, as of now. */
static bool start(struct world_node *node, struct world_entry *entry)
{
    struct world *world = node->world;
    struct shard_session *session = entry->request->session;
    session->pending_count++;
    entry->state = ENTRY_OPEN;
    if (entry->request->is_write) {
        if (route__world_chance(world, world->options.late_write_permille)) {
            entry->state = ENTRY_ELSEWHERE;
        }
    } else if (session->pending_count == 1) {
        if (is_true_leader(node) &&
            !route__world_chance(world, world->options.late_read_permille)) {
            return true;
        }
        entry->state = ENTRY_ELSEWHERE;
        entry->has_snapshot = is_true_leader(node);
        entry->snapshot = world->effect_count;
    }
    session->is_alone = entry->state == ENTRY_ELSEWHERE;
    /* Order is that of opening. */
    list_remove(&entry->link);
    list_push_back(&node->replica.entries, &entry->link);
    return false;
}

static void resume(struct world_node *node, struct shard_session *session)
{
    while (!session->is_alone && !list_is_empty(&session->waiting)) {
        struct shard_request *request =
            LIST_ITEM(list_pop_front(&session->waiting), struct shard_request, link);
        bool is_last = list_is_empty(&session->waiting);
        struct world_entry *entry = request->copy;
        if (!is_current(node, entry)) {
            finish_alone(node, entry, ERROR_NOT_LEADER, 0);
        } else {
            uint64_t position = request->is_write ? window_find(node->world, request) : 0;
            if (position != 0) {
                finish_alone(node, entry, 0, position);
            } else if (start(node, entry)) {
                finish_alone(node, entry, 0, node->world->effect_count);
            }
        }
        if (is_last) {
            return; /* The session may be gone. */
        }
    }
}

static void finish(struct world_node *node, struct world_entry *entry, int status,
                   uint64_t position)
{
    struct shard_session *session = entry->request->session;
    bool has_waiting = !list_is_empty(&session->waiting);
    finish_alone(node, entry, status, position);
    if (has_waiting) {
        resume(node, session);
    }
}

/* ---- Splits ---------------------------------------------------------------------------------- */

uint16_t route__world_end_slot(uint32_t split_count)
{
    return (uint16_t)(SLOTS_COUNT >> split_count);
}

uint32_t route__world_splits_at(const struct world *world, uint64_t position)
{
    uint32_t count = 0;
    while (count < world->split_count && world->split_positions[count] <= position) {
        count++;
    }
    return count;
}

uint32_t route__world_applied_splits(const struct world_node *node)
{
    const struct world *world = node->world;
    return route__world_splits_at(world, is_true_leader(node) ? world->effect_count
                                                              : node->replica.applied_position);
}

/* A status, or 1: go on. Shards only become smaller, so a replica that has more lags: that is no reason
 * to ask by another map, nor to let others of the session pass. */
static int compare_slots(const struct world_node *node, const struct shard_request *request)
{
    ASSERT(request->end_slot == 0 || request->first_slot == 0);
    uint16_t end_slot = route__world_end_slot(route__world_applied_splits(node));
    if (request->end_slot == 0 || request->end_slot == end_slot) {
        return 1;
    }
    if (request->end_slot > end_slot) {
        return ERROR_MOVED;
    }
    return request->may_be_stale && !request->is_write ? 1 : -EBUSY;
}

/* ---- Submitting ------------------------------------------------------------------------------ */

/* A status, or 1: go on. */
static int look_up(struct world_node *node, struct shard_request *request,
                   const struct reply *reply)
{
    struct world *world = node->world;
    ASSERT(request->origin != 0 && request->sequence != 0);
    if (make_identity(world, request->origin, request->sequence)->entry_counts[node->index] > 0) {
        return -EBUSY;
    }
    uint64_t position = window_find(world, request);
    if (position != 0) {
        write_reply(reply->target, world->effects[position - 1], position);
        return SHARD_ANSWERED;
    }
    if (request->is_retry && is_forgotten(world, request)) {
        PROBE("world.retry_forgotten"); /* It stood in a queue, and was given up. */
        return ERROR_OUTCOME_UNKNOWN;
    }
    if (request->is_retry && request->known_index < route__world_window_start(world)) {
        return ERROR_OUTCOME_UNKNOWN;
    }
    int status = compare_slots(node, request);
    if (status != 1) {
        return status;
    }
    if (request->command.arguments[1].size_bytes > ROUTE__WORLD_TOO_LARGE_BYTES) {
        return -E2BIG;
    }
    return request->does_grow && world->is_full ? -ENOSPC : 1;
}

static int submit(struct world_node *node, struct shard_request *request, const struct reply *reply)
{
    struct world *world = node->world;
    ASSERT(request->command.argument_count == 2);
    uint64_t token = endian_get_u64_le(request->command.arguments[0].data);
    ASSERT(token >= 1 && token <= world->call_count);
    if (!node->replica.does_lead) {
        if (!request->may_be_stale) {
            return ERROR_NOT_LEADER;
        }
        if (compare_slots(node, request) == ERROR_MOVED) {
            return ERROR_MOVED;
        }
        write_reply(reply->target, token, node->replica.applied_position);
        return SHARD_ANSWERED;
    }
    if (world->is_busy || route__world_chance(world, world->options.busy_permille)) {
        return -EBUSY;
    }
    int status = request->is_write ? look_up(node, request, reply) : compare_slots(node, request);
    if (status != 1) {
        return status;
    }
    struct shard_session *session = request->session;
    struct world_entry *entry = entry_create(node, request);
    if (session->is_alone || !list_is_empty(&session->waiting)) {
        entry->state = ENTRY_WAITING;
        list_push_back(&session->waiting, &request->link);
    } else if (start(node, entry)) {
        session->pending_count--;
        write_reply(reply->target, entry->token, world->effect_count);
        entry_remove(node, entry);
        request->copy = NULL;
        memory_free(entry);
        return SHARD_ANSWERED;
    }
    return SHARD_PENDING;
}

int route__world_submit(struct world_node *node, struct shard_request *request,
                        const struct reply *reply)
{
    uint64_t token = endian_get_u64_le(request->command.arguments[0].data);
    int status = submit(node, request, reply);
    TRACE("world.replica_submit", node->index + 1, token - 1,
          request->is_write + 2 * request->is_retry, status < 0 ? -status : status);
    return status;
}

/* ---- Time ------------------------------------------------------------------------------------ */

static struct world_entry *first_in(struct world_node *node, int state)
{
    LIST_EACH(member, next, &node->replica.entries)
    {
        struct world_entry *entry = LIST_ITEM(member, struct world_entry, link);
        if ((int)entry->state == state) {
            return entry;
        }
    }
    return NULL;
}

static struct world_entry *last_in(struct world_node *node, int state)
{
    struct world_entry *last = NULL;
    LIST_EACH(member, next, &node->replica.entries)
    {
        struct world_entry *entry = LIST_ITEM(member, struct world_entry, link);
        last = (int)entry->state == state ? entry : last;
    }
    return last;
}

static void fetched(struct world_node *node, struct world_entry *entry)
{
    struct world *world = node->world;
    struct shard_session *session = entry->request->session;
    bool is_leading = is_current(node, entry);
    if (!entry->request->is_write) {
        if (entry->has_snapshot && (is_leading || route__world_chance(world, 500))) {
            finish(node, entry, 0, entry->snapshot);
        } else if (!is_leading) {
            finish(node, entry, ERROR_NOT_LEADER, 0);
        } else if (is_true_leader(node)) {
            entry->has_snapshot = true;
            entry->snapshot = world->effect_count;
        }
        return;
    }
    if (!is_leading) {
        finish(node, entry, ERROR_NOT_LEADER, 0);
        return;
    }
    uint64_t position = window_find(world, entry->request);
    if (position != 0) {
        finish(node, entry, 0, position);
        return;
    }
    entry->state = ENTRY_OPEN;
    session->is_alone = false;
    list_remove(&entry->link);
    list_push_back(&node->replica.entries, &entry->link);
    resume(node, session);
}

static void commit_some(struct world_node *node)
{
    struct world *world = node->world;
    uint64_t count = 1 + random_below(&world->random, 40);
    for (struct world_entry *entry; count > 0 && (entry = first_in(node, ENTRY_OPEN)) != NULL;
         count--) {
        if (entry->request->is_write) {
            append_effect(world, entry->request, entry->token);
        }
        finish(node, entry, 0, world->effect_count);
    }
    node->replica.applied_position = world->effect_count;
}

void route__world_replica_step(struct world_node *node)
{
    struct world *world = node->world;
    while (route__world_chance(world, 800)) {
        struct world_entry *entry = first_in(node, ENTRY_ELSEWHERE);
        if (entry == NULL) {
            break;
        }
        fetched(node, entry);
    }
    uint32_t delay_ms = world->options.commit_delay_ms_max;
    if (is_true_leader(node) && world->is_committing &&
        (delay_ms == 0 || random_below(&world->random, delay_ms) == 0)) {
        commit_some(node);
    }
    uint64_t behind = world->effect_count - node->replica.applied_position;
    if (!is_true_leader(node) && behind > 0 && route__world_chance(world, 200)) {
        node->replica.applied_position += 1 + random_below(&world->random, behind);
    }
}

/* ---- Leaders --------------------------------------------------------------------------------- */

void route__world_replica_init(struct world_node *node)
{
    node->replica = (struct world_replica){0};
    list_init(&node->replica.entries);
}

void route__world_replica_drop(struct world_node *node)
{
    LIST_EACH(member, next, &node->replica.entries)
    {
        struct world_entry *entry = LIST_ITEM(member, struct world_entry, link);
        entry_remove(node, entry);
        memory_free(entry);
    }
    node->replica.does_lead = false;
    node->replica.leader = 0;
}

uint32_t world_leader(const struct world *world)
{
    return world->leader;
}

void world_set_committing(struct world *world, bool is_committing)
{
    world->is_committing = is_committing;
}

void world_lose_leader(struct world *world)
{
    ASSERT(world->leader < WORLD_NODE_COUNT);
    struct world_node *node = &world->nodes[world->leader];
    world->leader = WORLD_NODE_COUNT;
    TRACE("world.leader_lost", node->index + 1, 0, 0, 0);
    uint32_t open_count = 0;
    LIST_EACH(member, next, &node->replica.entries)
    {
        open_count += LIST_ITEM(member, struct world_entry, link)->state == ENTRY_OPEN;
    }
    uint64_t kept_count = random_below(&world->random, open_count + 1);
    LIST_EACH(member, next, &node->replica.entries)
    {
        const struct world_entry *entry = LIST_ITEM(member, struct world_entry, link);
        if (entry->state == ENTRY_OPEN && kept_count > 0) {
            kept_count--;
            if (entry->request->is_write) {
                append_effect(world, entry->request, entry->token);
            }
        }
    }
}

static void hand_back_open(struct world_node *node)
{
    for (struct world_entry *entry; (entry = first_in(node, ENTRY_OPEN)) != NULL;) {
        entry = route__world_chance(node->world, 500) ? entry : last_in(node, ENTRY_OPEN);
        finish(node, entry, ERROR_NOT_LEADER, 0);
    }
}

static void step_down(struct world_node *node)
{
    node->replica.does_lead = false;
    hand_back_open(node);
}

static void append_split(struct world *world)
{
    grow_effects(world);
    world->effects[world->effect_count++] = 0;
    world->split_positions[world->split_count++] = world->effect_count;
    TRACE("world.split", world->split_count, world->effect_count, 0, 0);
}

uint32_t world_split_count(const struct world *world)
{
    return world->split_count;
}

void world_split(struct world *world)
{
    ASSERT(world->leader < WORLD_NODE_COUNT && world->split_count < WORLD_SPLIT_COUNT_MAX);
    struct world_node *node = &world->nodes[world->leader];
    commit_some(node);
    append_split(world);
    node->replica.applied_position = world->effect_count;
    node->replica.epoch++; /* What the leader has of before is handed back. */
    hand_back_open(node);
    node->has_leader_changed = true;
}

void world_learn(struct world *world, uint32_t index)
{
    struct world_node *node = &world->nodes[index];
    if (world->leader == index) {
        return;
    }
    if (node->replica.does_lead) {
        step_down(node);
    }
    node->replica.leader = world->leader < WORLD_NODE_COUNT ? world->leader + 1 : 0;
    node->has_leader_changed = true;
}

void world_forget(struct world *world, uint32_t index)
{
    struct world_node *node = &world->nodes[index];
    if (world->leader != index) {
        if (node->replica.does_lead) {
            step_down(node);
        }
        node->replica.leader = 0;
        node->has_leader_changed = true;
    }
}

void world_elect(struct world *world, uint32_t index)
{
    struct world_node *node = &world->nodes[index];
    ASSERT(world->leader == WORLD_NODE_COUNT && world_is_up(world, index));
    ASSERT(!node->replica.does_lead);
    world->leader = index;
    TRACE("world.elected", index + 1, 0, 0, 0);
    node->replica.does_lead = true;
    node->replica.epoch++;
    node->replica.leader = index + 1;
    node->replica.applied_position = world->effect_count;
    node->has_leader_changed = true;
}
