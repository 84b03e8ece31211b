/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/trace/trace.h"

void assert_fail(const char *claim, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, claim);
    trace_print_recent(stderr);
    abort();
}

void assert_fatal(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
    abort();
}
