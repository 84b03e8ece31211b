/* SPDX-License-Identifier: Apache-2.0 */
/* The node as one of several: on the loop of reactor 0, like the data shard.
 *
 *   node_cluster.c     the peer port, and which frame goes where; gossip
 *   node_frame.c       messages of shards as frames
 *   node_beats.c       heartbeats, those of many shards together
 *   node_conductor.c   has core/conductor decide, and does what it says
 *   node_pace.c        whether the disk is slow, and how full
 *   node_admit.c       letting strangers in
 *   node_versions.c    what others do not understand
 *   node_roster.c      who else is there, and who is removed
 *   node_news.c        telling shards who is gone, and who is back
 *   node_facts.c       what this node says of itself
 *   node_view.c        what gateways tell clients of it
 *   node_errand.c      commands of service/system, sent like those of any client
 *   node_transactions.c  the end of transactions that nobody finishes
 *   node_replica.c     what the shard asks of its host as a replica
 *   node_describe.c    what this node says of itself and its replicas
 *   node_inquiry.c     what this node asks others on behalf of an operator, and answers them
 *   node_overview.c    what it makes of the answers
 *   node_tables.c      how that is told
 *   node_fence.c       after a recovery: nobody who was lost comes back
 *   node_control.c     what an operator asks and tells */
#ifndef NODE_NODE_CLUSTER_H
#define NODE_NODE_CLUSTER_H

#include "core/beats/beats.h"
#include "core/member/member.h"
#include "core/placement/placement.h"
#include "core/route/route.h"
#include "core/txn/txn.h"
#include "driver/wire/wire.h"
#include "node/node_internal.h"
#include "service/system/system.h"

/* Kinds of frames. A message of another shard than the first begins with its number. */
enum node_frame {
    NODE_FRAME_SHARD = 1,
    NODE_FRAME_ROUTE = 3,
    NODE_FRAME_MEMBER = 4,
    NODE_FRAME_OTHER_SHARD = 5, /* As NODE_FRAME_SHARD, of another than the first. */
    NODE_FRAME_PLACEMENT = 6,   /* Between the conductor and leaders, and maps: node_conductor.c. */
    NODE_FRAME_INQUIRY = 7,     /* On behalf of an operator: node_inquiry.c. */
    NODE_FRAME_ROSTER = 8,      /* Where nodes are: node_roster.c. */
    NODE_FRAME_BEATS = 9,       /* Heartbeats of all shards: core/beats. */
};

/* Nobody is let in beyond it; the rows of the cluster would allow more (service/system). */
#define NODE_PEER_COUNT_MAX 256u
_Static_assert(NODE_PEER_COUNT_MAX <= OS_LOOKUPS_MAX, "all peers may have names");

/* Another node, as the roster has it. */
struct node_peer {
    uint32_t id;
    char address[SYSTEM_ADDRESS_SIZE]; /* As it said itself: numbers, or a name. */
    enum system_node_state state;
    char zone[SYSTEM_ZONE_SIZE];
    char redis[SYSTEM_ADDRESS_SIZE];
    char admin[SYSTEM_ADDRESS_SIZE];
    uint64_t boot_id;   /* Of its newest connection. */
    bool must_hear_map; /* It was not told of the newest one: too much was under way to it. */
    uint32_t version;   /* Of the protocol, on the one that was dialled last. */
    struct beats beats; /* What its replicas are to hear at the end of the tick. */
};

/* What shards are still to be told: node_news.c. */
#define NODE_NEWS_COUNT_MAX 16u
struct node_news_item {
    uint32_t node; /* 0: nothing but that they are to wake. */
    bool is_lost;
    /* Those without a leader, or with that node, are; then come those led here. */
    bool are_orphans_told;
    uint32_t next_place;
};
struct node_news {
    struct node_news_item items[NODE_NEWS_COUNT_MAX];
    uint32_t item_count;
    uint64_t told_at_ms;
};

/* How fast the disk was, and what was told of its space: node_pace.c. */
struct node_pace {
    uint64_t looked_at_ms;
    uint64_t flush_count; /* As of then. */
    uint64_t flush_duration_ns_sum;
    uint32_t late_count;
    uint32_t in_time_count;
    bool is_slow;
    bool is_full;
    uint64_t capacity_bytes;
    uint64_t used_bytes;
};

struct node_cluster {
    struct node_shards *shards;
    struct node_data *data;
    const struct node_options *options;
    struct os_loop *loop;
    struct os_log *log;
    struct node_identity identity;
    uint32_t self;
    uint64_t boot_id;
    char peer_text[SYSTEM_ADDRESS_SIZE]; /* Where others reach this node; */
    char redis_text[SYSTEM_ADDRESS_SIZE];
    char admin_text[SYSTEM_ADDRESS_SIZE];

    struct wire *wire;
    struct route *route;
    struct txn *transactions; /* The recoverer. */
    uint64_t transactions_looked_at_ms;
    uint32_t transactions_next_shard; /* That the next look begins with. */
    struct list errands;              /* Commands under way. */
    struct member *member;
    struct os_timer *timer;
    uint64_t member_wake_at_ms;

    struct node_peer peers[NODE_PEER_COUNT_MAX]; /* In the order of their ids. */
    uint32_t peer_count;
    bool has_beats;                    /* For one of them or more. */
    enum system_node_state self_state; /* Of this node, as far as it has heard. */
    uint32_t *removed;                 /* Nodes that the rows of the cluster said are removed. */
    uint32_t removed_count;
    uint64_t roster_generation; /* Of the system's state that the peers were taken from. */
    uint64_t roster_asked_at_ms;
    bool is_roster_answer_old;  /* A state is known that is newer than what was asked for. */
    struct buffer roster_saved; /* What the file `roster` has, */
    bool is_roster_saved;       /* which is known: an empty one says more than none. */
    uint64_t renewal_looked_at_ms;
    bool has_said_who;  /* That the system's state has this node's addresses. */
    bool is_saying_who; /* A command about them is under way, */
    bool is_founding;   /* which makes the cluster. */
    uint64_t said_at_ms;
    bool is_leaving;
    bool is_removed;             /* Another node said so. */
    void (*stop)(void *context); /* Ends the process in good order. */
    void *stop_context;
    struct node_fence *fence; /* NULL: there is nothing to fence. */

    struct node_view *view;
    uint64_t epoch; /* The sum of the terms: grows with each change of a leader. */

    struct node_pace pace;
    struct node_sampler *sampler;
    uint64_t started_at_ms;
    struct node_halver *halver;
    struct node_news news;
    uint64_t map_told_at_ms; /* Again, to those with must_hear_map. */
    struct node_conductor *conductor;
    struct node_inquiries *inquiries;
};

/* ---- node_cluster.c -------------------------------------------------------------------------- */

struct node_cluster_options {
    struct node_shards *shards;
    struct node_data *data;
    const struct node_options *options;
    struct os_loop *loop;
    const char *redis;
    const char *admin;
    struct node_sampler *sampler;
    struct node_halver *halver;
    uint64_t started_at_ms;
    /* The node must stop: it was removed. */
    void (*removed)(void *context);
    void *context;
};
/* Take the identity, listen for other nodes. After node_shards_attach(). */
MUST_USE int node_cluster_open(struct node_cluster **cluster,
                               const struct node_cluster_options *options, struct error *error);
/* The loop has stopped. */
void node_cluster_close(struct node_cluster *cluster);
struct os_address node_cluster_address(const struct node_cluster *cluster);
/* Within the shards' tick, after shard_tick(). Returns when to be called again. */
uint64_t node_cluster_tick(struct node_cluster *cluster, uint64_t now_ms);
/* Tell the others, and hand leadership of all shards to them. False: one is not led by another yet. */
bool node_cluster_leave(struct node_cluster *cluster);
void node_cluster_step_member(struct node_cluster *cluster, struct member_input *input);
/* Have the route know of the shards of the newest map. */
void node_cluster_route_map(struct node_cluster *cluster);
/* May clients be served: does this node know who leads each shard? */
bool node_cluster_is_ready(const struct node_cluster *cluster);

/* Has this node a replica of the first shard, with the rows of the cluster? */
bool node_cluster_has_rows(const struct node_cluster *cluster);

/* ---- node_roster.c --------------------------------------------------------------------------- */

/* NULL: none of that number. Valid until the roster changes. */
struct node_peer *node_roster_find(struct node_cluster *cluster, uint32_t id);
/* Once, when the node starts: what the file says. */
void node_roster_load(struct node_cluster *cluster);
/* Have the file say what is known, if it does not yet. It blocks while it writes. */
void node_roster_save(struct node_cluster *cluster);
/* Of each line "number address": that node is there. `are_known_kept`: unless it is known already. */
void node_roster_read(struct node_cluster *cluster, struct bytes text, bool are_known_kept);
/* In each tick: at the rows, if they have changed, … */
void node_roster_look(struct node_cluster *cluster);
/* … or, where there are none, ask now and then. */
void node_roster_ask(struct node_cluster *cluster, uint64_t now_ms);
/* Whoever has the rows of the cluster tells those who have not, when nodes change and when they connect.
 * They ask, too, but only the leader of the first shard answers; were that a node that they have not heard
 * of yet, they would never learn. */
void node_roster_tell(struct node_cluster *cluster);
void node_roster_tell_to(struct node_cluster *cluster, uint32_t node);
/* What the rows of the cluster say: whoever is removed stays so, whatever a roster says that is older. */
void node_roster_note(struct node_cluster *cluster, uint32_t node, bool is_removed);
/* An operator's command has given it that state: for who has no rows, and would hear of it later. */
void node_roster_note_state(struct node_cluster *cluster, uint32_t node,
                            enum system_node_state state);
bool node_roster_is_removed(const struct node_cluster *cluster, uint32_t node);

/* ---- node_versions.c ------------------------------------------------------------------------- */

/* A connection to that node is there. */
void node_versions_note(struct node_cluster *cluster, const struct wire_remote *remote);
/* Does its software know that shards become two? `context`: the cluster. */
bool node_versions_know_slots(void *context, raft_node node);
bool node_versions_know_beats(const struct node_peer *peer);
/* Does it understand floors? */
bool node_versions_know_floors(void *context, raft_node node);
/* Of the protocol, for connections from now on. */
uint32_t node_versions_min(const struct node_cluster *cluster);
/* A shard has split. */
void node_versions_split(struct node_cluster *cluster);

/* ---- node_pace.c ----------------------------------------------------------------------------- */

void node_pace_tick(struct node_cluster *cluster, uint64_t now_ms);
/* Of what is known of a node: does it say that its disk is slow? */
bool node_pace_is_slow(const struct member_view *view);
bool node_pace_is_full(const struct member_view *view);

/* ---- node_frame.c ---------------------------------------------------------------------------- */

/* What cannot be sent now is lost, as on any network; whoever said it says it again. */
void node_cluster_send_member(struct node_cluster *cluster, uint32_t to, struct bytes message);
void node_cluster_send_shard(struct node_cluster *cluster, wal_shard shard, raft_node to,
                             const struct bytes *pieces, uint32_t piece_count);
void node_cluster_send_placement(struct node_cluster *cluster, raft_node to, struct bytes message);
/* Of the map; one that could not be sent is told again, until the connection ends: another one begins
 * with the map. */
void node_cluster_send_map(struct node_cluster *cluster, raft_node to, struct bytes message);
/* Returns when to be called again. */
uint64_t node_cluster_tell_map_again(struct node_cluster *cluster, uint64_t now_ms);
void node_cluster_send_roster(struct node_cluster *cluster, uint32_t to, struct bytes text);
void node_cluster_send_inquiry(struct node_cluster *cluster, raft_node to, struct bytes message);
/* Of core/beats. */
void node_cluster_send_beats(struct node_cluster *cluster, uint32_t to, struct bytes message);
/* A whole message of a shard. */
void node_frame_shard_came(struct node_cluster *cluster, raft_node from, uint16_t kind,
                           struct bytes payload);

/* ---- node_beats.c ---------------------------------------------------------------------------- */

/* Of struct shard_options; */
uint32_t node_beats_phase_ms(wal_shard id);
/* of struct shard_host: gathers them. */
bool node_beats_add(void *context, struct shard *shard, const struct raft_message *message);
/* The end of a tick: send what was gathered. */
void node_beats_send(struct node_cluster *cluster);
void node_beats_came(struct node_cluster *cluster, raft_node from, struct bytes payload);
/* Each tick: are many groups awake? */
void node_beats_look(struct node_shards *shards);

/* ---- node_news.c ----------------------------------------------------------------------------- */

void node_news_add(struct node_cluster *cluster, uint32_t node, bool is_lost);
/* Each tick. */
void node_news_tick(struct node_cluster *cluster, uint64_t now_ms);
uint64_t node_news_wake_at_ms(const struct node_cluster *cluster);

/* ---- node_facts.c ---------------------------------------------------------------------------- */

/* Each tick, until the cluster knows it. */
void node_facts_tick(struct node_cluster *cluster, uint64_t now_ms);

/* ---- node_view.c ----------------------------------------------------------------------------- */

struct node_view *node_view_create(const char *cluster_id, uint32_t self,
                                   const struct node_shards *shards);
void node_view_destroy(struct node_view *view);
/* As soon as it is known. */
void node_view_set_leader(struct node_view *view, wal_shard shard, raft_node leader);
/* Of a replica at which something happened. */
void node_view_note(struct node_view *view, const struct node_shard *shard);
void node_view_update(struct node_view *view, const struct node_cluster *cluster, uint64_t now_ms);
/* Any thread. */
void node_view_describe(struct node_view *view, struct resp_cluster *target);
bool node_view_find_leader(struct node_view *view, uint16_t slot, struct resp_place *place);

/* ---- node_errand.c --------------------------------------------------------------------------- */

/* A command of the system service on its way; `done` at most once, with the status of the way and
 * the reply (borrowed): what is still under way when the node ends is over without a word. NULL: nobody listens. */
typedef void (*node_errand_done)(void *context, int status, struct bytes reply);
/* Sends a copy, for somebody who waits: a first shard that is busy, or has no cluster yet, is asked again for up to
 * five seconds, and only then is that the answer. Errands do not wait for each other. */
void node_errand_send(struct node_cluster *cluster, const struct system_command *command,
                      node_errand_done done, void *context);
/* Once: what is refused as busy is thought of again, and may be another thing then. */
void node_errand_try(struct node_cluster *cluster, const struct system_command *command,
                     node_errand_done done, void *context);
/* A read, of what this node's own replica has: it may be old, and needs no leader. */
void node_errand_look(struct node_cluster *cluster, const struct system_command *command,
                      node_errand_done done, void *context);
/* Once neither the route nor the shard knows of them. */
void node_errands_close(struct node_cluster *cluster);

/* ---- node_describe.c ------------------------------------------------------------------------- */

/* The group of a replica that is here, as this node knows it. */
struct node_group {
    wal_shard shard;
    raft_node leader; /* 0: not known. */
    bool is_impaired; /* The replica. */
    struct raft_configuration members;
};

/* What this node says of itself and of its replicas. There may be thousands of these, so it is put together
 * some at a time, in the order of their places, where they stay: each is described once, as it was at that
 * moment, also one that came to be meanwhile. */
#define NODE_DESCRIBED_COUNT_MAX 256u
struct node_description {
    struct buffer answer; /* For inquiry_message_decode(), once it is whole. */
    bool wants_groups;
    struct node_group *groups; /* Of all replicas. */
    uint32_t group_count;
    uint32_t group_capacity;
    uint32_t replica_count; /* In `answer`: those whose groups this node belongs to. */
    uint32_t next_place;
    bool is_begun;
};
/* Describe at most NODE_DESCRIBED_COUNT_MAX more. True: it is whole. An answer to the question of that number. */
MUST_USE bool node_describe(struct node_description *description,
                            const struct node_cluster *cluster, uint64_t number);
void node_description_deinit(struct node_description *description);

/* ---- node_inquiry.c -------------------------------------------------------------------------- */

enum node_answer_kind {
    NODE_ANSWER_CAME,
    NODE_ANSWER_LATE,        /* It was asked, and did not answer in time. */
    NODE_ANSWER_UNREACHABLE, /* It is not connected, so it was not asked. */
};

struct node_answer {
    uint32_t node;
    enum node_answer_kind kind;
    struct buffer message; /* CAME: one that inquiry_message_decode() accepts, with figures. */
};

/* What all nodes said of themselves, this one first, then in the order of their ids; and what this one knows
 * of its groups. About each replica somebody said what was so at one moment between the start of the survey
 * and its end, not all of them the same. */
struct node_survey {
    struct node_answer answers[NODE_PEER_COUNT_MAX + 1];
    uint32_t answer_count;
    struct node_group *groups;
    uint32_t group_count;
};
void node_survey_destroy(struct node_survey *survey);

/* On the loop, at most once, not before the start has returned; takes the survey. What is under way when the
 * node ends is over without a word. */
typedef void (*node_survey_done)(void *context, struct node_survey *survey);
void node_survey_start(struct node_cluster *cluster, node_survey_done done, void *context);

struct node_handover_request {
    wal_shard shard;
    raft_node leader; /* Who is asked; */
    raft_node node;   /* for this one. */
};
struct node_handover_result {
    bool is_answered;
    enum inquiry_outcome outcome;
    raft_node leader; /* As far as the asked one knows. */
};
typedef void (*node_handover_done)(void *context, const struct node_handover_result *result);
/* Perhaps before it returns; else as above. */
void node_handover_start(struct node_cluster *cluster, const struct node_handover_request *request,
                         node_handover_done done, void *context);

/* Each tick: go on with what others are to be told. */
void node_inquiry_tick(struct node_cluster *cluster);
void node_inquiry_receive(struct node_cluster *cluster, raft_node from, struct bytes payload);
void node_inquiries_open(struct node_cluster *cluster);
void node_inquiries_close(struct node_cluster *cluster);

/* ---- node_fence.c ---------------------------------------------------------------------------- */

/* After a recovery (node.h): no other node is let in before the rows of the cluster say of each
 * that it is removed, and a record of it is there. */
MUST_USE int node_fence_open(struct node_cluster *cluster, struct error *error);
void node_fence_close(struct node_cluster *cluster);
/* Is it up? */
bool node_fence_is_up(const struct node_cluster *cluster);
void node_fence_tick(struct node_cluster *cluster, uint64_t now_ms);

/* ---- node_admit.c ---------------------------------------------------------------------------- */

void node_admit(struct node_cluster *cluster, struct wire_stranger *stranger, const char *address,
                struct bytes payload);

/* ---- node_conductor.c ------------------------------------------------------------------------ */

MUST_USE int node_conductor_open(struct node_cluster *cluster, struct error *error);
void node_conductor_close(struct node_cluster *cluster);
/* Report what is led here; while this node leads the first shard, have steps taken. */
void node_conductor_tick(struct node_cluster *cluster, uint64_t now_ms);
void node_conductor_receive(struct node_cluster *cluster, raft_node from, struct bytes payload);
/* The newest map is newer than before: tell everybody, and have the route know of the shards. */
void node_conductor_tell_map(struct node_cluster *cluster);
/* Somebody has connected. */
void node_conductor_tell_map_to(struct node_cluster *cluster, raft_node node);

/* ---- node_replica.c -------------------------------------------------------------------------- */

void node_replica_send(void *context, struct shard *shard, raft_node to, const struct bytes *pieces,
                       uint32_t piece_count);
int node_replica_work_elsewhere(void *context, struct shard_work *what);
void node_replica_read_log(void *context, struct shard_log_read *read);
MUST_USE int node_replica_read_back(void *context, struct shard_log_read *read);
MUST_USE int node_replica_load_entry(struct node_shard *shard, wal_shard id, raft_index index,
                                     raft_term *term, struct buffer *payload, struct error *error);

/* ---- node_transactions.c --------------------------------------------------------------------- */

MUST_USE int node_transactions_open(struct node_cluster *cluster, struct env_clock clock,
                                    struct error *error);
/* Before route_tick(). Returns when to be called again. */
uint64_t node_transactions_tick(struct node_cluster *cluster, uint64_t now);

#endif
