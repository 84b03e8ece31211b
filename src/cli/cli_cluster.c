/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about a running cluster, as data: each asks a node through the socket in its data
 * directory. */
#include <stdlib.h>
#include <string.h>

#include "base/number/number.h"
#include "cli/cli_internal.h"

#define DEFAULT_DATA "tutti-data"

static const struct cli__command commands[] = {
    {"nodes", "", "the nodes: state, health, what they hold and do",
     "A star marks the node that was asked; it asks the others, a second at most. Reads and writes "
     "are\n"
     "per second, of a node's own clients over the last five seconds; p99 is of the one before it. "
     "Lag\n"
     "is for how long a replica has lacked something. What is not known is -.",
     CLI__FLAG_ALL, 0, 0, cli__nodes},
    {"shards", "", "the shards: ranges, replicas, leaders, sizes, loads",
     "Of the replicas, the leader has a star; ~ is a learner, + one that is behind, ! one that\n"
     "cannot be reached or is damaged. Size is an estimate of the store, compressed; lag is in "
     "entries.",
     CLI__FLAG_NODE, 0, 0, cli__shards},
    {"why", "[SHARD]", "why a shard, or the cluster, is not as it should be, and what comes next",
     NULL, 0, 0, 1, cli__why},
    {"top", "", "a live view: nodes, throughput, latency, lag, moves; q quits",
     "Where the output is no terminal, it is written once.", CLI__FLAG_INTERVAL, 0, 0, cli__top},
    {"audit", "", "what was done to the cluster, the newest last", NULL, CLI__FLAG_COUNT, 0, 0,
     cli__audit},
    {"token", "", "make a token with which a node can join",
     "The token goes to standard output, and how to use it to standard error. Whoever has it can\n"
     "join: carry it as you would a password.",
     CLI__FLAG_TTL | CLI__FLAG_USES, 0, 0, cli__token},
    {"drain", "NODE", "move everything away from a node, so that it can be removed",
     "Service goes on. Without --wait the command returns when draining has begun.",
     CLI__FLAG_WAIT | CLI__FLAG_CANCEL, 1, 1, cli__drain},
    {"remove", "NODE", "remove a node from the cluster for good",
     "A node that is not drained is refused: it may have the only copy of something. One that is\n"
     "dead for good is removed with --force; one that runs, and that some shard needs for its\n"
     "majority, is not.",
     CLI__FLAG_FORCE, 1, 1, cli__remove},
    {"transfer", "SHARD NODE", "let another replica lead a shard",
     "Any node can be asked. Returns when it leads; one that leads already is no failure.", 0, 2, 2,
     cli__transfer},
    {"split", "[KEY]", "make two shards of one that has become too large or too busy",
     "The shard that has the key is split at the key's slot, where the new one begins; or, with "
     "--shard,\n"
     "that one in its middle. Service goes on. The new shard has its replicas where the old one "
     "has\n"
     "them, and moves by itself. Shards cannot be joined again. Returns when it is done.",
     CLI__FLAG_SHARD | CLI__FLAG_AT | CLI__FLAG_NO_WAIT, 0, 1, cli__split},
    {"replicas", "N", "how many replicas everything should have: 1, 3 or 5", NULL, 0, 1, 1,
     cli__replicas},
    {"recover", "", "bring back a cluster that has lost a majority of its nodes for good",
     "Works on the data directory of a stopped node that survived, which goes on alone; of "
     "several\n"
     "take the one whose last entries are the newest. Says first exactly what may be lost, and "
     "asks. All\n"
     "other nodes are fenced: they can never come back with what they had. Never use it when "
     "those\n"
     "nodes can be started again.",
     CLI__FLAG_YES, 0, 0, cli__recover},
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const struct {
    const char *name;
    enum cli__flag flag;
    const char *unit; /* NULL: none. */
    const char *help;
} flags[] = {
    {"--all", CLI__FLAG_ALL, NULL, "Nodes that were removed as well."},
    {"--node", CLI__FLAG_NODE, "N", "Only shards with a replica on that node."},
    {"--shard", CLI__FLAG_SHARD, "N", "Split this shard."},
    {"--at", CLI__FLAG_AT, "SLOT", "The first slot of the new shard. Default: in the middle."},
    {"--no-wait", CLI__FLAG_NO_WAIT, NULL, "Return when the split is decided."},
    {"--interval", CLI__FLAG_INTERVAL, "SECONDS", "Between two looks. Default: 1."},
    {"--count", CLI__FLAG_COUNT, "N", "How many records. Default: 100; at most 1000."},
    {"--ttl", CLI__FLAG_TTL, "SECONDS", "How long the token is good. Default: 3600, an hour."},
    {"--uses", CLI__FLAG_USES, "N", "How many nodes may join with it. Default: 1."},
    {"--wait", CLI__FLAG_WAIT, NULL, "Return when the node is drained; shows how far it is."},
    {"--cancel", CLI__FLAG_CANCEL, NULL, "Call it off: the node takes part again."},
    {"--force", CLI__FLAG_FORCE, NULL, "Although it is not drained."},
    {"--yes", CLI__FLAG_YES, NULL, "Do not ask."},
};
enum { FLAG_COUNT = sizeof flags / sizeof flags[0] };

/* ---- Help ------------------------------------------------------------------------------------ */

static void print_usage(FILE *file, const struct cli__command *command)
{
    (void)fprintf(file, "Usage: tutti %s%s%s [--data DIR] [--json]", command->name,
                  command->words[0] != '\0' ? " " : "", command->words);
    for (uint32_t i = 0; i < FLAG_COUNT; i++) {
        if ((command->flags & flags[i].flag) != 0) {
            (void)fprintf(file, " [%s%s%s]", flags[i].name, flags[i].unit != NULL ? " " : "",
                          flags[i].unit != NULL ? flags[i].unit : "");
        }
    }
    (void)fputc('\n', file);
}

/* Does it work on what a stopped node left, and not ask one that runs? */
static bool is_offline(const struct cli__command *command)
{
    return command->run == cli__recover;
}

static void print_help(const struct cli__command *command)
{
    print_usage(stdout, command);
    (void)printf("\n%c%s.\n", command->summary[0] - 'a' + 'A', command->summary + 1);
    if (command->detail != NULL) {
        (void)printf("%s\n", command->detail);
    }
    (void)printf("\n  --data DIR\n"
                 "      The data directory of a node %s. Default: " DEFAULT_DATA
                 ".\n      Variable: TUTTI_DATA.\n"
                 "  --json\n"
                 "      For programs: %s (docs/formats/control.md).\n",
                 is_offline(command) ? "that is stopped" : "that runs on this machine",
                 is_offline(command) ? "what would be done" : "what the node answered");
    for (uint32_t i = 0; i < FLAG_COUNT; i++) {
        if ((command->flags & flags[i].flag) != 0) {
            (void)printf("  %s%s%s\n      %s\n", flags[i].name, flags[i].unit != NULL ? " " : "",
                         flags[i].unit != NULL ? flags[i].unit : "", flags[i].help);
        }
    }
    (void)fputs(
        is_offline(command)
            ? "\nExit codes\n"
              "  0  done\n"
              "  1  nothing was done, the message says why; also when it was only shown (--json)\n"
              "  2  wrong usage\n"
            : "\nExit codes\n"
              "  0  done; of what shows the cluster: it is well\n"
              "  1  refused, the message says why; of what shows the cluster: it is not well\n"
              "  2  wrong usage\n"
              "  5  the node could not be asked: it does not run, no permission, no answer in "
              "time\n",
        stdout);
}

void cli_cluster_list(FILE *file)
{
    for (uint32_t i = 0; i < COMMAND_COUNT; i++) {
        int width = fprintf(file, "  tutti %s%s%s", commands[i].name,
                            commands[i].words[0] != '\0' ? " " : "", commands[i].words);
        (void)fprintf(file, "%*s%s\n", width < 28 ? 28 - width : 1, "", commands[i].summary);
    }
}

/* ---- Options --------------------------------------------------------------------------------- */

bool cli__word_number(const struct cli__options *options, uint32_t word, const char *what,
                      uint64_t *number)
{
    const char *text = options->words[word];
    if (number_parse_unsigned(bytes_of_text(text), number) && *number > 0 &&
        *number <= UINT32_MAX) {
        return true;
    }
    (void)fprintf(stderr, "tutti %s: \"%s\" is not the number of a %s\n", options->command, text,
                  what);
    return false;
}

static uint64_t *number_of_flag(struct cli__options *options, enum cli__flag flag)
{
    switch (flag) {
    case CLI__FLAG_TTL:
        return &options->ttl_s;
    case CLI__FLAG_USES:
        return &options->uses;
    case CLI__FLAG_NODE:
        return &options->node;
    case CLI__FLAG_INTERVAL:
        return &options->interval_s;
    case CLI__FLAG_COUNT:
        return &options->count;
    case CLI__FLAG_SHARD:
        return &options->shard;
    case CLI__FLAG_AT:
        return &options->at;
    case CLI__FLAG_NO_WAIT:
    case CLI__FLAG_WAIT:
    case CLI__FLAG_CANCEL:
    case CLI__FLAG_FORCE:
    case CLI__FLAG_YES:
    case CLI__FLAG_ALL:
        break;
    }
    return NULL;
}

static bool *switch_of_flag(struct cli__options *options, enum cli__flag flag)
{
    switch (flag) {
    case CLI__FLAG_WAIT:
        return &options->is_waiting;
    case CLI__FLAG_CANCEL:
        return &options->is_cancelling;
    case CLI__FLAG_FORCE:
        return &options->is_forced;
    case CLI__FLAG_YES:
        return &options->is_yes;
    case CLI__FLAG_ALL:
        return &options->is_all;
    case CLI__FLAG_NO_WAIT:
        return &options->is_not_waiting;
    case CLI__FLAG_TTL:
    case CLI__FLAG_USES:
    case CLI__FLAG_NODE:
    case CLI__FLAG_INTERVAL:
    case CLI__FLAG_COUNT:
    case CLI__FLAG_SHARD:
    case CLI__FLAG_AT:
        break;
    }
    return NULL;
}

struct words {
    const char *const *items;
    int count;
    int place; /* Of the next. */
};

/* Take the option at hand if it is one of the command's own; false: it is not, or is wrong. */
static bool take_flag(const struct cli__command *command, struct words *words, const char *word,
                      struct cli__options *options)
{
    const char *equals = strchr(word, '=');
    struct bytes name =
        equals != NULL ? bytes_make(word, (size_t)(equals - word)) : bytes_of_text(word);
    for (uint32_t i = 0; i < FLAG_COUNT; i++) {
        if ((command->flags & flags[i].flag) == 0 ||
            !bytes_equal(name, bytes_of_text(flags[i].name))) {
            continue;
        }
        bool *is_set = switch_of_flag(options, flags[i].flag);
        if (is_set != NULL && equals == NULL) {
            *is_set = true;
            return true;
        }
        if (is_set != NULL) {
            (void)fprintf(stderr, "tutti %s: %s takes no value\n", command->name, flags[i].name);
            return false;
        }
        const char *value = equals != NULL                ? equals + 1
                            : words->place < words->count ? words->items[words->place++]
                                                          : "";
        uint64_t *number = number_of_flag(options, flags[i].flag);
        if (number_parse_unsigned(bytes_of_text(value), number) && *number > 0) {
            return true;
        }
        (void)fprintf(stderr, "tutti %s: %s needs a number above 0\n", command->name,
                      flags[i].name);
        return false;
    }
    (void)fprintf(stderr, "tutti %s: there is no option \"%s\"\n", command->name, word);
    return false;
}

static bool take_word(const struct cli__command *command, struct words *words,
                      struct cli__options *options)
{
    const char *word = words->items[words->place++];
    if (strcmp(word, "--json") == 0) {
        options->is_json = true;
        return true;
    }
    if (strcmp(word, "--data") == 0) {
        if (words->place == words->count) {
            (void)fprintf(stderr, "tutti %s: --data needs a value: --data DIR\n", command->name);
            return false;
        }
        options->data = words->items[words->place++];
        return true;
    }
    if (strncmp(word, "--data=", sizeof "--data=" - 1) == 0) {
        options->data = word + sizeof "--data=" - 1;
        return true;
    }
    if (word[0] == '-' && word[1] != '\0') {
        return take_flag(command, words, word, options);
    }
    if (options->word_count == command->word_count_max) {
        (void)fprintf(stderr, "tutti %s: \"%s\" is too much\n", command->name, word);
        return false;
    }
    options->words[options->word_count++] = word;
    return true;
}

static int run(const struct cli__command *command, struct words words)
{
    const char *data = getenv("TUTTI_DATA");
    struct cli__options options = {
        .command = command->name,
        .timeout_ms = CLI__TIMEOUT_MS,
        .data = data == NULL || data[0] == '\0' ? DEFAULT_DATA : data,
    };
    for (int i = 0; i < words.count; i++) {
        if (strcmp(words.items[i], "--help") == 0 || strcmp(words.items[i], "-h") == 0) {
            print_help(command);
            return CLI_EXIT_OK;
        }
    }
    while (words.place < words.count) {
        if (!take_word(command, &words, &options)) {
            print_usage(stderr, command);
            return CLI_EXIT_USAGE;
        }
    }
    if (options.word_count < command->word_count_min) {
        (void)fprintf(stderr, "tutti %s: %s is missing\n", command->name, command->words);
        print_usage(stderr, command);
        return CLI_EXIT_USAGE;
    }
    return command->run(&options);
}

int cli_cluster(const char *name, int argument_count, const char *const *arguments)
{
    for (uint32_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return run(&commands[i], (struct words){.items = arguments, .count = argument_count});
        }
    }
    return -1;
}
