/* SPDX-License-Identifier: Apache-2.0 */
/* The log when it is damaged and the owner of its shards goes on without what was lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/wal/wal.h"
#include "core/wal/wal_fake.h"

enum { SEGMENT_SIZE_BYTES = 32768, FIRST_WRITE = 8704, WRITE_SIZE_BYTES = 512, LOSS_COUNT_MAX = 8 };

struct owner {
    struct fake_disk *disk;
    struct wal *wal;
    bool does_refuse;
    raft_index stored_index;
    struct wal_loss losses[LOSS_COUNT_MAX];
    uint32_t loss_count;
    struct error error;
};

static raft_index first_needed(void *context, wal_shard shard)
{
    return ((struct owner *)context)->stored_index + 1;
}

static int accept_loss(void *context, const struct wal_loss *loss, struct error *error)
{
    struct owner *owner = context;
    if (owner->does_refuse) {
        return error_say(error, ERROR_CORRUPT, "nobody else has it");
    }
    assert_true(owner->loss_count < LOSS_COUNT_MAX);
    owner->losses[owner->loss_count++] = *loss;
    return 0;
}

static int open_log(struct owner *owner)
{
    struct wal_options options = {
        .files = fake_files(owner->disk),
        .segment_size_bytes = SEGMENT_SIZE_BYTES,
        .spare_size_bytes_max = 4 * SEGMENT_SIZE_BYTES,
        .first_needed = first_needed,
        .accept_loss = accept_loss,
        .context = owner,
    };
    owner->loss_count = 0;
    owner->error = (struct error){0};
    return wal_open(&owner->wal, &options, &owner->error);
}

static void write_record(struct owner *owner, struct wal_record record)
{
    static const uint8_t payload[300] = "an entry";
    if (record.kind == WAL_RECORD_ENTRY) {
        record.payload = bytes_make(payload, sizeof payload);
    }
    wal_append(owner->wal, &record);
    assert_int_equal(wal_write(owner->wal, NULL), 0);
    assert_int_equal(wal_flush(owner->wal, NULL), 0);
}

static void write_entry(struct owner *owner, wal_shard shard, raft_index index)
{
    write_record(owner, (struct wal_record){
                            .kind = WAL_RECORD_ENTRY, .shard = shard, .index = index, .term = 3});
}

static raft_index last_index(const struct owner *owner, wal_shard shard)
{
    struct wal_shard_state state = {0};
    (void)wal_get_shard_state(owner->wal, shard, &state);
    return state.last_index;
}

/* Entries 1 to `last` of shards 7 and 8 in turn, each a write of one sector. */
static void fill(struct owner *owner, raft_index last)
{
    assert_int_equal(open_log(owner), 0);
    for (raft_index i = 1; i <= last; i++) {
        write_entry(owner, 7, i);
        write_entry(owner, 8, i);
    }
}

static void harm(struct owner *owner, const char *name, size_t offset)
{
    size_t size_bytes;
    uint8_t *bytes = fake_bytes(owner->disk, name, &size_bytes);
    assert_non_null(bytes);
    bytes[offset] ^= 1;
    fake_settle(owner->disk);
}

static const char first_name[] = "0000000000000001.wal";

static int set_up(void **state)
{
    static struct owner owner;
    owner = (struct owner){.disk = fake_create(1)};
    *state = &owner;
    return 0;
}

static int tear_down(void **state)
{
    struct owner *owner = *state;
    if (owner->wal != NULL) {
        wal_close(owner->wal);
    }
    fake_destroy(owner->disk);
    return 0;
}

/* A bad payload costs its shard what stands behind it, and no other shard anything; the next opening
 * finds nothing new, and the log goes on where it ended. */
static void test_bad_payload_costs_one_shard(void **state)
{
    struct owner *owner = *state;
    fill(owner, 10);
    wal_close(owner->wal);
    harm(owner, first_name, FIRST_WRITE + 8 * WRITE_SIZE_BYTES + 100); /* Entry 5 of shard 7. */
    assert_int_equal(open_log(owner), 0);
    assert_int_equal(owner->loss_count, 1);
    assert_int_equal(owner->losses[0].shard, 7);
    assert_int_equal(owner->losses[0].index, 5);
    assert_false(owner->losses[0].is_of_unnamed);
    assert_int_equal(last_index(owner, 7), 4);
    assert_int_equal(last_index(owner, 8), 10);
    write_entry(owner, 7, 5);
    wal_close(owner->wal);
    owner->does_refuse = true; /* Nobody is asked again. */
    assert_int_equal(open_log(owner), 0);
    assert_int_equal(last_index(owner, 7), 5);
    assert_int_equal(last_index(owner, 8), 10);
}

/* Behind a bad header that no table follows there may have been a vote of any shard: all are asked
 * about, also those that the log does not name. */
static void test_lost_end_costs_all(void **state)
{
    struct owner *owner = *state;
    fill(owner, 10);
    write_record(owner, (struct wal_record){.kind = WAL_RECORD_HARD_STATE,
                                            .shard = 8,
                                            .hard_state = {.term = 9, .vote = 2}});
    write_entry(owner, 7, 11);
    wal_close(owner->wal);
    harm(owner, first_name, FIRST_WRITE + 8 * WRITE_SIZE_BYTES + 20);
    assert_int_equal(open_log(owner), 0);
    assert_int_equal(owner->loss_count, 3);
    assert_int_equal(owner->losses[0].index, 5);
    assert_int_equal(owner->losses[1].index, 5);
    assert_true(owner->losses[2].is_of_unnamed);
    assert_int_equal(last_index(owner, 7), 4);
    assert_int_equal(last_index(owner, 8), 4);
    wal_close(owner->wal);
    owner->does_refuse = true;
    assert_int_equal(open_log(owner), 0);
    assert_int_equal(last_index(owner, 8), 4);
}

/* What its owner does not accept is told with the owner's reason, and nothing is changed. */
static void test_refusal_changes_nothing(void **state)
{
    struct owner *owner = *state;
    fill(owner, 10);
    wal_close(owner->wal);
    owner->wal = NULL;
    harm(owner, first_name, FIRST_WRITE + 8 * WRITE_SIZE_BYTES + 100);
    owner->does_refuse = true;
    uint32_t file_count = fake_file_count(owner->disk);
    assert_int_equal(open_log(owner), ERROR_CORRUPT);
    assert_non_null(strstr(owner->error.message, "entry 5 of shard 7"));
    assert_non_null(strstr(owner->error.message, "nobody else has it"));
    assert_int_equal(fake_file_count(owner->disk), file_count);
    owner->does_refuse = false;
    assert_int_equal(open_log(owner), 0);
    assert_int_equal(owner->losses[0].index, 5);
}

/* A shard whose last entry the next table names as it was known before the damage lost nothing. */
static void test_table_clears_a_shard(void **state)
{
    struct owner *owner = *state;
    assert_int_equal(open_log(owner), 0);
    write_entry(owner, 8, 1);
    for (raft_index i = 1; i <= 60; i++) {
        write_entry(owner, 7, i);
    }
    wal_close(owner->wal);
    harm(owner, first_name, FIRST_WRITE + 10 * WRITE_SIZE_BYTES + 20);
    assert_int_equal(open_log(owner), 0);
    assert_int_equal(owner->loss_count, 1);
    assert_int_equal(owner->losses[0].shard, 7);
    assert_int_equal(owner->losses[0].index, 10);
    assert_int_equal(last_index(owner, 8), 1);
}

/* The payload of the write before the last in the oldest segment. */
static void harm_end_of_oldest(struct owner *owner)
{
    char name[32];
    size_t size_bytes;
    uint8_t *bytes = NULL;
    for (uint64_t sequence = 1; bytes == NULL; sequence++) {
        (void)snprintf(name, sizeof name, "%016" PRIu64 ".wal", sequence);
        bytes = fake_bytes(owner->disk, name, &size_bytes);
    }
    while (bytes[size_bytes - 1] == 0) {
        size_bytes--;
    }
    harm(owner, name, (size_bytes / WRITE_SIZE_BYTES - 1) * WRITE_SIZE_BYTES + 70);
}

/* A damaged segment is kept aside when it is released, and so many at most. */
static void test_damaged_segments_are_kept(void **state)
{
    struct owner *owner = *state;
    raft_index next = 1;
    for (uint32_t round = 1; round <= WAL_DAMAGED_SEGMENT_COUNT_MAX + 2; round++) {
        assert_int_equal(open_log(owner), 0);
        struct wal_statistics statistics;
        raft_index first = next;
        do {
            write_entry(owner, 7, next++);
            wal_get_statistics(owner->wal, &statistics);
        } while (statistics.segment_count < 2);
        wal_close(owner->wal);
        harm_end_of_oldest(owner);
        assert_int_equal(open_log(owner), 0);
        assert_int_equal(owner->loss_count, 1);
        assert_true(owner->losses[0].index >= first);
        next = last_index(owner, 7) + 1;
        write_entry(owner, 7, next++);
        owner->stored_index = next - 1;
        assert_int_equal(wal_release(owner->wal, 7, owner->stored_index, NULL), 0);
        wal_get_statistics(owner->wal, &statistics);
        uint32_t kept =
            round < WAL_DAMAGED_SEGMENT_COUNT_MAX ? round : WAL_DAMAGED_SEGMENT_COUNT_MAX;
        assert_int_equal(statistics.damaged_segment_count, kept);
        wal_close(owner->wal);
        owner->wal = NULL;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bad_payload_costs_one_shard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_end_costs_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusal_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_table_clears_a_shard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_segments_are_kept, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("wal_loss", tests, NULL, NULL);
}
