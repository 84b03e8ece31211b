/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/os/os_internal.h"

enum { CLOSING_TICKS_MAX = 100 };

struct os_wake {
    struct os_loop *loop;
    struct list member; /* Of loop->wakes. */
    void (*callback)(void *context);
    void *context;
    _Atomic bool is_signalled;
    bool is_dead; /* Destroyed by a callback while wakes are being delivered. */
};

/* ---- Senders: any thread --------------------------------------------------------------------- */

static void alert(struct os_loop *loop)
{
    if (atomic_load(&loop->is_sleeping) && atomic_exchange(&loop->is_sleeping, false)) {
        int status = uv_async_send(&loop->alarm);
        ASSERT(status == 0);
    }
}

void os_wake_signal(struct os_wake *wake)
{
    /* An exchange even when it is set: reading alone could pass the caller's own writes, and the
     * callback would miss them. */
    if (atomic_exchange(&wake->is_signalled, true)) {
        return;
    }
    struct os_loop *loop = wake->loop;
    atomic_store(&loop->is_signalled, true);
    alert(loop);
}

void os_loop_post(struct os_loop *loop, struct os_message *message)
{
    struct os_message *newest = atomic_load_explicit(&loop->messages, memory_order_relaxed);
    do {
        message->next = newest;
    } while (!atomic_compare_exchange_weak(&loop->messages, &newest, message));
    if (newest == NULL) { /* Otherwise whoever posted that one has alerted, or is about to. */
        alert(loop);
    }
}

void os_loop_stop(struct os_loop *loop)
{
    atomic_store(&loop->is_stopping, true);
    alert(loop);
}

/* ---- The tick -------------------------------------------------------------------------------- */

static void deliver_messages(struct os_loop *loop)
{
    struct os_message *newest = atomic_exchange(&loop->messages, NULL);
    struct os_message *oldest = NULL;
    while (newest != NULL) { /* Turn them round: the oldest first. */
        struct os_message *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct os_message *next = oldest->next; /* The receiver may end the message. */
        oldest->deliver(oldest);
        oldest = next;
    }
}

static void deliver_wakes(struct os_loop *loop)
{
    if (!atomic_load_explicit(&loop->is_signalled, memory_order_relaxed) ||
        !atomic_exchange(&loop->is_signalled, false)) {
        return;
    }
    loop->is_waking = true;
    LIST_EACH(member, next, &loop->wakes)
    {
        struct os_wake *wake = LIST_ITEM(member, struct os_wake, member);
        if (!wake->is_dead && atomic_exchange(&wake->is_signalled, false)) {
            wake->callback(wake->context);
        }
    }
    loop->is_waking = false;
    if (loop->has_dead_wakes) {
        loop->has_dead_wakes = false;
        LIST_EACH(member, next, &loop->wakes)
        {
            struct os_wake *wake = LIST_ITEM(member, struct os_wake, member);
            if (wake->is_dead) {
                os_wake_destroy(wake);
            }
        }
    }
}

static void after_poll(uv_check_t *handle)
{
    struct os_loop *loop = handle->data;
    atomic_store_explicit(&loop->is_sleeping, false, memory_order_relaxed);
    loop->now_ns = os_monotonic_ns();
    if (atomic_load_explicit(&loop->messages, memory_order_relaxed) != NULL) {
        deliver_messages(loop);
    }
    deliver_wakes(loop);
    if (atomic_load_explicit(&loop->is_stopping, memory_order_relaxed)) {
        uv_stop(&loop->uv);
    }
}

static void call_ends(struct os_loop *loop, bool is_last)
{
    for (uint32_t i = 0; i < loop->end_of_tick_count; i++) {
        if (loop->ends_of_tick[i].is_last == is_last) {
            loop->ends_of_tick[i].callback(loop->ends_of_tick[i].context);
        }
    }
}

static void end_tick(struct os_loop *loop)
{
    call_ends(loop, false);
    call_ends(loop, true);
}

static bool is_anything_sent(struct os_loop *loop)
{
    return atomic_load(&loop->is_signalled) || atomic_load(&loop->messages) != NULL ||
           atomic_load(&loop->is_stopping);
}

static void before_poll(uv_prepare_t *handle)
{
    struct os_loop *loop = handle->data;
    end_tick(loop);
    if (uv_is_active((const uv_handle_t *)&loop->again)) {
        return; /* The poll will not wait. */
    }
    atomic_store(&loop->is_sleeping, true);
    if (is_anything_sent(loop)) {
        atomic_store_explicit(&loop->is_sleeping, false, memory_order_relaxed);
        os_loop_tick_again(loop);
    }
}

static void tick_again(uv_idle_t *handle)
{
    (void)uv_idle_stop(handle); /* Cannot fail. Its presence made the poll return at once. */
}

static void alarm_rang(uv_async_t *handle)
{
    (void)handle; /* Waking was all; what was sent is delivered after the poll. */
}

void os_loop_tick_again(struct os_loop *loop)
{
    int status = uv_idle_start(&loop->again, tick_again);
    ASSERT(status == 0);
}

/* ---- Life ------------------------------------------------------------------------------------ */

int os_loop_create(struct os_loop **loop, struct error *error)
{
    struct os_loop *created = memory_allocate_zeroed(1, sizeof *created);
    int status = uv_loop_init(&created->uv);
    if (status != 0) {
        memory_free(created);
        return error_set(error, status, "create an event loop");
    }
    created->uv.data = created;
    list_init(&created->wakes);
    list_init(&created->finishing);
    created->now_ns = os_monotonic_ns();
    status = uv_async_init(&created->uv, &created->alarm, alarm_rang);
    if (status != 0) {
        ASSERT(uv_loop_close(&created->uv) == 0);
        memory_free(created);
        return error_set(error, status, "create an event loop's alarm");
    }
    ASSERT(uv_prepare_init(&created->uv, &created->before_poll) == 0);
    ASSERT(uv_check_init(&created->uv, &created->after_poll) == 0);
    ASSERT(uv_idle_init(&created->uv, &created->again) == 0);
    ASSERT(uv_timer_init(&created->uv, &created->finishing_timer) == 0);
    created->before_poll.data = created;
    created->after_poll.data = created;
    created->finishing_timer.data = created;
    ASSERT(uv_prepare_start(&created->before_poll, before_poll) == 0);
    ASSERT(uv_check_start(&created->after_poll, after_poll) == 0);
    *loop = created;
    return 0;
}

void os_loop_destroy(struct os_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    ASSERT(list_is_empty(&loop->wakes)); /* Whoever made one destroys it first. */
    uv_close((uv_handle_t *)&loop->alarm, NULL);
    uv_close((uv_handle_t *)&loop->before_poll, NULL);
    uv_close((uv_handle_t *)&loop->after_poll, NULL);
    uv_close((uv_handle_t *)&loop->again, NULL);
    uv_close((uv_handle_t *)&loop->finishing_timer, NULL);
    LIST_EACH(member, next, &loop->finishing)
    {
        os__stream_finishing_cut(member);
    }
    /* What closes needs a turn or two; what was forgotten would take for ever. */
    for (uint32_t i = 0; i < CLOSING_TICKS_MAX && uv_run(&loop->uv, UV_RUN_NOWAIT) != 0; i++) {
    }
    int status = uv_loop_close(&loop->uv);
    ASSERT(status == 0); /* Everything on the loop was closed. */
    memory_free(loop);
}

void os_loop_run(struct os_loop *loop)
{
    (void)uv_run(&loop->uv,
                 UV_RUN_DEFAULT); /* Says whether handles are left: its own always are. */
    end_tick(loop);               /* For what the last poll brought. */
    atomic_store(&loop->is_stopping, false);
}

static void add_end(struct os_loop *loop, struct end_of_tick end)
{
    ASSERT(loop->end_of_tick_count < OS_END_OF_TICK_MAX);
    loop->ends_of_tick[loop->end_of_tick_count++] = end;
}

void os_loop_at_end_of_tick(struct os_loop *loop, void (*callback)(void *context), void *context)
{
    add_end(loop, (struct end_of_tick){.callback = callback, .context = context});
}

void os_loop_at_last_of_tick(struct os_loop *loop, void (*callback)(void *context), void *context)
{
    add_end(loop, (struct end_of_tick){.callback = callback, .context = context, .is_last = true});
}

void os_loop_forget_end_of_tick(struct os_loop *loop, void (*callback)(void *context),
                                void *context)
{
    uint32_t kept_count = 0;
    for (uint32_t i = 0; i < loop->end_of_tick_count; i++) {
        struct end_of_tick end = loop->ends_of_tick[i];
        if (end.callback != callback || end.context != context) {
            loop->ends_of_tick[kept_count++] = end;
        }
    }
    ASSERT(kept_count == loop->end_of_tick_count - 1);
    loop->end_of_tick_count = kept_count;
}

uint64_t os_loop_now_ns(const struct os_loop *loop)
{
    return loop->now_ns;
}

uint64_t os_loop_now_ms(const struct os_loop *loop)
{
    return loop->now_ns / 1000000;
}

/* ---- Wakes ----------------------------------------------------------------------------------- */

struct os_wake *os_wake_create(struct os_loop *loop, void (*callback)(void *context), void *context)
{
    struct os_wake *wake = memory_allocate_zeroed(1, sizeof *wake);
    wake->loop = loop;
    wake->callback = callback;
    wake->context = context;
    list_push_back(&loop->wakes, &wake->member);
    return wake;
}

void os_wake_destroy(struct os_wake *wake)
{
    if (wake == NULL) {
        return;
    }
    if (wake->loop->is_waking) {
        wake->is_dead = true;
        wake->loop->has_dead_wakes = true;
        return;
    }
    list_remove(&wake->member);
    memory_free(wake);
}
