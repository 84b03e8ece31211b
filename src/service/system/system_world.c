/* SPDX-License-Identifier: Apache-2.0 */
#include "service/system/system_world.h"

#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum { CACHE_SIZE_BYTES = 1 << 20, TIME_START_MS = 1000 };

static void load(struct system__world *world, const struct shard_machine *data)
{
    struct error error = {0};
    world->system = system_create();
    world->machine = system_machine_over(world->system, data);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    int status = world->machine.load(world->machine.context, world->rows,
                                     buffer_bytes(&world->saved), &error);
    if (status != 0) {
        (void)fprintf(stderr, "load: %s\n", error.message);
    }
    ASSERT(status == 0);
}

void system__world_init(struct system__world *world, const struct shard_machine *data)
{
    *world = (struct system__world){.store = memstore_create(1), .time_ms = TIME_START_MS};
    world->rows = rows_create(memstore_interface(world->store), CACHE_SIZE_BYTES);
    load(world, data);
}

void system__world_deinit(struct system__world *world)
{
    rows_destroy(world->rows);
    system_destroy(world->system);
    memstore_destroy(world->store);
    buffer_deinit(&world->saved);
    buffer_deinit(&world->answer);
}

int system__world_execute(struct system__world *world, const struct shard_command *command)
{
    const struct shard_stamp stamp = {.time_ms = world->time_ms, .version = ++world->index << 16};
    const struct reply reply = {.target = &world->answer, .protocol = 2};
    buffer_clear(&world->answer);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    int status =
        world->machine.execute(world->machine.context, world->rows, &stamp, command, &reply);
    if (status == 0) {
        int committed = -EBUSY;
        while (committed == -EBUSY) {
            committed = rows_commit(world->rows, NULL);
        }
        ASSERT(committed == 0);
    }
    return status;
}

int system__world_read(struct system__world *world, const struct shard_command *command)
{
    const struct shard_moment moment = {.time_ms = world->time_ms,
                                        .durable_time_ms = world->time_ms};
    const struct reply reply = {.target = &world->answer, .protocol = 2};
    buffer_clear(&world->answer);
    rows_set_tier(world->rows, ENV_TIER_MEMORY);
    int status = world->machine.read(world->machine.context, world->rows, &moment, command, &reply);
    if (status == ERROR_INCOMPLETE) {
        struct env_store store = memstore_interface(world->store);
        struct env_store_snapshot *snapshot = store.ops->snapshot_create(store.context);
        struct rows *elsewhere = rows_create_at(store, snapshot);
        buffer_clear(&world->answer);
        status = world->machine.read(world->machine.context, elsewhere, &moment, command, &reply);
        rows_destroy(elsewhere);
        store.ops->snapshot_release(store.context, snapshot);
    }
    return status;
}

struct bytes system__world_run(struct system__world *world, const struct system_command *command)
{
    int status = command->is_write ? system__world_execute(world, &command->command)
                                   : system__world_read(world, &command->command);
    ASSERT(status == 0);
    return buffer_bytes(&world->answer);
}

bool system__world_background(struct system__world *world)
{
    struct shard_command command;
    uint64_t next_ms = world->time_ms;
    rows_set_tier(world->rows, ENV_TIER_MEMORY);
    if (!world->machine.background(world->machine.context, world->rows, world->time_ms, &command,
                                   &next_ms)) {
        ASSERT(next_ms > world->time_ms);
        return false;
    }
    ASSERT(system__world_execute(world, &command) == 0);
    return true;
}

/* As they are stored: what stands between members counts for nothing. */
bool system__world_is_same_node(const struct system_node *left, const struct system_node *right)
{
    struct buffer values[2] = {{0}};
    system__node_encode(&values[0], left);
    system__node_encode(&values[1], right);
    bool is_same =
        left->id == right->id && bytes_equal(buffer_bytes(&values[0]), buffer_bytes(&values[1]));
    buffer_deinit(&values[0]);
    buffer_deinit(&values[1]);
    return is_same;
}

static bool is_same_plan(const struct system_planned *left, const struct system_planned *right)
{
    return left->parent == right->parent && left->child == right->child &&
           left->first == right->first && left->planned_at_ms == right->planned_at_ms;
}

bool system__world_is_same(const struct system *left, const struct system *right)
{
    struct buffer values[2] = {{0}};
    system__settings_encode(&values[0], &left->state);
    system__settings_encode(&values[1], &right->state);
    bool is_same = bytes_equal(buffer_bytes(&values[0]), buffer_bytes(&values[1])) &&
                   left->node_count == right->node_count &&
                   left->token_expires_at_ms == right->token_expires_at_ms &&
                   slots_are_equal(&left->slots, &right->slots) &&
                   left->plans.count == right->plans.count;
    for (uint32_t i = 0; i < left->plans.count && is_same; i++) {
        is_same = is_same_plan(&left->plans.items[i], &right->plans.items[i]);
    }
    for (uint32_t i = 0; i < left->node_count && is_same; i++) {
        is_same = system__world_is_same_node(&left->nodes[i], &right->nodes[i]);
    }
    buffer_deinit(&values[0]);
    buffer_deinit(&values[1]);
    return is_same;
}

void system__world_restart(struct system__world *world)
{
    struct error error = {0};
    struct system *before = world->system;
    struct shard_machine data = before->data;
    buffer_clear(&world->saved);
    world->machine.save(world->machine.context, &world->saved);
    rows_destroy(world->rows);
    world->rows = rows_create(memstore_interface(world->store), CACHE_SIZE_BYTES);
    load(world, &data);
    ASSERT(system__world_is_same(before, world->system));
    system_destroy(before);
    int status = system_verify(memstore_interface(world->store), NULL, &error);
    if (status != 0) {
        (void)fprintf(stderr, "verify: %s\n", error.message);
    }
    ASSERT(status == 0);
}
