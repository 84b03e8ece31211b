/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of the world: one operation at a time each. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "service/kv/kv_txn_world_internal.h"

enum { PAUSE_MS_MAX = 40 };

static struct kv__operation *operation_of(struct client *client)
{
    return &client->world->operations[client->operation];
}

static void end(struct client *client, enum kv__operation_outcome outcome)
{
    struct txn_world *world = client->world;
    struct kv__operation *operation = operation_of(client);
    operation->outcome = outcome;
    operation->answered_at = outcome == KV__UNKNOWN ? UINT64_MAX : ++world->event_count;
    client->state = CLIENT_IDLE;
    (void)kv__txn_world_schedule(world, EVENT_CLIENT, random_below(&world->random, PAUSE_MS_MAX),
                                 (uint32_t)(client - world->clients));
}

/* ---- Replies --------------------------------------------------------------------------------- */

/* Take one reply off the front of `replies`: an integer, or a list that GET answered. */
static bool take_reply(struct bytes *replies, struct buffer *list)
{
    const uint8_t *end = memchr(replies->data, '\n', replies->size_bytes);
    if (end == NULL) {
        return false;
    }
    size_t used = (size_t)(end - replies->data) + 1;
    if (replies->data[0] == '$' && replies->data[1] != '-') {
        size_t size = (size_t)strtoul((const char *)replies->data + 1, NULL, 10);
        if (replies->size_bytes < used + size + 2) {
            return false;
        }
        buffer_append(list, bytes_make(replies->data + used, size));
        used += size + 2;
    } else if (replies->data[0] != ':' && replies->data[0] != '$') {
        return false;
    }
    *replies = bytes_make(replies->data + used, replies->size_bytes - used);
    return true;
}

/* ---- Transactions ---------------------------------------------------------------------------- */

static uint32_t shard_of_key(const struct txn_world *world, uint32_t key)
{
    return kv__txn_world_shard_of_slot(world, kv__txn_world_slot_of_key(world, key));
}

static void committed(struct client *client, const struct txn_done *done)
{
    struct kv__operation *operation = operation_of(client);
    ASSERT(done->part_count == client->part_count);
    for (uint32_t i = 0; i < done->part_count; i++) {
        struct bytes replies = done->replies[i];
        if (replies.data == NULL) {
            client->world->statistics.lost_replies_count++;
            continue;
        }
        for (uint32_t j = 0; j < operation->step_count; j++) {
            struct kv__step *step = &operation->steps[j];
            if (step->is_watched ||
                shard_of_key(client->world, step->key) != client->part_shards[i]) {
                continue;
            }
            if (!take_reply(&replies, &step->list)) {
                kv__txn_world_fail(client->world, "a reply of a transaction is wrong",
                                   client->operation, j);
            }
            step->is_seen = step->element == 0;
        }
        if (replies.size_bytes != 0) {
            kv__txn_world_fail(client->world, "a transaction has too many replies",
                               client->operation, 0);
        }
    }
    end(client, KV__DONE);
}

/* Conflicts alone make nobody fail: those who want the same keys get their turns. */
static void check_kindness(struct client *client, int status)
{
    if (client->world->options.is_kind) {
        kv__txn_world_fail(client->world, "a transaction fails and nothing went wrong",
                           client->operation, (uint64_t)-status);
    }
}

static void transaction_done(void *context, const struct txn_done *done)
{
    struct client *client = context;
    if (client->state != CLIENT_COMMITS) {
        kv__txn_world_fail(client->world, "a transaction was answered twice", client->operation, 0);
        return;
    }
    switch (done->result) {
    case TXN_COMMITTED:
        client->world->statistics.committed_count++;
        committed(client, done);
        return;
    case TXN_CHANGED:
        client->world->statistics.changed_count++;
        end(client, KV__REFUSED);
        return;
    case TXN_FAILED:
        client->world->statistics.failed_count++;
        check_kindness(client, done->status);
        end(client, KV__REFUSED);
        return;
    case TXN_UNKNOWN:
        client->world->statistics.unknown_count++;
        check_kindness(client, done->status);
        end(client, KV__UNKNOWN);
        return;
    }
}

static void add_step(struct txn_world *world, struct kv_transaction *part,
                     const struct kv__step *step, uint64_t watch_version)
{
    char element[32];
    struct bytes arguments[2] = {bytes_of_text(world->keys[step->key])};
    if (step->is_watched) {
        kv_transaction_watch(part, arguments[0], watch_version);
    } else if (step->element == 0) {
        kv_transaction_add(part, kv_command_find(BYTES("get")), arguments, 1);
    } else {
        int size = snprintf(element, sizeof element, "%llu,", (unsigned long long)step->element);
        arguments[1] = bytes_make(element, (size_t)size);
        kv_transaction_add(part, kv_command_find(BYTES("append")), arguments, 2);
    }
}

static void begin_transaction(struct client *client)
{
    struct txn_world *world = client->world;
    struct kv__operation *operation = operation_of(client);
    struct kv_transaction *transactions[KV__SHARD_COUNT_MAX];
    struct txn_part parts[KV__SHARD_COUNT_MAX];
    client->part_count = 0;
    for (uint32_t shard = 0; shard < world->options.shard_count; shard++) {
        uint32_t place = UINT32_MAX;
        struct kv_transaction *transaction = kv_transaction_create();
        for (uint32_t j = 0; j < operation->step_count; j++) {
            uint32_t slot = kv__txn_world_slot_of_key(world, operation->steps[j].key);
            if (kv__txn_world_shard_of_slot(world, slot) == shard) {
                add_step(world, transaction, &operation->steps[j], client->watch_version);
                place = slot < place ? slot : place;
            }
        }
        if (place == UINT32_MAX) {
            kv_transaction_destroy(transaction);
            continue;
        }
        bool does_grow;
        struct shard_command command = kv_transaction_command(transaction, &does_grow);
        parts[client->part_count] = (struct txn_part){.place = place,
                                                      .argument_count = command.argument_count,
                                                      .arguments = command.arguments,
                                                      .does_grow = does_grow};
        transactions[client->part_count] = transaction;
        client->part_shards[client->part_count++] = shard;
    }
    client->coordinator = (uint32_t)random_below(&world->random, world->options.coordinator_count);
    struct coordinator *coordinator = &world->coordinators[client->coordinator];
    client->life = coordinator->life;
    client->state = CLIENT_COMMITS;
    operation->invoked_at = ++world->event_count;
    const struct txn_begin begin = {
        .parts = parts,
        .part_count = client->part_count,
        .protocol = 2,
        .context = client,
        .done = transaction_done,
    };
    int status = txn_begin(coordinator->txn, &begin);
    for (uint32_t i = 0; i < client->part_count; i++) {
        kv_transaction_destroy(transactions[i]);
    }
    if (status != 0) {
        end(client, KV__REFUSED);
    } else {
        (void)kv__txn_world_schedule(world, EVENT_TICK, 0, client->coordinator);
    }
}

/* ---- Operations ------------------------------------------------------------------------------ */

static uint32_t draw_key(struct txn_world *world)
{
    return (uint32_t)random_below(&world->random, world->options.key_count);
}

static struct kv__step *add(struct kv__operation *operation, uint32_t key, uint64_t element)
{
    struct kv__step *step = &operation->steps[operation->step_count++];
    *step = (struct kv__step){.key = key, .element = element};
    return step;
}

static void send(struct client *client, uint32_t key, const char *name, uint16_t opcode,
                 uint64_t element)
{
    struct txn_world *world = client->world;
    char text[32];
    int size = snprintf(text, sizeof text, "%llu,", (unsigned long long)element);
    const struct bytes arguments[] = {bytes_of_text(world->keys[key]),
                                      bytes_make(text, (size_t)size)};
    const struct shard_command command = {
        .opcode = name == NULL ? opcode : kv_command_find(bytes_of_text(name))->opcode,
        .argument_count = element == 0 ? 1 : 2,
        .arguments = arguments,
    };
    client->request = kv__txn_world_send(world, shard_of_key(world, key), &command, element != 0,
                                         NULL, (uint32_t)(client - world->clients));
}

static void begin_plain(struct client *client)
{
    struct txn_world *world = client->world;
    struct kv__operation *operation = operation_of(client);
    bool is_append = random_chance(&world->random, 1, 2);
    uint32_t key = draw_key(world);
    const struct kv__step *step = add(operation, key, is_append ? world->next_element++ : 0);
    client->state = CLIENT_PLAIN;
    operation->invoked_at = ++world->event_count;
    send(client, key, is_append ? "append" : "get", 0, step->element);
}

static void draw_transaction(struct client *client)
{
    struct txn_world *world = client->world;
    struct kv__operation *operation = operation_of(client);
    uint32_t count = 1 + (uint32_t)random_below(&world->random, 4);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = draw_key(world);
        if (random_chance(&world->random, 1, 2)) {
            (void)add(operation, key, 0);
        }
        if (random_chance(&world->random, 2, 3) || operation->step_count == 0) {
            (void)add(operation, key, world->next_element++);
        }
    }
}

void kv__txn_client_event(struct client *client)
{
    struct txn_world *world = client->world;
    if (client->state != CLIENT_IDLE || world->is_healed ||
        world->operation_count == world->options.operation_count) {
        return;
    }
    client->operation = world->operation_count++;
    *operation_of(client) = (struct kv__operation){.answered_at = UINT64_MAX};
    if (random_below(&world->random, 100) >= world->options.transaction_percent) {
        begin_plain(client);
        return;
    }
    draw_transaction(client);
    if (random_below(&world->random, 100) < world->options.watch_percent &&
        operation_of(client)->step_count < KV__STEP_COUNT_MAX) {
        client->watch_key = draw_key(world);
        client->state = CLIENT_VERSIONS;
        operation_of(client)->invoked_at = ++world->event_count;
        send(client, client->watch_key, NULL, kv_versions_opcode(), 0);
        return;
    }
    begin_transaction(client);
}

void kv__txn_client_reply(struct client *client, struct bytes reply)
{
    struct kv__operation *operation = operation_of(client);
    struct kv__step *step;
    switch (client->state) {
    case CLIENT_PLAIN:
        step = &operation->steps[0];
        if (!take_reply(&reply, &step->list)) {
            kv__txn_world_fail(client->world, "a plain reply is wrong", client->operation, 0);
        }
        step->is_seen = step->element == 0;
        end(client, KV__DONE);
        return;
    case CLIENT_VERSIONS:
        ASSERT(reply.size_bytes == 8);
        client->watch_version = endian_get_u64_le(reply.data);
        client->state = CLIENT_READS;
        send(client, client->watch_key, "get", 0, 0);
        return;
    case CLIENT_READS:
        step = add(operation, client->watch_key, 0);
        step->is_watched = true;
        step->is_seen = true;
        if (!take_reply(&reply, &step->list)) {
            kv__txn_world_fail(client->world, "a plain reply is wrong", client->operation, 1);
        }
        begin_transaction(client);
        return;
    case CLIENT_IDLE:
    case CLIENT_COMMITS:
        break;
    }
}

/* There will be no reply, or its coordinator has died. */
void kv__txn_client_lost(struct client *client)
{
    bool is_under_watch = client->state == CLIENT_VERSIONS || client->state == CLIENT_READS;
    end(client, is_under_watch ? KV__REFUSED : KV__UNKNOWN);
}
