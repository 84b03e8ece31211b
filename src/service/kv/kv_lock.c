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
#include "service/kv/kv_record.h"

enum {
    CAPACITY_MIN = 64,
    /* Of PREPAREs that wait in a shard, which the routes on the way keep, too; one may be longer. */
    AWAITED_SIZE_BYTES_MAX = 256 << 10,
};

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
    const struct kv__key_set *intents; /* NULL: they do not count. */
    const struct kv__key_set *awaited; /* The same. */
    int answer;
};

static bool ask_memory(void *context, struct bytes name)
{
    struct question *question = context;
    uint64_t hash = kv__key_hash(name);
    bool is_held = kv__key_set_has(&question->call->kv->locks, hash) ||
                   (question->intents != NULL && kv__key_set_has(question->intents, hash)) ||
                   (question->awaited != NULL && kv__key_set_has(question->awaited, hash));
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

/* Of PREPARE: a call of the part behind the header. */
static bool parse_prepare(struct kv *kv, const struct shard_command *command, struct kv_call *call,
                          struct kv__part *part)
{
    if (command->argument_count < 2) {
        return false;
    }
    *call = (struct kv_call){
        .kv = kv,
        .entry = kv__entry_of_opcode(KV_OPCODE_TRANSACTION),
        .arguments = command->arguments + 1,
        .argument_count = command->argument_count - 1,
    };
    return kv__part_parse(call, part);
}

/* The keys that a command in the log, or one that waits, uses. */
static void visit_claims(struct kv *kv, const struct shard_command *command, kv__key_visitor *visit,
                         void *context)
{
    struct kv_call call;
    struct kv__part part;
    if (command->opcode == KV_OPCODE_PREPARE) {
        if (parse_prepare(kv, command, &call, &part)) {
            (void)kv__part_visit(&call, &part, visit, context);
        }
        return;
    }
    call = (struct kv_call){
        .kv = kv,
        .entry = kv__entry_of_opcode(command->opcode),
        .arguments = command->arguments,
        .argument_count = command->argument_count,
    };
    ASSERT(call.entry != NULL);
    visit_keys(&call, visit, context);
}

/* Whoever takes locks waits for those who came before it, too; nobody would wait for a lock long
 * enough otherwise. What takes none may pass: it only delays the others by its own time. */
static bool prepare_must_wait(struct kv *kv, const struct shard_command *command)
{
    struct txn_header header;
    if (command->argument_count == 0 || !txn_header_decode(command->arguments[0], &header) ||
        kv__unfinished_has(kv, header.id, header.place)) {
        return false; /* The locks are its own, or it is refused. */
    }
    struct kv_call call;
    struct kv__part part;
    if (!parse_prepare(kv, command, &call, &part)) {
        return false;
    }
    if (kv->awaited_flush_count > 0 || kv->wish.is_holding) {
        return true;
    }
    struct question question = {.call = &call, .intents = &kv->intents, .awaited = &kv->awaited};
    if (BUG("kv.intents_ignored")) {
        question.intents = NULL;
    }
    if (BUG("kv.waiting_passed")) {
        question.awaited = NULL;
    }
    (void)kv__part_visit(&call, &part, ask_memory, &question);
    return question.answer != 0;
}

bool kv__must_wait(void *context, const struct shard_command *command)
{
    struct kv *kv = context;
    bool is_anything_held = kv->locks.count > 0 || kv->intents.count > 0;
    if (command->opcode == KV_OPCODE_PREPARE) {
        bool is_anybody_waiting =
            kv->awaited.count > 0 || kv->awaited_flush_count > 0 || kv->wish.is_holding;
        return (is_anything_held || is_anybody_waiting) && prepare_must_wait(kv, command);
    }
    if (!is_anything_held) {
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

static bool add_key(void *context, struct bytes name)
{
    kv__key_set_add(context, kv__key_hash(name));
    return true;
}

void kv__gathered(void *context, const struct shard_command *command)
{
    struct kv *kv = context;
    if (command == NULL) {
        if (!BUG("kv.intents_outlive_reign")) {
            kv__key_set_deinit(&kv->intents);
        }
        if (BUG("kv.locks_end_with_reign")) {
            kv__key_set_deinit(&kv->locks);
        }
        kv->wish = (struct kv__wish){0}; /* The next leader is told. */
    } else if (command->opcode == KV_OPCODE_PREPARE) {
        visit_claims(kv, command, add_key, &kv->intents);
    }
}

struct choice {
    uint64_t number; /* Which key it is; */
    uint64_t count;  /* so many were passed. */
    int32_t slot;
};

static bool count_key(void *context, struct bytes name)
{
    ((struct choice *)context)->count++;
    return true;
}

static bool choose_key(void *context, struct bytes name)
{
    struct choice *choice = context;
    bool is_chosen = choice->count++ == choice->number;
    if (is_chosen) {
        choice->slot = kv_slot_of_key(name);
    }
    return !is_chosen;
}

int32_t kv__slot_of(void *context, const struct shard_command *command, uint64_t lot)
{
    struct choice choice = {.slot = -1};
    if (command->opcode != KV_OPCODE_PREPARE && kv__entry_of_opcode(command->opcode) == NULL) {
        return -1;
    }
    visit_claims(context, command, count_key, &choice);
    if (choice.count > 0) {
        choice.number = lot % choice.count;
        choice.count = 0;
        visit_claims(context, command, choose_key, &choice);
    }
    return choice.slot;
}

static uint64_t size_of(const struct shard_command *command)
{
    uint64_t size_bytes = 0;
    for (uint32_t i = 0; i < command->argument_count; i++) {
        size_bytes += command->arguments[i].size_bytes;
    }
    return size_bytes;
}

void kv__waits(void *context, const struct shard_command *command)
{
    struct kv *kv = context;
    if (command == NULL) {
        kv__key_set_deinit(&kv->awaited);
        kv->awaited_flush_count = 0;
        kv->awaited_size_bytes = 0;
        return;
    }
    visit_claims(kv, command, add_key, &kv->awaited);
    kv->awaited_flush_count += is_flush(kv__entry_of_opcode(command->opcode));
    kv->awaited_size_bytes += command->opcode == KV_OPCODE_PREPARE ? size_of(command) : 0;
}

bool kv__declines(void *context, const struct shard_command *command, const struct reply *reply)
{
    struct kv *kv = context;
    struct txn_header header;
    if (command->opcode != KV_OPCODE_PREPARE ||
        !txn_header_decode(command->arguments[0], &header)) {
        return false;
    }
    bool has_room = kv->awaited_size_bytes == 0 ||
                    kv->awaited_size_bytes + size_of(command) <= AWAITED_SIZE_BYTES_MAX;
    if (header.may_wait && has_room) {
        return false;
    }
    PROBE("kv.prepare_declines");
    buffer_append_byte(reply->target, TXN_ANSWER_LOCKED);
    return true;
}
