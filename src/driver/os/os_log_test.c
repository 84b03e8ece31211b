/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/os/os.h"

enum { OUTPUT_SIZE = 1 << 20 };

static int ends[2];
static char output[OUTPUT_SIZE];

static int setup(void **state)
{
    (void)state;
    return pipe2(ends, O_CLOEXEC | O_NONBLOCK);
}

static int teardown(void **state)
{
    (void)state;
    (void)close(ends[0]);
    (void)close(ends[1]);
    return 0;
}

static struct os_log *make_log(enum os_log_format format, enum os_log_level level)
{
    struct os_log_options options = {.descriptor = ends[1], .format = format, .level = level};
    return os_log_create(&options);
}

/* What was written since the last call. */
static const char *drain(void)
{
    size_t used = 0;
    ssize_t count = 0;
    while ((count = read(ends[0], output + used, sizeof output - used - 1)) > 0) {
        used += (size_t)count;
    }
    output[used] = '\0';
    return output;
}

static void expect_end(const char *line, const char *end)
{
    size_t size = strlen(line);
    size_t end_size = strlen(end);
    if (size < end_size || strcmp(line + size - end_size, end) != 0) {
        fail_msg("line: %s expected end: %s", line, end);
    }
}

/* Claim: a line has a time, a level, the event and its fields; plain values stay bare. */
static void test_logfmt(void **state)
{
    (void)state;
    struct os_log *log = make_log(OS_LOG_LOGFMT, OS_LOG_INFO);
    OS_LOG_INFO(log, "node.ready", "redis=%s took_ms=%u ratio=%.2f at=%d/%d", "127.0.0.1:6379", 12u,
                0.5, 1, 2);
    const char *line = drain();
    assert_int_equal(strncmp(line, "time=2", 6), 0);
    assert_int_equal(line[28], 'Z');
    expect_end(line, " level=info event=node.ready redis=127.0.0.1:6379 took_ms=12 ratio=0.50 "
                     "at=1/2\n");
    OS_LOG_WARN(log, "node.alone");
    expect_end(drain(), " level=warn event=node.alone\n");
    os_log_destroy(log);
}

/* Claim: every width of integer, strings with a length and a star, and percent signs print
 * right. */
static void test_conversions(void **state)
{
    (void)state;
    struct os_log *log = make_log(OS_LOG_LOGFMT, OS_LOG_DEBUG);
    const char *volatile nothing = NULL; /* Or the compiler would see it. */
    OS_LOG_DEBUG(log, "all.kinds",
                 "a=%" PRIu64 " b=%lld c=%zu d=%.*s e=%5d f=%c g=%#x h=%ld i=%d%% j=%s k=%" PRId64,
                 UINT64_MAX, -5ll, (size_t)7, 3, "abcdef", 42, 'z', 255u, -9l, 50, nothing,
                 INT64_MIN);
    expect_end(drain(), " a=18446744073709551615 b=-5 c=7 d=abc e=\"   42\" f=z g=0xff h=-9 i=50% "
                        "j=(null) k=-9223372036854775808\n");
    os_log_destroy(log);
}

/* Claim: no value can forge a field, a quote or a line. */
static void test_quoting(void **state)
{
    (void)state;
    struct os_log *log = make_log(OS_LOG_LOGFMT, OS_LOG_INFO);
    OS_LOG_INFO(log, "x.y", "a=%s b=%s c=%s d=%s e=%d", "two words", "", "q\"\\\n\x01",
                "k=v level=error", 3);
    expect_end(drain(), " a=\"two words\" b=\"\" c=\"q\\\"\\\\\\n\\u0001\" d=\"k=v level=error\" "
                        "e=3\n");
    OS_LOG_INFO(log, "x.y", "a=%s b=%s", "gr\xc3\xbc\xc3\x9f", "\xff\xc3(");
    expect_end(drain(), " a=\"gr\xc3\xbc\xc3\x9f\" b=\"\\ufffd\\ufffd(\"\n");
    os_log_destroy(log);
}

/* Claim: JSON lines are objects; numbers are numbers, everything else a string. */
static void test_json(void **state)
{
    (void)state;
    struct os_log *log = make_log(OS_LOG_JSON, OS_LOG_INFO);
    OS_LOG_ERROR(log, "disk.full", "path=%s free=%u rest=%d ratio=%f odd=%f both=%d/%d", "/a \"b\"",
                 7u, -1, 0.25, 1.0 / 0.0, 1, 2);
    const char *line = drain();
    assert_int_equal(strncmp(line, "{\"time\":\"2", 10), 0);
    expect_end(line,
               "\"level\":\"error\",\"event\":\"disk.full\",\"path\":\"/a \\\"b\\\"\",\"free\":7,"
               "\"rest\":-1,\"ratio\":0.250000,\"odd\":\"inf\",\"both\":\"1/2\"}\n");
    os_log_destroy(log);
}

/* Claim: lower levels are left out, and the level can be changed. */
static void test_levels(void **state)
{
    (void)state;
    struct os_log *log = make_log(OS_LOG_LOGFMT, OS_LOG_WARN);
    OS_LOG_INFO(log, "x.y");
    assert_string_equal(drain(), "");
    os_log_set_level(log, OS_LOG_DEBUG);
    OS_LOG_DEBUG(log, "x.y");
    assert_string_not_equal(drain(), "");
    assert_int_equal(os_log_count(log, OS_LOG_DEBUG), 1);
    assert_int_equal(os_log_count(log, OS_LOG_INFO), 0);
    OS_LOG_INFO(NULL, "x.y"); /* No log: silence. */
    os_log_destroy(log);
}

static int count_lines(const char *text)
{
    int count = 0;
    for (const char *each = text; *each != '\0'; each++) {
        count += *each == '\n';
    }
    return count;
}

/* Claim: what repeats itself is cut off, and its next line says how many are missing. */
static void test_repeats(void **state)
{
    (void)state;
    struct os_log *log = make_log(OS_LOG_LOGFMT, OS_LOG_INFO);
    for (int i = 0; i < 101; i++) {
        if (i == 100) {
            assert_int_equal(count_lines(drain()), OS_LOG_REPEATS_PER_SECOND);
            os_sleep_ms(1100);
        }
        OS_LOG_INFO(log, "again.and_again", "i=%d", i);
    }
    expect_end(drain(), " event=again.and_again i=100 suppressed=90\n");
    os_log_destroy(log);
}

/* Claim: a huge value is cut and huge lines lose their last fields, and the line still ends. */
static void test_long_lines(void **state)
{
    (void)state;
    static char huge[8000];
    memset(huge, 'x', sizeof huge - 1);
    struct os_log *log = make_log(OS_LOG_JSON, OS_LOG_INFO);
    OS_LOG_INFO(log, "x.y", "a=%s b=%s c=%s d=%s e=%d", huge, huge, huge, huge, 5);
    const char *line = drain();
    assert_true(strlen(line) <= OS_LOG_LINE_SIZE_MAX);
    expect_end(line, "x\",\"e\":5}\n");
    assert_null(strstr(line, "\"d\":"));
    assert_int_equal(count_lines(line), 1);
    os_log_destroy(log);
}

static void write_many(void *context)
{
    for (int i = 0; i < 200; i++) {
        OS_LOG_INFO(context, "thread.line", "text=%s number=%d", "some words here", i);
        os_log_set_level(context, OS_LOG_INFO);
    }
}

/* Claim: threads do not mix their lines. */
static void test_threads(void **state)
{
    (void)state;
    struct os_log *log = make_log(OS_LOG_LOGFMT, OS_LOG_INFO);
    struct os_thread *threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(os_thread_start(&threads[i], "logger", write_many, log, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        os_thread_join(threads[i]);
    }
    const char *text = drain();
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        assert_int_equal(strncmp(line, "time=", 5), 0);
        assert_non_null(strchr(line, '\n'));
    }
    assert_int_equal(os_log_count(log, OS_LOG_INFO), count_lines(text));
    os_log_destroy(log);
}

/* Claim: on a terminal lines are coloured and short; with NO_COLOR, or when told, they are
 * plain. */
static void test_terminal(void **state)
{
    (void)state;
    int controller = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (controller < 0 || grantpt(controller) != 0 || unlockpt(controller) != 0) {
        skip();
    }
    int terminal = open(ptsname(controller), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(terminal >= 0);
    for (int i = 0; i < 3; i++) {
        (void)(i == 1 ? setenv("NO_COLOR", "1", 1) : unsetenv("NO_COLOR"));
        struct os_log_options options = {
            .descriptor = terminal, .level = OS_LOG_INFO, .is_plain = i == 2};
        struct os_log *log = os_log_create(&options);
        char line[256] = {0};
        OS_LOG_WARN(log, "x.y", "a=%d", 1);
        assert_true(read(controller, line, sizeof line - 1) > 0);
        assert_int_equal(strchr(line, '\x1b') != NULL, i == 0);
        assert_int_equal(strncmp(line, "time=", 5) == 0, i != 0);
        os_log_destroy(log);
    }
    (void)close(terminal);
    (void)close(controller);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_logfmt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conversions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quoting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repeats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
        cmocka_unit_test(test_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
