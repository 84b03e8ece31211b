/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv/kv_range.h"

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_field.h"
#include "service/kv/kv_participant.h"

enum {
    CENSUS_ROW_COUNT = 1000,
    /* When they are not in memory: clients wait while the disk is read, from one end to the other. What
     * was read does not stay in memory, so the next step is cold as well. */
    CENSUS_COLD_ROW_COUNT = 500,
    CENSUS_DELAY_MS = 5, /* Between two steps: so that clients do not notice. */
    SPLIT_DELAY_MS = 5,  /* Before it is looked again whether it can be done. */
    HOLD_MS = 2000,      /* So long what would be prepared waits, */
    REST_MS = 3000,      /* and so long it may go on when that was for nothing. */
};

/* ---- The range ------------------------------------------------------------------------------- */

static void set_end(struct kv *kv, uint32_t end_slot)
{
    __atomic_store_n(&kv->end_slot, end_slot, __ATOMIC_RELAXED);
}

void kv__set_range(void *context, uint32_t first_slot, uint32_t end_slot)
{
    struct kv *kv = context;
    ASSERT(first_slot < end_slot && end_slot <= KV_SLOT_COUNT);
    __atomic_store_n(&kv->first_slot, first_slot, __ATOMIC_RELAXED);
    set_end(kv, end_slot);
    kv__forgetting_deinit(kv); /* It is about the slots of the range. */
    kv->garbage_next_slot = first_slot;
    kv->census = (struct kv__census){0}; /* Until load() says more. */
    kv->wish = (struct kv__wish){0};     /* It was of another range. */
}

/* ---- The leader's way to it ------------------------------------------------------------------ */

static bool is_inside(const struct kv *kv, uint32_t slot)
{
    return slot > kv->first_slot && slot < kv->end_slot;
}

bool kv__census_fits(const struct kv__census *census, const struct kv *kv)
{
    return census->first_slot == 0 ||
           (is_inside(kv, census->first_slot) && census->next_slot <= kv->end_slot);
}

void kv_want_split(struct kv *kv, uint32_t first_slot, uint32_t child)
{
    bool is_same = kv->wish.first_slot == first_slot && kv->wish.child == child;
    bool is_ours = is_inside(kv, first_slot) || BUG("kv.split_carried_out_again");
    if (is_ours && !is_same) {
        kv->wish = (struct kv__wish){.first_slot = first_slot, .child = child};
    }
}

bool kv_wants_split(const struct kv *kv)
{
    return kv->wish.first_slot != 0;
}

/* A clock for what waits: the time of the log stands still after the wall clock was set back. Then each
 * look stands for the delay that was asked for. */
static uint64_t clock_of(struct kv__wish *wish, uint64_t time_ms)
{
    wish->clock_ms += time_ms > wish->seen_ms ? time_ms - wish->seen_ms : wish->asked_ms + 1;
    wish->seen_ms = time_ms;
    return wish->clock_ms;
}

static void wait_until(struct kv__wish *wish, uint64_t time_ms, uint64_t delay_ms)
{
    wish->not_before_ms = time_ms + delay_ms;
    wish->delay_ms = delay_ms;
}

/* Would the next step of the census begin with a read of the disk? */
static bool is_cold(const struct kv *kv, struct rows *rows)
{
    uint32_t first_slot = kv->wish.first_slot;
    uint32_t slot = kv->census.first_slot == first_slot ? kv->census.next_slot : first_slot;
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_prefix(lower, slot, KV_ROW_KEY);
    kv__row_prefix(upper, kv->end_slot, KV_ROW_KEY);
    struct bytes from = bytes_make(lower, sizeof lower);
    struct rows_iterator *iterator;
    int status = rows_iterator_open(rows, from, bytes_make(upper, sizeof upper), &iterator);
    if (status == 0) {
        status = rows_iterator_seek(iterator, from);
        rows_iterator_close(iterator);
    }
    return status == ERROR_INCOMPLETE;
}

static struct shard_command census_command(struct kv *kv, uint64_t row_count)
{
    struct kv__wish *wish = &kv->wish;
    endian_put_u32_le(wish->numbers, wish->first_slot);
    endian_put_u64_le(wish->numbers + 4, row_count);
    wish->arguments[0] = bytes_make(wish->numbers, 4);
    wish->arguments[1] = bytes_make(wish->numbers + 4, 8);
    return (struct shard_command){KV_OPCODE_CENSUS, 2, wish->arguments};
}

static struct shard_command split_command(struct kv *kv)
{
    struct kv__wish *wish = &kv->wish;
    endian_put_u32_le(wish->numbers, wish->child);
    endian_put_u32_le(wish->numbers + 4, wish->first_slot);
    wish->arguments[0] = bytes_make(wish->numbers, 4);
    wish->arguments[1] = bytes_make(wish->numbers + 4, 4);
    return (struct shard_command){SHARD_OPCODE_SPLIT, 2, wish->arguments};
}

/* A part that is prepared, or will be by what is in the log, may have keys of both halves. An open
 * decision has one slot, and goes with it. */
static bool is_anything_prepared(const struct kv *kv)
{
    return kv->locks.count > 0 || (kv->intents.count > 0 && !BUG("kv.split_passes_prepare"));
}

/* All is counted: the next step, if there is one now. */
static bool hold(struct kv *kv, uint64_t time_ms, struct shard_command *command)
{
    struct kv__wish *wish = &kv->wish;
    if (!wish->is_holding) {
        wish->is_holding = true;
        wish->hold_began_ms = time_ms;
    }
    if (time_ms - wish->hold_began_ms >= HOLD_MS) {
        PROBE("kv.split_given_up");
        wish->is_holding = false;
        wait_until(wish, time_ms, REST_MS);
        /* It changes nothing, but whenever something was applied, those who wait are asked again. */
        *command = census_command(kv, 0);
        return true;
    }
    wait_until(wish, time_ms, SPLIT_DELAY_MS); /* The shard may not take it just now. */
    if (is_anything_prepared(kv)) {
        PROBE("kv.split_waits");
        return false;
    }
    *command = split_command(kv);
    return true;
}

bool kv__split_background(struct kv *kv, struct rows *rows, uint64_t time_ms,
                          struct shard_command *command, uint64_t *delay_ms)
{
    struct kv__wish *wish = &kv->wish;
    if (wish->first_slot == 0) {
        return false;
    }
    time_ms = clock_of(wish, time_ms);
    uint64_t wait_ms = wish->not_before_ms - time_ms;
    if (wish->not_before_ms <= time_ms) {
        if (!kv__census_is_complete(kv, wish->first_slot)) {
            wait_until(wish, time_ms, CENSUS_DELAY_MS);
            *command =
                census_command(kv, is_cold(kv, rows) ? CENSUS_COLD_ROW_COUNT : CENSUS_ROW_COUNT);
            return true;
        }
        if (hold(kv, time_ms, command)) {
            return true;
        }
        wait_ms = wish->delay_ms;
    }
    *delay_ms = *delay_ms < wait_ms ? *delay_ms : wait_ms;
    wish->asked_ms = *delay_ms;
    return false;
}

bool kv__is_step_to_split(const struct shard_command *command)
{
    return command->opcode == KV_OPCODE_CENSUS || command->opcode == SHARD_OPCODE_SPLIT;
}

/* ---- It is done ------------------------------------------------------------------------------ */

static void subtract(struct kv *kv, const struct kv__counts *counts)
{
    kv->key_count -= counts->key_count;
    kv->expiring_key_count -= counts->expiring_key_count;
    kv->garbage_count -= counts->garbage_count;
    kv->record_count -= counts->record_count;
}

int kv__split(void *context, struct rows *rows, uint32_t first_slot, struct buffer *child_saved)
{
    (void)rows; /* They stay where they are. */
    struct kv *kv = context;
    const struct kv__saved parent = kv__saved_of(kv);
    if (!is_inside(kv, first_slot) || !kv__census_is_complete(kv, first_slot) ||
        !kv__saved_is_whole(&parent) || kv->locks.count > 0) {
        return ERROR_CORRUPT;
    }
    const struct kv__saved child = {
        .counts = kv->census.counts,
        .generation_last = kv->generation_last,
    };
    kv__saved_encode(&child, child_saved);
    subtract(kv, &child.counts);
    kv->census = (struct kv__census){0};
    set_end(kv, first_slot);
    kv__sweep_hints_cut(kv);
    kv__garbage_hints_cut(kv);
    kv__records_cut(kv);
    if (kv->wish.first_slot >= first_slot) {
        kv->wish = (struct kv__wish){0};
    }
    return 0;
}
