/* SPDX-License-Identifier: Apache-2.0 */
/* What a replica asks of its host: messages to other nodes, entries from the log
 * while the log writer has it, long work on the disk pool. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

/* ---- Messages -------------------------------------------------------------------------------- */

void node_replica_send(void *context, struct shard *shard, raft_node to, const struct bytes *pieces,
                       uint32_t piece_count)
{
    struct node_shard *node_shard = context;
    struct node_cluster *cluster = node_shard->host->cluster;
    if (cluster != NULL) {
        node_cluster_send_shard(cluster, node_shard->id, to, pieces, piece_count);
    }
}

/* ---- Work on the pool ------------------------------------------------------------------------ */

struct pool_work {
    struct os_work work;
    struct node_shard *shard;
    struct shard_work *what;
};

static void pool_work_run(struct os_work *work)
{
    struct shard_work *what = LIST_ITEM(work, struct pool_work, work)->what;
    what->run(what);
}

static void pool_work_done(struct os_work *work)
{
    struct pool_work *pool_work = LIST_ITEM(work, struct pool_work, work);
    struct shard_work *what = pool_work->what;
    node_shard_touch(pool_work->shard);
    memory_free(pool_work);
    what->done(what);
}

int node_replica_work_elsewhere(void *context, struct shard_work *what)
{
    struct node_shards *shards = ((struct node_shard *)context)->host;
    if (shards->pool == NULL || shards->stop_until_ms != 0) {
        return -EBUSY; /* While starting, and while stopping. */
    }
    struct pool_work *pool_work = memory_allocate_zeroed(1, sizeof *pool_work);
    pool_work->shard = context;
    pool_work->what = what;
    pool_work->work.run = pool_work_run;
    pool_work->work.done = pool_work_done;
    int status = os_pool_submit(shards->pool, shards->loop, &pool_work->work);
    if (status != 0) {
        memory_free(pool_work);
    }
    return status;
}

/* ---- Entries for a replica that lags, or that left memory ------------------------------------ */

struct log_read {
    struct node_log_job job;
    struct os_message message;
    struct node_shard *shard;
    struct shard_log_read *read;
};

static void log_read_is_back(struct os_message *message)
{
    struct log_read *log_read = LIST_ITEM(message, struct log_read, message);
    struct shard_log_read *read = log_read->read;
    node_shard_touch(log_read->shard);
    memory_free(log_read);
    shard_log_read_done(read);
}

static void run_log_read(struct node_log_job *job, struct wal *wal)
{
    struct log_read *log_read = LIST_ITEM(job, struct log_read, job);
    shard_log_read_run(log_read->read, wal);
    log_read->message.deliver = log_read_is_back;
    os_loop_post(log_read->shard->host->loop, &log_read->message);
}

static void read_log(struct node_shard *shard, struct shard_log_read *read, bool may_overtake)
{
    struct log_read *log_read = memory_allocate_zeroed(1, sizeof *log_read);
    log_read->shard = shard;
    log_read->read = read;
    log_read->job.run = run_log_read;
    log_read->job.may_overtake = may_overtake;
    node_log_submit_job(shard->host->node_log, &log_read->job);
}

void node_replica_read_log(void *context, struct shard_log_read *read)
{
    read_log(context, read, false);
}

int node_replica_read_back(void *context, struct shard_log_read *read)
{
    struct node_shard *shard = context;
    const struct node_shards *shards = shard->host;
    if (shards->node_log == NULL || shards->stop_until_ms != 0) {
        return -EBUSY; /* While starting, and while stopping. */
    }
    read_log(shard, read, true);
    return 0;
}

/* ---- Entries from before the start that are only now known to be committed -------------------- */

/* The reactor waits for these. They come many at a time, once, after a restart. */
struct load {
    struct node_log_job job;
    struct node_loaded *loaded;
    wal_shard shard;
    raft_index first_index;
    int status;
    struct error error;
    struct os_mutex *mutex;
    struct os_condition *condition;
    bool is_done; /* Under the mutex. */
};

static void run_load(struct node_log_job *job, struct wal *wal)
{
    struct load *load = LIST_ITEM(job, struct load, job);
    struct node_loaded *loaded = load->loaded;
    for (loaded->count = 0; loaded->count < NODE_LOADED_COUNT_MAX; loaded->count++) {
        uint32_t i = loaded->count;
        load->status = wal_read(wal, load->shard, load->first_index + i, &loaded->terms[i],
                                &loaded->payloads, &load->error);
        if (load->status != 0 || loaded->payloads.size_bytes > NODE_LOADED_SIZE_BYTES_SOFT_MAX) {
            if (load->status == 0) {
                loaded->ends[loaded->count++] = loaded->payloads.size_bytes;
            }
            break;
        }
        loaded->ends[i] = loaded->payloads.size_bytes;
    }
    os_mutex_lock(load->mutex);
    load->is_done = true;
    os_condition_signal(load->condition);
    os_mutex_unlock(load->mutex);
}

void node__loaded_free(struct node_shard *shard)
{
    if (shard->loaded != NULL) {
        buffer_deinit(&shard->loaded->payloads);
        memory_free(shard->loaded);
        shard->loaded = NULL;
    }
}

static int load_some(struct node_shard *shard, wal_shard id, raft_index index, struct error *error)
{
    struct node_loaded *loaded = shard->loaded;
    loaded->first_index = index;
    buffer_clear(&loaded->payloads);
    struct load load = {.loaded = loaded, .shard = id, .first_index = index};
    load.job.run = run_load;
    /* The reactor waits for it; on a full disk up to 100 ms each time. */
    load.job.may_overtake = true;
    load.mutex = os_mutex_create();
    load.condition = os_condition_create();
    node_log_submit_job(shard->host->node_log, &load.job);
    os_mutex_lock(load.mutex);
    while (!load.is_done) {
        os_condition_wait(load.condition, load.mutex);
    }
    os_mutex_unlock(load.mutex);
    os_condition_destroy(load.condition);
    os_mutex_destroy(load.mutex);
    if (loaded->count == 0) {
        *error = load.error;
        return load.status;
    }
    return 0;
}

int node_replica_load_entry(struct node_shard *shard, wal_shard id, raft_index index,
                            raft_term *term, struct buffer *payload, struct error *error)
{
    if (shard->loaded == NULL) {
        shard->loaded = memory_allocate_zeroed(1, sizeof *shard->loaded);
    }
    struct node_loaded *loaded = shard->loaded;
    bool is_there = index >= loaded->first_index && index - loaded->first_index < loaded->count;
    if (!is_there) {
        int status = load_some(shard, id, index, error);
        if (status != 0) {
            return status;
        }
    }
    uint32_t i = (uint32_t)(index - loaded->first_index);
    size_t start = i == 0 ? 0 : loaded->ends[i - 1];
    *term = loaded->terms[i];
    buffer_append(payload, bytes_make(loaded->payloads.data + start, loaded->ends[i] - start));
    if (i + 1 == loaded->count) {
        node__loaded_free(shard);
    }
    return 0;
}
