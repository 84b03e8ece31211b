/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/checksum/checksum.h"
#include "core/wal/wal.h"
#include "core/wal/wal_fake.h"

enum { SEGMENT = 32768, SHARD = 7, HEAD = 8192 + 512 };

#define FIRST_NAME "0000000000000001.wal"

/* ---- Helpers --------------------------------------------------------------------------------- */

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
    /* Its head is the same. */
    buffer_clear(&payload);
    term = 0;
    uint32_t head_size_bytes = (uint32_t)(index % (WAL_HEAD_SIZE_BYTES_MAX + 1));
    assert_int_equal(wal_read_head(wal, SHARD, index, head_size_bytes, &term, &payload, NULL), 0);
    assert_int_equal(term, 3);
    size_t wanted_bytes = size_bytes < head_size_bytes ? size_bytes : head_size_bytes;
    assert_true(bytes_equal(buffer_bytes(&payload), make_payload(index, wanted_bytes)));
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

/* ---- What is written is read back ------------------------------------------------------------ */

/* What was flushed is there after a restart, with its hard state, and can be read before and
 * after. */
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
    assert_int_equal(wal_read_head(wal, SHARD, 101, 1, &term, &payload, NULL), -ENOENT);
    assert_int_equal(wal_read(wal, SHARD, 0, &term, &payload, NULL), -ENOENT);
    assert_int_equal(wal_read(wal, SHARD + 1, 1, &term, &payload, NULL), -ENOENT);
    assert_int_equal(payload.size_bytes, 0);
    wal_close(wal);
}

/* An entry that begins anywhere in a segment, also with a first fragment of a few bytes. */
static void test_entries_that_cross_segments(void **state)
{
    struct wal *wal = open_log(*state);
    for (raft_index index = 1; index <= 600; index++) {
        write_entry(wal, index, 1000 + 8 * index);
    }
    flush(wal);
    for (raft_index index = 1; index <= 600; index++) {
        expect_entry(wal, index, 1000 + 8 * index);
    }
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

/* Many records of one batch go with one write, whatever their sizes; payloads are not needed
 * after. */
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

/* ---- Segments -------------------------------------------------------------------------------- */

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

/* A shard that begins anew, with nothing, may have any index next; what was released of its former entries
 * says nothing of those, which are kept and are there after a restart. */
static void test_void_log_begins_anew(void **state)
{
    struct wal *wal = open_log(*state);
    for (raft_index index = 1; index <= 100; index++) {
        write_entry(wal, index, 2000);
    }
    flush(wal);
    assert_int_equal(wal_release(wal, SHARD, 90, NULL), 0);
    struct wal_record record = {.kind = WAL_RECORD_TRUNCATE, .shard = SHARD, .index = 1};
    wal_append(wal, &record);
    for (raft_index index = 1; index <= 40; index++) {
        write_entry(wal, index, 2000);
    }
    flush(wal);
    assert_int_equal(wal_release(wal, SHARD, 10, NULL), 0);
    for (raft_index index = 11; index <= 40; index++) {
        expect_entry(wal, index, 2000);
    }
    wal_close(wal);
    fake_lose_power(*state);
    needed_from = 11;
    wal = open_log(*state);
    assert_int_equal(get_state(wal).last_index, 40);
    for (raft_index index = 11; index <= 40; index++) {
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

/* ---- Damage ---------------------------------------------------------------------------------- */

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

/* A copy that was cut short is not taken for a torn tail. */
static void test_shortened_file(void **state)
{
    write_entries_one_by_one(*state, 10);
    size_t size_bytes;
    uint8_t *bytes = fake_bytes(*state, FIRST_NAME, &size_bytes);
    uint8_t *copy = malloc(HEAD + 4 * 512);
    memcpy(copy, bytes, HEAD + 4 * 512);
    fake_remove_file(*state, FIRST_NAME);
    fake_add_file(*state, FIRST_NAME, copy, HEAD + 4 * 512);
    free(copy);
    struct error error;
    assert_int_equal(open_status(*state, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, "shortened"));
}

/* A segment that got its name but nothing else when the process ended was not begun. */
static void test_segment_not_begun(void **state)
{
    write_entries_one_by_one(*state, 10);
    static const uint8_t old_records[SEGMENT];
    fake_add_file(*state, "0000000000000002.wal", old_records, sizeof old_records);
    struct wal *wal = open_log(*state);
    assert_int_equal(get_state(wal).last_index, 10);
    struct wal_statistics statistics;
    wal_get_statistics(wal, &statistics);
    assert_int_equal(statistics.segment_count, 1);
    assert_int_equal(fake_file_count(*state), 1);
    for (raft_index index = 11; index <= 60; index++) {
        write_entry(wal, index, 1000);
    }
    flush(wal);
    wal_close(wal);
    /* The third segment cannot have been begun before the second. */
    fake_remove_file(*state, "0000000000000002.wal");
    struct error error;
    assert_int_equal(open_status(*state, &error), ERROR_CORRUPT);
}

/* Where the store has more than the log, entries go on behind what the store has. */
static void test_store_ahead_of_log(void **state)
{
    write_entries_one_by_one(*state, 10);
    needed_from = 21;
    struct wal *wal = open_log(*state);
    assert_int_equal(get_state(wal).last_index, 10);
    assert_int_equal(get_state(wal).first_index, 0);
    write_entry(wal, 21, 100);
    flush(wal);
    wal_close(wal);
    wal = open_log(*state);
    assert_int_equal(get_state(wal).first_index, 21);
    expect_entry(wal, 21, 100);
    wal_close(wal);
}

/* Reading alone changes nothing, not even where a tail is torn. */
static void test_read_only(void **state)
{
    write_entries_one_by_one(*state, 10);
    size_t size_bytes;
    uint8_t *bytes = fake_bytes(*state, FIRST_NAME, &size_bytes);
    bytes[HEAD + 9 * 512 + 70] ^= 1;
    fake_settle(*state);
    uint8_t *before = malloc(size_bytes);
    memcpy(before, bytes, size_bytes);
    struct wal_options options = make_options(*state);
    options.is_read_only = true;
    struct wal *wal = NULL;
    assert_int_equal(wal_open(&wal, &options, NULL), 0);
    assert_int_equal(get_state(wal).last_index, 9);
    expect_entry(wal, 9, 300);
    wal_close(wal);
    assert_memory_equal(before, bytes, size_bytes);
    free(before);
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

/* ---- Failing disks --------------------------------------------------------------------------- */

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

/* After a failed flush the page cache may show what the disk does not have. What recovery believed
 * of it and what is acknowledged behind it survive a power loss together. */
static void test_tail_believed_after_a_failed_flush_is_durable(void **state)
{
    raft_index last_index = 0;
    for (int round = 0; round < 10; round++) {
        struct wal *wal = open_log(*state);
        write_entry(wal, ++last_index, 3000);
        fake_fail_after(*state, 1, -EIO, false);
        assert_int_equal(wal_flush(wal, NULL), -EIO);
        fake_stop_failing(*state);
        wal_close(wal);

        wal = open_log(*state);
        struct wal_shard_state found = {0};
        (void)wal_get_shard_state(wal, SHARD, &found);
        assert_in_range(found.last_index, last_index - 1, last_index);
        last_index = found.last_index + 1;
        write_entry(wal, last_index, 100);
        assert_int_equal(wal_flush(wal, NULL), 0);
        wal_close(wal);
        fake_lose_power(*state);

        wal = open_log(*state);
        assert_true(wal_get_shard_state(wal, SHARD, &found));
        assert_int_equal(found.last_index, last_index);
        wal_close(wal);
    }
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

/* The beginning of an entry whose rest waits for space is not given away. */
static void test_full_disk_in_the_middle_of_an_entry(void **state)
{
    fake_set_capacity(*state, 3 * SEGMENT);
    struct wal *wal = open_log(*state);
    write_entry(wal, 1, 100);
    flush(wal);
    static uint8_t payload[100000];
    memcpy(payload, make_payload(2, sizeof payload).data, sizeof payload);
    append_entry(wal, SHARD, 2, bytes_make(payload, sizeof payload));
    assert_int_equal(wal_write(wal, NULL), -ENOSPC);
    assert_int_equal(wal_release(wal, SHARD, 1, NULL), 0);
    fake_set_capacity(*state, 8 * SEGMENT);
    assert_int_equal(wal_write(wal, NULL), 0);
    flush(wal);
    expect_entry(wal, 2, sizeof payload);
    wal_close(wal);
    needed_from = 2;
    wal = open_log(*state);
    expect_entry(wal, 2, sizeof payload);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written_entries_return, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_entry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_entries_that_cross_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_batch_is_one_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_release_recycles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_void_log_begins_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hard_state_is_carried, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_prepare, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_payload_damage_is_reported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_header_damage_is_reported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_header_of_older_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_header_of_newest_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_torn_tail_is_cut_for_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shortened_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_segment_not_begun, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_store_ahead_of_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_newer_format, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed_flush_is_final, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tail_believed_after_a_failed_flush_is_durable, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk_is_not_final, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk_in_the_middle_of_an_entry, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_open_failure_sweep, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("wal", tests, NULL, NULL);
}
