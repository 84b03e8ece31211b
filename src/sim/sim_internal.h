/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the simulator share. */
#ifndef SIM_SIM_INTERNAL_H
#define SIM_SIM_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "base/hash/hash.h"
#include "base/list/list.h"
#include "base/random/random.h"
#include "base/reply/reply.h"
#include "core/env/env.h"
#include "core/memstore/memstore.h"
#include "core/shard/shard.h"
#include "core/wal/wal.h"
#include "service/kv/kv.h"
#include "sim/sim.h"

#define SIM__SECTOR_SIZE 512

struct sim;

/* ---- sim_disk.c ------------------------------------------------------------------------------ */

struct sim__disk;

enum sim__damage { SIM__DAMAGE_ROT, SIM__DAMAGE_ASTRAY };

struct sim__disk_options {
    uint64_t capacity_bytes;
    bool does_cache_lie;         /* After a failed flush, reads show what was not made durable. */
    bool does_directory_reorder; /* Unflushed changes of names survive in any subset. */
    uint32_t flush_error_per_million;
    /* Asked at every call: false makes it fail without effect, as for a process that was killed.
     * May be NULL. */
    bool (*touch)(void *context, const char *operation);
    /* Is the call that touch() has just refused the one in which the process died? May be NULL. */
    bool (*dies_now)(void *context);
    void *context;
};

struct sim__disk *sim__disk_create(const struct sim__disk_options *options, struct random *random);
void sim__disk_destroy(struct sim__disk *disk);
/* A copy of a stopped disk; NULL while something on it is unflushed. */
struct sim__disk *sim__disk_copy(const struct sim__disk *source);
struct env_files sim__disk_interface(struct sim__disk *disk);

/* End all open files; the content of the cache stays. */
void sim__disk_kill(struct sim__disk *disk);
/* Keep what was flushed and a random part of the rest. */
void sim__disk_lose_power(struct sim__disk *disk);
/* Refuse to allocate blocks, or allow it again. */
void sim__disk_set_full(struct sim__disk *disk, bool is_full);
void sim__disk_grow(struct sim__disk *disk, uint64_t more_bytes);
/* One flush that comes fails with this chance; then none. */
void sim__disk_fail_flush(struct sim__disk *disk, uint32_t per_million);
/* How many flushes failed so far. */
uint32_t sim__disk_flush_error_count(const struct sim__disk *disk);
/* The log writer has made a round with records durable. */
void sim__disk_next_round(struct sim__disk *disk);

/* Damage a stopped disk where two later rounds are durable, so that the log can tell damage from a
 * torn tail. False when there is no such place yet. */
bool sim__disk_damage(struct sim__disk *disk, enum sim__damage kind);
/* Damages that nothing has written over. */
uint32_t sim__disk_damage_count(const struct sim__disk *disk);
void sim__disk_repair(struct sim__disk *disk);
/* Of names and contents, as processes see them. */
uint64_t sim__disk_hash(const struct sim__disk *disk);
/* For the trace: which files there are. */
void sim__disk_print(const struct sim__disk *disk, FILE *file);

/* ---- sim_model.c, sim_model_commands.c: Redis, naively --------------------------------------- */

struct sim__field {
    struct buffer name;
    struct buffer value;
};

struct sim__key {
    struct buffer name;
    bool is_hash;
    struct buffer value; /* Of a string. */
    struct sim__field *fields;
    uint32_t field_count;
    uint64_t expire_ms; /* 0: never. */
    uint64_t version;   /* Of the command that changed it last. */
};

struct sim__model {
    struct sim__key *keys;
    uint32_t key_count;
    uint32_t key_capacity;
    uint64_t time_ms; /* Of the last command of the log. */
};

/* The commands of a transaction, as the client knows them: the model does not decode what kv
 * encodes. */
struct sim__part {
    const struct kv_command *command;
    struct bytes *arguments;
    uint32_t argument_count;
};

struct sim__transaction {
    uint64_t arguments_hash; /* Of the command that kv built; says which one the log holds. */
    struct bytes *watched;
    uint64_t *versions;
    uint32_t watched_count;
    struct sim__part *parts;
    uint32_t part_count;
};

struct sim__call {
    struct sim__model *model;
    uint64_t time_ms;
    uint64_t version;
    const struct bytes *arguments;
    uint32_t argument_count;
    const struct reply *reply;
};

struct sim__model_command {
    const char *name;
    void (*run)(struct sim__call *call);
    bool is_about_all_keys; /* And not about those that it names. */
};
extern const struct sim__model_command sim__model_commands[];
extern const uint32_t sim__model_command_count;

void sim__model_init(struct sim__model *model);
void sim__model_deinit(struct sim__model *model);
void sim__model_copy(struct sim__model *target, const struct sim__model *source);

/* Answer a command as Redis would at that time. False when the model does not know the opcode (kv's
 * own commands, which change nothing that a client can see). */
bool sim__model_execute(struct sim__model *model, uint64_t time_ms, uint64_t version,
                        const struct shard_command *command, const struct reply *reply);
void sim__model_transaction(struct sim__model *model, uint64_t time_ms, uint64_t version,
                            const struct sim__transaction *transaction, const struct reply *reply);
/* Is an argument of the command a key that has expired by then? */
bool sim__model_has_expired(const struct sim__model *model, const struct shard_command *command,
                            uint64_t time_ms);
uint64_t sim__model_hash(const struct sim__model *model);
/* 0 when there is no such key. */
uint64_t sim__model_version(const struct sim__model *model, struct bytes key);

struct sim__key *sim__model_find(struct sim__model *model, struct bytes name, uint64_t time_ms);
struct sim__key *sim__model_make(struct sim__model *model, struct bytes name);
void sim__model_remove(struct sim__model *model, struct sim__key *key);
void sim__model_clear(struct sim__model *model);
void sim__key_become_string(struct sim__key *key, struct bytes value);
void sim__key_copy_content(struct sim__key *target, const struct sim__key *source);
struct sim__field *sim__key_field(struct sim__key *key, struct bytes name);
void sim__key_put_field(struct sim__key *key, struct bytes name, struct bytes value);
void sim__key_drop_field(struct sim__key *key, struct sim__field *field);
void sim__assign(struct buffer *target, struct bytes bytes);

/* ---- sim_check.c: histories ------------------------------------------------------------------ */

/* A hash of a reply in which the order of the elements of maps and sets does not count, nor the
 * text of an error after its first word. `command` may be NULL. */
uint64_t sim__reply_hash(const struct kv_command *command, struct bytes reply);
/* A hash of what a reply says, in RESP2 or in RESP3: of its elements, whatever their order. */
uint64_t sim__content_hash(struct bytes reply);
uint64_t sim__command_hash(const struct shard_command *command);

/* One operation on one key, as a client saw it. Times are any numbers that grow. */
struct sim__operation {
    uint64_t session; /* Operations of a session take effect in order of `started_at`. */
    uint64_t started_at;
    uint64_t ended_at;
    bool is_optional;      /* The client got no answer: it may have had no effect at all. */
    bool is_reply_unknown; /* Any reply is right. */
    uint8_t protocol;
    uint64_t reply_hash;
    const struct kv_command *command;
    struct bytes *arguments;
    uint32_t argument_count;
};

/* Is there an order of the operations that one key could have answered like this? Searches as Wing
 * and Gong (1993) with the memory of Lowe (2017). Sorts the operations. `*is_given_up`: the search
 * was too long. */
bool sim__is_linearizable(struct sim__operation *operations, uint32_t count, bool *is_given_up);

/* ---- sim_lists.c: histories of lists that only grow ------------------------------------------- */

struct sim__list_step {
    uint32_t list;
    uint32_t element;  /* What is appended, a number of its own; 0: it is a read. */
    bool is_seen;      /* A read that was answered, */
    struct bytes seen; /* with the elements, in decimal, a comma behind each. */
};

/* An operation, or a transaction of several. Those without an effect are not there. */
struct sim__list_operation {
    /* Operations of a session take effect in order of `started_at`, equal ones as they stand; of two
     * that are `is_of_pipeline` only if they have a list in common. */
    uint64_t session;
    bool is_of_pipeline;
    uint64_t started_at;
    uint64_t ended_at;
    bool is_optional; /* There was no answer: it may take effect at any time, or never. */
    struct sim__list_step *steps;
    uint32_t step_count;
};

/* Is what clients saw strictly serializable, given what the lists are at the end? NULL, or what
 * cannot be, written to `text`. */
const char *sim__lists_check(const struct sim__list_operation *operations, uint32_t count,
                             const struct bytes *lists, uint32_t list_count,
                             char text[SIM_REASON_SIZE]);

/* ---- sim.c: the world ------------------------------------------------------------------------ */

enum sim__event_kind {
    SIM__EVENT_TICK,
    SIM__EVENT_WRITER,
    SIM__EVENT_PERSISTED,
    SIM__EVENT_READ,
    SIM__EVENT_READ_DONE,
    SIM__EVENT_WRITE,
    SIM__EVENT_WRITE_DONE,
    SIM__EVENT_STORE,
    SIM__EVENT_CLIENT,
    SIM__EVENT_KILL,
    SIM__EVENT_START,
    SIM__EVENT_CLOCK,
    SIM__EVENT_SPACE,
    SIM__EVENT_FLUSH_ERROR,
    SIM__EVENT_GROWTH,
};

struct sim__event {
    uint64_t at_us;
    uint64_t sequence;
    enum sim__event_kind kind;
    uint32_t incarnation; /* Events of a dead node are dropped; 0: of the world. */
    uint64_t value;
    void *pointer;
};

/* What this life is like: drawn from the seed. */
struct sim__nature {
    uint32_t client_count;
    uint32_t pipeline_max;
    uint32_t key_count;
    uint32_t register_count; /* Keys of single-key commands without expiry, checked key by key. */
    uint32_t request_count;  /* When to stop. */
    uint32_t think_us;
    uint32_t disk_us;
    uint32_t segment_size_bytes;
    uint32_t spare_size_bytes;
    uint64_t capacity_bytes; /* Of the log's disk. */
    uint32_t cache_size_bytes;
    uint32_t in_flight_size_bytes;
    uint32_t store_row_count; /* 1: the store gets each entry by itself. */
    uint32_t store_write_us;
    uint32_t kill_every_us;        /* 0: never. */
    uint32_t kill_in_call_percent; /* Of the kills: at a call of the environment. */
    uint32_t power_percent;        /* Of the kills. */
    uint32_t stop_percent;         /* Of the kills: clean stops instead. */
    uint32_t recovery_kill_percent;
    uint32_t ready_kill_percent; /* Of the starts: killed as soon as it is ready. */
    uint32_t damage_percent;     /* Of the restarts. */
    uint32_t twice_percent;      /* Of the restarts: recover twice and compare. */
    uint32_t flush_error_every_us;
    uint32_t full_every_us;
    uint32_t clock_jump_every_us;
    uint32_t log_flush_us; /* 0: before each answer. Else answers come first, as with everysec. */
    uint32_t store_flush_us;
    uint32_t read_limit;
    uint32_t read_busy_percent;
    uint32_t value_size_max;
    uint32_t expiry_percent;
    uint32_t transaction_percent;
    uint32_t resp3_percent; /* Of the sessions: replies as RESP3. */
    uint32_t flushall_per_mille;
    uint32_t large_hash_per_mille;
    uint32_t read_percent;
    struct memstore_faults faults;
    bool does_cache_lie;
    bool does_directory_reorder;
};

struct sim__node;
struct sim__oracle;
struct sim__clients;

struct sim {
    struct sim_options options;
    struct sim_result *result;
    struct sim__nature nature;
    struct random random; /* Of the scheduler and the clients. */
    struct random disk_random;
    struct random fault_random;

    uint64_t now_us;
    uint64_t monotonic_base_ms; /* Of this boot. */
    int64_t wall_offset_ms;

    struct sim__event *events; /* A heap, the earliest first. */
    uint32_t event_count;
    uint32_t event_capacity;
    uint64_t event_sequence;

    uint64_t trace_hash;
    bool is_failed;
    bool is_ending; /* No new kills and faults. */

    struct sim__disk *disk;
    struct memstore *memstore;
    struct env_store_ops memstore_ops; /* Its own. */
    struct env_store_ops store_ops;    /* Those that the node gets. */
    struct sim__node *node;
    struct sim__oracle *oracle;
    struct sim__clients *clients;
};

/* Record a violated claim; the first one counts. The run ends at the next step. */
void sim__fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Something happened: goes into the trace hash, and into the trace if there is one. */
void sim__note(struct sim *sim, const char *name, uint64_t a, uint64_t b, uint64_t c);
void sim__schedule(struct sim *sim, uint64_t delay_us, enum sim__event_kind kind,
                   uint32_t incarnation, uint64_t value, void *pointer);
/* A number around `mean`, from a third of it to many times it. */
uint64_t sim__delay(struct sim *sim, uint64_t mean_us);
bool sim__percent(struct sim *sim, uint32_t percent);
struct env_clock sim__clock(struct sim *sim);
uint64_t sim__wall_ms(const struct sim *sim);
void sim__clock_jump(struct sim *sim);
void sim__clock_boot(struct sim *sim);
void sim__draw_nature(struct sim *sim);

/* ---- sim_node.c: the wiring of the node ------------------------------------------------------ */

struct sim__node *sim__node_create(struct sim *sim);
void sim__node_destroy(struct sim__node *node);
void sim__node_event(struct sim *sim, const struct sim__event *event);
/* NULL while it cannot answer. */
struct shard *sim__node_shard(struct sim__node *node);
bool sim__node_is_ready(const struct sim__node *node);
/* It runs and replays its log; requests are refused. */
bool sim__node_is_starting(const struct sim__node *node);
/* False from the moment it was killed, also within a call. */
bool sim__node_is_alive(const struct sim__node *node);
/* Nothing more to do: ready, and the writer is idle. */
bool sim__node_is_quiet(const struct sim__node *node);
/* Something may have changed that the next tick has to look at. */
void sim__node_wake(struct sim *sim);
void sim__node_kill(struct sim *sim, bool is_power_lost);
/* Bury it if it died. After every call from outside sim_node.c that can kill it. */
void sim__node_settle(struct sim *sim);
/* Verify every row of the store that the node left behind. */
void sim__node_verify(struct sim *sim);

/* ---- sim_oracle.c: what the log ordered, checked against the model --------------------------- */

/* What a request of a client waits for. */
struct sim__pending {
    struct list link;
    bool is_write;
    uint8_t protocol;
    bool is_executed;                 /* Lost, and found in the order. */
    const struct kv_command *command; /* NULL for kv's own: versions, transactions. */
    uint64_t class_hash;              /* Of opcode and arguments. */
    uint64_t submitted_at;            /* Position in the log: it takes effect later … */
    uint64_t answered_at;             /* … and before this one. */
    uint64_t *session_position; /* What its session has seen so far; shared by its requests. */
    struct shard_command copy;  /* Of a read: to ask the model again. */
    struct candidate {
        uint64_t position;
        uint64_t reply_hash;
    } * candidates; /* Of a read: what it may answer, since when. */
    uint32_t candidate_count;
    uint32_t candidate_capacity;
};

struct sim__oracle *sim__oracle_create(struct sim *sim);
void sim__oracle_destroy(struct sim__oracle *oracle);
/* The machine to give to the shard: `machine`, watched. Borrows until the next one. */
struct shard_machine sim__oracle_machine(struct sim__oracle *oracle, struct shard_machine machine);

/* A node starts: its store has applied the log up to `applied`. */
void sim__oracle_started(struct sim *sim, raft_index applied);
/* A loss that the log's flushes permit: nothing after `index` was ever executed. */
void sim__oracle_forget(struct sim *sim, raft_index index);
/* It has replayed the log. */
void sim__oracle_ready(struct sim *sim);
/* What was executed so far is a batch; it will be written as it is now. */
void sim__oracle_frozen(struct sim *sim);
/* It was written to the store. Without sim__oracle_frozen() before it: what was executed so far. */
void sim__oracle_written(struct sim *sim);
/* The digest of the shard at an index that it has applied. */
void sim__oracle_digest(struct sim *sim, raft_index index, uint64_t digest);

/* Takes `transaction`. */
void sim__oracle_transaction(struct sim *sim, struct sim__transaction *transaction);
/* A request is about to be submitted. Gives what to name it by, until it is refused, answered or
 * lost; `session_position` (borrowed until then) begins at 0. */
struct sim__pending *sim__oracle_submit(struct sim *sim, const struct shard_request *request,
                                        uint64_t *session_position);
/* The request was refused: it must have no effect. */
void sim__oracle_refused(struct sim *sim, struct sim__pending *pending);
/* The shard has answered; whatever happens from now on is too late to be seen. */
void sim__oracle_answered(struct sim *sim, struct sim__pending *pending);
/* The client has got the answer, after those of its earlier requests. Checks it. */
void sim__oracle_delivered(struct sim *sim, struct sim__pending *pending, struct bytes reply);
/* Every pending request was lost by a kill. */
void sim__oracle_lost(struct sim *sim);
/* Reads elsewhere see the model as it is in the store now: keep a copy, use it, drop it. NULL while
 * the store has less than this life has found executed: only prefetches may go elsewhere then. */
struct sim__model *sim__oracle_keep(struct sim *sim);
void sim__oracle_use(struct sim *sim, const struct sim__model *model);
uint64_t sim__oracle_position(const struct sim *sim);
const struct sim__model *sim__oracle_model(const struct sim *sim);

/* ---- sim_client.c ---------------------------------------------------------------------------- */

struct sim__clients *sim__clients_create(struct sim *sim);
void sim__clients_destroy(struct sim__clients *clients);
void sim__clients_event(struct sim *sim, const struct sim__event *event);
/* The node died: all requests are lost, sessions begin anew. */
void sim__clients_lost(struct sim *sim);
void sim__clients_ready(struct sim *sim);
/* Some of what they were answered is no more. */
void sim__clients_forget(struct sim *sim);
/* All requests were made and answered. */
bool sim__clients_are_done(const struct sim__clients *clients);
/* Read every key, and check what comes back. */
void sim__clients_audit(struct sim *sim);
/* The per-key check of everything that the clients saw. */
void sim__clients_check(struct sim *sim);

/* ---- sim_store.c ----------------------------------------------------------------------------- */

/* struct shard_options: the first row of a slot. */
void sim__append_slot_row(uint32_t slot, struct buffer *row);

#endif
