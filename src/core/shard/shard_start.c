/* SPDX-License-Identifier: Apache-2.0 */
/* What a replica begins with: which part of its log fits what it has, and the instance of Raft over it. */
#include "core/shard/shard.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

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

/* Nothing is left in the log, but it ends somewhere. Entries that come behind a state that is another one
 * than that end, a snapshot's, would seem to stand behind it, and not to fit, at the next start. */
static bool does_end_fit(const struct shard *shard, const struct wal_shard_state *state)
{
    raft_index applied = shard->applied_index;
    return state->last_index == 0 || state->last_index > applied ||
           (state->last_index == applied && state->last_term == shard->applied_term);
}

/* The log and the state must fit: entries that contradict the state, or leave a gap behind it, are
 * from before a snapshot that replaced it. */
static int check_fit(struct shard *shard, const struct wal_shard_state *state, bool *does_fit,
                     struct error *error)
{
    raft_index applied = shard->applied_index;
    *does_fit = state->first_index == 0
                    ? does_end_fit(shard, state)
                    : state->first_index <= applied + 1 && state->last_index >= applied;
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
        shard__persist_void_log(shard);
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

/* Without a log. */
static struct raft_options options_of_raft(struct shard *shard)
{
    return (struct raft_options){
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
        .election_timeout_ms = shard->options.election_timeout_ms,
        .heartbeat_phase_ms = shard->options.heartbeat_phase_ms,
        .heartbeat_interval_ms = shard->options.heartbeat_interval_ms,
        .quiet_after_ms = shard->options.quiet_after_ms,
        .random_seed = random_next(&shard->random),
        .now_ms = shard__now_ms(shard),
    };
}

void shard__begin_again(struct shard *shard)
{
    ASSERT(shard->applied_index == 0 || shard->has_failed);
    /* What was stored before is behind: the log may let go of nothing by that. */
    uint64_t sequence = shard__void_log(shard);
    struct raft_options options = options_of_raft(shard);
    options.hard_state = raft_hard_state(shard->raft);
    options.sequence = sequence;
    raft_destroy(shard->raft);
    int status = raft_create(&shard->raft, &options, NULL);
    ASSERT(status == 0);
    shard__ask_later(shard);
    shard__step_tick(shard);
}

int shard_start(struct shard *shard, const struct wal_shard_state *state, struct error *error)
{
    ASSERT(shard->raft == NULL);
    struct raft_options options = options_of_raft(shard);
    options.is_newborn = is_newborn(shard, state);
    options.is_quiet = shard->options.is_quiet_at_start;
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
    shard__ask_later(shard);
    shard__step_tick(shard);
    return 0;
}
