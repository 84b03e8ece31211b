/* SPDX-License-Identifier: Apache-2.0 */
/* member_internal: what the files of this folder share.
 *
 *   member.c          life cycle, the step, the roster, what can be asked
 *   member_format.c   messages as bytes
 *   member_gossip.c   what is told next: fewest transmissions first
 *   member_state.c    what is believed: states, suspicion, refutation, meta
 *   member_probe.c    pings, helpers, the own health
 *   member_sync.c     comparing pieces of the roster with one other node */
#ifndef CORE_MEMBER_MEMBER_INTERNAL_H
#define CORE_MEMBER_MEMBER_INTERNAL_H

#include "base/list/list.h"
#include "base/random/random.h"
#include "core/member/member.h"

enum {
    /* Lifeguard §IV: how many independent suspicions bring the timeout down to its minimum (K), the
     * minimum in probe intervals at ten nodes (alpha), and the maximum in minima (beta). */
    MEMBER__CONFIRMATION_COUNT = 3,
    MEMBER__SUSPICION_ALPHA = 4,
    MEMBER__SUSPICION_BETA = 6,
    MEMBER__ACCUSER_COUNT_MAX = MEMBER__CONFIRMATION_COUNT + 1,
    /* SWIM §4.1: an update is told lambda * log(n) times. */
    MEMBER__TRANSMISSION_LAMBDA = 4,
    MEMBER__TRANSMISSION_COUNT_MAX = 16,
    MEMBER__FANOUT = 3, /* Receivers of one round of gossip. */
    MEMBER__HELPER_COUNT = 3,
    MEMBER__HEALTH_MAX = 8,
    MEMBER__ERRAND_COUNT_MAX = 32, /* Probes made for others at a time. */
    MEMBER__META_COUNT = 4,        /* Metas that ride on a ping or its answer. */
    MEMBER__PIECE_META_COUNT = 1,  /* In the answer to a piece: they ride on pings too. */
    MEMBER__PIECE_COUNT = 10,      /* Nodes that are compared per second. */
    MEMBER__SEND_COUNT_MAX = 64,
    MEMBER__LATE_MS = 100, /* A step that comes later than this was asked for much earlier. */

    MEMBER__HEADER_SIZE = 24,
    MEMBER__RECORD_SIZE_MIN = 24,
    MEMBER__META_SIZE_MIN = 54,
    MEMBER__RECORD_SIZE_MAX = MEMBER__RECORD_SIZE_MIN + 4 * MEMBER__ACCUSER_COUNT_MAX +
                              MEMBER__META_SIZE_MIN + MEMBER_ADDRESS_SIZE_MAX +
                              MEMBER_ZONE_SIZE_MAX,
    MEMBER__RECORD_COUNT_MAX =
        (MEMBER_MESSAGE_SIZE_MAX - MEMBER__HEADER_SIZE) / MEMBER__RECORD_SIZE_MIN,
};
_Static_assert(MEMBER__RECORD_SIZE_MAX <= UINT8_MAX, "the size of a record is one byte");
_Static_assert(MEMBER__RECORD_COUNT_MAX <= UINT8_MAX, "so is the number of records");
_Static_assert(MEMBER__HEADER_SIZE + MEMBER__META_COUNT * MEMBER__RECORD_SIZE_MAX <=
                   MEMBER_MESSAGE_SIZE_MAX,
               "the metas of a ping fit");

/* ---- Messages ------------------------------------------------------------------------------ */

enum member__kind {
    MEMBER__KIND_PING = 1,
    MEMBER__KIND_ACK = 2,
    MEMBER__KIND_NACK = 3,
    MEMBER__KIND_PING_REQUEST = 4,
    MEMBER__KIND_GOSSIP = 5,
    MEMBER__KIND_SYNC = 6,
    MEMBER__KIND_SYNC_REPLY = 7,
};

/* What a message says of one node. */
struct member__record {
    member_node node;
    enum member_state state;
    /* Told because it is new. What is only repeated may be old: a death in it counts as a
     * suspicion, so that the healing of a partition does not kill who lives. */
    bool is_fresh;
    bool has_meta;
    uint8_t accuser_count; /* Of a suspicion or a death: whose probes failed. */
    member_node accusers[MEMBER__ACCUSER_COUNT_MAX];
    member_incarnation incarnation;
    uint64_t revision; /* Of the meta that the sender knows, in the message or not; 0: of none. */
    struct member_meta meta;
};

struct member__message {
    enum member__kind kind;
    uint32_t sequence; /* PING, ACK, NACK, PING_REQUEST. SYNC, SYNC_REPLY: the first node id. */
    uint32_t subject;  /* ACK, NACK, PING_REQUEST: the node probed. SYNC…: the last node id. */
    /* PING_REQUEST: how many milliseconds the helper waits before it answers NACK. SYNC: how many
     * metas the answer may have. */
    uint16_t limit;
    uint8_t record_count;
    member_incarnation incarnation; /* Of the sender. */
};

/* Validates every byte that is used. `records` has room for MEMBER__RECORD_COUNT_MAX. Errors:
 * ERROR_PROTOCOL; `message` and `records` are then undefined. */
MUST_USE int member__decode(struct bytes bytes, struct member__message *message,
                            struct member__record *records);

/* A message in the making: the header is written last. */
struct member__builder {
    uint8_t *data; /* MEMBER_MESSAGE_SIZE_MAX bytes. */
    size_t size_bytes;
    uint8_t record_count;
};
void member__build_start(struct member__builder *builder, uint8_t *data);
/* False when there is no room; nothing changed. */
bool member__build_record(struct member__builder *builder, const struct member__record *record);
struct bytes member__build_end(struct member__builder *builder,
                               const struct member__message *message);

/* ---- The instance -------------------------------------------------------------------------- */

struct member__entry {
    member_node node; /* 0: the slot is free. */
    enum member_state state;
    member_incarnation incarnation; /* 0: never heard of. */
    uint64_t revision;              /* 0: no meta. */
    uint64_t since_ms;
    struct member_meta meta;
    struct bytes roster_address; /* Into roster_address_text. */
    char roster_address_text[MEMBER_ADDRESS_SIZE_MAX];

    bool is_heard;
    uint64_t last_heard_ms;
    member_incarnation heard_incarnation; /* That the node last used itself. */
    bool has_round_trip;
    uint32_t round_trip_x8_ms; /* Smoothed, as in RFC 6298, in eighths. */
    uint32_t deviation_x4_ms;

    uint64_t suspected_at_ms; /* Moved forward by the time in which this node was not running. */
    uint64_t suspicion_ms_min;
    uint8_t accuser_count;
    member_node accusers[MEMBER__ACCUSER_COUNT_MAX];

    /* What is told of the node. A link that is in no list points at itself. */
    struct list state_link;
    uint8_t state_transmission_count;
    bool state_has_meta;
    struct list meta_link;
    uint8_t meta_transmission_count;
};

enum member__probe_stage {
    MEMBER__PROBE_IDLE,
    MEMBER__PROBE_DIRECT,   /* One ping is under way. */
    MEMBER__PROBE_INDIRECT, /* Helpers were asked, and a second ping sent. */
};

struct member__probe {
    enum member__probe_stage stage;
    struct member__entry *target;
    member_incarnation incarnation; /* Of the target when the probe began. */
    uint32_t sequences[2];
    uint64_t sent_at_ms[2];
    uint64_t stage_until_ms;
    uint64_t until_ms;
    uint32_t helper_count;
    uint32_t nack_count;
};

/* A probe made for another node. */
struct member__errand {
    bool is_open;
    member_node requester;
    uint32_t requester_sequence;
    member_node subject;
    uint32_t sequence;
    uint64_t until_ms;
};

struct member {
    struct member__entry *self;
    bool is_removed; /* This node from the roster: it keeps silent. */
    uint64_t clock;  /* The highest incarnation or revision this node used. */
    uint32_t probe_interval_ms;
    uint64_t now_ms;
    uint64_t wake_at_ms;
    struct random random;

    struct member__entry *entries;
    uint32_t entry_count_max;
    struct member__entry **order; /* By node id. */
    uint32_t count;
    uint32_t state_counts[MEMBER_STATE_LEFT + 1];
    struct member__entry **scratch; /* For choosing at random. */

    struct member__entry **probe_order; /* Everybody but this node, shuffled at each round. */
    uint32_t probe_count;
    uint32_t probe_position;
    struct member__entry *probe_next; /* Goes first, or NULL. */
    struct member__probe probe;
    uint64_t probe_at_ms;
    uint32_t sequence;
    uint32_t health; /* Lifeguard's local health multiplier, 0 to MEMBER__HEALTH_MAX. */
    struct member__errand errands[MEMBER__ERRAND_COUNT_MAX];

    struct list state_news[MEMBER__TRANSMISSION_COUNT_MAX]; /* By times told. */
    struct list meta_news[MEMBER__TRANSMISSION_COUNT_MAX];
    struct list meta_told; /* All others that are alive, in turn. */
    uint64_t gossip_at_ms; /* Not before this, when there are news. */

    bool is_catching_up; /* Not yet all pieces were compared since the start. */
    member_node sync_with;
    uint32_t sync_first;
    uint64_t sync_at_ms;

    struct member__record records[MEMBER__RECORD_COUNT_MAX]; /* Of the message that came. */
    uint8_t (*buffers)[MEMBER_MESSAGE_SIZE_MAX];
    struct member_send sends[MEMBER__SEND_COUNT_MAX];
    uint32_t send_count;
    struct member_event *events;
    uint32_t event_count;
    uint32_t event_count_max;
    struct member_statistics statistics;
};

/* ---- member.c ------------------------------------------------------------------------------ */

/* NULL: not in the roster. */
struct member__entry *member__find(const struct member *member, member_node node);
/* The first in `order` whose id is not below `node`; count when there is none. */
uint32_t member__position(const struct member *member, member_node node);
/* Alive or suspect, and another node. */
bool member__is_peer(const struct member *member, const struct member__entry *entry);
/* Put up to `count` peers into scratch, all equally likely; `excluded` may be NULL. How many. */
uint32_t member__choose(struct member *member, uint32_t count, bool is_alive_only,
                        const struct member__entry *excluded);
bool member__is_consistent(const struct member *member);

/* ---- member_gossip.c ----------------------------------------------------------------------- */

void member__gossip_init(struct member *member);
/* There is something new to tell of the state of `entry`. */
void member__news_state(struct member *member, struct member__entry *entry, bool has_meta);
void member__news_meta(struct member *member, struct member__entry *entry);
/* Nothing of it is told any more. */
void member__news_forget(struct member__entry *entry);
bool member__has_news(const struct member *member);
uint32_t member__transmission_limit(const struct member *member);
struct member__record member__record_of(const struct member__entry *entry, bool is_fresh,
                                        bool has_meta);

/* Begin a message to `node`; NULL when this step has sent all it can (the message counts as
 * lost). What is new is put into it by member__send(). */
bool member__send_start(struct member *member, struct member__builder *builder);
/* First what the receiver must know of itself, then news, then metas on pings and answers. A
 * receiver outside the roster (NULL) gets none of it. */
void member__send(struct member *member, struct member__builder *builder, member_node node,
                  struct member__message message);
/* Tell news to a few peers if it is time. */
void member__gossip_tick(struct member *member);

/* ---- member_state.c ------------------------------------------------------------------------ */

void member__apply(struct member *member, const struct member__record *record);
/* A direct message came from `entry`. */
void member__heard(struct member *member, struct member__entry *entry,
                   member_incarnation incarnation);
/* The probe of this node failed. */
void member__accuse(struct member *member, struct member__entry *entry);
/* When the suspicion ends in death; UINT64_MAX: `entry` is not suspected. */
uint64_t member__suspicion_ends_at_ms(const struct member *member,
                                      const struct member__entry *entry);
void member__suspicion_open(struct member *member, struct member__entry *entry);
void member__suspicion_tick(struct member *member);
/* This node takes a new incarnation because of what it now says of itself. */
void member__renew_self(struct member *member, uint64_t above);
/* A load figure changed, which is worth no incarnation. */
void member__revise_self(struct member *member);
void member__leave(struct member *member);

/* ---- member_probe.c ------------------------------------------------------------------------ */

void member__probe_add(struct member *member, struct member__entry *entry);
void member__probe_remove(struct member *member, struct member__entry *entry);
void member__probe_tick(struct member *member);
uint64_t member__probe_wake_at_ms(const struct member *member);
/* `late_ms` of this node's time did not happen. */
void member__probe_late(struct member *member, uint64_t late_ms);
void member__health_add(struct member *member, int change);
void member__receive_probe(struct member *member, member_node from,
                           const struct member__message *message);

/* ---- member_sync.c ------------------------------------------------------------------------- */

void member__sync_tick(struct member *member);
void member__receive_sync(struct member *member, struct member__entry *from,
                          const struct member__message *message);
void member__receive_sync_reply(struct member *member, struct member__entry *from,
                                const struct member__message *message);

#endif
