/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap/heap.h"
#include "base/memory/memory.h"
#include "base/random/random.h"

enum { ITEM_COUNT = 300, ROUND_COUNT = 20000 };

struct thing {
    int number;
    struct heap_item item;
};

static const struct thing *least_of(const struct thing *things)
{
    const struct thing *least = NULL;
    for (uint32_t i = 0; i < ITEM_COUNT; i++) {
        if (things[i].item.place != 0 && (least == NULL || things[i].item.key < least->item.key)) {
            least = &things[i];
        }
    }
    return least;
}

/* Whatever comes, goes or changes its key: the first one has the least of all keys. */
static void test_any_history(void **state)
{
    static struct thing things[ITEM_COUNT];
    struct heap heap = {0};
    struct random random;
    uint32_t count = 0;
    random_init(&random, 7);
    assert_null(heap_first(&heap));
    for (uint32_t i = 0; i < ROUND_COUNT; i++) {
        struct thing *thing = &things[random_below(&random, ITEM_COUNT)];
        bool was_in = thing->item.place != 0;
        if (random_chance(&random, 1, 3)) {
            heap_remove(&heap, &thing->item);
            count -= was_in;
        } else {
            heap_set(&heap, &thing->item, random_below(&random, 100));
            count += !was_in;
        }
        const struct thing *least = least_of(things);
        assert_int_equal(heap.count, count);
        assert_int_equal(heap_first(&heap) != NULL, least != NULL);
        if (least != NULL) {
            assert_int_equal(heap_first(&heap)->key, least->item.key);
        }
    }
    heap_deinit(&heap);
}

/* Taken out one by one they come in order, each once, and are in no heap afterwards. */
static void test_order(void **state)
{
    static struct thing things[ITEM_COUNT];
    struct heap heap = {0};
    uint64_t before = 0;
    for (int i = 0; i < ITEM_COUNT; i++) {
        things[i].number = i;
        heap_set(&heap, &things[i].item, (uint64_t)(i * 7919 % ITEM_COUNT));
    }
    for (int i = 0; i < ITEM_COUNT; i++) {
        struct thing *thing = CONTAINER_OF(heap_first(&heap), struct thing, item);
        assert_true(thing->number >= 0);
        assert_true(thing->item.key >= before);
        before = thing->item.key;
        thing->number = -1;
        heap_remove(&heap, &thing->item);
        assert_int_equal(thing->item.place, 0);
        heap_remove(&heap, &thing->item);
    }
    assert_null(heap_first(&heap));
    heap_deinit(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_history),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
