/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: kv_verify() accepts what kv writes and tells each kind of damage by what is wrong; a
 * machine does not load a state that it cannot know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/endian/endian.h"
#include "service/kv/kv_internal.h"
#include "service/kv/kv_world.h"

/* A string, a string that expires, a hash, another in the same slot, and garbage. */
static void build(struct kv__world *world)
{
    kv__world_init(world, 1);
    (void)kv__world_say(world, "set {x}s value");
    (void)kv__world_say(world, "set {x}e value px 5000");
    (void)kv__world_say(world, "hset {x}h a 1 b 2 c 3");
    (void)kv__world_say(world, "hset {x}i a 1");
}

static int verify(struct kv__world *world, struct error *error)
{
    struct kv_statistics statistics;
    kv_get_statistics(world->kv, &statistics);
    return kv_verify(memstore_interface(world->store), NULL, statistics.key_count, error);
}

static void write_row(struct kv__world *world, enum env_change_kind kind, struct bytes key,
                      struct bytes value)
{
    struct env_store store = memstore_interface(world->store);
    struct env_change change = {.kind = kind, .key = key, .value = value};
    assert_int_equal(store.ops->write(store.context, &change, 1, NULL), 0);
}

static struct kv_value read_value(struct kv__world *world, const struct kv_key *key,
                                  struct buffer *row)
{
    struct env_store store = memstore_interface(world->store);
    struct kv_value value;
    buffer_clear(row);
    assert_int_equal(store.ops->get(store.context, NULL, ENV_TIER_DISK, key->row, row), 0);
    assert_int_equal(kv__value_decode(buffer_bytes(row), &value), 0);
    return value;
}

/* Write the value of a key as `change` makes it, without what belongs to it. */
static void damage_value(struct kv__world *world, const char *name,
                         void (*change)(struct kv_value *value))
{
    struct kv_key key;
    struct buffer row = {0};
    struct buffer changed = {0};
    kv__key_init(&key, bytes_of_text(name));
    struct kv_value value = read_value(world, &key, &row);
    change(&value);
    kv__value_encode(&changed, &value);
    write_row(world, ENV_CHANGE_PUT, key.row, buffer_bytes(&changed));
    buffer_deinit(&row);
    buffer_deinit(&changed);
}

static void expect(struct kv__world *world, const char *what)
{
    struct error error = {0};
    assert_int_equal(verify(world, &error), ERROR_CORRUPT);
    if (strstr(error.message, what) == NULL) {
        fail_msg("`%s` is not `%s`", error.message, what);
    }
    kv__world_deinit(world);
}

static void one_more_field(struct kv_value *value)
{
    value->count++;
}

static void another_expiry(struct kv_value *value)
{
    value->expire_ms++;
}

static void an_expiry(struct kv_value *value)
{
    value->expire_ms = 77;
}

static void other_fields(struct kv_value *value)
{
    value->generation += 1000;
}

static void test_values_that_do_not_fit(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*change)(struct kv_value *value);
        const char *what;
    } cases[] = {
        {"{x}h", one_more_field, "a hash's count is not that of its fields"},
        {"{x}h", other_fields, "fields that belong to no hash"},
        {"{x}e", another_expiry, "an expiry row does not agree with its key"},
        {"{x}s", an_expiry, "a key that expires has no expiry row"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kv__world world;
        struct error error = {0};
        build(&world);
        assert_int_equal(verify(&world, &error), 0);
        damage_value(&world, cases[i].name, cases[i].change);
        expect(&world, cases[i].what);
    }
}

static void test_two_hashes_with_the_same_fields(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_key left;
    struct kv_key right;
    struct buffer row = {0};
    build(&world);
    kv__key_init(&left, BYTES("{x}h"));
    kv__key_init(&right, BYTES("{x}i"));
    (void)read_value(&world, &left, &row);
    write_row(&world, ENV_CHANGE_PUT, right.row, buffer_bytes(&row));
    buffer_deinit(&row);
    expect(&world, "two hashes share their fields");
}

static void test_fields_that_are_missing_or_nobodys(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_key key;
    struct buffer row = {0};
    build(&world);
    kv__key_init(&key, BYTES("{x}h"));
    struct kv_value value = read_value(&world, &key, &row);
    uint8_t field[KV_FIELD_ROW_PREFIX_SIZE_BYTES + 1];
    kv__row_prefix(field, key.slot, KV_ROW_FIELD);
    endian_put_u64_be(field + 4, value.generation);
    endian_put_u32_be(field + 12, kv__hash(BYTES("b")));
    field[16] = 'b';
    write_row(&world, ENV_CHANGE_DELETE, bytes_make(field, sizeof field), BYTES(""));
    expect(&world, "a hash's count is not that of its fields");

    build(&world);
    endian_put_u64_be(field + 4, value.generation + 5000);
    write_row(&world, ENV_CHANGE_PUT, bytes_make(field, sizeof field), BYTES("1"));
    expect(&world, "fields that belong to no hash");

    /* Said to be garbage, they may be there; but not while a hash has them. */
    struct error error = {0};
    uint8_t garbage[KV_GARBAGE_ROW_SIZE_BYTES];
    build(&world);
    write_row(&world, ENV_CHANGE_PUT, bytes_make(field, sizeof field), BYTES("1"));
    write_row(&world, ENV_CHANGE_PUT, kv__garbage_row(garbage, key.slot, value.generation + 5000),
              BYTES(""));
    assert_int_equal(verify(&world, &error), 0);
    write_row(&world, ENV_CHANGE_PUT, kv__garbage_row(garbage, key.slot, value.generation),
              BYTES(""));
    buffer_deinit(&row);
    expect(&world, "a hash's fields are in the garbage");
}

static void test_rows_in_the_wrong_place(void **state)
{
    (void)state;
    struct kv__world world;
    struct kv_key key;
    struct buffer row = {0};
    kv__key_init(&key, BYTES("{x}s"));
    build(&world);
    (void)read_value(&world, &key, &row);
    key.row_bytes[7] ^= 1; /* The hash. */
    write_row(&world, ENV_CHANGE_PUT, key.row, buffer_bytes(&row));
    expect(&world, "a key is in the wrong place");

    kv__key_init(&key, BYTES("{x}s"));
    build(&world);
    write_row(&world, ENV_CHANGE_DELETE, key.row, BYTES(""));
    expect(&world, "3 keys, but the state of the machine says 4");

    build(&world);
    write_row(&world, ENV_CHANGE_PUT, key.row, BYTES("\x01\x02nonsense"));
    expect(&world, "a key's value cannot be read");

    build(&world);
    write_row(&world, ENV_CHANGE_PUT, BYTES("\x10\xff\xff\x00zzzz"), BYTES("1"));
    expect(&world, "a row that kv does not write");

    kv__key_init(&key, BYTES("{x}e"));
    build(&world);
    write_row(&world, ENV_CHANGE_DELETE, key.row, BYTES(""));
    expect(&world, "an expiry row does not agree with its key");
    buffer_deinit(&row);
}

static void test_a_disk_that_fails_is_not_damage(void **state)
{
    (void)state;
    struct kv__world world;
    struct error error = {0};
    build(&world);
    memstore_set_faults(world.store, (struct memstore_faults){.read_error_percent = 100});
    assert_int_equal(verify(&world, &error), -EIO);
    memstore_set_faults(world.store, (struct memstore_faults){0});
    assert_int_equal(verify(&world, &error), 0);
    kv__world_deinit(&world);
}

static void test_a_state_that_is_unknown_is_not_loaded(void **state)
{
    (void)state;
    struct kv__world world;
    struct error error = {0};
    build(&world);
    struct shard_machine machine = kv_machine(world.kv);
    struct buffer saved = {0};
    machine.save(machine.context, &saved);
    assert_int_equal(machine.load(machine.context, world.rows, buffer_bytes(&saved), &error), 0);
    saved.size_bytes--;
    assert_int_equal(machine.load(machine.context, world.rows, buffer_bytes(&saved), &error),
                     ERROR_CORRUPT);
    saved.data[0] = 5;
    assert_int_equal(machine.load(machine.context, world.rows, buffer_bytes(&saved), &error),
                     ERROR_NEWER_FORMAT);
    /* Of no release: the names of rows of transactions were in another order. */
    saved.data[0] = 2;
    buffer_extend(&saved, 9)[0] = 1;
    assert_int_equal(machine.load(machine.context, world.rows, buffer_bytes(&saved), &error),
                     ERROR_NEWER_FORMAT);
    saved.data[0] = 0;
    assert_int_equal(machine.load(machine.context, world.rows, buffer_bytes(&saved), &error),
                     ERROR_CORRUPT);
    buffer_deinit(&saved);
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_that_do_not_fit),
        cmocka_unit_test(test_two_hashes_with_the_same_fields),
        cmocka_unit_test(test_fields_that_are_missing_or_nobodys),
        cmocka_unit_test(test_rows_in_the_wrong_place),
        cmocka_unit_test(test_a_disk_that_fails_is_not_damage),
        cmocka_unit_test(test_a_state_that_is_unknown_is_not_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
