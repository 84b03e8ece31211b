/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert/assert.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/trace/trace.h"

/* Runs `body` in a child process and gives what it wrote to standard error. */
static char *output_of_death(void (*body)(void), int *status)
{
    static char output[4096];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        const struct rlimit no_core = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)dup2(ends[1], STDERR_FILENO);
        body();
        _exit(0);
    }
    (void)close(ends[1]);
    size_t used = 0;
    ssize_t got;
    while ((got = read(ends[0], output + used, sizeof output - 1 - used)) > 0) {
        used += (size_t)got;
    }
    output[used] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, status, 0), child);
    return output;
}

static void fail_a_claim(void)
{
    TRACE("before.failure", 1, 2, 3, 4);
    int one = 1;
    ASSERT(one == 2);
}

static void test_a_failed_claim_stops_the_program_and_says_where(void **state)
{
    /* The claim, its place and the recent trace are printed; the process is gone by abort(). */
    int status;
    const char *output = output_of_death(fail_a_claim, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(output, "assert_test.c:"));
    assert_non_null(strstr(output, "assertion failed: one == 2"));
    assert_non_null(strstr(output, "before.failure 1 2 3 4"));
}

static void break_an_implication(void)
{
    bool is_leader = true;
    ASSERT_IF(is_leader, !is_leader);
}

static void test_an_implication_fails_only_when_its_condition_holds(void **state)
{
    /* ASSERT_IF(false, false) is true. */
    bool is_leader = false;
    ASSERT_IF(is_leader, is_leader);
    int status;
    (void)output_of_death(break_an_implication, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void run_out_of_something(void)
{
    assert_fatal("no %s left", "paper");
}

static void test_a_fatal_condition_says_what_it_is(void **state)
{
    /* For a person: no file, no line. */
    int status;
    assert_string_equal(output_of_death(run_out_of_something, &status), "no paper left\n");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_slow_claims_are_not_evaluated_in_production(void **state)
{
    /* They may cost anything, so an ordinary build must not even compute them. */
    int evaluated = 0;
    ASSERT_SLOW(++evaluated > 0);
#ifdef TUTTI_SLOW_CHECKS
    assert_int_equal(evaluated, 1);
#else
    assert_int_equal(evaluated, 0);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failed_claim_stops_the_program_and_says_where),
        cmocka_unit_test(test_an_implication_fails_only_when_its_condition_holds),
        cmocka_unit_test(test_a_fatal_condition_says_what_it_is),
        cmocka_unit_test(test_slow_claims_are_not_evaluated_in_production),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
