/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file, split into names and values by inih. We hand it the lines one by one, so
 * that we know their numbers and can refuse what it would silently cut or accept. */
#include <ini.h>
#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "driver/config/config_internal.h"

struct reading {
    const struct config_table *table;
    const char *file_name;
    struct bytes rest;
    uint32_t line;                             /* Number of the line that inih has now. */
    uint32_t seen_at[CONFIG_OPTION_COUNT_MAX]; /* Line of each option, 0 when not seen. */
    void *target;
    struct error *error;
    int status; /* Of the first error; later ones are not told. */
};

static void refuse_line(struct reading *reading, const char *reason)
{
    if (reading->status == 0) {
        reading->status = error_say(reading->error, -EINVAL, "%s:%u: %s", reading->file_name,
                                    reading->line, reason);
    }
}

/* inih's reader: the next line into `target`, as fgets does. NULL ends the file. */
static char *next_line(char *target, int size, void *stream)
{
    struct reading *reading = stream;
    if (reading->status != 0 || reading->rest.size_bytes == 0) {
        return NULL;
    }
    reading->line++;
    struct bytes rest = reading->rest;
    const uint8_t *end = memchr(rest.data, '\n', rest.size_bytes);
    size_t size_bytes = end != NULL ? (size_t)(end - rest.data) : rest.size_bytes;
    size_t taken_bytes = end != NULL ? size_bytes + 1 : size_bytes;
    if (size_bytes > 0 && rest.data[size_bytes - 1] == '\r') {
        size_bytes--;
    }
    if (size_bytes + 2 > (size_t)size) {
        refuse_line(reading, "the line is too long");
        return NULL;
    }
    for (size_t i = 0; i < size_bytes; i++) {
        if ((rest.data[i] < ' ' && rest.data[i] != '\t') || rest.data[i] == 0x7f) {
            refuse_line(reading, "the line has control characters: this is not a text file");
            return NULL;
        }
    }
    memcpy(target, rest.data, size_bytes);
    target[size_bytes] = '\n';
    target[size_bytes + 1] = '\0';
    reading->rest = bytes_make(rest.data + taken_bytes, rest.size_bytes - taken_bytes);
    return target;
}

static void refuse_name(struct reading *reading, const char *name)
{
    char reason[160];
    const struct config_option *near = config__find_near(reading->table, bytes_of_text(name));
    if (near != NULL) {
        (void)snprintf(reason, sizeof reason, "unknown option \"%.60s\"; did you mean \"%s\"?",
                       name, near->name);
    } else {
        (void)snprintf(reason, sizeof reason, "unknown option \"%.60s\"", name);
    }
    refuse_line(reading, reason);
}

static int set_value(struct reading *reading, const char *name, const char *value)
{
    const struct config_table *table = reading->table;
    const struct config_option *option = config__find(table, bytes_of_text(name));
    if (option == NULL) {
        refuse_name(reading, name);
        return reading->status;
    }
    if (table->file_option != NULL && strcmp(name, table->file_option) == 0) {
        refuse_line(reading, "a configuration file cannot name another one");
        return reading->status;
    }
    size_t position = (size_t)(option - table->options);
    if (reading->seen_at[position] != 0) {
        char reason[120];
        (void)snprintf(reason, sizeof reason, "\"%s\" is set twice, first in line %u", name,
                       reading->seen_at[position]);
        refuse_line(reading, reason);
        return reading->status;
    }
    reading->seen_at[position] = reading->line;
    char where[200];
    (void)snprintf(where, sizeof where, "%.120s:%u: %s", reading->file_name, reading->line, name);
    return config__set(option, where, value, reading->target, reading->error);
}

/* inih's handler: not 0 to go on. */
static int found(void *user, const char *section, const char *name, const char *value)
{
    struct reading *reading = user;
    if (reading->status != 0) {
        return 0;
    }
    if (section[0] != '\0') {
        refuse_line(reading, "sections are not known here: remove the line in [brackets]");
    } else {
        reading->status = set_value(reading, name, value);
    }
    return reading->status == 0;
}

/* The library's settings are global; it is used nowhere else. */
static void set_up_library(void)
{
    ini_allow_multiline = false;
    ini_allow_bom = false;
    ini_allow_inline_comments = false;
    ini_use_stack = false;
    ini_max_line = CONFIG_LINE_SIZE_MAX;
    ini_initial_alloc = CONFIG_LINE_SIZE_MAX;
    ini_stop_on_first_error = true;
    ini_allow_no_value = false;
}

int config__load_lines(const struct config_table *table, const char *file_name, struct bytes text,
                       void *target, struct error *error)
{
    struct reading reading = {
        .table = table, .file_name = file_name, .rest = text, .target = target, .error = error};
    set_up_library();
    int outcome = ini_parse_stream(next_line, &reading, found, &reading);
    ASSERT(outcome != -2); /* Its malloc failed: as fatal as ours. */
    if (outcome > 0) {
        refuse_line(&reading, "expected: name = value");
    }
    return reading.status;
}
