/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct seen {
    uint64_t record_count;
    struct trace_record last;
    const char *wanted_fault;
    const char *probe;
};

static void keep_record(void *context, const struct trace_record *record)
{
    struct seen *seen = context;
    seen->record_count++;
    seen->last = *record;
}

static bool want_fault(void *context, const char *name)
{
    const struct seen *seen = context;
    return strcmp(name, seen->wanted_fault) == 0;
}

static void keep_probe(void *context, const char *name)
{
    ((struct seen *)context)->probe = name;
}

static void test_a_sink_gets_every_record(void **state)
{
    /* Name and values arrive as they were emitted, and no longer once the hooks are gone. */
    struct seen seen = {0};
    const struct trace_hooks hooks = {.context = &seen, .record = keep_record};
    trace_set_hooks(&hooks);
    TRACE("vote.denied", 2, 3, 4, UINT64_MAX);
    assert_int_equal(seen.record_count, 1);
    assert_string_equal(seen.last.name, "vote.denied");
    assert_true(seen.last.values[0] == 2 && seen.last.values[1] == 3);
    assert_true(seen.last.values[2] == 4 && seen.last.values[3] == UINT64_MAX);
    trace_set_hooks(NULL);
    TRACE("vote.denied", 0, 0, 0, 0);
    assert_int_equal(seen.record_count, 1);
}

static void test_faults_are_dormant_without_a_simulator(void **state)
{
    /* Production has no hooks, or hooks without this member: never a fault, and a probe is free. */
    assert_false(FAULT("trace.test"));
    PROBE("trace.test");
    const struct trace_hooks hooks = {0};
    trace_set_hooks(&hooks);
    assert_false(FAULT("trace.test"));
    assert_false(trace_bug("trace.test"));
    PROBE("trace.test");
    TRACE("trace.test", 1, 2, 3, 4);
    trace_set_hooks(NULL);
}

static void test_the_simulator_chooses_faults_by_name(void **state)
{
    /* Only the one that was asked for fires, and a probe tells its name. */
    struct seen seen = {.wanted_fault = "wal.torn_write"};
    const struct trace_hooks hooks = {.context = &seen, .fault = want_fault, .probe = keep_probe};
    trace_set_hooks(&hooks);
    assert_true(FAULT("wal.torn_write"));
    assert_false(FAULT("wal.slow_flush"));
    PROBE("raft.vote.stale");
    assert_string_equal(seen.probe, "raft.vote.stale");
    trace_set_hooks(NULL);
}

static void test_a_planted_bug_needs_a_build_that_plants(void **state)
{
    /* In a normal build BUG() is false even when a simulator says yes to everything. */
    struct seen seen = {.wanted_fault = "trace.test"};
    const struct trace_hooks hooks = {.context = &seen, .bug = want_fault};
    trace_set_hooks(&hooks);
    assert_true(trace_bug("trace.test"));
#ifdef TUTTI_PLANTED_BUGS
    assert_true(BUG("trace.test"));
#else
    assert_false(BUG("trace.test"));
#endif
    trace_set_hooks(NULL);
}

static void test_the_last_records_are_printed_oldest_first(void **state)
{
    /* A ring: what came before the last TRACE_RECENT_COUNT is gone, nothing else. */
    for (uint64_t i = 0; i < TRACE_RECENT_COUNT + 5; i++) {
        TRACE("ring.test", i, 0, 0, 7);
    }
    char *text = NULL;
    size_t size_bytes = 0;
    FILE *file = open_memstream(&text, &size_bytes);
    assert_non_null(file);
    trace_print_recent(file);
    assert_int_equal(fclose(file), 0);
    uint64_t line_count = 0;
    uint64_t expected = 5;
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        unsigned long long value;
        const char *name = strstr(line, " ring.test ");
        assert_non_null(name);
        assert_int_equal(sscanf(name, " ring.test %llu 0 0 7", &value), 1);
        assert_true(value == expected++);
        line_count++;
    }
    assert_int_equal(line_count, TRACE_RECENT_COUNT);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sink_gets_every_record),
        cmocka_unit_test(test_faults_are_dormant_without_a_simulator),
        cmocka_unit_test(test_the_simulator_chooses_faults_by_name),
        cmocka_unit_test(test_a_planted_bug_needs_a_build_that_plants),
        cmocka_unit_test(test_the_last_records_are_printed_oldest_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
