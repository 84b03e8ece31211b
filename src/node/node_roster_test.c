/* SPDX-License-Identifier: Apache-2.0 */
/* Whom the rows of the cluster call removed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "node/node_cluster.h"

/* It stays removed, and only it, until the rows say otherwise. */
static void test_who_is_removed_stays_so(void **state)
{
    (void)state;
    struct node_cluster *cluster = memory_allocate_zeroed(1, sizeof *cluster);
    node_roster_note(cluster, 7, false);
    assert_int_equal(cluster->removed_count, 0);
    for (uint32_t node = 2; node <= 40; node += 2) {
        node_roster_note(cluster, node, true);
        node_roster_note(cluster, node, true);
        node_roster_note(cluster, node + 1, false);
    }
    assert_int_equal(cluster->removed_count, 20);
    for (uint32_t node = 2; node <= 41; node++) {
        assert_int_equal(node_roster_is_removed(cluster, node), node % 2 == 0);
    }
    node_roster_note(cluster, 8, false);
    assert_false(node_roster_is_removed(cluster, 8));
    assert_true(node_roster_is_removed(cluster, 6) && node_roster_is_removed(cluster, 10));
    assert_int_equal(cluster->removed_count, 19);
    memory_free(cluster->removed);
    memory_free(cluster);
}

/* A roster that is older does not bring it back: who is there already, or was removed, is passed over. */
static void test_an_old_roster_brings_nobody_back(void **state)
{
    (void)state;
    struct node_cluster *cluster = memory_allocate_zeroed(1, sizeof *cluster);
    node_roster_note(cluster, 3, true);
    /* Taking it would need the wire, which is not there. */
    node_roster_read(cluster, BYTES("3 127.0.0.1:7000\n"), true);
    assert_int_equal(cluster->peer_count, 0);
    memory_free(cluster->removed);
    memory_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_removed_stays_so),
        cmocka_unit_test(test_an_old_roster_brings_nobody_back),
    };
    return cmocka_run_group_tests_name("node_roster", tests, NULL, NULL);
}
