/* SPDX-License-Identifier: Apache-2.0 */
/* Entries that leave memory before they are applied, and are read once more.
 *
 * A member may have to wait before it can apply what it is sent: a snapshot is being put into its place,
 * or the store stalls. It goes on taking what the leader has, and acknowledges it; all of that may be more
 * than there is memory. So the oldest leave it where those that wait are too many (shard__log_relieve()),
 * and when it is their turn, whoever drives the log reads them, a few at a time. Only what is
 *
 *   committed      nothing else will ever stand at its index, whoever leads: a truncation does not reach
 *                  it, and what the log has there is the entry, whenever it is read. What is not committed
 *                  stays in memory: it is no more than a leader admits;
 *   durable        the log has it, and does not borrow its payload any more;
 *   not answered   by this replica: nobody waits for what it says.
 *
 * The log keeps it: it lets go of what the store has, and the store has nothing that is not applied. A
 * snapshot that takes the place of the state is newer than all that was committed here; what is being read
 * then is of no use.
 *
 * What cannot be read back, or is not what Raft knows of it, is damage that came since the log was opened.
 * The replica fails with that, and what its host finds at the next start tells what was lost (decision 14). */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

enum { BUSY_RETRY_MS = 5 };

static void free_read(struct shard_log_read *read)
{
    shard__log_read_deinit(read);
    memory_free(read);
}

bool shard__reread_has(const struct shard *shard, raft_index index)
{
    return shard->log.own_index != 0 && index >= shard->log.own_index;
}

static void is_back(struct shard_log_read *read)
{
    struct shard *shard = read->shard;
    TRACE("shard.reread", shard->options.id, read->first_index, read->entry_count,
          read == shard->reread);
    if (read == shard->reread) {
        PROBE("shard.reread");
        shard->is_reread_back = true; /* What follows applies it. */
    } else {
        PROBE("shard.reread_overtaken");
        free_read(read);
    }
}

/* From `index` on, what is committed and not in memory. */
static void start(struct shard *shard, raft_index index)
{
    const struct shard_log *log = &shard->log;
    raft_index end = shard->commit_index + 1;
    end = log->count > 0 ? number_min(end, log->first_index) : end;
    ASSERT(index < end);
    struct shard_log_read *read = memory_allocate_zeroed(1, sizeof *read);
    read->shard = shard;
    read->first_index = index;
    read->wished_count = (uint32_t)number_min(end - index, SHARD_LOG_READ_COUNT_MAX);
    read->done = is_back;
    struct shard_host *host = &shard->options.host;
    shard->is_reread_refused = host->read_back(host->context, read) != 0;
    if (shard->is_reread_refused) {
        PROBE("shard.reread_refused");
        free_read(read);
        return;
    }
    shard->reread = read;
    shard->is_reread_back = false;
    shard->log_reads_under_way++;
}

bool shard__reread_is_back(struct shard *shard, raft_index index)
{
    if (shard->reread == NULL && !shard->is_reread_refused) { /* Else at a tick. */
        start(shard, index);
    }
    return shard->is_reread_back;
}

/* One alone may be very long. */
static void take_payload(struct shard_log_read *read, uint32_t i, struct buffer *payload)
{
    if (read->entry_count == 1) {
        struct buffer taken = read->payloads;
        read->payloads = *payload;
        *payload = taken;
        return;
    }
    buffer_append(payload, shard__log_read_payload(read, i));
}

int shard__reread_take(struct shard *shard, struct shard_entry *entry, struct error *error)
{
    struct shard_log_read *read = shard->reread;
    ASSERT(shard->is_reread_back && entry->index >= read->first_index);
    uint32_t i = (uint32_t)(entry->index - read->first_index);
    if (i >= read->entry_count) {
        ASSERT(read->status != 0); /* Else there was enough for one more, and then it was taken. */
        *error = read->failure;
        return read->status;
    }
    raft_term term = raft_entry_term(shard->raft, entry->index);
    if (term != 0 && read->entries[i].term != term) { /* 0: of too many terms ago. */
        return error_say(error, ERROR_CORRUPT,
                         "shard %u: entry %llu of the log is of term %llu, and was of term %llu",
                         shard->options.id, (unsigned long long)entry->index,
                         (unsigned long long)read->entries[i].term, (unsigned long long)term);
    }
    entry->term = read->entries[i].term;
    take_payload(read, i, &entry->payload);
    shard->statistics.reread_count++;
    if (i + 1 == read->entry_count && read->status == 0) {
        shard__reread_cancel(shard); /* All of it was taken. */
    }
    return 0;
}

void shard__reread_cancel(struct shard *shard)
{
    if (shard->is_reread_back) {
        free_read(shard->reread);
    }
    shard->reread = NULL; /* If it is on its way, it ends when it is back. */
    shard->is_reread_back = false;
    shard->is_reread_refused = false;
}

uint64_t shard__reread_tick(struct shard *shard, uint64_t now_ms)
{
    if (!shard->is_reread_refused) {
        return UINT64_MAX;
    }
    shard->is_reread_refused = false;
    shard__finish_step(shard);
    return shard->is_reread_refused ? now_ms + BUSY_RETRY_MS : UINT64_MAX;
}
