/* SPDX-License-Identifier: Apache-2.0 */
/* number: strict conversion between numbers and decimal text, and the lesser and the greater of two. Layer: base.
 *
 * Strict as Redis is (string2ll): no leading zeros, plus signs, spaces or trailing characters. */
#ifndef BASE_NUMBER_NUMBER_H
#define BASE_NUMBER_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"

/* Longest decimal text of a 64-bit integer, with its sign. */
#define NUMBER_INTEGER_SIZE_MAX 20
/* Longest text that number_format_double() and number_format_long_double() write. */
#define NUMBER_DOUBLE_SIZE_MAX 5200

static inline uint64_t number_min(uint64_t left, uint64_t right)
{
    return left < right ? left : right;
}

static inline uint64_t number_max(uint64_t left, uint64_t right)
{
    return left > right ? left : right;
}

/* False, and `*value` untouched, when `text` is not the canonical text of a signed 64-bit
 * integer. */
MUST_USE bool number_parse_integer(struct bytes text, int64_t *value);

/* The same for unsigned integers. */
MUST_USE bool number_parse_unsigned(struct bytes text, uint64_t *value);

/* A C99 decimal or `inf`; the whole text, no spaces; false for NaN and for an empty text. */
MUST_USE bool number_parse_long_double(struct bytes text, long double *value);

/* A size with an optional unit: 100, 64kb, 1mb, 2gb, also KiB, MiB, GiB (all binary, as in Redis:
 * 1k = 1000, 1kb = 1024). */
MUST_USE bool number_parse_size(struct bytes text, uint64_t *size_bytes);

/* Write the decimal text at `target` (NUMBER_INTEGER_SIZE_MAX bytes); returns its length. */
size_t number_format_integer(char *target, int64_t value);
size_t number_format_unsigned(char *target, uint64_t value);

/* Write as Redis answers INCRBYFLOAT: 17 digits after the point, trailing zeros removed. Returns
 * the length; `target` has NUMBER_DOUBLE_SIZE_MAX bytes. */
size_t number_format_long_double(char *target, long double value);

/* Write the shortest text that reads back as `value`, as RESP3 doubles want it. */
size_t number_format_double(char *target, double value);

#endif
