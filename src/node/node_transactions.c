/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions over several shards whose coordinator is gone: what the replicas that lead here have
 * prepared, or decided, and nobody has finished for long, is brought to its end. */
#include "base/assert/assert.h"
#include "core/txn/txn.h"
#include "node/node_cluster.h"

enum {
    LOOK_INTERVAL_MS = 1000,
    /* Longer than coordinators that live take, but for those with conflicts without end: to be early
     * costs an attempt. */
    AGE_MS = 5000,
};

static int submit(void *context, uint32_t place, struct shard_request *request,
                  const struct reply *reply)
{
    struct node_cluster *cluster = context;
    const struct slots *slots = node_shards_map(cluster->shards);
    const struct slots_range *range = &slots->ranges[slots_place_of(slots, place)];
    bool is_named = request->end_slot != 0;
    if (is_named && (request->first_slot != range->first || request->end_slot != range->end)) {
        return ERROR_MOVED; /* It was cut by another map. */
    }
    request->first_slot = (uint16_t)range->first;
    request->end_slot = (uint16_t)range->end;
    return route_submit(cluster->route, range->shard, request, reply);
}

static uint64_t wall_ms(void *context)
{
    (void)context;
    return os_wall_clock_ms();
}

int node_transactions_open(struct node_cluster *cluster, struct env_clock clock,
                           struct error *error)
{
    struct kv_txn_opcodes opcodes = kv_txn_opcodes();
    clock.wall_ms = wall_ms;
    const struct txn_options options = {
        .host = {.context = cluster, .clock = clock, .submit = submit},
        .origin = cluster->boot_id, /* It begins nothing of its own. */
        .random_seed = cluster->boot_id ^ 0x74786e,
        .prepare_opcode = opcodes.prepare,
        .decide_opcode = opcodes.decide,
        .finish_opcode = opcodes.finish,
        .forget_opcode = opcodes.forget,
    };
    return txn_create(&cluster->transactions, &options, error);
}

static bool found(void *context, const struct txn_unfinished *unfinished)
{
    struct node_cluster *cluster = context;
    return txn_recover(cluster->transactions, unfinished);
}

static struct kv *led(void *context, uint32_t index)
{
    const struct node_cluster *cluster = context;
    const struct node_shard *shard = &cluster->shards->items[index];
    return shard->was_ready ? shard->kv : NULL;
}

uint64_t node_transactions_tick(struct node_cluster *cluster, uint64_t now)
{
    if (now >= cluster->transactions_looked_at_ms + LOOK_INTERVAL_MS) {
        cluster->transactions_looked_at_ms = now;
        const struct kv_visit visit = {now, AGE_MS, found, cluster};
        /* The sum is a moment old, which does not matter. */
        if (cluster->shards->sum.kv.unfinished_count > 0) {
            kv_visit_unfinished_of_all(led, cluster->shards->count,
                                       &cluster->transactions_next_shard, &visit);
        }
    }
    uint64_t wake_at_ms = txn_tick(cluster->transactions);
    uint64_t look_at_ms = cluster->transactions_looked_at_ms + LOOK_INTERVAL_MS;
    return wake_at_ms < look_at_ms ? wake_at_ms : look_at_ms;
}
