/* SPDX-License-Identifier: Apache-2.0 */
/* What is told next.
 *
 * SWIM §4.1: updates ride on the messages of the failure detector, those told the fewest times
 * first, each lambda * log(n) times. An update is not stored: what is told of a node is what is
 * known of it when the message leaves, so a list of nodes for each number of times is all there is.
 *
 * Two kinds of updates, because their sizes and their haste differ:
 *
 *   State news (24 bytes and a little) go on every message, as many as fit, and while there are
 *   any, also by themselves to a few random peers (Lifeguard's implementations do the same).
 *   Meta news (100 bytes) go on pings and their answers, MEMBER__META_COUNT to each, never more.
 *   When few metas are new, those told long ago fill the room in turn: so the traffic does not
 *   depend on how much there is to tell, which is what I6 promises, and whoever missed a meta
 *   sees it again. What suffers when a cluster is large is the age of load figures, and that only
 *   in proportion.
 *
 * Lifeguard §IV-C, the buddy system: a message to a node that is suspected or dead says so first. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/member/member_internal.h"

void member__gossip_init(struct member *member)
{
    for (uint32_t i = 0; i < MEMBER__TRANSMISSION_COUNT_MAX; i++) {
        list_init(&member->state_news[i]);
        list_init(&member->meta_news[i]);
    }
    list_init(&member->meta_told);
}

uint32_t member__transmission_limit(const struct member *member)
{
    uint32_t count =
        member->state_counts[MEMBER_STATE_ALIVE] + member->state_counts[MEMBER_STATE_SUSPECT];
    uint32_t limit = MEMBER__TRANSMISSION_LAMBDA;
    for (uint32_t power = 10; power < count + 1; power *= 10) {
        limit += MEMBER__TRANSMISSION_LAMBDA;
    }
    ASSERT(limit <= MEMBER__TRANSMISSION_COUNT_MAX);
    return limit;
}

static uint64_t gossip_interval_ms(const struct member *member)
{
    return member->probe_interval_ms * 2 / 3;
}

void member__news_state(struct member *member, struct member__entry *entry, bool has_meta)
{
    ASSERT(entry->incarnation != 0);
    /* A meta that still waits to be told is not forgotten because the state changed again. */
    bool is_waiting = entry->state_link.next != &entry->state_link;
    entry->state_has_meta =
        (has_meta || (is_waiting && entry->state_has_meta)) && entry->revision != 0;
    list_remove(&entry->state_link);
    entry->state_transmission_count = 0;
    list_push_back(&member->state_news[0], &entry->state_link);
}

void member__news_meta(struct member *member, struct member__entry *entry)
{
    ASSERT(entry->revision != 0);
    list_remove(&entry->meta_link);
    entry->meta_transmission_count = 0;
    list_push_back(&member->meta_news[0], &entry->meta_link);
}

void member__news_forget(struct member__entry *entry)
{
    list_remove(&entry->state_link);
    list_remove(&entry->meta_link);
}

bool member__has_news(const struct member *member)
{
    for (uint32_t i = 0; i < MEMBER__TRANSMISSION_COUNT_MAX; i++) {
        if (!list_is_empty(&member->state_news[i])) {
            return true;
        }
    }
    return false;
}

struct member__record member__record_of(const struct member__entry *entry, bool is_fresh,
                                        bool has_meta)
{
    struct member__record record = {
        .node = entry->node,
        .state = entry->state,
        .is_fresh = is_fresh,
        .has_meta = has_meta && entry->revision != 0,
        .accuser_count = entry->accuser_count,
        .incarnation = entry->incarnation,
        .revision = entry->revision,
    };
    memcpy(record.accusers, entry->accusers, sizeof record.accusers);
    if (record.has_meta) {
        record.meta = entry->meta;
    }
    return record;
}

/* A node knows that it is alive; to tell it that it is not, there is the buddy system. */
static bool is_pointless(const struct member__entry *entry, const struct member__entry *receiver)
{
    return entry == receiver;
}

static void add_state_news(struct member *member, struct member__builder *builder,
                           const struct member__entry *receiver)
{
    uint32_t limit = member__transmission_limit(member);
    struct list told; /* Kept apart, or the next list would tell them again. */
    list_init(&told);
    bool is_full = false;
    for (uint32_t i = 0; i < MEMBER__TRANSMISSION_COUNT_MAX && !is_full; i++) {
        LIST_EACH(link, next, &member->state_news[i])
        {
            struct member__entry *entry = LIST_ITEM(link, struct member__entry, state_link);
            if (!is_pointless(entry, receiver)) {
                struct member__record record =
                    member__record_of(entry, true, entry->state_has_meta);
                if (!member__build_record(builder, &record)) {
                    is_full = true;
                    break;
                }
            }
            list_remove(link);
            list_push_back(&told, link);
        }
    }
    for (struct list *link = list_pop_front(&told); link != NULL; link = list_pop_front(&told)) {
        struct member__entry *entry = LIST_ITEM(link, struct member__entry, state_link);
        entry->state_transmission_count++;
        if (entry->state_transmission_count < limit) {
            list_push_back(&member->state_news[entry->state_transmission_count], link);
        }
    }
}

/* The next meta to tell: news before what was told, each list from its front. */
static struct member__entry *next_meta(struct member *member)
{
    for (uint32_t i = 0; i < MEMBER__TRANSMISSION_COUNT_MAX; i++) {
        if (!list_is_empty(&member->meta_news[i])) {
            return LIST_ITEM(member->meta_news[i].next, struct member__entry, meta_link);
        }
    }
    if (list_is_empty(&member->meta_told)) {
        return NULL;
    }
    return LIST_ITEM(member->meta_told.next, struct member__entry, meta_link);
}

static void add_metas(struct member *member, struct member__builder *builder,
                      const struct member__entry *receiver)
{
    uint32_t limit = member__transmission_limit(member);
    struct list told;
    list_init(&told);
    uint32_t count = 0;
    while (count < MEMBER__META_COUNT) {
        struct member__entry *entry = next_meta(member);
        if (entry == NULL) {
            break;
        }
        if (!is_pointless(entry, receiver)) {
            struct member__record record = member__record_of(entry, false, true);
            if (!member__build_record(builder, &record)) {
                break;
            }
            count++;
        }
        list_remove(&entry->meta_link);
        list_push_back(&told, &entry->meta_link);
    }
    for (struct list *link = list_pop_front(&told); link != NULL; link = list_pop_front(&told)) {
        struct member__entry *entry = LIST_ITEM(link, struct member__entry, meta_link);
        if (entry->meta_transmission_count < limit) {
            entry->meta_transmission_count++;
        }
        list_push_back(entry->meta_transmission_count < limit
                           ? &member->meta_news[entry->meta_transmission_count]
                           : &member->meta_told,
                       link);
    }
}

bool member__send_start(struct member *member, struct member__builder *builder)
{
    if (member->send_count == MEMBER__SEND_COUNT_MAX) {
        PROBE("member.send.full");
        return false;
    }
    member__build_start(builder, member->buffers[member->send_count]);
    return true;
}

static void add_news(struct member *member, struct member__builder *builder,
                     const struct member__entry *receiver, enum member__kind kind)
{
    bool is_unaware = receiver->state != MEMBER_STATE_ALIVE ||
                      receiver->heard_incarnation < receiver->incarnation;
    if (is_unaware && receiver->incarnation != 0) {
        struct member__record record = member__record_of(receiver, true, false);
        (void)member__build_record(builder, &record); /* Without room: the next message. */
    }
    if (kind == MEMBER__KIND_SYNC || kind == MEMBER__KIND_SYNC_REPLY) {
        return;
    }
    add_state_news(member, builder, receiver);
    if (kind == MEMBER__KIND_PING || kind == MEMBER__KIND_ACK) {
        add_metas(member, builder, receiver);
    }
}

void member__send(struct member *member, struct member__builder *builder, member_node node,
                  struct member__message message)
{
    ASSERT(member->send_count < MEMBER__SEND_COUNT_MAX);
    ASSERT(node != member->self->node);
    const struct member__entry *receiver = member__find(member, node);
    if (receiver != NULL) { /* I7 */
        add_news(member, builder, receiver, message.kind);
    }
    if (message.kind == MEMBER__KIND_GOSSIP && builder->record_count == 0) {
        return;
    }
    message.incarnation = member->self->incarnation;
    struct bytes bytes = member__build_end(builder, &message);
    member->sends[member->send_count++] = (struct member_send){node, bytes};
    member->statistics.sent_count++;
    member->statistics.sent_bytes += bytes.size_bytes;
}

/* Nobody is there to be told. */
static void drop_news(struct member *member)
{
    for (uint32_t i = 0; i < MEMBER__TRANSMISSION_COUNT_MAX; i++) {
        while (list_pop_front(&member->state_news[i]) != NULL) {
        }
    }
}

void member__gossip_tick(struct member *member)
{
    if (member->now_ms < member->gossip_at_ms || !member__has_news(member)) {
        return;
    }
    uint32_t count = member__choose(member, MEMBER__FANOUT, false, NULL);
    if (count == 0) {
        drop_news(member);
        return;
    }
    struct member__entry *receivers[MEMBER__FANOUT];
    memcpy(receivers, member->scratch, count * sizeof receivers[0]);
    for (uint32_t i = 0; i < count; i++) {
        struct member__builder builder;
        if (member__send_start(member, &builder)) {
            member__send(member, &builder, receivers[i]->node,
                         (struct member__message){.kind = MEMBER__KIND_GOSSIP});
        }
    }
    member->gossip_at_ms = member->now_ms + gossip_interval_ms(member);
}
