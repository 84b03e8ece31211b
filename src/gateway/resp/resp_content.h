/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what keys are and have, each in its shard, for a transaction that is planned by it: RENAME,
 * RENAMENX and COPY between shards, and EXEC with such commands. Folder-private. */
#ifndef GATEWAY_RESP_RESP_CONTENT_H
#define GATEWAY_RESP_RESP_CONTENT_H

#include "gateway/resp/resp_internal.h"

enum content_read_state { CONTENT_READY, CONTENT_SUBMITTED, CONTENT_DONE };

struct content_read {
    struct shard_request request; /* First: done() finds the read. */
    struct shard_session session;
    struct contents *contents;
    const struct bytes *arguments; /* Two: the key, and a limit (kv_content_opcode()). */
    enum content_read_state state;
    struct buffer answer;
};

struct contents {
    struct resp_server *server;
    /* No read is under way: all were answered, one failed (`status`), or it was too much. May end it all.
     * Called by resp__contents_submit() each time, and when the last answer comes. */
    void (*over)(struct contents *contents);
    /* A shard cannot be asked now: submit again at the next tick. */
    void (*wait)(struct contents *contents);
    void (*charge)(struct contents *contents); /* It may hold more. */
    struct content_read *reads;
    uint32_t count;
    uint32_t under_way_count;
    uint32_t done_count;
    uint32_t ready_from;     /* No read before it is to be submitted. */
    uint64_t size_bytes;     /* Of what was read, */
    uint64_t capacity_bytes; /* and where it is held. */
    bool is_submitting;
    int status; /* Of the first read that failed. */
};

/* Have so many reads, none of which is submitted. Their arguments are for the caller to set; what they
 * point to must stay. `server` and the functions are set before, the rest is zero. */
void resp__contents_begin(struct contents *contents, uint32_t count);
/* Drop what was read; none may be under way. */
void resp__contents_drop(struct contents *contents);
/* Ask as many as may be; ends it, when it is over. */
void resp__contents_submit(struct contents *contents);
/* Is what was read more than KV_EVALUATION_READ_SIZE_BYTES_MAX? Then not all was. */
bool resp__contents_are_too_large(const struct contents *contents);
/* A read failed, or was answered with an error: it is replied. */
bool resp__contents_reply_failed(const struct contents *contents, const struct command_entry *entry,
                                 const struct reply *reply);
/* For the memory budget. */
uint64_t resp__contents_size_bytes(const struct contents *contents);

#endif
