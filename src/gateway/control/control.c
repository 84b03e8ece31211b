/* SPDX-License-Identifier: Apache-2.0 */
/* Calls under way.
 *
 * A call lives until the backend has answered it, even when its client was told that it takes too
 * long, or the control is gone: the answer of another thread comes as a message to the loop, and
 * finds out there what is left to do. */
#include "gateway/control/control.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "gateway/control/control_internal.h"

enum { SWEEP_MS = 500, PROBLEM_SIZE = 400 };

struct control {
    struct os_loop *loop;
    struct control_backend backend;
    struct http_server *server; /* NULL: does not listen. */
    struct os_timer *sweeper;
    struct list calls; /* In the order of their deadlines. */
    struct list late;  /* Their clients were told that it takes too long. */
    bool is_stopping;
    _Atomic uint32_t call_count; /* Written by the loop's thread, read by any. */
};

struct pending {
    struct control_call call; /* First: that is what the backend has. */
    struct control *control;  /* NULL once that is gone. */
    struct os_loop *loop;
    struct http_exchange *exchange; /* NULL once the client was answered. */
    struct json *arguments;
    struct list link; /* control->calls or late */
    uint64_t deadline_ms;
    struct os_message message;
    struct http_response response; /* Of the backend: its status is 0 until then. */
    atomic_bool is_answered;       /* It is there, and on its way to the loop. */
};

/* ---- Verbs ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    bool is_read;
} verbs[CONTROL_VERB_COUNT] = {
    [CONTROL_STATUS] = {"status", true},      [CONTROL_NODES] = {"nodes", true},
    [CONTROL_SHARDS] = {"shards", true},      [CONTROL_WHY] = {"why", true},
    [CONTROL_AUDIT] = {"audit", true},        [CONTROL_TOKEN] = {"token", false},
    [CONTROL_DRAIN] = {"drain", false},       [CONTROL_REMOVE] = {"remove", false},
    [CONTROL_TRANSFER] = {"transfer", false}, [CONTROL_SPLIT] = {"split", false},
    [CONTROL_REPLICAS] = {"replicas", false}, [CONTROL_RECOVER] = {"recover", false},
};

const char *control_verb_name(enum control_verb verb)
{
    return verbs[verb].name;
}

bool control_verb_is_read(enum control_verb verb)
{
    return verbs[verb].is_read;
}

static bool find_verb(struct bytes name, enum control_verb *verb)
{
    for (uint32_t i = 0; i < CONTROL_VERB_COUNT; i++) {
        if (bytes_equal(name, bytes_of_text(verbs[i].name))) {
            *verb = (enum control_verb)i;
            return true;
        }
    }
    return false;
}

/* ---- Answers --------------------------------------------------------------------------------- */

static void write_answer(struct http_response *response, int status, const struct json *answer)
{
    response->status = status;
    response->content_type = "application/json";
    json_write(answer, &response->body);
    buffer_append_byte(&response->body, '\n');
}

static void write_answer_with(struct http_response *response, const struct json *answer,
                              const char *key, struct bytes items)
{
    response->status = 200;
    response->content_type = "application/json";
    json_write_with(answer, key, items, &response->body);
    buffer_append_byte(&response->body, '\n');
}

static struct json *make_problem(const char *code, const char *text)
{
    struct json *answer = json_object_create();
    json_set_text(answer, "error", text);
    json_set_text(answer, "code", code);
    return answer;
}

static void refuse(struct http_response *response, int status, const char *code, const char *text)
{
    struct json *answer = make_problem(code, text);
    write_answer(response, status, answer);
    json_destroy(answer);
}

/* Takes the response's body. */
static void answer_client(struct pending *pending, struct http_response *response)
{
    struct http_exchange *exchange = pending->exchange;
    pending->exchange = NULL;
    if (exchange != NULL) {
        http_exchange_answer(exchange, response);
    } else {
        buffer_deinit(&response->body);
    }
}

/* On the loop: the backend has answered. */
static void answered(struct os_message *message)
{
    struct pending *pending = LIST_ITEM(message, struct pending, message);
    if (pending->control != NULL) {
        (void)atomic_fetch_sub(&pending->control->call_count, 1);
    }
    list_remove(&pending->link);
    answer_client(pending, &pending->response);
    json_destroy(pending->arguments);
    memory_free(pending);
}

static void post(struct pending *pending)
{
    pending->message.deliver = answered;
    atomic_store(&pending->is_answered, true);
    os_loop_post(pending->loop, &pending->message);
}

/* Long answers take long to be written: here, not on the loop. */
void control_reply(struct control_call *call, int status, struct json *answer)
{
    struct pending *pending = LIST_ITEM(call, struct pending, call);
    ASSERT(status >= 200 && pending->response.status == 0);
    write_answer(&pending->response, status, answer);
    json_destroy(answer);
    post(pending);
}

void control_reply_with(struct control_call *call, struct json *answer, const char *key,
                        struct buffer *items)
{
    struct pending *pending = LIST_ITEM(call, struct pending, call);
    ASSERT(pending->response.status == 0);
    write_answer_with(&pending->response, answer, key, buffer_bytes(items));
    buffer_deinit(items);
    json_destroy(answer);
    post(pending);
}

void control_refuse(struct control_call *call, int status, const char *code, const char *format,
                    ...)
{
    char text[PROBLEM_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ASSERT(length >= 0 && status >= 400);
    control_reply(call, status, make_problem(code, text));
}

/* What the backend answers later nobody hears. */
static void give_up(struct control *control, struct pending *pending, int status, const char *code,
                    const char *text)
{
    struct http_response response = {0};
    list_remove(&pending->link);
    list_push_back(&control->late, &pending->link);
    refuse(&response, status, code, text);
    answer_client(pending, &response);
}

static void sweep(void *context)
{
    struct control *control = context;
    uint64_t now_ms = os_monotonic_ms();
    LIST_EACH(member, next, &control->calls)
    {
        struct pending *pending = LIST_ITEM(member, struct pending, link);
        if (now_ms < pending->deadline_ms) {
            break;
        }
        give_up(control, pending, 504, "timeout",
                "there was no answer in time; what was asked for may still be done");
    }
}

void control_stop(struct control *control)
{
    control->is_stopping = true;
    LIST_EACH(member, next, &control->calls)
    {
        struct pending *pending = LIST_ITEM(member, struct pending, link);
        if (!atomic_load(&pending->is_answered)) {
            give_up(control, pending, 503, "unavailable",
                    "the node is stopping; what was asked for may be done all the same");
        }
    }
}

/* ---- Requests -------------------------------------------------------------------------------- */

static void start_call(struct control *control, enum control_verb verb, struct json *arguments,
                       const struct http_request *request)
{
    struct pending *pending = memory_allocate_zeroed(1, sizeof *pending);
    pending->call.verb = verb;
    pending->call.arguments = arguments;
    pending->control = control;
    pending->loop = control->loop;
    pending->arguments = arguments;
    pending->deadline_ms = os_monotonic_ms() + control->backend.timeout_ms;
    pending->exchange = http_defer(request);
    list_push_back(&control->calls, &pending->link);
    (void)atomic_fetch_add(&control->call_count, 1);
    control->backend.call(control->backend.context, &pending->call);
}

/* The arguments of a request, or NULL and what is wrong with them. */
static struct json *take_arguments(const struct http_request *request, struct error *error)
{
    struct json *arguments = NULL;
    if (!request->is_post) {
        return control__parse_query(request->query, error);
    }
    if (request->body.size_bytes == 0) {
        return json_object_create();
    }
    if (json_parse(&arguments, request->body, error) != 0) {
        return NULL;
    }
    if (!json_is_keyed(arguments)) {
        json_destroy(arguments);
        (void)error_say(error, -EINVAL, "the arguments are not a JSON object");
        return NULL;
    }
    return arguments;
}

static void handle_verb(struct control *control, enum control_verb verb,
                        const struct http_request *request, struct http_response *response)
{
    struct error error = {0};
    if (!request->is_post && !verbs[verb].is_read) {
        refuse(response, 405, "method", "this verb changes something: use POST");
        return;
    }
    struct json *arguments = take_arguments(request, &error);
    if (arguments == NULL) {
        refuse(response, 400, "arguments", error.message);
    } else if (control->is_stopping) {
        json_destroy(arguments);
        refuse(response, 503, "unavailable", "the node is stopping; nothing was done");
    } else if (control_call_count(control) >= CONTROL_CALL_COUNT_MAX) {
        json_destroy(arguments);
        refuse(response, 503, "busy", "too many requests are under way; try again");
    } else {
        start_call(control, verb, arguments, request);
    }
}

static bool handle_path(struct control *control, const struct http_request *request,
                        struct http_response *response)
{
    static const char prefix[] = "/v1/";
    enum control_verb verb;
    if (!bytes_have_prefix(request->path, bytes_of_text(prefix))) {
        return false;
    }
    struct bytes name = bytes_make(request->path.data + sizeof prefix - 1,
                                   request->path.size_bytes - (sizeof prefix - 1));
    if (find_verb(name, &verb)) {
        handle_verb(control, verb, request, response);
    } else {
        refuse(response, 404, "verb", "there is no such verb");
    }
    return true;
}

static void handle(const struct http_request *request, struct http_response *response,
                   void *context)
{
    if (!handle_path(context, request, response)) {
        refuse(response, 404, "verb", "verbs are at /v1/; see docs/formats/control.md");
    }
}

bool control_handle_read(struct control *control, const struct http_request *request,
                         struct http_response *response)
{
    ASSERT(!request->is_post);
    return handle_path(control, request, response);
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct control *control_create(struct os_loop *loop, const struct control_backend *backend)
{
    ASSERT(backend->call != NULL);
    struct control *control = memory_allocate_zeroed(1, sizeof *control);
    control->loop = loop;
    control->backend = *backend;
    if (backend->timeout_ms == 0) {
        control->backend.timeout_ms = CONTROL_TIMEOUT_MS;
    }
    list_init(&control->calls);
    list_init(&control->late);
    control->sweeper = os_timer_create(loop, sweep, control);
    os_timer_start(control->sweeper, SWEEP_MS, SWEEP_MS);
    return control;
}

int control_listen(struct control *control, const char *path, struct error *error)
{
    ASSERT(control->server == NULL);
    struct http_server_options options = {
        .listener = {.path = path, .flag = "control socket"},
        .handle = handle,
        .context = control,
        .body_size_bytes_max = CONTROL_BODY_SIZE_BYTES_MAX,
    };
    return http_server_open(&control->server, control->loop, &options, error);
}

uint32_t control_call_count(const struct control *control)
{
    return atomic_load_explicit(&control->call_count, memory_order_relaxed);
}

/* The backend still has them. */
static void orphan(struct list *calls)
{
    LIST_EACH(member, next, calls)
    {
        list_remove(member);
        LIST_ITEM(member, struct pending, link)->control = NULL;
    }
}

void control_destroy(struct control *control)
{
    if (control == NULL) {
        return;
    }
    http_server_close(control->server);
    os_timer_destroy(control->sweeper);
    orphan(&control->calls);
    orphan(&control->late);
    memory_free(control);
}
