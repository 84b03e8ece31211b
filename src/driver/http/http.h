/* SPDX-License-Identifier: Apache-2.0 */
/* http: a small HTTP/1.1 server for operation, and a client that asks it. Layer: driver.
 *
 * The server answers GET and HEAD, and POST if it is told to, from a handler that runs at once, on
 * the server's loop; the answer may come later. It is strict: what two readers of HTTP could
 * understand differently is refused (see http_request.c), and every connection is bounded in size
 * and time. Bodies of requests only with their length, no TLS, no range, no compression.
 *
 * A server belongs to one loop and its thread. */
#ifndef DRIVER_HTTP_HTTP_H
#define DRIVER_HTTP_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "driver/os/os.h"

/* Longest request: its first line and headers. */
#define HTTP_REQUEST_SIZE_BYTES_MAX (16 * 1024)
/* How long a connection may take to send a whole request, or to take an answer. */
#define HTTP_IDLE_MS_MAX 30000
/* Connections at once. Of more, that one ends which has taken longest to send a whole request; when all
 * have, and wait for answers, more are answered 503. */
#define HTTP_CONNECTION_COUNT_MAX 128
/* Longest answer that the client takes. */
#define HTTP_ANSWER_SIZE_BYTES_MAX (64 * 1024 * 1024)

/* ---- Server ---------------------------------------------------------------------------------- */

struct http_server;

/* Borrowed by the handler. */
struct http_request {
    struct bytes path;  /* "/metrics"; as sent, not percent-decoded. Begins with '/'. */
    struct bytes query; /* What follows the '?'; empty when there is none. */
    bool is_head;       /* The body will be left out; its length is told. */
    bool is_post;
    struct bytes body; /* Of POST. */
    void *connection;  /* The server's own. */
};

/* Filled by the handler; all zeros before. */
struct http_response {
    int status; /* 200, 404, … */
    /* "text/plain; charset=utf-8"; a literal. NULL: that. */
    const char *content_type;
    struct buffer body;
};

struct http_server_options {
    struct os_listener_options listener;
    void (*handle)(const struct http_request *request, struct http_response *response,
                   void *context);
    void *context;
    uint64_t idle_ms_max; /* 0: HTTP_IDLE_MS_MAX. */
    /* Largest body of a request. 0: there are none, and POST is refused. */
    size_t body_size_bytes_max;
};

/* Give a server. Errors: those of os_listener_open(). */
MUST_USE int http_server_open(struct http_server **server, struct os_loop *loop,
                              const struct http_server_options *options, struct error *error);

/* Close the listener and all connections. They are gone when the loop has turned, or was
 * destroyed. */
void http_server_close(struct http_server *server);

/* Where it listens, with the real port. */
struct os_address http_server_address(const struct http_server *server);

/* An answer that is owed. */
struct http_exchange;

/* In a handler: the answer comes later, with http_exchange_answer(), exactly once and not from within
 * the handler. What it wrote to the response is dropped. The connection waits meanwhile, without
 * limit, and takes no other request. */
struct http_exchange *http_defer(const struct http_request *request);

/* Takes `exchange`, and the body of `response`. Nothing happens when the connection or the server is
 * gone. */
void http_exchange_answer(struct http_exchange *exchange, struct http_response *response);

/* Any requests so far, and those that were refused as malformed; for metrics. */
uint64_t http_server_request_count(const struct http_server *server);
uint64_t http_server_refused_count(const struct http_server *server);
uint32_t http_server_connection_count(const struct http_server *server);

/* The words for a status ("Not Found"). Never NULL. */
const char *http_status_text(int status);

/* ---- Client ---------------------------------------------------------------------------------- */

struct http_answer {
    int status;
    struct buffer body; /* The caller's, who ends it with buffer_deinit(). */
};

struct http_question {
    const struct os_address *address;
    const char *path;   /* Of a Unix socket, instead of `address`. */
    const char *target; /* "/status?x=1" */
    bool is_post;       /* With `body`, which is JSON. */
    struct bytes body;
    uint64_t timeout_ms;
};

/* Ask, and wait for the whole answer, whatever its status. Errors: -ECONNREFUSED and the like;
 * -ETIMEDOUT; ERROR_PROTOCOL for what is not HTTP; -EFBIG. */
MUST_USE int http_ask(const struct http_question *question, struct http_answer *answer,
                      struct error *error);

/* The same for GET from an address. */
MUST_USE int http_get(const struct os_address *address, const char *target, uint64_t timeout_ms,
                      struct http_answer *answer, struct error *error);

#endif
