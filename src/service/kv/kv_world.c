/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv/kv_world.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum { CACHE_SIZE_BYTES = 1 << 20, WORD_COUNT_MAX = 1 << 14, TIME_START_MS = 1000000 };

void kv__world_init(struct kv__world *world, uint64_t seed)
{
    *world =
        (struct kv__world){.store = memstore_create(seed), .time_ms = TIME_START_MS, .protocol = 2};
    world->rows = rows_create(memstore_interface(world->store), CACHE_SIZE_BYTES);
    world->kv = kv_create();
    struct shard_machine machine = kv_machine(world->kv);
    ASSERT(machine.load(machine.context, world->rows, BYTES(""), NULL) == 0);
}

void kv__world_deinit(struct kv__world *world)
{
    rows_destroy(world->rows);
    kv_destroy(world->kv);
    memstore_destroy(world->store);
    buffer_deinit(&world->saved);
    buffer_deinit(&world->answer);
}

void kv__world_restart(struct kv__world *world)
{
    rows_destroy(world->rows);
    kv_destroy(world->kv);
    world->rows = rows_create(memstore_interface(world->store), CACHE_SIZE_BYTES);
    world->kv = kv_create();
    struct shard_machine machine = kv_machine(world->kv);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    ASSERT(machine.load(machine.context, world->rows, buffer_bytes(&world->saved), NULL) == 0);
}

void kv__world_execute(struct kv__world *world, const struct shard_command *command)
{
    struct shard_machine machine = kv_machine(world->kv);
    world->index++;
    world->executed_count++;
    const struct shard_stamp stamp = {.time_ms = world->time_ms,
                                      .version = world->index << 16,
                                      .known = world->known,
                                      .found = &world->found};
    world->known = 0;
    world->found = 0;
    const struct reply reply = {.target = &world->answer, .protocol = world->protocol};
    buffer_clear(&world->answer);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    ASSERT(machine.execute(machine.context, world->rows, &stamp, command, &reply) == 0);
    int status = -EBUSY;
    while (status == -EBUSY) {
        status = rows_commit(world->rows, NULL);
    }
    ASSERT(status == 0);
    buffer_clear(&world->saved);
    machine.save(machine.context, &world->saved);
}

static void read_command(struct kv__world *world, const struct shard_command *command)
{
    struct shard_machine machine = kv_machine(world->kv);
    const struct shard_moment moment = {.time_ms = world->time_ms};
    const struct reply reply = {.target = &world->answer, .protocol = world->protocol};
    buffer_clear(&world->answer);
    rows_set_tier(world->rows, ENV_TIER_MEMORY);
    int status = machine.read(machine.context, world->rows, &moment, command, &reply);
    if (status == ERROR_INCOMPLETE) {
        struct env_store store = memstore_interface(world->store);
        struct env_store_snapshot *snapshot = store.ops->snapshot_create(store.context);
        struct rows *elsewhere = rows_create_at(store, snapshot);
        buffer_clear(&world->answer);
        status = machine.read(machine.context, elsewhere, &moment, command, &reply);
        rows_destroy(elsewhere);
        store.ops->snapshot_release(store.context, snapshot);
    }
    if (status == ERROR_EXPIRED_SEEN) {
        kv__world_execute(world, command);
        return;
    }
    ASSERT(status == 0);
}

void kv__world_run(struct kv__world *world, const struct bytes *words, uint32_t word_count)
{
    const struct kv_command *found = kv_command_find(words[0]);
    ASSERT(found != NULL);
    const struct shard_command command = {
        .opcode = found->opcode, .argument_count = word_count - 1, .arguments = words + 1};
    if ((found->flags & KV_FLAG_WRITE) != 0) {
        struct shard_machine machine = kv_machine(world->kv);
        rows_set_tier(world->rows, ENV_TIER_MEMORY);
        int status = machine.prefetch(machine.context, world->rows, &command, &(uint64_t){0});
        ASSERT(status == 0 || status == ERROR_INCOMPLETE);
        kv__world_execute(world, &command);
    } else {
        read_command(world, &command);
    }
}

const char *kv__world_say(struct kv__world *world, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size_bytes = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    ASSERT(size_bytes > 0);
    char *text = memory_allocate((size_t)size_bytes + 1);
    va_start(arguments, format);
    ASSERT(vsnprintf(text, (size_t)size_bytes + 1, format, arguments) == size_bytes);
    va_end(arguments);

    struct bytes *words = memory_allocate_zeroed(WORD_COUNT_MAX, sizeof *words);
    uint32_t word_count = 0;
    for (const char *at = text; at != NULL;) {
        const char *end = strchr(at, ' ');
        ASSERT(word_count < WORD_COUNT_MAX);
        words[word_count] = bytes_make(at, end == NULL ? strlen(at) : (size_t)(end - at));
        word_count++;
        at = end == NULL ? NULL : end + 1;
    }
    kv__world_run(world, words, word_count);
    memory_free(words);
    memory_free(text);
    buffer_append_byte(&world->answer, 0);
    world->answer.size_bytes--;
    return (const char *)world->answer.data;
}

bool kv__world_background(struct kv__world *world)
{
    struct shard_machine machine = kv_machine(world->kv);
    struct shard_command command;
    uint64_t next_ms = world->time_ms;
    rows_set_tier(world->rows, ENV_TIER_MEMORY);
    if (!machine.background(machine.context, world->rows, world->time_ms, &command, &next_ms)) {
        return false;
    }
    kv__world_execute(world, &command);
    return true;
}
