/* SPDX-License-Identifier: Apache-2.0 */
/* What nobody has to remember any more of transactions over several shards.
 *
 * Each transaction leaves a row with every participant and one at its home, and all of them stay for
 * the horizon: two minutes of them may be millions. So nothing here looks at those that stay. A list
 * (the records of a slot, or its decisions) is in the order of time, and the machine knows where its
 * first row is that may have to go: a pass over the lists asks only for those in which something is
 * due, and what it asks for ends at the first row that is too young.
 *
 * A step depends on nothing but its arguments and the rows, as every command of the log: how many
 * rows to look at, and from which rows on. Each replica notes for itself where a step ended, so
 * whoever leads next goes on there; a step that was lost with its leader is due in the next pass.
 * Rows that are old and not finished are passed by, and are due again once they are finished. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_participant.h"

/* Behind every row: none. */
static const struct txn_id none = {UINT64_MAX, UINT64_MAX, UINT64_MAX};

/* What began before may go: as txn_is_too_old(). */
static uint64_t horizon_of(uint64_t time_ms)
{
    if (BUG("kv.outcome_forgotten_early")) {
        return UINT64_MAX;
    }
    return time_ms > TXN_HORIZON_MS ? time_ms - TXN_HORIZON_MS : 0;
}

/* The order of the rows of a list. */
static bool is_before(struct txn_id left, struct txn_id right)
{
    if (left.begun_ms != right.begun_ms) {
        return left.begun_ms < right.begun_ms;
    }
    return left.origin != right.origin ? left.origin < right.origin : left.number < right.number;
}

/* ---- What is due ----------------------------------------------------------------------------- */

static uint32_t list_of(const struct kv *kv, uint32_t slot, enum kv_row_kind kind)
{
    ASSERT(kind == KV_ROW_RECORD || kind == KV_ROW_DECISION);
    return 2 * (slot - kv->first_slot) + (kind == KV_ROW_DECISION);
}

static uint32_t list_count(const struct kv *kv)
{
    return 2 * (kv->end_slot - kv->first_slot);
}

static bool is_here(const struct kv *kv, uint32_t slot)
{
    return slot >= kv->first_slot && slot < kv->end_slot;
}

void kv__record_hint(struct kv *kv, uint32_t place, enum kv_row_kind kind, struct txn_id id)
{
    struct kv__forgetting *forgetting = &kv->forgetting;
    kv__slot_set_put(&kv->record_hints, place, true);
    if (!is_here(kv, place)) {
        return;
    }
    if (forgetting->firsts == NULL) {
        forgetting->firsts = memory_allocate(list_count(kv) * sizeof forgetting->firsts[0]);
        for (uint32_t list = 0; list < list_count(kv); list++) {
            forgetting->firsts[list] = none;
        }
    }
    struct txn_id *first = &forgetting->firsts[list_of(kv, place, kind)];
    *first = is_before(id, *first) ? id : *first;
}

void kv__forgetting_cut(struct kv *kv)
{
    if (kv->forgetting.next_list >= list_count(kv)) {
        kv->forgetting.next_list = 0;
    }
}

void kv__forgetting_deinit(struct kv *kv)
{
    kv__slot_set_clear(&kv->record_hints);
    memory_free(kv->forgetting.firsts);
    memset(&kv->forgetting, 0, sizeof kv->forgetting);
}

/* ---- A step ---------------------------------------------------------------------------------- */

struct step {
    struct kv_call *call;
    struct rows_iterator *iterator; /* One for all lists: to open it may cost more than they do. */
    uint64_t horizon_ms;
    uint64_t row_count_left; /* To look at. */
    bool is_over;            /* More is due than it may look at. */
    struct txn_id rest;      /* Of the list: the first row that was not passed. */
};

/* May the row go, once it is old? A commit stays until all have finished, whatever its age. */
static int is_finished(enum kv_row_kind kind, struct bytes value, bool *is_finished)
{
    int status;
    if (kind == KV_ROW_RECORD) {
        struct kv_record record;
        status = kv__record_decode(value, &record);
        *is_finished = status == 0 && record.state != KV_RECORD_PREPARED;
    } else {
        struct kv_decision decision;
        status = kv__decision_decode(value, &decision);
        *is_finished = status == 0 && (!decision.is_commit || decision.is_forgotten);
    }
    return status;
}

/* Look at a row of the list; note it if it goes. False: the list ends here, or (with a status) the
 * command. */
static bool look_at(struct step *step, struct bytes row, enum kv_row_kind kind, int *status)
{
    struct txn_id id = kv__record_id(row);
    bool is_old = id.begun_ms < step->horizon_ms;
    if (!is_old || step->row_count_left == 0) {
        step->rest = id;
        step->is_over = is_old;
        return false;
    }
    step->row_count_left--;
    bool may_go;
    *status = is_finished(kind, rows_iterator_value(step->iterator), &may_go);
    if (*status == 0 && may_go) {
        buffer_append(&step->call->kv->work, row);
    }
    return *status == 0;
}

/* Note the rows that go, of the list of this row, from it on. */
static int look_through(struct step *step, struct bytes from, enum kv_row_kind kind)
{
    step->rest = none;
    int status = rows_iterator_seek(step->iterator, from);
    while (status == 0) {
        struct bytes row = rows_iterator_key(step->iterator);
        if (row.size_bytes < KV_ROW_PREFIX_SIZE_BYTES ||
            memcmp(row.data, from.data, KV_ROW_PREFIX_SIZE_BYTES) != 0) {
            break; /* Of another list. */
        }
        if (row.size_bytes != KV_RECORD_ROW_SIZE_BYTES) {
            return ERROR_CORRUPT;
        }
        if (!look_at(step, row, kind, &status)) {
            break;
        }
        status = rows_iterator_next(step->iterator);
    }
    return status == -ENOENT ? 0 : status;
}

/* Of the list nothing that may go is left from this row on to the rest. What stands before the row has
 * become finished since it was asked for: then that is due. */
static void remember(const struct step *step, struct bytes from, const struct kv_row_name *name)
{
    struct kv *kv = step->call->kv;
    struct kv__forgetting *forgetting = &kv->forgetting;
    if (forgetting->firsts == NULL) {
        return;
    }
    uint32_t list = list_of(kv, name->slot, name->kind);
    struct txn_id *first = &forgetting->firsts[list];
    if (!is_before(*first, kv__record_id(from)) && is_before(*first, step->rest)) {
        *first = step->rest;
    }
    if (step->is_over) {
        forgetting->next_list = list;
        forgetting->not_before_ms = 0;
    }
}

/* The arguments behind the first: rows of the lists to look through, from them on. */
static int look_through_all(struct step *step)
{
    const struct kv_call *call = step->call;
    for (uint32_t i = 1; i < call->argument_count && !step->is_over; i++) {
        struct kv_row_name name;
        struct bytes from = call->arguments[i];
        if (from.size_bytes != KV_RECORD_ROW_SIZE_BYTES || !kv__row_parse(from, &name) ||
            (name.kind != KV_ROW_RECORD && name.kind != KV_ROW_DECISION) ||
            !is_here(call->kv, name.slot)) {
            return ERROR_CORRUPT;
        }
        int status = look_through(step, from, name.kind);
        if (status != 0) {
            return status;
        }
        remember(step, from, &name);
    }
    return 0;
}

/* Delete what was noted. */
static int remove_noted(struct kv_call *call)
{
    struct kv *kv = call->kv;
    uint64_t count = kv->work.size_bytes / KV_RECORD_ROW_SIZE_BYTES;
    if (count > kv->record_count) {
        return ERROR_CORRUPT;
    }
    for (size_t at = 0; at < kv->work.size_bytes; at += KV_RECORD_ROW_SIZE_BYTES) {
        struct kv_row_name name;
        struct bytes row = bytes_make(kv->work.data + at, KV_RECORD_ROW_SIZE_BYTES);
        bool is_parsed = kv__row_parse(row, &name);
        ASSERT(is_parsed); /* It stood in a list. */
        rows_delete(call->rows, row);
        kv__record_count_change(kv, name.slot, -1);
    }
    if (kv->record_count == 0) {
        kv__slot_set_clear(&kv->record_hints);
    }
    reply_integer(call->reply, (int64_t)count);
    return 0;
}

/* Arguments: how many rows to look at; rows. Only background() makes this command. */
int kv__execute_forget_old(struct kv_call *call)
{
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    struct step step = {.call = call, .horizon_ms = horizon_of(call->time_ms)};
    if (!kv__argument_u64(call->arguments[0], &step.row_count_left)) {
        return ERROR_CORRUPT;
    }
    buffer_clear(&call->kv->work);
    kv__row_bounds(call->kv, lower, upper);
    int status = rows_iterator_open(call->rows, bytes_make(lower, sizeof lower),
                                    bytes_make(upper, sizeof upper), &step.iterator);
    if (status == 0) {
        status = look_through_all(&step);
        rows_iterator_close(step.iterator);
    }
    return status == 0 ? remove_noted(call) : status;
}

/* ---- What to ask for ------------------------------------------------------------------------- */

/* The lists in which something is due, from where the pass is. */
static uint32_t add_lists(struct kv *kv, uint64_t time_ms)
{
    struct kv__forgetting *forgetting = &kv->forgetting;
    uint64_t horizon_ms = horizon_of(time_ms);
    uint32_t count = 0;
    uint32_t list = forgetting->next_list;
    for (; list < list_count(kv) && count < KV_FORGET_LIST_COUNT; list++) {
        struct txn_id first = forgetting->firsts[list];
        if (first.begun_ms < horizon_ms) {
            enum kv_row_kind kind = list % 2 == 0 ? KV_ROW_RECORD : KV_ROW_DECISION;
            uint8_t *row = forgetting->rows[count++];
            forgetting->arguments[count] =
                kv__record_row(row, kv->first_slot + list / 2, kind, first);
        }
    }
    bool is_all = list == list_count(kv);
    forgetting->next_list = is_all ? 0 : list;
    forgetting->not_before_ms = is_all ? time_ms + KV_FORGET_DELAY_MS : 0;
    return count;
}

bool kv__forget_background(struct kv *kv, uint64_t time_ms, struct shard_command *command,
                           uint64_t *delay_ms)
{
    struct kv__forgetting *forgetting = &kv->forgetting;
    if (kv->record_count == 0 || forgetting->firsts == NULL) {
        return false;
    }
    /* The wall clock may jump back, so a moment too far ahead does not count. */
    uint64_t wait_ms = forgetting->not_before_ms - time_ms;
    if (forgetting->not_before_ms > time_ms && wait_ms <= KV_FORGET_DELAY_MS) {
        *delay_ms = *delay_ms < wait_ms ? *delay_ms : wait_ms;
        return false;
    }
    uint32_t count = add_lists(kv, time_ms);
    if (count == 0) {
        return false;
    }
    endian_put_u64_le(forgetting->limit, KV_FORGET_ROW_COUNT);
    forgetting->arguments[0] = bytes_make(forgetting->limit, sizeof forgetting->limit);
    *command = (struct shard_command){KV_OPCODE_FORGET_OLD, 1 + count, forgetting->arguments};
    return true;
}
