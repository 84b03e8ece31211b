/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti status`: asks the admin port of a running node, which answers for people or for
 * programs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "driver/config/config.h"
#include "driver/http/http.h"
#include "driver/json/json.h"

#define DEFAULT_ADMIN "127.0.0.1:7379"

enum { TIMEOUT_MS = 5000 };

static const char green[] = "\033[1;32m";
static const char red[] = "\033[1;31m";
static const char bold[] = "\033[1m";
static const char plain[] = "\033[0m";

struct status_options {
    struct os_address admin;
    bool is_json;
};

static void print_usage(FILE *file)
{
    (void)fputs("Usage: tutti status [--admin ADDR:PORT] [--json]\n\n"
                "Ask a running node how it is: a verdict first, then figures.\n\n"
                "  --admin ADDR:PORT\n"
                "      Where its admin port is. Default: " DEFAULT_ADMIN
                ". Variable: TUTTI_ADMIN.\n"
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

static int get(const struct os_address *address, const char *page, struct buffer *body)
{
    struct http_answer answer = {0};
    struct error error = {0};
    char text[OS_ADDRESS_TEXT_SIZE];
    int status = http_get(address, page, TIMEOUT_MS, &answer, &error);
    if (status != 0) {
        (void)fprintf(stderr,
                      "tutti status: no node answers at %s: %s\n"
                      "Is it running (tutti start), and is this its admin port (--admin)?\n",
                      os_address_format(address, text), error.message);
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
static int read_verdict(const struct os_address *address, struct bytes body, bool *is_well)
{
    struct json *json = NULL;
    struct error error = {0};
    char text[OS_ADDRESS_TEXT_SIZE];
    int status = json_parse(&json, body, &error);
    if (status == 0 && json_get(json, "verdict") == NULL) {
        status = -EPROTO;
    }
    if (status != 0) {
        (void)fprintf(stderr, "tutti status: what answers at %s is not a tutti\n",
                      os_address_format(address, text));
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

static bool is_colour_wanted(void)
{
    const char *no_colour = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) == 1 && (no_colour == NULL || no_colour[0] == '\0');
}

static int show(const struct status_options *options)
{
    struct buffer json = {0};
    struct buffer text = {0};
    bool is_well = false;
    int status = get(&options->admin, "/status", &json);
    if (status == 0) {
        status = read_verdict(&options->admin, buffer_bytes(&json), &is_well);
    }
    if (status == 0 && options->is_json) {
        (void)fwrite(json.data, 1, json.size_bytes, stdout);
    } else if (status == 0) {
        status = get(&options->admin, "/status.txt", &text);
    }
    if (status == 0 && !options->is_json) {
        if (is_colour_wanted()) {
            print_coloured(buffer_bytes(&text), is_well);
        } else {
            (void)fwrite(text.data, 1, text.size_bytes, stdout);
        }
    }
    buffer_deinit(&json);
    buffer_deinit(&text);
    return status == 0 && is_well ? CLI_EXIT_OK : CLI_EXIT_FAILED;
}

int cli_status(int argument_count, const char *const *arguments)
{
    const char *admin = getenv("TUTTI_ADMIN");
    admin = admin == NULL || admin[0] == '\0' ? DEFAULT_ADMIN : admin;
    struct status_options options = {0};
    for (int i = 0; i < argument_count; i++) {
        if (strcmp(arguments[i], "--json") == 0) {
            options.is_json = true;
        } else if (strcmp(arguments[i], "--admin") == 0 && i + 1 < argument_count) {
            admin = arguments[++i];
        } else {
            bool is_help = strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0;
            print_usage(is_help ? stdout : stderr);
            return is_help ? CLI_EXIT_OK : CLI_EXIT_USAGE;
        }
    }
    struct error error = {0};
    if (os_address_parse(&options.admin, admin, &error) != 0) {
        (void)fprintf(stderr, "tutti status: --admin: %s\n", error.message);
        return CLI_EXIT_USAGE;
    }
    return show(&options);
}
