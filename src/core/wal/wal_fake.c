/* SPDX-License-Identifier: Apache-2.0 */
#include "core/wal/wal_fake.h"

#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum {
    NAME_SIZE_BYTES = 40,
    SECTOR_SIZE_BYTES = 512,
    FILE_SIZE_BYTES_MAX = 128 << 10,
    NAME_COUNT_MAX = 128,
};

/* The content of a file, which names come and go for. */
struct content {
    uint8_t *current;
    uint8_t *durable;
    bool *is_dirty; /* Of each sector: what a flush would write. */
    size_t size_bytes;
    size_t durable_size_bytes;
    uint32_t name_count; /* Of both directories. */
};

struct name {
    char text[NAME_SIZE_BYTES];
    struct content *content;
};

struct directory {
    struct name names[NAME_COUNT_MAX];
    uint32_t count;
};

/* The directory after each unflushed change, oldest first. */
struct fake_disk {
    struct random random;
    struct directory current;
    struct directory *history;
    uint32_t history_count;
    struct content *contents[4 * NAME_COUNT_MAX];
    uint32_t content_count;
    uint64_t capacity_bytes;
    uint32_t open_count;
    uint32_t countdown;
    int failure;
    bool is_for_good;
    bool has_failed;
};

struct env_file {
    struct content *content;
    bool is_read_only;
};

enum { HISTORY_COUNT_MAX = 32 };

struct fake_disk *fake_create(uint64_t seed)
{
    struct fake_disk *disk = memory_allocate_zeroed(1, sizeof *disk);
    disk->history = memory_allocate_zeroed(HISTORY_COUNT_MAX, sizeof *disk->history);
    random_init(&disk->random, seed);
    disk->capacity_bytes = UINT64_MAX;
    disk->history_count = 1; /* The durable one. */
    return disk;
}

static void free_content(struct content *content)
{
    memory_free(content->current);
    memory_free(content->durable);
    memory_free(content->is_dirty);
    memory_free(content);
}

void fake_destroy(struct fake_disk *disk)
{
    for (uint32_t i = 0; i < disk->content_count; i++) {
        free_content(disk->contents[i]);
    }
    memory_free(disk->history);
    memory_free(disk);
}

/* ---- Failing --------------------------------------------------------------------------------- */

void fake_fail_after(struct fake_disk *disk, uint32_t countdown, int status, bool is_for_good)
{
    disk->countdown = countdown;
    disk->failure = status;
    disk->is_for_good = is_for_good;
    disk->has_failed = false;
}

bool fake_has_failed(const struct fake_disk *disk)
{
    return disk->has_failed;
}

void fake_stop_failing(struct fake_disk *disk)
{
    disk->countdown = 0;
    disk->has_failed = false;
    disk->is_for_good = false;
}

void fake_set_capacity(struct fake_disk *disk, uint64_t capacity_bytes)
{
    disk->capacity_bytes = capacity_bytes;
}

static int count_operation(struct fake_disk *disk, const char *what, struct error *error)
{
    if (disk->has_failed && disk->is_for_good) {
        return error_set(error, disk->failure, "%s", what);
    }
    if (disk->countdown > 0 && --disk->countdown == 0) {
        disk->has_failed = true;
        return error_set(error, disk->failure, "%s", what);
    }
    return 0;
}

/* ---- Directories ----------------------------------------------------------------------------- */

static struct name *find(struct directory *directory, const char *text)
{
    for (uint32_t i = 0; i < directory->count; i++) {
        if (strcmp(directory->names[i].text, text) == 0) {
            return &directory->names[i];
        }
    }
    return NULL;
}

/* Names stay sorted. */
static void put(struct directory *directory, const char *text, struct content *content)
{
    struct name *there = find(directory, text);
    if (there != NULL) {
        there->content = content;
        return;
    }
    ASSERT(directory->count < NAME_COUNT_MAX);
    uint32_t place = directory->count++;
    while (place > 0 && strcmp(directory->names[place - 1].text, text) > 0) {
        directory->names[place] = directory->names[place - 1];
        place--;
    }
    directory->names[place].content = content;
    (void)snprintf(directory->names[place].text, NAME_SIZE_BYTES, "%s", text);
}

static void take(struct directory *directory, const char *text)
{
    struct name *there = find(directory, text);
    ASSERT(there != NULL);
    directory->count--;
    memmove(there, there + 1,
            (size_t)(directory->names + directory->count - there) * sizeof *there);
}

/* A change was made that is not durable yet. */
static void remember(struct fake_disk *disk)
{
    if (disk->history_count == HISTORY_COUNT_MAX) {
        disk->history_count--;
    }
    disk->history[disk->history_count++] = disk->current;
}

static uint64_t used_bytes(const struct fake_disk *disk)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < disk->current.count; i++) {
        used += disk->current.names[i].content->size_bytes;
    }
    return used;
}

/* ---- Operations ------------------------------------------------------------------------------ */

static struct content *add_content(struct fake_disk *disk)
{
    struct content *content = memory_allocate_zeroed(1, sizeof *content);
    content->current = memory_allocate_zeroed(FILE_SIZE_BYTES_MAX, 1);
    content->durable = memory_allocate_zeroed(FILE_SIZE_BYTES_MAX, 1);
    content->is_dirty = memory_allocate_zeroed(FILE_SIZE_BYTES_MAX / SECTOR_SIZE_BYTES, 1);
    ASSERT(disk->content_count < sizeof disk->contents / sizeof disk->contents[0]);
    disk->contents[disk->content_count++] = content;
    return content;
}

static int fake_open(void *context, const char *text, unsigned flags, struct env_file **file,
                     struct error *error)
{
    struct fake_disk *disk = context;
    int status = count_operation(disk, "open", error);
    if (status != 0) {
        return status;
    }
    struct name *name = find(&disk->current, text);
    struct content *content = name != NULL ? name->content : NULL;
    if ((flags & ENV_FILE_CREATE) != 0) {
        if (content != NULL) {
            return error_set(error, -EEXIST, "%s", text);
        }
        content = add_content(disk);
        put(&disk->current, text, content);
        remember(disk);
    } else if (content == NULL) {
        return error_set(error, -ENOENT, "%s", text);
    }
    *file = memory_allocate_zeroed(1, sizeof **file);
    **file = (struct env_file){content, (flags & ENV_FILE_READ_ONLY) != 0};
    disk->open_count++;
    return 0;
}

static void fake_close(void *context, struct env_file *file)
{
    struct fake_disk *disk = context;
    disk->open_count--;
    memory_free(file);
}

static int fake_read(void *context, struct env_file *file, uint64_t offset, void *target,
                     size_t size_bytes, size_t *read_bytes, struct error *error)
{
    (void)context;
    (void)error;
    size_t size_bytes_there = file->content->size_bytes;
    size_t left = offset < size_bytes_there ? size_bytes_there - (size_t)offset : 0;
    *read_bytes = size_bytes < left ? size_bytes : left;
    memcpy(target, file->content->current + (offset < size_bytes_there ? offset : 0), *read_bytes);
    return 0;
}

static void write_bytes(struct content *content, size_t offset, struct bytes bytes)
{
    if (bytes.size_bytes > 0) {
        size_t first = offset / SECTOR_SIZE_BYTES;
        size_t last = (offset + bytes.size_bytes - 1) / SECTOR_SIZE_BYTES;
        memcpy(content->current + offset, bytes.data, bytes.size_bytes);
        memset(content->is_dirty + first, true, last - first + 1);
    }
}

static int fake_write(void *context, struct env_file *file, uint64_t offset,
                      const struct bytes *pieces, uint32_t piece_count, struct error *error)
{
    struct fake_disk *disk = context;
    ASSERT(!file->is_read_only);
    int status = count_operation(disk, "write", error);
    uint64_t limit = status == 0 ? UINT64_MAX : random_below(&disk->random, 16384);
    for (uint32_t i = 0; i < piece_count; i++) {
        size_t size = pieces[i].size_bytes < limit ? pieces[i].size_bytes : (size_t)limit;
        ASSERT(offset + size <= FILE_SIZE_BYTES_MAX);
        write_bytes(file->content, (size_t)offset, bytes_make(pieces[i].data, size));
        offset += size;
        limit -= size;
    }
    if (offset > file->content->size_bytes) {
        file->content->size_bytes = (size_t)offset;
    }
    return status;
}

static void settle_content(struct content *content)
{
    memcpy(content->durable, content->current, FILE_SIZE_BYTES_MAX);
    memset(content->is_dirty, 0, FILE_SIZE_BYTES_MAX / SECTOR_SIZE_BYTES);
    content->durable_size_bytes = content->size_bytes;
}

/* When a flush fails, some sectors were written; the others are forgotten to be dirty, as Linux
 * does: they read well and no later flush writes them. */
static void flush_sectors(struct fake_disk *disk, struct content *content, bool has_failed)
{
    for (size_t i = 0; i < FILE_SIZE_BYTES_MAX / SECTOR_SIZE_BYTES; i++) {
        if (content->is_dirty[i] && (!has_failed || random_chance(&disk->random, 1, 2))) {
            size_t offset = i * SECTOR_SIZE_BYTES;
            memcpy(content->durable + offset, content->current + offset, SECTOR_SIZE_BYTES);
        }
        content->is_dirty[i] = false;
    }
    content->durable_size_bytes = content->size_bytes;
}

static int fake_flush(void *context, struct env_file *file, struct error *error)
{
    struct fake_disk *disk = context;
    ASSERT(!file->is_read_only);
    int status = count_operation(disk, "flush", error);
    flush_sectors(disk, file->content, status != 0);
    return status;
}

static int fake_allocate(void *context, struct env_file *file, uint64_t size_bytes,
                         struct error *error)
{
    struct fake_disk *disk = context;
    ASSERT(size_bytes <= FILE_SIZE_BYTES_MAX);
    int status = count_operation(disk, "allocate", error);
    if (status != 0) {
        return status;
    }
    if (size_bytes > file->content->size_bytes) {
        if (used_bytes(disk) + size_bytes - file->content->size_bytes > disk->capacity_bytes) {
            return error_set(error, -ENOSPC, "allocate");
        }
        file->content->size_bytes = (size_t)size_bytes;
    }
    return 0;
}

static int fake_size(void *context, struct env_file *file, uint64_t *size_bytes,
                     struct error *error)
{
    (void)context;
    (void)error;
    *size_bytes = file->content->size_bytes;
    return 0;
}

static int fake_rename(void *context, const char *source, const char *target, struct error *error)
{
    struct fake_disk *disk = context;
    int status = count_operation(disk, "rename", error);
    if (status != 0) {
        return status;
    }
    struct name *name = find(&disk->current, source);
    if (name == NULL) {
        return error_set(error, -ENOENT, "%s", source);
    }
    struct content *content = name->content;
    take(&disk->current, source);
    put(&disk->current, target, content);
    remember(disk);
    return 0;
}

static int fake_remove(void *context, const char *text, struct error *error)
{
    struct fake_disk *disk = context;
    int status = count_operation(disk, "remove", error);
    if (status != 0) {
        return status;
    }
    if (find(&disk->current, text) == NULL) {
        return error_set(error, -ENOENT, "%s", text);
    }
    take(&disk->current, text);
    remember(disk);
    return 0;
}

static int fake_flush_directory(void *context, struct error *error)
{
    struct fake_disk *disk = context;
    int status = count_operation(disk, "flush directory", error);
    if (status == 0) {
        disk->history[0] = disk->current;
        disk->history_count = 1;
    }
    return status;
}

static int fake_list(void *context, void (*found)(void *found_context, const char *name),
                     void *found_context, struct error *error)
{
    struct fake_disk *disk = context;
    int status = count_operation(disk, "list", error);
    for (uint32_t i = 0; status == 0 && i < disk->current.count; i++) {
        found(found_context, disk->current.names[i].text);
    }
    return status;
}

struct env_files fake_files(struct fake_disk *disk)
{
    static const struct env_files_ops ops = {
        .open = fake_open,
        .close = fake_close,
        .read = fake_read,
        .write = fake_write,
        .flush = fake_flush,
        .allocate = fake_allocate,
        .size = fake_size,
        .rename = fake_rename,
        .remove = fake_remove,
        .flush_directory = fake_flush_directory,
        .list = fake_list,
    };
    return (struct env_files){&ops, disk};
}

/* ---- Power loss and damage ------------------------------------------------------------------- */

/* What becomes of a sector whose newest bytes were not flushed. */
static void lose_sector(struct fake_disk *disk, struct content *content, size_t offset)
{
    uint8_t *current = content->current + offset;
    uint8_t *durable = content->durable + offset;
    if (memcmp(current, durable, SECTOR_SIZE_BYTES) == 0) {
        return;
    }
    uint64_t fate = random_below(&disk->random, 16);
    if (fate < 7) {
        memcpy(current, durable, SECTOR_SIZE_BYTES);
    } else if (fate == 7) {
        size_t torn_at = (size_t)random_below(&disk->random, SECTOR_SIZE_BYTES);
        memcpy(current, durable, torn_at);
    } else if (fate == 8) {
        for (size_t i = 0; i < SECTOR_SIZE_BYTES; i++) {
            current[i] = (uint8_t)random_next(&disk->random);
        }
    }
    memcpy(durable, current, SECTOR_SIZE_BYTES);
}

void fake_lose_power(struct fake_disk *disk)
{
    ASSERT(disk->open_count == 0);
    uint32_t kept = (uint32_t)random_below(&disk->random, disk->history_count);
    struct directory survived = disk->history[kept];
    disk->current = survived;
    disk->history[0] = survived;
    disk->history_count = 1;
    uint32_t left = 0;
    for (uint32_t i = 0; i < disk->content_count; i++) {
        struct content *content = disk->contents[i];
        bool is_named = false;
        for (uint32_t k = 0; k < survived.count; k++) {
            is_named = is_named || survived.names[k].content == content;
        }
        if (!is_named) {
            free_content(content);
            continue;
        }
        disk->contents[left++] = content;
        size_t size_bytes = content->size_bytes > content->durable_size_bytes
                                ? content->size_bytes
                                : content->durable_size_bytes;
        for (size_t offset = 0; offset < size_bytes; offset += SECTOR_SIZE_BYTES) {
            lose_sector(disk, content, offset);
        }
        if (random_chance(&disk->random, 1, 2)) {
            content->size_bytes = content->durable_size_bytes;
        }
        content->durable_size_bytes = content->size_bytes;
        memset(content->is_dirty, 0, FILE_SIZE_BYTES_MAX / SECTOR_SIZE_BYTES);
    }
    disk->content_count = left;
}

void fake_settle(struct fake_disk *disk)
{
    disk->history[0] = disk->current;
    disk->history_count = 1;
    for (uint32_t i = 0; i < disk->content_count; i++) {
        settle_content(disk->contents[i]);
    }
}

uint8_t *fake_bytes(struct fake_disk *disk, const char *name, size_t *size_bytes)
{
    struct name *there = find(&disk->current, name);
    if (there == NULL) {
        return NULL;
    }
    *size_bytes = there->content->size_bytes;
    return there->content->current;
}

void fake_add_file(struct fake_disk *disk, const char *name, const void *bytes, size_t size_bytes)
{
    ASSERT(size_bytes <= FILE_SIZE_BYTES_MAX);
    struct content *content = add_content(disk);
    if (size_bytes > 0) {
        memcpy(content->current, bytes, size_bytes);
    }
    content->size_bytes = size_bytes;
    put(&disk->current, name, content);
    fake_settle(disk);
}

void fake_remove_file(struct fake_disk *disk, const char *name)
{
    take(&disk->current, name);
    fake_settle(disk);
}

uint32_t fake_file_count(const struct fake_disk *disk)
{
    return disk->current.count;
}

uint32_t fake_open_count(const struct fake_disk *disk)
{
    return disk->open_count;
}
