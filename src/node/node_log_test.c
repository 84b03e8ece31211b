/* SPDX-License-Identifier: Apache-2.0 */
/* The log writer while the disk is full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/wal/wal_fake.h"
#include "node/node_internal.h"

enum {
    SHARD = 1,
    SEGMENT_SIZE_BYTES = 64 << 10,
    ENTRY_SIZE_BYTES = 20000,
    ENTRY_COUNT = 8,
    WAIT_MS = 20000,
};

/* A job that says when it is run, and may be held up. */
struct job {
    struct node_log_job log_job;
    struct fake_disk *disk; /* Full no more when it is run; or NULL. */
    atomic_bool is_running;
    atomic_bool may_end;
};

static void run(struct node_log_job *log_job, struct wal *wal)
{
    (void)wal;
    struct job *job = LIST_ITEM(log_job, struct job, log_job);
    if (job->disk != NULL) {
        fake_set_capacity(job->disk, 64ull * SEGMENT_SIZE_BYTES);
    }
    atomic_store(&job->is_running, true);
    while (!atomic_load(&job->may_end)) {
        os_sleep_ms(1);
    }
}

static void expect_run(struct job *job)
{
    for (uint32_t ms = 0; ms < WAIT_MS && !atomic_load(&job->is_running); ms++) {
        os_sleep_ms(1);
    }
    assert_true(atomic_load(&job->is_running));
}

static void heard(void *context)
{
    (void)context;
}

/* Claim: what may overtake is run while records wait for space, be it that the writer took it together with them:
 * there may be no space before that was done. */
static void test_what_may_overtake_came_with_the_records(void **state)
{
    (void)state;
    struct fake_disk *disk = fake_create(1);
    struct os_loop *loop = NULL;
    assert_int_equal(os_loop_create(&loop, NULL), 0);
    struct node_log_done done = {.wake = os_wake_create(loop, heard, NULL)};
    struct node_log_client client = {.done = &done};
    struct wal_options wal_options = {.files = fake_files(disk),
                                      .segment_size_bytes = SEGMENT_SIZE_BYTES};
    struct node_log_options options = {.is_flush_always = true};
    assert_int_equal(wal_open(&options.wal, &wal_options, NULL), 0);
    fake_set_capacity(disk, 2ull * SEGMENT_SIZE_BYTES);
    struct node_log *log = NULL;
    assert_int_equal(node_log_start(&log, &options, NULL), 0);

    struct job first = {.log_job.run = run};
    struct job second = {
        .log_job = {.run = run, .may_overtake = true}, .disk = disk, .may_end = true};
    node_log_submit_job(log, &first.log_job);
    expect_run(&first);
    static uint8_t payload[ENTRY_SIZE_BYTES];
    for (raft_index index = 1; index <= ENTRY_COUNT; index++) {
        struct wal_record record = {.kind = WAL_RECORD_ENTRY,
                                    .shard = SHARD,
                                    .index = index,
                                    .term = 1,
                                    .payload = bytes_make(payload, sizeof payload)};
        node_log_append(log, &record, index, &client);
    }
    node_log_submit(log);
    node_log_submit_job(log, &second.log_job);
    atomic_store(&first.may_end, true);
    expect_run(&second);
    node_log_destroy(log); /* Now there is room. */
    assert_int_equal(atomic_load(&client.durable_sequence), ENTRY_COUNT);

    os_wake_destroy(done.wake);
    os_loop_destroy(loop);
    fake_destroy(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_may_overtake_came_with_the_records),
    };
    return cmocka_run_group_tests_name("node_log", tests, NULL, NULL);
}
