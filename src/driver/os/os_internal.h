/* SPDX-License-Identifier: Apache-2.0 */
/* os, for the files of this folder only. */
#ifndef DRIVER_OS_OS_INTERNAL_H
#define DRIVER_OS_OS_INTERNAL_H

#include <stdatomic.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/list/list.h"
#include "driver/os/os.h"

/* Sleeping and waking.
 *
 * Waking a sleeping loop costs two system calls (eventfd write and read), so a sender pays only
 * when the loop may really sleep. The sender publishes its signal and then looks at `is_sleeping`;
 * the loop sets `is_sleeping` and then looks for signals. Both are sequentially consistent, so at
 * least one of them sees the other: either the sender rings the alarm, or the loop does not go to
 * sleep. */
struct os_loop {
    uv_loop_t uv;
    uv_async_t alarm;
    uv_prepare_t before_poll;
    uv_check_t after_poll;
    uv_idle_t again;
    uv_timer_t finishing_timer;

    _Atomic bool is_sleeping;
    _Atomic bool is_signalled; /* Some wake of `wakes` is. */
    _Atomic bool is_stopping;
    _Atomic(struct os_message *) messages; /* Newest first. */

    struct list wakes;
    bool is_waking;      /* Callbacks of wakes run now. */
    bool has_dead_wakes; /* Some were destroyed meanwhile. */

    struct end_of_tick {
        void (*callback)(void *context);
        void *context;
        bool is_last;
    } ends_of_tick[OS_END_OF_TICK_MAX];
    uint32_t end_of_tick_count;

    uint64_t now_ns;
    struct list finishing; /* Streams that wait for their peer before they close. */
    uint8_t read_buffer[OS_READ_BUFFER_SIZE_BYTES];
};

/* Give a stream that is not connected yet; ended by os__stream_discard() or os_stream_close(). */
struct os_stream *os__stream_create(struct os_loop *loop, bool is_local);

/* Make it the stream of an open socket; takes `descriptor` on success. */
MUST_USE int os__stream_adopt(struct os_stream *stream, int descriptor,
                              const struct os_address *peer);

/* True once os_stream_start() was called. */
bool os__stream_is_started(const struct os_stream *stream);

/* Close a stream that nobody listens to. */
void os__stream_discard(struct os_stream *stream);

/* Every tenth of a second while streams of the loop are finishing. */
void os__stream_finishing_tick(uv_timer_t *timer);

/* Close a stream of loop->finishing at once. */
void os__stream_finishing_cut(struct list *member);

/* Unix sockets (os_path.c). Does `path` fit into the address of one? -ENAMETOOLONG, with what to
 * do. */
MUST_USE int os__path_check(const char *path, struct error *error);

/* The file of a socket: what is removed with it. */
struct os__path {
    char *text; /* NULL: none. */
    uint64_t device;
    uint64_t inode;
};
/* Give a socket that listens at `path`; a file that nobody listens on is replaced. */
MUST_USE int os__path_listen(const char *path, const char *flag, int *descriptor,
                             struct os__path *file, struct error *error);
/* Remove the file, if it is still that of this socket. */
void os__path_remove(struct os__path *file);

/* As os_thread_start(), of a thread that ends by itself: nobody can wait for it, and a process that ends
 * does not. */
MUST_USE int os__thread_start_alone(const char *name, void (*run)(void *context), void *context,
                                    struct error *error);

/* An address as sockets want it; returns its length. */
socklen_t os__address_to_socket(const struct os_address *address, struct sockaddr_storage *target);
struct os_address os__address_from_socket(const struct sockaddr_storage *source);

#endif
