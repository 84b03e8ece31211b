/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv/kv_cursor.h"

#include "base/assert/assert.h"
#include "service/kv/kv.h"

uint64_t kv__cursor_make(uint32_t slot, uint32_t hash)
{
    return (uint64_t)slot << 32 | hash;
}

uint32_t kv__cursor_slot(uint64_t cursor)
{
    return (uint32_t)(cursor >> 32);
}

uint32_t kv__cursor_hash(uint64_t cursor)
{
    return (uint32_t)cursor;
}

uint16_t kv_scan_slot(struct bytes cursor)
{
    uint64_t position;
    if (!kv__cursor_parse(cursor, &position)) {
        return 0;
    }
    uint64_t slot = position >> 32;
    return slot < KV_SLOT_COUNT ? (uint16_t)slot : KV_SLOT_COUNT - 1;
}

bool kv__cursor_parse(struct bytes text, uint64_t *cursor)
{
    /* More lenient than for other numbers, as Redis is here (strtoul): leading zeros are fine, and
     * a minus wraps around. */
    uint64_t value = 0;
    size_t sign = text.size_bytes > 1 && text.data[0] == '-' ? 1 : 0;
    for (size_t i = sign; i < text.size_bytes; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value)) {
            return false;
        }
    }
    if (text.size_bytes == 0) {
        return false;
    }
    *cursor = sign == 1 ? 0 - value : value;
    return true;
}

bool kv__page_takes(struct kv__page *page, uint64_t position)
{
    ASSERT_IF(page->row_count > 0, position >= page->position);
    if (page->row_count >= page->row_count_min && page->row_count > 0 &&
        position != page->position) {
        return false;
    }
    page->row_count++;
    page->position = position;
    return true;
}
