/* SPDX-License-Identifier: Apache-2.0 */
/* CLUSTER, READONLY, READWRITE, ASKING, and -MOVED.
 *
 * Any node takes any command, so nobody needs to know who leads what; a client that does saves a hop.
 * Such a client asks (CLUSTER SLOTS, SHARDS or NODES) or says so (READONLY, READWRITE, ASKING). From
 * then on its connection is in *cluster mode*: a command whose keys are in one slot that another node
 * leads is answered with -MOVED, from which cluster-aware clients learn that their map is old.
 * Connections that never asked never see a redirect. RESET ends it.
 *
 * Redis knows masters and replicas of them, and each node is one or the other. Here a node leads some
 * ranges and follows in others. What is said of it follows the slots: per range there is one leader,
 * called master, and its replicas; a node that leads anything is a master where a single word must
 * do. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "gateway/resp/resp_cluster.h"
#include "gateway/resp/resp_internal.h"

/* ---- What the backend says ------------------------------------------------------------------- */

void resp_cluster_set(struct resp_cluster *cluster, const char *id, uint64_t epoch)
{
    ASSERT(strlen(id) == RESP_CLUSTER_ID_SIZE - 1);
    memcpy(cluster->id, id, RESP_CLUSTER_ID_SIZE);
    cluster->epoch = epoch;
}

void resp_cluster_add_node(struct resp_cluster *cluster, const struct resp_cluster_node *node)
{
    if (cluster->node_count == cluster->node_capacity) {
        cluster->node_capacity = cluster->node_capacity == 0 ? 8 : 2 * cluster->node_capacity;
        cluster->nodes =
            memory_resize(cluster->nodes, cluster->node_capacity * sizeof *cluster->nodes);
    }
    struct cluster_node *added = &cluster->nodes[cluster->node_count++];
    *added = (struct cluster_node){.node = *node};
    (void)snprintf(added->host, sizeof added->host, "%s", node->host);
    added->node.host = NULL; /* The copy moves with the array. */
    (void)snprintf(added->id, sizeof added->id, "%08x%s", node->id, cluster->id);
}

static bool is_same_group(const struct cluster_range *left, const struct cluster_range *right)
{
    return left->leader == right->leader && left->replica_count == right->replica_count &&
           memcmp(left->replicas, right->replicas,
                  left->replica_count * sizeof left->replicas[0]) == 0;
}

void resp_cluster_add_range(struct resp_cluster *cluster, const struct resp_cluster_range *range)
{
    struct cluster_range added = {
        .first = range->first,
        .last = range->last,
        .leader = range->leader,
        .replica_count = range->replica_count < RESP_CLUSTER_REPLICA_COUNT_MAX
                             ? range->replica_count
                             : RESP_CLUSTER_REPLICA_COUNT_MAX,
    };
    ASSERT(range->first <= range->last && range->last < KV_SLOT_COUNT);
    for (uint32_t i = 0; i < added.replica_count; i++) {
        added.replicas[i] = range->replicas[i];
    }
    struct cluster_range *before =
        cluster->range_count == 0 ? NULL : &cluster->ranges[cluster->range_count - 1];
    if (before != NULL && added.first <= before->last) {
        if (added.last <= before->last) {
            return; /* A part of a slot: whoever leads its first part stands for it. */
        }
        added.first = (uint16_t)(before->last + 1);
    }
    if (before != NULL && before->last + 1 == added.first && is_same_group(before, &added)) {
        before->last = added.last;
        return;
    }
    if (cluster->range_count == cluster->range_capacity) {
        cluster->range_capacity = cluster->range_capacity == 0 ? 16 : 2 * cluster->range_capacity;
        cluster->ranges =
            memory_resize(cluster->ranges, cluster->range_capacity * sizeof *cluster->ranges);
    }
    cluster->ranges[cluster->range_count++] = added;
}

/* ---- What clients see ------------------------------------------------------------------------ */

/* The address by which the client has reached us, for a node that does not know its own. */
static void take_local_host(const struct connection *connection, struct cluster_node *node)
{
    char text[OS_ADDRESS_TEXT_SIZE];
    uint16_t port = 0;
    os_stream_local(connection->stream, text);
    if (!os_address_split(text, node->host, &port)) {
        node->host[0] = '\0'; /* "The address that you used." */
    }
    if (node->node.port == 0) {
        node->node.port = port;
    }
}

static void be_alone(const struct connection *connection, struct resp_cluster *cluster)
{
    struct resp_information information = {0};
    const struct resp_backend *backend = connection->server->backend;
    backend->get_information(backend->context, &information);
    resp_cluster_add_node(cluster,
                          &(struct resp_cluster_node){.id = 1,
                                                      .host = "",
                                                      .is_self = true,
                                                      .is_online = true,
                                                      .offset = information.applied_index});
    (void)snprintf(cluster->nodes[0].id, sizeof cluster->nodes[0].id, "%s", information.run_id);
    resp_cluster_add_range(
        cluster, &(struct resp_cluster_range){.first = 0, .last = KV_SLOT_COUNT - 1, .leader = 1});
}

static int compare_nodes(const void *left, const void *right)
{
    uint32_t left_id = ((const struct cluster_node *)left)->node.id;
    uint32_t right_id = ((const struct cluster_node *)right)->node.id;
    return (left_id > right_id) - (left_id < right_id);
}

struct cluster_node *resp__cluster_node(const struct resp_cluster *cluster, uint32_t id)
{
    const struct cluster_node wanted = {.node = {.id = id}};
    return bsearch(&wanted, cluster->nodes, cluster->node_count, sizeof wanted, compare_nodes);
}

/* Who stands for a range whose leader is not known, or nobody that we know: any node takes any
 * command, so it may be us. Was it known? */
static bool settle_leader(const struct resp_cluster *cluster, struct cluster_range *range)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < range->replica_count; i++) {
        if (resp__cluster_node(cluster, range->replicas[i]) != NULL &&
            range->replicas[i] != range->leader) {
            range->replicas[kept++] = range->replicas[i];
        }
    }
    range->replica_count = kept;
    if (resp__cluster_node(cluster, range->leader) != NULL) {
        return true;
    }
    range->leader = cluster->self->node.id;
    for (uint32_t i = 0; i < range->replica_count; i++) {
        if (range->replicas[i] == range->leader) {
            range->replicas[i] = range->replicas[--range->replica_count];
        }
    }
    return false;
}

void resp__cluster_describe(const struct connection *connection, struct resp_cluster *cluster)
{
    const struct resp_backend *backend = connection->server->backend;
    *cluster = (struct resp_cluster){0};
    if (backend->get_cluster != NULL) {
        backend->get_cluster(backend->context, cluster);
    }
    if (cluster->node_count == 0 || cluster->range_count == 0) {
        resp__cluster_deinit(cluster);
        be_alone(connection, cluster);
    }
    qsort(cluster->nodes, cluster->node_count, sizeof *cluster->nodes, compare_nodes);
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        struct cluster_node *node = &cluster->nodes[i];
        if (node->node.is_self) {
            cluster->self = node;
            if (node->host[0] == '\0') {
                take_local_host(connection, node);
            }
        }
    }
    ASSERT(cluster->self != NULL);
    for (uint32_t i = 0; i < cluster->range_count; i++) {
        uint32_t slot_count = cluster->ranges[i].last - cluster->ranges[i].first + 1u;
        cluster->leaderless_slot_count +=
            settle_leader(cluster, &cluster->ranges[i]) ? 0 : slot_count;
        resp__cluster_node(cluster, cluster->ranges[i].leader)->led_slot_count += slot_count;
    }
}

void resp__cluster_deinit(struct resp_cluster *cluster)
{
    memory_free(cluster->nodes);
    memory_free(cluster->ranges);
    *cluster = (struct resp_cluster){0};
}

/* ---- CLUSTER SLOTS and SHARDS ---------------------------------------------------------------- */

static void reply_place(const struct reply *reply, const struct cluster_node *node)
{
    reply_array(reply, 4);
    reply_bulk_text(reply, node->host);
    reply_integer(reply, node->node.port);
    reply_bulk_text(reply, node->id);
    reply_array(reply, 0); /* No other names. */
}

static void reply_slots(const struct reply *reply, const struct resp_cluster *cluster)
{
    reply_array(reply, cluster->range_count);
    for (uint32_t i = 0; i < cluster->range_count; i++) {
        const struct cluster_range *range = &cluster->ranges[i];
        reply_array(reply, 3 + range->replica_count);
        reply_integer(reply, range->first);
        reply_integer(reply, range->last);
        reply_place(reply, resp__cluster_node(cluster, range->leader));
        for (uint32_t j = 0; j < range->replica_count; j++) {
            reply_place(reply, resp__cluster_node(cluster, range->replicas[j]));
        }
    }
}

static void reply_shard_node(const struct reply *reply, const struct cluster_node *node,
                             const char *role)
{
    reply_map(reply, 7);
    reply_bulk_text(reply, "id");
    reply_bulk_text(reply, node->id);
    reply_bulk_text(reply, "port");
    reply_integer(reply, node->node.port);
    reply_bulk_text(reply, "ip");
    reply_bulk_text(reply, node->host);
    reply_bulk_text(reply, "endpoint");
    reply_bulk_text(reply, node->host);
    reply_bulk_text(reply, "role");
    reply_bulk_text(reply, role);
    reply_bulk_text(reply, "replication-offset");
    reply_integer(reply, (int64_t)node->node.offset);
    reply_bulk_text(reply, "health");
    reply_bulk_text(reply, node->node.is_online ? "online" : "fail");
}

/* By leader and replicas, then by slot. */
static int compare_ranges(const void *left, const void *right)
{
    const struct cluster_range *a = left;
    const struct cluster_range *b = right;
    if (a->leader != b->leader) {
        return a->leader < b->leader ? -1 : 1;
    }
    if (a->replica_count != b->replica_count) {
        return a->replica_count < b->replica_count ? -1 : 1;
    }
    int order = memcmp(a->replicas, b->replicas, a->replica_count * sizeof a->replicas[0]);
    return order != 0 ? order : (a->first > b->first) - (a->first < b->first);
}

/* The ranges of one leader with the same replicas are what Redis calls a shard. */
static void reply_shard(const struct reply *reply, const struct resp_cluster *cluster,
                        const struct cluster_range *group, uint32_t range_count)
{
    reply_map(reply, 2);
    reply_bulk_text(reply, "slots");
    reply_array(reply, 2ull * range_count);
    for (uint32_t i = 0; i < range_count; i++) {
        reply_integer(reply, group[i].first);
        reply_integer(reply, group[i].last);
    }
    reply_bulk_text(reply, "nodes");
    reply_array(reply, 1 + group->replica_count);
    reply_shard_node(reply, resp__cluster_node(cluster, group->leader), "master");
    for (uint32_t i = 0; i < group->replica_count; i++) {
        reply_shard_node(reply, resp__cluster_node(cluster, group->replicas[i]), "replica");
    }
}

static void reply_shards(const struct reply *reply, const struct resp_cluster *cluster)
{
    size_t size_bytes = cluster->range_count * sizeof *cluster->ranges;
    struct cluster_range *sorted = memory_allocate(size_bytes);
    memcpy(sorted, cluster->ranges, size_bytes);
    qsort(sorted, cluster->range_count, sizeof *sorted, compare_ranges);
    uint32_t group_count = 1;
    for (uint32_t i = 1; i < cluster->range_count; i++) {
        group_count += !is_same_group(&sorted[i - 1], &sorted[i]);
    }
    reply_array(reply, group_count);
    for (uint32_t first = 0; first < cluster->range_count;) {
        uint32_t end = first + 1;
        while (end < cluster->range_count && is_same_group(&sorted[first], &sorted[end])) {
            end++;
        }
        reply_shard(reply, cluster, &sorted[first], end - first);
        first = end;
    }
    memory_free(sorted);
}

/* ---- CLUSTER NODES --------------------------------------------------------------------------- */

/* Whom a node that leads nothing follows somewhere; NULL: nobody. */
static const struct cluster_node *leader_of_replica(const struct resp_cluster *cluster, uint32_t id)
{
    for (uint32_t i = 0; i < cluster->range_count; i++) {
        const struct cluster_range *range = &cluster->ranges[i];
        for (uint32_t j = 0; j < range->replica_count; j++) {
            if (range->replicas[j] == id) {
                return resp__cluster_node(cluster, range->leader);
            }
        }
    }
    return NULL;
}

static void append_node(struct buffer *text, const struct resp_cluster *cluster,
                        const struct cluster_node *node)
{
    const struct cluster_node *leader =
        node->led_slot_count > 0 ? NULL : leader_of_replica(cluster, node->node.id);
    buffer_append_format(text, "%s %s:%u@%u %s%s%s %s 0 0 %llu %s", node->id, node->host,
                         node->node.port, node->node.peer_port, node->node.is_self ? "myself," : "",
                         leader != NULL ? "slave" : "master", node->node.is_online ? "" : ",fail",
                         leader != NULL ? leader->id : "-", (unsigned long long)cluster->epoch,
                         node->node.is_online ? "connected" : "disconnected");
    for (uint32_t i = 0; i < cluster->range_count; i++) {
        const struct cluster_range *range = &cluster->ranges[i];
        if (range->leader == node->node.id && range->first == range->last) {
            buffer_append_format(text, " %u", range->first);
        } else if (range->leader == node->node.id) {
            buffer_append_format(text, " %u-%u", range->first, range->last);
        }
    }
    buffer_append_byte(text, '\n');
}

static void reply_nodes(const struct reply *reply, const struct resp_cluster *cluster)
{
    struct buffer text = {0};
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        append_node(&text, cluster, &cluster->nodes[i]);
    }
    reply_verbatim(reply, "txt", buffer_bytes(&text));
    buffer_deinit(&text);
}

/* ---- CLUSTER INFO ---------------------------------------------------------------------------- */

static void reply_info(const struct reply *reply, const struct resp_cluster *cluster)
{
    struct buffer text = {0};
    uint32_t slot_count = 0;
    uint32_t online_slot_count = 0;
    uint32_t leader_count = 0;
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        leader_count += node->led_slot_count > 0;
        slot_count += node->led_slot_count;
        online_slot_count += node->node.is_online ? node->led_slot_count : 0;
    }
    online_slot_count -=
        cluster->leaderless_slot_count; /* This node stands for them, and is online. */
    bool is_whole = online_slot_count == KV_SLOT_COUNT;
    buffer_append_format(&text,
                         "cluster_state:%s\r\ncluster_slots_assigned:%u\r\ncluster_slots_ok:%u\r\n"
                         "cluster_slots_pfail:0\r\ncluster_slots_fail:%u\r\n"
                         "cluster_known_nodes:%u\r\ncluster_size:%u\r\n"
                         "cluster_current_epoch:%llu\r\ncluster_my_epoch:%llu\r\n"
                         "cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n"
                         "total_cluster_links_buffer_limit_exceeded:0\r\n",
                         is_whole ? "ok" : "fail", slot_count, online_slot_count,
                         slot_count - online_slot_count, cluster->node_count, leader_count,
                         (unsigned long long)cluster->epoch, (unsigned long long)cluster->epoch);
    reply_verbatim(reply, "txt", buffer_bytes(&text));
    buffer_deinit(&text);
}

/* ---- Subcommands ----------------------------------------------------------------------------- */

#define CLUSTER_HANDLER(name)                                                              \
    static enum handled name(struct connection *connection, const struct bytes *arguments, \
                             uint32_t count, const struct reply *reply)

/* Answer with what `write` makes of the cluster. */
static enum handled show(struct connection *connection, const struct reply *reply,
                         void (*write)(const struct reply *reply,
                                       const struct resp_cluster *cluster))
{
    struct resp_cluster cluster;
    resp__cluster_describe(connection, &cluster);
    write(reply, &cluster);
    resp__cluster_deinit(&cluster);
    return HANDLED_DONE;
}

CLUSTER_HANDLER(cluster_slots)
{
    connection->is_cluster = true;
    return show(connection, reply, reply_slots);
}

CLUSTER_HANDLER(cluster_shards)
{
    connection->is_cluster = true;
    return show(connection, reply, reply_shards);
}

CLUSTER_HANDLER(cluster_nodes)
{
    connection->is_cluster = true;
    return show(connection, reply, reply_nodes);
}

CLUSTER_HANDLER(cluster_info)
{
    return show(connection, reply, reply_info);
}

static void reply_self_id(const struct reply *reply, const struct resp_cluster *cluster)
{
    reply_bulk_text(reply, cluster->self->id);
}

CLUSTER_HANDLER(cluster_myid)
{
    return show(connection, reply, reply_self_id);
}

CLUSTER_HANDLER(cluster_keyslot)
{
    reply_integer(reply, kv_slot_of_key(arguments[2]));
    return HANDLED_DONE;
}

CLUSTER_HANDLER(cluster_links)
{
    reply_array(reply, 0);
    return HANDLED_DONE;
}

/* Let the shard of a slot answer. */
static enum handled ask_slot(struct connection *connection, uint16_t opcode,
                             const struct bytes *arguments, uint32_t count,
                             const struct reply *reply)
{
    int64_t slot = 0;
    bool is_number = number_parse_integer(arguments[2], &slot);
    ASSERT(is_number && slot >= 0 && slot < KV_SLOT_COUNT);
    const struct slots *slots = resp__slots(connection->server);
    struct submission submission = {
        .entry = resp__command_find(&connection->server->group->commands, BYTES("cluster")),
        .slots = slots,
        .range = resp__range_of_slot(slots, (uint32_t)slot),
        .command = {.opcode = opcode, .argument_count = count - 2, .arguments = arguments + 2},
    };
    int refused;
    enum handled handled = resp__submit(connection, &submission, reply, &refused);
    if (handled == HANDLED_DONE && refused != 0) {
        resp__reply_refusal(reply, refused);
    }
    return handled;
}

static bool read_number(struct bytes text, int64_t *number, const struct reply *reply)
{
    bool is_number = number_parse_integer(text, number);
    if (!is_number) {
        reply_error(reply, "ERR value is not an integer or out of range");
    }
    return is_number;
}

static bool is_slot(int64_t number)
{
    return number >= 0 && number < KV_SLOT_COUNT;
}

CLUSTER_HANDLER(cluster_countkeysinslot)
{
    int64_t slot;
    if (!read_number(arguments[2], &slot, reply)) {
        return HANDLED_DONE;
    }
    if (!is_slot(slot)) {
        reply_error(reply, "ERR Invalid slot");
        return HANDLED_DONE;
    }
    return ask_slot(connection, kv_slot_count_opcode(), arguments, count, reply);
}

CLUSTER_HANDLER(cluster_getkeysinslot)
{
    int64_t slot;
    int64_t key_count;
    if (!read_number(arguments[2], &slot, reply) || !read_number(arguments[3], &key_count, reply)) {
        return HANDLED_DONE;
    }
    if (!is_slot(slot) || key_count < 0) {
        reply_error(reply, "ERR Invalid slot or number of keys");
        return HANDLED_DONE;
    }
    return ask_slot(connection, kv_slot_keys_opcode(), arguments, count, reply);
}

/* What changes a cluster of Redis by hand. */
CLUSTER_HANDLER(cluster_change)
{
    reply_error(reply, "ERR this cluster keeps itself in order; operators change it with the "
                       "commands of `tutti help`");
    return HANDLED_DONE;
}

CLUSTER_HANDLER(cluster_help)
{
    static const char *const lines[] = {
        "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "COUNTKEYSINSLOT <slot>",
        "    Return the number of keys in <slot>.",
        "GETKEYSINSLOT <slot> <count>",
        "    Return key names in a slot.",
        "INFO",
        "    Return information about the cluster.",
        "KEYSLOT <key>",
        "    Return the hash slot for <key>.",
        "LINKS",
        "    Return nothing: links are in the metrics.",
        "MYID",
        "    Return the node id.",
        "NODES",
        "    Return the nodes and the slots that they lead.",
        "SHARDS",
        "    Return slot ranges with their nodes.",
        "SLOTS",
        "    Return slot ranges with leader and replicas.",
    };
    resp__reply_help(reply, lines, COUNT_OF(lines));
    return HANDLED_DONE;
}

RESP_HANDLER(cluster)
{
    static const struct subcommand subcommands[] = {
        {"countkeysinslot", 3, cluster_countkeysinslot},
        {"getkeysinslot", 4, cluster_getkeysinslot},
        {"help", 2, cluster_help},
        {"info", 2, cluster_info},
        {"keyslot", 3, cluster_keyslot},
        {"links", 2, cluster_links},
        {"myid", 2, cluster_myid},
        {"nodes", 2, cluster_nodes},
        {"shards", 2, cluster_shards},
        {"slots", 2, cluster_slots},
        {"addslots", -3, cluster_change},
        {"addslotsrange", -4, cluster_change},
        {"bumpepoch", 2, cluster_change},
        {"delslots", -3, cluster_change},
        {"delslotsrange", -4, cluster_change},
        {"failover", -2, cluster_change},
        {"flushslots", 2, cluster_change},
        {"forget", 3, cluster_change},
        {"meet", -4, cluster_change},
        {"replicate", 3, cluster_change},
        {"reset", -2, cluster_change},
        {"saveconfig", 2, cluster_change},
        {"set-config-epoch", 3, cluster_change},
        {"setslot", -4, cluster_change},
    };
    return resp__run_subcommand(subcommands, COUNT_OF(subcommands), connection, arguments, count,
                                reply);
}

/* ---- Cluster mode ---------------------------------------------------------------------------- */

RESP_HANDLER(readonly)
{
    connection->is_cluster = true;
    connection->is_readonly = true;
    reply_ok(reply);
    return HANDLED_DONE;
}

RESP_HANDLER(readwrite)
{
    connection->is_cluster = true;
    connection->is_readonly = false;
    reply_ok(reply);
    return HANDLED_DONE;
}

/* Nothing is ever half moved for clients, so there is nothing to ask for. */
RESP_HANDLER(asking)
{
    connection->is_cluster = true;
    reply_ok(reply);
    return HANDLED_DONE;
}

/* The slot of all keys of a command; false: it has none, or several. */
static bool find_slot(const struct kv_command *command, const struct bytes *arguments,
                      uint32_t count, uint16_t *slot)
{
    if (command->keys.first <= 0) {
        return false;
    }
    int64_t last =
        command->keys.last >= 0 ? command->keys.last : (int64_t)count + command->keys.last;
    bool is_found = false;
    for (int64_t i = command->keys.first; i <= last && i < count; i += command->keys.step) {
        uint16_t found = kv_slot_of_key(arguments[i]);
        if (is_found && found != *slot) {
            return false;
        }
        *slot = found;
        is_found = true;
    }
    return is_found;
}

bool resp__cluster_redirect(const struct connection *connection, const struct kv_command *command,
                            const struct bytes *arguments, uint32_t count,
                            const struct reply *reply)
{
    const struct resp_backend *backend = connection->server->backend;
    struct resp_place place = {0};
    uint16_t slot = 0;
    bool is_stale_read = connection->is_readonly && (command->flags & KV_FLAG_WRITE) == 0;
    if (backend->find_leader == NULL || is_stale_read ||
        !find_slot(command, arguments, count, &slot) ||
        !backend->find_leader(backend->context, slot, &place)) {
        return false;
    }
    reply_error(reply, "MOVED %u %s:%u", slot, place.host, place.port);
    return true;
}
