/* SPDX-License-Identifier: Apache-2.0 */
/* What is believed of each node, and how long a suspicion waits for its refutation.
 *
 * SWIM §4.2: what is heard is ordered by (incarnation, state), and only what is higher than what is
 * known changes anything and is told on. A node alone raises its incarnation.
 *
 * Lifeguard §IV-B, the dynamic suspicion timeout: it begins at its maximum, because the one who
 * suspects may itself be what is slow, and falls with every other node that suspects the same:
 *
 *     max(min, max - (max - min) * log(confirmations + 1) / log(expected + 1))
 *     min = alpha * log10(nodes) * probe interval, max = beta * min
 *
 * The number that is expected is at most K and at most the nodes that are left to confirm: other
 * nodes that are alive and not suspected themselves. Alone with a suspect there is nobody to wait
 * for. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/member/member_internal.h"

/* ---- Suspicion ------------------------------------------------------------------------------ */

/* log10(count) in thousandths, at least 1000; within 3 %, by straight lines between powers of two,
 * so that it is the same on every machine. */
static uint64_t log10_permille(uint32_t count)
{
    if (count <= 10) {
        return 1000;
    }
    uint32_t exponent = 31 - (uint32_t)__builtin_clz(count);
    uint64_t fraction = ((uint64_t)(count - (1U << exponent)) * 1000) >> exponent;
    return (exponent * UINT64_C(1000) + fraction) * 301 / 1000;
}

/* log(confirmations + 1) / log(expected + 1), in thousandths. */
static const uint16_t confirmed_permille[MEMBER__CONFIRMATION_COUNT + 1]
                                        [MEMBER__CONFIRMATION_COUNT + 1] = {
                                            {1000, 1000, 1000, 1000},
                                            {0, 1000, 1000, 1000},
                                            {0, 631, 1000, 1000},
                                            {0, 500, 792, 1000},
};

uint64_t member__suspicion_ends_at_ms(const struct member *member,
                                      const struct member__entry *entry)
{
    if (entry->state != MEMBER_STATE_SUSPECT) {
        return UINT64_MAX;
    }
    uint64_t min = entry->suspicion_ms_min;
    uint64_t max = min * MEMBER__SUSPICION_BETA;
    if (entry->incarnation == 0) {
        return entry->suspected_at_ms + max; /* Never heard of: nobody confirms that. */
    }
    if (BUG("member.suspicion_unscaled")) {
        return entry->suspected_at_ms + member->probe_interval_ms / 3;
    }
    uint32_t others = member->state_counts[MEMBER_STATE_ALIVE];
    others -= member->self->state == MEMBER_STATE_ALIVE;
    uint32_t expected = others < MEMBER__CONFIRMATION_COUNT ? others : MEMBER__CONFIRMATION_COUNT;
    uint32_t confirmed = entry->accuser_count > 0 ? entry->accuser_count - 1U : 0;
    if (confirmed > MEMBER__CONFIRMATION_COUNT) {
        confirmed = MEMBER__CONFIRMATION_COUNT;
    }
    uint64_t timeout_ms = max - (max - min) * confirmed_permille[expected][confirmed] / 1000;
    ASSERT(timeout_ms >= min && timeout_ms <= max);
    return entry->suspected_at_ms + timeout_ms;
}

void member__suspicion_open(struct member *member, struct member__entry *entry)
{
    uint32_t count =
        member->state_counts[MEMBER_STATE_ALIVE] + member->state_counts[MEMBER_STATE_SUSPECT];
    entry->suspected_at_ms = member->now_ms;
    entry->suspicion_ms_min =
        MEMBER__SUSPICION_ALPHA * log10_permille(count) * member->probe_interval_ms / 1000;
}

/* True when `accuser` is one more. */
static bool add_accuser(struct member__entry *entry, member_node accuser)
{
    for (uint8_t i = 0; i < entry->accuser_count; i++) {
        if (entry->accusers[i] == accuser) {
            return false;
        }
    }
    if (entry->accuser_count == MEMBER__ACCUSER_COUNT_MAX) {
        return false;
    }
    entry->accusers[entry->accuser_count++] = accuser;
    return true;
}

/* ---- Changes of state ----------------------------------------------------------------------- */

static void add_event(struct member *member, const struct member__entry *entry,
                      enum member_state before, enum member_reason reason)
{
    ASSERT(member->event_count < member->event_count_max);
    member->events[member->event_count++] = (struct member_event){
        .node = entry->node,
        .before = before,
        .state = entry->state,
        .reason = reason,
        .incarnation = entry->incarnation,
        .now_ms = member->now_ms,
    };
    TRACE("member.event", entry->node, entry->state, reason, entry->incarnation);
}

/* The node is `state` under `incarnation` from now on; tell it on. */
static void become(struct member *member, struct member__entry *entry, enum member_state state,
                   member_incarnation incarnation, enum member_reason reason)
{
    enum member_state before = entry->state;
    bool was_heard_of = entry->incarnation != 0;
    ASSERT(incarnation >= entry->incarnation);                                        /* I1 */
    ASSERT_IF(incarnation == entry->incarnation, state > before || incarnation == 0); /* I2 */
    member->state_counts[before]--;
    member->state_counts[state]++;
    entry->state = state;
    entry->incarnation = incarnation;
    if (state == MEMBER_STATE_ALIVE || state == MEMBER_STATE_LEFT) {
        entry->accuser_count = 0;
    }
    if (state == MEMBER_STATE_SUSPECT) {
        member__suspicion_open(member, entry);
    }
    if (state == MEMBER_STATE_DEAD || state == MEMBER_STATE_LEFT) {
        list_remove(&entry->meta_link);
    } else if (before == MEMBER_STATE_DEAD || before == MEMBER_STATE_LEFT) {
        if (entry->revision != 0) {
            member__news_meta(member, entry);
        }
    }
    if (incarnation != 0) {
        member__news_state(member, entry, !was_heard_of);
    }
    if (state != before || !was_heard_of) {
        entry->since_ms = member->now_ms;
        if (entry != member->self) {
            add_event(member, entry, before, reason);
        }
    }
}

void member__suspicion_tick(struct member *member)
{
    if (member->state_counts[MEMBER_STATE_SUSPECT] == 0) {
        return;
    }
    for (uint32_t i = 0; i < member->count; i++) {
        struct member__entry *entry = member->order[i];
        if (member->now_ms >= member__suspicion_ends_at_ms(member, entry)) {
            become(member, entry, MEMBER_STATE_DEAD, entry->incarnation,
                   MEMBER_REASON_TIMEOUT); /* I4 */
        }
    }
}

/* Somebody is suspected: by `accusers`, or once more by them. */
static void suspect(struct member *member, struct member__entry *entry, const member_node *accusers,
                    uint8_t accuser_count, enum member_reason reason)
{
    if (entry->state == MEMBER_STATE_ALIVE) {
        entry->accuser_count = 0;
        become(member, entry, MEMBER_STATE_SUSPECT, entry->incarnation, reason);
    }
    ASSERT(entry->state == MEMBER_STATE_SUSPECT);
    bool is_news = false;
    for (uint8_t i = 0; i < accuser_count; i++) {
        is_news |= add_accuser(entry, accusers[i]);
    }
    if (is_news && entry->incarnation != 0) {
        member__news_state(member, entry, false);
    }
}

void member__accuse(struct member *member, struct member__entry *entry)
{
    if (entry->state != MEMBER_STATE_ALIVE && entry->state != MEMBER_STATE_SUSPECT) {
        return; /* Others were quicker. */
    }
    member->statistics.suspicion_count++;
    suspect(member, entry, &member->self->node, 1, MEMBER_REASON_PROBE_FAILED);
    if (BUG("member.dead_on_first_miss")) {
        become(member, entry, MEMBER_STATE_DEAD, entry->incarnation, MEMBER_REASON_TIMEOUT);
    }
}

/* ---- What others say of others --------------------------------------------------------------- */

static void apply_alive(struct member *member, struct member__entry *entry,
                        member_incarnation incarnation, bool is_restarted)
{
    if (incarnation == entry->incarnation) {
        return; /* I2 */
    }
    if (BUG("member.refutation_ignored") && entry->state == MEMBER_STATE_SUSPECT &&
        entry->incarnation != 0) {
        return;
    }
    enum member_reason reason = is_restarted ? MEMBER_REASON_RESTARTED : MEMBER_REASON_REFUTED;
    if (entry->incarnation == 0) {
        reason = MEMBER_REASON_HEARD;
    }
    become(member, entry, MEMBER_STATE_ALIVE, incarnation, reason);
}

/* To probe whom another node suspects makes for confirmation or refutation without waiting for the
 * next round; but not all nodes at once. */
static void probe_soon(struct member *member, struct member__entry *entry)
{
    if (member->probe_next == NULL &&
        random_below(&member->random, member->count) < 2 * MEMBER__CONFIRMATION_COUNT) {
        member->probe_next = entry;
    }
}

static void apply_suspect(struct member *member, struct member__entry *entry,
                          const struct member__record *record)
{
    if (record->incarnation > entry->incarnation) {
        /* That it was alive under this incarnation did not reach this node. */
        apply_alive(member, entry, record->incarnation, false);
        if (entry->incarnation != record->incarnation) {
            return;
        }
    }
    if (entry->state == MEMBER_STATE_ALIVE) {
        probe_soon(member, entry);
    }
    if (entry->state == MEMBER_STATE_ALIVE || entry->state == MEMBER_STATE_SUSPECT) {
        suspect(member, entry, record->accusers, record->accuser_count, MEMBER_REASON_GOSSIP);
    }
}

/* SWIM believes every word of a death. But a node that was cut off for a while comes back with the
 * deaths of all others, and they would spread faster than they are refuted. A true death comes long
 * after its suspicion: who did not share that for half of its shortest time takes the death for
 * another suspicion. So it does with a death that is not told as news, however long ago it was. */
static bool is_death_believed(const struct member *member, const struct member__entry *entry,
                              const struct member__record *record)
{
    if (entry->incarnation == 0 || entry->state >= MEMBER_STATE_DEAD) {
        return true; /* Nothing speaks against it. */
    }
    return record->is_fresh && entry->state == MEMBER_STATE_SUSPECT &&
           record->incarnation == entry->incarnation &&
           member->now_ms >= entry->suspected_at_ms + entry->suspicion_ms_min / 2;
}

static void apply_dead(struct member *member, struct member__entry *entry,
                       const struct member__record *record)
{
    if (!is_death_believed(member, entry, record)) {
        PROBE("member.dead.doubted");
        apply_suspect(member, entry, record);
        return;
    }
    if (record->incarnation > entry->incarnation || entry->state < MEMBER_STATE_DEAD) {
        entry->accuser_count = record->accuser_count;
        memcpy(entry->accusers, record->accusers, sizeof entry->accusers);
        become(member, entry, MEMBER_STATE_DEAD, record->incarnation, MEMBER_REASON_GOSSIP);
    }
}

/* I5. True when the meta is of another start of the process. */
static bool apply_meta(struct member *member, struct member__entry *entry,
                       const struct member__record *record)
{
    if (!record->has_meta || record->revision <= entry->revision) {
        return false;
    }
    bool was_known = entry->revision != 0;
    bool is_restarted = was_known && record->meta.boot_id != entry->meta.boot_id;
    bool is_changed =
        was_known &&
        (record->meta.version != entry->meta.version ||
         !bytes_equal(member_meta_address(&record->meta), member_meta_address(&entry->meta)) ||
         !bytes_equal(member_meta_zone(&record->meta), member_meta_zone(&entry->meta)));
    entry->meta = record->meta;
    entry->revision = record->revision;
    if (member__is_peer(member, entry)) {
        member__news_meta(member, entry);
    }
    if (is_restarted || is_changed || !was_known) {
        if (entry->incarnation != 0) {
            member__news_state(member, entry, true);
        }
    }
    if (is_changed && !is_restarted) {
        add_event(member, entry, entry->state, MEMBER_REASON_META);
    }
    return is_restarted;
}

/* ---- What others say of this node ------------------------------------------------------------ */

static void announce_self(struct member *member, bool has_meta)
{
    member__news_state(member, member->self, has_meta);
    member->gossip_at_ms = member->now_ms; /* Each moment of doubt costs somebody something. */
}

void member__renew_self(struct member *member, uint64_t above)
{
    struct member__entry *self = member->self;
    uint64_t clock = above > member->clock ? above : member->clock;
    if (clock >= MEMBER_INCARNATION_MAX) {
        PROBE("member.incarnation.exhausted"); /* Only a hostile peer brings this about. */
        return;
    }
    member->clock = clock + 1;
    self->incarnation = member->clock;
    self->revision = member->clock;
    self->heard_incarnation = member->clock;
    announce_self(member, true);
    if (self->state == MEMBER_STATE_ALIVE) {
        member__news_meta(member, self);
    }
}

void member__revise_self(struct member *member)
{
    if (member->clock >= MEMBER_INCARNATION_MAX) {
        PROBE("member.revision.exhausted");
        return;
    }
    member->clock++;
    member->self->revision = member->clock;
    if (member->self->state == MEMBER_STATE_ALIVE) {
        member__news_meta(member, member->self);
    }
}

void member__leave(struct member *member)
{
    struct member__entry *self = member->self;
    if (self->state == MEMBER_STATE_LEFT) {
        return;
    }
    ASSERT(self->state == MEMBER_STATE_ALIVE);
    become(member, self, MEMBER_STATE_LEFT, self->incarnation, MEMBER_REASON_SELF);
    announce_self(member, false);
    TRACE("member.leave", self->node, self->incarnation, 0, 0);
}

/* I3 */
static void apply_self(struct member *member, const struct member__record *record)
{
    struct member__entry *self = member->self;
    if (record->incarnation > self->incarnation || record->revision > self->revision) {
        /* Of an earlier life, when the clock was further: this life has to exceed it. */
        PROBE("member.self.outlived");
        uint64_t above =
            record->incarnation > record->revision ? record->incarnation : record->revision;
        TRACE("member.self.outlived", self->node, self->incarnation, record->incarnation,
              record->revision);
        member__renew_self(member, above);
        return;
    }
    bool is_doubted = record->state == MEMBER_STATE_SUSPECT || record->state == MEMBER_STATE_DEAD;
    if (!is_doubted || record->incarnation < self->incarnation ||
        self->state == MEMBER_STATE_LEFT) {
        return;
    }
    if (member->clock >= MEMBER_INCARNATION_MAX) {
        PROBE("member.incarnation.exhausted");
        return;
    }
    /* Lifeguard §IV-A: to be suspected is a sign of being slow. */
    member__health_add(member, 1);
    member->statistics.refutation_count++;
    member->clock++;
    self->incarnation = member->clock;
    self->heard_incarnation = member->clock;
    announce_self(member, false);
    TRACE("member.self.refute", self->node, self->incarnation, record->state,
          record->accuser_count);
}

void member__apply(struct member *member, const struct member__record *record)
{
    if (record->node == member->self->node) {
        apply_self(member, record);
        return;
    }
    struct member__entry *entry = member__find(member, record->node);
    if (entry == NULL) {
        PROBE("member.record.stranger"); /* I7 */
        return;
    }
    bool is_restarted = apply_meta(member, entry, record);
    if (record->incarnation < entry->incarnation) {
        return; /* I1 */
    }
    bool was_alive = entry->state == MEMBER_STATE_ALIVE;
    switch (record->state) {
    case MEMBER_STATE_ALIVE:
        apply_alive(member, entry, record->incarnation, is_restarted);
        break;
    case MEMBER_STATE_SUSPECT:
        apply_suspect(member, entry, record);
        break;
    case MEMBER_STATE_DEAD:
        apply_dead(member, entry, record);
        break;
    case MEMBER_STATE_LEFT:
        if (record->incarnation > entry->incarnation || entry->state != MEMBER_STATE_LEFT) {
            become(member, entry, MEMBER_STATE_LEFT, record->incarnation, MEMBER_REASON_SELF);
        }
        break;
    }
    if (is_restarted && was_alive && entry->state == MEMBER_STATE_ALIVE) {
        add_event(member, entry, MEMBER_STATE_ALIVE, MEMBER_REASON_RESTARTED);
    }
}

void member__heard(struct member *member, struct member__entry *entry,
                   member_incarnation incarnation)
{
    entry->is_heard = true;
    entry->last_heard_ms = member->now_ms;
    entry->heard_incarnation = incarnation;
    if (incarnation > entry->incarnation) {
        apply_alive(member, entry, incarnation, false);
    }
}
