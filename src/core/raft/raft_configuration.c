/* SPDX-License-Identifier: Apache-2.0 */
/* Members and quorums (thesis §4). The bytes of a configuration, little-endian
 * (docs/formats/raft.md):
 *
 *   offset  size  meaning
 *   0       1     version of this format, 1
 *   1       1     number of voters, 1 to 7
 *   2       1     number of outgoing voters, 0 unless joint
 *   3       1     number of learners
 *   4       4·n   the voters, then the outgoing ones, then the learners; each list ascending */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/trace/trace.h"
#include "core/raft/raft_internal.h"

enum { FORMAT_VERSION = 1, HEADER_SIZE_BYTES = 4, NODE_SIZE_BYTES = 4 };

static bool has(const raft_node *nodes, uint32_t count, raft_node node)
{
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i] == node) {
            return true;
        }
    }
    return false;
}

static bool is_ascending(const raft_node *nodes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i] == 0 || (i > 0 && nodes[i] <= nodes[i - 1])) {
            return false;
        }
    }
    return true;
}

bool raft_configuration_is_valid(const struct raft_configuration *configuration)
{
    if (configuration->voter_count == 0 || configuration->voter_count > RAFT_VOTER_COUNT_MAX ||
        configuration->outgoing_count > RAFT_VOTER_COUNT_MAX ||
        configuration->learner_count > RAFT_LEARNER_COUNT_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < configuration->learner_count; i++) {
        if (has(configuration->voters, configuration->voter_count, configuration->learners[i])) {
            return false;
        }
    }
    return is_ascending(configuration->voters, configuration->voter_count) &&
           is_ascending(configuration->outgoing, configuration->outgoing_count) &&
           is_ascending(configuration->learners, configuration->learner_count);
}

bool raft_configuration_has_voter(const struct raft_configuration *configuration, raft_node node)
{
    return has(configuration->voters, configuration->voter_count, node) ||
           has(configuration->outgoing, configuration->outgoing_count, node);
}

bool raft_configuration_has_learner(const struct raft_configuration *configuration, raft_node node)
{
    return has(configuration->learners, configuration->learner_count, node);
}

bool raft_configuration_has_member(const struct raft_configuration *configuration, raft_node node)
{
    return raft_configuration_has_voter(configuration, node) ||
           raft_configuration_has_learner(configuration, node);
}

static bool are_equal(const raft_node *left, uint32_t left_count, const raft_node *right,
                      uint32_t right_count)
{
    return left_count == right_count && memcmp(left, right, left_count * sizeof *left) == 0;
}

bool raft_configurations_are_equal(const struct raft_configuration *left,
                                   const struct raft_configuration *right)
{
    return are_equal(left->voters, left->voter_count, right->voters, right->voter_count) &&
           are_equal(left->outgoing, left->outgoing_count, right->outgoing,
                     right->outgoing_count) &&
           are_equal(left->learners, left->learner_count, right->learners, right->learner_count);
}

static uint8_t *put_nodes(uint8_t *target, const raft_node *nodes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        endian_put_u32_le(target + (size_t)i * NODE_SIZE_BYTES, nodes[i]);
    }
    return target + (size_t)count * NODE_SIZE_BYTES;
}

static const uint8_t *get_nodes(const uint8_t *source, raft_node *nodes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        nodes[i] = endian_get_u32_le(source + (size_t)i * NODE_SIZE_BYTES);
    }
    return source + (size_t)count * NODE_SIZE_BYTES;
}

void raft_configuration_encode(const struct raft_configuration *configuration,
                               struct buffer *target)
{
    ASSERT(raft_configuration_is_valid(configuration));
    uint32_t count =
        configuration->voter_count + configuration->outgoing_count + configuration->learner_count;
    uint8_t *bytes = buffer_extend(target, HEADER_SIZE_BYTES + (size_t)count * NODE_SIZE_BYTES);
    bytes[0] = FORMAT_VERSION;
    bytes[1] = (uint8_t)configuration->voter_count;
    bytes[2] = (uint8_t)configuration->outgoing_count;
    bytes[3] = (uint8_t)configuration->learner_count;
    bytes += HEADER_SIZE_BYTES;
    bytes = put_nodes(bytes, configuration->voters, configuration->voter_count);
    bytes = put_nodes(bytes, configuration->outgoing, configuration->outgoing_count);
    (void)put_nodes(bytes, configuration->learners, configuration->learner_count);
}

int raft_configuration_decode(struct raft_configuration *configuration, struct bytes source)
{
    if (source.size_bytes < HEADER_SIZE_BYTES || source.data[0] == 0) {
        return ERROR_CORRUPT;
    }
    if (source.data[0] > FORMAT_VERSION) {
        return ERROR_NEWER_FORMAT;
    }
    struct raft_configuration decoded = {
        .voter_count = source.data[1],
        .outgoing_count = source.data[2],
        .learner_count = source.data[3],
    };
    size_t count = (size_t)decoded.voter_count + decoded.outgoing_count + decoded.learner_count;
    if (decoded.voter_count > RAFT_VOTER_COUNT_MAX ||
        decoded.outgoing_count > RAFT_VOTER_COUNT_MAX ||
        decoded.learner_count > RAFT_LEARNER_COUNT_MAX ||
        source.size_bytes != HEADER_SIZE_BYTES + count * NODE_SIZE_BYTES) {
        return ERROR_CORRUPT;
    }
    const uint8_t *bytes = source.data + HEADER_SIZE_BYTES;
    bytes = get_nodes(bytes, decoded.voters, decoded.voter_count);
    bytes = get_nodes(bytes, decoded.outgoing, decoded.outgoing_count);
    (void)get_nodes(bytes, decoded.learners, decoded.learner_count);
    if (!raft_configuration_is_valid(&decoded)) {
        return ERROR_CORRUPT;
    }
    *configuration = decoded;
    return 0;
}

const struct raft_configuration *raft__configuration(const struct raft *raft)
{
    const struct raft_log *log = &raft->log;
    const struct raft_known_configuration *known =
        &log->configurations[log->configuration_count - 1];
    if (BUG("raft.configuration_when_committed")) {
        const struct raft_known_configuration *committed =
            raft__log_configuration_at(log, raft->commit_index);
        known = committed != NULL ? committed : known;
    }
    return &known->configuration;
}

bool raft__is_voter(const struct raft *raft, raft_node node)
{
    return raft_configuration_has_voter(raft__configuration(raft), node);
}

bool raft__is_only_voter(const struct raft *raft)
{
    const struct raft_configuration *configuration = raft__configuration(raft);
    return configuration->voter_count == 1 && configuration->outgoing_count == 0 &&
           configuration->voters[0] == raft->self;
}

static const struct raft_vote *find_vote(const struct raft *raft, raft_node node)
{
    for (uint32_t i = 0; i < raft->vote_count; i++) {
        if (raft->votes[i].node == node) {
            return &raft->votes[i];
        }
    }
    return NULL;
}

static const struct raft_replica *find_replica(const struct raft *raft, raft_node node)
{
    for (uint32_t i = 0; i < raft->replica_count; i++) {
        if (raft->replicas[i].node == node) {
            return &raft->replicas[i];
        }
    }
    ASSERT(false); /* There is one for each member. */
    return NULL;
}

static uint64_t measure_vote(const struct raft *raft, raft_node node, enum raft_measure measure)
{
    const struct raft_vote *vote = find_vote(raft, node);
    bool is_granted = vote != NULL && vote->is_granted;
    if (node == raft->self && measure == RAFT_MEASURE_GRANTED &&
        raft->role == RAFT_ROLE_CANDIDATE) {
        is_granted = is_granted && raft__is_hard_state_durable(raft); /* I2 */
    }
    bool is_good = measure == RAFT_MEASURE_GRANTED ? is_granted : vote == NULL || is_granted;
    return is_good ? 1 : 0;
}

static uint64_t take_measure(const struct raft *raft, raft_node node, enum raft_measure measure)
{
    if (measure == RAFT_MEASURE_GRANTED || measure == RAFT_MEASURE_NOT_REFUSED) {
        return measure_vote(raft, node, measure);
    }
    bool is_self = node == raft->self;
    const struct raft_replica *replica = is_self ? NULL : find_replica(raft, node);
    if (!is_self && replica->mark != 0 && !BUG("raft.impaired_counted")) {
        return 0; /* I8 */
    }
    switch (measure) {
    case RAFT_MEASURE_MATCH:
        return is_self ? raft__own_match(raft) : replica->match_index;
    case RAFT_MEASURE_ROUND:
        return is_self ? raft->round : replica->answered_round;
    case RAFT_MEASURE_SENT_AT:
        return is_self ? raft->now_ms : replica->answered_sent_at_ms;
    case RAFT_MEASURE_HEARD_AT:
        return is_self ? raft->now_ms : number_max(replica->heard_at_ms, replica->patient_from_ms);
    case RAFT_MEASURE_GRANTED:
    case RAFT_MEASURE_NOT_REFUSED:
        break;
    }
    return 0;
}

/* The value that `quorum_count` of these nodes reach: that one of the values in descending order. */
static uint64_t reached_by(const struct raft *raft, const raft_node *nodes, uint32_t count,
                           uint32_t quorum_count, enum raft_measure measure)
{
    uint64_t values[RAFT_PEER_COUNT_MAX];
    ASSERT(quorum_count > 0 && quorum_count <= count && count <= RAFT_PEER_COUNT_MAX);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t value = take_measure(raft, nodes[i], measure);
        uint32_t place = i;
        for (; place > 0 && values[place - 1] < value; place--) {
            values[place] = values[place - 1];
        }
        values[place] = value;
    }
    return values[quorum_count - 1];
}

/* The voters, and who must not be among them when a bug is switched on. */
static uint32_t gather_voters(const struct raft *raft, enum raft_measure measure,
                              raft_node nodes[RAFT_PEER_COUNT_MAX])
{
    const struct raft_configuration *configuration = raft__configuration(raft);
    bool is_match = measure == RAFT_MEASURE_MATCH;
    uint32_t count = configuration->voter_count;
    memcpy(nodes, configuration->voters, count * sizeof *nodes);
    if (is_match && BUG("raft.learner_counted")) {
        for (uint32_t i = 0; i < configuration->learner_count; i++) {
            nodes[count++] = configuration->learners[i];
        }
    }
    if (is_match && !has(nodes, count, raft->self) && BUG("raft.removed_leader_counted")) {
        nodes[count++] = raft->self;
    }
    return count;
}

uint64_t raft__quorum(const struct raft *raft, enum raft_measure measure)
{
    const struct raft_configuration *configuration = raft__configuration(raft);
    if (configuration->voter_count == 0) {
        return 0;
    }
    raft_node nodes[RAFT_PEER_COUNT_MAX];
    uint32_t count = gather_voters(raft, measure, nodes);
    uint64_t value = reached_by(raft, nodes, count, configuration->voter_count / 2 + 1, measure);
    /* §4.3: "agreement requires separate majorities from both the old and new configurations". */
    count = configuration->outgoing_count;
    if (count > 0 && !BUG("raft.one_majority_while_joint")) {
        uint64_t outgoing =
            reached_by(raft, configuration->outgoing, count, count / 2 + 1, measure);
        value = number_min(value, outgoing);
    }
    return value;
}
