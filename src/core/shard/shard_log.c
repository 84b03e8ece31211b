/* SPDX-License-Identifier: Apache-2.0 */
/* The entries that are in memory: a ring of consecutive ones, up to the last of the log. Those that
 * are not applied yet are all there, but for what the log had at the start, and for the oldest where
 * too many wait (shard_reread.c); behind them, where the group has other members, applied ones for
 * replicas that lag a little: as many as the limit allows of those that the leader has not heard of
 * from everybody, and a small part of that of the others, for whoever comes back or leads next. Who
 * lags more gets what the log has.
 *
 * The payload of an entry is borrowed by the log writer until the entry is durable. Applied ones
 * are (I6 of raft); one that is cut off may not be, and is kept aside until then. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

enum {
    CAPACITY_MIN = 16,
    ENTRY_KEEP_SIZE_BYTES = 256 << 10,
    COPIED_SIZE_BYTES_MAX = 16 << 10, /* Of what was gathered. */
    FREE_KEEP_SIZE_BYTES = 1 << 20,
    KNOWN_SHARE = 16, /* Of the limit, for entries that everybody has. */
};

/* Of an entry without answers. */
static uint64_t kept_size_bytes(const struct shard_entry *entry)
{
    return sizeof *entry + entry->payload.capacity_bytes;
}

static void answers_deinit(struct shard_answers *answers)
{
    memory_free(answers->items);
    buffer_deinit(&answers->replies);
    *answers = (struct shard_answers){0};
}

static void entry_destroy(struct shard_entry *entry)
{
    if (entry == NULL) {
        return;
    }
    buffer_deinit(&entry->payload);
    answers_deinit(&entry->answers);
    memory_free(entry);
}

struct shard_entry *shard__entry_take(struct shard *shard)
{
    struct list *free_entry = list_pop_front(&shard->free_entries);
    struct shard_entry *entry = NULL;
    if (free_entry != NULL) {
        entry = LIST_ITEM(free_entry, struct shard_entry, link);
        shard->free_size_bytes -= kept_size_bytes(entry);
    } else {
        entry = memory_allocate_zeroed(1, sizeof *entry);
        list_init(&entry->link);
    }
    ASSERT(entry->answers.item_count == 0);
    entry->command_count = 0;
    entry->load_size_bytes = 0;
    entry->has_identities = false;
    entry->persist_sequence = 0;
    ASSERT(entry->pace_ticket == 0);
    buffer_clear(&entry->payload);
    return entry;
}

void shard__entry_lend_answers(struct shard *shard, struct shard_entry *entry)
{
    struct shard_answers *answers = &entry->answers;
    if (answers->item_capacity == 0 && answers->replies.capacity_bytes == 0) {
        *answers = shard->spare_answers;
        shard->spare_answers = (struct shard_answers){0};
    }
}

/* The next entry takes the memory, which is in the processor's caches, instead of its own: entries that are
 * kept for long would keep some of it each, too. */
void shard__entry_end_answers(struct shard *shard, struct shard_entry *entry)
{
    struct shard_answers *answers = &entry->answers;
    struct shard_answers *spare = &shard->spare_answers;
    answers->item_count = 0;
    answers->answered_count = 0;
    buffer_clear(&answers->replies);
    buffer_trim(&answers->replies, ENTRY_KEEP_SIZE_BYTES);
    if (spare->item_capacity == 0 && spare->replies.capacity_bytes == 0) {
        *spare = *answers;
        *answers = (struct shard_answers){0};
    } else {
        answers_deinit(answers);
    }
}

/* Commands are gathered in one place that grows; what is kept of a small entry is as large as it is. */
struct shard_entry *shard__entry_close(struct shard *shard)
{
    struct shard_entry *entry = shard->open;
    struct shard_entry *next = shard__entry_take(shard);
    if (entry->payload.size_bytes <= COPIED_SIZE_BYTES_MAX) {
        struct buffer gathered = entry->payload;
        buffer_trim(&next->payload, COPIED_SIZE_BYTES_MAX);
        buffer_append(&next->payload, buffer_bytes(&gathered));
        entry->payload = next->payload;
        next->payload = gathered;
        buffer_clear(&next->payload);
    }
    shard->open = next;
    shard__entry_begin(&next->payload);
    return entry;
}

void shard__entry_give(struct shard *shard, struct shard_entry *entry)
{
    shard__entry_end_answers(shard, entry);
    buffer_clear(&entry->payload);
    buffer_trim(&entry->payload, ENTRY_KEEP_SIZE_BYTES);
    uint64_t size_bytes_max =
        number_min(FREE_KEEP_SIZE_BYTES, shard->options.recent_size_bytes_max / KNOWN_SHARE);
    if (shard->free_size_bytes + kept_size_bytes(entry) > size_bytes_max) {
        entry_destroy(entry);
        return;
    }
    shard->free_size_bytes += kept_size_bytes(entry);
    list_push_front(&shard->free_entries, &entry->link);
}

static void entries_destroy(struct list *entries)
{
    for (struct list *member; (member = list_pop_front(entries)) != NULL;) {
        entry_destroy(LIST_ITEM(member, struct shard_entry, link));
    }
}

void shard__log_init(struct shard *shard)
{
    list_init(&shard->free_entries);
    list_init(&shard->retired);
}

void shard__log_deinit(struct shard *shard)
{
    struct shard_log *log = &shard->log;
    struct shard_entry *stalled = shard->stalled;
    if (stalled != NULL && shard__log_at(shard, stalled->index) != stalled) {
        entry_destroy(stalled); /* It was read from the log, or let go of. */
    }
    for (uint32_t i = 0; i < log->count; i++) {
        entry_destroy(log->entries[(log->start + i) & (log->capacity - 1)]);
    }
    memory_free(log->entries);
    entries_destroy(&shard->free_entries);
    entries_destroy(&shard->retired);
    entry_destroy(shard->open);
    answers_deinit(&shard->spare_answers);
}

struct shard_entry *shard__log_at(const struct shard *shard, raft_index index)
{
    const struct shard_log *log = &shard->log;
    if (index < log->first_index || index - log->first_index >= log->count) {
        return NULL;
    }
    uint32_t place = log->start + (uint32_t)(index - log->first_index);
    return log->entries[place & (log->capacity - 1)];
}

static void grow(struct shard_log *log)
{
    uint32_t capacity = log->capacity == 0 ? CAPACITY_MIN : 2 * log->capacity;
    struct shard_entry **entries = memory_allocate(capacity * sizeof(struct shard_entry *));
    for (uint32_t i = 0; i < log->count; i++) {
        entries[i] = log->entries[(log->start + i) & (log->capacity - 1)];
    }
    memory_free(log->entries);
    log->entries = entries;
    log->capacity = capacity;
    log->start = 0;
}

void shard__log_push(struct shard *shard, struct shard_entry *entry)
{
    struct shard_log *log = &shard->log;
    if (log->count == 0) {
        log->first_index = entry->index;
    }
    ASSERT(entry->index == log->first_index + log->count);
    if (log->own_index == 0 || entry->index < log->own_index) {
        log->own_index = entry->index;
    }
    if (log->count == log->capacity) {
        grow(log);
    }
    log->entries[(log->start + log->count) & (log->capacity - 1)] = entry;
    log->count++;
    log->size_bytes += entry->payload.size_bytes;
    shard->in_flight_count++;
}

void shard__log_land(struct shard *shard, struct shard_entry *entry)
{
    ASSERT(shard->in_flight_count > 0);
    shard->in_flight_count--;
    shard->in_flight_size_bytes -= entry->payload.size_bytes;
    if (entry->pace_ticket != 0) {
        pace_leave(shard->options.pace, entry->pace_ticket);
        entry->pace_ticket = 0;
    }
}

/* It leaves the ring, and memory as soon as the log writer is done with it. */
static void retire(struct shard *shard, struct shard_entry *entry)
{
    shard->log.size_bytes -= entry->payload.size_bytes;
    if (entry->persist_sequence <= shard->durable_sequence) {
        shard__entry_give(shard, entry);
    } else {
        list_push_back(&shard->retired, &entry->link);
    }
}

void shard__log_truncate(struct shard *shard, raft_index index)
{
    struct shard_log *log = &shard->log;
    while (log->count > 0 && log->first_index + log->count > index) {
        uint32_t place = (log->start + log->count - 1) & (log->capacity - 1);
        struct shard_entry *entry = log->entries[place];
        ASSERT(entry->index > shard->applied_index);
        shard__hand_back_entry(shard, entry);
        log->count--;
        shard__log_land(shard, entry);
        retire(shard, entry);
    }
}

static void drop_oldest(struct shard *shard, bool is_in_flight)
{
    struct shard_log *log = &shard->log;
    struct shard_entry *entry = log->entries[log->start];
    ASSERT(entry->answers.item_count == 0 || entry == shard->stalled);
    if (is_in_flight) {
        shard__log_land(shard, entry);
    }
    log->start = (log->start + 1) & (log->capacity - 1);
    log->count--;
    log->first_index++;
    if (entry == shard->stalled) {
        log->size_bytes -= entry->payload.size_bytes; /* Whoever answers it gives it back. */
    } else {
        retire(shard, entry);
    }
}

void shard__log_drop(struct shard *shard, raft_index index, raft_index applied)
{
    struct shard_log *log = &shard->log;
    while (log->count > 0 && log->first_index <= index) {
        drop_oldest(shard, log->first_index > applied);
    }
}

/* As far as this one knows. Who does not lead need not send anything. */
static raft_index known_to_all(const struct shard *shard)
{
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    raft_index index = shard->applied_index;
    uint32_t count = shard->raft == NULL ? 0 : raft_get_peers(shard->raft, peers);
    for (uint32_t i = 0; i < count; i++) {
        index = number_min(index, peers[i].match_index);
    }
    return index;
}

void shard__log_trim(struct shard *shard)
{
    struct shard_log *log = &shard->log;
    uint64_t size_bytes_max = shard__is_alone(shard) ? 0 : shard->options.recent_size_bytes_max;
    uint64_t known_size_bytes_max = size_bytes_max / KNOWN_SHARE;
    if (log->size_bytes <= known_size_bytes_max) {
        return;
    }
    raft_index known_index = known_to_all(shard);
    while (log->count > 0 && log->first_index <= shard->applied_index &&
           log->size_bytes >
               (log->first_index <= known_index ? known_size_bytes_max : size_bytes_max)) {
        struct shard_entry *entry = log->entries[log->start];
        if (entry == shard->stalled) {
            return;
        }
        ASSERT(entry->persist_sequence <= shard->durable_sequence);
        drop_oldest(shard, false);
    }
}

static bool do_too_many_wait(const struct shard *shard)
{
    uint64_t most = shard->options.waiting_size_bytes_max;
    return shard__is_beyond(shard, 0, most, most);
}

/* The newest stays: where it alone is too much, it would be read once more each time. */
void shard__log_relieve(struct shard *shard)
{
    struct shard_log *log = &shard->log;
    bool is_bounded = shard->role == RAFT_ROLE_LEADER; /* It takes only so much. */
    /* Else nothing would be won. */
    bool does_any_wait = shard->applied_index < shard->commit_index;
    if (shard->options.host.read_back == NULL || is_bounded || !does_any_wait ||
        shard->has_failed) {
        return;
    }
    while (log->count > 1 && log->first_index <= shard->commit_index && do_too_many_wait(shard)) {
        const struct shard_entry *entry = log->entries[log->start];
        bool is_waiting = entry->index > shard->applied_index;
        bool is_awaited = entry->answers.item_count > 0 && entry != shard->stalled;
        if (entry->persist_sequence > shard->durable_sequence || is_awaited) {
            return;
        }
        if (is_waiting) {
            PROBE("shard.entry_let_go");
        }
        drop_oldest(shard, is_waiting);
        shard__account(shard);
    }
}

void shard__log_free_retired(struct shard *shard)
{
    LIST_EACH(member, next, &shard->retired)
    {
        struct shard_entry *entry = LIST_ITEM(member, struct shard_entry, link);
        if (entry->persist_sequence > shard->durable_sequence) {
            return;
        }
        list_remove(&entry->link);
        shard__entry_give(shard, entry);
    }
}
