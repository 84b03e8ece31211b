/* SPDX-License-Identifier: Apache-2.0 */
/* memstore: the ordered store in memory, with the faults of a real one. Layer: core.
 *
 * Implements `struct env_store` for the simulator and for unit tests. It keeps what was flushed
 * apart from what was only written, so that a power loss can take the latter away, and it can be
 * told to refuse writes and to pretend that rows are not in memory.
 *
 * Invariants
 *   I1. A batch is seen whole or not at all, also after memstore_lose_unflushed().
 *   I2. A snapshot or iterator sees the rows as they were when it was made.
 *   I3. Two stores with equal rows have equal hashes, whatever their histories.
 *
 * Everything depends on the seed and the calls alone. A store, with its snapshots and iterators,
 * belongs to one thread. */
#ifndef CORE_MEMSTORE_MEMSTORE_H
#define CORE_MEMSTORE_MEMSTORE_H

#include <stdint.h>

#include "base/bytes/bytes.h"
#include "core/env/env.h"

struct memstore;

/* Give an empty store. `seed` is for the faults and the inner shape. */
struct memstore *memstore_create(uint64_t seed);

/* Every snapshot and iterator must have ended. */
void memstore_destroy(struct memstore *memstore);

/* The interface, valid until destroy. */
struct env_store memstore_interface(struct memstore *memstore);

/* How often operations fail, in per cent of the calls; all zero at first. Fault sites add to them
 * under a simulator: "memstore.busy", "memstore.incomplete". */
struct memstore_faults {
    uint32_t busy_percent;       /* write(): -EBUSY, nothing changed. */
    uint32_t incomplete_percent; /* get, seek, next in the memory tier: ERROR_INCOMPLETE. */
    uint32_t read_error_percent; /* get, seek, next: -EIO. */
    uint32_t full_percent;       /* flush(): -ENOSPC, nothing is durable that was not. */
};
void memstore_set_faults(struct memstore *memstore, struct memstore_faults faults);

/* Make all rows durable. The simulator calls it where the node flushes, and now and then without a
 * reason, as RocksDB does when its write buffer is full. */
void memstore_flush(struct memstore *memstore);

/* Go back to the rows of the last flush: what a kill or a power loss does to a store without a log
 * of its own. No snapshot or iterator may be open. */
void memstore_lose_unflushed(struct memstore *memstore);

/* A hash over all rows with lower <= row < upper (an empty `upper` is no bound). */
uint64_t memstore_hash(const struct memstore *memstore, struct bytes lower, struct bytes upper);

uint64_t memstore_row_count(const struct memstore *memstore);

/* Batches written since the last flush. */
uint64_t memstore_unflushed_batch_count(const struct memstore *memstore);

#endif
