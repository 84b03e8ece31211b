/* SPDX-License-Identifier: Apache-2.0 */
/* CONFIG: settings as Redis names them, where there is something like them here, and the node's
 * own. A few can be changed while serving; setting one of the others to the value that it has is
 * accepted, for there are tools that set what they need. Nothing is written to the configuration
 * file. */
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/glob/glob.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "gateway/resp/resp_internal.h"

enum { SLOW_LOG_COUNT_MAX = 100000, SET_PAIR_COUNT_MAX = 32 };

/* ---- The settings ---------------------------------------------------------------------------- */

struct setting {
    const char *name;
    void (*get)(struct resp_server *server, struct buffer *value);
    /* NULL: fixed. Checks, and applies when `is_real`; returns NULL or what is wrong. */
    const char *(*set)(struct resp_group *group, struct bytes value, bool is_real);
};

static void put_number(struct buffer *value, int64_t number)
{
    buffer_append_format(value, "%lld", (long long)number);
}

static void get_client_count_max(struct resp_server *server, struct buffer *value)
{
    put_number(value, atomic_load(&server->group->client_count_max));
}

static const char *set_word(struct bytes value, bool is_real, uint32_t least,
                            _Atomic uint32_t *target)
{
    int64_t number;
    if (!number_parse_integer(value, &number)) {
        return "argument couldn't be parsed into an integer";
    }
    if (number < least || number > INT32_MAX) {
        return least == 0 ? "argument must be between 0 and 2147483647 inclusive"
                          : "argument must be between 1 and 2147483647 inclusive";
    }
    if (is_real) {
        atomic_store(target, (uint32_t)number);
    }
    return NULL;
}

static const char *set_client_count_max(struct resp_group *group, struct bytes value, bool is_real)
{
    int64_t number;
    if (number_parse_integer(value, &number) && number > group->options.client_count_limit) {
        return "the process may not open as many files";
    }
    return set_word(value, is_real, 1, &group->client_count_max);
}

static void get_timeout(struct resp_server *server, struct buffer *value)
{
    put_number(value, atomic_load(&server->group->idle_timeout_s));
}

static const char *set_timeout(struct resp_group *group, struct bytes value, bool is_real)
{
    return set_word(value, is_real, 0, &group->idle_timeout_s);
}

static void get_password(struct resp_server *server, struct buffer *value)
{
    struct resp_group *group = server->group;
    os_mutex_lock(group->mutex);
    buffer_append(value, bytes_make(group->password, group->password_size_bytes));
    os_mutex_unlock(group->mutex);
}

static const char *set_password(struct resp_group *group, struct bytes value, bool is_real)
{
    if (value.size_bytes > RESP_PASSWORD_SIZE_MAX) {
        return "the password is too long";
    }
    if (value.size_bytes == 0 && group->options.must_have_password) {
        return "a node that other machines can reach needs a password";
    }
    return !is_real || resp__password_set(group, value) ? NULL : "the password is too long";
}

static void get_slow_threshold(struct resp_server *server, struct buffer *value)
{
    put_number(value, atomic_load(&server->group->slow_log_threshold_us));
}

static const char *set_slow_threshold(struct resp_group *group, struct bytes value, bool is_real)
{
    int64_t number;
    if (!number_parse_integer(value, &number)) {
        return "argument couldn't be parsed into an integer";
    }
    if (number < -1) {
        return "argument must be between -1 and 9223372036854775807 inclusive";
    }
    if (is_real) {
        atomic_store(&group->slow_log_threshold_us, number);
    }
    return NULL;
}

static void get_slow_count_max(struct resp_server *server, struct buffer *value)
{
    os_mutex_lock(server->group->mutex);
    put_number(value, server->group->slow_log.capacity);
    os_mutex_unlock(server->group->mutex);
}

/* The newest entries stay; with 0 there are none. */
static const char *set_slow_count_max(struct resp_group *group, struct bytes value, bool is_real)
{
    int64_t number;
    if (!number_parse_integer(value, &number)) {
        return "argument couldn't be parsed into an integer";
    }
    if (number < 0 || number > SLOW_LOG_COUNT_MAX) {
        return "argument must be between 0 and 100000 inclusive";
    }
    if (!is_real) {
        return NULL;
    }
    os_mutex_lock(group->mutex);
    struct slow_log *log = &group->slow_log;
    uint32_t capacity = (uint32_t)number;
    struct slow_entry *entries =
        memory_allocate_zeroed(capacity == 0 ? 1 : capacity, sizeof *entries);
    uint32_t kept = log->count < capacity ? log->count : capacity;
    for (uint32_t i = 1; i <= kept; i++) {
        uint64_t id = log->next_id - i;
        entries[id % capacity] = log->entries[id % log->capacity];
    }
    memory_free(log->entries);
    log->entries = entries;
    log->capacity = capacity;
    log->count = kept;
    os_mutex_unlock(group->mutex);
    return NULL;
}

static void get_pipeline_order(struct resp_server *server, struct buffer *value)
{
    buffer_append_format(
        value, "%s", atomic_load(&server->group->is_connection_ordered) ? "connection" : "shard");
}

static const char *set_pipeline_order(struct resp_group *group, struct bytes value, bool is_real)
{
    bool is_ordered = resp__is(value, "connection");
    if (!is_ordered && !resp__is(value, "shard")) {
        return "argument must be one of: shard, connection";
    }
    if (is_real) {
        atomic_store(&group->is_connection_ordered, is_ordered);
    }
    return NULL;
}

static void get_value_limit(struct resp_server *server, struct buffer *value)
{
    put_number(value, (int64_t)server->group->options.value_size_bytes_max);
}

static void get_client_memory(struct resp_server *server, struct buffer *value)
{
    put_number(value, (int64_t)server->group->options.client_memory_bytes_max);
}

static void get_output_limit(struct resp_server *server, struct buffer *value)
{
    buffer_append_format(value, "normal %llu 0 0",
                         (unsigned long long)server->group->options.output_size_bytes_max);
}

static void get_fsync(struct resp_server *server, struct buffer *value)
{
    struct resp_information information = {0};
    server->backend->get_information(server->backend->context, &information);
    buffer_append_format(value, "%s", information.is_flush_always ? "always" : "everysec");
}

static void get_memory_limit(struct resp_server *server, struct buffer *value)
{
    struct resp_information information = {0};
    server->backend->get_information(server->backend->context, &information);
    put_number(value, (int64_t)information.memory_limit_bytes);
}

static void get_directory(struct resp_server *server, struct buffer *value)
{
    struct resp_information information = {0};
    server->backend->get_information(server->backend->context, &information);
    buffer_append_format(value, "%s", information.data_directory);
}

static void get_port(struct resp_server *server, struct buffer *value)
{
    const struct os_listener *listener = resp_server_listener(server);
    put_number(value, listener == NULL ? 0 : os_listener_address(listener).port);
}

static void get_bind(struct resp_server *server, struct buffer *value)
{
    for (uint32_t i = 0; i < server->listener_count; i++) {
        char text[OS_ADDRESS_TEXT_SIZE];
        char host[OS_HOST_SIZE];
        uint16_t port;
        const struct os_address address = os_listener_address(server->listeners[i]);
        bool is_address = os_address_split(os_address_format(&address, text), host, &port);
        ASSERT(is_address);
        buffer_append_format(value, "%s%s", i == 0 ? "" : " ", host);
    }
}

static void get_keepalive(struct resp_server *server, struct buffer *value)
{
    put_number(value, OS_KEEPALIVE_IDLE_S);
}

static void get_listpack_count(struct resp_server *server, struct buffer *value)
{
    put_number(value, KV_LISTPACK_FIELD_COUNT_MAX);
}

static void get_empty(struct resp_server *server, struct buffer *value)
{
}

static void get_yes(struct resp_server *server, struct buffer *value)
{
    buffer_append(value, BYTES("yes"));
}

static void get_one(struct resp_server *server, struct buffer *value)
{
    put_number(value, 1);
}

static void get_no_eviction(struct resp_server *server, struct buffer *value)
{
    buffer_append(value, BYTES("noeviction"));
}

static const struct setting settings[] = {
    {"appendfsync", get_fsync, NULL},
    {"appendonly", get_yes, NULL},
    {"bind", get_bind, NULL},
    {"client-output-buffer-limit", get_output_limit, NULL},
    {"cluster-enabled", get_yes, NULL},
    {"databases", get_one, NULL},
    {"dir", get_directory, NULL},
    {"hash-max-listpack-entries", get_listpack_count, NULL},
    {"maxclients", get_client_count_max, set_client_count_max},
    {"maxmemory", get_memory_limit, NULL},
    {"maxmemory-clients", get_client_memory, NULL},
    {"maxmemory-policy", get_no_eviction, NULL},
    {"notify-keyspace-events", get_empty, NULL},
    {"pipeline-order", get_pipeline_order, set_pipeline_order},
    {"port", get_port, NULL},
    {"proto-max-bulk-len", get_value_limit, NULL},
    {"requirepass", get_password, set_password},
    {"save", get_empty, NULL},
    {"slowlog-log-slower-than", get_slow_threshold, set_slow_threshold},
    {"slowlog-max-len", get_slow_count_max, set_slow_count_max},
    {"tcp-keepalive", get_keepalive, NULL},
    {"timeout", get_timeout, set_timeout},
};

/* ---- CONFIG GET ------------------------------------------------------------------------------ */

static bool is_asked(const char *name, const struct bytes *patterns, uint32_t pattern_count)
{
    for (uint32_t i = 0; i < pattern_count; i++) {
        if (glob_matches(patterns[i], bytes_of_text(name), true)) {
            return true;
        }
    }
    return false;
}

static enum handled config_get(struct connection *connection, const struct bytes *arguments,
                               uint32_t count, const struct reply *reply)
{
    struct resp_server *server = connection->server;
    struct buffer pairs = {0};
    struct buffer value = {0};
    struct reply pair_reply = {.target = &pairs, .protocol = reply->protocol};
    uint64_t pair_count = 0;
    for (uint32_t i = 0; i < COUNT_OF(settings); i++) {
        if (is_asked(settings[i].name, arguments + 2, count - 2)) {
            buffer_clear(&value);
            settings[i].get(server, &value);
            reply_bulk_text(&pair_reply, settings[i].name);
            reply_bulk(&pair_reply, buffer_bytes(&value));
            pair_count++;
        }
    }
    const struct resp_backend *backend = server->backend;
    for (uint32_t i = 0; backend->setting_at != NULL; i++) {
        const char *name;
        buffer_clear(&value);
        if (!backend->setting_at(backend->context, i, &name, &value)) {
            break;
        }
        if (is_asked(name, arguments + 2, count - 2)) {
            reply_bulk_text(&pair_reply, name);
            reply_bulk(&pair_reply, buffer_bytes(&value));
            pair_count++;
        }
    }
    reply_map(reply, pair_count);
    buffer_append(reply->target, buffer_bytes(&pairs));
    buffer_deinit(&pairs);
    buffer_deinit(&value);
    return HANDLED_DONE;
}

/* ---- CONFIG SET ------------------------------------------------------------------------------ */

static const struct setting *find_setting(struct bytes name)
{
    for (uint32_t i = 0; i < COUNT_OF(settings); i++) {
        if (resp__is(name, settings[i].name)) {
            return &settings[i];
        }
    }
    return NULL;
}

static const char *try_to_set(struct resp_server *server, const struct setting *setting,
                              struct bytes value, bool is_real)
{
    if (setting->set != NULL) {
        return setting->set(server->group, value, is_real);
    }
    struct buffer current = {0};
    setting->get(server, &current);
    bool is_same = bytes_equal(buffer_bytes(&current), value);
    buffer_deinit(&current);
    return is_same ? NULL : "can't set immutable config";
}

/* All are checked before any is changed. */
static enum handled config_set(struct connection *connection, const struct bytes *arguments,
                               uint32_t count, const struct reply *reply)
{
    if (count % 2 != 0 || count > 2 + 2 * SET_PAIR_COUNT_MAX) {
        resp__reply_syntax(reply);
        return HANDLED_DONE;
    }
    for (uint32_t i = 2; i < count; i += 2) {
        const struct setting *setting = find_setting(arguments[i]);
        int size = arguments[i].size_bytes < 128 ? (int)arguments[i].size_bytes : 128;
        const char *name = (const char *)arguments[i].data;
        if (setting == NULL) {
            reply_error(reply, "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                        size, name);
            return HANDLED_DONE;
        }
        const char *problem = try_to_set(connection->server, setting, arguments[i + 1], false);
        for (uint32_t j = 2; j < i; j += 2) {
            problem = find_setting(arguments[j]) == setting ? "duplicate parameter" : problem;
        }
        if (problem != NULL) {
            reply_error(reply, "ERR CONFIG SET failed (possibly related to argument '%.*s') - %s",
                        size, name, problem);
            return HANDLED_DONE;
        }
    }
    for (uint32_t i = 2; i < count; i += 2) {
        const char *problem =
            try_to_set(connection->server, find_setting(arguments[i]), arguments[i + 1], true);
        ASSERT(problem == NULL);
    }
    reply_ok(reply);
    return HANDLED_DONE;
}

/* ---- The rest -------------------------------------------------------------------------------- */

static void reset_visit(struct errand *errand, struct resp_server *server)
{
    for (uint32_t i = 0; i < server->group->commands.entry_count; i++) {
        struct command_counters *counters = &server->counters[i];
        atomic_store(&counters->call_count, 0);
        atomic_store(&counters->failed_count, 0);
        atomic_store(&counters->rejected_count, 0);
        atomic_store(&counters->time_ns, 0);
    }
    resp__error_reset(server);
}

static void reset_back(struct errand *errand)
{
    memory_free(errand);
}

/* The counts of families, bytes and latencies stay: a scraper takes a falling counter for a
 * restart. */
static enum handled config_resetstat(struct connection *connection, const struct bytes *arguments,
                                     uint32_t count, const struct reply *reply)
{
    struct errand *reset = memory_allocate_zeroed(1, sizeof *reset);
    *reset = (struct errand){.visit = reset_visit, .back = reset_back};
    resp__errand_send(reset, connection->server);
    reply_ok(reply);
    return HANDLED_DONE;
}

static enum handled config_rewrite(struct connection *connection, const struct bytes *arguments,
                                   uint32_t count, const struct reply *reply)
{
    reply_error(reply, "ERR The configuration file is not written by the server");
    return HANDLED_DONE;
}

static enum handled config_help(struct connection *connection, const struct bytes *arguments,
                                uint32_t count, const struct reply *reply)
{
    static const char *const lines[] = {
        "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GET <pattern>",
        "    Return parameters matching the glob-like <pattern> and their values.",
        "SET <directive> <value>",
        "    Set the configuration <directive> to <value>.",
        "RESETSTAT",
        "    Reset statistics reported by the INFO command.",
        "REWRITE",
        "    Refused: the configuration file is not written by the server.",
    };
    resp__reply_help(reply, lines, COUNT_OF(lines));
    return HANDLED_DONE;
}

RESP_HANDLER(config)
{
    static const struct subcommand subcommands[] = {
        {"get", -3, config_get},
        {"set", -4, config_set},
        {"resetstat", 2, config_resetstat},
        {"rewrite", 2, config_rewrite},
        {"help", 2, config_help},
    };
    return resp__run_subcommand(subcommands, COUNT_OF(subcommands), connection, arguments, count,
                                reply);
}
