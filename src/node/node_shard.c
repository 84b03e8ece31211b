/* SPDX-License-Identifier: Apache-2.0 */
/* The data shard's host: first recovery, in the thread that starts the node, with the log in its
 * own hands; then service on reactor 0, with the log writer and the disk pool behind it. */
#include <inttypes.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"
#include "service/system/system.h"

enum {
    REPLAY_REPORT_INTERVAL_MS = 1000,
    REPLAY_STALL_MS = 1,
    FIGURES_INTERVAL_MS = 10,
    STOP_MS = 1000, /* For what is on its way elsewhere. */
};

#define SPARE_LOG_SIZE_BYTES_MAX (4ull * WAL_SEGMENT_SIZE_BYTES)
/* Of the disk, spare segments take at most this part: a small disk needs its space for rows. */
#define SPARE_LOG_DISK_SHARE 16
/* Of the memory: entries for replicas that lag a little, and replies for those who ask again. */
#define RECENT_SHARE 16
#define RECENT_SIZE_BYTES_MAX (64ull << 20) /* Seconds of writes; who lags more reads the log. */
#define WINDOW_SHARE 64
#define WINDOW_SIZE_BYTES_MAX (64ull << 20) /* The replies of 700,000 writes. */

#define STORE_BATCH_SHARE 64
#define STORE_BATCH_SIZE_BYTES_MIN (1ull << 20)
#define STORE_BATCH_SIZE_BYTES_MAX (24ull << 20)

static uint64_t now_ms(void *context)
{
    return os_monotonic_ms();
}

static uint64_t wall_ms(void *context)
{
    return os_wall_clock_ms();
}

static void persist(void *context, struct shard *data_shard, const struct wal_record *record,
                    uint64_t sequence)
{
    struct node_shard *shard = context;
    if (shard->node_log != NULL) {
        node_log_append(shard->node_log, record, sequence, &shard->client);
        return;
    }
    wal_append(shard->wal, record);
    shard->start_sequence = sequence;
}

struct pool_read {
    struct os_work work;
    struct shard_read *read;
};

static void pool_read_run(struct os_work *work)
{
    shard_read_run(LIST_ITEM(work, struct pool_read, work)->read);
}

static void pool_read_done(struct os_work *work)
{
    struct pool_read *pool_read = LIST_ITEM(work, struct pool_read, work);
    struct shard_read *read = pool_read->read;
    memory_free(pool_read);
    shard_read_done(read);
}

static int read_elsewhere(void *context, struct shard_read *read)
{
    struct node_shard *shard = context;
    struct pool_read *pool_read = memory_allocate_zeroed(1, sizeof *pool_read);
    pool_read->read = read;
    pool_read->work.run = pool_read_run;
    pool_read->work.done = pool_read_done;
    int status = os_pool_submit(shard->pool, shard->loop, &pool_read->work);
    if (status != 0) {
        memory_free(pool_read);
    }
    return status;
}

static void write_elsewhere(void *context, struct shard_write *write)
{
    struct node_shard *shard = context;
    node_writer_submit(shard->writer, write);
}

static int load_entry(void *context, wal_shard id, raft_index index, raft_term *term,
                      struct buffer *payload, struct error *error)
{
    struct node_shard *shard = context;
    if (shard->wal == NULL) {
        return node_replica_load_entry(shard, id, index, term, payload, error);
    }
    if (atomic_load_explicit(&shard->is_stop_wanted, memory_order_relaxed)) {
        return error_say(error, -ECANCELED, "stopped while the log was replayed");
    }
    if (!shard->is_counting) {
        return wal_read(shard->wal, id, index, term, payload, error);
    }
    atomic_fetch_add_explicit(&shard->replayed_count, 1, memory_order_relaxed);
    uint64_t now = os_monotonic_ms();
    if (now - shard->replay_reported_at_ms >= REPLAY_REPORT_INTERVAL_MS) {
        shard->replay_reported_at_ms = now;
        struct wal_shard_state state = {0};
        (void)wal_get_shard_state(shard->wal, id, &state);
        OS_LOG_INFO(shard->log, "node.replaying", "entry=%" PRIu64 " last=%" PRIu64, index,
                    state.last_index);
    }
    size_t before = payload->size_bytes;
    int status = wal_read(shard->wal, id, index, term, payload, error);
    shard->replayed_size_bytes += payload->size_bytes - before;
    return status;
}

static int load_head(void *context, wal_shard id, raft_index index, uint32_t size_bytes,
                     raft_term *term, struct buffer *payload, struct error *error)
{
    struct node_shard *shard = context;
    return wal_read_head(shard->wal, id, index, size_bytes, term, payload, error);
}

static void failed(void *context, struct shard *data_shard, int status, const struct error *error)
{
    struct node_shard *shard = context;
    shard->failure = *error;
    if (shard->node_log != NULL) {
        OS_LOG_ERROR(shard->log, "node.shard_failed", "reason=%s action=%s", error->message,
                     "check the disk and run: tutti check");
        _exit(NODE_EXIT_STORAGE);
    }
}

static raft_index first_needed(void *context, wal_shard id)
{
    const struct node_shard *shard = context;
    return id == NODE_DATA_SHARD ? shard_stored_index(shard->shard) + 1 : 1;
}

/* Part of the log is lost. The replica goes on if the others can repair it. */
static int accept_loss(void *context, const struct wal_loss *loss, struct error *error)
{
    struct node_shard *shard = context;
    if (!loss->is_of_unnamed && loss->shard != NODE_DATA_SHARD) {
        return 0; /* Nobody has it. */
    }
    int status = shard_accept_loss(shard->shard, error);
    if (status != 0) {
        return status;
    }
    OS_LOG_WARN(shard->log, "node.log_damaged",
                "shard=%d lost_from=%" PRIu64 " segment=%016" PRIu64 ".wal offset=%" PRIu32
                " reason=%s consequence=%s action=%s",
                NODE_DATA_SHARD, loss->index, loss->segment, loss->offset, loss->reason,
                "this replica does not vote until it has got what it lost from the others",
                "look after the disk; the segment is kept as damaged-*");
    return 0;
}

static void scanning(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct node_shard *shard = context;
    uint64_t now = os_monotonic_ms();
    if (now - shard->replay_reported_at_ms >= REPLAY_REPORT_INTERVAL_MS) {
        shard->replay_reported_at_ms = now;
        OS_LOG_INFO(shard->log, "node.reading_log", "done_bytes=%" PRIu64 " total_bytes=%" PRIu64,
                    done_bytes, total_bytes);
    }
}

/* Make durable what the shard wants to be, and apply what that commits. */
static int persist_now(struct node_shard *shard, struct error *error)
{
    uint64_t sequence = shard->start_sequence;
    int status = wal_write(shard->wal, error);
    if (status == 0) {
        status = wal_flush(shard->wal, error);
    }
    if (status == 0) {
        shard_persisted(shard->shard, sequence);
    }
    return status;
}

/* The store has more, or has refused it. False: it has all that was handed over. */
static bool wait_for_store(struct node_shard *shard)
{
    struct shard_write *write = node_writer_wait(shard->writer);
    if (write != NULL) {
        shard_write_done(write);
    }
    return write != NULL;
}

/* What waited for one may begin another. */
static void finish_writes(struct node_shard *shard)
{
    while (wait_for_store(shard)) {
    }
}

/* Is nobody else needed to know what is committed? */
static bool is_alone(const struct node_shard *shard)
{
    const struct raft_configuration *members = shard_configuration(shard->shard);
    return members->voter_count == 1 && members->outgoing_count == 0 &&
           members->voters[0] == shard->self;
}

/* Campaign, and apply what the log has and the store lacks: in this thread, step by step, while the
 * writer inserts what was applied before. */
static int replay(struct node_shard *shard, struct error *error)
{
    struct wal_shard_state state;
    bool has_state = wal_get_shard_state(shard->wal, NODE_DATA_SHARD, &state);
    int status = 0;
    if (!has_state && !shard->is_new) {
        struct wal_loss loss = {.shard = NODE_DATA_SHARD, .index = 1, .reason = "the log is gone"};
        struct error refusal = {0};
        status = accept_loss(shard, &loss, &refusal);
        if (status != 0) {
            return error_say(
                error, ERROR_CORRUPT,
                "the log is gone, and with it acknowledged writes: restore the data directory "
                "from a copy");
        }
    }
    status = shard_start(shard->shard, has_state ? &state : NULL, error);
    uint64_t persisted = 0;
    shard->is_counting = true;
    if (status == 0 && !is_alone(shard)) {
        return persist_now(shard, error);
    }
    while (status == 0 && shard->failure.code == 0 && !shard_is_ready(shard->shard)) {
        if (atomic_load_explicit(&shard->is_stop_wanted, memory_order_relaxed)) {
            return error_say(error, -ECANCELED, "stopped while the log was replayed");
        }
        if (persisted != shard->start_sequence) {
            persisted = shard->start_sequence;
            status = persist_now(shard, error);
        } else if (!wait_for_store(shard)) {
            (void)shard_tick(shard->shard);
            os_sleep_ms(REPLAY_STALL_MS); /* The store is behind: nothing else to wait for. */
        }
    }
    if (status == 0 && shard->failure.code != 0) {
        *error = shard->failure;
        status = shard->failure.code;
    }
    return status;
}

/* Three times as much is in memory at worst, and it must be a small part of a write buffer. */
static uint64_t store_batch_size_bytes(uint64_t memory_size_bytes)
{
    uint64_t share = memory_size_bytes / STORE_BATCH_SHARE;
    share = share < STORE_BATCH_SIZE_BYTES_MIN ? STORE_BATCH_SIZE_BYTES_MIN : share;
    return share < STORE_BATCH_SIZE_BYTES_MAX ? share : STORE_BATCH_SIZE_BYTES_MAX;
}

/* A replay looks up most rows that it changes. Where the store is not larger than what is replayed,
 * reading it from end to end before takes less than half as long as all these look-ups. */
static int load_rows(struct node_shard *shard, struct store *store, struct error *error)
{
    struct wal_shard_state state;
    raft_index stored_index = shard_stored_index(shard->shard);
    if (!wal_get_shard_state(shard->wal, NODE_DATA_SHARD, &state) ||
        state.last_index <= stored_index) {
        return 0;
    }
    struct wal_statistics log;
    wal_get_statistics(shard->wal, &log);
    uint64_t entry_count = state.last_index - state.first_index + 1;
    uint64_t replayed_count = state.last_index - stored_index;
    uint64_t replayed_size_bytes = replayed_count < entry_count
                                       ? log.live_size_bytes / entry_count * replayed_count
                                       : log.live_size_bytes;
    struct store_statistics statistics;
    store_get_statistics(store, &statistics);
    if (statistics.table_size_bytes > replayed_size_bytes) {
        return 0;
    }
    return shard_load_rows(shard->shard, replayed_size_bytes, error);
}

static uint64_t at_most(uint64_t size_bytes, uint64_t size_bytes_max)
{
    return size_bytes < size_bytes_max ? size_bytes : size_bytes_max;
}

static int open_shard(struct node_shard *shard, struct store *store,
                      const struct node_options *options, struct error *error)
{
    struct shard_machine data = kv_machine(shard->kv);
    struct shard_options shard_options = {
        .id = NODE_DATA_SHARD,
        .self = shard->self,
        .store = store_interface(store),
        .may_log_end_early = shard->may_log_end_early,
        .cache_size_bytes = options->memory_size_bytes / 4,
        .range_lower = BYTES("\x02"),
        .range_upper = BYTES("\xff"),
        .store_size_bytes = store_batch_size_bytes(options->memory_size_bytes),
        .recent_size_bytes_max =
            at_most(options->memory_size_bytes / RECENT_SHARE, RECENT_SIZE_BYTES_MAX),
        .window_size_bytes_max =
            at_most(options->memory_size_bytes / WINDOW_SHARE, WINDOW_SIZE_BYTES_MAX),
        .in_flight_size_bytes_max = options->memory_size_bytes / 8,
        .machine = system_machine_over(shard->system, &data),
        .host =
            {
                .context = shard,
                .clock = {.now_ms = now_ms, .wall_ms = wall_ms},
                .persist = persist,
                .read_elsewhere = read_elsewhere,
                .write_elsewhere = write_elsewhere,
                .work_elsewhere = node_replica_work_elsewhere,
                .read_log = node_replica_read_log,
                .send = node_replica_send,
                .load_entry = load_entry,
                .load_head = load_head,
                .failed = failed,
            },
    };
    if (shard->self == NODE_FOUNDER) { /* Alone, until the store says otherwise. */
        shard_options.configuration =
            (struct raft_configuration){.voter_count = 1, .voters = {NODE_FOUNDER}};
    }
    return shard_open(&shard->shard, &shard_options, error);
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

static void report_replay(struct node_shard *shard, uint64_t started_at_ms, uint64_t scanned_at_ms)
{
    uint64_t now = os_monotonic_ms();
    shard->replay_took_ms = now - started_at_ms;
    if (shard->replayed_count == 0) {
        return;
    }
    OS_LOG_INFO(shard->log, "node.replayed",
                "entries=%" PRIu64 " log_bytes=%" PRIu64 " scan_ms=%" PRIu64 " apply_ms=%" PRIu64
                " took_ms=%" PRIu64 " mb_per_s=%" PRIu64,
                shard->replayed_count, shard->replayed_size_bytes, scanned_at_ms - started_at_ms,
                now - scanned_at_ms, shard->replay_took_ms,
                shard->replayed_size_bytes / 1000 /
                    (shard->replay_took_ms > 0 ? shard->replay_took_ms : 1));
}

int node_shard_open(struct node_shard *shard, struct store *store,
                    const struct node_options *options, const char *wal_directory,
                    struct error *error)
{
    uint64_t started_at_ms = os_monotonic_ms();
    list_init(&shard->refused);
    shard->figures_mutex = os_mutex_create();
    shard->figures = memory_allocate_zeroed(1, sizeof *shard->figures);
    shard->log = options->log;
    shard->replay_reported_at_ms = started_at_ms;
    shard->kv = kv_create();
    shard->system = system_create();
    int status = node_writer_start(&shard->writer, error);
    if (status != 0) {
        goto failed_writer;
    }
    status = open_shard(shard, store, options, error);
    if (status != 0) {
        goto failed_shard;
    }
    status = os_files_create(&shard->files, wal_directory, error);
    if (status != 0) {
        goto failed_files;
    }
    struct wal_options wal_options = {
        .files = os_files_env(shard->files),
        .segment_size_bytes = WAL_SEGMENT_SIZE_BYTES,
        .spare_size_bytes_max = spare_log_size_bytes(wal_directory),
        .first_needed = first_needed,
        .accept_loss = accept_loss,
        .context = shard,
        .progress = scanning,
    };
    status = wal_open(&shard->wal, &wal_options, error);
    if (status != 0) {
        goto failed_wal;
    }
    uint64_t scanned_at_ms = os_monotonic_ms();
    status = load_rows(shard, store, error);
    if (status == 0) {
        status = replay(shard, error);
    }
    if (status != 0) {
        goto failed_replay;
    }
    report_replay(shard, started_at_ms, scanned_at_ms);
    return 0;

failed_replay:
    finish_writes(shard);
    wal_close(shard->wal);
    shard->wal = NULL;
failed_wal:
    os_files_destroy(shard->files);
    shard->files = NULL;
failed_files:
    shard_close(shard->shard);
    shard->shard = NULL;
failed_shard:
    node_writer_destroy(shard->writer);
    shard->writer = NULL;
failed_writer:
    kv_destroy(shard->kv);
    shard->kv = NULL;
    system_destroy(shard->system);
    shard->system = NULL;
    os_mutex_destroy(shard->figures_mutex);
    memory_free(shard->figures);
    return status;
}

static void publish_figures(struct node_shard *shard, uint64_t now)
{
    if (now - shard->figures_at_ms < FIGURES_INTERVAL_MS) {
        return;
    }
    shard->figures_at_ms = now;
    os_mutex_lock(shard->figures_mutex);
    shard_get_statistics(shard->shard, &shard->figures->shard);
    kv_get_statistics(shard->kv, &shard->figures->kv);
    os_mutex_unlock(shard->figures_mutex);
}

void node_shard_get_figures(const struct node_shard *shard, struct node_figures *figures)
{
    os_mutex_lock(shard->figures_mutex);
    *figures = *shard->figures;
    os_mutex_unlock(shard->figures_mutex);
}

/* What a person may want to know of damage. */
static void report_repair(struct node_shard *shard)
{
    bool is_impaired = shard_is_impaired(shard->shard);
    if (shard->was_impaired && !is_impaired) {
        OS_LOG_INFO(shard->log, "node.replica_whole", "shard=%d applied=%" PRIu64 " state=%s",
                    NODE_DATA_SHARD, shard_applied_index(shard->shard),
                    "has all again that its log lost, and votes");
    }
    shard->was_impaired = is_impaired;
    uint64_t unreadable_count = shard->figures->shard.unreadable_count;
    if (unreadable_count != shard->unreadable_count) {
        OS_LOG_WARN(shard->log, "node.entry_unreadable",
                    "shard=%d count=%" PRIu64 " consequence=%s action=%s", NODE_DATA_SHARD,
                    unreadable_count, "another replica gets a snapshot instead",
                    "look after the disk; run: tutti check, when the node is stopped");
        shard->unreadable_count = unreadable_count;
    }
}

static uint64_t look_at_stop(struct node_shard *shard, uint64_t now, uint64_t wake_at_ms)
{
    if (shard->stop_until_ms == 0) {
        return wake_at_ms;
    }
    if (shard_is_idle(shard->shard) || now >= shard->stop_until_ms) {
        shard->stop_until_ms = 0;
        shard->idle(shard->idle_context);
        return wake_at_ms;
    }
    return now + 1;
}

void node_shard_stop(struct node_shard *shard, void (*idle)(void *context), void *context)
{
    shard->idle = idle;
    shard->idle_context = context;
    shard->stop_until_ms = os_monotonic_ms() + STOP_MS;
    os_loop_tick_again(shard->loop);
}

static void tick(void *context)
{
    struct node_shard *shard = context;
    shard_set_full(shard->shard, node_maintenance_is_full(shard->maintenance));
    node_forward_retry(shard);
    uint64_t wake_at_ms = shard_tick(shard->shard);
    uint64_t now = os_loop_now_ms(shard->loop);
    if (shard->cluster != NULL) {
        uint64_t cluster_wake_at_ms = node_cluster_tick(shard->cluster, now);
        wake_at_ms = cluster_wake_at_ms < wake_at_ms ? cluster_wake_at_ms : wake_at_ms;
    }
    node_log_submit(shard->node_log);
    node_maintenance_applied(shard->maintenance, shard_stored_index(shard->shard));
    publish_figures(shard, now);
    report_repair(shard);
    if (!list_is_empty(&shard->refused)) {
        wake_at_ms = now;
    }
    if (shard_wants_tick(shard->shard)) {
        os_loop_tick_again(shard->loop);
    }
    wake_at_ms = look_at_stop(shard, now, wake_at_ms);
    if (wake_at_ms != UINT64_MAX) {
        os_timer_start(shard->timer, wake_at_ms > now ? wake_at_ms - now : 1, 0);
    }
}

static void timer_expired(void *context)
{
    /* Waking the loop is all: the tick follows. */
}

static void log_is_durable(void *context)
{
    struct node_shard *shard = context;
    shard_persisted(shard->shard,
                    atomic_load_explicit(&shard->client.durable_sequence, memory_order_acquire));
}

static void store_has_written(void *context)
{
    struct node_shard *shard = context;
    struct shard_write *write = node_writer_take(shard->writer);
    if (write != NULL) {
        shard_write_done(write);
    }
}

void node_shard_attach(struct node_shard *shard, struct os_loop *loop)
{
    shard->loop = loop;
    shard->timer = os_timer_create(loop, timer_expired, shard);
    shard->client.wake = os_wake_create(loop, log_is_durable, shard);
    shard->written = os_wake_create(loop, store_has_written, shard);
    node_writer_set_wake(shard->writer, shard->written);
    os_loop_at_end_of_tick(loop, tick, shard);
    publish_figures(shard, os_monotonic_ms()); /* Nobody sees the zeros from before. */
}

int node_shard_settle(struct node_shard *shard)
{
    int status = shard_settle(shard->shard);
    while (status == -EBUSY && wait_for_store(shard)) {
        status = shard_settle(shard->shard);
    }
    return status;
}

void node_shard_close(struct node_shard *shard)
{
    finish_writes(shard);
    node_writer_set_wake(shard->writer, NULL);
    node_writer_destroy(shard->writer);
    if (shard->timer != NULL) {
        os_timer_destroy(shard->timer);
        os_wake_destroy(shard->client.wake);
        os_wake_destroy(shard->written);
    }
    shard_close(shard->shard);
    kv_destroy(shard->kv);
    system_destroy(shard->system);
    buffer_deinit(&shard->loaded.payloads);
    os_files_destroy(shard->files);
    os_mutex_destroy(shard->figures_mutex);
    memory_free(shard->figures);
}
