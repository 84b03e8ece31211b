/* SPDX-License-Identifier: Apache-2.0 */
/* The entries that are in memory: a ring of consecutive ones, up to the last of the log. Those that
 * are not applied yet are all there, but for what the log had at the start; behind them, where the
 * group has other members, as many applied ones as the limit allows, for replicas that lag a little.
 *
 * The payload of an entry is borrowed by the log writer until the entry is durable. Applied ones
 * are (I6 of raft); one that is cut off may not be, and is kept aside until then. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/shard/shard_internal.h"

enum { CAPACITY_MIN = 16, ENTRY_KEEP_SIZE_BYTES = 256 << 10 };

struct shard_entry *shard__entry_take(struct shard *shard)
{
    struct list *free_entry = list_pop_front(&shard->free_entries);
    struct shard_entry *entry = NULL;
    if (free_entry != NULL) {
        entry = LIST_ITEM(free_entry, struct shard_entry, link);
    } else {
        entry = memory_allocate_zeroed(1, sizeof *entry);
        list_init(&entry->link);
    }
    entry->command_count = 0;
    entry->item_count = 0;
    entry->has_identities = false;
    entry->persist_sequence = 0;
    buffer_clear(&entry->payload);
    buffer_clear(&entry->replies);
    return entry;
}

void shard__entry_give(struct shard *shard, struct shard_entry *entry)
{
    buffer_clear(&entry->payload);
    buffer_clear(&entry->replies);
    buffer_trim(&entry->payload, ENTRY_KEEP_SIZE_BYTES);
    buffer_trim(&entry->replies, ENTRY_KEEP_SIZE_BYTES);
    list_push_front(&shard->free_entries, &entry->link);
}

static void entry_destroy(struct shard_entry *entry)
{
    if (entry == NULL) {
        return;
    }
    buffer_deinit(&entry->payload);
    buffer_deinit(&entry->replies);
    memory_free(entry->items);
    memory_free(entry);
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
    for (uint32_t i = 0; i < log->count; i++) {
        entry_destroy(log->entries[(log->start + i) & (log->capacity - 1)]);
    }
    memory_free(log->entries);
    entries_destroy(&shard->free_entries);
    entries_destroy(&shard->retired);
    entry_destroy(shard->open);
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
    if (log->count == log->capacity) {
        grow(log);
    }
    log->entries[(log->start + log->count) & (log->capacity - 1)] = entry;
    log->count++;
    log->size_bytes += entry->payload.size_bytes;
    shard->in_flight_count++;
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
        shard->in_flight_count--;
        shard->in_flight_size_bytes -= entry->payload.size_bytes;
        retire(shard, entry);
    }
}

static void drop_oldest(struct shard *shard, bool is_in_flight)
{
    struct shard_log *log = &shard->log;
    struct shard_entry *entry = log->entries[log->start];
    ASSERT(entry->item_count == 0);
    if (is_in_flight) {
        shard->in_flight_count--;
        shard->in_flight_size_bytes -= entry->payload.size_bytes;
    }
    log->start = (log->start + 1) & (log->capacity - 1);
    log->count--;
    log->first_index++;
    retire(shard, entry);
}

void shard__log_drop(struct shard *shard, raft_index index, raft_index applied)
{
    struct shard_log *log = &shard->log;
    while (log->count > 0 && log->first_index <= index) {
        drop_oldest(shard, log->first_index > applied);
    }
}

void shard__log_trim(struct shard *shard, uint64_t size_bytes_max)
{
    struct shard_log *log = &shard->log;
    while (log->count > 0 && log->first_index <= shard->applied_index &&
           log->size_bytes > size_bytes_max) {
        struct shard_entry *entry = log->entries[log->start];
        if (entry == shard->stalled) {
            return;
        }
        ASSERT(entry->persist_sequence <= shard->durable_sequence);
        drop_oldest(shard, false);
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
