/* SPDX-License-Identifier: Apache-2.0 */
/* commit: transactions over two shards by two-phase commit, whose coordinators may die at any step.
 *
 * Question
 *   Two transactions want the same two keys, one in each shard, in opposite order. Their
 *   coordinators die whenever they like; messages are late, come twice, overtake each other; both
 *   shards start recovery whenever they like. Is each transaction everywhere or nowhere, in one
 *   order with the other and with what readers see, and is every lock released?
 *
 * The protocol
 *   - A coordinator sends *prepare* to both shards. A shard whose key is free locks it, reads it,
 *     logs that, and votes yes; else it votes no and remembers nothing.
 *   - The *home* of a transaction is its first shard. With two yes votes the coordinator asks the
 *     home to log COMMIT; otherwise, or when it loses patience, to log ABORT. The first decision in
 *     the home's log is the outcome; whoever asks later gets the same answer.
 *   - Whoever learns the outcome *tells* both shards, which execute or drop, log that and unlock.
 *   - A shard that has held a lock for long asks the home itself, which logs ABORT if it has no
 *     decision (recovery). Any node could ask on the shard's behalf.
 *   - A shard remembers the outcome that it was told, so that a prepare that comes late or twice
 *     locks nothing.
 *   - A read of a locked key waits.
 *
 * How to read it
 *   A process for each coordinator, each shard and a reader. Each repeats one atomic action,
 *   whichever is enabled; spin tries all orders. A shard is replicated: what it logged survives,
 *   and the death of its leader is a delay, no more, so shards restart only in a planted mistake.
 *   Messages are facts: once sent they may arrive at any time, again and again, or too late to
 *   matter. Every action brings something new, so there are no endless runs, and what must come
 *   about is checked where they end.
 *
 * What is checked
 *   C1. Atomic: a shard that is told COMMIT is prepared; one that is told ABORT has not executed.
 *   C2. COMMIT is logged only when both shards have voted yes and are prepared.
 *   C3. In the end no lock is held, and each transaction is executed in both shards or in none.
 *   C4. Serializable: of two committed transactions one has seen the other in both shards, the
 *       other has seen it in none.
 *   C5. Strictly so: what begins after a client was told "committed", or has seen it, sees it.
 *
 * Mistakes to plant; each must violate a claim
 *   -DBUG_TELLS_FIRST     the coordinator tells COMMIT before the home has logged it
 *   -DBUG_GUESSES_COMMIT  recovery without a decision logs COMMIT
 *   -DBUG_VOTE_LOST       a vote is in memory only: gone when the shard's leader restarts
 *   -DBUG_LATE_PREPARE    a prepare is not compared with the outcome that was told: it locks, and
 *                         nobody recovers a transaction that is over
 *   -DBUG_ABORT_FORGOTTEN an abort that overtakes the prepare is not remembered, and the home
 *                         forgets its decision when both shards were told
 *   -DBUG_EARLY_UNLOCK    the lock is released with the vote
 *   -DBUG_READS_LOCKED    a read does not wait for the lock
 * -DABORT_UNLOGGED is no mistake: a coordinator that gives up may tell ABORT without asking the
 * home, as it never asks for COMMIT after that.
 * -DREACHES_BOTH claims that the two transactions never both commit: it must be found wrong. */

#define OTHER(number) (1 - (number))
#define NOBODY 2
#define HOME(transaction) (transaction) /* 0 begins at shard 0, 1 at shard 1. */

/* Decisions. */
#define NONE 0
#define COMMIT 1
#define ABORT 2

/* Sets of shards or of transactions are bits. */
#define BIT(number) (1 << (number))
#define HAS(set, number) (((set) & BIT(number)) != 0)
#define BOTH 3

typedef Transaction {
    bool is_begun;        /* Prepare was sent to both shards. */
    byte yes;             /* Shards that voted yes, */
    byte no;              /* or no. */
    byte wish;            /* What the coordinator asked the home to log. */
    byte asked_by;        /* Shards that asked the home for the outcome. */
    byte decision;        /* In the home's log. */
    byte told_commit;     /* Shards that were told COMMIT, */
    byte told_abort;      /* or ABORT. */
    bool is_acknowledged; /* The client was told "committed". */
    byte saw;             /* Shards in which it read what the other one wrote. */
    byte must_see;        /* Transactions that had committed for their clients when it began. */
};
Transaction transactions[2];

/* What a shard has logged about a transaction. */
#define UNKNOWN 0
#define PREPARED 1
#define EXECUTED 2
#define DROPPED 3

typedef Shard {
    byte locked_by;
    byte states[2]; /* For each transaction. */
    byte executed;  /* Transactions whose writes the key has. */
};
Shard shards[2];

#define ACKNOWLEDGED (transactions[0].is_acknowledged | transactions[1].is_acknowledged << 1)

/* C4 and C5, as soon as both have committed. */
inline check_order()
{
    if
    :: transactions[0].decision == COMMIT && transactions[1].decision == COMMIT ->
        assert((transactions[0].saw == BOTH && transactions[1].saw == 0) ||
               (transactions[0].saw == 0 && transactions[1].saw == BOTH)); /* C4. */
        assert(transactions[0].must_see == 0 || transactions[0].saw == BOTH); /* C5. */
        assert(transactions[1].must_see == 0 || transactions[1].saw == BOTH); /* C5. */
#ifdef REACHES_BOTH
        assert(false) /* reached. */
#endif
    :: else
    fi
}

/* ---- a coordinator --------------------------------------------------------------------------- */

#define T transactions[me]
#define HEARS(outcome) (!is_dead && T.wish != NONE && T.decision == outcome)
#define TELL(shard) \
    :: d_step { HEARS(COMMIT) && !HAS(T.told_commit, shard) -> \
        T.told_commit = T.told_commit | BIT(shard); \
        printf("coordinator %d tells shard %d COMMIT\n", me, shard) \
    } \
    :: d_step { HEARS(ABORT) && !HAS(T.told_abort, shard) -> \
        T.told_abort = T.told_abort | BIT(shard); \
        printf("coordinator %d tells shard %d ABORT\n", me, shard) \
    }

proctype Coordinator(byte me)
{
    bool is_dead;
end:
    do
    :: d_step { !is_dead && !T.is_begun ->
        T.is_begun = true; /* Prepare is on its way to both shards. */
        T.must_see = ACKNOWLEDGED;
        printf("transaction %d begins\n", me)
    }
    :: d_step { !is_dead && T.wish == NONE && T.yes == BOTH ->
        T.wish = COMMIT;
#ifdef BUG_TELLS_FIRST
        T.told_commit = BOTH;
#endif
        printf("coordinator %d has two yes votes\n", me)
    }
    :: d_step { !is_dead && T.wish == NONE && T.is_begun -> /* A no, or out of patience. */
        T.wish = ABORT;
#ifdef ABORT_UNLOGGED
        T.told_abort = BOTH;
#endif
        printf("coordinator %d gives up\n", me)
    }
    TELL(0)
    TELL(1)
    :: d_step { HEARS(COMMIT) && !T.is_acknowledged ->
        T.is_acknowledged = true;
        printf("client %d hears that it is committed\n", me)
    }
    :: d_step { !is_dead -> is_dead = true; printf("coordinator %d dies\n", me) }
    od
}

/* ---- a shard --------------------------------------------------------------------------------- */

#define S shards[me]

/* Prepare arrives, and the answer is new. */
#ifdef BUG_LATE_PREPARE
#define IS_REMEMBERED(t) (S.states[t] == PREPARED || S.states[t] == EXECUTED)
#else
#define IS_REMEMBERED(t) (S.states[t] != UNKNOWN)
#endif
#define MAY_PREPARE(t) \
    (transactions[t].is_begun && !IS_REMEMBERED(t) && \
     (S.locked_by == NOBODY || !HAS(transactions[t].no, me)))

inline prepare(t)
{
    if
    :: S.locked_by == NOBODY ->
#ifndef BUG_EARLY_UNLOCK
        S.locked_by = t;
#endif
        if
        :: S.states[t] == UNKNOWN -> S.states[t] = PREPARED
        :: else
        fi;
        if
        :: HAS(S.executed, OTHER(t)) -> transactions[t].saw = transactions[t].saw | BIT(me)
        :: else
        fi;
        transactions[t].yes = transactions[t].yes | BIT(me);
        printf("shard %d prepares %d\n", me, t)
    :: else ->
        transactions[t].no = transactions[t].no | BIT(me);
        printf("shard %d refuses %d\n", me, t)
    fi
}

inline unlock(t)
{
    if
    :: S.locked_by == t -> S.locked_by = NOBODY
    :: else
    fi
}

/* The coordinator tells the outcome, or the home answers, and it is new. */
#define IS_ANSWERED(t, outcome) \
    (HAS(transactions[t].asked_by, me) && transactions[t].decision == outcome)
#define HEARS_COMMIT(t) \
    (S.states[t] != EXECUTED && (HAS(transactions[t].told_commit, me) || IS_ANSWERED(t, COMMIT)))
#define HEARS_ABORT(t) \
    (S.states[t] != DROPPED && (HAS(transactions[t].told_abort, me) || IS_ANSWERED(t, ABORT)))

inline execute(t)
{
    printf("shard %d executes %d\n", me, t);
    assert(S.states[t] == PREPARED); /* C1. */
    S.states[t] = EXECUTED;
    S.executed = S.executed | BIT(t);
    unlock(t)
}

inline drop(t)
{
    printf("shard %d drops %d\n", me, t);
    assert(S.states[t] != EXECUTED); /* C1. */
#ifdef BUG_ABORT_FORGOTTEN
    S.states[t] = UNKNOWN;
#else
    S.states[t] = DROPPED;
#endif
    unlock(t)
}

/* A lock has been held for long, by a transaction that is not over here. */
#define MAY_ASK(t) \
    (S.locked_by == t && S.states[t] == PREPARED && !HAS(transactions[t].asked_by, me))

inline ask(t)
{
    transactions[t].asked_by = transactions[t].asked_by | BIT(me);
    printf("shard %d asks for the outcome of %d\n", me, t)
}

/* The home logs the first decision. */
#define IS_OPEN(t) (HOME(t) == me && transactions[t].decision == NONE)
#define MAY_GRANT(t) (IS_OPEN(t) && transactions[t].wish != NONE)
#define MAY_RECOVER(t) (IS_OPEN(t) && transactions[t].asked_by != 0)
#ifdef BUG_GUESSES_COMMIT
#define RECOVERY COMMIT
#else
#define RECOVERY ABORT
#endif

inline decide(t, outcome)
{
    transactions[t].decision = outcome;
    printf("shard %d logs %d for %d (1 is COMMIT, 2 ABORT)\n", me, outcome, t);
    if
    :: outcome == COMMIT ->
        assert(transactions[t].yes == BOTH); /* C2. */
        assert(shards[0].states[t] == PREPARED && shards[1].states[t] == PREPARED); /* C2. */
        check_order()
    :: else
    fi
}

#define SHARD_ACTIONS(t) \
    :: d_step { MAY_PREPARE(t) -> prepare(t) } \
    :: d_step { HEARS_COMMIT(t) -> execute(t) } \
    :: d_step { HEARS_ABORT(t) -> drop(t) } \
    :: d_step { MAY_ASK(t) -> ask(t) } \
    :: d_step { MAY_GRANT(t) -> decide(t, transactions[t].wish) } \
    :: d_step { MAY_RECOVER(t) -> decide(t, RECOVERY) } \
    BUGGY_ACTIONS(t)

#if defined(BUG_VOTE_LOST)
#define BUGGY_ACTIONS(t) \
    :: d_step { S.states[t] == PREPARED -> \
        S.states[t] = UNKNOWN; \
        unlock(t); \
        printf("shard %d restarts\n", me) \
    }
#elif defined(BUG_ABORT_FORGOTTEN)
#define BUGGY_ACTIONS(t) \
    :: d_step { \
        HOME(t) == me && transactions[t].decision == ABORT && \
        shards[0].states[t] == UNKNOWN && shards[1].states[t] == UNKNOWN -> \
        transactions[t].decision = NONE; \
        printf("shard %d forgets the outcome of %d\n", me, t) \
    }
#else
#define BUGGY_ACTIONS(t)
#endif

proctype Run(byte me)
{
end:
    do
    SHARD_ACTIONS(0)
    SHARD_ACTIONS(1)
    od
}

/* ---- readers, and the end -------------------------------------------------------------------- */

#ifdef BUG_READS_LOCKED
#define MAY_READ(shard) true
#else
#define MAY_READ(shard) (shards[shard].locked_by == NOBODY)
#endif

inline read(shard)
{
    d_step {
        must_see = must_see | ACKNOWLEDGED;
        printf("the reader must see %d, asks shard %d\n", must_see, shard)
    }
    d_step { MAY_READ(shard) ->
        printf("the reader sees %d\n", shards[shard].executed);
        assert((shards[shard].executed & must_see) == must_see); /* C5. */
        must_see = must_see | shards[shard].executed
    }
}

/* A client that reads the two keys one after the other, each on its own. The other order is the
 * same with the names exchanged. */
proctype Reader()
{
    byte must_see;
    read(0);
    read(1)
}

#define IS_SAME(t) ((shards[0].states[t] == EXECUTED) == (shards[1].states[t] == EXECUTED))

init {
    atomic {
        shards[0].locked_by = NOBODY;
        shards[1].locked_by = NOBODY;
        run Run(0);
        run Run(1);
        run Coordinator(0);
        run Coordinator(1);
        run Reader()
    }
    timeout ->
    assert(shards[0].locked_by == NOBODY && shards[1].locked_by == NOBODY); /* C3. */
    assert(IS_SAME(0) && IS_SAME(1)) /* C3. */
}
