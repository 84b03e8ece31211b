/* SPDX-License-Identifier: Apache-2.0 */
/* What a node says of itself, some replicas at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/memstore/memstore.h"
#include "node/node_cluster.h"

enum { SELF = 2, REPLICA_COUNT = 2 * NODE_DESCRIBED_COUNT_MAX + 10, NUMBER = 7 };

struct world {
    struct memstore *store;
    struct node_shards shards;
    struct node_cluster cluster;
};

static uint64_t no_time(void *context)
{
    return 0;
}

static void never_durable(void *context, struct shard *shard, const struct wal_record *record,
                          uint64_t sequence)
{
}

/* A replica that waits for a leader. */
static void open_replica(struct world *world, uint32_t place,
                         const struct raft_configuration *members)
{
    struct node_shard *shard = &world->shards.items[place];
    struct error error = {0};
    *shard = (struct node_shard){
        .host = &world->shards, .place = place, .id = SLOTS_FIRST_SHARD + place, .kv = kv_create()};
    struct shard_options options = {
        .id = shard->id,
        .self = SELF,
        .store = memstore_interface(world->store),
        .in_flight_size_bytes_max = 1 << 20,
        .first_slot = place,
        .end_slot = place + 1,
        .append_slot_row = node_append_slot_row,
        .configuration = *members,
        .is_quiet_at_start = true,
        .quiet_after_ms = 1000,
        .machine = kv_machine(shard->kv),
        .host = {.context = world, .clock = {.now_ms = no_time}, .persist = never_durable},
        .random_seed = 1,
    };
    assert_int_equal(shard_open(&shard->shard, &options, &error), 0);
    assert_int_equal(shard_start(shard->shard, NULL, &error), 0);
    world->shards.count++;
}

static struct world *world_create(void)
{
    static const struct raft_configuration ours = {.voter_count = 3, .voters = {1, SELF, 3}};
    static const struct raft_configuration others = {.voter_count = 3, .voters = {1, 3, 4}};
    struct world *world = memory_allocate_zeroed(1, sizeof *world);
    world->store = memstore_create(1);
    world->shards.items = memory_allocate_zeroed(REPLICA_COUNT + 1, sizeof(struct node_shard));
    world->shards.self = SELF;
    world->shards.cluster = &world->cluster;
    world->cluster.self = SELF;
    world->cluster.shards = &world->shards;
    world->cluster.sampler = node_sampler_create();
    for (uint32_t i = 0; i < REPLICA_COUNT; i++) {
        open_replica(world, i, i == 5 ? &others : &ours);
    }
    return world;
}

static void world_destroy(struct world *world)
{
    for (uint32_t i = 0; i < world->shards.count; i++) {
        shard_close(world->shards.items[i].shard);
        kv_destroy(world->shards.items[i].kv);
    }
    memory_free(world->shards.items);
    node_sampler_destroy(world->cluster.sampler);
    memstore_destroy(world->store);
    memory_free(world);
}

/* Each of the first shards once, in their order, but for the one to whose group this node does not belong. */
static void expect_replicas(const struct node_description *description, uint32_t count)
{
    struct inquiry_message message;
    assert_int_equal(inquiry_message_decode(buffer_bytes(&description->answer), &message), 0);
    assert_int_equal(message.kind, INQUIRY_FIGURES_ANSWER);
    assert_int_equal(message.number, NUMBER);
    assert_int_equal(message.replica_count, count - 1);
    for (uint32_t i = 0; i < count; i++) {
        if (i != 5) {
            struct inquiry_replica replica;
            inquiry_message_next(&message, &replica);
            assert_int_equal(replica.shard, SLOTS_FIRST_SHARD + i);
            assert_false(replica.is_leader);
        }
    }
}

/* No slice has more than it may; all of them together have each replica once. */
static void test_thousands_take_several_slices(void **state)
{
    (void)state;
    struct world *world = world_create();
    struct node_description description = {.wants_groups = true};
    uint32_t slice_count = 1;
    while (!node_describe(&description, &world->cluster, NUMBER)) {
        assert_int_equal(description.group_count, slice_count * NODE_DESCRIBED_COUNT_MAX);
        slice_count++;
    }
    assert_int_equal(slice_count, 3);
    expect_replicas(&description, REPLICA_COUNT);
    assert_int_equal(description.group_count, REPLICA_COUNT);
    for (uint32_t i = 0; i < REPLICA_COUNT; i++) {
        const struct node_group *group = &description.groups[i];
        assert_int_equal(group->shard, SLOTS_FIRST_SHARD + i);
        assert_int_equal(group->leader, 0);
        assert_int_equal(group->members.voters[0], 1);
        assert_int_equal(group->members.voters[1], i == 5 ? 3 : SELF);
    }
    node_description_deinit(&description);
    world_destroy(world);
}

/* A replica that a split makes between two slices is told of as well; who asks for another node wants no groups. */
static void test_one_that_comes_meanwhile(void **state)
{
    (void)state;
    static const struct raft_configuration ours = {.voter_count = 3, .voters = {1, SELF, 3}};
    struct world *world = world_create();
    struct node_description description = {0};
    assert_false(node_describe(&description, &world->cluster, NUMBER));
    assert_false(node_describe(&description, &world->cluster, NUMBER));
    open_replica(world, REPLICA_COUNT, &ours);
    assert_true(node_describe(&description, &world->cluster, NUMBER));
    expect_replicas(&description, REPLICA_COUNT + 1);
    assert_null(description.groups);
    node_description_deinit(&description);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thousands_take_several_slices),
        cmocka_unit_test(test_one_that_comes_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
