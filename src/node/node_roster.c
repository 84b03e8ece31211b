/* SPDX-License-Identifier: Apache-2.0 */
/* Who else is there.
 *
 * Who belongs to the cluster is in the rows of the first shard (service/system). A node that has a
 * replica of it looks there, and tells the others where nodes are, in lines of "number address"; one that has
 * none asks now and then. What is known is kept in the file `roster`, as such lines, so that a node that
 * starts knows whom to call. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "node/node_cluster.h"

enum { ROSTER_SIZE_BYTES_MAX = 1 << 20, ROSTER_ASK_INTERVAL_MS = 2000 };

/* ---- Who was removed ------------------------------------------------------------------------- */

bool node_roster_is_removed(const struct node_cluster *cluster, uint32_t node)
{
    for (uint32_t i = 0; i < cluster->removed_count; i++) {
        if (cluster->removed[i] == node) {
            return true;
        }
    }
    return false;
}

void node_roster_note(struct node_cluster *cluster, uint32_t node, bool is_removed)
{
    if (is_removed == node_roster_is_removed(cluster, node)) {
        return;
    }
    if (is_removed) {
        cluster->removed = memory_resize(cluster->removed,
                                         (cluster->removed_count + 1) * sizeof cluster->removed[0]);
        cluster->removed[cluster->removed_count++] = node;
        return;
    }
    uint32_t kept = 0; /* A number that was given again, by a cluster that was recovered. */
    for (uint32_t i = 0; i < cluster->removed_count; i++) {
        if (cluster->removed[i] != node) {
            cluster->removed[kept++] = cluster->removed[i];
        }
    }
    cluster->removed_count = kept;
}

/* ---- Peers ----------------------------------------------------------------------------------- */

struct node_peer *node_roster_find(struct node_cluster *cluster, uint32_t id)
{
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        if (cluster->peers[i].id == id) {
            return &cluster->peers[i];
        }
    }
    return NULL;
}

static void remove_peer(struct node_cluster *cluster, struct node_peer *peer)
{
    wire_remove_peer(cluster->wire, peer->id);
    wire_hang_up(cluster->wire, peer->id);
    route_peer_gone(cluster->route, peer->id);
    struct member_input input = {.kind = MEMBER_INPUT_SET, .node = peer->id, .is_removed = true};
    node_cluster_step_member(cluster, &input);
    beats_deinit(&peer->beats);
    const struct node_peer *end = &cluster->peers[cluster->peer_count--];
    memmove(peer, peer + 1, (size_t)(end - (peer + 1)) * sizeof *peer);
}

static struct node_peer *add_peer(struct node_cluster *cluster, uint32_t id)
{
    struct node_peer *peer = node_roster_find(cluster, id);
    if (peer != NULL || cluster->peer_count == NODE_PEER_COUNT_MAX) {
        return peer;
    }
    uint32_t place = 0;
    while (place < cluster->peer_count && cluster->peers[place].id < id) {
        place++;
    }
    peer = &cluster->peers[place];
    memmove(peer + 1, peer, (cluster->peer_count - place) * sizeof *peer);
    cluster->peer_count++;
    *peer = (struct node_peer){.id = id, .state = SYSTEM_NODE_ACTIVE};
    return peer;
}

/* The node is in the roster, and reached there. Nothing is looked up here: the wire does that, when it
 * dials. */
static struct node_peer *set_peer(struct node_cluster *cluster, uint32_t id, const char *text)
{
    char host[OS_HOST_SIZE];
    uint16_t port = 0;
    size_t size = strlen(text) + 1;
    _Static_assert(SYSTEM_ADDRESS_SIZE <= WIRE_ADDRESS_SIZE, "the wire has room for any of them");
    if (id == cluster->self || id == 0 || node_fence_is_up(cluster)) {
        return NULL;
    }
    if (size > SYSTEM_ADDRESS_SIZE || !os_address_split(text, host, &port)) {
        OS_LOG_WARN(cluster->log, "node.peer_address", "node=%" PRIu32 " reason=%s", id,
                    "its address is not HOST:PORT");
        return NULL;
    }
    struct node_peer *peer = add_peer(cluster, id);
    if (peer == NULL) {
        return NULL;
    }
    memcpy(peer->address, text, size);
    int status = wire_set_peer(cluster->wire, id, text);
    ASSERT(status == 0);
    struct member_input input = {
        .kind = MEMBER_INPUT_SET, .node = id, .address = bytes_of_text(text)};
    node_cluster_step_member(cluster, &input);
    return peer;
}

/* ---- The roster ------------------------------------------------------------------------------ */

void node_roster_save(struct node_cluster *cluster)
{
    struct buffer text = {0};
    struct error error = {0};
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        buffer_append_format(&text, "%" PRIu32 " %s\n", cluster->peers[i].id,
                             cluster->peers[i].address);
    }
    if (cluster->is_roster_saved &&
        bytes_equal(buffer_bytes(&text), buffer_bytes(&cluster->roster_saved))) {
        buffer_deinit(&text);
        return;
    }
    int status =
        os_file_write(node_data_path(cluster->data, NODE_FILE_ROSTER), buffer_bytes(&text), &error);
    if (status != 0) { /* Now it has the one or the other. */
        OS_LOG_WARN(cluster->log, "node.roster_not_saved", "reason=%s", error.message);
    }
    buffer_deinit(&cluster->roster_saved);
    cluster->roster_saved = text;
    cluster->is_roster_saved = status == 0;
}

void node_roster_read(struct node_cluster *cluster, struct bytes text, bool are_known_kept)
{
    while (text.size_bytes > 0) {
        const uint8_t *end = memchr(text.data, '\n', text.size_bytes);
        size_t length = end != NULL ? (size_t)(end - text.data) : text.size_bytes;
        const uint8_t *space = memchr(text.data, ' ', length);
        uint64_t id = 0;
        if (space != NULL &&
            number_parse_unsigned(bytes_make(text.data, (size_t)(space - text.data)), &id) &&
            id <= UINT32_MAX && !node_roster_is_removed(cluster, (uint32_t)id) &&
            !(are_known_kept && node_roster_find(cluster, (uint32_t)id) != NULL)) {
            char address[SYSTEM_ADDRESS_SIZE] = {0};
            size_t size = length - (size_t)(space - text.data) - 1;
            if (size < sizeof address) {
                memcpy(address, space + 1, size);
                (void)set_peer(cluster, (uint32_t)id, address);
            }
        }
        size_t used = end != NULL ? length + 1 : length;
        text = bytes_make(text.data + used, text.size_bytes - used);
    }
}

void node_roster_load(struct node_cluster *cluster)
{
    struct buffer text = {0};
    if (os_file_read(node_data_path(cluster->data, NODE_FILE_ROSTER), ROSTER_SIZE_BYTES_MAX, &text,
                     NULL) == 0) {
        node_roster_read(cluster, buffer_bytes(&text), false);
        cluster->is_roster_saved = true;
    }
    buffer_deinit(&cluster->roster_saved);
    cluster->roster_saved = text;
}

static void take_node(struct node_cluster *cluster, const struct system_node *node)
{
    node_roster_note(cluster, node->id, node->state == SYSTEM_NODE_REMOVED);
    if (node->state == SYSTEM_NODE_REMOVED) {
        struct node_peer *removed = node_roster_find(cluster, node->id);
        if (removed != NULL) {
            remove_peer(cluster, removed);
        }
        return;
    }
    if (node->id == cluster->self) {
        cluster->self_state = node->state;
    }
    struct node_peer *peer = set_peer(cluster, node->id, node->peer);
    if (peer != NULL) {
        peer->state = node->state;
        memcpy(peer->zone, node->zone, sizeof peer->zone);
        memcpy(peer->redis, node->redis, sizeof peer->redis);
        memcpy(peer->admin, node->admin, sizeof peer->admin);
    }
}

void node_roster_note_state(struct node_cluster *cluster, uint32_t node,
                            enum system_node_state state)
{
    struct node_peer *peer = node_roster_find(cluster, node);
    cluster->is_roster_answer_old = true;
    if (state == SYSTEM_NODE_REMOVED) {
        return; /* Who is removed is no peer any more: that comes with the rows. */
    }
    if (node == cluster->self) {
        cluster->self_state = state;
    } else if (peer != NULL) {
        peer->state = state;
    }
}

/* What the cluster says of its shards is written down behind a split, so this node may know more. */
static void take_map(const struct node_cluster *cluster)
{
    const struct slots *agreed = system_slots(cluster->shards->system);
    const struct slots *known = node_shards_map(cluster->shards);
    if (!node_map_adopt(cluster->shards, agreed)) {
        OS_LOG_ERROR(cluster->log, "node.map_differs",
                     "shards=%" PRIu32 " agreed=%" PRIu32 " action=%s", known->range_count,
                     agreed->range_count,
                     "stop this node: its directory is not that of a node of this cluster");
    }
}

/* This node has a replica of the system's state. */
void node_roster_look(struct node_cluster *cluster)
{
    const struct system *system = cluster->shards->system;
    uint64_t generation = system_generation(system);
    if (generation == 0 || generation == cluster->roster_generation) {
        return;
    }
    cluster->roster_generation = generation;
    take_map(cluster);
    for (uint32_t i = 0; i < system_node_count(system); i++) {
        take_node(cluster, system_node_at(system, i));
    }
    node_roster_save(cluster);
    node_roster_tell(cluster);
}

static void roster_came(void *context, int status, struct bytes reply)
{
    struct node_cluster *cluster = context;
    struct system_nodes nodes;
    if (cluster->is_roster_answer_old || status != 0 ||
        system_reply_nodes(reply, &nodes, NULL) != 0) {
        return;
    }
    for (uint32_t i = 0; i < nodes.node_count; i++) {
        take_node(cluster, &nodes.nodes[i]);
    }
    node_roster_save(cluster);
    system_nodes_deinit(&nodes);
}

void node_roster_ask(struct node_cluster *cluster, uint64_t now_ms)
{
    if (node_cluster_has_rows(cluster) ||
        now_ms < cluster->roster_asked_at_ms + ROSTER_ASK_INTERVAL_MS) {
        return;
    }
    cluster->roster_asked_at_ms = now_ms;
    cluster->is_roster_answer_old = false;
    struct system_command command;
    system_nodes_command(&command);
    node_errand_try(cluster, &command, roster_came, cluster);
}

/* ---- Telling others -------------------------------------------------------------------------- */

static void write_roster(const struct node_cluster *cluster, struct buffer *text)
{
    const struct system *system = cluster->shards->system;
    for (uint32_t i = 0; i < system_node_count(system); i++) {
        const struct system_node *node = system_node_at(system, i);
        if (node->state != SYSTEM_NODE_REMOVED) {
            buffer_append_format(text, "%" PRIu32 " %s\n", node->id, node->peer);
        }
    }
}

void node_roster_tell_to(struct node_cluster *cluster, uint32_t node)
{
    struct buffer text = {0};
    if (!node_cluster_has_rows(cluster)) {
        return;
    }
    write_roster(cluster, &text);
    if (text.size_bytes > 0) {
        node_cluster_send_roster(cluster, node, buffer_bytes(&text));
    }
    buffer_deinit(&text);
}

void node_roster_tell(struct node_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        node_roster_tell_to(cluster, cluster->peers[i].id);
    }
}
