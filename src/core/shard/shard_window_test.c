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

enum { ORIGIN_COUNT = 3, SEQUENCE_COUNT = 4096, STEP_COUNT = 200000 };

/* Where an identity was put; `item` is a number that no other one has. */
struct known {
    bool is_there;
    uint32_t item;
};

/* The numbers of gateways are what they are: also one that is all ones. */
static const uint64_t origins[ORIGIN_COUNT] = {1, UINT64_C(0x123456789abcdef), UINT64_MAX};

static void take(struct window_table *table, struct known *known, uint32_t origin,
                 uint32_t sequence, uint32_t item)
{
    struct window_slot *slot = shard__window_table_take(table, origins[origin], sequence);
    assert_int_equal(slot->origin, origins[origin]);
    assert_int_equal(slot->sequence, sequence);
    if (!known->is_there) {
        assert_null(slot->block);
        slot->item = item;
        *known = (struct known){true, item};
    }
    assert_int_equal(slot->item, known->item);
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
        for (uint32_t step = 0; step < STEP_COUNT; step++) {
            uint32_t origin = (uint32_t)random_below(&random, ORIGIN_COUNT);
            uint32_t sequence = (uint32_t)random_below(&random, SEQUENCE_COUNT);
            struct known *one = &known[origin][sequence];
            bool does_fill = step / (STEP_COUNT / 8) % 2 == 0;
            if (random_below(&random, 10) < (does_fill ? 7 : 3)) {
                count += !one->is_there;
                take(&table, one, origin, sequence, step);
            } else {
                struct window_slot *slot =
                    shard__window_table_find(&table, origins[origin], sequence);
                assert_int_equal(slot != NULL, one->is_there);
                if (slot != NULL) {
                    assert_int_equal(slot->item, one->item);
                    shard__window_table_remove(&table, slot);
                    one->is_there = false;
                    count--;
                }
            }
            assert_int_equal(table.used_count, count);
            was_growing = was_growing || table.previous.slots != NULL;
        }
        assert_true(was_growing);
        shard__window_table_deinit(&table);
    }
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
        for (uint64_t number = lost > 5 ? lost - 5 : 1; number <= sequence; number++) {
            enum shard_window_answer answer = shard__window_find(window, 5, number, &reply);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_agrees_with_a_model),
        cmocka_unit_test(the_oldest_answers_go_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
