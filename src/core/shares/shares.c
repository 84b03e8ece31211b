/* SPDX-License-Identifier: Apache-2.0 */
/* The sharing out is "water-filling": members that need less than their part are satisfied first, and
 * their rest goes to the others, until no part changes (as max-min fairness with weights: Bertsekas and
 * Gallager, Data Networks, section 6.5). */
#include "core/shares/shares.h"

#include <stddef.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"

enum {
    HALF_LIFE = 8,                  /* Rounds. */
    FLOOR_SHARE = 8,                /* The floors of all take this part of the budget at most. */
    STEP_SHARE = 8,                 /* A limit changes by this part of it at least, … */
    STEP_SIZE_BYTES_MIN = 16 << 10, /* … and by so much. */
    FILL_ROUND_COUNT_MAX = 16,
    WEIGHT_SCALE = 256, /* Requests are weighed in such parts, so that few of them decay, too. */
};

struct member {
    uint64_t limit_size_bytes;
    uint64_t used_size_bytes;
    uint64_t weight; /* Requests lately. */
    uint64_t asked;  /* In this round. */
    uint64_t part;   /* What it gets above the floor, by the last filling. */
    bool is_listed;
    bool is_short;
    bool is_satisfied;
};

struct shares {
    struct shares_options options;
    uint64_t floor_size_bytes;
    uint64_t committed_size_bytes;
    struct member *members;
    uint32_t member_count;
    uint32_t member_capacity;
    uint32_t *listed; /* Those that a round looks at. */
    uint32_t listed_count;
    bool is_floor_lower; /* Since the last round. */
};

struct shares *shares_create(const struct shares_options *options)
{
    ASSERT(options->budget_size_bytes > 0 && options->member_count_max > 0);
    struct shares *shares = memory_allocate_zeroed(1, sizeof *shares);
    shares->options = *options;
    shares->floor_size_bytes = options->budget_size_bytes;
    return shares;
}

void shares_destroy(struct shares *shares)
{
    if (shares != NULL) {
        memory_free(shares->members);
        memory_free(shares->listed);
        memory_free(shares);
    }
}

uint32_t shares_count(const struct shares *shares)
{
    return shares->member_count;
}

uint64_t shares_limit(const struct shares *shares, uint32_t member)
{
    ASSERT(member < shares->member_count);
    return shares->members[member].limit_size_bytes;
}

uint64_t shares_committed(const struct shares *shares)
{
    return shares->committed_size_bytes;
}

/* ---- Accounts -------------------------------------------------------------------------------- */

static uint64_t committed(const struct member *member)
{
    return number_max(member->limit_size_bytes, member->used_size_bytes);
}

static void list_member(struct shares *shares, uint32_t number)
{
    if (!shares->members[number].is_listed) {
        shares->members[number].is_listed = true;
        shares->listed[shares->listed_count++] = number;
    }
}

static void set_limit(struct shares *shares, struct member *member, uint64_t limit_size_bytes)
{
    shares->committed_size_bytes -= committed(member);
    member->limit_size_bytes = limit_size_bytes;
    shares->committed_size_bytes += committed(member);
}

static void make_room(struct shares *shares)
{
    if (shares->member_count == shares->member_capacity) {
        shares->member_capacity = shares->member_capacity == 0 ? 8 : 2 * shares->member_capacity;
        shares->members =
            memory_resize(shares->members, shares->member_capacity * sizeof shares->members[0]);
        shares->listed =
            memory_resize(shares->listed, shares->member_capacity * sizeof shares->listed[0]);
    }
}

static uint64_t floor_for(const struct shares *shares, uint32_t member_count)
{
    uint64_t even = shares->options.budget_size_bytes / member_count;
    return member_count == 1 ? even
                             : number_min(even / FLOOR_SHARE, shares->options.floor_size_bytes_max);
}

uint32_t shares_add(struct shares *shares)
{
    ASSERT(shares->member_count < shares->options.member_count_max);
    make_room(shares);
    uint32_t number = shares->member_count++;
    uint64_t floor = floor_for(shares, shares->member_count);
    shares->is_floor_lower |= floor < shares->floor_size_bytes;
    shares->floor_size_bytes = floor;
    shares->members[number] = (struct member){0};
    /* It has what is free; the others make room with the next round. */
    uint64_t budget = shares->options.budget_size_bytes;
    uint64_t free_size_bytes = budget - number_min(budget, shares->committed_size_bytes);
    set_limit(shares, &shares->members[number], number_min(floor, free_size_bytes));
    list_member(shares, number);
    return number;
}

void shares_note(struct shares *shares, uint32_t number, uint64_t used_size_bytes,
                 uint64_t request_count, bool is_short)
{
    ASSERT(number < shares->member_count);
    struct member *member = &shares->members[number];
    shares->committed_size_bytes -= committed(member);
    member->used_size_bytes = used_size_bytes;
    shares->committed_size_bytes += committed(member);
    member->asked += request_count;
    member->is_short |= is_short;
    list_member(shares, number);
}

/* ---- A round --------------------------------------------------------------------------------- */

static void weigh(struct member *member)
{
    uint64_t asked = number_min(member->asked, UINT64_MAX / WEIGHT_SCALE / 2) * WEIGHT_SCALE;
    member->weight -= member->weight / HALF_LIFE;
    member->weight += asked / HALF_LIFE;
    member->asked = 0;
}

/* What it can use above the floor. One that is short can use any amount. */
static uint64_t need(const struct shares *shares, const struct member *member)
{
    if (member->is_short) {
        return UINT64_MAX;
    }
    uint64_t wanted = member->used_size_bytes + member->used_size_bytes / STEP_SHARE;
    return wanted > shares->floor_size_bytes ? wanted - shares->floor_size_bytes : 0;
}

/* Numerator times a fraction of at most 1. */
static uint64_t part_of(uint64_t whole, uint64_t weight, uint64_t weights)
{
    return (uint64_t)((unsigned __int128)whole * weight / weights);
}

/* One pass. True: somebody needs less than its part, and the parts of the others grow. */
static bool fill_once(struct shares *shares, uint64_t pool, uint64_t weights, uint64_t *rest,
                      uint64_t *weights_left)
{
    bool is_changed = false;
    for (uint32_t i = 0; i < shares->listed_count; i++) {
        struct member *member = &shares->members[shares->listed[i]];
        if (member->is_satisfied) {
            continue;
        }
        uint64_t most = need(shares, member);
        member->part = part_of(pool, member->weight + 1, weights);
        if (most <= member->part) {
            member->part = most;
            member->is_satisfied = true;
            *rest -= most;
            *weights_left -= member->weight + 1;
            is_changed = true;
        }
    }
    return is_changed;
}

static void fill(struct shares *shares)
{
    uint64_t weights = 0;
    uint64_t floors = shares->floor_size_bytes * shares->member_count;
    uint64_t pool = shares->options.budget_size_bytes - floors;
    for (uint32_t i = 0; i < shares->listed_count; i++) {
        struct member *member = &shares->members[shares->listed[i]];
        member->is_satisfied = false;
        weights += member->weight + 1;
    }
    for (uint32_t i = 0; i < FILL_ROUND_COUNT_MAX && weights > 0; i++) {
        uint64_t rest = pool;
        uint64_t weights_left = weights;
        if (!fill_once(shares, pool, weights, &rest, &weights_left)) {
            break;
        }
        pool = rest;
        weights = weights_left;
    }
}

static bool is_worth_it(uint64_t before, uint64_t after, uint64_t floor_size_bytes)
{
    uint64_t difference = before > after ? before - after : after - before;
    uint64_t step = number_max(before / STEP_SHARE, STEP_SIZE_BYTES_MIN);
    bool is_to_floor = after == floor_size_bytes || before < floor_size_bytes;
    return difference >= step || (difference > 0 && is_to_floor);
}

/* `is_all`: also what is not worth it otherwise. */
static void take(struct shares *shares, bool is_all,
                 void (*set)(void *context, uint32_t member, uint64_t limit_size_bytes),
                 void *context)
{
    for (uint32_t i = 0; i < shares->listed_count; i++) {
        struct member *member = &shares->members[shares->listed[i]];
        uint64_t target = shares->floor_size_bytes + member->part;
        if (target < member->limit_size_bytes &&
            (is_all || is_worth_it(member->limit_size_bytes, target, shares->floor_size_bytes))) {
            set_limit(shares, member, target);
            set(context, shares->listed[i], target);
        }
    }
}

/* I1: what is free, and no more. */
static void give(struct shares *shares,
                 void (*set)(void *context, uint32_t member, uint64_t limit_size_bytes),
                 void *context)
{
    uint64_t wanted = 0;
    for (uint32_t i = 0; i < shares->listed_count; i++) {
        const struct member *member = &shares->members[shares->listed[i]];
        uint64_t target = shares->floor_size_bytes + member->part;
        wanted += target - number_min(target, committed(member));
    }
    uint64_t budget = shares->options.budget_size_bytes;
    uint64_t free_size_bytes = budget - number_min(budget, shares->committed_size_bytes);
    for (uint32_t i = 0; i < shares->listed_count && wanted > 0; i++) {
        struct member *member = &shares->members[shares->listed[i]];
        uint64_t target = shares->floor_size_bytes + member->part;
        uint64_t missing = target - number_min(target, committed(member));
        uint64_t given =
            number_min(missing, part_of(free_size_bytes, missing, number_max(wanted, missing)));
        uint64_t limit = committed(member) + given;
        if (given > 0 && limit > member->limit_size_bytes &&
            is_worth_it(member->limit_size_bytes, limit, shares->floor_size_bytes)) {
            set_limit(shares, member, limit);
            set(context, shares->listed[i], limit);
        }
    }
}

/* Those that have the floor, and nobody asks, are looked at no more. */
static void forget_idle(struct shares *shares)
{
    uint32_t kept_count = 0;
    for (uint32_t i = 0; i < shares->listed_count; i++) {
        uint32_t number = shares->listed[i];
        struct member *member = &shares->members[number];
        member->is_short = false;
        member->is_listed = member->weight >= HALF_LIFE ||
                            member->used_size_bytes > shares->floor_size_bytes ||
                            member->limit_size_bytes != shares->floor_size_bytes;
        if (member->is_listed) {
            shares->listed[kept_count++] = number;
        }
    }
    shares->listed_count = kept_count;
}

void shares_settle(struct shares *shares,
                   void (*set)(void *context, uint32_t member, uint64_t limit_size_bytes),
                   void *context)
{
    bool is_anybody_short = false;
    bool is_anybody_below = shares->is_floor_lower;
    for (uint32_t i = 0; shares->is_floor_lower && i < shares->member_count; i++) {
        list_member(shares, i);
    }
    for (uint32_t i = 0; i < shares->listed_count; i++) {
        struct member *member = &shares->members[shares->listed[i]];
        weigh(member);
        is_anybody_short |= member->is_short;
        is_anybody_below |= member->limit_size_bytes < shares->floor_size_bytes;
    }
    if (is_anybody_short || is_anybody_below) {
        fill(shares);
        take(shares, is_anybody_below, set, context);
        give(shares, set, context);
    }
    shares->is_floor_lower = false;
    forget_idle(shares);
    ASSERT_SLOW(shares->floor_size_bytes * shares->member_count <=
                shares->options.budget_size_bytes);
}
