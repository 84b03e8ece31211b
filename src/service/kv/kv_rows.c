/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of kv: their names, the value of a key row, and the only places that change keys.
 *
 * Value of a key row; integers are little-endian:
 *
 *   offset  size  meaning
 *        0     1  type: 1 string, 2 hash
 *        1     1  flags: 1 = the key expires; others are zero
 *        2     8  version
 *       10     8  expire_ms, only with flag 1; above 0
 *   then, of a string:  its bytes
 *   then, of a hash:    8  count of fields, above 0
 *                       8  generation
 *
 * Value of a field row: the field's bytes. Expiry rows have empty values; that of a
 * garbage row is in kv_garbage.c, those of transactions are in kv_record.c. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/hash/hash.h"
#include "base/memory/memory.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_field.h"
#include "service/kv/kv_record.h"

enum {
    VALUE_HEADER_SIZE_BYTES = 10,
    VALUE_EXPIRY_SIZE_BYTES = 8,
    VALUE_HASH_SIZE_BYTES = 16,
    VALUE_FLAG_EXPIRES = 1,
};

/* Of SCAN's order; stored in rows, so it never changes. */
static const uint64_t hash_seed = 0;

uint16_t kv_slot_of_key(struct bytes key)
{
    const uint8_t *open = key.size_bytes == 0 ? NULL : memchr(key.data, '{', key.size_bytes);
    if (open != NULL) {
        const uint8_t *start = open + 1;
        size_t rest = key.size_bytes - (size_t)(start - key.data);
        const uint8_t *close = memchr(start, '}', rest);
        if (close != NULL && close > start) {
            key = bytes_make(start, (size_t)(close - start));
        }
    }
    return hash_crc16(key) % KV_SLOT_COUNT;
}

uint32_t kv__hash(struct bytes bytes)
{
    return (uint32_t)(hash_bytes(bytes, hash_seed) >> 32);
}

void kv__row_prefix(uint8_t *target, uint32_t slot, enum kv_row_kind kind)
{
    ASSERT(slot <= KV_SLOT_COUNT);
    target[0] = KV_SPACE;
    endian_put_u16_be(target + 1, (uint16_t)slot);
    target[3] = (uint8_t)kind;
}

void kv__row_bounds(const struct kv *kv, uint8_t *lower, uint8_t *upper)
{
    kv__row_prefix(lower, kv__first_slot(kv), KV_ROW_KEY);
    kv__row_prefix(upper, kv__end_slot(kv), KV_ROW_KEY);
}

struct bytes kv_slot_row(uint32_t slot, uint8_t *target)
{
    uint8_t prefix[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_prefix(prefix, slot, KV_ROW_KEY);
    memcpy(target, prefix, KV_SLOT_ROW_SIZE_BYTES);
    return bytes_make(target, KV_SLOT_ROW_SIZE_BYTES);
}

void kv__key_init(struct kv_key *key, struct bytes name)
{
    ASSERT(name.size_bytes <= KV_KEY_SIZE_BYTES_MAX);
    key->name = name;
    key->slot = kv_slot_of_key(name);
    key->hash = kv__hash(name);
    kv__row_prefix(key->row_bytes, key->slot, KV_ROW_KEY);
    endian_put_u32_be(key->row_bytes + KV_ROW_PREFIX_SIZE_BYTES, key->hash);
    if (name.size_bytes > 0) {
        memcpy(key->row_bytes + KV_KEY_ROW_PREFIX_SIZE_BYTES, name.data, name.size_bytes);
    }
    key->row = bytes_make(key->row_bytes, KV_KEY_ROW_PREFIX_SIZE_BYTES + name.size_bytes);
}

struct bytes kv__garbage_row(uint8_t *target, uint16_t slot, uint64_t generation)
{
    kv__row_prefix(target, slot, KV_ROW_GARBAGE);
    endian_put_u64_be(target + KV_ROW_PREFIX_SIZE_BYTES, generation);
    return bytes_make(target, KV_GARBAGE_ROW_SIZE_BYTES);
}

bool kv__row_parse(struct bytes row, struct kv_row_name *name)
{
    if (row.size_bytes < KV_KEY_ROW_PREFIX_SIZE_BYTES || row.data[0] != KV_SPACE) {
        return false;
    }
    struct kv_row_name parsed = {.slot = endian_get_u16_be(row.data + 1)};
    size_t prefix = KV_KEY_ROW_PREFIX_SIZE_BYTES;
    switch (row.data[3]) {
    case KV_ROW_KEY:
    case KV_ROW_LOCK:
        parsed.hash = endian_get_u32_be(row.data + KV_ROW_PREFIX_SIZE_BYTES);
        parsed.number = parsed.hash;
        break;
    case KV_ROW_FIELD:
        prefix = KV_FIELD_ROW_PREFIX_SIZE_BYTES;
        break;
    case KV_ROW_EXPIRY:
    case KV_ROW_GARBAGE:
        prefix = KV_EXPIRY_ROW_PREFIX_SIZE_BYTES;
        break;
    case KV_ROW_RECORD:
    case KV_ROW_DECISION:
        prefix = KV_RECORD_ROW_SIZE_BYTES;
        break;
    default:
        return false;
    }
    if (row.size_bytes < prefix || parsed.slot >= KV_SLOT_COUNT ||
        row.size_bytes - prefix > KV_KEY_SIZE_BYTES_MAX) {
        return false;
    }
    parsed.kind = (enum kv_row_kind)row.data[3];
    if (prefix > KV_KEY_ROW_PREFIX_SIZE_BYTES) {
        parsed.number = endian_get_u64_be(row.data + KV_ROW_PREFIX_SIZE_BYTES);
    }
    if (parsed.kind == KV_ROW_FIELD) {
        parsed.hash = endian_get_u32_be(row.data + KV_EXPIRY_ROW_PREFIX_SIZE_BYTES);
    }
    parsed.name = bytes_make(row.data + prefix, row.size_bytes - prefix);
    *name = parsed;
    return true;
}

/* ---- Values ---------------------------------------------------------------------------------- */

int kv__value_decode(struct bytes row, struct kv_value *value)
{
    if (row.size_bytes < VALUE_HEADER_SIZE_BYTES || (row.data[1] & ~VALUE_FLAG_EXPIRES) != 0) {
        return ERROR_CORRUPT;
    }
    *value = (struct kv_value){
        .type = (enum kv_type)row.data[0],
        .version = endian_get_u64_le(row.data + 2),
    };
    size_t offset = VALUE_HEADER_SIZE_BYTES;
    if (row.data[1] != 0) {
        if (row.size_bytes < offset + VALUE_EXPIRY_SIZE_BYTES) {
            return ERROR_CORRUPT;
        }
        value->expire_ms = endian_get_u64_le(row.data + offset);
        offset += VALUE_EXPIRY_SIZE_BYTES;
        if (value->expire_ms == 0) {
            return ERROR_CORRUPT;
        }
    }
    if (value->type == KV_TYPE_STRING) {
        value->data = bytes_make(row.data + offset, row.size_bytes - offset);
        return 0;
    }
    if (value->type != KV_TYPE_HASH || row.size_bytes != offset + VALUE_HASH_SIZE_BYTES) {
        return ERROR_CORRUPT;
    }
    value->count = endian_get_u64_le(row.data + offset);
    value->generation = endian_get_u64_le(row.data + offset + 8);
    return value->count > 0 ? 0 : ERROR_CORRUPT;
}

void kv__value_encode(struct buffer *row, const struct kv_value *value)
{
    buffer_clear(row);
    size_t expiry_size = value->expire_ms != 0 ? VALUE_EXPIRY_SIZE_BYTES : 0;
    size_t data_size =
        value->type == KV_TYPE_STRING ? value->data.size_bytes : VALUE_HASH_SIZE_BYTES;
    uint8_t *target = buffer_extend(row, VALUE_HEADER_SIZE_BYTES + expiry_size + data_size);
    target[0] = (uint8_t)value->type;
    target[1] = expiry_size > 0 ? VALUE_FLAG_EXPIRES : 0;
    endian_put_u64_le(target + 2, value->version);
    target += VALUE_HEADER_SIZE_BYTES;
    if (expiry_size > 0) {
        endian_put_u64_le(target, value->expire_ms);
        target += expiry_size;
    }
    if (value->type == KV_TYPE_HASH) {
        ASSERT(value->count > 0); /* I3 */
        endian_put_u64_le(target, value->count);
        endian_put_u64_le(target + 8, value->generation);
        return;
    }
    ASSERT(value->type == KV_TYPE_STRING);
    if (data_size > 0) {
        memcpy(target, value->data.data, data_size);
    }
}

/* ---- Changing keys --------------------------------------------------------------------------- */

/* Put or delete the row that says when a key expires. */
static void change_expiry_row(struct kv_call *call, const struct kv_key *key, uint64_t expire_ms,
                              bool is_put)
{
    size_t size = KV_EXPIRY_ROW_PREFIX_SIZE_BYTES + key->name.size_bytes;
    uint8_t row[KV_EXPIRY_ROW_PREFIX_SIZE_BYTES + KV_KEY_SIZE_BYTES_MAX];
    kv__row_prefix(row, key->slot, KV_ROW_EXPIRY);
    endian_put_u64_be(row + KV_ROW_PREFIX_SIZE_BYTES, expire_ms);
    memcpy(row + KV_EXPIRY_ROW_PREFIX_SIZE_BYTES, key->row_bytes + KV_KEY_ROW_PREFIX_SIZE_BYTES,
           key->name.size_bytes);
    if (!is_put) {
        rows_delete(call->rows, bytes_make(row, size));
        kv__expiring_key_count_change(call->kv, key->slot, -1);
        return;
    }
    rows_put(call->rows, bytes_make(row, size), BYTES(""));
    kv__expiring_key_count_change(call->kv, key->slot, 1);
    kv__sweep_hint(call->kv, key->slot, expire_ms);
}

void kv__key_write(struct kv_call *call, const struct kv_key *key, const struct kv_value *before,
                   const struct kv_value *after)
{
    ASSERT(call->is_execute);
    struct kv *kv = call->kv;
    if (after->type == KV_TYPE_NONE) {
        if (before->type == KV_TYPE_NONE) {
            return;
        }
        rows_delete(call->rows, key->row);
        kv__key_count_change(kv, key->slot, -1);
    } else {
        struct kv_value stored = *after;
        stored.version = call->version; /* I1 */
        /* Encoding copies the data, so it may be borrowed from the row that is replaced. */
        kv__value_encode(&kv->row, &stored);
        rows_put(call->rows, key->row, buffer_bytes(&kv->row));
        kv__key_count_change(kv, key->slot, before->type == KV_TYPE_NONE ? 1 : 0);
    }
    uint64_t expire_ms = after->type == KV_TYPE_NONE ? 0 : after->expire_ms;
    if (before->expire_ms != expire_ms) { /* I2 */
        if (before->expire_ms != 0) {
            change_expiry_row(call, key, before->expire_ms, false);
        }
        if (expire_ms != 0) {
            change_expiry_row(call, key, expire_ms, true);
        }
    }
    if (before->type == KV_TYPE_HASH &&
        (after->type != KV_TYPE_HASH || after->generation != before->generation)) {
        kv__hash_discard(call, key->slot, before->generation, before->count); /* I4 */
    }
}

void kv__key_delete(struct kv_call *call, const struct kv_key *key, const struct kv_value *before)
{
    struct kv_value none = {.type = KV_TYPE_NONE};
    kv__key_write(call, key, before, &none);
}

uint64_t kv__generation_next(struct kv_call *call)
{
    ASSERT(call->is_execute);
    struct kv *kv = call->kv;
    if (BUG("kv.generation_reused") && kv->generation_last > 0) {
        return kv->generation_last;
    }
    /* The version is new for each command of the log, but EXEC is one command with many parts. */
    kv->generation_last =
        call->version > kv->generation_last ? call->version : kv->generation_last + 1;
    return kv->generation_last;
}

/* ---- Looking at keys ------------------------------------------------------------------------- */

int kv__value_is_expired(const struct kv_call *call, const struct kv_value *value)
{
    if (__builtin_expect(value->expire_ms == 0 || value->expire_ms > call->time_ms, 1)) {
        return 0;
    }
    if (!call->is_execute && value->expire_ms > call->durable_time_ms) {
        return ERROR_EXPIRED_SEEN;
    }
    return 1;
}

static void remove_expired(struct kv_call *call, const struct kv_key *key,
                           const struct kv_value *value)
{
    uint64_t count = call->kv->key_count;
    kv__key_delete(call, key, value);
    call->kv->expired_key_count++;
    if (BUG("kv.count_wrong_after_expiry")) {
        call->kv->key_count = count;
    }
}

/* What was read of a key, as of now. */
static int decode(struct kv_call *call, const struct kv_key *key, int status, struct bytes row,
                  struct kv_value *value)
{
    if (status != 0) {
        *value = (struct kv_value){.type = KV_TYPE_NONE};
        return status == -ENOENT ? 0 : status;
    }
    status = kv__value_decode(row, value);
    if (status != 0) {
        return status;
    }
    int is_expired = kv__value_is_expired(call, value);
    if (__builtin_expect(is_expired != 0, 0)) {
        if (is_expired < 0) {
            return is_expired;
        }
        if (call->is_execute) {
            if (BUG("kv.expired_key_resurrected")) {
                return 0;
            }
            PROBE("kv.expired_on_access");
            remove_expired(call, key, value);
        }
        *value = (struct kv_value){.type = KV_TYPE_NONE};
    }
    return 0;
}

static int take(struct kv_call *call, const struct kv_key *key, int status, struct bytes row,
                struct kv_value *value)
{
    status = decode(call, key, status, row, value);
    if (status == 0) {
        bool is_there = value->type != KV_TYPE_NONE;
        call->hit_count += is_there;
        call->miss_count += !is_there;
    }
    return status;
}

int kv__key_lookup(struct kv_call *call, const struct kv_key *key, struct kv_value *value)
{
    struct bytes row;
    int status = rows_get(call->rows, key->row, &row);
    return take(call, key, status, row, value);
}

_Static_assert(ROWS_HEAD_SIZE_BYTES >= VALUE_HEADER_SIZE_BYTES + VALUE_EXPIRY_SIZE_BYTES,
               "the head of a string says all but its bytes");
_Static_assert(ROWS_WHOLE_SIZE_BYTES >=
                   VALUE_HEADER_SIZE_BYTES + VALUE_EXPIRY_SIZE_BYTES + VALUE_HASH_SIZE_BYTES,
               "the row of a hash is never shortened");

int kv__key_lookup_head(struct kv_call *call, const struct kv_key *key, struct kv_value *value)
{
    struct bytes row;
    int status = rows_get_head(call->rows, key->row, &row);
    status = take(call, key, status, row, value);
    value->data = (struct bytes){0};
    return status;
}

bool kv__is_wrong_type(struct kv_call *call, const struct kv_value *value, enum kv_type type)
{
    if (value->type == type || value->type == KV_TYPE_NONE) {
        return false;
    }
    reply_error(call->reply, "WRONGTYPE Operation against a key holding the wrong kind of value");
    return true;
}

int kv__typed_lookup(struct kv_call *call, enum kv_type type, struct kv_key *key,
                     struct kv_value *value)
{
    kv__key_init(key, call->arguments[0]);
    int status = kv__key_lookup(call, key, value);
    if (status != 0) {
        return status;
    }
    return kv__is_wrong_type(call, value, type) ? 1 : 0;
}
