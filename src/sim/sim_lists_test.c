/* SPDX-License-Identifier: Apache-2.0 */
/* The check of lists accepts what one order explains, and refuses, for its reason, what none does:
 * halves, lost and doubled appends, circles of what was seen, of real time and of sessions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/sim_internal.h"

enum { OPERATION_COUNT_MAX = 16, STEP_COUNT_MAX = 8, LIST_COUNT = 2 };

struct history {
    struct sim__list_operation operations[OPERATION_COUNT_MAX];
    struct sim__list_step steps[OPERATION_COUNT_MAX][STEP_COUNT_MAX];
    uint32_t count;
    char text[2048];
};

/* `+0:5` appends 5 to list 0; `?0:1,5,` is a read that saw that; `?0` one that was not answered. */
static struct sim__list_step parse_step(char *word)
{
    struct sim__list_step step = {.list = (uint32_t)(word[1] - '0')};
    if (word[0] == '+') {
        step.element = (uint32_t)strtoul(word + 3, NULL, 10);
    } else if (word[2] == ':') {
        step.is_seen = true;
        step.seen = bytes_of_text(word + 3);
    }
    return step;
}

/* One operation per line: session (upper case: of a pipeline), begin, end (`-`: unknown), steps. */
static void parse(struct history *history, const char *text)
{
    *history = (struct history){0};
    (void)snprintf(history->text, sizeof history->text, "%s", text);
    for (char *rest = history->text, *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (line[0] == '\0') {
            continue;
        }
        struct sim__list_step *steps = history->steps[history->count];
        struct sim__list_operation *operation = &history->operations[history->count++];
        *operation = (struct sim__list_operation){.steps = steps};
        char letter = strsep(&line, " ")[0];
        operation->is_of_pipeline = letter >= 'A' && letter <= 'Z';
        operation->session = (uint64_t)letter | 0x20;
        operation->started_at = strtoull(strsep(&line, " "), NULL, 10);
        char *end = strsep(&line, " ");
        operation->is_optional = end[0] == '-';
        operation->ended_at = operation->is_optional ? UINT64_MAX : strtoull(end, NULL, 10);
        for (char *word; (word = strsep(&line, " ")) != NULL;) {
            steps[operation->step_count++] = parse_step(word);
        }
    }
}

/* `reason`: how what is said begins; NULL: there is an order. */
static void check(const char *text, const char *first, const char *second, const char *reason)
{
    struct history history;
    char said[SIM_REASON_SIZE];
    const struct bytes lists[LIST_COUNT] = {bytes_of_text(first), bytes_of_text(second)};
    parse(&history, text);
    const char *failure =
        sim__lists_check(history.operations, history.count, lists, LIST_COUNT, said);
    if (reason == NULL && failure != NULL) {
        fail_msg("%s", failure);
    } else if (reason != NULL) {
        assert_non_null(failure);
        assert_memory_equal(failure, reason, strlen(reason));
    }
}

static void test_what_one_order_explains(void **state)
{
    (void)state;
    check("", "", "", NULL);
    check("a 1 4 +0:1 +1:2\nb 2 3 ?0: ?1:\nc 5 6 ?0:1, ?1:2,", "1,", "2,", NULL);
    /* The order is not that of the beginnings. */
    check("a 1 9 +0:1\nb 2 8 +0:2\nc 3 4 ?0:2,\nd 5 6 ?0:2,1,", "2,1,", "", NULL);
    /* A transaction sees what it did before, and not what it will do. */
    check("a 1 2 ?0: +0:1 ?0:1, +0:2 ?0:1,2,", "1,2,", "", NULL);
    /* An unknown one took effect, late; another never did; and what it saw nobody knows. */
    check("a 1 - +0:1 ?1\nb 2 3 ?0:\nc 4 5 ?0:1,\nd 1 - +0:7 +1:8", "1,", "", NULL);
    /* In a session the one that began first stands first, at the same moment the one before. */
    check("a 1 3 ?0:\na 1 4 +0:1\na 2 5 ?0:1,", "1,", "", NULL);
}

static void test_effects(void **state)
{
    (void)state;
    check("a 1 2 +0:1 +1:2", "1,", "", "an acknowledged append is lost");
    check("a 1 - +0:1 +1:2", "1,", "", "half of a transaction");
    check("a 1 2 +0:1", "1,1,", "", "an append took effect twice");
    check("a 1 2 +0:1", "1,5,", "", "a list has what nobody appended");
    check("a 1 2 +0:1\nb 1 2 +0:3", "1,2,3,", "", "a list has what was refused");
    check("a 1 2 +0:1", "", "1,", "a list has what was refused");
    check("a 1 2 +0:1", "1", "", "a list has what nobody appended");
}

static void test_what_reads_saw(void **state)
{
    (void)state;
    check("a 1 2 +0:1\nb 1 2 +0:2\nc 1 2 ?0:2,", "1,2,", "", "a read saw what is not the begin");
    check("a 1 2 +0:12\nc 1 2 ?0:1", "12,", "", "a read saw what is not the begin");
    check("a 1 2 ?0:1, +0:1", "1,", "", "a read does not see what its transaction did");
    check("a 1 2 +0:1 ?0:", "1,", "", "a read does not see what its transaction did");
}

static void test_circles(void **state)
{
    (void)state;
    static const char circle[] = "no order explains";
    /* Half of another one is seen. */
    check("a 1 9 +0:1 +1:2\nb 2 8 ?0:1, ?1:", "1,", "2,", circle);
    /* Two see each other's past: a skew of writes. */
    check("a 1 9 ?0: +1:1\nb 2 8 ?1: +0:2", "2,", "1,", circle);
    /* The orders of two lists contradict each other. */
    check("a 1 9 +0:1 +1:2\nb 1 9 +0:3 +1:4", "1,3,", "4,2,", circle);
    /* Two readers disagree on which was first. */
    check("a 1 9 +0:1\nb 1 9 +1:2\nc 2 8 ?0:1, ?1:\nd 2 8 ?0: ?1:2,", "1,", "2,", circle);
    /* Something came in between. */
    check("a 1 9 +0:1 +0:2\nb 1 9 +0:3", "1,3,2,", "", circle);
    /* An unknown one took effect, and then it counts. */
    check("a 1 - +0:1 +1:2\nb 2 8 ?0:1, ?1:", "1,", "2,", circle);
}

static void test_time_and_sessions(void **state)
{
    (void)state;
    static const char circle[] = "no order explains";
    check("a 1 2 +0:1\nb 3 4 ?0:", "1,", "", circle);
    check("a 1 2 +0:1\nb 3 4 +0:2", "2,1,", "", circle);
    check("a 1 3 +0:1\nb 2 4 ?0:", "1,", "", NULL);
    /* Through a third one that has nothing to do with the list. */
    check("a 1 2 +0:1\nb 3 4 ?1:\nc 5 6 ?0:", "1,", "", circle);
    /* What began before an unknown one does not see it. */
    check("a 1 2 ?0:1,\nb 3 - +0:1", "1,", "", circle);
    check("a 1 8 +0:1\na 2 9 ?0:", "1,", "", circle);
    check("a 1 8 ?0:1,\na 2 9 +0:1", "1,", "", circle);
    check("a 1 8 ?0:1,\nb 2 9 +0:1", "1,", "", NULL);
}

/* Of a pipeline each list has its order, and with what is between all have. */
static void test_pipelines(void **state)
{
    (void)state;
    static const char circle[] = "no order explains";
    /* The flag before the data. */
    static const char text[] = "%c 1 9 +0:1\n%s%c 3 9 +1:2\nb 4 8 ?1:2, ?0:";
    static const struct {
        char first;
        const char *between;
        char second;
        const char *reason;
    } cases[] = {
        {'A', "", 'A', NULL},
        {'a', "", 'a', circle},
        {'A', "", 'a', circle},
        {'a', "", 'A', circle},
        {'A', "A 2 9 ?0:1,\n", 'A', NULL},
        {'A', "A 2 9 ?0:1, ?1:\n", 'A', circle},
        {'A', "a 2 9\n", 'A', circle},
        {'A', "c 2 9\n", 'A', NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char lines[256];
        (void)snprintf(lines, sizeof lines, text, cases[i].first, cases[i].between,
                       cases[i].second);
        check(lines, "1,", "2,", cases[i].reason);
    }
    check("A 1 8 +0:1\nA 2 9 +1:2\nA 3 9 ?0:", "1,", "2,", circle);
    check("A 1 8 +0:1\na 2 9\nA 3 9 +1:2\nA 4 9 +1:3\nb 5 9 ?1:2,3, ?0:", "1,", "2,3,", circle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_one_order_explains), cmocka_unit_test(test_effects),
        cmocka_unit_test(test_what_reads_saw),          cmocka_unit_test(test_circles),
        cmocka_unit_test(test_time_and_sessions),       cmocka_unit_test(test_pipelines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
