/* SPDX-License-Identifier: Apache-2.0 */
/* What has to wait for a transaction, and the set of keys.
 *
 * A command must not get into the log where, at its place, a key of it may be locked: what its session
 * sent behind it would be executed before it. So the leader asks before. It knows the locks as of
 * what is applied, and of each PREPARE that is in the log but not applied it knows the keys: the
 * intents. Those are no part of the state; they end when the PREPARE is applied, or the
 * leadership. */
#include "service/kv/kv_lock.h"

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/hash/hash.h"
#include "base/memory/memory.h"
#include "service/kv/kv_part.h"

enum { CAPACITY_MIN = 64 };

/* ---- The set --------------------------------------------------------------------------------- */

/* Open addressing, linear probing; gaps are closed. Hash 0 marks a free place, so 0 counts as 1. */
static uint64_t key_of(uint64_t hash)
{
    return hash == 0 ? 1 : hash;
}

static uint32_t find(const struct kv__key_set *set, uint64_t key)
{
    uint32_t place = (uint32_t)key & (set->capacity - 1);
    while (set->places[place].hash != 0 && set->places[place].hash != key) {
        place = (place + 1) & (set->capacity - 1);
    }
    return place;
}

bool kv__key_set_has(const struct kv__key_set *set, uint64_t hash)
{
    return set->count > 0 && set->places[find(set, key_of(hash))].hash != 0;
}

static void grow(struct kv__key_set *set)
{
    struct kv__key_set before = *set;
    set->capacity = before.capacity == 0 ? CAPACITY_MIN : 2 * before.capacity;
    set->places = memory_allocate_zeroed(set->capacity, sizeof *set->places);
    for (uint32_t i = 0; i < before.capacity; i++) {
        if (before.places[i].hash != 0) {
            set->places[find(set, before.places[i].hash)] = before.places[i];
        }
    }
    memory_free(before.places);
}

void kv__key_set_add(struct kv__key_set *set, uint64_t hash)
{
    if (2 * (set->count + 1) > set->capacity) {
        grow(set);
    }
    struct kv__key_place *place = &set->places[find(set, key_of(hash))];
    set->count += place->hash == 0;
    place->hash = key_of(hash);
    place->times++;
}

void kv__key_set_remove(struct kv__key_set *set, uint64_t hash)
{
    if (set->count == 0) {
        return;
    }
    uint32_t mask = set->capacity - 1;
    uint32_t hole = find(set, key_of(hash));
    if (set->places[hole].hash == 0 || --set->places[hole].times > 0) {
        return;
    }
    for (uint32_t next = (hole + 1) & mask; set->places[next].hash != 0; next = (next + 1) & mask) {
        uint32_t home = (uint32_t)set->places[next].hash & mask;
        /* It may move into the hole unless its home is behind the hole. */
        if (((next - home) & mask) >= ((next - hole) & mask)) {
            set->places[hole] = set->places[next];
            hole = next;
        }
    }
    set->places[hole] = (struct kv__key_place){0};
    set->count--;
}

void kv__key_set_deinit(struct kv__key_set *set)
{
    memory_free(set->places);
    *set = (struct kv__key_set){0};
}

uint64_t kv__key_hash(struct bytes name)
{
    return hash_bytes(name, 0);
}

struct bytes kv__lock_row(uint8_t *target, struct bytes name)
{
    ASSERT(name.size_bytes <= KV_KEY_SIZE_BYTES_MAX);
    kv__row_prefix(target, kv_slot_of_key(name), KV_ROW_LOCK);
    endian_put_u32_be(target + KV_ROW_PREFIX_SIZE_BYTES, kv__hash(name));
    if (name.size_bytes > 0) {
        memcpy(target + KV_KEY_ROW_PREFIX_SIZE_BYTES, name.data, name.size_bytes);
    }
    return bytes_make(target, KV_KEY_ROW_PREFIX_SIZE_BYTES + name.size_bytes);
}

/* ---- Is a command's key locked? -------------------------------------------------------------- */

struct question {
    const struct kv_call *call;
    const struct kv__key_set *intents; /* NULL: locks alone count. */
    int answer;
};

static bool ask_memory(void *context, struct bytes name)
{
    struct question *question = context;
    uint64_t hash = kv__key_hash(name);
    bool is_held = kv__key_set_has(&question->call->kv->locks, hash) ||
                   (question->intents != NULL && kv__key_set_has(question->intents, hash));
    question->answer = is_held ? 1 : 0;
    return !is_held;
}

static bool ask_rows(void *context, struct bytes name)
{
    struct question *question = context;
    uint8_t row[KV_KEY_ROW_PREFIX_SIZE_BYTES + KV_KEY_SIZE_BYTES_MAX];
    struct bytes value;
    int status = rows_get(question->call->rows, kv__lock_row(row, name), &value);
    question->answer = status == 0 ? 1 : status == -ENOENT ? 0 : status;
    return question->answer == 0;
}

static void visit_keys(const struct kv_call *call, kv__key_visitor *visit, void *context)
{
    struct kv__part part;
    if (call->entry->command.opcode != KV_OPCODE_TRANSACTION) {
        (void)kv__keys_visit(call, visit, context);
    } else if (kv__part_parse(call, &part)) {
        (void)kv__part_visit(call, &part, visit, context);
    }
}

static bool is_flush(const struct kv__entry *entry)
{
    return entry->execute == kv__command_flushall;
}

int kv__is_locked(const struct kv_call *call)
{
    struct question question = {.call = call};
    if (!rows_is_live(call->rows)) {
        visit_keys(call, ask_rows, &question);
        return question.answer;
    }
    if (call->kv->locks.count == 0) {
        return 0;
    }
    if (is_flush(call->entry)) {
        return 1;
    }
    visit_keys(call, ask_memory, &question);
    return question.answer;
}

/* ---- What the leader asks -------------------------------------------------------------------- */

bool kv__must_wait(void *context, const struct shard_command *command)
{
    struct kv *kv = context;
    if (kv->locks.count == 0 && kv->intents.count == 0) {
        return false;
    }
    struct kv_call call = {
        .kv = kv,
        .entry = kv__entry_of_opcode(command->opcode),
        .arguments = command->arguments,
        .argument_count = command->argument_count,
    };
    ASSERT(call.entry != NULL);
    if (is_flush(call.entry)) {
        return true;
    }
    struct question question = {.call = &call, .intents = &kv->intents};
    if (BUG("kv.intents_ignored")) {
        question.intents = NULL;
    }
    visit_keys(&call, ask_memory, &question);
    return question.answer != 0;
}

static bool add_intent(void *context, struct bytes name)
{
    struct kv *kv = context;
    kv__key_set_add(&kv->intents, kv__key_hash(name));
    return true;
}

void kv__gathered(void *context, const struct shard_command *command)
{
    struct kv *kv = context;
    if (command == NULL) {
        kv__key_set_deinit(&kv->intents);
        return;
    }
    if (command->opcode != KV_OPCODE_PREPARE || command->argument_count < 2) {
        return;
    }
    struct kv_call call = {
        .kv = kv,
        .entry = kv__entry_of_opcode(command->opcode),
        .arguments = command->arguments + 1,
        .argument_count = command->argument_count - 1,
    };
    struct kv__part part;
    if (kv__part_parse(&call, &part)) {
        (void)kv__part_visit(&call, &part, add_intent, kv);
    }
}
