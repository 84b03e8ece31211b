/* SPDX-License-Identifier: Apache-2.0 */
/* control: what an operator tells a running node, and asks it. Layer: gateway.
 *
 * HTTP over a Unix socket in the data directory: `POST /v1/<verb>` with a JSON object in, a JSON
 * object out. Who may open the socket's file may use it; there is no other authorisation, so the
 * file is for its owner only. `tutti drain`, `tutti nodes` and the like are its clients;
 * docs/formats/control.md has what each verb takes and answers.
 *
 * Verbs that change nothing are also answered to GET, with arguments from the query
 * (`/v1/why?shard=7`), and may be served on another port as well: control_handle_read() goes into
 * any HTTP handler.
 *
 * What a verb does is the business of a backend, which may answer later. Who gets no answer within
 * CONTROL_TIMEOUT_MS is told so; what the backend answers after that is dropped.
 *
 * Invariants
 *   I1. The backend is called for verbs that exist, with an object of arguments; all else is
 *       answered here.
 *   I2. Through GET only verbs that change nothing reach it.
 *   I3. Each call is answered by the backend exactly once, and the client at most once.
 *
 * Threads. A control belongs to one loop and its thread; the backend is called there.
 * control_reply() may be called on any thread, while the loop exists. */
#ifndef GATEWAY_CONTROL_CONTROL_H
#define GATEWAY_CONTROL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error/error.h"
#include "driver/http/http.h"
#include "driver/json/json.h"
#include "driver/os/os.h"

#define CONTROL_TIMEOUT_MS 30000
#define CONTROL_BODY_SIZE_BYTES_MAX (64 * 1024)
/* Calls that the backend has not answered; more are refused with 503. */
#define CONTROL_CALL_COUNT_MAX 64
/* The name of the socket in the data directory. */
#define CONTROL_SOCKET_NAME "control"

enum control_verb {
    CONTROL_STATUS, /* Reads: */
    CONTROL_NODES,
    CONTROL_SHARDS,
    CONTROL_WHY,
    CONTROL_AUDIT,
    CONTROL_TOKEN, /* Changes: */
    CONTROL_DRAIN,
    CONTROL_REMOVE,
    CONTROL_TRANSFER,
    CONTROL_SPLIT,
    CONTROL_REPLICAS,
    CONTROL_RECOVER,
};
#define CONTROL_VERB_COUNT 12

const char *control_verb_name(enum control_verb verb);
bool control_verb_is_read(enum control_verb verb);

/* ---- Calls ----------------------------------------------------------------------------------- */

/* A request. The backend's until it calls control_reply(). */
struct control_call {
    enum control_verb verb;
    const struct json *arguments; /* An object, borrowed from the call. */
};

struct control_backend {
    /* Do it, and answer with control_reply(), at once or later. */
    void (*call)(void *context, struct control_call *call);
    void *context;
    uint64_t timeout_ms; /* 0: CONTROL_TIMEOUT_MS. */
};

/* Answer a call. `status` is that of HTTP; takes `answer`, an object. Takes `call`. Any thread. */
void control_reply(struct control_call *call, int status, struct json *answer);

/* The same with status 200, and with an array of many items under one more key; takes those too
 * (json_write_item()). */
void control_reply_with(struct control_call *call, struct json *answer, const char *key,
                        struct buffer *items);

/* Answer that it cannot be done: {"error": text, "code": code}. `code` is a word for programs; 400:
 * the arguments are wrong; 404: there is no such thing; 409: the state does not allow it; 501: not
 * supported yet; 503: not possible now. */
void control_refuse(struct control_call *call, int status, const char *code, const char *format,
                    ...) __attribute__((format(printf, 4, 5)));

/* ---- Life ------------------------------------------------------------------------------------ */

struct control;

/* Give what answers calls on `loop`. Borrows `backend`'s context. */
struct control *control_create(struct os_loop *loop, const struct control_backend *backend);

/* Listen on a Unix socket as well. A file that a process left there which is gone is replaced.
 * Errors: those of os_listener_open() for a path. */
MUST_USE int control_listen(struct control *control, const char *path, struct error *error);

/* The node stops: whoever waits for an answer, and whoever asks from now on, is told so. What the backend has
 * answered by now is heard still, while the loop runs. */
void control_stop(struct control *control);

/* Stop listening and hang up. What the backend has not answered it must still answer, before the
 * loop is destroyed; nobody hears it. */
void control_destroy(struct control *control);

/* Any thread: calls that the backend has not answered. */
uint32_t control_call_count(const struct control *control);

/* Handle a request to another HTTP server of the same loop if its path begins with /v1/ (else false:
 * nothing was done). Reads only. */
bool control_handle_read(struct control *control, const struct http_request *request,
                         struct http_response *response);

#endif
