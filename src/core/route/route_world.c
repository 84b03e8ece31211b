/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes, clients and the judge. */
#include <stdarg.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/route/route_world_internal.h"

enum { SLACK_MS = 6000, LATE_CHECK_INTERVAL_MS = 64 };

/* ---- The judge ------------------------------------------------------------------------------- */

void route__world_fail(struct world *world, const char *format, ...)
{
    if (world->failure != NULL) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(world->failure_text, sizeof world->failure_text, format, arguments);
    va_end(arguments);
    world->failure = world->failure_text;
}

bool route__world_chance(struct world *world, uint32_t permille)
{
    return permille > 0 && random_chance(&world->random, permille, 1000);
}

static bool is_read(const struct world_call *call)
{
    return !world_is_write(call->kind);
}

static void judge_answer(struct world *world, struct world_call *call, uint64_t token,
                         struct bytes reply)
{
    if (reply.size_bytes != 16 || endian_get_u64_le(reply.data) != token) {
        route__world_fail(world, "request %llu was given another's reply",
                          (unsigned long long)token);
        return;
    }
    call->position = endian_get_u64_le(reply.data + 8);
    if (!is_read(call) && (call->effect_position == 0 || call->position != call->effect_position)) {
        route__world_fail(world,
                          "write %llu was answered with position %llu, its effect is at %llu",
                          (unsigned long long)token, (unsigned long long)call->position,
                          (unsigned long long)call->effect_position);
    }
    if (call->kind == WORLD_STALE_READ) {
        return;
    }
    if (route__world_splits_at(world, call->position) != call->split_count) {
        route__world_fail(world, "request %llu was answered while the shard had other slots",
                          (unsigned long long)token);
    }
    if (call->position < call->seen_position) {
        route__world_fail(world, "request %llu was answered as of %llu, and %llu had been seen",
                          (unsigned long long)token, (unsigned long long)call->position,
                          (unsigned long long)call->seen_position);
    }
    if (call->position > world->answered_position) {
        world->answered_position = call->position;
    }
}

static void judge_done(struct world *world, struct world_live *live, int status, struct bytes reply)
{
    struct world_call *call = &world->calls[live->number];
    if (call->status != WORLD_NOT_DONE) {
        route__world_fail(world, "request %u is done a second time", live->number);
    }
    call->status = status;
    TRACE("world.done", live->number, call->session, call->ordinal, -status);
    switch (status) {
    case 0:
        judge_answer(world, call, live->token, reply);
        break;
    case ERROR_OUTCOME_UNKNOWN:
        break;
    case ERROR_NOT_LEADER:
    case ERROR_STOPPED:
    case -ENOSPC:
    case -E2BIG:
        if (call->effect_position != 0 && !is_read(call)) {
            route__world_fail(world, "request %u was refused (%d) and took effect", live->number,
                              status);
        }
        break;
    default:
        route__world_fail(world, "request %u ended with %d", live->number, status);
        break;
    }
    if (status != 0 && reply.size_bytes > 0) {
        route__world_fail(world, "request %u failed with a reply", live->number);
    }
}

static void judge_read(struct world *world, uint32_t number, uint64_t newest_before,
                       uint64_t oldest_after)
{
    const struct world_call *read = &world->calls[number];
    if (!is_read(read) || read->status != 0 || read->kind == WORLD_STALE_READ) {
        return;
    }
    if (read->position < newest_before || read->position >= oldest_after) {
        route__world_fail(world,
                          "read %u, as of %llu: its session wrote at %llu before and %llu after",
                          number, (unsigned long long)read->position,
                          (unsigned long long)newest_before, (unsigned long long)oldest_after);
    }
}

/* The oldest effects of a session's writes behind some point: of each key, [0]: of any. */
struct later {
    uint64_t oldest[WORLD_KEY_COUNT_MAX + 1];
    uint64_t oldest_of_unknown;
};

static uint64_t earlier(uint64_t left, uint64_t right)
{
    return left < right ? left : right;
}

static uint64_t oldest_after(const struct later *later, uint16_t key)
{
    return earlier(later->oldest[key], later->oldest_of_unknown);
}

static void note_write(struct later *later, const struct world_call *write)
{
    uint64_t position = write->effect_position;
    later->oldest[0] = earlier(later->oldest[0], position);
    later->oldest[write->key] = earlier(later->oldest[write->key], position);
    if (write->key == 0) {
        later->oldest_of_unknown = earlier(later->oldest_of_unknown, position);
    }
}

/* Reads show what came before them in their session, and nothing after of the same key. Calls of a
 * session stand in its order. */
static void judge_session_order(struct world *world)
{
    uint64_t *newest_before = memory_allocate_zeroed(world->call_count + 1u, sizeof(uint64_t));
    uint64_t *bounds = memory_allocate_zeroed(world->session_count + 1u, sizeof(uint64_t));
    struct later *laters = memory_allocate(world->session_count * sizeof *laters + 1);
    for (uint32_t i = 0; i < world->call_count; i++) {
        const struct world_call *call = &world->calls[i];
        uint64_t *bound = &bounds[call->session];
        newest_before[i] = *bound;
        if (!is_read(call) && call->effect_position > *bound) {
            *bound = call->effect_position;
        }
    }
    memset(laters, 0xff, world->session_count * sizeof *laters);
    for (uint32_t i = world->call_count; i-- > 0;) {
        const struct world_call *call = &world->calls[i];
        struct later *later = &laters[call->session];
        judge_read(world, i, newest_before[i], oldest_after(later, call->key));
        if (!is_read(call) && call->effect_position != 0) {
            note_write(later, call);
        }
    }
    memory_free(newest_before);
    memory_free(bounds);
    memory_free(laters);
}

const char *world_failure(const struct world *world)
{
    struct world *judged = (struct world *)(uintptr_t)world;
    judge_session_order(judged);
    return world->failure;
}

static void judge_lateness(struct world *world)
{
    if (world->now_ms % LATE_CHECK_INTERVAL_MS != 0) {
        return;
    }
    uint64_t deadline_ms =
        world->options.route.deadline_ms != 0 ? world->options.route.deadline_ms : 30000;
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        LIST_EACH(member, next, &world->nodes[i].sessions)
        {
            struct world_session *session = LIST_ITEM(member, struct world_session, link);
            if (list_is_empty(&session->live)) {
                continue;
            }
            const struct world_live *live = LIST_ITEM(session->live.next, struct world_live, link);
            uint64_t since_ms = world->calls[live->number].submitted_at_ms;
            if (world->now_ms > since_ms + deadline_ms + SLACK_MS) {
                route__world_fail(world, "request %u is late", live->number);
            }
        }
    }
}

/* ---- The host -------------------------------------------------------------------------------- */

static int submit_local(void *context, wal_shard shard, struct shard_request *request,
                        const struct reply *reply)
{
    ASSERT(shard == WORLD_SHARD);
    return route__world_submit(context, request, reply);
}

static raft_node local_leader(void *context, wal_shard shard)
{
    struct world_node *node = context;
    return node->replica.does_lead ? node->index + 1 : node->replica.leader;
}

static raft_index local_applied_index(void *context, wal_shard shard)
{
    const struct world_node *node = context;
    bool is_blank = node->world->options.are_followers_blank && !node->replica.does_lead;
    return is_blank ? 0 : node->replica.applied_position;
}

/* Nobody may wait for what is below. */
static void judge_floor(struct world *world, const struct shard_floor *floor)
{
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        LIST_EACH(member, next, &world->nodes[i].sessions)
        {
            struct world_session *session = LIST_ITEM(member, struct world_session, link);
            LIST_EACH(link, next_link, &session->live)
            {
                const struct world_live *live = LIST_ITEM(link, struct world_live, link);
                if (world->nodes[i].origin == floor->origin && list_is_empty(&live->busy) &&
                    live->request.sequence < floor->floor) {
                    route__world_fail(world, "request %u is not done, and below the floor",
                                      live->number);
                }
            }
        }
    }
}

static void set_floor(void *context, wal_shard shard, const struct shard_floor *floor)
{
    struct world *world = ((struct world_node *)context)->world;
    ASSERT(shard == WORLD_SHARD);
    judge_floor(world, floor);
    route__world_set_floor(world, floor);
}

static int send_message(void *context, raft_node node, const struct bytes *pieces,
                        uint32_t piece_count)
{
    ASSERT(node >= 1 && node <= WORLD_NODE_COUNT);
    return route__world_send(context, node - 1, pieces, piece_count);
}

static raft_node next_node(void *context, wal_shard shard, raft_node after)
{
    const struct world_node *node = context;
    raft_node next = after % WORLD_NODE_COUNT + 1;
    return next == node->index + 1 ? next % WORLD_NODE_COUNT + 1 : next;
}

static bool knows_slots(void *context, raft_node node)
{
    return !((const struct world_node *)context)->world->nodes[node - 1].is_older;
}

static bool knows_floors(void *context, raft_node node)
{
    return knows_slots(context, node);
}

static uint64_t now_ms(void *context)
{
    return ((struct world_node *)context)->world->now_ms;
}

/* ---- Clients --------------------------------------------------------------------------------- */

struct world_session *world_connect(struct world *world, uint32_t node)
{
    struct world_session *session = memory_allocate_zeroed(1, sizeof *session);
    shard_session_init(&session->session);
    session->world = world;
    session->node = node;
    session->split_count = world->nodes[node].split_count;
    if (world->session_count == world->session_capacity) {
        world->session_capacity = world->session_capacity * 2 + 16;
        world->session_ordinals = memory_resize(
            world->session_ordinals, world->session_capacity * sizeof world->session_ordinals[0]);
    }
    session->index = world->session_count++;
    world->session_ordinals[session->index] = 0;
    list_init(&session->live);
    list_init(&session->busy);
    list_init(&session->link);
    list_push_back(&world->nodes[node].sessions, &session->link);
    return session;
}

static void free_live(struct world_live *live)
{
    list_remove(&live->link);
    list_remove(&live->busy);
    live->session->live_count--;
    live->session->world->live_count--;
    memory_free(live->padding);
    memory_free(live);
}

void world_disconnect(struct world *world, struct world_session *session)
{
    ASSERT(list_is_empty(&session->live));
    ASSERT(session->session.route.line == NULL);
    list_remove(&session->link);
    memory_free(session);
}

uint32_t world_pending_count(const struct world *world, const struct world_session *session)
{
    return session != NULL ? session->live_count : world->live_count;
}

/* Behind what was submitted before it. */
static void wait_in_order(struct world_live *live)
{
    struct list *busy = &live->session->busy;
    struct list *after = busy->previous;
    while (after != busy && LIST_ITEM(after, struct world_live, busy)->number > live->number) {
        after = after->previous;
    }
    list_insert_before(after->next, &live->busy);
}

/* Its map is newer than what the request named, and it says so as a node would. */
static void hear_of_splits(struct world_node *node, uint32_t newer_than)
{
    if (node->split_count <= newer_than) {
        node->split_count = node->world->split_count;
    }
}

static void moved(struct world *world, struct world_live *live)
{
    struct world_session *session = live->session;
    const struct shard_command *command = &live->request.command;
    if (command->argument_count != 2 || command->arguments == NULL ||
        !bytes_equal(command->arguments[0], live->arguments[0]) ||
        command->arguments[1].size_bytes != live->size_bytes) {
        route__world_fail(world, "request %u has moved, and its command is gone", live->number);
    }
    const struct world_call *call = &world->calls[live->number];
    if (!is_read(call) && call->effect_position != 0) {
        route__world_fail(world, "request %u took effect, and has moved", live->number);
    }
    TRACE("world.moved", live->number, call->session, call->ordinal, session->split_count);
    hear_of_splits(&world->nodes[session->node], session->split_count);
    wait_in_order(live);
}

static void request_done(struct shard_request *request, int status, struct bytes reply)
{
    struct world_live *live = LIST_ITEM(request, struct world_live, request);
    struct world *world = live->session->world;
    world->nodes[live->session->node].is_touched = true;
    live->session->under_way_count--;
    if (status == ERROR_MOVED) {
        moved(world, live);
        return;
    }
    judge_done(world, live, status, reply);
    free_live(live);
}

/* All of a session that is under way names the same slots. */
static bool may_submit(struct world_session *session)
{
    if (session->under_way_count == 0) {
        session->split_count = session->world->nodes[session->node].split_count;
    }
    return session->split_count == session->world->nodes[session->node].split_count;
}

/* Returns whether it is out of the gateway's hands. */
static bool try_to_submit(struct world *world, struct world_live *live)
{
    struct world_session *session = live->session;
    struct world_node *node = &world->nodes[session->node];
    if (!may_submit(session)) {
        return false;
    }
    struct world_call *call = &world->calls[live->number];
    bool is_write = world_is_write(call->kind);
    call->split_count = session->split_count;
    live->request.command = (struct shard_command){
        .opcode = is_write ? ROUTE__WORLD_OPCODE_WRITE : ROUTE__WORLD_OPCODE_READ,
        .argument_count = 2,
        .arguments = live->arguments,
    };
    live->request.protocol = 2;
    live->request.is_write = is_write;
    live->request.order_key = call->key;
    live->request.does_grow = call->kind == WORLD_WRITE;
    live->request.does_release = call->kind == WORLD_RELEASE;
    live->request.is_bounded = call->kind == WORLD_RELEASE;
    live->request.is_cheap = call->kind == WORLD_CHEAP_READ;
    live->request.may_be_stale = call->kind == WORLD_STALE_READ;
    bool is_older = session->world->nodes[session->node].is_older;
    live->request.end_slot = is_older ? 0 : route__world_end_slot(session->split_count);
    live->request.done = request_done;
    live->request.session = &session->session;
    node->is_touched = true;
    session->under_way_count++; /* It may be done before this returns, but for within it. */
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = 2};
    int status = route_submit(node->route, WORLD_SHARD, &live->request, &reply);
    session->under_way_count -= status != SHARD_PENDING;
    if (status == ERROR_MOVED) {
        hear_of_splits(node, session->split_count);
        status = -EBUSY;
    }
    if (status == SHARD_PENDING || status == -EBUSY) {
        if (answer.size_bytes > 0) {
            route__world_fail(world, "request %u has a reply and none", live->number);
        }
        buffer_deinit(&answer);
        return status == SHARD_PENDING;
    }
    judge_done(world, live, status, buffer_bytes(&answer));
    buffer_deinit(&answer);
    free_live(live);
    return true;
}

uint32_t world_submit(struct world *world, struct world_session *session, enum world_kind kind,
                      uint32_t size_bytes)
{
    return world_submit_for(world, session, kind, size_bytes, 0);
}

uint32_t world_submit_for(struct world *world, struct world_session *session, enum world_kind kind,
                          uint32_t size_bytes, uint16_t key)
{
    ASSERT(key <= WORLD_KEY_COUNT_MAX);
    if (world->call_count == world->call_capacity) {
        world->call_capacity = world->call_capacity * 2 + 256;
        world->calls = memory_resize(world->calls, world->call_capacity * sizeof world->calls[0]);
    }
    uint32_t number = world->call_count++;
    world->calls[number] = (struct world_call){
        .kind = kind,
        .key = key,
        .session = session->index,
        .ordinal = session->request_count++,
        .submitted_at_ms = world->now_ms,
        .seen_position = world->answered_position,
        .status = WORLD_NOT_DONE,
    };
    TRACE("world.asked_for", number, session->index, world->calls[number].ordinal, kind);
    struct world_live *live = memory_allocate_zeroed(1, sizeof *live);
    live->session = session;
    live->number = number;
    live->token = number + 1;
    live->size_bytes = size_bytes;
    live->padding = memory_allocate_zeroed(1, size_bytes + 1);
    live->arguments[0] = bytes_make(&live->token, sizeof live->token);
    live->arguments[1] = bytes_make(live->padding, size_bytes);
    list_init(&live->busy);
    list_init(&live->link);
    list_push_back(&session->live, &live->link);
    session->live_count++;
    world->live_count++;
    if (!list_is_empty(&session->busy) || !try_to_submit(world, live)) {
        list_push_back(&session->busy, &live->busy);
    }
    return number;
}

static void submit_busy(struct world_node *node)
{
    LIST_EACH(member, next, &node->sessions)
    {
        struct world_session *session = LIST_ITEM(member, struct world_session, link);
        for (struct list *busy; (busy = list_pop_front(&session->busy)) != NULL;) {
            struct world_live *live = LIST_ITEM(busy, struct world_live, busy);
            if (!try_to_submit(node->world, live)) {
                list_push_front(&session->busy, &live->busy);
                break;
            }
        }
    }
}

int world_status(const struct world *world, uint32_t request)
{
    return world->calls[request].status;
}

uint64_t world_position(const struct world *world, uint32_t request)
{
    const struct world_call *call = &world->calls[request];
    return is_read(call) ? call->position : call->effect_position;
}

/* ---- Nodes ----------------------------------------------------------------------------------- */

struct route *world_route(struct world *world, uint32_t node)
{
    return world->nodes[node].route;
}

bool world_is_up(const struct world *world, uint32_t node)
{
    return world->nodes[node].route != NULL;
}

bool world_is_older(const struct world *world, uint32_t node)
{
    return world->nodes[node].is_older;
}

void world_start(struct world *world, uint32_t index)
{
    struct world_node *node = &world->nodes[index];
    ASSERT(node->route == NULL);
    struct route_options options = world->options.route;
    options.self = index + 1;
    node->origin = random_next(&world->random) | 1;
    options.origin = node->origin;
    options.random_seed = random_next(&world->random);
    options.host = (struct route_host){
        .context = node,
        .clock = {.context = node, .now_ms = now_ms},
        .submit_local = submit_local,
        .local_leader = local_leader,
        .local_applied_index = local_applied_index,
        .set_floor = set_floor,
        .send = send_message,
        .next_node = next_node,
        .knows_slots = knows_slots,
        .knows_floors = knows_floors,
    };
    node->boot_id = ++world->boot_count;
    node->is_older = false;
    node->wake_at_ms = 0;
    int status = route_create(&node->route, &options, NULL);
    ASSERT(status == 0);
    route_add_shard(node->route, WORLD_SHARD);
}

void world_kill(struct world *world, uint32_t index)
{
    struct world_node *node = &world->nodes[index];
    ASSERT(node->route != NULL);
    if (world->leader == index) {
        world_lose_leader(world);
    }
    route__world_replica_drop(node);
    route_destroy(node->route);
    node->route = NULL;
    LIST_EACH(member, next, &node->sessions)
    {
        struct world_session *session = LIST_ITEM(member, struct world_session, link);
        LIST_EACH(link, next_link, &session->live)
        {
            struct world_live *live = LIST_ITEM(link, struct world_live, link);
            world->calls[live->number].status = WORLD_LOST;
            free_live(live);
        }
        list_remove(member);
        memory_free(session);
    }
    route__world_network_killed(world, index);
}

static void tick(struct world_node *node)
{
    if (node->has_leader_changed) {
        node->has_leader_changed = false;
        route_leader_changed(node->route, WORLD_SHARD);
        node->is_touched = true;
    }
    if (!node->is_touched && node->world->now_ms < node->wake_at_ms) {
        return; /* Nobody would call it either. */
    }
    node->is_touched = false;
    node->wake_at_ms = route_tick(node->route);
}

/* ---- The world ------------------------------------------------------------------------------- */

struct world *world_create(const struct world_options *options)
{
    struct world *world = memory_allocate_zeroed(1, sizeof *world);
    world->options = *options;
    random_init(&world->random, options->seed);
    world->now_ms = 1000;
    world->leader = WORLD_NODE_COUNT;
    world->is_committing = true;
    route__world_network_init(world);
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        struct world_node *node = &world->nodes[i];
        node->world = world;
        node->index = i;
        list_init(&node->sessions);
        route__world_replica_init(node);
        world_start(world, i);
        node->is_older = (options->older_nodes >> i & 1u) != 0;
    }
    return world;
}

void world_destroy(struct world *world)
{
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        if (world->nodes[i].route != NULL) {
            world_kill(world, i);
        }
    }
    route__world_network_deinit(world);
    memory_free(world->effects);
    memory_free(world->identities);
    memory_free(world->calls);
    memory_free(world->session_ordinals);
    memory_free(world);
}

struct world *world_create_led(const struct world_options *options, uint32_t leader)
{
    struct world *world = world_create(options);
    if (leader < WORLD_NODE_COUNT) {
        world_elect(world, leader);
        for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
            world_learn(world, i);
        }
    }
    world_step(world);
    return world;
}

struct route_statistics world_statistics(struct world *world, uint32_t node)
{
    struct route_statistics statistics;
    route_get_statistics(world_route(world, node), &statistics);
    return statistics;
}

void world_end(struct world *world)
{
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        if (world_is_up(world, i) && world_pending_count(world, NULL) == 0) {
            struct route_statistics statistics = world_statistics(world, i);
            ASSERT(statistics.held_count == 0);
            ASSERT(statistics.held_size_bytes == 0);
            ASSERT(statistics.guest_request_count == 0);
            ASSERT(statistics.malformed_count == 0);
        }
    }
    if (world_failure(world) != NULL) {
        assert_fail(world_failure(world), __FILE__, __LINE__);
    }
    world_destroy(world);
}

uint64_t world_run_until_done(struct world *world, uint32_t steps_max)
{
    uint64_t since_ms = world_now_ms(world);
    for (uint32_t i = 0; i < steps_max && world_pending_count(world, NULL) > 0; i++) {
        world_step(world);
    }
    ASSERT(world_pending_count(world, NULL) == 0);
    return world_now_ms(world) - since_ms;
}

struct random *world_random(struct world *world)
{
    return &world->random;
}

uint64_t world_now_ms(const struct world *world)
{
    return world->now_ms;
}

void world_step(struct world *world)
{
    world->now_ms++;
    route__world_network_step(world);
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        struct world_node *node = &world->nodes[i];
        if (node->route != NULL) {
            route__world_replica_step(node);
            uint32_t split_count = route__world_applied_splits(node);
            node->split_count = split_count > node->split_count ? split_count : node->split_count;
            submit_busy(node);
            tick(node);
        }
    }
    judge_lateness(world);
}

void world_run(struct world *world, uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i++) {
        world_step(world);
    }
}

void world_set_full(struct world *world, bool is_full)
{
    world->is_full = is_full;
}

void world_set_busy(struct world *world, bool is_busy)
{
    world->is_busy = is_busy;
}

void world_heal(struct world *world)
{
    struct world_options *options = &world->options;
    options->busy_permille = 0;
    options->late_read_permille = 0;
    options->late_write_permille = 0;
    options->commit_delay_ms_max = 3;
    options->network_delay_ms_max = 2;
    options->lost_permille = 0;
    options->repeated_permille = 0;
    options->delayed_permille = 0;
    options->choked_permille = 0;
    route__world_network_heal(world);
    world->is_busy = false;
    world->is_full = false;
    world->is_committing = true;
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        if (!world_is_up(world, i)) {
            world_start(world, i);
        }
        for (uint32_t j = 0; j < WORLD_NODE_COUNT; j++) {
            world->wires[i][j].is_deaf = false;
            if (i < j && !world_are_connected(world, i, j)) {
                world_connect_nodes(world, i, j);
            }
        }
    }
}
