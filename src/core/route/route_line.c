/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are kept, in the order of their session.
 *
 *   line:  sent ... | waiting ...      by sequence; `sent` is what the stream has
 *
 * A request comes here from the gateway (at the end) or handed back by the local replica (at its
 * place), and leaves answered, given up, or with the local replica. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/route/route_internal.h"

static struct route_held *held_of(struct list *link)
{
    return LIST_ITEM(link, struct route_held, link);
}

bool route__is_logged(const struct route_held *held)
{
    return held->is_write || held->is_logged;
}

/* ---- Lines ----------------------------------------------------------------------------------- */

static struct route_line *line_of(struct route_place *place, const struct shard_request *request)
{
    struct shard_session *session = request->session;
    struct route_line *line = session->route.line;
    if (line != NULL) {
        ASSERT(line->place == place);
        ASSERT(line->first_slot == request->first_slot && line->end_slot == request->end_slot);
        return line;
    }
    line = memory_allocate_zeroed(1, sizeof *line);
    line->place = place;
    line->session = session;
    line->first_slot = request->first_slot;
    line->end_slot = request->end_slot;
    list_init(&line->sent);
    list_init(&line->waiting);
    list_init(&line->ready);
    list_init(&line->link);
    list_push_back(&place->lines, &line->link);
    session->route.line = line;
    if (session->route.number == 0) {
        session->route.number = ++place->route->session_number;
    }
    return line;
}

static void end_if_empty(struct route_line *line)
{
    if (line->held_count > 0) {
        return;
    }
    ASSERT(line->waiting_writes.count == 0 && line->waiting_writes.unknown_count == 0);
    ASSERT(line->sent_reads.count == 0 && line->sent_reads.unknown_count == 0);
    line->session->route.line = NULL;
    list_remove(&line->link);
    list_remove(&line->ready);
    memory_free(line);
}

static bool does_release(const struct route_line *line)
{
    const struct list *first = line->waiting.next;
    return first != &line->waiting &&
           LIST_ITEM(first, struct route_held, link)->request->does_release;
}

void route__line_ready(struct route_line *line)
{
    if (!list_is_empty(&line->ready)) {
        return;
    }
    if (does_release(line)) {
        list_push_front(&line->place->ready, &line->ready); /* I6 */
    } else {
        list_push_back(&line->place->ready, &line->ready);
    }
}

/* ---- Keeping --------------------------------------------------------------------------------- */

static uint64_t size_of(const struct route_held *held)
{
    return route__charge(held->encoded_size_bytes);
}

static struct route_held *copy_of(struct shard_request *request)
{
    uint64_t arguments = route__arguments_size_bytes(&request->command);
    uint64_t encoded = ROUTE__REQUEST_HEAD_SIZE_BYTES + arguments;
    ASSERT(encoded <= UINT32_MAX); /* The replica takes less, and so does route_submit(). */
    struct route_held *held = memory_allocate(sizeof *held + encoded);
    memset(held, 0, sizeof *held);
    held->request = request;
    held->encoded_size_bytes = (uint32_t)encoded;
    route__encode_arguments(held->encoded + ROUTE__REQUEST_HEAD_SIZE_BYTES, &request->command);
    request->command.arguments = NULL;
    list_init(&held->link);
    list_init(&held->age);
    return held;
}

/* What is handed back goes where it was. */
static void insert_by_sequence(struct route_line *line, struct route_held *held)
{
    struct list *after = line->waiting.previous;
    while (after != &line->waiting && held_of(after)->request->sequence > held->request->sequence) {
        after = after->previous;
    }
    list_insert_before(after->next, &held->link);
}

/* What was sent goes before what waits, but for what was returned before it. */
static void insert_near_front(struct route_line *line, struct route_held *held)
{
    struct list *before = line->waiting.next;
    while (before != &line->waiting &&
           held_of(before)->request->sequence < held->request->sequence) {
        before = before->next;
    }
    list_insert_before(before, &held->link);
}

static void insert_by_age(struct route_place *place, struct route_held *held)
{
    struct list *after = place->ages.previous;
    while (after != &place->ages &&
           LIST_ITEM(after, struct route_held, age)->request->route.until_ms >
               held->request->route.until_ms) {
        after = after->previous;
    }
    list_insert_before(after->next, &held->age);
}

static void set_deadline(struct route *route, struct shard_request *request)
{
    if (request->route.until_ms == 0) {
        request->route.until_ms = route__now_ms(route) + route->options.deadline_ms;
    }
    if (route->is_stopping && request->route.until_ms > route->stop_by_ms) {
        request->route.until_ms = route->stop_by_ms;
    }
}

void route__note_seen(struct route_place *place, const struct route_held *held)
{
    if (!held->is_in_doubt) {
        held->request->known_index = route__seen_index(place);
    }
}

void route__hold(struct route_place *place, struct shard_request *request, bool is_in_doubt)
{
    struct route *route = place->route;
    struct route_held *held = copy_of(request);
    route__activate(place);
    if (BUG("route.floor_early")) {
        route__end_logged(place, request);
    }
    held->is_in_doubt = is_in_doubt;
    held->is_logged = request->route.is_logged;
    if (held->is_logged) {
        request->route.is_logged = false;
        request->is_write = false;
    }
    held->is_write = request->is_write;
    if (!route__is_logged(held)) {
        request->known_index = route__seen_index(place); /* No log has it yet. */
    }
    set_deadline(route, request);
    struct route_line *line = line_of(place, request);
    ASSERT_IF(is_in_doubt, list_is_empty(&line->sent)); /* R1 */
    held->line = line;
    insert_by_sequence(line, held);
    insert_by_age(place, held);
    line->held_count++;
    if (held->is_write) {
        route__keys_add(&line->waiting_writes, request->order_key);
    }
    route->statistics.kept_count++;
    route->statistics.held_count++;
    route->statistics.waiting_count++;
    route->statistics.held_size_bytes += size_of(held);
    route__line_ready(line);
}

/* ---- Leaving --------------------------------------------------------------------------------- */

static void unsend(struct route_held *held)
{
    struct route_line *line = held->line;
    struct route_place *place = line->place;
    held->is_sent = false;
    list_remove(&held->link);
    route__table_remove(&place->sent, &held->by_sequence);
    *route__sent_size_bytes(place, held) -= size_of(held);
    bool is_plain = !route__is_logged(held);
    if (is_plain) {
        route__keys_remove(&line->sent_reads, held->request->order_key);
    }
    /* R3: the next write may go. Or what was returned, once the last is back. */
    if (is_plain || list_is_empty(&line->sent)) {
        route__line_ready(line);
    }
}

void route__return(struct route_held *held)
{
    struct route_line *line = held->line;
    unsend(held);
    held->is_logged &= held->is_in_doubt;
    if (held->is_write) {
        route__keys_add(&line->waiting_writes, held->request->order_key);
    }
    line->place->route->statistics.waiting_count++;
    insert_by_sequence(line, held);
}

static void take_out(struct route_held *held)
{
    struct route_line *line = held->line;
    struct route_place *place = line->place;
    struct route_statistics *statistics = &place->route->statistics;
    if (held->is_sent) {
        unsend(held);
    } else {
        if (held->is_write) {
            route__keys_remove(&line->waiting_writes, held->request->order_key);
        }
        statistics->waiting_count--;
    }
    list_remove(&held->link);
    list_remove(&held->age);
    line->held_count--;
    statistics->held_count--;
    statistics->held_size_bytes -= size_of(held);
    end_if_empty(line);
}

void route__release(struct route_held *held)
{
    take_out(held);
    memory_free(held);
}

/* Of a plain read no replica has an answer. */
static void end_request(struct route_held *held)
{
    if (route__is_logged(held)) {
        route__end_logged(held->line->place, held->request);
    } else {
        route__end(held->request);
    }
}

void route__finish(struct route_held *held, int status, struct bytes reply)
{
    struct shard_request *request = held->request;
    struct route_statistics *statistics = &held->line->place->route->statistics;
    statistics->answered_count += status == 0;
    statistics->outcome_unknown_count += status == ERROR_OUTCOME_UNKNOWN;
    statistics->no_leader_count += status == ERROR_NOT_LEADER;
    list_remove(&request->route.link);
    end_request(held);
    route__release(held);
    request->done(request, status, reply); /* The session may be gone. */
}

void route__finish_moved(struct route_held *held)
{
    PROBE("route.moved");
    struct shard_request *request = held->request;
    uint32_t argument_count = request->command.argument_count;
    struct bytes *arguments = memory_allocate((argument_count + 1u) * sizeof *arguments);
    route__decode_arguments(bytes_make(held->encoded + ROUTE__REQUEST_HEAD_SIZE_BYTES,
                                       held->encoded_size_bytes - ROUTE__REQUEST_HEAD_SIZE_BYTES),
                            argument_count, arguments);
    held->line->place->route->statistics.moved_count++;
    list_remove(&request->route.link);
    end_request(held);
    take_out(held);
    request->command.arguments = arguments;
    request->done(request, ERROR_MOVED, (struct bytes){0}); /* The session may be gone. */
    memory_free(arguments);
    memory_free(held);
}

void route__finish_refused(struct route_held *held, int status)
{
    held->line->place->route->statistics.refused_count++;
    /* The leader has no room for it, but an earlier one may have had (I4). */
    if (held->is_in_doubt && held->is_write) {
        PROBE("route.retry_refused");
        status = ERROR_OUTCOME_UNKNOWN;
    }
    route__finish(held, status, (struct bytes){0});
}

/* ---- Back into the lines --------------------------------------------------------------------- */

static void take_back_one(struct route_place *place, struct route_held *held)
{
    held->is_sent = false;
    route__table_remove(&place->sent, &held->by_sequence);
    held->is_refused |= held->message_number > place->accepted_number;
    if (route__is_logged(held) && !held->is_refused) {
        held->is_in_doubt = true;
    }
    if (!held->is_in_doubt) {
        held->is_logged = false; /* It may be a plain read again. */
    }
    held->is_refused = false;
    if (held->is_write) {
        route__keys_add(&held->line->waiting_writes, held->request->order_key);
    }
    if (held->is_in_doubt && BUG("route.retry_renumbered")) {
        held->request->sequence = ++place->route->sequence;
    }
}

void route__take_back(struct route_place *place)
{
    struct route_statistics *statistics = &place->route->statistics;
    statistics->waiting_count += place->sent.item_count;
    statistics->lost_stream_count += place->sent.item_count > 0;
    LIST_EACH(member, next, &place->lines)
    {
        struct route_line *line = LIST_ITEM(member, struct route_line, link);
        while (!list_is_empty(&line->sent)) {
            struct route_held *held = held_of(line->sent.previous);
            list_remove(&held->link);
            take_back_one(place, held);
            if (BUG("route.order_lost")) {
                list_push_back(&line->waiting, &held->link);
            } else {
                insert_near_front(line, held);
            }
        }
        line->sent_reads = (struct route_keys){0};
        line->must_gather = false;
        route__line_ready(line);
    }
    place->sent_size_bytes = 0;
    place->sent_release_size_bytes = 0;
    ASSERT(place->sent.item_count == 0);
}

/* ---- Time ------------------------------------------------------------------------------------ */

uint64_t route__expire(struct route_place *place, uint64_t now_ms)
{
    while (!list_is_empty(&place->ages)) {
        struct route_held *held = LIST_ITEM(place->ages.next, struct route_held, age);
        if (held->request->route.until_ms > now_ms) {
            return held->request->route.until_ms;
        }
        bool is_in_doubt = held->is_in_doubt || (held->is_sent && !held->is_refused);
        bool is_unknown = held->is_write && is_in_doubt;
        PROBE("route.expired");
        route__finish(held, is_unknown ? ERROR_OUTCOME_UNKNOWN : ERROR_NOT_LEADER,
                      (struct bytes){0});
    }
    return UINT64_MAX;
}

void route__hasten(struct route_place *place, uint64_t until_ms)
{
    LIST_EACH(member, next, &place->ages)
    {
        struct shard_request *request = LIST_ITEM(member, struct route_held, age)->request;
        if (request->route.until_ms > until_ms) {
            request->route.until_ms = until_ms;
        }
    }
}

void route__lines_destroy(struct route_place *place)
{
    while (!list_is_empty(&place->ages)) {
        route__release(LIST_ITEM(place->ages.next, struct route_held, age));
    }
}
