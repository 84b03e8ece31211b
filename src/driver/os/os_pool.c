/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/os/os.h"

struct os_pool {
    struct os_mutex *mutex;         /* Guards all below but work_count. */
    struct os_condition *condition; /* Work came, or stopping. */
    struct os_message *oldest;      /* Works that wait, linked through their messages. */
    struct os_message *newest;
    bool is_stopping;
    _Atomic uint32_t work_count; /* Waiting or running. */
    uint32_t work_count_max;
    uint32_t thread_count;
    struct os_thread *threads[];
};

static struct os_work *work_of(struct os_message *message)
{
    return (struct os_work *)(void *)((char *)message - offsetof(struct os_work, message));
}

static void deliver_done(struct os_message *message)
{
    struct os_work *work = work_of(message);
    work->done(work);
}

/* The oldest work; NULL when the pool stops and nothing is left. */
static struct os_work *take_work(struct os_pool *pool)
{
    os_mutex_lock(pool->mutex);
    while (pool->oldest == NULL && !pool->is_stopping) {
        os_condition_wait(pool->condition, pool->mutex);
    }
    struct os_message *message = pool->oldest;
    if (message != NULL) {
        pool->oldest = message->next;
        if (pool->oldest == NULL) {
            pool->newest = NULL;
        }
    }
    os_mutex_unlock(pool->mutex);
    return message != NULL ? work_of(message) : NULL;
}

static void pool_thread(void *context)
{
    struct os_pool *pool = context;
    for (struct os_work *work = take_work(pool); work != NULL; work = take_work(pool)) {
        work->run(work);
        uint32_t count = atomic_fetch_sub(&pool->work_count, 1);
        ASSERT(count > 0);
        os_loop_post(work->loop, &work->message);
    }
}

int os_pool_create(struct os_pool **pool, const struct os_pool_options *options,
                   struct error *error)
{
    ASSERT(options->thread_count > 0);
    ASSERT(options->work_count_max > 0);
    struct os_pool *created =
        memory_allocate_zeroed(1, sizeof *created + options->thread_count * sizeof(void *));
    created->mutex = os_mutex_create();
    created->condition = os_condition_create();
    created->work_count_max = options->work_count_max;
    for (uint32_t i = 0; i < options->thread_count; i++) {
        int status =
            os_thread_start(&created->threads[i], options->name, pool_thread, created, error);
        if (status != 0) {
            os_pool_destroy(created);
            return status;
        }
        created->thread_count++;
    }
    *pool = created;
    return 0;
}

void os_pool_destroy(struct os_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    os_mutex_lock(pool->mutex);
    pool->is_stopping = true;
    os_condition_broadcast(pool->condition);
    os_mutex_unlock(pool->mutex);
    for (uint32_t i = 0; i < pool->thread_count; i++) {
        os_thread_join(pool->threads[i]);
    }
    ASSERT(pool->oldest == NULL);
    os_condition_destroy(pool->condition);
    os_mutex_destroy(pool->mutex);
    memory_free(pool);
}

int os_pool_submit(struct os_pool *pool, struct os_loop *loop, struct os_work *work)
{
    ASSERT(work->run != NULL);
    ASSERT(work->done != NULL);
    uint32_t count = atomic_fetch_add(&pool->work_count, 1);
    if (count >= pool->work_count_max) {
        (void)atomic_fetch_sub(&pool->work_count, 1);
        return -EBUSY;
    }
    work->loop = loop;
    work->message = (struct os_message){.next = NULL, .deliver = deliver_done};
    os_mutex_lock(pool->mutex);
    ASSERT(!pool->is_stopping);
    if (pool->newest != NULL) {
        pool->newest->next = &work->message;
    } else {
        pool->oldest = &work->message;
    }
    pool->newest = &work->message;
    os_condition_signal(pool->condition);
    os_mutex_unlock(pool->mutex);
    return 0;
}

uint32_t os_pool_work_count(const struct os_pool *pool)
{
    return atomic_load_explicit(&((struct os_pool *)(uintptr_t)pool)->work_count,
                                memory_order_relaxed);
}
