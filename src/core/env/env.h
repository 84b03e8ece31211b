/* SPDX-License-Identifier: Apache-2.0 */
/* env: the only door from a core or a service to the world. Layer: core.
 *
 * Three interfaces, each a table of functions with a context. The node implements them with real
 * files, RocksDB and clocks; the simulator with simulated ones. Cores call nothing else.
 *
 *   struct env_files   the log's directory: plain files, blocking, used by the log writer's thread
 *                      only
 *   struct env_store   ordered rows; reads may come from several threads, writes from one at a time
 *   struct env_clock   time
 *
 * Statuses are those of base/error. Names of files are relative to the directory that the
 * implementation was made for. Everything passed is borrowed for the call unless it says
 * otherwise. */
#ifndef CORE_ENV_ENV_H
#define CORE_ENV_ENV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"

/* ---- Files ----------------------------------------------------------------------------------- */

/* An open file; the implementation's. */
struct env_file;

enum {
    ENV_FILE_CREATE = 1,    /* Create it; -EEXIST when it exists. */
    ENV_FILE_READ_ONLY = 2, /* No write, flush or allocate will follow. */
};

struct env_files_ops {
    /* Give an open file. -ENOENT, -EEXIST, -EACCES, -ENOSPC, … */
    int (*open)(void *context, const char *name, unsigned flags, struct env_file **file,
                struct error *error);
    void (*close)(void *context, struct env_file *file);

    /* Read at `offset` until `size_bytes` or the end of the file; `*read_bytes` says how many. */
    int (*read)(void *context, struct env_file *file, uint64_t offset, void *target,
                size_t size_bytes, size_t *read_bytes, struct error *error);

    /* Write all pieces, one after the other, at `offset`. On failure any part may have been
     * written. Nothing is durable before flush(). */
    int (*write)(void *context, struct env_file *file, uint64_t offset, const struct bytes *pieces,
                 uint32_t piece_count, struct error *error);

    /* Make everything written to the file durable. A failure is final: what the file's unflushed
     * blocks hold is unknown, and the caller must not retry. */
    int (*flush)(void *context, struct env_file *file, struct error *error);

    /* Reserve blocks so that writing the first `size_bytes` cannot fail for want of space, and
     * lengthen the file to that size. -ENOSPC. */
    int (*allocate)(void *context, struct env_file *file, uint64_t size_bytes, struct error *error);
    int (*size)(void *context, struct env_file *file, uint64_t *size_bytes, struct error *error);

    /* Replace `target` by `source` at once. Durable after flush_directory(). */
    int (*rename)(void *context, const char *source, const char *target, struct error *error);
    int (*remove)(void *context, const char *name, struct error *error);
    int (*flush_directory)(void *context, struct error *error);

    /* Call `found` for each regular file of the directory, in ascending order of name. */
    int (*list)(void *context, void (*found)(void *found_context, const char *name),
                void *found_context, struct error *error);
};

struct env_files {
    const struct env_files_ops *ops;
    void *context;
};

/* ---- The ordered store ----------------------------------------------------------------------- */

/* How far a read may go. */
enum env_tier {
    ENV_TIER_MEMORY, /* ERROR_INCOMPLETE instead of reading a disk. */
    ENV_TIER_DISK,   /* Blocks as long as it takes. */
};

enum env_change_kind { ENV_CHANGE_PUT, ENV_CHANGE_DELETE, ENV_CHANGE_DELETE_RANGE };

/* One change of a batch. DELETE_RANGE removes every row with key <= row < value. */
struct env_change {
    enum env_change_kind kind;
    struct bytes key;
    struct bytes value;
};

struct env_store_snapshot; /* The store as it was at one moment. */
struct env_iterator;

struct env_store_ops {
    /* Append the row's value to `value`. -ENOENT when there is no row; ERROR_INCOMPLETE; -EIO or
     * ERROR_CORRUPT when the disk fails. `snapshot` may be NULL: the store as it is. */
    int (*get)(void *context, const struct env_store_snapshot *snapshot, enum env_tier tier,
               struct bytes key, struct buffer *value);

    /* Read many rows, whose keys are in ascending order, as far as they are: calls `got` once for each
     * of them with what get() would say; the value is borrowed for the call. NULL: there is no better
     * way than get(). */
    void (*get_many)(void *context, const struct bytes *keys, uint32_t count,
                     void (*got)(void *got_context, uint32_t position, int status,
                                 struct bytes value),
                     void *got_context);

    /* Apply all changes, in order, at once: after a crash either all or none are there. They are
     * visible to reads when this returns and durable after a flush of the store (until then the log
     * is what makes them durable). -EBUSY: the store would stall; nothing changed, try again
     * later. */
    int (*write)(void *context, const struct env_change *changes, uint32_t change_count,
                 struct error *error);

    /* Make everything written so far durable. Blocks. A failure is final, but for -ENOSPC. */
    int (*flush)(void *context, struct error *error);

    /* Give an iterator over rows with lower <= row < upper (an empty `upper` is no bound), as of
     * `snapshot` or of this moment. It is not positioned. */
    int (*iterator_open)(void *context, const struct env_store_snapshot *snapshot,
                         enum env_tier tier, struct bytes lower, struct bytes upper,
                         struct env_iterator **iterator);
    void (*iterator_close)(void *context, struct env_iterator *iterator);
    /* Move to the first row at or after `key`, or to the next row. 0; -ENOENT at the end;
     * ERROR_INCOMPLETE; -EIO; ERROR_CORRUPT. */
    int (*iterator_seek)(void *context, struct env_iterator *iterator, struct bytes key);
    int (*iterator_next)(void *context, struct env_iterator *iterator);
    /* The row the iterator is at; borrowed until it moves. */
    struct bytes (*iterator_key)(void *context, const struct env_iterator *iterator);
    struct bytes (*iterator_value)(void *context, const struct env_iterator *iterator);

    struct env_store_snapshot *(*snapshot_create)(void *context);
    void (*snapshot_release)(void *context, struct env_store_snapshot *snapshot);
};

struct env_store {
    const struct env_store_ops *ops;
    void *context;
};

/* ---- Time ------------------------------------------------------------------------------------ */

struct env_clock {
    void *context;
    /* Milliseconds that never go back and count the time a machine sleeps; for timers and
     * leases. */
    uint64_t (*now_ms)(void *context);
    /* Milliseconds since 1970; may jump. Only stamps of log entries and expiry look at it. */
    uint64_t (*wall_ms)(void *context);
};

#endif
