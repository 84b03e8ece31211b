/* SPDX-License-Identifier: Apache-2.0 */
/* beats: the heartbeats of many groups, for one other node, as one message. Layer: core.
 *
 * The leader of a group that is at work sends each member a heartbeat every 50 ms, and each is
 * answered. Where a node leads a thousand of them these are 20,000 messages a second to each other
 * node, and as many from it. Those of one tick are alike but for a few bytes: here they become one
 * message of a dozen bytes for each, in the format of docs/formats/beats.md.
 *
 * It is another encoding of the same messages of Raft and nothing else: each group hears what it
 * would have heard, and what the header of core/raft argues of leases, rounds, marks and quiet
 * groups is untouched. What changes is the order: within a tick a heartbeat may be overtaken by
 * what its group sends behind it. As on any network, which may lose and reorder, this is safe; and
 * whoever was overtaken says nothing that the other does not say better.
 *
 * Invariants
 *   I1. What was added comes out as it was, in the same order, but for `from` and `to`, which the
 *       connection tells.
 *   I2. A message is never longer than BEATS_SIZE_BYTES_MAX.
 *
 * Driven by whoever has the connections, once for each tick: it adds what its groups send, and
 * sends what was gathered. Belongs to one thread. */
#ifndef CORE_BEATS_BEATS_H
#define CORE_BEATS_BEATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "core/raft/raft.h"
#include "core/wal/wal.h"

/* Short enough to go between two parts of a long message. */
#define BEATS_SIZE_BYTES_MAX 4096u

/* What is gathered for one node; all zeros: nothing. */
struct beats {
    struct buffer bytes;
    uint64_t base_ms;
};

void beats_deinit(struct beats *beats);

/* Is it a heartbeat, or the answer to one? All else goes by itself. */
bool beats_can_carry(const struct raft_message *message);

/* Of a message that can be carried. False, and nothing is added: it is full; send it first. */
MUST_USE bool beats_add(struct beats *beats, wal_shard shard, const struct raft_message *message);

/* The message with all that was added, borrowed until the next change; empty: nothing was. */
struct bytes beats_message(const struct beats *beats);
/* It was sent, or will never be. */
void beats_clear(struct beats *beats);

/* One that came from another node, which need not be trusted. */
struct beats_reader {
    struct bytes rest; /* Empty: that was all. */
    uint64_t base_ms;
};

/* ERROR_PROTOCOL; ERROR_NEWER_FORMAT. */
MUST_USE int beats_read(struct beats_reader *reader, struct bytes message);
/* The next, while `rest` is not empty; `from` and `to` are 0. ERROR_PROTOCOL: the rest says nothing;
 * those before it stand each for itself. */
MUST_USE int beats_next(struct beats_reader *reader, wal_shard *shard, struct raft_message *beat);

#endif
