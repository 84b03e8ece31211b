/* SPDX-License-Identifier: Apache-2.0 */
/* The hash table under rows.
 *
 * A slot holds the whole hash, so that a probe touches a row only when it is almost surely the one:
 * a hit costs the cache lines of one slot and one row. A removal in `present` moves later rows of
 * the cluster back (Knuth 6.4, algorithm R), so there are no gravestones.
 *
 * Growing never stops the world: the old slots stay as `previous`, and each insertion moves a few.
 * In `previous` a row that left is replaced by a mark that matches no key. The position comes from
 * the upper bits of the hash, so slot i of the old table fills 2i and 2i+1 of the new one: the part
 * of `present` that has rows grows from its start, and the sweep need not look further. Shrinking is
 * the same, into half as many. */
#include "core/rows/rows_internal.h"

#include <stddef.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"

#define BITS_MIN 4
/* Slots moved at an insertion. The new table is full after as many insertions as the old one has
 * rows, and two per insertion would already be enough for all its slots to be moved by then. */
#define MOVED_AT_INSERTION 8
#define MOVED_AT_SWEEP 64
/* A table shrinks when only one slot of so many has a row. */
#define SHRINK_SHARE 16

/* So many slots are looked at for a row that is fetched ahead: most rows are in one of them, and most of
 * those in one line of the processor's cache. */
#define PREFETCHED_SLOT_COUNT 4
#define CACHE_LINE_SIZE_BYTES 64

/* Stands in `previous` for a row that left. No key is that long. */
static struct row departed = {.key_size_bytes = UINT32_MAX};

static uint64_t slot_count(const struct rows_slots *slots)
{
    return (uint64_t)1 << slots->bits;
}

static uint64_t home_position(const struct rows_slots *slots, uint64_t hash)
{
    return hash >> (64 - slots->bits);
}

static bool is_growing(const struct rows_table *table)
{
    return table->previous.slots != NULL;
}

/* Is the part of `present` that has rows known to end before its own end? */
static bool is_growing_up(const struct rows_table *table)
{
    return is_growing(table) && table->previous.bits < table->present.bits;
}

static struct rows_slots slots_create(uint32_t bits)
{
    return (struct rows_slots){
        .slots = memory_allocate_zeroed((size_t)1 << bits, sizeof(struct rows_slot)), .bits = bits};
}

void rows__table_init(struct rows_table *table)
{
    *table = (struct rows_table){.present = slots_create(BITS_MIN)};
}

void rows__table_deinit(struct rows_table *table)
{
    memory_free(table->present.slots);
    memory_free(table->previous.slots);
    *table = (struct rows_table){0};
}

static struct rows_slot *find_in(const struct rows_slots *slots, uint64_t hash, struct bytes key)
{
    uint64_t mask = slot_count(slots) - 1;
    for (uint64_t position = home_position(slots, hash);; position = (position + 1) & mask) {
        struct rows_slot *slot = &slots->slots[position];
        if (slot->row == NULL) {
            return NULL;
        }
        if (slot->hash == hash && bytes_equal(row_key(slot->row), key)) {
            return slot;
        }
    }
}

struct rows_slot *rows__table_find(const struct rows_table *table, uint64_t hash, struct bytes key)
{
    struct rows_slot *slot = find_in(&table->present, hash, key);
    if (slot == NULL && is_growing(table)) {
        slot = find_in(&table->previous, hash, key);
    }
    return slot;
}

static struct rows_slot *find_hash_in(const struct rows_slots *slots, uint64_t hash)
{
    uint64_t mask = slot_count(slots) - 1;
    for (uint64_t position = home_position(slots, hash);; position = (position + 1) & mask) {
        struct rows_slot *slot = &slots->slots[position];
        if (slot->row == NULL) {
            return NULL;
        }
        if (slot->hash == hash && slot->row != &departed) {
            return slot;
        }
    }
}

struct rows_slot *rows__table_find_hash(const struct rows_table *table, uint64_t hash)
{
    struct rows_slot *slot = find_hash_in(&table->present, hash);
    if (slot == NULL && is_growing(table)) {
        slot = find_hash_in(&table->previous, hash);
    }
    return slot;
}

static void place(struct rows_slots *slots, struct rows_slot moved)
{
    uint64_t mask = slot_count(slots) - 1;
    uint64_t position = home_position(slots, moved.hash);
    while (slots->slots[position].row != NULL) {
        position = (position + 1) & mask;
    }
    slots->slots[position] = moved;
}

/* Move the rows of the next `count` slots of `previous`. */
static void move_some(struct rows_table *table, uint32_t count)
{
    for (; count > 0 && is_growing(table); count--) {
        struct rows_slot *slot = &table->previous.slots[table->moved_count];
        if (slot->row != NULL && slot->row != &departed) {
            place(&table->present, *slot);
            slot->row = &departed;
        }
        table->moved_count++;
        if (table->moved_count == slot_count(&table->previous)) {
            memory_free(table->previous.slots);
            table->previous = (struct rows_slots){0};
        }
    }
}

void rows__table_prefetch(const struct rows_table *table, uint64_t hash)
{
    __builtin_prefetch(&table->present.slots[home_position(&table->present, hash)], 1);
}

void rows__table_prefetch_row(const struct rows_table *table, uint64_t hash)
{
    const struct rows_slots *slots = &table->present;
    uint64_t mask = slot_count(slots) - 1;
    uint64_t position = home_position(slots, hash);
    for (uint32_t i = 0; i < PREFETCHED_SLOT_COUNT; i++) {
        const struct rows_slot *slot = &slots->slots[(position + i) & mask];
        if (slot->hash == hash && slot->row != NULL) {
            const uint8_t *row = (const uint8_t *)slot->row;
            __builtin_prefetch(row, 1);
            __builtin_prefetch(row + CACHE_LINE_SIZE_BYTES, 1);
            return;
        }
    }
}

void rows__table_insert(struct rows_table *table, struct row *row)
{
    move_some(table, MOVED_AT_INSERTION);
    if ((table->row_count + 1) * 10 > slot_count(&table->present) * 7) {
        ASSERT(!is_growing(table));
        table->previous = table->present;
        table->present = slots_create(table->previous.bits + 1);
        table->moved_count = 0;
        table->hand = 0;
    }
    place(&table->present, (struct rows_slot){.hash = row->hash, .row = row});
    table->row_count++;
}

/* Empty a slot of `present` and close the gap. */
static void remove_present(struct rows_slots *slots, uint64_t gap)
{
    uint64_t mask = slot_count(slots) - 1;
    for (uint64_t position = (gap + 1) & mask; slots->slots[position].row != NULL;
         position = (position + 1) & mask) {
        /* A row may move back as far as its home, not beyond. */
        uint64_t home = home_position(slots, slots->slots[position].hash);
        if (((position - home) & mask) >= ((position - gap) & mask)) {
            slots->slots[gap] = slots->slots[position];
            gap = position;
        }
    }
    slots->slots[gap] = (struct rows_slot){0};
}

/* Most rows are gone: half as many slots will do. Before they can be full, all rows have moved. */
static void shrink_if_empty(struct rows_table *table)
{
    move_some(table, MOVED_AT_INSERTION);
    if (table->present.bits > BITS_MIN && !is_growing(table) &&
        table->row_count * SHRINK_SHARE < slot_count(&table->present)) {
        table->previous = table->present;
        table->present = slots_create(table->previous.bits - 1);
        table->moved_count = 0;
        table->hand = 0;
    }
}

void rows__table_remove(struct rows_table *table, struct rows_slot *slot)
{
    ASSERT(slot->row != NULL && slot->row != &departed);
    const struct rows_slot *first = table->present.slots;
    if (slot >= first && slot < first + slot_count(&table->present)) {
        remove_present(&table->present, (uint64_t)(slot - first));
    } else {
        slot->row = &departed;
    }
    ASSERT(table->row_count > 0);
    table->row_count--;
    shrink_if_empty(table);
}

struct rows_slot *rows__table_sweep(struct rows_table *table)
{
    ASSERT(table->row_count > 0);
    for (;;) {
        move_some(table, MOVED_AT_SWEEP);
        uint64_t end = is_growing_up(table) ? 2 * table->moved_count : slot_count(&table->present);
        if (table->hand >= end) {
            table->hand = 0;
        }
        while (table->hand < end) {
            struct rows_slot *slot = &table->present.slots[table->hand++];
            if (slot->row != NULL) {
                return slot;
            }
        }
    }
}

struct row *rows__table_next(const struct rows_table *table, uint64_t *position)
{
    uint64_t present_count = slot_count(&table->present);
    uint64_t previous_count = is_growing(table) ? slot_count(&table->previous) : 0;
    while (*position < present_count + previous_count) {
        uint64_t at = (*position)++;
        const struct rows_slot *slot = at < present_count
                                           ? &table->present.slots[at]
                                           : &table->previous.slots[at - present_count];
        if (slot->row != NULL && slot->row != &departed) {
            return slot->row;
        }
    }
    return NULL;
}
