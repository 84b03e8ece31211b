/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/control/control_internal.h"

enum { TIMEOUT_MS = 1500 };

/* A control on a thread of its own, whose backend answers as the arguments tell: {"how": "now" |
 * "thread" | "later" | "refuse"}. */
static struct {
    char directory[64];
    char path[96];
    struct os_loop *loop;
    struct os_thread *thread;
    struct control *control;
    struct http_server *other; /* On TCP, for reads. */
    struct os_address address;
    struct control_call *kept[CONTROL_CALL_COUNT_MAX];
    _Atomic uint32_t kept_count;
    _Atomic uint32_t call_count;
} site;

static struct json *echo(const struct control_call *call)
{
    struct json *answer = json_object_create();
    json_set_text(answer, "verb", control_verb_name(call->verb));
    json_set_text(answer, "how", json_text(json_get(call->arguments, "how"), "-"));
    json_set_real(answer, "node", json_number(json_get(call->arguments, "node"), -1));
    return answer;
}

static void reply_from_thread(void *context)
{
    struct control_call *call = context;
    os_sleep_ms(5);
    control_reply(call, 200, echo(call));
}

static void call_came(void *context, struct control_call *call)
{
    (void)context;
    const char *how = json_text(json_get(call->arguments, "how"), "now");
    site.call_count++;
    if (strcmp(how, "now") == 0) {
        control_reply(call, 200, echo(call));
    } else if (strcmp(how, "items") == 0) {
        struct buffer items = {0};
        json_write_item(call->arguments, &items);
        json_write_item(call->arguments, &items);
        control_reply_with(call, json_object_create(), "items", &items);
    } else if (strcmp(how, "refuse") == 0) {
        control_refuse(call, 409, "state", "node %d is \"%s\"", 7, "removed");
    } else if (strcmp(how, "thread") == 0) {
        struct os_thread *thread;
        assert_int_equal(os_thread_start(&thread, "reply", reply_from_thread, call, NULL), 0);
        os_thread_join(thread);
    } else {
        site.kept[site.kept_count] = call;
        site.kept_count++;
    }
}

static void handle_other(const struct http_request *request, struct http_response *response,
                         void *context)
{
    (void)context;
    if (!control_handle_read(site.control, request, response)) {
        response->status = 200;
        buffer_append(&response->body, BYTES("another page"));
    }
}

static void run_loop(void *context)
{
    os_loop_run(context);
}

static int setup(void **state)
{
    (void)state;
    os_ignore_broken_pipes();
    memset(&site, 0, sizeof site);
    (void)snprintf(site.directory, sizeof site.directory, "/tmp/tutti-control-XXXXXX");
    if (mkdtemp(site.directory) == NULL || os_loop_create(&site.loop, NULL) != 0) {
        return -1;
    }
    (void)snprintf(site.path, sizeof site.path, "%s/%s", site.directory, CONTROL_SOCKET_NAME);
    const struct control_backend backend = {.call = call_came, .timeout_ms = TIMEOUT_MS};
    site.control = control_create(site.loop, &backend);
    struct http_server_options options = {.handle = handle_other};
    if (control_listen(site.control, site.path, NULL) != 0 ||
        os_address_parse(&options.listener.address, "127.0.0.1:0", NULL) != 0 ||
        http_server_open(&site.other, site.loop, &options, NULL) != 0) {
        return -1;
    }
    site.address = http_server_address(site.other);
    return os_thread_start(&site.thread, "control", run_loop, site.loop, NULL);
}

static void stop_loop(void *context)
{
    os_loop_stop(context);
}

static int teardown(void **state)
{
    (void)state;
    os_loop_stop(site.loop);
    os_thread_join(site.thread);
    control_destroy(site.control);
    http_server_close(site.other);
    for (uint32_t i = 0; i < site.kept_count; i++) { /* Whoever asked is gone. */
        control_reply(site.kept[i], 200, json_object_create());
    }
    struct os_timer *timer = os_timer_create(site.loop, stop_loop, site.loop); /* Deliver them. */
    os_timer_start(timer, 1, 0);
    os_loop_run(site.loop);
    os_timer_destroy(timer);
    os_loop_destroy(site.loop);
    return rmdir(site.directory);
}

static int ask(const char *target, const char *body, struct http_answer *answer)
{
    const struct http_question question = {
        .path = site.path,
        .target = target,
        .is_post = body != NULL,
        .body = bytes_of_text(body != NULL ? body : ""),
        .timeout_ms = 5000,
    };
    *answer = (struct http_answer){0};
    return http_ask(&question, answer, NULL);
}

static void expect(const char *target, const char *body, int status, const char *part)
{
    struct http_answer answer;
    assert_int_equal(ask(target, body, &answer), 0);
    buffer_append_byte(&answer.body, 0);
    if (answer.status != status || strstr((const char *)answer.body.data, part) == NULL) {
        fail_msg("%s: %d %s", target, answer.status, (const char *)answer.body.data);
    }
    buffer_deinit(&answer.body);
}

/* Claim: verbs reach the backend with their arguments, and its answer the client, from whatever
 * thread and whenever it comes. */
static void test_calls(void **state)
{
    (void)state;
    expect("/v1/drain", "{\"node\": 2}", 200, "{\"verb\":\"drain\",\"how\":\"-\",\"node\":2.0}\n");
    expect("/v1/token", "{\"how\": \"thread\"}", 200, "\"verb\":\"token\"");
    expect("/v1/token", "", 200, "\"node\":-1.0");
    expect("/v1/nodes", "{}", 200, "\"verb\":\"nodes\"");
    expect("/v1/nodes", NULL, 200, "\"verb\":\"nodes\"");
    expect("/v1/why?node=7&how=thread", NULL, 200, "\"how\":\"thread\",\"node\":7.0");
    expect("/v1/shards?how=items", NULL, 200,
           "{\"items\":[{\"how\":\"items\"},{\"how\":\"items\"}]}\n");
    expect("/v1/remove", "{\"how\": \"refuse\"}", 409,
           "{\"error\":\"node 7 is \\\"removed\\\"\",\"code\":\"state\"}\n");
    for (uint32_t i = 0; i < CONTROL_VERB_COUNT; i++) {
        char target[64];
        (void)snprintf(target, sizeof target, "/v1/%s", control_verb_name((enum control_verb)i));
        expect(target, "{}", 200, control_verb_name((enum control_verb)i));
    }
}

/* Claim: what is malformed never reaches the backend, and changes cannot come through GET. */
static void test_refusals(void **state)
{
    (void)state;
    uint32_t before = site.call_count;
    expect("/v1/drain", NULL, 405, "use POST");
    expect("/v1/dance", "{}", 404, "no such verb");
    expect("/v1/", "{}", 404, "no such verb");
    expect("/v2/nodes", "{}", 404, "/v1/");
    expect("/", NULL, 404, "/v1/");
    expect("/v1/drain", "[1]", 400, "not a JSON object");
    expect("/v1/drain", "{\"node\":", 400, "line 1 column");
    expect("/v1/drain", "{\"node\":1,\"node\":2}", 400, "duplicate");
    expect("/v1/why?a=%zz", NULL, 400, "malformed");
    expect("/v1/why?a=1&a=2", NULL, 400, "malformed");
    assert_int_equal(site.call_count, before);
}

/* Claim: reads can be served by another server, changes cannot, and its other pages stay. */
static void test_other_server(void **state)
{
    (void)state;
    struct http_answer answer = {0};
    uint32_t before = site.call_count;
    assert_int_equal(http_get(&site.address, "/v1/nodes", 5000, &answer, NULL), 0);
    assert_int_equal(answer.status, 200);
    buffer_deinit(&answer.body);
    assert_int_equal(site.call_count, before + 1);
    answer = (struct http_answer){0};
    assert_int_equal(http_get(&site.address, "/v1/drain", 5000, &answer, NULL), 0);
    assert_int_equal(answer.status, 405);
    buffer_deinit(&answer.body);
    answer = (struct http_answer){0};
    assert_int_equal(http_get(&site.address, "/metrics", 5000, &answer, NULL), 0);
    assert_true(bytes_equal(buffer_bytes(&answer.body), BYTES("another page")));
    buffer_deinit(&answer.body);
    assert_int_equal(site.call_count, before + 1);
}

/* Claim: only the owner may open the socket. */
static void test_permissions(void **state)
{
    (void)state;
    struct stat found;
    assert_int_equal(lstat(site.path, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0600);
}

static void keep_one(void)
{
    const struct http_question question = {.path = site.path,
                                           .target = "/v1/drain",
                                           .is_post = true,
                                           .body = BYTES("{\"how\": \"later\"}"),
                                           .timeout_ms = 50};
    struct http_answer answer;
    uint32_t before = site.kept_count;
    assert_int_equal(http_ask(&question, &answer, NULL), -ETIMEDOUT);
    while (site.kept_count == before) {
        os_sleep_ms(1);
    }
}

/* Claim: calls that are not answered are bounded; whoever hung up is not missed. (The teardown
 * answers them after the control is gone.) */
static void test_bounded(void **state)
{
    (void)state;
    for (uint32_t i = site.kept_count; i < CONTROL_CALL_COUNT_MAX; i++) {
        keep_one();
    }
    assert_int_equal(control_call_count(site.control), CONTROL_CALL_COUNT_MAX);
    expect("/v1/drain", "{}", 503, "too many requests");
    control_reply(site.kept[--site.kept_count], 200, json_object_create());
    while (control_call_count(site.control) == CONTROL_CALL_COUNT_MAX) {
        os_sleep_ms(1);
    }
    expect("/v1/drain", "{}", 200, "drain");
}

/* Claim: who gets no answer in time is told so, and the answer that comes later is dropped. */
static void test_timeout(void **state)
{
    (void)state;
    uint32_t before = control_call_count(site.control);
    expect("/v1/drain", "{\"how\": \"later\"}", 504, "may still be done");
    assert_int_equal(control_call_count(site.control), before + 1);
    control_reply(site.kept[--site.kept_count], 200, json_object_create());
    while (control_call_count(site.control) > before) {
        os_sleep_ms(1);
    }
}

static void stop_control(struct os_message *message)
{
    (void)message;
    uint32_t last = site.kept_count - 1; /* It has its answer, which is on its way. */
    control_reply(site.kept[last], 200, echo(site.kept[last]));
    site.kept_count = last;
    control_stop(site.control);
}

/* When two wait. */
static void stop_soon(void *context)
{
    while (site.kept_count < 2) {
        os_sleep_ms(1);
    }
    os_loop_post(site.loop, context);
}

static void ask_first(void *context)
{
    struct http_answer answer;
    int *status = context;
    *status = ask("/v1/drain", "{\"how\": \"later\"}", &answer) == 0 ? answer.status : -1;
    buffer_deinit(&answer.body);
}

/* Claim: when the node stops, who waits is told so, but for who was answered just then. */
static void test_stop(void **state)
{
    (void)state;
    static struct os_message message = {.deliver = stop_control};
    struct os_thread *threads[2];
    int status = 0;
    while (site.kept_count > 0) {
        control_reply(site.kept[--site.kept_count], 200, json_object_create());
    }
    assert_int_equal(os_thread_start(&threads[0], "ask", ask_first, &status, NULL), 0);
    while (site.kept_count < 1) {
        os_sleep_ms(1);
    }
    assert_int_equal(os_thread_start(&threads[1], "stop", stop_soon, &message, NULL), 0);
    expect("/v1/nodes", "{\"how\": \"later\"}", 200, "later");
    os_thread_join(threads[0]);
    os_thread_join(threads[1]);
    assert_int_equal(status, 503);
    expect("/v1/drain", "{}", 503, "nothing was done");
}

static const char *query_of(const char *text)
{
    static struct buffer written;
    struct error error = {0};
    struct json *object = control__parse_query(bytes_of_text(text), &error);
    if (object == NULL) {
        return "malformed";
    }
    buffer_deinit(&written);
    json_write(object, &written);
    buffer_append_byte(&written, 0);
    json_destroy(object);
    return (const char *)written.data;
}

/* Claim: a query becomes an object with numbers, booleans and text. */
static void test_query(void **state)
{
    (void)state;
    assert_string_equal(query_of(""), "{}");
    assert_string_equal(query_of("shard=7&all&name=a%20b+c&no=false"),
                        "{\"shard\":7,\"all\":true,\"name\":\"a b c\",\"no\":false}");
    assert_string_equal(query_of("a=007&b="), "{\"a\":\"007\",\"b\":\"\"}");
    assert_string_equal(query_of("a=%2"), "malformed");
    assert_string_equal(query_of("=1"), "malformed");
    assert_string_equal(query_of("a=1&&b=1"), "malformed");
    assert_string_equal(query_of("a=%00"), "malformed");
    assert_string_equal(query_of("%c3%a4=1"), "malformed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_permissions), cmocka_unit_test(test_other_server),
        cmocka_unit_test(test_query),       cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_bounded),     cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
