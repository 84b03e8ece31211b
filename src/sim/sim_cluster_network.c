/* SPDX-License-Identifier: Apache-2.0 */
/* Connections between nodes: what arrives, arrives in order; what is under way when one breaks is
 * lost, and both ends hear of it, sooner or later. Blocked ones hold what is sent, as TCP does, until
 * the block ends or the connection breaks. */
#include <errno.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "sim/sim_cluster.h"

enum { HELD_RETRY_US = 2000, BREAK_TOLD_US = 20000 };

struct message {
    uint32_t from;
    uint32_t to;
    uint32_t link_life;
    uint32_t source_incarnation;
    uint32_t target_incarnation;
    enum cluster_message kind;
    bool is_urgent;
    struct buffer bytes;
};

static void free_message(struct message *message)
{
    buffer_deinit(&message->bytes);
    memory_free(message);
}

static void arrive(struct cluster *cluster, const struct cluster_event *event)
{
    struct message *message = event->pointer;
    struct cluster_link *link = &cluster->links[message->from][message->to];
    struct cluster_node *node = cluster->nodes[message->to];
    if (message->link_life != link->life || !sim__cluster_node_is_running(node) ||
        sim__cluster_node_incarnation(node) != message->target_incarnation || cluster->is_failed) {
        free_message(message);
        return;
    }
    uint64_t paused_until_us = sim__cluster_node_paused_until_us(node);
    uint64_t wait_us = paused_until_us > cluster->now_us ? paused_until_us - cluster->now_us : 0;
    wait_us = number_min(wait_us, SIM__CLUSTER_PAUSE_LOOK_US);
    if (link->is_blocked && wait_us < HELD_RETRY_US) {
        wait_us = HELD_RETRY_US;
    }
    if (wait_us > 0) {
        /* Whatever comes behind it has a later number at the same time, or a later time. */
        uint64_t *busy_until_us = &link->busy_until_us[message->is_urgent];
        if (*busy_until_us < cluster->now_us + wait_us) {
            *busy_until_us = cluster->now_us + wait_us;
        }
        sim__cluster_schedule(cluster, wait_us, arrive, NULL, 0, message);
        return;
    }
    sim__cluster_node_receive(cluster, node, sim__cluster_node_id(cluster->nodes[message->from]),
                              message->source_incarnation, message->kind,
                              buffer_bytes(&message->bytes));
    free_message(message);
}

int sim__cluster_send(struct cluster *cluster, struct cluster_node *from, raft_node to,
                      enum cluster_message kind, const struct bytes *pieces, uint32_t piece_count)
{
    uint32_t source = sim__cluster_node_id(from) - 1;
    uint32_t target = to - 1;
    if (target >= cluster->nature.node_count || source == target ||
        !sim__cluster_node_is_running(cluster->nodes[target])) {
        return -ENOTCONN;
    }
    struct cluster_link *link = &cluster->links[source][target];
    struct message *message = memory_allocate_zeroed(1, sizeof *message);
    message->from = source;
    message->to = target;
    message->link_life = link->life;
    message->kind = kind;
    message->source_incarnation = sim__cluster_node_incarnation(from);
    message->target_incarnation = sim__cluster_node_incarnation(cluster->nodes[target]);
    for (uint32_t i = 0; i < piece_count; i++) {
        buffer_append(&message->bytes, pieces[i]);
    }
    uint64_t at_us = cluster->now_us + sim__cluster_delay(cluster, cluster->nature.network_us);
    message->is_urgent = kind == CLUSTER_MESSAGE_BEATS ||
                         (kind != CLUSTER_MESSAGE_ROUTE && kind != CLUSTER_MESSAGE_CONDUCTOR &&
                          shard_message_is_urgent(pieces[0]));
    uint64_t *busy_until_us = &link->busy_until_us[message->is_urgent];
    at_us = at_us > *busy_until_us ? at_us : *busy_until_us + 1;
    *busy_until_us = at_us;
    sim__cluster_schedule(cluster, at_us - cluster->now_us, arrive, NULL, 0, message);
    return 0;
}

static void hear_of_break(struct cluster *cluster, const struct cluster_event *event)
{
    sim__cluster_node_unreachable(cluster, event->node, (raft_node)event->value);
}

static void break_link(struct cluster *cluster, uint32_t from, uint32_t to)
{
    cluster->links[from][to].life++;
    cluster->links[from][to].busy_until_us[0] = cluster->now_us;
    cluster->links[from][to].busy_until_us[1] = cluster->now_us;
    struct cluster_node *node = cluster->nodes[from];
    if (sim__cluster_node_is_running(node)) {
        sim__cluster_schedule(cluster, random_below(&cluster->random, BREAK_TOLD_US), hear_of_break,
                              node, sim__cluster_node_id(cluster->nodes[to]), NULL);
    }
}

void sim__cluster_break_all(struct cluster *cluster, struct cluster_node *node)
{
    uint32_t place = sim__cluster_node_id(node) - 1;
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        if (i != place) {
            break_link(cluster, i, place);
            break_link(cluster, place, i);
        }
    }
}

void sim__cluster_break_any(struct cluster *cluster)
{
    uint32_t from = sim__cluster_any_node(cluster);
    uint32_t to = sim__cluster_any_node(cluster);
    if (from != to) {
        break_link(cluster, from, to);
    }
}

void sim__cluster_heal(struct cluster *cluster)
{
    for (uint32_t from = 0; from < cluster->nature.node_count; from++) {
        for (uint32_t to = 0; to < cluster->nature.node_count; to++) {
            cluster->links[from][to].is_blocked = false;
        }
    }
}

static void unblock(struct cluster *cluster, const struct cluster_event *event)
{
    bool does_break = random_chance(&cluster->random, 1, 2);
    for (uint32_t from = 0; from < cluster->nature.node_count; from++) {
        for (uint32_t to = 0; to < cluster->nature.node_count; to++) {
            if (cluster->links[from][to].is_blocked && does_break) {
                break_link(cluster, from, to);
            }
            cluster->links[from][to].is_blocked = false;
        }
    }
    sim__cluster_note(cluster, "network.healed", does_break, 0, 0);
}

void sim__cluster_partition(struct cluster *cluster)
{
    uint32_t count = cluster->nature.node_count;
    uint32_t shape = (uint32_t)random_below(&cluster->random, 3);
    uint32_t side = 1 + (uint32_t)random_below(&cluster->random, (1u << count) - 1);
    bool is_one_way = random_chance(&cluster->random, 1, 3);
    uint32_t alone = sim__cluster_any_node(cluster);
    uint32_t other = sim__cluster_any_node(cluster);
    for (uint32_t from = 0; from < count; from++) {
        for (uint32_t to = 0; to < count; to++) {
            bool is_cut = false;
            switch (shape) {
            case 0: /* Two sides. */
                is_cut = ((side >> from) & 1u) != ((side >> to) & 1u) &&
                         (!is_one_way || ((side >> from) & 1u) != 0);
                break;
            case 1: /* One node, in one direction or both. */
                is_cut = (from == alone) != (to == alone) && (!is_one_way || from == alone);
                break;
            default: /* One pair. */
                is_cut =
                    (from == alone && to == other) || (!is_one_way && from == other && to == alone);
                break;
            }
            cluster->links[from][to].is_blocked = is_cut && from != to;
        }
    }
    sim__cluster_note(cluster, "network.partition", shape, side, is_one_way);
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, 600000), unblock, NULL, 0, NULL);
}
