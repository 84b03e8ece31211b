/* SPDX-License-Identifier: Apache-2.0 */
/* Leading: the begin of a term, time, commitment (thesis §3.6.2), changes of members (§4),
 * handing over (§3.10). */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/raft/raft_internal.h"

/* The leader's own entry: one write, one append to each member, both begun at once (§10.2.1). */
static struct raft_persist *append(struct raft *raft, enum raft_entry_kind kind,
                                   const struct raft_configuration *configuration)
{
    ASSERT(raft->role == RAFT_ROLE_LEADER); /* I4 */
    raft__log_append(&raft->log, raft->hard_state.term);
    struct raft_persist *persist = raft__persist_entries(raft, raft->log.last_index, 1);
    persist->term = raft->hard_state.term;
    persist->entry_kind = kind;
    if (configuration != NULL) {
        persist->configuration = *configuration;
        raft__log_append_configuration(&raft->log, raft->log.last_index, configuration);
        raft__update_replicas(raft);
    }
    raft->worked_at_ms = raft->now_ms;
    raft__replicate_all(raft);
    return persist;
}

/* In an interval at the latest. */
static uint64_t next_heartbeat_at_ms(const struct raft *raft)
{
    uint64_t interval_ms = raft->heartbeat_interval_ms;
    if (raft->heartbeat_phase_ms == 0) {
        return raft->now_ms + interval_ms;
    }
    uint64_t over_ms = (raft->now_ms + interval_ms - raft->heartbeat_phase_ms) % interval_ms;
    return raft->now_ms + interval_ms - over_ms;
}

void raft__become_leader(struct raft *raft)
{
    ASSERT(raft->role == RAFT_ROLE_CANDIDATE);
    ASSERT(raft->hard_state.vote == raft->self && raft__is_hard_state_durable(raft)); /* I2 */
    raft->role = RAFT_ROLE_LEADER;
    raft->leader = raft->self;
    raft->is_transfer = false;
    raft->is_quiet = false;
    raft->transfer_target = 0;
    raft->has_told_transfer_target = false;
    raft->has_lost_lease = false;
    raft->replica_count = 0;
    raft->start_index = raft->log.last_index + 1;
    raft->heartbeat_at_ms = next_heartbeat_at_ms(raft);
    TRACE("raft.leader", raft->hard_state.term, raft->start_index, 0, 0);
    raft__update_replicas(raft);
    append(raft, RAFT_ENTRY_EMPTY, NULL);
    ASSERT(raft->log.last_index == raft->start_index);
}

static void step_down(struct raft *raft)
{
    raft__become_follower(raft, raft->hard_state.term, 0);
}

/* ---- Commitment ------------------------------------------------------------------------------ */

void raft__advance_commit(struct raft *raft)
{
    ASSERT(raft->role == RAFT_ROLE_LEADER);
    raft_index index = raft__quorum(raft, RAFT_MEASURE_MATCH);
    index = number_min(index, raft->log.last_index);
    raft_term term = 0;
    /* I3, §3.6.2: "only log entries from the leader's current term are committed by counting
     * replicas"; those before them are committed with them. */
    if (index <= raft->commit_index ||
        (index < raft->start_index && !BUG("raft.older_term_counted")) ||
        !raft__log_get_term(&raft->log, index, &term)) {
        return;
    }
    ASSERT(term == raft->hard_state.term || BUG("raft.older_term_counted"));
    raft->commit_index = index;
    raft->worked_at_ms = raft->now_ms;
    if (BUG("raft.configuration_when_committed")) {
        raft__update_replicas(raft);
    }
}

/* ---- Handing over ---------------------------------------------------------------------------- */

static void tell_to_campaign(struct raft *raft, raft_node node)
{
    TRACE("raft.timeout_now", raft->hard_state.term, node, raft->log.last_index, 0);
    (void)raft__send(raft, RAFT_MESSAGE_TIMEOUT_NOW, node, 0);
    raft->has_told_transfer_target = true;
    if (!BUG("raft.lease_after_transfer")) {
        raft->has_lost_lease = true;
    }
}

/* Of the voters that answer: the one with the most entries. */
static const struct raft_replica *best_successor(const struct raft *raft)
{
    const struct raft_replica *best = NULL;
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        const struct raft_replica *replica = &raft->replicas[i];
        bool is_alive = replica->heard_at_ms != 0 &&
                        raft->now_ms < replica->heard_at_ms + raft->election_timeout_ms;
        if (is_alive && !replica->is_leaving && replica->mark == 0 &&
            raft__is_voter(raft, replica->node) &&
            (best == NULL || replica->match_index > best->match_index)) {
            best = replica;
        }
    }
    return best;
}

static void begin_transfer(struct raft *raft, raft_node target)
{
    TRACE("raft.transfer", raft->hard_state.term, target, 0, 0);
    raft->transfer_target = target;
    raft->transfer_until_ms = raft->now_ms + raft->election_timeout_ms;
    raft->has_told_transfer_target = false;
    raft->worked_at_ms = raft->now_ms;
}

bool raft__is_silent(const struct raft *raft, const struct raft_replica *replica)
{
    uint64_t since_ms = number_max(replica->heard_at_ms, replica->patient_from_ms);
    return replica->is_lost ||
           (!raft->is_quiet && raft->now_ms >= since_ms + raft->election_timeout_ms);
}

int raft__transfer(struct raft *raft, raft_node target)
{
    struct raft_replica *replica = raft__find_replica(raft, target);
    if (replica == NULL || replica->is_leaving || replica->mark != 0 ||
        !raft__is_voter(raft, target)) {
        return -EINVAL;
    }
    if (raft__is_silent(raft, replica)) {
        PROBE("raft.transfer.silent");
        return -EBUSY; /* It would hold up all proposals for an election timeout. */
    }
    raft__wake(raft);
    if (raft->transfer_target != target) {
        begin_transfer(raft, target);
        replica->probe_at_ms = 0;
        raft__replicate(raft, replica);
    }
    return 0;
}

/* §3.10: the target is told when its log is as long as the leader's. */
static void settle_transfer(struct raft *raft)
{
    if (raft->transfer_target == 0 || raft->has_told_transfer_target) {
        return;
    }
    const struct raft_replica *target = raft__find_replica(raft, raft->transfer_target);
    if (target == NULL || target->is_leaving) {
        raft->transfer_target = 0;
    } else if (target->match_index == raft->log.last_index) {
        tell_to_campaign(raft, target->node);
    }
}

/* ---- Members --------------------------------------------------------------------------------- */

static bool is_changing(const struct raft *raft)
{
    const struct raft_log *log = &raft->log;
    const struct raft_known_configuration *newest =
        &log->configurations[log->configuration_count - 1];
    return newest->configuration.outgoing_count > 0 || newest->index > raft->commit_index;
}

static bool is_same_set(const raft_node *left, uint32_t left_count, const raft_node *right,
                        uint32_t right_count)
{
    return left_count == right_count && memcmp(left, right, left_count * sizeof *left) == 0;
}

/* I8: would nothing be committed before a member is whole that cannot become so before something
 * is? */
static bool would_wait_for_impaired(const struct raft *raft,
                                    const struct raft_configuration *configuration)
{
    uint32_t impaired_count = 0;
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        for (uint32_t k = 0; k < configuration->voter_count; k++) {
            impaired_count +=
                raft->replicas[i].node == configuration->voters[k] && raft->replicas[i].mark != 0
                    ? 1u
                    : 0u;
        }
    }
    return impaired_count > 0 &&
           configuration->voter_count - impaired_count < configuration->voter_count / 2 + 1;
}

int raft__configure(struct raft *raft, const struct raft_configuration *configuration)
{
    if (!raft_configuration_is_valid(configuration) || configuration->outgoing_count > 0) {
        return -EINVAL;
    }
    if (is_changing(raft) || raft->commit_index < raft->start_index || raft->transfer_target != 0) {
        return -EBUSY; /* I5 */
    }
    if (would_wait_for_impaired(raft, configuration)) {
        PROBE("raft.configure.impaired");
        return -EBUSY;
    }
    const struct raft_configuration *current = raft__configuration(raft);
    if (raft_configurations_are_equal(configuration, current)) {
        return 0;
    }
    raft__wake(raft);
    /* §4.3: the old and the new voters decide together first. A change of learners touches no
     * majority. */
    struct raft_configuration next = *configuration;
    if (!is_same_set(next.voters, next.voter_count, current->voters, current->voter_count)) {
        next.outgoing_count = current->voter_count;
        memcpy(next.outgoing, current->voters, sizeof next.outgoing);
    }
    append(raft, RAFT_ENTRY_CONFIGURATION, &next);
    raft__advance_commit(raft);
    return 0;
}

/* The second half follows once the first is committed, by whoever leads then. */
static void settle_joint(struct raft *raft)
{
    const struct raft_log *log = &raft->log;
    const struct raft_known_configuration *newest =
        &log->configurations[log->configuration_count - 1];
    if (newest->configuration.outgoing_count == 0 || newest->index > raft->commit_index ||
        raft->commit_index < raft->start_index || raft->transfer_target != 0) {
        return;
    }
    struct raft_configuration final = newest->configuration;
    final.outgoing_count = 0;
    memset(final.outgoing, 0, sizeof final.outgoing);
    append(raft, RAFT_ENTRY_CONFIGURATION, &final);
    raft__advance_commit(raft);
}

/* §4.2.2: a leader that is not in the configuration leads until that is committed. It hands over,
 * lest the others wait for their timers. */
static void settle_removal(struct raft *raft)
{
    if (is_changing(raft) || raft->commit_index < raft->start_index) {
        return;
    }
    raft__forget_leaving(raft);
    if (raft__is_voter(raft, raft->self)) {
        return;
    }
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        raft__send_heartbeat(raft, &raft->replicas[i]); /* With the commit index. */
    }
    const struct raft_replica *successor = best_successor(raft);
    if (successor != NULL && successor->match_index == raft->log.last_index) {
        tell_to_campaign(raft, successor->node);
    }
    step_down(raft);
}

/* I8: an entry that is proposed after the leader has heard of an impaired member. */
static void settle_marks(struct raft *raft)
{
    bool is_needed = false;
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        const struct raft_replica *replica = &raft->replicas[i];
        is_needed |= replica->mark != 0 && replica->mark_index == 0;
    }
    if (!is_needed || raft->transfer_target != 0) {
        return;
    }
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        struct raft_replica *replica = &raft->replicas[i];
        if (replica->mark != 0 && replica->mark_index == 0) {
            replica->mark_index = raft->log.last_index + 1;
        }
    }
    append(raft, RAFT_ENTRY_EMPTY, NULL);
    raft__advance_commit(raft);
}

void raft__leader_settle(struct raft *raft)
{
    ASSERT(raft->role == RAFT_ROLE_LEADER);
    settle_marks(raft);
    settle_transfer(raft);
    settle_joint(raft);
    settle_removal(raft);
}

/* ---- Time ------------------------------------------------------------------------------------ */

/* §6.2: a leader that no quorum answers any more cannot commit; its clients should look for
 * another. */
static bool has_quorum_contact(const struct raft *raft)
{
    uint64_t heard_at_ms = raft__quorum(raft, RAFT_MEASURE_HEARD_AT);
    return raft->now_ms < heard_at_ms + raft->election_timeout_ms;
}

/* Does what was sent in this step wake it already? */
static bool is_woken(const struct raft *raft, raft_node node)
{
    for (uint32_t i = 0; i < raft->send_count; i++) {
        const struct raft_message *message = &raft->sends[i].message;
        if (message->to == node && message->kind == RAFT_MESSAGE_APPEND_REQUEST) {
            return true;
        }
    }
    return false;
}

void raft__wake(struct raft *raft)
{
    raft->worked_at_ms = raft->now_ms;
    if (!raft->is_quiet) {
        return;
    }
    raft->is_quiet = false;
    raft->heartbeat_at_ms = next_heartbeat_at_ms(raft);
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        raft->replicas[i].patient_from_ms = raft->now_ms;
        if (!is_woken(raft, raft->replicas[i].node)) {
            raft__send_heartbeat(raft, &raft->replicas[i]);
        }
    }
}

static bool may_be_quiet(const struct raft *raft, bool does_hurry)
{
    uint64_t idle_ms = does_hurry ? 1 : raft->quiet_after_ms;
    if (raft->quiet_after_ms == 0 || raft->now_ms < raft->worked_at_ms + idle_ms ||
        raft->commit_index != raft->log.last_index || is_changing(raft) ||
        raft->sequence != raft->durable_sequence || raft->transfer_target != 0 ||
        raft__confirmed_round(raft) < raft->round) {
        return false;
    }
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        const struct raft_replica *replica = &raft->replicas[i];
        bool is_whole = replica->match_index == raft->log.last_index && replica->mark == 0;
        if (!is_whole && !replica->is_lost) {
            return false;
        }
    }
    return true;
}

/* A disk that does not answer holds up every commit that needs it, and one that fails takes the
 * leader with it: let another one lead while this one still can hand over. */
static void leave_stalled_disk(struct raft *raft)
{
    if (raft->sequence == raft->durable_sequence || raft->replica_count == 0 ||
        raft->now_ms < raft->persisting_since_ms + raft->persist_timeout_ms) {
        return;
    }
    PROBE("raft.leader.disk_stalled");
    const struct raft_replica *successor = best_successor(raft);
    if (raft__is_only_voter(raft) || raft->transfer_target != 0) {
        return;
    }
    if (successor == NULL || raft->has_told_transfer_target) {
        step_down(raft);
        return;
    }
    begin_transfer(raft, successor->node);
}

void raft__leader_tick(struct raft *raft, bool does_hurry)
{
    if (raft->transfer_target != 0 && raft->now_ms >= raft->transfer_until_ms) {
        PROBE("raft.transfer.given_up");
        raft->transfer_target = 0;
    }
    if (raft->is_quiet || raft->now_ms < raft->heartbeat_at_ms) {
        return;
    }
    if (!has_quorum_contact(raft)) {
        PROBE("raft.leader.no_quorum");
        step_down(raft);
        return;
    }
    leave_stalled_disk(raft);
    if (raft->role != RAFT_ROLE_LEADER) {
        return;
    }
    raft->heartbeat_at_ms = next_heartbeat_at_ms(raft);
    raft->is_quiet = may_be_quiet(raft, does_hurry);
    raft->quiet_since_ms = raft->now_ms;
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        raft__send_heartbeat(raft, &raft->replicas[i]);
    }
    raft__replicate_all(raft);
}

uint64_t raft__leader_wake_at_ms(const struct raft *raft)
{
    uint64_t wake_at_ms =
        raft->is_quiet || raft->replica_count == 0 ? UINT64_MAX : raft->heartbeat_at_ms;
    return raft->transfer_target != 0 ? number_min(wake_at_ms, raft->transfer_until_ms)
                                      : wake_at_ms;
}

/* ---- Requests -------------------------------------------------------------------------------- */

void raft__propose(struct raft *raft)
{
    append(raft, RAFT_ENTRY_COMMANDS, NULL);
    raft__wake(raft); /* Those to whom the entry does not go. */
    if (BUG("raft.commit_before_persisted")) {
        raft__advance_commit(raft);
    }
}

void raft__confirm(struct raft *raft)
{
    bool is_awake = !raft->is_quiet;
    raft->round++;
    raft__wake(raft);
    for (uint32_t i = 0; is_awake && i < raft->replica_count; i++) {
        if (raft__is_voter(raft, raft->replicas[i].node)) {
            raft__send_heartbeat(raft, &raft->replicas[i]);
        }
    }
}
