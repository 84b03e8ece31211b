/* SPDX-License-Identifier: Apache-2.0 */
/* What the shards of a machine ask for: clocks, work on other threads, the log, messages. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "sim/sim_cluster_host.h"

enum { WORK_COUNT_MAX = 4, NO_SPACE_RETRY_US = 20000 };

/* ---- Clocks ---------------------------------------------------------------------------------- */

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

struct env_clock sim__cluster_clock(struct cluster_node *node)
{
    return (struct env_clock){node, clock_now_ms, clock_wall_ms};
}

static uint64_t disk_us(const struct cluster_node *node)
{
    return (uint64_t)node->cluster->nature.disk_us * node->disk_times;
}

/* ---- Work on other threads ------------------------------------------------------------------- */

static void run_job(struct job *job, struct wal *wal)
{
    job->was_run = true;
    switch (job->kind) {
    case JOB_READ:
        sim__cluster_oracle_elsewhere(job->replica->watch, job->from, job->to);
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

static struct job *start_job(struct cluster_node *node, enum job_kind kind, void *what)
{
    struct job *job = memory_allocate_zeroed(1, sizeof *job);
    job->kind = kind;
    job->what = what;
    list_push_back(&node->jobs, &job->link);
    node->job_count++;
    if (!node->is_dead) {
        uint64_t mean_us = disk_us(node);
        if (kind == JOB_WRITE && !node->cluster->is_healing) {
            mean_us =
                number_max(mean_us, (uint64_t)node->cluster->nature.disk_us * node->store_times);
        }
        sim__cluster_schedule(node->cluster, sim__cluster_delay(node->cluster, mean_us), job_run,
                              node, 0, job);
    }
    return job;
}

void sim__cluster_end_jobs(struct cluster_node *node)
{
    while (!list_is_empty(&node->jobs)) {
        struct job *job = LIST_ITEM(node->jobs.next, struct job, link);
        if (!job->was_run) {
            run_job(job, node->wal);
        }
        end_job(node, job);
    }
}

/* Its pool takes no more now. */
static bool is_busy(const struct cluster_node *node)
{
    return node->is_dead || node->job_count >= WORK_COUNT_MAX;
}

static int host_read_elsewhere(void *context, struct shard_read *read)
{
    struct cluster_replica *replica = context;
    struct cluster_node *node = replica->node;
    if (is_busy(node)) {
        return -EBUSY;
    }
    struct job *job = start_job(node, JOB_READ, read);
    job->replica = replica;
    job->from = shard_stored_index(replica->shard);
    job->to = shard_applied_index(replica->shard);
    return 0;
}

static int host_work_elsewhere(void *context, struct shard_work *work)
{
    struct cluster_node *node = ((struct cluster_replica *)context)->node;
    if (is_busy(node)) {
        return -EBUSY;
    }
    (void)start_job(node, JOB_WORK, work);
    return 0;
}

static void host_write_elsewhere(void *context, struct shard_write *write)
{
    (void)start_job(((struct cluster_replica *)context)->node, JOB_WRITE, write);
}

static void host_read_log(void *context, struct shard_log_read *read)
{
    (void)start_job(((struct cluster_replica *)context)->node, JOB_LOG_READ, read);
}

static int host_read_back(void *context, struct shard_log_read *read)
{
    struct cluster_node *node = ((struct cluster_replica *)context)->node;
    if (is_busy(node)) {
        return -EBUSY;
    }
    (void)start_job(node, JOB_LOG_READ, read);
    return 0;
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
    struct cluster_replica *replica = event->pointer;
    shard_persisted(replica->shard, event->value);
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
    uint64_t sequences[CLUSTER_SHARD_COUNT_MAX] = {0};
    for (uint32_t i = 0; i < node->round_count; i++) {
        sequences[node->round[i].replica->place] = node->round[i].sequence;
    }
    memory_free(node->round);
    node->round = NULL;
    node->round_count = 0;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        if (sequences[i] > 0) {
            sim__cluster_schedule(cluster, random_below(&cluster->random, 100), persisted, node,
                                  sequences[i], &node->replicas[i]);
        }
    }
    sim__cluster_schedule(cluster, 1, writer_gather, node, 0, NULL);
}

/* False: the node has ended. */
static bool release(struct cluster_node *node)
{
    for (uint32_t i = 0; i < node->cluster->shard_count; i++) {
        struct error error = {0};
        raft_index index = node->replicas[i].release_index;
        node->replicas[i].release_index = 0;
        int status = index > 0 ? wal_release(node->wal, i + 1, index, &error) : 0;
        if (status != 0 && status != -ENOSPC) {
            log_failed(node, &error);
            return false;
        }
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
    struct cluster_replica *replica = context;
    struct cluster_node *node = replica->node;
    if (node->is_dead) {
        return;
    }
    if (node->queue_count == node->queue_capacity) {
        node->queue_capacity = node->queue_capacity == 0 ? 16 : 2 * node->queue_capacity;
        node->queue = memory_resize(node->queue, node->queue_capacity * sizeof node->queue[0]);
    }
    ASSERT(replica->queued_sequence <= sequence);
    replica->queued_sequence = sequence;
    node->queue[node->queue_count++] = (struct item){*record, replica, sequence};
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
    const struct cluster_replica *replica = context;
    struct cluster_node *node = replica->node;
    if (!node->is_dead) {
        sim__cluster_check_sent(node->cluster, node, replica->place, &pieces[0]);
        (void)sim__cluster_send(node->cluster, node, to,
                                sim__cluster_message_of_shard(replica->place), pieces, piece_count);
    }
}

static bool host_send_beat(void *context, struct shard *shard, const struct raft_message *message)
{
    return sim__cluster_beats_add(context, message);
}

static int host_load_entry(void *context, wal_shard shard, raft_index index, raft_term *term,
                           struct buffer *payload, struct error *error)
{
    struct cluster_node *node = ((struct cluster_replica *)context)->node;
    return wal_read(node->wal, shard, index, term, payload, error);
}

static int host_load_head(void *context, wal_shard shard, raft_index index, uint32_t size_bytes,
                          raft_term *term, struct buffer *payload, struct error *error)
{
    struct cluster_node *node = ((struct cluster_replica *)context)->node;
    return wal_read_head(node->wal, shard, index, size_bytes, term, payload, error);
}

static void exit_damaged(struct cluster *cluster, const struct cluster_event *event)
{
    sim__cluster_note(cluster, "node.exits_damaged", event->node->id, 0, 0);
    sim__cluster_node_kill(cluster, event->node, false);
}

static void host_failed(void *context, struct shard *shard, int status, const struct error *error)
{
    struct cluster_node *node = ((struct cluster_replica *)context)->node;
    if (status == ERROR_CORRUPT && node->is_damage_unseen && !node->is_dead) {
        sim__cluster_schedule(node->cluster, 0, exit_damaged, node, 0, NULL);
    } else if (!node->is_dead) {
        sim__cluster_fail(node->cluster, "the shard of node %u failed: %s (%s)", node->id,
                          error->message, error_text(status));
    }
}

static void host_note_found(void *context, const struct recall_entry *entry)
{
    struct cluster_node *node = ((struct cluster_replica *)context)->node;
    if (!node->is_dead) {
        sim__recall_note(&node->recall, entry);
    }
}

static bool host_recall_found(void *context, struct recall_entry *entry)
{
    return sim__recall_find(&((struct cluster_replica *)context)->node->recall, entry);
}

raft_index sim__cluster_first_needed(void *context, wal_shard shard)
{
    const struct cluster_node *node = context;
    ASSERT(shard >= 1 && shard <= node->cluster->shard_count);
    const struct cluster_replica *replica = &node->replicas[shard - 1];
    return replica->shard != NULL ? shard_stored_index(replica->shard) + 1 : 1;
}

static void host_split(void *context, struct shard *shard, const struct slots_range *child)
{
    struct cluster_replica *replica = context;
    struct cluster_node *node = replica->node;
    sim__cluster_split_applied(node->cluster, node, replica->place, shard_applied_index(shard),
                               child);
}

static uint32_t host_list_nodes(void *context, raft_node nodes[SHARD_NODE_COUNT_MAX])
{
    const struct cluster_node *node = ((struct cluster_replica *)context)->node;
    uint32_t count = 0;
    for (uint32_t i = 0; i < node->cluster->nature.node_count && !node->is_dead; i++) {
        nodes[count] = i + 1;
        count += i + 1 != node->id ? 1 : 0;
    }
    return count;
}

static bool host_knows_floors(void *context, raft_node id)
{
    const struct cluster *cluster = ((struct cluster_replica *)context)->node->cluster;
    return !sim__cluster_node_is_older(cluster->nodes[id - 1]);
}

static void host_emptied(void *context, struct shard *shard)
{
    struct cluster_replica *replica = context;
    replica->flush_index = 0;
    replica->release_index = 0;
    replica->node->cluster->emptied_count++;
    replica->node->unsure |= UINT64_C(1) << replica->place;
    sim__cluster_emptied(replica->node->cluster, replica->node, replica->place);
}

struct shard_host sim__cluster_host(struct cluster_replica *replica)
{
    return (struct shard_host){.context = replica,
                               .clock = sim__cluster_clock(replica->node),
                               .persist = host_persist,
                               .read_elsewhere = host_read_elsewhere,
                               .write_elsewhere = host_write_elsewhere,
                               .work_elsewhere = host_work_elsewhere,
                               .read_log = host_read_log,
                               .read_back = host_read_back,
                               .send = host_send,
                               .send_beat = host_send_beat,
                               .load_entry = host_load_entry,
                               .load_head = host_load_head,
                               .note_found = host_note_found,
                               .recall_found = host_recall_found,
                               .split = host_split,
                               .list_nodes = host_list_nodes,
                               .knows_floors = host_knows_floors,
                               .emptied = host_emptied,
                               .failed = host_failed};
}

/* ---- The store's maintenance ----------------------------------------------------------------- */

/* Now and then there is no space to keep the log for others. */
static raft_index index_to_release(struct cluster *cluster, const struct shard *shard)
{
    raft_index stored_index = shard_stored_index(shard);
    raft_index needed_index = shard_needed_index(shard);
    return cluster->now_us % 2 == 0 ? stored_index : number_min(stored_index, needed_index);
}

void sim__cluster_maintain(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    if (event->value == 0) {
        bool is_skipped = random_chance(&cluster->random, 1, 4);
        for (uint32_t i = 0; i < cluster->shard_count; i++) {
            struct cluster_replica *replica = &node->replicas[i];
            replica->flush_index = is_skipped || replica->shard == NULL
                                       ? 0
                                       : index_to_release(cluster, replica->shard);
        }
        sim__cluster_schedule(cluster, sim__cluster_delay(cluster, disk_us(node) * 4),
                              sim__cluster_maintain, node, 1, NULL);
        return;
    }
    bool is_whole = node->lost_unopened == 0;
    uint64_t sure = 0;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct shard *shard = node->replicas[i].shard;
        bool is_stored_whole = shard != NULL && shard_is_stored_whole(shard);
        is_whole = is_whole && (shard == NULL || is_stored_whole);
        sure |= (uint64_t)is_stored_whole << i;
    }
    memstore_flush(node->memstore);
    node->is_whole = node->is_whole || is_whole;
    node->unsure &= ~sure;
    node->lost &= ~sure;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct cluster_replica *replica = &node->replicas[i];
        if (replica->flush_index == 0) {
            continue;
        }
        replica->release_index = replica->flush_index;
        if (!node->is_writer_busy) {
            node->is_writer_busy = true;
            sim__cluster_schedule(cluster, 1, writer_gather, node, 0, NULL);
        }
    }
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.store_flush_us),
                          sim__cluster_maintain, node, 0, NULL);
}
