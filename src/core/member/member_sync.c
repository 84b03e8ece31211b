/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing with one other node, a piece of the roster at a time.
 *
 * Gossip tells each update a limited number of times, so now and then one misses a node, and a
 * partition that heals has two halves that told their news long ago. Therefore each node, each
 * second, sends what it knows of a few nodes (a range of ids) to one node chosen from the whole
 * roster, whatever it believes of that one's state. The other takes what it did not know and
 * answers with what it knows better. A node that just started does this for the whole roster, piece
 * after piece, as fast as answers come.
 *
 * That the dead are chosen too is what heals a partition: whoever gets a message that says it is
 * dead takes a higher incarnation and tells everybody. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/member/member_internal.h"

enum { SYNC_INTERVALS = 10, SYNC_INTERVALS_DIVISOR = 3 };

static bool is_state_better(const struct member__entry *mine, const struct member__record *theirs)
{
    if (theirs == NULL || mine->incarnation > theirs->incarnation) {
        return true;
    }
    return mine->incarnation == theirs->incarnation && mine->state > theirs->state;
}

/* Put what is known of the nodes from `first` on; the last id that is covered is given. */
static uint32_t add_piece(struct member *member, struct member__builder *builder, uint32_t first)
{
    uint32_t count_max =
        member->is_catching_up ? MEMBER__RECORD_COUNT_MAX : (uint32_t)MEMBER__PIECE_COUNT;
    uint32_t count = 0;
    uint32_t last = first;
    for (uint32_t i = member__position(member, first); i < member->count; i++) {
        const struct member__entry *entry = member->order[i];
        bool is_told = entry == member->self && member->is_catching_up;
        if (entry->incarnation != 0 && !is_told) {
            struct member__record record = member__record_of(entry, false, false);
            if (!member__build_record(builder, &record)) {
                return last;
            }
        }
        last = entry->node;
        count++;
        if (count == count_max && i + 1 < member->count) {
            return last;
        }
    }
    return UINT32_MAX;
}

static void send_sync(struct member *member, member_node node)
{
    struct member__builder builder;
    if (!member__send_start(member, &builder)) {
        return;
    }
    if (member->is_catching_up) { /* Who starts says at once who it is now. */
        struct member__record record = member__record_of(member->self, true, true);
        bool is_told = member__build_record(&builder, &record);
        ASSERT(is_told);
    }
    uint32_t last = add_piece(member, &builder, member->sync_first);
    uint16_t meta_count_max = member->is_catching_up ? UINT16_MAX : MEMBER__PIECE_META_COUNT;
    member->sync_with = node;
    member__send(member, &builder, node,
                 (struct member__message){.kind = MEMBER__KIND_SYNC,
                                          .sequence = member->sync_first,
                                          .subject = last,
                                          .limit = meta_count_max});
    if (!member->is_catching_up) { /* Lost or not: the next round comes by. */
        member->sync_first = last == UINT32_MAX ? 0 : last + 1;
    }
}

/* Any other node but those that left. */
static struct member__entry *choose_any(struct member *member)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < member->count; i++) {
        struct member__entry *entry = member->order[i];
        if (entry != member->self && entry->state != MEMBER_STATE_LEFT) {
            member->scratch[count++] = entry;
        }
    }
    return count == 0 ? NULL : member->scratch[random_below(&member->random, count)];
}

void member__sync_tick(struct member *member)
{
    if (member->now_ms < member->sync_at_ms || member->count < 2 ||
        member->self->state == MEMBER_STATE_LEFT) {
        return;
    }
    uint64_t interval_ms = member->probe_interval_ms;
    if (!member->is_catching_up) {
        interval_ms = interval_ms * SYNC_INTERVALS / SYNC_INTERVALS_DIVISOR;
    }
    member->sync_at_ms = member->now_ms + interval_ms;
    struct member__entry *other = choose_any(member);
    if (other != NULL) {
        send_sync(member, other->node);
    }
}

static const struct member__record *find_record(const struct member *member,
                                                const struct member__message *message,
                                                member_node node)
{
    for (uint8_t i = 0; i < message->record_count; i++) {
        if (member->records[i].node == node) {
            return &member->records[i];
        }
    }
    return NULL;
}

void member__receive_sync(struct member *member, struct member__entry *from,
                          const struct member__message *message)
{
    struct member__builder builder;
    if (!member__send_start(member, &builder)) {
        return;
    }
    uint32_t first = message->sequence;
    uint32_t last = message->subject;
    uint32_t meta_count = 0;
    for (uint32_t i = member__position(member, first); i < member->count; i++) {
        const struct member__entry *entry = member->order[i];
        if (entry->node > message->subject) {
            break;
        }
        const struct member__record *theirs = find_record(member, message, entry->node);
        bool has_meta =
            (theirs == NULL || entry->revision > theirs->revision) && meta_count < message->limit;
        if (entry->incarnation == 0 || !(has_meta || is_state_better(entry, theirs))) {
            continue;
        }
        struct member__record record = member__record_of(entry, false, has_meta);
        if (!member__build_record(&builder, &record)) {
            PROBE("member.sync.cut");
            last = entry->node - 1;
            break;
        }
        meta_count += has_meta;
    }
    member__send(member, &builder, from->node,
                 (struct member__message){
                     .kind = MEMBER__KIND_SYNC_REPLY, .sequence = first, .subject = last});
}

void member__receive_sync_reply(struct member *member, struct member__entry *from,
                                const struct member__message *message)
{
    if (!member->is_catching_up || message->sequence != member->sync_first ||
        member->sync_with != from->node) {
        return;
    }
    if (message->subject == UINT32_MAX) {
        TRACE("member.sync.caught_up", member->self->node, from->node, member->count, 0);
        member->is_catching_up = false;
        member->sync_first = 0;
        member->sync_at_ms =
            member->now_ms + random_below(&member->random, 4 * member->probe_interval_ms);
        return;
    }
    if (message->subject < member->sync_first) {
        PROBE("member.sync.backwards"); /* Nothing fitted: the next try is with another node. */
        return;
    }
    member->sync_first = message->subject + 1;
    send_sync(member, from->node);
}
