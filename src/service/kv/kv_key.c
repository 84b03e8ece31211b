/* SPDX-License-Identifier: Apache-2.0 */
/* Commands for keys of any type. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/number/number.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_field.h"
#include "service/kv/kv_participant.h"

static int lookup(struct kv_call *call, struct kv_key *key, struct bytes name,
                  struct kv_value *value)
{
    kv__key_init(key, name);
    return kv__key_lookup(call, key, value);
}

static int lookup_head(struct kv_call *call, struct kv_key *key, struct bytes name,
                       struct kv_value *value)
{
    kv__key_init(key, name);
    return kv__key_lookup_head(call, key, value);
}

int kv__prefetch_discard(struct kv_call *call)
{
    bool is_incomplete = false;
    for (uint32_t i = 0; i < call->argument_count; i++) {
        if (call->arguments[i].size_bytes <= KV_KEY_SIZE_BYTES_MAX) {
            struct kv_key key;
            kv__key_init(&key, call->arguments[i]);
            is_incomplete |= kv__discard_prefetch(call, &key) == ERROR_INCOMPLETE;
        }
    }
    return is_incomplete ? ERROR_INCOMPLETE : 0;
}

int kv__command_del(struct kv_call *call)
{
    int64_t count = 0;
    for (uint32_t i = 0; i < call->argument_count; i++) {
        struct kv_key key;
        struct kv_value value;
        int status = lookup_head(call, &key, call->arguments[i], &value);
        if (status != 0) {
            return status;
        }
        count += value.type != KV_TYPE_NONE;
        kv__key_delete(call, &key, &value);
    }
    reply_integer(call->reply, count);
    return 0;
}

/* EXISTS and TOUCH: a key that is named twice counts twice. */
int kv__command_exists(struct kv_call *call)
{
    int64_t count = 0;
    for (uint32_t i = 0; i < call->argument_count; i++) {
        struct kv_key key;
        struct kv_value value;
        int status = lookup_head(call, &key, call->arguments[i], &value);
        if (status != 0) {
            return status;
        }
        count += value.type != KV_TYPE_NONE;
    }
    reply_integer(call->reply, count);
    return 0;
}

const char *kv__type_name(enum kv_type type)
{
    switch (type) {
    case KV_TYPE_NONE:
        return "none";
    case KV_TYPE_STRING:
        return "string";
    case KV_TYPE_HASH:
        return "hash";
    }
    return "none";
}

int kv__command_type(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value value;
    int status = lookup_head(call, &key, call->arguments[0], &value);
    if (status != 0) {
        return status;
    }
    reply_status(call->reply, kv__type_name(value.type));
    return 0;
}

/* ---- RENAME and COPY ------------------------------------------------------------------------- */

/* Append the field rows of a generation to `rows`: sizes (4 bytes each), field, value. */
static int collect_fields(struct kv_call *call, uint16_t slot, uint64_t generation,
                          struct buffer *fields)
{
    struct rows_iterator *iterator;
    int status = kv__fields_open(call->rows, slot, generation, &iterator);
    if (status != 0) {
        return status;
    }
    status = kv__fields_seek(iterator, slot, generation, 0);
    while (status == 0) {
        struct bytes row = rows_iterator_key(iterator);
        struct bytes value = rows_iterator_value(iterator);
        endian_put_u32_le(buffer_extend(fields, 4), (uint32_t)row.size_bytes);
        endian_put_u32_le(buffer_extend(fields, 4), (uint32_t)value.size_bytes);
        buffer_append(fields, row);
        buffer_append(fields, value);
        status = rows_iterator_next(iterator);
    }
    rows_iterator_close(iterator);
    return status == -ENOENT ? 0 : status;
}

int kv__fields_copy(struct kv_call *call, const struct kv__fields_copy *copy)
{
    struct buffer *fields = &call->kv->work;
    buffer_clear(fields);
    int status = collect_fields(call, copy->source_slot, copy->source_generation, fields);
    if (status != 0) {
        return status;
    }
    for (size_t offset = 0; offset < fields->size_bytes;) {
        uint32_t row_size = endian_get_u32_le(fields->data + offset);
        uint32_t value_size = endian_get_u32_le(fields->data + offset + 4);
        uint8_t *row = fields->data + offset + 8;
        /* The copy's row differs only in slot and generation. */
        kv__row_prefix(row, copy->target_slot, KV_ROW_FIELD);
        endian_put_u64_be(row + KV_ROW_PREFIX_SIZE_BYTES, copy->target_generation);
        rows_put(call->rows, bytes_make(row, row_size), bytes_make(row + row_size, value_size));
        offset += 8 + (size_t)row_size + value_size;
    }
    return 0;
}

/* RENAME and COPY of a hash read its fields, unless they stay in their slot under another name. */
static int prefetch_source(struct kv_call *call, bool may_stay)
{
    struct kv_key source;
    struct kv_value value;
    struct bytes row;
    kv__key_init(&source, call->arguments[0]);
    int status = rows_get(call->rows, source.row, &row);
    if (status == 0) {
        status = kv__value_decode(row, &value);
    }
    if (status != 0 || value.type != KV_TYPE_HASH ||
        (may_stay && kv_slot_of_key(call->arguments[1]) == source.slot)) {
        return status;
    }
    struct rows_iterator *iterator;
    status = kv__fields_open(call->rows, source.slot, value.generation, &iterator);
    if (status != 0) {
        return status;
    }
    status = kv__fields_seek(iterator, source.slot, value.generation, 0);
    while (status == 0) {
        kv__note_load(call, rows_iterator_key(iterator).size_bytes +
                                rows_iterator_value(iterator).size_bytes);
        status = rows_iterator_next(iterator);
    }
    rows_iterator_close(iterator);
    return status;
}

static int prefetch_pair(struct kv_call *call, bool may_stay)
{
    if (call->arguments[0].size_bytes > KV_KEY_SIZE_BYTES_MAX ||
        call->arguments[1].size_bytes > KV_KEY_SIZE_BYTES_MAX) {
        return 0;
    }
    struct kv_key target;
    kv__key_init(&target, call->arguments[1]);
    bool is_incomplete = prefetch_source(call, may_stay) == ERROR_INCOMPLETE;
    is_incomplete |= kv__discard_prefetch(call, &target) == ERROR_INCOMPLETE;
    return is_incomplete ? ERROR_INCOMPLETE : 0;
}

int kv__prefetch_rename(struct kv_call *call)
{
    return prefetch_pair(call, true);
}

int kv__prefetch_copy(struct kv_call *call)
{
    return prefetch_pair(call, false);
}

/* Give `target` what `source` has. A string is copied into the command's scratch, because writing
 * other rows ends what the rows lent. */
static int write_copy(struct kv_call *call, const struct kv_key *source,
                      const struct kv_key *target, const struct kv_value *before,
                      struct kv_value *value)
{
    if (value->type == KV_TYPE_HASH) {
        struct kv__fields_copy copy = {
            .source_slot = source->slot,
            .source_generation = value->generation,
            .target_slot = target->slot,
            .target_generation = kv__generation_next(call),
        };
        int status = kv__fields_copy(call, &copy);
        if (status != 0) {
            return status;
        }
        value->generation = copy.target_generation;
    }
    kv__key_write(call, target, before, value);
    return 0;
}

/* Look up both keys; the source's string moves to the scratch buffer first. */
static int lookup_pair(struct kv_call *call, struct kv_key *source, struct kv_value *value,
                       struct kv_key *target, struct kv_value *before)
{
    int status = lookup(call, source, call->arguments[0], value);
    if (status != 0) {
        return status;
    }
    if (value->type == KV_TYPE_STRING) {
        struct buffer *work = &call->kv->work;
        buffer_clear(work);
        buffer_append(work, value->data);
        value->data = buffer_bytes(work);
    }
    return lookup(call, target, call->arguments[1], before);
}

static int rename_key(struct kv_call *call, bool is_only_new)
{
    struct kv_key source;
    struct kv_key target;
    struct kv_value value;
    struct kv_value before;
    int status = lookup_pair(call, &source, &value, &target, &before);
    if (status != 0) {
        return status;
    }
    if (value.type == KV_TYPE_NONE) {
        reply_error(call->reply, "ERR no such key");
        return 0;
    }
    bool is_same = bytes_equal(source.name, target.name);
    bool is_refused = is_only_new && before.type != KV_TYPE_NONE;
    if (!is_same && !is_refused) {
        struct kv_value after = value;
        if (BUG("kv.rename_loses_expiry")) {
            after.expire_ms = 0;
        }
        if (value.type == KV_TYPE_HASH && source.slot == target.slot) {
            /* The fields stay where they are, under another name. */
            kv__key_write(call, &target, &before, &after);
            value.type = KV_TYPE_STRING; /* Whose deletion leaves no garbage. */
        } else {
            status = write_copy(call, &source, &target, &before, &after);
            if (status != 0) {
                return status;
            }
        }
        kv__key_delete(call, &source, &value);
    }
    if (is_only_new) {
        reply_integer(call->reply, !is_same && !is_refused);
    } else {
        reply_ok(call->reply);
    }
    return 0;
}

int kv__command_rename(struct kv_call *call)
{
    return rename_key(call, false);
}

int kv__command_renamenx(struct kv_call *call)
{
    return rename_key(call, true);
}

bool kv__copy_options(struct kv_call *call, bool *does_replace)
{
    for (uint32_t i = 2; i < call->argument_count; i++) {
        int64_t database;
        if (kv__is_word(call->arguments[i], "replace")) {
            *does_replace = true;
        } else if (kv__is_word(call->arguments[i], "db") && i + 1 < call->argument_count) {
            if (!kv__parse_integer(call, call->arguments[++i], &database)) {
                return false;
            }
            if (database < INT32_MIN || database > INT32_MAX) {
                reply_error(call->reply, "ERR value is out of range, value must between %d and %d",
                            INT32_MIN, INT32_MAX);
                return false;
            }
            if (database != 0) {
                reply_error(call->reply, "ERR DB index is out of range");
                return false;
            }
        } else {
            kv__reply_syntax_error(call);
            return false;
        }
    }
    return true;
}

int kv__command_copy(struct kv_call *call)
{
    bool does_replace = false;
    if (!kv__copy_options(call, &does_replace)) {
        return 0;
    }
    if (bytes_equal(call->arguments[0], call->arguments[1])) {
        reply_error(call->reply, "ERR source and destination objects are the same");
        return 0;
    }
    struct kv_key source;
    struct kv_key target;
    struct kv_value value;
    struct kv_value before;
    int status = lookup_pair(call, &source, &value, &target, &before);
    if (status != 0) {
        return status;
    }
    bool is_copied = value.type != KV_TYPE_NONE && (before.type == KV_TYPE_NONE || does_replace);
    if (is_copied) {
        status = write_copy(call, &source, &target, &before, &value);
        if (status != 0) {
            return status;
        }
    }
    reply_integer(call->reply, is_copied);
    return 0;
}

/* ---- The whole keyspace ---------------------------------------------------------------------- */

int kv__command_dbsize(struct kv_call *call)
{
    reply_integer(call->reply, (int64_t)call->kv->key_count);
    return 0;
}

static int parse_flush_mode(struct kv_call *call)
{
    bool is_known = call->argument_count == 0 ||
                    (call->argument_count == 1 && (kv__is_word(call->arguments[0], "async") ||
                                                   kv__is_word(call->arguments[0], "sync")));
    if (!is_known) {
        kv__reply_syntax_error(call);
    }
    return is_known;
}

/* One range deletion, whatever there is; what is remembered of transactions stays. Generations go on where they were (I4). */
int kv__command_flushall(struct kv_call *call)
{
    if (!parse_flush_mode(call)) {
        return 0;
    }
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_bounds(call->kv, lower, upper);
    int status =
        kv__records_keep(call, bytes_make(lower, sizeof lower), bytes_make(upper, sizeof upper));
    if (status != 0) {
        return status;
    }
    kv__counts_flush(call->kv);
    kv__sweep_hints_reset(call->kv);
    kv__garbage_reset(call->kv);
    reply_ok(call->reply);
    return 0;
}
