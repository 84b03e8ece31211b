/* SPDX-License-Identifier: Apache-2.0 */
/* The hash table of the window: from an identity to where its answer is.
 *
 * Open addressing with linear probing. Removing closes the gap, so there are no gravestones.
 * Growing and shrinking never stop the world: the old slots stay as `previous`, and each
 * insertion and removal moves a few. Consecutive sequences of an origin are neighbours in
 * groups, because they come and go together. */
#ifndef CORE_SHARD_SHARD_WINDOW_TABLE_H
#define CORE_SHARD_SHARD_WINDOW_TABLE_H

#include <stdbool.h>
#include <stdint.h>

struct window_answer;

/* About what an item takes, with the slots that are free for others and those that are being left. */
#define SHARD_WINDOW_ITEM_SLOTS_SIZE_BYTES 64u

struct window_slot {
    uint64_t origin; /* 0: free. */
    uint64_t sequence;
    const struct window_answer *answer; /* NULL: pending. */
    bool is_departed;                   /* Of `previous`: moved, or removed. */
};

struct window_slots {
    struct window_slot *slots;
    uint32_t count; /* A power of two, or 0. */
};

struct window_table {
    struct window_slots present;
    struct window_slots previous; /* What was not moved yet. */
    uint32_t moved_count;         /* Slots of `previous` that were looked at. */
    uint32_t used_count;          /* Of both; */
    uint32_t most_used_count;     /* the most, */
    uint64_t change_count;        /* since so many were put in or removed. */
};

void shard__window_table_init(struct window_table *table);
void shard__window_table_deinit(struct window_table *table);

/* Valid until the table changes; NULL. */
struct window_slot *shard__window_table_find(const struct window_table *table, uint64_t origin,
                                             uint64_t sequence);
/* The slot of the identity, or a new one that is pending. */
struct window_slot *shard__window_table_take(struct window_table *table, uint64_t origin,
                                             uint64_t sequence);
void shard__window_table_remove(struct window_table *table, struct window_slot *slot);
/* Nothing has been going on for long: if it is empty it becomes small. Is it? */
bool shard__window_table_rest(struct window_table *table);

#endif
