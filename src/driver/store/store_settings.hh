/* SPDX-License-Identifier: Apache-2.0 */
/* How RocksDB is set for the node: buffers, levels, filters, and why. Private to driver/store. */
#ifndef DRIVER_STORE_STORE_SETTINGS_HH
#define DRIVER_STORE_STORE_SETTINGS_HH

#include <rocksdb/cache.h>
#include <rocksdb/env.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/statistics.h>

#include <atomic>
#include <memory>

extern "C" {
#include "driver/store/store.h"
}

namespace store_settings
{

constexpr int open_files_default = 512;

/* Which rows are inserted from the place where the one before was: all, but for batches that delete a range.
 * RocksDB keeps one place for each prefix and buffer, though a buffer keeps its ranges in a list apart, and
 * a place in the one list is none in the other (MemTable::Add). Asked by whoever writes the batch. */
class insertion_hints : public rocksdb::SliceTransform
{
  public:
    const char *Name() const override
    {
        return "tutti.insertion_hints";
    }
    rocksdb::Slice Transform(const rocksdb::Slice &key) const override
    {
        return rocksdb::Slice(key.data(), 0);
    }
    bool InDomain(const rocksdb::Slice &) const override
    {
        return are_used.load(std::memory_order_relaxed);
    }

    std::atomic<bool> are_used{true};
};

/* What an open store has for RocksDB. `env` is borrowed, and outlives the database. */
struct parts {
    rocksdb::Env *env;
    std::shared_ptr<rocksdb::Cache> cache;
    std::shared_ptr<insertion_hints> hints;
    std::shared_ptr<rocksdb::EventListener> events;
    std::shared_ptr<rocksdb::Statistics> statistics;
};

/* It says nothing. */
std::shared_ptr<rocksdb::Logger> make_logger();

rocksdb::Options make(const struct store_options &options, const parts &parts);

} // namespace store_settings

#endif
