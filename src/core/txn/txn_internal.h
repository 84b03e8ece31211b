/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of core/txn share. */
#ifndef CORE_TXN_TXN_INTERNAL_H
#define CORE_TXN_TXN_INTERNAL_H

#include "base/list/list.h"
#include "base/random/random.h"
#include "base/trace/trace.h"
#include "core/txn/txn.h"

enum { TXN_ASK_AGAIN_DELAY_MS = 20 };

enum txn_call_state {
    TXN_CALL_IDLE,      /* Not asked for yet, or to be asked again when somebody says so. */
    TXN_CALL_WAITING,   /* In txn->waiting: to be submitted at `retry_at_ms`. */
    TXN_CALL_UNDER_WAY, /* The host has it. */
    TXN_CALL_ANSWERED,  /* `status`, and `reply` when that is 0. */
};

/* A command to a shard, submitted once or again. */
struct txn_call {
    struct shard_request request; /* First: done() finds the call. */
    struct shard_session session;
    struct txn_attempt *attempt;
    struct list link; /* txn->waiting, or txn->answered */
    enum txn_call_state state;
    uint32_t part;
    uint32_t place;
    uint16_t first_slot; /* end_slot 0: those of the shard that has the place when it is asked. */
    uint16_t end_slot;
    uint32_t submit_count; /* Under identities of its own, each. */
    uint64_t retry_at_ms;
    int status;
    bool is_final;   /* Nobody asks again. */
    bool is_certain; /* Nothing that was submitted before may have had an effect. */
    struct buffer reply;
    struct bytes *arguments; /* The first is the header. */
    uint32_t argument_count;
    uint8_t header[TXN_HEADER_SIZE_BYTES];
};

enum txn_attempt_state {
    TXN_ATTEMPT_PREPARING,
    TXN_ATTEMPT_DECIDING,
    TXN_ATTEMPT_FINISHING, /* All FINISH are asked for. */
    TXN_ATTEMPT_FORGETTING,
    TXN_ATTEMPT_OVER, /* Waits for what is under way. */
};

/* One identity: a coordinator's attempt, or what a recoverer brings to its end. The calls of a
 * phase that is over may still be under way. */
struct txn_attempt {
    struct txn *txn;
    struct list link;                    /* txn->attempts */
    struct txn_transaction *transaction; /* NULL: recovery, or the client has its answer. */
    struct txn_id id;
    enum txn_attempt_state state;
    enum txn_outcome outcome; /* Of FINISH. */
    bool is_recovery;
    bool
        is_part_only; /* Of a recovery: of one part, so that it cannot tell whether all are finished. */
    bool
        is_too_late; /* Of a recovery: the home remembers nothing, so what was found may be over. */
    bool is_broken;  /* See struct txn_done. */
    bool is_in_order; /* One PREPARE after the other, each of which may wait. */
    uint32_t home;
    uint32_t part_count;
    uint32_t under_way_count;
    uint32_t prepared_count;   /* Yes votes. */
    uint32_t finished_count;   /* FINISH that nobody asks for again, */
    uint32_t kept_count;       /* and that answered what they should. */
    uint64_t reply_size_bytes; /* Of all FINISH that have answered. */
    uint64_t deadline_ms;      /* Of the state. */
    struct txn_call *prepares; /* NULL for a recovery. */
    struct txn_call *finishes;
    struct txn_call decide;
    struct txn_call forget;
    uint8_t *places; /* Of all participants, encoded. */
};

/* What a client asked for. */
struct txn_transaction {
    struct list link; /* txn->transactions */
    struct txn_begin begin;
    struct txn_part *parts; /* With copies of all arguments, in one piece. */
    uint64_t size_bytes;
    uint64_t deadline_ms;
    uint32_t attempt_count;
    bool was_locked;             /* A part was refused because of a lock. */
    struct txn_attempt *attempt; /* NULL: the next one begins at `retry_at_ms`. */
    uint64_t retry_at_ms;
};

struct txn {
    struct txn_options options;
    struct random random;
    uint64_t last_number;
    struct list transactions;
    struct list attempts;
    struct list waiting;  /* Calls to be submitted. */
    struct list answered; /* Calls whose answer nobody has looked at. */
    uint64_t size_bytes;
    uint32_t recovery_count;
    bool is_stepping;
    struct txn_statistics statistics;
};

uint64_t txn__now_ms(const struct txn *txn);

/* ---- txn_call.c ------------------------------------------------------------------------------ */

struct txn_call_options {
    uint32_t place;
    uint16_t first_slot;
    uint16_t end_slot;
    uint32_t part;
    uint16_t opcode;
    uint8_t protocol; /* In the header. */
    bool may_wait;    /* In the header. */
    bool does_grow;
    enum txn_outcome outcome;   /* In the header. */
    const struct bytes *others; /* Arguments behind the header, borrowed until it is over. */
    uint32_t other_count;
};
void txn__call_init(struct txn_call *call, struct txn_attempt *attempt,
                    const struct txn_call_options *options);
void txn__call_deinit(struct txn_call *call);
void txn__call_forsake(struct txn_call *call);
/* Have it submitted by the next step, after so long. */
void txn__call_ask(struct txn_call *call, uint64_t delay_ms);
/* It need not be submitted any more. */
void txn__call_cancel(struct txn_call *call);
/* Submit what is due; and when the next is. */
void txn__submit_due(struct txn *txn);
uint64_t txn__next_due_ms(const struct txn *txn);

/* ---- txn_attempt.c --------------------------------------------------------------------------- */

struct txn_attempt *txn__attempt_create(struct txn *txn, struct txn_id id, uint32_t home,
                                        const uint32_t *places, uint32_t place_count);
void txn__attempt_destroy(struct txn_attempt *attempt);
/* The host has forgotten what is under way. */
void txn__attempt_forsake(struct txn_attempt *attempt);
/* A client's. */
void txn__attempt_start(struct txn *txn, struct txn_transaction *transaction);
/* A call has an answer. */
void txn__attempt_answered(struct txn_attempt *attempt, struct txn_call *call);
/* Its time may be up. */
void txn__attempt_check_time(struct txn_attempt *attempt, uint64_t now_ms);
void txn__finish_all(struct txn_attempt *attempt, enum txn_outcome outcome);
/* FORGET, or the end. */
void txn__finished(struct txn_attempt *attempt);
void txn__attempt_over(struct txn_attempt *attempt);

/* ---- txn_recover.c --------------------------------------------------------------------------- */

void txn__recovery_answered(struct txn_attempt *attempt, struct txn_call *call);

/* ---- txn.c ----------------------------------------------------------------------------------- */

/* The attempt will not commit: begin another one after a while, or answer. */
void txn__try_again(struct txn *txn, struct txn_transaction *transaction, int status);
void txn__answer(struct txn *txn, struct txn_transaction *transaction, const struct txn_done *done);
void txn__step(struct txn *txn);

#endif
