/* SPDX-License-Identifier: Apache-2.0 */
#include "core/shard/shard_group.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"

struct shard__group shard__group_create(wal_shard id)
{
    return shard__group_create_with(id, 0);
}

struct shard__group shard__group_create_with(wal_shard id, uint32_t floor_delay_ms)
{
    struct shard__group group = {0};
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        group.worlds[i] = shard__world_create_bare(NULL);
        group.worlds[i]->self = i + 1;
        group.worlds[i]->id = id;
        group.worlds[i]->floor_delay_ms = floor_delay_ms;
        group.worlds[i]->voter_count = SHARD__GROUP_COUNT;
        shard__world_start(group.worlds[i], false);
    }
    return group;
}

void shard__group_destroy(struct shard__group *group)
{
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        shard__world_destroy(group->worlds[i]);
    }
}

/* Behind all else of the tick. */
static void deliver_beats(struct shard__group *group, uint32_t from)
{
    struct shard__world *source = group->worlds[from];
    for (uint32_t i = 0; i < source->beat_count; i++) {
        uint32_t to = source->beats[i].to - 1;
        if (!group->is_cut_off[from] && !group->is_cut_off[to] &&
            group->worlds[to]->shard != NULL) {
            (void)shard_receive_beat(group->worlds[to]->shard, from + 1, &source->beats[i]);
        }
    }
    source->beat_count = 0;
}

static void deliver(struct shard__group *group, uint32_t from)
{
    struct shard__world *source = group->worlds[from];
    struct shard__sent *sent = source->sent;
    uint32_t count = source->sent_count;
    source->sent = NULL;
    source->sent_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t to = sent[i].to - 1;
        ASSERT(sent[i].bytes.data[1] < 8);
        group->sent_counts[to][sent[i].bytes.data[1]]++;
        if (!group->is_cut_off[from] && !group->is_cut_off[to] &&
            group->worlds[to]->shard != NULL) {
            shard_receive(group->worlds[to]->shard, from + 1, buffer_bytes(&sent[i].bytes));
        }
        buffer_deinit(&sent[i].bytes);
    }
    memory_free(sent);
    deliver_beats(group, from);
}

void shard__group_run(struct shard__group *group, uint32_t for_ms)
{
    for (uint32_t ms = 0; ms < for_ms; ms++) {
        for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
            struct shard__world *world = group->worlds[i];
            world->wall_ms++;
            if (world->shard == NULL) {
                continue;
            }
            shard_persisted(world->shard, world->persisting_sequence);
            shard__world_work(world);
            shard__world_write(world);
            (void)shard_tick(world->shard);
            deliver(group, i);
        }
    }
}

struct shard__world *shard__group_leader(struct shard__group *group)
{
    for (uint32_t i = 0; i < SHARD__GROUP_COUNT; i++) {
        if (group->worlds[i]->shard != NULL && shard_is_ready(group->worlds[i]->shard)) {
            return group->worlds[i];
        }
    }
    return NULL;
}

struct shard__world *shard__group_follower(struct shard__group *group)
{
    return group->worlds[shard__group_leader(group) == group->worlds[0] ? 1 : 0];
}

void shard__group_put(struct shard__group *group, const char *key, const char *value)
{
    struct shard__client client;
    struct shard_session session;
    shard_session_init(&session);
    int status =
        shard__world_submit(shard__group_leader(group), &client, &session, OPCODE_SET, key, value);
    ASSERT(status == SHARD_PENDING);
    shard__group_run(group, 5);
    shard__world_expect(&client, "+OK\r\n");
}

struct buffer shard__group_row(struct shard__world *world, struct bytes key)
{
    struct buffer row = {0};
    struct env_store store = memstore_interface(world->memstore);
    int status = store.ops->get(store.context, NULL, ENV_TIER_DISK, key, &row);
    ASSERT(status == 0 || status == -ENOENT);
    return row;
}

void shard__group_expect_row(struct shard__world *world, struct bytes key, struct bytes value)
{
    struct buffer row = shard__group_row(world, key);
    ASSERT(bytes_equal(buffer_bytes(&row), value));
    buffer_deinit(&row);
}
