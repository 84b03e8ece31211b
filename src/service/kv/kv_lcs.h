/* SPDX-License-Identifier: Apache-2.0 */
/* kv_lcs: the longest common subsequence of two strings, and the answers of LCS.
 *
 * Among several longest subsequences it finds the one that Redis 7 finds. Pure: no rows, no
 * state. */
#ifndef SERVICE_KV_KV_LCS_H
#define SERVICE_KV_KV_LCS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/reply/reply.h"

/* What Redis would need for its table of 4-byte cells is refused above this (its default for
 * proto-max-bulk-len), so that the same calls are refused. This bounds the time too: a call
 * compares at most 2^27 pairs of bytes. Our own table is 32 times smaller. */
#define KV_LCS_TABLE_SIZE_BYTES_MAX (512u << 20)

/* Bytes left_first to left_last of the one string are bytes right_first to right_last of the
 * other. */
struct kv__lcs_match {
    uint32_t left_first;
    uint32_t left_last;
    uint32_t right_first;
    uint32_t right_last;
};

/* May kv__lcs_length() and kv__lcs_find() be called for strings of this size? */
bool kv__lcs_fits(uint64_t left_size_bytes, uint64_t right_size_bytes);

uint32_t kv__lcs_length(struct bytes left, struct bytes right);

/* Append the subsequence to `text`, and its runs (struct kv__lcs_match, the last one first) to
 * `matches`. Returns the length. */
uint32_t kv__lcs_find(struct bytes left, struct bytes right, struct buffer *text,
                      struct buffer *matches);

/* Answer LCS for two values; `options` are the arguments after the keys. */
void kv__lcs_answer(const struct reply *reply, struct bytes left, struct bytes right,
                    const struct bytes *options, uint32_t option_count);

#endif
