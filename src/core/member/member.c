/* SPDX-License-Identifier: Apache-2.0 */
#include "core/member/member.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/member/member_internal.h"

/* ---- Meta ------------------------------------------------------------------------------------ */

int member_meta_set_address(struct member_meta *meta, struct bytes address)
{
    if (address.size_bytes > MEMBER_ADDRESS_SIZE_MAX) {
        return -EINVAL;
    }
    memset(meta->address, 0, sizeof meta->address);
    if (address.size_bytes > 0) {
        memcpy(meta->address, address.data, address.size_bytes);
    }
    meta->address_size_bytes = (uint8_t)address.size_bytes;
    return 0;
}

int member_meta_set_zone(struct member_meta *meta, struct bytes zone)
{
    if (zone.size_bytes > MEMBER_ZONE_SIZE_MAX) {
        return -EINVAL;
    }
    memset(meta->zone, 0, sizeof meta->zone);
    if (zone.size_bytes > 0) {
        memcpy(meta->zone, zone.data, zone.size_bytes);
    }
    meta->zone_size_bytes = (uint8_t)zone.size_bytes;
    return 0;
}

struct bytes member_meta_address(const struct member_meta *meta)
{
    return bytes_make(meta->address, meta->address_size_bytes);
}

struct bytes member_meta_zone(const struct member_meta *meta)
{
    return bytes_make(meta->zone, meta->zone_size_bytes);
}

static bool is_meta_valid(const struct member_meta *meta)
{
    return meta->address_size_bytes <= MEMBER_ADDRESS_SIZE_MAX &&
           meta->zone_size_bytes <= MEMBER_ZONE_SIZE_MAX;
}

/* ---- The roster ------------------------------------------------------------------------------ */

uint32_t member__position(const struct member *member, member_node node)
{
    uint32_t low = 0;
    uint32_t high = member->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (member->order[middle]->node < node) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct member__entry *member__find(const struct member *member, member_node node)
{
    uint32_t position = member__position(member, node);
    if (position == member->count || member->order[position]->node != node) {
        return NULL;
    }
    return member->order[position];
}

bool member__is_peer(const struct member *member, const struct member__entry *entry)
{
    return entry != member->self &&
           (entry->state == MEMBER_STATE_ALIVE || entry->state == MEMBER_STATE_SUSPECT);
}

uint32_t member__choose(struct member *member, uint32_t count, bool is_alive_only,
                        const struct member__entry *excluded)
{
    uint32_t candidate_count = 0;
    for (uint32_t i = 0; i < member->count; i++) {
        struct member__entry *entry = member->order[i];
        bool is_fit = member__is_peer(member, entry) && entry != excluded &&
                      (!is_alive_only || entry->state == MEMBER_STATE_ALIVE);
        if (is_fit) {
            member->scratch[candidate_count++] = entry;
        }
    }
    if (count > candidate_count) {
        count = candidate_count;
    }
    for (uint32_t i = 0; i < count; i++) { /* Fisher and Yates, as far as needed. */
        uint32_t other = i + (uint32_t)random_below(&member->random, candidate_count - i);
        struct member__entry *entry = member->scratch[i];
        member->scratch[i] = member->scratch[other];
        member->scratch[other] = entry;
    }
    return count;
}

/* The caller knows that there is room. */
static struct member__entry *insert_entry(struct member *member, member_node node)
{
    ASSERT(member->count < member->entry_count_max);
    uint32_t slot = 0;
    while (member->entries[slot].node != 0) {
        slot++;
    }
    struct member__entry *entry = &member->entries[slot];
    *entry = (struct member__entry){.node = node, .since_ms = member->now_ms};
    list_init(&entry->state_link);
    list_init(&entry->meta_link);
    uint32_t position = member__position(member, node);
    memmove(&member->order[position + 1], &member->order[position],
            (member->count - position) * sizeof member->order[0]);
    member->order[position] = entry;
    member->count++;
    return entry;
}

static void set_roster_address(struct member__entry *entry, struct bytes address)
{
    ASSERT(address.size_bytes <= MEMBER_ADDRESS_SIZE_MAX);
    if (address.size_bytes > 0) {
        memcpy(entry->roster_address_text, address.data, address.size_bytes);
    }
    entry->roster_address = bytes_make(entry->roster_address_text, address.size_bytes);
}

/* In the roster, but not heard of yet: that it lives is still to be seen. */
static void add_node(struct member *member, member_node node, struct bytes address)
{
    struct member__entry *entry = insert_entry(member, node);
    set_roster_address(entry, address);
    entry->state = MEMBER_STATE_SUSPECT;
    member->state_counts[MEMBER_STATE_SUSPECT]++;
    member__suspicion_open(member, entry);
    if (member->probe_count == 0) { /* The first one: begin somewhere within an interval. */
        uint64_t interval_ms = member->probe_interval_ms;
        member->probe_at_ms = member->now_ms + random_below(&member->random, interval_ms);
        member->sync_at_ms = member->now_ms;
    }
    member__probe_add(member, entry);
    TRACE("member.add", node, member->count, 0, 0);
}

static void remove_node(struct member *member, struct member__entry *entry)
{
    uint32_t position = member__position(member, entry->node);
    TRACE("member.remove", entry->node, member->count, 0, 0);
    member__probe_remove(member, entry);
    member__news_forget(entry);
    member->state_counts[entry->state]--;
    member->count--;
    memmove(&member->order[position], &member->order[position + 1],
            (member->count - position) * sizeof member->order[0]);
    entry->node = 0;
}

static int check_set(const struct member *member, const struct member_input *input)
{
    if (input->node == 0 || input->address.size_bytes > MEMBER_ADDRESS_SIZE_MAX) {
        return -EINVAL;
    }
    if (!input->is_removed && member->count == member->entry_count_max &&
        member__find(member, input->node) == NULL) {
        PROBE("member.roster.full");
        return -EBUSY;
    }
    return 0;
}

static void set_node(struct member *member, const struct member_input *input)
{
    struct member__entry *entry = member__find(member, input->node);
    if (entry == member->self) {
        member->is_removed = input->is_removed;
        return;
    }
    if (input->is_removed) {
        if (entry != NULL) {
            remove_node(member, entry);
        }
    } else if (entry != NULL) {
        set_roster_address(entry, input->address);
    } else {
        add_node(member, input->node, input->address);
    }
}

/* ---- Life cycle ------------------------------------------------------------------------------ */

static int check_options(const struct member_options *options, struct error *error)
{
    if (options->self == 0) {
        return error_say(error, -EINVAL, "a node's id is not 0");
    }
    if (options->incarnation == 0 || options->incarnation > MEMBER_INCARNATION_MAX) {
        return error_say(error, -EINVAL, "the incarnation %llu is not a time in milliseconds",
                         (unsigned long long)options->incarnation);
    }
    if (options->node_count_max == 0 || options->node_count_max > MEMBER_NODE_COUNT_LIMIT) {
        return error_say(error, -EINVAL, "a cluster has 1 to %d nodes, not %u",
                         MEMBER_NODE_COUNT_LIMIT, options->node_count_max);
    }
    if (!is_meta_valid(&options->meta)) {
        return error_say(error, -EINVAL, "the address or the zone of this node is too long");
    }
    return 0;
}

int member_create(struct member **member, const struct member_options *options, struct error *error)
{
    int status = check_options(options, error);
    if (status != 0) {
        return status;
    }
    uint32_t count_max = options->node_count_max;
    struct member *created = memory_allocate_zeroed(1, sizeof *created);
    created->entry_count_max = count_max;
    created->entries = memory_allocate_zeroed(count_max, sizeof created->entries[0]);
    created->order = memory_allocate_zeroed(count_max, sizeof(struct member__entry *));
    created->scratch = memory_allocate_zeroed(count_max, sizeof(struct member__entry *));
    created->probe_order = memory_allocate_zeroed(count_max, sizeof(struct member__entry *));
    created->buffers = memory_allocate_zeroed(MEMBER__SEND_COUNT_MAX, MEMBER_MESSAGE_SIZE_MAX);
    /* A record changes a node at most three times (alive, suspect, meta), a timer once. */
    created->event_count_max = count_max + 3 * (MEMBER__RECORD_COUNT_MAX + 1);
    created->events = memory_allocate_zeroed(created->event_count_max, sizeof created->events[0]);
    created->probe_interval_ms =
        options->probe_interval_ms == 0 ? MEMBER_PROBE_INTERVAL_MS : options->probe_interval_ms;
    created->now_ms = options->now_ms;
    created->wake_at_ms = UINT64_MAX;
    created->is_catching_up = true;
    random_init(&created->random, options->random_seed);
    created->sequence = (uint32_t)random_next(&created->random);
    member__gossip_init(created);

    struct member__entry *self = insert_entry(created, options->self);
    created->self = self;
    created->clock = options->incarnation;
    self->state = MEMBER_STATE_ALIVE;
    created->state_counts[MEMBER_STATE_ALIVE] = 1;
    self->incarnation = options->incarnation;
    self->heard_incarnation = options->incarnation;
    self->revision = options->incarnation;
    self->meta = options->meta;
    member__news_state(created, self, true);
    member__news_meta(created, self);
    ASSERT(member__is_consistent(created));
    *member = created;
    return 0;
}

void member_destroy(struct member *member)
{
    if (member == NULL) {
        return;
    }
    memory_free(member->entries);
    memory_free(member->order);
    memory_free(member->scratch);
    memory_free(member->probe_order);
    memory_free(member->buffers);
    memory_free(member->events);
    memory_free(member);
}

bool member__is_consistent(const struct member *member)
{
    uint32_t counts[MEMBER_STATE_LEFT + 1] = {0};
    for (uint32_t i = 0; i < member->count; i++) {
        const struct member__entry *entry = member->order[i];
        counts[entry->state]++;
        bool is_ordered = i == 0 || member->order[i - 1]->node < entry->node;
        bool is_known = entry->incarnation != 0 || entry->state == MEMBER_STATE_SUSPECT ||
                        entry->state == MEMBER_STATE_DEAD;
        if (!is_ordered || !is_known || entry->accuser_count > MEMBER__ACCUSER_COUNT_MAX) {
            return false;
        }
    }
    return memcmp(counts, member->state_counts, sizeof counts) == 0 &&
           member->count == member->probe_count + 1 && member->self->incarnation <= member->clock &&
           member->self->revision <= member->clock &&
           (member->self->state == MEMBER_STATE_ALIVE || member->self->state == MEMBER_STATE_LEFT);
}

/* ---- The step -------------------------------------------------------------------------------- */

/* A step that was asked for long before: this node did not run in between. */
static void note_lateness(struct member *member, uint64_t now_ms)
{
    ASSERT(now_ms >= member->now_ms);
    member->now_ms = now_ms;
    if (member->wake_at_ms != UINT64_MAX && now_ms > member->wake_at_ms + MEMBER__LATE_MS) {
        member__probe_late(member, now_ms - member->wake_at_ms);
    }
}

static void receive(struct member *member, member_node node, size_t size_bytes,
                    const struct member__message *message)
{
    member->statistics.received_count++;
    member->statistics.received_bytes += size_bytes;
    if (member->is_removed || node == member->self->node) {
        return;
    }
    struct member__entry *from = member__find(member, node);
    if (from == NULL && message->kind != MEMBER__KIND_PING) {
        PROBE("member.message.stranger");
        return;
    }
    if (from != NULL) {
        for (uint8_t i = 0; i < message->record_count; i++) {
            member__apply(member, &member->records[i]);
        }
        /* After the records: they say more than that the sender lives. */
        member__heard(member, from, message->incarnation);
    }
    switch (message->kind) {
    case MEMBER__KIND_PING:
    case MEMBER__KIND_ACK:
    case MEMBER__KIND_NACK:
    case MEMBER__KIND_PING_REQUEST:
        member__receive_probe(member, node, message);
        break;
    case MEMBER__KIND_GOSSIP:
        break;
    case MEMBER__KIND_SYNC:
        member__receive_sync(member, from, message);
        break;
    case MEMBER__KIND_SYNC_REPLY:
        member__receive_sync_reply(member, from, message);
        break;
    }
}

static void update_self(struct member *member, const struct member_meta *meta)
{
    struct member__entry *self = member->self;
    bool is_same = meta->version == self->meta.version &&
                   bytes_equal(member_meta_address(meta), member_meta_address(&self->meta)) &&
                   bytes_equal(member_meta_zone(meta), member_meta_zone(&self->meta));
    _Static_assert(sizeof meta->load == 2 * 8 + 6 * 4, "no padding that could differ");
    bool is_same_load = memcmp(&meta->load, &self->meta.load, sizeof meta->load) == 0;
    if (is_same && is_same_load) {
        return;
    }
    self->meta = *meta;
    if (is_same) {
        member__revise_self(member);
    } else {
        member__renew_self(member, 0);
    }
}

/* Look at the input before anything changes. */
static int check_input(struct member *member, const struct member_input *input,
                       struct member__message *message)
{
    switch (input->kind) {
    case MEMBER_INPUT_TICK:
    case MEMBER_INPUT_LEAVE:
        return 0;
    case MEMBER_INPUT_RECEIVE: {
        int status = member__decode(input->message, message, member->records);
        if (status != 0) {
            PROBE("member.message.refused");
            member->statistics.refused_count++;
        }
        return status;
    }
    case MEMBER_INPUT_SET:
        return check_set(member, input);
    case MEMBER_INPUT_UPDATE_SELF:
        ASSERT(input->meta->boot_id == member->self->meta.boot_id);
        return is_meta_valid(input->meta) ? 0 : -EINVAL;
    }
    ASSERT(false);
    return -EINVAL;
}

static void take_input(struct member *member, const struct member_input *input,
                       const struct member__message *message)
{
    switch (input->kind) {
    case MEMBER_INPUT_TICK:
        break;
    case MEMBER_INPUT_RECEIVE:
        receive(member, input->node, input->message.size_bytes, message);
        break;
    case MEMBER_INPUT_SET:
        set_node(member, input);
        break;
    case MEMBER_INPUT_UPDATE_SELF:
        update_self(member, input->meta);
        break;
    case MEMBER_INPUT_LEAVE:
        member__leave(member);
        break;
    }
}

static uint64_t next_wake_at_ms(const struct member *member)
{
    if (member->is_removed || member->count < 2) {
        return UINT64_MAX;
    }
    uint64_t wake_at_ms = member__probe_wake_at_ms(member);
    if (member__has_news(member) && member->gossip_at_ms < wake_at_ms) {
        wake_at_ms = member->gossip_at_ms;
    }
    if (member->self->state != MEMBER_STATE_LEFT && member->sync_at_ms < wake_at_ms) {
        wake_at_ms = member->sync_at_ms;
    }
    if (member->state_counts[MEMBER_STATE_SUSPECT] > 0) {
        for (uint32_t i = 0; i < member->count; i++) {
            uint64_t ends_at_ms = member__suspicion_ends_at_ms(member, member->order[i]);
            wake_at_ms = ends_at_ms < wake_at_ms ? ends_at_ms : wake_at_ms;
        }
    }
    return wake_at_ms;
}

int member_step(struct member *member, const struct member_input *input,
                struct member_output *output)
{
    struct member__message message = {0};
    *output = (struct member_output){.wake_at_ms = member->wake_at_ms};
    int status = check_input(member, input, &message);
    if (status != 0) {
        return status;
    }
    member->send_count = 0;
    member->event_count = 0;
    note_lateness(member, input->now_ms);
    take_input(member, input, &message);
    if (!member->is_removed) {
        member__probe_tick(member);
        member__suspicion_tick(member); /* After what may have confirmed one. */
        member__sync_tick(member);
        member__gossip_tick(member);
    }
    member->wake_at_ms = next_wake_at_ms(member);
    ASSERT_IF(member->wake_at_ms != UINT64_MAX, member->wake_at_ms > member->now_ms);
    ASSERT_SLOW(member__is_consistent(member));
    *output = (struct member_output){
        .sends = member->sends,
        .send_count = member->send_count,
        .events = member->events,
        .event_count = member->event_count,
        .wake_at_ms = member->wake_at_ms,
    };
    return 0;
}

bool member_leave_is_spread(const struct member *member)
{
    const struct list *link = &member->self->state_link;
    return member->self->state == MEMBER_STATE_LEFT && link->next == link;
}

/* ---- What is known --------------------------------------------------------------------------- */

static void fill_view(const struct member__entry *entry, struct member_view *view)
{
    *view = (struct member_view){
        .node = entry->node,
        .state = entry->state,
        .since_ms = entry->since_ms,
        .incarnation = entry->incarnation,
        .is_heard = entry->is_heard,
        .last_heard_ms = entry->last_heard_ms,
        .round_trip_ms = entry->round_trip_x8_ms / 8,
        .address = entry->roster_address,
        .meta = entry->revision == 0 ? NULL : &entry->meta,
        .revision = entry->revision,
    };
    if (view->meta != NULL && view->meta->address_size_bytes > 0) {
        view->address = member_meta_address(view->meta);
    }
}

bool member_state(const struct member *member, member_node node, struct member_view *view)
{
    const struct member__entry *entry = member__find(member, node);
    if (entry == NULL) {
        return false;
    }
    fill_view(entry, view);
    return true;
}

uint32_t member_count(const struct member *member)
{
    return member->count;
}

void member_list(const struct member *member, uint32_t index, struct member_view *view)
{
    ASSERT(index < member->count);
    fill_view(member->order[index], view);
}

void member_get_statistics(const struct member *member, struct member_statistics *statistics)
{
    *statistics = member->statistics;
    statistics->health_multiplier = member->health;
}

const char *member_state_text(enum member_state state)
{
    static const char *const texts[] = {
        [MEMBER_STATE_ALIVE] = "alive",
        [MEMBER_STATE_SUSPECT] = "suspect",
        [MEMBER_STATE_DEAD] = "dead",
        [MEMBER_STATE_LEFT] = "left",
    };
    return texts[state];
}

const char *member_reason_text(enum member_reason reason)
{
    static const char *const texts[] = {
        [MEMBER_REASON_HEARD] = "heard",         [MEMBER_REASON_REFUTED] = "refuted",
        [MEMBER_REASON_RESTARTED] = "restarted", [MEMBER_REASON_PROBE_FAILED] = "probe_failed",
        [MEMBER_REASON_GOSSIP] = "gossip",       [MEMBER_REASON_TIMEOUT] = "timeout",
        [MEMBER_REASON_SELF] = "self",           [MEMBER_REASON_META] = "meta",
    };
    return texts[reason];
}
