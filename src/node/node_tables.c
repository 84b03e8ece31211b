/* SPDX-License-Identifier: Apache-2.0 */
/* From what is known to verdicts, and to what tables show. */
#include <inttypes.h>
#include <stdio.h>

#include "node/node_overview.h"

enum { BEHIND_COUNT = 1000, TEXT_SIZE = 256 };

enum shard_health { SHARD_HEALTHY, SHARD_UNDER_REPLICATED, SHARD_READ_ONLY, SHARD_UNAVAILABLE };

static const char *health_name(enum shard_health health)
{
    static const char *const names[] = {"healthy", "under_replicated", "read_only", "unavailable"};
    return names[health];
}

static bool is_removed(const struct overview *overview, uint32_t id)
{
    const struct system_node *node = node_overview_written(overview, id);
    return node != NULL && node->state == SYSTEM_NODE_REMOVED;
}

/* A node that was removed may still be a member where nobody can take its place. */
static enum member_state state_of(const struct overview *overview, uint32_t id)
{
    if (is_removed(overview, id)) {
        return MEMBER_STATE_LEFT;
    }
    const struct overview_node *node = node_overview_node(overview, id);
    return node != NULL ? node->state : MEMBER_STATE_SUSPECT;
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
    if (node_overview_is_full(overview, shard->leader)) {
        return SHARD_READ_ONLY;
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
    uint32_t full_count; /* Nodes whose disks are full; */
    uint32_t full_node;  /* one of them. */
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
    for (uint32_t i = 0; i < overview->survey->answer_count; i++) {
        uint32_t node = overview->survey->answers[i].node;
        if (node_overview_is_full(overview, node)) {
            summary.full_count++;
            summary.full_node = node;
        }
    }
    return summary;
}

static void write_full(const struct overview *overview, const struct summary *summary,
                       char verdict[TEXT_SIZE])
{
    char whose[TEXT_SIZE / 4];
    if (summary->full_count == 1) {
        (void)snprintf(whose, sizeof whose, "the disk of node %" PRIu32 " is full",
                       summary->full_node);
    } else {
        (void)snprintf(whose, sizeof whose, "the disks of %" PRIu32 " nodes are full",
                       summary->full_count);
    }
    if (summary->counts[SHARD_READ_ONLY] == 0) {
        (void)snprintf(verdict, TEXT_SIZE, "serving, but %s", whose);
    } else {
        (void)snprintf(verdict, TEXT_SIZE,
                       "disk full: %" PRIu32 " of %" PRIu32
                       " shards refuse writes that need space, because %s",
                       summary->counts[SHARD_READ_ONLY], overview->shard_count, whose);
    }
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
    } else if (summary->counts[SHARD_READ_ONLY] > 0) {
        write_full(overview, summary, verdict);
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
    } else if (summary->full_count > 0) {
        write_full(overview, summary, verdict);
    } else {
        (void)snprintf(verdict, TEXT_SIZE, "healthy: %" PRIu32 " node%s, every replica in place",
                       node_count, node_count == 1 ? "" : "s");
    }
}

void node_overview_judge(const struct overview *overview, struct json *answer)
{
    struct summary summary = sum_up(overview);
    bool is_well =
        summary.counts[SHARD_HEALTHY] == overview->shard_count && summary.full_count == 0;
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

/* The place of what the node said; that of nobody: it was not asked. */
static uint32_t answer_of(const struct overview *overview, uint32_t node)
{
    const struct node_survey *survey = overview->survey;
    uint32_t place = 0;
    while (place < survey->answer_count && survey->answers[place].node != node) {
        place++;
    }
    return place;
}

bool node_overview_is_full(const struct overview *overview, uint32_t node)
{
    const struct overview_node *known = node_overview_node(overview, node);
    return known != NULL && known->is_full && known->state != MEMBER_STATE_DEAD;
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
    const struct node_survey *survey = overview->survey;
    uint32_t place = answer_of(overview, node);
    enum node_answer_kind kind =
        place < survey->answer_count ? survey->answers[place].kind : NODE_ANSWER_UNREACHABLE;
    if (kind != NODE_ANSWER_CAME) {
        json_set_text(object, "no_figures",
                      kind == NODE_ANSWER_LATE ? "it did not answer within a second"
                                               : "it is not connected");
        return;
    }
    const struct inquiry_message *message = &overview->messages[place];
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        set_figure(object, plain[i].key, message->figures[plain[i].figure]);
    }
    uint64_t free_bytes = message->figures[INQUIRY_DISK_FREE_BYTES];
    uint64_t capacity_bytes = message->figures[INQUIRY_DISK_CAPACITY_BYTES];
    if (capacity_bytes != INQUIRY_UNKNOWN && free_bytes <= capacity_bytes) {
        json_set_unsigned(object, "used_bytes", capacity_bytes - free_bytes);
    }
    struct histogram latencies[INQUIRY_LATENCY_COUNT] = {0};
    add_latencies(message, latencies);
    set_load(object, message->figures, latencies);
}

/* ---- status ---------------------------------------------------------------------------------- */

static struct json *make_load(const struct overview *overview)
{
    struct json *load = json_object_create();
    struct histogram latencies[INQUIRY_LATENCY_COUNT] = {0};
    uint64_t figures[INQUIRY_FIGURE_COUNT] = {0};
    for (uint32_t i = 0; i < overview->survey->answer_count; i++) {
        const struct inquiry_message *message = &overview->messages[i];
        if (overview->survey->answers[i].kind == NODE_ANSWER_CAME) {
            uint64_t reads = message->figures[INQUIRY_READS_PER_1000_S];
            uint64_t writes = message->figures[INQUIRY_WRITES_PER_1000_S];
            figures[INQUIRY_READS_PER_1000_S] += reads != INQUIRY_UNKNOWN ? reads : 0;
            figures[INQUIRY_WRITES_PER_1000_S] += writes != INQUIRY_UNKNOWN ? writes : 0;
            add_latencies(message, latencies);
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
    const uint32_t *counts = overview->state_counts;
    struct summary summary = sum_up(overview);
    json_set_text(answer, "cluster", overview->cluster);
    json_set_unsigned(answer, "node", overview->self);
    json_set_unsigned(answer, "feature", overview->settings.feature);
    json_set_unsigned(answer, "replicas", overview->settings.replicas);
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
    json_set_unsigned(shards, "read_only", summary.counts[SHARD_READ_ONLY]);
    json_set_unsigned(shards, "unavailable", summary.counts[SHARD_UNAVAILABLE]);
    json_set(answer, "shards", shards);
    json_set(answer, "load", make_load(overview));
    set_silent(overview, answer);
    json_set(answer, "moves", make_moves(overview));
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void describe_health(const struct overview *overview, struct json *described, uint32_t id)
{
    const struct overview_node *node = node_overview_node(overview, id);
    bool is_self = id == overview->self;
    bool is_heard_of = node != NULL && node->is_heard_of;
    json_set_text(described, "health",
                  is_self        ? "alive"
                  : !is_heard_of ? "unknown"
                                 : member_state_text(node->state));
    if (is_heard_of && !is_self && node->state != MEMBER_STATE_ALIVE) {
        json_set_unsigned(described, "silent_ms", node->silent_ms);
    }
}

static struct json *describe_node(const struct overview *overview, const struct system_node *node)
{
    struct json *described = json_object_create();
    const struct overview_node *known = node_overview_node(overview, node->id);
    json_set_unsigned(described, "id", node->id);
    json_set_boolean(described, "self", node->id == overview->self);
    json_set_text(described, "state", system_node_state_name(node->state));
    describe_health(overview, described, node->id);
    json_set_text(described, "peer", node->peer);
    json_set_text(described, "redis", node->redis);
    json_set_text(described, "admin", node->admin);
    json_set_text(described, "zone", node->zone);
    json_set_text(described, "software", node->software);
    json_set_unsigned(described, "shards", known != NULL ? known->replica_count : 0);
    json_set_unsigned(described, "leaders", known != NULL ? known->leader_count : 0);
    if (node->state != SYSTEM_NODE_REMOVED) {
        set_figures(overview, described, node->id);
        set_figure(described, "lag_ms", known != NULL ? known->lag_ms : INQUIRY_UNKNOWN);
    }
    return described;
}

void node_overview_nodes(const struct overview *overview, bool has_removed, struct json *answer)
{
    struct json *list = json_array_create();
    for (uint32_t i = 0; i < overview->written_count; i++) {
        const struct system_node *node = &overview->written[i];
        if (has_removed || node->state != SYSTEM_NODE_REMOVED) {
            json_append(list, describe_node(overview, node));
        }
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

static struct json *describe_shard(const struct overview *overview,
                                   const struct overview_shard *known)
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
    return shard;
}

static void write_item(struct json *item, struct buffer *items)
{
    json_write_item(item, items);
    json_destroy(item);
}

void node_overview_shards(const struct overview *overview, double shard, double node,
                          struct json *answer, struct buffer *items)
{
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        const struct overview_shard *known = &overview->shards[i];
        bool is_there =
            node == 0 || (node <= UINT32_MAX && node_overview_has_replica(known, (uint32_t)node));
        if ((shard == 0 || shard == known->replica.shard) && is_there) {
            write_item(describe_shard(overview, known), items);
        }
    }
    node_plans_list(overview, answer);
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
            (void)snprintf(text, sizeof text, "node %" PRIu32 ", which has a replica, %s%s",
                           member->node, is_removed(overview, member->node) ? "was " : "is ",
                           is_removed(overview, member->node) ? "removed"
                                                              : member_state_text(state));
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
    } else if (node_overview_is_full(overview, shard->leader)) {
        (void)snprintf(text, sizeof text,
                       "the disk of node %" PRIu32
                       ", which leads it, is full: writes that need space are refused",
                       shard->leader);
        json_append_text(reasons, text);
    }
}

/* What comes by itself, and what somebody has to do. */
static const char *what_comes_next(enum shard_health health)
{
    switch (health) {
    case SHARD_UNAVAILABLE:
        return "when a majority of its replicas is reached again, it serves by itself; only if "
               "they are lost for good: `tutti recover` on a node that is left";
    case SHARD_READ_ONLY:
        return "writes are taken again when space is freed, on the disk or by deleting keys; "
               "`tutti transfer` lets a node with room lead";
    case SHARD_UNDER_REPLICATED:
    case SHARD_HEALTHY:
        break;
    }
    return "a replica is added as soon as a node can take it; a node that is down is replaced "
           "after five minutes, or after `tutti remove`";
}

static struct json *explain_shard(const struct overview *overview,
                                  const struct overview_shard *known, enum shard_health health)
{
    struct json *explained = json_object_create();
    struct json *reasons = json_array_create();
    add_reasons(overview, known, reasons);
    json_set_unsigned(explained, "id", known->replica.shard);
    json_set_text(explained, "health", health_name(health));
    json_set(explained, "reasons", reasons);
    json_set_text(explained, "next", what_comes_next(health));
    return explained;
}

void node_overview_why(const struct overview *overview, double shard, struct json *answer,
                       struct buffer *items)
{
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        const struct overview_shard *known = &overview->shards[i];
        enum shard_health health = judge_shard(overview, known);
        if (health != SHARD_HEALTHY && (shard == 0 || shard == known->replica.shard)) {
            write_item(explain_shard(overview, known, health), items);
        }
    }
    node_plans_why(overview, shard, answer);
    node_balance_why(overview, shard, answer);
}
