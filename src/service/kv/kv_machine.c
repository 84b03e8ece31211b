/* SPDX-License-Identifier: Apache-2.0 */
/* The machine: what the shard calls, and the way of a command to its handler.
 * What it saves is in kv_census.c. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_field.h"
#include "service/kv/kv_participant.h"
#include "service/kv/kv_range.h"

/* Between two looks when nothing is due; the wall clock may jump. When something is applied, the shard
 * looks before. */
enum { BACKGROUND_DELAY_MS = 100, IDLE_DELAY_MS = 10000 };

struct kv *kv_create(void)
{
    return kv_create_range(0, KV_SLOT_COUNT);
}

struct kv *kv_create_range(uint32_t first_slot, uint32_t end_slot)
{
    struct kv *kv = memory_allocate_zeroed(1, sizeof *kv);
    kv__set_range(kv, first_slot, end_slot);
    kv->answer_size_bytes_max = SIZE_MAX / 2;
    kv->load_size_bytes_max = UINT64_MAX;
    return kv;
}

void kv_limit_answers(struct kv *kv, uint64_t size_bytes)
{
    kv->answer_size_bytes_max = size_bytes;
}

void kv_limit_load(struct kv *kv, uint64_t size_bytes)
{
    kv->load_size_bytes_max = size_bytes;
}

void kv_destroy(struct kv *kv)
{
    buffer_deinit(&kv->row);
    buffer_deinit(&kv->work);
    buffer_deinit(&kv->discards);
    kv__records_deinit(kv);
    kv__sweep_hints_reset(kv);
    kv__slot_set_clear(&kv->garbage_hints);
    memory_free(kv);
}

static int load(void *context, struct rows *rows, struct bytes saved, struct error *error)
{
    struct kv *kv = context;
    struct kv__saved state = {0}; /* Of a new shard, or one that has given up all that it had. */
    int status = saved.size_bytes > 0 ? kv__saved_decode(saved, &state) : 0;
    if (status == 0 && !kv__census_fits(&state.census, kv)) {
        status = ERROR_CORRUPT;
    }
    if (status != 0) {
        bool is_other = saved.data[0] == KV__SAVED_VERSION_OF_OTHER_ROWS;
        return is_other ? error_say(error, status,
                                    "state of kv: transactions over several shards as no release "
                                    "wrote them")
                        : error_set(error, status, "state of kv");
    }
    kv->key_count = state.counts.key_count;
    kv->expiring_key_count = state.counts.expiring_key_count;
    kv->generation_last = state.generation_last;
    kv->garbage_count = state.counts.garbage_count;
    kv->record_count = state.counts.record_count;
    kv->census = state.census;
    kv__garbage_hints_reset(kv);
    status = kv__records_load(kv, rows, error);
    return status == 0 ? kv__sweep_hints_load(kv, rows, error) : status;
}

static void save(void *context, struct buffer *saved)
{
    const struct kv__saved state = kv__saved_of(context);
    kv__saved_encode(&state, saved);
}

void kv_get_statistics(const struct kv *kv, struct kv_statistics *statistics)
{
    *statistics = (struct kv_statistics){
        .key_count = kv->key_count,
        .expiring_key_count = kv->expiring_key_count,
        .expired_key_count = kv->expired_key_count,
        .hit_count = __atomic_load_n(&kv->hit_count, __ATOMIC_RELAXED),
        .miss_count = __atomic_load_n(&kv->miss_count, __ATOMIC_RELAXED),
        .locked_key_count = kv->locks.count,
        .record_count = kv->record_count,
        .unfinished_count = kv->unfinished_count,
    };
}

/* ---- Commands -------------------------------------------------------------------------------- */

/* The positions of a command's keys among its arguments (without the name). */
struct key_positions {
    uint32_t first;
    uint32_t end;
    uint32_t step;
};

static struct key_positions key_positions_of(const struct kv_command *command,
                                             uint32_t argument_count)
{
    struct kv_key_range range = command->keys;
    if (range.first == 0) {
        return (struct key_positions){0, 0, 1};
    }
    int64_t last = range.last > 0 ? range.last : (int64_t)argument_count + 1 + range.last;
    last = last > argument_count ? argument_count : last;
    return (struct key_positions){(uint32_t)range.first - 1, last < 0 ? 0 : (uint32_t)last,
                                  (uint32_t)range.step};
}

bool kv__keys_visit(const struct kv_call *call, kv__key_visitor *visit, void *context)
{
    struct key_positions keys = key_positions_of(&call->entry->command, call->argument_count);
    for (uint32_t i = keys.first; i < keys.end; i += keys.step) {
        if (call->arguments[i].size_bytes <= KV_KEY_SIZE_BYTES_MAX &&
            !visit(context, call->arguments[i])) {
            return false;
        }
    }
    return true;
}

static void reply_arity_error(const struct reply *reply, const char *name)
{
    reply_error(reply, "ERR wrong number of arguments for '%s' command", name);
}

bool kv_command_refuses(const struct kv_command *command, const struct bytes *arguments,
                        uint32_t argument_count, const struct reply *reply)
{
    if (!kv_command_arity_fits(command, (uint64_t)argument_count + 1)) {
        reply_arity_error(reply, command->name);
        return true;
    }
    struct key_positions keys = key_positions_of(command, argument_count);
    for (uint32_t i = keys.first; i < keys.end; i += keys.step) {
        if (arguments[i].size_bytes > KV_KEY_SIZE_BYTES_MAX) {
            reply_error(reply, "ERR key is longer than %d bytes", KV_KEY_SIZE_BYTES_MAX);
            return true;
        }
    }
    if (keys.step == 2 && argument_count % 2 != 0) { /* MSET, MSETNX: pairs. */
        reply_arity_error(reply, command->name);
        return true;
    }
    return false;
}

/* Instead of an answer that was too large; what the command did stays done. In EXEC this is the answer of
 * one of its commands, and the others have theirs. */
static void answer_too_large(const struct kv_call *call, size_t start_bytes)
{
    PROBE("kv.answer_too_large");
    call->reply->target->size_bytes = start_bytes;
    call->reply->limit->is_exceeded = false;
    reply_error(call->reply, "ERR the answer of '%s' is larger than the limit of %llu bytes",
                call->entry->command.name, (unsigned long long)call->kv->answer_size_bytes_max);
}

int kv__dispatch(struct kv_call *call)
{
    const struct kv_command *command = &call->entry->command;
    if (kv_command_refuses(command, call->arguments, call->argument_count, call->reply)) {
        return 0;
    }
    size_t start_bytes = call->reply->target->size_bytes;
    int status = call->entry->execute(call);
    if (status == 0 && call->reply->limit != NULL && call->reply->limit->is_exceeded) {
        answer_too_large(call, start_bytes);
    }
    return status;
}

/* So much, behind what the buffer has. */
static struct reply_limit limit_of(const struct kv *kv, const struct reply *reply)
{
    return (struct reply_limit){.size_bytes_max =
                                    reply->target->size_bytes + kv->answer_size_bytes_max};
}

/* A scratch buffer that served a huge value must not stay huge. */
static void trim(struct buffer *buffer)
{
    if (buffer->capacity_bytes > KV_SCRATCH_KEEP_BYTES) {
        buffer_clear(buffer);
        buffer_trim(buffer, KV_SCRATCH_KEEP_BYTES);
    }
}

/* The leader has every command wait that would meet a lock. */
static bool meets_lock(const struct kv_call *call)
{
    if (call->kv->locks.count == 0 || kv__is_locked(call) == 0) {
        return false;
    }
    PROBE("kv.lock_met_in_log");
    reply_error(call->reply, "TRYAGAIN a transaction holds the key");
    return true;
}

static int execute(void *context, struct rows *rows, const struct shard_stamp *stamp,
                   const struct shard_command *command, const struct reply *reply)
{
    struct kv *kv = context;
    const struct kv__entry *entry = kv__entry_of_opcode(command->opcode);
    if (entry == NULL) {
        return ERROR_NEWER_FORMAT; /* Written by a version that has more commands. */
    }
    struct reply_limit limit = limit_of(kv, reply);
    const struct reply limited = {
        .target = reply->target, .protocol = reply->protocol, .limit = &limit};
    struct kv_call call = {
        .kv = kv,
        .rows = rows,
        .reply = &limited,
        .entry = entry,
        .arguments = command->arguments,
        .argument_count = command->argument_count,
        .is_execute = true,
        .time_ms = stamp->time_ms,
        .durable_time_ms = stamp->time_ms,
        .version = stamp->version,
    };
    if (kv__does_replace(entry)) {
        call.known = stamp->known;
        call.found = stamp->found;
    }
    if (meets_lock(&call)) {
        return 0;
    }
    int status = kv__dispatch(&call);
    ASSERT(status != ERROR_EXPIRED_SEEN);
    if (kv->discards.size_bytes > 0 && status == 0) {
        status = kv__discards_finish(&call);
    }
    trim(&kv->row);
    trim(&kv->work);
    trim(&kv->part);
    trim(&kv->discards);
    return status;
}

/* What is incomplete is read once more, and counts then. */
static void count_keys(const struct kv_call *call)
{
    struct kv *kv = call->kv;
    if ((call->entry->command.flags & KV_FLAG_INTERNAL) != 0) {
        return;
    }
    if (call->hit_count > 0) {
        __atomic_fetch_add(&kv->hit_count, call->hit_count, __ATOMIC_RELAXED);
    }
    if (call->miss_count > 0) {
        __atomic_fetch_add(&kv->miss_count, call->miss_count, __ATOMIC_RELAXED);
    }
}

static int read_command(void *context, struct rows *rows, const struct shard_moment *moment,
                        const struct shard_command *command, const struct reply *reply)
{
    const struct kv__entry *entry = kv__entry_of_opcode(command->opcode);
    ASSERT(entry != NULL && (entry->command.flags & KV_FLAG_READ) != 0);
    if (BUG("kv.expire_uses_no_stamp")) {
        ((struct kv *)context)->read_count++;
    }
    struct reply_limit limit = limit_of(context, reply);
    const struct reply limited = {
        .target = reply->target, .protocol = reply->protocol, .limit = &limit};
    struct kv_call call = {
        .kv = context,
        .rows = rows,
        .reply = &limited,
        .entry = entry,
        .arguments = command->arguments,
        .argument_count = command->argument_count,
        .time_ms = moment->time_ms,
        .durable_time_ms = moment->durable_time_ms,
    };
    if (!moment->may_be_stale && __atomic_load_n(&call.kv->has_ever_locked, __ATOMIC_RELAXED)) {
        int is_locked = kv__is_locked(&call);
        if (is_locked != 0) {
            return is_locked == 1 ? ERROR_LOCKED : is_locked;
        }
    }
    int status = kv__dispatch(&call);
    if (status == 0) {
        count_keys(&call);
    }
    return status;
}

/* Does the command leave alone what its keys had, but for type, version and expiry? */
static bool needs_no_values(const struct kv_call *call)
{
    kv__handler *handler = call->entry->execute;
    if (handler == kv__command_set) { /* With options, one of which may be GET: ask for all. */
        return call->argument_count == 2;
    }
    return handler == kv__command_setnx || handler == kv__command_setex ||
           handler == kv__command_psetex || handler == kv__command_mset ||
           handler == kv__command_msetnx || handler == kv__command_del;
}

int kv__prefetch(struct kv_call *call)
{
    bool is_head_enough = needs_no_values(call);
    /* The cache may let go of what was read before the next read. */
    bool is_read = (call->entry->command.flags & KV_FLAG_READ) != 0;
    struct key_positions keys = key_positions_of(&call->entry->command, call->argument_count);
    bool is_incomplete = false;
    /* Then to look for a key is to wait for memory. Of values heads may be all that is there. */
    bool is_all_there = is_head_enough && rows_is_complete(call->rows);
    for (uint32_t i = keys.first; i < keys.end && !is_all_there; i += keys.step) {
        if (call->arguments[i].size_bytes > KV_KEY_SIZE_BYTES_MAX) {
            continue;
        }
        struct kv_key key;
        kv__key_init(&key, call->arguments[i]);
        struct bytes row;
        int status = is_head_enough ? rows_get_head(call->rows, key.row, &row)
                                    : rows_get(call->rows, key.row, &row);
        is_incomplete |= status == ERROR_INCOMPLETE;
        if (status == 0 && !is_head_enough && !is_read) {
            kv__note_load(call, row.size_bytes);
        }
    }
    if (call->entry->prefetch != NULL) {
        is_incomplete |= call->entry->prefetch(call) == ERROR_INCOMPLETE;
    }
    /* Any other failure is met again, and reported, when the command is applied. */
    return is_incomplete ? ERROR_INCOMPLETE : 0;
}

static int prefetch(void *context, struct rows *rows, const struct shard_command *command,
                    uint64_t *load_size_bytes)
{
    struct kv_call call = {
        .kv = context,
        .rows = rows,
        .entry = kv__entry_of_opcode(command->opcode),
        .arguments = command->arguments,
        .argument_count = command->argument_count,
        .load_size_bytes = load_size_bytes,
    };
    if (call.entry == NULL ||
        !kv_command_arity_fits(&call.entry->command, (uint64_t)call.argument_count + 1)) {
        return 0; /* It says so when it is executed. */
    }
    return kv__prefetch(&call);
}

/* It is ANSWER with an error. What ends a transaction over several shards has to go. */
static const struct shard_command *instead(void *context, const struct shard_command *command,
                                           uint64_t load_size_bytes)
{
    static const char text[] = "-OOM command not allowed: the values that it changes need too much "
                               "memory at once (see --memory)\r\n";
    static const struct bytes refusal = {(const uint8_t *)text, sizeof text - 1};
    static const struct shard_command answer = {
        .opcode = KV_OPCODE_ANSWER, .argument_count = 1, .arguments = &refusal};
    const struct kv *kv = context;
    if (load_size_bytes <= kv->load_size_bytes_max) {
        return NULL;
    }
    const struct kv__entry *entry = kv__entry_of_opcode(command->opcode);
    bool is_internal = entry == NULL || (entry->command.flags & KV_FLAG_INTERNAL) != 0;
    return is_internal && command->opcode != KV_OPCODE_TRANSACTION ? NULL : &answer;
}

static uint64_t approach(void *context, const struct rows *rows,
                         const struct shard_command *command)
{
    (void)context;
    const struct kv__entry *entry = kv__entry_of_opcode(command->opcode);
    uint32_t position = entry == NULL ? 0 : (uint32_t)entry->command.keys.first;
    if (position == 0 || position > command->argument_count ||
        command->arguments[position - 1].size_bytes > KV_KEY_SIZE_BYTES_MAX) {
        return 0;
    }
    struct kv_key key;
    kv__key_init(&key, command->arguments[position - 1]);
    return rows_approach(rows, key.row);
}

static bool background(void *context, struct rows *rows, uint64_t time_ms,
                       struct shard_command *command, uint64_t *next_ms)
{
    struct kv *kv = context;
    /* Records become due as time goes on; what else there is says when it will be. */
    uint64_t delay_ms = kv->record_count > 0 ? BACKGROUND_DELAY_MS : IDLE_DELAY_MS;
    /* A split, for which all rows may have to be counted, takes turns with the rest. */
    bool is_turn = !kv->wish.was_last;
    bool does_forget_first = !kv->forgetting.was_last;
    /* The collection waits between its steps; the other two, which may have much to do, take turns. */
    bool has_work =
        (is_turn && kv__split_background(kv, rows, time_ms, command, &delay_ms)) ||
        kv__collect_background(kv, rows, time_ms, command, &delay_ms) ||
        (does_forget_first && kv__forget_background(kv, time_ms, command, &delay_ms)) ||
        kv__sweep_background(kv, time_ms, command, &delay_ms) ||
        (!does_forget_first && kv__forget_background(kv, time_ms, command, &delay_ms)) ||
        (!is_turn && kv__split_background(kv, rows, time_ms, command, &delay_ms));
    kv->wish.was_last = has_work && kv__is_step_to_split(command);
    if (!kv->wish.was_last) {
        kv->forgetting.was_last = has_work && command->opcode == KV_OPCODE_FORGET_OLD;
    }
    *next_ms += has_work ? 0 : delay_ms;
    return has_work;
}

struct shard_machine kv_machine(struct kv *kv)
{
    return (struct shard_machine){
        .context = kv,
        .load = load,
        .save = save,
        .execute = execute,
        .read = read_command,
        .prefetch = prefetch,
        .approach = approach,
        .background = background,
        .must_wait = kv__must_wait,
        .gathered = kv__gathered,
        .waits = kv__waits,
        .declines = kv__declines,
        .instead = instead,
        .set_range = kv__set_range,
        .split = kv__split,
        .slot_of = kv__slot_of,
    };
}

/* ---- Answers and arguments ------------------------------------------------------------------- */

void kv__reply_syntax_error(struct kv_call *call)
{
    reply_error(call->reply, "ERR syntax error");
}

void kv__reply_not_integer(struct kv_call *call)
{
    reply_error(call->reply, "ERR value is not an integer or out of range");
}

void kv__reply_arity_error(struct kv_call *call, const char *name)
{
    reply_arity_error(call->reply, name);
}

bool kv__parse_integer(struct kv_call *call, struct bytes text, int64_t *value)
{
    if (number_parse_integer(text, value)) {
        return true;
    }
    kv__reply_not_integer(call);
    return false;
}

bool kv__argument_u64(struct bytes argument, uint64_t *value)
{
    if (argument.size_bytes != 8) {
        return false;
    }
    *value = endian_get_u64_le(argument.data);
    return true;
}
