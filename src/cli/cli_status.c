/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti status`: asks the admin port of a running node, which answers for people or for programs.
 * Where that port is, is said, or is read from the node's data directory: what is there may be old,
 * so who answers must be the start that wrote it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli_internal.h"
#include "driver/config/config.h"
#include "driver/http/http.h"
#include "driver/json/json.h"
#include "node/node.h"

#define DEFAULT_ADMIN "127.0.0.1:7379"

enum { TIMEOUT_MS = 5000, PATH_SIZE = 4096, FILE_SIZE_BYTES_MAX = 256 };

static const char green[] = "\033[1;32m";
static const char red[] = "\033[1;31m";
static const char bold[] = "\033[1m";
static const char plain[] = "\033[0m";

struct status_options {
    const char *data; /* The directory; NULL: the address was given. */
    struct os_address admin;
    char run[FILE_SIZE_BYTES_MAX + 1]; /* The start that wrote it there. */
    bool is_json;
};

static void print_usage(FILE *file)
{
    (void)fputs(
        "Usage: tutti status [--data DIR | --admin ADDR:PORT] [--json]\n\n"
        "Ask a running node how it is: a verdict first, then figures.\n\n"
        "  --data DIR\n"
        "      The data directory of a node on this machine, which says where its admin port\n"
        "      is. Variable: TUTTI_DATA.\n"
        "  --admin ADDR:PORT\n"
        "      Where its admin port is. Default: " DEFAULT_ADMIN ". Variable: TUTTI_ADMIN,\n"
        "      which counts before TUTTI_DATA.\n"
        "  --json\n"
        "      For programs: \"ready\" (clients are served), \"well\" (nobody needs to do\n"
        "      anything), \"verdict\", \"metrics\".\n\n"
        "Exit codes\n"
        "  0  it answered and is well\n"
        "  1  it did not answer, or is not well (starting, stopping, disk full); the\n"
        "     message says why\n"
        "  2  wrong usage\n",
        file);
}

static void say_no_answer(const struct status_options *options, const struct error *error)
{
    char text[OS_ADDRESS_TEXT_SIZE];
    if (options->data != NULL) {
        (void)fprintf(
            stderr,
            "tutti status: no node runs on %s: its admin port was %s, where nobody answers "
            "(%s)\n"
            "Start it with: tutti start --data %s\n",
            options->data, os_address_format(&options->admin, text), error->message, options->data);
    } else {
        (void)fprintf(stderr,
                      "tutti status: no node answers at %s: %s\n"
                      "Is it running (tutti start), and is this its admin port (--admin)?\n",
                      os_address_format(&options->admin, text), error->message);
    }
}

static int get(const struct status_options *options, const char *page, struct buffer *body)
{
    struct http_answer answer = {0};
    struct error error = {0};
    char text[OS_ADDRESS_TEXT_SIZE];
    const struct os_address *address = &options->admin;
    int status = http_get(address, page, TIMEOUT_MS, &answer, &error);
    if (status != 0) {
        say_no_answer(options, &error);
        return status;
    }
    if (answer.status != 200) {
        (void)fprintf(stderr, "tutti status: %s answers %d to %s: is it a tutti?\n",
                      os_address_format(address, text), answer.status, page);
        buffer_deinit(&answer.body);
        return -EPROTO;
    }
    *body = answer.body;
    return 0;
}

/* What the JSON says; -EPROTO when it is of something else. */
static int read_verdict(const struct status_options *options, struct bytes body, bool *is_well)
{
    struct json *json = NULL;
    struct error error = {0};
    char text[OS_ADDRESS_TEXT_SIZE];
    (void)os_address_format(&options->admin, text);
    int status = json_parse(&json, body, &error);
    if (status == 0 && json_get(json, "verdict") == NULL) {
        status = -EPROTO;
    }
    if (status != 0) {
        (void)fprintf(stderr, "tutti status: what answers at %s is not a tutti\n", text);
    } else if (options->data != NULL &&
               strcmp(json_text(json_get(json, "run"), ""), options->run) != 0) {
        status = -ESRCH;
        (void)fprintf(stderr,
                      "tutti status: no node runs on %s any more: at %s, where its admin port was, "
                      "another one answers\n",
                      options->data, text);
    } else {
        *is_well = json_flag(json_get(json, "well"), false);
    }
    json_destroy(json);
    return status;
}

/* The first line is the verdict; a line that is not indented is a title. */
static void print_coloured(struct bytes text, bool is_well)
{
    const char *at = (const char *)text.data;
    const char *end = at + text.size_bytes;
    const char *colour = is_well ? green : red;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop == NULL ? end : stop;
        bool is_title = at < stop && *at != ' ';
        (void)printf("%s%.*s%s\n", is_title ? colour : "", (int)(stop - at), at,
                     is_title ? plain : "");
        colour = bold;
        at = stop + 1;
    }
}

static int show(const struct status_options *options)
{
    struct buffer json = {0};
    struct buffer text = {0};
    bool is_well = false;
    int status = get(options, "/status", &json);
    if (status == 0) {
        status = read_verdict(options, buffer_bytes(&json), &is_well);
    }
    if (status == 0 && options->is_json) {
        (void)fwrite(json.data, 1, json.size_bytes, stdout);
    } else if (status == 0) {
        status = get(options, "/status.txt", &text);
    }
    if (status == 0 && !options->is_json) {
        if (cli__is_coloured()) {
            print_coloured(buffer_bytes(&text), is_well);
        } else {
            (void)fwrite(text.data, 1, text.size_bytes, stdout);
        }
    }
    buffer_deinit(&json);
    buffer_deinit(&text);
    return status == 0 && is_well ? CLI_EXIT_OK : CLI_EXIT_FAILED;
}

/* Where the node on that directory said that its admin port is. */
static int find_admin(struct status_options *options)
{
    char path[PATH_SIZE];
    struct buffer content = {0};
    struct error error = {0};
    const char *data = options->data;
    int length = snprintf(path, sizeof path, "%s/" NODE_ADMIN_FILE_NAME, data);
    if (length < 0 || (size_t)length >= sizeof path) {
        (void)fprintf(stderr, "tutti status: %.100s…: the name is too long\n", data);
        return CLI_EXIT_USAGE;
    }
    int status = os_file_read(path, FILE_SIZE_BYTES_MAX, &content, &error);
    buffer_append_byte(&content, '\0');
    if (status == -ENOENT) {
        (void)fprintf(stderr,
                      "tutti status: no node ran on %s yet; name another directory with --data, or "
                      "the admin port with --admin\n",
                      data);
    } else if (status != 0) {
        (void)fprintf(stderr, "tutti status: %s\n", error.message);
    } else {
        char *address = (char *)content.data;
        char *blank = address + strcspn(address, " ");
        if (*blank == ' ') {
            *blank = '\0';
            (void)snprintf(options->run, sizeof options->run, "%.*s", (int)strcspn(blank + 1, "\n"),
                           blank + 1);
        }
        status = os_address_parse(&options->admin, address, &error);
        if (status != 0) {
            (void)fprintf(stderr, "tutti status: %s is damaged; use --admin\n", path);
        }
    }
    buffer_deinit(&content);
    return status == 0 ? CLI_EXIT_OK : CLI_EXIT_FAILED;
}

/* Where the node is: what was said before what is in the environment. */
static int find_node(struct status_options *options, const char *admin)
{
    struct error error = {0};
    const char *data_variable = getenv("TUTTI_DATA");
    const char *admin_variable = getenv("TUTTI_ADMIN");
    bool has_data = data_variable != NULL && data_variable[0] != '\0';
    bool has_admin = admin_variable != NULL && admin_variable[0] != '\0';
    if (admin == NULL && options->data == NULL) {
        admin = has_admin ? admin_variable : has_data ? NULL : DEFAULT_ADMIN;
        options->data = admin == NULL ? data_variable : NULL;
    }
    if (admin == NULL) {
        return find_admin(options);
    }
    if (os_address_parse(&options->admin, admin, &error) != 0) {
        (void)fprintf(stderr, "tutti status: --admin: %s\n", error.message);
        return CLI_EXIT_USAGE;
    }
    return CLI_EXIT_OK;
}

static void say_wrong(const char *word, bool has_value, bool has_place)
{
    bool is_place = strncmp(word, "--admin", sizeof "--admin" - 1) == 0 ||
                    strncmp(word, "--data", sizeof "--data" - 1) == 0;
    if (is_place && has_place) {
        (void)fputs("tutti status: --data and --admin are two nodes: name one\n", stderr);
    } else if (is_place && !has_value) {
        (void)fprintf(stderr, "tutti status: %s needs a value\n", word);
    } else {
        (void)fprintf(stderr, "tutti status: there is no option \"%s\"\n", word);
    }
}

int cli_status(int argument_count, const char *const *arguments)
{
    const char *admin = NULL;
    struct status_options options = {0};
    for (int i = 0; i < argument_count; i++) {
        bool has_value = i + 1 < argument_count;
        if (strcmp(arguments[i], "--json") == 0) {
            options.is_json = true;
        } else if (strcmp(arguments[i], "--admin") == 0 && has_value && options.data == NULL) {
            admin = arguments[++i];
        } else if (strncmp(arguments[i], "--admin=", sizeof "--admin=" - 1) == 0 &&
                   options.data == NULL) {
            admin = arguments[i] + sizeof "--admin=" - 1;
        } else if (strcmp(arguments[i], "--data") == 0 && has_value && admin == NULL) {
            options.data = arguments[++i];
        } else if (strncmp(arguments[i], "--data=", sizeof "--data=" - 1) == 0 && admin == NULL) {
            options.data = arguments[i] + sizeof "--data=" - 1;
        } else {
            bool is_help = strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0;
            if (!is_help) {
                say_wrong(arguments[i], has_value, options.data != NULL || admin != NULL);
            }
            print_usage(is_help ? stdout : stderr);
            return is_help ? CLI_EXIT_OK : CLI_EXIT_USAGE;
        }
    }
    int exit_code = find_node(&options, admin);
    return exit_code == CLI_EXIT_OK ? show(&options) : exit_code;
}
