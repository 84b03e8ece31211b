/* SPDX-License-Identifier: Apache-2.0 */
/* From records to the index.
 *
 * What damage may be forgiven
 *   The payload of an entry that the store has: the header, which is good, says which entry it is.
 *   Anything else that was lost (a bad header, a whole segment) may have been an entry, a vote or a
 *   truncation. It is of no account only if a later segment begins with a good table, which carries
 *   the hard states and the last index of every shard at that moment, and the store has every entry
 *   up to those. Then the index starts anew from the table. A segment that was released and reused
 *   before the first one there is treated alike: nothing else tells it from one that was lost. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/wal/wal_internal.h"

enum { DAMAGED_CAPACITY_MIN = 16 };

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

static void report_contradiction(struct wal__recovery *recovery,
                                 const struct wal__record_header *header)
{
    struct wal_damage damage = {
        .segment = header->position.sequence,
        .offset = header->position.offset,
        .shard = header->shard,
        .index = header->index,
        .is_needed = true,
        .reason = "a record contradicts those before it",
    };
    wal__report_damage(recovery, &damage);
}

static void note_damaged_entry(struct wal__recovery *recovery,
                               const struct wal__record_header *header)
{
    if (recovery->damaged_count == recovery->damaged_capacity) {
        uint32_t capacity =
            recovery->damaged_capacity == 0 ? DAMAGED_CAPACITY_MIN : 2 * recovery->damaged_capacity;
        recovery->damaged = memory_resize(recovery->damaged, capacity * sizeof *recovery->damaged);
        recovery->damaged_capacity = capacity;
    }
    recovery->damaged[recovery->damaged_count++] = (struct wal__damaged_entry){
        .shard = header->shard, .index = header->index, .position = header->position};
}

static void replay_entry(struct wal__recovery *recovery)
{
    const struct wal__record_header *entry = &recovery->entry;
    struct wal__shard *shard = find_or_add(recovery, entry->shard);
    if (!wal__shard_accepts(shard, entry->index)) {
        report_contradiction(recovery, entry);
        return;
    }
    bool is_live = entry->index > shard->released_index;
    wal__shard_push(shard, entry->index, entry->term, entry->position, is_live);
    struct wal__segment *segment = wal__find_segment(recovery->wal, entry->position.sequence);
    if (is_live && segment != NULL) {
        segment->live_count++;
    }
    if (recovery->is_entry_damaged || (recovery->is_entry_headless && is_live)) {
        note_damaged_entry(recovery, entry);
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

static void replay_truncation(struct wal__recovery *recovery,
                              const struct wal__record_header *header)
{
    struct wal__shard *shard = find_or_add(recovery, header->shard);
    drop_newest_entries(recovery->wal, shard, header->index);
    wal__shard_truncate(shard, header->index);
    if (shard->lost_index >= header->index) {
        shard->lost_index = header->index - 1;
    }
}

/* ---- Tables ---------------------------------------------------------------------------------- */

/* Begin again with what the table says. False when the store lacks entries that the log had: they
 * are lost, unless a truncation behind the table makes them void. */
static bool start_anew(struct wal__recovery *recovery, struct bytes payload)
{
    struct wal *wal = recovery->wal;
    bool is_all_known = true;
    recovery->is_in_entry = false;
    for (size_t at = 0; at < payload.size_bytes; at += WAL__TABLE_ITEM_SIZE_BYTES) {
        struct wal__table_item item;
        wal__decode_table_item(payload.data + at, &item);
        struct wal__shard *shard = find_or_add(recovery, item.shard);
        drop_newest_entries(wal, shard, 0);
        wal__shard_reset(shard, &item);
        if (item.last_index > shard->released_index) {
            shard->lost_index = item.last_index;
            shard->lost_at = recovery->lost_at;
            shard->lost_reason = recovery->lost_reason;
            is_all_known = false;
        }
    }
    return is_all_known;
}

/* Whether the table says what the records before it say. */
static bool table_agrees(struct wal__recovery *recovery, struct bytes payload)
{
    const struct wal__index *index = &recovery->wal->index;
    if (payload.size_bytes / WAL__TABLE_ITEM_SIZE_BYTES != index->shard_count) {
        return false;
    }
    for (size_t at = 0; at < payload.size_bytes; at += WAL__TABLE_ITEM_SIZE_BYTES) {
        struct wal__table_item item;
        wal__decode_table_item(payload.data + at, &item);
        const struct wal__shard *shard = wal__index_find(index, item.shard);
        if (shard == NULL || shard->last_index != item.last_index ||
            shard->hard_state.term != item.hard_state.term ||
            shard->hard_state.vote != item.hard_state.vote) {
            return false;
        }
    }
    return true;
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
        .is_needed = recovery->is_lost,
        .reason = "the table at the head is damaged",
    };
    if (is_damaged) {
        wal__report_damage(recovery, &damage);
        return; /* Where nothing was lost before, it only repeats what is known. */
    }
    if (!table_is_sound(payload)) {
        report_contradiction(recovery, header);
        return;
    }
    if (!recovery->is_lost) {
        if (!table_agrees(recovery, payload)) {
            report_contradiction(recovery, header);
        }
        return;
    }
    damage.segment = recovery->lost_at.sequence;
    damage.offset = recovery->lost_at.offset;
    damage.reason = recovery->lost_reason;
    damage.is_needed = false;
    if (start_anew(recovery, payload) && !scan->is_first) {
        wal__report_damage(recovery, &damage);
    }
    recovery->is_lost = false;
}

void wal__replay_record(struct wal__recovery *recovery, const struct wal__scan *scan,
                        const struct wal__record_header *header, bool is_damaged)
{
    switch (header->kind) {
    case WAL_RECORD_ENTRY:
        replay_fragment(recovery, header, is_damaged);
        return;
    case WAL_RECORD_HARD_STATE:
        recovery->is_in_entry = false;
        find_or_add(recovery, header->shard)->hard_state =
            (struct raft_hard_state){.term = header->term, .vote = header->extra};
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
