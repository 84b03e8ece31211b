/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of transactions over several shards, integers of values little-endian.
 *
 * Name of a record or decision: space | slot | kind | begun_ms BE64 | origin BE64 | number BE64. The
 * slot is the place of the part, or of the home. The oldest come first: kv_forget.c.
 *
 *   record:    offset  size
 *                   0     1  state: 1 prepared, 2 committed, 3 aborted
 *                   1     1  protocol of the replies; this and what follows only when prepared
 *                   2     2  zero
 *                   4     4  home
 *                   8     8  stamp of the PREPARE
 *                  16     4  count of arguments
 *                  20        each: its size (4) and bytes
 *   decision:       0     1  1 commit, 2 abort
 *                   1     1  1: all participants have finished
 *                   2     6  zero
 *                   8     8  stamp
 *                  16        places of the participants, 4 bytes each; of a commit
 *   lock:           0    24  identity, little-endian
 *                  24     4  place of the record */
#include "service/kv/kv_record.h"

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_participant.h"

enum {
    RECORD_HEADER_SIZE_BYTES = 20,
    DECISION_HEADER_SIZE_BYTES = 16,
    SIZE_SIZE_BYTES = 4,
};

/* ---- Names ----------------------------------------------------------------------------------- */

struct bytes kv__record_row(uint8_t target[KV_RECORD_ROW_SIZE_BYTES], uint32_t place,
                            enum kv_row_kind kind, struct txn_id id)
{
    kv__row_prefix(target, place, kind);
    endian_put_u64_be(target + 4, id.begun_ms);
    endian_put_u64_be(target + 12, id.origin);
    endian_put_u64_be(target + 20, id.number);
    return bytes_make(target, KV_RECORD_ROW_SIZE_BYTES);
}

struct txn_id kv__record_id(struct bytes row)
{
    ASSERT(row.size_bytes == KV_RECORD_ROW_SIZE_BYTES);
    return (struct txn_id){.origin = endian_get_u64_be(row.data + 12),
                           .number = endian_get_u64_be(row.data + 20),
                           .begun_ms = endian_get_u64_be(row.data + 4)};
}

/* ---- Values ---------------------------------------------------------------------------------- */

void kv__record_encode(const struct kv_record *record, const struct bytes *arguments,
                       struct buffer *target)
{
    buffer_clear(target);
    bool is_prepared = record->state == KV_RECORD_PREPARED;
    uint8_t *header = buffer_extend(target, is_prepared ? RECORD_HEADER_SIZE_BYTES : 1);
    header[0] = (uint8_t)record->state;
    if (!is_prepared) {
        return;
    }
    header[1] = record->protocol;
    header[2] = 0;
    header[3] = 0;
    endian_put_u32_le(header + 4, record->home);
    endian_put_u64_le(header + 8, record->stamp_ms);
    endian_put_u32_le(header + 16, record->argument_count);
    for (uint32_t i = 0; i < record->argument_count; i++) {
        endian_put_u32_le(buffer_extend(target, SIZE_SIZE_BYTES),
                          (uint32_t)arguments[i].size_bytes);
        buffer_append(target, arguments[i]);
    }
}

static bool are_arguments_whole(struct bytes part, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (part.size_bytes < SIZE_SIZE_BYTES) {
            return false;
        }
        uint32_t size = endian_get_u32_le(part.data);
        if (size > part.size_bytes - SIZE_SIZE_BYTES) {
            return false;
        }
        part = bytes_make(part.data + SIZE_SIZE_BYTES + size,
                          part.size_bytes - SIZE_SIZE_BYTES - size);
    }
    return part.size_bytes == 0;
}

int kv__record_decode(struct bytes row, struct kv_record *record)
{
    if (row.size_bytes == 1 &&
        (row.data[0] == KV_RECORD_COMMITTED || row.data[0] == KV_RECORD_ABORTED)) {
        *record = (struct kv_record){.state = (enum kv_record_state)row.data[0]};
        return 0;
    }
    if (row.size_bytes < RECORD_HEADER_SIZE_BYTES || row.data[0] != KV_RECORD_PREPARED ||
        (row.data[1] != 2 && row.data[1] != 3) || row.data[2] != 0 || row.data[3] != 0) {
        return ERROR_CORRUPT;
    }
    struct kv_record decoded = {
        .state = KV_RECORD_PREPARED,
        .protocol = row.data[1],
        .home = endian_get_u32_le(row.data + 4),
        .stamp_ms = endian_get_u64_le(row.data + 8),
        .argument_count = endian_get_u32_le(row.data + 16),
        .part = bytes_make(row.data + RECORD_HEADER_SIZE_BYTES,
                           row.size_bytes - RECORD_HEADER_SIZE_BYTES),
    };
    if (decoded.home >= KV_SLOT_COUNT || decoded.argument_count > SHARD_ARGUMENT_COUNT_MAX ||
        !are_arguments_whole(decoded.part, decoded.argument_count)) {
        return ERROR_CORRUPT;
    }
    *record = decoded;
    return 0;
}

struct bytes *kv__record_arguments(const struct kv_record *record)
{
    struct bytes *arguments = memory_allocate((record->argument_count + 1u) * sizeof arguments[0]);
    const uint8_t *at = record->part.data;
    for (uint32_t i = 0; i < record->argument_count; i++) {
        uint32_t size = endian_get_u32_le(at);
        arguments[i] = bytes_make(at + SIZE_SIZE_BYTES, size);
        at += SIZE_SIZE_BYTES + size;
    }
    return arguments;
}

void kv__decision_encode(const struct kv_decision *decision, struct buffer *target)
{
    buffer_clear(target);
    uint8_t *header = buffer_extend(target, DECISION_HEADER_SIZE_BYTES);
    memset(header, 0, DECISION_HEADER_SIZE_BYTES);
    header[0] = decision->is_commit ? TXN_COMMIT : TXN_ABORT;
    header[1] = decision->is_forgotten ? 1 : 0;
    endian_put_u64_le(header + 8, decision->stamp_ms);
    buffer_append(target, decision->places);
}

int kv__decision_decode(struct bytes row, struct kv_decision *decision)
{
    if (row.size_bytes < DECISION_HEADER_SIZE_BYTES || row.data[1] > 1 ||
        (row.data[0] != TXN_COMMIT && row.data[0] != TXN_ABORT) ||
        (row.size_bytes - DECISION_HEADER_SIZE_BYTES) % 4 != 0) {
        return ERROR_CORRUPT;
    }
    for (int i = 2; i < 8; i++) {
        if (row.data[i] != 0) {
            return ERROR_CORRUPT;
        }
    }
    struct kv_decision decoded = {
        .is_commit = row.data[0] == TXN_COMMIT,
        .is_forgotten = row.data[1] != 0,
        .stamp_ms = endian_get_u64_le(row.data + 8),
        .places = bytes_make(row.data + DECISION_HEADER_SIZE_BYTES,
                             row.size_bytes - DECISION_HEADER_SIZE_BYTES),
    };
    if (decoded.is_commit != (decoded.places.size_bytes > 0) ||
        (decoded.is_forgotten && !decoded.is_commit)) {
        return ERROR_CORRUPT;
    }
    for (size_t i = 0; i < decoded.places.size_bytes; i += 4) {
        if (endian_get_u32_le(decoded.places.data + i) >= KV_SLOT_COUNT) {
            return ERROR_CORRUPT;
        }
    }
    *decision = decoded;
    return 0;
}

/* ---- What is not finished -------------------------------------------------------------------- */

void kv__unfinished_add(struct kv *kv, const struct kv__unfinished *unfinished)
{
    if (kv->unfinished_count == kv->unfinished_capacity) {
        kv->unfinished_capacity = kv->unfinished_capacity == 0 ? 16 : 2 * kv->unfinished_capacity;
        kv->unfinished =
            memory_resize(kv->unfinished, kv->unfinished_capacity * sizeof *kv->unfinished);
    }
    struct kv__unfinished *added = &kv->unfinished[kv->unfinished_count++];
    *added = *unfinished;
    added->places = NULL;
    if (unfinished->place_count > 0) {
        size_t size = unfinished->place_count * sizeof added->places[0];
        added->places = memory_allocate(size);
        memcpy(added->places, unfinished->places, size);
    }
}

bool kv__unfinished_has(const struct kv *kv, struct txn_id id, uint32_t place)
{
    for (uint32_t i = 0; i < kv->unfinished_count; i++) {
        const struct kv__unfinished *at = &kv->unfinished[i];
        if (txn_id_equal(at->id, id) && at->place == place && !at->is_decision) {
            return true;
        }
    }
    return false;
}

void kv__unfinished_remove(struct kv *kv, struct txn_id id, uint32_t place, bool is_decision)
{
    for (uint32_t i = 0; i < kv->unfinished_count; i++) {
        struct kv__unfinished *at = &kv->unfinished[i];
        if (txn_id_equal(at->id, id) && at->place == place && at->is_decision == is_decision) {
            memory_free(at->places);
            *at = kv->unfinished[--kv->unfinished_count];
            return;
        }
    }
}

void kv__records_deinit(struct kv *kv)
{
    for (uint32_t i = 0; i < kv->unfinished_count; i++) {
        memory_free(kv->unfinished[i].places);
    }
    memory_free(kv->unfinished);
    kv->unfinished = NULL;
    kv->unfinished_count = 0;
    kv->unfinished_capacity = 0;
    kv->unfinished_next = 0;
    kv__key_set_deinit(&kv->locks);
    kv__key_set_deinit(&kv->intents);
    kv__waits(kv, NULL);
    buffer_deinit(&kv->part);
    kv__forgetting_deinit(kv);
}

void kv__records_cut(struct kv *kv)
{
    for (uint32_t i = kv->unfinished_count; i-- > 0;) {
        const struct kv__unfinished at = kv->unfinished[i];
        if (at.place >= kv->end_slot) {
            kv__unfinished_remove(kv, at.id, at.place, at.is_decision);
        }
    }
    for (uint32_t slot = kv->end_slot; slot < KV_SLOT_COUNT; slot++) {
        kv__slot_set_put(&kv->record_hints, slot, false);
    }
    kv__forgetting_cut(kv);
}

bool kv_visit_unfinished(struct kv *kv, const struct kv_visit *visit)
{
    uint32_t first = kv->unfinished_count == 0 ? 0 : kv->unfinished_next % kv->unfinished_count;
    bool has_room = true;
    for (uint32_t i = 0; i < kv->unfinished_count; i++) {
        uint32_t index = (first + i) % kv->unfinished_count;
        struct kv__unfinished *at = &kv->unfinished[index];
        at->seen_at_ms = at->was_seen ? at->seen_at_ms : visit->now_ms;
        at->was_seen = true;
        if (!has_room || visit->now_ms - at->seen_at_ms < visit->age_ms) {
            continue;
        }
        const struct txn_unfinished unfinished = {
            .id = at->id,
            .place = at->place,
            .home = at->home,
            .places = at->places,
            .place_count = at->place_count,
        };
        has_room = visit->found(visit->context, &unfinished);
        kv->unfinished_next = has_room ? kv->unfinished_next : index;
    }
    return has_room;
}

void kv_visit_unfinished_of_all(struct kv *(*machine)(void *context, uint32_t index),
                                uint32_t count, uint32_t *next, const struct kv_visit *visit)
{
    uint32_t first = *next;
    bool has_room = true;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = (first + i) % count;
        struct kv *kv = machine(visit->context, index);
        if (kv != NULL && !kv_visit_unfinished(kv, visit) && has_room) {
            has_room = false;
            *next = (index + 1) % count;
        }
    }
}

/* ---- Loading --------------------------------------------------------------------------------- */

static int load_record(struct kv *kv, struct bytes row, uint32_t place, struct bytes value)
{
    struct kv_record record;
    int status = kv__record_decode(value, &record);
    if (status == 0 && record.state == KV_RECORD_PREPARED) {
        const struct kv__unfinished unfinished = {
            .id = kv__record_id(row), .place = place, .home = record.home};
        kv__unfinished_add(kv, &unfinished);
    }
    return status;
}

void kv__decision_open(struct kv *kv, struct txn_id id, uint32_t home,
                       const struct kv_decision *decision)
{
    uint32_t count = (uint32_t)(decision->places.size_bytes / 4);
    uint32_t *places = memory_allocate((count + 1u) * sizeof places[0]);
    for (uint32_t i = 0; i < count; i++) {
        places[i] = endian_get_u32_le(decision->places.data + 4 * (size_t)i);
    }
    const struct kv__unfinished unfinished = {
        .id = id,
        .place = home,
        .home = home,
        .is_decision = true,
        .places = places,
        .place_count = count,
    };
    kv__unfinished_add(kv, &unfinished);
    memory_free(places);
}

static int load_row(struct kv *kv, const struct kv_row_name *name, struct bytes row,
                    struct bytes value)
{
    struct kv_decision decision;
    int status = 0;
    switch (name->kind) {
    case KV_ROW_LOCK:
        kv__key_set_add(&kv->locks, kv__key_hash(name->name));
        return 0;
    case KV_ROW_RECORD:
        kv__record_hint(kv, name->slot, KV_ROW_RECORD, kv__record_id(row));
        return load_record(kv, row, name->slot, value);
    case KV_ROW_DECISION:
        kv__record_hint(kv, name->slot, KV_ROW_DECISION, kv__record_id(row));
        status = kv__decision_decode(value, &decision);
        if (status == 0 && decision.is_commit && !decision.is_forgotten) {
            kv__decision_open(kv, kv__record_id(row), name->slot, &decision);
        }
        return status;
    case KV_ROW_KEY:
    case KV_ROW_FIELD:
    case KV_ROW_EXPIRY:
    case KV_ROW_GARBAGE:
        break;
    }
    return 0;
}

/* At each turn the iterator is at a row; one that is none of ours sends it to where ours would be. */
static int load_rows(struct kv *kv, struct rows_iterator *iterator)
{
    uint8_t target[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_prefix(target, kv->first_slot, KV_ROW_LOCK);
    int status = rows_iterator_seek(iterator, bytes_make(target, sizeof target));
    while (status == 0) {
        struct kv_row_name name;
        struct bytes row = rows_iterator_key(iterator);
        if (!kv__row_parse(row, &name)) {
            return ERROR_CORRUPT;
        }
        if (name.kind < KV_ROW_LOCK) {
            kv__row_prefix(target, name.slot, KV_ROW_LOCK);
            status = rows_iterator_seek(iterator, bytes_make(target, sizeof target));
            continue;
        }
        status = load_row(kv, &name, row, rows_iterator_value(iterator));
        if (status == 0) {
            status = rows_iterator_next(iterator);
        }
    }
    return status == -ENOENT ? 0 : status;
}

int kv__records_load(struct kv *kv, struct rows *rows, struct error *error)
{
    kv__records_deinit(kv);
    if (kv->record_count == 0) {
        return 0;
    }
    __atomic_store_n(&kv->has_ever_locked, true, __ATOMIC_RELAXED);
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_bounds(kv, lower, upper);
    struct rows_iterator *iterator;
    int status = rows_iterator_open(rows, bytes_make(lower, sizeof lower),
                                    bytes_make(upper, sizeof upper), &iterator);
    if (status == 0) {
        status = load_rows(kv, iterator);
        rows_iterator_close(iterator);
    }
    return status == 0 ? 0 : error_set(error, status, "look for transactions");
}
