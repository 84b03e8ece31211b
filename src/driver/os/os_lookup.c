/* SPDX-License-Identifier: Apache-2.0 */
/* Looking names up.
 *
 * The resolver blocks for as long as its name servers are silent, often tens of seconds, and cannot be called
 * off. So each lookup has a thread of its own, for which nobody waits: on libuv's threads or those of a
 * pool it would hold up what else waits there, and whoever ends the loop, the pool or the process would
 * have to wait for it.
 *
 * The loop's thread and the lookup's hold the lookup together; the last one to let go frees it. Once it is
 * cancelled, or was heard of, its thread does not touch the loop any more. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/os/os_internal.h"

struct os_lookup {
    _Atomic uint32_t holder_count;
    struct os_mutex
        *mutex; /* Guards `is_cancelled`, and the loop from a thread that would wake it. */
    bool is_cancelled;
    struct os_wake *wake; /* The loop's. */
    void (*done)(int status, const struct os_address *address, const struct error *error,
                 void *context);
    void *context;
    char text[OS_ADDRESS_NAME_SIZE];
    int status; /* This and what follows: the thread's, until it wakes the loop. */
    struct os_address address;
    struct error error;
};

/* Under way in this process, also those that were cancelled: they have threads still. */
static _Atomic uint32_t lookup_count;

static void let_go(struct os_lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->holder_count, 1) == 1) {
        os_mutex_destroy(lookup->mutex);
        memory_free(lookup);
    }
}

/* ---- Its thread ------------------------------------------------------------------------------ */

static void run(void *context)
{
    struct os_lookup *lookup = context;
    lookup->status = os_address_parse(&lookup->address, lookup->text, &lookup->error);
    (void)atomic_fetch_sub(&lookup_count, 1);
    os_mutex_lock(lookup->mutex);
    if (!lookup->is_cancelled) {
        os_wake_signal(lookup->wake);
    }
    os_mutex_unlock(lookup->mutex);
    let_go(lookup);
}

/* ---- The loop's thread ----------------------------------------------------------------------- */

static void leave(struct os_lookup *lookup)
{
    os_mutex_lock(lookup->mutex); /* When its thread wakes the loop right now, that ends first. */
    lookup->is_cancelled = true;
    os_mutex_unlock(lookup->mutex);
    os_wake_destroy(lookup->wake);
    let_go(lookup);
}

static void answer_came(void *context)
{
    struct os_lookup *lookup = context;
    struct os_lookup answer = {
        .done = lookup->done,
        .context = lookup->context,
        .status = lookup->status,
        .address = lookup->address,
        .error = lookup->error,
    };
    leave(lookup);
    answer.done(answer.status, answer.status == 0 ? &answer.address : NULL, &answer.error,
                answer.context);
}

int os_lookup_start(struct os_lookup **lookup, struct os_loop *loop,
                    const struct os_lookup_options *options, struct error *error)
{
    char host[OS_HOST_SIZE];
    uint16_t port = 0;
    size_t size_bytes = strlen(options->text) + 1;
    ASSERT(options->done != NULL);
    if (size_bytes > OS_ADDRESS_NAME_SIZE || !os_address_split(options->text, host, &port)) {
        return error_say(error, -EINVAL, "address \"%s\" is not HOST:PORT", options->text);
    }
    if (atomic_fetch_add(&lookup_count, 1) >= OS_LOOKUPS_MAX) {
        (void)atomic_fetch_sub(&lookup_count, 1);
        return error_say(error, -EBUSY, "address %s: too many names are being looked up",
                         options->text);
    }
    struct os_lookup *started = memory_allocate_zeroed(1, sizeof *started);
    started->holder_count = 2;
    started->mutex = os_mutex_create();
    started->wake = os_wake_create(loop, answer_came, started);
    started->done = options->done;
    started->context = options->context;
    memcpy(started->text, options->text, size_bytes);
    int status = os__thread_start_alone("lookup", run, started, error);
    if (status != 0) {
        (void)atomic_fetch_sub(&lookup_count, 1);
        started->holder_count = 1;
        leave(started);
        return status;
    }
    *lookup = started;
    return 0;
}

void os_lookup_cancel(struct os_lookup *lookup)
{
    if (lookup != NULL) {
        leave(lookup);
    }
}
