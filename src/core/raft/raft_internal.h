/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share.
 *
 * raft.c                creation, one step, output
 * raft_log.c            indexes, terms and configurations of the log
 * raft_durable.c        what is to be made durable, and up to where it is
 * raft_configuration.c  members, quorums, bytes of a configuration
 * raft_election.c       followers' timers, pre-votes, votes (§3.4, §3.6, §9.6)
 * raft_follow.c         what a leader's requests do (§3.5, I8)
 * raft_lead.c           beginning to lead, ticks, commitment, transfer, changes of members
 * raft_replicate.c      the flow of entries to each member (§3.5, §10.2.1)
 * raft_lease.c          leases and rounds for reads (§6.4)
 *
 * The memory of an instance is laid out so that a small idle group touches few pages: what every
 * step needs comes first, the long arrays last. What is seldom long grows when it is. */
#ifndef CORE_RAFT_RAFT_INTERNAL_H
#define CORE_RAFT_RAFT_INTERNAL_H

#include "base/number/number.h"
#include "base/random/random.h"
#include "core/raft/raft.h"

/* Appends that may be under way to one member; each has up to RAFT_APPEND_ENTRY_COUNT_MAX
 * entries. */
#define RAFT_FLIGHT_COUNT_MAX 16u
/* Appends to one member out of one step; its answers bring the next ones. */
#define RAFT_APPENDS_PER_STEP_MAX 3u
/* Writes of entries that are told apart while they are under way; more are taken together. */
#define RAFT_WRITE_COUNT_MAX 64u
/* A log keeps its newest configurations. All but the last are committed, because a change begins
 * only when the one before it is (I5): truncation reaches one of them at most. */
#define RAFT_KNOWN_CONFIGURATION_COUNT_MAX 8u
/* Terms that a log may hold; a recovered one that has more gets more room. */
#define RAFT_RUN_COUNT_MIN 128u

/* Entries from `index` on, up to the next run, are of `term`. */
struct raft_run {
    raft_index index;
    raft_term term;
};

struct raft_known_configuration {
    raft_index index;
    struct raft_configuration configuration;
};

/* Entries first_index .. last_index. `previous_term` is that of the one before the first. When
 * the runs are full the oldest is forgotten, as if its entries had been compacted: what they are
 * needed for, a snapshot does as well. */
struct raft_log {
    raft_index first_index;
    raft_index last_index;
    raft_term previous_term;
    uint32_t run_count;
    uint32_t run_capacity; /* It holds no more; memory is there for `run_room`. */
    uint32_t run_room;
    uint32_t configuration_count; /* At least 1. */
    struct raft_run *runs;
    struct raft_known_configuration configurations[RAFT_KNOWN_CONFIGURATION_COUNT_MAX];
};

/* Entries up to `index` are durable once `sequence` is. */
struct raft_write {
    uint64_t sequence;
    raft_index index;
};

/* What a leader knows of another member. */
struct raft_replica {
    raft_node node;
    enum raft_progress progress;
    bool is_leaving; /* Not in the newest configuration; told of it until it is committed. */
    bool is_snapshot_wanted;
    bool is_lost; /* So it was said, and nothing was heard of it since: quiet without it. */
    raft_index match_index;
    raft_index next_index;    /* Above match_index. */
    raft_index stuck_index;   /* Its match when its last heartbeat came back; UINT64_MAX: none. */
    uint64_t heard_at_ms;     /* 0: never. */
    uint64_t patient_from_ms; /* Its silence counts from here at the earliest. */
    uint64_t probe_at_ms;     /* PROBE: not before. */
    bool has_probed;          /* PROBE: entries were sent, and may still come. */
    uint64_t snapshot_at_ms;  /* The next attempt: not before. */
    /* Of the newest request of this term that it answered, by the own clock (§6.4). */
    uint64_t answered_sent_at_ms;
    uint64_t answered_round;
    uint64_t match_sent_at_ms; /* Of the request whose answer gave match_index. */
    uint64_t lost_sent_at_ms;  /* Answers to older requests speak of a log that it has lost. */
    /* I8: its mark, when it was last heard, and the entry that was proposed then (0: not yet). */
    uint64_t mark;
    uint64_t marked_at_ms;
    raft_index mark_index;
    /* The last entry of each append that is under way, oldest first, a ring. */
    uint32_t flight_first;
    uint32_t flight_count;
    raft_index flights[RAFT_FLIGHT_COUNT_MAX];
};

struct raft_vote {
    raft_node node;
    bool is_granted;
};

struct raft {
    raft_node self;
    enum raft_role role;
    raft_node leader; /* 0: unknown. */
    bool is_impaired;
    bool is_whole;             /* Impaired only until that is durable. */
    bool is_newborn;           /* It has neither stood for election nor heard of a term. */
    uint64_t mark;             /* Of this life, if it is impaired. */
    raft_index verified_index; /* Impaired: up to here the log is what the leader has. */
    bool is_quiet;
    struct raft_hard_state hard_state;
    uint64_t now_ms;

    uint32_t election_timeout_ms;
    uint32_t heartbeat_interval_ms;
    uint32_t heartbeat_phase_ms;
    uint32_t persist_timeout_ms;
    uint32_t quiet_after_ms;

    raft_index commit_index;  /* Known to be committed, and in the own log; durable or not. */
    raft_index durable_index; /* The own log is durable up to here. */
    uint64_t sequence;        /* Of the newest thing to make durable. */
    uint64_t durable_sequence;
    uint64_t hard_state_sequence; /* Of the newest hard state. */
    uint64_t persisting_since_ms; /* No progress since then, when something is under way. */

    /* Followers and candidates. */
    uint64_t protected_until_ms; /* I7: no vote before. */
    uint64_t campaign_at_ms;
    bool is_transfer; /* The leader asked for this candidature. */
    uint32_t vote_count;

    /* Leaders. */
    raft_index start_index;
    uint64_t round;
    uint64_t heartbeat_at_ms;
    uint64_t worked_at_ms; /* Anything but heartbeats was last done then. */
    uint64_t quiet_since_ms;
    raft_node transfer_target; /* 0: none. */
    uint64_t transfer_until_ms;
    bool has_told_transfer_target;
    bool has_lost_lease; /* For the rest of the term: TIMEOUT_NOW was sent. */
    uint32_t replica_count;

    uint32_t persist_count;
    uint32_t send_count;
    uint32_t snapshot_count;
    uint32_t write_first;
    uint32_t write_count;

    struct random random;
    struct raft_log log;
    struct raft_persist persists[RAFT_PERSIST_COUNT_MAX];
    raft_node snapshots[RAFT_PEER_COUNT_MAX];
    struct raft_vote votes[RAFT_PEER_COUNT_MAX];
    struct raft_write writes[RAFT_WRITE_COUNT_MAX]; /* A ring. */
    struct raft_replica *replicas; /* Room for `replica_capacity`, RAFT_PEER_COUNT_MAX at most. */
    uint32_t replica_capacity;
    uint32_t send_capacity; /* RAFT_SEND_COUNT_MAX at most. */
    struct raft_send *sends;
};

/* ---- raft_log.c ------------------------------------------------------------------------------ */

/* The options were found to be valid. */
void raft__log_init(struct raft_log *log, const struct raft_options *options);
void raft__log_deinit(struct raft_log *log);
/* False: the log does not have the entry, nor is it the one before its first. */
bool raft__log_get_term(const struct raft_log *log, raft_index index, raft_term *term);
raft_term raft__log_last_term(const struct raft_log *log);
/* Is there room for entries of `term`? Not when the log has so many terms that are not committed
 * that none can be forgotten. */
bool raft__log_can_append(const struct raft_log *log, raft_term term, raft_index commit_index);
void raft__log_append(struct raft_log *log, raft_term term);
/* Of the entry `index`, the newest that has one. */
void raft__log_append_configuration(struct raft_log *log, raft_index index,
                                    const struct raft_configuration *configuration);
/* Entries from `index` on are void. */
void raft__log_truncate(struct raft_log *log, raft_index index);
/* Entries up to `index`, which the log has, cannot be read any more. */
void raft__log_compact(struct raft_log *log, raft_index index);
/* Empty, and begins behind `index`. */
void raft__log_reset(struct raft_log *log, raft_index index, raft_term term);
/* Replace the configurations up to `index` by this one. */
void raft__log_set_configuration(struct raft_log *log, raft_index index,
                                 const struct raft_configuration *configuration);
/* The last entry at or before `index` whose term is at most `term`: whoever has a log that differs
 * at `index`, which is of `term` there, can agree with this one up to there at best. */
raft_index raft__log_last_at_most(const struct raft_log *log, raft_index index, raft_term term);
const struct raft_known_configuration *raft__log_configuration_at(const struct raft_log *log,
                                                                  raft_index index);

/* ---- raft_durable.c -------------------------------------------------------------------------- */

void raft__set_hard_state(struct raft *raft, raft_term term, raft_node vote);
/* `count` entries from `index` on, which are in the log. */
struct raft_persist *raft__persist_entries(struct raft *raft, raft_index index, uint32_t count);
/* Takes them out of the log too. */
void raft__persist_truncation(struct raft *raft, raft_index index);
void raft__set_durable(struct raft *raft, uint64_t sequence);
/* What must be durable so that everything up to entry `index` is; 0: it is. */
uint64_t raft__sequence_of(const struct raft *raft, raft_index index);
bool raft__is_hard_state_durable(const struct raft *raft);
/* Up to where a leader may count itself. */
raft_index raft__own_match(const struct raft *raft);
/* I6. */
raft_index raft__applicable_index(const struct raft *raft);

/* ---- raft_configuration.c -------------------------------------------------------------------- */

/* I5: the newest in the log. */
const struct raft_configuration *raft__configuration(const struct raft *raft);
bool raft__is_voter(const struct raft *raft, raft_node node); /* Of either majority. */
bool raft__is_only_voter(const struct raft *raft);

/* What a quorum is asked for. */
enum raft_measure {
    RAFT_MEASURE_MATCH,
    RAFT_MEASURE_ROUND,
    RAFT_MEASURE_SENT_AT,
    RAFT_MEASURE_HEARD_AT,
    RAFT_MEASURE_GRANTED,     /* 1: it has granted its vote. */
    RAFT_MEASURE_NOT_REFUSED, /* 1: it has not refused it. */
};
/* The greatest value that a quorum reaches: a majority, of both configurations while joint. */
uint64_t raft__quorum(const struct raft *raft, enum raft_measure measure);

/* ---- raft_election.c ------------------------------------------------------------------------- */

void raft__restart_timer(struct raft *raft);
/* Follow `leader` (0: whoever it will be) in `term`, at least the own one. */
void raft__become_follower(struct raft *raft, raft_term term, raft_node leader);
/* A leader of the own term was heard of. */
void raft__heard_leader(struct raft *raft);
void raft__follower_tick(struct raft *raft);
uint64_t raft__follower_wake_at_ms(const struct raft *raft);
void raft__peer_lost(struct raft *raft, raft_node node);
void raft__peer_found(struct raft *raft, raft_node node);
/* I7. */
bool raft__is_protected(const struct raft *raft);
void raft__prevote_request(struct raft *raft, const struct raft_message *message);
void raft__prevote_reply(struct raft *raft, const struct raft_message *message);
void raft__vote_request(struct raft *raft, const struct raft_message *message);
void raft__vote_reply(struct raft *raft, const struct raft_message *message);
void raft__campaign(struct raft *raft);
void raft__timeout_now(struct raft *raft, const struct raft_message *message);
/* Become leader if there are enough votes, the own one durable. */
void raft__count_votes(struct raft *raft);

/* ---- raft_follow.c --------------------------------------------------------------------------- */

void raft__append_request(struct raft *raft, const struct raft_message *message,
                          const struct raft_entry *entries);
void raft__whole(struct raft *raft);
void raft__heartbeat_request(struct raft *raft, const struct raft_message *message);
/* Tell the sender of a request of an old term about the newer one. */
void raft__refuse_stale(struct raft *raft, const struct raft_message *message);
int raft__snapshot_installed(struct raft *raft, const struct raft_input *input);

/* ---- raft_lead.c ----------------------------------------------------------------------------- */

void raft__become_leader(struct raft *raft);
void raft__leader_tick(struct raft *raft, bool does_hurry);
uint64_t raft__leader_wake_at_ms(const struct raft *raft);
void raft__advance_commit(struct raft *raft);
/* What follows from what a step did: the second half of a change of members, a handover. */
void raft__leader_settle(struct raft *raft);
void raft__wake(struct raft *raft);
void raft__propose(struct raft *raft);
int raft__configure(struct raft *raft, const struct raft_configuration *configuration);
int raft__transfer(struct raft *raft, raft_node target);
/* Leader: is it thought to be dead, or (unless the group is quiet) not heard for an election timeout? */
bool raft__is_silent(const struct raft *raft, const struct raft_replica *replica);
void raft__confirm(struct raft *raft);

/* ---- raft_replicate.c ------------------------------------------------------------------------ */

struct raft_replica *raft__find_replica(struct raft *raft, raft_node node);
/* One for each member of the newest configuration. */
void raft__update_replicas(struct raft *raft);
void raft__forget_leaving(struct raft *raft);
/* Send what the member lacks, as far as it may be sent now. */
void raft__replicate(struct raft *raft, struct raft_replica *replica);
void raft__replicate_all(struct raft *raft);
void raft__send_heartbeat(struct raft *raft, const struct raft_replica *replica);
void raft__append_reply(struct raft *raft, const struct raft_message *message);
void raft__heartbeat_reply(struct raft *raft, const struct raft_message *message);
void raft__unreachable(struct raft *raft, raft_node node);
void raft__append_cut(struct raft *raft, raft_node node, raft_index index);
void raft__snapshot_sent(struct raft *raft, const struct raft_input *input);

/* ---- raft_lease.c ---------------------------------------------------------------------------- */

uint64_t raft__confirmed_round(const struct raft *raft);
uint64_t raft__lease_until_ms(const struct raft *raft);

/* ---- raft.c ---------------------------------------------------------------------------------- */

/* A message out of this step, to be filled in. It leaves after `after_sequence` and after the hard
 * state: whatever is said in a term, the term is durable (§3.8). */
struct raft_message *raft__send(struct raft *raft, enum raft_message_kind kind, raft_node to,
                                uint64_t after_sequence);
bool raft__is_consistent(const struct raft *raft);

#endif
