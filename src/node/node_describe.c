/* SPDX-License-Identifier: Apache-2.0 */
/* What this node says of itself and of its replicas, some at a time. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

static void describe_progress(const struct node_shard *shard, const struct raft_peer *peer,
                              raft_index applied, struct inquiry_member *member)
{
    if (peer->match_index == 0) { /* A new leader has not heard of it yet. */
        member->lag_entries = INQUIRY_UNKNOWN;
        member->lag_ms = INQUIRY_UNKNOWN;
    } else if (applied > peer->match_index) {
        member->lag_entries = applied - peer->match_index;
        member->lag_ms =
            node_sampler_behind_ms(shard->host->cluster->sampler, shard->place, peer->match_index);
    }
    if (peer->progress == RAFT_PROGRESS_SNAPSHOT) {
        member->state = INQUIRY_MEMBER_SNAPSHOT;
    } else if (peer->is_impaired) {
        member->state = INQUIRY_MEMBER_DAMAGED;
    }
}

/* Of a group that is led here. */
static void describe_members(const struct node_shard *shard, struct inquiry_replica *replica)
{
    const struct raft_configuration *members = shard_configuration(shard->shard);
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t peer_count = shard_get_peers(shard->shard, peers);
    raft_index applied = shard_applied_index(shard->shard);
    replica->member_count = members->voter_count + members->learner_count;
    for (uint32_t i = 0; i < replica->member_count; i++) {
        struct inquiry_member *member = &replica->members[i];
        member->is_voter = i < members->voter_count;
        member->node =
            member->is_voter ? members->voters[i] : members->learners[i - members->voter_count];
        if (member->node == shard->host->self && shard_is_impaired(shard->shard)) {
            member->state = INQUIRY_MEMBER_DAMAGED;
        }
        for (uint32_t j = 0; j < peer_count; j++) {
            if (peers[j].node == member->node) {
                describe_progress(shard, &peers[j], applied, member);
            }
        }
    }
}

static void describe_replica(const struct node_shard *shard, struct inquiry_replica *replica)
{
    struct shard_statistics statistics;
    struct kv_statistics kv;
    struct node_shard_sample sample;
    node_sampler_get_shard(shard->host->cluster->sampler, shard->place, &sample);
    shard_get_statistics(shard->shard, &statistics);
    kv_get_statistics(shard->kv, &kv);
    *replica = (struct inquiry_replica){
        .shard = shard->id,
        .is_leader = shard_is_ready(shard->shard),
        .is_changing = shard_configuration(shard->shard)->outgoing_count > 0,
        .term = statistics.term,
        .figures = {[INQUIRY_APPLIED_INDEX] = statistics.applied_index,
                    [INQUIRY_SIZE_BYTES] = sample.size_bytes,
                    [INQUIRY_KEYS] = kv.key_count,
                    [INQUIRY_REPLICA_READS_PER_1000_S] = sample.reads_per_1000_s,
                    [INQUIRY_REPLICA_WRITES_PER_1000_S] = sample.writes_per_1000_s},
    };
    if (replica->is_leader) {
        describe_members(shard, replica);
    }
}

static void begin(struct node_description *description, const struct node_cluster *cluster,
                  uint64_t number)
{
    struct node_sample *sample = memory_allocate(sizeof *sample);
    node_sampler_get(cluster->sampler, sample);
    sample->figures[INQUIRY_UPTIME_S] = (os_monotonic_ms() - cluster->started_at_ms) / 1000;
    inquiry_answer_begin(&description->answer, number, sample->figures, sample->latencies, 0);
    memory_free(sample);
    description->is_begun = true;
}

static void note_group(struct node_description *description, const struct node_shard *shard)
{
    if (description->group_count == description->group_capacity) {
        uint32_t capacity = description->group_capacity;
        description->group_capacity = capacity == 0 ? NODE_DESCRIBED_COUNT_MAX : 2 * capacity;
        description->groups = memory_resize(description->groups, description->group_capacity *
                                                                     sizeof description->groups[0]);
    }
    description->groups[description->group_count++] = (struct node_group){
        .shard = shard->id,
        .leader = shard_leader(shard->shard),
        .is_impaired = shard_is_impaired(shard->shard),
        .members = *shard_configuration(shard->shard),
    };
}

bool node_describe(struct node_description *description, const struct node_cluster *cluster,
                   uint64_t number)
{
    const struct node_shards *shards = cluster->shards;
    if (!description->is_begun) {
        begin(description, cluster, number);
    }
    for (uint32_t i = 0; i < NODE_DESCRIBED_COUNT_MAX && description->next_place < shards->count;
         i++) {
        const struct node_shard *shard = &shards->items[description->next_place++];
        if (description->wants_groups) {
            note_group(description, shard);
        }
        if (raft_configuration_has_member(shard_configuration(shard->shard), cluster->self)) {
            struct inquiry_replica replica;
            describe_replica(shard, &replica);
            inquiry_answer_add(&description->answer, &replica);
            description->replica_count++;
        }
    }
    if (description->next_place < shards->count) {
        return false;
    }
    inquiry_answer_end(&description->answer, description->replica_count);
    return true;
}

void node_description_deinit(struct node_description *description)
{
    buffer_deinit(&description->answer);
    memory_free(description->groups);
}
