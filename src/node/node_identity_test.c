/* SPDX-License-Identifier: Apache-2.0 */
/* When this node makes itself another certificate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/node_internal.h"

struct place {
    char directory[64];
    struct node_data *data;
};

static int set_up(void **state)
{
    static struct place place;
    (void)snprintf(place.directory, sizeof place.directory, "/tmp/tutti-identity-XXXXXX");
    if (mkdtemp(place.directory) == NULL) {
        return -1;
    }
    *state = &place;
    if (node_data_open(&place.data, place.directory, NODE_USE_SERVE, NULL) != 0) {
        return -1;
    }
    /* Old enough for all that it signs. */
    struct tls_pair authority = {0};
    uint64_t made_ms = os_wall_clock_ms() - 100 * TLS_DAY_MS;
    int status = tls_authority_create(&authority, node_data_cluster_id(place.data), made_ms, NULL);
    if (status == 0) {
        status = tls_pair_save(&authority, node_data_path(place.data, NODE_FILE_AUTHORITY), NULL);
    }
    tls_pair_deinit(&authority);
    return status;
}

static int tear_down(void **state)
{
    static const char *const parts[] = {
        "tls/node.pem", "tls/authority.pem", "tls", "lock", "wal", "store", ""};
    struct place *place = *state;
    node_data_close(place->data);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", place->directory, parts[i]);
        if (remove(path) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Put a certificate of that node there that was made at that time, with the authority that is there. */
static void made_for(const struct place *place, const struct tls_pair *authority, uint32_t node_id,
                     uint64_t at_ms)
{
    struct tls_pair pair = {0};
    struct buffer request = {0};
    assert_int_equal(tls_request_create(&pair.key, &request, NULL), 0);
    struct tls_sign_options options = {.authority = authority,
                                       .request = buffer_bytes(&request),
                                       .node_id = node_id,
                                       .now_ms = at_ms};
    assert_int_equal(tls_request_sign(&pair.certificate, &options, NULL), 0);
    assert_int_equal(tls_pair_save(&pair, node_data_path(place->data, NODE_FILE_CERTIFICATE), NULL),
                     0);
    buffer_deinit(&request);
    tls_pair_deinit(&pair);
}

static void made_at(const struct place *place, const struct tls_pair *authority, uint64_t at_ms)
{
    made_for(place, authority, NODE_FOUNDER, at_ms);
}

/* Is a certificate that was made at that time renewed? What there is afterwards must be valid. */
static bool is_renewed(const struct place *place, uint64_t at_ms)
{
    struct node_identity identity;
    assert_int_equal(node_identity_open(&identity, place->data, NULL), 0);
    made_at(place, &identity.authority, at_ms);
    node_identity_close(&identity);
    assert_int_equal(node_identity_open(&identity, place->data, NULL), 0);
    bool is_renewed = false;
    assert_int_equal(node_identity_renew(&identity, place->data, &is_renewed, NULL), 0);
    assert_int_equal(tls_pair_verify(&identity.own, buffer_bytes(&identity.authority.certificate),
                                     os_wall_clock_ms(), NULL),
                     0);
    bool is_again = true;
    assert_int_equal(node_identity_renew(&identity, place->data, &is_again, NULL), 0);
    assert_false(is_again);
    node_identity_close(&identity);
    struct tls_pair saved = {0};
    struct tls_identity read;
    assert_int_equal(
        tls_pair_load(&saved, node_data_path(place->data, NODE_FILE_CERTIFICATE), NULL), 0);
    assert_int_equal(tls_certificate_read(&read, buffer_bytes(&saved.certificate), NULL), 0);
    assert_false(tls_is_renewal_due(&read, os_wall_clock_ms()));
    tls_pair_deinit(&saved);
    return is_renewed;
}

/* Claim: a certificate that is not this node's, or is none, is refused with what to do. */
static void test_one_of_somebody_else(void **state)
{
    const struct place *place = *state;
    struct node_identity identity;
    struct error error = {0};
    assert_int_equal(node_identity_open(&identity, place->data, NULL), 0);
    made_for(place, &identity.authority, NODE_FOUNDER + 1, os_wall_clock_ms());
    struct node_identity of_another;
    assert_int_equal(node_identity_open(&of_another, place->data, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, "node.pem is of node 2 of cluster "));
    assert_non_null(strstr(error.message, "; restore node.conf and tls/ from a copy"));
    struct tls_pair stranger = {0};
    assert_int_equal(tls_authority_create(&stranger, "0123456789abcdef0123456789abcdef",
                                          os_wall_clock_ms(), NULL),
                     0);
    made_at(place, &stranger, os_wall_clock_ms());
    node_identity_close(&identity);
    assert_int_equal(node_identity_open(&identity, place->data, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, "node.pem does not go with its authority: "));
    assert_non_null(strstr(error.message, "; restore node.conf and tls/ from a copy"));
    tls_pair_deinit(&stranger);
    const char *path = node_data_path(place->data, NODE_FILE_CERTIFICATE);
    assert_int_equal(os_file_write(path, BYTES("nonsense"), NULL), 0);
    assert_int_equal(node_identity_open(&identity, place->data, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, "damaged"));
    assert_non_null(strstr(error.message, "; restore node.conf and tls/ from a copy"));
}

/* Claim: a certificate is made anew when it is two thirds through its life, and when its life has not begun
 * because the clock was ahead when it was made; not otherwise. */
static void test_when_it_is_renewed(void **state)
{
    const struct place *place = *state;
    uint64_t now_ms = os_wall_clock_ms();
    assert_false(is_renewed(place, now_ms));
    assert_false(is_renewed(place, now_ms - 59 * TLS_DAY_MS));
    assert_true(is_renewed(place, now_ms - 61 * TLS_DAY_MS));
    assert_false(is_renewed(place, now_ms + TLS_DAY_MS / 2)); /* It is backdated by more. */
    assert_true(is_renewed(place, now_ms + 2 * TLS_DAY_MS));
    assert_true(is_renewed(place, now_ms + 70 * TLS_DAY_MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_when_it_is_renewed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_of_somebody_else, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("node_identity", tests, NULL, NULL);
}
