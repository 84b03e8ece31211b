/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>

#include "driver/os/os.h"

enum { JOB_COUNT = 2000, LIMIT = 64 };

struct job {
    struct os_work work;
    struct crew *crew;
    uint64_t answer;
    int done_count;
};

struct crew {
    struct os_loop *loop;
    struct os_pool *pool;
    struct job jobs[JOB_COUNT];
    uint32_t submitted_count;
    uint32_t done_count;
    uint32_t busy_count;
};

static struct crew crew;

static void run(struct os_work *work)
{
    struct job *job = (struct job *)work;
    job->answer = (uint64_t)(job - job->crew->jobs) * 3;
}

static void submit_more(void);

static void done(struct os_work *work)
{
    struct job *job = (struct job *)work;
    assert_int_equal(job->answer, (uint64_t)(job - crew.jobs) * 3);
    assert_int_equal(job->done_count++, 0);
    crew.done_count++;
    if (crew.done_count == JOB_COUNT) {
        os_loop_stop(crew.loop);
    } else {
        submit_more();
    }
}

static void submit_more(void)
{
    while (crew.submitted_count < JOB_COUNT) {
        struct job *job = &crew.jobs[crew.submitted_count];
        *job = (struct job){.work = {.run = run, .done = done}, .crew = &crew};
        int status = os_pool_submit(crew.pool, crew.loop, &job->work);
        if (status != 0) {
            assert_int_equal(status, -EBUSY);
            crew.busy_count++;
            return;
        }
        crew.submitted_count++;
    }
}

/* Claim: every work runs once and is answered once on its loop; a full pool says -EBUSY and takes
 * work again when some is done. */
static void test_all_work_is_answered(void **state)
{
    (void)state;
    crew = (struct crew){0};
    struct os_pool_options options = {.name = "disk", .thread_count = 3, .work_count_max = LIMIT};
    assert_int_equal(os_loop_create(&crew.loop, NULL), 0);
    assert_int_equal(os_pool_create(&crew.pool, &options, NULL), 0);
    submit_more();
    os_loop_run(crew.loop);
    assert_int_equal(crew.done_count, JOB_COUNT);
    assert_int_equal(os_pool_work_count(crew.pool), 0);
    os_pool_destroy(crew.pool);
    os_loop_destroy(crew.loop);
}

static _Atomic bool is_open;
static int late_done_count;

static void wait_until_open(struct os_work *work)
{
    (void)work;
    while (!atomic_load(&is_open)) {
        os_sleep_ms(1);
    }
}

static void count_done(struct os_work *work)
{
    (void)work;
    late_done_count++;
}

/* Claim: the bound counts what waits and what runs; destroying finishes all that was taken. */
static void test_bound_and_destroy(void **state)
{
    (void)state;
    struct os_loop *loop = NULL;
    struct os_pool *pool = NULL;
    struct os_pool_options options = {.name = "disk", .thread_count = 1, .work_count_max = 2};
    assert_int_equal(os_loop_create(&loop, NULL), 0);
    assert_int_equal(os_pool_create(&pool, &options, NULL), 0);
    struct os_work works[3];
    for (int i = 0; i < 3; i++) {
        works[i] = (struct os_work){.run = wait_until_open, .done = count_done};
    }
    assert_int_equal(os_pool_submit(pool, loop, &works[0]), 0);
    assert_int_equal(os_pool_submit(pool, loop, &works[1]), 0);
    assert_int_equal(os_pool_submit(pool, loop, &works[2]), -EBUSY);
    assert_int_equal(os_pool_work_count(pool), 2);
    assert_int_equal(late_done_count, 0);
    atomic_store(&is_open, true);
    os_pool_destroy(pool);
    os_loop_stop(loop);
    os_loop_run(loop);
    assert_int_equal(late_done_count, 2);
    os_loop_destroy(loop);
}

/* Claim: waiting with a limit gives up, and a signal ends it early. */
static void test_condition(void **state)
{
    (void)state;
    struct os_mutex *mutex = os_mutex_create();
    struct os_condition *condition = os_condition_create();
    os_mutex_lock(mutex);
    uint64_t before_ms = os_monotonic_ms();
    bool was_signalled = os_condition_wait_for(condition, mutex, 20);
    os_mutex_unlock(mutex);
    assert_true(!was_signalled || os_monotonic_ms() - before_ms < 20);
    assert_true(was_signalled || os_monotonic_ms() - before_ms >= 19);
    os_condition_destroy(condition);
    os_mutex_destroy(mutex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_work_is_answered),
        cmocka_unit_test(test_bound_and_destroy),
        cmocka_unit_test(test_condition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
