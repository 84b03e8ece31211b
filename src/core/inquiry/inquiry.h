/* SPDX-License-Identifier: Apache-2.0 */
/* inquiry: what nodes ask each other for an operator, and the answers, as bytes. Layer: core.
 *
 * An operator asks one node about all of them. What that one does not know itself it asks the
 * others for, at that moment: nothing is sent while nobody looks, so steady traffic does not grow
 * with the number of nodes, and what is shown is of now. There are two questions:
 *
 *   FIGURES   how the node is, and its replicas; who leads a group tells of all members of it
 *   TRANSFER  let another node lead a shard that the asked one leads
 *
 * Questions and answers may be lost: whoever asks gives up after a time. An answer repeats the
 * number of its question. More figures may be added at the end of each kind: a reader passes over
 * those that it does not know, and those that an older node does not send are INQUIRY_UNKNOWN.
 *
 * Pure functions. Bytes: docs/formats/inquiry.md. */
#ifndef CORE_INQUIRY_INQUIRY_H
#define CORE_INQUIRY_INQUIRY_H

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "base/histogram/histogram.h"
#include "core/raft/raft.h"

enum inquiry_kind {
    INQUIRY_FIGURES = 1,
    INQUIRY_FIGURES_ANSWER = 2,
    INQUIRY_TRANSFER = 3,
    INQUIRY_TRANSFER_ANSWER = 4,
};

#define INQUIRY_UNKNOWN UINT64_MAX

/* Of a node. Rates and latencies are of its last few seconds; rates for 1000 s, so that small ones
 * are whole numbers. */
enum inquiry_figure {
    INQUIRY_UPTIME_S,
    INQUIRY_PROCESSOR_PERMILLE, /* Of all processors of the machine. */
    INQUIRY_MEMORY_BYTES,       /* Resident. */
    INQUIRY_MEMORY_LIMIT_BYTES, /* --memory. */
    INQUIRY_DISK_FREE_BYTES,    /* Of the file system of its data. */
    INQUIRY_DISK_CAPACITY_BYTES,
    INQUIRY_STORE_BYTES, /* Tables on the disk. */
    INQUIRY_LOG_BYTES,   /* Of the log that a recovery would read. */
    INQUIRY_CONNECTIONS,
    INQUIRY_READS_PER_1000_S, /* Commands of its own clients. */
    INQUIRY_WRITES_PER_1000_S,
    INQUIRY_FIGURE_COUNT
};

/* Of a replica. */
enum inquiry_replica_figure {
    INQUIRY_APPLIED_INDEX,
    INQUIRY_SIZE_BYTES, /* Estimated: of its rows in the store, compressed. */
    INQUIRY_KEYS,
    INQUIRY_REPLICA_READS_PER_1000_S,  /* That it answered. */
    INQUIRY_REPLICA_WRITES_PER_1000_S, /* Commands that it applied. */
    INQUIRY_REPLICA_FIGURE_COUNT
};

enum inquiry_member_state {
    INQUIRY_MEMBER_OK,
    INQUIRY_MEMBER_SNAPSHOT, /* It is being sent one. */
    INQUIRY_MEMBER_DAMAGED,  /* Its log lost something; it does not vote. */
};
#define INQUIRY_MEMBER_STATE_COUNT 3u

/* A member of a group, as its leader sees it. */
struct inquiry_member {
    raft_node node;
    bool is_voter;
    enum inquiry_member_state state;
    /* What the leader has applied and does not know to be there, and for how long already (0 below
     * a second). Both may be INQUIRY_UNKNOWN. */
    uint64_t lag_entries;
    uint64_t lag_ms;
};

#define INQUIRY_MEMBER_COUNT_MAX (RAFT_VOTER_COUNT_MAX + RAFT_LEARNER_COUNT_MAX)
#define INQUIRY_REPLICA_COUNT_MAX 16384u

struct inquiry_replica {
    uint32_t shard;
    bool is_leader;   /* And ready. */
    bool is_changing; /* Its members are. */
    raft_term term;
    uint64_t figures[INQUIRY_REPLICA_FIGURE_COUNT];
    uint32_t member_count; /* 0 unless it leads. */
    struct inquiry_member members[INQUIRY_MEMBER_COUNT_MAX];
};

enum inquiry_outcome {
    INQUIRY_DONE, /* It has begun; who leads will show whether it came to be. */
    INQUIRY_NOT_LEADER,
    INQUIRY_NO_REPLICA, /* The node has none that could lead. */
    INQUIRY_NOT_NOW,    /* Something else is under way, or the replica is not ready. */
};
#define INQUIRY_OUTCOME_COUNT 4u

enum inquiry_latency { INQUIRY_READ, INQUIRY_WRITE, INQUIRY_LATENCY_COUNT };

struct inquiry_message {
    enum inquiry_kind kind;
    uint64_t number;
    uint32_t shard;               /* TRANSFER, to … */
    raft_node node;               /* … this one. */
    enum inquiry_outcome outcome; /* TRANSFER_ANSWER. */
    raft_node leader;             /* As far as known, 0: not. */
    /* FIGURES_ANSWER. */
    uint64_t figures[INQUIRY_FIGURE_COUNT];
    uint32_t replica_count;
    uint32_t replica_figure_count;                 /* As sent; for inquiry_message_next(). */
    struct bytes latencies[INQUIRY_LATENCY_COUNT]; /* For inquiry_add_latencies(). */
    struct bytes replicas;                         /* For inquiry_message_next(). */
};

/* All of these append. */
void inquiry_encode_figures(struct buffer *target, uint64_t number);
void inquiry_encode_transfer(struct buffer *target, uint64_t number, uint32_t shard,
                             raft_node node);
void inquiry_encode_transfer_answer(struct buffer *target, uint64_t number,
                                    enum inquiry_outcome outcome, raft_node leader);
/* Begin the answer; replicas follow, at most INQUIRY_REPLICA_COUNT_MAX. Latencies are in ns. */
void inquiry_answer_begin(struct buffer *target, uint64_t number,
                          const uint64_t figures[INQUIRY_FIGURE_COUNT],
                          const struct histogram latencies[INQUIRY_LATENCY_COUNT],
                          uint32_t replica_count);
void inquiry_answer_add(struct buffer *target, const struct inquiry_replica *replica);
/* Of an answer that has a buffer to itself: say how many replicas followed, if that was not known before. */
void inquiry_answer_end(struct buffer *answer, uint32_t replica_count);

/* ERROR_PROTOCOL unless every byte is as it must be, those of all replicas too. `message`
 * borrows. */
MUST_USE int inquiry_message_decode(struct bytes source, struct inquiry_message *message);
/* Of what was accepted: add what was recorded to `target`, as the upper bounds of its buckets. */
void inquiry_add_latencies(const struct inquiry_message *message, enum inquiry_latency kind,
                           struct histogram *target);
/* Of what was accepted: take the first replica off. */
void inquiry_message_next(struct inquiry_message *message, struct inquiry_replica *replica);

#endif
