/* SPDX-License-Identifier: Apache-2.0 */
/* The log under random histories: appends, writes, flushes, truncations, releases, failing and full
 * disks, kills and power losses, also during recovery, and damaged sectors.
 *
 * SEED=n runs that history, SEEDS=n that many. Built with planted bugs it also shows that each of
 * them is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/wal/wal.h"
#include "core/wal/wal_fake.h"

enum {
    SEGMENT_SIZE_BYTES = 32768,
    MODEL_RECORD_COUNT_MAX = 4000,
    MODEL_SHARD_COUNT = 3,
    SEEDS_PER_TERM = 50,
    SECTOR_SIZE_BYTES = 512,
    HARM_ATTEMPT_COUNT_MAX = 20,
};

struct model_record {
    enum wal_record_kind kind;
    wal_shard shard;
    raft_index index;
    raft_term term;
    uint64_t seed;
    uint32_t size_bytes;
    uint32_t evident_count; /* How many records were flushed before it was written. */
};

struct model_state {
    raft_index last_index[MODEL_SHARD_COUNT];
    raft_term last_term[MODEL_SHARD_COUNT];
    raft_term hard_term[MODEL_SHARD_COUNT];
};

/* Everything that was appended and not lost, in order; the log must recover to some prefix of it
 * that has at least what was flushed. */
struct model {
    struct random random;
    struct fake_disk *disk;
    struct wal *wal;
    struct model_record records[MODEL_RECORD_COUNT_MAX];
    uint32_t record_count;
    uint32_t tried_count;
    uint32_t written_count;
    uint32_t flushed_count;
    uint32_t evident_count; /* What no single damage can hide. */
    raft_index released[MODEL_SHARD_COUNT];
    uint64_t seed_next;
    bool has_equal_sizes;
    bool does_lose; /* Damage stays, and the owner goes on without what was lost. */
    bool does_accept;
    bool is_lost[MODEL_SHARD_COUNT];
    raft_index lost_index[MODEL_SHARD_COUNT];
    uint32_t loss_count;
    uint8_t *payloads[MODEL_RECORD_COUNT_MAX]; /* Borrowed by the log until it wrote. */
    uint32_t payload_count;                    /* Behind these there is none. */
    char complaint[400];
};

static raft_index model_first_needed(void *context, wal_shard shard)
{
    struct model *model = context;
    return shard < MODEL_SHARD_COUNT ? model->released[shard] + 1 : 0;
}

static int model_accept_loss(void *context, const struct wal_loss *loss, struct error *error)
{
    struct model *model = context;
    for (wal_shard shard = 0; loss->is_of_unnamed && shard < MODEL_SHARD_COUNT; shard++) {
        if (!model->is_lost[shard]) {
            model->is_lost[shard] = true;
            model->lost_index[shard] = model->released[shard] + 1;
        }
    }
    if (!loss->is_of_unnamed) {
        model->is_lost[loss->shard] = true;
        model->lost_index[loss->shard] = loss->index;
    }
    model->loss_count++;
    return 0;
}

static void model_state_at(const struct model *model, uint32_t count, struct model_state *state)
{
    *state = (struct model_state){0};
    for (uint32_t i = 0; i < count; i++) {
        const struct model_record *record = &model->records[i];
        switch (record->kind) {
        case WAL_RECORD_ENTRY:
            state->last_index[record->shard] = record->index;
            state->last_term[record->shard] = record->term;
            break;
        case WAL_RECORD_HARD_STATE:
            state->hard_term[record->shard] = record->term;
            break;
        case WAL_RECORD_TRUNCATE:
            state->last_index[record->shard] = record->index - 1;
            break;
        }
    }
}

static void fill(uint8_t *target, uint64_t seed, uint32_t size_bytes)
{
    for (uint32_t i = 0; i < size_bytes; i++) {
        target[i] = (uint8_t)(seed * 131 + i * 17 + (seed >> 8));
    }
}

/* Whether the log is what the first `count` records make it, by its states. */
static bool model_matches(const struct model *model, uint32_t count)
{
    struct model_state expected;
    model_state_at(model, count, &expected);
    for (wal_shard shard = 0; shard < MODEL_SHARD_COUNT; shard++) {
        struct wal_shard_state state = {0};
        (void)wal_get_shard_state(model->wal, shard, &state);
        if (model->is_lost[shard]) {
            continue;
        }
        if (state.last_index != expected.last_index[shard] ||
            state.hard_state.term != expected.hard_term[shard]) {
            return false;
        }
    }
    return true;
}

static bool model_entries_match(struct model *model, uint32_t count)
{
    struct model_state end;
    model_state_at(model, count, &end);
    struct buffer payload = {0};
    raft_index lowest[MODEL_SHARD_COUNT]; /* Entries from here on were seen. */
    for (wal_shard shard = 0; shard < MODEL_SHARD_COUNT; shard++) {
        lowest[shard] = end.last_index[shard] + 1;
    }
    bool matches = true;
    for (uint32_t i = count; i > 0 && matches; i--) {
        const struct model_record *record = &model->records[i - 1];
        if (record->kind != WAL_RECORD_ENTRY || record->index + 1 != lowest[record->shard] ||
            record->index <= model->released[record->shard] || model->is_lost[record->shard]) {
            continue;
        }
        lowest[record->shard] = record->index;
        raft_term term = 0;
        struct error error = {0};
        buffer_clear(&payload);
        int status = wal_read(model->wal, record->shard, record->index, &term, &payload, &error);
        uint8_t *expected = memory_allocate(record->size_bytes + 1);
        fill(expected, record->seed, record->size_bytes);
        matches = status == 0 && term == record->term &&
                  bytes_equal(buffer_bytes(&payload), bytes_make(expected, record->size_bytes));
        memory_free(expected);
        if (!matches) {
            (void)snprintf(model->complaint, sizeof model->complaint,
                           "entry %" PRIu64 " of shard %" PRIu32 " differs: status %d %s",
                           record->index, record->shard, status, error.message);
        }
    }
    buffer_deinit(&payload);
    return matches;
}

static int model_open(struct model *model, bool is_read_only, struct error *error)
{
    struct wal_options options = {
        .files = fake_files(model->disk),
        .segment_size_bytes = SEGMENT_SIZE_BYTES,
        .spare_size_bytes_max = 2 * SEGMENT_SIZE_BYTES,
        .is_read_only = is_read_only,
        .first_needed = model_first_needed,
        .accept_loss = model->does_accept ? model_accept_loss : NULL,
        .context = model,
    };
    return wal_open(&model->wal, &options, error);
}

static void model_free_payloads(struct model *model)
{
    for (uint32_t i = 0; i < model->payload_count; i++) {
        memory_free(model->payloads[i]);
        model->payloads[i] = NULL;
    }
    model->payload_count = 0;
}

static void model_close(struct model *model)
{
    wal_close(model->wal);
    model->wal = NULL;
}

/* The longest prefix of the records that the log is. False when none with `at_least` records is. */
static bool model_find_prefix(struct model *model, uint32_t at_least, uint32_t *count)
{
    /* A truncation and what follows may look the same from outside: the entries tell. */
    *count = model->record_count;
    while (!model_matches(model, *count) || !model_entries_match(model, *count)) {
        if ((*count)-- == at_least) {
            size_t used = strlen(model->complaint);
            (void)snprintf(model->complaint + used, sizeof model->complaint - used,
                           "; not a prefix with at least %" PRIu32 " of %" PRIu32 " records",
                           at_least, model->record_count);
            return false;
        }
    }
    model->complaint[0] = '\0';
    return true;
}

/* Destroy a bit or a sector of some segment. NULL: there is none. */
static uint8_t *model_harm(struct model *model, uint8_t saved[SECTOR_SIZE_BYTES])
{
    size_t size_bytes = 0;
    uint8_t *bytes = NULL;
    for (int i = 0; i < HARM_ATTEMPT_COUNT_MAX && bytes == NULL; i++) {
        char name[64];
        uint64_t sequence = 1 + random_below(&model->random, 30);
        (void)snprintf(name, sizeof name, "%016" PRIu64 ".wal", sequence);
        bytes = fake_bytes(model->disk, name, &size_bytes);
    }
    if (bytes == NULL || size_bytes < SEGMENT_SIZE_BYTES) {
        return NULL;
    }
    uint8_t *sector =
        bytes + random_below(&model->random, size_bytes / SECTOR_SIZE_BYTES) * SECTOR_SIZE_BYTES;
    memcpy(saved, sector, SECTOR_SIZE_BYTES);
    if (random_chance(&model->random, 1, 2)) {
        sector[random_below(&model->random, SECTOR_SIZE_BYTES)] ^= 4;
    } else {
        /* A misdirected write: what belongs elsewhere. */
        memmove(sector, bytes + random_below(&model->random, size_bytes - SECTOR_SIZE_BYTES),
                SECTOR_SIZE_BYTES);
    }
    return sector;
}

/* The log, which is closed, must say that it is damaged, or be what it was but for the last write:
 * nobody can tell a damaged last write from one that was torn. */
static bool model_damage(struct model *model)
{
    uint8_t saved[SECTOR_SIZE_BYTES];
    uint8_t *sector = model_harm(model, saved);
    if (sector == NULL) {
        return true;
    }
    struct error error = {0};
    int status = model_open(model, true, &error);
    bool is_right = status == ERROR_CORRUPT;
    if (status == 0) {
        uint32_t count;
        is_right = model_find_prefix(model, model->evident_count, &count);
        model_close(model);
    }
    memcpy(sector, saved, sizeof saved);
    return is_right;
}

static const struct model_record *model_find_record(const struct model *model, wal_shard shard,
                                                    raft_index index, raft_term term)
{
    for (uint32_t i = model->record_count; i > 0; i--) {
        const struct model_record *record = &model->records[i - 1];
        if (record->kind == WAL_RECORD_ENTRY && record->shard == shard && record->index == index &&
            record->term == term) {
            return record;
        }
    }
    return NULL;
}

static void model_adopt_record(struct model *model, const struct model_record *record)
{
    uint32_t place = model->record_count++;
    model->records[place] = *record;
    model->records[place].evident_count = model->evident_count; /* It is not written anew. */
}

/* What is left of a shard that lost something: entries that it once had, in order, up to where the
 * log said. From now on they are its history. */
static bool model_adopt_shard(struct model *model, wal_shard shard)
{
    struct wal_shard_state state = {0};
    (void)wal_get_shard_state(model->wal, shard, &state);
    struct model_record record = {.kind = WAL_RECORD_TRUNCATE, .shard = shard, .index = 1};
    model_adopt_record(model, &record);
    struct buffer payload = {0};
    bool is_right = true;
    for (raft_index i = state.first_index; i != 0 && i <= state.last_index && is_right; i++) {
        raft_term term = 0;
        buffer_clear(&payload);
        is_right = wal_read(model->wal, shard, i, &term, &payload, NULL) == 0;
        const struct model_record *entry = model_find_record(model, shard, i, term);
        is_right = is_right && entry != NULL && entry->size_bytes == payload.size_bytes;
        if (is_right) {
            uint8_t *expected = memory_allocate(entry->size_bytes + 1);
            fill(expected, entry->seed, entry->size_bytes);
            is_right = bytes_equal(buffer_bytes(&payload), bytes_make(expected, entry->size_bytes));
            memory_free(expected);
            record = *entry;
            model_adopt_record(model, &record);
        }
        if (!is_right) {
            (void)snprintf(model->complaint, sizeof model->complaint,
                           "what is left of shard %" PRIu32 " has another entry %" PRIu64, shard,
                           i);
        }
    }
    buffer_deinit(&payload);
    if (state.first_index == 0 && state.last_index > 0) {
        record = (struct model_record){
            .kind = WAL_RECORD_TRUNCATE, .shard = shard, .index = state.last_index + 1};
        model_adopt_record(model, &record);
    }
    record = (struct model_record){
        .kind = WAL_RECORD_HARD_STATE, .shard = shard, .term = state.hard_state.term};
    model_adopt_record(model, &record);
    return is_right;
}

/* What the last write told of those before it went with it: the next damage may hide those. */
static void model_lose_evidence(struct model *model, uint32_t count)
{
    uint32_t evident_count = model->evident_count < count ? model->evident_count : count;
    if (count < model->record_count) {
        uint32_t left = count > 0 ? model->records[count - 1].evident_count : 0;
        evident_count = evident_count < left ? evident_count : left;
    }
    model->evident_count = evident_count;
}

/* Damage that stays. The shards that lost nothing must be what they were; of the others, what is
 * left must be right. The next opening finds nothing new, however often this one is interrupted. */
static bool model_lose(struct model *model)
{
    uint8_t saved[SECTOR_SIZE_BYTES];
    if (model->record_count > MODEL_RECORD_COUNT_MAX * 3 / 4 || model_harm(model, saved) == NULL) {
        return true;
    }
    fake_settle(model->disk);
    memset(model->is_lost, 0, sizeof model->is_lost);
    model->does_accept = true;
    while (random_chance(&model->random, 1, 2)) {
        fake_fail_after(model->disk, 1 + (uint32_t)random_below(&model->random, 30), -EIO, true);
        if (model_open(model, false, NULL) == 0) {
            model_close(model);
        }
        fake_stop_failing(model->disk);
        if (random_chance(&model->random, 1, 2)) {
            fake_lose_power(model->disk);
        }
    }
    struct error error = {0};
    int status = model_open(model, false, &error);
    model->does_accept = false;
    if (status != 0) {
        (void)snprintf(model->complaint, sizeof model->complaint, "lossy: %s", error.message);
        return false;
    }
    uint32_t count;
    bool is_right = model_find_prefix(model, model->evident_count, &count);
    model_lose_evidence(model, count);
    model->record_count = count;
    model->flushed_count = count;
    for (wal_shard shard = 0; shard < MODEL_SHARD_COUNT && is_right; shard++) {
        is_right = !model->is_lost[shard] || model_adopt_shard(model, shard);
    }
    memset(model->is_lost, 0, sizeof model->is_lost);
    model->tried_count = model->record_count;
    model->written_count = model->record_count;
    model->flushed_count = model->record_count;
    model_close(model);
    return is_right;
}

/* Open the log a few times, each time interrupted. */
static void model_interrupt_recovery(struct model *model)
{
    while (random_chance(&model->random, 1, 2)) {
        fake_fail_after(model->disk, 1 + (uint32_t)random_below(&model->random, 20), -EIO, true);
        if (model_open(model, false, NULL) == 0) {
            model_close(model);
        }
        fake_stop_failing(model->disk);
        if (random_chance(&model->random, 1, 2)) {
            fake_lose_power(model->disk);
        }
    }
}

/* The process ends, and perhaps the power with it. */
static bool model_restart(struct model *model)
{
    model_close(model);
    model_free_payloads(model);
    fake_stop_failing(model->disk);
    fake_set_capacity(model->disk, UINT64_MAX);
    if (random_chance(&model->random, 2, 3)) {
        fake_lose_power(model->disk);
    }
    model_interrupt_recovery(model);
    struct error error = {0};
    if (model_open(model, false, &error) != 0) {
        (void)snprintf(model->complaint, sizeof model->complaint, "open: %s", error.message);
        return false;
    }
    uint32_t count;
    if (!model_find_prefix(model, model->flushed_count, &count)) {
        return false;
    }
    uint32_t lowest = model->flushed_count;
    while (!model_matches(model, lowest)) {
        lowest++;
    }
    model->evident_count = lowest > 0 ? model->records[lowest - 1].evident_count : 0;
    for (uint32_t i = lowest; i < count; i++) {
        /* The log looks the same without it: it may not be there, and then tells of nothing. */
        model->records[i].evident_count = model->evident_count;
    }
    model->record_count = count;
    model->tried_count = count;
    model->written_count = count;
    model->flushed_count = count;
    while (random_chance(&model->random, 1, 2)) {
        model_close(model);
        bool does_lose = model->does_lose && random_chance(&model->random, 1, 2);
        if (!(does_lose ? model_lose(model) : model_damage(model))) {
            return false;
        }
        if (model_open(model, false, &error) != 0) {
            (void)snprintf(model->complaint, sizeof model->complaint, "again: %s", error.message);
            return false;
        }
        if (!model_find_prefix(model, model->record_count, &count)) {
            return false;
        }
    }
    return true;
}

static uint32_t random_size(struct random *random)
{
    switch (random_below(random, 8)) {
    case 0:
        return 0;
    case 1:
        return (uint32_t)random_below(random, 40000);
    case 2:
    case 3:
        return (uint32_t)random_below(random, 3000);
    default:
        return (uint32_t)random_below(random, 300);
    }
}

static void model_append(struct model *model)
{
    struct model_state state;
    model_state_at(model, model->record_count, &state);
    struct model_record *record = &model->records[model->record_count];
    wal_shard shard = (wal_shard)random_below(&model->random, MODEL_SHARD_COUNT);
    *record = (struct model_record){.kind = WAL_RECORD_ENTRY, .shard = shard};
    uint64_t choice = random_below(&model->random, 20);
    raft_index last = state.last_index[shard];
    if (choice == 0) {
        record->kind = WAL_RECORD_HARD_STATE;
        record->term = state.hard_term[shard] + 1;
    } else if (choice == 1 && last > model->released[shard]) {
        record->kind = WAL_RECORD_TRUNCATE;
        record->index = last - random_below(&model->random, last - model->released[shard] > 5
                                                                ? 5
                                                                : last - model->released[shard]);
        model->seed_next += SEEDS_PER_TERM; /* Another entry of this index has another term. */
    } else {
        record->index = last + 1;
        record->term = 1 + model->seed_next / SEEDS_PER_TERM;
        record->seed = model->seed_next++;
        /* With equal sizes, what is written in place of what was cut ends where that ended. */
        record->size_bytes = model->has_equal_sizes ? 100 : random_size(&model->random);
    }
    uint8_t *payload = memory_allocate(record->size_bytes + 1);
    fill(payload, record->seed, record->size_bytes);
    model->payloads[model->record_count++] = payload;
    model->payload_count = model->record_count;
    struct wal_record appended = {
        .kind = record->kind,
        .shard = shard,
        .index = record->index,
        .term = record->term,
        .hard_state = {.term = record->term, .vote = 1},
        .payload = bytes_make(payload, record->size_bytes),
    };
    wal_append(model->wal, &appended);
}

/* True when the log was written or the disk failed, false when the log did something wrong. */
static bool model_write_and_flush(struct model *model, bool *is_dead)
{
    struct error error = {0};
    /* A write that fails for want of space goes out later as it is, with what it said of this. */
    while (model->tried_count < model->record_count) {
        model->records[model->tried_count++].evident_count = model->flushed_count;
    }
    int status = wal_write(model->wal, &error);
    if (status == -ENOSPC) {
        return true;
    }
    if (status == 0) {
        model->written_count = model->record_count;
        model_free_payloads(model);
        if (random_chance(&model->random, 1, 2)) {
            return true;
        }
        status = wal_flush(model->wal, &error);
    }
    if (status == 0) {
        model->flushed_count = model->written_count;
        return true;
    }
    *is_dead = true;
    if (!fake_has_failed(model->disk)) {
        (void)snprintf(model->complaint, sizeof model->complaint, "write: %s", error.message);
        return false;
    }
    return true;
}

/* The store becomes durable up to some flushed entry of a shard. */
static bool model_release(struct model *model, bool *is_dead)
{
    struct model_state state;
    model_state_at(model, model->flushed_count, &state);
    /* Nothing that was not flushed can be in the store, nor what is truncated later. */
    struct model_state now;
    model_state_at(model, model->record_count, &now);
    wal_shard shard = (wal_shard)random_below(&model->random, MODEL_SHARD_COUNT);
    raft_index last = state.last_index[shard];
    for (uint32_t i = model->flushed_count; i < model->record_count; i++) {
        const struct model_record *record = &model->records[i];
        if (record->kind == WAL_RECORD_TRUNCATE && record->shard == shard &&
            record->index <= last) {
            last = record->index - 1;
        }
    }
    if (last > model->released[shard]) {
        model->released[shard] += 1 + random_below(&model->random, last - model->released[shard]);
    }
    struct error error = {0};
    int status = wal_release(model->wal, shard, model->released[shard], &error);
    if (status != 0) {
        *is_dead = true;
        return fake_has_failed(model->disk);
    }
    return true;
}

static bool model_step(struct model *model, bool *is_dead)
{
    bool is_ready;
    uint64_t choice = random_below(&model->random, 100);
    if (choice < 50) {
        model_append(model);
        return true;
    }
    if (choice < 85) {
        return model_write_and_flush(model, is_dead);
    }
    if (choice < 93) {
        return model_release(model, is_dead);
    }
    if (choice < 96) {
        int status = wal_prepare(model->wal, &is_ready, NULL);
        *is_dead = status != 0 && status != -ENOSPC;
        return !*is_dead || fake_has_failed(model->disk);
    }
    if (choice < 97) {
        uint64_t capacity = (2 + random_below(&model->random, 6)) * SEGMENT_SIZE_BYTES;
        fake_set_capacity(model->disk, random_chance(&model->random, 1, 2) ? capacity : UINT64_MAX);
        return true;
    }
    if (choice < 98) {
        static const int statuses[] = {-EIO, -ENOSPC};
        bool is_for_good = random_chance(&model->random, 1, 2);
        int status = statuses[random_below(&model->random, 2)];
        fake_fail_after(model->disk, 1 + (uint32_t)random_below(&model->random, 10), status,
                        is_for_good && status != -ENOSPC);
        return true;
    }
    *is_dead = true;
    return true;
}

static uint64_t loss_count; /* Of all histories. */

static struct model *model_create(uint64_t seed)
{
    struct model *model = memory_allocate_zeroed(1, sizeof *model);
    random_init(&model->random, seed);
    model->disk = fake_create(seed + 1);
    return model;
}

static void model_destroy(struct model *model)
{
    if (model->wal != NULL) {
        wal_close(model->wal);
    }
    model_free_payloads(model);
    fake_destroy(model->disk);
    memory_free(model);
}

/* What reaches into the log during a history. */
struct reach {
    struct random random;
    const char *bug; /* The one that is switched on, or NULL. */
};

static bool reach_fault(void *context, const char *name)
{
    struct reach *reach = context;
    return random_chance(&reach->random, 1, 20);
}

static bool reach_bug(void *context, const char *name)
{
    struct reach *reach = context;
    return reach->bug != NULL && strcmp(reach->bug, name) == 0;
}

/* False with a complaint when the log broke its promise. */
static bool run_seed(uint64_t seed, const char *bug, char complaint[400])
{
    struct reach reach = {.bug = bug};
    random_init(&reach.random, seed + 2);
    struct trace_hooks hooks = {.context = &reach, .bug = reach_bug};
    hooks.fault = seed % 4 == 0 ? reach_fault : NULL;
    trace_set_hooks(&hooks);
    struct model *model = model_create(seed);
    model->has_equal_sizes = seed % 3 == 0;
    model->does_lose = seed % 2 == 0;
    bool is_right = model_open(model, false, NULL) == 0;
    uint32_t round_count = 2 + (uint32_t)random_below(&model->random, 8);
    for (uint32_t round = 0; round < round_count && is_right; round++) {
        bool is_dead = false;
        for (int i = 0; i < 200 && !is_dead && is_right; i++) {
            is_right = model_step(model, &is_dead);
        }
        is_right = is_right && model_restart(model);
    }
    loss_count += model->loss_count;
    memcpy(complaint, model->complaint, sizeof model->complaint);
    if (!is_right && complaint[0] == '\0') {
        (void)snprintf(complaint, sizeof model->complaint, "an operation failed for no reason");
    }
    model_destroy(model);
    trace_set_hooks(NULL);
    return is_right;
}

/* Whatever happens, the log recovers to a prefix of what was appended that has all that was
 * flushed, the same at each recovery, and never brings back what was once cut. Where damage stays, and
 * its owner goes on, that holds for each shard that the log does not say has lost something. */
static void test_random_histories(void **state)
{
    const char *seed_text = getenv("SEED");
    const char *count_text = getenv("SEEDS");
    uint64_t first = seed_text != NULL ? strtoull(seed_text, NULL, 10) : 1;
    uint64_t count = count_text != NULL ? strtoull(count_text, NULL, 10) : 500;
    count = seed_text != NULL && count_text == NULL ? 1 : count;
    for (uint64_t seed = first; seed < first + count; seed++) {
        char complaint[400];
        if (!run_seed(seed, NULL, complaint)) {
            trace_print_recent(stderr);
            fail_msg("SEED=%" PRIu64 ": %s", seed, complaint);
        }
    }
    print_message("%" PRIu64 " losses accepted\n", loss_count);
    assert_true(loss_count > 0 || seed_text != NULL);
}

/* ---- Planted bugs ---------------------------------------------------------------------------- */

/* These histories see what they are for: each deliberate bug shows in some of them. */
static void test_planted_bugs_are_found(void **state)
{
#ifdef TUTTI_PLANTED_BUGS
    enum { SEED_COUNT_MAX = 10000 };
    static const char *const bugs[] = {
        "wal.torn_tail_not_cut",  "wal.damage_cut_as_tail",    "wal.hard_state_not_carried",
        "wal.recycled_early",     "wal.stale_record_believed", "wal.payload_crc_unchecked",
        "wal.tail_not_rewritten", "wal.incarnation_reused",    "wal.flush_skipped",
        "wal.name_not_flushed",   "wal.loss_not_written",      "wal.loss_not_told",
    };
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        char complaint[400] = "";
        uint64_t seed = 1;
        while (seed <= SEED_COUNT_MAX && run_seed(seed, bugs[i], complaint)) {
            seed++;
        }
        print_message("%-28s seed %4" PRIu64 ": %s\n", bugs[i], seed, complaint);
        assert_true(seed <= SEED_COUNT_MAX);
    }
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_histories),
        cmocka_unit_test(test_planted_bugs_are_found),
    };
    return cmocka_run_group_tests_name("wal_history", tests, NULL, NULL);
}
