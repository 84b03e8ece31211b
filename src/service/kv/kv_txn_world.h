/* SPDX-License-Identifier: Apache-2.0 */
/* kv_txn_world: several shards with their logs, coordinators, a network and clients, all simulated;
 * for tests of transactions over several shards only.
 *
 * A shard is the machine of kv over a store in memory, with a log of commands: what core/shard and
 * core/raft make of several replicas. Its leader dies in that the machine is made anew, from the
 * store or from the log, and that the end of the log that was not applied is lost or not. It keeps
 * what must wait for a lock, as core/shard does, looks whether any PREPARE passes what waits, and has
 * a window of replies. Coordinators are those of
 * core/txn, killed at any time. Messages are late, lost and doubled; some come again without an
 * identity. Clients append unique elements to lists and read them, one at a time or in transactions
 * (also with RENAME, RENAMENX, COPY and MSETNX between shards: kv_txn_evaluate.c), and write down what
 * they saw; kv_txn_check.c says whether that can be. */
#ifndef SERVICE_KV_KV_TXN_WORLD_H
#define SERVICE_KV_KV_TXN_WORLD_H

#include "base/list/list.h"
#include "base/random/random.h"
#include "core/memstore/memstore.h"
#include "core/txn/txn.h"
#include "service/kv/kv.h"

enum {
    KV__SHARD_COUNT_MAX = 4,
    KV__COORDINATOR_COUNT_MAX = 3,
    KV__CLIENT_COUNT_MAX = 6,
    KV__KEY_COUNT_MAX = 8,
    KV__OPERATION_COUNT_MAX = 320,
    KV__STEP_COUNT_MAX = 8, /* Of an operation. */
    KV__FAILURE_SIZE = 300,
};

/* What a life is like; drawn from its seed. */
struct kv__txn_options {
    uint32_t shard_count;
    uint32_t coordinator_count;
    uint32_t client_count;
    uint32_t key_count;
    uint32_t operation_count;
    uint32_t delay_ms_max;
    uint32_t lost_percent;
    uint32_t doubled_percent;
    uint32_t late_percent;    /* Very late. */
    uint32_t refused_percent; /* No leader, or busy. */
    uint32_t unnamed_percent; /* Doubled ones that the window does not know. */
    uint32_t kill_percent;    /* Of coordinators, for each look at them. */
    uint32_t restart_percent; /* Of shards. */
    uint32_t jump_percent;    /* Of all wall clocks, beyond the horizon. */
    uint32_t recovery_age_ms;
    uint32_t transaction_percent; /* Of operations. */
    uint32_t watch_percent;       /* Of transactions. */
    uint32_t evaluate_percent;    /* The same: with commands that depend on other shards. */
    uint32_t
        kill_at_submission; /* The first coordinator dies right behind this one; 0: does not. */
    bool
        is_kind; /* Nothing goes wrong: then no transaction may be refused for others, or get lost. */
};
void kv__txn_options_draw(struct kv__txn_options *options, struct random *random);

/* ---- What clients saw ------------------------------------------------------------------------ */

enum kv__operation_outcome { KV__OPEN, KV__DONE, KV__REFUSED, KV__UNKNOWN };

struct kv__step {
    uint32_t key;
    uint64_t element;  /* Appended; 0: a read. */
    bool is_watched;   /* Read before the transaction, under WATCH. */
    bool is_evaluated; /* By commands that depend on other shards: kv_txn_evaluate.c. */
    bool is_seen;      /* `list` is what the read answered. */
    struct buffer list;
};

struct kv__operation {
    struct kv__step steps[KV__STEP_COUNT_MAX];
    uint32_t step_count;
    uint64_t invoked_at; /* In the order of events. */
    uint64_t answered_at;
    enum kv__operation_outcome outcome;
};

/* What the lists are in the end: elements with a comma behind each. NULL, or what cannot be; written
 * to `text`. */
const char *kv__txn_check(const struct kv__operation *operations, uint32_t operation_count,
                          const struct buffer *lists, uint32_t key_count,
                          char text[KV__FAILURE_SIZE]);

/* ---- The world ------------------------------------------------------------------------------- */

struct kv__txn_statistics {
    uint64_t committed_count;
    uint64_t evaluated_count; /* Of these. */
    uint64_t changed_count;
    uint64_t failed_count;
    uint64_t unknown_count;
    uint64_t lost_replies_count;
    uint64_t recovered_count;
    uint64_t killed_count;
    uint64_t waited_count;   /* Commands that waited for a lock. */
    uint64_t prepares_count; /* Those of them that wanted locks. */
};

/* Live one life. NULL, or the claim that was violated. */
const char *kv__txn_live(const struct kv__txn_options *options, uint64_t seed,
                         char text[KV__FAILURE_SIZE], struct kv__txn_statistics *statistics);

#endif
