/* SPDX-License-Identifier: Apache-2.0 */
/* raft_life: random lives of groups, each a function of its seed; for tests only.
 *
 * Phase one does whatever can go wrong and checks after every step what must always hold: election
 * safety, leader completeness, log matching, state machine safety (figure 3.2 of the thesis), I1,
 * I2, I6, I8, that a pre-vote raises no term, and that a read under a lease or by a confirmed round
 * sees every write that was acknowledged before it was asked for. Phase two heals everything and
 * demands that all members apply what is proposed then. */
#ifndef CORE_RAFT_RAFT_LIFE_H
#define CORE_RAFT_RAFT_LIFE_H

#include <stdbool.h>
#include <stdint.h>

/* Returns what was violated, until the next call; empty: nothing. `bug` is the planted bug that is
 * switched on, or NULL. Tracing prints what happens. */
const char *raft__life_run(uint64_t seed, const char *bug, bool is_tracing);

/* Of the life that runs, for when an assertion ends it. */
uint64_t raft__life_seed(void);
/* The i-th rare branch that was met so far; NULL: there are no more. */
const char *raft__life_probe(uint32_t i);

#endif
