/* SPDX-License-Identifier: Apache-2.0 */
/* What the replica has of another node's requests when the stream that brought them ends. The test is the
 * host, the replica and the other node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/route/route_internal.h"

enum {
    SELF = 1,
    OTHER = 2,
    SHARD = 7,
    ORIGIN = 55,
    BOOT_ID = 9,
    KEPT_COUNT_MAX = 8,
    LONG_SIZE_BYTES = 20000,
    REPLY_SIZE_BYTES_MAX = 30000,
};

static struct host {
    struct route *route;
    raft_node leader;
    uint64_t grant;
    uint32_t reply_count;
    uint32_t unknown_count; /* Of those. */
    uint32_t returned_count;
    int send_status;
    struct shard_request *kept[KEPT_COUNT_MAX]; /* By the replica, in their order. */
    uint32_t kept_count;
} host;

static uint64_t now_ms(void *context)
{
    (void)context;
    return 1000;
}

/* As a shard does: what is under way is not taken twice. */
static int submit_local(void *context, wal_shard shard, struct shard_request *request,
                        const struct reply *reply)
{
    (void)context;
    (void)shard;
    (void)reply;
    for (uint32_t i = 0; i < host.kept_count; i++) {
        if (host.kept[i]->sequence == request->sequence) {
            return -EBUSY;
        }
    }
    host.kept[host.kept_count++] = request;
    return SHARD_PENDING;
}

static raft_node local_leader(void *context, wal_shard shard)
{
    (void)context;
    (void)shard;
    return host.leader;
}

static raft_index local_applied_index(void *context, wal_shard shard)
{
    (void)context;
    (void)shard;
    return 10;
}

static void set_floor(void *context, wal_shard shard, const struct shard_floor *floor)
{
    (void)context;
    (void)shard;
    (void)floor;
}

static void count_verdicts(const struct route_message *message)
{
    struct bytes items = message->items;
    for (uint32_t i = 0; i < message->item_count; i++) {
        struct route_wire_reply reply;
        route__next_reply(&items, &reply);
        host.unknown_count += reply.verdict == ROUTE_VERDICT_UNKNOWN;
        host.returned_count += reply.verdict == ROUTE_VERDICT_RETURNED;
    }
}

static int send_message(void *context, raft_node node, const struct bytes *pieces,
                        uint32_t piece_count)
{
    (void)context;
    static uint8_t joined[3 * LONG_SIZE_BYTES];
    size_t size = 0;
    struct route_message message;
    assert_int_equal(node, OTHER);
    if (host.send_status != 0) {
        return host.send_status;
    }
    for (uint32_t i = 0; i < piece_count; i++) {
        assert_true(size + pieces[i].size_bytes <= sizeof joined);
        memcpy(joined + size, pieces[i].data, pieces[i].size_bytes);
        size += pieces[i].size_bytes;
    }
    assert_int_equal(route__decode(bytes_make(joined, size), &message), 0);
    if (message.kind == ROUTE_MESSAGE_TOLD) {
        host.grant = message.grant;
    } else if (message.kind == ROUTE_MESSAGE_REPLIES) {
        host.reply_count += message.item_count;
        count_verdicts(&message);
    }
    return 0;
}

static raft_node next_node(void *context, wal_shard shard, raft_node after)
{
    (void)context;
    (void)shard;
    (void)after;
    return 0;
}

static void receive(struct bytes message, uint64_t boot_id)
{
    assert_int_equal(route_receive(host.route, OTHER, boot_id, message), 0);
}

static void ask(uint64_t boot_id)
{
    uint8_t bytes[ROUTE__ASK_SIZE_BYTES];
    host.grant = 0;
    route__encode_ask(bytes, SHARD, 70);
    receive(bytes_make(bytes, sizeof bytes), boot_id);
    assert_true(host.grant != 0);
}

/* One message of the stream, with one write of the session of that number. */
static void request_of(uint64_t number, uint64_t session, uint64_t sequence, bool is_write,
                       bool is_retry)
{
    uint8_t bytes[ROUTE__REQUESTS_HEAD_SIZE_BYTES + ROUTE__REQUEST_HEAD_SIZE_BYTES];
    struct route_message head = {.kind = ROUTE_MESSAGE_REQUESTS,
                                 .shard = SHARD,
                                 .number = host.grant,
                                 .message_number = number,
                                 .origin = ORIGIN,
                                 .item_count = 1};
    struct route_wire_request wire = {.session = session,
                                      .sequence = sequence,
                                      .opcode = 3,
                                      .protocol = 2,
                                      .is_write = is_write,
                                      .is_retry = is_retry,
                                      .patience_ms = 60000};
    route__encode_requests_head(bytes, &head);
    route__encode_request_head(bytes + ROUTE__REQUESTS_HEAD_SIZE_BYTES, &wire);
    receive(bytes_make(bytes, sizeof bytes), BOOT_ID);
}

static void request(uint64_t number, uint64_t session, uint64_t sequence, bool is_retry)
{
    request_of(number, session, sequence, true, is_retry);
}

/* The replica ends the oldest that it has. */
static void end(int status, struct bytes reply)
{
    struct shard_request *oldest = host.kept[0];
    memmove(&host.kept[0], &host.kept[1], --host.kept_count * sizeof host.kept[0]);
    oldest->done(oldest, status, reply);
}

static void finish(int status)
{
    end(status, BYTES(""));
    (void)route_tick(host.route);
}

static int set_up(void **state)
{
    (void)state;
    const struct route_options options = {
        .self = SELF,
        .origin = 5,
        .reply_size_bytes_max = REPLY_SIZE_BYTES_MAX,
        .host = {.clock = {.now_ms = now_ms},
                 .submit_local = submit_local,
                 .local_leader = local_leader,
                 .local_applied_index = local_applied_index,
                 .set_floor = set_floor,
                 .send = send_message,
                 .next_node = next_node},
    };
    host = (struct host){.leader = SELF};
    assert_int_equal(route_create(&host.route, &options, NULL), 0);
    route_add_shard(host.route, SHARD);
    ask(BOOT_ID);
    request(1, 1, 11, false);
    request(2, 2, 12, false);
    assert_int_equal(host.kept_count, 2);
    assert_false(host.kept[0]->is_unwanted || host.kept[1]->is_unwanted);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    route_destroy(host.route);
    return 0;
}

/* Claim: when the connection breaks, all that the replica has is unwanted; what comes again, in a stream of the same
 * life, is not, and waits until the replica has let go of the first. */
static void test_a_connection_breaks(void **state)
{
    (void)state;
    route_peer_gone(host.route, OTHER);
    assert_true(host.kept[0]->is_unwanted && host.kept[1]->is_unwanted);
    ask(BOOT_ID);
    request(1, 1, 11, true);
    request(2, 1, 13, false);
    (void)route_tick(host.route);
    assert_int_equal(host.kept_count, 2);
    finish(ERROR_NOT_LEADER);
    finish(ERROR_NOT_LEADER);
    assert_int_equal(host.reply_count, 0); /* Of those of the old stream nothing is told. */
    assert_int_equal(host.kept_count, 2);
    assert_int_equal(host.kept[0]->sequence, 11);
    assert_int_equal(host.kept[1]->sequence, 13);
    assert_false(host.kept[0]->is_unwanted || host.kept[1]->is_unwanted);
    finish(0);
    finish(0);
    assert_int_equal(host.reply_count, 2);
}

/* Claim: so it is when another life of the node comes, and when this node leads no more. */
static void test_a_node_lives_anew(void **state)
{
    (void)state;
    ask(BOOT_ID + 1);
    assert_true(host.kept[0]->is_unwanted && host.kept[1]->is_unwanted);
    finish(0);
    finish(0);
    assert_int_equal(host.reply_count, 0);
}

static void test_the_leadership_ends(void **state)
{
    (void)state;
    host.leader = OTHER;
    route_leader_changed(host.route, SHARD);
    (void)route_tick(host.route);
    assert_true(host.kept[0]->is_unwanted && host.kept[1]->is_unwanted);
    finish(ERROR_NOT_LEADER);
    finish(0);
    assert_int_equal(host.reply_count, 0);
}

/* Claim: a reply that no message has room for is not told; that it is not is. */
static void test_a_reply_is_too_long_for_a_message(void **state)
{
    (void)state;
    static const uint8_t first_bytes[1];
    end(0, bytes_make(first_bytes, ROUTE_REPLY_SIZE_BYTES_MAX + (size_t)1));
    finish(0);
    assert_int_equal(host.reply_count, 2);
    assert_int_equal(host.unknown_count, 1);
}

/* Claim: what the replica answers in one go, be it that much, waits to be sent as far as the limit goes, and one reply.
 * Short ones are all told, and what comes later waits until there is room. */
static void test_replies_that_wait_are_bounded(void **state)
{
    (void)state;
    static const uint8_t bytes[LONG_SIZE_BYTES];
    struct bytes reply = bytes_make(bytes, sizeof bytes);
    for (uint64_t i = 3; i <= 6; i++) {
        request(i, i, 10 + i, false);
    }
    assert_int_equal(host.kept_count, 6);
    for (int i = 0; i < 5; i++) {
        end(0, reply);
    }
    end(0, BYTES("short"));
    request(7, 7, 17, false);
    assert_int_equal(host.kept_count, 0);
    host.send_status = -EBUSY;
    (void)route_tick(host.route);
    assert_int_equal(host.kept_count, 0);
    struct route_statistics statistics;
    route_get_statistics(host.route, &statistics);
    assert_in_range(statistics.guest_size_bytes, REPLY_SIZE_BYTES_MAX,
                    REPLY_SIZE_BYTES_MAX + 2 * LONG_SIZE_BYTES);
    host.send_status = 0;
    (void)route_tick(host.route);
    assert_int_equal(host.reply_count, 6);
    assert_int_equal(host.unknown_count, 3);
    (void)route_tick(host.route);
    assert_int_equal(host.kept_count, 1);
    end(0, reply);
    (void)route_tick(host.route);
    assert_int_equal(host.reply_count, 7);
    assert_int_equal(host.unknown_count, 3);
}

/* Claim: reads of one session that come behind one that is asked again are asked again, too; its writes are not. */
static void test_reads_behind_one_that_comes_again(void **state)
{
    (void)state;
    static const uint8_t bytes[LONG_SIZE_BYTES];
    struct bytes reply = bytes_make(bytes, sizeof bytes);
    request_of(3, 3, 13, false, false);
    request_of(4, 4, 14, false, false);
    request_of(5, 4, 15, false, false);
    request_of(6, 4, 16, true, false);
    end(0, reply); /* Two of other sessions, from the setting up. */
    end(0, reply);
    end(0, reply);
    end(0, reply); /* The first of the session: too much. */
    end(0, BYTES("short"));
    end(0, BYTES("short"));
    (void)route_tick(host.route);
    assert_int_equal(host.reply_count, 6);
    assert_int_equal(host.unknown_count, 0);
    assert_int_equal(host.returned_count, 3);
}

/* Claim: a read whose reply is too much may be asked again; nobody is told that its outcome is unknown. */
static void test_reads_that_were_too_much_come_again(void **state)
{
    (void)state;
    static const uint8_t bytes[LONG_SIZE_BYTES];
    for (uint64_t i = 3; i <= 6; i++) {
        request_of(i, i, 10 + i, false, false);
    }
    for (int i = 0; i < 6; i++) {
        end(0, bytes_make(bytes, sizeof bytes));
    }
    (void)route_tick(host.route);
    assert_int_equal(host.reply_count, 6);
    assert_int_equal(host.unknown_count, 0);
    assert_int_equal(host.returned_count, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_connection_breaks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_node_lives_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_leadership_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_reply_is_too_long_for_a_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_replies_that_wait_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reads_that_were_too_much_come_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_reads_behind_one_that_comes_again, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("route_guest", tests, NULL, NULL);
}
