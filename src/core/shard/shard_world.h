/* SPDX-License-Identifier: Apache-2.0 */
/* shard_world: a shard with a toy machine, driven step by step; for tests only.
 *
 * The machine has SET, APPEND and GET of single rows; a value that begins with "late" has expired
 * unless the log says otherwise. The test is the host: it decides what is durable when, when a batch
 * is written and when a read elsewhere is done. */
#ifndef CORE_SHARD_SHARD_WORLD_H
#define CORE_SHARD_SHARD_WORLD_H

#include "core/memstore/memstore.h"
#include "core/shard/shard.h"

enum { OPCODE_SET = 1, OPCODE_APPEND = 2, OPCODE_GET = 3, LOG_COUNT_MAX = 64 };

struct log_entry {
    raft_term term;
    struct buffer payload;
};

struct shard__world {
    struct shard *shard;
    struct memstore *memstore;
    struct env_store_ops store_ops; /* The memstore's, to be replaced. */
    uint64_t wall_ms;
    uint64_t persisting_sequence;
    struct raft_hard_state hard_state;
    struct log_entry log[LOG_COUNT_MAX]; /* By index. */
    raft_index last_index;
    struct shard_read *read;
    struct shard_write *write;
    int failed_status;
    uint32_t store_row_count;
    uint32_t executed_count;
    const char *locked_key; /* What a transaction would hold; NULL: nothing. */
    uint32_t gathered_count;
    uint32_t told_anew_count; /* How often what waits was looked at. */
    char waiting[32];         /* The first letters of the keys of what waits for it. */
    bool does_decline;        /* What must wait is answered instead. */
    uint32_t run_part_count;
    bool is_write_over_when_polled;
};

/* Give a world whose shard is ready, without anything that the store lacks. Each entry that changes a
 * row is a batch. */
struct shard__world *shard__world_create(void);
/* What is under way ends; no read is. */
void shard__world_destroy(struct shard__world *world);
struct shard_options shard__world_options(struct shard__world *world);
/* Open and start a shard, with what the log has or without a log. */
void shard__world_start(struct shard__world *world, bool has_log);

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

#endif
