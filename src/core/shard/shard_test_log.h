/* SPDX-License-Identifier: Apache-2.0 */
/* shard_test_log: the log of a replica of the tests, for what is read back from it. */
#ifndef CORE_SHARD_SHARD_TEST_LOG_H
#define CORE_SHARD_SHARD_TEST_LOG_H

#include "core/shard/shard_world.h"
#include "core/wal/wal.h"
#include "core/wal/wal_fake.h"

/* A log on the disk with the entries that the replica has made durable, their terms so much later than they are:
 * 0, or it has others. The caller closes it. */
struct wal *shard__test_log(const struct shard__world *world, struct fake_disk *disk,
                            raft_term other_term);

#endif
