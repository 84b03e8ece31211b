/* SPDX-License-Identifier: Apache-2.0 */
/* What entries take while they are kept for replicas that lag. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/shard/shard_group.h"
#include "core/shard/shard_internal.h"

enum { LARGE_SIZE_BYTES = 8 << 10, SMALL_SIZE_BYTES_MAX = 256 };

static struct shard_entry *last_entry_of(const struct shard__world *world)
{
    const struct shard *shard = world->shard;
    return shard__log_at(shard, shard->log.first_index + shard->log.count - 1);
}

/* An entry that was answered has its payload and nothing else, wherever it is; what it needed for its answer is the
 * next one's, so that no number of entries makes it more. */
static void kept_entries_have_no_answers(void **state)
{
    struct shard__group group = shard__group_create(1);
    shard__group_run(&group, 2000);
    for (uint32_t i = 0; i < 20; i++) {
        shard__group_put(&group, "key", "value");
    }
    shard__group_run(&group, 200);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        const struct shard *shard = group.worlds[i]->shard;
        assert_in_range(shard->log.count, 20, 100);
        for (uint32_t j = 0; j < shard->log.count; j++) {
            const struct shard_entry *entry = shard__log_at(shard, shard->log.first_index + j);
            assert_int_equal(entry->answers.item_capacity, 0);
            assert_int_equal(entry->answers.replies.capacity_bytes, 0);
        }
        assert_true(shard->spare_answers.replies.capacity_bytes > 0);
    }
    assert_true(shard__group_leader(&group)->shard->spare_answers.item_capacity > 0);
    shard__group_destroy(&group);
}

/* A small entry takes no more because a large one was gathered before it, and nothing of either is lost. */
static void kept_entries_are_as_large_as_they_are(void **state)
{
    struct shard__group group = shard__group_create(1);
    char large[LARGE_SIZE_BYTES];
    memset(large, 'v', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    shard__group_run(&group, 2000);
    shard__group_put(&group, "large", large);
    shard__group_put(&group, "small", "1");
    shard__group_run(&group, 200);
    struct shard__world *leader = shard__group_leader(&group);
    const struct shard_entry *small = last_entry_of(leader);
    assert_in_range(small->payload.size_bytes, 1, SMALL_SIZE_BYTES_MAX);
    assert_in_range(small->payload.capacity_bytes, 1, SMALL_SIZE_BYTES_MAX);
    assert_true(leader->shard->open->payload.capacity_bytes >= LARGE_SIZE_BYTES);
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        shard__group_expect_row(group.worlds[i], BYTES("large"), bytes_of_text(large));
        shard__group_expect_row(group.worlds[i], BYTES("small"), BYTES("1"));
    }
    shard__group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_entries_have_no_answers),
        cmocka_unit_test(kept_entries_are_as_large_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
