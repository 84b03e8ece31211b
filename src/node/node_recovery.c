/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery, in the thread that starts the node, with the log in its own hands. The log is read once
 * for all replicas, then each applies what it lacks, one after the other. */
#include "node/node_recovery.h"

#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "service/system/system.h"

enum { REPLAY_STALL_MS = 1 };

#define SPARE_LOG_SIZE_BYTES_MAX (4ull * WAL_SEGMENT_SIZE_BYTES)
/* Of the disk, spare segments take at most this part: a small disk needs its space for rows. */
#define SPARE_LOG_DISK_SHARE 16

static raft_index first_needed(void *context, wal_shard id)
{
    const struct node_shard *shard = node_shards_find(context, id);
    return shard != NULL ? shard_stored_index(shard->shard) + 1 : 1;
}

/* Part of the replica's log is lost. It goes on if the others can repair it. */
static int accept_loss_of(struct node_shard *shard, const struct wal_loss *loss,
                          struct error *error)
{
    int status = shard_accept_loss(shard->shard, error);
    if (status != 0) {
        return status;
    }
    static const char consequence[] =
        "this replica does not vote until it has got what it lost from the others";
    struct os_log *log = shard->host->log;
    if (loss->segment == 0) { /* All of them are gone. */
        OS_LOG_WARN(log, "node.log_damaged",
                    "shard=%" PRIu32 " lost_from=%" PRIu64 " reason=%s consequence=%s action=%s",
                    shard->id, loss->index, loss->reason, consequence, "look after the disk");
        return 0;
    }
    OS_LOG_WARN(log, "node.log_damaged",
                "shard=%" PRIu32 " lost_from=%" PRIu64 " segment=%016" PRIu64 ".wal offset=%" PRIu32
                " reason=%s consequence=%s action=%s",
                shard->id, loss->index, loss->segment, loss->offset, loss->reason, consequence,
                "look after the disk; the segment is kept as damaged-*");
    return 0;
}

/* Replicas that have nothing may be opened later, perhaps not before another start. */
static int remember_losses_of_unopened(struct node_shards *shards, struct error *error)
{
    struct env_store store = store_interface(shards->store);
    wal_shard *ids = memory_allocate(SLOTS_SHARD_COUNT_MAX * sizeof ids[0]);
    uint32_t count = 0;
    for (wal_shard id = SLOTS_FIRST_SHARD; id <= SLOTS_SHARD_COUNT_MAX; id++) {
        if (node_shards_find(shards, id) == NULL) {
            ids[count++] = id;
        }
    }
    int status = shard_remember_losses(&store, ids, count, error);
    memory_free(ids);
    return status;
}

/* Of shards that the log does not name nobody knows which they are: all of them are taken for
 * damaged. That costs those that are whole a round trip. */
static int accept_loss(void *context, const struct wal_loss *loss, struct error *error)
{
    struct node_shards *shards = context;
    if (!loss->is_of_unnamed) {
        struct env_store store = store_interface(shards->store);
        struct node_shard *named = node_shards_find(shards, loss->shard);
        bool is_number = loss->shard >= SLOTS_FIRST_SHARD && loss->shard <= SLOTS_SHARD_COUNT_MAX;
        if (named != NULL) {
            return accept_loss_of(named, loss, error);
        }
        return is_number ? shard_remember_losses(&store, &loss->shard, 1, error) : 0;
    }
    int status = remember_losses_of_unopened(shards, error);
    for (uint32_t i = 0; i < shards->count && status == 0; i++) {
        status = accept_loss_of(&shards->items[i], loss, error);
    }
    return status;
}

static void scanning(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct node_shards *shards = context;
    uint64_t now = os_monotonic_ms();
    if (now - shards->replay_reported_at_ms >= NODE_REPLAY_REPORT_INTERVAL_MS) {
        shards->replay_reported_at_ms = now;
        OS_LOG_INFO(shards->log, "node.reading_log", "done_bytes=%" PRIu64 " total_bytes=%" PRIu64,
                    done_bytes, total_bytes);
    }
}

/* ---- One replica ----------------------------------------------------------------------------- */

/* Make durable what the shard wants to be, and apply what that commits. */
static int persist_now(struct node_shard *shard, struct error *error)
{
    struct wal *wal = shard->host->wal;
    uint64_t sequence = shard->start_sequence;
    int status = wal_write(wal, error);
    if (status == 0) {
        status = wal_flush(wal, error);
    }
    if (status == 0) {
        shard_persisted(shard->shard, sequence);
    }
    return status;
}

/* Is nobody else needed to know what is committed? */
static bool is_alone(const struct node_shard *shard)
{
    const struct raft_configuration *members = shard_configuration(shard->shard);
    return members->voter_count == 1 && members->outgoing_count == 0 &&
           members->voters[0] == shard->host->self;
}

/* Has it entries that it will apply by itself? Those of others wait until somebody leads. */
static bool is_behind(const struct node_shard *shard)
{
    struct wal_shard_state state;
    return is_alone(shard) && wal_get_shard_state(shard->host->wal, shard->id, &state) &&
           state.last_index > shard_stored_index(shard->shard);
}

/* Those that have nothing to apply go on together: two flushes of the log are enough for however many,
 * one for the terms that they begin and one for the entries. */
static int persist_together(struct node_shards *shards, struct node_shard *const *some,
                            uint32_t count, struct error *error)
{
    int status = 0;
    for (bool is_left = true; is_left && status == 0;) {
        status = wal_write(shards->wal, error);
        status = status == 0 ? wal_flush(shards->wal, error) : status;
        is_left = false;
        for (uint32_t i = 0; i < count && status == 0; i++) {
            uint64_t sequence = some[i]->start_sequence;
            if (sequence != some[i]->told_sequence) {
                some[i]->told_sequence = sequence;
                shard_persisted(some[i]->shard, sequence);
                is_left = is_left || some[i]->start_sequence != sequence;
            }
        }
    }
    if (status == 0 && shards->failure.code != 0) {
        *error = shards->failure;
        status = shards->failure.code;
    }
    return status;
}

static int start(struct node_shard *shard, struct error *error)
{
    struct wal_shard_state state;
    bool has_state = wal_get_shard_state(shard->host->wal, shard->id, &state);
    return shard_start(shard->shard, has_state ? &state : NULL, error);
}

/* It campaigns, and applies what the log has and the store lacks: in this thread, step by step, while the
 * writer inserts what was applied before. */
static int replay(struct node_shard *shard, struct store *store, struct error *error)
{
    struct node_shards *host = shard->host;
    int status = 0;
    uint64_t persisted = 0;
    while (status == 0 && host->failure.code == 0 && !shard_is_ready(shard->shard)) {
        if (atomic_load_explicit(&host->is_stop_wanted, memory_order_relaxed)) {
            return error_say(error, -ECANCELED, "stopped while the log was replayed");
        }
        if (persisted != shard->start_sequence) {
            persisted = shard->start_sequence;
            status = persist_now(shard, error);
        } else if (!node__wait_for_store(host)) {
            store_begin_compaction(store); /* It may be what the store waits for. */
            (void)shard_tick(shard->shard);
            os_sleep_ms(REPLAY_STALL_MS); /* The store is behind: nothing else to wait for. */
        }
    }
    if (status == 0 && host->failure.code != 0) {
        *error = host->failure;
        status = host->failure.code;
    }
    return status;
}

/* ---- What the log has ------------------------------------------------------------------------ */

bool node__is_log_gone(const struct wal *wal, wal_shard id, raft_index stored_index,
                       uint32_t made_count, bool has_any)
{
    struct wal_shard_state state;
    /* A child has rows before it has said anything. */
    bool is_child = node_place_of(id) >= made_count;
    return !wal_get_shard_state(wal, id, &state) && (!has_any || (!is_child && stored_index > 0));
}

/* What is missing the others may have. */
static int check_log(struct node_shards *shards, struct error *error)
{
    bool has_any = shards->is_new;
    struct wal_shard_state state;
    for (uint32_t i = 0; i < shards->count; i++) {
        has_any |= wal_get_shard_state(shards->wal, shards->items[i].id, &state);
    }
    for (uint32_t i = 0; i < shards->count; i++) {
        struct node_shard *shard = &shards->items[i];
        struct wal_loss loss = {.shard = shard->id, .index = 1, .reason = "the log is gone"};
        struct error refusal = {0};
        bool is_lost = node__is_log_gone(shards->wal, shard->id, shard_stored_index(shard->shard),
                                         shards->map.made_count, has_any);
        if (is_lost && accept_loss_of(shard, &loss, &refusal) != 0) {
            return error_say(error, ERROR_CORRUPT,
                             "the log is gone, and with it acknowledged writes: restore the data "
                             "directory from a copy");
        }
    }
    return 0;
}

/* Open what was born, once the store has it. */
static int bear_children(struct node_shards *shards, struct error *error)
{
    int status = node__bear_before_service(shards, error);
    while (status == 0 && shards->birth_count > 0 && node__wait_for_store(shards)) {
        status = node__bear_before_service(shards, error);
    }
    return status; /* Those that are left are born while serving. */
}

/* Those from `first` on; those that are behind one after the other. */
static int replay_from(struct node_shards *shards, uint32_t first, struct store *store,
                       struct error *error)
{
    uint32_t count = shards->count;
    struct node_shard **idle = memory_allocate((count - first) * sizeof(struct node_shard *));
    uint32_t idle_count = 0;
    int status = 0;
    for (uint32_t i = first; i < count && status == 0; i++) {
        struct node_shard *shard = &shards->items[i];
        status = start(shard, error);
        if (status == 0 && is_behind(shard)) {
            status = replay(shard, store, error);
        } else {
            idle[idle_count++] = shard;
        }
        if (status != 0 && count > 1) {
            (void)error_wrap(error, status, "shard %u", shard->id);
        }
    }
    if (status == 0) {
        status = persist_together(shards, idle, idle_count, error);
    }
    memory_free(idle);
    return status;
}

/* A founder has written how it begins. Who joins has nothing to write, perhaps for as long as it lives; that it said
 * nothing yet is written down before the directory is a node's, or a start could not tell it from a log that
 * is gone. */
static int begin_log(struct node_shards *shards, struct error *error)
{
    struct wal_shard_state state;
    wal_shard first = shards->items[0].id;
    if (!shards->is_new || wal_get_shard_state(shards->wal, first, &state)) {
        return 0;
    }
    wal_append(shards->wal, &(struct wal_record){.kind = WAL_RECORD_HARD_STATE, .shard = first});
    int status = wal_write(shards->wal, error);
    return status == 0 ? wal_flush(shards->wal, error) : status;
}

static int replay_all(struct node_shards *shards, struct store *store, struct error *error)
{
    int status = check_log(shards, error);
    for (uint32_t next = 0; next < shards->count && status == 0;) {
        uint32_t count = shards->count;
        status = replay_from(shards, next, store, error);
        next = count;
        if (status == 0) { /* They come behind their parents, and so to their turn. */
            status = bear_children(shards, error);
        }
    }
    node__keep_found(shards);
    return status == 0 ? begin_log(shards, error) : status;
}

static uint64_t spare_log_size_bytes(const char *wal_directory)
{
    uint64_t free_size_bytes;
    uint64_t total_size_bytes;
    if (os_disk_space(wal_directory, &free_size_bytes, &total_size_bytes, NULL) != 0) {
        return 0;
    }
    uint64_t share = total_size_bytes / SPARE_LOG_DISK_SHARE;
    return share < SPARE_LOG_SIZE_BYTES_MAX ? share : SPARE_LOG_SIZE_BYTES_MAX;
}

static int open_log(struct node_shards *shards, const char *wal_directory, bool is_flush_always,
                    struct error *error)
{
    int status = os_files_create(&shards->files, wal_directory, error);
    if (status != 0) {
        return status;
    }
    if (is_flush_always) {
        os_files_write_directly(shards->files);
    }
    struct wal_options wal_options = {
        .files = os_files_env(shards->files),
        .segment_size_bytes = WAL_SEGMENT_SIZE_BYTES,
        .spare_size_bytes_max = spare_log_size_bytes(wal_directory),
        .first_needed = first_needed,
        .accept_loss = accept_loss,
        .context = shards,
        .progress = scanning,
    };
    status = wal_open(&shards->wal, &wal_options, error);
    if (status != 0) {
        os_files_destroy(shards->files);
        shards->files = NULL;
    }
    return status;
}

/* ---- All of it ------------------------------------------------------------------------------- */

static void report_replay(struct node_shards *shards, uint64_t started_at_ms,
                          uint64_t scanned_at_ms)
{
    uint64_t now = os_monotonic_ms();
    shards->replay_took_ms = now - started_at_ms;
    if (shards->replayed_count == 0) {
        return;
    }
    OS_LOG_INFO(shards->log, "node.replayed",
                "entries=%" PRIu64 " log_bytes=%" PRIu64 " scan_ms=%" PRIu64 " apply_ms=%" PRIu64
                " took_ms=%" PRIu64 " mb_per_s=%" PRIu64,
                shards->replayed_count, shards->replayed_size_bytes, scanned_at_ms - started_at_ms,
                now - scanned_at_ms, shards->replay_took_ms,
                shards->replayed_size_bytes / 1000 /
                    (shards->replay_took_ms > 0 ? shards->replay_took_ms : 1));
}

/* Is no other node known, as far as the directory tells? */
static bool is_lone(const struct node_data *data)
{
    struct buffer roster = {0};
    bool is_empty = os_file_read(node_data_path(data, NODE_FILE_ROSTER), 1, &roster, NULL) == 0 &&
                    roster.size_bytes == 0;
    buffer_deinit(&roster);
    return is_empty && node_data_node_id(data) == NODE_FOUNDER;
}

const char *node_damage_advice(const struct node_data *data)
{
    return is_lone(data)
               ? "check the disk, see what tutti check says, and restore the directory from a copy"
               : "check the disk, and start it once more; if tutti check says that the store is "
                 "damaged, the other nodes "
                 "have "
                 "what this one had: run there tutti remove NODE --force, and start this one with "
                 "an "
                 "empty directory and a new token";
}

int node_shards_open(struct node_shards *shards, struct store *store,
                     const struct node_options *options, struct node_data *data,
                     struct error *error)
{
    uint64_t started_at_ms = os_monotonic_ms();
    struct slots map = {0};
    int status = node_map_read(data, &map, error);
    if (status != 0) {
        slots_deinit(&map);
        return status;
    }
    node__shards_init(shards);
    shards->map.made_count = node_data_shard_count(data);
    shards->map.data = data;
    node__map_init(shards, &map);
    slots_deinit(&map);
    shards->store = store;
    shards->options = options;
    shards->shares = node__shares_create(shards);
    shards->self = node_data_node_id(data);
    shards->is_lone = is_lone(data);
    shards->is_new = node_data_is_new(data);
    shards->may_log_end_early = node_data_may_log_end_early(data);
    shards->log = options->log;
    shards->replay_reported_at_ms = started_at_ms;
    shards->system = system_create();
    status = node_writer_start(&shards->writer, error);
    if (status != 0) {
        goto failed_writer;
    }
    status = node__open_replicas(shards, error);
    if (status != 0) {
        goto failed_replicas;
    }
    shards->recall = node__recall_create(shards);
    status = open_log(shards, node_data_wal_path(data), options->is_flush_always, error);
    if (status != 0) {
        goto failed_log;
    }
    uint64_t scanned_at_ms = os_monotonic_ms();
    node__shares_divide(shards->shares);
    status = replay_all(shards, store, error);
    if (status != 0) {
        goto failed_replay;
    }
    report_replay(shards, started_at_ms, scanned_at_ms);
    return 0;

failed_replay:
    node__finish_writes(shards);
    wal_close(shards->wal);
    shards->wal = NULL;
    os_files_destroy(shards->files);
    shards->files = NULL;
failed_log:
    node__recall_destroy(shards->recall);
    shards->recall = NULL;
    node__close_replicas(shards);
failed_replicas:
    node_writer_destroy(shards->writer);
    shards->writer = NULL;
failed_writer:
    system_destroy(shards->system);
    shards->system = NULL;
    node__shards_deinit(shards);
    return status;
}
