/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti top`: a screen of its own on the terminal, drawn anew after each look. What is drawn fits
 * the terminal, so nothing scrolls; everything is put back when it ends, however it ends. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli_internal.h"
#include "driver/os/os.h"

enum { TIMEOUT_MS = 3000 };
enum { WIDTH_DEFAULT = 80, HEIGHT_DEFAULT = 24, WIDTH_MIN = 20, HEIGHT_MIN = 6 };

static volatile sig_atomic_t is_interrupted;

static void interrupted(int signal_number)
{
    (void)signal_number;
    is_interrupted = 1;
}

/* ---- One look -------------------------------------------------------------------------------- */

struct look {
    struct json *status;
    struct json *nodes;
};

static int look_at(const struct cli__options *options, const char *verb, struct json **answer,
                   struct error *error)
{
    struct buffer text = {0};
    int http_status = 0;
    int status = cli__ask_quietly(options, verb, NULL, answer, &text, &http_status, error);
    buffer_deinit(&text);
    if (status == 0 && http_status != 200) {
        status = error_say(error, -EAGAIN, "%.200s",
                           json_text(json_get(*answer, "error"), "the node refused"));
        json_destroy(*answer);
        *answer = NULL;
    }
    return status;
}

static int look(const struct cli__options *options, struct look *look, struct error *error)
{
    *look = (struct look){0};
    int status = look_at(options, "status", &look->status, error);
    return status == 0 ? look_at(options, "nodes", &look->nodes, error) : status;
}

static void look_end(struct look *look)
{
    json_destroy(look->status);
    json_destroy(look->nodes);
}

/* ---- Drawing --------------------------------------------------------------------------------- */

void cli__append_move(struct buffer *output, const struct json *move)
{
    char shard[CLI__TEXT_SIZE];
    char source[CLI__TEXT_SIZE];
    char target[CLI__TEXT_SIZE];
    char percent[CLI__TEXT_SIZE];
    char size[CLI__TEXT_SIZE];
    char age[CLI__TEXT_SIZE];
    const char *kind = json_text(json_get(move, "kind"), "?");
    const struct json *total = json_get(move, "total_bytes");
    (void)cli__whole(json_get(move, "shard"), shard);
    (void)cli__whole(json_get(move, "source"), source);
    (void)cli__whole(json_get(move, "target"), target);
    if (strcmp(kind, "add") == 0) {
        cli__append(output, CLI__PLAIN, false, "shard %s: a replica for node %s from node %s",
                    shard, target, source);
    } else if (strcmp(kind, "remove") == 0) {
        cli__append(output, CLI__PLAIN, false, "shard %s: the replica of node %s goes", shard,
                    source);
    } else if (strcmp(kind, "transfer") == 0) {
        cli__append(output, CLI__PLAIN, false, "shard %s: node %s leads instead of node %s", shard,
                    target, source);
    } else {
        cli__append(output, CLI__PLAIN, false, "shard %s: %s", shard, kind);
    }
    if (json_number(total, 0) > 0) {
        buffer_append_format(output, ", %s of %s",
                             cli__percent(json_get(move, "done_bytes"), total, percent),
                             cli__size(total, size));
    }
    if (json_get(move, "age_ms") != NULL) {
        buffer_append_format(output, ", %s", cli__duration(json_get(move, "age_ms"), age));
    }
}

static const char *plural(const struct json *count)
{
    return json_number(count, 0) == 1 ? "" : "s";
}

static void append_title(struct buffer *output, const struct json *status, bool is_coloured)
{
    char replicas[CLI__TEXT_SIZE];
    char shards[CLI__TEXT_SIZE];
    char active[CLI__TEXT_SIZE];
    const struct json *nodes = json_get(status, "nodes");
    const struct json *shard_count = json_get(json_get(status, "shards"), "count");
    cli__append(output, CLI__BOLD, is_coloured, "tutti");
    cli__append(
        output, CLI__PLAIN, false, "  cluster %.8s, %s active node%s, %s shard%s, %s replica%s",
        json_text(json_get(status, "cluster"), "?"), cli__whole(json_get(nodes, "active"), active),
        plural(json_get(nodes, "active")), cli__whole(shard_count, shards), plural(shard_count),
        cli__whole(json_get(status, "replicas"), replicas), plural(json_get(status, "replicas")));
    buffer_append_byte(output, '\n');
}

static void append_load(struct buffer *output, const struct json *load)
{
    char texts[6][CLI__TEXT_SIZE];
    buffer_append_format(output, "Reads  %8s/s  p50 %8s  p99 %8s\nWrites %8s/s  p50 %8s  p99 %8s\n",
                         cli__count(json_get(load, "reads_per_s"), texts[0]),
                         cli__latency(json_get(load, "read_p50_us"), texts[1]),
                         cli__latency(json_get(load, "read_p99_us"), texts[2]),
                         cli__count(json_get(load, "writes_per_s"), texts[3]),
                         cli__latency(json_get(load, "write_p50_us"), texts[4]),
                         cli__latency(json_get(load, "write_p99_us"), texts[5]));
}

static uint32_t count_items(const struct json *array)
{
    uint32_t count = 0;
    while (json_at(array, count) != NULL) {
        count++;
    }
    return count;
}

/* What is not well and not said by the verdict already. */
static bool is_news(const struct json *status, size_t place)
{
    const char *problem = json_text(json_at(json_get(status, "problems"), place), "?");
    return strcmp(problem, json_text(json_get(status, "verdict"), "")) != 0;
}

static uint32_t count_problems(const struct json *status, const struct json *nodes)
{
    uint32_t all = count_items(json_get(status, "problems"));
    uint32_t count = cli__count_silent(nodes);
    for (uint32_t i = 0; i < all; i++) {
        count += is_news(status, i);
    }
    return count;
}

static void append_problems(struct buffer *output, const struct json *status,
                            const struct json *nodes, uint32_t count_max)
{
    const struct json *problems = json_get(status, "problems");
    for (size_t i = 0; json_at(problems, i) != NULL && count_max > 0; i++) {
        if (is_news(status, i)) {
            cli__append(output, CLI__PLAIN, false, "- %s\n", json_text(json_at(problems, i), "?"));
            count_max--;
        }
    }
    cli__append_silent(output, nodes, count_max, "- ");
}

/* How the lines under the head are shared out. */
struct shares {
    uint32_t problem_count;
    uint32_t node_count;
    uint32_t move_count;
};

/* Problems first, then nodes, then moves: each gets what the ones before leave, and a line is kept
 * for "… more". 0 lines in all: there is no limit. */
static struct shares share_lines(uint32_t room, uint32_t problem_count, uint32_t node_count,
                                 uint32_t move_count)
{
    struct shares shares = {problem_count, node_count, move_count};
    if (room == 0) {
        return shares;
    }
    uint32_t problem_share = room / 5;
    uint32_t move_share = room / 4;
    shares.problem_count = problem_count < problem_share ? problem_count : problem_share;
    room -= shares.problem_count;
    uint32_t for_moves = move_count < move_share ? move_count : move_share;
    uint32_t for_nodes = room > for_moves + 1 ? room - for_moves - 1 : 1;
    shares.node_count = node_count <= for_nodes ? node_count : for_nodes;
    uint32_t used = shares.node_count + (shares.node_count < node_count);
    uint32_t left = room > used ? room - used : 0;
    shares.move_count = move_count <= left ? move_count : left > 0 ? left - 1 : 0;
    return shares;
}

static void append_moves(struct buffer *output, const struct json *moves, uint32_t count,
                         bool is_coloured)
{
    uint32_t all = count_items(moves);
    if (all == 0) {
        buffer_append(output, BYTES("Nothing is being moved.\n"));
        return;
    }
    cli__append(output, CLI__BOLD, is_coloured, "Moves");
    buffer_append_byte(output, '\n');
    for (uint32_t i = 0; i < count; i++) {
        cli__append_move(output, json_at(moves, i));
        buffer_append_byte(output, '\n');
    }
    if (count < all) {
        buffer_append_format(output, "… %u more\n", all - count);
    }
}

enum { FIXED_LINE_COUNT = 8 }; /* Title, verdict, load (2), table's head, two empty, "Moves". */

void cli__top_draw(struct buffer *output, const struct json *status, const struct json *nodes,
                   uint32_t width, uint32_t height, bool is_coloured)
{
    const struct json *moves = json_get(status, "moves");
    const struct json *list = json_get(nodes, "nodes");
    uint32_t room = height == 0 ? 0 : height > FIXED_LINE_COUNT + 3 ? height - FIXED_LINE_COUNT : 3;
    struct shares shares =
        share_lines(room, count_problems(status, list), count_items(list), count_items(moves));
    append_title(output, status, is_coloured);
    cli__append_verdict(output, status, is_coloured);
    append_problems(output, status, list, shares.problem_count);
    append_load(output, json_get(status, "load"));
    buffer_append_byte(output, '\n');
    struct cli__table *table = cli__make_nodes(list, width);
    cli__table_append(table, is_coloured, width, shares.node_count, output);
    cli__table_destroy(table);
    buffer_append_byte(output, '\n');
    append_moves(output, moves, shares.move_count, is_coloured);
}

/* ---- The screen ------------------------------------------------------------------------------ */

/* Bytes of a colour at `text`; 0: there is none. */
static size_t colour_size(const char *text, size_t size)
{
    if (text[0] != '\033') {
        return 0;
    }
    size_t used = 1;
    while (used < size && text[used] != 'm') {
        used++;
    }
    return used < size ? used + 1 : size;
}

/* Put lines on the screen, each cut at the width and cleared behind, at most `height`; the last row
 * has the footer. */
static void fit(const struct buffer *lines, uint32_t width, uint32_t height, const char *footer,
                struct buffer *screen)
{
    const char *text = (const char *)lines->data;
    uint32_t column = 0;
    uint32_t row = 1;
    buffer_append(screen, BYTES("\033[H"));
    for (size_t i = 0; i < lines->size_bytes && row < height;) {
        size_t colour = colour_size(text + i, lines->size_bytes - i);
        if (colour > 0) {
            buffer_append(screen, bytes_make(text + i, colour));
            i += colour;
            continue;
        }
        if (text[i] == '\n') {
            row++;
            buffer_append(screen, BYTES("\033[K\r\n"));
            column = 0;
        } else {
            column += ((uint8_t)text[i] & 0xc0) != 0x80;
            if (column <= width) {
                buffer_append_byte(screen, (uint8_t)text[i]);
            }
        }
        i++;
    }
    buffer_append_format(screen, "\033[0m%s\033[K\033[J", footer);
}

static void write_all(const struct buffer *bytes)
{
    size_t sent = 0;
    while (sent < bytes->size_bytes) {
        ssize_t count = write(STDOUT_FILENO, bytes->data + sent, bytes->size_bytes - sent);
        if (count <= 0 && errno != EINTR) {
            is_interrupted = 1; /* The terminal is gone. */
            return;
        }
        sent += count > 0 ? (size_t)count : 0;
    }
}

static void screen_size(uint32_t *width, uint32_t *height)
{
    struct winsize size = {0};
    bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    *width = is_known && size.ws_col >= WIDTH_MIN ? size.ws_col : WIDTH_DEFAULT;
    *height = is_known && size.ws_row >= HEIGHT_MIN ? size.ws_row : HEIGHT_DEFAULT;
}

static void draw_screen(const struct look *look, const char *problem)
{
    struct buffer lines = {0};
    struct buffer screen = {0};
    uint32_t width;
    uint32_t height;
    bool is_coloured = cli__is_coloured();
    screen_size(&width, &height);
    if (problem != NULL) {
        cli__append(&lines, CLI__RED, is_coloured, "%s", problem);
        buffer_append(&lines, BYTES("\n\nTrying again.\n"));
    } else {
        cli__top_draw(&lines, look->status, look->nodes, width, height - 1, is_coloured);
    }
    fit(&lines, width, height, "q quits", &screen);
    write_all(&screen);
    buffer_deinit(&lines);
    buffer_deinit(&screen);
}

/* Wait, until it is time to look again (true) or somebody wants to quit. */
static bool wait_for_key(uint64_t wait_ms)
{
    uint64_t until_ms = os_monotonic_ms() + wait_ms;
    for (;;) {
        uint64_t now_ms = os_monotonic_ms();
        if (is_interrupted != 0) {
            return false;
        }
        if (now_ms >= until_ms) {
            return true;
        }
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(&input, 1, (int)(until_ms - now_ms));
        char key = '\0';
        if (ready > 0 && (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q')) {
            return false;
        }
        if (key == ' ') {
            return true;
        }
    }
}

static void run_screen(const struct cli__options *options)
{
    uint64_t interval_s = options->interval_s != 0 ? options->interval_s : 1;
    do {
        struct look seen;
        struct error error = {0};
        int status = look(options, &seen, &error);
        draw_screen(&seen, status == 0 ? NULL : error.message);
        look_end(&seen);
    } while (wait_for_key(interval_s * 1000));
}

static int show_live(const struct cli__options *options)
{
    struct termios before;
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &before) != 0) {
        return CLI_EXIT_FAILED;
    }
    struct sigaction action = {.sa_handler = interrupted};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    /* A screen of its own, without a cursor; at the end the old one comes back. */
    struct buffer codes = {0};
    buffer_append(&codes, BYTES("\033[?1049h\033[?25l"));
    write_all(&codes);
    run_screen(options);
    buffer_clear(&codes);
    buffer_append(&codes, BYTES("\033[?25h\033[?1049l"));
    write_all(&codes);
    buffer_deinit(&codes);
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return CLI_EXIT_OK;
}

/* For programs, and where there is no terminal. */
static int show_once(const struct cli__options *options)
{
    struct look seen;
    struct error error = {0};
    if (look(options, &seen, &error) != 0) {
        (void)fprintf(stderr, "tutti top: %s\n", error.message);
        look_end(&seen);
        return CLI_EXIT_NO_ANSWER;
    }
    struct buffer output = {0};
    bool is_well = json_flag(json_get(seen.status, "well"), true);
    if (options->is_json) {
        struct json *all = json_object_create();
        json_set(all, "status", seen.status);
        json_set(all, "nodes", seen.nodes);
        json_write(all, &output);
        cli__print_json(&output);
        seen = (struct look){0};
        json_destroy(all);
    } else {
        cli__top_draw(&output, seen.status, seen.nodes, 0, 0, cli__is_coloured());
        cli__print(&output);
    }
    look_end(&seen);
    buffer_deinit(&output);
    return is_well ? CLI_EXIT_OK : CLI_EXIT_FAILED;
}

int cli__top(const struct cli__options *options)
{
    struct cli__options asking = *options;
    asking.timeout_ms = TIMEOUT_MS;
    bool is_live = !options->is_json && isatty(STDOUT_FILENO) == 1 && isatty(STDIN_FILENO) == 1;
    return is_live ? show_live(&asking) : show_once(&asking);
}
