/* SPDX-License-Identifier: Apache-2.0 */
/* Asking a node through the control socket of its data directory, and saying why that failed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli_internal.h"
#include "driver/http/http.h"
#include "gateway/control/control.h"

enum { PATH_SIZE = 4096, TARGET_SIZE = 64 };

static bool find_socket(const struct cli__options *options, char path[PATH_SIZE],
                        struct error *error)
{
    int length = snprintf(path, PATH_SIZE, "%s/" CONTROL_SOCKET_NAME, options->data);
    if (length < 0 || length >= PATH_SIZE) {
        (void)error_set(error, -ENAMETOOLONG, "%.100s…", options->data);
        return false;
    }
    return true;
}

/* What went wrong before the node could answer, and what to do. */
static int explain(const struct cli__options *options, int status, struct error *error)
{
    const char *data = options->data;
    switch (status) {
    case -ENOENT:
        if (access(data, F_OK) != 0) {
            return error_say(error, status,
                             "there is no directory %s; name that of a running node with --data "
                             "DIR (or TUTTI_DATA)",
                             data);
        }
        return error_say(error, status,
                         "no node runs on %s: there is no control socket in it. Start one with "
                         "`tutti start --data %s`, or name another directory with --data",
                         data, data);
    case -ECONNREFUSED:
        return error_say(error, status,
                         "no node runs on %s any more: what it left is still there. Start it with "
                         "`tutti start --data %s`",
                         data, data);
    case -EACCES:
    case -EPERM:
        return error_say(error, status,
                         "no permission to speak with the node on %s: only the user who started it "
                         "may (try sudo -u)",
                         data);
    case -ETIMEDOUT:
        return error_say(error, status,
                         "the node on %s does not answer in time; what was asked for may still be "
                         "done",
                         data);
    default:
        return status;
    }
}

int cli__ask_quietly(const struct cli__options *options, const char *verb, struct json *arguments,
                     struct json **answer, struct buffer *text, int *http_status,
                     struct error *error)
{
    char path[PATH_SIZE];
    char target[TARGET_SIZE];
    struct buffer body = {0};
    struct http_answer got = {0};
    int status = find_socket(options, path, error) ? 0 : -ENAMETOOLONG;
    if (status == 0) {
        (void)snprintf(target, sizeof target, "/v1/%s", verb);
        if (arguments != NULL) {
            json_write(arguments, &body);
        }
        const struct http_question question = {.path = path,
                                               .target = target,
                                               .is_post = true,
                                               .body = buffer_bytes(&body),
                                               .timeout_ms = options->timeout_ms};
        status = http_ask(&question, &got, error);
        status = status == 0 ? 0 : explain(options, status, error);
    }
    json_destroy(arguments);
    buffer_deinit(&body);
    if (status != 0) {
        return status;
    }
    status = json_parse(answer, buffer_bytes(&got.body), error);
    if (status != 0 || !json_is_keyed(*answer)) {
        if (status == 0) {
            json_destroy(*answer);
        }
        *answer = NULL;
        buffer_deinit(&got.body);
        return error_say(error, ERROR_PROTOCOL, "what answers at %s is not a tutti", path);
    }
    *text = got.body;
    *http_status = got.status;
    return 0;
}

int cli__ask(const struct cli__options *options, const char *verb, struct json *arguments,
             struct json **answer, struct buffer *text)
{
    struct error error = {0};
    int http_status = 0;
    int status = cli__ask_quietly(options, verb, arguments, answer, text, &http_status, &error);
    if (status != 0) {
        (void)fprintf(stderr, "tutti %s: %s\n", options->command, error.message);
        return CLI_EXIT_NO_ANSWER;
    }
    if (http_status == 200) {
        return CLI_EXIT_OK;
    }
    if (options->is_json) {
        cli__print_json(text);
    }
    struct buffer message = {0};
    cli__append(&message, CLI__PLAIN, false, "tutti %s: %s\n", options->command,
                json_text(json_get(*answer, "error"), "the node refused"));
    (void)fwrite(message.data, 1, message.size_bytes, stderr);
    buffer_deinit(&message);
    json_destroy(*answer);
    buffer_deinit(text);
    *answer = NULL;
    return http_status == 504 ? CLI_EXIT_NO_ANSWER : CLI_EXIT_FAILED;
}

void cli__print_json(const struct buffer *text)
{
    (void)fwrite(text->data, 1, text->size_bytes, stdout);
    if (text->size_bytes == 0 || text->data[text->size_bytes - 1] != '\n') {
        (void)fputc('\n', stdout);
    }
}
