/* SPDX-License-Identifier: Apache-2.0 */
/* The network: what arrives between two nodes arrives in order, but for the faults. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "core/route/route_internal.h"
#include "core/route/route_world_internal.h"

void route__world_network_init(struct world *world)
{
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        for (uint32_t j = 0; j < WORLD_NODE_COUNT; j++) {
            list_init(&world->wires[i][j].packets);
            world->connections[i][j].is_up = true;
        }
    }
}

static void packet_free(struct world_packet *packet)
{
    list_remove(&packet->link);
    buffer_deinit(&packet->bytes);
    memory_free(packet);
}

static void clear_wire(struct world_wire *wire)
{
    while (!list_is_empty(&wire->packets)) {
        packet_free(LIST_ITEM(wire->packets.next, struct world_packet, link));
    }
    wire->newest_at_ms = 0;
}

void route__world_network_deinit(struct world *world)
{
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        for (uint32_t j = 0; j < WORLD_NODE_COUNT; j++) {
            clear_wire(&world->wires[i][j]);
        }
    }
    route__world_network_heal(world);
}

void route__world_network_heal(struct world *world)
{
    if (world->delayed != NULL) {
        packet_free(world->delayed);
        world->delayed = NULL;
    }
}

static struct world_connection *connection_of(struct world *world, uint32_t left, uint32_t right)
{
    return left < right ? &world->connections[left][right] : &world->connections[right][left];
}

static struct world_packet *packet_create(struct world_node *node, const struct bytes *pieces,
                                          uint32_t piece_count)
{
    struct world_packet *packet = memory_allocate_zeroed(1, sizeof *packet);
    packet->boot_id = node->boot_id;
    list_init(&packet->link);
    for (uint32_t i = 0; i < piece_count; i++) {
        buffer_append(&packet->bytes, pieces[i]);
    }
    return packet;
}

static struct world_packet *copy_of(const struct world_packet *packet)
{
    struct world_packet *copy = memory_allocate_zeroed(1, sizeof *copy);
    copy->boot_id = packet->boot_id;
    list_init(&copy->link);
    buffer_append(&copy->bytes, buffer_bytes(&packet->bytes));
    return copy;
}

static void post(struct world *world, struct world_wire *wire, struct world_packet *packet)
{
    uint64_t delay_ms = random_below(&world->random, world->options.network_delay_ms_max + 1u);
    packet->deliver_at_ms = world->now_ms + 1 + delay_ms;
    if (packet->deliver_at_ms < wire->newest_at_ms) {
        packet->deliver_at_ms = wire->newest_at_ms;
    }
    wire->newest_at_ms = packet->deliver_at_ms;
    list_push_back(&wire->packets, &packet->link);
}

int route__world_send(struct world_node *node, uint32_t to, const struct bytes *pieces,
                      uint32_t piece_count)
{
    struct world *world = node->world;
    ASSERT(to != node->index);
    const struct world_connection *connection = connection_of(world, node->index, to);
    if (!connection->is_up) {
        bool has_noticed = connection->notice_at_ms[node->index < to ? 0 : 1] == 0;
        return has_noticed || route__world_chance(world, 300) ? -ENOTCONN : 0;
    }
    if (route__world_chance(world, world->options.choked_permille)) {
        return -EBUSY;
    }
    world->message_count++;
    struct world_wire *wire = &world->wires[node->index][to];
    if (wire->is_deaf || route__world_chance(world, world->options.lost_permille)) {
        return 0;
    }
    struct world_packet *packet = packet_create(node, pieces, piece_count);
    if (world->delayed == NULL && route__world_chance(world, world->options.delayed_permille)) {
        world->delayed = copy_of(packet);
        world->delayed->deliver_at_ms = world->now_ms + random_below(&world->random, 2000);
        world->delayed_from = node->index;
        world->delayed_to = to;
    }
    post(world, wire, packet);
    if (route__world_chance(world, world->options.repeated_permille)) {
        post(world, wire, copy_of(packet));
    }
    return 0;
}

/* As older software reads it. */
static bool names_slots(struct bytes bytes)
{
    return bytes.data[1] == ROUTE_MESSAGE_REQUESTS && endian_get_u32_le(bytes.data + 44) != 0;
}

static bool is_floor(struct bytes bytes)
{
    return bytes.data[1] == ROUTE_MESSAGE_FLOOR;
}

static void deliver(struct world *world, uint32_t from, uint32_t to, struct world_packet *packet)
{
    struct world_node *node = &world->nodes[to];
    if (node->route != NULL) {
        if (node->is_older && names_slots(buffer_bytes(&packet->bytes))) {
            route__world_fail(world, "node %u is older, and is told of slots", to);
        }
        if (node->is_older && is_floor(buffer_bytes(&packet->bytes))) {
            route__world_fail(world, "node %u is older, and is told of a floor", to);
        }
        node->is_touched = true;
        /* An exact copy, so that a read past its end is found out. */
        size_t size = packet->bytes.size_bytes;
        uint8_t *exact = memory_allocate(size);
        memcpy(exact, packet->bytes.data, size);
        int status = route_receive(node->route, from + 1, packet->boot_id, bytes_make(exact, size));
        memory_free(exact);
        if (status != 0) {
            route__world_fail(world, "a message of node %u was refused", from);
        }
    }
    packet_free(packet);
}

static void deliver_due(struct world *world, uint32_t from, uint32_t to)
{
    struct world_wire *wire = &world->wires[from][to];
    while (!list_is_empty(&wire->packets)) {
        struct world_packet *packet = LIST_ITEM(wire->packets.next, struct world_packet, link);
        if (packet->deliver_at_ms > world->now_ms) {
            return;
        }
        deliver(world, from, to, packet);
    }
}

static void notice(struct world *world, uint32_t index, uint32_t other)
{
    struct world_node *node = &world->nodes[index];
    clear_wire(&world->wires[other][index]);
    if (node->route != NULL) {
        node->is_touched = true;
        route_peer_gone(node->route, other + 1);
    }
}

static void notice_due(struct world *world, uint32_t left, uint32_t right)
{
    struct world_connection *connection = &world->connections[left][right];
    for (uint32_t side = 0; side < 2; side++) {
        uint64_t at_ms = connection->notice_at_ms[side];
        if (at_ms != 0 && at_ms <= world->now_ms) {
            connection->notice_at_ms[side] = 0;
            notice(world, side == 0 ? left : right, side == 0 ? right : left);
        }
    }
}

void route__world_network_step(struct world *world)
{
    for (uint32_t i = 0; i < WORLD_NODE_COUNT; i++) {
        for (uint32_t j = 0; j < WORLD_NODE_COUNT; j++) {
            deliver_due(world, i, j);
            if (i < j) {
                notice_due(world, i, j);
            }
        }
    }
    struct world_packet *delayed = world->delayed;
    if (delayed != NULL && delayed->deliver_at_ms <= world->now_ms) {
        world->delayed = NULL;
        deliver(world, world->delayed_from, world->delayed_to, delayed);
    }
}

bool world_are_connected(const struct world *world, uint32_t left, uint32_t right)
{
    return left < right ? world->connections[left][right].is_up
                        : world->connections[right][left].is_up;
}

void world_disconnect_nodes(struct world *world, uint32_t left, uint32_t right,
                            uint32_t notice_ms_max)
{
    struct world_connection *connection = connection_of(world, left, right);
    if (!connection->is_up) {
        return;
    }
    connection->is_up = false;
    for (uint32_t side = 0; side < 2; side++) {
        connection->notice_at_ms[side] =
            world->now_ms + 1 + random_below(&world->random, notice_ms_max + 1u);
    }
    /* Of what is under way, some arrives. */
    for (uint32_t i = 0; i < 2; i++) {
        struct world_wire *wire = i == 0 ? &world->wires[left][right] : &world->wires[right][left];
        while (!list_is_empty(&wire->packets) && route__world_chance(world, 700)) {
            packet_free(LIST_ITEM(wire->packets.previous, struct world_packet, link));
        }
    }
}

void world_connect_nodes(struct world *world, uint32_t left, uint32_t right)
{
    struct world_connection *connection = connection_of(world, left, right);
    uint32_t low = left < right ? left : right;
    uint32_t high = left < right ? right : left;
    for (uint32_t side = 0; side < 2; side++) {
        if (connection->notice_at_ms[side] != 0) {
            connection->notice_at_ms[side] = 0;
            notice(world, side == 0 ? low : high, side == 0 ? high : low);
        }
    }
    clear_wire(&world->wires[left][right]);
    clear_wire(&world->wires[right][left]);
    connection->is_up = true;
}

void route__world_network_killed(struct world *world, uint32_t index)
{
    for (uint32_t other = 0; other < WORLD_NODE_COUNT; other++) {
        if (other != index) {
            world_disconnect_nodes(world, index, other, 100);
            connection_of(world, index, other)->notice_at_ms[index < other ? 0 : 1] = 0;
        }
    }
}

void world_set_deaf(struct world *world, uint32_t from, uint32_t to, bool is_deaf)
{
    world->wires[from][to].is_deaf = is_deaf;
}

uint64_t world_message_count(const struct world *world)
{
    return world->message_count;
}
