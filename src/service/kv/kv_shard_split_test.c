/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: a wish for a split becomes one census and one SPLIT, without starving anything or anybody; what
 * would be prepared waits for it, but not for ever; what cannot be split is not; and both halves
 * remember what is theirs, in memory as after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/endian/endian.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_participant.h"
#include "service/kv/kv_world.h"

enum { CHILD = 7, KEY_COUNT = 300, HOLD_MS = 2000, REST_MS = 3000 };

/* Keys with these tags are on either side of it. */
enum { BORDER = 8000 };
static const char *const low = "{bar}";
static const char *const high = "{foo}";

/* ---- Driving --------------------------------------------------------------------------------- */

/* What background() asks for now, but for the forgetting of transactions, which is done; opcode 0:
 * nothing. */
static struct shard_command ask(struct kv__world *world, uint64_t *delay_ms)
{
    struct shard_machine machine = kv_machine(world->kv);
    struct shard_command command = {.opcode = KV_OPCODE_FORGET_OLD};
    while (command.opcode == KV_OPCODE_FORGET_OLD) {
        *delay_ms = 0;
        rows_set_tier(world->rows, ENV_TIER_MEMORY);
        if (!machine.background(machine.context, world->rows, world->time_ms, &command, delay_ms)) {
            command.opcode = 0;
        } else if (command.opcode == KV_OPCODE_FORGET_OLD) {
            kv__world_execute(world, &command);
        }
    }
    return command;
}

/* What it asks for when all is counted, or 0 when it waits for something. */
static struct shard_command work_until_counted(struct kv__world *world, uint32_t *step_count)
{
    uint64_t delay_ms;
    struct shard_command command;
    *step_count = 0;
    for (int idle_count = 0; idle_count < 10;) {
        command = ask(world, &delay_ms);
        if (command.opcode == KV_OPCODE_CENSUS) {
            ++*step_count;
            kv__world_execute(world, &command);
        } else if (command.opcode != 0) {
            return command;
        }
        assert_in_range(delay_ms, 0, 100);
        idle_count += command.opcode == 0 && kv__census_is_complete(world->kv, BORDER);
        world->time_ms += 1;
    }
    return command;
}

static void assert_is_split(const struct shard_command *command, uint32_t child, uint32_t first)
{
    assert_int_equal(command->opcode, SHARD_OPCODE_SPLIT);
    assert_int_equal(command->argument_count, 2);
    assert_int_equal(command->arguments[0].size_bytes, 4);
    assert_int_equal(command->arguments[1].size_bytes, 4);
    assert_int_equal(endian_get_u32_le(command->arguments[0].data), child);
    assert_int_equal(endian_get_u32_le(command->arguments[1].data), first);
}

static int split(struct kv__world *world, uint32_t first_slot, struct buffer *child)
{
    struct shard_machine machine = kv_machine(world->kv);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    int status = machine.split(machine.context, world->rows, first_slot, child);
    assert_true(status == 0 || child->size_bytes == 0);
    buffer_clear(&world->saved);
    machine.save(machine.context, &world->saved);
    return status;
}

/* A machine over the rows of `world`, as after a start. */
static struct kv *load(struct kv__world *world, uint32_t first_slot, uint32_t end_slot,
                       struct bytes saved)
{
    struct kv *kv = kv_create();
    struct shard_machine machine = kv_machine(kv);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    machine.set_range(machine.context, first_slot, end_slot);
    assert_int_equal(machine.load(machine.context, world->rows, saved, NULL), 0);
    return kv;
}

static void fill(struct kv__world *world)
{
    for (int i = 0; i < KEY_COUNT; i++) {
        (void)kv__world_say(world, "set key:%d v", i);
    }
    assert_in_range(kv_slot_of_key(bytes_of_text(low)), 1, BORDER - 1);
    assert_in_range(kv_slot_of_key(bytes_of_text(high)), BORDER, KV_SLOT_COUNT - 1);
}

static void setup(struct kv__world *world)
{
    kv__world_init(world, 1);
    fill(world);
}

/* ---- Transactions ---------------------------------------------------------------------------- */

struct request {
    struct kv_transaction *transaction;
    struct bytes arguments[16];
    uint8_t header[TXN_HEADER_SIZE_BYTES];
    uint8_t places[4];
    struct shard_command command;
};

/* Of transaction `number`, at the slot of the key. */
static const struct shard_command *make(struct request *request, struct kv__world *world,
                                        uint16_t opcode, uint64_t number, const char *key,
                                        enum txn_outcome outcome)
{
    uint32_t slot = kv_slot_of_key(bytes_of_text(key));
    const struct txn_header header = {.id = {9, number, world->time_ms / 100000 * 100000},
                                      .place = slot,
                                      .home = slot,
                                      .outcome = outcome};
    struct bytes name = bytes_of_text(key);
    uint32_t count = 1;
    bool does_grow;
    request->transaction = kv_transaction_create();
    txn_header_encode(&header, request->header);
    endian_put_u32_le(request->places, slot);
    request->arguments[0] = bytes_make(request->header, sizeof request->header);
    if (opcode == KV_OPCODE_PREPARE) {
        kv_transaction_add(request->transaction, kv_command_find(BYTES("del")), &name, 1);
        struct shard_command part = kv_transaction_command(request->transaction, &does_grow);
        memcpy(request->arguments + 1, part.arguments,
               part.argument_count * sizeof request->arguments[0]);
        count += part.argument_count;
    } else if (opcode == KV_OPCODE_DECIDE) {
        request->arguments[count++] = bytes_make(request->places, 4);
    }
    request->command = (struct shard_command){opcode, count, request->arguments};
    return &request->command;
}

static char step(struct kv__world *world, uint16_t opcode, uint64_t number, const char *key,
                 enum txn_outcome outcome)
{
    struct request request;
    kv__world_execute(world, make(&request, world, opcode, number, key, outcome));
    kv_transaction_destroy(request.transaction);
    return (char)('0' + world->answer.data[0]);
}

static bool prepare_must_wait(struct kv__world *world, uint64_t number, const char *key)
{
    struct request request;
    struct shard_machine machine = kv_machine(world->kv);
    bool must_wait = machine.must_wait(
        machine.context, make(&request, world, KV_OPCODE_PREPARE, number, key, TXN_NONE));
    kv_transaction_destroy(request.transaction);
    return must_wait;
}

static bool must_wait(struct kv__world *world, const char *name, const char *key)
{
    struct shard_machine machine = kv_machine(world->kv);
    const struct bytes argument = bytes_of_text(key);
    const struct shard_command command = {kv_command_find(bytes_of_text(name))->opcode, 1,
                                          &argument};
    return machine.must_wait(machine.context, &command);
}

/* ---- The tests ------------------------------------------------------------------------------- */

static void test_a_wish_becomes_a_split(void **state)
{
    (void)state;
    struct kv__world world;
    struct buffer child = {0};
    uint32_t step_count;
    uint64_t delay_ms;
    setup(&world);
    assert_int_equal(ask(&world, &delay_ms).opcode, 0);
    kv_want_split(world.kv, BORDER, CHILD);
    assert_true(kv_wants_split(world.kv));
    struct shard_command command = work_until_counted(&world, &step_count);
    assert_int_equal(step_count, 1);
    assert_is_split(&command, CHILD, BORDER);
    /* The shard did not take it: it is asked again, but not at once; told again changes nothing. */
    kv_want_split(world.kv, BORDER, CHILD);
    assert_int_equal(ask(&world, &delay_ms).opcode, 0);
    assert_in_range(delay_ms, 1, 5);
    world.time_ms += delay_ms;
    command = ask(&world, &delay_ms);
    assert_is_split(&command, CHILD, BORDER);
    assert_int_equal(split(&world, BORDER, &child), 0);
    /* Once is enough. */
    assert_false(kv_wants_split(world.kv));
    kv_want_split(world.kv, BORDER, CHILD);
    assert_false(kv_wants_split(world.kv));
    world.time_ms += 1000;
    assert_int_equal(ask(&world, &delay_ms).opcode, 0);
    struct kv *kv = load(&world, BORDER, KV_SLOT_COUNT, buffer_bytes(&child));
    assert_int_equal(kv->key_count + world.kv->key_count, KEY_COUNT);
    assert_in_range(kv->key_count, KEY_COUNT / 3, 2 * KEY_COUNT / 3);
    /* Walks end at the new end. */
    const char *cursor = strchr(kv__world_say(&world, "scan 0 count 1000"), '$');
    cursor = strchr(cursor, '\n') + 1;
    assert_int_equal(kv_scan_slot(bytes_make(cursor, strcspn(cursor, "\r"))), BORDER);
    kv_destroy(kv);
    buffer_deinit(&child);
    kv__world_deinit(&world);
}

static void test_wishes_that_cannot_be(void **state)
{
    (void)state;
    struct kv *kv = kv_create_range(100, 200);
    const uint32_t slots[] = {0, 1, 99, 100, 200, 201, KV_SLOT_COUNT, UINT32_MAX};
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        kv_want_split(kv, slots[i], CHILD);
        assert_false(kv_wants_split(kv));
    }
    kv_want_split(kv, 101, CHILD);
    kv_want_split(kv, 300, CHILD); /* And does not end the one that can. */
    assert_true(kv_wants_split(kv));
    struct shard_machine machine = kv_machine(kv);
    machine.set_range(machine.context, 100, 101); /* A snapshot of behind the split. */
    assert_false(kv_wants_split(kv));
    kv_destroy(kv);
}

/* Many rows: step by step, and the newest wish counts. */
static void test_the_newest_wish_counts(void **state)
{
    (void)state;
    struct kv__world world;
    uint32_t step_count;
    uint64_t delay_ms;
    setup(&world);
    for (int i = 0; i < 3000; i++) {
        (void)kv__world_say(&world, "set key+%d v", i);
    }
    kv_want_split(world.kv, BORDER - 1000, CHILD);
    struct shard_command command = ask(&world, &delay_ms);
    assert_int_equal(command.opcode, KV_OPCODE_CENSUS);
    assert_int_equal(endian_get_u64_le(command.arguments[1].data), 1000);
    kv__world_execute(&world, &command);
    assert_true(bytes_equal(buffer_bytes(&world.answer), BYTES(":1000\r\n")));
    assert_int_equal(world.kv->census.first_slot, BORDER - 1000);
    assert_int_equal(world.kv->census.counts.key_count, 1000);
    kv_want_split(world.kv, BORDER, CHILD + 1);
    command = work_until_counted(&world, &step_count);
    assert_int_equal(step_count, 2);
    assert_is_split(&command, CHILD + 1, BORDER);
    /* With the leadership it ends, and the next one is told. */
    struct shard_machine machine = kv_machine(world.kv);
    machine.gathered(machine.context, NULL);
    assert_false(kv_wants_split(world.kv));
    world.time_ms += 1000;
    assert_int_equal(ask(&world, &delay_ms).opcode, 0);
    kv_want_split(world.kv, BORDER, CHILD); /* What is counted is counted. */
    command = work_until_counted(&world, &step_count);
    assert_int_equal(step_count, 0);
    assert_is_split(&command, CHILD, BORDER);
    kv__world_deinit(&world);
}

static void test_prepares_wait_for_it(void **state)
{
    (void)state;
    struct kv__world world;
    struct request request;
    uint32_t step_count;
    uint64_t delay_ms;
    setup(&world);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, 1, high, TXN_NONE), '1');
    kv_want_split(world.kv, BORDER, CHILD);
    assert_false(prepare_must_wait(&world, 2, low)); /* Not while it is counted. */
    assert_int_equal(work_until_counted(&world, &step_count).opcode, 0);
    assert_true(prepare_must_wait(&world, 2, low) && prepare_must_wait(&world, 2, high));
    assert_false(prepare_must_wait(&world, 1, high)); /* The locks are its own. */
    assert_true(!must_wait(&world, "set", low) && must_wait(&world, "set", high));
    /* In the log, and not executed. */
    struct shard_machine machine = kv_machine(world.kv);
    machine.gathered(machine.context, make(&request, &world, KV_OPCODE_PREPARE, 3, low, TXN_NONE));
    assert_int_equal(step(&world, KV_OPCODE_FINISH, 1, high, TXN_COMMIT), '5');
    world.time_ms += 5;
    assert_int_equal(ask(&world, &delay_ms).opcode, 0);
    assert_in_range(delay_ms, 1, 5);
    kv__world_execute(&world, &request.command);
    world.time_ms += 5;
    assert_int_equal(ask(&world, &delay_ms).opcode, 0);
    assert_int_equal(step(&world, KV_OPCODE_FINISH, 3, low, TXN_ABORT), '6');
    world.time_ms += 5;
    struct shard_command command = ask(&world, &delay_ms);
    assert_is_split(&command, CHILD, BORDER);
    assert_true(prepare_must_wait(&world, 2, low)); /* Still: the shard may not have taken it. */
    kv_transaction_destroy(request.transaction);
    kv__world_deinit(&world);
}

#ifdef TUTTI_PLANTED_BUGS
static bool is_bug(void *context, const char *name)
{
    return strcmp(context, name) == 0;
}
#endif

/* What is prepared by then may have keys of both halves: the shard stops. */
static void test_a_split_that_passes_a_prepare_is_seen(void **state)
{
    (void)state;
#ifdef TUTTI_PLANTED_BUGS
    struct kv__world world;
    struct request request;
    struct buffer child = {0};
    uint32_t step_count;
    setup(&world);
    kv_want_split(world.kv, BORDER, CHILD);
    struct shard_machine machine = kv_machine(world.kv);
    machine.gathered(machine.context, make(&request, &world, KV_OPCODE_PREPARE, 3, low, TXN_NONE));
    const struct trace_hooks hooks = {.context = "kv.split_passes_prepare", .bug = is_bug};
    trace_set_hooks(&hooks);
    struct shard_command command = work_until_counted(&world, &step_count);
    trace_set_hooks(NULL);
    assert_is_split(&command, CHILD, BORDER);
    kv__world_execute(&world, &request.command);
    assert_int_equal(split(&world, BORDER, &child), ERROR_CORRUPT);
    kv_transaction_destroy(request.transaction);
    kv__world_deinit(&world);
#else
    skip();
#endif
}

static void test_nobody_waits_for_ever(void **state)
{
    (void)state;
    struct kv__world world;
    uint32_t step_count;
    uint64_t delay_ms;
    struct shard_command command;
    setup(&world);
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, 1, high, TXN_NONE), '1');
    kv_want_split(world.kv, BORDER, CHILD);
    assert_int_equal(work_until_counted(&world, &step_count).opcode, 0);
    for (int round = 0; round < 3; round++) {
        uint64_t began_ms = world.time_ms;
        while ((command = ask(&world, &delay_ms)).opcode != KV_OPCODE_CENSUS) {
            assert_true(prepare_must_wait(&world, 2, low));
            assert_in_range(delay_ms, 1, 5);
            world.time_ms += delay_ms;
            assert_int_equal(command.opcode, 0);
        }
        assert_in_range(world.time_ms - began_ms, HOLD_MS - 20, HOLD_MS + 10);
        assert_false(prepare_must_wait(&world, 2, low));
        /* A command, so that they are asked again; it changes nothing. */
        struct kv__census census = world.kv->census;
        kv__world_execute(&world, &command);
        assert_memory_equal(&census, &world.kv->census, sizeof census);
        uint64_t rest_ms = 0;
        for (; !prepare_must_wait(&world, 2, low); rest_ms++) {
            command = ask(&world, &delay_ms);
            assert_int_equal(command.opcode, 0);
            world.time_ms++;
        }
        assert_in_range(rest_ms, REST_MS - 10, REST_MS + 10);
    }
    /* The wall clock was set back, so the time of the log stands still: then looks are counted. */
    uint32_t look_count = 0;
    while ((command = ask(&world, &delay_ms)).opcode != KV_OPCODE_CENSUS && look_count <= HOLD_MS) {
        look_count++;
    }
    assert_in_range(look_count, HOLD_MS / 6 - 20, HOLD_MS / 5);
    kv__world_deinit(&world);
}

/* A sweep that always has something to do, and a census that always has: each gets its turns. */
static void test_they_take_turns(void **state)
{
    (void)state;
    struct kv__world world;
    uint64_t delay_ms;
    uint32_t counts[2] = {0};
    setup(&world);
    for (int i = 0; i < 8000; i++) {
        (void)kv__world_say(&world, "set key+%d v", i);
    }
    kv_want_split(world.kv, 1, CHILD);
    for (int i = 0; i < 10; i++) {
        kv__sweep_hint(world.kv, 77, 1);
        struct shard_command command = ask(&world, &delay_ms);
        assert_true(command.opcode == KV_OPCODE_CENSUS || command.opcode == KV_OPCODE_EXPIRE_SWEEP);
        counts[command.opcode == KV_OPCODE_CENSUS]++;
        kv__world_execute(&world, &command);
        world.time_ms += 20; /* Slow disks: both are due again. */
    }
    assert_int_equal(counts[0], 5);
    assert_int_equal(counts[1], 5);
    kv__world_deinit(&world);
}

static void test_cold_rows_are_counted_in_small_steps(void **state)
{
    (void)state;
    struct kv__world world;
    uint64_t delay_ms;
    setup(&world);
    kv__world_restart(&world);
    memstore_set_faults(world.store, (struct memstore_faults){.incomplete_percent = 100});
    kv_want_split(world.kv, BORDER, CHILD);
    struct shard_command command = ask(&world, &delay_ms);
    assert_int_equal(command.opcode, KV_OPCODE_CENSUS);
    assert_int_equal(endian_get_u64_le(command.arguments[1].data), 500);
    kv__world_deinit(&world);
}

static void test_what_cannot_be_split(void **state)
{
    (void)state;
    struct kv__world world;
    struct buffer child = {0};
    uint32_t step_count;
    setup(&world);
    assert_int_equal(split(&world, BORDER, &child), ERROR_CORRUPT); /* Not counted. */
    kv_want_split(world.kv, BORDER, CHILD);
    (void)work_until_counted(&world, &step_count);
    struct kv__saved before = kv__saved_of(world.kv);
    const uint32_t slots[] = {0, BORDER - 1, BORDER + 1, KV_SLOT_COUNT, UINT32_MAX};
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        assert_int_equal(split(&world, slots[i], &child), ERROR_CORRUPT);
    }
    assert_int_equal(step(&world, KV_OPCODE_PREPARE, 1, low, TXN_NONE), '1');
    assert_int_equal(split(&world, BORDER, &child), ERROR_CORRUPT);
    assert_int_equal(step(&world, KV_OPCODE_FINISH, 1, low, TXN_ABORT), '6');
    struct kv__saved after = kv__saved_of(world.kv);
    after.counts.record_count--;
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(world.kv->end_slot, KV_SLOT_COUNT);
    assert_int_equal(split(&world, BORDER, &child), 0);
    buffer_deinit(&child);
    kv__world_deinit(&world);
}

/* SPLIT may be in the log behind it already. */
static void test_flushall_leaves_a_census_whole(void **state)
{
    (void)state;
    struct kv__world world;
    struct buffer child = {0};
    uint32_t step_count;
    setup(&world);
    kv_want_split(world.kv, BORDER, CHILD);
    (void)work_until_counted(&world, &step_count);
    assert_int_equal(step(&world, KV_OPCODE_DECIDE, 1, high, TXN_ABORT), '6');
    assert_int_equal(step(&world, KV_OPCODE_DECIDE, 2, low, TXN_ABORT), '6');
    assert_string_equal(kv__world_say(&world, "flushall"), "+OK\r\n");
    assert_int_equal(split(&world, BORDER, &child), 0);
    struct kv *kv = load(&world, BORDER, KV_SLOT_COUNT, buffer_bytes(&child));
    assert_int_equal(kv->key_count, 0);
    assert_int_equal(kv->record_count, 1);
    assert_int_equal(world.kv->key_count, 0);
    assert_int_equal(world.kv->record_count, 1);
    kv_destroy(kv);
    buffer_deinit(&child);
    kv__world_deinit(&world);
}

static void assert_nothing_outside(const struct kv *kv)
{
    for (uint32_t slot = 0; slot < KV_SLOT_COUNT; slot++) {
        if (slot >= kv->first_slot && slot < kv->end_slot) {
            continue;
        }
        assert_true(kv__sweep_hint_of(kv, slot) == UINT64_MAX);
        assert_false(kv__slot_set_has(&kv->garbage_hints, slot));
        assert_false(kv__slot_set_has(&kv->record_hints, slot));
    }
    assert_in_range(kv->garbage_next_slot, kv->first_slot, kv->end_slot - 1);
    assert_in_range(kv->forgetting.next_list, 0, 2 * (kv->end_slot - kv->first_slot) - 1);
    for (uint32_t i = 0; i < kv->unfinished_count; i++) {
        assert_in_range(kv->unfinished[i].place, kv->first_slot, kv->end_slot - 1);
    }
}

/* A commit that is not finished everywhere goes with its home, and so does what is to be done. */
static void test_each_half_remembers_its_own(void **state)
{
    (void)state;
    struct kv__world world;
    struct buffer child = {0};
    setup(&world);
    for (int i = 0; i < 2; i++) {
        const char *key = i == 0 ? low : high;
        assert_int_equal(step(&world, KV_OPCODE_DECIDE, 1, key, TXN_COMMIT), '5');
        assert_int_equal(step(&world, KV_OPCODE_FINISH, 2, key, TXN_ABORT), '6');
        (void)kv__world_say(&world, "set %sx v px 5000", key);
        for (int field = 0; field < 100; field++) {
            (void)kv__world_say(&world, "hset %sh f%d v", key, field);
        }
        (void)kv__world_say(&world, "del %sh", key);
    }
    world.kv->garbage_next_slot = BORDER + 5;
    world.kv->forgetting.next_list = 2 * (BORDER + 6);
    world.kv->garbage_not_before_ms = world.time_ms + 10; /* Later. */
    kv_want_split(world.kv, BORDER, CHILD);
    struct shard_command command;
    uint64_t delay_ms;
    while (!kv__census_is_complete(world.kv, BORDER)) {
        command = ask(&world, &delay_ms);
        if (command.opcode == KV_OPCODE_CENSUS) {
            kv__world_execute(&world, &command);
        }
        world.kv->garbage_not_before_ms = world.time_ms + 10;
    }
    assert_int_equal(world.kv->garbage_count, 2);
    assert_int_equal(split(&world, BORDER, &child), 0);
    assert_nothing_outside(world.kv);
    struct kv *kvs[] = {world.kv, load(&world, BORDER, KV_SLOT_COUNT, buffer_bytes(&child)),
                        load(&world, 0, BORDER, buffer_bytes(&world.saved))};
    for (int i = 0; i < 3; i++) {
        const char *key = i == 1 ? high : low;
        uint32_t slot = kv_slot_of_key(bytes_of_text(key));
        assert_nothing_outside(kvs[i]);
        assert_int_equal(kvs[i]->expiring_key_count, 1);
        assert_int_equal(kvs[i]->garbage_count, 1);
        assert_int_equal(kvs[i]->record_count, 2);
        assert_int_equal(kvs[i]->unfinished_count, 1);
        assert_int_equal(kvs[i]->unfinished[0].place, slot);
        assert_true(kvs[i]->unfinished[0].is_decision);
        assert_int_equal(kv__sweep_hint_of(kvs[i], slot), world.time_ms + 5000);
        assert_true(kv__slot_set_has(&kvs[i]->garbage_hints, slot));
        assert_true(kv__slot_set_has(&kvs[i]->record_hints, slot));
    }
    kv_destroy(kvs[2]);
    kv_destroy(kvs[1]);
    buffer_deinit(&child);
    kv__world_deinit(&world);
}

/* ---- The saved state ------------------------------------------------------------------------- */

static int load_status(const uint8_t *saved, size_t size_bytes)
{
    struct kv__world world;
    kv__world_init(&world, 1);
    struct shard_machine machine = kv_machine(world.kv);
    rows_set_tier(world.rows, ENV_TIER_DISK);
    machine.set_range(machine.context, 100, 200);
    int status = machine.load(machine.context, world.rows, bytes_make(saved, size_bytes), NULL);
    struct buffer again = {0};
    machine.save(machine.context, &again);
    assert_true(status != 0 || bytes_equal(buffer_bytes(&again), bytes_make(saved, size_bytes)));
    buffer_deinit(&again);
    kv__world_deinit(&world);
    return status;
}

static void test_saved_states(void **state)
{
    (void)state;
    uint8_t saved[96] = {1, [8] = 5, [16] = 4, [24] = 9, [32] = 3};
    assert_int_equal(load_status(saved, 40), 0);
    assert_int_equal(load_status(saved, 48), ERROR_CORRUPT);
    saved[0] = 2; /* Of no release. */
    assert_int_equal(load_status(saved, 48), ERROR_NEWER_FORMAT);
    saved[0] = 3;
    saved[40] = 2;
    assert_int_equal(load_status(saved, 48), 0);
    assert_int_equal(load_status(saved, 40), ERROR_CORRUPT);
    saved[0] = 5;
    assert_int_equal(load_status(saved, 88), ERROR_NEWER_FORMAT);
    saved[0] = 4;
    saved[48] = 150;
    saved[52] = 160;
    saved[56] = 5;
    saved[64] = 4;
    saved[72] = 3;
    saved[80] = 2;
    assert_int_equal(load_status(saved, 88), 0);
    assert_int_equal(load_status(saved, 87), ERROR_CORRUPT);
    assert_int_equal(load_status(saved, 96), ERROR_CORRUPT);
    const struct {
        uint8_t offset;
        uint8_t value;
    } wrong[] = {{48, 0}, {48, 100}, {48, 161}, {48, 200}, {52, 149}, {52, 201},
                 {56, 6}, {64, 5},   {72, 4},   {80, 3},   {49, 1},   {53, 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint8_t before = saved[wrong[i].offset];
        saved[wrong[i].offset] = wrong[i].value;
        assert_int_equal(load_status(saved, 88), ERROR_CORRUPT);
        saved[wrong[i].offset] = before;
    }
    saved[52] = 200; /* All is counted. */
    saved[40] = saved[80] = 0;
    assert_int_equal(load_status(saved, 88), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wish_becomes_a_split),
        cmocka_unit_test(test_wishes_that_cannot_be),
        cmocka_unit_test(test_the_newest_wish_counts),
        cmocka_unit_test(test_prepares_wait_for_it),
        cmocka_unit_test(test_a_split_that_passes_a_prepare_is_seen),
        cmocka_unit_test(test_nobody_waits_for_ever),
        cmocka_unit_test(test_they_take_turns),
        cmocka_unit_test(test_cold_rows_are_counted_in_small_steps),
        cmocka_unit_test(test_what_cannot_be_split),
        cmocka_unit_test(test_flushall_leaves_a_census_whole),
        cmocka_unit_test(test_each_half_remembers_its_own),
        cmocka_unit_test(test_saved_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
