/* SPDX-License-Identifier: Apache-2.0 */
/* From a parsed command to who executes it. The order of the checks is that of Redis 7.2
 * (processCommand), for clients see which error comes first. */
#include <stdio.h>

#include "base/assert/assert.h"
#include "gateway/resp/resp_internal.h"

enum { UNKNOWN_TEXT_SIZE_MAX = 128 };

bool resp__is(struct bytes bytes, const char *word)
{
    return bytes_equal_ignoring_case(bytes, bytes_of_text(word));
}

void resp__reply_arity(const struct reply *reply, const char *name)
{
    reply_error(reply, "ERR wrong number of arguments for '%s' command", name);
}

void resp__reply_syntax(const struct reply *reply)
{
    reply_error(reply, "ERR syntax error");
}

static void refuse_subcommand(const struct reply *reply, const char *problem, const char *command,
                              struct bytes subcommand)
{
    char upper[COMMAND_NAME_SIZE_MAX] = {0};
    for (size_t i = 0; command[i] != '\0' && i + 1 < sizeof upper; i++) {
        upper[i] = command[i] >= 'a' && command[i] <= 'z' ? (char)(command[i] - 32) : command[i];
    }
    int size = subcommand.size_bytes < 128 ? (int)subcommand.size_bytes : 128;
    reply_error(reply, "ERR %s '%.*s'. Try %s HELP.", problem, size, (const char *)subcommand.data,
                upper);
}

void resp__reply_unknown_subcommand(const struct reply *reply, const char *command,
                                    struct bytes subcommand)
{
    refuse_subcommand(reply, "unknown subcommand", command, subcommand);
}

void resp__reply_subcommand_form(const struct reply *reply, const char *command,
                                 struct bytes subcommand)
{
    refuse_subcommand(reply, "unknown subcommand or wrong number of arguments for", command,
                      subcommand);
}

void resp__reply_help(const struct reply *reply, const char *const *lines, uint32_t count)
{
    reply_array(reply, count + 2);
    for (uint32_t i = 0; i < count; i++) {
        reply_status(reply, lines[i]);
    }
    reply_status(reply, "HELP");
    reply_status(reply, "    Prints this help.");
}

/* "ERR unknown command 'X', with args beginning with: 'a' 'b' ", each part cut as Redis does, at a NUL, too. */
static void reply_unknown_command(const struct reply *reply, const struct bytes *arguments,
                                  uint32_t count)
{
    char text[UNKNOWN_TEXT_SIZE_MAX + 8] = {0};
    size_t length = 0;
    for (uint32_t i = 1; i < count && length < UNKNOWN_TEXT_SIZE_MAX; i++) {
        size_t room = UNKNOWN_TEXT_SIZE_MAX - length;
        size_t size = arguments[i].size_bytes < room ? arguments[i].size_bytes : room;
        text[length++] = '\'';
        for (size_t j = 0; j < size && arguments[i].data[j] != '\0'; j++) {
            text[length++] = (char)arguments[i].data[j];
        }
        text[length++] = '\'';
        text[length++] = ' ';
    }
    int name_size = arguments[0].size_bytes < UNKNOWN_TEXT_SIZE_MAX ? (int)arguments[0].size_bytes
                                                                    : UNKNOWN_TEXT_SIZE_MAX;
    reply_error(reply, "ERR unknown command '%.*s', with args beginning with: %s", name_size,
                (const char *)arguments[0].data, text);
}

/* "POST" and "Host:" are what a browser sends that somebody tricked into talking to us
 * (cross-protocol scripting); hanging up keeps what follows in its request from being taken for
 * commands. */
static bool is_http(struct bytes name)
{
    return resp__is(name, "POST") || resp__is(name, "Host:");
}

static bool may_run_in_multi(const struct command_entry *entry)
{
    return entry->handler == resp__exec || entry->handler == resp__discard ||
           entry->handler == resp__multi || entry->handler == resp__watch ||
           entry->handler == resp__quit || entry->handler == resp__reset;
}

static enum handled wait_in(struct connection *connection, struct list *waiting)
{
    list_remove(&connection->ready_link);
    list_push_back(waiting, &connection->ready_link);
    return HANDLED_LATER;
}

bool resp__set_gets(const struct bytes *arguments, uint32_t count)
{
    for (uint32_t i = 3; i < count; i++) {
        if (resp__is(arguments[i], "GET")) {
            return true;
        }
    }
    return false;
}

/* SET only with GET. */
static bool answers_value(const struct command_entry *entry, const struct bytes *arguments,
                          uint32_t count)
{
    bool is_set = (entry->command->flags & KV_FLAG_GROWS) != 0 && entry->command->arity < 0;
    return (entry->command->flags & KV_FLAG_ANSWERS_VALUE) != 0 &&
           (!is_set || resp__set_gets(arguments, count));
}

enum handled resp__run(struct connection *connection, const struct command_entry *entry,
                       const struct bytes *arguments, uint32_t count, const struct reply *reply)
{
    if (entry->handler != NULL) {
        return entry->handler(connection, arguments, count, reply);
    }
    bool is_write = (entry->command->flags & KV_FLAG_WRITE) != 0;
    bool does_answer_value = answers_value(entry, arguments, count);
    if ((!is_write || does_answer_value) && !resp__server_may_read(connection->server)) {
        return HANDLED_LATER;
    }
    const struct slots *slots = resp__slots(connection->server);
    struct slots_range range;
    if (!resp__find_range(slots, entry, arguments, count, &range)) {
        return resp__spread(connection, entry, arguments, count, reply);
    }
    struct submission submission = {
        .entry = entry,
        .slots = slots,
        .range = range,
        .command = {.opcode = entry->command->opcode,
                    .argument_count = count - 1,
                    .arguments = arguments + 1},
        .is_write = is_write,
        .answers_value = does_answer_value,
        .does_grow = (entry->command->flags & KV_FLAG_GROWS) != 0,
        .is_cheap = (entry->command->flags & KV_FLAG_FAST) != 0,
        .is_barrier = entry->command->keys.first <= 0,
    };
    int refused;
    enum handled handled = resp__submit(connection, &submission, reply, &refused);
    if (handled == HANDLED_DONE && refused != 0) {
        resp__reply_refusal(reply, refused);
    }
    return handled;
}

/* Fast commands are not timed one by one: a look at the clock costs as much as they do. */
static enum handled run_timed(struct connection *connection, const struct command_entry *entry,
                              const struct bytes *arguments, uint32_t count,
                              const struct reply *reply)
{
    struct resp_server *server = connection->server;
    uint16_t untimed = KV_FLAG_FAST | KV_FLAG_WRITE;
    if ((entry->command->flags & untimed) != 0) {
        return resp__run(connection, entry, arguments, count, reply);
    }
    uint64_t start_ns = os_monotonic_ns();
    enum handled handled = resp__run(connection, entry, arguments, count, reply);
    uint64_t took_ns = os_monotonic_ns() - start_ns;
    COUNTER_ADD(server->counters[entry->index].time_ns, took_ns);
    int64_t threshold_us =
        atomic_load_explicit(&server->group->slow_log_threshold_us, memory_order_relaxed);
    /* The arguments are gone with a connection that was cut off meanwhile. */
    if (handled == HANDLED_DONE && !connection->is_hung_up && threshold_us >= 0 &&
        took_ns >= (uint64_t)threshold_us * 1000) {
        resp__slow_log_add(connection, took_ns, arguments, count, count);
    }
    return handled;
}

void resp__reply_written(struct connection *connection, const struct reply *reply, size_t before)
{
    size_t after = reply->target->size_bytes;
    if (after <= before || reply->target == &connection->server->scratch) {
        return;
    }
    connection->server->tick_output_bytes += after - before;
    if (reply->target != &connection->output) {
        connection->held_size_bytes += after - before;
    }
    resp__connection_mark_dirty(connection);
}

static void note_executed(struct connection *connection, const struct command_entry *entry,
                          const struct reply *reply, size_t before, uint32_t slot_count_before)
{
    struct resp_server *server = connection->server;
    enum kv_family family = entry->command->family;
    COUNTER_ADD(server->counters[entry->index].call_count, 1);
    COUNTER_ADD(server->family_counts[family], 1);
    if (connection->slot_count > slot_count_before) {
        resp__slots_settle(connection);
        return; /* Its answer will come. */
    }
    server->tick_counts[family]++;
    server->tick_read_count += (entry->command->flags & KV_FLAG_READ) != 0;
    server->has_tick_counts = true;
    if (reply->target->size_bytes > before && reply->target->data[before] == '-') {
        COUNTER_ADD(server->counters[entry->index].failed_count, 1);
        resp__error_count(server, resp__written(reply, before));
    }
}

static void note_rejected(const struct connection *connection, const struct command_entry *entry,
                          const struct reply *reply, size_t before)
{
    resp__error_count(connection->server, resp__written(reply, before));
    if (entry != NULL) {
        COUNTER_ADD(connection->server->counters[entry->index].rejected_count, 1);
    }
}

/* Would it make a value that is longer than those which clients may send? A few bytes can ask for it. */
static bool makes_huge_value(const struct connection *connection, const struct command_entry *entry,
                             const struct bytes *arguments, uint32_t count)
{
    return (entry->command->flags & KV_FLAG_GROWS) != 0 && count == 4 &&
           kv_command_made_size_bytes(entry->command, arguments + 1, count - 1) >
               connection->server->group->options.value_size_bytes_max;
}

/* EXEC that is refused for its form ends the transaction, if there is one, and what is watched, as in
 * Redis. */
static void refuse_exec(struct connection *connection, const struct reply *reply)
{
    resp__transaction_drop(connection);
    reply_error(reply, "EXECABORT Transaction discarded because of: wrong number of arguments for "
                       "'exec' command");
}

/* The checks before execution; false when the command was refused. */
static bool admit(struct connection *connection, const struct command_entry *entry,
                  const struct bytes *arguments, uint32_t count, const struct reply *reply)
{
    size_t before = reply->target->size_bytes;
    if (entry == NULL) {
        reply_unknown_command(reply, arguments, count);
    } else if (!kv_command_arity_fits(entry->command, count)) {
        if (entry->handler == resp__exec) {
            refuse_exec(connection, reply);
        } else {
            resp__reply_arity(reply, entry->command->name);
        }
    } else if (!connection->is_authenticated && (entry->command->flags & KV_FLAG_NO_AUTH) == 0) {
        reply_error(reply, "NOAUTH Authentication required.");
    } else if (makes_huge_value(connection, entry, arguments, count)) {
        reply_error(reply, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    } else {
        return true;
    }
    connection->is_multi_broken |= connection->is_in_multi;
    note_rejected(connection, entry, reply, before);
    return false;
}

static enum handled execute(struct connection *connection, const struct command_entry *entry,
                            const struct reply *reply)
{
    struct resp_server *server = connection->server;
    const struct bytes *arguments = server->arguments.items;
    uint32_t count = server->arguments.count;
    if (resp__server_is_paused(server, (entry->command->flags & KV_FLAG_WRITE) != 0 ||
                                           entry->handler == resp__exec) &&
        entry->handler != resp__client) {
        return wait_in(connection, &server->held);
    }
    size_t before = reply->target->size_bytes;
    if (connection->is_cluster &&
        resp__cluster_redirect(connection, entry->command, arguments, count, reply)) {
        connection->is_multi_broken |= connection->is_in_multi;
        note_rejected(connection, entry, reply, before);
        return HANDLED_DONE;
    }
    uint32_t slot_count = connection->slot_count;
    enum handled handled;
    if (connection->is_in_multi && !may_run_in_multi(entry)) {
        handled = resp__queue(connection, entry, arguments, count, reply);
    } else {
        handled = run_timed(connection, entry, arguments, count, reply);
    }
    if (handled == HANDLED_LATER) {
        return wait_in(connection, &server->busy);
    }
    if (handled == HANDLED_AFTER) {
        ASSERT(connection->slot_count > 0); /* The last answer has it go on. */
        connection->must_drain = true;
        return HANDLED_LATER;
    }
    note_executed(connection, entry, reply, before, slot_count);
    return HANDLED_DONE;
}

enum handled resp__dispatch(struct connection *connection)
{
    struct resp_server *server = connection->server;
    const struct bytes *arguments = server->arguments.items;
    uint32_t count = server->arguments.count;
    const struct command_entry *entry = resp__command_find(&server->group->commands, arguments[0]);
    connection->last_command = entry == NULL ? 0 : (uint16_t)(entry->index + 1);
    connection->last_subcommand = NULL;
    if (entry == NULL && is_http(arguments[0])) {
        resp__event(server, "resp.client.http",
                    "client_id=%llu sent an HTTP request to the Redis port",
                    (unsigned long long)connection->id);
        resp__connection_finish(connection);
        return HANDLED_DONE;
    }
    if (connection->reply_mode == REPLY_MODE_SKIP_NEXT) {
        connection->reply_mode = REPLY_MODE_SKIP;
    }
    uint8_t mode = connection->reply_mode;
    struct reply reply = resp__reply_target(connection);
    size_t before = reply.target->size_bytes;
    enum handled handled = HANDLED_DONE;
    if (admit(connection, entry, arguments, count, &reply)) {
        handled = execute(connection, entry, &reply);
    }
    resp__reply_written(connection, &reply, before);
    if (mode == REPLY_MODE_SKIP && connection->reply_mode == REPLY_MODE_SKIP) {
        connection->reply_mode = handled == HANDLED_DONE ? REPLY_MODE_ON : REPLY_MODE_SKIP_NEXT;
    }
    return handled;
}

/* What is run within EXEC is not what the client sent last. */
static void note_subcommand(struct connection *connection, const char *name, const char *subcommand)
{
    const struct command_map *map = &connection->server->group->commands;
    if (connection->last_command > 0 &&
        strcmp(map->entries[connection->last_command - 1].command->name, name) == 0) {
        connection->last_subcommand = subcommand;
    }
}

enum handled resp__run_subcommand(const struct subcommand *subcommands, uint32_t subcommand_count,
                                  struct connection *connection, const struct bytes *arguments,
                                  uint32_t count, const struct reply *reply)
{
    char name[COMMAND_NAME_SIZE_MAX] = {0};
    for (size_t i = 0; i < arguments[0].size_bytes && i + 1 < sizeof name; i++) {
        uint8_t byte = arguments[0].data[i];
        name[i] = (char)(byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte);
    }
    for (uint32_t i = 0; i < subcommand_count; i++) {
        const struct subcommand *subcommand = &subcommands[i];
        if (!resp__is(arguments[1], subcommand->name)) {
            continue;
        }
        int64_t arity = subcommand->arity;
        if (arity > 0 ? count != (uint64_t)arity : count < (uint64_t)-arity) {
            char full[2 * COMMAND_NAME_SIZE_MAX];
            (void)snprintf(full, sizeof full, "%s|%s", name, subcommand->name);
            resp__reply_arity(reply, full);
            return HANDLED_DONE;
        }
        note_subcommand(connection, name, subcommand->name);
        return subcommand->handler(connection, arguments, count, reply);
    }
    resp__reply_unknown_subcommand(reply, name, arguments[1]);
    return HANDLED_DONE;
}
