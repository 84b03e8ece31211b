/* SPDX-License-Identifier: Apache-2.0 */
/* What each key of a shard was at each place of its log, in lives with reads that may be stale: such a read
 * is right if the keys were so where the replica was that answered it. The first replica that executes a
 * command has the model execute it; what that made of the keys is noted under the command's version. */
#include <stdlib.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "sim/sim_cluster_stale.h"

struct record {
    uint64_t version; /* From that command on. */
    uint64_t key_version;
    bool is_there;
    bool has_moved;      /* A child has it. */
    uint64_t reply_hash; /* Of GET. */
    uint64_t size_bytes;
    uint64_t expire_ms; /* 0: never. */
};

struct key_past {
    struct buffer name;
    struct record *records; /* By version. */
    uint32_t count;
    uint32_t capacity;
};

struct executed {
    uint64_t version;
    uint64_t time_ms;
};

struct cluster_past {
    struct key_past *keys;
    uint32_t key_count;
    struct executed *executed; /* By version. */
    uint32_t executed_count;
    uint32_t executed_capacity;
};

/* When the keys are looked at: what expires by `gone_ms` is gone, what expires after `there_ms` is not. */
struct period {
    uint64_t there_ms;
    uint64_t gone_ms;
};

/* ---- Noting ---------------------------------------------------------------------------------- */

static struct key_past *find_key(const struct cluster_past *past, struct bytes name)
{
    for (uint32_t i = 0; i < past->key_count; i++) {
        if (bytes_equal(buffer_bytes(&past->keys[i].name), name)) {
            return &past->keys[i];
        }
    }
    return NULL;
}

static struct key_past *make_key(struct cluster_past *past, struct bytes name)
{
    struct key_past *known = find_key(past, name);
    if (known != NULL) {
        return known;
    }
    past->keys = memory_resize(past->keys, (past->key_count + 1) * sizeof past->keys[0]);
    struct key_past *made = &past->keys[past->key_count++];
    *made = (struct key_past){0};
    buffer_append(&made->name, name);
    return made;
}

static void add_record(struct key_past *key, const struct record *record)
{
    if (key->count == key->capacity) {
        key->capacity = key->capacity == 0 ? 16 : 2 * key->capacity;
        key->records = memory_resize(key->records, key->capacity * sizeof key->records[0]);
    }
    ASSERT(key->count == 0 || key->records[key->count - 1].version <= record->version);
    key->records[key->count++] = *record;
}

static uint64_t hash_of_value(const struct sim__key *key)
{
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = 2};
    reply_bulk(&reply, buffer_bytes(&key->value));
    uint64_t hash = sim__reply_hash(NULL, buffer_bytes(&answer));
    buffer_deinit(&answer);
    return hash;
}

static void note_key(struct cluster_past *past, const struct sim__key *key, uint64_t version)
{
    struct key_past *known = make_key(past, buffer_bytes(&key->name));
    const struct record *last = known->count > 0 ? &known->records[known->count - 1] : NULL;
    if (last != NULL && last->is_there && last->key_version == key->version &&
        last->size_bytes == key->value.size_bytes && last->expire_ms == key->expire_ms) {
        return;
    }
    add_record(known, &(struct record){.version = version,
                                       .key_version = key->version,
                                       .is_there = true,
                                       .reply_hash = hash_of_value(key),
                                       .size_bytes = key->value.size_bytes,
                                       .expire_ms = key->expire_ms});
}

static bool has_key(const struct sim__model *model, struct bytes name)
{
    for (uint32_t i = 0; i < model->key_count; i++) {
        if (bytes_equal(buffer_bytes(&model->keys[i].name), name)) {
            return true;
        }
    }
    return false;
}

void sim__cluster_past_note(struct cluster_past *past, const struct sim__model *model,
                            uint64_t version, uint64_t time_ms)
{
    if (past->executed_count == past->executed_capacity) {
        past->executed_capacity = past->executed_capacity == 0 ? 64 : 2 * past->executed_capacity;
        past->executed =
            memory_resize(past->executed, past->executed_capacity * sizeof past->executed[0]);
    }
    past->executed[past->executed_count++] = (struct executed){version, time_ms};
    for (uint32_t i = 0; i < past->key_count; i++) {
        struct key_past *known = &past->keys[i];
        bool was_there = known->count > 0 && known->records[known->count - 1].is_there;
        if (was_there && !has_key(model, buffer_bytes(&known->name))) {
            add_record(known, &(struct record){.version = version});
        }
    }
    for (uint32_t i = 0; i < model->key_count; i++) {
        note_key(past, &model->keys[i], version);
    }
}

void sim__cluster_past_divide(struct cluster_past *parent, raft_index index, uint32_t first_slot,
                              struct cluster_past *child, const struct sim__model *of_child)
{
    for (uint32_t i = 0; i < parent->key_count; i++) {
        struct key_past *known = &parent->keys[i];
        if (kv_slot_of_key(buffer_bytes(&known->name)) >= first_slot) {
            add_record(known, &(struct record){.version = index << 16 | 0xffff, .has_moved = true});
        }
    }
    sim__cluster_past_note(child, of_child, 0, 0);
}

/* ---- Looking back ---------------------------------------------------------------------------- */

/* The first command from `version` on. */
static uint32_t first_executed(const struct cluster_past *past, uint64_t version)
{
    uint32_t lower = 0;
    uint32_t upper = past->executed_count;
    while (lower < upper) {
        uint32_t middle = (lower + upper) / 2;
        if (past->executed[middle].version < version) {
            lower = middle + 1;
        } else {
            upper = middle;
        }
    }
    return lower;
}

/* The time of the log is in this period from `version` on until before `end`. */
static struct period period_of(const struct cluster_past *past, uint64_t version, uint64_t end)
{
    uint32_t last = first_executed(past, version + 1);
    uint32_t next = first_executed(past, end);
    return (struct period){
        .there_ms = last == 0 ? 0 : past->executed[last - 1].time_ms,
        .gone_ms = next == past->executed_count ? UINT64_MAX : past->executed[next].time_ms,
    };
}

/* Who reads knows what time it was where it thinks that it is. The rows may be of any command up to `read->to`, though
 * from before `end`, and a later one may have removed what had expired by then. */
static struct period period_of_reader(const struct cluster_past *past,
                                      const struct cluster_read *read, uint64_t end)
{
    uint64_t last = number_min(end, read->to + 1) - 1;
    uint64_t last_ms = period_of(past, last, last + 1).there_ms;
    return (struct period){read->durable_ms, number_max(read->durable_ms, last_ms)};
}

/* The newest one up to `version`; one of a key that never was, if there is none. `*end`, if it is later: where the
 * next one begins. */
static struct record record_at(const struct cluster_past *past, struct bytes name, uint64_t version,
                               uint64_t *end)
{
    const struct key_past *key = find_key(past, name);
    struct record found = {0};
    uint32_t i = 0;
    for (; key != NULL && i < key->count && key->records[i].version <= version; i++) {
        found = key->records[i];
    }
    if (key != NULL && i < key->count && key->records[i].version < *end) {
        *end = key->records[i].version;
    }
    return found;
}

/* Could the key, in that state, have been answered like this? */
static bool is_right(const struct record *record, const struct period *period, uint16_t opcode,
                     struct bytes reply)
{
    if (record->has_moved) {
        return false;
    }
    bool may_be_there =
        record->is_there && (record->expire_ms == 0 || record->expire_ms > period->there_ms);
    bool may_be_gone =
        !record->is_there || (record->expire_ms != 0 && record->expire_ms <= period->gone_ms);
    if (reply.data[0] == '$') {
        return reply.data[1] == '-'
                   ? may_be_gone
                   : may_be_there && sim__reply_hash(NULL, reply) == record->reply_hash;
    }
    if (reply.data[0] != ':') {
        return false;
    }
    uint64_t number = strtoull((const char *)reply.data + 1, NULL, 10);
    uint64_t wanted = opcode == kv_command_find(BYTES("strlen"))->opcode ? record->size_bytes : 1;
    return (may_be_there && number == wanted) || (may_be_gone && number == 0);
}

/* All keys of the command, at that place. `*end`: where one of them changes next. */
static bool is_right_at(const struct cluster_past *past, uint16_t opcode,
                        const struct cluster_read *read, uint64_t version, uint64_t *end)
{
    struct record records[CLUSTER_ARGUMENT_COUNT_MAX];
    for (uint32_t i = 0; i < read->argument_count; i++) {
        records[i] = record_at(past, read->arguments[i], version, end);
    }
    struct period period = period_of(past, version, *end);
    if (read->durable_ms != 0) {
        period = period_of_reader(past, read, *end);
    }
    struct bytes rest = read->reply;
    if (rest.data[0] == '*') {
        ASSERT(rest.size_bytes > 4); /* And one digit. */
        rest = bytes_make(rest.data + 4, rest.size_bytes - 4);
    }
    for (uint32_t i = 0; i < read->argument_count; i++) {
        struct bytes part = sim__cluster_take_reply(&rest);
        if (!is_right(&records[i], &period, opcode, part)) {
            return false;
        }
    }
    return true;
}

bool sim__cluster_past_knows(uint16_t opcode)
{
    static const char *const names[] = {"get", "mget", "strlen", "exists"};
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (kv_command_find(bytes_of_text(names[i]))->opcode == opcode) {
            return true;
        }
    }
    return false;
}

bool sim__cluster_past_explains(const struct cluster_past *past, uint16_t opcode,
                                const struct cluster_read *read)
{
    ASSERT(read->argument_count <= CLUSTER_ARGUMENT_COUNT_MAX);
    for (uint64_t version = read->from; version <= read->to;) {
        uint64_t end = UINT64_MAX;
        if (is_right_at(past, opcode, read, version, &end)) {
            return true;
        }
        if (end == UINT64_MAX) {
            return false;
        }
        version = end;
    }
    return false;
}

bool sim__cluster_past_has_expired(const struct cluster_past *past, const struct cluster_read *read,
                                   uint64_t time_ms)
{
    for (uint32_t i = 0; i < read->argument_count; i++) {
        uint64_t end = UINT64_MAX;
        struct record record = record_at(past, read->arguments[i], read->to, &end);
        if (record.is_there && record.expire_ms > read->durable_ms && record.expire_ms <= time_ms) {
            return true;
        }
    }
    return false;
}

bool sim__cluster_past_has_time(const struct cluster_past *past, uint64_t version, uint64_t time_ms)
{
    struct period period = period_of(past, version, version + 1);
    return time_ms >= period.there_ms && time_ms <= period.gone_ms;
}

struct cluster_past *sim__cluster_past_create(void)
{
    return memory_allocate_zeroed(1, sizeof(struct cluster_past));
}

void sim__cluster_past_destroy(struct cluster_past *past)
{
    for (uint32_t i = 0; past != NULL && i < past->key_count; i++) {
        buffer_deinit(&past->keys[i].name);
        memory_free(past->keys[i].records);
    }
    if (past != NULL) {
        memory_free(past->keys);
        memory_free(past->executed);
    }
    memory_free(past);
}
