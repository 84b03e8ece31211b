/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the Redis protocol, from the tables in which the node itself looks them up: the
 * gateway's own, and those of the state machine. As a document this is docs/commands.md; the tidy
 * test compares the two. */
#include <ctype.h>

#include "base/assert/assert.h"
#include "cli/cli.h"
#include "gateway/resp/resp.h"
#include "service/kv/kv.h"

enum { SUMMARY_COLUMN = 44, COMMAND_COUNT_MAX = 512 };

/* In order of name, each name once. */
struct commands {
    const struct kv_command *items[COMMAND_COUNT_MAX];
    uint32_t count;
};

static const char *const titles[KV_FAMILY_COUNT] = {
    [KV_FAMILY_STRING] = "Strings",
    [KV_FAMILY_KEY] = "Keys",
    [KV_FAMILY_HASH] = "Hashes",
    [KV_FAMILY_TRANSACTION] = "Transactions",
    [KV_FAMILY_CONNECTION] = "Connections",
    [KV_FAMILY_SERVER] = "The server",
};

static const char head[] =
    "# Commands\n"
    "\n"
    "<!-- Written by `tutti help commands --markdown`; `make check` compares. -->\n"
    "\n"
    "Every command of the Redis protocol that this version has, with all options of Redis 7.2: %u "
    "in\n"
    "all. Replies, their RESP2 and RESP3 types and the error texts are those of Redis. Every write "
    "is\n"
    "durable before it is answered. Differences are listed [at the "
    "end](#differences-from-redis).\n";

static const char tail[] =
    "\n"
    "## Differences from Redis\n"
    "\n"
    "- Limits: a key or a hash's field has at most 65,535 bytes, a value 512 MiB.\n"
    "- There is one database: `SELECT 0` works, any other number is refused.\n"
    "- `SCAN` and `HSCAN` keep no state. A cursor is a position in a fixed order, so what exists "
    "during\n"
    "  the whole walk is returned exactly once. `COUNT` bounds the rows that a call visits, "
    "matching or\n"
    "  not, also in a small hash, which Redis returns whole.\n"
    "- Whatever has expired is never seen. `DBSIZE` may count it until it is removed, as in "
    "Redis.\n"
    "- `KEYS`, `HGETALL`, `HKEYS` and `HVALS` hold their answer in memory, and nothing else of "
    "what they\n"
    "  walk over. An answer has a limit (an eighth of `--memory`, at most 1023 MiB), beyond which "
    "it "
    "is an error.\n"
    "- Deleting a hash takes the same time whatever its size; `UNLINK` is the same as `DEL`, and\n"
    "  `FLUSHALL ASYNC` the same as `FLUSHALL`. Space comes back in the background.\n"
    "- `COPY` of a hash copies its fields in one command: a million of them takes seconds, memory\n"
    "  for all of them, and keeps others waiting. So does `RENAME` of a hash to a name in another "
    "slot;\n"
    "  within a slot (`{tag}`) it is O(1).\n"
    "- `RANDOMKEY` and `HRANDFIELD` are nearly uniform. `HRANDFIELD` draws at most 65,536 fields "
    "that may\n"
    "  repeat (a negative count).\n"
    "- `WATCH` compares versions: a key that did not exist then and does not exist at `EXEC` "
    "counts "
    "as\n"
    "  unchanged, whatever happened between. `MEMORY USAGE` cannot be queued in `MULTI`.\n"
    "- `OBJECT` tells how Redis would hold a value; `MEMORY USAGE` estimates what it takes on "
    "disk, "
    "before\n"
    "  compression.\n";

/* Insert, unless a command of that name is there. */
static void add(struct commands *commands, const struct kv_command *command)
{
    uint32_t place = 0;
    int order = -1;
    while (place < commands->count &&
           (order = strcmp(commands->items[place]->name, command->name)) < 0) {
        place++;
    }
    if (place < commands->count && order == 0) {
        return;
    }
    ASSERT(commands->count < COMMAND_COUNT_MAX);
    memmove(&commands->items[place + 1], &commands->items[place],
            (commands->count - place) * sizeof commands->items[0]);
    commands->items[place] = command;
    commands->count++;
}

static void gather(struct commands *commands)
{
    commands->count = 0;
    for (uint32_t i = 0; i < resp_command_count(); i++) {
        add(commands, resp_command_at(i)); /* The gateway answers these before the machine does. */
    }
    for (uint32_t i = 0; i < kv_command_count(); i++) {
        add(commands, kv_command_at(i));
    }
}

static void print_upper(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        (void)fputc(toupper((unsigned char)*text), file);
    }
}

/* A cell of a table: a bar would end it. */
static void print_cell(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|') {
            (void)fputc('\\', file);
        }
        (void)fputc(*text, file);
    }
}

static void print_for_documents(FILE *file, const struct kv_command *command)
{
    (void)fputs("| `", file);
    print_upper(file, command->name);
    if (command->syntax[0] != '\0') {
        (void)fputc(' ', file);
        print_cell(file, command->syntax);
    }
    (void)fputs("` | ", file);
    print_cell(file, command->summary);
    (void)fputs(" | ", file);
    print_cell(file, command->complexity);
    (void)fprintf(file, " | %s |\n", command->since);
}

static void print_for_people(FILE *file, const struct kv_command *command)
{
    (void)fputs("  ", file);
    print_upper(file, command->name);
    size_t width = 2 + strlen(command->name);
    if (command->syntax[0] != '\0') {
        (void)fprintf(file, " %s", command->syntax);
        width += 1 + strlen(command->syntax);
    }
    /* A long one has its summary on a line of its own. */
    if (width + 2 > SUMMARY_COLUMN) {
        (void)fputc('\n', file);
        width = 0;
    }
    (void)fprintf(file, "%*s%s\n", (int)(SUMMARY_COLUMN - width), "", command->summary);
}

static void print_family(FILE *file, const struct commands *commands, enum kv_family family,
                         bool is_markdown)
{
    if (is_markdown) {
        (void)fprintf(file,
                      "\n## %s\n\n| Command | What it does | Complexity | Redis |\n"
                      "|---|---|---|---|\n",
                      titles[family]);
    } else {
        (void)fprintf(file, "%s%s\n", family == 0 ? "" : "\n", titles[family]);
    }
    for (uint32_t i = 0; i < commands->count; i++) {
        const struct kv_command *command = commands->items[i];
        if (command->family != family) {
            continue;
        }
        if (is_markdown) {
            print_for_documents(file, command);
        } else {
            print_for_people(file, command);
        }
    }
}

int cli_commands_print(FILE *file, bool is_markdown)
{
    struct commands commands;
    gather(&commands);
    if (is_markdown) {
        (void)fprintf(file, head, commands.count);
    }
    for (int family = 0; family < KV_FAMILY_COUNT; family++) {
        print_family(file, &commands, (enum kv_family)family, is_markdown);
    }
    if (is_markdown) {
        (void)fputs(tail, file);
    }
    return ferror(file) == 0 && fflush(file) == 0 ? 0 : -EIO;
}
