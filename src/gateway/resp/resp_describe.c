/* SPDX-License-Identifier: Apache-2.0 */
/* COMMAND: what the tables say, in the shapes of Redis 7. */
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/glob/glob.h"
#include "gateway/resp/resp_internal.h"

static const struct {
    uint16_t flag;
    const char *name;
} flag_names[] = {
    {KV_FLAG_WRITE, "write"},     {KV_FLAG_READ, "readonly"},
    {KV_FLAG_GROWS, "denyoom"},   {KV_FLAG_ADMIN, "admin"},
    {KV_FLAG_NO_AUTH, "no_auth"}, {KV_FLAG_NO_MULTI, "no_multi"},
    {KV_FLAG_FAST, "fast"},       {KV_FLAG_MOVABLE_KEYS, "movablekeys"},
};

static const struct command_map *map_of(const struct connection *connection)
{
    return &connection->server->group->commands;
}

/* ---- One command ----------------------------------------------------------------------------- */

static void reply_flags(const struct kv_command *command, const struct reply *reply)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < COUNT_OF(flag_names); i++) {
        count += (command->flags & flag_names[i].flag) != 0;
    }
    reply_set(reply, count);
    for (uint32_t i = 0; i < COUNT_OF(flag_names); i++) {
        if ((command->flags & flag_names[i].flag) != 0) {
            reply_status(reply, flag_names[i].name);
        }
    }
}

enum { CATEGORY_COUNT_MAX = 6 };

/* Commands that are dangerous though they are no administrator's: they are about everything. */
static bool is_dangerous(const struct kv_command *command)
{
    static const char *const names[] = {"flushall", "flushdb", "info", "keys"};
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(names[i], command->name) == 0) {
            return true;
        }
    }
    return (command->flags & KV_FLAG_ADMIN) != 0;
}

/* Are they about keys, though their family is another one? */
static bool is_of_keyspace(const struct kv_command *command)
{
    static const char *const names[] = {"dbsize", "flushall", "flushdb"};
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(names[i], command->name) == 0) {
            return true;
        }
    }
    return command->family == KV_FAMILY_KEY;
}

/* The categories of access lists, by which clients group commands, in the order of Redis. */
static uint32_t categories_of(const struct kv_command *command,
                              const char *categories[CATEGORY_COUNT_MAX])
{
    bool is_fast = (command->flags & KV_FLAG_FAST) != 0;
    const struct {
        bool has;
        const char *name;
    } all[] = {
        {is_of_keyspace(command), "@keyspace"},
        {(command->flags & KV_FLAG_READ) != 0, "@read"},
        {(command->flags & KV_FLAG_WRITE) != 0, "@write"},
        {command->family == KV_FAMILY_HASH, "@hash"},
        {command->family == KV_FAMILY_STRING, "@string"},
        {(command->flags & KV_FLAG_ADMIN) != 0, "@admin"},
        {is_fast, "@fast"},
        {!is_fast, "@slow"},
        {is_dangerous(command), "@dangerous"},
        {command->family == KV_FAMILY_CONNECTION, "@connection"},
        {command->family == KV_FAMILY_TRANSACTION, "@transaction"},
    };
    uint32_t count = 0;
    for (uint32_t i = 0; i < COUNT_OF(all); i++) {
        if (all[i].has) {
            ASSERT(count < CATEGORY_COUNT_MAX);
            categories[count++] = all[i].name;
        }
    }
    return count;
}

/* What is done to keys, where it is not what the table's flags say: to the first, and to those behind
 * it where that differs. For SET without GET see flags_of_key(). */
struct key_flags {
    const char *name;
    const char *first;
    const char *others; /* NULL: the same, and one specification for all. */
};

/* In order of name. */
static const struct key_flags exceptions[] = {
    {"append", "RW insert", NULL},
    {"copy", "RO access", "OW update"},
    {"del", "RM delete", NULL},
    {"exists", "RO", NULL},
    {"expire", "RW update", NULL},
    {"expireat", "RW update", NULL},
    {"getdel", "RW access delete", NULL},
    {"hdel", "RW delete", NULL},
    {"hexists", "RO", NULL},
    {"hlen", "RO", NULL},
    {"hmset", "RW update", NULL},
    {"hset", "RW update", NULL},
    {"hsetnx", "RW insert", NULL},
    {"hstrlen", "RO", NULL},
    {"memory", "RO", NULL},
    {"mset", "OW update", NULL},
    {"msetnx", "OW insert", NULL},
    {"object", "RO", NULL},
    {"persist", "RW update", NULL},
    {"pexpire", "RW update", NULL},
    {"pexpireat", "RW update", NULL},
    {"psetex", "OW update", NULL},
    {"rename", "RW access delete", "OW update"},
    {"renamenx", "RW access delete", "OW insert"},
    {"set", "RW access update variable_flags", NULL},
    {"setex", "OW update", NULL},
    {"setnx", "OW insert", NULL},
    {"setrange", "RW update", NULL},
    {"strlen", "RO", NULL},
    {"touch", "RO", NULL},
    {"type", "RO", NULL},
    {"unlink", "RM delete", NULL},
    {"watch", "RO", NULL},
};

static struct key_flags key_flags_of(const struct kv_command *command)
{
    for (uint32_t i = 0; i < COUNT_OF(exceptions); i++) {
        if (strcmp(exceptions[i].name, command->name) == 0) {
            return exceptions[i];
        }
    }
    bool is_write = (command->flags & KV_FLAG_WRITE) != 0;
    return (struct key_flags){command->name, is_write ? "RW access update" : "RO access", NULL};
}

/* Words with blanks between them. */
static void reply_words(const char *words, const struct reply *reply)
{
    uint64_t count = 1;
    for (const char *place = words; *place != '\0'; place++) {
        count += *place == ' ';
    }
    reply_set(reply, count);
    for (const char *word = words; count > 0; count--) {
        size_t size = strcspn(word, " ");
        char text[24] = {0};
        ASSERT(size < sizeof text);
        memcpy(text, word, size);
        reply_status(reply, text);
        word += size + 1;
    }
}

/* The last key counts from the first when it is positive, as the specification of "range" has it. */
static void reply_key_specification(const char *flags, struct kv_key_range keys,
                                    const struct reply *reply)
{
    reply_map(reply, 3);
    reply_bulk_text(reply, "flags");
    reply_words(flags, reply);
    reply_bulk_text(reply, "begin_search");
    reply_map(reply, 2);
    reply_bulk_text(reply, "type");
    reply_bulk_text(reply, "index");
    reply_bulk_text(reply, "spec");
    reply_map(reply, 1);
    reply_bulk_text(reply, "index");
    reply_integer(reply, keys.first);
    reply_bulk_text(reply, "find_keys");
    reply_map(reply, 2);
    reply_bulk_text(reply, "type");
    reply_bulk_text(reply, "range");
    reply_bulk_text(reply, "spec");
    reply_map(reply, 3);
    reply_bulk_text(reply, "lastkey");
    reply_integer(reply, keys.last >= 0 ? keys.last - keys.first : keys.last);
    reply_bulk_text(reply, "keystep");
    reply_integer(reply, keys.step);
    reply_bulk_text(reply, "limit");
    reply_integer(reply, 0);
}

/* Where the keys stand. */
static void reply_key_specifications(const struct kv_command *command, const struct reply *reply)
{
    struct kv_key_range keys = command->keys;
    struct key_flags flags = key_flags_of(command);
    if (keys.first == 0) {
        reply_array(reply, 0);
        return;
    }
    if (flags.others == NULL) {
        reply_array(reply, 1);
        reply_key_specification(flags.first, keys, reply);
        return;
    }
    ASSERT(keys.last == keys.first + 1);
    reply_array(reply, 2);
    reply_key_specification(flags.first, (struct kv_key_range){keys.first, keys.first, 1}, reply);
    reply_key_specification(flags.others, (struct kv_key_range){keys.last, keys.last, 1}, reply);
}

static void reply_command(const struct kv_command *command, const struct reply *reply)
{
    const char *categories[CATEGORY_COUNT_MAX];
    uint32_t category_count = categories_of(command, categories);
    reply_array(reply, 10);
    reply_bulk_text(reply, command->name);
    reply_integer(reply, command->arity);
    reply_flags(command, reply);
    reply_integer(reply, command->keys.first);
    reply_integer(reply, command->keys.last);
    reply_integer(reply, command->keys.step);
    reply_set(reply, category_count);
    for (uint32_t i = 0; i < category_count; i++) {
        reply_status(reply, categories[i]);
    }
    reply_array(reply, 0); /* Tips. */
    reply_key_specifications(command, reply);
    reply_array(reply, 0); /* Subcommands: they are part of their command here. */
}

/* ---- COUNT, INFO, DOCS, LIST ----------------------------------------------------------------- */

static enum handled command_count(struct connection *connection, const struct bytes *arguments,
                                  uint32_t count, const struct reply *reply)
{
    reply_integer(reply, map_of(connection)->entry_count);
    return HANDLED_DONE;
}

static enum handled command_info(struct connection *connection, const struct bytes *arguments,
                                 uint32_t count, const struct reply *reply)
{
    const struct command_map *map = map_of(connection);
    if (count <= 2) {
        reply_array(reply, map->entry_count);
        for (uint32_t i = 0; i < map->entry_count; i++) {
            reply_command(map->entries[i].command, reply);
        }
        return HANDLED_DONE;
    }
    reply_array(reply, count - 2);
    for (uint32_t i = 2; i < count; i++) {
        const struct command_entry *entry = resp__command_find(map, arguments[i]);
        if (entry == NULL) {
            reply_null(reply);
        } else {
            reply_command(entry->command, reply);
        }
    }
    return HANDLED_DONE;
}

static void reply_documentation(const struct kv_command *command, const struct reply *reply)
{
    const char *group = kv_family_name(command->family);
    reply_bulk_text(reply, command->name);
    reply_map(reply, 5);
    reply_bulk_text(reply, "summary");
    reply_bulk_text(reply, command->summary);
    reply_bulk_text(reply, "since");
    reply_bulk_text(reply, command->since);
    reply_bulk_text(reply, "group");
    reply_bulk_text(reply, command->family == KV_FAMILY_KEY           ? "generic"
                           : command->family == KV_FAMILY_TRANSACTION ? "transactions"
                                                                      : group);
    reply_bulk_text(reply, "complexity");
    reply_bulk_text(reply, command->complexity);
    reply_bulk_text(reply, "arguments");
    if (command->syntax[0] == '\0') {
        reply_array(reply, 0);
        return;
    }
    reply_array(reply, 1);
    reply_map(reply, 3);
    reply_bulk_text(reply, "name");
    reply_bulk_text(reply, "arguments");
    reply_bulk_text(reply, "type");
    reply_bulk_text(reply, "string");
    reply_bulk_text(reply, "display_text");
    reply_bulk_text(reply, command->syntax);
}

static enum handled command_docs(struct connection *connection, const struct bytes *arguments,
                                 uint32_t count, const struct reply *reply)
{
    const struct command_map *map = map_of(connection);
    if (count <= 2) {
        reply_map(reply, map->entry_count);
        for (uint32_t i = 0; i < map->entry_count; i++) {
            reply_documentation(map->entries[i].command, reply);
        }
        return HANDLED_DONE;
    }
    uint64_t known_count = 0;
    for (uint32_t i = 2; i < count; i++) {
        known_count += resp__command_find(map, arguments[i]) != NULL;
    }
    reply_map(reply, known_count);
    for (uint32_t i = 2; i < count; i++) {
        const struct command_entry *entry = resp__command_find(map, arguments[i]);
        if (entry != NULL) {
            reply_documentation(entry->command, reply);
        }
    }
    return HANDLED_DONE;
}

enum filter { FILTER_NONE, FILTER_MODULE, FILTER_CATEGORY, FILTER_PATTERN };

static bool passes(const struct kv_command *command, enum filter filter, struct bytes value)
{
    const char *categories[CATEGORY_COUNT_MAX];
    switch (filter) {
    case FILTER_NONE:
        return true;
    case FILTER_MODULE:
        return false;
    case FILTER_PATTERN:
        return glob_matches(value, bytes_of_text(command->name), true);
    case FILTER_CATEGORY:
        break;
    }
    uint32_t category_count = categories_of(command, categories);
    for (uint32_t i = 0; i < category_count; i++) {
        if (resp__is(value, categories[i] + 1)) {
            return true;
        }
    }
    return false;
}

static enum handled command_list(struct connection *connection, const struct bytes *arguments,
                                 uint32_t count, const struct reply *reply)
{
    const struct command_map *map = map_of(connection);
    enum filter filter = FILTER_NONE;
    if (count == 5 && resp__is(arguments[2], "FILTERBY")) {
        filter = resp__is(arguments[3], "MODULE")    ? FILTER_MODULE
                 : resp__is(arguments[3], "ACLCAT")  ? FILTER_CATEGORY
                 : resp__is(arguments[3], "PATTERN") ? FILTER_PATTERN
                                                     : FILTER_NONE;
    }
    if (count != 2 && filter == FILTER_NONE) {
        resp__reply_syntax(reply);
        return HANDLED_DONE;
    }
    struct bytes value = count == 5 ? arguments[4] : BYTES("");
    uint64_t passed_count = 0;
    for (uint32_t i = 0; i < map->entry_count; i++) {
        passed_count += passes(map->entries[i].command, filter, value);
    }
    reply_array(reply, passed_count);
    for (uint32_t i = 0; i < map->entry_count; i++) {
        if (passes(map->entries[i].command, filter, value)) {
            reply_bulk_text(reply, map->entries[i].command->name);
        }
    }
    return HANDLED_DONE;
}

/* ---- GETKEYS --------------------------------------------------------------------------------- */

/* What is done to the number-th key of this request. */
static const char *flags_of_key(const struct kv_command *command, const struct bytes *arguments,
                                uint32_t count, int64_t number)
{
    struct key_flags flags = key_flags_of(command);
    if (strcmp(command->name, "set") == 0) {
        return resp__set_gets(arguments, count) ? "RW access update" : "OW update";
    }
    return number > 0 && flags.others != NULL ? flags.others : flags.first;
}

static void reply_keys(const struct kv_command *command, const struct bytes *arguments,
                       uint32_t count, bool has_flags, const struct reply *reply)
{
    struct kv_key_range keys = command->keys;
    int64_t last = keys.last >= 0 ? keys.last : (int64_t)count + keys.last;
    last = last < (int64_t)count ? last : (int64_t)count - 1;
    int64_t step = keys.step > 0 ? keys.step : 1;
    int64_t key_count = last < keys.first ? 0 : (last - keys.first) / step + 1;
    if (key_count == 0) {
        reply_error(reply, "ERR The command has no key arguments");
        return;
    }
    reply_array(reply, (uint64_t)key_count);
    for (int64_t i = 0; i < key_count; i++) {
        if (has_flags) {
            reply_array(reply, 2);
        }
        reply_bulk(reply, arguments[keys.first + i * step]);
        if (has_flags) {
            reply_words(flags_of_key(command, arguments, count, i), reply);
        }
    }
}

/* MEMORY is the gateway's, but for MEMORY USAGE, which has a key. */
static const struct kv_command *command_of(const struct command_entry *entry,
                                           const struct bytes *arguments, uint32_t count)
{
    bool is_usage = entry->handler == resp__memory && count > 2 && resp__is(arguments[1], "USAGE");
    return is_usage ? kv_command_find(BYTES("memory")) : entry->command;
}

static void get_keys(struct connection *connection, const struct bytes *arguments, uint32_t count,
                     bool has_flags, const struct reply *reply)
{
    const struct command_entry *entry = resp__command_find(map_of(connection), arguments[2]);
    if (entry == NULL) {
        reply_error(reply, "ERR Invalid command specified");
        return;
    }
    const struct kv_command *command = command_of(entry, arguments + 2, count - 2);
    if (command->keys.first == 0) {
        reply_error(reply, "ERR The command has no key arguments");
    } else if (!kv_command_arity_fits(command, count - 2)) {
        reply_error(reply, "ERR Invalid number of arguments specified for command");
    } else {
        reply_keys(command, arguments + 2, count - 2, has_flags, reply);
    }
}

static enum handled command_getkeys(struct connection *connection, const struct bytes *arguments,
                                    uint32_t count, const struct reply *reply)
{
    get_keys(connection, arguments, count, false, reply);
    return HANDLED_DONE;
}

static enum handled command_getkeysandflags(struct connection *connection,
                                            const struct bytes *arguments, uint32_t count,
                                            const struct reply *reply)
{
    get_keys(connection, arguments, count, true, reply);
    return HANDLED_DONE;
}

static enum handled command_help(struct connection *connection, const struct bytes *arguments,
                                 uint32_t count, const struct reply *reply)
{
    static const char *const lines[] = {
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)",
        "    Return details about all Redis commands.",
        "COUNT",
        "    Return the total number of commands in this Redis server.",
        "LIST [FILTERBY (MODULE <module>|ACLCAT <category>|PATTERN <pattern>)]",
        "    Return a list of all commands in this Redis server.",
        "INFO [<command-name> ...]",
        "    Return details about multiple Redis commands.",
        "DOCS [<command-name> ...]",
        "    Return documentation details about multiple Redis commands.",
        "GETKEYS <full-command>",
        "    Return the keys from a full Redis command.",
        "GETKEYSANDFLAGS <full-command>",
        "    Return the keys and the access flags from a full Redis command.",
    };
    resp__reply_help(reply, lines, COUNT_OF(lines));
    return HANDLED_DONE;
}

RESP_HANDLER(command)
{
    static const struct subcommand subcommands[] = {
        {"count", 2, command_count},      {"info", -2, command_info},
        {"docs", -2, command_docs},       {"list", -2, command_list},
        {"getkeys", -4, command_getkeys}, {"getkeysandflags", -4, command_getkeysandflags},
        {"help", 2, command_help},
    };
    if (count == 1) {
        return command_info(connection, arguments, count, reply);
    }
    return resp__run_subcommand(subcommands, COUNT_OF(subcommands), connection, arguments, count,
                                reply);
}
