/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes: the commands that work on named fields. Those that walk are in kv_hash_walk.c.
 *
 * A change of a hash writes the key row once, with the new count and the version of the command,
 * and the rows of the fields that it names; nothing else is read or written, whatever the hash's
 * size. */
#include <math.h>

#include "base/number/number.h"
#include "service/kv/kv_field.h"
#include "service/kv/kv_hash.h"

/* Are the fields among the arguments from `first` on short enough? Else the error is answered. */
static bool are_fields_short(struct kv_call *call, uint32_t first, uint32_t step)
{
    for (uint32_t i = first; i < call->argument_count; i += step) {
        if (call->arguments[i].size_bytes > KV_KEY_SIZE_BYTES_MAX) {
            reply_error(call->reply, "ERR field is longer than %d bytes", KV_KEY_SIZE_BYTES_MAX);
            return false;
        }
    }
    return true;
}

/* The value of a field. -ENOENT when the hash, which may be none, has no such field. */
static int get_field(struct kv_call *call, const struct kv_key *key, const struct kv_value *hash,
                     struct bytes name, struct bytes *value)
{
    if (hash->type == KV_TYPE_NONE || name.size_bytes > KV_KEY_SIZE_BYTES_MAX) {
        return -ENOENT;
    }
    struct kv__field field;
    kv__field_init(&field, key->slot, hash->generation, name);
    return rows_get(call->rows, field.row, value);
}

/* 0, -ENOENT, or another status of rows. */
static int find_field(struct kv_call *call, const struct kv_key *key, const struct kv_value *hash,
                      struct bytes name)
{
    if (hash->type == KV_TYPE_NONE || name.size_bytes > KV_KEY_SIZE_BYTES_MAX) {
        return -ENOENT;
    }
    struct kv__field field;
    struct bytes head;
    kv__field_init(&field, key->slot, hash->generation, name);
    return rows_get_head(call->rows, field.row, &head);
}

/* ---- Changing -------------------------------------------------------------------------------- */

/* The hash as it will be: `before`, or a new one without fields. */
static struct kv_value prepare(struct kv_call *call, const struct kv_value *before)
{
    struct kv_value after = *before;
    if (before->type == KV_TYPE_NONE) {
        after = (struct kv_value){.type = KV_TYPE_HASH, .generation = kv__generation_next(call)};
    }
    return after;
}

/* Put a field; `hash` counts it when it is new. */
static int put_field(struct kv_call *call, const struct kv_key *key, struct kv_value *hash,
                     struct bytes name, struct bytes value)
{
    struct kv__field field;
    kv__field_init(&field, key->slot, hash->generation, name);
    int status = -ENOENT;
    if (hash->count > 0) {
        struct bytes old;
        status = rows_get_head(call->rows, field.row, &old);
    }
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    hash->count += status == -ENOENT ? 1 : 0; /* I3 */
    rows_put(call->rows, field.row, value);
    return 0;
}

/* The field's value is new; `before` is the hash as it was. */
static int put_only_field(struct kv_call *call, const struct kv_key *key,
                          const struct kv_value *before, struct bytes name, struct bytes value)
{
    struct kv_value after = prepare(call, before);
    int status = put_field(call, key, &after, name, value);
    if (status == 0) {
        kv__key_write(call, key, before, &after);
    }
    return status;
}

/* HSET and HMSET. 1: an error is answered. */
static int set_fields(struct kv_call *call, uint64_t *added_count)
{
    if (call->argument_count % 2 != 1) {
        kv__reply_arity_error(call, call->entry->command.name);
        return 1;
    }
    struct kv_key key;
    struct kv_value before;
    int status = kv__typed_lookup(call, KV_TYPE_HASH, &key, &before);
    if (status != 0) {
        return status;
    }
    if (!are_fields_short(call, 1, 2)) {
        return 1;
    }
    struct kv_value after = prepare(call, &before);
    for (uint32_t i = 1; i < call->argument_count && status == 0; i += 2) {
        status = put_field(call, &key, &after, call->arguments[i], call->arguments[i + 1]);
    }
    if (status != 0) {
        return status;
    }
    *added_count = after.count - before.count;
    if (BUG("kv.hash_count_drift") && *added_count < (call->argument_count - 1) / 2) {
        after.count++;
    }
    kv__key_write(call, &key, &before, &after);
    return 0;
}

int kv__command_hset(struct kv_call *call)
{
    uint64_t added_count;
    int status = set_fields(call, &added_count);
    if (status != 0) {
        return kv__ended(status);
    }
    reply_integer(call->reply, (int64_t)added_count);
    return 0;
}

int kv__command_hmset(struct kv_call *call)
{
    uint64_t added_count;
    int status = set_fields(call, &added_count);
    if (status != 0) {
        return kv__ended(status);
    }
    reply_ok(call->reply);
    return 0;
}

/* Look up the hash and one of its fields, for a command that changes that field. 1: an error is
 * answered. */
static int lookup_field(struct kv_call *call, struct kv_key *key, struct kv_value *before,
                        struct bytes *value, bool *is_found)
{
    int status = kv__typed_lookup(call, KV_TYPE_HASH, key, before);
    if (status != 0) {
        return status;
    }
    if (!are_fields_short(call, 1, call->argument_count)) {
        return 1;
    }
    status = get_field(call, key, before, call->arguments[1], value);
    *is_found = status == 0;
    return status == -ENOENT ? 0 : status;
}

int kv__command_hsetnx(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value before;
    int status = kv__typed_lookup(call, KV_TYPE_HASH, &key, &before);
    if (status != 0 || !are_fields_short(call, 1, call->argument_count)) {
        return kv__ended(status);
    }
    status = find_field(call, &key, &before, call->arguments[1]);
    bool is_found = status == 0;
    if (status == -ENOENT) {
        status = put_only_field(call, &key, &before, call->arguments[1], call->arguments[2]);
    }
    if (status == 0) {
        reply_integer(call->reply, is_found ? 0 : 1);
    }
    return status;
}

int kv__command_hincrby(struct kv_call *call)
{
    int64_t increment;
    if (!kv__parse_integer(call, call->arguments[2], &increment)) {
        return 0;
    }
    struct kv_key key;
    struct kv_value before;
    struct bytes old;
    bool is_found;
    int status = lookup_field(call, &key, &before, &old, &is_found);
    if (status != 0) {
        return kv__ended(status);
    }
    int64_t number = 0;
    if (is_found && !number_parse_integer(old, &number)) {
        reply_error(call->reply, "ERR hash value is not an integer");
        return 0;
    }
    if (__builtin_add_overflow(number, increment, &number)) {
        reply_error(call->reply, "ERR increment or decrement would overflow");
        return 0;
    }
    char text[NUMBER_INTEGER_SIZE_MAX];
    struct bytes value = bytes_make(text, number_format_integer(text, number));
    status = put_only_field(call, &key, &before, call->arguments[1], value);
    if (status == 0) {
        reply_integer(call->reply, number);
    }
    return status;
}

int kv__command_hincrbyfloat(struct kv_call *call)
{
    long double increment;
    if (!number_parse_long_double(call->arguments[2], &increment)) {
        reply_error(call->reply, "ERR value is not a valid float");
        return 0;
    }
    if (isinf(increment)) {
        reply_error(call->reply, "ERR value is NaN or Infinity");
        return 0;
    }
    struct kv_key key;
    struct kv_value before;
    struct bytes old;
    bool is_found;
    int status = lookup_field(call, &key, &before, &old, &is_found);
    if (status != 0) {
        return kv__ended(status);
    }
    const char *value_error = "ERR hash value is not a float";
    if (is_found && old.size_bytes == 0) {
        reply_error(call->reply, "%s", value_error);
        return 0;
    }
    old = is_found ? old : BYTES("0");
    char text[NUMBER_DOUBLE_SIZE_MAX];
    size_t text_size_bytes;
    if (!kv__add_float(call, old, call->arguments[2], text, &text_size_bytes, value_error)) {
        return 0;
    }
    struct bytes value = bytes_make(text, text_size_bytes);
    status = put_only_field(call, &key, &before, call->arguments[1], value);
    if (status == 0) {
        reply_bulk(call->reply, value);
    }
    return status;
}

int kv__command_hdel(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value before;
    int status = kv__typed_lookup(call, KV_TYPE_HASH, &key, &before);
    if (status != 0) {
        return kv__ended(status);
    }
    uint64_t deleted_count = 0;
    struct kv_value after = before;
    for (uint32_t i = 1; i < call->argument_count && after.count > 0; i++) {
        status = find_field(call, &key, &before, call->arguments[i]);
        if (status == 0) {
            struct kv__field field;
            kv__field_init(&field, key.slot, before.generation, call->arguments[i]);
            rows_delete(call->rows, field.row);
            after.count--; /* I3 */
            deleted_count++;
        } else if (status != -ENOENT) {
            return status;
        }
    }
    if (deleted_count > 0 && after.count > 0) {
        kv__key_write(call, &key, &before, &after);
    } else if (deleted_count > 0) {
        before.count = 0; /* No field is left to be discarded. */
        kv__key_delete(call, &key, &before);
    }
    reply_integer(call->reply, (int64_t)deleted_count);
    return 0;
}

/* ---- Reading --------------------------------------------------------------------------------- */

int kv__command_hget(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value hash;
    int status = kv__typed_lookup(call, KV_TYPE_HASH, &key, &hash);
    if (status != 0) {
        return kv__ended(status);
    }
    struct bytes value;
    status = get_field(call, &key, &hash, call->arguments[1], &value);
    if (status == 0) {
        reply_bulk(call->reply, value);
    } else if (status == -ENOENT) {
        reply_null(call->reply);
        status = 0;
    }
    return status;
}

int kv__command_hmget(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value hash;
    int status = kv__typed_lookup(call, KV_TYPE_HASH, &key, &hash);
    if (status != 0) {
        return kv__ended(status);
    }
    reply_array(call->reply, call->argument_count - 1);
    for (uint32_t i = 1; i < call->argument_count; i++) {
        struct bytes value;
        status = get_field(call, &key, &hash, call->arguments[i], &value);
        if (status == 0) {
            reply_bulk(call->reply, value);
        } else if (status == -ENOENT) {
            reply_null(call->reply);
        } else {
            return status;
        }
    }
    return 0;
}

int kv__command_hlen(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value hash;
    int status = kv__typed_lookup(call, KV_TYPE_HASH, &key, &hash);
    if (status != 0) {
        return kv__ended(status);
    }
    reply_integer(call->reply, (int64_t)hash.count);
    return 0;
}

/* HEXISTS and HSTRLEN: a number about one field, 0 when there is none. */
static int answer_field_number(struct kv_call *call, bool wants_size)
{
    struct kv_key key;
    struct kv_value hash;
    int status = kv__typed_lookup(call, KV_TYPE_HASH, &key, &hash);
    if (status != 0) {
        return kv__ended(status);
    }
    struct bytes value = {0};
    status = get_field(call, &key, &hash, call->arguments[1], &value);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    int64_t is_found = status == 0 ? 1 : 0;
    reply_integer(call->reply, wants_size ? (int64_t)value.size_bytes : is_found);
    return 0;
}

int kv__command_hexists(struct kv_call *call)
{
    return answer_field_number(call, false);
}

int kv__command_hstrlen(struct kv_call *call)
{
    return answer_field_number(call, true);
}

/* ---- Before executing ------------------------------------------------------------------------ */

/* The fields that are named from the second argument on, each followed by step - 1 other
 * arguments. */
static int prefetch_fields(struct kv_call *call, uint32_t end, uint32_t step)
{
    if (call->arguments[0].size_bytes > KV_KEY_SIZE_BYTES_MAX) {
        return 0;
    }
    struct kv_key key;
    kv__key_init(&key, call->arguments[0]);
    struct bytes row;
    struct kv_value hash;
    int status = rows_get(call->rows, key.row, &row);
    if (status == 0) {
        status = kv__value_decode(row, &hash);
    }
    if (status != 0 || hash.type != KV_TYPE_HASH) {
        return status == -ENOENT ? 0 : status;
    }
    bool is_incomplete = false;
    for (uint32_t i = 1; i < end; i += step) {
        status = find_field(call, &key, &hash, call->arguments[i]);
        is_incomplete = is_incomplete || status == ERROR_INCOMPLETE;
    }
    return is_incomplete ? ERROR_INCOMPLETE : 0;
}

int kv__prefetch_field_pairs(struct kv_call *call)
{
    return prefetch_fields(call, call->argument_count, 2);
}

int kv__prefetch_field(struct kv_call *call)
{
    return prefetch_fields(call, 2, 1);
}

int kv__prefetch_fields(struct kv_call *call)
{
    return prefetch_fields(call, call->argument_count, 1);
}
