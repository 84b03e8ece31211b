/* SPDX-License-Identifier: Apache-2.0 */
/* The weakest source is read first and each later one writes over it, into a copy of the caller's
 * struct that replaces it at the end. */
#include "driver/config/config.h"

#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/config/config_internal.h"

enum { NAME_SIZE_MAX = 64, NEAR_DISTANCE_MAX = 2, NEAR_NAME_SIZE_MIN = 4, SHOWN_SIZE_MAX = 80 };

const struct config_option *config__find(const struct config_table *table, struct bytes name)
{
    for (uint32_t i = 0; i < table->option_count; i++) {
        if (bytes_equal(bytes_of_text(table->options[i].name), name)) {
            return &table->options[i];
        }
    }
    return NULL;
}

int config__set(const struct config_option *option, const char *where, const char *text,
                void *target, struct error *error)
{
    struct error reason = {0};
    int status = option->parse(option, text, (uint8_t *)target + option->offset, &reason);
    if (status == 0) {
        return 0;
    }
    if (option->is_secret) {
        return error_say(error, -EINVAL, "%s: %s", where, reason.message);
    }
    return error_say(error, -EINVAL, "%s: \"%.80s\" %s", where, text, reason.message);
}

/* ---- Misspelt names -------------------------------------------------------------------------- */

static uint32_t smallest(uint32_t left, uint32_t middle, uint32_t right)
{
    uint32_t least = left < middle ? left : middle;
    return least < right ? least : right;
}

/* How many letters to insert, delete or replace (Levenshtein), by rows of the usual table. */
static uint32_t distance(struct bytes left, struct bytes right)
{
    uint32_t row[NAME_SIZE_MAX + 1];
    ASSERT(right.size_bytes <= NAME_SIZE_MAX);
    for (uint32_t j = 0; j <= right.size_bytes; j++) {
        row[j] = j;
    }
    for (uint32_t i = 0; i < left.size_bytes; i++) {
        uint32_t diagonal = row[0];
        row[0] = i + 1;
        for (uint32_t j = 0; j < right.size_bytes; j++) {
            uint32_t replaced = diagonal + (left.data[i] != right.data[j]);
            diagonal = row[j + 1];
            row[j + 1] = smallest(replaced, row[j] + 1, diagonal + 1);
        }
    }
    return row[right.size_bytes];
}

const struct config_option *config__find_near(const struct config_table *table, struct bytes name)
{
    const struct config_option *nearest = NULL;
    uint32_t nearest_distance = NEAR_DISTANCE_MAX + 1;
    if (name.size_bytes < NEAR_NAME_SIZE_MIN || name.size_bytes > NAME_SIZE_MAX) {
        return NULL;
    }
    for (uint32_t i = 0; i < table->option_count; i++) {
        uint32_t found = distance(name, bytes_of_text(table->options[i].name));
        if (found < nearest_distance) {
            nearest = &table->options[i];
            nearest_distance = found;
        }
    }
    return nearest;
}

/* ---- Flags ----------------------------------------------------------------------------------- */

bool config_is_help_wanted(const struct config_sources *sources)
{
    for (int i = 0; i < sources->argument_count; i++) {
        if (strcmp(sources->arguments[i], "--help") == 0 ||
            strcmp(sources->arguments[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

/* Without what stands behind the name: it may be a secret. */
static int refuse_flag(const struct config_table *table, struct bytes name, struct error *error)
{
    const struct config_option *near = config__find_near(table, name);
    int shown = name.size_bytes < SHOWN_SIZE_MAX ? (int)name.size_bytes : SHOWN_SIZE_MAX;
    const char *text = (const char *)name.data;
    if (near != NULL) {
        return error_say(error, -EINVAL, "unknown flag \"--%.*s\"; did you mean --%s?", shown, text,
                         near->name);
    }
    return error_say(error, -EINVAL, "unknown flag \"--%.*s\"; --help lists all", shown, text);
}

/* A flag of the command line, taken apart. */
struct flag {
    const struct config_option *option;
    const char *value;
};

/* Take the flag at `*index`, and its value, which may be the next argument; moves the index on. */
static int take_flag(const struct config_table *table, const struct config_sources *sources,
                     int *index, struct flag *flag, struct error *error)
{
    const char *argument = sources->arguments[(*index)++];
    if (strncmp(argument, "--", 2) != 0) {
        return error_say(error, -EINVAL,
                         "unexpected \"%.80s\": options begin with --; --help lists all", argument);
    }
    const char *equals = strchr(argument, '=');
    size_t size_bytes = equals != NULL ? (size_t)(equals - argument - 2) : strlen(argument + 2);
    struct bytes name = bytes_make(argument + 2, size_bytes);
    flag->option = config__find(table, name);
    if (flag->option == NULL) {
        return refuse_flag(table, name, error);
    }
    if (equals != NULL) {
        flag->value = equals + 1;
        return 0;
    }
    if (*index == sources->argument_count) {
        return error_say(error, -EINVAL, "--%s needs a value: --%s %s", flag->option->name,
                         flag->option->name, flag->option->unit);
    }
    flag->value = sources->arguments[(*index)++];
    return 0;
}

/* A flag that was there before. */
static int repeat_flag(const struct flag *flag, const char *where, void *target,
                       struct error *error)
{
    char list[2 * CONFIG_TEXT_SIZE];
    const char *before = (const char *)target + flag->option->offset;
    if (!flag->option->is_list) {
        return error_say(error, -EINVAL, "--%s is given twice", flag->option->name);
    }
    int length = snprintf(list, sizeof list, "%s,%s", before, flag->value);
    if (length < 0 || length >= CONFIG_TEXT_SIZE) {
        return error_say(error, -EINVAL, "%s: is longer than %d characters", where,
                         CONFIG_TEXT_SIZE - 1);
    }
    return config__set(flag->option, where, list, target, error);
}

static int load_flags(const struct config_table *table, const struct config_sources *sources,
                      void *target, struct error *error)
{
    bool is_seen[CONFIG_OPTION_COUNT_MAX] = {false};
    int index = 0;
    while (index < sources->argument_count) {
        struct flag flag = {0};
        int status = take_flag(table, sources, &index, &flag, error);
        if (status != 0) {
            return status;
        }
        size_t position = (size_t)(flag.option - table->options);
        char where[NAME_SIZE_MAX + 8];
        (void)snprintf(where, sizeof where, "--%s", flag.option->name);
        status = is_seen[position] ? repeat_flag(&flag, where, target, error)
                                   : config__set(flag.option, where, flag.value, target, error);
        is_seen[position] = true;
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* ---- Environment ----------------------------------------------------------------------------- */

/* The option's name in a variable's: "LOG_FORMAT" is log-format. */
static struct bytes option_name(const char *variable, size_t size_bytes, char *target)
{
    if (size_bytes > NAME_SIZE_MAX) {
        return bytes_make(NULL, 0);
    }
    for (size_t i = 0; i < size_bytes; i++) {
        char letter = variable[i];
        bool is_upper = letter >= 'A' && letter <= 'Z';
        target[i] = letter == '_' ? '-' : is_upper ? (char)(letter - 'A' + 'a') : letter;
    }
    return bytes_make(target, size_bytes);
}

static int load_variable(const struct config_table *table, const char *variable, void *target,
                         struct error *error)
{
    size_t prefix_size = strlen(table->prefix);
    const char *equals = strchr(variable, '=');
    if (equals == NULL || strncmp(variable, table->prefix, prefix_size) != 0) {
        return 0;
    }
    char letters[NAME_SIZE_MAX];
    char where[NAME_SIZE_MAX * 2];
    const char *start = variable + prefix_size;
    if (equals < start) {
        return 0;
    }
    struct bytes name = option_name(start, (size_t)(equals - start), letters);
    (void)snprintf(where, sizeof where, "variable %.*s", (int)(equals - variable), variable);
    const struct config_option *option = config__find(table, name);
    if (option != NULL) {
        return config__set(option, where, equals + 1, target, error);
    }
    const struct config_option *near = config__find_near(table, name);
    if (near != NULL) {
        return error_say(error, -EINVAL, "%s: no such option; did you mean \"%s\"?", where,
                         near->name);
    }
    return 0;
}

static int load_environment(const struct config_table *table, const char *const *environment,
                            void *target, struct error *error)
{
    for (const char *const *each = environment; each != NULL && *each != NULL; each++) {
        int status = load_variable(table, *each, target, error);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* ---- All ------------------------------------------------------------------------------------- */

static void load_defaults(const struct config_table *table, void *target)
{
    ASSERT(table->option_count <= CONFIG_OPTION_COUNT_MAX);
    for (uint32_t i = 0; i < table->option_count; i++) {
        const struct config_option *option = &table->options[i];
        ASSERT(strlen(option->name) < NAME_SIZE_MAX);
        if (option->default_text != NULL) {
            struct error error = {0};
            int status = config__set(option, "default", option->default_text, target, &error);
            ASSERT(status == 0); /* The table is ours. */
        }
    }
}

/* What the file is called, from the flags and the environment; NULL when there is none. */
static int find_file(const struct config_table *table, const struct config_sources *sources,
                     void *scratch, const char **path, struct error *error)
{
    *path = NULL;
    if (table->file_option == NULL) {
        return 0;
    }
    const struct config_option *option = config__find(table, bytes_of_text(table->file_option));
    ASSERT(option != NULL);
    ASSERT(option->parse == config_parse_text);
    int status = load_environment(table, sources->environment, scratch, error);
    if (status == 0) {
        status = load_flags(table, sources, scratch, error);
    }
    const char *text = (const char *)scratch + option->offset;
    *path = text[0] != '\0' ? text : NULL;
    return status;
}

static int load_file(const struct config_table *table, const char *path, void *target,
                     struct error *error)
{
    struct buffer text = {0};
    int status = os_file_read(path, CONFIG_FILE_SIZE_BYTES_MAX, &text, error);
    if (status == 0) {
        status = config__load_lines(table, path, buffer_bytes(&text), target, error);
    } else {
        (void)error_wrap(error, status, "configuration file");
    }
    buffer_deinit(&text);
    return status;
}

int config_load(const struct config_table *table, const struct config_sources *sources,
                void *target, struct error *error)
{
    const char *path = NULL;
    uint8_t *scratch = memory_allocate(table->target_size_bytes);
    uint8_t *loaded = memory_allocate(table->target_size_bytes);
    memcpy(scratch, target, table->target_size_bytes);
    memcpy(loaded, target, table->target_size_bytes);
    load_defaults(table, loaded);
    load_defaults(table, scratch);
    int status = find_file(table, sources, scratch, &path, error);
    if (status == 0 && path != NULL) {
        status = load_file(table, path, loaded, error);
    }
    if (status == 0) {
        status = load_environment(table, sources->environment, loaded, error);
    }
    if (status == 0) {
        status = load_flags(table, sources, loaded, error);
    }
    if (status == 0) {
        memcpy(target, loaded, table->target_size_bytes);
    }
    memory_free(loaded);
    memory_free(scratch);
    return status;
}

int config_load_text(const struct config_table *table, const char *file_name, struct bytes text,
                     void *target, struct error *error)
{
    uint8_t *loaded = memory_allocate(table->target_size_bytes);
    memcpy(loaded, target, table->target_size_bytes);
    load_defaults(table, loaded);
    int status = config__load_lines(table, file_name, text, loaded, error);
    if (status == 0) {
        memcpy(target, loaded, table->target_size_bytes);
    }
    memory_free(loaded);
    return status;
}
