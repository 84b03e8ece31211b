/* SPDX-License-Identifier: Apache-2.0 */
/* Which keys transactions over several shards hold. In memory, keys are told by 64 bits of hash: two
 * keys that share them wait for each other without need, on every replica alike. The rows have the
 * names. */
#ifndef SERVICE_KV_KV_LOCK_H
#define SERVICE_KV_KV_LOCK_H

#include "service/kv/kv_internal.h"

/* The row of a key's lock; `target` has KV_KEY_ROW_PREFIX_SIZE_BYTES more than the longest key. */
struct bytes kv__lock_row(uint8_t *target, struct bytes name);

bool kv__key_set_has(const struct kv__key_set *set, uint64_t hash);
void kv__key_set_add(struct kv__key_set *set, uint64_t hash);    /* Once more. */
void kv__key_set_remove(struct kv__key_set *set, uint64_t hash); /* Once less, if it is there. */
void kv__key_set_deinit(struct kv__key_set *set);                /* Empty it. */

uint64_t kv__key_hash(struct bytes name);

/* Does a transaction that is prepared hold a key of the command? A live view asks the memory, one of a
 * snapshot the rows. 1, 0, or a status of rows. */
MUST_USE int kv__is_locked(const struct kv_call *call);

#endif
