/* SPDX-License-Identifier: Apache-2.0 */
/* The model: what Redis does with a few keys, written as simply as can be and sharing no code with
 * kv.
 *
 * Keys are a short array, searched from the front; a key that has expired is dropped when it is
 * looked up. The commands are in sim_model_commands.c. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_internal.h"

enum { OPCODE_COUNT_MAX = 1024 };

void sim__assign(struct buffer *target, struct bytes bytes)
{
    struct buffer fresh = {0};
    buffer_append(&fresh, bytes);
    buffer_deinit(target);
    *target = fresh;
}

/* ---- Keys and fields ------------------------------------------------------------------------- */

static void key_drop_content(struct sim__key *key)
{
    buffer_deinit(&key->value);
    for (uint32_t i = 0; i < key->field_count; i++) {
        buffer_deinit(&key->fields[i].name);
        buffer_deinit(&key->fields[i].value);
    }
    memory_free(key->fields);
    key->fields = NULL;
    key->field_count = 0;
}

void sim__key_become_string(struct sim__key *key, struct bytes value)
{
    struct buffer fresh = {0};
    buffer_append(&fresh, value);
    key_drop_content(key);
    key->is_hash = false;
    key->value = fresh;
}

void sim__key_copy_content(struct sim__key *target, const struct sim__key *source)
{
    key_drop_content(target);
    target->is_hash = source->is_hash;
    buffer_append(&target->value, buffer_bytes(&source->value));
    for (uint32_t i = 0; i < source->field_count; i++) {
        sim__key_put_field(target, buffer_bytes(&source->fields[i].name),
                           buffer_bytes(&source->fields[i].value));
    }
    target->expire_ms = source->expire_ms;
    target->version = source->version;
}

struct sim__field *sim__key_field(struct sim__key *key, struct bytes name)
{
    for (uint32_t i = 0; i < key->field_count; i++) {
        if (bytes_equal(buffer_bytes(&key->fields[i].name), name)) {
            return &key->fields[i];
        }
    }
    return NULL;
}

void sim__key_put_field(struct sim__key *key, struct bytes name, struct bytes value)
{
    struct sim__field *field = sim__key_field(key, name);
    if (field == NULL) {
        key->fields =
            memory_resize(key->fields, (key->field_count + 1) * sizeof(struct sim__field));
        field = &key->fields[key->field_count++];
        *field = (struct sim__field){0};
        buffer_append(&field->name, name);
    }
    sim__assign(&field->value, value);
}

void sim__key_drop_field(struct sim__key *key, struct sim__field *field)
{
    buffer_deinit(&field->name);
    buffer_deinit(&field->value);
    *field = key->fields[--key->field_count];
}

void sim__model_init(struct sim__model *model)
{
    *model = (struct sim__model){0};
}

void sim__model_clear(struct sim__model *model)
{
    for (uint32_t i = 0; i < model->key_count; i++) {
        key_drop_content(&model->keys[i]);
        buffer_deinit(&model->keys[i].name);
    }
    model->key_count = 0;
}

void sim__model_deinit(struct sim__model *model)
{
    sim__model_clear(model);
    memory_free(model->keys);
    *model = (struct sim__model){0};
}

void sim__model_copy(struct sim__model *target, const struct sim__model *source)
{
    sim__model_clear(target);
    for (uint32_t i = 0; i < source->key_count; i++) {
        const struct sim__key *original = &source->keys[i];
        sim__key_copy_content(sim__model_make(target, buffer_bytes(&original->name)), original);
    }
    target->time_ms = source->time_ms;
}

void sim__model_remove(struct sim__model *model, struct sim__key *key)
{
    key_drop_content(key);
    buffer_deinit(&key->name);
    *key = model->keys[--model->key_count];
}

struct sim__key *sim__model_find(struct sim__model *model, struct bytes name, uint64_t time_ms)
{
    for (uint32_t i = 0; i < model->key_count; i++) {
        struct sim__key *key = &model->keys[i];
        if (bytes_equal(buffer_bytes(&key->name), name)) {
            if (key->expire_ms != 0 && key->expire_ms <= time_ms) {
                sim__model_remove(model, key);
                return NULL;
            }
            return key;
        }
    }
    return NULL;
}

struct sim__key *sim__model_make(struct sim__model *model, struct bytes name)
{
    if (model->key_count == model->key_capacity) {
        model->key_capacity = model->key_capacity == 0 ? 16 : model->key_capacity * 2;
        model->keys = memory_resize(model->keys, model->key_capacity * sizeof(struct sim__key));
    }
    struct sim__key *key = &model->keys[model->key_count++];
    *key = (struct sim__key){0};
    buffer_append(&key->name, name);
    return key;
}

uint64_t sim__model_version(const struct sim__model *model, struct bytes key)
{
    for (uint32_t i = 0; i < model->key_count; i++) {
        if (bytes_equal(buffer_bytes(&model->keys[i].name), key)) {
            return model->keys[i].version;
        }
    }
    return 0;
}

/* The order of keys and fields in the arrays is that of history, so it must not count. */
uint64_t sim__model_hash(const struct sim__model *model)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < model->key_count; i++) {
        const struct sim__key *key = &model->keys[i];
        uint64_t hash = hash_bytes(buffer_bytes(&key->name), key->expire_ms * 2 + key->is_hash);
        hash = hash_bytes(buffer_bytes(&key->value), hash);
        uint64_t fields = 0;
        for (uint32_t k = 0; k < key->field_count; k++) {
            fields += hash_bytes(buffer_bytes(&key->fields[k].value),
                                 hash_bytes(buffer_bytes(&key->fields[k].name), 7));
        }
        sum += hash * 3 + fields * 0x9e3779b97f4a7c15u;
    }
    return sum;
}

/* ---- Execution ------------------------------------------------------------------------------- */

static const struct sim__model_command *command_of(uint16_t opcode)
{
    static const struct sim__model_command *table[OPCODE_COUNT_MAX];
    static bool is_filled;
    if (!is_filled) {
        for (uint32_t i = 0; i < sim__model_command_count; i++) {
            const struct sim__model_command *command = &sim__model_commands[i];
            const struct kv_command *known = kv_command_find(bytes_of_text(command->name));
            if (known != NULL) {
                ASSERT(known->opcode < OPCODE_COUNT_MAX);
                table[known->opcode] = command;
            }
        }
        is_filled = true;
    }
    return opcode < OPCODE_COUNT_MAX ? table[opcode] : NULL;
}

bool sim__model_has_expired(const struct sim__model *model, const struct shard_command *command,
                            uint64_t time_ms)
{
    const struct sim__model_command *known = command_of(command->opcode);
    bool is_about_all_keys = known != NULL && known->is_about_all_keys;
    for (uint32_t i = 0; i < model->key_count; i++) {
        const struct sim__key *key = &model->keys[i];
        if (key->expire_ms == 0 || key->expire_ms > time_ms) {
            continue;
        }
        if (is_about_all_keys) {
            return true;
        }
        for (uint32_t k = 0; k < command->argument_count; k++) {
            if (bytes_equal(command->arguments[k], buffer_bytes(&key->name))) {
                return true;
            }
        }
    }
    return false;
}

bool sim__model_execute(struct sim__model *model, uint64_t time_ms, uint64_t version,
                        const struct shard_command *command, const struct reply *reply)
{
    const struct sim__model_command *found = command_of(command->opcode);
    if (found == NULL) {
        return false;
    }
    struct sim__call call = {model, time_ms, version, command->arguments, command->argument_count,
                             reply};
    found->run(&call);
    return true;
}

void sim__model_transaction(struct sim__model *model, uint64_t time_ms, uint64_t version,
                            const struct sim__transaction *transaction, const struct reply *reply)
{
    for (uint32_t i = 0; i < transaction->watched_count; i++) {
        const struct sim__key *key = sim__model_find(model, transaction->watched[i], time_ms);
        if ((key == NULL ? 0 : key->version) != transaction->versions[i]) {
            reply_null_array(reply);
            return;
        }
    }
    reply_array(reply, transaction->part_count);
    for (uint32_t i = 0; i < transaction->part_count; i++) {
        const struct sim__part *part = &transaction->parts[i];
        struct shard_command command = {part->command->opcode, part->argument_count,
                                        part->arguments};
        bool is_known = sim__model_execute(model, time_ms, version, &command, reply);
        ASSERT(is_known);
    }
}
