/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/config/config.h"

static struct error problem;

static int load(struct config_start *target, const char *const *arguments, int argument_count,
                const char *const *environment)
{
    struct config_sources sources = {
        .argument_count = argument_count, .arguments = arguments, .environment = environment};
    problem = (struct error){0};
    return config_start_load(&sources, target, &problem);
}

#define LOAD(target, environment, ...)                                                            \
    load((target), (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL},                        \
         (int)(sizeof((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL}) / sizeof(char *)) - \
             1,                                                                                   \
         (environment))

static void expect_problem(int status, const char *part)
{
    assert_int_equal(status, -EINVAL);
    if (strstr(problem.message, part) == NULL) {
        fail_msg("message: %s; expected in it: %s", problem.message, part);
    }
}

/* Claim: without any source there are the documented defaults. */
static void test_defaults(void **state)
{
    (void)state;
    char text[OS_ADDRESS_TEXT_SIZE];
    struct config_start start;
    assert_int_equal(LOAD(&start, NULL), 0);
    assert_string_equal(start.data, "tutti-data");
    assert_string_equal(os_address_format(&start.redis, text), "127.0.0.1:6379");
    assert_string_equal(os_address_format(&start.admin, text), "127.0.0.1:7379");
    assert_string_equal(os_address_format(&start.peer, text), "127.0.0.1:7380");
    assert_string_equal(start.advertise, "");
    assert_string_equal(start.zone, "");
    assert_string_equal(start.join, "");
    assert_string_equal(start.token, "");
    assert_int_equal(start.replicas, 0);
    assert_int_equal(start.split_size, 256 << 20);
    assert_int_equal(start.reactors, 0);
    assert_true(start.memory >= CONFIG_MEMORY_SIZE_BYTES_MIN);
    assert_int_equal(start.flush, CONFIG_FLUSH_ALWAYS);
    assert_int_equal(start.pipeline_order, CONFIG_ORDER_SHARD);
    assert_int_equal(start.log_format, OS_LOG_LOGFMT);
    assert_int_equal(start.log_level, OS_LOG_INFO);
    assert_string_equal(start.requirepass, "");
}

/* Claim C1: a flag beats a variable, which beats the file, which beats the default. */
static void test_order_of_sources(void **state)
{
    (void)state;
    char path[] = "/tmp/tutti-config-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    static const char content[] = "# comment\n"
                                  "; another\n"
                                  "data = from file\r\n"
                                  "reactors=3\n"
                                  "\n"
                                  "log-level : debug\n"
                                  "requirepass = a;b # \"c\" \n"
                                  "pipeline-order = connection\n"
                                  "memory = 1gb";
    assert_int_equal(write(descriptor, content, sizeof content - 1), sizeof content - 1);
    char variable[64];
    (void)snprintf(variable, sizeof variable, "TUTTI_CONFIG=%s", path);
    const char *const environment[] = {
        "HOME=/", "TUTTI_REACTORS=4", "TUTTI_LOG_FORMAT=json", "TUTTI_DATA=variable", variable,
        NULL};
    struct config_start start;
    assert_int_equal(
        LOAD(&start, environment, "--data=flag", "--flush", "everysec", "--split-size=0"), 0);
    assert_string_equal(start.data, "flag");
    assert_int_equal(start.reactors, 4);
    assert_int_equal(start.log_format, OS_LOG_JSON);
    assert_int_equal(start.log_level, OS_LOG_DEBUG);
    assert_int_equal(start.flush, CONFIG_FLUSH_EVERYSEC);
    assert_int_equal(start.pipeline_order, CONFIG_ORDER_CONNECTION);
    assert_int_equal(start.memory, 1ull << 30);
    assert_string_equal(start.requirepass, "a;b # \"c\"");
    assert_int_equal(start.split_size, 0);
    (void)unlink(path);
    (void)close(descriptor);
}

/* Claim C3: bad flags are told by name, with what was expected, and the struct stays as it was. */
static void test_bad_flags(void **state)
{
    (void)state;
    struct config_start start = {.reactors = 77};
    expect_problem(LOAD(&start, NULL, "--rediss", "x"),
                   "unknown flag \"--rediss\"; did you mean --redis?");
    expect_problem(LOAD(&start, NULL, "--nonsense=1"), "unknown flag \"--nonsense\"; --help");
    expect_problem(LOAD(&start, NULL, "--requirepas=secret"),
                   "unknown flag \"--requirepas\"; did you mean --requirepass?");
    assert_null(strstr(problem.message, "secret"));
    expect_problem(LOAD(&start, NULL, "--data="), "--data: \"\" is not the name of a directory");
    expect_problem(LOAD(&start, NULL, "extra"), "unexpected \"extra\"");
    expect_problem(LOAD(&start, NULL, "--data"), "--data needs a value: --data DIR");
    expect_problem(LOAD(&start, NULL, "--data", "a", "--data=b"), "--data is given twice");
    expect_problem(LOAD(&start, NULL, "--reactors", "0"),
                   "--reactors: \"0\" is not between 1 and 64");
    expect_problem(LOAD(&start, NULL, "--reactors", "two"), "is not a whole number");
    expect_problem(LOAD(&start, NULL, "--memory", "63mb"), "--memory: \"63mb\" is less than 64mb");
    expect_problem(LOAD(&start, NULL, "--memory", "big"), "is not a size");
    expect_problem(LOAD(&start, NULL, "--split-size", "1000kb"),
                   "--split-size: \"1000kb\" is less than 1mb, and not 0 (no splits by size)");
    expect_problem(LOAD(&start, NULL, "--split-size", "-1"), "is not a size");
    expect_problem(LOAD(&start, NULL, "--flush", "never"), "is not one of: always, everysec");
    expect_problem(LOAD(&start, NULL, "--redis", "6379"), "is not ADDRESS:PORT");
    assert_int_equal(LOAD(&start, NULL, "--config", "/no/such/file"), -ENOENT);
    assert_non_null(strstr(problem.message, "configuration file: open /no/such/file: No such"));
    assert_int_equal(start.reactors, 77);
}

/* Claim C2 and C3: variables are checked too, misspelt ones are found, foreign ones are let be, and
 * secrets are not repeated. */
static void test_variables(void **state)
{
    (void)state;
    struct config_start start;
    static char secret[CONFIG_TEXT_SIZE + 40] = "TUTTI_REQUIREPASS=";
    memset(secret + strlen(secret), 'p', CONFIG_TEXT_SIZE);
    expect_problem(LOAD(&start, ((const char *const[]){"TUTTI_REACTORS=x", NULL}), "--reactors=2"),
                   "variable TUTTI_REACTORS: \"x\" is not");
    expect_problem(LOAD(&start, ((const char *const[]){"TUTTI_REDDIS=x", NULL})),
                   "variable TUTTI_REDDIS: no such option; did you mean \"redis\"?");
    expect_problem(LOAD(&start, ((const char *const[]){secret, NULL})),
                   "variable TUTTI_REQUIREPASS: is longer");
    assert_null(strstr(problem.message, "ppp"));
    const char *const platform[] = {"TUTTI_PORT=tcp://10.0.0.1:6379", "TUTTI_SERVICE_HOST=10.0.0.1",
                                    "TUTTI_=", "TUTTI", NULL};
    assert_int_equal(LOAD(&start, platform), 0);
}

/* Claim C3: errors in a file name the file and the line. */
static void test_bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *problem;
    } cases[] = {
        {"data = x\nrediss = 1\n", "my.conf:2: unknown option \"rediss\"; did you mean \"redis\"?"},
        {"data = x\n\n\nnonsense\n", "my.conf:4: expected: name = value"},
        {"data = x\ndata = y\n", "my.conf:2: \"data\" is set twice, first in line 1"},
        {"[node]\ndata = x\n", "my.conf:2: sections are not known"},
        {"reactors = -1", "my.conf:1: reactors: \"-1\" is not a whole number"},
        {"config = other", "my.conf:1: a configuration file cannot name another"},
        {"# fine\ndata = \x01\n", "my.conf:2: the line has control characters"},
        {"data = x ; not a comment\nmemory = 64mb # none\n", "my.conf:2: memory: \"64mb # none\""},
        {"[broken\n", "my.conf:1: expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_start start = {.reactors = 77};
        int status = config_load_text(&config_start_table, "my.conf", bytes_of_text(cases[i].text),
                                      &start, &problem);
        expect_problem(status, cases[i].problem);
        assert_int_equal(start.reactors, 77);
    }
    static char long_line[CONFIG_LINE_SIZE_MAX + 10];
    memset(long_line, 'x', sizeof long_line);
    struct config_start start = {0};
    expect_problem(config_load_text(&config_start_table, "my.conf",
                                    bytes_make(long_line, sizeof long_line), &start, &problem),
                   "my.conf:1: the line is too long");
}

/* Claim: beyond loopback nobody is served without a password. */
static void test_loopback_without_password(void **state)
{
    (void)state;
    struct config_start start;
    assert_int_equal(LOAD(&start, NULL, "--redis", "0.0.0.0:6379"), -EACCES);
    assert_non_null(strstr(problem.message, "--requirepass"));
    assert_int_equal(LOAD(&start, NULL, "--admin", "[::]:7379"), -EACCES);
    assert_int_equal(LOAD(&start, NULL, "--redis", "0.0.0.0:6379", "--requirepass", "secret"), 0);
}

/* Claim: help is asked for anywhere, and names every option with unit, default and variable. */
static void test_help(void **state)
{
    (void)state;
    const char *const arguments[] = {"--data", "--help"};
    struct config_sources sources = {.argument_count = 2, .arguments = arguments};
    assert_true(config_is_help_wanted(&sources));
    sources.argument_count = 1;
    assert_false(config_is_help_wanted(&sources));
    struct buffer text = {0};
    config_help(&config_start_table, &text);
    buffer_append_byte(&text, 0);
    const char *help = (const char *)text.data;
    assert_non_null(strstr(help, "  --log-format logfmt|json\n"));
    assert_non_null(strstr(help, "Default: logfmt. Variable: TUTTI_LOG_FORMAT.\n"));
    assert_non_null(strstr(help, "Default: none. Variable: TUTTI_REQUIREPASS.\n"));
    for (uint32_t i = 0; i < config_start_table.option_count; i++) {
        assert_non_null(strstr(help, config_start_table.options[i].name));
    }
    for (const char *line = help; *line != '\0'; line = strchr(line, '\n') + 1) {
        assert_true(strcspn(line, "\n") <= 90);
    }
    buffer_deinit(&text);
}

#define TOKEN                                        \
    "tutti1-aeaaodqvdqrsumjyh5de2vc3mjuxa536qwgjhgv" \
    "bvcx3npoezpjnt7767x6px6xz7d37n5pu6pzpd4bkefp6m"

/* Claim: a node is told whom to join by one flag or several, by a list in a variable or the file, and
 * a stronger source replaces the list of a weaker one. */
static void test_join(void **state)
{
    (void)state;
    struct config_start start;
    char part[CONFIG_TEXT_SIZE];
    const char *const environment[] = {"TUTTI_JOIN=e1:1,[::1]:2", "TUTTI_TOKEN=" TOKEN, NULL};
    assert_int_equal(LOAD(&start, environment), 0);
    assert_string_equal(start.join, "e1:1,[::1]:2");
    assert_string_equal(start.token, TOKEN);
    assert_int_equal(LOAD(&start, environment, "--join", "a:1", "--join=b:2,c:3", "--join", "d:4"),
                     0);
    assert_string_equal(start.join, "a:1,b:2,c:3,d:4");
    assert_true(config_list_at(start.join, 0, part));
    assert_string_equal(part, "a:1");
    assert_true(config_list_at(start.join, 3, part));
    assert_string_equal(part, "d:4");
    assert_false(config_list_at(start.join, 4, part));
    assert_false(config_list_at("", 0, part));
    assert_int_equal(LOAD(&start, NULL, "--peer", "0.0.0.0:7380", "--advertise",
                          "db1.example.org:80", "--zone", "rack-1", "--replicas", "5", "--shards",
                          "16"),
                     0);
    assert_string_equal(start.advertise, "db1.example.org:80");
    assert_string_equal(start.zone, "rack-1");
    assert_int_equal(start.replicas, 5);
    assert_int_equal(start.shards, 16);
}

/* Claim: what cannot work in a cluster is told before anything is started, and no token is
 * repeated. */
static void test_bad_cluster(void **state)
{
    (void)state;
    struct config_start start;
    char lost[] = TOKEN;
    lost[20] = '\0';
    expect_problem(LOAD(&start, NULL, "--join", "a:1"), "--join needs a token: run `tutti token`");
    expect_problem(LOAD(&start, NULL, "--token", TOKEN), "add --join HOST:PORT");
    expect_problem(LOAD(&start, NULL, "--join", "a:1", "--token", "hunter2"),
                   "--token: this is not a join token");
    assert_null(strstr(problem.message, "hunter2"));
    expect_problem(LOAD(&start, NULL, "--join", "a:1", "--token", lost), "is damaged");
    assert_null(strstr(problem.message, lost));
    expect_problem(LOAD(&start, NULL, "--join", "a", "--token", TOKEN), "is not HOST:PORT");
    expect_problem(LOAD(&start, NULL, "--join", "a:0", "--token", TOKEN), "is not HOST:PORT");
    expect_problem(LOAD(&start, NULL, "--join", "a:1,,b:2", "--token", TOKEN), "an empty part");
    expect_problem(LOAD(&start, NULL, "--join", "a:1", "--join", "b", "--token", TOKEN),
                   "is not HOST:PORT");
    expect_problem(LOAD(&start, NULL, "--peer", "0.0.0.0:7380"), "add --advertise HOST:PORT");
    expect_problem(LOAD(&start, NULL, "--peer", "[::]:7380"), "add --advertise HOST:PORT");
    expect_problem(LOAD(&start, NULL, "--advertise", "here"), "is not HOST:PORT");
    expect_problem(LOAD(&start, NULL, "--zone", "rack 1"), "--zone: \"rack 1\" is not a name");
    expect_problem(LOAD(&start, NULL, "--zone", "123456789012345678901234567890123"),
                   "is longer than 32 characters");
    expect_problem(LOAD(&start, NULL, "--replicas", "2"), "is not 1, 3 or 5");
    expect_problem(LOAD(&start, NULL, "--replicas", "7"), "is not between 1 and 5");
    expect_problem(LOAD(&start, NULL, "--shards", "0"), "is not between 1 and 16384");
    expect_problem(LOAD(&start, NULL, "--shards", "16385"), "is not between 1 and 16384");
}

/* Claim: a list that grows too long is refused, not cut. */
static void test_long_list(void **state)
{
    (void)state;
    struct config_start start;
    char host[200];
    memset(host, 'h', sizeof host);
    memcpy(host + sizeof host - 3, ":1", 3);
    expect_problem(
        LOAD(&start, NULL, "--token", TOKEN, "--join", host, "--join", host, "--join", host),
        "--join: is longer than 511 characters");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_bad_cluster),
        cmocka_unit_test(test_long_list),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_order_of_sources),
        cmocka_unit_test(test_bad_flags),
        cmocka_unit_test(test_variables),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_loopback_without_password),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
