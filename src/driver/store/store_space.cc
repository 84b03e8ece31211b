/* SPDX-License-Identifier: Apache-2.0 */
/* RocksDB calls what is here under locks of its own, which the thread sanitizer does not see
 * (tests/tsan.txt). More than that, the functions of RocksDB's headers that are compiled with it take
 * the place of the library's own, also where only RocksDB is at work. So nothing of this file is
 * looked at; it shares nothing but a constant. */
#ifdef TUTTI_THREAD_SANITIZER
#pragma clang attribute push(__attribute__((no_sanitize("thread"))), apply_to = function)
#endif

#include "driver/store/store_space.hh"

#include <rocksdb/file_system.h>

#include <string>
#include <utility>

namespace
{

thread_local bool is_compaction_next;

/* A table that a compaction writes. */
class merged_table : public rocksdb::FSWritableFileOwnerWrapper
{
  public:
    merged_table(std::unique_ptr<rocksdb::FSWritableFile> &&file, std::string name,
                 rocksdb::FileSystem *files, uint64_t kept_free_bytes)
        : rocksdb::FSWritableFileOwnerWrapper(std::move(file)), name_(std::move(name)),
          files_(files), kept_free_bytes_(kept_free_bytes)
    {
    }

    rocksdb::IOStatus Append(const rocksdb::Slice &data, const rocksdb::IOOptions &options,
                             rocksdb::IODebugContext *context) override
    {
        return has_room(data.size()) ? target()->Append(data, options, context) : refusal();
    }

    rocksdb::IOStatus Append(const rocksdb::Slice &data, const rocksdb::IOOptions &options,
                             const rocksdb::DataVerificationInfo &verification,
                             rocksdb::IODebugContext *context) override
    {
        return has_room(data.size()) ? target()->Append(data, options, verification, context)
                                     : refusal();
    }

    /* Reserves the whole table's space at the first write. Nothing is lost without. */
    void PrepareWrite(size_t offset, size_t size_bytes, const rocksdb::IOOptions &options,
                      rocksdb::IODebugContext *context) override
    {
        size_t block_size_bytes;
        size_t block_count;
        target()->GetPreallocationStatus(&block_size_bytes, &block_count);
        if (has_room(2 * block_size_bytes + size_bytes)) {
            target()->PrepareWrite(offset, size_bytes, options, context);
        }
    }

  private:
    /* RocksDB writes up to a megabyte at a time, beside which a question to the file system is
     * nothing. */
    bool has_room(uint64_t size_bytes) const
    {
        uint64_t free_bytes;
        rocksdb::IOStatus status =
            files_->GetFreeSpace(name_, rocksdb::IOOptions(), &free_bytes, nullptr);
        return !status.ok() || free_bytes >= size_bytes + kept_free_bytes_;
    }

    rocksdb::IOStatus refusal() const
    {
        return rocksdb::IOStatus::NoSpace("merging would leave too little space for flushes",
                                          name_);
    }

    std::string name_;
    rocksdb::FileSystem *files_;
    uint64_t kept_free_bytes_;
};

class careful_files : public rocksdb::FileSystemWrapper
{
  public:
    explicit careful_files(uint64_t kept_free_bytes)
        : rocksdb::FileSystemWrapper(rocksdb::FileSystem::Default()),
          kept_free_bytes_(kept_free_bytes)
    {
    }

    const char *Name() const override
    {
        return "careful";
    }

    rocksdb::IOStatus NewWritableFile(const std::string &name, const rocksdb::FileOptions &options,
                                      std::unique_ptr<rocksdb::FSWritableFile> *file,
                                      rocksdb::IODebugContext *context) override
    {
        bool is_merged = std::exchange(is_compaction_next, false);
        rocksdb::IOStatus status = target()->NewWritableFile(name, options, file, context);
        if (status.ok() && is_merged) {
            *file =
                std::make_unique<merged_table>(std::move(*file), name, target(), kept_free_bytes_);
        }
        return status;
    }

  private:
    uint64_t kept_free_bytes_;
};

} // namespace

void store_space::note_creation(rocksdb::TableFileCreationReason reason)
{
    is_compaction_next = reason == rocksdb::TableFileCreationReason::kCompaction;
}

std::unique_ptr<rocksdb::Env> store_space::make_env(uint64_t kept_free_bytes)
{
    return rocksdb::NewCompositeEnv(std::make_shared<careful_files>(kept_free_bytes));
}

#ifdef TUTTI_THREAD_SANITIZER
#pragma clang attribute pop
#endif
