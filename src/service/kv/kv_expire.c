/* SPDX-License-Identifier: Apache-2.0 */
/* When keys expire: the commands that say so, and the sweep that removes what nobody asks for.
 *
 * A key that has expired is removed in one of two ways, both through the log: by a command that
 * meets it, or by a sweep of its slot. Which slots have something due is a hint in memory: for each
 * slot the time of its first expiry row or an earlier one. It is lowered whenever an expiry row is
 * written, set exactly by each sweep, and rebuilt at load. A hint that is too low costs one sweep
 * that finds nothing; none is ever too high. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "service/kv/kv_lock.h"

enum {
    /* Of one command: they bound how long applying it takes. */
    SWEEP_KEY_COUNT_MAX = 500,
    SWEEP_RETRY_MS = 1000, /* Before the same slot is asked for again. */
};

uint64_t kv__stamp_ms(const struct kv_call *call)
{
    if (BUG("kv.expire_uses_no_stamp")) {
        /* As if a clock were read: what the machine has done since it was started. */
        return call->time_ms + call->kv->read_count % 1000;
    }
    return call->time_ms;
}

static int lookup(struct kv_call *call, struct kv_key *key, struct kv_value *value)
{
    kv__key_init(key, call->arguments[0]);
    return kv__key_lookup(call, key, value);
}

/* ---- EXPIRE and its kin ---------------------------------------------------------------------- */

struct expire_options {
    bool is_only_without; /* NX */
    bool is_only_with;    /* XX */
    bool is_only_later;   /* GT */
    bool is_only_sooner;  /* LT */
};

static bool parse_expire_options(struct kv_call *call, struct expire_options *options)
{
    for (uint32_t i = 2; i < call->argument_count; i++) {
        struct bytes word = call->arguments[i];
        if (kv__is_word(word, "nx")) {
            options->is_only_without = true;
        } else if (kv__is_word(word, "xx")) {
            options->is_only_with = true;
        } else if (kv__is_word(word, "gt")) {
            options->is_only_later = true;
        } else if (kv__is_word(word, "lt")) {
            options->is_only_sooner = true;
        } else {
            int size = word.size_bytes > 128 ? 128 : (int)word.size_bytes;
            reply_error(call->reply, "ERR Unsupported option %.*s", size, (const char *)word.data);
            return false;
        }
    }
    if (options->is_only_without &&
        (options->is_only_with || options->is_only_later || options->is_only_sooner)) {
        reply_error(call->reply,
                    "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if (options->is_only_later && options->is_only_sooner) {
        reply_error(call->reply, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

/* The time that the client means; it may be in the past, even before 1970. */
static bool parse_time(struct kv_call *call, struct kv__expiry_unit unit, int64_t *expire_ms)
{
    int64_t time;
    if (!kv__parse_integer(call, call->arguments[1], &time)) {
        return false;
    }
    int64_t base = unit.is_relative ? (int64_t)kv__stamp_ms(call) : 0;
    if ((unit.is_seconds && __builtin_mul_overflow(time, 1000, &time)) ||
        __builtin_add_overflow(time, base, expire_ms)) {
        reply_error(call->reply, "ERR invalid expire time in '%s' command",
                    call->entry->command.name);
        return false;
    }
    return true;
}

/* A key that never expires counts as the latest for GT and LT. */
static bool options_allow(const struct expire_options *options, uint64_t before_ms,
                          int64_t after_ms)
{
    bool does_expire = before_ms != 0;
    if ((options->is_only_without && does_expire) || (options->is_only_with && !does_expire)) {
        return false;
    }
    if (options->is_only_later && (!does_expire || after_ms <= (int64_t)before_ms)) {
        return false;
    }
    return !(options->is_only_sooner && does_expire && after_ms >= (int64_t)before_ms);
}

static int expire(struct kv_call *call, struct kv__expiry_unit unit)
{
    struct expire_options options = {0};
    int64_t expire_ms;
    if (!parse_expire_options(call, &options) || !parse_time(call, unit, &expire_ms)) {
        return 0;
    }
    struct kv_key key;
    struct kv_value before;
    int status = lookup(call, &key, &before);
    if (status != 0) {
        return status;
    }
    if (before.type == KV_TYPE_NONE || !options_allow(&options, before.expire_ms, expire_ms)) {
        reply_integer(call->reply, 0);
        return 0;
    }
    struct kv_value after = before;
    if (expire_ms <= (int64_t)call->time_ms) {
        after.type = KV_TYPE_NONE;
    } else {
        after.expire_ms = (uint64_t)expire_ms;
    }
    kv__key_write(call, &key, &before, &after);
    reply_integer(call->reply, 1);
    return 0;
}

int kv__command_expire(struct kv_call *call)
{
    return expire(call, (struct kv__expiry_unit){.is_seconds = true, .is_relative = true});
}

int kv__command_pexpire(struct kv_call *call)
{
    return expire(call, (struct kv__expiry_unit){.is_relative = true});
}

int kv__command_expireat(struct kv_call *call)
{
    return expire(call, (struct kv__expiry_unit){.is_seconds = true});
}

int kv__command_pexpireat(struct kv_call *call)
{
    return expire(call, (struct kv__expiry_unit){0});
}

int kv__command_persist(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value before;
    int status = lookup(call, &key, &before);
    if (status != 0) {
        return status;
    }
    if (before.expire_ms != 0) {
        struct kv_value after = before;
        after.expire_ms = 0;
        kv__key_write(call, &key, &before, &after);
    }
    reply_integer(call->reply, before.expire_ms != 0);
    return 0;
}

static int answer_time(struct kv_call *call, struct kv__expiry_unit unit)
{
    struct kv_key key;
    struct kv_value value;
    kv__key_init(&key, call->arguments[0]);
    int status = kv__key_lookup_head(call, &key, &value);
    if (status != 0) {
        return status;
    }
    if (value.type == KV_TYPE_NONE || value.expire_ms == 0) {
        reply_integer(call->reply, value.type == KV_TYPE_NONE ? -2 : -1);
        return 0;
    }
    int64_t time_ms = (int64_t)value.expire_ms - (unit.is_relative ? (int64_t)call->time_ms : 0);
    reply_integer(call->reply,
                  unit.is_seconds ? (int64_t)(((uint64_t)time_ms + 500) / 1000) : time_ms);
    return 0;
}

int kv__command_ttl(struct kv_call *call)
{
    return answer_time(call, (struct kv__expiry_unit){.is_seconds = true, .is_relative = true});
}

int kv__command_pttl(struct kv_call *call)
{
    return answer_time(call, (struct kv__expiry_unit){.is_relative = true});
}

int kv__command_expiretime(struct kv_call *call)
{
    return answer_time(call, (struct kv__expiry_unit){.is_seconds = true});
}

int kv__command_pexpiretime(struct kv_call *call)
{
    return answer_time(call, (struct kv__expiry_unit){0});
}

/* ---- Hints ----------------------------------------------------------------------------------- */

static void group_update(struct kv__due *due, uint32_t group)
{
    uint64_t least = UINT64_MAX;
    const uint64_t *hints = due->slots_ms[group];
    for (uint32_t i = 0; hints != NULL && i < KV_HINT_GROUP_SLOT_COUNT; i++) {
        least = hints[i] < least ? hints[i] : least;
    }
    due->group_ms[group] = least;
}

uint64_t kv__sweep_hint_of(const struct kv *kv, uint32_t slot)
{
    const uint64_t *hints =
        kv->due != NULL ? kv->due->slots_ms[slot / KV_HINT_GROUP_SLOT_COUNT] : NULL;
    return hints != NULL ? hints[slot % KV_HINT_GROUP_SLOT_COUNT] : UINT64_MAX;
}

/* The hint of a slot, for changing. */
static uint64_t *hint_at(struct kv *kv, uint32_t slot)
{
    uint32_t group = slot / KV_HINT_GROUP_SLOT_COUNT;
    if (kv->due == NULL) {
        kv->due = memory_allocate_zeroed(1, sizeof *kv->due);
        memset(kv->due->group_ms, 0xff, sizeof kv->due->group_ms);
    }
    uint64_t **hints = &kv->due->slots_ms[group];
    if (*hints == NULL) {
        *hints = memory_allocate(KV_HINT_GROUP_SLOT_COUNT * sizeof(uint64_t));
        memset(*hints, 0xff, KV_HINT_GROUP_SLOT_COUNT * sizeof(uint64_t));
    }
    return &(*hints)[slot % KV_HINT_GROUP_SLOT_COUNT];
}

static void hint_set(struct kv *kv, uint16_t slot, uint64_t expire_ms)
{
    if (kv__sweep_hint_of(kv, slot) != expire_ms) {
        *hint_at(kv, slot) = expire_ms;
        group_update(kv->due, slot / KV_HINT_GROUP_SLOT_COUNT);
    }
}

void kv__sweep_hint(struct kv *kv, uint16_t slot, uint64_t expire_ms)
{
    if (expire_ms < kv__sweep_hint_of(kv, slot)) {
        *hint_at(kv, slot) = expire_ms;
        uint64_t *group_ms = &kv->due->group_ms[slot / KV_HINT_GROUP_SLOT_COUNT];
        *group_ms = expire_ms < *group_ms ? expire_ms : *group_ms;
    }
}

void kv__sweep_hints_reset(struct kv *kv)
{
    for (uint32_t group = 0; kv->due != NULL && group < KV_HINT_GROUP_COUNT; group++) {
        memory_free(kv->due->slots_ms[group]);
    }
    memory_free(kv->due);
    kv->due = NULL;
}

void kv__sweep_hints_cut(struct kv *kv)
{
    for (uint32_t slot = kv->end_slot; slot < KV_SLOT_COUNT; slot++) {
        hint_set(kv, (uint16_t)slot, UINT64_MAX);
    }
}

/* At each turn the iterator is sent to the expiry rows of a slot; where it lands tells which slot
 * is next, so empty slots cost nothing. */
int kv__sweep_hints_load(struct kv *kv, struct rows *rows, struct error *error)
{
    kv__sweep_hints_reset(kv);
    if (kv->expiring_key_count == 0) {
        return 0;
    }
    uint8_t bound[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t target[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_bounds(kv, target, bound);
    struct rows_iterator *iterator;
    int status = rows_iterator_open(rows, bytes_make(target, sizeof target),
                                    bytes_make(bound, sizeof bound), &iterator);
    if (status != 0) {
        return error_set(error, status, "look for keys that expire");
    }
    kv__row_prefix(target, kv->first_slot, KV_ROW_EXPIRY);
    for (;;) {
        status = rows_iterator_seek(iterator, bytes_make(target, sizeof target));
        struct kv_row_name name;
        if (status != 0 || !kv__row_parse(rows_iterator_key(iterator), &name)) {
            status = status == 0 ? ERROR_CORRUPT : status;
            break;
        }
        if (name.kind == KV_ROW_EXPIRY) {
            kv__sweep_hint(kv, name.slot, name.number);
        }
        kv__row_prefix(target, name.kind < KV_ROW_EXPIRY ? name.slot : name.slot + 1u,
                       KV_ROW_EXPIRY);
    }
    rows_iterator_close(iterator);
    return status == -ENOENT ? 0 : error_set(error, status, "look for keys that expire");
}

/* Add what is due in a group of slots to the arguments, as far as there is room. */
static void add_due_slots(struct kv__due *due, uint32_t group, uint64_t time_ms)
{
    uint64_t *hints = due->slots_ms[group];
    for (uint32_t i = 0;
         i < KV_HINT_GROUP_SLOT_COUNT && due->argument_count < KV_SWEEP_ARGUMENT_COUNT_MAX; i++) {
        if (hints[i] > time_ms) {
            continue;
        }
        /* The sweep sets it right; were it lost, the slot is asked for again later. */
        hints[i] = time_ms + SWEEP_RETRY_MS;
        uint8_t *number = due->numbers[due->argument_count];
        endian_put_u64_le(number, group * KV_HINT_GROUP_SLOT_COUNT + i);
        due->arguments[due->argument_count++] = bytes_make(number, 8);
    }
    group_update(due, group);
}

bool kv__sweep_background(struct kv *kv, uint64_t time_ms, struct shard_command *command,
                          uint64_t *delay_ms)
{
    struct kv__due *due = kv->due;
    uint64_t next_ms = UINT64_MAX;
    if (due == NULL) {
        return false;
    }
    endian_put_u64_le(due->numbers[0], SWEEP_KEY_COUNT_MAX);
    due->arguments[0] = bytes_make(due->numbers[0], 8);
    due->argument_count = 1;
    for (uint32_t group = 0;
         group < KV_HINT_GROUP_COUNT && due->argument_count < KV_SWEEP_ARGUMENT_COUNT_MAX;
         group++) {
        if (due->group_ms[group] <= time_ms) {
            add_due_slots(due, group, time_ms);
        } else if (due->group_ms[group] < next_ms) {
            next_ms = due->group_ms[group];
        }
    }
    if (due->argument_count > 1) {
        *command =
            (struct shard_command){KV_OPCODE_EXPIRE_SWEEP, due->argument_count, due->arguments};
        return true;
    }
    if (next_ms - time_ms < *delay_ms) {
        *delay_ms = next_ms - time_ms;
    }
    return false;
}

/* ---- The sweep ------------------------------------------------------------------------------- */

/* Collect the names of what is due, each with its size before it, and take their number off
 * `*count_left`. `*next_ms` is when the slot has something due again. */
static int collect_due(struct kv_call *call, uint16_t slot, uint64_t *count_left,
                       struct buffer *names, uint64_t *next_ms)
{
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_prefix(lower, slot, KV_ROW_EXPIRY);
    kv__row_prefix(upper, slot, KV_ROW_GARBAGE);
    *next_ms = UINT64_MAX;
    struct rows_iterator *iterator;
    int status = rows_iterator_open(call->rows, bytes_make(lower, sizeof lower),
                                    bytes_make(upper, sizeof upper), &iterator);
    if (status != 0) {
        return status;
    }
    status = rows_iterator_seek(iterator, bytes_make(lower, sizeof lower));
    while (status == 0) {
        struct kv_row_name name;
        if (!kv__row_parse(rows_iterator_key(iterator), &name)) {
            status = ERROR_CORRUPT;
            break;
        }
        if (name.number > call->time_ms || *count_left == 0) {
            *next_ms = name.number;
            break;
        }
        --*count_left;
        endian_put_u32_le(buffer_extend(names, 4), (uint32_t)name.name.size_bytes);
        buffer_append(names, name.name);
        status = rows_iterator_next(iterator);
    }
    rows_iterator_close(iterator);
    return status == -ENOENT ? 0 : status;
}

static int sweep_slot(struct kv_call *call, uint16_t slot, uint64_t *count_left)
{
    struct buffer *names = &call->kv->work;
    buffer_clear(names);
    uint64_t next_ms;
    int status = collect_due(call, slot, count_left, names, &next_ms);
    for (size_t offset = 0; status == 0 && offset < names->size_bytes;) {
        uint32_t size = endian_get_u32_le(names->data + offset);
        struct kv_key key;
        struct kv_value value;
        kv__key_init(&key, bytes_make(names->data + offset + 4, size));
        offset += 4 + size;
        if (kv__key_set_has(&call->kv->locks, kv__key_hash(key.name))) {
            PROBE("kv.expired_but_locked");
            uint64_t retry_ms = call->time_ms + SWEEP_RETRY_MS;
            next_ms = next_ms < retry_ms ? next_ms : retry_ms;
            continue; /* I6 */
        }
        status = kv__key_lookup_head(call, &key, &value); /* Removes it. */
    }
    if (status == 0) {
        hint_set(call->kv, slot, next_ms);
    }
    return status;
}

/* Arguments: how many keys at most, then slots. Removes what of them has expired. A slot that is
 * not reached keeps its due time, and is asked for again. */
int kv__execute_sweep(struct kv_call *call)
{
    uint64_t count_max;
    uint64_t slot;
    bool is_well_formed = kv__argument_u64(call->arguments[0], &count_max);
    for (uint32_t i = 1; i < call->argument_count; i++) {
        is_well_formed =
            is_well_formed && kv__argument_u64(call->arguments[i], &slot) && slot < KV_SLOT_COUNT;
    }
    if (!is_well_formed) {
        return ERROR_CORRUPT; /* Only background() makes this command. */
    }
    uint64_t count_left = count_max;
    for (uint32_t i = 1; i < call->argument_count; i++) {
        int status = kv__argument_u64(call->arguments[i], &slot)
                         ? sweep_slot(call, (uint16_t)slot, &count_left)
                         : ERROR_CORRUPT;
        if (status != 0) {
            return status;
        }
    }
    reply_integer(call->reply, (int64_t)(count_max - count_left));
    return 0;
}
