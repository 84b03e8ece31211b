/* SPDX-License-Identifier: Apache-2.0 */
/* kv_cursor: where a walk over keys or fields goes on.
 *
 * A cursor is a position in the order in which the rows stand: slot and hash for keys (SCAN), the
 * hash alone for the fields of one hash (HSCAN). Nothing is remembered between two calls. What has
 * the same position is returned by the same call, so that a walk which goes on behind a position
 * misses nothing: whatever exists during the whole walk is returned, once. 0 begins a walk and ends
 * it. Any number is a valid cursor, as in Redis; one behind the last position ends the walk.
 * Pure. */
#ifndef SERVICE_KV_KV_CURSOR_H
#define SERVICE_KV_KV_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"

/* (slot << 32) | hash: 46 bits, so that clients which keep cursors in a double lose nothing. */
uint64_t kv__cursor_make(uint32_t slot, uint32_t hash);
uint32_t kv__cursor_slot(uint64_t cursor);
uint32_t kv__cursor_hash(uint64_t cursor);

/* The text that a client sent. False: no number of 64 bits ("ERR invalid cursor"). */
MUST_USE bool kv__cursor_parse(struct bytes text, uint64_t *cursor);

/* One call of a walk: it visits at least `row_count_min` rows when there are so many, and then what
 * has the position of the last one. */
struct kv__page {
    uint64_t row_count_min;
    uint64_t row_count; /* Visited. */
    uint64_t position;  /* Of the last one. */
};

/* Does the row at `position`, the next in order, still belong to this page? Then it counts as
 * visited. Else `position` is the cursor to return. */
bool kv__page_takes(struct kv__page *page, uint64_t position);

#endif
