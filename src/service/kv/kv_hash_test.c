/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes against a model that is an array of numbers, with restarts, misses of the cache and the
 * collection of garbage in between. */
#include "service/kv/kv_field.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "base/random/random.h"
#include "service/kv/kv_world.h"

enum { KEY_COUNT = 5, FIELD_COUNT = 160, STEP_COUNT = 2500, ROUND_COUNT = 12, NOTHING = -1 };

/* Two of them share a slot, so that their fields stand close together. */
static const char *const key_names[KEY_COUNT] = {"a", "{a}", "b", "key", "other"};

struct model {
    enum kv_type types[KEY_COUNT];
    int fields[KEY_COUNT][FIELD_COUNT]; /* A number, or NOTHING. */
};

static struct kv__world world;
static struct model model;
static struct random chance;

static int below(int bound)
{
    return (int)random_below(&chance, (uint64_t)bound);
}

static void forget(int key)
{
    model.types[key] = KV_TYPE_NONE;
    for (int field = 0; field < FIELD_COUNT; field++) {
        model.fields[key][field] = NOTHING;
    }
}

static int count_fields(int key)
{
    int count = 0;
    for (int field = 0; field < FIELD_COUNT; field++) {
        count += model.fields[key][field] != NOTHING;
    }
    return count;
}

/* The elements of a flat answer, a number each, into `numbers`; a prefix of each element is
 * skipped. */
static int read_elements(const char *answer, const char *prefix, int *numbers)
{
    assert_true(answer[0] == '*');
    int count = (int)strtol(answer + 1, NULL, 10);
    const char *at = strstr(answer, "\r\n") + 2;
    for (int i = 0; i < count; i++) {
        assert_true(*at == '$');
        at = strstr(at, "\r\n") + 2;
        numbers[i] = (int)strtol(at[0] == prefix[0] ? at + 1 : at, NULL, 10);
        at = strstr(at, "\r\n") + 2;
    }
    return count;
}

static void expect_integer(const char *answer, int64_t expected)
{
    if (answer[0] != ':') {
        fail_msg("%s", answer);
    }
    assert_int_equal(strtol(answer + 1, NULL, 10), expected);
}

/* ---- What changes ---------------------------------------------------------------------------- */

static void step_hset(int key)
{
    struct buffer text = {0};
    buffer_append_format(&text, "HSET %s", key_names[key]);
    int added_count = 0;
    bool is_hash = model.types[key] != KV_TYPE_STRING;
    int pair_count = below(8) == 0 ? 90 : 1 + below(4);
    for (int i = 0; i < pair_count; i++) {
        int field = below(FIELD_COUNT);
        int value = below(1000);
        buffer_append_format(&text, " f%d %d", field, value);
        if (is_hash) {
            added_count += model.fields[key][field] == NOTHING;
            model.fields[key][field] = value;
        }
    }
    buffer_append_byte(&text, 0);
    const char *answer = kv__world_say(&world, "%s", (const char *)text.data);
    buffer_deinit(&text);
    if (is_hash) {
        model.types[key] = KV_TYPE_HASH;
        expect_integer(answer, added_count);
    } else {
        assert_true(strncmp(answer, "-WRONGTYPE", 10) == 0);
    }
}

static void step_hdel(int key)
{
    if (model.types[key] == KV_TYPE_STRING) {
        return;
    }
    int fields[3];
    int deleted_count = 0;
    for (int i = 0; i < 3; i++) {
        fields[i] = below(FIELD_COUNT);
        deleted_count += model.fields[key][fields[i]] != NOTHING;
        model.fields[key][fields[i]] = NOTHING;
    }
    if (count_fields(key) == 0) {
        forget(key);
    }
    expect_integer(kv__world_say(&world, "HDEL %s f%d f%d f%d", key_names[key], fields[0],
                                 fields[1], fields[2]),
                   deleted_count);
}

static void step_hdel_all(int key)
{
    if (model.types[key] != KV_TYPE_HASH) {
        return;
    }
    struct buffer text = {0};
    buffer_append_format(&text, "HDEL %s", key_names[key]);
    for (int field = 0; field < FIELD_COUNT; field++) {
        buffer_append_format(&text, " f%d", field);
    }
    buffer_append_byte(&text, 0);
    expect_integer(kv__world_say(&world, "%s", (const char *)text.data), count_fields(key));
    forget(key);
    buffer_deinit(&text);
}

static void step_hincrby(int key)
{
    if (model.types[key] == KV_TYPE_STRING) {
        return;
    }
    int field = below(FIELD_COUNT);
    int *number = &model.fields[key][field];
    *number = *number == NOTHING ? 5 : *number + 5;
    model.types[key] = KV_TYPE_HASH;
    expect_integer(kv__world_say(&world, "HINCRBY %s f%d 5", key_names[key], field), *number);
}

static void step_hsetnx(int key)
{
    if (model.types[key] == KV_TYPE_STRING) {
        return;
    }
    int field = below(FIELD_COUNT);
    bool is_new = model.fields[key][field] == NOTHING;
    model.fields[key][field] = is_new ? 3 : model.fields[key][field];
    model.types[key] = KV_TYPE_HASH;
    expect_integer(kv__world_say(&world, "HSETNX %s f%d 3", key_names[key], field), is_new);
}

static void step_remove(int key)
{
    bool is_there = model.types[key] != KV_TYPE_NONE;
    forget(key);
    if (below(2) == 0) {
        assert_string_equal(kv__world_say(&world, "SET %s 1", key_names[key]), "+OK\r\n");
        model.types[key] = KV_TYPE_STRING;
    } else {
        expect_integer(kv__world_say(&world, "DEL %s", key_names[key]), is_there);
    }
}

static void step_move(int key)
{
    int target = below(KEY_COUNT);
    if (model.types[key] == KV_TYPE_NONE || target == key) {
        return;
    }
    bool is_copy = below(2) == 0;
    if (is_copy) {
        expect_integer(
            kv__world_say(&world, "COPY %s %s REPLACE", key_names[key], key_names[target]), 1);
    } else {
        assert_string_equal(
            kv__world_say(&world, "RENAME %s %s", key_names[key], key_names[target]), "+OK\r\n");
    }
    model.types[target] = model.types[key];
    memcpy(model.fields[target], model.fields[key], sizeof model.fields[key]);
    if (!is_copy) {
        forget(key);
    }
}

static void step_flush(int key)
{
    (void)key;
    if (below(10) == 0) {
        (void)kv__world_say(&world, "FLUSHALL");
        for (int i = 0; i < KEY_COUNT; i++) {
            forget(i);
        }
    }
}

static void step_background(int key)
{
    (void)key;
    world.time_ms += (uint64_t)below(20);
    (void)kv__world_background(&world);
}

static void step_restart(int key)
{
    (void)key;
    if (below(4) == 0) {
        kv__world_restart(&world);
    }
}

/* ---- What looks ------------------------------------------------------------------------------ */

/* `names` and, unless NULL, `values` are all fields of the hash, in any order. */
static void check_all_fields(int key, const int *numbers, int pair_count, bool has_values)
{
    bool is_seen[FIELD_COUNT] = {false};
    assert_int_equal(pair_count, count_fields(key));
    for (int i = 0; i < pair_count; i++) {
        int field = numbers[has_values ? 2 * i : i];
        assert_in_range(field, 0, FIELD_COUNT - 1);
        assert_false(is_seen[field]);
        is_seen[field] = true;
        if (has_values) {
            assert_int_equal(numbers[2 * i + 1], model.fields[key][field]);
        } else {
            assert_int_not_equal(model.fields[key][field], NOTHING);
        }
    }
}

static void step_look_at_all(int key)
{
    if (model.types[key] == KV_TYPE_STRING) {
        return;
    }
    int numbers[2 * FIELD_COUNT];
    int count = read_elements(kv__world_say(&world, "HGETALL %s", key_names[key]), "f", numbers);
    check_all_fields(key, numbers, count / 2, true);
    count = read_elements(kv__world_say(&world, "HKEYS %s", key_names[key]), "f", numbers);
    check_all_fields(key, numbers, count, false);
    count = read_elements(kv__world_say(&world, "HVALS %s", key_names[key]), "f", numbers);
    assert_int_equal(count, count_fields(key));
    expect_integer(kv__world_say(&world, "HLEN %s", key_names[key]), count);
}

static void step_look_at_one(int key)
{
    if (model.types[key] == KV_TYPE_STRING) {
        return;
    }
    int field = below(FIELD_COUNT);
    int value = model.fields[key][field];
    char text[64] = "$-1\r\n";
    char digits[16] = "";
    if (value != NOTHING) {
        (void)snprintf(digits, sizeof digits, "%d", value);
        (void)snprintf(text, sizeof text, "$%zu\r\n%s\r\n", strlen(digits), digits);
    }
    assert_string_equal(kv__world_say(&world, "HGET %s f%d", key_names[key], field), text);
    expect_integer(kv__world_say(&world, "HEXISTS %s f%d", key_names[key], field),
                   value != NOTHING);
    expect_integer(kv__world_say(&world, "HSTRLEN %s f%d", key_names[key], field),
                   (int64_t)strlen(digits));
}

/* Follow a cursor to its end; the elements of all pages. */
static int walk(const char *command, const char *prefix, int *numbers, int count_max)
{
    uint64_t cursor = 0;
    int total = 0;
    do {
        char text[128];
        (void)snprintf(text, sizeof text, command, cursor, 1 + below(30));
        const char *answer = kv__world_say(&world, "%s", text);
        assert_true(strncmp(answer, "*2\r\n$", 5) == 0);
        const char *at = strstr(answer + 5, "\r\n") + 2;
        cursor = strtoull(at, NULL, 10);
        int page[4 * FIELD_COUNT];
        int count = read_elements(strstr(at, "\r\n") + 2, prefix, page);
        assert_true(total + count <= count_max);
        memcpy(numbers + total, page, (size_t)count * sizeof page[0]);
        total += count;
    } while (cursor != 0);
    return total;
}

static void step_hscan(int key)
{
    if (model.types[key] == KV_TYPE_STRING) {
        return;
    }
    char command[128];
    (void)snprintf(command, sizeof command, "HSCAN %s %%lu COUNT %%d", key_names[key]);
    int numbers[2 * FIELD_COUNT];
    int count = walk(command, "f", numbers, 2 * FIELD_COUNT);
    check_all_fields(key, numbers, count / 2, true);
}

static void step_scan(int key)
{
    (void)key;
    int expected_count = 0;
    int hash_count = 0;
    for (int i = 0; i < KEY_COUNT; i++) {
        expected_count += model.types[i] != KV_TYPE_NONE;
        hash_count += model.types[i] == KV_TYPE_HASH;
    }
    int numbers[KEY_COUNT];
    assert_int_equal(walk("SCAN %lu COUNT %d", "f", numbers, KEY_COUNT), expected_count);
    assert_int_equal(walk("SCAN %lu COUNT %d TYPE hash", "f", numbers, KEY_COUNT), hash_count);
    assert_int_equal(read_elements(kv__world_say(&world, "KEYS *"), "f", numbers), expected_count);
    expect_integer(kv__world_say(&world, "DBSIZE"), expected_count);
    assert_true((kv__world_say(&world, "RANDOMKEY")[1] == '-') == (expected_count == 0));
}

static void step_hrandfield(int key)
{
    if (model.types[key] == KV_TYPE_STRING) {
        return;
    }
    int numbers[2 * FIELD_COUNT];
    bool is_seen[FIELD_COUNT] = {false};
    int wanted = 1 + below(FIELD_COUNT);
    int here = count_fields(key);
    int count = read_elements(
        kv__world_say(&world, "HRANDFIELD %s %d WITHVALUES", key_names[key], wanted), "f", numbers);
    assert_int_equal(count, 2 * (wanted < here ? wanted : here));
    for (int i = 0; i < count; i += 2) {
        assert_false(is_seen[numbers[i]]);
        is_seen[numbers[i]] = true;
        assert_int_equal(numbers[i + 1], model.fields[key][numbers[i]]);
    }
    count = read_elements(kv__world_say(&world, "HRANDFIELD %s -20", key_names[key]), "f", numbers);
    assert_int_equal(count, here == 0 ? 0 : 20);
    for (int i = 0; i < count; i++) {
        assert_int_not_equal(model.fields[key][numbers[i]], NOTHING);
    }
}

/* ---- Together -------------------------------------------------------------------------------- */

/* With all garbage collected there is a row for each key and field, and no other. */
static void check_rows(void)
{
    for (int i = 0; i < 100000 && world.kv->garbage_count > 0; i++) {
        world.time_ms += KV_COLLECT_DELAY_MS;
        (void)kv__world_background(&world);
    }
    uint64_t row_count = 0;
    for (int key = 0; key < KEY_COUNT; key++) {
        row_count += model.types[key] == KV_TYPE_NONE ? 0u : 1u;
        row_count += (uint64_t)count_fields(key);
    }
    assert_int_equal(memstore_row_count(world.store), row_count);
}

static void test_hashes_are_what_the_model_says(void **state)
{
    static void (*const steps[])(int key) = {
        step_hset,        step_hset,       step_hset,    step_hdel,        step_hdel,
        step_hdel_all,    step_hincrby,    step_hsetnx,  step_remove,      step_move,
        step_flush,       step_background, step_restart, step_look_at_all, step_look_at_one,
        step_look_at_one, step_hscan,      step_scan,    step_hrandfield,
    };
    for (uint64_t round = 0; round < ROUND_COUNT; round++) {
        random_init(&chance, round);
        kv__world_init(&world, round);
        memstore_set_faults(world.store, (struct memstore_faults){
                                             .busy_percent = round % 2 == 0 ? 0 : 5,
                                             .incomplete_percent = round % 3 == 0 ? 0 : 10,
                                         });
        for (int key = 0; key < KEY_COUNT; key++) {
            forget(key);
        }
        for (int i = 0; i < STEP_COUNT; i++) {
            steps[below(sizeof steps / sizeof steps[0])](below(KEY_COUNT));
            if (i % 500 == 0) {
                check_rows();
            }
        }
        check_rows();
        kv__world_deinit(&world);
    }
}

/* Ask so often, and count how often each element (a letter and a number) came. */
static void count_draws(const char *command, int draw_count, int *counts)
{
    for (int i = 0; i < draw_count; i++) {
        const char *answer = kv__world_say(&world, "%s", command);
        assert_true(answer[0] == '$');
        counts[strtol(strstr(answer, "\r\n") + 3, NULL, 10)]++;
    }
}

static void test_chance_is_fair(void **state)
{
    /* A small hash: equally likely. Few keys, or a large hash: nobody is left out, nobody
     * favoured. */
    enum { DRAW_COUNT = 30000, LARGE_COUNT = 1000 };
    kv__world_init(&world, 1);
    (void)kv__world_say(&world, "HSET h f0 x f1 x f2 x");
    int counts[LARGE_COUNT] = {0};
    count_draws("HRANDFIELD h", DRAW_COUNT, counts);
    for (int i = 0; i < 3; i++) {
        assert_in_range(counts[i], DRAW_COUNT / 3 * 95 / 100, DRAW_COUNT / 3 * 105 / 100);
    }
    (void)kv__world_say(&world, "FLUSHALL");
    (void)kv__world_say(&world, "MSET k0 x k1 x k2 x");
    memset(counts, 0, sizeof counts);
    count_draws("RANDOMKEY", DRAW_COUNT, counts);
    for (int i = 0; i < 3; i++) {
        assert_in_range(counts[i], DRAW_COUNT / 3 * 80 / 100, DRAW_COUNT / 3 * 120 / 100);
    }
    for (int i = 0; i < LARGE_COUNT; i++) {
        (void)kv__world_say(&world, "HSET large f%d x", i);
    }
    memset(counts, 0, sizeof counts);
    count_draws("HRANDFIELD large", DRAW_COUNT, counts);
    for (int i = 0; i < LARGE_COUNT; i++) {
        assert_in_range(counts[i], 1, DRAW_COUNT / LARGE_COUNT * 4);
    }
    kv__world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hashes_are_what_the_model_says),
        cmocka_unit_test(test_chance_is_fair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
