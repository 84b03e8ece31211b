/* SPDX-License-Identifier: Apache-2.0 */
#include "core/raft/raft.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/raft/raft_internal.h"

enum { SEND_CAPACITY_MIN = 2 };

/* ---- Creation -------------------------------------------------------------------------------- */

static int check_entries(const struct raft_options *options, struct error *error)
{
    raft_term before = options->previous_term;
    raft_term last = options->last_index < options->first_index ? before : options->last_term;
    if (options->entries != NULL) {
        for (raft_index i = options->first_index; i <= options->last_index; i++) {
            const struct raft_entry *entry = &options->entries[i - options->first_index];
            if (entry->term < before) {
                return error_say(error, -EINVAL,
                                 "the log has an entry of term %llu after term %llu",
                                 (unsigned long long)entry->term, (unsigned long long)before);
            }
            if (entry->kind == RAFT_ENTRY_CONFIGURATION &&
                !raft_configuration_is_valid(entry->configuration)) {
                return error_say(error, -EINVAL, "the configuration in entry %llu is not valid",
                                 (unsigned long long)i);
            }
            before = entry->term;
        }
        last = before;
    }
    raft_term newest = number_max(options->previous_term, options->hard_state.term);
    if (last < before || last > newest) {
        return error_say(error, -EINVAL, "the log has an entry of term %llu after term %llu",
                         (unsigned long long)last, (unsigned long long)number_max(before, newest));
    }
    return 0;
}

static int check_options(const struct raft_options *options, struct error *error)
{
    if (options->commit_index > options->last_index) {
        return error_say(error, -EINVAL, "the log ends at entry %llu, but %llu is applied",
                         (unsigned long long)options->last_index,
                         (unsigned long long)options->commit_index);
    }
    if (options->first_index == 0 || options->first_index > options->commit_index + 1) {
        return error_say(error, -EINVAL, "the log begins at entry %llu, but %llu is applied",
                         (unsigned long long)options->first_index,
                         (unsigned long long)options->commit_index);
    }
    if (options->configuration_index > options->commit_index ||
        (options->configuration.voter_count > 0 &&
         !raft_configuration_is_valid(&options->configuration))) {
        return error_say(error, -EINVAL, "the configuration of entry %llu is not valid",
                         (unsigned long long)options->configuration_index);
    }
    return check_entries(options, error);
}

static void set_intervals(struct raft *raft, const struct raft_options *options)
{
    raft->election_timeout_ms =
        options->election_timeout_ms != 0 ? options->election_timeout_ms : RAFT_ELECTION_TIMEOUT_MS;
    raft->heartbeat_interval_ms = options->heartbeat_interval_ms != 0
                                      ? options->heartbeat_interval_ms
                                      : RAFT_HEARTBEAT_INTERVAL_MS;
    raft->persist_timeout_ms =
        options->persist_timeout_ms != 0 ? options->persist_timeout_ms : RAFT_PERSIST_TIMEOUT_MS;
    raft->heartbeat_phase_ms = options->heartbeat_phase_ms;
    raft->quiet_after_ms = options->quiet_after_ms;
    ASSERT(raft->heartbeat_phase_ms <= raft->heartbeat_interval_ms);
    ASSERT(raft->heartbeat_interval_ms <= raft->election_timeout_ms / 4);
}

int raft_create(struct raft **raft, const struct raft_options *options, struct error *error)
{
    ASSERT(options->self != 0);
    int status = check_options(options, error);
    if (status != 0) {
        return status;
    }
    struct raft *created = memory_allocate_zeroed(1, sizeof *created);
    created->self = options->self;
    created->hard_state = options->hard_state;
    if (options->previous_term > options->hard_state.term) {
        /* A snapshot is durable before the term that came with it: no vote was cast in that. */
        created->hard_state = (struct raft_hard_state){.term = options->previous_term};
    }
    created->role = RAFT_ROLE_FOLLOWER;
    created->is_impaired = options->is_impaired;
    created->is_newborn = options->is_newborn;
    created->sequence = options->sequence;
    created->durable_sequence = options->sequence;
    created->now_ms = options->now_ms;
    set_intervals(created, options);
    random_init(&created->random, options->random_seed);
    raft__log_init(&created->log, options);
    created->commit_index = options->commit_index;
    created->verified_index = options->commit_index;
    created->mark = options->is_impaired ? random_next(&created->random) | 1 : 0;
    created->durable_index = options->last_index;
    created->is_quiet = options->is_quiet && !raft__is_only_voter(created);
    raft__restart_timer(created);
    if (!raft__is_only_voter(created) && !options->is_newborn && !BUG("raft.promise_forgotten")) {
        created->protected_until_ms = created->now_ms + created->election_timeout_ms; /* I7 */
    }
    ASSERT(raft__is_consistent(created));
    *raft = created;
    return 0;
}

void raft_destroy(struct raft *raft)
{
    if (raft != NULL) {
        raft__log_deinit(&raft->log);
        memory_free(raft->replicas);
        memory_free(raft->sends);
        memory_free(raft);
    }
}

/* ---- One step -------------------------------------------------------------------------------- */

struct raft_message *raft__send(struct raft *raft, enum raft_message_kind kind, raft_node to,
                                uint64_t after_sequence)
{
    ASSERT(raft->send_count < RAFT_SEND_COUNT_MAX);
    ASSERT(to != raft->self && to != 0);
    if (!raft__is_hard_state_durable(raft)) {
        after_sequence = number_max(after_sequence, raft->hard_state_sequence);
    }
    if (kind == RAFT_MESSAGE_VOTE_REPLY && BUG("raft.vote_before_durable")) {
        after_sequence = 0;
    }
    if (raft->send_count == raft->send_capacity) {
        raft->send_capacity =
            raft->send_capacity == 0
                ? SEND_CAPACITY_MIN
                : (uint32_t)number_min(2 * raft->send_capacity, RAFT_SEND_COUNT_MAX);
        raft->sends = memory_resize(raft->sends, raft->send_capacity * sizeof raft->sends[0]);
    }
    struct raft_send *send = &raft->sends[raft->send_count++];
    *send = (struct raft_send){
        .after_sequence = after_sequence,
        .message = {.kind = kind, .from = raft->self, .to = to, .term = raft->hard_state.term},
    };
    bool is_of_follower = kind == RAFT_MESSAGE_APPEND_REPLY || kind == RAFT_MESSAGE_HEARTBEAT_REPLY;
    if (raft->is_impaired && is_of_follower && !BUG("raft.lost_acknowledged")) {
        send->message.mark = raft->mark; /* I8 */
    }
    return &send->message;
}

static bool is_answer(enum raft_message_kind kind)
{
    return kind == RAFT_MESSAGE_PREVOTE_REPLY || kind == RAFT_MESSAGE_VOTE_REPLY ||
           kind == RAFT_MESSAGE_APPEND_REPLY || kind == RAFT_MESSAGE_HEARTBEAT_REPLY;
}

static bool is_of_leader(enum raft_message_kind kind)
{
    return kind == RAFT_MESSAGE_APPEND_REQUEST || kind == RAFT_MESSAGE_HEARTBEAT_REQUEST ||
           kind == RAFT_MESSAGE_TIMEOUT_NOW;
}

/* Is there nobody to whom the message says anything? Requests are heard from everyone: who leads or
 * asks for votes may be in a configuration that has not come here yet (§4.1). */
static bool is_foreign(struct raft *raft, const struct raft_message *message)
{
    bool is_stranger =
        raft__find_replica(raft, message->from) == NULL && !raft__is_voter(raft, message->from);
    return message->to != raft->self || message->from == raft->self || message->from == 0 ||
           (is_answer(message->kind) && is_stranger);
}

static bool is_quiet_answer(const struct raft *raft, const struct raft_message *message)
{
    return message->kind == RAFT_MESSAGE_HEARTBEAT_REPLY &&
           message->term == raft->hard_state.term &&
           (message->is_quiet || message->sent_at_ms < raft->quiet_since_ms);
}

/* §3.3: the newer term wins. Returns whether there is anything left to do. */
static bool agree_on_term(struct raft *raft, const struct raft_message *message)
{
    if (message->term < raft->hard_state.term) {
        if (is_of_leader(message->kind) && message->kind != RAFT_MESSAGE_TIMEOUT_NOW) {
            raft__refuse_stale(raft, message);
        }
        return false;
    }
    bool is_leader = is_of_leader(message->kind);
    if (is_leader && message->term == raft->hard_state.term && raft->role == RAFT_ROLE_LEADER) {
        PROBE("raft.two_leaders");
        return false;
    }
    if (message->term > raft->hard_state.term || is_leader) {
        raft__become_follower(raft, message->term, is_leader ? message->from : 0);
    }
    return true;
}

static void receive(struct raft *raft, const struct raft_input *input)
{
    const struct raft_message *message = input->message;
    ASSERT_IF(message->entry_count > 0, input->entries != NULL);
    if (is_foreign(raft, message)) {
        return;
    }
    if (raft->role == RAFT_ROLE_LEADER && raft->is_quiet && !is_quiet_answer(raft, message)) {
        raft__wake(raft);
    }
    switch (message->kind) {
    case RAFT_MESSAGE_PREVOTE_REQUEST:
        raft__prevote_request(raft, message);
        return;
    case RAFT_MESSAGE_PREVOTE_REPLY:
        raft__prevote_reply(raft, message);
        return;
    case RAFT_MESSAGE_VOTE_REQUEST:
        raft__vote_request(raft, message);
        return;
    case RAFT_MESSAGE_VOTE_REPLY:
    case RAFT_MESSAGE_APPEND_REQUEST:
    case RAFT_MESSAGE_APPEND_REPLY:
    case RAFT_MESSAGE_HEARTBEAT_REQUEST:
    case RAFT_MESSAGE_HEARTBEAT_REPLY:
    case RAFT_MESSAGE_TIMEOUT_NOW:
        break;
    }
    if (!agree_on_term(raft, message)) {
        return;
    }
    bool is_leader = raft->role == RAFT_ROLE_LEADER;
    if (message->kind == RAFT_MESSAGE_VOTE_REPLY) {
        raft__vote_reply(raft, message);
    } else if (message->kind == RAFT_MESSAGE_APPEND_REQUEST) {
        raft__append_request(raft, message, input->entries);
    } else if (message->kind == RAFT_MESSAGE_HEARTBEAT_REQUEST) {
        raft__heartbeat_request(raft, message);
    } else if (message->kind == RAFT_MESSAGE_TIMEOUT_NOW) {
        raft__timeout_now(raft, message);
    } else if (message->kind == RAFT_MESSAGE_APPEND_REPLY && is_leader) {
        raft__append_reply(raft, message);
    } else if (message->kind == RAFT_MESSAGE_HEARTBEAT_REPLY && is_leader) {
        raft__heartbeat_reply(raft, message);
    }
}

/* What only a leader may do. */
static int command(struct raft *raft, const struct raft_input *input)
{
    if (raft->role != RAFT_ROLE_LEADER) {
        return ERROR_NOT_LEADER;
    }
    if (input->kind == RAFT_INPUT_CONFIGURE) {
        return raft__configure(raft, input->configuration);
    }
    if (input->kind == RAFT_INPUT_TRANSFER) {
        return raft__transfer(raft, input->node);
    }
    if (input->kind == RAFT_INPUT_CONFIRM) {
        raft__confirm(raft);
        return 0;
    }
    if (input->kind == RAFT_INPUT_COMMITTED) {
        ASSERT(input->index <= raft->log.last_index);
        raft->commit_index = number_max(raft->commit_index, input->index);
        return 0;
    }
    ASSERT(input->kind == RAFT_INPUT_PROPOSE);
    if (raft->transfer_target != 0) {
        return -EBUSY; /* §3.10: "the prior leader stops accepting new client requests". */
    }
    raft__propose(raft);
    return 0;
}

static void persisted(struct raft *raft, uint64_t sequence)
{
    raft__set_durable(raft, sequence);
    if (raft->role == RAFT_ROLE_CANDIDATE) {
        raft__count_votes(raft); /* I2: the own one counts now. */
    }
    if (raft->role == RAFT_ROLE_LEADER) {
        raft__advance_commit(raft);
    }
}

static void compacted(struct raft *raft, raft_index index)
{
    ASSERT(index <= raft__applicable_index(raft));
    raft__log_compact(&raft->log, index);
}

static int take_input(struct raft *raft, const struct raft_input *input)
{
    switch (input->kind) {
    case RAFT_INPUT_TICK:
        if (raft->role == RAFT_ROLE_LEADER) {
            raft__leader_tick(raft, input->does_hurry);
        } else {
            raft__follower_tick(raft);
        }
        return 0;
    case RAFT_INPUT_PROPOSE:
    case RAFT_INPUT_CONFIGURE:
    case RAFT_INPUT_TRANSFER:
    case RAFT_INPUT_CONFIRM:
        return command(raft, input);
    case RAFT_INPUT_PERSISTED:
        persisted(raft, input->persisted_sequence);
        return 0;
    case RAFT_INPUT_RECEIVE:
        receive(raft, input);
        return 0;
    case RAFT_INPUT_UNREACHABLE:
        if (raft->role == RAFT_ROLE_LEADER) {
            raft__wake(raft);
            raft__unreachable(raft, input->node);
        }
        return 0;
    case RAFT_INPUT_APPEND_CUT:
        if (raft->role == RAFT_ROLE_LEADER) {
            raft__append_cut(raft, input->node, input->index);
        }
        return 0;
    case RAFT_INPUT_CAMPAIGN:
        raft__campaign(raft);
        return 0;
    case RAFT_INPUT_PEER_FOUND:
        raft__peer_found(raft, input->node);
        return 0;
    case RAFT_INPUT_PEER_LOST:
        raft__peer_lost(raft, input->node);
        return 0;
    case RAFT_INPUT_WHOLE:
        raft__whole(raft);
        return 0;
    case RAFT_INPUT_COMPACTED:
        compacted(raft, input->index);
        return 0;
    case RAFT_INPUT_SNAPSHOT_SENT:
        if (raft->role == RAFT_ROLE_LEADER) {
            raft__snapshot_sent(raft, input);
        }
        return 0;
    case RAFT_INPUT_SNAPSHOT_INSTALLED:
        return raft__snapshot_installed(raft, input);
    case RAFT_INPUT_COMMITTED:
        return command(raft, input);
    }
    return -EINVAL;
}

static void fill_output(const struct raft *raft, struct raft_output *output)
{
    bool is_leader = raft->role == RAFT_ROLE_LEADER;
    output->persists = raft->persists;
    output->persist_count = raft->persist_count;
    output->sends = raft->sends;
    output->send_count = raft->send_count;
    output->snapshot_count = raft->snapshot_count;
    for (uint32_t i = 0; i < raft->snapshot_count; i++) {
        output->snapshots[i] = raft->snapshots[i];
    }
    output->commit_index = raft__applicable_index(raft);
    output->role = raft->role;
    output->term = raft->hard_state.term;
    output->leader = raft->leader;
    output->start_index = is_leader ? raft->start_index : 0;
    output->round = raft->round;
    output->confirmed_round = is_leader ? raft__confirmed_round(raft) : 0;
    output->lease_until_ms = is_leader ? raft__lease_until_ms(raft) : 0;
    output->is_transferring = is_leader && raft->transfer_target != 0;
    output->is_impaired = raft->is_impaired;
    output->is_whole = raft->is_whole;
    output->is_quiet = raft->is_quiet;
    output->wake_at_ms =
        is_leader ? raft__leader_wake_at_ms(raft) : raft__follower_wake_at_ms(raft);
}

int raft_step(struct raft *raft, const struct raft_input *input, struct raft_output *output)
{
    raft->now_ms = number_max(raft->now_ms, input->now_ms);
    raft->persist_count = 0;
    raft->send_count = 0;
    raft->snapshot_count = 0;
    int status = take_input(raft, input);
    if (status != 0) {
        ASSERT(raft->persist_count == 0 && raft->send_count == 0);
        return status;
    }
    if (raft->role == RAFT_ROLE_LEADER) {
        raft__leader_settle(raft);
    }
    fill_output(raft, output);
    ASSERT_SLOW(raft__is_consistent(raft));
    return 0;
}

bool raft__is_consistent(const struct raft *raft)
{
    const struct raft_log *log = &raft->log;
    bool is_leader = raft->role == RAFT_ROLE_LEADER;
    for (uint32_t i = 0; is_leader && i < raft->replica_count; i++) {
        const struct raft_replica *replica = &raft->replicas[i];
        if (replica->next_index <= replica->match_index ||
            replica->next_index > log->last_index + 1 || replica->node == raft->self) {
            return false;
        }
    }
    return log->first_index > 0 && log->last_index + 1 >= log->first_index &&
           raft->commit_index <= log->last_index && raft->durable_index <= log->last_index &&
           raft->commit_index + 1 >= log->first_index && log->configuration_count > 0 &&
           raft__log_last_term(log) <= raft->hard_state.term &&
           raft->durable_sequence <= raft->sequence &&
           (raft->role != RAFT_ROLE_CANDIDATE || raft->hard_state.vote == raft->self) &&
           (!is_leader || (raft->hard_state.vote == raft->self && raft->leader == raft->self));
}

/* ---- Questions ------------------------------------------------------------------------------- */

raft_index raft_last_index(const struct raft *raft)
{
    return raft->log.last_index;
}

struct raft_hard_state raft_hard_state(const struct raft *raft)
{
    return raft->hard_state;
}

raft_term raft_entry_term(const struct raft *raft, raft_index index)
{
    raft_term term = 0;
    (void)raft__log_get_term(&raft->log, index, &term);
    return term;
}

const struct raft_configuration *raft_latest_configuration(const struct raft *raft)
{
    return raft__configuration(raft);
}

raft_index raft_latest_configuration_index(const struct raft *raft)
{
    return raft->log.configurations[raft->log.configuration_count - 1].index;
}

const struct raft_configuration *raft_configuration_at(const struct raft *raft, raft_index index,
                                                       raft_index *configuration_index)
{
    const struct raft_known_configuration *known = raft__log_configuration_at(&raft->log, index);
    if (known == NULL) {
        return NULL;
    }
    *configuration_index = known->index;
    return &known->configuration;
}

uint32_t raft_get_peers(const struct raft *raft, struct raft_peer peers[RAFT_PEER_COUNT_MAX])
{
    if (raft->role != RAFT_ROLE_LEADER) {
        return 0;
    }
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        const struct raft_replica *replica = &raft->replicas[i];
        peers[i] = (struct raft_peer){
            .node = replica->node,
            .progress = replica->progress,
            .match_index = replica->match_index,
            .next_index = replica->next_index,
            .heard_at_ms = replica->heard_at_ms,
            .is_voter = raft__is_voter(raft, replica->node),
            .is_impaired = replica->mark != 0,
            .is_silent = raft__is_silent(raft, replica),
        };
    }
    return raft->replica_count;
}
