/* SPDX-License-Identifier: Apache-2.0 */
/* What is not where it would best be, as an operator is told of it: nodes that are being emptied, replicas of a
 * shard that share a zone, nodes that hold or lead more than others. None of it is an ailment, most of it is over
 * in moments; what stays so has a reason, which is told, too. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "node/node_overview.h"

enum { TEXT_SIZE = 320 };

/* Could the node have replicas, and lead? */
static bool takes_part(const struct overview *overview, const struct system_node *node)
{
    const struct overview_node *known = node_overview_node(overview, node->id);
    return node->state == SYSTEM_NODE_ACTIVE &&
           (node->id == overview->self || (known != NULL && known->state == MEMBER_STATE_ALIVE));
}

/* The most voters that a group has which has one on the node. */
static uint32_t most_voters_with(const struct overview *overview, uint32_t node)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        const struct inquiry_replica *replica = &overview->shards[i].replica;
        uint32_t count = 0;
        bool is_there = false;
        for (uint32_t j = 0; j < replica->member_count; j++) {
            count += replica->members[j].is_voter;
            is_there |= replica->members[j].is_voter && replica->members[j].node == node;
        }
        most = is_there && count > most ? count : most;
    }
    return most;
}

static void tell_draining(const struct overview *overview, struct json *sentences)
{
    char text[TEXT_SIZE];
    uint32_t count = 0; /* Of nodes that can have what they have. */
    for (uint32_t i = 0; i < overview->written_count; i++) {
        count += takes_part(overview, &overview->written[i]);
    }
    for (uint32_t i = 0; i < overview->written_count; i++) {
        const struct system_node *node = &overview->written[i];
        const struct overview_node *known = node_overview_node(overview, node->id);
        if (node->state == SYSTEM_NODE_DRAINING && known != NULL && known->replica_count > 0) {
            (void)snprintf(
                text, sizeof text,
                "node %" PRIu32 " is being emptied, and has %" PRIu32 " replica%s still: %s",
                node->id, known->replica_count, known->replica_count == 1 ? "" : "s",
                count < most_voters_with(overview, node->id)
                    ? "no other node can take them: start one, or want fewer (tutti replicas)"
                    : "they go where there is room, as fast as they are copied");
            json_append_text(sentences, text);
        }
    }
}

/* ---- Zones ----------------------------------------------------------------------------------- */

static const char *zone_of(const struct overview *overview, uint32_t id)
{
    const struct system_node *node = node_overview_written(overview, id);
    return node != NULL ? node->zone : "";
}

/* Zones in which a node takes part; the nodes that were not told where they are share one. */
static uint32_t count_zones(const struct overview *overview, bool *is_any_named)
{
    uint32_t count = 0;
    *is_any_named = false;
    for (uint32_t i = 0; i < overview->written_count; i++) {
        const struct system_node *node = &overview->written[i];
        bool is_new = takes_part(overview, node);
        for (uint32_t j = 0; j < i && is_new; j++) {
            const struct system_node *other = &overview->written[j];
            is_new = !takes_part(overview, other) || strcmp(other->zone, node->zone) != 0;
        }
        count += is_new;
        *is_any_named |= is_new && node->zone[0] != '\0';
    }
    return count;
}

/* The zone that has most of the shard's voters, and how many. */
static uint32_t crowd_of(const struct overview *overview, const struct overview_shard *shard,
                         uint32_t *voter_count, const char **zone)
{
    uint32_t most = 0;
    *voter_count = 0;
    for (uint32_t i = 0; i < shard->replica.member_count; i++) {
        const struct inquiry_member *member = &shard->replica.members[i];
        const char *here = zone_of(overview, member->node);
        uint32_t count = 0;
        for (uint32_t j = 0; j <= i && member->is_voter; j++) {
            const struct inquiry_member *other = &shard->replica.members[j];
            count += other->is_voter && strcmp(zone_of(overview, other->node), here) == 0;
        }
        if (count > most) {
            most = count;
            *zone = here;
        }
        *voter_count += member->is_voter;
    }
    return most;
}

/* Shards of which a zone has more voters than it would, if they were spread over all zones; and those of which it
 * has so many that nothing is left without it. */
struct crowding {
    uint32_t uneven_count;
    uint32_t fatal_count;
    wal_shard shard; /* One of the former, or else of the latter. */
    uint32_t voter_count;
    uint32_t crowd;
    const char *zone;
};

static struct crowding find_crowding(const struct overview *overview, double only,
                                     uint32_t zone_count)
{
    struct crowding found = {.zone = ""};
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        const struct overview_shard *shard = &overview->shards[i];
        if (only != 0 && only != shard->replica.shard) {
            continue;
        }
        uint32_t voter_count;
        const char *zone = "";
        uint32_t crowd = crowd_of(overview, shard, &voter_count, &zone);
        bool is_uneven = crowd > (voter_count + zone_count - 1) / zone_count;
        bool is_fatal = voter_count > 1 && 2 * crowd >= voter_count;
        if (!is_uneven && !is_fatal) {
            continue;
        }
        if (found.shard == 0 || (is_uneven && found.uneven_count == 0)) {
            found.shard = shard->replica.shard;
            found.voter_count = voter_count;
            found.crowd = crowd;
            found.zone = zone;
        }
        found.uneven_count += is_uneven;
        found.fatal_count += is_fatal;
    }
    return found;
}

static void tell_zones(const struct overview *overview, double only, struct json *sentences)
{
    bool is_any_named;
    char text[TEXT_SIZE];
    uint32_t zone_count = count_zones(overview, &is_any_named);
    if (!is_any_named) {
        return;
    }
    struct crowding found = find_crowding(overview, only, zone_count);
    const char *zone = found.zone[0] != '\0' ? found.zone : "that has no name";
    if (found.uneven_count > 0) {
        (void)snprintf(text, sizeof text,
                       "%" PRIu32 " of %" PRIu32
                       " shards have more replicas in one zone than need be (shard %u: %" PRIu32
                       " of %" PRIu32
                       " in zone %s): they move by themselves, where a disk has room",
                       found.uneven_count, overview->shard_count, found.shard, found.crowd,
                       found.voter_count, zone);
        json_append_text(sentences, text);
    } else if (found.fatal_count > 0) {
        (void)snprintf(text, sizeof text,
                       "nodes that are up are in %" PRIu32
                       " zones, so one of them has half or more of the replicas of %" PRIu32
                       " of %" PRIu32 " shards (shard %u: %" PRIu32 " of %" PRIu32
                       " in zone %s), which stand still when it fails: start nodes in other zones",
                       zone_count, found.fatal_count, overview->shard_count, found.shard,
                       found.crowd, found.voter_count, zone);
        json_append_text(sentences, text);
    }
}

/* ---- Nodes ----------------------------------------------------------------------------------- */

/* Who has most and who has least; whether that is more apart than by chance: a tenth of the mean, and more than
 * one. */
struct range {
    uint32_t count;
    uint32_t most_node;
    uint32_t least_node;
    uint32_t most;
    uint32_t least;
    uint64_t sum;
};

static void widen(struct range *range, uint32_t node, uint32_t value)
{
    if (range->count == 0 || value > range->most) {
        range->most = value;
        range->most_node = node;
    }
    if (range->count == 0 || value < range->least) {
        range->least = value;
        range->least_node = node;
    }
    range->count++;
    range->sum += value;
}

static bool is_wide(const struct range *range)
{
    uint32_t apart = range->most - range->least;
    return range->count > 1 && apart > 1 && (uint64_t)apart * range->count * 10 > range->sum;
}

static void tell_nodes(const struct overview *overview, struct json *sentences)
{
    struct range replicas = {0};
    struct range leaders = {0};
    char text[TEXT_SIZE];
    for (uint32_t i = 0; i < overview->written_count; i++) {
        const struct system_node *node = &overview->written[i];
        const struct overview_node *known = node_overview_node(overview, node->id);
        if (takes_part(overview, node)) {
            widen(&replicas, node->id, known != NULL ? known->replica_count : 0);
            widen(&leaders, node->id, known != NULL ? known->leader_count : 0);
        }
    }
    if (is_wide(&replicas)) {
        (void)snprintf(
            text, sizeof text,
            "node %" PRIu32 " has %" PRIu32 " replicas, node %" PRIu32 " has %" PRIu32
            ": zones come first, then what the disks hold; what can be better moves by itself",
            replicas.most_node, replicas.most, replicas.least_node, replicas.least);
        json_append_text(sentences, text);
    }
    if (is_wide(&leaders)) {
        (void)snprintf(text, sizeof text,
                       "node %" PRIu32 " leads %" PRIu32 " shards, node %" PRIu32 " leads %" PRIu32
                       ": load and number count, among nodes with replicas and disks that are "
                       "neither slow nor full; what can be better moves by itself",
                       leaders.most_node, leaders.most, leaders.least_node, leaders.least);
        json_append_text(sentences, text);
    }
}

void node_balance_why(const struct overview *overview, double shard, struct json *answer)
{
    struct json *sentences = json_array_create();
    tell_zones(overview, shard, sentences);
    if (shard == 0) {
        tell_draining(overview, sentences);
        tell_nodes(overview, sentences);
    }
    json_set(answer, "balance", sentences);
}
