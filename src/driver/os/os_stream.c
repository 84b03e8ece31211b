/* SPDX-License-Identifier: Apache-2.0 */
/* Connections.
 *
 * A stream writes at once what the socket takes. What is left waits in at most two places:
 * `in_flight`, which libuv is sending, and `pending`, what was written since. When the first is
 * sent the second takes its place. An idle stream has neither, and reads into the loop's buffer, so
 * ten thousand of them cost the struct alone. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/os/os_internal.h"

enum {
    PIECES_PER_CALL = 32, /* Of one writev; more are sent by the next. */
    FINISHING_TICK_MS = 100,
    LINGER_MS = 1000, /* How long bytes are thrown away after the last was sent. */
};

struct write_in_flight {
    uv_write_t request;
    struct buffer buffer;
};

struct os_stream {
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe; /* When is_local. */
    } uv;
    struct os_loop *loop;
    const struct os_stream_events *events; /* NULL until started. */
    void *context;
    struct write_in_flight *in_flight;
    struct buffer pending;
    uv_connect_t *connecting;
    struct list finishing_member; /* Of loop->finishing. */
    struct os_address peer;       /* Known from the start, so that asking costs no system call. */
    uint64_t finish_at_ms;
    int failure;   /* The status of a write that failed later. */
    bool is_local; /* Of a Unix socket. */
    bool is_paused;
    bool is_ended;
    bool is_finishing;
    bool is_lingering; /* All is sent; reading until the peer closes. */
    bool is_closed;    /* Close was called. */
};

_Static_assert(sizeof(struct os_stream) < 512, "idle connections must be cheap");

static void read_came(uv_stream_t *handle, ssize_t count, const uv_buf_t *space);

static uv_stream_t *handle_of(struct os_stream *stream)
{
    return &stream->uv.stream;
}

static bool is_queue_empty(const struct os_stream *stream)
{
    return stream->in_flight == NULL && stream->connecting == NULL;
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct os_stream *os__stream_create(struct os_loop *loop, bool is_local)
{
    struct os_stream *stream = memory_allocate_zeroed(1, sizeof *stream);
    int status = is_local ? uv_pipe_init(&loop->uv, &stream->uv.pipe, 0)
                          : uv_tcp_init(&loop->uv, &stream->uv.tcp);
    ASSERT(status == 0);
    stream->is_local = is_local;
    handle_of(stream)->data = stream;
    stream->loop = loop;
    list_init(&stream->finishing_member);
    return stream;
}

int os__stream_adopt(struct os_stream *stream, int descriptor, const struct os_address *peer)
{
    stream->peer = *peer;
    return stream->is_local ? uv_pipe_open(&stream->uv.pipe, descriptor)
                            : uv_tcp_open(&stream->uv.tcp, descriptor);
}

bool os__stream_is_started(const struct os_stream *stream)
{
    return stream->events != NULL;
}

static void close_done(uv_handle_t *handle)
{
    struct os_stream *stream = handle->data;
    ASSERT(stream->in_flight == NULL); /* libuv has cancelled it. */
    if (stream->events != NULL) {
        stream->events->closed(stream, stream->context);
    }
    buffer_deinit(&stream->pending);
    memory_free(stream);
}

void os_stream_close(struct os_stream *stream)
{
    if (stream->is_finishing && stream->is_closed) {
        return; /* It has finished by itself; its owner is about to hear so. */
    }
    ASSERT(!stream->is_closed);
    stream->is_closed = true;
    list_remove(&stream->finishing_member);
    uv_close((uv_handle_t *)&stream->uv, close_done);
}

void os__stream_discard(struct os_stream *stream)
{
    ASSERT(stream->events == NULL);
    os_stream_close(stream);
}

bool os_stream_is_closing(const struct os_stream *stream)
{
    return stream->is_closed || stream->is_finishing;
}

static void end(struct os_stream *stream, int status)
{
    if (stream->is_closed) {
        return;
    }
    if (stream->is_finishing) {
        os_stream_close(stream);
        return;
    }
    (void)uv_read_stop(handle_of(stream)); /* Always 0. */
    if (!stream->is_ended) {
        stream->is_ended = true;
        stream->events->ended(stream, status, stream->context);
    }
}

/* ---- Reading --------------------------------------------------------------------------------- */

static void give_space(uv_handle_t *handle, size_t suggested_size_bytes, uv_buf_t *space)
{
    (void)suggested_size_bytes;
    struct os_stream *stream = handle->data;
    struct os_space own = {.data = NULL, .size_bytes = 0};
    if (!stream->is_finishing && stream->events->allocate != NULL) {
        stream->events->allocate(stream, &own, stream->context);
    }
    if (own.data != NULL && own.size_bytes > 0) {
        *space = (uv_buf_t){.base = (char *)own.data, .len = own.size_bytes};
    } else {
        *space = (uv_buf_t){.base = (char *)stream->loop->read_buffer,
                            .len = sizeof stream->loop->read_buffer};
    }
}

static void read_came(uv_stream_t *handle, ssize_t count, const uv_buf_t *space)
{
    struct os_stream *stream = handle->data;
    if (count < 0) {
        end(stream, count == UV_EOF ? 0 : (int)count);
    } else if (count > 0 && !stream->is_finishing) {
        stream->events->read(stream, bytes_make(space->base, (size_t)count), stream->context);
    }
}

static int start_reading(struct os_stream *stream)
{
    int status = uv_read_start(handle_of(stream), give_space, read_came);
    return status == UV_EALREADY ? 0 : status;
}

void os_stream_start(struct os_stream *stream, const struct os_stream_events *events, void *context)
{
    ASSERT(stream->events == NULL);
    ASSERT(events->read != NULL);
    ASSERT(events->ended != NULL);
    ASSERT(events->closed != NULL);
    stream->events = events;
    stream->context = context;
    int status = start_reading(stream);
    ASSERT(status == 0); /* Fails only for a handle that is closing or not open. */
}

void os_stream_set_events(struct os_stream *stream, const struct os_stream_events *events,
                          void *context)
{
    ASSERT(stream->events != NULL);
    stream->events = events;
    stream->context = context;
}

void os_stream_pause(struct os_stream *stream)
{
    stream->is_paused = true;
    if (!stream->is_lingering && !stream->is_closed) {
        (void)uv_read_stop(handle_of(stream)); /* Always 0. */
    }
}

void os_stream_resume(struct os_stream *stream)
{
    stream->is_paused = false;
    if (stream->is_ended || stream->connecting != NULL || os_stream_is_closing(stream)) {
        return;
    }
    int status = start_reading(stream);
    ASSERT(status == 0); /* As in os_stream_start(). */
}

bool os_stream_is_paused(const struct os_stream *stream)
{
    return stream->is_paused;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static void write_done(uv_write_t *request, int status);

static int fail(struct os_stream *stream, int status)
{
    stream->failure = status;
    buffer_deinit(&stream->pending);
    stream->pending = (struct buffer){0};
    return status;
}

/* Hand `pending`, without its first `sent_bytes`, to libuv. */
static int start_write(struct os_stream *stream, size_t sent_bytes)
{
    ASSERT(stream->in_flight == NULL);
    ASSERT(stream->pending.size_bytes > sent_bytes);
    struct write_in_flight *write = memory_allocate_zeroed(1, sizeof *write);
    write->request.data = stream;
    write->buffer = stream->pending;
    stream->pending = (struct buffer){0};
    uv_buf_t piece = {.base = (char *)write->buffer.data + sent_bytes,
                      .len = write->buffer.size_bytes - sent_bytes};
    int status = uv_write(&write->request, handle_of(stream), &piece, 1, write_done);
    if (status != 0) {
        buffer_deinit(&write->buffer);
        memory_free(write);
        return fail(stream, status);
    }
    stream->in_flight = write;
    return 0;
}

/* Everything is sent: the peer shall read it before it sees the connection closed. */
static void start_linger(struct os_stream *stream)
{
    int descriptor = os_stream_descriptor(stream);
    if (stream->is_ended || stream->failure != 0 || descriptor < 0 ||
        shutdown(descriptor, SHUT_WR) != 0 || start_reading(stream) != 0) {
        os_stream_close(stream);
        return;
    }
    stream->is_lingering = true;
    uint64_t linger_until_ms = os_monotonic_ms() + LINGER_MS;
    if (linger_until_ms < stream->finish_at_ms) {
        stream->finish_at_ms = linger_until_ms;
    }
}

static void write_done(uv_write_t *request, int status)
{
    struct os_stream *stream = request->data;
    buffer_deinit(&stream->in_flight->buffer);
    memory_free(stream->in_flight);
    stream->in_flight = NULL;
    if (stream->is_closed) {
        return;
    }
    if (status == 0 && stream->pending.size_bytes > 0) {
        status = start_write(stream, 0);
        if (status == 0) {
            return;
        }
    }
    if (status != 0) {
        end(stream, fail(stream, status));
    } else if (stream->is_finishing) {
        start_linger(stream);
    } else if (stream->events->drained != NULL) {
        stream->events->drained(stream, stream->context);
    }
}

/* Send what the socket takes now of some pieces. Returns the count of bytes or a negative
 * status. */
static ssize_t try_write(struct os_stream *stream, const struct bytes *pieces, uint32_t piece_count)
{
    uv_buf_t vector[PIECES_PER_CALL];
    ASSERT(piece_count <= PIECES_PER_CALL);
    for (uint32_t i = 0; i < piece_count; i++) {
        vector[i] =
            (uv_buf_t){.base = (char *)(uintptr_t)pieces[i].data, .len = pieces[i].size_bytes};
    }
    int status = uv_try_write(handle_of(stream), vector, piece_count);
    return status == UV_EAGAIN ? 0 : status;
}

static size_t total_bytes(const struct bytes *pieces, uint32_t piece_count)
{
    size_t total = 0;
    for (uint32_t i = 0; i < piece_count; i++) {
        total += pieces[i].size_bytes;
    }
    return total;
}

/* Queue the pieces without their first `sent_bytes`. */
static void append_pending(struct os_stream *stream, const struct bytes *pieces,
                           uint32_t piece_count, size_t sent_bytes)
{
    size_t skip_bytes = sent_bytes;
    for (uint32_t i = 0; i < piece_count; i++) {
        struct bytes piece = pieces[i];
        size_t skipped = skip_bytes < piece.size_bytes ? skip_bytes : piece.size_bytes;
        skip_bytes -= skipped;
        buffer_append(&stream->pending,
                      bytes_make(piece.data + skipped, piece.size_bytes - skipped));
    }
}

int os_stream_write(struct os_stream *stream, const struct bytes *pieces, uint32_t piece_count)
{
    ASSERT(!os_stream_is_closing(stream));
    if (stream->failure != 0) {
        return stream->failure;
    }
    if (!is_queue_empty(stream)) {
        append_pending(stream, pieces, piece_count, 0);
        return 0;
    }
    for (uint32_t i = 0; i < piece_count; i += PIECES_PER_CALL) {
        uint32_t left = piece_count - i;
        uint32_t count = left < PIECES_PER_CALL ? left : PIECES_PER_CALL;
        size_t wanted_bytes = total_bytes(pieces + i, count);
        if (wanted_bytes == 0) {
            continue;
        }
        ssize_t sent = try_write(stream, pieces + i, count);
        if (sent < 0) {
            return fail(stream, (int)sent);
        }
        if ((size_t)sent < wanted_bytes) {
            append_pending(stream, pieces + i, left, (size_t)sent);
            return start_write(stream, 0);
        }
    }
    return 0;
}

int os_stream_write_buffer(struct os_stream *stream, struct buffer *buffer)
{
    ASSERT(!os_stream_is_closing(stream));
    struct bytes whole = buffer_bytes(buffer);
    if (stream->failure != 0 || whole.size_bytes == 0) {
        buffer_clear(buffer);
        return stream->failure;
    }
    if (!is_queue_empty(stream) && stream->pending.size_bytes > 0) {
        buffer_append(&stream->pending, whole);
        buffer_clear(buffer);
        return 0;
    }
    size_t sent_bytes = 0;
    if (is_queue_empty(stream)) {
        ssize_t sent = try_write(stream, &whole, 1);
        if (sent < 0 || (size_t)sent == whole.size_bytes) {
            buffer_clear(buffer);
            return sent < 0 ? fail(stream, (int)sent) : 0;
        }
        sent_bytes = (size_t)sent;
    }
    buffer_deinit(&stream->pending);
    stream->pending = *buffer;
    *buffer = (struct buffer){0};
    return is_queue_empty(stream) ? start_write(stream, sent_bytes) : 0;
}

size_t os_stream_queued_bytes(const struct os_stream *stream)
{
    return stream->uv.stream.write_queue_size + stream->pending.size_bytes;
}

void os_stream_set_acknowledge_ms_max(struct os_stream *stream, uint32_t acknowledge_ms_max)
{
    int descriptor = os_stream_descriptor(stream);
    unsigned value = acknowledge_ms_max;
    if (descriptor >= 0) {
        (void)setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof value);
    }
}

/* ---- Finishing ------------------------------------------------------------------------------- */

void os_stream_finish(struct os_stream *stream)
{
    ASSERT(!os_stream_is_closing(stream));
    struct os_loop *loop = stream->loop;
    stream->is_finishing = true;
    stream->finish_at_ms = os_monotonic_ms() + OS_FINISH_MS_MAX;
    (void)uv_read_stop(handle_of(stream)); /* Always 0. */
    list_push_back(&loop->finishing, &stream->finishing_member);
    if (!uv_is_active((const uv_handle_t *)&loop->finishing_timer)) {
        int status = uv_timer_start(&loop->finishing_timer, os__stream_finishing_tick,
                                    FINISHING_TICK_MS, FINISHING_TICK_MS);
        ASSERT(status == 0);
    }
    if (is_queue_empty(stream)) {
        start_linger(stream);
    }
}

void os__stream_finishing_tick(uv_timer_t *timer)
{
    struct os_loop *loop = timer->data;
    uint64_t now_ms = os_monotonic_ms();
    LIST_EACH(member, next, &loop->finishing)
    {
        struct os_stream *stream = LIST_ITEM(member, struct os_stream, finishing_member);
        if (now_ms >= stream->finish_at_ms) {
            os_stream_close(stream);
        }
    }
    if (list_is_empty(&loop->finishing)) {
        (void)uv_timer_stop(timer); /* Always 0. */
    }
}

void os__stream_finishing_cut(struct list *member)
{
    os_stream_close(LIST_ITEM(member, struct os_stream, finishing_member));
}

/* ---- Connecting ------------------------------------------------------------------------------ */

static void connect_done(uv_connect_t *request, int status)
{
    struct os_stream *stream = request->data;
    memory_free(request);
    stream->connecting = NULL;
    if (stream->is_closed) {
        return;
    }
    if (status == 0 && !stream->is_paused && !stream->is_finishing) {
        status = start_reading(stream);
    }
    if (status == 0 && stream->pending.size_bytes > 0) {
        status = start_write(stream, 0);
    }
    if (stream->is_finishing) {
        if (status != 0 || stream->in_flight == NULL) {
            os_stream_close(stream);
        }
        return;
    }
    if (status != 0) {
        (void)fail(stream, status);
        stream->is_ended = true; /* `connected` tells it. */
    }
    if (stream->events->connected != NULL) {
        stream->events->connected(stream, status, stream->context);
    }
}

int os_stream_connect(struct os_stream **stream, struct os_loop *loop,
                      const struct os_address *address, const struct os_stream_events *events,
                      void *context, struct error *error)
{
    char text[OS_ADDRESS_TEXT_SIZE];
    struct sockaddr_storage storage;
    (void)os__address_to_socket(address, &storage);
    struct os_stream *created = os__stream_create(loop, false);
    uv_connect_t *request = memory_allocate_zeroed(1, sizeof *request);
    request->data = created;
    (void)uv_tcp_nodelay(&created->uv.tcp, 1); /* Without a socket yet it only notes the wish. */
    int status =
        uv_tcp_connect(request, &created->uv.tcp, (const struct sockaddr *)&storage, connect_done);
    if (status != 0) {
        memory_free(request);
        os__stream_discard(created);
        return error_set(error, status, "connect to %s", os_address_format(address, text));
    }
    created->connecting = request;
    created->peer = *address;
    created->events = events;
    created->context = context;
    *stream = created;
    return 0;
}

int os_stream_connect_path(struct os_stream **stream, struct os_loop *loop, const char *path,
                           const struct os_stream_events *events, void *context,
                           struct error *error)
{
    int status = os__path_check(path, error);
    if (status != 0) {
        return status;
    }
    struct os_stream *created = os__stream_create(loop, true);
    uv_connect_t *request = memory_allocate_zeroed(1, sizeof *request);
    request->data = created;
    uv_pipe_connect(request, &created->uv.pipe, path, connect_done); /* A failure comes there. */
    created->connecting = request;
    created->events = events;
    created->context = context;
    *stream = created;
    return 0;
}

/* ---- Questions ------------------------------------------------------------------------------- */

void *os_stream_context(const struct os_stream *stream)
{
    return stream->context;
}

struct os_loop *os_stream_loop(const struct os_stream *stream)
{
    return stream->loop;
}

static char *write_text(char *text, const char *what)
{
    (void)snprintf(text, OS_ADDRESS_TEXT_SIZE, "%s", what);
    return text;
}

char *os_stream_peer(const struct os_stream *stream, char *text)
{
    if (stream->is_local) {
        return write_text(text, "unix");
    }
    return os_address_format(&stream->peer, text);
}

char *os_stream_local(const struct os_stream *stream, char *text)
{
    struct sockaddr_storage storage = {0};
    int size = sizeof storage;
    if (stream->is_local) {
        return write_text(text, "unix");
    }
    if (uv_tcp_getsockname(&stream->uv.tcp, (struct sockaddr *)&storage, &size) != 0) {
        return write_text(text, "?");
    }
    struct os_address address = os__address_from_socket(&storage);
    return os_address_format(&address, text);
}

int os_stream_descriptor(const struct os_stream *stream)
{
    uv_os_fd_t descriptor = -1;
    int status = uv_fileno((const uv_handle_t *)&stream->uv, &descriptor);
    return status == 0 ? (int)descriptor : -1;
}
