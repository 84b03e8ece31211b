/* SPDX-License-Identifier: Apache-2.0 */
/* store: the ordered rows of a node on its disk, in RocksDB. Layer: driver.
 *
 * Implements `struct env_store`. There is no log here: what was written is durable after the next
 * flush, and until then the node's own log has it. Who keeps an applied index among the rows reads
 * it, then calls store_flush(): everything up to that index is durable afterwards, and after a
 * crash the store is as it was after some write not older than that one.
 *
 * Invariants
 *   I1. A batch is on the disk whole or not at all: there is one column family.
 *   I2. A write never waits for the disk: when RocksDB would make it wait, it is -EBUSY.
 *   I3. Once STORE_FAILED, always: every later write and flush fails. Reads may still work.
 *   I4. STORE_FULL ends by itself: who goes on calling store_flush() brings the store back, within
 *       a second after space was freed, with everything that was written to it.
 *
 * Reads and iterators may be used by several threads (an iterator by one), writes by one at a time;
 * flush, compact and statistics by any, they block. RocksDB has background threads of its own.
 * Owner of RocksDB: nothing else includes its headers. */
#ifndef DRIVER_STORE_STORE_H
#define DRIVER_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "core/env/env.h"

struct store;

#define STORE_WRITE_BUFFER_SIZE_MIN (3 * 1024 * 1024)

struct store_options {
    const char *directory; /* Created when it is missing; its parent must be there. */

    /* Bounds blocks, indexes, filters and write buffers together: the buffers are charged to it. */
    uint64_t cache_size_bytes;

    /* Of these at most so much for rows that are not flushed. At least
     * STORE_WRITE_BUFFER_SIZE_MIN. As much space on the disk is left to flushes: a compaction that
     * would take it fails for want of space. */
    uint64_t write_buffer_size_bytes;

    uint32_t background_job_count; /* Flushes and compactions at a time; 0: two. */

    /* Table files that are held open, about; at least 20; 0: 512. A read of another one opens it,
     * and closes one. */
    uint32_t open_file_count_max;

    bool is_compaction_deferred; /* Nothing is compacted before store_begin_compaction(). */

    bool is_read_only; /* For checks: nothing is created or changed; every write and flush fails. */
};

/* Give an open store. -ENOSPC; -EACCES; -EBUSY: another process has it open; ERROR_CORRUPT;
 * ERROR_NEWER_FORMAT; -EINVAL; -EIO. The message is for a person. The store's threads never run
 * handlers of signals. */
MUST_USE int store_open(struct store **store, const struct store_options *options,
                        struct error *error);

/* Every iterator and snapshot must have ended. Does not flush: call store_flush() before when what
 * was written shall not have to come from the log again. */
void store_close(struct store *store);

/* The interface, valid until close. Its write() answers -EBUSY also while the store is full. */
struct env_store store_interface(struct store *store);

/* Make every row written so far durable; blocks. -ENOSPC: the store is full, nothing is lost, call
 * again later (see I4). Any other error is final: the node must stop, what is on the disk is
 * unknown. */
MUST_USE int store_flush(struct store *store, struct error *error);

enum store_health {
    STORE_WELL,
    STORE_FULL,   /* No space for a flush. (A compaction without space is tried again by itself.) */
    STORE_FAILED, /* For ever: a flush or compaction failed, or met damaged rows. */
};

/* How the background work fares. Unless well, `reason` (may be NULL) says why. Takes a lock that is
 * held briefly. */
enum store_health store_get_health(struct store *store, struct error *reason);

/* Would a write be refused now or soon, because flushes or compactions lag? Cheap. */
bool store_is_stalled(const struct store *store);

/* Compact from now on, where it was deferred at opening; may be called again. Any thread; takes
 * milliseconds, because RocksDB writes its options to a file. */
void store_begin_compaction(struct store *store);

/* Have the rows with lower <= row < upper compacted, so that the space of those deleted returns.
 * Blocks, for long; writes and flushes go on, other compactions wait. -ENOSPC: another time. */
MUST_USE int store_compact_range(struct store *store, struct bytes lower, struct bytes upper,
                                 struct error *error);

/* Read every block of the store in `directory`, which nobody has open, and compare its checksum.
 * Changes nothing, there and elsewhere. ERROR_CORRUPT names the first damaged file. */
MUST_USE int store_verify(const char *directory, struct error *error);

/* About how many bytes the rows with lower <= row < upper take: in tables compressed, in write
 * buffers as they are, with deleted ones until those are compacted away. Looks at the indexes of
 * tables only, so a range is off by a block at each end. */
uint64_t store_estimate_size_bytes(struct store *store, struct bytes lower, struct bytes upper);

struct store_statistics {
    uint64_t write_buffer_size_bytes; /* Rows that are not flushed, and that are being flushed. */
    uint64_t cache_used_bytes;        /* With write buffers. */
    uint64_t table_size_bytes;        /* On the disk. */
    uint64_t table_count;
    uint64_t row_count_estimate;
    uint64_t pending_compaction_bytes;
    uint64_t running_compaction_count;
    uint64_t running_flush_count;
    uint64_t background_error_count;
    uint64_t refused_write_count; /* Answered -EBUSY. */
    uint64_t written_batch_count;
    uint64_t cache_hit_count; /* Of blocks. */
    uint64_t cache_miss_count;
};
void store_get_statistics(struct store *store, struct store_statistics *statistics);

#endif
