/* SPDX-License-Identifier: Apache-2.0 */
/* What changes the cluster: token, drain, remove, transfer, split, replicas. The node says in a
 * sentence what it did, and that is what people see. */
#include <string.h>
#include <unistd.h>

#include "base/number/number.h"
#include "cli/cli_internal.h"
#include "driver/os/os.h"
#include "service/kv/kv.h"

enum { DRAIN_POLL_MS = 1000, SPLIT_WAIT_MS = 30000 };

/* Write what the node says, and let go of it. */
static void say(const struct cli__options *options, struct json *answer, struct buffer *text)
{
    struct buffer output = {0};
    if (options->is_json) {
        cli__print_json(text);
    } else {
        cli__append(&output, CLI__PLAIN, false, "%s\n",
                    json_text(json_get(answer, "text"), "Done."));
        cli__print(&output);
    }
    json_destroy(answer);
    buffer_deinit(text);
    buffer_deinit(&output);
}

/* Ask, and write what the node says. */
static int change(const struct cli__options *options, const char *verb, struct json *arguments)
{
    struct json *answer = NULL;
    struct buffer text = {0};
    int exit_code = cli__ask(options, verb, arguments, &answer, &text);
    if (exit_code == CLI_EXIT_OK) {
        say(options, answer, &text);
    }
    return exit_code;
}

/* ---- Token ----------------------------------------------------------------------------------- */

static void print_token(const struct json *answer, uint64_t ttl_s)
{
    struct buffer token = {0};
    struct buffer hint = {0};
    char uses[CLI__TEXT_SIZE];
    char until[CLI__TEXT_SIZE];
    cli__append(&token, CLI__PLAIN, false, "%s\n", json_text(json_get(answer, "token"), "?"));
    cli__print(&token);
    (void)fflush(stdout);
    char ttl_text[CLI__TEXT_SIZE];
    struct json *ttl = json_object_create();
    json_set_unsigned(ttl, "ms", ttl_s * 1000);
    bool is_one = json_number(json_get(answer, "uses"), 0) == 1;
    cli__append(&hint, CLI__PLAIN, false,
                "Good for %s (until %s), and for %s node%s. On the new machine:\n"
                "  tutti start --peer ADDR:PORT --join %s --token TOKEN\n",
                cli__duration(json_get(ttl, "ms"), ttl_text),
                cli__time(json_get(answer, "expires_ms"), until),
                cli__whole(json_get(answer, "uses"), uses), is_one ? "" : "s",
                json_text(json_get(answer, "peer"), "HOST:PORT"));
    (void)fwrite(hint.data, 1, hint.size_bytes, stderr);
    json_destroy(ttl);
    buffer_deinit(&token);
    buffer_deinit(&hint);
}

int cli__token(const struct cli__options *options)
{
    struct json *answer = NULL;
    struct buffer text = {0};
    struct json *arguments = json_object_create();
    uint64_t ttl_s = options->ttl_s != 0 ? options->ttl_s : 3600;
    json_set_unsigned(arguments, "ttl_s", ttl_s);
    json_set_unsigned(arguments, "uses", options->uses != 0 ? options->uses : 1);
    int exit_code = cli__ask(options, "token", arguments, &answer, &text);
    if (exit_code != CLI_EXIT_OK) {
        return exit_code;
    }
    if (options->is_json) {
        cli__print_json(&text);
    } else {
        print_token(answer, ttl_s);
    }
    json_destroy(answer);
    buffer_deinit(&text);
    return CLI_EXIT_OK;
}

/* ---- Drain ----------------------------------------------------------------------------------- */

/* What the list of nodes says of one; NULL: it is not there. */
static const struct json *find_node(const struct json *answer, uint64_t id)
{
    const struct json *nodes = json_get(answer, "nodes");
    for (size_t i = 0; json_at(nodes, i) != NULL; i++) {
        const struct json *node = json_at(nodes, i);
        if (json_number(json_get(node, "id"), 0) == (double)id) {
            return node;
        }
    }
    return NULL;
}

/* Look each second until the node is drained. Programs have had their answer: what is refused now is for people. */
static int wait_until_drained(const struct cli__options *given, uint64_t id)
{
    struct cli__options asking = *given;
    const struct cli__options *options = &asking;
    double shown = -1;
    asking.is_json = false;
    for (;;) {
        struct json *answer = NULL;
        struct buffer text = {0};
        struct json *arguments = json_object_create();
        json_set_boolean(arguments, "all", true);
        int exit_code = cli__ask(options, "nodes", arguments, &answer, &text);
        if (exit_code != CLI_EXIT_OK) {
            return exit_code;
        }
        const struct json *node = find_node(answer, id);
        const char *state = json_text(json_get(node, "state"), "gone");
        double left = json_number(json_get(node, "shards"), 0);
        bool is_over = strcmp(state, "draining") != 0;
        bool is_drained = strcmp(state, "drained") == 0;
        if (is_over) {
            (void)fprintf(stderr,
                          is_drained ? "Node %llu is drained.\n"
                                     : "Node %llu is not draining any more.\n",
                          (unsigned long long)id);
        } else if (left != shown) {
            (void)fprintf(stderr, "%.0f shards left\n", left);
            shown = left;
        }
        json_destroy(answer);
        buffer_deinit(&text);
        if (is_over) {
            return is_drained ? CLI_EXIT_OK : CLI_EXIT_FAILED;
        }
        os_sleep_ms(DRAIN_POLL_MS);
    }
}

int cli__drain(const struct cli__options *options)
{
    uint64_t node;
    if (!cli__word_number(options, 0, "node", &node)) {
        return CLI_EXIT_USAGE;
    }
    struct json *arguments = json_object_create();
    json_set_unsigned(arguments, "node", node);
    if (options->is_cancelling) {
        json_set_boolean(arguments, "cancel", true);
    }
    int exit_code = change(options, "drain", arguments);
    if (exit_code == CLI_EXIT_OK && options->is_waiting && !options->is_cancelling) {
        (void)fflush(stdout);
        exit_code = wait_until_drained(options, node);
    }
    return exit_code;
}

/* ---- Split ----------------------------------------------------------------------------------- */

/* NULL: wrong usage, and the message is written. A key may be any bytes, which JSON has no form for, so
 * it is its slot that the node is asked about. */
static struct json *split_arguments(const struct cli__options *options)
{
    bool has_key = options->word_count > 0;
    const char *problem = !has_key && options->shard == 0 ? "KEY is missing, or --shard N"
                          : has_key && options->shard != 0
                              ? "a key and --shard are two shards: name one"
                          : options->at != 0 && options->shard == 0 ? "--at is for --shard"
                                                                    : NULL;
    if (problem != NULL) {
        (void)fprintf(stderr, "tutti split: %s\n", problem);
        return NULL;
    }
    struct json *arguments = json_object_create();
    if (has_key) {
        json_set_unsigned(arguments, "slot", kv_slot_of_key(bytes_of_text(options->words[0])));
    } else {
        json_set_unsigned(arguments, "shard", options->shard);
    }
    if (options->at != 0) {
        json_set_unsigned(arguments, "slot", options->at);
    }
    if (!options->is_not_waiting) {
        json_set_boolean(arguments, "wait", true);
    }
    return arguments;
}

int cli__split(const struct cli__options *options)
{
    struct json *arguments = split_arguments(options);
    if (arguments == NULL) {
        return CLI_EXIT_USAGE;
    }
    uint64_t started_at_ms = os_monotonic_ms();
    for (;;) {
        struct json *answer = NULL;
        struct buffer text = {0};
        int exit_code = cli__ask(options, "split", arguments, &answer, &text);
        if (exit_code != CLI_EXIT_OK) {
            return exit_code;
        }
        bool is_done = json_flag(json_get(answer, "is_done"), true);
        double child = json_number(json_get(answer, "new_shard"), 0);
        double parent = json_number(json_get(answer, "shard"), 0);
        double slot = json_number(json_get(answer, "slot"), 0);
        bool is_late = os_monotonic_ms() >= started_at_ms + SPLIT_WAIT_MS;
        if (is_done || options->is_not_waiting || (is_late && options->is_json)) {
            say(options, answer, &text);
        } else {
            json_destroy(answer);
            buffer_deinit(&text);
        }
        if (is_done || options->is_not_waiting) {
            return CLI_EXIT_OK;
        }
        if (is_late) {
            (void)fprintf(stderr,
                          "tutti split: shard %.0f is not there after %d s. It is made as soon as "
                          "it can be; `tutti why` says what it waits for\n",
                          child, SPLIT_WAIT_MS / 1000);
            return CLI_EXIT_FAILED;
        }
        arguments = json_object_create();
        json_set_unsigned(arguments, "new_shard", (uint64_t)child);
        if (parent > 0 && slot > 0) { /* A number alone may be another's. */
            json_set_unsigned(arguments, "shard", (uint64_t)parent);
            json_set_unsigned(arguments, "slot", (uint64_t)slot);
        }
        json_set_boolean(arguments, "wait", true);
    }
}

/* ---- The others ------------------------------------------------------------------------------ */

int cli__remove(const struct cli__options *options)
{
    uint64_t node;
    if (!cli__word_number(options, 0, "node", &node)) {
        return CLI_EXIT_USAGE;
    }
    struct json *arguments = json_object_create();
    json_set_unsigned(arguments, "node", node);
    if (options->is_forced) {
        json_set_boolean(arguments, "force", true);
    }
    return change(options, "remove", arguments);
}

int cli__transfer(const struct cli__options *options)
{
    uint64_t shard;
    uint64_t node;
    if (!cli__word_number(options, 0, "shard", &shard) ||
        !cli__word_number(options, 1, "node", &node)) {
        return CLI_EXIT_USAGE;
    }
    struct json *arguments = json_object_create();
    json_set_unsigned(arguments, "shard", shard);
    json_set_unsigned(arguments, "node", node);
    return change(options, "transfer", arguments);
}

int cli__replicas(const struct cli__options *options)
{
    const char *word = options->words[0];
    if (strcmp(word, "1") != 0 && strcmp(word, "3") != 0 && strcmp(word, "5") != 0) {
        (void)fprintf(stderr, "tutti replicas: there can be 1, 3 or 5, not \"%s\"\n", word);
        return CLI_EXIT_USAGE;
    }
    struct json *arguments = json_object_create();
    json_set_unsigned(arguments, "replicas", (uint64_t)(word[0] - '0'));
    return change(options, "replicas", arguments);
}
