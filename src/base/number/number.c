/* SPDX-License-Identifier: Apache-2.0 */
#include "base/number/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool number_parse_unsigned(struct bytes text, uint64_t *value)
{
    if (text.size_bytes == 0 || text.size_bytes > NUMBER_INTEGER_SIZE_MAX) {
        return false;
    }
    if (text.data[0] == '0') {
        if (text.size_bytes > 1) {
            return false;
        }
        *value = 0;
        return true;
    }
    uint64_t total = 0;
    for (size_t i = 0; i < text.size_bytes; i++) {
        unsigned digit = (unsigned)text.data[i] - '0';
        if (digit > 9 || total > (UINT64_MAX - digit) / 10) {
            return false;
        }
        total = total * 10 + digit;
    }
    *value = total;
    return true;
}

bool number_parse_integer(struct bytes text, int64_t *value)
{
    if (text.size_bytes == 0) {
        return false; /* Before any arithmetic on `data`, which may be NULL. */
    }
    bool is_negative = text.data[0] == '-';
    uint64_t magnitude;
    if (!number_parse_unsigned(bytes_make(text.data + is_negative, text.size_bytes - is_negative),
                               &magnitude)) {
        return false;
    }
    if (is_negative) {
        if (magnitude == 0 || magnitude > (uint64_t)INT64_MAX + 1) {
            return false;
        }
        *value = (int64_t)(0 - magnitude);
        return true;
    }
    if (magnitude > INT64_MAX) {
        return false;
    }
    *value = (int64_t)magnitude;
    return true;
}

bool number_parse_long_double(struct bytes text, long double *value)
{
    char copy[NUMBER_DOUBLE_SIZE_MAX]; /* Whatever number_format_long_double() writes. */
    if (text.size_bytes == 0 || text.size_bytes >= sizeof copy || text.data[0] <= ' ') {
        return false;
    }
    memcpy(copy, text.data, text.size_bytes);
    copy[text.size_bytes] = '\0';
    char *end;
    errno = 0;
    long double parsed = strtold(copy, &end);
    if (end != copy + text.size_bytes || isnan(parsed)) {
        return false;
    }
    if (errno == ERANGE && (parsed == HUGE_VALL || parsed == -HUGE_VALL || parsed == 0)) {
        return false;
    }
    *value = parsed;
    return true;
}

bool number_parse_size(struct bytes text, uint64_t *size_bytes)
{
    static const struct {
        const char *unit;
        uint64_t factor;
    } units[] = {
        {"", 1},
        {"b", 1},
        {"k", 1000},
        {"kb", 1024},
        {"kib", 1024},
        {"m", 1000 * 1000},
        {"mb", 1024 * 1024},
        {"mib", 1024 * 1024},
        {"g", 1000 * 1000 * 1000},
        {"gb", 1024ull * 1024 * 1024},
        {"gib", 1024ull * 1024 * 1024},
    };
    if (text.size_bytes == 0) {
        return false;
    }
    size_t digits = 0;
    while (digits < text.size_bytes && text.data[digits] >= '0' && text.data[digits] <= '9') {
        digits++;
    }
    uint64_t count;
    if (!number_parse_unsigned(bytes_make(text.data, digits), &count)) {
        return false;
    }
    struct bytes unit = bytes_make(text.data + digits, text.size_bytes - digits);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (bytes_equal_ignoring_case(unit, bytes_of_text(units[i].unit))) {
            if (count > UINT64_MAX / units[i].factor) {
                return false;
            }
            *size_bytes = count * units[i].factor;
            return true;
        }
    }
    return false;
}

size_t number_format_unsigned(char *target, uint64_t value)
{
    char reversed[NUMBER_INTEGER_SIZE_MAX];
    size_t length = 0;
    do {
        reversed[length++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (size_t i = 0; i < length; i++) {
        target[i] = reversed[length - 1 - i];
    }
    return length;
}

size_t number_format_integer(char *target, int64_t value)
{
    if (value >= 0) {
        return number_format_unsigned(target, (uint64_t)value);
    }
    target[0] = '-';
    return 1 + number_format_unsigned(target + 1, 0 - (uint64_t)value);
}

size_t number_format_long_double(char *target, long double value)
{
    if (isinf(value)) {
        const char *text = value > 0 ? "inf" : "-inf";
        size_t length = strlen(text);
        memcpy(target, text, length);
        return length;
    }
    int written = snprintf(target, NUMBER_DOUBLE_SIZE_MAX, "%.17Lf", value);
    size_t length = (size_t)written;
    while (length > 0 && target[length - 1] == '0') {
        length--;
    }
    if (length > 0 && target[length - 1] == '.') {
        length--;
    }
    if (length == 2 && target[0] == '-' && target[1] == '0') {
        target[0] = '0';
        length = 1;
    }
    return length;
}

size_t number_format_double(char *target, double value)
{
    if (isnan(value) || isinf(value)) {
        const char *text = isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
        size_t length = strlen(text);
        memcpy(target, text, length);
        return length;
    }
    for (int precision = 15; precision <= 17; precision++) {
        int written = snprintf(target, NUMBER_DOUBLE_SIZE_MAX, "%.*g", precision, value);
        if (precision == 17 || strtod(target, NULL) == value) {
            return (size_t)written;
        }
    }
    return 0;
}
