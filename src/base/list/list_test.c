/* SPDX-License-Identifier: Apache-2.0 */
#include "base/list/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int value;
    struct list link;
};

static int value_of(const struct list *member)
{
    return LIST_ITEM(member, const struct item, link)->value;
}

static void test_members_come_in_the_order_they_were_put(void **state)
{
    /* push_back appends, push_front prepends, insert_before goes where it says. */
    struct list head;
    list_init(&head);
    assert_true(list_is_empty(&head));
    struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    list_push_back(&head, &items[1].link);
    list_push_back(&head, &items[3].link);
    list_push_front(&head, &items[0].link);
    list_insert_before(&items[3].link, &items[2].link);
    int expected = 0;
    LIST_EACH(member, next, &head)
    {
        assert_int_equal(value_of(member), expected++);
    }
    assert_int_equal(expected, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(value_of(list_pop_front(&head)), i);
    }
    assert_null(list_pop_front(&head));
}

static void test_the_visited_member_may_leave(void **state)
{
    /* Walking while removing visits everybody once; removing twice is harmless. */
    struct list head;
    list_init(&head);
    struct item items[5];
    for (int i = 0; i < 5; i++) {
        items[i].value = i;
        list_push_back(&head, &items[i].link);
    }
    int visited = 0;
    LIST_EACH(member, next, &head)
    {
        visited++;
        if (value_of(member) % 2 == 0) {
            list_remove(member);
            list_remove(member);
        }
    }
    assert_int_equal(visited, 5);
    assert_int_equal(value_of(list_pop_front(&head)), 1);
    assert_int_equal(value_of(list_pop_front(&head)), 3);
    assert_true(list_is_empty(&head));
}

static void test_appending_a_list_empties_it(void **state)
{
    /* Order is kept, the source is left empty and usable, and an empty source changes nothing. */
    struct list target;
    struct list source;
    list_init(&target);
    list_init(&source);
    struct item items[4];
    for (int i = 0; i < 4; i++) {
        items[i].value = i;
        list_push_back(i < 2 ? &target : &source, &items[i].link);
    }
    list_append_all(&target, &source);
    assert_true(list_is_empty(&source));
    list_append_all(&target, &source);
    list_append_all(&source, &target);
    assert_true(list_is_empty(&target));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(value_of(list_pop_front(&source)), i);
    }
    assert_true(list_is_empty(&source));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_come_in_the_order_they_were_put),
        cmocka_unit_test(test_the_visited_member_may_leave),
        cmocka_unit_test(test_appending_a_list_empties_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
