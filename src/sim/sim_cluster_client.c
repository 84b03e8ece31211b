/* SPDX-License-Identifier: Apache-2.0 */
/* Clients, each with one request at a time. A client stands for a gateway: it submits to the replica
 * that it believes to lead, with an identity of its own, follows hints, and submits again, as a
 * retry, what was handed back or lost with its node, or took too long. Only when a replica says that
 * nobody knows, or after a long time, does it give up; the history has such operations as
 * optional. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_cluster.h"

enum {
    ARGUMENT_COUNT_MAX = 4,
    ARGUMENT_SIZE_BYTES_MAX = 6000,
    PATIENCE_US = 6000000,
    LINEAR_COUNT_MAX = 400, /* Operations of one key that are searched at once. */
};

struct call {
    struct shard_request request;
    struct client *client; /* NULL: it has lost interest. */
    struct cluster_node *node;
    struct shard_session session;
    struct list link;
};

struct client {
    struct cluster *cluster;
    uint32_t number;
    uint32_t node; /* Where it believes the leader to be. */
    uint64_t origin;
    uint64_t sequence;
    raft_index known_index;
    bool is_busy;
    bool is_retry;
    uint64_t started_at_us;
    const struct kv_command *command;
    struct bytes arguments[ARGUMENT_COUNT_MAX];
    uint32_t argument_count;
    bool is_unique;
    uint64_t attempt; /* Wakes of earlier ones are ignored. */
    struct call *call;
};

struct cluster_clients {
    struct cluster *cluster;
    struct client *clients;
    uint32_t made_count;
    uint64_t value_number;
    struct list calls; /* Submitted and not done. */
    struct sim__operation *history;
    uint32_t history_count;
    uint32_t history_capacity;
};

static void act(struct cluster *cluster, const struct cluster_event *event);

/* ---- What a client does ---------------------------------------------------------------------- */

static struct bytes copy_of(struct bytes source)
{
    uint8_t *copy = memory_allocate(source.size_bytes + 1);
    if (source.size_bytes > 0) {
        memcpy(copy, source.data, source.size_bytes);
    }
    return bytes_make(copy, source.size_bytes);
}

static void add_argument(struct client *client, struct bytes argument)
{
    client->arguments[client->argument_count++] = copy_of(argument);
}

static void add_value(struct client *client)
{
    struct cluster_clients *clients = client->cluster->clients;
    struct buffer value = {0};
    buffer_append_format(&value, "unique:%" PRIu64, ++clients->value_number);
    uint64_t length =
        random_below(&client->cluster->random, client->cluster->nature.value_size_max + 1u);
    while (value.size_bytes < length) {
        buffer_append_byte(&value, '.');
    }
    add_argument(client, buffer_bytes(&value));
    buffer_deinit(&value);
    client->is_unique = true;
}

static void add_key(struct client *client, char kind, uint64_t number)
{
    struct buffer key = {0};
    buffer_append_format(&key, "%c%" PRIu64, kind, number % client->cluster->nature.key_count);
    add_argument(client, buffer_bytes(&key));
    buffer_deinit(&key);
}

static void make_command(struct client *client)
{
    static const struct {
        const char *name;
        bool has_value;
        bool has_two_keys;
    } choices[] = {{"get", false, false},  {"get", false, false},    {"get", false, false},
                   {"set", true, false},   {"set", true, false},     {"append", true, false},
                   {"incr", false, false}, {"incr", false, false},   {"getset", true, false},
                   {"setnx", true, false}, {"strlen", false, false}, {"del", false, false},
                   {"mget", false, true},  {"mset", true, true}};
    uint64_t choice = random_below(&client->cluster->random, sizeof choices / sizeof choices[0]);
    char kind = strcmp(choices[choice].name, "incr") == 0 ? 'c' : 'k';
    uint64_t key = random_below(&client->cluster->random, client->cluster->nature.key_count);
    bool has_two_keys = choices[choice].has_two_keys && client->cluster->nature.key_count > 1;
    client->command = kv_command_find(bytes_of_text(choices[choice].name));
    client->argument_count = 0;
    client->is_unique = false;
    for (uint64_t i = 0; i < 1u + has_two_keys; i++) {
        add_key(client, kind, key + i);
        if (choices[choice].has_value) {
            add_value(client);
        }
    }
    client->sequence++;
    client->is_retry = false;
    client->started_at_us = client->cluster->now_us;
    client->is_busy = true;
    client->cluster->clients->made_count++;
    client->cluster->result->request_count++;
}

static void act_again(struct client *client, uint64_t delay_us)
{
    client->attempt++;
    sim__cluster_schedule(client->cluster, delay_us, act, NULL, client->attempt, client);
}

static bool is_write(const struct client *client)
{
    return (client->command->flags & KV_FLAG_WRITE) != 0;
}

static uint64_t hash_of(const struct client *client)
{
    struct shard_command command = {client->command->opcode, client->argument_count,
                                    client->arguments};
    return sim__command_hash(&command);
}

/* One key's part of what the client did: arguments `first` and on. */
static void remember_part(struct client *client, const struct kv_command *command, uint32_t first,
                          uint32_t argument_count, struct bytes reply, bool is_known)
{
    struct cluster_clients *clients = client->cluster->clients;
    if (clients->history_count == clients->history_capacity) {
        clients->history_capacity =
            clients->history_capacity == 0 ? 64 : 2 * clients->history_capacity;
        clients->history =
            memory_resize(clients->history, clients->history_capacity * sizeof *clients->history);
    }
    struct bytes *arguments = memory_allocate(sizeof(struct bytes) * ARGUMENT_COUNT_MAX);
    for (uint32_t i = 0; i < argument_count; i++) {
        arguments[i] = client->arguments[first + i];
    }
    clients->history[clients->history_count++] = (struct sim__operation){
        .session = client->number,
        .started_at = client->started_at_us,
        .ended_at = is_known ? client->cluster->now_us : UINT64_MAX,
        .is_optional = !is_known,
        .is_reply_unknown = !is_known,
        .reply_hash = is_known ? sim__reply_hash(command, reply) : 0,
        .command = command,
        .arguments = arguments,
        .argument_count = argument_count,
    };
}

/* The next string of an array, as the reply that it would be alone: `$3`, three bytes, or `$-1`. */
static struct bytes take_string(struct bytes *rest)
{
    const uint8_t *end = memchr(rest->data, '\n', rest->size_bytes);
    ASSERT(end != NULL && rest->data[0] == '$');
    size_t size = (size_t)(end - rest->data) + 1;
    if (rest->data[1] != '-') {
        size += strtoull((const char *)rest->data + 1, NULL, 10) + 2;
    }
    ASSERT(size <= rest->size_bytes);
    struct bytes taken = bytes_make(rest->data, size);
    *rest = bytes_make(rest->data + size, rest->size_bytes - size);
    return taken;
}

/* MGET and MSET are as many GET and SET at one moment. That they are at one moment the history does
 * not check; the model does for what is written. */
static void remember(struct client *client, struct bytes reply, bool is_known)
{
    bool is_read = strcmp(client->command->name, "mget") == 0;
    if (!is_read && strcmp(client->command->name, "mset") != 0) {
        remember_part(client, client->command, 0, client->argument_count, reply, is_known);
        return;
    }
    const struct kv_command *command = kv_command_find(is_read ? BYTES("get") : BYTES("set"));
    uint32_t step = is_read ? 1 : 2;
    struct bytes rest = reply;
    if (is_read && is_known) {
        ASSERT(reply.size_bytes > 4 && reply.data[0] == '*'); /* And one digit. */
        rest = bytes_make(reply.data + 4, reply.size_bytes - 4);
    }
    for (uint32_t i = 0; i < client->argument_count; i += step) {
        struct bytes part = is_read && is_known ? take_string(&rest) : reply;
        remember_part(client, command, i, step, part, is_known);
    }
}

/* The operation has ended, with a reply or without. */
static void finish(struct client *client, struct bytes reply, bool is_known)
{
    struct cluster *cluster = client->cluster;
    sim__cluster_note(cluster, is_known ? "client.answered" : "client.gave_up", client->number,
                      client->sequence, hash_of(client));
    if (is_known && is_write(client) && client->is_unique) {
        sim__cluster_oracle_acknowledged(cluster, hash_of(client), sim__reply_hash(NULL, reply));
    }
    remember(client, reply, is_known);
    client->is_busy = false;
    if (!is_known) {
        client->number += 1000; /* What it did may still take effect, behind what it does next. */
    }
    act_again(client, sim__cluster_delay(cluster, cluster->nature.think_us));
}

static void try_elsewhere(struct client *client)
{
    struct cluster *cluster = client->cluster;
    client->node = sim__cluster_any_node(cluster);
    act_again(client, sim__cluster_delay(cluster, cluster->nature.retry_us));
}

/* ---- Requests -------------------------------------------------------------------------------- */

static void free_call(struct call *call)
{
    if (call->client != NULL) {
        call->client->call = NULL;
    }
    list_remove(&call->link);
    memory_free(call);
}

static void done(struct shard_request *request, int status, struct bytes reply)
{
    struct call *call = LIST_ITEM(request, struct call, request);
    struct client *client = call->client;
    struct cluster_node *node = call->node;
    if (client == NULL || !sim__cluster_node_is_running(node)) {
        free_call(call);
        return;
    }
    ASSERT(client->call == call);
    if (status == 0) {
        const struct shard *shard = sim__cluster_node_shard(node);
        if (client->known_index < shard_applied_index(shard)) {
            client->known_index = shard_applied_index(shard);
        }
        finish(client, reply, true);
    } else {
        sim__cluster_note(client->cluster, "client.handed_back", client->number, client->sequence,
                          0);
        client->is_retry = true;
        try_elsewhere(client);
    }
    free_call(call);
}

static void refused(struct client *client, struct cluster_node *node, int status)
{
    if (status == ERROR_OUTCOME_UNKNOWN) {
        finish(client, BYTES(""), false);
        return;
    }
    if (status != ERROR_NOT_LEADER) {
        act_again(client, sim__cluster_delay(client->cluster, client->cluster->nature.retry_us));
        return;
    }
    raft_node leader = shard_leader(sim__cluster_node_shard(node));
    if (leader != 0 && leader != sim__cluster_node_id(node) &&
        random_chance(&client->cluster->random, 3, 4)) {
        client->node = leader - 1;
        act_again(client, sim__cluster_delay(client->cluster, client->cluster->nature.network_us));
    } else {
        try_elsewhere(client);
    }
}

static void submit(struct client *client, struct cluster_node *node)
{
    struct cluster *cluster = client->cluster;
    struct call *call = memory_allocate_zeroed(1, sizeof *call);
    call->client = client;
    call->node = node;
    shard_session_init(&call->session);
    list_push_back(&cluster->clients->calls, &call->link);
    call->request = (struct shard_request){
        .command = {client->command->opcode, client->argument_count, client->arguments},
        .protocol = 2, /* The checker knows no other. */
        .is_write = is_write(client),
        .does_grow = (client->command->flags & KV_FLAG_GROWS) != 0,
        .done = done,
        .session = &call->session,
        .origin = is_write(client) ? client->origin : 0,
        .sequence = client->sequence,
        .known_index = client->known_index,
        .is_retry = client->is_retry,
    };
    struct buffer answer = {0};
    struct reply reply = {&answer, call->request.protocol};
    client->call = call;
    int status = shard_submit(sim__cluster_node_shard(node), &call->request, &reply);
    if (status == SHARD_PENDING) {
        client->is_retry = true; /* From now on it may be in a log. */
    } else {
        free_call(call);
        if (status == SHARD_ANSWERED) {
            const struct shard *shard = sim__cluster_node_shard(node);
            if (client->known_index < shard_applied_index(shard)) {
                client->known_index = shard_applied_index(shard);
            }
            finish(client, buffer_bytes(&answer), true);
        } else {
            refused(client, node, status);
        }
    }
    buffer_deinit(&answer);
    sim__cluster_node_look(cluster, node);
}

/* Some are there when a node wakes up, before it has heard what happened meanwhile; with what they
 * ask for only then, so that the past is no answer. */
static bool waits_for_end_of_pause(struct client *client)
{
    struct cluster *cluster = client->cluster;
    const struct cluster_node *node = cluster->nodes[client->node];
    uint64_t until_us = sim__cluster_node_paused_until_us(node);
    if (client->call != NULL || !sim__cluster_node_is_running(node) ||
        until_us <= cluster->now_us || random_chance(&cluster->random, 1, 2)) {
        return false;
    }
    act_again(client, until_us - cluster->now_us);
    return true;
}

/* When to look whether to wait any longer. */
static uint64_t look_again_us(const struct client *client)
{
    const struct cluster_nature *nature = &client->cluster->nature;
    return nature->impatience_us > 0 ? nature->impatience_us : PATIENCE_US / 4;
}

/* There is no reply yet. The impatient believe it lost and ask elsewhere, as if the connection had
 * broken. */
static void wait_on(struct client *client)
{
    struct cluster *cluster = client->cluster;
    struct call *call = client->call;
    bool is_too_late = cluster->now_us > client->started_at_us + PATIENCE_US;
    if (cluster->is_healing || (!is_too_late && cluster->nature.impatience_us == 0)) {
        act_again(client, look_again_us(client));
        return;
    }
    call->client = NULL; /* The request goes on without it. */
    client->call = NULL;
    if (is_too_late) {
        finish(client, BYTES(""), false);
    } else {
        try_elsewhere(client);
    }
}

static void act(struct cluster *cluster, const struct cluster_event *event)
{
    struct client *client = event->pointer;
    if (event->value != client->attempt || cluster->is_failed || waits_for_end_of_pause(client)) {
        return;
    }
    if (!client->is_busy) {
        if (cluster->clients->made_count >= cluster->nature.request_count) {
            return;
        }
        make_command(client);
    }
    if (client->call != NULL) {
        wait_on(client);
        return;
    }
    struct cluster_node *node = cluster->nodes[client->node];
    if (!sim__cluster_node_is_running(node) ||
        sim__cluster_node_paused_until_us(node) > cluster->now_us) {
        try_elsewhere(client);
        return;
    }
    submit(client, node);
    if (client->call != NULL) {
        act_again(client, look_again_us(client));
    }
}

void sim__cluster_clients_lost(struct cluster *cluster, struct cluster_node *node)
{
    LIST_EACH(member, next, &cluster->clients->calls)
    {
        struct call *call = LIST_ITEM(member, struct call, link);
        if (call->node != node) {
            continue;
        }
        struct client *client = call->client;
        if (client != NULL) {
            call->client = NULL;
            client->call = NULL;
            try_elsewhere(client);
        }
    }
}

void sim__cluster_clients_buried(struct cluster *cluster, struct cluster_node *node)
{
    LIST_EACH(member, next, &cluster->clients->calls)
    {
        struct call *call = LIST_ITEM(member, struct call, link);
        if (call->node == node) {
            free_call(call);
        }
    }
}

/* ---- The end --------------------------------------------------------------------------------- */

bool sim__cluster_clients_are_done(const struct cluster_clients *clients)
{
    for (uint32_t i = 0; i < clients->cluster->nature.client_count; i++) {
        if (clients->clients[i].is_busy) {
            return false;
        }
    }
    return clients->made_count >= clients->cluster->nature.request_count;
}

static int by_key(const void *left, const void *right)
{
    const struct sim__operation *a = left;
    const struct sim__operation *b = right;
    int order = bytes_compare(a->arguments[0], b->arguments[0]);
    return order != 0 ? order : (a->started_at > b->started_at) - (a->started_at < b->started_at);
}

void sim__cluster_clients_check(struct cluster *cluster)
{
    struct cluster_clients *clients = cluster->clients;
    qsort(clients->history, clients->history_count, sizeof clients->history[0], by_key);
    for (uint32_t start = 0, end = 0; start < clients->history_count; start = end) {
        struct bytes key = clients->history[start].arguments[0];
        while (end < clients->history_count &&
               bytes_equal(clients->history[end].arguments[0], key)) {
            end++;
        }
        bool is_given_up = false;
        if (!sim__is_linearizable(clients->history + start, end - start, &is_given_up) &&
            !is_given_up) {
            sim__cluster_fail(cluster, "what clients saw of %.*s is not linearizable",
                              (int)key.size_bytes, (const char *)key.data);
            return;
        }
    }
}

struct cluster_clients *sim__cluster_clients_create(struct cluster *cluster)
{
    struct cluster_clients *clients = memory_allocate_zeroed(1, sizeof *clients);
    clients->cluster = cluster;
    list_init(&clients->calls);
    clients->clients =
        memory_allocate_zeroed(cluster->nature.client_count, sizeof *clients->clients);
    for (uint32_t i = 0; i < cluster->nature.client_count; i++) {
        struct client *client = &clients->clients[i];
        client->cluster = cluster;
        client->number = i + 1;
        client->origin = i + 1;
        client->node = sim__cluster_any_node(cluster);
        act_again(client, sim__cluster_delay(cluster, 50000));
    }
    return clients;
}

void sim__cluster_clients_destroy(struct cluster_clients *clients)
{
    for (uint32_t i = 0; i < clients->cluster->nature.client_count; i++) {
        struct client *client = &clients->clients[i];
        for (uint32_t k = 0; client->is_busy && k < client->argument_count; k++) {
            memory_free((void *)(uintptr_t)client->arguments[k].data);
        }
    }
    for (uint32_t i = 0; i < clients->history_count; i++) {
        for (uint32_t k = 0; k < clients->history[i].argument_count; k++) {
            memory_free((void *)(uintptr_t)clients->history[i].arguments[k].data);
        }
        memory_free(clients->history[i].arguments);
    }
    memory_free(clients->history);
    memory_free(clients->clients);
    memory_free(clients);
}
