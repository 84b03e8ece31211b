/* SPDX-License-Identifier: Apache-2.0 */
/* A split is written down twice: as a planned one, which gives the child its number, and as part of the
 * map, when the parent has carried it out. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "service/system/system_internal.h"

bool system__is_foreign(const struct system *system, uint16_t opcode)
{
    bool is_split = opcode == SYSTEM_OPCODE_SPLIT || opcode == SYSTEM_OPCODE_SPLITDONE;
    return is_split && system_node_below(system, SYSTEM_FEATURE_SPLIT) != NULL;
}

void system__refuse_foreign(const struct system *system, const struct reply *reply)
{
    const struct system_node *node = system_node_below(system, SYSTEM_FEATURE_SPLIT);
    reply_error(reply,
                "STATE node %" PRIu32 " has software that knows feature version %" PRIu32
                " at most, and a split needs %d",
                node->id, node->feature_max, SYSTEM_FEATURE_SPLIT);
}

/* Where in the plans the split of a parent is; their count: there is none. */
static uint32_t find_parent(const struct system__plans *plans, wal_shard parent)
{
    uint32_t place = 0;
    while (place < plans->count && plans->items[place].parent != parent) {
        place++;
    }
    return place;
}

static uint32_t find_child(const struct system__plans *plans, wal_shard child)
{
    uint32_t place = 0;
    while (place < plans->count && plans->items[place].child != child) {
        place++;
    }
    return place;
}

/* The highest number of a shard, planned ones included. */
static wal_shard highest(const struct system *system)
{
    wal_shard number = 0;
    for (uint32_t i = 0; i < system->slots.range_count; i++) {
        wal_shard shard = system->slots.ranges[i].shard;
        number = shard > number ? shard : number;
    }
    for (uint32_t i = 0; i < system->plans.count; i++) {
        wal_shard shard = system->plans.items[i].child;
        number = shard > number ? shard : number;
    }
    return number;
}

/* ---- SYSTEM.SPLIT ---------------------------------------------------------------------------- */

/* I11. False: the refusal is answered, or the number of a child that is planned there already. */
static bool may_plan(struct system__call *call, const struct slots_range *parent, uint32_t slot)
{
    const struct system *system = call->system;
    const struct system__plans *plans = &system->plans;
    uint32_t place = find_parent(plans, parent->shard);
    if (parent->first == slot) {
        reply_error(call->reply, "EXISTS shard %" PRIu32 " begins at slot %" PRIu32 " already",
                    parent->shard, slot);
    } else if (place < plans->count && plans->items[place].first == slot) {
        reply_integer(call->reply, plans->items[place].child);
    } else if (place < plans->count) {
        reply_error(call->reply,
                    "STATE shard %" PRIu32 " is being split at slot %" PRIu32
                    "; it can be split again when shard %" PRIu32 " is there",
                    parent->shard, plans->items[place].first, plans->items[place].child);
    } else if (system->slots.range_count + plans->count >= SLOTS_SHARD_COUNT_MAX ||
               highest(system) == UINT32_MAX) {
        reply_error(call->reply, "LIMIT there are %u shards already", SLOTS_SHARD_COUNT_MAX);
    } else if (system__is_foreign(system, SYSTEM_OPCODE_SPLIT)) {
        system__refuse_foreign(system, call->reply);
    } else {
        return true;
    }
    return false;
}

int system__execute_split(struct system__call *call)
{
    struct system *system = call->system;
    struct system_settings *settings = &system->state.settings;
    uint32_t slot = (uint32_t)call->arguments->numbers[SYSTEM_FIELD_SLOT];
    const struct slots_range *parent = &system->slots.ranges[slots_place_of(&system->slots, slot)];
    if (!may_plan(call, parent, slot)) {
        return 0;
    }
    const struct system_planned planned = {.parent = parent->shard,
                                           .child = highest(system) + 1,
                                           .first = slot,
                                           .planned_at_ms = call->time_ms};
    const struct system__shard child = {
        .range = {.shard = planned.child, .first = slot, .end = parent->end},
        .is_planned = true,
        .planned_at_ms = planned.planned_at_ms,
    };
    if (system->slots.range_count == 1) { /* It may have no row yet. */
        system__shard_write(call, &(struct system__shard){.range = *parent});
    }
    system__shard_write(call, &child);
    system->plans.items[system->plans.count++] = planned; /* No other child has a higher number. */
    bool does_agree = settings->feature < SYSTEM_FEATURE_SPLIT;
    settings->feature = does_agree ? SYSTEM_FEATURE_SPLIT : settings->feature;
    system__generation_raise(call);
    reply_integer(call->reply, planned.child);
    return !does_agree ? 0
                       : system__audit_write(call, SYSTEM_AUDIT_CONFIGURATION, 0,
                                             "replicas %" PRIu32 ", feature version %" PRIu32,
                                             settings->replicas, settings->feature);
}

/* ---- SYSTEM.SPLITDONE ------------------------------------------------------------------------ */

int system__execute_split_done(struct system__call *call)
{
    struct system *system = call->system;
    struct slots *slots = &system->slots;
    struct system__plans *plans = &system->plans;
    wal_shard number = (wal_shard)call->arguments->numbers[SYSTEM_FIELD_SHARD];
    uint32_t place = find_child(plans, number);
    if (place == plans->count) {
        if (slots_find(slots, number) < slots->range_count) {
            reply_integer(call->reply, 0);
        } else {
            reply_error(call->reply, "NOSHARD there is no shard %" PRIu32, number);
        }
        return 0;
    }
    const struct system_planned planned = plans->items[place];
    memmove(&plans->items[place], &plans->items[place + 1],
            (plans->count - place - 1) * sizeof plans->items[0]);
    plans->count--;
    int status = slots_split(slots, planned.parent, planned.first, planned.child);
    ASSERT(status == 0); /* I11 */
    uint32_t parent = slots_find(slots, planned.parent);
    const struct slots_range *child = &slots->ranges[parent + 1];
    system__shard_write(call, &(struct system__shard){.range = slots->ranges[parent]});
    system__shard_write(call, &(struct system__shard){.range = *child});
    system__generation_raise(call);
    reply_integer(call->reply, 1);
    return system__audit_write(call, SYSTEM_AUDIT_SPLIT, 0,
                               "shard %" PRIu32 ": slots %" PRIu32 " to %" PRIu32
                               " of shard %" PRIu32,
                               child->shard, child->first, child->end - 1, planned.parent);
}
