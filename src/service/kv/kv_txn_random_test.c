/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: whatever is killed, lost, late or doubled, transactions over several shards are all or nothing
 * and strictly serializable with everything else; in the end nothing is locked, unfinished or
 * remembered; replicas agree; who wants the same keys gets them in turn. Each planted bug is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/trace/trace.h"
#include "service/kv/kv_txn_world.h"

enum { SEED_COUNT = 150, STEP_COUNT = 60, BUG_SEED_COUNT_MAX = 3000 };

static const char *live(uint64_t seed, char text[KV__FAILURE_SIZE],
                        struct kv__txn_statistics *statistics)
{
    struct random random;
    struct kv__txn_options options;
    random_init(&random, seed);
    kv__txn_options_draw(&options, &random);
    return kv__txn_live(&options, random_next(&random), text, statistics);
}

static void print_record(void *context, const struct trace_record *record)
{
    (void)context;
    print_message("%s %llu %llu %llu %llu\n", record->name, (unsigned long long)record->values[0],
                  (unsigned long long)record->values[1], (unsigned long long)record->values[2],
                  (unsigned long long)record->values[3]);
}

/* SEED=n lives that life alone, with TRACE=1 printing it; LIVES=n so many from there on. */
static void test_lives(void **state)
{
    (void)state;
    const char *seed_text = getenv("SEED");
    const char *count_text = getenv("LIVES");
    const struct trace_hooks hooks = {.record = print_record};
    uint64_t first = seed_text != NULL ? strtoull(seed_text, NULL, 10) : 1;
    uint64_t count = seed_text != NULL ? 1 : SEED_COUNT;
    count = count_text != NULL ? strtoull(count_text, NULL, 10) : count;
    struct kv__txn_statistics all = {0};
    trace_set_hooks(getenv("TRACE") != NULL ? &hooks : NULL);
    for (uint64_t seed = first; seed < first + count; seed++) {
        char text[KV__FAILURE_SIZE];
        struct kv__txn_statistics one = {0};
        const char *failure = live(seed, text, &one);
        if (failure != NULL) {
            trace_set_hooks(NULL);
            fail_msg("SEED=%llu: %s", (unsigned long long)seed, failure);
        }
        all.committed_count += one.committed_count;
        all.evaluated_count += one.evaluated_count;
        all.changed_count += one.changed_count;
        all.failed_count += one.failed_count;
        all.unknown_count += one.unknown_count;
        all.lost_replies_count += one.lost_replies_count;
        all.recovered_count += one.recovered_count;
        all.killed_count += one.killed_count;
        all.waited_count += one.waited_count;
        all.prepares_count += one.prepares_count;
    }
    trace_set_hooks(NULL);
    print_message("%llu committed, of these %llu evaluated, %llu changed, %llu failed, %llu "
                  "unknown, %llu replies lost, %llu "
                  "recovered, %llu killed, %llu waited, of these %llu for their locks\n",
                  (unsigned long long)all.committed_count, (unsigned long long)all.evaluated_count,
                  (unsigned long long)all.changed_count, (unsigned long long)all.failed_count,
                  (unsigned long long)all.unknown_count, (unsigned long long)all.lost_replies_count,
                  (unsigned long long)all.recovered_count, (unsigned long long)all.killed_count,
                  (unsigned long long)all.waited_count, (unsigned long long)all.prepares_count);
    if (count >= SEED_COUNT) {
        assert_true(all.committed_count > 0 && all.changed_count > 0 && all.failed_count > 0);
        assert_true(all.unknown_count > 0 && all.lost_replies_count > 0);
        assert_true(all.recovered_count > 0 && all.killed_count > 0 && all.waited_count > 0);
        assert_true(all.prepares_count > 0 && all.evaluated_count > 0);
    }
}

/* A coordinator that dies behind its n-th message, for every n of the first transactions. */
static void test_a_coordinator_dies_at_every_step(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= STEP_COUNT; n++) {
        char text[KV__FAILURE_SIZE];
        const struct kv__txn_options options = {
            .shard_count = 3,
            .coordinator_count = 2,
            .client_count = 3,
            .key_count = 6,
            .operation_count = 30,
            .delay_ms_max = 3,
            .recovery_age_ms = 200,
            .transaction_percent = 80,
            .kill_at_submission = n,
        };
        const char *failure = kv__txn_live(&options, 7, text, NULL);
        if (failure != NULL) {
            fail_msg("killed behind message %u: %s", n, failure);
        }
    }
}

#ifdef TUTTI_PLANTED_BUGS
static bool is_bug(void *context, const char *name)
{
    return strcmp(context, name) == 0;
}

static void test_planted_bugs(void **state)
{
    (void)state;
    static const char *const bugs[] = {
        "txn.tells_before_decision",  "txn.presumed_commit",      "txn.timeout_aborts",
        "txn.majority_suffices",      "kv.vote_not_durable",      "kv.unlocked_with_the_vote",
        "kv.part_not_compared",       "kv.finish_executes_again", "kv.late_prepare_accepted",
        "kv.outcome_forgotten_early", "shard.lock_passed",        "kv.intents_ignored",
        "kv.waiting_passed",          "txn.order_ignored",        "kv.evaluated_unwatched",
    };
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        struct trace_hooks hooks = {.context = (void *)(uintptr_t)bugs[i], .bug = is_bug};
        trace_set_hooks(&hooks);
        const char *failure = NULL;
        char text[KV__FAILURE_SIZE];
        uint64_t seed = 0;
        while (failure == NULL && seed < BUG_SEED_COUNT_MAX) {
            failure = live(++seed, text, NULL);
        }
        trace_set_hooks(NULL);
        if (failure == NULL) {
            fail_msg("%s is not found", bugs[i]);
        }
        print_message("%s: %llu seeds: %s\n", bugs[i], (unsigned long long)seed, failure);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lives),
        cmocka_unit_test(test_a_coordinator_dies_at_every_step),
#ifdef TUTTI_PLANTED_BUGS
        cmocka_unit_test(test_planted_bugs),
#endif
    };
    return cmocka_run_group_tests_name("kv_txn_random", tests, NULL, NULL);
}
