/* SPDX-License-Identifier: Apache-2.0 */
/* The public functions, and the hot path: a request that goes straight to the local replica costs a
 * few stores. Its done() is caught, so that what the replica hands back comes here. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/route/route_internal.h"

#define DEADLINE_MS 30000u
#define HELD_SIZE_BYTES_MAX (64ull << 20)
#define GUEST_SIZE_BYTES_MAX (8ull << 20)
#define REPLY_SIZE_BYTES_MAX (64ull << 20)
#define BACKOFF_MS_MIN 10u
#define BACKOFF_MS_MAX 200u
#define SILENCE_MS 500u
#define FLOOR_DELAY_MS 5000u
#define MESSAGE_SIZE_BYTES_MAX (1u << 20)
#define ARGUMENT_KEPT_COUNT_MAX 1024u
#define PLACES_MIN 8u

/* ---- Life ------------------------------------------------------------------------------------ */

static uint32_t or_default(uint32_t value, uint32_t default_value)
{
    return value != 0 ? value : default_value;
}

static void set_defaults(struct route_options *options)
{
    options->deadline_ms = or_default(options->deadline_ms, DEADLINE_MS);
    options->backoff_ms_min = or_default(options->backoff_ms_min, BACKOFF_MS_MIN);
    options->backoff_ms_max = or_default(options->backoff_ms_max, BACKOFF_MS_MAX);
    options->silence_ms = or_default(options->silence_ms, SILENCE_MS);
    options->floor_delay_ms = or_default(options->floor_delay_ms, FLOOR_DELAY_MS);
    options->message_size_bytes_max =
        or_default(options->message_size_bytes_max, MESSAGE_SIZE_BYTES_MAX);
    if (options->held_size_bytes_max == 0) {
        options->held_size_bytes_max = HELD_SIZE_BYTES_MAX;
    }
    if (options->guest_size_bytes_max == 0) {
        options->guest_size_bytes_max = GUEST_SIZE_BYTES_MAX;
    }
    if (options->reply_size_bytes_max == 0) {
        options->reply_size_bytes_max = REPLY_SIZE_BYTES_MAX;
    }
}

int route_create(struct route **route, const struct route_options *options, struct error *error)
{
    const struct route_host *host = &options->host;
    if (options->self == 0 || options->origin == 0 || host->clock.now_ms == NULL ||
        host->submit_local == NULL || host->local_leader == NULL ||
        host->local_applied_index == NULL || host->set_floor == NULL || host->send == NULL ||
        host->next_node == NULL) {
        return error_say(error, -EINVAL, "route: self, origin and all of the host are needed");
    }
    struct route_options complete = *options;
    set_defaults(&complete);
    if (complete.backoff_ms_min > complete.backoff_ms_max) {
        return error_say(error, -EINVAL, "route: the least backoff is above the greatest");
    }
    struct route *created = memory_allocate_zeroed(1, sizeof *created);
    created->options = complete;
    random_init(&created->random, options->random_seed);
    created->next_grant = random_next(&created->random) | 1;
    list_init(&created->active);
    list_init(&created->unsaid);
    list_init(&created->neighbours);
    *route = created;
    return 0;
}

void route_destroy(struct route *route)
{
    for (uint32_t i = 0; i < route->place_count; i++) {
        struct route_place *place = route->places[i];
        route__lines_destroy(place);
        route__guests_destroy(place);
        route__table_deinit(&place->sent);
        memory_free(place);
    }
    for (struct list *member; (member = list_pop_front(&route->neighbours)) != NULL;) {
        memory_free(LIST_ITEM(member, struct route_neighbour, link));
    }
    memory_free(route->places);
    memory_free(route->places_by_shard);
    memory_free(route->arguments);
    buffer_deinit(&route->answer);
    memory_free(route);
}

static struct route_place *find_place(const struct route *route, wal_shard shard)
{
    return shard < route->shard_end ? route->places_by_shard[shard] : NULL;
}

bool route_has_shard(const struct route *route, wal_shard shard)
{
    return find_place(route, shard) != NULL;
}

static void make_room(struct route *route, wal_shard shard)
{
    if (route->place_count == route->place_capacity) {
        route->place_capacity = route->place_capacity == 0 ? PLACES_MIN : 2 * route->place_capacity;
        route->places =
            memory_resize(route->places, route->place_capacity * sizeof(struct route_place *));
    }
    if (shard >= route->shard_end) {
        uint32_t end = route->shard_end == 0 ? PLACES_MIN : 2 * route->shard_end;
        end = end > shard ? end : shard + 1;
        route->places_by_shard =
            memory_resize(route->places_by_shard, end * sizeof(struct route_place *));
        memset(route->places_by_shard + route->shard_end, 0,
               (end - route->shard_end) * sizeof(struct route_place *));
        route->shard_end = end;
    }
}

void route_add_shard(struct route *route, wal_shard shard)
{
    ASSERT(shard < ROUTE_SHARD_END && find_place(route, shard) == NULL);
    make_room(route, shard);
    struct route_place *place = memory_allocate(sizeof *place);
    route->places[route->place_count++] = place;
    route->places_by_shard[shard] = place;
    *place = (struct route_place){
        .route = route, .shard = shard, .backoff_ms = route->options.backoff_ms_min};
    list_init(&place->active);
    list_init(&place->undone);
    list_init(&place->unsaid);
    list_init(&place->lines);
    list_init(&place->ready);
    list_init(&place->ages);
    list_init(&place->guests);
    route_leader_changed(route, shard);
}

/* ---- The host -------------------------------------------------------------------------------- */

uint64_t route__now_ms(const struct route *route)
{
    return route->options.host.clock.now_ms(route->options.host.clock.context);
}

int route__submit_local(struct route_place *place, struct shard_request *request,
                        const struct reply *reply)
{
    const struct route_host *host = &place->route->options.host;
    return host->submit_local(host->context, place->shard, request, reply);
}

raft_node route__local_leader(const struct route_place *place)
{
    const struct route_host *host = &place->route->options.host;
    return host->local_leader(host->context, place->shard);
}

raft_index route__seen_index(struct route_place *place)
{
    const struct route_host *host = &place->route->options.host;
    raft_index local = host->local_applied_index(host->context, place->shard);
    if (local > place->seen_index) {
        place->seen_index = local;
    }
    return place->seen_index;
}

int route__send(struct route *route, raft_node node, const struct bytes *pieces,
                uint32_t piece_count)
{
    const struct route_host *host = &route->options.host;
    int status = host->send(host->context, node, pieces, piece_count);
    if (status == 0) {
        route->statistics.sent_message_count++;
        for (uint32_t i = 0; i < piece_count; i++) {
            route->statistics.sent_bytes += pieces[i].size_bytes;
        }
    }
    return status;
}

struct bytes *route__arguments(struct route *route, uint32_t count)
{
    if (count > route->argument_capacity) {
        uint32_t capacity = count < ARGUMENT_KEPT_COUNT_MAX ? ARGUMENT_KEPT_COUNT_MAX : count;
        route->arguments = memory_resize(route->arguments, capacity * sizeof(struct bytes));
        route->argument_capacity = capacity;
    }
    return route->arguments;
}

/* Nothing large stays for long. */
static void trim_scratch(struct route *route)
{
    if (route->argument_capacity > ARGUMENT_KEPT_COUNT_MAX) {
        memory_free(route->arguments);
        route->arguments = NULL;
        route->argument_capacity = 0;
    }
    buffer_clear(&route->answer);
    buffer_trim(&route->answer, 1u << 16);
}

/* ---- Straight to the local replica ----------------------------------------------------------- */

static void give_back(struct shard_request *request)
{
    request->done = request->route.done;
    if (request->route.is_logged) {
        request->route.is_logged = false;
        request->is_write = false;
    }
}

static void handed_back(struct route_place *place, struct shard_request *request)
{
    PROBE("route.handed_back");
    struct shard_session *session = request->session;
    if (place->kind == ROUTE_PLACE_LOCAL && session->route.local_epoch == place->local_epoch) {
        route__place_leave(place);
    }
    request->done = request->route.done;
    route__hold(place, request, request->is_write);
    struct route_line *line = session->route.line;
    line->has_handed_back = true;
}

/* A write took effect. Which reads before it can it not be told apart from any more? Those of an entry
 * are answered in order, so there are few before it, but for cold ones. */
static void overtake(const struct shard_session *session, const struct shard_request *write)
{
    LIST_EACH(member, next, &session->route.reads)
    {
        struct shard_request *read = LIST_ITEM(member, struct shard_request, route.link);
        if (read->sequence > write->sequence) {
            return;
        }
        read->route.is_overtaken |= route__are_ordered(read, write);
    }
}

bool route__are_ordered(const struct shard_request *left, const struct shard_request *right)
{
    return left->order_key == right->order_key || left->order_key == 0 || right->order_key == 0;
}

static void direct_done(struct shard_request *request, int status, struct bytes reply)
{
    struct route_place *place = request->route.owner;
    struct shard_session *session = request->session;
    ASSERT(session->route.local_count > 0);
    session->route.local_count--;
    if (status == ERROR_NOT_LEADER) {
        handed_back(place, request);
    } else if (request->is_write && status == 0) {
        overtake(session, request);
    }
    struct route_line *line = session->route.line;
    if (line != NULL && session->route.local_count == 0) {
        route__line_ready(line);
    }
    if (status != ERROR_NOT_LEADER) {
        list_remove(&request->route.link);
        if (request->is_write) {
            route__end_logged(place, request);
        } else {
            route__end(request);
        }
        give_back(request);
        request->done(request, status, reply); /* The session may be gone. */
    }
}

/* Is what the local replica has of the session for the same shard and slots? */
static bool is_of_session(const struct route_place *place, const struct shard_session *session,
                          const struct shard_request *request)
{
    return session->route.shard == place->shard &&
           session->route.first_slot == request->first_slot &&
           session->route.end_slot == request->end_slot;
}

int route__submit_direct(struct route_place *place, struct shard_request *request,
                         const struct reply *reply)
{
    struct shard_session *session = request->session;
    request->route.done = request->done;
    request->done = direct_done;
    ASSERT(session->route.local_count == 0 || is_of_session(place, session, request));
    session->route.shard = place->shard;
    session->route.first_slot = request->first_slot;
    session->route.end_slot = request->end_slot;
    /* The replica may answer others of the session meanwhile. */
    session->route.local_count++;
    session->route.local_epoch = place->local_epoch;
    int status = route__submit_local(place, request, reply);
    if (status == SHARD_PENDING) {
        if (!request->is_write) {
            list_push_back(&session->route.reads, &request->route.link);
        }
        return status;
    }
    session->route.local_count--;
    request->done = request->route.done;
    if (status == SHARD_ANSWERED && request->is_write) {
        overtake(session, request);
    }
    return status;
}

/* ---- Submitting ------------------------------------------------------------------------------ */

static void stale_done(struct shard_request *request, int status, struct bytes reply)
{
    struct route_place *place = request->route.owner;
    request->done = request->route.done;
    if (status == ERROR_NOT_LEADER) {
        PROBE("route.stale_read_handed_back");
        route__hold(place, request, false);
    } else {
        route__end(request);
        request->done(request, status, reply);
    }
}

static int submit_stale(struct route_place *place, struct shard_request *request,
                        const struct reply *reply)
{
    request->route.done = request->done;
    request->done = stale_done;
    int status = route__submit_local(place, request, reply);
    if (status != SHARD_PENDING) {
        request->done = request->route.done;
    }
    return status;
}

static void identify(struct route_place *place, struct shard_request *request)
{
    request->copy = NULL;
    request->is_retry = false;
    request->origin = place->route->options.origin;
    request->sequence = ++place->route->sequence;
    request->known_index = request->is_write ? route__seen_index(place) : 0;
    request->route.owner = place;
    request->route.until_ms = 0;
    request->route.is_logged = false;
    request->route.is_overtaken = false;
    list_init(&request->route.link);
    route__begin(place, request);
}

/* May the session's next request go to the local replica, past no other of it? */
static bool may_go_direct(const struct route_place *place, const struct shard_session *session)
{
    return place->kind == ROUTE_PLACE_LOCAL && session->route.line == NULL &&
           (session->route.local_count == 0 || session->route.local_epoch == place->local_epoch);
}

/* I6. One that is a large part of it is kept beside half, or it would have to wait until nothing else is kept. */
static bool has_room(const struct route *route, uint64_t size_bytes)
{
    uint64_t most = route->options.held_size_bytes_max;
    uint64_t held_size_bytes = route->statistics.held_size_bytes;
    return size_bytes > most / 2 ? held_size_bytes <= most / 2
                                 : held_size_bytes + size_bytes <= most;
}

static int keep(struct route_place *place, struct shard_request *request)
{
    struct route *route = place->route;
    if (route->is_stopping) {
        return ERROR_STOPPED;
    }
    uint64_t size = route__arguments_size_bytes(&request->command);
    if (size > ROUTE__ITEM_SIZE_BYTES_MAX) {
        return -E2BIG;
    }
    size = route__charge(ROUTE__REQUEST_HEAD_SIZE_BYTES + size);
    if (!request->is_bounded && !has_room(route, size)) {
        PROBE("route.held_full");
        route->statistics.busy_count++;
        return -EBUSY;
    }
    ASSERT(request->session->route.local_count == 0 ||
           is_of_session(place, request->session, request));
    route__hold(place, request, false);
    return SHARD_PENDING;
}

static int submit(struct route_place *place, struct shard_request *request,
                  const struct reply *reply)
{
    struct route *route = place->route;
    if (request->may_be_stale && !request->is_write) {
        int status = submit_stale(place, request, reply);
        if (status != ERROR_NOT_LEADER && status != ERROR_MOVED) {
            return status; /* A replica that lags may not know of the slots yet. */
        }
    }
    if (place->kind != ROUTE_PLACE_LOCAL && route__local_leader(place) == route->options.self) {
        route__place_local(place);
    }
    if (may_go_direct(place, request->session)) {
        int status = route__submit_direct(place, request, reply);
        if (status != ERROR_NOT_LEADER) {
            route->statistics.local_count += status >= 0;
            route->statistics.moved_count += status == ERROR_MOVED;
            return status;
        }
        route__place_leave(place);
    }
    return keep(place, request);
}

int route_submit(struct route *route, wal_shard shard, struct shard_request *request,
                 const struct reply *reply)
{
    struct route_place *place = find_place(route, shard);
    ASSERT(place != NULL);
    identify(place, request);
    int status = submit(place, request, reply);
    if (status != SHARD_PENDING) {
        route__end(request);
    }
    return status;
}

/* ---- What drives it -------------------------------------------------------------------------- */

/* Of which stream, and of which of its lives, it speaks, is all the same. */
static void set_floor(const struct route_place *place, const struct route_message *message)
{
    const struct route_host *host = &place->route->options.host;
    const struct shard_floor floor = {message->number, message->floor};
    host->set_floor(host->context, place->shard, &floor);
}

int route_receive(struct route *route, raft_node from, uint64_t boot_id, struct bytes message)
{
    struct route_message decoded;
    int status = route__decode(message, &decoded);
    if (status != 0) {
        route->statistics.malformed_count++;
        return status;
    }
    route->statistics.received_message_count++;
    route->statistics.received_bytes += message.size_bytes;
    struct route_place *place = find_place(route, decoded.shard);
    if (place == NULL) {
        PROBE("route.unknown_shard");
        if (decoded.kind == ROUTE_MESSAGE_ASK) {
            route__asked_unknown(route, from, &decoded);
        }
        return 0;
    }
    route__activate(place);
    switch (decoded.kind) {
    case ROUTE_MESSAGE_ASK:
        route__asked(place, from, boot_id, &decoded);
        break;
    case ROUTE_MESSAGE_REQUESTS:
        route__requests(place, from, boot_id, &decoded);
        break;
    case ROUTE_MESSAGE_TOLD:
        route__told(place, from, &decoded, route__now_ms(route));
        break;
    case ROUTE_MESSAGE_REPLIES:
        if (place->kind == ROUTE_PLACE_GRANTED && place->node == from &&
            place->grant == decoded.number) {
            route__replies(place, &decoded);
        }
        break;
    case ROUTE_MESSAGE_ENDED:
        if (place->kind == ROUTE_PLACE_GRANTED && place->node == from &&
            place->grant == decoded.number) {
            route__ended(place, &decoded, route__now_ms(route));
        }
        break;
    case ROUTE_MESSAGE_FLOOR:
        set_floor(place, &decoded);
        break;
    }
    return 0;
}

void route_peer_gone(struct route *route, raft_node node)
{
    for (uint32_t i = 0; i < route->place_count; i++) {
        struct route_place *place = route->places[i];
        route__activate(place);
        route__guest_gone(place, node);
        if ((place->kind == ROUTE_PLACE_ASKED || place->kind == ROUTE_PLACE_GRANTED) &&
            place->node == node) {
            place->failed_count++;
            route__place_leave(place);
        }
    }
}

void route_leader_changed(struct route *route, wal_shard shard)
{
    struct route_place *place = find_place(route, shard);
    ASSERT(place != NULL);
    route__activate(place);
    raft_node leader = route__local_leader(place);
    if (leader == route->options.self) {
        if (place->kind != ROUTE_PLACE_LOCAL) {
            route__place_local(place);
        }
        return;
    }
    route__guests_end(place);
    bool is_elsewhere = (place->kind == ROUTE_PLACE_ASKED || place->kind == ROUTE_PLACE_GRANTED) &&
                        leader != 0 && place->node != leader;
    if (place->kind == ROUTE_PLACE_LOCAL || is_elsewhere) {
        route__place_leave(place);
    }
    if (leader != 0 && place->kind == ROUTE_PLACE_NONE) {
        place->hint = leader;
        place->at_ms = 0;
    }
}

/* Will ticks have nothing to do until something happens? What happens activates it. */
static bool is_at_rest(const struct route_place *place)
{
    bool is_waiting = place->kind == ROUTE_PLACE_ASKED || place->is_choked || place->owes_sight ||
                      place->sent.item_count > 0 || !list_is_empty(&place->ages) ||
                      !list_is_empty(&place->lines);
    return !is_waiting && route__guests_are_at_rest(place);
}

uint64_t route_tick(struct route *route)
{
    uint64_t now_ms = route__now_ms(route);
    uint64_t wake_at_ms = UINT64_MAX;
    LIST_EACH(member, next, &route->active)
    {
        struct route_place *place = LIST_ITEM(member, struct route_place, active);
        uint64_t wakes[] = {route__expire(place, now_ms), route__place_tick(place, now_ms),
                            route__guests_tick(place, now_ms)};
        route__say_floor_here(place);
        for (size_t j = 0; j < sizeof wakes / sizeof wakes[0]; j++) {
            wake_at_ms = wakes[j] < wake_at_ms ? wakes[j] : wake_at_ms;
        }
        if (is_at_rest(place)) {
            list_remove(&place->active);
        }
    }
    uint64_t floors_at_ms = route__say_floors(route, now_ms);
    trim_scratch(route);
    return floors_at_ms < wake_at_ms ? floors_at_ms : wake_at_ms;
}

void route_stop(struct route *route, uint32_t patience_ms)
{
    route->is_stopping = true;
    route->stop_by_ms = route__now_ms(route) + patience_ms;
    for (uint32_t i = 0; i < route->place_count; i++) {
        route__activate(route->places[i]);
        route__hasten(route->places[i], route->stop_by_ms);
        route__guests_end(route->places[i]);
    }
}

void route_get_statistics(const struct route *route, struct route_statistics *statistics)
{
    *statistics = route->statistics;
    for (uint32_t i = 0; i < route->place_count; i++) {
        route__guests_count(route->places[i], statistics);
    }
}
