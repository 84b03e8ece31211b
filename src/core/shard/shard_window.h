/* SPDX-License-Identifier: Apache-2.0 */
/* The window: which writes with an identity are on their way, and what the newest ones that were
 * applied have answered (I7 of shard.h). In memory only; each replica fills its own by applying.
 *
 * Answers go when their gateway needs them no more (its *floor* has risen above them), when they
 * are old, or when all take too much. Whatever goes, it stays known that it was there: by
 * identity, or by how far back the window reaches.
 *
 * Invariants
 *   W1. The answer of every write of an entry above shard__window_covered() that was applied is
 *       known, or else it is known that it is lost (W2), or that answers of its origin up to its
 *       sequence are forgotten.
 *   W2. What is kept takes at most the limit, but for the newest entry, and what is still to go since
 *       the limit was lowered or a floor has risen. Of an entry whose replies are more than the limit,
 *       and than a mebibyte, the long ones are not kept: nobody knows them any more.
 *   W3. No call takes long: nothing is done to all that is kept at once (but to all of one gateway's
 *       answers, when another takes its place among SHARD_WINDOW_ORIGIN_COUNT_MAX).
 *   W4. What is forgotten because of a floor does not change how far the window reaches.
 *
 * Belongs to a shard and its thread. */
#ifndef CORE_SHARD_SHARD_WINDOW_H
#define CORE_SHARD_SHARD_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "core/raft/raft.h"
#include "core/shard/shard.h"

/* Gateways that are remembered; the window reaches less far back when there were more. */
#define SHARD_WINDOW_ORIGIN_COUNT_MAX 512u

struct shard_window;

struct shard_window *shard__window_create(uint64_t size_bytes_max);
/* Keep no more from now on: what is too much goes little by little, as entries are applied, or by
 * shard__window_trim(): at most so many answers. False: nothing has to go any more. */
void shard__window_set_size(struct shard_window *window, uint64_t size_bytes_max);
bool shard__window_trim(struct shard_window *window, uint32_t count);
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
    SHARD_WINDOW_FORGOTTEN, /* It was, or may have been, applied: the answer is gone. */
};
/* `reply` is borrowed until the window changes. */
enum shard_window_answer shard__window_find(const struct shard_window *window, uint64_t origin,
                                            uint64_t sequence, struct bytes *reply);

/* ---- What is not needed any more ------------------------------------------------------------- */

/* The gateway will never ask again for what is below. One that is below an earlier one is late, and
 * changes nothing. */
void shard__window_set_floor(struct shard_window *window, const struct shard_floor *floor);
/* A planted bug: what the other gateways have below that goes. */
void shard__window_forget_others(struct shard_window *window, const struct shard_floor *floor);
/* Floors that have risen since they were last taken. */
bool shard__window_has_news(const struct shard_window *window);
uint32_t shard__window_take_news(struct shard_window *window, struct shard_floor *floors,
                                 uint32_t count_max);
/* Time goes by: what was there when this was called before goes now, little by little; and where
 * nothing was going on since, so does memory for what may come. True: there is nothing any more
 * to be called for. */
bool shard__window_age(struct shard_window *window);

struct shard_window_figures {
    uint64_t answer_count;
    uint64_t forgotten_count; /* So far, because of floors or age. */
    uint64_t size_bytes;
    uint32_t origin_count;
};
struct shard_window_figures shard__window_figures(const struct shard_window *window);

#endif
