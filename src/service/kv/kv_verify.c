/* SPDX-License-Identifier: Apache-2.0 */
/* Verify the rows of a store against the invariants of kv.h, in one pass.
 *
 * Within a slot, rows come in the order keys, fields, expiry, garbage, locks, records, decisions. The pass remembers the
 * hashes and the expiring keys of one slot at a time, counts field rows against them, and settles a
 * slot when it ends. */
#include <stdlib.h>

#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_record.h"
#include "service/kv/kv_verify.h"

/* Fields that were seen, or that a hash says it has. */
struct generation {
    uint64_t id;
    uint64_t expected_count;
    uint64_t seen_count;
    bool has_owner;
    bool is_garbage;
};

struct verification {
    struct env_store store;
    const struct env_store_snapshot *snapshot;
    struct error *error;
    uint64_t key_count;
    uint32_t slot;
    struct generation *generations; /* Of this slot, in no order until it is settled. */
    size_t generation_count;
    size_t generation_capacity;
    uint64_t expiring_key_count; /* Of this slot. */
    uint64_t expiry_row_count;
    struct buffer row;
};

static int corrupt(struct verification *verification, const char *what)
{
    return error_say(verification->error, ERROR_CORRUPT, "slot %u: %s", verification->slot, what);
}

static void add_generation(struct verification *verification, const struct generation *generation)
{
    if (verification->generation_count == verification->generation_capacity) {
        size_t capacity = verification->generation_capacity * 2 + 16;
        verification->generations =
            memory_resize(verification->generations, capacity * sizeof *verification->generations);
        verification->generation_capacity = capacity;
    }
    verification->generations[verification->generation_count++] = *generation;
}

static int compare_generations(const void *left, const void *right)
{
    uint64_t left_id = ((const struct generation *)left)->id;
    uint64_t right_id = ((const struct generation *)right)->id;
    return (left_id > right_id) - (left_id < right_id);
}

static int settle_generation(struct verification *verification, const struct generation *all)
{
    if (all->has_owner && all->is_garbage) {
        return corrupt(verification, "a hash's fields are in the garbage");
    }
    if (all->has_owner && all->seen_count != all->expected_count) {
        return corrupt(verification, "a hash's count is not that of its fields");
    }
    if (!all->has_owner && !all->is_garbage && all->seen_count > 0) {
        return corrupt(verification, "fields that belong to no hash");
    }
    return 0;
}

/* What was said of each generation comes together, and must agree. */
static int settle_slot(struct verification *verification)
{
    if (verification->expiring_key_count != verification->expiry_row_count) {
        return corrupt(verification, "a key that expires has no expiry row");
    }
    size_t count = verification->generation_count;
    struct generation *sorted = verification->generations;
    if (count > 0) {
        qsort(sorted, count, sizeof *sorted, compare_generations);
    }
    for (size_t i = 0; i < count;) {
        struct generation all = {.id = sorted[i].id};
        for (; i < count && sorted[i].id == all.id; i++) {
            if (all.has_owner && sorted[i].has_owner) {
                return corrupt(verification, "two hashes share their fields");
            }
            all.has_owner |= sorted[i].has_owner;
            all.is_garbage |= sorted[i].is_garbage;
            all.expected_count += sorted[i].expected_count;
            all.seen_count += sorted[i].seen_count;
        }
        int status = settle_generation(verification, &all);
        if (status != 0) {
            return status;
        }
    }
    verification->generation_count = 0;
    verification->expiring_key_count = 0;
    verification->expiry_row_count = 0;
    return 0;
}

static int verify_key(struct verification *verification, const struct kv_row_name *name,
                      struct bytes row)
{
    struct kv_value value;
    if (kv__value_decode(row, &value) != 0) {
        return corrupt(verification, "a key's value cannot be read");
    }
    if (kv_slot_of_key(name->name) != name->slot || kv__hash(name->name) != name->hash) {
        return corrupt(verification, "a key is in the wrong place");
    }
    verification->key_count++;
    verification->expiring_key_count += value.expire_ms != 0;
    if (value.type == KV_TYPE_HASH) {
        struct generation generation = {
            .id = value.generation, .expected_count = value.count, .has_owner = true};
        add_generation(verification, &generation);
    }
    return 0;
}

static int verify_field(struct verification *verification, const struct kv_row_name *name)
{
    if (kv__hash(name->name) != name->hash) {
        return corrupt(verification, "a field is in the wrong place");
    }
    struct generation *last = verification->generation_count == 0
                                  ? NULL
                                  : &verification->generations[verification->generation_count - 1];
    if (last != NULL && !last->has_owner && last->id == name->number) {
        last->seen_count++;
        return 0;
    }
    struct generation generation = {.id = name->number, .seen_count = 1};
    add_generation(verification, &generation);
    return 0;
}

/* I2, the other way round: an expiry row's key is there and says the same. */
static int verify_expiry(struct verification *verification, const struct kv_row_name *name)
{
    struct kv_key key;
    struct kv_value value;
    kv__key_init(&key, name->name);
    buffer_clear(&verification->row);
    const struct env_store *store = &verification->store;
    int status = store->ops->get(store->context, verification->snapshot, ENV_TIER_DISK, key.row,
                                 &verification->row);
    if (status == 0) {
        status = kv__value_decode(buffer_bytes(&verification->row), &value);
    }
    if (status == -EIO) {
        return error_set(verification->error, status, "slot %u", verification->slot);
    }
    if (status != 0 || value.expire_ms != name->number || key.slot != name->slot) {
        return corrupt(verification, "an expiry row does not agree with its key");
    }
    verification->expiry_row_count++;
    return 0;
}

static int verify_transaction(struct verification *verification, const struct kv_row_name *name,
                              struct bytes row, struct bytes value)
{
    const struct kv__verify_store store = {verification->store, verification->snapshot};
    const char *wrong = NULL;
    int status = 0;
    if (name->kind == KV_ROW_DECISION) {
        struct kv_decision decision;
        if (kv__decision_decode(value, &decision) != 0) {
            wrong = "the decision about a transaction cannot be read";
        }
    } else if (name->kind == KV_ROW_RECORD) {
        status = kv__verify_record(&store, row, value, &wrong);
    } else if (kv_slot_of_key(name->name) != name->slot || kv__hash(name->name) != name->hash) {
        wrong = "a lock is in the wrong place";
    } else {
        status = kv__verify_lock(&store, name, value, &wrong);
    }
    if (status != 0) {
        return error_set(verification->error, status, "slot %u", verification->slot);
    }
    return wrong == NULL ? 0 : corrupt(verification, wrong);
}

static int verify_row(struct verification *verification, struct bytes row, struct bytes value)
{
    struct kv_row_name name;
    if (!kv__row_parse(row, &name)) {
        return corrupt(verification, "a row that kv does not write");
    }
    int status = 0;
    if (name.slot != verification->slot) {
        status = settle_slot(verification);
        verification->slot = name.slot;
    }
    if (status != 0) {
        return status;
    }
    switch (name.kind) {
    case KV_ROW_KEY:
        return verify_key(verification, &name, value);
    case KV_ROW_FIELD:
        return verify_field(verification, &name);
    case KV_ROW_EXPIRY:
        return verify_expiry(verification, &name);
    case KV_ROW_LOCK:
        return verify_transaction(verification, &name, row, value);
    case KV_ROW_RECORD:
    case KV_ROW_DECISION:
        return name.name.size_bytes == 0
                   ? verify_transaction(verification, &name, row, value)
                   : corrupt(verification, "a transaction's row with a longer name");
    case KV_ROW_GARBAGE: {
        struct generation generation = {.id = name.number, .is_garbage = true};
        add_generation(verification, &generation);
        return name.name.size_bytes == 0 ? 0 : corrupt(verification, "a garbage row with a name");
    }
    }
    return 0;
}

static int verify_rows(struct verification *verification, struct env_iterator *iterator,
                       struct bytes lower)
{
    const struct env_store *store = &verification->store;
    int status = store->ops->iterator_seek(store->context, iterator, lower);
    while (status == 0) {
        status = verify_row(verification, store->ops->iterator_key(store->context, iterator),
                            store->ops->iterator_value(store->context, iterator));
        if (status != 0) {
            return status;
        }
        status = store->ops->iterator_next(store->context, iterator);
    }
    if (status != -ENOENT) {
        return error_set(verification->error, status, "read the rows of kv");
    }
    return settle_slot(verification);
}

int kv_verify(struct env_store store, const struct env_store_snapshot *snapshot,
              uint64_t expected_key_count, struct error *error)
{
    struct verification verification = {.store = store, .snapshot = snapshot, .error = error};
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_prefix(lower, 0, KV_ROW_KEY);
    /* Also rows behind the last slot, which nobody writes. */
    memset(upper, 0, sizeof upper);
    upper[0] = KV_SPACE + 1;
    struct env_iterator *iterator;
    int status =
        store.ops->iterator_open(store.context, snapshot, ENV_TIER_DISK,
                                 bytes_make(lower, sizeof lower), bytes_make(upper, 1), &iterator);
    if (status != 0) {
        return error_set(error, status, "read the rows of kv");
    }
    status = verify_rows(&verification, iterator, bytes_make(lower, sizeof lower));
    store.ops->iterator_close(store.context, iterator);
    memory_free(verification.generations);
    buffer_deinit(&verification.row);
    if (status == 0 && verification.key_count != expected_key_count) {
        status = error_say(
            error, ERROR_CORRUPT, "%llu keys, but the state of the machine says %llu",
            (unsigned long long)verification.key_count, (unsigned long long)expected_key_count);
    }
    return status;
}

/* ---- Counts ---------------------------------------------------------------------------------- */

/* Fields, which nobody counts, are passed over. */
static int count_rows(const struct env_store *store, struct env_iterator *iterator,
                      struct bytes lower, struct kv__counts *counts)
{
    uint8_t target[KV_ROW_PREFIX_SIZE_BYTES];
    int status = store->ops->iterator_seek(store->context, iterator, lower);
    while (status == 0) {
        struct kv_row_name name;
        if (!kv__row_parse(store->ops->iterator_key(store->context, iterator), &name)) {
            return ERROR_CORRUPT;
        }
        if (name.kind == KV_ROW_FIELD) {
            kv__row_prefix(target, name.slot, KV_ROW_EXPIRY);
            status = store->ops->iterator_seek(store->context, iterator,
                                               bytes_make(target, sizeof target));
        } else {
            kv__count_row(counts, name.kind);
            status = store->ops->iterator_next(store->context, iterator);
        }
    }
    return status == -ENOENT ? 0 : status;
}

struct count_check {
    struct env_store store;
    const struct env_store_snapshot *snapshot;
    uint32_t first_slot;
    uint32_t end_slot;
    const char *whose;
};

static int say_counts(const struct count_check *check, const struct kv__counts *found,
                      const struct kv__counts *expected, struct error *error)
{
    const struct {
        const char *name;
        uint64_t found;
        uint64_t expected;
    } counts[] = {
        {"keys", found->key_count, expected->key_count},
        {"keys that expire", found->expiring_key_count, expected->expiring_key_count},
        {"rows of garbage", found->garbage_count, expected->garbage_count},
        {"records of transactions", found->record_count, expected->record_count},
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (counts[i].found != counts[i].expected) {
            return error_say(error, ERROR_CORRUPT, "slots %u to %u: %llu %s, but %s says %llu",
                             check->first_slot, check->end_slot - 1,
                             (unsigned long long)counts[i].found, counts[i].name, check->whose,
                             (unsigned long long)counts[i].expected);
        }
    }
    return 0;
}

static int verify_counts(const struct count_check *check, const struct kv__counts *expected,
                         struct error *error)
{
    const struct env_store *store = &check->store;
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    struct kv__counts counts = {0};
    struct env_iterator *iterator;
    kv__row_prefix(lower, check->first_slot, KV_ROW_KEY);
    kv__row_prefix(upper, check->end_slot, KV_ROW_KEY);
    struct bytes from = bytes_make(lower, sizeof lower);
    int status = store->ops->iterator_open(store->context, check->snapshot, ENV_TIER_DISK, from,
                                           bytes_make(upper, sizeof upper), &iterator);
    if (status == 0) {
        status = count_rows(store, iterator, from, &counts);
        store->ops->iterator_close(store->context, iterator);
    }
    return status == 0 ? say_counts(check, &counts, expected, error)
                       : error_set(error, status, "count the rows of kv");
}

int kv_verify_counts(const struct kv *kv, struct env_store store,
                     const struct env_store_snapshot *snapshot, struct error *error)
{
    const struct kv__saved state = kv__saved_of(kv);
    const struct count_check all = {store, snapshot, kv->first_slot, kv->end_slot,
                                    "the state of the machine"};
    const struct count_check census = {store, snapshot, state.census.first_slot,
                                       state.census.next_slot, "the census"};
    int status = verify_counts(&all, &state.counts, error);
    if (status == 0 && census.first_slot < census.end_slot) {
        status = verify_counts(&census, &state.census.counts, error);
    }
    return status;
}
