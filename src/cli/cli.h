/* SPDX-License-Identifier: Apache-2.0 */
/* cli: the commands of the `tutti` binary. Layer: cli.
 *
 * Each function is one command: it gets the arguments after its name and returns the process's exit
 * code. What a person asked for goes to standard output, why it failed to standard error, with what
 * to do next. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "base/error/error.h"

/* Exit codes besides those of `tutti start` (node.h). */
enum cli_exit {
    CLI_EXIT_OK = 0,
    CLI_EXIT_FAILED = 1,
    CLI_EXIT_USAGE = 2,
    CLI_EXIT_DAMAGED = 4,   /* `tutti check` found damage. */
    CLI_EXIT_NO_ANSWER = 5, /* Of a command about a cluster: the node could not be asked. */
};

int cli_start(int argument_count, const char *const *arguments, const char *const *environment);
int cli_status(int argument_count, const char *const *arguments);
int cli_check(int argument_count, const char *const *arguments);
/* Becomes the program that takes the tour. */
int cli_demo(int argument_count, const char *const *arguments);
/* A command about a running cluster, by name; -1: there is none. */
int cli_cluster(const char *name, int argument_count, const char *const *arguments);
/* Write a line for each of them. */
void cli_cluster_list(FILE *file);
int cli_help(int argument_count, const char *const *arguments);
int cli_version(void);

/* Write all commands of the Redis protocol: for people, or as docs/commands.md. 0, or -EIO. */
MUST_USE int cli_commands_print(FILE *file, bool is_markdown);

#endif
