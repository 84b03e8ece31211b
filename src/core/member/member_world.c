/* SPDX-License-Identifier: Apache-2.0 */
#include "core/member/member_world.h"

#include <stdio.h>

#include "base/assert/assert.h"
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "base/random/random.h"
#include "core/member/member_internal.h"

enum { WALL_CLOCK_START_MS = 1000000, INBOX_COUNT_MAX = 2000 };

struct parcel {
    struct list link;
    member_node from;
    member_node to;
    size_t size_bytes;
    uint8_t data[MEMBER_MESSAGE_SIZE_MAX];
};

struct node {
    struct member *member; /* NULL: it does not run. */
    bool is_in_roster;
    bool is_paused;
    uint32_t boot_count;
    uint64_t wake_at_ms;
    struct list inbox; /* While it is paused. */
    uint32_t inbox_count;
};

/* A time at which something happens: a parcel arrives, or a node wakes. */
struct moment {
    uint64_t at_us;
    uint64_t order;
    struct parcel *parcel;
    member_node node;
};

struct member__world {
    struct member__world_options options;
    struct random random;
    uint64_t now_us;
    uint32_t node_count_max;
    struct node *nodes;     /* From 1. */
    bool *is_cut;           /* [from][to] */
    struct moment *moments; /* A binary heap. */
    uint32_t moment_count;
    uint32_t moment_capacity;
    uint64_t order;
    struct list free_parcels;
};

/* ---- The heap -------------------------------------------------------------------------------- */

static bool is_earlier(const struct moment *left, const struct moment *right)
{
    return left->at_us < right->at_us ||
           (left->at_us == right->at_us && left->order < right->order);
}

static void push_moment(struct member__world *world, struct moment moment)
{
    if (world->moment_count == world->moment_capacity) {
        world->moment_capacity = world->moment_capacity == 0 ? 1024 : world->moment_capacity * 2;
        world->moments =
            memory_resize(world->moments, world->moment_capacity * sizeof world->moments[0]);
    }
    moment.order = world->order++;
    uint32_t place = world->moment_count++;
    while (place > 0 && is_earlier(&moment, &world->moments[(place - 1) / 2])) {
        world->moments[place] = world->moments[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    world->moments[place] = moment;
}

static struct moment pop_moment(struct member__world *world)
{
    ASSERT(world->moment_count > 0);
    struct moment first = world->moments[0];
    struct moment last = world->moments[--world->moment_count];
    uint32_t place = 0;
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= world->moment_count) {
            break;
        }
        if (child + 1 < world->moment_count &&
            is_earlier(&world->moments[child + 1], &world->moments[child])) {
            child++;
        }
        if (!is_earlier(&world->moments[child], &last)) {
            break;
        }
        world->moments[place] = world->moments[child];
        place = child;
    }
    world->moments[place] = last;
    return first;
}

/* ---- The network ----------------------------------------------------------------------------- */

static bool *cut_of(const struct member__world *world, member_node from, member_node to)
{
    return &world->is_cut[(size_t)from * (world->node_count_max + 1) + to];
}

static struct node *node_of(const struct member__world *world, member_node node)
{
    ASSERT(node > 0 && node <= world->node_count_max);
    return &world->nodes[node];
}

static struct parcel *take_parcel(struct member__world *world)
{
    struct list *link = list_pop_front(&world->free_parcels);
    if (link != NULL) {
        return LIST_ITEM(link, struct parcel, link);
    }
    struct parcel *parcel = memory_allocate(sizeof *parcel);
    list_init(&parcel->link);
    return parcel;
}

static void give_parcel(struct member__world *world, struct parcel *parcel)
{
    list_push_front(&world->free_parcels, &parcel->link);
}

static void send_parcel(struct member__world *world, member_node from,
                        const struct member_send *send)
{
    if (world->options.sent != NULL) {
        world->options.sent(world->options.context, member__world_now_ms(world), from, send);
    }
    ASSERT(send->message.size_bytes <= MEMBER_MESSAGE_SIZE_MAX);
    if (send->node > world->node_count_max || *cut_of(world, from, send->node) ||
        random_below(&world->random, 1000) < world->options.loss_permille) {
        return;
    }
    struct parcel *parcel = take_parcel(world);
    parcel->from = from;
    parcel->to = send->node;
    parcel->size_bytes = send->message.size_bytes;
    memcpy(parcel->data, send->message.data, send->message.size_bytes);
    uint64_t spread_us = world->options.latency_us_max - world->options.latency_us_min;
    uint64_t latency_us =
        world->options.latency_us_min + random_below(&world->random, spread_us + 1);
    push_moment(world, (struct moment){.at_us = world->now_us + latency_us, .parcel = parcel});
}

/* ---- Steps ----------------------------------------------------------------------------------- */

int member__world_step(struct member__world *world, member_node at, struct member_input input)
{
    struct node *node = node_of(world, at);
    struct member_output output;
    input.now_ms = member__world_now_ms(world);
    int status = member_step(node->member, &input, &output);
    for (uint32_t i = 0; i < output.event_count; i++) {
        world->options.event(world->options.context, input.now_ms, at, &output.events[i]);
    }
    for (uint32_t i = 0; i < output.send_count; i++) {
        send_parcel(world, at, &output.sends[i]);
    }
    if (output.wake_at_ms != node->wake_at_ms) {
        node->wake_at_ms = output.wake_at_ms;
        if (output.wake_at_ms != UINT64_MAX) {
            push_moment(world, (struct moment){.at_us = output.wake_at_ms * 1000, .node = at});
        }
    }
    return status;
}

static void receive(struct member__world *world, struct parcel *parcel)
{
    struct node *node = node_of(world, parcel->to);
    if (node->member == NULL) {
        give_parcel(world, parcel);
        return;
    }
    if (node->is_paused) {
        if (node->inbox_count == INBOX_COUNT_MAX) {
            give_parcel(world, parcel);
            return;
        }
        list_push_back(&node->inbox, &parcel->link);
        node->inbox_count++;
        return;
    }
    int status = member__world_step(
        world, parcel->to,
        (struct member_input){.kind = MEMBER_INPUT_RECEIVE,
                              .node = parcel->from,
                              .message = bytes_make(parcel->data, parcel->size_bytes)});
    ASSERT(status == 0);
    give_parcel(world, parcel);
}

static void tick(struct member__world *world, member_node at)
{
    int status = member__world_step(world, at, (struct member_input){.kind = MEMBER_INPUT_TICK});
    ASSERT(status == 0);
}

void member__world_run(struct member__world *world, uint64_t duration_ms)
{
    uint64_t until_us = world->now_us + duration_ms * 1000;
    while (world->moment_count > 0 && world->moments[0].at_us <= until_us) {
        struct moment moment = pop_moment(world);
        ASSERT(moment.at_us >= world->now_us);
        world->now_us = moment.at_us;
        if (moment.parcel != NULL) {
            receive(world, moment.parcel);
            continue;
        }
        struct node *node = node_of(world, moment.node);
        if (node->member != NULL && !node->is_paused && node->wake_at_ms * 1000 == moment.at_us) {
            tick(world, moment.node);
        }
    }
    world->now_us = until_us;
}

/* ---- Nodes ----------------------------------------------------------------------------------- */

struct member_meta member__world_meta(const struct member__world *world, member_node node)
{
    char address[32];
    (void)snprintf(address, sizeof address, "node-%03u:7000", node);
    struct member_meta meta = {
        .boot_id = (uint64_t)node << 32 | node_of(world, node)->boot_count,
        .version = 1,
        .load = {.capacity_bytes = UINT64_C(1) << 40},
    };
    int status = member_meta_set_address(&meta, bytes_of_text(address));
    ASSERT(status == 0);
    status = member_meta_set_zone(&meta, BYTES("zone-a"));
    ASSERT(status == 0);
    return meta;
}

static void set(struct member__world *world, member_node at, member_node node, bool is_removed)
{
    struct member_meta meta = member__world_meta(world, node);
    int status = member__world_step(world, at,
                                    (struct member_input){.kind = MEMBER_INPUT_SET,
                                                          .node = node,
                                                          .address = member_meta_address(&meta),
                                                          .is_removed = is_removed});
    ASSERT(status == 0);
}

static void start(struct member__world *world, member_node number, uint64_t clock_back_ms)
{
    struct node *node = node_of(world, number);
    ASSERT(node->member == NULL);
    node->boot_count++;
    node->is_paused = false;
    node->wake_at_ms = UINT64_MAX;
    struct member_options options = {
        .self = number,
        .incarnation = WALL_CLOCK_START_MS + member__world_now_ms(world) - clock_back_ms,
        .meta = member__world_meta(world, number),
        .node_count_max = world->node_count_max,
        .random_seed = random_next(&world->random),
        .now_ms = member__world_now_ms(world),
    };
    int status = member_create(&node->member, &options, NULL);
    ASSERT(status == 0);
    for (member_node other = 1; other <= world->node_count_max; other++) {
        if (other != number && world->nodes[other].is_in_roster) {
            set(world, number, other, false);
        }
    }
}

struct member__world *member__world_create(const struct member__world_options *options)
{
    struct member__world *world = memory_allocate_zeroed(1, sizeof *world);
    world->options = *options;
    world->node_count_max =
        options->node_count_max == 0 ? options->node_count : options->node_count_max;
    ASSERT(options->node_count <= world->node_count_max);
    uint32_t side = world->node_count_max + 1;
    world->nodes = memory_allocate_zeroed(side, sizeof world->nodes[0]);
    world->is_cut = memory_allocate_zeroed((size_t)side * side, sizeof world->is_cut[0]);
    random_init(&world->random, options->seed);
    list_init(&world->free_parcels);
    for (member_node node = 1; node <= world->node_count_max; node++) {
        list_init(&world->nodes[node].inbox);
        world->nodes[node].is_in_roster = node <= options->node_count;
    }
    for (member_node node = 1; node <= options->running_count; node++) {
        start(world, node, 0);
    }
    return world;
}

static void empty_inbox(struct member__world *world, struct node *node)
{
    for (struct list *link = list_pop_front(&node->inbox); link != NULL;
         link = list_pop_front(&node->inbox)) {
        give_parcel(world, LIST_ITEM(link, struct parcel, link));
    }
    node->inbox_count = 0;
}

void member__world_destroy(struct member__world *world)
{
    for (member_node node = 1; node <= world->node_count_max; node++) {
        empty_inbox(world, &world->nodes[node]);
        member_destroy(world->nodes[node].member);
    }
    while (world->moment_count > 0) {
        memory_free(pop_moment(world).parcel);
    }
    for (struct list *link = list_pop_front(&world->free_parcels); link != NULL;
         link = list_pop_front(&world->free_parcels)) {
        memory_free(LIST_ITEM(link, struct parcel, link));
    }
    memory_free(world->moments);
    memory_free(world->nodes);
    memory_free(world->is_cut);
    memory_free(world);
}

uint64_t member__world_now_ms(const struct member__world *world)
{
    return world->now_us / 1000;
}

bool member__world_is_running(const struct member__world *world, member_node node)
{
    return node_of(world, node)->member != NULL;
}

bool member__world_is_paused(const struct member__world *world, member_node node)
{
    return node_of(world, node)->is_paused;
}

struct member *member__world_member(struct member__world *world, member_node node)
{
    return node_of(world, node)->member;
}

void member__world_crash(struct member__world *world, member_node node)
{
    struct node *crashed = node_of(world, node);
    ASSERT(crashed->member != NULL);
    empty_inbox(world, crashed);
    member_destroy(crashed->member);
    crashed->member = NULL;
}

void member__world_restart(struct member__world *world, member_node node, uint64_t clock_back_ms)
{
    if (node_of(world, node)->member != NULL) {
        member__world_crash(world, node);
    }
    start(world, node, clock_back_ms);
}

void member__world_pause(struct member__world *world, member_node node)
{
    node_of(world, node)->is_paused = true;
}

void member__world_resume(struct member__world *world, member_node node)
{
    struct node *resumed = node_of(world, node);
    resumed->is_paused = false;
    resumed->inbox_count = 0;
    tick(world, node); /* A loop runs its timers first, then looks at its sockets. */
    struct list inbox;
    list_init(&inbox);
    list_append_all(&inbox, &resumed->inbox);
    for (struct list *link = list_pop_front(&inbox); link != NULL; link = list_pop_front(&inbox)) {
        receive(world, LIST_ITEM(link, struct parcel, link));
    }
}

void member__world_leave(struct member__world *world, member_node node)
{
    int status = member__world_step(world, node, (struct member_input){.kind = MEMBER_INPUT_LEAVE});
    ASSERT(status == 0);
}

void member__world_join(struct member__world *world, member_node node)
{
    ASSERT(!node_of(world, node)->is_in_roster);
    node_of(world, node)->is_in_roster = true;
    for (member_node other = 1; other <= world->node_count_max; other++) {
        if (world->nodes[other].member != NULL) {
            set(world, other, node, false);
        }
    }
    start(world, node, 0);
}

void member__world_remove(struct member__world *world, member_node node)
{
    node_of(world, node)->is_in_roster = false;
    for (member_node other = 1; other <= world->node_count_max; other++) {
        if (world->nodes[other].member != NULL) {
            set(world, other, node, true);
        }
    }
}

void member__world_set_loss(struct member__world *world, uint32_t permille)
{
    world->options.loss_permille = permille;
}

void member__world_set_latency(struct member__world *world, uint32_t us_min, uint32_t us_max)
{
    ASSERT(us_min <= us_max);
    world->options.latency_us_min = us_min;
    world->options.latency_us_max = us_max;
}

void member__world_cut(struct member__world *world, member_node from, member_node to, bool is_cut)
{
    ASSERT(from <= world->node_count_max && to <= world->node_count_max);
    *cut_of(world, from, to) = is_cut;
}

void member__world_heal(struct member__world *world)
{
    size_t side = (size_t)world->node_count_max + 1;
    memset(world->is_cut, 0, side * side * sizeof world->is_cut[0]);
}

bool member__world_is_cut(const struct member__world *world, member_node from, member_node to)
{
    return *cut_of(world, from, to);
}
