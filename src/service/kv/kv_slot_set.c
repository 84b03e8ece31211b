/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv/kv_slot_set.h"

#include "base/memory/memory.h"
#include "service/kv/kv.h"

void kv__slot_set_put(struct kv__slot_set *set, uint32_t slot, bool is_in)
{
    if (kv__slot_set_has(set, slot) == is_in) {
        return;
    }
    if (set->words == NULL) {
        set->words = memory_allocate_zeroed(KV_SLOT_COUNT / 64, sizeof set->words[0]);
    }
    set->words[slot / 64] ^= 1ull << (slot % 64);
}

void kv__slot_set_clear(struct kv__slot_set *set)
{
    memory_free(set->words);
    set->words = NULL;
}
