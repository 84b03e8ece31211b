/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks, randomness and what there is to know about the machine and this process. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/number/number.h"
#include "driver/os/os.h"

uint64_t os_monotonic_ns(void)
{
    struct timespec now;
    int status = clock_gettime(CLOCK_BOOTTIME, &now);
    ASSERT(status == 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t os_monotonic_ms(void)
{
    return os_monotonic_ns() / 1000000;
}

uint64_t os_wall_clock_us(void)
{
    struct timespec now;
    int status = clock_gettime(CLOCK_REALTIME, &now);
    ASSERT(status == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t os_wall_clock_ms(void)
{
    return os_wall_clock_us() / 1000;
}

void os_sleep_ms(uint64_t duration_ms)
{
    struct timespec left = {.tv_sec = (time_t)(duration_ms / 1000),
                            .tv_nsec = (long)(duration_ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

void os_random_fill(void *target, size_t size_bytes)
{
    uint8_t *place = target;
    size_t left_bytes = size_bytes;
    while (left_bytes > 0) {
        ssize_t got = getrandom(place, left_bytes, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            assert_fatal("tutti: the system gives no random bytes: %s", error_text(-errno));
        }
        place += got;
        left_bytes -= (size_t)got;
    }
}

uint32_t os_processor_count(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return 1;
    }
    int count = CPU_COUNT(&allowed);
    return count > 0 ? (uint32_t)count : 1;
}

/* The first number of a small system file; UINT64_MAX when there is none ("max", no such file). */
static uint64_t number_in_file(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return UINT64_MAX;
    }
    uint64_t value = 0;
    if (fscanf(file, "%" SCNu64, &value) != 1) {
        value = UINT64_MAX;
    }
    (void)fclose(file); /* Read only: nothing to lose. */
    return value;
}

uint64_t os_memory_total_bytes(void)
{
    struct sysinfo information;
    int status = sysinfo(&information);
    ASSERT(status == 0);
    uint64_t total = (uint64_t)information.totalram * information.mem_unit;
    const char *const limits[] = {"/sys/fs/cgroup/memory.max",
                                  "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        uint64_t limit = number_in_file(limits[i]);
        if (limit > 0 && limit < total) {
            total = limit;
        }
    }
    return total;
}

uint64_t os_memory_resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return 0;
    }
    uint64_t total_pages = 0;
    uint64_t resident_pages = 0;
    int count = fscanf(file, "%" SCNu64 " %" SCNu64, &total_pages, &resident_pages);
    (void)fclose(file); /* Read only: nothing to lose. */
    return count == 2 ? resident_pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* The kernel notes the peak where memory shrinks, and so it is behind while it grows. */
uint64_t os_memory_peak_bytes(void)
{
    uint64_t resident_bytes = os_memory_resident_bytes();
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL) {
        return resident_bytes;
    }
    uint64_t peak_kibibytes = 0;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmHWM: %" SCNu64, &peak_kibibytes) == 1) {
            break;
        }
    }
    (void)fclose(file); /* Read only: nothing to lose. */
    return peak_kibibytes * 1024 > resident_bytes ? peak_kibibytes * 1024 : resident_bytes;
}

void os_processor_time_us(uint64_t *user_us, uint64_t *system_us)
{
    struct rusage usage;
    int status = getrusage(RUSAGE_SELF, &usage);
    ASSERT(status == 0);
    *user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000 + (uint64_t)usage.ru_utime.tv_usec;
    *system_us = (uint64_t)usage.ru_stime.tv_sec * 1000000 + (uint64_t)usage.ru_stime.tv_usec;
}

uint64_t os_thread_processor_ns(void)
{
    struct timespec used;
    int status = clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    ASSERT(status == 0);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

uint64_t os_open_files_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 1024;
    }
    struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    if (limit.rlim_cur < limit.rlim_max && setrlimit(RLIMIT_NOFILE, &raised) == 0) {
        return raised.rlim_cur;
    }
    return limit.rlim_cur;
}

uint64_t os_open_files_count(void)
{
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL) {
        return 0;
    }
    uint64_t count = 0;
    while (readdir(folder) != NULL) {
        count++;
    }
    (void)closedir(folder);
    return count > 3 ? count - 3 : 0; /* Not ".", ".." and the folder itself. */
}

void os_open_standard_files(void)
{
    for (int descriptor = 0; descriptor <= 2; descriptor++) {
        if (fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) {
            continue;
        }
        /* The lowest that is free is this one, for those below are open by now. */
        int opened = open("/dev/null", descriptor == 0 ? O_RDONLY : O_WRONLY);
        if (opened != descriptor) {
            assert_fatal("tutti: descriptor %d is closed, and /dev/null cannot be opened",
                         descriptor);
        }
    }
}

void os_ignore_broken_pipes(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    int status = sigaction(SIGPIPE, &ignore, NULL);
    ASSERT(status == 0);
}

int os_process_id(void)
{
    return (int)getpid();
}
