/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk under the log: one directory of files.
 *
 * Every file has three images, cut into sectors of 512 bytes:
 *   cache     what a running process reads: every write, at once;
 *   durable   what is on the platter: what flush() carried there;
 *   previous  what the sector held on the platter before, for a write that went astray.
 * Between two flushes each write leaves one version of each sector it touches. A power loss picks,
 * for each sector, the durable content or any of those versions, so what was not flushed is lost,
 * torn or reordered, never mixed within a sector. A killed process loses nothing that it wrote: the
 * cache belongs to the system.
 *
 * The directory is kept the same way: names as processes see them, names on the platter, and the
 * list of changes in between, of which a power loss keeps a prefix or, on a harsher disk, any
 * subset.
 *
 * Damage (bit rot, writes that went astray) is done to a stopped disk, and only to sectors that a
 * later round of the log writer has followed: see sim__disk_damage(). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "sim/sim_disk.h"

enum {
    SECTOR_SIZE = SIM__SECTOR_SIZE,
    BLOCK_SIZE = 4096,
    NAME_SIZE_MAX = SIM__NAME_SIZE_MAX,
};

struct version {
    uint32_t sector;
    uint8_t data[SECTOR_SIZE];
};

struct sim__inode {
    uint32_t number;
    uint32_t open_count;
    uint64_t size_bytes;
    uint64_t durable_size_bytes;
    uint64_t allocated_bytes; /* Of each image; a multiple of BLOCK_SIZE. */
    uint8_t *cache;
    uint8_t *durable;
    uint8_t *previous;
    uint64_t *rounds; /* Of each sector: the writer's round that made it durable, 0 for none. */
    struct version *versions;
    uint32_t version_count;
    uint32_t version_capacity;
};

struct env_file {
    struct sim__inode *inode;
    uint32_t generation; /* Of the disk when it was opened: a crash ends all open files. */
    bool is_read_only;
};

/* How to undo one damage. */
struct damage {
    struct sim__inode *inode;
    uint32_t sector;
    uint8_t data[SECTOR_SIZE];
};

struct sim__disk {
    struct sim__disk_options options;
    struct random *random;
    struct sim__inode **inodes;
    uint32_t inode_count;
    uint32_t inode_capacity;
    uint32_t inode_number;
    struct sim__directory seen;
    struct sim__directory durable;
    struct sim__change *changes;
    uint32_t change_count;
    uint32_t change_capacity;
    struct damage *damages;
    uint32_t damage_count;
    uint32_t generation;
    uint64_t round;
    uint32_t flush_error_count;
    bool is_full;
};

static void grow(void **items, uint32_t *capacity, uint32_t count, size_t item_size_bytes)
{
    if (count == *capacity) {
        *capacity = *capacity == 0 ? 16 : *capacity * 2;
        *items = memory_resize(*items, *capacity * item_size_bytes);
    }
}

static void change_directory(struct sim__disk *disk, const struct sim__change *change)
{
    sim__directory_apply(&disk->seen, change);
    grow((void **)&disk->changes, &disk->change_capacity, disk->change_count,
         sizeof(struct sim__change));
    disk->changes[disk->change_count++] = *change;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static struct sim__inode *inode_create(struct sim__disk *disk)
{
    struct sim__inode *inode = memory_allocate_zeroed(1, sizeof *inode);
    inode->number = ++disk->inode_number;
    grow((void **)&disk->inodes, &disk->inode_capacity, disk->inode_count,
         sizeof(struct sim__inode *));
    disk->inodes[disk->inode_count++] = inode;
    return inode;
}

static void inode_destroy(struct sim__inode *inode)
{
    memory_free(inode->cache);
    memory_free(inode->durable);
    memory_free(inode->previous);
    memory_free(inode->rounds);
    memory_free(inode->versions);
    memory_free(inode);
}

/* What was damaged in these sectors was written over, or is gone. */
static void forget_damage(struct sim__disk *disk, const struct sim__inode *inode,
                          uint64_t first_sector, uint64_t end_sector)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < disk->damage_count; i++) {
        const struct damage *damage = &disk->damages[i];
        if (damage->inode != inode || damage->sector < first_sector ||
            damage->sector >= end_sector) {
            disk->damages[kept++] = *damage;
        }
    }
    disk->damage_count = kept;
}

/* Free the files that nothing can reach any more. */
static void forget_unreachable(struct sim__disk *disk)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < disk->inode_count; i++) {
        struct sim__inode *inode = disk->inodes[i];
        bool is_reachable = inode->open_count > 0 || sim__directory_has(&disk->seen, inode) ||
                            sim__directory_has(&disk->durable, inode);
        for (uint32_t k = 0; k < disk->change_count && !is_reachable; k++) {
            is_reachable = disk->changes[k].inode == inode;
        }
        if (is_reachable) {
            disk->inodes[kept++] = inode;
        } else {
            forget_damage(disk, inode, 0, UINT32_MAX);
            inode_destroy(inode);
        }
    }
    disk->inode_count = kept;
}

static uint64_t used_bytes(const struct sim__disk *disk)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < disk->inode_count; i++) {
        const struct sim__inode *inode = disk->inodes[i];
        if (inode->open_count > 0 || sim__directory_has(&disk->seen, inode)) {
            used += inode->allocated_bytes;
        }
    }
    return used;
}

static uint8_t *image_grow(uint8_t *image, uint64_t before, uint64_t after)
{
    image = memory_resize(image, after);
    memset(image + before, 0, after - before);
    return image;
}

/* Give the file blocks for its first `size_bytes`; false when the disk has none left. */
static bool inode_reserve(struct sim__disk *disk, struct sim__inode *inode, uint64_t size_bytes)
{
    uint64_t before = inode->allocated_bytes;
    if (size_bytes <= before) {
        return true;
    }
    uint64_t after = (size_bytes + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;
    if (disk->is_full || used_bytes(disk) + after - before > disk->options.capacity_bytes) {
        return false;
    }
    inode->cache = image_grow(inode->cache, before, after);
    inode->durable = image_grow(inode->durable, before, after);
    inode->previous = image_grow(inode->previous, before, after);
    inode->rounds = (uint64_t *)(void *)image_grow((uint8_t *)inode->rounds,
                                                   before / SECTOR_SIZE * sizeof(uint64_t),
                                                   after / SECTOR_SIZE * sizeof(uint64_t));
    inode->allocated_bytes = after;
    return true;
}

static void inode_remember(struct sim__inode *inode, uint32_t sector)
{
    grow((void **)&inode->versions, &inode->version_capacity, inode->version_count,
         sizeof(struct version));
    struct version *version = &inode->versions[inode->version_count++];
    version->sector = sector;
    memcpy(version->data, inode->cache + (uint64_t)sector * SECTOR_SIZE, SECTOR_SIZE);
}

static void inode_write(struct sim__disk *disk, struct sim__inode *inode, uint64_t offset,
                        struct bytes bytes)
{
    if (bytes.size_bytes == 0) {
        return;
    }
    memcpy(inode->cache + offset, bytes.data, bytes.size_bytes);
    uint64_t end = offset + bytes.size_bytes;
    forget_damage(disk, inode, offset / SECTOR_SIZE, (end + SECTOR_SIZE - 1) / SECTOR_SIZE);
    for (uint64_t sector = offset / SECTOR_SIZE; sector * SECTOR_SIZE < end; sector++) {
        inode_remember(inode, (uint32_t)sector);
    }
    if (end > inode->size_bytes) {
        inode->size_bytes = end;
    }
}

/* Carry one version of a sector to the platter. */
static void inode_settle(struct sim__disk *disk, struct sim__inode *inode,
                         const struct version *version)
{
    uint64_t offset = (uint64_t)version->sector * SECTOR_SIZE;
    memcpy(inode->previous + offset, inode->durable + offset, SECTOR_SIZE);
    memcpy(inode->durable + offset, version->data, SECTOR_SIZE);
    inode->rounds[version->sector] = disk->round;
}

static void inode_settle_all(struct sim__disk *disk, struct sim__inode *inode)
{
    for (uint32_t i = 0; i < inode->version_count; i++) {
        inode_settle(disk, inode, &inode->versions[i]);
    }
    inode->version_count = 0;
    inode->durable_size_bytes = inode->size_bytes;
}

/* Carry some of the versions to the platter, as a device does when it is interrupted: a prefix of
 * the writes, or of each sector any of its versions. */
static void inode_settle_some(struct sim__disk *disk, struct sim__inode *inode)
{
    struct random *random = disk->random;
    uint64_t kind = random_below(random, 6);
    uint64_t prefix = random_below(random, inode->version_count + 1);
    uint32_t chance = 1 + (uint32_t)random_below(random, 9);
    for (uint32_t i = 0; i < inode->version_count; i++) {
        bool is_kept = kind == 0   ? false
                       : kind == 1 ? true
                       : kind == 2 ? i < prefix
                       : kind == 3 ? i >= prefix
                                   : random_chance(random, chance, 10);
        if (is_kept) {
            inode_settle(disk, inode, &inode->versions[i]);
        }
    }
    inode->version_count = 0;
    if (random_chance(random, 1, 2)) {
        inode->durable_size_bytes = inode->size_bytes;
    }
}

/* ---- env_files ------------------------------------------------------------------------------- */

static int touch(struct sim__disk *disk, const char *operation, struct error *error)
{
    if (disk->options.touch != NULL && !disk->options.touch(disk->options.context, operation)) {
        return error_say(error, -EIO, "%s: the simulated process is dead", operation);
    }
    return 0;
}

static int file_open(void *context, const char *name, unsigned flags, struct env_file **file,
                     struct error *error)
{
    struct sim__disk *disk = context;
    int status = touch(disk, "open", error);
    if (status != 0) {
        return status;
    }
    struct sim__inode *inode = sim__directory_get(&disk->seen, name);
    if ((flags & ENV_FILE_CREATE) != 0) {
        if (inode != NULL) {
            return error_set(error, -EEXIST, "create %s", name);
        }
        if (disk->is_full) {
            return error_set(error, -ENOSPC, "create %s", name);
        }
        inode = inode_create(disk);
        struct sim__change change = {.kind = SIM__CHANGE_LINK, .inode = inode};
        sim__copy_name(change.name, name);
        change_directory(disk, &change);
    }
    if (inode == NULL) {
        return error_set(error, -ENOENT, "open %s", name);
    }
    struct env_file *opened = memory_allocate_zeroed(1, sizeof *opened);
    opened->inode = inode;
    opened->generation = disk->generation;
    opened->is_read_only = (flags & ENV_FILE_READ_ONLY) != 0;
    inode->open_count++;
    *file = opened;
    return 0;
}

static void file_close(void *context, struct env_file *file)
{
    struct sim__disk *disk = context;
    if (file->generation == disk->generation) {
        ASSERT(file->inode->open_count > 0);
        file->inode->open_count--;
    }
    memory_free(file);
}

static int file_read(void *context, struct env_file *file, uint64_t offset, void *target,
                     size_t size_bytes, size_t *read_bytes, struct error *error)
{
    struct sim__disk *disk = context;
    int status = touch(disk, "read", error);
    if (status != 0) {
        return status;
    }
    const struct sim__inode *inode = file->inode;
    uint64_t left = offset < inode->size_bytes ? inode->size_bytes - offset : 0;
    size_t wanted = size_bytes < left ? size_bytes : (size_t)left;
    if (wanted > 0) {
        memcpy(target, inode->cache + offset, wanted);
    }
    *read_bytes = wanted;
    return 0;
}

static int file_write(void *context, struct env_file *file, uint64_t offset,
                      const struct bytes *pieces, uint32_t piece_count, struct error *error)
{
    struct sim__disk *disk = context;
    ASSERT(!file->is_read_only);
    int status = touch(disk, "write", error);
    struct buffer whole = {0};
    for (uint32_t i = 0; i < piece_count; i++) {
        buffer_append(&whole, pieces[i]);
    }
    size_t size_bytes = whole.size_bytes;
    if (status != 0) {
        /* The process may have died within the call; its system still took a part of the write. */
        bool dies_now = file->generation == disk->generation && disk->options.dies_now != NULL &&
                        disk->options.dies_now(disk->options.context);
        size_bytes = dies_now ? (size_t)random_below(disk->random, size_bytes + 1) : 0;
    }
    if (!inode_reserve(disk, file->inode, offset + size_bytes)) {
        if (status == 0) {
            status = error_set(error, -ENOSPC, "write");
        }
        uint64_t room = file->inode->allocated_bytes;
        size_bytes = offset < room ? (size_t)random_below(disk->random, room - offset + 1) : 0;
        size_bytes = size_bytes < whole.size_bytes ? size_bytes : whole.size_bytes;
    }
    inode_write(disk, file->inode, offset, bytes_make(whole.data, size_bytes));
    buffer_deinit(&whole);
    return status;
}

static int file_flush(void *context, struct env_file *file, struct error *error)
{
    struct sim__disk *disk = context;
    ASSERT(!file->is_read_only);
    int status = touch(disk, "flush", error);
    if (status != 0) {
        return status;
    }
    struct sim__inode *inode = file->inode;
    if (disk->options.flush_error_per_million > 0 &&
        random_chance(disk->random, disk->options.flush_error_per_million, 1000000)) {
        /* As Linux does: the pages are clean now, and whether they still show what was written
         * differs between file systems (Rebello et al., "Can Applications Recover from fsync
         * Failures?", 2020). */
        inode_settle_some(disk, inode);
        if (!disk->options.does_cache_lie && inode->allocated_bytes > 0) {
            memcpy(inode->cache, inode->durable, inode->allocated_bytes);
            inode->size_bytes = inode->durable_size_bytes;
        }
        disk->options.flush_error_per_million = 0;
        disk->flush_error_count++;
        return error_set(error, -EIO, "flush");
    }
    inode_settle_all(disk, inode);
    return 0;
}

static int file_allocate(void *context, struct env_file *file, uint64_t size_bytes,
                         struct error *error)
{
    struct sim__disk *disk = context;
    int status = touch(disk, "allocate", error);
    if (status != 0) {
        return status;
    }
    if (!inode_reserve(disk, file->inode, size_bytes)) {
        return error_set(error, -ENOSPC, "allocate");
    }
    if (file->inode->size_bytes < size_bytes) {
        file->inode->size_bytes = size_bytes;
    }
    return 0;
}

static int file_size(void *context, struct env_file *file, uint64_t *size_bytes,
                     struct error *error)
{
    int status = touch(context, "size", error);
    if (status == 0) {
        *size_bytes = file->inode->size_bytes;
    }
    return status;
}

static int file_rename(void *context, const char *source, const char *target, struct error *error)
{
    struct sim__disk *disk = context;
    int status = touch(disk, "rename", error);
    if (status != 0) {
        return status;
    }
    struct sim__inode *inode = sim__directory_get(&disk->seen, source);
    if (inode == NULL) {
        return error_set(error, -ENOENT, "rename %s", source);
    }
    struct sim__change change = {.kind = SIM__CHANGE_RENAME, .inode = inode};
    sim__copy_name(change.name, source);
    sim__copy_name(change.target, target);
    change_directory(disk, &change);
    return 0;
}

static int file_remove(void *context, const char *name, struct error *error)
{
    struct sim__disk *disk = context;
    int status = touch(disk, "remove", error);
    if (status != 0) {
        return status;
    }
    struct sim__inode *inode = sim__directory_get(&disk->seen, name);
    if (inode == NULL) {
        return error_set(error, -ENOENT, "remove %s", name);
    }
    struct sim__change change = {.kind = SIM__CHANGE_REMOVE, .inode = inode};
    sim__copy_name(change.name, name);
    change_directory(disk, &change);
    return 0;
}

static int directory_flush(void *context, struct error *error)
{
    struct sim__disk *disk = context;
    int status = touch(disk, "flush_directory", error);
    if (status != 0) {
        return status;
    }
    sim__directory_copy(&disk->durable, &disk->seen);
    disk->change_count = 0;
    forget_unreachable(disk);
    return 0;
}

static int directory_list(void *context, void (*found)(void *found_context, const char *name),
                          void *found_context, struct error *error)
{
    struct sim__disk *disk = context;
    int status = touch(disk, "list", error);
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; i < disk->seen.count; i++) {
        char name[NAME_SIZE_MAX];
        sim__copy_name(name, disk->seen.entries[i].name);
        found(found_context, name);
    }
    return 0;
}

static const struct env_files_ops disk_ops = {
    .open = file_open,
    .close = file_close,
    .read = file_read,
    .write = file_write,
    .flush = file_flush,
    .allocate = file_allocate,
    .size = file_size,
    .rename = file_rename,
    .remove = file_remove,
    .flush_directory = directory_flush,
    .list = directory_list,
};

struct env_files sim__disk_interface(struct sim__disk *disk)
{
    return (struct env_files){&disk_ops, disk};
}

/* ---- Life and death -------------------------------------------------------------------------- */

struct sim__disk *sim__disk_create(const struct sim__disk_options *options, struct random *random)
{
    struct sim__disk *disk = memory_allocate_zeroed(1, sizeof *disk);
    disk->options = *options;
    disk->random = random;
    disk->round = 1;
    return disk;
}

void sim__disk_destroy(struct sim__disk *disk)
{
    for (uint32_t i = 0; i < disk->inode_count; i++) {
        inode_destroy(disk->inodes[i]);
    }
    memory_free(disk->inodes);
    sim__directory_deinit(&disk->seen);
    sim__directory_deinit(&disk->durable);
    memory_free(disk->changes);
    memory_free(disk->damages);
    memory_free(disk);
}

static void *image_copy(const void *source, uint64_t size_bytes)
{
    if (size_bytes == 0) {
        return NULL;
    }
    void *copy = memory_allocate(size_bytes);
    memcpy(copy, source, size_bytes);
    return copy;
}

struct sim__disk *sim__disk_copy(const struct sim__disk *source)
{
    if (source->change_count > 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < source->seen.count; i++) {
        if (source->seen.entries[i].inode->version_count > 0) {
            return NULL;
        }
    }
    struct sim__disk *disk = sim__disk_create(&source->options, source->random);
    disk->options.touch = NULL;
    disk->options.flush_error_per_million = 0;
    disk->round = source->round;
    disk->is_full = source->is_full;
    for (uint32_t i = 0; i < source->seen.count; i++) {
        const struct sim__inode *original = source->seen.entries[i].inode;
        struct sim__inode *inode = inode_create(disk);
        inode->size_bytes = original->size_bytes;
        inode->durable_size_bytes = original->durable_size_bytes;
        inode->allocated_bytes = original->allocated_bytes;
        inode->cache = image_copy(original->cache, inode->allocated_bytes);
        inode->durable = image_copy(original->durable, inode->allocated_bytes);
        inode->previous = image_copy(original->previous, inode->allocated_bytes);
        inode->rounds =
            image_copy(original->rounds, inode->allocated_bytes / SECTOR_SIZE * sizeof(uint64_t));
        sim__directory_put(&disk->seen, source->seen.entries[i].name, inode);
        sim__directory_put(&disk->durable, source->seen.entries[i].name, inode);
    }
    return disk;
}

void sim__disk_kill(struct sim__disk *disk)
{
    disk->generation++;
    for (uint32_t i = 0; i < disk->inode_count; i++) {
        disk->inodes[i]->open_count = 0;
    }
}

void sim__disk_lose_power(struct sim__disk *disk)
{
    sim__disk_kill(disk);
    for (uint32_t i = 0; i < disk->inode_count; i++) {
        struct sim__inode *inode = disk->inodes[i];
        inode_settle_some(disk, inode);
        if (inode->allocated_bytes > 0) {
            memcpy(inode->cache, inode->durable, inode->allocated_bytes);
        }
        inode->size_bytes = inode->durable_size_bytes;
        /* What lies behind the end of a file that lost its length reads as zeros when it grows
         * again. */
        if (inode->size_bytes < inode->allocated_bytes) {
            memset(inode->cache + inode->size_bytes, 0, inode->allocated_bytes - inode->size_bytes);
            memset(inode->durable + inode->size_bytes, 0,
                   inode->allocated_bytes - inode->size_bytes);
        }
    }
    uint64_t prefix = random_below(disk->random, disk->change_count + 1);
    bool is_subset = disk->options.does_directory_reorder && random_chance(disk->random, 1, 2);
    for (uint32_t i = 0; i < disk->change_count; i++) {
        if (is_subset ? random_chance(disk->random, 1, 2) : i < prefix) {
            sim__directory_apply(&disk->durable, &disk->changes[i]);
        }
    }
    disk->change_count = 0;
    sim__directory_copy(&disk->seen, &disk->durable);
    forget_unreachable(disk);
}

void sim__disk_set_full(struct sim__disk *disk, bool is_full)
{
    disk->is_full = is_full;
}

void sim__disk_grow(struct sim__disk *disk, uint64_t more_bytes)
{
    disk->options.capacity_bytes += more_bytes;
}

void sim__disk_fail_flush(struct sim__disk *disk, uint32_t per_million)
{
    disk->options.flush_error_per_million = per_million;
}

uint32_t sim__disk_flush_error_count(const struct sim__disk *disk)
{
    return disk->flush_error_count;
}

void sim__disk_next_round(struct sim__disk *disk)
{
    disk->round++;
}

/* ---- Damage ---------------------------------------------------------------------------------- */

/* A sector that the log can know to have been durable, as it is now: some later round was made
 * durable too. */
static bool is_followed(const struct sim__disk *disk, const struct sim__inode *inode,
                        uint64_t sector)
{
    for (uint32_t i = 0; i < inode->version_count; i++) {
        if (inode->versions[i].sector == sector) {
            return false;
        }
    }
    return inode->rounds[sector] > 0 && inode->rounds[sector] + 2 < disk->round;
}

static bool pick_followed(struct sim__disk *disk, struct sim__inode **inode, uint32_t *sector)
{
    for (uint32_t attempt = 0; attempt < 64 && disk->seen.count > 0; attempt++) {
        uint64_t i = random_below(disk->random, disk->seen.count);
        struct sim__inode *candidate = disk->seen.entries[i].inode;
        uint64_t sectors = candidate->allocated_bytes / SECTOR_SIZE;
        if (sectors == 0) {
            continue;
        }
        uint64_t place = random_below(disk->random, sectors);
        if (is_followed(disk, candidate, place)) {
            *inode = candidate;
            *sector = (uint32_t)place;
            return true;
        }
    }
    return false;
}

static uint8_t *damage_begin(struct sim__disk *disk, struct sim__inode *inode, uint32_t sector)
{
    disk->damages = memory_resize(disk->damages, (disk->damage_count + 1) * sizeof(struct damage));
    struct damage *damage = &disk->damages[disk->damage_count++];
    uint8_t *place = inode->cache + (uint64_t)sector * SECTOR_SIZE;
    damage->inode = inode;
    damage->sector = sector;
    memcpy(damage->data, place, SECTOR_SIZE);
    return place;
}

static void damage_end(struct sim__inode *inode, uint32_t sector)
{
    uint64_t offset = (uint64_t)sector * SECTOR_SIZE;
    memcpy(inode->durable + offset, inode->cache + offset, SECTOR_SIZE);
}

bool sim__disk_damage(struct sim__disk *disk, enum sim__damage kind)
{
    struct sim__inode *inode;
    uint32_t sector;
    if (!pick_followed(disk, &inode, &sector)) {
        return false;
    }
    uint8_t *place = damage_begin(disk, inode, sector);
    if (kind == SIM__DAMAGE_ROT) {
        uint64_t bit_count = 1 + random_below(disk->random, 3);
        for (uint64_t i = 0; i < bit_count; i++) {
            uint64_t bit = random_below(disk->random, SECTOR_SIZE * 8);
            place[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
        damage_end(inode, sector);
        return true;
    }
    /* A write that went astray: its place keeps what was there before, another place gets it. */
    uint8_t astray[SECTOR_SIZE];
    memcpy(astray, place, SECTOR_SIZE);
    memcpy(place, inode->previous + (uint64_t)sector * SECTOR_SIZE, SECTOR_SIZE);
    damage_end(inode, sector);
    struct sim__inode *other;
    uint32_t other_sector;
    if (pick_followed(disk, &other, &other_sector) && (other != inode || other_sector != sector)) {
        memcpy(damage_begin(disk, other, other_sector), astray, SECTOR_SIZE);
        damage_end(other, other_sector);
    }
    return true;
}

uint32_t sim__disk_damage_count(const struct sim__disk *disk)
{
    return disk->damage_count;
}

void sim__disk_repair(struct sim__disk *disk)
{
    /* The newest first: two damages may have hit one sector. */
    for (uint32_t i = disk->damage_count; i > 0; i--) {
        const struct damage *damage = &disk->damages[i - 1];
        memcpy(damage->inode->cache + (uint64_t)damage->sector * SECTOR_SIZE, damage->data,
               SECTOR_SIZE);
        damage_end(damage->inode, damage->sector);
    }
    disk->damage_count = 0;
}

uint64_t sim__disk_hash(const struct sim__disk *disk)
{
    uint64_t hash = disk->seen.count;
    for (uint32_t i = 0; i < disk->seen.count; i++) {
        const struct sim__entry *entry = &disk->seen.entries[i];
        hash = hash_bytes(bytes_of_text(entry->name), hash);
        hash = hash_bytes(bytes_make(entry->inode->cache, entry->inode->size_bytes), hash);
    }
    return hash;
}

void sim__disk_print(const struct sim__disk *disk, FILE *file)
{
    (void)fprintf(file, "disk: %" PRIu64 " bytes used of %" PRIu64 "%s\n", used_bytes(disk),
                  disk->options.capacity_bytes, disk->is_full ? ", full" : "");
    for (uint32_t i = 0; i < disk->seen.count; i++) {
        const struct sim__inode *inode = disk->seen.entries[i].inode;
        (void)fprintf(file, "  %s: %" PRIu64 " bytes, %u sectors unflushed\n",
                      disk->seen.entries[i].name, inode->size_bytes, inode->version_count);
    }
}
