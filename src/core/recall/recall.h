/* SPDX-License-Identifier: Apache-2.0 */
/* recall: what the commands of the log found when they were executed. Layer: core.
 *
 * Most commands look at the row that they change. A replay executes them again, on a store that is
 * still as it was before them, and would have to read all those rows: that is most of its work.
 * But what they met is known since they were executed for the first time, and for most it is one of
 * two things: nothing, or something that is simply replaced. So a node writes that down, a byte
 * for each command, and a replay of the same entry on the same state believes it.
 *
 * Invariants
 *   I1. What was noted is true for ever: it is about one entry applied to one state, told by a digest over
 *       the entry and all changes before it, and whoever executes that entry on that state finds
 *       the same. It is asked for with the index and the term, and used only if the digest is that of
 *       the entry and the state.
 *   I2. Nobody needs it. What is lost, torn or damaged is looked up instead, so it is never flushed,
 *       and old files may be removed or come from another life of the node.
 *
 * Driven by the thread that applies entries, who notes what was found, takes the groups and has them
 * appended to a file. At the start the files are loaded, from the oldest to the newest. Byte table:
 * docs/formats/recall.md.
 *
 * Memory: what is gathered, at most RECALL_GATHERED_SIZE_BYTES_MAX, and what was loaded until
 * recall_forget(). */
#ifndef CORE_RECALL_RECALL_H
#define CORE_RECALL_RECALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "core/raft/raft.h"
#include "core/wal/wal.h"

/* More is dropped while nobody takes it. */
#define RECALL_GATHERED_SIZE_BYTES_MAX (256u << 10)

/* What the commands of one entry found. The meaning of a byte is the state machine's, and stays the
 * same for ever; 0: nothing is known. */
struct recall_entry {
    wal_shard shard;
    raft_index index;
    raft_term term;
    uint64_t digest; /* Of the state before the entry, and of the entry. */
    struct bytes found;
};

struct recall;
struct recall *recall_create(void);
void recall_destroy(struct recall *recall);

/* ---- Noting ---------------------------------------------------------------------------------- */

/* Copies it; if nothing is known of any command, there is nothing to note. */
void recall_note(struct recall *recall, const struct recall_entry *entry);

/* How much recall_take() would append; 0: nothing. */
size_t recall_gathered_size_bytes(const struct recall *recall);

/* Append what was noted to `target`, as one group of a file with this number, and begin anew. */
void recall_take(struct recall *recall, uint64_t file_number, struct buffer *target);

/* ---- Recalling ------------------------------------------------------------------------------- */

/* The number of a file with this content; 0: it has none. */
uint64_t recall_file_number(struct bytes content);

/* Load the groups at the beginning of the content (borrowed) that are whole, of them what is about
 * entries from `first_needed` on, which is called for each shard now and then. Returns how many bytes
 * the groups have. */
size_t recall_load(struct recall *recall, struct bytes content,
                   raft_index (*first_needed)(void *context, wal_shard shard), void *context);

/* Of `entry`, shard, index, term and the size of `found` are given; true: what was loaded newest of it
 * is there, with the digest. Borrowed until the next load. */
bool recall_find(struct recall *recall, struct recall_entry *entry);

/* Free what was loaded. */
void recall_forget(struct recall *recall);

#endif
