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

/* "alive", "dead 95 s", "alive, draining" */
static void add_state(struct cli__table *table, const struct json *node)
{
    char text[CELL_SIZE];
    char number[CLI__TEXT_SIZE];
    const char *health = text_of(node, "health");
    const char *state = text_of(node, "state");
    const struct json *silent = json_get(node, "silent_ms");
    bool is_silent = strcmp(health, "alive") != 0 && json_number(silent, 0) > 0;
    bool is_active = strcmp(state, "active") == 0;
    (void)snprintf(text, sizeof text, "%s%s%s%s%s", health, is_silent ? " " : "",
                   is_silent ? cli__duration(silent, number) : "", is_active ? "" : ", ",
                   is_active ? "" : state);
    enum cli__colour colour = health_colour(health);
    cli__table_add(table, colour == CLI__GREEN && !is_active ? CLI__YELLOW : colour, text);
}

static void add_node(struct cli__table *table, const struct json *node)
{
    char text[CELL_SIZE];
    char number[CLI__TEXT_SIZE];
    (void)snprintf(text, sizeof text, "%s%s", cli__whole(json_get(node, "id"), number),
                   json_flag(json_get(node, "self"), false) ? "*" : " ");
    cli__table_add(table, CLI__BOLD, text);
    add_state(table, node);
    cli__table_add(table, CLI__PLAIN, text_of(node, "zone"));
    cli__table_add(table, CLI__PLAIN, cli__whole(json_get(node, "shards"), number));
    cli__table_add(table, CLI__PLAIN, cli__whole(json_get(node, "leaders"), number));
    cli__table_add(table, CLI__PLAIN, cli__count(json_get(node, "reads_per_s"), number));
    cli__table_add(table, CLI__PLAIN, cli__latency(json_get(node, "read_p99_us"), number));
    cli__table_add(table, CLI__PLAIN, cli__count(json_get(node, "writes_per_s"), number));
    cli__table_add(table, CLI__PLAIN, cli__latency(json_get(node, "write_p99_us"), number));
    cli__table_add(table, CLI__PLAIN, cli__duration(json_get(node, "lag_ms"), number));
    cli__table_add(table, CLI__PLAIN, cli__size(json_get(node, "memory_bytes"), number));
    cli__table_add(
        table, CLI__PLAIN,
        cli__percent(json_get(node, "used_bytes"), json_get(node, "capacity_bytes"), number));
    cli__table_add(table, CLI__PLAIN, cli__size(json_get(node, "free_bytes"), number));
    cli__table_add(table, CLI__PLAIN, text_of(node, "peer"));
}

struct cli__table *cli__make_nodes(const struct json *nodes, uint32_t width_max)
{
    static const struct cli__column columns[] = {
        {"Node", true, 0},  {"State", false, 0}, {"Zone", false, 5},  {"Shards", true, 1},
        {"Leads", true, 0}, {"Reads", true, 0},  {"p99", true, 0},    {"Writes", true, 0},
        {"p99", true, 0},   {"Lag", true, 0},    {"Memory", true, 2}, {"Disk", true, 0},
        {"Free", true, 4},  {"Peer", false, 3},
    };
    struct cli__table *table = cli__table_create(columns, COLUMN_COUNT(columns));
    for (size_t i = 0; json_at(nodes, i) != NULL; i++) {
        add_node(table, json_at(nodes, i));
    }
    cli__table_fit(table, width_max);
    return table;
}

uint32_t cli__count_silent(const struct json *nodes)
{
    uint32_t count = 0;
    for (size_t i = 0; json_at(nodes, i) != NULL; i++) {
        count += json_get(json_at(nodes, i), "no_figures") != NULL;
    }
    return count;
}

void cli__append_silent(struct buffer *output, const struct json *nodes, uint32_t count_max,
                        const char *indent)
{
    uint32_t count = 0;
    for (size_t i = 0; json_at(nodes, i) != NULL && count < count_max; i++) {
        const struct json *node = json_at(nodes, i);
        char number[CLI__TEXT_SIZE];
        if (json_get(node, "no_figures") != NULL) {
            cli__append(output, CLI__PLAIN, false, "%sNo figures of node %s: %s.\n", indent,
                        cli__whole(json_get(node, "id"), number), text_of(node, "no_figures"));
            count++;
        }
    }
}

static void show_nodes(const struct json *answer, struct buffer *output, bool is_coloured)
{
    const struct json *nodes = json_get(answer, "nodes");
    struct cli__table *table = cli__make_nodes(nodes, cli__terminal_width());
    cli__append_verdict(output, answer, is_coloured);
    buffer_append_byte(output, '\n');
    cli__table_append(table, is_coloured, 0, 0, output);
    cli__append_silent(output, nodes, UINT32_MAX, "");
    cli__table_append_left_out(table, is_coloured, output);
    cli__table_destroy(table);
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

/* Of the replica that is most behind, in entries and, from a second on, in time: "6.2k (12 s)". */
static void describe_lag(const struct json *shard, char *text, size_t size)
{
    const struct json *replicas = json_get(shard, "replicas");
    const struct json *worst = NULL;
    double worst_entries = -1;
    for (size_t i = 0; json_at(replicas, i) != NULL; i++) {
        double entries = json_number(json_get(json_at(replicas, i), "lag_entries"), -1);
        if (entries > worst_entries) {
            worst = json_at(replicas, i);
            worst_entries = entries;
        }
    }
    char count[CLI__TEXT_SIZE];
    char time[CLI__TEXT_SIZE];
    const struct json *lag_ms = worst != NULL ? json_get(worst, "lag_ms") : NULL;
    (void)cli__count(worst != NULL ? json_get(worst, "lag_entries") : NULL, count);
    if (json_number(lag_ms, 0) >= 1000) {
        (void)snprintf(text, size, "%s (%s)", count, cli__duration(lag_ms, time));
    } else {
        (void)snprintf(text, size, "%s", count);
    }
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
    describe_lag(shard, text, sizeof text);
    cli__table_add(table, CLI__PLAIN, text);
    (void)snprintf(text, sizeof text, "%.200s .. %.200s", first[0] != '\0' ? first : "(first)",
                   last[0] != '\0' ? last : "(last)");
    cli__table_add(table, CLI__PLAIN, text);
}

/* Shards whose leader did not say how they are, and why. */
static void append_untold(struct buffer *output, const struct json *shards)
{
    for (size_t i = 0; json_at(shards, i) != NULL; i++) {
        const struct json *shard = json_at(shards, i);
        char number[CLI__TEXT_SIZE];
        if (json_get(shard, "no_figures") != NULL) {
            cli__append(output, CLI__PLAIN, false, "No figures of shard %s: %s.\n",
                        cli__whole(json_get(shard, "id"), number), text_of(shard, "no_figures"));
        }
    }
}

/* "slots 0 to 8191", "slot 8191" */
static void describe_slots(const struct json *plan, char *text, size_t size)
{
    char first[CLI__TEXT_SIZE];
    char last[CLI__TEXT_SIZE];
    (void)cli__whole(json_get(plan, "first_slot"), first);
    (void)cli__whole(json_get(plan, "last_slot"), last);
    bool is_one = strcmp(first, last) == 0;
    (void)snprintf(text, size, "slot%s %s%s%s", is_one ? "" : "s", first, is_one ? "" : " to ",
                   is_one ? "" : last);
}

static void append_planned(struct buffer *output, const struct json *planned)
{
    for (size_t i = 0; json_at(planned, i) != NULL; i++) {
        const struct json *plan = json_at(planned, i);
        char child[CLI__TEXT_SIZE];
        char parent[CLI__TEXT_SIZE];
        char age[CLI__TEXT_SIZE];
        char slots[CELL_SIZE];
        describe_slots(plan, slots, sizeof slots);
        cli__append(output, CLI__PLAIN, false,
                    "Shard %s will get %s of shard %s (decided %s ago).\n",
                    cli__whole(json_get(plan, "shard"), child), slots,
                    cli__whole(json_get(plan, "parent"), parent),
                    cli__duration(json_get(plan, "age_ms"), age));
    }
}

static void show_shards(const struct json *answer, struct buffer *output, bool is_coloured)
{
    static const struct cli__column columns[] = {
        {"Shard", true, 0},  {"Health", false, 0}, {"Replicas", false, 0},
        {"Size", true, 0},   {"Keys", true, 0},    {"Reads", true, 0},
        {"Writes", true, 0}, {"Lag", true, 0},     {"Range", false, 1},
    };
    const struct json *shards = json_get(answer, "shards");
    struct cli__table *table = cli__table_create(columns, COLUMN_COUNT(columns));
    for (size_t i = 0; json_at(shards, i) != NULL; i++) {
        add_shard(table, json_at(shards, i));
    }
    cli__table_fit(table, cli__terminal_width());
    cli__append_verdict(output, answer, is_coloured);
    buffer_append_byte(output, '\n');
    cli__table_append(table, is_coloured, 0, 0, output);
    append_untold(output, shards);
    append_planned(output, json_get(answer, "planned"));
    cli__table_append_left_out(table, is_coloured, output);
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
    const struct json *splits = json_get(answer, "splits");
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
    if (json_at(splits, 0) != NULL) {
        buffer_append_byte(output, '\n');
        cli__append(output, CLI__BOLD, is_coloured, "Splits");
        buffer_append_byte(output, '\n');
        append_sentences(output, splits, "  ");
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
        {"Number", true, 0}, {"Time", false, 0}, {"Kind", false, 0},
        {"Node", true, 0},   {"What", false, 0},
    };
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
    if (json_flag(json_get(answer, "may_be_old"), false)) {
        cli__append(output, CLI__PLAIN, false,
                    "No leader of the first shard is known: this is what this node has, and later "
                    "records may be missing.\n");
    }
}

int cli__audit(const struct cli__options *options)
{
    struct json *arguments = json_object_create();
    if (options->count != 0) {
        json_set_unsigned(arguments, "count", options->count);
    }
    return view(options, "audit", arguments, show_audit);
}
