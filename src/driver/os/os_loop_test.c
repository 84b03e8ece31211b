/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/mman.h>

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/memory/memory.h"
#include "base/queue/queue.h"
#include "driver/os/os.h"

enum { SENDER_COUNT = 4, SENDS_PER_SENDER = 20000 };

static struct os_loop *make_loop(void)
{
    struct os_loop *loop = NULL;
    struct error error = {0};
    assert_int_equal(os_loop_create(&loop, &error), 0);
    return loop;
}

static void stop(void *context)
{
    os_loop_stop(context);
}

/* Claim: stopping before running is not lost, and a loop can run again afterwards. */
static void test_stop_before_run(void **state)
{
    (void)state;
    struct os_loop *loop = make_loop();
    os_loop_stop(loop);
    os_loop_run(loop);
    struct os_timer *timer = os_timer_create(loop, stop, loop);
    os_timer_start(timer, 5, 0);
    uint64_t before_ns = os_monotonic_ns();
    os_loop_run(loop);
    assert_true(os_monotonic_ns() - before_ns >= 4 * 1000000ull);
    os_timer_destroy(timer);
    os_loop_destroy(loop);
}

struct tick_log {
    struct os_loop *loop;
    char text[64];
    int timer_count;
};

static void note(struct tick_log *log, char letter)
{
    size_t used = strlen(log->text);
    if (used + 1 < sizeof log->text) {
        log->text[used] = letter;
    }
}

static void note_first(void *context)
{
    note(context, '1');
}

static void note_second(void *context)
{
    note(context, '2');
}

static void note_last(void *context)
{
    note(context, '3');
}

static void note_timer(void *context)
{
    struct tick_log *log = context;
    note(log, 't');
    log->timer_count++;
    if (log->timer_count == 2) {
        os_loop_stop(log->loop);
    }
}

/* Claim: after timers, and before sleeping, every end-of-tick callback runs in its order, and those that
 * are to be last after all others, though registered before them. */
static void test_end_of_tick_follows_timers(void **state)
{
    (void)state;
    struct tick_log log = {.loop = make_loop()};
    os_loop_at_last_of_tick(log.loop, note_last, &log);
    os_loop_at_end_of_tick(log.loop, note_first, &log);
    os_loop_at_end_of_tick(log.loop, note_second, &log);
    struct os_timer *timer = os_timer_create(log.loop, note_timer, &log);
    os_timer_start(timer, 1, 2);
    os_loop_run(log.loop);
    const char *timed = strchr(log.text, 't');
    assert_non_null(timed);
    assert_int_equal(strncmp(log.text, "123", 3), 0);
    assert_int_equal(strncmp(timed, "t123", 4), 0);
    assert_null(strstr(log.text, "tt"));
    os_timer_destroy(timer);
    os_loop_destroy(log.loop);
}

/* Claim: an end-of-tick callback that was forgotten is not called any more; the others are. */
static void test_end_of_tick_forgotten(void **state)
{
    (void)state;
    struct tick_log log = {.loop = make_loop()};
    struct tick_log other = {.loop = log.loop};
    os_loop_at_end_of_tick(log.loop, note_first, &other);
    os_loop_at_end_of_tick(log.loop, note_first, &log);
    os_loop_at_end_of_tick(log.loop, note_second, &log);
    os_loop_forget_end_of_tick(log.loop, note_first, &log);
    os_loop_stop(log.loop);
    os_loop_run(log.loop);
    assert_int_equal(log.text[0], '2');
    assert_null(strchr(log.text, '1'));
    assert_int_equal(other.text[0], '1');
    os_loop_destroy(log.loop);
}

static int wake_tick_count;
static int wake_count;

static void count_tick(void *context)
{
    (void)context;
    wake_tick_count++;
}

static void count_wake(void *context)
{
    wake_count++;
    os_loop_stop(context);
}

/* Claim: signals before the callback are one callback, and the tick's end follows it. */
static void test_wake_coalesces(void **state)
{
    (void)state;
    wake_tick_count = 0;
    wake_count = 0;
    struct os_loop *loop = make_loop();
    os_loop_at_end_of_tick(loop, count_tick, NULL);
    struct os_wake *wake = os_wake_create(loop, count_wake, loop);
    os_wake_signal(wake);
    os_wake_signal(wake);
    os_wake_signal(wake);
    os_loop_run(loop);
    assert_int_equal(wake_count, 1);
    assert_true(wake_tick_count >= 2);
    os_wake_destroy(wake);
    os_loop_destroy(loop);
}

static struct os_wake *doomed;
static struct os_wake *other;

static void destroy_both(void *context)
{
    os_wake_destroy(doomed);
    os_wake_destroy(other);
    os_loop_stop(context);
}

static void must_not_run(void *context)
{
    (void)context;
    fail();
}

/* Claim: a wake's callback may destroy itself and others that are signalled. */
static void test_wake_destroyed_by_callback(void **state)
{
    (void)state;
    struct os_loop *loop = make_loop();
    doomed = os_wake_create(loop, destroy_both, loop);
    other = os_wake_create(loop, must_not_run, loop);
    os_wake_signal(doomed);
    os_wake_signal(other);
    os_loop_run(loop);
    os_loop_destroy(loop);
}

/* ---- Many threads ---------------------------------------------------------------------------- */

struct sender {
    struct os_wake *wake;
    struct queue *queue;
    struct os_thread *thread;
    uint64_t received;
};

struct receiver {
    struct os_loop *loop;
    struct sender senders[SENDER_COUNT];
    uint64_t total;
};

static void send_many(void *context)
{
    struct sender *sender = context;
    for (uintptr_t i = 1; i <= SENDS_PER_SENDER; i++) {
        while (!queue_push(sender->queue, (void *)i)) {
            os_wake_signal(sender->wake);
        }
        os_wake_signal(sender->wake);
        if (i % 1000 == 0) {
            os_sleep_ms(1); /* Let the loop fall asleep now and then. */
        }
    }
}

static void receive(void *context)
{
    struct receiver *receiver = context;
    for (uint32_t i = 0; i < SENDER_COUNT; i++) {
        struct sender *sender = &receiver->senders[i];
        for (void *item = queue_pop(sender->queue); item != NULL; item = queue_pop(sender->queue)) {
            assert_int_equal((uintptr_t)item, ++sender->received);
            receiver->total++;
        }
    }
    if (receiver->total == (uint64_t)SENDER_COUNT * SENDS_PER_SENDER) {
        os_loop_stop(receiver->loop);
    }
}

/* Claim: nothing that was queued before a signal is ever left lying, whether the loop slept or
 * not. */
static void test_no_wake_is_lost(void **state)
{
    (void)state;
    struct receiver receiver = {.loop = make_loop()};
    struct os_wake *wake = os_wake_create(receiver.loop, receive, &receiver);
    for (uint32_t i = 0; i < SENDER_COUNT; i++) {
        struct sender *sender = &receiver.senders[i];
        sender->wake = wake;
        sender->queue = queue_create(64);
        assert_int_equal(os_thread_start(&sender->thread, "sender", send_many, sender, NULL), 0);
    }
    os_loop_run(receiver.loop); /* A lost wake would leave it sleeping, and the test timing out. */
    for (uint32_t i = 0; i < SENDER_COUNT; i++) {
        os_thread_join(receiver.senders[i].thread);
        queue_destroy(receiver.senders[i].queue);
    }
    os_wake_destroy(wake);
    os_loop_destroy(receiver.loop);
}

struct mail {
    struct os_message message;
    struct mailbox *box;
    uint32_t sender;
    uint32_t number;
};

struct mailbox {
    struct os_loop *loop;
    uint32_t last[SENDER_COUNT];
    uint32_t total;
};

struct poster {
    struct mailbox *box;
    uint32_t index;
    struct os_thread *thread;
};

static void mail_arrived(struct os_message *message)
{
    struct mail *mail = (struct mail *)message;
    struct mailbox *box = mail->box;
    assert_int_equal(mail->number, box->last[mail->sender] + 1);
    box->last[mail->sender] = mail->number;
    box->total++;
    if (box->total == SENDER_COUNT * SENDS_PER_SENDER) {
        os_loop_stop(box->loop);
    }
    memory_free(mail);
}

static void post_many(void *context)
{
    struct poster *poster = context;
    for (uint32_t i = 1; i <= SENDS_PER_SENDER; i++) {
        struct mail *mail = memory_allocate_zeroed(1, sizeof *mail);
        *mail = (struct mail){.message.deliver = mail_arrived,
                              .box = poster->box,
                              .sender = poster->index,
                              .number = i};
        os_loop_post(poster->box->loop, &mail->message);
    }
}

/* Claim: posted messages all arrive, those of one thread in order. */
static void test_messages_arrive_in_order(void **state)
{
    (void)state;
    struct mailbox box = {.loop = make_loop()};
    struct poster posters[SENDER_COUNT];
    for (uint32_t i = 0; i < SENDER_COUNT; i++) {
        posters[i] = (struct poster){.box = &box, .index = i};
        assert_int_equal(
            os_thread_start(&posters[i].thread, "poster", post_many, &posters[i], NULL), 0);
    }
    os_loop_run(box.loop);
    for (uint32_t i = 0; i < SENDER_COUNT; i++) {
        os_thread_join(posters[i].thread);
    }
    os_loop_destroy(box.loop);
}

static int again_count;

static void again(void *context)
{
    again_count++;
    if (again_count < 100) {
        os_loop_tick_again(context);
    } else {
        os_loop_stop(context);
    }
}

/* Claim: a loop that asked for another tick does not sleep before it. */
static void test_tick_again(void **state)
{
    (void)state;
    again_count = 0;
    struct os_loop *loop = make_loop();
    os_loop_at_end_of_tick(loop, again, loop);
    os_loop_run(loop);
    assert_true(again_count >= 100);
    os_loop_destroy(loop);
}

/* Claim: a signal to the process becomes a callback on the loop. */
static void test_signal(void **state)
{
    (void)state;
    struct os_loop *loop = make_loop();
    struct os_signal *signal = NULL;
    assert_int_equal(os_signal_create(&signal, loop, SIGUSR1, stop, loop), 0);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    os_loop_run(loop);
    os_signal_destroy(signal);
    assert_int_equal(os_signal_create(&signal, loop, SIGKILL, stop, loop), -EINVAL);
    os_loop_destroy(loop);
}

/* Claim: the questions about the machine have sensible answers. */
static void test_machine(void **state)
{
    (void)state;
    assert_true(os_processor_count() >= 1);
    assert_true(os_memory_total_bytes() > 64ull << 20);
    assert_true(os_memory_resident_bytes() > 100000);
    assert_true(os_memory_resident_bytes() < os_memory_total_bytes());
    size_t large_bytes = 32 << 20;
    void *large =
        mmap(NULL, large_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(large != MAP_FAILED);
    memset(large, 1, large_bytes);
    uint64_t resident_bytes = os_memory_resident_bytes();
    assert_true(resident_bytes > large_bytes);
    assert_int_equal(munmap(large, large_bytes), 0);
    assert_true(os_memory_resident_bytes() < resident_bytes - large_bytes / 2);
    assert_true(os_memory_peak_bytes() > resident_bytes - large_bytes / 8);
    assert_true(os_open_files_raise() >= 64);
    assert_true(os_open_files_count() >= 3);
    assert_true(os_wall_clock_ms() > 1600000000000ull);
    uint64_t wall_ms = os_wall_clock_ms();
    assert_in_range(os_wall_clock_us() / 1000, wall_ms, wall_ms + 10000);
    uint64_t first_ns = os_monotonic_ns();
    assert_true(os_monotonic_ns() >= first_ns);
    uint64_t used_ns = os_thread_processor_ns();
    os_sleep_ms(50);
    assert_in_range(os_thread_processor_ns() - used_ns, 0, 40 * 1000000ull);
    uint8_t left[16] = {0};
    uint8_t right[16] = {0};
    os_random_fill(left, sizeof left);
    os_random_fill(right, sizeof right);
    assert_memory_not_equal(left, right, sizeof left);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_before_run),
        cmocka_unit_test(test_end_of_tick_follows_timers),
        cmocka_unit_test(test_end_of_tick_forgotten),
        cmocka_unit_test(test_wake_coalesces),
        cmocka_unit_test(test_wake_destroyed_by_callback),
        cmocka_unit_test(test_no_wake_is_lost),
        cmocka_unit_test(test_messages_arrive_in_order),
        cmocka_unit_test(test_tick_again),
        cmocka_unit_test(test_signal),
        cmocka_unit_test(test_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
