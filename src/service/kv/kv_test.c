/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: kv answers as Redis does, whatever the order of commands, expiry and restarts, and its
 * rows keep the invariants of kv.h.
 *
 * Runs every testdata/\*.txt of this folder. A block is commands, "----", and what they answered,
 * up to an empty line; each block starts with an empty database at time 1000, and after it the rows
 * are verified. UPDATE=1 rewrites what was expected. Commands are written as for redis-cli ("\x00"
 * in double quotes), and these direct the runner:
 *
 *   time N       set the clock to N milliseconds
 *   resp N       speak version N of the protocol
 *   restart      save, forget everything in memory, load
 *   sweep        do all background work that is due, and count the commands
 *   statistics   what kv_get_statistics() says
 *   rows         the rows of the store, for people
 *   WATCH, MULTI, EXEC, DISCARD, PING in MULTI, SLOTCOUNT, SLOTKEYS: what a gateway makes of them */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/number/number.h"
#include "core/memstore/memstore.h"
#include "core/rows/rows.h"
#include "service/kv/kv.h"
#include "tests/testdata/testdata.h"

enum { ARGUMENT_COUNT_MAX = 64, SWEEP_COMMAND_COUNT_MAX = 10000 };

struct world {
    struct memstore *memstore;
    struct rows *rows;
    struct kv *kv;
    struct shard_machine machine;
    uint64_t time_ms;
    uint64_t durable_time_ms;
    uint64_t index;
    uint8_t protocol;
    bool is_queueing;
    struct kv_transaction *transaction;
    struct buffer reply;
    struct buffer saved;
};

static void world_init(struct world *world)
{
    *world = (struct world){.memstore = memstore_create(1), .protocol = 2, .time_ms = 1000};
    world->rows = rows_create(memstore_interface(world->memstore), 1 << 20);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    world->kv = kv_create();
    world->machine = kv_machine(world->kv);
    world->transaction = kv_transaction_create();
    assert_int_equal(world->machine.load(world->kv, world->rows, BYTES(""), NULL), 0);
}

static void world_deinit(struct world *world)
{
    kv_transaction_destroy(world->transaction);
    rows_destroy(world->rows);
    kv_destroy(world->kv);
    memstore_destroy(world->memstore);
    buffer_deinit(&world->reply);
    buffer_deinit(&world->saved);
}

static void world_restart(struct world *world)
{
    buffer_clear(&world->saved);
    world->machine.save(world->kv, &world->saved);
    rows_destroy(world->rows);
    kv_destroy(world->kv);
    world->rows = rows_create(memstore_interface(world->memstore), 1 << 20);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    world->kv = kv_create();
    world->machine = kv_machine(world->kv);
    struct error error = {0};
    assert_int_equal(
        world->machine.load(world->kv, world->rows, buffer_bytes(&world->saved), &error), 0);
}

static void execute(struct world *world, const struct shard_command *command)
{
    struct shard_stamp stamp = {.time_ms = world->time_ms, .version = ++world->index << 16};
    struct reply reply = {.target = &world->reply, .protocol = world->protocol};
    buffer_clear(&world->reply);
    assert_int_equal(world->machine.prefetch(world->kv, world->rows, command, &(uint64_t){0}), 0);
    assert_int_equal(world->machine.execute(world->kv, world->rows, &stamp, command, &reply), 0);
    assert_int_equal(rows_commit(world->rows, NULL), 0);
    world->durable_time_ms = world->time_ms;
}

/* As the shard does: a read that meets what has just expired goes through the log. */
static void submit(struct world *world, const struct shard_command *command, bool is_write)
{
    if (is_write) {
        execute(world, command);
        return;
    }
    struct shard_moment moment = {.time_ms = world->time_ms,
                                  .durable_time_ms = world->durable_time_ms};
    struct reply reply = {.target = &world->reply, .protocol = world->protocol};
    buffer_clear(&world->reply);
    assert_int_equal(world->machine.prefetch(world->kv, world->rows, command, &(uint64_t){0}), 0);
    int status = world->machine.read(world->kv, world->rows, &moment, command, &reply);
    if (status == ERROR_EXPIRED_SEEN) {
        execute(world, command);
        return;
    }
    assert_int_equal(status, 0);
}

/* ---- Reading the text ------------------------------------------------------------------------ */

static uint8_t hex_digit(char digit)
{
    return (uint8_t)(digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
}

/* Cut a line into words; quoted ones may have escapes. The words point into `storage`. */
static uint32_t split(const char *line, struct bytes *words, uint8_t *storage)
{
    uint32_t count = 0;
    while (*line != '\0') {
        if (*line == ' ') {
            line++;
            continue;
        }
        assert_true(count < ARGUMENT_COUNT_MAX);
        uint8_t *start = storage;
        char quote = *line == '"' || *line == '\'' ? *line++ : ' ';
        while (*line != '\0' && *line != quote) {
            if (quote == '"' && *line == '\\') {
                line++;
                if (*line == 'x') {
                    *storage++ = (uint8_t)(hex_digit(line[1]) << 4 | hex_digit(line[2]));
                    line += 3;
                    continue;
                }
                *storage++ = (uint8_t)(*line == 'n' ? '\n' : *line == 'r' ? '\r' : *line);
                line++;
                continue;
            }
            *storage++ = (uint8_t)*line++;
        }
        line += quote != ' ' && *line == quote;
        words[count++] = bytes_make(start, (size_t)(storage - start));
        *storage++ = '\0';
    }
    return count;
}

/* ---- Showing replies ------------------------------------------------------------------------- */

static void show_bytes(struct buffer *output, struct bytes bytes)
{
    buffer_append_byte(output, '"');
    if (bytes.size_bytes > 200) {
        buffer_append_format(output, "%zu bytes\"", bytes.size_bytes);
        return;
    }
    for (size_t i = 0; i < bytes.size_bytes; i++) {
        uint8_t byte = bytes.data[i];
        if (byte == '"' || byte == '\\') {
            buffer_append_format(output, "\\%c", byte);
        } else if (byte >= ' ' && byte < 0x7f) {
            buffer_append_byte(output, byte);
        } else {
            buffer_append_format(output, "\\x%02x", byte);
        }
    }
    buffer_append_byte(output, '"');
}

struct level {
    char type;
    int64_t count; /* Of replies still to come; a pair of a map is two. */
    int64_t shown_count;
};

/* Show one reply of RESP at `*place` without what is in it; the number of replies that follow
 * it. */
static int64_t show_one(struct buffer *output, const char **place, char *type)
{
    const char *line = *place;
    const char *end = strstr(line, "\r\n");
    assert_non_null(end);
    *place = end + 2;
    *type = *line;
    struct bytes text = bytes_make(line + 1, (size_t)(end - line - 1));
    int64_t number = 0;
    if (strchr("$*%~=", *line) != NULL) {
        assert_true(number_parse_integer(text, &number));
    }
    switch (*line) {
    case '+':
        buffer_append(output, text);
        break;
    case '-':
        buffer_append(output, BYTES("(error) "));
        buffer_append(output, text);
        break;
    case ':':
        buffer_append(output, BYTES("(integer) "));
        buffer_append(output, text);
        break;
    case ',':
        buffer_append(output, BYTES("(double) "));
        buffer_append(output, text);
        break;
    case '#':
        buffer_append(output, *text.data == 't' ? BYTES("(true)") : BYTES("(false)"));
        break;
    case '_':
        buffer_append(output, BYTES("(null)"));
        break;
    case '$':
        if (number < 0) {
            buffer_append(output, BYTES("(nil)"));
            break;
        }
        show_bytes(output, bytes_make(*place, (size_t)number));
        *place += number + 2;
        break;
    case '*':
    case '~':
    case '%':
        if (number < 0) {
            buffer_append(output, BYTES("(nil array)"));
        } else if (number == 0) {
            buffer_append_format(output, "(empty %s)",
                                 *line == '*'   ? "array"
                                 : *line == '~' ? "set"
                                                : "map");
        }
        return number < 0 ? 0 : *line == '%' ? 2 * number : number;
    default:
        fail_msg("reply of an unknown type: %c", *line);
    }
    return 0;
}

static void show_reply(struct buffer *output, struct bytes reply)
{
    struct level levels[8] = {{0}};
    uint32_t depth = 0;
    const char *place = (const char *)reply.data;
    const char *end = place + reply.size_bytes;
    do {
        struct level *level = &levels[depth];
        if (depth > 0) {
            for (uint32_t i = 1; i < depth; i++) {
                buffer_append(output, BYTES("   "));
            }
            if (level->type == '%' && level->shown_count % 2 == 1) {
                buffer_append(output, BYTES("   => "));
            } else {
                buffer_append_format(
                    output, "%lld%c ",
                    (long long)(level->type == '%' ? level->shown_count / 2 : level->shown_count) +
                        1,
                    level->type == '*'   ? ')'
                    : level->type == '~' ? '~'
                                         : '#');
            }
            level->shown_count++;
        }
        char type;
        int64_t inner_count = show_one(output, &place, &type);
        if (inner_count > 0) {
            buffer_append_format(output, "%s of %lld",
                                 type == '*'   ? "array"
                                 : type == '~' ? "set"
                                               : "map",
                                 (long long)(type == '%' ? inner_count / 2 : inner_count));
            assert_true(depth + 1 < sizeof levels / sizeof levels[0]);
            levels[++depth] = (struct level){type, inner_count, 0};
        }
        buffer_append_byte(output, '\n');
        while (depth > 0 && levels[depth].shown_count == levels[depth].count) {
            depth--;
        }
    } while (depth > 0);
    assert_true(place == end); /* One reply and nothing after it. */
}

/* ---- Directives ------------------------------------------------------------------------------ */

static void run_sweep(struct world *world, struct buffer *output)
{
    uint32_t count = 0;
    uint64_t next_ms = 0;
    struct shard_command command;
    while (world->machine.background(world->kv, world->rows, world->time_ms, &command, &next_ms)) {
        execute(world, &command);
        assert_true(++count < SWEEP_COMMAND_COUNT_MAX);
    }
    buffer_append_format(output, "%u background commands\n", count);
}

static void show_statistics(struct world *world, struct buffer *output)
{
    struct kv_statistics statistics;
    kv_get_statistics(world->kv, &statistics);
    buffer_append_format(output, "keys=%llu expiring=%llu expired=%llu\n",
                         (unsigned long long)statistics.key_count,
                         (unsigned long long)statistics.expiring_key_count,
                         (unsigned long long)statistics.expired_key_count);
}

static void show_rows(struct world *world, struct buffer *output)
{
    struct env_store store = memstore_interface(world->memstore);
    struct env_iterator *iterator;
    assert_int_equal(store.ops->iterator_open(store.context, NULL, ENV_TIER_DISK, BYTES("\x10"),
                                              BYTES("\x11"), &iterator),
                     0);
    int status = store.ops->iterator_seek(store.context, iterator, BYTES("\x10"));
    while (status == 0) {
        show_bytes(output, store.ops->iterator_key(store.context, iterator));
        buffer_append(output, BYTES(" = "));
        show_bytes(output, store.ops->iterator_value(store.context, iterator));
        buffer_append_byte(output, '\n');
        status = store.ops->iterator_next(store.context, iterator);
    }
    store.ops->iterator_close(store.context, iterator);
}

static bool run_directive(struct world *world, const struct bytes *words, uint32_t word_count,
                          struct buffer *output)
{
    uint64_t number = 0;
    if (word_count == 2 && number_parse_unsigned(words[1], &number) &&
        bytes_equal(words[0], BYTES("time"))) {
        assert_true(number >= world->time_ms); /* A shard's time never goes back. */
        world->time_ms = number;
    } else if (word_count == 2 && bytes_equal(words[0], BYTES("resp"))) {
        world->protocol = (uint8_t)number;
    } else if (bytes_equal(words[0], BYTES("restart"))) {
        world_restart(world);
    } else if (bytes_equal(words[0], BYTES("sweep"))) {
        run_sweep(world, output);
    } else if (bytes_equal(words[0], BYTES("statistics"))) {
        show_statistics(world, output);
    } else if (bytes_equal(words[0], BYTES("rows"))) {
        show_rows(world, output);
    } else {
        return false;
    }
    return true;
}

/* ---- What a gateway does --------------------------------------------------------------------- */

static void transaction_reset(struct world *world)
{
    kv_transaction_destroy(world->transaction);
    world->transaction = kv_transaction_create();
    world->is_queueing = false;
}

static void run_watch(struct world *world, const struct bytes *words, uint32_t word_count)
{
    struct shard_command command = {kv_versions_opcode(), word_count - 1, words + 1};
    submit(world, &command, false);
    assert_int_equal(world->reply.size_bytes, 8 * (word_count - 1));
    for (uint32_t i = 1; i < word_count; i++) {
        uint64_t version;
        memcpy(&version, world->reply.data + 8 * (i - 1), sizeof version);
        kv_transaction_watch(world->transaction, words[i], version);
    }
    buffer_clear(&world->reply);
    buffer_append(&world->reply, BYTES("+OK\r\n"));
}

static void run_exec(struct world *world)
{
    bool does_grow;
    struct shard_command command = kv_transaction_command(world->transaction, &does_grow);
    submit(world, &command, true);
    transaction_reset(world);
}

/* What a gateway does itself. False: the command is not one of these. */
static bool run_as_gateway(struct world *world, const struct bytes *words, uint32_t word_count)
{
    struct reply reply = {.target = &world->reply, .protocol = world->protocol};
    buffer_clear(&world->reply);
    if (bytes_equal(words[0], BYTES("WATCH"))) {
        run_watch(world, words, word_count);
    } else if (bytes_equal(words[0], BYTES("MULTI"))) {
        world->is_queueing = true;
        reply_ok(&reply);
    } else if (bytes_equal(words[0], BYTES("EXEC"))) {
        run_exec(world);
    } else if (bytes_equal(words[0], BYTES("SLOTCOUNT"))) {
        submit(world, &(struct shard_command){kv_slot_count_opcode(), word_count - 1, words + 1},
               false);
    } else if (bytes_equal(words[0], BYTES("SLOTKEYS"))) {
        submit(world, &(struct shard_command){kv_slot_keys_opcode(), word_count - 1, words + 1},
               false);
    } else if (bytes_equal(words[0], BYTES("DISCARD"))) {
        transaction_reset(world);
        reply_ok(&reply);
    } else if (bytes_equal(words[0], BYTES("PING")) && world->is_queueing) {
        kv_transaction_add_answer(world->transaction, BYTES("+PONG\r\n"));
        reply_status(&reply, "QUEUED");
    } else {
        return false;
    }
    return true;
}

static void run_command(struct world *world, const struct bytes *words, uint32_t word_count)
{
    if (run_as_gateway(world, words, word_count)) {
        return;
    }
    const struct kv_command *command = kv_command_find(words[0]);
    struct reply reply = {.target = &world->reply, .protocol = world->protocol};
    buffer_clear(&world->reply);
    if (command == NULL) {
        reply_error(&reply, "ERR unknown command");
        return;
    }
    if (!kv_command_arity_fits(command, word_count)) {
        reply_error(&reply, "ERR wrong number of arguments for '%s' command", command->name);
        return;
    }
    if (world->is_queueing) {
        kv_transaction_add(world->transaction, command, words + 1, word_count - 1);
        reply_status(&reply, "QUEUED");
        return;
    }
    struct shard_command submitted = {command->opcode, word_count - 1, words + 1};
    submit(world, &submitted, (command->flags & KV_FLAG_WRITE) != 0);
}

/* ---- Scenes ---------------------------------------------------------------------------------- */

struct scene {
    const char *path;
    struct world world;
    struct buffer output;
};

static void run_line(struct world *world, const char *line, struct buffer *output)
{
    struct bytes words[ARGUMENT_COUNT_MAX];
    uint8_t *storage = malloc(strlen(line) * 2 + 2);
    uint32_t word_count = split(line, words, storage);
    if (word_count > 0 && !run_directive(world, words, word_count, output)) {
        run_command(world, words, word_count);
        struct bytes reply = bytes_make(NULL, world->reply.size_bytes);
        buffer_append_byte(&world->reply, '\0'); /* Where the search for line ends has to end. */
        reply.data = world->reply.data;
        show_reply(output, reply);
    }
    free(storage);
}

static void scene_begin(void *context, const char *path)
{
    struct scene *scene = context;
    *scene = (struct scene){.path = path};
    world_init(&scene->world);
}

static void scene_run(void *context, const char *line)
{
    struct scene *scene = context;
    run_line(&scene->world, line, &scene->output);
}

/* A block is over: its rows have to be in order. */
static void scene_show(void *context, struct buffer *output)
{
    const struct scene *scene = context;
    struct kv_statistics statistics;
    struct error error = {0};
    kv_get_statistics(scene->world.kv, &statistics);
    if (kv_verify(memstore_interface(scene->world.memstore), NULL, statistics.key_count, &error) !=
        0) {
        fail_msg("%s: %s", scene->path, error.message);
    }
    buffer_append(output, buffer_bytes(&scene->output));
}

static void scene_end(void *context)
{
    struct scene *scene = context;
    world_deinit(&scene->world);
    buffer_deinit(&scene->output);
}

static void test_testdata(void **state)
{
    (void)state;
    struct scene scene;
    testdata_run(&(struct testdata){.folder = "src/service/kv/testdata",
                                    .scene = &scene,
                                    .begin = scene_begin,
                                    .run = scene_run,
                                    .show = scene_show,
                                    .end = scene_end});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_testdata)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
