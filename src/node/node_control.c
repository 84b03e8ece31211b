/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator asks of this node and tells it; docs/formats/control.md has what each verb takes
 * and answers. Questions are answered from what this node knows; what changes the cluster is a
 * command of its log. */
#include "node/node_control.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/memory/memory.h"
#include "core/token/token.h"
#include "node/node_cluster.h"

enum { TOKEN_TTL_S_DEFAULT = 3600 };

struct node_control {
    struct node_cluster *cluster;
    struct control *control;
};

/* ---- What is known --------------------------------------------------------------------------- */

enum shard_health { SHARD_HEALTHY, SHARD_UNDER_REPLICATED, SHARD_UNAVAILABLE };

static const char *health_name(enum shard_health health)
{
    static const char *const names[] = {"healthy", "under_replicated", "unavailable"};
    return names[health];
}

static enum member_state state_of(const struct node_cluster *cluster, uint32_t node)
{
    struct member_view view = {.state = MEMBER_STATE_SUSPECT};
    if (node == cluster->self) {
        return MEMBER_STATE_ALIVE;
    }
    (void)member_state(cluster->member, node, &view);
    return view.state;
}

static uint32_t count_alive(const struct node_cluster *cluster)
{
    uint32_t count = 1;
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        count += state_of(cluster, cluster->peers[i].id) == MEMBER_STATE_ALIVE;
    }
    return count;
}

/* Voters that lost part of their log and do not count yet, as far as this node knows: the leader knows
 * of all, another of itself. */
static uint32_t count_impaired(const struct node_shard *shard)
{
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t peer_count = shard_get_peers(shard->shard, peers);
    uint32_t count = shard_is_impaired(shard->shard) ? 1 : 0;
    for (uint32_t i = 0; i < peer_count; i++) {
        count += peers[i].is_voter && peers[i].is_impaired;
    }
    return count;
}

/* How many voters there could be with the nodes that there are: an odd number. */
static uint32_t voters_wanted(const struct node_cluster *cluster)
{
    uint32_t replicas = system_settings(cluster->shards->system)->replicas;
    uint32_t nodes = cluster->peer_count + 1;
    uint32_t wanted = replicas < nodes ? replicas : nodes;
    return wanted == 0 ? 1 : wanted - (wanted % 2 == 0);
}

static enum shard_health judge_shard(const struct node_cluster *cluster,
                                     const struct node_shard *shard, uint32_t *dead_count)
{
    const struct raft_configuration *members = shard_configuration(shard->shard);
    uint32_t dead = 0;
    for (uint32_t i = 0; i < members->voter_count; i++) {
        enum member_state state = state_of(cluster, members->voters[i]);
        dead += state == MEMBER_STATE_DEAD || state == MEMBER_STATE_LEFT;
    }
    *dead_count = dead;
    if (shard_leader(shard->shard) == 0) {
        return SHARD_UNAVAILABLE;
    }
    bool is_short = members->voter_count > 0 && members->voter_count < voters_wanted(cluster);
    return dead > 0 || is_short || count_impaired(shard) > 0 ? SHARD_UNDER_REPLICATED
                                                             : SHARD_HEALTHY;
}

/* All shards together. */
struct summary {
    uint32_t counts[SHARD_UNAVAILABLE + 1]; /* By health. */
    uint32_t replica_count;
    uint32_t dead_count;     /* Of these, on nodes that are down; */
    uint32_t impaired_count; /* that lost part of their log. */
    uint32_t voter_count;    /* Of the shard that has fewest. */
};

static struct summary sum_up(const struct node_cluster *cluster)
{
    struct summary summary = {.voter_count = UINT32_MAX};
    for (uint32_t i = 0; i < cluster->shards->count; i++) {
        const struct node_shard *shard = &cluster->shards->items[i];
        uint32_t voters = shard_configuration(shard->shard)->voter_count;
        uint32_t dead_count = 0;
        summary.counts[judge_shard(cluster, shard, &dead_count)]++;
        summary.replica_count += voters;
        summary.dead_count += dead_count;
        summary.impaired_count += count_impaired(shard);
        summary.voter_count = voters < summary.voter_count ? voters : summary.voter_count;
    }
    return summary;
}

/* The verdict on all of it, the worst first. */
static bool judge(const struct node_cluster *cluster, struct json *answer)
{
    struct summary summary = sum_up(cluster);
    uint32_t shard_count = cluster->shards->count;
    char verdict[256];
    struct json *problems = json_array_create();
    bool is_well = summary.counts[SHARD_HEALTHY] == shard_count;
    if (summary.counts[SHARD_UNAVAILABLE] > 0 && shard_count == 1) {
        (void)snprintf(verdict, sizeof verdict,
                       "unavailable: no leader is known here; %" PRIu32 " of %" PRIu32
                       " nodes are alive",
                       count_alive(cluster), cluster->peer_count + 1);
    } else if (summary.counts[SHARD_UNAVAILABLE] > 0) {
        (void)snprintf(verdict, sizeof verdict,
                       "unavailable: of %" PRIu32 " of %" PRIu32
                       " shards no leader is known here; %" PRIu32 " of %" PRIu32
                       " nodes are alive",
                       summary.counts[SHARD_UNAVAILABLE], shard_count, count_alive(cluster),
                       cluster->peer_count + 1);
    } else if (summary.dead_count > 0) {
        (void)snprintf(verdict, sizeof verdict,
                       "serving, but %" PRIu32 " of %" PRIu32
                       " replicas are on nodes that are down",
                       summary.dead_count, summary.replica_count);
    } else if (summary.impaired_count > 0) {
        (void)snprintf(verdict, sizeof verdict,
                       "serving, but %" PRIu32 " of %" PRIu32
                       " replicas lost part of their log, and repair themselves",
                       summary.impaired_count, summary.replica_count);
    } else if (!is_well) {
        (void)snprintf(verdict, sizeof verdict,
                       "serving with %" PRIu32 " of %" PRIu32 " replicas; it grows by itself",
                       summary.voter_count, voters_wanted(cluster));
    } else {
        (void)snprintf(verdict, sizeof verdict,
                       "healthy: %" PRIu32 " node%s, every replica in place",
                       cluster->peer_count + 1, cluster->peer_count == 0 ? "" : "s");
    }
    if (!is_well) {
        json_append_text(problems, verdict);
    }
    json_set_boolean(answer, "well", is_well);
    json_set_text(answer, "verdict", verdict);
    json_set(answer, "problems", problems);
    return is_well;
}

/* ---- Questions ------------------------------------------------------------------------------- */

static void answer_status(struct node_cluster *cluster, struct control_call *call)
{
    struct json *answer = json_object_create();
    uint32_t counts[SYSTEM_NODE_REMOVED + 1] = {0};
    const struct system_settings *settings = system_settings(cluster->shards->system);
    (void)judge(cluster, answer);
    counts[SYSTEM_NODE_ACTIVE]++;
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        counts[cluster->peers[i].state]++;
    }
    struct summary summary = sum_up(cluster);
    json_set_text(answer, "cluster", node_data_cluster_id(cluster->data));
    json_set_unsigned(answer, "node", cluster->self);
    json_set_unsigned(answer, "feature", settings->feature);
    json_set_unsigned(answer, "replicas", settings->replicas);
    struct json *nodes = json_object_create();
    json_set_unsigned(nodes, "active", counts[SYSTEM_NODE_ACTIVE]);
    json_set_unsigned(nodes, "draining", counts[SYSTEM_NODE_DRAINING]);
    json_set_unsigned(nodes, "drained", counts[SYSTEM_NODE_DRAINED]);
    json_set_unsigned(nodes, "dead", cluster->peer_count + 1 - count_alive(cluster));
    json_set(answer, "nodes", nodes);
    struct json *shards = json_object_create();
    json_set_unsigned(shards, "count", cluster->shards->count);
    json_set_unsigned(shards, "healthy", summary.counts[SHARD_HEALTHY]);
    json_set_unsigned(shards, "under_replicated", summary.counts[SHARD_UNDER_REPLICATED]);
    json_set_unsigned(shards, "unavailable", summary.counts[SHARD_UNAVAILABLE]);
    json_set(answer, "shards", shards);
    json_set(answer, "moves", json_array_create());
    control_reply(call, 200, answer);
}

/* Of how many shards has the node a replica, and how many does it lead? */
static void count_shards(const struct node_cluster *cluster, uint32_t node, uint32_t *replica_count,
                         uint32_t *leader_count)
{
    *replica_count = 0;
    *leader_count = 0;
    for (uint32_t i = 0; i < cluster->shards->count; i++) {
        const struct shard *shard = cluster->shards->items[i].shard;
        const struct raft_configuration *members = shard_configuration(shard);
        *replica_count += raft_configuration_has_voter(members, node) ||
                          raft_configuration_has_learner(members, node);
        *leader_count += shard_leader(shard) == node;
    }
}

static void describe_node(struct node_cluster *cluster, struct json *list, uint32_t id,
                          const struct system_node *known)
{
    struct json *node = json_object_create();
    struct member_view view = {0};
    bool is_self = id == cluster->self;
    bool is_heard = member_state(cluster->member, id, &view);
    uint32_t replica_count;
    uint32_t leader_count;
    count_shards(cluster, id, &replica_count, &leader_count);
    const struct node_peer *peer = node_cluster_find(cluster, id);
    json_set_unsigned(node, "id", id);
    json_set_boolean(node, "self", is_self);
    enum system_node_state state = known != NULL  ? known->state
                                   : peer != NULL ? peer->state
                                                  : SYSTEM_NODE_ACTIVE;
    json_set_text(node, "state", system_node_state_name(state));
    json_set_text(node, "health",
                  is_self     ? "alive"
                  : !is_heard ? "unknown"
                              : member_state_text(view.state));
    if (is_heard && !is_self && view.state != MEMBER_STATE_ALIVE) {
        json_set_unsigned(node, "silent_ms", os_monotonic_ms() - view.since_ms);
    }
    json_set_text(node, "peer", known != NULL ? known->peer : is_self ? cluster->peer_text : "");
    json_set_text(node, "redis", known != NULL ? known->redis : "");
    json_set_text(node, "admin", known != NULL ? known->admin : "");
    json_set_text(node, "zone", known != NULL ? known->zone : "");
    json_set_text(node, "software", known != NULL ? known->software : TUTTI_VERSION);
    json_set_unsigned(node, "shards", replica_count);
    json_set_unsigned(node, "leaders", leader_count);
    json_append(list, node);
}

static void answer_nodes(struct node_cluster *cluster, struct control_call *call)
{
    struct json *answer = json_object_create();
    struct json *list = json_array_create();
    const struct system *system = cluster->shards->system;
    bool has_all = json_flag(json_get(call->arguments, "all"), false);
    (void)judge(cluster, answer);
    for (uint32_t i = 0; i < system_node_count(system); i++) {
        const struct system_node *node = system_node_at(system, i);
        if (has_all || node->state != SYSTEM_NODE_REMOVED) {
            describe_node(cluster, list, node->id, node);
        }
    }
    if (system_node_count(system) == 0) { /* Without a replica: what the roster says. */
        describe_node(cluster, list, cluster->self, NULL);
        for (uint32_t i = 0; i < cluster->peer_count; i++) {
            describe_node(cluster, list, cluster->peers[i].id, NULL);
        }
    }
    json_set(answer, "nodes", list);
    control_reply(call, 200, answer);
}

/* What the leader knows of the others, on the node that is it. */
struct known_peers {
    raft_index applied;
    bool is_self_impaired;
    uint32_t count;
    struct raft_peer items[RAFT_PEER_COUNT_MAX];
};

static void describe_replica(struct node_cluster *cluster, struct json *list, raft_node node,
                             bool is_voter, const struct known_peers *peers)
{
    struct json *replica = json_object_create();
    const char *state = state_of(cluster, node) == MEMBER_STATE_ALIVE ? "ok" : "unreachable";
    json_set_unsigned(replica, "node", node);
    json_set_text(replica, "role", is_voter ? "voter" : "learner");
    for (uint32_t i = 0; i < peers->count; i++) {
        const struct raft_peer *peer = &peers->items[i];
        if (peer->node != node) {
            continue;
        }
        uint64_t lag = peers->applied > peer->match_index ? peers->applied - peer->match_index : 0;
        json_set_unsigned(replica, "lag_entries", lag);
        if (peer->progress == RAFT_PROGRESS_SNAPSHOT) {
            state = "snapshot";
        } else if (peer->is_impaired && strcmp(state, "ok") == 0) {
            state = "damaged";
        } else if (lag > 1000 && strcmp(state, "ok") == 0) {
            state = "behind";
        }
    }
    if (node == cluster->self && peers->is_self_impaired) {
        state = "damaged";
    }
    json_set_text(replica, "state", state);
    json_append(list, replica);
}

static void describe_range(struct json *shard, const struct slots_range *range)
{
    char text[32];
    if (range->first > 0) {
        (void)snprintf(text, sizeof text, "slot %" PRIu32, range->first);
    }
    json_set_text(shard, "first", range->first > 0 ? text : "");
    if (range->end < SLOTS_COUNT) {
        (void)snprintf(text, sizeof text, "slot %" PRIu32, range->end);
    }
    json_set_text(shard, "last", range->end < SLOTS_COUNT ? text : "");
}

static void describe_shard(struct node_cluster *cluster, struct json *list,
                           const struct node_shard *known)
{
    struct json *shard = json_object_create();
    struct json *replicas = json_array_create();
    struct known_peers peers = {.applied = shard_applied_index(known->shard),
                                .is_self_impaired = shard_is_impaired(known->shard)};
    peers.count = shard_get_peers(known->shard, peers.items);
    const struct raft_configuration *members = shard_configuration(known->shard);
    uint32_t dead_count = 0;
    for (uint32_t i = 0; i < members->voter_count; i++) {
        describe_replica(cluster, replicas, members->voters[i], true, &peers);
    }
    for (uint32_t i = 0; i < members->learner_count; i++) {
        describe_replica(cluster, replicas, members->learners[i], false, &peers);
    }
    json_set_unsigned(shard, "id", known->range.shard);
    describe_range(shard, &known->range);
    json_set_unsigned(shard, "leader", shard_leader(known->shard));
    json_set_text(shard, "health", health_name(judge_shard(cluster, known, &dead_count)));
    json_set_boolean(shard, "is_moving", members->outgoing_count > 0 || members->learner_count > 0);
    struct kv_statistics kv;
    kv_get_statistics(known->kv, &kv);
    json_set_unsigned(shard, "keys", kv.key_count);
    json_set(shard, "replicas", replicas);
    json_append(list, shard);
}

/* Is the shard one of those that the arguments ask for? */
static bool is_asked_for(const struct control_call *call, const struct node_shard *shard)
{
    const struct raft_configuration *members = shard_configuration(shard->shard);
    double id = json_number(json_get(call->arguments, "shard"), 0);
    double node = json_number(json_get(call->arguments, "node"), 0);
    return (id == 0 || id == shard->range.shard) &&
           (node == 0 || raft_configuration_has_voter(members, (raft_node)node) ||
            raft_configuration_has_learner(members, (raft_node)node));
}

static void answer_shards(struct node_cluster *cluster, struct control_call *call)
{
    struct json *answer = json_object_create();
    struct json *shards = json_array_create();
    (void)judge(cluster, answer);
    for (uint32_t i = 0; i < cluster->shards->count; i++) {
        if (is_asked_for(call, &cluster->shards->items[i])) {
            describe_shard(cluster, shards, &cluster->shards->items[i]);
        }
    }
    json_set(answer, "shards", shards);
    control_reply(call, 200, answer);
}

static void add_reasons(struct node_cluster *cluster, const struct node_shard *shard,
                        struct json *reasons)
{
    const struct raft_configuration *members = shard_configuration(shard->shard);
    char text[200];
    for (uint32_t i = 0; i < members->voter_count; i++) {
        enum member_state state = state_of(cluster, members->voters[i]);
        if (state != MEMBER_STATE_ALIVE) {
            (void)snprintf(text, sizeof text, "node %" PRIu32 ", which has a replica, is %s",
                           members->voters[i], member_state_text(state));
            json_append_text(reasons, text);
        }
    }
    if (count_impaired(shard) > 0) {
        (void)snprintf(text, sizeof text,
                       "%" PRIu32
                       " of its replicas lost part of their log to damage on a disk; they "
                       "do not vote until they have got it from the others",
                       count_impaired(shard));
        json_append_text(reasons, text);
    }
    if (members->voter_count < voters_wanted(cluster)) {
        (void)snprintf(text, sizeof text, "%" PRIu32 " replicas are wanted, and there are %" PRIu32,
                       voters_wanted(cluster), members->voter_count);
        json_append_text(reasons, text);
    }
    if (shard_leader(shard->shard) == 0) {
        json_append_text(reasons, "no leader is known to this node");
    }
}

static void explain(struct node_cluster *cluster, struct json *list, const struct node_shard *known,
                    enum shard_health health)
{
    struct json *shard = json_object_create();
    struct json *reasons = json_array_create();
    add_reasons(cluster, known, reasons);
    json_set_unsigned(shard, "id", known->range.shard);
    json_set_text(shard, "health", health_name(health));
    json_set(shard, "reasons", reasons);
    json_set_text(shard, "next",
                  health == SHARD_UNAVAILABLE
                      ? "when a majority of its replicas is reached again, it serves by itself"
                      : "a replica is added as soon as a node can take it; a node that is down "
                        "is replaced after five minutes, or after `tutti remove`");
    json_append(list, shard);
}

static void answer_why(struct node_cluster *cluster, struct control_call *call)
{
    struct json *answer = json_object_create();
    struct json *shards = json_array_create();
    (void)judge(cluster, answer);
    for (uint32_t i = 0; i < cluster->shards->count; i++) {
        const struct node_shard *shard = &cluster->shards->items[i];
        uint32_t dead_count = 0;
        enum shard_health health = judge_shard(cluster, shard, &dead_count);
        if (health != SHARD_HEALTHY && is_asked_for(call, shard)) {
            explain(cluster, shards, shard, health);
        }
    }
    json_set(answer, "shards", shards);
    control_reply(call, 200, answer);
}

/* ---- Changes --------------------------------------------------------------------------------- */

/* A change on its way. */
struct change {
    struct control_call *call;
    struct node_cluster *cluster;
    struct json *answer; /* For when it is done. */
};

static struct change *change_create(struct node_cluster *cluster, struct control_call *call)
{
    struct change *change = memory_allocate_zeroed(1, sizeof *change);
    change->call = call;
    change->cluster = cluster;
    change->answer = json_object_create();
    return change;
}

static void change_is_done(void *context, int status, struct bytes reply)
{
    struct change *change = context;
    struct error error = {0};
    uint64_t number = 0;
    if (status != 0) {
        control_refuse(change->call, 503, "unavailable", "the cluster has no leader now: %s",
                       error_text(status));
        json_destroy(change->answer);
    } else if ((status = system_reply_number(reply, &number, &error)) != 0) {
        control_refuse(change->call,
                       status == -ENOENT   ? 404
                       : status == -EINVAL ? 400
                       : status == -EAGAIN ? 503
                                           : 409,
                       status == -ENOENT   ? "unknown"
                       : status == -EINVAL ? "arguments"
                       : status == -ENOSPC ? "limit"
                       : status == -EAGAIN ? "unavailable"
                                           : "state",
                       "%s", error.message);
        json_destroy(change->answer);
    } else {
        control_reply(change->call, 200, change->answer);
    }
    memory_free(change);
}

static void say_of(struct json *answer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void say_of(struct json *answer, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_set_text(answer, "text", text);
}

static void make_token(struct node_cluster *cluster, struct control_call *call)
{
    double ttl_s = json_number(json_get(call->arguments, "ttl_s"), TOKEN_TTL_S_DEFAULT);
    double uses = json_number(json_get(call->arguments, "uses"), 1);
    if (ttl_s < 1 || ttl_s * 1000 > (double)SYSTEM_TOKEN_TTL_MS_MAX || uses < 1 ||
        uses > SYSTEM_TOKEN_USES_MAX) {
        control_refuse(call, 400, "arguments", "ttl_s must be 1 to %" PRIu64 ", uses 1 to %d",
                       (uint64_t)(SYSTEM_TOKEN_TTL_MS_MAX / 1000), SYSTEM_TOKEN_USES_MAX);
        return;
    }
    struct token token;
    char text[TOKEN_TEXT_SIZE];
    memcpy(token.fingerprint, cluster->identity.fingerprint.bytes, sizeof token.fingerprint);
    os_random_fill(token.secret, sizeof token.secret);
    struct bytes secret = bytes_make(token.secret, sizeof token.secret);
    struct tls_digest digest = tls_sha256(&secret, 1);
    struct system_digest hash;
    memcpy(hash.bytes, digest.bytes, sizeof hash.bytes);
    uint64_t ttl_ms = (uint64_t)(ttl_s * 1000);
    struct change *change = change_create(cluster, call);
    say_of(change->answer, "a node that knows this token may join within %.0f s", ttl_s);
    json_set_text(change->answer, "token", token_encode(&token, text));
    json_set_unsigned(change->answer, "expires_ms", os_wall_clock_ms() + ttl_ms);
    json_set_unsigned(change->answer, "uses", (uint64_t)uses);
    json_set_text(change->answer, "peer", cluster->peer_text);
    tls_wipe(&token, sizeof token);
    tls_wipe(text, sizeof text);
    struct system_command command;
    system_token_add_command(&command, &hash, ttl_ms, (uint32_t)uses);
    node_errand_send(cluster, &command, change_is_done, change);
}

/* The node that the arguments name; 0: refused. */
static uint32_t node_argument(struct control_call *call)
{
    double node = json_number(json_get(call->arguments, "node"), 0);
    if (node < 1 || node > UINT32_MAX) {
        control_refuse(call, 400, "arguments", "node must be the number of a node");
        return 0;
    }
    return (uint32_t)node;
}

static void set_state(struct node_cluster *cluster, struct control_call *call, uint32_t node,
                      enum system_node_state state, const char *text)
{
    struct change *change = change_create(cluster, call);
    say_of(change->answer, text, node);
    json_set_unsigned(change->answer, "node", node);
    json_set_text(change->answer, "state", system_node_state_name(state));
    struct system_command command;
    system_node_state_command(&command, node, state);
    node_errand_send(cluster, &command, change_is_done, change);
}

static void drain(struct node_cluster *cluster, struct control_call *call)
{
    uint32_t node = node_argument(call);
    if (node == 0) {
        return;
    }
    if (json_flag(json_get(call->arguments, "cancel"), false)) {
        set_state(cluster, call, node, SYSTEM_NODE_ACTIVE, "node %" PRIu32 " is active again");
        return;
    }
    set_state(cluster, call, node, SYSTEM_NODE_DRAINING,
              "node %" PRIu32 " is being emptied; `tutti nodes` tells when it is drained");
}

static void remove_node(struct node_cluster *cluster, struct control_call *call)
{
    uint32_t node = node_argument(call);
    if (node == 0) {
        return;
    }
    uint32_t replica_count;
    uint32_t leader_count;
    count_shards(cluster, node, &replica_count, &leader_count);
    if (replica_count > 0 && !json_flag(json_get(call->arguments, "force"), false)) {
        control_refuse(call, 409, "state",
                       "node %" PRIu32 " has replicas: `tutti drain %" PRIu32
                       "` moves them away; --force removes it all the same",
                       node, node);
        return;
    }
    set_state(cluster, call, node, SYSTEM_NODE_REMOVED,
              "node %" PRIu32 " is no part of the cluster any more");
}

static void transfer(struct node_cluster *cluster, struct control_call *call)
{
    uint32_t node = node_argument(call);
    if (node == 0) {
        return;
    }
    double id = json_number(json_get(call->arguments, "shard"), SLOTS_FIRST_SHARD);
    struct node_shard *known =
        id >= 1 && id <= UINT32_MAX ? node_shards_find(cluster->shards, (wal_shard)id) : NULL;
    if (known == NULL) {
        control_refuse(call, 404, "unknown", "there is no shard %.0f", id);
        return;
    }
    struct shard *shard = known->shard;
    raft_node leader = shard_leader(shard);
    if (!shard_is_ready(shard)) {
        control_refuse(call, 409, "state",
                       "this node does not lead the shard; ask node %" PRIu32 " with its --data",
                       leader);
        return;
    }
    known->is_touched = true;
    int status = node == cluster->self ? 0 : shard_transfer(shard, node);
    if (status == -EINVAL) {
        control_refuse(call, 409, "state", "node %" PRIu32 " has no replica that could lead", node);
    } else if (status != 0) {
        control_refuse(call, 503, "unavailable", "not now: %s", error_text(status));
    } else {
        struct json *answer = json_object_create();
        say_of(answer, "node %" PRIu32 " takes over", node);
        json_set_unsigned(answer, "shard", known->range.shard);
        json_set_unsigned(answer, "node", node);
        control_reply(call, 200, answer);
    }
}

static void set_replicas(struct node_cluster *cluster, struct control_call *call)
{
    double replicas = json_number(json_get(call->arguments, "replicas"), 0);
    if (replicas != 1 && replicas != 3 && replicas != 5) {
        control_refuse(call, 400, "arguments", "replicas must be 1, 3 or 5");
        return;
    }
    struct change *change = change_create(cluster, call);
    say_of(change->answer, "%.0f replicas from now on; they are added or removed by themselves",
           replicas);
    json_set_unsigned(change->answer, "replicas", (uint64_t)replicas);
    json_set_unsigned(change->answer, "before", system_settings(cluster->shards->system)->replicas);
    struct system_command command;
    system_setting_command(&command, (uint32_t)replicas, 0);
    node_errand_send(cluster, &command, change_is_done, change);
}

static void records_came(void *context, int status, struct bytes reply)
{
    struct change *change = context;
    struct system_audits audits;
    struct error error = {0};
    if (status != 0 || system_reply_auditlog(reply, &audits, &error) != 0) {
        control_refuse(change->call, 503, "unavailable", "the cluster has no leader now");
        json_destroy(change->answer);
        memory_free(change);
        return;
    }
    struct json *records = json_array_create();
    for (uint32_t i = 0; i < audits.audit_count; i++) {
        const struct system_audit *audit = &audits.audits[i];
        struct json *record = json_object_create();
        json_set_unsigned(record, "number", audit->number);
        json_set_unsigned(record, "first_ms", audit->first_at_ms);
        json_set_unsigned(record, "last_ms", audit->last_at_ms);
        json_set_unsigned(record, "count", audit->count);
        json_set_text(record, "kind", system_audit_kind_name(audit->kind));
        json_set_unsigned(record, "node", audit->node);
        json_set_text(record, "text", audit->text);
        json_append(records, record);
    }
    (void)judge(change->cluster, change->answer);
    json_set(change->answer, "records", records);
    control_reply(change->call, 200, change->answer);
    system_audits_deinit(&audits);
    memory_free(change);
}

static void answer_audit(struct node_cluster *cluster, struct control_call *call)
{
    double count = json_number(json_get(call->arguments, "count"), 100);
    struct system_command command;
    system_auditlog_command(&command, count < 1 ? 1 : count > 1000 ? 1000 : (uint32_t)count);
    node_errand_send(cluster, &command, records_came, change_create(cluster, call));
}

static void call(void *context, struct control_call *call)
{
    struct node_cluster *cluster = ((struct node_control *)context)->cluster;
    switch (call->verb) {
    case CONTROL_STATUS:
        answer_status(cluster, call);
        return;
    case CONTROL_NODES:
        answer_nodes(cluster, call);
        return;
    case CONTROL_SHARDS:
        answer_shards(cluster, call);
        return;
    case CONTROL_WHY:
        answer_why(cluster, call);
        return;
    case CONTROL_AUDIT:
        answer_audit(cluster, call);
        return;
    case CONTROL_TOKEN:
        make_token(cluster, call);
        return;
    case CONTROL_DRAIN:
        drain(cluster, call);
        return;
    case CONTROL_REMOVE:
        remove_node(cluster, call);
        return;
    case CONTROL_TRANSFER:
        transfer(cluster, call);
        return;
    case CONTROL_REPLICAS:
        set_replicas(cluster, call);
        return;
    case CONTROL_SPLIT:
        control_refuse(call, 501, "unsupported",
                       "this version divides the data when a cluster is made (--shards)");
        return;
    case CONTROL_RECOVER:
        control_refuse(call, 501, "unsupported",
                       "this version cannot recover a cluster that has lost a majority for good; "
                       "bring back a majority of the nodes that have replicas");
        return;
    }
}

int node_control_open(struct node_control **control, struct node_cluster *cluster,
                      struct error *error)
{
    struct node_control *created = memory_allocate_zeroed(1, sizeof *created);
    created->cluster = cluster;
    struct control_backend backend = {.call = call, .context = created};
    created->control = control_create(cluster->loop, &backend);
    int status =
        control_listen(created->control, node_data_path(cluster->data, NODE_FILE_CONTROL), error);
    if (status != 0) {
        node_control_close(created);
        return status;
    }
    *control = created;
    return 0;
}

void node_control_close(struct node_control *control)
{
    if (control != NULL) {
        control_destroy(control->control);
        memory_free(control);
    }
}
