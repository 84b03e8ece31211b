/* SPDX-License-Identifier: Apache-2.0 */
/* Lives with conductors: in one of three each machine has a core/conductor, which decides what else the world
 * does by chance: who has replicas, who leads, and often which shards become two.
 *
 * Here is what is around them: the rows of the cluster, which whoever leads the first shard knows, and others of
 * before; operators, who drain machines and take them back, want other numbers of replicas, split shards, and hand
 * leadership over against the conductor's will; what machines hear of each other, late and now and then wrongly.
 * And what must come of it, once all is well: no more steps, all replicas where they should be, leaders spread. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_cluster_conductor.h"

enum {
    ERRAND_US = 20000,
    LATE_ERRAND_US = 1500000,
    LOOK_US = 20000,
    RUMOUR_MS = 1000, /* On the conductors' clocks. */
    WRONG_SHARE = 60,
    SLOW_TIMES = 10, /* A disk that is so much slower than usual is said to be slow. */
    REST_MS = 15000, /* No step for so long: none is under way, or waits for the last one. */
    LONG_REST_MS =
        90000, /* And when all is settled: longer than anything that conductors wait for. */
};

/* ---- The nature of these lives --------------------------------------------------------------- */

static void draw_splits(struct cluster_nature *nature, struct random *random)
{
    if (random_chance(random, 1, 2)) {
        nature->conducting.split_size_bytes = sim__cluster_between(random, 50, 3000);
    }
    if (random_chance(random, 1, 2)) {
        nature->conducting.slot_load = sim__cluster_between(random, 1, 1000);
        nature->conducting.hot_slot = (uint32_t)random_below(random, SLOTS_COUNT);
        nature->conducting.hot_load =
            random_chance(random, 1, 3) ? sim__cluster_between(random, 1, 9000000) : 0;
    }
    if (random_chance(random, 1, 3)) {
        nature->conducting.split_load_per_s = sim__cluster_between(random, 500, 12000);
    }
    bool does_split =
        nature->conducting.split_size_bytes > 0 || nature->conducting.split_load_per_s > 0;
    if (does_split && !nature->does_split) {
        nature->does_split = true;
        nature->map_us = sim__cluster_between(random, 100, 400000);
        nature->key_count = sim__cluster_between(random, 2, 8);
    }
}

void sim__cluster_office_draw(struct cluster *cluster)
{
    struct random random;
    random_init(&random, cluster->options.seed ^ 0x636f6e64756374);
    struct cluster_nature *nature = &cluster->nature;
    if (!random_chance(&random, 1, 3) || nature->node_count == 1) {
        return;
    }
    static const uint32_t replica_counts[] = {3, 3, 3, 1, 5};
    nature->configure_every_us = 0;
    nature->conducting.pace = sim__cluster_between(&random, 5, 20);
    nature->conducting.grace_ms = sim__cluster_between(&random, 1000, 60000);
    nature->conducting.wish_every_us =
        random_chance(&random, 2, 3) ? sim__cluster_between(&random, 100000, 2000000) : 0;
    draw_splits(nature, &random);
    nature->conducting.office_every_us =
        random_chance(&random, 1, 4) ? sim__cluster_between(&random, 20000, 500000) : 0;
    nature->conducting.does_begin_alone = !nature->does_start_whole && random_chance(&random, 1, 2);
    nature->conducting.replica_count = replica_counts[random_below(&random, 5)];
    sim__cluster_room_draw(cluster);
}

void sim__cluster_office_create(struct cluster *cluster)
{
    const struct cluster_conducting *conducting = &cluster->nature.conducting;
    if (conducting->pace == 0) {
        return;
    }
    cluster->office = memory_allocate_zeroed(1, sizeof *cluster->office);
    cluster->office->unrest = "nobody has looked yet";
    cluster->office->rows = (struct cluster_rows){
        .nodes = conducting->does_begin_alone ? 1 : (1u << cluster->nature.node_count) - 1,
        .replica_count = conducting->replica_count,
    };
}

/* ---- The rows of the cluster ----------------------------------------------------------------- */

/* The term of whoever leads the first shard; 0: nobody does. */
static raft_term newest_term(const struct cluster *cluster)
{
    raft_term term = 0;
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct shard *shard = sim__cluster_node_shard(cluster->nodes[i], 0);
        if (shard != NULL && shard_is_ready(shard)) {
            struct shard_statistics statistics;
            shard_get_statistics(shard, &statistics);
            term = statistics.term > term ? statistics.term : term;
        }
    }
    return term;
}

const struct cluster_rows *sim__cluster_rows_seen(struct cluster_node *node, raft_term term)
{
    struct cluster_office *office = node->cluster->office;
    raft_term newest = newest_term(node->cluster);
    office->term = newest > office->term ? newest : office->term;
    if (term != 0 && term >= office->term) {
        node->conductor->rows = office->rows;
    }
    return &node->conductor->rows;
}

/* It goes through the gateway to whoever leads the first shard. */
static void send_errand(struct cluster *cluster,
                        void (*run)(struct cluster *cluster, const struct cluster_event *event),
                        uint64_t value)
{
    bool is_lost = !cluster->is_healing && random_chance(&cluster->random, 1, 5);
    bool is_late = !cluster->is_healing && random_chance(&cluster->random, 1, 10);
    if (!is_lost) {
        sim__cluster_schedule(cluster,
                              sim__cluster_delay(cluster, is_late ? LATE_ERRAND_US : ERRAND_US),
                              run, NULL, value, NULL);
    }
}

static void node_is_drained(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_rows *rows = &cluster->office->rows;
    uint32_t bit = 1u << (event->value - 1);
    if (newest_term(cluster) != 0 && (rows->draining & bit) != 0) {
        rows->draining &= ~bit;
        rows->nodes &= ~bit;
        rows->drained |= bit;
        sim__cluster_note(cluster, "rows.drained", event->value, rows->nodes, rows->draining);
    }
}

void sim__cluster_say_drained(struct cluster *cluster, raft_node node)
{
    send_errand(cluster, node_is_drained, node);
}

static void split_is_done(struct cluster *cluster, const struct cluster_event *event)
{
    uint32_t place = (uint32_t)event->value - 1;
    if (newest_term(cluster) != 0 && cluster->children[place].is_wished) {
        cluster->office->step_at_us = cluster->now_us;
        cluster->office->rows.planned &= ~sim__cluster_map_bit(place);
        cluster->office->rows.done |= sim__cluster_map_bit(place);
        cluster->children[place].is_wished = false;
        sim__cluster_note(cluster, "rows.split_done", place + 1, 0, 0);
    }
}

void sim__cluster_say_split_done(struct cluster *cluster, wal_shard child)
{
    send_errand(cluster, split_is_done, child);
}

static void plan_split(struct cluster *cluster, const struct cluster_event *event)
{
    uint32_t place = cluster->shard_count;
    bool is_possible = newest_term(cluster) != 0 && !cluster->is_quiet; /* Asked for before that. */
    if (is_possible && sim__cluster_wish_for_split(cluster, (uint32_t)event->value)) {
        cluster->office->step_at_us = cluster->now_us;
        cluster->office->rest_since_us = 0;
        cluster->office->rows.planned |= sim__cluster_map_bit(place);
    }
}

void sim__cluster_ask_for_split(struct cluster *cluster, uint32_t slot)
{
    send_errand(cluster, plan_split, slot);
}

/* ---- Operators ------------------------------------------------------------------------------- */

static void drain(struct cluster_rows *rows, uint32_t bit)
{
    uint32_t active = rows->nodes & ~rows->draining;
    if ((active & bit) != 0 && active != bit) { /* One is left. */
        rows->draining |= bit;
    }
}

static void wish(struct cluster *cluster, const struct cluster_event *event)
{
    static const uint32_t replica_counts[] = {1, 3, 3, 3, 5};
    struct cluster_rows *rows = &cluster->office->rows;
    uint32_t bit = 1u << sim__cluster_any_node(cluster);
    if (cluster->is_healing) {
        return;
    }
    switch (random_below(&cluster->random, 4)) {
    case 0:
        rows->replica_count = replica_counts[random_below(&cluster->random, 5)];
        break;
    case 1:
        drain(rows, bit);
        break;
    default: /* It joins, comes back, or is not to be drained any more. */
        rows->nodes |= bit;
        rows->draining &= ~bit;
        rows->drained &= ~bit;
        break;
    }
    sim__cluster_note(cluster, "rows.wish", rows->nodes, rows->draining, rows->replica_count);
    sim__cluster_schedule(cluster,
                          sim__cluster_delay(cluster, cluster->nature.conducting.wish_every_us),
                          wish, NULL, 0, NULL);
}

/* However short an office is. */
static void change_office(struct cluster *cluster, const struct cluster_event *event)
{
    raft_node next = 1 + sim__cluster_any_node(cluster);
    for (uint32_t i = 0; i < cluster->nature.node_count && !cluster->is_healing; i++) {
        struct shard *shard = sim__cluster_node_shard(cluster->nodes[i], 0);
        if (shard != NULL && shard_is_ready(shard) && shard_transfer(shard, next) == 0) {
            sim__cluster_note(cluster, "office.changes", i + 1, next, 0);
            sim__cluster_node_look(cluster, cluster->nodes[i]);
        }
    }
    if (!cluster->is_healing) {
        sim__cluster_schedule(
            cluster, sim__cluster_delay(cluster, cluster->nature.conducting.office_every_us),
            change_office, NULL, 0, NULL);
    }
}

/* ---- What machines hear of each other -------------------------------------------------------- */

static enum placement_liveness hear(struct cluster *cluster, uint32_t node, uint32_t other,
                                    enum placement_liveness before)
{
    const struct cluster_node *heard_of = cluster->nodes[other];
    bool is_running = sim__cluster_node_is_running(heard_of);
    bool is_gone = !is_running || heard_of->paused_until_us > cluster->now_us ||
                   cluster->links[node][other].is_blocked || cluster->links[other][node].is_blocked;
    if (!is_gone) {
        bool is_wrong = !cluster->is_healing && random_chance(&cluster->random, 1, WRONG_SHARE);
        return is_wrong ? PLACEMENT_SUSPECT : PLACEMENT_ALIVE;
    }
    if (before == PLACEMENT_ALIVE) {
        bool has_said_so = !is_running && random_chance(&cluster->random, 1, 8);
        return has_said_so ? PLACEMENT_LEFT : PLACEMENT_SUSPECT;
    }
    return before == PLACEMENT_SUSPECT && random_chance(&cluster->random, 1, 2) ? PLACEMENT_DEAD
                                                                                : before;
}

static void gossip(struct cluster *cluster, const struct cluster_event *event)
{
    uint32_t count = cluster->nature.node_count;
    for (uint32_t i = 0; i < count * count; i++) {
        struct cluster_node *node = cluster->nodes[i / count];
        uint32_t other = i % count;
        if (!sim__cluster_node_is_running(node) || node->paused_until_us > cluster->now_us) {
            continue;
        }
        struct cluster_rumour *rumour = &node->conductor->rumours[other];
        enum placement_liveness liveness = i / count == other
                                               ? PLACEMENT_ALIVE
                                               : hear(cluster, i / count, other, rumour->liveness);
        if (liveness != rumour->liveness || rumour->since_ms == 0) {
            rumour->liveness = liveness;
            rumour->since_ms = sim__cluster_conductor_now_ms(node);
        }
        rumour->is_slow = cluster->nodes[other]->disk_times >= SLOW_TIMES;
        if (liveness == PLACEMENT_ALIVE) {
            rumour->capacity_bytes = sim__cluster_capacity_bytes(cluster);
            rumour->used_bytes =
                rumour->capacity_bytes == 0 ? 0 : sim__cluster_used_bytes(cluster, other);
        }
    }
    sim__cluster_schedule(cluster, RUMOUR_MS * 1000 / cluster->nature.conducting.pace, gossip, NULL,
                          0, NULL);
}

/* ---- What conductors promise ----------------------------------------------------------------- */

static bool is_ready_to_vote(const struct shard *shard, raft_node node)
{
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t count = shard_get_peers(shard, peers);
    for (uint32_t i = 0; i < count; i++) {
        if (peers[i].node == node) {
            return !peers[i].is_impaired && peers[i].match_index > 0;
        }
    }
    return false;
}

void sim__cluster_check_change(struct cluster *cluster, const struct shard *shard,
                               const struct raft_configuration *target)
{
    const struct raft_configuration *present = shard_configuration(shard);
    uint32_t added_count = 0;
    uint32_t removed_count = 0;
    for (uint32_t i = 0; i < target->voter_count; i++) {
        raft_node node = target->voters[i];
        if (raft_configuration_has_voter(present, node)) {
            continue;
        }
        added_count++;
        if (!raft_configuration_has_learner(present, node) || !is_ready_to_vote(shard, node)) {
            sim__cluster_fail(cluster, "node %u is to vote, and has not caught up", node);
        }
    }
    for (uint32_t i = 0; i < present->voter_count; i++) {
        removed_count += !raft_configuration_has_voter(target, present->voters[i]);
    }
    if (!raft_configuration_has_voter(target, shard_leader(shard))) {
        sim__cluster_fail(cluster, "the leader is taken out of its group");
    }
    if (added_count > 2 || removed_count > 2 || (added_count > 0 && removed_count > 1) ||
        (removed_count == 2 && present->voter_count % 2 == 0)) {
        sim__cluster_fail(cluster, "a step makes %u nodes voters, and %u no more", added_count,
                          removed_count);
    }
}

void sim__cluster_check_step(const struct cluster_node *node, raft_node to,
                             const struct placement_step *step)
{
    const struct cluster_conductor *conductor = node->conductor;
    if (conductor->office == 0 || conductor->heard_in[to - 1] != conductor->office) {
        sim__cluster_fail(node->cluster,
                          "a step for shard %u is sent to node %u, which has not reported in this "
                          "office",
                          step->group, to);
    }
}

/* ---- What they come to ----------------------------------------------------------------------- */

/* A group, as its leader has it. */
struct group {
    const struct raft_configuration *members;
    uint32_t leader; /* A place. */
    uint64_t weight; /* Of its leadership. */
    raft_term term;
};

struct overview {
    const struct cluster *cluster;
    const struct cluster_rows *rows;
    struct group groups[CLUSTER_SHARD_COUNT_MAX];
    uint32_t group_count;
    uint64_t lead_weights[CLUSTER_NODE_COUNT_MAX];
    uint32_t replica_counts[CLUSTER_NODE_COUNT_MAX];
    uint32_t active_count;
};

static bool is_active(const struct overview *overview, uint32_t place)
{
    return (overview->rows->nodes >> place & ~(overview->rows->draining >> place) & 1) != 0;
}

static bool find_group(const struct cluster *cluster, uint32_t place, struct group *group)
{
    raft_term newest = 0;
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct shard *shard = sim__cluster_node_shard(cluster->nodes[i], place);
        struct shard_statistics statistics;
        if (shard == NULL || !shard_is_ready(shard)) {
            continue;
        }
        shard_get_statistics(shard, &statistics);
        if (statistics.term > newest) {
            newest = statistics.term;
            *group =
                (struct group){.members = shard_configuration(shard), .leader = i, .term = newest};
        }
    }
    return newest > 0;
}

/* False: some group has no leader. */
static bool look(const struct cluster *cluster, struct overview *overview)
{
    *overview = (struct overview){.cluster = cluster, .rows = &cluster->office->rows};
    uint64_t load_sum = 0;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct group *group = &overview->groups[overview->group_count];
        if (!sim__cluster_is_born(cluster, i)) {
            continue;
        }
        if (!find_group(cluster, i, group)) {
            return false;
        }
        uint64_t load = sim__cluster_standing_load(
            cluster, &cluster->slots.ranges[slots_find(&cluster->slots, i + 1)]);
        group->weight = load > CONDUCTOR_LOAD_FLOOR_PER_S ? load : CONDUCTOR_LOAD_FLOOR_PER_S;
        load_sum += group->weight;
        overview->group_count++;
    }
    for (uint32_t i = 0; i < overview->group_count; i++) { /* As placement weighs. */
        struct group *group = &overview->groups[i];
        group->weight += load_sum / overview->group_count / 4 + 1;
        overview->lead_weights[group->leader] += group->weight;
        for (uint32_t k = 0; k < group->members->voter_count; k++) {
            overview->replica_counts[group->members->voters[k] - 1]++;
        }
    }
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        overview->active_count += is_active(overview, i);
    }
    return true;
}

static uint32_t active_nodes(const struct overview *overview)
{
    return overview->rows->nodes & ~overview->rows->draining;
}

static uint32_t odd_below(uint32_t count)
{
    return count == 0 ? 0 : count - (count % 2 == 0);
}

static uint32_t wanted_count(const struct overview *overview, uint32_t voter_count)
{
    uint32_t policy = overview->rows->replica_count;
    if (policy <= voter_count) {
        return policy;
    }
    uint32_t standing = overview->active_count < policy ? overview->active_count : policy;
    uint32_t possible = odd_below(standing);
    uint32_t present = odd_below(voter_count);
    return possible > present ? possible : present;
}

/* Is there a machine that could have a replica, and has none? */
static bool has_room(const struct overview *overview, const struct group *group)
{
    for (uint32_t i = 0; i < overview->cluster->nature.node_count; i++) {
        if (is_active(overview, i) && !raft_configuration_has_member(group->members, i + 1)) {
            return true;
        }
    }
    return false;
}

/* Are all its voters where they should be? */
static bool is_placed(const struct overview *overview, const struct group *group)
{
    for (uint32_t i = 0; i < group->members->voter_count; i++) {
        if (!is_active(overview, group->members->voters[i] - 1)) {
            return false;
        }
    }
    return true;
}

static bool has_active_voter(const struct overview *overview, const struct group *group)
{
    for (uint32_t i = 0; i < group->members->voter_count; i++) {
        if (is_active(overview, group->members->voters[i] - 1)) {
            return true;
        }
    }
    return false;
}

static const char *unrest_of_members(const struct overview *overview, const struct group *group)
{
    const struct raft_configuration *members = group->members;
    if (members->outgoing_count > 0 || members->learner_count > 0) {
        return "a group is changing";
    }
    if (members->voter_count != wanted_count(overview, members->voter_count)) {
        return "a group has not the number of voters that it should";
    }
    if (!is_placed(overview, group) && has_room(overview, group)) {
        return "a replica is where it should not be";
    }
    if (!is_active(overview, group->leader) && has_active_voter(overview, group)) {
        return "a machine leads that should not";
    }
    if (is_placed(overview, group) && /* Else it waits for a machine, and nothing less is begun. */
        sim__cluster_is_zone_crowded(overview->cluster, group->members, active_nodes(overview))) {
        return "a zone has more voters of a group than it must";
    }
    return NULL;
}

/* Would placement move this leadership? What it is told of loads may be a quarter off (I7). */
static bool is_lead_uneven(const struct overview *overview, const struct group *group,
                           uint64_t mean)
{
    const uint64_t *weights = overview->lead_weights;
    uint64_t from = weights[group->leader];
    bool is_exact = overview->cluster->nature.conducting.slot_load == 0;
    for (uint32_t i = 0; i < group->members->voter_count; i++) {
        uint32_t place = group->members->voters[i] - 1;
        uint64_t to = weights[place];
        uint64_t slack = is_exact ? 0 : (from + to + group->weight) / 3;
        if (is_active(overview, place) && from > mean + slack &&
            from > to + group->weight + group->weight / 4 + slack && from - to > mean / 10) {
            return true;
        }
    }
    return false;
}

static bool are_zones_no_worse(const struct overview *overview, const struct group *group,
                               uint32_t from, uint32_t to)
{
    const struct cluster *cluster = overview->cluster;
    uint32_t active = active_nodes(overview);
    return sim__cluster_zone(cluster, from) == sim__cluster_zone(cluster, to) ||
           sim__cluster_zone_count(cluster, group->members, active, to) + 1 <=
               sim__cluster_zone_count(cluster, group->members, active, from);
}

/* Would it move a replica? */
static bool is_filled_unevenly(const struct overview *overview, const struct group *group,
                               uint32_t sum)
{
    const uint32_t *counts = overview->replica_counts;
    for (uint32_t i = 0; i < group->members->voter_count; i++) {
        uint32_t from = group->members->voters[i] - 1;
        bool is_full = is_active(overview, from) && counts[from] * overview->active_count > sum;
        for (uint32_t to = 0; to < overview->cluster->nature.node_count && is_full; to++) {
            if (is_active(overview, to) && counts[from] >= counts[to] + 2 &&
                !raft_configuration_has_member(group->members, to + 1) &&
                are_zones_no_worse(overview, group, from, to)) {
                return true;
            }
        }
    }
    return false;
}

static const char *unrest_of_balance(const struct overview *overview)
{
    uint64_t lead_sum = 0;
    uint32_t replica_sum = 0;
    for (uint32_t i = 0; i < overview->cluster->nature.node_count; i++) {
        lead_sum += overview->lead_weights[i];
        replica_sum += is_active(overview, i) ? overview->replica_counts[i] : 0;
    }
    for (uint32_t i = 0; i < overview->group_count && overview->group_count > 1; i++) {
        const struct group *group = &overview->groups[i];
        if (!is_placed(overview, group)) {
            continue; /* What waits for a machine is not balanced. */
        }
        if (is_filled_unevenly(overview, group, replica_sum)) {
            return "a machine has many more replicas than another";
        }
        if (is_lead_uneven(overview, group, lead_sum / overview->active_count)) {
            return "a machine leads much more than another";
        }
    }
    return NULL;
}

static const char *find_unrest(const struct cluster *cluster)
{
    const struct cluster_office *office = cluster->office;
    struct overview overview;
    uint64_t rest_us = REST_MS * 1000 / cluster->nature.conducting.pace;
    if (cluster->now_us < office->step_at_us + rest_us) {
        return "there was a step a moment ago";
    }
    if (cluster->now_us < office->late_until_us + rest_us) {
        return "a report of before may come yet"; /* It tells of a leader that is none any more. */
    }
    if (office->rows.planned != 0) {
        return "a split is planned, and not done";
    }
    if (sim__cluster_is_room_lacking(cluster)) {
        return "a disk has little room";
    }
    if (!look(cluster, &overview)) {
        return "a group has no leader";
    }
    bool is_draining = false;
    for (uint32_t i = 0; i < overview.group_count; i++) {
        const char *unrest = unrest_of_members(&overview, &overview.groups[i]);
        if (unrest != NULL) {
            return unrest;
        }
    }
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        is_draining |= (office->rows.draining >> i & 1) != 0 && overview.replica_counts[i] == 0;
    }
    return is_draining ? "a machine is empty, and not drained" : unrest_of_balance(&overview);
}

/* The terms in which all groups are led: 0: some are not. */
static uint64_t term_sum(const struct cluster *cluster)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct group group = {0};
        if (sim__cluster_is_born(cluster, i) && !find_group(cluster, i, &group)) {
            return 0;
        }
        sum += group.term;
    }
    return sum;
}

/* Somebody else was elected, as happens when messages are late; or leaderships are spread by loads that are known
 * no better than by a quarter. Then a step is right, and all has to come to rest anew. */
static bool is_rest_disturbed(const struct cluster *cluster, const struct placement_step *step)
{
    bool is_by_load = cluster->nature.conducting.slot_load > 0 &&
                      step->kind == PLACEMENT_TRANSFER_LEADER &&
                      step->reason == PLACEMENT_REASON_LEADERS;
    return is_by_load || term_sum(cluster) != cluster->office->rest_term_sum;
}

void sim__cluster_step_begun(struct cluster *cluster, const struct cluster_node *node,
                             const struct placement_step *step)
{
    struct cluster_office *office = cluster->office;
    sim__cluster_note(cluster, placement_kind_text(step->kind), step->group, step->node,
                      step->other);
    sim__cluster_note(cluster, placement_reason_text(step->reason), node->id, 0, 0);
    office->step_count++;
    office->healed_step_count += cluster->is_healing ? 1 : 0;
    office->step_at_us = cluster->now_us;
    cluster->result->conducted_count++;
    if (office->rest_since_us != 0 && is_rest_disturbed(cluster, step)) {
        office->rest_since_us = 0;
    }
    if (office->rest_since_us != 0) {
        sim__cluster_fail(cluster,
                          "all is settled, and a step is taken: %s node %u of shard %u (%s)",
                          placement_kind_text(step->kind), step->node, step->group,
                          placement_reason_text(step->reason));
    }
}

static void look_for_rest(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_office *office = cluster->office;
    office->unrest = cluster->is_healing ? find_unrest(cluster) : "there are faults";
    if (office->healed_step_count > 30 + 12 * cluster->shard_count) {
        sim__cluster_fail(cluster, "all is well, and steps do not end");
    }
    sim__cluster_schedule(cluster, LOOK_US, look_for_rest, NULL, 0, NULL);
}

const char *sim__cluster_unrest(const struct cluster *cluster)
{
    return cluster->office == NULL ? NULL : cluster->office->unrest;
}

void sim__cluster_rest(struct cluster *cluster)
{
    struct cluster_office *office = cluster->office;
    if (office != NULL && office->rest_since_us == 0) {
        office->rest_since_us = cluster->now_us;
        office->rest_term_sum = term_sum(cluster);
    }
}

bool sim__cluster_is_at_rest(const struct cluster *cluster)
{
    const struct cluster_office *office = cluster->office;
    return office == NULL ||
           cluster->now_us >= office->rest_since_us +
                                  UINT64_C(1000) * LONG_REST_MS / cluster->nature.conducting.pace;
}

/* 0: there are no conductors. */
uint64_t sim__cluster_rest_us_max(const struct cluster *cluster)
{
    if (cluster->office == NULL) {
        return 0;
    }
    uint64_t waits_ms = UINT64_C(4) * CONDUCTOR_HOLD_MS + LONG_REST_MS;
    return waits_ms * 1000 / cluster->nature.conducting.pace + sim__cluster_room_us_max(cluster);
}

void sim__cluster_office_begin(struct cluster *cluster)
{
    if (cluster->office == NULL) {
        return;
    }
    sim__cluster_schedule(cluster, 1, gossip, NULL, 0, NULL);
    sim__cluster_schedule(cluster, LOOK_US, look_for_rest, NULL, 0, NULL);
    sim__cluster_room_begin(cluster);
    if (cluster->nature.conducting.office_every_us > 0) {
        sim__cluster_schedule(
            cluster, sim__cluster_delay(cluster, cluster->nature.conducting.office_every_us),
            change_office, NULL, 0, NULL);
    }
    if (cluster->nature.conducting.wish_every_us > 0) {
        sim__cluster_schedule(cluster,
                              sim__cluster_delay(cluster, cluster->nature.conducting.wish_every_us),
                              wish, NULL, 0, NULL);
    }
}

/* What lay on a damaged log unseen is found, and an upgrade that has begun comes to its end. */
void sim__cluster_office_heal(struct cluster *cluster)
{
    uint32_t older = cluster->older;
    if (cluster->office == NULL) {
        return;
    }
    cluster->older = 0;
    sim__cluster_room_heal(cluster);
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        bool has_to_start = (older >> i & 1) != 0 || sim__cluster_node_is_damaged(node);
        if (has_to_start && sim__cluster_node_is_running(node)) {
            sim__cluster_node_kill(cluster, node, false);
            sim__cluster_node_start(cluster, node);
        }
    }
}
