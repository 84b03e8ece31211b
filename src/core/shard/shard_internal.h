/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef CORE_SHARD_SHARD_INTERNAL_H
#define CORE_SHARD_SHARD_INTERNAL_H

#include "core/shard/shard.h"

/* Changes are handed to the store in batches of at least so much, unless they get old: rows that
 * come in order and in number cost the store half of what each costs alone. */
#define SHARD_STORE_ROW_COUNT 8192u
#define SHARD_STORE_SIZE_BYTES (4u << 20)
#define SHARD_STORE_DELAY_MS 50u

/* An entry is closed when it holds this much; a single larger command still fits. */
#define SHARD_ENTRY_SIZE_BYTES_SOFT_MAX (1u << 20)
#define SHARD_ENTRY_COMMAND_COUNT_MAX 4096u
_Static_assert(SHARD_ENTRY_COMMAND_COUNT_MAX < 1u << 16, "an ordinal has 16 bits of the version");

/* While so many entries are under way, a small one waits and grows: fewer, larger batches cost less
 * than many small ones, and one more flush is what it would wait for anyway. */
#define SHARD_SMALL_ENTRIES_IN_FLIGHT_MAX 2u

/* What an entry answers, in order: a write is the next command of the payload, a read is the
 * request's copy. Background work has no request. */
struct shard_item {
    struct shard_request *request;
    bool is_write;
    size_t reply_end; /* Where the reply ends in `replies`, once applied. */
};

/* One log entry from the first command gathered to the last reply. */
struct shard_entry {
    struct list link;
    raft_index index;
    raft_term term;
    struct buffer payload;
    uint32_t command_count;
    struct shard_item *items;
    uint32_t item_count;
    uint32_t item_capacity;
    struct buffer replies;
};

/* A read, or the prefetch of a write, which goes into the log afterwards. */
struct shard_read_item {
    struct shard_request *request;
    int status;       /* ERROR_INCOMPLETE: not reached. */
    size_t reply_end; /* Where its reply ends in `replies`. */
};

#define SHARD_READ_ITEM_COUNT_MAX 64u

/* Requests that go to the disk together. Those of one session are neighbours. */
struct shard_read {
    struct shard *shard;
    struct env_store_snapshot *snapshot;
    struct shard_moment moment;
    uint32_t item_count;
    struct shard_read_item items[SHARD_READ_ITEM_COUNT_MAX];
    struct buffer replies;
};

/* The batch on its way to the store. */
struct shard_write {
    struct shard *shard;
    raft_index index;  /* Of the last entry in it. */
    uint64_t stamp_ms; /* The newest up to that entry. */
    int status;
    struct error error;
};

struct shard {
    struct shard_options options;
    struct rows *rows;
    struct raft *raft;
    enum raft_role role;
    raft_term term;
    raft_index commit_index;
    raft_index start_index; /* Of the empty entry with which this term began. */

    /* What the meta row says. */
    raft_index applied_index;
    raft_term applied_term;
    uint64_t applied_stamp_ms;
    uint64_t digest;

    uint64_t stamp_ms; /* Of the newest entry, proposed or applied. */

    struct shard_entry *open; /* Gathers this tick's commands; never NULL. */
    struct list in_flight;    /* Proposed and not applied, in order of index. */
    uint32_t in_flight_count;
    uint64_t in_flight_size_bytes; /* Of proposed and gathered payload. */
    /* Applied, not answered: the batch before its own must be written first. */
    struct shard_entry *stalled;
    struct list free_entries;

    /* stored <= handed <= applied. Up to `stored` the store has everything; up to `handed` it is in
     * the batch, which is under way or was refused. */
    raft_index stored_index;
    raft_index handed_index;
    uint64_t stored_stamp_ms;   /* The newest up to the stored entry. */
    uint64_t unstored_since_ms; /* When the oldest change that was not handed over was made. */
    struct shard_write write;
    bool is_writing;      /* The host has it. */
    uint64_t retry_at_ms; /* Of a batch that was refused. */

    /* What waits for the disk pool, reads also for the store to have what they must see. */
    struct list cold_reads;
    struct list cold_writes;  /* Their prefetches. */
    uint32_t cold_count;      /* Of both. */
    uint32_t reads_elsewhere; /* Batches of them that are under way. */
    bool is_background_pending;
    uint64_t background_at_ms;
    bool is_full;
    bool has_failed;

    struct bytes *arguments; /* Of the command being decoded. */
    uint32_t argument_capacity;
    struct buffer scratch;
    struct shard_statistics statistics;
};

/* shard_entry.c: the payload of an entry; docs/formats/entry.md. */
#define SHARD_ENTRY_HEADER_SIZE_BYTES 16u
void shard__entry_begin(struct buffer *payload);
void shard__entry_add(struct buffer *payload, const struct shard_command *command);
void shard__entry_end(struct buffer *payload, uint32_t command_count, uint64_t time_ms);
uint64_t shard__command_size_bytes(const struct shard_command *command);

struct shard_decoder {
    struct bytes rest;
    uint32_t command_count;
    uint64_t time_ms;
};
MUST_USE int shard__decode_begin(struct shard_decoder *decoder, struct bytes payload);
/* The next command; its arguments are in `shard->arguments` until the next call. */
MUST_USE int shard__decode_next(struct shard *shard, struct shard_decoder *decoder,
                                struct shard_command *command);

/* shard_apply.c */
void shard__apply_committed(struct shard *shard);
void shard__fail(struct shard *shard, int status, const struct error *error);
uint64_t shard__time_ms(const struct shard *shard);

/* shard_store.c */
MUST_USE int shard__meta_load(struct shard *shard, struct error *error);
/* Hand what was applied to the store, in the background. False: the batch before it is not written
 * yet. */
bool shard__hand_over(struct shard *shard);
/* Hand over what is old or was refused. Returns when to look again. */
uint64_t shard__hand_over_due(struct shard *shard, uint64_t now_ms);

/* shard_request.c */
void shard__add_command(struct shard *shard, struct shard_request *request,
                        const struct shard_command *command);
void shard__add_write(struct shard *shard, struct shard_request *request);
void shard__answer(struct shard *shard, struct shard_request *request, struct bytes reply);
/* The arguments of a request outlive its submission. */
void shard__copy_command(struct shard_request *request);
/* Start what waits in the session, as far as it may. Answers go through done(). */
void shard__resume_session(struct shard *shard, struct shard_session *session);

/* shard_read.c */
/* The request will be read, or its rows prefetched, by a worker. Its session is alone until
 * then. */
void shard__go_elsewhere(struct shard *shard, struct shard_request *request);
/* Hand what was delayed to the workers, as far as they are free. */
void shard__start_reads(struct shard *shard);

/* shard.c */
void shard__propose_open(struct shard *shard);
struct shard_entry *shard__entry_take(struct shard *shard);
void shard__entry_give(struct shard *shard, struct shard_entry *entry);

#endif
