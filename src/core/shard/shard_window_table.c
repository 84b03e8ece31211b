/* SPDX-License-Identifier: Apache-2.0 */
#include "core/shard/shard_window_table.h"

#include <stddef.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum {
    SLOT_COUNT_MIN = 8,
    GROUP_SLOT_COUNT = 8, /* Neighbours: four cache lines. */
    /* Old slots looked at with each change. A table that has doubled is full again after as many
     * insertions as the old one had items, which were 7 of 10 slots. One that has become a quarter
     * has 1 of 4 slots taken, and another 1 of 4 before the old one is empty. */
    MOVED_AT_CHANGE = 16,
    SHRINK_FACTOR = 4,
    /* It does when so few were taken at most, while it changed so many times for each slot: items
     * come and go in bursts. */
    SPARSE_FACTOR = 16,
    CHANGES_PER_SLOT = 4,
};

static struct window_slots slots_create(uint32_t count)
{
    return (struct window_slots){memory_allocate_zeroed(count, sizeof(struct window_slot)), count};
}

void shard__window_table_init(struct window_table *table)
{
    *table = (struct window_table){.present = slots_create(SLOT_COUNT_MIN)};
}

void shard__window_table_deinit(struct window_table *table)
{
    memory_free(table->present.slots);
    memory_free(table->previous.slots);
    *table = (struct window_table){0};
}

/* Multiplying spreads the groups (Knuth 6.4, the golden ratio). */
static uint32_t home_of(const struct window_slots *slots, uint64_t origin, uint64_t sequence)
{
    uint64_t group = sequence / GROUP_SLOT_COUNT;
    uint64_t mixed =
        (origin ^ (group * UINT64_C(0x9e3779b97f4a7c15))) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t place =
        (uint32_t)(mixed >> 32) * GROUP_SLOT_COUNT + (uint32_t)(sequence % GROUP_SLOT_COUNT);
    return place & (slots->count - 1);
}

/* Where the identity is, or the free slot where it would be. */
static struct window_slot *probe(const struct window_slots *slots, uint64_t origin,
                                 uint64_t sequence)
{
    uint32_t place = home_of(slots, origin, sequence);
    for (;; place = (place + 1) & (slots->count - 1)) {
        struct window_slot *slot = &slots->slots[place];
        if (slot->origin == 0 ||
            (slot->origin == origin && slot->sequence == sequence && !slot->is_departed)) {
            return slot;
        }
    }
}

static struct window_slot *find_previous(const struct window_table *table, uint64_t origin,
                                         uint64_t sequence)
{
    if (table->previous.slots == NULL) {
        return NULL;
    }
    struct window_slot *slot = probe(&table->previous, origin, sequence);
    return slot->origin == origin ? slot : NULL;
}

struct window_slot *shard__window_table_find(const struct window_table *table, uint64_t origin,
                                             uint64_t sequence)
{
    ASSERT(origin != 0);
    struct window_slot *slot = probe(&table->present, origin, sequence);
    return slot->origin == origin ? slot : find_previous(table, origin, sequence);
}

static void move_some(struct window_table *table)
{
    for (uint32_t i = 0; i < MOVED_AT_CHANGE && table->previous.slots != NULL; i++) {
        struct window_slot *slot = &table->previous.slots[table->moved_count++];
        if (slot->origin != 0 && !slot->is_departed) {
            *probe(&table->present, slot->origin, slot->sequence) = *slot;
            slot->is_departed = true;
        }
        if (table->moved_count == table->previous.count) {
            memory_free(table->previous.slots);
            table->previous = (struct window_slots){0};
        }
    }
}

static void begin_move(struct window_table *table, uint32_t slot_count)
{
    ASSERT(table->previous.slots == NULL);
    table->previous = table->present;
    table->present = slots_create(slot_count);
    table->moved_count = 0;
    table->change_count = 0;
    table->most_used_count = table->used_count;
}

static void make_room(struct window_table *table)
{
    move_some(table);
    if ((uint64_t)(table->used_count + 1) * 10 > (uint64_t)table->present.count * 7) {
        begin_move(table, 2 * table->present.count);
    }
}

/* Something was put in or removed: has it been too large for long? */
static void note_change(struct window_table *table)
{
    if (table->most_used_count < table->used_count) {
        table->most_used_count = table->used_count;
    }
    if (++table->change_count < (uint64_t)CHANGES_PER_SLOT * table->present.count ||
        table->previous.slots != NULL) {
        return;
    }
    if (table->present.count > SLOT_COUNT_MIN * SHRINK_FACTOR &&
        (uint64_t)table->most_used_count * SPARSE_FACTOR < table->present.count) {
        begin_move(table, table->present.count / SHRINK_FACTOR);
    }
    table->change_count = 0;
    table->most_used_count = table->used_count;
}

struct window_slot *shard__window_table_take(struct window_table *table, uint64_t origin,
                                             uint64_t sequence)
{
    struct window_slot *slot = shard__window_table_find(table, origin, sequence);
    if (slot != NULL) {
        return slot;
    }
    make_room(table);
    table->used_count++;
    note_change(table);
    slot = probe(&table->present, origin, sequence);
    *slot = (struct window_slot){.origin = origin, .sequence = sequence};
    return slot;
}

static bool is_present(const struct window_table *table, const struct window_slot *slot)
{
    return slot >= table->present.slots && slot < table->present.slots + table->present.count;
}

static void close_gap(const struct window_slots *slots, const struct window_slot *removed)
{
    uint32_t mask = slots->count - 1;
    uint32_t hole = (uint32_t)(removed - slots->slots);
    uint32_t place = (hole + 1) & mask;
    while (slots->slots[place].origin != 0) {
        const struct window_slot *next = &slots->slots[place];
        uint32_t home = home_of(slots, next->origin, next->sequence);
        /* It may move into the hole unless its home is behind the hole. */
        if (((place - home) & mask) >= ((place - hole) & mask)) {
            slots->slots[hole] = *next;
            hole = place;
        }
        place = (place + 1) & mask;
    }
    slots->slots[hole] = (struct window_slot){0};
}

void shard__window_table_remove(struct window_table *table, struct window_slot *slot)
{
    table->used_count--;
    if (is_present(table, slot)) {
        close_gap(&table->present, slot);
    } else {
        slot->is_departed = true;
    }
    move_some(table);
    note_change(table);
}

bool shard__window_table_rest(struct window_table *table)
{
    bool is_large = table->present.count > SLOT_COUNT_MIN || table->previous.slots != NULL;
    if (table->used_count == 0 && is_large) {
        shard__window_table_deinit(table);
        shard__window_table_init(table);
        is_large = false;
    }
    return !is_large;
}
