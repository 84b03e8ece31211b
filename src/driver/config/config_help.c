/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "driver/config/config.h"

enum { INDENT = 6, WIDTH = 88, VARIABLE_SIZE_MAX = 96 };

/* Append words, breaking lines where they would be wider than WIDTH. */
static void append_wrapped(struct buffer *target, const char *text)
{
    size_t column = 0;
    const char *word = text;
    while (*word != '\0') {
        size_t size_bytes = strcspn(word, " ");
        if (column == 0 || column + 1 + size_bytes > WIDTH) {
            buffer_append_format(target, "%s%*s", column == 0 ? "" : "\n", INDENT, "");
            column = INDENT;
        } else {
            buffer_append_byte(target, ' ');
            column++;
        }
        buffer_append(target, bytes_make(word, size_bytes));
        column += size_bytes;
        word += size_bytes;
        word += strspn(word, " ");
    }
    buffer_append_byte(target, '\n');
}

static void format_variable(const struct config_table *table, const struct config_option *option,
                            char *target, size_t size)
{
    (void)snprintf(target, size, "%s%s", table->prefix, option->name);
    for (char *each = target + strlen(table->prefix); *each != '\0'; each++) {
        *each = *each == '-' ? '_' : (char)toupper((unsigned char)*each);
    }
}

static void append_option(const struct config_table *table, const struct config_option *option,
                          struct buffer *target)
{
    char variable[VARIABLE_SIZE_MAX];
    format_variable(table, option, variable, sizeof variable);
    buffer_append_format(target, "  --%s %s\n", option->name, option->unit);
    append_wrapped(target, option->help);
    const char *value = option->default_text != NULL ? option->default_text : option->default_note;
    struct buffer line = {0};
    buffer_append_format(&line, "Default: %s. Variable: %s.",
                         value != NULL && value[0] != '\0' ? value : "none", variable);
    buffer_append_byte(&line, 0);
    append_wrapped(target, (const char *)line.data);
    buffer_append_byte(target, '\n');
    buffer_deinit(&line);
}

void config_help(const struct config_table *table, struct buffer *text)
{
    for (uint32_t i = 0; i < table->option_count; i++) {
        append_option(table, &table->options[i], text);
    }
    append_wrapped(text,
                   "A flag beats a variable, a variable beats the configuration file, and that "
                   "beats the default. In the file an option is written without dashes, one a "
                   "line: name = value");
}
