/* SPDX-License-Identifier: Apache-2.0 */
/* A pattern is a row of elements: a star, or something that takes exactly one byte. So only the
 * last star ever needs to be reconsidered: giving an earlier one more text could only move the
 * later elements to the right, where the last star has been tried already. One mark and a loop do
 * what a recursive matcher needs exponential time for. */
#include "base/glob/glob.h"

#include <stdint.h>

static uint8_t fold(uint8_t byte, bool is_ignoring_case)
{
    return is_ignoring_case && byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
}

/* Is `wanted` (folded) in the class that begins after the `[` at `*position`? Moves `*position`
 * behind the class. */
static bool class_has(struct bytes pattern, size_t *position, uint8_t wanted, bool is_ignoring_case)
{
    size_t at = *position + 1;
    bool is_negated = at < pattern.size_bytes && pattern.data[at] == '^';
    if (is_negated) {
        at++;
    }
    bool is_found = false;
    while (at < pattern.size_bytes && pattern.data[at] != ']') {
        size_t left_bytes = pattern.size_bytes - at;
        uint8_t lower = pattern.data[at];
        uint8_t upper = lower;
        if (lower == '\\' && left_bytes >= 2) {
            lower = pattern.data[at + 1];
            upper = lower;
            at += 2;
        } else if (left_bytes >= 3 && pattern.data[at + 1] == '-') {
            /* Also when the end of the range is `]`: Redis reads it so. */
            upper = pattern.data[at + 2];
            at += 3;
        } else {
            at++;
        }
        if (lower > upper) {
            uint8_t swapped = lower;
            lower = upper;
            upper = swapped;
        }
        lower = fold(lower, is_ignoring_case);
        upper = fold(upper, is_ignoring_case);
        is_found = is_found || (wanted >= lower && wanted <= upper);
    }
    *position = at < pattern.size_bytes ? at + 1 : at;
    return is_found != is_negated;
}

/* Does the element at `*position`, which is no star, take `byte`? Moves `*position` behind it. */
static bool element_takes(struct bytes pattern, size_t *position, uint8_t byte,
                          bool is_ignoring_case)
{
    uint8_t wanted = fold(byte, is_ignoring_case);
    switch (pattern.data[*position]) {
    case '?':
        (*position)++;
        return true;
    case '[':
        return class_has(pattern, position, wanted, is_ignoring_case);
    case '\\':
        if (pattern.size_bytes - *position >= 2) {
            (*position)++;
        }
        break;
    default: /* Bytes, not an enum. */
        break;
    }
    bool is_taken = fold(pattern.data[*position], is_ignoring_case) == wanted;
    (*position)++;
    return is_taken;
}

bool glob_matches(struct bytes pattern, struct bytes text, bool is_ignoring_case)
{
    size_t pattern_at = 0;
    size_t text_at = 0;
    size_t after_star = 0; /* The pattern behind the last star; 0: no star yet. */
    size_t star_end = 0;   /* The text up to here is what that star takes. */
    while (text_at < text.size_bytes) {
        if (pattern_at < pattern.size_bytes && pattern.data[pattern_at] == '*') {
            pattern_at++;
            after_star = pattern_at;
            star_end = text_at;
            if (pattern_at == pattern.size_bytes) {
                return true;
            }
        } else if (pattern_at < pattern.size_bytes &&
                   element_takes(pattern, &pattern_at, text.data[text_at], is_ignoring_case)) {
            text_at++;
        } else if (after_star > 0) {
            star_end++;
            pattern_at = after_star;
            text_at = star_end;
        } else {
            return false;
        }
    }
    while (pattern_at < pattern.size_bytes && pattern.data[pattern_at] == '*') {
        pattern_at++;
    }
    return pattern_at == pattern.size_bytes;
}

bool glob_matches_all(struct bytes pattern)
{
    for (size_t i = 0; i < pattern.size_bytes; i++) {
        if (pattern.data[i] != '*') {
            return false;
        }
    }
    return pattern.size_bytes > 0;
}
