/* SPDX-License-Identifier: Apache-2.0 */
/* The follower's side of replication (thesis §3.5). */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/raft/raft_internal.h"

static struct raft_message *reply_to(struct raft *raft, const struct raft_message *request,
                                     enum raft_message_kind kind, uint64_t after_sequence)
{
    struct raft_message *reply = raft__send(raft, kind, request->from, after_sequence);
    reply->round = request->round;
    reply->sent_at_ms = request->sent_at_ms;
    return reply;
}

/* Echoes neither round nor time: this is no sign of support. */
void raft__refuse_stale(struct raft *raft, const struct raft_message *message)
{
    PROBE("raft.request.stale_term");
    struct raft_message *reply = raft__send(raft, RAFT_MESSAGE_APPEND_REPLY, message->from, 0);
    reply->is_rejected = true;
    reply->index = message->index;
}

/* The leader skips whole terms (§3.5): the hint is the last entry here that can be in the leader's
 * log, whose entry at `message->index` is of `message->index_term`. What is committed is in it. */
static void refuse_append(struct raft *raft, const struct raft_message *message)
{
    raft_index hint = raft__log_last_at_most(&raft->log, message->index, message->index_term);
    hint = number_max(hint, raft->commit_index);
    struct raft_message *reply = reply_to(raft, message, RAFT_MESSAGE_APPEND_REPLY, 0);
    reply->is_rejected = true;
    reply->index = message->index;
    reply->last_index = hint;
    (void)raft__log_get_term(&raft->log, hint, &reply->last_term);
}

/* How many of the entries are in the log already. */
static uint32_t count_known(const struct raft *raft, const struct raft_message *message,
                            const struct raft_entry *entries)
{
    uint32_t known = 0;
    for (; known < message->entry_count; known++) {
        raft_index index = message->index + 1 + known;
        raft_term term = 0;
        if (index <= raft->commit_index) {
            continue;
        }
        if (!raft__log_get_term(&raft->log, index, &term) || term != entries[known].term) {
            break;
        }
    }
    return known;
}

static bool are_believable(const struct raft *raft, const struct raft_message *message,
                           const struct raft_entry *entries)
{
    raft_term before = message->index_term;
    for (uint32_t i = 0; i < message->entry_count; i++) {
        const struct raft_entry *entry = &entries[i];
        if (entry->term < before || entry->term > message->term ||
            (entry->kind == RAFT_ENTRY_CONFIGURATION &&
             !raft_configuration_is_valid(entry->configuration))) {
            return false;
        }
        before = entry->term;
    }
    return true;
}

/* Put the entries from `offset` on behind entry `message->index + offset`. Those that do not fit
 * (see raft__log_can_append()) are left to the leader to send again. Returns the last that the
 * log has now. */
static raft_index append_entries(struct raft *raft, const struct raft_message *message,
                                 const struct raft_entry *entries, uint32_t offset)
{
    raft_index index = message->index + 1 + offset;
    if (index <= raft->log.last_index) {
        raft__persist_truncation(raft, index);
    }
    uint32_t taken = offset;
    for (; taken < message->entry_count; taken++) {
        const struct raft_entry *entry = &entries[taken];
        if (!raft__log_can_append(&raft->log, entry->term, raft->commit_index)) {
            PROBE("raft.log.terms_full");
            break;
        }
        raft__log_append(&raft->log, entry->term);
        if (entry->kind == RAFT_ENTRY_CONFIGURATION) {
            raft__log_append_configuration(&raft->log, raft->log.last_index, entry->configuration);
        }
    }
    if (taken > offset) {
        raft__persist_entries(raft, index, taken - offset)->message_offset = offset;
    }
    return message->index + taken;
}

static void advance_commit(struct raft *raft, raft_index index)
{
    raft->commit_index = number_max(raft->commit_index, number_min(index, raft->log.last_index));
}

/* Is the entry at `message->index` here what the leader has there? What is committed is; so is what
 * was compacted. */
static bool agrees(const struct raft *raft, const struct raft_message *message)
{
    raft_term term = 0;
    return message->index <= raft->commit_index ||
           (raft__log_get_term(&raft->log, message->index, &term) &&
            (term == message->index_term || BUG("raft.previous_term_ignored")));
}

void raft__append_request(struct raft *raft, const struct raft_message *message,
                          const struct raft_entry *entries)
{
    if (message->entry_count > RAFT_APPEND_ENTRY_COUNT_MAX ||
        !are_believable(raft, message, entries)) {
        return;
    }
    raft__heard_leader(raft);
    raft->is_quiet = false;
    if (!agrees(raft, message)) {
        refuse_append(raft, message);
        return;
    }
    /* Only what differs is removed: the message may be old, and more have come since (§3.5). */
    uint32_t known = count_known(raft, message, entries);
    raft_index matched = message->index + message->entry_count;
    if (BUG("raft.stale_append_truncates") && matched < raft->log.last_index &&
        matched > raft->commit_index) {
        raft__persist_truncation(raft, matched + 1);
    }
    if (known < message->entry_count) {
        ASSERT(message->index + known >= raft->commit_index);
        matched = append_entries(raft, message, entries, known);
    }
    raft->verified_index = number_max(raft->verified_index, matched);
    advance_commit(raft, number_min(message->commit_index, matched));
    matched = number_max(matched, raft->commit_index);
    uint64_t after = raft__sequence_of(raft, matched);
    if (BUG("raft.append_reply_before_durable")) {
        after = 0;
    }
    struct raft_message *reply = reply_to(raft, message, RAFT_MESSAGE_APPEND_REPLY, after);
    reply->index = matched;
}

/* I8. The leader has committed an entry of its own term that it proposed in this life of the member,
 * and without it; what was committed before precedes that, and all of it is durable here. It must
 * not count on more than this log has, from before the loss: what it commits by such a count would
 * be missing here. */
static bool is_whole(const struct raft *raft, const struct raft_message *message)
{
    raft_term term = 0;
    return message->mark == raft->mark && message->index <= raft->durable_index &&
           message->last_index <= raft->durable_index &&
           raft__log_get_term(&raft->log, message->last_index, &term) &&
           term == raft->hard_state.term;
}

static void mend(struct raft *raft, const struct raft_message *message)
{
    if (is_whole(raft, message) || BUG("raft.mended_early")) {
        raft_term term = raft->hard_state.term;
        TRACE("raft.mended", term, message->last_index, raft->durable_index, 0);
        raft->is_whole = true;
    }
}

void raft__whole(struct raft *raft)
{
    raft->is_impaired = raft->is_impaired && !raft->is_whole;
    raft->is_whole = false;
}

void raft__heartbeat_request(struct raft *raft, const struct raft_message *message)
{
    raft__heard_leader(raft);
    /* The leader counts on entries that are not here: they were lost. */
    bool has_lost = message->index > raft->log.last_index && !BUG("raft.lost_acknowledged");
    /* What a leader told of an impaired member before may be about entries that it lost; those in
     * their place here may be others. */
    bool is_unsure = raft->is_impaired && !BUG("raft.impaired_commits_unverified");
    advance_commit(raft, is_unsure ? number_min(message->commit_index, raft->verified_index)
                                   : message->commit_index);
    if (raft->is_impaired && !raft->is_whole && (!has_lost || BUG("raft.mended_early"))) {
        mend(raft, message);
    }
    raft->is_quiet = message->is_quiet && !raft->is_impaired &&
                     message->index == raft->log.last_index &&
                     message->commit_index == raft->log.last_index &&
                     raft->durable_index == raft->log.last_index;
    struct raft_message *reply = reply_to(raft, message, RAFT_MESSAGE_HEARTBEAT_REPLY, 0);
    reply->is_quiet = raft->is_quiet;
    reply->is_rejected = has_lost;
    reply->index = raft->log.last_index;
}

/* §5.1: the state has everything up to the entry; what the log has behind it stays if the log has
 * that entry too, and is void otherwise. */
int raft__snapshot_installed(struct raft *raft, const struct raft_input *input)
{
    raft_index index = input->index;
    bool has_configuration = input->configuration->voter_count > 0;
    if (index < raft__applicable_index(raft) ||
        (has_configuration && !raft_configuration_is_valid(input->configuration))) {
        return -EINVAL;
    }
    if (input->index_term > raft->hard_state.term) {
        PROBE("raft.snapshot.newer_term"); /* It came before any message of that term. */
        raft__become_follower(raft, input->index_term, 0);
    }
    raft_term term = 0;
    if (raft__log_get_term(&raft->log, index, &term) && term == input->index_term) {
        raft__log_compact(&raft->log, index);
    } else {
        if (raft->log.last_index > index) {
            raft__persist_truncation(raft, index + 1);
        }
        raft__log_reset(&raft->log, index, input->index_term);
        raft->write_count = 0;
    }
    if (has_configuration) {
        raft__log_set_configuration(&raft->log, index, input->configuration);
        if (raft->role == RAFT_ROLE_LEADER) {
            raft__update_replicas(raft);
        }
    }
    raft->durable_index = number_max(raft->durable_index, index);
    raft->commit_index = number_max(raft->commit_index, index);
    if (raft->role == RAFT_ROLE_FOLLOWER && raft->leader != 0) {
        struct raft_message *reply = raft__send(raft, RAFT_MESSAGE_APPEND_REPLY, raft->leader, 0);
        reply->index = index;
    }
    return 0;
}
