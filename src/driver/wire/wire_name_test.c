/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that have names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "driver/os/os_test_resolver.h"
#include "driver/wire/wire_test_world.h"

/* `source` dials `target` by a name. */
static void introduce(struct party *source, const struct party *target, const char *name)
{
    char text[WIRE_ADDRESS_SIZE];
    (void)snprintf(text, sizeof text, "%s:%u", name, wire_address(target->wire).port);
    assert_int_equal(wire_set_peer(source->wire, target->node_id, text), 0);
}

static int set_up(void **state)
{
    resolver_be_silent(false);
    resolver_say(1);
    return world_setup(state);
}

static int tear_down(void **state)
{
    int status = world_teardown(state); /* Nothing waits for a resolver that is silent. */
    resolver_be_silent(false);
    return status;
}

static uint64_t fail_count(const struct party *party)
{
    struct wire_peer_statistics statistics = {0};
    assert_int_equal(wire_peers(party->wire, &statistics, 1), 1);
    return statistics.fail_count;
}

/* Claim: numbers are dialled without the resolver, each time. */
static void test_numbers_need_no_lookup(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    uint32_t asked_count = resolver_asked_count();
    resolver_be_silent(true);
    world_open(source);
    world_open(target);
    world_connect(source, target);
    world_close(target);
    UNTIL(has_text(&source->told, "wire.peer.unreachable"));
    world_open(target);
    UNTIL(wire_is_connected(source->wire, 2));
    assert_int_equal(resolver_asked_count(), asked_count);
}

/* Claim: what cannot be dialled is refused, and the peer that is there stays as it was. */
static void test_text_that_is_no_address(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(source);
    world_open(target);
    assert_int_equal(wire_set_peer(source->wire, 2, "db2.example.org"), -EINVAL);
    assert_int_equal(wire_peers(source->wire, NULL, 0), 0);
    world_connect(source, target);
    assert_int_equal(wire_set_peer(source->wire, 2, "::1:80"), -EINVAL);
    world_pass_ms(20);
    assert_true(bytes_equal(buffer_bytes(&source->heard), BYTES("connected 2\n")));
}

/* Claim: a node that comes back elsewhere under its name is found there; setting the same name again changes
 * nothing. */
static void test_a_name_that_moves(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(source);
    world_open(target);
    introduce(source, target, "db2.example.org");
    UNTIL(wire_is_connected(source->wire, 2));
    introduce(source, target, "db2.example.org");
    world_pass_ms(20);
    assert_true(bytes_equal(buffer_bytes(&source->heard), BYTES("connected 2\n")));
    world_close(target);
    UNTIL(has_text(&source->told, "at db2.example.org:"));
    assert_true(has_text(&source->told, "(127.0.0.1:"));
    target->options.listener.address.bytes[3] = 2; /* 127.0.0.2, at the same port. */
    world_open(target);
    world_pass_ms(200);
    assert_false(wire_is_connected(source->wire, 2));
    resolver_say(2);
    UNTIL(wire_is_connected(source->wire, 2));
}

/* Claim: with another text the peer is dialled anew, whatever was under way for the one before. */
static void test_text_changes(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(source);
    world_open(target);
    introduce(source, target, "db2.example.org");
    UNTIL(wire_is_connected(source->wire, 2));
    world_introduce(source, target); /* By numbers. */
    assert_false(wire_is_connected(source->wire, 2));
    UNTIL(wire_is_connected(source->wire, 2));
    resolver_be_silent(true);
    uint32_t asked_count = resolver_asked_count();
    introduce(source, target, "db2.example.org");
    UNTIL(resolver_asked_count() == asked_count + 1);
    assert_false(wire_is_connected(source->wire, 2));
    world_introduce(source, target);
    UNTIL(wire_is_connected(source->wire, 2)); /* Though the resolver is still silent. */
    resolver_say(9);
    resolver_be_silent(false);
    UNTIL(resolver_waiting_count() == 0);
    world_pass_ms(20);
    assert_true(wire_is_connected(source->wire, 2));
}

/* Claim: a lookup that fails is an attempt that failed: told once, tried again after a while. */
static void test_a_name_that_is_not_known(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(source);
    world_open(target);
    resolver_say(0);
    uint32_t asked_count = resolver_asked_count();
    introduce(source, target, "db2.example.org");
    UNTIL(fail_count(source) >= 3);
    assert_true(has_text(&source->told, "wire.peer.unreachable node 2 at db2.example.org:"));
    assert_true(has_text(&source->told, "cannot find host \"db2.example.org\""));
    const char *first = memmem(source->told.data, source->told.size_bytes, "unreachable", 11);
    size_t rest_bytes = source->told.size_bytes - (size_t)(first + 1 - (char *)source->told.data);
    assert_null(memmem(first + 1, rest_bytes, "unreachable", 11));
    assert_true(resolver_asked_count() - asked_count < 20); /* Not at every turn. */
    resolver_say(1);
    UNTIL(wire_is_connected(source->wire, 2));
}

/* Claim: while the resolver is silent there is one lookup for each peer, others are served, and a peer that dials
 * us changes nothing of that. */
static void test_one_lookup_at_a_time(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    struct party *other = world_party(3);
    world_open(source);
    world_open(target);
    world_open(other);
    resolver_be_silent(true);
    uint32_t asked_count = resolver_asked_count();
    introduce(source, target, "db2.example.org");
    UNTIL(resolver_asked_count() == asked_count + 1);
    world_connect(source, other);
    world_connect(target, source);
    introduce(source, target, "db2.example.org");
    world_pass_ms(500); /* Many times the longest wait between attempts. */
    assert_int_equal(resolver_asked_count(), asked_count + 1);
    assert_false(wire_is_connected(source->wire, 2));
    resolver_be_silent(false);
    UNTIL(wire_is_connected(source->wire, 2));
    assert_int_equal(resolver_asked_count(), asked_count + 1);
}

/* Claim: where all lookups of the process are taken, one more is an attempt that failed; numbers need none. */
static void test_all_lookups_are_taken(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(source);
    world_open(target);
    resolver_be_silent(true);
    for (uint32_t i = 0; i <= OS_LOOKUPS_MAX; i++) {
        assert_int_equal(wire_set_peer(source->wire, 10 + i, "db10.example.org:7380"), 0);
    }
    UNTIL(has_text(&source->told, "too many names"));
    world_connect(source, target);
    introduce(source, target, "db2.example.org");
    assert_false(wire_is_connected(source->wire, 2));
    resolver_be_silent(false);
    UNTIL(wire_is_connected(source->wire, 2)); /* In the end it has its turn. */
}

/* Claim: a peer may go, and the endpoint and its loop end at once, while a lookup is under way; its answer finds
 * nobody. */
static void test_gone_during_a_lookup(void **state)
{
    (void)state;
    struct party *source = world_party(1);
    struct party *target = world_party(2);
    world_open(target);
    for (int round = 0; round < 8; round++) {
        world_open(source);
        resolver_be_silent(true);
        uint32_t asked_count = resolver_asked_count();
        introduce(source, target, "db2.example.org");
        UNTIL(resolver_asked_count() == asked_count + 1);
        if (round % 4 == 0) {
            wire_remove_peer(source->wire, 2);
            assert_int_equal(wire_peers(source->wire, NULL, 0), 0);
        }
        uint64_t before_ms = os_monotonic_ms();
        if (round % 4 < 2) {
            resolver_be_silent(false);
            UNTIL(resolver_waiting_count() == 0);
        }
        world_close(source);
        assert_true(os_monotonic_ms() < before_ms + 1000);
        world_turn();
        resolver_be_silent(false);
        world_turn();
    }
    world_open(source);
    resolver_be_silent(true);
    uint32_t asked_count = resolver_asked_count();
    introduce(source, target, "db2.example.org");
    UNTIL(resolver_asked_count() == asked_count + 1); /* Now the loop ends, too. */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_numbers_need_no_lookup),   TEST(test_text_that_is_no_address),
        TEST(test_a_name_that_moves),        TEST(test_text_changes),
        TEST(test_a_name_that_is_not_known), TEST(test_one_lookup_at_a_time),
        TEST(test_gone_during_a_lookup),     TEST(test_all_lookups_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
