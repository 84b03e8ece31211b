/* SPDX-License-Identifier: Apache-2.0 */
/* The state that is saved with the applied index; integers are little-endian:
 *
 *   offset  size  meaning
 *        0     1  version of this format: 1; 3 when there are records of transactions; 4 while there
 *                 is a census; 2 had the names of records in another order
 *        1     7  zero
 *        8     8  count of keys (I5)
 *       16     8  count of keys that expire
 *       24     8  newest generation given
 *       32     8  count of garbage rows
 *       40     8  count of records and decisions; above 0 in version 3; not in version 1
 *       48     4  the census: its first slot, above 0; only in version 4, as all that follows
 *       52     4  the first slot that is not counted yet
 *       56     8  of the counted slots: count of keys
 *       64     8  of keys that expire
 *       72     8  of garbage rows
 *       80     8  of records and decisions */
#include "service/kv/kv_census.h"

#include "base/assert/assert.h"
#include "base/endian/endian.h"

enum {
    VERSION_PLAIN = 1,
    VERSION_RECORDS = 3,
    VERSION_CENSUS = 4,
    PLAIN_SIZE_BYTES = 40,
    RECORDS_SIZE_BYTES = 48,
    CENSUS_SIZE_BYTES = 88,
};

/* ---- Counts ---------------------------------------------------------------------------------- */

static void change_count(uint64_t *count, int change)
{
    ASSERT(change >= 0 || *count >= (uint64_t) - (int64_t)change);
    *count += (uint64_t)(int64_t)change;
}

static bool is_counted(const struct kv *kv, uint32_t slot)
{
    return slot >= kv->census.first_slot && slot < kv->census.next_slot;
}

void kv__key_count_change(struct kv *kv, uint32_t slot, int change)
{
    change_count(&kv->key_count, change); /* I5 */
    if (is_counted(kv, slot) && !BUG("kv.census_misses_change")) {
        change_count(&kv->census.counts.key_count, change);
    }
}

void kv__expiring_key_count_change(struct kv *kv, uint32_t slot, int change)
{
    change_count(&kv->expiring_key_count, change);
    if (is_counted(kv, slot)) {
        change_count(&kv->census.counts.expiring_key_count, change);
    }
}

void kv__garbage_count_change(struct kv *kv, uint32_t slot, int change)
{
    change_count(&kv->garbage_count, change);
    if (is_counted(kv, slot)) {
        change_count(&kv->census.counts.garbage_count, change);
    }
}

void kv__record_count_change(struct kv *kv, uint32_t slot, int change)
{
    change_count(&kv->record_count, change);
    if (is_counted(kv, slot)) {
        change_count(&kv->census.counts.record_count, change);
    }
}

/* What is counted stays so: a SPLIT may be on its way behind the command that empties the slots. */
void kv__counts_flush(struct kv *kv)
{
    kv->key_count = 0;
    kv->expiring_key_count = 0;
    kv->garbage_count = 0;
    kv->census.counts = (struct kv__counts){.record_count = kv->census.counts.record_count};
}

/* ---- The census ------------------------------------------------------------------------------ */

bool kv__census_is_complete(const struct kv *kv, uint32_t first_slot)
{
    return first_slot > 0 && kv->census.first_slot == first_slot &&
           kv->census.next_slot == kv->end_slot;
}

void kv__count_row(struct kv__counts *counts, enum kv_row_kind kind)
{
    counts->key_count += kind == KV_ROW_KEY;
    counts->expiring_key_count += kind == KV_ROW_EXPIRY;
    counts->garbage_count += kind == KV_ROW_GARBAGE;
    counts->record_count += kind == KV_ROW_RECORD || kind == KV_ROW_DECISION;
}

/* Count from the iterator on; fields, of which a hash may have any number, are passed over. */
static int count_rows(struct rows_iterator *iterator, int status, struct kv__census *census,
                      uint64_t *row_count)
{
    uint8_t target[KV_ROW_PREFIX_SIZE_BYTES];
    while (status == 0) {
        struct kv_row_name name;
        if (!kv__row_parse(rows_iterator_key(iterator), &name)) {
            return ERROR_CORRUPT;
        }
        if (name.slot >= census->next_slot) { /* Those before it are done. */
            census->next_slot = name.slot;
            if (*row_count == 0) {
                return 0;
            }
            census->next_slot++;
        }
        *row_count -= *row_count > 0;
        if (name.kind == KV_ROW_FIELD) {
            kv__row_prefix(target, name.slot, KV_ROW_EXPIRY);
            status = rows_iterator_seek(iterator, bytes_make(target, sizeof target));
        } else {
            kv__count_row(&census->counts, name.kind);
            status = rows_iterator_next(iterator);
        }
    }
    return status;
}

int kv__census_count(struct rows *rows, uint32_t end_slot, struct kv__census *census,
                     uint64_t *row_count)
{
    ASSERT(census->next_slot <= end_slot);
    if (census->next_slot == end_slot || *row_count == 0) {
        return 0;
    }
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_prefix(lower, census->next_slot, KV_ROW_KEY);
    kv__row_prefix(upper, end_slot, KV_ROW_KEY);
    struct bytes from = bytes_make(lower, sizeof lower);
    struct rows_iterator *iterator;
    int status = rows_iterator_open(rows, from, bytes_make(upper, sizeof upper), &iterator);
    if (status != 0) {
        return status;
    }
    struct kv__census counted = *census;
    status = count_rows(iterator, rows_iterator_seek(iterator, from), &counted, row_count);
    rows_iterator_close(iterator);
    if (status == -ENOENT) {
        counted.next_slot = end_slot;
        status = 0;
    }
    if (status == 0) {
        *census = counted;
    }
    return status;
}

/* Arguments: the first slot (4 bytes), how many rows to look at (8). A census of another slot begins
 * anew; one that is outside of the range changes nothing. */
int kv__execute_census(struct kv_call *call)
{
    struct kv *kv = call->kv;
    uint64_t row_count;
    if (call->arguments[0].size_bytes != 4 || !kv__argument_u64(call->arguments[1], &row_count)) {
        return ERROR_CORRUPT; /* Only background() makes this command. */
    }
    uint32_t first_slot = endian_get_u32_le(call->arguments[0].data);
    uint64_t left = row_count;
    if (first_slot > kv->first_slot && first_slot < kv->end_slot) {
        struct kv__census census = kv->census;
        if (census.first_slot != first_slot) {
            PROBE("kv.census_begins");
            census = (struct kv__census){.first_slot = first_slot, .next_slot = first_slot};
        }
        int status = kv__census_count(call->rows, kv->end_slot, &census, &left);
        if (status != 0) {
            return status;
        }
        kv->census = census;
    }
    reply_integer(call->reply, (int64_t)(row_count - left));
    return 0;
}

/* ---- The saved state -------------------------------------------------------------------------- */

struct kv__saved kv__saved_of(const struct kv *kv)
{
    return (struct kv__saved){
        .counts = {.key_count = kv->key_count,
                   .expiring_key_count = kv->expiring_key_count,
                   .garbage_count = kv->garbage_count,
                   .record_count = kv->record_count},
        .generation_last = kv->generation_last,
        .census = kv->census,
    };
}

static void encode_counts(uint8_t *target, const struct kv__counts *counts)
{
    endian_put_u64_le(target, counts->key_count);
    endian_put_u64_le(target + 8, counts->expiring_key_count);
    endian_put_u64_le(target + 16, counts->garbage_count);
    endian_put_u64_le(target + 24, counts->record_count);
}

void kv__saved_encode(const struct kv__saved *saved, struct buffer *target)
{
    uint8_t bytes[CENSUS_SIZE_BYTES] = {0};
    const struct kv__counts *counts = &saved->counts;
    const struct kv__census *census = &saved->census;
    size_t size_bytes = PLAIN_SIZE_BYTES;
    bytes[0] = VERSION_PLAIN;
    if (census->first_slot != 0) {
        bytes[0] = VERSION_CENSUS;
        size_bytes = CENSUS_SIZE_BYTES;
    } else if (counts->record_count > 0) {
        bytes[0] = VERSION_RECORDS;
        size_bytes = RECORDS_SIZE_BYTES;
    }
    endian_put_u64_le(bytes + 8, counts->key_count);
    endian_put_u64_le(bytes + 16, counts->expiring_key_count);
    endian_put_u64_le(bytes + 24, saved->generation_last);
    endian_put_u64_le(bytes + 32, counts->garbage_count);
    endian_put_u64_le(bytes + 40, counts->record_count);
    endian_put_u32_le(bytes + 48, census->first_slot);
    endian_put_u32_le(bytes + 52, census->next_slot);
    encode_counts(bytes + 56, &census->counts);
    buffer_append(target, bytes_make(bytes, size_bytes));
}

bool kv__saved_is_whole(const struct kv__saved *saved)
{
    const struct kv__counts *part = &saved->census.counts;
    const struct kv__counts *whole = &saved->counts;
    return part->key_count <= whole->key_count &&
           part->expiring_key_count <= whole->expiring_key_count &&
           part->garbage_count <= whole->garbage_count && part->record_count <= whole->record_count;
}

int kv__saved_decode(struct bytes bytes, struct kv__saved *saved)
{
    uint8_t version = bytes.size_bytes == 0 ? 0 : bytes.data[0];
    if (version > VERSION_CENSUS || version == KV__SAVED_VERSION_OF_OTHER_ROWS) {
        return ERROR_NEWER_FORMAT;
    }
    size_t size_bytes = version == VERSION_PLAIN     ? PLAIN_SIZE_BYTES
                        : version == VERSION_RECORDS ? RECORDS_SIZE_BYTES
                        : version == VERSION_CENSUS  ? CENSUS_SIZE_BYTES
                                                     : 0;
    if (size_bytes == 0 || bytes.size_bytes != size_bytes) {
        return ERROR_CORRUPT;
    }
    const uint8_t *data = bytes.data;
    struct kv__saved decoded = {
        .counts = {.key_count = endian_get_u64_le(data + 8),
                   .expiring_key_count = endian_get_u64_le(data + 16),
                   .garbage_count = endian_get_u64_le(data + 32),
                   .record_count = version == VERSION_PLAIN ? 0 : endian_get_u64_le(data + 40)},
        .generation_last = endian_get_u64_le(data + 24),
    };
    if (version == VERSION_CENSUS) {
        decoded.census = (struct kv__census){
            .first_slot = endian_get_u32_le(data + 48),
            .next_slot = endian_get_u32_le(data + 52),
            .counts = {.key_count = endian_get_u64_le(data + 56),
                       .expiring_key_count = endian_get_u64_le(data + 64),
                       .garbage_count = endian_get_u64_le(data + 72),
                       .record_count = endian_get_u64_le(data + 80)},
        };
        if (decoded.census.first_slot == 0 ||
            decoded.census.next_slot < decoded.census.first_slot || !kv__saved_is_whole(&decoded)) {
            return ERROR_CORRUPT;
        }
    }
    *saved = decoded;
    return 0;
}
