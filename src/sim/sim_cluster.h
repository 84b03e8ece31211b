/* SPDX-License-Identifier: Apache-2.0 */
/* One simulated life of a cluster: the same cores as in the node, on several simulated machines with
 * a network between them. What the files of it share.
 *
 *   sim_cluster.c          the world: events, phases
 *   sim_cluster_nature.c   what a life is like
 *   sim_cluster_node.c     a machine: the wiring of src/node with events in place of threads
 *   sim_cluster_host.c     what its shards ask for
 *   sim_cluster_route.c    its core/route, and what it needs
 *   sim_cluster_damage.c   bit rot and writes that go astray, in one log at a time
 *   sim_cluster_network.c  connections, and what befalls them
 *   sim_cluster_client.c   clients that find the leader by themselves, one request at a time
 *   sim_cluster_caller.c   clients of a node's gateway, which pipeline and go through core/route
 *   sim_cluster_history.c  what clients ask, and the history of what they saw
 *   sim_cluster_oracle.c   what a group's log ordered, checked on every replica
 *   sim_cluster_stale.c    reads that may be stale, and what arrives of them
 *   sim_cluster_past.c     what keys were at each place of a log
 *   sim_cluster_split.c    shards that become two, and maps on their way from node to node
 *   sim_cluster_version.c  nodes of an older version
 *   sim_cluster_gossip.c   rumours of who is gone, in lives whose groups fall quiet
 *   sim_cluster_conductor.c  a machine's core/conductor, in lives that have them
 *   sim_cluster_office.c   what is around conductors, what they promise, and what they must come to
 *   sim_cluster_room.c     zones, and disks with little room, as conductors hear of them
 *
 * In some lives the data are in several shards, each with a group and an oracle of its own. Then
 * there are transactions over several of them:
 *
 *   sim_cluster_coordinator.c  a machine's core/txn: the coordinator of its gateway, and the recoverer
 *   sim_cluster_transaction.c  what callers do in transactions
 *   sim_cluster_move.c     RENAME, RENAMENX and COPY, which are such ones
 *   sim_cluster_evaluate.c     those and MSETNX in MULTI
 *   sim_cluster_lists.c        keys that only grow: what all saw of them is checked as one history
 *   sim_cluster_ledger.c       what the logs say of transactions, taken together
 *
 * Two phases. In the first, faults: only safety is asked for. In the second the faults end, every
 * machine runs and every connection works: now everything must come to its end, and all replicas to
 * the same state. */
#ifndef SIM_SIM_CLUSTER_H
#define SIM_SIM_CLUSTER_H

#include "core/route/route.h"
#include "core/slots/slots.h"
#include "core/txn/txn.h"
#include "sim/sim_internal.h"

#define CLUSTER_NODE_COUNT_MAX 5u
#define CLUSTER_SHARD_COUNT_MAX 8u
#define CLUSTER_FOUNDED_COUNT_MAX 4u /* When it begins. */
#define CLUSTER_LIST_COUNT_MAX 8u

struct cluster;
struct cluster_node;
struct cluster_question;

/* What is to happen: run(cluster, event) at its time. */
struct cluster_event {
    uint64_t at_us;
    uint64_t number;
    void (*run)(struct cluster *cluster, const struct cluster_event *event);
    struct cluster_node *node; /* NULL: of the world. */
    uint32_t incarnation;      /* Of the node; events of a dead one are dropped. */
    uint64_t value;
    void *pointer;
};

/* Of lives with conductors. */
struct cluster_conducting {
    uint32_t pace; /* Their clocks run so many times faster than the others; 0: there are none. */
    bool does_begin_alone;    /* The first node; others join when somebody wishes so. */
    uint32_t replica_count;   /* That are wanted at first. */
    uint32_t grace_ms;        /* Of the dead. */
    uint32_t wish_every_us;   /* Somebody wants something else. */
    uint32_t office_every_us; /* Somebody else is to lead the first shard. */
    uint32_t split_size_bytes;
    uint32_t split_load_per_s;
    uint32_t slot_load; /* Each slot takes so much in 1000 s, whatever clients do, */
    uint32_t hot_slot;  /* and this one so much more. */
    uint32_t hot_load;
    uint32_t zone_count;     /* In which machines may be; below 2: all are in one. */
    uint32_t capacity_mib;   /* Of each disk; 0: not known. */
    uint32_t tight_every_us; /* One has little room, or room again. */
};

/* What this life is like: drawn from the seed. Intervals of 0: never. */
struct cluster_nature {
    uint32_t node_count;
    uint32_t shard_count;
    bool does_start_whole; /* All nodes are members from the start; else the first one alone. */
    uint32_t client_count;
    uint32_t key_count;
    uint32_t request_count;
    uint32_t caller_count; /* Of gateways. */
    uint32_t call_count;
    uint32_t burst_count_max;
    uint32_t stale_percent; /* Of their connections: reads may be stale. */
    uint32_t deadline_ms;   /* Of core/route, as what follows. */
    uint32_t silence_ms;
    uint32_t held_size_bytes;
    uint32_t guest_size_bytes;
    uint32_t reply_size_bytes; /* 0: the default. */
    uint32_t think_us;
    uint32_t retry_us;      /* Clients wait so long before they ask again elsewhere, */
    uint32_t impatience_us; /* and so long for a reply. 0: a long time. */
    uint32_t disk_us;
    uint32_t network_us;
    uint32_t election_timeout_ms;
    uint32_t quiet_after_ms; /* 0: never. */
    bool do_beats_gather;    /* Heartbeats of all shards go together, */
    bool are_beats_aligned;  /* and leave at the same times. */
    uint32_t segment_size_bytes;
    uint32_t store_row_count;
    uint32_t store_flush_us;
    uint32_t recent_size_bytes;
    uint32_t window_size_bytes;
    uint32_t piece_size_bytes;   /* Of snapshots; 0: the default. */
    uint32_t early_size_bytes;   /* Of replies of an entry; 0: the default. */
    uint32_t waiting_size_bytes; /* Of entries that are not applied yet; 0: the default. */
    uint32_t store_times;        /* Some take so many times as long to write a batch; 0: none. */
    uint32_t floor_delay_ms;
    uint32_t value_size_max;
    uint32_t kill_every_us;
    uint32_t power_percent; /* Of the kills. */
    uint32_t stay_down_us;
    uint32_t blackout_every_us; /* All lose their power at once. */
    uint32_t pause_every_us;
    uint32_t partition_every_us;
    uint32_t break_every_us; /* A connection. */
    uint32_t slow_disk_every_us;
    uint32_t full_every_us; /* A disk, or those of all. */
    uint32_t flush_error_every_us;
    uint32_t damage_every_us; /* Of a log, at rest or in use. */
    bool does_cache_lie;      /* See sim__disk_options. */
    bool does_directory_reorder;
    uint32_t configure_every_us;
    uint32_t transfer_every_us;
    uint32_t wall_jump_every_us;
    bool does_split;             /* Shards, for whatever reason. */
    uint32_t split_every_us;     /* Somebody asks for it. */
    uint32_t upgrade_every_us;   /* A node of an older version becomes a newer one. */
    uint32_t map_us;             /* So long a map is on its way. */
    uint32_t clock_rate_percent; /* Clocks run up to so much faster or slower. */
    struct memstore_faults faults;
    /* Of lives with several shards. */
    uint32_t list_count;
    uint32_t transaction_percent; /* Of the calls. */
    uint32_t watch_percent;       /* Of the transactions, */
    uint32_t move_percent;        /* and so many are RENAME, RENAMENX or COPY, */
    uint32_t evaluate_percent;    /* or have such commands in MULTI. */
    uint32_t transaction_deadline_ms;
    uint32_t prepare_timeout_ms;
    uint32_t recovery_age_ms;
    uint32_t recovery_look_ms;
    uint32_t aimed_per_mille; /* Of the steps of transactions: something befalls who took them. */
    struct cluster_conducting conducting;
};

/* Which splits a map has: of the child at place p, bit p - 1. */
typedef uint32_t cluster_map;

/* A shard that was not there from the start. */
struct cluster_child {
    uint32_t parent; /* Its place. */
    uint32_t first_slot;
    bool is_wished; /* The conductor tells of it: */
    bool is_born;   /* also for a while after that. */
};

struct cluster_oracle;
struct cluster_history;
struct cluster_lists;
struct cluster_ledger;
struct cluster_clients;
struct cluster_callers;
struct cluster_office;

/* From one node to another. */
struct cluster_link {
    bool is_blocked;
    /* Messages arrive in order, urgent ones among themselves. */
    uint64_t busy_until_us[2];
    uint32_t life; /* Messages of an earlier one are lost. */
};

struct cluster {
    struct sim_options options;
    struct sim_result *result;
    struct cluster_nature nature;
    struct random random;
    struct random disk_random;
    uint64_t now_us;
    int64_t wall_offset_ms;
    struct cluster_event *events; /* A heap, the earliest first. */
    uint32_t event_count;
    uint32_t event_capacity;
    uint64_t event_number;
    uint64_t trace_hash;
    uint32_t emptied_count; /* Replicas that gave up what they had. */
    bool is_failed;
    bool is_healing; /* The second phase, */
    uint64_t healed_at_us;
    bool is_quiet;        /* and all has ended: nothing goes on by itself. */
    uint64_t thinking_us; /* What the clients had before them when it healed. */
    struct cluster_node *nodes[CLUSTER_NODE_COUNT_MAX];
    uint32_t older; /* Those of an older version: a bit each. */
    struct cluster_link links[CLUSTER_NODE_COUNT_MAX][CLUSTER_NODE_COUNT_MAX];
    uint32_t shard_count; /* That there are; numbered from 1. A shard's place is one less. */
    struct random gossip_random;
    struct slots slots;                                      /* The newest map, */
    cluster_map map;                                         /* and what it has. */
    struct slots *maps[1u << (CLUSTER_SHARD_COUNT_MAX - 1)]; /* Those that were asked for. */
    struct cluster_child children[CLUSTER_SHARD_COUNT_MAX];  /* By place. */
    raft_index newest_applied[CLUSTER_SHARD_COUNT_MAX];      /* By any of them. */
    struct {
        bool is_impaired; /* When it was last looked at. */
        raft_index needed_index;
    } repairs[CLUSTER_NODE_COUNT_MAX][CLUSTER_SHARD_COUNT_MAX];
    struct cluster_oracle *oracles[CLUSTER_SHARD_COUNT_MAX]; /* By place. */
    struct cluster_history *history;
    struct cluster_lists *lists;
    struct cluster_ledger *ledger;
    struct cluster_clients *clients;
    struct cluster_callers *callers;
    struct list onlookers;         /* What they have asked; see sim_cluster_stale.c. */
    struct cluster_office *office; /* NULL: there are no conductors. */
};

/* ---- sim_cluster_nature.c -------------------------------------------------------------------- */

/* What this life is like, by its options; and begin the random numbers of what happens. -EINVAL: a setting
 * is wrong. */
MUST_USE int sim__cluster_draw(struct cluster *cluster, struct error *error);
/* Both included. */
uint32_t sim__cluster_between(struct random *random, uint32_t lower, uint32_t upper);
void sim__cluster_print_nature(const struct cluster *cluster, FILE *file);

/* ---- sim_cluster.c --------------------------------------------------------------------------- */

void sim__cluster_fail(struct cluster *cluster, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sim__cluster_note(struct cluster *cluster, const char *name, uint64_t a, uint64_t b,
                       uint64_t c);
void sim__cluster_schedule(struct cluster *cluster, uint64_t delay_us,
                           void (*run)(struct cluster *cluster, const struct cluster_event *event),
                           struct cluster_node *node, uint64_t value, void *pointer);
/* A number around `mean_us`, from a third of it to many times it. */
uint64_t sim__cluster_delay(struct cluster *cluster, uint64_t mean_us);
bool sim__cluster_percent(struct cluster *cluster, uint32_t percent);
uint32_t sim__cluster_any_node(struct cluster *cluster);
/* The bounds of a shard's rows. */
struct bytes sim__cluster_lower(const struct cluster *cluster, uint32_t place, uint8_t *target);
struct bytes sim__cluster_upper(const struct cluster *cluster, uint32_t place, uint8_t *target);

/* ---- sim_cluster_damage.c -------------------------------------------------------------------- */

/* Damage a place of the node's log that was known to be durable, if it is its turn. */
void sim__cluster_damage(struct cluster *cluster, struct cluster_node *node);
/* I8 of raft: an impaired replica sends no votes and asks for none. */
void sim__cluster_check_sent(struct cluster *cluster, const struct cluster_node *from,
                             uint32_t place, const struct bytes *message);
/* And it is whole only when its log has all that was committed when it began. */
void sim__cluster_check_repair(struct cluster *cluster, const struct cluster_node *node,
                               uint32_t place, const struct shard_statistics *statistics);
/* Would these voters, of the shard at that place, have no majority without one that is damaged and those
 * that may not count for long? `present` NULL: whoever makes them voters does so by what their leader knows, as
 * conductors do, and it refuses those who do not count (core/raft): is there one of whom nobody knows it? */
bool sim__cluster_needs_damaged(const struct cluster *cluster, uint32_t place,
                                const struct raft_configuration *present,
                                const struct raft_configuration *members);

/* ---- sim_cluster_beats.c --------------------------------------------------------------------- */

/* Heartbeats in an election timeout. */
#define CLUSTER_BEATS_PER_TIMEOUT 5u
void sim__cluster_beats_draw(struct cluster *cluster);
uint32_t sim__cluster_beats_phase_ms(const struct cluster *cluster, uint32_t place);

/* ---- sim_cluster_node.c ---------------------------------------------------------------------- */

/* A shard's; the route's; heartbeats of all; the conductors'; those of the other shards. */
enum cluster_message {
    CLUSTER_MESSAGE_SHARD,
    CLUSTER_MESSAGE_ROUTE,
    CLUSTER_MESSAGE_BEATS,
    CLUSTER_MESSAGE_CONDUCTOR,
    CLUSTER_MESSAGE_OTHER_SHARD,
    CLUSTER_MESSAGE_COUNT = CLUSTER_MESSAGE_OTHER_SHARD + CLUSTER_SHARD_COUNT_MAX - 1
};

static inline enum cluster_message sim__cluster_message_of_shard(uint32_t place)
{
    return place == 0 ? CLUSTER_MESSAGE_SHARD
                      : (enum cluster_message)(CLUSTER_MESSAGE_OTHER_SHARD + place - 1);
}

static inline uint32_t sim__cluster_shard_of_message(enum cluster_message kind)
{
    return kind == CLUSTER_MESSAGE_SHARD ? 0 : (uint32_t)kind - CLUSTER_MESSAGE_OTHER_SHARD + 1;
}

/* A shard of it was called: all are ticked next. */
void sim__cluster_node_touch(struct cluster_node *node);
/* A replica was told of a floor: its next tick may be more urgent, and need not be. */
void sim__cluster_node_note_floor(struct cluster_node *node, uint32_t place);
/* What a node believes. */
cluster_map sim__cluster_node_map(const struct cluster_node *node);
struct cluster_node *sim__cluster_node_create(struct cluster *cluster, uint32_t place);
void sim__cluster_node_destroy(struct cluster_node *node);
void sim__cluster_node_start(struct cluster *cluster, struct cluster_node *node);
void sim__cluster_node_kill(struct cluster *cluster, struct cluster_node *node, bool is_power_lost);
void sim__cluster_node_pause(struct cluster *cluster, struct cluster_node *node, uint64_t for_us);
void sim__cluster_node_slow_disk(struct cluster *cluster, struct cluster_node *node, uint32_t times,
                                 uint64_t for_us);
/* Its disk is full, or has space again. */
void sim__cluster_node_set_full(struct cluster *cluster, struct cluster_node *node, bool is_full);
/* One of the flushes that come fails with this chance; 0: none. */
void sim__cluster_node_fail_flush(struct cluster *cluster, struct cluster_node *node,
                                  uint32_t per_million);
/* Its log was damaged since it was last opened, or what it lost is not there again for good. */
bool sim__cluster_node_is_damaged(const struct cluster_node *node);
/* So it is, as far as this replica goes. */
bool sim__cluster_node_lacks(const struct cluster_node *node, uint32_t place);
/* The replica was emptied, and after a loss of power it might not know any more that it is whole again. */
bool sim__cluster_node_is_unsure(const struct cluster_node *node, uint32_t place);
void sim__cluster_node_set_damaged(struct cluster_node *node);
struct sim__disk *sim__cluster_node_disk(const struct cluster_node *node);
bool sim__cluster_node_is_running(const struct cluster_node *node);
uint32_t sim__cluster_node_incarnation(const struct cluster_node *node);
/* Until when it does nothing; 0: it does. What is there for it looks again at least so often. */
#define SIM__CLUSTER_PAUSE_LOOK_US 50000u
uint64_t sim__cluster_node_paused_until_us(const struct cluster_node *node);
raft_node sim__cluster_node_id(const struct cluster_node *node);
struct cluster *sim__cluster_node_cluster(const struct cluster_node *node);
/* NULL while it does not run. */
struct shard *sim__cluster_node_shard(const struct cluster_node *node, uint32_t place);
struct route *sim__cluster_node_route(const struct cluster_node *node);
const struct kv *sim__cluster_node_kv(const struct cluster_node *node, uint32_t place);
/* Into the trace. */
void sim__cluster_print_replicas(const struct cluster *cluster);
/* Of its gateway. */
struct txn *sim__cluster_node_coordinator(const struct cluster_node *node);
struct memstore *sim__cluster_node_store(const struct cluster_node *node);
/* sim_cluster_gossip.c: before shards are opened; and once all nodes run. */
void sim__cluster_gossip_draw(struct cluster *cluster);
void sim__cluster_gossip_begin(struct cluster *cluster);
/* After each call into its shard from elsewhere. */
void sim__cluster_node_look(struct cluster *cluster, struct cluster_node *node);
/* `life`: the incarnation of the sender. */
void sim__cluster_node_receive(struct cluster *cluster, struct cluster_node *node, raft_node from,
                               uint32_t life, enum cluster_message kind, struct bytes message);
void sim__cluster_node_unreachable(struct cluster *cluster, struct cluster_node *node,
                                   raft_node other);

/* ---- sim_cluster_split.c --------------------------------------------------------------------- */

static inline cluster_map sim__cluster_map_bit(uint32_t place)
{
    return (cluster_map)1 << (place - 1);
}

const struct slots *sim__cluster_map(struct cluster *cluster, cluster_map map);
void sim__cluster_maps_destroy(struct cluster *cluster);
/* Which shard has the keys of the question, by that map. */
struct slots_range sim__cluster_range_of(struct cluster *cluster,
                                         const struct cluster_question *question, cluster_map map);
/* A replica has given up all that it had. */
void sim__cluster_emptied(struct cluster *cluster, struct cluster_node *node, uint32_t place);
/* Is there a child that is wished for and not born? */
bool sim__cluster_is_wish_open(const struct cluster *cluster);
/* Does this life split shards, and how often? Drawn apart from the rest. */
void sim__cluster_split_draw(struct cluster *cluster);
/* Is the shard in the newest map, and not one that is wished for? */
bool sim__cluster_is_born(const struct cluster *cluster, uint32_t place);
/* May these become the members? Where shards split, a node is not made one before it has opened its
 * replica. */
bool sim__cluster_split_lets(const struct cluster *cluster, uint32_t place,
                             const struct raft_configuration *present,
                             const struct raft_configuration *target);
/* A place is chosen, a child wished for, and its parent's leader told until it is born, and longer. Each shard has
 * one wish at a time. */
void sim__cluster_split_some(struct cluster *cluster, const struct cluster_event *event);
/* It is written down that there is to be a child, if there may be one at that slot. Who tells its parent's leader is
 * not done by that. */
bool sim__cluster_wish_for_split(struct cluster *cluster, uint32_t slot);
/* A node hears of these splits. */
void sim__cluster_split_learn(struct cluster_node *node, cluster_map map);
/* Maps go from node to node from now on. */
void sim__cluster_split_spread(struct cluster *cluster);
/* Somebody applied SPLIT. */
void sim__cluster_split_applied(struct cluster *cluster, struct cluster_node *node, uint32_t parent,
                                raft_index index, const struct slots_range *child);
/* At the start: open what has a state. Empty ones come with the first tick: what the others will find in
 * their logs is not known before. */
MUST_USE int sim__cluster_split_open(struct cluster_node *node, struct error *error);
/* Once all are started; and at the end of each tick. */
void sim__cluster_split_narrow(struct cluster_node *node);
uint64_t sim__cluster_split_tick(struct cluster_node *node, uint64_t now_ms);

/* ---- sim_cluster_office.c, sim_cluster_conductor.c ------------------------------------------- */

/* Has this life conductors? Drawn apart. */
void sim__cluster_office_draw(struct cluster *cluster);
void sim__cluster_office_create(struct cluster *cluster);
void sim__cluster_office_begin(struct cluster *cluster);
/* The faults have ended. */
void sim__cluster_office_heal(struct cluster *cluster);
/* Why there will be more steps; NULL: there will be none. */
const char *sim__cluster_unrest(const struct cluster *cluster);
/* All is as it should be, and from the first such moment on there may be no step. */
void sim__cluster_rest(struct cluster *cluster);
/* Has it been so for long? */
bool sim__cluster_is_at_rest(const struct cluster *cluster);
/* So long after all faults they may take to come to rest. */
uint64_t sim__cluster_rest_us_max(const struct cluster *cluster);

/* The node starts, and ends. */
void sim__cluster_conductor_start(struct cluster_node *node);
void sim__cluster_conductor_end(struct cluster_node *node);
void sim__cluster_conductor_receive(struct cluster_node *node, raft_node from, struct bytes bytes);
/* It has learned of a newer map. */
void sim__cluster_conductor_tell_map(struct cluster_node *node);

/* ---- sim_cluster_version.c ------------------------------------------------------------------- */

/* Are there older nodes in this life, and which are they at first? */
void sim__cluster_versions_draw(struct cluster *cluster);
bool sim__cluster_node_is_older(const struct cluster_node *node);
/* It starts: which version is it now? */
void sim__cluster_node_draw_version(struct cluster *cluster, const struct cluster_node *node);
/* An older one is stopped, perhaps to become a newer one. */
void sim__cluster_upgrade_one(struct cluster *cluster, const struct cluster_event *event);
/* A message of route: would an older node refuse it? And one of a replica? */
void sim__cluster_check_understood(struct cluster *cluster, const struct cluster_node *node,
                                   struct bytes message);
void sim__cluster_check_replica_understands(struct cluster *cluster,
                                            const struct cluster_node *node, struct bytes message);

/* ---- sim_cluster_network.c ------------------------------------------------------------------- */

/* -ENOTCONN: the other node does not run. What was sent may be lost all the same. */
int sim__cluster_send(struct cluster *cluster, struct cluster_node *from, raft_node to,
                      enum cluster_message kind, const struct bytes *pieces, uint32_t piece_count);
/* The connections of a node break: what is under way is lost. */
void sim__cluster_break_all(struct cluster *cluster, struct cluster_node *node);
void sim__cluster_break_any(struct cluster *cluster);
/* Block some connections for a while: some direction of one, all of a node, a split in two. */
void sim__cluster_partition(struct cluster *cluster);
void sim__cluster_heal(struct cluster *cluster);

/* ---- sim_cluster_client.c -------------------------------------------------------------------- */

struct cluster_clients *sim__cluster_clients_create(struct cluster *cluster);
void sim__cluster_clients_destroy(struct cluster_clients *clients);
/* The node died: what it had of requests is lost; and its shard is closed. */
void sim__cluster_clients_lost(struct cluster *cluster, struct cluster_node *node);
void sim__cluster_clients_buried(struct cluster *cluster, struct cluster_node *node);
bool sim__cluster_clients_are_done(const struct cluster_clients *clients);
/* How long they will think before what they have not asked yet: a few clients that think for long, and could ask
 * nothing before all faults ended, do not come to their end sooner. */
uint64_t sim__cluster_clients_rest_us(const struct cluster_clients *clients);

/* ---- sim_cluster_caller.c, sim_cluster_route.c ----------------------------------------------- */

void sim__cluster_callers_create(struct cluster *cluster);
/* After the nodes. */
void sim__cluster_callers_destroy(struct cluster_callers *callers);
/* The node died; and its cores are closed. */
void sim__cluster_callers_lost(struct cluster *cluster, struct cluster_node *node);
void sim__cluster_callers_buried(struct cluster *cluster, struct cluster_node *node);
/* Does a caller of that life of the node wait for something of the shard below the floor? */
void sim__cluster_callers_check_floor(struct cluster *cluster, uint32_t node, uint32_t incarnation,
                                      wal_shard shard, uint64_t floor);
bool sim__cluster_callers_are_done(const struct cluster_callers *callers);
/* The faults have ended. */
void sim__cluster_callers_healed(struct cluster *cluster);
/* All is well again: read every list once more. Then they are not done until all were read. */
void sim__cluster_callers_audit(struct cluster *cluster);

struct route *sim__cluster_route_create(struct cluster_node *node, struct env_clock clock);

/* ---- sim_cluster_history.c ------------------------------------------------------------------- */

#define CLUSTER_ARGUMENT_COUNT_MAX 4u

/* What a client asks, from when it was made until its end is known. */
struct cluster_question {
    uint64_t session;    /* Questions of a session take effect in their order, */
    bool is_of_pipeline; /* but for such, of different keys: see sim__list_operation. */
    uint64_t started_at_us;
    uint64_t started_at; /* Among all beginnings and ends. */
    const struct kv_command *command;
    struct bytes arguments[CLUSTER_ARGUMENT_COUNT_MAX]; /* Owned. */
    uint32_t argument_count;
    uint32_t place; /* Of the shard of its keys. */
    bool is_unique; /* It has a value that no other has. */
};

struct cluster_history *sim__cluster_history_create(struct cluster *cluster);
void sim__cluster_history_destroy(struct cluster_history *history);

void sim__cluster_question_draw(struct cluster *cluster, struct cluster_question *question);
bool sim__cluster_question_is_write(const struct cluster_question *question);
uint64_t sim__cluster_question_hash(const struct cluster_question *question);
/* Its end, one of three: it was answered; it may or may not have had an effect, now or later (then
 * nothing of its session may come behind it); it has had none. */
void sim__cluster_answered(struct cluster *cluster, struct cluster_question *question,
                           struct bytes reply);
void sim__cluster_unknown(struct cluster *cluster, struct cluster_question *question);
void sim__cluster_question_forget(struct cluster_question *question);
/* Is what the clients saw linearizable, key by key? */
void sim__cluster_history_check(struct cluster *cluster);

/* The moment of what happens now. */
uint64_t sim__cluster_history_moment(struct cluster_history *history);
/* Parts of sim__cluster_question_draw(): the next argument. */
void sim__cluster_question_add(struct cluster_question *question, struct bytes argument);
void sim__cluster_question_add_value(struct cluster *cluster, struct cluster_question *question);
void sim__cluster_question_add_key(struct cluster *cluster, struct cluster_question *question,
                                   char kind, uint64_t number);
uint32_t sim__cluster_place_of_key(const struct cluster *cluster, struct bytes key);
/* Take one reply off an array. */
struct bytes sim__cluster_take_reply(struct bytes *rest);

/* What is known of an operation's end. */
enum cluster_knowledge {
    CLUSTER_UNKNOWN,   /* Nothing. */
    CLUSTER_DONE_ONLY, /* It took effect; the reply is lost. */
    CLUSTER_DONE,
};
/* Remember one that ends at this moment; its keys are no lists. Takes the arguments. */
void sim__cluster_remember(struct cluster *cluster, struct cluster_question *question,
                           struct bytes reply, enum cluster_knowledge knowledge);

/* ---- sim_cluster_lists.c --------------------------------------------------------------------- */

/* Several in each shard, none where there is but one shard. */
struct cluster_lists *sim__cluster_lists_create(struct cluster *cluster);
void sim__cluster_lists_destroy(struct cluster_lists *lists);
struct bytes sim__cluster_list_key(const struct cluster_lists *lists, uint32_t list);
uint32_t sim__cluster_list_place(const struct cluster_lists *lists, uint32_t list);
/* A list in that shard. */
uint32_t sim__cluster_list_in(struct cluster *cluster, uint32_t place);
bool sim__cluster_question_is_of_lists(const struct cluster_question *question);
/* APPEND, GET, or MGET: all of one shard, unless `may_cross`. */
void sim__cluster_list_question_draw(struct cluster *cluster, struct cluster_question *question,
                                     uint32_t list, bool may_cross);

/* An operation, as it is being put together. */
struct cluster_observation {
    struct sim__list_operation operation;
    uint32_t capacity;
};
/* One question's steps, with what was answered if it is known. Takes the arguments. */
void sim__cluster_observe(struct cluster *cluster, struct cluster_observation *observation,
                          struct cluster_question *question, struct bytes reply,
                          enum cluster_knowledge knowledge);
/* A read before, under WATCH: its reply is right at the moment of the transaction, too. */
void sim__cluster_observe_watched(struct cluster_observation *observation, uint32_t list,
                                  struct bytes reply);
/* It ends now. `operation` has the rest. */
void sim__cluster_observed(struct cluster *cluster, struct cluster_observation *observation,
                           enum cluster_knowledge knowledge);
/* What the list is in the end, as a reply. */
void sim__cluster_list_ends(struct cluster *cluster, uint32_t list, struct bytes reply);
void sim__cluster_lists_check(struct cluster *cluster);

/* ---- sim_cluster_transaction.c --------------------------------------------------------------- */

#define CLUSTER_DRAWN_COUNT_MAX 6u    /* In MULTI, */
#define CLUSTER_COMMAND_COUNT_MAX 12u /* with what was planned of them. */
#define CLUSTER_WATCH_COUNT_MAX 12u

struct cluster_watched {
    struct bytes key;
    uint64_t version;
};

struct cluster_transaction {
    uint64_t session;
    uint64_t started_at;
    uint64_t begun_at_us;
    struct cluster_question commands[CLUSTER_COMMAND_COUNT_MAX];
    uint32_t command_count;
    bool is_watching; /* The version and the content of a list were asked for before. */
    uint32_t watched_list;
    struct buffer watched_content; /* As it was answered. */
    struct cluster_watched watches[CLUSTER_WATCH_COUNT_MAX];
    uint32_t watch_count;
    struct cluster_question move; /* RENAME, …: from and to; no command: it is none. */
    struct buffer contents[2];    /* What was read of them. */
    uint32_t attempt_count;
    struct cluster_evaluating *evaluating; /* NULL: it has no commands that need it. */
    struct kv_transaction *queued;
    struct kv_split *split;
    cluster_map map; /* By which it was cut. */
};

/* For kv_split_create(), with a map. */
uint32_t sim__cluster_group_of_slot(void *slots, uint32_t slot);
/* `session` is the connection's. */
struct cluster_transaction *sim__cluster_transaction_draw(struct cluster *cluster,
                                                          uint64_t session);
void sim__cluster_transaction_destroy(struct cluster_transaction *transaction);
/* -EBUSY: nothing happened. */
MUST_USE int sim__cluster_transaction_begin(
    struct cluster *cluster, struct cluster_transaction *transaction, struct cluster_node *node,
    void *context, void (*done)(void *context, const struct txn_done *done));
/* From then on, after all faults, nothing stands in the way of a transaction but others. */
uint64_t sim__cluster_transactions_are_well_at_us(const struct cluster *cluster);
/* Its end, one of three, as of questions. */
void sim__cluster_transaction_done(struct cluster *cluster, struct cluster_transaction *transaction,
                                   const struct txn_done *done);
void sim__cluster_transaction_unknown(struct cluster *cluster,
                                      struct cluster_transaction *transaction, uint64_t session);

/* ---- sim_cluster_move.c ---------------------------------------------------------------------- */

/* What a key is and has, as it was read; borrowed from the answer. */
struct cluster_content {
    uint64_t version;  /* 0: there is no such key. */
    bool is_too_large; /* Its value was not read. */
    struct bytes value;
};
struct cluster_content sim__cluster_content_of(struct bytes answer);
/* Of a bulk string. */
struct bytes sim__cluster_text_of(struct bytes answer);

/* Make a RENAME, RENAMENX or COPY of it. False, and no change: the keys are in one shard. */
bool sim__cluster_move_draw(struct cluster *cluster, struct cluster_transaction *transaction);
bool sim__cluster_is_move(const struct cluster_transaction *transaction);
/* The read of one of its keys, with kv_content_opcode(). */
void sim__cluster_move_read(struct cluster *cluster, const struct cluster_transaction *transaction,
                            uint32_t side, struct cluster_question *question);
/* Both are read. True: that was all, and it is in the history. Else it is to be committed. */
bool sim__cluster_move_is_read(struct cluster *cluster, struct cluster_transaction *transaction);
enum kv_move sim__cluster_move_plan(const struct cluster_transaction *transaction,
                                    struct kv_transaction *queued, struct buffer *answer);
/* It has committed, or may have. */
void sim__cluster_move_ended(struct cluster *cluster, struct cluster_transaction *transaction,
                             enum cluster_knowledge knowledge);
void sim__cluster_move_remember(struct cluster *cluster,
                                const struct cluster_transaction *transaction,
                                struct cluster_question *question, struct bytes reply,
                                enum cluster_knowledge knowledge);
/* A key has changed: read both again. False: it is given up. */
bool sim__cluster_move_again(struct cluster_transaction *transaction);

/* ---- sim_cluster_evaluate.c ------------------------------------------------------------------ */

/* Make one with commands that are evaluated of it. False, and no change: they would not be. */
bool sim__cluster_evaluate_draw(struct cluster *cluster, struct cluster_transaction *transaction);
bool sim__cluster_is_evaluated(const struct cluster_transaction *transaction);
void sim__cluster_evaluate_destroy(struct cluster_transaction *transaction);
/* Nothing is read yet, or what has to be may be something else by this map. */
bool sim__cluster_evaluate_is_stale(const struct cluster_transaction *transaction, cluster_map map);
/* The next read of one of its keys, with kv_content_opcode(); the first one if it is stale. */
void sim__cluster_evaluate_read(struct cluster *cluster, struct cluster_transaction *transaction,
                                cluster_map map, struct cluster_question *question);
enum cluster_evaluated {
    CLUSTER_EVALUATED_READ,   /* More is to be read. */
    CLUSTER_EVALUATED_COMMIT, /* All is, and planned. */
    CLUSTER_EVALUATED_ENDED,  /* A watched key has changed. */
};
enum cluster_evaluated sim__cluster_evaluate_answered(struct cluster *cluster,
                                                      struct cluster_transaction *transaction,
                                                      struct bytes reply);
void sim__cluster_evaluate_plan(const struct cluster_transaction *transaction,
                                struct kv_transaction *planned);
/* A command of it as it was drawn; NULL: there are no more. */
struct cluster_question *sim__cluster_evaluate_drawn(const struct cluster_transaction *transaction,
                                                     uint32_t index);
/* Is that the reply that the model gives to a command that was evaluated? */
void sim__cluster_evaluate_check(struct cluster *cluster,
                                 const struct cluster_transaction *transaction, uint32_t index,
                                 struct bytes reply);
/* It has committed, or may have: what became of the keys. */
void sim__cluster_evaluate_ended(struct cluster *cluster,
                                 const struct cluster_transaction *transaction,
                                 enum cluster_knowledge knowledge);
/* A key has changed: read all again. False: it is given up. */
bool sim__cluster_evaluate_again(struct cluster_transaction *transaction);

/* ---- sim_cluster_coordinator.c --------------------------------------------------------------- */

struct txn *sim__cluster_coordinator_create(struct cluster_node *node, struct env_clock clock,
                                            bool is_recoverer);
/* Which node's: place in `nodes`. */
uint32_t sim__cluster_coordinator_node(uint64_t origin);
/* At the end of a node's tick: when the next has to be. */
uint64_t sim__cluster_coordinators_tick(struct cluster_node *node, uint64_t now_ms,
                                        uint64_t *looked_at_ms);
/* No lock is held, nothing is undecided, no message is under way. */
bool sim__cluster_transactions_are_over(const struct cluster *cluster);

/* ---- sim_cluster_ledger.c -------------------------------------------------------------------- */

struct cluster_ledger *sim__cluster_ledger_create(void);
void sim__cluster_ledger_destroy(struct cluster_ledger *ledger);
/* This may be prepared from now on, and what it means. */
void sim__cluster_ledger_expect(struct cluster *cluster,
                                const struct cluster_transaction *transaction);
/* PREPARE, DECIDE, FINISH, FORGET? */
bool sim__cluster_is_step(const struct shard_command *command);
/* A log has ordered a step of a transaction, which a replica of `node` is the first to execute. False:
 * it is none. */
bool sim__cluster_ledger_step(struct cluster *cluster, uint32_t place, struct cluster_node *node,
                              const struct shard_stamp *stamp, const struct shard_command *command,
                              struct bytes answer, struct sim__model *model);
/* What has ended at the parent has ended for the child, too. */
void sim__cluster_ledger_split(struct cluster *cluster, uint32_t parent, uint32_t child);
/* Or any other command. */
void sim__cluster_ledger_check_free(struct cluster *cluster, uint32_t place,
                                    const struct shard_command *command);

/* ---- sim_cluster_oracle.c -------------------------------------------------------------------- */

struct cluster_oracle *sim__cluster_oracle_create(struct cluster *cluster, uint32_t place);
void sim__cluster_oracle_destroy(struct cluster_oracle *oracle);
/* The machine for a replica: `machine`, watched. `*watched` is the node's, until the shard is
 * closed. */
struct cluster_watch;
struct shard_machine sim__cluster_oracle_machine(struct cluster_oracle *oracle,
                                                 struct cluster_node *node,
                                                 struct shard_machine machine,
                                                 struct cluster_watch **watched);
/* The parent's log has come to SPLIT: from now on the child's model has the upper keys. */
void sim__cluster_oracle_split(struct cluster *cluster, uint32_t parent, raft_index index,
                               const struct slots_range *child);
/* The digest of a replica at an index that it has applied (I8 of shard). */
void sim__cluster_oracle_digest(struct cluster *cluster, uint32_t place, raft_index index,
                                uint64_t digest);
/* A term has one leader. */
void sim__cluster_oracle_leader(struct cluster *cluster, uint32_t place, raft_term term,
                                raft_node node);
/* The newest term that has had a leader; 0: none had. */
raft_term sim__cluster_oracle_newest_term(const struct cluster *cluster, uint32_t place);
/* An acknowledged write: the log must have it, once, with this reply. */
void sim__cluster_oracle_acknowledged(struct cluster *cluster, uint64_t command_hash,
                                      uint64_t reply_hash);
/* Of the newest command of that log that somebody was answered. */
uint64_t sim__cluster_oracle_acknowledged_version(const struct cluster *cluster, uint32_t place);
struct cluster_read;
/* In lives with reads that may be stale: see sim__cluster_past_explains(). */
bool sim__cluster_oracle_explains(const struct cluster *cluster, uint32_t place, uint16_t opcode,
                                  const struct cluster_read *read);
/* A read on another thread begins, and sees the store as it was when it had the entries up to `from` at least, and `to`
 * at most. */
void sim__cluster_oracle_elsewhere(struct cluster_watch *watch, raft_index from, raft_index to);
/* At the end, what the model holds. */
const struct sim__model *sim__cluster_oracle_model(const struct cluster_oracle *oracle);

#endif
