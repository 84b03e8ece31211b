/* SPDX-License-Identifier: Apache-2.0 */
/* What a host tells of a replica that leads its group, and where its slots are halved. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/conductor/conductor_internal.h"
#include "core/shard/shard.h"

/* One that lacks no more than so many entries, which are on their way, could; or one that lacks none: after a
 * snapshot it is only tried again when there is something to send. But not one that has none: nobody knows whether
 * it can take any. */
enum { CAUGHT_UP_COUNT = 256 };

bool conductor__may_vote(const struct raft_peer *learner)
{
    return BUG("conductor.learner_assumed_ready") ||
           (!learner->is_impaired && learner->match_index > 0);
}

bool conductor__is_caught_up(const struct raft_peer *learner, raft_index applied_index)
{
    raft_index lag_max = learner->progress == RAFT_PROGRESS_REPLICATE ? CAUGHT_UP_COUNT : 0;
    if (BUG("conductor.learner_assumed_ready")) {
        return true;
    }
    return conductor__may_vote(learner) && learner->match_index + lag_max >= applied_index;
}

static bool is_caught_up(const struct shard *shard, raft_node node, const struct raft_peer *peers,
                         uint32_t peer_count)
{
    for (uint32_t i = 0; i < peer_count; i++) {
        if (peers[i].node == node) {
            return conductor__is_caught_up(&peers[i], shard_applied_index(shard));
        }
    }
    return false;
}

void conductor_describe(const struct shard *shard, wal_shard group, raft_node self,
                        struct placement_group_state *state)
{
    const struct raft_configuration *members = shard_configuration(shard);
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t peer_count = shard_get_peers(shard, peers);
    *state = (struct placement_group_state){
        .id = group,
        .leader = self,
        .voter_count = (uint8_t)members->voter_count,
        .learner_count = (uint8_t)members->learner_count,
        .is_changing = members->outgoing_count > 0,
    };
    for (uint32_t i = 0; i < members->voter_count; i++) {
        state->voters[i] = members->voters[i];
    }
    for (uint32_t i = 0; i < members->learner_count; i++) {
        state->learners[i] = (struct placement_learner){
            .node = members->learners[i],
            .is_caught_up = is_caught_up(shard, members->learners[i], peers, peer_count),
        };
    }
}

/* A learner that has nothing claims nothing. */
static bool leaves_too_early(const struct shard *shard, const struct raft_peer *peer)
{
    bool has_something = peer->is_voter || peer->match_index > 0;
    return has_something && peer->match_index < shard_split_index(shard);
}

bool conductor_may_configure(const struct shard *shard, const struct raft_configuration *target,
                             bool (*is_alive)(void *context, raft_node node), void *context)
{
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t count = shard_get_peers(shard, peers);
    for (uint32_t i = 0; i < count; i++) {
        bool is_to_vote = !peers[i].is_voter && raft_configuration_has_voter(target, peers[i].node);
        if (is_to_vote && !conductor__may_vote(&peers[i])) {
            return false;
        }
        if (!raft_configuration_has_member(target, peers[i].node) &&
            leaves_too_early(shard, &peers[i]) && is_alive(context, peers[i].node)) {
            return false;
        }
    }
    return true;
}

/* The first slot behind which there is half or less, and the one before it: one of them halves best. */
struct conductor_halves conductor_halve(const struct conductor_question *question,
                                        uint64_t (*measure)(void *context, uint32_t first,
                                                            uint32_t end),
                                        void *context)
{
    ASSERT(question->end >= question->first + 2);
    uint64_t total = measure(context, question->first, question->end);
    uint32_t low = question->first + 1;
    uint32_t high = question->end - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (measure(context, question->first, middle) < total / 2) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    struct conductor_halves halves = {
        .question = *question,
        .slot = low,
        .lower = measure(context, question->first, low),
        .upper = measure(context, low, question->end),
    };
    if (low > question->first + 1) {
        uint64_t lower = measure(context, question->first, low - 1);
        uint64_t upper = measure(context, low - 1, question->end);
        uint64_t least = halves.lower < halves.upper ? halves.lower : halves.upper;
        if ((lower < upper ? lower : upper) > least) {
            halves.slot = low - 1;
            halves.lower = lower;
            halves.upper = upper;
        }
    }
    return halves;
}
