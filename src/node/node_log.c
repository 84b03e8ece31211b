/* SPDX-License-Identifier: Apache-2.0 */
/* The log writer: group commit.
 *
 * While one flush is under way, records gather; the next round takes all of them, writes them with
 * one call and flushes once. So the number of flushes follows the speed of the disk and not the
 * load, and nothing else in the process waits for a flush.
 *
 * The thread sleeps on a condition. Whoever submits signals only a sleeping writer: under load the
 * writer finds the next records when it comes back from its flush, and no system call is spent on
 * waking it.
 *
 * A failed flush is final: what the disk holds is unknown, and asking again would be told "all is
 * well" by the kernel (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). The
 * process exits at once, before any reply that might be untrue; the log is read again at the next
 * start. */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_internal.h"

enum {
    FLUSH_INTERVAL_MS = 1000, /* With --flush everysec. */
    IDLE_MS = 20,             /* After so long without work, segments are prepared. */
    OUT_OF_SPACE_RETRY_MS = 100,
    STOP_WITHOUT_SPACE_MS = 3000, /* So long a stop waits for space. */
    RELEASES_MIN = 16,
    ROUNDS_PER_PREPARATION = 16, /* Under load, segments are prepared a piece every so often. */
    SPARE_COUNT_MAX = 1024,      /* Appends. */
};

struct log_append {
    struct list link;
    struct wal_record record;
    uint64_t sequence;
    struct node_log_client *client;
};

/* The store has the shard up to there. */
struct release {
    wal_shard shard;
    raft_index index;
};

struct releases {
    struct release *items;
    uint32_t count;
    uint32_t capacity;
};

struct node_log {
    struct wal *wal;
    bool is_flush_always;
    struct os_log *log;
    struct os_thread *thread;

    _Atomic uint64_t stop_wanted_at_ms; /* 0: it is not. */

    struct list gathered; /* The reactor's, until the end of its tick. */
    struct list spare;    /* The reactor's: appends that are over. */

    struct os_mutex *mutex; /* Over what follows. */
    struct os_condition *condition;
    struct list submitted;
    struct list over; /* Appends whose memory the reactor may use again. */
    uint32_t over_count;
    bool is_sleeping;
    bool is_stopping;
    struct list jobs;
    struct releases releases;
    struct node_log_statistics statistics;
    struct node_log_histograms histograms;

    /* The writer's own. */
    struct list completed; /* Appends; still to be given back. */
    uint64_t round_count;
    uint64_t record_count;
    uint64_t flush_count;
    uint64_t flush_duration_ns_sum;
    uint64_t flush_duration_latest_ns;
    bool is_flush_counted; /* The latest one is among the figures. */
    uint64_t flushed_at_ms;
    uint64_t unflushed_record_count;
    uint64_t unflushed_size_bytes;
    uint64_t batch_record_count; /* Of the latest flush. */
    uint64_t batch_size_bytes;
    uint64_t unflushed_since_ms; /* See struct node_log_statistics. */
    bool has_unflushed;
    bool is_prepared;
    bool is_out_of_space;
};

static _Noreturn void stop_at_once(struct node_log *log, const struct error *error)
{
    OS_LOG_ERROR(log->log, "node.log_failed", "reason=%s consequence=%s action=%s", error->message,
                 "stopped at once; nothing that was not durable was acknowledged",
                 "check the disk, then start again");
    _exit(NODE_EXIT_STORAGE);
}

/* The client sees the sequence: whoever comes second of this and of the loop, which first says that it is
 * not listed and then reads the sequence, finds what the other did. */
static void list_done(struct node_log_client *client)
{
    struct node_log_done *done = client->done;
    if (atomic_exchange(&client->is_listed, true)) {
        return;
    }
    client->next = atomic_load_explicit(&done->first, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&done->first, &client->next, client)) {
    }
}

struct node_log_client *node_log_take_done(struct node_log_done *done)
{
    return atomic_exchange(&done->first, NULL);
}

struct node_log_client *node_log_next_done(struct node_log_client *client)
{
    struct node_log_client *next = client->next;
    (void)atomic_exchange(&client->is_listed, false);
    return next;
}

/* Everything that was written is durable, or is called so in the weaker mode. The appends stay in the list. */
static void complete(struct list *records)
{
    LIST_EACH(member, next_member, records)
    {
        struct log_append *append = LIST_ITEM(member, struct log_append, link);
        struct node_log_client *client = append->client;
        struct node_log_done *done = client->done;
        atomic_store_explicit(&client->durable_sequence, append->sequence, memory_order_release);
        list_done(client);
        bool is_last = next_member == records ||
                       LIST_ITEM(next_member, struct log_append, link)->client->done != done;
        if (is_last) {
            os_wake_signal(done->wake);
        }
    }
}

static void flush(struct node_log *log)
{
    struct error error = {0};
    uint64_t started_ns = os_monotonic_ns();
    if (wal_flush(log->wal, &error) != 0) {
        stop_at_once(log, &error);
    }
    uint64_t ended_ns = os_monotonic_ns();
    log->flush_count++;
    log->flush_duration_latest_ns = ended_ns - started_ns;
    log->flush_duration_ns_sum += log->flush_duration_latest_ns;
    log->flushed_at_ms = ended_ns / 1000000;
    log->batch_record_count = log->unflushed_record_count;
    log->batch_size_bytes = log->unflushed_size_bytes;
    log->unflushed_record_count = 0;
    log->unflushed_size_bytes = 0;
    log->is_flush_counted = false;
    log->unflushed_since_ms = 0;
    log->has_unflushed = false;
}

/* With the mutex held. */
static struct releases take_releases(struct node_log *log)
{
    struct releases taken = log->releases;
    log->releases = (struct releases){0};
    return taken;
}

static void release_all(struct node_log *log, struct releases *releases)
{
    for (uint32_t i = 0; i < releases->count; i++) {
        struct error error = {0};
        const struct release *release = &releases->items[i];
        if (wal_release(log->wal, release->shard, release->index, &error) != 0) {
            stop_at_once(log, &error);
        }
    }
    memory_free(releases->items);
    *releases = (struct releases){0};
}

static void run_jobs(struct node_log *log, struct list *jobs)
{
    for (struct list *member; (member = list_pop_front(jobs)) != NULL;) {
        struct node_log_job *job = LIST_ITEM(member, struct node_log_job, link);
        job->run(job, log->wal);
    }
}

/* What a round found to do. */
struct round {
    struct list records;
    struct list jobs;
    struct releases releases;
    bool is_idle;
    bool is_stopping;
};

static void take_jobs_that_overtake(struct list *jobs, struct list *taken)
{
    LIST_EACH(member, next, jobs)
    {
        if (LIST_ITEM(member, struct node_log_job, link)->may_overtake) {
            list_remove(member);
            list_push_back(taken, member);
        }
    }
}

/* What the log itself holds may be all that is missing: when the store was flushed, release it. What the store
 * lacks may have to be read from the log before. Either may have come in the same round as the records that wait. */
static void serve_while_waiting(struct node_log *log, struct round *round)
{
    struct list jobs;
    list_init(&jobs);
    take_jobs_that_overtake(&round->jobs, &jobs);
    release_all(log, &round->releases);
    os_mutex_lock(log->mutex);
    struct releases releases = take_releases(log);
    take_jobs_that_overtake(&log->jobs, &jobs);
    os_mutex_unlock(log->mutex);
    release_all(log, &releases);
    run_jobs(log, &jobs);
}

/* A quota is as a disk: there may be room again. */
static bool is_no_space(int status)
{
    return status == -ENOSPC || status == -EDQUOT;
}

static bool is_flush_due(const struct node_log *log)
{
    return log->has_unflushed && os_monotonic_ms() - log->flushed_at_ms >= FLUSH_INTERVAL_MS;
}

/* What waits cannot be answered, and a stop must not wait for ever. Nobody was told that it is durable: the
 * next start is as after a kill. */
static void stop_without_space(struct node_log *log, const struct error *reason)
{
    uint64_t wanted_at_ms = atomic_load(&log->stop_wanted_at_ms);
    if (wanted_at_ms == 0 || os_monotonic_ms() - wanted_at_ms < STOP_WITHOUT_SPACE_MS) {
        return;
    }
    if (log->has_unflushed) {
        flush(log); /* What was answered with --flush everysec. */
    }
    stop_at_once(log, reason);
}

/* Until there is space again, the records stay appended and their clients wait. What was answered
 * before does not. */
static void write_when_there_is_space(struct node_log *log, struct round *round)
{
    for (;;) {
        struct error error = {0};
        int status = wal_write(log->wal, &error);
        if (status == 0) {
            break;
        }
        if (!is_no_space(status)) {
            stop_at_once(log, &error);
        }
        if (!log->is_out_of_space) {
            log->is_out_of_space = true;
            OS_LOG_WARN(log->log, "node.log_waits_for_space", "reason=%s action=%s", error.message,
                        "free space on the disk; writing goes on by itself");
            os_mutex_lock(log->mutex);
            log->statistics.is_out_of_space = true;
            os_mutex_unlock(log->mutex);
        }
        stop_without_space(log, &error);
        if (is_flush_due(log)) {
            flush(log);
        }
        os_sleep_ms(OUT_OF_SPACE_RETRY_MS);
        serve_while_waiting(log, round);
    }
    if (log->is_out_of_space) {
        log->is_out_of_space = false;
        OS_LOG_INFO(log->log, "node.log_has_space", "state=%s", "writing again");
    }
}

static void write_round(struct node_log *log, struct round *round)
{
    struct list *records = &round->records;
    LIST_EACH(member, next, records)
    {
        const struct wal_record *record = &LIST_ITEM(member, struct log_append, link)->record;
        wal_append(log->wal, record);
        log->record_count++;
        log->unflushed_record_count++;
        log->unflushed_size_bytes += record->payload.size_bytes;
    }
    write_when_there_is_space(log, round);
    if (!log->is_flush_always && !log->has_unflushed) {
        log->unflushed_since_ms = os_monotonic_ms();
        os_mutex_lock(log->mutex); /* It is known before anybody is answered. */
        log->statistics.unflushed_since_ms = log->unflushed_since_ms;
        os_mutex_unlock(log->mutex);
    }
    log->has_unflushed = true;
    if (log->is_flush_always) {
        flush(log);
    }
    complete(records);
    list_append_all(&log->completed, records);
    log->round_count++;
}

static void prepare(struct node_log *log)
{
    struct error error = {0};
    int status = wal_prepare(log->wal, &log->is_prepared, &error);
    if (is_no_space(status)) {
        log->is_prepared = true; /* Without a spare segment flushes are slower, that is all. */
    } else if (status != 0) {
        stop_at_once(log, &error);
    }
}

static uint64_t sleep_ms(const struct node_log *log)
{
    if (!log->is_prepared) {
        return IDLE_MS;
    }
    return FLUSH_INTERVAL_MS;
}

/* With the mutex held. */
static void publish_figures(struct node_log *log)
{
    wal_get_statistics(log->wal, &log->statistics.wal);
    log->statistics.round_count = log->round_count;
    log->statistics.record_count = log->record_count;
    log->statistics.flush_count = log->flush_count;
    log->statistics.flush_duration_ns_sum = log->flush_duration_ns_sum;
    log->statistics.flush_duration_latest_ns = log->flush_duration_latest_ns;
    log->statistics.unflushed_since_ms = log->unflushed_since_ms;
    log->statistics.is_out_of_space = log->is_out_of_space;
    if (log->flush_count > 0 && !log->is_flush_counted) { /* At most one flush a round. */
        log->is_flush_counted = true;
        histogram_record(&log->histograms.flush_durations_ns, log->flush_duration_latest_ns);
        histogram_record(&log->histograms.batch_record_counts, log->batch_record_count);
        histogram_record(&log->histograms.batch_sizes_bytes, log->batch_size_bytes);
    }
}

/* With the mutex held. Memory that goes to and fro is in the caches, and no other thread's to free. */
static void give_back(struct node_log *log)
{
    for (struct list *member;
         log->over_count < SPARE_COUNT_MAX && (member = list_pop_front(&log->completed)) != NULL;) {
        list_push_front(&log->over, member);
        log->over_count++;
    }
}

static void free_appends(struct list *appends)
{
    for (struct list *member; (member = list_pop_front(appends)) != NULL;) {
        memory_free(LIST_ITEM(member, struct log_append, link));
    }
}

/* Publish the figures, sleep when there is nothing to do, take what there is. */
static void next_round(struct node_log *log, struct round *round)
{
    list_init(&round->records);
    list_init(&round->jobs);
    os_mutex_lock(log->mutex);
    publish_figures(log);
    give_back(log);
    round->is_idle = false;
    if (list_is_empty(&log->submitted) && list_is_empty(&log->jobs) && log->releases.count == 0 &&
        !log->is_stopping) {
        log->is_sleeping = true;
        round->is_idle = !os_condition_wait_for(log->condition, log->mutex, sleep_ms(log));
        log->is_sleeping = false;
    }
    list_append_all(&round->records, &log->submitted);
    list_append_all(&round->jobs, &log->jobs);
    round->releases = take_releases(log);
    round->is_stopping = log->is_stopping;
    os_mutex_unlock(log->mutex);
    free_appends(&log->completed); /* Too many to be kept. */
}

static void run(void *context)
{
    struct node_log *log = context;
    for (;;) {
        struct round round;
        next_round(log, &round);
        if (!list_is_empty(&round.records)) {
            write_round(log, &round);
        } else if (round.is_stopping && list_is_empty(&round.jobs)) {
            break;
        }
        run_jobs(log, &round.jobs);
        if (round.releases.count > 0) {
            release_all(log, &round.releases);
            log->is_prepared = false;
        }
        if (is_flush_due(log)) {
            flush(log);
        }
        if (round.is_idle || log->round_count % ROUNDS_PER_PREPARATION == 0) {
            prepare(log);
        }
    }
    if (log->has_unflushed) {
        flush(log);
    }
}

int node_log_start(struct node_log **log, const struct node_log_options *options,
                   struct error *error)
{
    struct node_log *created = memory_allocate_zeroed(1, sizeof *created);
    created->wal = options->wal;
    created->is_flush_always = options->is_flush_always;
    created->log = options->log;
    created->mutex = os_mutex_create();
    created->condition = os_condition_create();
    list_init(&created->gathered);
    list_init(&created->spare);
    list_init(&created->over);
    list_init(&created->completed);
    list_init(&created->submitted);
    list_init(&created->jobs);
    int status = os_thread_start(&created->thread, "log-writer", run, created, error);
    if (status != 0) {
        os_condition_destroy(created->condition);
        os_mutex_destroy(created->mutex);
        memory_free(created);
        return status;
    }
    *log = created;
    return 0;
}

void node_log_destroy(struct node_log *log)
{
    if (log == NULL) {
        return;
    }
    node_log_submit(log);
    os_mutex_lock(log->mutex);
    log->is_stopping = true;
    os_condition_signal(log->condition);
    os_mutex_unlock(log->mutex);
    os_thread_join(log->thread);
    wal_close(log->wal);
    memory_free(log->releases.items);
    free_appends(&log->spare);
    free_appends(&log->over);
    free_appends(&log->completed);
    os_condition_destroy(log->condition);
    os_mutex_destroy(log->mutex);
    memory_free(log);
}

void node_log_want_stop(struct node_log *log)
{
    atomic_store(&log->stop_wanted_at_ms, os_monotonic_ms());
}

void node_log_append(struct node_log *log, const struct wal_record *record, uint64_t sequence,
                     struct node_log_client *client)
{
    struct list *spare = list_pop_front(&log->spare);
    struct log_append *append =
        spare != NULL ? LIST_ITEM(spare, struct log_append, link) : memory_allocate(sizeof *append);
    append->record = *record;
    append->sequence = sequence;
    append->client = client;
    list_push_back(&log->gathered, &append->link);
}

void node_log_submit(struct node_log *log)
{
    if (list_is_empty(&log->gathered)) {
        return;
    }
    os_mutex_lock(log->mutex);
    list_append_all(&log->submitted, &log->gathered);
    if (list_is_empty(&log->spare)) {
        list_append_all(&log->spare, &log->over);
        log->over_count = 0;
    }
    bool must_wake = log->is_sleeping;
    os_mutex_unlock(log->mutex);
    if (must_wake) {
        os_condition_signal(log->condition);
    }
}

void node_log_submit_job(struct node_log *log, struct node_log_job *job)
{
    os_mutex_lock(log->mutex);
    list_push_back(&log->jobs, &job->link);
    bool must_wake = log->is_sleeping;
    os_mutex_unlock(log->mutex);
    if (must_wake) {
        os_condition_signal(log->condition);
    }
}

void node_log_release(struct node_log *log, wal_shard shard, raft_index index)
{
    os_mutex_lock(log->mutex);
    struct releases *releases = &log->releases;
    for (uint32_t i = 0; i < releases->count && index == 0; i++) {
        if (releases->items[i].shard == shard) {
            releases->items[i].index = 0;
        }
    }
    if (releases->count == releases->capacity) {
        releases->capacity = releases->capacity == 0 ? RELEASES_MIN : 2 * releases->capacity;
        releases->items =
            memory_resize(releases->items, releases->capacity * sizeof releases->items[0]);
    }
    releases->items[releases->count++] = (struct release){.shard = shard, .index = index};
    bool must_wake = log->is_sleeping;
    os_mutex_unlock(log->mutex);
    if (must_wake) {
        os_condition_signal(log->condition);
    }
}

void node_log_get_statistics(struct node_log *log, struct node_log_statistics *statistics)
{
    os_mutex_lock(log->mutex);
    *statistics = log->statistics;
    os_mutex_unlock(log->mutex);
}

void node_log_get_histograms(struct node_log *log, struct node_log_histograms *histograms)
{
    os_mutex_lock(log->mutex);
    *histograms = log->histograms;
    os_mutex_unlock(log->mutex);
}
