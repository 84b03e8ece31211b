/* SPDX-License-Identifier: Apache-2.0 */
/* The one place where C meets RocksDB's C++ interface. Its own C interface has no status codes
 * (only texts), no Resume(), no VerifyChecksum(), no WriteBufferManager, no listeners, and
 * allocates at every get, so it is not used. Here is mechanism; what a failure means is decided in
 * store.c.
 *
 * Statuses are ours: RocksDB's "incomplete" is ERROR_INCOMPLETE for reads and -EBUSY for writes,
 * corruption ERROR_CORRUPT, no space -ENOSPC, any other I/O error -EIO. */
#ifndef DRIVER_STORE_STORE_ENGINE_H
#define DRIVER_STORE_STORE_ENGINE_H

#include "driver/store/store.h"

struct store_engine;

/* How the engine tells of its background work, on threads of its own. */
struct store_engine_listener {
    void *context;
    void (*background_error)(void *context, int code, const char *message);
};

int store__engine_open(struct store_engine **engine, const struct store_options *options,
                       struct store_engine_listener listener, struct error *error);
void store__engine_close(struct store_engine *engine);

/* The context of these is the engine. write() answers -ENOSPC while a background error stands. */
extern const struct env_store_ops store__engine_ops;

/* -EAGAIN: it ended without an error, and without making everything durable. */
int store__engine_flush(struct store_engine *engine, struct error *error);
/* Leave the state after a background error, flushing what could not be flushed. */
int store__engine_resume(struct store_engine *engine, struct error *error);
void store__engine_begin_compaction(struct store_engine *engine);
int store__engine_compact_range(struct store_engine *engine, struct bytes lower, struct bytes upper,
                                struct error *error);
uint64_t store__engine_estimate_size_bytes(struct store_engine *engine, struct bytes lower,
                                           struct bytes upper);
int store__engine_verify(const char *directory, struct error *error);

bool store__engine_is_stalled(const struct store_engine *engine);
void store__engine_get_statistics(struct store_engine *engine, struct store_statistics *statistics);

#endif
