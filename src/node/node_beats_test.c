/* SPDX-License-Identifier: Apache-2.0 */
/* When heartbeats leave, which of them are gathered, and when groups hurry to be quiet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "node/node_cluster.h"

enum { SHARD_COUNT = 3000, TOGETHER_MIN = 100 };

/* A node with two peers, of which the second has software that knows of no such messages. */
static struct node_cluster *cluster_of_three(struct node_shards *shards)
{
    struct node_cluster *cluster = memory_allocate_zeroed(1, sizeof *cluster);
    *shards = (struct node_shards){.cluster = cluster};
    shards->by_place = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof shards->by_place[0]);
    cluster->shards = shards;
    cluster->self = 1;
    cluster->peer_count = 2;
    cluster->peers[0] = (struct node_peer){.id = 2, .version = NODE_PROTOCOL_BEATS};
    cluster->peers[1] = (struct node_peer){.id = 3, .version = NODE_PROTOCOL_BEATS - 1};
    return cluster;
}

static void end(struct node_cluster *cluster)
{
    memory_free(cluster->shards->by_place);
    beats_deinit(&cluster->peers[0].beats);
    beats_deinit(&cluster->peers[1].beats);
    memory_free(cluster);
}

static struct raft_message beat_to(raft_node to)
{
    return (struct raft_message){
        .kind = RAFT_MESSAGE_HEARTBEAT_REQUEST, .to = to, .term = 4, .index = 9, .sent_at_ms = 50};
}

/* Each shard has its time within an interval; so many have the same that a message is worth it, and thousands are
 * spread evenly over all of them. */
static void test_shards_share_times(void **state)
{
    (void)state;
    uint32_t counts[RAFT_HEARTBEAT_INTERVAL_MS + 1] = {0};
    uint32_t time_count = 0;
    for (uint32_t i = 0; i < SHARD_COUNT; i++) {
        uint32_t phase_ms = node_beats_phase_ms(SLOTS_FIRST_SHARD + i);
        assert_in_range(phase_ms, 1, RAFT_HEARTBEAT_INTERVAL_MS);
        counts[phase_ms]++;
        if (i < TOGETHER_MIN) {
            assert_int_equal(phase_ms, node_beats_phase_ms(SLOTS_FIRST_SHARD));
        }
    }
    for (uint32_t i = 0; i <= RAFT_HEARTBEAT_INTERVAL_MS; i++) {
        time_count += counts[i] > 0;
    }
    for (uint32_t i = 0; i <= RAFT_HEARTBEAT_INTERVAL_MS; i++) {
        assert_true(counts[i] == 0 || counts[i] > SHARD_COUNT / time_count * 3 / 4);
    }
    assert_true(time_count > 1);
}

/* Groups hurry when many are awake, and go on to until they are far fewer: not to and fro at one number. */
static void test_groups_hurry_while_many_are_awake(void **state)
{
    (void)state;
    struct node_shards shards = {.awake_count = 200};
    node_beats_look(&shards);
    assert_false(shards.account.do_groups_hurry);
    shards.awake_count = 300;
    node_beats_look(&shards);
    assert_true(shards.account.do_groups_hurry);
    shards.awake_count = 200;
    node_beats_look(&shards);
    assert_true(shards.account.do_groups_hurry);
    shards.awake_count = 100;
    node_beats_look(&shards);
    assert_false(shards.account.do_groups_hurry);
}

/* Gathered is what the other node understands; older software and who is no peer any more get none of it, and the
 * shard sends it as any other message. */
static void test_older_nodes_are_told_one_by_one(void **state)
{
    (void)state;
    struct node_shards shards;
    struct node_cluster *cluster = cluster_of_three(&shards);
    struct node_shard shard = {.host = &shards, .id = SLOTS_FIRST_SHARD + 4};
    struct raft_message beats[] = {beat_to(2), beat_to(3), beat_to(7)};
    assert_false(node_beats_add(&shard, NULL, &beats[1]));
    assert_false(node_beats_add(&shard, NULL, &beats[2]));
    assert_false(cluster->has_beats);
    assert_true(node_beats_add(&shard, NULL, &beats[0]));
    assert_true(cluster->has_beats);
    assert_int_equal(beats_message(&cluster->peers[1].beats).size_bytes, 0);
    struct beats_reader reader;
    struct raft_message read;
    wal_shard id = 0;
    assert_int_equal(beats_read(&reader, beats_message(&cluster->peers[0].beats)), 0);
    assert_int_equal(beats_next(&reader, &id, &read), 0);
    assert_int_equal(id, shard.id);
    assert_int_equal(read.term, 4);
    assert_int_equal(reader.rest.size_bytes, 0);
    shards.cluster = NULL; /* It starts, or stops. */
    assert_false(node_beats_add(&shard, NULL, &beats[0]));
    end(cluster);
}

/* Those for shards of which there is no replica here, as after it was given up, are passed over. */
static void test_beats_for_nobody_are_passed_over(void **state)
{
    (void)state;
    struct node_shards shards;
    struct node_cluster *cluster = cluster_of_three(&shards);
    struct node_shard shard = {.host = &shards};
    struct raft_message beat = beat_to(2);
    for (uint32_t i = 0; i < 3; i++) {
        shard.id = SLOTS_FIRST_SHARD + i;
        assert_true(node_beats_add(&shard, NULL, &beat));
    }
    node_beats_came(cluster, 2, beats_message(&cluster->peers[0].beats));
    assert_int_equal(shards.touched_count, 0);
    end(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards_share_times),
        cmocka_unit_test(test_groups_hurry_while_many_are_awake),
        cmocka_unit_test(test_older_nodes_are_told_one_by_one),
        cmocka_unit_test(test_beats_for_nobody_are_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
