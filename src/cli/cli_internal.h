/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands about a cluster share: options, asking the node, tables. Folder-private. */
#ifndef CLI_CLI_INTERNAL_H
#define CLI_CLI_INTERNAL_H

#include <stdint.h>

#include "base/bytes/bytes.h"
#include "cli/cli.h"
#include "driver/json/json.h"

/* ---- Options --------------------------------------------------------------------------------- */

enum cli__flag {
    CLI__FLAG_TTL = 1 << 0,
    CLI__FLAG_USES = 1 << 1,
    CLI__FLAG_WAIT = 1 << 2,
    CLI__FLAG_CANCEL = 1 << 3,
    CLI__FLAG_FORCE = 1 << 4,
    CLI__FLAG_YES = 1 << 5,
    CLI__FLAG_ALL = 1 << 6,
    CLI__FLAG_NODE = 1 << 7,
    CLI__FLAG_INTERVAL = 1 << 8,
    CLI__FLAG_COUNT = 1 << 9,
    CLI__FLAG_SHARD = 1 << 10,
    CLI__FLAG_AT = 1 << 11,
    CLI__FLAG_NO_WAIT = 1 << 12,
};

#define CLI__WORD_COUNT_MAX 2

struct cli__options {
    const char *command; /* Its name, for messages. */
    const char *data;
    bool is_json;
    bool is_waiting;
    bool is_not_waiting;
    bool is_cancelling;
    bool is_forced;
    bool is_yes;
    bool is_all;
    uint64_t ttl_s; /* 0: not given; so with all numbers. */
    uint64_t uses;
    uint64_t node;
    uint64_t interval_s;
    uint64_t count;
    uint64_t shard;
    uint64_t at;
    uint64_t timeout_ms; /* Of a question. */
    const char *words[CLI__WORD_COUNT_MAX];
    uint32_t word_count;
};

struct cli__command {
    const char *name;
    const char *words;   /* As usage shows them: "SHARD NODE". */
    const char *summary; /* One line. */
    const char *detail;  /* What help says besides; may be NULL. */
    uint32_t flags;      /* enum cli__flag */
    uint32_t word_count_min;
    uint32_t word_count_max;
    int (*run)(const struct cli__options *options);
};

/* A word as a number above 0. False: the message is written. */
MUST_USE bool cli__word_number(const struct cli__options *options, uint32_t word, const char *what,
                               uint64_t *number);

/* ---- Asking ---------------------------------------------------------------------------------- */

/* A little more than the node takes at most. */
enum { CLI__TIMEOUT_MS = 35000 };

/* Ask the node whose data directory the options name; takes `arguments` (NULL: none). `*answer` is
 * the caller's, `*text` is what it was read from. Returns enum cli_exit; other than CLI_EXIT_OK, the
 * message is written, and with --json the node's own answer. */
MUST_USE int cli__ask(const struct cli__options *options, const char *verb, struct json *arguments,
                      struct json **answer, struct buffer *text);

/* The same without writing: 0, or a status with what to write in `error`. */
MUST_USE int cli__ask_quietly(const struct cli__options *options, const char *verb,
                              struct json *arguments, struct json **answer, struct buffer *text,
                              int *http_status, struct error *error);

/* Write the answer as it came. */
void cli__print_json(const struct buffer *text);

/* ---- Writing for people ---------------------------------------------------------------------- */

bool cli__is_coloured(void);

enum cli__colour { CLI__PLAIN, CLI__BOLD, CLI__GREEN, CLI__RED, CLI__YELLOW, CLI__DIM };
/* Append text in a colour, control characters as question marks. */
void cli__append(struct buffer *output, enum cli__colour colour, bool is_coloured,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The verdict of an answer, as its first line. */
void cli__append_verdict(struct buffer *output, const struct json *answer, bool is_coloured);

/* Whole numbers of an answer; "-" for what is not there. They write to `text` of CLI__TEXT_SIZE and
 * return it. */
#define CLI__TEXT_SIZE 32
const char *cli__count(const struct json *json, char *text);    /* 12, 12.3k, 4.0M */
const char *cli__size(const struct json *json, char *text);     /* 12 B, 1.5 MiB */
const char *cli__latency(const struct json *json, char *text);  /* From µs: 0.21 ms, 1.2 s */
const char *cli__duration(const struct json *json, char *text); /* From ms: 0.2 s, 12 s, 3 min */
const char *cli__whole(const struct json *json, char *text);    /* 1234 */
const char *cli__percent(const struct json *part, const struct json *whole, char *text);
const char *cli__time(const struct json *json, char *text); /* From ms: local time */

/* A table: cells are added row by row. */
struct cli__column {
    const char *title;
    bool is_right; /* Numbers. */
    uint32_t rank; /* Where there is no room, the highest go first; 0: it always stays. */
};
struct cli__table;
struct cli__table *cli__table_create(const struct cli__column *columns, uint32_t column_count);
void cli__table_destroy(struct cli__table *table);
void cli__table_add(struct cli__table *table, enum cli__colour colour, const char *text);
/* Leave columns out until the rest fits into `width_max` (0: nothing is left out), as far as their
 * ranks allow. */
void cli__table_fit(struct cli__table *table, uint32_t width_max);
/* Append a line that says what was left out, if anything was. */
void cli__table_append_left_out(const struct cli__table *table, bool is_coloured,
                                struct buffer *output);
/* Append the lines; cut at `width_max` columns (0: never), at most `row_count_max` rows (0: all),
 * then a line that says how many are left out. */
void cli__table_append(const struct cli__table *table, bool is_coloured, uint32_t width_max,
                       uint32_t row_count_max, struct buffer *output);

void cli__print(const struct buffer *output);
/* 0: standard output is no terminal, or nobody knows. */
uint32_t cli__terminal_width(void);

/* ---- The commands ---------------------------------------------------------------------------- */

int cli__nodes(const struct cli__options *options);
int cli__shards(const struct cli__options *options);
int cli__why(const struct cli__options *options);
int cli__audit(const struct cli__options *options);
int cli__token(const struct cli__options *options);
int cli__drain(const struct cli__options *options);
int cli__remove(const struct cli__options *options);
int cli__transfer(const struct cli__options *options);
int cli__split(const struct cli__options *options);
int cli__replicas(const struct cli__options *options);
int cli__recover(const struct cli__options *options);
int cli__top(const struct cli__options *options);

/* Parts of what nodes and top show: a table of what fits into `width_max` (0: all). */
struct cli__table *cli__make_nodes(const struct json *nodes, uint32_t width_max);
/* Nodes that did not say how they are, and why: how many there are, and a line for each of the
 * first ones. */
uint32_t cli__count_silent(const struct json *nodes);
void cli__append_silent(struct buffer *output, const struct json *nodes, uint32_t count_max,
                        const char *indent);
/* One line about something that is being moved. */
void cli__append_move(struct buffer *output, const struct json *move);

/* What top shows: `status` and `nodes` are answers. `height` 0: without limits. */
void cli__top_draw(struct buffer *output, const struct json *status, const struct json *nodes,
                   uint32_t width, uint32_t height, bool is_coloured);

#endif
