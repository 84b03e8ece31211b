/* SPDX-License-Identifier: Apache-2.0 */
/* Splits that are planned and not done, as an operator is told of them. Only a node with the rows of the
 * cluster knows. */
#include <inttypes.h>
#include <stdio.h>

#include "base/memory/memory.h"
#include "node/node_overview.h"

/* Younger ones need no explanation. */
enum { LONG_MS = 5000, TEXT_SIZE = 320 };

void node_plans_take(struct overview *overview, const struct system *system)
{
    const struct slots *slots = system_slots(system);
    uint64_t now_ms = os_wall_clock_ms();
    overview->plan_count = system_planned_count(system);
    overview->plans = memory_allocate_zeroed(overview->plan_count + 1, sizeof overview->plans[0]);
    for (uint32_t i = 0; i < overview->plan_count; i++) {
        struct overview_plan *plan = &overview->plans[i];
        system_planned_at(system, i, &plan->planned);
        plan->end = slots->ranges[slots_place_of(slots, plan->planned.first)].end;
        plan->age_ms =
            now_ms > plan->planned.planned_at_ms ? now_ms - plan->planned.planned_at_ms : 0;
    }
}

/* Of the parent of a plan; NULL: the map of this node has the child already, or is an older one. */
static const struct overview_shard *find_parent(const struct overview *overview,
                                                const struct overview_plan *plan)
{
    return node_overview_find(overview, plan->planned.child) == NULL
               ? node_overview_find(overview, plan->planned.parent)
               : NULL;
}

void node_plans_list(const struct overview *overview, struct json *answer)
{
    struct json *list = json_array_create();
    for (uint32_t i = 0; i < overview->plan_count; i++) {
        const struct overview_plan *plan = &overview->plans[i];
        if (find_parent(overview, plan) != NULL) {
            struct json *described = json_object_create();
            json_set_unsigned(described, "shard", plan->planned.child);
            json_set_unsigned(described, "parent", plan->planned.parent);
            json_set_unsigned(described, "first_slot", plan->planned.first);
            json_set_unsigned(described, "last_slot", plan->end - 1);
            json_set_unsigned(described, "age_ms", plan->age_ms);
            json_append(list, described);
        }
    }
    json_set(answer, "planned", list);
}

void node_plans_moves(const struct overview *overview, struct json *moves)
{
    for (uint32_t i = 0; i < overview->plan_count; i++) {
        const struct overview_plan *plan = &overview->plans[i];
        if (find_parent(overview, plan) != NULL) {
            struct json *move = json_object_create();
            json_set_unsigned(move, "shard", plan->planned.parent);
            json_set_text(move, "kind", "split");
            json_set_unsigned(move, "source", 0);
            json_set_unsigned(move, "target", 0);
            json_set_unsigned(move, "age_ms", plan->age_ms);
            json_append(moves, move);
        }
    }
}

static bool is_changing(const struct overview_shard *shard)
{
    bool is_changing = shard->replica.is_changing;
    for (uint32_t i = 0; i < shard->replica.member_count; i++) {
        is_changing |= !shard->replica.members[i].is_voter;
    }
    return is_changing;
}

/* What the parent waits for, as far as this node can tell. */
static const char *reason_of(const struct overview_shard *parent, char text[TEXT_SIZE])
{
    if (parent->leader == 0) {
        return "it has no leader, as far as this node knows";
    }
    if (is_changing(parent)) {
        return "its replicas are being added or removed just now, and it waits for that";
    }
    (void)snprintf(text, TEXT_SIZE,
                   "its leader, node %" PRIu32
                   ", has the keys of these slots counted, and waits for "
                   "transactions that are under way",
                   parent->leader);
    return text;
}

void node_plans_why(const struct overview *overview, double shard, struct json *answer)
{
    struct json *sentences = json_array_create();
    for (uint32_t i = 0; i < overview->plan_count; i++) {
        char text[2 * TEXT_SIZE];
        char reason[TEXT_SIZE];
        const struct overview_plan *plan = &overview->plans[i];
        const struct overview_shard *parent = find_parent(overview, plan);
        if (parent == NULL || plan->age_ms < LONG_MS ||
            (shard != 0 && shard != plan->planned.parent && shard != plan->planned.child)) {
            continue;
        }
        (void)snprintf(text, sizeof text,
                       "shard %" PRIu32 " was to get slots %" PRIu32 " to %" PRIu32
                       " of shard %" PRIu32 " %" PRIu64
                       " s ago: %s; it is made by itself when that is over",
                       plan->planned.child, plan->planned.first, plan->end - 1,
                       plan->planned.parent, plan->age_ms / 1000, reason_of(parent, reason));
        json_append_text(sentences, text);
    }
    json_set(answer, "splits", sentences);
}
