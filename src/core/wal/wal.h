/* SPDX-License-Identifier: Apache-2.0 */
/* wal: the node's log, shared by all its shards. Layer: core.
 *
 * Segments of fixed size, written once over and recycled, because overwriting written blocks makes
 * a flush about twice as fast as extending a file. Byte tables: docs/formats/wal.md.
 *
 * Invariants
 *   I1. A record is believed only if its header and payload checksums hold and it says that it
 *       belongs to the very segment (number in the life of the log) and offset it was found at.
 *   I2. What was flushed is never cut. An invalid place is the torn tail only if no valid record
 *       behind it was written after the place had been flushed (every record says up to where the
 *       log was durable when it was written); otherwise it is damage. If anything that is needed was
 *       lost by it, wal_open() fails, or, where the owner of the shards goes on without it (see
 *       struct wal_loss), says of which shards, and from which entry on.
 *   I3. A segment is reused only when every entry in it is released (durable in the store) or
 *       truncated, and the newest hard state of every shard stands in a later segment.
 *   I4. After a failed flush or write every call fails with the same status: the node must stop.
 *
 * Driven by the log writer's thread (real node) or the simulator; never by two threads at once. */
#ifndef CORE_WAL_WAL_H
#define CORE_WAL_WAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "core/env/env.h"
#include "core/raft/raft.h"

typedef uint32_t wal_shard;

#define WAL_SEGMENT_SIZE_BYTES (64u << 20)
/* The longest payload of one entry; one longer than a segment is fine, it is cut into fragments. */
#define WAL_ENTRY_SIZE_BYTES_MAX (1u << 30)

enum wal_record_kind {
    WAL_RECORD_ENTRY = 1,      /* shard, index, term, payload. */
    WAL_RECORD_HARD_STATE = 2, /* shard, hard_state. */
    /* shard, index: entries from here on are void. All of them, with index 1: the next one may have any
     * index, and nothing of what comes is released yet. */
    WAL_RECORD_TRUNCATE = 3,
};

struct wal_record {
    enum wal_record_kind kind;
    wal_shard shard;
    raft_index index;
    raft_term term;
    struct raft_hard_state hard_state;
    struct bytes payload;
    bool ends_loss; /* Of a WAL_RECORD_TRUNCATE; the log's own. */
};

struct wal;

/* A place of the log that is not as it was written. */
struct wal_damage {
    uint64_t segment; /* Its sequence, which is its name. */
    uint32_t offset;
    wal_shard shard; /* Of the entry that was lost, when `index` is not 0. */
    raft_index index;
    bool is_needed; /* False: the store has all that was lost. */
    const char *reason;
};

/* What was lost of a shard. All that stands before the first damage is kept, and what stands behind
 * it of shards that lost nothing: a table at the head of a later segment tells that, by the index and
 * the term of the last entry, which in Raft name all entries before it too. Where none follows, the
 * newest term and vote of every shard may be among what was lost. */
struct wal_loss {
    wal_shard shard;
    /* Of every shard that the log does not name: all that it had of them. `shard`, `index`: 0. */
    bool is_of_unnamed;
    raft_index index; /* Entries from here on are lost; the log ends before it now. */
    uint64_t segment; /* Where the damage is. */
    uint32_t offset;
    const char *reason;
};

/* So many damaged segments are kept aside, as damaged-NNNNNNNNNNNNNNNN, for whoever wants to look at
 * them. */
#define WAL_DAMAGED_SEGMENT_COUNT_MAX 4u

struct wal_options {
    struct env_files files;
    uint32_t segment_size_bytes; /* WAL_SEGMENT_SIZE_BYTES; smaller in tests, a multiple of 4096. */
    /* How many bytes of released segments are kept for recycling. */
    uint64_t spare_size_bytes_max;
    bool is_read_only; /* Verify only: nothing is created, cut or written. */
    /* The first index of a shard that the store does not have yet; entries below are not needed, so
     * damage there is of no account. May be NULL: all are needed. */
    raft_index (*first_needed)(void *context, wal_shard shard);
    void *context;
    /* Told about each damaged place that recovery meets, also those of no account. May be NULL. */
    void (*damaged)(void *context, const struct wal_damage *damage);
    /* Asked about each loss of something that is needed, before anything is changed. 0: the owner
     * goes on without it, and has made durable that the replica is impaired (raft.h, I8), because
     * afterwards nothing in the log tells of it. NULL, or any other status: wal_open() fails. */
    int (*accept_loss)(void *context, const struct wal_loss *loss, struct error *error);
    /* Told about now and then while recovery reads. May be NULL. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
};

/* What one shard's part of the log was found to be. */
struct wal_shard_state {
    wal_shard shard;
    struct raft_hard_state hard_state;
    raft_index first_index;  /* Of the entries that can be read; 0 when there are none. */
    raft_term previous_term; /* Of the entry before the first; 0 when unknown. */
    raft_index last_index;   /* Of the last entry the log ever had, even if released since. */
    raft_term last_term;
};

/* Open the log: find the segments, check every record, cut a torn tail, build the index. An empty
 * directory becomes an empty log with its first segment. What was recovered is durable afterwards,
 * also where the log of a shard ends that lost something.
 * Errors: ERROR_CORRUPT for damage before the tail at or above `first_needed` that was not accepted
 * (the message says which segment, offset, shard and index, and why); ERROR_NEWER_FORMAT; -ENOSPC;
 * -EIO; -EACCES. */
MUST_USE int wal_open(struct wal **wal, const struct wal_options *options, struct error *error);

/* Close without writing anything: what was appended and not flushed may be lost. */
void wal_close(struct wal *wal);

/* False when the log knows nothing of the shard. */
bool wal_get_shard_state(const struct wal *wal, wal_shard shard, struct wal_shard_state *state);

/* Append the payload of an entry to `payload`. -ENOENT; -EIO; ERROR_CORRUPT. */
MUST_USE int wal_read(struct wal *wal, wal_shard shard, raft_index index, raft_term *term,
                      struct buffer *payload, struct error *error);

/* Append the first bytes of the payload, at most `size_bytes_max` (up to WAL_HEAD_SIZE_BYTES_MAX), and
 * read no more of it. They are not verified again: that was done when the log was opened. Errors as
 * above. */
#define WAL_HEAD_SIZE_BYTES_MAX 64u
MUST_USE int wal_read_head(struct wal *wal, wal_shard shard, raft_index index,
                           uint32_t size_bytes_max, raft_term *term, struct buffer *payload,
                           struct error *error);

/* Add a record to what the next wal_write() writes. The payload is borrowed until then. Entries of
 * a shard come in order of their index, without gaps. Never fails. */
void wal_append(struct wal *wal, const struct wal_record *record);

/* Write what was appended, with as few calls as can be. Opens the next segment when one is full.
 * -ENOSPC and -EDQUOT are not final: nothing was acknowledged, the records stay appended (and borrowed), call
 * again when there is space. */
MUST_USE int wal_write(struct wal *wal, struct error *error);

/* Flush what was written. All records of the writes before are durable when it returns 0. */
MUST_USE int wal_flush(struct wal *wal, struct error *error);

/* The store has everything of the shard up to `index` durably: older entries are not needed again.
 * Whole segments that became free are kept for recycling or removed. */
MUST_USE int wal_release(struct wal *wal, wal_shard shard, raft_index index, struct error *error);

/* Prepare a pre-written segment for later when none is ready. Takes long (a whole segment is
 * written), so the log writer calls it when it is idle and it does a piece at a time. `*is_ready`:
 * nothing is left to do. -ENOSPC and -EDQUOT are not final. */
MUST_USE int wal_prepare(struct wal *wal, bool *is_ready, struct error *error);

struct wal_statistics {
    uint64_t segment_count;
    uint64_t spare_segment_count;
    uint64_t damaged_segment_count; /* Kept aside. */
    uint64_t live_size_bytes;       /* Of the segments that recovery would read. */
    uint64_t written_size_bytes;
    uint64_t record_count;
    uint64_t write_count;
    uint64_t flush_count;
};
void wal_get_statistics(const struct wal *wal, struct wal_statistics *statistics);

#endif
