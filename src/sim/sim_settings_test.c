/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/sim_settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct nature {
    uint32_t kill_every_us;
    bool does_lie;
    uint64_t capacity_bytes;
    uint32_t clients;
};

static const struct sim__setting settings[] = {
    SIM__SETTING(struct nature, kill_every_us),
    SIM__SETTING(struct nature, does_lie),
    SIM__SETTING(struct nature, capacity_bytes),
    SIM__SETTING(struct nature, clients),
};

static const struct nature drawn = {700, true, 1ull << 40, 3};

static void assert_drawn(const struct nature *nature)
{
    assert_int_equal(nature->kill_every_us, drawn.kill_every_us);
    assert_int_equal(nature->does_lie, drawn.does_lie);
    assert_int_equal(nature->capacity_bytes, drawn.capacity_bytes);
    assert_int_equal(nature->clients, drawn.clients);
}

/* What is named is set, and nothing else. */
static void test_set(void **state)
{
    struct nature nature = drawn;
    assert_int_equal(sim__settings_apply(settings, 4, &nature, NULL, NULL), 0);
    assert_int_equal(sim__settings_apply(settings, 4, &nature, "", NULL), 0);
    assert_drawn(&nature);
    assert_int_equal(sim__settings_apply(settings, 4, &nature,
                                         "does_lie=0,clients=1,capacity_bytes=5000000000", NULL),
                     0);
    assert_int_equal(nature.kill_every_us, 700);
    assert_false(nature.does_lie);
    assert_int_equal(nature.capacity_bytes, 5000000000);
    assert_int_equal(nature.clients, 1);
}

/* What is wrong is said, and nothing is set, not even what stands before it. */
static void test_wrong(void **state)
{
    static const char *const texts[][2] = {
        {"clients=1,kills=0", "there is nothing called kills; --nature lists what there is"},
        {"clients=1,client=0", "there is nothing called client; --nature lists what there is"},
        {"clients=1,clients", "clients needs a number up to 4294967295"},
        {"clients=1,clients=", "clients needs a number up to 4294967295"},
        {"clients=1,clients=-1", "clients needs a number up to 4294967295"},
        {"clients=1,clients=4294967296", "clients needs a number up to 4294967295"},
        {"clients=1,does_lie=2", "does_lie needs a number up to 1"},
        {"clients=1,,does_lie=0", "there is nothing called ; --nature lists what there is"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct nature nature = drawn;
        struct error error = {0};
        assert_int_equal(sim__settings_apply(settings, 4, &nature, texts[i][0], &error), -EINVAL);
        assert_string_equal(error.message, texts[i][1]);
        assert_drawn(&nature);
    }
}

/* What is printed is what is set. */
static void test_print(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    sim__settings_print(settings, 4, &drawn, file);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text,
                        "kill_every_us=700\ndoes_lie=1\ncapacity_bytes=1099511627776\nclients=3\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
