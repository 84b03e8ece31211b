/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "core/beats/beats.h"

enum { COUNT = 400 };

static struct raft_message request(raft_term term, raft_index index)
{
    return (struct raft_message){
        .kind = RAFT_MESSAGE_HEARTBEAT_REQUEST,
        .term = term,
        .index = index,
        .commit_index = index,
        .last_index = index,
        .round = 3,
        .sent_at_ms = 1000,
    };
}

static void assert_same(const struct raft_message *left, const struct raft_message *right)
{
    assert_int_equal(left->kind, right->kind);
    assert_true(left->term == right->term && left->index == right->index);
    assert_true(left->commit_index == right->commit_index);
    assert_true(left->last_index == right->last_index);
    assert_true(left->round == right->round && left->sent_at_ms == right->sent_at_ms);
    assert_true(left->mark == right->mark);
    assert_true(left->is_rejected == right->is_rejected && left->is_quiet == right->is_quiet);
    assert_true(right->entry_count == 0 && right->index_term == 0 && right->last_term == 0);
    assert_true(right->from == 0 && right->to == 0 && !right->is_transfer);
}

/* A number of any size, and small ones often. */
static uint64_t draw(struct random *random)
{
    return random_next(random) >> random_below(random, 64) >> random_below(random, 2);
}

static struct raft_message draw_beat(struct random *random)
{
    bool is_answer = random_chance(random, 1, 2);
    struct raft_message beat = {
        .kind = is_answer ? RAFT_MESSAGE_HEARTBEAT_REPLY : RAFT_MESSAGE_HEARTBEAT_REQUEST,
        .term = draw(random),
        .index = draw(random),
        .commit_index = is_answer ? 0 : draw(random),
        .last_index = is_answer ? 0 : draw(random),
        .round = draw(random),
        .sent_at_ms = draw(random),
        .mark = random_chance(random, 1, 4) ? draw(random) : 0,
        .is_rejected = random_chance(random, 1, 2),
        .is_quiet = random_chance(random, 1, 2),
    };
    return beat;
}

/* I1, I2: whatever the numbers are, each comes out as it was and in its turn, and none is too long. */
static void test_all_comes_out(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, 7);
    struct beats beats = {0};
    struct raft_message added[COUNT];
    wal_shard shards[COUNT];
    uint32_t full_count = 0;
    for (uint32_t i = 0, first = 0; i < COUNT; i++) {
        added[i] = draw_beat(&random);
        shards[i] = (wal_shard)(draw(&random) % UINT32_MAX) + 1;
        bool is_full = !beats_add(&beats, shards[i], &added[i]);
        if (!is_full && i + 1 < COUNT) {
            continue;
        }
        struct beats_reader reader;
        assert_true(beats_message(&beats).size_bytes <= BEATS_SIZE_BYTES_MAX);
        assert_int_equal(beats_read(&reader, beats_message(&beats)), 0);
        for (; first < i + (is_full ? 0 : 1); first++) {
            wal_shard shard = 0;
            struct raft_message beat;
            assert_int_equal(beats_next(&reader, &shard, &beat), 0);
            assert_int_equal(shard, shards[first]);
            assert_same(&added[first], &beat);
        }
        assert_int_equal(reader.rest.size_bytes, 0);
        beats_clear(&beats);
        if (is_full) {
            full_count++;
            i--;
        }
    }
    assert_true(full_count >= 2);
    beats_deinit(&beats);
}

/* Those of groups that are up to date, sent in the same tick, are short: hundreds go together. */
static void test_short(void **state)
{
    (void)state;
    struct beats beats = {0};
    uint32_t count = 0;
    for (; count < 10000; count++) {
        struct raft_message beat = request(12, 100000 + count);
        if (!beats_add(&beats, 1 + count, &beat)) {
            break;
        }
    }
    assert_true(count > 300);
    beats_deinit(&beats);
}

/* Only heartbeats and their answers are carried. */
static void test_what_is_carried(void **state)
{
    (void)state;
    for (int kind = RAFT_MESSAGE_PREVOTE_REQUEST; kind <= RAFT_MESSAGE_TIMEOUT_NOW; kind++) {
        struct raft_message message = {.kind = (enum raft_message_kind)kind};
        bool is_beat =
            kind == RAFT_MESSAGE_HEARTBEAT_REQUEST || kind == RAFT_MESSAGE_HEARTBEAT_REPLY;
        assert_int_equal(beats_can_carry(&message), is_beat);
    }
}

/* Nothing was gathered: there is no message. */
static void test_empty(void **state)
{
    (void)state;
    struct beats beats = {0};
    assert_int_equal(beats_message(&beats).size_bytes, 0);
    struct raft_message beat = request(1, 1);
    assert_true(beats_add(&beats, 1, &beat));
    beats_clear(&beats);
    assert_int_equal(beats_message(&beats).size_bytes, 0);
    beats_deinit(&beats);
}

/* A message that is cut anywhere, or is none, is refused; what stood before the cut was heard. */
static void test_cut(void **state)
{
    (void)state;
    struct beats beats = {0};
    struct raft_message beat = request(1u << 20, 1u << 30);
    beat.mark = 5;
    assert_true(beats_add(&beats, 7, &beat) && beats_add(&beats, 8, &beat));
    struct bytes whole = beats_message(&beats);
    size_t each = (whole.size_bytes - 16) / 2;
    for (size_t size = 0; size < whole.size_bytes; size++) {
        struct beats_reader reader;
        wal_shard shard = 0;
        struct raft_message read;
        int status = beats_read(&reader, bytes_make(whole.data, size));
        assert_int_equal(status, size > 16 ? 0 : ERROR_PROTOCOL);
        if (status == 0 && size >= 16 + each) {
            assert_int_equal(beats_next(&reader, &shard, &read), 0);
            assert_same(&beat, &read);
        }
        if (status == 0 && size != 16 + each) {
            assert_int_equal(beats_next(&reader, &shard, &read), ERROR_PROTOCOL);
        }
    }
    beats_deinit(&beats);
}

/* One byte of a good message replaced. */
static int read_with(struct bytes good, size_t place, uint8_t byte)
{
    uint8_t bytes[BEATS_SIZE_BYTES_MAX];
    memcpy(bytes, good.data, good.size_bytes);
    bytes[place] = byte;
    struct beats_reader reader;
    wal_shard shard = 0;
    struct raft_message beat;
    int status = beats_read(&reader, bytes_make(bytes, good.size_bytes));
    return status != 0 ? status : beats_next(&reader, &shard, &beat);
}

/* Another version, flags that are not known, shard 0, numbers that are longer than need be or than 64
 * bits, a mark of 0: refused. */
static void test_malformed(void **state)
{
    (void)state;
    struct beats beats = {0};
    struct raft_message beat = request(UINT64_MAX, 300);
    beat.mark = 1;
    assert_true(beats_add(&beats, 7, &beat));
    struct bytes good = beats_message(&beats);
    assert_int_equal(read_with(good, 0, 1), 0);
    assert_int_equal(read_with(good, 0, 2), ERROR_NEWER_FORMAT);
    assert_int_equal(read_with(good, 0, 0), ERROR_PROTOCOL);
    assert_int_equal(read_with(good, 7, 1), ERROR_PROTOCOL);
    assert_int_equal(read_with(good, 16, 16), ERROR_PROTOCOL);
    assert_int_equal(read_with(good, 17, 0), ERROR_PROTOCOL);
    assert_int_equal(good.data[27], 1); /* The tenth byte of the term: one bit. */
    assert_int_equal(read_with(good, 27, 2), ERROR_PROTOCOL);
    assert_int_equal(good.data[29], 2); /* The second of 300. */
    assert_int_equal(read_with(good, 29, 0), ERROR_PROTOCOL);
    assert_int_equal(read_with(good, good.size_bytes - 8, 0), ERROR_PROTOCOL);
    beats_deinit(&beats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_comes_out),
        cmocka_unit_test(test_short),
        cmocka_unit_test(test_what_is_carried),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
