/* SPDX-License-Identifier: Apache-2.0 */
/* The leader's side of replication, member by member (thesis §3.5, §10.2.1).
 *
 *               an append is accepted
 *      PROBE ---------------------------> REPLICATE
 *       ^ ^ \ <--------------------------- /
 *       | |  \  rejected, or unreachable  /
 *       | |   \                          /
 *       | |    v  the log begins later  v
 *       | '---- SNAPSHOT <-------------'
 *       '-------  it has been sent, or has failed, or is not needed any more
 *
 * PROBE sends one append and waits for its answer, or for the next heartbeat. REPLICATE goes on
 * without waiting, with a bounded number of appends under way. A driver may cut an append into
 * several: answers tell how far the logs agree, and are not counted. Whatever gets lost is found by
 * its successor being rejected, or by a heartbeat that comes back while nothing else does. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/raft/raft_internal.h"

enum { REPLICA_CAPACITY_MIN = 2 };

struct raft_replica *raft__find_replica(struct raft *raft, raft_node node)
{
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        if (raft->replicas[i].node == node) {
            return &raft->replicas[i];
        }
    }
    return NULL;
}

/* ---- The table of members -------------------------------------------------------------------- */

static void begin_probe(struct raft_replica *replica, raft_index next_index)
{
    replica->progress = RAFT_PROGRESS_PROBE;
    replica->next_index = number_max(next_index, replica->match_index + 1);
    replica->probe_at_ms = 0;
    replica->has_probed = false;
    replica->flight_count = 0;
    replica->stuck_index = UINT64_MAX;
}

/* Make room by forgetting one that is leaving: it need not be told. */
static void evict(struct raft *raft)
{
    uint32_t place = 0;
    while (place < raft->replica_count && !raft->replicas[place].is_leaving) {
        place++;
    }
    ASSERT(place < raft->replica_count); /* No configuration has more members. */
    raft->replica_count--;
    for (; place < raft->replica_count; place++) {
        raft->replicas[place] = raft->replicas[place + 1];
    }
}

static void add_replica(struct raft *raft, raft_node node)
{
    if (raft->replica_count == RAFT_PEER_COUNT_MAX) {
        evict(raft);
    }
    if (raft->replica_count == raft->replica_capacity) {
        raft->replica_capacity =
            raft->replica_capacity == 0
                ? REPLICA_CAPACITY_MIN
                : (uint32_t)number_min(2 * raft->replica_capacity, RAFT_PEER_COUNT_MAX);
        raft->replicas =
            memory_resize(raft->replicas, raft->replica_capacity * sizeof raft->replicas[0]);
    }
    uint32_t place = raft->replica_count++;
    for (; place > 0 && raft->replicas[place - 1].node > node; place--) {
        raft->replicas[place] = raft->replicas[place - 1];
    }
    raft->replicas[place] = (struct raft_replica){.node = node, .patient_from_ms = raft->now_ms};
    begin_probe(&raft->replicas[place], raft->log.last_index + 1);
}

static void keep(struct raft *raft, const raft_node *nodes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct raft_replica *replica = raft__find_replica(raft, nodes[i]);
        if (replica != NULL) {
            replica->is_leaving = false;
        }
    }
}

static void add_missing(struct raft *raft, const raft_node *nodes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i] != raft->self && raft__find_replica(raft, nodes[i]) == NULL) {
            add_replica(raft, nodes[i]);
        }
    }
}

void raft__update_replicas(struct raft *raft)
{
    const struct raft_configuration *configuration = raft__configuration(raft);
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        raft->replicas[i].is_leaving = true;
    }
    keep(raft, configuration->voters, configuration->voter_count);
    keep(raft, configuration->outgoing, configuration->outgoing_count);
    keep(raft, configuration->learners, configuration->learner_count);
    add_missing(raft, configuration->voters, configuration->voter_count);
    add_missing(raft, configuration->outgoing, configuration->outgoing_count);
    add_missing(raft, configuration->learners, configuration->learner_count);
}

void raft__forget_leaving(struct raft *raft)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        if (raft->replicas[i].is_leaving) {
            raft__send_heartbeat(raft, &raft->replicas[i]); /* It learns that it has left. */
        } else {
            raft->replicas[kept++] = raft->replicas[i];
        }
    }
    raft->replica_count = kept;
}

/* ---- Sending --------------------------------------------------------------------------------- */

static struct raft_message *request(struct raft *raft, const struct raft_replica *replica,
                                    enum raft_message_kind kind)
{
    struct raft_message *message = raft__send(raft, kind, replica->node, 0);
    message->round = raft->round;
    message->sent_at_ms = raft->now_ms;
    return message;
}

void raft__send_heartbeat(struct raft *raft, const struct raft_replica *replica)
{
    struct raft_message *message = request(raft, replica, RAFT_MESSAGE_HEARTBEAT_REQUEST);
    message->index = replica->match_index;
    message->commit_index = number_min(raft->commit_index, replica->match_index);
    message->last_index = raft->commit_index;
    if (BUG("raft.heartbeat_commits_unmatched")) {
        message->commit_index = raft->commit_index;
    }
    message->is_quiet = raft->is_quiet;
    bool is_answered = replica->mark_index != 0 && replica->mark_index <= raft->commit_index;
    message->mark = is_answered ? replica->mark : 0;
    if (is_answered && replica->match_index >= replica->mark_index) {
        message->last_index = message->commit_index; /* It has this, however far the others are. */
    }
}

static void send_append(struct raft *raft, const struct raft_replica *replica, raft_index index,
                        raft_term term, uint32_t count)
{
    ASSERT(index + count <= raft->log.last_index);
    struct raft_message *message = request(raft, replica, RAFT_MESSAGE_APPEND_REQUEST);
    message->index = index;
    message->index_term = term;
    message->entry_count = count;
    message->commit_index = raft->commit_index;
    message->last_index = raft->log.last_index;
}

static void want_snapshot(struct raft *raft, struct raft_replica *replica)
{
    /* To someone who does not answer, a snapshot would be sent for nothing. */
    if (raft->now_ms < replica->snapshot_at_ms || replica->heard_at_ms == 0 ||
        raft->now_ms >= replica->heard_at_ms + raft->election_timeout_ms) {
        return;
    }
    PROBE("raft.snapshot.wanted");
    TRACE("raft.snapshot", replica->node, replica->next_index, raft->log.first_index, 0);
    replica->progress = RAFT_PROGRESS_SNAPSHOT;
    replica->flight_count = 0;
    raft->snapshots[raft->snapshot_count++] = replica->node;
}

static void add_flight(struct raft_replica *replica, raft_index last_index)
{
    ASSERT(replica->flight_count < RAFT_FLIGHT_COUNT_MAX);
    uint32_t place = (replica->flight_first + replica->flight_count) % RAFT_FLIGHT_COUNT_MAX;
    replica->flights[place] = last_index;
    replica->flight_count++;
}

static raft_index newest_flight(const struct raft_replica *replica)
{
    uint32_t place = replica->flight_first + replica->flight_count - 1;
    return replica->flights[place % RAFT_FLIGHT_COUNT_MAX];
}

static bool may_send(const struct raft *raft, const struct raft_replica *replica)
{
    switch (replica->progress) {
    case RAFT_PROGRESS_PROBE:
        return replica->match_index < raft->log.last_index && raft->now_ms >= replica->probe_at_ms;
    case RAFT_PROGRESS_REPLICATE:
        return replica->next_index <= raft->log.last_index &&
               replica->flight_count < RAFT_FLIGHT_COUNT_MAX;
    case RAFT_PROGRESS_SNAPSHOT:
        break;
    }
    return false;
}

void raft__replicate(struct raft *raft, struct raft_replica *replica)
{
    for (uint32_t i = 0; i < RAFT_APPENDS_PER_STEP_MAX && may_send(raft, replica); i++) {
        if (raft->send_count >= RAFT_SEND_COUNT_MAX - 2 * (RAFT_PEER_COUNT_MAX + 1)) {
            return; /* Heartbeats and a farewell must fit too. The next heartbeat goes on. */
        }
        raft_index index = replica->next_index - 1;
        raft_term term = 0;
        if (!raft__log_get_term(&raft->log, index, &term)) {
            want_snapshot(raft, replica);
            return;
        }
        uint32_t count =
            (uint32_t)number_min(raft->log.last_index - index, RAFT_APPEND_ENTRY_COUNT_MAX);
        if (replica->progress == RAFT_PROGRESS_PROBE && replica->has_probed) {
            count = 0; /* The entries may be large, and on their way: ask without them. */
        }
        send_append(raft, replica, index, term, count);
        if (replica->progress == RAFT_PROGRESS_PROBE) {
            replica->has_probed = true;
            replica->probe_at_ms = raft->now_ms + raft->heartbeat_interval_ms;
            return;
        }
        replica->next_index += count;
        add_flight(replica, index + count);
    }
}

void raft__replicate_all(struct raft *raft)
{
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        raft__replicate(raft, &raft->replicas[i]);
    }
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* I8. Nothing is believed of an impaired member but what it says in this life; that it is whole
 * again, only in an answer to a request that was sent after it had last said otherwise. */
static void note_mark(struct raft *raft, struct raft_replica *replica,
                      const struct raft_message *message)
{
    if (message->mark == 0) {
        if (message->sent_at_ms > replica->marked_at_ms) {
            replica->mark = 0;
        }
        return;
    }
    replica->marked_at_ms = raft->now_ms;
    if (message->mark == replica->mark) {
        return;
    }
    PROBE("raft.replica.impaired");
    TRACE("raft.impaired", replica->node, message->mark, replica->match_index, 0);
    replica->mark = message->mark;
    replica->mark_index = 0; /* raft__leader_settle() */
    replica->match_index = 0;
    replica->match_sent_at_ms = message->sent_at_ms; /* Nothing older says anything. */
    replica->lost_sent_at_ms = message->sent_at_ms;
    begin_probe(replica, number_min(message->index, raft->log.last_index) + 1);
    raft__wake(raft);
}

static void note_answer(struct raft *raft, struct raft_replica *replica,
                        const struct raft_message *message)
{
    replica->heard_at_ms = raft->now_ms;
    replica->is_lost = false;
    note_mark(raft, replica, message);
    uint64_t round = number_min(message->round, raft->round);
    uint64_t sent_at_ms = number_min(message->sent_at_ms, raft->now_ms);
    replica->answered_round = number_max(replica->answered_round, round);
    replica->answered_sent_at_ms = number_max(replica->answered_sent_at_ms, sent_at_ms);
}

/* The member has lost what it had told of. To believe less of it is always safe; an answer that is
 * older than what is believed says nothing. Returns whether this one is believed. */
static bool has_lost(struct raft_replica *replica, const struct raft_message *message,
                     raft_index last_index)
{
    if (message->sent_at_ms <= replica->match_sent_at_ms) {
        return false;
    }
    PROBE("raft.replica.lost_entries");
    replica->match_index = number_min(replica->match_index, last_index);
    replica->lost_sent_at_ms = message->sent_at_ms;
    begin_probe(replica, replica->match_index + 1);
    return true;
}

static void append_rejected(struct raft *raft, struct raft_replica *replica,
                            const struct raft_message *message)
{
    if (message->index <= replica->match_index) {
        (void)has_lost(replica, message, message->last_index);
        return;
    }
    bool is_stale = replica->progress == RAFT_PROGRESS_PROBE
                        ? message->index + 1 != replica->next_index
                        : replica->progress == RAFT_PROGRESS_SNAPSHOT;
    if (is_stale) {
        return;
    }
    /* §3.5: skip the terms that this log does not have. */
    raft_index hint = raft__log_last_at_most(&raft->log, message->last_index, message->last_term);
    begin_probe(replica, number_min(hint, raft->log.last_index) + 1);
}

static void land_flights(struct raft_replica *replica)
{
    while (replica->flight_count > 0 &&
           replica->flights[replica->flight_first] <= replica->match_index) {
        replica->flight_first = (replica->flight_first + 1) % RAFT_FLIGHT_COUNT_MAX;
        replica->flight_count--;
    }
}

static void append_accepted(struct raft *raft, struct raft_replica *replica,
                            const struct raft_message *message)
{
    if (message->index > raft->log.last_index ||
        (replica->lost_sent_at_ms != 0 && message->sent_at_ms < replica->lost_sent_at_ms)) {
        return;
    }
    if (message->index >= replica->match_index) {
        replica->match_index = message->index;
        replica->match_sent_at_ms = number_max(replica->match_sent_at_ms, message->sent_at_ms);
    }
    replica->next_index = number_max(replica->next_index, replica->match_index + 1);
    land_flights(replica);
    switch (replica->progress) {
    case RAFT_PROGRESS_PROBE:
        begin_probe(replica, replica->match_index + 1);
        replica->progress = RAFT_PROGRESS_REPLICATE;
        break;
    case RAFT_PROGRESS_REPLICATE:
        break;
    case RAFT_PROGRESS_SNAPSHOT:
        if (replica->match_index + 1 >= raft->log.first_index) {
            PROBE("raft.snapshot.not_needed");
            begin_probe(replica, replica->match_index + 1);
        }
        break;
    }
}

void raft__append_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_replica *replica = raft__find_replica(raft, message->from);
    if (replica == NULL) {
        return;
    }
    note_answer(raft, replica, message);
    if (message->is_rejected) {
        append_rejected(raft, replica, message);
    } else {
        append_accepted(raft, replica, message);
        raft__advance_commit(raft);
    }
    raft__replicate(raft, replica);
}

/* It lives, but has not moved since its last heartbeat, although appends are under way: either its
 * disk is slow, or they were lost. An append without entries finds out which. */
static void find_lost(struct raft *raft, struct raft_replica *replica)
{
    raft_index index = replica->next_index - 1;
    raft_term term = 0;
    if (raft__log_get_term(&raft->log, index, &term)) {
        send_append(raft, replica, index, term, 0);
    } else {
        PROBE("raft.replica.stuck_before_log");
        begin_probe(replica, replica->match_index + 1);
    }
}

void raft__heartbeat_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_replica *replica = raft__find_replica(raft, message->from);
    if (replica == NULL) {
        return;
    }
    bool was_marked = replica->mark != 0;
    note_answer(raft, replica, message);
    if (message->is_rejected) {
        (void)has_lost(replica, message, message->index);
    }
    if (was_marked && replica->mark == 0) {
        raft__advance_commit(raft); /* It counts since now, with what it has. */
    }
    if (replica->progress == RAFT_PROGRESS_PROBE) {
        replica->probe_at_ms = 0;
    }
    bool is_under_way = replica->flight_count > 0;
    if (is_under_way && replica->stuck_index == replica->match_index) {
        find_lost(raft, replica);
    }
    replica->stuck_index = replica->flight_count > 0 ? replica->match_index : UINT64_MAX;
    raft__replicate(raft, replica);
}

void raft__unreachable(struct raft *raft, raft_node node)
{
    struct raft_replica *replica = raft__find_replica(raft, node);
    if (replica != NULL && replica->progress == RAFT_PROGRESS_REPLICATE) {
        begin_probe(replica, replica->match_index + 1);
        replica->probe_at_ms = raft->now_ms + raft->heartbeat_interval_ms;
    }
}

/* Without it, what follows would be sent behind a gap, rejected, and sent again; at each cut. */
void raft__append_cut(struct raft *raft, raft_node node, raft_index index)
{
    struct raft_replica *replica = raft__find_replica(raft, node);
    if (replica == NULL || replica->progress != RAFT_PROGRESS_REPLICATE ||
        index + 1 >= replica->next_index) {
        return;
    }
    PROBE("raft.append.cut");
    index = number_max(index, replica->match_index);
    while (replica->flight_count > 0 && newest_flight(replica) > index) {
        replica->flight_count--;
    }
    raft_index flown = replica->flight_count > 0 ? newest_flight(replica) : replica->match_index;
    if (index > flown) {
        add_flight(replica, index); /* Part of one that was. */
    }
    replica->next_index = index + 1;
    raft__replicate(raft, replica);
}

void raft__snapshot_sent(struct raft *raft, const struct raft_input *input)
{
    struct raft_replica *replica = raft__find_replica(raft, input->node);
    if (replica == NULL || replica->progress != RAFT_PROGRESS_SNAPSHOT) {
        return;
    }
    if (input->has_failed) {
        /* Not at once again: what failed it may last. */
        replica->snapshot_at_ms = raft->now_ms + raft->election_timeout_ms;
        begin_probe(replica, replica->match_index + 1);
        return;
    }
    begin_probe(replica, input->index + 1);
    raft__replicate(raft, replica);
}
