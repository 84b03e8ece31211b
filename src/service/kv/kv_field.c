/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv/kv_field.h"

#include "base/assert/assert.h"
#include "base/endian/endian.h"

enum { GENERATION_OFFSET_BYTES = 4, HASH_OFFSET_BYTES = 12 };

static void write_prefix(uint8_t *target, uint16_t slot, uint64_t generation, uint32_t hash)
{
    kv__row_prefix(target, slot, KV_ROW_FIELD);
    endian_put_u64_be(target + GENERATION_OFFSET_BYTES, generation);
    endian_put_u32_be(target + HASH_OFFSET_BYTES, hash);
}

void kv__field_init(struct kv__field *field, uint16_t slot, uint64_t generation, struct bytes name)
{
    ASSERT(name.size_bytes <= KV_KEY_SIZE_BYTES_MAX);
    ASSERT(generation > 0);
    write_prefix(field->row_bytes, slot, generation, kv__hash(name));
    if (name.size_bytes > 0) {
        memcpy(field->row_bytes + KV_FIELD_ROW_PREFIX_SIZE_BYTES, name.data, name.size_bytes);
    }
    field->row = bytes_make(field->row_bytes, KV_FIELD_ROW_PREFIX_SIZE_BYTES + name.size_bytes);
}

int kv__fields_open(struct rows *rows, uint16_t slot, uint64_t generation,
                    struct rows_iterator **iterator)
{
    uint8_t lower[KV_FIELD_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_FIELD_ROW_PREFIX_SIZE_BYTES];
    ASSERT(generation > 0 && generation < UINT64_MAX);
    write_prefix(lower, slot, generation, 0);
    write_prefix(upper, slot, generation + 1, 0);
    return rows_iterator_open(rows, bytes_make(lower, sizeof lower),
                              bytes_make(upper, sizeof upper), iterator);
}

int kv__fields_seek(struct rows_iterator *iterator, uint16_t slot, uint64_t generation,
                    uint32_t hash)
{
    uint8_t from[KV_FIELD_ROW_PREFIX_SIZE_BYTES];
    write_prefix(from, slot, generation, hash);
    return rows_iterator_seek(iterator, bytes_make(from, sizeof from));
}

struct bytes kv__fields_name(const struct rows_iterator *iterator)
{
    struct bytes row = rows_iterator_key(iterator);
    ASSERT(row.size_bytes >= KV_FIELD_ROW_PREFIX_SIZE_BYTES);
    return bytes_make(row.data + KV_FIELD_ROW_PREFIX_SIZE_BYTES,
                      row.size_bytes - KV_FIELD_ROW_PREFIX_SIZE_BYTES);
}

uint32_t kv__fields_hash(const struct rows_iterator *iterator)
{
    struct bytes row = rows_iterator_key(iterator);
    ASSERT(row.size_bytes >= KV_FIELD_ROW_PREFIX_SIZE_BYTES);
    return endian_get_u32_be(row.data + HASH_OFFSET_BYTES);
}
