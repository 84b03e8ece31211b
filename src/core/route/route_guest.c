/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of other nodes.
 *
 * A *guest* is a life of another node that sends requests for this shard. Its requests are
 * submitted when they come, in sessions that mirror those over there; what a busy shard refuses is
 * queued and tried again each tick. Sessions live while they have requests, and outlive a stream:
 * what the next one brings for the same session stands behind what the replica still has.
 *
 * Replies gather in chunks until the end of the tick (route_chunk.c). While many wait for a connection
 * that is slow, further requests are queued. What is executed then all the same may not be told: plain reads
 * come again, of the others nobody knows what became of them. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "core/route/route_internal.h"

struct guest {
    struct list link; /* In the place's `guests`. */
    struct route_place *place;
    raft_node node;
    uint64_t boot_id;
    bool is_gone; /* The node lives anew: kept for what the replica has of this life. */

    uint64_t grant; /* 0: no stream. */
    uint64_t request_number;
    bool is_lost; /* The replica does not lead: the stream ends with this tick. */
    bool is_busy; /* The shard is: what comes is queued. */
    bool owes_word;
    /* The stream that has ended, to be told once the replies are sent; 0: none. */
    uint64_t ended_grant;
    enum route_ended_reason ended_reason;

    struct list queue;     /* struct guest_request that are not submitted, in order. */
    struct list submitted; /* The others. */
    uint64_t queued_count;
    uint64_t submitted_count;
    struct route_table sessions;
    struct list refusing; /* Sessions whose refusal was not seen yet. */
    uint64_t size_bytes;

    struct route_chunks chunks; /* Replies. */
};

struct guest_session {
    struct route_table_item by_number;
    struct shard_session session;
    uint32_t queued_count;
    uint32_t submitted_count;
    uint64_t refused_in_pass; /* The last pass over the queue in which the shard was busy. */
    uint64_t refusal_count;
    uint64_t refusal_number; /* The message of replies that tells of the newest refusal. */
    uint64_t returned_count; /* Reads whose reply was too much. */
    struct list refusing;    /* In the guest's list until that was seen (R4); else alone. */
};

struct guest_request {
    struct shard_request request;
    struct list link;
    struct guest *guest;
    struct guest_session *session;
    uint64_t grant;
    uint64_t until_ms;
    uint64_t refusal_count; /* Its session's, when it came; */
    uint64_t returned_count;
    uint64_t size_bytes;
    uint8_t *arguments; /* A copy of the encoded ones, while queued. */
    size_t arguments_size_bytes;
};

static void add_reply(struct guest *guest, uint64_t sequence, enum route_verdict verdict,
                      struct bytes reply)
{
    route__activate(guest->place);
    route__chunks_add(
        &guest->chunks,
        &(struct route_wire_reply){.sequence = sequence, .verdict = verdict, .reply = reply});
}

/* ---- Sessions and requests ------------------------------------------------------------------- */

static struct guest_session *session_of(struct guest *guest, uint64_t number)
{
    struct route_table_item *item = route__table_find(&guest->sessions, number);
    if (item != NULL) {
        return LIST_ITEM(item, struct guest_session, by_number);
    }
    struct guest_session *session = memory_allocate_zeroed(1, sizeof *session);
    shard_session_init(&session->session);
    list_init(&session->refusing);
    route__table_add(&guest->sessions, number, &session->by_number);
    return session;
}

static bool is_refusing(const struct guest_session *session)
{
    return !list_is_empty(&session->refusing);
}

static void end_session_if_idle(struct guest *guest, struct guest_session *session)
{
    if (session->queued_count == 0 && session->submitted_count == 0 && !is_refusing(session)) {
        route__table_remove(&guest->sessions, &session->by_number);
        memory_free(session);
    }
}

/* The request is in no list and the replica does not know it. */
static void request_free(struct guest_request *request)
{
    struct guest *guest = request->guest;
    guest->size_bytes -= request->size_bytes;
    end_session_if_idle(guest, request->session);
    memory_free(request->arguments);
    memory_free(request);
}

static void queue_request(struct guest_request *request, struct bytes arguments)
{
    request->arguments = memory_allocate(arguments.size_bytes + 1);
    if (arguments.size_bytes > 0) {
        memcpy(request->arguments, arguments.data, arguments.size_bytes);
    }
    request->arguments_size_bytes = arguments.size_bytes;
    request->session->queued_count++;
    request->guest->queued_count++;
    list_push_back(&request->guest->queue, &request->link);
}

static void unqueue_request(struct guest_request *request)
{
    list_remove(&request->link);
    request->session->queued_count--;
    request->guest->queued_count--;
}

static void drop_queue(struct guest *guest, bool must_tell)
{
    while (!list_is_empty(&guest->queue)) {
        struct guest_request *request = LIST_ITEM(guest->queue.next, struct guest_request, link);
        unqueue_request(request);
        if (must_tell) {
            add_reply(guest, request->request.sequence, ROUTE_VERDICT_NOT_LEADER,
                      (struct bytes){0});
        }
        request_free(request);
    }
    guest->is_busy = false;
    for (struct list *member; (member = list_pop_front(&guest->refusing)) != NULL;) {
        end_session_if_idle(guest, LIST_ITEM(member, struct guest_session, refusing));
    }
}

/* ---- Streams --------------------------------------------------------------------------------- */

static struct guest *find_guest(struct route_place *place, raft_node node, uint64_t boot_id)
{
    LIST_EACH(member, next, &place->guests)
    {
        struct guest *guest = LIST_ITEM(member, struct guest, link);
        if (guest->node == node && guest->boot_id == boot_id && !guest->is_gone) {
            return guest;
        }
    }
    return NULL;
}

/* What the replica has and has not put into its log, because a transaction holds a key of it, ends with the
 * stream, too: else each PREPARE of a dead node would take its locks when its turn comes, and hold them until
 * it is recovered, one after the other. */
static void disown_submitted(struct guest *guest)
{
    LIST_EACH(member, next, &guest->submitted)
    {
        LIST_ITEM(member, struct guest_request, link)->request.is_unwanted = true;
    }
}

/* Nothing is told, and nothing more is submitted. */
static void drop_stream(struct guest *guest)
{
    disown_submitted(guest);
    drop_queue(guest, false);
    route__chunks_clear(&guest->chunks);
    guest->grant = 0;
    guest->is_lost = false;
    guest->owes_word = false;
    guest->ended_grant = 0;
}

static void end_stream(struct guest *guest, enum route_ended_reason reason)
{
    if (guest->grant == 0) {
        return;
    }
    PROBE("route.guest_stream_ended");
    TRACE("route.guest_ended", guest->place->route->options.self, guest->node, guest->grant,
          reason);
    drop_queue(guest, true);
    disown_submitted(guest);
    route__activate(guest->place);
    guest->ended_grant = guest->grant;
    guest->ended_reason = reason;
    guest->grant = 0;
    guest->is_lost = false;
    guest->owes_word = false;
    guest->place->route->statistics.ended_stream_count++;
}

static raft_node leader_hint(const struct route_place *place)
{
    raft_node leader = route__local_leader(place);
    return leader == place->route->options.self ? 0 : leader;
}

/* False when it could not be sent. */
static bool send_ended(struct route_place *place, raft_node node, uint64_t grant,
                       enum route_ended_reason reason, uint64_t accepted_number)
{
    uint8_t bytes[ROUTE__ENDED_SIZE_BYTES];
    struct route_message message = {
        .shard = place->shard,
        .number = grant,
        .leader = leader_hint(place),
        .reason = reason,
        .message_number = accepted_number,
    };
    route__encode_ended(bytes, &message);
    struct bytes piece = bytes_make(bytes, sizeof bytes);
    return route__send(place->route, node, &piece, 1) == 0;
}

/* Another life of the node: the former ones are over. */
static void end_other_lives(struct route_place *place, raft_node node, uint64_t boot_id)
{
    LIST_EACH(member, next, &place->guests)
    {
        struct guest *guest = LIST_ITEM(member, struct guest, link);
        if (guest->node == node && guest->boot_id != boot_id && !guest->is_gone) {
            PROBE("route.guest_lives_anew");
            drop_stream(guest);
            guest->is_gone = true;
        }
    }
}

static struct guest *guest_create(struct route_place *place, raft_node node, uint64_t boot_id)
{
    struct guest *guest = memory_allocate_zeroed(1, sizeof *guest);
    guest->place = place;
    guest->node = node;
    guest->boot_id = boot_id;
    list_init(&guest->queue);
    list_init(&guest->submitted);
    route__chunks_init(&guest->chunks, place->route, node);
    list_init(&guest->refusing);
    list_init(&guest->link);
    list_push_back(&place->guests, &guest->link);
    return guest;
}

void route__asked(struct route_place *place, raft_node from, uint64_t boot_id,
                  const struct route_message *message)
{
    struct route *route = place->route;
    end_other_lives(place, from, boot_id);
    struct guest *guest = find_guest(place, from, boot_id);
    if (guest != NULL) {
        drop_stream(guest); /* Whoever asks expects nothing of it any more. */
    }
    struct route_message told = {
        .shard = place->shard,
        .number = message->number,
        .applied_index = route__seen_index(place),
        .room_bytes = route->options.guest_size_bytes_max,
        .leader = leader_hint(place),
    };
    if (route__local_leader(place) == route->options.self && !route->is_stopping) {
        if (guest == NULL) {
            guest = guest_create(place, from, boot_id);
        }
        guest->grant = route->next_grant++;
        guest->request_number = 0;
        guest->chunks.number = 0;
        told.grant = guest->grant;
        told.leader = route->options.self;
    }
    uint8_t bytes[ROUTE__TOLD_SIZE_BYTES];
    route__encode_told(bytes, &told);
    struct bytes piece = bytes_make(bytes, sizeof bytes);
    (void)route__send(route, from, &piece, 1); /* Else it asks again. */
}

void route__asked_unknown(struct route *route, raft_node from, const struct route_message *message)
{
    struct route_message told = {.shard = message->shard,
                                 .number = message->number,
                                 .room_bytes = route->options.guest_size_bytes_max};
    uint8_t bytes[ROUTE__TOLD_SIZE_BYTES];
    route__encode_told(bytes, &told);
    struct bytes piece = bytes_make(bytes, sizeof bytes);
    (void)route__send(route, from, &piece, 1);
}

/* ---- Submitting ------------------------------------------------------------------------------ */

static enum route_verdict verdict_of(int status)
{
    switch (status) {
    case SHARD_ANSWERED:
        return ROUTE_VERDICT_ANSWERED;
    case -ENOSPC:
        return ROUTE_VERDICT_NO_SPACE;
    case -E2BIG:
        return ROUTE_VERDICT_TOO_LARGE;
    case ERROR_OUTCOME_UNKNOWN:
        return ROUTE_VERDICT_UNKNOWN;
    case ERROR_MOVED:
        return ROUTE_VERDICT_MOVED;
    default:
        return ROUTE_VERDICT_NOT_LEADER;
    }
}

static void unsubmit(struct guest_request *request)
{
    list_remove(&request->link);
    request->session->submitted_count--;
    request->guest->submitted_count--;
}

/* R4: until the other side has seen the reply that was just added. */
static void note_refusal(struct guest *guest, struct guest_session *session)
{
    session->refusal_count++;
    session->refusal_number = guest->chunks.number;
    list_remove(&session->refusing);
    list_push_back(&guest->refusing, &session->refusing);
}

/* A read is asked again: by R3 no write of its keys has come behind it. */
static void return_read(const struct guest_request *request)
{
    request->session->returned_count++;
    add_reply(request->guest, request->request.sequence, ROUTE_VERDICT_RETURNED, (struct bytes){0});
    note_refusal(request->guest, request->session);
}

static void add_answer(const struct guest_request *request, struct bytes reply)
{
    struct guest *guest = request->guest;
    const struct guest_session *session = request->session;
    bool is_read = !request->request.is_write;
    if (is_read && request->returned_count != session->returned_count) {
        return_read(request); /* One before it comes again, and must not show more than this one. */
    } else if (route__chunks_may_take(&guest->chunks, reply)) {
        add_reply(guest, request->request.sequence, ROUTE_VERDICT_ANSWERED, reply);
    } else if (is_read && reply.size_bytes <= ROUTE_REPLY_SIZE_BYTES_MAX) {
        PROBE("route.guest_reply_returned");
        return_read(request);
    } else {
        PROBE("route.guest_reply_too_long");
        add_reply(guest, request->request.sequence, ROUTE_VERDICT_UNKNOWN, (struct bytes){0});
        note_refusal(guest, request->session);
    }
}

static void request_done(struct shard_request *shard_request, int status, struct bytes reply)
{
    struct guest_request *request = LIST_ITEM(shard_request, struct guest_request, request);
    struct guest *guest = request->guest;
    unsubmit(request);
    if (request->grant != guest->grant) {
        PROBE("route.guest_reply_unwanted");
    } else if (status == 0) {
        add_answer(request, reply);
    } else {
        route__activate(guest->place);
        guest->is_lost = true; /* What is not answered when the stream ends is in doubt. */
    }
    request_free(request);
}

static void refusals_seen(struct guest *guest, uint64_t seen_number)
{
    while (!list_is_empty(&guest->refusing)) {
        struct guest_session *session =
            LIST_ITEM(guest->refusing.next, struct guest_session, refusing);
        if (session->refusal_number > seen_number) {
            return;
        }
        list_remove(&session->refusing);
        end_session_if_idle(guest, session);
    }
}

/* Does the request wait for a later tick? */
static bool submit(struct guest_request *request, struct bytes arguments)
{
    struct guest *guest = request->guest;
    struct route_place *place = guest->place;
    struct route *route = place->route;
    struct shard_request *shard_request = &request->request;
    shard_request->command.arguments =
        route__arguments(route, shard_request->command.argument_count);
    route__decode_arguments(arguments, shard_request->command.argument_count, route->arguments);
    shard_request->copy = NULL;
    buffer_clear(&route->answer);
    struct reply reply = {.target = &route->answer, .protocol = shard_request->protocol};
    /* Others of the session may be answered from within, which must not end it. */
    request->session->submitted_count++;
    guest->submitted_count++;
    list_push_back(&guest->submitted, &request->link);
    int status = route__submit_local(place, shard_request, &reply);
    if (status == SHARD_PENDING) {
        route->statistics.served_count++;
        return false;
    }
    unsubmit(request);
    if (status == -EBUSY) {
        /* A retry may be on its way already: that says nothing of the others. */
        guest->is_busy |= !shard_request->is_retry;
        return true;
    }
    enum route_verdict verdict = verdict_of(status);
    route->statistics.served_count += verdict == ROUTE_VERDICT_ANSWERED;
    guest->is_lost |= verdict == ROUTE_VERDICT_NOT_LEADER;
    if (verdict == ROUTE_VERDICT_ANSWERED) {
        add_answer(request, buffer_bytes(&route->answer));
    } else {
        add_reply(guest, shard_request->sequence, verdict, (struct bytes){0});
    }
    if (route__is_refusal(verdict)) {
        note_refusal(guest, request->session);
    }
    request_free(request);
    return false;
}

static bool may_submit(const struct guest *guest)
{
    return !guest->is_busy && route__chunks_have_room(&guest->chunks);
}

static void accept(struct guest *guest, const struct route_message *message,
                   const struct route_wire_request *wire)
{
    struct route *route = guest->place->route;
    if (guest->is_lost) {
        add_reply(guest, wire->sequence, ROUTE_VERDICT_NOT_LEADER, (struct bytes){0});
        return;
    }
    struct guest_session *session = session_of(guest, wire->session);
    if (is_refusing(session)) {
        PROBE("route.guest_returns");
        add_reply(guest, wire->sequence, ROUTE_VERDICT_RETURNED, (struct bytes){0});
        return; /* R4 */
    }
    struct guest_request *request = memory_allocate_zeroed(1, sizeof *request);
    request->guest = guest;
    request->session = session;
    request->grant = guest->grant;
    request->refusal_count = session->refusal_count;
    request->returned_count = session->returned_count;
    request->until_ms = route__now_ms(route) + wire->patience_ms;
    /* One that is larger than the room takes all of it: there is room beside it still for what releases others. */
    request->size_bytes =
        number_min(route__charge(ROUTE__REQUEST_HEAD_SIZE_BYTES + wire->arguments.size_bytes),
                   route->options.guest_size_bytes_max);
    guest->size_bytes += request->size_bytes;
    list_init(&request->link);
    request->request = (struct shard_request){
        .command = {.opcode = wire->opcode, .argument_count = wire->argument_count},
        .protocol = wire->protocol,
        .is_write = wire->is_write,
        .does_grow = wire->does_grow,
        .first_slot = message->first_slot,
        .end_slot = BUG("route.slots_lost") ? 0 : message->end_slot,
        .origin = message->origin,
        .sequence = wire->sequence,
        .known_index = wire->known_index,
        .is_retry = wire->is_retry,
        .done = request_done,
        .session = &request->session->session,
    };
    list_init(&request->request.link);
    if (request->session->queued_count > 0 || !may_submit(guest) ||
        submit(request, wire->arguments)) {
        queue_request(request, wire->arguments);
    }
}

/* The other side stays within the room, but for what it gave up and is still here. */
static bool is_too_much(const struct guest *guest, const struct route_message *message)
{
    uint64_t room = guest->place->route->options.guest_size_bytes_max;
    uint64_t more = message->items.size_bytes + message->item_count * route__charge(0);
    return guest->size_bytes > room && guest->size_bytes + more > 2 * room;
}

void route__requests(struct route_place *place, raft_node from, uint64_t boot_id,
                     const struct route_message *message)
{
    end_other_lives(place, from, boot_id);
    struct guest *guest = find_guest(place, from, boot_id);
    if (guest == NULL || guest->grant != message->number) {
        PROBE("route.grant_unknown");
        if (guest == NULL || guest->ended_grant != message->number) {
            (void)send_ended(place, from, message->number, ROUTE_ENDED_UNKNOWN, 0);
        }
        return;
    }
    if (message->message_number <= guest->request_number) {
        PROBE("route.requests_repeated");
        return;
    }
    if (message->message_number != guest->request_number + 1) {
        PROBE("route.requests_missing");
        end_stream(guest, ROUTE_ENDED_GAP);
        return;
    }
    if (is_too_much(guest, message)) {
        end_stream(guest, ROUTE_ENDED_FULL);
        return;
    }
    guest->request_number++;
    guest->owes_word |= message->item_count == 0;
    refusals_seen(guest, message->seen_number);
    struct bytes items = message->items;
    for (uint32_t i = 0; i < message->item_count; i++) {
        struct route_wire_request wire;
        route__next_request(&items, &wire);
        accept(guest, message, &wire);
    }
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void retry_queue(struct guest *guest, uint64_t now_ms)
{
    guest->is_busy = false;
    uint64_t pass = ++guest->place->route->pass;
    LIST_EACH(member, next, &guest->queue)
    {
        struct guest_request *request = LIST_ITEM(member, struct guest_request, link);
        struct guest_session *session = request->session;
        if (!may_submit(guest) || guest->is_lost) {
            return;
        }
        if (session->refused_in_pass == pass) {
            continue;
        }
        if (request->refusal_count != session->refusal_count) {
            unqueue_request(request);
            add_reply(guest, request->request.sequence, ROUTE_VERDICT_RETURNED, (struct bytes){0});
            request_free(request);
            continue;
        }
        if (now_ms >= request->until_ms) {
            PROBE("route.guest_request_expired");
            unqueue_request(request);
            request_free(request);
            continue;
        }
        /* It stays in the queue's order if it is refused again. */
        unqueue_request(request);
        session->queued_count++; /* And its session stays. */
        bool must_wait =
            submit(request, bytes_make(request->arguments, request->arguments_size_bytes));
        session->queued_count--;
        if (must_wait) {
            session->queued_count++;
            guest->queued_count++;
            list_insert_before(next, &request->link);
            session->refused_in_pass = pass;
        } else {
            end_session_if_idle(guest, session);
        }
    }
}

static void send_chunks(struct guest *guest)
{
    const struct route_message head = {
        .shard = guest->place->shard,
        .number = guest->grant != 0 ? guest->grant : guest->ended_grant,
        .applied_index = route__seen_index(guest->place),
    };
    if (guest->owes_word) {
        route__chunks_add_word(&guest->chunks);
    }
    guest->owes_word = false;
    int status = route__chunks_send(&guest->chunks, &head);
    if (status == -EBUSY) {
        return;
    }
    if (status != 0) {
        PROBE("route.guest_not_connected");
        drop_stream(guest);
        return;
    }
    if (guest->ended_grant != 0 && send_ended(guest->place, guest->node, guest->ended_grant,
                                              guest->ended_reason, guest->request_number)) {
        guest->ended_grant = 0;
    }
}

static void guest_free(struct guest *guest)
{
    list_remove(&guest->link);
    route__chunks_deinit(&guest->chunks);
    route__table_deinit(&guest->sessions);
    memory_free(guest);
}

/* Returns whether something is left to do at the next tick. */
static bool guest_tick(struct guest *guest, bool does_lead, uint64_t now_ms)
{
    if (does_lead && !guest->is_lost) {
        retry_queue(guest, now_ms);
    }
    if (!does_lead || guest->is_lost) {
        end_stream(guest, ROUTE_ENDED_NOT_LEADER);
    }
    send_chunks(guest);
    bool is_over =
        guest->grant == 0 && guest->ended_grant == 0 && route__chunks_are_empty(&guest->chunks);
    bool is_left = !list_is_empty(&guest->queue) || !route__chunks_are_empty(&guest->chunks) ||
                   guest->ended_grant != 0;
    if (is_over && guest->sessions.item_count == 0) {
        guest_free(guest);
    }
    return is_left;
}

uint64_t route__guests_tick(struct route_place *place, uint64_t now_ms)
{
    if (list_is_empty(&place->guests)) {
        return UINT64_MAX;
    }
    bool does_lead = route__local_leader(place) == place->route->options.self;
    bool is_left = false;
    LIST_EACH(member, next, &place->guests)
    {
        is_left |= guest_tick(LIST_ITEM(member, struct guest, link), does_lead, now_ms);
    }
    return is_left ? now_ms + 1 : UINT64_MAX;
}

static bool is_at_rest(const struct guest *guest)
{
    return guest->grant != 0 && !guest->is_lost && !guest->owes_word && guest->ended_grant == 0 &&
           list_is_empty(&guest->queue) && route__chunks_are_empty(&guest->chunks);
}

bool route__guests_are_at_rest(const struct route_place *place)
{
    LIST_EACH(member, next, &place->guests)
    {
        if (!is_at_rest(LIST_ITEM(member, const struct guest, link))) {
            return false;
        }
    }
    return true;
}

void route__guest_gone(struct route_place *place, raft_node node)
{
    LIST_EACH(member, next, &place->guests)
    {
        struct guest *guest = LIST_ITEM(member, struct guest, link);
        if (guest->node == node) {
            drop_stream(guest);
        }
    }
}

void route__guests_end(struct route_place *place)
{
    LIST_EACH(member, next, &place->guests)
    {
        end_stream(LIST_ITEM(member, struct guest, link), ROUTE_ENDED_NOT_LEADER);
    }
}

/* ---- The end, and figures -------------------------------------------------------------------- */

void route__guests_destroy(struct route_place *place)
{
    LIST_EACH(member, next, &place->guests)
    {
        struct guest *guest = LIST_ITEM(member, struct guest, link);
        drop_stream(guest);
        while (!list_is_empty(&guest->submitted)) {
            struct guest_request *request =
                LIST_ITEM(guest->submitted.next, struct guest_request, link);
            unsubmit(request);
            request_free(request);
        }
        ASSERT(guest->sessions.item_count == 0);
        ASSERT(guest->size_bytes == 0);
        guest_free(guest);
    }
}

void route__guests_count(const struct route_place *place, struct route_statistics *statistics)
{
    LIST_EACH(member, next, &place->guests)
    {
        const struct guest *guest = LIST_ITEM(member, struct guest, link);
        statistics->guest_count++;
        statistics->guest_session_count += guest->sessions.item_count;
        statistics->guest_request_count += guest->queued_count + guest->submitted_count;
        statistics->guest_queued_count += guest->queued_count;
        statistics->guest_size_bytes += guest->size_bytes + guest->chunks.size_bytes;
    }
}
