/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random/random.h"
#include "core/memstore/memstore.h"

#define KEY_COUNT 64
#define NO_ROW 0

/* The model: the value of each one-byte key, NO_ROW for none. */
struct model {
    uint8_t values[KEY_COUNT];
};

static struct env_store interface;

static int write_one(enum env_change_kind kind, uint8_t key, uint8_t value)
{
    struct env_change change = {
        .kind = kind, .key = bytes_make(&key, 1), .value = bytes_make(&value, 1)};
    return interface.ops->write(interface.context, &change, 1, NULL);
}

static void assert_equal_to(const struct env_store_snapshot *snapshot, const struct model *model)
{
    struct env_iterator *iterator;
    struct buffer value = {0};
    assert_int_equal(interface.ops->iterator_open(interface.context, snapshot, ENV_TIER_DISK,
                                                  (struct bytes){0}, (struct bytes){0}, &iterator),
                     0);
    int status = interface.ops->iterator_seek(interface.context, iterator, (struct bytes){0});
    for (uint8_t key = 0; key < KEY_COUNT; key++) {
        buffer_clear(&value);
        int got = interface.ops->get(interface.context, snapshot, ENV_TIER_DISK,
                                     bytes_make(&key, 1), &value);
        assert_int_equal(got, model->values[key] == NO_ROW ? -ENOENT : 0);
        if (got == 0) {
            assert_int_equal(value.data[0], model->values[key]);
            assert_int_equal(status, 0);
            assert_int_equal(interface.ops->iterator_key(interface.context, iterator).data[0], key);
            assert_int_equal(interface.ops->iterator_value(interface.context, iterator).data[0],
                             model->values[key]);
            status = interface.ops->iterator_next(interface.context, iterator);
        }
    }
    assert_int_equal(status, -ENOENT);
    interface.ops->iterator_close(interface.context, iterator);
    buffer_deinit(&value);
}

static void change_both(struct random *random, struct model *model)
{
    uint8_t key = (uint8_t)random_below(random, KEY_COUNT);
    uint8_t value = (uint8_t)(1 + random_below(random, 200));
    uint8_t upper = (uint8_t)random_below(random, KEY_COUNT);
    switch (random_below(random, 8)) {
    case 0:
        assert_int_equal(write_one(ENV_CHANGE_DELETE_RANGE, key, upper), 0);
        for (uint8_t i = key; i < upper; i++) {
            model->values[i] = NO_ROW;
        }
        break;
    case 1:
    case 2:
        assert_int_equal(write_one(ENV_CHANGE_DELETE, key, 0), 0);
        model->values[key] = NO_ROW;
        break;
    default:
        assert_int_equal(write_one(ENV_CHANGE_PUT, key, value), 0);
        model->values[key] = value;
    }
}

/* The store, a snapshot and what survives a loss each equal a plain array with the same history. */
static void test_random_histories(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct random random;
        random_init(&random, seed);
        struct memstore *memstore = memstore_create(seed);
        interface = memstore_interface(memstore);
        struct model present = {0};
        struct model flushed = {0};
        struct model seen = {0};
        struct env_store_snapshot *snapshot = interface.ops->snapshot_create(interface.context);
        for (uint32_t step = 0; step < 300; step++) {
            change_both(&random, &present);
            if (random_chance(&random, 1, 20)) {
                memstore_flush(memstore);
                flushed = present;
            }
            if (random_chance(&random, 1, 20)) {
                assert_equal_to(snapshot, &seen);
                interface.ops->snapshot_release(interface.context, snapshot);
                if (random_chance(&random, 1, 2)) {
                    memstore_lose_unflushed(memstore);
                    present = flushed;
                    assert_equal_to(NULL, &present);
                }
                snapshot = interface.ops->snapshot_create(interface.context);
                seen = present;
            }
        }
        assert_equal_to(snapshot, &seen);
        assert_equal_to(NULL, &present);
        interface.ops->snapshot_release(interface.context, snapshot);
        memstore_destroy(memstore);
    }
}

/* Equal rows have equal hashes whatever the history; a different row changes the hash. */
static void test_hash_is_of_the_rows(void **state)
{
    (void)state;
    struct bytes all = {0};
    struct memstore *left = memstore_create(1);
    interface = memstore_interface(left);
    assert_int_equal(write_one(ENV_CHANGE_PUT, 1, 10), 0);
    assert_int_equal(write_one(ENV_CHANGE_PUT, 2, 20), 0);
    assert_int_equal(write_one(ENV_CHANGE_DELETE, 1, 0), 0);
    struct memstore *right = memstore_create(2);
    interface = memstore_interface(right);
    assert_int_equal(write_one(ENV_CHANGE_PUT, 2, 20), 0);
    assert_true(memstore_hash(left, all, all) == memstore_hash(right, all, all));
    assert_int_equal(write_one(ENV_CHANGE_PUT, 2, 21), 0);
    assert_true(memstore_hash(left, all, all) != memstore_hash(right, all, all));
    assert_int_equal(memstore_row_count(right), 1);
    memstore_destroy(left);
    memstore_destroy(right);
}

/* Faults do what they say and change nothing. */
static void test_faults(void **state)
{
    (void)state;
    struct memstore *memstore = memstore_create(1);
    interface = memstore_interface(memstore);
    struct buffer value = {0};
    uint8_t key = 7;
    memstore_set_faults(memstore, (struct memstore_faults){.busy_percent = 100});
    assert_int_equal(write_one(ENV_CHANGE_PUT, key, 1), -EBUSY);
    assert_int_equal(memstore_row_count(memstore), 0);
    memstore_set_faults(memstore, (struct memstore_faults){.incomplete_percent = 100});
    assert_int_equal(write_one(ENV_CHANGE_PUT, key, 1), 0);
    assert_int_equal(
        interface.ops->get(interface.context, NULL, ENV_TIER_MEMORY, bytes_make(&key, 1), &value),
        ERROR_INCOMPLETE);
    assert_int_equal(
        interface.ops->get(interface.context, NULL, ENV_TIER_DISK, bytes_make(&key, 1), &value), 0);
    memstore_set_faults(memstore, (struct memstore_faults){.read_error_percent = 100});
    assert_int_equal(
        interface.ops->get(interface.context, NULL, ENV_TIER_DISK, bytes_make(&key, 1), &value),
        -EIO);
    assert_int_equal(memstore_unflushed_batch_count(memstore), 1);
    buffer_deinit(&value);
    memstore_destroy(memstore);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_histories),
        cmocka_unit_test(test_hash_is_of_the_rows),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
