/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing, the ticks, and what stands between Raft and the rest: each step's output is
 * taken apart here. */
#include "core/shard/shard.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

enum {
    RETRY_INTERVAL_MS = 1,
    BACKGROUND_INTERVAL_MS = 100,
};

uint64_t shard__now_ms(const struct shard *shard)
{
    return shard->options.host.clock.now_ms(shard->options.host.clock.context);
}

/* ---- Open and close -------------------------------------------------------------------------- */

static void open_next_entry(struct shard *shard)
{
    shard->open = shard__entry_take(shard);
    shard__entry_begin(&shard->open->payload);
}

int shard_open(struct shard **shard, const struct shard_options *options, struct error *error)
{
    ASSERT(options->in_flight_size_bytes_max > 0);
    ASSERT(options->first_slot < options->end_slot && options->end_slot <= SLOTS_COUNT);
    struct shard *created = memory_allocate_zeroed(1, sizeof *created);
    created->options = *options;
    created->rows = rows_create(options->store, options->cache_size_bytes);
    created->window = shard__window_create(options->window_size_bytes_max);
    created->raft_wake_at_ms = UINT64_MAX;
    random_init(&created->random, options->random_seed);
    list_init(&created->cold_reads);
    list_init(&created->cold_writes);
    list_init(&created->confirming);
    list_init(&created->unconfirmed);
    list_init(&created->locked);
    list_init(&created->snapshots);
    shard__log_init(created);
    shard__replicate_init(created);
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
    if (created->options.store_size_bytes == 0) {
        created->options.store_size_bytes = SHARD_STORE_SIZE_BYTES;
    }
    created->stamp_ms = created->applied_stamp_ms;
    shard__window_reset(created->window, created->applied_index);
    *shard = created;
    return 0;
}

void shard_close(struct shard *shard)
{
    if (shard == NULL) {
        return;
    }
    ASSERT(shard->reads_elsewhere == 0);
    ASSERT(shard->works_elsewhere == 0);
    ASSERT(!shard->is_writing);
    shard__snapshot_cancel(shard);
    shard__install_deinit(shard);
    shard__replicate_deinit(shard);
    shard__log_deinit(shard);
    shard__ahead_deinit(shard);
    shard__window_destroy(shard->window);
    raft_destroy(shard->raft);
    if (shard->rows != NULL) {
        rows_destroy(shard->rows);
    }
    buffer_deinit(&shard->scratch);
    memory_free(shard->arguments);
    memory_free(shard);
}

raft_index shard_stored_index(const struct shard *shard)
{
    return shard->stored_index;
}

raft_index shard_applied_index(const struct shard *shard)
{
    return shard->applied_index;
}

raft_node shard_leader(const struct shard *shard)
{
    return shard->leader;
}

const struct raft_configuration *shard_configuration(const struct shard *shard)
{
    return raft_latest_configuration(shard->raft);
}

uint32_t shard_get_peers(const struct shard *shard, struct raft_peer peers[RAFT_PEER_COUNT_MAX])
{
    return raft_get_peers(shard->raft, peers);
}

/* ---- What Raft wants to be durable ----------------------------------------------------------- */

static void persist(struct shard *shard, const struct wal_record *record, uint64_t sequence)
{
    shard->issued_sequence = sequence;
    shard->options.host.persist(shard->options.host.context, shard, record, sequence);
}

/* All entries are void. Raft does not number this: whatever it makes durable afterwards stands behind
 * it, and if it gets lost itself, the next start finds that the log does not fit the state. */
static void persist_void_log(struct shard *shard)
{
    struct wal_record record = {
        .kind = WAL_RECORD_TRUNCATE, .shard = shard->options.id, .index = 1};
    persist(shard, &record, shard->issued_sequence);
}

static void persist_entry(struct shard *shard, struct shard_entry *entry, uint64_t sequence)
{
    entry->persist_sequence = sequence;
    shard__log_push(shard, entry);
    struct wal_record record = {
        .kind = WAL_RECORD_ENTRY,
        .shard = shard->options.id,
        .index = entry->index,
        .term = entry->term,
        .payload = buffer_bytes(&entry->payload),
    };
    persist(shard, &record, sequence);
}

/* An entry that this leader makes. */
static void persist_own_entry(struct shard *shard, const struct raft_persist *made)
{
    ASSERT(made->count == 1);
    struct shard_entry *entry = NULL;
    switch (made->entry_kind) {
    case RAFT_ENTRY_COMMANDS:
        entry = shard->open;
        open_next_entry(shard);
        break;
    case RAFT_ENTRY_EMPTY:
        entry = shard__entry_take(shard);
        break;
    case RAFT_ENTRY_CONFIGURATION:
        entry = shard__entry_take(shard);
        shard_configuration_payload(&made->configuration, &entry->payload);
        shard->in_flight_size_bytes += entry->payload.size_bytes;
        break;
    }
    entry->index = made->index;
    entry->term = made->term;
    persist_entry(shard, entry, made->sequence);
}

/* Entries that the leader has sent. */
static void persist_received(struct shard *shard, const struct raft_persist *made,
                             const struct shard_received *received)
{
    for (uint32_t i = 0; i < made->count; i++) {
        uint32_t place = made->message_offset + i;
        struct shard_entry *entry = shard__entry_take(shard);
        entry->index = made->index + i;
        entry->term = received->entries[place].term;
        buffer_append(&entry->payload, received->payloads[place]);
        shard->in_flight_size_bytes += entry->payload.size_bytes;
        /* The number of all of them is that of the last. */
        persist_entry(shard, entry, made->sequence - (i + 1 < made->count));
        entry->persist_sequence = made->sequence;
    }
}

static void persist_one(struct shard *shard, const struct raft_persist *made,
                        const struct shard_received *received)
{
    struct wal_record record = {.shard = shard->options.id};
    switch (made->kind) {
    case RAFT_PERSIST_HARD_STATE:
        record.kind = WAL_RECORD_HARD_STATE;
        record.hard_state = made->hard_state;
        persist(shard, &record, made->sequence);
        break;
    case RAFT_PERSIST_TRUNCATE:
        PROBE("shard.log_truncated");
        shard__log_truncate(shard, made->index);
        record.kind = WAL_RECORD_TRUNCATE;
        record.index = made->index;
        persist(shard, &record, made->sequence);
        break;
    case RAFT_PERSIST_ENTRIES:
        if (received != NULL && made->count > 0 && shard->role != RAFT_ROLE_LEADER) {
            persist_received(shard, made, received);
        } else {
            persist_own_entry(shard, made);
        }
        break;
    }
}

/* ---- A step of Raft -------------------------------------------------------------------------- */

/* `received`: the message of the step, or NULL. */
static void take_output(struct shard *shard, const struct raft_output *output,
                        const struct shard_received *received)
{
    bool was_leader = shard->role == RAFT_ROLE_LEADER;
    bool has_lost = was_leader && (output->role != RAFT_ROLE_LEADER || output->term != shard->term);
    shard->role = output->role;
    shard->term = output->term;
    shard->leader = output->leader;
    shard->start_index = output->start_index;
    shard->confirmed_round = output->confirmed_round;
    shard->lease_until_ms = output->lease_until_ms;
    shard->is_transferring = output->is_transferring;
    if (shard->is_impaired && !output->is_impaired) {
        PROBE("shard.whole");
        TRACE("shard.whole", shard->options.id, output->term, output->commit_index, 0);
        shard->is_flag_stale = true;
    }
    shard->is_impaired = output->is_impaired;
    shard->raft_wake_at_ms = output->wake_at_ms;
    if (has_lost) {
        shard->reign++;
        shard->is_deposed = true;
        TRACE("shard.deposed", shard->options.id, shard->term, shard->leader, 0);
    }
    for (uint32_t i = 0; i < output->persist_count; i++) {
        persist_one(shard, &output->persists[i], received);
    }
    ASSERT(output->commit_index >= shard->commit_index || shard->is_stateless);
    shard->commit_index = output->commit_index;
    shard__send(shard, output->sends, output->send_count);
    for (uint32_t i = 0; i < output->snapshot_count; i++) {
        shard__snapshot_start(shard, output->snapshots[i]);
    }
}

static int step_with(struct shard *shard, struct raft_input *input,
                     const struct shard_received *received)
{
    input->now_ms = shard__now_ms(shard);
    struct raft_output output;
    int status = raft_step(shard->raft, input, &output);
    if (status == 0) {
        take_output(shard, &output, received);
    }
    return status;
}

/* A step that is always possible. */
static void step(struct shard *shard, struct raft_input input)
{
    int status = step_with(shard, &input, NULL);
    ASSERT(status == 0);
}

void shard__finish_step(struct shard *shard)
{
    if (shard->is_deposed) {
        shard->is_deposed = false;
        shard__snapshot_cancel(shard);
        shard__cancel_reads(shard);
        shard__hand_back_all(shard);
    }
    shard__apply_committed(shard);
    shard__resume_confirmed(shard);
}

void shard__step_received(struct shard *shard, const struct shard_received *received)
{
    struct raft_input input = {
        .kind = RAFT_INPUT_RECEIVE,
        .message = &received->message,
        .entries = received->entries,
    };
    int status = step_with(shard, &input, received);
    if (status != 0) { /* Too much is under way: as if the network had lost it. */
        PROBE("shard.message_refused");
    }
}

void shard__compacted(struct shard *shard, raft_index index)
{
    step(shard, (struct raft_input){.kind = RAFT_INPUT_COMPACTED, .index = index});
}

void shard__snapshot_ended(struct shard *shard, raft_node to, raft_index index, bool has_failed)
{
    struct raft_input input = {
        .kind = RAFT_INPUT_SNAPSHOT_SENT, .node = to, .index = index, .has_failed = has_failed};
    int status = step_with(shard, &input, NULL);
    if (status != 0) { /* It does not lead any more. */
        PROBE("shard.snapshot_ended_late");
    }
}

void shard_unreachable(struct shard *shard, raft_node node)
{
    step(shard, (struct raft_input){.kind = RAFT_INPUT_UNREACHABLE, .node = node});
    shard__finish_step(shard);
}

void shard_peer_lost(struct shard *shard, raft_node node)
{
    step(shard, (struct raft_input){.kind = RAFT_INPUT_PEER_LOST, .node = node});
    shard__finish_step(shard);
}

int shard_configure(struct shard *shard, const struct raft_configuration *target)
{
    if (shard->is_splitting) {
        return -EBUSY;
    }
    struct raft_input input = {.kind = RAFT_INPUT_CONFIGURE, .configuration = target};
    int status = step_with(shard, &input, NULL);
    shard__finish_step(shard);
    return status;
}

int shard_transfer(struct shard *shard, raft_node node)
{
    if (shard->is_splitting) {
        return -EBUSY;
    }
    struct raft_input input = {.kind = RAFT_INPUT_TRANSFER, .node = node};
    int status = step_with(shard, &input, NULL);
    shard__finish_step(shard);
    return status;
}

void shard_campaign(struct shard *shard)
{
    if (!shard->has_failed) {
        step(shard, (struct raft_input){.kind = RAFT_INPUT_CAMPAIGN});
        shard__finish_step(shard);
    }
}

bool shard__is_confirmed(struct shard *shard)
{
    if (shard__now_ms(shard) < shard->lease_until_ms || BUG("shard.read_without_lease")) {
        return true;
    }
    if (list_is_empty(&shard->confirming) && list_is_empty(&shard->unconfirmed)) {
        PROBE("shard.read_by_round");
    }
    return false;
}

/* ---- Start ----------------------------------------------------------------------------------- */

/* What kind of entry the log has there. Its first byte tells, and only configurations are read
 * whole. */
static int load_kind(struct shard *shard, raft_index index, struct raft_entry *entry,
                     struct buffer *payload, struct error *error)
{
    const struct shard_host *host = &shard->options.host;
    struct raft_configuration configuration;
    buffer_clear(payload);
    int status =
        host->load_head(host->context, shard->options.id, index, 1, &entry->term, payload, error);
    if (status == 0 && payload->size_bytes > 0 && payload->data[0] == SHARD_PAYLOAD_CONFIGURATION) {
        buffer_clear(payload);
        status =
            host->load_entry(host->context, shard->options.id, index, &entry->term, payload, error);
    }
    if (status != 0) {
        return status;
    }
    status = shard__payload_kind(buffer_bytes(payload), &entry->kind, &configuration);
    if (status != 0) {
        return error_set(error, status, "shard %u: entry %llu", shard->options.id,
                         (unsigned long long)index);
    }
    if (entry->kind == RAFT_ENTRY_CONFIGURATION) {
        struct raft_configuration *kept = memory_allocate(sizeof *kept);
        *kept = configuration;
        entry->configuration = kept;
    }
    return 0;
}

/* What kinds of entries the log has behind the state; the array is the caller's. */
static int load_heads(struct shard *shard, struct raft_options *options, struct error *error)
{
    uint64_t count = options->last_index - shard->applied_index;
    struct raft_entry *entries = memory_allocate_zeroed(count, sizeof *entries);
    options->entries = entries;
    struct buffer payload = {0};
    int status = 0;
    for (uint64_t i = 0; i < count && status == 0; i++) {
        status = load_kind(shard, shard->applied_index + 1 + i, &entries[i], &payload, error);
    }
    buffer_deinit(&payload);
    return status;
}

static void free_heads(const struct shard *shard, struct raft_options *options)
{
    if (options->entries == NULL) {
        return;
    }
    for (uint64_t i = 0; i < options->last_index - shard->applied_index; i++) {
        memory_free((void *)(uintptr_t)options->entries[i].configuration);
    }
    memory_free((void *)(uintptr_t)options->entries);
}

/* The term that the log has at the applied entry. */
static int term_of_applied(struct shard *shard, const struct wal_shard_state *state,
                           raft_term *term, struct error *error)
{
    if (state->first_index == shard->applied_index + 1) {
        *term = state->previous_term;
        return 0;
    }
    struct buffer payload = {0};
    int status = shard->options.host.load_entry(shard->options.host.context, shard->options.id,
                                                shard->applied_index, term, &payload, error);
    buffer_deinit(&payload);
    return status;
}

/* The log and the state must fit: entries that contradict the state, or leave a gap behind it, are
 * from before a snapshot that replaced it. */
static int check_fit(struct shard *shard, const struct wal_shard_state *state, bool *does_fit,
                     struct error *error)
{
    raft_index applied = shard->applied_index;
    *does_fit = state->first_index == 0 ||
                (state->first_index <= applied + 1 && state->last_index >= applied);
    if (!*does_fit || state->first_index == 0 || applied == 0) {
        return 0;
    }
    raft_term term = 0;
    int status = term_of_applied(shard, state, &term, error);
    /* Unknown: the log was void before these entries, which came behind a snapshot. */
    *does_fit = term == 0 || term == shard->applied_term;
    return status;
}

/* What an only voter has applied is in its log. Others may have been given a snapshot just before
 * they stopped. */
static bool may_lack_entries(const struct shard *shard)
{
    const struct raft_configuration *members = &shard->configuration;
    bool is_alone = members->voter_count == 1 && members->outgoing_count == 0 &&
                    members->voters[0] == shard->options.self;
    return shard->options.may_log_end_early || !is_alone;
}

static int choose_log(struct shard *shard, const struct wal_shard_state *state,
                      struct raft_options *options, struct error *error)
{
    options->hard_state = state->hard_state;
    /* Entries that the store has may be gone from the log, all of them too. */
    bool is_early = state->last_index != 0 && state->last_index < shard->applied_index;
    if (is_early && !may_lack_entries(shard)) {
        return error_set(
            error, ERROR_CORRUPT,
            "shard %u: the log ends at entry %llu, but the store has applied entry %llu",
            shard->options.id, (unsigned long long)state->last_index,
            (unsigned long long)shard->applied_index);
    }
    bool is_lost = shard->applied_index == 0 && state->first_index > 1 && !shard->is_impaired;
    if (is_lost) {
        return error_set(
            error, ERROR_CORRUPT,
            "shard %u: the log begins at entry %llu, but the store has nothing before it",
            shard->options.id, (unsigned long long)state->first_index);
    }
    bool does_fit = false;
    int status = check_fit(shard, state, &does_fit, error);
    if (status != 0) {
        return status;
    }
    if (!does_fit) {
        PROBE("shard.log_does_not_fit_state");
        persist_void_log(shard);
    } else if (state->last_index > shard->applied_index) {
        options->last_index = state->last_index;
        status = load_heads(shard, options, error);
        if (status != 0) {
            return status;
        }
        options->last_term = state->last_term;
    }
    if (options->hard_state.term < options->last_term) {
        options->hard_state = (struct raft_hard_state){.term = options->last_term};
    }
    return 0;
}

/* It has a state, from a split or a snapshot, and has never said anything: nothing is owed to a leader.
 * A log that need not be flushed may have forgotten what was said. */
static bool is_newborn(const struct shard *shard, const struct wal_shard_state *state)
{
    bool has_past = state != NULL && (state->hard_state.term != 0 || state->last_index != 0);
    return shard->applied_index > 0 && !has_past && !shard->is_impaired &&
           !shard->options.may_log_end_early;
}

int shard_start(struct shard *shard, const struct wal_shard_state *state, struct error *error)
{
    ASSERT(shard->raft == NULL);
    struct raft_options options = {
        .self = shard->options.self,
        .commit_index = shard->applied_index,
        .first_index = shard->applied_index + 1,
        .previous_term = shard->applied_term,
        .last_index = shard->applied_index,
        .last_term = shard->applied_term,
        .hard_state = {.term = shard->applied_term},
        .configuration = shard->configuration,
        .configuration_index = shard->configuration_index,
        .is_impaired = shard->is_impaired,
        .is_newborn = is_newborn(shard, state),
        .election_timeout_ms = shard->options.election_timeout_ms,
        .heartbeat_interval_ms = shard->options.heartbeat_interval_ms,
        .random_seed = random_next(&shard->random),
        .now_ms = shard__now_ms(shard),
    };
    int status = state != NULL ? choose_log(shard, state, &options, error) : 0;
    if (status == 0) {
        status = raft_create(&shard->raft, &options, error);
        if (status != 0) {
            (void)error_wrap(error, ERROR_CORRUPT, "shard %u", shard->options.id);
            status = ERROR_CORRUPT;
        }
    }
    free_heads(shard, &options);
    if (status != 0) {
        return status;
    }
    step(shard, (struct raft_input){.kind = RAFT_INPUT_TICK});
    return 0;
}

bool shard_is_ready(const struct shard *shard)
{
    return shard->role == RAFT_ROLE_LEADER && !shard->has_failed &&
           (shard->applied_index >= shard->start_index || BUG("shard.ready_before_applied"));
}

/* ---- The state is replaced by a snapshot ----------------------------------------------------- */

/* Entries behind it stay if they go on from it; Raft knows. */
void shard__adopt(struct shard *shard, const struct shard_meta *meta)
{
    raft_index applied_before = shard->applied_index;
    ASSERT(meta->index > applied_before && shard->role != RAFT_ROLE_LEADER);
    shard__answer_stalled(shard);
    shard__ahead_deinit(shard);
    shard->is_stateless = true;
    shard->reign++;
    shard->is_deposed = true; /* Reads that may be stale go back too. */
    shard->applied_index = meta->index;
    shard->applied_term = meta->term;
    shard->applied_stamp_ms = meta->stamp_ms;
    shard->digest = meta->digest;
    shard->range = shard__meta_range(shard, meta);
    shard->is_narrow = false;
    if (meta->configuration.voter_count > 0) { /* Else there was none since the group began. */
        shard->configuration = meta->configuration;
        shard->configuration_index = meta->configuration_index;
    }
    step(shard, (struct raft_input){.kind = RAFT_INPUT_SNAPSHOT_INSTALLED,
                                    .index = meta->index,
                                    .index_term = meta->term,
                                    .configuration = &meta->configuration});
    shard__log_drop(shard, meta->index, applied_before);
    if (raft_last_index(shard->raft) == meta->index && !BUG("shard.log_kept_over_snapshot")) {
        persist_void_log(shard);
    }
}

/* ---- Ticks ----------------------------------------------------------------------------------- */

void shard_persisted(struct shard *shard, uint64_t sequence)
{
    if (sequence > shard->durable_sequence) {
        shard->durable_sequence = sequence;
    }
    shard__log_free_retired(shard);
    step(shard, (struct raft_input){.kind = RAFT_INPUT_PERSISTED,
                                    .persisted_sequence = shard->durable_sequence});
    shard__send_what_is_durable(shard);
    shard__finish_step(shard);
}

void shard__propose_open(struct shard *shard)
{
    struct shard_entry *entry = shard->open;
    ASSERT(entry->item_count > 0);
    uint64_t stamp_ms = shard__time_ms(shard);
    shard__entry_end(entry, stamp_ms);
    struct raft_input input = {.kind = RAFT_INPUT_PROPOSE};
    int status = step_with(shard, &input, NULL);
    if (status != 0) {
        PROBE("shard.proposal_refused"); /* Leadership is being handed over, or was lost. */
        return;
    }
    shard->stamp_ms = stamp_ms;
    shard->in_flight_size_bytes += SHARD_ENTRY_HEADER_SIZE_BYTES; /* The commands are counted. */
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
        if (command.opcode == SHARD_OPCODE_SPLIT && !shard__may_split(shard)) {
            PROBE("shard.split_later");
            shard->background_at_ms = now_ms + BACKGROUND_INTERVAL_MS;
            return shard->background_at_ms;
        }
        shard->is_background_pending = true;
        shard__add_background(shard, &command);
        shard->background_at_ms = next_ms;
        return now_ms + BACKGROUND_INTERVAL_MS;
    }
    shard->background_at_ms = next_ms;
    return next_ms;
}

static uint64_t earlier(uint64_t left, uint64_t right)
{
    return left < right ? left : right;
}

static uint64_t tick_leader(struct shard *shard, uint64_t now_ms)
{
    uint64_t wake_at_ms = background(shard, now_ms);
    if (shard->open->item_count > 0 && shard->in_flight_count < SHARD_SMALL_ENTRIES_IN_FLIGHT_MAX) {
        shard__propose_open(shard);
    }
    if (list_is_empty(&shard->confirming) && !list_is_empty(&shard->unconfirmed)) {
        list_append_all(&shard->confirming, &shard->unconfirmed);
        struct raft_input input = {.kind = RAFT_INPUT_CONFIRM};
        struct raft_output output;
        input.now_ms = now_ms;
        int status = raft_step(shard->raft, &input, &output);
        ASSERT(status == 0);
        shard->confirm_round = output.round;
        take_output(shard, &output, NULL);
    }
    return shard->is_transferring ? now_ms + RETRY_INTERVAL_MS : wake_at_ms;
}

uint64_t shard_tick(struct shard *shard)
{
    uint64_t now_ms = shard__now_ms(shard);
    if (shard->has_failed) {
        return UINT64_MAX;
    }
    uint64_t wake_at_ms = shard->is_stateless ? UINT64_MAX : shard__hand_over_due(shard, now_ms);
    if (shard->raft == NULL) {
        return wake_at_ms;
    }
    if (now_ms >= shard->raft_wake_at_ms) {
        step(shard, (struct raft_input){.kind = RAFT_INPUT_TICK});
        shard__finish_step(shard);
    }
    if (shard_is_ready(shard)) {
        wake_at_ms = earlier(wake_at_ms, tick_leader(shard, now_ms));
        shard__finish_step(shard);
    }
    shard__start_reads(shard);
    if (shard->cold_count > 0) {
        wake_at_ms = earlier(wake_at_ms, now_ms + RETRY_INTERVAL_MS);
    }
    wake_at_ms = earlier(wake_at_ms, shard__snapshot_tick(shard, now_ms));
    wake_at_ms = earlier(wake_at_ms, shard__install_tick(shard, now_ms));
    return earlier(wake_at_ms, shard->raft_wake_at_ms);
}

bool shard_is_idle(const struct shard *shard)
{
    return shard->reads_elsewhere == 0 && shard->works_elsewhere == 0 &&
           shard->log_reads_under_way == 0;
}

bool shard_wants_tick(const struct shard *shard)
{
    return shard->open->item_count > 0 &&
           shard->in_flight_count < SHARD_SMALL_ENTRIES_IN_FLIGHT_MAX && shard_is_ready(shard);
}

void shard_set_cache_size(struct shard *shard, uint64_t size_bytes)
{
    shard->options.cache_size_bytes = size_bytes;
    if (shard->rows != NULL) {
        rows_set_cache_size(shard->rows, size_bytes);
    }
}

void shard_set_full(struct shard *shard, bool is_full)
{
    shard->is_full = is_full;
}

void shard_get_statistics(const struct shard *shard, struct shard_statistics *statistics)
{
    *statistics = shard->statistics;
    statistics->term = shard->term;
    statistics->role = shard->role;
    statistics->leader = shard->leader;
    statistics->last_index = shard->raft != NULL ? raft_last_index(shard->raft) : 0;
    statistics->applied_index = shard->applied_index;
    statistics->stored_index = shard->stored_index;
    statistics->digest = shard->digest;
    statistics->in_flight_size_bytes = shard->in_flight_size_bytes;
    statistics->is_full = shard->is_full;
    statistics->is_impaired = shard->is_impaired;
    if (shard->rows != NULL) {
        rows_get_statistics(shard->rows, &statistics->rows);
    }
}
