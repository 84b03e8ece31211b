/* SPDX-License-Identifier: Apache-2.0 */
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/write_buffer_manager.h>

#include "driver/store/store_settings.hh"

namespace
{

/* One is written, two may wait for their flush; when all are full a write is refused. */
constexpr uint32_t write_buffer_count = 3;
/* Flushed buffers that wait before they are merged with the next level. Each merge rewrites that level, so
 * eight in place of four halve what overwriting costs. Sixteen would take another third off flushes and
 * merges together (1.25 to 0.87 us of processor time per row), but a merge then wants twice the room, which
 * a disk that has become full does not have. Twice as many hold up writes: merging has fallen behind. */
constexpr int level0_file_count = 8;
constexpr uint64_t write_buffer_size_max = 64 << 20;

/* RocksDB's messages go nowhere. By default they go to a file beside the rows, and a full disk then
 * ends the process: the second message that cannot be written meets an assertion of RocksDB's. What
 * matters arrives as a status or at the listener. */
class silent_logger : public rocksdb::Logger
{
  public:
    using rocksdb::Logger::Logv;
    void Logv(const char *, va_list) override
    {
    }
    /* None is worth the formatting. */
    rocksdb::InfoLogLevel GetInfoLogLevel() const override
    {
        return rocksdb::InfoLogLevel::NUM_INFO_LOG_LEVELS;
    }
};

rocksdb::BlockBasedTableOptions table_options(const std::shared_ptr<rocksdb::Cache> &cache)
{
    rocksdb::BlockBasedTableOptions table;
    table.block_cache = cache;
    table.cache_index_and_filter_blocks = true;
    table.cache_index_and_filter_blocks_with_high_priority = true;
    table.pin_l0_filter_and_index_blocks_in_cache = true;
    table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
    table.format_version = 5;
    table.checksum = rocksdb::kXXH3;
    return table;
}

void set_write_buffers(rocksdb::Options *target, const struct store_options &options,
                       const std::shared_ptr<rocksdb::Cache> &cache,
                       const std::shared_ptr<store_settings::insertion_hints> &hints)
{
    uint64_t size_bytes = options.write_buffer_size_bytes / write_buffer_count;
    size_bytes = size_bytes < write_buffer_size_max ? size_bytes : write_buffer_size_max;
    target->write_buffer_size = size_bytes;
    target->max_write_buffer_number = write_buffer_count;
    target->write_buffer_manager =
        std::make_shared<rocksdb::WriteBufferManager>(options.write_buffer_size_bytes, cache);
    target->max_bytes_for_level_base = level0_file_count * size_bytes;
    target->level0_file_num_compaction_trigger = level0_file_count;
    target->level0_slowdown_writes_trigger = 2 * level0_file_count;
    target->level0_stop_writes_trigger = 3 * level0_file_count;
    /* Most gets that reach the store are for keys that are new: a filter of whole keys, 1 % of the
     * buffer, answers those. */
    target->memtable_whole_key_filtering = true;
    target->memtable_prefix_bloom_size_ratio = 0.01;
    /* There is one writer, so insertion needs no care for others. Batches are sorted, and so each row is
     * looked for from the place of the one before it, a few steps, not from the top: a quarter off. */
    target->allow_concurrent_memtable_write = false;
    target->memtable_insert_with_hint_prefix_extractor = hints;
}

/* No messages and no periodic statistics of RocksDB's own. */
void set_quiet(rocksdb::Options *target)
{
    target->info_log = std::make_shared<silent_logger>();
    target->stats_dump_period_sec = 0;
    target->stats_persist_period_sec = 0;
}

} // namespace

std::shared_ptr<rocksdb::Logger> store_settings::make_logger()
{
    return std::make_shared<silent_logger>();
}

rocksdb::Options store_settings::make(const struct store_options &options, const parts &parts)
{
    rocksdb::Options made;
    made.create_if_missing = true;
    made.env = parts.env;
    made.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table_options(parts.cache)));
    set_write_buffers(&made, options, parts.cache, parts.hints);
    set_quiet(&made);
    made.compression = rocksdb::kLZ4Compression;
    made.level_compaction_dynamic_level_bytes = true;
    made.max_background_jobs =
        options.background_job_count == 0 ? 2 : static_cast<int>(options.background_job_count);
    made.max_open_files = options.open_file_count_max == 0
                              ? store_settings::open_files_default
                              : static_cast<int>(options.open_file_count_max);
    made.bytes_per_sync = 1 << 20;
    made.skip_stats_update_on_db_open = true;
    made.avoid_unnecessary_blocking_io = true;
    /* A close must not do what only a flush may do: count rows as durable. */
    made.avoid_flush_during_shutdown = true;
    /* Trying again is decided in store.c. */
    made.max_bgerror_resume_count = 0;
    made.listeners.push_back(parts.events);
    made.statistics = parts.statistics;
    made.disable_auto_compactions = options.is_compaction_deferred;
    return made;
}
