/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "driver/os/os.h"

static char directory[64];
static char path[96];

/* A directory for each test, so that what a failed one left is in nobody's way. */
static int setup(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/tutti-path-XXXXXX");
    if (mkdtemp(directory) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/control", directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(directory);
}

/* ---- Both ends on one loop ------------------------------------------------------------------- */

static struct {
    struct os_loop *loop;
    struct os_stream *client;
    struct buffer received;
    int status;
    bool has_ended;
} ends;

static void server_read(struct os_stream *stream, struct bytes bytes, void *context)
{
    (void)context;
    char text[OS_ADDRESS_TEXT_SIZE];
    assert_string_equal(os_stream_peer(stream, text), "unix");
    assert_string_equal(os_stream_local(stream, text), "unix");
    assert_int_equal(os_stream_write(stream, &bytes, 1), 0); /* Echo. */
    os_stream_finish(stream);
}

static void ended(struct os_stream *stream, int status, void *context)
{
    (void)stream;
    (void)context;
    ends.status = status;
    ends.has_ended = true;
    os_loop_stop(ends.loop);
}

static void closed(struct os_stream *stream, void *context)
{
    (void)stream;
    (void)context;
}

static void server_ended(struct os_stream *stream, int status, void *context)
{
    (void)status;
    (void)context;
    os_stream_close(stream);
}

static void accepted(struct os_stream *stream, void *context)
{
    static const struct os_stream_events events = {
        .read = server_read, .ended = server_ended, .closed = closed};
    os_stream_start(stream, &events, context);
}

static void client_read(struct os_stream *stream, struct bytes bytes, void *context)
{
    (void)stream;
    (void)context;
    buffer_append(&ends.received, bytes);
}

static void client_connected(struct os_stream *stream, int status, void *context)
{
    (void)context;
    ends.status = status;
    if (status != 0) {
        os_loop_stop(ends.loop);
        return;
    }
    struct bytes hello = BYTES("hello");
    assert_int_equal(os_stream_write(stream, &hello, 1), 0);
}

static const struct os_listener_events listener_events = {.accepted = accepted};
static const struct os_stream_events client_events = {
    .read = client_read, .ended = ended, .closed = closed, .connected = client_connected};

static int open_listener(struct os_listener **listener, struct error *error)
{
    struct os_listener_options options = {.path = path, .flag = "control"};
    return os_listener_open(listener, ends.loop, &options, &listener_events, NULL, error);
}

/* Connect, say hello, and return how that went. */
static int greet(void)
{
    buffer_clear(&ends.received);
    ends.has_ended = false;
    assert_int_equal(
        os_stream_connect_path(&ends.client, ends.loop, path, &client_events, NULL, NULL), 0);
    os_loop_run(ends.loop);
    os_stream_close(ends.client);
    return ends.status;
}

/* Leave what a killed process leaves. */
static void leave_stale(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path));
    int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(descriptor >= 0);
    assert_int_equal(bind(descriptor, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(close(descriptor), 0);
}

/* Claim: bytes go both ways; the file is for its owner only, and goes with the listener. */
static void test_conversation(void **state)
{
    (void)state;
    struct os_listener *listener;
    struct stat found;
    assert_int_equal(os_loop_create(&ends.loop, NULL), 0);
    assert_int_equal(open_listener(&listener, NULL), 0);
    assert_int_equal(lstat(path, &found), 0);
    assert_true(S_ISSOCK(found.st_mode));
    assert_int_equal(found.st_mode & 07777, 0600);
    assert_int_equal(greet(), 0);
    assert_true(ends.has_ended);
    assert_true(bytes_equal(buffer_bytes(&ends.received), BYTES("hello")));
    os_listener_close(listener);
    assert_int_equal(lstat(path, &found), -1);
    os_loop_destroy(ends.loop);
    buffer_deinit(&ends.received);
}

/* Claim: what a killed process left is replaced; what belongs to somebody is not. */
static void test_stale_and_alive(void **state)
{
    (void)state;
    struct os_listener *listener;
    struct os_listener *second;
    struct error error = {0};
    assert_int_equal(os_loop_create(&ends.loop, NULL), 0);
    leave_stale();
    assert_int_equal(open_listener(&listener, &error), 0);
    assert_int_equal(greet(), 0);
    assert_int_equal(open_listener(&second, &error), -EADDRINUSE);
    assert_non_null(strstr(error.message, "another process listens there"));
    assert_non_null(strstr(error.message, path));
    assert_int_equal(greet(), 0);
    os_listener_close(listener);

    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(open_listener(&listener, &error), -EEXIST);
    assert_non_null(strstr(error.message, "no socket"));
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(unlink(path), 0);
    os_loop_destroy(ends.loop);
    buffer_deinit(&ends.received);
}

/* Claim: a listener that was replaced does not take the other's file along. */
static void test_file_of_another(void **state)
{
    (void)state;
    struct os_listener *listener;
    assert_int_equal(os_loop_create(&ends.loop, NULL), 0);
    assert_int_equal(open_listener(&listener, NULL), 0);
    assert_int_equal(unlink(path), 0);
    leave_stale();
    os_listener_close(listener);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(unlink(path), 0);
    os_loop_destroy(ends.loop);
}

/* Claim: that nobody listens is told apart, and by the callback. */
static void test_nobody(void **state)
{
    (void)state;
    assert_int_equal(os_loop_create(&ends.loop, NULL), 0);
    assert_int_equal(greet(), -ENOENT);
    leave_stale();
    assert_int_equal(greet(), -ECONNREFUSED);
    assert_int_equal(unlink(path), 0);
    os_loop_destroy(ends.loop);
}

/* Claim: a path that does not fit is refused with both lengths, and one that just fits works. */
static void test_long_path(void **state)
{
    (void)state;
    char text[OS_PATH_SIZE_MAX + 2];
    struct os_listener *listener;
    struct os_stream *stream;
    struct error error = {0};
    struct os_listener_options options = {.path = text};
    assert_int_equal(os_loop_create(&ends.loop, NULL), 0);
    (void)snprintf(text, sizeof text, "%s/", directory);
    size_t used = strlen(text);
    memset(text + used, 'x', sizeof text - used - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(
        os_listener_open(&listener, ends.loop, &options, &listener_events, NULL, &error),
        -ENAMETOOLONG);
    assert_non_null(strstr(error.message, "has 108 bytes, and a socket's may have 107"));
    assert_int_equal(os_stream_connect_path(&stream, ends.loop, text, &client_events, NULL, &error),
                     -ENAMETOOLONG);
    text[sizeof text - 2] = '\0';
    assert_int_equal(
        os_listener_open(&listener, ends.loop, &options, &listener_events, NULL, &error), 0);
    os_listener_close(listener);
    os_loop_destroy(ends.loop);
}

/* Claim: a directory that is not there is told. */
static void test_no_directory(void **state)
{
    (void)state;
    struct os_listener *listener;
    struct error error = {0};
    struct os_listener_options options = {.path = "/no/such/directory/control"};
    assert_int_equal(os_loop_create(&ends.loop, NULL), 0);
    assert_int_equal(
        os_listener_open(&listener, ends.loop, &options, &listener_events, NULL, &error), -ENOENT);
    assert_non_null(strstr(error.message, "/no/such/directory/control"));
    os_loop_destroy(ends.loop);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_conversation), TEST(test_stale_and_alive), TEST(test_file_of_another),
        TEST(test_nobody),       TEST(test_long_path),       TEST(test_no_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
