/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef CORE_SHARD_SHARD_INTERNAL_H
#define CORE_SHARD_SHARD_INTERNAL_H

#include "base/random/random.h"
#include "core/shard/shard.h"
#include "core/shard/shard_message.h"
#include "core/shard/shard_window.h"

/* Changes are handed to the store in batches of at least so much, unless they get old: sorted rows
 * that come in number are near each other in the store's memory. It takes 3.5 µs for one alone,
 * 1.7 µs each for 8,192 and 1.0 µs for 65,536. */
#define SHARD_STORE_ROW_COUNT 65536u
#define SHARD_STORE_SIZE_BYTES (4u << 20)
#define SHARD_STORE_DELAY_MS 4000u
/* Readers that need the store wait for the batch that is under way: after one of them has come, the
 * next batches are smaller. */
#define SHARD_STORE_HURRIED_BATCH_COUNT 16u
#define SHARD_STORE_HURRIED_SHARE 8u

/* An entry is closed when it holds this much; a single larger command still fits. */
#define SHARD_ENTRY_SIZE_BYTES_SOFT_MAX (1u << 20)
#define SHARD_ENTRY_COMMAND_COUNT_MAX 4096u
_Static_assert(SHARD_ENTRY_COMMAND_COUNT_MAX < 1u << 16, "an ordinal has 16 bits of the version");

/* While so many entries are under way, a small one waits and grows: fewer, larger batches cost less
 * than many small ones, and one more flush is what it would wait for anyway. Where shards share a host,
 * it may also wait for those of the others (core/pace). */
#define SHARD_SMALL_ENTRIES_IN_FLIGHT_MAX 2u
/* Of one member alone, the second of them waits behind the flush of the first, so it need not hurry: it
 * goes when it is worth a flush. (In a group it would be on its way to the others meanwhile.) */
#define SHARD_NEXT_ENTRY_ITEM_COUNT_MIN 16u
#define SHARD_NEXT_ENTRY_SIZE_BYTES_MIN (16u << 10)

/* What an entry answers, in order: a write is the next command of the payload, a read is the
 * request's copy. Background work has no request. */
struct shard_item {
    struct shard_request *request;
    bool is_write;
    size_t reply_end; /* Where the reply ends in `replies`, once applied. */
};

/* What an entry needs until it is answered. Those that are kept for other replicas have none of it. */
struct shard_answers {
    struct shard_item *items;
    uint32_t item_count;
    uint32_t item_capacity;
    uint32_t answered_count; /* Of the items: their replies are not in `replies` any more. */
    struct buffer replies;
};

/* One log entry from the first command gathered to the last reply. */
struct shard_entry {
    struct list link;
    raft_index index;
    raft_term term;
    uint64_t persist_sequence; /* The log writer borrows the payload until this is durable. */
    uint64_t pace_ticket;      /* 0: the pace does not count it. */
    bool has_identities;       /* A command has one. */
    struct buffer payload;
    uint32_t command_count;
    uint64_t load_size_bytes; /* What its commands read and make of values; while it gathers. */
    struct shard_answers answers;
};

/* The entries in memory; shard_log.c. */
struct shard_log {
    struct shard_entry **entries; /* A ring of `capacity`, 0 or a power of two. */
    uint32_t capacity;
    uint32_t start;
    uint32_t count;
    raft_index first_index; /* Of the entry at `start`. */
    raft_index own_index;   /* Entries from here on came in this life; 0: none did. */
    uint64_t size_bytes;    /* Of payloads. */
};

/* One of several entries that were read from the log, one behind the other. */
struct shard_read_entry {
    raft_term term;
    size_t payload_end;
};

/* Entries that are read where the log is driven, as many as one read may have. Many may wait for their turn. */
#define SHARD_LOG_READ_COUNT_MAX 512u
struct shard_log_read {
    struct shard *shard;
    raft_index first_index;
    uint32_t wished_count;
    uint32_t entry_count;      /* That were read. */
    raft_index readable_index; /* The first that can be. */
    int status;                /* Of the one behind those that were read; 0: they were enough. */
    struct error failure;      /* Why it could not be. */
    struct shard_read_entry *entries; /* NULL until it is their turn. */
    struct buffer payloads;
    void (*done)(struct shard_log_read *read);
};

/* What the meta row says; shard_meta.c. */
struct shard_meta {
    bool is_impaired; /* I8 of raft. */
    /* After a split (decision 18). Without: the slots that the shard was made with. */
    bool has_range;
    uint32_t first_slot;
    uint32_t end_slot;
    raft_index index;
    raft_term term;
    uint64_t stamp_ms;
    uint64_t digest;
    raft_index configuration_index;
    struct raft_configuration configuration; /* No voters: not a member yet. */
    struct bytes saved;                      /* By the state machine. */
};

/* What a leader was asked, to be looked at when that round is confirmed; shard_ask.c. */
#define SHARD_ASKED_COUNT_MAX 8u
struct shard_asked {
    enum shard_message_kind kind;
    raft_node node;
    struct shard_question question;
    uint64_t round;
};

/* A read, or the prefetch of a write, which goes into the log afterwards. */
struct shard_read_item {
    struct shard_request *request;
    int status;               /* ERROR_INCOMPLETE: not reached. */
    size_t reply_end;         /* Where its reply ends in `replies`. */
    uint64_t load_size_bytes; /* Of a prefetch. */
};

#define SHARD_READ_ITEM_COUNT_MAX 64u
/* So many of these parts are under way at a time. */
#define SHARD_READS_ELSEWHERE_MAX 4u

/* Requests that go to the disk together. Those of one session are neighbours. */
struct shard_read {
    struct shard *shard;
    struct env_store_snapshot *snapshot;
    struct shard_moment moment;
    uint64_t reign; /* In which it began. */
    uint32_t item_count;
    struct shard_read_item items[SHARD_READ_ITEM_COUNT_MAX];
    struct buffer replies;
};

/* The batch on its way to the store. */
struct shard_write {
    struct shard *shard;
    raft_index index;  /* Of the last entry in it. */
    uint64_t stamp_ms; /* The newest up to that entry. */
    struct slots_range range;
    bool has_split; /* It is flushed. */
    bool has_flag;  /* It says that the replica is not impaired any more. */
    int status;
    struct error error;
};

/* That a replica is whole again becomes durable (shard_prove.c). */
struct shard_proof {
    struct shard_work work;
    bool is_wanted;  /* Raft waits for it. */
    bool is_written; /* The store says so, and needs a flush. */
    bool is_working;
    uint64_t retry_at_ms;
    int status;
    struct error error;
};

/* So many times a full batch may gather while a replay waits for the one before. */
#define SHARD_STORE_EXCESS 3u

/* What SPLIT says. Child 0: there is none. */
struct shard_split {
    wal_shard child;
    uint32_t first_slot;
};

/* Entries that a replay has read before it applies them. */
struct shard_ahead {
    raft_index first_index;
    uint32_t count;
    uint32_t capacity;
    struct shard_read_entry *items;
    struct buffer payloads;
};

struct shard {
    struct shard_options options;
    struct rows *rows;
    struct raft *raft;
    struct random random;
    /* What Raft said last. */
    enum raft_role role;
    raft_term term;
    raft_node leader;
    raft_index commit_index;
    raft_index start_index; /* Of the empty entry with which this term began. */
    uint64_t confirmed_round;
    uint64_t lease_until_ms;
    uint64_t raft_wake_at_ms;
    bool is_transferring;
    bool is_quiet;

    uint64_t durable_sequence; /* Everything that Raft numbered up to here is durable. */
    uint64_t reign;            /* Counts how often leadership was lost. */
    bool is_deposed;           /* It was lost, and requests have to be handed back. */
    bool is_stateless;         /* The rows are being replaced: nothing is read or applied. */
    bool is_impaired;          /* I8 of raft. */
    bool is_flag_stale;        /* The store says that it is impaired, and it is not any more. */
    struct shard_proof proof;
    bool is_narrow; /* Without any state, and its log must not begin at the first entry. */
    bool is_split_unanswered; /* SPLIT was applied: what waits has to be handed back. */
    bool is_splitting; /* Leader: SPLIT was gathered, and what waited is not handed back yet. */
    uint64_t issued_sequence; /* The newest of what was given to be made durable. */

    /* What the meta row says. */
    raft_index applied_index;
    raft_term applied_term;
    uint64_t applied_stamp_ms;
    uint64_t digest;
    bool has_range; /* It tells the range, too. */

    struct slots_range range;        /* As of the applied entry. */
    struct slots_range stored_range; /* As of what the store has. */
    struct shard_split split;        /* Of the entry that is being applied. */
    raft_index split_index;          /* Of the newest SPLIT, or somewhat later. */

    uint64_t stamp_ms; /* Of the newest entry, proposed or applied. */

    struct raft_configuration configuration; /* As of the applied index. */
    raft_index configuration_index;

    struct shard_entry *open; /* Gathers this tick's commands; never NULL. */
    struct shard_log log;
    uint32_t in_flight_count;      /* In the log and not applied. */
    uint64_t in_flight_size_bytes; /* Of their payload, and of what is gathered. */
    uint64_t accounted_size_bytes; /* What of it the account knows. */
    struct list retired;           /* Cut off, but not durable yet. */
    struct shard_window *window;
    uint64_t window_age_at_ms;    /* UINT64_MAX: nothing was applied */
    raft_index window_rest_index; /* since this. */
    uint64_t floors_told_at_ms;
    uint64_t forgotten_told_count; /* Answers that had been forgotten then. */
    bool is_answering_early;       /* In the midst of an entry: nothing may be submitted. */
    struct list early;             /* Sessions that go on when it is executed. */
    /* Applied, not answered: the batch before its own must be written first. */
    struct shard_entry *stalled;
    struct list free_entries;
    struct shard_answers spare_answers; /* For the next entry that needs some; empty. */
    uint64_t free_size_bytes;           /* What they keep. */
    struct shard_ahead ahead;
    struct shard_log_read *reread; /* Entries that are read once more: on its way, or back. */
    bool is_reread_back;
    bool is_reread_refused; /* It is asked for at a tick. */
    bool is_window_open;    /* The answers of the entry that is executed are remembered. */
    struct buffer found;    /* Of the entry that is executed, a byte for each command. */
    const uint8_t *known;   /* What they found before; NULL: nobody knows. */

    /* stored <= handed <= applied. Up to `stored` the store has everything; up to `handed` it is in
     * the batch, which is under way or was refused. */
    raft_index stored_index;
    raft_index handed_index;
    uint64_t stored_stamp_ms;   /* The newest up to the stored entry. */
    uint64_t unstored_since_ms; /* When the oldest change that was not handed over was made. */
    struct shard_write write;
    bool is_writing;              /* The host has it. */
    bool may_exceed;              /* A replay fills the next one. */
    uint64_t retry_at_ms;         /* Of a batch that was refused. */
    uint32_t hurried_batch_count; /* So many of the next ones are small. */

    /* What waits for the disk pool, reads also for the store to have what they must see. */
    struct list cold_reads;
    struct list cold_writes;  /* Their prefetches. */
    uint32_t cold_count;      /* Of both. */
    uint32_t reads_elsewhere; /* Batches of them that are under way. */

    /* Reads that may be answered once a quorum has confirmed `confirm_round`, and those that came
     * since that question was asked. */
    struct list confirming;
    struct list unconfirmed;
    uint64_t confirm_round;

    /* Requests that wait for a transaction which holds, or may hold, a key of them. */
    struct list locked;
    bool may_resume_locked; /* One of them may be free, since they were last looked at. */

    /* Replication. */
    struct list waiting_sends;
    struct list spare_sends; /* Memory for the next one, or none. */
    uint32_t waiting_send_count;
    struct list log_reads;
    uint32_t log_reads_under_way;
    struct list snapshots; /* Being given. */
    struct shard_install *install;
    uint32_t works_elsewhere;

    /* Of one that hears of no leader: when to ask whether it belongs to the group, and what was asked;
     * 0: nothing, or it has answered somebody since. */
    uint64_t doubt_at_ms; /* UINT64_MAX: not while the group is quiet. */
    uint64_t doubt_interval_ms;
    uint64_t question;
    struct shard_discard *discard; /* Everything is being given up: Raft stands still. */
    /* Leader: what others asked. */
    struct shard_asked asked[SHARD_ASKED_COUNT_MAX];
    uint32_t asked_count;

    bool is_background_pending;
    uint64_t background_at_ms;
    bool is_full;
    bool has_failed;

    uint64_t follows_since_ms; /* 0: it leads, is alone, or is about to be looked at. */
    uint64_t shorten_at_ms;    /* Not before: rows become short. */

    struct bytes *arguments; /* Of the command being decoded. */
    uint32_t argument_capacity;
    struct buffer scratch;
    struct shard_statistics statistics;
    struct demand demand; /* Of the requests that it takes. */
};

/* ---- shard_entry.c: the payload of an entry; docs/formats/entry.md ---------------------------- */

#define SHARD_ENTRY_HEADER_SIZE_BYTES 16u

/* A command of the log, with the identity of who asked for it (origin 0: none) and the protocol of
 * the reply. */
struct shard_decoded {
    struct shard_command command;
    uint64_t origin;
    uint64_t sequence;
    uint8_t protocol;
};

void shard__entry_begin(struct buffer *payload);
void shard__entry_add(struct buffer *payload, const struct shard_decoded *decoded);
void shard__entry_end(struct shard_entry *entry, uint64_t time_ms);
uint64_t shard__command_size_bytes(const struct shard_command *command);
/* It has no commands, but reads may be ordered behind it. */
bool shard__entry_is_configuration(const struct shard_entry *entry);

struct shard_decoder {
    struct bytes rest;
    uint32_t command_count;
    uint64_t time_ms;
};
MUST_USE int shard__decode_begin(struct shard_decoder *decoder, struct bytes payload);
/* The next command; its arguments are in `shard->arguments` until the next call. */
MUST_USE int shard__decode_next(struct shard *shard, struct shard_decoder *decoder,
                                struct shard_decoded *decoded);

/* ---- shard_log.c ----------------------------------------------------------------------------- */

void shard__log_init(struct shard *shard);
void shard__log_deinit(struct shard *shard);
struct shard_entry *shard__entry_take(struct shard *shard);
void shard__entry_give(struct shard *shard, struct shard_entry *entry);
/* Before it has items, or is executed; and when it is answered. */
void shard__entry_lend_answers(struct shard *shard, struct shard_entry *entry);
void shard__entry_end_answers(struct shard *shard, struct shard_entry *entry);
/* The entry that gathers is to be put into the log: give it, as large as it is, and open the next. */
struct shard_entry *shard__entry_close(struct shard *shard);
/* NULL when it is not in memory. */
struct shard_entry *shard__log_at(const struct shard *shard, raft_index index);
void shard__log_push(struct shard *shard, struct shard_entry *entry);
/* It is in flight no more. */
void shard__log_land(struct shard *shard, struct shard_entry *entry);
/* Entries from `index` on are void. */
void shard__log_truncate(struct shard *shard, raft_index index);
/* Entries up to `index` go; those behind `applied` were in flight. */
void shard__log_drop(struct shard *shard, raft_index index, raft_index applied);
/* Let go of applied entries that nobody is likely to want. */
void shard__log_trim(struct shard *shard);
/* Let go of entries that wait to be applied, if they are too many (shard_reread.c). */
void shard__log_relieve(struct shard *shard);
void shard__log_free_retired(struct shard *shard);

/* ---- shard_ahead.c --------------------------------------------------------------------------- */

/* Give the entry the payload and the term that the log has for its index, reading ahead if that is
 * worth it. False: nothing is known of it. */
bool shard__ahead_take(struct shard *shard, struct shard_entry *entry);
void shard__ahead_deinit(struct shard *shard);

/* ---- shard_reread.c -------------------------------------------------------------------------- */

/* Of one that is not in memory: did the log get it in this life? */
bool shard__reread_has(const struct shard *shard, raft_index index);
/* The one that is to be applied next: have it read. False: it is not back yet; applying goes on when it is. */
bool shard__reread_is_back(struct shard *shard, raft_index index);
/* It is back: give the entry the payload and the term that the log has for its index. ERROR_CORRUPT, -EIO:
 * the log is damaged. */
MUST_USE int shard__reread_take(struct shard *shard, struct shard_entry *entry,
                                struct error *error);
/* What is read is of no use any more. */
void shard__reread_cancel(struct shard *shard);
/* Returns when to be called again. */
uint64_t shard__reread_tick(struct shard *shard, uint64_t now_ms);

/* ---- shard_apply.c --------------------------------------------------------------------------- */

void shard__apply_committed(struct shard *shard);
/* It is applied, and the store need not have it any more. */
void shard__answer_stalled(struct shard *shard);
void shard__fail(struct shard *shard, int status, const struct error *error);
uint64_t shard__time_ms(const struct shard *shard);
/* Has the group no other member? */
static inline bool shard__is_alone(const struct shard *shard)
{
    const struct raft_configuration *members = &shard->configuration;
    return members->voter_count + members->outgoing_count + members->learner_count <= 1;
}

/* ---- shard_meta.c ---------------------------------------------------------------------------- */

#define SHARD_META_KEY_SIZE_BYTES 6u
struct bytes shard__meta_key(wal_shard id, uint8_t key[SHARD_META_KEY_SIZE_BYTES]);
/* `saved` is borrowed from the source. ERROR_CORRUPT; ERROR_NEWER_FORMAT. */
MUST_USE int shard__meta_decode(struct bytes source, struct shard_meta *meta);
void shard__meta_set_impaired(struct buffer *encoded);
void shard__meta_set_whole(struct buffer *encoded);
void shard__meta_encode(const struct shard_meta *meta, struct buffer *target);
/* Take over what the store says. */
MUST_USE int shard__meta_load(struct shard *shard, struct error *error);
/* Which slots a state with that meta row has. */
struct slots_range shard__meta_range(const struct shard *shard, const struct shard_meta *meta);
/* The rows of a range: lower <= row < upper. Appends. Any thread. */
void shard__bounds_of(const struct shard *shard, const struct slots_range *range,
                      struct buffer *lower, struct buffer *upper);
/* Put what is applied into the rows. */
void shard__meta_store(struct shard *shard);

/* Append the row of what is applied. */
void shard__meta_append(struct shard *shard, struct buffer *target);

/* ---- shard_ask.c ----------------------------------------------------------------------------- */

/* Of one that has nothing: tell the leader that what it sends is from before a split. */
void shard__ask_narrow(struct shard *shard, raft_node leader);
/* A leader or a candidate was heard of, and may be answered. */
void shard__ask_later(struct shard *shard);
/* Returns when to be called again. */
uint64_t shard__ask_tick(struct shard *shard, uint64_t now_ms);
MUST_USE int shard__ask_receive(struct shard *shard, raft_node from, enum shard_message_kind kind,
                                struct bytes message);
/* After any step: look at what was asked. */
void shard__ask_answer(struct shard *shard);

/* ---- shard_discard.c ------------------------------------------------------------------------- */

MUST_USE int shard__discard_receive(struct shard *shard, raft_node from, struct bytes message);
void shard__discard_persisted(struct shard *shard);
/* The same; Raft hears of it. */
uint64_t shard__prove_tick(struct shard *shard, uint64_t now_ms);
/* Returns when to be called again. */
uint64_t shard__discard_tick(struct shard *shard, uint64_t now_ms);
void shard__discard_deinit(struct shard *shard);

/* ---- shard_floor.c --------------------------------------------------------------------------- */

/* Tell the others, and let go of what is forgotten. Returns when to be called again. */
uint64_t shard__floor_tick(struct shard *shard, uint64_t now_ms);
MUST_USE int shard__floor_receive(struct shard *shard, struct bytes message);

/* ---- shard_impair.c -------------------------------------------------------------------------- */

/* Is a majority of the voters left without it? */
bool shard__is_dispensable(const struct raft_configuration *members, raft_node self);

/* ---- shard_split.c --------------------------------------------------------------------------- */

/* False: the command is no good SPLIT. */
bool shard__split_parse(const struct shard_command *command, struct shard_split *split);
/* May SPLIT go into the log now? */
bool shard__may_split(const struct shard *shard);
/* Note what a SPLIT of the log says. ERROR_CORRUPT: it contradicts the state. */
MUST_USE int shard__split_note(struct shard *shard, const struct shard_command *command);
/* The entry is applied, and this was its last command. */
MUST_USE int shard__split_apply(struct shard *shard, struct error *error);
/* Once the entry is answered: hand back what waits. */
void shard__split_hand_back(struct shard *shard);
/* Does the request name slots that the shard does not have, or not all that it has? Then it has not come
 * to a split yet that whoever asks knows of. */
bool shard__lags(const struct shard *shard, const struct shard_request *request);
bool shard__has_moved(const struct shard *shard, const struct shard_request *request);

/* ---- shard_store.c --------------------------------------------------------------------------- */

/* Hand what was applied to the store, in the background. False: the batch before it is not written
 * yet. */
bool shard__hand_over(struct shard *shard);
/* In a replay: may changes gather beyond that while a batch is under way? And is it still? */
bool shard__may_exceed(const struct shard *shard);
void shard__hear_of_writes(struct shard *shard);
/* Are there so many changes that they should be handed over? */
bool shard__is_store_due(const struct shard *shard);
/* Hand over what is old or was refused. Returns when to look again. */
uint64_t shard__hand_over_due(struct shard *shard, uint64_t now_ms);
/* Is anything on its way to or from the store? */
bool shard__is_store_busy(const struct shard *shard);
/* Is a batch with SPLIT on its way, or refused? The store may have it, and not durably. */
bool shard__is_split_under_way(const struct shard *shard);

/* ---- shard_request.c ------------------------------------------------------------------------- */

void shard__add_background(struct shard *shard, const struct shard_command *command);
void shard__add_write(struct shard *shard, struct shard_request *request);
void shard__answer(struct shard *shard, struct shard_request *request, struct bytes reply);
/* In the midst of an entry. What waits in its session starts at shard__resume_early(). */
void shard__answer_early(struct shard *shard, struct shard_request *request, struct bytes reply);
void shard__resume_early(struct shard *shard);
/* The arguments of a request outlive its submission. */
void shard__copy_command(struct shard_request *request);
/* Start what waits in the session, as far as it may. Answers go through done(). */
void shard__resume_session(struct shard *shard, struct shard_session *session);
/* A quorum has confirmed what was asked, or the lease covers it: start the reads that waited. */
void shard__resume_confirmed(struct shard *shard);
/* Something was applied: start the requests that need not wait for a transaction any more. */
void shard__resume_locked(struct shard *shard);
/* Must it wait for a transaction? Then it does, alone in its session, like one whose rows are on their
 * way to memory. */
bool shard__must_wait(const struct shard *shard, const struct shard_request *request);
/* The same of one that is to go into the log, also a read that may be stale, which waits for nothing else: where it
 * stands behind SPLIT it would be executed by who has its slots no more. */
bool shard__must_wait_for_log(const struct shard *shard, const struct shard_request *request);
void shard__wait_for_lock(struct shard *shard, struct shard_request *request);
/* Must a write wait, and would it rather not? Then `reply` has its answer. */
bool shard__declines(struct shard *shard, const struct shard_request *request,
                     const struct reply *reply);
/* Nobody waits for a lock, as far as the machine knows. */
void shard__forget_waiting(struct shard *shard);
void shard__answer_unconfirmed(struct shard *shard);

/* ---- shard_depose.c: leadership was lost ----------------------------------------------------- */

/* Give all requests back that were not answered. */
void shard__hand_back_all(struct shard *shard);
/* Those that are in no entry. */
void shard__hand_back_waiting(struct shard *shard);
/* Those of an entry, whose commands are in its payload. */
void shard__hand_back_entry(struct shard *shard, struct shard_entry *entry);
/* One that has a copy of its command, with what waits behind it in its session. */
void shard__hand_back(struct shard *shard, struct shard_request *request);
/* One that is in no log. */
void shard__hand_back_untouched(struct shard *shard, struct shard_request *request);

/* ---- shard_read.c ---------------------------------------------------------------------------- */

/* The request will be read, or its rows prefetched, by a worker. Its session is alone until
 * then. */
void shard__go_elsewhere(struct shard *shard, struct shard_request *request);
/* Hand what was delayed to the workers, as far as they are free. */
void shard__start_reads(struct shard *shard);

/* ---- shard_replicate.c ----------------------------------------------------------------------- */

void shard__replicate_init(struct shard *shard);
void shard__replicate_deinit(struct shard *shard);
void shard__send(struct shard *shard, const struct raft_send *sends, uint32_t send_count);
void shard__send_what_is_durable(struct shard *shard);
void shard__cancel_reads(struct shard *shard);
/* What the read has; whoever began it frees the rest. */
void shard__log_read_deinit(struct shard_log_read *read);
/* The payload of entry i of those that it has; borrowed. */
struct bytes shard__log_read_payload(const struct shard_log_read *read, uint32_t i);

/* ---- shard_snapshot.c, shard_install.c ------------------------------------------------------- */

void shard__snapshot_start(struct shard *shard, raft_node to);
MUST_USE int shard__snapshot_receive(struct shard *shard, raft_node from, struct bytes message);
/* Returns when to be called again. */
uint64_t shard__snapshot_tick(struct shard *shard, uint64_t now_ms);
void shard__snapshot_cancel(struct shard *shard);

MUST_USE int shard__install_receive(struct shard *shard, raft_node from, struct bytes message);
/* What is installed is impaired, too. Gives the key of the mark, which may be durable already. */
struct bytes shard__install_set_impaired(struct shard *shard);
/* At the start; may replace what the meta row says. */
MUST_USE int shard__install_resume(struct shard *shard, struct shard_meta *meta,
                                   struct error *error);
uint64_t shard__install_tick(struct shard *shard, uint64_t now_ms);
void shard__install_deinit(struct shard *shard);
/* Where the store has what is staged of a shard: from the first to before the second; and the mark. */
#define SHARD_INSTALL_KEY_SIZE_BYTES 6u
void shard__install_keys(wal_shard id, uint8_t keys[3][SHARD_INSTALL_KEY_SIZE_BYTES],
                         struct bytes staged[3]);

/* ---- shard.c --------------------------------------------------------------------------------- */

/* Have Raft look at the time. */
void shard__step_tick(struct shard *shard);
void shard__step_whole(struct shard *shard);
uint64_t shard__now_ms(const struct shard *shard);
/* Have Raft take the open entry. It stays open when that is not possible now. */
void shard__propose_open(struct shard *shard);
/* Bring the account that shards share up to date. */
void shard__account(struct shard *shard);
/* With so much more: would more than `most` be in flight on the host, and more than the even part of `own_most` here? */
bool shard__is_beyond(const struct shard *shard, uint64_t more, uint64_t most, uint64_t own_most);
/* Something was applied: the machine may have work in the background. */
void shard__look_at_background(struct shard *shard);
void shard__step_received(struct shard *shard, const struct shard_received *received);
/* Of a message that never has entries. */
void shard__step_beat(struct shard *shard, const struct raft_message *message);
void shard__compacted(struct shard *shard, raft_index index);
/* Leader: of the entries for that member none behind `index` has left. */
void shard__append_cut(struct shard *shard, raft_node to, raft_index index);
/* Leader: that entry is committed, as is known from elsewhere. */
void shard__committed(struct shard *shard, raft_index index);
/* Leader: ask a quorum whether it is still the leader. Returns the round. */
uint64_t shard__confirm(struct shard *shard);
/* Have all entries void on the disk, with no number of its own; */
void shard__persist_void_log(struct shard *shard);
/* and with one, which is returned. */
uint64_t shard__void_log(struct shard *shard);
/* It has nothing any more: Raft begins anew, in the term in which it was. */
void shard__begin_again(struct shard *shard);
void shard__snapshot_ended(struct shard *shard, raft_node to, raft_index index, bool has_failed);
/* The state is the one of a snapshot from now on, though its rows are not in their place yet. */
void shard__adopt(struct shard *shard, const struct shard_meta *meta);
/* May a read be answered now, as far as leadership goes? Else a question is under way. */
bool shard__is_confirmed(struct shard *shard);
/* Nobody else can lead now. */
bool shard__has_lease(const struct shard *shard);
/* After any step: apply what is committed, hand requests back. */
void shard__finish_step(struct shard *shard);

#endif
