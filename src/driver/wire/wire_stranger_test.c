/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes without a certificate that want to join: what they may, and what not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "driver/wire/wire_test_world.h"

struct joiner {
    struct wire_join *join;
    int status;
    int done_count;
    struct error error;
    struct buffer reply;
};

static void done(int status, struct bytes reply, const struct error *error, void *context)
{
    struct joiner *joiner = context;
    joiner->done_count++;
    joiner->status = status;
    joiner->error = *error;
    buffer_append(&joiner->reply, reply);
    joiner->join = NULL;
}

static void begin(struct joiner *joiner, const struct party *party,
                  struct wire_join_options options)
{
    *joiner = (struct joiner){0};
    options.address = wire_address(party->wire);
    options.version_min = options.version_min != 0 ? options.version_min : 1;
    options.version_max = options.version_min;
    options.software = "0.0.1";
    options.done = done;
    options.context = joiner;
    static const struct tls_digest none;
    if (memcmp(&options.fingerprint, &none, sizeof none) == 0) {
        options.fingerprint = world.fingerprint;
    }
    assert_int_equal(wire_join_start(&joiner->join, world.loop, &options, NULL), 0);
    assert_int_equal(joiner->done_count, 0);
}

static void finish(struct joiner *joiner)
{
    UNTIL(joiner->done_count > 0);
    assert_int_equal(joiner->done_count, 1);
    assert_int_equal(joiner->status, joiner->error.code);
}

static struct party *open_party(void)
{
    struct party *party = world_party(1);
    party->options.admits_strangers = true;
    party->options.stranger_rate_max = 1000;
    party->options.stranger_count_max = 4;
    world_open(party);
    return party;
}

/* ---- What works ------------------------------------------------------------------------------ */

/* Claim: a stranger asks once and gets one answer, now or later, of any size up to the limit. */
static void test_join(void **state)
{
    (void)state;
    struct party *party = open_party();
    struct joiner joiner;
    begin(&joiner, party, (struct wire_join_options){.payload = BYTES("let me in")});
    UNTIL(party->stranger_count == 1);
    assert_true(bytes_equal(buffer_bytes(&party->heard), BYTES("stranger let me in\n")));
    world_pass_ms(50);
    assert_int_equal(joiner.done_count, 0);
    wire_stranger_reply(party->strangers[0], BYTES("welcome"));
    party->stranger_count = 0;
    finish(&joiner);
    assert_int_equal(joiner.status, 0);
    assert_true(bytes_equal(buffer_bytes(&joiner.reply), BYTES("welcome")));
    buffer_deinit(&joiner.reply);

    party->answers_strangers = true;
    static uint8_t large[WIRE_STRANGER_SIZE_BYTES_MAX + 1];
    begin(&joiner, party,
          (struct wire_join_options){.payload = bytes_make(large, WIRE_STRANGER_SIZE_BYTES_MAX),
                                     .cluster = WORLD_CLUSTER});
    finish(&joiner);
    assert_int_equal(joiner.status, 0);
    buffer_deinit(&joiner.reply);
    struct wire_join_options too_large = {.payload = bytes_make(large, sizeof large)};
    assert_int_equal(wire_join_start(&joiner.join, world.loop, &too_large, NULL), -EMSGSIZE);
    UNTIL(party->wire->stranger_count == 0);
    assert_int_equal(wire_statistics(party->wire).stranger_count, 2);
    assert_int_equal(wire_statistics(party->wire).rejected_count, 0);
}

/* ---- What the one that joins is told --------------------------------------------------------- */

/* Claim: where no strangers are admitted none gets further than TLS; nodes do. */
static void test_not_admitted(void **state)
{
    (void)state;
    struct party *party = world_party(1);
    struct party *node = world_party(2);
    struct joiner joiner;
    world_open(party);
    world_open(node);
    begin(&joiner, party, (struct wire_join_options){.payload = BYTES("let me in")});
    finish(&joiner);
    assert_int_equal(joiner.status, -EACCES);
    assert_int_equal(party->heard.size_bytes, 0);
    assert_true(has_text(&party->told, "the peer has no certificate"));
    wire_set_admits_strangers(party->wire, true);
    party->answers_strangers = true;
    begin(&joiner, party, (struct wire_join_options){.payload = BYTES("and now?")});
    finish(&joiner);
    assert_int_equal(joiner.status, 0);
    buffer_deinit(&joiner.reply);
    world_connect(node, party);
}

/* Claim: a stranger talks to nobody but the cluster that it was told of, and says nothing to
 * another. */
static void test_wrong_pin(void **state)
{
    (void)state;
    struct party *party = open_party();
    struct joiner joiner;
    struct tls_digest other = world.fingerprint;
    other.bytes[31] ^= 1;
    begin(&joiner, party,
          (struct wire_join_options){.payload = BYTES("my token"), .fingerprint = other});
    finish(&joiner);
    assert_int_equal(joiner.status, -EACCES);
    assert_non_null(strstr(joiner.error.message, "fingerprint"));
    world_pass_ms(20);
    assert_int_equal(party->heard.size_bytes, 0);
}

/* Claim: another cluster, another version, nobody there, no answer: each has its own words. */
static void test_refusals(void **state)
{
    (void)state;
    struct party *party = open_party();
    struct joiner joiner;
    begin(&joiner, party, (struct wire_join_options){.cluster = "ffff"});
    finish(&joiner);
    assert_int_equal(joiner.status, -EACCES);
    assert_non_null(strstr(joiner.error.message, "not cluster \"ffff\""));
    begin(&joiner, party, (struct wire_join_options){.version_min = 7});
    finish(&joiner);
    assert_int_equal(joiner.status, -EACCES);
    assert_non_null(
        strstr(joiner.error.message, "tutti 0.0.1, which wants to join, speaks versions 7 to 7"));
    begin(&joiner, party, (struct wire_join_options){.timeout_ms = 100});
    finish(&joiner);
    assert_int_equal(joiner.status, -ETIMEDOUT);
    struct os_address address = wire_address(party->wire);
    world_close(party);
    struct wire_join_options options = {.address = address,
                                        .fingerprint = world.fingerprint,
                                        .version_min = 1,
                                        .version_max = 1,
                                        .software = "0.0.1",
                                        .done = done,
                                        .context = &joiner};
    joiner = (struct joiner){0};
    assert_int_equal(wire_join_start(&joiner.join, world.loop, &options, NULL), 0);
    finish(&joiner);
    assert_int_equal(joiner.status, -ECONNREFUSED);
}

/* Claim: who cancels hears nothing, at whatever moment. */
static void test_cancel(void **state)
{
    (void)state;
    struct party *party = open_party();
    for (uint32_t turns = 0; turns < 5; turns++) {
        struct joiner joiner;
        begin(&joiner, party, (struct wire_join_options){.payload = BYTES("let me in")});
        for (uint32_t i = 0; i < turns; i++) {
            world_turn();
        }
        wire_join_cancel(joiner.join);
        world_pass_ms(10);
        assert_int_equal(joiner.done_count, 0);
    }
}

/* ---- Floods ---------------------------------------------------------------------------------- */

/* Claim: no more strangers at once than the limit, counted also while their requests are worked on;
 * the others are told to try again. */
static void test_number(void **state)
{
    (void)state;
    enum { JOINERS = 7, MOST = 4 };
    struct party *party = open_party();
    struct joiner joiners[JOINERS];
    uint32_t busy_count = 0;
    for (uint32_t i = 0; i < JOINERS; i++) {
        begin(&joiners[i], party, (struct wire_join_options){.payload = BYTES("x")});
    }
    UNTIL(wire_statistics(party->wire).stranger_refused_count == JOINERS - MOST);
    UNTIL(party->stranger_count == MOST);
    world_pass_ms(100);
    for (uint32_t i = 0; i < JOINERS; i++) {
        busy_count += joiners[i].done_count == 1 && joiners[i].status == -EBUSY;
        if (joiners[i].done_count == 0) {
            wire_join_cancel(joiners[i].join);
        }
    }
    assert_int_equal(busy_count, JOINERS - MOST);
    world_pass_ms(50); /* Their connections are gone; their requests are not. */
    begin(&joiners[0], party, (struct wire_join_options){.payload = BYTES("x")});
    finish(&joiners[0]);
    assert_int_equal(joiners[0].status, -EBUSY);
    for (uint32_t i = 0; i < MOST; i++) {
        wire_stranger_reply(party->strangers[i], BYTES("too late"));
    }
    party->stranger_count = 0;
    party->answers_strangers = true;
    begin(&joiners[0], party, (struct wire_join_options){.payload = BYTES("x")});
    finish(&joiners[0]);
    assert_int_equal(joiners[0].status, 0);
    buffer_deinit(&joiners[0].reply);
}

/* Claim: nor more in a second than the limit, however short they stay. */
static void test_rate(void **state)
{
    (void)state;
    struct party *party = world_party(1);
    party->options.admits_strangers = true;
    party->options.stranger_rate_max = 1;
    party->options.stranger_count_max = 3;
    party->answers_strangers = true;
    world_open(party);
    uint32_t count = 0;
    struct joiner joiner;
    uint64_t began_ms = os_monotonic_ms();
    do {
        begin(&joiner, party, (struct wire_join_options){.payload = BYTES("x")});
        finish(&joiner);
        buffer_deinit(&joiner.reply);
        UNTIL(party->wire->stranger_count == 0);
        count++;
    } while (joiner.status == 0);
    uint64_t took_ms = os_monotonic_ms() - began_ms;
    assert_int_equal(joiner.status, -EBUSY);
    assert_true(count >= 4);
    assert_true(count <= 4 + took_ms / 1000 + 1);
}

/* Claim: a stranger that asks nothing, twice, too much or something else is hung up on. */
static void test_wrong_questions(void **state)
{
    (void)state;
    static const uint8_t large[WIRE_STRANGER_SIZE_BYTES_MAX + 1];
    struct party *party = world_party(1);
    party->options.admits_strangers = true;
    party->options.stranger_rate_max = 1000;
    party->options.stranger_timeout_ms = 1500; /* Nobody else is too slow on a busy machine. */
    party->options.silence_timeout_ms = 600;
    party->options.handshake_timeout_ms = 1000;
    world_open(party);
    for (uint32_t i = 0; i < 6; i++) {
        struct hand hand = {.is_silent = i == 3};
        hand_dial(&hand, party, NULL);
        UNTIL(hand.is_open);
        switch (i) {
        case 0:
            break; /* Nothing but HELLO. */
        case 1:
            hand_send(&hand, WIRE__KIND_JOIN, BYTES("one"));
            hand_send(&hand, WIRE__KIND_JOIN, BYTES("two"));
            break;
        case 2:
            hand_send(&hand, WIRE__KIND_JOIN, bytes_make(large, sizeof large));
            break;
        case 3:
            hand_send(&hand, WIRE__KIND_JOIN, BYTES("without HELLO"));
            break;
        case 4:
            hand_send(&hand, 7, BYTES("a node's frame"));
            break;
        default:
            hand_send(&hand, WIRE__KIND_PING, BYTES("12345678"));
            break;
        }
        UNTIL(hand.was_closed);
        hand_close(&hand);
    }
    assert_true(bytes_equal(buffer_bytes(&party->heard), BYTES("stranger one\n")));
    assert_int_equal(wire_statistics(party->wire).malformed_count, 5);
    assert_true(has_text(&party->told, "it takes too long"));
}

/* Claim: a stranger that calls itself a node in HELLO is none for it. */
static void test_false_hello(void **state)
{
    (void)state;
    struct party *party = open_party();
    struct hand hand = {.hello = {WORLD_CLUSTER, 2, 77, 1, 1, "x"}};
    hand_dial(&hand, party, NULL);
    UNTIL(hand.was_closed);
    assert_int_equal(party->heard.size_bytes, 0);
    assert_true(has_text(&party->told, "not the HELLO of a stranger"));
    hand_close(&hand);
}

/* Claim: an answer to a stranger of an endpoint that was closed goes nowhere, and harms nobody. */
static void test_closed_endpoint(void **state)
{
    (void)state;
    struct party *party = open_party();
    struct joiner joiner;
    begin(&joiner, party, (struct wire_join_options){.payload = BYTES("x")});
    UNTIL(party->stranger_count == 1);
    world_close(party);
    wire_stranger_reply(party->strangers[0], BYTES("welcome"));
    party->stranger_count = 0;
    finish(&joiner);
    assert_int_equal(joiner.status, -ECONNRESET);
    world_open(party);
    begin(&joiner, party, (struct wire_join_options){.payload = BYTES("y")});
    UNTIL(party->stranger_count == 1);
    world_close(party);
    finish(&joiner); /* Its connection is gone first here; the test's end answers. */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_join),        TEST(test_not_admitted),
        TEST(test_wrong_pin),   TEST(test_refusals),
        TEST(test_cancel),      TEST(test_number),
        TEST(test_rate),        TEST(test_wrong_questions),
        TEST(test_false_hello), TEST(test_closed_endpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
