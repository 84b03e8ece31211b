/* SPDX-License-Identifier: Apache-2.0 */
/* MULTI, EXEC, DISCARD, WATCH, UNWATCH.
 *
 * Queued commands for a shard go into a kv transaction, which EXEC submits as one command: it is
 * executed whole or not at all. A command of the gateway's own among them is run when EXEC comes,
 * and its answer becomes part of the transaction, at its place. For that the queue is kept here
 * from the first such command on; until then there is nothing to keep.
 *
 * Two things differ from Redis, for the sake of simplicity: when a watched key has changed, own
 * commands (say CLIENT SETNAME) have still run; and those that change how the connection speaks, or
 * look at other connections, are refused while queuing. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "gateway/resp/resp_internal.h"

enum { QUEUED_COUNT_MAX = 65535, QUEUED_OVERHEAD_BYTES = 64, VERSION_SIZE = 8 };

struct queued {
    const struct command_entry *entry;
    struct bytes *arguments; /* With the name; the bytes stand behind the array. */
    uint32_t count;
};

/* ---- The queue ------------------------------------------------------------------------------- */

static void queued_clear(struct connection_extra *extra)
{
    for (uint32_t i = 0; i < extra->queued_count; i++) {
        memory_free(extra->queued[i].arguments);
    }
    memory_free(extra->queued);
    extra->queued = NULL;
    extra->queued_count = 0;
    extra->queued_capacity = 0;
    extra->own_size_bytes = 0;
}

void resp__transaction_drop(struct connection *connection)
{
    connection->is_in_multi = false;
    connection->is_multi_broken = false;
    struct connection_extra *extra = connection->extra;
    if (extra == NULL) {
        return;
    }
    queued_clear(extra);
    if (extra->transaction != NULL) {
        kv_transaction_destroy(extra->transaction);
        extra->transaction = NULL;
    }
    extra->command_count = 0;
    extra->watched_count = 0;
    extra->shard = 0;
    extra->map_version = 0;
    extra->is_across = false;
}

uint64_t resp__transaction_size_bytes(const struct connection *connection)
{
    const struct connection_extra *extra = connection->extra;
    uint64_t size_bytes = extra->own_size_bytes;
    if (extra->transaction != NULL) {
        size_bytes += kv_transaction_size_bytes(extra->transaction);
    }
    return size_bytes;
}

static struct kv_transaction *transaction_of(struct connection *connection)
{
    struct connection_extra *extra = resp__connection_extra(connection);
    if (extra->transaction == NULL) {
        extra->transaction = kv_transaction_create();
    }
    return extra->transaction;
}

void resp__transaction_watch(struct connection *connection, struct bytes key, uint64_t version)
{
    struct connection_extra *extra = resp__connection_extra(connection);
    const struct slots *slots = resp__slots(connection->server);
    wal_shard shard = resp__range_of_slot(slots, kv_slot_of_key(key)).shard;
    extra->map_version = extra->map_version == 0 ? resp__map_version(slots) : extra->map_version;
    kv_transaction_watch(transaction_of(connection), key, version);
    extra->watched_count++;
    extra->is_across |= extra->shard != 0 && extra->shard != shard;
    extra->shard = shard;
}

static void keep(struct connection_extra *extra, const struct command_entry *entry,
                 const struct bytes *arguments, uint32_t count)
{
    if (extra->queued_count == extra->queued_capacity) {
        extra->queued_capacity = extra->queued_capacity == 0 ? 8 : 2 * extra->queued_capacity;
        extra->queued =
            memory_resize(extra->queued, extra->queued_capacity * sizeof *extra->queued);
    }
    extra->queued[extra->queued_count++] =
        (struct queued){entry, resp__arguments_copy(arguments, count), count};
    extra->own_size_bytes += resp__arguments_size_bytes(arguments, count) + QUEUED_OVERHEAD_BYTES;
}

/* May the gateway's own command be run within EXEC, where it must answer at once? */
static bool may_be_queued(const struct command_entry *entry, const struct bytes *arguments,
                          uint32_t count)
{
    static const char *const others[] = {"LIST", "KILL", "PAUSE", "UNPAUSE", "REPLY"};
    if ((entry->command->flags & KV_FLAG_NO_MULTI) != 0 || entry->handler == resp__hello) {
        return false;
    }
    if (count < 2) {
        return true;
    }
    if (entry->handler == resp__memory) {
        return !resp__is(arguments[1], "USAGE");
    }
    if (entry->handler == resp__cluster) {
        return !resp__is(arguments[1], "COUNTKEYSINSLOT") &&
               !resp__is(arguments[1], "GETKEYSINSLOT");
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (entry->handler == resp__client && resp__is(arguments[1], others[i])) {
            return false;
        }
    }
    return true;
}

/* All keys that are watched or used are in one shard: is this command's, too? It has none: yes. */
static bool is_same_shard(struct connection *connection, const struct command_entry *entry,
                          const struct bytes *arguments, uint32_t count)
{
    struct connection_extra *extra = resp__connection_extra(connection);
    const struct slots *slots = resp__slots(connection->server);
    struct slots_range range;
    extra->map_version = extra->map_version == 0 ? resp__map_version(slots) : extra->map_version;
    if (slots == NULL || slots->range_count == 1) {
        return true;
    }
    bool has_keys = resp__names_keys(entry, count);
    if (entry->handler != NULL && !has_keys) {
        return true;
    }
    if (!resp__find_range(slots, entry, arguments, count, &range) ||
        (has_keys && extra->shard != 0 && extra->shard != range.shard)) {
        return false;
    }
    extra->shard = has_keys ? range.shard : extra->shard;
    return true;
}

/* Then it becomes a transaction over several shards, if this command may be a part of one. */
static bool may_be_across(struct connection *connection, const struct command_entry *entry,
                          const struct bytes *arguments, uint32_t count)
{
    struct slots_range range;
    return entry->command->keys.first > 0 &&
           (resp__find_range(resp__slots(connection->server), entry, arguments, count, &range) ||
            kv_command_may_be_split(entry->command) || kv_command_moves(entry->command));
}

enum handled resp__queue(struct connection *connection, const struct command_entry *entry,
                         const struct bytes *arguments, uint32_t count, const struct reply *reply)
{
    struct connection_extra *extra = resp__connection_extra(connection);
    const struct resp_options *options = &connection->server->group->options;
    if (entry->handler != NULL && !may_be_queued(entry, arguments, count)) {
        connection->is_multi_broken = true;
        reply_error(reply, "ERR Command not allowed inside a transaction");
        return HANDLED_DONE;
    }
    if (extra->command_count >= QUEUED_COUNT_MAX ||
        resp__transaction_size_bytes(connection) > options->request_size_bytes_max) {
        connection->is_multi_broken = true;
        reply_error(reply, "ERR the transaction exceeds the limit of %d commands or %llu bytes",
                    QUEUED_COUNT_MAX, (unsigned long long)options->request_size_bytes_max);
        return HANDLED_DONE;
    }
    if (!is_same_shard(connection, entry, arguments, count)) {
        if (!may_be_across(connection, entry, arguments, count)) {
            connection->is_multi_broken = true;
            resp__reply_cross(reply);
            return HANDLED_DONE;
        }
        extra->is_across = true;
    }
    if (connection->is_multi_broken) {
        reply_status(reply, "QUEUED"); /* It will never run: why keep it. */
        return HANDLED_DONE;
    }
    extra->command_count++;
    if (entry->handler != NULL || extra->queued_count > 0) {
        keep(extra, entry, arguments, count);
    } else {
        kv_transaction_add(transaction_of(connection), entry->command, arguments + 1, count - 1);
    }
    resp__connection_charge(connection);
    reply_status(reply, "QUEUED");
    return HANDLED_DONE;
}

/* Run one of the gateway's own commands, whose answer becomes part of the transaction. What answers more than
 * a request may have is not run any more: a few bytes can ask for much, and all is held at once. */
static void run_own(struct connection *connection, const struct queued *queued,
                    struct buffer *answer)
{
    struct kv_transaction *transaction = transaction_of(connection);
    uint64_t most_bytes = connection->server->group->options.request_size_bytes_max;
    uint64_t used_bytes = kv_transaction_used_bytes(transaction);
    struct reply_limit limit = {.size_bytes_max =
                                    used_bytes < most_bytes ? most_bytes - used_bytes : 0};
    const struct reply reply = {
        .target = answer, .protocol = connection->protocol, .limit = &limit};
    const struct reply unlimited = {.target = answer, .protocol = connection->protocol};
    buffer_clear(answer);
    if (limit.size_bytes_max > 0) {
        uint32_t slot_count = connection->slot_count;
        enum handled handled =
            queued->entry->handler(connection, queued->arguments, queued->count, &reply);
        ASSERT(handled == HANDLED_DONE && connection->slot_count == slot_count);
    }
    if (limit.size_bytes_max == 0 || limit.is_exceeded) {
        buffer_clear(answer);
        reply_error(&unlimited, "ERR the answers of the transaction exceed the limit of %llu bytes",
                    (unsigned long long)most_bytes);
    }
    kv_transaction_add_answer(transaction, buffer_bytes(answer));
}

/* Run the gateway's own commands and complete the transaction. */
static void settle_queue(struct connection *connection)
{
    struct connection_extra *extra = connection->extra;
    struct kv_transaction *transaction = transaction_of(connection);
    struct buffer answer = {0};
    for (uint32_t i = 0; i < extra->queued_count; i++) {
        const struct queued *queued = &extra->queued[i];
        if (queued->entry->handler != NULL) {
            run_own(connection, queued, &answer);
        } else {
            kv_transaction_add(transaction, queued->entry->command, queued->arguments + 1,
                               queued->count - 1);
        }
    }
    buffer_deinit(&answer);
    queued_clear(extra);
}

/* ---- MULTI, EXEC, DISCARD -------------------------------------------------------------------- */

RESP_HANDLER(multi)
{
    if (connection->is_in_multi) {
        reply_error(reply, "ERR MULTI calls can not be nested");
        return HANDLED_DONE;
    }
    connection->is_in_multi = true;
    reply_ok(reply);
    return HANDLED_DONE;
}

RESP_HANDLER(discard)
{
    if (!connection->is_in_multi) {
        reply_error(reply, "ERR DISCARD without MULTI");
        return HANDLED_DONE;
    }
    resp__transaction_drop(connection);
    reply_ok(reply);
    return HANDLED_DONE;
}

/* Where a transaction goes. */
struct target {
    const struct slots *slots; /* By this map, */
    struct slots_range range;  /* here. */
};

/* Are the keys in several shards, by the map, and where is the first one? What cannot be cut as it is has
 * them in several. */
static bool find_keys(struct kv_transaction *transaction, struct target *target)
{
    const struct slots *slots = target->slots;
    struct kv_split *split = NULL;
    int status =
        kv_split_create(&split, transaction, resp__group_of_slot, (void *)(uintptr_t)slots);
    if (status != 0) {
        return true;
    }
    uint32_t count = kv_split_part_count(split);
    target->range = resp__range_of_slot(slots, count > 0 ? kv_split_part(split, 0).place : 0);
    kv_split_destroy(split);
    return count > 1;
}

/* As find_keys(), for what was queued; mostly nothing has changed since, and that is known. */
static bool find_queued(const struct connection *connection, struct target *target)
{
    const struct connection_extra *extra = connection->extra;
    const struct slots *slots = target->slots;
    if (extra->map_version != 0 && extra->map_version != resp__map_version(slots)) {
        PROBE("resp.map_changed_in_multi");
        return find_keys(extra->transaction, target);
    }
    target->range = resp__range_of_slot(slots, 0);
    if (slots != NULL && extra->shard != 0) {
        target->range = slots->ranges[slots_find(slots, extra->shard)];
    }
    return extra->is_across;
}

/* Have it executed by one shard; takes it when that will answer. */
static enum handled submit_transaction(struct connection *connection,
                                       struct kv_transaction **transaction,
                                       const struct target *target, const struct reply *reply)
{
    if (!resp__server_may_read(connection->server)) {
        return HANDLED_LATER;
    }
    struct submission submission = {
        .entry = resp__command_find(&connection->server->group->commands, BYTES("exec")),
        .slots = target->slots,
        .range = target->range,
        .is_write = true,
        .is_barrier = true,
        .answers_value = true,
    };
    submission.command = kv_transaction_command(*transaction, &submission.does_grow);
    uint32_t slot_count = connection->slot_count;
    int refused;
    enum handled handled = resp__submit(connection, &submission, reply, &refused);
    if (handled == HANDLED_DONE && refused != 0) {
        const char *text = resp__refusal_text(refused);
        reply_error(reply, "EXECABORT Transaction discarded because of: %s",
                    text != NULL ? text : error_text(refused));
    }
    if (connection->slot_count > slot_count) {
        LIST_ITEM(connection->slots.previous, struct slot, link)->transaction = *transaction;
        *transaction = NULL;
    }
    return handled;
}

static enum handled execute_queue(struct connection *connection, bool is_across,
                                  struct kv_transaction **transaction, const struct target *target,
                                  const struct reply *reply)
{
    if (!is_across) {
        return submit_transaction(connection, transaction, target, reply);
    }
    const struct command_entry *entry =
        resp__command_find(&connection->server->group->commands, BYTES("exec"));
    enum handled handled = resp__across(connection, entry, transaction, reply);
    if (handled == HANDLED_DONE) { /* What was begun has copies, or took it. */
        kv_transaction_destroy(*transaction);
        *transaction = NULL;
    }
    return handled;
}

enum handled resp__exec_again(struct connection *connection, struct kv_transaction **transaction,
                              const struct reply *reply)
{
    struct target target = {.slots = resp__slots(connection->server)};
    bool is_across = find_keys(*transaction, &target);
    return execute_queue(connection, is_across, transaction, &target, reply);
}

RESP_HANDLER(exec)
{
    if (!connection->is_in_multi) {
        reply_error(reply, "ERR EXEC without MULTI");
        return HANDLED_DONE;
    }
    if (connection->is_multi_broken) {
        resp__transaction_drop(connection);
        reply_error(reply, "EXECABORT Transaction discarded because of previous errors.");
        return HANDLED_DONE;
    }
    struct connection_extra *extra = connection->extra;
    if (extra == NULL || (extra->transaction == NULL && extra->queued_count == 0)) {
        resp__transaction_drop(connection);
        reply_array(reply, 0);
        return HANDLED_DONE;
    }
    settle_queue(connection);
    struct target target = {.slots = resp__slots(connection->server)};
    bool is_across = find_queued(connection, &target);
    enum handled handled =
        execute_queue(connection, is_across, &extra->transaction, &target, reply);
    if (handled == HANDLED_DONE) {
        resp__transaction_drop(connection);
    }
    return handled; /* Else the transaction stays complete for the next try. */
}

/* ---- WATCH ----------------------------------------------------------------------------------- */

/* The versions of the keys that `watching` holds: each a length of 4 bytes and the key. */
static void watched(struct slot *slot, int status, struct bytes answer, const struct reply *reply)
{
    struct connection *connection = slot->connection;
    connection->is_blocked = false;
    struct connection_extra *extra = connection->extra;
    if (status != 0 || answer.size_bytes != (size_t)extra->watching_count * VERSION_SIZE) {
        buffer_append(reply->target, answer); /* An error. */
    } else if (!connection->is_hung_up) {
        const uint8_t *place = extra->watching.data;
        for (uint32_t i = 0; i < extra->watching_count; i++) {
            uint32_t size;
            memcpy(&size, place, sizeof size);
            resp__transaction_watch(connection, bytes_make(place + sizeof size, size),
                                    endian_get_u64_le(answer.data + i * VERSION_SIZE));
            place += sizeof size + size;
        }
        reply_ok(reply);
    }
    buffer_deinit(&extra->watching);
}

RESP_HANDLER(watch)
{
    if (connection->is_in_multi) {
        reply_error(reply, "ERR WATCH inside MULTI is not allowed");
        return HANDLED_DONE;
    }
    struct connection_extra *extra = resp__connection_extra(connection);
    if (resp__transaction_size_bytes(connection) >
        connection->server->group->options.request_size_bytes_max) {
        reply_error(reply, "ERR too many watched keys");
        return HANDLED_DONE;
    }
    const struct command_entry *entry =
        resp__command_find(&connection->server->group->commands, BYTES("watch"));
    const struct slots *slots = resp__slots(connection->server);
    struct slots_range range;
    if (!resp__find_range(slots, entry, arguments, count, &range)) {
        return resp__spread(connection, entry, arguments, count, reply);
    }
    buffer_clear(&extra->watching);
    extra->watching_count = count - 1;
    for (uint32_t i = 1; i < count; i++) {
        uint32_t size = (uint32_t)arguments[i].size_bytes;
        buffer_append(&extra->watching, bytes_make(&size, sizeof size));
        buffer_append(&extra->watching, arguments[i]);
    }
    struct submission submission = {
        .entry = entry,
        .slots = slots,
        .range = range,
        .command = {.opcode = kv_versions_opcode(),
                    .argument_count = count - 1,
                    .arguments = arguments + 1},
        .complete = watched,
        .is_barrier = true,
    };
    uint32_t slot_count = connection->slot_count;
    int refused;
    enum handled handled = resp__submit(connection, &submission, reply, &refused);
    if (handled == HANDLED_DONE && refused != 0) {
        resp__reply_refusal(reply, refused);
    }
    /* What comes next may be EXEC, which must know the versions. */
    connection->is_blocked = connection->slot_count > slot_count;
    return handled;
}

RESP_HANDLER(unwatch)
{
    if (!connection->is_in_multi) {
        resp__transaction_drop(connection);
    }
    reply_ok(reply);
    return HANDLED_DONE;
}
