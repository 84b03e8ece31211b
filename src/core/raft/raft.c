/* SPDX-License-Identifier: Apache-2.0 */
#include "core/raft/raft.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"

struct raft {
    raft_node self;
    struct raft_hard_state hard_state;
    enum raft_role role;

    raft_index last_index;
    raft_term last_term;
    raft_index commit_index;

    uint64_t sequence;         /* Of the newest thing to make durable. */
    uint64_t durable_sequence; /* Everything up to here is durable. */
    uint64_t vote_sequence;    /* The own vote of this term; it counts once it is durable. */

    /* A leader persists nothing but entries, one index after the other, so the sequence of its
     * first entry tells the index of every durable sequence. */
    uint64_t leader_first_sequence;
    raft_index leader_first_index;
};

static bool is_consistent(const struct raft *raft)
{
    return raft->commit_index <= raft->last_index && raft->last_term <= raft->hard_state.term &&
           raft->durable_sequence <= raft->sequence &&
           (raft->role == RAFT_ROLE_FOLLOWER || raft->hard_state.vote == raft->self);
}

int raft_create(struct raft **raft, const struct raft_options *options, struct error *error)
{
    ASSERT(options->self != 0);
    if (options->commit_index > options->last_index) {
        return error_say(error, -EINVAL, "the log ends at entry %llu, but %llu is applied",
                         (unsigned long long)options->last_index,
                         (unsigned long long)options->commit_index);
    }
    if (options->last_term > options->hard_state.term) {
        return error_say(error, -EINVAL, "the log has an entry of term %llu after term %llu",
                         (unsigned long long)options->last_term,
                         (unsigned long long)options->hard_state.term);
    }
    struct raft *created = memory_allocate_zeroed(1, sizeof *created);
    created->self = options->self;
    created->hard_state = options->hard_state;
    created->role = RAFT_ROLE_FOLLOWER;
    created->last_index = options->last_index;
    created->last_term = options->last_term;
    created->commit_index = options->commit_index;
    ASSERT(is_consistent(created));
    *raft = created;
    return 0;
}

void raft_destroy(struct raft *raft)
{
    memory_free(raft);
}

raft_index raft_last_index(const struct raft *raft)
{
    return raft->last_index;
}

static struct raft_persist *add_persist(struct raft *raft, struct raft_output *output)
{
    ASSERT(output->persist_count < RAFT_PERSIST_COUNT_MAX);
    struct raft_persist *persist = &output->persists[output->persist_count++];
    *persist = (struct raft_persist){.sequence = ++raft->sequence};
    return persist;
}

static void append_entry(struct raft *raft, struct raft_output *output, bool is_empty)
{
    ASSERT(raft->role == RAFT_ROLE_LEADER);
    raft->last_index++;
    raft->last_term = raft->hard_state.term;
    struct raft_persist *persist = add_persist(raft, output);
    persist->kind = RAFT_PERSIST_ENTRY;
    persist->index = raft->last_index;
    persist->term = raft->last_term;
    persist->is_empty = is_empty;
}

/* Thesis §3.4: a new term, a vote for oneself. With one voter there is nobody to wait for, so there
 * is no election timeout either. */
static void campaign(struct raft *raft, struct raft_output *output)
{
    raft->role = RAFT_ROLE_CANDIDATE;
    raft->hard_state.term++;
    raft->hard_state.vote = raft->self;
    struct raft_persist *persist = add_persist(raft, output);
    persist->kind = RAFT_PERSIST_HARD_STATE;
    persist->hard_state = raft->hard_state;
    raft->vote_sequence = persist->sequence;
    TRACE("raft.campaign", raft->hard_state.term, raft->last_index, 0, 0);
}

/* Thesis §6.4: the empty entry of its own term is what lets a leader learn what is committed. */
static void become_leader(struct raft *raft, struct raft_output *output)
{
    ASSERT(raft->role == RAFT_ROLE_CANDIDATE);
    raft->role = RAFT_ROLE_LEADER;
    raft->leader_first_sequence = raft->sequence + 1;
    raft->leader_first_index = raft->last_index + 1;
    append_entry(raft, output, true);
    TRACE("raft.leader", raft->hard_state.term, raft->leader_first_index, 0, 0);
}

/* I3. The own disk is the whole quorum, and every entry a leader persists is of its own term. */
static void advance_commit(struct raft *raft)
{
    if (raft->role != RAFT_ROLE_LEADER || raft->durable_sequence < raft->leader_first_sequence) {
        return;
    }
    raft_index durable =
        raft->leader_first_index + (raft->durable_sequence - raft->leader_first_sequence);
    if (BUG("raft.commit_before_persisted")) {
        durable = raft->last_index;
    }
    ASSERT(durable <= raft->last_index);
    ASSERT(durable >= raft->commit_index); /* I1 */
    raft->commit_index = durable;
}

static void persisted(struct raft *raft, uint64_t sequence, struct raft_output *output)
{
    ASSERT(sequence <= raft->sequence);
    if (sequence > raft->durable_sequence) {
        raft->durable_sequence = sequence;
    }
    if (raft->role == RAFT_ROLE_CANDIDATE && raft->durable_sequence >= raft->vote_sequence) {
        become_leader(raft, output); /* I2 */
    }
    advance_commit(raft);
}

int raft_step(struct raft *raft, const struct raft_input *input, struct raft_output *output)
{
    output->persist_count = 0;
    switch (input->kind) {
    case RAFT_INPUT_TICK:
        if (raft->role == RAFT_ROLE_FOLLOWER) {
            campaign(raft, output);
        }
        break;
    case RAFT_INPUT_PROPOSE:
        if (raft->role != RAFT_ROLE_LEADER) {
            return ERROR_NOT_LEADER;
        }
        append_entry(raft, output, false);
        if (BUG("raft.commit_before_persisted")) {
            advance_commit(raft);
        }
        break;
    case RAFT_INPUT_PERSISTED:
        persisted(raft, input->persisted_sequence, output);
        break;
    }
    output->commit_index = raft->commit_index;
    output->role = raft->role;
    output->term = raft->hard_state.term;
    output->wake_at_ms = UINT64_MAX;
    ASSERT_SLOW(is_consistent(raft));
    return 0;
}
