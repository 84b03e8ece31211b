/* SPDX-License-Identifier: Apache-2.0 */
/* From answers to what is known. */
#include "node/node_overview.h"

#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

/* ---- Nodes ----------------------------------------------------------------------------------- */

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

/* Twice what a cluster may have: those that have left are remembered for a while. */
enum { NODE_COUNT_MAX = 2 * NODE_PEER_COUNT_MAX };

/* Of one that is not known yet, nothing was heard. NULL: there are too many, as others may name any. */
static struct overview_node *note_node(struct overview *overview, uint32_t id)
{
    uint32_t place = place_of(overview, id);
    if (knows(overview, place, id)) {
        return &overview->nodes[place];
    }
    if (overview->node_count >= NODE_COUNT_MAX) {
        return NULL;
    }
    if (overview->node_count == overview->node_capacity) {
        overview->node_capacity = overview->node_capacity == 0 ? 8 : 2 * overview->node_capacity;
        overview->nodes =
            memory_resize(overview->nodes, overview->node_capacity * sizeof overview->nodes[0]);
    }
    memmove(&overview->nodes[place + 1], &overview->nodes[place],
            (overview->node_count - place) * sizeof overview->nodes[0]);
    overview->nodes[place] =
        (struct overview_node){.id = id, .state = MEMBER_STATE_SUSPECT, .lag_ms = INQUIRY_UNKNOWN};
    overview->node_count++;
    return &overview->nodes[place];
}

const struct overview_node *node_overview_node(const struct overview *overview, uint32_t id)
{
    uint32_t place = place_of(overview, id);
    return knows(overview, place, id) ? &overview->nodes[place] : NULL;
}

const struct system_node *node_overview_written(const struct overview *overview, uint32_t id)
{
    uint32_t low = 0;
    uint32_t high = overview->written_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (overview->written[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < overview->written_count && overview->written[low].id == id
               ? &overview->written[low]
               : NULL;
}

/* ---- Copies ---------------------------------------------------------------------------------- */

static void take_gossip(struct overview *overview, const struct node_cluster *cluster)
{
    uint64_t now_ms = os_monotonic_ms();
    for (uint32_t i = 0; i < member_count(cluster->member); i++) {
        struct member_view view;
        member_list(cluster->member, i, &view);
        struct overview_node *node = note_node(overview, view.node);
        if (node == NULL) {
            break;
        }
        node->state = view.node == cluster->self ? MEMBER_STATE_ALIVE : view.state;
        node->is_heard_of = true;
        node->is_full =
            view.node == cluster->self ? cluster->pace.is_full : node_pace_is_full(&view);
        node->silent_ms = now_ms > view.since_ms ? now_ms - view.since_ms : 0;
    }
    overview->peer_count = cluster->peer_count;
    overview->alive_count = 1;
    overview->state_counts[cluster->self_state]++;
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        const struct overview_node *peer = node_overview_node(overview, cluster->peers[i].id);
        overview->alive_count += peer != NULL && peer->state == MEMBER_STATE_ALIVE;
        overview->state_counts[cluster->peers[i].state]++;
    }
}

static void take_settings(struct overview *overview, const struct node_cluster *cluster)
{
    overview->self = cluster->self;
    overview->settings = *system_settings(cluster->shards->system);
    (void)snprintf(overview->cluster, sizeof overview->cluster, "%s",
                   node_data_cluster_id(cluster->data));
    uint32_t node_count = cluster->peer_count + 1;
    uint32_t wanted =
        overview->settings.replicas < node_count ? overview->settings.replicas : node_count;
    overview->voters_wanted = wanted == 0 ? 1 : wanted - (wanted % 2 == 0); /* An odd number. */
}

/* Has this node the rows of the cluster, that is a replica of the first shard? */
static bool has_rows(const struct node_cluster *cluster)
{
    return node_cluster_has_rows(cluster) && system_node_count(cluster->shards->system) > 0;
}

static void take_rows(struct overview *overview, const struct system *system)
{
    overview->written_count = system_node_count(system);
    overview->written = memory_allocate(overview->written_count * sizeof overview->written[0]);
    for (uint32_t i = 0; i < overview->written_count; i++) {
        overview->written[i] = *system_node_at(system, i);
    }
}

static void copy_text(char *target, size_t size, const char *source)
{
    (void)snprintf(target, size, "%s", source);
}
#define COPY_TEXT(target, source) copy_text(target, sizeof(target), source)

static void write_self(struct overview *overview, const struct node_cluster *cluster)
{
    struct system_node *node = &overview->written[overview->written_count++];
    node->id = cluster->self;
    node->state = cluster->self_state;
    COPY_TEXT(node->peer, cluster->peer_text);
    COPY_TEXT(node->redis, cluster->redis_text);
    COPY_TEXT(node->admin, cluster->admin_text);
    COPY_TEXT(node->zone, cluster->options->zone != NULL ? cluster->options->zone : "");
    COPY_TEXT(node->software, TUTTI_VERSION);
}

static void write_peer(struct overview *overview, const struct node_peer *peer)
{
    struct system_node *node = &overview->written[overview->written_count++];
    node->id = peer->id;
    node->state = peer->state;
    COPY_TEXT(node->peer, peer->address);
    COPY_TEXT(node->redis, peer->redis);
    COPY_TEXT(node->admin, peer->admin);
    COPY_TEXT(node->zone, peer->zone);
}

static void take_roster(struct overview *overview, const struct node_cluster *cluster)
{
    uint32_t before = 0; /* Peers with smaller numbers. */
    overview->written =
        memory_allocate_zeroed(cluster->peer_count + 1, sizeof overview->written[0]);
    while (before < cluster->peer_count && cluster->peers[before].id < cluster->self) {
        write_peer(overview, &cluster->peers[before++]);
    }
    write_self(overview, cluster);
    for (uint32_t i = before; i < cluster->peer_count; i++) {
        write_peer(overview, &cluster->peers[i]);
    }
}

struct overview *node_overview_begin(const struct node_cluster *cluster, struct node_survey *survey)
{
    struct overview *overview = memory_allocate_zeroed(1, sizeof *overview);
    overview->survey = survey;
    take_settings(overview, cluster);
    take_gossip(overview, cluster);
    slots_copy(&overview->map, node_shards_map(cluster->shards));
    if (has_rows(cluster)) {
        take_rows(overview, cluster->shards->system);
        node_plans_take(overview, cluster->shards->system);
    } else {
        take_roster(overview, cluster);
    }
    return overview;
}

void node_overview_destroy(struct overview *overview)
{
    node_survey_destroy(overview->survey);
    slots_deinit(&overview->map);
    memory_free(overview->written);
    memory_free(overview->plans);
    memory_free(overview->nodes);
    memory_free(overview->messages);
    memory_free(overview->shards);
    memory_free(overview);
}

/* ---- Shards ---------------------------------------------------------------------------------- */

/* NULL: the map does not have it. */
static struct overview_shard *find(const struct overview *overview, wal_shard id)
{
    uint32_t place = slots_find(&overview->map, id);
    return place < overview->shard_count ? &overview->shards[place] : NULL;
}

static void begin_shards(struct overview *overview)
{
    overview->shard_count = overview->map.range_count;
    overview->shards = memory_allocate_zeroed(overview->shard_count, sizeof overview->shards[0]);
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        struct overview_shard *shard = &overview->shards[i];
        shard->range = overview->map.ranges[i];
        shard->replica.shard = shard->range.shard;
        for (uint32_t j = 0; j < INQUIRY_REPLICA_FIGURE_COUNT; j++) {
            shard->replica.figures[j] = INQUIRY_UNKNOWN;
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
static void take_group(struct overview *overview, const struct node_group *group)
{
    struct overview_shard *shard = find(overview, group->shard);
    if (shard == NULL) {
        return;
    }
    struct inquiry_replica *replica = &shard->replica;
    shard->leader = group->leader;
    replica->is_changing = group->members.outgoing_count > 0;
    for (uint32_t i = 0; i < group->members.voter_count; i++) {
        add_member(replica, group->members.voters[i], true);
    }
    for (uint32_t i = 0; i < group->members.learner_count; i++) {
        add_member(replica, group->members.learners[i], false);
    }
    for (uint32_t i = 0; i < replica->member_count && group->is_impaired; i++) {
        if (replica->members[i].node == overview->self) {
            replica->members[i].state = INQUIRY_MEMBER_DAMAGED;
        }
    }
}

static void take_answer(struct overview *overview, raft_node from, struct inquiry_message message)
{
    for (uint32_t i = 0; i < message.replica_count; i++) {
        struct inquiry_replica replica;
        inquiry_message_next(&message, &replica);
        struct overview_shard *shard = find(overview, replica.shard);
        if (!replica.is_leader || shard == NULL) {
            continue;
        }
        if (!shard->is_told || replica.term > shard->replica.term) {
            shard->is_told = true;
            shard->leader = from;
            shard->replica = replica;
        }
    }
}

static void take_answers(struct overview *overview)
{
    const struct node_survey *survey = overview->survey;
    overview->messages = memory_allocate_zeroed(survey->answer_count, sizeof overview->messages[0]);
    for (uint32_t i = 0; i < survey->answer_count; i++) {
        const struct node_answer *answer = &survey->answers[i];
        if (answer->kind == NODE_ANSWER_CAME) {
            int status =
                inquiry_message_decode(buffer_bytes(&answer->message), &overview->messages[i]);
            ASSERT(status == 0); /* It was accepted when it came. */
            take_answer(overview, answer->node, overview->messages[i]);
        }
    }
}

static void sum_up_members(struct overview *overview, const struct overview_shard *shard)
{
    for (uint32_t i = 0; i < shard->replica.member_count; i++) {
        uint64_t lag_ms = shard->replica.members[i].lag_ms;
        struct overview_node *node = note_node(overview, shard->replica.members[i].node);
        if (node == NULL) {
            continue;
        }
        node->replica_count++;
        if (lag_ms != INQUIRY_UNKNOWN &&
            (node->lag_ms == INQUIRY_UNKNOWN || lag_ms > node->lag_ms)) {
            node->lag_ms = lag_ms;
        }
    }
    struct overview_node *leader = shard->leader != 0 ? note_node(overview, shard->leader) : NULL;
    if (leader != NULL) {
        leader->leader_count++;
    }
}

void node_overview_settle(struct overview *overview)
{
    const struct node_survey *survey = overview->survey;
    begin_shards(overview);
    for (uint32_t i = 0; i < survey->group_count; i++) {
        take_group(overview, &survey->groups[i]);
    }
    take_answers(overview);
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        sum_up_members(overview, &overview->shards[i]);
    }
}

wal_shard node_overview_untold(const struct overview *overview)
{
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        if (!overview->shards[i].is_told) {
            return overview->shards[i].range.shard;
        }
    }
    return 0;
}

static bool is_running(const struct overview *overview, uint32_t id)
{
    const struct overview_node *node = node_overview_node(overview, id);
    return node != NULL && node->is_heard_of && node->state != MEMBER_STATE_DEAD &&
           node->state != MEMBER_STATE_LEFT;
}

static bool needs(const struct overview *overview, const struct inquiry_replica *replica,
                  uint32_t node)
{
    uint32_t voter_count = 0;
    uint32_t other_count = 0; /* Of voters that count. */
    bool is_voter = false;
    for (uint32_t i = 0; i < replica->member_count; i++) {
        const struct inquiry_member *member = &replica->members[i];
        bool counts = member->is_voter && member->state != INQUIRY_MEMBER_DAMAGED &&
                      is_running(overview, member->node);
        voter_count += member->is_voter;
        is_voter |= member->is_voter && member->node == node;
        other_count += counts && member->node != node;
    }
    return is_voter && other_count < voter_count / 2 + 1;
}

wal_shard node_overview_needs(const struct overview *overview, uint32_t node)
{
    for (uint32_t i = 0; i < overview->shard_count && is_running(overview, node); i++) {
        const struct overview_shard *shard = &overview->shards[i];
        if (shard->is_told && needs(overview, &shard->replica, node)) {
            return shard->range.shard;
        }
    }
    return 0;
}

const struct overview_shard *node_overview_find(const struct overview *overview, double id)
{
    bool is_number = id >= 1 && id <= UINT32_MAX && id == (double)(wal_shard)id;
    return is_number ? find(overview, (wal_shard)id) : NULL;
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
