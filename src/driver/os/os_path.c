/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets: where a listener's file is concerned.
 *
 * Who may connect is told by the permissions of the file. Linux gives it those of the socket when it
 * is bound, so that it never has others, not even for a moment.
 *
 * A process that was killed leaves its file. Binding fails then, and whether somebody listens is
 * found by connecting. */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory/memory.h"
#include "driver/os/os_internal.h"

enum { BACKLOG = 128, MODE = 0600 };

_Static_assert(OS_PATH_SIZE_MAX == sizeof((struct sockaddr_un *)0)->sun_path - 1, "with its end");

int os__path_check(const char *path, struct error *error)
{
    size_t size_bytes = strlen(path);
    if (size_bytes > OS_PATH_SIZE_MAX) {
        return error_say(error, -ENAMETOOLONG,
                         "the path %.100s… has %zu bytes, and a socket's may have %d: choose a "
                         "shorter directory, or a path that is relative to where you are",
                         path, size_bytes, OS_PATH_SIZE_MAX);
    }
    return 0;
}

static int bind_to(int descriptor, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path));
    return bind(descriptor, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : -errno;
}

/* Does anybody listen there? */
static bool is_alive(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path));
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return true; /* Not known; leave it alone. */
    }
    int status = connect(descriptor, (const struct sockaddr *)&address, sizeof address);
    bool is_refused = status != 0 && errno == ECONNREFUSED;
    (void)close(descriptor); /* Nothing was sent on it. */
    return !is_refused;
}

static int replace_stale(int descriptor, const char *path, const char *flag, struct error *error)
{
    struct stat found;
    if (lstat(path, &found) == 0 && !S_ISSOCK(found.st_mode)) {
        return error_say(error, -EEXIST,
                         "%s %s: a file that is no socket has that name; move it away", flag, path);
    }
    if (is_alive(path)) {
        return error_say(error, -EADDRINUSE, "%s %s: another process listens there", flag, path);
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        return error_set(error, -errno, "%s %s: cannot replace what a process left", flag, path);
    }
    int status = bind_to(descriptor, path);
    return status == 0 ? 0 : error_set(error, status, "%s %s: cannot listen", flag, path);
}

static int listen_at(int descriptor, const char *path, const char *flag, struct os__path *file,
                     struct error *error)
{
    if (fchmod(descriptor, MODE) != 0) {
        return error_set(error, -errno, "%s %s: cannot listen", flag, path);
    }
    int status = bind_to(descriptor, path);
    if (status == -EADDRINUSE) {
        status = replace_stale(descriptor, path, flag, error);
    } else if (status != 0) {
        (void)error_set(error, status, "%s %s: cannot listen", flag, path);
    }
    if (status != 0) {
        return status;
    }
    struct stat found;
    if (lstat(path, &found) != 0 || listen(descriptor, BACKLOG) != 0) {
        status = error_set(error, -errno, "%s %s: cannot listen", flag, path);
        (void)unlink(path); /* Best effort: the next start replaces it. */
        return status;
    }
    size_t size = strlen(path) + 1;
    file->text = memory_allocate(size);
    memcpy(file->text, path, size);
    file->device = found.st_dev;
    file->inode = found.st_ino;
    return 0;
}

int os__path_listen(const char *path, const char *flag, int *descriptor, struct os__path *file,
                    struct error *error)
{
    int status = os__path_check(path, error);
    if (status != 0) {
        return status;
    }
    flag = flag != NULL ? flag : "path";
    int opened = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (opened < 0) {
        return error_set(error, -errno, "%s %s: cannot listen", flag, path);
    }
    status = listen_at(opened, path, flag, file, error);
    if (status != 0) {
        (void)close(opened); /* Nothing was sent on it. */
        return status;
    }
    *descriptor = opened;
    return 0;
}

void os__path_remove(struct os__path *file)
{
    struct stat found;
    if (file->text != NULL && lstat(file->text, &found) == 0 && found.st_dev == file->device &&
        found.st_ino == file->inode) {
        (void)unlink(file->text); /* Best effort: the next start replaces it. */
    }
    memory_free(file->text);
    file->text = NULL;
}
