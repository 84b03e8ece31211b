/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: whatever is executed between the steps of a census, it has what the rows of its slots have, at
 * each index, after a restart, and on every replica; and when the shard is split, both halves have
 * the counts of their rows, and go on from there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian/endian.h"
#include "base/random/random.h"
#include "service/kv/kv_census.h"
#include "service/kv/kv_participant.h"
#include "service/kv/kv_world.h"

enum { SEED_COUNT = 25, STEP_COUNT = 400, KEY_COUNT = 40, TAG_COUNT = 8, PART_COUNT_MAX = 8 };

/* A part that is prepared, or its home has decided. */
struct part {
    struct txn_id id;
    uint32_t place;
    bool is_decided;
};

/* Two replicas: what the one executes, the other executes; it is restarted now and then. */
struct test {
    struct kv__world worlds[2];
    uint32_t first_slot; /* Of both. */
    uint32_t end_slot;
    struct random random;
    struct part parts[PART_COUNT_MAX];
    uint32_t part_count;
    uint64_t id_last;
    uint64_t seed;
};

/* ---- What the rows have ---------------------------------------------------------------------- */

static struct kv__counts count_rows(struct kv__world *world, uint32_t first_slot, uint32_t end_slot)
{
    struct kv__counts counts = {0};
    uint8_t lower[KV_SLOT_ROW_SIZE_BYTES];
    uint8_t upper[KV_SLOT_ROW_SIZE_BYTES];
    struct bytes from = kv_slot_row(first_slot, lower);
    struct rows_iterator *iterator;
    rows_set_tier(world->rows, ENV_TIER_DISK);
    assert_int_equal(rows_iterator_open(world->rows, from, kv_slot_row(end_slot, upper), &iterator),
                     0);
    int status = rows_iterator_seek(iterator, from);
    while (status == 0) {
        uint8_t kind = rows_iterator_key(iterator).data[3];
        counts.key_count += kind == 0;
        counts.expiring_key_count += kind == 2;
        counts.garbage_count += kind == 3;
        counts.record_count += kind == 5 || kind == 6;
        status = rows_iterator_next(iterator);
    }
    assert_int_equal(status, -ENOENT);
    rows_iterator_close(iterator);
    return counts;
}

static void check_counts(const struct test *test, const struct kv__counts *counts,
                         const struct kv__counts *expected, const char *what)
{
    if (memcmp(counts, expected, sizeof *counts) != 0) {
        fail_msg("seed %d: %s: %d keys %d expiring %d garbage %d records, not %d %d %d %d",
                 (int)test->seed, what, (int)counts->key_count, (int)counts->expiring_key_count,
                 (int)counts->garbage_count, (int)counts->record_count, (int)expected->key_count,
                 (int)expected->expiring_key_count, (int)expected->garbage_count,
                 (int)expected->record_count);
    }
}

static void check(struct test *test)
{
    struct kv__world *world = &test->worlds[0];
    const struct kv__census *census = &world->kv->census;
    struct kv__saved state = kv__saved_of(world->kv);
    struct kv__counts all = count_rows(world, test->first_slot, test->end_slot);
    check_counts(test, &state.counts, &all, "all");
    if (census->first_slot != 0) {
        struct kv__counts upper = count_rows(world, census->first_slot, census->next_slot);
        check_counts(test, &census->counts, &upper, "census");
    }
    assert_true(bytes_equal(buffer_bytes(&world->saved), buffer_bytes(&test->worlds[1].saved)));
    struct error error = {0};
    if (world->index % 8 == 0 &&
        kv_verify_counts(world->kv, memstore_interface(world->store), NULL, &error) != 0) {
        fail_msg("seed %d: %s", (int)test->seed, error.message);
    }
}

/* ---- Executing ------------------------------------------------------------------------------- */

static void execute_one(struct test *test, int place, const struct shard_command *command)
{
    struct kv__world *world = &test->worlds[place];
    struct shard_machine machine = kv_machine(world->kv);
    const struct shard_stamp stamp = {.time_ms = test->worlds[0].time_ms,
                                      .version = ++world->index << 16};
    const struct reply reply = {.target = &world->answer, .protocol = 2};
    buffer_clear(&world->answer);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    assert_int_equal(machine.execute(machine.context, world->rows, &stamp, command, &reply), 0);
    int status = -EBUSY;
    while (status == -EBUSY) {
        status = rows_commit(world->rows, NULL);
    }
    assert_int_equal(status, 0);
    buffer_clear(&world->saved);
    machine.save(machine.context, &world->saved);
}

static void execute(struct test *test, const struct shard_command *command)
{
    execute_one(test, 0, command);
    execute_one(test, 1, command);
    assert_true(
        bytes_equal(buffer_bytes(&test->worlds[0].answer), buffer_bytes(&test->worlds[1].answer)));
}

static void open_range(struct test *test, int place, struct bytes saved)
{
    struct kv__world *world = &test->worlds[place];
    rows_destroy(world->rows);
    kv_destroy(world->kv);
    world->rows = rows_create(memstore_interface(world->store), 1 << 20);
    rows_set_tier(world->rows, ENV_TIER_DISK);
    world->kv = kv_create();
    struct shard_machine machine = kv_machine(world->kv);
    machine.set_range(machine.context, test->first_slot, test->end_slot);
    assert_int_equal(machine.load(machine.context, world->rows, saved, NULL), 0);
}

static void restart(struct test *test)
{
    open_range(test, 1, buffer_bytes(&test->worlds[1].saved));
}

static void setup(struct test *test, uint64_t seed)
{
    *test = (struct test){.end_slot = KV_SLOT_COUNT, .seed = seed};
    random_init(&test->random, seed);
    kv__world_init(&test->worlds[0], seed);
    kv__world_init(&test->worlds[1], seed + 1);
}

static void teardown(struct test *test)
{
    kv__world_deinit(&test->worlds[1]);
    kv__world_deinit(&test->worlds[0]);
}

__attribute__((format(printf, 2, 3))) static void say(struct test *test, const char *format, ...)
{
    char text[4096];
    struct bytes words[256];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    assert_in_range(size, 1, sizeof text - 1);
    uint32_t count = 0;
    for (char *rest = text, *word; (word = strsep(&rest, " ")) != NULL;) {
        assert_in_range(count, 0, 255);
        words[count++] = bytes_of_text(word);
    }
    const struct shard_command command = {kv_command_find(words[0])->opcode, count - 1, words + 1};
    execute(test, &command);
}

/* ---- By chance ------------------------------------------------------------------------------- */

/* A key of the range. */
static const char *some_key(struct test *test)
{
    static char keys[4][32];
    static int turn;
    char *key = keys[turn++ % 4];
    uint32_t slot;
    do {
        int number = (int)random_below(&test->random, KEY_COUNT);
        (void)snprintf(key, sizeof keys[0], "{t%d}%d", number % TAG_COUNT, number);
        slot = kv_slot_of_key(bytes_of_text(key));
    } while (slot < test->first_slot || slot >= test->end_slot);
    return key;
}

static uint32_t some_slot(struct test *test)
{
    return kv_slot_of_key(bytes_of_text(some_key(test)));
}

static void change_hash(struct test *test)
{
    char fields[3000];
    size_t size = 0;
    const char *key = some_key(test);
    uint32_t start = (uint32_t)random_below(&test->random, 100);
    uint32_t count = (uint32_t)random_below(&test->random, 3) == 0 ? 80 : 3;
    bool is_set = random_below(&test->random, 3) > 0;
    for (uint32_t i = 0; i < count; i++) {
        size += (size_t)snprintf(fields + size, sizeof fields - size, " f%u%s", start + i,
                                 is_set ? " v" : "");
    }
    say(test, "%s %s%s", is_set ? "hset" : "hdel", key, fields);
}

static void change_string(struct test *test)
{
    const char *key = some_key(test);
    switch (random_below(&test->random, 8)) {
    case 0:
        say(test, "set %s v px %d", key, 1 + (int)random_below(&test->random, 3000));
        return;
    case 1:
        say(test, "pexpire %s %d", key, (int)random_below(&test->random, 3000));
        return;
    case 2:
        say(test, "persist %s", key);
        return;
    case 3:
        say(test, "rename %s %s", key, some_key(test));
        return;
    case 4:
        say(test, "copy %s %s replace", key, some_key(test));
        return;
    case 5:
        say(test, "del %s %s", key, some_key(test));
        return;
    case 6:
        say(test, "append %s x", key);
        return;
    default:
        say(test, "mset %s a %s b", key, some_key(test));
    }
}

static void send_step(struct test *test, uint16_t opcode, const struct part *part,
                      enum txn_outcome outcome)
{
    const struct txn_header header = {.id = part->id,
                                      .place = part->place,
                                      .home = part->place,
                                      .outcome = outcome,
                                      .protocol = opcode == KV_OPCODE_PREPARE ? 2 : 0};
    uint8_t bytes[TXN_HEADER_SIZE_BYTES];
    uint8_t places[4];
    struct bytes arguments[64];
    uint32_t count = 1;
    struct kv_transaction *transaction = kv_transaction_create();
    txn_header_encode(&header, bytes);
    endian_put_u32_le(places, part->place);
    arguments[0] = bytes_make(bytes, sizeof bytes);
    if (opcode == KV_OPCODE_PREPARE) {
        bool does_grow;
        struct bytes words[] = {bytes_of_text(some_key(test)), BYTES("x")};
        kv_transaction_add(transaction, kv_command_find(BYTES("append")), words, 2);
        struct bytes other = bytes_of_text(some_key(test));
        kv_transaction_add(transaction, kv_command_find(BYTES("del")), &other, 1);
        struct shard_command command = kv_transaction_command(transaction, &does_grow);
        memcpy(arguments + 1, command.arguments, command.argument_count * sizeof arguments[0]);
        count += command.argument_count;
    } else if (opcode == KV_OPCODE_DECIDE && outcome == TXN_COMMIT) {
        arguments[count++] = bytes_make(places, sizeof places);
    }
    const struct shard_command command = {opcode, count, arguments};
    execute(test, &command);
    kv_transaction_destroy(transaction);
}

static void begin_part(struct test *test)
{
    struct part part = {.id = {1, ++test->id_last, test->worlds[0].time_ms},
                        .place = some_slot(test),
                        .is_decided = random_below(&test->random, 3) == 0};
    if (part.is_decided) {
        bool is_commit = random_below(&test->random, 2) == 0;
        send_step(test, KV_OPCODE_DECIDE, &part, is_commit ? TXN_COMMIT : TXN_ABORT);
    } else {
        send_step(test, KV_OPCODE_PREPARE, &part, TXN_NONE);
    }
    if (test->part_count < PART_COUNT_MAX) {
        test->parts[test->part_count++] = part;
    } else if (!part.is_decided) {
        send_step(test, KV_OPCODE_FINISH, &part, TXN_ABORT);
    }
}

static void end_part(struct test *test)
{
    if (test->part_count == 0) {
        return;
    }
    struct part part = test->parts[--test->part_count];
    if (part.is_decided) {
        send_step(test, KV_OPCODE_FORGET, &part, TXN_COMMIT);
    } else {
        bool is_commit =
            test->worlds[0].answer.size_bytes > 0 && random_below(&test->random, 2) == 0;
        send_step(test, KV_OPCODE_FINISH, &part, is_commit ? TXN_COMMIT : TXN_ABORT);
    }
}

static void work_in_background(struct test *test)
{
    struct kv__world *world = &test->worlds[0];
    struct shard_machine machine = kv_machine(world->kv);
    struct shard_command command;
    uint64_t next_ms = world->time_ms;
    rows_set_tier(world->rows, ENV_TIER_MEMORY);
    if (machine.background(machine.context, world->rows, world->time_ms, &command, &next_ms)) {
        execute(test, &command);
    }
}

static void census_step(struct test *test, uint32_t first_slot, uint64_t row_count)
{
    uint8_t numbers[12];
    endian_put_u32_le(numbers, first_slot);
    endian_put_u64_le(numbers + 4, row_count);
    const struct bytes arguments[] = {bytes_make(numbers, 4), bytes_make(numbers + 4, 8)};
    const struct shard_command command = {KV_OPCODE_CENSUS, 2, arguments};
    execute(test, &command);
}

static void change_something(struct test *test)
{
    uint32_t choice = (uint32_t)random_below(&test->random, 100);
    test->worlds[0].time_ms += random_below(&test->random, 50);
    if (choice < 35) {
        change_string(test);
    } else if (choice < 55) {
        change_hash(test);
    } else if (choice < 65) {
        begin_part(test);
    } else if (choice < 80) {
        end_part(test);
    } else if (choice < 96) {
        test->worlds[0].time_ms += 1000;
        work_in_background(test);
    } else if (choice < 97) {
        test->worlds[0].time_ms += random_below(&test->random, 2) * TXN_HORIZON_MS;
        say(test, "flushall");
    } else {
        restart(test);
    }
}

/* ---- The tests ------------------------------------------------------------------------------- */

static bool has_keys(uint32_t first_slot, uint32_t end_slot)
{
    char key[32];
    for (int i = 0; i < TAG_COUNT; i++) {
        (void)snprintf(key, sizeof key, "{t%d}", i);
        uint32_t slot = kv_slot_of_key(bytes_of_text(key));
        if (slot >= first_slot && slot < end_slot) {
            return true;
        }
    }
    return false;
}

/* From this slot on keys are the child's, and some are not; 0: there is none such. */
static uint32_t some_border(struct test *test)
{
    for (int i = 0; i < 100; i++) {
        uint32_t slot = some_slot(test) + (uint32_t)random_below(&test->random, 2);
        if (has_keys(test->first_slot, slot) && has_keys(slot, test->end_slot)) {
            return slot;
        }
    }
    return 0;
}

static void split_and_check(struct test *test, uint32_t border)
{
    struct buffer children[2] = {0};
    struct kv__saved child;
    while (test->part_count > 0) {
        end_part(test);
    }
    struct kv__counts lower = count_rows(&test->worlds[0], test->first_slot, border);
    struct kv__counts upper = count_rows(&test->worlds[0], border, test->end_slot);
    for (int i = 0; i < 2; i++) {
        struct kv__world *world = &test->worlds[i];
        struct shard_machine machine = kv_machine(world->kv);
        assert_int_equal(machine.split(machine.context, world->rows, border, &children[i]), 0);
        buffer_clear(&world->saved);
        machine.save(machine.context, &world->saved);
    }
    uint32_t end_slot = test->end_slot;
    bool is_upper = random_below(&test->random, 2) == 0;
    assert_true(bytes_equal(buffer_bytes(&children[0]), buffer_bytes(&children[1])));
    assert_int_equal(kv__saved_decode(buffer_bytes(&children[0]), &child), 0);
    assert_int_equal(child.generation_last, test->worlds[0].kv->generation_last);
    check_counts(test, &child.counts, &upper, "child");
    struct kv__saved parent = kv__saved_of(test->worlds[0].kv);
    check_counts(test, &parent.counts, &lower, "parent");
    assert_int_equal(parent.census.first_slot, 0);
    test->end_slot = border;
    if (is_upper) { /* On with the child. */
        test->first_slot = border;
        test->end_slot = end_slot;
        for (int i = 0; i < 2; i++) {
            open_range(test, i, buffer_bytes(&children[i]));
            buffer_clear(&test->worlds[i].saved);
            buffer_append(&test->worlds[i].saved, buffer_bytes(&children[i]));
        }
    }
    check(test);
    struct error error = {0};
    struct kv__counts all = count_rows(&test->worlds[0], 0, KV_SLOT_COUNT);
    if (kv_verify(memstore_interface(test->worlds[0].store), NULL, all.key_count, &error) != 0) {
        fail_msg("seed %d: %s", (int)test->seed, error.message);
    }
    buffer_deinit(&children[0]);
    buffer_deinit(&children[1]);
}

static void run(uint64_t seed)
{
    struct test test;
    uint32_t border;
    setup(&test, seed);
    /* The half that is gone on with is split again. */
    for (int i = 0; i < 3 && (border = some_border(&test)) != 0; i++) {
        int step_count = (int)random_below(&test.random, STEP_COUNT);
        for (int step = 0; step < step_count; step++) {
            change_something(&test);
            if (random_below(&test.random, 10) == 0) {
                census_step(&test, border, random_below(&test.random, 6));
            }
            check(&test);
        }
        while (!kv__census_is_complete(test.worlds[0].kv, border)) {
            census_step(&test, border, 1 + random_below(&test.random, 6));
            check(&test);
        }
        for (int step = 0; step < 20; step++) {
            change_something(&test);
            check(&test);
        }
        split_and_check(&test, border);
    }
    for (int step = 0; step < 100; step++) {
        change_something(&test);
        check(&test);
    }
    teardown(&test);
}

static void test_exact_whatever_happens(void **state)
{
    (void)state;
    const char *only = getenv("SEED");
    for (uint64_t seed = 1; only == NULL && seed <= SEED_COUNT; seed++) {
        run(seed);
    }
    if (only != NULL) {
        run(strtoull(only, NULL, 10));
    }
}

/* ---- Verifying ------------------------------------------------------------------------------- */

static void assert_verified(struct test *test, int expected, const char *what)
{
    struct error error = {0};
    struct kv__world *world = &test->worlds[0];
    assert_int_equal(kv_verify_counts(world->kv, memstore_interface(world->store), NULL, &error),
                     expected);
    if (what != NULL && strstr(error.message, what) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", what, error.message);
    }
}

static void test_verifying_finds_a_wrong_count(void **state)
{
    (void)state;
    struct test test;
    setup(&test, 1);
    say(&test, "mset {t1}a 1 {t1}b 1 {t3}a 1");
    say(&test, "pexpire {t1}a 5000");
    uint32_t slot = kv_slot_of_key(BYTES("{t1}a"));
    assert_verified(&test, 0, NULL);
    census_step(&test, slot, 1000);
    assert_verified(&test, 0, NULL);
    struct kv *kv = test.worlds[0].kv;
    const struct {
        uint64_t *count;
        const char *what;
    } counts[] = {
        {&kv->key_count, "keys, but the state of the machine says"},
        {&kv->expiring_key_count, "keys that expire, but the state of the machine"},
        {&kv->garbage_count, "rows of garbage, but the state of the machine"},
        {&kv->record_count, "records of transactions, but the state of the machine"},
        {&kv->census.counts.key_count, "keys, but the census says"},
        {&kv->census.counts.expiring_key_count, "keys that expire, but the census"},
        {&kv->census.counts.garbage_count, "rows of garbage, but the census"},
        {&kv->census.counts.record_count, "records of transactions, but the census"},
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        ++*counts[i].count;
        assert_verified(&test, ERROR_CORRUPT, counts[i].what);
        --*counts[i].count;
    }
    memstore_set_faults(test.worlds[0].store, (struct memstore_faults){.read_error_percent = 100});
    assert_verified(&test, -EIO, NULL);
    teardown(&test);
}

#ifdef TUTTI_PLANTED_BUGS
static bool is_bug(void *context, const char *name)
{
    return strcmp(context, name) == 0;
}
#endif

static void test_verifying_finds_a_change_that_was_missed(void **state)
{
    (void)state;
#ifdef TUTTI_PLANTED_BUGS
    struct test test;
    setup(&test, 1);
    say(&test, "set {t1}a 1");
    census_step(&test, kv_slot_of_key(BYTES("{t1}a")), 1000);
    const struct trace_hooks hooks = {.context = "kv.census_misses_change", .bug = is_bug};
    trace_set_hooks(&hooks);
    say(&test, "set {t1}b 1");
    trace_set_hooks(NULL);
    assert_verified(&test, ERROR_CORRUPT, "but the census says 1");
    teardown(&test);
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_whatever_happens),
        cmocka_unit_test(test_verifying_finds_a_wrong_count),
        cmocka_unit_test(test_verifying_finds_a_change_that_was_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
