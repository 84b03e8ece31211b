/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners. The socket is ours and libuv only says when it is readable: so the loops of one
 * process can share a port, and running out of open files makes the listener rest instead of
 * spinning.
 *
 * Sharing a port means SO_REUSEPORT, with which a second server of the same user would join
 * silently. So the first listener binds without it, which fails when anybody listens there, and
 * sets it before listen(); siblings then bind with it. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/os/os_internal.h"

enum {
    BACKLOG = 4096,        /* The kernel lowers it to net.core.somaxconn. */
    ACCEPTS_PER_TICK = 64, /* Then those who are connected have their turn. */
    KEEPALIVE_INTERVAL_S = 100,
    KEEPALIVE_PROBE_COUNT = 3,
};

struct os_listener {
    uv_poll_t poll;
    uv_timer_t rest;
    struct os_loop *loop;
    const struct os_listener_events *events;
    void *context;
    struct os_address address;
    struct os__path path; /* Of a Unix socket. */
    int descriptor;
    int open_handle_count;
};

static void readable(uv_poll_t *handle, int status, int events);

static void start_accepting(struct os_listener *listener)
{
    int status = uv_poll_start(&listener->poll, UV_READABLE, readable);
    ASSERT(status == 0);
}

static void rested(uv_timer_t *timer)
{
    start_accepting(timer->data);
}

static void refuse(struct os_listener *listener, int code)
{
    (void)uv_poll_stop(&listener->poll); /* Always 0. */
    int status = uv_timer_start(&listener->rest, rested, OS_ACCEPT_PAUSE_MS, 0);
    ASSERT(status == 0);
    if (listener->events->refused != NULL) {
        listener->events->refused(code, listener->context);
    }
}

static void take(struct os_listener *listener, int descriptor, const struct os_address *peer)
{
    struct os_stream *stream = os__stream_create(listener->loop, listener->path.text != NULL);
    int status = os__stream_adopt(stream, descriptor, peer);
    if (status != 0) {
        (void)close(descriptor); /* Nobody has used it. */
        os__stream_discard(stream);
        return;
    }
    listener->events->accepted(stream, listener->context);
    if (!os__stream_is_started(stream) && !os_stream_is_closing(stream)) {
        os__stream_discard(stream);
    }
}

static bool is_about_one_connection(int code)
{
    /* accept(2): errors of the connection that was about to be accepted. */
    return code == EINTR || code == ECONNABORTED || code == EPROTO || code == ENETDOWN ||
           code == ENOPROTOOPT || code == EHOSTDOWN || code == ENONET || code == EHOSTUNREACH ||
           code == EOPNOTSUPP || code == ENETUNREACH;
}

static void readable(uv_poll_t *handle, int status, int events)
{
    (void)events;
    struct os_listener *listener = handle->data;
    if (status < 0) {
        refuse(listener, status);
        return;
    }
    for (uint32_t i = 0; i < ACCEPTS_PER_TICK; i++) {
        struct sockaddr_storage storage = {0};
        socklen_t size = sizeof storage;
        int descriptor = accept4(listener->descriptor, (struct sockaddr *)&storage, &size,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor >= 0) {
            struct os_address peer = {0};
            if (listener->path.text == NULL) {
                peer = os__address_from_socket(&storage);
            }
            take(listener, descriptor, &peer);
            if (uv_is_closing((const uv_handle_t *)&listener->poll)) {
                return;
            }
        } else if (errno == EAGAIN) {
            return;
        } else if (!is_about_one_connection(errno)) {
            refuse(listener, -errno);
            return;
        }
    }
}

/* ---- Opening --------------------------------------------------------------------------------- */

static int set_option(int descriptor, int level, int name, int value)
{
    return setsockopt(descriptor, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

/* What accepted connections inherit. Without any of it they would still work. */
static void set_connection_options(int descriptor)
{
    (void)set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
    (void)set_option(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1);
    (void)set_option(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, OS_KEEPALIVE_IDLE_S);
    (void)set_option(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    (void)set_option(descriptor, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBE_COUNT);
}

static int bind_and_listen(int descriptor, const struct os_address *address, bool is_sibling)
{
    struct sockaddr_storage storage;
    socklen_t size = os__address_to_socket(address, &storage);
    int status = set_option(descriptor, SOL_SOCKET, SO_REUSEADDR, 1);
    if (status == 0 && address->is_ipv6) {
        status = set_option(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    }
    if (status == 0 && is_sibling) {
        status = set_option(descriptor, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (status == 0 && bind(descriptor, (const struct sockaddr *)&storage, size) != 0) {
        status = -errno;
    }
    if (status == 0 && !is_sibling) {
        status = set_option(descriptor, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (status == 0) {
        set_connection_options(descriptor);
        status = listen(descriptor, BACKLOG) == 0 ? 0 : -errno;
    }
    return status;
}

static int explain(int status, const struct os_listener_options *options,
                   const struct os_address *address, struct error *error)
{
    char text[OS_ADDRESS_TEXT_SIZE];
    const char *flag = options->flag != NULL ? options->flag : "address";
    os_address_format(address, text);
    switch (-status) {
    case EADDRINUSE:
        return error_say(error, status,
                         "%s %s: another program listens on this port; stop it or choose another "
                         "port with %s ADDR:PORT",
                         flag, text, flag);
    case EACCES:
        return error_say(error, status,
                         "%s %s: no permission to listen on this port; ports below 1024 need "
                         "privileges, choose another with %s ADDR:PORT",
                         flag, text, flag);
    case EADDRNOTAVAIL:
        return error_say(error, status,
                         "%s %s: this machine does not have that address; choose one it has with "
                         "%s ADDR:PORT",
                         flag, text, flag);
    default:
        return error_set(error, status, "%s %s: cannot listen", flag, text);
    }
}

static int open_socket(const struct os_address *address, bool is_sibling, int *descriptor)
{
    int family = address->is_ipv6 ? AF_INET6 : AF_INET;
    int opened = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (opened < 0) {
        return -errno;
    }
    int status = bind_and_listen(opened, address, is_sibling);
    if (status != 0) {
        (void)close(opened); /* Nothing was sent on it. */
        return status;
    }
    *descriptor = opened;
    return 0;
}

/* Open the socket, and learn where it listens; messages name `address`. */
static int open_tcp(const struct os_listener_options *options, struct os_address *address,
                    int *descriptor, struct error *error)
{
    bool is_sibling = options->sibling != NULL;
    *address = is_sibling ? options->sibling->address : options->address;
    int status = open_socket(address, is_sibling, descriptor);
    if (status != 0) {
        return explain(status, options, address, error);
    }
    struct sockaddr_storage storage = {0};
    socklen_t size = sizeof storage;
    status = getsockname(*descriptor, (struct sockaddr *)&storage, &size);
    ASSERT(status == 0);
    *address = os__address_from_socket(&storage);
    return 0;
}

int os_listener_open(struct os_listener **listener, struct os_loop *loop,
                     const struct os_listener_options *options,
                     const struct os_listener_events *events, void *context, struct error *error)
{
    struct os_address address = {0};
    struct os__path path = {0};
    int descriptor = -1;
    int status = options->path != NULL
                     ? os__path_listen(options->path, options->flag, &descriptor, &path, error)
                     : open_tcp(options, &address, &descriptor, error);
    if (status != 0) {
        return status;
    }
    struct os_listener *opened = memory_allocate_zeroed(1, sizeof *opened);
    status = uv_poll_init(&loop->uv, &opened->poll, descriptor);
    if (status != 0) {
        (void)close(descriptor); /* Nothing was sent on it. */
        os__path_remove(&path);
        memory_free(opened);
        return explain(status, options, &address, error);
    }
    ASSERT(uv_timer_init(&loop->uv, &opened->rest) == 0);
    opened->poll.data = opened;
    opened->rest.data = opened;
    opened->loop = loop;
    opened->events = events;
    opened->context = context;
    opened->address = address;
    opened->path = path;
    opened->descriptor = descriptor;
    opened->open_handle_count = 2;
    start_accepting(opened);
    *listener = opened;
    return 0;
}

static void handle_closed(uv_handle_t *handle)
{
    struct os_listener *listener = handle->data;
    listener->open_handle_count--;
    if (listener->open_handle_count == 0) {
        memory_free(listener);
    }
}

void os_listener_close(struct os_listener *listener)
{
    if (listener == NULL) {
        return;
    }
    uv_close((uv_handle_t *)&listener->poll, handle_closed);
    uv_close((uv_handle_t *)&listener->rest, handle_closed);
    os__path_remove(&listener->path);
    (void)close(listener->descriptor); /* uv_close() above has stopped watching it. */
}

struct os_address os_listener_address(const struct os_listener *listener)
{
    return listener->address;
}
