/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing, the ticks, and what stands between Raft and the rest: each step's output is
 * taken apart here. */
#include "core/shard/shard.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

enum {
    RETRY_INTERVAL_MS = 1,
    BACKGROUND_INTERVAL_MS = 100,
    TRIM_ANSWER_COUNT = 1024,
    HEADS_DELAY_MS = 5000,
    SHORTEN_ROW_COUNT =
        2048, /* By all shards of the host together, in an interval: under a millisecond. */
    SHORTEN_INTERVAL_MS = 5,
    SHORTEN_ROW_COUNT_MIN = 64, /* In a tick. */
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
    if (options->account != NULL) {
        options->account->shard_count++;
    }
    created->rows = rows_create(options->store, options->cache_size_bytes);
    created->window = shard__window_create(options->window_size_bytes_max);
    created->raft_wake_at_ms = UINT64_MAX;
    created->window_age_at_ms = UINT64_MAX;
    random_init(&created->random, options->random_seed);
    demand_init(&created->demand, options->random_seed);
    list_init(&created->cold_reads);
    list_init(&created->cold_writes);
    list_init(&created->confirming);
    list_init(&created->unconfirmed);
    list_init(&created->early);
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
    if (created->options.waiting_size_bytes_max == 0) {
        created->options.waiting_size_bytes_max = options->in_flight_size_bytes_max / 2;
    }
    if (created->options.heads_delay_ms == 0) {
        created->options.heads_delay_ms = HEADS_DELAY_MS;
    }
    if (created->options.store_delay_ms == 0) {
        created->options.store_delay_ms = SHARD_STORE_DELAY_MS;
    }
    created->stamp_ms = created->applied_stamp_ms;
    shard__window_reset(created->window, created->applied_index);
    created->window_rest_index = created->applied_index;
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
    shard->in_flight_size_bytes = 0;
    shard__account(shard);
    if (shard->options.account != NULL) {
        shard->options.account->shard_count--;
    }
    shard__snapshot_cancel(shard);
    shard__install_deinit(shard);
    shard__discard_deinit(shard);
    shard__replicate_deinit(shard);
    shard__log_deinit(shard);
    shard__ahead_deinit(shard);
    shard__reread_cancel(shard);
    shard__window_destroy(shard->window);
    raft_destroy(shard->raft);
    if (shard->rows != NULL) {
        rows_destroy(shard->rows);
    }
    demand_deinit(&shard->demand);
    buffer_deinit(&shard->scratch);
    buffer_deinit(&shard->found);
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
void shard__persist_void_log(struct shard *shard)
{
    struct wal_record record = {
        .kind = WAL_RECORD_TRUNCATE, .shard = shard->options.id, .index = 1};
    persist(shard, &record, shard->issued_sequence);
}

uint64_t shard__void_log(struct shard *shard)
{
    shard->issued_sequence++;
    shard__persist_void_log(shard);
    return shard->issued_sequence;
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
        entry = shard__entry_close(shard);
        entry->pace_ticket = shard->options.pace != NULL ? pace_enter(shard->options.pace) : 0;
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

/* Are the entries those of the message? A step may make one of its own, also one that ends an office. */
static bool is_of_message(const struct shard *shard, const struct shard_received *received)
{
    return received != NULL && received->message.kind == RAFT_MESSAGE_APPEND_REQUEST &&
           shard->role != RAFT_ROLE_LEADER;
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
        if (made->count > 0 && is_of_message(shard, received)) {
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
    shard->is_quiet = output->is_quiet;
    bool is_impaired = output->is_impaired && !output->is_whole;
    if (shard->is_impaired && !is_impaired) {
        PROBE("shard.whole");
        TRACE("shard.whole", shard->options.id, output->term, output->commit_index, 0);
        shard->is_flag_stale = true;
        shard->proof.is_written = false;
    }
    shard->is_impaired = is_impaired;
    shard->proof.is_wanted = output->is_whole;
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
    if (shard->discard != NULL) {
        return -EBUSY; /* Raft stands still. */
    }
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
    ASSERT(status == 0 || shard->discard != NULL);
}

void shard__step_tick(struct shard *shard)
{
    step(shard, (struct raft_input){.kind = RAFT_INPUT_TICK});
}

void shard__step_whole(struct shard *shard)
{
    step(shard, (struct raft_input){.kind = RAFT_INPUT_WHOLE});
}

void shard__finish_step(struct shard *shard)
{
    if (shard->is_deposed) {
        shard->is_deposed = false;
        shard__snapshot_cancel(shard);
        shard__cancel_reads(shard);
        shard__hand_back_all(shard);
    }
    shard__ask_answer(shard);
    shard__apply_committed(shard);
    shard__account(shard);
    shard__log_relieve(shard);
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

void shard__step_beat(struct shard *shard, const struct raft_message *message)
{
    struct raft_input input = {.kind = RAFT_INPUT_RECEIVE, .message = message};
    int status = step_with(shard, &input, NULL);
    if (status != 0) {
        PROBE("shard.message_refused");
    }
}

void shard__compacted(struct shard *shard, raft_index index)
{
    step(shard, (struct raft_input){.kind = RAFT_INPUT_COMPACTED, .index = index});
}

void shard__append_cut(struct shard *shard, raft_node to, raft_index index)
{
    step(shard, (struct raft_input){.kind = RAFT_INPUT_APPEND_CUT, .node = to, .index = index});
}

void shard__committed(struct shard *shard, raft_index index)
{
    step(shard, (struct raft_input){.kind = RAFT_INPUT_COMMITTED, .index = index});
}

uint64_t shard__confirm(struct shard *shard)
{
    struct raft_input input = {.kind = RAFT_INPUT_CONFIRM, .now_ms = shard__now_ms(shard)};
    struct raft_output output;
    int status = raft_step(shard->raft, &input, &output);
    ASSERT(status == 0);
    uint64_t round = output.round;
    take_output(shard, &output, NULL);
    return round;
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

bool shard_is_quiet(const struct shard *shard)
{
    return shard->is_quiet;
}

void shard_peer_found(struct shard *shard, raft_node node)
{
    step(shard, (struct raft_input){.kind = RAFT_INPUT_PEER_FOUND, .node = node});
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

bool shard__has_lease(const struct shard *shard)
{
    return shard__now_ms(shard) < shard->lease_until_ms;
}

bool shard__is_confirmed(struct shard *shard)
{
    if (shard__has_lease(shard) || BUG("shard.read_without_lease")) {
        return true;
    }
    if (list_is_empty(&shard->confirming) && list_is_empty(&shard->unconfirmed)) {
        PROBE("shard.read_by_round");
    }
    return false;
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
    shard__reread_cancel(shard);
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
        shard__persist_void_log(shard);
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
    if (shard->discard != NULL) {
        shard__discard_persisted(shard);
    }
    shard__finish_step(shard);
}

void shard__propose_open(struct shard *shard)
{
    struct shard_entry *entry = shard->open;
    ASSERT(entry->answers.item_count > 0);
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

void shard__look_at_background(struct shard *shard)
{
    uint64_t soon_ms = shard__now_ms(shard) + BACKGROUND_INTERVAL_MS;
    shard->background_at_ms = shard->background_at_ms < soon_ms ? shard->background_at_ms : soon_ms;
}

void shard_look_at_background(struct shard *shard)
{
    shard->background_at_ms = 0;
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

/* Does the open entry go now, or wait and grow? (While leadership is handed over it would be refused.) */
static bool is_open_due(const struct shard *shard)
{
    const struct shard_entry *open = shard->open;
    if (open->answers.item_count == 0 || shard->is_transferring ||
        shard->in_flight_count >= SHARD_SMALL_ENTRIES_IN_FLIGHT_MAX) {
        return false;
    }
    return shard->in_flight_count == 0 || !shard__is_alone(shard) ||
           open->answers.item_count >= SHARD_NEXT_ENTRY_ITEM_COUNT_MIN ||
           open->payload.size_bytes >= SHARD_NEXT_ENTRY_SIZE_BYTES_MIN;
}

static uint64_t tick_leader(struct shard *shard, uint64_t now_ms)
{
    uint64_t wake_at_ms = background(shard, now_ms);
    bool is_held = shard->options.pace != NULL && shard->options.pace->is_closed;
    if (is_open_due(shard) && !is_held) {
        shard__propose_open(shard);
    }
    if (list_is_empty(&shard->confirming) && !list_is_empty(&shard->unconfirmed)) {
        list_append_all(&shard->confirming, &shard->unconfirmed);
        shard->confirm_round = shard__confirm(shard);
    }
    return shard->is_transferring ? now_ms + RETRY_INTERVAL_MS : wake_at_ms;
}

/* All replicas of a host may have begun to follow at the same moment: each takes its part, and its turn. */
static uint64_t shorten_rows(struct shard *shard, uint64_t now_ms)
{
    const struct shard_account *account = shard->options.account;
    uint64_t shard_count = account != NULL ? number_max(account->shard_count, 1) : 1;
    uint64_t row_count = number_max(SHORTEN_ROW_COUNT / shard_count, SHORTEN_ROW_COUNT_MIN);
    uint64_t interval_ms =
        number_max(row_count * shard_count / SHORTEN_ROW_COUNT, 1) * SHORTEN_INTERVAL_MS;
    uint64_t begin_at_ms =
        shard->follows_since_ms + shard->options.heads_delay_ms + shard->options.id % interval_ms;
    uint64_t next_at_ms = number_max(begin_at_ms, shard->shorten_at_ms);
    if (now_ms < next_at_ms) {
        return next_at_ms;
    }
    rows_keep_heads(shard->rows, true);
    if (!rows_shorten(shard->rows, row_count)) {
        return UINT64_MAX;
    }
    shard->shorten_at_ms = now_ms + interval_ms;
    return shard->shorten_at_ms;
}

/* Who does not lead needs the heads of rows only. One that led until lately may lead again; until then
 * it keeps what it has. Returns when to look again. */
static uint64_t tick_rows(struct shard *shard, uint64_t now_ms)
{
    if (shard->is_stateless || shard->role == RAFT_ROLE_LEADER || shard__is_alone(shard)) {
        shard->follows_since_ms = 0;
        if (!shard->is_stateless) {
            rows_keep_heads(shard->rows, false);
        }
        return UINT64_MAX;
    }
    if (shard->follows_since_ms == 0) {
        shard->follows_since_ms = now_ms;
    }
    return shorten_rows(shard, now_ms);
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
        const struct shard_account *account = shard->options.account;
        bool does_hurry = account != NULL && account->do_groups_hurry;
        step(shard, (struct raft_input){.kind = RAFT_INPUT_TICK, .does_hurry = does_hurry});
        shard__finish_step(shard);
    }
    if (shard_is_ready(shard)) {
        wake_at_ms = number_min(wake_at_ms, tick_leader(shard, now_ms));
        shard__finish_step(shard);
    }
    shard__start_reads(shard);
    wake_at_ms = number_min(wake_at_ms, tick_rows(shard, now_ms));
    if (shard->cold_count > 0) {
        wake_at_ms = number_min(wake_at_ms, now_ms + RETRY_INTERVAL_MS);
    }
    wake_at_ms = number_min(wake_at_ms, shard__snapshot_tick(shard, now_ms));
    wake_at_ms = number_min(wake_at_ms, shard__install_tick(shard, now_ms));
    wake_at_ms = number_min(wake_at_ms, shard__reread_tick(shard, now_ms));
    wake_at_ms = number_min(wake_at_ms, shard__discard_tick(shard, now_ms));
    wake_at_ms = number_min(wake_at_ms, shard__prove_tick(shard, now_ms));
    wake_at_ms = number_min(wake_at_ms, shard__ask_tick(shard, now_ms));
    wake_at_ms = number_min(wake_at_ms, shard__floor_tick(shard, now_ms));
    return number_min(wake_at_ms, shard->raft_wake_at_ms);
}

bool shard_is_idle(const struct shard *shard)
{
    return shard->reads_elsewhere == 0 && shard->works_elsewhere == 0 &&
           shard->log_reads_under_way == 0;
}

bool shard_wants_tick(const struct shard *shard)
{
    return is_open_due(shard) && shard_is_ready(shard) &&
           (shard->options.pace == NULL || pace_may_go_on(shard->options.pace));
}

bool shard_is_held(const struct shard *shard)
{
    return is_open_due(shard) && shard_is_ready(shard) && shard->options.pace != NULL &&
           !pace_may_go_on(shard->options.pace);
}

void shard_set_limits(struct shard *shard, const struct shard_limits *limits)
{
    shard->options.cache_size_bytes = limits->cache_size_bytes;
    shard->options.recent_size_bytes_max = limits->recent_size_bytes;
    shard->options.window_size_bytes_max = limits->window_size_bytes;
    shard__window_set_size(shard->window, limits->window_size_bytes);
    if (shard->log.size_bytes > limits->recent_size_bytes) {
        shard__log_trim(shard);
    }
    if (shard->rows != NULL) {
        rows_set_cache_size(shard->rows, limits->cache_size_bytes);
    }
}

bool shard_trim(struct shard *shard, uint64_t step_count)
{
    bool is_window_large = shard__window_trim(shard->window, TRIM_ANSWER_COUNT);
    bool is_cache_large = shard->rows != NULL && rows_trim(shard->rows, step_count);
    return is_window_large || is_cache_large;
}

void shard__account(struct shard *shard)
{
    struct shard_account *account = shard->options.account;
    if (account != NULL) {
        account->in_flight_size_bytes += shard->in_flight_size_bytes - shard->accounted_size_bytes;
        shard->accounted_size_bytes = shard->in_flight_size_bytes;
    }
}

bool shard__is_beyond(const struct shard *shard, uint64_t more, uint64_t most, uint64_t own_most)
{
    const struct shard_account *account = shard->options.account;
    uint64_t own = shard->in_flight_size_bytes;
    if (account == NULL) {
        return own + more > most;
    }
    return account->in_flight_size_bytes + more > most &&
           own + more > own_most / account->shard_count;
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
    struct shard_window_figures window = shard__window_figures(shard->window);
    statistics->window_answer_count = window.answer_count;
    statistics->window_size_bytes = window.size_bytes;
    if (shard->rows != NULL) {
        rows_get_statistics(shard->rows, &statistics->rows);
    }
}
