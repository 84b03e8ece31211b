/* SPDX-License-Identifier: Apache-2.0 */
#include "core/shard/shard_test_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { SEGMENT_SIZE_BYTES = 128 << 10 };

struct wal *shard__test_log(const struct shard__world *world, struct fake_disk *disk,
                            raft_term other_term)
{
    struct wal *wal = NULL;
    struct wal_options options = {.files = fake_files(disk),
                                  .segment_size_bytes = SEGMENT_SIZE_BYTES,
                                  .spare_size_bytes_max = 0};
    assert_int_equal(wal_open(&wal, &options, NULL), 0);
    for (raft_index index = world->first_index; index <= world->last_index; index++) {
        struct wal_record record = {.kind = WAL_RECORD_ENTRY,
                                    .shard = world->id,
                                    .index = index,
                                    .term = world->log[index].term + other_term,
                                    .payload = buffer_bytes(&world->log[index].payload)};
        wal_append(wal, &record);
    }
    assert_int_equal(wal_write(wal, NULL), 0);
    assert_int_equal(wal_flush(wal, NULL), 0);
    return wal;
}
