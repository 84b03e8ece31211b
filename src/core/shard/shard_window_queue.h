/* SPDX-License-Identifier: Apache-2.0 */
/* The answers of one gateway in the window, in the order in which they were applied. They lie
 * one behind the other in chunks, and never move. */
#ifndef CORE_SHARD_SHARD_WINDOW_QUEUE_H
#define CORE_SHARD_SHARD_WINDOW_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/list/list.h"
#include "core/raft/raft.h"

struct window_answer {
    uint64_t sequence;
    raft_index index;
    uint32_t reply_size_bytes;
    bool is_lost; /* It was too long to be kept. */
    uint8_t reply[];
};

/* A few chunks that are empty, for all queues of a window: answers come and go. */
struct window_spares {
    struct list chunks;
    uint32_t count;
};

void shard__window_spares_init(struct window_spares *spares);
void shard__window_spares_free(struct window_spares *spares);

struct window_queue {
    struct list chunks;
    size_t chunk_size_bytes; /* Of the newest. */
};

void shard__window_queue_init(struct window_queue *queue);
bool shard__window_queue_is_empty(const struct window_queue *queue);
/* The reply is copied; longer ones than UINT32_MAX are lost. */
const struct window_answer *shard__window_queue_push(struct window_queue *queue,
                                                     struct window_spares *spares,
                                                     uint64_t sequence, raft_index index,
                                                     struct bytes reply);
/* That there was one is all that is known of it. */
const struct window_answer *shard__window_queue_push_lost(struct window_queue *queue,
                                                          struct window_spares *spares,
                                                          uint64_t sequence, raft_index index);
/* The oldest; there is one. */
const struct window_answer *shard__window_queue_first(const struct window_queue *queue);
void shard__window_queue_pop(struct window_queue *queue, struct window_spares *spares);
/* What an answer takes in its chunk. */
size_t shard__window_answer_size_bytes(const struct window_answer *answer);

#endif
