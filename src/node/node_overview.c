/* SPDX-License-Identifier: Apache-2.0 */
/* From answers to verdicts, and to what tables show. */
#include "node/node_overview.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum { BEHIND_COUNT = 1000, TEXT_SIZE = 256 };

enum shard_health { SHARD_HEALTHY, SHARD_UNDER_REPLICATED, SHARD_UNAVAILABLE };

static const char *health_name(enum shard_health health)
{
    static const char *const names[] = {"healthy", "under_replicated", "unavailable"};
    return names[health];
}

/* ---- What is known --------------------------------------------------------------------------- */

static enum member_state ask_state(const struct node_cluster *cluster, uint32_t node)
{
    struct member_view view = {.state = MEMBER_STATE_SUSPECT};
    (void)member_state(cluster->member, node, &view);
    return node == cluster->self ? MEMBER_STATE_ALIVE : view.state;
}

/* Of that node, or the first behind it. */
static uint32_t place_of(const struct overview *overview, uint32_t node)
{
    uint32_t low = 0;
    uint32_t high = overview->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (overview->nodes[middle].id < node) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool knows(const struct overview *overview, uint32_t place, uint32_t node)
{
    return place < overview->node_count && overview->nodes[place].id == node;
}

static void note_node(struct overview *overview, uint32_t node)
{
    uint32_t place = place_of(overview, node);
    if (knows(overview, place, node) || overview->node_count == OVERVIEW_NODE_COUNT_MAX) {
        return;
    }
    memmove(&overview->nodes[place + 1], &overview->nodes[place],
            (overview->node_count - place) * sizeof overview->nodes[0]);
    overview->nodes[place] =
        (struct overview_node){.id = node, .state = ask_state(overview->cluster, node)};
    overview->node_count++;
}

static enum member_state state_of(const struct overview *overview, uint32_t node)
{
    uint32_t place = place_of(overview, node);
    return knows(overview, place, node) ? overview->nodes[place].state : MEMBER_STATE_SUSPECT;
}

/* What is told of nodes does not change from here on. */
static void note_nodes(struct overview *overview)
{
    const struct node_cluster *cluster = overview->cluster;
    uint32_t replicas = system_settings(cluster->shards->system)->replicas;
    uint32_t wanted = replicas < cluster->peer_count + 1 ? replicas : cluster->peer_count + 1;
    overview->voters_wanted = wanted == 0 ? 1 : wanted - (wanted % 2 == 0); /* An odd number. */
    overview->peer_count = cluster->peer_count;
    overview->alive_count = 1;
    note_node(overview, cluster->self);
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        uint32_t node = cluster->peers[i].id;
        note_node(overview, node);
        overview->alive_count += state_of(overview, node) == MEMBER_STATE_ALIVE;
    }
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        const struct inquiry_replica *replica = &overview->shards[i].replica;
        for (uint32_t j = 0; j < replica->member_count; j++) {
            note_node(overview, replica->members[j].node);
        }
    }
}

static void add_member(struct inquiry_replica *replica, raft_node node, bool is_voter)
{
    replica->members[replica->member_count++] = (struct inquiry_member){
        .node = node,
        .is_voter = is_voter,
        .lag_entries = INQUIRY_UNKNOWN,
        .lag_ms = INQUIRY_UNKNOWN,
    };
}

/* As this node knows it. */
static void take_own(struct overview_shard *shard)
{
    struct inquiry_replica *replica = &shard->replica;
    *replica = (struct inquiry_replica){.shard = shard->range.shard};
    for (uint32_t i = 0; i < INQUIRY_REPLICA_FIGURE_COUNT; i++) {
        replica->figures[i] = INQUIRY_UNKNOWN;
    }
    if (shard->here == NULL) {
        return;
    }
    const struct raft_configuration *members = shard_configuration(shard->here->shard);
    replica->is_changing = members->outgoing_count > 0;
    for (uint32_t i = 0; i < members->voter_count; i++) {
        add_member(replica, members->voters[i], true);
    }
    for (uint32_t i = 0; i < members->learner_count; i++) {
        add_member(replica, members->learners[i], false);
    }
    shard->leader = shard_leader(shard->here->shard);
    for (uint32_t i = 0; i < replica->member_count; i++) {
        if (replica->members[i].node == shard->here->host->self &&
            shard_is_impaired(shard->here->shard)) {
            replica->members[i].state = INQUIRY_MEMBER_DAMAGED;
        }
    }
}

static struct overview_shard *find(struct overview *overview, wal_shard id)
{
    uint32_t place = slots_find(&overview->map, id);
    return place < overview->shard_count ? &overview->shards[place] : NULL;
}

static void take_answer(struct overview *overview, const struct node_answer *answer)
{
    struct inquiry_message message;
    int status = inquiry_message_decode(buffer_bytes(&answer->message), &message);
    ASSERT(status == 0); /* It was accepted when it came. */
    for (uint32_t i = 0; i < message.replica_count; i++) {
        struct inquiry_replica replica;
        inquiry_message_next(&message, &replica);
        struct overview_shard *shard = find(overview, replica.shard);
        if (!replica.is_leader || shard == NULL) {
            continue;
        }
        if (!shard->is_told || replica.term > shard->replica.term) {
            shard->is_told = true;
            shard->leader = answer->node;
            shard->replica = replica;
        }
    }
}

struct overview *node_overview_create(const struct node_cluster *cluster,
                                      const struct node_survey *survey)
{
    struct overview *overview = memory_allocate_zeroed(1, sizeof *overview);
    overview->cluster = cluster;
    overview->survey = survey;
    const struct slots *map = node_shards_map(cluster->shards);
    slots_copy(&overview->map, map);
    overview->shard_count = map->range_count;
    overview->shards = memory_allocate_zeroed(map->range_count, sizeof overview->shards[0]);
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        overview->shards[i].range = map->ranges[i];
        overview->shards[i].here = node_shards_find(cluster->shards, map->ranges[i].shard);
        take_own(&overview->shards[i]);
    }
    for (uint32_t i = 0; i < survey->answer_count; i++) {
        if (survey->answers[i].kind == NODE_ANSWER_CAME) {
            take_answer(overview, &survey->answers[i]);
        }
    }
    note_nodes(overview);
    return overview;
}

void node_overview_detach(struct overview *overview)
{
    overview->cluster = NULL;
    overview->survey = NULL;
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        overview->shards[i].here = NULL;
    }
}

void node_overview_destroy(struct overview *overview)
{
    slots_deinit(&overview->map);
    memory_free(overview->shards);
    memory_free(overview);
}

const struct overview_shard *node_overview_find(const struct overview *overview, double id)
{
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        if (overview->shards[i].range.shard == id) {
            return &overview->shards[i];
        }
    }
    return NULL;
}

bool node_overview_has_replica(const struct overview_shard *shard, uint32_t node)
{
    for (uint32_t i = 0; i < shard->replica.member_count; i++) {
        if (shard->replica.members[i].node == node) {
            return true;
        }
    }
    return false;
}

void node_overview_count(const struct overview *overview, uint32_t node, uint32_t *replica_count,
                         uint32_t *leader_count)
{
    *replica_count = 0;
    *leader_count = 0;
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        *replica_count += node_overview_has_replica(&overview->shards[i], node);
        *leader_count += overview->shards[i].leader == node;
    }
}

bool node_overview_has_rows(const struct overview *overview)
{
    struct node_shards *shards = overview->cluster->shards;
    const struct raft_configuration *first = shard_configuration(node_shards_first(shards)->shard);
    uint32_t self = overview->cluster->self;
    return (raft_configuration_has_voter(first, self) ||
            raft_configuration_has_learner(first, self)) &&
           system_node_count(shards->system) > 0;
}

/* ---- The verdict ----------------------------------------------------------------------------- */

/* Members of a shard, or of all together. */
struct tally {
    uint32_t voter_count;
    uint32_t dead_count;     /* Of these, on nodes that are down; */
    uint32_t impaired_count; /* that lost part of their log. */
};

static struct tally count_voters(const struct overview *overview,
                                 const struct overview_shard *shard)
{
    struct tally tally = {0};
    for (uint32_t i = 0; i < shard->replica.member_count; i++) {
        const struct inquiry_member *member = &shard->replica.members[i];
        enum member_state state = state_of(overview, member->node);
        if (member->is_voter) {
            tally.voter_count++;
            tally.dead_count += state == MEMBER_STATE_DEAD || state == MEMBER_STATE_LEFT;
            tally.impaired_count += member->state == INQUIRY_MEMBER_DAMAGED;
        }
    }
    return tally;
}

static enum shard_health judge_shard(const struct overview *overview,
                                     const struct overview_shard *shard)
{
    struct tally tally = count_voters(overview, shard);
    if (shard->leader == 0) {
        return SHARD_UNAVAILABLE;
    }
    bool is_short = tally.voter_count > 0 && tally.voter_count < overview->voters_wanted;
    return tally.dead_count > 0 || is_short || tally.impaired_count > 0 ? SHARD_UNDER_REPLICATED
                                                                        : SHARD_HEALTHY;
}

/* All shards together. */
struct summary {
    uint32_t counts[SHARD_UNAVAILABLE + 1]; /* By health. */
    struct tally all;
    uint32_t voter_count_min;
};

static struct summary sum_up(const struct overview *overview)
{
    struct summary summary = {.voter_count_min = UINT32_MAX};
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        struct tally tally = count_voters(overview, &overview->shards[i]);
        summary.counts[judge_shard(overview, &overview->shards[i])]++;
        summary.all.voter_count += tally.voter_count;
        summary.all.dead_count += tally.dead_count;
        summary.all.impaired_count += tally.impaired_count;
        if (tally.voter_count < summary.voter_count_min) {
            summary.voter_count_min = tally.voter_count;
        }
    }
    return summary;
}

/* The worst first. */
static void write_verdict(const struct overview *overview, const struct summary *summary,
                          char verdict[TEXT_SIZE])
{
    uint32_t node_count = overview->peer_count + 1;
    uint32_t unavailable = summary->counts[SHARD_UNAVAILABLE];
    if (unavailable > 0 && overview->shard_count == 1) {
        (void)snprintf(verdict, TEXT_SIZE,
                       "unavailable: no leader is known here; %" PRIu32 " of %" PRIu32
                       " nodes are alive",
                       overview->alive_count, node_count);
    } else if (unavailable > 0) {
        (void)snprintf(verdict, TEXT_SIZE,
                       "unavailable: of %" PRIu32 " of %" PRIu32
                       " shards no leader is known here; %" PRIu32 " of %" PRIu32
                       " nodes are alive",
                       unavailable, overview->shard_count, overview->alive_count, node_count);
    } else if (summary->all.dead_count > 0) {
        (void)snprintf(verdict, TEXT_SIZE,
                       "serving, but %" PRIu32 " of %" PRIu32
                       " replicas are on nodes that are down",
                       summary->all.dead_count, summary->all.voter_count);
    } else if (summary->all.impaired_count > 0) {
        (void)snprintf(verdict, TEXT_SIZE,
                       "serving, but %" PRIu32 " of %" PRIu32
                       " replicas lost part of their log, and repair themselves",
                       summary->all.impaired_count, summary->all.voter_count);
    } else if (summary->counts[SHARD_HEALTHY] != overview->shard_count) {
        (void)snprintf(verdict, TEXT_SIZE,
                       "serving with %" PRIu32 " of %" PRIu32 " replicas; it grows by itself",
                       summary->voter_count_min, overview->voters_wanted);
    } else {
        (void)snprintf(verdict, TEXT_SIZE, "healthy: %" PRIu32 " node%s, every replica in place",
                       node_count, node_count == 1 ? "" : "s");
    }
}

void node_overview_judge(const struct overview *overview, struct json *answer)
{
    struct summary summary = sum_up(overview);
    bool is_well = summary.counts[SHARD_HEALTHY] == overview->shard_count;
    char verdict[TEXT_SIZE];
    write_verdict(overview, &summary, verdict);
    struct json *problems = json_array_create();
    if (!is_well) {
        json_append_text(problems, verdict);
    }
    json_set_boolean(answer, "well", is_well);
    json_set_text(answer, "verdict", verdict);
    json_set(answer, "problems", problems);
}

/* ---- Figures --------------------------------------------------------------------------------- */

static void set_figure(struct json *object, const char *key, uint64_t figure)
{
    if (figure != INQUIRY_UNKNOWN) {
        json_set_unsigned(object, key, figure);
    }
}

static void set_rate(struct json *object, const char *key, uint64_t per_1000_s)
{
    if (per_1000_s != INQUIRY_UNKNOWN) {
        json_set_real(object, key, (double)per_1000_s / 1000);
    }
}

static void set_latencies(struct json *object, const char *median_key, const char *p99_key,
                          const struct histogram *latencies_ns)
{
    if (latencies_ns->count > 0) { /* Of nothing there is no latency. */
        json_set_unsigned(object, median_key, histogram_quantile(latencies_ns, 500) / 1000);
        json_set_unsigned(object, p99_key, histogram_quantile(latencies_ns, 990) / 1000);
    }
}

static void set_load(struct json *object, const uint64_t *figures,
                     const struct histogram *latencies_ns)
{
    set_rate(object, "reads_per_s", figures[INQUIRY_READS_PER_1000_S]);
    set_rate(object, "writes_per_s", figures[INQUIRY_WRITES_PER_1000_S]);
    set_latencies(object, "read_p50_us", "read_p99_us", &latencies_ns[INQUIRY_READ]);
    set_latencies(object, "write_p50_us", "write_p99_us", &latencies_ns[INQUIRY_WRITE]);
}

static void add_latencies(const struct inquiry_message *message, struct histogram *latencies_ns)
{
    for (uint32_t i = 0; i < INQUIRY_LATENCY_COUNT; i++) {
        inquiry_add_latencies(message, (enum inquiry_latency)i, &latencies_ns[i]);
    }
}

static const struct node_answer *answer_of(const struct overview *overview, uint32_t node)
{
    for (uint32_t i = 0; i < overview->survey->answer_count; i++) {
        if (overview->survey->answers[i].node == node) {
            return &overview->survey->answers[i];
        }
    }
    return NULL;
}

/* What the node said of itself, or why there is nothing. */
static void set_figures(const struct overview *overview, struct json *object, uint32_t node)
{
    static const struct {
        enum inquiry_figure figure;
        const char *key;
    } plain[] = {
        {INQUIRY_UPTIME_S, "uptime_s"},          {INQUIRY_PROCESSOR_PERMILLE, "processor_permille"},
        {INQUIRY_MEMORY_BYTES, "memory_bytes"},  {INQUIRY_MEMORY_LIMIT_BYTES, "memory_limit_bytes"},
        {INQUIRY_DISK_FREE_BYTES, "free_bytes"}, {INQUIRY_DISK_CAPACITY_BYTES, "capacity_bytes"},
        {INQUIRY_STORE_BYTES, "store_bytes"},    {INQUIRY_LOG_BYTES, "log_bytes"},
        {INQUIRY_CONNECTIONS, "connections"},
    };
    const struct node_answer *answer = answer_of(overview, node);
    struct inquiry_message message;
    if (answer == NULL || answer->kind != NODE_ANSWER_CAME ||
        inquiry_message_decode(buffer_bytes(&answer->message), &message) != 0) {
        bool is_late = answer != NULL && answer->kind == NODE_ANSWER_LATE;
        json_set_text(object, "no_figures",
                      is_late ? "it did not answer within a second" : "it is not connected");
        return;
    }
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        set_figure(object, plain[i].key, message.figures[plain[i].figure]);
    }
    uint64_t free_bytes = message.figures[INQUIRY_DISK_FREE_BYTES];
    uint64_t capacity_bytes = message.figures[INQUIRY_DISK_CAPACITY_BYTES];
    if (capacity_bytes != INQUIRY_UNKNOWN && free_bytes <= capacity_bytes) {
        json_set_unsigned(object, "used_bytes", capacity_bytes - free_bytes);
    }
    struct histogram latencies[INQUIRY_LATENCY_COUNT] = {0};
    add_latencies(&message, latencies);
    set_load(object, message.figures, latencies);
}

/* How far the node's replicas are behind, as their leaders tell. */
static void set_lag(const struct overview *overview, struct json *object, uint32_t node)
{
    uint64_t worst = INQUIRY_UNKNOWN;
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        const struct inquiry_replica *replica = &overview->shards[i].replica;
        for (uint32_t j = 0; j < replica->member_count; j++) {
            uint64_t lag_ms = replica->members[j].lag_ms;
            bool is_worse = replica->members[j].node == node && lag_ms != INQUIRY_UNKNOWN &&
                            (worst == INQUIRY_UNKNOWN || lag_ms > worst);
            worst = is_worse ? lag_ms : worst;
        }
    }
    set_figure(object, "lag_ms", worst);
}

/* ---- status ---------------------------------------------------------------------------------- */

static struct json *make_load(const struct overview *overview)
{
    struct json *load = json_object_create();
    struct histogram latencies[INQUIRY_LATENCY_COUNT] = {0};
    uint64_t figures[INQUIRY_FIGURE_COUNT] = {0};
    for (uint32_t i = 0; i < overview->survey->answer_count; i++) {
        const struct node_answer *answer = &overview->survey->answers[i];
        struct inquiry_message message;
        if (answer->kind == NODE_ANSWER_CAME &&
            inquiry_message_decode(buffer_bytes(&answer->message), &message) == 0) {
            uint64_t reads = message.figures[INQUIRY_READS_PER_1000_S];
            uint64_t writes = message.figures[INQUIRY_WRITES_PER_1000_S];
            figures[INQUIRY_READS_PER_1000_S] += reads != INQUIRY_UNKNOWN ? reads : 0;
            figures[INQUIRY_WRITES_PER_1000_S] += writes != INQUIRY_UNKNOWN ? writes : 0;
            add_latencies(&message, latencies);
        }
    }
    set_load(load, figures, latencies);
    return load;
}

static struct json *make_moves(const struct overview *overview)
{
    struct json *moves = json_array_create();
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        const struct overview_shard *shard = &overview->shards[i];
        for (uint32_t j = 0; j < shard->replica.member_count; j++) {
            if (!shard->replica.members[j].is_voter) {
                struct json *move = json_object_create();
                json_set_unsigned(move, "shard", shard->replica.shard);
                json_set_text(move, "kind", "add");
                json_set_unsigned(move, "source", shard->leader);
                json_set_unsigned(move, "target", shard->replica.members[j].node);
                json_append(moves, move);
            }
        }
    }
    node_plans_moves(overview, moves);
    return moves;
}

static void set_silent(const struct overview *overview, struct json *answer)
{
    struct json *silent = json_array_create();
    for (uint32_t i = 0; i < overview->survey->answer_count; i++) {
        if (overview->survey->answers[i].kind != NODE_ANSWER_CAME) {
            json_append_unsigned(silent, overview->survey->answers[i].node);
        }
    }
    json_set(answer, "without_figures", silent);
}

void node_overview_status(const struct overview *overview, struct json *answer)
{
    const struct node_cluster *cluster = overview->cluster;
    const struct system_settings *settings = system_settings(cluster->shards->system);
    uint32_t counts[SYSTEM_NODE_REMOVED + 1] = {0};
    struct summary summary = sum_up(overview);
    counts[SYSTEM_NODE_ACTIVE]++;
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        counts[cluster->peers[i].state]++;
    }
    json_set_text(answer, "cluster", node_data_cluster_id(cluster->data));
    json_set_unsigned(answer, "node", cluster->self);
    json_set_unsigned(answer, "feature", settings->feature);
    json_set_unsigned(answer, "replicas", settings->replicas);
    struct json *nodes = json_object_create();
    json_set_unsigned(nodes, "active", counts[SYSTEM_NODE_ACTIVE]);
    json_set_unsigned(nodes, "draining", counts[SYSTEM_NODE_DRAINING]);
    json_set_unsigned(nodes, "drained", counts[SYSTEM_NODE_DRAINED]);
    json_set_unsigned(nodes, "dead", overview->peer_count + 1 - overview->alive_count);
    json_set(answer, "nodes", nodes);
    struct json *shards = json_object_create();
    json_set_unsigned(shards, "count", overview->shard_count);
    json_set_unsigned(shards, "healthy", summary.counts[SHARD_HEALTHY]);
    json_set_unsigned(shards, "under_replicated", summary.counts[SHARD_UNDER_REPLICATED]);
    json_set_unsigned(shards, "unavailable", summary.counts[SHARD_UNAVAILABLE]);
    json_set(answer, "shards", shards);
    json_set(answer, "load", make_load(overview));
    set_silent(overview, answer);
    json_set(answer, "moves", make_moves(overview));
}

/* ---- nodes ----------------------------------------------------------------------------------- */

/* What is written of a node: in the rows of the first shard, or, without a replica of that, in the
 * roster. */
struct known_node {
    enum system_node_state state;
    const char *peer;
    const char *redis;
    const char *admin;
    const char *zone;
    const char *software;
};

static void describe_health(const struct overview *overview, struct json *node, uint32_t id)
{
    struct member_view view = {0};
    bool is_self = id == overview->cluster->self;
    bool is_heard = member_state(overview->cluster->member, id, &view);
    json_set_text(node, "health",
                  is_self     ? "alive"
                  : !is_heard ? "unknown"
                              : member_state_text(view.state));
    if (is_heard && !is_self && view.state != MEMBER_STATE_ALIVE) {
        json_set_unsigned(node, "silent_ms", os_monotonic_ms() - view.since_ms);
    }
}

static void describe_node(const struct overview *overview, struct json *list, uint32_t id,
                          const struct known_node *known)
{
    struct json *node = json_object_create();
    uint32_t replica_count;
    uint32_t leader_count;
    node_overview_count(overview, id, &replica_count, &leader_count);
    json_set_unsigned(node, "id", id);
    json_set_boolean(node, "self", id == overview->cluster->self);
    json_set_text(node, "state", system_node_state_name(known->state));
    describe_health(overview, node, id);
    json_set_text(node, "peer", known->peer);
    json_set_text(node, "redis", known->redis);
    json_set_text(node, "admin", known->admin);
    json_set_text(node, "zone", known->zone);
    json_set_text(node, "software", known->software);
    json_set_unsigned(node, "shards", replica_count);
    json_set_unsigned(node, "leaders", leader_count);
    if (known->state != SYSTEM_NODE_REMOVED) {
        set_figures(overview, node, id);
        set_lag(overview, node, id);
    }
    json_append(list, node);
}

static void list_from_rows(const struct overview *overview, bool has_removed, struct json *list)
{
    const struct system *system = overview->cluster->shards->system;
    for (uint32_t i = 0; i < system_node_count(system); i++) {
        const struct system_node *node = system_node_at(system, i);
        struct known_node known = {
            .state = node->state,
            .peer = node->peer,
            .redis = node->redis,
            .admin = node->admin,
            .zone = node->zone,
            .software = node->software,
        };
        if (has_removed || node->state != SYSTEM_NODE_REMOVED) {
            describe_node(overview, list, node->id, &known);
        }
    }
}

static void list_from_roster(const struct overview *overview, struct json *list)
{
    const struct node_cluster *cluster = overview->cluster;
    const char *zone = cluster->options->zone;
    struct known_node self = {
        .state = SYSTEM_NODE_ACTIVE,
        .peer = cluster->peer_text,
        .redis = cluster->redis_text,
        .admin = cluster->admin_text,
        .zone = zone != NULL ? zone : "",
        .software = TUTTI_VERSION,
    };
    bool is_self_listed = false;
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        const struct node_peer *peer = &cluster->peers[i];
        char address[OS_ADDRESS_TEXT_SIZE];
        struct known_node known = {
            .state = peer->state,
            .peer = os_address_format(&peer->address, address),
            .redis = peer->redis,
            .admin = peer->admin,
            .zone = peer->zone,
            .software = "",
        };
        if (!is_self_listed && peer->id > cluster->self) {
            describe_node(overview, list, cluster->self, &self);
            is_self_listed = true;
        }
        describe_node(overview, list, peer->id, &known);
    }
    if (!is_self_listed) {
        describe_node(overview, list, cluster->self, &self);
    }
}

void node_overview_nodes(const struct overview *overview, bool has_removed, struct json *answer)
{
    struct json *list = json_array_create();
    if (node_overview_has_rows(overview)) {
        list_from_rows(overview, has_removed, list);
    } else {
        list_from_roster(overview, list);
    }
    json_set(answer, "nodes", list);
}

/* ---- shards ---------------------------------------------------------------------------------- */

static const char *member_state_name(const struct overview *overview,
                                     const struct inquiry_member *member)
{
    bool is_alive = state_of(overview, member->node) == MEMBER_STATE_ALIVE;
    bool is_behind = member->lag_entries != INQUIRY_UNKNOWN && member->lag_entries > BEHIND_COUNT;
    switch (member->state) {
    case INQUIRY_MEMBER_SNAPSHOT:
        return "snapshot";
    case INQUIRY_MEMBER_DAMAGED:
        return is_alive ? "damaged" : "unreachable";
    case INQUIRY_MEMBER_OK:
        break;
    }
    return !is_alive ? "unreachable" : is_behind ? "behind" : "ok";
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

static void describe_shard(const struct overview *overview, const struct overview_shard *known,
                           struct json *list)
{
    const struct inquiry_replica *leading = &known->replica;
    struct json *shard = json_object_create();
    struct json *replicas = json_array_create();
    bool is_moving = leading->is_changing;
    for (uint32_t i = 0; i < leading->member_count; i++) {
        const struct inquiry_member *member = &leading->members[i];
        struct json *replica = json_object_create();
        json_set_unsigned(replica, "node", member->node);
        json_set_text(replica, "role", member->is_voter ? "voter" : "learner");
        set_figure(replica, "lag_entries", member->lag_entries);
        set_figure(replica, "lag_ms", member->lag_ms);
        json_set_text(replica, "state", member_state_name(overview, member));
        json_append(replicas, replica);
        is_moving |= !member->is_voter;
    }
    json_set_unsigned(shard, "id", leading->shard);
    describe_range(shard, &known->range);
    json_set_unsigned(shard, "leader", known->leader);
    json_set_text(shard, "health", health_name(judge_shard(overview, known)));
    json_set_boolean(shard, "is_moving", is_moving);
    set_figure(shard, "size_bytes", leading->figures[INQUIRY_SIZE_BYTES]);
    set_figure(shard, "keys", leading->figures[INQUIRY_KEYS]);
    set_figure(shard, "entries", leading->figures[INQUIRY_APPLIED_INDEX]);
    set_rate(shard, "reads_per_s", leading->figures[INQUIRY_REPLICA_READS_PER_1000_S]);
    set_rate(shard, "writes_per_s", leading->figures[INQUIRY_REPLICA_WRITES_PER_1000_S]);
    if (!known->is_told) {
        json_set_text(shard, "no_figures",
                      known->leader == 0 ? "no leader is known"
                                         : "its leader did not answer within a second");
    }
    json_set(shard, "replicas", replicas);
    json_append(list, shard);
}

void node_overview_shards(const struct overview *overview, double shard, double node,
                          struct json *answer)
{
    struct json *list = json_array_create();
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        const struct overview_shard *known = &overview->shards[i];
        bool is_there =
            node == 0 || (node <= UINT32_MAX && node_overview_has_replica(known, (uint32_t)node));
        if ((shard == 0 || shard == known->replica.shard) && is_there) {
            describe_shard(overview, known, list);
        }
    }
    json_set(answer, "shards", list);
}

/* ---- why ------------------------------------------------------------------------------------- */

static void add_reasons(const struct overview *overview, const struct overview_shard *shard,
                        struct json *reasons)
{
    struct tally tally = count_voters(overview, shard);
    char text[TEXT_SIZE];
    for (uint32_t i = 0; i < shard->replica.member_count; i++) {
        const struct inquiry_member *member = &shard->replica.members[i];
        enum member_state state = state_of(overview, member->node);
        if (member->is_voter && state != MEMBER_STATE_ALIVE) {
            (void)snprintf(text, sizeof text, "node %" PRIu32 ", which has a replica, is %s",
                           member->node, member_state_text(state));
            json_append_text(reasons, text);
        }
    }
    if (tally.impaired_count > 0) {
        (void)snprintf(text, sizeof text,
                       "%" PRIu32
                       " of its replicas lost part of their log to damage on a disk; they "
                       "do not vote until they have got it from the others",
                       tally.impaired_count);
        json_append_text(reasons, text);
    }
    if (tally.voter_count < overview->voters_wanted) {
        (void)snprintf(text, sizeof text, "%" PRIu32 " replicas are wanted, and there are %" PRIu32,
                       overview->voters_wanted, tally.voter_count);
        json_append_text(reasons, text);
    }
    if (shard->leader == 0) {
        json_append_text(reasons, "no leader is known to this node");
    }
}

void node_overview_why(const struct overview *overview, double shard, struct json *answer)
{
    struct json *list = json_array_create();
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        const struct overview_shard *known = &overview->shards[i];
        enum shard_health health = judge_shard(overview, known);
        if (health == SHARD_HEALTHY || (shard != 0 && shard != known->replica.shard)) {
            continue;
        }
        struct json *explained = json_object_create();
        struct json *reasons = json_array_create();
        add_reasons(overview, known, reasons);
        json_set_unsigned(explained, "id", known->replica.shard);
        json_set_text(explained, "health", health_name(health));
        json_set(explained, "reasons", reasons);
        json_set_text(explained, "next",
                      health == SHARD_UNAVAILABLE
                          ? "when a majority of its replicas is reached again, it serves by itself"
                          : "a replica is added as soon as a node can take it; a node that is down "
                            "is replaced after five minutes, or after `tutti remove`");
        json_append(list, explained);
    }
    json_set(answer, "shards", list);
    node_plans_why(overview, shard, answer);
}
