/* SPDX-License-Identifier: Apache-2.0 */
/* rows: what a state machine sees of the ordered store. Layer: core.
 *
 * A `struct rows` is a view with three levels: the changes that the store does not have yet, a
 * cache of hot rows, and the store. A state machine reads and writes through it and sees its own
 * changes at once. The changes go to the store as batches, in two generations: while one is being
 * written, on whatever thread, later changes gather for the next.
 *
 * Invariants
 *   I1. A read returns the newest change made through this view, else the row of the store.
 *   I2. Nothing reaches the store but by rows_commit_write(); what rows_commit_begin() found reaches
 *       it in one write, as it was at that call.
 *   I3. A cached row (or cached absence) equals the store's row unless it is changed and not yet
 *       committed.
 *   I4. Cached bytes exceed the limit by no more than the changes of two batches and the rows that
 *       came last: what is too much, as after a commit, is evicted little by little by later calls.
 *
 *   I5. A view that is complete has every row of the store in its table: what is not there does not
 *       exist, and the store is not asked.
 *
 *   I6. Of a long value that the store has, the cache may keep the head only. Nobody sees a
 *       difference but in time: who wants more than the head reads the store.
 *
 * Nobody else writes rows that a view may read. A view of an empty store is complete, until the first
 * row does not find room in the cache.
 *
 * There are two kinds. A *live* view has the cache and takes changes; there is one per shard
 * replica and it belongs to the shard's reactor. A *snapshot* view has neither cache nor changes,
 * reads the disk, and belongs to a worker thread for the length of one command.
 *
 * Bytes that a read gives are borrowed until the next call on the same view; that call, when it
 * changes the view, may still be given them. */
#ifndef CORE_ROWS_ROWS_H
#define CORE_ROWS_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "core/env/env.h"

struct rows;

/* Give a live view. `cache_size_bytes` bounds the cached rows with their overhead. */
struct rows *rows_create(struct env_store store, uint64_t cache_size_bytes);

/* Give a view of `snapshot` (borrowed until destroy) that may block on the disk. */
struct rows *rows_create_at(struct env_store store, const struct env_store_snapshot *snapshot);
void rows_destroy(struct rows *rows);
bool rows_is_live(const struct rows *rows);

/* How far reads of a live view go from now on: ENV_TIER_MEMORY for reads that can be handed to a
 * worker, ENV_TIER_DISK while an entry is applied (counted, because it blocks the reactor). */
void rows_set_tier(struct rows *rows, enum env_tier tier);

/* Reads in the disk tier ask the memory first, so that those which block are counted. While most of
 * them go to the disk and nobody waits, as in a replay, that is a second look-up for nothing: true
 * leaves it and the counting out. */
void rows_expect_disk(struct rows *rows, bool is_expected);

/* The value of a row. -ENOENT; ERROR_INCOMPLETE (memory tier); -EIO, ERROR_CORRUPT from the
 * store. */
MUST_USE int rows_get(struct rows *rows, struct bytes key, struct bytes *value);

/* Live views only. The row will be looked for soon: have the processor fetch the place in the table,
 * without waiting for it; and some dozens of such calls later, with what the first gave, the row. A look into a
 * table that no cache of the processor holds is otherwise two waits for memory, one after the other. */
uint64_t rows_approach(const struct rows *rows, struct bytes key);
void rows_approach_row(const struct rows *rows, uint64_t approach);

/* Does a row that is not in memory not exist at all? (I5) */
bool rows_is_complete(const struct rows *rows);

/* Enough for who asks whether a row is there, and what it is. */
#define ROWS_HEAD_SIZE_BYTES 24u
#define ROWS_WHOLE_SIZE_BYTES 64u

/* Like rows_get(), for who needs no more than the beginning of a long value: what it gives are at least
 * the first ROWS_HEAD_SIZE_BYTES of it, and all of a value of up to ROWS_WHOLE_SIZE_BYTES. */
MUST_USE int rows_get_head(struct rows *rows, struct bytes key, struct bytes *head);

/* Live views only. `rows_put` copies key and value. A range is lower <= row < upper, none when
 * lower >= upper; deleting one costs little, however many rows it has. */
void rows_put(struct rows *rows, struct bytes key, struct bytes value);
void rows_delete(struct rows *rows, struct bytes key);
void rows_delete_range(struct rows *rows, struct bytes lower, struct bytes upper);

/* ---- Committing ------------------------------------------------------------------------------ */

/* Freeze the changes made so far: they are the batch. Costs the same however many they are. Later
 * changes belong to the next batch, reads see both. False: there is nothing to write. Not while
 * another batch is frozen. */
MUST_USE bool rows_commit_begin(struct rows *rows);

/* Any thread, while the view is used on its own: write the batch to the store, sorted by key. On
 * -EBUSY nothing changed: call again later. Other errors are final. The caller hands the view from
 * thread to thread, so that this and what follows see what came before. */
MUST_USE int rows_commit_write(struct rows *rows, struct error *error);

/* The view's thread: the batch is written; its rows are clean ones now. */
void rows_commit_end(struct rows *rows);

/* Is there a batch between begin and end? */
bool rows_is_committing(const struct rows *rows);

/* All of it at once, first for the batch that is frozen: afterwards the store has every change. On
 * -EBUSY a part of them: call again later. */
MUST_USE int rows_commit(struct rows *rows, struct error *error);

/* The digest chained over every change made through this view, in the order of the calls: equal
 * histories give equal digests on every replica, whenever they commit. It starts from what was
 * set. */
uint64_t rows_digest(const struct rows *rows);
void rows_set_digest(struct rows *rows, uint64_t digest);

/* What waits for rows_commit_begin(): rows (a deleted range counts as one), and bytes in memory. */
uint32_t rows_change_count(const struct rows *rows);
uint64_t rows_change_size_bytes(const struct rows *rows);

/* ---- Iterating ------------------------------------------------------------------------------- */

/* Rows in order, the view's own changes included. Changing the view ends every iterator of it
 * (rows_iterator_next() asserts), and so do the begin and the end of a commit; so collect first and
 * change afterwards. */
struct rows_iterator;
MUST_USE int rows_iterator_open(struct rows *rows, struct bytes lower, struct bytes upper,
                                struct rows_iterator **iterator);
void rows_iterator_close(struct rows_iterator *iterator);
/* 0; -ENOENT at the end; ERROR_INCOMPLETE; -EIO; ERROR_CORRUPT. */
MUST_USE int rows_iterator_seek(struct rows_iterator *iterator, struct bytes key);
MUST_USE int rows_iterator_next(struct rows_iterator *iterator);
struct bytes rows_iterator_key(const struct rows_iterator *iterator);
struct bytes rows_iterator_value(const struct rows_iterator *iterator);

/* ---- The cache ------------------------------------------------------------------------------- */

/* Fetch many rows at once, which costs a fraction of looking each up, on several threads. From begin
 * to divide rows_get() does not ask the store: what is not in memory is noted, and answered
 * ERROR_INCOMPLETE. Divide puts what was noted in order of key, into parts; each of them is
 * to be run, on any thread, together or one after the other. Until the end, which takes the fetch, the
 * view is not used, but a batch may be written. It only warms the cache: of what has no room, or
 * cannot be read, nothing is kept. Live views only. */
struct rows_fetch;
struct rows_fetch *rows_fetch_begin(struct rows *rows);
uint32_t rows_fetch_count(const struct rows_fetch *fetch); /* Noted so far. */
void rows_fetch_divide(struct rows_fetch *fetch, uint32_t part_count);
void rows_fetch_run(struct rows_fetch *fetch, uint32_t part);
void rows_fetch_end(struct rows_fetch *fetch);

/* Bound the cache anew; rows that are too many go little by little, with later calls. */
void rows_set_cache_size(struct rows *rows, uint64_t cache_size_bytes);
/* Evict what is too much, passing so many slots at most. False: it fits. */
bool rows_trim(struct rows *rows, uint64_t step_count_max);

/* From now on keep heads, or whole values. Heads are what a replica needs that executes writes but
 * answers nobody: a third of the memory of a row of 256 bytes. A row of which more was read meanwhile is
 * kept whole, as it may be read so again (an APPEND, say). What is in memory becomes short with
 * rows_shorten(), and whole when it is read. */
void rows_keep_heads(struct rows *rows, bool are_wanted);
/* Pass so many rows at most. False: those that are in memory are short. */
bool rows_shorten(struct rows *rows, uint64_t step_count_max);

struct rows_statistics {
    bool is_complete; /* I5 */
    uint64_t cached_row_count;
    uint64_t cached_size_bytes; /* With the changes that are not committed. */
    uint64_t hit_count;
    uint64_t miss_count;
    uint64_t evicted_count;       /* For lack of room; those that were not kept at all, too. */
    uint64_t blocking_read_count; /* Reads of a live view that went to the disk unexpectedly. */
};
void rows_get_statistics(const struct rows *rows, struct rows_statistics *statistics);

#endif
