/* SPDX-License-Identifier: Apache-2.0 */
/* Handing what was applied to the store.
 *
 * The changes of several entries go there together, as one batch with the meta row that says which
 * entry was the last. The batch is frozen and written by another thread, while later changes gather
 * for the next one; there is one at a time. It is written when its changes are many or old, or when
 * a reader elsewhere must see them. A batch that the store refuses, because it would stall, stays as
 * it is and is handed over again. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

#define RETRY_INTERVAL_MS 10u

/* ---- Handing over ---------------------------------------------------------------------------- */

/* A planted bug: the store hears of entries whose changes it does not have. */
static void save_applied_early(struct shard *shard)
{
    uint8_t key[SHARD_META_KEY_SIZE_BYTES];
    struct env_change meta = {.kind = ENV_CHANGE_PUT,
                              .key = shard__meta_key(shard->options.id, key)};
    if (rows_get(shard->rows, meta.key, &meta.value) == 0) {
        const struct env_store *store = &shard->options.store;
        if (store->ops->write(store->context, &meta, 1, NULL) == 0) {
            PROBE("shard.applied_saved_before_batch");
        }
    }
}

/* Everything applied becomes the batch. */
static void freeze(struct shard *shard)
{
    ASSERT(shard->handed_index < shard->applied_index || shard->is_flag_stale);
    bool has_flag = shard->is_flag_stale;
    shard__meta_store(shard);
    if (BUG("shard.applied_saved_before_batch")) {
        save_applied_early(shard);
    }
    bool is_frozen = rows_commit_begin(shard->rows);
    ASSERT(is_frozen); /* The meta row at least. */
    shard->write = (struct shard_write){
        .shard = shard,
        .index = shard->applied_index,
        .stamp_ms = shard->applied_stamp_ms,
        .range = shard->range,
        .has_split = shard->split_index > shard->handed_index,
        .has_flag = has_flag,
    };
    shard->handed_index = shard->applied_index;
    if (BUG("shard.stored_before_written")) {
        shard->stored_index = shard->handed_index;
    }
}

static void write_elsewhere(struct shard *shard)
{
    ASSERT(!shard->is_writing);
    shard->is_writing = true;
    struct shard_host *host = &shard->options.host;
    host->write_elsewhere(host->context, &shard->write);
}

bool shard__is_store_due(const struct shard *shard)
{
    uint32_t share = 1;
    if (shard->hurried_batch_count > 0 && !rows_is_committing(shard->rows)) {
        share = SHARD_STORE_HURRIED_SHARE; /* Else it would only wait. */
    }
    return rows_change_count(shard->rows) >= shard->options.store_row_count / share ||
           rows_change_size_bytes(shard->rows) >= shard->options.store_size_bytes / share;
}

/* Nobody waits for an answer in a replay, and the memory for clients is free: rather than to wait for
 * the store, what is applied gathers. */
bool shard__may_exceed(const struct shard *shard)
{
    return shard->may_exceed && shard->options.host.poll_writes != NULL &&
           rows_change_count(shard->rows) <
               (uint64_t)SHARD_STORE_EXCESS * shard->options.store_row_count &&
           rows_change_size_bytes(shard->rows) <
               SHARD_STORE_EXCESS * shard->options.store_size_bytes;
}

void shard__hear_of_writes(struct shard *shard)
{
    struct shard_host *host = &shard->options.host;
    if (shard->may_exceed && shard->is_writing && host->poll_writes != NULL) {
        host->poll_writes(host->context);
    }
}

bool shard__hand_over(struct shard *shard)
{
    if (rows_is_committing(shard->rows)) {
        return false;
    }
    freeze(shard);
    if (shard->hurried_batch_count > 0) {
        shard->hurried_batch_count--;
    }
    write_elsewhere(shard);
    return true;
}

uint64_t shard__hand_over_due(struct shard *shard, uint64_t now_ms)
{
    if (rows_is_committing(shard->rows)) {
        if (!shard->is_writing && now_ms >= shard->retry_at_ms) {
            write_elsewhere(shard);
        }
        return shard->is_writing ? UINT64_MAX : shard->retry_at_ms; /* Its end brings a tick. */
    }
    if (shard->is_flag_stale) {
        (void)shard__hand_over(shard);
        return UINT64_MAX;
    }
    if (shard->handed_index == shard->applied_index) {
        return UINT64_MAX;
    }
    if (shard->handed_index < shard->split_index) {
        (void)shard__hand_over(shard); /* The child waits for it. */
        return UINT64_MAX;
    }
    uint64_t old_at_ms = shard->unstored_since_ms + shard->options.store_delay_ms;
    if (now_ms >= old_at_ms) {
        (void)shard__hand_over(shard);
        return UINT64_MAX;
    }
    return old_at_ms;
}

void shard_write_run(struct shard_write *write)
{
    write->status = rows_commit_write(write->shard->rows, &write->error);
    if (write->status == 0 && write->has_split && !BUG("shard.split_not_flushed")) {
        const struct env_store *store = &write->shard->options.store;
        write->status = store->ops->flush(store->context, &write->error);
        write->status = write->status == -ENOSPC ? -EBUSY : write->status; /* All of it again. */
    }
}

/* Returns the write's status. */
static int finish_write(struct shard *shard)
{
    const struct shard_write *write = &shard->write;
    if (write->status == -EBUSY) {
        PROBE("shard.store_stalled");
        shard->statistics.stall_count++;
        struct env_clock *clock = &shard->options.host.clock;
        shard->retry_at_ms = clock->now_ms(clock->context) + RETRY_INTERVAL_MS;
    } else if (write->status != 0) {
        shard__fail(shard, write->status, &write->error);
    } else {
        rows_commit_end(shard->rows);
        ASSERT(write->index >= shard->stored_index);
        shard->stored_index = write->index;
        shard->stored_stamp_ms = write->stamp_ms;
        shard->stored_range = write->range;
        shard->proof.is_written |= write->has_flag;
    }
    return write->status;
}

void *shard_write_context(const struct shard_write *write)
{
    return write->shard->options.host.context;
}

void shard_write_done(struct shard_write *write)
{
    struct shard *shard = write->shard;
    ASSERT(shard->is_writing);
    shard->is_writing = false;
    if (finish_write(shard) == 0 && shard->stalled != NULL) {
        PROBE("shard.answer_waited_for_store");
        shard__apply_committed(shard);
    }
}

bool shard__is_split_under_way(const struct shard *shard)
{
    return rows_is_committing(shard->rows) && shard->write.has_split;
}

bool shard__is_store_busy(const struct shard *shard)
{
    return shard->is_writing || shard->reads_elsewhere > 0;
}

int shard_settle(struct shard *shard)
{
    shard__apply_committed(shard);
    if (shard->is_stateless) {
        return 0; /* What is applied is what was staged, durably. */
    }
    while (!shard->has_failed && !shard->is_writing) {
        if (!rows_is_committing(shard->rows)) {
            if (shard->handed_index == shard->applied_index && !shard->is_flag_stale) {
                return 0;
            }
            freeze(shard);
        }
        shard_write_run(&shard->write);
        if (finish_write(shard) == -EBUSY) {
            return -EBUSY;
        }
        shard__apply_committed(shard); /* What waited for it. */
    }
    return shard->has_failed ? -EIO : -EBUSY;
}
