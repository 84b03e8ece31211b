/* SPDX-License-Identifier: Apache-2.0 */
/* Whom the rows of the cluster call removed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

static void expect_saved(const struct node_cluster *cluster, struct bytes expected)
{
    struct buffer text = {0};
    const char *path = node_data_path(cluster->data, NODE_FILE_ROSTER);
    assert_int_equal(os_file_read(path, 1000, &text, NULL), 0);
    assert_true(bytes_equal(buffer_bytes(&text), expected));
    buffer_deinit(&text);
}

static void set_address(struct node_cluster *cluster, const char *text)
{
    (void)snprintf(cluster->peers[0].address, sizeof cluster->peers[0].address, "%s", text);
}

/* Claim: the file is written when it is to say something else, and not otherwise: it costs a flush. What could
 * not be written is tried again. */
static void test_only_what_is_new_is_saved(void **state)
{
    (void)state;
    char directory[] = "/tmp/node_roster_test.XXXXXX";
    assert_non_null(mkdtemp(directory));
    struct node_cluster *cluster = memory_allocate_zeroed(1, sizeof *cluster);
    assert_int_equal(node_data_open(&cluster->data, directory, NODE_USE_SERVE, NULL), 0);
    const char *path = node_data_path(cluster->data, NODE_FILE_ROSTER);
    node_roster_save(cluster);
    expect_saved(cluster, BYTES("")); /* Nobody else is not the same as nothing known. */
    assert_int_equal(unlink(path), 0);
    cluster->peers[0].id = 2;
    cluster->peer_count = 1;
    set_address(cluster, "127.0.0.1:7000");
    assert_int_equal(mkdir(path, 0700), 0); /* In its way. */
    node_roster_save(cluster);
    assert_int_equal(rmdir(path), 0);
    node_roster_save(cluster);
    expect_saved(cluster, BYTES("2 127.0.0.1:7000\n"));
    assert_int_equal(unlink(path), 0);
    node_roster_save(cluster);
    assert_int_equal(access(path, F_OK), -1); /* Nothing new, nothing written. */
    set_address(cluster, "db1.example.org:7001");
    node_roster_save(cluster);
    expect_saved(cluster, BYTES("2 db1.example.org:7001\n"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    set_address(cluster, "127.0.0.1:7002");
    node_roster_save(cluster);
    assert_int_equal(rmdir(path), 0);
    set_address(cluster, "db1.example.org:7001"); /* As it was when it was last saved. */
    node_roster_save(cluster);
    expect_saved(cluster, BYTES("2 db1.example.org:7001\n"));
    buffer_deinit(&cluster->roster_saved);
    assert_int_equal(unlink(path), 0);
    node_data_close(cluster->data);
    memory_free(cluster);
    char command[64];
    (void)snprintf(command, sizeof command, "rm -r %s", directory);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_removed_stays_so),
        cmocka_unit_test(test_an_old_roster_brings_nobody_back),
        cmocka_unit_test(test_only_what_is_new_is_saved),
    };
    return cmocka_run_group_tests_name("node_roster", tests, NULL, NULL);
}
