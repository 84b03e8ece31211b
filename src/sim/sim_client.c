/* SPDX-License-Identifier: Apache-2.0 */
/* The clients: each has a session, a pipeline, and a taste. They share few keys, so that they
 * collide.
 *
 * Keys k0, k1, … take any command. Keys r0, r1, … ("registers") take commands of one key without
 * expiry, besides MSET, DEL and FLUSHALL, which count as one operation on each; what clients saw of
 * them goes through the search for a linear order when the run is over. Everything else is checked
 * by the oracle as it happens. */
#include <inttypes.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_client.h"

enum {
    REGISTER_COUNT_MAX = 4,
    AUDIT_COMMANDS_PER_KEY = 4,
    IDLE_US = 1500,
    REGISTER_ARGUMENT_COUNT_MAX = 8
};

struct request {
    struct shard_request base;
    struct list link; /* In the client's `outstanding`. */
    struct client *client;
    struct sim__command command;
    const struct kv_command *known; /* NULL: versions, transaction. */
    struct sim__transaction *transaction;
    struct kv_transaction *encoded;
    struct sim__pending *pending;
    bool is_done; /* Answered, and waits for earlier ones to be. */
    struct buffer reply;
    uint32_t operations[REGISTER_COUNT_MAX]; /* Position behind each register's, 0: none. */
};

struct client {
    struct sim *sim;
    uint32_t number;
    struct shard_session session;
    uint8_t protocol;
    uint64_t session_number;
    uint64_t session_position;
    struct list outstanding; /* struct request, in order of submission. */
    uint32_t outstanding_count;
    struct request *held; /* Refused with -EBUSY: comes first next time. */
    /* WATCH: the keys and what was answered. */
    struct bytes watched[2];
    uint32_t watched_count;
    uint64_t versions[2];
    bool is_watching; /* The answer is under way. */
    bool has_watched;
};

struct history {
    struct sim__operation *operations;
    uint32_t count;
    uint32_t capacity;
};

struct sim__clients {
    struct sim *sim;
    struct client *clients;
    uint32_t client_count;
    uint32_t made_count;
    uint64_t moment; /* Orders what clients do and see. */
    uint64_t session_count;
    bool is_submitting;
    bool is_auditing;
    bool has_forgotten; /* Histories end where answers were lost. */
    uint32_t audit_position;
    struct history histories[REGISTER_COUNT_MAX];
};

/* ---- Histories of registers ------------------------------------------------------------------ */

static struct bytes copy_bytes(struct bytes source)
{
    uint8_t *copy = memory_allocate(source.size_bytes + 1);
    if (source.size_bytes > 0) {
        memcpy(copy, source.data, source.size_bytes);
    }
    return bytes_make(copy, source.size_bytes);
}

static struct sim__operation *operation_add(struct request *request, uint32_t number,
                                            const char *name)
{
    struct sim__clients *clients = request->client->sim->clients;
    struct history *history = &clients->histories[number];
    if (history->count == history->capacity) {
        history->capacity = history->capacity == 0 ? 64 : history->capacity * 2;
        history->operations =
            memory_resize(history->operations, history->capacity * sizeof(struct sim__operation));
    }
    struct sim__operation *operation = &history->operations[history->count++];
    *operation = (struct sim__operation){
        .session = request->client->session_number,
        .protocol = request->client->protocol,
        .started_at = ++clients->moment,
        .ended_at = UINT64_MAX,
        .command = kv_command_find(bytes_of_text(name)),
        .arguments = memory_allocate_zeroed(REGISTER_ARGUMENT_COUNT_MAX, sizeof(struct bytes)),
    };
    request->operations[number] = history->count;
    return operation;
}

static void operation_argument(struct sim__operation *operation, struct bytes argument)
{
    ASSERT(operation->argument_count < REGISTER_ARGUMENT_COUNT_MAX);
    operation->arguments[operation->argument_count++] = copy_bytes(argument);
}

static void replace_value(struct history *history, uint32_t position, struct bytes value)
{
    struct bytes *place = &history->operations[position].arguments[1];
    memory_free((void *)place->data);
    *place = copy_bytes(value);
}

static bool register_of(const struct sim__clients *clients, struct bytes key, uint32_t *number)
{
    if (key.size_bytes != 2 || key.data[0] != 'r') {
        return false;
    }
    *number = (uint32_t)(key.data[1] - '0');
    return *number < clients->sim->nature.register_count;
}

/* Project the request onto the registers that it touches. */
static void history_begin(struct sim__clients *clients, struct request *request)
{
    const struct sim__command *command = &request->command;
    uint32_t number;
    if (request->known == NULL || clients->has_forgotten) {
        return;
    }
    if (strcmp(request->known->name, "flushall") == 0) {
        for (uint32_t i = 0; i < clients->sim->nature.register_count; i++) {
            char key[2] = {'r', (char)('0' + i)};
            struct sim__operation *operation = operation_add(request, i, "del");
            operation_argument(operation, bytes_make(key, 2));
            operation->is_reply_unknown = true;
        }
        return;
    }
    bool has_pairs = strcmp(request->known->name, "mset") == 0;
    bool has_many = has_pairs || strcmp(request->known->name, "del") == 0;
    for (uint32_t i = 0; i < command->count; i += has_pairs ? 2 : 1) {
        if (!register_of(clients, command->arguments[i], &number)) {
            continue;
        }
        if (request->operations[number] != 0) {
            if (has_pairs) { /* The last value of a key counts. */
                replace_value(&clients->histories[number], request->operations[number] - 1,
                              command->arguments[i + 1]);
            }
            continue;
        }
        struct sim__operation *operation =
            operation_add(request, number, has_pairs ? "set" : request->known->name);
        operation->is_reply_unknown = has_many && !has_pairs && command->count > 1;
        uint32_t end = has_pairs ? i + 2 : has_many ? i + 1 : command->count;
        for (uint32_t k = i; k < end; k++) {
            operation_argument(operation, command->arguments[k]);
        }
        if (!has_many) {
            return;
        }
    }
}

/* The request was answered, refused (`is_void`) or lost (`is_lost`). */
static void history_end(struct sim__clients *clients, struct request *request, struct bytes reply,
                        bool is_void, bool is_lost)
{
    for (uint32_t i = 0; i < REGISTER_COUNT_MAX; i++) {
        if (request->operations[i] == 0) {
            continue;
        }
        struct sim__operation *operation =
            &clients->histories[i].operations[request->operations[i] - 1];
        bool is_write = (request->known->flags & KV_FLAG_WRITE) != 0;
        operation->is_optional = is_lost;
        if (is_void || (is_lost && !is_write)) {
            operation->session = 0; /* It never was. */
        } else if (!is_lost) {
            operation->ended_at = ++clients->moment;
            operation->reply_hash = sim__reply_hash(request->known, reply);
        }
    }
}

static void history_settle(struct sim__clients *clients)
{
    clients->moment++;
    for (uint32_t i = 0; i < REGISTER_COUNT_MAX; i++) {
        struct history *history = &clients->histories[i];
        for (uint32_t k = 0; k < history->count; k++) {
            if (history->operations[k].ended_at == UINT64_MAX) {
                history->operations[k].ended_at = clients->moment;
            }
        }
    }
}

void sim__clients_check(struct sim *sim)
{
    if (sim->clients->has_forgotten) {
        return;
    }
    for (uint32_t i = 0; i < REGISTER_COUNT_MAX; i++) {
        struct history *history = &sim->clients->histories[i];
        struct sim__operation *kept =
            memory_allocate((history->count + 1u) * sizeof(struct sim__operation));
        uint32_t count = 0;
        for (uint32_t k = 0; k < history->count; k++) {
            if (history->operations[k].session != 0) {
                kept[count++] = history->operations[k];
            }
        }
        bool is_given_up = false;
        if (!sim__is_linearizable(kept, count, &is_given_up)) {
            sim__fail(sim, "the history of r%u is not linearizable (%u operations)", i, count);
        }
        sim__note(sim, "history.checked", i, count, is_given_up);
        memory_free(kept);
    }
}

void sim__clients_forget(struct sim *sim)
{
    sim__clients_check(sim);
    sim->clients->has_forgotten = true;
}

/* ---- Requests -------------------------------------------------------------------------------- */

static void request_end(struct request *request)
{
    list_remove(&request->link);
    memory_free(request->base.copy); /* Of a shard that was closed without an answer. */
    buffer_deinit(&request->reply);
    sim__command_deinit(&request->command);
    if (request->encoded != NULL) {
        kv_transaction_destroy(request->encoded);
    }
    memory_free(request);
}

static void deliver(struct request *request)
{
    struct client *client = request->client;
    struct sim *sim = client->sim;
    struct bytes reply = buffer_bytes(&request->reply);
    if (sim->options.trace != NULL) {
        sim__trace_answer(sim, client->number, request->known, &request->command, reply);
    }
    sim__oracle_delivered(sim, request->pending, reply);
    history_end(sim->clients, request, reply, false, false);
    if (client->is_watching) {
        client->is_watching = false;
        client->has_watched = reply.size_bytes == client->watched_count * sizeof(uint64_t);
        if (client->has_watched) {
            memcpy(client->versions, reply.data, reply.size_bytes);
        }
    }
    client->outstanding_count--;
    request_end(request);
}

/* As in the gateway, a client gets its replies in the order of its requests, whatever order they
 * are answered in. */
static void take_answer(struct request *request, struct bytes reply)
{
    struct client *client = request->client;
    if (request->is_done) {
        sim__fail(client->sim, "client %u: a request was answered twice", client->number);
    }
    request->is_done = true;
    buffer_append(&request->reply, reply);
    sim__oracle_answered(client->sim, request->pending);
    while (!list_is_empty(&client->outstanding)) {
        struct request *first = LIST_ITEM(client->outstanding.next, struct request, link);
        if (!first->is_done) {
            break;
        }
        deliver(first);
    }
}

static void request_done(struct shard_request *base, int status, struct bytes reply)
{
    struct request *request = LIST_ITEM(base, struct request, base);
    struct client *client = request->client;
    struct sim *sim = client->sim;
    if (!sim__node_is_alive(sim->node)) {
        return; /* Nobody hears the dead. */
    }
    if (sim->clients->is_submitting) {
        sim__fail(sim, "an answer came from within a submission");
    }
    take_answer(request, reply);
}

/* False when it has to wait. */
static bool submit(struct client *client, struct request *request)
{
    struct sim *sim = client->sim;
    struct sim__clients *clients = sim->clients;
    request->pending = sim__oracle_submit(sim, &request->base, &client->session_position);
    history_begin(clients, request);
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = request->base.protocol};
    clients->is_submitting = true;
    int status = shard_submit(sim__node_shard(sim->node), &request->base, &reply);
    clients->is_submitting = false;
    sim__note(sim, "client.submit", client->number, (uint64_t)status, request->base.command.opcode);
    if (status == SHARD_PENDING || status == SHARD_ANSWERED) {
        list_push_back(&client->outstanding, &request->link);
        client->outstanding_count++;
        if (status == SHARD_ANSWERED) {
            take_answer(request, buffer_bytes(&answer));
        }
    } else {
        sim__oracle_refused(sim, request->pending);
        history_end(clients, request, BYTES(""), true, false);
        memset(request->operations, 0, sizeof request->operations);
        if (status == -EBUSY) {
            client->held = request;
        } else {
            if (!(status == -ENOSPC && request->base.does_grow) &&
                !(status == ERROR_NOT_LEADER && !sim__node_is_ready(sim->node))) {
                sim__fail(sim, "client %u: refused with %s", client->number, error_text(status));
            }
            request_end(request);
        }
    }
    buffer_deinit(&answer);
    return status != -EBUSY;
}

static struct request *request_create(struct client *client)
{
    struct request *request = memory_allocate_zeroed(1, sizeof *request);
    list_init(&request->link);
    request->client = client;
    request->base.protocol = client->protocol;
    request->base.done = request_done;
    request->base.session = &client->session;
    return request;
}

static void request_from_command(struct request *request)
{
    struct sim__command *command = &request->command;
    request->known = command->known;
    request->base.command =
        (struct shard_command){command->known->opcode, command->count, command->arguments};
    request->base.is_write = (command->known->flags & KV_FLAG_WRITE) != 0;
    request->base.does_grow = (command->known->flags & KV_FLAG_GROWS) != 0;
}

/* ---- Transactions ---------------------------------------------------------------------------- */

static struct request *make_watch(struct client *client)
{
    struct sim *sim = client->sim;
    struct request *request = request_create(client);
    client->watched_count = 1 + (uint32_t)random_below(&sim->random, 2);
    for (uint32_t i = 0; i < client->watched_count; i++) {
        sim__command_add_key(sim, &request->command);
        memory_free((void *)client->watched[i].data);
        client->watched[i] = copy_bytes(request->command.arguments[i]);
    }
    client->is_watching = true;
    request->base.command = (struct shard_command){kv_versions_opcode(), request->command.count,
                                                   request->command.arguments};
    return request;
}

static struct request *make_transaction(struct client *client)
{
    struct sim *sim = client->sim;
    struct request *request = request_create(client);
    struct sim__transaction *transaction = memory_allocate_zeroed(1, sizeof *transaction);
    request->encoded = kv_transaction_create();
    if (client->has_watched) {
        transaction->watched_count = client->watched_count;
        transaction->watched = memory_allocate_zeroed(client->watched_count, sizeof(struct bytes));
        transaction->versions = memory_allocate_zeroed(client->watched_count, sizeof(uint64_t));
        for (uint32_t i = 0; i < client->watched_count; i++) {
            transaction->watched[i] = copy_bytes(client->watched[i]);
            transaction->versions[i] = client->versions[i];
            kv_transaction_watch(request->encoded, client->watched[i], client->versions[i]);
        }
    }
    client->has_watched = false;
    transaction->part_count = 1 + (uint32_t)random_below(&sim->random, 4);
    transaction->parts = memory_allocate_zeroed(transaction->part_count, sizeof(struct sim__part));
    for (uint32_t i = 0; i < transaction->part_count; i++) {
        struct sim__command command = {0};
        sim__command_make_for_transaction(sim, &command, client->number);
        kv_transaction_add(request->encoded, command.known, command.arguments, command.count);
        struct sim__part *part = &transaction->parts[i];
        part->command = command.known;
        part->argument_count = command.count;
        part->arguments = memory_allocate_zeroed(command.count + 1u, sizeof(struct bytes));
        for (uint32_t k = 0; k < command.count; k++) {
            part->arguments[k] = copy_bytes(command.arguments[k]);
        }
        sim__command_deinit(&command);
    }
    request->base.command = kv_transaction_command(request->encoded, &request->base.does_grow);
    request->base.is_write = true;
    transaction->arguments_hash = sim__command_hash(&request->base.command);
    sim__oracle_transaction(sim, transaction);
    return request;
}

/* ---- What a client does next ----------------------------------------------------------------- */

static struct request *make_audit(struct client *client)
{
    static const char *const names[AUDIT_COMMANDS_PER_KEY] = {"type", "get", "hgetall",
                                                              "pexpiretime"};
    struct sim__clients *clients = client->sim->clients;
    const struct sim__nature *nature = &client->sim->nature;
    uint32_t number = clients->audit_position / AUDIT_COMMANDS_PER_KEY;
    struct request *request = request_create(client);
    struct sim__command *command = &request->command;
    command->known =
        kv_command_find(bytes_of_text(names[clients->audit_position % AUDIT_COMMANDS_PER_KEY]));
    bool is_register = number >= nature->key_count;
    sim__command_add_text(command, "%c%u", is_register ? 'r' : 'k',
                          is_register ? number - nature->key_count : number);
    clients->audit_position++;
    request_from_command(request);
    return request;
}

static bool is_audit_over(const struct sim__clients *clients)
{
    const struct sim__nature *nature = &clients->sim->nature;
    return !clients->is_auditing ||
           clients->audit_position >=
               (nature->key_count + nature->register_count) * AUDIT_COMMANDS_PER_KEY;
}

static struct request *make_next(struct client *client)
{
    struct sim *sim = client->sim;
    struct sim__clients *clients = sim->clients;
    if (client->held != NULL) {
        struct request *held = client->held;
        client->held = NULL;
        return held;
    }
    if (clients->is_auditing) {
        return client->number == 0 && !is_audit_over(clients) ? make_audit(client) : NULL;
    }
    if (client->is_watching || clients->made_count >= sim->nature.request_count) {
        return NULL;
    }
    clients->made_count++;
    sim->result->request_count++;
    if (client->has_watched ? sim__percent(sim, 60)
                            : sim__percent(sim, sim->nature.transaction_percent)) {
        return client->has_watched || sim__percent(sim, 40) ? make_transaction(client)
                                                            : make_watch(client);
    }
    struct request *request = request_create(client);
    sim__command_make(sim, &request->command, client->number);
    request_from_command(request);
    return request;
}

/* How many requests it made. */
static uint32_t client_act(struct sim *sim, struct client *client)
{
    uint32_t burst = 1 + (uint32_t)random_below(&sim->random, sim->nature.pipeline_max);
    uint32_t made = 0;
    for (; made < burst && sim__node_is_ready(sim->node) && !sim->is_failed; made++) {
        /* A WATCH waits for its answer, as a connection of the gateway does. */
        if (client->outstanding_count >= sim->nature.pipeline_max || client->is_watching) {
            break;
        }
        struct request *request = make_next(client);
        if (request == NULL || !submit(client, request)) {
            break;
        }
    }
    return made;
}

/* A node that is not ready refuses, and executes nothing. */
static void knock(struct sim *sim, struct client *client)
{
    struct request *request = request_create(client);
    sim__command_make(sim, &request->command, client->number);
    request_from_command(request);
    (void)submit(client, request);
}

void sim__clients_event(struct sim *sim, const struct sim__event *event)
{
    struct client *client = event->pointer;
    uint64_t think_us = sim->nature.think_us;
    if (sim__node_is_ready(sim->node) && client_act(sim, client) > 0) {
        sim__node_wake(sim);
        sim__node_settle(sim);
    } else {
        if (sim__node_is_starting(sim->node) && client->held == NULL && sim__percent(sim, 20)) {
            knock(sim, client);
        }
        think_us = think_us < IDLE_US ? IDLE_US : think_us;
    }
    sim__schedule(sim, sim__delay(sim, think_us), SIM__EVENT_CLIENT, 0, 0, client);
}

static void client_reset(struct client *client)
{
    shard_session_init(&client->session);
    client->protocol = sim__percent(client->sim, client->sim->nature.resp3_percent) ? 3 : 2;
    client->session_number = ++client->sim->clients->session_count;
    client->session_position = 0;
    client->outstanding_count = 0;
    client->is_watching = client->has_watched = false;
}

void sim__clients_lost(struct sim *sim)
{
    struct sim__clients *clients = sim->clients;
    for (uint32_t i = 0; i < clients->client_count; i++) {
        struct client *client = &clients->clients[i];
        while (!list_is_empty(&client->outstanding)) {
            struct request *request = LIST_ITEM(client->outstanding.next, struct request, link);
            history_end(clients, request, BYTES(""), false, true);
            request_end(request);
        }
        /* Never submitted, so it can go into the next life; but a transaction's versions are
         * stale. */
        if (client->held != NULL) {
            request_end(client->held);
            client->held = NULL;
        }
        client_reset(client);
    }
    if (clients->is_auditing) {
        clients->audit_position = 0;
    }
}

void sim__clients_ready(struct sim *sim)
{
    history_settle(sim->clients);
}

bool sim__clients_are_done(const struct sim__clients *clients)
{
    for (uint32_t i = 0; i < clients->client_count; i++) {
        if (clients->clients[i].outstanding_count > 0 || clients->clients[i].held != NULL) {
            return false;
        }
    }
    return clients->is_auditing ? is_audit_over(clients)
                                : clients->made_count >= clients->sim->nature.request_count;
}

void sim__clients_audit(struct sim *sim)
{
    sim->clients->is_auditing = true;
    sim->clients->audit_position = 0;
}

struct sim__clients *sim__clients_create(struct sim *sim)
{
    struct sim__clients *clients = memory_allocate_zeroed(1, sizeof *clients);
    sim->clients = clients;
    clients->sim = sim;
    clients->client_count = sim->nature.client_count;
    clients->clients = memory_allocate_zeroed(clients->client_count, sizeof(struct client));
    for (uint32_t i = 0; i < clients->client_count; i++) {
        struct client *client = &clients->clients[i];
        client->sim = sim;
        client->number = i;
        list_init(&client->outstanding);
        client_reset(client);
        sim__schedule(sim, sim__delay(sim, sim->nature.think_us), SIM__EVENT_CLIENT, 0, 0, client);
    }
    return clients;
}

void sim__clients_destroy(struct sim__clients *clients)
{
    for (uint32_t i = 0; i < clients->client_count; i++) {
        struct client *client = &clients->clients[i];
        while (!list_is_empty(&client->outstanding)) {
            request_end(LIST_ITEM(client->outstanding.next, struct request, link));
        }
        if (client->held != NULL) {
            request_end(client->held);
        }
        memory_free((void *)client->watched[0].data);
        memory_free((void *)client->watched[1].data);
    }
    for (uint32_t i = 0; i < REGISTER_COUNT_MAX; i++) {
        struct history *history = &clients->histories[i];
        for (uint32_t k = 0; k < history->count; k++) {
            struct sim__operation *operation = &history->operations[k];
            for (uint32_t n = 0; n < operation->argument_count; n++) {
                memory_free((void *)operation->arguments[n].data);
            }
            memory_free(operation->arguments);
        }
        memory_free(history->operations);
    }
    memory_free(clients->clients);
    memory_free(clients);
}
