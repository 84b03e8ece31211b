/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be made durable, and up to where the own log is.
 *
 * Things become durable in the order of their sequence. Which entry a sequence makes durable is
 * kept for the writes that are under way. A truncation lowers what they will have made durable of
 * the log as it is now: their entries from there on are void by then. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/raft/raft_internal.h"

static struct raft_write *write_at(struct raft *raft, uint32_t position)
{
    ASSERT(position < RAFT_WRITE_COUNT_MAX);
    return &raft->writes[(raft->write_first + position) % RAFT_WRITE_COUNT_MAX];
}

static struct raft_persist *add_persist(struct raft *raft, enum raft_persist_kind kind)
{
    ASSERT(raft->persist_count < RAFT_PERSIST_COUNT_MAX);
    if (raft->sequence == raft->durable_sequence) {
        raft->persisting_since_ms = raft->now_ms;
    }
    struct raft_persist *persist = &raft->persists[raft->persist_count++];
    raft->sequence++;
    persist->kind = kind;
    persist->sequence = raft->sequence;
    persist->hard_state = raft->hard_state;
    persist->message_offset = 0;
    return persist;
}

void raft__set_hard_state(struct raft *raft, raft_term term, raft_node vote)
{
    ASSERT(term >= raft->hard_state.term);                                 /* I1 */
    ASSERT_IF(term == raft->hard_state.term, raft->hard_state.vote == 0 || /* I2 */
                                                 raft->hard_state.vote == vote);
    raft->hard_state = (struct raft_hard_state){.term = term, .vote = vote};
    if (raft->persist_count > 0) {
        struct raft_persist *newest = &raft->persists[raft->persist_count - 1];
        if (newest->kind == RAFT_PERSIST_HARD_STATE) {
            newest->hard_state = raft->hard_state;
            return;
        }
    }
    raft->hard_state_sequence = add_persist(raft, RAFT_PERSIST_HARD_STATE)->sequence;
}

struct raft_persist *raft__persist_entries(struct raft *raft, raft_index index, uint32_t count)
{
    ASSERT(count > 0 && index + count - 1 == raft->log.last_index);
    struct raft_persist *persist = add_persist(raft, RAFT_PERSIST_ENTRIES);
    persist->index = index;
    persist->count = count;
    struct raft_write *write = NULL;
    if (raft->write_count == RAFT_WRITE_COUNT_MAX) {
        write = write_at(raft, raft->write_count - 1);
    } else {
        write = write_at(raft, raft->write_count);
        raft->write_count++;
    }
    *write = (struct raft_write){.sequence = persist->sequence, .index = raft->log.last_index};
    return persist;
}

void raft__persist_truncation(struct raft *raft, raft_index index)
{
    ASSERT(index > raft->commit_index);
    PROBE("raft.log.truncated");
    raft__log_truncate(&raft->log, index);
    raft->durable_index = number_min(raft->durable_index, index - 1);
    for (uint32_t i = 0; i < raft->write_count; i++) {
        struct raft_write *write = write_at(raft, i);
        write->index = number_min(write->index, index - 1);
    }
    struct raft_persist *persist = add_persist(raft, RAFT_PERSIST_TRUNCATE);
    persist->index = index;
    persist->count = 0;
}

void raft__set_durable(struct raft *raft, uint64_t sequence)
{
    ASSERT(sequence <= raft->sequence);
    if (sequence <= raft->durable_sequence) {
        return;
    }
    raft->durable_sequence = sequence;
    raft->persisting_since_ms = raft->now_ms;
    while (raft->write_count > 0 && write_at(raft, 0)->sequence <= sequence) {
        raft->durable_index = number_max(raft->durable_index, write_at(raft, 0)->index);
        raft->write_first = (raft->write_first + 1) % RAFT_WRITE_COUNT_MAX;
        raft->write_count--;
    }
    ASSERT(raft->durable_index <= raft->log.last_index);
}

uint64_t raft__sequence_of(const struct raft *raft, raft_index index)
{
    ASSERT(index <= raft->log.last_index);
    if (index <= raft->durable_index) {
        return 0;
    }
    for (uint32_t i = 0; i < raft->write_count; i++) {
        const struct raft_write *write =
            &raft->writes[(raft->write_first + i) % RAFT_WRITE_COUNT_MAX];
        if (write->index >= index) {
            return write->sequence;
        }
    }
    ASSERT(false); /* An entry is durable or on its way. */
    return raft->sequence;
}

bool raft__is_hard_state_durable(const struct raft *raft)
{
    return raft->hard_state_sequence <= raft->durable_sequence;
}

raft_index raft__own_match(const struct raft *raft)
{
    if (BUG("raft.commit_before_persisted") && raft->role == RAFT_ROLE_LEADER) {
        return raft->log.last_index;
    }
    return raft->durable_index;
}

raft_index raft__applicable_index(const struct raft *raft)
{
    if (BUG("raft.applied_before_durable")) {
        return raft->commit_index;
    }
    return number_min(raft->commit_index, raft__own_match(raft));
}
