/* SPDX-License-Identifier: Apache-2.0 */
/* config: settings from flags, environment, file and defaults. Layer: driver.
 *
 * A program declares its options once, in a table: name, unit, default, help, how to read a value.
 * From that table come the flags (`--redis ADDR:PORT`), the environment variables (TUTTI_REDIS),
 * the keys of the configuration file (`redis = ADDR:PORT`) and the text of --help, which therefore
 * cannot differ.
 *
 * Always
 *   C1. A flag beats a variable, a variable beats the file, the file beats the default.
 *   C2. Every value is checked, also one that a stronger source beats.
 *   C3. An error names its place (flag, variable, or file and line) and what was expected; secrets
 *       are never repeated in it. On an error the caller's struct is untouched.
 *
 * The file is INI without sections: `name = value` lines, whole-line comments with # or ;. Values
 * are taken as they are: no quotes, no comments behind them, no continued lines.
 *
 * Unknown flags and keys are errors. Unknown variables are not, because container platforms put
 * their own TUTTI_… variables there; one that looks like a misspelt option is.
 *
 * For the start of a process: one thread. */
#ifndef DRIVER_CONFIG_CONFIG_H
#define DRIVER_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "driver/os/os.h"

/* Of a text option in the caller's struct, with its zero: `char data[CONFIG_TEXT_SIZE]`. */
#define CONFIG_TEXT_SIZE 512
/* Longest line of a file. */
#define CONFIG_LINE_SIZE_MAX 1024
#define CONFIG_FILE_SIZE_BYTES_MAX (64 * 1024)
#define CONFIG_OPTION_COUNT_MAX 64

struct config_option;

/* Read `text` into the option's field at `target`. Errors: -EINVAL, with what was expected. */
typedef int (*config_parser)(const struct config_option *option, const char *text, void *target,
                             struct error *error);

struct config_option {
    const char *name;         /* "flush": lower case, words joined by '-'. */
    const char *unit;         /* "ADDR:PORT", as help shows it. */
    const char *default_text; /* As a user would write it; NULL: the field stays as it is. */
    const char *default_note; /* What help says instead of default_text, where that is NULL. */
    const char *help;         /* Sentences. */
    config_parser parse;
    size_t offset; /* Of the field in the caller's struct. */
    uint64_t lowest;
    uint64_t largest;           /* Of numbers and sizes; 0: no limit. */
    const char *const *choices; /* Of config_parse_choice, ended by NULL. */
    bool is_secret;             /* Its value is never printed. */
    bool is_list; /* A text of parts with commas; its flag may be repeated, for a part each. */
};

struct config_table {
    const struct config_option *options;
    uint32_t option_count;
    size_t target_size_bytes; /* Of the caller's struct. */
    const char *prefix;       /* Of variables: "TUTTI_". */
    const char *file_option;  /* The option that names the file; NULL: there is none. */
};

/* Parsers. The field's type is in brackets. */
int config_parse_text(const struct config_option *option, const char *text, void *target,
                      struct error *error); /* [char[CONFIG_TEXT_SIZE]] */
int config_parse_number(const struct config_option *option, const char *text, void *target,
                        struct error *error); /* [uint64_t], lowest to largest */
int config_parse_size(const struct config_option *option, const char *text, void *target,
                      struct error *error); /* [uint64_t], "64mb", lowest to largest */
int config_parse_choice(const struct config_option *option, const char *text, void *target,
                        struct error *error); /* [int], the index in choices */
int config_parse_address(const struct config_option *option, const char *text, void *target,
                         struct error *error); /* [struct os_address] */
/* "HOST:PORT", not resolved, or nothing; and the same with commas between. */
int config_parse_host(const struct config_option *option, const char *text, void *target,
                      struct error *error); /* [char[CONFIG_TEXT_SIZE]] */
int config_parse_hosts(const struct config_option *option, const char *text, void *target,
                       struct error *error); /* [char[CONFIG_TEXT_SIZE]] */
/* Printable ASCII without blanks, at most `largest` bytes. */
int config_parse_name(const struct config_option *option, const char *text, void *target,
                      struct error *error); /* [char[CONFIG_TEXT_SIZE]] */

struct config_sources {
    int argument_count; /* After the command: "--redis", "127.0.0.1:1", … */
    const char *const *arguments;
    const char *const *environment; /* "NAME=value", ended by NULL; NULL: none. */
};

/* Fill the caller's struct from all sources. Errors: -EINVAL; those of reading the file. */
MUST_USE int config_load(const struct config_table *table, const struct config_sources *sources,
                         void *target, struct error *error);

/* The same for the text of a file alone, called `file_name` in messages. */
MUST_USE int config_load_text(const struct config_table *table, const char *file_name,
                              struct bytes text, void *target, struct error *error);

/* Is --help or -h among the arguments? */
bool config_is_help_wanted(const struct config_sources *sources);

/* Append the description of all options. */
void config_help(const struct config_table *table, struct buffer *text);

/* ---- The options of `tutti start` ------------------------------------------------------------ */

enum config_flush { CONFIG_FLUSH_ALWAYS, CONFIG_FLUSH_EVERYSEC };
enum config_order { CONFIG_ORDER_SHARD, CONFIG_ORDER_CONNECTION };

struct config_start {
    char data[CONFIG_TEXT_SIZE];
    char config[CONFIG_TEXT_SIZE]; /* Empty: no file. */
    struct os_address redis;
    struct os_address admin;
    struct os_address peer;
    char advertise[CONFIG_TEXT_SIZE]; /* Empty: as `peer`. */
    char zone[CONFIG_TEXT_SIZE];
    char join[CONFIG_TEXT_SIZE]; /* HOST:PORT with commas between; empty: none. */
    char token[CONFIG_TEXT_SIZE];
    uint64_t replicas;   /* 0: not given. */
    uint64_t shards;     /* 0: not given. */
    uint64_t split_size; /* Bytes, CONFIG_SPLIT_SIZE_BYTES_MIN at least; 0: off. */
    uint64_t split_load; /* Requests per second; 0: off. */
    uint64_t reactors;   /* 0: the node decides. */
    uint64_t memory;     /* Bytes. */
    char requirepass[CONFIG_TEXT_SIZE];
    int flush;          /* enum config_flush */
    int pipeline_order; /* enum config_order */
    int log_format;     /* enum os_log_format */
    int log_level;      /* enum os_log_level */
};

/* The least that --memory may be. */
#define CONFIG_MEMORY_SIZE_BYTES_MIN (64ull << 20)
/* The least that --split-size may be, but for 0: what a shard costs by itself is little beside it. */
#define CONFIG_SPLIT_SIZE_BYTES_MIN (1ull << 20)

extern const struct config_table config_start_table;

/* Give the part `index` of a list in `part` of CONFIG_TEXT_SIZE bytes; false after the last. */
MUST_USE bool config_list_at(const char *list, uint32_t index, char *part);

/* Load the options of `tutti start`; the memory is a quarter of the machine's unless it was given.
 * Errors: those of config_load(); -EACCES for an address beyond loopback without a password; -EINVAL
 * for options that do not go together. */
MUST_USE int config_start_load(const struct config_sources *sources, struct config_start *target,
                               struct error *error);

#endif
