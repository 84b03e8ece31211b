/* SPDX-License-Identifier: Apache-2.0 */
/* From records to the index.
 *
 * What damage may be forgiven
 *   The payload of an entry that the store has: the header, which is good, says which entry it is.
 *   Anything else that was lost (a bad header, a whole segment) may have been an entry, a vote or a
 *   truncation. The next good table at the head of a segment tells, shard by shard: it carries the
 *   hard states and the last entries at that moment. A shard lost nothing if the store has all up to
 *   there, or if its last entry is the one that was known (in Raft an index and a term name one
 *   entry, with all before it). Otherwise its log is cut off where the loss began, and what follows
 *   of it is passed over until a truncation, or a later table, shows that the log was ended there:
 *   that is what going on without the lost part writes. A segment that was released and reused before
 *   the first one there is treated alike: nothing else tells it from one that was lost. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/wal/wal_internal.h"

static struct wal__shard *find_or_add(struct wal__recovery *recovery, wal_shard id)
{
    struct wal *wal = recovery->wal;
    struct wal__shard *shard = wal__index_find(&wal->index, id);
    if (shard == NULL) {
        shard = wal__index_add(&wal->index, id);
        raft_index needed = wal->options.first_needed != NULL
                                ? wal->options.first_needed(wal->options.context, id)
                                : 0;
        shard->released_index = needed > 0 ? needed - 1 : 0;
    }
    return shard;
}

static const char contradiction[] = "a record contradicts those before it";

static void replay_entry(struct wal__recovery *recovery)
{
    const struct wal__record_header *entry = &recovery->entry;
    struct wal__shard *shard = find_or_add(recovery, entry->shard);
    if (shard->is_cut) {
        return; /* Behind what is lost. */
    }
    if (!wal__shard_accepts(shard, entry->index)) {
        wal__begin_loss(recovery, shard, entry->position, contradiction, false);
        return;
    }
    bool is_live = entry->index > shard->released_index;
    bool is_damaged = recovery->is_entry_damaged || recovery->is_entry_headless;
    if (is_damaged && is_live) {
        wal__begin_loss(recovery, shard, entry->position, "the payload is damaged", true);
        return;
    }
    if (recovery->is_entry_damaged) {
        struct wal_damage damage = {
            .segment = entry->position.sequence,
            .offset = entry->position.offset,
            .shard = entry->shard,
            .index = entry->index,
            .reason = "the payload is damaged",
        };
        wal__report_damage(recovery, &damage);
    }
    wal__shard_push(shard, entry->index, entry->term, entry->position, is_live);
    struct wal__segment *segment = wal__find_segment(recovery->wal, entry->position.sequence);
    if (is_live && segment != NULL) {
        segment->live_count++;
    }
}

static void replay_fragment(struct wal__recovery *recovery, const struct wal__record_header *header,
                            bool is_damaged)
{
    const struct wal__record_header *entry = &recovery->entry;
    bool goes_on = recovery->is_in_entry && header->extra == recovery->entry_size_bytes &&
                   header->shard == entry->shard && header->index == entry->index &&
                   header->term == entry->term;
    if ((header->flags & WAL__FLAG_FIRST) != 0 || !goes_on) {
        if (recovery->is_in_entry) {
            /* The log was cut before the rest of it. */
            PROBE("wal.recover.entry_abandoned");
        }
        recovery->is_in_entry = true;
        recovery->entry = *header;
        recovery->entry_size_bytes = header->extra;
        recovery->is_entry_headless = (header->flags & WAL__FLAG_FIRST) == 0;
        recovery->is_entry_damaged = false;
    }
    recovery->is_entry_damaged = recovery->is_entry_damaged || is_damaged;
    recovery->entry_size_bytes += header->payload_size_bytes;
    if ((header->flags & WAL__FLAG_LAST) != 0) {
        replay_entry(recovery);
        recovery->is_in_entry = false;
    }
}

static void drop_newest_entries(struct wal *wal, struct wal__shard *shard, raft_index index)
{
    struct wal__position position;
    while (shard->last_index >= index && wal__shard_pop_newest(shard, &position)) {
        wal__forget_entry(wal, position);
    }
}

/* Entries that the store made needless after the owner had gone on with them: a table that shows them
 * to be void had not counted then. */
static void take_hidden_entries(struct wal *wal, struct wal__shard *shard)
{
    PROBE("wal.recover.hidden_taken");
    drop_newest_entries(wal, shard, 0);
    wal__shard_take_hidden(shard);
    struct wal__position position;
    for (raft_index index = wal__shard_first_index(shard); index <= shard->last_index; index++) {
        (void)wal__shard_get(shard, index, &position);
        struct wal__segment *segment = wal__find_segment(wal, position.sequence);
        if (segment != NULL) {
            segment->live_count++;
        }
    }
}

/* The owner went on without what was lost, and its log ended there. It may have held entries that had
 * been cut and replaced, unknown to it; whatever came in their place was lost. */
static void replay_end_of_loss(struct wal__recovery *recovery, struct wal__shard *shard,
                               const struct wal__record_header *header)
{
    raft_index last = header->index - 1;
    bool is_known = wal__shard_has_end(shard, last, header->term);
    if (!is_known && shard->hidden != NULL &&
        wal__shard_has_end(shard->hidden, last, header->term)) {
        take_hidden_entries(recovery->wal, shard);
        is_known = true;
    }
    if (!is_known && last > shard->released_index) {
        /* What was kept is not there any more. If it was cut later, as far as the store has not
         * got it, that will be read too. */
        drop_newest_entries(recovery->wal, shard, 0);
        wal__shard_truncate(shard, 1);
        wal__begin_loss(recovery, shard, header->position, contradiction, true);
        shard->is_sure = true; /* Of what the store has. */
        return;
    }
    wal__end_loss(recovery, shard);
    drop_newest_entries(recovery->wal, shard, is_known ? header->index : 0);
    wal__shard_truncate(shard, header->index);
    if (!is_known) {
        shard->last_index = last;
        shard->run_count = 0; /* The store knows its term. */
    }
}

static void replay_truncation(struct wal__recovery *recovery,
                              const struct wal__record_header *header)
{
    struct wal__shard *shard = find_or_add(recovery, header->shard);
    if (header->extra == WAL__TRUNCATION_ENDS_LOSS) {
        replay_end_of_loss(recovery, shard, header);
        return;
    }
    if (shard->is_cut) {
        bool is_void = header->index == 1; /* All of it, whatever it was. */
        if (!is_void && !(shard->is_sure && header->index <= wal__shard_known_index(shard) + 1)) {
            return; /* Some of what is lost may stand before it. */
        }
        wal__end_loss(recovery, shard);
        if (shard->last_index < header->index - 1) {
            /* What is known is in the store: the log goes on behind that. */
            shard->last_index = header->index - 1;
            shard->run_count = 0;
        }
    }
    drop_newest_entries(recovery->wal, shard, header->index);
    wal__shard_truncate(shard, header->index);
}

/* ---- Tables ---------------------------------------------------------------------------------- */

/* Whether the last entry that the table tells of is the last one of the shard here. Its term may be
 * unknown, there or here, where only the store has it. */
static bool has_same_end(const struct wal__shard *shard, const struct wal__table_item *item)
{
    return shard->last_index == item->last_index &&
           (shard->run_count == 0 || item->last_term == 0 ||
            wal__shard_term(shard, item->last_index) == item->last_term);
}

/* Whether the shard had that entry and, as it seems, cut off what came behind it. */
static bool has_entry(const struct wal__shard *shard, const struct wal__table_item *item)
{
    return shard->position_count > 0 && item->last_index >= wal__shard_first_index(shard) &&
           item->last_index < shard->last_index &&
           wal__shard_term(shard, item->last_index) == item->last_term;
}

/* Something was lost before the table, which says where things stood after it. */
static void start_shard_anew(struct wal__recovery *recovery, const struct wal__table_item *item)
{
    struct wal__shard *shard = find_or_add(recovery, item->shard);
    if (item->last_index <= shard->released_index) {
        wal__end_loss(recovery, shard);
        wal__shard_hide(shard);
        drop_newest_entries(recovery->wal, shard, 0);
        wal__shard_reset(shard, item);
        return;
    }
    if (has_same_end(shard, item)) {
        wal__end_loss(recovery, shard);
    } else if (!shard->is_cut && has_entry(shard, item)) {
        PROBE("wal.recover.lost_truncation");
        drop_newest_entries(recovery->wal, shard, item->last_index + 1);
        wal__shard_truncate(shard, item->last_index + 1);
    } else if (!BUG("wal.loss_not_told")) {
        /* Where all that is known is in the store, nothing that was cut can be among it. */
        bool is_sure = shard->position_count == 0;
        wal__begin_loss(recovery, shard, recovery->lost_at, recovery->lost_reason, is_sure);
    }
    shard->hard_state = item->hard_state;
}

/* True when no shard lost anything. */
static bool start_anew(struct wal__recovery *recovery, struct bytes payload)
{
    bool is_all_known = true;
    recovery->is_in_entry = false;
    for (size_t at = 0; at < payload.size_bytes; at += WAL__TABLE_ITEM_SIZE_BYTES) {
        struct wal__table_item item;
        wal__decode_table_item(payload.data + at, &item);
        start_shard_anew(recovery, &item);
        is_all_known = is_all_known && !wal__index_find(&recovery->wal->index, item.shard)->is_cut;
    }
    recovery->is_lost = false;
    return is_all_known;
}

/* Nothing was lost, but perhaps entries of single shards: compare with the table what is known. */
static void compare_table(struct wal__recovery *recovery, const struct wal__record_header *header,
                          struct bytes payload)
{
    for (size_t at = 0; at < payload.size_bytes; at += WAL__TABLE_ITEM_SIZE_BYTES) {
        struct wal__table_item item;
        wal__decode_table_item(payload.data + at, &item);
        struct wal__shard *shard = find_or_add(recovery, item.shard);
        bool is_same = has_same_end(shard, &item);
        if (shard->is_cut && is_same) {
            wal__end_loss(recovery, shard);
        } else if (!is_same && item.last_index <= shard->released_index) {
            /* The store has all that the log had then, be it that a loss was accepted before the
             * store came so far. */
            wal__end_loss(recovery, shard);
            wal__shard_hide(shard);
            drop_newest_entries(recovery->wal, shard, 0);
            wal__shard_reset(shard, &item);
        } else if (!shard->is_cut && (!is_same || shard->hard_state.term != item.hard_state.term ||
                                      shard->hard_state.vote != item.hard_state.vote)) {
            wal__begin_loss(recovery, shard, header->position, contradiction, false);
        }
    }
}

static bool table_is_sound(struct bytes payload)
{
    for (size_t at = 0; at < payload.size_bytes; at += WAL__TABLE_ITEM_SIZE_BYTES) {
        struct wal__table_item item;
        wal__decode_table_item(payload.data + at, &item);
        if (item.last_index == UINT64_MAX) {
            return false;
        }
    }
    return true;
}

static void replay_table(struct wal__recovery *recovery, const struct wal__scan *scan,
                         const struct wal__record_header *header, bool is_damaged)
{
    const uint8_t *start = recovery->bytes + header->position.offset + WAL__HEADER_SIZE_BYTES;
    struct bytes payload = bytes_make(start, header->payload_size_bytes);
    struct wal_damage damage = {
        .segment = header->position.sequence,
        .offset = header->position.offset,
        .reason = "the table at the head is damaged",
    };
    if (is_damaged || !table_is_sound(payload)) {
        /* Where nothing was lost before, it only repeats what is known. */
        scan->segment->is_table_damaged = true;
        wal__report_damage(recovery, &damage);
        return;
    }
    if (!recovery->is_lost) {
        compare_table(recovery, header, payload);
        return;
    }
    damage.segment = recovery->lost_at.sequence;
    damage.offset = recovery->lost_at.offset;
    damage.reason = recovery->lost_reason;
    if (start_anew(recovery, payload) && !scan->is_first) {
        wal__report_damage(recovery, &damage);
    }
}

/* Between what was lost and the next good table nothing is believed but a newer term. */
static void replay_hard_state(struct wal__recovery *recovery,
                              const struct wal__record_header *header)
{
    struct wal__shard *shard = find_or_add(recovery, header->shard);
    if (!recovery->is_lost || header->term > shard->hard_state.term) {
        shard->hard_state = (struct raft_hard_state){.term = header->term, .vote = header->extra};
    }
}

void wal__replay_record(struct wal__recovery *recovery, const struct wal__scan *scan,
                        const struct wal__record_header *header, bool is_damaged)
{
    if (recovery->is_lost && header->kind != WAL__KIND_TABLE) {
        recovery->is_in_entry = false;
        if (header->kind == WAL_RECORD_HARD_STATE) {
            replay_hard_state(recovery, header);
        }
        return;
    }
    switch (header->kind) {
    case WAL_RECORD_ENTRY:
        replay_fragment(recovery, header, is_damaged);
        return;
    case WAL_RECORD_HARD_STATE:
        recovery->is_in_entry = false;
        replay_hard_state(recovery, header);
        return;
    case WAL_RECORD_TRUNCATE:
        recovery->is_in_entry = false;
        replay_truncation(recovery, header);
        return;
    case WAL__KIND_TABLE:
        replay_table(recovery, scan, header, is_damaged);
        return;
    default:
        ASSERT(false && "the scan lets no other kind through");
    }
}
