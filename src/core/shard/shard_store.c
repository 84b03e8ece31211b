/* SPDX-License-Identifier: Apache-2.0 */
/* Handing what was applied to the store.
 *
 * The changes of several entries go there together, as one batch with the meta row that says which
 * entry was the last. The batch is frozen and written by another thread, while later changes gather
 * for the next one; there is one at a time. It is written when its changes are many or old, or when
 * a reader elsewhere must see them. A batch that the store refuses, because it would stall, stays as
 * it is and is handed over again.
 *
 * Meta row, at 0x01 'S' and the shard's id (big-endian); integers are little-endian:
 *
 *   offset  size  meaning
 *        0     1  version of this format, 1
 *        1     7  zero
 *        8     8  index of the last entry in the store
 *       16     8  its term
 *       24     8  stamp of the newest applied entry, milliseconds since 1970
 *       32     8  digest over all changes so far
 *       40        what the state machine saved */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

#define RETRY_INTERVAL_MS 1u

/* ---- The meta row ---------------------------------------------------------------------------- */

enum { META_VERSION = 1, META_SIZE_BYTES = 40, META_KEY_SIZE_BYTES = 6 };

static struct bytes meta_key(const struct shard *shard, uint8_t key[META_KEY_SIZE_BYTES])
{
    key[0] = 0x01;
    key[1] = 'S';
    endian_put_u32_be(key + 2, shard->options.id);
    return bytes_make(key, META_KEY_SIZE_BYTES);
}

int shard__meta_load(struct shard *shard, struct error *error)
{
    uint8_t key[META_KEY_SIZE_BYTES];
    struct bytes meta = {0};
    struct bytes saved = {0};
    rows_set_tier(shard->rows, ENV_TIER_DISK);
    int status = rows_get(shard->rows, meta_key(shard, key), &meta);
    if (status != 0 && status != -ENOENT) {
        return error_set(error, status, "read the meta row of shard %u", shard->options.id);
    }
    if (status == 0) {
        if (meta.size_bytes >= 1 && meta.data[0] > META_VERSION) {
            return error_set(error, ERROR_NEWER_FORMAT, "meta row of shard %u", shard->options.id);
        }
        if (meta.size_bytes < META_SIZE_BYTES || meta.data[0] != META_VERSION) {
            return error_set(error, ERROR_CORRUPT, "meta row of shard %u", shard->options.id);
        }
        shard->applied_index = endian_get_u64_le(meta.data + 8);
        shard->applied_term = endian_get_u64_le(meta.data + 16);
        shard->applied_stamp_ms = endian_get_u64_le(meta.data + 24);
        shard->digest = endian_get_u64_le(meta.data + 32);
        buffer_clear(&shard->scratch);
        buffer_append(&shard->scratch,
                      bytes_make(meta.data + META_SIZE_BYTES, meta.size_bytes - META_SIZE_BYTES));
        saved = buffer_bytes(&shard->scratch);
        if (BUG("shard.entry_applied_twice") && shard->applied_index > 0) {
            shard->applied_index--;
        }
    }
    struct shard_machine *machine = &shard->options.machine;
    return machine->load(machine->context, shard->rows, saved, error);
}

static void meta_store(struct shard *shard)
{
    uint8_t key[META_KEY_SIZE_BYTES];
    struct buffer *meta = &shard->scratch;
    buffer_clear(meta);
    uint8_t *place = buffer_extend(meta, META_SIZE_BYTES);
    memset(place, 0, META_SIZE_BYTES);
    place[0] = META_VERSION;
    endian_put_u64_le(place + 8, shard->applied_index);
    endian_put_u64_le(place + 16, shard->applied_term);
    endian_put_u64_le(place + 24, shard->applied_stamp_ms);
    endian_put_u64_le(place + 32, shard->digest);
    shard->options.machine.save(shard->options.machine.context, meta);
    rows_put(shard->rows, meta_key(shard, key), buffer_bytes(meta));
}

/* ---- Handing over ---------------------------------------------------------------------------- */

/* A planted bug: the store hears of entries whose changes it does not have. */
static void save_applied_early(struct shard *shard)
{
    uint8_t key[META_KEY_SIZE_BYTES];
    struct env_change meta = {.kind = ENV_CHANGE_PUT, .key = meta_key(shard, key)};
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
    ASSERT(shard->handed_index < shard->applied_index);
    meta_store(shard);
    if (BUG("shard.applied_saved_before_batch")) {
        save_applied_early(shard);
    }
    bool is_frozen = rows_commit_begin(shard->rows);
    ASSERT(is_frozen); /* The meta row at least. */
    shard->write = (struct shard_write){
        .shard = shard, .index = shard->applied_index, .stamp_ms = shard->applied_stamp_ms};
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

bool shard__hand_over(struct shard *shard)
{
    if (rows_is_committing(shard->rows)) {
        return false;
    }
    freeze(shard);
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
    if (shard->handed_index == shard->applied_index) {
        return UINT64_MAX;
    }
    uint64_t old_at_ms = shard->unstored_since_ms + SHARD_STORE_DELAY_MS;
    if (now_ms >= old_at_ms) {
        (void)shard__hand_over(shard);
        return UINT64_MAX;
    }
    return old_at_ms;
}

void shard_write_run(struct shard_write *write)
{
    write->status = rows_commit_write(write->shard->rows, &write->error);
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
        ASSERT(write->index > shard->stored_index || BUG("shard.stored_before_written"));
        shard->stored_index = write->index;
        shard->stored_stamp_ms = write->stamp_ms;
    }
    return write->status;
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

int shard_settle(struct shard *shard)
{
    shard__apply_committed(shard);
    while (!shard->has_failed && !shard->is_writing) {
        if (!rows_is_committing(shard->rows)) {
            if (shard->handed_index == shard->applied_index) {
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
