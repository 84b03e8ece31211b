/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *error_text(int code)
{
    switch (code) {
    case 0:
        return "success";
#define ERROR_CASE(name, value, text) \
    case value:                       \
        return text;
        ERROR_TABLE(ERROR_CASE)
#undef ERROR_CASE
    }
    const char *text = strerrordesc_np(-code);
    return text != NULL ? text : "unknown error";
}

static size_t format_into(char *target, size_t size_bytes, const char *format, va_list arguments)
{
    int written = vsnprintf(target, size_bytes, format, arguments);
    if (written < 0) {
        target[0] = '\0';
        return 0;
    }
    return (size_t)written < size_bytes ? (size_t)written : size_bytes - 1;
}

int error_set(struct error *error, int code, const char *format, ...)
{
    if (error == NULL) {
        return code;
    }
    va_list arguments;
    va_start(arguments, format);
    size_t used = format_into(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    (void)snprintf(error->message + used, sizeof error->message - used, ": %s", error_text(code));
    error->code = code;
    return code;
}

int error_say(struct error *error, int code, const char *format, ...)
{
    if (error == NULL) {
        return code;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)format_into(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    error->code = code;
    return code;
}

int error_wrap(struct error *error, int code, const char *format, ...)
{
    if (error == NULL) {
        return code;
    }
    char inner[ERROR_MESSAGE_SIZE];
    memcpy(inner, error->message, sizeof inner);
    va_list arguments;
    va_start(arguments, format);
    size_t used = format_into(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    (void)snprintf(error->message + used, sizeof error->message - used, ": %s", inner);
    error->code = code;
    return code;
}
