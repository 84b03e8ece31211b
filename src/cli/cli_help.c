/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/cli.h"

#ifndef TUTTI_VERSION
#define TUTTI_VERSION "unknown"
#endif

static const char overview[] = "tutti: a durable database that every Redis client can talk to.\n"
                               "\n";

static const char overview_node[] =
    "On a machine\n"
    "  tutti start [options]     start a node and serve (tutti start --help explains every "
    "option)\n"
    "  tutti status [options]    ask a running node how it is (--json for programs)\n"
    "  tutti check DIR           verify what a stopped node left on its disk\n"
    "  tutti demo [--keep]       three nodes on this machine, and a tour of what they do\n"
    "  tutti help [COMMAND]      this text, or that of a command\n"
    "  tutti help commands       every command of the Redis protocol (--markdown: as a document)\n"
    "  tutti version             which version this is\n"
    "\n"
    "On a running cluster, through a node of this machine\n";

static const char overview_end[] =
    "\n"
    "Begin with: tutti start   and, in another terminal: redis-cli\n"
    "\n"
    "Exit codes: 0 done; 1 failed, the message says why; 2 wrong usage; 3 a running node's disk "
    "failed;\n"
    "4 tutti check found damage; 5 a node could not be asked.\n";

int cli_version(void)
{
    (void)printf("tutti %s\n", TUTTI_VERSION);
    return CLI_EXIT_OK;
}

static int help_commands(int argument_count, const char *const *arguments)
{
    bool is_markdown = argument_count == 1 && strcmp(arguments[0], "--markdown") == 0;
    if (argument_count > 1 || (argument_count == 1 && !is_markdown)) {
        (void)fputs("Usage: tutti help commands [--markdown]\n", stderr);
        return CLI_EXIT_USAGE;
    }
    return cli_commands_print(stdout, is_markdown) == 0 ? CLI_EXIT_OK : CLI_EXIT_FAILED;
}

int cli_help(int argument_count, const char *const *arguments)
{
    static const char *const help[] = {"--help"};
    bool is_of_itself = argument_count > 0 &&
                        (strcmp(arguments[0], "--help") == 0 || strcmp(arguments[0], "-h") == 0 ||
                         strcmp(arguments[0], "help") == 0);
    if (argument_count == 0 || is_of_itself) {
        (void)fputs(overview, stdout);
        (void)fputs(overview_node, stdout);
        cli_cluster_list(stdout);
        (void)fputs(overview_end, stdout);
        return CLI_EXIT_OK;
    }
    if (strcmp(arguments[0], "start") == 0) {
        return cli_start(1, help, NULL);
    }
    if (strcmp(arguments[0], "commands") == 0) {
        return help_commands(argument_count - 1, arguments + 1);
    }
    if (strcmp(arguments[0], "status") == 0) {
        return cli_status(1, help);
    }
    if (strcmp(arguments[0], "check") == 0) {
        return cli_check(1, help);
    }
    if (strcmp(arguments[0], "demo") == 0) {
        return cli_demo(1, help);
    }
    int exit_code = cli_cluster(arguments[0], 1, help);
    if (exit_code >= 0) {
        return exit_code;
    }
    (void)fprintf(stderr, "tutti help: there is no command \"%s\". Try: tutti help\n",
                  arguments[0]);
    return CLI_EXIT_USAGE;
}
