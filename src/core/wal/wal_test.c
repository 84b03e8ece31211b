/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checksum/checksum.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/wal/wal.h"
#include "core/wal/wal_fake.h"

enum { SEGMENT = 32768, SHARD = 7, HEAD = 8192 + 512 };

#define FIRST_NAME "0000000000000001.wal"

/* ---- Helpers -----------------------------------------------------------------------------------
 */

static raft_index needed_from; /* What the store of a test needs, of every shard. */

static raft_index first_needed(void *context, wal_shard shard)
{
    return needed_from;
}

static struct wal_options make_options(struct fake_disk *disk)
{
    return (struct wal_options){
        .files = fake_files(disk),
        .segment_size_bytes = SEGMENT,
        .spare_size_bytes_max = 4 * SEGMENT,
        .first_needed = first_needed,
    };
}

static struct wal *open_log(struct fake_disk *disk)
{
    struct wal_options options = make_options(disk);
    struct wal *wal = NULL;
    struct error error;
    int status = wal_open(&wal, &options, &error);
    if (status != 0) {
        fail_msg("wal_open: %s", error.message);
    }
    return wal;
}

static int open_status(struct fake_disk *disk, struct error *error)
{
    struct wal_options options = make_options(disk);
    struct wal *wal = NULL;
    int status = wal_open(&wal, &options, error);
    if (status == 0) {
        wal_close(wal);
    } else {
        assert_null(wal);
    }
    assert_int_equal(fake_open_count(disk), 0);
    return status;
}

static uint8_t payload_memory[1 << 20];

static struct bytes make_payload(uint64_t seed, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++) {
        payload_memory[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
    }
    return bytes_make(payload_memory, size_bytes);
}

static void append_entry(struct wal *wal, wal_shard shard, raft_index index, struct bytes payload)
{
    struct wal_record record = {
        .kind = WAL_RECORD_ENTRY, .shard = shard, .index = index, .term = 3, .payload = payload};
    wal_append(wal, &record);
}

/* Append one entry with a payload made from its index, and write it. */
static void write_entry(struct wal *wal, raft_index index, size_t size_bytes)
{
    append_entry(wal, SHARD, index, make_payload(index, size_bytes));
    assert_int_equal(wal_write(wal, NULL), 0);
}

static void flush(struct wal *wal)
{
    assert_int_equal(wal_flush(wal, NULL), 0);
}

static void expect_entry(struct wal *wal, raft_index index, size_t size_bytes)
{
    struct buffer payload = {0};
    raft_term term = 0;
    struct error error;
    if (wal_read(wal, SHARD, index, &term, &payload, &error) != 0) {
        fail_msg("wal_read: %s", error.message);
    }
    assert_int_equal(term, 3);
    assert_true(bytes_equal(buffer_bytes(&payload), make_payload(index, size_bytes)));
    buffer_deinit(&payload);
}

static struct wal_shard_state get_state(struct wal *wal)
{
    struct wal_shard_state state = {0};
    assert_true(wal_get_shard_state(wal, SHARD, &state));
    return state;
}

static int set_up(void **state)
{
    needed_from = 0;
    *state = fake_create(1);
    return 0;
}

static int tear_down(void **state)
{
    assert_int_equal(fake_open_count(*state), 0);
    fake_destroy(*state);
    return 0;
}

/* ---- What is written is read back --------------------------------------------------------------
 */

/* What was flushed is there after a restart, with its hard state, and can be read before and after.
 */
static void test_written_entries_return(void **state)
{
    struct wal *wal = open_log(*state);
    struct wal_shard_state shard;
    assert_false(wal_get_shard_state(wal, SHARD, &shard));
    struct wal_record hard_state = {
        .kind = WAL_RECORD_HARD_STATE, .shard = SHARD, .hard_state = {.term = 3, .vote = 9}};
    wal_append(wal, &hard_state);
    for (raft_index index = 1; index <= 100; index++) {
        write_entry(wal, index, (index * 37) % 3000);
        expect_entry(wal, index, (index * 37) % 3000);
    }
    flush(wal);
    wal_close(wal);

    wal = open_log(*state);
    shard = get_state(wal);
    assert_int_equal(shard.hard_state.term, 3);
    assert_int_equal(shard.hard_state.vote, 9);
    assert_int_equal(shard.first_index, 1);
    assert_int_equal(shard.last_index, 100);
    assert_int_equal(shard.last_term, 3);
    for (raft_index index = 1; index <= 100; index++) {
        expect_entry(wal, index, (index * 37) % 3000);
    }
    raft_term term;
    struct buffer payload = {0};
    assert_int_equal(wal_read(wal, SHARD, 101, &term, &payload, NULL), -ENOENT);
    assert_int_equal(wal_read(wal, SHARD, 0, &term, &payload, NULL), -ENOENT);
    assert_int_equal(wal_read(wal, SHARD + 1, 1, &term, &payload, NULL), -ENOENT);
    assert_int_equal(payload.size_bytes, 0);
    wal_close(wal);
}

/* An entry longer than several segments is cut into fragments and comes back whole. */
static void test_long_entry(void **state)
{
    struct wal *wal = open_log(*state);
    write_entry(wal, 1, 10);
    write_entry(wal, 2, 300000);
    write_entry(wal, 3, 10);
    flush(wal);
    expect_entry(wal, 2, 300000);
    wal_close(wal);
    wal = open_log(*state);
    expect_entry(wal, 1, 10);
    expect_entry(wal, 2, 300000);
    expect_entry(wal, 3, 10);
    wal_close(wal);
}

/* Many records of one batch go with one write, whatever their sizes; payloads are not needed after.
 */
static void test_batch_is_one_write(void **state)
{
    struct wal *wal = open_log(*state);
    struct wal_statistics before;
    struct wal_statistics after;
    wal_get_statistics(wal, &before);
    for (raft_index index = 1; index <= 50; index++) {
        append_entry(wal, SHARD, index, bytes_make(payload_memory, 200));
    }
    assert_int_equal(wal_write(wal, NULL), 0);
    wal_get_statistics(wal, &after);
    assert_int_equal(after.write_count - before.write_count, 1);
    assert_int_equal(after.record_count - before.record_count, 50);
    wal_close(wal);
}

/* A truncation removes entries for good, and the term of the one before is known again. */
static void test_truncation(void **state)
{
    struct wal *wal = open_log(*state);
    for (raft_index index = 1; index <= 10; index++) {
        write_entry(wal, index, 100);
    }
    struct wal_record later = {
        .kind = WAL_RECORD_ENTRY, .shard = SHARD, .index = 11, .term = 4, .payload = BYTES("x")};
    wal_append(wal, &later);
    struct wal_record truncate = {.kind = WAL_RECORD_TRUNCATE, .shard = SHARD, .index = 6};
    wal_append(wal, &truncate);
    assert_int_equal(wal_write(wal, NULL), 0);
    assert_int_equal(get_state(wal).last_index, 5);
    assert_int_equal(get_state(wal).last_term, 3);
    write_entry(wal, 6, 333);
    flush(wal);
    wal_close(wal);
    wal = open_log(*state);
    assert_int_equal(get_state(wal).last_index, 6);
    assert_int_equal(get_state(wal).last_term, 3);
    expect_entry(wal, 6, 333);
    expect_entry(wal, 5, 100);
    wal_close(wal);
}

/* ---- Segments ----------------------------------------------------------------------------------
 */

/* Released segments are recycled, the oldest first, and what they held is not missed. */
static void test_release_recycles(void **state)
{
    struct wal *wal = open_log(*state);
    for (raft_index index = 1; index <= 100; index++) {
        write_entry(wal, index, 2000);
    }
    flush(wal);
    struct wal_statistics statistics;
    wal_get_statistics(wal, &statistics);
    assert_true(statistics.segment_count > 5);
    assert_int_equal(wal_release(wal, SHARD, 99, NULL), 0);
    wal_get_statistics(wal, &statistics);
    assert_int_equal(statistics.segment_count, 1);
    assert_int_equal(statistics.spare_segment_count, 4);
    raft_term term;
    struct buffer payload = {0};
    assert_int_equal(wal_read(wal, SHARD, 99, &term, &payload, NULL), -ENOENT);
    for (raft_index index = 101; index <= 140; index++) {
        write_entry(wal, index, 2000);
    }
    flush(wal);
    wal_close(wal);
    fake_lose_power(*state);
    needed_from = 100;
    wal = open_log(*state);
    assert_int_equal(get_state(wal).first_index, 100);
    assert_int_equal(get_state(wal).last_index, 140);
    for (raft_index index = 100; index <= 140; index++) {
        expect_entry(wal, index, 2000);
    }
    wal_close(wal);
}

/* The hard state of a shard outlives the segment it was written in (I3). */
static void test_hard_state_is_carried(void **state)
{
    struct wal *wal = open_log(*state);
    struct wal_record hard_state = {
        .kind = WAL_RECORD_HARD_STATE, .shard = 99, .hard_state = {.term = 8, .vote = 2}};
    wal_append(wal, &hard_state);
    for (raft_index index = 1; index <= 40; index++) {
        write_entry(wal, index, 2000);
    }
    flush(wal);
    assert_int_equal(wal_release(wal, SHARD, 40, NULL), 0);
    wal_close(wal);
    needed_from = 41;
    wal = open_log(*state);
    struct wal_shard_state shard;
    assert_true(wal_get_shard_state(wal, 99, &shard));
    assert_int_equal(shard.hard_state.term, 8);
    assert_int_equal(shard.hard_state.vote, 2);
    assert_int_equal(get_state(wal).last_index, 40);
    assert_int_equal(get_state(wal).first_index, 0);
    wal_close(wal);
}

/* Preparing makes one spare segment, a piece at a time, and is then ready. */
static void test_prepare(void **state)
{
    struct wal *wal = open_log(*state);
    bool is_ready = false;
    for (int i = 0; i < 10 && !is_ready; i++) {
        assert_int_equal(wal_prepare(wal, &is_ready, NULL), 0);
    }
    assert_true(is_ready);
    struct wal_statistics statistics;
    wal_get_statistics(wal, &statistics);
    assert_int_equal(statistics.spare_segment_count, 1);
    wal_close(wal);
    wal = open_log(*state);
    wal_get_statistics(wal, &statistics);
    assert_int_equal(statistics.spare_segment_count, 1);
    for (raft_index index = 1; index <= 20; index++) {
        write_entry(wal, index, 2000);
    }
    wal_get_statistics(wal, &statistics);
    assert_int_equal(statistics.spare_segment_count, 0);
    wal_close(wal);
}

/* ---- Damage ------------------------------------------------------------------------------------
 */

static void write_entries_one_by_one(struct fake_disk *disk, raft_index last)
{
    struct wal *wal = open_log(disk);
    for (raft_index index = 1; index <= last; index++) {
        write_entry(wal, index, 300);
        flush(wal);
    }
    wal_close(wal);
}

/* I2: damage before the tail is not cut but reported, with the place and the entry. */
static void test_payload_damage_is_reported(void **state)
{
    write_entries_one_by_one(*state, 10);
    size_t size_bytes;
    fake_bytes(*state, FIRST_NAME, &size_bytes)[HEAD + 4 * 512 + 70] ^= 1;
    fake_settle(*state);
    struct error error;
    assert_int_equal(open_status(*state, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, "0000000000000001.wal at offset 10752"));
    assert_non_null(strstr(error.message, "entry 5 of shard 7"));
    /* The store has it: of no account. */
    needed_from = 6;
    assert_int_equal(open_status(*state, &error), 0);
}

static void test_header_damage_is_reported(void **state)
{
    write_entries_one_by_one(*state, 10);
    size_t size_bytes;
    fake_bytes(*state, FIRST_NAME, &size_bytes)[HEAD + 4 * 512 + 30] ^= 1;
    fake_settle(*state);
    struct error error;
    /* Even when the store has all entries: it might have been a vote. */
    needed_from = 11;
    assert_int_equal(open_status(*state, &error), ERROR_CORRUPT);
}

/* Whatever was lost in a segment is of no account when the store has all that the next one's table
 * names; otherwise it is reported. */
static void test_lost_segment(void **state)
{
    write_entries_one_by_one(*state, 60);
    struct error error;
    assert_int_equal(open_status(*state, &error), 0);
    fake_remove_file(*state, FIRST_NAME);
    assert_int_equal(open_status(*state, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, "missing"));
    needed_from = 50;
    assert_int_equal(open_status(*state, &error), 0);
}

static void test_damaged_header_of_older_segment(void **state)
{
    write_entries_one_by_one(*state, 60);
    size_t size_bytes;
    uint8_t *bytes = fake_bytes(*state, FIRST_NAME, &size_bytes);
    bytes[0] ^= 1;
    fake_settle(*state);
    struct error error;
    /* One copy is enough. */
    assert_int_equal(open_status(*state, &error), 0);
    bytes[4096] ^= 1;
    fake_settle(*state);
    assert_int_equal(open_status(*state, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, "header"));
    needed_from = 50;
    assert_int_equal(open_status(*state, &error), 0);
}

/* A record behind a bad header proves that the segment had been begun. */
static void test_damaged_header_of_newest_segment(void **state)
{
    write_entries_one_by_one(*state, 3);
    size_t size_bytes;
    uint8_t *bytes = fake_bytes(*state, FIRST_NAME, &size_bytes);
    memset(bytes, 0, 8192);
    fake_settle(*state);
    struct error error;
    assert_int_equal(open_status(*state, &error), ERROR_CORRUPT);
}

/* The last write may be torn; what is left of it is cut and never comes back. */
static void test_torn_tail_is_cut_for_good(void **state)
{
    struct wal *wal = open_log(*state);
    write_entry(wal, 1, 300);
    flush(wal);
    write_entry(wal, 2, 300);
    write_entry(wal, 3, 300);
    write_entry(wal, 4, 300);
    wal_close(wal);
    size_t size_bytes;
    fake_bytes(*state, FIRST_NAME, &size_bytes)[HEAD + 512 + 70] ^= 1;
    fake_settle(*state);
    wal = open_log(*state);
    assert_int_equal(get_state(wal).last_index, 1);
    write_entry(wal, 2, 200);
    flush(wal);
    wal_close(wal);
    wal = open_log(*state);
    assert_int_equal(get_state(wal).last_index, 2);
    expect_entry(wal, 2, 200);
    wal_close(wal);
}

/* A directory of a later version is refused, and nothing in it is changed. */
static void test_newer_format(void **state)
{
    write_entries_one_by_one(*state, 3);
    size_t size_bytes;
    uint8_t *bytes = fake_bytes(*state, FIRST_NAME, &size_bytes);
    bytes[12] = 2;
    uint32_t crc = checksum_crc32c(0, bytes_make(bytes + 12, 52));
    memcpy(bytes + 8, &crc, sizeof crc);
    fake_settle(*state);
    struct error error;
    assert_int_equal(open_status(*state, &error), ERROR_NEWER_FORMAT);
    assert_int_equal(bytes[12], 2);
}

/* ---- Failing disks -----------------------------------------------------------------------------
 */

/* I4: after a failed flush every call fails with the same status. */
static void test_failed_flush_is_final(void **state)
{
    struct wal *wal = open_log(*state);
    write_entry(wal, 1, 100);
    fake_fail_after(*state, 1, -EIO, false);
    assert_int_equal(wal_flush(wal, NULL), -EIO);
    assert_int_equal(wal_flush(wal, NULL), -EIO);
    append_entry(wal, SHARD, 2, make_payload(2, 100));
    struct error error;
    assert_int_equal(wal_write(wal, &error), -EIO);
    bool is_ready;
    assert_int_equal(wal_prepare(wal, &is_ready, NULL), -EIO);
    assert_int_equal(wal_release(wal, SHARD, 1, NULL), -EIO);
    wal_close(wal);
    fake_stop_failing(*state);
}

/* A full disk is not final: the same records go out when there is space, and nothing is lost. */
static void test_full_disk_is_not_final(void **state)
{
    fake_set_capacity(*state, 2 * SEGMENT);
    struct wal *wal = open_log(*state);
    static uint8_t payloads[90][1000];
    for (raft_index index = 1; index <= 90; index++) {
        struct bytes made = make_payload(index, sizeof payloads[0]);
        memcpy(payloads[index - 1], made.data, made.size_bytes);
        append_entry(wal, SHARD, index, bytes_make(payloads[index - 1], made.size_bytes));
    }
    struct error error;
    assert_int_equal(wal_write(wal, &error), -ENOSPC);
    assert_int_equal(wal_write(wal, &error), -ENOSPC);
    raft_term term;
    struct buffer payload = {0};
    assert_int_equal(wal_read(wal, SHARD, 90, &term, &payload, NULL), -ENOENT);
    flush(wal);
    bool is_ready;
    assert_int_equal(wal_prepare(wal, &is_ready, NULL), -ENOSPC);
    fake_set_capacity(*state, 8 * SEGMENT);
    assert_int_equal(wal_write(wal, &error), 0);
    flush(wal);
    wal_close(wal);
    wal = open_log(*state);
    for (raft_index index = 1; index <= 90; index++) {
        expect_entry(wal, index, sizeof payloads[0]);
    }
    wal_close(wal);
}

/* Opening fails cleanly at whichever operation fails, and succeeds afterwards with nothing lost. */
static void test_open_failure_sweep(void **state)
{
    struct wal *wal = open_log(*state);
    for (raft_index index = 1; index <= 40; index++) {
        write_entry(wal, index, 1000);
    }
    flush(wal);
    write_entry(wal, 41, 1000);
    write_entry(wal, 42, 1000);
    wal_close(wal);
    bool has_failed = true;
    for (uint32_t countdown = 1; has_failed; countdown++) {
        fake_fail_after(*state, countdown, -EIO, true);
        struct error error;
        int status = open_status(*state, &error);
        has_failed = fake_has_failed(*state);
        assert_int_equal(status, has_failed ? -EIO : 0);
        fake_stop_failing(*state);
        assert_true(countdown < 1000);
        wal = open_log(*state);
        assert_true(get_state(wal).last_index >= 40);
        expect_entry(wal, 40, 1000);
        wal_close(wal);
    }
}

/* ---- Everything at random ----------------------------------------------------------------------
 */

enum {
    MODEL_RECORD_COUNT_MAX = 4000,
    MODEL_SHARD_COUNT = 3,
};

struct model_record {
    enum wal_record_kind kind;
    wal_shard shard;
    raft_index index;
    raft_term term;
    uint64_t seed;
    uint32_t size_bytes;
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
    uint32_t written_count;
    uint32_t flushed_count;
    raft_index released[MODEL_SHARD_COUNT];
    uint64_t seed_next;
    uint8_t *payloads[MODEL_RECORD_COUNT_MAX]; /* Borrowed by the log until it wrote. */
    char complaint[400];
};

static raft_index model_first_needed(void *context, wal_shard shard)
{
    struct model *model = context;
    return shard < MODEL_SHARD_COUNT ? model->released[shard] + 1 : 0;
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
            record->index <= model->released[record->shard]) {
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

static int model_open(struct model *model, struct error *error)
{
    struct wal_options options = make_options(model->disk);
    options.first_needed = model_first_needed;
    options.context = model;
    options.spare_size_bytes_max = 2 * SEGMENT;
    return wal_open(&model->wal, &options, error);
}

static void model_free_payloads(struct model *model)
{
    for (uint32_t i = 0; i < MODEL_RECORD_COUNT_MAX; i++) {
        memory_free(model->payloads[i]);
        model->payloads[i] = NULL;
    }
}

/* The process ends, and perhaps the power with it. Opening again may be interrupted too. */
static bool model_restart(struct model *model)
{
    wal_close(model->wal);
    model->wal = NULL;
    model_free_payloads(model);
    fake_stop_failing(model->disk);
    bool is_power_lost = random_chance(&model->random, 2, 3);
    if (is_power_lost) {
        fake_lose_power(model->disk);
    }
    struct error error = {0};
    while (random_chance(&model->random, 1, 2)) {
        fake_fail_after(model->disk, 1 + (uint32_t)random_below(&model->random, 20), -EIO, true);
        if (model_open(model, &error) == 0) {
            wal_close(model->wal);
        }
        fake_stop_failing(model->disk);
        if (random_chance(&model->random, 1, 2)) {
            fake_lose_power(model->disk);
        }
    }
    if (model_open(model, &error) != 0) {
        (void)snprintf(model->complaint, sizeof model->complaint, "open: %s", error.message);
        return false;
    }
    /* A truncation and what follows may look the same from outside: the entries tell. */
    uint32_t count = model->record_count;
    while (!model_matches(model, count) || !model_entries_match(model, count)) {
        if (count-- == model->flushed_count) {
            size_t used = strlen(model->complaint);
            (void)snprintf(model->complaint + used, sizeof model->complaint - used,
                           "; not a prefix with all %" PRIu32 " flushed of %" PRIu32 " records",
                           model->flushed_count, model->record_count);
            return false;
        }
    }
    model->complaint[0] = '\0';
    model->record_count = count;
    model->written_count = count;
    model->flushed_count = count;
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
    } else {
        record->index = last + 1;
        record->term = 1 + model->seed_next / 50;
        record->seed = model->seed_next++;
        record->size_bytes = random_size(&model->random);
    }
    uint8_t *payload = memory_allocate(record->size_bytes + 1);
    fill(payload, record->seed, record->size_bytes);
    model->payloads[model->record_count++] = payload;
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

/* False with a complaint when the log broke its promise. */
static bool run_seed(uint64_t seed, char complaint[400])
{
    struct model *model = model_create(seed);
    bool is_right = model_open(model, NULL) == 0;
    uint32_t round_count = 2 + (uint32_t)random_below(&model->random, 8);
    for (uint32_t round = 0; round < round_count && is_right; round++) {
        bool is_dead = false;
        for (int i = 0; i < 200 && !is_dead && is_right; i++) {
            is_right = model_step(model, &is_dead);
        }
        is_right = is_right && model_restart(model);
    }
    memcpy(complaint, model->complaint, sizeof model->complaint);
    if (!is_right && complaint[0] == '\0') {
        (void)snprintf(complaint, sizeof model->complaint, "an operation failed for no reason");
    }
    model_destroy(model);
    return is_right;
}

/* Whatever happens, the log recovers to a prefix of what was appended that has all that was
 * flushed, the same at each recovery, and never brings back what was once cut. */
static void test_random_histories(void **state)
{
    const char *seed_text = getenv("SEED");
    const char *count_text = getenv("SEEDS");
    uint64_t first = seed_text != NULL ? strtoull(seed_text, NULL, 10) : 1;
    uint64_t count = count_text != NULL ? strtoull(count_text, NULL, 10) : 500;
    count = seed_text != NULL && count_text == NULL ? 1 : count;
    for (uint64_t seed = first; seed < first + count; seed++) {
        char complaint[400];
        if (!run_seed(seed, complaint)) {
            trace_print_recent(stderr);
            fail_msg("SEED=%" PRIu64 ": %s", seed, complaint);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written_entries_return, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_entry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_batch_is_one_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_release_recycles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hard_state_is_carried, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_prepare, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_payload_damage_is_reported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_header_damage_is_reported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_header_of_older_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_header_of_newest_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_torn_tail_is_cut_for_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_newer_format, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed_flush_is_final, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk_is_not_final, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_failure_sweep, set_up, tear_down),
        cmocka_unit_test(test_random_histories),
    };
    return cmocka_run_group_tests_name("wal", tests, NULL, NULL);
}
