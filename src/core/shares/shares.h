/* SPDX-License-Identifier: Apache-2.0 */
/* shares: who gets how much of a memory budget that many share. Layer: core.
 *
 * A member may take so much (its *limit*), and says now and then how much it has taken and how much it was
 * asked for. Who has not enough gets what others do not need: of what is left above a floor for everybody,
 * each gets in proportion to how often it was asked lately (half of that is forgotten in HALF_LIFE
 * rounds), but no more than it can use. As long as nobody wants more, nothing is taken from anybody,
 * however idle.
 *
 * Invariants
 *   I1. The limits together are at most the budget, and so are, of each member, the greater of its limit
 *       and of what it said it had taken: what was lowered is given to others only once it is free. So it is as long as nobody says that it
 *       has taken more than its limit was.
 *   I2. No limit is below the floor, once the others have made room for it: an eighth of the budget for
 *       all together, or floor_size_bytes_max for each, whichever is less.
 *   I3. A round costs as much as there are members that have more than the floor or were asked since the
 *       last round, however many others there are.
 *
 * Who drives it: one thread. After shares_note() for each member that was asked or has other memory than
 * before, shares_settle() calls back for those whose limit has changed. Limits change in steps: a little
 * more or less is left as it is. Deterministic. Memory: 56 bytes for each member. */
#ifndef CORE_SHARES_SHARES_H
#define CORE_SHARES_SHARES_H

#include <stdbool.h>
#include <stdint.h>

struct shares;

struct shares_options {
    uint64_t budget_size_bytes; /* Above 0. */
    uint64_t floor_size_bytes_max;
    uint32_t member_count_max;
};

struct shares *shares_create(const struct shares_options *options);
void shares_destroy(struct shares *shares);

/* One more member; gives its number, counted from 0. It begins with the floor, which may be lower from
 * now on, also for others: the next shares_settle() says so. */
uint32_t shares_add(struct shares *shares);

/* What the member has taken by now, how often it was asked since it said so last, and whether it had to let
 * go of something that it would rather have kept. */
void shares_note(struct shares *shares, uint32_t member, uint64_t used_size_bytes,
                 uint64_t request_count, bool is_short);

/* End of a round: set() is called for each member whose limit has changed. */
void shares_settle(struct shares *shares,
                   void (*set)(void *context, uint32_t member, uint64_t limit_size_bytes),
                   void *context);

uint32_t shares_count(const struct shares *shares);
uint64_t shares_limit(const struct shares *shares, uint32_t member);
/* Of all members together, the greater of limit and use of each. */
uint64_t shares_committed(const struct shares *shares);

#endif
