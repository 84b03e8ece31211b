/* SPDX-License-Identifier: Apache-2.0 */
/* The changes of a generation in order of key, for batches and iterators.
 *
 * Most are put in order by their first eight bytes, without looking at the rows: many by a radix
 * sort, byte by byte from the last (Knuth 5.2.5, algorithm R), leaving out the bytes in which they
 * are equal; few by comparing. Then those with equal prefixes are compared. */
#include <stdlib.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "core/rows/rows_internal.h"

#define RADIX_COUNT_MIN 512u
#define BYTE_VALUE_COUNT 256u

void rows__generation_add(struct rows_generation *generation, struct row *row)
{
    if (generation->change_count == generation->change_capacity) {
        ASSERT(generation->change_capacity < UINT32_MAX / 2);
        generation->change_capacity =
            generation->change_capacity == 0 ? 64 : 2 * generation->change_capacity;
        generation->changes =
            memory_resize(generation->changes, generation->change_capacity * sizeof(struct row *));
    }
    row->change_position = generation->change_count;
    generation->changes[generation->change_count++] = row;
}

struct rows_sorted rows__sorted_make(const struct rows_generation *generation, uint32_t position)
{
    struct bytes key = row_key(generation->changes[position]);
    uint8_t prefix[sizeof(uint64_t)] = {0};
    if (key.size_bytes > 0) {
        memcpy(prefix, key.data, key.size_bytes < sizeof prefix ? key.size_bytes : sizeof prefix);
    }
    return (struct rows_sorted){.prefix = endian_get_u64_be(prefix), .position = position};
}

static int compare(const struct rows_sorted *left, const struct rows_sorted *right,
                   const struct rows_generation *generation)
{
    if (left->prefix != right->prefix) {
        return left->prefix < right->prefix ? -1 : 1;
    }
    return bytes_compare(row_key(rows__sorted_row(generation, left)),
                         row_key(rows__sorted_row(generation, right)));
}

static int compare_items(const void *left, const void *right, void *generation)
{
    return compare(left, right, generation);
}

static void sort_by_comparing(const struct rows_generation *generation, struct rows_sorted *items,
                              uint32_t count)
{
    if (count > 1) {
        qsort_r(items, count, sizeof items[0], compare_items, (void *)(uintptr_t)generation);
    }
}

/* Order `source` by one byte of the prefixes, of which there are so many of each value, keeping the
 * order of equals. */
static void scatter(const struct rows_sorted *source, uint32_t count, uint32_t shift,
                    const uint32_t *value_counts, struct rows_sorted *target)
{
    uint32_t places[BYTE_VALUE_COUNT];
    uint32_t place = 0;
    for (uint32_t value = 0; value < BYTE_VALUE_COUNT; value++) {
        places[value] = place;
        place += value_counts[value];
    }
    for (uint32_t i = 0; i < count; i++) {
        target[places[(uint8_t)(source[i].prefix >> shift)]++] = source[i];
    }
}

static void sort_by_prefix(struct rows_sorted *items, uint32_t count)
{
    static const uint32_t shifts[] = {0, 8, 16, 24, 32, 40, 48, 56};
    uint32_t value_counts[sizeof shifts / sizeof shifts[0]][BYTE_VALUE_COUNT] = {0};
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < sizeof shifts / sizeof shifts[0]; k++) {
            value_counts[k][(uint8_t)(items[i].prefix >> shifts[k])]++;
        }
    }
    struct rows_sorted *other = memory_allocate(count * sizeof other[0]);
    struct rows_sorted *source = items;
    struct rows_sorted *target = other;
    for (uint32_t k = 0; k < sizeof shifts / sizeof shifts[0]; k++) {
        if (value_counts[k][(uint8_t)(source[0].prefix >> shifts[k])] == count) {
            continue;
        }
        scatter(source, count, shifts[k], value_counts[k], target);
        struct rows_sorted *sorted = target;
        target = source;
        source = sorted;
    }
    if (source != items) {
        memcpy(items, source, count * sizeof items[0]);
    }
    memory_free(other);
}

void rows__sort(const struct rows_generation *generation, struct rows_sorted *items, uint32_t count)
{
    if (count < RADIX_COUNT_MIN) {
        sort_by_comparing(generation, items, count);
        return;
    }
    sort_by_prefix(items, count);
    for (uint32_t first = 0; first < count;) {
        uint32_t end = first + 1;
        while (end < count && items[end].prefix == items[first].prefix) {
            end++;
        }
        sort_by_comparing(generation, items + first, end - first);
        first = end;
    }
}

void rows__generation_order(struct rows_generation *generation)
{
    uint32_t ordered_count = generation->ordered_count;
    uint32_t added_count = generation->change_count - ordered_count;
    if (added_count <= ROWS_UNORDERED_COUNT_MAX) {
        return;
    }
    /* Sort what came since behind the rest, then merge both into a new array. */
    struct rows_sorted *merged =
        memory_allocate(generation->change_count * sizeof generation->order[0]);
    struct rows_sorted *added =
        memory_resize(generation->order, generation->change_count * sizeof generation->order[0]);
    const struct rows_sorted *ordered = added;
    added += ordered_count;
    for (uint32_t i = 0; i < added_count; i++) {
        added[i] = rows__sorted_make(generation, ordered_count + i);
    }
    rows__sort(generation, added, added_count);
    uint32_t first = 0;
    uint32_t second = 0;
    for (uint32_t i = 0; i < generation->change_count; i++) {
        bool is_first =
            second == added_count ||
            (first < ordered_count && compare(&ordered[first], &added[second], generation) < 0);
        merged[i] = is_first ? ordered[first++] : added[second++];
    }
    memory_free((void *)(uintptr_t)ordered);
    generation->order = merged;
    generation->ordered_count = generation->change_count;
}

void rows__generation_clear(struct rows_generation *generation)
{
    generation->change_count = 0;
    generation->ordered_count = 0;
    generation->size_bytes = 0;
    memory_free(generation->order);
    generation->order = NULL;
}

void rows__generation_deinit(struct rows_generation *generation)
{
    memory_free(generation->changes);
    memory_free(generation->order);
    *generation = (struct rows_generation){0};
}
