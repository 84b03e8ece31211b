/* SPDX-License-Identifier: Apache-2.0 */
/* raft: consensus for one shard (Ongaro, "Consensus: Bridging Theory and Practice", 2014).
 * Layer: core.
 *
 * A pure core: raft_step() takes an input and yields an output. It keeps indexes, terms and
 * configurations, never payloads; whoever drives it (the shard) keeps the entries. Ordering between
 * disk, network and decisions is data: each thing to make durable has a number, a message names the
 * number that must be durable before it leaves, and RAFT_INPUT_PERSISTED says up to which number
 * all is durable.
 *
 * Invariants
 *   I1. The term and the commit index never go back.
 *   I2. At most one vote is cast in a term, and it is durable before it counts or leaves.
 *   I3. An entry is committed only when a quorum (of both configurations while they are joint) has
 *       it durably, the own disk counting as one vote, and only if it is of the current term or
 *       precedes one that is (§3.6.2).
 *   I4. A leader appends only; it begins its term with an empty entry (§6.4).
 *   I5. The newest configuration in the log counts, committed or not (§4.1); a change begins only
 *       when no other is under way and an entry of the own term is committed.
 *   I6. `output.commit_index` is never above what the own log has durably: what is applied, and
 *       may reach the store, is in the log.
 *   I7. Whoever has heard of a leader within the election timeout grants no vote but to the one
 *       whom that leader told to campaign (§4.2.3, §6.4.1). A leader's lease is shorter than that
 *       by a margin for the rate of clocks, and over as soon as it has told someone to campaign.
 *   I8. An impaired member (it lost part of its log, or the term and the vote) neither votes nor
 *       campaigns, and nothing that it answers counts for a quorum, until it is whole again: a
 *       leader has committed, without it, an entry that it proposed after it had heard of this
 *       life of the member, and the member has that entry, and so all that was committed before;
 *       and the driver has made durable that it is whole (`output.is_whole`, RAFT_INPUT_WHOLE). Else it
 *       could be made a voter that is needed, and forget that it is whole.
 *
 * Why I8 suffices when the term was lost. Let e be that entry, of term T, and Q the quorum that has
 * it, without the member. Of a leader of a later term T' that was elected with the help of Q (of
 * any majority) and has e, the standard argument (§3.6.3) does not ask what the member does. A vote
 * for T' that the member gave in its former life is older than e, so whoever asked for it does not
 * have e, and gets no majority together with one of Q, which either voted in T' first and could not
 * have acknowledged e in T, or has e and refuses. Within T itself whoever still asks for votes does
 * not have e, which the member has by now. So its former promises bind nobody.
 *
 * Besides the thesis: pre-vote (§9.6), check-quorum (§6.2), learners (§4.2.1), leadership transfer
 * (§3.10), joint consensus (§4.3), pipelined replication with flow control (§10.2.1), reads by
 * lease or by a round of heartbeats (§6.4), quiet groups without any traffic.
 *
 * An instance belongs to one thread, and takes no locks. What it has for its members and messages grows with
 * their number. */
#ifndef CORE_RAFT_RAFT_H
#define CORE_RAFT_RAFT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"

typedef uint64_t raft_index; /* 0: before the first entry. */
typedef uint64_t raft_term;  /* 0: before the first election. */
typedef uint32_t raft_node;  /* 0: nobody. */

enum raft_role {
    RAFT_ROLE_FOLLOWER, /* Also a learner. */
    RAFT_ROLE_PRECANDIDATE,
    RAFT_ROLE_CANDIDATE,
    RAFT_ROLE_LEADER,
};

/* What must survive a restart besides the entries. */
struct raft_hard_state {
    raft_term term;
    raft_node vote;
};

/* ---- Configurations -------------------------------------------------------------------------- */

#define RAFT_VOTER_COUNT_MAX 7u
#define RAFT_LEARNER_COUNT_MAX 8u
#define RAFT_PEER_COUNT_MAX (2 * RAFT_VOTER_COUNT_MAX + RAFT_LEARNER_COUNT_MAX)

/* Who belongs to the group. Each list is ascending and without repetition; a learner is not among
 * the voters. While `outgoing` is not empty the configuration is joint: decisions need a majority
 * of `voters` (the new ones) and a majority of `outgoing` (the old ones); a learner that is among
 * the outgoing still votes there. */
struct raft_configuration {
    uint32_t voter_count;
    uint32_t outgoing_count;
    uint32_t learner_count;
    raft_node voters[RAFT_VOTER_COUNT_MAX];
    raft_node outgoing[RAFT_VOTER_COUNT_MAX];
    raft_node learners[RAFT_LEARNER_COUNT_MAX];
};

/* At least one voter, sorted, no repetition, within the limits. */
bool raft_configuration_is_valid(const struct raft_configuration *configuration);
/* Among the voters, or the outgoing ones. */
bool raft_configuration_has_voter(const struct raft_configuration *configuration, raft_node node);
bool raft_configuration_has_learner(const struct raft_configuration *configuration, raft_node node);
bool raft_configuration_has_member(const struct raft_configuration *configuration, raft_node node);
bool raft_configurations_are_equal(const struct raft_configuration *left,
                                   const struct raft_configuration *right);
/* Bytes for an entry or a message; docs/formats/raft.md. Decoding validates: ERROR_CORRUPT,
 * ERROR_NEWER_FORMAT. */
void raft_configuration_encode(const struct raft_configuration *configuration,
                               struct buffer *target);
MUST_USE int raft_configuration_decode(struct raft_configuration *configuration,
                                       struct bytes source);

/* ---- Entries and messages -------------------------------------------------------------------- */

enum raft_entry_kind {
    RAFT_ENTRY_COMMANDS,
    RAFT_ENTRY_EMPTY, /* Begins a term. */
    RAFT_ENTRY_CONFIGURATION,
};

/* What the core knows of an entry that it is given. */
struct raft_entry {
    raft_term term;
    enum raft_entry_kind kind;
    const struct raft_configuration *configuration; /* Of a RAFT_ENTRY_CONFIGURATION; borrowed. */
};

#define RAFT_APPEND_ENTRY_COUNT_MAX 64u

enum raft_message_kind {
    RAFT_MESSAGE_PREVOTE_REQUEST = 1,
    RAFT_MESSAGE_PREVOTE_REPLY = 2,
    RAFT_MESSAGE_VOTE_REQUEST = 3,
    RAFT_MESSAGE_VOTE_REPLY = 4,
    RAFT_MESSAGE_APPEND_REQUEST = 5, /* With entries, or without to find where logs agree. */
    RAFT_MESSAGE_APPEND_REPLY = 6,
    RAFT_MESSAGE_HEARTBEAT_REQUEST = 7,
    RAFT_MESSAGE_HEARTBEAT_REPLY = 8,
    RAFT_MESSAGE_TIMEOUT_NOW = 9, /* Campaign at once: the leader hands over. */
};

/* A message without its entries' payloads, which the driver adds on the way out (it may cut one
 * append into several, each with its own `index` and `index_term`) and takes off on the way in. */
struct raft_message {
    enum raft_message_kind kind;
    raft_node from;
    raft_node to;
    /* The sender's; in pre-votes, and their replies that are not rejected, the one that would
     * be. */
    raft_term term;

    /* Votes: the last entry of the candidate. APPEND_REQUEST: the entry before the first one that
     * is sent. APPEND_REPLY: up to where the logs agree and are durable, or, rejected, the entry
     * where they do not agree. HEARTBEAT_REQUEST: up to where the leader counts on the receiver's
     * log; HEARTBEAT_REPLY: the last entry there, rejected if that is less. */
    raft_index index;
    raft_term index_term;
    uint32_t entry_count;
    raft_index commit_index; /* APPEND_REQUEST; HEARTBEAT_REQUEST: at most what the receiver has. */
    /* APPEND_REQUEST: the leader's. HEARTBEAT_REQUEST: what the receiver needs to be whole (I8).
     * Rejected reply: a hint where to go on. */
    raft_index last_index;
    raft_term last_term; /* Rejected reply: the hint's term. */

    uint64_t round;      /* Requests of a leader; replies echo both. */
    uint64_t sent_at_ms; /* By the leader's clock. */
    /* I8. APPEND_REPLY, HEARTBEAT_REPLY: of an impaired member, a number for its present life;
     * 0: it is whole. HEARTBEAT_REQUEST: that number, once an entry that was proposed after it was
     * heard is committed. */
    uint64_t mark;
    bool is_rejected;
    bool is_quiet;    /* HEARTBEAT_REQUEST: nothing to do, no heartbeats will follow. */
    bool is_transfer; /* Votes: the leader asked for it. */
};

/* ---- Options, inputs, outputs ---------------------------------------------------------------- */

struct raft_options {
    raft_node self; /* Not 0. */
    struct raft_hard_state hard_state;
    /* The log as it was recovered: entries first_index .. last_index can be read; the one before
     * the first has the term `previous_term` (0 when it is entry 0). An empty log has last_index ==
     * first_index - 1. */
    raft_index first_index;
    raft_term previous_term;
    raft_index last_index;
    /* Of the entry at `first_index + i`, for all i; borrowed for the call. NULL: `last_term` is the
     * term of all and no configuration is among them (a test's convenience). */
    const struct raft_entry *entries;
    raft_term last_term;
    raft_index commit_index; /* Known to be committed: what the store has. At least
                                first_index - 1. */
    /* In force at `configuration_index` <= commit_index: what the store has. No voters: not a
     * member yet (a learner that has heard of nobody), waits for a leader. */
    struct raft_configuration configuration;
    raft_index configuration_index;
    /* I8. The hard state is what is left of it. Stays so in each life until `output.is_whole` says
     * otherwise and that was stored, durably. */
    bool is_impaired;
    /* It has never sent a message, so it has promised nothing to any leader (I7) and may vote at
     * once. */
    bool is_newborn;
    /* The number of the newest thing that was made durable before: numbers go on behind it. */
    uint64_t sequence;
    /* 0: the defaults. A follower campaigns after a random time from this to twice this. The same
     * for all members: leases rest on it. */
    uint32_t election_timeout_ms;
    uint32_t heartbeat_interval_ms; /* At most a quarter of the election timeout. */
    /* Heartbeats leave at times that are so much above a multiple of the interval, by the own clock, so that
     * those of groups with the same phase leave together: the first of them early, none late. From 1 to
     * the interval; 0: an interval after whatever they are reckoned from. */
    uint32_t heartbeat_phase_ms;
    /* A leader whose own disk has not answered for so long hands over. */
    uint32_t persist_timeout_ms;
    /* Idle for so long, a leader makes the group quiet, if every member has the whole log but those that
     * it was told are lost; 0: never. */
    uint32_t quiet_after_ms;
    bool is_quiet; /* It begins so, unless it is the only voter: somebody has to wake it. */
    uint64_t random_seed;
    uint64_t now_ms;
};

#define RAFT_ELECTION_TIMEOUT_MS 250u
#define RAFT_HEARTBEAT_INTERVAL_MS 50u
#define RAFT_PERSIST_TIMEOUT_MS 2000u

enum raft_persist_kind {
    RAFT_PERSIST_HARD_STATE,
    RAFT_PERSIST_ENTRIES,  /* `count` entries from `index` on: proposed ones, those of the message,
                              or the one that the core made (see `entry_kind`). */
    RAFT_PERSIST_TRUNCATE, /* Entries from `index` on are void. */
};

struct raft_persist {
    enum raft_persist_kind kind;
    uint64_t sequence; /* Grows by one, from 1 or from where the options say. */
    struct raft_hard_state hard_state;
    raft_index index;
    uint32_t count;
    /* The first of the message's entries to take: those before it are in the log already. */
    uint32_t message_offset;
    /* Of an entry that the leader appends (count is 1). */
    raft_term term;
    enum raft_entry_kind entry_kind;
    struct raft_configuration configuration; /* Of a RAFT_ENTRY_CONFIGURATION. */
};

enum raft_input_kind {
    RAFT_INPUT_TICK,      /* Time has passed. */
    RAFT_INPUT_PROPOSE,   /* Append one entry of commands; its payload stays with the driver. */
    RAFT_INPUT_PERSISTED, /* Everything up to `persisted_sequence` is durable. */
    RAFT_INPUT_RECEIVE,   /* `message`, and the heads of its entries. */
    /* Begin to change the configuration to the voters and learners of `configuration` (`outgoing`
     * is empty). Joint consensus when voters change; the second step follows by itself. */
    RAFT_INPUT_CONFIGURE,
    RAFT_INPUT_TRANSFER, /* Hand leadership to `node`, a voter that answers. */
    /* Stand for election now, without asking first who would vote; when that is under way already,
     * ask once more. Only a newborn does, and once: it could go on for ever, and nobody else be
     * elected. Nothing where a leader or a later term is known, or for who may not vote. */
    RAFT_INPUT_CAMPAIGN,
    /* Ask a quorum whether this is still the leader: `output.round` names the question. */
    RAFT_INPUT_CONFIRM,
    RAFT_INPUT_UNREACHABLE, /* What was sent to `node` may be lost. */
    /* Appends to `node` were cut short: of their entries those up to `index` have left, and none
     * behind it. So the next ones go on from there. */
    RAFT_INPUT_APPEND_CUT,
    /* `node` is thought to be dead (its connections broke, or gossip says so): a follower of it
     * campaigns as soon as it may, without the random part of its timeout; wakes a quiet group. */
    RAFT_INPUT_PEER_LOST,
    /* `node` is thought to be alive again: a leader that had fallen quiet without it sees to it. */
    RAFT_INPUT_PEER_FOUND,
    /* That this member is whole, as `output.is_whole` says, is durable. Of no effect for others. */
    RAFT_INPUT_WHOLE,
    /* Entries up to `index` can no longer be read: who needs them gets a snapshot. */
    RAFT_INPUT_COMPACTED,
    /* The streaming of a snapshot to `node` has ended: it has the state at `index`, or
     * (`has_failed`) not. */
    RAFT_INPUT_SNAPSHOT_SENT,
    /* This member's state was replaced by a snapshot at `index` (not below what it has applied) of
     * term `index_term` with `configuration`, durably: the log begins behind it. If the log has
     * that very entry, those behind it stay; if not, they are void, and the next entry is the one
     * after `index`. Without voters: whoever sent it came as a stranger and has applied no
     * configuration yet, so there was none since the group began; what is known here stays. */
    RAFT_INPUT_SNAPSHOT_INSTALLED,
    /* Leader: the entry `index` of its log is committed; something else than a count of answers
     * shows it. Whoever says so has made sure, by a round that began after it was known, that no
     * later leader had committed another one there. */
    RAFT_INPUT_COMMITTED,
};

struct raft_input {
    enum raft_input_kind kind;
    uint64_t now_ms;
    uint64_t persisted_sequence;
    const struct raft_message *message;
    const struct raft_entry *entries; /* `message->entry_count` of them. */
    const struct raft_configuration *configuration;
    raft_node node;
    raft_index index;
    raft_term index_term;
    bool has_failed;
    /* TICK: fall quiet without being idle for `quiet_after_ms`, unless that is 0. */
    bool does_hurry;
};

#define RAFT_PERSIST_COUNT_MAX 4u
#define RAFT_SEND_COUNT_MAX (4 * RAFT_PEER_COUNT_MAX)

struct raft_send {
    struct raft_message message;
    uint64_t after_sequence; /* Leaves once this is durable; 0: at once. */
};

struct raft_output {
    const struct raft_persist *persists; /* Make durable, in this order. */
    uint32_t persist_count;
    const struct raft_send *sends; /* In this order to each member. */
    uint32_t send_count;
    /* Members that need a snapshot: stream one to each, then say RAFT_INPUT_SNAPSHOT_SENT. Named
     * once for each attempt. */
    raft_node snapshots[RAFT_PEER_COUNT_MAX];
    uint32_t snapshot_count;

    raft_index commit_index; /* Apply up to here; never moves back. */
    enum raft_role role;
    raft_term term;
    raft_node leader;       /* 0: unknown. */
    raft_index start_index; /* Leader: of the entry that began its term. */
    /* Leader: a read that was asked for before the RAFT_INPUT_CONFIRM whose step gave `round` r may
     * be answered when `confirmed_round` is at least r (and start_index is applied), whatever
     * clocks say. One that comes later needs a later round: the answers to this one may have been
     * given before it was asked for. */
    uint64_t round;
    uint64_t confirmed_round;
    uint64_t lease_until_ms; /* Leader: until then (exclusive) no question is needed. 0: none.
                                UINT64_MAX: the only voter. */
    bool is_transferring;    /* Leader: proposals are refused with -EBUSY for now. */
    bool is_impaired;
    bool
        is_whole; /* Impaired, and has all that it lacked: to be made durable (RAFT_INPUT_WHOLE). */
    bool is_quiet;
    uint64_t wake_at_ms; /* Step again no later than this; UINT64_MAX: nothing to wait for. */
};

struct raft;

/* Gives an instance that is a follower. The only voter campaigns at its first tick; with more of
 * them it first waits for an election timeout (I7: it may have promised one before it stopped).
 * Errors: -EINVAL when the options contradict themselves (a commit index above the last one, an
 * entry of a later term than the hard state). */
MUST_USE int raft_create(struct raft **raft, const struct raft_options *options,
                         struct error *error);
void raft_destroy(struct raft *raft);

/* Advance by one input. A non-zero status means nothing changed:
 *   ERROR_NOT_LEADER  for what only a leader may do
 *   -EBUSY            PROPOSE while leadership is handed over; CONFIGURE while another change is
 *                     under way or before the own term has committed, or to voters that have no
 *                     majority without those that are impaired (I8); TRANSFER to who is silent;
 *                     too many things to make durable are under way
 *   -EINVAL           CONFIGURE or TRANSFER to what is not possible; a snapshot older than what is
 *                     applied
 * CONFIGURE to what the configuration is already is no error and changes nothing; neither is a
 * message that is stale, not for this member, or an answer from a stranger.
 * `output` borrows from `raft` until the next step. */
MUST_USE int raft_step(struct raft *raft, const struct raft_input *input,
                       struct raft_output *output);

raft_index raft_last_index(const struct raft *raft);
/* As it will be once everything is durable. */
struct raft_hard_state raft_hard_state(const struct raft *raft);
/* Of an entry that the log has, or that is the one before its first; 0 when it is neither. */
raft_term raft_entry_term(const struct raft *raft, raft_index index);
/* The newest in the log; and whether it is joint, or not committed yet. */
const struct raft_configuration *raft_latest_configuration(const struct raft *raft);
raft_index raft_latest_configuration_index(const struct raft *raft);
/* The newest at or before `index`; for snapshots and meta rows. NULL when it is not known any
 * more. */
const struct raft_configuration *raft_configuration_at(const struct raft *raft, raft_index index,
                                                       raft_index *configuration_index);

enum raft_progress {
    RAFT_PROGRESS_PROBE,     /* Where the logs agree is being found out, one message at a time. */
    RAFT_PROGRESS_REPLICATE, /* Pipelined. */
    RAFT_PROGRESS_SNAPSHOT,
};

/* What a leader knows of a member. */
struct raft_peer {
    raft_node node;
    enum raft_progress progress;
    raft_index match_index;
    raft_index next_index;
    uint64_t heard_at_ms; /* 0: never. */
    bool is_voter;
    bool is_impaired; /* I8. */
    bool is_silent;   /* For an election timeout, or it is thought to be dead. */
};
/* The members but this one, ascending. Returns how many were put into `peers`: 0 unless this is the
 * leader. */
uint32_t raft_get_peers(const struct raft *raft, struct raft_peer peers[RAFT_PEER_COUNT_MAX]);

#endif
