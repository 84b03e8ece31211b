/* SPDX-License-Identifier: Apache-2.0 */
#include "base/queue/queue.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory/memory.h"

enum { CAPACITY = 8, ITEM_COUNT = 200000 };

static void *item(uint64_t number)
{
    return (void *)(uintptr_t)(number + 1);
}

static void test_first_in_is_first_out_and_full_is_an_answer(void **state)
{
    /* Exactly `capacity` items fit, also after the positions have gone round. */
    struct queue *queue = queue_create(CAPACITY);
    assert_true(queue_is_empty(queue));
    assert_null(queue_pop(queue));
    for (uint64_t round = 0; round < 5; round++) {
        for (uint64_t i = 0; i < CAPACITY; i++) {
            assert_true(queue_push(queue, item(i)));
        }
        assert_false(queue_push(queue, item(99)));
        assert_false(queue_is_empty(queue));
        for (uint64_t i = 0; i < CAPACITY; i++) {
            assert_ptr_equal(queue_pop(queue), item(i));
        }
        assert_null(queue_pop(queue));
        assert_true(queue_push(queue, item(round)));
        assert_ptr_equal(queue_pop(queue), item(round));
    }
    queue_destroy(queue);
    queue_destroy(NULL);
}

static void test_a_queue_of_one_alternates(void **state)
{
    /* The smallest capacity. */
    struct queue *queue = queue_create(1);
    assert_true(queue_push(queue, item(1)));
    assert_false(queue_push(queue, item(2)));
    assert_ptr_equal(queue_pop(queue), item(1));
    assert_null(queue_pop(queue));
    queue_destroy(queue);
}

struct message {
    uint64_t number;
    uint64_t square;
};

struct transfer {
    struct queue *queue;
    struct message *messages;
};

static void *produce(void *context)
{
    const struct transfer *transfer = context;
    for (uint64_t i = 0; i < ITEM_COUNT; i++) {
        transfer->messages[i] = (struct message){.number = i, .square = i * i};
        while (!queue_push(transfer->queue, &transfer->messages[i])) {
            (void)sched_yield();
        }
    }
    return NULL;
}

static void test_another_thread_sees_what_was_written_before_the_push(void **state)
{
    /* Two real threads; the thread sanitizer runs this test too. */
    struct transfer transfer = {
        .queue = queue_create(CAPACITY),
        .messages = memory_allocate_zeroed(ITEM_COUNT, sizeof(struct message)),
    };
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, produce, &transfer), 0);
    for (uint64_t expected = 0; expected < ITEM_COUNT;) {
        const struct message *message = queue_pop(transfer.queue);
        if (message == NULL) {
            (void)sched_yield();
            continue;
        }
        assert_true(message->number == expected);
        assert_true(message->square == expected * expected);
        expected++;
    }
    assert_int_equal(pthread_join(producer, NULL), 0);
    assert_true(queue_is_empty(transfer.queue));
    queue_destroy(transfer.queue);
    memory_free(transfer.messages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_in_is_first_out_and_full_is_an_answer),
        cmocka_unit_test(test_a_queue_of_one_alternates),
        cmocka_unit_test(test_another_thread_sees_what_was_written_before_the_push),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
