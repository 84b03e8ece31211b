/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a directory, for the log core (env_files).
 *
 * Writing around the page cache. What the log writes is flushed at once and read again only after a
 * start, for a replica that lags far, and by one that could not apply it when it came. By way of the cache each write costs taking pages, copying,
 * finding out which pages are dirty and writing them back: with the flush 45 us of processor time and
 * 110 us for 9 KB, where O_DIRECT needs 20 and 60 (a virtual disk on ext4). So a second descriptor writes
 * what consists of whole sectors, from memory that is aligned. Where the file system or the disk wants
 * it otherwise, they say -EINVAL, and the file is written through the cache as any other. The kernel
 * keeps both in step: a read sees what was written, whichever way. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/os/os.h"

enum {
    PIECES_PER_CALL = 64,
    NAME_SIZE_MAX = 256,
    SECTOR_SIZE_BYTES = 512,       /* What is written around the cache begins and ends at one. */
    MEMORY_ALIGNMENT_BYTES = 4096, /* More than any disk asks for. */
    DIRECT_SIZE_BYTES_MAX = 512 << 10, /* So much is copied and written at a time. */
};

struct os_files {
    int directory;
    uint32_t open_count;
    char *path; /* For messages. */
    uint64_t kept_free_bytes;
    bool is_direct;

    /* For the copy of what is written around the cache, kept from write to write; of whoever has set
     * the flag. */
    atomic_flag is_copying;
    uint8_t *copy;
    size_t copy_size_bytes;
};

struct env_file {
    int descriptor;
    int direct_descriptor; /* -1: everything goes through the cache. */
    char name[NAME_SIZE_MAX];
};

int os_files_create(struct os_files **files, const char *directory, struct error *error)
{
    int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return error_set(error, -errno, "open directory %s", directory);
    }
    struct os_files *created = memory_allocate_zeroed(1, sizeof *created);
    created->directory = descriptor;
    atomic_flag_clear(&created->is_copying);
    size_t size_bytes = strlen(directory) + 1;
    created->path = memory_allocate(size_bytes);
    memcpy(created->path, directory, size_bytes);
    *files = created;
    return 0;
}

void os_files_destroy(struct os_files *files)
{
    if (files != NULL) {
        ASSERT(files->open_count == 0);
        (void)close(files->directory); /* Read only: nothing to lose. */
        memory_free(files->path);
        memory_free(files->copy);
        memory_free(files);
    }
}

void os_files_keep_free(struct os_files *files, uint64_t size_bytes)
{
    files->kept_free_bytes = size_bytes;
}

void os_files_write_directly(struct os_files *files)
{
    files->is_direct = true;
}

static int files_open(void *context, const char *name, unsigned flags, struct env_file **file,
                      struct error *error)
{
    struct os_files *files = context;
    ASSERT(strlen(name) < NAME_SIZE_MAX);
    ASSERT(strchr(name, '/') == NULL);
    int mode = (flags & ENV_FILE_READ_ONLY) != 0 ? O_RDONLY : O_RDWR;
    if ((flags & ENV_FILE_CREATE) != 0) {
        mode |= O_CREAT | O_EXCL;
    }
    int descriptor = openat(files->directory, name, mode | O_CLOEXEC, 0600);
    if (descriptor < 0) {
        const char *verb = (flags & ENV_FILE_CREATE) != 0 ? "create" : "open";
        return error_set(error, -errno, "%s %s/%s", verb, files->path, name);
    }
    struct env_file *opened = memory_allocate_zeroed(1, sizeof *opened);
    opened->descriptor = descriptor;
    opened->direct_descriptor = -1;
    if (files->is_direct && (flags & ENV_FILE_READ_ONLY) == 0) {
        /* A file system that cannot do it refuses; then there is none. */
        opened->direct_descriptor = openat(files->directory, name, O_WRONLY | O_DIRECT | O_CLOEXEC);
    }
    memcpy(opened->name, name, strlen(name));
    files->open_count++;
    *file = opened;
    return 0;
}

static void files_close(void *context, struct env_file *file)
{
    struct os_files *files = context;
    ASSERT(files->open_count > 0);
    files->open_count--;
    (void)close(file->descriptor); /* What had to last was flushed. */
    if (file->direct_descriptor >= 0) {
        (void)close(file->direct_descriptor);
    }
    memory_free(file);
}

static int fail(const struct os_files *files, const char *name, const char *verb,
                struct error *error)
{
    return error_set(error, -errno, "%s %s/%s", verb, files->path, name);
}

static int files_read(void *context, struct env_file *file, uint64_t offset, void *target,
                      size_t size_bytes, size_t *read_bytes, struct error *error)
{
    size_t done_bytes = 0;
    while (done_bytes < size_bytes) {
        ssize_t count = pread(file->descriptor, (uint8_t *)target + done_bytes,
                              size_bytes - done_bytes, (off_t)(offset + done_bytes));
        if (count < 0 && errno != EINTR) {
            return fail(context, file->name, "read", error);
        }
        if (count == 0) {
            break;
        }
        done_bytes += count > 0 ? (size_t)count : 0;
    }
    *read_bytes = done_bytes;
    return 0;
}

/* Write the pieces of one vector wholly; it is consumed. */
static int write_vector(int descriptor, struct iovec *vector, int count, uint64_t offset)
{
    uint64_t place = offset;
    while (count > 0) {
        ssize_t written = pwritev(descriptor, vector, count, (off_t)place);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -1;
        }
        place += (uint64_t)written;
        size_t left_bytes = (size_t)written;
        while (count > 0 && left_bytes >= vector->iov_len) {
            left_bytes -= vector->iov_len;
            vector++;
            count--;
        }
        if (count > 0) {
            vector->iov_base = (uint8_t *)vector->iov_base + left_bytes;
            vector->iov_len -= left_bytes;
        }
    }
    return 0;
}

/* Where a copy of pieces has got to. */
struct cursor {
    const struct bytes *pieces;
    uint32_t piece_count;
    size_t used_bytes; /* Of the first piece. */
};

static void copy_next(struct cursor *cursor, uint8_t *target, size_t size_bytes)
{
    while (size_bytes > 0) {
        ASSERT(cursor->piece_count > 0);
        size_t left_bytes = cursor->pieces->size_bytes - cursor->used_bytes;
        size_t step_bytes = left_bytes < size_bytes ? left_bytes : size_bytes;
        if (step_bytes > 0) {
            memcpy(target, cursor->pieces->data + cursor->used_bytes, step_bytes);
        }
        target += step_bytes;
        size_bytes -= step_bytes;
        cursor->used_bytes += step_bytes;
        if (cursor->used_bytes == cursor->pieces->size_bytes) {
            cursor->pieces++;
            cursor->piece_count--;
            cursor->used_bytes = 0;
        }
    }
}

static uint64_t total_size_bytes(const struct bytes *pieces, uint32_t piece_count)
{
    uint64_t total_bytes = 0;
    for (uint32_t i = 0; i < piece_count; i++) {
        total_bytes += pieces[i].size_bytes;
    }
    return total_bytes;
}

/* Memory for a copy: that which is kept, unless another thread is writing with it. */
static uint8_t *take_copy(struct os_files *files, size_t size_bytes, bool *is_kept)
{
    *is_kept = !atomic_flag_test_and_set_explicit(&files->is_copying, memory_order_acquire);
    if (!*is_kept) {
        return memory_allocate(size_bytes);
    }
    if (files->copy_size_bytes < size_bytes) {
        memory_free(files->copy);
        files->copy = memory_allocate(size_bytes);
        files->copy_size_bytes = size_bytes;
    }
    return files->copy;
}

static void give_copy(struct os_files *files, uint8_t *memory, bool is_kept)
{
    if (is_kept) {
        atomic_flag_clear_explicit(&files->is_copying, memory_order_release);
    } else {
        memory_free(memory);
    }
}

/* Write around the cache what consists of whole sectors. -1 with errno; EINVAL: not this way. */
static int write_directly(struct os_files *files, const struct env_file *file, uint64_t offset,
                          const struct bytes *pieces, uint32_t piece_count, uint64_t total_bytes)
{
    size_t room_bytes =
        total_bytes < DIRECT_SIZE_BYTES_MAX ? (size_t)total_bytes : DIRECT_SIZE_BYTES_MAX;
    bool is_kept;
    uint8_t *memory = take_copy(files, room_bytes + MEMORY_ALIGNMENT_BYTES, &is_kept);
    uint8_t *aligned = memory + MEMORY_ALIGNMENT_BYTES - (uintptr_t)memory % MEMORY_ALIGNMENT_BYTES;
    struct cursor cursor = {.pieces = pieces, .piece_count = piece_count};
    int status = 0;
    for (uint64_t done_bytes = 0; done_bytes < total_bytes && status == 0;) {
        uint64_t left_bytes = total_bytes - done_bytes;
        size_t step_bytes = left_bytes < room_bytes ? (size_t)left_bytes : room_bytes;
        copy_next(&cursor, aligned, step_bytes);
        struct iovec vector = {.iov_base = aligned, .iov_len = step_bytes};
        status = write_vector(file->direct_descriptor, &vector, 1, offset + done_bytes);
        done_bytes += step_bytes;
    }
    int reason = errno;
    give_copy(files, memory, is_kept);
    errno = reason;
    return status;
}

static int files_write(void *context, struct env_file *file, uint64_t offset,
                       const struct bytes *pieces, uint32_t piece_count, struct error *error)
{
    if (file->direct_descriptor >= 0) {
        uint64_t total_bytes = total_size_bytes(pieces, piece_count);
        if (offset % SECTOR_SIZE_BYTES == 0 && total_bytes % SECTOR_SIZE_BYTES == 0) {
            if (write_directly(context, file, offset, pieces, piece_count, total_bytes) == 0) {
                return 0;
            }
            if (errno != EINVAL) {
                return fail(context, file->name, "write", error);
            }
            (void)close(file->direct_descriptor);
            file->direct_descriptor = -1;
        }
    }
    uint64_t place = offset;
    for (uint32_t i = 0; i < piece_count; i += PIECES_PER_CALL) {
        struct iovec vector[PIECES_PER_CALL];
        int count = 0;
        uint64_t total_bytes = 0;
        for (uint32_t j = i; j < piece_count && count < PIECES_PER_CALL; j++) {
            vector[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)pieces[j].data,
                                             .iov_len = pieces[j].size_bytes};
            total_bytes += pieces[j].size_bytes;
        }
        if (write_vector(file->descriptor, vector, count, place) != 0) {
            return fail(context, file->name, "write", error);
        }
        place += total_bytes;
    }
    return 0;
}

static int files_flush(void *context, struct env_file *file, struct error *error)
{
    return fdatasync(file->descriptor) == 0 ? 0 : fail(context, file->name, "flush", error);
}

static int files_allocate(void *context, struct env_file *file, uint64_t size_bytes,
                          struct error *error)
{
    const struct os_files *files = context;
    if (files->kept_free_bytes > 0) {
        uint64_t free_bytes;
        uint64_t total_bytes;
        int space_status = os_disk_space(files->path, &free_bytes, &total_bytes, error);
        if (space_status != 0) {
            return space_status;
        }
        if (free_bytes < size_bytes + files->kept_free_bytes) {
            return error_say(error, -ENOSPC,
                             "reserve space for %s/%s: No space left on device besides the "
                             "%" PRIu64 " MiB that are kept free",
                             files->path, file->name, files->kept_free_bytes >> 20);
        }
    }
    int status;
    do {
        status = fallocate(file->descriptor, 0, 0, (off_t)size_bytes);
    } while (status != 0 && errno == EINTR);
    if (status != 0 && errno == EOPNOTSUPP) {
        /* A file system without reservation: the C library writes zeros instead. */
        errno = posix_fallocate(file->descriptor, 0, (off_t)size_bytes);
        status = errno == 0 ? 0 : -1;
    }
    return status == 0 ? 0 : fail(context, file->name, "reserve space for", error);
}

static int files_size(void *context, struct env_file *file, uint64_t *size_bytes,
                      struct error *error)
{
    struct stat information;
    if (fstat(file->descriptor, &information) != 0) {
        return fail(context, file->name, "ask for the size of", error);
    }
    *size_bytes = (uint64_t)information.st_size;
    return 0;
}

static int files_rename(void *context, const char *source, const char *target, struct error *error)
{
    struct os_files *files = context;
    if (renameat(files->directory, source, files->directory, target) != 0) {
        return error_set(error, -errno, "rename %s/%s to %s", files->path, source, target);
    }
    return 0;
}

static int files_remove(void *context, const char *name, struct error *error)
{
    struct os_files *files = context;
    return unlinkat(files->directory, name, 0) == 0 ? 0 : fail(files, name, "remove", error);
}

static int files_flush_directory(void *context, struct error *error)
{
    struct os_files *files = context;
    if (fsync(files->directory) != 0) {
        return error_set(error, -errno, "flush directory %s", files->path);
    }
    return 0;
}

static int only_regular(const struct dirent *entry)
{
    return entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN;
}

/* By bytes, whatever the locale. */
static int by_name(const struct dirent **left, const struct dirent **right)
{
    return strcmp((*left)->d_name, (*right)->d_name);
}

/* A file system may leave the kind of an entry to be asked for. */
static bool is_regular(const struct os_files *files, const struct dirent *entry)
{
    struct stat information;
    return entry->d_type == DT_REG ||
           (fstatat(files->directory, entry->d_name, &information, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(information.st_mode));
}

static int files_list(void *context, void (*found)(void *found_context, const char *name),
                      void *found_context, struct error *error)
{
    struct os_files *files = context;
    struct dirent **entries = NULL;
    int count = scandirat(files->directory, ".", &entries, only_regular, by_name);
    if (count < 0) {
        return error_set(error, -errno, "list directory %s", files->path);
    }
    for (int i = 0; i < count; i++) {
        if (is_regular(files, entries[i])) {
            found(found_context, entries[i]->d_name);
        }
        free(entries[i]); /* The C library's, not base/memory's. */
    }
    free(entries);
    return 0;
}

static const struct env_files_ops files_ops = {
    .open = files_open,
    .close = files_close,
    .read = files_read,
    .write = files_write,
    .flush = files_flush,
    .allocate = files_allocate,
    .size = files_size,
    .rename = files_rename,
    .remove = files_remove,
    .flush_directory = files_flush_directory,
    .list = files_list,
};

struct env_files os_files_env(struct os_files *files)
{
    return (struct env_files){.ops = &files_ops, .context = files};
}
