/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/cli.h"
#include "driver/os/os.h"

int main(int argument_count, char **arguments, char **environment)
{
    os_open_standard_files();
    if (argument_count < 2) {
        (void)cli_help(0, NULL);
        return CLI_EXIT_USAGE;
    }
    const char *command = arguments[1];
    const char *const *rest = (const char *const *)arguments + 2;
    int rest_count = argument_count - 2;
    if (strcmp(command, "start") == 0) {
        return cli_start(rest_count, rest, (const char *const *)environment);
    }
    if (strcmp(command, "status") == 0) {
        return cli_status(rest_count, rest);
    }
    if (strcmp(command, "check") == 0) {
        return cli_check(rest_count, rest);
    }
    if (strcmp(command, "demo") == 0) {
        return cli_demo(rest_count, rest);
    }
    int exit_code = cli_cluster(command, rest_count, rest);
    if (exit_code >= 0) {
        return exit_code;
    }
    if (strcmp(command, "version") == 0 || strcmp(command, "--version") == 0) {
        return cli_version();
    }
    if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0 ||
        strcmp(command, "-h") == 0) {
        return cli_help(rest_count, rest);
    }
    (void)fprintf(stderr, "tutti: there is no command \"%s\". Try: tutti help\n", command);
    return CLI_EXIT_USAGE;
}
