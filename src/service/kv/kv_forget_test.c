/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: what nobody has to remember goes, all of it and in time; a step looks at a bounded number of
 * rows, nothing is asked for while nothing is due, and what a replica has noted for itself changes
 * nothing of what a step does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian/endian.h"
#include "service/kv/kv_participant.h"
#include "service/kv/kv_world.h"

enum { BEGUN_MS = 1000000, KEY_PLACE = 100 };

static struct txn_id id_of(uint64_t number, uint64_t begun_ms)
{
    return (struct txn_id){.origin = 5, .number = number, .begun_ms = begun_ms};
}

/* One step of a transaction, with this argument behind the header if it has one. */
static void step(struct kv__world *world, uint16_t opcode, const struct txn_header *header,
                 struct bytes argument)
{
    uint8_t bytes[TXN_HEADER_SIZE_BYTES];
    txn_header_encode(header, bytes);
    const struct bytes arguments[] = {bytes_make(bytes, sizeof bytes), argument};
    const struct shard_command command = {opcode, argument.size_bytes > 0 ? 2 : 1, arguments};
    kv__world_execute(world, &command);
}

/* Leave a record (an abort that overtakes its PREPARE) or a decision. */
static void leave(struct kv__world *world, enum kv_row_kind kind, uint32_t place, struct txn_id id)
{
    const struct txn_header header = {
        .id = id, .place = place, .home = place, .outcome = TXN_ABORT};
    step(world, kind == KV_ROW_RECORD ? KV_OPCODE_FINISH : KV_OPCODE_DECIDE, &header, BYTES(""));
}

/* Leave a commit that not all have finished, then say that they have. */
static void leave_open(struct kv__world *world, uint32_t place, struct txn_id id)
{
    const uint8_t places[] = {1, 0, 0, 0};
    const struct txn_header header = {
        .id = id, .place = place, .home = place, .outcome = TXN_COMMIT};
    step(world, KV_OPCODE_DECIDE, &header, bytes_make(places, sizeof places));
}

static void close_open(struct kv__world *world, uint32_t place, struct txn_id id)
{
    const struct txn_header header = {.id = id, .place = place, .home = place};
    step(world, KV_OPCODE_FORGET, &header, BYTES(""));
}

static int64_t removed_count(const struct kv__world *world)
{
    struct bytes rest = buffer_bytes(&world->answer);
    int64_t count = -1;
    assert_true(kv_reply_take_number(&rest, ':', &count));
    return count;
}

static bool ask(struct kv__world *world, struct shard_command *command)
{
    struct shard_machine machine = kv_machine(world->kv);
    uint64_t next_ms = world->time_ms;
    rows_set_tier(world->rows, ENV_TIER_MEMORY);
    return machine.background(machine.context, world->rows, world->time_ms, command, &next_ms);
}

/* Do all that is asked for at this time. Returns how many steps that took. */
static uint32_t forget(struct kv__world *world, struct kv__world *other)
{
    struct shard_command command;
    uint32_t count = 0;
    while (ask(world, &command)) {
        assert_int_equal(command.opcode, KV_OPCODE_FORGET_OLD);
        assert_in_range(command.argument_count, 2, 1 + KV_FORGET_LIST_COUNT);
        assert_int_equal(endian_get_u64_le(command.arguments[0].data), KV_FORGET_ROW_COUNT);
        kv__world_execute(world, &command);
        assert_in_range(removed_count(world), 0, KV_FORGET_ROW_COUNT);
        if (other != NULL) {
            other->time_ms = world->time_ms;
            kv__world_execute(other, &command);
            assert_int_equal(removed_count(other), removed_count(world));
            assert_int_equal(memstore_row_count(other->store), memstore_row_count(world->store));
            assert_true(bytes_equal(buffer_bytes(&other->saved), buffer_bytes(&world->saved)));
        }
        count++;
        assert_in_range(count, 1, 10000);
    }
    return count;
}

/* Execute a step of one's own making. */
static int64_t forget_from(struct kv__world *world, uint64_t row_count, enum kv_row_kind kind,
                           struct txn_id id)
{
    uint8_t limit[8];
    uint8_t row[KV_RECORD_ROW_SIZE_BYTES];
    endian_put_u64_le(limit, row_count);
    const struct bytes arguments[] = {bytes_make(limit, sizeof limit),
                                      kv__record_row(row, KEY_PLACE, kind, id)};
    const struct shard_command command = {KV_OPCODE_FORGET_OLD, 2, arguments};
    kv__world_execute(world, &command);
    return removed_count(world);
}

static void open_world(struct kv__world *world)
{
    kv__world_init(world, 1);
    world->time_ms = BEGUN_MS;
}

/* Many of one slot, of many slots, and of both kinds. */
static void test_all_goes_however_much_it_is(void **state)
{
    (void)state;
    enum { OF_ONE_SLOT = 2 * KV_FORGET_ROW_COUNT + 5, OF_MANY = 3 * KV_FORGET_LIST_COUNT };
    struct kv__world world;
    open_world(&world);
    for (uint32_t i = 0; i < OF_ONE_SLOT; i++) {
        leave(&world, KV_ROW_RECORD, KEY_PLACE, id_of(i, BEGUN_MS + i % 7));
        leave(&world, KV_ROW_DECISION, KV_SLOT_COUNT - 1, id_of(i, BEGUN_MS + i % 7));
    }
    for (uint32_t i = 0; i < OF_MANY; i++) {
        leave(&world, KV_ROW_RECORD, i * 5, id_of(OF_ONE_SLOT + i, BEGUN_MS + i % 7));
        leave(&world, KV_ROW_DECISION, i * 5, id_of(OF_ONE_SLOT + i, BEGUN_MS + i % 7));
    }
    const uint64_t total = 2 * (OF_ONE_SLOT + OF_MANY);
    assert_int_equal(world.kv->record_count, total);
    kv__world_restart(&world);
    /* Nothing is due, so nothing is asked for. */
    for (; world.time_ms <= BEGUN_MS + TXN_HORIZON_MS; world.time_ms += KV_FORGET_DELAY_MS) {
        assert_int_equal(forget(&world, NULL), 0);
    }
    assert_int_equal(world.kv->record_count, total);
    /* All is due, and goes without a wait. */
    world.time_ms = BEGUN_MS + TXN_HORIZON_MS + KV_FORGET_DELAY_MS;
    assert_in_range(forget(&world, NULL), total / KV_FORGET_ROW_COUNT, 20);
    assert_int_equal(world.kv->record_count, 0);
    assert_int_equal(memstore_row_count(world.store), 0);
    kv__world_deinit(&world);
}

static void test_what_is_too_young_stays(void **state)
{
    (void)state;
    struct kv__world world;
    open_world(&world);
    for (uint32_t i = 0; i < 10; i++) {
        leave(&world, KV_ROW_RECORD, KEY_PLACE, id_of(9 - i, BEGUN_MS + i));
        leave(&world, KV_ROW_DECISION, KEY_PLACE, id_of(9 - i, BEGUN_MS + i));
    }
    for (uint32_t i = 0; i < 10; i++) {
        world.time_ms = BEGUN_MS + i + TXN_HORIZON_MS; /* Of those that began before it. */
        assert_int_equal(forget_from(&world, 100, KV_ROW_RECORD, id_of(0, 0)), i > 0);
        assert_int_equal(forget_from(&world, 100, KV_ROW_DECISION, id_of(0, 0)), i > 0);
    }
    assert_int_equal(world.kv->record_count, 2);
    kv__world_deinit(&world);
}

/* Rows that are old and not finished cost looks too; they cannot hold up those behind them. */
static void test_looks_are_bounded(void **state)
{
    (void)state;
    enum { OPEN = 5, DONE = 4 };
    struct kv__world world;
    open_world(&world);
    for (uint32_t i = 0; i < OPEN; i++) {
        leave_open(&world, KEY_PLACE, id_of(i, BEGUN_MS));
    }
    for (uint32_t i = 0; i < DONE; i++) {
        leave(&world, KV_ROW_DECISION, KEY_PLACE, id_of(OPEN + i, BEGUN_MS));
    }
    world.time_ms = BEGUN_MS + TXN_HORIZON_MS + 1;
    assert_int_equal(forget_from(&world, 5, KV_ROW_DECISION, id_of(0, BEGUN_MS)), 0);
    assert_int_equal(forget_from(&world, 6, KV_ROW_DECISION, id_of(0, BEGUN_MS)), 1);
    /* It has noted where to go on. */
    struct shard_command command;
    assert_true(ask(&world, &command));
    assert_int_equal(command.argument_count, 2);
    struct txn_id next = kv__record_id(command.arguments[1]);
    assert_true(txn_id_equal(next, id_of(OPEN + 1, BEGUN_MS)));
    assert_int_equal(forget_from(&world, 2, KV_ROW_DECISION, next), 2);
    assert_int_equal(forget(&world, NULL), 1);
    assert_int_equal(world.kv->record_count, OPEN);
    kv__world_deinit(&world);
}

/* More open ones of one moment than a step looks at: those behind them go all the same. Then nothing
 * is asked for, until the open ones are finished. */
static void test_what_is_not_finished_is_passed_by(void **state)
{
    (void)state;
    enum { OPEN = KV_FORGET_ROW_COUNT + 10, DONE = 20 };
    struct kv__world world;
    open_world(&world);
    for (uint32_t i = 0; i < OPEN; i++) {
        leave_open(&world, KEY_PLACE, id_of(i, BEGUN_MS));
    }
    for (uint32_t i = 0; i < DONE; i++) {
        leave(&world, KV_ROW_DECISION, KEY_PLACE, id_of(OPEN + i, BEGUN_MS + i % 2));
    }
    world.time_ms = BEGUN_MS + TXN_HORIZON_MS + 10;
    assert_int_equal(forget(&world, NULL), 2);
    assert_int_equal(world.kv->record_count, OPEN);
    for (uint32_t i = 0; i < OPEN; i++) {
        close_open(&world, KEY_PLACE, id_of(i, BEGUN_MS));
    }
    world.time_ms += KV_FORGET_DELAY_MS;
    (void)forget(&world, NULL);
    assert_int_equal(world.kv->record_count, 0);
    for (int i = 0; i < 3; i++) {
        world.time_ms += KV_FORGET_DELAY_MS;
        assert_int_equal(forget(&world, NULL), 0);
    }
    kv__world_deinit(&world);
}

static void fill(struct kv__world *world, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++) {
        leave(world, KV_ROW_RECORD, i % 3 * 1000, id_of(i, BEGUN_MS + i % 50));
        leave(world, KV_ROW_DECISION, i % 700, id_of(i, BEGUN_MS + i % 50));
        leave_open(world, i % 5, id_of(end + i, BEGUN_MS + i % 50));
    }
}

/* Claim: each step begins where the one before ended. What was deleted may cost a look in the store for
 * long, so nothing begins before it again. */
static void test_nothing_is_looked_for_twice(void **state)
{
    (void)state;
    enum { COUNT = 5 * KV_FORGET_ROW_COUNT };
    struct kv__world world;
    struct shard_command command;
    open_world(&world);
    for (uint32_t i = 0; i < COUNT; i++) {
        leave(&world, KV_ROW_RECORD, KEY_PLACE, id_of(i, BEGUN_MS + i / (COUNT / 2)));
    }
    leave(&world, KV_ROW_RECORD, KEY_PLACE, id_of(COUNT, BEGUN_MS + 100000));
    world.time_ms = BEGUN_MS + TXN_HORIZON_MS + 10;
    for (uint32_t i = 0; i < COUNT; i += KV_FORGET_ROW_COUNT) {
        assert_true(ask(&world, &command));
        assert_int_equal(command.argument_count, 2);
        assert_int_equal(kv__record_id(command.arguments[1]).number, i);
        kv__world_execute(&world, &command);
        assert_int_equal(removed_count(&world), KV_FORGET_ROW_COUNT);
    }
    world.time_ms += KV_FORGET_DELAY_MS;
    assert_false(ask(&world, &command));
    world.time_ms = BEGUN_MS + 100000 + TXN_HORIZON_MS + 1;
    assert_true(ask(&world, &command));
    assert_int_equal(kv__record_id(command.arguments[1]).number, COUNT);
    kv__world_deinit(&world);
}

/* Claim: what is finished late, between two steps of its list and before where they are, goes too. */
static void test_what_is_finished_late_goes(void **state)
{
    (void)state;
    struct kv__world world;
    struct shard_command command;
    open_world(&world);
    leave_open(&world, KEY_PLACE, id_of(0, BEGUN_MS));
    for (uint32_t i = 1; i <= 2 * KV_FORGET_ROW_COUNT; i++) {
        leave(&world, KV_ROW_DECISION, KEY_PLACE, id_of(i, BEGUN_MS));
    }
    world.time_ms = BEGUN_MS + TXN_HORIZON_MS + 10;
    assert_true(ask(&world, &command));
    kv__world_execute(&world, &command);
    assert_true(ask(&world, &command));
    close_open(&world, KEY_PLACE, id_of(0, BEGUN_MS));
    kv__world_execute(&world, &command);
    world.time_ms += KV_FORGET_DELAY_MS;
    (void)forget(&world, NULL);
    assert_int_equal(world.kv->record_count, 0);
    kv__world_deinit(&world);
}

/* Claim: the wall clock may be set back; then what is due goes as soon as it is due by that clock. */
static void test_a_clock_that_jumps_back_stops_nothing(void **state)
{
    (void)state;
    struct kv__world world;
    struct shard_command command;
    open_world(&world);
    leave(&world, KV_ROW_RECORD, KEY_PLACE, id_of(0, BEGUN_MS));
    world.time_ms = BEGUN_MS + TXN_HORIZON_MS + 3600000;
    assert_true(ask(&world, &command)); /* And it is lost. */
    world.time_ms = BEGUN_MS + TXN_HORIZON_MS;
    assert_false(ask(&world, &command));
    world.time_ms += KV_FORGET_DELAY_MS;
    assert_int_equal(forget(&world, NULL), 1);
    assert_int_equal(world.kv->record_count, 0);
    kv__world_deinit(&world);
}

/* Claim: FLUSHALL leaves records and decisions where they are, those of a replica that has started
 * again as well, and they go in their time. */
static void test_flushall_changes_nothing(void **state)
{
    (void)state;
    for (int does_restart = 0; does_restart < 2; does_restart++) {
        struct kv__world world;
        open_world(&world);
        fill(&world, 0, 200);
        if (does_restart != 0) {
            kv__world_restart(&world);
        }
        assert_string_equal(kv__world_say(&world, "flushall"), "+OK\r\n");
        assert_int_equal(world.kv->record_count, 600);
        assert_int_equal(memstore_row_count(world.store), 600);
        world.time_ms = BEGUN_MS + TXN_HORIZON_MS + 100;
        (void)forget(&world, NULL);
        assert_int_equal(world.kv->record_count, 200); /* The open ones. */
        assert_int_equal(memstore_row_count(world.store), 200);
        kv__world_deinit(&world);
    }
}

/* The other has started again, or believes that all is due, or that nothing is. */
static void test_hints_change_nothing(void **state)
{
    (void)state;
    enum { COUNT = 2000, LISTS = 2 * KV_SLOT_COUNT };
    for (int nature = 0; nature < 3; nature++) {
        struct kv__world worlds[2];
        for (int i = 0; i < 2; i++) {
            open_world(&worlds[i]);
            fill(&worlds[i], 0, COUNT);
            worlds[i].time_ms = BEGUN_MS + TXN_HORIZON_MS + 20; /* Some are too young. */
        }
        if (nature == 0) {
            kv__world_restart(&worlds[1]);
        } else {
            memset(worlds[1].kv->forgetting.firsts, nature == 1 ? 0 : 0xff,
                   LISTS * sizeof(struct txn_id));
        }
        assert_in_range(forget(&worlds[0], &worlds[1]), 2, 100);
        worlds[0].time_ms += KV_FORGET_DELAY_MS;
        assert_in_range(forget(&worlds[0], &worlds[1]), 2, 100);
        assert_int_equal(worlds[1].kv->record_count, COUNT); /* The open ones. */
        if (nature < 2) {
            /* It leads now, and goes on in the middle of a pass: soon there is nothing to look at. */
            for (int pass = 0; pass < 3; pass++) {
                worlds[1].time_ms += KV_FORGET_DELAY_MS;
                uint32_t step_count = forget(&worlds[1], &worlds[0]);
                assert_in_range(step_count, 0, pass < 2 ? LISTS / KV_FORGET_LIST_COUNT + 10 : 0);
            }
        }
        kv__world_deinit(&worlds[0]);
        kv__world_deinit(&worlds[1]);
    }
}

/* Claim: keys that expire do not wait until all is forgotten. */
static void test_the_sweep_gets_its_turn(void **state)
{
    (void)state;
    struct kv__world world;
    struct shard_command command;
    open_world(&world);
    assert_string_equal(kv__world_say(&world, "set a 1 px 10"), "+OK\r\n");
    for (uint32_t i = 0; i < 5 * KV_FORGET_ROW_COUNT; i++) {
        leave(&world, KV_ROW_RECORD, KEY_PLACE, id_of(i, BEGUN_MS));
    }
    world.time_ms = BEGUN_MS + TXN_HORIZON_MS + 1;
    assert_true(ask(&world, &command));
    assert_int_equal(command.opcode, KV_OPCODE_FORGET_OLD);
    kv__world_execute(&world, &command);
    assert_true(ask(&world, &command));
    assert_int_equal(command.opcode, KV_OPCODE_EXPIRE_SWEEP);
    kv__world_execute(&world, &command);
    assert_int_equal(forget(&world, NULL), 4);
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_goes_however_much_it_is),
        cmocka_unit_test(test_what_is_too_young_stays),
        cmocka_unit_test(test_looks_are_bounded),
        cmocka_unit_test(test_what_is_not_finished_is_passed_by),
        cmocka_unit_test(test_nothing_is_looked_for_twice),
        cmocka_unit_test(test_what_is_finished_late_goes),
        cmocka_unit_test(test_a_clock_that_jumps_back_stops_nothing),
        cmocka_unit_test(test_flushall_changes_nothing),
        cmocka_unit_test(test_hints_change_nothing),
        cmocka_unit_test(test_the_sweep_gets_its_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
