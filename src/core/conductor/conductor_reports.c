/* SPDX-License-Identifier: Apache-2.0 */
/* What the conductor knows of groups, it knows by reports of its own office. A report names no term, so two
 * nodes may seem to lead one group for a moment: one that was sent before a change of leaders and came
 * behind it. It is not listened to for as long as balance listens. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/conductor/conductor_internal.h"

enum { FRESH_MS = 6000 }; /* Reports are of the last seconds. */

static uint64_t listen_ms(const struct conductor *conductor)
{
    return (uint64_t)conductor->interval_ms * CONDUCTOR_LISTEN_INTERVALS;
}

static bool is_recent(const struct conductor *conductor, uint64_t at_ms, uint64_t now_ms)
{
    uint64_t age_ms_max = (uint64_t)conductor->interval_ms * CONDUCTOR_REPORT_INTERVALS_MAX;
    return at_ms != 0 && now_ms <= at_ms + age_ms_max;
}

/* ---- What is known --------------------------------------------------------------------------- */

struct conductor__group *conductor__find_group(struct conductor *conductor, wal_shard id)
{
    uint32_t place = id - SLOTS_FIRST_SHARD;
    return place < conductor->group_room ? &conductor->groups[place] : NULL;
}

/* NULL: it has no number that a shard can have. */
static struct conductor__group *have_group(struct conductor *conductor, wal_shard id)
{
    uint32_t place = id - SLOTS_FIRST_SHARD;
    if (place >= SLOTS_SHARD_COUNT_MAX) {
        return NULL;
    }
    if (place >= conductor->group_room) {
        uint32_t room = 2 * conductor->group_room > place ? 2 * conductor->group_room : place + 1;
        struct conductor__group *groups = memory_allocate_zeroed(room, sizeof groups[0]);
        if (conductor->group_room > 0) {
            memcpy(groups, conductor->groups, conductor->group_room * sizeof groups[0]);
        }
        memory_free(conductor->groups);
        conductor->groups = groups;
        conductor->group_room = room;
        conductor->plan_groups =
            memory_resize(conductor->plan_groups, room * sizeof conductor->plan_groups[0]);
    }
    return &conductor->groups[place];
}

raft_node conductor__leader_of(struct conductor *conductor, wal_shard id, uint64_t now_ms)
{
    const struct conductor__group *group = conductor__find_group(conductor, id);
    bool is_known = group != NULL && is_recent(conductor, group->reported_at_ms, now_ms);
    return is_known ? group->state.leader : 0;
}

void conductor__forget_reports(struct conductor *conductor)
{
    if (conductor->group_room > 0) {
        memset(conductor->groups, 0, conductor->group_room * sizeof conductor->groups[0]);
    }
    for (uint32_t i = 0; i < conductor->node_count; i++) {
        conductor->nodes[i].heard_at_ms = 0;
    }
}

/* ---- Reports --------------------------------------------------------------------------------- */

static bool is_well(struct conductor *conductor, raft_node id)
{
    const struct conductor__node *node = conductor__find_node(conductor, id);
    return node != NULL && node->state.liveness == PLACEMENT_ALIVE && !node->state.is_draining &&
           !node->state.is_slow;
}

/* Its leader is another one than was known. */
static void note_change(struct conductor *conductor, struct conductor__group *group, raft_node from,
                        uint64_t now_ms)
{
    bool is_asked_for = group->asked_for == from && group->asked_at_ms != 0 &&
                        now_ms <= group->asked_at_ms + CONDUCTOR_COOL_DOWN_MS;
    /* Of one that is new to this conductor, or was lost for a while, it says nothing. */
    bool was_led = group->reported_at_ms != 0 &&
                   now_ms <= group->reported_at_ms + listen_ms(conductor) &&
                   is_well(conductor, group->state.leader);
    if (was_led && !is_asked_for) {
        group->held_from = group->state.leader; /* I4 */
        group->held_until_ms = now_ms + CONDUCTOR_HOLD_MS;
    }
    group->led_before = group->state.leader;
    group->led_since_ms = now_ms;
}

/* I7 */
static void follow(uint64_t *weight, uint64_t value, uint64_t least)
{
    uint64_t is = value < least ? least : value;
    uint64_t was = *weight < least ? least : *weight;
    uint64_t difference = is > was ? is - was : was - is;
    if (*weight == 0 || difference > was / 4) {
        *weight = is;
    }
}

/* Of a group that is new, or was split, what was reported first is of before; then the mean of what was
 * reported since; then of the last CONDUCTOR_LOAD_SMOOTH_MS. */
static uint64_t span_ms(const struct conductor__group *group, uint64_t since_ms, uint64_t now_ms)
{
    uint64_t age_ms = now_ms - group->known_since_ms;
    uint64_t span_ms = age_ms < FRESH_MS ? since_ms : age_ms - FRESH_MS + since_ms;
    return span_ms < CONDUCTOR_LOAD_SMOOTH_MS ? span_ms : CONDUCTOR_LOAD_SMOOTH_MS;
}

static void weigh(struct conductor__group *group, const struct placement_group_state *reported,
                  uint64_t now_ms)
{
    uint64_t load = (uint64_t)reported->load * 1000;
    uint64_t since_ms = now_ms - group->reported_at_ms;
    uint64_t span = span_ms(group, since_ms, now_ms);
    if (group->reported_at_ms == 0) {
        group->known_since_ms = now_ms;
        group->load_per_1000_s = load;
    } else if (since_ms >= span) {
        group->load_per_1000_s = load;
    } else if (load > group->load_per_1000_s) {
        group->load_per_1000_s += (load - group->load_per_1000_s) * since_ms / span;
    } else {
        group->load_per_1000_s -= (group->load_per_1000_s - load) * since_ms / span;
    }
    if (now_ms < group->known_since_ms + CONDUCTOR_LOAD_SMOOTH_MS) {
        group->load_weight = 0; /* The mean of a moment: what follows is nearer to the truth. */
    }
    follow(&group->load_weight, group->load_per_1000_s / 1000, CONDUCTOR_LOAD_FLOOR_PER_S);
    if (reported->size_bytes != 0 || group->size_weight == 0) {
        follow(&group->size_weight, reported->size_bytes, CONDUCTOR_SIZE_FLOOR_BYTES);
    }
}

static void note(struct conductor *conductor, const struct placement_group_state *reported,
                 raft_node from, uint64_t now_ms)
{
    struct conductor__group *group = have_group(conductor, reported->id);
    if (group == NULL) {
        return;
    }
    if (group->state.leader != from) {
        bool is_late = group->led_since_ms != 0 && group->led_before == from &&
                       now_ms <= group->led_since_ms + listen_ms(conductor);
        if (is_late) {
            return;
        }
        note_change(conductor, group, from, now_ms);
    }
    weigh(group, reported, now_ms);
    group->state = *reported;
    group->state.leader = from;
    group->reported_at_ms = now_ms;
}

static void note_heard(struct conductor *conductor, raft_node from, uint64_t now_ms)
{
    struct conductor__node *node = conductor__find_node(conductor, from);
    if (node != NULL) {
        node->heard_at_ms = now_ms;
    }
}

void conductor__take_report(struct conductor *conductor, raft_node from,
                            struct conductor_message *message, uint64_t now_ms)
{
    if (conductor->office == 0) {
        return; /* I1 */
    }
    note_heard(conductor, from, now_ms);
    for (uint32_t i = 0; i < message->group_count; i++) {
        struct placement_group_state group;
        conductor_message_next(message, &group);
        note(conductor, &group, from, now_ms);
    }
}

static void send_report(struct conductor *conductor, raft_node to,
                        const struct conductor_input *input)
{
    uint32_t place = 0;
    do { /* One without groups says that there are none. */
        uint32_t rest = input->led_count - place;
        uint32_t count =
            rest < CONDUCTOR_MESSAGE_GROUP_COUNT_MAX ? rest : CONDUCTOR_MESSAGE_GROUP_COUNT_MAX;
        buffer_clear(&conductor->message);
        conductor_report_begin(&conductor->message, count);
        for (uint32_t i = 0; i < count; i++) {
            conductor_report_add(&conductor->message, &input->led[place++]);
        }
        conductor->host.send(conductor->host.context, to, buffer_bytes(&conductor->message));
    } while (place < input->led_count);
    if (input->halves != NULL) {
        buffer_clear(&conductor->message);
        conductor_halves_encode(&conductor->message, input->halves);
        conductor->host.send(conductor->host.context, to, buffer_bytes(&conductor->message));
    }
}

/* What the replica of the first shard knows is newer than what was said before. */
static void note_leader(struct conductor *conductor, raft_node leader)
{
    if (leader != 0 && leader != conductor->told_leader) {
        conductor->told_by = 0;
    }
    conductor->told_leader = leader;
}

void conductor__report(struct conductor *conductor, const struct conductor_input *input)
{
    note_leader(conductor, input->leader);
    if (conductor->office != 0) {
        note_heard(conductor, conductor->self, input->now_ms);
        for (uint32_t i = 0; i < input->led_count; i++) {
            note(conductor, &input->led[i], conductor->self, input->now_ms);
        }
        if (input->halves != NULL) {
            conductor__take_halves(conductor, input->halves, conductor->self, input->now_ms);
        }
        return;
    }
    raft_node told_by = conductor->told_by;
    if (input->leader != 0 && input->leader != conductor->self) {
        send_report(conductor, input->leader, input);
    }
    if (told_by != 0 && told_by != input->leader) { /* The one may be right, or the other. */
        send_report(conductor, told_by, input);
    }
}

void conductor__tell_silent(struct conductor *conductor, const struct conductor_input *input)
{
    buffer_clear(&conductor->message);
    conductor_office_encode(&conductor->message);
    bool may_tell = input->may_split && !BUG("conductor.office_not_told");
    for (uint32_t i = 0; i < conductor->node_count && may_tell; i++) {
        raft_node id = conductor->plan_nodes[i].id;
        if (conductor->plan_nodes[i].is_silent && id != conductor->self) {
            conductor->host.send(conductor->host.context, id, buffer_bytes(&conductor->message));
        }
    }
}

/* ---- What balance waits for ------------------------------------------------------------------ */

/* I3, I4, I5 */
static bool is_leader_kept(struct conductor *conductor, struct conductor__group *group,
                           uint64_t now_ms)
{
    bool is_cooling =
        group->asked_at_ms != 0 && now_ms < group->asked_at_ms + CONDUCTOR_COOL_DOWN_MS;
    bool is_own = group->state.id == SLOTS_FIRST_SHARD &&
                  now_ms < conductor->office_since_ms + CONDUCTOR_HOLD_MS;
    if (group->held_until_ms != 0 &&
        (now_ms >= group->held_until_ms || !is_well(conductor, group->held_from))) {
        group->held_until_ms = 0;
    }
    return is_cooling || is_own || group->held_until_ms != 0;
}

/* Its leader was told to hand over, and no report says yet how that went. It counts as done: else others
 * would be moved for the same reason. */
static bool is_moving(const struct conductor *conductor, const struct conductor__group *group,
                      uint64_t now_ms)
{
    return group->asked_at_ms != 0 && group->led_since_ms < group->asked_at_ms &&
           now_ms < group->asked_at_ms + listen_ms(conductor);
}

/* Of the map, whether it is known or not. I2: whether balance waits for it. */
static bool is_waited_for(const struct conductor *conductor, struct conductor__group *group,
                          uint64_t now_ms)
{
    if (is_recent(conductor, group->reported_at_ms, now_ms)) {
        group->unknown_since_ms = 0;
        return false;
    }
    if (group->unknown_since_ms == 0) {
        group->unknown_since_ms = now_ms;
    }
    return now_ms < group->unknown_since_ms + listen_ms(conductor);
}

uint32_t conductor__list_groups(struct conductor *conductor, const struct conductor_input *input)
{
    conductor->map_number++;
    conductor->map_count = 0;
    conductor->is_balance_waiting = false;
    for (uint32_t i = 0; i < input->map->range_count; i++) {
        struct conductor__group *group = have_group(conductor, input->map->ranges[i].shard);
        if (group != NULL) {
            group->map_number = conductor->map_number;
            conductor__note_child(conductor, group, &input->map->ranges[i], input->now_ms);
            if (group->end_slot != 0 && group->end_slot != input->map->ranges[i].end) {
                group->known_since_ms = input->now_ms; /* It was split. */
            }
            group->first_slot = input->map->ranges[i].first;
            group->end_slot = input->map->ranges[i].end;
        }
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < conductor->group_room; i++) {
        struct conductor__group *group = &conductor->groups[i];
        if (group->map_number != conductor->map_number) {
            continue;
        }
        conductor->map_count++;
        if (is_waited_for(conductor, group, input->now_ms)) {
            conductor->is_balance_waiting = true;
        }
        if (group->reported_at_ms != 0) {
            struct placement_group_state *state = &conductor->plan_groups[count++];
            *state = group->state;
            state->size_bytes = group->size_weight;
            state->load = (uint32_t)group->load_weight;
            state->is_leader_kept = is_leader_kept(conductor, group, input->now_ms);
            if (group->unknown_since_ms != 0) {
                state->leader = 0;
            } else if (is_moving(conductor, group, input->now_ms)) {
                state->leader = group->asked_for;
                state->is_changing = true;
            }
        }
    }
    for (uint32_t i = 0; i < conductor->node_count; i++) {
        conductor->plan_nodes[i] = conductor->nodes[i].state;
        conductor->plan_nodes[i].is_silent =
            !is_recent(conductor, conductor->nodes[i].heard_at_ms, input->now_ms); /* I6 */
    }
    return count;
}
