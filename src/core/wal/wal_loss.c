/* SPDX-License-Identifier: Apache-2.0 */
/* What is lost of a log that is damaged, and going on without it.
 *
 * Recovery that goes on without what it lost must come to the same end at every later opening, also
 * after a kill at any moment, for as long as the damaged segments are there. So it writes as little
 * as can be: of each shard that lost something a truncation that says where its log ends now, and
 * where the end of the log itself is lost, first a new segment, whose table says the same. Until
 * those are durable the next opening finds the same damage and asks the owner again. */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/wal/wal_internal.h"

/* ---- While the log is read ------------------------------------------------------------------- */

void wal__set_damaged(struct wal *wal, uint64_t sequence)
{
    struct wal__segment *segment = wal__find_segment(wal, sequence);
    if (segment != NULL) {
        segment->is_damaged = true;
    }
}

raft_index wal__shard_known_index(const struct wal__shard *shard)
{
    bool is_stored_ahead = shard->position_count == 0 && shard->released_index > shard->last_index;
    return is_stored_ahead ? shard->released_index : shard->last_index;
}

void wal__begin_loss(struct wal__recovery *recovery, struct wal__shard *shard,
                     struct wal__position at, const char *reason, bool is_sure)
{
    wal__set_damaged(recovery->wal, at.sequence);
    shard->is_sure = is_sure && (!shard->is_cut || shard->is_sure);
    if (!shard->is_cut) {
        shard->is_cut = true;
        shard->lost_at = at;
        shard->lost_reason = reason;
    }
}

static void report(struct wal__recovery *recovery, const struct wal__shard *shard, bool is_needed)
{
    struct wal_damage damage = {
        .segment = shard->lost_at.sequence,
        .offset = shard->lost_at.offset,
        .shard = shard->id,
        .index = wal__shard_known_index(shard) + 1,
        .is_needed = is_needed,
        .reason = shard->lost_reason,
    };
    wal__report_damage(recovery, &damage);
}

void wal__end_loss(struct wal__recovery *recovery, struct wal__shard *shard)
{
    if (shard->is_cut) {
        report(recovery, shard, false);
        shard->is_cut = false;
    }
}

/* ---- When all is read ------------------------------------------------------------------------ */

/* Ask whether the owner goes on without it. */
static int ask(struct wal__recovery *recovery, const struct wal_loss *loss, struct error *error)
{
    const struct wal_options *options = &recovery->wal->options;
    const char *damage = recovery->failure.message;
    if (options->accept_loss == NULL) {
        return error_say(error, ERROR_CORRUPT, "%s", damage);
    }
    struct error refusal = {0};
    int status = options->accept_loss(options->context, loss, &refusal);
    if (status != 0) {
        return error_say(error, status, "%s; %s", damage, refusal.message);
    }
    PROBE("wal.loss.accepted");
    TRACE("wal.loss.accepted", loss->shard, loss->index, loss->segment, loss->offset);
    return 0;
}

static int ask_of_shard(struct wal__recovery *recovery, struct wal__shard *shard,
                        struct error *error)
{
    struct wal_loss loss = {
        .shard = shard->id,
        .index = wal__shard_known_index(shard) + 1,
        .segment = shard->lost_at.sequence,
        .offset = shard->lost_at.offset,
        .reason = shard->lost_reason,
    };
    return ask(recovery, &loss, error);
}

static int ask_of_unnamed(struct wal__recovery *recovery, struct error *error)
{
    struct wal_loss loss = {
        .is_of_unnamed = true,
        .segment = recovery->lost_at.sequence,
        .offset = recovery->lost_at.offset,
        .reason = recovery->lost_reason,
    };
    return ask(recovery, &loss, error);
}

/* The log of the shard ends where it is known. */
static void end_log(struct wal__shard *shard)
{
    if (shard->last_index != wal__shard_known_index(shard)) {
        shard->last_index = wal__shard_known_index(shard);
        shard->run_count = 0; /* The store knows its term. */
    }
    shard->is_cut = false;
    shard->is_end_unwritten = true;
}

int wal__settle_losses(struct wal__recovery *recovery, struct error *error)
{
    struct wal__index *index = &recovery->wal->index;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        struct wal__shard *shard = &index->shards[i];
        wal__shard_forget_hidden(shard);
        if (recovery->is_tail_lost) {
            wal__begin_loss(recovery, shard, recovery->lost_at, recovery->lost_reason, false);
        }
        if (shard->is_cut) {
            report(recovery, shard, true);
        }
    }
    if (recovery->failure.code == 0) {
        ASSERT(!recovery->is_tail_lost);
        return 0;
    }
    int status = 0;
    for (uint32_t i = 0; i < index->shard_count && status == 0; i++) {
        status = index->shards[i].is_cut ? ask_of_shard(recovery, &index->shards[i], error) : 0;
    }
    if (status == 0 && recovery->is_tail_lost) {
        status = ask_of_unnamed(recovery, error);
    }
    for (uint32_t i = 0; i < index->shard_count && status == 0; i++) {
        if (index->shards[i].is_cut) {
            end_log(&index->shards[i]);
        }
    }
    return status;
}

int wal__write_losses(struct wal *wal, bool is_tail_lost, struct error *error)
{
    if (wal->segment_count == 0 || BUG("wal.loss_not_written")) {
        return 0; /* Nothing is left; the first segment says that. */
    }
    if (is_tail_lost) {
        int status = wal__begin_segment(wal, error);
        if (status != 0) {
            return status;
        }
    }
    bool is_any = false;
    for (uint32_t i = 0; i < wal->index.shard_count; i++) {
        struct wal__shard *shard = &wal->index.shards[i];
        if (shard->is_end_unwritten) {
            struct wal_record record = {.kind = WAL_RECORD_TRUNCATE,
                                        .shard = shard->id,
                                        .index = shard->last_index + 1,
                                        .term = wal__shard_term(shard, shard->last_index),
                                        .ends_loss = true};
            wal_append(wal, &record);
            shard->is_end_unwritten = false;
            is_any = true;
        }
    }
    if (!is_any) {
        return 0;
    }
    int status = wal_write(wal, error);
    return status == 0 ? wal_flush(wal, error) : status;
}

/* ---- Keeping damaged segments ---------------------------------------------------------------- */

int wal__set_aside(struct wal *wal, uint64_t sequence, struct error *error)
{
    const struct env_files *files = &wal->options.files;
    char name[WAL__NAME_SIZE_BYTES];
    char aside[WAL__NAME_SIZE_BYTES];
    wal__format_segment_name(sequence, name);
    wal__format_damaged_name(sequence, aside);
    if (wal->damaged_count >= WAL_DAMAGED_SEGMENT_COUNT_MAX) {
        PROBE("wal.segment.aside_full");
        return files->ops->remove(files->context, name, error);
    }
    TRACE("wal.segment.aside", sequence, 0, 0, 0);
    int status = files->ops->rename(files->context, name, aside, error);
    if (status == 0) {
        wal->damaged_count++;
    }
    return status;
}
