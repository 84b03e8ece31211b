/* SPDX-License-Identifier: Apache-2.0 */
/* Text for people: colours, numbers, tables. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "cli/cli_internal.h"

enum { COLUMN_COUNT_MAX = 16, GAP = 2, LINE_SIZE_MAX = 4096 };

bool cli__is_coloured(void)
{
    const char *no_colour = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) == 1 && (no_colour == NULL || no_colour[0] == '\0');
}

static const char *code_of(enum cli__colour colour)
{
    switch (colour) {
    case CLI__BOLD:
        return "\033[1m";
    case CLI__GREEN:
        return "\033[1;32m";
    case CLI__RED:
        return "\033[1;31m";
    case CLI__YELLOW:
        return "\033[33m";
    case CLI__DIM:
        return "\033[2m";
    case CLI__PLAIN:
        break;
    }
    return "";
}

void cli__append(struct buffer *output, enum cli__colour colour, bool is_coloured,
                 const char *format, ...)
{
    char text[LINE_SIZE_MAX];
    bool is_shown = is_coloured && colour != CLI__PLAIN;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ASSERT(length >= 0);
    if (is_shown) {
        buffer_append(output, bytes_of_text(code_of(colour)));
    }
    /* What a node says of itself must not reach into the terminal. */
    for (char *each = text; *each != '\0'; each++) {
        bool is_control = ((uint8_t)*each < ' ' && *each != '\n') || *each == 0x7f;
        buffer_append_byte(output, is_control ? '?' : (uint8_t)*each);
    }
    if (is_shown) {
        buffer_append(output, BYTES("\033[0m"));
    }
}

void cli__append_verdict(struct buffer *output, const struct json *answer, bool is_coloured)
{
    bool is_well = json_flag(json_get(answer, "well"), true);
    cli__append(output, is_well ? CLI__GREEN : CLI__RED, is_coloured, "%s",
                json_text(json_get(answer, "verdict"), "?"));
    buffer_append_byte(output, '\n');
}

void cli__print(const struct buffer *output)
{
    (void)fwrite(output->data, 1, output->size_bytes, stdout);
}

uint32_t cli__terminal_width(void)
{
    struct winsize size = {0};
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/* ---- Numbers --------------------------------------------------------------------------------- */

/* False, and "-": there is none. */
static bool take_number(const struct json *json, double *value, char *text)
{
    *value = json_number(json, -1);
    if (*value >= 0) {
        return true;
    }
    (void)snprintf(text, CLI__TEXT_SIZE, "-");
    return false;
}

/* With a digit behind the point while there is room for it in three digits. */
static void scale(double value, double base, const char *const *units, uint32_t unit_count,
                  char *text)
{
    uint32_t unit = 0;
    while (value >= base && unit + 1 < unit_count) {
        value /= base;
        unit++;
    }
    bool has_point = unit > 0 && value < 99.95;
    (void)snprintf(text, CLI__TEXT_SIZE, "%.*f%s", has_point ? 1 : 0, value, units[unit]);
}

const char *cli__count(const struct json *json, char *text)
{
    static const char *const units[] = {"", "k", "M", "G"};
    double value;
    if (take_number(json, &value, text)) {
        scale(value, 1000, units, 4, text);
    }
    return text;
}

const char *cli__size(const struct json *json, char *text)
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
    double value;
    if (take_number(json, &value, text)) {
        scale(value, 1024, units, 6, text);
    }
    return text;
}

const char *cli__latency(const struct json *json, char *text)
{
    double value;
    if (take_number(json, &value, text)) {
        bool is_long = value >= 1e6;
        double shown = is_long ? value / 1e6 : value / 1e3;
        int digits = shown < 9.995 ? 2 : shown < 99.95 ? 1 : 0;
        (void)snprintf(text, CLI__TEXT_SIZE, "%.*f %s", digits, shown, is_long ? "s" : "ms");
    }
    return text;
}

const char *cli__duration(const struct json *json, char *text)
{
    double value;
    if (!take_number(json, &value, text)) {
        return text;
    }
    double seconds = value / 1000;
    if (seconds < 10) {
        (void)snprintf(text, CLI__TEXT_SIZE, "%.1f s", seconds);
    } else if (seconds < 120) {
        (void)snprintf(text, CLI__TEXT_SIZE, "%.0f s", floor(seconds));
    } else if (seconds < 2 * 3600) {
        (void)snprintf(text, CLI__TEXT_SIZE, "%.0f min", floor(seconds / 60));
    } else if (seconds < 2 * 86400) {
        (void)snprintf(text, CLI__TEXT_SIZE, "%.0f h", floor(seconds / 3600));
    } else {
        (void)snprintf(text, CLI__TEXT_SIZE, "%.0f d", floor(seconds / 86400));
    }
    return text;
}

const char *cli__whole(const struct json *json, char *text)
{
    double value;
    if (take_number(json, &value, text)) {
        (void)snprintf(text, CLI__TEXT_SIZE, "%.0f", value);
    }
    return text;
}

const char *cli__percent(const struct json *part, const struct json *whole, char *text)
{
    double value;
    double all = json_number(whole, 0);
    if (!(all > 0)) {
        part = NULL;
    }
    if (take_number(part, &value, text)) {
        double percent = 100 * value / all;
        (void)snprintf(text, CLI__TEXT_SIZE, "%.0f%%", percent < 100 ? percent : 100.0);
    }
    return text;
}

const char *cli__time(const struct json *json, char *text)
{
    double value;
    if (take_number(json, &value, text)) {
        time_t seconds = (time_t)(value / 1000);
        struct tm parts;
        if (localtime_r(&seconds, &parts) == NULL ||
            strftime(text, CLI__TEXT_SIZE, "%Y-%m-%d %H:%M:%S", &parts) == 0) {
            (void)snprintf(text, CLI__TEXT_SIZE, "?");
        }
    }
    return text;
}

/* ---- Tables ---------------------------------------------------------------------------------- */

struct cell {
    struct buffer text; /* Clean, without colour, ended by a zero. */
    enum cli__colour colour;
};

struct cli__table {
    const struct cli__column *columns;
    uint32_t column_count;
    bool is_left_out[COLUMN_COUNT_MAX];
    struct cell *cells;
    uint32_t cell_count;
    uint32_t cell_capacity;
};

struct cli__table *cli__table_create(const struct cli__column *columns, uint32_t column_count)
{
    ASSERT(column_count > 0 && column_count <= COLUMN_COUNT_MAX);
    struct cli__table *table = memory_allocate_zeroed(1, sizeof *table);
    table->columns = columns;
    table->column_count = column_count;
    return table;
}

void cli__table_destroy(struct cli__table *table)
{
    for (uint32_t i = 0; i < table->cell_count; i++) {
        buffer_deinit(&table->cells[i].text);
    }
    memory_free(table->cells);
    memory_free(table);
}

void cli__table_add(struct cli__table *table, enum cli__colour colour, const char *text)
{
    if (table->cell_count == table->cell_capacity) {
        table->cell_capacity = table->cell_capacity == 0 ? 64 : 2 * table->cell_capacity;
        table->cells = memory_resize(table->cells, table->cell_capacity * sizeof *table->cells);
    }
    struct cell *cell = &table->cells[table->cell_count++];
    *cell = (struct cell){.colour = colour};
    cli__append(&cell->text, CLI__PLAIN, false, "%s", text[0] != '\0' ? text : "-");
    buffer_append_byte(&cell->text, '\0');
}

/* Columns of a terminal that a text takes: characters, not bytes. */
static uint32_t width_of(const char *text)
{
    uint32_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((uint8_t)*text & 0xc0) != 0x80;
    }
    return width;
}

/* Append at most `room` columns of a text; returns how many it took. */
static uint32_t append_cut(struct buffer *output, const char *text, uint32_t room)
{
    uint32_t used = 0;
    for (; *text != '\0'; text++) {
        bool is_start = ((uint8_t)*text & 0xc0) != 0x80;
        if (is_start && used == room) {
            break;
        }
        used += is_start;
        buffer_append_byte(output, (uint8_t)*text);
    }
    return used;
}

struct line {
    struct buffer *output;
    uint32_t room; /* Columns that are left. */
    bool is_coloured;
};

static void append_blanks(struct line *line, uint32_t count)
{
    for (uint32_t i = 0; i < count && line->room > 0; i++) {
        buffer_append_byte(line->output, ' ');
        line->room--;
    }
}

static void append_cell(struct line *line, enum cli__colour colour, const char *text,
                        uint32_t blanks_before, uint32_t blanks_after)
{
    bool is_shown = line->is_coloured && colour != CLI__PLAIN;
    append_blanks(line, blanks_before);
    if (is_shown) {
        buffer_append(line->output, bytes_of_text(code_of(colour)));
    }
    line->room -= append_cut(line->output, text, line->room);
    if (is_shown) {
        buffer_append(line->output, BYTES("\033[0m"));
    }
    append_blanks(line, blanks_after);
}

/* A row of cells, or (NULL) of titles. */
static void append_row(const struct cli__table *table, const struct cell *cells,
                       const uint32_t *widths, struct line line)
{
    uint32_t last = table->column_count;
    while (last > 0 && table->is_left_out[last - 1]) {
        last--;
    }
    for (uint32_t i = 0; i < last; i++) {
        const struct cli__column *column = &table->columns[i];
        if (table->is_left_out[i]) {
            continue;
        }
        const char *text = cells == NULL ? column->title : (const char *)cells[i].text.data;
        enum cli__colour colour = cells == NULL ? CLI__BOLD : cells[i].colour;
        bool is_last = i + 1 == last;
        uint32_t blanks = widths[i] - width_of(text);
        append_cell(&line, colour, text, column->is_right ? blanks : 0,
                    is_last            ? 0
                    : column->is_right ? GAP
                                       : blanks + GAP);
    }
    buffer_append_byte(line.output, '\n');
}

static void measure(const struct cli__table *table, uint32_t widths[COLUMN_COUNT_MAX])
{
    for (uint32_t i = 0; i < table->column_count; i++) {
        widths[i] = width_of(table->columns[i].title);
    }
    for (uint32_t i = 0; i < table->cell_count; i++) {
        uint32_t width = width_of((const char *)table->cells[i].text.data);
        uint32_t *widest = &widths[i % table->column_count];
        *widest = width > *widest ? width : *widest;
    }
}

static uint32_t whole_width(const struct cli__table *table, const uint32_t widths[COLUMN_COUNT_MAX])
{
    uint32_t width = 0;
    for (uint32_t i = 0; i < table->column_count; i++) {
        width += table->is_left_out[i] ? 0 : widths[i] + GAP;
    }
    return width > GAP ? width - GAP : 0;
}

void cli__table_fit(struct cli__table *table, uint32_t width_max)
{
    uint32_t widths[COLUMN_COUNT_MAX] = {0};
    measure(table, widths);
    while (width_max != 0 && whole_width(table, widths) > width_max) {
        uint32_t chosen = table->column_count;
        uint32_t rank_max = 0;
        for (uint32_t i = 0; i < table->column_count; i++) {
            if (!table->is_left_out[i] && table->columns[i].rank > rank_max) {
                chosen = i;
                rank_max = table->columns[i].rank;
            }
        }
        if (rank_max == 0) {
            return;
        }
        table->is_left_out[chosen] = true;
    }
}

void cli__table_append_left_out(const struct cli__table *table, bool is_coloured,
                                struct buffer *output)
{
    struct buffer names = {0};
    for (uint32_t i = 0; i < table->column_count; i++) {
        if (table->is_left_out[i]) {
            buffer_append_format(&names, "%s%s", names.size_bytes > 0 ? ", " : "",
                                 table->columns[i].title);
        }
    }
    if (names.size_bytes > 0) {
        buffer_append_byte(&names, '\0');
        cli__append(output, CLI__DIM, is_coloured, "No room for: %s", (const char *)names.data);
        buffer_append_byte(output, '\n');
    }
    buffer_deinit(&names);
}

void cli__table_append(const struct cli__table *table, bool is_coloured, uint32_t width_max,
                       uint32_t row_count_max, struct buffer *output)
{
    uint32_t widths[COLUMN_COUNT_MAX] = {0};
    ASSERT(table->cell_count % table->column_count == 0);
    uint32_t row_count = table->cell_count / table->column_count;
    struct line line = {output, width_max != 0 ? width_max : UINT32_MAX, is_coloured};
    measure(table, widths);
    append_row(table, NULL, widths, line);
    uint32_t shown = row_count_max == 0 || row_count <= row_count_max ? row_count : row_count_max;
    for (uint32_t i = 0; i < shown; i++) {
        append_row(table, &table->cells[i * table->column_count], widths, line);
    }
    if (shown < row_count) {
        buffer_append_format(output, "… %" PRIu32 " more\n", row_count - shown);
    }
}
