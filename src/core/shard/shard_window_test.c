/* SPDX-License-Identifier: Apache-2.0 */
#include "core/shard/shard_window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "core/shard/shard_window_table.h"

enum { ORIGIN_COUNT = 3, SEQUENCE_COUNT = 512, STEP_COUNT = 400000 };

/* Where an identity was put, by an address that no other one has. */
struct known {
    const struct window_answer *answer; /* NULL: it is not there. */
};

/* The numbers of gateways are what they are: also one that is all ones. */
static const uint64_t origins[ORIGIN_COUNT] = {1, UINT64_C(0x123456789abcdef), UINT64_MAX};

static void take(struct window_table *table, struct known *known, uint32_t origin,
                 uint32_t sequence, uint32_t step)
{
    struct window_slot *slot = shard__window_table_take(table, origins[origin], sequence);
    assert_int_equal(slot->origin, origins[origin]);
    assert_int_equal(slot->sequence, sequence);
    if (known->answer == NULL) {
        assert_null(slot->answer);
        known->answer = (const struct window_answer *)(uintptr_t)((step + 1) * 8);
        slot->answer = known->answer;
    }
    assert_ptr_equal(slot->answer, known->answer);
}

/* The table finds what was put into it, and nothing else, while it grows and shrinks. */
static void the_table_agrees_with_a_model(void **state)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        static struct known known[ORIGIN_COUNT][SEQUENCE_COUNT];
        memset(known, 0, sizeof known);
        struct random random;
        random_init(&random, seed);
        struct window_table table;
        shard__window_table_init(&table);
        uint32_t count = 0;
        bool was_growing = false;
        bool was_shrinking = false;
        for (uint32_t step = 0; step < STEP_COUNT; step++) {
            uint32_t origin = (uint32_t)random_below(&random, ORIGIN_COUNT);
            uint32_t sequence = (uint32_t)random_below(&random, SEQUENCE_COUNT);
            struct known *one = &known[origin][sequence];
            static const uint32_t shares[] = {70, 70, 1, 50}; /* Fill, empty, stay small. */
            uint32_t phase = step / (STEP_COUNT / 8) % 4;
            sequence = phase == 3 ? sequence % 16 : sequence;
            one = &known[origin][sequence];
            if (random_below(&random, 100) < shares[phase]) {
                count += one->answer == NULL;
                take(&table, one, origin, sequence, step);
            } else {
                struct window_slot *slot =
                    shard__window_table_find(&table, origins[origin], sequence);
                assert_int_equal(slot != NULL, one->answer != NULL);
                if (slot != NULL) {
                    assert_ptr_equal(slot->answer, one->answer);
                    shard__window_table_remove(&table, slot);
                    one->answer = NULL;
                    count--;
                }
            }
            assert_int_equal(table.used_count, count);
            was_growing |= table.previous.count != 0 && table.previous.count < table.present.count;
            was_shrinking |= table.previous.count > table.present.count;
            if (random_chance(&random, 1, 1000)) {
                assert_int_equal(shard__window_table_rest(&table), table.present.count == 8);
            }
        }
        assert_true(was_growing);
        assert_true(was_shrinking);
        shard__window_table_deinit(&table);
    }
}

/* A table that was large once does not stay so when little is in it for long; bursts that come
 * again and again do not make it shrink and grow. */
static void a_table_is_as_large_as_it_has_to_be(void **state)
{
    struct window_table table;
    shard__window_table_init(&table);
    uint64_t sequence = 0;
    for (uint32_t burst = 0; burst < 100; burst++) {
        for (uint32_t i = 1; i <= 1000; i++) {
            (void)shard__window_table_take(&table, 5, sequence + i);
        }
        assert_true(burst < 3 || table.present.count == 2048);
        for (uint32_t i = 1; i <= 1000; i++) {
            shard__window_table_remove(&table, shard__window_table_find(&table, 5, sequence + i));
        }
        sequence += 1000;
    }
    for (uint32_t i = 1; i <= 40000; i++) {
        struct window_slot *slot = shard__window_table_take(&table, 5, sequence + i);
        shard__window_table_remove(&table, slot);
    }
    assert_int_equal(table.present.count, 32);
    assert_true(shard__window_table_rest(&table));
    assert_int_equal(table.present.count, 8);
    shard__window_table_deinit(&table);
}

/* W2, W3: what is kept stays within the limit, and the oldest answers go first. */
static void the_oldest_answers_go_first(void **state)
{
    enum { SIZE_BYTES_MAX = 64 * 1024, ENTRY_COUNT = 2000, WRITE_COUNT = 7 };
    struct shard_window *window = shard__window_create(SIZE_BYTES_MAX);
    uint64_t sequence = 0;
    struct bytes reply;
    for (raft_index index = 1; index <= ENTRY_COUNT; index++) {
        for (uint32_t i = 1; i <= WRITE_COUNT; i++) {
            shard__window_add_pending(window, 5, sequence + i);
            assert_int_equal(shard__window_find(window, 5, sequence + i, &reply),
                             SHARD_WINDOW_PENDING);
        }
        shard__window_begin(window, index);
        for (uint32_t i = 1; i <= WRITE_COUNT; i++) {
            uint64_t number = sequence + i;
            shard__window_add(window, 5, number, bytes_make(&number, sizeof number));
        }
        shard__window_end(window);
        sequence += WRITE_COUNT;
        uint64_t lost = shard__window_covered(window) * WRITE_COUNT;
        assert_true(lost < sequence);
        for (uint64_t number = lost > 10 ? lost - 10 : 1; number <= sequence; number++) {
            enum shard_window_answer answer = shard__window_find(window, 5, number, &reply);
            if (number <= lost && number + WRITE_COUNT > lost) {
                continue; /* Some of that entry are there still. */
            }
            assert_int_equal(answer, number <= lost ? SHARD_WINDOW_UNKNOWN : SHARD_WINDOW_ANSWERED);
            if (number > lost) {
                assert_memory_equal(reply.data, &number, sizeof number);
            }
        }
    }
    uint64_t kept_count = sequence - shard__window_covered(window) * WRITE_COUNT;
    assert_in_range(kept_count * SHARD_WINDOW_ITEM_SLOTS_SIZE_BYTES, SIZE_BYTES_MAX / 4,
                    SIZE_BYTES_MAX);
    shard__window_destroy(window);
}

/* W3: when the limit is lowered nothing goes at once, but little by little, until it is kept. */
static void a_lower_limit_is_met_little_by_little(void **state)
{
    enum { ENTRY_COUNT = 1000, KEPT_SIZE_BYTES = 2000, TRIM_COUNT = 30 };
    struct shard_window *window = shard__window_create(1 << 20);
    for (raft_index index = 1; index <= ENTRY_COUNT; index++) {
        shard__window_begin(window, index);
        shard__window_add(window, 5, index, BYTES("+OK\r\n"));
        shard__window_end(window);
    }
    assert_int_equal(shard__window_covered(window), 0);
    shard__window_set_size(window, KEPT_SIZE_BYTES);
    assert_int_equal(shard__window_covered(window), 0);
    raft_index before = 0;
    while (shard__window_trim(window, TRIM_COUNT)) {
        assert_int_equal(shard__window_covered(window), before + TRIM_COUNT);
        before += TRIM_COUNT;
    }
    assert_true(shard__window_covered(window) > ENTRY_COUNT / 2);
    struct bytes reply;
    assert_int_equal(shard__window_find(window, 5, ENTRY_COUNT, &reply), SHARD_WINDOW_ANSWERED);
    assert_int_equal(shard__window_find(window, 5, 1, &reply), SHARD_WINDOW_UNKNOWN);
    shard__window_destroy(window);
}

/* Of one entry no more is kept than the limit, or a mebibyte, and of a long reply that goes beyond it that there was
 * one. */
static void what_is_too_long_for_one_entry_is_lost(void **state)
{
    enum { MEBIBYTE = 1 << 20, REPLY_SIZE = MEBIBYTE / 4, COUNT = 100 };
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t limit = i == 0 ? 1000 : 16 * MEBIBYTE;
        uint64_t kept_count = i == 0 ? 4 : 64;
        struct shard_window *window = shard__window_create(limit);
        struct buffer replies = {0};
        struct bytes reply = {0};
        memset(buffer_extend(&replies, REPLY_SIZE), 'r', REPLY_SIZE);
        shard__window_begin(window, 1);
        for (uint64_t number = 1; number <= COUNT; number++) {
            shard__window_add(window, 5, number, buffer_bytes(&replies));
        }
        shard__window_add(window, 5, COUNT + 1, BYTES("short"));
        shard__window_end(window);
        assert_true(shard__window_figures(window).size_bytes < (kept_count + 1) * REPLY_SIZE);
        for (uint64_t number = 1; number <= COUNT; number++) {
            bool is_kept = number <= kept_count;
            assert_int_equal(shard__window_find(window, 5, number, &reply),
                             is_kept ? SHARD_WINDOW_ANSWERED : SHARD_WINDOW_FORGOTTEN);
            assert_true(!is_kept || bytes_equal(reply, buffer_bytes(&replies)));
        }
        assert_int_equal(shard__window_find(window, 5, COUNT + 1, &reply), SHARD_WINDOW_ANSWERED);
        assert_true(bytes_equal(reply, BYTES("short")));
        buffer_deinit(&replies);
        shard__window_destroy(window);
    }
}

/* ---- Floors ---------------------------------------------------------------------------------- */

static void apply(struct shard_window *window, raft_index index, uint64_t origin, uint64_t sequence)
{
    shard__window_begin(window, index);
    shard__window_add(window, origin, sequence, bytes_make(&sequence, sizeof sequence));
    shard__window_end(window);
}

static void set_floor(struct shard_window *window, uint64_t origin, uint64_t floor)
{
    shard__window_set_floor(window, &(struct shard_floor){origin, floor});
}

static void expect(const struct shard_window *window, uint64_t origin, uint64_t sequence,
                   enum shard_window_answer expected)
{
    struct bytes reply = {0};
    assert_int_equal(shard__window_find(window, origin, sequence, &reply), expected);
    if (expected == SHARD_WINDOW_ANSWERED) {
        assert_int_equal(reply.size_bytes, sizeof sequence);
        assert_memory_equal(reply.data, &sequence, sizeof sequence);
    }
}

/* A floor takes its own gateway's answers, and no other's; and the window reaches as far as
 * before (W4). */
static void a_floor_is_of_one_gateway(void **state)
{
    enum { COUNT = 1000 };
    struct shard_window *window = shard__window_create(1 << 20);
    for (uint64_t i = 1; i <= COUNT; i++) {
        apply(window, 2 * i, 5, i);
        apply(window, 2 * i + 1, 6, i);
    }
    set_floor(window, 5, 901);
    assert_true(shard__window_trim(window, 1)); /* W3 */
    while (shard__window_trim(window, 50)) {
    }
    for (uint64_t i = 1; i <= COUNT; i++) {
        expect(window, 5, i, i < 901 ? SHARD_WINDOW_FORGOTTEN : SHARD_WINDOW_ANSWERED);
        expect(window, 6, i, SHARD_WINDOW_ANSWERED);
    }
    expect(window, 5, COUNT + 1, SHARD_WINDOW_UNKNOWN);
    expect(window, 7, 1, SHARD_WINDOW_UNKNOWN);
    assert_int_equal(shard__window_covered(window), 0);
    assert_int_equal(shard__window_figures(window).answer_count, COUNT + COUNT - 900);
    shard__window_destroy(window);
}

/* A floor that comes late, below an earlier one, brings nothing back and changes nothing. */
static void a_late_floor_changes_nothing(void **state)
{
    struct shard_window *window = shard__window_create(1 << 20);
    for (uint64_t i = 1; i <= 10; i++) {
        apply(window, i, 5, i);
    }
    set_floor(window, 5, 8);
    set_floor(window, 5, 3);
    expect(window, 5, 7, SHARD_WINDOW_FORGOTTEN);
    expect(window, 5, 8, SHARD_WINDOW_ANSWERED);
    struct shard_floor floors[2];
    assert_int_equal(shard__window_take_news(window, floors, 2), 1);
    assert_int_equal(floors[0].origin, 5);
    assert_int_equal(floors[0].floor, 8);
    set_floor(window, 5, 8);
    assert_false(shard__window_has_news(window));
    shard__window_destroy(window);
}

/* What is applied below the floor is not kept, but it is known that it may be gone; it was
 * pending until then. */
static void what_nobody_waits_for_is_not_kept(void **state)
{
    struct shard_window *window = shard__window_create(1 << 20);
    shard__window_add_pending(window, 5, 3);
    set_floor(window, 5, 9);
    expect(window, 5, 3, SHARD_WINDOW_PENDING);
    apply(window, 4, 5, 3);
    expect(window, 5, 3, SHARD_WINDOW_FORGOTTEN);
    expect(window, 5, 8, SHARD_WINDOW_FORGOTTEN);
    expect(window, 5, 9, SHARD_WINDOW_UNKNOWN);
    assert_int_equal(shard__window_figures(window).answer_count, 0);
    assert_int_equal(shard__window_figures(window).size_bytes, 0);
    shard__window_destroy(window);
}

/* Answers that were applied before lower ones hold those up, and no longer than themselves. */
static void the_order_of_the_log_is_not_that_of_sequences(void **state)
{
    struct shard_window *window = shard__window_create(1 << 20);
    static const uint64_t sequences[] = {9, 1, 2, 12, 3};
    for (uint32_t i = 0; i < 5; i++) {
        apply(window, i + 1, 5, sequences[i]);
    }
    set_floor(window, 5, 4);
    assert_int_equal(shard__window_figures(window).answer_count, 5);
    set_floor(window, 5, 10);
    assert_int_equal(shard__window_figures(window).answer_count, 2);
    expect(window, 5, 9, SHARD_WINDOW_FORGOTTEN);
    expect(window, 5, 12, SHARD_WINDOW_ANSWERED);
    set_floor(window, 5, 13);
    assert_int_equal(shard__window_figures(window).answer_count, 0);
    shard__window_destroy(window);
}

/* A gateway that says nothing does not keep the others' answers, is bounded by the limit, and
 * what it left goes for its age without a loss for anybody else. */
static void a_dead_gateway_is_in_nobodys_way(void **state)
{
    struct shard_window *window = shard__window_create(1 << 20);
    raft_index index = 0;
    for (uint64_t i = 1; i <= 100; i++) {
        apply(window, ++index, 5, i);
    }
    shard__window_age(window);
    for (uint64_t i = 1; i <= 20000; i++) {
        apply(window, ++index, 6, i);
        set_floor(window, 6, i);
        assert_in_range(shard__window_figures(window).answer_count, 101, 102);
    }
    shard__window_age(window);
    while (shard__window_trim(window, 10)) {
    }
    assert_int_equal(shard__window_covered(window), 0);
    assert_int_equal(shard__window_figures(window).answer_count, 1);
    expect(window, 5, 100, SHARD_WINDOW_FORGOTTEN);
    expect(window, 5, 101, SHARD_WINDOW_UNKNOWN);
    expect(window, 6, 20000, SHARD_WINDOW_ANSWERED);
    shard__window_set_size(window, 64 * 1024);
    for (uint64_t i = 101; i <= 20000; i++) {
        apply(window, ++index, 5, i);
    }
    assert_in_range(shard__window_figures(window).size_bytes, 1, 64 * 1024);
    assert_true(shard__window_covered(window) > 0);
    shard__window_destroy(window);
}

/* Many gateways, one after the other: those of long ago are not known any more, and then the window
 * reaches back to no entry in which they had anything. */
static void gateways_of_long_ago_are_forgotten(void **state)
{
    enum { COUNT = 3 * SHARD_WINDOW_ORIGIN_COUNT_MAX };
    struct shard_window *window = shard__window_create(1 << 20);
    for (uint64_t i = 1; i <= COUNT; i++) {
        apply(window, i, 1000 + i, 7);
        set_floor(window, 1000 + i, 8);
    }
    assert_int_equal(shard__window_figures(window).origin_count, SHARD_WINDOW_ORIGIN_COUNT_MAX);
    assert_int_equal(shard__window_covered(window), COUNT - SHARD_WINDOW_ORIGIN_COUNT_MAX);
    for (uint64_t i = 1; i <= COUNT; i++) {
        expect(window, 1000 + i, 7,
               i <= shard__window_covered(window) ? SHARD_WINDOW_UNKNOWN : SHARD_WINDOW_FORGOTTEN);
    }
    shard__window_destroy(window);
}

/* Whatever happens to the window, of a write that was applied it says that it is pending no
 * more, what it answered, or that this is forgotten; or it does not reach back to it (W1). And
 * never that one is forgotten which its gateway still needs and which is neither old nor too
 * much. */
static void the_window_agrees_with_a_model(void **state)
{
    enum { GATEWAY_COUNT = 4, WRITE_COUNT = 3000 };
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct random random;
        random_init(&random, seed);
        uint64_t limit = random_chance(&random, 1, 2) ? 20000 : 1 << 20;
        struct shard_window *window = shard__window_create(limit);
        static raft_index indexes[GATEWAY_COUNT][WRITE_COUNT]; /* 0: it is not applied. */
        memset(indexes, 0, sizeof indexes);
        uint64_t newest[GATEWAY_COUNT] = {0};
        uint64_t floors[GATEWAY_COUNT] = {1, 1, 1, 1};
        bool does_age = random_chance(&random, 1, 2);
        for (raft_index index = 1; index < WRITE_COUNT; index++) {
            shard__window_begin(window, index);
            uint64_t added = random_below(&random, 4);
            for (uint64_t i = 0; i < added; i++) {
                uint64_t gateway = random_below(&random, GATEWAY_COUNT);
                uint64_t sequence = newest[gateway] + 1 + random_below(&random, 3);
                sequence -= random_below(&random, 8) < sequence ? random_below(&random, 8) : 0;
                if (sequence == 0 || sequence >= WRITE_COUNT || indexes[gateway][sequence] != 0) {
                    continue;
                }
                shard__window_add(window, gateway + 1, sequence,
                                  bytes_make(&sequence, sizeof sequence));
                indexes[gateway][sequence] = index;
                newest[gateway] = sequence > newest[gateway] ? sequence : newest[gateway];
            }
            shard__window_end(window);
            uint64_t gateway = random_below(&random, GATEWAY_COUNT);
            if (gateway != 0 && random_chance(&random, 1, 5)) {
                uint64_t floor = 1 + random_below(&random, newest[gateway] + 1);
                set_floor(window, gateway + 1, floor);
                floors[gateway] = floor > floors[gateway] ? floor : floors[gateway];
            }
            if (does_age && random_chance(&random, 1, 500)) {
                shard__window_age(window);
            }
            (void)shard__window_trim(window, (uint32_t)random_below(&random, 5));
            gateway = random_below(&random, GATEWAY_COUNT);
            uint64_t sequence = 1 + random_below(&random, newest[gateway] + 3);
            if (sequence >= WRITE_COUNT) {
                continue;
            }
            struct bytes reply = {0};
            enum shard_window_answer answer =
                shard__window_find(window, gateway + 1, sequence, &reply);
            raft_index applied = indexes[gateway][sequence];
            bool is_needed = sequence >= floors[gateway];
            if (answer == SHARD_WINDOW_ANSWERED) {
                assert_true(applied != 0);
                assert_memory_equal(reply.data, &sequence, sizeof sequence);
            } else if (answer == SHARD_WINDOW_UNKNOWN) {
                assert_true(applied <= shard__window_covered(window));
            } else {
                assert_int_equal(answer, SHARD_WINDOW_FORGOTTEN);
                assert_true(!is_needed || does_age);
            }
            assert_true(limit == 20000 || shard__window_covered(window) == 0);
        }
        shard__window_reset(window, WRITE_COUNT);
        assert_int_equal(shard__window_figures(window).answer_count, 0);
        assert_int_equal(shard__window_figures(window).size_bytes, 0);
        expect(window, 2, 1, SHARD_WINDOW_UNKNOWN);
        shard__window_destroy(window);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_agrees_with_a_model),
        cmocka_unit_test(a_table_is_as_large_as_it_has_to_be),
        cmocka_unit_test(the_oldest_answers_go_first),
        cmocka_unit_test(a_lower_limit_is_met_little_by_little),
        cmocka_unit_test(what_is_too_long_for_one_entry_is_lost),
        cmocka_unit_test(a_floor_is_of_one_gateway),
        cmocka_unit_test(a_late_floor_changes_nothing),
        cmocka_unit_test(what_nobody_waits_for_is_not_kept),
        cmocka_unit_test(the_order_of_the_log_is_not_that_of_sequences),
        cmocka_unit_test(a_dead_gateway_is_in_nobodys_way),
        cmocka_unit_test(gateways_of_long_ago_are_forgotten),
        cmocka_unit_test(the_window_agrees_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
