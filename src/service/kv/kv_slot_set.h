/* SPDX-License-Identifier: Apache-2.0 */
/* A bit for each slot. Of zeros: none is set, and it takes no memory, as in most of many shards. */
#ifndef SERVICE_KV_KV_SLOT_SET_H
#define SERVICE_KV_KV_SLOT_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kv__slot_set {
    uint64_t *words;
};

static inline bool kv__slot_set_has(const struct kv__slot_set *set, uint32_t slot)
{
    return set->words != NULL && (set->words[slot / 64] >> (slot % 64) & 1) != 0;
}

void kv__slot_set_put(struct kv__slot_set *set, uint32_t slot, bool is_in);
/* None is set, and it takes no memory. */
void kv__slot_set_clear(struct kv__slot_set *set);

#endif
