/* SPDX-License-Identifier: Apache-2.0 */
/* Probes, and the own health.
 *
 * SWIM §3.1 and §4.3. In each interval one node is probed, in the order of a list that is shuffled
 * after every round, so that each is probed at least once in twice as many intervals as there are
 * nodes:
 *
 *     ping ──────────▶ target              timeout: from the round trips seen, RFC 6298
 *     ping again ────▶ target, and
 *     ping request ──▶ three helpers, each: ping ──▶ target
 *                                           ack or nack ──▶ back
 *     end of the interval: suspected
 *
 * Lifeguard §IV-A, local health awareness: a counter from 0 to 8 stretches interval and timeouts
 * (one more than the counter, times). What speaks against the own health raises it: a probe that
 * failed while helpers did not even send their nack (with no helper to ask: that failed), a refuted
 * suspicion of this node, a step that came late. Each answered probe lowers it. A failed probe whose
 * helpers all said nack speaks against the target only.
 *
 * A step that came late is a pause that was seen from inside (a stopped process, a machine that
 * swapped or was suspended): answers may lie unread in the sockets. What this node waits for is
 * given that much more time. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/member/member_internal.h"

enum { ROUND_TRIP_MS_MAX = 10000 };

void member__health_add(struct member *member, int change)
{
    int health = (int)member->health + change;
    member->health = (uint32_t)(health < 0                    ? 0
                                : health > MEMBER__HEALTH_MAX ? MEMBER__HEALTH_MAX
                                                              : health);
}

/* ---- Whom to probe --------------------------------------------------------------------------- */

void member__probe_add(struct member *member, struct member__entry *entry)
{
    ASSERT(entry != member->self);
    ASSERT(member->probe_count < member->entry_count_max);
    /* SWIM §4.3: at a random place, so that a joining node is not always probed by all at once. */
    uint32_t place = (uint32_t)random_below(&member->random, (uint64_t)member->probe_count + 1);
    member->probe_order[member->probe_count] = member->probe_order[place];
    member->probe_order[place] = entry;
    member->probe_count++;
}

void member__probe_remove(struct member *member, struct member__entry *entry)
{
    for (uint32_t i = 0; i < member->probe_count; i++) {
        if (member->probe_order[i] == entry) {
            member->probe_count--;
            memmove(&member->probe_order[i], &member->probe_order[i + 1],
                    (member->probe_count - i) * sizeof member->probe_order[0]);
            member->probe_position -= member->probe_position > i;
            break;
        }
    }
    if (member->probe.target == entry) {
        member->probe.stage = MEMBER__PROBE_IDLE;
        member->probe.target = NULL;
    }
    if (member->probe_next == entry) {
        member->probe_next = NULL;
    }
}

static struct member__entry *next_target(struct member *member)
{
    struct member__entry *hurried = member->probe_next;
    member->probe_next = NULL;
    if (hurried != NULL && member__is_peer(member, hurried)) {
        return hurried;
    }
    for (uint32_t i = 0; i < 2 * member->probe_count; i++) {
        if (member->probe_position >= member->probe_count) {
            for (uint32_t j = member->probe_count - 1; j > 0; j--) {
                uint32_t other = (uint32_t)random_below(&member->random, (uint64_t)j + 1);
                struct member__entry *entry = member->probe_order[j];
                member->probe_order[j] = member->probe_order[other];
                member->probe_order[other] = entry;
            }
            member->probe_position = 0;
        }
        struct member__entry *entry = member->probe_order[member->probe_position++];
        if (member__is_peer(member, entry)) {
            return entry;
        }
    }
    return NULL;
}

/* ---- Timeouts -------------------------------------------------------------------------------- */

static void add_round_trip(struct member__entry *entry, uint64_t measured_ms)
{
    uint32_t round_trip_ms =
        measured_ms > ROUND_TRIP_MS_MAX ? ROUND_TRIP_MS_MAX : (uint32_t)measured_ms;
    if (!entry->has_round_trip) { /* RFC 6298 §2.2 */
        entry->has_round_trip = true;
        entry->round_trip_x8_ms = round_trip_ms * 8;
        entry->deviation_x4_ms = round_trip_ms * 2;
        return;
    }
    uint32_t smoothed_ms = entry->round_trip_x8_ms / 8;
    uint32_t difference_ms =
        smoothed_ms > round_trip_ms ? smoothed_ms - round_trip_ms : round_trip_ms - smoothed_ms;
    entry->deviation_x4_ms += difference_ms - entry->deviation_x4_ms / 4;
    entry->round_trip_x8_ms += round_trip_ms - entry->round_trip_x8_ms / 8;
}

/* How long to wait for the answer to a ping. */
static uint64_t direct_timeout_ms(const struct member *member, const struct member__entry *entry)
{
    uint64_t interval_ms = member->probe_interval_ms;
    if (!entry->has_round_trip) {
        return interval_ms / 3;
    }
    uint64_t twice_ms = entry->round_trip_x8_ms / 4;
    uint64_t spread_ms = entry->round_trip_x8_ms / 8 + entry->deviation_x4_ms;
    uint64_t timeout_ms = twice_ms > spread_ms ? twice_ms : spread_ms;
    uint64_t least_ms = interval_ms / 6;
    return timeout_ms < least_ms ? least_ms : timeout_ms;
}

/* ---- Messages -------------------------------------------------------------------------------- */

static bool send_message(struct member *member, member_node node, struct member__message message)
{
    struct member__builder builder;
    if (!member__send_start(member, &builder)) {
        return false;
    }
    member__send(member, &builder, node, message);
    return true;
}

static void ping_target(struct member *member, uint32_t attempt)
{
    struct member__probe *probe = &member->probe;
    probe->sequences[attempt] = ++member->sequence;
    probe->sent_at_ms[attempt] = member->now_ms;
    (void)send_message(
        member, probe->target->node,
        (struct member__message){.kind = MEMBER__KIND_PING, .sequence = probe->sequences[attempt]});
}

/* ---- A probe --------------------------------------------------------------------------------- */

static void start_probe(struct member *member)
{
    ASSERT(member->probe.stage == MEMBER__PROBE_IDLE);
    uint64_t stretch = (uint64_t)member->health + 1;
    uint64_t interval_ms = member->probe_interval_ms;
    struct member__entry *target = next_target(member);
    if (target != NULL) {
        uint64_t timeout_ms = direct_timeout_ms(member, target);
        if (interval_ms < 3 * timeout_ms) {
            interval_ms = 3 * timeout_ms; /* A far target: all stages have to fit. */
        }
        member->probe = (struct member__probe){
            .stage = MEMBER__PROBE_DIRECT,
            .target = target,
            .incarnation = target->incarnation,
            .stage_until_ms = member->now_ms + timeout_ms * stretch,
            .until_ms = member->now_ms + interval_ms * stretch,
        };
        member->statistics.probe_count++;
        ping_target(member, 0);
        member->probe.sequences[1] = member->probe.sequences[0];
    }
    member->probe_at_ms = member->now_ms + interval_ms * stretch;
}

static void ask_helpers(struct member *member)
{
    struct member__probe *probe = &member->probe;
    uint64_t left_ms = probe->until_ms - probe->stage_until_ms;
    probe->until_ms = member->now_ms + left_ms; /* Helpers get their time even if this is late. */
    uint64_t patience_ms = left_ms * 6 / 10;    /* The nack has to come back in time. */
    uint32_t count = member__choose(member, MEMBER__HELPER_COUNT, true, probe->target);
    struct member__entry *helpers[MEMBER__HELPER_COUNT];
    memcpy(helpers, member->scratch, count * sizeof helpers[0]);
    for (uint32_t i = 0; i < count; i++) {
        struct member__message message = {
            .kind = MEMBER__KIND_PING_REQUEST,
            .sequence = probe->sequences[0],
            .subject = probe->target->node,
            .limit = (uint16_t)(patience_ms > UINT16_MAX ? UINT16_MAX : patience_ms),
        };
        probe->helper_count += send_message(member, helpers[i]->node, message);
    }
    ping_target(member, 1);
    probe->stage = MEMBER__PROBE_INDIRECT;
    probe->stage_until_ms = probe->until_ms;
}

static void fail_probe(struct member *member)
{
    struct member__probe *probe = &member->probe;
    struct member__entry *target = probe->target;
    if (target->incarnation != probe->incarnation) {
        PROBE("member.probe.other_life"); /* It restarted, or it just contradicted somebody. */
        probe->stage = MEMBER__PROBE_IDLE;
        probe->target = NULL;
        return;
    }
    bool is_excused = probe->helper_count > 0 && probe->nack_count >= probe->helper_count;
    if (!is_excused &&
        target->incarnation != 0) { /* Who never answered says nothing of this node. */
        member__health_add(member, 1);
    }
    TRACE("member.probe.failed", target->node, probe->helper_count, probe->nack_count,
          member->health);
    member->statistics.probe_failed_count++;
    probe->stage = MEMBER__PROBE_IDLE;
    probe->target = NULL;
    member__accuse(member, target);
    /* Lifeguard §IV-C: who is suspected is the first that should know. */
    if (target->state == MEMBER_STATE_SUSPECT && target->incarnation != 0) {
        (void)send_message(member, target->node,
                           (struct member__message){.kind = MEMBER__KIND_GOSSIP});
    }
}

static void advance_probe(struct member *member)
{
    struct member__probe *probe = &member->probe;
    if (probe->stage == MEMBER__PROBE_DIRECT && member->now_ms >= probe->stage_until_ms) {
        ask_helpers(member);
    }
    if (probe->stage == MEMBER__PROBE_INDIRECT && member->now_ms >= probe->until_ms) {
        fail_probe(member);
    }
}

static void close_errands(struct member *member)
{
    for (uint32_t i = 0; i < MEMBER__ERRAND_COUNT_MAX; i++) {
        struct member__errand *errand = &member->errands[i];
        if (errand->is_open && member->now_ms >= errand->until_ms) {
            errand->is_open = false;
            if (member__find(member, errand->requester) != NULL) {
                (void)send_message(member, errand->requester,
                                   (struct member__message){.kind = MEMBER__KIND_NACK,
                                                            .sequence = errand->requester_sequence,
                                                            .subject = errand->subject});
            }
        }
    }
}

void member__probe_tick(struct member *member)
{
    close_errands(member);
    if (member->self->state == MEMBER_STATE_LEFT || member->probe_count == 0) {
        return;
    }
    advance_probe(member);
    if (member->now_ms >= member->probe_at_ms && member->probe.stage == MEMBER__PROBE_IDLE) {
        start_probe(member);
    }
}

uint64_t member__probe_wake_at_ms(const struct member *member)
{
    uint64_t wake_at_ms = UINT64_MAX;
    for (uint32_t i = 0; i < MEMBER__ERRAND_COUNT_MAX; i++) {
        const struct member__errand *errand = &member->errands[i];
        if (errand->is_open && errand->until_ms < wake_at_ms) {
            wake_at_ms = errand->until_ms;
        }
    }
    if (member->self->state == MEMBER_STATE_LEFT || member->probe_count == 0) {
        return wake_at_ms;
    }
    uint64_t probe_at_ms = member->probe.stage == MEMBER__PROBE_IDLE ? member->probe_at_ms
                                                                     : member->probe.stage_until_ms;
    return probe_at_ms < wake_at_ms ? probe_at_ms : wake_at_ms;
}

void member__probe_late(struct member *member, uint64_t late_ms)
{
    PROBE("member.late");
    TRACE("member.late", member->self->node, late_ms, member->health, 0);
    member->statistics.late_count++;
    member__health_add(member, 1);
    member->probe.stage_until_ms += late_ms;
    member->probe.until_ms += late_ms;
    for (uint32_t i = 0; i < member->count; i++) {
        member->order[i]->suspected_at_ms += late_ms;
    }
}

/* ---- What comes in --------------------------------------------------------------------------- */

static void receive_ack(struct member *member, member_node from,
                        const struct member__message *message)
{
    struct member__probe *probe = &member->probe;
    bool is_first = message->sequence == probe->sequences[0];
    bool is_second = message->sequence == probe->sequences[1];
    if (probe->stage != MEMBER__PROBE_IDLE && (is_first || is_second) &&
        message->subject == probe->target->node) {
        if (from == probe->target->node) {
            add_round_trip(probe->target, member->now_ms - probe->sent_at_ms[is_first ? 0 : 1]);
        } else {
            PROBE("member.ack.indirect");
        }
        probe->stage = MEMBER__PROBE_IDLE;
        probe->target = NULL;
        member__health_add(member, -1);
        return;
    }
    for (uint32_t i = 0; i < MEMBER__ERRAND_COUNT_MAX; i++) {
        struct member__errand *errand = &member->errands[i];
        if (errand->is_open && errand->sequence == message->sequence && errand->subject == from) {
            errand->is_open = false;
            if (member__find(member, errand->requester) != NULL) {
                (void)send_message(member, errand->requester,
                                   (struct member__message){.kind = MEMBER__KIND_ACK,
                                                            .sequence = errand->requester_sequence,
                                                            .subject = errand->subject});
            }
            return;
        }
    }
}

static void receive_ping_request(struct member *member, member_node from,
                                 const struct member__message *message)
{
    if (member__find(member, from) == NULL || message->subject == member->self->node ||
        member__find(member, message->subject) == NULL) {
        PROBE("member.ping_request.stranger");
        return;
    }
    for (uint32_t i = 0; i < MEMBER__ERRAND_COUNT_MAX; i++) {
        struct member__errand *errand = &member->errands[i];
        if (errand->is_open) {
            continue;
        }
        *errand = (struct member__errand){
            .is_open = true,
            .requester = from,
            .requester_sequence = message->sequence,
            .subject = message->subject,
            .sequence = ++member->sequence,
            .until_ms = member->now_ms + message->limit,
        };
        (void)send_message(
            member, message->subject,
            (struct member__message){.kind = MEMBER__KIND_PING, .sequence = errand->sequence});
        return;
    }
    PROBE("member.errands.full");
}

void member__receive_probe(struct member *member, member_node from,
                           const struct member__message *message)
{
    switch (message->kind) {
    case MEMBER__KIND_PING:
        (void)send_message(member, from,
                           (struct member__message){.kind = MEMBER__KIND_ACK,
                                                    .sequence = message->sequence,
                                                    .subject = member->self->node});
        break;
    case MEMBER__KIND_ACK:
        receive_ack(member, from, message);
        break;
    case MEMBER__KIND_NACK:
        if (member->probe.stage == MEMBER__PROBE_INDIRECT &&
            message->sequence == member->probe.sequences[0] &&
            message->subject == member->probe.target->node) {
            member->probe.nack_count++;
        }
        break;
    case MEMBER__KIND_PING_REQUEST:
        receive_ping_request(member, from, message);
        break;
    case MEMBER__KIND_GOSSIP:
    case MEMBER__KIND_SYNC:
    case MEMBER__KIND_SYNC_REPLY:
        ASSERT(false);
        break;
    }
}
