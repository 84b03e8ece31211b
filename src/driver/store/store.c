/* SPDX-License-Identifier: Apache-2.0 */
/* What a failure of the background work means.
 *
 * RocksDB stops writing after a failed flush until it is told to resume. It would resume by itself
 * after some errors; that is switched off, because only one of them may be tried again: a full
 * disk. The table file that did not fit is thrown away and written anew from the rows in memory, so
 * nothing rests on what a failed write or fsync left behind. After any other error (EIO, damaged
 * blocks) the store is failed for good. */
#include "driver/store/store.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/store/store_engine.h"

/* A flush that did nothing meets, when it is tried again, the error that the first one hid. */
#define FLUSH_TRIES_MAX 5
/* An attempt to resume writes as much as fits on a full disk, so they have a distance. */
#define RESUME_INTERVAL_MS 500

struct store {
    struct store_engine *engine;
    pthread_mutex_t lock; /* Of the next three. */
    enum store_health health;
    struct error reason;
    uint64_t trouble_count; /* Background errors, so that one during a flush is not overlooked. */
    pthread_mutex_t flush_lock;    /* One flush or resumption at a time. */
    uint64_t resume_refused_at_ms; /* Under the flush lock. */
    /* Written by the writer, read by who asks for statistics. */
    _Atomic uint64_t refused_write_count;
    _Atomic uint64_t written_batch_count;
};

/* ---- Health ---------------------------------------------------------------------------------- */

static void worsen(struct store *store, int code, const char *message)
{
    enum store_health health = code == -ENOSPC ? STORE_FULL : STORE_FAILED;
    ASSERT(pthread_mutex_lock(&store->lock) == 0);
    store->trouble_count++;
    if (health > store->health) {
        store->health = health;
        (void)error_say(&store->reason, code, "store: %s", message);
    }
    ASSERT(pthread_mutex_unlock(&store->lock) == 0);
}

/* The engine's threads call it. */
static void note_background_error(void *context, int code, const char *message)
{
    worsen(context, code, message);
}

static uint64_t count_trouble(struct store *store)
{
    ASSERT(pthread_mutex_lock(&store->lock) == 0);
    uint64_t count = store->trouble_count;
    ASSERT(pthread_mutex_unlock(&store->lock) == 0);
    return count;
}

/* All is flushed. The store is well again, unless there was more trouble since `trouble_count`. */
static void recover(struct store *store, uint64_t trouble_count)
{
    ASSERT(pthread_mutex_lock(&store->lock) == 0);
    if (store->health == STORE_FULL && store->trouble_count == trouble_count) {
        store->health = STORE_WELL;
        store->reason = (struct error){0};
    }
    ASSERT(pthread_mutex_unlock(&store->lock) == 0);
}

enum store_health store_get_health(struct store *store, struct error *reason)
{
    ASSERT(pthread_mutex_lock(&store->lock) == 0);
    enum store_health health = store->health;
    if (reason != NULL && health != STORE_WELL) {
        *reason = store->reason;
    }
    ASSERT(pthread_mutex_unlock(&store->lock) == 0);
    return health;
}

bool store_is_stalled(const struct store *store)
{
    return store__engine_is_stalled(store->engine);
}

/* ---- Flushing -------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
    struct timespec time;
    ASSERT(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static int resume(struct store *store, const struct error *reason, struct error *error)
{
    if (now_ms() < store->resume_refused_at_ms + RESUME_INTERVAL_MS) {
        return error_say(error, reason->code, "%s", reason->message);
    }
    int status = store__engine_resume(store->engine, error);
    if (status != 0) {
        store->resume_refused_at_ms = now_ms();
    }
    return status;
}

static int flush_once(struct store *store, struct error *error)
{
    struct error reason = {0};
    uint64_t trouble_count = count_trouble(store);
    enum store_health health = store_get_health(store, &reason);
    int status = 0;
    if (health == STORE_FAILED) {
        return error_say(error, reason.code, "%s", reason.message);
    }
    if (health == STORE_FULL) {
        status = resume(store, &reason, error);
    }
    if (status == 0) {
        status = store__engine_flush(store->engine, error);
    }
    if (status == 0) {
        recover(store, trouble_count);
    }
    return status;
}

static int flush_locked(struct store *store, struct error *error)
{
    int status = flush_once(store, error);
    for (int i = 0; i < FLUSH_TRIES_MAX && status == -EAGAIN; i++) {
        status = flush_once(store, error);
    }
    if (status == -EAGAIN) {
        status = error_wrap(error, -EIO, "flushing makes no progress");
    }
    if (status != 0) {
        worsen(store, status, error->message);
    }
    return status;
}

int store_flush(struct store *store, struct error *error)
{
    struct error failure = {0};
    ASSERT(pthread_mutex_lock(&store->flush_lock) == 0);
    int status = flush_locked(store, &failure);
    ASSERT(pthread_mutex_unlock(&store->flush_lock) == 0);
    return status == 0 ? 0 : error_say(error, status, "%s", failure.message);
}

void store_begin_compaction(struct store *store)
{
    store__engine_begin_compaction(store->engine);
}

int store_compact_range(struct store *store, struct bytes lower, struct bytes upper,
                        struct error *error)
{
    return store__engine_compact_range(store->engine, lower, upper, error);
}

uint64_t store_estimate_size_bytes(struct store *store, struct bytes lower, struct bytes upper)
{
    return store__engine_estimate_size_bytes(store->engine, lower, upper);
}

int store_verify(const char *directory, struct error *error)
{
    return store__engine_verify(directory, error);
}

/* ---- The interface --------------------------------------------------------------------------- */

/* Reads go straight to the engine; only a write looks at the store's health. */

static int store_write(void *context, const struct env_change *changes, uint32_t change_count,
                       struct error *error)
{
    struct store *store = context;
    int status = store__engine_ops.write(store->engine, changes, change_count, error);
    if (status == 0) {
        atomic_fetch_add_explicit(&store->written_batch_count, 1, memory_order_relaxed);
        return 0;
    }
    if (status != -EBUSY) {
        worsen(store, status, error != NULL ? error->message : error_text(status));
    }
    if (status == -EBUSY || status == -ENOSPC) {
        atomic_fetch_add_explicit(&store->refused_write_count, 1, memory_order_relaxed);
        status = -EBUSY; /* When the store is full: it will be well again. */
    }
    return status;
}

static int store_get(void *context, const struct env_store_snapshot *snapshot, enum env_tier tier,
                     struct bytes key, struct buffer *value)
{
    struct store *store = context;
    return store__engine_ops.get(store->engine, snapshot, tier, key, value);
}

static void store_get_many(void *context, const struct bytes *keys, uint32_t count,
                           void (*got)(void *got_context, uint32_t position, int status,
                                       struct bytes value),
                           void *got_context)
{
    struct store *store = context;
    store__engine_ops.get_many(store->engine, keys, count, got, got_context);
}

static int store_iterator_open(void *context, const struct env_store_snapshot *snapshot,
                               enum env_tier tier, struct bytes lower, struct bytes upper,
                               struct env_iterator **iterator)
{
    struct store *store = context;
    return store__engine_ops.iterator_open(store->engine, snapshot, tier, lower, upper, iterator);
}

static void store_iterator_close(void *context, struct env_iterator *iterator)
{
    struct store *store = context;
    store__engine_ops.iterator_close(store->engine, iterator);
}

static int store_iterator_seek(void *context, struct env_iterator *iterator, struct bytes key)
{
    struct store *store = context;
    return store__engine_ops.iterator_seek(store->engine, iterator, key);
}

static int store_iterator_next(void *context, struct env_iterator *iterator)
{
    struct store *store = context;
    return store__engine_ops.iterator_next(store->engine, iterator);
}

static struct bytes store_iterator_key(void *context, const struct env_iterator *iterator)
{
    struct store *store = context;
    return store__engine_ops.iterator_key(store->engine, iterator);
}

static struct bytes store_iterator_value(void *context, const struct env_iterator *iterator)
{
    struct store *store = context;
    return store__engine_ops.iterator_value(store->engine, iterator);
}

static struct env_store_snapshot *store_snapshot_create(void *context)
{
    struct store *store = context;
    return store__engine_ops.snapshot_create(store->engine);
}

static void store_snapshot_release(void *context, struct env_store_snapshot *snapshot)
{
    struct store *store = context;
    store__engine_ops.snapshot_release(store->engine, snapshot);
}

static int interface_flush(void *context, struct error *error)
{
    return store_flush(context, error);
}

static const struct env_store_ops store_ops = {
    .get = store_get,
    .get_many = store_get_many,
    .write = store_write,
    .flush = interface_flush,
    .iterator_open = store_iterator_open,
    .iterator_close = store_iterator_close,
    .iterator_seek = store_iterator_seek,
    .iterator_next = store_iterator_next,
    .iterator_key = store_iterator_key,
    .iterator_value = store_iterator_value,
    .snapshot_create = store_snapshot_create,
    .snapshot_release = store_snapshot_release,
};

struct env_store store_interface(struct store *store)
{
    return (struct env_store){.ops = &store_ops, .context = store};
}

void store_get_statistics(struct store *store, struct store_statistics *statistics)
{
    *statistics = (struct store_statistics){0};
    store__engine_get_statistics(store->engine, statistics);
    statistics->refused_write_count =
        atomic_load_explicit(&store->refused_write_count, memory_order_relaxed);
    statistics->written_batch_count =
        atomic_load_explicit(&store->written_batch_count, memory_order_relaxed);
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* Say what is wrong with the directory before RocksDB does so in words of its own. */
static int prepare_directory(const char *directory, struct error *error)
{
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        return error_set(error, -errno, "create the store's directory %s", directory);
    }
    struct stat information;
    if (stat(directory, &information) != 0) {
        return error_set(error, -errno, "the store's directory %s", directory);
    }
    if (!S_ISDIR(information.st_mode)) {
        return error_set(error, -ENOTDIR, "the store's directory %s", directory);
    }
    if (access(directory, R_OK | W_OK | X_OK) != 0) {
        return error_set(error, -errno, "the store's directory %s", directory);
    }
    return 0;
}

/* RocksDB's threads have the mask of who opens it. A signal that came to one of them, while the thread that is to hear
 * it starts another one with all of them blocked, would be handled there. */
static int open_engine(struct store_engine **engine, const struct store_options *options,
                       struct store_engine_listener listener, struct error *error)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    ASSERT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    int status = store__engine_open(engine, options, listener, error);
    ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return status;
}

int store_open(struct store **store, const struct store_options *options, struct error *error)
{
    if (options->write_buffer_size_bytes < STORE_WRITE_BUFFER_SIZE_MIN) {
        return error_set(error, -EINVAL, "the store needs write buffers of at least %d bytes",
                         STORE_WRITE_BUFFER_SIZE_MIN);
    }
    int status = options->is_read_only ? 0 : prepare_directory(options->directory, error);
    if (status != 0) {
        return status;
    }
    struct store *opened = memory_allocate_zeroed(1, sizeof *opened);
    ASSERT(pthread_mutex_init(&opened->lock, NULL) == 0);
    ASSERT(pthread_mutex_init(&opened->flush_lock, NULL) == 0);
    struct store_engine_listener listener = {.context = opened,
                                             .background_error = note_background_error};
    status = open_engine(&opened->engine, options, listener, error);
    if (status != 0) {
        (void)pthread_mutex_destroy(&opened->lock);
        (void)pthread_mutex_destroy(&opened->flush_lock);
        memory_free(opened);
        return error_wrap(error, status, "open the store in %s", options->directory);
    }
    *store = opened;
    return 0;
}

void store_close(struct store *store)
{
    store__engine_close(store->engine);
    ASSERT(pthread_mutex_destroy(&store->lock) == 0);
    ASSERT(pthread_mutex_destroy(&store->flush_lock) == 0);
    memory_free(store);
}
