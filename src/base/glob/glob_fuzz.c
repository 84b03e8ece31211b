/* SPDX-License-Identifier: Apache-2.0 */
/* Any pattern against any text: the matcher agrees with a slow one that keeps the set of all
 * positions in the pattern at once, so that it has nothing to guess and nothing to take back.
 *
 * Input: flags (bit 0: ignore case), length of the pattern, pattern, text. */
#include <stdint.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/glob/glob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { ELEMENT_COUNT_MAX = 256, TEXT_SIZE_BYTES_MAX = 4096 };

struct element {
    bool is_star;
    bool takes[256]; /* Unless it is a star. */
};

static struct element elements[ELEMENT_COUNT_MAX];

static void take(struct element *element, unsigned lower, unsigned upper, bool is_ignoring_case)
{
    unsigned first = lower < upper ? lower : upper;
    unsigned last = lower < upper ? upper : lower;
    if (is_ignoring_case && first >= 'A' && first <= 'Z') {
        first += 'a' - 'A';
    }
    if (is_ignoring_case && last >= 'A' && last <= 'Z') {
        last += 'a' - 'A';
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        bool is_upper = is_ignoring_case && byte >= 'A' && byte <= 'Z';
        unsigned folded = is_upper ? byte + ('a' - 'A') : byte;
        if (folded >= first && folded <= last) {
            element->takes[byte] = true;
        }
    }
}

/* Read the class whose `[` was read; returns what is left. */
static struct bytes read_class(struct bytes left, struct element *element, bool is_ignoring_case)
{
    bool is_negated = left.size_bytes > 0 && left.data[0] == '^';
    size_t used = is_negated ? 1 : 0;
    for (;;) {
        left = bytes_make(left.data + used, left.size_bytes - used);
        if (left.size_bytes == 0 || left.data[0] == ']') {
            break;
        }
        if (left.data[0] == '\\' && left.size_bytes > 1) {
            take(element, left.data[1], left.data[1], is_ignoring_case);
            used = 2;
        } else if (left.size_bytes > 2 && left.data[1] == '-') {
            take(element, left.data[0], left.data[2], is_ignoring_case);
            used = 3;
        } else {
            take(element, left.data[0], left.data[0], is_ignoring_case);
            used = 1;
        }
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        element->takes[byte] = element->takes[byte] != is_negated;
    }
    return left.size_bytes == 0 ? left : bytes_make(left.data + 1, left.size_bytes - 1);
}

static uint32_t read_elements(struct bytes pattern, bool is_ignoring_case)
{
    uint32_t count = 0;
    while (pattern.size_bytes > 0) {
        struct element *element = &elements[count];
        count++;
        memset(element, 0, sizeof *element);
        uint8_t first = pattern.data[0];
        pattern = bytes_make(pattern.data + 1, pattern.size_bytes - 1);
        if (first == '*') {
            element->is_star = true;
        } else if (first == '?') {
            take(element, 0, 255, false);
        } else if (first == '[') {
            pattern = read_class(pattern, element, is_ignoring_case);
        } else if (first == '\\' && pattern.size_bytes > 0) {
            take(element, pattern.data[0], pattern.data[0], is_ignoring_case);
            pattern = bytes_make(pattern.data + 1, pattern.size_bytes - 1);
        } else {
            take(element, first, first, is_ignoring_case);
        }
    }
    return count;
}

static bool matches_slowly(uint32_t count, struct bytes text)
{
    bool here[ELEMENT_COUNT_MAX + 1] = {true}; /* here[i]: the first i elements may be done. */
    for (size_t at = 0; at <= text.size_bytes; at++) {
        bool next[ELEMENT_COUNT_MAX + 1] = {false};
        for (uint32_t i = 0; i < count; i++) {
            if (here[i] && elements[i].is_star) {
                here[i + 1] = true;
                next[i] = true;
            } else if (here[i] && at < text.size_bytes && elements[i].takes[text.data[at]]) {
                next[i + 1] = true;
            }
        }
        if (at < text.size_bytes) {
            memcpy(here, next, sizeof here);
        }
    }
    return here[count];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < 2 || size_bytes > TEXT_SIZE_BYTES_MAX) {
        return 0;
    }
    bool is_ignoring_case = (data[0] & 1) != 0;
    size_t pattern_size_bytes = data[1] < size_bytes - 2 ? data[1] : size_bytes - 2;
    struct bytes pattern = bytes_make(data + 2, pattern_size_bytes);
    struct bytes text =
        bytes_make(data + 2 + pattern_size_bytes, size_bytes - 2 - pattern_size_bytes);
    bool is_match = glob_matches(pattern, text, is_ignoring_case);
    ASSERT(is_match == matches_slowly(read_elements(pattern, is_ignoring_case), text));
    ASSERT_IF(glob_matches_all(pattern), is_match);
    return 0;
}
