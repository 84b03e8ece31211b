/* SPDX-License-Identifier: Apache-2.0 */
/* What commands look like: patterns, in which each letter stands for one kind of argument. */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_client.h"

/* k a key; r a register; f a field; v a value, new each time; n a small number; o an offset;
 * t a time to live in milliseconds; s one in seconds, a few; T a time of the wall clock;
 * others stand for words: N nx, X xx, G get, K keepttl, P px, E ex, A pxat, Z persist, R replace,
 * g gt, l lt, C count, M the largest one; * and 0 for themselves. */
struct pattern {
    const char *name;
    const char *arguments;
    uint32_t weight;
};

static const struct pattern reads[] = {
    {"get", "k", 8},         {"strlen", "k", 2},   {"getrange", "koo", 2}, {"mget", "kkk", 3},
    {"exists", "kk", 3},     {"type", "k", 2},     {"hget", "kf", 5},      {"hmget", "kff", 3},
    {"hlen", "k", 3},        {"hexists", "kf", 2}, {"hgetall", "k", 4},    {"pttl", "k", 2},
    {"pexpiretime", "k", 2}, {"touch", "kk", 1},   {"hkeys", "k", 1},      {"hvals", "k", 1},
    {"keys", "*", 1},        {"scan", "0CM", 1},   {"hscan", "k0CM", 1},
};

static const struct pattern writes[] = {
    {"set", "kv", 10},    {"set", "kn", 4},      {"set", "kvN", 2},     {"set", "kvX", 2},
    {"set", "kvG", 2},    {"set", "kvK", 2},     {"setnx", "kv", 2},    {"getset", "kv", 2},
    {"getdel", "k", 2},   {"mset", "kvkv", 4},   {"msetnx", "kvkv", 2}, {"append", "kv", 4},
    {"incr", "k", 5},     {"decr", "k", 2},      {"incrby", "kn", 4},   {"setrange", "kov", 3},
    {"del", "k", 4},      {"del", "kkk", 2},     {"unlink", "kk", 2},   {"persist", "k", 1},
    {"rename", "kk", 3},  {"renamenx", "kk", 2}, {"copy", "kk", 2},     {"copy", "kkR", 2},
    {"hset", "kfv", 8},   {"hset", "kfvfv", 4},  {"hsetnx", "kfv", 2},  {"hdel", "kf", 4},
    {"hdel", "kffff", 1}, {"hincrby", "kfn", 5}, {"getex", "k", 1},
};

static const struct pattern expiries[] = {
    {"set", "kvPt", 8},    {"set", "kvEs", 1},     {"set", "kvAT", 2},      {"expire", "ks", 2},
    {"pexpire", "kt", 8},  {"pexpireat", "kT", 4}, {"pexpire", "ktN", 2},   {"pexpire", "ktX", 2},
    {"pexpire", "ktg", 2}, {"pexpire", "ktl", 2},  {"persist", "k", 3},     {"getex", "kPt", 2},
    {"getex", "kZ", 2},    {"pttl", "k", 3},       {"pexpiretime", "k", 3},
};

static const struct pattern registers[] = {
    {"get", "r", 12},    {"set", "rv", 8},    {"set", "rn", 2},    {"incr", "r", 5},
    {"append", "rn", 3}, {"del", "r", 3},     {"strlen", "r", 3},  {"getset", "rv", 3},
    {"setnx", "rv", 2},  {"incrby", "rn", 3}, {"mset", "rvrv", 2}, {"del", "rr", 1},
    {"getdel", "r", 1},
};

static const struct pattern for_transactions[] = {
    {"get", "k", 3},     {"set", "kv", 4},    {"incr", "k", 4},    {"hset", "kfv", 4},
    {"hget", "kf", 2},   {"del", "k", 2},     {"mset", "kvkv", 2}, {"rename", "kk", 1},
    {"append", "kn", 2}, {"hlen", "k", 1},    {"pttl", "k", 1},    {"pexpire", "kt", 1},
    {"persist", "k", 1}, {"exists", "kk", 1},
};

enum { LARGE_HASH_FIELD_COUNT = 75 };

#define COUNT(patterns) ((uint32_t)(sizeof(patterns) / sizeof((patterns)[0])))

void sim__command_deinit(struct sim__command *command)
{
    for (uint32_t i = 0; i < command->count; i++) {
        memory_free((void *)command->arguments[i].data);
    }
    command->count = 0;
}

void sim__command_add_text(struct sim__command *command, const char *format, ...)
{
    char text[64];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ASSERT(length >= 0 && (size_t)length < sizeof text);
    ASSERT(command->count < SIM__ARGUMENT_COUNT_MAX);
    uint8_t *copy = memory_allocate((size_t)length + 1);
    memcpy(copy, text, (size_t)length + 1);
    command->arguments[command->count++] = bytes_make(copy, (size_t)length);
}

void sim__command_add_key(struct sim *sim, struct sim__command *command)
{
    sim__command_add_text(command, "k%u",
                          (uint32_t)random_below(&sim->random, sim->nature.key_count));
}

/* No two are equal, so that a read says which write it saw. */
static void add_value(struct sim *sim, struct sim__command *command, uint32_t client)
{
    struct buffer value = {0};
    buffer_append_format(&value, "c%u.%u.", client, (uint32_t)sim->result->request_count);
    uint64_t wanted = random_below(&sim->random, sim->nature.value_size_max + 1);
    while (value.size_bytes < wanted) {
        buffer_append_byte(&value, (uint8_t)('a' + value.size_bytes % 26));
    }
    ASSERT(command->count < SIM__ARGUMENT_COUNT_MAX);
    command->arguments[command->count++] = buffer_bytes(&value);
}

static void add_number(struct sim *sim, struct sim__command *command, char kind)
{
    struct random *random = &sim->random;
    switch (kind) {
    case 'n':
        sim__command_add_text(command, "%d", (int)random_below(random, 2000) - 500);
        break;
    case 'o':
        sim__command_add_text(command, "%u", (uint32_t)random_below(random, 40));
        break;
    case 't':
        sim__command_add_text(command, "%u", 1 + (uint32_t)random_below(random, 300));
        break;
    case 's':
        sim__command_add_text(command, "%u", 1 + (uint32_t)random_below(random, 3));
        break;
    default:
        sim__command_add_text(command, "%" PRIu64,
                              sim__wall_ms(sim) + random_below(random, 400) - 50);
        break;
    }
}

static void add_argument(struct sim *sim, struct sim__command *command, char kind, uint32_t client)
{
    static const char letters[] = "NXGKPEAZRgl*0CM";
    static const char *const words[] = {"NX", "XX",   "GET",     "KEEPTTL", "PX",
                                        "EX", "PXAT", "PERSIST", "REPLACE", "GT",
                                        "LT", "*",    "0",       "COUNT",   "1000"};
    const char *letter = strchr(letters, kind);
    if (letter != NULL) {
        sim__command_add_text(command, "%s", words[letter - letters]);
    } else if (kind == 'k') {
        sim__command_add_key(sim, command);
    } else if (kind == 'r') {
        sim__command_add_text(command, "r%u",
                              (uint32_t)random_below(&sim->random, sim->nature.register_count));
    } else if (kind == 'f') {
        sim__command_add_text(command, "f%u", (uint32_t)random_below(&sim->random, 5));
    } else if (kind == 'v') {
        add_value(sim, command, client);
    } else {
        add_number(sim, command, kind);
    }
}

static void make(struct sim *sim, struct sim__command *command, uint32_t client,
                 const struct pattern *patterns, uint32_t count)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        total += patterns[i].weight;
    }
    uint64_t chosen = random_below(&sim->random, total);
    const struct pattern *pattern = patterns;
    while (chosen >= pattern->weight) {
        chosen -= pattern->weight;
        pattern++;
    }
    command->known = kv_command_find(bytes_of_text(pattern->name));
    ASSERT(command->known != NULL);
    for (const char *kind = pattern->arguments; *kind != '\0'; kind++) {
        add_argument(sim, command, *kind, client);
    }
    /* COPY of a key to itself is an error that is checked before the key is looked up. */
    bool is_copy = strcmp(pattern->name, "copy") == 0;
    if (is_copy && bytes_equal(command->arguments[0], command->arguments[1])) {
        sim__command_deinit(command);
        command->known = kv_command_find(BYTES("get"));
        sim__command_add_key(sim, command);
    }
}

/* More fields than a command may delete at once: they become garbage that is collected later. */
static void make_large_hash(struct sim *sim, struct sim__command *command)
{
    command->known = kv_command_find(BYTES("hset"));
    sim__command_add_key(sim, command);
    for (uint32_t i = 0; i < LARGE_HASH_FIELD_COUNT; i++) {
        sim__command_add_text(command, "g%u", i);
        sim__command_add_text(command, "%u", (uint32_t)sim->result->request_count);
    }
}

void sim__command_make(struct sim *sim, struct sim__command *command, uint32_t client)
{
    const struct sim__nature *nature = &sim->nature;
    if (nature->large_hash_per_mille > 0 &&
        random_chance(&sim->random, nature->large_hash_per_mille, 1000)) {
        make_large_hash(sim, command);
    } else if (nature->flushall_per_mille > 0 &&
               random_chance(&sim->random, nature->flushall_per_mille, 1000)) {
        command->known = kv_command_find(BYTES("flushall"));
    } else if (nature->register_count > 0 && sim__percent(sim, 30)) {
        make(sim, command, client, registers, COUNT(registers));
    } else if (sim__percent(sim, nature->expiry_percent)) {
        make(sim, command, client, expiries, COUNT(expiries));
    } else if (sim__percent(sim, nature->read_percent)) {
        make(sim, command, client, reads, COUNT(reads));
    } else {
        make(sim, command, client, writes, COUNT(writes));
    }
}

void sim__command_make_for_transaction(struct sim *sim, struct sim__command *command,
                                       uint32_t client)
{
    make(sim, command, client, for_transactions, COUNT(for_transactions));
}

static void print_bytes(FILE *file, struct bytes bytes)
{
    for (size_t i = 0; i < bytes.size_bytes && i < 60; i++) {
        int c = bytes.data[i];
        (void)fputc(c < ' ' || c > '~' ? '.' : c, file);
    }
}

void sim__trace_answer(struct sim *sim, uint32_t client, const struct kv_command *known,
                       const struct sim__command *command, struct bytes reply)
{
    FILE *file = sim->options.trace;
    (void)fprintf(file, "%12.6f client %u: %s", (double)sim->now_us / 1e6, client,
                  known != NULL ? known->name : "transaction");
    for (uint32_t i = 0; i < command->count; i++) {
        (void)fputc(' ', file);
        print_bytes(file, command->arguments[i]);
    }
    (void)fputs(" -> ", file);
    print_bytes(file, reply);
    (void)fputc('\n', file);
}
