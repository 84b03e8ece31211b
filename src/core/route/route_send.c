/* SPDX-License-Identifier: Apache-2.0 */
/* From the lines to where the leader is, and replies.
 *
 * The argument about order (route.h) rests on two functions here: next_to_send() says what of a
 * line may go into a stream (R3), submit_line() gives a line to the local replica. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/route/route_internal.h"

static struct route_held *first_waiting(const struct route_line *line)
{
    if (list_is_empty(&line->waiting)) {
        return NULL;
    }
    return LIST_ITEM(line->waiting.next, struct route_held, link);
}

/* R1: the local replica has requests of the session, from when it led before. */
static bool is_at_replica(const struct route_place *place, const struct route_line *line)
{
    const struct shard_session *session = line->session;
    return session->route.local_count > 0 &&
           (place->kind != ROUTE_PLACE_LOCAL || session->route.local_epoch != place->local_epoch);
}

/* A set of order keys. */
struct marks {
    uint32_t count;
    bool has_all; /* One that may be any. */
    uint64_t words[SLOTS_COUNT / 64 + 1];
};

static void mark(struct marks *marks, uint16_t order_key)
{
    ASSERT(order_key <= SLOTS_COUNT);
    marks->count++;
    marks->has_all |= order_key == 0;
    marks->words[order_key / 64] |= 1ull << order_key % 64;
}

/* As route__are_ordered(), for any of those. */
static bool is_marked(const struct marks *marks, uint16_t order_key)
{
    return marks->has_all || (order_key == 0 && marks->count > 0) ||
           (marks->words[order_key / 64] >> order_key % 64 & 1) != 0;
}

/* Of the reads that the local replica handed back, those with a write of the same keys behind them that
 * took effect or may have. Gathers them in `lost`, and returns how many they are. */
static uint32_t find_lost_reads(struct route_line *line, struct list *lost)
{
    struct marks marks = {0};
    uint32_t count = 0;
    for (struct list *member = line->waiting.previous, *previous = member->previous;
         member != &line->waiting; member = previous, previous = member->previous) {
        struct route_held *held = LIST_ITEM(member, struct route_held, link);
        const struct shard_request *request = held->request;
        if (held->is_write && held->is_in_doubt) {
            mark(&marks, request->order_key);
        } else if (!route__is_logged(held) && !BUG("route.overtaken_read_asked") &&
                   (request->route.is_overtaken || is_marked(&marks, request->order_key))) {
            list_remove(member);
            list_push_front(lost, member);
            count++;
        }
    }
    return count;
}

/* Returns false when the line is gone. */
static bool answer_lost_reads(struct route_line *line)
{
    line->has_handed_back = false;
    struct list lost;
    list_init(&lost);
    uint32_t lost_count = find_lost_reads(line, &lost);
    while (list_pop_front(&line->session->route.reads) != NULL) {
        /* What the replica gets from now on begins anew. */
    }
    bool is_gone = line->held_count == lost_count;
    while (!list_is_empty(&lost)) {
        PROBE("route.read_lost");
        struct route_held *held = LIST_ITEM(lost.next, struct route_held, link);
        route__finish(held, ERROR_OUTCOME_UNKNOWN, (struct bytes){0});
    }
    return !is_gone;
}

/* ---- To the local replica -------------------------------------------------------------------- */

static int submit_held(struct route_place *place, struct route_held *held)
{
    struct route *route = place->route;
    struct shard_request *request = held->request;
    request->command.arguments = route__arguments(route, request->command.argument_count);
    route__decode_arguments(bytes_make(held->encoded + ROUTE__REQUEST_HEAD_SIZE_BYTES,
                                       held->encoded_size_bytes - ROUTE__REQUEST_HEAD_SIZE_BYTES),
                            request->command.argument_count, route->arguments);
    request->copy = NULL;
    request->is_retry = held->is_in_doubt && !BUG("route.retry_not_marked");
    route__note_seen(place, held);
    held->is_logged &= held->is_in_doubt;
    if (held->is_logged) {
        request->is_write = true;
        request->route.is_logged = true;
    }
    buffer_clear(&route->answer);
    struct reply reply = {.target = &route->answer, .protocol = request->protocol};
    int status = route__submit_direct(place, request, &reply);
    if (status != SHARD_PENDING && held->is_logged) {
        request->is_write = false;
        request->route.is_logged = false;
    }
    return status;
}

enum submitted { SUBMITTED_ALL, SUBMITTED_BUSY_LINE, SUBMITTED_BUSY, SUBMITTED_LEFT };

static enum submitted submit_line(struct route_place *place, struct route_line *line)
{
    if (is_at_replica(place, line) || (line->has_handed_back && !answer_lost_reads(line))) {
        return SUBMITTED_ALL;
    }
    for (bool is_last = false; !is_last;) {
        struct route_held *held = first_waiting(line);
        bool is_in_doubt = held->is_in_doubt;
        is_last = line->held_count == 1;
        int status = submit_held(place, held);
        switch (status) {
        case SHARD_PENDING:
            place->route->statistics.retried_count += is_in_doubt;
            route__release(held);
            break;
        case SHARD_ANSWERED:
            place->route->statistics.retried_count += is_in_doubt;
            route__finish(held, 0, buffer_bytes(&place->route->answer));
            break;
        case -EBUSY:
            /* A retry may be on its way already: that holds up its session alone. */
            return is_in_doubt ? SUBMITTED_BUSY_LINE : SUBMITTED_BUSY;
        case ERROR_NOT_LEADER:
            return SUBMITTED_LEFT;
        case ERROR_OUTCOME_UNKNOWN:
            route__finish(held, status, (struct bytes){0});
            break;
        case ERROR_MOVED:
            route__finish_moved(held);
            break;
        default:
            route__finish_refused(held, status);
            break;
        }
    }
    return SUBMITTED_ALL;
}

static void dispatch_local(struct route_place *place)
{
    struct list todo;
    list_init(&todo);
    list_append_all(&todo, &place->ready);
    while (!list_is_empty(&todo)) {
        struct route_line *line = LIST_ITEM(todo.next, struct route_line, ready);
        list_remove(&line->ready);
        enum submitted submitted = submit_line(place, line);
        if (submitted == SUBMITTED_ALL) {
            continue;
        }
        route__line_ready(line);
        if (submitted != SUBMITTED_BUSY_LINE) {
            list_append_all(&place->ready, &todo);
        }
        if (submitted == SUBMITTED_LEFT) {
            route__place_leave(place);
        }
    }
}

/* ---- Into a stream --------------------------------------------------------------------------- */

static bool will_be_logged(const struct route_line *line, const struct route_held *held)
{
    uint16_t key = held->request->order_key;
    return !held->is_write && held->request->is_cheap &&
           route__keys_have(&line->waiting_writes, key) &&
           !route__keys_have(&line->sent_reads, key);
}

/* What may go next; NULL: nothing for now. */
static struct route_held *next_to_send(const struct route_place *place,
                                       const struct route_line *line)
{
    struct route_held *held = first_waiting(line);
    if (held == NULL || is_at_replica(place, line)) {
        return NULL;
    }
    if (line->must_gather && !list_is_empty(&line->sent)) {
        return NULL; /* R4 */
    }
    if (route__is_logged(held) && !BUG("route.read_unguarded") &&
        route__keys_have(&line->sent_reads, held->request->order_key)) {
        PROBE("route.write_waits_for_read");
        return NULL; /* R3 */
    }
    return held;
}

static void take(struct route_place *place, struct route_held *held, uint64_t now_ms)
{
    struct route_line *line = held->line;
    struct shard_request *request = held->request;
    held->is_logged |= will_be_logged(line, held);
    route__note_seen(place, held);
    uint64_t patience_ms = request->route.until_ms > now_ms ? request->route.until_ms - now_ms : 1;
    struct route_wire_request wire = {
        .session = line->session->route.number,
        .sequence = request->sequence,
        .known_index = request->known_index,
        .opcode = request->command.opcode,
        .protocol = request->protocol,
        .is_write = route__is_logged(held),
        .does_grow = held->is_write && request->does_grow,
        .is_retry = held->is_in_doubt && !BUG("route.retry_not_marked"),
        .patience_ms = patience_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)patience_ms,
        .argument_count = request->command.argument_count,
        .arguments = {NULL, held->encoded_size_bytes - ROUTE__REQUEST_HEAD_SIZE_BYTES},
    };
    route__encode_request_head(held->encoded, &wire);
    line->must_gather = false;
    list_remove(&held->link);
    list_push_back(&line->sent, &held->link);
    held->is_sent = true;
    route__table_add(&place->sent, request->sequence, &held->by_sequence);
    *route__sent_size_bytes(place, held) += route__charge(held->encoded_size_bytes);
    if (held->is_write) {
        route__keys_remove(&line->waiting_writes, request->order_key);
    } else if (!held->is_logged) {
        route__keys_add(&line->sent_reads, request->order_key);
    }
    place->route->statistics.waiting_count--;
}

static void put_back(struct route_place *place, struct route_held *held)
{
    struct route_line *line = held->line;
    if (held->is_write) {
        route__keys_add(&line->waiting_writes, held->request->order_key);
    } else if (!held->is_logged) {
        route__keys_remove(&line->sent_reads, held->request->order_key);
    }
    held->is_logged &= held->is_in_doubt;
    *route__sent_size_bytes(place, held) -= route__charge(held->encoded_size_bytes);
    route__table_remove(&place->sent, &held->by_sequence);
    held->is_sent = false;
    list_remove(&held->link);
    list_push_front(&line->waiting, &held->link);
    place->route->statistics.waiting_count++;
    route__line_ready(line);
}

/* Than all that the other side keeps of others. */
static bool is_larger(const struct route_place *place, const struct route_held *held)
{
    return route__charge(held->encoded_size_bytes) > place->room_bytes;
}

/* I6. What releases goes beside whatever is under way, which may wait for it. One that is larger goes beside so much
 * that it need not wait for the last of those that are, of which one may wait for long. */
static bool has_room(struct route_place *place, const struct route_held *held)
{
    bool does_release = held->request->does_release;
    uint64_t room = does_release ? place->room_bytes / 2 : place->room_bytes;
    uint64_t sent_size_bytes = *route__sent_size_bytes(place, held);
    if (!does_release && is_larger(place, held)) {
        return sent_size_bytes <= room / 2;
    }
    return sent_size_bytes == 0 ||
           sent_size_bytes + route__charge(held->encoded_size_bytes) <= room;
}

static bool is_full(struct route_place *place, const struct route_held *held, uint32_t batch_count,
                    uint64_t batch_size_bytes)
{
    bool is_message_full = batch_count == ROUTE__BATCH_COUNT_MAX ||
                           (batch_count > 0 && batch_size_bytes + held->encoded_size_bytes >
                                                   place->route->options.message_size_bytes_max);
    return is_message_full || !has_room(place, held);
}

/* Those of a message are for the same slots. */
static bool is_of_batch(const struct route *route, uint32_t count, const struct route_line *line)
{
    if (count == 0 || BUG("route.slots_mixed")) {
        return true;
    }
    const struct route_line *first = route->batch[0]->line;
    return first->first_slot == line->first_slot && first->end_slot == line->end_slot;
}

/* Gather what goes into one message. */
static uint32_t fill_batch(struct route_place *place, uint64_t now_ms)
{
    struct route *route = place->route;
    uint32_t count = 0;
    uint64_t size_bytes = ROUTE__REQUESTS_HEAD_SIZE_BYTES;
    LIST_EACH(member, next, &place->ready)
    {
        struct route_line *line = LIST_ITEM(member, struct route_line, ready);
        if (!is_of_batch(route, count, line)) {
            continue; /* For the next message. */
        }
        bool has_taken = false;
        for (struct route_held *held; (held = next_to_send(place, line)) != NULL;) {
            if (is_full(place, held, count, size_bytes)) {
                if (has_taken && !held->request->does_release) {
                    list_remove(member);
                    list_push_back(&place->ready, member); /* The others' turn. */
                }
                return count; /* Who had none stays in front: else what fits would pass it for ever. */
            }
            take(place, held, now_ms);
            has_taken = true;
            size_bytes += held->encoded_size_bytes;
            route->batch[count++] = held;
            route->pieces[count] = bytes_make(held->encoded, held->encoded_size_bytes);
        }
        list_remove(member);
    }
    return count;
}

static bool does_name_slots(const struct route_place *place)
{
    const struct route_host *host = &place->route->options.host;
    return host->knows_slots == NULL || host->knows_slots(host->context, place->node) ||
           BUG("route.slots_to_old");
}

static int send_batch(struct route_place *place, uint32_t count)
{
    struct route *route = place->route;
    bool names_slots = count > 0 && does_name_slots(place);
    uint8_t head[ROUTE__REQUESTS_HEAD_SIZE_BYTES];
    struct route_message message = {
        .shard = place->shard,
        .number = place->grant,
        .message_number = place->sent_number + 1,
        .origin = route->options.origin,
        .seen_number = place->reply_number,
        .first_slot = names_slots ? route->batch[0]->line->first_slot : 0,
        .end_slot = names_slots ? route->batch[0]->line->end_slot : 0,
        .item_count = count,
    };
    route__encode_requests_head(head, &message);
    route->pieces[0] = bytes_make(head, sizeof head);
    int status = route__send(route, place->node, route->pieces, count + 1);
    place->sent_number += status == 0;
    place->owes_sight &= status != 0;
    return status;
}

void route__send_nothing(struct route_place *place)
{
    (void)send_batch(place, 0); /* If it is not sent, silence will tell. */
}

static void dispatch_remote(struct route_place *place, uint64_t now_ms)
{
    struct route *route = place->route;
    place->is_choked = false;
    for (;;) {
        bool was_idle = place->sent.item_count == 0;
        uint32_t count = fill_batch(place, now_ms);
        if (count == 0) {
            break;
        }
        int status = send_batch(place, count);
        if (status != 0) {
            for (uint32_t i = count; i-- > 0;) {
                put_back(place, route->batch[i]);
            }
            place->is_choked = status == -EBUSY;
            if (status != -EBUSY) {
                place->failed_count++;
                route__place_leave_later(place, now_ms);
            }
            return;
        }
        for (uint32_t i = 0; i < count; i++) {
            route->batch[i]->message_number = place->sent_number;
            route->statistics.retried_count += route->batch[i]->is_in_doubt;
            route->statistics.logged_read_count += route->batch[i]->is_logged;
        }
        route->statistics.forwarded_count += count;
        if (was_idle) {
            place->heard_at_ms = now_ms; /* It owes a word from now on. */
            place->is_asked_for_word = false;
        }
    }
    if (place->owes_sight) {
        route__send_nothing(place);
    }
}

void route__dispatch(struct route_place *place, uint64_t now_ms)
{
    if (place->kind == ROUTE_PLACE_LOCAL) {
        dispatch_local(place);
        return;
    }
    LIST_EACH(member, next, &place->ready)
    {
        struct route_line *line = LIST_ITEM(member, struct route_line, ready);
        if (line->has_handed_back && !is_at_replica(place, line)) {
            (void)answer_lost_reads(line);
        }
    }
    dispatch_remote(place, now_ms);
}

/* ---- Replies --------------------------------------------------------------------------------- */

/* R4, for a session that is not known any more by what was refused. That is rare, and to gather
 * costs the others a pause. */
static void gather_all(struct route_place *place)
{
    place->owes_sight = true;
    LIST_EACH(member, next, &place->lines)
    {
        struct route_line *line = LIST_ITEM(member, struct route_line, link);
        line->must_gather |= !list_is_empty(&line->sent);
    }
}

static void take_reply(struct route_place *place, const struct route_wire_reply *wire)
{
    struct route_table_item *item = route__table_find(&place->sent, wire->sequence);
    if (item == NULL) {
        PROBE("route.reply_late"); /* Given up meanwhile. */
        if (route__is_refusal(wire->verdict)) {
            gather_all(place);
        }
        return;
    }
    struct route_held *held = LIST_ITEM(item, struct route_held, by_sequence);
    if (BUG("route.reply_mismatched")) {
        held = LIST_ITEM(held->line->sent.next, struct route_held, link);
    }
    if (route__is_refusal(wire->verdict)) {
        held->line->must_gather = true;
        place->owes_sight = true;
    }
    switch (wire->verdict) {
    case ROUTE_VERDICT_ANSWERED:
        route__finish(held, 0, wire->reply);
        return;
    case ROUTE_VERDICT_NOT_LEADER:
        held->is_refused = true; /* The end of the stream follows. */
        return;
    case ROUTE_VERDICT_NO_SPACE:
        route__finish_refused(held, -ENOSPC);
        return;
    case ROUTE_VERDICT_TOO_LARGE:
        route__finish_refused(held, -E2BIG);
        return;
    case ROUTE_VERDICT_UNKNOWN:
        route__finish(held, ERROR_OUTCOME_UNKNOWN, (struct bytes){0});
        return;
    case ROUTE_VERDICT_RETURNED:
        PROBE("route.returned");
        route__return(held);
        return;
    case ROUTE_VERDICT_MOVED:
        route__finish_moved(held);
        return;
    case ROUTE_VERDICT_COUNT:
        break;
    }
    ASSERT(false); /* It was decoded. */
}

void route__replies(struct route_place *place, const struct route_message *message)
{
    uint64_t now_ms = route__now_ms(place->route);
    if (message->message_number <= place->reply_number) {
        PROBE("route.replies_repeated");
        return;
    }
    if (message->message_number != place->reply_number + 1) {
        PROBE("route.replies_missing");
        struct route_message gap = {.reason = ROUTE_ENDED_GAP, .message_number = UINT64_MAX};
        route__ended(place, &gap, now_ms);
        return;
    }
    place->reply_number++;
    place->heard_at_ms = now_ms;
    place->is_asked_for_word = false;
    place->at_once_count = 0;
    place->failed_count = 0;
    place->backoff_ms = place->route->options.backoff_ms_min;
    if (message->applied_index > place->seen_index) {
        place->seen_index = message->applied_index;
    }
    struct bytes items = message->items;
    uint64_t grant = place->grant;
    for (uint32_t i = 0; i < message->item_count && place->grant == grant; i++) {
        struct route_wire_reply wire;
        route__next_reply(&items, &wire);
        take_reply(place, &wire);
    }
}
