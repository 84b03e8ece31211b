/* SPDX-License-Identifier: Apache-2.0 */
/* Timers and signals of a loop. Both are libuv handles, whose memory must live until libuv has
 * closed them, one tick after they are destroyed. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/os/os_internal.h"

struct os_timer {
    uv_timer_t uv;
    void (*callback)(void *context);
    void *context;
};

struct os_signal {
    uv_signal_t uv;
    void (*callback)(void *context);
    void *context;
};

static void timer_fired(uv_timer_t *handle)
{
    struct os_timer *timer = handle->data;
    timer->callback(timer->context);
}

static void handle_closed(uv_handle_t *handle)
{
    memory_free(handle->data);
}

struct os_timer *os_timer_create(struct os_loop *loop, void (*callback)(void *context),
                                 void *context)
{
    struct os_timer *timer = memory_allocate_zeroed(1, sizeof *timer);
    int status = uv_timer_init(&loop->uv, &timer->uv);
    ASSERT(status == 0);
    timer->uv.data = timer;
    timer->callback = callback;
    timer->context = context;
    return timer;
}

void os_timer_destroy(struct os_timer *timer)
{
    if (timer != NULL) {
        uv_close((uv_handle_t *)&timer->uv, handle_closed);
    }
}

void os_timer_start(struct os_timer *timer, uint64_t delay_ms, uint64_t repeat_ms)
{
    /* libuv counts from when the tick began, which may be long ago. */
    uv_update_time(timer->uv.loop);
    int status = uv_timer_start(&timer->uv, timer_fired, delay_ms, repeat_ms);
    ASSERT(status == 0);
}

void os_timer_stop(struct os_timer *timer)
{
    (void)uv_timer_stop(&timer->uv); /* Always 0. */
}

static void signal_came(uv_signal_t *handle, int signal_number)
{
    (void)signal_number;
    struct os_signal *signal = handle->data;
    signal->callback(signal->context);
}

int os_signal_create(struct os_signal **signal, struct os_loop *loop, int signal_number,
                     void (*callback)(void *context), void *context)
{
    struct os_signal *created = memory_allocate_zeroed(1, sizeof *created);
    int status = uv_signal_init(&loop->uv, &created->uv);
    if (status != 0) {
        memory_free(created);
        return status;
    }
    created->uv.data = created;
    created->callback = callback;
    created->context = context;
    status = uv_signal_start(&created->uv, signal_came, signal_number);
    if (status != 0) {
        uv_close((uv_handle_t *)&created->uv, handle_closed);
        return status;
    }
    *signal = created;
    return 0;
}

void os_signal_destroy(struct os_signal *signal)
{
    if (signal != NULL) {
        uv_close((uv_handle_t *)&signal->uv, handle_closed);
    }
}
