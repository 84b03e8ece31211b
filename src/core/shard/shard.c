/* SPDX-License-Identifier: Apache-2.0 */
#include "core/shard/shard.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

enum {
    ENTRY_KEEP_SIZE_BYTES = 256 << 10,
    RETRY_INTERVAL_MS = 1,
    BACKGROUND_INTERVAL_MS = 100,
};

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

static void open_next_entry(struct shard *shard)
{
    shard->open = shard__entry_take(shard);
    shard__entry_begin(&shard->open->payload);
}

int shard_open(struct shard **shard, const struct shard_options *options, struct error *error)
{
    ASSERT(options->in_flight_size_bytes_max > 0);
    struct shard *created = memory_allocate_zeroed(1, sizeof *created);
    created->options = *options;
    created->rows = rows_create(options->store, options->cache_size_bytes);
    list_init(&created->in_flight);
    list_init(&created->free_entries);
    list_init(&created->cold_reads);
    list_init(&created->cold_writes);
    open_next_entry(created);
    int status = shard__meta_load(created, error);
    if (status != 0) {
        shard_close(created);
        return status;
    }
    rows_set_tier(created->rows, ENV_TIER_MEMORY);
    created->commit_index = created->applied_index;
    created->stored_index = created->applied_index;
    created->handed_index = created->applied_index;
    created->stored_stamp_ms = created->applied_stamp_ms;
    if (created->options.store_row_count == 0) {
        created->options.store_row_count = SHARD_STORE_ROW_COUNT;
    }
    created->stamp_ms = created->applied_stamp_ms;
    *shard = created;
    return 0;
}

void shard_close(struct shard *shard)
{
    if (shard == NULL) {
        return;
    }
    ASSERT(shard->reads_elsewhere == 0);
    ASSERT(!shard->is_writing);
    entries_destroy(&shard->in_flight);
    entries_destroy(&shard->free_entries);
    entry_destroy(shard->open);
    entry_destroy(shard->stalled);
    raft_destroy(shard->raft);
    rows_destroy(shard->rows);
    buffer_deinit(&shard->scratch);
    memory_free(shard->arguments);
    memory_free(shard);
}

raft_index shard_stored_index(const struct shard *shard)
{
    return shard->stored_index;
}

static struct shard_entry *entry_to_persist(struct shard *shard, const struct raft_persist *persist)
{
    struct shard_entry *entry = NULL;
    if (persist->entry_kind == RAFT_ENTRY_EMPTY) {
        entry = shard__entry_take(shard);
        shard->start_index = persist->index;
    } else {
        entry = shard->open;
        open_next_entry(shard);
    }
    entry->index = persist->index;
    entry->term = persist->term;
    list_push_back(&shard->in_flight, &entry->link);
    shard->in_flight_count++;
    return entry;
}

static void take_output(struct shard *shard, const struct raft_output *output)
{
    for (uint32_t i = 0; i < output->persist_count; i++) {
        const struct raft_persist *persist = &output->persists[i];
        struct wal_record record = {.shard = shard->options.id};
        switch (persist->kind) {
        case RAFT_PERSIST_HARD_STATE:
            record.kind = WAL_RECORD_HARD_STATE;
            record.hard_state = persist->hard_state;
            break;
        case RAFT_PERSIST_ENTRIES:
            ASSERT(persist->count == 1);
            record.kind = WAL_RECORD_ENTRY;
            record.index = persist->index;
            record.term = persist->term;
            record.payload = buffer_bytes(&entry_to_persist(shard, persist)->payload);
            break;
        case RAFT_PERSIST_TRUNCATE:
            ASSERT(false); /* A group of one has nobody to disagree with. */
            break;
        }
        shard->options.host.persist(shard->options.host.context, shard, &record, persist->sequence);
    }
    shard->role = output->role;
    shard->term = output->term;
    ASSERT(output->commit_index >= shard->commit_index);
    shard->commit_index = output->commit_index;
}

static int step(struct shard *shard, enum raft_input_kind kind, uint64_t sequence)
{
    struct raft_input input = {
        .kind = kind,
        .now_ms = shard->options.host.clock.now_ms(shard->options.host.clock.context),
        .persisted_sequence = sequence,
    };
    struct raft_output output;
    int status = raft_step(shard->raft, &input, &output);
    if (status == 0) {
        take_output(shard, &output);
    }
    return status;
}

int shard_start(struct shard *shard, const struct wal_shard_state *state, struct error *error)
{
    ASSERT(shard->raft == NULL);
    struct raft_options options = {
        .self = shard->options.self,
        .configuration = {.voter_count = 1, .voters = {shard->options.self}},
        .first_index = shard->applied_index + 1,
        .previous_term = shard->applied_term,
        .commit_index = shard->applied_index,
        .last_index = shard->applied_index,
        .last_term = shard->applied_term,
        .hard_state = {.term = shard->applied_term},
        .random_seed = shard->options.random_seed,
    };
    if (state != NULL) {
        options.hard_state = state->hard_state;
        /* Entries that the store has may be gone from the log, all of them too. */
        bool is_early = state->last_index < shard->applied_index;
        if (state->last_index != 0 && !(is_early && shard->options.may_log_end_early)) {
            options.last_index = state->last_index;
            options.last_term = state->last_term;
        } else if (options.hard_state.term < options.last_term) {
            options.hard_state = (struct raft_hard_state){.term = options.last_term};
        }
    }
    int status = raft_create(&shard->raft, &options, error);
    if (status != 0) {
        return error_wrap(error, ERROR_CORRUPT,
                          "shard %u: the log lacks entries that were acknowledged",
                          shard->options.id);
    }
    return step(shard, RAFT_INPUT_TICK, 0);
}

bool shard_is_ready(const struct shard *shard)
{
    return shard->role == RAFT_ROLE_LEADER && shard->applied_index >= shard->start_index &&
           !shard->has_failed;
}

void shard_persisted(struct shard *shard, uint64_t sequence)
{
    int status = step(shard, RAFT_INPUT_PERSISTED, sequence);
    ASSERT(status == 0);
    shard__apply_committed(shard);
}

void shard__propose_open(struct shard *shard)
{
    struct shard_entry *entry = shard->open;
    ASSERT(entry->item_count > 0);
    uint64_t stamp_ms = shard__time_ms(shard);
    shard->stamp_ms = stamp_ms;
    shard__entry_end(&entry->payload, entry->command_count, stamp_ms);
    shard->in_flight_size_bytes += SHARD_ENTRY_HEADER_SIZE_BYTES; /* The commands are counted. */
    int status = step(shard, RAFT_INPUT_PROPOSE, 0);
    ASSERT(status == 0);
}

static uint64_t background(struct shard *shard, uint64_t now_ms)
{
    if (shard->is_background_pending) {
        return now_ms + BACKGROUND_INTERVAL_MS; /* Its answer brings the next tick. */
    }
    if (now_ms < shard->background_at_ms) {
        return shard->background_at_ms;
    }
    struct shard_machine *machine = &shard->options.machine;
    struct shard_command command;
    uint64_t next_ms = now_ms;
    rows_set_tier(shard->rows, ENV_TIER_MEMORY);
    if (machine->background(machine->context, shard->rows, shard__time_ms(shard), &command,
                            &next_ms)) {
        shard->is_background_pending = true;
        shard__add_command(shard, NULL, &command);
        shard->background_at_ms = next_ms;
        return now_ms + BACKGROUND_INTERVAL_MS;
    }
    shard->background_at_ms = next_ms;
    return next_ms;
}

uint64_t shard_tick(struct shard *shard)
{
    uint64_t now_ms = shard->options.host.clock.now_ms(shard->options.host.clock.context);
    /* The store may also stall while the log is replayed, before the shard is ready. */
    uint64_t store_at_ms = shard->has_failed ? UINT64_MAX : shard__hand_over_due(shard, now_ms);
    if (shard->has_failed || !shard_is_ready(shard)) {
        return now_ms + RETRY_INTERVAL_MS;
    }
    uint64_t wake_at_ms = background(shard, now_ms);
    if (shard->open->item_count > 0 && shard->in_flight_count < SHARD_SMALL_ENTRIES_IN_FLIGHT_MAX) {
        shard__propose_open(shard);
    }
    shard__start_reads(shard);
    if (shard->cold_count > 0) {
        wake_at_ms = now_ms + RETRY_INTERVAL_MS;
    }
    return wake_at_ms < store_at_ms ? wake_at_ms : store_at_ms;
}

void shard_set_full(struct shard *shard, bool is_full)
{
    shard->is_full = is_full;
}

void shard_get_statistics(const struct shard *shard, struct shard_statistics *statistics)
{
    *statistics = shard->statistics;
    statistics->term = shard->term;
    statistics->last_index = shard->raft != NULL ? raft_last_index(shard->raft) : 0;
    statistics->applied_index = shard->applied_index;
    statistics->stored_index = shard->stored_index;
    statistics->digest = shard->digest;
    statistics->in_flight_size_bytes = shard->in_flight_size_bytes;
    statistics->is_full = shard->is_full;
    rows_get_statistics(shard->rows, &statistics->rows);
}
