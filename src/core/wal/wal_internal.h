/* SPDX-License-Identifier: Apache-2.0 */
/* wal, shared within the folder: the format, the index, the segments.
 *
 * The parts
 *   wal_format.c   bytes of headers and records
 *   wal_index.c    shards: newest hard state, and where each live entry stands
 *   wal_segment.c  files: begin, prepare, recycle
 *   wal_recover.c  from files to the index: which segments there are, and what is wrong with them
 *   wal_scan.c     the records of one segment, write by write
 *   wal_replay.c   from records to the index
 *   wal_loss.c     what is lost, and going on without it
 *   wal.c          append, write, flush, read
 *
 * Words. A *write* is what one call of env_files.write() put into a segment: one or more records,
 * the last of which says so (WAL__FLAG_WRITE_END), padded with zeros to a sector. It is the unit
 * that is kept or cut whole. A *position* is (segment sequence, offset) and grows through the life
 * of the log. */
#ifndef CORE_WAL_WAL_INTERNAL_H
#define CORE_WAL_WAL_INTERNAL_H

#include "core/wal/wal.h"

/* ---- Format (docs/formats/wal.md) ------------------------------------------------------------ */

#define WAL__FORMAT_VERSION 1u
#define WAL__HEADER_SIZE_BYTES 64u /* Of a segment's header and of a record's. */
#define WAL__SECTOR_SIZE_BYTES 512u
#define WAL__PAGE_SIZE_BYTES 4096u
#define WAL__HEADER_COPY_OFFSET WAL__PAGE_SIZE_BYTES
#define WAL__RECORDS_OFFSET (2 * WAL__PAGE_SIZE_BYTES)
#define WAL__SEGMENT_SIZE_BYTES_MIN (4 * WAL__PAGE_SIZE_BYTES)
#define WAL__SEGMENT_SIZE_BYTES_MAX (1u << 30)
#define WAL__SEQUENCE_MAX ((UINT64_C(1) << 35) - 1) /* What a packed position holds. */
#define WAL__NAME_SIZE_BYTES 32
#define WAL__TABLE_ITEM_SIZE_BYTES 32u
/* A piece of an entry shorter than this is not worth a fragment at the end of a segment. */
#define WAL__FRAGMENT_SIZE_BYTES_MIN 512u

/* The shards at the head of a segment: their table fills at most a quarter of it. */
#define WAL__TABLE_SHARE 4u

enum { WAL__KIND_TABLE = 4 }; /* Continues enum wal_record_kind; only at the head of a segment. */

enum {
    WAL__FLAG_FIRST = 1,     /* The first fragment of an entry. */
    WAL__FLAG_LAST = 2,      /* The last one. */
    WAL__FLAG_WRITE_END = 4, /* The last record of a write: the next begins at the next sector. */
};

enum { WAL__TRUNCATION_ENDS_LOSS = 1 }; /* In `extra`. */

struct wal__position {
    uint64_t sequence;
    uint32_t offset;
};

static inline bool wal__position_is_before(struct wal__position left, struct wal__position right)
{
    return left.sequence < right.sequence ||
           (left.sequence == right.sequence && left.offset < right.offset);
}

static inline uint64_t wal__align(uint64_t value, uint32_t alignment)
{
    return (value + alignment - 1) & ~(uint64_t)(alignment - 1);
}

struct wal__segment_header {
    uint64_t sequence;
    uint32_t segment_size_bytes;
    uint32_t previous_end_offset; /* Where the segment before this one ends; 0: there is none. */
};

struct wal__record_header {
    uint8_t kind;
    uint8_t flags;
    struct wal__position position; /* Where it belongs. */
    uint32_t payload_size_bytes;
    uint32_t payload_crc;
    wal_shard shard;
    raft_index index;
    raft_term term;
    uint64_t incarnation;    /* Of the log: how often it had been opened. */
    uint32_t durable_offset; /* Up to where the segment was durable when this was written. */
    uint32_t extra;          /* Hard state: the vote. Entry: where the fragment is in it.
                                Truncation: WAL__TRUNCATION_ENDS_LOSS, or 0. */
};

struct wal__table_item {
    wal_shard shard;
    struct raft_hard_state hard_state;
    raft_index last_index;
    raft_term last_term;
};

/* How a segment's header was found. */
enum wal__header_state { WAL__HEADER_GOOD, WAL__HEADER_BAD, WAL__HEADER_NEWER };

void wal__encode_segment_header(const struct wal__segment_header *header, uint8_t *target);
enum wal__header_state wal__decode_segment_header(const uint8_t *source, uint64_t sequence,
                                                  struct wal__segment_header *header);
void wal__encode_record_header(const struct wal__record_header *header, uint8_t *target);
/* Mark an encoded record as the last of its write. */
void wal__end_write(uint8_t *encoded_header);
/* False unless the bytes are a record header that belongs to `position`. */
bool wal__decode_record_header(const uint8_t *source, struct wal__position position,
                               struct wal__record_header *header);
bool wal__payload_is_good(const struct wal__record_header *header, const uint8_t *payload);
void wal__encode_table_item(const struct wal__table_item *item, uint8_t *target);
void wal__decode_table_item(const uint8_t *source, struct wal__table_item *item);
void wal__format_segment_name(uint64_t sequence, char name[WAL__NAME_SIZE_BYTES]);
void wal__format_spare_name(uint64_t number, char name[WAL__NAME_SIZE_BYTES]);
bool wal__parse_segment_name(const char *name, uint64_t *sequence);
bool wal__parse_spare_name(const char *name, uint64_t *number);
void wal__format_damaged_name(uint64_t sequence, char name[WAL__NAME_SIZE_BYTES]);
bool wal__parse_damaged_name(const char *name, uint64_t *sequence);
#define WAL__PREPARE_NAME "prepare"

/* ---- Index ----------------------------------------------------------------------------------- */

/* The terms of entries change rarely: a run holds from `index` to before the next run. */
struct wal__term_run {
    raft_index index;
    raft_term term;
};

struct wal__shard {
    wal_shard id;
    struct raft_hard_state hard_state;
    raft_index last_index; /* Of the last entry the log ever had and did not truncate. */
    raft_index released_index;
    /* Where the last `position_count` entries, up to last_index, stand: a ring of packed
     * positions. */
    uint64_t *positions;
    uint32_t position_capacity; /* 0 or a power of two. */
    uint32_t position_start;
    uint32_t position_count;
    struct wal__term_run *runs; /* Ascending; the last one covers last_index. */
    uint32_t run_capacity;
    uint32_t run_count;
    /* During recovery: entries behind last_index are lost, so those that follow are passed over,
     * until a table or a truncation shows that the log ended here; and where they were. */
    bool is_cut;
    bool is_sure; /* Of those up to last_index: no truncation of them can be among what is lost. */
    bool is_end_unwritten; /* The loss was accepted: that the log ends here must be written. */
    struct wal__position lost_at;
    const char *lost_reason;
    /* During recovery: entries that a table showed to be void, unless the owner had gone on with them
     * before that table counted for it. NULL: none. */
    struct wal__shard *hidden;
};

/* All shards, in the order they were first heard of, and a hash table of where each is. */
struct wal__index {
    struct wal__shard *shards;
    uint32_t shard_count;
    uint32_t shard_capacity;
    uint32_t *slots; /* 1 + the place in `shards`; 0: free. */
    uint32_t slot_count;
};

void wal__index_deinit(struct wal__index *index);
/* NULL when the shard is unknown. The pointer holds until a shard is added. */
struct wal__shard *wal__index_find(const struct wal__index *index, wal_shard id);
struct wal__shard *wal__index_add(struct wal__index *index, wal_shard id);
raft_term wal__shard_term(const struct wal__shard *shard, raft_index index);
static inline raft_index wal__shard_first_index(const struct wal__shard *shard)
{
    return shard->last_index - shard->position_count + 1;
}
/* Whether an entry with this index may follow. */
bool wal__shard_accepts(const struct wal__shard *shard, raft_index index);
/* Add the entry; `is_live` false only moves last_index. */
void wal__shard_push(struct wal__shard *shard, raft_index index, raft_term term,
                     struct wal__position position, bool is_live);
bool wal__shard_get(const struct wal__shard *shard, raft_index index,
                    struct wal__position *position);
/* Remove the oldest or newest live entry and say where it stood; false when there is none. */
bool wal__shard_pop_oldest(struct wal__shard *shard, struct wal__position *position);
bool wal__shard_pop_newest(struct wal__shard *shard, struct wal__position *position);
/* After the newest live entries were popped: the last entry is now the one before `index`. */
void wal__shard_truncate(struct wal__shard *shard, raft_index index);
/* Start anew with what a table says. */
void wal__shard_reset(struct wal__shard *shard, const struct wal__table_item *item);
/* Whether the log of the shard can have ended at `last`, which had this term. */
bool wal__shard_has_end(const struct wal__shard *shard, raft_index last, raft_term term);
/* Remember the entries, which are about to go; take those back that were remembered first, in place
 * of what is there; forget them. */
void wal__shard_hide(struct wal__shard *shard);
void wal__shard_take_hidden(struct wal__shard *shard);
void wal__shard_forget_hidden(struct wal__shard *shard);
/* Give memory back after entries were removed. */
void wal__shard_shrink(struct wal__shard *shard);

/* ---- The log --------------------------------------------------------------------------------- */

struct wal__segment {
    struct env_file *file;
    struct wal__segment_header header;
    uint32_t end_offset;   /* Of its records. */
    uint32_t first_offset; /* Where records begin, behind its table. */
    bool is_damaged;       /* Kept aside when it is released. */
    bool is_table_damaged; /* It tells nothing without the segment before it. */
    uint64_t live_count;   /* Entries that begin in it and are neither released nor truncated. */
};

/* Pieces of one write. Half of what Linux takes in a call, so that a piece may be split by a
 * driver. */
#define WAL__PIECE_COUNT_MAX 512u
#define WAL__WRITE_MEMORY_SIZE_BYTES (1u << 20)
/* A longer payload is not copied but written from where it is. */
#define WAL__COPY_SIZE_BYTES_MAX 1024u

/* A write that is being gathered, or that failed for want of space and will be tried again. */
struct wal__gathering {
    struct bytes *pieces;
    uint32_t piece_count;
    uint8_t *memory; /* Headers and short payloads. */
    uint32_t memory_used_bytes;
    uint64_t size_bytes; /* Of all records so far, in the segment. */
    uint64_t write_size_bytes;
    uint8_t *last_header;
    uint32_t record_count;
};

/* Bytes read ahead of a reader that goes from entry to entry. */
#define WAL__READ_AHEAD_SIZE_BYTES (64u << 10)
struct wal__read_ahead {
    uint8_t *data;
    struct wal__position start;
    uint32_t size_bytes;
    struct wal__position next; /* Where a reader that goes on would go on. */
};

struct wal {
    struct wal_options options;
    struct wal__index index;

    /* Segments have consecutive sequences; the last one is written to. */
    struct wal__segment *segments;
    uint32_t segment_count;
    uint32_t segment_capacity;

    uint64_t incarnation; /* Of what is written from now on; above all that was found. */
    struct wal__position written;
    struct wal__position durable;
    struct wal__position truncated; /* Where the newest truncation stands. */

    /* Appended and not yet in a write; the first one may be there up to `fragment_offset`. */
    struct wal_record *appended;
    uint32_t appended_start;
    uint32_t appended_count;
    uint32_t appended_capacity;
    uint32_t fragment_offset;
    struct wal__position fragment_first; /* Where the first fragment stands. */
    bool is_segment_full;
    struct wal__gathering gathering;

    uint64_t *spares; /* Numbers in the names of spare segments. */
    uint32_t spare_count;
    uint32_t spare_capacity;
    uint64_t spare_number_next;
    struct env_file *prepare_file;
    uint64_t prepare_offset;
    uint32_t damaged_count; /* Files kept aside. */

    struct wal__read_ahead read_ahead;
    struct buffer table; /* The table of the segment that is begun. */
    struct wal_statistics statistics;
    struct error failure; /* What made the log fail for good; code 0: nothing. */
};

extern const uint8_t wal__zeros[64u << 10];

/* NULL when it is not (or no longer) there. */
struct wal__segment *wal__find_segment(const struct wal *wal, uint64_t sequence);
struct wal__segment *wal__add_segment(struct wal *wal);
static inline struct wal__segment *wal__last_segment(const struct wal *wal)
{
    return &wal->segments[wal->segment_count - 1];
}
static inline bool wal__is_no_space(int status)
{
    return status == -ENOSPC || status == -EDQUOT;
}
/* Remember a failure that is final. Returns `status`. */
int wal__fail(struct wal *wal, int status, struct error *error);
/* Flush the last segment. */
int wal__flush_segment(struct wal *wal, struct error *error);
/* Take the next segment into use: when this returns 0 its name, its header and its table are
 * durable. */
int wal__begin_segment(struct wal *wal, struct error *error);
void wal__add_spare(struct wal *wal, uint64_t number);
uint32_t wal__shard_count_max(const struct wal *wal);
/* An entry left the index. */
void wal__forget_entry(struct wal *wal, struct wal__position position);

/* ---- Recovery -------------------------------------------------------------------------------- */

/* What one segment's scan found out. */
struct wal__scan {
    struct wal__segment *segment;
    bool is_first; /* Of those that are there. */
    bool is_last;
    uint32_t limit;          /* Records end here at the latest. */
    uint32_t end_offset;     /* Behind the last good write. */
    uint32_t torn_offset;    /* In the last segment: the bad record of the write that follows. */
    uint32_t durable_offset; /* The newest that a good write tells. */
};

struct wal__recovery {
    struct wal *wal;

    /* What the directory holds, ascending. */
    uint64_t *sequences;
    uint32_t sequence_count;
    uint32_t sequence_capacity;
    uint32_t chain_start; /* The segments to read are sequences[chain_start .. chain_end). */
    uint32_t chain_end;
    bool has_prepare;

    /* The segment that is being read. */
    struct env_file *file;
    uint64_t sequence;
    uint8_t *bytes;
    uint32_t bytes_capacity;
    uint32_t size_bytes;
    uint32_t loaded_bytes;
    bool is_searched;
    uint32_t newest_durable_offset; /* That any record searched tells. */
    uint32_t search_end_offset;     /* Behind the last record searched; 0: there was none. */
    uint64_t total_bytes;
    uint64_t done_bytes;

    uint64_t incarnation;        /* Of the last write taken; those that follow have no lower one. */
    uint64_t incarnation_newest; /* Of any record seen. */

    /* An entry of which not all fragments were met yet. */
    bool is_in_entry;
    bool is_entry_damaged;
    bool is_entry_headless;          /* It began in a segment that is not there. */
    struct wal__record_header entry; /* Of the first fragment. */
    uint64_t entry_size_bytes;       /* So far. */

    /* Something unknown was lost; only the next table can tell that it is of no account. */
    bool is_lost;
    struct wal__position lost_at;
    const char *lost_reason;

    bool is_tail_lost;        /* It was never told: the end of the log is lost. */
    uint64_t broken_sequence; /* A segment without a header, to be kept aside; 0: none. */

    struct error failure; /* The first damage that matters. */
};

/* Read the directory, build the index, mend the tail. */
int wal__recover(struct wal *wal, struct error *error);
/* Say that something is damaged. What is needed makes recovery fail, after it has looked for
 * more, unless its loss is accepted. */
void wal__report_damage(struct wal__recovery *recovery, const struct wal_damage *damage);
void wal__set_damaged(struct wal *wal, uint64_t sequence);
/* Put the file of a damaged segment aside, or, where there are enough of them, remove it. */
int wal__set_aside(struct wal *wal, uint64_t sequence, struct error *error);
/* Go on with another segment. The file stays the caller's. */
int wal__read_segment(struct wal__recovery *recovery, struct env_file *file, uint64_t sequence,
                      uint32_t size_bytes_max, struct error *error);
/* Have the first `end` bytes of the segment in memory, at most all of it. */
int wal__load(struct wal__recovery *recovery, uint64_t end, struct error *error);
/* Whether what stood at `offset`, in the write that begins at `start`, had been flushed: a record
 * of the segment was written later. */
int wal__is_evidence(struct wal__recovery *recovery, uint32_t start, uint32_t offset,
                     bool *is_evidence, struct error *error);
/* Whether the segment's table is there as it was written. */
int wal__has_good_table(struct wal__recovery *recovery, bool *is_good, struct error *error);
/* Read the records of the segment, up to the limit or, in the last one, up to where they end. */
int wal__scan_segment(struct wal__recovery *recovery, struct wal__scan *scan, struct error *error);
/* Take a record whose checksums hold (but for the payload's, when `is_damaged`) into the index. */
void wal__replay_record(struct wal__recovery *recovery, const struct wal__scan *scan,
                        const struct wal__record_header *header, bool is_damaged);

/* ---- What is lost ---------------------------------------------------------------------------- */

/* The last entry of the shard that is known; those before are in the log or in the store. */
raft_index wal__shard_known_index(const struct wal__shard *shard);
/* Entries behind the last one are lost, as it seems; `is_sure`: and nothing else is. */
void wal__begin_loss(struct wal__recovery *recovery, struct wal__shard *shard,
                     struct wal__position at, const char *reason, bool is_sure);
/* They were void. */
void wal__end_loss(struct wal__recovery *recovery, struct wal__shard *shard);
/* All is read: say what is lost and needed; what is accepted is gone from the index then. */
int wal__settle_losses(struct wal__recovery *recovery, struct error *error);
/* Write down where the logs of those shards end now, and flush it. */
int wal__write_losses(struct wal *wal, bool is_tail_lost, struct error *error);

#endif
