/* SPDX-License-Identifier: Apache-2.0 */
/* member: which nodes of the cluster are alive, by gossip. Layer: core.
 *
 * SWIM (Das, Gupta, Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group
 * Membership Protocol", 2002) with suspicion and incarnations, and Lifeguard (Dadgar, Phillips,
 * Currey, "Lifeguard: Local Health Awareness for More Accurate Failure Detection", 2018).
 *
 * Each node probes one other at a time: a ping; when no answer comes, the same through a few
 * helpers; when none comes either, it *suspects* the other and says so. Whoever is suspected wrongly
 * hears of it and refutes with a higher incarnation. Suspicion that is not refuted becomes death.
 * What is new rides on the probes, and travels by itself while it is fresh. Each second every node
 * also compares a piece of what it knows with a node chosen from the whole roster, the dead
 * included, so that what was missed is found and a partition heals.
 *
 * Who belongs to the cluster is not decided here: the roster comes from the replicated system
 * state (MEMBER_INPUT_SET). Nothing here decides about data either: the states are hints, good for
 * choosing whom to ask first and for starting a repair early or late, never for what is true.
 *
 * States, and how one follows another
 *   alive    the node said so itself, with this incarnation.
 *   suspect  somebody's probe of it failed, or it is in the roster and was never heard of here.
 *   dead     suspected for the whole suspicion timeout without a refutation.
 *   left     the node said itself that it stops on purpose; nobody waits for it.
 *
 * Invariants
 *   I1. The incarnation known of a node never goes back, and only the node itself raises it.
 *   I2. Of one incarnation, alive < suspect < dead < left: what is known never goes back in this
 *       order. So a dead node is alive again only under a higher incarnation.
 *   I3. A node that runs and hears that it is suspected or dead takes a higher incarnation at once.
 *   I4. Only a suspicion that was open for the suspicion timeout ends in death, or, when this node
 *       shared it for half of the shortest, the word of another for which it did. A node that was
 *       never heard of is dead by word alone.
 *   I5. What is known of a node's meta never goes back in `revision`.
 *   I6. A message has at most MEMBER_MESSAGE_SIZE_MAX bytes, and the messages that a node sends per
 *       second while nothing happens do not depend on the number of nodes.
 *   I7. Nodes outside the roster are never spoken of; their pings are answered and no more.
 *
 * Times. Everything is a multiple of the probe interval (300 ms): a dead node is known everywhere
 * within 3 s in a cluster of 3 and within 10 s in one of 200. A node that is itself slow (its steps
 * come late, its probes fail where those of others do not) notices, gives the others more time and
 * probes less often.
 *
 * Driven by the node and by the simulator: a step when a message arrives, when something is said by
 * the authority or by the node about itself, and no later than `wake_at_ms`. Messages may be lost,
 * repeated, delayed and reordered; who sent one must be known for certain (the wire's mutual TLS).
 * The format of the messages is in docs/formats/member.md.
 *
 * An instance belongs to one thread, takes no locks, and allocates nothing after member_create(). */
#ifndef CORE_MEMBER_MEMBER_H
#define CORE_MEMBER_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"

typedef uint32_t member_node;        /* 0: nobody. */
typedef uint64_t member_incarnation; /* 0: never heard of. */

#define MEMBER_NODE_COUNT_LIMIT 1024
#define MEMBER_MESSAGE_SIZE_MAX 1200
#define MEMBER_ADDRESS_SIZE_MAX 120
#define MEMBER_ZONE_SIZE_MAX 32
#define MEMBER_PROBE_INTERVAL_MS 300
/* No incarnation and no revision is above this; both begin at a time in milliseconds. */
#define MEMBER_INCARNATION_MAX ((UINT64_C(1) << 62) - 1)

enum member_state {
    MEMBER_STATE_ALIVE,
    MEMBER_STATE_SUSPECT,
    MEMBER_STATE_DEAD,
    MEMBER_STATE_LEFT,
};

/* Figures that change all the time. They spread as there is room, so what is known of a node is
 * seconds old in a small cluster and a minute or so in a large one. */
struct member_load {
    uint64_t capacity_bytes; /* Of the disk, for data. */
    uint64_t used_bytes;
    uint32_t processor_permille; /* Of all processors of the node. */
    uint32_t memory_permille;    /* Of the memory budget. */
    uint32_t requests_per_s;
    uint32_t shard_count;
    uint32_t leader_count;
    uint32_t conditions; /* Bits whose meaning the node gives: disk full, slow, draining. */
};

/* What a node says of itself. */
struct member_meta {
    uint64_t boot_id; /* Another one for each start of the process. */
    uint32_t version; /* Of the software, as a number that grows. */
    uint8_t address_size_bytes;
    uint8_t zone_size_bytes;
    char address[MEMBER_ADDRESS_SIZE_MAX]; /* Where peers reach it, as text. */
    char zone[MEMBER_ZONE_SIZE_MAX];
    struct member_load load;
};

/* Fill in address and zone. Errors: -EINVAL when one is too long (nothing changed). */
MUST_USE int member_meta_set_address(struct member_meta *meta, struct bytes address);
MUST_USE int member_meta_set_zone(struct member_meta *meta, struct bytes zone);
/* Borrow from `meta`. */
struct bytes member_meta_address(const struct member_meta *meta);
struct bytes member_meta_zone(const struct member_meta *meta);

struct member_options {
    member_node self; /* Not 0. */
    /* Above what any earlier life of this node used: the wall clock at the start, in milliseconds.
     * If the clock went back, the node learns from the others what it has to exceed. */
    member_incarnation incarnation;
    struct member_meta meta;
    uint32_t node_count_max;    /* Of the roster, this node included. */
    uint32_t probe_interval_ms; /* 0: MEMBER_PROBE_INTERVAL_MS. The same on all nodes. */
    uint64_t random_seed;
    uint64_t now_ms; /* Monotonic; where it starts does not matter. */
};

enum member_input_kind {
    MEMBER_INPUT_TICK,        /* Time has passed. */
    MEMBER_INPUT_RECEIVE,     /* `message` came from `node`. */
    MEMBER_INPUT_SET,         /* The roster: `node` is in it with `address`, or `is_removed`. */
    MEMBER_INPUT_UPDATE_SELF, /* `meta` is what this node now says of itself. */
    MEMBER_INPUT_LEAVE,       /* This node stops on purpose. */
};

struct member_input {
    enum member_input_kind kind;
    uint64_t now_ms; /* Not before that of the previous step. */
    member_node node;
    struct bytes message;
    struct bytes address; /* Used until the node has said its address itself. */
    bool is_removed;
    const struct member_meta *meta; /* Borrowed; its boot_id is that of the options. */
};

/* A message for a node of the roster, or for the node outside of it whose ping is answered. */
struct member_send {
    member_node node;
    struct bytes message;
};

enum member_reason {
    MEMBER_REASON_HEARD,        /* alive: it was never heard of before. */
    MEMBER_REASON_REFUTED,      /* alive: it contradicted a suspicion or its death. */
    MEMBER_REASON_RESTARTED,    /* alive (before it too, perhaps): its boot id is another one. */
    MEMBER_REASON_PROBE_FAILED, /* suspect: a probe of this node failed. */
    MEMBER_REASON_GOSSIP,       /* suspect, dead: another node says so. */
    MEMBER_REASON_TIMEOUT,      /* dead: the suspicion was not refuted in time. */
    MEMBER_REASON_SELF,         /* left: the node said so itself. */
    MEMBER_REASON_META,         /* Its address, zone or version changed; the state did not. */
};

/* What became known of another node. Load alone is no event. */
struct member_event {
    member_node node;
    enum member_state before;
    enum member_state state;
    enum member_reason reason;
    member_incarnation incarnation;
    uint64_t now_ms;
};

struct member_output {
    const struct member_send *sends;
    uint32_t send_count;
    const struct member_event *events;
    uint32_t event_count;
    uint64_t wake_at_ms; /* Step again no later than this; UINT64_MAX: nothing to wait for. */
};

struct member;

/* Give an instance whose roster is this node alone.
 * Errors: -EINVAL when the options contradict themselves or exceed a limit. */
MUST_USE int member_create(struct member **member, const struct member_options *options,
                           struct error *error);
void member_destroy(struct member *member);

/* Advance by one input. Never blocks or allocates; `output` borrows from `member` until the next
 * step. A non-zero status means that nothing changed and the output is empty but for `wake_at_ms`:
 *   ERROR_PROTOCOL  the message is not one of ours; or, of a newer format, cannot be understood
 *   -EBUSY          SET: the roster is full
 *   -EINVAL         SET, UPDATE_SELF: an address or zone that is too long, node 0 */
MUST_USE int member_step(struct member *member, const struct member_input *input,
                         struct member_output *output);

/* True when this node left and as many messages said so as it takes; the process may then end
 * (it should not wait longer than a second: the others find out anyway). */
bool member_leave_is_spread(const struct member *member);

/* ---- What is known. All of it borrows until the next step. --------------------------------- */

struct member_view {
    member_node node;
    enum member_state state;
    uint64_t since_ms; /* When the state became known here. */
    member_incarnation incarnation;
    bool is_heard; /* A message came from it directly, at last_heard_ms. */
    uint64_t last_heard_ms;
    uint32_t round_trip_ms;         /* Of probes, smoothed; 0 before the first. */
    struct bytes address;           /* From its meta, or from the roster while it has none. */
    const struct member_meta *meta; /* NULL until known. */
    uint64_t revision;              /* Of the meta. */
};

/* False when the node is not in the roster. This node itself is in it, alive or left. */
bool member_state(const struct member *member, member_node node, struct member_view *view);

/* The roster in the order of node ids: `index` is below member_count(). */
uint32_t member_count(const struct member *member);
void member_list(const struct member *member, uint32_t index, struct member_view *view);

/* Since create; for metrics and tests. */
struct member_statistics {
    uint64_t sent_count;
    uint64_t sent_bytes;
    uint64_t received_count;
    uint64_t received_bytes;
    uint64_t refused_count; /* Messages that could not be decoded. */
    uint64_t probe_count;
    uint64_t probe_failed_count;
    uint64_t suspicion_count;   /* That a failed probe of this node began or confirmed. */
    uint64_t refutation_count;  /* Of this node's own suspicion or death. */
    uint64_t late_count;        /* Steps that came far later than asked for. */
    uint32_t health_multiplier; /* Lifeguard's local health: 0 is healthy, 8 the worst. */
};
void member_get_statistics(const struct member *member, struct member_statistics *statistics);

const char *member_state_text(enum member_state state);
const char *member_reason_text(enum member_reason reason);

#endif
