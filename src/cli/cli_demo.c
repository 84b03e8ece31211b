/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti demo`: the tour of a cluster on this machine is a program of its own (tools/demo), which stands beside this
 * one: where it was built, or where `make install` has put it. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { ARGUMENT_COUNT_MAX = 8 };

static const char usage[] =
    "Usage: tutti demo [--keep] [--data DIR]\n"
    "\n"
    "Start three nodes on this machine and take a tour: write at one node, read at another, kill "
    "the leader under\n"
    "load and see how long the pause is, bring it back, add a fourth node, empty one. It needs "
    "Python 3 and its\n"
    "package redis (Debian: python3-redis).\n"
    "\n"
    "  --keep      leave the cluster running and say how to reach it\n"
    "  --data DIR  where the nodes keep their data: a new or empty directory, or that of an\n"
    "              earlier tour, which is removed\n"
    "\n"
    "Exit codes: 0 all went as it should; 1 it did not, the message says what; 2 wrong usage.\n";

/* Beside the folder that the binary is in. */
static const char *const places[] = {"/../libexec/tutti/demo", "/../tools/demo"};

static bool find_script(const char *binary, char script[PATH_MAX])
{
    const char *end = strrchr(binary, '/');
    for (size_t i = 0; end != NULL && i < sizeof places / sizeof places[0]; i++) {
        int length = snprintf(script, PATH_MAX, "%.*s%s", (int)(end - binary), binary, places[i]);
        if (length > 0 && length < PATH_MAX && access(script, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_usage(int argument_count, const char *const *arguments)
{
    for (int i = 0; i < argument_count; i++) {
        bool has_value = strcmp(arguments[i], "--data") == 0 && i + 1 < argument_count;
        if (!has_value && strcmp(arguments[i], "--keep") != 0) {
            return false;
        }
        i += has_value;
    }
    return argument_count <= ARGUMENT_COUNT_MAX;
}

int cli_demo(int argument_count, const char *const *arguments)
{
    bool is_help = argument_count == 1 &&
                   (strcmp(arguments[0], "--help") == 0 || strcmp(arguments[0], "-h") == 0);
    if (is_help || !is_usage(argument_count, arguments)) {
        (void)fputs(usage, is_help ? stdout : stderr);
        return is_help ? CLI_EXIT_OK : CLI_EXIT_USAGE;
    }
    char binary[PATH_MAX];
    char script[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", binary, sizeof binary - 1);
    binary[length > 0 ? length : 0] = '\0';
    if (!find_script(binary, script)) {
        (void)fprintf(
            stderr, "tutti demo: the tour is not beside this program (libexec/tutti/demo): install "
                    "it with make install, or run make demo in the source\n");
        return CLI_EXIT_FAILED;
    }
    const char *command[ARGUMENT_COUNT_MAX + 4] = {script, "--binary", binary};
    for (int i = 0; i < argument_count; i++) {
        command[i + 3] = arguments[i];
    }
    (void)execv(script, (char *const *)command);
    (void)fprintf(stderr, "tutti demo: run %s: %s; it needs /usr/bin/python3\n", script,
                  strerror(errno));
    return CLI_EXIT_FAILED;
}
