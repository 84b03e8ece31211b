/* SPDX-License-Identifier: Apache-2.0 */
/* Elections (thesis §3.4, §3.6.1), pre-votes (§9.6), and the promise not to vote (I7). */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/raft/raft_internal.h"

void raft__restart_timer(struct raft *raft)
{
    /* §3.4: "election timeouts are chosen randomly from a fixed interval". */
    raft->campaign_at_ms = raft->now_ms + raft->election_timeout_ms +
                           random_below(&raft->random, raft->election_timeout_ms + 1);
}

/* After a refusal: sooner, because most of those who refuse will not be protected for much
 * longer. */
static void hasten_timer(struct raft *raft)
{
    uint64_t soon_ms = raft->now_ms + raft->election_timeout_ms / 4 +
                       random_below(&raft->random, raft->election_timeout_ms / 2 + 1);
    raft->campaign_at_ms = number_min(raft->campaign_at_ms, soon_ms);
}

void raft__become_follower(struct raft *raft, raft_term term, raft_node leader)
{
    ASSERT(term >= raft->hard_state.term);
    bool is_new_term = term > raft->hard_state.term;
    if (is_new_term) {
        raft->is_newborn = false;
        raft__set_hard_state(raft, term, 0);
        raft->verified_index = raft->commit_index; /* Another leader, another log. */
    }
    if (raft->role != RAFT_ROLE_FOLLOWER) {
        raft__restart_timer(raft);
    }
    if (is_new_term || raft->role != RAFT_ROLE_FOLLOWER || raft->leader != leader) {
        TRACE("raft.follower", term, leader, raft->log.last_index, raft->commit_index);
        raft->is_quiet = false;
    }
    raft->role = RAFT_ROLE_FOLLOWER;
    raft->leader = leader;
    raft->is_transfer = false;
    raft->transfer_target = 0;
}

void raft__heard_leader(struct raft *raft)
{
    ASSERT(raft->role == RAFT_ROLE_FOLLOWER);
    raft->protected_until_ms = raft->now_ms + raft->election_timeout_ms;
    raft__restart_timer(raft);
}

bool raft__is_protected(const struct raft *raft)
{
    return raft->role == RAFT_ROLE_LEADER || raft->now_ms < raft->protected_until_ms;
}

/* §3.6.1: "the one with the longer log is more up-to-date", the later last term before that. */
static bool is_up_to_date(const struct raft *raft, const struct raft_message *message)
{
    raft_term last_term = raft__log_last_term(&raft->log);
    return message->index_term > last_term ||
           (message->index_term == last_term && message->index >= raft->log.last_index);
}

/* Learners and strangers do not. §4.2.2: "a server that is not part of its own latest configuration
 * should still start new elections, as it might still be needed until the Cnew entry is committed":
 * only its log may be long enough. */
static bool may_campaign(const struct raft *raft)
{
    const struct raft_log *log = &raft->log;
    bool is_voter = false;
    for (uint32_t i = log->configuration_count; i > 0 && !is_voter; i--) {
        const struct raft_known_configuration *known = &log->configurations[i - 1];
        is_voter = raft_configuration_has_voter(&known->configuration, raft->self);
        if (known->index <= raft->commit_index) {
            break;
        }
    }
    return is_voter && (!raft->is_impaired || BUG("raft.impaired_votes"));
}

/* Who cannot write can neither vote for itself nor lead. */
static bool is_disk_stalled(const struct raft *raft)
{
    return !raft__is_hard_state_durable(raft) ||
           (raft->sequence > raft->durable_sequence &&
            raft->now_ms >= raft->persisting_since_ms + raft->election_timeout_ms);
}

static void ask_for_votes(struct raft *raft, enum raft_message_kind kind, raft_term term)
{
    const struct raft_configuration *configuration = raft__configuration(raft);
    for (uint32_t i = 0; i < configuration->voter_count + configuration->outgoing_count; i++) {
        bool is_outgoing = i >= configuration->voter_count;
        raft_node node = is_outgoing ? configuration->outgoing[i - configuration->voter_count]
                                     : configuration->voters[i];
        bool is_asked = false;
        for (uint32_t j = 0; is_outgoing && j < configuration->voter_count; j++) {
            is_asked |= configuration->voters[j] == node;
        }
        if (is_asked || node == raft->self) {
            continue;
        }
        struct raft_message *request = raft__send(raft, kind, node, 0);
        request->term = term;
        request->index = raft->log.last_index;
        request->index_term = raft__log_last_term(&raft->log);
        request->is_transfer = raft->is_transfer;
    }
}

static void begin_votes(struct raft *raft, enum raft_role role)
{
    raft->role = role;
    raft->leader = 0;
    raft->is_quiet = false;
    raft->votes[0] = (struct raft_vote){.node = raft->self, .is_granted = true};
    raft->vote_count = 1;
    raft__restart_timer(raft);
}

/* §3.4: a new term, a vote for oneself. The requests leave once that is durable (I2). */
static void become_candidate(struct raft *raft, bool is_transfer)
{
    ASSERT(may_campaign(raft));
    raft_term term = raft->hard_state.term + 1;
    if (!raft__log_can_append(&raft->log, term, raft->commit_index)) {
        PROBE("raft.log.terms_full");
        raft__restart_timer(raft);
        return;
    }
    raft->is_newborn = false;
    raft__set_hard_state(raft, term, raft->self);
    raft->is_transfer = is_transfer;
    begin_votes(raft, RAFT_ROLE_CANDIDATE);
    TRACE("raft.campaign", term, raft->log.last_index, is_transfer, 0);
    ask_for_votes(raft, RAFT_MESSAGE_VOTE_REQUEST, term);
}

/* §9.6: "a candidate only increments its term number if it first learns from a majority of the
 * cluster that they would be willing to grant the candidate their votes". */
static void become_precandidate(struct raft *raft)
{
    raft->is_transfer = false;
    begin_votes(raft, RAFT_ROLE_PRECANDIDATE);
    TRACE("raft.precampaign", raft->hard_state.term + 1, raft->log.last_index, 0, 0);
    ask_for_votes(raft, RAFT_MESSAGE_PREVOTE_REQUEST, raft->hard_state.term + 1);
}

void raft__follower_tick(struct raft *raft)
{
    ASSERT(raft->role != RAFT_ROLE_LEADER);
    if (!may_campaign(raft) || raft->is_quiet) {
        return;
    }
    if (raft__is_only_voter(raft)) {
        /* Nobody's vote is needed, and no leader but this one could have a lease. A leader that
         * removes itself is left to finish. */
        if (raft->role != RAFT_ROLE_CANDIDATE && (raft->leader == 0 || !raft__is_protected(raft))) {
            become_candidate(raft, false);
        }
        return;
    }
    if (raft->now_ms < raft->campaign_at_ms) {
        return;
    }
    if (is_disk_stalled(raft)) {
        PROBE("raft.campaign.disk_stalled");
        raft__restart_timer(raft);
        return;
    }
    become_precandidate(raft);
    raft__count_votes(raft);
}

uint64_t raft__follower_wake_at_ms(const struct raft *raft)
{
    if (!may_campaign(raft) || raft->is_quiet) {
        return UINT64_MAX;
    }
    if (raft__is_only_voter(raft)) {
        bool is_waiting = raft->role == RAFT_ROLE_CANDIDATE;
        return is_waiting ? UINT64_MAX : number_max(raft->now_ms, raft->protected_until_ms);
    }
    return raft->campaign_at_ms;
}

void raft__peer_lost(struct raft *raft, raft_node node)
{
    if (raft->role == RAFT_ROLE_LEADER) {
        struct raft_replica *replica = raft__find_replica(raft, node);
        if (replica != NULL) {
            replica->is_lost = true;
        }
        /* A quorum has to be left: it is asked, and until it has answered the group is not quiet. */
        raft->round++;
        raft__wake(raft);
        return;
    }
    if (raft->role == RAFT_ROLE_FOLLOWER && node == raft->leader && node != 0) {
        /* Its lease, and the promises of the others, end an election timeout after it was heard:
         * campaign then. The small random part keeps followers apart. */
        raft->leader = 0;
        raft->campaign_at_ms = number_max(raft->now_ms, raft->protected_until_ms) +
                               random_below(&raft->random, raft->election_timeout_ms / 5 + 1);
    } else if (raft->is_quiet) {
        raft__restart_timer(raft);
    }
    raft->is_quiet = false;
}

void raft__peer_found(struct raft *raft, raft_node node)
{
    struct raft_replica *replica =
        raft->role == RAFT_ROLE_LEADER ? raft__find_replica(raft, node) : NULL;
    /* A quiet leader may not have heard that it was lost, and it may lack what it had. */
    if (replica != NULL && (replica->is_lost || raft->is_quiet)) {
        replica->is_lost = false;
        raft__wake(raft);
    }
}

static void add_vote(struct raft *raft, raft_node node, bool is_granted)
{
    for (uint32_t i = 0; i < raft->vote_count; i++) {
        if (raft->votes[i].node == node) {
            return; /* The first answer counts: the others are repetitions. */
        }
    }
    if (raft->vote_count < RAFT_PEER_COUNT_MAX && raft__is_voter(raft, node)) {
        raft->votes[raft->vote_count++] =
            (struct raft_vote){.node = node, .is_granted = is_granted};
    }
}

void raft__count_votes(struct raft *raft)
{
    if (raft->role == RAFT_ROLE_PRECANDIDATE && raft__quorum(raft, RAFT_MEASURE_GRANTED) == 1) {
        become_candidate(raft, false);
    }
    if (raft->role == RAFT_ROLE_CANDIDATE && raft__quorum(raft, RAFT_MEASURE_GRANTED) == 1) {
        raft__become_leader(raft);
    }
    if ((raft->role == RAFT_ROLE_PRECANDIDATE || raft->role == RAFT_ROLE_CANDIDATE) &&
        raft__quorum(raft, RAFT_MEASURE_NOT_REFUSED) == 0) {
        raft__become_follower(raft, raft->hard_state.term, 0);
        hasten_timer(raft);
    }
}

void raft__prevote_request(struct raft *raft, const struct raft_message *message)
{
    if (BUG("raft.prevote_raises_term") && message->term > raft->hard_state.term) {
        raft__become_follower(raft, message->term, 0);
    }
    if (raft->is_quiet && raft->role != RAFT_ROLE_LEADER) {
        /* A quiet leader is not heard of; it answers this request by itself if it lives. If not,
         * this member finds out as soon as the one who asks. */
        raft->is_quiet = false;
        raft->protected_until_ms = raft->now_ms + raft->election_timeout_ms;
        raft__restart_timer(raft);
    }
    bool is_granted = message->term > raft->hard_state.term && !raft__is_protected(raft) &&
                      (!raft->is_impaired || BUG("raft.impaired_votes")) &&
                      is_up_to_date(raft, message);
    struct raft_message *reply = raft__send(raft, RAFT_MESSAGE_PREVOTE_REPLY, message->from, 0);
    reply->term = is_granted ? message->term : raft->hard_state.term;
    reply->is_rejected = !is_granted;
}

void raft__prevote_reply(struct raft *raft, const struct raft_message *message)
{
    if (message->is_rejected && message->term > raft->hard_state.term) {
        raft__become_follower(raft, message->term, 0);
        return;
    }
    if (raft->role != RAFT_ROLE_PRECANDIDATE ||
        (!message->is_rejected && message->term != raft->hard_state.term + 1)) {
        return;
    }
    add_vote(raft, message->from, !message->is_rejected);
    if (message->is_rejected) {
        hasten_timer(raft);
    }
    raft__count_votes(raft);
}

void raft__vote_request(struct raft *raft, const struct raft_message *message)
{
    if (raft__is_protected(raft) && !message->is_transfer) {
        PROBE("raft.vote.protected");
        return; /* I7, §4.2.3: not even the term is taken over. */
    }
    if (message->term > raft->hard_state.term) {
        raft__become_follower(raft, message->term, 0);
    }
    bool is_free =
        raft->hard_state.vote == message->from || (raft->hard_state.vote == 0 && raft->leader == 0);
    bool is_impaired = raft->is_impaired && !BUG("raft.impaired_votes");
    bool is_granted = message->term == raft->hard_state.term && is_free && !is_impaired &&
                      (is_up_to_date(raft, message) || BUG("raft.vote_ignores_log"));
    if (is_granted) {
        if (raft->hard_state.vote == 0) {
            raft__set_hard_state(raft, message->term, message->from); /* I2 */
        }
        raft__restart_timer(raft);
    }
    struct raft_message *reply = raft__send(raft, RAFT_MESSAGE_VOTE_REPLY, message->from, 0);
    reply->is_rejected = !is_granted;
}

void raft__vote_reply(struct raft *raft, const struct raft_message *message)
{
    if (raft->role != RAFT_ROLE_CANDIDATE || message->term != raft->hard_state.term) {
        return;
    }
    add_vote(raft, message->from, !message->is_rejected);
    raft__count_votes(raft);
}

/* A newborn beside its parent's leader; once more: those who were not born then are asked again. */
void raft__campaign(struct raft *raft)
{
    bool may_stand = !raft__is_protected(raft) && raft->leader == 0 && may_campaign(raft);
    if (may_stand && raft->role == RAFT_ROLE_CANDIDATE) {
        ask_for_votes(raft, RAFT_MESSAGE_VOTE_REQUEST, raft->hard_state.term);
    } else if (may_stand && raft->is_newborn) {
        become_candidate(raft, false);
    }
}

/* §3.10: the election timeout is taken to have passed; no pre-vote, the leader knows best. */
void raft__timeout_now(struct raft *raft, const struct raft_message *message)
{
    if (raft->role != RAFT_ROLE_FOLLOWER || message->term != raft->hard_state.term ||
        raft->leader != message->from || !may_campaign(raft)) {
        return;
    }
    become_candidate(raft, true);
}
