/* SPDX-License-Identifier: Apache-2.0 */
/* The window: which writes with an identity are on their way, and what the newest ones that were
 * applied have answered (I7 of shard.h). In memory only; each replica fills its own by applying.
 *
 * Invariants
 *   W1. The answer of every write of an entry above shard__window_covered() that was applied is
 *       known.
 *   W2. What is kept takes at most the limit, but for the newest entry.
 *   W3. No call takes long: nothing is done to all that is kept at once.
 *
 * Belongs to a shard and its thread. */
#ifndef CORE_SHARD_SHARD_WINDOW_H
#define CORE_SHARD_SHARD_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "core/raft/raft.h"

struct shard_window;

struct shard_window *shard__window_create(uint64_t size_bytes_max);
void shard__window_destroy(struct shard_window *window);

/* Forget everything; entries up to `covered` are not known. */
void shard__window_reset(struct shard_window *window, raft_index covered);
raft_index shard__window_covered(const struct shard_window *window);

/* A write is on its way, until it is applied or forgotten. */
void shard__window_add_pending(struct shard_window *window, uint64_t origin, uint64_t sequence);
void shard__window_forget_pending(struct shard_window *window, uint64_t origin, uint64_t sequence);

/* An entry was applied: begin, the answers of its writes with an identity in their order (the
 * replies are copied), end. */
void shard__window_begin(struct shard_window *window, raft_index index);
void shard__window_add(struct shard_window *window, uint64_t origin, uint64_t sequence,
                       struct bytes reply);
void shard__window_end(struct shard_window *window);

enum shard_window_answer {
    SHARD_WINDOW_UNKNOWN, /* Not on its way, and not applied in an entry above the covered index. */
    SHARD_WINDOW_PENDING,
    SHARD_WINDOW_ANSWERED,
};
/* `reply` is borrowed until the window changes. */
enum shard_window_answer shard__window_find(const struct shard_window *window, uint64_t origin,
                                            uint64_t sequence, struct bytes *reply);

#endif
