/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "driver/os/os.h"
#include "driver/os/os_test_resolver.h"

enum { TURN_MS = 2, TEST_MS_MAX = 20000 };

static struct {
    struct os_loop *loop;
    struct os_timer *timer;
    uint64_t began_ms;
    int done_count;
    int status;
    struct os_address address;
    struct error error;
} asker;

static void stop_turn(void *context)
{
    os_loop_stop(context);
}

static int set_up(void **state)
{
    (void)state;
    memset(&asker, 0, sizeof asker);
    resolver_be_silent(false);
    resolver_say(1);
    asker.began_ms = os_monotonic_ms();
    assert_int_equal(os_loop_create(&asker.loop, NULL), 0);
    asker.timer = os_timer_create(asker.loop, stop_turn, asker.loop);
    return 0;
}

static void close_loop(void)
{
    os_timer_destroy(asker.timer);
    os_loop_destroy(asker.loop);
    asker.timer = NULL;
    asker.loop = NULL;
}

static int tear_down(void **state)
{
    (void)state;
    resolver_be_silent(false);
    close_loop();
    return 0;
}

static void turn(void)
{
    assert_true(os_monotonic_ms() < asker.began_ms + TEST_MS_MAX);
    os_timer_start(asker.timer, TURN_MS, 0);
    os_loop_run(asker.loop);
}

static void done(int status, const struct os_address *address, const struct error *error,
                 void *context)
{
    assert_ptr_equal(context, &asker);
    assert_int_equal(address != NULL, status == 0);
    asker.done_count++;
    asker.status = status;
    asker.address = address != NULL ? *address : (struct os_address){0};
    asker.error = *error;
}

static int start(struct os_lookup **lookup, const char *text)
{
    struct os_lookup_options options = {.text = text, .done = done, .context = &asker};
    return os_lookup_start(lookup, asker.loop, &options, NULL);
}

static void expect_format(const struct os_address *address, const char *expected)
{
    char text[OS_ADDRESS_TEXT_SIZE];
    assert_string_equal(os_address_format(address, text), expected);
}

/* Claim: numbers are read without the resolver; what is a name, or nothing, is left alone. */
static void test_numbers_need_no_lookup(void **state)
{
    (void)state;
    static const char *const others[] = {
        "localhost:80", "db1.example.org:80", "127.1:80", "1.2.3.4", "::1:80", "[::1]", "", ":80"};
    struct os_address address = {.port = 9};
    uint32_t asked_count = resolver_asked_count();
    assert_true(os_address_parse_number(&address, "10.1.2.3:7380"));
    expect_format(&address, "10.1.2.3:7380");
    assert_true(os_address_parse_number(&address, "[fd00::7]:7380"));
    expect_format(&address, "[fd00::7]:7380");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(os_address_parse_number(&address, others[i]));
        expect_format(&address, "[fd00::7]:7380");
    }
    assert_int_equal(resolver_asked_count(), asked_count);
}

/* Claim: the loop goes on while the resolver is silent, and hears once what it says in the end. */
static void test_the_loop_goes_on(void **state)
{
    (void)state;
    struct os_lookup *lookup = NULL;
    resolver_be_silent(true);
    assert_int_equal(start(&lookup, "db1.example.org:7380"), 0);
    while (resolver_waiting_count() == 0) {
        turn();
    }
    for (int i = 0; i < 20; i++) {
        turn();
    }
    assert_int_equal(asker.done_count, 0);
    resolver_say(7);
    resolver_be_silent(false);
    while (asker.done_count == 0) {
        turn();
    }
    assert_int_equal(asker.status, 0);
    expect_format(&asker.address, "127.0.0.7:7380");
    turn();
    assert_int_equal(asker.done_count, 1);
}

/* Claim: a name that is not known is an error, with the name; what cannot be one never begins. */
static void test_errors(void **state)
{
    (void)state;
    char text[OS_ADDRESS_NAME_SIZE + 1];
    struct os_lookup *lookup = NULL;
    uint32_t asked_count = resolver_asked_count();
    assert_int_equal(start(&lookup, "db1.example.org"), -EINVAL);
    (void)snprintf(text, sizeof text, "n:%0*d", OS_ADDRESS_NAME_SIZE - 2, 80);
    assert_int_equal(start(&lookup, text), -EINVAL);
    assert_null(lookup);
    assert_int_equal(resolver_asked_count(), asked_count);
    resolver_say(0);
    assert_int_equal(start(&lookup, "db1.example.org:7380"), 0);
    while (asker.done_count == 0) {
        turn();
    }
    assert_int_equal(asker.status, -EINVAL);
    assert_non_null(strstr(asker.error.message, "cannot find host \"db1.example.org\""));
}

/* Claim: a lookup that was cancelled is heard of no more, and its loop closes at once, wherever the resolver
 * is: before it was asked, while it is silent, when it has answered. */
static void test_cancelled_at_any_time(void **state)
{
    (void)state;
    for (int round = 0; round < 30; round++) {
        struct os_lookup *lookup = NULL;
        resolver_be_silent(round % 3 == 1);
        uint32_t asked_count = resolver_asked_count();
        assert_int_equal(start(&lookup, "db1.example.org:7380"), 0);
        while (round % 3 > 0 && resolver_asked_count() == asked_count) {
            os_sleep_ms(1);
        }
        if (round % 3 == 2) {
            os_sleep_ms((uint64_t)round / 10); /* It has signalled the loop, or is about to. */
        }
        uint64_t before_ms = os_monotonic_ms();
        os_lookup_cancel(lookup);
        turn();
        close_loop();
        assert_true(os_monotonic_ms() < before_ms + 1000);
        resolver_be_silent(false);
        assert_int_equal(os_loop_create(&asker.loop, NULL), 0);
        asker.timer = os_timer_create(asker.loop, stop_turn, asker.loop);
    }
    os_lookup_cancel(NULL);
    turn();
    assert_int_equal(asker.done_count, 0);
}

/* Claim: there are never more of them than the limit, whether somebody waits for them or not. */
static void test_limit(void **state)
{
    (void)state;
    struct os_lookup *lookups[OS_LOOKUPS_MAX] = {0};
    struct os_lookup *one_more = NULL;
    while (resolver_waiting_count() > 0) {
        turn(); /* Of tests before. */
    }
    resolver_be_silent(true);
    for (int i = 0; i < OS_LOOKUPS_MAX; i++) {
        while (start(&lookups[i], "db1.example.org:7380") != 0) {
            turn();
        }
    }
    while (resolver_waiting_count() < OS_LOOKUPS_MAX) {
        turn();
    }
    assert_int_equal(start(&one_more, "db2.example.org:7380"), -EBUSY);
    for (int i = 0; i < OS_LOOKUPS_MAX; i++) {
        os_lookup_cancel(lookups[i]);
    }
    assert_int_equal(start(&one_more, "db2.example.org:7380"), -EBUSY);
    resolver_be_silent(false);
    while (start(&one_more, "db2.example.org:7380") != 0) {
        turn();
    }
    while (asker.done_count == 0) {
        turn();
    }
    assert_int_equal(asker.status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_numbers_need_no_lookup),
        TEST(test_the_loop_goes_on),
        TEST(test_errors),
        TEST(test_cancelled_at_any_time),
        TEST(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
