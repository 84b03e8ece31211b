/* SPDX-License-Identifier: Apache-2.0 */
/* The log. A line is built on the caller's stack; the lock is held for the count of repeats and the
 * one write. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/os/os.h"
#include "driver/os/os_log_internal.h"

enum {
    REPEAT_SLOT_COUNT = 64,
    REPEAT_WINDOW_MS = 1000,
    LEVEL_COUNT = 4,
};

struct repeat {
    const char *format; /* The place in the code, by its literal. */
    uint64_t window_start_ms;
    uint32_t count;
    uint32_t suppressed_count;
};

struct os_log {
    struct os_mutex *mutex;
    struct repeat repeats[REPEAT_SLOT_COUNT];
    int descriptor;
    enum os__log_style style;
    _Atomic int level;
    _Atomic uint64_t counts[LEVEL_COUNT];
};

static enum os__log_style style_of(const struct os_log_options *options)
{
    if (options->format == OS_LOG_JSON) {
        return OS__LOG_STYLE_JSON;
    }
    const char *no_colour = getenv("NO_COLOR");
    bool is_terminal = !options->is_plain && isatty(options->descriptor) == 1 &&
                       (no_colour == NULL || no_colour[0] == '\0');
    return is_terminal ? OS__LOG_STYLE_COLOUR : OS__LOG_STYLE_LOGFMT;
}

struct os_log *os_log_create(const struct os_log_options *options)
{
    struct os_log *log = memory_allocate_zeroed(1, sizeof *log);
    log->mutex = os_mutex_create();
    log->descriptor = options->descriptor;
    log->style = style_of(options);
    atomic_store(&log->level, (int)options->level);
    return log;
}

void os_log_destroy(struct os_log *log)
{
    if (log != NULL) {
        os_mutex_destroy(log->mutex);
        memory_free(log);
    }
}

void os_log_set_level(struct os_log *log, enum os_log_level level)
{
    atomic_store_explicit(&log->level, (int)level, memory_order_relaxed);
}

/* C11 atomics cannot be read through a pointer to const. */
static struct os_log *without_const(const struct os_log *log)
{
    return (struct os_log *)(uintptr_t)log;
}

enum os_log_level os_log_get_level(const struct os_log *log)
{
    return (enum os_log_level)atomic_load_explicit(&without_const(log)->level,
                                                   memory_order_relaxed);
}

bool os_log_is_enabled(const struct os_log *log, enum os_log_level level)
{
    return log != NULL && level >= os_log_get_level(log);
}

uint64_t os_log_count(const struct os_log *log, enum os_log_level level)
{
    return atomic_load_explicit(&without_const(log)->counts[level], memory_order_relaxed);
}

/* False when the line is one too many. Two places that share a slot take it from each other, which
 * only makes the limit weaker. */
static bool admit(struct os_log *log, const char *format, uint32_t *suppressed_count)
{
    uint64_t now_ms = os_monotonic_ms();
    uintptr_t address = (uintptr_t)format;
    struct repeat *repeat = &log->repeats[(address ^ address >> 7) % REPEAT_SLOT_COUNT];
    if (repeat->format != format) {
        *repeat = (struct repeat){.format = format, .window_start_ms = now_ms};
    } else if (now_ms - repeat->window_start_ms >= REPEAT_WINDOW_MS) {
        *suppressed_count = repeat->suppressed_count;
        *repeat = (struct repeat){.format = format, .window_start_ms = now_ms};
    }
    if (repeat->count >= OS_LOG_REPEATS_PER_SECOND) {
        repeat->suppressed_count++;
        return false;
    }
    repeat->count++;
    return true;
}

static void write_line(int descriptor, const struct os__log_line *line)
{
    size_t sent_bytes = 0;
    while (sent_bytes < line->size_bytes) {
        ssize_t count = write(descriptor, line->text + sent_bytes, line->size_bytes - sent_bytes);
        if (count > 0) {
            sent_bytes += (size_t)count;
        } else if (errno != EINTR) {
            return; /* Nowhere to say it. */
        }
    }
}

void os_log_write(struct os_log *log, enum os_log_level level, const char *format, ...)
{
    if (!os_log_is_enabled(log, level)) {
        return;
    }
    uint32_t suppressed_count = 0;
    os_mutex_lock(log->mutex);
    bool is_admitted = admit(log, format, &suppressed_count);
    os_mutex_unlock(log->mutex);
    if (!is_admitted) {
        return;
    }
    struct os__log_line line;
    va_list arguments;
    va_start(arguments, format);
    os__log_line_build(&line, log->style, level, format, arguments);
    va_end(arguments);
    if (suppressed_count > 0) {
        os__log_line_number(&line, "suppressed", suppressed_count);
    }
    os__log_line_end(&line);
    os_mutex_lock(log->mutex);
    write_line(log->descriptor, &line);
    os_mutex_unlock(log->mutex);
    (void)atomic_fetch_add_explicit(&log->counts[level], 1, memory_order_relaxed);
}
