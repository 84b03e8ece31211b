/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti recover`, on the data directory of a stopped node: what may be lost is said before
 * anything is done, and a person has to type a word to go on. The directory is held meanwhile, so
 * what was said is what is done. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli_internal.h"
#include "driver/os/os.h"
#include "node/node.h"

enum { WORD_SIZE = 64 };

static const char confirmation[] = "recover";

/* "1, 2 and 3" */
static void append_numbers(struct buffer *output, const struct json *numbers)
{
    if (json_at(numbers, 0) == NULL) {
        buffer_append(output, BYTES("none"));
    }
    for (size_t i = 0; json_at(numbers, i) != NULL; i++) {
        char text[CLI__TEXT_SIZE];
        bool is_last = json_at(numbers, i + 1) == NULL;
        buffer_append_format(output, "%s%s",
                             i == 0    ? ""
                             : is_last ? " and "
                                       : ", ",
                             cli__whole(json_at(numbers, i), text));
    }
}

static void count_outcomes(const struct json *shards, uint32_t counts[3])
{
    static const char *const outcomes[] = {"whole", "may_lose", "lost"};
    for (size_t i = 0; json_at(shards, i) != NULL; i++) {
        const char *outcome = json_text(json_get(json_at(shards, i), "outcome"), "lost");
        for (uint32_t j = 0; j < 3; j++) {
            counts[j] += strcmp(outcome, outcomes[j]) == 0;
        }
    }
}

static void append_shards(struct buffer *output, const struct json *shards, bool is_coloured)
{
    for (size_t i = 0; json_at(shards, i) != NULL; i++) {
        const struct json *shard = json_at(shards, i);
        const char *outcome = json_text(json_get(shard, "outcome"), "lost");
        char number[CLI__TEXT_SIZE];
        bool is_lost = strcmp(outcome, "lost") == 0;
        const struct json *newest = json_get(shard, "newest_ms");
        char time[CLI__TEXT_SIZE];
        if (strcmp(outcome, "whole") != 0) {
            cli__append(output, is_lost ? CLI__RED : CLI__YELLOW, is_coloured, "  shard %s: %s",
                        cli__whole(json_get(shard, "id"), number),
                        json_text(json_get(shard, "text"),
                                  is_lost ? "no copy is left" : "the newest writes may be lost"));
            if (newest != NULL) {
                buffer_append_format(output, " (the newest here: %s)", cli__time(newest, time));
            }
            buffer_append_byte(output, '\n');
        }
    }
}

static void append_plan(struct buffer *output, const struct json *plan, bool is_coloured)
{
    const struct json *shards = json_get(plan, "shards");
    const struct json *may_lose = json_get(plan, "may_lose");
    uint32_t counts[3] = {0};
    count_outcomes(shards, counts);
    cli__append(
        output, CLI__RED, is_coloured,
        "For a cluster that has lost a majority of its nodes for good. This would be done:");
    buffer_append(output, BYTES("\n\nFenced, for ever, whatever they still have: nodes "));
    append_numbers(output, json_get(plan, "lost_nodes"));
    buffer_append(output, BYTES("\nGoing on with: nodes "));
    append_numbers(output, json_get(plan, "surviving_nodes"));
    buffer_append_format(output,
                         "\nShards: %u whole, %u may lose their newest writes, %u without a copy\n",
                         counts[0], counts[1], counts[2]);
    append_shards(output, shards, is_coloured);
    buffer_append(output, BYTES("\nWhat may be lost:\n"));
    for (size_t i = 0; json_at(may_lose, i) != NULL; i++) {
        cli__append(output, CLI__PLAIN, false, "  %s\n", json_text(json_at(may_lose, i), "?"));
    }
    if (json_at(may_lose, 0) == NULL) {
        buffer_append(output, BYTES("  nothing\n"));
    }
}

static bool is_confirmed(void)
{
    char word[WORD_SIZE];
    if (isatty(STDIN_FILENO) != 1) {
        (void)fputs("tutti recover: nothing was done. To do it without being asked: --yes\n",
                    stderr);
        return false;
    }
    (void)printf("\nIf any of the fenced nodes can be started again, do that instead.\n"
                 "Type \"%s\" to go on: ",
                 confirmation);
    (void)fflush(stdout);
    if (fgets(word, sizeof word, stdin) == NULL) {
        word[0] = '\0';
    }
    word[strcspn(word, "\n")] = '\0';
    if (strcmp(word, confirmation) == 0) {
        return true;
    }
    (void)fputs("Nothing was done.\n", stdout);
    return false;
}

static int fail(const struct error *error)
{
    (void)fprintf(stderr, "tutti recover: %s\n", error->message);
    return CLI_EXIT_FAILED;
}

static int carry_out(const struct cli__options *options, struct node_salvage *salvage)
{
    struct error error = {0};
    if (node_salvage_carry_out(salvage, &error) != 0) {
        return fail(&error);
    }
    if (!options->is_json) {
        (void)printf(
            "Done. Start the node: it serves alone, refuses the fenced nodes, and writes a record "
            "(tutti audit).\nThen let new nodes join, with empty data directories: tutti "
            "token\n");
    }
    return CLI_EXIT_OK;
}

/* Show the plan, and go on when that is wanted. */
static int propose(const struct cli__options *options, struct node_salvage *salvage)
{
    struct json *plan = node_salvage_plan(salvage);
    struct buffer output = {0};
    if (options->is_json) {
        json_write(plan, &output);
        cli__print_json(&output);
    } else {
        append_plan(&output, plan, cli__is_coloured());
        cli__print(&output);
    }
    json_destroy(plan);
    buffer_deinit(&output);
    bool is_wanted = options->is_yes || (!options->is_json && is_confirmed());
    return is_wanted ? carry_out(options, salvage) : CLI_EXIT_FAILED;
}

int cli__recover(const struct cli__options *options)
{
    struct error error = {0};
    struct node_salvage *salvage = NULL;
    struct os_log_options log_options = {.descriptor = 2, .level = OS_LOG_WARN};
    struct os_log *log = os_log_create(&log_options);
    int status = node_salvage_open(&salvage, options->data, log, &error);
    int exit_code = CLI_EXIT_FAILED;
    if (status == -EBUSY) {
        (void)fprintf(
            stderr,
            "tutti recover: a node runs on %s (%s). Stop it first: while a majority is gone "
            "it can lose nothing by that\n",
            options->data, error.message);
    } else if (status != 0) {
        (void)fail(&error);
    } else {
        exit_code = propose(options, salvage);
        node_salvage_close(salvage);
    }
    os_log_destroy(log);
    return exit_code;
}
