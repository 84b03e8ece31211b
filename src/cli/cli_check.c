/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/cli.h"
#include "node/node.h"

int cli_check(int argument_count, const char *const *arguments)
{
    bool is_help = argument_count > 0 &&
                   (strcmp(arguments[0], "--help") == 0 || strcmp(arguments[0], "-h") == 0);
    if (argument_count != 1 || is_help) {
        (void)fprintf(
            is_help ? stdout : stderr,
            "Usage: tutti check DIR\n\n"
            "Verify the log and the store in the data directory DIR of a stopped node: every\n"
            "checksum, every row, and that the log goes on where the store ends. Nothing is\n"
            "changed.\n\n"
            "Exit codes\n"
            "  0  whole\n"
            "  1  could not be checked; the message says why\n"
            "  2  wrong usage\n"
            "  4  damaged\n");
        return is_help ? CLI_EXIT_OK : CLI_EXIT_USAGE;
    }
    struct error error = {0};
    int status = node_check(arguments[0], &error);
    if (status == 0) {
        (void)printf("%s is whole.\n", arguments[0]);
        return CLI_EXIT_OK;
    }
    (void)fprintf(stderr, "tutti check: %s\n", error.message);
    return status == ERROR_CORRUPT ? CLI_EXIT_DAMAGED : CLI_EXIT_FAILED;
}
