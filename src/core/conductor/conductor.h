/* SPDX-License-Identifier: Apache-2.0 */
/* conductor: who has the groups of a cluster taken to where they should be. Layer: core.
 *
 * The conductor is whoever leads the first shard. Every node has an instance, which
 *
 *   - reports the groups that this node leads to the conductor, several times a second;
 *   - carries out the steps that the conductor sends for them;
 *   - while this node is in office, that is leads the first shard, looks as often at what is and what
 *     should be (core/placement), and sends steps.
 *
 * Messages may be lost, come late or twice:
 *
 *   - a report is the newest that the conductor has of a group until it is too old;
 *   - a step says of which members it was thought, and is not taken by a group that has others. What
 *     is lost is thought of again;
 *   - what is said of a split that was planned is said again until the map has it.
 *
 * Not everybody knows who leads the first shard: a node without a replica of it does not. So a conductor says that
 * it is in office to each node from which no report came lately, and they go there, too.
 *
 * And every node tells the others the newest map that it knows (decision 18): when they connect, and when
 * it learns of a newer one.
 *
 * Who comes into office knows nothing of what was before: an office is one term of the first shard.
 * Repairs need nobody's memory. Balance does, lest two conductors undo each other's steps, or one acts on
 * what it has not heard yet, so it waits:
 *
 * Invariants
 *   I1. Only reports that came in this office count.
 *   I2. There are no steps for balance while a group of the map is not known that has not been so for the
 *       listening time: at the beginning of an office, and when a leader is lost or a shard is born.
 *   I3. The leadership of a group is not moved for balance twice within the cool-down.
 *   I4. Nor is it after it changed without this conductor's wish though the one that led could have gone on:
 *       somebody did so by hand. That holds for CONDUCTOR_HOLD_MS, or until that node is not well any more.
 *   I5. Nor is that of the first shard in the first CONDUCTOR_HOLD_MS of an office: an office that ends
 *       for balance was a long one.
 *   I6. Nobody is given leadership for balance who has not reported lately: what it leads is not known.
 *
 *   I7. What balance is told of sizes and loads changes by a quarter or not at all, and below
 *       CONDUCTOR_SIZE_FLOOR_BYTES and CONDUCTOR_LOAD_FLOOR_PER_S all count alike. Loads are smoothed besides.
 *       So nothing moves because of noise, and shards that are small are spread by number.
 *
 *   I8. Of splits that this conductor wants at most one is under way, and none while another one is planned, there is
 *       no other node that does not drain, or the group is changing as far as was reported. Each makes something better: neither part has less
 *       than a CONDUCTOR_SPLIT_SHARE_MIN-th of the whole; and what still has more than three quarters of the
 *       load after a split for it is not split for it again within CONDUCTOR_SPLIT_NO_RELIEF_MS.
 *
 * Splits by themselves. A group that is larger than `split_size_bytes`, or takes more requests than
 * `split_load_per_s` for CONDUCTOR_SPLIT_BUSY_MS and more than its share while another node has room for half
 * of them, should become two: where its bytes are halved, or its requests. The conductor asks its leader where (a
 * question), who looks at what the slots have now, which takes a moment, and answers (halves); then the host has
 * the split written down, as when an operator asks for it. Who cannot be split usefully, because one slot has
 * nearly all, is not asked again for a while.
 *
 * Driven by the node, on the loop of its shards, or by a simulator, through a host. No I/O; time is in the
 * inputs. An instance belongs to one thread. Its memory grows with the number of groups and nodes that it
 * is told of, and not otherwise. Bytes: docs/formats/conductor.md. */
#ifndef CORE_CONDUCTOR_CONDUCTOR_H
#define CORE_CONDUCTOR_CONDUCTOR_H

#include "base/bytes/bytes.h"
#include "core/placement/placement.h"
#include "core/raft/raft.h"
#include "core/slots/slots.h"

/* ---- Messages -------------------------------------------------------------------------------- */

#define CONDUCTOR_MESSAGE_GROUP_COUNT_MAX 1024u

enum conductor_message_kind {
    CONDUCTOR_MESSAGE_REPORT = 1,
    CONDUCTOR_MESSAGE_STEP = 2,
    CONDUCTOR_MESSAGE_MAP = 3,
    CONDUCTOR_MESSAGE_SPLIT = 4,
    CONDUCTOR_MESSAGE_QUESTION =
        5, /* Software that knows of no splits (decision 18) does not know these. */
    CONDUCTOR_MESSAGE_HALVES = 6,
    CONDUCTOR_MESSAGE_OFFICE = 7, /* Nor this. */
};

/* For the leader of the parent. */
struct conductor_split {
    wal_shard parent;
    wal_shard child;
    uint32_t first; /* Of the child's slots. */
};

enum conductor_split_reason {
    CONDUCTOR_SPLIT_SIZE = 1,
    CONDUCTOR_SPLIT_LOAD = 2,
};

/* For the leader of a group: where would it be halved, by size or by load? */
struct conductor_question {
    enum conductor_split_reason reason;
    wal_shard group;
    uint32_t first; /* Its slots, as the asker knows them. */
    uint32_t end;
};

/* The answer. Both parts in bytes, or in requests of the last seconds as they were sampled (core/demand);
 * none at all: too few were. */
struct conductor_halves {
    struct conductor_question question;
    uint32_t slot; /* The first one of the upper part. */
    uint64_t lower;
    uint64_t upper;
};

struct conductor_message {
    enum conductor_message_kind kind;
    struct placement_step step;     /* STEP, for the one group. */
    struct conductor_split split;   /* SPLIT. */
    struct conductor_halves halves; /* HALVES; of a QUESTION, the question in it. */
    uint32_t group_count;           /* Of a STEP: 1; but for reports of others: 0. */
    struct bytes groups; /* For conductor_message_next(); of a MAP: for slots_decode(). */
};

/* Begin a report; groups follow, at most CONDUCTOR_MESSAGE_GROUP_COUNT_MAX. Appends. */
void conductor_report_begin(struct buffer *target, uint32_t group_count);
/* The leader is whoever sends it: not part of the message. */
void conductor_report_add(struct buffer *target, const struct placement_group_state *group);
/* A step for a group, with its members as the conductor knows them. Appends. */
void conductor_step_encode(struct buffer *target, const struct placement_step *step,
                           const struct placement_group_state *group);

void conductor_map_encode(struct buffer *target, const struct slots *slots);
void conductor_split_encode(struct buffer *target, const struct conductor_split *split);
void conductor_question_encode(struct buffer *target, const struct conductor_question *question);
void conductor_halves_encode(struct buffer *target, const struct conductor_halves *halves);
/* Whoever sends it is in office. */
void conductor_office_encode(struct buffer *target);

/* ERROR_PROTOCOL unless every byte is as it must be, those of all groups too, but for what a MAP has
 * (slots_decode() looks at that). `message` borrows. */
MUST_USE int conductor_message_decode(struct bytes source, struct conductor_message *message);
/* Of what was accepted: take the first group off. Its leader is 0. */
void conductor_message_next(struct conductor_message *message, struct placement_group_state *group);

/* Have they the same members, in the same order? */
bool conductor_has_same_members(const struct placement_group_state *left,
                                const struct placement_group_state *right);

/* ---- For hosts ------------------------------------------------------------------------------- */

struct shard; /* core/shard; the conductor itself knows of no replicas. */

/* Of a group that the replica leads, which is ready: what describe() of a host tells, but for size and load. */
void conductor_describe(const struct shard *shard, wal_shard group, raft_node self,
                        struct placement_group_state *state);

/* May the group that the replica leads get these members now? Not while a node would leave that could still
 * come to a split of the group, and has not: it would claim for ever what its replica has now, and no child of
 * it be opened there (decision 18). `is_alive`: is the node, as far as is known? Nor may one vote that has nothing,
 * or has lost some of its log since it was thought of. */
bool conductor_may_configure(const struct shard *shard, const struct raft_configuration *target,
                             bool (*is_alive)(void *context, raft_node node), void *context);

/* Where the slots of the question are halved best, by what `measure` says of a range of them; asked some dozens
 * of times. There must be two slots or more. */
struct conductor_halves conductor_halve(const struct conductor_question *question,
                                        uint64_t (*measure)(void *context, uint32_t first,
                                                            uint32_t end),
                                        void *context);

/* ---- The instance ---------------------------------------------------------------------------- */

/* Between two looks, and two reports; so much more for each 1,024 groups. */
#define CONDUCTOR_INTERVAL_MS 200u
/* After so many intervals without a report a group's leader is not known, */
#define CONDUCTOR_REPORT_INTERVALS_MAX 10u
/* and for so many balance waits for a group that is not known. */
#define CONDUCTOR_LISTEN_INTERVALS 5u
#define CONDUCTOR_COOL_DOWN_MS 5000u
#define CONDUCTOR_HOLD_MS 60000u
#define CONDUCTOR_SIZE_FLOOR_BYTES (16u << 20)
#define CONDUCTOR_LOAD_FLOOR_PER_S 1000u
#define CONDUCTOR_LOAD_SMOOTH_MS 20000u
#define CONDUCTOR_SPLIT_BUSY_MS 30000u
#define CONDUCTOR_SPLIT_SHARE_MIN 8u
/* After a split, or when a group is new: what is reported of its size is of now. */
#define CONDUCTOR_SPLIT_SETTLE_MS 10000u
/* No answer, or no plan, within this: it is thought of again. */
#define CONDUCTOR_SPLIT_TIMEOUT_MS 10000u
/* A group that cannot be split usefully. */
#define CONDUCTOR_SPLIT_USELESS_MS 600000u
#define CONDUCTOR_SPLIT_NO_RELIEF_MS 3600000u

/* How a node does what is decided. Nothing is called but within the calls below; none of these may call
 * the conductor. What is passed is borrowed. */
struct conductor_host {
    void *context;
    /* To another node. What cannot be sent is lost. */
    void (*send)(void *context, raft_node to, struct bytes message);

    /* Of a group that this node leads and is ready for, as it is now. False: it is none. */
    bool (*describe)(void *context, wal_shard group, struct placement_group_state *state);
    /* Have a group that was just described get other members, or another leader. 0: it has begun. */
    int (*configure)(void *context, wal_shard group, const struct raft_configuration *target);
    int (*transfer)(void *context, wal_shard group, raft_node node);
    /* Such a step has begun: for the record of what was done. */
    void (*begun)(void *context, const struct placement_step *step);
    /* Have the parent split, if it is led here. Comes again until the map has the child. */
    void (*split)(void *context, const struct conductor_split *split);
    /* Look where a group that is led here would be halved; what is found is in an input of a later tick. The
     * newest question counts. */
    void (*halve)(void *context, const struct conductor_question *question);
    /* A map came, unread (slots_decode()). */
    void (*take_map)(void *context, raft_node from, struct bytes map);

    /* In office. The map has the child of a planned split: it is not planned any more. */
    void (*split_done)(void *context, wal_shard child);
    /* Have it written down that the group is to be split there, and why: `measured` is its size, or its
     * requests per second, and too much. */
    void (*plan_split)(void *context, const struct conductor_halves *halves, uint64_t measured);
    /* A node that drains has nothing any more; said again as long as it is so. */
    void (*drained)(void *context, raft_node node);
};

struct conductor_input {
    uint64_t now_ms; /* Monotonic, above 0. */
    /* Of the first shard, as far as its replica here knows; 0: it does not. */
    raft_node leader;
    /* The term in which this node leads the first shard, ready to, and knows the cluster; 0: it does not. */
    uint64_t office;
    const struct slots *map; /* The newest that is known here. */
    /* The groups that this node leads and is ready for; `leader` is this node. Sizes are 0 while they are not
     * known; loads are requests per second. */
    const struct placement_group_state *led;
    uint32_t led_count;
    const struct conductor_halves *halves; /* That were found since the last tick; NULL: none. */

    /* In office. Nodes of the cluster in the order of their ids. One that is drained is among them, as one that
     * drains: should it have something again, it leaves it. */
    const struct placement_node_state *nodes;
    uint32_t node_count;
    struct placement_policy policy;
    const struct conductor_split *planned;
    uint32_t planned_count;
    bool may_split;            /* Everybody knows what a split is, and all messages. */
    uint64_t split_size_bytes; /* 0: not by size. */
    uint64_t split_load_per_s; /* 0: not by load. */
};

struct conductor;

/* `host` is copied. `node_count_max`: of an input. Errors: -EINVAL when that is 0 or above
 * PLACEMENT_NODE_COUNT_LIMIT. */
MUST_USE int conductor_create(struct conductor **conductor, const struct conductor_host *host,
                              raft_node self, uint32_t node_count_max, struct error *error);
void conductor_destroy(struct conductor *conductor);

/* Would conductor_tick() do anything? */
bool conductor_is_due(const struct conductor *conductor, uint64_t now_ms);
/* Report and, in office, look and have steps taken; nothing while it is not due. Errors, after the report:
 * -EINVAL when the input is none for placement_plan(). */
MUST_USE int conductor_tick(struct conductor *conductor, const struct conductor_input *input,
                            struct error *error);
/* Any message that came. ERROR_PROTOCOL: it is malformed and counts for nothing. */
MUST_USE int conductor_receive(struct conductor *conductor, raft_node from, struct bytes message,
                               uint64_t now_ms);

#endif
