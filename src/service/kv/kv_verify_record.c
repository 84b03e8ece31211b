/* SPDX-License-Identifier: Apache-2.0 */
/* I6: locks and prepared parts say the same. */
#include "service/kv/kv_verify.h"

#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "service/kv/kv_part.h"
#include "service/kv/kv_participant.h"

enum { LOCK_VALUE_SIZE_BYTES = 28 };

/* The record of a row: its arguments borrow from `value`. */
struct part_row {
    struct buffer value;
    struct bytes *arguments;
    struct kv_call call; /* Of the part: no more than its arguments. */
    struct kv__part part;
};

static void part_row_deinit(struct part_row *row)
{
    memory_free(row->arguments);
    buffer_deinit(&row->value);
}

/* NULL, or what is wrong. */
static const char *part_row_open(struct part_row *row)
{
    struct kv_record record;
    if (kv__record_decode(buffer_bytes(&row->value), &record) != 0) {
        return "the record of a transaction cannot be read";
    }
    if (record.state != KV_RECORD_PREPARED) {
        return NULL;
    }
    row->arguments = kv__record_arguments(&record);
    row->call.arguments = row->arguments;
    row->call.argument_count = record.argument_count;
    return kv__part_parse(&row->call, &row->part) ? NULL : "a prepared part cannot be read";
}

static int get(const struct kv__verify_store *store, struct bytes row, struct buffer *value)
{
    buffer_clear(value);
    return store->store.ops->get(store->store.context, store->snapshot, ENV_TIER_DISK, row, value);
}

/* ---- A prepared part: each of its keys is locked by it --------------------------------------- */

struct lock_question {
    const struct kv__verify_store *store;
    struct txn_id id;
    uint32_t place;
    struct buffer value;
    int status;
};

static void lock_value(uint8_t *target, struct txn_id id, uint32_t place)
{
    endian_put_u64_le(target, id.origin);
    endian_put_u64_le(target + 8, id.number);
    endian_put_u64_le(target + 16, id.begun_ms);
    endian_put_u32_le(target + 24, place);
}

static bool is_locked(void *context, struct bytes name)
{
    struct lock_question *question = context;
    uint8_t row[KV_KEY_ROW_PREFIX_SIZE_BYTES + KV_KEY_SIZE_BYTES_MAX];
    uint8_t expected[LOCK_VALUE_SIZE_BYTES];
    lock_value(expected, question->id, question->place);
    int status = get(question->store, kv__lock_row(row, name), &question->value);
    if (status == 0 &&
        !bytes_equal(buffer_bytes(&question->value), bytes_make(expected, sizeof expected))) {
        status = -ENOENT;
    }
    question->status = status;
    return status == 0;
}

int kv__verify_record(const struct kv__verify_store *store, struct bytes name, struct bytes value,
                      const char **wrong)
{
    struct part_row row = {0};
    buffer_append(&row.value, value);
    *wrong = part_row_open(&row);
    int status = 0;
    if (*wrong == NULL && row.arguments != NULL) {
        struct lock_question question = {
            .store = store, .id = kv__record_id(name), .place = endian_get_u16_be(name.data + 1)};
        (void)kv__part_visit(&row.call, &row.part, is_locked, &question);
        status = question.status == -ENOENT ? 0 : question.status;
        *wrong = question.status == -ENOENT ? "a prepared part has not locked its keys" : NULL;
        buffer_deinit(&question.value);
    }
    part_row_deinit(&row);
    return status;
}

/* ---- A lock: its part is prepared and names the key ------------------------------------------ */

static bool is_other(void *context, struct bytes name)
{
    return !bytes_equal(*(const struct bytes *)context, name);
}

int kv__verify_lock(const struct kv__verify_store *store, const struct kv_row_name *name,
                    struct bytes value, const char **wrong)
{
    *wrong = "a lock that no prepared part holds";
    if (value.size_bytes != LOCK_VALUE_SIZE_BYTES ||
        endian_get_u32_le(value.data + 24) >= KV_SLOT_COUNT) {
        return 0;
    }
    struct txn_id id = {endian_get_u64_le(value.data), endian_get_u64_le(value.data + 8),
                        endian_get_u64_le(value.data + 16)};
    uint8_t record[KV_RECORD_ROW_SIZE_BYTES];
    struct part_row row = {0};
    struct bytes key = name->name;
    int status =
        get(store, kv__record_row(record, endian_get_u32_le(value.data + 24), KV_ROW_RECORD, id),
            &row.value);
    if (status == 0 && part_row_open(&row) == NULL && row.arguments != NULL &&
        !kv__part_visit(&row.call, &row.part, is_other, &key)) {
        *wrong = NULL;
    }
    part_row_deinit(&row);
    return status == -ENOENT ? 0 : status;
}
