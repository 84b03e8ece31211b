/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti recover`: what may be lost is said before anything is done, and a person has to type a word
 * to go on. */
#include <string.h>
#include <unistd.h>

#include "cli/cli_internal.h"

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
        if (strcmp(outcome, "whole") != 0) {
            cli__append(output, is_lost ? CLI__RED : CLI__YELLOW, is_coloured, "  shard %s: %s",
                        cli__whole(json_get(shard, "id"), number),
                        json_text(json_get(shard, "text"),
                                  is_lost ? "no copy is left" : "the newest writes may be lost"));
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
    cli__append(output, CLI__RED, is_coloured,
                "The cluster has lost its majority. This is what recovering it would do.");
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

static int carry_out(const struct cli__options *options, const char *plan)
{
    struct json *answer = NULL;
    struct buffer text = {0};
    struct buffer output = {0};
    struct json *arguments = json_object_create();
    json_set_text(arguments, "plan", plan);
    json_set_boolean(arguments, "confirm", true);
    int exit_code = cli__ask(options, "recover", arguments, &answer, &text);
    if (exit_code != CLI_EXIT_OK) {
        return exit_code;
    }
    if (options->is_json) {
        cli__print_json(&text);
    } else {
        cli__append(&output, CLI__PLAIN, false, "%s\n",
                    json_text(json_get(answer, "text"), "Recovered."));
        cli__print(&output);
    }
    json_destroy(answer);
    buffer_deinit(&text);
    buffer_deinit(&output);
    return CLI_EXIT_OK;
}

int cli__recover(const struct cli__options *options)
{
    struct json *plan = NULL;
    struct buffer text = {0};
    struct buffer output = {0};
    int exit_code = cli__ask(options, "recover", NULL, &plan, &text);
    if (exit_code != CLI_EXIT_OK) {
        return exit_code;
    }
    if (options->is_json && !options->is_yes) {
        cli__print_json(&text); /* The plan alone: a program gives it back when it wants it done. */
        exit_code = CLI_EXIT_FAILED;
    } else {
        if (!options->is_json) {
            append_plan(&output, plan, cli__is_coloured());
            cli__print(&output);
        }
        exit_code = options->is_yes || is_confirmed()
                        ? carry_out(options, json_text(json_get(plan, "plan"), ""))
                        : CLI_EXIT_FAILED;
    }
    json_destroy(plan);
    buffer_deinit(&text);
    buffer_deinit(&output);
    return exit_code;
}
