/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the textbook, row by row: cell (i, j) is the length for the first i bytes of `left`
 * and the first j of `right`. Two rows of it are enough for the length. The way back from the last
 * cell asks only one thing of each cell with different bytes: is the cell above greater than the
 * one to the left? So one bit per cell is kept instead of the number, 16 MiB where Redis takes
 * 512. */
#include "service/kv/kv_lcs.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"

bool kv__lcs_fits(uint64_t left_size_bytes, uint64_t right_size_bytes)
{
    const uint64_t cell_count_max = KV_LCS_TABLE_SIZE_BYTES_MAX / sizeof(uint32_t);
    if (left_size_bytes >= cell_count_max || right_size_bytes >= cell_count_max) {
        return false;
    }
    return (left_size_bytes + 1) * (right_size_bytes + 1) <= cell_count_max;
}

/* Fill the table; `is_above` (NULL: not wanted) gets bit (i - 1) * right size + (j - 1). Returns
 * its last cell. */
static uint32_t fill(struct bytes left, struct bytes right, uint8_t *is_above)
{
    ASSERT(kv__lcs_fits(left.size_bytes, right.size_bytes));
    uint32_t *row = memory_allocate_zeroed(right.size_bytes + 1, sizeof *row);
    size_t cell = 0;
    for (size_t i = 1; i <= left.size_bytes; i++) {
        uint32_t diagonal = 0; /* Cell (i - 1, j - 1): the row holds i - 1 from j on. */
        uint8_t byte = left.data[i - 1];
        for (size_t j = 1; j <= right.size_bytes; j++) {
            uint32_t above = row[j];
            uint32_t before = row[j - 1];
            if (is_above != NULL && above > before) {
                is_above[cell / 8] |= (uint8_t)(1u << (cell % 8));
            }
            cell++;
            if (byte == right.data[j - 1]) {
                row[j] = diagonal + 1;
            } else {
                row[j] = above > before ? above : before;
            }
            diagonal = above;
        }
    }
    uint32_t length = row[right.size_bytes];
    memory_free(row);
    return length;
}

uint32_t kv__lcs_length(struct bytes left, struct bytes right)
{
    return fill(left, right, NULL);
}

/* Lengthen the run that ends (on the way back: begins) right behind (i, j), or begin one there. */
static void add_pair(struct buffer *matches, bool is_in_run, uint32_t i, uint32_t j)
{
    if (is_in_run) {
        struct kv__lcs_match *last =
            (struct kv__lcs_match *)(matches->data + matches->size_bytes) - 1;
        last->left_first = i;
        last->right_first = j;
    } else {
        const struct kv__lcs_match match = {i, i, j, j};
        buffer_append(matches, bytes_make(&match, sizeof match));
    }
}

uint32_t kv__lcs_find(struct bytes left, struct bytes right, struct buffer *text,
                      struct buffer *matches)
{
    ASSERT(matches->size_bytes % sizeof(struct kv__lcs_match) == 0);
    size_t cell_count = left.size_bytes * right.size_bytes;
    uint8_t *is_above = memory_allocate_zeroed(cell_count / 8 + 1, 1);
    uint32_t length = fill(left, right, is_above);

    uint8_t *target = buffer_extend(text, length) + length;
    size_t i = left.size_bytes;
    size_t j = right.size_bytes;
    uint32_t found = 0;
    bool is_in_run = false;
    while (i > 0 && j > 0) {
        if (left.data[i - 1] == right.data[j - 1]) {
            i--;
            j--;
            target--;
            *target = left.data[i];
            found++;
            add_pair(matches, is_in_run, (uint32_t)i, (uint32_t)j);
            is_in_run = true;
            continue;
        }
        size_t cell = (i - 1) * right.size_bytes + (j - 1);
        if ((is_above[cell / 8] >> (cell % 8) & 1) != 0) {
            i--;
        } else {
            j--;
        }
        is_in_run = false;
    }
    ASSERT(found == length);
    memory_free(is_above);
    return length;
}

/* ---- The command ----------------------------------------------------------------------------- */

struct options {
    bool wants_length;
    bool wants_matches;
    bool wants_match_lengths;
    int64_t match_length_min;
};

/* False: the error is answered. */
static bool read_options(const struct reply *reply, const struct bytes *words, uint32_t word_count,
                         struct options *options)
{
    *options = (struct options){0};
    for (uint32_t i = 0; i < word_count; i++) {
        if (bytes_equal_ignoring_case(words[i], BYTES("idx"))) {
            options->wants_matches = true;
        } else if (bytes_equal_ignoring_case(words[i], BYTES("len"))) {
            options->wants_length = true;
        } else if (bytes_equal_ignoring_case(words[i], BYTES("withmatchlen"))) {
            options->wants_match_lengths = true;
        } else if (bytes_equal_ignoring_case(words[i], BYTES("minmatchlen")) &&
                   i + 1 < word_count) {
            i++;
            if (!number_parse_integer(words[i], &options->match_length_min)) {
                reply_error(reply, "ERR value is not an integer or out of range");
                return false;
            }
        } else {
            reply_error(reply, "ERR syntax error");
            return false;
        }
    }
    if (options->wants_matches && options->wants_length) {
        reply_error(reply, "ERR If you want both the length and indexes, please just use IDX.");
        return false;
    }
    return true;
}

static bool is_wanted(const struct options *options, const struct kv__lcs_match *match)
{
    return (int64_t)match->left_last - match->left_first + 1 >= options->match_length_min;
}

static void answer_matches(const struct reply *reply, const struct options *options,
                           const struct kv__lcs_match *matches, size_t count, uint32_t length)
{
    uint64_t wanted_count = 0;
    for (size_t i = 0; i < count; i++) {
        wanted_count += is_wanted(options, &matches[i]) ? 1 : 0;
    }
    reply_map(reply, 2);
    reply_bulk_text(reply, "matches");
    reply_array(reply, wanted_count);
    for (size_t i = 0; i < count; i++) {
        const struct kv__lcs_match *match = &matches[i];
        if (!is_wanted(options, match)) {
            continue;
        }
        reply_array(reply, options->wants_match_lengths ? 3 : 2);
        reply_array(reply, 2);
        reply_integer(reply, match->left_first);
        reply_integer(reply, match->left_last);
        reply_array(reply, 2);
        reply_integer(reply, match->right_first);
        reply_integer(reply, match->right_last);
        if (options->wants_match_lengths) {
            reply_integer(reply, (int64_t)match->left_last - match->left_first + 1);
        }
    }
    reply_bulk_text(reply, "len");
    reply_integer(reply, length);
}

void kv__lcs_answer(const struct reply *reply, struct bytes left, struct bytes right,
                    const struct bytes *words, uint32_t word_count)
{
    struct options options;
    if (!read_options(reply, words, word_count, &options)) {
        return;
    }
    if (!kv__lcs_fits(left.size_bytes, right.size_bytes)) {
        reply_error(reply, "ERR Insufficient memory, transient memory for LCS exceeds "
                           "proto-max-bulk-len");
        return;
    }
    if (options.wants_length) {
        reply_integer(reply, kv__lcs_length(left, right));
        return;
    }
    struct buffer text = {0};
    struct buffer matches = {0};
    uint32_t length = kv__lcs_find(left, right, &text, &matches);
    if (options.wants_matches) {
        answer_matches(reply, &options, (const struct kv__lcs_match *)matches.data,
                       matches.size_bytes / sizeof(struct kv__lcs_match), length);
    } else {
        reply_bulk(reply, buffer_bytes(&text));
    }
    buffer_deinit(&text);
    buffer_deinit(&matches);
}
