/* SPDX-License-Identifier: Apache-2.0 */
/* What shows the cluster: nodes, shards, why, audit. */
#include <string.h>

#include "cli/cli_internal.h"

#define COLUMN_COUNT(columns) ((uint32_t)(sizeof(columns) / sizeof(columns)[0]))

enum { CELL_SIZE = 512 };

/* Ask, show with `show`, and say by the exit code whether all is well. */
static int view(const struct cli__options *options, const char *verb, struct json *arguments,
                void (*show)(const struct json *answer, struct buffer *output, bool is_coloured))
{
    struct json *answer = NULL;
    struct buffer text = {0};
    struct buffer output = {0};
    int exit_code = cli__ask(options, verb, arguments, &answer, &text);
    if (exit_code != CLI_EXIT_OK) {
        return exit_code;
    }
    bool is_well = json_flag(json_get(answer, "well"), true);
    if (options->is_json) {
        cli__print_json(&text);
    } else {
        show(answer, &output, cli__is_coloured());
        cli__print(&output);
    }
    json_destroy(answer);
    buffer_deinit(&text);
    buffer_deinit(&output);
    return is_well ? CLI_EXIT_OK : CLI_EXIT_FAILED;
}

static const char *text_of(const struct json *object, const char *key)
{
    return json_text(json_get(object, key), "");
}

/* ---- Nodes ----------------------------------------------------------------------------------- */

static enum cli__colour health_colour(const char *health)
{
    if (strcmp(health, "alive") == 0) {
        return CLI__GREEN;
    }
    return strcmp(health, "dead") == 0 ? CLI__RED : CLI__YELLOW;
}

static void add_node(struct cli__table *table, const struct json *node)
{
    char text[CELL_SIZE];
    char number[CLI__TEXT_SIZE];
    const char *health = text_of(node, "health");
    const char *state = text_of(node, "state");
    const char *zone = text_of(node, "zone");
    (void)snprintf(text, sizeof text, "%s%s", cli__whole(json_get(node, "id"), number),
                   json_flag(json_get(node, "self"), false) ? "*" : " ");
    cli__table_add(table, CLI__BOLD, text);
    cli__table_add(table, strcmp(state, "active") == 0 ? CLI__PLAIN : CLI__YELLOW, state);
    const struct json *silent = json_get(node, "silent_ms");
    if (strcmp(health, "alive") != 0 && json_number(silent, 0) > 0) {
        (void)snprintf(text, sizeof text, "%s %s", health, cli__duration(silent, number));
    } else {
        (void)snprintf(text, sizeof text, "%s", health);
    }
    cli__table_add(table, health_colour(health), text);
    cli__table_add(table, CLI__PLAIN, zone);
    cli__table_add(table, CLI__PLAIN, cli__whole(json_get(node, "shards"), number));
    cli__table_add(table, CLI__PLAIN, cli__whole(json_get(node, "leaders"), number));
    cli__table_add(table, CLI__PLAIN, cli__count(json_get(node, "reads_per_s"), number));
    cli__table_add(table, CLI__PLAIN, cli__count(json_get(node, "writes_per_s"), number));
    cli__table_add(table, CLI__PLAIN, cli__latency(json_get(node, "write_p99_us"), number));
    cli__table_add(table, CLI__PLAIN, cli__duration(json_get(node, "lag_ms"), number));
    cli__table_add(
        table, CLI__PLAIN,
        cli__percent(json_get(node, "used_bytes"), json_get(node, "capacity_bytes"), number));
    cli__table_add(table, CLI__PLAIN, text_of(node, "peer"));
}

void cli__append_nodes(struct buffer *output, const struct json *nodes, bool is_coloured,
                       uint32_t width_max, uint32_t row_count_max)
{
    static const struct cli__column columns[] = {
        {"Node", true},   {"State", false}, {"Health", false}, {"Zone", false},
        {"Shards", true}, {"Leads", true},  {"Reads", true},   {"Writes", true},
        {"p99", true},    {"Lag", true},    {"Disk", true},    {"Peer", false},
    };
    struct cli__table *table = cli__table_create(columns, COLUMN_COUNT(columns));
    for (size_t i = 0; json_at(nodes, i) != NULL; i++) {
        add_node(table, json_at(nodes, i));
    }
    cli__table_append(table, is_coloured, width_max, row_count_max, output);
    cli__table_destroy(table);
}

static void show_nodes(const struct json *answer, struct buffer *output, bool is_coloured)
{
    cli__append_verdict(output, answer, is_coloured);
    buffer_append_byte(output, '\n');
    cli__append_nodes(output, json_get(answer, "nodes"), is_coloured, 0, 0);
}

int cli__nodes(const struct cli__options *options)
{
    struct json *arguments = json_object_create();
    if (options->is_all) {
        json_set_boolean(arguments, "all", true);
    }
    return view(options, "nodes", arguments, show_nodes);
}

/* ---- Shards ---------------------------------------------------------------------------------- */

static const char *replica_mark(const struct json *replica, double leader)
{
    const char *state = text_of(replica, "state");
    if (strcmp(state, "unreachable") == 0 || strcmp(state, "damaged") == 0) {
        return "!";
    }
    if (json_number(json_get(replica, "node"), 0) == leader) {
        return "*";
    }
    if (strcmp(text_of(replica, "role"), "learner") == 0) {
        return "~";
    }
    return strcmp(state, "behind") == 0 || strcmp(state, "snapshot") == 0 ? "+" : "";
}

/* "1* 2 3!" */
static void describe_replicas(const struct json *shard, char *text, size_t size)
{
    const struct json *replicas = json_get(shard, "replicas");
    double leader = json_number(json_get(shard, "leader"), 0);
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; json_at(replicas, i) != NULL && used + CLI__TEXT_SIZE < size; i++) {
        char number[CLI__TEXT_SIZE];
        const struct json *replica = json_at(replicas, i);
        int length =
            snprintf(text + used, size - used, "%s%s%s", i > 0 ? " " : "",
                     cli__whole(json_get(replica, "node"), number), replica_mark(replica, leader));
        used += length > 0 ? (size_t)length : 0;
    }
}

static double worst_lag(const struct json *shard)
{
    const struct json *replicas = json_get(shard, "replicas");
    double worst = -1;
    for (size_t i = 0; json_at(replicas, i) != NULL; i++) {
        double lag = json_number(json_get(json_at(replicas, i), "lag_entries"), -1);
        worst = lag > worst ? lag : worst;
    }
    return worst;
}

static void add_shard(struct cli__table *table, const struct json *shard)
{
    char text[CELL_SIZE];
    char number[CLI__TEXT_SIZE];
    const char *health = text_of(shard, "health");
    const char *first = text_of(shard, "first");
    const char *last = text_of(shard, "last");
    bool is_healthy = strcmp(health, "healthy") == 0;
    cli__table_add(table, CLI__BOLD, cli__whole(json_get(shard, "id"), number));
    (void)snprintf(text, sizeof text, "%s%s", health,
                   json_flag(json_get(shard, "is_moving"), false) ? ", moving" : "");
    for (char *each = text; *each != '\0'; each++) {
        *each = *each == '_' ? ' ' : *each;
    }
    cli__table_add(table,
                   is_healthy                           ? CLI__PLAIN
                   : strcmp(health, "unavailable") == 0 ? CLI__RED
                                                        : CLI__YELLOW,
                   text);
    describe_replicas(shard, text, sizeof text);
    cli__table_add(table, CLI__PLAIN, text);
    cli__table_add(table, CLI__PLAIN, cli__size(json_get(shard, "size_bytes"), number));
    cli__table_add(table, CLI__PLAIN, cli__count(json_get(shard, "keys"), number));
    cli__table_add(table, CLI__PLAIN, cli__count(json_get(shard, "reads_per_s"), number));
    cli__table_add(table, CLI__PLAIN, cli__count(json_get(shard, "writes_per_s"), number));
    (void)snprintf(number, sizeof number, "%.0f", worst_lag(shard));
    cli__table_add(table, CLI__PLAIN, number[0] == '-' ? "-" : number);
    (void)snprintf(text, sizeof text, "%.200s .. %.200s", first[0] != '\0' ? first : "(first)",
                   last[0] != '\0' ? last : "(last)");
    cli__table_add(table, CLI__PLAIN, text);
}

static void show_shards(const struct json *answer, struct buffer *output, bool is_coloured)
{
    static const struct cli__column columns[] = {
        {"Shard", true}, {"Health", false}, {"Replicas", false}, {"Size", true},   {"Keys", true},
        {"Reads", true}, {"Writes", true},  {"Lag", true},       {"Range", false},
    };
    const struct json *shards = json_get(answer, "shards");
    struct cli__table *table = cli__table_create(columns, COLUMN_COUNT(columns));
    for (size_t i = 0; json_at(shards, i) != NULL; i++) {
        add_shard(table, json_at(shards, i));
    }
    cli__append_verdict(output, answer, is_coloured);
    buffer_append_byte(output, '\n');
    cli__table_append(table, is_coloured, 0, 0, output);
    cli__table_destroy(table);
}

int cli__shards(const struct cli__options *options)
{
    struct json *arguments = json_object_create();
    if (options->node != 0) {
        json_set_unsigned(arguments, "node", options->node);
    }
    return view(options, "shards", arguments, show_shards);
}

/* ---- Why ------------------------------------------------------------------------------------- */

static void append_sentences(struct buffer *output, const struct json *sentences,
                             const char *indent)
{
    for (size_t i = 0; json_at(sentences, i) != NULL; i++) {
        cli__append(output, CLI__PLAIN, false, "%s%s\n", indent,
                    json_text(json_at(sentences, i), "?"));
    }
}

static void show_why(const struct json *answer, struct buffer *output, bool is_coloured)
{
    const struct json *shards = json_get(answer, "shards");
    const struct json *balance = json_get(answer, "balance");
    char number[CLI__TEXT_SIZE];
    cli__append_verdict(output, answer, is_coloured);
    for (size_t i = 0; json_at(shards, i) != NULL; i++) {
        const struct json *shard = json_at(shards, i);
        const char *next = text_of(shard, "next");
        buffer_append_byte(output, '\n');
        cli__append(output, CLI__BOLD, is_coloured, "Shard %s: %s",
                    cli__whole(json_get(shard, "id"), number), text_of(shard, "health"));
        buffer_append_byte(output, '\n');
        append_sentences(output, json_get(shard, "reasons"), "  because ");
        if (next[0] != '\0') {
            cli__append(output, CLI__PLAIN, false, "  next: %s\n", next);
        }
    }
    if (json_at(balance, 0) != NULL) {
        buffer_append_byte(output, '\n');
        cli__append(output, CLI__BOLD, is_coloured, "Balance");
        buffer_append_byte(output, '\n');
        append_sentences(output, balance, "  ");
    }
}

int cli__why(const struct cli__options *options)
{
    struct json *arguments = json_object_create();
    if (options->word_count > 0) {
        uint64_t shard;
        if (!cli__word_number(options, 0, "shard", &shard)) {
            json_destroy(arguments);
            return CLI_EXIT_USAGE;
        }
        json_set_unsigned(arguments, "shard", shard);
    }
    return view(options, "why", arguments, show_why);
}

/* ---- Audit ----------------------------------------------------------------------------------- */

static void show_audit(const struct json *answer, struct buffer *output, bool is_coloured)
{
    static const struct cli__column columns[] = {
        {"Number", true}, {"Time", false}, {"Kind", false}, {"Node", true}, {"What", false}};
    const struct json *records = json_get(answer, "records");
    struct cli__table *table = cli__table_create(columns, COLUMN_COUNT(columns));
    for (size_t i = 0; json_at(records, i) != NULL; i++) {
        const struct json *record = json_at(records, i);
        char text[CELL_SIZE];
        char number[CLI__TEXT_SIZE];
        double count = json_number(json_get(record, "count"), 1);
        double node = json_number(json_get(record, "node"), 0);
        cli__table_add(table, CLI__PLAIN, cli__whole(json_get(record, "number"), number));
        cli__table_add(table, CLI__PLAIN, cli__time(json_get(record, "first_ms"), number));
        cli__table_add(table, CLI__BOLD, text_of(record, "kind"));
        cli__table_add(table, CLI__PLAIN,
                       node > 0 ? cli__whole(json_get(record, "node"), number) : "-");
        if (count > 1) {
            (void)snprintf(text, sizeof text, "%.300s (%.0f times, until %s)",
                           text_of(record, "text"), count,
                           cli__time(json_get(record, "last_ms"), number));
        } else {
            (void)snprintf(text, sizeof text, "%s", text_of(record, "text"));
        }
        cli__table_add(table, CLI__PLAIN, text);
    }
    cli__table_append(table, is_coloured, 0, 0, output);
    cli__table_destroy(table);
}

int cli__audit(const struct cli__options *options)
{
    struct json *arguments = json_object_create();
    if (options->count != 0) {
        json_set_unsigned(arguments, "count", options->count);
    }
    return view(options, "audit", arguments, show_audit);
}
