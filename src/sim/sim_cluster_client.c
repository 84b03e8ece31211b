/* SPDX-License-Identifier: Apache-2.0 */
/* Clients, each with one request at a time. A client stands for a gateway: it submits to the replica
 * that it believes to lead, with an identity of its own, follows hints, and submits again, as a
 * retry, what was handed back or lost with its node, or took too long. Only when a replica says that
 * nobody knows, or after a long time, does it give up; the history has such operations as
 * optional.
 *
 * Half of them say what they need no more. Now and then a copy of a write that was answered
 * comes late, as if it had been given up in the queue of another node: no replica may take it. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_cluster.h"

enum { PATIENCE_US = 6000000, ECHO_US_MAX = 3000000, ECHO_ONE_IN = 8 };

struct call {
    struct shard_request request;
    struct client *client; /* NULL: it has lost interest. */
    struct cluster_node *node;
    struct shard_session session;
    struct list link;
};

/* A copy that comes late. */
struct echo {
    bool is_under_way;
    struct cluster_question question; /* Arguments, place and command only. */
    uint64_t sequence;
    raft_index known_index;
    struct slots_range range;
};

struct client {
    struct cluster *cluster;
    uint32_t number;
    uint32_t nodes[CLUSTER_SHARD_COUNT_MAX]; /* Where it believes the leader of each shard to be. */
    uint64_t origin;
    uint64_t sequence;
    raft_index known_indexes[CLUSTER_SHARD_COUNT_MAX]; /* Of each shard. */
    cluster_map map;
    bool is_busy;
    bool is_retry;
    struct cluster_question question;
    raft_index known_index; /* When it was first submitted. */
    struct slots_range range;
    struct echo echo;
    uint64_t attempt; /* Wakes of earlier ones are ignored. */
    struct call *call;
};

struct cluster_clients {
    struct cluster *cluster;
    struct client *clients;
    uint32_t made_count;
    struct list calls; /* Submitted and not done. */
};

static void act(struct cluster *cluster, const struct cluster_event *event);

static void make_command(struct client *client)
{
    sim__cluster_question_draw(client->cluster, &client->question);
    client->question.session = client->number;
    client->sequence++;
    client->is_retry = false;
    client->is_busy = true;
    client->cluster->clients->made_count++;
}

static void act_again(struct client *client, uint64_t delay_us)
{
    client->attempt++;
    sim__cluster_schedule(client->cluster, delay_us, act, NULL, client->attempt, client);
}

static void begin_echo(struct client *client);

/* The operation has ended, with a reply or without. */
static void finish(struct client *client, struct bytes reply, bool is_known)
{
    struct cluster *cluster = client->cluster;
    sim__cluster_note(cluster, is_known ? "client.answered" : "client.gave_up", client->number,
                      client->sequence, sim__cluster_question_hash(&client->question));
    if (is_known) {
        begin_echo(client);
        sim__cluster_answered(cluster, &client->question, reply);
    } else {
        sim__cluster_unknown(cluster, &client->question);
    }
    client->is_busy = false;
    if (!is_known) {
        client->number += 1000; /* What it did may still take effect, behind what it does next. */
    }
    act_again(client, sim__cluster_delay(cluster, cluster->nature.think_us));
}

static void try_elsewhere(struct client *client)
{
    struct cluster *cluster = client->cluster;
    client->nodes[client->question.place] = sim__cluster_any_node(cluster);
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

/* What it has seen of the shard that answered. */
static void note_index(struct client *client, const struct cluster_node *node)
{
    uint32_t place = client->question.place;
    raft_index applied = shard_applied_index(sim__cluster_node_shard(node, place));
    if (client->known_indexes[place] < applied) {
        client->known_indexes[place] = applied;
    }
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
        note_index(client, node);
        finish(client, reply, true);
    } else {
        sim__cluster_note(client->cluster, "client.handed_back", client->number, client->sequence,
                          0);
        client->is_retry = true;
        try_elsewhere(client);
    }
    free_call(call);
}

/* The shard has other slots: nothing happened. Some ask for a newer map, some hear of it later. */
static void moved(struct client *client, const struct cluster_node *node)
{
    struct cluster *cluster = client->cluster;
    cluster_map map = sim__cluster_node_map(node) & ~client->map; /* What is new. */
    sim__cluster_note(cluster, "client.moved", client->number, client->sequence, client->map);
    client->is_retry = false;
    if (map != 0 && (cluster->is_healing || random_chance(&cluster->random, 2, 3))) {
        uint32_t place = client->question.place;
        client->map |= cluster->is_healing ? map : map & -map;
        struct slots_range range = sim__cluster_range_of(cluster, &client->question, client->map);
        client->nodes[range.shard - 1] = client->nodes[place];
    }
    act_again(client, sim__cluster_delay(cluster, cluster->nature.retry_us));
}

static void refused(struct client *client, struct cluster_node *node, int status)
{
    if (status == ERROR_MOVED) {
        moved(client, node);
        return;
    }
    if (status == ERROR_OUTCOME_UNKNOWN) {
        finish(client, BYTES(""), false);
        return;
    }
    if (status != ERROR_NOT_LEADER) {
        act_again(client, sim__cluster_delay(client->cluster, client->cluster->nature.retry_us));
        return;
    }
    raft_node leader = shard_leader(sim__cluster_node_shard(node, client->question.place));
    if (leader != 0 && leader != sim__cluster_node_id(node) &&
        random_chance(&client->cluster->random, 3, 4)) {
        client->nodes[client->question.place] = leader - 1;
        act_again(client, sim__cluster_delay(client->cluster, client->cluster->nature.network_us));
    } else {
        try_elsewhere(client);
    }
}

/* ---- What comes late ------------------------------------------------------------------------- */

/* It was paused, or cut off, and does not know yet that there is another one: it may take anything, and commit nothing. */
static bool is_deposed(const struct cluster *cluster, const struct shard *shard, uint32_t place)
{
    struct shard_statistics statistics;
    shard_get_statistics(shard, &statistics);
    return statistics.term < sim__cluster_oracle_newest_term(cluster, place);
}

static void echo(struct cluster *cluster, const struct cluster_event *event)
{
    struct client *client = event->pointer;
    struct echo *late = &client->echo;
    const struct cluster_question *question = &late->question;
    struct cluster_node *node = cluster->nodes[client->nodes[question->place]];
    struct shard *shard = sim__cluster_node_shard(node, question->place);
    late->is_under_way = false;
    if (!cluster->is_failed && shard != NULL &&
        sim__cluster_node_paused_until_us(node) <= cluster->now_us &&
        !is_deposed(cluster, shard, question->place)) {
        struct shard_session session;
        shard_session_init(&session);
        bool is_dividing = cluster->nature.does_split;
        struct shard_request request = {
            .command = {question->command->opcode, question->argument_count, question->arguments},
            .protocol = 2,
            .is_write = true,
            .session = &session,
            .origin = client->origin,
            .sequence = late->sequence,
            .known_index = late->known_index,
            .is_retry = true,
            .first_slot = is_dividing ? (uint16_t)late->range.first : 0,
            .end_slot = is_dividing ? (uint16_t)late->range.end : 0,
        };
        struct buffer answer = {0};
        int status =
            shard_submit(shard, &request, &(struct reply){.target = &answer, .protocol = 2});
        sim__cluster_note(cluster, "client.echo", client->number, late->sequence,
                          (uint64_t)-status);
        if (status == SHARD_PENDING) {
            sim__cluster_fail(cluster, "node %u takes a write a second time",
                              sim__cluster_node_id(node));
        }
        buffer_deinit(&answer);
    }
    sim__cluster_question_forget(&late->question);
}

static void begin_echo(struct client *client)
{
    struct cluster *cluster = client->cluster;
    struct echo *late = &client->echo;
    if (late->is_under_way || !sim__cluster_question_is_write(&client->question) ||
        !random_chance(&cluster->random, 1, ECHO_ONE_IN)) {
        return;
    }
    *late = (struct echo){.is_under_way = true,
                          .sequence = client->sequence,
                          .known_index = client->known_index,
                          .range = client->range};
    late->question.command = client->question.command;
    late->question.place = client->question.place;
    for (uint32_t i = 0; i < client->question.argument_count; i++) {
        sim__cluster_question_add(&late->question, client->question.arguments[i]);
    }
    sim__cluster_schedule(cluster, random_below(&cluster->random, ECHO_US_MAX), echo, NULL, 0,
                          client);
}

/* ---- Submitting ------------------------------------------------------------------------------ */

static void submit(struct client *client, struct cluster_node *node)
{
    struct cluster *cluster = client->cluster;
    bool is_dividing = cluster->nature.does_split;
    struct slots_range range = sim__cluster_range_of(cluster, &client->question, client->map);
    bool is_write = sim__cluster_question_is_write(&client->question);
    client->known_index = client->known_indexes[client->question.place];
    client->range = range;
    struct call *call = memory_allocate_zeroed(1, sizeof *call);
    call->client = client;
    call->node = node;
    shard_session_init(&call->session);
    list_push_back(&cluster->clients->calls, &call->link);
    call->request = (struct shard_request){
        .command = {client->question.command->opcode, client->question.argument_count,
                    client->question.arguments},
        .protocol = 2, /* The checker knows no other. */
        .is_write = is_write,
        .does_grow = (client->question.command->flags & KV_FLAG_GROWS) != 0,
        .done = done,
        .session = &call->session,
        .origin = is_write ? client->origin : 0,
        .sequence = client->sequence,
        .known_index = client->known_index,
        .is_retry = client->is_retry,
        .first_slot = is_dividing ? (uint16_t)range.first : 0,
        .end_slot = is_dividing ? (uint16_t)range.end : 0,
    };
    if (client->origin % 2 == 0) { /* The others are of a kind that says nothing. */
        shard_set_floor(sim__cluster_node_shard(node, client->question.place),
                        &(struct shard_floor){client->origin, client->sequence});
    }
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = call->request.protocol};
    client->call = call;
    int status =
        shard_submit(sim__cluster_node_shard(node, client->question.place), &call->request, &reply);
    if (status == SHARD_PENDING) {
        client->is_retry = true; /* From now on it may be in a log. */
    } else {
        free_call(call);
        if (status == SHARD_ANSWERED) {
            note_index(client, node);
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
    const struct cluster_node *node = cluster->nodes[client->nodes[client->question.place]];
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
    bool is_too_late = cluster->now_us > client->question.started_at_us + PATIENCE_US;
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
    if (client->call == NULL && cluster->nature.does_split) {
        client->question.place =
            sim__cluster_range_of(cluster, &client->question, client->map).shard - 1;
    }
    if (client->call != NULL) {
        wait_on(client);
        return;
    }
    struct cluster_node *node = cluster->nodes[client->nodes[client->question.place]];
    if (sim__cluster_node_shard(node, client->question.place) == NULL ||
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

uint64_t sim__cluster_clients_rest_us(const struct cluster_clients *clients)
{
    const struct cluster_nature *nature = &clients->cluster->nature;
    uint64_t left = nature->request_count - clients->made_count;
    return clients->made_count >= nature->request_count
               ? 0
               : left * nature->think_us / nature->client_count;
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
        client->nodes[client->question.place] = sim__cluster_any_node(cluster);
        act_again(client, sim__cluster_delay(cluster, 50000));
    }
    return clients;
}

void sim__cluster_clients_destroy(struct cluster_clients *clients)
{
    for (uint32_t i = 0; i < clients->cluster->nature.client_count; i++) {
        struct client *client = &clients->clients[i];
        sim__cluster_question_forget(&client->question);
        sim__cluster_question_forget(&client->echo.question);
    }
    memory_free(clients->clients);
    memory_free(clients);
}
