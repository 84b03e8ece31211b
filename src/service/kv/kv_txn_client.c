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
    kv__txn_evaluate_drop(client);
    (void)kv__txn_world_schedule(world, EVENT_CLIENT, random_below(&world->random, PAUSE_MS_MAX),
                                 (uint32_t)(client - world->clients));
}

/* ---- Replies --------------------------------------------------------------------------------- */

bool kv__txn_client_take_reply(struct bytes *replies, struct buffer *list)
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

static void evaluated_committed(struct client *client, const struct txn_done *done)
{
    client->world->statistics.evaluated_count++;
    if (!kv__txn_evaluate_committed(client, operation_of(client), done)) {
        kv__txn_world_fail(client->world, "replies of what was evaluated are wrong",
                           client->operation, 0);
    }
    end(client, KV__DONE);
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
            if (!kv__txn_client_take_reply(&replies, &step->list)) {
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
        if (client->evaluating != NULL) {
            evaluated_committed(client, done);
        } else {
            committed(client, done);
        }
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

void kv__txn_client_add_step(const struct client *client, struct kv_transaction *transaction,
                             const struct kv__step *step)
{
    char element[32];
    struct bytes arguments[2] = {bytes_of_text(client->world->keys[step->key])};
    if (step->is_watched) {
        kv_transaction_watch(transaction, arguments[0], client->watch_version);
    } else if (step->element == 0) {
        kv_transaction_add(transaction, kv_command_find(BYTES("get")), arguments, 1);
    } else {
        int size = snprintf(element, sizeof element, "%llu,", (unsigned long long)step->element);
        arguments[1] = bytes_make(element, (size_t)size);
        kv_transaction_add(transaction, kv_command_find(BYTES("append")), arguments, 2);
    }
}

static void begin_parts(struct client *client, const struct txn_part *parts)
{
    struct txn_world *world = client->world;
    client->coordinator = (uint32_t)random_below(&world->random, world->options.coordinator_count);
    struct coordinator *coordinator = &world->coordinators[client->coordinator];
    client->life = coordinator->life;
    client->state = CLIENT_COMMITS;
    operation_of(client)->invoked_at = ++world->event_count;
    const struct txn_begin begin = {
        .parts = parts,
        .part_count = client->part_count,
        .protocol = 2,
        .context = client,
        .done = transaction_done,
    };
    if (txn_begin(coordinator->txn, &begin) != 0) {
        end(client, KV__REFUSED);
    } else {
        (void)kv__txn_world_schedule(world, EVENT_TICK, 0, client->coordinator);
    }
}

static void begin_transaction(struct client *client)
{
    struct txn_world *world = client->world;
    struct kv__operation *operation = operation_of(client);
    struct kv_transaction *transactions[KV__SHARD_COUNT_MAX];
    struct txn_part parts[KV__SHARD_COUNT_MAX] = {0};
    client->part_count = 0;
    for (uint32_t shard = 0; shard < world->options.shard_count; shard++) {
        uint32_t place = UINT32_MAX;
        struct kv_transaction *transaction = kv_transaction_create();
        for (uint32_t j = 0; j < operation->step_count; j++) {
            uint32_t slot = kv__txn_world_slot_of_key(world, operation->steps[j].key);
            if (kv__txn_world_shard_of_slot(world, slot) == shard) {
                kv__txn_client_add_step(client, transaction, &operation->steps[j]);
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
    uint32_t count = client->part_count;
    begin_parts(client, parts);
    for (uint32_t i = 0; i < count; i++) {
        kv_transaction_destroy(transactions[i]);
    }
}

/* What is evaluated is read first. */
static void begin(struct client *client)
{
    const struct kv__operation *operation = operation_of(client);
    bool is_evaluated = false;
    for (uint32_t i = 0; i < operation->step_count; i++) {
        is_evaluated |= operation->steps[i].is_evaluated;
    }
    if (is_evaluated) {
        kv__txn_evaluate_begin(client, operation);
    } else {
        begin_transaction(client);
    }
}

static void content_read(struct client *client, struct bytes reply)
{
    struct txn_part parts[KV__SHARD_COUNT_MAX] = {0};
    bool is_read;
    enum kv_evaluated evaluated = kv__txn_evaluate_reply(client, reply, &is_read);
    if (evaluated == KV_EVALUATED_CHANGED) {
        client->world->statistics.changed_count++;
        end(client, KV__REFUSED);
    } else if (evaluated != KV_EVALUATED_COMMIT) {
        kv__txn_world_fail(client->world, "what was read cannot be evaluated", client->operation,
                           (uint64_t)evaluated);
        end(client, KV__REFUSED);
    } else if (is_read) {
        client->part_count = kv__txn_evaluate_parts(client, parts);
        begin_parts(client, parts);
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
    if (random_below(&world->random, 100) < world->options.evaluate_percent) {
        for (uint32_t i = 0; i < operation->step_count; i++) {
            operation->steps[i].is_evaluated = random_chance(&world->random, 2, 3);
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
    begin(client);
}

void kv__txn_client_reply(struct client *client, struct bytes reply)
{
    struct kv__operation *operation = operation_of(client);
    struct kv__step *step;
    switch (client->state) {
    case CLIENT_PLAIN:
        step = &operation->steps[0];
        if (!kv__txn_client_take_reply(&reply, &step->list)) {
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
        if (!kv__txn_client_take_reply(&reply, &step->list)) {
            kv__txn_world_fail(client->world, "a plain reply is wrong", client->operation, 1);
        }
        begin(client);
        return;
    case CLIENT_CONTENTS:
        content_read(client, reply);
        return;
    case CLIENT_IDLE:
    case CLIENT_COMMITS:
        break;
    }
}

/* There will be no reply, or its coordinator has died. */
void kv__txn_client_lost(struct client *client)
{
    bool is_reading = client->state == CLIENT_VERSIONS || client->state == CLIENT_READS ||
                      client->state == CLIENT_CONTENTS;
    end(client, is_reading ? KV__REFUSED : KV__UNKNOWN);
}
