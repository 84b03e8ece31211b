/* SPDX-License-Identifier: Apache-2.0 */
/* A shard becomes two (decision 18).
 *
 *   gathered   the leader puts SPLIT into its log, as the last command of an entry. From then on it
 *              answers no read, and what comes waits: elsewhere the entry may be applied before it is
 *              applied here, and the child may have newer rows than this replica.
 *   applied    the range ends earlier, and the child's meta row stands among the changes. Whatever
 *              waits goes back to where it came from, to be asked again by a newer map.
 *   stored     one batch has both meta rows, and it is flushed before the child is opened. So a replica
 *              that is set back to before the split, by a crash, never has anything of the child: a
 *              snapshot may then carry it over the split without a loss.
 *
 * Once there was a split, a replica that has nothing is given a snapshot rather than the first entries
 * of the log: they are of slots that another shard may have here by now. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/hash/hash.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

enum { ARGUMENT_COUNT = 2, ARGUMENT_SIZE_BYTES = 4 };

/* ---- The leader ------------------------------------------------------------------------------ */

bool shard__may_split(const struct shard *shard)
{
    /* Parent and child begin with the same members, on every replica. */
    return raft_latest_configuration_index(shard->raft) <= shard->applied_index &&
           raft_latest_configuration(shard->raft)->outgoing_count == 0 && !shard->is_transferring &&
           !shard->is_splitting;
}

bool shard__has_moved(const struct shard *shard, const struct shard_request *request)
{
    return request->end_slot != 0 &&
           (request->first_slot < shard->range.first || request->end_slot > shard->range.end);
}

bool shard__lags(const struct shard *shard, const struct shard_request *request)
{
    return request->end_slot != 0 && !shard__has_moved(shard, request) &&
           (request->first_slot != shard->range.first || request->end_slot != shard->range.end);
}

void shard__split_hand_back(struct shard *shard)
{
    ASSERT(shard->is_split_unanswered && shard->stalled == NULL);
    shard->is_split_unanswered = false;
    shard->is_splitting = false;
    /* What was begun since SPLIT was applied, while the store held up its batch, comes back, too. */
    shard->reign++;
    shard__hand_back_waiting(shard);
}

/* ---- Applying -------------------------------------------------------------------------------- */

bool shard__split_parse(const struct shard_command *command, struct shard_split *split)
{
    ASSERT(command->opcode == SHARD_OPCODE_SPLIT);
    if (command->argument_count != ARGUMENT_COUNT ||
        command->arguments[0].size_bytes != ARGUMENT_SIZE_BYTES ||
        command->arguments[1].size_bytes != ARGUMENT_SIZE_BYTES) {
        return false;
    }
    *split = (struct shard_split){
        .child = endian_get_u32_le(command->arguments[0].data),
        .first_slot = endian_get_u32_le(command->arguments[1].data),
    };
    return true;
}

int shard__split_note(struct shard *shard, const struct shard_command *command)
{
    struct shard_split split;
    if (!shard__split_parse(command, &split) || shard->options.machine.split == NULL) {
        return ERROR_CORRUPT;
    }
    bool is_inside = split.first_slot > shard->range.first && split.first_slot < shard->range.end;
    if (split.child == 0 || split.child > SLOTS_SHARD_COUNT_MAX ||
        split.child == shard->options.id || !is_inside) {
        return ERROR_CORRUPT;
    }
    shard->split = split;
    return 0;
}

/* All replicas come to the same, and the child's history is not that of its parent. */
static uint64_t digest_of_child(const struct shard *shard, wal_shard child)
{
    uint8_t number[4];
    endian_put_u32_le(number, child);
    return hash_bytes(bytes_make(number, sizeof number), shard->digest);
}

/* Where the child begins: at this entry, with these members. */
static void put_child(struct shard *shard, const struct slots_range *child, struct bytes saved)
{
    uint8_t key[SHARD_META_KEY_SIZE_BYTES];
    struct shard_meta meta = {
        .has_range = true,
        .first_slot = child->first,
        .end_slot = child->end,
        .index = BUG("shard.child_begins_at_zero") ? 0 : shard->applied_index,
        .term = shard->applied_term,
        .stamp_ms = shard->applied_stamp_ms,
        .digest = digest_of_child(shard, child->shard),
        .configuration_index = shard->configuration_index,
        .configuration = shard->configuration,
        .saved = saved,
    };
    if (BUG("shard.child_not_in_batch")) {
        return;
    }
    buffer_clear(&shard->scratch);
    shard__meta_encode(&meta, &shard->scratch);
    rows_put(shard->rows, shard__meta_key(child->shard, key), buffer_bytes(&shard->scratch));
}

int shard__split_apply(struct shard *shard, struct error *error)
{
    struct shard_split split = shard->split;
    shard->split = (struct shard_split){0};
    ASSERT(split.child != 0);
    struct buffer saved = {0};
    struct shard_machine *machine = &shard->options.machine;
    int status = machine->split(machine->context, shard->rows, split.first_slot, &saved);
    if (status != 0) {
        buffer_deinit(&saved);
        return error_set(error, status, "shard %u: split at slot %u in entry %llu",
                         shard->options.id, split.first_slot,
                         (unsigned long long)shard->applied_index);
    }
    struct slots_range child = {split.child, split.first_slot, shard->range.end};
    put_child(shard, &child, buffer_bytes(&saved));
    buffer_deinit(&saved);
    shard->range.end = split.first_slot;
    shard->has_range = true;
    shard->split_index = shard->applied_index;
    shard->reign++; /* What is elsewhere is of a range that is no more. */
    shard->is_split_unanswered = true;
    TRACE("shard.split", shard->options.id, child.shard, child.first, shard->applied_index);
    shard__compacted(shard, 1);
    struct shard_host *host = &shard->options.host;
    if (host->split != NULL) {
        host->split(host->context, shard, &child);
    }
    return 0;
}

/* ---- Who has what ---------------------------------------------------------------------------- */

struct slots_range shard_range(const struct shard *shard)
{
    return shard->stored_range;
}

raft_index shard_split_index(const struct shard *shard)
{
    return shard->split_index;
}

bool shard_is_empty(const struct shard *shard)
{
    return shard->applied_index == 0 && shard->install == NULL &&
           (shard->raft == NULL || raft_last_index(shard->raft) == 0);
}

void shard_narrow(struct shard *shard, uint32_t first_slot, uint32_t end_slot)
{
    ASSERT(shard->raft != NULL && shard_is_empty(shard));
    ASSERT(first_slot < end_slot);
    ASSERT(first_slot >= shard->range.first && end_slot <= shard->range.end);
    if (first_slot == shard->range.first && end_slot == shard->range.end) {
        return;
    }
    PROBE("shard.narrowed");
    shard->is_narrow = true;
    shard->range.first = first_slot;
    shard->range.end = end_slot;
    shard->stored_range = shard->range;
    struct shard_machine *machine = &shard->options.machine;
    if (machine->set_range != NULL) {
        machine->set_range(machine->context, first_slot, end_slot);
    }
}
