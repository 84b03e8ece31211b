/* SPDX-License-Identifier: Apache-2.0 */
/* wal_fake: a directory in memory that fails as disks do, for the tests of the log.
 *
 * It knows what is durable and what is not: a power loss keeps or loses each unflushed sector of
 * 512 bytes by itself, tears some, and undoes unflushed changes of the directory from the newest
 * back. It fails operations when told, runs full, and lets tests damage what it holds. */
#ifndef CORE_WAL_WAL_FAKE_H
#define CORE_WAL_WAL_FAKE_H

#include "base/random/random.h"
#include "core/env/env.h"

struct fake_disk;

struct fake_disk *fake_create(uint64_t seed);
void fake_destroy(struct fake_disk *disk);
struct env_files fake_files(struct fake_disk *disk);

/* Fail operation number `countdown` from now (1: the next) with `status`, and all after it when
 * `is_for_good`. A failing write leaves some of its sectors written. Reads and closes do not
 * count. */
void fake_fail_after(struct fake_disk *disk, uint32_t countdown, int status, bool is_for_good);
/* Whether the failure happened. */
bool fake_has_failed(const struct fake_disk *disk);
void fake_stop_failing(struct fake_disk *disk);
/* The bytes that files may allocate in all. */
void fake_set_capacity(struct fake_disk *disk, uint64_t capacity_bytes);

/* Lose what was not flushed. All files must be closed. */
void fake_lose_power(struct fake_disk *disk);

/* Look at or change a file's bytes, durably; NULL when there is no such file. */
uint8_t *fake_bytes(struct fake_disk *disk, const char *name, size_t *size_bytes);
/* Add a file with durable bytes. */
void fake_add_file(struct fake_disk *disk, const char *name, const void *bytes, size_t size_bytes);
void fake_remove_file(struct fake_disk *disk, const char *name);
/* Make everything durable as it is. */
void fake_settle(struct fake_disk *disk);
uint32_t fake_file_count(const struct fake_disk *disk);
/* Files opened and not closed. */
uint32_t fake_open_count(const struct fake_disk *disk);

#endif
