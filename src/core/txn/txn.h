/* SPDX-License-Identifier: Apache-2.0 */
/* txn: transactions over several shards, all or nothing. Layer: core.
 *
 * A transaction is *parts*, one for each shard that it touches. This module is the coordinator: it
 * has every part prepared, has the outcome decided in the log of one shard, the *home*, and tells
 * it to all. It is also the recoverer, which ends what a coordinator that died has begun. Each node
 * has one instance. What a part means is the business of the machines (service/kv); here are the
 * steps, the identities, and the messages. Two-phase commit as in docs/models/commit.pml; why:
 * docs/decisions/0013-transactions-across-shards.md.
 *
 *   PREPARE  to each participant   compare, lock, keep the part; answers yes or no
 *   DECIDE   to the home           the first decision that it logs is the outcome
 *   FINISH   to each participant   execute or drop the part, unlock; answers replies
 *   FORGET   to the home           all have finished: the decision may go, in its time
 *
 * Invariants
 *   I1. COMMIT is asked for only when every part has answered yes to this identity. FINISH(COMMIT)
 *       is sent only after the home has answered COMMITTED.
 *   I2. Once COMMIT was asked for, the outcome is what the home answers and nothing else. A
 *       coordinator that gives up before may tell ABORT without asking, because it never asks for
 *       COMMIT after that.
 *   I3. A recoverer never asks for COMMIT.
 *   I4. An identity is used for one attempt. The next attempt begins only when it is certain that
 *       the one before did not and will not commit.
 *   I5. FORGET is sent only when every participant has answered FINISH(COMMIT).
 *   I6. A transaction that was begun ends with its done(), exactly once. TXN_UNKNOWN is said only
 *       when COMMIT was asked for and no answer came in time; TXN_FAILED and TXN_CHANGED mean that
 *       nothing happened and nothing will.
 *
 * What is sent when things go wrong
 *   a part is refused: locked     tell ABORT to the others; again at once, in order
 *   a part is refused: changed    tell ABORT to the others; TXN_CHANGED
 *   a part is refused: moved      the same; TXN_FAILED. What is told later is asked again by a newer
 *                                 map: nothing ends because a shard was split
 *   a part does not answer        after prepare_timeout_ms as refused; TXN_FAILED at the deadline
 *   the decision does not come    ask again until the deadline; then TXN_UNKNOWN
 *   a FINISH does not answer      again until the deadline; then the recoverer's work, and the
 *                                 client hears that it is committed, without replies
 *
 * Who gets a lock. The first attempt asks all parts at once and waits for nobody: it is refused where
 * a key is locked, or others wait for it. Later attempts (and the only one of a single part) ask one
 * part after the other, in the order of places, and wait in the line of each shard until it is their
 * turn. Nobody starves, because in a line nobody is passed. Nobody waits for ever: who waits at a place
 * holds locks of places before it, so along those who wait for each other places only grow, and who
 * is of a first attempt waits for nobody.
 *
 * Driven by the node on the loop of its shards, or by the simulator: txn_tick() at the end of each
 * tick, before route_tick(), and when it asked for it. No I/O; time is the host's clock. An
 * instance belongs to one thread. Memory: what is begun is copied; done() may begin others. */
#ifndef CORE_TXN_TXN_H
#define CORE_TXN_TXN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "base/reply/reply.h"
#include "core/env/env.h"
#include "core/shard/shard.h"

/* ---- Messages -------------------------------------------------------------------------------- */

/* An attempt. Never used again: `origin` is random for the life of a coordinator. */
struct txn_id {
    uint64_t origin;
    uint64_t number;
    uint64_t begun_ms; /* The coordinator's wall clock. */
};

static inline bool txn_id_equal(struct txn_id left, struct txn_id right)
{
    return left.origin == right.origin && left.number == right.number &&
           left.begun_ms == right.begun_ms;
}

/* What a log with this stamp says of an identity. Too old: it remembers nothing of it any more, and
 * takes nothing of it. Too new: the coordinator's clock is wrong. */
#define TXN_HORIZON_MS 120000u
static inline bool txn_is_too_old(struct txn_id id, uint64_t stamp_ms)
{
    return stamp_ms > id.begun_ms && stamp_ms - id.begun_ms > TXN_HORIZON_MS;
}
static inline bool txn_is_too_new(struct txn_id id, uint64_t stamp_ms)
{
    return id.begun_ms > stamp_ms && id.begun_ms - stamp_ms > TXN_HORIZON_MS;
}

/* A PREPARE that came to its log only after so long is refused: its coordinator has given it up, or is
 * dead, and then each of those in line would hold its locks until it is recovered. More than
 * deadline_ms, by what clocks may differ. */
#define TXN_WAIT_MS_MAX 15000u
static inline bool txn_has_waited_too_long(struct txn_id id, uint64_t stamp_ms)
{
    return stamp_ms > id.begun_ms && stamp_ms - id.begun_ms > TXN_WAIT_MS_MAX;
}

enum txn_outcome { TXN_NONE = 0, TXN_COMMIT = 1, TXN_ABORT = 2 };

/* The first argument of each of the four commands; those that follow:
 *   PREPARE  the part, as the machine takes it
 *   DECIDE   the places of all participants, 4 bytes each
 * Little-endian: origin 8, number 8, begun_ms 8, place 4, home 4, outcome 1, protocol 1, may_wait 1,
 * zero 1. */
#define TXN_HEADER_SIZE_BYTES 36u
struct txn_header {
    struct txn_id id;
    uint32_t place;           /* Where the part lies, or at the home: where that lies. */
    uint32_t home;            /* Where the decision is. */
    enum txn_outcome outcome; /* DECIDE: what is wished; FINISH: what was decided; else NONE. */
    uint8_t protocol;         /* PREPARE: of the replies, 2 or 3; else 0. */
    bool may_wait;            /* PREPARE: for others that hold its keys, or wait for them. */
};
void txn_header_encode(const struct txn_header *header, uint8_t target[TXN_HEADER_SIZE_BYTES]);
/* False: malformed. */
MUST_USE bool txn_header_decode(struct bytes source, struct txn_header *header);

/* What the commands answer: a byte. After TXN_ANSWER_COMMITTED of a FINISH that executed the part come
 * a byte 1 and the replies of its commands, one after the other; of one that came again, a byte 0. */
enum txn_answer {
    TXN_ANSWER_YES = 1,       /* PREPARE: the part is prepared. */
    TXN_ANSWER_LOCKED = 2,    /* PREPARE: others hold a key or wait for it; nothing happened. */
    TXN_ANSWER_CHANGED = 3,   /* PREPARE: a watched key has another version; nothing happened. */
    TXN_ANSWER_TOO_OLD = 4,   /* Or too new. Nothing happened, and what happened is forgotten. */
    TXN_ANSWER_COMMITTED = 5, /* The outcome. */
    TXN_ANSWER_ABORTED = 6,
    TXN_ANSWER_UNPREPARED = 7, /* FINISH(COMMIT) of what is not prepared: a promise was broken. */
    TXN_ANSWER_DONE = 8,       /* FORGET. */
};
struct txn_reply {
    enum txn_answer answer;
    bool has_replies;
    struct bytes replies; /* Borrowed from the source. */
};
/* False: malformed, such as an error for clients. */
MUST_USE bool txn_reply_decode(struct bytes source, struct txn_reply *reply);

/* ---- The coordinator ------------------------------------------------------------------------- */

struct txn;

struct txn_host {
    void *context;
    struct env_clock clock;

    /* Have the shard at `place` execute the request: as route_submit(), which it mostly is. The
     * request is a write with its own session; identity and the like are the route's. Where slots are
     * named (a PREPARE's part), the shard must have these: else ERROR_MOVED. Where none are, the host
     * names those of the shard that has the place now, and is asked again after ERROR_MOVED. */
    int (*submit)(void *context, uint32_t place, struct shard_request *request,
                  const struct reply *reply);
};

struct txn_options {
    struct txn_host host;
    uint64_t origin; /* Random, not 0, never used before. */
    uint64_t random_seed;
    /* Opcodes of the machines at all places. */
    uint16_t prepare_opcode;
    uint16_t decide_opcode;
    uint16_t finish_opcode;
    uint16_t forget_opcode;

    /* The rest: 0 means the default. */
    uint32_t deadline_ms;          /* 10000: of all attempts, and again of what follows the wish. */
    uint32_t prepare_timeout_ms;   /* 2000: of attempts that do not wait. */
    uint32_t backoff_ms_min;       /* 2 */
    uint32_t backoff_ms_max;       /* 250 */
    uint32_t count_max;            /* 4096 transactions at a time. */
    uint64_t size_bytes_max;       /* 64 MiB of their parts; one is taken whatever its size. */
    uint32_t recovery_count_max;   /* 64 at a time. */
    uint64_t reply_size_bytes_max; /* Of all parts' replies to one transaction: none. */
};

MUST_USE int txn_create(struct txn **txn, const struct txn_options *options, struct error *error);
/* After the host has forgotten what is under way. What is unfinished is not answered. */
void txn_destroy(struct txn *txn);

#define TXN_PART_COUNT_MAX 1024u

struct txn_part {
    uint32_t place;                /* Which shard: what the host finds it by. */
    uint32_t argument_count;       /* Of PREPARE, behind the header. */
    const struct bytes *arguments; /* Borrowed. */
    bool does_grow;
    /* Which slots the shard has, by the map that the parts were cut by, as in shard.h; 0: any. */
    uint16_t first_slot;
    uint16_t end_slot;
};

enum txn_result {
    TXN_COMMITTED,
    TXN_CHANGED, /* A watched key has changed. */
    TXN_FAILED,  /* `status` says why: ERROR_NOT_LEADER (no leader in time), -EBUSY (conflicts until
                    the deadline, or a clock is wrong), -ENOSPC, -E2BIG, ERROR_MOVED (a shard has
                    other slots than its part names: cut it anew). */
    TXN_UNKNOWN,
};

struct txn_done {
    enum txn_result result;
    int status;
    /* Committed: the replies of each part, as FINISH answers them; valid during the call. A part
     * whose replies are lost has data NULL; so have all when there were more than reply_size_bytes_max. */
    const struct bytes *replies;
    uint32_t part_count;
    bool are_too_large;
    bool
        is_broken; /* Committed: a shard had nothing of its part any more, after a recovery that lost it. */
};

struct txn_begin {
    const struct txn_part *parts; /* In ascending order of place, each once; at least one. */
    uint32_t part_count;
    uint8_t protocol;
    void *context;
    /* Never from within txn_begin(). */
    void (*done)(void *context, const struct txn_done *done);
};

/* -EBUSY: too many at a time; -E2BIG: too many parts. Nothing happened then, and nothing was copied. */
MUST_USE int txn_begin(struct txn *txn, const struct txn_begin *begin);

/* Would so much be begun now, and not be refused with -EBUSY? For those who must make copies before
 * they can ask. */
bool txn_has_room(const struct txn *txn, uint64_t size_bytes);

/* Submit what waits, give up what is late. Returns when to be called again at the latest. */
uint64_t txn_tick(struct txn *txn);

/* ---- The recoverer --------------------------------------------------------------------------- */

/* What a leader finds in its rows that is older than it should be: a part that is prepared, or (with
 * `places`) a COMMIT of which nobody has said that all have finished. */
struct txn_unfinished {
    struct txn_id id;
    uint32_t place;
    uint32_t home;
    const uint32_t *places; /* Borrowed. */
    uint32_t place_count;
};

/* Bring it to its end. What fails is tried again when it is found again; what is under way already is
 * ignored. False: too many are under way, and it was not taken. */
bool txn_recover(struct txn *txn, const struct txn_unfinished *unfinished);

struct txn_statistics {
    uint64_t begun_count;
    uint64_t committed_count;
    uint64_t changed_count;
    uint64_t failed_count;
    uint64_t unknown_count;
    uint64_t attempt_count;
    uint64_t conflict_count;     /* Attempts that were refused because of a lock. */
    uint64_t lost_replies_count; /* Committed without all replies. */
    uint64_t recovered_count;    /* Parts finished and decisions completed for others. */
    uint64_t broken_count;       /* TXN_ANSWER_UNPREPARED: never, unless a log lost something. */
    uint32_t open_count;         /* Now: not answered. */
    uint32_t attempt_open_count; /* Now, with those whose messages are still under way. */
};
void txn_get_statistics(const struct txn *txn, struct txn_statistics *statistics);

#endif
