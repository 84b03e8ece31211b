/* SPDX-License-Identifier: Apache-2.0 */
/* shard_world: a shard with a toy machine, driven step by step; for tests only.
 *
 * The machine has SET, APPEND and GET of single rows; SET says that it found `SET_FOUND`; a value that begins with "late" has expired
 * unless the log says otherwise. The test is the host: it decides what is durable when, when a batch
 * is written and when a read elsewhere is done. */
#ifndef CORE_SHARD_SHARD_WORLD_H
#define CORE_SHARD_SHARD_WORLD_H

#include "base/endian/endian.h"
#include "core/memstore/memstore.h"
#include "core/shard/shard.h"

enum {
    OPCODE_SET = 1,
    OPCODE_APPEND = 2,
    OPCODE_GET = 3,
    OPCODE_COUNT = 4, /* Names nothing: how many were executed. */
    SET_FOUND = 7,
    LOG_COUNT_MAX = 64,
    BEAT_COUNT_MAX = 16,
    LOG_READ_COUNT_MAX = 8
};

struct log_entry {
    raft_term term;
    struct buffer payload;
};

struct shard__sent {
    raft_node to;
    struct buffer bytes;
};

struct shard__world {
    struct shard *shard;
    struct memstore *memstore;
    bool is_memstore_borrowed;
    struct env_store_ops store_ops; /* The memstore's, to be replaced. */
    uint64_t wall_ms;
    uint64_t persisting_sequence;
    struct raft_hard_state hard_state;
    struct log_entry log[LOG_COUNT_MAX]; /* By index. */
    raft_index first_index;              /* Of the log. */
    raft_index last_index;
    /* For who drives the log: the test. */
    struct shard_log_read *log_reads[LOG_READ_COUNT_MAX];
    uint32_t log_read_count;
    bool is_read_back_refused;
    struct shard_read *read;
    struct shard_write *write;
    int failed_status;
    raft_node self;
    wal_shard id;
    uint32_t voter_count;
    uint32_t first_slot;
    uint32_t end_slot;
    struct shard_work *work;
    /* What was sent, for the test to deliver. */
    struct shard__sent *sent;
    uint32_t sent_count;
    bool do_beats_gather; /* Then these are not among them. */
    struct raft_message beats[BEAT_COUNT_MAX];
    uint32_t beat_count;
    uint32_t store_row_count;
    struct shard_account *account; /* NULL: none. */
    struct pace *pace;             /* NULL: none. */
    uint32_t executed_count;
    uint32_t approached_count;
    uint32_t late_approach_count; /* Fewer had been approached than were executed. */
    struct recall *recall;  /* What commands found; the test may take it, and load it again. */
    uint32_t known_count;   /* How many SETs were told that they found SET_FOUND before. */
    bool is_elsewhere;      /* What is read now a worker reads. */
    const char *locked_key; /* What a transaction would hold; NULL: nothing. */
    uint32_t gathered_count;
    uint32_t told_anew_count; /* How often what waits was looked at. */
    char waiting[32];         /* The first letters of the keys of what waits for it. */
    bool does_decline;        /* What must wait is answered instead. */
    uint64_t load_size_bytes; /* Not 0: what loads more becomes GET of `sorry`. */
    uint32_t run_part_count;
    bool is_write_over_when_polled;
    /* Decision 18. */
    wal_shard split_child; /* What background() gives; 0: nothing. */
    uint32_t split_slot;
    bool is_split_gathered;
    char loaded[32];           /* What the machine of the shard was given. */
    uint32_t machine_range[2]; /* What the machine was told, or came to. */
    uint32_t child_count;      /* How often the host was told. */
    struct slots_range child;
    raft_index child_index; /* Applied then. */
    bool is_asked_by_host_only;
    uint32_t floor_delay_ms;
    uint32_t piece_size_bytes;
    uint64_t waiting_size_bytes; /* 0: nothing leaves memory before it is applied. */
    uint32_t older_nodes;   /* A bit for each that does not understand floors, from node 1 on. */
    uint32_t node_count;    /* That may be asked about membership, from 1; 0: nobody is. */
    uint32_t emptied_count; /* How often the host was told. */
};

/* Give a world without a shard, of one member, of shard 1 with all slots; fields may be changed before the
 * start. `memstore` is borrowed; NULL: it has one of its own. */
struct shard__world *shard__world_create_bare(struct memstore *memstore);
/* Give a world whose shard is ready, without anything that the store lacks. Each entry that changes a
 * row is a batch. */
struct shard__world *shard__world_create(void);
/* What is under way ends; no read is. A memstore that was borrowed stays. */
void shard__world_destroy(struct shard__world *world);
/* Without ending what is under way, as in a crash. */
void shard__world_stop(struct shard__world *world);
struct shard_options shard__world_options(struct shard__world *world);
/* Open and start a shard, with what the log has or without a log. */
void shard__world_start(struct shard__world *world, bool has_log);

/* Do the work for which a worker was asked, if there is some, and tell the shard. */
void shard__world_work(struct shard__world *world);
/* Write the batch that was handed over, if there is one, and tell the shard. */
void shard__world_write(struct shard__world *world);
/* A tick, with what it hands to the store written, and the tick that follows. */
void shard__world_tick(struct shard__world *world);
/* Make everything durable, again and again until nothing new comes, and write what was handed
 * over. */
void shard__world_settle(struct shard__world *world);

/* A request and its answer. */
struct shard__client {
    struct shard_request request;
    struct shard_session session;
    struct bytes arguments[2];
    struct buffer answer;
    uint32_t answer_count;
    int status; /* Of done(). */
};

/* Submit a command; `key` and `value` are borrowed. Returns what shard_submit() does. */
int shard__world_submit(struct shard__world *world, struct shard__client *client,
                        struct shard_session *session, uint16_t opcode, const char *key,
                        const char *value);
/* The leader hears of a later term, of which it is not the leader. */
void shard__world_depose(struct shard__world *world);
/* "k" is "v", and only the disk has it; the leader is a new one. */
void shard__world_put_and_start_cold(struct shard__world *world, struct shard_session *session);
/* It was answered once, with these bytes. */
void shard__world_expect(struct shard__client *client, const char *answer);
/* It was handed back, once. */
void shard__world_expect_handed_back(const struct shard__client *client);
void shard__world_expect_moved(const struct shard__client *client);

#endif
