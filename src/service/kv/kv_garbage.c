/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of the fields of a hash that is gone.
 *
 * A step of the collection depends on nothing but its arguments and the rows, as every command of
 * the log: a slot without garbage, which a wrong hint may name, changes nothing. The garbage row
 * goes in the step that deletes the last of its fields, so a crash at any point leaves either both
 * or none. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_field.h"

struct discard {
    uint64_t generation;
    uint64_t count;
    uint16_t slot;
};

void kv__hash_discard(struct kv_call *call, uint16_t slot, uint64_t generation, uint64_t count)
{
    ASSERT(call->is_execute);
    if (count == 0) {
        return; /* HDEL took the last field away. */
    }
    const struct discard discard = {.generation = generation, .count = count, .slot = slot};
    buffer_append(&call->kv->discards, bytes_make(&discard, sizeof discard));
}

/* Append a row's key to a list of them. */
static void note_row(struct buffer *list, struct bytes row)
{
    uint32_t size_bytes = (uint32_t)row.size_bytes;
    ASSERT(size_bytes == row.size_bytes);
    buffer_append(list, bytes_make(&size_bytes, sizeof size_bytes));
    buffer_append(list, row);
}

static void delete_noted_rows(struct rows *rows, struct bytes list)
{
    while (list.size_bytes > 0) {
        uint32_t size_bytes;
        memcpy(&size_bytes, list.data, sizeof size_bytes);
        size_t used = sizeof size_bytes + size_bytes;
        ASSERT(used <= list.size_bytes);
        rows_delete(rows, bytes_make(list.data + sizeof size_bytes, size_bytes));
        list = bytes_make(list.data + used, list.size_bytes - used);
    }
}

/* Fields to delete, in the order of their hashes. */
struct deletion {
    uint64_t generation;
    uint64_t row_count; /* At most so many; what is left of it is left here. */
    uint32_t hash;      /* From this one on; the last one that was deleted is left here. */
    uint16_t slot;
};

static int delete_fields(struct kv_call *call, struct deletion *deletion)
{
    struct rows_iterator *iterator;
    int status = kv__fields_open(call->rows, deletion->slot, deletion->generation, &iterator);
    if (status != 0) {
        return status;
    }
    ASSERT(deletion->row_count > 0);
    /* Changing rows ends the iterator, so collect first. */
    struct buffer *list = &call->kv->work;
    buffer_clear(list);
    status = kv__fields_seek(iterator, deletion->slot, deletion->generation, deletion->hash);
    while (status == 0) {
        note_row(list, rows_iterator_key(iterator));
        deletion->hash = kv__fields_hash(iterator);
        deletion->row_count--;
        if (deletion->row_count == 0) {
            break;
        }
        status = rows_iterator_next(iterator);
    }
    rows_iterator_close(iterator);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    delete_noted_rows(call->rows, buffer_bytes(list));
    return 0;
}

static void mark(struct kv *kv, uint32_t slot, bool may_have_garbage)
{
    kv__slot_set_put(&kv->garbage_hints, slot, may_have_garbage);
}

static bool is_marked(const struct kv *kv, uint32_t slot)
{
    return kv__slot_set_has(&kv->garbage_hints, slot);
}

int kv__discards_finish(struct kv_call *call)
{
    struct kv *kv = call->kv;
    int status = 0;
    for (size_t offset = 0; offset < kv->discards.size_bytes && status == 0;
         offset += sizeof(struct discard)) {
        struct discard discard;
        memcpy(&discard, kv->discards.data + offset, sizeof discard);
        if (discard.count <= KV_DISCARD_AT_ONCE_MAX) {
            /* One more than there should be: a field too many would be seen here. */
            struct deletion deletion = {.generation = discard.generation,
                                        .row_count = discard.count + 1,
                                        .slot = discard.slot};
            status = delete_fields(call, &deletion);
            if (status == 0 && deletion.row_count != 1) {
                status = ERROR_CORRUPT; /* I3 */
            }
            continue;
        }
        PROBE("kv.large_hash_discarded");
        if (BUG("kv.garbage_forgotten")) {
            continue;
        }
        uint8_t row[KV_GARBAGE_ROW_SIZE_BYTES];
        rows_put(call->rows, kv__garbage_row(row, discard.slot, discard.generation), BYTES(""));
        kv__garbage_count_change(kv, discard.slot, 1);
        mark(kv, discard.slot, true);
    }
    buffer_clear(&kv->discards);
    return status;
}

int kv__discard_prefetch(struct kv_call *call, const struct kv_key *key)
{
    struct bytes row;
    struct kv_value value;
    int status = rows_get_head(call->rows, key->row, &row);
    if (status == 0) {
        status = kv__value_decode(row, &value);
    }
    if (status != 0) {
        return status == -ENOENT ? 0 : status;
    }
    if (value.type != KV_TYPE_HASH || value.count > KV_DISCARD_AT_ONCE_MAX) {
        return 0;
    }
    struct rows_iterator *iterator;
    status = kv__fields_open(call->rows, key->slot, value.generation, &iterator);
    if (status != 0) {
        return status;
    }
    status = kv__fields_seek(iterator, key->slot, value.generation, 0);
    while (status == 0) {
        status = rows_iterator_next(iterator);
    }
    rows_iterator_close(iterator);
    return status == -ENOENT ? 0 : status;
}

/* ---- Collecting ------------------------------------------------------------------------------ */

void kv__garbage_hints_reset(struct kv *kv)
{
    kv__slot_set_clear(&kv->garbage_hints);
    for (uint32_t slot = kv->first_slot; slot < kv->end_slot && kv->garbage_count > 0; slot++) {
        mark(kv, slot, true); /* What others' slots have is not ours to collect. */
    }
    kv->garbage_next_slot = kv->first_slot;
}

void kv__garbage_hints_cut(struct kv *kv)
{
    for (uint32_t slot = kv->end_slot; slot < KV_SLOT_COUNT; slot++) {
        mark(kv, slot, false);
    }
    if (kv->garbage_next_slot >= kv->end_slot) {
        kv->garbage_next_slot = kv->first_slot;
    }
}

void kv__garbage_reset(struct kv *kv)
{
    ASSERT(kv->garbage_count == 0);
    buffer_clear(&kv->discards);
    kv__garbage_hints_reset(kv);
}

/* The first garbage row of a slot, for `deletion->slot`; -ENOENT when it has none. */
static int first_garbage(struct rows *rows, struct deletion *deletion)
{
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_prefix(lower, deletion->slot, KV_ROW_GARBAGE);
    kv__row_prefix(upper, deletion->slot, KV_ROW_LOCK);
    struct bytes from = bytes_make(lower, sizeof lower);
    struct rows_iterator *iterator;
    int status = rows_iterator_open(rows, from, bytes_make(upper, sizeof upper), &iterator);
    if (status != 0) {
        return status;
    }
    status = rows_iterator_seek(iterator, from);
    if (status == 0) {
        struct kv_row_name name;
        struct bytes value = rows_iterator_value(iterator);
        if (!kv__row_parse(rows_iterator_key(iterator), &name) || name.kind != KV_ROW_GARBAGE ||
            (value.size_bytes != 0 && value.size_bytes != sizeof deletion->hash)) {
            status = ERROR_CORRUPT;
        } else {
            deletion->generation = name.number;
            deletion->hash = value.size_bytes == 0 ? 0 : endian_get_u32_be(value.data);
        }
    }
    rows_iterator_close(iterator);
    return status;
}

/* Collect a slot until nothing is left of it or of `*row_count`. */
static int collect_slot(struct kv_call *call, uint16_t slot, uint64_t *row_count)
{
    struct deletion deletion = {.slot = slot, .row_count = *row_count};
    while (deletion.row_count > 0) {
        int status = first_garbage(call->rows, &deletion);
        if (status == -ENOENT) {
            mark(call->kv, slot, false);
            break;
        }
        if (status == 0) {
            status = delete_fields(call, &deletion);
        }
        if (status != 0) {
            return status;
        }
        uint8_t row_bytes[KV_GARBAGE_ROW_SIZE_BYTES];
        struct bytes row = kv__garbage_row(row_bytes, slot, deletion.generation);
        if (deletion.row_count == 0) {
            uint8_t hash[sizeof deletion.hash];
            endian_put_u32_be(hash, deletion.hash);
            rows_put(call->rows, row, bytes_make(hash, sizeof hash));
            break;
        }
        rows_delete(call->rows, row);
        deletion.row_count--;
        if (call->kv->garbage_count == 0) {
            return ERROR_CORRUPT;
        }
        kv__garbage_count_change(call->kv, slot, -1);
    }
    *row_count = deletion.row_count;
    return 0;
}

int kv__execute_collect(struct kv_call *call)
{
    uint64_t row_count;
    if (!kv__argument_u64(call->arguments[0], &row_count)) {
        return ERROR_CORRUPT;
    }
    uint64_t left = row_count;
    for (uint32_t i = 1; i < call->argument_count; i++) {
        uint64_t slot;
        if (!kv__argument_u64(call->arguments[i], &slot) || slot >= KV_SLOT_COUNT) {
            return ERROR_CORRUPT;
        }
        int status = left > 0 ? collect_slot(call, (uint16_t)slot, &left) : 0;
        if (status != 0) {
            return status;
        }
    }
    reply_integer(call->reply, (int64_t)(row_count - left));
    return 0;
}

static void add_argument(struct kv *kv, uint32_t index, uint64_t value)
{
    endian_put_u64_le(kv->garbage_numbers[index], value);
    kv->garbage_arguments[index] = bytes_make(kv->garbage_numbers[index], 8);
}

/* Would the next step of this deletion begin with a read of the disk? */
static bool is_cold(struct rows *rows, const struct deletion *deletion)
{
    struct rows_iterator *iterator;
    int status = kv__fields_open(rows, deletion->slot, deletion->generation, &iterator);
    if (status == 0) {
        status = kv__fields_seek(iterator, deletion->slot, deletion->generation, deletion->hash);
        rows_iterator_close(iterator);
    }
    return status == ERROR_INCOMPLETE;
}

bool kv__collect_background(struct kv *kv, struct rows *rows, uint64_t time_ms,
                            struct shard_command *command, uint64_t *delay_ms)
{
    if (kv->garbage_count == 0) {
        return false;
    }
    /* The wall clock may jump back, so a moment too far ahead does not count. */
    uint64_t wait_ms = kv->garbage_not_before_ms - time_ms;
    if (kv->garbage_not_before_ms > time_ms && wait_ms <= KV_COLLECT_DELAY_MS) {
        *delay_ms = *delay_ms < wait_ms ? *delay_ms : wait_ms;
        return false;
    }
    uint32_t count = 1;
    uint32_t probe_count = 0;
    uint64_t row_count = KV_COLLECT_ROW_COUNT;
    uint32_t slot = kv->garbage_next_slot;
    for (uint32_t i = kv->first_slot;
         i < kv->end_slot && count <= KV_COLLECT_SLOT_COUNT && probe_count < KV_COLLECT_PROBE_COUNT;
         i++) {
        if (is_marked(kv, slot)) {
            struct deletion deletion = {.slot = (uint16_t)slot};
            probe_count++;
            int status = first_garbage(rows, &deletion);
            if (status == -ENOENT) {
                mark(kv, slot, false);
            } else { /* Also when it is not in memory: the command will see. */
                if (status != 0 || is_cold(rows, &deletion)) {
                    PROBE("kv.cold_garbage");
                    row_count = KV_COLLECT_COLD_ROW_COUNT;
                }
                add_argument(kv, count, slot);
                count++;
            }
        }
        slot = slot + 1 == kv->end_slot ? kv->first_slot : slot + 1;
    }
    kv->garbage_next_slot = slot;
    kv->garbage_not_before_ms = time_ms + KV_COLLECT_DELAY_MS;
    if (count == 1) {
        *delay_ms = *delay_ms < KV_COLLECT_DELAY_MS ? *delay_ms : KV_COLLECT_DELAY_MS;
        return false;
    }
    add_argument(kv, 0, row_count);
    *command = (struct shard_command){.opcode = KV_OPCODE_COLLECT_GARBAGE,
                                      .argument_count = count,
                                      .arguments = kv->garbage_arguments};
    return true;
}
