/* SPDX-License-Identifier: Apache-2.0 */
/* os: the operating system: loops, connections, threads, files, clocks, logs. Layer: driver.
 *
 * The only module that knows libuv and POSIX. What is here is dull on purpose: it decides nothing.
 *
 * Threads. A loop belongs to the thread that runs it, and so does everything created on it
 * (streams, listeners, timers, wakes, signals): they are created before os_loop_run() or by
 * callbacks of that loop, and used nowhere else. What any thread may call says so:
 * os_wake_signal(), os_loop_post(), os_loop_stop(), the pool, the log, files, clocks.
 *
 * A tick is one turn of a loop: wait for events, read every connection that has bytes, deliver
 * posted messages and wakes, run due timers, then the end-of-tick callbacks. What a tick gathered
 * (commands, replies) is handed on there, so that its cost is paid once for many.
 *
 * Callbacks. A start function that fails never calls back. A callback never comes before the
 * function that asked for it has returned. `context` is borrowed until the thing it was given to is
 * closed. */
#ifndef DRIVER_OS_OS_H
#define DRIVER_OS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "core/env/env.h"

/* ---- Clocks and the machine (any thread) ----------------------------------------------------- */

/* Time since boot, suspended time included: never goes back, not set by anybody. For leases,
 * deadlines and measuring. */
uint64_t os_monotonic_ns(void);
uint64_t os_monotonic_ms(void);

/* Milliseconds since 1970, as set by people and network time: may jump. Only for what people see
 * and what clients ask for (expiry). */
uint64_t os_wall_clock_ms(void);
uint64_t os_wall_clock_us(void);

/* Fill with bytes that nobody can predict. Fatal when the system has none. */
void os_random_fill(void *target, size_t size_bytes);

/* Processors that this process may run on, at least 1. */
uint32_t os_processor_count(void);

/* Memory that this process may use: the machine's, or its control group's limit when that is
 * lower. */
uint64_t os_memory_total_bytes(void);

/* Resident memory of this process now; 0 when unknown. */
uint64_t os_memory_resident_bytes(void);
/* The most that it ever was, as the kernel counts (up to some hundred kB late); at least that now. */
uint64_t os_memory_peak_bytes(void);

/* Processor time that this process has used, in user and in system mode. */
void os_processor_time_us(uint64_t *user_us, uint64_t *system_us);

/* The same of the calling thread alone, both modes together. */
uint64_t os_thread_processor_ns(void);

/* Raise the limit of open files as far as allowed, and return it. */
uint64_t os_open_files_raise(void);

/* Files that this process has open now; 0 when unknown. */
uint64_t os_open_files_count(void);

/* Descriptors 0, 1 and 2 that the process was started without lead nowhere from now on. Call first: else
 * the next file to be opened would be one of them, and have what is meant for people written into it. */
void os_open_standard_files(void);

/* Writing to a closed connection must be an error code and not a signal. Call once, first. */
void os_ignore_broken_pipes(void);

int os_process_id(void);

/* ---- Loop ------------------------------------------------------------------------------------ */

struct os_loop;

/* Most end-of-tick callbacks of one loop. */
#define OS_END_OF_TICK_MAX 8
/* Size of the read buffer that all streams of a loop share. */
#define OS_READ_BUFFER_SIZE_BYTES (64 * 1024)

/* Give a loop. Errors: those of the system (no files or memory left). */
MUST_USE int os_loop_create(struct os_loop **loop, struct error *error);

/* Take back a loop that does not run. Everything on it was closed or destroyed before; what is
 * still closing is waited for, so `closed` callbacks may come from here. */
void os_loop_destroy(struct os_loop *loop);

/* Run until os_loop_stop(). Wakes and messages from before are not lost. May be run again. */
void os_loop_run(struct os_loop *loop);

/* Any thread: let os_loop_run() return at the end of this tick. Before running: it returns at
 * once. */
void os_loop_stop(struct os_loop *loop);

/* Call back at the end of each tick, always before the loop may sleep; several are called in the
 * order of this registration. Cheap when there is nothing to do, please. */
void os_loop_at_end_of_tick(struct os_loop *loop, void (*callback)(void *context), void *context);

/* As that, when all of those have been called: for work that may be done while others, whom they have set
 * to work, do theirs. */
void os_loop_at_last_of_tick(struct os_loop *loop, void (*callback)(void *context), void *context);

/* Neither, any more. Not inside such a callback. */
void os_loop_forget_end_of_tick(struct os_loop *loop, void (*callback)(void *context),
                                void *context);

/* The next tick follows at once, without sleeping: for work that was cut off to be fair. Costs no
 * system call. */
void os_loop_tick_again(struct os_loop *loop);

/* os_monotonic_ns() as of this tick's events: free of cost. */
uint64_t os_loop_now_ns(const struct os_loop *loop);
uint64_t os_loop_now_ms(const struct os_loop *loop);

/* A message from any thread to a loop. Embed it in what is sent; it is the receiver's once
 * posted. */
struct os_message {
    struct os_message *next;
    void (*deliver)(struct os_message *message);
};

/* Any thread: call message->deliver on the loop's thread, in its next tick. Messages of one thread
 * arrive in order. Never fails: the message is the memory. A loop that is awake costs its sender no
 * system call. */
void os_loop_post(struct os_loop *loop, struct os_message *message);

/* A wake: "look at your queue", from any thread. Signals that come before the callback ran are
 * one. */
struct os_wake;
struct os_wake *os_wake_create(struct os_loop *loop, void (*callback)(void *context),
                               void *context);
void os_wake_destroy(struct os_wake *wake);

/* Any thread. What the caller wrote before is seen by the callback. One atomic exchange when it is
 * already signalled, no system call while the loop is awake. */
void os_wake_signal(struct os_wake *wake);

/* A timer with a resolution of 1 ms. It stands still while the machine is suspended, so a callback
 * that means real time compares os_monotonic_ns(). */
struct os_timer;
struct os_timer *os_timer_create(struct os_loop *loop, void (*callback)(void *context),
                                 void *context);
void os_timer_destroy(struct os_timer *timer);

/* Call back after `delay_ms`, then each `repeat_ms` (0: never again). A running timer starts
 * anew. */
void os_timer_start(struct os_timer *timer, uint64_t delay_ms, uint64_t repeat_ms);
void os_timer_stop(struct os_timer *timer);

/* Call back on the loop when the process gets a signal. Threads of os_thread_start() never run
 * handlers. Errors: -EINVAL for a signal that cannot be caught. */
struct os_signal;
MUST_USE int os_signal_create(struct os_signal **signal, struct os_loop *loop, int signal_number,
                              void (*callback)(void *context), void *context);
void os_signal_destroy(struct os_signal *signal);

/* ---- Addresses ------------------------------------------------------------------------------- */

/* An IPv4 or IPv6 address with its port, copied around. */
struct os_address {
    uint8_t bytes[16]; /* IPv4: the first 4. Network order. */
    uint32_t scope_id; /* IPv6 link-local only. */
    uint16_t port;     /* Host order; 0: any free one. */
    bool is_ipv6;
};

#define OS_ADDRESS_TEXT_SIZE 72

/* Read "127.0.0.1:6379", "[::1]:6379" or "localhost:6379" (a name's first address, IPv4 before
 * IPv6; may ask the resolver, so never on a loop that serves). Errors: -EINVAL, with what was expected. */
MUST_USE int os_address_parse(struct os_address *address, const char *text, struct error *error);

/* The same of "127.0.0.1:6379" or "[::1]:6379" alone, and never asks anybody. False: it has a name, or is
 * no address. */
MUST_USE bool os_address_parse_number(struct os_address *address, const char *text);

/* Take "HOST:PORT" or "[HOST]:PORT" apart without asking any resolver. Writes the host, without
 * brackets, to `host` of OS_HOST_SIZE bytes. False: it is neither. */
#define OS_HOST_SIZE 256
/* Connections that were accepted and are silent for so long are asked whether they are still there. */
#define OS_KEEPALIVE_IDLE_S 300
/* Room for any such text that is not padded. */
#define OS_ADDRESS_NAME_SIZE (OS_HOST_SIZE + 8)
MUST_USE bool os_address_split(const char *text, char *host, uint16_t *port);

/* Write "127.0.0.1:6379" or "[::1]:6379" to `text` of OS_ADDRESS_TEXT_SIZE bytes; returns
 * `text`. */
char *os_address_format(const struct os_address *address, char *text);

/* Can only this machine connect to it? */
bool os_address_is_loopback(const struct os_address *address);

/* ---- Lookups: where a name is, while the loop goes on ---------------------------------------- */

/* The resolver is asked on a thread that nobody waits for. It may be silent for minutes: a lookup
 * has no time limit of its own, and its owner gives it up when the answer is of no use any more. */
struct os_lookup;

/* Most of them under way in a process, with those that were cancelled and that the resolver has not
 * done with yet. */
#define OS_LOOKUPS_MAX 256

struct os_lookup_options {
    const char *text; /* "HOST:PORT". Copied. */

    /* The outcome, once, unless it is cancelled: status 0 and the address, as os_address_parse() would
     * have it, or its error and NULL. Both are borrowed for the call. The lookup is gone; anything may
     * be called. */
    void (*done)(int status, const struct os_address *address, const struct error *error,
                 void *context);
    void *context;
};

/* Give a lookup that is under way; it ends with `done` or os_lookup_cancel(), and before its loop.
 * Errors: -EINVAL: not HOST:PORT; -EBUSY: OS_LOOKUPS_MAX of them are under way; -EAGAIN: the system has
 * no threads left. */
MUST_USE int os_lookup_start(struct os_lookup **lookup, struct os_loop *loop,
                             const struct os_lookup_options *options, struct error *error);

/* Give it up, at once, whatever the resolver does: `done` does not come, and nothing of the owner or
 * the loop is touched any more. Fine for NULL. */
void os_lookup_cancel(struct os_lookup *lookup);

/* ---- Streams: connections by TCP or a Unix socket -------------------------------------------- */

struct os_stream;

/* Memory for one read, of the stream's owner. */
struct os_space {
    uint8_t *data;
    size_t size_bytes;
};

/* What the owner of a stream hears. A constant shared by all streams of a kind. */
struct os_stream_events {
    /* Bytes arrived. They are borrowed: in the loop's shared buffer (at most
     * OS_READ_BUFFER_SIZE_BYTES, which is why idle connections hold none), or in the space that
     * `allocate` gave. Never empty. May pause, write, finish or close the stream. */
    void (*read)(struct os_stream *stream, struct bytes bytes, void *context);

    /* The peer sent its last byte (status 0) or the connection failed (negative), while reading or
     * writing. At most once, and no `read` after it. The stream stays to be closed: an owner that
     * owes replies may still write after status 0; if that fails, the next write says so. */
    void (*ended)(struct os_stream *stream, int status, void *context);

    /* The last callback, exactly once, after os_stream_close() or os_stream_finish(). The stream
     * may not be touched any more. */
    void (*closed)(struct os_stream *stream, void *context);

    /* May be NULL. Everything queued was sent: the queue went from some bytes to none. */
    void (*drained)(struct os_stream *stream, void *context);

    /* May be NULL. Before each read: where the bytes should go. Leave `space` untouched to use the
     * shared buffer. For large values that would otherwise be copied. The space is borrowed until
     * `read`, `ended` or `closed`. */
    void (*allocate)(struct os_stream *stream, struct os_space *space, void *context);

    /* Only for os_stream_connect(): the outcome. Exactly once, unless closed before. */
    void (*connected)(struct os_stream *stream, int status, void *context);
};

/* Adopt an accepted stream and begin to read; called in the listener's `accepted`. */
void os_stream_start(struct os_stream *stream, const struct os_stream_events *events,
                     void *context);

/* Give a stream that is connecting; reading begins when it is connected. */
MUST_USE int os_stream_connect(struct os_stream **stream, struct os_loop *loop,
                               const struct os_address *address,
                               const struct os_stream_events *events, void *context,
                               struct error *error);

/* The same to a Unix socket of this machine. Errors: -ENAMETOOLONG. That nobody listens there
 * (-ENOENT, -ECONNREFUSED), or that we may not (-EACCES), `connected` tells. */
MUST_USE int os_stream_connect_path(struct os_stream **stream, struct os_loop *loop,
                                    const char *path, const struct os_stream_events *events,
                                    void *context, struct error *error);

/* Change who listens: a gateway that hands a connection over. */
void os_stream_set_events(struct os_stream *stream, const struct os_stream_events *events,
                          void *context);
void *os_stream_context(const struct os_stream *stream);
struct os_loop *os_stream_loop(const struct os_stream *stream);

/* Back-pressure: no `read` until resumed; the peer will be stopped by its window. Both are safe
 * twice and, like all below, in any callback of the stream. */
void os_stream_pause(struct os_stream *stream);
void os_stream_resume(struct os_stream *stream);
bool os_stream_is_paused(const struct os_stream *stream);

/* Send pieces, in order behind what is queued. Borrows: what the connection does not take at once
 * is copied to the queue. Errors: the connection's (-EPIPE, -ECONNRESET); then the owner closes,
 * and `ended` does not come for it. */
MUST_USE int os_stream_write(struct os_stream *stream, const struct bytes *pieces,
                             uint32_t piece_count);

/* Send the content of a buffer without a copy. Sent at once: the buffer is empty and keeps its
 * memory. Otherwise the stream takes the memory and the buffer is all zeros. Errors as above; the
 * buffer is then empty. */
MUST_USE int os_stream_write_buffer(struct os_stream *stream, struct buffer *buffer);

/* Bytes that wait for a slow peer. The owner bounds them: stop producing, or close. */
size_t os_stream_queued_bytes(const struct os_stream *stream);

/* The connection fails (-ETIMEDOUT) when the peer's system has not acknowledged for so long what was
 * sent, has not answered a connect, or has taken no more of what waits (even if it lives, and its
 * owner does not read): long before TCP itself gives up. Where the system cannot do that, nothing
 * changes. */
void os_stream_set_acknowledge_ms_max(struct os_stream *stream, uint32_t acknowledge_ms_max);

/* Close at once; queued bytes are dropped. `closed` follows. Not twice. */
void os_stream_close(struct os_stream *stream);

/* Close once the queue is sent, without reading on; for a last reply before hanging up. What still
 * arrives is thrown away for a moment, for a reset would take the reply from the peer. The peer has
 * OS_FINISH_MS_MAX. `closed` follows, nothing else. os_stream_close() may cut it short, until
 * `closed` has come. */
void os_stream_finish(struct os_stream *stream);
#define OS_FINISH_MS_MAX 5000

/* True after close or finish. */
bool os_stream_is_closing(const struct os_stream *stream);

/* Write the address of the peer (or of our end) to `text` of OS_ADDRESS_TEXT_SIZE; "unix" for a
 * Unix socket, "?" if unknown. */
char *os_stream_peer(const struct os_stream *stream, char *text);
char *os_stream_local(const struct os_stream *stream, char *text);

/* The number that the system knows the connection by, as in CLIENT LIST. */
int os_stream_descriptor(const struct os_stream *stream);

/* ---- Listeners ------------------------------------------------------------------------------- */

struct os_listener;

struct os_listener_events {
    /* A connection came, of TCP with TCP_NODELAY set. Call os_stream_start() in here, or it is closed. */
    void (*accepted)(struct os_stream *stream, void *context);

    /* May be NULL. Accepting failed (-EMFILE: no open files left). The listener rests for
     * OS_ACCEPT_PAUSE_MS; connections wait in the system's queue. */
    void (*refused)(int status, void *context);
};

#define OS_ACCEPT_PAUSE_MS 100

struct os_listener_options {
    /* A Unix socket: the file that connections are made through, for this user only. It goes with
     * the listener; one that a process left there which is gone is replaced. At most
     * OS_PATH_SIZE_MAX bytes. NULL: TCP, at `address`. */
    const char *path;
    struct os_address address;
    /* NULL: nobody else, in this process or another, may listen there. A listener of another loop
     * of this process: share its address and port; the system spreads connections over both. */
    const struct os_listener *sibling;
    /* For messages: what a person changes to get another address ("--redis"). */
    const char *flag;
};

/* What an address of a Unix socket has room for. */
#define OS_PATH_SIZE_MAX 107

/* Give a listener that accepts as soon as the loop runs. Errors: -EADDRINUSE, -EACCES,
 * -EADDRNOTAVAIL, with what to do about it; for a path also -ENAMETOOLONG, and -EEXIST for a file
 * that is no socket. */
MUST_USE int os_listener_open(struct os_listener **listener, struct os_loop *loop,
                              const struct os_listener_options *options,
                              const struct os_listener_events *events, void *context,
                              struct error *error);

/* No more connections; those accepted live on. */
void os_listener_close(struct os_listener *listener);

/* Where it listens, with the real port; all zeros for a path. */
struct os_address os_listener_address(const struct os_listener *listener);

/* ---- Threads --------------------------------------------------------------------------------- */

struct os_thread;

/* Run `run(context)` on a thread called `name` (15 characters are kept), all signals blocked.
 * Errors: -EAGAIN, when the system has no threads left. */
MUST_USE int os_thread_start(struct os_thread **thread, const char *name,
                             void (*run)(void *context), void *context, struct error *error);

/* Wait until it returned; takes the thread. */
void os_thread_join(struct os_thread *thread);

struct os_mutex;
struct os_mutex *os_mutex_create(void);
void os_mutex_destroy(struct os_mutex *mutex);
void os_mutex_lock(struct os_mutex *mutex);
void os_mutex_unlock(struct os_mutex *mutex);

struct os_condition;
struct os_condition *os_condition_create(void);
void os_condition_destroy(struct os_condition *condition);
/* As usual: with the mutex held, in a loop that checks what is waited for. */
void os_condition_wait(struct os_condition *condition, struct os_mutex *mutex);
/* False when `timeout_ms` passed first. */
bool os_condition_wait_for(struct os_condition *condition, struct os_mutex *mutex,
                           uint64_t timeout_ms);
void os_condition_signal(struct os_condition *condition);
void os_condition_broadcast(struct os_condition *condition);

void os_sleep_ms(uint64_t duration_ms);

/* ---- Pool: blocking work off the loops ------------------------------------------------------- */

struct os_pool;

/* Work for the pool; embed it. The pool's from submit until `done` is called. */
struct os_work {
    void (*run)(struct os_work *work);  /* On a thread of the pool. */
    void (*done)(struct os_work *work); /* On the thread of the loop that submitted. */
    struct os_message message;          /* The pool's. */
    struct os_loop *loop;               /* The pool's. */
};

struct os_pool_options {
    const char *name;      /* Of the threads. */
    uint32_t thread_count; /* At least 1. */
    uint32_t work_count_max;
};

MUST_USE int os_pool_create(struct os_pool **pool, const struct os_pool_options *options,
                            struct error *error);

/* Finish what was submitted, end the threads. The loops must still exist; `done` of the last work
 * is delivered when they run, and is lost if they do not. */
void os_pool_destroy(struct os_pool *pool);

/* Any thread: `run` it on the pool, then `done` on `loop`. First come, first served.
 * Errors: -EBUSY when `work_count_max` wait or run already. */
MUST_USE int os_pool_submit(struct os_pool *pool, struct os_loop *loop, struct os_work *work);

/* Any thread: how many wait or run. */
uint32_t os_pool_work_count(const struct os_pool *pool);

/* ---- Files (any thread; all of these block) -------------------------------------------------- */

/* The files of one directory, as the log core wants them. */
struct os_files;

/* Give access to an existing directory, which is held open. Errors: -ENOENT, -EACCES, -ENOTDIR. */
MUST_USE int os_files_create(struct os_files **files, const char *directory, struct error *error);

/* Every file was closed before. */
void os_files_destroy(struct os_files *files);

/* From now on, allocate() answers -ENOSPC rather than leave less than this free in the file system.
 * Before other threads use the files. */
void os_files_keep_free(struct os_files *files, uint64_t size_bytes);

/* From now on, write() goes around the page cache where it begins and ends at a sector, and where the
 * file system can do it: cheaper if each write is flushed at once and rarely read. Durable is what
 * was flushed, as ever. Before other threads use the files. */
void os_files_write_directly(struct os_files *files);

/* The interface; borrows `files`. One file is used by one thread at a time. */
struct env_files os_files_env(struct os_files *files);

/* Make a directory and those above it that are missing, for this user only, and make it durable.
 * Fine when it is there already. Errors: -EACCES, -ENOTDIR, -ENOSPC, … */
MUST_USE int os_directory_create(const char *path, struct error *error);

/* One process per directory: hold the file `lock` in it until os_lock_release() or the process
 * ends, however it ends. Errors: -EBUSY, naming the process that holds it; -EACCES, … */
struct os_lock;
MUST_USE int os_lock_take(struct os_lock **lock, const char *directory, struct error *error);
/* The same for who only reads, also where nothing can be written: the file is not created. Errors: also
 * -ENOENT, when there is none. */
MUST_USE int os_lock_take_existing(struct os_lock **lock, const char *directory,
                                   struct error *error);
void os_lock_release(struct os_lock *lock);

/* Append a whole file to `content`. Errors: -ENOENT, -EFBIG above `size_bytes_max`, … */
MUST_USE int os_file_read(const char *path, size_t size_bytes_max, struct buffer *content,
                          struct error *error);

/* Replace or create a file, readable by this user only: afterwards, also after a crash, it has
 * either its old content or all of `content`, and the new one once this has returned 0. */
MUST_USE int os_file_write(const char *path, struct bytes content, struct error *error);

/* Remove a file, if it is there; a crash may bring it back. Errors: -EACCES, -EISDIR, … */
MUST_USE int os_file_remove(const char *path, struct error *error);

/* What the file system of `path` has left for this user, and its size. */
MUST_USE int os_disk_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes,
                           struct error *error);

/* ---- Log (any thread) ------------------------------------------------------------------------ */

/* One line per event: a stable dotted name and key=value fields, written with one call. Quoting and
 * escaping are done here, so a value can hold anything. A place in the code that repeats itself
 * more than OS_LOG_REPEATS_PER_SECOND is cut off, and its next line says how many are missing. */
struct os_log;

enum os_log_level { OS_LOG_DEBUG, OS_LOG_INFO, OS_LOG_WARN, OS_LOG_ERROR };
enum os_log_format { OS_LOG_LOGFMT, OS_LOG_JSON };

#define OS_LOG_REPEATS_PER_SECOND 10
#define OS_LOG_LINE_SIZE_MAX 4096  /* Longer lines lose their last fields. */
#define OS_LOG_VALUE_SIZE_MAX 1024 /* Longer values are cut. */

struct os_log_options {
    int descriptor; /* Usually 2; the caller's. */
    enum os_log_format format;
    enum os_log_level level; /* Lower ones are left out. */
    /* On a terminal, logfmt is coloured and shows local time of day only, unless NO_COLOR is
     * set. */
    bool is_plain; /* Never do that. */
};

struct os_log *os_log_create(const struct os_log_options *options);
void os_log_destroy(struct os_log *log);
void os_log_set_level(struct os_log *log, enum os_log_level level);
enum os_log_level os_log_get_level(const struct os_log *log);
bool os_log_is_enabled(const struct os_log *log, enum os_log_level level);

/* Lines written since the start, by level; for metrics and for tests. */
uint64_t os_log_count(const struct os_log *log, enum os_log_level level);

/* Behind the macros. `format` is "event key=conversion key=conversion": each field is one word; its
 * value may hold any text of printf's conversions d i u x c s f g p with h l ll z j, width,
 * precision and `*`. A NULL log is silent. */
void os_log_write(struct os_log *log, enum os_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* OS_LOG_INFO(log, "node.ready", "redis=%s took_ms=%u", address, took_ms); fields may be left out.
 * `error` means that a person must act. */
#define OS_LOG_DEBUG(log, event, ...) os_log_write((log), OS_LOG_DEBUG, event " " __VA_ARGS__)
#define OS_LOG_INFO(log, event, ...) os_log_write((log), OS_LOG_INFO, event " " __VA_ARGS__)
#define OS_LOG_WARN(log, event, ...) os_log_write((log), OS_LOG_WARN, event " " __VA_ARGS__)
#define OS_LOG_ERROR(log, event, ...) os_log_write((log), OS_LOG_ERROR, event " " __VA_ARGS__)

#endif
