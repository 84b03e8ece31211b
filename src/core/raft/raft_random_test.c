/* SPDX-License-Identifier: Apache-2.0 */
/* Random lives of groups (raft_life.h).
 *
 *   test_raft_random [--seeds N] [--first S] [--seed S] [--trace] [--bug NAME] [--bugs] [--quiet]
 *
 * --bug switches a planted bug on and says how many seeds it takes to find it, --bugs does so for
 * all of them (in a build with -Dplanted_bugs=true). */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/raft/raft_life.h"

enum { SEED_COUNT = 1000, BUG_SEED_COUNT_MAX = 20000 };

/* ---- Planted bugs ---------------------------------------------------------------------------- */

static const char *const bugs[] = {
    "raft.append_reply_before_durable",
    "raft.applied_before_durable",
    "raft.commit_before_persisted",
    "raft.configuration_when_committed",
    "raft.heartbeat_commits_unmatched",
    "raft.impaired_commits_unverified",
    "raft.impaired_counted",
    "raft.impaired_votes",
    "raft.learner_counted",
    "raft.lease_after_transfer",
    "raft.lease_without_margin",
    "raft.lost_acknowledged",
    "raft.mended_early",
    "raft.older_term_counted",
    "raft.one_majority_while_joint",
    "raft.prevote_raises_term",
    "raft.previous_term_ignored",
    "raft.promise_forgotten",
    "raft.removed_leader_counted",
    "raft.stale_append_truncates",
    "raft.truncated_configuration_kept",
    "raft.vote_before_durable",
    "raft.vote_ignores_log",
};

/* In a process of its own, because a bug may also end in an assertion. */
static bool does_fail(uint64_t seed, const char *bug, char *violation, size_t size_bytes)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        const char *text = raft__life_run(seed, bug, false);
        (void)!write(ends[1], text, strlen(text));
        _exit(0);
    }
    (void)close(ends[1]);
    ssize_t size = read(ends[0], violation, size_bytes - 1);
    (void)close(ends[0]);
    violation[size > 0 ? size : 0] = '\0';
    int outcome = 0;
    assert_int_equal(waitpid(child, &outcome, 0), child);
    if (!WIFEXITED(outcome)) {
        (void)snprintf(violation, size_bytes, "an assertion");
    }
    return violation[0] != '\0';
}

static bool find_bug(const char *name, uint64_t first, uint64_t count)
{
    char violation[256];
    for (uint64_t i = 0; i < count; i++) {
        if (does_fail(first + i, name, violation, sizeof violation)) {
            printf("%s found after %" PRIu64 " seeds, by seed %" PRIu64 ": %s\n", name, i + 1,
                   first + i, violation);
            return true;
        }
    }
    printf("%s not found in %" PRIu64 " seeds\n", name, count);
    return false;
}

#ifdef TUTTI_PLANTED_BUGS
static void each_planted_bug_is_found(void **state)
{
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        assert_true(find_bug(bugs[i], 1, BUG_SEED_COUNT_MAX));
    }
}
#endif

/* ---- Running --------------------------------------------------------------------------------- */

static void tell_seed(int number)
{
    char text[64];
    int length =
        snprintf(text, sizeof text, "raft_random: at seed %" PRIu64 "\n", raft__life_seed());
    (void)!write(STDERR_FILENO, text, (size_t)length);
    (void)signal(SIGABRT, SIG_DFL);
}

static uint64_t first_seed = 1;
static uint64_t seed_count = SEED_COUNT;

static void random_lives_are_safe(void **state)
{
    for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++) {
        const char *violation = raft__life_run(seed, NULL, false);
        if (violation[0] != '\0') {
            fail_msg("seed %" PRIu64 ": %s", seed, violation);
        }
    }
    for (uint32_t i = 0; raft__life_probe(i) != NULL; i++) {
        printf("reached %s\n", raft__life_probe(i));
    }
}

int main(int count, char **words)
{
    uint64_t seed = 0;
    bool is_tracing = false;
    bool does_seek_bugs = false;
    const char *sought = NULL;
    for (int i = 1; i < count; i++) {
        const char *value = i + 1 < count ? words[i + 1] : "";
        is_tracing |= strcmp(words[i], "--trace") == 0;
        does_seek_bugs |= strcmp(words[i], "--bugs") == 0;
        seed = strcmp(words[i], "--seed") == 0 ? strtoull(value, NULL, 10) : seed;
        first_seed = strcmp(words[i], "--first") == 0 ? strtoull(value, NULL, 10) : first_seed;
        seed_count = strcmp(words[i], "--seeds") == 0 ? strtoull(value, NULL, 10) : seed_count;
        sought = strcmp(words[i], "--bug") == 0 ? value : sought;
    }
    (void)signal(SIGABRT, tell_seed);
    if (seed != 0) {
        const char *violation = raft__life_run(seed, sought, is_tracing);
        printf("seed %" PRIu64 ": %s\n", seed, violation[0] != '\0' ? violation : "well");
        return violation[0] != '\0' ? 1 : 0;
    }
    if (sought != NULL) {
        return find_bug(sought, first_seed, seed_count) ? 0 : 1;
    }
    for (size_t i = 0; does_seek_bugs && i < sizeof bugs / sizeof *bugs; i++) {
        (void)find_bug(bugs[i], first_seed, seed_count);
    }
    if (does_seek_bugs) {
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives_are_safe),
#ifdef TUTTI_PLANTED_BUGS
        cmocka_unit_test(each_planted_bug_is_found),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
