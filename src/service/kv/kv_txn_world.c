/* SPDX-License-Identifier: Apache-2.0 */
/* The world: events, the network, coordinators, and a life from its beginning to its end. */
#include "service/kv/kv_txn_world.h"

#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "service/kv/kv_txn_world_internal.h"

enum {
    TIME_START_MS = 1000000,
    LATE_MS_MAX = 4000,
    TIMEOUT_MS = 400,
    LOOK_MS = 150,
    HEAL_MS = 60000,
    EVENT_COUNT_MAX = 2000000,
};

/* ---- Chance ---------------------------------------------------------------------------------- */

void kv__txn_options_draw(struct kv__txn_options *options, struct random *random)
{
    *options = (struct kv__txn_options){
        .shard_count = 2 + (uint32_t)random_below(random, KV__SHARD_COUNT_MAX - 1),
        .coordinator_count = 1 + (uint32_t)random_below(random, KV__COORDINATOR_COUNT_MAX),
        .client_count = 2 + (uint32_t)random_below(random, KV__CLIENT_COUNT_MAX - 1),
        .key_count = 2 + (uint32_t)random_below(random, KV__KEY_COUNT_MAX - 1),
        .operation_count = 40 + (uint32_t)random_below(random, KV__OPERATION_COUNT_MAX - 40),
        .delay_ms_max = 1 + (uint32_t)random_below(random, 30),
        .recovery_age_ms = 100 + (uint32_t)random_below(random, 2000),
        .transaction_percent = 20 + (uint32_t)random_below(random, 80),
    };
    uint32_t *faults[] = {&options->lost_percent,    &options->doubled_percent,
                          &options->late_percent,    &options->refused_percent,
                          &options->unnamed_percent, &options->kill_percent,
                          &options->restart_percent, &options->jump_percent};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (random_chance(random, 1, 2)) {
            *faults[i] = 1 + (uint32_t)random_below(random, 12);
        }
    }
    options->unnamed_percent *= 8;
    options->watch_percent = random_chance(random, 1, 2) ? 40 : 0;
    options->evaluate_percent = random_chance(random, 1, 2) ? 40 : 0;
    if (random_chance(random, 1, 6)) {
        options->is_kind = true;
        options->recovery_age_ms = UINT32_MAX; /* Early recovery costs attempts. */
        for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
            *faults[i] = 0;
        }
    }
}

bool kv__txn_world_chance(struct txn_world *world, uint32_t percent)
{
    return !world->is_healed && random_below(&world->random, 100) < percent;
}

uint64_t kv__txn_world_delay_ms(struct txn_world *world)
{
    return random_below(&world->random, world->options.delay_ms_max + 1);
}

uint64_t kv__txn_world_wall_ms(const struct txn_world *world)
{
    return world->now_ms + world->wall_offset_ms;
}

void kv__txn_world_fail(struct txn_world *world, const char *what, uint64_t a, uint64_t b)
{
    if (world->failure == NULL) {
        (void)snprintf(world->text, KV__FAILURE_SIZE, "%s (%llu, %llu)", what,
                       (unsigned long long)a, (unsigned long long)b);
        world->failure = world->text;
    }
}

uint32_t kv__txn_world_shard_of_slot(const struct txn_world *world, uint32_t slot)
{
    return slot * world->options.shard_count / KV_SLOT_COUNT;
}

uint32_t kv__txn_world_slot_of_key(const struct txn_world *world, uint32_t key)
{
    return kv_slot_of_key(bytes_of_text(world->keys[key]));
}

/* ---- Events ---------------------------------------------------------------------------------- */

static bool is_before(const struct event *left, const struct event *right)
{
    return left->at_ms != right->at_ms ? left->at_ms < right->at_ms : left->order < right->order;
}

static void swap(struct event *left, struct event *right)
{
    struct event kept = *left;
    *left = *right;
    *right = kept;
}

struct event *kv__txn_world_schedule(struct txn_world *world, enum event_kind kind,
                                     uint64_t delay_ms, uint32_t who)
{
    if (world->events_waiting == world->event_capacity) {
        world->event_capacity = world->event_capacity == 0 ? 64 : 2 * world->event_capacity;
        world->events = memory_resize(world->events, world->event_capacity * sizeof(struct event));
    }
    uint32_t place = world->events_waiting++;
    world->events[place] = (struct event){
        .at_ms = world->now_ms + delay_ms, .order = ++world->next_order, .kind = kind, .who = who};
    while (place > 0 && is_before(&world->events[place], &world->events[(place - 1) / 2])) {
        swap(&world->events[place], &world->events[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    return &world->events[place];
}

static struct event take_first(struct txn_world *world)
{
    struct event first = world->events[0];
    world->events[0] = world->events[--world->events_waiting];
    uint32_t place = 0;
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child + 1 < world->events_waiting &&
            is_before(&world->events[child + 1], &world->events[child])) {
            child++;
        }
        if (child >= world->events_waiting ||
            !is_before(&world->events[child], &world->events[place])) {
            return first;
        }
        swap(&world->events[child], &world->events[place]);
        place = child;
    }
}

/* ---- The network ----------------------------------------------------------------------------- */

static struct message *message_make(const struct shard_command *command, uint64_t request,
                                    bool is_write)
{
    size_t size = sizeof(struct message) + command->argument_count * sizeof(struct bytes);
    for (uint32_t i = 0; i < command->argument_count; i++) {
        size += command->arguments[i].size_bytes;
    }
    struct message *message = memory_allocate(size);
    struct bytes *arguments = (struct bytes *)(message + 1);
    uint8_t *place = (uint8_t *)(arguments + command->argument_count);
    for (uint32_t i = 0; i < command->argument_count; i++) {
        struct bytes argument = command->arguments[i];
        arguments[i] = bytes_make(place, argument.size_bytes);
        if (argument.size_bytes > 0) {
            memcpy(place, argument.data, argument.size_bytes);
        }
        place += argument.size_bytes;
    }
    *message = (struct message){
        .command = {command->opcode, command->argument_count, arguments},
        .request = request,
        .sequence = is_write ? request + 1 : 0,
        .is_write = is_write,
    };
    return message;
}

static struct message *message_copy(const struct message *message)
{
    struct message *copy = message_make(&message->command, message->request, message->is_write);
    copy->sequence = message->sequence;
    return copy;
}

static uint64_t travel_ms(struct txn_world *world)
{
    uint64_t late_ms = kv__txn_world_chance(world, world->options.late_percent)
                           ? random_below(&world->random, LATE_MS_MAX)
                           : 0;
    return kv__txn_world_delay_ms(world) + late_ms;
}

static void transmit(struct txn_world *world, uint32_t shard, const struct message *message)
{
    if (kv__txn_world_chance(world, world->options.lost_percent)) {
        return;
    }
    struct message *copy = message_copy(message);
    struct event *event = kv__txn_world_schedule(world, EVENT_DELIVER, travel_ms(world), shard);
    event->message = copy;
}

static bool is_idempotent(uint16_t opcode)
{
    return opcode == KV_OPCODE_PREPARE || opcode == KV_OPCODE_DECIDE ||
           opcode == KV_OPCODE_FINISH || opcode == KV_OPCODE_FORGET;
}

uint64_t kv__txn_world_send(struct txn_world *world, uint32_t shard,
                            const struct shard_command *command, bool is_write,
                            struct shard_request *request, uint32_t owner)
{
    if (world->request_count == world->request_capacity) {
        world->request_capacity = world->request_capacity == 0 ? 256 : 2 * world->request_capacity;
        world->requests =
            memory_resize(world->requests, world->request_capacity * sizeof world->requests[0]);
    }
    uint64_t number = world->request_count++;
    struct message *message = message_make(command, number, is_write);
    world->requests[number] = (struct request_state){
        .request = request,
        .owner = owner,
        .life = request == NULL ? 0 : world->coordinators[owner].life,
        .is_open = owner != UINT32_MAX,
        .original = message,
    };
    transmit(world, shard, message);
    if (kv__txn_world_chance(world, world->options.doubled_percent)) {
        transmit(world, shard, message);
    }
    if (is_idempotent(command->opcode) &&
        kv__txn_world_chance(world, world->options.unnamed_percent)) {
        struct message *unnamed = message_copy(message);
        unnamed->sequence = 0;
        unnamed->request = UINT64_MAX;
        transmit(world, shard, unnamed);
        memory_free(unnamed);
    }
    struct event *event = kv__txn_world_schedule(world, EVENT_TIMEOUT, TIMEOUT_MS, shard);
    event->request = number;
    return number;
}

void kv__txn_shard_reply(struct shard_replica *shard, const struct message *message,
                         struct bytes reply)
{
    struct txn_world *world = shard->world;
    if (message->request == UINT64_MAX ||
        kv__txn_world_chance(world, world->options.lost_percent)) {
        return;
    }
    struct event *event = kv__txn_world_schedule(world, EVENT_REPLY, travel_ms(world), 0);
    event->request = message->request;
    event->reply = (struct buffer){0};
    buffer_append(&event->reply, reply);
}

static void close_request(struct txn_world *world, uint64_t number, int status, struct bytes reply)
{
    const struct request_state copy = world->requests[number]; /* More may be sent meanwhile. */
    const struct request_state *state = &copy;
    if (!state->is_open) {
        return;
    }
    world->requests[number].is_open = false;
    if (state->request != NULL) {
        struct coordinator *coordinator = &world->coordinators[state->owner];
        if (coordinator->life == state->life) {
            state->request->done(state->request, status, reply);
            (void)kv__txn_world_schedule(world, EVENT_TICK, 0, state->owner);
        }
    } else if (world->clients[state->owner].request == number &&
               world->clients[state->owner].state != CLIENT_IDLE) {
        struct client *client = &world->clients[state->owner];
        if (status == 0) {
            kv__txn_client_reply(client, reply);
        } else {
            kv__txn_client_lost(client);
        }
    }
}

/* No reply for long: once more under the same identity, or give up. */
static void time_out(struct txn_world *world, uint32_t shard, uint64_t number)
{
    struct request_state *state = &world->requests[number];
    if (!state->is_open) {
        return;
    }
    if (world->is_healed || world->options.is_kind || random_chance(&world->random, 1, 2)) {
        transmit(world, shard, state->original);
        struct event *event = kv__txn_world_schedule(world, EVENT_TIMEOUT, TIMEOUT_MS, shard);
        event->request = number;
        return;
    }
    close_request(world, number, ERROR_OUTCOME_UNKNOWN, BYTES(""));
}

/* ---- Coordinators ---------------------------------------------------------------------------- */

static uint64_t host_now_ms(void *context)
{
    return ((struct coordinator *)context)->world->now_ms;
}

static uint64_t host_wall_ms(void *context)
{
    return kv__txn_world_wall_ms(((struct coordinator *)context)->world);
}

static int host_submit(void *context, uint32_t place, struct shard_request *request,
                       const struct reply *reply)
{
    struct coordinator *coordinator = context;
    struct txn_world *world = coordinator->world;
    if (kv__txn_world_chance(world, world->options.refused_percent)) {
        return random_chance(&world->random, 1, 2) ? -EBUSY : ERROR_NOT_LEADER;
    }
    (void)kv__txn_world_send(world, kv__txn_world_shard_of_slot(world, place), &request->command,
                             true, request, (uint32_t)(coordinator - world->coordinators));
    coordinator->submission_count++;
    if (coordinator->life == 1 &&
        coordinator->submission_count == world->options.kill_at_submission) {
        coordinator->is_doomed = true;
    }
    return SHARD_PENDING;
}

static void coordinator_start(struct coordinator *coordinator)
{
    struct txn_world *world = coordinator->world;
    struct kv_txn_opcodes opcodes = kv_txn_opcodes();
    coordinator->life = ++world->next_life;
    coordinator->submission_count = 0;
    coordinator->is_doomed = false;
    const struct txn_options options = {
        .host = {.context = coordinator,
                 .clock = {coordinator, host_now_ms, host_wall_ms},
                 .submit = host_submit},
        .origin = coordinator->life,
        .random_seed = random_next(&world->random),
        .prepare_opcode = opcodes.prepare,
        .decide_opcode = opcodes.decide,
        .finish_opcode = opcodes.finish,
        .forget_opcode = opcodes.forget,
        .deadline_ms = 3000,
        .prepare_timeout_ms = 600,
    };
    ASSERT(txn_create(&coordinator->txn, &options, NULL) == 0);
}

static void coordinator_stop(struct coordinator *coordinator)
{
    struct txn_world *world = coordinator->world;
    struct txn_statistics statistics;
    txn_get_statistics(coordinator->txn, &statistics);
    world->statistics.recovered_count += statistics.recovered_count;
    if (statistics.broken_count > 0) {
        kv__txn_world_fail(world, "a participant has broken its promise", coordinator->life,
                           statistics.broken_count);
    }
    txn_destroy(coordinator->txn);
    coordinator->txn = NULL;
}

static void coordinator_kill(struct coordinator *coordinator)
{
    struct txn_world *world = coordinator->world;
    uint32_t index = (uint32_t)(coordinator - world->coordinators);
    uint64_t life = coordinator->life;
    world->statistics.killed_count++;
    coordinator_stop(coordinator);
    coordinator_start(coordinator);
    for (uint32_t i = 0; i < world->options.client_count; i++) {
        struct client *client = &world->clients[i];
        if (client->state == CLIENT_COMMITS && client->coordinator == index &&
            client->life == life) {
            kv__txn_client_lost(client);
        }
    }
}

static void coordinator_tick(struct coordinator *coordinator)
{
    struct txn_world *world = coordinator->world;
    uint32_t index = (uint32_t)(coordinator - world->coordinators);
    if (coordinator->is_doomed) {
        coordinator_kill(coordinator);
    }
    uint64_t next_ms = txn_tick(coordinator->txn);
    if (coordinator->is_doomed) {
        coordinator_kill(coordinator);
        return;
    }
    if (next_ms != UINT64_MAX && !coordinator->is_tick_due) {
        coordinator->is_tick_due = true;
        struct event *event = kv__txn_world_schedule(
            world, EVENT_TICK, next_ms > world->now_ms ? next_ms - world->now_ms : 1, index);
        event->request = 1; /* The one that is due. */
    }
}

static bool found(void *context, const struct txn_unfinished *unfinished)
{
    struct coordinator *coordinator = context;
    return txn_recover(coordinator->txn, unfinished);
}

/* Death, jumps of the clock, and what leaders find unfinished. */
static void look_at_coordinators(struct txn_world *world)
{
    struct coordinator *coordinator = NULL;
    for (uint32_t i = 0; i < world->options.coordinator_count; i++) {
        coordinator = &world->coordinators[i];
        if (kv__txn_world_chance(world, world->options.kill_percent)) {
            coordinator_kill(coordinator);
        }
    }
    if (kv__txn_world_chance(world, world->options.jump_percent)) {
        world->wall_offset_ms += TXN_HORIZON_MS + 1000;
    }
    for (uint32_t i = 0; i < world->options.shard_count; i++) {
        uint32_t index = (uint32_t)random_below(&world->random, world->options.coordinator_count);
        const struct kv_visit visit = {world->now_ms, world->options.recovery_age_ms, found,
                                       &world->coordinators[index]};
        (void)kv_visit_unfinished(world->shards[i].kv, &visit);
        (void)kv__txn_world_schedule(world, EVENT_TICK, 0, index);
    }
    (void)kv__txn_world_schedule(world, EVENT_LOOK_AT_COORDINATORS, LOOK_MS, 0);
}

/* ---- A life ---------------------------------------------------------------------------------- */

static void handle(struct txn_world *world, struct event *event)
{
    world->event_count++;
    switch (event->kind) {
    case EVENT_DELIVER:
        kv__txn_shard_deliver(&world->shards[event->who], event->message);
        return;
    case EVENT_REPLY:
        close_request(world, event->request, 0, buffer_bytes(&event->reply));
        buffer_deinit(&event->reply);
        return;
    case EVENT_TIMEOUT:
        time_out(world, event->who, event->request);
        return;
    case EVENT_APPLY:
        kv__txn_shard_apply(&world->shards[event->who]);
        return;
    case EVENT_TICK:
        if (event->request == 1) {
            world->coordinators[event->who].is_tick_due = false;
        }
        coordinator_tick(&world->coordinators[event->who]);
        return;
    case EVENT_CLIENT:
        kv__txn_client_event(&world->clients[event->who]);
        return;
    case EVENT_LOOK_AT_COORDINATORS:
        look_at_coordinators(world);
        return;
    case EVENT_LOOK_AT_SHARDS:
        kv__txn_shard_look(&world->shards[event->who]);
        return;
    }
}

static void run_until(struct txn_world *world, uint64_t end_ms)
{
    while (world->failure == NULL && world->events_waiting > 0 &&
           world->events[0].at_ms <= end_ms) {
        struct event event = take_first(world);
        world->now_ms = event.at_ms;
        handle(world, &event);
        if (world->next_order > EVENT_COUNT_MAX) {
            kv__txn_world_fail(world, "it does not end", 0, 0);
        }
    }
    world->now_ms = end_ms > world->now_ms ? end_ms : world->now_ms;
}

static void world_init(struct txn_world *world)
{
    world->operations =
        memory_allocate_zeroed(KV__OPERATION_COUNT_MAX, sizeof world->operations[0]);
    for (uint32_t i = 0; i < KV__KEY_COUNT_MAX; i++) {
        (void)snprintf(world->keys[i], sizeof world->keys[i], "key:%u", i * 7 + 1);
    }
    for (uint32_t i = 0; i < world->options.shard_count; i++) {
        world->shards[i].world = world;
        kv__txn_shard_open(&world->shards[i]);
        (void)kv__txn_world_schedule(world, EVENT_LOOK_AT_SHARDS, 100 + i, i);
    }
    for (uint32_t i = 0; i < world->options.coordinator_count; i++) {
        world->coordinators[i].world = world;
        coordinator_start(&world->coordinators[i]);
    }
    for (uint32_t i = 0; i < world->options.client_count; i++) {
        world->clients[i].world = world;
        (void)kv__txn_world_schedule(world, EVENT_CLIENT, i, i);
    }
    (void)kv__txn_world_schedule(world, EVENT_LOOK_AT_COORDINATORS, LOOK_MS, 0);
}

static void world_deinit(struct txn_world *world)
{
    for (uint32_t i = 0; i < world->options.coordinator_count; i++) {
        if (world->coordinators[i].txn != NULL) {
            coordinator_stop(&world->coordinators[i]);
        }
    }
    for (uint32_t i = 0; i < world->options.shard_count; i++) {
        kv__txn_shard_end(&world->shards[i]);
    }
    for (uint32_t i = 0; i < world->events_waiting; i++) {
        memory_free(world->events[i].message);
        buffer_deinit(&world->events[i].reply);
    }
    for (uint64_t i = 0; i < world->request_count; i++) {
        memory_free(world->requests[i].original);
    }
    for (uint32_t i = 0; i < world->operation_count; i++) {
        for (uint32_t j = 0; j < KV__STEP_COUNT_MAX; j++) {
            buffer_deinit(&world->operations[i].steps[j].list);
        }
    }
    for (uint32_t i = 0; i < world->options.client_count; i++) {
        kv__txn_evaluate_drop(&world->clients[i]);
    }
    memory_free(world->operations);
    memory_free(world->requests);
    memory_free(world->events);
}

static void check_shards(struct txn_world *world)
{
    for (uint32_t i = 0; i < world->options.shard_count && world->failure == NULL; i++) {
        struct kv_statistics statistics;
        kv_get_statistics(world->shards[i].kv, &statistics);
        if (statistics.locked_key_count > 0 || !list_is_empty(&world->shards[i].parked)) {
            kv__txn_world_fail(world, "a lock is left: shard, keys", i,
                               statistics.locked_key_count);
        } else if (statistics.unfinished_count > 0) {
            kv__txn_world_fail(world, "a transaction is not finished: shard, how many", i,
                               statistics.unfinished_count);
        }
        if (world->failure == NULL) {
            kv__txn_shard_check(&world->shards[i]);
        }
    }
}

static void check_clients(struct txn_world *world)
{
    for (uint32_t i = 0; i < world->options.client_count && world->failure == NULL; i++) {
        if (world->clients[i].state != CLIENT_IDLE) {
            kv__txn_world_fail(world, "a client has no answer: client, operation", i,
                               world->clients[i].operation);
        }
    }
}

static void check_history(struct txn_world *world)
{
    struct buffer lists[KV__KEY_COUNT_MAX] = {0};
    for (uint32_t key = 0; key < world->options.key_count; key++) {
        uint32_t shard = kv__txn_world_shard_of_slot(world, kv__txn_world_slot_of_key(world, key));
        kv__txn_shard_read_list(&world->shards[shard], bytes_of_text(world->keys[key]),
                                &lists[key]);
    }
    world->failure = kv__txn_check(world->operations, world->operation_count, lists,
                                   world->options.key_count, world->text);
    for (uint32_t key = 0; key < world->options.key_count; key++) {
        buffer_deinit(&lists[key]);
    }
}

/* When all is over for so long that nobody can ask, nothing is remembered. */
static void check_memory(struct txn_world *world)
{
    world->wall_offset_ms += TXN_HORIZON_MS + 1000;
    run_until(world, world->now_ms + HEAL_MS);
    for (uint32_t i = 0; i < world->options.shard_count && world->failure == NULL; i++) {
        struct kv_statistics statistics;
        kv_get_statistics(world->shards[i].kv, &statistics);
        if (statistics.record_count > 0) {
            kv__txn_world_fail(world, "something is remembered for ever: shard, rows", i,
                               statistics.record_count);
        }
    }
}

const char *kv__txn_live(const struct kv__txn_options *options, uint64_t seed,
                         char text[KV__FAILURE_SIZE], struct kv__txn_statistics *statistics)
{
    struct txn_world *world = memory_allocate_zeroed(1, sizeof *world);
    world->options = *options;
    world->text = text;
    world->now_ms = TIME_START_MS;
    world->wall_offset_ms = TXN_HORIZON_MS;
    world->next_element = 1;
    random_init(&world->random, seed);
    world_init(world);
    uint64_t patience_ms = TIME_START_MS + 200 * (uint64_t)options->operation_count;
    while (world->failure == NULL && world->operation_count < options->operation_count &&
           world->now_ms < patience_ms) {
        run_until(world, world->now_ms + 100);
    }
    world->is_healed = true;
    run_until(world, world->now_ms + HEAL_MS);
    if (world->failure == NULL) {
        check_clients(world);
    }
    check_shards(world);
    if (world->failure == NULL) {
        check_history(world);
    }
    if (world->failure == NULL) {
        check_memory(world);
    }
    world_deinit(world);
    if (statistics != NULL) {
        *statistics = world->statistics;
    }
    const char *failure = world->failure;
    memory_free(world);
    return failure;
}
