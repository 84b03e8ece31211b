/* SPDX-License-Identifier: Apache-2.0 */
/* RocksDB 7.8 as the node uses it: one column family, no write-ahead log.
 *
 * Memory. The block cache is the one budget: indexes, filters and the write buffers (through a
 * WriteBufferManager) are charged to it. How large buffers are, and all else that is set: store_settings.cc. */
#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/statistics.h>
#include <rocksdb/write_batch.h>

#include <atomic>
#include <chrono>
#include <cinttypes>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#ifdef TUTTI_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

extern "C" {
#include "driver/store/store_engine.h"
}
#include "driver/store/store_settings.hh"
#include "driver/store/store_space.hh"

/* RocksDB takes an object of ours from thread to thread under locks of its own, which the thread
 * sanitizer does not see (tests/tsan.txt). So it is told that each call comes after the construction
 * and before the destruction. What calls do to each other is ours to order. */
#ifdef TUTTI_THREAD_SANITIZER
#define HAPPENS_BEFORE(place) __tsan_release(place)
#define HAPPENS_AFTER(place) __tsan_acquire(place)
#else
#define HAPPENS_BEFORE(place) ((void)(place))
#define HAPPENS_AFTER(place) ((void)(place))
#endif

namespace
{

/* Places of which only the addresses matter. */
struct lifetime {
    char begin;
    char end;
};

constexpr size_t batch_header_bytes = 12;
constexpr size_t batch_kept_bytes = 32 << 20;
constexpr int flush_report_wait_ms = 200;
constexpr int flushes_wait_ms = 10000;
constexpr int background_work_poll_ms = 20;

int code_of(const rocksdb::Status &status)
{
    switch (status.code()) {
    case rocksdb::Status::kOk:
        return 0;
    case rocksdb::Status::kNotFound:
        return -ENOENT;
    case rocksdb::Status::kIncomplete:
        return ERROR_INCOMPLETE;
    case rocksdb::Status::kCorruption:
        return ERROR_CORRUPT;
    case rocksdb::Status::kNotSupported:
        return ERROR_NEWER_FORMAT;
    case rocksdb::Status::kInvalidArgument:
        return -EINVAL;
    case rocksdb::Status::kIOError:
        if (status.subcode() == rocksdb::Status::kNoSpace) {
            return -ENOSPC;
        }
        return -EIO; /* Also when a table file is not there, which is not a row that is not there. */
    default:
        return -EIO;
    }
}

/* RocksDB keeps the reason of an I/O error in its text only. */
int code_at_opening(const rocksdb::Status &status)
{
    std::string text = status.ToString();
    if (text.find("Permission denied") != std::string::npos) {
        return -EACCES;
    }
    if (text.find("lock hold by current process") != std::string::npos ||
        text.find("While lock file") != std::string::npos) {
        return -EBUSY;
    }
    if (status.IsIOError() && status.subcode() == rocksdb::Status::kPathNotFound) {
        return -ENOENT;
    }
    return code_of(status);
}

int report(const rocksdb::Status &status, int code, struct error *error)
{
    return error_say(error, code, "%s", status.ToString().c_str());
}

rocksdb::Slice slice_of(struct bytes bytes)
{
    return rocksdb::Slice(reinterpret_cast<const char *>(bytes.data), bytes.size_bytes);
}

struct bytes bytes_of(const rocksdb::Slice &slice)
{
    return bytes_make(slice.data(), slice.size());
}

/* A call from one of RocksDB's threads into an object of ours. */
class call
{
  public:
    explicit call(struct lifetime &lifetime) : lifetime_(lifetime)
    {
        HAPPENS_AFTER(&lifetime_.begin);
    }
    ~call()
    {
        HAPPENS_BEFORE(&lifetime_.end);
    }
    call(const call &) = delete;
    call &operator=(const call &) = delete;

  private:
    struct lifetime &lifetime_;
};

/* Takes background errors to the store, and keeps RocksDB from resuming on its own. */
class listener : public rocksdb::EventListener
{
  public:
    explicit listener(struct store_engine_listener target) : target_(target)
    {
        HAPPENS_BEFORE(&lifetime_.begin);
    }

    ~listener() override
    {
        HAPPENS_AFTER(&lifetime_.end);
    }

    /* A compaction that finds no room is no reason to stop: it is tried again after a second, and
     * nothing waits for it until level 0 is full of files. Were it one, a flush that had been
     * scheduled before the error and began after it would be forgotten: RocksDB leaves it in its
     * queue without counting it, and takes no other for as long as it is there. A resumption then
     * waits for ever. (BackgroundCompaction counts; BackgroundFlush does not.) */
    void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status *status) override
    {
        call here(lifetime_);
        if (reason == rocksdb::BackgroundErrorReason::kCompaction &&
            status->subcode() == rocksdb::Status::kNoSpace) {
            *status = rocksdb::Status::OK();
            return;
        }
        target_.background_error(target_.context, code_of(*status), status->ToString().c_str());
    }

    void OnTableFileCreationStarted(const rocksdb::TableFileCreationBriefInfo &information) override
    {
        store_space::note_creation(information.reason);
    }

    void OnFlushCompleted(rocksdb::DB *, const rocksdb::FlushJobInfo &information) override
    {
        call here(lifetime_);
        uint64_t seen = flushed_sequence.load(std::memory_order_relaxed);
        while (seen < information.largest_seqno &&
               !flushed_sequence.compare_exchange_weak(seen, information.largest_seqno)) {
        }
    }

    void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status,
                              bool *is_automatic) override
    {
        *is_automatic = false;
    }

    void OnStallConditionsChanged(const rocksdb::WriteStallInfo &information) override
    {
        call here(lifetime_);
        is_stalled.store(information.condition.cur != rocksdb::WriteStallCondition::kNormal,
                         std::memory_order_relaxed);
    }

    std::atomic<bool> is_stalled{false};
    /* Of the newest change that is in a table file. */
    std::atomic<uint64_t> flushed_sequence{0};

  private:
    struct store_engine_listener target_;
    struct lifetime lifetime_ = {};
};

} // namespace

struct store_engine {
    std::shared_ptr<rocksdb::Cache> cache;
    std::shared_ptr<rocksdb::Statistics> statistics;
    std::shared_ptr<listener> events;
    std::shared_ptr<store_settings::insertion_hints> hints;
    std::unique_ptr<rocksdb::Env> env; /* Outlives the database. */
    std::unique_ptr<rocksdb::DB> database;
    rocksdb::ReadOptions read_options[2]; /* By tier. */
    rocksdb::ReadOptions many_options;
    rocksdb::WriteOptions write_options;
    std::atomic<bool> is_compaction_deferred{false};
    /* Kept from write to write, with its memory: pages that are new to the process cost as much as
     * filling them. */
    std::mutex batch_mutex;
    rocksdb::WriteBatch batch;
    size_t batch_capacity_bytes{0};
};

struct env_iterator {
    std::string lower;
    std::string upper;
    rocksdb::Slice lower_bound;
    rocksdb::Slice upper_bound;
    /* Of one that leaves the cache as it is: the first seek of this other one brings the indexes into it,
     * which RocksDB would read again for each iterator. */
    std::unique_ptr<rocksdb::Iterator> first;
    std::unique_ptr<rocksdb::Iterator> inner;
};

namespace
{

/* ---- Reads and writes --------------------------------------------------------------------------
 */

const rocksdb::Snapshot *snapshot_of(const struct env_store_snapshot *snapshot)
{
    return reinterpret_cast<const rocksdb::Snapshot *>(snapshot);
}

int engine_get(void *context, const struct env_store_snapshot *snapshot, enum env_tier tier,
               struct bytes key, struct buffer *value)
{
    auto *engine = static_cast<store_engine *>(context);
    rocksdb::PinnableSlice pinned;
    rocksdb::ColumnFamilyHandle *family = engine->database->DefaultColumnFamily();
    rocksdb::Status status;
    if (snapshot == nullptr) {
        status = engine->database->Get(engine->read_options[tier], family, slice_of(key), &pinned);
    } else {
        rocksdb::ReadOptions options = engine->read_options[tier];
        options.snapshot = snapshot_of(snapshot);
        status = engine->database->Get(options, family, slice_of(key), &pinned);
    }
    if (!status.ok()) {
        return code_of(status);
    }
    /* A table file that is not open cannot be read without blocking. RocksDB then says "found", and
     * gives no value (TableCache::Get takes every such read for KeyMayExist). Files are opened as they
     * are needed, beyond the first few, so that is every large store after its start. A row that is
     * really empty pays with a read that may block. */
    if (tier == ENV_TIER_MEMORY && pinned.empty()) {
        return ERROR_INCOMPLETE;
    }
    buffer_append(value, bytes_of(pinned));
    return 0;
}

/* RocksDB looks so many keys up together: it asks the filters of all of them before it looks at blocks,
 * and at each block once for all rows in it. */
constexpr uint32_t get_many_count = 32;

void get_some(store_engine *engine, const struct bytes *keys, uint32_t count,
              rocksdb::PinnableSlice *values, rocksdb::Status *statuses)
{
    rocksdb::Slice slices[get_many_count];
    for (uint32_t i = 0; i < count; i++) {
        slices[i] = slice_of(keys[i]);
        values[i].Reset();
    }
    engine->database->MultiGet(engine->many_options, engine->database->DefaultColumnFamily(), count,
                               slices, values, statuses, true);
}

void engine_get_many(void *context, const struct bytes *keys, uint32_t count,
                     void (*got)(void *got_context, uint32_t position, int status,
                                 struct bytes value),
                     void *got_context)
{
    rocksdb::PinnableSlice values[get_many_count];
    rocksdb::Status statuses[get_many_count];
    for (uint32_t first = 0; first < count; first += get_many_count) {
        uint32_t some = count - first < get_many_count ? count - first : get_many_count;
        get_some(static_cast<store_engine *>(context), keys + first, some, values, statuses);
        for (uint32_t i = 0; i < some; i++) {
            int status = code_of(statuses[i]);
            got(got_context, first + i, status,
                status == 0 ? bytes_of(values[i]) : (struct bytes){});
        }
    }
}

rocksdb::Status batch_add(rocksdb::WriteBatch *batch, const struct env_change &change)
{
    switch (change.kind) {
    case ENV_CHANGE_PUT:
        return batch->Put(slice_of(change.key), slice_of(change.value));
    case ENV_CHANGE_DELETE:
        return batch->Delete(slice_of(change.key));
    case ENV_CHANGE_DELETE_RANGE:
        return batch->DeleteRange(slice_of(change.key), slice_of(change.value));
    }
    return rocksdb::Status::InvalidArgument("unknown kind of change");
}

/* What RocksDB adds to a change: its kind and two lengths. */
constexpr size_t change_overhead_bytes = 1 + 5 + 5;

/* A batch of tens of megabytes must not grow by doubling. */
size_t size_of(const struct env_change *changes, uint32_t change_count)
{
    size_t size_bytes = batch_header_bytes;
    for (uint32_t i = 0; i < change_count; i++) {
        size_bytes +=
            changes[i].key.size_bytes + changes[i].value.size_bytes + change_overhead_bytes;
    }
    return size_bytes;
}

int engine_write(void *context, const struct env_change *changes, uint32_t change_count,
                 struct error *error)
{
    auto *engine = static_cast<store_engine *>(context);
    rocksdb::Status status;
    if (engine->events->is_stalled.load(std::memory_order_relaxed)) {
        /* Ask before making a batch in vain. */
        rocksdb::WriteBatch nothing;
        status = engine->database->Write(engine->write_options, &nothing);
        if (status.IsIncomplete()) {
            return report(status, -EBUSY, error);
        }
    }
    std::lock_guard<std::mutex> lock(engine->batch_mutex);
    rocksdb::WriteBatch &batch = engine->batch;
    size_t size_bytes = size_of(changes, change_count);
    if (size_bytes > engine->batch_capacity_bytes) {
        engine->batch_capacity_bytes = size_bytes + size_bytes / 8;
        batch = rocksdb::WriteBatch(engine->batch_capacity_bytes);
    }
    batch.Clear();
    for (uint32_t i = 0; i < change_count && status.ok(); i++) {
        status = batch_add(&batch, changes[i]);
    }
    engine->hints->are_used.store(!batch.HasDeleteRange(), std::memory_order_relaxed);
    if (status.ok()) {
        status = engine->database->Write(engine->write_options, &batch);
    }
    if (engine->batch_capacity_bytes > batch_kept_bytes) {
        engine->batch_capacity_bytes = 0;
        batch = rocksdb::WriteBatch();
    }
    if (status.ok()) {
        return 0;
    }
    return report(status, status.IsIncomplete() ? -EBUSY : code_of(status), error);
}

/* ---- Iterators and snapshots -------------------------------------------------------------------
 */

int engine_iterator_open(void *context, const struct env_store_snapshot *snapshot,
                         enum env_tier tier, struct bytes lower, struct bytes upper,
                         struct env_iterator **iterator)
{
    auto *engine = static_cast<store_engine *>(context);
    auto opened = std::make_unique<env_iterator>();
    opened->lower = slice_of(lower).ToString();
    opened->upper = slice_of(upper).ToString();
    opened->lower_bound = opened->lower;
    opened->upper_bound = opened->upper;
    rocksdb::ReadOptions options = engine->read_options[tier];
    options.snapshot = snapshot_of(snapshot);
    options.iterate_lower_bound = lower.size_bytes == 0 ? nullptr : &opened->lower_bound;
    options.iterate_upper_bound = upper.size_bytes == 0 ? nullptr : &opened->upper_bound;
    /* Rows that are passed once, as to count them or to find those to remove, which had not been in
     * memory: a million of them must not push out what is read again. */
    if (snapshot == nullptr && tier == ENV_TIER_DISK) {
        opened->first.reset(engine->database->NewIterator(options));
        options.fill_cache = false;
    }
    opened->inner.reset(engine->database->NewIterator(options));
    if (!opened->inner->status().ok()) {
        return code_of(opened->inner->status());
    }
    *iterator = opened.release();
    return 0;
}

void engine_iterator_close(void *, struct env_iterator *iterator)
{
    delete iterator;
}

int iterator_status(const struct env_iterator *iterator)
{
    if (iterator->inner->Valid()) {
        return 0;
    }
    int code = code_of(iterator->inner->status());
    return code == 0 ? -ENOENT : code;
}

int engine_iterator_seek(void *, struct env_iterator *iterator, struct bytes key)
{
    if (iterator->first != nullptr) {
        iterator->first->Seek(slice_of(key));
        iterator->first.reset(); /* What it failed at, the other one meets, too. */
    }
    iterator->inner->Seek(slice_of(key));
    return iterator_status(iterator);
}

int engine_iterator_next(void *, struct env_iterator *iterator)
{
    iterator->inner->Next();
    return iterator_status(iterator);
}

struct bytes engine_iterator_key(void *, const struct env_iterator *iterator)
{
    return bytes_of(iterator->inner->key());
}

struct bytes engine_iterator_value(void *, const struct env_iterator *iterator)
{
    return bytes_of(iterator->inner->value());
}

struct env_store_snapshot *engine_snapshot_create(void *context)
{
    auto *engine = static_cast<store_engine *>(context);
    return reinterpret_cast<struct env_store_snapshot *>(
        const_cast<rocksdb::Snapshot *>(engine->database->GetSnapshot()));
}

void engine_snapshot_release(void *context, struct env_store_snapshot *snapshot)
{
    auto *engine = static_cast<store_engine *>(context);
    engine->database->ReleaseSnapshot(snapshot_of(snapshot));
}

uint64_t property(rocksdb::DB *database, const std::string &name)
{
    uint64_t value = 0;
    return database->GetIntProperty(name, &value) ? value : 0;
}

} // namespace

extern "C" {

const struct env_store_ops store__engine_ops = {
    engine_get,
    engine_get_many,
    engine_write,
    nullptr, /* store_flush() does it. */
    engine_iterator_open,
    engine_iterator_close,
    engine_iterator_seek,
    engine_iterator_next,
    engine_iterator_key,
    engine_iterator_value,
    engine_snapshot_create,
    engine_snapshot_release,
};

/* ---- Opening, flushing, verifying --------------------------------------------------------------
 */

int store__engine_open(struct store_engine **engine, const struct store_options *options,
                       struct store_engine_listener target, struct error *error)
{
    auto opened = std::make_unique<store_engine>();
    opened->cache = rocksdb::NewLRUCache(options->cache_size_bytes);
    /* Counters only, which are per core; timers would look at the clock in every read. */
    opened->statistics = rocksdb::CreateDBStatistics();
    opened->statistics->set_stats_level(rocksdb::StatsLevel::kExceptHistogramOrTimers);
    opened->events = std::make_shared<listener>(target);
    opened->hints = std::make_shared<store_settings::insertion_hints>();
    /* What a flush of everything in memory takes. */
    opened->env = store_space::make_env(options->write_buffer_size_bytes);
    opened->read_options[ENV_TIER_MEMORY].read_tier = rocksdb::kBlockCacheTier;
    opened->read_options[ENV_TIER_DISK].read_tier = rocksdb::kReadAllTier;
    opened->many_options.read_tier = rocksdb::kReadAllTier;
    /* In order of key a block is met once; making it part of the cache costs more than reading it. */
    opened->many_options.fill_cache = false;
    opened->write_options.disableWAL = true;
    opened->write_options.no_slowdown = true;
    rocksdb::DB *database = nullptr;
    rocksdb::Options made =
        store_settings::make(*options, {opened->env.get(), opened->cache, opened->hints,
                                        opened->events, opened->statistics});
    opened->is_compaction_deferred = options->is_compaction_deferred;
    rocksdb::Status status;
    if (options->is_read_only) {
        made.create_if_missing = false;
        status = rocksdb::DB::OpenForReadOnly(made, options->directory, &database);
    } else {
        status = rocksdb::DB::Open(made, options->directory, &database);
    }
    if (!status.ok()) {
        return report(status, code_at_opening(status), error);
    }
    opened->database.reset(database);
    opened->events->flushed_sequence = database->GetLatestSequenceNumber();
    *engine = opened.release();
    return 0;
}

void store__engine_close(struct store_engine *engine)
{
    delete engine;
}

int store__engine_flush(struct store_engine *engine, struct error *error)
{
    rocksdb::FlushOptions options;
    options.wait = true;
    /* Otherwise the flush waits as long as the buffers are full, which only a flush can change. */
    options.allow_write_stall = true;
    uint64_t sequence = engine->database->GetLatestSequenceNumber();
    rocksdb::Status status = engine->database->Flush(options);
    if (!status.ok()) {
        return report(status, code_of(status), error);
    }
    /* RocksDB says so, too, of a flush during which another one failed for want of space, and keeps
     * the rows in memory. So its word is compared with what the listener saw. */
    for (int i = 0; i < flush_report_wait_ms; i++) {
        if (engine->events->flushed_sequence.load(std::memory_order_acquire) >= sequence) {
            return 0;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return error_say(error, -EAGAIN, "a flush to change %" PRIu64 " ended at change %" PRIu64,
                     sequence, engine->events->flushed_sequence.load());
}

/* After a failed flush RocksDB's thread sleeps for a second and then looks whether to go on. A
 * resumption that begins meanwhile may wait for ever for a flush that nobody schedules. */
static void wait_for_flushes(struct store_engine *engine)
{
    for (int i = 0; i < flushes_wait_ms / background_work_poll_ms; i++) {
        if (property(engine->database.get(), rocksdb::DB::Properties::kNumRunningFlushes) == 0) {
            return;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(background_work_poll_ms));
    }
}

/* Resume() waits for flushes, and RocksDB may forget to start one: after an error nothing looks at its
 * queue until the next occasion. Letting background work pause and go on is such an occasion. */
static void keep_background_work_going(rocksdb::DB *database, const std::atomic<bool> &is_done)
{
    while (!is_done.load()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(background_work_poll_ms));
        (void)database->PauseBackgroundWork();
        (void)database->ContinueBackgroundWork();
    }
}

int store__engine_resume(struct store_engine *engine, struct error *error)
{
    wait_for_flushes(engine);
    std::atomic<bool> is_done{false};
    std::thread helper;
    try {
        helper =
            std::thread(keep_background_work_going, engine->database.get(), std::cref(is_done));
    } catch (const std::system_error &) {
        return error_say(error, -ENOSPC, "there is no thread to resume with; it is tried again");
    }
    rocksdb::Status status = engine->database->Resume();
    is_done.store(true);
    helper.join();
    return status.ok() ? 0 : report(status, code_of(status), error);
}

void store__engine_begin_compaction(struct store_engine *engine)
{
    if (engine->is_compaction_deferred.exchange(false)) {
        /* That the file of options cannot be written, for want of space perhaps, does not matter. */
        (void)engine->database->EnableAutoCompaction({engine->database->DefaultColumnFamily()});
    }
}

int store__engine_compact_range(struct store_engine *engine, struct bytes lower, struct bytes upper,
                                struct error *error)
{
    rocksdb::CompactRangeOptions options;
    /* On a full disk compactions fail and are tried again at once; one that waits for its turn beside
     * them may never get it. */
    options.exclusive_manual_compaction = true;
    rocksdb::Slice first = slice_of(lower);
    rocksdb::Slice last = slice_of(upper);
    rocksdb::Status status = engine->database->CompactRange(
        options, lower.size_bytes == 0 ? nullptr : &first, upper.size_bytes == 0 ? nullptr : &last);
    return status.ok() ? 0 : report(status, code_of(status), error);
}

uint64_t store__engine_estimate_size_bytes(struct store_engine *engine, struct bytes lower,
                                           struct bytes upper)
{
    rocksdb::SizeApproximationOptions options;
    options.include_memtables = true;
    options.include_files = true;
    rocksdb::Range range(slice_of(lower), slice_of(upper));
    uint64_t size_bytes = 0;
    rocksdb::Status status = engine->database->GetApproximateSizes(
        options, engine->database->DefaultColumnFamily(), &range, 1, &size_bytes);
    return status.ok() ? size_bytes : 0;
}

int store__engine_verify(const char *directory, struct error *error)
{
    rocksdb::Options options;
    options.info_log = store_settings::make_logger();
    options.max_open_files = store_settings::open_files_default;
    rocksdb::DB *opened = nullptr;
    rocksdb::Status status = rocksdb::DB::OpenForReadOnly(options, directory, &opened);
    std::unique_ptr<rocksdb::DB> database(opened);
    if (!status.ok()) {
        return report(status, code_at_opening(status), error);
    }
    status = database->VerifyChecksum();
    return status.ok() ? 0 : report(status, code_of(status), error);
}

bool store__engine_is_stalled(const struct store_engine *engine)
{
    return engine->events->is_stalled.load(std::memory_order_relaxed);
}

void store__engine_get_statistics(struct store_engine *engine, struct store_statistics *statistics)
{
    using properties = rocksdb::DB::Properties;
    rocksdb::DB *database = engine->database.get();
    statistics->write_buffer_size_bytes = property(database, properties::kCurSizeAllMemTables);
    statistics->cache_used_bytes = engine->cache->GetUsage();
    statistics->table_size_bytes = property(database, properties::kTotalSstFilesSize);
    statistics->row_count_estimate = property(database, properties::kEstimateNumKeys);
    statistics->pending_compaction_bytes =
        property(database, properties::kEstimatePendingCompactionBytes);
    statistics->running_compaction_count = property(database, properties::kNumRunningCompactions);
    statistics->running_flush_count = property(database, properties::kNumRunningFlushes);
    statistics->background_error_count = property(database, properties::kBackgroundErrors);
    if (engine->statistics != nullptr) {
        statistics->cache_hit_count = engine->statistics->getTickerCount(rocksdb::BLOCK_CACHE_HIT);
        statistics->cache_miss_count =
            engine->statistics->getTickerCount(rocksdb::BLOCK_CACHE_MISS);
    }
    for (int level = 0; level < database->NumberLevels(); level++) {
        std::string count;
        if (database->GetProperty(properties::kNumFilesAtLevelPrefix + std::to_string(level),
                                  &count)) {
            statistics->table_count += std::stoull(count);
        }
    }
}

} /* extern "C" */
