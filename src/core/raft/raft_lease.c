/* SPDX-License-Identifier: Apache-2.0 */
/* Reads without the log (thesis §6.4).
 *
 * By round: a request of a round that was begun after the read was asked for, answered by a quorum,
 * shows that there was no newer leader then. No clock is involved.
 *
 * By lease (§6.4.1): whoever answers a request has heard of this leader after it was sent, and
 * grants no vote until an election timeout has passed on its own clock since then (I7). So until
 * `sent + timeout`, by a clock as fast as theirs, no quorum can elect another. A quarter of the
 * timeout is left off, for clocks that run at different rates (a third faster at most) and for
 * drivers that take the time once per turn of their loop. Every member must have the same timeout.
 *
 * The one who is told to campaign (§3.10) need not wait, and its requests for votes are exempt from
 * I7. That message may be late by any time, so once it has left there is no lease for the rest of
 * the term, even if the handover is given up: reads go by rounds.
 *
 * A leader that is not among the voters has no lease either: when the configuration has shrunk to
 * one voter, that one campaigns without waiting, and after a restart owes nothing. Whoever has such
 * a configuration in its log, and hears of another leader, hears of one that has it in its log too:
 * it was put there when the joint one was committed, so every later leader has that and needed this
 * member's vote, which it got for a log with at least the same entries. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/raft/raft_internal.h"

uint64_t raft__confirmed_round(const struct raft *raft)
{
    ASSERT(raft->role == RAFT_ROLE_LEADER);
    return raft__quorum(raft, RAFT_MEASURE_ROUND);
}

uint64_t raft__lease_until_ms(const struct raft *raft)
{
    ASSERT(raft->role == RAFT_ROLE_LEADER);
    if (raft->has_lost_lease || raft->commit_index < raft->start_index ||
        !raft__is_voter(raft, raft->self)) {
        return 0;
    }
    if (raft__is_only_voter(raft)) {
        return UINT64_MAX;
    }
    uint64_t sent_at_ms = raft__quorum(raft, RAFT_MEASURE_SENT_AT);
    uint64_t length_ms = (uint64_t)raft->election_timeout_ms * 3 / 4;
    if (BUG("raft.lease_without_margin")) {
        length_ms = raft->election_timeout_ms;
    }
    bool is_over = sent_at_ms == 0 || sent_at_ms + length_ms <= raft->now_ms;
    return is_over ? 0 : sent_at_ms + length_ms;
}
