/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/os/os_internal.h"

enum { THREAD_NAME_SIZE = 16 }; /* The kernel's limit, with the zero. */

struct os_thread {
    pthread_t posix;
    void (*run)(void *context);
    void *context;
    char name[THREAD_NAME_SIZE];
};

struct os_mutex {
    pthread_mutex_t posix;
};

struct os_condition {
    pthread_cond_t posix;
};

static void *thread_main(void *argument)
{
    struct os_thread *thread = argument;
    (void)pthread_setname_np(pthread_self(), thread->name); /* Only a help for people. */
    thread->run(thread->context);
    return NULL;
}

static void *thread_main_alone(void *argument)
{
    struct os_thread thread = *(struct os_thread *)argument;
    memory_free(argument);
    return thread_main(&thread);
}

static int start(struct os_thread *thread, const pthread_attr_t *attributes,
                 void *(*entry)(void *argument), struct error *error)
{
    /* A thread inherits the mask of its creator: block all around the creation, so that no signal
     * can come in between. */
    sigset_t all;
    sigset_t before;
    pthread_t posix; /* One that is alone may have freed its `thread` before this returns. */
    (void)sigfillset(&all);
    int status = pthread_sigmask(SIG_SETMASK, &all, &before);
    ASSERT(status == 0);
    int created = pthread_create(&posix, attributes, entry, thread);
    status = pthread_sigmask(SIG_SETMASK, &before, NULL);
    ASSERT(status == 0);
    if (created != 0) {
        (void)error_set(error, -created, "start thread %s", thread->name);
        memory_free(thread);
        return -created;
    }
    if (attributes == NULL) {
        thread->posix = posix;
    }
    return 0;
}

static struct os_thread *make(const char *name, void (*run)(void *context), void *context)
{
    struct os_thread *thread = memory_allocate_zeroed(1, sizeof *thread);
    thread->run = run;
    thread->context = context;
    (void)snprintf(thread->name, sizeof thread->name, "%s", name);
    return thread;
}

int os_thread_start(struct os_thread **thread, const char *name, void (*run)(void *context),
                    void *context, struct error *error)
{
    struct os_thread *started = make(name, run, context);
    int status = start(started, NULL, thread_main, error);
    if (status == 0) {
        *thread = started;
    }
    return status;
}

int os__thread_start_alone(const char *name, void (*run)(void *context), void *context,
                           struct error *error)
{
    pthread_attr_t attributes;
    int status = pthread_attr_init(&attributes);
    ASSERT(status == 0);
    status = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    ASSERT(status == 0);
    int started = start(make(name, run, context), &attributes, thread_main_alone, error);
    (void)pthread_attr_destroy(&attributes); /* Cannot fail. */
    return started;
}

void os_thread_join(struct os_thread *thread)
{
    if (thread == NULL) {
        return;
    }
    int status = pthread_join(thread->posix, NULL);
    ASSERT(status == 0);
    memory_free(thread);
}

struct os_mutex *os_mutex_create(void)
{
    struct os_mutex *mutex = memory_allocate_zeroed(1, sizeof *mutex);
    int status = pthread_mutex_init(&mutex->posix, NULL);
    ASSERT(status == 0);
    return mutex;
}

void os_mutex_destroy(struct os_mutex *mutex)
{
    if (mutex != NULL) {
        int status = pthread_mutex_destroy(&mutex->posix);
        ASSERT(status == 0);
        memory_free(mutex);
    }
}

void os_mutex_lock(struct os_mutex *mutex)
{
    int status = pthread_mutex_lock(&mutex->posix);
    ASSERT(status == 0);
}

void os_mutex_unlock(struct os_mutex *mutex)
{
    int status = pthread_mutex_unlock(&mutex->posix);
    ASSERT(status == 0);
}

struct os_condition *os_condition_create(void)
{
    struct os_condition *condition = memory_allocate_zeroed(1, sizeof *condition);
    pthread_condattr_t attributes;
    ASSERT(pthread_condattr_init(&attributes) == 0);
    ASSERT(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&condition->posix, &attributes) == 0);
    ASSERT(pthread_condattr_destroy(&attributes) == 0);
    return condition;
}

void os_condition_destroy(struct os_condition *condition)
{
    if (condition != NULL) {
        int status = pthread_cond_destroy(&condition->posix);
        ASSERT(status == 0);
        memory_free(condition);
    }
}

void os_condition_wait(struct os_condition *condition, struct os_mutex *mutex)
{
    int status = pthread_cond_wait(&condition->posix, &mutex->posix);
    ASSERT(status == 0);
}

bool os_condition_wait_for(struct os_condition *condition, struct os_mutex *mutex,
                           uint64_t timeout_ms)
{
    struct timespec until;
    int status = clock_gettime(CLOCK_MONOTONIC, &until);
    ASSERT(status == 0);
    uint64_t until_ns = (uint64_t)until.tv_nsec + timeout_ms % 1000 * 1000000;
    until.tv_sec += (time_t)(timeout_ms / 1000 + until_ns / 1000000000);
    until.tv_nsec = (long)(until_ns % 1000000000);
    status = pthread_cond_timedwait(&condition->posix, &mutex->posix, &until);
    ASSERT(status == 0 || status == ETIMEDOUT);
    return status == 0;
}

void os_condition_signal(struct os_condition *condition)
{
    int status = pthread_cond_signal(&condition->posix);
    ASSERT(status == 0);
}

void os_condition_broadcast(struct os_condition *condition)
{
    int status = pthread_cond_broadcast(&condition->posix);
    ASSERT(status == 0);
}
