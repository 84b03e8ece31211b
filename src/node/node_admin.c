/* SPDX-License-Identifier: Apache-2.0 */
/* The admin port: its thread, the verdict on the node, and all figures of /metrics.
 *
 * The thread runs from before the log is replayed until before the first part is taken down. The
 * parts behind the figures are there from NODE_SERVING on; before that, what is told is how far the
 * start has come. */
#include <signal.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "gateway/admin/admin.h"
#include "node/node_parts.h"

#ifndef TUTTI_VERSION
#define TUTTI_VERSION "unknown"
#endif

#define COUNTER(name, help, value) metrics_counter(metrics, name, help, METRICS_NO_LABELS, value)
#define GAUGE(name, help, value) \
    metrics_gauge(metrics, name, help, METRICS_NO_LABELS, (double)(value))
#define HISTOGRAM(name, help, histogram, unit) \
    metrics_histogram(metrics, name, help, METRICS_NO_LABELS, histogram, unit)

#define MIB ((uint64_t)1 << 20)

/* An election takes a part of LEADERLESS_MS. */
enum { SIGNAL_COUNT = 3, REPLICA_METRICS_MAX = 64, LEADERLESS_MS = 3000 };

struct node_admin {
    struct node *node;
    struct os_loop *loop;
    struct os_thread *thread;
    struct admin_server *server;
    struct os_address address;
    struct os_signal *signals[SIGNAL_COUNT];
    struct os_timer *timer; /* Of samples. */
    bool is_sampling;
    uint32_t map_reader; /* Its number. */
};

/* ---- The verdict ----------------------------------------------------------------------------- */

static void say(struct admin_verdict *verdict, bool is_ready, bool is_well, const char *text)
{
    verdict->is_ready = is_ready;
    verdict->is_well = is_well;
    (void)snprintf(verdict->text, sizeof verdict->text, "%s", text);
}

static void judge_serving(struct node *node, struct admin_verdict *verdict)
{
    struct error reason = {0};
    struct node_log_statistics log;
    node_log_get_statistics(node->node_log, &log);
    enum store_health health = store_get_health(node->store, &reason);
    bool is_log_full = log.is_out_of_space || health == STORE_FULL;
    bool is_full = is_log_full || node_maintenance_is_full(node->maintenance);
    struct node_led led = node_shards_look_who_is_led(&node->shards, LEADERLESS_MS);
    if (health == STORE_FAILED) {
        say(verdict, false, false, "");
        (void)snprintf(verdict->text, sizeof verdict->text, "store failed: %.200s", reason.message);
    } else if (led.leaderless_count > 0) {
        say(verdict, led.leaderless_count < led.member_count, false, "");
        (void)snprintf(verdict->text, sizeof verdict->text,
                       "no leader: of %" PRIu32 " of %" PRIu32
                       " shards on this node none is known, so they answer nobody; "
                       "`tutti why` tells what is missing.%s",
                       led.leaderless_count, led.member_count,
                       is_full ? " The disk of this node is full, too." : "");
    } else if (is_log_full) {
        say(verdict, true, false,
            "disk full: writes wait until space is freed, and then go on by themselves; reads are "
            "answered.");
    } else if (is_full) {
        say(verdict, true, false, "");
        (void)snprintf(verdict->text, sizeof verdict->text,
                       "disk full: %" PRIu64
                       " MiB are left, so writes that need space are refused; "
                       "reads and deletes go on. Delete keys or free space.",
                       node_maintenance_free_bytes(node->maintenance) / MIB);
    } else if (!node->options.is_flush_always) {
        say(verdict, true, true,
            "flush everysec: serving, but a crash of the machine loses up to about a second of "
            "answered writes.");
    } else {
        say(verdict, true, true, "well: serving, and every answered write is on disk.");
    }
}

static void judge(void *context, struct admin_verdict *verdict)
{
    struct node *node = context;
    switch ((enum node_state)atomic_load(&node->state)) {
    case NODE_STARTING:
        say(verdict, false, false, "");
        (void)snprintf(verdict->text, sizeof verdict->text,
                       "starting: %" PRIu64 " entries of the log are applied so far.",
                       atomic_load(&node->shards.replayed_count));
        return;
    case NODE_SERVING:
        judge_serving(node, verdict);
        return;
    case NODE_STOPPING:
        say(verdict, false, false, "stopping: what is under way is answered.");
        return;
    }
    ASSERT(false);
}

/* ---- Figures --------------------------------------------------------------------------------- */

static void collect_node(struct node *node, struct metrics *metrics)
{
    struct metrics_labels labels = {{
        {"version", TUTTI_VERSION},
        {"flush", node->options.is_flush_always ? "always" : "everysec"},
    }};
    metrics_info(metrics, "tutti_node_info", "What runs, and how it flushes.", labels);
    GAUGE("tutti_node_ready", "1 while clients are served.",
          atomic_load(&node->state) == NODE_SERVING);
    GAUGE("tutti_node_uptime_seconds", "Time since the start.",
          (double)(os_monotonic_ms() - node->started_at_ms) / 1e3);
    GAUGE("tutti_node_reactors", "Threads that serve connections.", node->reactor_count);
    COUNTER("tutti_replay_entries_total", "Entries of the log that this start applied.",
            atomic_load(&node->shards.replayed_count));
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    for (int level = OS_LOG_DEBUG; level <= OS_LOG_ERROR; level++) {
        metrics_counter(metrics, "tutti_log_lines_total", "Lines logged since the start, by level.",
                        METRICS_LABEL("level", levels[level]),
                        os_log_count(node->options.log, (enum os_log_level)level));
    }
}

static void collect_commands(const struct resp_statistics *resp, struct metrics *metrics)
{
    for (uint32_t family = 0; family < KV_FAMILY_COUNT; family++) {
        struct metrics_labels labels =
            METRICS_LABEL("family", kv_family_name((enum kv_family)family));
        metrics_counter(metrics, "tutti_command_calls_total", "Commands, by family.", labels,
                        resp->family_counts[family]);
        metrics_histogram(metrics, "tutti_command_duration_seconds",
                          "From reading a command to its answer; of writes with their flush.",
                          labels, &resp->latencies_ns[family], METRICS_NANOSECONDS);
    }
    COUNTER("tutti_command_errors_total", "Answers that were errors.", resp->error_count);
    GAUGE("tutti_command_pending", "Commands that wait for their answer.", resp->pending_count);
}

static void collect_connections(const struct resp_statistics *resp, struct metrics *metrics)
{
    GAUGE("tutti_connection_open", "Connections of clients.", resp->connection_count);
    COUNTER("tutti_connection_accepted_total", "Connections accepted.", resp->accepted_count);
    COUNTER("tutti_connection_refused_total", "Connections refused: there were too many.",
            resp->refused_count);
    COUNTER("tutti_connection_evicted_total", "Connections cut off: they held too much memory.",
            resp->evicted_count);
    COUNTER("tutti_connection_received_bytes_total", "Bytes from clients.", resp->input_bytes);
    COUNTER("tutti_connection_sent_bytes_total", "Bytes to clients.", resp->output_bytes);
    GAUGE("tutti_connection_buffer_bytes", "Memory of the buffers of connections.",
          resp->buffer_bytes);
}

static void collect_shard(const struct node_figures *figures, struct metrics *metrics)
{
    const struct shard_statistics *shard = &figures->shard;
    GAUGE("tutti_keyspace_keys", "Keys, with expired ones that are not removed yet.",
          figures->kv.key_count);
    GAUGE("tutti_keyspace_expiring_keys", "Keys that have an expiry.",
          figures->kv.expiring_key_count);
    COUNTER("tutti_keyspace_expired_keys_total", "Keys removed because they expired.",
            figures->kv.expired_key_count);
    COUNTER("tutti_keyspace_hits_total", "Keys that reads looked up here, and that were there.",
            figures->kv.hit_count);
    COUNTER("tutti_keyspace_misses_total", "Keys that reads looked up here, and that were not.",
            figures->kv.miss_count);
    GAUGE("tutti_shard_term", "Term of the first shard's Raft group.", shard->term);
    GAUGE("tutti_shard_last_index", "Last entry proposed; the sum over the shards.",
          shard->last_index);
    GAUGE("tutti_shard_applied_index", "Last entry applied; the sum over the shards.",
          shard->applied_index);
    GAUGE("tutti_shard_in_flight_bytes", "Entries that are proposed and not applied.",
          shard->in_flight_size_bytes);
    GAUGE("tutti_shard_pending_requests", "Requests that wait for the log.",
          shard->pending_request_count);
    COUNTER("tutti_shard_entries_total", "Entries applied.", shard->entry_count);
    COUNTER("tutti_shard_commands_total", "Writing commands applied; many may share an entry.",
            shard->command_count);
    COUNTER("tutti_shard_reads_elsewhere_total", "Reads that went to the disk pool.",
            shard->read_elsewhere_count);
    COUNTER("tutti_shard_stalls_total", "Batches that the store refused for the moment.",
            shard->stall_count);
    GAUGE("tutti_shard_impaired", "1 while a replica lacks what its log lost, and does not vote.",
          shard->is_impaired);
    COUNTER("tutti_shard_unreadable_entries_total",
            "Entries that could not be read back from the log for another replica.",
            shard->unreadable_count);
    COUNTER(
        "tutti_shard_reread_entries_total",
        "Entries that had left memory before they were applied, and were read back from the log.",
        shard->reread_count);
    COUNTER("tutti_rows_hits_total", "Rows found in memory.", shard->rows.hit_count);
    COUNTER("tutti_rows_misses_total", "Rows looked up in the store.", shard->rows.miss_count);
    COUNTER("tutti_rows_blocking_reads_total",
            "Rows read from the disk while an entry was applied.", shard->rows.blocking_read_count);
    GAUGE("tutti_rows_cached", "Rows in the cache of hot rows.", shard->rows.cached_row_count);
}

/* What differs from shard to shard. Of many that would be more than anybody wants to keep. */
static void collect_replicas(const struct node *node, struct metrics *metrics)
{
    const struct node_shards *shards = &node->shards;
    GAUGE("tutti_node_replicas", "Replicas of shards on this node.",
          node_shards_look_who_is_led(shards, LEADERLESS_MS).member_count);
    GAUGE("tutti_node_leaders", "Shards that this node leads.", node_shards_leading_count(shards));
    for (uint32_t i = 0; i < shards->count && shards->count <= REPLICA_METRICS_MAX; i++) {
        struct node_figures figures;
        char text[16];
        node_shards_get_figures(shards, i, &figures);
        (void)snprintf(text, sizeof text, "%u", shards->items[i].id);
        struct metrics_labels labels = METRICS_LABEL("shard", text);
        metrics_gauge(metrics, "tutti_replica_keys", "Keys of a shard.", labels,
                      (double)figures.kv.key_count);
        metrics_gauge(metrics, "tutti_replica_leads", "1 while this node leads the shard.", labels,
                      figures.shard.role == RAFT_ROLE_LEADER);
        metrics_gauge(metrics, "tutti_replica_term", "Term of the shard's Raft group.", labels,
                      (double)figures.shard.term);
        metrics_gauge(metrics, "tutti_replica_applied_index", "Last entry of the shard applied.",
                      labels, (double)figures.shard.applied_index);
        metrics_counter(metrics, "tutti_replica_commands_total",
                        "Writing commands of the shard applied.", labels,
                        figures.shard.command_count);
    }
}

static void collect_log(struct node *node, struct metrics *metrics)
{
    struct node_log_statistics log;
    node_log_get_statistics(node->node_log, &log);
    COUNTER("tutti_wal_flushes_total", "Flushes of the log.", log.flush_count);
    COUNTER("tutti_wal_written_bytes_total", "Bytes written to the log.",
            log.wal.written_size_bytes);
    COUNTER("tutti_wal_records_total", "Records written to the log.", log.record_count);
    COUNTER("tutti_wal_writes_total", "Write calls to the log.", log.wal.write_count);
    GAUGE("tutti_wal_live_bytes", "What recovery would read.", log.wal.live_size_bytes);
    GAUGE("tutti_wal_segments", "Segments of the log.", log.wal.segment_count);
    GAUGE("tutti_wal_spare_segments", "Segments that are ready to be written.",
          log.wal.spare_segment_count);
    GAUGE("tutti_wal_damaged_segments", "Damaged segments that are kept aside.",
          log.wal.damaged_segment_count);
    GAUGE("tutti_wal_waits_for_space", "1 while the log cannot be written: the disk is full.",
          log.is_out_of_space);
    GAUGE("tutti_wal_disk_slow", "1 while flushes take so long that other nodes had better lead.",
          atomic_load(&node->shards.is_disk_slow));
    struct node_log_histograms *histograms = memory_allocate(sizeof *histograms);
    node_log_get_histograms(node->node_log, histograms);
    HISTOGRAM("tutti_wal_flush_duration_seconds", "How long a flush took.",
              &histograms->flush_durations_ns, METRICS_NANOSECONDS);
    HISTOGRAM("tutti_wal_batch_records", "Records that a flush made durable.",
              &histograms->batch_record_counts, METRICS_ITEMS);
    HISTOGRAM("tutti_wal_batch_bytes", "Bytes of entries that a flush made durable.",
              &histograms->batch_sizes_bytes, METRICS_BYTES);
    memory_free(histograms);
}

static void collect_store(const struct store_statistics *store, struct metrics *metrics)
{
    GAUGE("tutti_store_table_bytes", "Size of the tables on the disk.", store->table_size_bytes);
    GAUGE("tutti_store_tables", "Table files.", store->table_count);
    GAUGE("tutti_store_rows_estimate", "Rows, estimated.", store->row_count_estimate);
    GAUGE("tutti_store_write_buffer_bytes", "Rows that are not flushed to tables.",
          store->write_buffer_size_bytes);
    GAUGE("tutti_store_pending_compaction_bytes", "What compaction has still to rewrite.",
          store->pending_compaction_bytes);
    GAUGE("tutti_store_running_compactions", "Compactions that run.",
          store->running_compaction_count);
    GAUGE("tutti_store_running_flushes", "Flushes to tables that run.", store->running_flush_count);
    COUNTER("tutti_store_background_errors_total", "Flushes and compactions that failed.",
            store->background_error_count);
    COUNTER("tutti_store_batches_total", "Batches written.", store->written_batch_count);
    COUNTER("tutti_store_refused_writes_total", "Batches refused for the moment.",
            store->refused_write_count);
    COUNTER("tutti_store_block_hits_total", "Blocks found in memory.", store->cache_hit_count);
    COUNTER("tutti_store_block_misses_total",
            "Blocks not found in memory; a read that then goes to the disk pool counts them again.",
            store->cache_miss_count);
}

static void collect_memory(const struct node *node, const struct node_figures *figures,
                           const struct store_statistics *store, struct metrics *metrics)
{
    GAUGE("tutti_memory_limit_bytes", "What --memory allows for caches and buffers.",
          node->options.memory_size_bytes);
    GAUGE("tutti_memory_resident_bytes", "Resident memory of the process.",
          os_memory_resident_bytes());
    GAUGE("tutti_memory_rows_bytes", "Cache of hot rows.", figures->shard.rows.cached_size_bytes);
    GAUGE("tutti_memory_window_bytes", "Answers of writes that may be asked for again.",
          figures->shard.window_size_bytes);
    GAUGE("tutti_memory_store_bytes", "Cache of the store, with its write buffers.",
          store->cache_used_bytes);
}

static void collect(void *context, struct metrics *metrics)
{
    struct node *node = context;
    collect_node(node, metrics);
    if (atomic_load(&node->state) == NODE_STARTING) {
        return;
    }
    struct resp_statistics *resp = memory_allocate(sizeof *resp);
    struct node_figures figures;
    struct store_statistics store;
    resp_group_get_statistics(node->group, resp);
    node_shards_sum_figures(&node->shards, &figures);
    store_get_statistics(node->store, &store);
    GAUGE("tutti_replay_duration_seconds", "How long recovery took.",
          (double)node->shards.replay_took_ms / 1e3);
    collect_commands(resp, metrics);
    collect_connections(resp, metrics);
    collect_shard(&figures, metrics);
    collect_replicas(node, metrics);
    collect_log(node, metrics);
    collect_store(&store, metrics);
    collect_memory(node, &figures, &store, metrics);
    GAUGE("tutti_disk_free_bytes", "Free space of the data directory's file system.",
          node_maintenance_free_bytes(node->maintenance));
    GAUGE("tutti_disk_full", "1 while writes that need space are refused.",
          node_maintenance_is_full(node->maintenance));
    GAUGE("tutti_pool_work", "Reads that wait for the disk pool, or run there.",
          os_pool_work_count(node->pool));
    memory_free(resp);
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void run(void *context)
{
    os_loop_run(((struct node_admin *)context)->loop);
}

static void stop_wanted(void *context)
{
    node_request_stop(((struct node_admin *)context)->node);
}

/* Whoever sends it wants settings to be read again, or has closed a terminal. Neither is a reason to stop
 * serving. */
static void hung_up(void *context)
{
    const struct node_admin *admin = context;
    OS_LOG_INFO(admin->node->options.log, "node.hangup", "consequence=%s action=%s", "none",
                "settings are read at a start only; SIGTERM stops the node");
}

static int hear_signals(struct node_admin *admin, struct error *error)
{
    static const struct {
        int number;
        void (*heard)(void *context);
    } wanted[SIGNAL_COUNT] = {{SIGTERM, stop_wanted}, {SIGINT, stop_wanted}, {SIGHUP, hung_up}};
    for (uint32_t i = 0; i < SIGNAL_COUNT; i++) {
        int status = os_signal_create(&admin->signals[i], admin->loop, wanted[i].number,
                                      wanted[i].heard, admin);
        if (status != 0) {
            return error_set(error, status, "listen for signal %d", wanted[i].number);
        }
    }
    return 0;
}

static void sample(void *context)
{
    struct node_admin *admin = context;
    if (atomic_load(&admin->node->state) == NODE_STARTING) {
        return;
    }
    if (!admin->is_sampling) { /* From now on. */
        admin->is_sampling = true;
        os_timer_start(admin->timer, NODE_SAMPLE_INTERVAL_MS, NODE_SAMPLE_INTERVAL_MS);
    }
    node_sampler_take(admin->node->sampler, admin->node);
    node_halver_run(admin->node->halver, admin->node->store);
}

static void let_go_of_map(void *context)
{
    const struct node_admin *admin = context;
    node_map_let_go(&admin->node->shards.map, admin->map_reader);
}

static void close_all(struct node_admin *admin)
{
    if (admin->timer != NULL) {
        os_timer_destroy(admin->timer);
    }
    for (uint32_t i = 0; i < SIGNAL_COUNT; i++) {
        if (admin->signals[i] != NULL) {
            os_signal_destroy(admin->signals[i]);
        }
    }
    if (admin->server != NULL) {
        admin_server_close(admin->server);
    }
    if (admin->loop != NULL) {
        os_loop_destroy(admin->loop);
    }
    memory_free(admin);
}

int node_admin_start(struct node_admin **admin, struct node *node, struct error *error)
{
    struct node_admin *started = memory_allocate_zeroed(1, sizeof *started);
    started->node = node;
    int status = os_loop_create(&started->loop, error);
    if (status != 0) {
        goto failed;
    }
    struct os_listener_options listener = {.address = node->options.admin, .flag = "--admin"};
    struct admin_source source = {
        .judge = judge, .collect = collect, .run = node->run_id, .context = node};
    status = admin_server_open(&started->server, started->loop, &listener, &source, error);
    if (status != 0) {
        goto failed;
    }
    started->address = admin_server_address(started->server);
    status = hear_signals(started, error);
    if (status != 0) {
        goto failed;
    }
    started->map_reader = node_map_add_reader(&node->shards.map);
    os_loop_at_end_of_tick(started->loop, let_go_of_map, started);
    started->timer = os_timer_create(started->loop, sample, started);
    os_timer_start(started->timer, NODE_SAMPLE_WAIT_MS, NODE_SAMPLE_WAIT_MS);
    status = os_thread_start(&started->thread, "admin", run, started, error);
    if (status != 0) {
        goto failed;
    }
    *admin = started;
    return 0;

failed:
    close_all(started);
    return status;
}

void node_admin_destroy(struct node_admin *admin)
{
    if (admin == NULL) {
        return;
    }
    os_loop_stop(admin->loop);
    os_thread_join(admin->thread);
    close_all(admin);
}

struct os_address node_admin_address(const struct node_admin *admin)
{
    return admin->address;
}
