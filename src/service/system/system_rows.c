/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of rows, and walks over them. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "service/system/system_internal.h"

enum { NODE_KEY_SIZE_BYTES = 6, AUDIT_KEY_SIZE_BYTES = 10, SHARD_KEY_SIZE_BYTES = 6 };

static uint8_t *begin(struct system__row *row, enum system__row_kind kind, size_t size_bytes)
{
    row->storage[0] = SYSTEM_SPACE;
    row->storage[1] = (uint8_t)kind;
    row->key = bytes_make(row->storage, size_bytes);
    return row->storage + 2;
}

void system__row_settings(struct system__row *row)
{
    (void)begin(row, SYSTEM_ROW_SETTINGS, 2);
}

void system__row_node(struct system__row *row, uint32_t id)
{
    endian_put_u32_be(begin(row, SYSTEM_ROW_NODE, NODE_KEY_SIZE_BYTES), id);
}

void system__row_token(struct system__row *row, const struct system_digest *hash)
{
    memcpy(begin(row, SYSTEM_ROW_TOKEN, SYSTEM_ROW_SIZE_BYTES_MAX), hash->bytes,
           sizeof hash->bytes);
}

void system__row_audit(struct system__row *row, uint64_t number)
{
    endian_put_u64_be(begin(row, SYSTEM_ROW_AUDIT, AUDIT_KEY_SIZE_BYTES), number);
}

void system__row_shard(struct system__row *row, wal_shard shard)
{
    endian_put_u32_be(begin(row, SYSTEM_ROW_SHARD, SHARD_KEY_SIZE_BYTES), shard);
}

struct bytes system__row_lower(uint8_t target[2], uint32_t kind)
{
    target[0] = SYSTEM_SPACE;
    target[1] = (uint8_t)kind;
    return bytes_make(target, kind == 0 ? 1 : 2);
}

struct bytes system__row_upper(uint8_t target[2], uint32_t kind)
{
    target[0] = kind == 0 ? SYSTEM_SPACE + 1 : SYSTEM_SPACE;
    target[1] = (uint8_t)(kind + 1);
    return bytes_make(target, kind == 0 ? 1 : 2);
}

bool system__row_parse(struct bytes key, struct system__row_name *name)
{
    if (key.size_bytes < 2 || key.data[0] != SYSTEM_SPACE) {
        return false;
    }
    struct system__row_name parsed = {.kind = (enum system__row_kind)key.data[1]};
    size_t size_bytes;
    switch (key.data[1]) {
    case SYSTEM_ROW_SETTINGS:
        size_bytes = 2;
        break;
    case SYSTEM_ROW_NODE:
        size_bytes = NODE_KEY_SIZE_BYTES;
        break;
    case SYSTEM_ROW_TOKEN:
        size_bytes = SYSTEM_ROW_SIZE_BYTES_MAX;
        break;
    case SYSTEM_ROW_AUDIT:
        size_bytes = AUDIT_KEY_SIZE_BYTES;
        break;
    case SYSTEM_ROW_SHARD:
        size_bytes = SHARD_KEY_SIZE_BYTES;
        break;
    default:
        return false;
    }
    if (key.size_bytes != size_bytes) {
        return false;
    }
    if (parsed.kind == SYSTEM_ROW_NODE || parsed.kind == SYSTEM_ROW_SHARD) {
        parsed.number = endian_get_u32_be(key.data + 2);
    } else if (parsed.kind == SYSTEM_ROW_AUDIT) {
        parsed.number = endian_get_u64_be(key.data + 2);
    } else if (parsed.kind == SYSTEM_ROW_TOKEN) {
        memcpy(parsed.hash.bytes, key.data + 2, sizeof parsed.hash.bytes);
    }
    bool has_number = parsed.kind != SYSTEM_ROW_SETTINGS && parsed.kind != SYSTEM_ROW_TOKEN;
    if (has_number && parsed.number == 0) {
        return false;
    }
    *name = parsed;
    return true;
}

int system__rows_each(struct rows *rows, uint32_t kind,
                      int (*each)(void *context, struct bytes key, struct bytes value),
                      void *context)
{
    uint8_t lower[2];
    uint8_t upper[2];
    struct bytes first = system__row_lower(lower, kind);
    struct rows_iterator *iterator;
    int status = rows_iterator_open(rows, first, system__row_upper(upper, kind), &iterator);
    if (status != 0) {
        return status;
    }
    status = rows_iterator_seek(iterator, first);
    while (status == 0) {
        status = each(context, rows_iterator_key(iterator), rows_iterator_value(iterator));
        if (status == 0) {
            status = rows_iterator_next(iterator);
        }
    }
    rows_iterator_close(iterator);
    return status == -ENOENT ? 0 : status;
}
