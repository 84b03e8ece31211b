/* SPDX-License-Identifier: Apache-2.0 */
/* Room for flushes: compactions stop short of filling the disk. Private to driver/store.
 *
 * A compaction writes its result before it gives back what it merged, and it announces how much it is
 * going to write by having the space reserved. On a small disk that is all there is: a flush beside it
 * then fails, and so does a start after a kill, which has a few kilobytes to write before it may remove
 * what the compaction left behind. So a compaction whose next block would leave less than
 * `kept_free_bytes` fails for want of space, which RocksDB takes back and tries again a second later. */
#ifndef DRIVER_STORE_STORE_SPACE_HH
#define DRIVER_STORE_STORE_SPACE_HH

#include <rocksdb/env.h>
#include <rocksdb/listener.h>

#include <cstdint>
#include <memory>

namespace store_space
{

/* RocksDB tells its listeners why it creates a table, and then creates it in the same thread. A
 * listener passes that on to here. */
void note_creation(rocksdb::TableFileCreationReason reason);

/* The environment of a store, for as long as that is open. */
std::unique_ptr<rocksdb::Env> make_env(uint64_t kept_free_bytes);

} // namespace store_space

#endif
