/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef NODE_NODE_INTERNAL_H
#define NODE_NODE_INTERNAL_H

#include <stdatomic.h>

#include "base/heap/heap.h"
#include "base/histogram/histogram.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "core/conductor/conductor.h"
#include "core/inquiry/inquiry.h"
#include "core/route/route.h"
#include "core/shard/shard.h"
#include "core/slots/slots.h"
#include "core/wal/wal.h"
#include "driver/os/os.h"
#include "driver/store/store.h"
#include "driver/tls/tls.h"
#include "gateway/resp/resp.h"
#include "node/node.h"
#include "service/kv/kv.h"

/* Whoever makes the cluster. */
#define NODE_FOUNDER 1u
/* Versions of the peer protocol that this node speaks. From the second one on shards become two: requests
 * name slots (core/route), and there are maps and rosters. Once one has split nobody speaks the first. From
 * the third one on heartbeats of many shards go together (core/beats), and gateways say what they need no
 * more, which leaders pass on (core/route, core/shard). */
#define NODE_PROTOCOL_MIN 1u
#define NODE_PROTOCOL_MAX 3u
#define NODE_PROTOCOL_SPLIT 2u
#define NODE_PROTOCOL_BEATS 3u
#define NODE_PROTOCOL_FLOORS 3u

/* ---- node_data.c: the data directory --------------------------------------------------------- */

struct node_data;

enum node_use {
    NODE_USE_SERVE,  /* It is created when it is missing. */
    NODE_USE_CHANGE, /* It must be there. */
    NODE_USE_READ,   /* The same, and nothing is written: it may be a copy that is read-only. */
};

/* Take the directory. Errors: -EBUSY when another process has it, ERROR_NEWER_FORMAT, ERROR_CORRUPT when
 * parts of it are missing, with what to do. */
MUST_USE int node_data_open(struct node_data **data, const char *directory, enum node_use use,
                            struct error *error);
void node_data_close(struct node_data *data);
const char *node_data_wal_path(const struct node_data *data);
const char *node_data_store_path(const struct node_data *data);
/* Did nobody use the directory before? Until node_data_commit(). */
bool node_data_is_new(const struct node_data *data);
/* May the store have entries that the log lost with the power? Yes after the directory was served
 * with flushes once a second, until everything that was recovered has been made durable. */
bool node_data_may_log_end_early(const struct node_data *data);
/* Write node.conf, which makes a new directory a node's, and says how the log is flushed from now
 * on. After the log and the store exist and are recovered, before the first write is answered. */
MUST_USE int node_data_commit(struct node_data *data, bool may_log_end_early, struct error *error);
/* Older software, which knows of no splits, must not serve the directory from now on. */
MUST_USE int node_data_say_split(struct node_data *data, struct error *error);
const char *node_data_cluster_id(const struct node_data *data);
uint32_t node_data_node_id(const struct node_data *data);
/* A new directory becomes that of a node of another cluster, with that many shards. */
void node_data_adopt(struct node_data *data, const char *cluster_id, uint32_t node_id,
                     uint32_t shard_count);
/* The data shards that the cluster was made with; of a new directory as it was told. */
uint32_t node_data_shard_count(const struct node_data *data);
void node_data_set_shard_count(struct node_data *data, uint32_t shard_count);
enum node_file {
    NODE_FILE_AUTHORITY,
    NODE_FILE_CERTIFICATE,
    NODE_FILE_JOINING,
    NODE_FILE_ROSTER,
    NODE_FILE_CONTROL,
    NODE_FILE_ADMIN,
    NODE_FILE_FENCE,
    NODE_FILE_MAP,
    NODE_FILE_COUNT
};
const char *node_data_path(const struct node_data *data, enum node_file file);

/* ---- node_identity.c: who this node is, and who may say so ----------------------------------- */

/* Each node has the authority's key, so that any of them can let others in and all of them can
 * renew their certificates, whatever else has failed (docs/decisions/0010). */
struct node_identity {
    struct tls_pair authority;
    struct tls_pair own;
    struct tls_digest fingerprint; /* Of the authority. */
    struct tls_context *tls;
};

/* Read it from the directory; a founder's is made when it is missing. Errors: ERROR_CORRUPT when what is
 * there does not belong together, with what to do; those of the system. */
MUST_USE int node_identity_open(struct node_identity *identity, struct node_data *data,
                                struct error *error);
void node_identity_close(struct node_identity *identity);
/* Make a new certificate when the old one has lived two thirds of its life, or when its life has not begun:
 * the clock was ahead when it was made. */
MUST_USE int node_identity_renew(struct node_identity *identity, struct node_data *data,
                                 bool *is_renewed, struct error *error);

/* ---- node_join.c: into a cluster ------------------------------------------------------------- */

/* Ask the nodes of `options->join`, one after the other, until one lets this node in; write what
 * they gave into the new directory. It is asked with the key and the request that the directory has
 * from a time before: the cluster then gives the same answer. Blocks. -ECANCELED: a stop was wanted. */
MUST_USE int node_join(struct node_data *data, const struct node_options *options,
                       const char *redis, const char *admin, const atomic_bool *is_stop_wanted,
                       struct error *error);
/* Of a new directory that is to be a cluster of its own: -EPERM when it has asked to join one, which may
 * count it as a node already. */
MUST_USE int node_join_check_unasked(const struct node_data *data, struct error *error);
/* The directory is a node's: nothing will be asked again. */
void node_join_forget(const struct node_data *data, struct os_log *log);

/* The one refusal that says nothing about who asks: it is asked again. By these words, which nodes have
 * always said. */
#define NODE_JOIN_NO_LEADER "the cluster has no leader now, try again"

/* What a joining node says, and what it is told; byte strings in a row. */
enum node_join_ask {
    JOIN_SECRET,
    JOIN_REQUEST,
    JOIN_PEER,
    JOIN_REDIS,
    JOIN_ADMIN,
    JOIN_ZONE,
    JOIN_SOFTWARE,
    JOIN_FEATURE,
    JOIN_ASK_COUNT
};
enum node_join_answer {
    JOINED_REFUSAL,
    JOINED_NODE,
    JOINED_CLUSTER,
    JOINED_AUTHORITY,
    JOINED_AUTHORITY_KEY,
    JOINED_CERTIFICATE,
    JOINED_ROSTER,
    JOINED_SHARDS, /* Not said by software that knows of one only. */
    JOINED_ANSWER_COUNT
};
void node_join_encode(const struct bytes *fields, uint32_t field_count, struct buffer *target);
/* Fields are borrowed from the source. ERROR_PROTOCOL. */
MUST_USE int node_join_decode(struct bytes source, struct bytes *fields, uint32_t field_count);

/* ---- node_log.c: the log writer's thread ----------------------------------------------------- */

struct node_log;

/* Those whose records have become durable since the loop looked last: a stack that the log writer pushes
 * to and the loop takes whole. */
struct node_log_done {
    struct os_wake *wake;
    _Atomic(struct node_log_client *) first;
};

/* Who hears that its records are durable: everything up to `durable_sequence`, on its own loop.
 * Several share a `done`. */
struct node_log_client {
    struct node_log_done *done;
    _Atomic uint64_t durable_sequence;
    struct node_log_client *next; /* In the stack. */
    atomic_bool is_listed;        /* It is there, or about to be. */
};

/* The loop: take the first of those that have more durable, in no particular order, and pass over it. All
 * were taken by node_log_take_done(); NULL ends them. */
struct node_log_client *node_log_take_done(struct node_log_done *done);
struct node_log_client *node_log_next_done(struct node_log_client *client);

struct node_log_options {
    struct wal *wal; /* Taken: closed by node_log_destroy(). */
    bool is_flush_always;
    struct os_log *log;
};

MUST_USE int node_log_start(struct node_log **log, const struct node_log_options *options,
                            struct error *error);
/* Write and flush what was appended, end the thread, close the log. */
void node_log_destroy(struct node_log *log);
/* The node is about to stop. If the log waits for space then, and goes on to, it stops the process. */
void node_log_want_stop(struct node_log *log);

/* Reactor: gather a record; it leaves with node_log_submit() at the end of the tick. */
void node_log_append(struct node_log *log, const struct wal_record *record, uint64_t sequence,
                     struct node_log_client *client);
void node_log_submit(struct node_log *log);

/* Any thread: have run(job, wal) called on the log's thread, behind what was submitted before,
 * unless it may overtake. The job is the log's until then. */
struct node_log_job {
    struct list link;
    /* What it reads is durable, and it need not stand behind anything: it is run while the log waits
     * for space, too, which may come from what is applied then. */
    bool may_overtake;
    void (*run)(struct node_log_job *job, struct wal *wal);
};
void node_log_submit_job(struct node_log *log, struct node_log_job *job);

/* Any thread: the store has the shard durably up to `index`. */
void node_log_release(struct node_log *log, wal_shard shard, raft_index index);

struct node_log_statistics {
    struct wal_statistics wal;
    uint64_t round_count;
    uint64_t record_count;
    uint64_t flush_duration_ns_sum;
    uint64_t flush_count;
    uint64_t flush_duration_latest_ns;
    uint64_t
        unflushed_since_ms; /* Monotonic: the first of what was answered and not flushed; 0: none. */
    bool is_out_of_space;   /* Records wait because the disk is full. */
};
/* Any thread; as of the last round. */
void node_log_get_statistics(struct node_log *log, struct node_log_statistics *statistics);

/* What the flushes so far took, and what each made durable. */
struct node_log_histograms {
    struct histogram flush_durations_ns;
    struct histogram batch_record_counts;
    struct histogram batch_sizes_bytes;
};
/* Any thread; as of the last round. Large: not for a small stack. */
void node_log_get_histograms(struct node_log *log, struct node_log_histograms *histograms);

/* ---- node_writer.c: the thread that writes to the store -------------------------------------- */

/* It writes the shards' batches, one after the other, so that neither the reactor nor the replay waits
 * for rows to be sorted and inserted. All but the writing is called on the shards' thread. */
struct node_writer;

MUST_USE int node_writer_start(struct node_writer **writer, struct error *error);
/* End the thread; what was handed over was taken back before. */
void node_writer_destroy(struct node_writer *writer);

/* Hand a batch over. The shard's one before was taken back. */
void node_writer_submit(struct node_writer *writer, struct shard_write *write);
/* A batch that is done, for shard_write_done(); NULL: there is none that is. */
struct shard_write *node_writer_take(struct node_writer *writer);
/* The same, waiting for one while any is under way. */
struct shard_write *node_writer_wait(struct node_writer *writer);
/* Signal when a batch is done, from now on; NULL: no more. */
void node_writer_set_wake(struct node_writer *writer, struct os_wake *wake);

/* ---- node_maintenance.c: the store's thread -------------------------------------------------- */

struct node_maintenance;

struct node_maintenance_options {
    struct store *store;
    struct node_log *node_log;
    const struct node_shards *shards;
    const char *directory;            /* Whose free space counts. */
    uint64_t flush_log_size_bytes;    /* The store is flushed when recovery would read more. */
    uint64_t kept_log_size_bytes_max; /* So long it may get for members that lag. */
    struct os_log *log;
};

MUST_USE int node_maintenance_start(struct node_maintenance **maintenance,
                                    const struct node_maintenance_options *options,
                                    struct error *error);
void node_maintenance_destroy(struct node_maintenance *maintenance);
/* Reactor 0: what the store has of the replica at that place, and up to where nobody else needs its log,
 * after each tick that changed something. */
void node_maintenance_stored(struct node_maintenance *maintenance, uint32_t place, raft_index index,
                             raft_index unneeded_index);
/* Reactor 0: the replica at that place has given up all that it had: what was told before holds no more. */
void node_maintenance_emptied(struct node_maintenance *maintenance, uint32_t place);
/* Any thread: is the free space below the reserve? */
bool node_maintenance_is_full(const struct node_maintenance *maintenance);
uint64_t node_maintenance_free_bytes(const struct node_maintenance *maintenance);

/* ---- node_shard.c: the replicas of this node --------------------------------------------------- */

/* Entries that were read from the log in one go; node_replica.c. */
#define NODE_LOADED_COUNT_MAX 256u
#define NODE_LOADED_SIZE_BYTES_SOFT_MAX (1u << 20)
struct node_loaded {
    raft_index first_index;
    uint32_t count;
    raft_term terms[NODE_LOADED_COUNT_MAX];
    size_t ends[NODE_LOADED_COUNT_MAX];
    struct buffer payloads;
};

struct node_cluster;
struct node_shards;
struct node_shard;
void node__loaded_free(struct node_shard *shard);

/* One replica: what belongs to its shard alone. */
struct node_shard {
    struct node_shards *host;
    uint32_t place; /* Among the replicas; not in the map. */
    wal_shard id;
    uint64_t campaign_until_ms; /* Of a child: beside the parent's leader. */
    uint64_t campaign_at_ms;
    struct shard *shard;
    struct kv *kv;
    struct node_loaded *loaded; /* NULL: nothing is. */
    struct node_log_client client;
    bool is_touched;         /* Something happened to it since its last tick. */
    bool was_ticked;         /* In this tick. */
    bool is_awake;           /* It is counted as that. */
    bool is_held;            /* It is listed as that. */
    bool is_unpublished;     /* It was ticked since its figures were published. */
    struct heap_item wake;   /* When it wants its next tick at the latest; in none: never. */
    uint64_t told_sequence;  /* What the shard was told of it. */
    uint64_t start_sequence; /* Made durable while starting. */
    raft_index stored_index; /* What the maintenance was told. */
    raft_index unneeded_index;
    raft_node leader; /* What the route was told; */
    bool was_ready;
    raft_term term;    /* and when. */
    bool was_impaired; /* What the last look at the figures told; */
    uint64_t unreadable_count;
};

/* Forwarded requests that were too many for a shard, in their order. */
struct node_refused {
    struct list requests;
    struct list link;
};

/* A SPLIT was applied; the child is opened when the store has it. */
struct node_birth {
    struct node_shard *parent;
    raft_index index;
    struct slots_range child;
};

/* The map of shards, as far as this node knows (decision 18). Reactor 0 makes a new one now and then; the
 * loops of the node read the newest (its *readers*), and keep none for longer than a callback. At the end of
 * each tick a reader says how many maps there had been by then: it can only hold the last of them, or later
 * ones. What nobody can hold any more reactor 0 frees. Each loop has a tick each second at least. */
#define NODE_MAP_READER_COUNT_MAX (NODE_REACTOR_COUNT_MAX + 1) /* The admin. */
struct node_map {
    _Atomic(const struct slots *) newest;
    _Atomic uint32_t count; /* That were published. */
    _Atomic uint32_t seen[NODE_MAP_READER_COUNT_MAX];
    uint32_t reader_count;
    struct slots **kept; /* Reactor 0's: from number `freed_count` on. */
    uint32_t kept_capacity;
    uint32_t freed_count;
    uint32_t made_count; /* The shards that the cluster was made with. */
    struct node_data *data;
};

/* What the shards' thread knows, for others. */
struct node_figures {
    struct shard_statistics shard;
    struct kv_statistics kv;
    bool is_member;     /* Of the shard's group; others are open, and have nothing. */
    bool is_leaderless; /* It is one, and knows no leader, since: */
    uint64_t leaderless_since_ms;
};

/* Places at which something changed since they were taken. */
struct node_changes {
    uint32_t *places;
    bool *is_noted; /* By place. */
    uint32_t count;
};

static inline void node_changes_init(struct node_changes *changes)
{
    changes->places = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof changes->places[0]);
    changes->is_noted = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof changes->is_noted[0]);
}

static inline void node_changes_deinit(struct node_changes *changes)
{
    memory_free(changes->places);
    memory_free(changes->is_noted);
}

static inline void node_changes_note(struct node_changes *changes, uint32_t place)
{
    if (!changes->is_noted[place]) {
        changes->is_noted[place] = true;
        changes->places[changes->count++] = place;
    }
}

/* False: there is none. */
static inline bool node_changes_take(struct node_changes *changes, uint32_t *place)
{
    if (changes->count == 0) {
        return false;
    }
    *place = changes->places[--changes->count];
    changes->is_noted[*place] = false;
    return true;
}

/* All of them, on the loop of reactor 0, with one log, one store and one writer. What they need of
 * reactor 0 while they serve, and of nobody while they start. */
struct node_shards {
    uint32_t self;
    struct node_map map;
    /* Each of these has room for SLOTS_SHARD_COUNT_MAX, which the system gives as it is used. */
    struct node_shard *items;
    struct node_shard **by_place; /* By node_place_of(): where in `items`; NULL: it is not open. */
    struct node_shard **touched;  /* Something happened to them since their last tick. */
    struct node_shard **ticked;   /* In this tick. */
    struct node_shard **unpublished;
    struct node_shard **held; /* What they gathered waits for the pace. */
    struct node_birth *births;
    struct wal_shard_state
        *found; /* What the log had of shards that were not open when it was read. */
    uint32_t touched_count;
    uint32_t ticked_count;
    uint32_t unpublished_count;
    uint32_t held_count;
    _Atomic uint32_t count; /* That are open; those are complete, and stay where they are. */
    uint32_t birth_count;
    uint32_t found_count;
    uint32_t awake_count;    /* Groups whose timers run. */
    uint32_t campaign_count; /* Children that are to lead beside their parents. */
    struct heap wakes;       /* Of those that want to be ticked without being touched. */
    bool was_full;           /* What they were told. */
    uint64_t map_looked_at_ms;
    struct store *store;
    struct shard_account account; /* Of all of them. */
    struct pace pace;             /* The same. */
    struct node_shares *shares;
    struct node_recall *recall; /* NULL: nothing is noted. */
    const struct node_options *options;
    struct system *system;        /* Over the first. */
    struct node_cluster *cluster; /* NULL while starting. */
    void (*idle)(void *context);  /* While stopping: nothing is on its way any more. */
    void *idle_context;
    uint64_t stop_until_ms; /* 0: not stopping. Then no reads are begun any more, either. */
    bool is_idle_told;
    bool is_lone; /* There has been no other node when it started. */
    bool is_new;  /* The directory is: a log that knows nothing is no loss. */
    bool may_log_end_early;
    atomic_bool is_stop_wanted; /* A replay breaks off. */
    atomic_bool is_disk_slow;   /* node_pace.c says so; also read by the admin. */
    struct os_files *files;     /* Of the log. */
    struct wal *wal;            /* While starting; then the log writer's. */
    struct node_log *node_log;
    struct node_log_done durable; /* Of all clients. */
    struct node_writer *writer;
    struct os_wake *written;
    struct os_loop *loop;
    struct os_pool *pool;
    struct os_timer *timer;
    struct node_maintenance *maintenance;
    struct os_log *log;
    struct error failure;
    _Atomic uint64_t replayed_count; /* Also read by the admin while starting. */
    uint64_t replayed_size_bytes;    /* Of entries, without the headers of records. */
    uint64_t replay_took_ms;
    uint64_t replay_reported_at_ms;
    struct os_mutex *figures_mutex;
    struct node_figures *figures; /* Under the mutex: one for each replica, */
    struct node_figures sum;      /* and the sums of them. */
    uint32_t impaired_count;
    uint32_t leading_count;
    uint32_t member_count;
    uint32_t leaderless_count;
    struct node_changes changes; /* Under the mutex: whose figures were published. */
    uint64_t figures_at_ms;
    struct node_refused *refused; /* By node_place_of() the shard, which need not be open. */
    struct list refusing;         /* Those that have some: tried again each tick. */
};

/* The replica of the first shard, which has the rows of the cluster itself. */
static inline struct node_shard *node_shards_first(struct node_shards *shards)
{
    return &shards->items[0];
}
/* Whoever calls a shard, but for questions, says so: others are not ticked before they want to be. */
void node_shard_touch(struct node_shard *shard);
/* It answered at once: nothing but its figures has changed. */
static inline void node_shard_note(struct node_shard *shard)
{
    if (!shard->is_unpublished) {
        shard->is_unpublished = true;
        shard->host->unpublished[shard->host->unpublished_count++] = shard;
    }
}
void node_shards_touch_all(struct node_shards *shards);
/* NULL: this node has not opened it. */
struct node_shard *node_shards_find(struct node_shards *shards, wal_shard id);
/* A reader: the newest map; it stays as it is until the callback of the reader's loop returns. */
const struct slots *node_shards_map(const struct node_shards *shards);
/* struct shard_options */
void node_append_slot_row(uint32_t slot, struct buffer *row);
/* Where things of a shard stand that are kept for all of the map. */
static inline uint32_t node_place_of(wal_shard id)
{
    return id - SLOTS_FIRST_SHARD;
}
/* How long an answer may be, of one shard or of several together: as much as a client may leave unread, and
 * what stands before the largest value; and it goes to another node in one message, with a little beside it. */
static inline uint64_t node_answer_size_bytes_max(const struct node_options *options)
{
    return number_min(options->memory_size_bytes / 8, ROUTE_REPLY_SIZE_BYTES_MAX - (2u << 20)) +
           (1u << 20);
}
/* Is this node the only member of the group, by the newest configuration of its log? */
bool node_shard_is_alone(const struct node_shard *shard);

/* Any thread: a moment old. Of the replica at that place. */
void node_shards_get_figures(const struct node_shards *shards, uint32_t place,
                             struct node_figures *figures);
/* Any thread, but only one: places of replicas whose figures were published since the last call. Gives how many. */
uint32_t node_shards_take_changes(struct node_shards *shards,
                                  uint32_t places[SLOTS_SHARD_COUNT_MAX]);
struct node_led {
    uint32_t member_count;     /* Shards of whose groups this node is a member. */
    uint32_t leaderless_count; /* Those of which no leader has been known here for so long. */
};
/* Any thread. */
struct node_led node_shards_look_who_is_led(const struct node_shards *shards, uint64_t for_ms);
/* Any thread: how many of them lead their shards. */
uint32_t node_shards_leading_count(const struct node_shards *shards);
/* The sums over all replicas, where sums make sense; else of the first. */
void node_shards_sum_figures(const struct node_shards *shards, struct node_figures *figures);

/* What to do where something stored is damaged and the node cannot mend it. */
const char *node_damage_advice(const struct node_data *data);

/* Recover: open the replicas over the store and the log. What a node that is alone with a shard lacks
 * in the store it applies; else the cluster will say what of the log is committed. On failure nothing
 * is left open. The log stays in `wal`. -ECANCELED: a stop was wanted. */
MUST_USE int node_shards_open(struct node_shards *shards, struct store *store,
                              const struct node_options *options, struct node_data *data,
                              struct error *error);
/* Serve on `loop` from now on. */
void node_shards_attach(struct node_shards *shards, struct os_loop *loop);
/* Begin nothing long any more, after a while no reads either, and call `idle` when nothing of it is on its
 * way. */
void node_shards_stop(struct node_shards *shards, void (*idle)(void *context), void *context);
/* The loop has stopped: give the store everything that was applied. -EBUSY: it would stall. */
MUST_USE int node_shards_settle(struct node_shards *shards);
void node_shards_close(struct node_shards *shards);

/* ---- node_map.c: which shard has which slots --------------------------------------------------- */

/* As the directory has it; `slots` is empty, or a map. ERROR_CORRUPT, -EIO. */
MUST_USE int node_map_read(const struct node_data *data, struct slots *slots, struct error *error);
/* Add the shards that the store has and the map does not know; `claims` in the order of their numbers.
 * False, and no change: the two contradict each other. */
MUST_USE bool node_map_amend(struct slots *slots, const struct slots_range *claims,
                             uint32_t claim_count);
/* Before its loop runs: one more reader; gives its number. */
uint32_t node_map_add_reader(struct node_map *map);
/* That reader, at the end of each tick: it holds no map. */
void node_map_let_go(struct node_map *map, uint32_t reader);
/* Reactor 0: take over what another node, or the rows of the cluster, know more. False: that is a map of
 * something else. */
bool node_map_adopt(struct node_shards *shards, const struct slots *other);

/* ---- node_sample.c: how the node fared in its last seconds ----------------------------------- */

#define NODE_SAMPLE_INTERVAL_MS 1000
/* How often it is looked whether the node serves, so that sampling can begin. */
#define NODE_SAMPLE_WAIT_MS 50
/* Rates and latencies are of so long: long enough to be steady, short enough to be of now. */
#define NODE_SAMPLE_WINDOW_COUNT 5

struct node;
struct node_sampler;

/* Of a replica. */
struct node_shard_sample {
    uint64_t size_bytes;
    uint64_t reads_per_1000_s;
    uint64_t writes_per_1000_s;
};

struct node_sample {
    uint64_t figures[INQUIRY_FIGURE_COUNT]; /* But for INQUIRY_UPTIME_S. */
    struct histogram latencies[INQUIRY_LATENCY_COUNT];
};

struct node_sampler *node_sampler_create(void);
void node_sampler_destroy(struct node_sampler *sampler);
/* The admin's thread, each NODE_SAMPLE_INTERVAL_MS while the node serves. */
void node_sampler_take(struct node_sampler *sampler, struct node *node);
/* Any thread: the newest; INQUIRY_UNKNOWN where there is none yet. Large: not for a small stack. */
void node_sampler_get(struct node_sampler *sampler, struct node_sample *sample);
/* Any thread: of the replica at that place. */
void node_sampler_get_shard(struct node_sampler *sampler, uint32_t place,
                            struct node_shard_sample *sample);
/* Any thread: one of the newest figures. */
uint64_t node_sampler_get_figure(struct node_sampler *sampler, enum inquiry_figure figure);
/* Any thread: for how long already the shard at that place has had more applied than `index`, in
 * whole samples: 0 below a second, at most what is remembered (a minute). */
uint64_t node_sampler_behind_ms(struct node_sampler *sampler, uint32_t place, raft_index index);

/* ---- node_halves.c: where a shard would be halved -------------------------------------------- */

struct node_halver;

struct node_halver *node_halver_create(void);
void node_halver_destroy(struct node_halver *halver);
/* Any thread: look where its bytes are halved; the newest question counts. */
void node_halver_ask(struct node_halver *halver, const struct conductor_question *question);
/* Any thread: that has been found otherwise. */
void node_halver_tell(struct node_halver *halver, const struct conductor_halves *halves);
/* Any thread: what was found since the last call; false: nothing. */
bool node_halver_take(struct node_halver *halver, struct conductor_halves *halves);
/* The admin's thread, now and then. */
void node_halver_run(struct node_halver *halver, struct store *store);
/* About so much do the rows of the slots take in the store; those of the cluster itself are of no account. */
uint64_t node_slots_size_bytes(struct store *store, uint32_t first, uint32_t end);

/* ---- node_forward.c: requests of other reactors ---------------------------------------------- */

/* As route_submit(), on the thread of `home`, for shards on another loop: done() comes on `home`. */
MUST_USE int node_forward_submit(struct node_shards *shards, struct os_loop *home, wal_shard id,
                                 struct shard_request *request);
/* Reactor 0, each tick: submit again what was refused for being too busy. */
void node_forward_retry(struct node_shards *shards);

/* ---- node_status.c: what INFO says ----------------------------------------------------------- */

struct node;
void node_status_information(struct node *node, struct resp_information *information);

/* ---- node_admin.c: the admin port, with a loop and a thread of its own ----------------------- */

/* So it answers while the log is replayed, when the reactors are busy, and until the node has
 * stopped; and asking the store, which may wait for its locks, delays nobody. For the same reason
 * it is what hears SIGTERM, SIGINT and SIGHUP, which changes nothing. */

struct node_admin;

/* Listen, answer, and hear signals from now on. Errors: those of os_listener_open(); -EAGAIN. */
MUST_USE int node_admin_start(struct node_admin **admin, struct node *node, struct error *error);
/* May be NULL. Before anything that it reports on is gone. */
void node_admin_destroy(struct node_admin *admin);
struct os_address node_admin_address(const struct node_admin *admin);

#endif
