/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's two instances of core/txn: what src/gateway/resp/resp_across.c and
 * src/node/node_transactions.c do for them. */
#include "base/assert/assert.h"
#include "sim/sim_cluster_host.h"

enum { ORIGIN_FIRST = 2000000, ORIGINS_OF_A_LIFE = 100 }; /* Beyond those of routes. */

static int submit(void *context, uint32_t place, struct shard_request *request,
                  const struct reply *reply)
{
    const struct cluster_node *node = context;
    const struct slots *slots = sim__cluster_map(node->cluster, node->map);
    const struct slots_range *range = &slots->ranges[slots_place_of(slots, place)];
    bool is_named = request->end_slot != 0;
    bool is_old =
        is_named && (request->first_slot != range->first || request->end_slot != range->end);
    if (is_old && random_chance(&node->cluster->random, 1, 2)) {
        return ERROR_MOVED; /* Or let the shard find out. */
    }
    if (!is_named && !sim__cluster_node_is_older(node)) {
        request->first_slot = (uint16_t)range->first;
        request->end_slot = (uint16_t)range->end;
    }
    return route_submit(node->route, range->shard, request, reply);
}

uint32_t sim__cluster_coordinator_node(uint64_t origin)
{
    return (uint32_t)((origin - ORIGIN_FIRST) % ORIGINS_OF_A_LIFE / 2) - 1;
}

struct txn *sim__cluster_coordinator_create(struct cluster_node *node, struct env_clock clock,
                                            bool is_recoverer)
{
    const struct cluster_nature *nature = &node->cluster->nature;
    struct kv_txn_opcodes opcodes = kv_txn_opcodes();
    uint64_t origin = ORIGIN_FIRST + (uint64_t)node->incarnation * ORIGINS_OF_A_LIFE +
                      2 * node->id + is_recoverer;
    struct txn_options options = {
        .host = {.context = node, .clock = clock, .submit = submit},
        .origin = origin,
        .random_seed = node->cluster->options.seed * 173 + origin,
        .prepare_opcode = opcodes.prepare,
        .decide_opcode = opcodes.decide,
        .finish_opcode = opcodes.finish,
        .forget_opcode = opcodes.forget,
        .deadline_ms = nature->transaction_deadline_ms,
        .prepare_timeout_ms = nature->prepare_timeout_ms,
    };
    struct txn *txn = NULL;
    struct error error = {0};
    int status = txn_create(&txn, &options, &error);
    ASSERT(status == 0);
    return txn;
}

static bool found(void *context, const struct txn_unfinished *unfinished)
{
    return txn_recover(((struct cluster_node *)context)->recoverer, unfinished);
}

static struct kv *led(void *context, uint32_t index)
{
    const struct cluster_replica *replica = &((struct cluster_node *)context)->replicas[index];
    return replica->shard != NULL && shard_is_ready(replica->shard) ? replica->kv : NULL;
}

static void check(struct cluster_node *node, const struct txn *txn)
{
    struct txn_statistics statistics;
    txn_get_statistics(txn, &statistics);
    if (statistics.broken_count > 0) {
        sim__cluster_fail(node->cluster, "node %u finds a promise of a transaction broken",
                          node->id);
    }
}

uint64_t sim__cluster_coordinators_tick(struct cluster_node *node, uint64_t now_ms,
                                        uint64_t *looked_at_ms)
{
    const struct cluster_nature *nature = &node->cluster->nature;
    if (now_ms >= *looked_at_ms + nature->recovery_look_ms) {
        *looked_at_ms = now_ms;
        const struct kv_visit visit = {now_ms, nature->recovery_age_ms, found, node};
        kv_visit_unfinished_of_all(led, node->cluster->shard_count, &node->recoverer_next_shard,
                                   &visit);
    }
    uint64_t wake_at_ms = *looked_at_ms + nature->recovery_look_ms;
    struct txn *const both[] = {node->recoverer, node->coordinator};
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t own_wake_at_ms = txn_tick(both[i]);
        wake_at_ms = own_wake_at_ms < wake_at_ms ? own_wake_at_ms : wake_at_ms;
        check(node, both[i]);
    }
    return wake_at_ms;
}

bool sim__cluster_transactions_are_over(const struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        if (!sim__cluster_node_is_running(node) || node->coordinator == NULL) {
            continue;
        }
        struct txn_statistics own;
        struct txn_statistics recoverer;
        txn_get_statistics(node->coordinator, &own);
        txn_get_statistics(node->recoverer, &recoverer);
        if (own.attempt_open_count > 0 || own.open_count > 0 || recoverer.attempt_open_count > 0) {
            return false;
        }
        for (uint32_t k = 0; k < cluster->shard_count; k++) {
            struct kv_statistics statistics;
            if (node->replicas[k].shard == NULL) {
                continue;
            }
            kv_get_statistics(node->replicas[k].kv, &statistics);
            bool does_lead = shard_is_ready(node->replicas[k].shard);
            if (does_lead && (statistics.locked_key_count > 0 || statistics.unfinished_count > 0)) {
                return false;
            }
        }
    }
    return true;
}
