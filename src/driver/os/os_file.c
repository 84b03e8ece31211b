/* SPDX-License-Identifier: Apache-2.0 */
/* Small whole files, directories, the lock of a directory, disk space. */
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/os/os.h"

enum { PATH_SIZE_MAX = 4096, READ_STEP_SIZE_BYTES = 16 * 1024, LOCK_TEXT_SIZE = 32 };

/* ---- Directories ----------------------------------------------------------------------------- */

static int flush_directory(const char *path, struct error *error)
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return error_set(error, -errno, "open directory %s", path);
    }
    int status = fsync(descriptor) == 0 ? 0 : -errno;
    (void)close(descriptor); /* Read only: nothing to lose. */
    return status == 0 ? 0 : error_set(error, status, "flush directory %s", path);
}

static int flush_parent(const char *path, struct error *error)
{
    char copy[PATH_SIZE_MAX];
    (void)snprintf(copy, sizeof copy, "%s", path); /* Its length was checked by open or mkdir. */
    return flush_directory(dirname(copy), error);
}

static int create_one(const char *path, struct error *error)
{
    if (mkdir(path, 0700) == 0) {
        return flush_parent(path, error);
    }
    int code = errno;
    struct stat information;
    if (code == EEXIST && stat(path, &information) == 0) {
        return S_ISDIR(information.st_mode)
                   ? 0
                   : error_set(error, -ENOTDIR, "create directory %s", path);
    }
    return error_set(error, -code, "create directory %s", path);
}

int os_directory_create(const char *path, struct error *error)
{
    char part[PATH_SIZE_MAX];
    size_t size_bytes = strlen(path);
    if (size_bytes == 0 || size_bytes >= sizeof part) {
        return error_set(error, size_bytes == 0 ? -ENOENT : -ENAMETOOLONG,
                         "create directory \"%s\"", path);
    }
    for (size_t i = 1; i < size_bytes; i++) {
        if (path[i] != '/' || path[i - 1] == '/') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        struct stat information;
        if (stat(part, &information) == 0 && S_ISDIR(information.st_mode)) {
            continue; /* Also one in which we may not write, such as /. */
        }
        int status = create_one(part, error);
        if (status != 0) {
            return status;
        }
    }
    return create_one(path, error);
}

int os_disk_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes,
                  struct error *error)
{
    struct statvfs information;
    if (statvfs(path, &information) != 0) {
        return error_set(error, -errno, "ask for the disk space at %s", path);
    }
    *free_bytes = (uint64_t)information.f_bavail * information.f_frsize;
    *total_bytes = (uint64_t)information.f_blocks * information.f_frsize;
    return 0;
}

/* ---- The lock -------------------------------------------------------------------------------- */

struct os_lock {
    int descriptor;
};

static int refuse_lock(int descriptor, const char *directory, struct error *error)
{
    char holder[LOCK_TEXT_SIZE] = {0};
    ssize_t size = pread(descriptor, holder, sizeof holder - 1, 0);
    long process = size > 0 ? strtol(holder, NULL, 10) : 0;
    if (process > 0) {
        return error_say(error, -EBUSY, "data directory %s is in use by process %ld", directory,
                         process);
    }
    return error_say(error, -EBUSY, "data directory %s is in use by another process", directory);
}

/* The number is for people; what counts is the kernel's lock, which ends with the process. */
static void write_holder(int descriptor)
{
    char text[LOCK_TEXT_SIZE];
    int size = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, text, (size_t)size, 0) != size) {
        return; /* A full disk does not make the lock weaker. */
    }
}

static int take_lock(struct os_lock **lock, const char *directory, bool may_create,
                     struct error *error)
{
    char path[PATH_SIZE_MAX];
    int size = snprintf(path, sizeof path, "%s/lock", directory);
    if (size < 0 || (size_t)size >= sizeof path) {
        return error_set(error, -ENAMETOOLONG, "lock directory %s", directory);
    }
    int descriptor = open(path, O_RDWR | O_CLOEXEC | (may_create ? O_CREAT : 0), 0600);
    bool is_writable = descriptor >= 0;
    if (!is_writable && !may_create && (errno == EACCES || errno == EROFS)) {
        descriptor = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (descriptor < 0) {
        return error_set(error, -errno, "open %s", path);
    }
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        int status = errno == EWOULDBLOCK ? refuse_lock(descriptor, directory, error)
                                          : error_set(error, -errno, "lock %s", path);
        (void)close(descriptor); /* Nothing was written. */
        return status;
    }
    if (is_writable) {
        write_holder(descriptor);
    }
    struct os_lock *taken = memory_allocate(sizeof *taken);
    taken->descriptor = descriptor;
    *lock = taken;
    return 0;
}

int os_lock_take(struct os_lock **lock, const char *directory, struct error *error)
{
    return take_lock(lock, directory, true, error);
}

int os_lock_take_existing(struct os_lock **lock, const char *directory, struct error *error)
{
    return take_lock(lock, directory, false, error);
}

void os_lock_release(struct os_lock *lock)
{
    if (lock != NULL) {
        /* The file stays: removing it would let two processes lock two files of one name. */
        (void)close(lock->descriptor);
        memory_free(lock);
    }
}

/* ---- Whole files ----------------------------------------------------------------------------- */

static int read_all(int descriptor, size_t size_bytes_max, struct buffer *content)
{
    for (;;) {
        size_t before_bytes = content->size_bytes;
        uint8_t *target = buffer_extend(content, READ_STEP_SIZE_BYTES);
        ssize_t count = read(descriptor, target, READ_STEP_SIZE_BYTES);
        int code = errno;
        content->size_bytes = before_bytes + (count > 0 ? (size_t)count : 0);
        if (count == 0) {
            return 0;
        }
        if (count < 0 && code != EINTR) {
            return -code;
        }
        if (content->size_bytes > size_bytes_max) {
            return -EFBIG;
        }
    }
}

int os_file_read(const char *path, size_t size_bytes_max, struct buffer *content,
                 struct error *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return error_set(error, -errno, "open %s", path);
    }
    struct buffer read_so_far = {0};
    int status = read_all(descriptor, size_bytes_max, &read_so_far);
    (void)close(descriptor); /* Read only: nothing to lose. */
    if (status == 0) {
        buffer_append(content, buffer_bytes(&read_so_far));
    } else {
        (void)error_set(error, status, "read %s", path);
    }
    buffer_deinit(&read_so_far);
    return status;
}

static int write_all(int descriptor, struct bytes content)
{
    size_t written_bytes = 0;
    while (written_bytes < content.size_bytes) {
        ssize_t count =
            write(descriptor, content.data + written_bytes, content.size_bytes - written_bytes);
        if (count < 0 && errno != EINTR) {
            return -errno;
        }
        written_bytes += count > 0 ? (size_t)count : 0;
    }
    return fsync(descriptor) == 0 ? 0 : -errno;
}

int os_file_write(const char *path, struct bytes content, struct error *error)
{
    char temporary[PATH_SIZE_MAX];
    int size = snprintf(temporary, sizeof temporary, "%s.new", path);
    if (size < 0 || (size_t)size >= sizeof temporary) {
        return error_set(error, -ENAMETOOLONG, "write %s", path);
    }
    int descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (descriptor < 0) {
        return error_set(error, -errno, "create %s", temporary);
    }
    int status = write_all(descriptor, content);
    if (close(descriptor) != 0 && status == 0) {
        status = -errno;
    }
    if (status == 0 && rename(temporary, path) != 0) {
        status = -errno;
    }
    if (status != 0) {
        (void)unlink(temporary); /* Left over, it would be overwritten by the next attempt. */
        return error_set(error, status, "write %s", path);
    }
    return flush_parent(path, error);
}

int os_file_remove(const char *path, struct error *error)
{
    if (unlink(path) != 0 && errno != ENOENT) {
        return error_set(error, -errno, "remove %s", path);
    }
    return 0;
}
