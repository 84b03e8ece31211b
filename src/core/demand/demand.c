/* SPDX-License-Identifier: Apache-2.0 */
#include "core/demand/demand.h"

#include <stdlib.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "core/slots/slots.h"

enum { STRIDE_MAX = 1 << 24 };

_Static_assert(SLOTS_COUNT <= UINT16_MAX + 1u, "a slot has 16 bits");

struct window {
    uint32_t stride; /* One request in so many is in the sample. */
    uint32_t count;
    uint16_t slots[DEMAND_SAMPLE_COUNT];
};

struct demand__windows {
    uint64_t begun_ms; /* The one that runs. */
    struct window now;
    struct window before;
};

/* ---- Sampling -------------------------------------------------------------------------------- */

/* One in `stride` on average. */
static void draw_next(struct demand *demand)
{
    uint32_t stride =
        demand->windows == NULL ? (uint32_t)DEMAND_STRIDE_MIN : demand->windows->now.stride;
    demand->until_next = 1 + (uint32_t)random_below(&demand->random, 2 * stride - 1);
}

void demand_init(struct demand *demand, uint64_t seed)
{
    *demand = (struct demand){0};
    random_init(&demand->random, seed);
    draw_next(demand);
}

void demand_deinit(struct demand *demand)
{
    memory_free(demand->windows);
    demand->windows = NULL;
}

static void begin(struct demand__windows *windows, uint64_t now_ms)
{
    uint64_t age_ms = now_ms - windows->begun_ms;
    if (age_ms < DEMAND_WINDOW_MS) {
        return;
    }
    bool is_next = age_ms < 2 * (uint64_t)DEMAND_WINDOW_MS;
    windows->before.count = 0;
    if (is_next) {
        windows->before = windows->now;
    }
    windows->begun_ms = is_next ? windows->begun_ms + DEMAND_WINDOW_MS : now_ms;
    windows->now.stride = DEMAND_STRIDE_MIN;
    windows->now.count = 0;
}

/* Each stays with a chance of a half. */
static void thin(struct window *window, struct random *random)
{
    uint32_t count = 0;
    uint64_t lots = 0;
    for (uint32_t i = 0; i < window->count; i++) {
        lots = i % 64 == 0 ? random_next(random) : lots >> 1;
        if ((lots & 1) != 0) {
            window->slots[count++] = window->slots[i];
        }
    }
    window->count = count;
    window->stride *= 2;
}

void demand_note(struct demand *demand, uint32_t slot, uint64_t now_ms)
{
    ASSERT(demand->until_next == 0 && slot < SLOTS_COUNT);
    if (demand->windows == NULL) {
        demand->windows = memory_allocate_zeroed(1, sizeof *demand->windows);
        demand->windows->begun_ms = now_ms;
        demand->windows->now.stride = DEMAND_STRIDE_MIN;
    }
    begin(demand->windows, now_ms);
    struct window *now = &demand->windows->now;
    while (now->count == DEMAND_SAMPLE_COUNT && now->stride < STRIDE_MAX) {
        thin(now, &demand->random);
    }
    if (now->count < DEMAND_SAMPLE_COUNT) {
        now->slots[now->count++] = (uint16_t)slot;
    }
    draw_next(demand);
}

void demand_pass(struct demand *demand)
{
    ASSERT(demand->until_next == 0);
    draw_next(demand);
}

uint64_t demand_choose(struct demand *demand)
{
    return random_next(&demand->random);
}

/* ---- Halves ---------------------------------------------------------------------------------- */

struct item {
    uint32_t slot;
    uint32_t weight; /* Requests that it stands for. */
};

static uint32_t list(const struct window *window, uint32_t first, uint32_t end, struct item *items)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < window->count; i++) {
        if (window->slots[i] >= first && window->slots[i] < end) {
            items[count++] = (struct item){window->slots[i], window->stride};
        }
    }
    return count;
}

static int compare(const void *left, const void *right)
{
    uint32_t left_slot = ((const struct item *)left)->slot;
    uint32_t right_slot = ((const struct item *)right)->slot;
    return left_slot < right_slot ? -1 : left_slot > right_slot;
}

/* Between two neighbours of the sample nobody knows of any requests: the cut is in the middle. */
static struct demand_halves halve(const struct item *items, uint32_t count, uint32_t first,
                                  uint32_t end)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        total += items[i].weight;
    }
    bool is_below = items[0].slot > first; /* Should one slot have all. */
    struct demand_halves best = {
        .slot = is_below ? items[0].slot : first + 1,
        .lower = is_below ? 0 : total,
        .upper = is_below ? total : 0,
    };
    uint64_t lower = 0;
    for (uint32_t i = 1; i < count; i++) {
        lower += items[i - 1].weight;
        if (items[i].slot == items[i - 1].slot) {
            continue;
        }
        uint32_t gap = items[i].slot - items[i - 1].slot;
        const struct demand_halves halves = {items[i].slot - gap / 2, lower, total - lower};
        if (number_min(lower, total - lower) > number_min(best.lower, best.upper)) {
            best = halves;
        }
    }
    ASSERT(best.slot > first && best.slot < end);
    return best;
}

bool demand_halve(const struct demand *demand, uint32_t first, uint32_t end, uint64_t now_ms,
                  struct demand_halves *halves)
{
    ASSERT(first + 1 < end && end <= SLOTS_COUNT);
    if (demand->windows == NULL) {
        return false;
    }
    struct demand__windows windows = *demand->windows;
    begin(&windows, now_ms);
    struct item items[2 * DEMAND_SAMPLE_COUNT];
    uint32_t count = list(&windows.before, first, end, items);
    count += list(&windows.now, first, end, items + count);
    if (count < DEMAND_COUNT_ENOUGH) {
        return false;
    }
    qsort(items, count, sizeof items[0], compare);
    *halves = halve(items, count, first, end);
    return true;
}
