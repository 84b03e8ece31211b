/* SPDX-License-Identifier: Apache-2.0 */
/* What this route needs no more of a shard: answers below the least sequence that is not done there
 * (route.h, "Floors").
 *
 * A replica here hears of it with each tick; one elsewhere in a message now and then, which may be
 * lost: the next one says more. Places with something to say stand in a list, which is looked at
 * ten times a second: where many answers are of no use any more it is said then, else when it is
 * some seconds old, so that shards which are seldom written to do not take a message for each
 * write. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/route/route_internal.h"

enum { LOOK_INTERVAL_MS = 100, MANY_COUNT = 64 };

static struct shard_floor floor_of(const struct route_place *place)
{
    const struct route *route = place->route;
    uint64_t least =
        list_is_empty(&place->undone)
            ? route->sequence + 1
            : LIST_ITEM(place->undone.next, struct shard_request, route.undone)->sequence;
    return (struct shard_floor){route->options.origin, least};
}

void route__floor_rises(struct route_place *place)
{
    place->unsaid_count++;
    if (place->kind == ROUTE_PLACE_LOCAL) {
        route__activate(place);
    } else if (list_is_empty(&place->unsaid)) {
        list_push_back(&place->route->unsaid, &place->unsaid);
    }
}

void route__floor_begin(struct route_place *place, uint64_t now_ms)
{
    place->said_floor = 0;
    place->floor_said_at_ms = now_ms;
    route__floor_rises(place); /* The leader before it may have died without passing it on. */
}

void route__say_floor_here(struct route_place *place)
{
    const struct route_host *host = &place->route->options.host;
    if (place->unsaid_count > 0 && place->kind == ROUTE_PLACE_LOCAL) {
        struct shard_floor floor = floor_of(place);
        place->unsaid_count = 0;
        list_remove(&place->unsaid);
        host->set_floor(host->context, place->shard, &floor);
    }
}

static bool is_understood(const struct route_place *place)
{
    const struct route_host *host = &place->route->options.host;
    return host->knows_floors == NULL || host->knows_floors(host->context, place->node) ||
           BUG("route.floor_to_old");
}

/* To another node. Returns whether there is nothing more to say. */
static bool say_elsewhere(struct route_place *place, uint64_t now_ms)
{
    struct shard_floor floor = floor_of(place);
    if (floor.floor == place->said_floor || !is_understood(place)) {
        return true;
    }
    bool is_due = place->unsaid_count >= MANY_COUNT ||
                  now_ms >= place->floor_said_at_ms + place->route->options.floor_delay_ms;
    if (!is_due) {
        return false;
    }
    uint8_t bytes[ROUTE__FLOOR_SIZE_BYTES];
    route__encode_floor(bytes, place->shard, floor.origin, floor.floor);
    struct bytes piece = bytes_make(bytes, sizeof bytes);
    if (route__send(place->route, place->node, &piece, 1) != 0) {
        return false;
    }
    place->said_floor = floor.floor;
    place->floor_said_at_ms = now_ms;
    return true;
}

static void look_at(struct route_place *place, uint64_t now_ms)
{
    switch (place->kind) {
    case ROUTE_PLACE_NONE:
    case ROUTE_PLACE_ASKED:
        list_remove(&place->unsaid); /* There is nobody to tell, until a stream begins. */
        return;
    case ROUTE_PLACE_LOCAL:
        route__say_floor_here(place);
        return;
    case ROUTE_PLACE_GRANTED:
        if (say_elsewhere(place, now_ms)) {
            place->unsaid_count = 0;
            list_remove(&place->unsaid);
        }
        return;
    }
}

uint64_t route__say_floors(struct route *route, uint64_t now_ms)
{
    if (list_is_empty(&route->unsaid)) {
        return UINT64_MAX;
    }
    if (now_ms >= route->floors_at_ms) {
        route->floors_at_ms = now_ms + LOOK_INTERVAL_MS;
        LIST_EACH(member, next, &route->unsaid)
        {
            look_at(LIST_ITEM(member, struct route_place, unsaid), now_ms);
        }
    }
    return list_is_empty(&route->unsaid) ? UINT64_MAX : route->floors_at_ms;
}
