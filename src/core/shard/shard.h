/* SPDX-License-Identifier: Apache-2.0 */
/* shard: a replica of one range of the keyspace, member of one Raft group. Layer: core.
 *
 * The leader gathers the commands of a tick into one log entry, has Raft replicate and commit it,
 * applies it through a state machine, and answers. Reads are served at once from the leader's rows,
 * under its lease. The other replicas apply the same entries and answer nothing but reads that may
 * be stale. What the commands mean is the state machine's business; the shard sees an opcode and
 * arguments.
 *
 * Invariants
 *   I1. A write is answered only after the entry that holds it is committed, and it is executed.
 *   I2. Entries are applied in the order of their index, each exactly once in the life of the
 *       store: the changes of one or more entries go there as one batch, with the index of the
 *       last. The store may lag behind what was answered; the log then has the rest. One batch is
 *       being written while the next one gathers; when that is full too, answers wait.
 *   I3. Applying depends on nothing but the entry and the rows: time is the stamp in the entry, and
 *       stamps never go back.
 *   I4. Requests of one session take effect in the order of their submission. Answers may come out
 *       of order where that shows nothing (a read that goes to the disk): gateways order replies.
 *   I5. A read sees every write that was answered before it was submitted, by whatever leader. That
 *       a key has expired is seen by nobody before an entry of the log says so.
 *   I6. A request is answered exactly once, or handed back, or refused by shard_submit().
 *   I7. A write with an identity takes effect at most once, however often it is submitted and to
 *       whichever replica; a retry gets the reply of the first time, or is told that nobody knows.
 *   I8. Replicas that have applied the same index have the same digest.
 *
 * Exactly once (I7). Each replica remembers in memory the replies of the newest commands that it
 * has applied, by their identity (the *window*). A leader looks up each retry before it goes
 * into the log; as it has applied everything of earlier terms before it accepts anything, what it
 * does not find there, or in its open entries, is not in the log and never will be. A write that is
 * not marked a retry has never been submitted under its identity to a replica that took it. A
 * window reaches back to some index; a retry says up to which index its gateway had seen the shard
 * when it was first submitted, and if the window does not reach back so far, the outcome is
 * unknown.
 *
 * Forgetting. A gateway says now and then what it needs no more: its *floor*, for this shard. It
 * has nothing under way at the shard with a sequence below that, and never will: sequences grow,
 * a request is given one when it is submitted for the first time, keeps it, and has it for good
 * when it is done. So a floor never falls, and is true for ever, whoever passes it on, however
 * late, to whichever replica. The answers below it go, and the window reaches back as far as
 * before: what it has not, of a request that somebody waits for, is not in the log.
 *   What nobody waits for may still come: a retry that was given up while it stood in a queue of
 * another node, or was on the network. It must not take effect a second time now that its answer
 * is gone. So each replica remembers, for each gateway, below which sequence it has forgotten
 * anything; of a retry below that the outcome is unknown. It forgets the gateway only (there
 * were hundreds since) when its window does not reach back to what was forgotten of it; and a
 * replica that starts anew, or takes a snapshot, or is a child of a split, has a window that
 * begins there. A write that is not marked a retry is in no log, wherever its gateway's floor is
 * by now, and its answer is not kept if nobody waits for it.
 *   A pending write stays known as such until it is applied or handed back, whatever is said of it.
 *   A gateway that has died says nothing more: what it left goes when it is a few minutes old,
 * or by size, and is forgotten in the same way. One with older software says nothing at all.
 *
 * Leaving. A replica that has state and hears of no leader asks whether it still belongs to its
 * group. If a leader says that it does not, it gives up its rows, its log and the slots that it
 * claims, and is an empty one that is impaired (raft.h, I8): should it be taken back, it votes and
 * counts once it has all again (shard_discard.c, decision 18).
 *
 * Driven by a reactor of the node, or by the simulator. A shard belongs to one thread; only what
 * says so is called on another. Entries of the log: docs/formats/entry.md; messages between
 * replicas: docs/formats/replica.md. */
#ifndef CORE_SHARD_SHARD_H
#define CORE_SHARD_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "base/list/list.h"
#include "base/reply/reply.h"
#include "core/demand/demand.h"
#include "core/env/env.h"
#include "core/pace/pace.h"
#include "core/raft/raft.h"
#include "core/recall/recall.h"
#include "core/rows/rows.h"
#include "core/slots/slots.h"
#include "core/wal/wal.h"

/* ---- Commands and the state machine ---------------------------------------------------------- */

#define SHARD_ARGUMENT_COUNT_MAX (1u << 20)

/* The shard becomes two (decision 18): only the machine's background() makes this command, on the
 * leader. Arguments: number of the child (4 bytes, little-endian), its first slot (the same). It is
 * the last of its entry, and the leader lets nothing else go on until it is applied. */
#define SHARD_OPCODE_SPLIT 2100

struct shard_command {
    uint16_t opcode; /* Stable for ever: it is stored in the log. */
    uint32_t argument_count;
    const struct bytes *arguments;
};

/* What the log says of the entry that is being applied. */
struct shard_stamp {
    uint64_t time_ms; /* The leader's wall clock; never goes back. */
    uint64_t version; /* index << 16 | ordinal of the command: unique, grows with each command. */
    /* What the same command found when it was executed on the same state before; 0: nobody knows. */
    uint8_t known;
    /* Where it may say what it found, for the next time (recall.h); NULL: nobody wants to know. */
    uint8_t *found;
};

/* When a read happens. What expired by `durable_time_ms` is gone for ever: an applied entry of the
 * log has that stamp, and time never goes back. What expired after it, but by `time_ms`, nobody has
 * seen yet. */
struct shard_moment {
    uint64_t time_ms;
    uint64_t durable_time_ms; /* At most time_ms. */
    bool may_be_stale;        /* Then nobody waits for a transaction. */
};

/* A deterministic state machine. `context` is its own. */
struct shard_machine {
    void *context;

    /* Load what save() wrote (empty for a new shard), before anything else. */
    int (*load)(void *context, struct rows *rows, struct bytes saved, struct error *error);
    /* Append the state that is not in rows (counters); stored with the applied index. */
    void (*save)(void *context, struct buffer *saved);

    /* Execute a command of the log and answer it. Depends on nothing but its arguments, the rows
     * and what load() gave. A command that fails for its user answers an error, changes nothing and
     * returns 0; any other status means that the store failed, and the node stops. */
    int (*execute)(void *context, struct rows *rows, const struct shard_stamp *stamp,
                   const struct shard_command *command, const struct reply *reply);

    /* Answer a command that changes nothing. May run on another thread, on a snapshot, so it
     * touches nothing but rows; one without arguments runs there only if its rows are not in memory, and may
     * else look at the machine's state. ERROR_INCOMPLETE: not all is in memory; ERROR_EXPIRED_SEEN: a key
     * of the command expired by `moment->time_ms` and after `moment->durable_time_ms` (a key that
     * expired before is simply absent); ERROR_LOCKED: a transaction holds a key of the command. In
     * these cases the reply's content is dropped. Other errors: the store failed. */
    int (*read)(void *context, struct rows *rows, const struct shard_moment *moment,
                const struct shard_command *command, const struct reply *reply);

    /* Bring what the command will read into memory. 0 or ERROR_INCOMPLETE; runs as read() does. The
     * command may be one of the log, of which nothing is known. To `*load_size_bytes` is added how much
     * of values executing it will read to change them, and make of shorter arguments, as far as it is found; not
     * what the arguments have. */
    int (*prefetch)(void *context, struct rows *rows, const struct shard_command *command,
                    uint64_t *load_size_bytes);

    /* NULL, or: the command of the log will be executed soon. rows_approach() for its first row; gives what
     * that gave, or anything when there is none. */
    uint64_t (*approach)(void *context, const struct rows *rows,
                         const struct shard_command *command);

    /* The next thing that should be done without being asked (expired keys, garbage): fill
     * `command` with arguments borrowed until the next call, or return false; `*next_ms` says when
     * to ask again, unless something is applied before. */
    bool (*background)(void *context, struct rows *rows, uint64_t time_ms,
                       struct shard_command *command, uint64_t *next_ms);

    /* Both or none (NULL). On the leader, of a command that may go into the log next: may a key of
     * it be locked by a transaction at that place? Then it waits, and what its session submits
     * behind it, because it must not be passed by that. */
    bool (*must_wait)(void *context, const struct shard_command *command);
    /* The leader has put the command into the log: what it may lock, must_wait() has to know until
     * it is executed. NULL: that leadership is over; the next one begins when everything of it that
     * is in the log is executed. */
    void (*gathered)(void *context, const struct shard_command *command);

    /* Both or none (NULL). The command waits now, behind all that wait already. Whenever something
     * was applied, must_wait() is asked about each of them again, in that order, and those that
     * wait on are told once more, behind a NULL: nobody waits. So the machine can have what takes
     * locks wait for those who came before it. */
    void (*waits)(void *context, const struct shard_command *command);
    /* Of a write that must wait and has not waited yet: would it rather be answered? Then `reply`
     * has that, no log gets it, and a retry is asked anew. */
    bool (*declines)(void *context, const struct shard_command *command, const struct reply *reply);
    /* NULL, or: the leader is about to put a write into the log that will load so much of values
     * (prefetch()). Gives another command of the machine's own that says in its place why not, with
     * arguments that stay as they are, or NULL: it may go. So a refusal has its place in the order of
     * its session, and a retry gets the same answer. */
    const struct shard_command *(*instead)(void *context, const struct shard_command *command,
                                           uint64_t load_size_bytes);

    /* Both or none (NULL: such a shard is never split). The slots of the shard: before load(), with
     * what the meta row or else the options say; and when it is narrowed. */
    void (*set_range)(void *context, uint32_t first_slot, uint32_t end_slot);
    /* SPLIT is applied, in place of execute(): from now on the shard ends at `first_slot`. Append
     * to `child_saved` what the machine of the child will load(). Rows stay where they are; it
     * changes none. Any status but 0 means that the log contradicts the state (ERROR_CORRUPT) or
     * that the store failed. */
    int (*split)(void *context, struct rows *rows, uint32_t first_slot, struct buffer *child_saved);

    /* The slot of a key of the command, which one `lot` decides, if there are several; below 0: it has
     * none. NULL: nobody knows. */
    int32_t (*slot_of)(void *context, const struct shard_command *command, uint64_t lot);
};

/* ---- Requests -------------------------------------------------------------------------------- */

/* One client's order of requests; embedded in what the gateway keeps of a connection. */
struct shard_session {
    struct list waiting;    /* Requests that may not start yet. */
    uint32_t pending_count; /* Started and not answered. */
    bool is_alone;          /* The started ones must be answered before the next may start. */
    struct list early;      /* In the shard's, if some wait behind what was answered early. */

    /* core/route's own. */
    struct {
        void *line;          /* Requests that it keeps for the session. */
        uint64_t number;     /* Its name elsewhere; 0: none yet. */
        wal_shard shard;     /* Of what the local replica has, */
        uint16_t first_slot; /* for which slots, */
        uint16_t end_slot;
        uint32_t local_count; /* how much that is, */
        uint32_t local_epoch; /* and since when. */
        struct list
            reads; /* Of these and of what it handed back: in order, those to be answered. */
    } route;
};

struct shard_request {
    /* Borrowed for shard_submit() only. What comes back may be what instead() gave. */
    struct shard_command command;
    uint8_t protocol;  /* Of the reply: 2 or 3. */
    bool is_write;     /* execute(); else read(). */
    bool does_grow;    /* Refused with -ENOSPC while the shard is full. */
    bool may_be_stale; /* A read that any replica may answer that has anything. */
    bool is_cheap;     /* A read that may go through the log (route.h, R3). */
    bool does_release; /* Lets go of what others wait for, and waits for no key (route.h, I6). */
    bool is_bounded;   /* Whoever asks bounds what its requests take, all together (route.h, I6). */
    /* Which slots the shard has, as whoever asks believes: ERROR_MOVED if it does not have all of
     * them, -EBUSY if it has more, because it lags behind a split (what may be stale is answered).
     * end_slot 0: any will do. */
    uint16_t first_slot;
    uint16_t end_slot; /* At most SLOTS_COUNT. */
    /* Requests of a session with different ones, neither of them 0, are about different keys: a read that
     * has to be asked again may be answered as of later than such a write behind it (route.h). 0: it may be
     * about any. Stays as it is until done. */
    uint16_t order_key;

    /* The identity of a write (I7): a number for the life of the gateway that asks (random, not 0)
     * and one for the request. Origin 0: it will not be retried. */
    uint64_t origin;
    uint64_t sequence;
    /* What the gateway had seen of the shard (shard_applied_index() of whoever answered it) when it
     * first submitted this. */
    raft_index known_index;
    bool is_retry; /* It may have been in a log before. */
    /* May be set until done: nobody waits for the answer, and it has no effect unless the log has it. It is
     * handed back when those that wait for locks are looked at next, or when it is its turn in its session. Whoever sets it does so
     * of all that its session has here. */
    bool is_unwanted;

    /* Exactly once, never from within shard_submit(). `reply` is borrowed for the call. After it
     * the shard does not know the request any more. What is submitted from within may be refused with
     * -EBUSY, and what else the shard can do must wait: it may be in the midst of an entry.
     *   0                 answered
     *   ERROR_NOT_LEADER  handed back, because this replica does not lead any more (or because it was
     *                     unwanted): a write may or
     *                     may not take effect; submit it to the next leader with is_retry. Or the
     *                     shard was split, and this one may still be the leader. The command is
     *                     valid during the call.
     *   ERROR_MOVED       as from shard_submit(), when the split came while it waited; the command
     *                     is valid during the call */
    void (*done)(struct shard_request *request, int status, struct bytes reply);
    struct shard_session *session;

    /* The shard's own, from submission until done. */
    struct list link;
    void *copy;
    raft_index needed_index;  /* What a read must see at least: applied when it was submitted. */
    uint64_t load_size_bytes; /* Of values, when it is executed; as far as they were found. */
    uint64_t reign;           /* In which it was submitted. */

    /* core/route's own, from route_submit() until done. */
    struct {
        void *owner;
        void (*done)(struct shard_request *request, int status, struct bytes reply);
        uint64_t until_ms;
        struct list link; /* A read: in its session's `reads`. */
        bool is_logged;
        bool
            is_overtaken; /* A write behind it, of the same keys as far as is known, took effect. */
        struct list undone; /* Of the undone ones of its shard, by sequence. */
    } route;
};

void shard_session_init(struct shard_session *session);

/* A gateway, by its number, and the least sequence that it still needs of a shard. */
struct shard_floor {
    uint64_t origin; /* Not 0. */
    uint64_t floor;  /* Not 0. */
};

enum shard_submitted {
    SHARD_ANSWERED = 0, /* The answer is in `reply`; done() is not called. */
    SHARD_PENDING = 1,  /* done() will be called. */
};

/* ---- What drives a shard --------------------------------------------------------------------- */

struct shard;
struct shard_read;     /* Reads that go to the disk together. */
struct shard_write;    /* Changes that go to the store together. */
struct shard_log_read; /* Entries from the log: for a replica that lags, or that left memory. */

/* Something that takes long: making or taking a piece of a snapshot. */
struct shard_work {
    void (*run)(struct shard_work *work);
    void (*done)(struct shard_work *work);
};

#define SHARD_NODE_COUNT_MAX 256u

struct shard_host {
    void *context;
    struct env_clock clock;

    /* Make a record durable, after all earlier ones, then call shard_persisted() with `sequence`,
     * from the loop, never from within. The payload is borrowed until then. */
    void (*persist)(void *context, struct shard *shard, const struct wal_record *record,
                    uint64_t sequence);

    /* Have shard_read_run(read) called on another thread and then shard_read_done(read) on this
     * one. -EBUSY when too many are under way. */
    int (*read_elsewhere)(void *context, struct shard_read *read);

    /* Have shard_write_run(write) called on another thread and then shard_write_done(write) on this
     * one, from the loop, never from within. At most one of a shard is under way at a time. */
    void (*write_elsewhere)(void *context, struct shard_write *write);

    /* Call shard_write_done() for those that are over, now. NULL: a replay waits for each of
     * them. */
    void (*poll_writes)(void *context);

    /* Send a message to the replica of another node: shard_receive() there. The pieces are
     * borrowed for the call. May be lost; messages between two replicas that arrive, arrive in
     * order, but for those that shard_message_is_urgent() of. Never calls back from within. */
    void (*send)(void *context, struct shard *shard, raft_node to, const struct bytes *pieces,
                 uint32_t piece_count);

    /* Send a heartbeat, or the answer to one, to the replica of `message->to`, together with those of
     * other shards: shard_receive_beat() there. It may be overtaken by what is sent in the same tick.
     * False: that node cannot take it so; it goes by send(). NULL: no node can. */
    bool (*send_beat)(void *context, struct shard *shard, const struct raft_message *message);

    /* Have shard_log_read_run(read, log) called by whoever drives the log, then
     * shard_log_read_done(read) on the shard's thread. */
    void (*read_log)(void *context, struct shard_log_read *read);

    /* The same of entries that left memory before they were applied. -EBUSY: not now; they are asked for
     * once more at a tick, for as long as there are ticks. NULL: none leaves memory before. */
    int (*read_back)(void *context, struct shard_log_read *read);

    /* Have work->run(work) called on another thread and then work->done(work) on this one. -EBUSY
     * when too many are under way. */
    int (*work_elsewhere)(void *context, struct shard_work *work);

    /* Call run(argument, part) for each part below `part_count`, on several threads at a time, and
     * return when all have returned. NULL: the shard calls it, one part after the other. */
    void (*run_parts)(void *context, void (*run)(void *argument, uint32_t part), void *argument,
                      uint32_t part_count);

    /* Append the payload of an entry that was durable when the shard was opened. */
    int (*load_entry)(void *context, wal_shard shard, raft_index index, raft_term *term,
                      struct buffer *payload, struct error *error);

    /* The same for the first `size_bytes` of the payload, or for all of a shorter one. */
    int (*load_head)(void *context, wal_shard shard, raft_index index, uint32_t size_bytes,
                     raft_term *term, struct buffer *payload, struct error *error);

    /* Both or none (NULL). What the commands of an entry found, borrowed for the call; and what they
     * found when it was executed in another life, of an entry from before the start: recall_note() and
     * recall_find(). */
    void (*note_found)(void *context, const struct recall_entry *entry);
    bool (*recall_found)(void *context, struct recall_entry *entry);

    /* SPLIT was applied (also while the log is replayed): the child may be opened as soon as
     * shard_stored_index() is the present shard_applied_index() or more, which is hastened. Called
     * for each split that the store did not have when the shard was opened, from within. */
    void (*split)(void *context, struct shard *shard, const struct slots_range *child);

    /* The nodes that may be asked whether this one still belongs to the group, when no leader has
     * been heard of for long; returns how many. NULL: nobody is asked, and what a replica has it
     * keeps. */
    uint32_t (*list_nodes)(void *context, raft_node nodes[SHARD_NODE_COUNT_MAX]);

    /* Does the software of the node understand floors? NULL: all do. */
    bool (*knows_floors)(void *context, raft_node node);

    /* It does not belong to the group any more, and has given up all that it had: it is empty, as
     * if it had just been opened, and shard_stored_index() is 0. Nothing that comes into its log
     * from now on may be released by what was stored before. Called from within. */
    void (*emptied)(void *context, struct shard *shard);

    /* The store or the log contradicts itself, or an apply failed: stop the node. */
    void (*failed)(void *context, struct shard *shard, int status, const struct error *error);
};

/* What the shards of a host have in flight together: of zeros at first, and as old as all of them. */
struct shard_account {
    uint64_t in_flight_size_bytes;
    uint32_t shard_count; /* That are open. */
    /* Set by the host while many groups are awake: each falls quiet as soon as it has nothing to do,
     * whatever `quiet_after_ms` says, if it may at all. */
    bool do_groups_hurry;
};

/* Parts of memory that the host may change while a shard serves; less takes effect little by little. */
struct shard_limits {
    uint64_t cache_size_bytes;  /* Of hot rows. */
    uint64_t recent_size_bytes; /* Applied entries that are kept for replicas that lag a little. */
    uint64_t window_size_bytes; /* Replies for those who ask again. */
};

struct shard_options {
    wal_shard id;
    raft_node self;
    struct env_store store;
    uint64_t cache_size_bytes; /* Of hot rows. */
    /* The log may have been written without waiting for flushes: one that ends before what the
     * store has lost nothing that the store does not have. */
    bool may_log_end_early;
    /* A batch of the store is handed over when it has so many changed rows or bytes, or its oldest
     * change is so old; 0: the defaults. Rows that are written again meanwhile go to the store once,
     * and larger batches cost less per row (decision 8). Memory is needed for three times the
     * bytes: a batch that gathers, one that is written, and the store's copy of that; and at most
     * seven times after a replay, which lets the one that gathers grow to three times its size
     * while it would wait. An entry is in one batch, so what its commands load is at most so much, or it is
     * one command. */
    uint32_t store_row_count;
    uint64_t store_size_bytes;
    uint32_t store_delay_ms;
    /* Payload of entries that are not applied: above, -EBUSY; of all shards that share the account,
     * if there is one. A command that is larger than half goes beside half. A shard goes on with one command, and with
     * half of its even part, whatever the others have: one whose group has no quorum must not hold them up. */
    uint64_t in_flight_size_bytes_max;
    struct shard_account *account; /* NULL: there is none. */
    /* Of a replica that does not lead: where more than that waits to be applied, together as above, and more
     * than its even part, what is committed and durable leaves memory, and is read from the log when it is to
     * be applied. 0: half of the above. */
    uint64_t waiting_size_bytes_max;
    struct pace *pace; /* Of all shards of the host. NULL: it waits for its own entries only. */
    /* Applied entries that are kept for replicas that lag a little; and the replies of the
     * window. */
    uint64_t recent_size_bytes_max;
    uint64_t window_size_bytes_max;
    uint32_t
        piece_size_bytes; /* Of a snapshot: a piece ends with the row that reaches it. 0: 512 KiB. */
    /* An entry with more replies than that answers before it is executed whole. 0: 4 MiB. */
    uint32_t early_size_bytes;
    /* The other replicas are told of floors after so long, if they make few answers useless; ten
     * times a second, if many. 0: 5000. */
    uint32_t floor_delay_ms;
    /* A replica that has not led for so long keeps no more of long rows than executing most writes needs
     * (rows_keep_heads()). 0: 5000. */
    uint32_t heads_delay_ms;
    /* The slots with which the shard was made, whatever maps say since then, unless the meta row
     * knows of a split. Of a replica without any state: these, or what is left of them. */
    uint32_t first_slot;
    uint32_t end_slot; /* At most SLOTS_COUNT. */
    bool is_child;     /* It was not made with the cluster, but by a split. */
    /* There has been no gateway but those of this host, of which one lives: nobody can ask again for
     * what is executed before the replica is ready, so its answers are not remembered. True until it
     * is ready for the first time, or the group has another member. */
    bool is_asked_by_host_only;
    /* Append the first row of a slot; of slot 0: the first one that the shard with that slot has;
     * of SLOTS_COUNT: one behind all of them. The rows of a shard are those from its first slot on
     * and before its end. A snapshot takes and replaces all of them; the meta row is outside. Any
     * thread. */
    void (*append_slot_row)(uint32_t slot, struct buffer *row);
    /* Of a new shard: its first members. No voters: this replica waits for a leader. */
    struct raft_configuration configuration;
    uint32_t election_timeout_ms; /* 0: raft's defaults. */
    uint32_t heartbeat_interval_ms;
    uint32_t
        heartbeat_phase_ms; /* Where send_beat() is to gather many, some have the same; see raft.h. */
    /* Idle for so long, the group falls quiet: no heartbeats, no ticks. The host has to tell of members
     * that are lost (shard_peer_lost()). 0: never. */
    uint32_t quiet_after_ms;
    bool is_quiet_at_start; /* Until it hears of a leader, or of a peer that is lost (also 0). */
    struct shard_machine machine;
    struct shard_host host;
    uint64_t random_seed;
};

/* Read the shard's meta row and have the machine load. Gives `*shard`.
 * Errors: ERROR_CORRUPT, ERROR_NEWER_FORMAT, -EIO. */
MUST_USE int shard_open(struct shard **shard, const struct shard_options *options,
                        struct error *error);

/* Does the store have a meta row of the shard? -EIO, ERROR_CORRUPT: it cannot tell. */
MUST_USE int shard_has_state(const struct env_store *store, wal_shard id, bool *has_state,
                             struct error *error);

/* The shards from `from` on that the store has a state of, in the order of their numbers: the first
 * `count_max`. -EIO, ERROR_CORRUPT. */
MUST_USE int shard_list_states(const struct env_store *store, wal_shard from, wal_shard *ids,
                               uint32_t count_max, uint32_t *count, struct error *error);

/* Without answering what is pending. No read or write may be under way elsewhere. */
void shard_close(struct shard *shard);

/* The store has the entries up to here, durably once it was flushed. Later ones may be applied, in
 * memory, and answered: the log has them. Advances in shard_write_done() and shard_settle(). */
raft_index shard_stored_index(const struct shard *shard);
/* Members that are being given a snapshot, or lag, go on from behind this entry: where the log has none of what
 * follows, they need a snapshot once more, as long as the one before took, and so on while writes come.
 * UINT64_MAX: nobody does, or this replica does not lead. */
raft_index shard_needed_index(const struct shard *shard);

/* Before shard_start(): part of the log, or all of it, was lost (wal.h, struct wal_loss). 0: the
 * replica goes on without it, and is impaired until it is whole again (raft.h, I8); that it is, is
 * durable. It neither leads nor counts meanwhile, but takes entries and answers reads that may be
 * stale. ERROR_CORRUPT when no majority of the voters is left without it, as far as its state says
 * who they are: nobody could repair it. (One that is impaired counts for nothing, whatever its
 * state says: it has left its group, or lost something before. It goes on.) -EIO, -EBUSY, -ENOSPC:
 * of the store. */
MUST_USE int shard_accept_loss(struct shard *shard, struct error *error);
/* The same of replicas that are not open and have no state: they may have voted, and must not
 * forget that they have lost that, until each is opened and shard_accept_loss() says so in its own
 * row. Durable, with one flush for all. -EIO, -EBUSY. */
MUST_USE int shard_remember_losses(const struct env_store *store, const wal_shard *ids,
                                   uint32_t count, struct error *error);
MUST_USE int shard_has_lost(const struct env_store *store, wal_shard id, bool *has_lost,
                            struct error *error);
/* Is a majority of the voters left without it, as far as its state says who they are, or is it impaired? */
bool shard_is_dispensable(const struct shard *shard);
bool shard_is_impaired(const struct shard *shard);
/* It is not, and once the store is flushed the next start will know. */
bool shard_is_stored_whole(const struct shard *shard);

/* Begin with what the log holds (NULL: nothing). The only voter campaigns for the next term at
 * once, others wait for a leader or for an election timeout. ERROR_CORRUPT when the log of an only
 * voter ends before what the store has applied; or when the log has entries that somebody without
 * any state cannot have been given: this replica has acknowledged them and has lost its state, so
 * it must become impaired first (shard_accept_loss()). */
MUST_USE int shard_start(struct shard *shard, const struct wal_shard_state *state,
                         struct error *error);

/* Campaign at once, without asking first whether anybody would vote (a child beside its parent's
 * leader); once more: ask again those who were not born then. Only in the first life of a replica,
 * and for one term: then the others have been born, and elections go as ever. */
void shard_campaign(struct shard *shard);

/* Which slots it has, after all splits that were applied. While a snapshot takes the place of its
 * state these are still those that the state had. */
struct slots_range shard_range(const struct shard *shard);
/* The entry of the newest SPLIT that was applied. Of one from before it was opened, or before the
 * snapshot that it has: up to where that had applied everything; 0: none. */
raft_index shard_split_index(const struct shard *shard);
/* Has it no state yet: nothing was ever applied, and no snapshot is being taken? Once it is
 * started, an empty one has an empty log, too: before, nobody knows whether it will come to a
 * split. */
bool shard_is_empty(const struct shard *shard);
/* It is giving up what it has, because it does not belong to its group any more: it hears nothing
 * meanwhile, and is impaired afterwards. */
bool shard_is_discarding(const struct shard *shard);
/* Of an empty one that is started: it claims this, which is a part of its range, from now on. It
 * takes a snapshot of that or of less, and no entries before one: the first of them are of the
 * larger range. Nothing of this is remembered, so the caller does it again after a restart, before
 * whoever has the other slots here writes any row. */
void shard_narrow(struct shard *shard, uint32_t first_slot, uint32_t end_slot);
/* Of a leader: where the requests of the last seconds for its slots from `first_slot` to before `end_slot`,
 * at least two, are halved best (core/demand.h). False: it cannot tell. */
bool shard_halve_demand(const struct shard *shard, uint32_t first_slot, uint32_t end_slot,
                        struct demand_halves *halves);
void shard_set_limits(struct shard *shard, const struct shard_limits *limits);
/* Let go of what the cache and the window have too much, looking at so many of the cache's slots. False: nothing is left, or all of
 * that is needed still. */
bool shard_trim(struct shard *shard, uint64_t step_count);

/* Leader of its term, with everything of earlier terms applied. */
bool shard_is_ready(const struct shard *shard);
/* Who leads, as far as this replica knows; 0: nobody. */
raft_node shard_leader(const struct shard *shard);
raft_index shard_applied_index(const struct shard *shard);
/* The payload of an entry that makes these the members; for whoever writes one into the log of a
 * replica that is not open (Raft does not know of it before its next start). Appends. */
void shard_configuration_payload(const struct raft_configuration *members, struct buffer *payload);
/* When its leader made an entry, from the first SHARD_ENTRY_HEAD_SIZE_BYTES of its payload; false:
 * it does not say. */
#define SHARD_ENTRY_HEAD_SIZE_BYTES 16
bool shard_entry_time(struct bytes head, uint64_t *time_ms);

/* Members, as of the newest entry of the log. */
const struct raft_configuration *shard_configuration(const struct shard *shard);
/* What the leader knows of the others; see raft_get_peers(). */
uint32_t shard_get_peers(const struct shard *shard, struct raft_peer peers[RAFT_PEER_COUNT_MAX]);

/* Of a message that is sent, given its first piece: is it small, and may it overtake others? Such
 * are those that say that a leader, or a candidate, is there. Behind a long entry they would come
 * too late. */
bool shard_message_is_urgent(struct bytes first_piece);

/* A message of another node's replica. Malformed ones are counted and dropped. */
void shard_receive(struct shard *shard, raft_node from, struct bytes message);
/* A heartbeat, or the answer to one, as the host's send_beat() was given it there; its `from` and `to` are
 * of no account. False: nothing but timers changed, so shard_tick() need not be called before it
 * wanted to be. */
bool shard_receive_beat(struct shard *shard, raft_node from, const struct raft_message *message);
/* What was sent to the node may be lost (its connection broke). */
void shard_unreachable(struct shard *shard, raft_node node);
/* The node is thought to be dead. */
void shard_peer_lost(struct shard *shard, raft_node node);

/* Leader: change who belongs to the group; hand leadership over. Statuses of raft_step(); -EBUSY
 * also while it splits. Done when shard_configuration() or shard_leader() says so. */
MUST_USE int shard_configure(struct shard *shard, const struct raft_configuration *target);
MUST_USE int shard_transfer(struct shard *shard, raft_node node);

/* Has its group fallen quiet, as far as it knows? */
bool shard_is_quiet(const struct shard *shard);
/* The node is alive again. */
void shard_peer_found(struct shard *shard, raft_node node);

/* Everything up to `sequence` is durable. Applies what became committed and answers it. */
void shard_persisted(struct shard *shard, uint64_t sequence);

/* The machine has work in the background that no command brought: ask it at the next tick. */
void shard_look_at_background(struct shard *shard);

/* End of a tick: propose what was gathered, hand old changes to the store and what it refused once
 * more, background work. Returns when to be called again at the latest (env_clock.now_ms). */
uint64_t shard_tick(struct shard *shard);

/* Returns enum shard_submitted, or refuses with nothing changed: -EBUSY (too much in flight, or the
 * same write is on its way already, leadership is being handed over, or the shard has more slots
 * than the request names: the caller keeps the request and tries again after the next tick),
 * -ENOSPC (full, and the request grows), ERROR_NOT_LEADER (not ready, or not the leader), -E2BIG
 * (larger than an entry may be), ERROR_OUTCOME_UNKNOWN (a retry that the window cannot tell about),
 * ERROR_MOVED (the request names slots that the shard does not have: it had no effect and will have
 * none; ask by a newer map). */
MUST_USE int shard_submit(struct shard *shard, struct shard_request *request,
                          const struct reply *reply);

/* The gateway needs no answer of a lower sequence any more, and will never ask for one again:
 * see "Forgetting". On the leader, which tells the others, soon when much is to be forgotten;
 * elsewhere it helps this replica alone. The next tick may come when it likes. */
void shard_set_floor(struct shard *shard, const struct shard_floor *floor);

/* Write everything that was applied to the store now, on this thread; before it is closed or looked
 * at. -EBUSY: a write is under way elsewhere and must be done first, or the store would stall; then
 * try again. */
MUST_USE int shard_settle(struct shard *shard);

/* Is nothing on its way on other threads, but for a write to the store? Before shard_close(). */
bool shard_is_idle(const struct shard *shard);

/* Has something been gathered that the next tick would propose? */
bool shard_wants_tick(const struct shard *shard);
/* Has something been gathered that waits for the pace alone? Then it is to be ticked when pace_tick() has
 * said that it may go on. */
bool shard_is_held(const struct shard *shard);

/* Refuse requests that grow (the disk is nearly full), or accept them again. */
void shard_set_full(struct shard *shard, bool is_full);

/* Where the log is driven: read entries. */
void shard_log_read_run(struct shard_log_read *read, struct wal *wal);
/* Back on the shard's thread: send them. */
void shard_log_read_done(struct shard_log_read *read);

/* On the other thread: read. */
void shard_read_run(struct shard_read *read);
/* Back on the shard's thread: answer. */
void shard_read_done(struct shard_read *read);

/* On the other thread: write the batch to the store. */
void shard_write_run(struct shard_write *write);
/* Back on the shard's thread: the store has it, or it is handed over once more at a later tick.
 * Entries that waited for it are answered, and those behind them applied. */
void shard_write_done(struct shard_write *write);
/* Of the host of the shard whose batch it is. */
void *shard_write_context(const struct shard_write *write);

struct shard_statistics {
    raft_term term;
    enum raft_role role;
    raft_node leader;
    raft_index last_index;
    raft_index applied_index;
    raft_index stored_index;
    uint64_t digest; /* Chained over all changes: equal on replicas at equal indexes. */
    uint64_t in_flight_size_bytes;
    uint64_t pending_request_count;
    uint64_t entry_count;   /* Applied since the start. */
    uint64_t command_count; /* Applied since the start. */
    uint64_t read_count;    /* Taken since the start. */
    uint64_t read_elsewhere_count;
    uint64_t stall_count;          /* How often the store refused a batch. */
    uint64_t retry_answered_count; /* Writes that had taken effect already. */
    uint64_t window_answer_count;  /* Now: answers that are kept for retries, */
    uint64_t window_size_bytes;    /* and what they take. */
    uint64_t snapshot_sent_count;
    uint64_t snapshot_installed_count;
    uint64_t malformed_count; /* Messages that were dropped. */
    /* Entries that could not be read back for a replica that lags: it gets a snapshot. */
    uint64_t unreadable_count;
    uint64_t reread_count; /* Entries that had left memory before they were applied. */
    bool is_full;
    bool is_impaired;
    struct rows_statistics rows;
};
void shard_get_statistics(const struct shard *shard, struct shard_statistics *statistics);

#endif
