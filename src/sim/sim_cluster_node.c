/* SPDX-License-Identifier: Apache-2.0 */
/* A machine of the cluster: the wiring of src/node, with events in place of threads: the reactor's
 * ticks, the log writer's rounds, work on other threads, the store's flushes.
 *
 * A kill comes between two events. A dead node's work under way is brought to its end, because the
 * shard asks for it before it can be closed, but nobody hears what it says: calls of the host do
 * nothing then. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "sim/sim_cluster.h"

enum {
    CACHE_SIZE_BYTES = 20000,
    IN_FLIGHT_SIZE_BYTES = 1 << 20,
    WORK_COUNT_MAX = 4,
    DISK_SIZE_BYTES = 1 << 30,
    NO_SPACE_RETRY_US = 20000,
};

/* A record on its way to the log. */
struct item {
    struct wal_record record;
    uint64_t sequence;
};

enum job_kind { JOB_READ, JOB_WRITE, JOB_WORK, JOB_LOG_READ };

/* Something on another thread: run, then done. */
struct job {
    struct list link;
    enum job_kind kind;
    void *what;
    bool was_run;
};

struct cluster_node {
    struct cluster *cluster;
    raft_node id;
    uint32_t incarnation;
    bool is_running;
    bool is_dead; /* Being buried: nobody hears it. */
    uint64_t paused_until_us;
    uint32_t disk_times; /* How much slower its disk is. */
    bool is_full;
    int32_t clock_rate_ppm;
    uint64_t clock_base_ms;

    bool is_damage_unseen; /* Its log was damaged since it was last opened. */
    bool is_whole;         /* And it will still know after a restart. */

    struct sim__disk *disk;
    struct memstore *memstore;
    struct cluster_watch *watch;
    struct kv *kv;
    struct shard *shard;
    struct wal *wal;
    struct route *route;
    raft_node told_leader; /* What the route knows. */
    bool told_ready;

    struct item *queue;
    uint32_t queue_count;
    uint32_t queue_capacity;
    struct item *round;
    uint32_t round_count;
    bool is_writer_busy;
    raft_index flush_index;
    raft_index release_index;
    struct list jobs;
    uint32_t job_count;
    uint64_t tick_at_us;
};

/* ---- Questions ------------------------------------------------------------------------------- */

bool sim__cluster_node_is_running(const struct cluster_node *node)
{
    return node->is_running && !node->is_dead;
}

uint32_t sim__cluster_node_incarnation(const struct cluster_node *node)
{
    return node->incarnation;
}

uint64_t sim__cluster_node_paused_until_us(const struct cluster_node *node)
{
    return node->paused_until_us;
}

raft_node sim__cluster_node_id(const struct cluster_node *node)
{
    return node->id;
}

struct shard *sim__cluster_node_shard(const struct cluster_node *node)
{
    return sim__cluster_node_is_running(node) ? node->shard : NULL;
}

struct route *sim__cluster_node_route(const struct cluster_node *node)
{
    return node->route;
}

struct cluster *sim__cluster_node_cluster(const struct cluster_node *node)
{
    return node->cluster;
}

struct sim__disk *sim__cluster_node_disk(const struct cluster_node *node)
{
    return node->disk;
}

bool sim__cluster_node_is_damaged(const struct cluster_node *node)
{
    return node->is_damage_unseen || !node->is_whole;
}

void sim__cluster_node_set_damaged(struct cluster_node *node)
{
    node->is_damage_unseen = true;
}

struct memstore *sim__cluster_node_store(const struct cluster_node *node)
{
    return node->memstore;
}

static uint64_t clock_now_ms(void *context)
{
    const struct cluster_node *node = context;
    int64_t now_us = (int64_t)node->cluster->now_us;
    int64_t own_us = now_us + now_us * node->clock_rate_ppm / 1000000; /* It never goes back. */
    return node->clock_base_ms + (uint64_t)own_us / 1000;
}

static uint64_t clock_wall_ms(void *context)
{
    const struct cluster_node *node = context;
    int64_t now_ms = 1700000000000 + node->cluster->wall_offset_ms;
    return (uint64_t)(now_ms + (int64_t)(node->cluster->now_us / 1000) + (int64_t)node->id * 7);
}

static uint64_t disk_us(const struct cluster_node *node)
{
    return (uint64_t)node->cluster->nature.disk_us * node->disk_times;
}

/* ---- The reactor ----------------------------------------------------------------------------- */

static void tick(struct cluster *cluster, const struct cluster_event *event);

static void schedule_tick(struct cluster_node *node, uint64_t delay_us)
{
    struct cluster *cluster = node->cluster;
    if (sim__cluster_node_is_running(node) && cluster->now_us + delay_us < node->tick_at_us) {
        node->tick_at_us = cluster->now_us + delay_us;
        sim__cluster_schedule(cluster, delay_us, tick, node, node->tick_at_us, NULL);
    }
}

void sim__cluster_node_look(struct cluster *cluster, struct cluster_node *node)
{
    if (!sim__cluster_node_is_running(node) || cluster->is_failed) {
        return;
    }
    sim__cluster_check_repair(cluster, node);
    struct shard_statistics statistics;
    shard_get_statistics(node->shard, &statistics);
    if (statistics.applied_index > 0) {
        sim__cluster_oracle_digest(cluster, statistics.applied_index, statistics.digest);
    }
    if (statistics.role == RAFT_ROLE_LEADER) {
        sim__cluster_oracle_leader(cluster, statistics.term, node->id);
    }
    schedule_tick(node, random_below(&cluster->random, 100));
}

/* As src/node does at the end of each tick. */
static uint64_t tick_route(struct cluster_node *node)
{
    raft_node leader = shard_leader(node->shard);
    bool is_ready = shard_is_ready(node->shard);
    if (leader != node->told_leader || is_ready != node->told_ready) {
        node->told_leader = leader;
        node->told_ready = is_ready;
        route_leader_changed(node->route, CLUSTER_SHARD);
    }
    uint64_t wake_at_ms = route_tick(node->route);
    return shard_wants_tick(node->shard) ? 0 : wake_at_ms;
}

static void tick(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    if (event->value != node->tick_at_us) {
        return; /* An earlier one came in between. */
    }
    node->tick_at_us = UINT64_MAX;
    uint64_t wake_at_ms = shard_tick(node->shard);
    uint64_t route_wake_at_ms = tick_route(node);
    wake_at_ms = route_wake_at_ms < wake_at_ms ? route_wake_at_ms : wake_at_ms;
    uint64_t now_ms = clock_now_ms(node);
    uint64_t wait_ms = wake_at_ms > now_ms ? wake_at_ms - now_ms : 0;
    struct shard_statistics statistics;
    shard_get_statistics(node->shard, &statistics);
    if (statistics.applied_index > 0) {
        sim__cluster_oracle_digest(cluster, statistics.applied_index, statistics.digest);
    }
    schedule_tick(node, wait_ms > 1000 ? 1000000 : wait_ms * 1000 + 1);
}

void sim__cluster_node_receive(struct cluster *cluster, struct cluster_node *node, raft_node from,
                               uint32_t life, enum cluster_message kind, struct bytes message)
{
    if (kind == CLUSTER_MESSAGE_SHARD) {
        shard_receive(node->shard, from, message);
    } else if (route_receive(node->route, from, life, message) != 0) {
        sim__cluster_fail(cluster, "node %u finds a message of node %u malformed", node->id, from);
    }
    sim__cluster_node_look(cluster, node);
}

void sim__cluster_node_unreachable(struct cluster *cluster, struct cluster_node *node,
                                   raft_node other)
{
    shard_unreachable(node->shard, other);
    if (random_chance(&cluster->random, 1, 2)) {
        shard_peer_lost(node->shard, other);
    }
    route_peer_gone(node->route, other);
    sim__cluster_node_look(cluster, node);
}

/* ---- Work on other threads ------------------------------------------------------------------- */

static void run_job(struct job *job, struct wal *wal)
{
    job->was_run = true;
    switch (job->kind) {
    case JOB_READ:
        shard_read_run(job->what);
        return;
    case JOB_WRITE:
        shard_write_run(job->what);
        return;
    case JOB_WORK:
        ((struct shard_work *)job->what)->run(job->what);
        return;
    case JOB_LOG_READ:
        shard_log_read_run(job->what, wal);
        return;
    }
}

static void end_job(struct cluster_node *node, struct job *job)
{
    enum job_kind kind = job->kind;
    void *what = job->what;
    list_remove(&job->link);
    memory_free(job);
    node->job_count--;
    switch (kind) {
    case JOB_READ:
        shard_read_done(what);
        return;
    case JOB_WRITE:
        shard_write_done(what);
        return;
    case JOB_WORK:
        ((struct shard_work *)what)->done(what);
        return;
    case JOB_LOG_READ:
        shard_log_read_done(what);
        return;
    }
}

static void job_done(struct cluster *cluster, const struct cluster_event *event)
{
    end_job(event->node, event->pointer);
    sim__cluster_node_look(cluster, event->node);
}

static void job_run(struct cluster *cluster, const struct cluster_event *event)
{
    struct job *job = event->pointer;
    run_job(job, event->node->wal);
    sim__cluster_schedule(cluster, random_below(&cluster->random, 200), job_done, event->node, 0,
                          job);
}

static void start_job(struct cluster_node *node, enum job_kind kind, void *what)
{
    struct job *job = memory_allocate_zeroed(1, sizeof *job);
    job->kind = kind;
    job->what = what;
    list_push_back(&node->jobs, &job->link);
    node->job_count++;
    if (!node->is_dead) {
        sim__cluster_schedule(node->cluster, sim__cluster_delay(node->cluster, disk_us(node)),
                              job_run, node, 0, job);
    }
}

static int host_read_elsewhere(void *context, struct shard_read *read)
{
    struct cluster_node *node = context;
    if (node->is_dead || node->job_count >= WORK_COUNT_MAX) {
        return -EBUSY;
    }
    start_job(node, JOB_READ, read);
    return 0;
}

static int host_work_elsewhere(void *context, struct shard_work *work)
{
    struct cluster_node *node = context;
    if (node->is_dead || node->job_count >= WORK_COUNT_MAX) {
        return -EBUSY;
    }
    start_job(node, JOB_WORK, work);
    return 0;
}

static void host_write_elsewhere(void *context, struct shard_write *write)
{
    start_job(context, JOB_WRITE, write);
}

static void host_read_log(void *context, struct shard_log_read *read)
{
    start_job(context, JOB_LOG_READ, read);
}

/* ---- The log writer -------------------------------------------------------------------------- */

static void writer_gather(struct cluster *cluster, const struct cluster_event *event);

/* A status of the log that the node cannot go on with: it must have been provoked, it must last, and
 * the process ends. Not within a call of the shard. */
static void log_failed(struct cluster_node *node, const struct error *error)
{
    struct cluster *cluster = node->cluster;
    if (sim__disk_flush_error_count(node->disk) == 0) {
        sim__cluster_fail(cluster, "the log of node %u failed: %s", node->id, error->message);
        return;
    }
    if (wal_flush(node->wal, NULL) == 0) {
        sim__cluster_fail(cluster, "the log of node %u goes on after: %s", node->id,
                          error->message);
        return;
    }
    sim__cluster_note(cluster, "node.exits", node->id, 0, 0);
    sim__cluster_node_kill(cluster, node, false);
}

static void persisted(struct cluster *cluster, const struct cluster_event *event)
{
    shard_persisted(event->node->shard, event->value);
    sim__cluster_node_look(cluster, event->node);
}

static void writer_flush(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    struct error error = {0};
    if (wal_flush(node->wal, &error) != 0) {
        log_failed(node, &error);
        return;
    }
    sim__disk_next_round(node->disk);
    uint64_t sequence = node->round[node->round_count - 1].sequence;
    memory_free(node->round);
    node->round = NULL;
    node->round_count = 0;
    sim__cluster_schedule(cluster, random_below(&cluster->random, 100), persisted, node, sequence,
                          NULL);
    sim__cluster_schedule(cluster, 1, writer_gather, node, 0, NULL);
}

/* False: the node has ended. */
static bool release(struct cluster_node *node)
{
    struct error error = {0};
    raft_index index = node->release_index;
    node->release_index = 0;
    int status = index > 0 ? wal_release(node->wal, CLUSTER_SHARD, index, &error) : 0;
    if (status != 0 && status != -ENOSPC) {
        log_failed(node, &error);
        return false;
    }
    return true;
}

static void writer_write(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    struct error error = {0};
    int status = wal_write(node->wal, &error);
    if (status == -ENOSPC && node->is_full) {
        sim__cluster_note(cluster, "log.full", node->id, node->round_count, 0);
        if (release(node)) { /* What the log itself holds may be all that is missing. */
            sim__cluster_schedule(cluster, sim__cluster_delay(cluster, NO_SPACE_RETRY_US),
                                  writer_write, node, 0, NULL);
        }
        return;
    }
    if (status != 0) {
        log_failed(node, &error);
        return;
    }
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, disk_us(node)), writer_flush, node,
                          0, NULL);
}

static void writer_gather(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    if (!release(node)) {
        return;
    }
    if (node->queue_count == 0) {
        node->is_writer_busy = false;
        return;
    }
    node->round = node->queue;
    node->round_count = node->queue_count;
    node->queue = NULL;
    node->queue_count = node->queue_capacity = 0;
    for (uint32_t i = 0; i < node->round_count; i++) {
        wal_append(node->wal, &node->round[i].record);
    }
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, disk_us(node) / 10 + 1),
                          writer_write, node, 0, NULL);
}

static void host_persist(void *context, struct shard *shard, const struct wal_record *record,
                         uint64_t sequence)
{
    struct cluster_node *node = context;
    if (node->is_dead) {
        return;
    }
    if (node->queue_count == node->queue_capacity) {
        node->queue_capacity = node->queue_capacity == 0 ? 16 : 2 * node->queue_capacity;
        node->queue = memory_resize(node->queue, node->queue_capacity * sizeof node->queue[0]);
    }
    ASSERT(node->queue_count == 0 || node->queue[node->queue_count - 1].sequence <= sequence);
    node->queue[node->queue_count++] = (struct item){*record, sequence};
    if (!node->is_writer_busy) {
        node->is_writer_busy = true;
        sim__cluster_schedule(node->cluster, random_below(&node->cluster->random, 100),
                              writer_gather, node, 0, NULL);
    }
}

/* ---- The rest of the host -------------------------------------------------------------------- */

static void host_send(void *context, struct shard *shard, raft_node to, const struct bytes *pieces,
                      uint32_t piece_count)
{
    struct cluster_node *node = context;
    if (!node->is_dead) {
        (void)sim__cluster_send(node->cluster, node, to, CLUSTER_MESSAGE_SHARD, pieces,
                                piece_count);
    }
}

static int host_load_entry(void *context, wal_shard shard, raft_index index, raft_term *term,
                           struct buffer *payload, struct error *error)
{
    struct cluster_node *node = context;
    return wal_read(node->wal, shard, index, term, payload, error);
}

static int host_load_head(void *context, wal_shard shard, raft_index index, uint32_t size_bytes,
                          raft_term *term, struct buffer *payload, struct error *error)
{
    struct cluster_node *node = context;
    return wal_read_head(node->wal, shard, index, size_bytes, term, payload, error);
}

static void exit_damaged(struct cluster *cluster, const struct cluster_event *event)
{
    sim__cluster_note(cluster, "node.exits_damaged", event->node->id, 0, 0);
    sim__cluster_node_kill(cluster, event->node, false);
}

static void host_failed(void *context, struct shard *shard, int status, const struct error *error)
{
    struct cluster_node *node = context;
    if (status == ERROR_CORRUPT && node->is_damage_unseen && !node->is_dead) {
        sim__cluster_schedule(node->cluster, 0, exit_damaged, node, 0, NULL);
    } else if (!node->is_dead) {
        sim__cluster_fail(node->cluster, "the shard of node %u failed: %s (%s)", node->id,
                          error->message, error_text(status));
    }
}

static raft_index first_needed(void *context, wal_shard shard)
{
    const struct cluster_node *node = context;
    return shard == CLUSTER_SHARD ? shard_stored_index(node->shard) + 1 : 1;
}

/* ---- The store's maintenance ----------------------------------------------------------------- */

static void maintain(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    if (event->value == 0) {
        node->flush_index =
            random_chance(&cluster->random, 1, 4) ? 0 : shard_stored_index(node->shard);
        sim__cluster_schedule(cluster, sim__cluster_delay(cluster, disk_us(node) * 4), maintain,
                              node, 1, NULL);
        return;
    }
    bool is_whole = shard_is_stored_whole(node->shard);
    memstore_flush(node->memstore);
    node->is_whole = node->is_whole || is_whole;
    if (node->flush_index > 0) {
        node->release_index = node->flush_index;
        if (!node->is_writer_busy) {
            node->is_writer_busy = true;
            sim__cluster_schedule(cluster, 1, writer_gather, node, 0, NULL);
        }
    }
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.store_flush_us),
                          maintain, node, 0, NULL);
}

/* ---- Start and end --------------------------------------------------------------------------- */

static void draw_members(const struct cluster *cluster, struct cluster_node *node,
                         struct raft_configuration *configuration)
{
    *configuration = (struct raft_configuration){0};
    if (cluster->nature.does_start_whole) {
        for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
            configuration->voters[configuration->voter_count++] = i + 1;
        }
    } else if (node->id == 1) {
        configuration->voters[configuration->voter_count++] = 1;
    }
}

static int accept_loss(void *context, const struct wal_loss *loss, struct error *error)
{
    struct cluster_node *node = context;
    sim__cluster_note(node->cluster, "node.lost", node->id, loss->index, loss->segment);
    node->is_whole = false;
    bool is_named = !loss->is_of_unnamed && loss->shard == CLUSTER_SHARD;
    return is_named || loss->is_of_unnamed ? shard_accept_loss(node->shard, error) : 0;
}

static int open_cores(struct cluster_node *node, struct error *error)
{
    struct cluster *cluster = node->cluster;
    const struct cluster_nature *nature = &cluster->nature;
    struct shard_options options = {
        .id = CLUSTER_SHARD,
        .self = node->id,
        .store = memstore_interface(node->memstore),
        .cache_size_bytes = CACHE_SIZE_BYTES,
        .store_row_count = nature->store_row_count,
        .in_flight_size_bytes_max = IN_FLIGHT_SIZE_BYTES,
        .recent_size_bytes_max = nature->recent_size_bytes,
        .window_size_bytes_max = nature->window_size_bytes,
        .range_lower = BYTES("\x02"),
        .range_upper = BYTES("\xff"),
        .election_timeout_ms = nature->election_timeout_ms,
        .heartbeat_interval_ms = nature->election_timeout_ms / 5,
        .host = {.context = node,
                 .clock = {node, clock_now_ms, clock_wall_ms},
                 .persist = host_persist,
                 .read_elsewhere = host_read_elsewhere,
                 .write_elsewhere = host_write_elsewhere,
                 .work_elsewhere = host_work_elsewhere,
                 .read_log = host_read_log,
                 .send = host_send,
                 .load_entry = host_load_entry,
                 .load_head = host_load_head,
                 .failed = host_failed},
        .random_seed = cluster->options.seed * 31 + node->id + 1000u * node->incarnation,
    };
    draw_members(cluster, node, &options.configuration);
    node->kv = kv_create();
    options.machine =
        sim__cluster_oracle_machine(cluster->oracle, kv_machine(node->kv), &node->watch);
    int status = shard_open(&node->shard, &options, error);
    if (status != 0) {
        return status;
    }
    struct wal_options wal_options = {
        .files = sim__disk_interface(node->disk),
        .segment_size_bytes = nature->segment_size_bytes,
        .spare_size_bytes_max = 2 * nature->segment_size_bytes,
        .first_needed = first_needed,
        .accept_loss = accept_loss,
        .context = node,
    };
    status = wal_open(&node->wal, &wal_options, error);
    if (status != 0) {
        return status;
    }
    node->route = sim__cluster_route_create(node, options.host.clock);
    node->told_leader = 0;
    node->told_ready = false;
    struct wal_shard_state state;
    bool is_known = wal_get_shard_state(node->wal, CLUSTER_SHARD, &state);
    return shard_start(node->shard, is_known ? &state : NULL, error);
}

void sim__cluster_node_start(struct cluster *cluster, struct cluster_node *node)
{
    ASSERT(!node->is_running);
    node->incarnation++;
    node->is_running = true;
    node->is_dead = false;
    node->is_writer_busy = false;
    node->release_index = 0;
    node->tick_at_us = UINT64_MAX;
    node->paused_until_us = 0;
    node->clock_base_ms = random_below(&cluster->random, 1000000);
    sim__cluster_note(cluster, "node.start", node->id, node->incarnation, 0);
    struct error error = {0};
    int status = open_cores(node, &error);
    bool is_provoked = (status == -ENOSPC && node->is_full) ||
                       (status == -EIO && sim__disk_flush_error_count(node->disk) > 0);
    if (status == ERROR_CORRUPT && sim__disk_damage_count(node->disk) > 0 && node->shard != NULL &&
        !shard_is_impaired(node->shard)) {
        /* Rightly: too few others. A person brings a copy. */
        sim__cluster_note(cluster, "node.refuses", node->id, 0, 0);
        cluster->result->reported_damage_count++;
        sim__disk_repair(node->disk);
        is_provoked = true;
    }
    if (status != 0 && is_provoked && node->shard != NULL) {
        sim__cluster_node_kill(cluster, node, false);
        return;
    }
    node->is_damage_unseen = false;
    if (status != 0) {
        sim__cluster_fail(cluster, "node %u does not start: %s (%s)", node->id, error.message,
                          error_text(status));
        return;
    }
    shard_set_full(node->shard, node->is_full);
    sim__cluster_note(cluster, "node.started", node->id, shard_stored_index(node->shard), 0);
    sim__cluster_node_look(cluster, node);
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.store_flush_us),
                          maintain, node, 0, NULL);
}

static void start_again(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->pointer;
    if (!node->is_running && !cluster->is_failed) {
        sim__cluster_node_start(cluster, node);
    }
}

static void close_cores(struct cluster_node *node)
{
    while (!list_is_empty(&node->jobs)) {
        struct job *job = LIST_ITEM(node->jobs.next, struct job, link);
        if (!job->was_run) {
            run_job(job, node->wal);
        }
        end_job(node, job);
    }
    shard_close(node->shard);
    node->shard = NULL;
    if (node->route != NULL) {
        route_destroy(node->route);
        node->route = NULL;
    }
    sim__cluster_clients_buried(node->cluster, node);
    sim__cluster_callers_buried(node->cluster, node);
    if (node->wal != NULL) {
        wal_close(node->wal);
        node->wal = NULL;
    }
    kv_destroy(node->kv);
    node->kv = NULL;
    memory_free(node->queue);
    node->queue = NULL;
    node->queue_count = node->queue_capacity = 0;
    memory_free(node->round);
    node->round = NULL;
    node->round_count = 0;
}

void sim__cluster_node_kill(struct cluster *cluster, struct cluster_node *node, bool is_power_lost)
{
    sim__cluster_note(cluster, "node.killed", node->id, is_power_lost, 0);
    node->is_dead = true;
    sim__cluster_break_all(cluster, node);
    sim__cluster_clients_lost(cluster, node);
    sim__cluster_callers_lost(cluster, node);
    close_cores(node);
    node->is_running = false;
    node->paused_until_us = 0;
    if (is_power_lost) {
        cluster->result->power_loss_count++;
        sim__disk_lose_power(node->disk);
    } else {
        cluster->result->kill_count++;
        sim__disk_kill(node->disk);
    }
    memstore_lose_unflushed(node->memstore);
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.stay_down_us),
                          start_again, NULL, 0, node);
}

void sim__cluster_node_pause(struct cluster *cluster, struct cluster_node *node, uint64_t for_us)
{
    node->paused_until_us = for_us > 0 ? cluster->now_us + for_us : 0;
    sim__cluster_note(cluster, "node.paused", node->id, for_us, 0);
}

static void disk_is_well(struct cluster *cluster, const struct cluster_event *event)
{
    ((struct cluster_node *)event->pointer)->disk_times = 1;
}

void sim__cluster_node_slow_disk(struct cluster *cluster, struct cluster_node *node, uint32_t times,
                                 uint64_t for_us)
{
    node->disk_times = times;
    sim__cluster_note(cluster, "node.slow_disk", node->id, times, for_us);
    if (times > 1) {
        sim__cluster_schedule(cluster, for_us, disk_is_well, NULL, 0, node);
    }
}

void sim__cluster_node_set_full(struct cluster *cluster, struct cluster_node *node, bool is_full)
{
    if (node->is_full == is_full) {
        return;
    }
    node->is_full = is_full;
    sim__cluster_note(cluster, "node.full", node->id, is_full, 0);
    sim__disk_set_full(node->disk, is_full);
    if (sim__cluster_node_is_running(node)) {
        shard_set_full(node->shard, is_full);
    }
}

void sim__cluster_node_fail_flush(struct cluster *cluster, struct cluster_node *node,
                                  uint32_t per_million)
{
    sim__cluster_note(cluster, "node.fail_flush", node->id, per_million, 0);
    sim__disk_fail_flush(node->disk, per_million);
}

struct cluster_node *sim__cluster_node_create(struct cluster *cluster, uint32_t place)
{
    struct cluster_node *node = memory_allocate_zeroed(1, sizeof *node);
    node->cluster = cluster;
    node->id = place + 1;
    node->disk_times = 1;
    uint32_t percent = cluster->nature.clock_rate_percent;
    if (percent > 0) {
        node->clock_rate_ppm =
            ((int32_t)random_below(&cluster->random, 2 * percent + 1) - (int32_t)percent) * 10000;
    }
    node->is_whole = true;
    list_init(&node->jobs);
    struct sim__disk_options options = {
        .capacity_bytes = DISK_SIZE_BYTES,
        .does_cache_lie = cluster->nature.does_cache_lie,
        .does_directory_reorder = cluster->nature.does_directory_reorder,
    };
    node->disk = sim__disk_create(&options, &cluster->disk_random);
    node->memstore = memstore_create(cluster->options.seed + place);
    memstore_set_faults(node->memstore, cluster->nature.faults);
    return node;
}

void sim__cluster_node_destroy(struct cluster_node *node)
{
    if (node->is_running) {
        node->is_dead = true;
        sim__cluster_clients_lost(node->cluster, node);
        sim__cluster_callers_lost(node->cluster, node);
        close_cores(node);
    }
    memstore_destroy(node->memstore);
    sim__disk_destroy(node->disk);
    memory_free(node);
}
