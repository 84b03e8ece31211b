/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the gateway share. Folder-private.
 *
 *   resp_server.c        the group, servers, ticks, stopping, budgets
 *   resp_connection.c    bytes in, bytes out
 *   resp_request.c       requests under way, and replies in order
 *   resp_dispatch.c      from a parsed command to who executes it
 *   resp_lane.c          the order of a connection's requests
 *   resp_spread.c        which shard has a command's keys; commands of several shards
 *   resp_moved.c         commands whose shard had other slots
 *   resp_across.c        transactions over several shards
 *   resp_move.c          RENAME, RENAMENX and COPY between shards
 *   resp_evaluate.c      EXEC with commands that depend on other shards
 *   resp_content.c       what both read of keys
 *   resp_table.c         the gateway's own commands, as data
 *   resp_basic.c, resp_client.c, resp_information.c, resp_configuration.c, resp_describe.c,
 *   resp_observe.c, resp_transaction.c, resp_cluster.c   those commands
 *   resp_error.c         errors, counted by their first word
 *   resp_errand.c        work that visits every server of the group */
#ifndef GATEWAY_RESP_RESP_INTERNAL_H
#define GATEWAY_RESP_RESP_INTERNAL_H

#include <stdatomic.h>

#include "base/list/list.h"
#include "gateway/resp/resp.h"
#include "gateway/resp/resp_parse.h"

#define COUNT_OF(array) ((uint32_t)(sizeof(array) / sizeof(array)[0]))

struct connection;

/* ---- Commands -------------------------------------------------------------------------------- */

/* What became of a command. */
enum handled {
    HANDLED_DONE,  /* Answered, or its answer will come. */
    HANDLED_LATER, /* Nothing happened: keep the command and try again. */
    HANDLED_AFTER, /* The same, once no reply is under way. */
};

/* What a command does whose keys are in several shards, or which is about all keys. */
enum spread_kind {
    SPREAD_NONE,  /* Refused, or about one shard always. */
    SPREAD_SUM,   /* Integers are added up. */
    SPREAD_JOIN,  /* Arrays are put together. */
    SPREAD_MERGE, /* So are they, in the order of the keys. */
    SPREAD_ANY,   /* One that is not null, by chance. */
    SPREAD_ALL,   /* OK if all say so. */
    SPREAD_WATCH, /* The versions of the keys are kept. */
};

/* Execute a command of the gateway: `arguments` with the name. Answers to `reply`. */
typedef enum handled (*command_handler)(struct connection *connection,
                                        const struct bytes *arguments, uint32_t count,
                                        const struct reply *reply);

#define COMMAND_NAME_SIZE_MAX 24
#define COMMAND_COUNT_MAX 512

/* A command of either table, found by name. */
struct command_entry {
    const struct kv_command *command;
    command_handler handler; /* NULL: for a shard. */
    uint16_t index;          /* Of its counters. */
    uint8_t name_size_bytes;
    uint8_t spread;                   /* enum spread_kind */
    char name[COMMAND_NAME_SIZE_MAX]; /* Lower case, zero-padded. */
};

/* All commands, hashed by name. Never changes once built. */
struct command_map {
    struct command_entry entries[COMMAND_COUNT_MAX];
    uint32_t entry_count;
    uint16_t places[2 * COMMAND_COUNT_MAX]; /* Index + 1 into entries; 0: free. */
};
void resp__command_map_build(struct command_map *map);
const struct command_entry *resp__command_find(const struct command_map *map, struct bytes name);

/* ---- The group ------------------------------------------------------------------------------- */

#define SLOW_ARGUMENT_COUNT_MAX 8
#define SLOW_ARGUMENT_SIZE_MAX 64

struct slow_argument {
    uint32_t size_bytes;
    uint8_t text[SLOW_ARGUMENT_SIZE_MAX];
};

struct slow_entry {
    uint64_t id;
    uint64_t time_s;
    uint64_t duration_us;
    uint32_t argument_count; /* As the client sent them. */
    uint32_t argument_count_shown;
    struct slow_argument arguments[SLOW_ARGUMENT_COUNT_MAX];
    char peer[OS_ADDRESS_TEXT_SIZE];
    char client_name[SLOW_ARGUMENT_SIZE_MAX];
};

/* A ring; guarded by the group's mutex. */
struct slow_log {
    struct slow_entry *entries;
    uint32_t capacity;
    uint32_t count;
    uint64_t next_id;
};

struct resp_group {
    struct resp_options options; /* With defaults filled in; never changes. */
    struct command_map commands;
    struct resp_server *servers[RESP_SERVER_COUNT_MAX];
    uint32_t server_count;

    /* Settings that may change while serving: each a word of its own. */
    _Atomic uint32_t client_count_max;
    _Atomic uint32_t refused_open_count; /* Refused for being too many, and not closed yet. */
    _Atomic uint32_t idle_timeout_s;
    _Atomic int64_t slow_log_threshold_us;
    _Atomic bool has_password;
    _Atomic bool is_connection_ordered;

    _Atomic uint32_t client_count;
    _Atomic uint64_t commands_per_second; /* In the last second, measured by the first server. */
    _Atomic uint64_t input_bytes_per_second;
    _Atomic uint64_t output_bytes_per_second;
    uint64_t command_count_before; /* The first server's, as are the next. */
    uint64_t input_bytes_before;
    uint64_t output_bytes_before;
    _Atomic int64_t buffer_bytes; /* Sums of what the servers published. */

    struct os_mutex *mutex; /* Guards what follows. */
    char password[RESP_PASSWORD_SIZE_MAX];
    size_t password_size_bytes;
    struct slow_log slow_log;
};

/* ---- Servers --------------------------------------------------------------------------------- */

/* Counters of one command; written by the server's thread, read by any. */
struct command_counters {
    _Atomic uint64_t call_count;
    _Atomic uint64_t failed_count;
    _Atomic uint64_t rejected_count;
    _Atomic uint64_t time_ns;
};

/* Only the server's own thread writes: no locked instruction is needed. */
#define COUNTER_ADD(counter, value)                                                         \
    atomic_store_explicit(&(counter),                                                       \
                          atomic_load_explicit(&(counter), memory_order_relaxed) + (value), \
                          memory_order_relaxed)
#define COUNTER_READ(counter) atomic_load_explicit(&(counter), memory_order_relaxed)

/* The requests of a connection that are under way at one shard. See resp_lane.c. */
struct lane {
    struct shard_session session;
    struct list link; /* In a bucket, or pooled; the connection's own: in none. */
    struct connection *connection;
    wal_shard shard;
    uint32_t under_way_count;
    uint32_t read_count; /* Of these. */
};

/* Those that are not a connection's own, hashed by connection and shard. */
struct lanes {
    struct list *buckets;
    uint32_t bucket_count; /* A power of two, or 0. */
    uint32_t count;
    struct list pooled;
    uint32_t pooled_count;
};

/* How many replies were errors, by their first word. Written by the server's thread, read by any: a word
 * is whole before it is counted among the words, and does not change then. */
enum { ERROR_WORD_COUNT_MAX = 32, ERROR_WORD_SIZE_MAX = 24 };
struct error_counter {
    char word[ERROR_WORD_SIZE_MAX]; /* Zero-terminated. */
    _Atomic uint64_t count;
};

enum { POOLED_BUFFER_COUNT_MAX = 128, POOLED_BUFFER_SIZE_BYTES_MAX = 128 * 1024 };
enum { LISTENER_COUNT_MAX = 8, POOLED_SLOT_COUNT_MAX = 4096 };

struct resp_server {
    struct resp_group *group;
    struct os_loop *loop;
    const struct resp_backend *backend;
    struct os_listener *listeners[LISTENER_COUNT_MAX];
    uint32_t listener_count;
    uint32_t index;
    uint64_t next_client_number;

    struct list connections; /* In order of arrival. */
    struct list strangers;   /* Not authenticated, in order of arrival. */
    struct list dirty;       /* With output for the end of the tick. */
    struct list ready;       /* With input to go on with at the end of the tick. */
    struct list busy;        /* The backend refused for now: tried again after each tick. */
    struct list held;        /* Stopped by CLIENT PAUSE. */
    struct txn *txn;         /* Of transactions over several shards: NULL before the first. */
    struct os_timer *txn_timer;
    struct list spreads;             /* With parts that the backend refused for now. */
    struct list moves;               /* The same, of what is to be moved. */
    struct list evaluations;         /* The same, of EXEC. */
    uint32_t evaluation_count;       /* Under way, waiting or not; */
    uint64_t evaluations_size_bytes; /* what they hold. */
    uint64_t evaluation_work_of_tick;
    struct list moved; /* Connections with commands that have to be dispatched anew. */
    uint32_t connection_count;
    uint32_t stranger_count;

    struct resp_arguments arguments; /* Of the command at hand. */
    struct buffer scratch;           /* Answers that nobody wants. */
    struct buffer pooled_buffers[POOLED_BUFFER_COUNT_MAX];
    uint32_t pooled_buffer_count;
    struct list pooled_slots;
    uint32_t pooled_slot_count;
    struct lanes lanes;

    struct os_timer *timer; /* Each second: timeouts. */
    struct os_timer *pause_timer;
    struct os_timer *busy_timer; /* So that there is a next tick. */
    uint64_t paused_until_ms;    /* CLIENT PAUSE; monotonic. */
    bool is_pause_for_all;       /* Else for writes. */

    bool is_stopping;
    bool is_stopped;
    uint64_t stop_deadline_ms;
    void (*stopped)(void *context);
    void *stopped_context;

    /* Budget: what this server's connections hold, and what the group was told of it. */
    int64_t buffer_bytes;
    int64_t buffer_bytes_published;
    bool is_tight;              /* Half of the budget is used: see resp_server.c. */
    uint64_t tick_output_bytes; /* Replied in this tick. */
    uint64_t dropped_bytes; /* In the tick: unread output of who was cut off, freed behind it. */
    uint64_t pending_read_count;  /* And writes that may answer as much. */
    uint64_t read_estimate_bytes; /* What a pending read is expected to answer. */
    bool is_choosing; /* A CLIENT LIST or KILL is on its way, with what is nobody's yet. */

    /* Statistics; see COUNTER_ADD. */
    uint32_t tick_counts[KV_FAMILY_COUNT]; /* Answered in this tick. */
    uint32_t tick_read_count;              /* Of these. */
    bool has_tick_counts;
    _Atomic uint64_t accepted_count;
    _Atomic uint64_t refused_count;
    _Atomic uint64_t evicted_count;
    _Atomic uint64_t error_count;
    _Atomic uint64_t error_count_at_reset; /* By CONFIG RESETSTAT. */
    _Atomic uint32_t error_word_count;
    struct error_counter errors[ERROR_WORD_COUNT_MAX];
    _Atomic uint64_t pending_count;
    _Atomic uint64_t input_bytes;
    _Atomic uint64_t output_bytes;
    _Atomic uint64_t family_counts[KV_FAMILY_COUNT];
    struct command_counters counters[COMMAND_COUNT_MAX];
    struct histogram latencies_ns[KV_FAMILY_COUNT]; /* Read by others as base/histogram allows. */
    struct histogram kind_latencies_ns[RESP_KIND_COUNT];
};

/* Buffers that are used and empty again within a tick. */
void resp__pool_take(struct resp_server *server, struct buffer *buffer);
void resp__pool_give(struct resp_server *server, struct buffer *buffer);

void resp__event(const struct resp_server *server, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A connection ended: when the server is stopping, this may have been the last. */
void resp__server_check_stopped(struct resp_server *server);

/* May more be replied in this tick? Else the rest waits for the next, to be fair to others. */
bool resp__server_has_room(const struct resp_server *server);

/* May one more read be under way, or write that may answer a value? It was answered, with so many bytes. */
bool resp__server_may_read(const struct resp_server *server);
void resp__server_read_answered(struct resp_server *server, uint64_t size_bytes);
/* Do the clients hold more than they may, as of now? */
bool resp__server_is_over_budget(const struct resp_server *server);

/* What was replied since the target had `before` bytes. */
static inline struct bytes resp__written(const struct reply *reply, size_t before)
{
    return bytes_make(reply->target->data + before, reply->target->size_bytes - before);
}

/* A reply was an error: `reply` begins with it. */
void resp__error_count(struct resp_server *server, struct bytes reply);
/* The lines of INFO about them, in order of word. */
void resp__error_append(const struct resp_group *group, struct buffer *text);
void resp__error_reset(struct resp_server *server);

/* Is CLIENT PAUSE on for such a command? */
bool resp__server_is_paused(const struct resp_server *server, bool is_write);
void resp__server_pause(struct resp_server *server, uint64_t until_ms, bool is_for_all);

/* ---- Connections ----------------------------------------------------------------------------- */

enum reply_mode { REPLY_MODE_ON, REPLY_MODE_OFF, REPLY_MODE_SKIP_NEXT, REPLY_MODE_SKIP };

/* What only some connections have. */
struct connection_extra {
    bool is_across; /* What is watched or queued is in several shards. */
    struct buffer name;
    struct buffer library_name;
    struct buffer library_version;
    struct kv_transaction *transaction; /* Watched keys and queued commands. */
    struct queued *queued;              /* See resp_transaction.c. */
    uint32_t queued_count;
    uint32_t queued_capacity;
    uint32_t command_count;  /* Queued, of both kinds. */
    uint64_t own_size_bytes; /* Of `queued`. */
    struct buffer watching;  /* Keys of the WATCH under way. */
    uint32_t watching_count;
    uint32_t watched_count; /* Keys, as often as they were watched. */
    wal_shard shard;        /* Of all keys that are watched or queued for; 0: none yet. */
    uint32_t map_version;   /* By this map; 0: nothing was looked up. */

    /* See resp_moved.c. */
    struct connection *connection;
    struct list moved_link;   /* server->moved */
    uint32_t moved_count;     /* Slots that have moved. */
    uint32_t refused_version; /* A shard had other slots than this map says. */
    uint64_t refused_at_ms;
};

struct connection {
    struct resp_server *server;
    struct os_stream *stream; /* NULL once closed. */
    struct list link;         /* server->connections */
    struct list stranger_link;
    struct list dirty_link;
    struct list ready_link; /* server->ready, busy or held */
    struct list slots;      /* Replies that are not there yet, in order. */
    struct spread *spread;  /* Under way; NULL: none. See resp_spread.c. */
    uint64_t id;
    struct lane lane;     /* The first; see resp_lane.c. */
    uint32_t map_version; /* Of the map by which all lanes go. */
    struct resp_parser parser;
    struct buffer input;            /* Bytes of commands that are not executed yet. */
    struct buffer output;           /* Replies for the end of the tick. */
    struct connection_extra *extra; /* May be NULL. */
    uint64_t created_at_ms;
    uint64_t active_at_ms;
    uint64_t queued_since_ms;    /* When the client was last known to read; 0: it has read all. */
    uint64_t pending_size_bytes; /* Of the arguments under way. */
    uint64_t held_size_bytes;    /* Of replies that wait for earlier ones. */
    uint64_t charged_bytes;      /* To the budget. */
    uint32_t slot_count;
    uint32_t under_way_count;    /* Of these, with somebody who will answer. */
    uint32_t lane_count;         /* With something under way. */
    uint16_t last_command;       /* Index + 1; 0: none, or none of ours. */
    const char *last_subcommand; /* NULL: it has none, or none that the gateway knows. */
    uint8_t protocol;
    uint8_t reply_mode; /* enum reply_mode */
    bool is_authenticated;
    bool has_more;   /* Input behind the command that is executed. */
    bool is_stalled; /* There may be commands in `input` that could not be executed. */
    bool is_choked;  /* The client does not read: nothing more for now. */
    bool is_blocked; /* The next command needs the answer of the last (WATCH). */
    bool must_drain; /* The next command waits until no reply is under way. */
    bool is_barred;  /* A barrier is under way: see resp_lane.c. */
    bool has_moved;  /* There are commands to be dispatched anew, before the next one. */
    bool is_closing; /* After the replies under way; no more input. */
    bool is_hung_up; /* The stream may not be used any more. */
    bool is_stream_closed;
    bool has_ended; /* The client sent its last byte. */
    bool is_in_multi;
    bool is_multi_broken;   /* A command was refused while queuing: EXEC aborts. */
    bool is_protected;      /* CLIENT NO-EVICT. */
    bool is_touching;       /* CLIENT NO-TOUCH off. */
    bool is_cluster;        /* In cluster mode: see resp_cluster.c. */
    bool is_readonly;       /* READONLY: reads may be stale. */
    bool awaits_evaluation; /* EXEC is next, and will wait: see resp__evaluation_waits(). */
};

extern const struct os_stream_events resp__stream_events;

void resp__connection_accept(struct resp_server *server, struct os_stream *stream);
/* Free what is left of it once it has neither stream nor requests. */
void resp__connection_release_if_done(struct connection *connection);
/* Hang up at once; requests under way are dropped when they are answered. */
void resp__connection_close(struct connection *connection);
/* No more input; hang up after the replies under way. */
void resp__connection_finish(struct connection *connection);
/* Execute what is in `input` as far as now possible; later the rest. */
void resp__connection_go_on(struct connection *connection);
/* Go on at the end of the tick. */
void resp__connection_make_ready(struct connection *connection);
void resp__connection_mark_dirty(struct connection *connection);
/* Write the output of the tick. */
void resp__connection_flush(struct connection *connection);
/* Bring the budget up to date. */
void resp__connection_charge(struct connection *connection);
void resp__connection_authenticated(struct connection *connection);
struct connection_extra *resp__connection_extra(struct connection *connection);
/* Clients that have sent nothing for too long, or should have authenticated. */
bool resp__connection_is_overdue(const struct connection *connection, uint64_t now_ms);

/* ---- Requests -------------------------------------------------------------------------------- */

/* A reply that will come. `following` holds what is to be sent behind it: replies of later commands
 * that were answered at once. */
struct slot {
    struct shard_request request; /* First: done() finds the slot. */
    struct connection *connection;
    struct lane *lane; /* NULL: none, or it has left. */
    struct list link;
    struct buffer answer;
    struct buffer following;
    void (*complete)(struct slot *slot, int status, struct bytes answer, const struct reply *reply);
    const struct command_entry *entry;
    uint64_t started_at_ns;
    uint64_t size_bytes; /* Of the arguments, and what else is kept for it. */
    uint32_t argument_count;
    bool is_new; /* The command that opened it is at hand: a reply now is one at once. */
    bool is_done;
    bool is_read;
    bool is_counted; /* May have a large answer: one of server->pending_read_count. */
    bool is_silent;
    bool is_moved;                      /* To be dispatched anew: */
    struct bytes *arguments;            /* the command, with its name; argument_count of them. */
    struct kv_transaction *transaction; /* Of an EXEC in one shard; else NULL. */
    uint32_t key_size_bytes;            /* For the slow log: the first argument. */
    uint8_t key[SLOW_ARGUMENT_SIZE_MAX];
};

/* Where the next reply of this connection goes. */
struct reply resp__reply_target(struct connection *connection);

/* Call after writing to such a target, whose size was `before`. */
void resp__reply_written(struct connection *connection, const struct reply *reply, size_t before);

struct submission {
    const struct command_entry *entry;
    const struct slots *slots; /* The map, */
    struct slots_range range;  /* and what it says of the shard. */
    struct shard_command command;
    bool is_write;
    bool does_grow;
    bool is_cheap;      /* A read that may go through the log. */
    bool is_barrier;    /* Waits for all before it, and all behind wait for it. */
    bool answers_value; /* A write whose answer may be large. */
    /* NULL: the answer is the reply. Else writes the reply for the answer, when it came; on the
     * spot when the backend answered on the spot. A status that is not 0: there is no answer, and
     * `answer` is the error for the client. */
    void (*complete)(struct slot *slot, int status, struct bytes answer, const struct reply *reply);
};

/* Hand a request to the backend. HANDLED_LATER: it is busy, or the shard has other slots; HANDLED_AFTER:
 * it has to wait for what is under way in other lanes, or by another map. `*refused` is 0 or why it
 * refused: then a reply is owed by the caller. */
enum handled resp__submit(struct connection *connection, const struct submission *submission,
                          const struct reply *reply, int *refused);
/* `slot` has what `old` had: its place in the order, and what is to be sent behind it. */
void resp__slot_replace(struct slot *old, struct slot *slot);
/* The text for a refusal by the backend, or NULL; and the whole reply. */
const char *resp__refusal_text(int refused);
void resp__reply_refusal(const struct reply *reply, int refused);

/* The error for a request that the backend took, and that has no answer. */
void resp__reply_failure(const struct command_entry *entry, bool is_write, int status,
                         const struct reply *reply);
/* The error instead of what several shards have answered, which is more than an answer may be. */
void resp__reply_too_large(const struct resp_server *server, const struct command_entry *entry,
                           const struct reply *reply);

/* A slot for a reply that something other than the backend will give; `size_bytes` are kept until
 * then. */
struct slot *resp__slot_open(struct connection *connection, const struct command_entry *entry,
                             uint64_t size_bytes);
/* What it answers may be large: few such are under way at a time, by resp__server_may_read(). */
void resp__slot_count(struct slot *slot);
/* What is kept for it is so much now. */
void resp__slot_charge(struct slot *slot, uint64_t size_bytes);
/* The command that may have opened slots is done with: what they answer later is timed one by one. */
void resp__slots_settle(struct connection *connection);
/* Its reply is there; with a status that is not 0, an error. */
void resp__slot_close(struct slot *slot, int status, struct bytes answer);

/* ---- Lanes ----------------------------------------------------------------------------------- */

void resp__lanes_init(struct lanes *lanes);
/* Once none is in use. */
void resp__lanes_deinit(struct lanes *lanes);
/* The connection's own. */
void resp__lane_init(struct connection *connection);
/* HANDLED_DONE: the request may be asked in the session of that lane, which is left when it is answered. */
enum handled resp__lane_enter(struct connection *connection, const struct submission *submission,
                              struct lane **entered);
/* It may be gone then. */
void resp__lane_leave(struct lane *lane);

/* Do commands take effect in the order of their connection, whatever their keys? */
static inline bool resp__is_connection_ordered(const struct resp_server *server)
{
    return atomic_load_explicit(&server->group->is_connection_ordered, memory_order_relaxed);
}

/* ---- Dispatch -------------------------------------------------------------------------------- */

/* Execute one command of a client: `server->arguments`. */
enum handled resp__dispatch(struct connection *connection);

/* Have it executed by the gateway or a shard, whatever the state of the connection. */
enum handled resp__run(struct connection *connection, const struct command_entry *entry,
                       const struct bytes *arguments, uint32_t count, const struct reply *reply);

void resp__reply_arity(const struct reply *reply, const char *name);
void resp__reply_syntax(const struct reply *reply);
void resp__reply_unknown_subcommand(const struct reply *reply, const char *command,
                                    struct bytes subcommand);
/* The subcommand is known, but takes other arguments: what Redis says where its own table of forms does
 * not tell. */
void resp__reply_subcommand_form(const struct reply *reply, const char *command,
                                 struct bytes subcommand);
void resp__reply_help(const struct reply *reply, const char *const *lines, uint32_t count);
bool resp__is(struct bytes bytes, const char *word);
/* Has SET, with its name, the option GET? */
bool resp__set_gets(const struct bytes *arguments, uint32_t count);
/* May it be a client's name? */
bool resp__name_is_clean(struct bytes name);

/* What a command with subcommands knows of them. Arity counts the command's name. */
struct subcommand {
    const char *name;
    int8_t arity;
    command_handler handler;
};
enum handled resp__run_subcommand(const struct subcommand *subcommands, uint32_t subcommand_count,
                                  struct connection *connection, const struct bytes *arguments,
                                  uint32_t count, const struct reply *reply);

/* ---- Transactions ---------------------------------------------------------------------------- */

enum handled resp__queue(struct connection *connection, const struct command_entry *entry,
                         const struct bytes *arguments, uint32_t count, const struct reply *reply);
/* Forget queued commands and watched keys. */
void resp__transaction_drop(struct connection *connection);
uint64_t resp__transaction_size_bytes(const struct connection *connection);
/* The key had this version when it was watched. A WATCH that fails is none: where the keys of the
 * transaction are is learned here. */
void resp__transaction_watch(struct connection *connection, struct bytes key, uint64_t version);
/* An EXEC of one shard that has other slots now: once more, by the newest map. Takes the transaction, or
 * has to be tried again. */
enum handled resp__exec_again(struct connection *connection, struct kv_transaction **transaction,
                              const struct reply *reply);

/* ---- Cluster mode ---------------------------------------------------------------------------- */

/* Of a connection in cluster mode: does another node lead the keys of the command? Then -MOVED is
 * replied. */
bool resp__cluster_redirect(const struct connection *connection, const struct kv_command *command,
                            const struct bytes *arguments, uint32_t count,
                            const struct reply *reply);

/* ---- Shards ---------------------------------------------------------------------------------- */

/* The newest map; NULL: there is one shard. */
static inline const struct slots *resp__slots(const struct resp_server *server)
{
    const struct resp_backend *backend = server->backend;
    return backend->slots == NULL ? NULL : backend->slots(backend->context);
}

/* Which map it is: maps are not kept, only that. Newer ones have more ranges. 0: there is no map. */
static inline uint32_t resp__map_version(const struct slots *slots)
{
    return slots == NULL ? 0 : slots->range_count;
}

/* The shard that has a slot, and its slots; with an end of 0 when there is no map. */
static inline struct slots_range resp__range_of_slot(const struct slots *slots, uint32_t slot)
{
    return slots == NULL ? (struct slots_range){.shard = SLOTS_FIRST_SHARD}
                         : slots->ranges[slots_place_of(slots, slot)];
}

/* Are there keys among so many arguments, the name included? OBJECT HELP has a place for one, and none there. */
bool resp__names_keys(const struct command_entry *entry, uint32_t count);
/* Of all keys of a command: the first shard's when it has none. False: they are in several, or it is
 * about all keys. `arguments` with the name. */
MUST_USE bool resp__find_range(const struct slots *slots, const struct command_entry *entry,
                               const struct bytes *arguments, uint32_t count,
                               struct slots_range *range);
/* Of a command that a shard executes, for the route (shard.h); `arguments` without the name. */
uint16_t resp__order_key(const struct command_entry *entry, const struct bytes *arguments,
                         uint32_t count);
/* For kv_split_create(), with a map. */
uint32_t resp__group_of_slot(void *slots, uint32_t slot);
void resp__name_slots(struct shard_request *request, const struct slots_range *range);
void resp__reply_cross(const struct reply *reply);
enum spread_kind resp__spread_kind(struct bytes name);
/* A copy of arguments with their bytes in one piece, for memory_free(); and its size. */
struct bytes *resp__arguments_copy(const struct bytes *arguments, uint32_t count);
uint64_t resp__arguments_size_bytes(const struct bytes *arguments, uint32_t count);
/* For a command of which resp__find_range() said no. */
enum handled resp__spread(struct connection *connection, const struct command_entry *entry,
                          const struct bytes *arguments, uint32_t count, const struct reply *reply);
/* Nobody wants its answer any more. */
void resp__spread_drop(struct spread *spread);
/* Each tick: what the backend refused, once more. */
void resp__spreads_retry(struct resp_server *server);

/* ---- Transactions over several shards --------------------------------------------------------- */

/* Have the transaction done, or reply a refusal; else it has to be tried again. What is begun has copies
 * of all, or takes it. */
enum handled resp__across(struct connection *connection, const struct command_entry *entry,
                          struct kv_transaction **transaction, const struct reply *reply);
/* A command that kv_command_may_be_split(), with keys in several shards. */
enum handled resp__across_command(struct connection *connection, const struct command_entry *entry,
                                  const struct bytes *arguments, uint32_t count,
                                  const struct reply *reply);
/* Have the parts, cut by this map, committed: txn_begin(), which copies them, so that the split lets them
 * go. */
MUST_USE int resp__across_begin(struct resp_server *server, const struct slots *slots,
                                struct kv_split *split, uint8_t protocol,
                                void (*done)(void *context, const struct txn_done *done),
                                void *context);
/* What the client is told of what was committed, but not wholly (txn_done.is_broken). */
void resp__across_reply_broken(const struct reply *reply);
/* Of what was committed, from the replies of its parts. */
void resp__across_reply_committed(const struct resp_server *server, const struct kv_split *split,
                                  const struct command_entry *entry, const struct txn_done *done,
                                  const struct reply *reply);
/* What the client is told of what was not committed, or may not have been. */
void resp__across_reply_failed(const struct command_entry *entry, const struct txn_done *done,
                               const struct reply *reply);
void resp__across_tick(struct resp_server *server);
/* Is nothing under way for it any more, also nothing that no client waits for? */
bool resp__across_is_idle(const struct resp_server *server);
void resp__across_deinit(struct resp_server *server);

/* So often what was read may have changed before it is given up. */
enum { RESP_ATTEMPT_COUNT_MAX = 100 };

/* RENAME, RENAMENX and COPY between shards. */
enum handled resp__move(struct connection *connection, const struct command_entry *entry,
                        const struct bytes *arguments, uint32_t count);
/* Each tick: what was refused as busy, once more. */
void resp__moves_retry(struct resp_server *server);

/* EXEC of a transaction that cannot be cut as it is; nothing of the connection is under way. Takes it when
 * it will answer. */
enum handled resp__evaluate(struct connection *connection, const struct command_entry *entry,
                            struct kv_transaction **transaction, const struct reply *reply);
/* It had to wait when it was last tried, and has to still: it need not be copied to see that. */
bool resp__evaluation_waits(struct connection *connection);
/* Each tick: what was refused as busy, once more. */
void resp__evaluations_retry(struct resp_server *server);

/* ---- Commands that have moved ---------------------------------------------------------------- */

#define RESP_SPLIT_TEXT "TRYAGAIN The shard was split while the transaction began; nothing was done"

/* The shard had other slots, and nothing happened. Keeps the command, and dispatches it anew. */
void resp__moved(struct slot *slot);
/* It is answered, or another slot has its place. */
void resp__moved_over(struct slot *slot);
/* What the connection asked by its map was refused; was it, a moment ago? */
void resp__note_refused(struct connection *connection);
bool resp__is_refused(const struct connection *connection);
/* Each tick. Returns whether something has to be tried again soon. */
bool resp__moved_retry(struct resp_server *server);

/* ---- Errands --------------------------------------------------------------------------------- */

/* Visits every server on its own thread, beginning with the one where it is sent off, and comes
 * back to it. Embedded in what it carries. */
struct errand {
    struct os_message message;
    struct resp_server *origin;
    uint32_t visited_count;
    void (*visit)(struct errand *errand, struct resp_server *server);
    void (*back)(struct errand *errand); /* On the origin's thread; ends it. */
};
/* With one server, all of it happens within the call. */
void resp__errand_send(struct errand *errand, struct resp_server *origin);

/* ---- The slow log and the password ----------------------------------------------------------- */

void resp__slow_log_add(struct connection *connection, uint64_t duration_ns,
                        const struct bytes *arguments, uint32_t argument_count,
                        uint32_t argument_count_shown);
/* Compares in a time that does not depend on where they differ. */
bool resp__password_is(struct resp_group *group, struct bytes password);
bool resp__password_set(struct resp_group *group, struct bytes password);

/* ---- The commands ---------------------------------------------------------------------------- */

#define RESP_HANDLER(name)                                                                  \
    enum handled resp__##name(struct connection *connection, const struct bytes *arguments, \
                              uint32_t count, const struct reply *reply)

RESP_HANDLER(acl);
RESP_HANDLER(asking);
RESP_HANDLER(auth);
RESP_HANDLER(client);
RESP_HANDLER(cluster);
RESP_HANDLER(command);
RESP_HANDLER(config);
RESP_HANDLER(discard);
RESP_HANDLER(echo);
RESP_HANDLER(exec);
RESP_HANDLER(hello);
RESP_HANDLER(info);
RESP_HANDLER(lastsave);
RESP_HANDLER(latency);
RESP_HANDLER(lolwut);
RESP_HANDLER(memory);
RESP_HANDLER(module);
RESP_HANDLER(multi);
RESP_HANDLER(ping);
RESP_HANDLER(quit);
RESP_HANDLER(readonly);
RESP_HANDLER(readwrite);
RESP_HANDLER(reset);
RESP_HANDLER(role);
RESP_HANDLER(select);
RESP_HANDLER(shutdown);
RESP_HANDLER(slowlog);
RESP_HANDLER(time);
RESP_HANDLER(unwatch);
RESP_HANDLER(wait);
RESP_HANDLER(waitaof);
RESP_HANDLER(watch);

#endif
