/* SPDX-License-Identifier: Apache-2.0 */
/* The search for a linear order accepts histories that have one and refuses those that have
 * none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sim/sim_internal.h"

enum { OPERATION_COUNT_MAX = 64 };

/* A history as text: one operation per line,
 *   session start end command argument... -> reply
 * with end `?` for one without an answer, which may have had no effect. */
struct history {
    struct sim__operation operations[OPERATION_COUNT_MAX];
    struct bytes arguments[OPERATION_COUNT_MAX][3];
    uint32_t count;
    char text[4096];
};

static void parse_line(struct history *history, char *line)
{
    char *arrow = strstr(line, " -> ");
    assert_non_null(arrow);
    *arrow = '\0';
    char *words[8];
    uint32_t word_count = 0;
    for (char *place = line, *word; (word = strsep(&place, " ")) != NULL;) {
        words[word_count++] = word;
    }
    struct sim__operation *operation = &history->operations[history->count];
    struct bytes *arguments = history->arguments[history->count++];
    uint64_t started_at = (uint64_t)(words[1][0] - '0') * 10 + (uint64_t)(words[1][1] - '0');
    *operation = (struct sim__operation){
        .session = (uint64_t)words[0][0],
        .started_at = started_at,
        .protocol = 2,
        .command = kv_command_find(bytes_of_text(words[3])),
        .arguments = arguments,
        .argument_count = word_count - 4,
    };
    assert_non_null(operation->command);
    operation->is_optional = words[2][0] == '?';
    /* Lost ones could count until the next life of the node: here, until the end. */
    operation->ended_at = operation->is_optional
                              ? 1000
                              : (uint64_t)(words[2][0] - '0') * 10 + (uint64_t)(words[2][1] - '0');
    for (uint32_t i = 0; i < operation->argument_count; i++) {
        arguments[i] = bytes_of_text(words[4 + i]);
    }
    char reply[64];
    (void)snprintf(reply, sizeof reply, "%s\r\n", arrow + 4);
    char *bulk = strchr(reply, '|'); /* $1|x is $1\r\nx */
    struct buffer whole = {0};
    if (bulk != NULL) {
        buffer_append(&whole, bytes_make(reply, (size_t)(bulk - reply)));
        buffer_append(&whole, BYTES("\r\n"));
        buffer_append(&whole, bytes_of_text(bulk + 1));
    } else {
        buffer_append(&whole, bytes_of_text(reply));
    }
    operation->reply_hash = sim__reply_hash(operation->command, buffer_bytes(&whole));
    buffer_deinit(&whole);
}

static bool is_linearizable(const char *text)
{
    static struct history history;
    history.count = 0;
    (void)snprintf(history.text, sizeof history.text, "%s", text);
    for (char *place = history.text, *line; (line = strsep(&place, "\n")) != NULL;) {
        if (*line != '\0') {
            parse_line(&history, line);
        }
    }
    bool is_given_up = false;
    bool is_right = sim__is_linearizable(history.operations, history.count, &is_given_up);
    assert_false(is_given_up);
    return is_right;
}

static void one_after_the_other(void **state)
{
    assert_true(is_linearizable("a 01 02 set k x -> +OK\n"
                                "a 03 04 get k -> $1|x\n"
                                "b 05 06 del k -> :1\n"
                                "a 07 08 get k -> $-1\n"));
}

static void a_stale_read_is_refused(void **state)
{
    assert_false(is_linearizable("a 01 02 set k x -> +OK\n"
                                 "a 03 04 set k y -> +OK\n"
                                 "b 05 06 get k -> $1|x\n"));
}

static void a_lost_write_is_refused(void **state)
{
    assert_false(is_linearizable("a 01 02 set k x -> +OK\n"
                                 "b 03 04 get k -> $-1\n"));
}

/* Two that overlap may take effect in either order, but all must agree on it. */
static void overlapping_writes_have_one_order(void **state)
{
    assert_true(is_linearizable("a 01 05 set k x -> +OK\n"
                                "b 02 06 set k y -> +OK\n"
                                "c 07 08 get k -> $1|x\n"));
    assert_false(is_linearizable("a 01 05 set k x -> +OK\n"
                                 "b 02 06 set k y -> +OK\n"
                                 "c 07 08 get k -> $1|x\n"
                                 "c 09 10 get k -> $1|y\n"));
}

/* No reply is given twice where each must be another. */
static void counters_count_once(void **state)
{
    assert_true(is_linearizable("a 01 05 incr k -> :2\n"
                                "b 02 06 incr k -> :1\n"));
    assert_false(is_linearizable("a 01 05 incr k -> :1\n"
                                 "b 02 06 incr k -> :1\n"));
}

/* What was lost with a kill counted or did not, and stays so. */
static void a_lost_request_counts_once_or_never(void **state)
{
    assert_true(is_linearizable("a 01 ? set k x -> +OK\n"
                                "b 03 04 get k -> $1|x\n"));
    assert_true(is_linearizable("a 01 ? set k x -> +OK\n"
                                "b 03 04 get k -> $-1\n"));
    assert_false(is_linearizable("a 01 ? set k x -> +OK\n"
                                 "b 03 04 get k -> $1|x\n"
                                 "b 05 06 get k -> $-1\n"));
    assert_false(is_linearizable("a 01 ? incr k -> :1\n"
                                 "b 03 04 get k -> $1|2\n"));
}

/* A session's operations take effect in their order, although they overlap. */
static void a_session_keeps_its_order(void **state)
{
    assert_true(is_linearizable("a 01 05 set k x -> +OK\n"
                                "a 02 06 get k -> $1|x\n"));
    assert_false(is_linearizable("a 01 05 set k x -> +OK\n"
                                 "a 02 06 get k -> $-1\n"));
    assert_true(is_linearizable("a 01 05 set k x -> +OK\n"
                                "b 02 06 get k -> $-1\n"));
}

/* The order of fields in a reply, and the text of an error, do not count. */
static void replies_are_compared_by_meaning(void **state)
{
    const struct kv_command *hgetall = kv_command_find(BYTES("hgetall"));
    assert_int_equal(
        sim__reply_hash(hgetall, BYTES("*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n")),
        sim__reply_hash(hgetall, BYTES("*4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\na\r\n$1\r\n1\r\n")));
    assert_int_not_equal(
        sim__reply_hash(hgetall, BYTES("*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n")),
        sim__reply_hash(hgetall, BYTES("*4\r\n$1\r\na\r\n$1\r\n2\r\n$1\r\nb\r\n$1\r\n1\r\n")));
    assert_int_equal(sim__reply_hash(NULL, BYTES("-ERR one\r\n")),
                     sim__reply_hash(NULL, BYTES("-ERR other\r\n")));
    assert_int_not_equal(sim__reply_hash(NULL, BYTES("-ERR one\r\n")),
                         sim__reply_hash(NULL, BYTES("-WRONGTYPE one\r\n")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_after_the_other),
        cmocka_unit_test(a_stale_read_is_refused),
        cmocka_unit_test(a_lost_write_is_refused),
        cmocka_unit_test(overlapping_writes_have_one_order),
        cmocka_unit_test(counters_count_once),
        cmocka_unit_test(a_lost_request_counts_once_or_never),
        cmocka_unit_test(a_session_keeps_its_order),
        cmocka_unit_test(replies_are_compared_by_meaning),
    };
    return cmocka_run_group_tests_name("sim_check", tests, NULL, NULL);
}
