/* SPDX-License-Identifier: Apache-2.0 */
/* kv_census: what the machine counts, and the counting of a part of it before the shard becomes two.
 *
 * The counts are part of the state, and a child must have its own: those of the slots from its first
 * one to the end. The census finds them while the shard serves. Each step, a command of the log,
 * counts the rows of some whole slots; from then on every change in a slot that is counted changes
 * the census, too. So it is exact at each index of the log, and on every replica.
 *
 * All changes of the counts are made here. */
#ifndef SERVICE_KV_KV_CENSUS_H
#define SERVICE_KV_KV_CENSUS_H

#include "service/kv/kv_internal.h"

/* So many more rows (or, below 0, fewer) are in the slot now. */
void kv__key_count_change(struct kv *kv, uint32_t slot, int change);
void kv__expiring_key_count_change(struct kv *kv, uint32_t slot, int change);
void kv__garbage_count_change(struct kv *kv, uint32_t slot, int change);
void kv__record_count_change(struct kv *kv, uint32_t slot, int change);
/* All rows are gone but the records and decisions. */
void kv__counts_flush(struct kv *kv);

/* Is all counted that a child with this first slot will have? */
bool kv__census_is_complete(const struct kv *kv, uint32_t first_slot);

/* Count a row of this kind. */
void kv__count_row(struct kv__counts *counts, enum kv_row_kind kind);

/* Count whole slots, from `census->next_slot` on, until so many rows have been looked at or `end_slot`
 * is reached. A slot that is begun is counted to its end. `*row_count` is what is left of it. */
MUST_USE int kv__census_count(struct rows *rows, uint32_t end_slot, struct kv__census *census,
                              uint64_t *row_count);

/* ---- The saved state -------------------------------------------------------------------------- */

/* Of no release: what has records in that order is refused. */
enum { KV__SAVED_VERSION_OF_OTHER_ROWS = 2 };

struct kv__saved {
    struct kv__counts counts;
    uint64_t generation_last;
    struct kv__census census;
};

/* What the machine would save now. */
struct kv__saved kv__saved_of(const struct kv *kv);
/* Is what the census counted a part of all? */
bool kv__saved_is_whole(const struct kv__saved *saved);
void kv__saved_encode(const struct kv__saved *saved, struct buffer *target);
/* ERROR_NEWER_FORMAT; ERROR_CORRUPT. Whether the census fits a range is not looked at. */
MUST_USE int kv__saved_decode(struct bytes bytes, struct kv__saved *saved);

#endif
