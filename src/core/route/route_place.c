/* SPDX-License-Identifier: Apache-2.0 */
/* Where the leader is.
 *
 *            submit, hint, backoff over               "I do": a grant
 *   NONE ───────────────────────────────▶ ASKED ───────────────────────▶ GRANTED
 *    ▲                                      │                               │
 *    └──────────────────────────────────────┴───────────────────────────────┤
 *    │     "no", no answer in time, connection broke, stream ended, silence │
 *    └────────────────────────────── LOCAL ◀────────────────────────────────┘
 *                   not any more              the local replica leads (from any)
 *
 * Whatever leaves GRANTED takes back what was sent. Nothing is asked while nothing waits. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/route/route_internal.h"

/* Hints and broken streams are followed at once, but not for ever: two nodes may each think that
 * the other leads. */
enum { AT_ONCE_COUNT_MAX = 4 };

static void leave(struct route_place *place)
{
    if (place->kind != ROUTE_PLACE_NONE) {
        TRACE("route.left", place->route->options.self, place->kind, place->node,
              place->sent.item_count);
    }
    if (place->kind == ROUTE_PLACE_GRANTED) {
        route__take_back(place);
    }
    place->kind = ROUTE_PLACE_NONE;
    place->node = 0;
    place->grant = 0;
    place->is_choked = false;
    ASSERT(place->sent_size_bytes == 0 && place->sent_release_size_bytes == 0);
}

void route__place_leave_later(struct route_place *place, uint64_t now_ms)
{
    leave(place);
    struct route *route = place->route;
    uint64_t half = place->backoff_ms / 2;
    place->at_ms = now_ms + half + random_below(&route->random, half + 1);
    place->backoff_ms *= 2;
    if (place->backoff_ms > route->options.backoff_ms_max) {
        place->backoff_ms = route->options.backoff_ms_max;
    }
}

/* At once, a few times. */
static void leave_for(struct route_place *place, raft_node hint, uint64_t now_ms)
{
    if (place->at_once_count >= AT_ONCE_COUNT_MAX) {
        PROBE("route.hints_ignored");
        place->hint = 0;
        route__place_leave_later(place, now_ms);
        return;
    }
    place->at_once_count++;
    leave(place);
    place->hint = hint;
    place->at_ms = now_ms;
}

void route__place_leave(struct route_place *place)
{
    leave_for(place, 0, route__now_ms(place->route));
}

void route__place_local(struct route_place *place)
{
    leave(place);
    place->kind = ROUTE_PLACE_LOCAL;
    place->local_epoch++;
    TRACE("route.local", place->route->options.self, place->local_epoch, 0, 0);
    place->hint = 0;
    place->at_once_count = 0;
    place->failed_count = 0;
    place->backoff_ms = place->route->options.backoff_ms_min;
    LIST_EACH(member, next, &place->lines)
    {
        route__line_ready(LIST_ITEM(member, struct route_line, link));
    }
}

/* ---- Asking ---------------------------------------------------------------------------------- */

/* A hint; else who the local replica thinks leads and, each time that this was in vain, the next in
 * turn. */
static raft_node candidate(struct route_place *place)
{
    const struct route_host *host = &place->route->options.host;
    raft_node hint = place->hint;
    place->hint = 0;
    if (hint == 0 && place->failed_count % 2 == 0) {
        hint = route__local_leader(place);
    }
    if (hint != 0 && hint != place->route->options.self) {
        return hint;
    }
    place->last_in_turn = host->next_node(host->context, place->shard, place->last_in_turn);
    return place->last_in_turn;
}

static void ask(struct route_place *place, uint64_t now_ms)
{
    struct route *route = place->route;
    raft_node node = candidate(place);
    if (node == 0) {
        route__place_leave_later(place, now_ms);
        return;
    }
    ASSERT(node != route->options.self);
    uint8_t message[ROUTE__ASK_SIZE_BYTES];
    place->ask_number = ++route->ask_number;
    route__encode_ask(message, place->shard, place->ask_number);
    struct bytes piece = bytes_make(message, sizeof message);
    route->statistics.asked_count++;
    if (route__send(route, node, &piece, 1) != 0) {
        place->failed_count++;
        route__place_leave_later(place, now_ms);
        return;
    }
    TRACE("route.asked", route->options.self, node, place->ask_number, 0);
    place->kind = ROUTE_PLACE_ASKED;
    place->node = node;
    place->at_ms = now_ms + route->options.silence_ms;
}

void route__told(struct route_place *place, raft_node from, const struct route_message *message,
                 uint64_t now_ms)
{
    if (place->kind != ROUTE_PLACE_ASKED || place->node != from ||
        place->ask_number != message->number) {
        PROBE("route.told_late");
        return;
    }
    if (message->applied_index > place->seen_index) {
        place->seen_index = message->applied_index;
    }
    if (message->grant == 0) {
        raft_node leader = message->leader;
        place->failed_count++;
        if (leader != 0 && leader != place->route->options.self && leader != from) {
            leave_for(place, leader, now_ms);
        } else {
            route__place_leave_later(place, now_ms);
        }
        return;
    }
    place->kind = ROUTE_PLACE_GRANTED;
    place->grant = message->grant;
    place->room_bytes = message->room_bytes;
    place->sent_number = 0;
    place->reply_number = 0;
    place->heard_at_ms = now_ms;
    place->is_asked_for_word = false;
    place->owes_sight = false;
    place->accepted_number = UINT64_MAX;
    route__floor_begin(place, now_ms);
    place->route->statistics.granted_count++;
    TRACE("route.granted", place->route->options.self, from, place->grant, 0);
}

void route__ended(struct route_place *place, const struct route_message *message, uint64_t now_ms)
{
    PROBE("route.stream_ended");
    if (message->reason != ROUTE_ENDED_UNKNOWN) {
        place->accepted_number = message->message_number;
    }
    switch (message->reason) {
    case ROUTE_ENDED_NOT_LEADER:
        place->failed_count++;
        leave_for(place, message->leader, now_ms);
        return;
    case ROUTE_ENDED_UNKNOWN:
    case ROUTE_ENDED_GAP:
        leave_for(place, place->node, now_ms);
        return;
    case ROUTE_ENDED_FULL:
        PROBE("route.room_exceeded");
        route__place_leave_later(place, now_ms);
        return;
    }
}

/* ---- Time ------------------------------------------------------------------------------------ */

static uint64_t watch_stream(struct route_place *place, uint64_t now_ms)
{
    if (place->sent.item_count == 0) {
        return UINT64_MAX;
    }
    uint64_t silence_ms = place->route->options.silence_ms;
    if (now_ms < place->heard_at_ms + silence_ms) {
        return place->heard_at_ms + silence_ms;
    }
    if (!place->is_asked_for_word) {
        PROBE("route.word_asked_for");
        route__send_nothing(place);
        place->is_asked_for_word = true;
        place->heard_at_ms = now_ms;
        return now_ms + silence_ms;
    }
    PROBE("route.silence");
    place->failed_count++;
    route__place_leave(place);
    return now_ms;
}

static uint64_t go_on(struct route_place *place, uint64_t now_ms)
{
    switch (place->kind) {
    case ROUTE_PLACE_NONE:
        if (list_is_empty(&place->lines)) {
            return UINT64_MAX;
        }
        if (now_ms < place->at_ms) {
            return place->at_ms;
        }
        ask(place, now_ms);
        return place->at_ms;
    case ROUTE_PLACE_ASKED:
        if (now_ms >= place->at_ms) {
            PROBE("route.not_told");
            place->failed_count++;
            route__place_leave_later(place, now_ms);
        }
        return place->at_ms;
    case ROUTE_PLACE_GRANTED:
        route__dispatch(place, now_ms);
        if (place->kind != ROUTE_PLACE_GRANTED) {
            return now_ms;
        }
        return place->is_choked || place->owes_sight ? now_ms + 1 : watch_stream(place, now_ms);
    case ROUTE_PLACE_LOCAL:
        route__dispatch(place, now_ms);
        if (place->kind != ROUTE_PLACE_LOCAL) {
            return now_ms;
        }
        return list_is_empty(&place->ready) ? UINT64_MAX : now_ms + 1;
    }
    return UINT64_MAX;
}

uint64_t route__place_tick(struct route_place *place, uint64_t now_ms)
{
    raft_node leader = route__local_leader(place);
    if (leader == place->route->options.self && place->kind != ROUTE_PLACE_LOCAL) {
        route__place_local(place);
    } else if (leader != place->route->options.self && place->kind == ROUTE_PLACE_LOCAL) {
        route__place_leave(place);
    }
    /* Leaving asks again at once. */
    uint64_t wake_at_ms = go_on(place, now_ms);
    return wake_at_ms <= now_ms && place->kind == ROUTE_PLACE_NONE ? go_on(place, now_ms)
                                                                   : wake_at_ms;
}
