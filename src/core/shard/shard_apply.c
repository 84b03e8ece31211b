/* SPDX-License-Identifier: Apache-2.0 */
/* Applying committed entries, and handing what they changed to the store.
 *
 * An entry is answered once it is executed: the log has it, and readers of the rows see it. Its
 * changes go to the store later, together with those of other entries, as one batch with the meta
 * row that says which entry was the last. When they are too many, answers wait for the store.
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

void shard__fail(struct shard *shard, int status, const struct error *error)
{
    if (!shard->has_failed) {
        shard->has_failed = true;
        shard->options.host.failed(shard->options.host.context, shard, status, error);
    }
}

/* I3: time never goes back, whatever the wall clock does. */
uint64_t shard__time_ms(const struct shard *shard)
{
    uint64_t wall_ms = shard->options.host.clock.wall_ms(shard->options.host.clock.context);
    if (BUG("shard.stamp_goes_back")) {
        return wall_ms;
    }
    return wall_ms > shard->stamp_ms ? wall_ms : shard->stamp_ms;
}

struct shard_moment shard__now(const struct shard *shard)
{
    return (struct shard_moment){
        .time_ms = shard__time_ms(shard),
        .durable_time_ms = shard->applied_stamp_ms,
    };
}

static int execute_command(struct shard *shard, struct shard_decoder *decoder, raft_index index,
                           uint32_t ordinal, const struct reply *reply, struct error *error)
{
    struct shard_command command;
    int status = shard__decode_next(shard, decoder, &command);
    if (status != 0) {
        return error_set(error, status, "shard %u: entry %llu, command %u", shard->options.id,
                         (unsigned long long)index, ordinal);
    }
    struct shard_stamp stamp = {
        .time_ms = decoder->time_ms,
        .version = index << 16 | ordinal,
    };
    shard->statistics.command_count++;
    struct shard_machine *machine = &shard->options.machine;
    status = machine->execute(machine->context, shard->rows, &stamp, &command, reply);
    if (status != 0) {
        return error_set(error, status, "shard %u: apply entry %llu, command %u", shard->options.id,
                         (unsigned long long)index, ordinal);
    }
    return 0;
}

/* A read that was ordered behind writes of its session. It happens at the entry's stamp, which the
 * log has, so what expired by then may be seen as gone. */
static int execute_read(struct shard *shard, const struct shard_request *request, uint64_t time_ms,
                        const struct reply *reply, struct error *error)
{
    struct shard_machine *machine = &shard->options.machine;
    struct shard_moment moment = {.time_ms = time_ms, .durable_time_ms = time_ms};
    int status = machine->read(machine->context, shard->rows, &moment, &request->command, reply);
    if (status != 0) {
        return error_set(error, status, "shard %u: read", shard->options.id);
    }
    return 0;
}

static int execute_entry(struct shard *shard, struct shard_entry *entry, struct error *error)
{
    struct shard_decoder decoder;
    int status = shard__decode_begin(&decoder, buffer_bytes(&entry->payload));
    if (status != 0) {
        return error_set(error, status, "shard %u: entry %llu", shard->options.id,
                         (unsigned long long)entry->index);
    }
    struct reply reply = {&entry->replies, 2};
    uint32_t ordinal = 0;
    for (uint32_t i = 0; i < entry->item_count && status == 0; i++) {
        struct shard_item *item = &entry->items[i];
        reply.protocol = item->request != NULL ? item->request->protocol : 2;
        if (item->is_write) {
            status = execute_command(shard, &decoder, entry->index, ordinal++, &reply, error);
        } else {
            status = execute_read(shard, item->request, decoder.time_ms, &reply, error);
        }
        item->reply_end = entry->replies.size_bytes;
    }
    /* A recovered entry has no items: nobody waits for its replies. */
    for (; ordinal < decoder.command_count && status == 0; ordinal++) {
        buffer_clear(&entry->replies);
        status = execute_command(shard, &decoder, entry->index, ordinal, &reply, error);
    }
    if (decoder.time_ms > shard->applied_stamp_ms) {
        shard->applied_stamp_ms = decoder.time_ms;
    }
    if (decoder.time_ms > shard->stamp_ms) {
        shard->stamp_ms = decoder.time_ms; /* A recovered entry. */
    }
    return status;
}

static void answer_entry(struct shard *shard, struct shard_entry *entry)
{
    size_t start = 0;
    for (uint32_t i = 0; i < entry->item_count; i++) {
        struct shard_item *item = &entry->items[i];
        struct bytes reply = bytes_make(entry->replies.data + start, item->reply_end - start);
        start = item->reply_end;
        if (item->request != NULL) {
            shard__answer(shard, item->request, reply);
        } else {
            shard->is_background_pending = false;
        }
    }
    shard__entry_give(shard, entry);
}

bool shard__has_unstored(const struct shard *shard)
{
    return shard->stored_index < shard->applied_index;
}

bool shard__store(struct shard *shard)
{
    struct error error = {0};
    meta_store(shard);
    int status = rows_commit(shard->rows, &error);
    if (status == -EBUSY) {
        PROBE("shard.store_stalled");
        shard->statistics.stall_count++;
        return false;
    }
    if (status != 0) {
        shard__fail(shard, status, &error);
        return false;
    }
    shard->stored_index = shard->applied_index;
    return true;
}

/* Answer the entry; where the store is due, it must have the changes first, so that they cannot
 * grow without end. False: stalled or failed. */
static bool finish_entry(struct shard *shard, struct shard_entry *entry)
{
    bool is_due = rows_change_count(shard->rows) >= shard->options.store_row_count ||
                  rows_change_size_bytes(shard->rows) >= SHARD_STORE_SIZE_BYTES;
    if (is_due && !shard__store(shard)) {
        shard->stalled = entry;
        return false;
    }
    shard->stalled = NULL;
    shard->statistics.entry_count++;
    answer_entry(shard, entry);
    return true;
}

static bool apply_entry(struct shard *shard, struct shard_entry *entry)
{
    struct error error = {0};
    ASSERT(entry->index == shard->applied_index + 1); /* I2 */
    if (BUG("shard.applied_saved_before_batch")) {
        shard->applied_index = entry->index;
        meta_store(shard);
        if (rows_commit(shard->rows, &error) == 0) {
            PROBE("shard.applied_saved_before_batch");
        }
        shard->applied_index = entry->index - 1;
    }
    if (!shard__has_unstored(shard)) {
        struct env_clock *clock = &shard->options.host.clock;
        shard->unstored_since_ms = clock->now_ms(clock->context);
    }
    rows_set_digest(shard->rows, shard->digest);
    rows_set_tier(shard->rows, ENV_TIER_DISK);
    int status = execute_entry(shard, entry, &error);
    rows_set_tier(shard->rows, ENV_TIER_MEMORY);
    if (status != 0) {
        shard->stalled = entry;
        shard__fail(shard, status, &error);
        return false;
    }
    shard->applied_index = entry->index;
    shard->applied_term = entry->term;
    shard->digest = rows_digest(shard->rows);
    TRACE("shard.applied", shard->options.id, shard->applied_index, shard->digest,
          entry->item_count);
    return finish_entry(shard, entry);
}

/* The committed entry after the applied one: in flight, or from before the restart. NULL:
 * failed. */
static struct shard_entry *next_entry(struct shard *shard)
{
    raft_index index = shard->applied_index + 1;
    if (!list_is_empty(&shard->in_flight)) {
        struct shard_entry *first = LIST_ITEM(shard->in_flight.next, struct shard_entry, link);
        if (first->index == index) {
            list_remove(&first->link);
            shard->in_flight_count--;
            shard->in_flight_size_bytes -= first->payload.size_bytes;
            return first;
        }
    }
    struct error error = {0};
    struct shard_entry *entry = shard__entry_take(shard);
    entry->index = index;
    struct shard_host *host = &shard->options.host;
    int status = host->load_entry(host->context, shard->options.id, index, &entry->term,
                                  &entry->payload, &error);
    if (status != 0) {
        shard__entry_give(shard, entry);
        shard__fail(shard, status, &error);
        return NULL;
    }
    return entry;
}

void shard__apply_committed(struct shard *shard)
{
    if (shard->has_failed) {
        return;
    }
    if (shard->stalled != NULL && !finish_entry(shard, shard->stalled)) {
        return;
    }
    while (shard->applied_index < shard->commit_index) {
        struct shard_entry *entry = next_entry(shard);
        if (entry == NULL || !apply_entry(shard, entry)) {
            return;
        }
    }
}
