/* SPDX-License-Identifier: Apache-2.0 */
/* SLOWLOG, LATENCY, MEMORY, and what there is none of: ACL and MODULE. */
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/number/number.h"
#include "gateway/resp/resp_internal.h"

/* ---- SLOWLOG --------------------------------------------------------------------------------- */

/* As in Redis, what is logged is work and not waiting for the disk to flush. Precisely:
 *
 *   - a read that is answered at once and is not O(1) or O(log n): its execution;
 *   - a read that the disk pool executes, and one that another loop does: from the tick that read
 *     it to the tick that answers, with its name and first argument;
 *   - a write: never. What it takes is one flush, shared with all that waited for it; see the
 *     histograms of commands and of flushes on the admin port;
 *   - a fast command that is answered at once: never, for it is not timed. */

/* Passwords are not for the log. */
static bool is_secret(const struct bytes *arguments, uint32_t index)
{
    return index >= 1 && (resp__is(arguments[0], "auth") || resp__is(arguments[0], "hello") ||
                          (resp__is(arguments[0], "config") && index >= 3));
}

void resp__slow_log_add(struct connection *connection, uint64_t duration_ns,
                        const struct bytes *arguments, uint32_t argument_count,
                        uint32_t argument_count_shown)
{
    struct resp_group *group = connection->server->group;
    struct slow_log *log = &group->slow_log;
    os_mutex_lock(group->mutex);
    if (log->capacity == 0) {
        log->next_id++;
        os_mutex_unlock(group->mutex);
        return;
    }
    struct slow_entry *entry = &log->entries[log->next_id % log->capacity];
    *entry = (struct slow_entry){.id = log->next_id++,
                                 .time_s = os_wall_clock_ms() / 1000,
                                 .duration_us = duration_ns / 1000,
                                 .argument_count = argument_count};
    for (uint32_t i = 0; i < argument_count_shown && i < SLOW_ARGUMENT_COUNT_MAX; i++) {
        struct bytes text = is_secret(arguments, i) ? BYTES("(redacted)") : arguments[i];
        size_t size =
            text.size_bytes < SLOW_ARGUMENT_SIZE_MAX ? text.size_bytes : SLOW_ARGUMENT_SIZE_MAX;
        entry->arguments[i].size_bytes = (uint32_t)size;
        if (size > 0) {
            memcpy(entry->arguments[i].text, text.data, size);
        }
        entry->argument_count_shown = i + 1;
    }
    if (connection->is_hung_up) {
        (void)snprintf(entry->peer, sizeof entry->peer, "?");
    } else {
        (void)os_stream_peer(connection->stream, entry->peer);
    }
    if (connection->extra != NULL) {
        const struct buffer *name = &connection->extra->name;
        (void)snprintf(entry->client_name, sizeof entry->client_name, "%.*s", (int)name->size_bytes,
                       (const char *)name->data);
    }
    log->count = log->count < log->capacity ? log->count + 1 : log->capacity;
    os_mutex_unlock(group->mutex);
}

static void reply_slow_entry(const struct slow_entry *entry, const struct reply *reply)
{
    reply_array(reply, 6);
    reply_integer(reply, (int64_t)entry->id);
    reply_integer(reply, (int64_t)entry->time_s);
    reply_integer(reply, (int64_t)entry->duration_us);
    uint32_t hidden = entry->argument_count - entry->argument_count_shown;
    reply_array(reply, entry->argument_count_shown + (hidden > 0));
    for (uint32_t i = 0; i < entry->argument_count_shown; i++) {
        reply_bulk(reply, bytes_make(entry->arguments[i].text, entry->arguments[i].size_bytes));
    }
    if (hidden > 0) {
        char text[64];
        (void)snprintf(text, sizeof text, "... (%u more arguments)", hidden);
        reply_bulk_text(reply, text);
    }
    reply_bulk_text(reply, entry->peer);
    reply_bulk_text(reply, entry->client_name);
}

static enum handled slowlog_get(struct connection *connection, const struct bytes *arguments,
                                uint32_t count, const struct reply *reply)
{
    int64_t wanted = 10;
    if (count > 3) {
        resp__reply_subcommand_form(reply, "slowlog", arguments[1]);
        return HANDLED_DONE;
    }
    if (count == 3 && (!number_parse_integer(arguments[2], &wanted) || wanted < -1)) {
        reply_error(reply, "ERR count should be greater than or equal to -1");
        return HANDLED_DONE;
    }
    struct resp_group *group = connection->server->group;
    os_mutex_lock(group->mutex);
    const struct slow_log *log = &group->slow_log;
    uint32_t shown = wanted < 0 || wanted > log->count ? log->count : (uint32_t)wanted;
    reply_array(reply, shown);
    for (uint32_t i = 1; i <= shown; i++) {
        reply_slow_entry(&log->entries[(log->next_id - i) % log->capacity], reply);
    }
    os_mutex_unlock(group->mutex);
    return HANDLED_DONE;
}

static enum handled slowlog_len(struct connection *connection, const struct bytes *arguments,
                                uint32_t count, const struct reply *reply)
{
    struct resp_group *group = connection->server->group;
    os_mutex_lock(group->mutex);
    reply_integer(reply, group->slow_log.count);
    os_mutex_unlock(group->mutex);
    return HANDLED_DONE;
}

static enum handled slowlog_reset(struct connection *connection, const struct bytes *arguments,
                                  uint32_t count, const struct reply *reply)
{
    struct resp_group *group = connection->server->group;
    os_mutex_lock(group->mutex);
    group->slow_log.count = 0;
    os_mutex_unlock(group->mutex);
    reply_ok(reply);
    return HANDLED_DONE;
}

static enum handled slowlog_help(struct connection *connection, const struct bytes *arguments,
                                 uint32_t count, const struct reply *reply)
{
    static const char *const lines[] = {
        "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GET [<count>]",
        "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
        "    Entries are made of:",
        "    id, timestamp, time in microseconds, arguments array, client IP and port,",
        "    client name",
        "LEN",
        "    Return the length of the slowlog.",
        "RESET",
        "    Reset the slowlog.",
    };
    resp__reply_help(reply, lines, COUNT_OF(lines));
    return HANDLED_DONE;
}

RESP_HANDLER(slowlog)
{
    static const struct subcommand subcommands[] = {
        {"get", -2, slowlog_get},
        {"len", 2, slowlog_len},
        {"reset", 2, slowlog_reset},
        {"help", 2, slowlog_help},
    };
    return resp__run_subcommand(subcommands, COUNT_OF(subcommands), connection, arguments, count,
                                reply);
}

/* ---- LATENCY --------------------------------------------------------------------------------- */

/* Redis samples events of its main thread here. Ours are histograms, in the metrics. */

static enum handled latency_nothing(struct connection *connection, const struct bytes *arguments,
                                    uint32_t count, const struct reply *reply)
{
    reply_array(reply, 0);
    return HANDLED_DONE;
}

static enum handled latency_reset(struct connection *connection, const struct bytes *arguments,
                                  uint32_t count, const struct reply *reply)
{
    reply_integer(reply, 0);
    return HANDLED_DONE;
}

static enum handled latency_doctor(struct connection *connection, const struct bytes *arguments,
                                   uint32_t count, const struct reply *reply)
{
    reply_verbatim(reply, "txt",
                   BYTES("Latencies are measured always, by family of commands: see /metrics.\n"));
    return HANDLED_DONE;
}

static enum handled latency_help(struct connection *connection, const struct bytes *arguments,
                                 uint32_t count, const struct reply *reply)
{
    static const char *const lines[] = {
        "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "DOCTOR",
        "    Return a human readable latency analysis report.",
        "HISTORY <event>",
        "    Return time-latency samples for the <event> class.",
        "LATEST",
        "    Return the latest latency samples for all events.",
        "RESET [<event> ...]",
        "    Reset latency data of one or more <event> classes.",
    };
    resp__reply_help(reply, lines, COUNT_OF(lines));
    return HANDLED_DONE;
}

RESP_HANDLER(latency)
{
    static const struct subcommand subcommands[] = {
        {"doctor", 2, latency_doctor},   {"help", 2, latency_help},
        {"history", 3, latency_nothing}, {"latest", 2, latency_nothing},
        {"reset", -2, latency_reset},
    };
    return resp__run_subcommand(subcommands, COUNT_OF(subcommands), connection, arguments, count,
                                reply);
}

/* ---- MEMORY ---------------------------------------------------------------------------------- */

static enum handled memory_usage(struct connection *connection, const struct bytes *arguments,
                                 uint32_t count, const struct reply *reply)
{
    const struct kv_command *command = kv_command_find(BYTES("memory"));
    if (command == NULL || command->opcode == 0) {
        resp__reply_unknown_subcommand(reply, "memory", arguments[1]);
        return HANDLED_DONE;
    }
    const struct slots *slots = resp__slots(connection->server);
    struct submission submission = {
        .entry = resp__command_find(&connection->server->group->commands, BYTES("memory")),
        .slots = slots,
        .range = resp__range_of_slot(slots, kv_slot_of_key(arguments[2])),
        .command = {.opcode = command->opcode,
                    .argument_count = count - 1,
                    .arguments = arguments + 1},
    };
    int refused;
    enum handled handled = resp__submit(connection, &submission, reply, &refused);
    if (handled == HANDLED_DONE && refused != 0) {
        resp__reply_refusal(reply, refused);
    }
    return handled;
}

static enum handled memory_stats(struct connection *connection, const struct bytes *arguments,
                                 uint32_t count, const struct reply *reply)
{
    const struct resp_server *server = connection->server;
    struct resp_information information = {0};
    server->backend->get_information(server->backend->context, &information);
    int64_t buffer_bytes = atomic_load(&server->group->buffer_bytes);
    reply_map(reply, 5);
    reply_bulk_text(reply, "total.allocated");
    reply_integer(reply, (int64_t)os_memory_resident_bytes());
    reply_bulk_text(reply, "clients.normal");
    reply_integer(reply, buffer_bytes > 0 ? buffer_bytes : 0);
    reply_bulk_text(reply, "keys.count");
    reply_integer(reply, (int64_t)information.key_count);
    reply_bulk_text(reply, "cache.bytes");
    reply_integer(reply, (int64_t)information.memory_cache_bytes);
    reply_bulk_text(reply, "limit.bytes");
    reply_integer(reply, (int64_t)information.memory_limit_bytes);
    return HANDLED_DONE;
}

static enum handled memory_doctor(struct connection *connection, const struct bytes *arguments,
                                  uint32_t count, const struct reply *reply)
{
    reply_verbatim(
        reply, "txt",
        BYTES("Caches and buffers are bounded by --memory; INFO memory has the numbers.\n"));
    return HANDLED_DONE;
}

static enum handled memory_purge(struct connection *connection, const struct bytes *arguments,
                                 uint32_t count, const struct reply *reply)
{
    reply_ok(reply);
    return HANDLED_DONE;
}

static enum handled memory_help(struct connection *connection, const struct bytes *arguments,
                                uint32_t count, const struct reply *reply)
{
    static const char *const lines[] = {
        "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "DOCTOR",
        "    Return memory problems reports.",
        "MALLOC-STATS",
        "    Return internal statistics report from the memory allocator.",
        "PURGE",
        "    Attempt to purge dirty pages for reclamation by the allocator.",
        "STATS",
        "    Return information about the memory usage of the server.",
        "USAGE <key> [SAMPLES <count>]",
        "    Return memory in bytes used by <key> and its value.",
    };
    resp__reply_help(reply, lines, COUNT_OF(lines));
    return HANDLED_DONE;
}

RESP_HANDLER(memory)
{
    static const struct subcommand subcommands[] = {
        {"usage", -3, memory_usage}, {"stats", 2, memory_stats}, {"doctor", 2, memory_doctor},
        {"purge", 2, memory_purge},  {"help", 2, memory_help},   {"malloc-stats", 2, memory_doctor},
    };
    return resp__run_subcommand(subcommands, COUNT_OF(subcommands), connection, arguments, count,
                                reply);
}

/* ---- ACL and MODULE -------------------------------------------------------------------------- */

static enum handled acl_whoami(struct connection *connection, const struct bytes *arguments,
                               uint32_t count, const struct reply *reply)
{
    reply_bulk_text(reply, "default");
    return HANDLED_DONE;
}

static enum handled acl_help(struct connection *connection, const struct bytes *arguments,
                             uint32_t count, const struct reply *reply)
{
    static const char *const lines[] = {
        "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "WHOAMI",
        "    Return the current connection username: there is one, default.",
    };
    resp__reply_help(reply, lines, COUNT_OF(lines));
    return HANDLED_DONE;
}

RESP_HANDLER(acl)
{
    static const struct subcommand subcommands[] = {
        {"whoami", 2, acl_whoami},
        {"help", 2, acl_help},
    };
    return resp__run_subcommand(subcommands, COUNT_OF(subcommands), connection, arguments, count,
                                reply);
}

static enum handled module_list(struct connection *connection, const struct bytes *arguments,
                                uint32_t count, const struct reply *reply)
{
    reply_array(reply, 0);
    return HANDLED_DONE;
}

static enum handled module_help(struct connection *connection, const struct bytes *arguments,
                                uint32_t count, const struct reply *reply)
{
    static const char *const lines[] = {
        "MODULE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "LIST",
        "    Return nothing: there are no modules.",
    };
    resp__reply_help(reply, lines, COUNT_OF(lines));
    return HANDLED_DONE;
}

RESP_HANDLER(module)
{
    static const struct subcommand subcommands[] = {
        {"list", 2, module_list},
        {"help", 2, module_help},
    };
    return resp__run_subcommand(subcommands, COUNT_OF(subcommands), connection, arguments, count,
                                reply);
}
