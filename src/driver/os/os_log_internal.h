/* SPDX-License-Identifier: Apache-2.0 */
/* The text of one line of the log. */
#ifndef DRIVER_OS_OS_LOG_INTERNAL_H
#define DRIVER_OS_OS_LOG_INTERNAL_H

#include <stdarg.h>

#include "driver/os/os.h"

enum os__log_style { OS__LOG_STYLE_LOGFMT, OS__LOG_STYLE_COLOUR, OS__LOG_STYLE_JSON };

struct os__log_line {
    enum os__log_style style;
    size_t size_bytes;
    char text[OS_LOG_LINE_SIZE_MAX];
};

/* Time, level, event and fields of `format`. */
void os__log_line_build(struct os__log_line *line, enum os__log_style style,
                        enum os_log_level level, const char *format, va_list arguments);

/* One more field. */
void os__log_line_number(struct os__log_line *line, const char *key, uint64_t value);

/* Close the line; there is always room for it. */
void os__log_line_end(struct os__log_line *line);

#endif
