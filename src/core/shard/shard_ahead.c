/* SPDX-License-Identifier: Apache-2.0 */
/* Reading ahead in a replay.
 *
 * Most commands look up a row that is not in memory, and such a look-up costs more than everything else
 * that is done for the command, much more where the row is on the disk. So entries are read many at a
 * time, all their commands are asked which rows they will read, and those are fetched together, in
 * order of key and on several threads. Then the entries are applied as ever. That a row is in memory
 * changes nothing but the time; nor does it matter if one is not. What commands found when they were
 * executed before may be known (core/recall); these will read nothing. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

/* The more rows, the nearer are neighbours in the store to each other. */
#define SIZE_BYTES_MAX (16ull << 20)
#define ROW_COUNT_MAX (256u << 10)
/* As long as there are none to fetch, what is read had better stay near the processor. */
#define SIZE_BYTES_WITHOUT_ROWS (512ull << 10)
/* It is not worth the trouble for fewer. */
#define ENTRY_COUNT_MIN 2u
#define PART_ROW_COUNT_MIN 128u
#define PART_COUNT_MAX 256u

static bool has(const struct shard_ahead *ahead, raft_index index)
{
    return index >= ahead->first_index && index - ahead->first_index < ahead->count;
}

static struct bytes payload_of(const struct shard_ahead *ahead, uint32_t i)
{
    size_t start = i == 0 ? 0 : ahead->items[i - 1].payload_end;
    return bytes_make(ahead->payloads.data + start, ahead->items[i].payload_end - start);
}

/* Have all rows noted that the commands of the entry will read. What is wrong with it is said when it
 * is applied. */
static void note_rows(struct shard *shard, raft_index index, raft_term term, struct bytes payload)
{
    const struct shard_machine *machine = &shard->options.machine;
    struct shard_decoder decoder;
    struct shard_decoded decoded;
    if (payload.size_bytes == 0 || payload.data[0] == SHARD_PAYLOAD_CONFIGURATION ||
        shard__decode_begin(&decoder, payload) != 0) {
        return;
    }
    /* Whether that was found on the present state is known once the entries before it are executed. If
     * not, rows are looked up one by one. */
    struct recall_entry known = {.shard = shard->options.id,
                                 .index = index,
                                 .term = term,
                                 .found = {.size_bytes = decoder.command_count}};
    const struct shard_host *host = &shard->options.host;
    bool is_known = host->recall_found != NULL && host->recall_found(host->context, &known);
    if (is_known && memchr(known.found.data, 0, decoder.command_count) == NULL) {
        return;
    }
    for (uint32_t i = 0; i < decoder.command_count; i++) {
        if (shard__decode_next(shard, &decoder, &decoded) != 0) {
            return;
        }
        if (!is_known || known.found.data[i] == 0) {
            uint64_t load_size_bytes = 0;
            (void)machine->prefetch(machine->context, shard->rows, &decoded.command,
                                    &load_size_bytes);
        }
    }
}

/* Read the next entry. False: there is none, or it cannot be read, which is met again when it is to be
 * applied. */
static bool load(struct shard *shard, raft_index index)
{
    struct shard_ahead *ahead = &shard->ahead;
    if (index > shard->commit_index || shard__log_at(shard, index) != NULL ||
        shard__reread_has(shard, index)) {
        return false;
    }
    raft_term term = 0;
    const struct shard_host *host = &shard->options.host;
    int status =
        host->load_entry(host->context, shard->options.id, index, &term, &ahead->payloads, NULL);
    if (status != 0) {
        return false;
    }
    if (ahead->count == ahead->capacity) {
        ahead->capacity = ahead->capacity == 0 ? 64 : 2 * ahead->capacity;
        ahead->items = memory_resize(ahead->items, ahead->capacity * sizeof ahead->items[0]);
    }
    ahead->items[ahead->count++] =
        (struct shard_read_entry){.term = term, .payload_end = ahead->payloads.size_bytes};
    return true;
}

static void run_part(void *argument, uint32_t part)
{
    rows_fetch_run(argument, part);
}

static void fetch(struct shard *shard, struct rows_fetch *rows_fetch)
{
    uint32_t part_count = rows_fetch_count(rows_fetch) / PART_ROW_COUNT_MIN + 1;
    part_count = part_count < PART_COUNT_MAX ? part_count : PART_COUNT_MAX;
    rows_fetch_divide(rows_fetch, part_count);
    const struct shard_host *host = &shard->options.host;
    if (host->run_parts != NULL) {
        host->run_parts(host->context, run_part, rows_fetch, part_count);
    } else {
        for (uint32_t i = 0; i < part_count; i++) {
            rows_fetch_run(rows_fetch, i);
        }
    }
    rows_fetch_end(rows_fetch);
}

static void look_ahead(struct shard *shard, raft_index index)
{
    struct shard_ahead *ahead = &shard->ahead;
    uint64_t size_bytes_max = shard->options.in_flight_size_bytes_max / 2;
    size_bytes_max = size_bytes_max < SIZE_BYTES_MAX ? size_bytes_max : SIZE_BYTES_MAX;
    ahead->first_index = index;
    ahead->count = 0;
    buffer_clear(&ahead->payloads);
    rows_set_tier(shard->rows, ENV_TIER_MEMORY);
    struct rows_fetch *rows_fetch = rows_fetch_begin(shard->rows);
    while (ahead->payloads.size_bytes < size_bytes_max &&
           (rows_fetch_count(rows_fetch) > 0 ||
            ahead->payloads.size_bytes < SIZE_BYTES_WITHOUT_ROWS) &&
           rows_fetch_count(rows_fetch) < ROW_COUNT_MAX && load(shard, index + ahead->count)) {
        uint32_t last = ahead->count - 1;
        note_rows(shard, index + last, ahead->items[last].term, payload_of(ahead, last));
    }
    PROBE("shard.looked_ahead");
    shard->may_exceed = true;
    fetch(shard, rows_fetch);
}

bool shard__ahead_take(struct shard *shard, struct shard_entry *entry)
{
    struct shard_ahead *ahead = &shard->ahead;
    if (!has(ahead, entry->index)) {
        if (shard->commit_index - entry->index + 1 < ENTRY_COUNT_MIN) {
            return false;
        }
        look_ahead(shard, entry->index);
        if (ahead->count == 0) {
            return false;
        }
    }
    uint32_t i = (uint32_t)(entry->index - ahead->first_index);
    buffer_append(&entry->payload, payload_of(ahead, i));
    entry->term = ahead->items[i].term;
    if (i + 1 == ahead->count && entry->index == shard->commit_index) {
        shard__ahead_deinit(shard); /* The replay ends. */
    }
    return true;
}

void shard__ahead_deinit(struct shard *shard)
{
    buffer_deinit(&shard->ahead.payloads);
    memory_free(shard->ahead.items);
    shard->ahead = (struct shard_ahead){0};
}
