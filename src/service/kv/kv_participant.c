/* SPDX-License-Identifier: Apache-2.0 */
/* The four commands of transactions over several shards, core/txn/txn.h. Each may come any number
 * of times, in any order, late: what was done is in the rows.
 *
 *             no record        prepared             committed        aborted
 *   PREPARE   prepared, or no  yes                  committed        aborted
 *   COMMIT    (a broken promise) executed           committed        (a broken promise)
 *   ABORT     aborted          aborted              committed        aborted
 *
 * The record of what is over goes when its identity is too old, and then a PREPARE with it is refused
 * at every stamp to come. */
#include "service/kv/kv_participant.h"

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_part.h"

static void answer(const struct kv_call *call, enum txn_answer answer)
{
    buffer_append_byte(call->reply->target, (uint8_t)answer);
}

static int answer_malformed(const struct kv_call *call)
{
    reply_error(call->reply, "ERR malformed transaction");
    return 0;
}

static bool parse_header(const struct kv_call *call, struct txn_header *header)
{
    return txn_header_decode(call->arguments[0], header) && header->place < KV_SLOT_COUNT &&
           header->home < KV_SLOT_COUNT;
}

/* The record, or -ENOENT. What it borrows ends with the next use of the rows. */
static int get_record(struct kv_call *call, const struct txn_header *header,
                      struct kv_record *record)
{
    uint8_t row[KV_RECORD_ROW_SIZE_BYTES];
    struct bytes value;
    int status =
        rows_get(call->rows, kv__record_row(row, header->place, KV_ROW_RECORD, header->id), &value);
    return status == 0 ? kv__record_decode(value, record) : status;
}

/* Everything of an identity that is too old is refused, so nothing need be remembered of it. */
static bool is_out_of_time(const struct kv_call *call, struct txn_id id)
{
    return txn_is_too_old(id, call->time_ms) || txn_is_too_new(id, call->time_ms);
}

static void put_record(struct kv_call *call, const struct txn_header *header,
                       const struct kv_record *record, const struct bytes *arguments, bool is_new)
{
    struct kv *kv = call->kv;
    uint8_t row[KV_RECORD_ROW_SIZE_BYTES];
    kv__record_encode(record, arguments, &kv->row);
    rows_put(call->rows, kv__record_row(row, header->place, KV_ROW_RECORD, header->id),
             buffer_bytes(&kv->row));
    kv__record_count_change(kv, header->place, is_new ? 1 : 0);
    kv__record_hint(kv, header->place, KV_ROW_RECORD, header->id);
}

static void delete_row(struct kv_call *call, const struct txn_header *header, enum kv_row_kind kind)
{
    uint8_t row[KV_RECORD_ROW_SIZE_BYTES];
    rows_delete(call->rows, kv__record_row(row, header->place, kind, header->id));
    kv__record_count_change(call->kv, header->place, -1);
}

/* ---- Locks ----------------------------------------------------------------------------------- */

struct locking {
    struct kv_call *call;
    const struct txn_header *header;
    bool are_free;
};

static bool is_free(void *context, struct bytes name)
{
    struct locking *locking = context;
    locking->are_free = !kv__key_set_has(&locking->call->kv->locks, kv__key_hash(name));
    return locking->are_free;
}

static bool lock(void *context, struct bytes name)
{
    struct locking *locking = context;
    struct kv *kv = locking->call->kv;
    uint64_t hash = kv__key_hash(name);
    if (kv__key_set_has(&kv->locks, hash)) {
        return true; /* The part names it twice: others were free. */
    }
    uint8_t row[KV_KEY_ROW_PREFIX_SIZE_BYTES + KV_KEY_SIZE_BYTES_MAX];
    uint8_t value[28];
    endian_put_u64_le(value, locking->header->id.origin);
    endian_put_u64_le(value + 8, locking->header->id.number);
    endian_put_u64_le(value + 16, locking->header->id.begun_ms);
    endian_put_u32_le(value + 24, locking->header->place);
    if (!BUG("kv.vote_not_durable")) {
        rows_put(locking->call->rows, kv__lock_row(row, name), bytes_make(value, sizeof value));
    }
    kv__key_set_add(&kv->locks, hash);
    return true;
}

static bool unlock(void *context, struct bytes name)
{
    struct locking *locking = context;
    struct kv *kv = locking->call->kv;
    uint64_t hash = kv__key_hash(name);
    if (kv__key_set_has(&kv->locks, hash)) {
        uint8_t row[KV_KEY_ROW_PREFIX_SIZE_BYTES + KV_KEY_SIZE_BYTES_MAX];
        rows_delete(locking->call->rows, kv__lock_row(row, name));
        kv__key_set_remove(&kv->locks, hash);
    }
    return true;
}

static bool drop_intent(void *context, struct bytes name)
{
    struct locking *locking = context;
    kv__key_set_remove(&locking->call->kv->intents, kv__key_hash(name));
    return true;
}

/* ---- PREPARE --------------------------------------------------------------------------------- */

/* The call of the part itself, behind the header. */
static struct kv_call part_call(const struct kv_call *call)
{
    struct kv_call part = *call;
    part.entry = kv__entry_of_opcode(KV_OPCODE_TRANSACTION);
    part.arguments++;
    part.argument_count--;
    return part;
}

static void answer_record(const struct kv_call *call, const struct kv_record *record)
{
    switch (record->state) {
    case KV_RECORD_PREPARED:
        answer(call, TXN_ANSWER_YES);
        return;
    case KV_RECORD_COMMITTED:
        answer(call, TXN_ANSWER_COMMITTED);
        return;
    case KV_RECORD_ABORTED:
        answer(call, TXN_ANSWER_ABORTED);
        return;
    }
}

static void keep_part(struct kv_call *inner, const struct kv__part *part,
                      const struct txn_header *header)
{
    struct kv *kv = inner->kv;
    struct locking locking = {.call = inner, .header = header};
    __atomic_store_n(&kv->has_ever_locked, true, __ATOMIC_RELAXED);
    if (!BUG("kv.unlocked_with_the_vote")) {
        (void)kv__part_visit(inner, part, lock, &locking);
    }
    const struct kv_record record = {
        .state = KV_RECORD_PREPARED,
        .protocol = header->protocol == 3 ? 3 : 2,
        .home = header->home,
        .stamp_ms = inner->time_ms,
        .argument_count = inner->argument_count,
    };
    put_record(inner, header, &record, inner->arguments, true);
    const struct kv__unfinished unfinished = {
        .id = header->id, .place = header->place, .home = header->home};
    kv__unfinished_add(kv, &unfinished);
}

static int prepare(struct kv_call *inner, const struct kv__part *part,
                   const struct txn_header *header)
{
    struct kv_record record;
    int status = get_record(inner, header, &record);
    bool is_forgiven =
        status == 0 && record.state == KV_RECORD_COMMITTED && BUG("kv.late_prepare_accepted");
    if (is_forgiven) {
        delete_row(inner, header, KV_ROW_RECORD);
        status = -ENOENT;
    }
    if (status != -ENOENT) {
        if (status == 0) {
            PROBE("kv.prepare_again");
            answer_record(inner, &record);
        }
        return status;
    }
    if (is_out_of_time(inner, header->id)) {
        PROBE("kv.prepare_too_old");
        answer(inner, TXN_ANSWER_TOO_OLD);
        return 0;
    }
    struct locking locking = {.call = inner, .header = header, .are_free = true};
    if (header->may_wait && txn_has_waited_too_long(header->id, inner->time_ms)) {
        PROBE("kv.prepare_waited_too_long");
        locking.are_free = false;
    } else {
        (void)kv__part_visit(inner, part, is_free, &locking);
    }
    if (!locking.are_free) {
        PROBE("kv.prepare_locked");
        answer(inner, TXN_ANSWER_LOCKED);
        return 0;
    }
    bool are_equal = true;
    status = BUG("kv.part_not_compared") ? 0 : kv__part_compare(inner, part, &are_equal);
    if (status != 0) {
        return status;
    }
    if (are_equal) {
        keep_part(inner, part, header);
    }
    answer(inner, are_equal ? TXN_ANSWER_YES : TXN_ANSWER_CHANGED);
    return 0;
}

int kv__execute_prepare(struct kv_call *call)
{
    struct txn_header header;
    struct kv__part part;
    struct kv_call inner = part_call(call);
    if (!kv__part_parse(&inner, &part)) {
        return answer_malformed(call);
    }
    struct locking locking = {.call = call};
    (void)kv__part_visit(&inner, &part, drop_intent, &locking);
    if (!parse_header(call, &header) || !kv__part_names_keys(&inner, &part)) {
        return answer_malformed(call);
    }
    return prepare(&inner, &part, &header);
}

int kv__prefetch_prepare(struct kv_call *call)
{
    struct txn_header header;
    struct kv__part part;
    struct kv_call inner = part_call(call);
    if (!parse_header(call, &header) || !kv__part_parse(&inner, &part)) {
        return 0;
    }
    uint8_t row[KV_RECORD_ROW_SIZE_BYTES];
    struct bytes value;
    int status =
        rows_get(call->rows, kv__record_row(row, header.place, KV_ROW_RECORD, header.id), &value);
    bool is_incomplete = status == ERROR_INCOMPLETE;
    is_incomplete |= kv__part_prefetch(&inner, &part) == ERROR_INCOMPLETE;
    return is_incomplete ? ERROR_INCOMPLETE : 0;
}

/* ---- FINISH ---------------------------------------------------------------------------------- */

/* What is prepared ends: `inner` is a call of the part. */
static int end_part(struct kv_call *call, struct kv_call *inner, const struct txn_header *header)
{
    struct kv__part part;
    if (!kv__part_parse(inner, &part)) {
        return ERROR_CORRUPT; /* It was looked at before it was kept. */
    }
    struct locking locking = {.call = call, .header = header};
    (void)kv__part_visit(inner, &part, unlock, &locking);
    kv__unfinished_remove(call->kv, header->id, header->place, false);
    if (header->outcome == TXN_ABORT) {
        answer(call, TXN_ANSWER_ABORTED);
        return 0;
    }
    answer(call, TXN_ANSWER_COMMITTED);
    buffer_append_byte(call->reply->target, 1);
    return kv__part_run(inner, &part);
}

/* Also with the part that stays when a bug is planted. */
static void put_outcome(struct kv_call *call, const struct txn_header *header, bool is_new)
{
    struct kv_record record = {.state = header->outcome == TXN_COMMIT ? KV_RECORD_COMMITTED
                                                                      : KV_RECORD_ABORTED};
    if (!is_out_of_time(call, header->id)) {
        put_record(call, header, &record, NULL, is_new);
    } else if (!is_new) {
        delete_row(call, header, KV_ROW_RECORD);
    }
}

static int finish_prepared(struct kv_call *call, const struct txn_header *header,
                           const struct kv_record *record)
{
    /* Executing changes rows, which ends what they lent. */
    struct buffer *copy = &call->kv->part;
    buffer_clear(copy);
    buffer_append(copy, record->part);
    struct kv_record kept = *record;
    kept.part = buffer_bytes(copy);
    struct bytes *arguments = kv__record_arguments(&kept);
    struct reply reply = {
        .target = call->reply->target, .protocol = record->protocol, .limit = call->reply->limit};
    struct kv_call inner = *call;
    inner.entry = kv__entry_of_opcode(KV_OPCODE_TRANSACTION);
    inner.reply = &reply;
    inner.arguments = arguments;
    inner.argument_count = record->argument_count;
    /* The time at which the keys were locked and compared: none has expired since. */
    inner.time_ms = record->stamp_ms;
    inner.durable_time_ms = record->stamp_ms;
    int status = end_part(call, &inner, header);
    memory_free(arguments);
    if (status == 0 && !(header->outcome == TXN_COMMIT && BUG("kv.finish_executes_again"))) {
        put_outcome(call, header, false);
    }
    return status;
}

static int finish(struct kv_call *call, const struct txn_header *header)
{
    struct kv_record record;
    int status = get_record(call, header, &record);
    if (status == -ENOENT) {
        if (header->outcome == TXN_ABORT) {
            PROBE("kv.abort_of_unknown");
            put_outcome(call, header, true);
            answer(call, TXN_ANSWER_ABORTED);
        } else {
            bool is_forgotten = txn_is_too_old(header->id, call->time_ms);
            answer(call, is_forgotten ? TXN_ANSWER_COMMITTED : TXN_ANSWER_UNPREPARED);
        }
        return 0;
    }
    if (status != 0) {
        return status;
    }
    switch (record.state) {
    case KV_RECORD_PREPARED:
        return finish_prepared(call, header, &record);
    case KV_RECORD_COMMITTED:
        PROBE("kv.finish_again");
        answer(call, TXN_ANSWER_COMMITTED);
        return 0;
    case KV_RECORD_ABORTED:
        answer(call, header->outcome == TXN_ABORT ? TXN_ANSWER_ABORTED : TXN_ANSWER_UNPREPARED);
        return 0;
    }
    return ERROR_CORRUPT;
}

int kv__execute_finish(struct kv_call *call)
{
    struct txn_header header;
    if (!parse_header(call, &header) || header.outcome == TXN_NONE) {
        return answer_malformed(call);
    }
    return finish(call, &header);
}

int kv__prefetch_finish(struct kv_call *call)
{
    struct txn_header header;
    struct kv_record record;
    if (!parse_header(call, &header)) {
        return 0;
    }
    int status = get_record(call, &header, &record);
    if (status != 0 || record.state != KV_RECORD_PREPARED) {
        return status == ERROR_INCOMPLETE ? status : 0;
    }
    /* All that was prepared, at the word of a header. */
    kv__note_load(call, record.part.size_bytes);
    if (header.outcome != TXN_COMMIT) {
        return 0;
    }
    struct buffer copy = {0};
    buffer_append(&copy, record.part);
    record.part = buffer_bytes(&copy);
    struct bytes *arguments = kv__record_arguments(&record);
    struct kv_call inner = *call;
    inner.entry = kv__entry_of_opcode(KV_OPCODE_TRANSACTION);
    inner.arguments = arguments;
    inner.argument_count = record.argument_count;
    struct kv__part part;
    status = kv__part_parse(&inner, &part) ? kv__part_prefetch(&inner, &part) : 0;
    memory_free(arguments);
    buffer_deinit(&copy);
    return status;
}

/* ---- DECIDE and FORGET ----------------------------------------------------------------------- */

static int get_decision(struct kv_call *call, const struct txn_header *header,
                        struct kv_decision *decision)
{
    uint8_t row[KV_RECORD_ROW_SIZE_BYTES];
    struct bytes value;
    int status = rows_get(call->rows,
                          kv__record_row(row, header->home, KV_ROW_DECISION, header->id), &value);
    return status == 0 ? kv__decision_decode(value, decision) : status;
}

static void put_decision(struct kv_call *call, const struct txn_header *header,
                         const struct kv_decision *decision)
{
    uint8_t row[KV_RECORD_ROW_SIZE_BYTES];
    kv__decision_encode(decision, &call->kv->row);
    rows_put(call->rows, kv__record_row(row, header->home, KV_ROW_DECISION, header->id),
             buffer_bytes(&call->kv->row));
    kv__record_hint(call->kv, header->home, KV_ROW_DECISION, header->id);
}

/* Are these places of participants? Only a commit has to name them. */
static bool are_places(const struct kv_call *call, enum txn_outcome wish)
{
    if (wish != TXN_COMMIT) {
        return true;
    }
    if (call->argument_count != 2 || call->arguments[1].size_bytes == 0 ||
        call->arguments[1].size_bytes % 4 != 0 ||
        call->arguments[1].size_bytes > TXN_PART_COUNT_MAX * 4) {
        return false;
    }
    for (size_t i = 0; i < call->arguments[1].size_bytes; i += 4) {
        if (endian_get_u32_le(call->arguments[1].data + i) >= KV_SLOT_COUNT) {
            return false;
        }
    }
    return true;
}

int kv__execute_decide(struct kv_call *call)
{
    struct txn_header header;
    if (!parse_header(call, &header) || header.place != header.home || header.outcome == TXN_NONE ||
        !are_places(call, header.outcome)) {
        return answer_malformed(call);
    }
    struct kv_decision decision;
    int status = get_decision(call, &header, &decision);
    if (status == -ENOENT) {
        if (is_out_of_time(call, header.id)) {
            PROBE("kv.decide_too_old");
            answer(call, TXN_ANSWER_TOO_OLD);
            return 0;
        }
        bool is_commit = header.outcome == TXN_COMMIT;
        decision = (struct kv_decision){.is_commit = is_commit, .stamp_ms = call->time_ms};
        decision.places = is_commit ? call->arguments[1] : BYTES("");
        put_decision(call, &header, &decision);
        kv__record_count_change(call->kv, header.home, 1);
        if (is_commit) {
            kv__decision_open(call->kv, header.id, header.home, &decision);
        }
        status = 0;
    } else if (status == 0) {
        PROBE("kv.decide_again");
    }
    if (status == 0) {
        answer(call, decision.is_commit ? TXN_ANSWER_COMMITTED : TXN_ANSWER_ABORTED);
    }
    return status;
}

int kv__execute_forget(struct kv_call *call)
{
    struct txn_header header;
    if (!parse_header(call, &header) || header.place != header.home) {
        return answer_malformed(call);
    }
    struct kv_decision decision;
    int status = get_decision(call, &header, &decision);
    if (status == 0 && decision.is_commit && !decision.is_forgotten) {
        decision.is_forgotten = true;
        struct buffer *places = &call->kv->part; /* Writing the row ends what it lent. */
        buffer_clear(places);
        buffer_append(places, decision.places);
        decision.places = buffer_bytes(places);
        put_decision(call, &header, &decision);
        kv__unfinished_remove(call->kv, header.id, header.home, true);
    }
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    answer(call, TXN_ANSWER_DONE);
    return 0;
}

int kv__prefetch_decision(struct kv_call *call)
{
    struct txn_header header;
    struct kv_decision decision;
    if (!parse_header(call, &header)) {
        return 0;
    }
    return get_decision(call, &header, &decision) == ERROR_INCOMPLETE ? ERROR_INCOMPLETE : 0;
}

struct kv_txn_opcodes kv_txn_opcodes(void)
{
    return (struct kv_txn_opcodes){
        .prepare = KV_OPCODE_PREPARE,
        .decide = KV_OPCODE_DECIDE,
        .finish = KV_OPCODE_FINISH,
        .forget = KV_OPCODE_FORGET,
    };
}

/* ---- FLUSHALL -------------------------------------------------------------------------------- */

static int note_records(struct rows_iterator *iterator, struct buffer *noted)
{
    int status = 0;
    while (status == 0) {
        struct bytes row = rows_iterator_key(iterator);
        struct bytes value = rows_iterator_value(iterator);
        endian_put_u32_le(buffer_extend(noted, 4), (uint32_t)value.size_bytes);
        buffer_append(noted, row);
        buffer_append(noted, value);
        status = rows_iterator_next(iterator);
    }
    return status == -ENOENT ? 0 : status;
}

static int note_slot(struct kv_call *call, uint32_t slot, struct buffer *noted)
{
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_prefix(lower, slot, KV_ROW_RECORD);
    kv__row_prefix(upper, slot + 1, KV_ROW_KEY);
    struct rows_iterator *iterator;
    int status = rows_iterator_open(call->rows, bytes_make(lower, sizeof lower),
                                    bytes_make(upper, sizeof upper), &iterator);
    if (status != 0) {
        return status;
    }
    status = rows_iterator_seek(iterator, bytes_make(lower, sizeof lower));
    status = status == 0 ? note_records(iterator, noted) : status == -ENOENT ? 0 : status;
    rows_iterator_close(iterator);
    return status;
}

int kv__records_keep(struct kv_call *call, struct bytes lower, struct bytes upper)
{
    struct kv *kv = call->kv;
    struct buffer *noted = &kv->part;
    buffer_clear(noted);
    for (uint32_t slot = 0; slot < KV_SLOT_COUNT && kv->record_count > 0; slot++) {
        if (kv__slot_set_has(&kv->record_hints, slot)) {
            int status = note_slot(call, slot, noted);
            if (status != 0) {
                return status;
            }
        }
    }
    rows_delete_range(call->rows, lower, upper);
    for (size_t at = 0; at < noted->size_bytes;) {
        uint32_t size = endian_get_u32_le(noted->data + at);
        const uint8_t *row = noted->data + at + 4;
        rows_put(call->rows, bytes_make(row, KV_RECORD_ROW_SIZE_BYTES),
                 bytes_make(row + KV_RECORD_ROW_SIZE_BYTES, size));
        at += 4 + KV_RECORD_ROW_SIZE_BYTES + size;
    }
    return 0;
}
