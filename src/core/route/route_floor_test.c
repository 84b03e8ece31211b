/* SPDX-License-Identifier: Apache-2.0 */
/* The floor of a route never rises above what somebody waits for, rises when that is done, and
 * is said to whoever leads (route.h, "Floors"). The test is the host, the replica and the other
 * node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert/assert.h"
#include "core/route/route_internal.h"

enum { SELF = 1, OTHER = 2, SHARD = 7, ORIGIN = 55, BOOT_ID = 9, CLIENT_COUNT = 8, GRANT = 70 };

struct client {
    struct shard_request request;
    struct shard_session session;
    int status;
    uint32_t done_count;
};

static struct host {
    struct route *route;
    uint64_t now_ms;
    raft_node leader;
    bool is_busy;
    bool is_older;
    uint64_t floor; /* Said here. */
    uint64_t floor_origin;
    /* Sent to the other node: */
    uint64_t sent_floor;
    uint32_t sent_floor_count;
    uint64_t ask_number;
    uint64_t request_count;
    uint64_t logged_count; /* Of these, in its log. */
    struct client clients[CLIENT_COUNT];
} host;

static uint32_t floor_delay_ms = 100;

static uint64_t now_ms(void *context)
{
    return host.now_ms;
}

static int submit_local(void *context, wal_shard shard, struct shard_request *request,
                        const struct reply *reply)
{
    if (host.leader != SELF) {
        return ERROR_NOT_LEADER;
    }
    return host.is_busy ? -EBUSY : SHARD_PENDING;
}

static raft_node local_leader(void *context, wal_shard shard)
{
    return host.leader;
}

static raft_index local_applied_index(void *context, wal_shard shard)
{
    return 10;
}

static void set_floor(void *context, wal_shard shard, const struct shard_floor *floor)
{
    assert_int_equal(shard, SHARD);
    assert_true(floor->origin != host.floor_origin || floor->floor >= host.floor);
    host.floor = floor->floor;
    host.floor_origin = floor->origin;
}

static int send_message(void *context, raft_node node, const struct bytes *pieces,
                        uint32_t piece_count)
{
    static uint8_t joined[4096];
    size_t size = 0;
    assert_int_equal(node, OTHER);
    for (uint32_t i = 0; i < piece_count; i++) {
        assert_true(size + pieces[i].size_bytes <= sizeof joined);
        memcpy(joined + size, pieces[i].data, pieces[i].size_bytes);
        size += pieces[i].size_bytes;
    }
    struct route_message message;
    assert_int_equal(route__decode(bytes_make(joined, size), &message), 0);
    if (message.kind == ROUTE_MESSAGE_ASK) {
        host.ask_number = message.number;
    } else if (message.kind == ROUTE_MESSAGE_FLOOR) {
        assert_false(host.is_older);
        assert_int_equal(message.number, ORIGIN);
        assert_int_equal(message.shard, SHARD);
        assert_true(message.floor >= host.sent_floor);
        host.sent_floor = message.floor;
        host.sent_floor_count++;
    } else if (message.kind == ROUTE_MESSAGE_REQUESTS) {
        for (uint32_t i = 0; i < message.item_count; i++) {
            struct route_wire_request wire;
            route__next_request(&message.items, &wire);
            host.request_count++;
            host.logged_count += wire.is_write;
        }
    }
    return 0;
}

static raft_node next_node(void *context, wal_shard shard, raft_node after)
{
    return OTHER;
}

static bool knows_floors(void *context, raft_node node)
{
    return !host.is_older;
}

static void request_done(struct shard_request *request, int status, struct bytes reply)
{
    struct client *client = (struct client *)request;
    client->status = status;
    client->done_count++;
}

static void begin(raft_node leader)
{
    memset(&host, 0, sizeof host);
    host.now_ms = 1000;
    host.leader = leader;
    const struct route_options options = {
        .self = SELF,
        .origin = ORIGIN,
        .deadline_ms = 3000,
        .floor_delay_ms = floor_delay_ms,
        .host = {.context = &host,
                 .clock = {.now_ms = now_ms},
                 .submit_local = submit_local,
                 .local_leader = local_leader,
                 .local_applied_index = local_applied_index,
                 .set_floor = set_floor,
                 .send = send_message,
                 .next_node = next_node,
                 .knows_floors = knows_floors},
    };
    assert_int_equal(route_create(&host.route, &options, NULL), 0);
    route_add_shard(host.route, SHARD);
    for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
        shard_session_init(&host.clients[i].session);
    }
}

static void end(void)
{
    route_destroy(host.route);
}

/* In a session of its own, or in that of `before`. Sequences are 1 and so on, in the order of
 * these calls. */
static int submit(uint32_t client, bool is_write, const struct client *before)
{
    static const struct bytes arguments[] = {{(const uint8_t *)"key", 3}};
    struct client *one = &host.clients[client];
    one->done_count = 0;
    one->request = (struct shard_request){
        .command = {7, 1, arguments},
        .protocol = 2,
        .is_write = is_write,
        .is_cheap = true,
        .end_slot = SLOTS_COUNT,
        .done = request_done,
        .session = before != NULL ? before->request.session : &one->session,
    };
    list_init(&one->request.link);
    return route_submit(host.route, SHARD, &one->request, &(struct reply){0});
}

/* By the local replica; what is handed back or refused comes with its command. */
static void finish(uint32_t client, int status)
{
    static const struct bytes arguments[] = {{(const uint8_t *)"key", 3}};
    struct shard_request *request = &host.clients[client].request;
    request->command.arguments = arguments;
    request->done(request, status, BYTES(""));
}

static void run(uint32_t for_ms)
{
    for (uint32_t i = 0; i < for_ms; i++) {
        host.now_ms++;
        (void)route_tick(host.route);
    }
}

static void receive(struct bytes message)
{
    assert_int_equal(route_receive(host.route, OTHER, BOOT_ID, message), 0);
}

/* The other node leads, and has what waits. */
static void grant(uint64_t number)
{
    uint8_t bytes[ROUTE__TOLD_SIZE_BYTES];
    struct route_message told = {
        .shard = SHARD, .number = host.ask_number, .grant = number, .room_bytes = 1 << 20};
    route__encode_told(bytes, &told);
    receive(bytes_make(bytes, sizeof bytes));
    (void)route_tick(host.route);
}

/* By the other node; `number` is that of its messages. */
static void reply(uint64_t grant_number, uint64_t number, uint64_t sequence,
                  enum route_verdict verdict)
{
    uint8_t bytes[ROUTE__REPLIES_HEAD_SIZE_BYTES + ROUTE__REPLY_HEAD_SIZE_BYTES];
    struct route_message message = {
        .shard = SHARD, .number = grant_number, .message_number = number, .item_count = 1};
    struct route_wire_reply wire = {sequence, verdict, {0}};
    route__encode_replies_head(bytes, &message);
    route__encode_reply_head(bytes + ROUTE__REPLIES_HEAD_SIZE_BYTES, &wire);
    receive(bytes_make(bytes, sizeof bytes));
}

/* ---- The local replica ----------------------------------------------------------------------- */

/* Answers may come in any order: the floor is the least that is not answered, reads included,
 * and the next sequence when all are. */
static void answers_come_in_any_order(void **state)
{
    begin(SELF);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(submit(i, i != 1, NULL), SHARD_PENDING); /* Client i has sequence i + 1. */
    }
    finish(2, 0);
    run(1);
    assert_int_equal(host.floor, 1);
    finish(0, 0);
    run(1);
    assert_int_equal(host.floor, 2); /* The read. */
    finish(3, 0);
    run(1);
    assert_int_equal(host.floor, 2);
    finish(1, 0);
    assert_int_equal(submit(0, true, NULL), SHARD_PENDING);
    finish(0, 0);
    run(1);
    assert_int_equal(host.floor, 6);
    assert_int_equal(host.floor_origin, ORIGIN);
    end();
}

/* Reads leave no answers, so they say nothing; and what is refused at once is not waited for. */
static void only_what_a_log_may_have_is_spoken_of(void **state)
{
    begin(SELF);
    assert_int_equal(submit(0, false, NULL), SHARD_PENDING);
    finish(0, 0);
    run(300);
    assert_int_equal(host.floor, 0);
    host.is_busy = true;
    assert_int_equal(submit(1, true, NULL), -EBUSY);
    host.is_busy = false;
    assert_int_equal(submit(1, true, NULL), SHARD_PENDING);
    finish(1, 0);
    run(1);
    assert_int_equal(host.floor, 4);
    end();
}

/* A refusal that says that nothing happened, or that the shard has moved, is an end like any
 * other; what is asked again after it is a new request. */
static void what_has_moved_is_done(void **state)
{
    begin(SELF);
    assert_int_equal(submit(0, true, NULL), SHARD_PENDING);
    assert_int_equal(submit(1, true, NULL), SHARD_PENDING);
    finish(0, ERROR_MOVED);
    assert_int_equal(host.clients[0].status, ERROR_MOVED);
    assert_int_equal(submit(0, true, NULL), SHARD_PENDING);
    assert_int_equal(host.clients[0].request.sequence, 3);
    run(1);
    assert_int_equal(host.floor, 2);
    finish(1, 0);
    run(1);
    assert_int_equal(host.floor, 3);
    finish(0, 0);
    end();
}

/* ---- Elsewhere ------------------------------------------------------------------------------- */

/* What is handed back, sent, returned, or taken back with its stream is waited for until it is
 * answered, by whichever leader. */
static void what_is_asked_again_is_not_done(void **state)
{
    begin(SELF);
    assert_int_equal(submit(0, true, NULL), SHARD_PENDING);
    assert_int_equal(submit(1, true, NULL), SHARD_PENDING);
    host.leader = OTHER;
    finish(0, ERROR_NOT_LEADER);
    finish(1, 0);
    assert_int_equal(host.clients[0].done_count, 0);
    run(1);
    grant(GRANT);
    assert_int_equal(host.request_count, 1);
    run(200);
    assert_true(host.floor <= 1 && host.sent_floor <= 1);
    route_peer_gone(host.route, OTHER);
    run(1);
    grant(GRANT + 1);
    assert_int_equal(host.request_count, 2);
    assert_int_equal(submit(2, true, NULL), SHARD_PENDING);
    run(1);
    reply(GRANT + 1, 1, 3, ROUTE_VERDICT_ANSWERED);
    run(200);
    assert_int_equal(host.sent_floor, 1);
    reply(GRANT + 1, 2, 1, ROUTE_VERDICT_RETURNED);
    run(200);
    assert_int_equal(host.request_count, 4);
    assert_int_equal(host.sent_floor, 1);
    reply(GRANT + 1, 3, 1, ROUTE_VERDICT_ANSWERED);
    run(200);
    assert_int_equal(host.clients[0].done_count, 1);
    assert_int_equal(host.sent_floor, 4);
    end();
}

/* A request that is given up is done, whatever becomes of it. */
static void what_is_given_up_is_done(void **state)
{
    begin(OTHER);
    assert_int_equal(submit(0, true, NULL), SHARD_PENDING);
    run(1);
    grant(GRANT);
    for (uint32_t i = 1; i < 3500; i++) {
        run(1);
        if (i % 400 == 0) { /* There is life. */
            uint8_t bytes[ROUTE__REPLIES_HEAD_SIZE_BYTES];
            struct route_message message = {
                .shard = SHARD, .number = GRANT, .message_number = i / 400};
            route__encode_replies_head(bytes, &message);
            receive(bytes_make(bytes, sizeof bytes));
        }
        if (host.clients[0].done_count == 0) {
            assert_true(host.sent_floor <= 1);
        }
    }
    assert_int_equal(host.clients[0].status, ERROR_OUTCOME_UNKNOWN);
    assert_int_equal(host.sent_floor, 2);
    end();
}

/* A read that goes through the log has an identity there: it counts like a write. So does one that
 * does not, because it might. */
static void logged_reads_count(void **state)
{
    begin(OTHER);
    assert_int_equal(submit(0, false, NULL), SHARD_PENDING);
    assert_int_equal(submit(1, true, &host.clients[0]), SHARD_PENDING);
    run(1);
    grant(GRANT);
    assert_int_equal(host.request_count, 2);
    assert_int_equal(host.logged_count, 2);
    reply(GRANT, 1, 2, ROUTE_VERDICT_ANSWERED);
    run(200);
    assert_int_equal(host.sent_floor, 1);
    reply(GRANT, 2, 1, ROUTE_VERDICT_ANSWERED);
    run(200);
    assert_int_equal(host.sent_floor, 3);
    end();
}

/* Each request is answered as soon as it is sent. */
static void ask_and_answer(uint64_t first, uint64_t count, uint32_t pause_ms)
{
    for (uint64_t i = first; i < first + count; i++) {
        assert_int_equal(submit(0, true, NULL), SHARD_PENDING);
        run(1);
        if (i == 1) {
            grant(GRANT);
        }
        reply(GRANT, i, i, ROUTE_VERDICT_ANSWERED);
        run(pause_ms);
    }
}

/* Floors are said ten times a second while many requests are answered, every few seconds while
 * there are few, and once more in the end; then there is silence, and no tick is asked for. */
static void a_floor_is_said_now_and_then(void **state)
{
    floor_delay_ms = 0; /* The default. */
    begin(OTHER);
    ask_and_answer(1, 1000, 0);
    assert_in_range(host.sent_floor_count, 8, 10);
    run(5100);
    assert_int_equal(host.sent_floor, 1001);
    uint32_t count = host.sent_floor_count;
    assert_true(route_tick(host.route) == UINT64_MAX);
    run(10000);
    assert_int_equal(host.sent_floor_count, count);
    ask_and_answer(1001, 30, 499);
    assert_in_range(host.sent_floor_count - count, 3, 4);
    run(5100);
    assert_int_equal(host.sent_floor, 1031);
    assert_true(route_tick(host.route) == UINT64_MAX);
    end();
    floor_delay_ms = 100;
}

/* Who has older software is told nothing. */
static void an_older_node_is_not_told(void **state)
{
    begin(OTHER);
    host.is_older = true;
    assert_int_equal(submit(0, true, NULL), SHARD_PENDING);
    run(1);
    grant(GRANT);
    reply(GRANT, 1, 1, ROUTE_VERDICT_ANSWERED);
    run(500);
    assert_int_equal(host.clients[0].done_count, 1);
    assert_int_equal(host.sent_floor_count, 0);
    assert_true(route_tick(host.route) == UINT64_MAX);
    end();
}

/* What another node says goes to the replica here, whoever leads. */
static void what_others_say_is_passed_on(void **state)
{
    for (raft_node leader = SELF; leader <= OTHER; leader++) {
        begin(leader);
        uint8_t bytes[ROUTE__FLOOR_SIZE_BYTES];
        route__encode_floor(bytes, SHARD, 77, 1234);
        receive(bytes_make(bytes, sizeof bytes));
        assert_int_equal(host.floor_origin, 77);
        assert_int_equal(host.floor, 1234);
        route__encode_floor(bytes, SHARD + 1, 78, 1234); /* A shard that is not known here. */
        receive(bytes_make(bytes, sizeof bytes));
        assert_int_equal(host.floor_origin, 77);
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_come_in_any_order),
        cmocka_unit_test(only_what_a_log_may_have_is_spoken_of),
        cmocka_unit_test(what_has_moved_is_done),
        cmocka_unit_test(what_is_asked_again_is_not_done),
        cmocka_unit_test(what_is_given_up_is_done),
        cmocka_unit_test(logged_reads_count),
        cmocka_unit_test(a_floor_is_said_now_and_then),
        cmocka_unit_test(an_older_node_is_not_told),
        cmocka_unit_test(what_others_say_is_passed_on),
    };
    return cmocka_run_group_tests_name("route_floor", tests, NULL, NULL);
}
