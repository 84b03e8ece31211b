/* SPDX-License-Identifier: Apache-2.0 */
/* MULTI, EXEC and WATCH.
 *
 * Arguments of the command that EXEC becomes, integers little-endian:
 *
 *   1            4 bytes: count of watched keys
 *   for each     the key; 8 bytes: its version when it was watched
 *   for each     6 bytes: opcode (2), count of arguments (4) of a queued command
 *   and then     its arguments
 *
 * The versions are compared first; when one differs the answer is a null array and nothing changes.
 * A key that has expired since counts as changed. A key that did not exist then and does not exist
 * now counts as unchanged, whatever happened between.
 *
 * A part of a transaction over several shards (kv_participant.c) has the same arguments. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "service/kv/kv_part.h"

enum { COMMAND_HEADER_SIZE_BYTES = 6 };

/* ---- Building, on the side of the gateway ---------------------------------------------------- */

/* The bytes move while they grow, so pieces are kept as offsets until the command is built. */
struct pieces {
    struct buffer content;
    struct buffer ends; /* Where each piece ends in `content`, 8 bytes each. */
    uint32_t count;
};

struct kv_transaction {
    struct pieces watches;
    struct pieces commands;
    uint32_t watch_count;
    uint32_t command_count;
    uint32_t silent_from; /* Behind so many commands; 0: never. */
    bool does_grow;
    uint8_t watch_count_bytes[4];
    struct buffer arguments; /* struct bytes, built last. */
};

static void pieces_add(struct pieces *pieces, struct bytes piece)
{
    buffer_append(&pieces->content, piece);
    endian_put_u64_le(buffer_extend(&pieces->ends, 8), pieces->content.size_bytes);
    pieces->count++;
}

static void pieces_deinit(struct pieces *pieces)
{
    buffer_deinit(&pieces->content);
    buffer_deinit(&pieces->ends);
}

static struct bytes *pieces_list(const struct pieces *pieces, struct bytes *target)
{
    uint64_t start = 0;
    for (uint32_t i = 0; i < pieces->count; i++) {
        uint64_t end = endian_get_u64_le(pieces->ends.data + (size_t)i * 8);
        *target++ = bytes_make(pieces->content.data + start, end - start);
        start = end;
    }
    return target;
}

struct kv_transaction *kv_transaction_create(void)
{
    return memory_allocate_zeroed(1, sizeof(struct kv_transaction));
}

void kv_transaction_destroy(struct kv_transaction *transaction)
{
    if (transaction == NULL) {
        return;
    }
    pieces_deinit(&transaction->watches);
    pieces_deinit(&transaction->commands);
    buffer_deinit(&transaction->arguments);
    memory_free(transaction);
}

void kv_transaction_watch(struct kv_transaction *transaction, struct bytes key, uint64_t version)
{
    uint8_t number[8];
    endian_put_u64_le(number, version);
    pieces_add(&transaction->watches, key);
    pieces_add(&transaction->watches, bytes_make(number, sizeof number));
    transaction->watch_count++;
}

void kv_transaction_add(struct kv_transaction *transaction, const struct kv_command *command,
                        const struct bytes *arguments, uint32_t argument_count)
{
    ASSERT(command->opcode != 0);
    uint8_t header[COMMAND_HEADER_SIZE_BYTES];
    endian_put_u16_le(header, command->opcode);
    endian_put_u32_le(header + 2, argument_count);
    pieces_add(&transaction->commands, bytes_make(header, sizeof header));
    for (uint32_t i = 0; i < argument_count; i++) {
        pieces_add(&transaction->commands, arguments[i]);
    }
    transaction->command_count++;
    transaction->does_grow |= (command->flags & KV_FLAG_GROWS) != 0;
}

void kv_transaction_add_answer(struct kv_transaction *transaction, struct bytes answer)
{
    const struct kv__entry *entry = kv__entry_of_opcode(KV_OPCODE_ANSWER);
    kv_transaction_add(transaction, &entry->command, &answer, 1);
}

void kv_transaction_end_replies(struct kv_transaction *transaction)
{
    ASSERT(transaction->command_count > 0);
    transaction->silent_from = transaction->command_count;
}

uint32_t kv__transaction_reply_count(const struct kv_transaction *transaction)
{
    return transaction->silent_from > 0 ? transaction->silent_from : transaction->command_count;
}

uint64_t kv_transaction_size_bytes(const struct kv_transaction *transaction)
{
    return transaction->watches.content.capacity_bytes + transaction->watches.ends.capacity_bytes +
           transaction->commands.content.capacity_bytes +
           transaction->commands.ends.capacity_bytes + transaction->arguments.capacity_bytes +
           sizeof *transaction;
}

uint64_t kv_transaction_used_bytes(const struct kv_transaction *transaction)
{
    return transaction->watches.content.size_bytes + transaction->watches.ends.size_bytes +
           transaction->commands.content.size_bytes + transaction->commands.ends.size_bytes +
           transaction->arguments.size_bytes + sizeof *transaction;
}

struct shard_command kv_transaction_command(struct kv_transaction *transaction, bool *does_grow)
{
    uint32_t count = 1 + transaction->watches.count + transaction->commands.count;
    buffer_clear(&transaction->arguments);
    struct bytes *arguments =
        (struct bytes *)buffer_extend(&transaction->arguments, count * sizeof(struct bytes));
    endian_put_u32_le(transaction->watch_count_bytes, transaction->watch_count);
    struct bytes *next = arguments;
    *next++ = bytes_make(transaction->watch_count_bytes, sizeof transaction->watch_count_bytes);
    next = pieces_list(&transaction->watches, next);
    next = pieces_list(&transaction->commands, next);
    ASSERT(next == arguments + count);
    *does_grow = transaction->does_grow;
    return (struct shard_command){KV_OPCODE_TRANSACTION, count, arguments};
}

/* ---- Reading it again ------------------------------------------------------------------------ */

static bool parse_watches(const struct kv_call *call, uint32_t *watch_count)
{
    if (call->argument_count < 1 || call->arguments[0].size_bytes != 4) {
        return false;
    }
    *watch_count = endian_get_u32_le(call->arguments[0].data);
    if (*watch_count > (call->argument_count - 1) / 2) {
        return false;
    }
    for (uint32_t i = 0; i < *watch_count; i++) {
        const struct bytes *watch = call->arguments + 1 + 2 * (size_t)i;
        if (watch[0].size_bytes > KV_KEY_SIZE_BYTES_MAX || watch[1].size_bytes != 8) {
            return false;
        }
    }
    return true;
}

/* Make `inner` a call of the next queued command. 0; -ENOENT at the end; ERROR_CORRUPT. */
static int queued_next(struct kv__part_cursor *queued, const struct kv_call *call,
                       struct kv_call *inner)
{
    if (queued->rest_count == 0) {
        return -ENOENT;
    }
    struct bytes header = queued->arguments[0];
    if (header.size_bytes != COMMAND_HEADER_SIZE_BYTES) {
        return ERROR_CORRUPT;
    }
    uint32_t count = endian_get_u32_le(header.data + 2);
    const struct kv__entry *entry = kv__entry_of_opcode(endian_get_u16_le(header.data));
    if (count > queued->rest_count - 1 || entry == NULL ||
        ((entry->command.flags & KV_FLAG_INTERNAL) != 0 &&
         entry->command.opcode != KV_OPCODE_ANSWER)) {
        return ERROR_CORRUPT;
    }
    *inner = *call;
    inner->entry = entry;
    inner->arguments = queued->arguments + 1;
    inner->argument_count = count;
    queued->arguments += 1 + (size_t)count;
    queued->rest_count -= 1 + count;
    return 0;
}

static struct kv__part_cursor queued_of(const struct kv_call *call, uint32_t watch_count)
{
    uint32_t before = 1 + 2 * watch_count;
    return (struct kv__part_cursor){call->arguments + before, call->argument_count - before};
}

/* Is everything well-formed? Then `*command_count` tells how many replies there will be. */
static bool count_commands(const struct kv_call *call, uint32_t watch_count,
                           uint32_t *command_count)
{
    struct kv__part_cursor queued = queued_of(call, watch_count);
    struct kv_call inner;
    int status;
    *command_count = 0;
    while ((status = queued_next(&queued, call, &inner)) == 0) {
        ++*command_count;
    }
    return status == -ENOENT;
}

bool kv__part_parse(const struct kv_call *call, struct kv__part *part)
{
    return parse_watches(call, &part->watch_count) &&
           count_commands(call, part->watch_count, &part->command_count);
}

struct kv__part_cursor kv__part_begin(const struct kv_call *call, const struct kv__part *part)
{
    return queued_of(call, part->watch_count);
}

bool kv__part_next(struct kv__part_cursor *cursor, const struct kv_call *call,
                   struct kv_call *inner)
{
    return queued_next(cursor, call, inner) == 0;
}

int kv__part_compare(struct kv_call *call, const struct kv__part *part, bool *are_equal)
{
    *are_equal = true;
    for (uint32_t i = 0; i < part->watch_count && *are_equal; i++) {
        const struct bytes *watch = call->arguments + 1 + 2 * (size_t)i;
        struct kv_key key;
        struct kv_value value;
        kv__key_init(&key, watch[0]);
        int status = kv__key_lookup_head(call, &key, &value);
        if (status != 0) {
            return status;
        }
        uint64_t version = value.type == KV_TYPE_NONE ? 0 : value.version;
        *are_equal = version == endian_get_u64_le(watch[1].data) || BUG("kv.watch_not_checked");
    }
    return 0;
}

/* What is not longer than the error would be is answered itself: that a SET was executed is not to be told as an
 * error, and the joins of transactions over several shards rely on it. */
static void leave_room_for_small(const struct kv_call *call)
{
    enum { SMALL_ANSWER_BYTES = 64 };
    struct reply_limit *limit = call->reply->limit;
    size_t least_bytes = call->reply->target->size_bytes + SMALL_ANSWER_BYTES;
    if (limit != NULL && limit->size_bytes_max < least_bytes) {
        limit->size_bytes_max = least_bytes;
    }
}

int kv__part_run(struct kv_call *call, const struct kv__part *part)
{
    struct kv__part_cursor queued = queued_of(call, part->watch_count);
    struct kv_call inner;
    while (queued_next(&queued, call, &inner) == 0) {
        leave_room_for_small(call);
        int status = kv__dispatch(&inner);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

bool kv__part_visit(const struct kv_call *call, const struct kv__part *part, kv__key_visitor *visit,
                    void *context)
{
    for (uint32_t i = 0; i < part->watch_count; i++) {
        if (!visit(context, call->arguments[1 + 2 * (size_t)i])) {
            return false;
        }
    }
    struct kv__part_cursor queued = queued_of(call, part->watch_count);
    struct kv_call inner;
    while (queued_next(&queued, call, &inner) == 0) {
        if (!kv__keys_visit(&inner, visit, context)) {
            return false;
        }
    }
    return true;
}

bool kv_transaction_visit(const struct bytes *arguments, uint32_t argument_count,
                          bool (*visit)(void *context, struct bytes key), void *context)
{
    const struct kv_call call = {.arguments = arguments, .argument_count = argument_count};
    struct kv__part part;
    return kv__part_parse(&call, &part) && kv__part_visit(&call, &part, visit, context);
}

static bool stop_at_key(void *context, struct bytes name)
{
    (void)context;
    (void)name;
    return false;
}

/* OBJECT HELP and the like look at nothing, so they need neither a machine nor rows. */
static void answer_alone(const struct kv_call *call, struct buffer *answer)
{
    const struct reply reply = {.target = answer, .protocol = 2}; /* In 3 it would be the same. */
    struct kv_call alone = {
        .reply = &reply,
        .entry = call->entry,
        .arguments = call->arguments,
        .argument_count = call->argument_count,
    };
    int status = kv__dispatch(&alone);
    ASSERT(status == 0);
}

enum kv__reach kv__reach_of(const struct kv_call *call, struct buffer *answer)
{
    const struct kv_command *command = &call->entry->command;
    if (command->opcode == KV_OPCODE_ANSWER) {
        if (answer != NULL) {
            buffer_append(answer, call->arguments[0]);
        }
        return KV__REACH_NONE;
    }
    if (command->keys.first == 0) {
        return KV__REACH_ALL;
    }
    struct buffer refusal = {0};
    const struct reply reply = {.target = &refusal, .protocol = 2};
    bool is_refused = kv_command_refuses(command, call->arguments, call->argument_count, &reply);
    buffer_deinit(&refusal);
    if (!is_refused && !kv__keys_visit(call, stop_at_key, NULL)) {
        return KV__REACH_KEYS;
    }
    if (answer != NULL) {
        answer_alone(call, answer);
    }
    return KV__REACH_NONE;
}

bool kv__part_names_keys(const struct kv_call *call, const struct kv__part *part)
{
    struct kv__part_cursor queued = queued_of(call, part->watch_count);
    struct kv_call inner;
    while (queued_next(&queued, call, &inner) == 0) {
        const struct kv_command *command = &inner.entry->command;
        if (command->keys.first == 0 && command->opcode != KV_OPCODE_ANSWER) {
            return false;
        }
    }
    return true;
}

static int part_prefetch(struct kv_call *call, const struct kv__part *part,
                         uint64_t load_size_bytes_max)
{
    bool is_incomplete = false;
    for (uint32_t i = 0; i < part->watch_count; i++) {
        struct kv_key key;
        struct bytes row;
        kv__key_init(&key, call->arguments[1 + 2 * (size_t)i]);
        is_incomplete |= rows_get_head(call->rows, key.row, &row) == ERROR_INCOMPLETE;
    }
    struct kv__part_cursor queued = queued_of(call, part->watch_count);
    struct kv_call inner;
    while (*call->load_size_bytes <= load_size_bytes_max &&
           queued_next(&queued, call, &inner) == 0) {
        if (kv_command_arity_fits(&inner.entry->command, (uint64_t)inner.argument_count + 1)) {
            is_incomplete |= kv__prefetch(&inner) == ERROR_INCOMPLETE;
        }
    }
    return is_incomplete ? ERROR_INCOMPLETE : 0;
}

int kv__part_prefetch(struct kv_call *call, const struct kv__part *part)
{
    return part_prefetch(call, part, UINT64_MAX);
}

int kv__execute_transaction(struct kv_call *call)
{
    struct kv__part part;
    if (!kv__part_parse(call, &part)) {
        reply_error(call->reply, "ERR malformed transaction");
        return 0;
    }
    bool are_equal;
    int status = kv__part_compare(call, &part, &are_equal);
    if (status != 0) {
        return status;
    }
    if (!are_equal) {
        PROBE("kv.watch_failed");
        reply_null_array(call->reply);
        return 0;
    }
    reply_array(call->reply, part.command_count);
    return kv__part_run(call, &part);
}

int kv__prefetch_transaction(struct kv_call *call)
{
    struct kv__part part = {0};
    if (!parse_watches(call, &part.watch_count)) {
        return 0;
    }
    /* What is beyond that is not executed, and need not be read. */
    return part_prefetch(call, &part, call->kv->load_size_bytes_max);
}

uint16_t kv_answer_opcode(void)
{
    return KV_OPCODE_ANSWER;
}

int kv__execute_answer(struct kv_call *call)
{
    buffer_append(call->reply->target, call->arguments[0]);
    return 0;
}

int kv__execute_versions(struct kv_call *call)
{
    for (uint32_t i = 0; i < call->argument_count; i++) {
        struct kv_key key;
        struct kv_value value;
        kv__key_init(&key, call->arguments[i]);
        int status = kv__key_lookup_head(call, &key, &value);
        if (status != 0) {
            return status;
        }
        endian_put_u64_le(buffer_extend(call->reply->target, 8),
                          value.type == KV_TYPE_NONE ? 0 : value.version);
    }
    return 0;
}
